/* SPDX-License-Identifier: Apache-2.0 */
/* A matrix as a page for a browser, which needs nothing beside itself. */
#ifndef TENDRIL_CLI_MATRIX_PAGE_H
#define TENDRIL_CLI_MATRIX_PAGE_H

#include "cli/cli_store.h"
#include "policy/analysis/matrix.h"

struct matrix_page {
	const struct matrix *matrix;
	const struct cli_store *store; /* that the matrix is of: cells tell which rule decides */
	const char *inputs;            /* what the page says it was made from */
	const char *date;
};

/* Appends the document. */
void matrix_page_add(const struct matrix_page *page, struct buffer *text);

#endif
