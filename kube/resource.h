/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds that are followed: where the API server has them, and the fields that Tendril acts on.
 * Everything else is dropped here, before the agent sees it.
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
	bool metadata_only;         /* nothing else of it is asked for */
	const struct field *fields; /* that are kept */
};

extern const struct resource resources[];
extern const size_t resource_count;

/* Of the kinds that are followed in parts. */
bool resource_is_pod(const struct resource *resource);
bool resource_is_node(const struct resource *resource);

/* A text of an object's metadata ("name"); "" where it is missing.  Borrowed from the object. */
const char *metadata_text(const struct cJSON *object, const char *key);

/* An object with the fields that are kept alone, and with apiVersion and kind, which items of a
 * list lack.  The caller owns it. */
struct cJSON *resource_reduce(const struct resource *resource, const struct cJSON *object);

#endif
