/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether packets between pods and uplinks bypass the host's stack (NODE_BYPASS).  The datapath
 * then routes them itself, which is faster, and netfilter does not see them.
 */
#ifndef TENDRIL_AGENT_UPLINK_HOST_ROUTING_H
#define TENDRIL_AGENT_UPLINK_HOST_ROUTING_H

#include <event2/event.h>

#include "datapath/datapath.h"
#include "lib/errmsg.h"

enum host_routing_mode {
	HOST_ROUTING_AUTO, /* as BPF, as long as nothing of the node has to see the packets */
	HOST_ROUTING_BPF,
	HOST_ROUTING_LEGACY, /* all by the host's stack */
};

struct uplinks;
struct host_routing;

/* uplinks: borrowed.  Follows what others configure. */
int host_routing_new(struct event_base *base, struct datapath *datapath,
		     const struct uplinks *uplinks, enum host_routing_mode mode,
		     struct host_routing **ret, struct errmsg *err);
void host_routing_free(struct host_routing *routing); /* NULL is fine */

/* Whether packets bypass the host's stack now.  *ret_why: a sentence, "" where nothing is to say.
 */
bool host_routing_bypasses(const struct host_routing *routing, const char **ret_why);

#endif
