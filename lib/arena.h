/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is freed as a whole, growing arrays, and interning of byte strings to dense numbers:
 * what the parser and the compiler build their results from.  Internal to the policy library.
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

/* Zeroed and aligned for any type.  NULL when out of memory; from then on arena_failed(). */
void *arena_alloc(struct arena *arena, size_t size);
void *arena_copy(struct arena *arena, const void *data, size_t size);
char *arena_string(struct arena *arena, const char *text);
bool arena_failed(const struct arena *arena);
size_t arena_size(const struct arena *arena); /* bytes given out */
void arena_fail(struct arena *arena);         /* what was to go with it could not be had either */

/* Makes room for one more element in a malloc()ed array; items is the address of the pointer to it.
 * -ENOMEM leaves the array as it was. */
int array_room(void *items, size_t count, size_t *capacity, size_t size);

/* A growing byte string.  A failed append is remembered, so that only the end needs a check. */
struct buffer {
	char *data; /* NUL-terminated once anything was added */
	size_t len;
	size_t capacity;
	bool failed;
};

void buffer_add(struct buffer *buffer, const void *data, size_t len);
void buffer_string(struct buffer *buffer, const char *text);
void buffer_print(struct buffer *buffer, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void buffer_text(struct buffer *buffer, const char *text); /* with its NUL: self-delimiting */
void buffer_number(struct buffer *buffer, uint32_t number);
void buffer_done(struct buffer *buffer);

static inline void auto_buffer_fn(struct buffer *buffer)
{
	buffer_done(buffer);
}
#define auto_buffer __attribute__((cleanup(auto_buffer_fn)))

/* 64-bit hash, the same on every machine and in every run. */
uint64_t hash_bytes(const void *data, size_t len);

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

/* The number of the string, new or known; INTERN_NONE: out of memory, and the arena has failed. */
size_t intern_add(struct intern *intern, const void *key, size_t len);
size_t intern_find(const struct intern *intern, const void *key, size_t len);
void intern_done(struct intern *intern);

#endif
