/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy matrix: the table of who reaches whom, as text, JSON and pictures. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/argument.h"
#include "cli/files.h"
#include "cli/matrix_page.h"
#include "cli/matrix_svg.h"
#include "cli/output_matrix.h"
#include "cli/store_load.h"
#include "lib/alloc.h"

#define PORTS_MAX 64
#define KEYS_MAX  8

static inline void auto_matrix_fn(struct matrix **matrix)
{
	matrix_free(*matrix);
}

/* ---- the question ---- */

struct words { /* the parts of a list with commas; ends in NULL */
	char *copy;
	const char *items[PORTS_MAX];
	size_t count;
};

static int words_split(const char *text, size_t max, struct words *words, struct errmsg *err)
{
	char *rest;

	words->copy = rest = xstrdup(text);
	while (rest) {
		if (words->count == max)
			return misused(err, "%s: more than %zu", text, max);
		words->items[words->count++] = strsep(&rest, ",");
	}
	return 0;
}

static int ports_parse(const char *text, struct words *words, struct matrix_port *ports,
		       struct errmsg *err)
{
	int ret = words_split(text, PORTS_MAX, words, err);

	for (size_t i = 0; i < words->count && !ret; i++) {
		if (strcmp(words->items[i], "all") == 0)
			ports[i] = (struct matrix_port){ 0 };
		else
			ret = port_argument_parse(words->items[i], &ports[i].port, &ports[i].proto,
						  err);
	}
	return ret;
}

static int by_parse(const char *text, struct words *words, struct matrix_query *query,
		    struct errmsg *err)
{
	static const char labels[] = "labels=";

	query->by = MATRIX_BY_POD;
	if (!text || strcmp(text, "pod") == 0)
		return 0;
	query->by = MATRIX_BY_NAMESPACE;
	if (strcmp(text, "namespace") == 0)
		return 0;
	query->by = MATRIX_BY_LABELS;
	if (strncmp(text, labels, strlen(labels)) != 0 || !text[strlen(labels)])
		return misused(err, "--by %s: must be pod, namespace, or labels=KEY[,KEY]", text);
	query->keys = words->items;
	if (words_split(text + strlen(labels), KEYS_MAX, words, err))
		return err->code;
	query->key_count = words->count;
	for (size_t i = 0; i < words->count; i++) {
		if (!*words->items[i])
			return misused(err, "--by %s: a key is empty", text);
	}
	return 0;
}

/* ---- the answer ---- */

/* "pods.yaml, policies/", or the agent's socket. */
static void inputs_text(const struct arguments *args, struct buffer *text)
{
	for (size_t i = 0; i < args->file_count; i++)
		buffer_print(text, "%s%s", i ? ", " : "", file_title(args->files[i]));
	if (args->file_count == 0)
		buffer_print(text, "the agent on %s", args->socket);
}

static int page_write(const struct arguments *args, const struct cli_store *store,
		      const struct matrix *matrix, struct errmsg *err)
{
	auto_buffer struct buffer text = { 0 }, inputs = { 0 };
	struct matrix_page page = { .matrix = matrix, .store = store };
	time_t now = time(NULL);
	char date[32];

	strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", gmtime(&now));
	inputs_text(args, &inputs);
	page.date = date;
	page.inputs = inputs.data;
	matrix_page_add(&page, &text);
	return file_write_text(args->html, text.data, text.len, err);
}

static int svg_write(const struct arguments *args, const struct matrix *matrix, struct errmsg *err)
{
	auto_buffer struct buffer text = { 0 };

	matrix_svg(matrix, &text);
	return file_write_text(args->svg, text.data, text.len, err);
}

static bool is_stdout(const char *file)
{
	return file && strcmp(file, "-") == 0;
}

static int pictures_check(const struct arguments *args, struct errmsg *err)
{
	if (is_stdout(args->html) + is_stdout(args->svg) + args->json > 1)
		return misused(
			err,
			"only one of --html, --svg and -o json can be written to standard output");
	return 0;
}

static int answer(const struct arguments *args, const struct cli_store *store,
		  const struct matrix *matrix, struct errmsg *err)
{
	int ret = args->html ? page_write(args, store, matrix, err) : 0;

	if (!ret && args->svg)
		ret = svg_write(args, matrix, err);
	if (ret)
		return ret;
	if (args->json)
		matrix_json_print(matrix);
	else if (is_stdout(args->html) || is_stdout(args->svg))
		return EXIT_OK;
	else if (args->html || args->svg)
		printf("%zu pods in %zu groups\n", matrix->pod_count, matrix->group_count);
	else
		matrix_print(matrix);
	return EXIT_OK;
}

int cmd_policy_matrix(const struct arguments *line, struct errmsg *err)
{
	struct arguments joined;
	const struct arguments *args = &joined;
	auto_(cli_store) struct cli_store *store = NULL;
	auto_(matrix) struct matrix *matrix = NULL;
	struct matrix_port ports[PORTS_MAX];
	struct matrix_query query = { .ports = ports };
	struct words port_words = { 0 }, key_words = { 0 };
	int ret = files_join(line, &joined, err);

	if (!ret)
		ret = pictures_check(args, err);
	if (!ret)
		ret = by_parse(args->by, &key_words, &query, err);
	if (!ret && args->port)
		ret = ports_parse(args->port, &port_words, ports, err);
	query.port_count = port_words.count;
	if (!ret)
		ret = store_load(args, &store, err);
	if (!ret && store_count(store->objects, OBJECT_POD) == 0)
		ret = fail_plain(err, -ENOENT,
				 args->file_count ? "there are no pods in the files"
						  : "the agent has no pods");
	if (!ret)
		ret = matrix_new(store->objects, &query, &matrix, err);
	if (!ret)
		ret = answer(args, store, matrix, err);
	free(port_words.copy);
	free(key_words.copy);
	return ret;
}
