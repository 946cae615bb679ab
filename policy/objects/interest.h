/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which objects policies refer to beside the pods that they select: the namespaces of other pods,
 * and whether Node objects.  A node needs no others.
 */
#ifndef TENDRIL_POLICY_OBJECTS_INTEREST_H
#define TENDRIL_POLICY_OBJECTS_INTEREST_H

#include "policy/objects/store.h"

struct interest {
	bool all_pods;     /* of every namespace */
	bool nodes;        /* Node objects */
	char **namespaces; /* owned; sorted, unique */
	size_t count;
};

/* More namespaces than this are followed as all of them. */
#define INTEREST_NAMESPACES_MAX 64

/* Adds what a policy of either kind refers to, with the Namespaces of the store. */
void interest_add(struct interest *interest, const struct store *store,
		  const struct object *policy);
/* Keeps only what both interests have. */
void interest_intersect(struct interest *interest, const struct interest *other);
void interest_copy(struct interest *interest, const struct interest *other);
void interest_done(struct interest *interest);

bool interest_covers(const struct interest *interest, const struct interest *needed);

/* Whether a policy may deny peers that it knows: then a peer that is not known yet could pass. */
bool policy_refuses_peers(const struct object *policy);

#endif
