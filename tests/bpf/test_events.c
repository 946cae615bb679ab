/* SPDX-License-Identifier: Apache-2.0 */
/* Events: what is told of drops and openings, to whom, and how often. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>

#include "harness/lab.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define INGRESS ENDPOINT_INGRESS_ISOLATED

static struct flow_event seen_event;
static uint8_t seen_bytes[EVENT_BYTES_MAX];
static unsigned int seen_events;

static void on_event(const struct flow_event *event, void *arg)
{
	(void)arg;
	seen_event = *event;
	memcpy(seen_bytes, event + 1, event->bytes);
	seen_events++;
}

static void events_drain(void)
{
	assert_true(events_consume(lab.datapath, on_event, NULL) >= 0);
}

static void test_a_drop_is_told_with_both_ends(void **state)
{
	struct endpoint_stats stats;

	(void)state;
	isolate(POD_B, INGRESS);
	events_drain();
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, SYN));
	events_drain();
	assert_int_equal(seen_event.type, EVENT_DROP);
	assert_int_equal(seen_event.reason, DROP_INGRESS_DENIED);
	assert_int_equal(seen_event.src_slot, lab.pods->pod[POD_A].slot);
	assert_int_equal(seen_event.dst_slot, lab.pods->pod[POD_B].slot);
	assert_int_equal(seen_event.src_identity, identity_of(POD_A));
	assert_int_equal(seen_event.dst_identity, identity_of(POD_B));
	assert_int_equal(seen_event.flow.dport, htons(80));
	assert_int_equal(seen_event.flow.proto, IPPROTO_TCP);
	assert_int_equal(seen_event.tcp_flags, SYN);
	assert_int_equal(endpoint_stats_get(lab.datapath, lab.pods->pod[POD_B].slot, &stats), 0);
	assert_int_equal(stats.drops, 1);
}

static void test_new_connections_are_told_while_someone_watches(void **state)
{
	(void)state;
	events_drain();
	seen_events = 0;
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	events_drain();
	assert_int_equal(seen_events, 0);
	maps_node(lab.datapath)->flags |= NODE_VERDICT_EVENTS;
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	PASSES(TCP(POD_A, POD_B, 40000, 80, ACK));
	events_drain();
	assert_int_equal(seen_events, 1);
	assert_int_equal(seen_event.type, EVENT_VERDICT);
	assert_int_equal(seen_event.reason, DROP_NONE);
}

static void test_events_have_a_budget_and_drops_are_counted_beyond_it(void **state)
{
	uint64_t lost = lab_metric(METRIC_NOTICES + NOTICE_EVENTS_LOST);

	(void)state;
	isolate(POD_B, INGRESS);
	/* More than a second can hold, whichever CPU and second they fall into. */
	for (int i = 0;
	     i < 5 * EVENT_RATE && lab_metric(METRIC_NOTICES + NOTICE_EVENTS_LOST) == lost; i++)
		DROPS(INGRESS_DENIED, UDP(POD_A, POD_B, 1, 2));
	assert_true(lab_metric(METRIC_NOTICES + NOTICE_EVENTS_LOST) > lost);
	events_drain();
}

/* Of each length that may be asked for, and of a packet that is shorter. */
static void test_an_event_carries_bytes_of_its_packet_while_someone_asks(void **state)
{
	static const uint32_t asked[] = { 0, 1, 54, EVENT_BYTES_MAX, EVENT_BYTES_MAX + 1, 9000 };
	struct node_state *node = maps_node(lab.datapath);
	struct frame sent =
		lab_frame(&(struct segment){ UDP(POD_A, POD_B, 40000, 53), .payload = 300 });

	(void)state;
	isolate(POD_B, INGRESS);
	events_drain();
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		node->event_bytes = asked[i];
		FRAME_DROPS(INGRESS_DENIED, POD_A, &sent);
		events_drain();
		assert_int_equal(seen_event.bytes,
				 asked[i] < EVENT_BYTES_MAX ? asked[i] : EVENT_BYTES_MAX);
		assert_int_equal(seen_event.length, sent.len);
		assert_memory_equal(seen_bytes, sent.bytes, seen_event.bytes);
	}
	node->event_bytes = EVENT_BYTES_MAX;
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, SYN));
	events_drain();
	assert_int_equal(seen_event.bytes, seen_event.length);
	node->event_bytes = 0;
}

static bool seen_from_c;

static void look_for_c(const struct flow_event *event, void *arg)
{
	(void)arg;
	seen_from_c |= event->src_slot == lab.pods->pod[POD_C].slot;
}

static void test_a_noisy_pod_does_not_hide_the_events_of_others(void **state)
{
	uint64_t lost = lab_metric(METRIC_NOTICES + NOTICE_EVENTS_LOST);
	int sent = 0;

	(void)state;
	isolate(POD_B, INGRESS);
	events_drain();
	while (lab_metric(METRIC_NOTICES + NOTICE_EVENTS_LOST) == lost) {
		assert_true(sent++ < 5 * EVENT_RATE);
		DROPS(INGRESS_DENIED, UDP(POD_A, POD_B, 1, 2));
	}
	seen_from_c = false;
	DROPS(INGRESS_DENIED, UDP(POD_C, POD_B, 1, 2));
	assert_true(events_consume(lab.datapath, look_for_c, NULL) >= 0);
	assert_true(seen_from_c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_a_drop_is_told_with_both_ends),
		BOTH_FAMILIES(test_new_connections_are_told_while_someone_watches),
		BOTH_FAMILIES(test_an_event_carries_bytes_of_its_packet_while_someone_asks),
		BOTH_FAMILIES(test_events_have_a_budget_and_drops_are_counted_beyond_it),
		BOTH_FAMILIES(test_a_noisy_pod_does_not_hide_the_events_of_others),
	};

	return LAB_RUN(tests);
}
