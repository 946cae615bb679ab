/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/event_pcap.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cli/agent_call.h"
#include "cli/flow_policy.h"
#include "cli/output.h"
#include "cli/pcapng.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/text.h"

struct event_pcap {
	FILE *file;
	struct flow_policy *policy; /* NULL: the objects cannot be read */
};

static FILE *file_open(const char *path, struct errmsg *err)
{
	bool is_stdout = strcmp(path, "-") == 0;
	auto_close int fd = -1;
	FILE *file;

	if (is_stdout && isatty(STDOUT_FILENO)) {
		misused(err, "standard output is a terminal: packets go into a file or a pipe");
		return NULL;
	}
	fd = is_stdout ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0)
		       : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	file = fd < 0 ? NULL : fdopen(fd, "w");
	if (file)
		(void)take_fd(&fd);
	else
		fail(err, -errno, "write %s", path);
	return file;
}

int event_pcap_open(const struct arguments *args, uint32_t snap_length, struct event_pcap **ret,
		    struct errmsg *err)
{
	FILE *file = file_open(args->pcap, err);
	struct event_pcap *pcap;

	if (!file)
		return err->code;
	if (pcapng_begin(file, snap_length)) {
		fclose(file);
		return fail_plain(err, -EIO, "%s cannot be written", args->pcap);
	}
	pcap = xcalloc(1, sizeof(*pcap));
	pcap->file = file;
	pcap->policy = flow_policy_new(args);
	*ret = pcap;
	return 0;
}

void event_pcap_close(struct event_pcap *pcap)
{
	if (!pcap)
		return;
	fclose(pcap->file); /* each packet has been flushed */
	flow_policy_free(pcap->policy);
	free(pcap);
}

/* ---- what is known of a packet --------------------------------------------------------------- */

static void flow_add_end(cJSON *flow, cJSON *addresses, const cJSON *event, const char *name)
{
	const cJSON *end = member_get(event, name);
	const char *pod = member_text(end, "pod", ""), *slash = strchr(pod, '/');
	cJSON *json = cJSON_AddObjectToObject(flow, name);
	char namespace[256];

	cJSON_AddStringToObject(addresses, name, member_text(end, "address", ""));
	if (!slash)
		return;
	snprintf(namespace, sizeof(namespace), "%.*s", (int)(slash - pod), pod);
	cJSON_AddStringToObject(json, "namespace", namespace);
	cJSON_AddStringToObject(json, "pod_name", slash + 1);
}

/* The event in the shape of the log of flows, as far as a policy asks. */
static cJSON *event_flow(const cJSON *event)
{
	const char *proto = member_text(event, "protocol", "");
	cJSON *flow = cJSON_CreateObject();
	cJSON *addresses = cJSON_AddObjectToObject(flow, "IP");
	cJSON *ports = cJSON_AddObjectToObject(cJSON_AddObjectToObject(flow, "l4"), proto);

	flow_add_end(flow, addresses, event, "source");
	flow_add_end(flow, addresses, event, "destination");
	cJSON_AddNumberToObject(ports, "destination_port",
				member_number(member_get(event, "destination"), "port"));
	return flow;
}

/* The policies and rules that decide about the packet, unless something else dropped it. */
static void policies_find(struct event_pcap *pcap, const cJSON *event, char *buf, size_t size)
{
	const char *reason = member_text(event, "reason", "");
	struct errmsg err = {};
	cJSON *flow;

	buf[0] = '\0';
	if (!pcap->policy || (*reason && !strstr(reason, "GRESS_DENIED")))
		return;
	flow = event_flow(event);
	if (flow_policy_add(pcap->policy, flow, &err)) {
		output_note("the policies cannot be read, and are left out: %s", err.text);
		flow_policy_free(take_ptr(pcap->policy));
	}
	flow_policy_text(flow, buf, size);
	cJSON_Delete(flow);
}

/* "default/web (10.0.1.2) port 80". */
static void end_describe(const cJSON *event, const char *name, char *buf, size_t size)
{
	const cJSON *end = member_get(event, name), *port = member_get(end, "port");
	const char *pod = member_text(end, "pod", NULL), *addr = member_text(end, "address", "");
	char number[32] = "";

	if (cJSON_IsNumber(port))
		snprintf(number, sizeof(number), " port %.0f", port->valuedouble);
	if (pod)
		snprintf(buf, size, "%s (%s)%s", pod, addr, number);
	else
		snprintf(buf, size, "%s%s", addr, number);
}

static void event_describe(struct event_pcap *pcap, const cJSON *event, char *buf, size_t size)
{
	const char *reason = member_text(event, "reason", NULL);
	char from[512], to[512], policies[700];

	end_describe(event, "source", from, sizeof(from));
	end_describe(event, "destination", to, sizeof(to));
	policies_find(pcap, event, policies, sizeof(policies));
	snprintf(buf, size, "%s%s%s: %s; %s -> %s, %s%s%s", member_text(event, "type", ""),
		 reason ? " " : "", reason ? reason : "", member_text(event, "text", ""), from, to,
		 member_text(event, "direction", ""), *policies ? "; " : "", policies);
	text_make_shown(buf);
}

/* ---- a packet -------------------------------------------------------------------------------- */

/* Bytes of hexadecimal text, at most size; -EBADMSG. */
static int hex_parse(const char *text, uint8_t *buf, size_t size, uint32_t *ret_len)
{
	size_t len = strlen(text) / 2;

	if (strlen(text) % 2 || len > size)
		return -EBADMSG;
	for (size_t i = 0; i < len; i++) {
		int high = text_hex_digit(text[2 * i]), low = text_hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EBADMSG;
		buf[i] = (uint8_t)(high << 4 | low);
	}
	*ret_len = (uint32_t)len;
	return 0;
}

int event_pcap_write(struct event_pcap *pcap, const cJSON *event)
{
	const char *text = member_text(event, "packet", NULL);
	char comment[PCAPNG_COMMENT_MAX];
	uint8_t bytes[PCAPNG_BYTES_MAX];
	struct pcapng_packet packet = { .bytes = bytes,
					.length = (uint32_t)member_number(event, "length"),
					.comment = comment };
	int64_t time_ns;

	if (!text)
		return 0;
	if (hex_parse(text, bytes, sizeof(bytes), &packet.captured) ||
	    clock_parse(member_text(event, "time", ""), &time_ns))
		return -EBADMSG;
	packet.time_ns = (uint64_t)time_ns;
	event_describe(pcap, event, comment, sizeof(comment));
	return pcapng_packet(pcap->file, &packet);
}
