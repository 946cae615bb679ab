/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compresses texts of API objects to a third: words that most of them have become one byte.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_PACK_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_PACK_H

struct cJSON;

/* Packs a JSON text without control characters, as cJSON prints it; equal texts give equal results.
 * The caller owns the result. */
char *object_pack(const char *text);
/* The object, owned by the caller; NULL: out of memory. */
struct cJSON *object_unpack(const char *packed);

#endif
