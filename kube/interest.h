/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects of other nodes that this node needs: the pods that policies of its own pods refer to,
 * by namespace or all of them, and the other Node objects.  The agent asks for them.
 */
#ifndef TENDRIL_KUBE_INTEREST_H
#define TENDRIL_KUBE_INTEREST_H

#include "kube/reflector.h"

struct interest;

struct interest_options { /* borrowed */
	struct event_base *base;
	struct apiserver *apiserver;
	const char *node;
	const struct reflector_ops *ops; /* synced() is not called */
	/* All objects of the interest with this number were reported, and those that no longer
	 * belong to it were reported as deleted. */
	void (*known)(double number, void *arg);
	void *arg;
};

struct interest *interest_new(const struct interest_options *options);
void interest_free(struct interest *interest); /* takes NULL */

/* Takes {"number":N,"pods":"all" or [NAMESPACE...],"nodes":bool}.  The old interest is followed
 * until the new one is known.  -EINVAL: it is malformed, -ENOMEM. */
int interest_set(struct interest *interest, const struct cJSON *question, struct errmsg *err);

/* Whether one of its objects has this name. */
bool interest_has(const struct interest *interest, const struct resource *resource,
		  const char *namespace, const char *name);
const char *interest_problem(const struct interest *interest); /* "": none */

#endif
