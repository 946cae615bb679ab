/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril-cni: the CNI plugin.  One short process for one command: reads the environment and the
 * configuration, asks the node agent, and answers in the version that was asked for.  The only
 * place that prints; standard output carries the answer or the error, never anything else.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cni/command.h"
#include "cni/version.h"
#include "lib/auto.h"

static const struct command {
	const char *name;
	enum cni_version since;
	unsigned int needed; /* variables, ENV_... */
	int (*run)(const struct netconf *conf, const struct cni_environ *env,
		   struct cJSON **ret_answer, struct cni_error *err);
} commands[] = {
	{ "ADD", CNI_0_1_0, ENV_CONTAINER | ENV_NETNS, command_add },
	{ "DEL", CNI_0_1_0, ENV_CONTAINER, command_del },
	{ "CHECK", CNI_0_4_0, ENV_CONTAINER | ENV_NETNS, command_check },
	{ "GC", CNI_1_1_0, 0, command_gc },
	{ "STATUS", CNI_1_1_0, 0, command_status },
};

/* cJSON calls this for every item: with it no caller has to ask whether there was memory. */
static void *memory_get(size_t size)
{
	static const char out_of_memory[] =
		"{\"cniVersion\":\"1.1.0\",\"code\":5,\"msg\":\"out of memory\"}\n";
	void *memory = malloc(size);

	if (memory)
		return memory;
	if (write(STDOUT_FILENO, out_of_memory, sizeof(out_of_memory) - 1) < 0)
		_exit(2);
	_exit(1);
}

/* Reads standard input to its end, and closes it with a NUL. */
static int input_read(char **ret_text, size_t *ret_len, struct cni_error *err)
{
	auto_free char *text = malloc(NETCONF_MAX + 2);
	size_t len = 0;

	if (!text)
		return cni_fail(err, CNI_IO_FAILURE, "out of memory");
	for (;;) {
		ssize_t n = read(STDIN_FILENO, text + len, NETCONF_MAX + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cni_fail(err, CNI_IO_FAILURE,
					"read the network configuration from standard input: %s",
					strerror(errno));
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > NETCONF_MAX)
			return cni_fail(err, CNI_DECODING_FAILURE,
					"the network configuration is longer than %lu bytes",
					NETCONF_MAX);
	}
	text[len] = '\0';
	*ret_text = take_ptr(text);
	*ret_len = len;
	return 0;
}

/* NULL if there is no such command. */
static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	}
	return NULL;
}

static int command_run(const struct command *command, const struct netconf *conf,
		       cJSON **ret_answer, struct cni_error *err)
{
	struct cni_environ env;

	if (conf->version < command->since)
		return cni_fail(err, CNI_INCOMPATIBLE_VERSION,
				"cniVersion: %s has no command %s; it was added in %s",
				version_text(conf->version), command->name,
				version_text(command->since));
	return environ_load(command->needed, &env, err)
		       ?: command->run(conf, &env, ret_answer, err);
}

/* The answer to the command, in ret_version. */
static int call_answer(const char *name, cJSON **ret_answer, enum cni_version *ret_version,
		       struct cni_error *err)
{
	auto_free char *text = NULL;
	const struct command *command = command_find(name);
	struct netconf conf;
	size_t len = 0;
	int ret;

	ret = input_read(&text, &len, err);
	if (ret)
		return ret;
	if (strcmp(name, "VERSION") == 0) {
		ret = netconf_version(text, len, ret_version, err);
		if (!ret)
			*ret_answer = version_answer(*ret_version);
		return ret;
	}
	ret = netconf_parse(text, len, &conf, err);
	*ret_version = conf.version;
	if (!command)
		ret = cni_fail(err, CNI_INVALID_ENVIRONMENT,
			       "CNI_COMMAND: \"%.40s\" is none of ADD, DEL, CHECK, GC, STATUS and "
			       "VERSION",
			       name);
	else if (!ret)
		ret = command_run(command, &conf, ret_answer, err);
	netconf_done(&conf);
	return ret;
}

static cJSON *error_render(const struct cni_error *err, enum cni_version version)
{
	cJSON *answer = cJSON_CreateObject();

	cJSON_AddStringToObject(answer, "cniVersion", version_text(version));
	cJSON_AddNumberToObject(answer, "code", err->code);
	cJSON_AddStringToObject(answer, "msg", err->msg);
	if (err->details[0])
		cJSON_AddStringToObject(answer, "details", err->details);
	return answer;
}

static bool answer_print(const cJSON *answer)
{
	auto_free char *text = cJSON_PrintUnformatted(answer);

	return puts(text) >= 0 && fflush(stdout) == 0;
}

int main(void)
{
	cJSON_Hooks hooks = { .malloc_fn = memory_get, .free_fn = free };
	enum cni_version version = CNI_LATEST;
	const char *name = getenv("CNI_COMMAND");
	struct cni_error err = {};
	cJSON *answer = NULL;
	int ret;

	cJSON_InitHooks(&hooks);
	/* Without a command there is nothing to wait for on standard input. */
	if (name && *name)
		ret = call_answer(name, &answer, &version, &err);
	else
		ret = cni_fail(&err, CNI_INVALID_ENVIRONMENT,
			       "required variables are missing: CNI_COMMAND");
	if (ret)
		answer = error_render(&err, version);
	if (answer && !answer_print(answer))
		ret = CNI_IO_FAILURE;
	cJSON_Delete(answer);
	return ret ? 1 : 0;
}
