/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds what a selector matches without asking everybody: items are listed under each of their
 * labels, and a selector that asks for a value looks only at that value's list.  Internal.
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

int id_list_add(struct id_list *list, uint32_t id);
void id_list_sort(struct id_list *list); /* and drops duplicates */
/* In a sorted list: the first place whose number is not less; whether it is there. */
size_t id_list_place(const struct id_list *list, uint32_t id);
bool id_list_has(const struct id_list *list, uint32_t id);
/* Put into, or taken out of a sorted list; nothing happens if it is there, or not there. */
int id_list_put(struct id_list *list, uint32_t id);
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

/* Items of different scopes never meet.  labels is borrowed for the life of the index. */
int label_index_add(struct label_index *index, uint32_t scope, const struct labels *labels,
		    uint32_t item);
/* Appends the items of the scope that the selector matches (NULL: all), without order. */
int label_index_select(const struct label_index *index, uint32_t scope,
		       const struct selector *selector, struct id_list *list);
void label_index_done(struct label_index *index);

#endif
