/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a packet of a client outside costs by itself (BPF_PROG_TEST_RUN), and what Maglev does:
 *
 *     packetbench [PACKETS]           20000
 *
 * Prints one JSON object.  Nanoseconds, medians, with 20 or so that the measuring takes:
 * "tc4", "xdp6", ...: a packet of a known connection to a backend on another node, by from_uplink
 * and by uplink_xdp; "open_random", "open_maglev": the first packet of one, by from_uplink.
 * "maglev_moved": the share, in percent, of the other backends' places that change hands when one
 * of 100 backends is lost; "maglev_uneven": how much more than its share the luckiest one has.
 * Needs root.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/lab.h"
#include "harness/lab_uplink.h"
#include "lib/auto.h"
#include "policy/objects/maglev.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define SERVICE_ID 5
#define PORT       30080
#define BACKENDS   100

static size_t packets = 20000;
static int from_uplink, uplink_xdp;

static void give_up(const char *why)
{
	fprintf(stderr, "packetbench: %s\n", why);
	exit(1);
}

/* ---- the service ---------------------------------------------------------------------------- */

static void backend_at(uint32_t index, enum host host)
{
	const struct backend_key key = { .service_id = SERVICE_ID, .index = index };
	const struct backend backend = { .addr = at(host), .port = htons(8080) };

	if (backend_map_set(lab.datapath, &key, &backend))
		give_up("backend");
}

static void serve(uint32_t table_size)
{
	const struct service service = { .id = SERVICE_ID,
					 .backends = 2,
					 .flags = SERVICE_HAS_ENDPOINTS,
					 .kind = NODE_PORT,
					 .table_size = table_size };
	const struct service_key key = { .addr = at(NODE),
					 .port = htons(PORT),
					 .proto = IPPROTO_TCP };

	for (uint32_t i = 0; i < 2; i++)
		backend_at(i, ELSEWHERE);
	for (uint32_t i = 0; i < table_size; i++)
		backend_at(BACKEND_TABLE + i, ELSEWHERE);
	if (service_map_set(lab.datapath, &key, &service))
		give_up("service");
}

/* ---- packets -------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The median time of a packet of a known connection, or, with opens, of a new one each time. */
static int run(int program, uint8_t flags, bool opens, int want)
{
	struct __sk_buff skb = { .ifindex = UPLINK_INDEX, .ingress_ifindex = UPLINK_INDEX };
	struct xdp_md md = { .ingress_ifindex = UPLINK_INDEX };
	struct segment segment = { TCP(OUTSIDE, NODE, 40000, PORT, flags), .payload = 64 };
	auto_free int *times = calloc(packets, sizeof(*times));
	struct frame frame, left;

	for (size_t i = 0; times && i < packets; i++) {
		LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.bytes,
			    .data_out = left.bytes, .data_size_out = sizeof(left.bytes));

		segment.sport = (uint16_t)(opens ? 1024 + i % 60000 : 40000);
		frame = lab_uplink_frame(&segment);
		md.data_end = options.data_size_in = (uint32_t)frame.len;
		options.ctx_in = program == uplink_xdp ? (void *)&md : (void *)&skb;
		options.ctx_size_in = program == uplink_xdp ? sizeof(md) : sizeof(skb);
		if (bpf_prog_test_run_opts(program, &options) || (int)options.retval != want)
			give_up("a packet has another fate");
		times[i] = (int)options.duration;
	}
	if (!times)
		give_up("no memory");
	qsort(times, packets, sizeof(*times), by_number);
	return times[packets / 2];
}

/* ---- Maglev --------------------------------------------------------------------------------- */

static void maglev_measure(double *ret_moved, double *ret_uneven)
{
	uint32_t size = maglev_size(BACKENDS), has[BACKENDS] = { 0 }, most = 0, kept = 0, moved = 0;
	auto_free uint32_t *before = calloc(size, sizeof(*before));
	auto_free uint32_t *after = calloc(size, sizeof(*after));
	struct backend backends[BACKENDS] = { 0 };

	if (!before || !after)
		give_up("no memory");
	for (uint32_t i = 0; i < BACKENDS; i++) {
		backends[i].addr = outside_addr(false, 0x0a010001 + i, 0, 0);
		backends[i].port = htons(8080);
	}
	maglev_fill(backends, BACKENDS, before, size);
	maglev_fill(backends, BACKENDS - 1, after, size); /* the last one is lost */
	for (uint32_t i = 0; i < size; i++) {
		has[before[i]]++;
		if (has[before[i]] > most)
			most = has[before[i]];
		if (before[i] == BACKENDS - 1)
			continue;
		kept++;
		moved += before[i] != after[i];
	}
	*ret_moved = 100.0 * moved / kept;
	*ret_uneven = 100.0 * most * BACKENDS / size - 100;
}

/* ---- the node ------------------------------------------------------------------------------- */

static void node_make(void)
{
	struct datapath_options options = { .limits = { .endpoints = 16, .connections = 512 } };
	struct errmsg err = { 0 };

	if (lab_setup(NULL) || lab_uplink_make() ||
	    datapath_load_xdp(lab.datapath, &options, XDP_NATIVE, &err))
		give_up(err.text);
	from_uplink = datapath_program_fd(lab.datapath, "from_uplink");
	uplink_xdp = datapath_program_fd(lab.datapath, "uplink_xdp");
}

static void node_reset(bool ipv6)
{
	static char ipv6_state[] = "IPv6";
	void *state = ipv6 ? ipv6_state : NULL;
	struct node_state *node;

	if (lab_reset(&state))
		give_up("reset");
	node = maps_node(lab.datapath);
	node->node_port_min = node->node_port_max = PORT;
	node->snat_port_min = 16384;
	node->snat_port_max = 29999;
	node->snat_v4 = outside_addr(false, 0x0a630001, 0, 0);
	node->snat_v6 = outside_addr(true, 0, 0xfd990000, 1);
}

int main(int argc, char **argv)
{
	double moved, uneven;

	if (argc > 1)
		packets = strtoul(argv[1], NULL, 10);
	if (packets < 100 || packets > 1000000)
		give_up("PACKETS is between 100 and 1000000");
	node_make();
	printf("{");
	for (int family = 4; family <= 6; family += 2) {
		node_reset(family == 6);
		serve(0);
		run(from_uplink, SYN, false, TC_ACT_REDIRECT);
		printf("\"tc%d\": %d, ", family, run(from_uplink, ACK, false, TC_ACT_REDIRECT));
		printf("\"xdp%d\": %d, ", family, run(uplink_xdp, ACK, false, XDP_TX));
	}
	node_reset(false);
	serve(0);
	printf("\"open_random\": %d, ", run(from_uplink, SYN, true, TC_ACT_REDIRECT));
	node_reset(false);
	serve(maglev_size(2));
	printf("\"open_maglev\": %d, ", run(from_uplink, SYN, true, TC_ACT_REDIRECT));
	maglev_measure(&moved, &uneven);
	printf("\"maglev_moved\": %.2f, \"maglev_uneven\": %.2f}\n", moved, uneven);
	lab_teardown(NULL);
	return 0;
}
