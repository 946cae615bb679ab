/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hash table with keys and values of fixed size, which are compared and copied as memory.  An entry
 * has a few bytes of overhead: the tables are copies of maps with a hundred thousand entries.  Out
 * of memory aborts (lib/alloc.h).
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
	size_t value_at; /* offset of the value within a slot */
	size_t stride;
	size_t capacity;
	size_t count;
	size_t deleted; /* empty slots that keep chains together */
	uint64_t salt;  /* odd; another order of entries in each table, see slot_find() */
};

void table_init(struct table *table, size_t key_size, size_t value_size);
void table_done(struct table *table);

/* The value of a key, or NULL.  Valid until the next table_put(). */
void *table_find(const struct table *table, const void *key);
/* The value of a key, added as zeroes if it is not there.  Valid until the next table_put(). */
void *table_put(struct table *table, const void *key) __attribute__((returns_nonnull));
/* Makes room for so many more, and hardly more: a table that grows by itself has more. */
void table_reserve(struct table *table, size_t count);
bool table_del(struct table *table, const void *key); /* false: it was not there */

/* Returns the value of the next entry, in no particular order; NULL at the end.  *pos is 0 at the
 * start.  The caller may delete the entry that it got, but must not add any. */
void *table_next(const struct table *table, size_t *pos, const void **ret_key);

/* SipHash-1-3 with a random key for each process: nobody can choose names that collide. */
uint64_t table_hash(const void *data, size_t len);

#endif
