/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts of API objects in a third of their room: what most of them say in the same words is one
 * byte.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_PACK_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_PACK_H

struct cJSON;

/* Of a JSON text without control characters, as cJSON prints it; equal texts are packed equally.
 * The caller owns it. */
char *object_pack(const char *text);
/* The object, owned by the caller; NULL: out of memory. */
struct cJSON *object_unpack(const char *packed);

#endif
