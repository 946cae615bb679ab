/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each flow is a grant to one or two workloads: to send, to be sent to.  Grants are sorted, so that
 * those of one workload, direction and peer stand together; peers with the same ports share a rule.
 */
#include "policy/analysis/record.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/abi.h"
#include "lib/auto.h"
#include "policy/analysis/workload.h"

#define NAME_ROOM 64

struct grant {
	const struct workload *subject;
	enum direction direction;
	const struct workload *peer; /* or NULL: an address */
	struct addr addr;
	uint8_t proto;
	uint16_t port;
};

struct run {
	const struct store *store;
	struct workloads workloads;
	bool *wanted; /* for each workload */
	struct grant *grants;
	size_t grant_count;
	struct recording *out;
};

static void note(struct run *run, const char *text)
{
	const cJSON *known;

	cJSON_ArrayForEach (known, run->out->notes) {
		if (strcmp(known->valuestring, text) == 0)
			return;
	}
	cJSON_AddItemToArray(run->out->notes, cJSON_CreateString(text));
}

/* ---- flows to grants ------------------------------------------------------------------------- */

static int peer_compare(const struct grant *a, const struct grant *b)
{
	if (a->peer != b->peer) {
		if (!a->peer || !b->peer) /* pods first */
			return a->peer ? -1 : 1;
		return a->peer < b->peer ? -1 : 1;
	}
	return addr_compare(&a->addr, &b->addr);
}

static int side_compare(const struct grant *a, const struct grant *b)
{
	if (a->subject != b->subject)
		return a->subject < b->subject ? -1 : 1;
	/* Ingress first, as people write it. */
	return (a->direction < b->direction) - (a->direction > b->direction);
}

static int port_compare(const struct grant *a, const struct grant *b)
{
	if (a->proto != b->proto)
		return a->proto < b->proto ? -1 : 1;
	return (a->port > b->port) - (a->port < b->port);
}

static int grant_compare(const void *a, const void *b)
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

static struct workload *workload_at(const struct run *run, const struct addr *addr)
{
	const struct object *owner = store_owner(run->store, addr);

	return owner && owner->kind == OBJECT_POD ? workload_find(&run->workloads, owner) : NULL;
}

/* A pod without labels of its own is its address: no selector would mean it alone. */
static void grant_add(struct run *run, const struct workload *subject, enum direction direction,
		      const struct record_flow *flow)
{
	const struct addr *addr = direction == DIR_EGRESS ? &flow->to : &flow->from;
	const struct workload *peer = workload_at(run, addr);
	struct grant *grant;

	if (!subject || !run->wanted[subject - run->workloads.items])
		return;
	grant = &run->grants[run->grant_count++];
	*grant = (struct grant){
		.subject = subject, .direction = direction, .proto = flow->proto, .port = flow->port
	};
	if (peer && peer->label_count)
		grant->peer = peer;
	else
		grant->addr = *addr;
	if (peer && !peer->label_count) {
		char text[640];

		snprintf(text, sizeof(text),
			 "%s/%s has no labels to select it by: as a peer it is its address",
			 peer->namespace, peer->pods[0]->name);
		note(run, text);
	}
}

static bool flow_can_be_said(struct run *run, const struct record_flow *flow)
{
	char text[160], from[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];

	if (proto_has_ports(flow->proto))
		return true;
	snprintf(text, sizeof(text),
		 "%s from %s to %s was seen: a NetworkPolicy allows it only with every port",
		 proto_name(flow->proto), addr_format(&flow->from, from),
		 addr_format(&flow->to, to));
	note(run, text);
	return false;
}

static void flow_grant(struct run *run, const struct record_flow *flow)
{
	struct workload *sender = workload_at(run, &flow->from);
	struct workload *receiver = workload_at(run, &flow->to);
	const struct object *from = store_owner(run->store, &flow->from);

	if ((!sender && !receiver) || from == store_owner(run->store, &flow->to) ||
	    !flow_can_be_said(run, flow))
		return;
	grant_add(run, sender, DIR_EGRESS, flow);
	/* A node always reaches its own pods. */
	if (!is_host_address(run->store, &flow->from))
		grant_add(run, receiver, DIR_INGRESS, flow);
}

static void grants_sort(struct run *run)
{
	size_t kept = 0;

	if (run->grant_count)
		qsort(run->grants, run->grant_count, sizeof(*run->grants), grant_compare);
	for (size_t i = 0; i < run->grant_count; i++) {
		if (!i || grant_compare(&run->grants[i], &run->grants[kept - 1]) != 0)
			run->grants[kept++] = run->grants[i];
	}
	run->grant_count = kept;
}

/* ---- grants to documents --------------------------------------------------------------------- */

static cJSON *peer_json(const struct run *run, const struct grant *grant)
{
	struct prefix prefix = { .addr = grant->addr, .len = 128 };
	cJSON *json = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];

	if (!grant->peer) {
		cJSON_AddStringToObject(cJSON_AddObjectToObject(json, "ipBlock"), "cidr",
					prefix_format(&prefix, text));
		return json;
	}
	if (strcmp(grant->peer->namespace, grant->subject->namespace) != 0) {
		cJSON *selector = cJSON_AddObjectToObject(json, "namespaceSelector");

		cJSON_AddStringToObject(cJSON_AddObjectToObject(selector, "matchLabels"),
					"kubernetes.io/metadata.name", grant->peer->namespace);
	}
	cJSON_AddItemToObject(json, "podSelector", workload_selector(&run->workloads, grant->peer));
	return json;
}

/* The grants of one workload in one direction to one peer. */
struct span {
	const struct grant *grants;
	size_t count;
	bool said;
};

static struct span span_at(const struct run *run, size_t first)
{
	const struct grant *grants = &run->grants[first];
	struct span span = { .grants = grants };

	while (first + span.count < run->grant_count &&
	       side_compare(&grants[span.count], grants) == 0 &&
	       peer_compare(&grants[span.count], grants) == 0)
		span.count++;
	return span;
}

static bool same_ports(const struct span *a, const struct span *b)
{
	bool same = a->count == b->count;

	for (size_t i = 0; same && i < a->count; i++)
		same = port_compare(&a->grants[i], &b->grants[i]) == 0;
	return same;
}

static cJSON *ports_json(const struct span *span)
{
	cJSON *ports = cJSON_CreateArray();

	for (size_t i = 0; i < span->count; i++) {
		cJSON *port = cJSON_CreateObject();

		cJSON_AddNumberToObject(port, "port", span->grants[i].port);
		cJSON_AddStringToObject(port, "protocol", proto_name(span->grants[i].proto));
		cJSON_AddItemToArray(ports, port);
	}
	return ports;
}

/* The rules of spans[0..count): all of one workload and direction. */
static void rules_add(const struct run *run, cJSON *spec, struct span *spans, size_t count)
{
	bool egress = spans[0].grants->direction == DIR_EGRESS;
	cJSON *rules = cJSON_AddArrayToObject(spec, egress ? "egress" : "ingress");

	for (size_t i = 0; i < count; i++) {
		cJSON *rule, *peers;

		if (spans[i].said)
			continue;
		rule = cJSON_CreateObject();
		peers = cJSON_AddArrayToObject(rule, egress ? "to" : "from");
		for (size_t k = i; k < count; k++) {
			if (spans[k].said || !same_ports(&spans[i], &spans[k]))
				continue;
			cJSON_AddItemToArray(peers, peer_json(run, spans[k].grants));
			spans[k].said = true;
		}
		cJSON_AddItemToObject(rule, "ports", ports_json(&spans[i]));
		cJSON_AddItemToArray(rules, rule);
	}
}

static bool name_is_taken(const struct run *run, const char *namespace, const char *name)
{
	const cJSON *document;

	cJSON_ArrayForEach (document, run->out->policies) {
		const cJSON *metadata = cJSON_GetObjectItem(document, "metadata");

		if (strcmp(cJSON_GetObjectItem(metadata, "namespace")->valuestring, namespace) ==
			    0 &&
		    strcmp(cJSON_GetObjectItem(metadata, "name")->valuestring, name) == 0)
			return true;
	}
	return store_find(run->store, OBJECT_NETWORK_POLICY, namespace, name);
}

/* "recorded-web", or with a number behind it if that policy exists: none is to be replaced. */
static void name_choose(const struct run *run, const struct workload *workload, char *ret)
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
	for (unsigned int number = 2; name_is_taken(run, workload->namespace, ret); number++)
		snprintf(ret, NAME_ROOM, "%s-%u", base, number);
}

static cJSON *document_begin(const struct run *run, const struct workload *workload)
{
	cJSON *document = cJSON_CreateObject();
	cJSON *metadata, *spec, *types;
	char name[NAME_ROOM];

	name_choose(run, workload, name);
	cJSON_AddStringToObject(document, "apiVersion", "networking.k8s.io/v1");
	cJSON_AddStringToObject(document, "kind", "NetworkPolicy");
	metadata = cJSON_AddObjectToObject(document, "metadata");
	cJSON_AddStringToObject(metadata, "name", name);
	cJSON_AddStringToObject(metadata, "namespace", workload->namespace);
	spec = cJSON_AddObjectToObject(document, "spec");
	cJSON_AddItemToObject(spec, "podSelector", workload_selector(&run->workloads, workload));
	types = cJSON_AddArrayToObject(spec, "policyTypes");
	cJSON_AddItemToArray(types, cJSON_CreateString("Ingress"));
	cJSON_AddItemToArray(types, cJSON_CreateString("Egress"));
	return document;
}

/* Writes the workload's document; *next is its first grant, and is moved behind its last. */
static int document_write(struct run *run, const struct workload *workload, size_t *next)
{
	auto_free struct span *spans = calloc(run->grant_count + 1, sizeof(*spans));
	cJSON *document = document_begin(run, workload);
	cJSON *spec = cJSON_GetObjectItem(document, "spec");
	size_t count = 0;

	cJSON_AddItemToArray(run->out->policies, document);
	if (!spans || !spec)
		return -ENOMEM;
	while (*next < run->grant_count && run->grants[*next].subject == workload) {
		struct span span = span_at(run, *next);

		if (count && side_compare(span.grants, spans[0].grants) != 0) {
			rules_add(run, spec, spans, count);
			count = 0;
		}
		spans[count++] = span;
		*next += span.count;
	}
	if (count)
		rules_add(run, spec, spans, count);
	return 0;
}

static int documents_write(struct run *run)
{
	size_t next = 0;
	int code = 0;

	for (size_t i = 0; !code && i < run->workloads.count; i++) {
		if (run->wanted[i])
			code = document_write(run, &run->workloads.items[i], &next);
	}
	return code;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void subjects_mark(struct run *run, bool (*is_subject)(const struct object *pod, void *arg),
			  void *arg)
{
	for (size_t i = 0; i < run->workloads.count; i++) {
		const struct workload *workload = &run->workloads.items[i];
		char text[640];

		for (size_t k = 0; k < workload->pod_count && !run->wanted[i]; k++)
			run->wanted[i] = is_subject(workload->pods[k], arg);
		if (!run->wanted[i] || workload->label_count)
			continue;
		run->wanted[i] = false;
		snprintf(text, sizeof(text),
			 "%s/%s has no labels to select it by: it gets no policy",
			 workload->namespace, workload->pods[0]->name);
		note(run, text);
	}
}

int policy_record(const struct store *store, const struct record_flow *flows, size_t flow_count,
		  bool (*is_subject)(const struct object *pod, void *arg), void *arg,
		  struct recording *ret, struct errmsg *err)
{
	struct run run = { .store = store, .out = ret };
	int code;

	*ret = (struct recording){ cJSON_CreateArray(), cJSON_CreateArray() };
	code = ret->policies && ret->notes ? workloads_of(store, &run.workloads, err) : -ENOMEM;
	if (!code) {
		run.wanted = calloc(run.workloads.count + 1, sizeof(*run.wanted));
		run.grants = calloc(2 * flow_count + 1, sizeof(*run.grants));
		code = run.wanted && run.grants ? 0 : -ENOMEM;
	}
	if (!code) {
		subjects_mark(&run, is_subject, arg);
		for (size_t i = 0; i < flow_count; i++)
			flow_grant(&run, &flows[i]);
		grants_sort(&run);
		code = documents_write(&run);
	}
	workloads_done(&run.workloads);
	free(run.wanted);
	free(run.grants);
	if (code)
		recording_done(ret);
	return code ? fail(err, code, "record") : 0;
}

void recording_done(struct recording *recording)
{
	cJSON_Delete(recording->policies);
	cJSON_Delete(recording->notes);
	*recording = (struct recording){ 0 };
}
