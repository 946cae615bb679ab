/* SPDX-License-Identifier: Apache-2.0 */
/* The TCP sockets that pods of this node have now, as the kernel lists them. */
#ifndef TENDRIL_AGENT_MONITOR_SOCKETS_LIST_H
#define TENDRIL_AGENT_MONITOR_SOCKETS_LIST_H

#include <stdint.h>

struct buffer;
struct datapath;
struct endpoints;

#define SOCKETS_LIST_MAX 16384

/* Appends the JSON object {"pods": [{"namespace", "name", "sockets": [...]}], "leftOut": N}.
 * slot: of the only pod that is asked; 0: of all.  At most SOCKETS_LIST_MAX sockets are listed; the
 * others are counted as left out.  In a task, others have their turn between two pods. */
void sockets_list(struct datapath *datapath, const struct endpoints *endpoints, uint16_t slot,
		  struct buffer *out);

#endif
