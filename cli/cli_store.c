/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli_store.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/files.h"
#include "cli/output.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/shared.h"
#include "policy/objects/object_items.h"
#include "policy/objects/policy.h"

#define CONFLICTS_MAX 100 /* of one file; more are only counted */

struct source_file { /* one file */
	struct source_file *next;
	char *file;
	char *text;
	size_t len;
	/* Lines of policies and their rules, found all at once when the first is asked for. */
	struct arena *arena;
	struct intern places; /* object and path -> index of lines */
	size_t *lines;        /* 0: not known */
	size_t line_capacity;
};

struct cli_store *cli_store_new(void)
{
	struct cli_store *store = xcalloc(1, sizeof(*store));

	store->objects = store_new();
	return store;
}

void cli_store_free(struct cli_store *store)
{
	if (!store)
		return;
	store_free(store->objects);
	while (store->files) {
		struct source_file *source = store->files;

		store->files = source->next;
		free(source->file);
		free(source->text);
		intern_done(&source->places);
		free(source->lines);
		arena_free(source->arena);
		free(source);
	}
	cJSON_Delete(store->listing);
	free(store->node_addresses);
	free(store);
}

bool cli_store_is_node_address(const struct cli_store *store, const struct addr *addr)
{
	for (size_t i = 0; i < store->node_address_count; i++) {
		if (addr_equal(&store->node_addresses[i], addr))
			return true;
	}
	return false;
}

void cli_store_know_node(struct cli_store *store)
{
	store_host_addresses_set(store->objects, store->node_addresses, store->node_address_count);
}

/* What the agent says of where an object is from; "" if there is no agent. */
static const char *listed_source(const struct cli_store *store, const struct object *object)
{
	const cJSON *row;

	cJSON_ArrayForEach (row, store->listing) {
		if (strcmp(member_text(row, "kind", ""), object_kind_name(object->kind)) == 0 &&
		    strcmp(member_text(row, "namespace", ""), object->namespace) == 0 &&
		    strcmp(member_text(row, "name", ""), object->name) == 0)
			return member_text(row, "source", "");
	}
	return "";
}

/* ---- lines of policies ---- */

struct place_list {
	struct object_position *items;
	size_t count;
	size_t capacity;
	struct arena *arena; /* keeps the paths */
};

static size_t *line_of(struct source_file *source, const struct object *object, const char *path)
{
	auto_buffer struct buffer key = { 0 };
	size_t known = source->places.count;
	size_t number;

	buffer_add(&key, &object, sizeof(const struct object *));
	buffer_text(&key, path);
	number = intern_add(&source->places, key.data, key.len);
	if (number == known) {
		array_room(&source->lines, known, &source->line_capacity, sizeof(*source->lines));
		source->lines[number] = 0;
	}
	return &source->lines[number];
}

/* Adds a policy and its rules. */
static void places_add_policy(struct place_list *places, const struct object *policy)
{
	char path[64];

	*array_add(places) = (struct object_position){ .object = policy, .path = "" };
	for (size_t i = 0; i < 2; i++) {
		enum direction direction = (enum direction)i;
		size_t count = policy_rules(policy, direction).count;

		for (size_t rule = 0; rule < count; rule++) {
			snprintf(path, sizeof(path), "spec.%s[%zu]", direction_name(direction),
				 rule);
			*array_add(places) = (struct object_position){
				.object = policy, .path = arena_string(places->arena, path)
			};
		}
	}
}

static void places_add_kind(struct place_list *places, const struct store *objects,
			    const struct source_file *source, enum object_kind kind)
{
	for (const struct object *policy = store_first(objects, kind); policy;
	     policy = store_next(objects, policy)) {
		if (policy->source == source)
			places_add_policy(places, policy);
	}
}

/* Finds the lines of all policies of a file and of all their rules, in one pass over its text. */
static void lines_find(const struct cli_store *store, struct source_file *source)
{
	auto_(arena) struct arena *arena = arena_new();
	struct place_list places = { .arena = arena };

	source->arena = arena_new();
	source->places.arena = source->arena;
	places_add_kind(&places, store->objects, source, OBJECT_NETWORK_POLICY);
	places_add_kind(&places, store->objects, source, OBJECT_CLUSTER_POLICY);
	objects_position(source->text, source->len, places.items, places.count);
	for (size_t i = 0; i < places.count; i++)
		*line_of(source, places.items[i].object, places.items[i].path) =
			places.items[i].line;
	free(places.items);
}

const char *cli_store_source(const struct cli_store *store, const struct object *object,
			     const char *path, char *buf, size_t size)
{
	struct source_file *source = (struct source_file *)object->source;
	size_t line = 0;

	if (source && !source->arena)
		lines_find(store, source);
	if (source)
		line = *line_of(source, object, path);
	if (line)
		snprintf(buf, size, "%s:%zu", source->file, line);
	else
		snprintf(buf, size, "%s", source ? source->file : listed_source(store, object));
	return buf;
}

/* The locations of one file. */
static void file_locate(const struct source_file *source, struct source_location *locations,
			size_t count)
{
	auto_free struct object_position *found = xcalloc(count + 1, sizeof(*found));
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		if (locations[i].object->source == source)
			found[used++] = (struct object_position){ .object = locations[i].object,
								  .path = locations[i].path };
	}
	if (used)
		objects_position(source->text, source->len, found, used);
	used = 0;
	for (size_t i = 0; i < count; i++) {
		if (locations[i].object->source != source)
			continue;
		locations[i].file = source->file;
		locations[i].line = found[used].line;
		locations[i].column = found[used++].column;
	}
}

void cli_store_locate(const struct cli_store *store, struct source_location *locations,
		      size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (!locations[i].object->source)
			locations[i].file = listed_source(store, locations[i].object);
	}
	for (const struct source_file *source = store->files; source; source = source->next)
		file_locate(source, locations, count);
}

/* ---- files ---- */

/* Problems with whole objects.  Their locations are found together, in one pass over a text. */
struct conflicts {
	struct conflict {
		size_t problem;             /* its number */
		struct object place;        /* no more of the object than where it stood */
		const struct object *known; /* the earlier one of its name, or NULL */
	} items[CONFLICTS_MAX];
	size_t count;
};

static void conflict_add(struct conflicts *conflicts, const struct object *place,
			 const struct object *known, const char *name, const char *message,
			 struct problems *problems)
{
	problems->errors++;
	if (conflicts->count == CONFLICTS_MAX)
		return;
	problems->items =
		xreallocarray(problems->items, problems->count + 1, sizeof(*problems->items));
	problems->items[problems->count] = (struct problem){ .object = xstrdup(name),
							     .path = xstrdup(""),
							     .message = xstrdup(message) };
	conflicts->items[conflicts->count++] =
		(struct conflict){ problems->count++, *place, known };
}

static void conflicts_locate(const struct cli_store *store, const struct conflicts *conflicts,
			     struct problems *problems)
{
	auto_free struct source_location *locations =
		xcalloc(2 * CONFLICTS_MAX, sizeof(*locations));
	struct source_location *own = locations, *known = locations + CONFLICTS_MAX;

	for (size_t i = 0; i < conflicts->count; i++) {
		const struct conflict *conflict = &conflicts->items[i];

		own[i] = (struct source_location){ .object = &conflict->place, .path = "" };
		known[i] = own[i];
		if (conflict->known)
			known[i].object = conflict->known;
	}
	cli_store_locate(store, own, conflicts->count);
	cli_store_locate(store, known, conflicts->count);
	for (size_t i = 0; i < conflicts->count; i++) {
		struct problem *problem = &problems->items[conflicts->items[i].problem];

		problem->line = own[i].line;
		problem->column = own[i].column;
		if (!conflicts->items[i].known)
			continue;
		free(problem->message);
		problem->message = xasprintf("is already in %s:%zu", known[i].file, known[i].line);
	}
}

static bool is_policy(enum object_kind kind)
{
	return kind == OBJECT_NETWORK_POLICY || kind == OBJECT_CLUSTER_POLICY;
}

static bool is_from_cluster(const struct object *object)
{
	return *object->uid != '\0';
}

/* Copies what only a cluster knows into an object that somebody wrote. */
static void object_complete(struct object *object, const struct object *known)
{
	if (object->kind == OBJECT_SERVICE && object->service.cluster_ip_count == 0) {
		memcpy(object->service.cluster_ips, known->service.cluster_ips,
		       sizeof(known->service.cluster_ips));
		object->service.cluster_ip_count = known->service.cluster_ip_count;
	}
	if (object->kind != OBJECT_POD)
		return;
	if (object->pod.address_count == 0) {
		memcpy(object->pod.addresses, known->pod.addresses, sizeof(known->pod.addresses));
		object->pod.address_count = known->pod.address_count;
	}
	if (*object->pod.node_name == '\0') {
		shared_release(object->pod.node_name);
		object->pod.node_name = shared_string(known->pod.node_name);
	}
}

/* Puts an object that an earlier file has, too.  False if the two contradict each other.  Takes
 * ownership in any case. */
static bool object_merge(struct cli_store *store, struct object *object, const struct object *known)
{
	struct object *earlier, *kept, *other;

	if (!store->merges ||
	    (is_policy(object->kind) && !is_from_cluster(known) && !is_from_cluster(object))) {
		object_free(object);
		return false;
	}
	/* Taken out first: the store finds objects by their addresses. */
	earlier = store_take(store->objects, known->kind, known->namespace, known->name);
	kept = is_from_cluster(object) && !is_from_cluster(earlier) ? earlier : object;
	other = kept == object ? earlier : object;
	if (is_from_cluster(other) && !is_from_cluster(kept))
		object_complete(kept, other);
	object_free(other);
	return store_put(store->objects, kept, NULL) == 0;
}

/* Puts an object of a file into the store; a problem if it contradicts an earlier one. */
static int object_add(struct cli_store *store, struct object *object,
		      const struct source_file *source, struct conflicts *conflicts,
		      struct problems *problems)
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
	object->source = source;
	if (known) {
		if (!object_merge(store, object, known))
			conflict_add(conflicts, &place, known, name, "is there already", problems);
		return 0;
	}
	ret = store_put(store->objects, object, &why);
	if (ret != -EEXIST)
		return ret;
	conflict_add(conflicts, &place, NULL, name, why.text, problems);
	return 0;
}

/* Reads a file and keeps its text: lines are looked up in it later. */
static struct source_file *source_read(struct cli_store *store, const char *file,
				       struct errmsg *err)
{
	struct source_file *source = xcalloc(1, sizeof(*source));

	source->next = store->files;
	store->files = source;
	source->file = xstrdup(file_title(file));
	return file_read_text(file, &source->text, &source->len, err) == 0 ? source : NULL;
}

int cli_store_read(struct cli_store *store, const char *file, unsigned int parse_flags,
		   size_t *ret_count, struct problems *problems, struct errmsg *err)
{
	struct object_list list = { 0 };
	const struct source_file *source = source_read(store, file, err);
	auto_free struct conflicts *conflicts = xcalloc(1, sizeof(*conflicts));
	int ret;

	if (!source)
		return err->code;
	if (store->verbose)
		parse_flags |= PARSE_NAME_SKIPPED;
	ret = objects_parse(source->text, source->len, parse_flags, &list, problems);
	for (size_t i = 0; store->verbose && i < problems->skipped; i++)
		output_note("note: %s: %s is skipped: it is not about the network", source->file,
			    problems->skipped_names[i]);
	*ret_count = list.count;
	ret = 0;
	for (size_t i = 0; i < list.count && !ret; i++)
		ret = object_add(store, take_ptr(list.items[i]), source, conflicts, problems);
	object_list_done(&list);
	if (!ret && conflicts->count)
		conflicts_locate(store, conflicts, problems);
	return ret ? fail(err, ret, "%s", file) : 0;
}

static int load_file(const char *file, void *arg, struct errmsg *err)
{
	struct problems problems = { 0 };
	char text[1024];
	size_t count;
	int ret = cli_store_read(arg, file, 0, &count, &problems, err);

	for (size_t i = 0; !ret && i < problems.count; i++) {
		if (!problems.items[i].warning)
			ret = fail_plain(err, -EINVAL, "%s",
					 problem_format(&problems.items[i], file_title(file), text,
							sizeof(text)));
	}
	problems_done(&problems);
	return ret;
}

int cli_store_add(struct cli_store *store, const char *path, struct errmsg *err)
{
	return files_each(path, load_file, store, err);
}

/* ---- inventory ---- */

static int fill_from(struct cli_store *store, const struct source_file *source)
{
	struct object_list list = { 0 };
	struct problems ignored = { 0 }; /* the text was read before */
	int ret = objects_parse(source->text, source->len, 0, &list, &ignored);

	for (size_t i = 0; i < list.count && !ret; i++) {
		const struct object *object = list.items[i];

		if (is_policy(object->kind) ||
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

int cli_store_fill(struct cli_store *store, const struct cli_store *other, struct errmsg *err)
{
	int ret = 0;

	for (const struct source_file *source = other->files; source && !ret; source = source->next)
		ret = fill_from(store, source);
	return ret ? fail(err, ret, "pods and namespaces") : 0;
}

void cli_store_documents(const struct cli_store *store, const char *file, cJSON *array)
{
	const struct source_file *source = store->files;
	cJSON *items = NULL, *item;

	while (source && strcmp(source->file, file_title(file)) != 0)
		source = source->next;
	if (source)
		items = object_items(source->text, source->len);
	while ((item = cJSON_DetachItemFromArray(items, 0)))
		cJSON_AddItemToArray(array, item);
	cJSON_Delete(items);
}
