/* SPDX-License-Identifier: Apache-2.0 */
/* Prints cJSON trees as YAML in block style, as people write it by hand. */
#ifndef TENDRIL_LIB_YAML_PRINT_H
#define TENDRIL_LIB_YAML_PRINT_H

#include <stdio.h>

struct cJSON;

/* Writes one document, without a separator.  Reading it back gives the same tree: strings that YAML
 * would take for something else are quoted. */
void yaml_print(FILE *file, const struct cJSON *json);

/* The same, with a comment behind each "key: value" that comment() has one for (one line; NULL:
 * none). */
void yaml_print_commented(FILE *file, const struct cJSON *json,
			  const char *(*comment)(const struct cJSON *value, void *arg), void *arg);

#endif
