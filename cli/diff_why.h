/* SPDX-License-Identifier: Apache-2.0 */
/* Which rules decide the connections that a change newly allows or denies, before and after it. */
#ifndef TENDRIL_CLI_DIFF_WHY_H
#define TENDRIL_CLI_DIFF_WHY_H

#include "cli/explain_query.h"
#include "policy/analysis/diff.h"

enum { DIFF_BEFORE, DIFF_AFTER, DIFF_VERSIONS };

#define DIFF_WHYS_MAX 4

/* One connection that stands for those that are decided by the same rules. */
struct diff_why {
	uint8_t proto; /* 0: all but TCP, UDP and SCTP */
	struct answer answers[DIFF_VERSIONS];
};

struct diff_whys {
	struct diff_why items[DIFF_WHYS_MAX];
	size_t count;
};

/* Explains a change on its ports.  If they are decided by different rules, the first few are told.
 * The caller ends the result with diff_whys_done(). */
struct diff_whys diff_whys_of(const struct policy_diff *diff, const struct diff_change *change,
			      uint32_t ports, const struct cli_store *const *stores);
void diff_whys_done(struct diff_whys *whys);

#endif
