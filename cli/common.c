/* SPDX-License-Identifier: Apache-2.0 */
/* What commands share: calls to the agent, names, files. */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "lib/auto.h"
#include "lib/http.h"
#include "lib/inet.h"
#include "policy/objects/name.h"

#define CALL_TIMEOUT_MS 10000
#define FILE_MAX        (64UL << 20)

/* The agent's own words for a failure: {"error": TEXT}. */
static int answer_failure(const struct http_response *response, const cJSON *json,
			  struct errmsg *err)
{
	const cJSON *text = cJSON_GetObjectItemCaseSensitive(json, "error");
	int code = response->status == 404 ? -ENOENT : -EBADMSG;

	if (cJSON_IsString(text))
		return fail_plain(err, code, "%s", text->valuestring);
	return fail_plain(err, code, "the agent answered with status %d", response->status);
}

int cli_call(const struct arguments *args, const char *method, const char *path, const char *body,
	     cJSON **ret_json, struct errmsg *err)
{
	struct http_response response = { 0 };
	cJSON *json;
	int ret;

	ret = http_call(args->socket, method, path, body, -1, CALL_TIMEOUT_MS, &response, err);
	if (ret == -ENOENT || ret == -ECONNREFUSED)
		return fail_plain(err, ret, "no agent answers on %s: is tendrild running?",
				  args->socket);
	if (ret)
		return ret;
	json = cJSON_ParseWithLength(response.body, response.body_len);
	if (response.status >= 400)
		ret = answer_failure(&response, json, err);
	else if (!json)
		ret = fail_plain(err, -EBADMSG, "the agent's answer is not JSON");
	http_response_done(&response);
	if (ret || !ret_json) {
		cJSON_Delete(json);
		return ret;
	}
	*ret_json = json;
	return 0;
}

const cJSON *cli_member(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

const char *cli_text(const cJSON *object, const char *name, const char *absent)
{
	const char *value = cJSON_GetStringValue(cli_member(object, name));

	return value ? value : absent;
}

int cli_split_name(const char *text, char *ret_namespace, char *ret_name, size_t size,
		   struct errmsg *err)
{
	const char *slash = strchr(text, '/');
	const char *name = slash ? slash + 1 : text;
	size_t len = slash ? (size_t)(slash - text) : strlen("default");

	if (len >= size || strlen(name) >= size)
		return misused(err, "%s: must be NAMESPACE/NAME", text);
	memcpy(ret_namespace, slash ? text : "default", len);
	ret_namespace[len] = '\0';
	snprintf(ret_name, size, "%s", name);
	/* The widest of names, without any character that means something in a path. */
	if (name_check_pod(ret_namespace) || name_check_pod(ret_name))
		return misused(err, "%s: must be NAMESPACE/NAME", text);
	return 0;
}

int cli_split_policy(const char *text, enum object_kind *ret_kind, char *ret_namespace,
		     char *ret_name, size_t size, struct errmsg *err)
{
	const char *name = text + 1;

	if (*text != '/') {
		*ret_kind = OBJECT_NETWORK_POLICY;
		return cli_split_name(text, ret_namespace, ret_name, size, err);
	}
	if (strlen(name) >= size || name_check_dns_subdomain(name))
		return misused(err, "%s: must be NAMESPACE/NAME or /NAME", text);
	*ret_kind = OBJECT_CLUSTER_POLICY;
	*ret_namespace = '\0';
	memcpy(ret_name, name, strlen(name) + 1);
	return 0;
}

const char *cli_file_name(const char *path)
{
	return strcmp(path, "-") == 0 ? "stdin" : path;
}

int cli_read_file(const char *path, char **ret_text, size_t *ret_len, struct errmsg *err)
{
	auto_close int fd =
		strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
	auto_free char *text = NULL;
	const char *name = cli_file_name(path);
	size_t len = 0, size = 0;

	if (fd < 0)
		return fail(err, -errno, "%s", name);
	for (;;) {
		ssize_t n;

		if (size - len < 4096) {
			char *grown = realloc(text, size + size / 2 + 65536);

			if (!grown)
				return fail(err, -ENOMEM, "%s", name);
			text = grown;
			size += size / 2 + 65536;
		}
		n = read(fd, text + len, size - len - 1);
		if (n < 0)
			return fail(err, -errno, "%s", name);
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > FILE_MAX)
			return fail_plain(err, -EFBIG, "%s: larger than 64 MiB", name);
	}
	text[len] = '\0';
	*ret_text = take_ptr(text);
	*ret_len = len;
	return 0;
}

static int is_object_file(const struct dirent *entry)
{
	static const char *const endings[] = { ".json", ".yaml", ".yml" };
	size_t len = strlen(entry->d_name);

	for (size_t i = 0; entry->d_name[0] != '.' && i < ARRAY_SIZE(endings); i++) {
		size_t ending = strlen(endings[i]);

		if (len > ending && strcmp(entry->d_name + len - ending, endings[i]) == 0)
			return 1;
	}
	return 0;
}

int cli_each_file(const char *path, int (*each)(const char *file, void *arg, struct errmsg *err),
		  void *arg, struct errmsg *err)
{
	const char *slash = *path && path[strlen(path) - 1] == '/' ? "" : "/";
	struct dirent **entries;
	struct stat status;
	int count, ret = 0;

	if (strcmp(path, "-") == 0)
		return each(path, arg, err);
	if (stat(path, &status))
		return fail(err, -errno, "%s", path);
	if (!S_ISDIR(status.st_mode))
		return each(path, arg, err);
	count = scandir(path, &entries, is_object_file, alphasort);
	if (count < 0)
		return fail(err, -errno, "%s", path);
	if (count == 0)
		ret = fail_plain(err, -ENODATA,
				 "%s: no .json, .yaml or .yml files in this directory", path);
	for (int i = 0; i < count; i++) {
		char file[4096];

		if (!ret && (size_t)snprintf(file, sizeof(file), "%s%s%s", path, slash,
					     entries[i]->d_name) >= sizeof(file))
			ret = fail(err, -ENAMETOOLONG, "%s", path);
		if (!ret)
			ret = each(file, arg, err);
		free(entries[i]);
	}
	free(entries);
	return ret;
}

int cli_port_parse(const char *text, uint16_t *ret_port, uint8_t *ret_proto, struct errmsg *err)
{
	const char *slash = strchr(text, '/');
	char number[16];
	uint64_t port;
	size_t len = slash ? (size_t)(slash - text) : strlen(text);

	if (len >= sizeof(number))
		return misused(err, "port %s: must be N/PROTO, as 80/TCP", text);
	memcpy(number, text, len);
	number[len] = '\0';
	*ret_proto = IPPROTO_TCP;
	if (number_parse(number, 1, 65535, &port) || (slash && proto_parse(slash + 1, ret_proto)))
		return misused(err, "port %s: must be N/PROTO, as 80/TCP", text);
	if (!proto_has_ports(*ret_proto))
		return misused(err, "port %s: only TCP, UDP and SCTP have ports", text);
	*ret_port = (uint16_t)port;
	return 0;
}

int cli_write_file(const char *path, const char *text, size_t len, struct errmsg *err)
{
	auto_fclose FILE *file =
		strcmp(path, "-") == 0 ? fdopen(dup(STDOUT_FILENO), "w") : fopen(path, "we");

	if (!file)
		return fail(err, -errno, "%s", path);
	if (fwrite(text, 1, len, file) < len || fflush(file))
		return fail(err, -errno, "%s", path);
	return 0;
}
