/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each flow gives a port that was seen to one workload or two: to the sender as egress, to the
 * receiver as ingress.  Sorted, the ports of one workload, direction and peer are neighbours; peers
 * with the same ports share a rule.
 */
#include "policy/analysis/record.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/abi.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/analysis/workload.h"

#define NAME_ROOM 64

struct seen_port {
	const struct workload *subject;
	enum direction direction;
	const struct workload *peer; /* or NULL: an address */
	struct addr addr;
	uint8_t proto;
	uint16_t port;
};

struct recorder {
	const struct store *store;
	struct workloads workloads;
	bool *wanted; /* for each workload */
	struct seen_port *seen;
	size_t seen_count;
	struct recording *out;
};

static void note(struct recorder *recorder, const char *text)
{
	const cJSON *known;

	cJSON_ArrayForEach (known, recorder->out->notes) {
		if (strcmp(known->valuestring, text) == 0)
			return;
	}
	cJSON_AddItemToArray(recorder->out->notes, cJSON_CreateString(text));
}

/* ---- from flows to ports --------------------------------------------------------------------- */

static int peer_compare(const struct seen_port *a, const struct seen_port *b)
{
	if (a->peer != b->peer) {
		if (!a->peer || !b->peer) /* pods first */
			return a->peer ? -1 : 1;
		return a->peer < b->peer ? -1 : 1;
	}
	return addr_compare(&a->addr, &b->addr);
}

static int side_compare(const struct seen_port *a, const struct seen_port *b)
{
	if (a->subject != b->subject)
		return a->subject < b->subject ? -1 : 1;
	/* Ingress first, as people write it. */
	return (a->direction < b->direction) - (a->direction > b->direction);
}

static int port_compare(const struct seen_port *a, const struct seen_port *b)
{
	if (a->proto != b->proto)
		return a->proto < b->proto ? -1 : 1;
	return (a->port > b->port) - (a->port < b->port);
}

static int seen_compare(const void *a, const void *b)
{
	int order = side_compare(a, b);

	if (!order)
		order = peer_compare(a, b);
	return order ? order : port_compare(a, b);
}

static bool is_host_address(const struct store *store, const struct addr *addr)
{
	const struct addr *addresses;
	size_t count = store_host_addresses(store, &addresses);

	for (size_t i = 0; i < count; i++) {
		if (addr_equal(&addresses[i], addr))
			return true;
	}
	return false;
}

static struct workload *workload_at(const struct recorder *recorder, const struct addr *addr)
{
	const struct object *owner = store_owner(recorder->store, addr);

	return owner && owner->kind == OBJECT_POD ? workload_find(&recorder->workloads, owner)
						  : NULL;
}

/* A peer without labels is written as its address: no selector would select it alone. */
static void seen_add(struct recorder *recorder, const struct workload *subject,
		     enum direction direction, const struct record_flow *flow)
{
	const struct addr *addr = direction == DIR_EGRESS ? &flow->to : &flow->from;
	const struct workload *peer = workload_at(recorder, addr);
	struct seen_port *seen;

	if (!subject || !recorder->wanted[subject - recorder->workloads.items])
		return;
	seen = &recorder->seen[recorder->seen_count++];
	*seen = (struct seen_port){
		.subject = subject, .direction = direction, .proto = flow->proto, .port = flow->port
	};
	if (peer && peer->label_count)
		seen->peer = peer;
	else
		seen->addr = *addr;
	if (peer && !peer->label_count) {
		char text[640];

		snprintf(text, sizeof(text),
			 "%s/%s has no labels to select it by: as a peer it is its address",
			 peer->namespace, peer->pods[0]->name);
		note(recorder, text);
	}
}

static bool flow_can_be_said(struct recorder *recorder, const struct record_flow *flow)
{
	char text[160], from[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];

	if (proto_has_ports(flow->proto))
		return true;
	snprintf(text, sizeof(text),
		 "%s from %s to %s was seen: a NetworkPolicy allows it only with every port",
		 proto_name(flow->proto), addr_format(&flow->from, from),
		 addr_format(&flow->to, to));
	note(recorder, text);
	return false;
}

static void flow_add(struct recorder *recorder, const struct record_flow *flow)
{
	struct workload *sender = workload_at(recorder, &flow->from);
	struct workload *receiver = workload_at(recorder, &flow->to);
	const struct object *from = store_owner(recorder->store, &flow->from);

	if ((!sender && !receiver) || from == store_owner(recorder->store, &flow->to) ||
	    !flow_can_be_said(recorder, flow))
		return;
	seen_add(recorder, sender, DIR_EGRESS, flow);
	/* A node always reaches its own pods. */
	if (!is_host_address(recorder->store, &flow->from))
		seen_add(recorder, receiver, DIR_INGRESS, flow);
}

static void seen_sort(struct recorder *recorder)
{
	size_t kept = 0;

	if (recorder->seen_count)
		qsort(recorder->seen, recorder->seen_count, sizeof(*recorder->seen), seen_compare);
	for (size_t i = 0; i < recorder->seen_count; i++) {
		if (!i || seen_compare(&recorder->seen[i], &recorder->seen[kept - 1]) != 0)
			recorder->seen[kept++] = recorder->seen[i];
	}
	recorder->seen_count = kept;
}

/* ---- from ports to documents ----------------------------------------------------------------- */

static cJSON *peer_json(const struct recorder *recorder, const struct seen_port *seen)
{
	struct prefix prefix = { .addr = seen->addr, .len = 128 };
	cJSON *json = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];

	if (!seen->peer) {
		cJSON_AddStringToObject(cJSON_AddObjectToObject(json, "ipBlock"), "cidr",
					prefix_format(&prefix, text));
		return json;
	}
	if (strcmp(seen->peer->namespace, seen->subject->namespace) != 0) {
		cJSON *selector = cJSON_AddObjectToObject(json, "namespaceSelector");

		cJSON_AddStringToObject(cJSON_AddObjectToObject(selector, "matchLabels"),
					"kubernetes.io/metadata.name", seen->peer->namespace);
	}
	cJSON_AddItemToObject(json, "podSelector",
			      workload_selector(&recorder->workloads, seen->peer));
	return json;
}

/* The ports of one workload in one direction for one peer. */
struct seen_range {
	const struct seen_port *seen;
	size_t count;
	bool written; /* in a rule already */
};

static struct seen_range range_at(const struct recorder *recorder, size_t first)
{
	const struct seen_port *seen = &recorder->seen[first];
	struct seen_range range = { .seen = seen };

	while (first + range.count < recorder->seen_count &&
	       side_compare(&seen[range.count], seen) == 0 &&
	       peer_compare(&seen[range.count], seen) == 0)
		range.count++;
	return range;
}

static bool same_ports(const struct seen_range *a, const struct seen_range *b)
{
	bool same = a->count == b->count;

	for (size_t i = 0; same && i < a->count; i++)
		same = port_compare(&a->seen[i], &b->seen[i]) == 0;
	return same;
}

static cJSON *ports_json(const struct seen_range *range)
{
	cJSON *ports = cJSON_CreateArray();

	for (size_t i = 0; i < range->count; i++) {
		cJSON *port = cJSON_CreateObject();

		cJSON_AddNumberToObject(port, "port", range->seen[i].port);
		cJSON_AddStringToObject(port, "protocol", proto_name(range->seen[i].proto));
		cJSON_AddItemToArray(ports, port);
	}
	return ports;
}

/* The rules of ranges[0..count): all of one workload and direction. */
static void rules_add(const struct recorder *recorder, cJSON *spec, struct seen_range *ranges,
		      size_t count)
{
	bool egress = ranges[0].seen->direction == DIR_EGRESS;
	cJSON *rules = cJSON_AddArrayToObject(spec, egress ? "egress" : "ingress");

	for (size_t i = 0; i < count; i++) {
		cJSON *rule, *peers;

		if (ranges[i].written)
			continue;
		rule = cJSON_CreateObject();
		peers = cJSON_AddArrayToObject(rule, egress ? "to" : "from");
		for (size_t k = i; k < count; k++) {
			if (ranges[k].written || !same_ports(&ranges[i], &ranges[k]))
				continue;
			cJSON_AddItemToArray(peers, peer_json(recorder, ranges[k].seen));
			ranges[k].written = true;
		}
		cJSON_AddItemToObject(rule, "ports", ports_json(&ranges[i]));
		cJSON_AddItemToArray(rules, rule);
	}
}

static bool name_is_taken(const struct recorder *recorder, const char *namespace, const char *name)
{
	const cJSON *document;

	cJSON_ArrayForEach (document, recorder->out->policies) {
		const cJSON *metadata = cJSON_GetObjectItem(document, "metadata");

		if (strcmp(cJSON_GetObjectItem(metadata, "namespace")->valuestring, namespace) ==
			    0 &&
		    strcmp(cJSON_GetObjectItem(metadata, "name")->valuestring, name) == 0)
			return true;
	}
	return store_find(recorder->store, OBJECT_NETWORK_POLICY, namespace, name);
}

/* "recorded-web", or with a number behind it if that policy exists: none is to be replaced. */
static void name_choose(const struct recorder *recorder, const struct workload *workload, char *ret)
{
	char base[NAME_ROOM - 8];
	size_t len;

	len = (size_t)snprintf(base, sizeof(base), "recorded-%s", workload_name(workload));
	if (len >= sizeof(base))
		len = sizeof(base) - 1;
	for (size_t i = 0; i < len; i++)
		base[i] = isalnum((unsigned char)base[i]) ? (char)tolower(base[i]) : '-';
	while (base[len - 1] == '-')
		base[--len] = '\0';
	snprintf(ret, NAME_ROOM, "%s", base);
	for (unsigned int number = 2; name_is_taken(recorder, workload->namespace, ret); number++)
		snprintf(ret, NAME_ROOM, "%s-%u", base, number);
}

static cJSON *document_begin(const struct recorder *recorder, const struct workload *workload)
{
	cJSON *document = cJSON_CreateObject();
	cJSON *metadata, *spec, *types;
	char name[NAME_ROOM];

	name_choose(recorder, workload, name);
	cJSON_AddStringToObject(document, "apiVersion", "networking.k8s.io/v1");
	cJSON_AddStringToObject(document, "kind", "NetworkPolicy");
	metadata = cJSON_AddObjectToObject(document, "metadata");
	cJSON_AddStringToObject(metadata, "name", name);
	cJSON_AddStringToObject(metadata, "namespace", workload->namespace);
	spec = cJSON_AddObjectToObject(document, "spec");
	cJSON_AddItemToObject(spec, "podSelector",
			      workload_selector(&recorder->workloads, workload));
	types = cJSON_AddArrayToObject(spec, "policyTypes");
	cJSON_AddItemToArray(types, cJSON_CreateString("Ingress"));
	cJSON_AddItemToArray(types, cJSON_CreateString("Egress"));
	return document;
}

/* Writes the policy of a workload.  *next is the index of its first port, and of the next
 * workload's afterwards. */
static void document_write(struct recorder *recorder, const struct workload *workload, size_t *next)
{
	auto_free struct seen_range *ranges = xcalloc(recorder->seen_count + 1, sizeof(*ranges));
	cJSON *document = document_begin(recorder, workload);
	cJSON *spec = cJSON_GetObjectItem(document, "spec");
	size_t count = 0;

	cJSON_AddItemToArray(recorder->out->policies, document);
	while (*next < recorder->seen_count && recorder->seen[*next].subject == workload) {
		struct seen_range range = range_at(recorder, *next);

		if (count && side_compare(range.seen, ranges[0].seen) != 0) {
			rules_add(recorder, spec, ranges, count);
			count = 0;
		}
		ranges[count++] = range;
		*next += range.count;
	}
	if (count)
		rules_add(recorder, spec, ranges, count);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void subjects_mark(struct recorder *recorder,
			  bool (*is_subject)(const struct object *pod, void *arg), void *arg)
{
	for (size_t i = 0; i < recorder->workloads.count; i++) {
		const struct workload *workload = &recorder->workloads.items[i];
		char text[640];

		for (size_t k = 0; k < workload->pod_count && !recorder->wanted[i]; k++)
			recorder->wanted[i] = is_subject(workload->pods[k], arg);
		if (!recorder->wanted[i] || workload->label_count)
			continue;
		recorder->wanted[i] = false;
		snprintf(text, sizeof(text),
			 "%s/%s has no labels to select it by: it gets no policy",
			 workload->namespace, workload->pods[0]->name);
		note(recorder, text);
	}
}

struct recording policy_record(const struct store *store, const struct record_flow *flows,
			       size_t flow_count,
			       bool (*is_subject)(const struct object *pod, void *arg), void *arg)
{
	struct recording recording = { cJSON_CreateArray(), cJSON_CreateArray() };
	struct recorder recorder = { .store = store, .out = &recording };
	size_t next = 0;

	workloads_of(store, &recorder.workloads);
	recorder.wanted = xcalloc(recorder.workloads.count, sizeof(*recorder.wanted));
	recorder.seen = xcalloc(2 * flow_count, sizeof(*recorder.seen));
	subjects_mark(&recorder, is_subject, arg);
	for (size_t i = 0; i < flow_count; i++)
		flow_add(&recorder, &flows[i]);
	seen_sort(&recorder);
	for (size_t i = 0; i < recorder.workloads.count; i++) {
		if (recorder.wanted[i])
			document_write(&recorder, &recorder.workloads.items[i], &next);
	}
	workloads_done(&recorder.workloads);
	free(recorder.wanted);
	free(recorder.seen);
	return recording;
}

void recording_done(struct recording *recording)
{
	cJSON_Delete(recording->policies);
	cJSON_Delete(recording->notes);
	*recording = (struct recording){ 0 };
}
