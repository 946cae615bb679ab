/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the items that a selector matches without reading all items.  Each item is listed under
 * each of its labels; for a selector with a value, only the list of that value is read.  Internal
 * to the compiler.
 */
#ifndef TENDRIL_POLICY_COMPILER_LABEL_INDEX_H
#define TENDRIL_POLICY_COMPILER_LABEL_INDEX_H

#include "lib/arena.h"
#include "policy/objects/object.h"

struct id_list {
	uint32_t *items;
	size_t count;
	size_t capacity;
};

void id_list_add(struct id_list *list, uint32_t id);
void id_list_sort(struct id_list *list); /* and drops duplicates */
/* For a sorted list: the index of the first number that is not less; whether it has the number. */
size_t id_list_position(const struct id_list *list, uint32_t id);
bool id_list_has(const struct id_list *list, uint32_t id);
/* Adds a number to a sorted list, or removes it; does nothing if that is done already. */
void id_list_put(struct id_list *list, uint32_t id);
void id_list_drop(struct id_list *list, uint32_t id);
void id_list_done(struct id_list *list);

struct posting;

struct posting_list {
	struct posting *first;
	size_t count;
};

struct label_index {
	struct arena *arena; /* borrowed */
	struct intern terms; /* scope alone, or scope, key and value */
	struct posting_list *lists;
	size_t capacity;
};

/* Lists an item under its labels, which are borrowed for the life of the index.  Items of different
 * scopes are kept apart. */
void label_index_add(struct label_index *index, uint32_t scope, const struct labels *labels,
		     uint32_t item);
/* Appends the items of the scope that the selector matches (NULL: all), in no order. */
void label_index_select(const struct label_index *index, uint32_t scope,
			const struct selector *selector, struct id_list *list);
void label_index_done(struct label_index *index);

#endif
