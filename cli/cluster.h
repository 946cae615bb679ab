/* SPDX-License-Identifier: Apache-2.0 */
/* The objects of a Kubernetes API server, in place of a file.  tendril-kube reads them, because it
 * has no privileges; this process may be root. */
#ifndef TENDRIL_CLI_CLUSTER_H
#define TENDRIL_CLI_CLUSTER_H

#include <stdbool.h>

#include "cli/command.h"

#define CLUSTER_PREFIX "kubeconfig:"

/* Whether the name of a file, "kubeconfig:PATH", stands for a cluster's objects. */
bool cluster_is_named(const char *path);

/* Starts the program; its output, a List, is read from *ret_fd. */
int cluster_open(const char *path, int *ret_fd, int *ret_pid, struct errmsg *err);
/* Called after the last byte.  On failure the program has printed the reason. */
int cluster_close(int pid, struct errmsg *err);

/* Turns --kubeconfig, or -A without it, into a file to read; the name is in buf. */
int cluster_argument(struct arguments *args, char *buf, size_t size, struct errmsg *err);

#endif
