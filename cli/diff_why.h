/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the rules that decide the connections of a change, before and after it. */
#ifndef TENDRIL_CLI_DIFF_WHY_H
#define TENDRIL_CLI_DIFF_WHY_H

#include "cli/explain_query.h"
#include "policy/analysis/diff.h"

enum { DIFF_BEFORE, DIFF_AFTER, DIFF_VERSIONS };

#define DIFF_WHYS_MAX 4

/* One example of all connections that the same rules decide. */
struct diff_why {
	uint8_t proto; /* 0: all but TCP, UDP and SCTP */
	struct answer answers[DIFF_VERSIONS];
};

struct diff_whys {
	struct diff_why items[DIFF_WHYS_MAX];
	size_t count;
};

/* Explains a change on its ports.  If different rules decide about them, the first few are
 * explained.  The caller frees the result with diff_whys_done(). */
struct diff_whys diff_whys_of(const struct policy_diff *diff, const struct diff_change *change,
			      uint32_t ports, const struct cli_store *const *stores);
void diff_whys_done(struct diff_whys *whys);

#endif
