/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril: views of the node agent, and policies: validate, apply, explain.  This file owns the
 * tables of commands and options and what is made from them: the parser, --help and exit codes.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "agent/lib/auto.h"
#include "policy/cli.h"

enum option_type { OPTION_FLAG, OPTION_TEXT, OPTION_LIST, OPTION_OUTPUT };

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
};
#define OPT_COMMON (OPT_SOCKET | OPT_OUTPUT | OPT_HELP)

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
	  "destination port and TCP, UDP or SCTP" },
	{ OPT_FILE, "file", 'f', OPTION_LIST, 0, "FILE|DIR",
	  "objects to read, JSON or YAML; repeatable; - is standard input" },
	{ OPT_LENIENT, "lenient", 0, OPTION_FLAG, offsetof(struct arguments, lenient), NULL,
	  "unknown fields are warnings, not errors" },
	{ OPT_TYPE, "type", 0, OPTION_TEXT, offsetof(struct arguments, type), "TYPES",
	  "drop, verdict or drop,verdict (default: both)" },
	{ OPT_LIMIT, "limit", 0, OPTION_TEXT, offsetof(struct arguments, limit), "N",
	  "at most N rows" },
	{ OPT_SOCKET, "socket", 0, OPTION_TEXT, offsetof(struct arguments, socket), "PATH",
	  "the agent's socket (default $TENDRIL_SOCKET or " CLI_SOCKET_DEFAULT ")" },
	{ OPT_OUTPUT, "output", 'o', OPTION_OUTPUT, 0, "text|json", "a table, or JSON" },
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
	{ "policy validate", "FILE...", 1, CLI_FILES_MAX, OPT_LENIENT, 0, cmd_policy_validate,
	  "check files, all problems at once; needs no agent" },
	{ "policy apply", "", 0, 0, OPT_FILE, OPT_FILE, cmd_policy_apply,
	  "put objects of files into the agent" },
	{ "policy delete", "[[NAMESPACE]/NAME]", 0, 1, OPT_FILE, 0, cmd_policy_delete,
	  "remove a policy, or what files hold" },
	{ "policy list", "", 0, 0, 0, 0, cmd_policy_list, "the policies in force" },
	{ "policy get", "[NAMESPACE]/NAME", 1, 1, 0, 0, cmd_policy_get, "one as it was given" },
	{ "policy explain", "", 0, 0, OPT_FROM | OPT_TO | OPT_PORT | OPT_FILE,
	  OPT_FROM | OPT_TO | OPT_PORT, cmd_policy_explain,
	  "which rule of which object decides; with -f offline" },
	{ "monitor", "", 0, 0, OPT_TYPE, 0, cmd_monitor, "drops and verdicts as they happen" },
	{ "conntrack list", "", 0, 0, OPT_LIMIT, 0, cmd_conntrack_list,
	  "connections that are tracked" },
};

static void print_options(unsigned int bits)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
		const struct option_spec *spec = &option_specs[i];
		char text[48], letter[6] = "";

		if (!(spec->bit & bits))
			continue;
		if (spec->letter)
			snprintf(letter, sizeof(letter), "-%c, ", spec->letter);
		snprintf(text, sizeof(text), "%s--%s%s%s", letter, spec->name,
			 spec->value ? " " : "", spec->value ? spec->value : "");
		printf("  %-28s %s\n", text, spec->help);
	}
}

static void print_overview(void)
{
	printf("usage: tendril COMMAND [OPTION...]\n\ncommands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		char text[48];

		snprintf(text, sizeof(text), "%s %s", commands[i].name, commands[i].operands);
		printf("  %-28s %s\n", text, commands[i].help);
	}
	printf("\noptions of every command:\n");
	print_options(OPT_COMMON | OPT_VERSION);
	printf("\nexit status: 0 done, 1 failed or refused, 2 wrong usage\n");
}

static void print_command_help(const struct command *command)
{
	printf("usage: tendril %s %s%s[OPTION...]\n\n%s\n\noptions:\n", command->name,
	       command->operands, *command->operands ? " " : "", command->help);
	print_options(command->options | OPT_COMMON);
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
			fprintf(stderr, "tendril: more than %d files\n", CLI_FILES_MAX);
			return EXIT_USAGE;
		}
		args->files[args->file_count++] = value;
		return 0;
	case OPTION_OUTPUT:
		if (strcmp(value, "json") != 0 && strcmp(value, "text") != 0) {
			fprintf(stderr, "tendril: --output %s: must be text or json\n", value);
			return EXIT_USAGE;
		}
		args->json = strcmp(value, "json") == 0;
		return 0;
	}
	return EXIT_USAGE;
}

/* Parses every option of the line; operands (command words included) stay in order.  *ret_given
 * is the set of options seen. */
static int options_parse(int argc, char **argv, struct arguments *args, unsigned int *ret_given)
{
	struct option longs[ARRAY_SIZE(option_specs) + 1] = { 0 };
	char shorts[2 * ARRAY_SIZE(option_specs) + 1] = "";
	size_t used = 0;
	int found;

	for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
		const struct option_spec *spec = &option_specs[i];

		longs[i] =
			(struct option){ .name = spec->name,
					 .has_arg = spec->value ? required_argument : no_argument,
					 .val = 256 + (int)i };
		if (!spec->letter)
			continue;
		shorts[used++] = spec->letter;
		if (spec->value)
			shorts[used++] = ':';
	}
	while ((found = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_spec *spec = NULL;

		for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
			if (found == 256 + (int)i || found == option_specs[i].letter)
				spec = &option_specs[i];
		}
		if (found == '?' || !spec || option_store(spec, optarg, args))
			return EXIT_USAGE;
		*ret_given |= spec->bit;
	}
	args->operands = argv + optind;
	args->operand_count = (size_t)(argc - optind);
	return 0;
}

static int usage_error(const char *what, const char *text)
{
	fprintf(stderr, "tendril: %s %s; see tendril --help\n", what, text);
	return EXIT_USAGE;
}

static int command_check(const struct command *command, const struct arguments *args,
			 unsigned int given)
{
	unsigned int foreign = given & ~(command->options | OPT_COMMON | OPT_VERSION);

	for (size_t i = 0; foreign && i < ARRAY_SIZE(option_specs); i++) {
		if (foreign & option_specs[i].bit) {
			fprintf(stderr, "tendril: %s takes no --%s\n", command->name,
				option_specs[i].name);
			return EXIT_USAGE;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
		if (command->required & ~given & option_specs[i].bit) {
			fprintf(stderr, "tendril: %s needs --%s\n", command->name,
				option_specs[i].name);
			return EXIT_USAGE;
		}
	}
	if (args->operand_count < command->min_operands ||
	    args->operand_count > command->max_operands) {
		fprintf(stderr, "usage: tendril %s %s\n", command->name, command->operands);
		return EXIT_USAGE;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct arguments args = { .socket = getenv("TENDRIL_SOCKET") };
	const struct command *command;
	struct errmsg err = { 0 };
	unsigned int given = 0;
	size_t words = 0;
	int status;

	if (!args.socket)
		args.socket = CLI_SOCKET_DEFAULT;
	status = options_parse(argc, argv, &args, &given);
	if (status)
		return status;
	if (args.version) {
		printf("tendril %s\n", TENDRIL_VERSION);
		return EXIT_OK;
	}
	command = command_find(args.operands, args.operand_count, &words);
	if (!command) {
		if (args.help) {
			print_overview();
			return EXIT_OK;
		}
		if (args.operand_count == 0)
			return usage_error("no command", "given");
		return usage_error("unknown command", args.operands[0]);
	}
	if (args.help) {
		print_command_help(command);
		return EXIT_OK;
	}
	args.operands += words;
	args.operand_count -= words;
	status = command_check(command, &args, given);
	if (status)
		return status;
	status = command->run(&args, &err);
	if (status < 0) {
		fprintf(stderr, "%s: %s\n", command->name, err.text);
		return EXIT_FAILED;
	}
	return status;
}
