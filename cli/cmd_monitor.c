/* SPDX-License-Identifier: Apache-2.0 */
/* tendril monitor: drops and verdicts as they happen, with the names of both pods; with --pcap
 * their packets.  tendril tcp drop: all drops of TCP, the kernel's own, too. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/event_pcap.h"
#include "cli/output.h"
#include "datapath/abi.h"
#include "lib/auto.h"
#include "lib/inet.h"

#define SNAPLEN_DEFAULT 128

static const char *shown_text(const cJSON *object, const char *name)
{
	return output_shown(member_text(object, name, ""));
}

static void print_end(const cJSON *event, const char *name)
{
	const cJSON *end = cJSON_GetObjectItemCaseSensitive(event, name);
	const cJSON *port = cJSON_GetObjectItemCaseSensitive(end, "port");
	const char *addr = shown_text(end, "address");
	const char *pod = shown_text(end, "pod");

	if (*pod)
		printf("%s%s%s (%s)", output_colour(COLOUR_STRONG), pod, output_colour_end(), addr);
	else
		printf("%s", addr);
	if (cJSON_IsNumber(port))
		printf(" port %.0f", port->valuedouble);
}

static const struct event_kind {
	const char *type;
	const char *shown;
	enum colour colour;
	bool has_reason;
} event_kinds[] = {
	{ "drop", "DROP", COLOUR_BAD, true },
	{ "audit", "WOULD DROP", COLOUR_WARN, true },
	{ "kernel", "KERNEL", COLOUR_BAD, true },
	{ "verdict", "allow", COLOUR_GOOD, false },
};

static const struct event_kind *event_kind(const cJSON *event)
{
	const char *type = member_text(event, "type", "");

	for (size_t i = 0; i < ARRAY_SIZE(event_kinds); i++) {
		if (strcmp(event_kinds[i].type, type) == 0)
			return &event_kinds[i];
	}
	return &event_kinds[ARRAY_SIZE(event_kinds) - 1];
}

/* ---- which events are wanted ---- */

struct monitor {
	const struct arguments *args;
	uint16_t port; /* 0: any */
	uint8_t proto;
	bool any_proto;
	bool only_tcp;
	struct event_pcap *pcap; /* NULL: text is printed */
};

/* Whether an end is the pod or the address that was asked for, or lies in the CIDR. */
static bool end_is(const cJSON *end, const char *wanted, const char *namespace)
{
	const char *pod = member_text(end, "pod", "");
	struct prefix prefix;
	struct addr addr;
	char full[600];

	if (prefix_parse(wanted, &prefix) == 0 || addr_parse(wanted, &addr) == 0) {
		struct addr at;

		if (addr_parse(member_text(end, "address", ""), &at))
			return false;
		return addr_parse(wanted, &addr) == 0 ? addr_equal(&at, &addr)
						      : prefix_contains(&prefix, &at);
	}
	snprintf(full, sizeof(full), "%s/%s", namespace ? namespace : "default", wanted);
	return strcmp(pod, strchr(wanted, '/') ? wanted : full) == 0;
}

static bool end_in_namespace(const cJSON *end, const char *namespace)
{
	const char *pod = member_text(end, "pod", "");
	size_t len = strlen(namespace);

	return strncmp(pod, namespace, len) == 0 && pod[len] == '/';
}

static bool event_wanted(const struct monitor *monitor, const cJSON *event)
{
	const struct arguments *args = monitor->args;
	const cJSON *from = member_get(event, "source"), *to = member_get(event, "destination");
	const char *proto = member_text(event, "protocol", "");

	if (args->from && !end_is(from, args->from, args->namespace))
		return false;
	if (args->to && !end_is(to, args->to, args->namespace))
		return false;
	if (args->pod && !end_is(from, args->pod, args->namespace) &&
	    !end_is(to, args->pod, args->namespace))
		return false;
	if (args->namespace && !end_in_namespace(from, args->namespace) &&
	    !end_in_namespace(to, args->namespace))
		return false;
	if (monitor->only_tcp && strcmp(proto, "TCP") != 0)
		return false;
	return !args->port ||
	       (member_number(to, "port") == monitor->port &&
		(monitor->any_proto || strcmp(proto, proto_name(monitor->proto)) == 0));
}

static void print_event(const cJSON *event)
{
	const struct event_kind *kind = event_kind(event);

	printf("%s%s%s %s%-10s%s %s ", output_colour(COLOUR_FAINT), shown_text(event, "time"),
	       output_colour_end(), output_colour(kind->colour), kind->shown, output_colour_end(),
	       shown_text(event, "protocol"));
	print_end(event, "source");
	printf(" -> ");
	print_end(event, "destination");
	if (kind->has_reason)
		printf("  %s %s: %s", shown_text(event, "direction"), shown_text(event, "reason"),
		       shown_text(event, "text"));
	putchar('\n');
}

static int show_event(const char *line, void *arg)
{
	const struct monitor *monitor = arg;
	cJSON *event = cJSON_Parse(line);
	int ret = 0;

	if (!event)
		return -EBADMSG;
	if (event_wanted(monitor, event)) {
		if (monitor->pcap)
			ret = event_pcap_write(monitor->pcap, event);
		else if (monitor->args->json)
			output_json_text(line);
		else
			print_event(event);
		fflush(stdout);
	}
	cJSON_Delete(event);
	return ferror(stdout) ? -EPIPE : ret;
}

/* Whether a list with commas names types of events and nothing else. */
static bool types_are_known(const char *types)
{
	for (const char *word = types; word; word = strchr(word, ',')) {
		bool known = false;
		size_t len;

		word += *word == ',' && word > types;
		len = strcspn(word, ",");
		for (size_t i = 0; i < ARRAY_SIZE(event_kinds); i++)
			known |= strlen(event_kinds[i].type) == len &&
				 strncmp(event_kinds[i].type, word, len) == 0;
		if (!known)
			return false;
	}
	return true;
}

/* The types of events that a verdict means, also in hubble's words; NULL: there is no such. */
static const char *verdict_types(const char *verdict)
{
	static const struct {
		const char *verdict, *types;
	} rows[] = { { "allow", "verdict" },
		     { "forwarded", "verdict" },
		     { "deny", "drop" },
		     { "dropped", "drop" },
		     { "audit", "audit" } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (strcasecmp(rows[i].verdict, verdict) == 0)
			return rows[i].types;
	}
	return NULL;
}

static int monitor_follow(struct monitor *monitor, const char *types, struct errmsg *err)
{
	const struct arguments *args = monitor->args;
	uint64_t snaplen = SNAPLEN_DEFAULT;
	char path[128];
	int ret = 0;

	if (args->port) {
		monitor->any_proto = !strchr(args->port, '/');
		ret = port_argument_parse(args->port, &monitor->port, &monitor->proto, err);
	}
	if (ret)
		return ret;
	if (args->snaplen &&
	    (!args->pcap || number_parse(args->snaplen, 1, EVENT_BYTES_MAX, &snaplen)))
		return misused(err, "--snaplen %s: must be a number up to %d, with --pcap",
			       args->snaplen, EVENT_BYTES_MAX);
	if (args->pcap)
		ret = event_pcap_open(args, (uint32_t)snaplen, &monitor->pcap, err);
	if (ret)
		return ret;
	snprintf(path, sizeof(path),
		 args->pcap ? "/v1/events?type=%s&bytes=%u" : "/v1/events?type=%s", types,
		 (unsigned int)snaplen);
	ret = agent_follow(args, path, show_event, monitor, err);
	event_pcap_close(monitor->pcap);
	if (ret < 0 && !err->code)
		return fail_plain(err, ret,
				  ret == -EBADMSG ? "the agent's answer is not understood"
						  : "the output cannot be written");
	return ret < 0 ? ret : EXIT_OK;
}

int cmd_monitor(const struct arguments *args, struct errmsg *err)
{
	struct monitor monitor = { .args = args };
	const char *types = args->type ? args->type : "drop,verdict,audit";

	if (!types_are_known(types) || strlen(types) > 64)
		return misused(err,
			       "--type %s: must be drop, verdict, audit and kernel, with commas",
			       types);
	if (args->type && args->verdict)
		return misused(err, "give either --type or --verdict");
	if (args->verdict)
		types = verdict_types(args->verdict);
	if (!types)
		return misused(err, "--verdict %s: must be allow, deny or audit", args->verdict);
	return monitor_follow(&monitor, types, err);
}

int flows_follow_packets(const struct arguments *args, struct errmsg *err)
{
	struct arguments packets = *args;
	struct monitor monitor = { .args = &packets };
	const char *types = args->verdict ? verdict_types(args->verdict) : "drop,verdict,audit";

	packets.pcap = "-";
	if (!args->follow)
		return misused(err, "-o pcapng: of past flows only counts are kept; with --follow "
				    "the packets of those that come are written");
	if (args->service || args->policy || args->protocol || args->reason || args->last ||
	    args->since || args->invert)
		return misused(err, "-o pcapng takes --from, --to, --pod, --namespace, --port and "
				    "--verdict beside --follow");
	if (!types)
		return misused(err, "--verdict %s: must be allow, deny or audit", args->verdict);
	return monitor_follow(&monitor, types, err);
}

int cmd_tcp_drop(const struct arguments *args, struct errmsg *err)
{
	struct monitor monitor = { .args = args, .only_tcp = true };

	return monitor_follow(&monitor, "drop,kernel", err);
}
