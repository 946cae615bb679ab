/* SPDX-License-Identifier: Apache-2.0 */
/* Fills a store from the files of -f, or from the agent. */
#ifndef TENDRIL_CLI_STORE_LOAD_H
#define TENDRIL_CLI_STORE_LOAD_H

#include "cli/cli_store.h"
#include "cli/command.h"

/* The objects of the files of -f; without -f, the agent's objects and endpoints. */
int store_load(const struct arguments *args, struct cli_store **ret, struct errmsg *err);

/* The agent's objects and endpoints as they would be after these documents (a JSON array, or NULL)
 * are applied. */
int store_load_agent(const struct arguments *args, const struct cJSON *documents,
		     struct cli_store **ret, struct errmsg *err);

#endif
