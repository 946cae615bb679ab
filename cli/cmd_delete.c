/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy delete: one policy, or every object that files hold. */
#include <cjson/cJSON.h>
#include <stdio.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/store_load.h"
#include "lib/auto.h"

static int delete_one(const struct arguments *args, const char *kind, const char *namespace,
		      const char *name, struct errmsg *err)
{
	char path[1024];
	int ret;

	snprintf(path, sizeof(path), "/v1/objects/%s/%s/%s", kind, *namespace ? namespace : "-",
		 name);
	ret = agent_call(args, "DELETE", path, NULL, NULL, err);
	if (ret)
		return ret;
	if (!args->json)
		printf("deleted %s %s%s%s\n", kind, output_shown(namespace), *namespace ? "/" : "",
		       output_shown(name));
	return 0;
}

int cmd_policy_delete(const struct arguments *args, struct errmsg *err)
{
	auto_(cli_store) struct cli_store *store = NULL;
	struct arguments joined;
	struct object_name name;
	enum object_kind policy_kind;
	int ret;

	if ((args->operand_count == 0) == (args->file_count == 0))
		return misused(err, "give either NAMESPACE/NAME, /NAME, or FILE or -f FILE|DIR");
	if (args->operand_count && file_name_is_objects(args->operands[0])) {
		ret = files_join(args, &joined, err);
		args = &joined;
		if (ret)
			return ret;
	}
	if (args->operand_count) {
		ret = policy_name_parse(args->operands[0], args->namespace, &name, &policy_kind,
					err);
		return ret ? ret
			   : delete_one(args, object_kind_name(policy_kind), name.namespace,
					name.name, err);
	}
	ret = store_load(args, &store, err);
	for (int kind = 0; !ret && kind < OBJECT_KIND_COUNT; kind++) {
		const struct store *objects = store->objects;

		for (const struct object *object = store_first(objects, (enum object_kind)kind);
		     object && !ret; object = store_next(objects, object))
			ret = delete_one(args, object_kind_name(object->kind), object->namespace,
					 object->name, err);
	}
	return ret;
}
