/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JSON List read item by item.  The tree of a whole text takes ten times its memory and is cold
 * when it is read; one item's is small and goes again at once.
 */
#ifndef TENDRIL_LIB_JSON_LIST_H
#define TENDRIL_LIB_JSON_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct cJSON;

struct json_list {
	struct cJSON *head; /* the list with all its members, and no items */
	const char *at;     /* where the next item begins */
	const char *end;    /* the bracket that closes the items */
	bool first;         /* at is the first */
	bool broken;        /* what is at `at` is not JSON */
};

/* Whether a list ("kind" ends in "List", "items" is an array) stands at the beginning of the text;
 * *ret_len is what it takes.  False also for whatever is not plainly one: the text is then for
 * json_value_parse(), which says what is wrong. */
bool json_list_open(const char *text, size_t len, struct json_list *ret, size_t *ret_len);
void json_list_done(struct json_list *list);

/* The next item, owned by the caller; NULL at the end, or if the list is broken. */
struct cJSON *json_list_next(struct json_list *list);

#endif
