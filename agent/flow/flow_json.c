/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flow as JSON in the shape of Hubble's Flow, so that what people have for that works; what
 * Hubble does not know is in the member "tendril".
 */
#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/flow/flow_internal.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/inet.h"

/* enum drop_reason in Hubble's numbers and words, and in ours. */
static const struct drop {
	const char *name;
	int hubble;
	const char *hubble_name;
} drops[DROP_REASON_COUNT] = {
#define X(num, reason, text) [num].name = #reason,
	DROP_REASONS(X)
#undef X
#define AS(reason, number, text) \
	[DROP_##reason].hubble = (number), [DROP_##reason].hubble_name = #text
		AS(TRUNCATED, 135, CT_TRUNCATED_OR_INVALID_HEADER),
	AS(SPOOFED_ADDRESS, 132, INVALID_SOURCE_IP),
	AS(SPOOFED_MAC, 130, INVALID_SOURCE_MAC),
	AS(UNKNOWN_PROTOCOL, 139, UNSUPPORTED_L3_PROTOCOL),
	AS(BAD_HEADER, 134, INVALID_PACKET_DROPPED),
	AS(EGRESS_DENIED, 133, POLICY_DENIED),
	AS(INGRESS_DENIED, 133, POLICY_DENIED),
	AS(NOT_OPENED, 163, UNKNOWN_CONNECTION_TRACKING_STATE),
	AS(FRAGMENT, 175, FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND),
	AS(NO_SERVICE, 158, SERVICE_BACKEND_NOT_FOUND),
	AS(NO_BACKEND, 158, SERVICE_BACKEND_NOT_FOUND),
	AS(NO_ENDPOINT, 152, NO_MATCHING_LOCAL_CONTAINER_FOUND),
	AS(UNRELATED_ERROR, 163, UNKNOWN_CONNECTION_TRACKING_STATE),
	AS(NAT_FULL, 167, NO_MAPPING_FOR_NAT_MASQUERADE),
	AS(NO_SNAT_PORT, 167, NO_MAPPING_FOR_NAT_MASQUERADE),
	AS(REWRITE_FAILED, 141, ERROR_WRITING_TO_PACKET),
	AS(NO_LOCAL_BACKEND, 158, SERVICE_BACKEND_NOT_FOUND),
	AS(SOURCE_RANGE, 177, DENIED_BY_LB_SRC_RANGE_CHECK),
	AS(NO_ROUTE, 169, FIB_LOOKUP_FAILED),
	AS(TTL_EXCEEDED, 196, TTL_EXCEEDED),
#undef AS
};

static void ip_add(cJSON *json, const struct flow *flow)
{
	cJSON *ip = cJSON_AddObjectToObject(json, "IP");
	char text[ADDR_TEXT_MAX];

	cJSON_AddStringToObject(ip, "source", addr_format(&flow->saddr, text));
	cJSON_AddStringToObject(ip, "destination", addr_format(&flow->daddr, text));
	cJSON_AddStringToObject(ip, "ipVersion", addr_is_v4(&flow->saddr) ? "IPv4" : "IPv6");
}

static void tcp_flags_add(cJSON *json, const struct flow_entry *entry)
{
	static const char *const names[] = {
		"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"
	};
	cJSON *flags = cJSON_AddObjectToObject(json, "flags");

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (entry->tcp_flags & 1u << i)
			cJSON_AddTrueToObject(flags, names[i]);
	}
}

/* Type 0, an answer, is left out as Hubble does: it is the default of its field. */
static void icmp_add(cJSON *l4, const struct flow_entry *entry)
{
	cJSON *icmp = cJSON_AddObjectToObject(l4, entry->flow.proto == IPPROTO_ICMP ? "ICMPv4"
										    : "ICMPv6");

	if (entry->icmp_type)
		cJSON_AddNumberToObject(icmp, "type", entry->icmp_type);
}

static void l4_add(cJSON *json, const struct flow_entry *entry)
{
	const struct flow *flow = &entry->flow;
	cJSON *l4, *protocol;

	if (flow->proto == IPPROTO_ICMP || flow->proto == IPPROTO_ICMPV6) {
		icmp_add(cJSON_AddObjectToObject(json, "l4"), entry);
		return;
	}
	if (!proto_has_ports(flow->proto))
		return;
	l4 = cJSON_AddObjectToObject(json, "l4");
	protocol = cJSON_AddObjectToObject(l4, proto_name(flow->proto));
	cJSON_AddNumberToObject(protocol, "source_port", ntohs(flow->sport));
	cJSON_AddNumberToObject(protocol, "destination_port", ntohs(flow->dport));
	if (flow->proto == IPPROTO_TCP && entry->tcp_flags)
		tcp_flags_add(protocol, entry);
}

static void labels_add(cJSON *json, const struct flow_name *name)
{
	cJSON *labels = cJSON_AddArrayToObject(json, "labels");

	for (const char *label = name->labels; *label; label += strlen(label) + 1) {
		char text[600];

		snprintf(text, sizeof(text), "k8s:%s", label);
		cJSON_AddItemToArray(labels, cJSON_CreateString(text));
	}
	if (name->kind == NAME_POD) {
		char text[600];

		snprintf(text, sizeof(text), "k8s:io.kubernetes.pod.namespace=%s", name->namespace);
		cJSON_AddItemToArray(labels, cJSON_CreateString(text));
	}
}

static void reserved_add(cJSON *json, uint32_t identity)
{
	cJSON *labels;

	if (identity != IDENTITY_HOST && identity != IDENTITY_WORLD)
		return;
	labels = cJSON_AddArrayToObject(json, "labels");
	cJSON_AddItemToArray(
		labels,
		cJSON_CreateString(identity == IDENTITY_HOST ? "reserved:host" : "reserved:world"));
}

static void end_add(cJSON *json, const char *member, const struct flow_entry *entry,
		    enum flow_end which)
{
	const struct flow_name *name = entry->names[which];
	cJSON *end = cJSON_AddObjectToObject(json, member);
	cJSON *workload;

	cJSON_AddNumberToObject(end, "identity", entry->identities[which]);
	if (!name || name->kind != NAME_POD) {
		reserved_add(end, entry->identities[which]);
		return;
	}
	cJSON_AddStringToObject(end, "namespace", name->namespace);
	labels_add(end, name);
	cJSON_AddStringToObject(end, "pod_name", name->name);
	if (!*name->workload)
		return;
	workload = cJSON_CreateObject();
	cJSON_AddStringToObject(workload, "name", name->workload);
	cJSON_AddStringToObject(workload, "kind", name->workload_kind);
	cJSON_AddItemToArray(cJSON_AddArrayToObject(end, "workloads"), workload);
}

static void service_add(cJSON *json, const struct flow_entry *entry)
{
	const struct flow_name *service = entry->service;
	cJSON *member;

	if (!service)
		return;
	member = cJSON_AddObjectToObject(json, "destination_service");
	cJSON_AddStringToObject(member, "name", service->name);
	cJSON_AddStringToObject(member, "namespace", service->namespace);
}

static bool is_connection(const struct flow_entry *entry)
{
	return !entry->type && entry->flow.proto == IPPROTO_TCP;
}

/* How a connection ended, as one of its ends saw it; or what became of another flow. */
static const char *ended(const struct flow_entry *entry)
{
	if (!is_connection(entry))
		return entry->open ? "open" : "idle";
	switch (entry->error) {
	case 0:
		break;
	case ECONNREFUSED:
		return "refused";
	case ETIMEDOUT:
		return "timeout";
	case ECONNRESET:
	case EPIPE:
		return "reset by peer";
	case ECONNABORTED:
		return "ended by the node";
	case EHOSTUNREACH:
	case ENETUNREACH:
		return "unreachable";
	default:
		return "error";
	}
	if (entry->old_state == BPF_TCP_SYN_SENT)
		return "given up";
	return entry->fin_sent ? "closed" : "reset";
}

static void connection_add(cJSON *json, const struct flow_entry *entry)
{
	uint64_t duration_us = entry->duration_ns / 1000;

	cJSON_AddNumberToObject(json, "source_bytes", (double)entry->bytes[FLOW_SOURCE]);
	cJSON_AddNumberToObject(json, "destination_bytes", (double)entry->bytes[FLOW_DESTINATION]);
	cJSON_AddNumberToObject(json, "accelerated_bytes", (double)entry->accel_bytes);
	cJSON_AddNumberToObject(json, "source_segments", entry->segments[FLOW_SOURCE]);
	cJSON_AddNumberToObject(json, "destination_segments", entry->segments[FLOW_DESTINATION]);
	if (entry->duration_ns)
		cJSON_AddNumberToObject(json, "duration_us", (double)duration_us);
	if (entry->srtt_us)
		cJSON_AddNumberToObject(json, "srtt_us", entry->srtt_us);
	if (entry->handshake_us)
		cJSON_AddNumberToObject(json, "handshake_us", entry->handshake_us);
	cJSON_AddNumberToObject(json, "retransmits", entry->retransmits);
	cJSON_AddStringToObject(json, "ended", ended(entry));
	if (entry->service_port)
		cJSON_AddNumberToObject(json, "service_port", ntohs(entry->service_port));
}

static void passed_add(cJSON *json, const struct flow_entry *entry)
{
	uint64_t duration_us = entry->duration_ns / 1000;

	cJSON_AddNumberToObject(json, "source_bytes", (double)entry->bytes[FLOW_SOURCE]);
	cJSON_AddNumberToObject(json, "destination_bytes", (double)entry->bytes[FLOW_DESTINATION]);
	cJSON_AddNumberToObject(json, "source_packets", entry->segments[FLOW_SOURCE]);
	cJSON_AddNumberToObject(json, "destination_packets", entry->segments[FLOW_DESTINATION]);
	cJSON_AddNumberToObject(json, "duration_us", (double)duration_us);
	cJSON_AddStringToObject(json, "ended", ended(entry));
	if (entry->service_port)
		cJSON_AddNumberToObject(json, "service_port", ntohs(entry->service_port));
}

static void drop_add(cJSON *json, const struct flow_entry *entry)
{
	const struct drop *drop = entry->reason < DROP_REASON_COUNT ? &drops[entry->reason] : NULL;
	char text[CLOCK_TEXT_MAX];

	cJSON_AddStringToObject(json, "reason", drop && drop->name ? drop->name : "UNKNOWN");
	cJSON_AddNumberToObject(json, "count", entry->count);
	cJSON_AddStringToObject(json, "first",
				clock_format(entry->time_ns - entry->duration_ns, text));
	cJSON_AddNumberToObject(json, "length", (double)entry->bytes[FLOW_SOURCE]);
}

static void verdict_add(cJSON *json, const struct flow_entry *entry)
{
	const struct drop *drop = entry->reason < DROP_REASON_COUNT ? &drops[entry->reason] : NULL;

	if (!entry->type) { /* who never had an answer may have been dropped anywhere */
		bool answered = !is_connection(entry) || entry->old_state != BPF_TCP_SYN_SENT ||
				entry->error == ECONNREFUSED;

		cJSON_AddStringToObject(json, "verdict", answered ? "FORWARDED" : "TRACED");
		return;
	}
	cJSON_AddStringToObject(json, "verdict", entry->type == EVENT_AUDIT ? "AUDIT" : "DROPPED");
	cJSON_AddNumberToObject(json, "drop_reason", drop ? drop->hubble : 0);
	cJSON_AddStringToObject(json, "drop_reason_desc",
				drop && drop->hubble_name ? drop->hubble_name
							  : "DROP_REASON_UNKNOWN");
}

static void summary_add(cJSON *json, const struct flow_entry *entry)
{
	char text[200];

	if (entry->type)
		snprintf(text, sizeof(text), "%s, %u packets", proto_name(entry->flow.proto),
			 entry->count);
	else
		snprintf(text, sizeof(text), "%s %s, %llu bytes sent, %llu received",
			 proto_name(entry->flow.proto), ended(entry),
			 (unsigned long long)entry->bytes[FLOW_SOURCE],
			 (unsigned long long)entry->bytes[FLOW_DESTINATION]);
	cJSON_AddStringToObject(json, "Summary", text);
}

struct cJSON *flow_json(const struct flow_entry *entry, const char *node_name, const char *dns_name)
{
	cJSON *json = cJSON_CreateObject();
	cJSON *more;
	char text[CLOCK_TEXT_MAX];

	cJSON_AddStringToObject(json, "time", clock_format(entry->time_ns, text));
	verdict_add(json, entry);
	ip_add(json, &entry->flow);
	l4_add(json, entry);
	end_add(json, "source", entry, FLOW_SOURCE);
	end_add(json, "destination", entry, FLOW_DESTINATION);
	cJSON_AddStringToObject(json, "Type", is_connection(entry) ? "SOCK" : "L3_L4");
	cJSON_AddStringToObject(json, "node_name", node_name);
	if (dns_name)
		cJSON_AddItemToArray(cJSON_AddArrayToObject(json, "destination_names"),
				     cJSON_CreateString(dns_name));
	service_add(json, entry);
	cJSON_AddStringToObject(json, "traffic_direction",
				entry->direction == DIR_EGRESS ? "EGRESS" : "INGRESS");
	cJSON_AddFalseToObject(json, "is_reply");
	summary_add(json, entry);
	more = cJSON_AddObjectToObject(json, "tendril");
	if (!cJSON_GetObjectItemCaseSensitive(json, "l4")) /* Hubble has no member for it */
		cJSON_AddNumberToObject(more, "protocol", entry->flow.proto);
	if (entry->type)
		drop_add(more, entry);
	else if (is_connection(entry))
		connection_add(more, entry);
	else
		passed_add(more, entry);
	return json;
}
