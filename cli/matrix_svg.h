/* SPDX-License-Identifier: Apache-2.0 */
/* A matrix as an SVG picture. */
#ifndef TENDRIL_CLI_MATRIX_SVG_H
#define TENDRIL_CLI_MATRIX_SVG_H

#include "policy/analysis/matrix.h"

/* Appends the document. */
void matrix_svg(const struct matrix *matrix, struct buffer *text);

#endif
