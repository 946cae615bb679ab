/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "children"
#include "agent/children.h"

#include <stdlib.h>

#include "agent/accel/accel_tester.h"
#include "agent/endpoint/link_worker.h"
#include "agent/flow/dns_reader.h"
#include "agent/privilege.h"
#include "agent/syscalls.h"
#include "lib/auto.h"
#include "lib/child.h"
#include "lib/fork_server.h"
#include "lib/log.h"

static const struct fork_server_kind kinds[] = {
	{ LINK_WORKER_NAME, link_worker_run },
	{ ACCEL_TESTER_NAME, accel_tester_run },
	{ DNS_READER_NAME, dns_reader_run },
};

int children_start(struct fork_server **ret, struct errmsg *err)
{
	return fork_server_new("/proc/self/exe", kinds, ARRAY_SIZE(kinds), ret, err);
}

int children_serve(void)
{
	int fd = CHILD_FD_FIRST;
	struct errmsg err = {};

	if (child_settle("tendril-fork", &fd, 1) < 0 || privilege_drop(&err) ||
	    syscalls_restrict(&err)) {
		log_error("%s", err.text);
		return EXIT_FAILURE;
	}
	fork_server_serve(kinds, ARRAY_SIZE(kinds));
}
