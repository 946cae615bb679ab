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
#include "lib/file.h"
#include "lib/inet.h"
#include "lib/yaml.h"
#include "policy/objects/parse.h"
#include "unit/oracle.h"

#define SCENE_MAX 65536 /* bytes of a file */

DEFINE_AUTO(world)

static const cJSON *get(const cJSON *json, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(json, name);
}

void scene_done(struct scene *scene)
{
	cJSON_Delete(scene->objects);
	cJSON_Delete(scene->local);
	*scene = (struct scene){ 0 };
}

/* ---- as the library sees it ----------------------------------------------------------------- */

static int world_take_object(struct world *world, const cJSON *json, struct errmsg *err)
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
		known = world_find(world, object->kind, object->namespace, object->name);
		if (known && object_equal(known, object))
			object_free(object);
		else
			ret = world_put(world, object, err);
	}
	problems_done(&problems);
	return ret;
}

static int world_take_endpoint(struct world *world, uint16_t slot, const char *text,
			       struct errmsg *err)
{
	const char *slash = strchr(text, '/');
	struct world_endpoint endpoint = { .slot = slot };
	const struct object *pod;
	char namespace[64];

	if (!slash)
		return fail_plain(err, -EINVAL, "%s: not namespace/name", text);
	snprintf(namespace, sizeof(namespace), "%.*s", (int)(slash - text), text);
	pod = world_find(world, OBJECT_POD, namespace, slash + 1);
	if (!pod)
		return fail_plain(err, -ENOENT, "no pod %s", text);
	endpoint.namespace = pod->namespace;
	endpoint.name = pod->name;
	endpoint.address_count = pod->pod.address_count;
	if (endpoint.address_count > ARRAY_SIZE(endpoint.addresses))
		endpoint.address_count = ARRAY_SIZE(endpoint.addresses);
	memcpy(endpoint.addresses, pod->pod.addresses, sizeof(endpoint.addresses));
	return world_endpoint_set(world, &endpoint);
}

static bool scene_has(const struct scene *scene, const struct object *object)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, scene->objects) {
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
static void world_leave(struct world *world, const struct scene *scene)
{
	for (int kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
		const struct object *object = world_first(world, (enum object_kind)kind);

		while (object) {
			if (scene_has(scene, object)) {
				object = world_next(world, object);
				continue;
			}
			world_del(world, object->kind, object->namespace, object->name);
			object = world_first(world, (enum object_kind)kind);
		}
	}
}

int scene_enter(const struct scene *scene, struct world *world, struct errmsg *err)
{
	const struct world_endpoint *endpoints;
	const cJSON *item;
	uint16_t slot = 1;

	world_leave(world, scene);
	cJSON_ArrayForEach (item, scene->objects) {
		if (world_take_object(world, item, err) < 0)
			return err->code;
	}
	cJSON_ArrayForEach (item, scene->local) {
		if (world_take_endpoint(world, slot++, item->valuestring, err) < 0)
			return err->code;
	}
	while (world_endpoints(world, &endpoints) >= slot)
		world_endpoint_del(world, endpoints[slot - 1].slot);
	return 0;
}

struct world *scene_world(const struct scene *scene, struct errmsg *err)
{
	auto_(world) struct world *world = world_new();
	struct errmsg own = { 0 };
	struct addr hosts[2];

	if (!world || addr_parse(HOST_V4, &hosts[0]) || addr_parse(HOST_V6, &hosts[1]) ||
	    world_host_addresses_set(world, hosts, ARRAY_SIZE(hosts)) < 0)
		return NULL;
	if (scene->local)
		world_set_local(world);
	if (scene_enter(scene, world, err ? err : &own) < 0)
		return NULL;
	return take_ptr(world);
}

uint16_t scene_slot(const struct world *world, const struct addr *addr)
{
	const struct world_endpoint *endpoints;
	size_t count = world_endpoints(world, &endpoints);

	for (size_t i = 0; i < count; i++) {
		for (size_t a = 0; a < endpoints[i].address_count; a++) {
			if (addr_equal(&endpoints[i].addresses[a], addr))
				return endpoints[i].slot;
		}
	}
	return 0;
}

struct flow question_flow(const struct question *question)
{
	struct flow flow = { .sport = htons(40000), .dport = htons(question->port) };

	addr_parse(question->from, &flow.saddr);
	addr_parse(question->to, &flow.daddr);
	proto_parse(question->protocol, &flow.proto);
	if (flow.proto == IPPROTO_ICMP && !addr_is_v4(&flow.saddr))
		flow.proto = IPPROTO_ICMPV6;
	return flow;
}

/* ---- as the specification says -------------------------------------------------------------- */

static bool is_enforced(const cJSON *pod, const void *arg)
{
	const struct scene *scene = arg;
	const cJSON *metadata = get(pod, "metadata");
	const cJSON *item;
	char text[128];

	if (!scene->local)
		return true;
	snprintf(text, sizeof(text), "%s/%s", cJSON_GetStringValue(get(metadata, "namespace")),
		 cJSON_GetStringValue(get(metadata, "name")));
	cJSON_ArrayForEach (item, scene->local) {
		if (!strcmp(item->valuestring, text))
			return true;
	}
	return false;
}

bool question_from_node(const struct question *question)
{
	return !strcmp(question->from, HOST_V4) || !strcmp(question->from, HOST_V6);
}

enum drop_reason scene_oracle(const struct scene *scene, const struct question *question)
{
	static const enum drop_reason reasons[] = { [ORACLE_ALLOWED] = DROP_NONE,
						    [ORACLE_EGRESS_DENIED] = DROP_EGRESS_DENIED,
						    [ORACLE_INGRESS_DENIED] = DROP_INGRESS_DENIED };
	struct oracle_question asked = { .objects = scene->objects,
					 .source = question->from,
					 .destination = question->to,
					 .protocol = question->protocol,
					 .port = question->port,
					 .source_is_node = question_from_node(question),
					 .enforced = is_enforced,
					 .arg = scene };

	return reasons[oracle_ask(&asked)];
}

/* ---- shrinking ------------------------------------------------------------------------------ */

struct shrinking {
	struct scene *scene;
	bool (*still)(const struct scene *scene, void *arg);
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
		if (shrinking->still(shrinking->scene, shrinking->arg)) {
			child->next = NULL;
			cJSON_Delete(child);
			shrinking->smaller = true;
		} else {
			part_put_back(parent, child, first);
			shrink_part(shrinking, child);
		}
	}
}

void scene_shrink(struct scene *scene, bool (*still)(const struct scene *scene, void *arg),
		  void *arg)
{
	struct shrinking shrinking = { .scene = scene, .still = still, .arg = arg };

	do {
		shrinking.smaller = false;
		shrink_part(&shrinking, scene->local);
		shrink_part(&shrinking, scene->objects);
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

char *scene_write(const struct scene *scene, const struct question *question,
		  enum drop_reason answer)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	const cJSON *object;

	if (!out)
		return NULL;
	fprintf(out, "from: %s\nto: %s\nprotocol: %s\nport: %u\nanswer: %s\n", question->from,
		question->to, question->protocol, question->port, answer_name(answer));
	if (scene->local) {
		fputs("local:", out);
		yaml_write(out, scene->local, 0);
	}
	cJSON_ArrayForEach (object, scene->objects) {
		fputs("---", out);
		yaml_write(out, object, 0);
	}
	fclose(out);
	return text;
}

static int question_read(const cJSON *json, struct question *ret, enum drop_reason *ret_answer)
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

int scene_read(const char *path, struct scene *ret, struct question *ret_question,
	       enum drop_reason *ret_answer, struct errmsg *err)
{
	auto_free char *text = NULL;
	struct text_error problem;
	cJSON *question;
	size_t len;

	if (file_read(path, SCENE_MAX, &text, &len, err) < 0)
		return err->code;
	*ret = (struct scene){ .objects = documents_parse(text, len, &problem) };
	if (!ret->objects)
		return fail_plain(err, -EINVAL, "%s:%zu: %s", path, problem.line, problem.text);
	question = cJSON_DetachItemFromArray(ret->objects, 0);
	ret->local = cJSON_DetachItemFromObjectCaseSensitive(question, "local");
	if (question_read(question, ret_question, ret_answer) < 0) {
		scene_done(ret);
		fail_plain(err, -EINVAL, "%s: not a question with its answer", path);
	}
	cJSON_Delete(question);
	return err->code;
}

size_t scenes_foreach(void (*each)(const char *path, void *arg), void *arg)
{
	glob_t found = { 0 };
	size_t count = 0;

	if (glob(SCENE_DIR "/*.yaml", 0, NULL, &found) == 0) {
		for (; count < found.gl_pathc; count++)
			each(found.gl_pathv[count], arg);
	}
	globfree(&found);
	return count;
}
