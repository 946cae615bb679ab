/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which objects Tendril reads, which it leaves alone, and which it must not pass over in silence:
 * policies and services that look as if they were in force.
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
	bool version_is_wrong; /* KIND_REFUSED: the fault is in apiVersion, not in kind */
	char text[256];        /* KIND_WARNED, KIND_REFUSED: why, and how to write it */
};

void kind_match(const char *api_version, const char *kind, struct kind_match *ret);

/* "networking.k8s.io/v1": the apiVersion of a kind that is read. */
const char *kind_api_version(enum object_kind kind);

#endif
