/* SPDX-License-Identifier: Apache-2.0 */
/* Parses YAML documents, and resolves plain scalars as Kubernetes' own tools do.  Callers use
 * document.h. */
#ifndef TENDRIL_LIB_YAML_H
#define TENDRIL_LIB_YAML_H

#include "lib/document.h"

struct yaml;

/* NULL: out of memory.  The text must outlive it and must not begin with a byte order mark. */
struct yaml *yaml_open(const char *text, size_t len);
void yaml_close(struct yaml *yaml);

/* As documents_next(), with positions counted from the text's beginning. */
int yaml_next(struct yaml *yaml, struct cJSON **ret, struct text_error *ret_error);

#endif
