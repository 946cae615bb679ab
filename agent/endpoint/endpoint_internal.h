/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the endpoint_*.c files and their tests share: the record of one endpoint, the steps that
 * make it, and the calls between the files.
 */
#ifndef TENDRIL_AGENT_ENDPOINT_ENDPOINT_INTERNAL_H
#define TENDRIL_AGENT_ENDPOINT_ENDPOINT_INTERNAL_H

#include <event2/event.h>

#include "agent/endpoint/endpoint.h"
#include "agent/endpoint/host_device.h"
#include "agent/endpoint/ipam.h"
#include "agent/endpoint/link_worker.h"
#include "datapath/datapath.h"
#include "datapath/maps.h"
#include "lib/cni_code.h"
#include "lib/netlink.h"
#include "lib/netns.h"
#include "lib/reader.h"

#define ENDPOINT_ROUTES_MAX 16
#define POD_NAME_MAX        254
#define HOST_IFNAME_PREFIX  "tdl"
#define NETNS_ID_UNKNOWN    UINT32_MAX
#define MTU_MIN_IPV6        1280
#define LOOSE_RPF           2 /* of rp_filter */

enum endpoint_state {
	ENDPOINT_PENDING,  /* ADD is running; a restart undoes it */
	ENDPOINT_READY,    /* as it should be */
	ENDPOINT_BROKEN,   /* something is missing and could not be repaired */
	ENDPOINT_DELETING, /* disconnected; the link is being deleted */
	ENDPOINT_STATE_COUNT,
};

enum endpoint_dirt {
	DIRT_LINK = 1 << 0, /* only the host's end must be checked */
	DIRT_ALL = 1 << 1,
};

/* One interface of one container: the contents of its state file and, below the line, what is not
 * saved. */
struct endpoint {
	uint16_t slot;
	char host_ifname[IFNAME_MAX];
	enum endpoint_state state;
	bool delegated;   /* the addresses come from another IPAM plugin */
	bool chained;     /* another plugin wired it, and chose host_ifname and addresses */
	int host_ifindex; /* of the host's end, if chained */
	char container_id[CONTAINER_ID_MAX + 1];
	char ifname[IFNAME_MAX];
	char *netns_path;
	struct netns_id netns;
	char namespace[POD_NAME_MAX];
	char name[POD_NAME_MAX];
	char uid[POD_NAME_MAX];
	char network[POD_NAME_MAX]; /* name of the CNI network: a GC is for one network */
	struct labels labels;
	struct ipam_lease addresses[2]; /* at most one of a family */
	size_t address_count;
	struct prefix routes[ENDPOINT_ROUTES_MAX]; /* beside the default routes */
	size_t route_count;
	struct host_port *host_ports; /* that the runtime asked for */
	size_t host_port_count;
	unsigned int mtu;
	uint8_t mac[6];
	uint8_t host_mac[6];
	uint64_t sequence; /* grows with every ADD: IPAM continues after the newest */
	int pod_ifindex;   /* saved if chained */
	/* ---- not saved ---- */
	unsigned int state_version; /* of the file it was read from */
	int bridge_ifindex;         /* if chained: the bridge that the host's end is a port of */
	bool carrier;               /* of the host's end, at the last check */
	bool big_tcp;               /* IPv6 packets of more than 64 KiB leave the pod */
	uint32_t netns_id;          /* of the pod's namespace, as seen from ours */
	int netns_fd;               /* of endpoints_sockdiag_open(); the loop closes it soon */
	unsigned int dirty;   /* enum endpoint_dirt: what must be checked after notifications */
	unsigned int repairs; /* since repairs_since_ns; too many: wait */
	unsigned int looks;   /* the same for checks that find nothing wrong */
	uint64_t repairs_since_ns;
	bool tcx;         /* the link worker was asked to attach it by TCX */
	char broken[200]; /* why, while state is ENDPOINT_BROKEN */
};

struct endpoint_step;

/* Endpoints that wait to be attached by TCX. */
struct tcx_wait {
	uint64_t since_ns; /* CLOCK_MONOTONIC of the first one; 0: there is none */
	uint64_t last_ns;  /* of the last one */
};

struct endpoints {
	struct event_base *base;
	struct datapath *datapath;
	struct store *store;
	struct sync *sync;
	unsigned int mtu; /* of pods; 0: of the default route's device, less mtu_overhead */
	unsigned int mtu_overhead;
	bool big_tcp;
	bool started; /* the endpoints of an earlier agent have been taken over */
	struct netns_id home;
	struct netlink netlink;
	struct ipam *ipam;
	struct host_device *host;
	struct fork_server *fork_server;
	struct link_worker *link_worker; /* NULL: no process could be started */
	struct event *link_worker_event;
	struct event *netns_event; /* closes what endpoints_sockdiag_open() opened */
	struct event *tcx_event;   /* the next endpoint to be attached by TCX */
	struct tcx_wait tcx_wait;
	struct endpoint_watch *watch;
	struct endpoint **slots; /* by slot */
	size_t slot_count;
	size_t slot_next; /* where the search for a free one begins, so that none is reused at once
			   */
	uint64_t sequence;
	const struct endpoint_step
		*steps; /* endpoint_steps; tests use others, as for the next one */
	const struct endpoint_step *chained_steps;
	const char *run_dir;
	char state_dir[300];
	char spool_dir[300];
};

/* ---- endpoint.c ------------------------------------------------------------------------------ */

const char *endpoint_state_name(enum endpoint_state state);

/* Fills error from err. */
int endpoint_fail(struct endpoint_error *error, int code, const char *step,
		  const struct errmsg *err);

struct endpoint *endpoint_new(void);
void endpoint_free(struct endpoint *endpoint);
DEFINE_AUTO(endpoint)

struct endpoint *endpoint_find(const struct endpoints *endpoints, const char *container_id,
			       const char *ifname);
static inline int endpoint_ifindex(const struct endpoint *endpoint)
{
	return endpoint->chained ? endpoint->host_ifindex : ENDPOINT_IFINDEX_BASE + endpoint->slot;
}
/* Whether one of its addresses is IPv6. */
bool endpoint_has_ipv6(const struct endpoint *endpoint);
/* Sets the slot, and the name of the host's end of that slot ("tdl7"). */
void endpoint_set_slot(struct endpoint *endpoint, uint16_t slot);
#define ENDPOINT_TEXT_MAX 600
/* "shop/cart (3f2a.../eth0)": for logs.  Returns buf. */
const char *endpoint_describe(const struct endpoint *endpoint, char buf[ENDPOINT_TEXT_MAX]);

/* Disconnects an endpoint (policy, maps, routes) and starts to delete its link.  The endpoint stays
 * in the table until the link is gone. */
void endpoint_release(struct endpoints *endpoints, struct endpoint *endpoint);
/* Starts a link worker, and gives it all links that wait to be deleted.  If no process can be
 * started, deletes them before it returns; the next deletion tries again to start one. */
int endpoints_link_worker_start(struct endpoints *endpoints, struct errmsg *err);
void endpoints_netns_return(evutil_socket_t fd, short what, void *arg);
/* Makes the link worker delete the link of a disconnected endpoint. */
void endpoint_delete_link(struct endpoints *endpoints, struct endpoint *endpoint);
/* Waits for the deletion of the endpoints for which is_meant() (NULL: all) is true; -EAGAIN: it
 * takes too long. */
int endpoints_wait_deleted(struct endpoints *endpoints,
			   bool (*is_meant)(const struct endpoint *endpoint, const void *arg),
			   const void *arg, struct errmsg *err);

/* ---- endpoint_tcx.c -------------------------------------------------------------------------- */

#define TCX_TAG UINT32_MAX /* of the link worker's answers; others are slots */

/* Called after endpoints were added, or with a new link worker.  Endpoints that are not attached by
 * TCX will be, after a second without an ADD, or at the latest after ten. */
void endpoints_tcx_soon(struct endpoints *endpoints);
/* The link worker has attached one. */
void endpoints_tcx_next(struct endpoints *endpoints);
void endpoints_tcx_step(evutil_socket_t fd, short what, void *arg);
/* Records an ADD.  Returns how long to wait for the first attachment: until there was no ADD for a
 * while, but at most ten seconds in all.  Pure, like the next one. */
uint64_t tcx_wait_note(struct tcx_wait *wait, uint64_t now_ns);
/* How long to wait between two attachments, so that others can use rtnl. */
uint64_t tcx_wait_pause(const struct tcx_wait *wait, uint64_t now_ns);

/* ---- endpoint_request.c ---------------------------------------------------------------------- */

struct endpoint_request {
	struct endpoint *endpoint; /* everything but slot and addresses; owned */
	struct addr ips[2];        /* asked for, from the embedded IPAM */
	size_t ip_count;
	bool has_mac;
};

int endpoint_request_parse(const struct cJSON *json, struct endpoint_request *ret_request,
			   struct errmsg *err);
/* The two names that all calls have. */
void endpoint_names_read(struct reader *reader, const struct json_node *root,
			 const char **ret_container_id, const char **ret_ifname);
struct cJSON *endpoint_result(const struct endpoint *endpoint);

void labels_read(struct reader *reader, const struct json_node *node, struct labels *ret_labels);
void host_ports_read(struct reader *reader, const struct json_node *root,
		     struct endpoint *endpoint);

/* ---- endpoint_state.c ------------------------------------------------------------------------ */

int endpoint_state_save(const struct endpoints *endpoints, const struct endpoint *endpoint,
			struct errmsg *err);
void endpoint_state_remove(const struct endpoints *endpoints, const struct endpoint *endpoint);
/* -ENOSPC: there is no room for the state of another endpoint. */
int endpoint_state_room(const struct endpoints *endpoints, struct errmsg *err);
/* Writes and reads the text of a state file; pure. */
char *endpoint_state_print(const struct endpoint *endpoint);
int endpoint_state_parse(const char *text, size_t len, struct endpoint **ret_endpoint,
			 struct errmsg *err);
/* Loads all files into the table.  A damaged one is renamed to NAME.corrupt and logged.  -EPROTO:
 * one is of another version; then the pods must stay as they are. */
int endpoint_state_load(struct endpoints *endpoints, struct errmsg *err);

/* ---- endpoint_link.c: links in the kernel ---------------------------------------------------- */

/* The host's end in the kernel. */
struct host_link {
	int ifindex;
	int peer_ifindex;
	int netns_id; /* -1: the peer's namespace is not known */
	unsigned int flags;
	unsigned int mtu;
	bool carrier;
	bool big_tcp; /* for IPv6 */
	uint8_t mac[6];
	int master; /* a bridge, as a rule; 0: none */
	char kind[16];
	char name[IFNAME_MAX];
};

int host_link_get(struct netlink *netlink, int ifindex, struct host_link *ret, struct errmsg *err);
/* The same from a link message. */
void host_link_parse(const struct nlmsghdr *header, struct host_link *ret);
int veth_add(struct netlink *netlink, const struct endpoint *endpoint, int netns_fd, bool big_tcp,
	     struct errmsg *err);
int veth_del(struct netlink *netlink, int ifindex, struct errmsg *err); /* 0 also if it is gone */
/* Settings of the host's end that others may change: MAC, loose reverse path filter, no link-local
 * address. */
int veth_configure(struct netlink *netlink, const struct endpoint *endpoint,
		   const char *host_ifname, struct errmsg *err);
/* Renames a link; ignores that Linux before 6.2 does not rename a device that is up. */
void link_rename(struct netlink *netlink, int ifindex, const char *name);
int link_set_up(struct netlink *netlink, int ifindex, struct errmsg *err);

/* The pod's end: its index, MAC and MTU. */
int pod_link_get(const struct endpoint *endpoint, int netns_fd, struct host_link *ret_link,
		 struct errmsg *err);

/* Whether a namespace has this id in ours; the kernel removes the id with the namespace. */
int netns_id_exists(struct netlink *netlink, uint32_t netns_id, bool *ret_exists,
		    struct errmsg *err);

/* The device of the node's route to an address. */
int route_device(struct netlink *netlink, const struct addr *addr, int *ret_ifindex,
		 struct errmsg *err);
/* The MTU of the device of the default route, or 1500. */
unsigned int default_mtu(struct netlink *netlink);

/* All addresses of this node that other machines can use; the caller frees *ret_addresses. */
int host_addresses(struct netlink *netlink, struct addr **ret_addresses, size_t *ret_count,
		   struct errmsg *err);

/* ---- endpoint_pod.c: inside the pod ---------------------------------------------------------- */

/* Configures addresses, routes and neighbours inside the pod, and sets the link up; only for IPv4
 * if the pod's end has no IPv6.  What exists already stays. */
int pod_configure(const struct endpoint *endpoint, int netns_fd, struct errmsg *err);
/* Waits a moment until the pod's end passes packets.  The kernel drops packets for a short time
 * after the host's end is up, and TCP would repeat a SYN only after a second. */
int pod_link_settle(const struct endpoint *endpoint, int netns_fd, struct errmsg *err);
/* Compares the inside of the pod.  0: nothing differs; -EPROTO: err has the difference.  Only for
 * IPv4 if the MTU is too small for IPv6. */
int pod_compare(const struct endpoint *endpoint, int netns_fd, struct errmsg *err);

/* ---- endpoint_steps.c ------------------------------------------------------------------------ */

/* One ADD that is running. */
struct endpoint_add {
	struct endpoints *endpoints;
	struct endpoint *endpoint; /* in the table after the first step */
	const struct endpoint_request *request;
	int netns_fd;
	int cni_code; /* of a failure; CNI_KERNEL_FAILED if no step sets another */
};

struct endpoint_step {
	const char *name; /* completes "failed to" */
	int (*run)(struct endpoint_add *add, struct errmsg *err);
	void (*undo)(struct endpoint_add *add); /* NULL: an earlier step's undo covers it */
};

extern const struct endpoint_step endpoint_steps[];
extern const size_t endpoint_step_count;

/* Runs the steps; on failure undoes those that ran, in reverse order. */
int endpoint_steps_run(struct endpoint_add *add, struct endpoint_error *error);

/* Writes the entry in endpoint_map.  The compiler's fields stay as they are. */
int endpoint_publish(struct endpoints *endpoints, const struct endpoint *endpoint,
		     struct errmsg *err);
/* Finds a free slot. */
int endpoint_slot_find(struct endpoints *endpoints, uint16_t *ret_slot, struct errmsg *err);
/* Refuses addresses of the node, and of other endpoints. */
int endpoint_addresses_check(const struct endpoint_add *add, struct errmsg *err);
/* Steps of both tables, endpoint_steps and chained_steps. */
int step_note_pending(struct endpoint_add *add, struct errmsg *err);
void step_forget(struct endpoint_add *add);
int step_policy_enforce(struct endpoint_add *add, struct errmsg *err);
void step_policy_forget(struct endpoint_add *add);
int step_note_ready(struct endpoint_add *add, struct errmsg *err);
/* Adds the map entry and the store entry of an endpoint, and its policy; after a failure it has
 * none of them. */
int endpoint_register(struct endpoints *endpoints, const struct endpoint *endpoint,
		      struct errmsg *err);
void endpoint_unregister(struct endpoints *endpoints, const struct endpoint *endpoint);
/* sync_policies(), unless the agent is still reading its sources. */
int endpoints_sync(struct endpoints *endpoints, struct errmsg *err);

/* ---- endpoint_chained.c: behind another plugin ----------------------------------------------- */

extern const struct endpoint_step chained_steps[];
extern const size_t chained_step_count;

/* From now on packets of its device belong to no endpoint: they are dropped while the program is
 * attached. */
void chained_close(struct endpoints *endpoints, const struct endpoint *endpoint);
/* Removes the entries of chained_map that lead to no endpoint. */
void chained_prune(struct endpoints *endpoints);
/* Whether the link is the host's end that ADD found. */
bool chained_is_same(const struct endpoint *endpoint, const struct host_link *link);
int chained_compare(struct endpoints *endpoints, const struct endpoint *endpoint,
		    struct errmsg *err);
/* Accepts changes of the other plugin, and repairs what is ours. */
int chained_repair(struct endpoints *endpoints, struct endpoint *endpoint,
		   const struct host_link *link, struct errmsg *err);

/* ---- endpoint_repair.c ----------------------------------------------------------------------- */

/* Compares an endpoint with the kernel and repairs what is missing; releases it if its namespace is
 * gone; marks it broken if neither works.  Returns true if it must be checked again later: somebody
 * undoes repairs as fast as they are made, or keeps changing what is not ours. */
bool endpoint_reconcile(struct endpoints *endpoints, struct endpoint *endpoint);
/* Reads the kernel's numbers of the pod's side, which are not saved. */
int endpoint_adopt_link(struct endpoint *endpoint, const struct host_link *link,
			struct errmsg *err);
/* Writes the endpoint's map entries again. */
int entries_repair(struct endpoints *endpoints, const struct endpoint *endpoint,
		   struct errmsg *err);
/* Logs that something was repaired. */
void log_repair(const struct endpoint *endpoint, const char *what);
/* Repairs HOST_DEVICE and its program. */
int host_repair(struct endpoints *endpoints, struct errmsg *err);
/* CHECK: the first difference, -EPROTO with a text. */
int endpoint_compare(struct endpoints *endpoints, const struct endpoint *endpoint, int netns_fd,
		     struct errmsg *err);
/* Reads the node's own addresses.  If they have changed, writes them to the store and the maps. */
int host_addresses_refresh(struct endpoints *endpoints, struct errmsg *err);

/* ---- endpoint_watch.c ------------------------------------------------------------------------ */

struct endpoint_watch;

/* Listens to netlink in the agent's namespace and to the spool folder. */
int endpoint_watch_new(struct endpoints *endpoints, struct endpoint_watch **ret_watch,
		       struct errmsg *err);
void endpoint_watch_free(struct endpoint_watch *watch);
/* Makes the loop check and repair what may have changed. */
void endpoint_watch_settle(struct endpoint_watch *watch);

/* ---- endpoint_spool.c ------------------------------------------------------------------------ */

/* Executes the DELs that the plugin stored in RUN_DIR/deleted while no agent ran. */
void spool_consume(struct endpoints *endpoints);

/* ---- host_netfilter.c ---- */

/* Calls found() for each chain of the forward hook, in the families of the pods, whose policy is
 * drop.  A chain without rules drops everything. */
typedef void netfilter_found(const char *chain, bool has_rules, void *arg);
struct leftovers;
/* Every chain that is met on the way goes to leftovers_chain(). */
void netfilter_check(const struct endpoints *endpoints, netfilter_found *found, void *arg,
		     struct leftovers *leftovers);

/* Whether some chain that forwarded packets pass has rules, or drops what has none: its name. */
bool netfilter_forwards(char *ret_chain, size_t size);

/* ---- host_leftovers.c ---- */

struct leftovers {
	endpoints_problem *found;
	void *arg;
	bool expected; /* another plugin's pods are here: it is all in use */
	uint32_t chains_seen;
	bool table_seen;
};

/* Reports the interfaces of other pod networks; then chains may be shown to it. */
void leftovers_begin(struct endpoints *endpoints, endpoints_problem *found, void *arg,
		     struct leftovers *ret);
void leftovers_chain(struct leftovers *leftovers, const char *tool, const char *table,
		     const char *chain);

#endif
