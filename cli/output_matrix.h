/* SPDX-License-Identifier: Apache-2.0 */
/* A matrix as text and as JSON. */
#ifndef TENDRIL_CLI_OUTPUT_MATRIX_H
#define TENDRIL_CLI_OUTPUT_MATRIX_H

#include "policy/analysis/matrix.h"

void matrix_print(const struct matrix *matrix);
void matrix_json_print(const struct matrix *matrix);

/* "80/TCP, 443/TCP, only IPv4"; returns buf. */
const char *matrix_table_title(const struct matrix_table *table, char *buf, size_t size);

#endif
