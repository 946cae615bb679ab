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

const char cni_conflist[] =
	"{\n"
	"    \"cniVersion\": \"1.0.0\",\n"
	"    \"name\": \"tendril\",\n"
	"    \"plugins\": [\n"
	"        {\"type\": \"" CNI_PLUGIN_NAME "\",\n"
	"         \"capabilities\": {\"ips\": true, \"mac\": true, \"portMappings\": true}}\n"
	"    ]\n"
	"}\n";

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

int cni_files_put(const struct config *config, struct errmsg *err)
{
	char path[PATH_MAX];

	if (*config->cni_bin_dir && plugin_put(config->cni_bin_dir, err) < 0)
		return wrap(err, "CNI plugin");
	if (!*config->cni_conf_dir)
		return 0;
	snprintf(path, sizeof(path), "%s/" CNI_CONFLIST_NAME, config->cni_conf_dir);
	if (file_replace(path, cni_conflist, strlen(cni_conflist), 0644, err) < 0)
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
