/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the self-test of socket acceleration in a child process, because it loads programs and may
 * wait for data in vain.
 */
#ifndef TENDRIL_AGENT_ACCEL_ACCEL_TESTER_H
#define TENDRIL_AGENT_ACCEL_ACCEL_TESTER_H

#include <sys/types.h>

#include "agent/accel/accel_selftest.h"
#include "lib/auto.h"

struct accel_tester;
struct datapath;
struct event_base;

/* Starts it, without the maps of the datapath (NULL: there are none).  The loop calls check() for
 * each check that ran, then ended() once, with NULL or the reason why not all of them ran; ended()
 * may free the tester. */
int accel_tester_new(struct event_base *base, struct datapath *datapath,
		     void (*check)(const struct selftest_check *check, void *arg),
		     void (*ended)(const char *failure, void *arg), void *arg,
		     struct accel_tester **ret_tester, struct errmsg *err);
void accel_tester_free(struct accel_tester *tester); /* kills the child */
DEFINE_AUTO(accel_tester)

pid_t accel_tester_pid(const struct accel_tester *tester);

#endif
