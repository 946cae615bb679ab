/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints: the interfaces that this node wired.  The key is (container id, interface name), never
 * the address.  An endpoint is a slot, addresses, a veth pair, routes, map entries, programs and a
 * state file.  They are made in steps with undo, restored after a restart, and repaired when
 * somebody else removes one of them.
 */
#ifndef TENDRIL_AGENT_ENDPOINT_ENDPOINT_H
#define TENDRIL_AGENT_ENDPOINT_ENDPOINT_H

#include "lib/inet.h"
#include "policy/objects/store.h"

struct cJSON;
struct datapath;
struct endpoints;
struct event_base;
struct netlink;
struct sync;

#define IFNAME_MAX       16
#define CONTAINER_ID_MAX 128

/* The error of a CNI call: the code for the plugin, and the step that failed. */
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

struct endpoints_options { /* pointers are borrowed; the first five outlive the endpoints */
	struct event_base *base;
	struct fork_server *fork_server;
	struct datapath *datapath;
	struct store *store;
	struct sync *sync;
	const char *run_dir;
	const struct prefix *pod_cidrs;
	size_t pod_cidr_count;
	uint32_t max;     /* 0: as struct datapath_limits says */
	unsigned int mtu; /* of pods; 0: of the default route's device, less mtu_overhead */
	unsigned int mtu_overhead;
	bool big_tcp;
};

/* Sets up HOST_DEVICE, gateway addresses, pod routes and forwarding; loads the endpoints saved in
 * RUN_DIR/endpoints/ and reconciles them with links and maps; watches netlink. */
int endpoints_new(const struct endpoints_options *options, struct endpoints **ret_endpoints,
		  struct errmsg *err);
/* Sets the ranges of pod addresses, if none were known at the start. */
int endpoints_set_pod_cidrs(struct endpoints *endpoints, const struct prefix *cidrs, size_t count,
			    struct errmsg *err);
/* What a pod that is added now gets. */
unsigned int endpoints_mtu(struct endpoints *endpoints);
void endpoints_free(struct endpoints *endpoints); /* leaves the node as it is */
/* Removes everything that RUN_DIR and the pin directory tell of, also of earlier agents. */
int endpoints_cleanup(const char *run_dir, struct fork_server *server, struct errmsg *err);

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

enum problem_scope {
	PROBLEM_OF_NODE, /* CNI STATUS reports it, too */
	PROBLEM_OF_POD,
	PROBLEM_POSSIBLE, /* the agent does not know whether it is one */
};
typedef void endpoints_problem(const char *text, enum problem_scope scope, void *arg);

/* Calls found() with a sentence for each problem of the node that prevents that pods are added or
 * reached, and that the agent may not repair. */
void endpoints_problems(struct endpoints *endpoints, endpoints_problem *found, void *arg);

/* Makes the loop check HOST_DEVICE and its program, and repair what is missing. */
void endpoints_repair_node(struct endpoints *endpoints);

/* Walks the endpoints by slot: pass 0 to begin; false when there are no more. */
bool endpoints_next(const struct endpoints *endpoints, uint16_t after_slot,
		    struct endpoint_info *ret);
bool endpoints_by_slot(const struct endpoints *endpoints, uint16_t slot, struct endpoint_info *ret);
/* The first endpoint of a pod, which may have several interfaces. */
bool endpoints_by_pod(const struct endpoints *endpoints, const char *namespace, const char *name,
		      struct endpoint_info *ret);
/* "namespace/name" of the pod at one end of a flow: the endpoint in the slot (0: none), else the
 * Pod object with the address; a JSON null if there is neither. */
struct cJSON *endpoints_pod_json(const struct endpoints *endpoints, uint16_t slot,
				 const struct addr *addr);
/* The same if only the address is known. */
struct cJSON *endpoints_owner_json(const struct endpoints *endpoints, const struct addr *addr);
/* Opens a socket of sockdiag.h in the pod's network namespace.  -ENOENT: it is gone. */
int endpoints_sockdiag_open(const struct endpoints *endpoints, uint16_t slot,
			    struct netlink *netlink, struct errmsg *err);

/* Whether another plugin has wired a pod here: then pods have that plugin's addresses. */
bool endpoints_any_chained(const struct endpoints *endpoints);
/* Whether the address is for pods of this node. */
bool endpoints_own_range(const struct endpoints *endpoints, const struct addr *addr);

#endif
