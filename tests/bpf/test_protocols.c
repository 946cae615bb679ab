/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions 6 and 7: flows of protocols other than TCP, and errors about flows. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>

#include "harness/lab.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define INGRESS ENDPOINT_INGRESS_ISOLATED
#define EGRESS  ENDPOINT_EGRESS_ISOLATED

/* ---- 6: other protocols --------------------------------------------------------------------- */

static void test_datagrams_get_answers(void **state)
{
	struct ct_entry entry;

	(void)state;
	isolate(POD_A, INGRESS | EGRESS);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_UDP, 53);
	allow(POD_A, DIR_EGRESS, OUTSIDE, IPPROTO_UDP, 53);
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 53, 40000));
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	PASSES(UDP(POD_B, POD_A, 53, 40000));
	PASSES(UDP(POD_A, OUTSIDE, 40000, 53));
	PASSES(UDP(OUTSIDE, POD_A, 53, 40000));
	assert_true(lab_connection(POD_A, 40000, POD_B, 53, IPPROTO_UDP, &entry));
	assert_true(entry.flags & CT_REPLIED);
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 53, 40001));
	DROPS(INGRESS_DENIED, UDP(POD_C, POD_A, 53, 40000));
	DROPS(EGRESS_DENIED, UDP(POD_A, POD_B, 40000, 54));
	forbid(POD_A, DIR_EGRESS, POD_B);
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 53, 40000));
	PASSES(UDP(OUTSIDE, POD_A, 53, 40000));
}

static void test_a_datagram_flow_ends_by_silence(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	lab_connection_age(POD_A, 40000, POD_B, 53, IPPROTO_UDP,
			   CT_OTHER_UNREPLIED_NS + NS_PER_SEC);
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 53, 40000));
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	PASSES(UDP(POD_B, POD_A, 53, 40000));
	lab_connection_age(POD_A, 40000, POD_B, 53, IPPROTO_UDP,
			   CT_OTHER_UNREPLIED_NS + NS_PER_SEC);
	PASSES(UDP(POD_B, POD_A, 53, 40000));
	lab_connection_age(POD_A, 40000, POD_B, 53, IPPROTO_UDP, CT_OTHER_REPLIED_NS + NS_PER_SEC);
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 53, 40000));
}

/* The answers of a request that policy let through are not openings of the other end's own, or the
 * flow would go on by them when policy has changed. */
static void test_answers_that_nobody_isolates_open_nothing(void **state)
{
	static const uint8_t protos[] = { IPPROTO_UDP, IPPROTO_SCTP };
	struct ct_entry entry;

	(void)state;
	isolate(POD_B, INGRESS);
	for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
		struct segment request = { UDP(POD_A, POD_B, 40000, 80), .chunk = 1 };
		struct segment answer = { UDP(POD_B, POD_A, 80, 40000), .chunk = 2 };

		request.proto = answer.proto = protos[i];
		allow(POD_B, DIR_INGRESS, POD_A, protos[i], 80);
		lab_expect(&request, DROP_NONE, __FILE__, __LINE__);
		lab_expect(&answer, DROP_NONE, __FILE__, __LINE__);
		assert_false(lab_connection(POD_A, 40000, POD_B, 80, protos[i], &entry));
		forbid(POD_B, DIR_INGRESS, POD_A);
		request.chunk = 0;
		lab_expect(&request, DROP_INGRESS_DENIED, __FILE__, __LINE__);
	}
	/* What B begins is answered. */
	PASSES(UDP(POD_B, POD_A, 80, 40001));
	PASSES(UDP(POD_A, POD_B, 40001, 80));
}

static void test_both_may_begin_with_the_same_ports(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS | EGRESS);
	isolate(POD_B, INGRESS | EGRESS);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_UDP, 123);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_UDP, 123);
	PASSES(UDP(POD_A, POD_B, 123, 123));
	PASSES(UDP(POD_B, POD_A, 123, 123));
	/* Once only B may begin, its packets make the flow its own. */
	forbid(POD_A, DIR_EGRESS, POD_B);
	allow(POD_B, DIR_EGRESS, POD_A, IPPROTO_UDP, 123);
	allow(POD_A, DIR_INGRESS, POD_B, IPPROTO_UDP, 123);
	DROPS(EGRESS_DENIED, UDP(POD_A, POD_B, 123, 123));
	PASSES(UDP(POD_B, POD_A, 123, 123));
	PASSES(UDP(POD_A, POD_B, 123, 123));
}

static void test_echo_replies_answer_requests_and_open_nothing(void **state)
{
	struct ct_entry entry;

	(void)state;
	isolate(POD_A, INGRESS);
	DROPS(INGRESS_DENIED, ECHO_REPLY(POD_B, POD_A, 7));
	PASSES(ECHO_REQUEST(POD_A, POD_B, 7));
	PASSES(ECHO_REPLY(POD_B, POD_A, 7));
	DROPS(INGRESS_DENIED, ECHO_REPLY(POD_B, POD_A, 8));
	DROPS(INGRESS_DENIED, ECHO_REQUEST(POD_B, POD_A, 7));
	PASSES(ECHO_REPLY(POD_A, POD_B, 9));
	DROPS(INGRESS_DENIED, ECHO_REQUEST(POD_B, POD_A, 9));
	assert_false(lab_connection(POD_A, 0, POD_B, 9, IPPROTO_ICMP, &entry));
}

#define ICMP(from_, to_, v4_type_, v6_type_)                                                 \
	.from = at(from_), .to = at(to_), .proto = lab.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, \
	.icmp_type = lab.ipv6 ? (v6_type_) : (v4_type_)
/* Without an identifier: timestamps of IPv4, node information of IPv6. */
#define QUERY(from_, to_)    ICMP(from_, to_, 13, 139)
#define RESPONSE(from_, to_) ICMP(from_, to_, 14, 140)

static void test_only_replies_answer_an_echo_with_identifier_0(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	PASSES(ECHO_REQUEST(POD_A, POD_B, 0));
	PASSES(ECHO_REPLY(POD_B, POD_A, 0));
	DROPS(INGRESS_DENIED, ECHO_REQUEST(POD_B, POD_A, 0));
	DROPS(INGRESS_DENIED, QUERY(POD_B, POD_A));
	DROPS(INGRESS_DENIED, ICMP(POD_B, POD_A, 200, 200));
	PASSES(ECHO_REQUEST(POD_A, POD_B, 0));
	/* A reply makes no entry that lets a request in. */
	PASSES(ECHO_REPLY(POD_A, POD_C, 0));
	DROPS(INGRESS_DENIED, ECHO_REQUEST(POD_C, POD_A, 0));
	DROPS(INGRESS_DENIED, QUERY(POD_C, POD_A));
}

static void test_only_responses_answer_a_query_without_identifier(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	DROPS(INGRESS_DENIED, RESPONSE(POD_B, POD_A));
	PASSES(QUERY(POD_A, POD_B));
	PASSES(RESPONSE(POD_B, POD_A));
	DROPS(INGRESS_DENIED, QUERY(POD_B, POD_A));
	DROPS(INGRESS_DENIED, ECHO_REQUEST(POD_B, POD_A, 0));
	PASSES(RESPONSE(POD_A, POD_C));
	DROPS(INGRESS_DENIED, QUERY(POD_C, POD_A));
}

#define SCTP(from_, to_, sport_, dport_, chunk_)                                                   \
	.from = at(from_), .to = at(to_), .proto = IPPROTO_SCTP, .sport = sport_, .dport = dport_, \
	.chunk = chunk_

static void test_an_association_opens_by_its_init(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	PASSES(SCTP(POD_A, POD_B, 40000, 80, 1));
	PASSES(SCTP(POD_B, POD_A, 80, 40000, 2)); /* INIT ACK */
	PASSES(SCTP(POD_A, POD_B, 40000, 80, 10));
	PASSES(SCTP(POD_B, POD_A, 80, 40000, 11));
	/* An association of its own is not an answer. */
	DROPS(INGRESS_DENIED, SCTP(POD_B, POD_A, 80, 40000, 1));
	PASSES(SCTP(POD_B, POD_A, 80, 40000, 0));
}

static void test_protocols_without_ports_are_flows_too(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	DROPS(INGRESS_DENIED, .from = at(POD_B), .to = at(POD_A), .proto = 47, .payload = 20);
	PASSES(.from = at(POD_A), .to = at(POD_B), .proto = 47, .payload = 20);
	PASSES(.from = at(POD_B), .to = at(POD_A), .proto = 47, .payload = 20);
	isolate(POD_B, INGRESS);
	allow(POD_B, DIR_INGRESS, POD_C, 0, 0);
	DROPS(INGRESS_DENIED, .from = at(POD_A), .to = at(POD_B), .proto = 50, .payload = 20);
	PASSES(.from = at(POD_C), .to = at(POD_B), .proto = 50, .payload = 20);
}

/* ---- 7: ICMP errors ------------------------------------------------------------------------- */

static void test_an_error_about_a_known_flow_passes(void **state)
{
	const struct segment tcp = { TCP(POD_A, POD_B, 40000, 80, ACK) };
	const struct segment udp = { UDP(POD_A, OUTSIDE, 40000, 53) };
	const struct segment answer = { TCP(POD_A, OUTSIDE, 80, 40000, ACK) };
	const struct segment echo = { ECHO_REQUEST(POD_A, POD_B, 7) };

	(void)state;
	isolate(POD_A, INGRESS | EGRESS);
	allow(POD_A, DIR_EGRESS, ANYONE, 0, 0);
	allow(POD_A, DIR_INGRESS, OUTSIDE, IPPROTO_TCP, 80);
	lab_handshake();
	PASSES(PORT_UNREACHABLE(POD_B, POD_A), .embedded = &tcp);
	/* by a router on the way */
	PASSES(PORT_UNREACHABLE(ELSEWHERE, POD_A), .embedded = &tcp);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(ELSEWHERE, POD_A), .embedded = &udp);
	PASSES(UDP(POD_A, OUTSIDE, 40000, 53));
	PASSES(PORT_UNREACHABLE(ELSEWHERE, POD_A), .embedded = &udp);
	/* about an answer of the receiver */
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(OUTSIDE, POD_A), .embedded = &answer);
	PASSES(TCP(OUTSIDE, POD_A, 40000, 80, SYN));
	PASSES(PORT_UNREACHABLE(OUTSIDE, POD_A), .embedded = &answer);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .embedded = &echo);
	PASSES(ECHO_REQUEST(POD_A, POD_B, 7));
	PASSES(PORT_UNREACHABLE(POD_B, POD_A), .embedded = &echo);
}

static void test_an_error_must_speak_of_the_receivers_own_packet(void **state)
{
	const struct segment foreign = { TCP(POD_C, POD_B, 40000, 80, ACK) };
	const struct segment reversed = { TCP(POD_B, POD_A, 80, 40000, ACK) };
	struct segment fragment = { UDP(POD_A, POD_B, 40000, 80), .offset = 64, .payload = 32 };

	(void)state;
	isolate(POD_A, INGRESS);
	isolate(POD_C, INGRESS);
	lab_handshake();
	PASSES(TCP(POD_C, POD_B, 40000, 80, SYN));
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .embedded = &foreign);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .embedded = &reversed);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .payload = 60);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .payload = 4);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .embedded = &fragment);
	/* The node's own errors (a path too narrow) need no flow. */
	PASSES(PORT_UNREACHABLE(NODE, POD_A), .embedded = &foreign);
}

/* An error of this kind can lower a path MTU or end a connected UDP socket. */
static void test_a_pod_speaks_only_of_flows_to_itself(void **state)
{
	const struct segment tcp = { TCP(POD_A, POD_B, 40000, 80, ACK) };
	const struct segment udp = { UDP(POD_A, OUTSIDE, 40000, 53) };
	const struct segment of_node = { TCP(NODE, OUTSIDE, 40000, 443, ACK) };
	const struct segment own = { UDP(POD_A, POD_C, 40000, 53) };

	(void)state;
	/* Policy lets nobody but B answer; it says nothing of errors by others. */
	for (int isolated = 0; isolated < 2; isolated++) {
		if (isolated)
			isolate(POD_A, INGRESS | EGRESS);
		allow(POD_A, DIR_EGRESS, ANYONE, 0, 0);
		lab_handshake();
		PASSES(UDP(POD_A, OUTSIDE, 40000, 53));
		PASSES(UDP(POD_A, POD_C, 40000, 53));
		DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_C, POD_A), .embedded = &tcp);
		DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_C, POD_A), .embedded = &udp);
		DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_C, POD_A), .payload = 4);
		PASSES(PORT_UNREACHABLE(POD_C, POD_A), .embedded = &own);
		PASSES(PORT_UNREACHABLE(POD_B, POD_A), .embedded = &tcp);
		PASSES(PORT_UNREACHABLE(ELSEWHERE, POD_A), .embedded = &tcp);
	}
	/* Nor to the node or beyond. */
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_C, NODE), .embedded = &of_node);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_C, OUTSIDE), .embedded = &of_node);
	/* Audit mode is about policy, not about forgery. */
	isolate(POD_A, INGRESS | ENDPOINT_AUDIT);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_C, POD_A), .embedded = &tcp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_datagrams_get_answers),
		BOTH_FAMILIES(test_a_datagram_flow_ends_by_silence),
		BOTH_FAMILIES(test_answers_that_nobody_isolates_open_nothing),
		BOTH_FAMILIES(test_both_may_begin_with_the_same_ports),
		BOTH_FAMILIES(test_echo_replies_answer_requests_and_open_nothing),
		BOTH_FAMILIES(test_only_replies_answer_an_echo_with_identifier_0),
		BOTH_FAMILIES(test_only_responses_answer_a_query_without_identifier),
		BOTH_FAMILIES(test_an_association_opens_by_its_init),
		BOTH_FAMILIES(test_protocols_without_ports_are_flows_too),
		BOTH_FAMILIES(test_an_error_about_a_known_flow_passes),
		BOTH_FAMILIES(test_an_error_must_speak_of_the_receivers_own_packet),
		BOTH_FAMILIES(test_a_pod_speaks_only_of_flows_to_itself),
	};

	return LAB_RUN(tests);
}
