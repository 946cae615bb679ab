/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/spool.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/lib/auto.h"

#define SPOOL_DIR "deleted"

static void spool_name(const struct cni_environ *env, char name[NAME_MAX])
{
	snprintf(name, NAME_MAX, "%s-%s.json", env->container_id, env->ifname);
}

/* Opens the spool folder; -1 with errno. */
static int spool_open(const char *socket, bool create)
{
	const char *slash = strrchr(socket, '/');
	auto_free char *run_dir = strndup(socket, slash == socket ? 1 : (size_t)(slash - socket));
	auto_close int run_fd = open(run_dir, O_DIRECTORY | O_PATH | O_CLOEXEC);

	if (run_fd < 0)
		return -1;
	if (create && mkdirat(run_fd, SPOOL_DIR, 0700) < 0 && errno != EEXIST)
		return -1;
	return openat(run_fd, SPOOL_DIR, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

static int file_write(int dir_fd, const char *name, const char *text)
{
	auto_close int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t len = strlen(text);

	if (fd < 0)
		return -errno;
	return write(fd, text, len) == (ssize_t)len ? 0 : -EIO;
}

/* By rename, so that the agent never reads half a file.  No fsync: a machine that lost power has
 * lost the container's namespace too. */
int spool_put(const char *socket, const struct cni_environ *env, bool *ret_left,
	      struct cni_error *err)
{
	char name[NAME_MAX], temporary[NAME_MAX];
	auto_close int dir_fd = spool_open(socket, true);
	auto_free char *text = NULL;
	cJSON *json;
	int error;

	*ret_left = dir_fd >= 0;
	if (dir_fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (dir_fd < 0)
		return cni_fail(err, CNI_IO_FAILURE, "leave the deletion beside %s: %s", socket,
				strerror(errno));
	json = cJSON_CreateObject();
	cJSON_AddStringToObject(json, "containerId", env->container_id);
	cJSON_AddStringToObject(json, "ifname", env->ifname);
	text = cJSON_PrintUnformatted(json);
	cJSON_Delete(json);
	spool_name(env, name);
	snprintf(temporary, sizeof(temporary), ".%d.tmp", getpid());
	error = file_write(dir_fd, temporary, text);
	if (!error && renameat(dir_fd, temporary, dir_fd, name) < 0)
		error = -errno;
	if (!error)
		return 0;
	unlinkat(dir_fd, temporary, 0);
	*ret_left = false;
	return cni_fail(err, CNI_IO_FAILURE, "leave the deletion beside %s: %s", socket,
			strerror(-error));
}

void spool_remove(const char *socket, const struct cni_environ *env)
{
	char name[NAME_MAX];
	auto_close int dir_fd = spool_open(socket, false);

	if (dir_fd < 0)
		return;
	spool_name(env, name);
	unlinkat(dir_fd, name, 0);
}
