/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds that are followed: their paths on the API server, and the fields that Tendril uses.
 * Everything else is dropped here, so the agent does not get it.
 */
#ifndef TENDRIL_KUBE_RESOURCE_H
#define TENDRIL_KUBE_RESOURCE_H

#include <stdbool.h>
#include <stddef.h>

struct cJSON;
struct field;

struct resource {
	const char *name; /* "pods" */
	const char *api_version;
	const char *kind;
	const char *path;           /* "/api/v1/pods" */
	const char *label_selector; /* URL-encoded, or NULL */
	bool optional;              /* a custom resource: the cluster need not have it */
	bool metadata_only;         /* only its metadata is requested */
	const struct field *fields; /* that are kept */
};

extern const struct resource resources[];
extern const size_t resource_count;

/* The kinds of which only some objects are followed. */
bool resource_is_pod(const struct resource *resource);
bool resource_is_node(const struct resource *resource);

/* A text of an object's metadata ("name"); "" if it is missing.  Borrowed from the object. */
const char *metadata_text(const struct cJSON *object, const char *key);

/* A copy with only the fields that are kept, and with apiVersion and kind, which items of a list do
 * not have.  The caller owns it. */
struct cJSON *resource_reduce(const struct resource *resource, const struct cJSON *object);

#endif
