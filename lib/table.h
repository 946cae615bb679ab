/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hash table with keys and values of fixed size, compared and copied as memory: a few bytes of
 * overhead an entry, for copies of maps that may hold a hundred thousand.
 */
#ifndef TENDRIL_LIB_TABLE_H
#define TENDRIL_LIB_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table {
	unsigned char *slots; /* capacity * stride bytes: key, then value aligned to 8 */
	unsigned char *state; /* one byte a slot */
	size_t key_size;
	size_t value_at; /* of the value within a slot */
	size_t stride;
	size_t capacity; /* a power of two, or 0 */
	size_t count;
	size_t deleted; /* slots that hold nothing but keep chains together */
};

void table_init(struct table *table, size_t key_size, size_t value_size);
void table_done(struct table *table);

/* The value of a key, or NULL.  Valid until the next table_put(). */
void *table_find(const struct table *table, const void *key);
/* The value of a key, added as zeroes if it is not there; NULL: out of memory. */
void *table_put(struct table *table, const void *key);
bool table_del(struct table *table, const void *key); /* whether it was there */

/* Walks all entries in no order; *pos is 0 to begin.  NULL at the end.  Deleting what the walk
 * returned is allowed, adding is not. */
void *table_next(const struct table *table, size_t *pos, const void **ret_key);

/* Hash with a key drawn once for each process (SipHash-1-3), so that names chosen by others can
 * neither collide on purpose nor degrade a table. */
uint64_t table_hash(const void *data, size_t len);

#endif
