/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flows without connections become flows of the log: some seconds after their last packet, once a
 * minute while they go on, when one of their addresses is about to leave its owner, and when they
 * make room for others.
 */
#define LOG_MODULE "flow"
#include "agent/flow/flow_passed.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <string.h>

#include "agent/flow/flow_internal.h"
#include "agent/flow/flow_metric.h"
#include "datapath/maps.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/log.h"

#define LOOK_SECONDS    2
#define EPHEMERAL_FIRST 32768

struct flow_passed {
	struct flow_passed_options options;
	struct event *look;
};

/* Which end of the report opened the flow: the one that sent first, unless that was an answer after
 * a silence. */
static int opener_of(const struct flow *flow)
{
	return flow->proto == IPPROTO_UDP && ntohs(flow->sport) < EPHEMERAL_FIRST &&
	       ntohs(flow->dport) >= EPHEMERAL_FIRST;
}

static void entry_fill(struct flow_entry *entry, const struct passed_flow *flow, bool open)
{
	const int opener = opener_of(&flow->flow);

	entry->time_ns = (int64_t)flow->last_ns + clock_real_offset();
	entry->duration_ns = (int64_t)(flow->last_ns - flow->first_ns);
	entry->flow = flow->flow;
	if (opener) {
		entry->flow.saddr = flow->flow.daddr;
		entry->flow.daddr = flow->flow.saddr;
		entry->flow.sport = flow->flow.dport;
		entry->flow.dport = flow->flow.sport;
	}
	for (int end = 0; end < 2; end++) {
		entry->bytes[end] = flow->bytes[end ^ opener];
		entry->segments[end] = flow->packets[end ^ opener];
	}
	entry->icmp_type = flow->icmp_type;
	entry->open = open;
}

/* Each end on this node has a flow of its own, as for connections. */
static void end_note(struct flow_passed *passed, const struct passed_flow *flow, bool open,
		     enum flow_end own, uint16_t slot)
{
	const struct flow_passed_options *options = &passed->options;
	struct flow_entry *entry = flow_log_add(options->log, slot);
	const struct service_key key = { .addr = flow->service,
					 .port = flow->service_port,
					 .proto = flow->flow.proto };
	/* Only the end that sent first can know it. */
	const struct service_key *service =
		own == FLOW_SOURCE && key.port && !opener_of(&flow->flow) ? &key : NULL;

	entry_fill(entry, flow, open);
	entry->direction = own == FLOW_SOURCE ? DIR_EGRESS : DIR_INGRESS;
	flow_log_set_ends(options->log, entry, flow->first_ns, service);
	if (service)
		flow_log_use_service(options->log, entry, service, !flow->translated);
	flow_metrics_add(options->metrics, entry, 1);
}

void flow_passed_note(struct flow_passed *passed, const struct passed_flow *flow, bool open)
{
	const struct addr *ends[] = { &flow->flow.saddr, &flow->flow.daddr };
	const int opener = opener_of(&flow->flow);
	uint16_t slots[2];

	for (int end = FLOW_SOURCE; end <= FLOW_DESTINATION; end++) {
		struct flow_who who =
			flow_names_addr(passed->options.names, ends[end ^ opener], flow->first_ns);

		flow_name_drop(passed->options.names, who.name);
		slots[end] = who.slot;
	}
	for (int end = FLOW_SOURCE; end <= FLOW_DESTINATION; end++) {
		if (slots[end])
			end_note(passed, flow, open, (enum flow_end)end,
				 slots[FLOW_SOURCE] ? slots[FLOW_SOURCE] : slots[end]);
	}
}

static void on_flow(const struct passed_flow *flow, bool open, void *arg)
{
	flow_passed_note(arg, flow, open);
}

static void flows_take(struct flow_passed *passed, const struct addr *addresses, size_t count)
{
	struct passed_query query = {
		.now_ns = now_ns(),
		.addresses = addresses,
		.count = count,
		.each = on_flow,
		.arg = passed,
	};
	int ret = passed_flows_take(passed->options.datapath, &query);

	if (ret)
		log_warn("read passed_map: %s", strerror(-ret));
}

void flow_passed_leave(struct flow_passed *passed, const struct addr *addresses, size_t count)
{
	if (count)
		flows_take(passed, addresses, count);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	flows_take(arg, NULL, 0);
}

/* Only this bit of the node's flags is ours; only this thread writes them. */
struct flow_passed *flow_passed_new(const struct flow_passed_options *options)
{
	static const struct timeval period = { .tv_sec = LOOK_SECONDS };
	struct node_state *node = maps_node(options->datapath);
	struct flow_passed *passed = xcalloc(1, sizeof(*passed));
	int ret;

	passed->options = *options;
	passed->look = event_new(options->base, -1, EV_PERSIST, on_look, passed);
	if (options->off) {
		__atomic_and_fetch(&node->flags, ~(uint32_t)NODE_PASSED, __ATOMIC_RELAXED);
		return passed;
	}
	ret = passed_flows_recover(options->datapath);
	if (ret)
		log_warn("read passed_map: %s", strerror(-ret));
	event_add(passed->look, &period);
	__atomic_or_fetch(&node->flags, NODE_PASSED, __ATOMIC_RELAXED);
	return passed;
}

void flow_passed_free(struct flow_passed *passed)
{
	if (!passed)
		return;
	event_free(passed->look);
	free(passed);
}
