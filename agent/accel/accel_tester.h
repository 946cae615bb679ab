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

#define ACCEL_TESTER_NAME "tendril-test" /* of the kind of child */

struct accel_tester;
struct event_base;
struct fork_server;

/* Starts it.  The loop calls check() for each check that ran, then ended() once, with NULL or the
 * reason why not all of them ran; ended() may free the tester. */
int accel_tester_new(struct event_base *base, struct fork_server *server,
		     void (*check)(const struct selftest_check *check, void *arg),
		     void (*ended)(const char *failure, void *arg), void *arg,
		     struct accel_tester **ret_tester, struct errmsg *err);
void accel_tester_free(struct accel_tester *tester); /* kills the child */
DEFINE_AUTO(accel_tester)

pid_t accel_tester_pid(const struct accel_tester *tester);

/* What the child does, for the server's table. */
void accel_tester_run(pid_t agent, size_t fd_count) __attribute__((noreturn));

#endif
