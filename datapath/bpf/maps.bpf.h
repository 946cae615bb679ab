/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every map, declared once: who writes it, who reads it, what happens when it is full.  Keys and
 * values are in abi.h.  maps.bpf.c holds the definitions; max_entries here are the defaults, the
 * loader resizes by its options.
 *
 * Tables that user space fills allocate as they grow (BPF_F_NO_PREALLOC), so a small node does not
 * pay for the room of a large one.  ct_map is written for every connection and is allocated ahead:
 * insertion then neither fails for want of memory nor touches the allocator.
 */
#ifndef TENDRIL_DATAPATH_BPF_MAPS_BPF_H
#define TENDRIL_DATAPATH_BPF_MAPS_BPF_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "datapath/abi.h"

/* Endpoints of this node by slot.  Written by the agent through its own mapping, which lets it
 * change flags and policy_id in one store and leave translated alone (the datapath's, which only
 * ever sets it); read by every program.  Fixed size: without a free slot ADD fails. */
struct endpoint_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 512);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct endpoint_entry);
};
extern struct endpoint_map endpoint_map SEC(".maps");

/* Traffic of each endpoint by slot.  Written by every program, read by the agent. */
struct endpoint_stats_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct endpoint_stats);
};
extern struct endpoint_stats_map endpoint_stats SEC(".maps");

/* Index of the host's end of an endpoint that another plugin wired -> slot.  Written by the agent,
 * read by from_pod and to_pod.  Full: ADD fails. */
struct chained_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
};
extern struct chained_map chained_map SEC(".maps");

/* Network namespace cookie -> slot, for programs that see a socket and no device.  Written by the
 * agent with endpoint_map; read by the socket programs.  Full: ADD fails. */
struct netns_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
};
extern struct netns_map netns_map SEC(".maps");

/* Who is behind an exact address.  Written by the agent, read by every program.  Full: the agent
 * reports it; the address that found no room is an unknown peer, so isolation denies it. */
struct ipcache_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct addr);
	__type(value, struct ipcache_entry);
};
extern struct ipcache_map ipcache_map SEC(".maps");

/* Direct-mapped cache from a pod's address (family and last 32 bits) to its slot; a hit costs half
 * of an ipcache_map lookup.  Written and read by from_pod, from_uplink and from_tunnel.  A hit
 * counts only if the endpoint in that slot has the whole address.  Pods that share a bucket replace
 * each other's entry. */
struct slot_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * SLOT_MAP_BUCKETS);
	__type(key, __u32);
	__type(value, __u32);
};
extern struct slot_map slot_map SEC(".maps");

/* Prefixes that policies name -> identity, asked only on an ipcache_map miss and only if
 * NODE_HAS_CIDRS.  Written by the agent.  Full: as ipcache_map. */
struct cidr_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct cidr_key);
	__type(value, __u32);
};
extern struct cidr_map cidr_map SEC(".maps");

/* What is inside the cluster: pod CIDRs, nodes, nonMasqueradeCIDRs.  Written by the agent, read by
 * from_pod and the programs of uplinks and tunnel.  Full: the agent reports it; what found no room
 * counts as outside.
 */
struct cluster_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct cidr_key);
	__type(value, struct cluster_entry);
};
extern struct cluster_map cluster_map SEC(".maps");

/* The node's addresses on its uplinks.  Written by the agent for at most 16 devices, read by
 * to_uplink. */
struct uplink_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct uplink_entry);
};
extern struct uplink_map uplink_map SEC(".maps");

/* Which way the last flows took out of the node; one that collides with another takes its place.
 * Used only by from_pod and uplink_xdp. */
struct leave_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LEAVE_WAYS);
	__type(key, __u32);
	__type(value, struct leave_way);
};
extern struct leave_map leave_map SEC(".maps");

/* Compiled policies.  Written by the agent, read wherever a verdict is needed.  Full: the agent
 * reports it; a rule that found no room is a rule that allows nothing. */
struct policy_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct policy_key);
	__type(value, struct policy_entry);
};
extern struct policy_map policy_map SEC(".maps");

/* Port sets too long for a policy_map value.  Written by the agent.  Full: as policy_map. */
struct port_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct port_key);
	__type(value, __u8);
};
extern struct port_map port_map SEC(".maps");

/* The node's state.  Written by the agent through its own mapping of the page, read by every
 * program. */
struct node_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct node_state);
};
extern struct node_map node_map SEC(".maps");

/* Connections whose answers need an entry (conntrack.bpf.h).  Written by from_pod and to_pod; the
 * agent deletes old entries.  An endpoint's share is used up (ct_count_map): NOTICE_CT_FULL, and
 * the flow goes on by the evidence of its sockets.  Not an LRU: there a flood would evict other
 * pods' connections. */
struct ct_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, struct ct_key);
	__type(value, struct ct_entry);
};
extern struct ct_map ct_map SEC(".maps");

/* Entries of ct_map that each endpoint owns, and those that are free.  Written by from_pod and
 * to_pod with each insertion and deletion; the agent counts them again when it deletes old ones. */
struct ct_count_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 512);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __s64);
};
extern struct ct_count_map ct_count_map SEC(".maps");

/* Service address, port and protocol -> service.  Written by the agent; read by the socket programs
 * and, per packet, by from_pod.  Full: the agent reports it; such a service is unknown. */
struct service_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service_key);
	__type(value, struct service);
};
extern struct service_map service_map SEC(".maps");

/* Backends of each service, and how often each was chosen, which the programs count.  As
 * service_map. */
struct backend_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct backend_key);
	__type(value, struct backend_entry);
};
extern struct backend_map backend_map SEC(".maps");

/* Clients and their backends of services with sessionAffinity.  Written and read where backends are
 * chosen.  Full: the longest unused entry goes, and that client gets another backend. */
struct affinity_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
};
extern struct affinity_map affinity_map SEC(".maps");

/* loadBalancerSourceRanges.  Written by the agent, read where backends are chosen.  Full: the agent
 * reports it; packets of clients in ranges without room are dropped. */
struct range_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct source_range_key);
	__type(value, __u8);
};
extern struct range_map range_map SEC(".maps");

/* The service that a TCP socket asked for before translation.  An array, because socket storage is
 * allocated and freed for each connection.  Written by connect, read by getpeername, freed when the
 * program closes the socket.  A socket whose bucket is taken uses sock_service. */
struct sock_bucket_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SOCK_BUCKETS);
	__type(key, __u32);
	__type(value, struct sock_bucket);
};
extern struct sock_bucket_map sock_bucket_map SEC(".maps");

/* The same for other sockets.  Written by connect and by an unconnected socket's first sendmsg,
 * read by getpeername and recvmsg; freed with the socket.  Without memory the traffic flows, but
 * the program sees the backend's address: NOTICE_SENDMSG_FULL. */
struct sock_service_map {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sock_service);
};
extern struct sock_service_map sock_service SEC(".maps");

/* Further services that a UDP socket sends to.  Written by sendmsg, read by recvmsg; freed with
 * the socket, so no socket uses the room of another.  Full: the socket's oldest goes, and a
 * late answer to that shows the backend's address.  Without memory: as sock_service. */
struct sendmsg_service_map {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sendmsg_services);
};
extern struct sendmsg_service_map sendmsg_service SEC(".maps");

/* Per-packet service translations, two entries a connection.  Written by from_pod, to_pod and the
 * programs of the uplinks, which also delete closed TCP connections; the agent deletes old entries.
 * Full: a translation of the same owner goes, or of one who holds more (nat_make_room()), which
 * ends that connection.  So a table full of dead UDP flows takes new ones. */
struct nat_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct flow);
	__type(value, struct nat_entry);
};
extern struct nat_map nat_map SEC(".maps");

/* Translations that each endpoint holds, 0: clients outside.  Written by from_pod, to_pod and the
 * programs of the uplinks; the agent counts anew when it sweeps. */
struct nat_count_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 512);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __s64);
};
extern struct nat_count_map nat_count_map SEC(".maps");

/* Keys of requests in nat_map, to find one at random.  Only the datapath; one for each translation
 * that there is room for, but a place may be taken by another before its translation goes. */
struct nat_place_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct flow);
};
extern struct nat_place_map nat_place_map SEC(".maps");

/* What a program works on while it translates a packet: the stack has no room for it.  Only the
 * datapath. */
struct nat_work_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_work);
};
extern struct nat_work_map nat_work_map SEC(".maps");

/* Ports of fragmented datagrams.  Written and read by from_pod and to_pod; the loader makes room
 * for more where there are more CPUs.  Full: the longest unused goes, and later fragments of that
 * datagram are dropped where ports matter. */
struct frag_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct frag_key);
	__type(value, struct frag_ports);
};
extern struct frag_map frag_map SEC(".maps");

/* Flows that somebody watches.  Written by from_pod and to_pod while NODE_FLOWS is set, and always
 * for packets that an audited end denies; the agent adds the flows that it found, reads and clears
 * the map.  Full: the longest unseen flow goes, and the agent reports that some may be missing. */
struct flow_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct flow_key);
	__type(value, struct flow_record);
};
extern struct flow_map flow_map SEC(".maps");

/* Sockets that are accelerated.  Written by the sockops program, read by the sk_msg program; the
 * kernel removes a socket when it closes.  Full: NOTICE_ACCEL_FULL, and the connection
 * stays with packets.  Value: socket cookie when read from user space. */
struct accel_map {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 8192);
	__type(key, struct accel_key);
	__type(value, __u64);
};
extern struct accel_map accel_map SEC(".maps");

/* What the peer of a socket of accel_map needs for its first message.  Written at establishment,
 * read once and deleted by the peer.  Full: the longest unread entry goes; that peer stays with
 * packets. */
struct accel_peer_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct accel_key);
	__type(value, struct accel_peer);
};
extern struct accel_peer_map accel_peer_map SEC(".maps");

/* The sending direction of each socket of accel_map.  Used only by the datapath; freed with the
 * socket.  Without memory the connection is not accelerated. */
struct accel_sock_map {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct accel_direction);
};
extern struct accel_sock_map accel_sock SEC(".maps");

/* Drop reasons, then notices from METRIC_NOTICES.  Written by every program, read by the agent. */
struct metric_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, METRIC_COUNT);
	__type(key, __u32);
	__type(value, __u64);
};
extern struct metric_map metric_map SEC(".maps");

/* struct flow_event, to the agent.  Full: the event is lost and counted as NOTICE_EVENTS_LOST; the
 * drop itself is always in metric_map. */
struct event_map {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
};
extern struct event_map event_map SEC(".maps");

/* TCP sockets of pods.  Written by tcp_state and msg_redirect.  All places of a socket taken: the
 * oldest goes, and the time and the accelerated bytes of that connection are not known. */
struct tcp_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TCP_SOCKETS);
	__type(key, __u32);
	__type(value, struct tcp_socket);
};
extern struct tcp_map tcp_map SEC(".maps");

/* struct tcp_event, or the struct passed_flow of a flow that made room, to the agent.  Full: the
 * event is lost and counted as NOTICE_TCP_LOST, the flow keeps its place. */
struct tcp_event_map {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 512 * 1024);
};
extern struct tcp_event_map tcp_event_map SEC(".maps");

/* Flows of UDP, SCTP, ICMP and others.  Written by from_pod, to_pod and the programs of the tunnel
 * and uplinks; the agent reports and frees the places of flows that are over.  An endpoint whose
 * new flows replace too many others: NOTICE_FLOW_LOST. */
struct passed_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PASSED_SETS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct passed_set);
};
extern struct passed_map passed_map SEC(".maps");

/* struct dns_event, to the process that reads them.  Full: NOTICE_DNS_LOST. */
struct dns_map {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
};
extern struct dns_map dns_map SEC(".maps");

/* What each endpoint caused in this second, by slot.  Used only by the datapath. */
struct budget_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct endpoint_budget);
};
extern struct budget_map budget_map SEC(".maps");

/* Bandwidth limits of endpoints, by slot.  Limits are the agent's, times those of from_pod, to_pod
 * and the programs of uplinks and tunnel. */
struct bandwidth_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct bandwidth);
};
extern struct bandwidth_map bandwidth_map SEC(".maps");

/* Entries of the kernel's neighbour table that each endpoint caused, by slot.  Used only by the
 * datapath. */
struct neighbour_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct neighbour_share);
};
extern struct neighbour_map neighbour_map SEC(".maps");

#endif
