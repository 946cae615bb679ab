/* SPDX-License-Identifier: Apache-2.0 */
/* Tries a change of objects on the running node without applying it. */
#ifndef TENDRIL_CLI_CANARY_H
#define TENDRIL_CLI_CANARY_H

#include "cli/command.h"

struct cJSON;

/* Shows what the documents would change: first the difference of the stores, then, for so many
 * seconds, each flow of this node that would be cut off.  Adds all of it to report, and prints it
 * unless -o json or yaml prints the report.  *ret_cut is how many flows would be cut off. */
int canary_run(const struct arguments *args, const struct cJSON *documents, uint32_t seconds,
	       struct cJSON *report, size_t *ret_cut, struct errmsg *err);

#define CANARY_LOOK_SECONDS 1 /* how long --dry-run looks at flows */

#endif
