/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/objects/object_cache.h"

#include <cjson/cJSON.h>
#include <malloc.h>

#include <event2/event.h>

#include "agent/objects/object_store.h"
#include "agent/objects/object_text.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/objects/object_items.h"

#define TRIM_SIZE (1U << 20) /* trees of texts of this size leave a heap worth giving back */

static const struct timeval keep_time = { .tv_sec = 1 };

void object_cache_drop(struct object_cache *cache)
{
	if (!cache->file)
		return;
	free(take_ptr(cache->file));
	cJSON_Delete(take_ptr(cache->items));
	cache->next = NULL;
	event_del(cache->timer);
	if (cache->trim)
		malloc_trim(0);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	object_cache_drop(arg);
}

void object_cache_init(struct object_cache *cache, struct event_base *base, const char *run_dir)
{
	*cache = (struct object_cache){ .run_dir = run_dir };
	cache->timer = evtimer_new(base, on_timer, cache);
	if (!cache->timer)
		out_of_memory(0);
}

void object_cache_done(struct object_cache *cache)
{
	object_cache_drop(cache);
	if (cache->timer)
		event_free(cache->timer);
}

static bool cache_fill(struct object_cache *cache, const char *file)
{
	auto_free char *text = NULL;
	size_t len;

	if (cache->file && strcmp(cache->file, file) == 0)
		return true;
	object_cache_drop(cache);
	if (object_store_get(cache->run_dir, file, &text, &len, NULL))
		return false;
	cache->items = object_items(text, len);
	if (!cache->items)
		return false;
	cache->file = xstrdup(file);
	cache->trim = len >= TRIM_SIZE;
	event_add(cache->timer, &keep_time);
	return true;
}

struct cJSON *object_cache_get(struct object_cache *cache, const char *file,
			       const struct object *object)
{
	const cJSON *found;

	if (!cache_fill(cache, file))
		return NULL;
	/* Whoever lists objects asks for them in nearly the order of the file. */
	found = object_text_find(cache->next, object->kind, object->namespace, object->name);
	if (!found)
		found = object_text_find(cache->items->child, object->kind, object->namespace,
					 object->name);
	if (!found)
		return NULL;
	cache->next = found->next;
	return cJSON_Duplicate(found, true);
}
