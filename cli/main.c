/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril: views of the node agent, and policies: checked, explained, compared.  This file owns the
 * tables of commands and options and what is made from them: the parser, --help and exit codes.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/output.h"
#include "datapath/abi.h"
#include "lib/auto.h"

#define OPTION_VALUE 256 /* getopt_long() gives this and the number of the option */
#define HELP_COLUMN  28  /* how wide the left column of --help is */

enum option_type { OPTION_FLAG, OPTION_TEXT, OPTION_LIST };

/* Bits in struct command: which options it takes; the first three go with every command. */
enum option_bit {
	OPT_SOCKET = 1 << 0,
	OPT_OUTPUT = 1 << 1,
	OPT_HELP = 1 << 2,
	OPT_VERSION = 1 << 3,
	OPT_FILE = 1 << 4,
	OPT_FROM = 1 << 5,
	OPT_TO = 1 << 6,
	OPT_PORT = 1 << 7,
	OPT_LENIENT = 1 << 8,
	OPT_TYPE = 1 << 9,
	OPT_LIMIT = 1 << 10,
	OPT_BY = 1 << 11,
	OPT_HTML = 1 << 12,
	OPT_SVG = 1 << 13,
	OPT_JUNIT = 1 << 14,
	OPT_VERBOSE = 1 << 15,
	OPT_FOR = 1 << 20,
	OPT_NAMESPACE = 1 << 21,
	OPT_DRY_RUN = 1 << 22,
	OPT_CANARY = 1 << 23,
	OPT_THEN_APPLY = 1 << 24,
};
#define OPT_COMMON  (OPT_SOCKET | OPT_OUTPUT | OPT_HELP)
#define OPT_OBJECTS (OPT_FILE | OPT_VERBOSE) /* of commands that read objects from files */

static const struct option_spec {
	enum option_bit bit;
	const char *name;
	char letter; /* 0: none */
	enum option_type type;
	size_t offset;
	const char *value;
	const char *help;
} option_specs[] = {
	{ OPT_FROM, "from", 0, OPTION_TEXT, offsetof(struct arguments, from), "POD|IP",
	  "who connects: NAMESPACE/NAME of a pod, or an address" },
	{ OPT_TO, "to", 0, OPTION_TEXT, offsetof(struct arguments, to), "POD|SERVICE|IP",
	  "to whom: a pod or a service as NAMESPACE/NAME, or an address" },
	{ OPT_PORT, "port", 0, OPTION_TEXT, offsetof(struct arguments, port), "N/PROTO",
	  "destination port and TCP, UDP or SCTP; matrix: several with commas, or all" },
	{ OPT_FILE, "file", 'f', OPTION_LIST, 0, "FILE|DIR",
	  "objects to read, JSON or YAML; repeatable; - is standard input" },
	{ OPT_LENIENT, "lenient", 0, OPTION_FLAG, offsetof(struct arguments, lenient), NULL,
	  "unknown fields are warnings, not errors" },
	{ OPT_VERBOSE, "verbose", 'v', OPTION_FLAG, offsetof(struct arguments, verbose), NULL,
	  "name the objects that are skipped because they are not about the network" },
	{ OPT_BY, "by", 0, OPTION_TEXT, offsetof(struct arguments, by), "pod|namespace|labels=KEY",
	  "what a row stands for (default: pod)" },
	{ OPT_HTML, "html", 0, OPTION_TEXT, offsetof(struct arguments, html), "FILE",
	  "write a page with the picture, to be opened in a browser" },
	{ OPT_SVG, "svg", 0, OPTION_TEXT, offsetof(struct arguments, svg), "FILE",
	  "write the picture" },
	{ OPT_JUNIT, "junit", 0, OPTION_TEXT, offsetof(struct arguments, junit), "FILE",
	  "write a JUnit report beside what is printed" },
	{ OPT_TYPE, "type", 0, OPTION_TEXT, offsetof(struct arguments, type), "TYPES",
	  "drop, verdict and audit, separated by commas (default: all)" },
	{ OPT_DRY_RUN, "dry-run", 0, OPTION_FLAG, offsetof(struct arguments, dry_run), NULL,
	  "apply nothing: show what would change, and whom of those who talk it would cut off" },
	{ OPT_CANARY, "canary", 0, OPTION_TEXT, offsetof(struct arguments, canary), "TIME",
	  "the same, and watch for so long (60s) whom it would cut off" },
	{ OPT_THEN_APPLY, "then-apply", 0, OPTION_FLAG, offsetof(struct arguments, then_apply),
	  NULL, "after --canary: apply if nobody would be cut off" },
	{ OPT_FOR, "for", 0, OPTION_TEXT, offsetof(struct arguments, duration), "TIME",
	  "how long to watch: 60s (the default), 5m, 1h" },
	{ OPT_NAMESPACE, "namespace", 'n', OPTION_TEXT, offsetof(struct arguments, namespace),
	  "NAMESPACE", "only for pods of this namespace" },
	{ OPT_LIMIT, "limit", 0, OPTION_TEXT, offsetof(struct arguments, limit), "N",
	  "at most N rows" },
	{ OPT_SOCKET, "socket", 0, OPTION_TEXT, offsetof(struct arguments, socket), "PATH",
	  "the agent's socket (default $TENDRIL_SOCKET or " CLI_SOCKET_DEFAULT ")" },
	{ OPT_OUTPUT, "output", 'o', OPTION_TEXT, offsetof(struct arguments, output), "FORMAT",
	  "what to print" },
	{ OPT_VERSION, "version", 0, OPTION_FLAG, offsetof(struct arguments, version), NULL,
	  "print the version" },
	{ OPT_HELP, "help", 'h', OPTION_FLAG, offsetof(struct arguments, help), NULL,
	  "print this text" },
};

static const struct command {
	const char *name; /* one or two words */
	const char *operands;
	size_t min_operands;
	size_t max_operands;
	unsigned int options;  /* enum option_bit, beside OPT_COMMON */
	unsigned int required; /* those of them that it cannot do without */
	command_fn run;
	const char *help;
} commands[] = {
	{ "status", "", 0, 0, 0, 0, cmd_status, "is the agent well, what does it hold and drop" },
	{ "endpoint list", "", 0, 0, 0, 0, cmd_endpoint_list, "the pods wired on this node" },
	{ "endpoint get", "NAMESPACE/NAME", 1, 1, 0, 0, cmd_endpoint_get, "one of them in full" },
	{ "service list", "", 0, 0, 0, 0, cmd_service_list,
	  "services and how many backends they have" },
	{ "service get", "NAMESPACE/NAME", 1, 1, 0, 0, cmd_service_get, "one with its backends" },
	{ "identity list", "", 0, 0, 0, 0, cmd_identity_list,
	  "sets of labels and CIDRs, and their numbers" },
	{ "policy validate", "[FILE...]", 0, CLI_FILES_MAX, OPT_OBJECTS | OPT_LENIENT, 0,
	  cmd_policy_validate, "check files, all problems at once; needs no agent" },
	{ "policy apply", "", 0, 0, OPT_OBJECTS | OPT_DRY_RUN | OPT_CANARY | OPT_THEN_APPLY,
	  OPT_FILE, cmd_policy_apply, "put objects of files into the agent, or try them first" },
	{ "policy delete", "[[NAMESPACE]/NAME]", 0, 1, OPT_OBJECTS, 0, cmd_policy_delete,
	  "remove a policy, or what files hold" },
	{ "policy list", "", 0, 0, 0, 0, cmd_policy_list, "the policies in force" },
	{ "policy get", "[NAMESPACE]/NAME", 1, 1, 0, 0, cmd_policy_get, "one as it was given" },
	{ "policy explain", "", 0, 0, OPT_FROM | OPT_TO | OPT_PORT | OPT_OBJECTS,
	  OPT_FROM | OPT_TO | OPT_PORT, cmd_policy_explain,
	  "which rule of which object decides; with -f offline" },
	{ "policy matrix", "", 0, 0, OPT_OBJECTS | OPT_PORT | OPT_BY | OPT_HTML | OPT_SVG, 0,
	  cmd_policy_matrix, "who reaches whom on which ports; with -f offline" },
	{ "policy test", "FILE...", 1, CLI_FILES_MAX, OPT_OBJECTS | OPT_JUNIT, 0, cmd_policy_test,
	  "are the verdicts those that files expect; with -f offline" },
	{ "policy lint", "[FILE...]", 0, CLI_FILES_MAX, OPT_OBJECTS, 0, cmd_policy_lint,
	  "what is probably not meant; of files, else of the agent" },
	{ "policy diff", "OLD NEW", 2, 2, OPT_OBJECTS, 0, cmd_policy_diff,
	  "which connections a change newly allows and denies; needs no agent" },
	{ "policy record", "[NAMESPACE/NAME...]", 0, CLI_FILES_MAX, OPT_FOR | OPT_NAMESPACE, 0,
	  cmd_policy_record, "watch flows, and write the least policies that allow them" },
	{ "monitor", "", 0, 0, OPT_TYPE, 0, cmd_monitor,
	  "drops, verdicts and what audit lets pass" },
	{ "conntrack list", "", 0, 0, OPT_LIMIT, 0, cmd_conntrack_list,
	  "connections that are tracked" },
};

/* What commands print and answer beside the usual: formats of -o, and exit statuses where 1 is an
 * answer and 2 the failure. */
static const struct answer {
	command_fn run;
	const char *outputs;
	const char *statuses; /* NULL: as every command */
} answers[] = {
	{ cmd_policy_diff, "text|json",
	  "0 no connection changes, 1 some do, 2 they could not be compared" },
	{ cmd_policy_test, "text|json|tap|junit",
	  "0 all verdicts are as expected, 1 some are not, 2 they could not be asked for" },
	{ cmd_policy_lint, "text|json",
	  "0 nothing was found, 1 something was, 2 the objects could not be read" },
	{ NULL, "text|json", NULL }, /* all others */
};

static const struct answer *command_answer(const struct command *command)
{
	const struct answer *answer = answers;

	while (answer->run && answer->run != command->run)
		answer++;
	return answer;
}

static void print_row(const char *head, const char *help)
{
	if (strlen(head) <= HELP_COLUMN)
		printf("  %-*s %s\n", HELP_COLUMN, head, help);
	else
		printf("  %s\n  %*s %s\n", head, HELP_COLUMN, "", help);
}

static void print_options(unsigned int bits, const char *outputs)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
		const struct option_spec *spec = &option_specs[i];
		char text[48], letter[6] = "";

		if (!(spec->bit & bits))
			continue;
		if (spec->letter)
			snprintf(letter, sizeof(letter), "-%c, ", spec->letter);
		snprintf(text, sizeof(text), "%s--%s%s%s", letter, spec->name,
			 spec->value ? " " : "",
			 spec->bit == OPT_OUTPUT ? outputs
			 : spec->value           ? spec->value
						 : "");
		print_row(text, spec->help);
	}
}

static void print_overview(void)
{
	printf("usage: tendril COMMAND [OPTION...]\n\ncommands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		char text[48];

		snprintf(text, sizeof(text), "%s %s", commands[i].name, commands[i].operands);
		print_row(text, commands[i].help);
	}
	printf("\noptions of every command:\n");
	print_options(OPT_COMMON | OPT_VERSION, answers[ARRAY_SIZE(answers) - 1].outputs);
	printf("\nexit status: 0 done, 1 failed or refused, 2 wrong usage\n");
}

static void print_command_help(const struct command *command)
{
	const struct answer *answer = command_answer(command);

	printf("usage: tendril %s %s%s[OPTION...]\n\n%s\n\noptions:\n", command->name,
	       command->operands, *command->operands ? " " : "", command->help);
	print_options(command->options | OPT_COMMON, answer->outputs);
	if (answer->statuses)
		printf("\nexit status: %s\n", answer->statuses);
	else if (command->options & OPT_CANARY)
		printf("\nexit status: 0 done, 1 failed or refused; with --dry-run or --canary: "
		       "0 nobody would be cut off, 1 somebody would, 2 it could not be tried\n");
}

/* The command whose name the words begin with; *ret_words is how many words that took. */
static const struct command *command_find(char **words, size_t count, size_t *ret_words)
{
	char two_words[64];

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (count > 0 && strcmp(commands[i].name, words[0]) == 0) {
			*ret_words = 1;
			return &commands[i];
		}
		if (count < 2)
			continue;
		snprintf(two_words, sizeof(two_words), "%s %s", words[0], words[1]);
		if (strcmp(commands[i].name, two_words) == 0) {
			*ret_words = 2;
			return &commands[i];
		}
	}
	return NULL;
}

static int option_store(const struct option_spec *spec, const char *value, struct arguments *args)
{
	char *member = (char *)args + spec->offset;

	switch (spec->type) {
	case OPTION_FLAG:
		*(bool *)member = true;
		return 0;
	case OPTION_TEXT:
		*(const char **)member = value;
		return 0;
	case OPTION_LIST:
		if (args->file_count == CLI_FILES_MAX) {
			output_note("tendril: more than %d files", CLI_FILES_MAX);
			return EXIT_USAGE;
		}
		args->files[args->file_count++] = value;
		return 0;
	}
	return EXIT_USAGE;
}

static int usage_error(const char *what, const char *text)
{
	output_note("tendril: %s %s; see tendril --help", what, text);
	return EXIT_USAGE;
}

/* What getopt_long() stumbled over: it would name it with all its control characters. */
static int option_error(int found, char **argv)
{
	const char letter[] = { '-', (char)optopt, '\0' };

	if (found == ':')
		return usage_error("there is no value for", argv[optind - 1]);
	if (optopt >= OPTION_VALUE)
		return usage_error("no value is taken by", argv[optind - 1]);
	if (optopt)
		return usage_error("there is no option", letter);
	return usage_error("there is no option, or several, like", argv[optind - 1]);
}

/* Parses every option of the line; operands (command words included) stay in order.  *ret_given
 * is the set of options seen. */
static int options_parse(int argc, char **argv, struct arguments *args, unsigned int *ret_given)
{
	struct option longs[ARRAY_SIZE(option_specs) + 1] = { 0 };
	char shorts[2 * ARRAY_SIZE(option_specs) + 2] = ":";
	size_t used = 1;
	int found;

	for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
		const struct option_spec *spec = &option_specs[i];

		longs[i] =
			(struct option){ .name = spec->name,
					 .has_arg = spec->value ? required_argument : no_argument,
					 .val = OPTION_VALUE + (int)i };
		if (!spec->letter)
			continue;
		shorts[used++] = spec->letter;
		if (spec->value)
			shorts[used++] = ':';
	}
	opterr = 0;
	while ((found = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_spec *spec = NULL;

		for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
			if (found == OPTION_VALUE + (int)i || found == option_specs[i].letter)
				spec = &option_specs[i];
		}
		if (!spec)
			return option_error(found, argv);
		if (option_store(spec, optarg, args))
			return EXIT_USAGE;
		*ret_given |= spec->bit;
	}
	args->operands = argv + optind;
	args->operand_count = (size_t)(argc - optind);
	return 0;
}

/* "frob", or "policy frob" where there are commands that begin so. */
static int command_unknown(char **words, size_t count)
{
	size_t len = strlen(words[0]);
	char two_words[128];

	for (size_t i = 0; i < ARRAY_SIZE(commands) && count > 1; i++) {
		if (strncmp(commands[i].name, words[0], len) != 0 || commands[i].name[len] != ' ')
			continue;
		snprintf(two_words, sizeof(two_words), "%s %s", words[0], words[1]);
		return usage_error("unknown command", two_words);
	}
	return usage_error("unknown command", words[0]);
}

/* Whether one of "text|json" is the format. */
static bool outputs_hold(const char *outputs, const char *output)
{
	size_t len = strlen(output);

	for (const char *word = outputs; word; word = strchr(word, '|')) {
		word += *word == '|';
		if (strncmp(word, output, len) == 0 && (word[len] == '|' || word[len] == '\0'))
			return len > 0;
	}
	return false;
}

static size_t stdin_count(const struct arguments *args)
{
	size_t count = 0;

	for (size_t i = 0; i < args->file_count; i++)
		count += strcmp(args->files[i], "-") == 0;
	for (size_t i = 0; i < args->operand_count; i++)
		count += strcmp(args->operands[i], "-") == 0;
	return count;
}

static int command_check(const struct command *command, const struct arguments *args,
			 unsigned int given)
{
	unsigned int foreign = given & ~(command->options | OPT_COMMON | OPT_VERSION);

	for (size_t i = 0; foreign && i < ARRAY_SIZE(option_specs); i++) {
		if (foreign & option_specs[i].bit) {
			output_note("tendril: %s takes no --%s", command->name,
				    option_specs[i].name);
			return EXIT_USAGE;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
		if (command->required & ~given & option_specs[i].bit) {
			output_note("tendril: %s needs --%s", command->name, option_specs[i].name);
			return EXIT_USAGE;
		}
	}
	if (!outputs_hold(command_answer(command)->outputs, args->output)) {
		output_note("tendril: --output %s: must be %s", args->output,
			    command_answer(command)->outputs);
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
		output_note("usage: tendril %s %s%s[OPTION...]", command->name, command->operands,
			    *command->operands ? " " : "");
		return EXIT_USAGE;
	}
	return 0;
}

/* Whether EXIT_FAILED is an answer of the command. */
static bool answers_with_one(const struct command *command, const struct arguments *args)
{
	return command_answer(command)->statuses || args->dry_run || args->canary;
}

/* What was printed is out; else it is lost, as on a full disk. */
static bool output_is_out(void)
{
	return fflush(stdout) == 0 && !ferror(stdout);
}

static int help_status(void)
{
	if (output_is_out())
		return EXIT_OK;
	output_note("tendril: standard output cannot be written");
	return EXIT_FAILED;
}

static int command_run(const struct command *command, const struct arguments *args)
{
	struct errmsg err = { 0 };
	int status = command->run(args, &err);

	if (status >= 0 && !output_is_out())
		status = fail_plain(&err, -EIO, "standard output cannot be written");
	if (status >= 0)
		return status;
	output_note("%s: %s", command->name, err.text);
	if (status == CLI_MISUSED)
		return EXIT_USAGE;
	return answers_with_one(command, args) ? EXIT_UNABLE : EXIT_FAILED;
}

/* No file or socket that is opened becomes one of the standard ones; what is closed fails. */
static void stdio_hold(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
	}
}

int main(int argc, char **argv)
{
	struct arguments args = { .socket = getenv("TENDRIL_SOCKET"), .output = "text" };
	const struct command *command;
	unsigned int given = 0;
	size_t words = 0;
	int status;

	stdio_hold();
	if (!args.socket || !*args.socket)
		args.socket = CLI_SOCKET_DEFAULT;
	status = options_parse(argc, argv, &args, &given);
	if (status)
		return status;
	if (args.version) {
		printf("tendril %s (ABI %d)\n", TENDRIL_VERSION, ABI_VERSION);
		return help_status();
	}
	command = command_find(args.operands, args.operand_count, &words);
	if (!command && !args.help)
		return args.operand_count ? command_unknown(args.operands, args.operand_count)
					  : usage_error("no command", "given");
	if (args.help) {
		command ? print_command_help(command) : print_overview();
		return help_status();
	}
	args.operands += words;
	args.operand_count -= words;
	args.json = strcmp(args.output, "json") == 0;
	status = command_check(command, &args, given);
	return status ? status : command_run(command, &args);
}
