/* SPDX-License-Identifier: Apache-2.0 */
/* Network devices that the agent has made, by name and the kernel's name of their kind ("vxlan").
 */
#ifndef TENDRIL_AGENT_NODES_LINK_H
#define TENDRIL_AGENT_NODES_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/netlink.h"

struct link {
	bool is_of_kind; /* false: somebody else has made it */
	uint32_t ifindex;
};

/* -ENODEV: there is none. */
int link_find(struct netlink *netlink, const char *name, const char *kind, struct link *ret,
	      struct errmsg *err);

/* Fine if there is none, or one of that name that somebody else has made. */
int link_delete(struct netlink *netlink, const char *name, const char *kind, struct errmsg *err);

#endif
