/* SPDX-License-Identifier: Apache-2.0 */
/* Labels, and whether a selector matches them. */
#include <stdlib.h>
#include <string.h>

#include "policy/objects/object.h"

static int label_compare(const void *a, const void *b)
{
	return strcmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

void labels_sort(struct labels *labels)
{
	qsort(labels->items, labels->count, sizeof(*labels->items), label_compare);
}

bool labels_get(const struct labels *labels, const char *key, const char **ret_value)
{
	size_t low = 0;
	size_t high = labels->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(key, labels->items[middle].key);

		if (order == 0) {
			*ret_value = labels->items[middle].value;
			return true;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

bool labels_equal(const struct labels *a, const struct labels *b)
{
	for (size_t i = 0; i < a->count && i < b->count; i++) {
		if (strcmp(a->items[i].key, b->items[i].key) != 0 ||
		    strcmp(a->items[i].value, b->items[i].value) != 0)
			return false;
	}
	return a->count == b->count;
}

static bool term_holds_value(const struct selector_term *term, const char *value)
{
	for (size_t i = 0; i < term->value_count; i++) {
		if (strcmp(term->values[i], value) == 0)
			return true;
	}
	return false;
}

static bool term_matches(const struct selector_term *term, const struct labels *labels)
{
	const char *value = NULL;
	bool present = labels_get(labels, term->key, &value);

	switch (term->op) {
	case SELECTOR_IN:
		return present && term_holds_value(term, value);
	case SELECTOR_NOT_IN: /* also holds where the key is missing */
		return !present || !term_holds_value(term, value);
	case SELECTOR_EXISTS:
		return present;
	case SELECTOR_NOT_EXISTS:
		return !present;
	}
	return false;
}

bool selector_matches(const struct selector *selector, const struct labels *labels)
{
	for (size_t i = 0; i < selector->count; i++) {
		if (!term_matches(&selector->terms[i], labels))
			return false;
	}
	return true;
}
