/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests whether the running kernel does what socket acceleration needs, and shows what is known to
 * fail.  Loads the acceleration programs a second time, with their own maps, and accelerates
 * connections between two namespaces made for the test.  It does not use the node's maps and pods.
 */
#ifndef TENDRIL_AGENT_ACCEL_ACCEL_SELFTEST_H
#define TENDRIL_AGENT_ACCEL_ACCEL_SELFTEST_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/errmsg.h"

#define SELFTEST_CHECKS_MAX 16

struct selftest_check {
	char name[32];
	bool required; /* if it fails, acceleration stays off */
	bool passed;
	char detail[160]; /* what happened, if it failed */
};

struct selftest;

/* Takes about 20 ms, so the agent's loop does not call it: see accel_tester.h. */
int selftest_new(struct selftest **ret, struct errmsg *err);
void selftest_free(struct selftest *selftest); /* leaves nothing behind */

/* Runs the next check: some milliseconds, or up to a few hundred when it fails.  False: there are
 * no more. */
bool selftest_next(struct selftest *selftest, struct selftest_check *ret);

#endif
