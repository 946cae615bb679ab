/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "cni"
#include "agent/cni_files.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/auto.h"
#include "lib/file.h"

#define PLUGIN_SOURCE    "tendril-cni" /* beside this program */
#define PLUGIN_MAX_BYTES (16 << 20)

#define CONFLIST_HEAD                           \
	"{\n"                                   \
	"    \"cniVersion\": \"1.0.0\",\n"      \
	"    \"name\": \"tendril\",\n"          \
	"    \"plugins\": [\n"                  \
	"        {\"type\": \"" CNI_PLUGIN_NAME \
	"\", \"capabilities\": {\"ips\": true, \"mac\": true}}"
#define CONFLIST_PORTMAP \
	",\n        {\"type\": \"portmap\", \"capabilities\": {\"portMappings\": true}}"
#define CONFLIST_TAIL "\n    ]\n}\n"

const char *cni_conflist(bool with_portmap)
{
	return with_portmap ? CONFLIST_HEAD CONFLIST_PORTMAP CONFLIST_TAIL
			    : CONFLIST_HEAD CONFLIST_TAIL;
}

static int file_replace(const char *path, const char *text, size_t len, mode_t mode,
			struct errmsg *err)
{
	auto_free char *old = NULL;
	size_t old_len;

	if (file_read(path, PLUGIN_MAX_BYTES, &old, &old_len, NULL) == 0 && old_len == len &&
	    memcmp(old, text, len) == 0)
		return 0;
	if (file_write(path, text, len, mode, FILE_DURABLE, err) < 0)
		return err->code;
	log_info("wrote %s", path);
	return 0;
}

static int plugin_put(const char *dir, struct errmsg *err)
{
	char source[PATH_MAX], target[PATH_MAX];
	auto_free char *program = NULL;
	ssize_t len = readlink("/proc/self/exe", source, sizeof(source) - sizeof(PLUGIN_SOURCE));
	char *slash;
	size_t size;

	if (len < 0)
		return fail(err, -errno, "/proc/self/exe");
	source[len] = '\0';
	slash = strrchr(source, '/');
	memcpy(slash ? slash + 1 : source, PLUGIN_SOURCE, sizeof(PLUGIN_SOURCE));
	snprintf(target, sizeof(target), "%s/" CNI_PLUGIN_NAME, dir);
	if (file_read(source, PLUGIN_MAX_BYTES, &program, &size, err) < 0)
		return err->code;
	return file_replace(target, program, size, 0755, err);
}

/* A chain whose second plugin is missing would fail every pod. */
static bool has_portmap(const char *dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/portmap", dir);
	return *dir && access(path, X_OK) == 0;
}

int cni_files_put(const struct config *config, struct errmsg *err)
{
	char path[PATH_MAX];
	const char *text;

	if (*config->cni_bin_dir && plugin_put(config->cni_bin_dir, err) < 0)
		return wrap(err, "CNI plugin");
	if (!*config->cni_conf_dir)
		return 0;
	text = cni_conflist(has_portmap(config->cni_bin_dir));
	snprintf(path, sizeof(path), "%s/" CNI_CONFLIST_NAME, config->cni_conf_dir);
	if (file_replace(path, text, strlen(text), 0644, err) < 0)
		return wrap(err, "CNI configuration");
	return 0;
}

int cni_files_remove(const struct config *config, struct errmsg *err)
{
	const struct {
		const char *dir, *name;
	} files[] = { { config->cni_conf_dir, CNI_CONFLIST_NAME },
		      { config->cni_bin_dir, CNI_PLUGIN_NAME } };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/%s", files[i].dir, files[i].name);
		if (*files[i].dir && unlink(path) < 0 && errno != ENOENT)
			return fail(err, -errno, "remove %s", path);
	}
	return 0;
}
