/* SPDX-License-Identifier: Apache-2.0 */
/* YAML documents with plain scalars resolved as Kubernetes' own tools resolve them; document.h is
 * for callers. */
#ifndef TENDRIL_LIB_YAML_H
#define TENDRIL_LIB_YAML_H

#include "lib/document.h"

struct yaml;

/* NULL: out of memory.  The text must outlive it, and begin with no byte order mark. */
struct yaml *yaml_open(const char *text, size_t len);
void yaml_close(struct yaml *yaml);

/* As documents_next(), with positions counted from the text's beginning. */
int yaml_next(struct yaml *yaml, struct cJSON **ret, struct text_error *ret_error);

#endif
