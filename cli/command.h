/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands and their arguments.  A command is a row in commands[] (commands.c) and a function in
 * its cmd_*.c file.
 */
#ifndef TENDRIL_CLI_COMMAND_H
#define TENDRIL_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/errmsg.h"

#define CLI_SOCKET_DEFAULT "/run/tendril/tendril.sock"
#define CLI_FILES_MAX      1024

/* If 1 is an answer (they differ, there are findings), a failure is 2. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNABLE = 2 };

/* The command line; members without an option of this command keep their default. */
struct arguments {
	const char *socket;
	const char *output; /* -o */
	bool json;          /* output is "json" or "yaml" */
	bool help;
	bool version;
	bool lenient;
	bool verbose;
	bool watch;
	bool all_namespaces;
	const char *from;
	const char *to;
	const char *port;
	const char *pod;
	const char *type;
	const char *verdict;
	const char *service;
	const char *protocol;
	const char *reason;
	const char *policy;
	const char *last;
	const char *since;
	bool follow;
	bool invert;      /* --not */
	bool with_policy; /* no option: flows are shown with the rules that decide */
	const char *limit;
	const char *by;
	const char *html;
	const char *svg;
	const char *junit;
	const char *pcap;
	const char *snaplen;
	const char *state;
	const char *interval;
	const char *sort;
	const char *duration; /* --for */
	const char *namespace;
	const char *canary;
	const char *kubeconfig;
	const char *wait; /* NULL: do not; "": for ever */
	bool probe;
	const char *external;
	bool dry_run;
	bool then_apply;
	const char *files[CLI_FILES_MAX]; /* -f, and operands of commands that take files */
	size_t file_count;
	char **operands;
	size_t operand_count;
};

/* Return value of a command for a wrong command line, with a text in err; no errno is as large. */
#define CLI_MISUSED       (-4096)
#define misused(err, ...) fail_plain(err, CLI_MISUSED, __VA_ARGS__)

/* A command returns EXIT_OK or EXIT_FAILED after it has printed its result itself, or CLI_MISUSED
 * or a negative errno with a text in err, which main() prints. */
typedef int (*command_fn)(const struct arguments *args, struct errmsg *err);

/* What the words after a command are, for completion. */
enum operand {
	OPERAND_NONE,
	OPERAND_POD,
	OPERAND_NODE,
	OPERAND_SERVICE,
	OPERAND_POLICY,
	OPERAND_PEER,
	OPERAND_KIND,
	OPERAND_FILE,
	OPERAND_COMMAND
};

struct command {
	const char *name; /* one or two words */
	const char *operands;
	enum operand operand;
	uint16_t min_operands;
	uint16_t max_operands;
	uint64_t options;  /* enum option_bit, beside OPT_COMMON */
	uint64_t required; /* those of them that must be given */
	command_fn run;
	const char *help;
	const char *outputs;  /* formats of -o */
	const char *statuses; /* exit statuses, if they are not the usual ones */
	bool one_is_answer;   /* exit status 1 is an answer, and a failure is 2 */
};

int cmd_status(const struct arguments *args, struct errmsg *err);
int cmd_get(const struct arguments *args, struct errmsg *err);
int cmd_connectivity_test(const struct arguments *args, struct errmsg *err);
int cmd_endpoint_list(const struct arguments *args, struct errmsg *err);
int cmd_endpoint_get(const struct arguments *args, struct errmsg *err);
int cmd_node_list(const struct arguments *args, struct errmsg *err);
int cmd_node_get(const struct arguments *args, struct errmsg *err);
int cmd_node_rotate_key(const struct arguments *args, struct errmsg *err);
int cmd_service_list(const struct arguments *args, struct errmsg *err);
int cmd_service_get(const struct arguments *args, struct errmsg *err);
int cmd_service_explain(const struct arguments *args, struct errmsg *err);
int cmd_identity_list(const struct arguments *args, struct errmsg *err);
int cmd_conntrack_list(const struct arguments *args, struct errmsg *err);
int cmd_drops(const struct arguments *args, struct errmsg *err);
int cmd_flows(const struct arguments *args, struct errmsg *err);
int cmd_observe(const struct arguments *args, struct errmsg *err);
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
int cmd_policy_unused(const struct arguments *args, struct errmsg *err);
int cmd_policy_record(const struct arguments *args, struct errmsg *err);
int cmd_help(const struct arguments *args, struct errmsg *err);
int cmd_tcp_connect(const struct arguments *args, struct errmsg *err);
int cmd_tcp_life(const struct arguments *args, struct errmsg *err);
int cmd_tcp_retrans(const struct arguments *args, struct errmsg *err);
int cmd_tcp_rtt(const struct arguments *args, struct errmsg *err);
int cmd_tcp_drop(const struct arguments *args, struct errmsg *err);
int cmd_tcp_state(const struct arguments *args, struct errmsg *err);
int cmd_tcp_top(const struct arguments *args, struct errmsg *err);
int cmd_top(const struct arguments *args, struct errmsg *err);
int cmd_version(const struct arguments *args, struct errmsg *err);
int cmd_complete(const struct arguments *args, struct errmsg *err);

#endif
