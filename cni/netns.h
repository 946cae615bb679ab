/* SPDX-License-Identifier: Apache-2.0 */
/* The pod's network namespace, from CNI_NETNS. */
#ifndef TENDRIL_CNI_NETNS_H
#define TENDRIL_CNI_NETNS_H

#include "cni/error.h"

/* Opens path and checks that it is a network namespace, and not this process' own.  The caller owns
 * the descriptor. */
int netns_open(const char *path, int *ret_fd, struct cni_error *err);

#endif
