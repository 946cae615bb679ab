/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints: the interfaces this node wired.  Keyed by (container id, interface name), never by
 * address.  Creates and removes what belongs to one (slot, addresses, veth pair, routes, map
 * entries, program link, state file) as steps with undo; restores and repairs it after a restart
 * or when somebody else removes a part.
 */
#ifndef TENDRIL_AGENT_ENDPOINT_ENDPOINT_H
#define TENDRIL_AGENT_ENDPOINT_ENDPOINT_H

#include "agent/agent.h"

struct cJSON;

#define IFNAME_MAX       16
#define CONTAINER_ID_MAX 128

/* What a CNI call failed with: the code for the plugin, the step that failed. */
struct endpoint_error {
	int cni_code;
	const char *step;
	struct errmsg text;
};

struct endpoint_info { /* read-only view of one endpoint */
	uint16_t slot;
	const char *container_id;
	const char *ifname;
	const char *namespace;
	const char *name;
	const char *uid;
	const char *host_ifname;
	int host_ifindex;
	const char *state;  /* "pending", "ready", "broken", "deleting" */
	const char *reason; /* of "broken", else "" */
	uint64_t netns_cookie;
	struct addr addresses[2];
	size_t address_count;
	uint8_t mac[6];
	const struct labels *labels;
};

/* Sets up HOST_DEVICE, gateway addresses, pod routes and forwarding; loads the endpoints saved in
 * RUN_DIR/endpoints/ and reconciles them with links and maps; watches netlink. */
int endpoints_new(struct agent *agent, struct endpoints **ret, struct errmsg *err);
void endpoints_free(struct endpoints *endpoints); /* leaves the node as it is */
/* Removes every trace that RUN_DIR and the pin directory speak of, also of dead agents. */
int endpoints_cleanup(const struct config *config, struct errmsg *err);

/* The CNI calls: JSON as in API.md.  netns_fd is borrowed.  The result is owned by the caller. */
int endpoints_add(struct endpoints *endpoints, const struct cJSON *request, int netns_fd,
		  struct cJSON **ret_result, struct endpoint_error *err);
int endpoints_check(struct endpoints *endpoints, const struct cJSON *request, int netns_fd,
		    struct endpoint_error *err);
int endpoints_del(struct endpoints *endpoints, const struct cJSON *request,
		  struct endpoint_error *err);
int endpoints_gc(struct endpoints *endpoints, const struct cJSON *request,
		 struct cJSON **ret_result, struct endpoint_error *err);
int endpoints_cni_status(struct endpoints *endpoints, struct endpoint_error *err);

/* Walks the endpoints by slot: pass 0 to begin; false when there are no more. */
bool endpoints_next(const struct endpoints *endpoints, uint16_t after_slot,
		    struct endpoint_info *ret);
bool endpoints_by_slot(const struct endpoints *endpoints, uint16_t slot, struct endpoint_info *ret);
/* A descriptor of the pod's network namespace, for socket work inside it; borrowed, -1: gone. */
int endpoints_netns_fd(const struct endpoints *endpoints, uint16_t slot);

#endif
