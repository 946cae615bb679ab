/* SPDX-License-Identifier: Apache-2.0 */
/* A matrix as a page for a browser, in one file. */
#ifndef TENDRIL_CLI_MATRIX_PAGE_H
#define TENDRIL_CLI_MATRIX_PAGE_H

#include "cli/cli_store.h"
#include "policy/analysis/matrix.h"

struct matrix_page {
	const struct matrix *matrix;
	const struct cli_store *store; /* of the matrix: cells show the rule that decides */
	const char *inputs;            /* the files, for the page's title */
	const char *date;
};

/* Appends the document. */
void matrix_page_add(const struct matrix_page *page, struct buffer *text);

#endif
