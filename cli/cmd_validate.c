/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy validate: all problems of all files at once, in the order of their lines. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli_store.h"
#include "cli/command.h"
#include "cli/files.h"
#include "cli/output.h"
#include "lib/alloc.h"
#include "lib/auto.h"

static cJSON *problem_json(const char *file, const struct problem *problem)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "file", file);
	if (problem->line) {
		cJSON_AddNumberToObject(json, "line", (double)problem->line);
		cJSON_AddNumberToObject(json, "column", (double)problem->column);
	}
	cJSON_AddStringToObject(json, "level", problem->warning ? "warning" : "error");
	cJSON_AddStringToObject(json, "object", problem->object ? problem->object : "");
	cJSON_AddStringToObject(json, "path", problem->path ? problem->path : "");
	cJSON_AddStringToObject(json, "message", problem->message ? problem->message : "");
	return json;
}

struct validation {
	const struct arguments *args;
	struct cli_store *store;
	cJSON *problems; /* all of them, for -o json */
	size_t errors;
};

/* By line and column; problems without a line come last. */
static int problem_compare(const void *a, const void *b)
{
	const struct problem *left = a;
	const struct problem *right = b;

	if ((left->line == 0) != (right->line == 0))
		return left->line == 0 ? 1 : -1;
	if (left->line != right->line)
		return left->line < right->line ? -1 : 1;
	return (left->column > right->column) - (left->column < right->column);
}

static void print_problem(const char *file, const struct problem *problem)
{
	char text[1024];

	printf("%s%s%s\n", output_colour(problem->warning ? COLOUR_WARN : COLOUR_BAD),
	       problem_format(problem, file, text, sizeof(text)), output_colour_end());
}

static void validation_report(struct validation *validation, const char *file,
			      const struct problems *problems, size_t objects)
{
	size_t shown = 0;

	for (size_t i = 0; i < problems->count; i++) {
		shown += !problems->items[i].warning;
		cJSON_AddItemToArray(validation->problems, problem_json(file, &problems->items[i]));
		if (!validation->args->json)
			print_problem(file, &problems->items[i]);
	}
	if (validation->args->json)
		return;
	if (problems->errors == 0)
		printf("%s: %sok%s, %zu object%s", output_shown(file), output_colour(COLOUR_GOOD),
		       output_colour_end(), objects, objects == 1 ? "" : "s");
	if (problems->errors == 0 && problems->skipped)
		printf(", %zu of other kinds skipped", problems->skipped);
	if (problems->errors == 0)
		putchar('\n');
	else if (problems->errors > shown)
		printf("%s: %zu more error%s\n", output_shown(file), problems->errors - shown,
		       problems->errors - shown == 1 ? "" : "s");
}

/* A file that cannot be read is a problem like others, and the other files are still checked.  Its
 * name is taken from the message, because it is printed in front of it. */
static void unreadable_report(struct validation *validation, const char *file,
			      const struct errmsg *why)
{
	const char *name = file_title(file), *text = why->text;
	size_t len = strlen(name);
	struct problems problems = { .errors = 1, .items = xcalloc(1, sizeof(struct problem)) };

	if (strncmp(text, name, len) == 0 && strncmp(text + len, ": ", 2) == 0)
		text += len + 2;
	problems.items[problems.count++] = (struct problem){ .object = xstrdup(""),
							     .path = xstrdup(""),
							     .message = xstrdup(text) };
	validation_report(validation, name, &problems, 0);
	validation->errors++;
	problems_done(&problems);
}

/* Its problems are the answer, not errors of the command. */
static int validate_file(const char *file, void *arg, struct errmsg *why)
{
	struct validation *validation = arg;
	struct problems problems = { 0 };
	size_t count = 0;
	int ret = cli_store_read(validation->store, file,
				 validation->args->lenient ? PARSE_LENIENT : 0, &count, &problems,
				 why);

	if (ret) {
		unreadable_report(validation, file, why);
		problems_done(&problems);
		return 0;
	}
	if (problems.count)
		qsort(problems.items, problems.count, sizeof(*problems.items), problem_compare);
	validation_report(validation, file_title(file), &problems, count);
	validation->errors += problems.errors;
	problems_done(&problems);
	return 0;
}

static void validate_path(struct validation *validation, const char *path)
{
	struct errmsg why = { 0 };

	/* There is nothing of that name, or nothing in it. */
	if (files_each(path, validate_file, validation, &why))
		unreadable_report(validation, path, &why);
}

int cmd_policy_validate(const struct arguments *args, struct errmsg *err)
{
	auto_(cli_store) struct cli_store *store = cli_store_new();
	struct validation validation = { .args = args, .store = store };

	store->verbose = args->verbose;
	if (args->operand_count + args->file_count == 0)
		return misused(err, "give FILE... or -f FILE|DIR");
	validation.problems = cJSON_CreateArray();
	for (size_t i = 0; i < args->operand_count; i++)
		validate_path(&validation, args->operands[i]);
	for (size_t i = 0; i < args->file_count; i++)
		validate_path(&validation, args->files[i]);
	if (args->json)
		output_json(validation.problems);
	cJSON_Delete(validation.problems);
	return validation.errors ? EXIT_FAILED : EXIT_OK;
}
