/* SPDX-License-Identifier: Apache-2.0 */
/* tendril tcp state: the TCP sockets of pods as they are now, and how many are in which state. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/output.h"
#include "cli/socket_list.h"
#include "lib/auto.h"

static void fill_local(const cJSON *row, struct cell *cell)
{
	cell_set(cell, COLOUR_NONE, "%s:%.0f", member_text(row, "address", ""),
		 member_number(row, "port"));
}

/* Its name, or its address. */
static void fill_peer(const cJSON *row, struct cell *cell)
{
	if (member_number(row, "peerPort") > 0)
		cell_set(cell, COLOUR_NONE, "%s:%.0f",
			 member_text(row, "peer", member_text(row, "peerAddress", "")),
			 member_number(row, "peerPort"));
	else
		cell_set(cell, COLOUR_FAINT, "-");
}

static void fill_retransmits(const cJSON *row, struct cell *cell)
{
	bool some = member_number(row, "retransmits") > 0;

	output_member(row, "retransmits", cell);
	cell->colour = some ? COLOUR_WARN : COLOUR_NONE;
}

static const struct column columns[] = {
	{ "POD", .member = "pod" },
	{ "STATE", .member = "state" },
	{ "LOCAL", .fill = fill_local },
	{ "PEER", .fill = fill_peer },
	{ "PEER-ADDRESS", .member = "peerAddress", .wide = true },
	{ "SERVICE", .member = "service" },
	{ "RECV-Q", .member = "receiveQueue" },
	{ "SEND-Q", .member = "sendQueue" },
	{ "RTT-US", .member = "roundTripUs" },
	{ "RETRANSMITS", .fill = fill_retransmits },
	{ "SENT", .member = "sent", .wide = true },
	{ "RECEIVED", .member = "received", .wide = true },
};

/* {"ESTABLISHED": 3, "LISTEN": 1}; ordered as they first occur. */
static cJSON *states_count(const cJSON *sockets)
{
	cJSON *counts = cJSON_CreateObject();
	const cJSON *socket;

	cJSON_ArrayForEach (socket, sockets) {
		const char *state = member_text(socket, "state", "");
		cJSON *count = cJSON_GetObjectItemCaseSensitive(counts, state);

		if (count)
			cJSON_SetNumberValue(count, count->valuedouble + 1);
		else
			cJSON_AddNumberToObject(counts, state, 1);
	}
	return counts;
}

static void print_text(const struct arguments *args, const cJSON *sockets, const cJSON *counts)
{
	bool wide = strcmp(args->output, "wide") == 0;
	const cJSON *count;

	printf("%d sockets", cJSON_GetArraySize(sockets));
	cJSON_ArrayForEach (count, counts)
		printf("%s %.0f %s", count == counts->child ? ":" : ",", count->valuedouble,
		       output_shown(count->string));
	printf("\n\n");
	output_table(sockets, columns, ARRAY_SIZE(columns), wide ? TABLE_WIDE : 0);
}

int cmd_tcp_state(const struct arguments *args, struct errmsg *err)
{
	struct socket_list *list = socket_list_new(args);
	uint64_t left_out = 0;
	cJSON *sockets, *counts;
	int ret = socket_list_read(list, &sockets, &left_out, err);

	socket_list_free(list);
	if (ret)
		return ret;
	counts = states_count(sockets);
	if (args->json) {
		cJSON *json = cJSON_CreateObject();

		cJSON_AddItemToObject(json, "counts", counts);
		cJSON_AddItemToObject(json, "sockets", sockets);
		cJSON_AddNumberToObject(json, "leftOut", (double)left_out);
		output_json(json);
		cJSON_Delete(json);
	} else {
		print_text(args, sockets, counts);
		cJSON_Delete(sockets);
		cJSON_Delete(counts);
	}
	if (left_out)
		output_note("%" PRIu64 " sockets more are left out; give a --pod", left_out);
	return EXIT_OK;
}
