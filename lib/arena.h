/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is freed as a whole, growing arrays and strings, and interning of byte strings to
 * dense numbers.  The parser and the compiler build their results from these.  Out of memory aborts
 * (lib/alloc.h).
 */
#ifndef TENDRIL_LIB_ARENA_H
#define TENDRIL_LIB_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/auto.h"

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *arena);
DEFINE_AUTO(arena)

/* Zeroed and aligned for any type. */
void *arena_alloc(struct arena *arena, size_t size) __attribute__((returns_nonnull));
void *arena_copy(struct arena *arena, const void *data, size_t size)
	__attribute__((returns_nonnull));
char *arena_string(struct arena *arena, const char *text) __attribute__((returns_nonnull));
size_t arena_size(const struct arena *arena); /* bytes handed out */

/* Makes room for one more element in a malloc()ed array; items is the address of the pointer to the
 * array, size that of an element. */
void array_room(void *items, size_t count, size_t *capacity, size_t size);

/* Gives back the room of such an array but for an eighth more than it holds. */
void array_trim(void *items, size_t count, size_t *capacity, size_t size);

/* Appends an element to a list, which is a struct with the members items, count and capacity.
 * Returns the address of the new element, which the caller fills. */
#define array_add(list)                                                                           \
	({                                                                                        \
		__typeof__(list) list_ = (list);                                                  \
		array_room(&list_->items, list_->count, &list_->capacity, sizeof(*list_->items)); \
		&list_->items[list_->count++];                                                    \
	})

/* A growing byte string. */
struct buffer {
	char *data; /* NUL-terminated once anything was added */
	size_t len;
	size_t capacity;
};

void buffer_add(struct buffer *buffer, const void *data, size_t len);
void buffer_string(struct buffer *buffer, const char *text); /* without its NUL */
void buffer_print(struct buffer *buffer, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* For keys made of several parts: text with its NUL, and a number of four bytes.  Different parts
 * never make the same key. */
void buffer_text(struct buffer *buffer, const char *text);
void buffer_number(struct buffer *buffer, uint32_t number);
void buffer_done(struct buffer *buffer);

static inline void auto_buffer_fn(struct buffer *buffer)
{
	buffer_done(buffer);
}
#define auto_buffer __attribute__((cleanup(auto_buffer_fn)))

/* 64-bit hash, the same on every machine and in every run. */
uint64_t hash_bytes(const void *data, size_t len);

#define HASH_LANES 4

/* The same of HASH_LANES strings of len bytes each, one behind the other, side by side: a single
 * one waits for each multiplication. */
void hash_bytes_of_each(const void *data, size_t len, uint64_t hashes[HASH_LANES]);

/* Byte strings -> 0, 1, 2, ...; equal strings get equal numbers. */
struct interned {
	const void *key; /* in the arena */
	size_t len;
	uint64_t hash;
};

struct intern {
	struct arena *arena; /* keeps the strings; borrowed */
	struct interned *items;
	size_t count;
	size_t capacity;
	uint32_t *slots;
	size_t slot_count;
};

#define INTERN_NONE SIZE_MAX

/* The number of the string, which is added if it is new. */
size_t intern_add(struct intern *intern, const void *key, size_t len);
/* The number of the string; INTERN_NONE if it is not there. */
size_t intern_find(const struct intern *intern, const void *key, size_t len);
void intern_done(struct intern *intern);

#endif
