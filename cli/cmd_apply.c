/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy apply: files of objects, checked here before the agent sees them. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/canary.h"
#include "cli/cli_store.h"
#include "cli/files.h"
#include "cli/output.h"
#include "lib/auto.h"

/* Prints the problems of a file on standard error, and refuses it if there are errors. */
static int read_checked(const char *file, struct cli_store *store, struct errmsg *err)
{
	struct problems problems = { 0 };
	size_t count;
	int ret = cli_store_read(store, file, 0, &count, &problems, err);

	for (size_t i = 0; !ret && i < problems.count; i++) {
		char text[1024];

		output_note("policy apply: %s", problem_format(&problems.items[i], file_title(file),
							       text, sizeof(text)));
	}
	if (!ret && problems.errors)
		ret = fail_plain(err, -EINVAL, "%s: not applied, nothing was changed",
				 file_title(file));
	problems_done(&problems);
	return ret;
}

struct application {
	struct cli_store *store; /* what was read so far: finds what contradicts itself */
	cJSON *items;
};

static int apply_collect(const char *file, void *arg, struct errmsg *err)
{
	struct application *application = arg;
	int ret = read_checked(file, application->store, err);

	if (!ret)
		cli_store_documents(application->store, file, application->items);
	return ret;
}

static int documents_put(const struct arguments *args, const cJSON *documents, cJSON **ret_answer,
			 struct errmsg *err)
{
	cJSON *list = cJSON_CreateObject();
	auto_free char *body = NULL;

	cJSON_AddStringToObject(list, "apiVersion", "v1");
	cJSON_AddStringToObject(list, "kind", "List");
	cJSON_AddItemReferenceToObject(list, "items", (cJSON *)documents);
	body = cJSON_PrintUnformatted(list);
	cJSON_Delete(list);
	return agent_call(args, "PUT", "/v1/objects", body, ret_answer, err);
}

/* "NetworkPolicy shop/cart" */
static void document_title(const cJSON *document, char *buf, size_t size)
{
	const cJSON *metadata = member_get(document, "metadata");
	const char *namespace = member_text(metadata, "namespace", "default");
	const char *kind = member_text(document, "kind", "");
	enum object_kind known;
	bool cluster = object_kind_parse(kind, &known) == 0 &&
		       (known == OBJECT_NAMESPACE || known == OBJECT_NODE ||
			known == OBJECT_CLUSTER_POLICY);

	snprintf(buf, size, "%s %s%s%s", kind, cluster ? "" : namespace, cluster ? "" : "/",
		 member_text(metadata, "name", ""));
}

static void names_print(const cJSON *documents)
{
	const cJSON *document;
	char title[600];

	cJSON_ArrayForEach (document, documents) {
		document_title(document, title, sizeof(title));
		printf("%s\n", output_shown(title));
	}
}

static cJSON *names_json(const cJSON *documents)
{
	cJSON *names = cJSON_CreateArray();
	const cJSON *document;
	char title[600];

	cJSON_ArrayForEach (document, documents) {
		document_title(document, title, sizeof(title));
		cJSON_AddItemToArray(names, cJSON_CreateString(title));
	}
	return names;
}

static int documents_apply(const struct arguments *args, const cJSON *documents, struct errmsg *err)
{
	cJSON *answer = NULL;
	int ret = documents_put(args, documents, &answer, err);
	double applied;

	if (ret)
		return ret;
	applied = member_number(answer, "applied");
	if (args->json) {
		cJSON_AddItemToObject(answer, "objects", names_json(documents));
		output_json(answer);
	} else {
		names_print(documents);
		printf("applied %.0f object%s\n", applied, applied == 1 ? "" : "s");
	}
	cJSON_Delete(answer);
	return EXIT_OK;
}

/* --dry-run and --canary: which flows would be cut off.  Applies only with --then-apply, and if
 * there are none. */
static int documents_try(const struct arguments *args, const cJSON *documents, uint32_t seconds,
			 struct errmsg *err)
{
	cJSON *report = cJSON_CreateObject(), *answer = NULL;
	bool applied = false;
	size_t cut = 0;
	int ret = canary_run(args, documents, seconds, report, &cut, err);

	if (!ret && args->then_apply && !cut) {
		ret = documents_put(args, documents, &answer, err);
		applied = !ret;
		cJSON_Delete(answer);
	}
	cJSON_AddBoolToObject(report, "applied", applied);
	if (!ret && args->json)
		output_json(report);
	else if (!ret)
		puts(applied ? "applied" : "not applied");
	cJSON_Delete(report);
	if (ret)
		return ret;
	return cut ? EXIT_FAILED : EXIT_OK;
}

/* Options that contradict each other, before any file is read. */
static int apply_check(const struct arguments *args, uint32_t *ret_seconds, struct errmsg *err)
{
	if (args->dry_run && args->canary)
		return misused(err, "give either --dry-run or --canary");
	if (args->then_apply && !args->canary)
		return misused(err, "--then-apply goes with --canary");
	*ret_seconds = CANARY_LOOK_SECONDS;
	return args->canary ? duration_parse(args->canary, ret_seconds, err) : 0;
}

int cmd_policy_apply(const struct arguments *line, struct errmsg *err)
{
	struct arguments joined;
	const struct arguments *args = &joined;
	auto_(cli_store) struct cli_store *store = cli_store_new();
	struct application application = { .store = store, .items = cJSON_CreateArray() };
	bool canary = line->dry_run || line->canary;
	uint32_t seconds = 0;
	int ret = files_join(line, &joined, err);

	if (!ret && joined.file_count == 0)
		ret = misused(err, "give FILE... or -f FILE|DIR");
	if (!ret)
		ret = apply_check(args, &seconds, err);
	store->verbose = line->verbose;

	for (size_t i = 0; !ret && i < args->file_count; i++)
		ret = files_each(args->files[i], apply_collect, &application, err);
	if (!ret)
		ret = canary ? documents_try(args, application.items, seconds, err)
			     : documents_apply(args, application.items, err);
	cJSON_Delete(application.items);
	return ret;
}
