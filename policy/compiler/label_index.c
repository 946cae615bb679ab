/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/compiler/label_index.h"

#include <stdlib.h>
#include <string.h>

struct posting {
	struct posting *next;
	const struct labels *labels;
	uint32_t item;
};

void id_list_add(struct id_list *list, uint32_t id)
{
	*array_add(list) = id;
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

size_t id_list_position(const struct id_list *list, uint32_t id)
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
	size_t at = id_list_position(list, id);

	return at < list->count && list->items[at] == id;
}

void id_list_put(struct id_list *list, uint32_t id)
{
	size_t at = id_list_position(list, id);

	if (at < list->count && list->items[at] == id)
		return;
	array_add(list);
	memmove(&list->items[at + 1], &list->items[at],
		(list->count - 1 - at) * sizeof(*list->items));
	list->items[at] = id;
}

void id_list_drop(struct id_list *list, uint32_t id)
{
	size_t at = id_list_position(list, id);

	if (at == list->count || list->items[at] != id)
		return;
	list->count--;
	memmove(&list->items[at], &list->items[at + 1], (list->count - at) * sizeof(*list->items));
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

static void posting_add(struct label_index *index, const struct buffer *key,
			const struct labels *labels, uint32_t item)
{
	struct posting *posting = arena_alloc(index->arena, sizeof(*posting));
	size_t known = index->terms.count;
	size_t term = intern_add(&index->terms, key->data, key->len);

	if (term == known) {
		array_room(&index->lists, known, &index->capacity, sizeof(*index->lists));
		index->lists[term] = (struct posting_list){ 0 };
	}
	posting->labels = labels;
	posting->item = item;
	posting->next = index->lists[term].first;
	index->lists[term].first = posting;
	index->lists[term].count++;
}

void label_index_add(struct label_index *index, uint32_t scope, const struct labels *labels,
		     uint32_t item)
{
	auto_buffer struct buffer key = { 0 };

	index->terms.arena = index->arena;
	term_key(&key, scope, NULL, NULL);
	posting_add(index, &key, labels, item);
	for (size_t i = 0; i < labels->count; i++) {
		term_key(&key, scope, labels->items[i].key, labels->items[i].value);
		posting_add(index, &key, labels, item);
	}
}

static const struct posting_list *list_find(const struct label_index *index, struct buffer *buffer,
					    uint32_t scope, const char *key, const char *value)
{
	static const struct posting_list empty;
	size_t term;

	term_key(buffer, scope, key, value);
	term = intern_find(&index->terms, buffer->data, buffer->len);
	return term == INTERN_NONE ? &empty : &index->lists[term];
}

static void list_select(const struct posting_list *postings, const struct selector *selector,
			struct id_list *list)
{
	for (const struct posting *posting = postings->first; posting; posting = posting->next) {
		if (!selector || selector_matches(selector, posting->labels))
			id_list_add(list, posting->item);
	}
}

/* How many items have one of the values that an In term asks for. */
static size_t term_cost(const struct label_index *index, struct buffer *buffer, uint32_t scope,
			const struct selector_term *term)
{
	size_t cost = 0;

	for (size_t i = 0; i < term->value_count; i++)
		cost += list_find(index, buffer, scope, term->key, term->values[i])->count;
	return cost;
}

void label_index_select(const struct label_index *index, uint32_t scope,
			const struct selector *selector, struct id_list *list)
{
	auto_buffer struct buffer buffer = { 0 };
	const struct posting_list *all = list_find(index, &buffer, scope, NULL, NULL);
	const struct selector_term *best = NULL;
	size_t best_cost = all->count;

	for (size_t i = 0; selector && i < selector->count; i++) {
		size_t cost;

		if (selector->terms[i].op != SELECTOR_IN)
			continue;
		cost = term_cost(index, &buffer, scope, &selector->terms[i]);
		if (cost < best_cost) {
			best = &selector->terms[i];
			best_cost = cost;
		}
	}
	if (!best) {
		list_select(all, selector, list);
		return;
	}
	for (size_t i = 0; i < best->value_count; i++)
		list_select(list_find(index, &buffer, scope, best->key, best->values[i]), selector,
			    list);
}

void label_index_done(struct label_index *index)
{
	intern_done(&index->terms);
	free(index->lists);
	index->lists = NULL;
	index->capacity = 0;
}
