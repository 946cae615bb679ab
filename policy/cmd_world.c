/* SPDX-License-Identifier: Apache-2.0 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "agent/lib/auto.h"
#include "policy/cli_world.h"
#include "policy/yaml.h"

struct origin { /* where an object came from */
	UT_hash_handle hh;
	char *source;
	char key[]; /* "KIND NAMESPACE/NAME" */
};

struct cli_world {
	struct world *objects;
	struct origin *origins;
};

struct cli_world *cli_world_new(void)
{
	auto_(cli_world) struct cli_world *world = calloc(1, sizeof(*world));

	if (world)
		world->objects = world_new();
	return world && world->objects ? take_ptr(world) : NULL;
}

void cli_world_free(struct cli_world *world)
{
	struct origin *origin, *next;

	if (!world)
		return;
	HASH_ITER(hh, world->origins, origin, next)
	{
		HASH_DEL(world->origins, origin);
		free(origin->source);
		free(origin);
	}
	world_free(world->objects);
	free(world);
}

const struct world *cli_world_objects(const struct cli_world *world)
{
	return world->objects;
}

static struct origin *origin_find(const struct cli_world *world, enum object_kind kind,
				  const char *namespace, const char *name)
{
	struct origin *origin;
	char key[600];

	snprintf(key, sizeof(key), "%s %s/%s", object_kind_name(kind), namespace, name);
	HASH_FIND_STR(world->origins, key, origin);
	return origin;
}

const char *cli_world_source(const struct cli_world *world, const struct object *object)
{
	const struct origin *origin =
		origin_find(world, object->kind, object->namespace, object->name);

	return origin ? origin->source : "";
}

static int origin_set(struct cli_world *world, enum object_kind kind, const char *namespace,
		      const char *name, const char *source)
{
	struct origin *origin = origin_find(world, kind, namespace, name);
	char key[600];
	size_t len;

	if (origin)
		return 0;
	len = (size_t)snprintf(key, sizeof(key), "%s %s/%s", object_kind_name(kind), namespace,
			       name);
	if (len >= sizeof(key))
		return -ENAMETOOLONG;
	origin = calloc(1, sizeof(*origin) + len + 1);
	if (!origin)
		return -ENOMEM;
	memcpy(origin->key, key, len + 1);
	origin->source = strdup(source);
	HASH_ADD_STR(world->origins, key, origin);
	return origin->source ? 0 : -ENOMEM;
}

/* ---- files ------------------------------------------------------------------------------------
 */

static int problem_add(struct problems *problems, const struct object *object, const char *message)
{
	struct problem *items = realloc(problems->items, (problems->count + 1) * sizeof(*items));
	struct problem *problem;

	if (!items)
		return -ENOMEM;
	problems->items = items;
	problem = &items[problems->count++];
	problems->errors++;
	*problem = (struct problem){ .path = strdup(""), .message = strdup(message) };
	if (asprintf(&problem->object, "%s %s/%s", object_kind_name(object->kind),
		     object->namespace, object->name) < 0)
		problem->object = NULL;
	return problem->object && problem->path && problem->message ? 0 : -ENOMEM;
}

/* One object of a file into the world; a second one of the same name is a problem, too. */
static int object_add(struct cli_world *world, struct object *object, const char *file,
		      struct problems *problems)
{
	const struct origin *known =
		origin_find(world, object->kind, object->namespace, object->name);
	struct errmsg why = { 0 };
	char message[700];
	int ret;

	if (known) {
		snprintf(message, sizeof(message), "is already in %s", known->source);
		ret = problem_add(problems, object, message);
		object_free(object);
		return ret;
	}
	ret = origin_set(world, object->kind, object->namespace, object->name, file);
	if (ret) {
		object_free(object);
		return ret;
	}
	object = take_ptr(object);
	ret = world_put(world->objects, object, &why);
	if (ret == -EEXIST) {
		struct object nameless = { .namespace = (char *)"", .name = (char *)"" };

		return problem_add(problems, &nameless, why.text);
	}
	return ret;
}

int cli_world_read(struct cli_world *world, const char *file, unsigned int parse_flags,
		   size_t *ret_count, struct problems *problems, struct errmsg *err)
{
	struct object_list list = { 0 };
	auto_free char *text = NULL;
	size_t len;
	int ret = cli_read_file(file, &text, &len, err);

	if (ret)
		return ret;
	ret = objects_parse(text, len, parse_flags, &list, problems);
	if (ret == -ENOMEM)
		return fail(err, ret, "%s", file);
	*ret_count = list.count;
	ret = 0;
	for (size_t i = 0; i < list.count && !ret; i++)
		ret = object_add(world, take_ptr(list.items[i]), file, problems);
	object_list_done(&list);
	return ret ? fail(err, ret, "%s", file) : 0;
}

static int load_file(const char *file, void *arg, struct errmsg *err)
{
	struct problems problems = { 0 };
	char text[1024];
	size_t count;
	int ret = cli_world_read(arg, file, PARSE_SKIP_KINDS, &count, &problems, err);

	for (size_t i = 0; !ret && i < problems.count; i++) {
		if (!problems.items[i].warning)
			ret = fail_plain(
				err, -EINVAL, "%s",
				problem_format(&problems.items[i], file, text, sizeof(text)));
	}
	problems_done(&problems);
	return ret;
}

/* ---- documents as they are --------------------------------------------------------------------
 */

static void documents_flatten(cJSON *document, cJSON *array)
{
	cJSON *items = cJSON_GetObjectItemCaseSensitive(document, "items");
	cJSON *item;

	if (!cJSON_IsArray(items)) {
		if (cJSON_IsObject(document))
			cJSON_AddItemToArray(array, document);
		else
			cJSON_Delete(document);
		return;
	}
	while ((item = cJSON_DetachItemFromArray(items, 0)))
		documents_flatten(item, array);
	cJSON_Delete(document);
}

int cli_documents_read(const char *file, cJSON *array, struct errmsg *err)
{
	struct text_error error = { 0 };
	auto_free char *text = NULL;
	cJSON *documents, *document;
	size_t len, used = 0;
	int ret = cli_read_file(file, &text, &len, err);

	if (ret)
		return ret;
	documents = text_is_json(text, len) ? json_value_parse(text, len, &used, &error)
					    : yaml_parse(text, len, &error);
	if (!documents)
		return fail_plain(err, -EINVAL, "%s:%zu:%zu: %s", file, error.line, error.column,
				  error.text);
	if (!cJSON_IsArray(documents)) {
		documents_flatten(documents, array);
		return 0;
	}
	while ((document = cJSON_DetachItemFromArray(documents, 0)))
		documents_flatten(document, array);
	cJSON_Delete(documents);
	return 0;
}

/* ---- the agent --------------------------------------------------------------------------------
 */

static const char *text_member(const cJSON *object, const char *name)
{
	const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));

	return value ? value : "";
}

static cJSON *pod_item(const cJSON *items, const char *namespace, const char *name)
{
	cJSON *item;

	cJSON_ArrayForEach (item, items) {
		const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(item, "metadata");

		if (strcmp(text_member(item, "kind"), "Pod") == 0 &&
		    strcmp(text_member(metadata, "namespace"), namespace) == 0 &&
		    strcmp(text_member(metadata, "name"), name) == 0)
			return item;
	}
	return NULL;
}

/* A wired endpoint is a Pod with the addresses the agent gave it; one without a Pod object has the
 * labels its runtime gave it. */
static void endpoint_join(const cJSON *endpoint, cJSON *items)
{
	const char *namespace = text_member(endpoint, "namespace");
	const char *name = text_member(endpoint, "name");
	cJSON *pod = pod_item(items, namespace, name), *addresses, *status;
	const cJSON *addr;

	if (!pod) {
		cJSON *metadata;

		pod = cJSON_CreateObject();
		cJSON_AddStringToObject(pod, "apiVersion", "v1");
		cJSON_AddStringToObject(pod, "kind", "Pod");
		metadata = cJSON_AddObjectToObject(pod, "metadata");
		cJSON_AddStringToObject(metadata, "namespace", namespace);
		cJSON_AddStringToObject(metadata, "name", name);
		cJSON_AddItemToObject(
			metadata, "labels",
			cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(endpoint, "labels"),
					true));
		cJSON_AddItemToArray(items, pod);
	}
	cJSON_DeleteItemFromObjectCaseSensitive(pod, "status");
	status = cJSON_AddObjectToObject(pod, "status");
	addresses = cJSON_AddArrayToObject(status, "podIPs");
	cJSON_ArrayForEach (addr, cJSON_GetObjectItemCaseSensitive(endpoint, "addresses")) {
		cJSON *ip = cJSON_CreateObject();

		cJSON_AddStringToObject(ip, "ip", cJSON_GetStringValue(addr));
		cJSON_AddItemToArray(addresses, ip);
	}
}

static int agent_sources(struct cli_world *world, const struct arguments *args, struct errmsg *err)
{
	cJSON *listing = NULL, *row;
	int ret = cli_call(args, "GET", "/v1/objects", NULL, &listing, err);

	cJSON_ArrayForEach (row, listing) {
		enum object_kind kind;

		if (!ret && object_kind_parse(text_member(row, "kind"), &kind) == 0)
			ret = origin_set(world, kind, text_member(row, "namespace"),
					 text_member(row, "name"), text_member(row, "source"));
	}
	cJSON_Delete(listing);
	return ret < 0 && !err->code ? fail(err, ret, "objects") : ret;
}

static int agent_objects(struct cli_world *world, const cJSON *items, struct errmsg *err)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, items) {
		struct problems problems = { 0 };
		struct object *object = NULL;
		int ret = object_parse(item, PARSE_LENIENT, &object, &problems);
		char text[1024];

		if (ret == -EINVAL && problems.count)
			ret = fail_plain(
				err, ret, "%s",
				problem_format(&problems.items[0], "agent", text, sizeof(text)));
		problems_done(&problems);
		if (!ret)
			ret = world_put(world->objects, object, err);
		if (ret)
			return err->code ? ret : fail(err, ret, "objects of the agent");
	}
	return 0;
}

static int agent_load(struct cli_world *world, const struct arguments *args, struct errmsg *err)
{
	cJSON *list = NULL, *endpoints = NULL, *items;
	const cJSON *endpoint;
	int ret = agent_sources(world, args, err);

	if (!ret)
		ret = cli_call(args, "GET", "/v1/objects?full=1", NULL, &list, err);
	if (!ret)
		ret = cli_call(args, "GET", "/v1/endpoints", NULL, &endpoints, err);
	items = cJSON_GetObjectItemCaseSensitive(list, "items");
	cJSON_ArrayForEach (endpoint, endpoints)
		endpoint_join(endpoint, items);
	if (!ret)
		ret = agent_objects(world, items, err);
	cJSON_Delete(list);
	cJSON_Delete(endpoints);
	return ret;
}

int cli_world_load(const struct arguments *args, struct cli_world **ret_world, struct errmsg *err)
{
	auto_(cli_world) struct cli_world *world = cli_world_new();
	int ret = world ? 0 : fail(err, -ENOMEM, "objects");

	if (!ret && args->file_count == 0)
		ret = agent_load(world, args, err);
	for (size_t i = 0; !ret && i < args->file_count; i++)
		ret = cli_each_file(args->files[i], load_file, world, err);
	if (!ret)
		*ret_world = take_ptr(world);
	return ret;
}
