/* SPDX-License-Identifier: Apache-2.0 */
/* Scenes: reading, writing, shrinking, and what the specification says about them. */
#include "unit/snapshot.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <glob.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/objects/object_equal.h"
#include "lib/auto.h"
#include "lib/document.h"
#include "lib/file.h"
#include "lib/inet.h"
#include "policy/objects/parse.h"
#include "unit/oracle.h"

#define SNAPSHOT_MAX 65536 /* bytes of a file */

DEFINE_AUTO(store)

static const cJSON *get(const cJSON *json, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(json, name);
}

void snapshot_done(struct snapshot *snapshot)
{
	cJSON_Delete(snapshot->objects);
	cJSON_Delete(snapshot->local);
	*snapshot = (struct snapshot){ 0 };
}

/* ---- as the library sees it ----------------------------------------------------------------- */

static int store_take_object(struct store *store, const cJSON *json, struct errmsg *err)
{
	struct problems problems = { 0 };
	const struct object *known;
	struct object *object = NULL;
	char line[600];
	int ret = object_parse(json, 0, &object, &problems);

	if (ret) {
		ret = fail_plain(err, ret, "%s",
				 problems.count ? problem_format(&problems.items[0], NULL, line,
								 sizeof(line))
						: "out of memory");
	} else {
		known = store_find(store, object->kind, object->namespace, object->name);
		if (known && object_equal(known, object))
			object_free(object);
		else
			ret = store_put(store, object, err);
	}
	problems_done(&problems);
	return ret;
}

static int store_take_endpoint(struct store *store, uint16_t slot, const char *text,
			       struct errmsg *err)
{
	const char *slash = strchr(text, '/');
	struct store_endpoint endpoint = { .slot = slot };
	const struct object *pod;
	char namespace[64];

	if (!slash)
		return fail_plain(err, -EINVAL, "%s: not namespace/name", text);
	snprintf(namespace, sizeof(namespace), "%.*s", (int)(slash - text), text);
	pod = store_find(store, OBJECT_POD, namespace, slash + 1);
	if (!pod)
		return fail_plain(err, -ENOENT, "no pod %s", text);
	endpoint.namespace = pod->namespace;
	endpoint.name = pod->name;
	endpoint.address_count = pod->pod.address_count;
	if (endpoint.address_count > ARRAY_SIZE(endpoint.addresses))
		endpoint.address_count = ARRAY_SIZE(endpoint.addresses);
	memcpy(endpoint.addresses, pod->pod.addresses, sizeof(endpoint.addresses));
	store_endpoint_set(store, &endpoint);
	return 0;
}

static bool snapshot_has(const struct snapshot *snapshot, const struct object *object)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, snapshot->objects) {
		const cJSON *metadata = get(item, "metadata");
		const char *namespace = cJSON_GetStringValue(get(metadata, "namespace"));

		if (!strcmp(get(item, "kind")->valuestring, object_kind_name(object->kind)) &&
		    !strcmp(get(metadata, "name")->valuestring, object->name) &&
		    !strcmp(namespace ? namespace : "", object->namespace))
			return true;
	}
	return false;
}

/* Takes out what the scene does not have. */
static void store_leave(struct store *store, const struct snapshot *snapshot)
{
	for (int kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
		const struct object *object = store_first(store, (enum object_kind)kind);

		while (object) {
			if (snapshot_has(snapshot, object)) {
				object = store_next(store, object);
				continue;
			}
			store_del(store, object->kind, object->namespace, object->name);
			object = store_first(store, (enum object_kind)kind);
		}
	}
}

int snapshot_enter(const struct snapshot *snapshot, struct store *store, struct errmsg *err)
{
	const struct store_endpoint *endpoints;
	const cJSON *item;
	uint16_t slot = 1;

	store_leave(store, snapshot);
	cJSON_ArrayForEach (item, snapshot->objects) {
		if (store_take_object(store, item, err) < 0)
			return err->code;
	}
	cJSON_ArrayForEach (item, snapshot->local) {
		if (store_take_endpoint(store, slot++, item->valuestring, err) < 0)
			return err->code;
	}
	while (store_endpoints(store, &endpoints) >= slot)
		store_endpoint_del(store, endpoints[slot - 1].slot);
	return 0;
}

struct store *snapshot_store(const struct snapshot *snapshot, struct errmsg *err)
{
	auto_(store) struct store *store = store_new();
	struct errmsg own = { 0 };
	struct addr hosts[2];

	if (addr_parse(HOST_V4, &hosts[0]) || addr_parse(HOST_V6, &hosts[1]))
		return NULL;
	store_host_addresses_set(store, hosts, ARRAY_SIZE(hosts));
	if (snapshot->local)
		store_set_local(store);
	if (snapshot_enter(snapshot, store, err ? err : &own) < 0)
		return NULL;
	return take_ptr(store);
}

uint16_t snapshot_slot(const struct store *store, const struct addr *addr)
{
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(store, &endpoints);

	for (size_t i = 0; i < count; i++) {
		for (size_t a = 0; a < endpoints[i].address_count; a++) {
			if (addr_equal(&endpoints[i].addresses[a], addr))
				return endpoints[i].slot;
		}
	}
	return 0;
}

struct flow question_flow(const struct query *query)
{
	struct flow flow = { .sport = htons(40000), .dport = htons(query->port) };

	addr_parse(query->from, &flow.saddr);
	addr_parse(query->to, &flow.daddr);
	proto_parse(query->protocol, &flow.proto);
	if (flow.proto == IPPROTO_ICMP && !addr_is_v4(&flow.saddr))
		flow.proto = IPPROTO_ICMPV6;
	return flow;
}

/* ---- as the specification says -------------------------------------------------------------- */

static bool is_enforced(const cJSON *pod, const void *arg)
{
	const struct snapshot *snapshot = arg;
	const cJSON *metadata = get(pod, "metadata");
	const cJSON *item;
	char text[128];

	if (!snapshot->local)
		return true;
	snprintf(text, sizeof(text), "%s/%s", cJSON_GetStringValue(get(metadata, "namespace")),
		 cJSON_GetStringValue(get(metadata, "name")));
	cJSON_ArrayForEach (item, snapshot->local) {
		if (!strcmp(item->valuestring, text))
			return true;
	}
	return false;
}

bool question_from_node(const struct query *query)
{
	return !strcmp(query->from, HOST_V4) || !strcmp(query->from, HOST_V6);
}

enum drop_reason snapshot_oracle(const struct snapshot *snapshot, const struct query *query)
{
	static const enum drop_reason reasons[] = { [ORACLE_ALLOWED] = DROP_NONE,
						    [ORACLE_EGRESS_DENIED] = DROP_EGRESS_DENIED,
						    [ORACLE_INGRESS_DENIED] = DROP_INGRESS_DENIED };
	struct oracle_query asked = { .objects = snapshot->objects,
				      .source = query->from,
				      .destination = query->to,
				      .protocol = query->protocol,
				      .port = query->port,
				      .source_is_node = question_from_node(query),
				      .enforced = is_enforced,
				      .arg = snapshot };

	return reasons[oracle_ask(&asked)];
}

/* ---- shrinking ------------------------------------------------------------------------------ */

struct shrinking {
	struct snapshot *snapshot;
	bool (*still)(const struct snapshot *snapshot, void *arg);
	void *arg;
	bool smaller;
};

/* A part keeps its links while it is out, so that it can go back to where it was.  (The first
 * child's prev is the last one.) */
static void part_take_out(cJSON *parent, cJSON *child)
{
	if (parent->child == child)
		parent->child = child->next;
	else
		child->prev->next = child->next;
	if (child->next)
		child->next->prev = child->prev;
	else if (parent->child)
		parent->child->prev = child->prev;
}

static void part_put_back(cJSON *parent, cJSON *child, bool first)
{
	if (first)
		parent->child = child;
	else
		child->prev->next = child;
	if (child->next)
		child->next->prev = child;
	else
		parent->child->prev = child;
}

/* Tries the tree without each of its parts, the large ones first. */
static void shrink_part(struct shrinking *shrinking, cJSON *parent)
{
	cJSON *next;

	for (cJSON *child = parent ? parent->child : NULL; child; child = next) {
		bool first = child == parent->child;

		next = child->next;
		part_take_out(parent, child);
		if (shrinking->still(shrinking->snapshot, shrinking->arg)) {
			child->next = NULL;
			cJSON_Delete(child);
			shrinking->smaller = true;
		} else {
			part_put_back(parent, child, first);
			shrink_part(shrinking, child);
		}
	}
}

void snapshot_shrink(struct snapshot *snapshot,
		     bool (*still)(const struct snapshot *snapshot, void *arg), void *arg)
{
	struct shrinking shrinking = { .snapshot = snapshot, .still = still, .arg = arg };

	do {
		shrinking.smaller = false;
		shrink_part(&shrinking, snapshot->local);
		shrink_part(&shrinking, snapshot->objects);
	} while (shrinking.smaller);
}

/* ---- files ---------------------------------------------------------------------------------- */

const char *answer_name(enum drop_reason reason)
{
#define X(num, name, text) [num] = #name,
	static const char *const names[] = { [0] = "allow", DROP_REASONS(X) };
#undef X

	if (reason == DROP_EGRESS_DENIED)
		return "deny egress";
	return reason == DROP_INGRESS_DENIED ? "deny ingress" : names[reason];
}

static int answer_parse(const char *text, enum drop_reason *ret)
{
	static const enum drop_reason answers[] = { DROP_NONE, DROP_EGRESS_DENIED,
						    DROP_INGRESS_DENIED };

	for (size_t i = 0; text && i < ARRAY_SIZE(answers); i++) {
		if (!strcmp(answer_name(answers[i]), text)) {
			*ret = answers[i];
			return 0;
		}
	}
	return -EINVAL;
}

/* A value is written in flow style, which is JSON, as soon as it is short enough for a line. */
static void yaml_write(FILE *out, const cJSON *json, int indent)
{
	auto_free char *line = cJSON_PrintUnformatted(json);
	const cJSON *child;

	if (!line)
		return;
	if (!json->child || strlen(line) + (size_t)indent < 90) {
		fprintf(out, " %s\n", line);
		return;
	}
	fputc('\n', out);
	cJSON_ArrayForEach (child, json) {
		if (cJSON_IsArray(json))
			fprintf(out, "%*s-", indent, "");
		else
			fprintf(out, "%*s%s:", indent, "", child->string);
		yaml_write(out, child, indent + 2);
	}
}

char *snapshot_write(const struct snapshot *snapshot, const struct query *query,
		     enum drop_reason answer)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	const cJSON *object;

	if (!out)
		return NULL;
	fprintf(out, "from: %s\nto: %s\nprotocol: %s\nport: %u\nanswer: %s\n", query->from,
		query->to, query->protocol, query->port, answer_name(answer));
	if (snapshot->local) {
		fputs("local:", out);
		yaml_write(out, snapshot->local, 0);
	}
	cJSON_ArrayForEach (object, snapshot->objects) {
		fputs("---", out);
		yaml_write(out, object, 0);
	}
	fclose(out);
	return text;
}

static int question_read(const cJSON *json, struct query *ret, enum drop_reason *ret_answer)
{
	const char *from = cJSON_GetStringValue(get(json, "from"));
	const char *to = cJSON_GetStringValue(get(json, "to"));
	const char *protocol = cJSON_GetStringValue(get(json, "protocol"));
	const cJSON *port = get(json, "port");

	if (!from || !to || !protocol || !cJSON_IsNumber(port))
		return -EINVAL;
	snprintf(ret->from, sizeof(ret->from), "%s", from);
	snprintf(ret->to, sizeof(ret->to), "%s", to);
	snprintf(ret->protocol, sizeof(ret->protocol), "%s", protocol);
	ret->port = (uint16_t)port->valueint;
	return answer_parse(cJSON_GetStringValue(get(json, "answer")), ret_answer);
}

int snapshot_read(const char *path, struct snapshot *ret, struct query *ret_question,
		  enum drop_reason *ret_answer, struct errmsg *err)
{
	auto_free char *text = NULL;
	struct text_error problem;
	cJSON *query;
	size_t len;

	if (file_read(path, SNAPSHOT_MAX, &text, &len, err) < 0)
		return err->code;
	*ret = (struct snapshot){ .objects = documents_parse(text, len, &problem) };
	if (!ret->objects)
		return fail_plain(err, -EINVAL, "%s:%zu: %s", path, problem.line, problem.text);
	query = cJSON_DetachItemFromArray(ret->objects, 0);
	ret->local = cJSON_DetachItemFromObjectCaseSensitive(query, "local");
	if (question_read(query, ret_question, ret_answer) < 0) {
		snapshot_done(ret);
		fail_plain(err, -EINVAL, "%s: not a question with its answer", path);
	}
	cJSON_Delete(query);
	return err->code;
}

size_t snapshots_foreach(void (*each)(const char *path, void *arg), void *arg)
{
	glob_t found = { 0 };
	size_t count = 0;

	if (glob(SNAPSHOT_DIR "/*.yaml", 0, NULL, &found) == 0) {
		for (; count < found.gl_pathc; count++)
			each(found.gl_pathv[count], arg);
	}
	globfree(&found);
	return count;
}
