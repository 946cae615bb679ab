/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to the agent's API, and how commands read its answers. */
#ifndef TENDRIL_CLI_AGENT_CALL_H
#define TENDRIL_CLI_AGENT_CALL_H

#include "cli/command.h"

struct cJSON;

/* Makes one call.  ret_json may be NULL; the caller owns *ret_json.  An answer with status 400 or
 * above is a failure with the agent's own text. */
int agent_call(const struct arguments *args, const char *method, const char *path, const char *body,
	       struct cJSON **ret_json, struct errmsg *err);

/* A POST with a descriptor, which the agent gets, too. */
int agent_call_fd(const struct arguments *args, const char *path, const char *body, int fd,
		  int timeout_ms, struct cJSON **ret_json, struct errmsg *err);

/* Reads a stream of lines until it ends or each() returns something other than 0. */
int agent_follow(const struct arguments *args, const char *path,
		 int (*each)(const char *line, void *arg), void *arg, struct errmsg *err);

/* A member of an answer, NULL if absent. */
const struct cJSON *member_get(const struct cJSON *object, const char *name);

/* The text of a member; absent if there is no such text. */
const char *member_text(const struct cJSON *object, const char *name, const char *absent);

/* The number of a member; 0 if there is none. */
double member_number(const struct cJSON *object, const char *name);

#endif
