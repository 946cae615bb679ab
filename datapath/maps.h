/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed access to the maps: the only user of bpf_map_*_elem().  All functions return 0 or a
 * negative errno (-E2BIG, -ENOSPC: the map is full); _del returns 0 also if there is no such entry.
 */
#ifndef TENDRIL_DATAPATH_MAPS_H
#define TENDRIL_DATAPATH_MAPS_H

#include <stddef.h>
#include <stdint.h>

#include "datapath/datapath.h"

/* The node's state, mapped shared: bump revision with maps_bump_revision(). */
struct node_state *maps_node(struct datapath *datapath);
/* Makes the programs check policy again with the next packet of every flow.  Call it after the maps
 * are written. */
void maps_bump_revision(struct datapath *datapath);

/* Writes the slot and its namespace's entry in netns_map.  flags and policy_id change in one store;
 * translated belongs to the programs and stays as it is. */
int endpoint_map_set(struct datapath *datapath, uint16_t slot,
		     const struct endpoint_entry *endpoint);
int endpoint_map_get(struct datapath *datapath, uint16_t slot, struct endpoint_entry *ret);
int endpoint_map_del(struct datapath *datapath, uint16_t slot); /* zeroes it and its statistics */
/* What counts while the endpoint's flags say so: bytes a second by enum direction, 0: no limit. */
int endpoint_map_limit(struct datapath *datapath, uint16_t slot, const uint64_t bytes_per_s[2]);
/* Device of an endpoint that another plugin wired, and its slot. */
int chained_map_set(struct datapath *datapath, int ifindex, uint16_t slot);
int chained_map_get(struct datapath *datapath, int ifindex, uint16_t *ret_slot);
int chained_map_del(struct datapath *datapath, int ifindex);
/* Removes the entries for which is_kept() is false. */
void chained_map_prune(struct datapath *datapath,
		       bool (*is_kept)(int ifindex, uint16_t slot, void *arg), void *arg);
/* The sums over all CPUs. */
int endpoint_stats_get(struct datapath *datapath, uint16_t slot, struct endpoint_stats *ret);

/* The node's addresses on a device, for masquerade. */
int uplink_map_set(struct datapath *datapath, int ifindex, const struct uplink_entry *entry);
/* Removes the entries of other devices than these. */
void uplink_map_keep(struct datapath *datapath, const int *ifindexes, size_t count);

int ipcache_map_set(struct datapath *datapath, const struct addr *addr,
		    const struct ipcache_entry *entry);
int ipcache_map_get(struct datapath *datapath, const struct addr *addr, struct ipcache_entry *ret);

int backend_map_get(struct datapath *datapath, const struct backend_key *key,
		    struct backend_entry *ret);

int nat_map_get(struct datapath *datapath, const struct flow *key, struct nat_entry *ret);

/* Adds a flow unless it is there (-EEXIST). */
int flow_map_add(struct datapath *datapath, const struct flow_key *key,
		 const struct flow_record *record);
int flow_map_del(struct datapath *datapath, const struct flow_key *key);

/* Calls each() for the sockets that are accelerated.  If each() returns non-zero, the walk ends and
 * returns that.  Sockets come and go meanwhile: one may be missed or seen twice. */
int accel_map_foreach(struct datapath *datapath,
		      int (*each)(const struct accel_key *key, uint64_t cookie, void *arg),
		      void *arg);

/* Calls each() for the sockets that are connected to a backend, if the socket layer serves; a
 * non-zero return ends the walk and is returned.  Sockets come and go meanwhile, and what is told
 * of one may be half written: compare with what the kernel says. */
int service_sockets_foreach(struct datapath *datapath,
			    int (*each)(const struct service_socket *socket, void *arg), void *arg);
/* The backend of this translation (a request) is gone: its client is told with the next packet. */
int nat_map_end(struct datapath *datapath, const struct flow *key, const struct nat_entry *entry);

/* The maps that maps_foreach(), maps_usage() and others take. */
enum map_id {
	MAP_IPCACHE,
	MAP_CIDR,
	MAP_POLICY,
	MAP_PORT,
	MAP_SERVICE,
	MAP_BACKEND,
	MAP_SOURCE_RANGE,
	MAP_CLUSTER,
	MAP_CT,
	MAP_NAT,
	MAP_FLOW,
	MAP_COUNT,
};

/* Calls each(key, value, arg) for all entries, which are read in batches.  If each() returns
 * non-zero, the walk ends and returns that.  each() may delete its entry. */
int maps_foreach(struct datapath *datapath, enum map_id map,
		 int (*each)(const void *key, const void *value, void *arg), void *arg);

/* Sets or deletes many entries, in order, with few system calls; keys and values are dense arrays.
 * *ret_done (may be NULL) is how many were done, also after a failure; the others are unchanged.
 * Deleting an entry that does not exist is no failure. */
int maps_set_batch(struct datapath *datapath, enum map_id map, const void *keys, const void *values,
		   size_t count, size_t *ret_done);
int maps_del_batch(struct datapath *datapath, enum map_id map, const void *keys, size_t count,
		   size_t *ret_done);

const char *map_name(enum map_id map);
uint32_t maps_capacity(const struct datapath *datapath, enum map_id map);
unsigned int maps_cpus(const struct datapath *datapath); /* possible ones */
/* Entries in use and capacity.  Walks through hash maps, so it is only for status. */
int maps_usage(struct datapath *datapath, enum map_id map, uint32_t *ret_used,
	       uint32_t *ret_capacity);

/* Bytes of kernel memory that all maps hold (memlock of their fdinfo). */
int maps_memory(struct datapath *datapath, uint64_t *ret_bytes);

/* Deletes entries that are older than the CT_*_NS of their state, and those of endpoints that are
 * gone.  Returns how many, or a negative errno.  Both also count the entries of each endpoint
 * again. */
int ct_map_sweep(struct datapath *datapath, uint64_t now_ns);
int nat_map_sweep(struct datapath *datapath, uint64_t now_ns);
/* From now on nat_map_sweep() tells of each translation for a service that it deletes: how many
 * bytes the entry of its backend lacks. */
void nat_map_on_end(struct datapath *datapath,
		    void (*each)(uint32_t service_id, const struct backend *backend, uint64_t bytes,
				 void *arg),
		    void *arg);

/* The sum over all CPUs of a counter in metric_map: a drop reason, or METRIC_NOTICES + notice. */
int metric_get(struct datapath *datapath, unsigned int metric, uint64_t *ret);

/* The event ring: a descriptor for the event loop.  events_consume() calls each() for the events
 * that are there. */
int events_fd(struct datapath *datapath);
int events_consume(struct datapath *datapath,
		   void (*each)(const struct flow_event *event, void *arg), void *arg);
/* Calls each() for the TCP sockets of pods that tcp_map knows; a result other than 0 ends it and is
 * returned. */
int tcp_sockets_foreach(struct datapath *datapath,
			int (*each)(const struct tcp_socket *socket, void *arg), void *arg);
/* The same as of events for the ring of closed TCP connections, and of other flows that made room
 * in passed_map; returns how many there were, some thousands at most: there may be more.  While
 * NODE_POLLS_TCP is set, the descriptor becomes readable only when much waits. */
int tcp_events_fd(struct datapath *datapath);
int tcp_events_consume(struct datapath *datapath,
		       void (*each)(const struct tcp_event *event, void *arg),
		       void (*passed)(const struct passed_flow *flow, void *arg), void *arg);

/* A descriptor of dns_map (ring buffer of struct dns_event), for the process that reads it;
 * borrowed.
 */
int dns_map_fd(const struct datapath *datapath);

/* A flow is over after that much silence; one that goes on is reported in parts. */
#define PASSED_IDLE_NS (5 * NS_PER_SEC)
#define PASSED_PART_NS (60 * NS_PER_SEC)

/* Which flows to take from passed_map: with addresses those of one of them, whatever their age,
 * else those that are over, and parts of those that go on (open). */
struct passed_query {
	uint64_t now_ns; /* CLOCK_MONOTONIC */
	const struct addr *addresses;
	size_t count;
	void (*each)(const struct passed_flow *flow, bool open, void *arg);
	void *arg;
};

/* Calls each() for them, with what was counted since their last report.  Negative errno. */
int passed_flows_take(struct datapath *datapath, struct passed_query *query);

/* Before the first passed_flows_take(): gives back places that an agent held when it was killed. */
int passed_flows_recover(struct datapath *datapath);

#endif
