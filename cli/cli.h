/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of `tendril`: one table of commands, one table of options, and what commands
 * share.  A command is a row in commands[] (main.c) and a function in its cmd_*.c file.
 */
#ifndef TENDRIL_CLI_CLI_H
#define TENDRIL_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/errmsg.h"
#include "policy/objects/object.h"

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

/* ---- shared by commands (cmd_common.c) ---- */

struct cJSON;

/* One API call; *ret_json is owned by the caller and may be NULL when ret_json is.  An answer of
 * 400 and above is a failure with the agent's own text. */
int cli_call(const struct arguments *args, const char *method, const char *path, const char *body,
	     struct cJSON **ret_json, struct errmsg *err);

/* A member of an answer, NULL if absent; and its text, or what stands for an absent one. */
const struct cJSON *cli_member(const struct cJSON *object, const char *name);
const char *cli_text(const struct cJSON *object, const char *name, const char *absent);

/* Splits "namespace/name" ("name" means default/name) into buffers of size bytes. */
int cli_split_name(const char *text, char *ret_namespace, char *ret_name, size_t size,
		   struct errmsg *err);

/* The same for a policy; "/name" means a ClusterNetworkPolicy, whose namespace is "". */
int cli_split_policy(const char *text, enum object_kind *ret_kind, char *ret_namespace,
		     char *ret_name, size_t size, struct errmsg *err);

/* How messages name a file: "stdin" for "-". */
const char *cli_file_name(const char *path);

/* Reads a file, or standard input for "-"; NUL-terminated, owned by the caller; at most 64 MiB. */
int cli_read_file(const char *path, char **ret_text, size_t *ret_len, struct errmsg *err);

/* Writes a file anew; "-" is standard output. */
int cli_write_file(const char *path, const char *text, size_t len, struct errmsg *err);

/* "80", "80/TCP": the protocol is TCP if none is given. */
int cli_port_parse(const char *text, uint16_t *ret_port, uint8_t *ret_proto, struct errmsg *err);

/* Calls each() for a file, or for every .json, .yaml and .yml file of a directory, in order of
 * name.  -ENODATA: the directory has none; a check that checks nothing must not pass. */
int cli_each_file(const char *path, int (*each)(const char *file, void *arg, struct errmsg *err),
		  void *arg, struct errmsg *err);

#endif
