/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deletions left for an agent that is not running: RUN_DIR/deleted/CONTAINERID-IFNAME.json with
 * {"containerId","ifname"}, where RUN_DIR is the folder of the agent's socket.  Where the disk is
 * full the file is empty, and its name counts.
 *
 * No deletion is lost to an agent that is starting or dying: the plugin writes the file first and
 * calls second; the agent watches the folder before it reads it.
 */
#ifndef TENDRIL_CNI_SPOOL_H
#define TENDRIL_CNI_SPOOL_H

#include "cni/environ.h"
#include "cni/error.h"

/* Leaves the deletion.  ret_left is false if there is no run directory: then no agent has wired
 * anything that it could find again. */
int spool_put(const char *socket, const struct cni_environ *env, bool *ret_left,
	      struct cni_error *err);

/* Takes it back: the agent has done it, or the container is being added anew. */
void spool_remove(const char *socket, const struct cni_environ *env);

#endif
