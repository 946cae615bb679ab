/* SPDX-License-Identifier: Apache-2.0 */
/* Continues after a failure, to remove as much as possible. */
#define LOG_MODULE "main"
#include "agent/cleanup.h"

#include <errno.h>

#include "agent/children.h"
#include "agent/cni_files.h"
#include "agent/config.h"
#include "agent/endpoint/endpoint.h"
#include "agent/nodes/nodes.h"
#include "agent/objects/objects.h"
#include "agent/privilege.h"
#include "agent/rundir.h"
#include "agent/uplink/qdisc.h"
#include "datapath/datapath.h"
#include "lib/fork_server.h"
#include "lib/log.h"

int cleanup(const struct config *config)
{
	auto_(fork_server) struct fork_server *server = NULL;
	struct run_locks locks = RUN_LOCKS_INIT;
	struct errmsg err = {};
	int failed = 0;
	int ret = privilege_check(&err);

	if (!ret)
		ret = children_start(&server, &err);
	if (!ret)
		ret = run_locks_take(config, &locks, &err);
	if (!ret)
		ret = run_pins_lock(config, &locks, &err);
	if (ret && ret != -ENOENT) { /* no pins: no lock */
		log_error("cleanup: %s", err.text);
		run_locks_release(&locks);
		return 1;
	}
	if (endpoints_cleanup(config->run_dir, server, &err) && ++failed)
		log_error("cleanup: %s", err.text);
	if (datapath_cleanup(config->bpffs, &err) && ++failed)
		log_error("cleanup: %s", err.text);
	if (nodes_cleanup(&err) && ++failed)
		log_error("cleanup: %s", err.text);
	if (qdiscs_cleanup(&err) && ++failed)
		log_error("cleanup: %s", err.text);
	objects_cleanup(config->run_dir);
	if (run_dir_remove(config, &err) && ++failed)
		log_error("cleanup: %s", err.text);
	if (cni_files_remove(config, &err) && ++failed)
		log_error("cleanup: %s", err.text);
	run_locks_release(&locks);
	return failed;
}
