/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/spool.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/auto.h"
#include "lib/file.h"

/* "FOLDER/deleted", and the file in it. */
static void spool_paths(const char *socket, const struct cni_environ *env, char dir[PATH_MAX],
			char file[PATH_MAX])
{
	int len = (int)(strrchr(socket, '/') - socket);

	snprintf(dir, PATH_MAX, "%.*s/deleted", len, socket);
	snprintf(file, PATH_MAX, "%.*s/deleted/%s-%s.json", len, socket, env->container_id,
		 env->ifname);
}

/* Not durable: a machine that lost power has lost the container's namespace too. */
int spool_put(const char *socket, const struct cni_environ *env, bool *ret_left,
	      struct cni_error *err)
{
	char dir[PATH_MAX], file[PATH_MAX];
	auto_free char *text = NULL;
	struct errmsg fault;
	cJSON *json;
	int ret;

	*ret_left = false;
	spool_paths(socket, env, dir, file);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		if (errno == ENOENT || errno == ENOTDIR)
			return 0;
		return cni_fail(err, CNI_IO_FAILURE, "create %s: %s", dir, strerror(errno));
	}
	json = cJSON_CreateObject();
	cJSON_AddStringToObject(json, "containerId", env->container_id);
	cJSON_AddStringToObject(json, "ifname", env->ifname);
	text = cJSON_PrintUnformatted(json);
	cJSON_Delete(json);
	ret = file_write(file, text, strlen(text), 0600, FILE_FAST, &fault);
	/* Full: an empty file needs no room, and its name says enough. */
	if (ret == -ENOSPC || ret == -EDQUOT)
		ret = file_write(file, "", 0, 0600, FILE_FAST, &fault);
	if (ret < 0)
		return cni_fail(err, CNI_IO_FAILURE,
				"store the deletion for an agent that does not answer: %s; start "
				"the agent, or make it possible to write there",
				fault.text);
	*ret_left = true;
	return 0;
}

void spool_remove(const char *socket, const struct cni_environ *env)
{
	char dir[PATH_MAX], file[PATH_MAX];

	spool_paths(socket, env, dir, file);
	unlink(file);
}
