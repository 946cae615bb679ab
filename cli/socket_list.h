/* SPDX-License-Identifier: Apache-2.0 */
/* The TCP sockets that pods of the node have now, with the names of their peers. */
#ifndef TENDRIL_CLI_SOCKET_LIST_H
#define TENDRIL_CLI_SOCKET_LIST_H

#include <stdint.h>

#include "cli/command.h"

struct cJSON;
struct socket_list;

struct socket_list *socket_list_new(const struct arguments *args);
void socket_list_free(struct socket_list *list); /* NULL is fine */

/*
 * Reads the sockets that --pod, --namespace, --port and --state ask for, as a JSON array that the
 * caller owns: what the agent tells of each (agent/api/API.md), and "pod", "peer" and "service",
 * NAMESPACE/NAME as far as they are known.  *ret_left_out: how many the agent did not list.
 */
int socket_list_read(struct socket_list *list, struct cJSON **ret, uint64_t *ret_left_out,
		     struct errmsg *err);

#endif
