/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/compiler/label_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct posting {
	struct posting *next;
	const struct labels *labels;
	uint32_t item;
};

int id_list_add(struct id_list *list, uint32_t id)
{
	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = id;
	return 0;
}

static int id_compare(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a;
	uint32_t right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

void id_list_sort(struct id_list *list)
{
	size_t kept = 0;

	if (list->count < 2)
		return;
	qsort(list->items, list->count, sizeof(*list->items), id_compare);
	for (size_t i = 1; i < list->count; i++) {
		if (list->items[i] != list->items[kept])
			list->items[++kept] = list->items[i];
	}
	list->count = kept + 1;
}

size_t id_list_place(const struct id_list *list, uint32_t id)
{
	size_t low = 0;
	size_t high = list->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (list->items[middle] < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool id_list_has(const struct id_list *list, uint32_t id)
{
	size_t place = id_list_place(list, id);

	return place < list->count && list->items[place] == id;
}

int id_list_put(struct id_list *list, uint32_t id)
{
	size_t place = id_list_place(list, id);

	if (place < list->count && list->items[place] == id)
		return 0;
	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	memmove(&list->items[place + 1], &list->items[place],
		(list->count - place) * sizeof(*list->items));
	list->items[place] = id;
	list->count++;
	return 0;
}

void id_list_drop(struct id_list *list, uint32_t id)
{
	size_t place = id_list_place(list, id);

	if (place == list->count || list->items[place] != id)
		return;
	list->count--;
	memmove(&list->items[place], &list->items[place + 1],
		(list->count - place) * sizeof(*list->items));
}

void id_list_done(struct id_list *list)
{
	free(list->items);
	*list = (struct id_list){ 0 };
}

/* The name of a list; key NULL: everything in the scope. */
static void term_key(struct buffer *buffer, uint32_t scope, const char *key, const char *value)
{
	buffer->len = 0;
	buffer_number(buffer, scope);
	if (key) {
		buffer_text(buffer, key);
		buffer_text(buffer, value);
	}
}

static int posting_add(struct label_index *index, const struct buffer *key,
		       const struct labels *labels, uint32_t item)
{
	struct posting *posting = arena_alloc(index->arena, sizeof(*posting));
	size_t known = index->terms.count;
	size_t term;

	if (key->failed || !posting)
		return -ENOMEM;
	if (array_room(&index->lists, known, &index->capacity, sizeof(*index->lists)) < 0)
		return -ENOMEM;
	term = intern_add(&index->terms, key->data, key->len);
	if (term == INTERN_NONE)
		return -ENOMEM;
	if (term == known)
		index->lists[term] = (struct posting_list){ 0 };
	posting->labels = labels;
	posting->item = item;
	posting->next = index->lists[term].first;
	index->lists[term].first = posting;
	index->lists[term].count++;
	return 0;
}

int label_index_add(struct label_index *index, uint32_t scope, const struct labels *labels,
		    uint32_t item)
{
	auto_buffer struct buffer key = { 0 };

	index->terms.arena = index->arena;
	term_key(&key, scope, NULL, NULL);
	if (posting_add(index, &key, labels, item) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < labels->count; i++) {
		term_key(&key, scope, labels->items[i].key, labels->items[i].value);
		if (posting_add(index, &key, labels, item) < 0)
			return -ENOMEM;
	}
	return 0;
}

static const struct posting_list *list_find(const struct label_index *index, struct buffer *buffer,
					    uint32_t scope, const char *key, const char *value)
{
	static const struct posting_list empty;
	size_t term;

	term_key(buffer, scope, key, value);
	if (buffer->failed)
		return NULL;
	term = intern_find(&index->terms, buffer->data, buffer->len);
	return term == INTERN_NONE ? &empty : &index->lists[term];
}

static int list_select(const struct posting_list *postings, const struct selector *selector,
		       struct id_list *list)
{
	for (const struct posting *posting = postings->first; posting; posting = posting->next) {
		if ((!selector || selector_matches(selector, posting->labels)) &&
		    id_list_add(list, posting->item) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* How many items have one of the values an In term asks for. */
static int term_cost(const struct label_index *index, struct buffer *buffer, uint32_t scope,
		     const struct selector_term *term, size_t *ret_cost)
{
	size_t cost = 0;

	for (size_t i = 0; i < term->value_count; i++) {
		const struct posting_list *postings =
			list_find(index, buffer, scope, term->key, term->values[i]);

		if (!postings)
			return -ENOMEM;
		cost += postings->count;
	}
	*ret_cost = cost;
	return 0;
}

int label_index_select(const struct label_index *index, uint32_t scope,
		       const struct selector *selector, struct id_list *list)
{
	auto_buffer struct buffer buffer = { 0 };
	const struct posting_list *all = list_find(index, &buffer, scope, NULL, NULL);
	const struct selector_term *best = NULL;
	size_t best_cost;

	if (!all)
		return -ENOMEM;
	best_cost = all->count;
	for (size_t i = 0; selector && i < selector->count; i++) {
		size_t cost;

		if (selector->terms[i].operator!= SELECTOR_IN)
			continue;
		if (term_cost(index, &buffer, scope, &selector->terms[i], &cost) < 0)
			return -ENOMEM;
		if (cost < best_cost) {
			best = &selector->terms[i];
			best_cost = cost;
		}
	}
	if (!best)
		return list_select(all, selector, list);
	for (size_t i = 0; i < best->value_count; i++) {
		const struct posting_list *postings =
			list_find(index, &buffer, scope, best->key, best->values[i]);

		if (!postings || list_select(postings, selector, list) < 0)
			return -ENOMEM;
	}
	return 0;
}

void label_index_done(struct label_index *index)
{
	intern_done(&index->terms);
	free(index->lists);
	index->lists = NULL;
	index->capacity = 0;
}
