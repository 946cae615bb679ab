/* SPDX-License-Identifier: Apache-2.0 */
/* Prints cJSON trees as YAML in block style, as people write it by hand. */
#ifndef TENDRIL_LIB_YAML_PRINT_H
#define TENDRIL_LIB_YAML_PRINT_H

#include <stdio.h>

struct cJSON;

/* Writes one document, without a separator.  Reading it back gives the same tree: strings that YAML
 * would take for something else are quoted. */
void yaml_print(FILE *file, const struct cJSON *json);

#endif
