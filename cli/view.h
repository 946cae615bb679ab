/* SPDX-License-Identifier: Apache-2.0 */
/* A list of rows from the agent, in each format of -o, once or with --watch. */
#ifndef TENDRIL_CLI_VIEW_H
#define TENDRIL_CLI_VIEW_H

#include "cli/command.h"
#include "cli/output.h"

struct view {
	const struct column *columns;
	size_t column_count;
	const char *kind; /* "pod": -o name prints pod/NAMESPACE/NAME */
	/* Fetches the rows, a JSON array that the caller owns; 0, or a negative errno and err. */
	int (*fetch)(const struct arguments *args, struct cJSON **ret_rows, struct errmsg *err);
	/* Makes what -o json and yaml print from the rows; NULL: the rows. */
	struct cJSON *(*document)(const struct arguments *args, const struct cJSON *rows);
};

/* Prints the view; with --watch, then prints rows that are added, changed and removed. */
int view_show(const struct arguments *args, const struct view *view, struct errmsg *err);

/* "NAMESPACE/NAME" of a row: its members namespace and name, or those of its metadata. */
const char *row_name(const struct cJSON *row, char *buf, size_t size);

#endif
