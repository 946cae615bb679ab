/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"

#define BLOCK_SIZE ((size_t)64 * 1024)
#define ALIGNMENT  16

struct block {
	struct block *next;
	size_t used;
	size_t size;
	_Alignas(ALIGNMENT) char data[];
};

struct arena {
	struct block *blocks;
	size_t size;
};

struct arena *arena_new(void)
{
	return xcalloc(1, sizeof(struct arena));
}

void arena_free(struct arena *arena)
{
	if (!arena)
		return;
	while (arena->blocks) {
		struct block *block = arena->blocks;

		arena->blocks = block->next;
		free(block);
	}
	free(arena);
}

size_t arena_size(const struct arena *arena)
{
	return arena->size;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	size_t wanted = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	struct block *block = arena->blocks;
	void *data;

	if (wanted < size)
		out_of_memory(size);
	if (!block || block->size - block->used < wanted) {
		size_t room = wanted > BLOCK_SIZE ? wanted : BLOCK_SIZE;

		block = xcalloc(1, sizeof(*block) + room);
		block->size = room;
		block->next = arena->blocks;
		arena->blocks = block;
	}
	data = block->data + block->used;
	block->used += wanted;
	arena->size += wanted;
	return data;
}

void *arena_copy(struct arena *arena, const void *data, size_t size)
{
	void *copy = arena_alloc(arena, size);

	if (size)
		memcpy(copy, data, size);
	return copy;
}

char *arena_string(struct arena *arena, const char *text)
{
	return arena_copy(arena, text, strlen(text) + 1);
}

void array_room(void *items, size_t count, size_t *capacity, size_t size)
{
	void *array;

	if (count < *capacity)
		return;
	memcpy(&array, items, sizeof(array));
	*capacity = *capacity ? *capacity * 2 : 8;
	array = xreallocarray(array, *capacity, size);
	memcpy(items, &array, sizeof(array));
}

void array_trim(void *items, size_t count, size_t *capacity, size_t size)
{
	size_t wanted = count + count / 8 + 8;
	void *array;

	if (wanted >= *capacity)
		return;
	memcpy(&array, items, sizeof(array));
	*capacity = wanted;
	array = xreallocarray(array, wanted, size);
	memcpy(items, &array, sizeof(array));
}

/* Makes room for len bytes and a NUL. */
static void buffer_room(struct buffer *buffer, size_t len)
{
	if (buffer->capacity - buffer->len > len)
		return;
	buffer->capacity = (buffer->len + len + 1) * 2;
	buffer->data = xreallocarray(buffer->data, buffer->capacity, 1);
}

void buffer_add(struct buffer *buffer, const void *data, size_t len)
{
	buffer_room(buffer, len);
	if (len)
		memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
	buffer->data[buffer->len] = '\0';
}

void buffer_string(struct buffer *buffer, const char *text)
{
	buffer_add(buffer, text, strlen(text));
}

void buffer_print(struct buffer *buffer, const char *fmt, ...)
{
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0)
		return;
	buffer_room(buffer, (size_t)len);
	va_start(args, fmt);
	vsnprintf(buffer->data + buffer->len, (size_t)len + 1, fmt, args);
	va_end(args);
	buffer->len += (size_t)len;
}

void buffer_text(struct buffer *buffer, const char *text)
{
	buffer_add(buffer, text, strlen(text) + 1);
}

void buffer_number(struct buffer *buffer, uint32_t number)
{
	const unsigned char bytes[] = { (unsigned char)(number >> 24),
					(unsigned char)(number >> 16), (unsigned char)(number >> 8),
					(unsigned char)number };

	buffer_add(buffer, bytes, sizeof(bytes));
}

void buffer_done(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct buffer){ 0 };
}

static const uint64_t fnv_begin = 0xcbf29ce484222325; /* FNV-1a */

static uint64_t fnv_step(uint64_t hash, unsigned char byte)
{
	return (hash ^ byte) * 0x100000001b3;
}

/* FNV leaves the high bits poor for short strings: mix them (MurmurHash3's finalizer). */
static uint64_t fnv_end(uint64_t hash)
{
	hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
	hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53;
	return hash ^ hash >> 33;
}

uint64_t hash_bytes(const void *data, size_t len)
{
	const unsigned char *bytes = data;
	uint64_t hash = fnv_begin;

	for (size_t i = 0; i < len; i++)
		hash = fnv_step(hash, bytes[i]);
	return fnv_end(hash);
}

void hash_bytes_of_each(const void *data, size_t len, uint64_t hashes[HASH_LANES])
{
	const unsigned char *bytes = data;
	uint64_t lanes[HASH_LANES];

	for (size_t lane = 0; lane < HASH_LANES; lane++)
		lanes[lane] = fnv_begin;
	for (size_t i = 0; i < len; i++) {
		for (size_t lane = 0; lane < HASH_LANES; lane++)
			lanes[lane] = fnv_step(lanes[lane], bytes[lane * len + i]);
	}
	for (size_t lane = 0; lane < HASH_LANES; lane++)
		hashes[lane] = fnv_end(lanes[lane]);
}

/* The slot that holds the string, or the free one where it belongs. */
static size_t intern_slot(const struct intern *intern, const void *key, size_t len, uint64_t hash)
{
	size_t slot = hash & (intern->slot_count - 1);

	for (; intern->slots[slot]; slot = (slot + 1) & (intern->slot_count - 1)) {
		const struct interned *item = &intern->items[intern->slots[slot] - 1];

		if (item->hash == hash && item->len == len &&
		    (len == 0 || memcmp(item->key, key, len) == 0))
			break;
	}
	return slot;
}

static void intern_grow(struct intern *intern)
{
	size_t wanted = intern->slot_count ? intern->slot_count * 2 : 64;
	uint32_t *slots = xcalloc(wanted, sizeof(*slots));

	free(intern->slots);
	intern->slots = slots;
	intern->slot_count = wanted;
	for (size_t i = 0; i < intern->count; i++) {
		size_t slot = intern->items[i].hash & (wanted - 1);

		while (slots[slot])
			slot = (slot + 1) & (wanted - 1);
		slots[slot] = (uint32_t)i + 1;
	}
}

size_t intern_add(struct intern *intern, const void *key, size_t len)
{
	uint64_t hash = hash_bytes(key, len);
	size_t slot;

	if (intern->count * 2 >= intern->slot_count)
		intern_grow(intern);
	slot = intern_slot(intern, key, len, hash);
	if (intern->slots[slot])
		return intern->slots[slot] - 1;
	*array_add(intern) = (struct interned){ arena_copy(intern->arena, key, len), len, hash };
	intern->slots[slot] = (uint32_t)intern->count;
	return intern->count - 1;
}

size_t intern_find(const struct intern *intern, const void *key, size_t len)
{
	size_t slot;

	if (intern->slot_count == 0)
		return INTERN_NONE;
	slot = intern_slot(intern, key, len, hash_bytes(key, len));
	return intern->slots[slot] ? intern->slots[slot] - 1 : INTERN_NONE;
}

void intern_done(struct intern *intern)
{
	free(intern->items);
	free(intern->slots);
	*intern = (struct intern){ 0 };
}
