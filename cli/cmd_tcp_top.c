/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril tcp top: how much pods send and receive by TCP, from what their sockets have counted at
 * two moments, and from the log for connections that have closed between them.
 */
#include <cjson/cJSON.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/agent_call.h"
#include "cli/flow_log.h"
#include "cli/output.h"
#include "cli/screen.h"
#include "cli/socket_list.h"
#include "cli/sums.h"
#include "lib/auto.h"
#include "lib/inet.h"

#define NAME_TEXT_MAX 1400
#define NAME_PART_MAX 600
/* The log is read again from before the last picture: it may tell of a connection a moment after
 * its end.  What was seen is kept longer than that, so that nothing counts twice. */
#define OVERLAP_SECONDS 2
#define KEEP_PICTURES   4

struct counters {
	double sent;
	double received;
	double retransmits;
	uint32_t picture; /* in which it was last seen */
	bool is_closed;
};

struct tcp_top {
	const struct arguments *args;
	struct socket_list *sockets;
	struct table seen; /* struct flow, the pod's own end first -> struct counters */
	struct sums sums;
	size_t limit;
	uint32_t picture;
	bool is_baseline; /* nothing was seen before: nothing counts yet */
};

/* A connection as the table of sums takes it; texts are borrowed. */
struct connection {
	struct flow flow;
	const char *pod;
	const char *peer;    /* its name, or its address */
	const char *service; /* NULL: none was asked for */
	struct counters now;
};

static bool connection_name(const struct arguments *args, const struct connection *connection,
			    char *buf, size_t size)
{
	const char *by = args->by ? args->by : "pod";

	if (strcmp(by, "service") == 0)
		snprintf(buf, size, "%s", connection->service ? connection->service : "");
	else if (strcmp(by, "namespace") == 0)
		snprintf(buf, size, "%.*s", (int)strcspn(connection->pod, "/"), connection->pod);
	else if (strcmp(by, "connection") == 0)
		snprintf(buf, size, "%s:%u > %s:%u", connection->pod, ntohs(connection->flow.sport),
			 connection->peer, ntohs(connection->flow.dport));
	else
		snprintf(buf, size, "%s", connection->pod);
	return *buf;
}

/* Counts what a connection has done since it was last seen. */
static void connection_add(struct tcp_top *top, const struct connection *connection)
{
	struct counters *seen = table_put(&top->seen, &connection->flow);
	struct counters before = *seen;
	const struct counters *now = &connection->now;
	bool is_counted = before.picture == top->picture;
	char name[NAME_TEXT_MAX];
	struct sum *sum;

	if (now->is_closed && before.is_closed && now->sent == before.sent &&
	    now->received == before.received)
		return; /* the log has told of it before */
	if (now->sent < before.sent || now->received < before.received)
		before = (struct counters){ 0 }; /* another one with the same ports */
	*seen = *now;
	seen->picture = top->picture;
	if (top->is_baseline || !connection_name(top->args, connection, name, sizeof(name)))
		return;
	sum = sum_of(&top->sums, name, strlen(name));
	sum->out += now->sent - before.sent;
	sum->in += now->received - before.received;
	sum->retransmits += now->retransmits - before.retransmits;
	sum->connections += !is_counted;
}

/* ---- what is open ---------------------------------------------------------------------------- */

static bool flow_parse(const char *own, const char *peer, double own_port, double peer_port,
		       struct flow *ret)
{
	*ret = (struct flow){ .sport = htons((uint16_t)own_port),
			      .dport = htons((uint16_t)peer_port),
			      .proto = IPPROTO_TCP };
	return addr_parse(own, &ret->saddr) == 0 && addr_parse(peer, &ret->daddr) == 0;
}

static void socket_add(struct tcp_top *top, const cJSON *socket)
{
	const char *state = member_text(socket, "state", "");
	const char *address = member_text(socket, "peerAddress", "");
	struct connection connection = {
		.pod = member_text(socket, "pod", ""),
		.peer = member_text(socket, "peer", address),
		.service = member_text(socket, "service", NULL),
		.now = { .sent = member_number(socket, "sent"),
			 .received = member_number(socket, "received"),
			 .retransmits = member_number(socket, "retransmits") },
	};

	if (strcmp(state, "LISTEN") == 0 || strcmp(state, "TIME-WAIT") == 0 ||
	    !flow_parse(member_text(socket, "address", ""), address, member_number(socket, "port"),
			member_number(socket, "peerPort"), &connection.flow))
		return;
	if (!addr_equal(&connection.flow.saddr, &connection.flow.daddr) &&
	    !addr_is_special(&connection.flow.daddr)) /* within the pod */
		connection_add(top, &connection);
}

/* ---- what has closed ------------------------------------------------------------------------- */

static bool is_connection(const cJSON *flow)
{
	return member_get(member_get(flow, "tendril"), "ended") != NULL;
}

static int closed_add(cJSON *flow, void *arg)
{
	struct tcp_top *top = arg;
	bool egress = strcmp(member_text(flow, "traffic_direction", ""), "EGRESS") == 0;
	const char *own = egress ? "source" : "destination",
		   *peer = egress ? "destination" : "source";
	const cJSON *service = egress ? member_get(flow, "destination_service") : NULL;
	const cJSON *ports = member_get(member_get(flow, "l4"), "TCP");
	char pod[NAME_PART_MAX], peer_name[NAME_PART_MAX], service_name[NAME_PART_MAX];
	struct connection connection = {
		.pod = flow_end_name(flow, own, pod, sizeof(pod)),
		.peer = flow_end_name(flow, peer, peer_name, sizeof(peer_name)),
		.service = service ? service_name : NULL,
		.now = { .sent = flow_number(flow, egress ? "source_bytes" : "destination_bytes"),
			 .received =
				 flow_number(flow, egress ? "destination_bytes" : "source_bytes"),
			 .retransmits = flow_number(flow, "retransmits"),
			 .is_closed = true },
	};

	snprintf(service_name, sizeof(service_name), "%s/%s", member_text(service, "namespace", ""),
		 member_text(service, "name", ""));
	if (flow_parse(flow_address(flow, own), flow_address(flow, peer),
		       member_number(ports, egress ? "source_port" : "destination_port"),
		       member_number(ports, egress ? "destination_port" : "source_port"),
		       &connection.flow))
		connection_add(top, &connection);
	return 0;
}

/* Forgets connections that no picture has shown for a while. */
static void seen_forget(struct tcp_top *top)
{
	const struct counters *counters;
	const void *key;
	size_t pos = 0;

	while ((counters = table_next(&top->seen, &pos, &key))) {
		if (top->picture - counters->picture > KEEP_PICTURES)
			table_del(&top->seen, key);
	}
}

/* ---- pictures -------------------------------------------------------------------------------- */

static const struct column columns[] = {
	{ "NAME", .member = "name" },
	{ "BYTES-OUT/S", .member = "bytesOut" },
	{ "BYTES-IN/S", .member = "bytesIn" },
	{ "CONNECTIONS", .member = "connections" },
	{ "RETRANSMITS", .member = "retransmits" },
};

static int sample(struct tcp_top *top, double seconds, struct errmsg *err)
{
	struct arguments log = *top->args;
	uint64_t left_out;
	char since[32];
	cJSON *sockets;
	const cJSON *socket;
	int ret = socket_list_read(top->sockets, &sockets, &left_out, err);

	if (ret)
		return ret;
	cJSON_ArrayForEach (socket, sockets)
		socket_add(top, socket);
	cJSON_Delete(sockets);
	snprintf(since, sizeof(since), "%.0fs", seconds + OVERLAP_SECONDS);
	log.since = since;
	ret = flow_log_read(&log, 0, is_connection, closed_add, top, err);
	return ret < 0 ? ret : 0;
}

static int draw(double seconds, void *arg, struct errmsg *err)
{
	struct tcp_top *top = arg;
	int ret;

	top->picture++;
	top->is_baseline = seconds == 0;
	sums_clear(&top->sums);
	ret = sample(top, seconds, err);
	if (!ret)
		ret = sums_sort(&top->sums, top->args, err);
	if (ret)
		return ret;
	seen_forget(top);
	if (!top->is_baseline)
		rows_print(top->args, sums_rows(&top->sums, screen_rows(top->limit, 1), seconds),
			   columns, ARRAY_SIZE(columns));
	return 0;
}

static bool by_is_known(const char *by)
{
	return !by || strcmp(by, "pod") == 0 || strcmp(by, "namespace") == 0 ||
	       strcmp(by, "service") == 0 || strcmp(by, "connection") == 0;
}

int cmd_tcp_top(const struct arguments *args, struct errmsg *err)
{
	struct tcp_top top = { .args = args };
	int ret = sums_limit(args, &top.limit, err);

	if (ret)
		return ret;
	if (!by_is_known(args->by))
		return misused(err, "--by %s: must be pod, namespace, service or connection",
			       args->by);
	top.sockets = socket_list_new(args);
	table_init(&top.seen, sizeof(struct flow), sizeof(struct counters));
	sums_init(&top.sums);
	ret = screen_run(args, draw, &top, err);
	sums_done(&top.sums);
	table_done(&top.seen);
	socket_list_free(top.sockets);
	return ret < 0 ? ret : EXIT_OK;
}
