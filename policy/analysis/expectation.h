/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of expected verdicts, as tendril-policy(1) describes them: an object with a list "tests",
 * whose members have from, to, port and expect.  Here they are only parsed.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_EXPECTATION_H
#define TENDRIL_POLICY_ANALYSIS_EXPECTATION_H

#include "lib/arena.h"
#include "policy/objects/parse.h"

struct expectation {
	const char *name; /* NULL if it has none */
	const char *from;
	const char *to;
	const char *port;
	bool allow;
	size_t line; /* of the member of "tests"; 0 if not known */
};

struct expectations {
	struct expectation *items;
	size_t count;
	size_t capacity;
	struct arena *arena; /* keeps the strings */
};

#define EXPECTATIONS_MAX 100000 /* of one file, lists multiplied out */

/* -EINVAL with problems filled, -ENOMEM; the list is empty then. */
int expectations_parse(const char *text, size_t len, struct expectations *ret,
		       struct problems *problems);
void expectations_done(struct expectations *expectations);

#endif
