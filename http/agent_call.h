/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the agent over its unix socket, without blocking the loop. */
#ifndef TENDRIL_HTTP_AGENT_CALL_H
#define TENDRIL_HTTP_AGENT_CALL_H

#include <stddef.h>

struct event_base;

/* status: of HTTP; 0: the agent did not answer, and body says why.  body is NUL-terminated and
 * valid during the call. */
typedef void (*agent_answer)(int status, const char *body, void *arg);

/* Requests GET path.  The loop calls done() exactly once, at the latest after AGENT_TIMEOUT_S
 * seconds. */
#define AGENT_TIMEOUT_S 2
void agent_get(struct event_base *base, const char *socket_path, const char *path,
	       agent_answer done, void *arg);

#endif
