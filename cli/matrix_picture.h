/* SPDX-License-Identifier: Apache-2.0 */
/* A matrix as a picture: SVG, or a page for a browser that needs nothing beside itself. */
#ifndef TENDRIL_CLI_MATRIX_PICTURE_H
#define TENDRIL_CLI_MATRIX_PICTURE_H

#include "policy/analysis/matrix.h"

/* Appends the document; a failed append is the buffer's. */
void picture_svg(const struct matrix *matrix, struct buffer *text);
void picture_html(const struct matrix *matrix, struct buffer *text);

/* "80/TCP, 443/TCP, only IPv4"; buf is returned. */
const char *matrix_table_title(const struct matrix_table *table, char *buf, size_t size);

#endif
