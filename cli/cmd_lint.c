/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy lint: what is probably a mistake, each with its line and how to silence it. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/files.h"
#include "cli/output.h"
#include "cli/store_load.h"
#include "lib/alloc.h"
#include "policy/analysis/lint.h"

/* Locations of a finding: its own, and that of the other object. */
enum { LOCATION_OWN, LOCATION_OTHER, LOCATION_COUNT };

static void object_title(const struct object *object, char *buf, size_t size)
{
	snprintf(buf, size, "%s %s%s%s", object_kind_name(object->kind), object->namespace,
		 *object->namespace ? "/" : "", object->name);
}

/* "FILE:LINE:COLUMN", as far as it is known. */
static void location_text(const struct source_location *location, char *buf, size_t size)
{
	if (location->line)
		snprintf(buf, size, "%s:%zu:%zu", location->file, location->line, location->column);
	else
		snprintf(buf, size, "%s", location->file);
}

static void print_finding(const struct lint_finding *finding,
			  const struct source_location *locations)
{
	char where[SOURCE_MAX], title[600];

	location_text(&locations[LOCATION_OWN], where, sizeof(where));
	object_title(finding->object, title, sizeof(title));
	printf("%s: %s: %s%s%s%s%s: %s", output_shown(where), title, finding->path,
	       *finding->path ? ": " : "", output_colour(COLOUR_WARN),
	       lint_check_name(finding->check), output_colour_end(),
	       output_shown(finding->message));
	if (finding->other) {
		location_text(&locations[LOCATION_OTHER], where, sizeof(where));
		printf(" (%s)", output_shown(where));
	}
	printf("\n    %s\n    %sIf it is meant: annotate the object with %s: %s%s\n",
	       lint_check_explains(finding->check), output_colour(COLOUR_FAINT), LINT_ANNOTATION,
	       lint_check_name(finding->check), output_colour_end());
}

static void location_add_json(const struct source_location *location, cJSON *json)
{
	cJSON_AddStringToObject(json, "kind", object_kind_name(location->object->kind));
	cJSON_AddStringToObject(json, "namespace", location->object->namespace);
	cJSON_AddStringToObject(json, "name", location->object->name);
	cJSON_AddStringToObject(json, "path", location->path);
	cJSON_AddStringToObject(json, "file", location->file);
	if (location->line) {
		cJSON_AddNumberToObject(json, "line", (double)location->line);
		cJSON_AddNumberToObject(json, "column", (double)location->column);
	}
}

static cJSON *finding_json(const struct lint_finding *finding,
			   const struct source_location *locations)
{
	cJSON *json = cJSON_CreateObject();
	char silence[128];

	snprintf(silence, sizeof(silence), "%s: %s", LINT_ANNOTATION,
		 lint_check_name(finding->check));
	cJSON_AddStringToObject(json, "check", lint_check_name(finding->check));
	cJSON_AddStringToObject(json, "message", finding->message);
	cJSON_AddStringToObject(json, "explanation", lint_check_explains(finding->check));
	cJSON_AddStringToObject(json, "silence", silence);
	location_add_json(&locations[LOCATION_OWN], json);
	if (finding->other)
		location_add_json(&locations[LOCATION_OTHER],
				  cJSON_AddObjectToObject(json, "other"));
	return json;
}

static void findings_print(const struct lint_findings *findings,
			   const struct source_location *locations)
{
	for (size_t i = 0; i < findings->count; i++)
		print_finding(&findings->items[i], &locations[LOCATION_COUNT * i]);
	printf("%zu finding%s", findings->count, findings->count == 1 ? "" : "s");
	if (findings->silenced)
		printf(", %zu silenced", findings->silenced);
	putchar('\n');
}

static int findings_report(const struct arguments *args, const struct cli_store *store,
			   const struct lint_findings *findings)
{
	auto_free struct source_location *locations =
		xcalloc(LOCATION_COUNT * findings->count + 1, sizeof(*locations));
	cJSON *array;

	for (size_t i = 0; i < findings->count; i++) {
		const struct lint_finding *finding = &findings->items[i];
		struct source_location *own = &locations[LOCATION_COUNT * i + LOCATION_OWN];

		own[LOCATION_OWN].object = finding->object;
		own[LOCATION_OWN].path = finding->path;
		/* Without another object this is the first one again, and is not shown. */
		own[LOCATION_OTHER].object = finding->other ? finding->other : finding->object;
		own[LOCATION_OTHER].path = finding->other ? finding->other_path : "";
	}
	cli_store_locate(store, locations, LOCATION_COUNT * findings->count);
	if (!args->json) {
		findings_print(findings, locations);
		return findings->count ? EXIT_FAILED : EXIT_OK;
	}
	array = cJSON_CreateArray();
	for (size_t i = 0; i < findings->count; i++)
		cJSON_AddItemToArray(
			array, finding_json(&findings->items[i], &locations[LOCATION_COUNT * i]));
	output_json(array);
	cJSON_Delete(array);
	return findings->count ? EXIT_FAILED : EXIT_OK;
}

static bool has_policies(const struct store *store)
{
	return store_count(store, OBJECT_NETWORK_POLICY) +
	       store_count(store, OBJECT_CLUSTER_POLICY);
}

int cmd_policy_lint(const struct arguments *args, struct errmsg *err)
{
	auto_(cli_store) struct cli_store *store = NULL;
	struct arguments files;
	struct lint_findings findings = { 0 };
	int ret = files_join(args, &files, err);

	if (ret)
		return ret;
	ret = store_load(&files, &store, err);
	if (!ret && files.file_count && !has_policies(store->objects))
		output_note("policy lint: there are no policies in the files");
	if (!ret) {
		findings = policy_lint(store->objects);
		ret = findings_report(args, store, &findings);
	}
	lint_findings_done(&findings);
	return ret;
}
