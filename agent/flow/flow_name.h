/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of the ends of flows: who has an address at the moment at which a flow is reported.  Flows
 * share a name as long as nothing of it changes, and keep it when the pod is gone.
 */
#ifndef TENDRIL_AGENT_FLOW_FLOW_NAME_H
#define TENDRIL_AGENT_FLOW_FLOW_NAME_H

#include <stdint.h>

#include "lib/addr.h"

struct datapath;
struct endpoints;
struct store;

enum flow_name_kind { NAME_POD, NAME_SERVICE };

struct flow_name {
	uint32_t refs;
	enum flow_name_kind kind;
	const char *namespace; /* all of them are in one piece of memory behind this */
	const char *name;
	const char *workload;      /* that owns the pod, or "" */
	const char *workload_kind; /* "Deployment", or "" */
	const char *labels;        /* "key=value", each with a NUL; an empty one ends them */
	uint32_t size;             /* in bytes, of all */
};

/* One end of a flow.  name is NULL where no pod and no service has the address. */
struct flow_who {
	struct flow_name *name; /* held: flow_name_drop() */
	uint32_t identity;
	uint16_t slot; /* of the endpoint of this node; 0: none */
};

struct flow_names;

struct flow_names *flow_names_new(struct datapath *datapath, const struct endpoints *endpoints,
				  const struct store *store);
void flow_names_free(struct flow_names *names); /* once nobody holds a name */

/* The pod in whose namespace a socket is, with this address.  A pod that was deleted has its name
 * as long as it is not forgotten for others. */
struct flow_who flow_names_socket(struct flow_names *names, uint16_t slot, uint64_t netns_cookie,
				  const struct addr *addr);
/* The pod of this node in a slot, as the datapath knows the sender of a packet, whatever the
 * address. */
struct flow_who flow_names_slot(struct flow_names *names, uint16_t slot, const struct addr *addr);
/* The owner of an address, if it was that already at this time (CLOCK_MONOTONIC): else whoever it
 * was then is not known. */
struct flow_who flow_names_addr(struct flow_names *names, const struct addr *addr,
				uint64_t since_ns);
/* The address is about to leave its owner. */
void flow_names_leave(struct flow_names *names, const struct addr *addr);
void flow_name_drop(struct flow_names *names, struct flow_name *name); /* NULL is fine */

#endif
