/* SPDX-License-Identifier: Apache-2.0 */
/* tendril tcp: closed TCP connections, one a line, or their round trips as a histogram. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/flow_log.h"
#include "cli/output.h"
#include "lib/auto.h"

#define LAST_DEFAULT  20
#define NAME_TEXT_MAX 600

#define LIFE_HEADER                                                                 \
	"LOCAL                        LPORT REMOTE                       RPORT    " \
	"TX_KB    RX_KB         MS  RTT_US RETRANS ENDED"

static bool is_connection(const cJSON *flow)
{
	return member_get(member_get(flow, "tendril"), "retransmits") != NULL;
}

static bool is_egress(const cJSON *flow)
{
	return strcmp(member_text(flow, "traffic_direction", ""), "EGRESS") == 0;
}

static unsigned int end_port(const cJSON *flow, bool source)
{
	const cJSON *l4 = member_get(flow, "l4");

	return l4 ? (unsigned int)member_number(l4->child,
						source ? "source_port" : "destination_port")
		  : 0;
}

/* ---- lines ----------------------------------------------------------------------------------- */

struct listing {
	const struct arguments *args;
	void (*print)(const cJSON *flow);
	const char *header; /* NULL: it is printed */
};

static void header_print(struct listing *listing)
{
	if (listing->header && !listing->args->json)
		puts(listing->header);
	listing->header = NULL;
}

static int list_flow(cJSON *flow, void *arg)
{
	struct listing *listing = arg;
	auto_free char *text = NULL;

	header_print(listing);
	if (listing->args->json) {
		text = cJSON_PrintUnformatted(flow);
		output_json_text(text);
	} else {
		listing->print(flow);
	}
	if (listing->args->follow)
		fflush(stdout);
	return ferror(stdout) ? -EPIPE : 0;
}

static int list_flows(const struct arguments *args, const char *header,
		      bool (*wanted)(const cJSON *flow), void (*print)(const cJSON *flow),
		      struct errmsg *err)
{
	struct listing listing = { .args = args, .print = print, .header = header };
	int ret = flow_log_read(args, LAST_DEFAULT, wanted, list_flow, &listing, err);

	if (ret < 0)
		return ret;
	header_print(&listing);
	return EXIT_OK;
}

static const char *end_shown(const cJSON *flow, bool source, char buf[NAME_TEXT_MAX])
{
	const char *end = source ? "source" : "destination";

	return output_shown(flow_end_name(flow, end, buf, NAME_TEXT_MAX));
}

/* The columns of tcplife, from the pod's side, with names in place of a process. */
static void life_print(const cJSON *flow)
{
	bool source = is_egress(flow);
	char own[NAME_TEXT_MAX], peer[NAME_TEXT_MAX];

	printf("%-28s %-5u %-28s %-5u %8.1f %8.1f %10.2f %7.0f %7.0f %s\n",
	       end_shown(flow, source, own), end_port(flow, source), end_shown(flow, !source, peer),
	       end_port(flow, !source),
	       flow_number(flow, source ? "source_bytes" : "destination_bytes") / 1024,
	       flow_number(flow, source ? "destination_bytes" : "source_bytes") / 1024,
	       flow_number(flow, "duration_us") / 1000, flow_number(flow, "srtt_us"),
	       flow_number(flow, "retransmits"), output_shown(flow_text(flow, "ended")));
}

int cmd_tcp_life(const struct arguments *args, struct errmsg *err)
{
	return list_flows(args, LIFE_HEADER, is_connection, life_print, err);
}

static bool is_opened(const cJSON *flow)
{
	return is_connection(flow) && is_egress(flow);
}

static void connect_print(const cJSON *flow)
{
	const cJSON *service = member_get(flow, "destination_service");
	char own[NAME_TEXT_MAX], peer[NAME_TEXT_MAX], name[NAME_TEXT_MAX] = "-";
	const char *ended = flow_text(flow, "ended");
	bool refused = strcmp(ended, "refused") == 0;
	bool made = flow_number(flow, "handshake_us") > 0;

	if (service)
		snprintf(name, sizeof(name), "%s/%s", member_text(service, "namespace", ""),
			 member_text(service, "name", ""));
	printf("%-28s %-28s %-5u %-20s %9.3f %s\n", end_shown(flow, true, own),
	       end_shown(flow, false, peer), end_port(flow, false), output_shown(name),
	       flow_number(flow, "handshake_us") / 1000,
	       made && !refused ? "connected" : output_shown(ended));
}

int cmd_tcp_connect(const struct arguments *args, struct errmsg *err)
{
	return list_flows(args,
			  "SOURCE                       DESTINATION                  PORT  "
			  "SERVICE                     MS RESULT",
			  is_opened, connect_print, err);
}

static bool is_resent(const cJSON *flow)
{
	return is_connection(flow) && flow_number(flow, "retransmits") > 0;
}

int cmd_tcp_retrans(const struct arguments *args, struct errmsg *err)
{
	return list_flows(args, LIFE_HEADER, is_resent, life_print, err);
}

/* ---- round trips ----------------------------------------------------------------------------- */

#define BUCKETS   32 /* powers of two of a microsecond */
#define BAR_WIDTH 40

struct histogram {
	unsigned int counts[BUCKETS];
	unsigned int max;
};

static int rtt_add(cJSON *flow, void *arg)
{
	struct histogram *histogram = arg;
	double rtt_us = flow_number(flow, "srtt_us");
	unsigned int bucket = 0;

	if (rtt_us < 1)
		return 0;
	while (bucket < BUCKETS - 1 && rtt_us >= (double)(2ULL << bucket))
		bucket++;
	histogram->counts[bucket]++;
	if (histogram->counts[bucket] > histogram->max)
		histogram->max = histogram->counts[bucket];
	return 0;
}

static void histogram_json(const struct histogram *histogram)
{
	cJSON *array = cJSON_CreateArray();

	for (unsigned int i = 0; i < BUCKETS; i++) {
		cJSON *row;

		if (!histogram->counts[i])
			continue;
		row = cJSON_CreateObject();
		cJSON_AddNumberToObject(row, "min_us", (double)(1ULL << i));
		cJSON_AddNumberToObject(row, "below_us", (double)(2ULL << i));
		cJSON_AddNumberToObject(row, "count", histogram->counts[i]);
		cJSON_AddItemToArray(array, row);
	}
	output_json(array);
	cJSON_Delete(array);
}

static void histogram_print(const struct histogram *histogram)
{
	static const char stars[BAR_WIDTH + 1] = "****************************************";
	unsigned int first = 0, last = BUCKETS;

	while (first < last && !histogram->counts[first])
		first++;
	while (last > first && !histogram->counts[last - 1])
		last--;
	puts("                  us : count     distribution");
	for (unsigned int i = first; i < last; i++)
		printf("%10llu -> %-8llu: %-8u |%-*.*s|\n", 1ULL << i, (2ULL << i) - 1,
		       histogram->counts[i], BAR_WIDTH,
		       (int)(histogram->counts[i] * (unsigned long long)BAR_WIDTH / histogram->max),
		       stars);
}

int cmd_tcp_rtt(const struct arguments *args, struct errmsg *err)
{
	struct histogram histogram = { .max = 0 };
	int ret = flow_log_read(args, 0, NULL, rtt_add, &histogram, err);

	if (ret < 0)
		return ret;
	if (args->json)
		histogram_json(&histogram);
	else
		histogram_print(&histogram);
	return EXIT_OK;
}
