/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/auto.h"

extern char **environ;

bool cluster_is_named(const char *path)
{
	return strncmp(path, CLUSTER_PREFIX, strlen(CLUSTER_PREFIX)) == 0;
}

/* tendril-kube beside this program, as it was built, or in sbin, as it is installed. */
static int client_find(char *buf, size_t size, struct errmsg *err)
{
	static const char *const places[] = { "tendril-kube", "../sbin/tendril-kube" };
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (len < 0)
		return fail(err, -errno, "/proc/self/exe");
	self[len] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		slash[1] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(buf, size, "%s%s", self, places[i]);
		if (access(buf, X_OK) == 0)
			return 0;
	}
	return fail_plain(err, -ENOENT, "the program tendril-kube is not installed");
}

int cluster_open(const char *path, int *ret_fd, int *ret_pid, struct errmsg *err)
{
	char program[PATH_MAX + 32];
	char *argv[] = { program,
			 (char *)"--print",
			 (char *)"--log-level",
			 (char *)"warn",
			 (char *)"--kubeconfig",
			 (char *)path + strlen(CLUSTER_PREFIX),
			 NULL };
	posix_spawn_file_actions_t actions;
	int fds[2], ret;

	if (client_find(program, sizeof(program), err) < 0)
		return err->code;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return fail(err, -errno, "pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	ret = posix_spawn(ret_pid, program, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (ret) {
		close(fds[0]);
		return fail(err, -ret, "%s", program);
	}
	*ret_fd = fds[0];
	return 0;
}

int cluster_close(int pid, struct errmsg *err)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return fail(err, -errno, "tendril-kube");
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return fail_plain(err, -EIO, "the objects of the cluster could not be read");
}

int cluster_argument(struct arguments *args, char *buf, size_t size, struct errmsg *err)
{
	const char *file = args->kubeconfig, *home = getenv("HOME");
	char usual[PATH_MAX];

	if (!file)
		file = getenv("KUBECONFIG");
	if (!file || !*file) {
		snprintf(usual, sizeof(usual), "%s/.kube/config", home ? home : "");
		file = usual;
	}
	if (strlen(file) + sizeof(CLUSTER_PREFIX) > size)
		return misused(err, "the name of the kubeconfig file is too long");
	if (args->file_count == CLI_FILES_MAX)
		return misused(err, "more than %d files", CLI_FILES_MAX);
	snprintf(buf, size, CLUSTER_PREFIX "%s", file);
	/* First: what somebody wrote into the other files counts. */
	memmove(&args->files[1], &args->files[0], args->file_count * sizeof(args->files[0]));
	args->files[0] = buf;
	args->file_count++;
	return 0;
}
