/* SPDX-License-Identifier: Apache-2.0 */
/* The pod's network namespace, as CNI_NETNS names it. */
#ifndef TENDRIL_CNI_NETNS_H
#define TENDRIL_CNI_NETNS_H

#include "cni/error.h"

/* Opens path and proves that it is a network namespace, and not the one we run in.  The caller
 * owns the descriptor. */
int netns_open(const char *path, int *ret_fd, struct cni_error *err);

#endif
