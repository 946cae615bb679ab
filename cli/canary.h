/* SPDX-License-Identifier: Apache-2.0 */
/* A change of objects tried on the running node without being applied. */
#ifndef TENDRIL_CLI_CANARY_H
#define TENDRIL_CLI_CANARY_H

#include "cli/command.h"

struct cJSON;

/* What the documents would change: the difference of the stores, then whom of those who talk on
 * this node it would cut off, as it is seen.  Printed, unless -o json asks for the report, to which
 * all of it is added.  *ret_cut is how many flows it cuts. */
int canary_run(const struct arguments *args, const struct cJSON *documents, uint32_t seconds,
	       struct cJSON *report, size_t *ret_cut, struct errmsg *err);

#define CANARY_LOOK_SECONDS 1 /* of --dry-run: what is there, and who happens to speak */

#endif
