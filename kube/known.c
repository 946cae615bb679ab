/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/known.h"

#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"

void known_init(struct known_set *set)
{
	*set = (struct known_set){ 0 };
	table_init(&set->table, sizeof(uint64_t), sizeof(struct known));
}

void known_done(struct known_set *set)
{
	table_done(&set->table);
	free(set->names);
}

struct known *known_find(const struct known_set *set, const char *name)
{
	uint64_t hash = table_hash(name, strlen(name));

	return table_find(&set->table, &hash);
}

/* Leaves out the names of those that went. */
static void names_compact(struct known_set *set)
{
	size_t room = set->names_len - set->names_unused, len = 0, pos = 0;
	char *names = xmalloc(room + 1);
	struct known *known;

	while ((known = known_next(set, &pos))) {
		size_t size = strlen(known_name(set, known)) + 1;

		memcpy(names + len, known_name(set, known), size);
		known->name = (uint32_t)len;
		len += size;
	}
	free(set->names);
	set->names = names;
	set->names_len = len;
	set->names_room = room;
	set->names_unused = 0;
}

static uint32_t name_add(struct known_set *set, const char *name)
{
	size_t size = strlen(name) + 1;
	size_t at;

	if (set->names_unused > set->names_len / 2)
		names_compact(set);
	if (set->names_len + size > UINT32_MAX)
		out_of_memory(size);
	if (set->names_len + size > set->names_room) {
		set->names_room = set->names_len + set->names_len / 2 + size;
		set->names = xreallocarray(set->names, set->names_room, 1);
	}
	at = set->names_len;
	memcpy(set->names + at, name, size);
	set->names_len += size;
	return (uint32_t)at;
}

struct known *known_add(struct known_set *set, const char *name)
{
	uint64_t hash = table_hash(name, strlen(name));
	struct known *known = table_find(&set->table, &hash);
	uint32_t at;

	if (known)
		return known;
	at = name_add(set, name);
	known = table_put(&set->table, &hash);
	known->name = at;
	return known;
}

void known_del(struct known_set *set, const struct known *known)
{
	const char *name = known_name(set, known);
	uint64_t hash = table_hash(name, strlen(name));

	set->names_unused += strlen(name) + 1;
	table_del(&set->table, &hash);
}

struct known *known_next(const struct known_set *set, size_t *pos)
{
	const void *key;

	return table_next(&set->table, pos, &key);
}

/* Versions are numbers that grow in every server that keeps its objects in etcd; where they are
 * not, nothing is older. */
bool known_renew(struct known *known, const char *version, bool offered)
{
	char *end;
	uint64_t number = strtoull(version, &end, 10);
	bool is_number = end != version && !*end;

	if (!is_number)
		number = table_hash(version, strlen(version));
	if (known->told && known->is_number == is_number &&
	    (number == known->version ||
	     (is_number && (offered || known->offered) && number < known->version)))
		return false;
	known->version = number;
	known->told = true;
	known->is_number = is_number;
	known->offered = offered;
	return true;
}
