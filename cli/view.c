/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/view.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/agent_call.h"
#include "lib/alloc.h"
#include "lib/auto.h"

const char *row_name(const cJSON *row, char *buf, size_t size)
{
	const cJSON *metadata = member_get(row, "metadata");
	const cJSON *named = metadata ? metadata : row;
	const char *namespace = member_text(named, "namespace", NULL);

	snprintf(buf, size, "%s%s%s", namespace ? namespace : "", namespace ? "/" : "",
		 member_text(named, "name", ""));
	return buf;
}

/* Removes the rows of other namespaces. */
static void rows_filter(const struct arguments *args, cJSON *rows)
{
	cJSON *row = rows->child;

	while (args->namespace && row) {
		cJSON *next = row->next;
		const cJSON *metadata = member_get(row, "metadata");

		if (strcmp(member_text(metadata ? metadata : row, "namespace", ""),
			   args->namespace) != 0)
			cJSON_Delete(cJSON_DetachItemViaPointer(rows, row));
		row = next;
	}
}

static void rows_print(const struct arguments *args, const struct view *view, const cJSON *rows,
		       unsigned int flags)
{
	const cJSON *row;
	char name[600];

	if (args->json) {
		cJSON *document = view->document ? view->document(args, rows) : NULL;

		output_json(document ? document : rows);
		cJSON_Delete(document);
	} else if (strcmp(args->output, "name") == 0) {
		cJSON_ArrayForEach (row, rows)
			printf("%s/%s\n", member_text(row, "kind", view->kind),
			       output_shown(row_name(row, name, sizeof(name))));
	} else {
		if (strcmp(args->output, "wide") == 0)
			flags |= TABLE_WIDE;
		output_table(rows, view->columns, view->column_count, flags);
	}
}

/* ---- watching ---- */

static const cJSON *row_find(const cJSON *rows, const cJSON *wanted)
{
	char name[600], other[600];
	const cJSON *row;

	row_name(wanted, name, sizeof(name));
	cJSON_ArrayForEach (row, rows) {
		if (strcmp(row_name(row, other, sizeof(other)), name) == 0 &&
		    strcmp(member_text(row, "kind", ""), member_text(wanted, "kind", "")) == 0)
			return row;
	}
	return NULL;
}

/* Whether a table shows two rows differently; counters without a column do not matter. */
static bool rows_differ(const struct arguments *args, const struct view *view, const cJSON *a,
			const cJSON *b)
{
	bool wide = strcmp(args->output, "wide") == 0;

	if (args->json)
		return !cJSON_Compare(a, b, true);
	for (size_t i = 0; i < view->column_count; i++) {
		struct cell left, right;

		if (view->columns[i].wide && !wide)
			continue;
		column_fill(&view->columns[i], a, &left);
		column_fill(&view->columns[i], b, &right);
		if (strcmp(left.text, right.text) != 0)
			return true;
	}
	return false;
}

static void changes_print(const struct arguments *args, const struct view *view,
			  const cJSON *before, const cJSON *after)
{
	cJSON *changed = cJSON_CreateArray();
	const cJSON *row;
	char name[600];

	cJSON_ArrayForEach (row, after) {
		const cJSON *known = row_find(before, row);

		if (!known || rows_differ(args, view, known, row))
			cJSON_AddItemToArray(changed, cJSON_Duplicate(row, true));
	}
	if (changed->child)
		rows_print(args, view, changed, TABLE_NO_HEADER);
	cJSON_Delete(changed);
	cJSON_ArrayForEach (row, before) {
		if (!row_find(after, row) && !args->json)
			printf("%s  (removed)\n", output_shown(row_name(row, name, sizeof(name))));
	}
	fflush(stdout);
}

int view_show(const struct arguments *args, const struct view *view, struct errmsg *err)
{
	const struct timespec pause = { .tv_sec = 1 };
	cJSON *rows = NULL, *next = NULL;
	int ret = view->fetch(args, &rows, err);

	if (ret)
		return ret;
	rows_filter(args, rows);
	rows_print(args, view, rows, 0);
	fflush(stdout);
	while (args->watch && !ferror(stdout)) {
		nanosleep(&pause, NULL); /* the API has no stream of these */
		ret = view->fetch(args, &next, err);
		if (ret)
			break;
		rows_filter(args, next);
		changes_print(args, view, rows, next);
		cJSON_Delete(rows);
		rows = take_ptr(next);
	}
	cJSON_Delete(rows);
	return ret ? ret : EXIT_OK;
}
