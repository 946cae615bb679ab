/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to questions about connections, as text and as JSON. */
#ifndef TENDRIL_CLI_OUTPUT_EXPLAIN_H
#define TENDRIL_CLI_OUTPUT_EXPLAIN_H

#include "cli/explain_query.h"
#include "lib/arena.h"

struct cJSON;

const char *verdict_name(enum verdict verdict); /* "allow", "deny" */

void answers_print(const struct answers *answers);
struct cJSON *answers_json(const struct answers *answers);
struct cJSON *answer_json(const struct cli_store *store, const char *proto,
			  const struct answer *answer);

/* Appends what decides, without colours, one line for each side: "egress allow: no policy selects
 * this pod in this direction".  Without a store, files and lines are left out. */
void explanation_text(const struct cli_store *store, const struct explanation *explanation,
		      struct buffer *text);
/* One of these lines: that of one direction. */
void explanation_side_text(const struct cli_store *store, const struct explanation *explanation,
			   enum direction direction, struct buffer *text);

/* The same for the deciding answer, or the reason why a service refuses. */
void answers_text(const struct answers *answers, struct buffer *text);

#endif
