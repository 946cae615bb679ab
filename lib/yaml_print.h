/* SPDX-License-Identifier: Apache-2.0 */
/* cJSON trees -> YAML text in block style, as people write it by hand. */
#ifndef TENDRIL_LIB_YAML_PRINT_H
#define TENDRIL_LIB_YAML_PRINT_H

#include <stdio.h>

struct cJSON;

/* Writes one document, without a separator.  What is read back is equal: texts that YAML would take
 * for something else are quoted. */
void yaml_print(FILE *file, const struct cJSON *json);

#endif
