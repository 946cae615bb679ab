/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uplinks: the devices by which clients outside reach the services of this node, and by which pods
 * reach the outside.
 */
#ifndef TENDRIL_AGENT_UPLINK_UPLINK_H
#define TENDRIL_AGENT_UPLINK_UPLINK_H

#include <event2/event.h>
#include <net/if.h>

#include "datapath/datapath.h"
#include "lib/errmsg.h"

#define UPLINKS_MAX 16

enum uplinks_xdp { /* as the setting's words */
		   UPLINKS_XDP_OFF,
		   UPLINKS_XDP_AUTO,   /* by drivers that have it */
		   UPLINKS_XDP_NATIVE, /* by drivers; one that has it not is a problem */
		   UPLINKS_XDP_GENERIC,
};

struct uplinks_options {
	struct event_base *base;
	struct datapath *datapath;
	const struct datapath_options *load; /* those of datapath_open(); borrowed */
	/* Names of devices, borrowed; none: each Ethernet device with an address of the node. */
	const char (*names)[IFNAMSIZ];
	size_t name_count;
	bool masquerade; /* what pods send out of the cluster */
	bool tunnel;     /* what pods send to other nodes' own addresses takes it, or WireGuard */
	enum uplinks_xdp xdp;
	bool bypass; /* between pods and other nodes they take the place of the host's stack */
};

struct uplinks;

/* Attaches the programs if they are needed, and follows devices and addresses. */
int uplinks_new(const struct uplinks_options *options, struct uplinks **ret, struct errmsg *err);
void uplinks_free(struct uplinks *uplinks);

/* Checks the devices again, at once: services for clients outside are about to be written. */
void uplinks_refresh(struct uplinks *uplinks);

/* From now on packets of pods have departure times: makes the loop give the devices fq. */
void uplinks_pace(struct uplinks *uplinks);
/* Why packets of limited pods are dropped rather than held back, a sentence; or NULL. */
const char *uplinks_unpaced(const struct uplinks *uplinks);

/* Why the outside is not reached, a sentence; or NULL. */
const char *uplinks_problem(const struct uplinks *uplinks);

/* Names of the devices that have the programs now; at most UPLINKS_MAX.  Returns how many. */
size_t uplinks_attached(const struct uplinks *uplinks, char ret_names[UPLINKS_MAX][IFNAMSIZ]);

/* What an uplink has of XDP, "native", "generic" or "off", by the same index; *ret_why: why it is
 * off although it is wanted, or "". */
const char *uplinks_xdp(const struct uplinks *uplinks, size_t index, const char **ret_why);

#endif
