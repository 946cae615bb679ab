/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deletions for an agent that does not run: RUN_DIR/deleted/CONTAINERID-IFNAME.json with
 * {"containerId","ifname"}, where RUN_DIR is the folder of the agent's socket.  If the disk is
 * full, the file is empty and only its name counts.
 *
 * No deletion is lost while an agent starts or ends: the plugin writes the file before its call,
 * and the agent watches the folder before it reads it.
 */
#ifndef TENDRIL_CNI_SPOOL_H
#define TENDRIL_CNI_SPOOL_H

#include "cni/environ.h"
#include "cni/error.h"

/* Stores the deletion.  *ret_left is false if there is no run directory: then there is no endpoint
 * that an agent could find again. */
int spool_put(const char *socket, const struct cni_environ *env, bool *ret_left,
	      struct cni_error *err);

/* Removes it: the agent has executed it, or the container is being added again. */
void spool_remove(const char *socket, const struct cni_environ *env);

#endif
