/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy explain: which rule of which object decides, in both directions. */
#include <cjson/cJSON.h>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/output_explain.h"
#include "cli/store_load.h"

int cmd_policy_explain(const struct arguments *args, struct errmsg *err)
{
	auto_(cli_store) struct cli_store *store = NULL;
	struct answers answers = { 0 };
	struct question question = { args->from, args->to, args->port, args->namespace, 0 };
	int ret;

	if (args->operand_count)
		question.from = args->operands[0];
	if (args->operand_count > 1)
		question.to = args->operands[1];
	if (args->operand_count && (args->from || (args->operand_count > 1 && args->to)))
		return misused(err, "give the ends either as FROM TO or with --from and --to");
	if (!question.from || !question.to)
		return misused(err, "give FROM TO, or --from and --to");
	ret = store_load(args, &store, err);
	if (!ret)
		ret = explain_query(store, &question, &answers, err);
	if (ret)
		return ret;
	if (args->json) {
		cJSON *json = answers_json(&answers);

		output_json(json);
		cJSON_Delete(json);
	} else {
		answers_print(&answers);
	}
	answers_done(&answers);
	return EXIT_OK;
}
