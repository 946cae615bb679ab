/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy explain: which rule of which object decides, in both directions. */
#include <cjson/cJSON.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/output_explain.h"

int cmd_policy_explain(const struct arguments *args, struct errmsg *err)
{
	auto_(cli_input) struct cli_input *store = NULL;
	struct cli_answers answers = { 0 };
	int ret = cli_input_load(args, &store, err);

	if (!ret)
		ret = cli_query_ask(store, args->from, args->to, args->port, &answers, err);
	if (ret)
		return ret;
	if (args->json) {
		cJSON *json = answers_json(&answers);

		output_json(json);
		cJSON_Delete(json);
	} else {
		answers_print(&answers);
	}
	cli_answers_done(&answers);
	return EXIT_OK;
}
