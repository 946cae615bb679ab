/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node with three pods and the loaded datapath, whose programs are run packet by packet
 * (BPF_PROG_TEST_RUN).  What a case says is who sends what to whom and what becomes of it; every
 * case runs for IPv4 and IPv6.
 */
#ifndef TENDRIL_TESTS_HARNESS_LAB_H
#define TENDRIL_TESTS_HARNESS_LAB_H

#include "datapath/maps.h"
#include "harness/entry.h"
#include "harness/frame.h"
#include "harness/pods.h"

enum host {
	POD_A,
	POD_B,
	POD_C,
	NODE,      /* the gateway's address */
	OUTSIDE,   /* a store address that a CIDR in a policy may name */
	ELSEWHERE, /* another */
	NOBODY,    /* an address of the pod range without a pod */
	SERVICE,
	ANYONE, /* as a policy's peer */
};

struct lab {
	struct datapath *datapath;
	struct pods *pods;
	int from_pod;
	int to_pod;
	bool ipv6;          /* the family of the case that runs */
	bool attached;      /* the programs see live sockets, too, from now on */
	const char *cgroup; /* whose sockets use services; NULL: none.  Set before lab_setup() */
};

extern struct lab lab;

/* cmocka fixtures: for the group, and for each case; a case's state is NULL for IPv4. */
int lab_setup(void **state);
int lab_setup_pods(size_t count); /* as lab_setup(), which makes three */
int lab_teardown(void **state);
int lab_reset(void **state); /* no policy, no service, no state left */

/* Entries of a cmocka table for both families; AFTER: with another reset, which calls lab_reset().
 */
#define BOTH_FAMILIES_AFTER(reset, test)                           \
	{ #test " (IPv4)", test, reset, NULL, NULL },              \
	{                                                          \
#test " (IPv6)", test, reset, NULL, (void *)"IPv6" \
	}
#define BOTH_FAMILIES(test) BOTH_FAMILIES_AFTER(lab_reset, test)
int lab_run(const char *group, const void *tests, size_t count);
#define LAB_RUN(tests) lab_run(__FILE__, tests, ARRAY_SIZE(tests))

struct addr at(enum host host);
struct addr outside_addr(bool ipv6, uint32_t v4, uint32_t v6_head, uint32_t v6_tail);
bool lab_is_pod(enum host host);
uint32_t identity_of(enum host host);
int lab_map(const char *name); /* descriptor of a map, cached */

/* ---- policy ---- */

/* Isolates the pod in these directions (ENDPOINT_*_ISOLATED), with no rule yet. */
void isolate(enum host pod, uint32_t flags);
/* Adds a rule to the pod's policy; port 0: all ports of proto, proto 0: everything. */
void allow(enum host pod, enum direction direction, enum host peer, uint8_t proto, uint16_t port);
/* Takes the pod's rules for a peer away again; flows learn of it. */
void forbid(enum host pod, enum direction direction, enum host peer);

/* ---- packets ---- */

struct outcome {
	int action; /* TC_ACT_* */
	enum drop_reason reason;
	uint16_t received_by; /* slot whose receive counter moved */
	uint64_t departs_ns;  /* not before this time; 0: at once */
	struct frame frame;   /* as it left the program */
};

/* Runs a frame through a program, on this device. */
struct outcome lab_run_program(int program, const struct frame *frame, uint32_t ifindex,
			       uint32_t in_ifindex);
/* Runs a frame through from_pod, as sent by the pod ... */
struct outcome lab_from_pod(enum host pod, const struct frame *frame);
/* ... or through to_pod; in_ifindex: the device it came to the node by, 0: the node made it. */
struct outcome lab_to_pod(const struct frame *frame, uint32_t in_ifindex);
#define UPLINK 77u
/* The same on the pod's own device, where another route than the agent's leads. */
struct outcome lab_to_pod_device(enum host pod, const struct frame *frame, uint32_t in_ifindex);

/* The frame of a segment with the right MACs for its sender. */
struct frame lab_frame(const struct segment *segment);
/* Sends a segment the way its sender's packets go: from_pod for a pod, to_pod for others. */
struct outcome lab_send(const struct segment *segment);

/* A segment's fate as one expression; a failure shows the segment, both fates and the bytes. */
void lab_expect(const struct segment *segment, enum drop_reason want, const char *file, int line);
#define PASSES(...) lab_expect(&(struct segment){ __VA_ARGS__ }, DROP_NONE, __FILE__, __LINE__)
#define DROPS(reason, ...) \
	lab_expect(&(struct segment){ __VA_ARGS__ }, DROP_##reason, __FILE__, __LINE__)
void lab_expect_frame(const struct outcome *outcome, const struct frame *sent,
		      enum drop_reason want, const char *file, int line);
#define FRAME_PASSES(pod, sent)        FRAME_IS(lab_from_pod(pod, sent), sent, NONE)
#define FRAME_DROPS(reason, pod, sent) FRAME_IS(lab_from_pod(pod, sent), sent, reason)
#define FRAME_IS(run, sent, reason)                                                   \
	do {                                                                          \
		struct outcome outcome_ = (run);                                      \
		lab_expect_frame(&outcome_, sent, DROP_##reason, __FILE__, __LINE__); \
	} while (0)

#define TCP(from_, to_, sport_, dport_, flags_)                                                   \
	.from = at(from_), .to = at(to_), .proto = IPPROTO_TCP, .sport = sport_, .dport = dport_, \
	.flags = flags_
#define UDP(from_, to_, sport_, dport_) \
	.from = at(from_), .to = at(to_), .proto = IPPROTO_UDP, .sport = sport_, .dport = dport_
#define ECHO_REQUEST(from_, to_, id_)                                                        \
	.from = at(from_), .to = at(to_), .proto = lab.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, \
	.sport = id_, .icmp_type = lab.ipv6 ? 128 : 8
#define ECHO_REPLY(from_, to_, id_)                                                          \
	.from = at(from_), .to = at(to_), .proto = lab.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, \
	.sport = id_, .icmp_type = lab.ipv6 ? 129 : 0
#define PORT_UNREACHABLE(from_, to_)                                                         \
	.from = at(from_), .to = at(to_), .proto = lab.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, \
	.icmp_type = lab.ipv6 ? 1 : 3, .icmp_code = lab.ipv6 ? 4 : 3

/* A opens a connection from port 40000 to B's port 80; the answer is let through. */
void lab_handshake(void);

/* ---- what is remembered ---- */

/* Waits until a flow has no conntrack entry; false: it has one still. */
bool lab_connection_ends(enum host a, uint16_t a_port, enum host b, uint16_t b_port, uint8_t proto);
/* The conntrack entry of a flow in either direction; false: none. */
bool lab_connection(enum host a, uint16_t a_port, enum host b, uint16_t b_port, uint8_t proto,
		    struct ct_entry *ret);
void lab_connection_age(enum host a, uint16_t a_port, enum host b, uint16_t b_port, uint8_t proto,
			uint64_t age_ns);
uint64_t lab_metric(unsigned int metric);

#endif
