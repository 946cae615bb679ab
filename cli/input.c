/* SPDX-License-Identifier: Apache-2.0 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/input.h"
#include "lib/auto.h"
#include "lib/yaml.h"

#define CONFLICTS_MAX 100 /* of one file; more are only counted */

struct source { /* one file */
	struct source *next;
	char *file;
	char *text;
	size_t len;
};

struct cli_input {
	struct store *objects; /* the source of an object is a struct source, or NULL */
	struct source *sources;
	cJSON *listing; /* the agent's word on where its objects come from */
	struct addr *node_addresses;
	size_t node_address_count;
};

struct cli_input *cli_input_new(void)
{
	auto_(cli_input) struct cli_input *store = calloc(1, sizeof(*store));

	if (store)
		store->objects = store_new();
	return store && store->objects ? take_ptr(store) : NULL;
}

void cli_input_free(struct cli_input *store)
{
	if (!store)
		return;
	store_free(store->objects);
	while (store->sources) {
		struct source *source = store->sources;

		store->sources = source->next;
		free(source->file);
		free(source->text);
		free(source);
	}
	cJSON_Delete(store->listing);
	free(store->node_addresses);
	free(store);
}

const struct store *cli_input_objects(const struct cli_input *store)
{
	return store->objects;
}

bool cli_input_is_node_address(const struct cli_input *store, const struct addr *addr)
{
	for (size_t i = 0; i < store->node_address_count; i++) {
		if (addr_equal(&store->node_addresses[i], addr))
			return true;
	}
	return false;
}

int cli_input_know_node(struct cli_input *store, struct errmsg *err)
{
	int ret = store_host_addresses_set(store->objects, store->node_addresses,
					   store->node_address_count);

	return ret ? fail(err, ret, "addresses of the node") : 0;
}

/* What the agent says of where an object is from; "" if there is no agent. */
static const char *listed_source(const struct cli_input *store, const struct object *object)
{
	const cJSON *row;

	cJSON_ArrayForEach (row, store->listing) {
		if (strcmp(cli_text(row, "kind", ""), object_kind_name(object->kind)) == 0 &&
		    strcmp(cli_text(row, "namespace", ""), object->namespace) == 0 &&
		    strcmp(cli_text(row, "name", ""), object->name) == 0)
			return cli_text(row, "source", "");
	}
	return "";
}

const char *cli_input_source(const struct cli_input *store, const struct object *object,
			     const char *path, char *buf, size_t size)
{
	const struct source *source = object->source;
	size_t line;
	size_t column;

	if (source && object_position(source->text, source->len, object, path, &line, &column))
		snprintf(buf, size, "%s:%zu", source->file, line);
	else
		snprintf(buf, size, "%s", source ? source->file : listed_source(store, object));
	return buf;
}

/* The places of one file. */
static int source_position(const struct source *source, struct cli_position *places, size_t count)
{
	auto_free struct object_place *found = calloc(count + 1, sizeof(*found));
	size_t used = 0;

	if (!found)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (places[i].object->source == source)
			found[used++] = (struct object_place){ .object = places[i].object,
							       .path = places[i].path };
	}
	if (used)
		objects_position(source->text, source->len, found, used);
	used = 0;
	for (size_t i = 0; i < count; i++) {
		if (places[i].object->source != source)
			continue;
		places[i].file = source->file;
		places[i].line = found[used].line;
		places[i].column = found[used++].column;
	}
	return 0;
}

int cli_input_position(const struct cli_input *store, struct cli_position *places, size_t count)
{
	int ret = 0;

	for (size_t i = 0; i < count; i++) {
		if (!places[i].object->source)
			places[i].file = listed_source(store, places[i].object);
	}
	for (const struct source *source = store->sources; source && !ret; source = source->next)
		ret = source_position(source, places, count);
	return ret;
}

/* ---- files ------------------------------------------------------------------------------------
 */

/* Problems with objects as a whole, whose places are looked for together: one pass over a text. */
struct conflicts {
	struct conflict {
		size_t problem;             /* its number */
		struct object place;        /* no more of the object than where it stood */
		const struct object *known; /* the earlier one of its name, or NULL */
	} items[CONFLICTS_MAX];
	size_t count;
};

static int conflict_add(struct conflicts *conflicts, const struct object *place,
			const struct object *known, const char *name, const char *message,
			struct problems *problems)
{
	struct problem *items, *problem;

	problems->errors++;
	if (conflicts->count == CONFLICTS_MAX)
		return 0;
	items = realloc(problems->items, (problems->count + 1) * sizeof(*items));
	if (!items)
		return -ENOMEM;
	problems->items = items;
	problem = &items[problems->count];
	*problem = (struct problem){ .object = strdup(name),
				     .path = strdup(""),
				     .message = strdup(message) };
	conflicts->items[conflicts->count++] =
		(struct conflict){ problems->count++, *place, known };
	return problem->object && problem->path && problem->message ? 0 : -ENOMEM;
}

static int conflicts_position(const struct cli_input *store, const struct conflicts *conflicts,
			      struct problems *problems)
{
	auto_free struct cli_position *places = calloc(2 * CONFLICTS_MAX, sizeof(*places));
	struct cli_position *own = places, *known = places + CONFLICTS_MAX;

	if (!places)
		return -ENOMEM;
	for (size_t i = 0; i < conflicts->count; i++) {
		const struct conflict *conflict = &conflicts->items[i];

		own[i] = (struct cli_position){ .object = &conflict->place, .path = "" };
		known[i] = own[i];
		if (conflict->known)
			known[i].object = conflict->known;
	}
	if (cli_input_position(store, own, conflicts->count) ||
	    cli_input_position(store, known, conflicts->count))
		return -ENOMEM;
	for (size_t i = 0; i < conflicts->count; i++) {
		struct problem *problem = &problems->items[conflicts->items[i].problem];
		char *message;

		problem->line = own[i].line;
		problem->column = own[i].column;
		if (!conflicts->items[i].known)
			continue;
		if (asprintf(&message, "is already in %s:%zu", known[i].file, known[i].line) < 0)
			return -ENOMEM;
		free(problem->message);
		problem->message = message;
	}
	return 0;
}

/* One object of a file into the store; what contradicts an earlier one is a problem. */
static int object_add(struct cli_input *store, struct object *object, const struct source *source,
		      struct conflicts *conflicts, struct problems *problems)
{
	const struct object place = { .document = object->document,
				      .item = object->item,
				      .source = source };
	const struct object *known =
		store_find(store->objects, object->kind, object->namespace, object->name);
	struct errmsg why = { 0 };
	char name[600];
	int ret;

	snprintf(name, sizeof(name), "%s %s%s%s", object_kind_name(object->kind), object->namespace,
		 *object->namespace ? "/" : "", object->name);
	if (known) {
		object_free(object);
		return conflict_add(conflicts, &place, known, name, "is there already", problems);
	}
	object->source = source;
	ret = store_put(store->objects, object, &why);
	return ret == -EEXIST ? conflict_add(conflicts, &place, NULL, name, why.text, problems)
			      : ret;
}

/* Reads a file and keeps its text: lines are looked up in it later. */
static struct source *source_read(struct cli_input *store, const char *file, struct errmsg *err)
{
	struct source *source = calloc(1, sizeof(*source));

	if (source) {
		source->next = store->sources;
		store->sources = source;
		source->file = strdup(cli_file_name(file));
	}
	if (!source || !source->file) {
		fail(err, -ENOMEM, "%s", file);
		return NULL;
	}
	return cli_read_file(file, &source->text, &source->len, err) == 0 ? source : NULL;
}

int cli_input_read(struct cli_input *store, const char *file, unsigned int parse_flags,
		   size_t *ret_count, struct problems *problems, struct errmsg *err)
{
	struct object_list list = { 0 };
	const struct source *source = source_read(store, file, err);
	auto_free struct conflicts *conflicts = calloc(1, sizeof(*conflicts));
	int ret;

	if (!source)
		return err->code;
	if (!conflicts)
		return fail(err, -ENOMEM, "%s", file);
	ret = objects_parse(source->text, source->len, parse_flags, &list, problems);
	if (ret == -ENOMEM)
		return fail(err, ret, "%s", file);
	*ret_count = list.count;
	ret = 0;
	for (size_t i = 0; i < list.count && !ret; i++)
		ret = object_add(store, take_ptr(list.items[i]), source, conflicts, problems);
	object_list_done(&list);
	if (!ret && conflicts->count)
		ret = conflicts_position(store, conflicts, problems);
	return ret ? fail(err, ret, "%s", file) : 0;
}

static int load_file(const char *file, void *arg, struct errmsg *err)
{
	struct problems problems = { 0 };
	char text[1024];
	size_t count;
	int ret = cli_input_read(arg, file, PARSE_SKIP_KINDS, &count, &problems, err);

	for (size_t i = 0; !ret && i < problems.count; i++) {
		if (!problems.items[i].warning)
			ret = fail_plain(err, -EINVAL, "%s",
					 problem_format(&problems.items[i], cli_file_name(file),
							text, sizeof(text)));
	}
	problems_done(&problems);
	return ret;
}

int cli_input_add(struct cli_input *store, const char *path, struct errmsg *err)
{
	return cli_each_file(path, load_file, store, err);
}

/* ---- inventory ---------------------------------------------------------------------------------
 */

static bool is_inventory(enum object_kind kind)
{
	return kind != OBJECT_NETWORK_POLICY && kind != OBJECT_CLUSTER_POLICY;
}

static int fill_from(struct cli_input *store, const struct source *source)
{
	struct object_list list = { 0 };
	struct problems ignored = { 0 }; /* the text was read before */
	int ret = objects_parse(source->text, source->len, PARSE_SKIP_KINDS, &list, &ignored);

	for (size_t i = 0; i < list.count && !ret; i++) {
		const struct object *object = list.items[i];

		if (!is_inventory(object->kind) ||
		    store_find(store->objects, object->kind, object->namespace, object->name))
			continue;
		list.items[i]->source = source;
		ret = store_put(store->objects, take_ptr(list.items[i]), NULL);
		ret = ret == -EEXIST ? 0 : ret;
	}
	object_list_done(&list);
	problems_done(&ignored);
	return ret;
}

int cli_input_fill(struct cli_input *store, const struct cli_input *other, struct errmsg *err)
{
	int ret = 0;

	for (const struct source *source = other->sources; source && !ret; source = source->next)
		ret = fill_from(store, source);
	return ret ? fail(err, ret, "pods and namespaces") : 0;
}

/* ---- documents as they are --------------------------------------------------------------------
 */

/* Items of a PodList and its like need not say what they are; alone they must. */
static void item_complete(cJSON *item, const cJSON *list)
{
	const char *kind = cli_text(list, "kind", "");
	size_t len = strlen(kind);
	char own[64];

	if (!cJSON_IsObject(item) || len <= strlen("List") || len - strlen("List") >= sizeof(own))
		return;
	memcpy(own, kind, len - strlen("List"));
	own[len - strlen("List")] = '\0';
	if (!*cli_text(item, "kind", ""))
		cJSON_AddStringToObject(item, "kind", own);
	if (!*cli_text(item, "apiVersion", ""))
		cJSON_AddStringToObject(item, "apiVersion", cli_text(list, "apiVersion", ""));
}

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
	while ((item = cJSON_DetachItemFromArray(items, 0))) {
		item_complete(item, document);
		documents_flatten(item, array);
	}
	cJSON_Delete(document);
}

int cli_documents_read(const struct cli_input *store, const char *file, cJSON *array,
		       struct errmsg *err)
{
	const struct source *source = store->sources;
	struct text_error error = { 0 };
	cJSON *documents, *document;

	while (source && strcmp(source->file, cli_file_name(file)) != 0)
		source = source->next;
	if (!source)
		return fail(err, -ENOENT, "%s", file);
	documents = documents_parse(source->text, source->len, &error);
	if (!documents)
		return fail_plain(err, -EINVAL, "%s:%zu:%zu: %s", cli_file_name(file), error.line,
				  error.column, error.text);
	while ((document = cJSON_DetachItemFromArray(documents, 0)))
		documents_flatten(document, array);
	cJSON_Delete(documents);
	return 0;
}

/* ---- the agent --------------------------------------------------------------------------------
 */

static cJSON *pod_item(const cJSON *items, const char *namespace, const char *name)
{
	cJSON *item;

	cJSON_ArrayForEach (item, items) {
		const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(item, "metadata");

		if (strcmp(cli_text(item, "kind", ""), "Pod") == 0 &&
		    strcmp(cli_text(metadata, "namespace", ""), namespace) == 0 &&
		    strcmp(cli_text(metadata, "name", ""), name) == 0)
			return item;
	}
	return NULL;
}

/* A wired endpoint is a Pod with the addresses the agent gave it; one without a Pod object has the
 * labels its runtime gave it. */
static void endpoint_join(const cJSON *endpoint, cJSON *items)
{
	const char *namespace = cli_text(endpoint, "namespace", "");
	const char *name = cli_text(endpoint, "name", "");
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

static int agent_node_addresses(struct cli_input *store, const cJSON *status)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(status, "nodeAddresses");
	const cJSON *item;

	store->node_addresses = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof(struct addr));
	if (!store->node_addresses)
		return -ENOMEM;
	cJSON_ArrayForEach (item, list) {
		if (cJSON_IsString(item) &&
		    addr_parse(item->valuestring,
			       &store->node_addresses[store->node_address_count]) == 0)
			store->node_address_count++;
	}
	return 0;
}

static int agent_objects(struct cli_input *store, const cJSON *items, struct errmsg *err)
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
			ret = store_put(store->objects, object, err);
		if (ret)
			return err->code ? ret : fail(err, ret, "objects of the agent");
	}
	return 0;
}

static bool same_object(const cJSON *a, const cJSON *b)
{
	const cJSON *a_meta = cli_member(a, "metadata"), *b_meta = cli_member(b, "metadata");

	return strcmp(cli_text(a, "kind", ""), cli_text(b, "kind", "")) == 0 &&
	       strcmp(cli_text(a_meta, "name", ""), cli_text(b_meta, "name", "")) == 0 &&
	       strcmp(cli_text(a_meta, "namespace", "default"),
		      cli_text(b_meta, "namespace", "default")) == 0;
}

/* Documents take the place of the items that they would replace. */
static void documents_overlay(cJSON *items, const cJSON *documents)
{
	const cJSON *document;

	cJSON_ArrayForEach (document, documents) {
		cJSON *item;
		int index = 0;

		cJSON_ArrayForEach (item, items) {
			if (same_object(item, document)) {
				cJSON_DeleteItemFromArray(items, index);
				break;
			}
			index++;
		}
		cJSON_AddItemToArray(items, cJSON_Duplicate(document, true));
	}
}

static int agent_load(struct cli_input *store, const struct arguments *args, const cJSON *documents,
		      struct errmsg *err)
{
	cJSON *list = NULL, *endpoints = NULL, *status = NULL, *items;
	const cJSON *endpoint;
	int ret = cli_call(args, "GET", "/v1/objects", NULL, &store->listing, err);

	if (!ret)
		ret = cli_call(args, "GET", "/v1/objects?full=1", NULL, &list, err);
	if (!ret)
		ret = cli_call(args, "GET", "/v1/endpoints", NULL, &endpoints, err);
	if (!ret)
		ret = cli_call(args, "GET", "/v1/status", NULL, &status, err);
	if (!ret && agent_node_addresses(store, status) < 0)
		ret = fail(err, -ENOMEM, "objects of the agent");
	items = cJSON_GetObjectItemCaseSensitive(list, "items");
	documents_overlay(items, documents);
	cJSON_ArrayForEach (endpoint, endpoints)
		endpoint_join(endpoint, items);
	if (!ret)
		ret = agent_objects(store, items, err);
	cJSON_Delete(list);
	cJSON_Delete(endpoints);
	cJSON_Delete(status);
	return ret;
}

int cli_input_load_agent(const struct arguments *args, const cJSON *documents,
			 struct cli_input **ret_store, struct errmsg *err)
{
	auto_(cli_input) struct cli_input *store = cli_input_new();
	int ret = store ? agent_load(store, args, documents, err) : fail(err, -ENOMEM, "objects");

	if (!ret)
		*ret_store = take_ptr(store);
	return ret;
}

int cli_input_load(const struct arguments *args, struct cli_input **ret_store, struct errmsg *err)
{
	auto_(cli_input) struct cli_input *store = cli_input_new();
	int ret = store ? 0 : fail(err, -ENOMEM, "objects");

	if (!ret && args->file_count == 0)
		ret = agent_load(store, args, NULL, err);
	for (size_t i = 0; !ret && i < args->file_count; i++)
		ret = cli_input_add(store, args->files[i], err);
	if (!ret)
		*ret_store = take_ptr(store);
	return ret;
}
