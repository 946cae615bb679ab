/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place for a datapath test: the process gets network and mount namespaces of its own, with a
 * fresh bpffs on /sys/fs/bpf and the cgroup tree on /sys/fs/cgroup, and a cgroup of its own there.
 * All of it but the cgroup vanishes with the process; a cgroup that a killed test left behind is
 * removed by the next one.
 */
#ifndef TENDRIL_TESTS_HARNESS_SCRATCH_H
#define TENDRIL_TESTS_HARNESS_SCRATCH_H

#include <stdint.h>

#include "datapath/datapath.h"
#include "lib/errmsg.h"

#define SCRATCH_PIN_DIR "/sys/fs/bpf/tendril"

/* Enters a mount namespace of the process's own, with a fresh bpffs: the machine need have none. */
int scratch_bpffs(struct errmsg *err);
/* Enters both namespaces, with "lo" up.  The process is in scratch_cgroup() from then on. */
int scratch_init(struct errmsg *err);
void scratch_done(void); /* removes the pins and the cgroup; the namespaces stay */

/* Removes a directory and all in it. */
int scratch_dir_remove(const char *path);

/* The cgroup's directory. */
const char *scratch_cgroup(void);

/* Another cgroup below the test's own; made if missing, removed by scratch_done(). */
int scratch_cgroup_child(const char *name, char ret_path[64], struct errmsg *err);

/* Options with the private pin directory and nothing attached to a cgroup. */
struct datapath_options scratch_options(void);

/* The cookie of the network namespace that the process is in. */
uint64_t scratch_netns_cookie(void);

/* Makes a veth pair "NAME" and "NAME-peer", both up; the first with this index, 0: any. */
int scratch_veth(const char *name, int ifindex, struct errmsg *err);
int scratch_link_del(const char *name, struct errmsg *err);

#endif
