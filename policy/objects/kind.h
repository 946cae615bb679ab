/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which kinds of objects Tendril reads, which it ignores, and about which it warns: those that look
 * like policies and services in force, but are not read.
 */
#ifndef TENDRIL_POLICY_OBJECTS_KIND_H
#define TENDRIL_POLICY_OBJECTS_KIND_H

#include <stdbool.h>

#include "policy/objects/object.h"

enum kind_class {
	KIND_READ,    /* one of enum object_kind */
	KIND_OTHER,   /* not about the network, such as a Deployment: skipped */
	KIND_WARNED,  /* skipped, but worth a warning */
	KIND_REFUSED, /* looks like a policy or a service, and is not read: an error */
};

struct kind_match {
	enum kind_class class;
	enum object_kind kind; /* KIND_READ */
	bool version_is_wrong; /* KIND_REFUSED: the error is in apiVersion, not in kind */
	char text[256];        /* KIND_WARNED, KIND_REFUSED: why, and how to write it */
};

void kind_match(const char *api_version, const char *kind, struct kind_match *ret);

/* "networking.k8s.io/v1": the apiVersion of a kind that is read. */
const char *kind_api_version(enum object_kind kind);

#endif
