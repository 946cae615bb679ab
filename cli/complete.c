/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril complete WORD...: what may stand in the place of the last word, one a line; ":file" means
 * the name of a file.  The shells call it, so that commands, options and names have one source.
 */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"

struct line {
	char *words[2]; /* of the command */
	size_t word_count;
	size_t operand_count;             /* after the command, before the last word */
	const struct option_spec *option; /* whose value the last word is */
	char *first_operand;
	const char *last;
	struct arguments args; /* as far as the agent needs them */
};

static void offer(const struct line *line, const char *text)
{
	if (strncmp(text, line->last, strlen(line->last)) == 0)
		puts(output_shown(text));
}

/* "a|b" */
static void offer_words(const struct line *line, const char *words)
{
	char word[64];

	while (words && *words) {
		size_t len = strcspn(words, "|");

		snprintf(word, sizeof(word), "%.*s", (int)len, words);
		offer(line, word);
		words += len + (words[len] == '|');
	}
}

/* Names of what the agent has; nothing without an agent. */
static void offer_names(const struct line *line, const char *path)
{
	cJSON *rows = NULL;
	const cJSON *row;
	struct errmsg ignored;
	char name[600];

	if (agent_call(&line->args, "GET", path, NULL, &rows, &ignored))
		return;
	cJSON_ArrayForEach (row, rows) {
		snprintf(name, sizeof(name), "%s/%s", member_text(row, "namespace", ""),
			 member_text(row, "name", ""));
		offer(line, name);
	}
	cJSON_Delete(rows);
}

static void offer_namespaces(const struct line *line)
{
	cJSON *rows = NULL, *seen = cJSON_CreateObject();
	const cJSON *row;
	struct errmsg ignored;

	agent_call(&line->args, "GET", "/v1/objects", NULL, &rows, &ignored);
	cJSON_ArrayForEach (row, rows) {
		const char *name = member_text(row, "namespace", "");

		if (strcmp(member_text(row, "kind", ""), "Namespace") == 0)
			name = member_text(row, "name", "");
		if (!*name || member_get(seen, name))
			continue;
		cJSON_AddTrueToObject(seen, name);
		offer(line, name);
	}
	cJSON_Delete(seen);
	cJSON_Delete(rows);
}

static void offer_value(const struct line *line, const struct command *command)
{
	const struct option_spec *option = line->option;

	switch (option->value) {
	case VALUE_FREE:
		if (option->bit == OPT_OUTPUT)
			offer_words(line, command ? command->outputs : "text|json");
		break;
	case VALUE_WORDS:
		offer_words(line, option->words);
		break;
	case VALUE_FILE:
		puts(":file");
		break;
	case VALUE_POD:
		offer_names(line, "/v1/endpoints");
		break;
	case VALUE_PEER:
		offer_names(line, "/v1/endpoints");
		offer_names(line, "/v1/services");
		break;
	case VALUE_NAMESPACE:
		offer_namespaces(line);
		break;
	}
}

static void offer_options(const struct line *line, uint64_t bits)
{
	const struct option_spec *option;
	char text[64];

	for (size_t i = 0; (option = option_at(i)); i++) {
		snprintf(text, sizeof(text), "--%s", option->name);
		if (option->bit & bits)
			offer(line, text);
	}
}

/* First words, or the second words of a group. */
static void offer_commands(const struct line *line, const char *group)
{
	size_t len = group ? strlen(group) + 1 : 0;
	const struct command *command;
	char word[64], last[64] = "";

	for (size_t i = 0; (command = command_at(i)); i++) {
		if (group &&
		    (strncmp(command->name, group, len - 1) != 0 || command->name[len - 1] != ' '))
			continue;
		snprintf(word, sizeof(word), "%.*s", (int)strcspn(command->name + len, " "),
			 command->name + len);
		if (strcmp(word, last) != 0)
			offer(line, word);
		snprintf(last, sizeof(last), "%s", word);
	}
}

static void offer_operand(const struct line *line, const struct command *command)
{
	if (line->operand_count >= command->max_operands)
		return;
	switch (command->operand) {
	case OPERAND_NONE:
		break;
	case OPERAND_POD:
		offer_names(line, "/v1/endpoints");
		break;
	case OPERAND_PEER:
		offer_names(line, "/v1/endpoints");
		if (line->operand_count)
			offer_names(line, "/v1/services");
		break;
	case OPERAND_NODE:
		offer_names(line, "/v1/nodes");
		break;
	case OPERAND_SERVICE:
		offer_names(line, "/v1/services");
		break;
	case OPERAND_POLICY:
		offer_names(line, "/v1/policies");
		break;
	case OPERAND_KIND:
		if (line->operand_count == 0)
			offer_words(line, "pods|services|policies|nodes|namespaces|endpointslices");
		break;
	case OPERAND_FILE:
		puts(":file");
		break;
	case OPERAND_COMMAND:
		if (line->operand_count == 0)
			offer_commands(line, NULL);
		else if (command_is_group(line->first_operand))
			offer_commands(line, line->first_operand);
		break;
	}
}

/* The option that a word is: "--port", "-n"; NULL: it is none. */
static const struct option_spec *option_of(const char *word)
{
	const struct option_spec *option;

	for (size_t i = 0; (option = option_at(i)); i++) {
		if ((strncmp(word, "--", 2) == 0 && strcmp(word + 2, option->name) == 0) ||
		    (word[0] == '-' && word[1] == option->letter && word[1] && !word[2]))
			return option;
	}
	return NULL;
}

/* Takes the words before the last one. */
static const struct command *line_read(struct line *line, char **words, size_t count)
{
	const struct command *command = NULL;
	size_t used;

	for (size_t i = 0; i < count; i++) {
		line->option = option_of(words[i]);
		if (line->option && line->option->placeholder &&
		    line->option->type != OPTION_MAYBE) {
			if (line->option->bit == OPT_SOCKET && i + 1 < count)
				line->args.socket = words[i + 1];
			i++; /* its value */
			if (i < count)
				line->option = NULL;
			continue;
		}
		line->option = NULL;
		if (words[i][0] == '-')
			continue;
		if (!command && line->word_count < 2) {
			line->words[line->word_count++] = words[i];
			command = command_find(line->words, line->word_count, &used);
		} else if (line->operand_count++ == 0) {
			line->first_operand = words[i];
		}
	}
	return command;
}

int cmd_complete(const struct arguments *args, struct errmsg *err)
{
	struct line line = { .last = "", .args = { .socket = args->socket } };
	const struct command *command;

	(void)err;
	if (args->operand_count == 0)
		return EXIT_OK;
	line.last = args->operands[args->operand_count - 1];
	command = line_read(&line, args->operands, args->operand_count - 1);
	if (line.option)
		offer_value(&line, command);
	else if (line.last[0] == '-' && line.last[1])
		offer_options(&line, OPT_COMMON | (command ? command->options : OPT_VERSION));
	else if (command)
		offer_operand(&line, command);
	else
		offer_commands(&line, line.word_count ? line.words[0] : NULL);
	return EXIT_OK;
}
