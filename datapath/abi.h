/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The contract between the BPF programs and user space: map keys and values, events, drop
 * reasons and limits.  The only header that both sides include.
 *
 * Addresses are 16 bytes; IPv4 is carried v4-mapped (::ffff:a.b.c.d), so every map serves both
 * families.  Byte order is in the type.  Every byte of padding is a named field, zero, because
 * keys are compared as memory.
 */
#ifndef TENDRIL_DATAPATH_ABI_H
#define TENDRIL_DATAPATH_ABI_H

#include <linux/types.h>

#include "lib/addr.h"

#define ABI_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type " changed size")

/* Grows whenever the layout of a pinned map changes.  The maps of ABI_OLDEST and later are taken
 * over under traffic; convert.c knows the differences, and README.md says how to add one. */
#define ABI_VERSION 16
#define ABI_OLDEST  6

/* ---- limits and well-known numbers ---------------------------------------------------------- */

/*
 * The host end of an endpoint's veth is created with interface index ENDPOINT_IFINDEX_BASE + slot,
 * so a program finds its endpoint by array index instead of by a hash lookup.  rtnetlink lets the
 * creator choose the index (ifi_index in RTM_NEWLINK); the base is far above what the kernel
 * hands out by itself.  Slot 0 is never used: 0 in a slot field means "no local endpoint".  If
 * another plugin wired the endpoint (ENDPOINT_CHAINED), the kernel chose the index of its device,
 * and chained_map has the slot for this index.
 */
#define ENDPOINT_IFINDEX_BASE 0x54000000
#define HOST_DEVICE           "tendril0" /* carries the gateway addresses and the pod routes */

#define SLOT_MAP_BUCKETS    512 /* for each address family */
#define POLICY_INLINE_RULES 6   /* port rules in a policy_map value before port_map is needed */

enum direction { DIR_EGRESS, DIR_INGRESS };

/* Identities below IDENTITY_FIRST are fixed; 0 as a peer in policy_map means "any other peer". */
enum identity { IDENTITY_ANY, IDENTITY_HOST, IDENTITY_WORLD, IDENTITY_FIRST = 16 };

/* ---- endpoints ------------------------------------------------------------------------------ */

enum endpoint_flag {
	ENDPOINT_VALID = 1 << 0,
	ENDPOINT_INGRESS_ISOLATED = 1 << 1, /* some policy selects it for ingress */
	ENDPOINT_EGRESS_ISOLATED = 1 << 2,
	ENDPOINT_ACCEL = 1 << 3, /* asked for socket acceleration */
	/* Audit mode: packets that this endpoint's policy denies are counted, reported, and pass.
	 * The other end of a flow is still enforced. */
	ENDPOINT_AUDIT = 1 << 4,
	/* Another plugin wired it: packets that pass take the path of that plugin, through the
	 * host's stack or a bridge. */
	ENDPOINT_CHAINED = 1 << 5,
	ENDPOINT_EGRESS_LIMITED = 1 << 6, /* bandwidth_map has a limit for it */
	ENDPOINT_INGRESS_LIMITED = 1 << 7,
};

/* Value of endpoint_map, an array indexed by slot.  flags and policy_id share one aligned 8-byte
 * word, so that a change of policy is seen whole. */
struct endpoint_entry {
	__u32 flags;        /* enum endpoint_flag */
	__u32 policy_id;    /* in policy_map; shared by endpoints with the same rules */
	__u32 identity;     /* behind its IPv4 address */
	__u32 translated;   /* set by the datapath once service NAT touched its packets */
	__u64 netns_cookie; /* of the pod's namespace, as bpf_get_netns_cookie() reports it */
	__u32 netns_id;     /* of the pod's namespace (RTM_NEWNSID), for socket lookups */
	__u8 mac[6];        /* of the pod's end */
	__u8 host_mac[6];   /* of the host's end */
	struct addr v4;     /* all zero when the endpoint has none */
	struct addr v6;
	__u32 identity_v6;    /* behind its IPv6 address: differs from identity if a CIDR in a
			       * policy contains only one of the two addresses */
	__u32 bridge_ifindex; /* ENDPOINT_CHAINED: the bridge that the host's end is a port of */
	__u32 host_ifindex;   /* ENDPOINT_CHAINED: of the host's end, as in chained_map */
	__u32 pad;
};
ABI_SIZE(struct endpoint_entry, 88);

/* Value of bandwidth_map, an array indexed by slot; by enum direction.  Egress is what leaves the
 * node, ingress all that the pod receives. */
struct bandwidth {
	struct bandwidth_limit {
		__u64 bytes_per_s; /* 0: no limit */
		/* CLOCK_MONOTONIC, when the next packet is due at this rate.  The programs'. */
		__u64 due_ns;
	} limits[2];
};
ABI_SIZE(struct bandwidth, 32);

/* What a pod did not use in this time it may still use at once.  A TCP sender whose packets are
 * dropped needs that of about a round trip to come back to the rate. */
#define BANDWIDTH_BURST_NS (NS_PER_SEC / 10)
/* NODE_PACED: what is due later than this, or than so many packets of its size, is dropped. */
#define BANDWIDTH_PACKETS    1000
#define BANDWIDTH_HORIZON_NS (2 * NS_PER_SEC)

/* Value of endpoint_stats, per CPU, indexed by slot.  "tx" is what the pod sent. */
struct endpoint_stats {
	__u64 tx_packets;
	__u64 tx_bytes;
	__u64 rx_packets;
	__u64 rx_bytes;
	__u64 drops;
	__u64 accel_connections; /* connections on which this pod's sending was redirected */
	__u64 accel_bytes;       /* bytes that went socket to socket, counted at the sender */
	__u64 accel_fallbacks;   /* sending directions that stayed on, or went back to, packets */
	__u64 would_drops;       /* ENDPOINT_AUDIT: packets that passed though its policy denies */
};
ABI_SIZE(struct endpoint_stats, 72);

/* ---- who is behind an address --------------------------------------------------------------- */

enum ipcache_flag {
	IPCACHE_HOST = 1 << 0,    /* an address of this node: its traffic to its pods passes */
	IPCACHE_SERVICE = 1 << 1, /* a service address: look in service_map */
};

/* Value of ipcache_map; the key is struct addr.  Exact addresses: pods, nodes, services. */
struct ipcache_entry {
	__u32 identity;
	__u16 slot; /* of the local endpoint, 0 if it is not on this node */
	__u16 flags;
};
ABI_SIZE(struct ipcache_entry, 8);

/* Key of cidr_map (LPM trie), used only if ipcache_map has no entry.  The map holds each prefix
 * that a policy names, with a __u32 identity as value.  IPv4 prefixes are 96 bits longer. */
struct cidr_key {
	__u32 prefixlen; /* bits of addr, 0..128 */
	struct addr addr;
};
ABI_SIZE(struct cidr_key, 20);

/* Value of cluster_map (LPM trie, key struct cidr_key): addresses that are inside the cluster, of
 * pods and nodes, and others that shall see pods under their own addresses. */
struct cluster_entry {
	/* Whose pods these are, or who has the address itself: where the tunnel leads.  All zero:
	 * not another node's. */
	struct addr node;
	__u32 flags; /* enum cluster_flag */
};
ABI_SIZE(struct cluster_entry, 20);

enum cluster_flag {
	CLUSTER_SEALED = 1 << 0, /* the node is a peer of WireGuard: packets go to it encrypted */
	CLUSTER_NODE = 1 << 1,   /* an address of a node itself: of this one if there is no node */
};

/* Value of uplink_map; the key is the index of a device by which the node reaches the outside. */
struct uplink_entry {
	struct addr v4; /* the node's own there, for NODE_MASQUERADE; all zero: it has none */
	struct addr v6;
};
ABI_SIZE(struct uplink_entry, 32);

/* ---- policy --------------------------------------------------------------------------------- */

/*
 * Key of policy_map.  The decision for a packet of one direction:
 *   1. the entry of the exact peer identity, if there is one, decides alone;
 *   2. else the entry of IDENTITY_ANY, if there is one, decides;
 *   3. else the packet is denied (the endpoint is isolated in this direction).
 * The compiler therefore writes into a peer's entry everything that applies to that peer,
 * including what applies to everyone.
 */
struct policy_key {
	__u32 policy_id;
	__u32 peer; /* identity, or IDENTITY_ANY */
	__u8 direction;
	__u8 pad[3];
};
ABI_SIZE(struct policy_key, 12);

enum verdict { VERDICT_DENY, VERDICT_ALLOW };

/* One port rule.  Rules of one entry and protocol do not overlap.  proto 0: any protocol, ports
 * ignored; there is at most one, the last, and it answers where no other rule matches. */
struct port_rule {
	__u16 port_min; /* host byte order, inclusive */
	__u16 port_max;
	__u8 proto;
	__u8 verdict; /* enum verdict */
};
ABI_SIZE(struct port_rule, 6);

/* Value of policy_map.  No rule matches: denied. */
struct policy_entry {
	__u32 port_set; /* 0: the rules are inline; else look in port_map under this id */
	__u8 rule_count;
	__u8 pad[3];
	struct port_rule rules[POLICY_INLINE_RULES];
	__u8 tail_pad[4];
};
ABI_SIZE(struct policy_entry, 48);

/* Key of port_map (LPM trie), value __u8 verdict: port sets that are too long for policy_entry.  A
 * range is stored as prefixes.  Bits after prefixlen: port_set 32, proto 8, port 16.  Prefixes of
 * one set and protocol do not overlap; proto 0 (any) is looked up if the packet's own is missing.
 */
struct port_key {
	__u32 prefixlen; /* 40 (any port) .. 56 */
	__u32 port_set;
	__u8 proto;
	__u8 port[2]; /* network order */
	__u8 pad;
};
ABI_SIZE(struct port_key, 12);

/* ---- node state ----------------------------------------------------------------------------- */

enum node_flag {
	NODE_HAS_CIDRS = 1 << 0,      /* cidr_map is not empty */
	NODE_VERDICT_EVENTS = 1 << 1, /* somebody watches events: report new connections, too */
	NODE_ACCEL = 1 << 2,          /* the start-up self-test of acceleration passed */
	NODE_FLOWS = 1 << 3,          /* somebody watches flows: record them in flow_map */
	NODE_WRITING = 1 << 4,        /* an agent is changing policy, or was killed doing so */
	/* The program of the old maps comes after this one and is asked before a drop: it knows
	 * connections that are not copied yet. */
	NODE_TAKEOVER = 1 << 5,
	NODE_CHAINED = 1 << 6,      /* chained_map is, or was, not empty */
	NODE_MASQUERADE = 1 << 7,   /* pods leave the cluster under the node's address */
	NODE_TUNNEL = 1 << 9,       /* pods of other nodes are reached by tunnel_ifindex */
	NODE_TUNNEL_IPV6 = 1 << 10, /* between the nodes it is IPv6 */
	NODE_POLLS_TCP = 1 << 8,  /* the agent looks into tcp_event_map by itself: do not wake it */
	NODE_OUTSIDE = 1 << 11,   /* there are, or were, services for clients outside */
	NODE_BYPASS = 1 << 12,    /* packets between pods and uplinks bypass the host's stack */
	NODE_DNS = 1 << 14,       /* answers of DNS go to dns_map */
	NODE_PASSED = 1 << 13,    /* flows without connections are counted in passed_map */
	NODE_PACED = 1 << 15,     /* the uplinks send each packet at its time (fq) */
	NODE_WIREGUARD = 1 << 16, /* packets to the CLUSTER_SEALED take wireguard_ifindex */
	NODE_STRICT = 1 << 17,    /* with that: pods and other nodes exchange no packet in clear */
	NODE_DSR = 1 << 18, /* the backend's node answers clients outside; by tunnel_ifindex */
};

/* The one element of node_map, which the agent also maps into its memory. */
struct node_state {
	__u32 revision;     /* grows with every change of policy, identity or address */
	__u32 flags;        /* enum node_flag */
	__u64 netns_cookie; /* of the agent's own network namespace */
	/* Range of the ports that service_map may have for this node's own addresses; host order,
	 * inclusive.  All zero: none. */
	__u16 node_port_min;
	__u16 node_port_max;
	/* SNAT of clients outside whose backend is on another node: the addresses and ports of this
	 * node that replace theirs.  All zero: packets of such clients are dropped.
	 * NODE_MASQUERADE uses the same ports, and the addresses of uplink_map. */
	__u16 snat_port_min;
	__u16 snat_port_max;
	struct addr snat_v4;
	struct addr snat_v6;
	__u32 host_ifindex;   /* of HOST_DEVICE; 0: every device but those of endpoints counts as it
			       */
	__u32 tunnel_ifindex; /* NODE_TUNNEL, NODE_DSR */
	__u32 nat_places;     /* entries of nat_place_map */
	__u32 event_bytes;    /* of each packet, to send with its event: somebody asks; 0: none */
	/* The ports for SNAT before these, which flows may still have. */
	__u16 old_snat_port_min;
	__u16 old_snat_port_max;
	__be16 tunnel_port; /* NODE_TUNNEL, NODE_DSR */
	__u16 pad;
	__u32 wireguard_ifindex; /* NODE_WIREGUARD */
	__u32 tail_pad;
};
ABI_SIZE(struct node_state, 88);

/* How long, in jiffies, the packets of a flow take the way out of the node that its first packet
 * found: 25 to 250 ms, depending on the kernel's HZ.  That late is a change of routes followed. */
#define LEAVE_JIFFIES 25
#define LEAVE_WAYS    256 /* of flows that each CPU remembers */

/* Value of leave_map: how packets leave the node past the host's stack.  uplink_xdp has the frame's
 * addresses as next_hop. */
struct leave_way {
	struct flow flow;
	__u32 asked_jiffies; /* low half, when the kernel was asked */
	__u32 ifindex;       /* of the uplink or tunnel; 0: by the host's stack */
	__u32 family;        /* of the next hop: AF_INET, AF_INET6; 0: the tunnel to a node */
	__u32 mtu;
	/* Bytes as in the family, or the node's address; all zero: WireGuard finds the node. */
	struct addr next_hop;
};
ABI_SIZE(struct leave_way, 72);

/* Network identifiers of tunnel packets: between pods and nodes, and of clients outside that the
 * first node sends on to the node of the backend (NODE_DSR).  Others are somebody else's. */
#define TUNNEL_VNI     84
#define TUNNEL_VNI_DSR 85

/* ---- connection state ----------------------------------------------------------------------- */

/* A time of last use is written again when it is this old: 1 to 10 s, depending on the kernel's HZ.
 */
#define TOUCH_JIFFIES 1000

/* Key of ct_map: a flow with its ends sorted, so that both directions have the same entry.  "a" is
 * the end with the smaller (address, port), compared as memory. */
struct ct_key {
	struct addr a;
	struct addr b;
	__be16 a_port;
	__be16 b_port;
	__u8 proto;
	__u8 pad[3];
};
ABI_SIZE(struct ct_key, 40);

enum ct_flag {
	CT_FROM_B = 1 << 0,      /* end b opened the connection */
	CT_REPLIED = 1 << 1,     /* the other end answered (TCP: with a SYN-ACK for our SYN) */
	CT_ESTABLISHED = 1 << 2, /* TCP: the opener acknowledged that answer */
	CT_FIN_A = 1 << 3,
	CT_FIN_B = 1 << 4,
	/* Opened by the node itself or through its NAT: the opener's address does not identify the
	 * opener, so policy is checked again only with the opener's own packets. */
	CT_BEHIND_NODE = 1 << 5,
};

struct ct_entry {
	__u64 last_seen_ns; /* CLOCK_MONOTONIC_COARSE; written at most every TOUCH_JIFFIES */
	__u32 seen_jiffies; /* low half of the kernel's jiffies at that moment */
	__u32 revision;     /* node_state.revision under which policy last said yes */
	__u32 syn_seq;      /* TCP: the opener's initial sequence number, host order */
	__u32 syn_len;      /* TCP Fast Open: bytes of data in the SYN */
	__u32 flags;        /* enum ct_flag */
	__u32 owner;        /* slot of the endpoint whose share it takes: see ct_count_map */
};
ABI_SIZE(struct ct_entry, 32);

/* Key in ct_count_map (an array of __s64) of the number of free entries of ct_map.  Every other key
 * is a slot: the number of entries that this endpoint owns. */
#define CT_COUNT_FREE 0

#define NS_PER_SEC            1000000000ULL
#define CT_TCP_OPENING_NS     (60 * NS_PER_SEC)
#define CT_TCP_ESTABLISHED_NS (8000 * NS_PER_SEC)
#define CT_TCP_CLOSING_NS     (30 * NS_PER_SEC)
/* As long as systems stay in TIME_WAIT, which RFC 9293 wants to be 2 MSL, and Linux is for 60 s. */
#define NAT_TIME_WAIT_NS      (120 * NS_PER_SEC)
#define CT_OTHER_UNREPLIED_NS (30 * NS_PER_SEC)
#define CT_OTHER_REPLIED_NS   (180 * NS_PER_SEC)

/* ---- flows as an observer sees them --------------------------------------------------------- */

/* Key of flow_map: sender, receiver and its port as policy sees them, after translation, in the
 * direction in which the flow was opened.  If the map has the flow with its ends exchanged, the
 * packet is an answer and makes no entry. */
struct flow_key {
	struct addr saddr;
	struct addr daddr;
	__be16 dport;
	__u8 proto;
	__u8 pad;
};
ABI_SIZE(struct flow_key, 36);

enum flow_flag {
	FLOW_PASSED = 1 << 0,
	FLOW_DENIED = 1 << 1,  /* by policy */
	FLOW_AUDITED = 1 << 2, /* passed, though the policy of an audited end denies it */
	FLOW_FOUND = 1 << 3,   /* written by the agent: it existed before somebody watched flows */
};

/* Value of flow_map.  It counts the openings of TCP and SCTP, and every packet of other protocols.
 * CPUs that count at the same moment may lose some. */
struct flow_record {
	__u64 packets;
	__u64 first_ns; /* CLOCK_MONOTONIC_COARSE */
	__u64 last_ns;
	__u64 reported_ns; /* time of the last EVENT_AUDIT about it */
	__u32 flags;       /* enum flow_flag */
	__be16 sport;      /* of the first packet */
	__u16 pad;
};
ABI_SIZE(struct flow_record, 40);

#define FLOW_REPORT_NS \
	(10 * NS_PER_SEC) /* between two EVENT_AUDIT of one flow, except for openings */

/* ---- flows without connections that passed --------------------------------------------------- */

#define PASSED_SETS 1024
#define PASSED_WAYS 4

enum passed_state { PASSED_FREE, PASSED_BUSY, PASSED_LIVE }; /* BUSY: somebody writes or reads it */

/*
 * A flow of UDP, SCTP, ICMP or another protocol, all but TCP.  The end that sent its first packet
 * is flow.saddr, and the first one in the arrays.
 */
struct passed_flow {
	struct flow flow;
	__u64 first_ns; /* CLOCK_MONOTONIC_COARSE; of what was counted since the last report */
	__u64 last_ns;
	__u64 bytes[2];      /* behind the headers, that each end sent */
	__u32 packets[2];    /* of each end */
	__u32 state;         /* enum passed_state */
	__u8 icmp_type;      /* of the first packet */
	__u8 translated;     /* by nat_map, which counts the bytes for the service, too */
	__be16 service_port; /* 0: the sender asked for no service, or it is not known */
	struct addr service; /* that the sender asked for; flow.daddr is the backend */
};
ABI_SIZE(struct passed_flow, 104);

/* Value of passed_map, an array: a flow has one of the places of its set.  Where all are taken, the
 * flow that was silent longest is reported in tcp_event_map and makes room. */
struct passed_set {
	struct passed_flow ways[PASSED_WAYS];
};
ABI_SIZE(struct passed_set, 416);

#define DNS_PORT      53
#define DNS_BYTES_MAX 512 /* of a message or segment; the rest is left out */

/* What dns_map (ring buffer) carries: a UDP message, or the data of a TCP segment, that came to a
 * pod from port 53 in answer to its own. */
struct dns_event {
	__u64 time_ns;      /* CLOCK_MONOTONIC_COARSE */
	__u64 netns_cookie; /* of the pod */
	struct flow flow;   /* to the pod */
	__u32 length;       /* of what is in bytes */
	__u32 payload;      /* TCP: of the segment */
	__u32 seq;          /* TCP: of its first byte */
	__u8 begins;        /* TCP: the first data of its connection */
	__u8 pad[3];
	__u8 bytes[DNS_BYTES_MAX];
};
ABI_SIZE(struct dns_event, 584);

/* Answers of DNS in a second, for each CPU and endpoint: a pod gets no more of dns_map. */
#define DNS_RATE 100

/* Flows that may make room for others in a second: for each CPU and endpoint.  This bounds the work
 * of the agent, not a pod's part of the flow log: TCP connections fill that faster, and a smaller
 * number would leave out flows of a busy DNS server. */
#define PASSED_RATE 1000

/* ---- services ------------------------------------------------------------------------------- */

struct service_key {
	struct addr addr;
	__be16 port;
	__u8 proto;
	__u8 pad;
};
ABI_SIZE(struct service_key, 20);

enum service_kind { CLUSTER_IP, NODE_PORT, LOAD_BALANCER, EXTERNAL_IP, HOST_PORT };

enum service_flag {
	/* CLUSTER_IP: all clients get an endpoint of this node.  The other kinds: clients outside
	 * the cluster get one, and keep their address; clients inside use all endpoints. */
	SERVICE_LOCAL = 1 << 0,
	/* Some endpoint serves: packets of clients that may not use it are dropped.  Without this
	 * flag clients are refused. */
	SERVICE_HAS_ENDPOINTS = 1 << 1,
	SERVICE_SOURCE_RANGES = 1 << 2, /* only clients in range_map may use it */
};

/* Value of service_map. */
struct service {
	__u32 id;       /* one port of a service in one family: all its frontends share it */
	__u32 backends; /* for new connections: backend_map indices 0 .. backends - 1 */
	/* Backends of this node, if a frontend is SERVICE_LOCAL: indices from BACKEND_LOCAL on. */
	__u32 local_backends;
	__u32 affinity_s; /* a client keeps its backend so long after its last use; 0: no affinity
			   */
	__u8 kind;        /* enum service_kind */
	__u8 flags;       /* enum service_flag */
	/* The indices after these: endpoints that keep their flows and get no new ones, because
	 * they terminate or hints exclude them. */
	__u16 keeping;
	/* Maglev: clients outside get the backend at a place between BACKEND_TABLE and this many
	 * further, by a hash of their flow.  0: any of backends, at random. */
	__u32 table_size;
};
ABI_SIZE(struct service, 24);

#define BACKEND_TABLE 0x40000000U /* first index of the Maglev table */
#define BACKEND_LOCAL 0x80000000U /* first index of the endpoints of this node */

struct backend_key {
	__u32 service_id;
	__u32 index;
};
ABI_SIZE(struct backend_key, 8);

struct backend {
	struct addr addr;
	__be16 port;
	__u16 pad;
};
ABI_SIZE(struct backend, 20);

struct service_choice {
	struct backend backend;
	__u32 index; /* in backend_map */
};

/* Value of backend_map.  The programs count; the agent writes zeros with a new backend.  One
 * backend may have several entries: among all, among those of this node, in the Maglev table. */
struct backend_entry {
	struct backend backend;
	__u32 connections; /* how often it was chosen */
	__u64 bytes;       /* of packets that were translated, both ways together */
};
ABI_SIZE(struct backend_entry, 32);

/* Key of affinity_map (LRU): a client and a service of which it keeps the backend. */
struct affinity_key {
	struct addr client; /* a pod's own address, in the socket layer too; all zero: the node */
	__u32 service_id;
	__u32 pad;
};
ABI_SIZE(struct affinity_key, 24);

struct affinity {
	struct addr addr; /* of the backend */
	__be16 port;
	__u16 pad;
	__u32 index;        /* in backend_map when it was last found there */
	__u64 last_used_ns; /* CLOCK_MONOTONIC_COARSE, of the last new connection */
};
ABI_SIZE(struct affinity, 32);

/* Key of range_map (LPM trie), value __u8 1: loadBalancerSourceRanges of services with
 * SERVICE_SOURCE_RANGES. */
struct source_range_key {
	__u32 prefixlen; /* 32, and the bits of addr; IPv4 prefixes are 96 bits longer */
	__u32 service_id;
	struct addr addr;
};
ABI_SIZE(struct source_range_key, 24);

/* Value of sock_service (socket storage): the service that a connected socket asked for, for
 * getpeername(), or the first service that an unconnected one sent to.  All zero: none (any more).
 */
struct sock_service {
	struct addr addr;
	struct addr backend_addr;
	__be16 port;
	__be16 backend_port;
	__u32 backend; /* index in backend_map when it was last found there */
};
ABI_SIZE(struct sock_service, 40);

#define SOCK_BUCKETS 16384

/* Value of sock_bucket_map, an array indexed by socket cookie modulo SOCK_BUCKETS. */
struct sock_bucket {
	__u64 cookie;     /* of the TCP socket in this bucket, 0: free */
	__u32 overflowed; /* a second socket found the bucket taken and uses its own storage */
	struct sock_service service;
	__u32 slot; /* of the socket's pod, 0: the node */
};
ABI_SIZE(struct sock_bucket, 56);

/* A socket that uses a service, as list_sockets reports it. */
struct service_socket {
	__u64 cookie;
	__u32 slot; /* of its pod, 0: the node */
	__u32 proto;
	struct sock_service service;
};
ABI_SIZE(struct service_socket, 56);

#define SENDMSG_SERVICES 10

/* Value of sendmsg_service (socket storage): the services that a UDP socket sends to beside the one
 * in sock_service. */
struct sendmsg_services {
	struct sock_service items[SENDMSG_SERVICES];
	__u32 oldest; /* index: makes room for the next */
};
ABI_SIZE(struct sendmsg_services, 404);

enum nat_flag {
	NAT_REQUEST = 1 << 0,     /* from the client to the backend; else from the backend back */
	NAT_CLIENT_DONE = 1 << 1, /* TCP: sent its FIN; a RST counts as both */
	NAT_BACKEND_DONE = 1 << 2,
	NAT_CLIENT_ACKED = 1 << 3, /* TCP: its FIN is acknowledged */
	NAT_BACKEND_ACKED = 1 << 4,
	NAT_FORWARD = 1 << 5, /* to another host: the program itself routes the packet.  Its source
			       * may be the node's, which the node's stack refuses from a device */
	NAT_GONE = 1 << 6,    /* the backend is gone: the client is told with its next packet */
	NAT_USED = 1 << 7,    /* NAT_REQUEST: its client sent more than one packet */
	NAT_REPLIED = 1 << 8, /* not with NAT_REQUEST: an answer has come */
	NAT_SOURCE_TAKEN = 1 << 9,   /* not with NAT_REQUEST: answers come to a port of this node */
	NAT_BACKEND_FIRST = 1 << 10, /* TCP: sent the first FIN, so it remembers the connection */
	NAT_TIMESTAMP = 1 << 11,     /* not with NAT_REQUEST: client_time is of the client's FIN */
	/* NAT_REQUEST: packets go as they are to the node of the backend, which answers them.  Such
	 * an entry has no other direction. */
	NAT_DSR = 1 << 12,
};

/* Behind the flags: the slot of the pod whose share of nat_map it takes, 0: of clients outside. */
#define NAT_OWNER_SHIFT 16

/*
 * Value of nat_map, the state of per-packet translation.  The key is the struct flow with which a
 * packet arrives.  A connection has two entries, but one with NAT_DSR: the key of each is the flow
 * of the other one with the ends exchanged.
 */
struct nat_entry {
	struct flow flow;   /* with which the packet leaves */
	__u32 flags;        /* enum nat_flag, NAT_OWNER_SHIFT */
	__u32 backend;      /* index in backend_map when it was last found there */
	__u32 seen_jiffies; /* as in struct ct_entry */
	/* TCP, host order: what acknowledges the FIN of this direction.  NAT_REQUEST: until then,
	 * what acknowledges the SYN. */
	__u32 fin_end;
	__u64 last_seen_ns;
	__u32 bytes;       /* of this direction, that the backend's entry does not have yet */
	__u32 service_id;  /* 0: no service's */
	__u32 client_time; /* NAT_TIMESTAMP: value of the TCP option, host order */
	__u32 pad;
};
ABI_SIZE(struct nat_entry, 80);

/* Value of nat_work_map: data of a program while it translates a packet. */
struct nat_work {
	struct flow way; /* with which the packet leaves */
	__u32 way_flags; /* enum nat_flag */
	__u32 reply_flags;
	/* A new connection: */
	struct flow from; /* the packet as it arrives */
	struct flow key;
	struct nat_entry entry;
	__u8 keep_port;     /* the port in way is tried first */
	__u8 has_timestamp; /* the packet is a SYN with client_time */
	__u16 pad;
	__s32 error; /* of the claim: negative errno; -EBUSY: it found no port */
	/* One that makes room for it: */
	struct flow victim; /* key of its request */
	__u64 victim_need;  /* the least goes */
	__s64 owned;        /* translations of this owner */
	__u32 owner;
	__u32 place;   /* in nat_place_map, of the victim */
	__u32 victims; /* that were looked at; 0: there was room */
	__u32 client_time;
	/* What the packet asks for: here, because the stack is short. */
	struct service service;
	struct service_choice choice;
};
ABI_SIZE(struct nat_work, 336);

/* Key of frag_map (LRU): ports of a fragmented datagram, kept from its first fragment. */
struct frag_key {
	struct addr saddr;
	struct addr daddr;
	__be32 id;
	__u8 proto;
	__u8 pad[3];
};
ABI_SIZE(struct frag_key, 40);

struct frag_ports {
	__be16 sport;
	__be16 dport;
};
ABI_SIZE(struct frag_ports, 4);

/* ---- socket acceleration -------------------------------------------------------------------- */

/* Key of accel_map (sockhash; user space reads the socket's cookie as value) and of accel_peer_map:
 * the connection as a TCP socket of a pod sees it.  The peer's key is this one with the ends
 * exchanged and opener inverted, so two sockets match only if one of them opened the connection and
 * the other accepted it. */
struct accel_key {
	struct addr local;
	struct addr remote;
	__be16 local_port;
	__be16 remote_port;
	__u32 opener; /* 1: this socket opened the connection, 0: it accepted it */
};
ABI_SIZE(struct accel_key, 40);

/* Value of accel_peer_map (LRU): what a socket must know about its peer.  Written when the peer is
 * established, deleted when the socket has read it.  Without it a direction stays with packets. */
struct accel_peer {
	__u64 sock; /* kernel pointer: valid only while cookie, ports and state agree */
	__u64 cookie;
	__u64 netns_cookie;
};
ABI_SIZE(struct accel_peer, 24);

enum accel_state {
	ACCEL_UNDECIDED, /* has not sent anything yet */
	ACCEL_REDIRECTING,
	ACCEL_PACKETS, /* final: bytes went by packet, none may overtake them */
};

/* Value of accel_sock (socket storage): the direction in which this socket sends. */
struct accel_direction {
	struct accel_key peer_key;
	struct accel_peer peer; /* valid when ACCEL_REDIRECTING */
	__u64 peer_prot;        /* the peer's operations; they change if kernel TLS is put on top */
	__u64 queued_bytes;     /* memory sent to the peer since its queue was last seen empty */
	__u32 revision;         /* node_state.revision under which policy last said yes */
	__u16 slot;             /* of the sender's endpoint */
	__u16 peer_slot;
	__u32 state; /* enum accel_state */
	__u32 pad;
};
ABI_SIZE(struct accel_direction, 96);

/* How much may wait unread in a receiver's queue before the sender goes back to packets, and the
 * memory that a message needs there beside its bytes (struct sk_msg has about 750 bytes and comes
 * from the kmalloc-1k cache). */
#define ACCEL_QUEUE_MAX    8388608 /* bytes: 8 MiB */
#define ACCEL_MESSAGE_COST 1024

/* ---- TCP connections ------------------------------------------------------------------------ */

#define TCP_SOCKETS 16384 /* a power of two */

/* Value of tcp_map, an array in which a socket has one of TCP_PLACES places by its cookie: what the
 * socket itself does not keep until it closes. */
struct tcp_socket {
	__u64 cookie;         /* 0: the place is free */
	__u64 start_ns;       /* CLOCK_MONOTONIC: SYN sent, or handshake done; 0: not yet */
	__u64 accel_sent;     /* bytes that went from socket to socket */
	__u64 accel_received; /* written by the peer */
	struct addr service;  /* the service that the program asked for; all zero: none */
	__be16 service_port;
	__u16 slot;         /* of the endpoint */
	__u32 handshake_us; /* from the SYN to its answer; 0: not known, or it accepted */
};
ABI_SIZE(struct tcp_socket, 56);

#define TCP_PLACES 4

/* What tcp_event_map (ring buffer) carries: one end of a TCP connection that has closed, as the
 * socket of a pod saw it. */
struct tcp_event {
	__u64 time_ns;      /* CLOCK_MONOTONIC */
	__u64 start_ns;     /* 0: not known */
	__u64 netns_cookie; /* of the socket */
	__u64 sent;         /* payload in bytes, by packet, without what was sent again */
	__u64 received;
	__u64 accel_sent; /* payload from socket to socket */
	__u64 accel_received;
	struct flow flow; /* saddr and sport are the socket's own */
	struct addr service;
	__be16 service_port;
	__u16 slot; /* of the endpoint when the connection began */
	__u32 srtt_us;
	__u32 retransmits;  /* segments */
	__u32 segments_out; /* with and without payload */
	__u32 segments_in;
	__u32 handshake_us;
	__u32 error;    /* errno of the socket, 0: none */
	__u8 old_state; /* BPF_TCP_*: before it closed */
	__u8 opener;    /* 1: this end called connect() */
	__u8 fin_sent;  /* 1: this end closed in order */
	__u8 fin_received;
};
ABI_SIZE(struct tcp_event, 144);

/* ---- counters and events -------------------------------------------------------------------- */

/* Number, name, text for people.  The enum, the counters and the CLI use this table.  Numbers are
 * never used again. */
#define DROP_REASONS(X)                                                                            \
	X(1, TRUNCATED, "packet shorter than its headers say")                                     \
	X(2, SPOOFED_ADDRESS, "source address is not the pod's own")                               \
	X(3, SPOOFED_MAC, "source MAC is not the pod's own")                                       \
	X(4, UNKNOWN_PROTOCOL, "not IPv4, IPv6 or ARP")                                            \
	X(5, BAD_HEADER, "malformed or forbidden header")                                          \
	X(6, EGRESS_DENIED, "egress policy of the sender does not allow it")                       \
	X(7, INGRESS_DENIED, "ingress policy of the receiver does not allow it")                   \
	X(8, NOT_OPENED, "answer to a connection that was never opened")                           \
	X(9, FRAGMENT, "fragment whose first part was not seen")                                   \
	X(10, NO_SERVICE, "service address without such a port")                                   \
	X(11, NO_BACKEND, "service without a ready endpoint")                                      \
	X(12, NO_ENDPOINT, "no pod has this address")                                              \
	X(13, UNRELATED_ERROR, "ICMP error that belongs to no connection")                         \
	X(14, NAT_FULL, "no room to remember a service translation")                               \
	X(15, REWRITE_FAILED, "packet could not be rewritten or redirected")                       \
	X(16, RATE_LIMITED, "more neighbours asked for than a pod may")                            \
	X(17, NO_LOCAL_BACKEND, "service without an endpoint on this node")                        \
	X(18, SOURCE_RANGE, "client is not in loadBalancerSourceRanges")                           \
	X(19, NO_ROUTE, "the node has no route to the destination")                                \
	X(20, TOO_BIG, "packet does not fit into the route's MTU")                                 \
	X(21, TTL_EXCEEDED, "packet has passed too many routers")                                  \
	X(22, NO_MASQUERADE, "what leaves the cluster must be TCP, UDP, SCTP or ping")             \
	X(23, TUNNEL_NETWORK, "tunnel packet of another network")                                  \
	X(24, TUNNEL_SOURCE, "source address is not of the node that sent it through the tunnel")  \
	X(25, NO_SNAT_PORT, "no source port is free for this destination")                         \
	X(26, TUNNEL_PORT, "UDP port of the tunnel between nodes, which pods may not use outside") \
	X(27, BANDWIDTH, "more than the pod's bandwidth")                                          \
	X(28, NO_KEY, "strict encryption, and no key of the other node is known")                  \
	X(29, NOT_ENCRYPTED, "strict encryption, and another node sent it in clear")               \
	X(30, DSR_SOURCE, "client's packet in the tunnel, not from a known node or a client")

#define X(num, name, text) DROP_##name = (num),
enum drop_reason { DROP_NONE, DROP_REASONS(X) DROP_REASON_COUNT };
#undef X

/* Counted events without a dropped packet. */
#define NOTICES(X)                                                                           \
	X(0, CT_FULL, "connection table full: flow went on without an entry")                \
	X(1, EVENTS_LOST, "event not sent: ring full or rate limit")                         \
	X(2, FRAGMENT_FULL, "fragment table could not be written")                           \
	X(3, SENDMSG_FULL, "service address of a socket could not be kept")                  \
	X(4, ACCEL_FULL, "socket not accelerated: table full, or in another's sockmap")      \
	X(5, ACCEL_LATE, "not accelerated: a byte was sent before both ends were ready")     \
	X(6, ACCEL_POLICY, "acceleration ended: policy or an endpoint changed")              \
	X(7, ACCEL_PEER, "acceleration ended: the peer is closing or was changed")           \
	X(8, ACCEL_QUEUE, "acceleration ended: the receiver does not keep up")               \
	X(9, ACCEL_MEMORY, "acceleration ended: TCP is short of memory")                     \
	X(10, WOULD_DROP, "policy would drop it: passed, an audited end")                    \
	X(11, TCP_LOST, "TCP connection not reported: ring full")                            \
	X(12, FLOW_LOST, "packet is in no flow: table full, and its pod has many new flows") \
	X(13, DNS_LOST, "answer of DNS not looked at: ring full or rate limit")              \
	X(14, XDP_FORWARDED, "packet for another node translated and sent on by XDP")

#define X(num, name, text) NOTICE_##name = (num),
enum notice { NOTICES(X) NOTICE_COUNT };
#undef X

/* metric_map is a per-CPU array of __u64: drop reasons first, notices after METRIC_NOTICES. */
#define METRIC_NOTICES 64
#define METRIC_COUNT   128

/* EVENT_AUDIT: passed, though reason says why an audited end would have dropped it.
 * EVENT_KERNEL_DROP: reason is the kernel's enum skb_drop_reason. */
enum event_type { EVENT_DROP = 1, EVENT_VERDICT = 2, EVENT_AUDIT = 3, EVENT_KERNEL_DROP = 4 };

/* What event_map (ring buffer) carries.  Not "event": that is libevent's. */
struct flow_event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 type;    /* enum event_type */
	__u32 reason;  /* enum drop_reason, but see EVENT_KERNEL_DROP */
	struct flow flow;
	__u32 src_identity;
	__u32 dst_identity;
	__u16 src_slot; /* 0: not a local endpoint */
	__u16 dst_slot;
	__u32 length; /* of the packet, bytes */
	__u8 tcp_flags;
	__u8 direction; /* enum direction: whose program saw it */
	__u16 bytes;    /* of the packet's beginning, behind this: see struct packet_event */
	__u8 pad[4];
};
ABI_SIZE(struct flow_event, 80);

/* The same with the first bytes of the frame, while node_state.event_bytes asks for them: as it was
 * when it was dropped, perhaps rewritten already. */
#define EVENT_BYTES_MAX 256
struct packet_event {
	struct flow_event event;
	__u8 bytes[EVENT_BYTES_MAX];
};
ABI_SIZE(struct packet_event, 336);

/* Limits for each CPU and second: events of all endpoints together (those above the limit are
 * counted as NOTICE_EVENTS_LOST), and neighbour messages (ARP, IPv6 discovery) from one endpoint to
 * the host. */
#define EVENT_RATE     1000
#define NEIGHBOUR_RATE 100

/* Value of budget_map, per CPU, indexed by slot; slot 0 counts the events of all. */
struct endpoint_budget {
	__u64 second; /* the counters are about this one */
	__u32 events;
	__u32 neighbours;
	__u32 flows;
	__u32 dns;
};
ABI_SIZE(struct endpoint_budget, 24);

/* New entries of the kernel's neighbour table that all endpoints together may cause in a second.
 * The table has room for 1024 by default, and an entry without an answer stays for 3 s. */
#define NEIGHBOUR_ENTRY_RATE 128
#define NEIGHBOUR_RECENT     8

/* Value of neighbour_map, indexed by slot; slot 0 counts the entries of all. */
struct neighbour_share {
	__u64 second; /* the counter is about this one */
	__u32 entries;
	__u32 pad;
	/* Destinations of the last packets; the last bits of an address choose its place. */
	struct addr recent[NEIGHBOUR_RECENT];
};
ABI_SIZE(struct neighbour_share, 144);

#endif
