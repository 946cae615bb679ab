/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to the agent over its unix socket, without blocking the loop. */
#ifndef TENDRIL_HTTP_AGENT_CALL_H
#define TENDRIL_HTTP_AGENT_CALL_H

#include <stddef.h>

struct event_base;

/* status: of HTTP; 0 if the agent did not answer: body then says why.  body is NUL-terminated and
 * valid during the call. */
typedef void (*agent_answer)(int status, const char *body, void *arg);

/* GET path.  done() is called exactly once, from the loop and not from here, at the latest after
 * AGENT_TIMEOUT_S seconds. */
#define AGENT_TIMEOUT_S 2
void agent_get(struct event_base *base, const char *socket_path, const char *path,
	       agent_answer done, void *arg);

#endif
