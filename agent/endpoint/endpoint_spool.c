/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RUN_DIR/deleted: what the plugin should have deleted while no agent answered.  A file is read and
 * removed, whatever it contains: one that is not understood is logged, and does no harm again.
 */
#include "agent/endpoint/endpoint_internal.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#define LOG_MODULE "endpoint"
#include "lib/log.h"

#define SPOOL_FILE_MAX 4096

/* An empty file, which a full disk still took: its name is CONTAINERID-IFNAME.json, where both
 * parts may contain a "-". */
static int spool_name_consume(struct endpoints *endpoints, const char *name, struct errmsg *err)
{
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		const struct endpoint *endpoint = endpoints->slots[slot];
		char expected[NAME_MAX + 1];
		auto_json struct cJSON *json = NULL;
		struct endpoint_error error = {};
		int ret;

		if (!endpoint)
			continue;
		snprintf(expected, sizeof(expected), "%s-%s.json", endpoint->container_id,
			 endpoint->ifname);
		if (strcmp(expected, name) != 0)
			continue;
		json = cJSON_CreateObject();
		if (!cJSON_AddStringToObject(json, "containerId", endpoint->container_id) ||
		    !cJSON_AddStringToObject(json, "ifname", endpoint->ifname))
			return fail(err, -ENOMEM, "delete");
		ret = endpoints_del(endpoints, json, &error);
		if (ret < 0)
			*err = error.text;
		return ret;
	}
	return 0; /* it is gone already */
}

static int spool_file_consume(struct endpoints *endpoints, const char *path, struct errmsg *err)
{
	struct endpoint_error error = {};
	auto_json struct cJSON *json = NULL;
	auto_free char *text = NULL;
	size_t len = 0;
	int ret = file_read(path, SPOOL_FILE_MAX, &text, &len, err);

	if (ret == -ENOENT)
		return 0; /* the plugin took it back */
	if (ret == 0 && len == 0)
		return spool_name_consume(endpoints, strrchr(path, '/') + 1, err);
	if (ret == 0)
		ret = json_parse(text, len, &json, err);
	if (ret < 0)
		return ret;
	ret = endpoints_del(endpoints, json, &error);
	if (ret < 0)
		*err = error.text;
	return ret;
}

void spool_consume(struct endpoints *endpoints)
{
	DIR *dir = opendir(endpoints->spool_dir);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);
		struct errmsg err = {};
		char path[600];
		int ret;

		/* Other names are files that are being written. */
		if (entry->d_name[0] == '.' || len < 5 ||
		    strcmp(entry->d_name + len - 5, ".json") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", endpoints->spool_dir, entry->d_name);
		ret = spool_file_consume(endpoints, path, &err);
		if (ret < 0)
			log_warn("%s: %s", path, err.text);
		/* If the state file could not be written, the deletion has still to be done. */
		if (ret == 0 || ret == -EINVAL || ret == -EBADMSG || ret == -EFBIG)
			unlink(path);
	}
	if (dir)
		closedir(dir);
}
