/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/shared.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/table.h"

struct shared {
	struct shared *next; /* in its bucket */
	uint32_t hash;
	uint32_t refs;
	char text[];
};

static struct shared **buckets;
static size_t bucket_count; /* a power of two */
static size_t count;

static struct shared **place(uint32_t hash)
{
	return &buckets[hash & (bucket_count - 1)];
}

static void buckets_resize(size_t size)
{
	struct shared **former = buckets;
	size_t former_count = bucket_count;

	buckets = xcalloc(size, sizeof(*buckets));
	bucket_count = size;
	for (size_t i = 0; i < former_count; i++) {
		struct shared *item = former[i];

		while (item) {
			struct shared *next = item->next;
			struct shared **at = place(item->hash);

			item->next = *at;
			*at = item;
			item = next;
		}
	}
	free(former);
}

/* The pointer that leads to it; to NULL if there is none. */
static struct shared **find(const char *text, uint32_t hash)
{
	struct shared **at = place(hash);

	while (*at && ((*at)->hash != hash || strcmp((*at)->text, text) != 0))
		at = &(*at)->next;
	return at;
}

char *shared_string(const char *text)
{
	size_t size = strlen(text) + 1;
	uint32_t hash = (uint32_t)table_hash(text, size);
	struct shared **at, *item;

	if (count >= bucket_count)
		buckets_resize(bucket_count ? 2 * bucket_count : 64);
	at = find(text, hash);
	if (!*at) {
		item = xmalloc(sizeof(*item) + size);
		*item = (struct shared){ .hash = hash };
		memcpy(item->text, text, size);
		*at = item;
		count++;
	}
	(*at)->refs++;
	return (*at)->text;
}

void shared_release(char *string)
{
	struct shared **at, *item;

	if (!string)
		return;
	at = bucket_count ? find(string, (uint32_t)table_hash(string, strlen(string) + 1)) : NULL;
	if (!at || !*at || (*at)->text != string) {
		free(string);
		return;
	}
	item = *at;
	if (--item->refs > 0)
		return;
	*at = item->next;
	free(item);
	if (--count == 0) {
		free(buckets);
		buckets = NULL;
		bucket_count = 0;
	}
}
