/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sync/map_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"

#define QUEUE_MIN 64

/* The generation sits behind the value, at its next multiple of four. */
static size_t mark_at(const struct mirror *mirror)
{
	return (mirror->value_size + 3) & ~(size_t)3;
}

static void mark_set(const struct mirror *mirror, void *value)
{
	memcpy((char *)value + mark_at(mirror), &mirror->generation, sizeof(mirror->generation));
}

static bool mark_is_current(const struct mirror *mirror, const void *value)
{
	return memcmp((const char *)value + mark_at(mirror), &mirror->generation,
		      sizeof(mirror->generation)) == 0;
}

static int entry_put(struct mirror *mirror, const void *key, const void *value)
{
	void *held = table_put(&mirror->entries, key);

	if (!held)
		return -ENOMEM;
	memcpy(held, value, mirror->value_size);
	return 0;
}

static int entry_read(const void *key, const void *value, void *arg)
{
	return entry_put(arg, key, value);
}

int mirror_init(struct mirror *mirror, struct datapath *datapath, enum map_id map, size_t key_size,
		size_t value_size)
{
	*mirror = (struct mirror){
		.datapath = datapath,
		.map = map,
		.key_size = key_size,
		.value_size = value_size,
	};
	table_init(&mirror->entries, key_size, mark_at(mirror) + sizeof(mirror->generation));
	return maps_foreach(datapath, map, entry_read, mirror);
}

void mirror_done(struct mirror *mirror)
{
	table_done(&mirror->entries);
	free(mirror->keys);
	free(mirror->values);
	mirror->keys = NULL;
	mirror->values = NULL;
}

void mirror_begin(struct mirror *mirror)
{
	mirror->generation++;
	mirror->refused = 0;
	mirror->queued = 0;
}

const void *mirror_get(const struct mirror *mirror, const void *key)
{
	return table_find(&mirror->entries, key);
}

bool mirror_keep(struct mirror *mirror, const void *key)
{
	void *held = table_find(&mirror->entries, key);

	if (held)
		mark_set(mirror, held);
	return held;
}

bool mirror_is_wanted(const struct mirror *mirror, const void *key)
{
	const void *held = table_find(&mirror->entries, key);

	return held && mark_is_current(mirror, held);
}

void mirror_unwant(struct mirror *mirror, const void *key)
{
	uint32_t before = mirror->generation - 1;
	void *held = table_find(&mirror->entries, key);

	if (held)
		memcpy((char *)held + mark_at(mirror), &before, sizeof(before));
}

static int queue_grow(struct mirror *mirror)
{
	size_t room = mirror->room ? mirror->room * 2 : QUEUE_MIN;
	unsigned char *keys = realloc(mirror->keys, room * mirror->key_size);
	unsigned char *values;

	if (!keys)
		return -ENOMEM;
	mirror->keys = keys;
	values = realloc(mirror->values, room * mirror->value_size);
	if (!values)
		return -ENOMEM;
	mirror->values = values;
	mirror->room = room;
	return 0;
}

int mirror_set(struct mirror *mirror, const void *key, const void *value)
{
	void *held = table_find(&mirror->entries, key);

	if (held) {
		mark_set(mirror, held);
		if (memcmp(held, value, mirror->value_size) == 0)
			return 0;
	}
	if (mirror->queued == mirror->room) {
		int ret = queue_grow(mirror);

		if (ret)
			return ret;
	}
	memcpy(mirror->keys + mirror->queued * mirror->key_size, key, mirror->key_size);
	memcpy(mirror->values + mirror->queued * mirror->value_size, value, mirror->value_size);
	mirror->queued++;
	return 0;
}

static bool is_full(int ret)
{
	return ret == -ENOSPC || ret == -E2BIG;
}

/* Writes queued entries from the first on; what went in, also before a failure, is part of the
 * mirror: an entry that it did not know of would never be deleted. */
static int queue_write(struct mirror *mirror, size_t first, size_t *ret_done)
{
	const unsigned char *keys = mirror->keys + first * mirror->key_size;
	const unsigned char *values = mirror->values + first * mirror->value_size;
	int ret = maps_set_batch(mirror->datapath, mirror->map, keys, values,
				 mirror->queued - first, ret_done);

	for (size_t i = 0; i < *ret_done; i++) {
		const void *key = keys + i * mirror->key_size;

		if (entry_put(mirror, key, values + i * mirror->value_size))
			return -ENOMEM;
		mirror_keep(mirror, key);
	}
	mirror->writes += *ret_done;
	return ret;
}

/* The queue's memory is only kept while it is small: a first load should not cost for ever. */
static void queue_reset(struct mirror *mirror)
{
	mirror->queued = 0;
	if (mirror->room <= QUEUE_MIN)
		return;
	free(take_ptr(mirror->keys));
	free(take_ptr(mirror->values));
	mirror->room = 0;
}

int mirror_flush(struct mirror *mirror)
{
	size_t at = 0, done;
	int ret = 0;

	if (mirror->queued == 0)
		return 0;
	while (at < mirror->queued && !ret) {
		ret = queue_write(mirror, at, &done);
		at += done;
		if (is_full(ret)) { /* others may be in the map already: they change in place */
			mirror->refused++;
			at++;
			ret = 0;
		}
	}
	queue_reset(mirror);
	if (ret)
		return ret;
	return mirror->refused ? -ENOSPC : 0;
}

int mirror_del(struct mirror *mirror, const void *keys, size_t count)
{
	size_t done;
	int ret;

	if (count == 0)
		return 0;
	ret = maps_del_batch(mirror->datapath, mirror->map, keys, count, &done);
	for (size_t i = 0; i < done; i++)
		table_del(&mirror->entries, (const char *)keys + i * mirror->key_size);
	mirror->deletes += done;
	return ret;
}

int mirror_sweep(struct mirror *mirror,
		 bool (*stale)(const void *key, const void *value, void *arg), void *arg)
{
	auto_free unsigned char *keys = NULL;
	size_t count = 0, room = 0, pos = 0;
	const void *key;
	void *value;

	while ((value = table_next(&mirror->entries, &pos, &key))) {
		if (mark_is_current(mirror, value) || (stale && !stale(key, value, arg)))
			continue;
		if (count == room) {
			unsigned char *grown;

			room = room ? room * 2 : QUEUE_MIN;
			grown = realloc(keys, room * mirror->key_size);
			if (!grown)
				return -ENOMEM;
			keys = grown;
		}
		memcpy(keys + count++ * mirror->key_size, key, mirror->key_size);
	}
	return mirror_del(mirror, keys, count);
}
