/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy diff: which connections a change newly allows or denies, before it is applied. */
#include <cjson/cJSON.h>
#include <errno.h>

#include "cli/cli_store.h"
#include "cli/command.h"
#include "cli/diff_why.h"
#include "cli/output.h"
#include "cli/output_diff.h"

DEFINE_AUTO(policy_diff)

/* One version: the files of -f, which both have, then its own, which count; path NULL: none. */
static int version_load(const struct arguments *args, const char *path,
			struct cli_store **ret_store, struct errmsg *err)
{
	auto_(cli_store) struct cli_store *store = cli_store_new();
	int ret = 0;

	store->verbose = args->verbose;
	store->merges = true;
	for (size_t i = 0; i < args->file_count && !ret; i++)
		ret = cli_store_add(store, args->files[i], err);
	if (!ret && path)
		ret = cli_store_add(store, path, err);
	if (!ret)
		*ret_store = take_ptr(store);
	return ret;
}

int cmd_policy_diff(const struct arguments *args, struct errmsg *err)
{
	auto_(cli_store) struct cli_store *before = NULL;
	auto_(cli_store) struct cli_store *after = NULL;
	auto_(policy_diff) struct policy_diff *diff = NULL;
	const struct cli_store *stores[DIFF_VERSIONS];
	bool both = args->operand_count == 2;
	int ret;

	if (!both && args->file_count == 0)
		return misused(err, "with nothing to compare with: give OLD and NEW, or -f or "
				    "--kubeconfig for what there is");
	ret = version_load(args, both ? args->operands[0] : NULL, &before, err);
	if (!ret)
		ret = version_load(args, args->operands[both], &after, err);
	if (!ret)
		ret = cli_store_fill(before, after, err);
	if (!ret)
		ret = cli_store_fill(after, before, err);
	if (ret)
		return ret;
	stores[DIFF_BEFORE] = before;
	stores[DIFF_AFTER] = after;
	if (store_count(after->objects, OBJECT_POD) == 0)
		return fail_plain(err, -ENOENT,
				  "there are no pods to compare; give an inventory with -f, as "
				  "kubectl get pods,namespaces -A -o yaml prints it");
	diff = policy_diff(before->objects, after->objects);
	if (args->json) {
		cJSON *json = diff_json(diff, stores);

		output_json(json);
		cJSON_Delete(json);
	} else {
		diff_print(diff, stores);
	}
	return diff->change_count ? EXIT_FAILED : EXIT_OK;
}
