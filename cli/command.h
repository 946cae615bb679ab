/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of `tendril`: one table of commands, one table of options, and what commands
 * share.  A command is a row in commands[] (main.c) and a function in its cmd_*.c file.
 */
#ifndef TENDRIL_CLI_COMMAND_H
#define TENDRIL_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/errmsg.h"

#define CLI_SOCKET_DEFAULT "/run/tendril/tendril.sock"
#define CLI_FILES_MAX      1024

/* Where 1 is an answer (they differ, there are findings), what could not be done is 2. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNABLE = 2 };

/* What the command line said; members that a command has no option for keep their default. */
struct arguments {
	const char *socket;
	const char *output; /* -o */
	bool json;          /* output is "json" */
	bool help;
	bool version;
	bool lenient;
	bool verbose;
	const char *from;
	const char *to;
	const char *port;
	const char *type;
	const char *limit;
	const char *by;
	const char *html;
	const char *svg;
	const char *junit;
	const char *duration; /* --for */
	const char *namespace;
	const char *canary;
	bool dry_run;
	bool then_apply;
	const char *files[CLI_FILES_MAX]; /* -f */
	size_t file_count;
	char **operands;
	size_t operand_count;
};

/* What a command returns for a wrong command line, with a text in err; no errno is as large. */
#define CLI_MISUSED       (-4096)
#define misused(err, ...) fail_plain(err, CLI_MISUSED, __VA_ARGS__)

/* A command answers EXIT_OK or EXIT_FAILED after it has printed its result itself, or CLI_MISUSED
 * or a negative errno with a text in err, which main() prints. */
typedef int (*command_fn)(const struct arguments *args, struct errmsg *err);

int cmd_status(const struct arguments *args, struct errmsg *err);
int cmd_endpoint_list(const struct arguments *args, struct errmsg *err);
int cmd_endpoint_get(const struct arguments *args, struct errmsg *err);
int cmd_service_list(const struct arguments *args, struct errmsg *err);
int cmd_service_get(const struct arguments *args, struct errmsg *err);
int cmd_identity_list(const struct arguments *args, struct errmsg *err);
int cmd_conntrack_list(const struct arguments *args, struct errmsg *err);
int cmd_monitor(const struct arguments *args, struct errmsg *err);
int cmd_policy_list(const struct arguments *args, struct errmsg *err);
int cmd_policy_get(const struct arguments *args, struct errmsg *err);
int cmd_policy_validate(const struct arguments *args, struct errmsg *err);
int cmd_policy_apply(const struct arguments *args, struct errmsg *err);
int cmd_policy_delete(const struct arguments *args, struct errmsg *err);
int cmd_policy_explain(const struct arguments *args, struct errmsg *err);
int cmd_policy_matrix(const struct arguments *args, struct errmsg *err);
int cmd_policy_test(const struct arguments *args, struct errmsg *err);
int cmd_policy_lint(const struct arguments *args, struct errmsg *err);
int cmd_policy_diff(const struct arguments *args, struct errmsg *err);
int cmd_policy_record(const struct arguments *args, struct errmsg *err);

#endif
