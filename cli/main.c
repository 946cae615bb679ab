/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril: views of the node agent, and policies: checked, explained, compared.  This file runs one
 * command; commands.c and options.c have the tables.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cli/cluster.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/options.h"
#include "cli/output.h"
#include "lib/auto.h"
#include "lib/json.h"

static size_t stdin_count(const struct arguments *args)
{
	size_t count = 0;

	for (size_t i = 0; i < args->file_count; i++)
		count += strcmp(args->files[i], "-") == 0;
	for (size_t i = 0; i < args->operand_count; i++)
		count += strcmp(args->operands[i], "-") == 0;
	return count;
}

static int options_check(const struct command *command, uint64_t given)
{
	uint64_t foreign = given & ~(command->options | OPT_COMMON | OPT_VERSION);
	uint64_t missing = command->required & ~given;
	const struct option_spec *spec;

	for (size_t i = 0; (spec = option_at(i)); i++) {
		if (foreign & spec->bit)
			output_note("tendril: %s takes no --%s", command->name, spec->name);
		else if (!foreign && missing & spec->bit)
			output_note("tendril: %s needs --%s", command->name, spec->name);
		else
			continue;
		return EXIT_USAGE;
	}
	return 0;
}

static int command_check(const struct command *command, const struct arguments *args,
			 uint64_t given)
{
	if (options_check(command, given))
		return EXIT_USAGE;
	if (!words_contain(command->outputs, args->output)) {
		output_note("tendril: --output %s: must be %s", args->output, command->outputs);
		return EXIT_USAGE;
	}
	if (args->namespace && args->all_namespaces) {
		output_note("tendril: give either --namespace or --all-namespaces");
		return EXIT_USAGE;
	}
	if (stdin_count(args) > 1) {
		output_note("tendril: standard input (-) can be read once");
		return EXIT_USAGE;
	}
	if (args->operand_count > CLI_FILES_MAX) {
		output_note("tendril: more than %d files", CLI_FILES_MAX);
		return EXIT_USAGE;
	}
	if (args->operand_count < command->min_operands ||
	    args->operand_count > command->max_operands) {
		help_usage(command);
		return EXIT_USAGE;
	}
	return 0;
}

/* Whether everything printed was written: a disk may be full. */
static bool output_is_out(void)
{
	return fflush(stdout) == 0 && !ferror(stdout);
}

static int help_status(int status)
{
	if (output_is_out())
		return status;
	output_note("tendril: standard output cannot be written");
	return EXIT_FAILED;
}

static int command_run(const struct command *command, const struct arguments *args)
{
	struct errmsg err = { 0 };
	int ret = command->run(args, &err);

	if (ret >= 0 && !output_is_out())
		ret = fail_plain(&err, -EIO, "standard output cannot be written");
	if (ret >= 0)
		return ret;
	output_note("%s: %s", command->name, err.text);
	if (ret == CLI_MISUSED)
		return EXIT_USAGE;
	return command->one_is_answer || args->dry_run || args->canary ? EXIT_UNABLE : EXIT_FAILED;
}

/* Opens the standard descriptors that are closed, so that no file or socket gets their number.
 * Reading and writing them still fails. */
static void stdio_hold(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
	}
}

/* Words that name no command: a group alone, or a mistake. */
static int no_command(const struct arguments *args)
{
	size_t count = args->operand_count;

	if (count == 0) {
		output_note("tendril: no command given; see tendril --help");
		return EXIT_USAGE;
	}
	if (!command_is_group(args->operands[0]))
		return command_unknown(args->operands, count);
	if (count == 1) {
		help_group(stderr, args->operands[0]);
		return EXIT_USAGE;
	}
	if (strcmp(args->operands[1], "help") != 0)
		return command_unknown(args->operands, count);
	help_group(stdout, args->operands[0]);
	return help_status(EXIT_OK);
}

int main(int argc, char **argv)
{
	struct arguments args = { .socket = getenv("TENDRIL_SOCKET"), .output = "text" };
	const struct command *command;
	char cluster[4096];
	uint64_t given = 0;
	size_t words = 0;
	int ret;

	json_init();
	stdio_hold();
	if (!args.socket || !*args.socket)
		args.socket = CLI_SOCKET_DEFAULT;
	/* An incomplete line cannot be parsed as options. */
	if (argc > 1 && strcmp(argv[1], "complete") == 0) {
		args.operands = argv + 2;
		args.operand_count = (size_t)(argc - 2);
		return cmd_complete(&args, &(struct errmsg){ 0 });
	}
	ret = options_parse(argc, argv, &args, &given);
	if (ret)
		return ret;
	if (args.version)
		return help_status(cmd_version(&args, NULL));
	command = command_find(args.operands, args.operand_count, &words);
	if (args.help)
		return help_status(help_words(args.operands, command ? words : args.operand_count));
	if (!command)
		return no_command(&args);
	args.operands += words;
	args.operand_count -= words;
	args.json = strcmp(args.output, "json") == 0 || strcmp(args.output, "yaml") == 0;
	output_yaml_set(strcmp(args.output, "yaml") == 0);
	ret = command_check(command, &args, given);
	if (!ret && command->options & OPT_KUBECONFIG && (args.kubeconfig || args.all_namespaces)) {
		struct errmsg err;

		ret = cluster_argument(&args, cluster, sizeof(cluster), &err);
		if (ret) {
			output_note("%s: %s", command->name, err.text);
			return EXIT_USAGE;
		}
	}
	return ret ? ret : command_run(command, &args);
}
