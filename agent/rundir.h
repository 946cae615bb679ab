/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only one agent may use: its run directory, its network namespace, and the directory of its
 * pins.
 */
#ifndef TENDRIL_AGENT_RUNDIR_H
#define TENDRIL_AGENT_RUNDIR_H

#include "agent/config.h"

/* Locks until they are closed; the kernel releases them when the process ends. */
struct run_locks {
	int dir_fd;   /* RUN_DIR/lock */
	int netns_fd; /* a name that is unique in the network namespace */
	int pins_fd;  /* the directory of the pins */
};
#define RUN_LOCKS_INIT                                      \
	{                                                   \
		.dir_fd = -1, .netns_fd = -1, .pins_fd = -1 \
	}

/* Makes RUN_DIR (0700) and takes the first two locks.  -EBUSY: err says who holds one. */
int run_locks_take(const struct config *config, struct run_locks *ret_locks, struct errmsg *err);
void run_locks_release(struct run_locks *locks);

/* Makes sure that config->bpffs is a directory on a bpffs; mounts one if there is none. */
int run_bpffs_prepare(const struct config *config, struct errmsg *err);

/* Makes /proc/sys/net writable if it is not, as in a container; only for this container. */
int run_sysctls_prepare(struct errmsg *err);

/* For a container that prepares a node: mounts a bpffs and, in RUN_DIR/cgroup, a cgroup2 if there
 * is none.  -EINVAL if the node would not see such a mount. */
int run_mounts_make(const struct config *config, struct errmsg *err);

/* Takes the lock on config->bpffs, which must exist (-ENOENT): an agent in another network
 * namespace may be configured with the same one. */
int run_pins_lock(const struct config *config, struct run_locks *locks, struct errmsg *err);

/* Removes RUN_DIR and what the agent keeps there. */
int run_dir_remove(const struct config *config, struct errmsg *err);

#endif
