/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/delegate.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cni/result.h"
#include "lib/auto.h"
#include "lib/clock.h"

#define OUTPUT_MAX NETCONF_MAX
#define TIMEOUT_MS 60000 /* dhcp waits for its server; everything else takes milliseconds */

extern char **environ;

struct run { /* one execution */
	const char *file;
	const char *command;
	const char *input;
};

struct output {
	int status; /* as waitpid() gives it */
	char *text; /* owned */
	size_t len;
};

/* ---- execution ---- */

/* The first executable file of this name in a colon-separated list of folders; owned. */
static char *plugin_find(const char *path, const char *type)
{
	while (*path) {
		int len = (int)strcspn(path, ":");
		char *file = NULL;
		struct stat st;

		if (len && asprintf(&file, "%.*s/%s", len, path, type) < 0)
			return NULL;
		if (file && stat(file, &st) == 0 && S_ISREG(st.st_mode) && access(file, X_OK) == 0)
			return file;
		free(file);
		path += len + (path[len] == ':');
	}
	return NULL;
}

/* Our environment with another CNI_COMMAND; the array is owned, the strings are not. */
static char **environ_copy(char *command)
{
	static const char name[] = "CNI_COMMAND=";
	size_t count = 0, used = 0;
	char **copy;

	while (environ[count])
		count++;
	copy = calloc(count + 2, sizeof(*copy));
	if (!copy)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		if (strncmp(environ[i], name, sizeof(name) - 1) != 0)
			copy[used++] = environ[i];
	}
	copy[used] = command;
	return copy;
}

/* A file in memory, not a pipe: nobody can block on the other's full pipe. */
static int input_open(const char *text)
{
	auto_close int fd = memfd_create("cni-config", MFD_CLOEXEC);
	size_t len = strlen(text);

	if (fd < 0 || write(fd, text, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET) < 0)
		return -1;
	return take_fd(&fd);
}

static int plugin_spawn(const struct run *run, int in_fd, int out_fd, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	auto_free char *command = NULL;
	auto_free char **env = NULL;
	char *argv[] = { (char *)run->file, NULL };
	int ret;

	if (asprintf(&command, "CNI_COMMAND=%s", run->command) < 0) {
		command = NULL;
		return ENOMEM;
	}
	env = environ_copy(command);
	if (!env)
		return ENOMEM;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in_fd, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
	ret = posix_spawn(ret_pid, run->file, &actions, NULL, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

/* Reads to the end of the plugin's output; -ENOMEM, -ETIMEDOUT, -E2BIG. */
static int output_read(int fd, struct output *output)
{
	int64_t deadline = now_ms() + TIMEOUT_MS;

	output->text = malloc(OUTPUT_MAX + 1);
	if (!output->text)
		return -ENOMEM;
	for (;;) {
		struct pollfd pollfd = { .fd = fd, .events = POLLIN };
		int64_t left = deadline - now_ms();
		ssize_t n;

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&pollfd, 1, (int)left) <= 0)
			continue;
		n = read(fd, output->text + output->len, OUTPUT_MAX - output->len);
		if (n < 0 && errno != EINTR)
			return -errno;
		output->len += n > 0 ? (size_t)n : 0;
		output->text[output->len] = '\0';
		if (n == 0)
			return 0;
		if (output->len == OUTPUT_MAX)
			return -E2BIG;
	}
}

/* Starts the plugin and reads what it says; what it answers with its status is not judged here.
 * The caller frees output->text, also after a failure. */
static int plugin_run(const struct run *run, struct output *output, struct cni_error *err)
{
	auto_close int in_fd = input_open(run->input);
	auto_close int out_fd = -1;
	auto_close int plugin_out_fd = -1;
	int pipe_fds[2], error;
	pid_t pid;

	if (in_fd < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0)
		return cni_fail(err, CNI_IO_FAILURE, "prepare to run %.200s: %s", run->file,
				strerror(errno));
	out_fd = pipe_fds[0];
	plugin_out_fd = pipe_fds[1];
	signal(SIGCHLD, SIG_DFL); /* a runtime may have left it ignored: waitpid() would fail */
	error = plugin_spawn(run, in_fd, plugin_out_fd, &pid);
	if (error)
		return cni_fail(err, CNI_IO_FAILURE, "run %.200s: %s", run->file, strerror(error));
	close(take_fd(&plugin_out_fd)); /* so that the plugin's end is the end */
	error = output_read(out_fd, output);
	if (error)
		kill(pid, SIGKILL);
	while (waitpid(pid, &output->status, 0) < 0 && errno == EINTR)
		;
	if (error)
		return cni_fail(err, CNI_IPAM_FAILED, "%s of %.200s: %s", run->command, run->file,
				error == -E2BIG ? "its output is too long" : strerror(-error));
	return 0;
}

/* ---- the CNI protocol, from the caller's side ---- */

/* The plugin's own error: {"code","msg","details"}. */
static int refusal_read(const struct run *run, const struct output *output, struct cni_error *err)
{
	cJSON *json = cJSON_ParseWithLength(output->text, output->len);
	const cJSON *code = cJSON_GetObjectItemCaseSensitive(json, "code");
	const cJSON *msg = cJSON_GetObjectItemCaseSensitive(json, "msg");
	const cJSON *details = cJSON_GetObjectItemCaseSensitive(json, "details");
	const char *name = strrchr(run->file, '/') + 1;
	int ret = CNI_IPAM_FAILED;

	/* From 100 on a plugin's codes are its own and would be mistaken for ours. */
	if (cJSON_IsNumber(code) && code->valueint > 0 && code->valueint < 100)
		ret = code->valueint;
	if (cJSON_IsString(msg))
		cni_fail(err, ret, "IPAM plugin %.60s: %s", name, msg->valuestring);
	else if (WIFSIGNALED(output->status))
		cni_fail(err, ret, "IPAM plugin %.60s: killed by signal %d", name,
			 WTERMSIG(output->status));
	else
		cni_fail(err, ret, "IPAM plugin %.60s: %s ended with status %d and no reason", name,
			 run->command, WEXITSTATUS(output->status));
	if (cJSON_IsString(details))
		cni_details(err, "%s", details->valuestring);
	cJSON_Delete(json);
	return ret;
}

static int command_run(const char *file, const char *command, const cJSON *input,
		       struct output *ret_output, struct cni_error *err)
{
	auto_free char *text = cJSON_PrintUnformatted(input);
	const struct run run = { file, command, text };
	struct output output = {};
	int ret = plugin_run(&run, &output, err);

	if (!ret && output.status != 0)
		ret = refusal_read(&run, &output, err);
	if (ret) {
		free(output.text);
		return ret;
	}
	*ret_output = output;
	return 0;
}

/* Asks which version to speak: the highest that both know. */
static int version_ask(const char *file, enum cni_version *ret_version, struct cni_error *err)
{
	struct output output = {};
	cJSON *question = cJSON_CreateObject(), *answer;
	int ret;

	cJSON_AddStringToObject(question, "cniVersion", version_text(CNI_LATEST));
	ret = command_run(file, "VERSION", question, &output, err);
	cJSON_Delete(question);
	if (ret)
		return ret;
	answer = cJSON_ParseWithLength(output.text, output.len);
	if (!version_highest(cJSON_GetObjectItemCaseSensitive(answer, "supportedVersions"),
			     ret_version))
		ret = cni_fail(err, CNI_INCOMPATIBLE_VERSION,
			       "IPAM plugin %.200s supports none of our versions", file);
	cJSON_Delete(answer);
	free(output.text);
	return ret;
}

/* The version in which a command first appeared. */
static enum cni_version command_since(const char *command)
{
	if (strcmp(command, "CHECK") == 0)
		return CNI_0_4_0;
	if (strcmp(command, "GC") == 0 || strcmp(command, "STATUS") == 0)
		return CNI_1_1_0;
	return CNI_0_1_0;
}

/* Runs the command in another version than the configuration's; prevResult follows. */
static int command_run_as(const struct netconf *conf, const char *file, const char *command,
			  enum cni_version version, struct output *ret_output,
			  struct cni_error *err)
{
	cJSON *input = cJSON_Duplicate(conf->json, true);
	struct cni_error ignored = {};
	cJSON *previous;
	int ret;

	cJSON_ReplaceItemInObjectCaseSensitive(input, "cniVersion",
					       cJSON_CreateString(version_text(version)));
	if (conf->prev_result && result_parse(conf->prev_result, "prevResult", CNI_INVALID_CONFIG,
					      &previous, &ignored) == 0) {
		cJSON_ReplaceItemInObjectCaseSensitive(input, "prevResult",
						       result_render(previous, version));
		cJSON_Delete(previous);
	}
	ret = command_run(file, command, input, ret_output, err);
	cJSON_Delete(input);
	return ret;
}

/* Runs a command in the best version.  An output without text: the plugin has no such command. */
static int command_negotiate(const struct netconf *conf, const struct cni_environ *env,
			     const char *command, struct output *ret_output, struct cni_error *err)
{
	auto_free char *file = plugin_find(env->path, conf->ipam_type);
	enum cni_version since = command_since(command), version;
	int ret;

	*ret_output = (struct output){};
	if (!file)
		return cni_fail(err, CNI_INVALID_CONFIG,
				"ipam.type: no plugin %.60s in CNI_PATH \"%.300s\"",
				conf->ipam_type, env->path);
	/* Commands of 1.1.0 confuse older plugins: ask first.  For the others asking costs a
	 * process each time, and mostly for nothing. */
	if (since < CNI_1_1_0) {
		ret = command_run(file, command, conf->json, ret_output, err);
		if (ret != CNI_INCOMPATIBLE_VERSION)
			return ret;
	}
	ret = version_ask(file, &version, err);
	if (ret || version < since)
		return ret;
	return command_run_as(conf, file, command, version, ret_output, err);
}

int delegate_add(const struct netconf *conf, const struct cni_environ *env, cJSON **ret_result,
		 struct cni_error *err)
{
	struct output output;
	char what[80];
	cJSON *json, *result;
	int ret = command_negotiate(conf, env, "ADD", &output, err);

	if (ret)
		return ret;
	snprintf(what, sizeof(what), "result of IPAM plugin %.40s", conf->ipam_type);
	json = cJSON_ParseWithLength(output.text, output.len);
	free(output.text);
	ret = result_parse(json, what, CNI_IPAM_FAILED, &result, err);
	cJSON_Delete(json);
	if (ret)
		return ret;
	if (cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(result, "ips")) == 0) {
		cJSON_Delete(result);
		return cni_fail(err, CNI_IPAM_FAILED, "%s: no address in it", what);
	}
	*ret_result = result;
	return 0;
}

int delegate_run(const struct netconf *conf, const struct cni_environ *env, const char *command,
		 struct cni_error *err)
{
	struct output output;
	int ret = command_negotiate(conf, env, command, &output, err);

	if (!ret)
		free(output.text);
	return ret;
}
