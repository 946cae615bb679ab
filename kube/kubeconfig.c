/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/kubeconfig.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/document.h"
#include "lib/file.h"
#include "lib/reader.h"

#define KUBECONFIG_MAX (1 << 20)

/* ---- fields ---------------------------------------------------------------------------------- */

static char *text_get(struct reader *reader, const struct json_node *parent, const char *key)
{
	const struct json_node node = json_member(parent, key);
	const char *text = read_string(reader, &node);

	return text && *text ? xstrdup(text) : NULL;
}

/* A file's name is relative to the folder of the kubeconfig. */
static char *path_get(struct reader *reader, const struct json_node *parent, const char *key,
		      const char *dir)
{
	char *text = text_get(reader, parent, key), *path;

	if (!text || *text == '/')
		return text;
	path = xasprintf("%s/%s", dir, text);
	free(text);
	return path;
}

static struct blob blob_get(struct reader *reader, const struct json_node *parent, const char *key)
{
	const struct json_node node = json_member(parent, key);
	const char *text = read_string(reader, &node);
	size_t len = text ? strlen(text) : 0;
	unsigned char *data;
	int size;

	if (len == 0)
		return (struct blob){ 0 };
	data = xmalloc(len / 4 * 3 + 3);
	size = len % 4 ? -1 : EVP_DecodeBlock(data, (const unsigned char *)text, (int)len);
	if (size < 0) {
		reader_error(reader, &node, "not base64");
		size = 0;
	}
	/* EVP_DecodeBlock() counts the padding, too. */
	for (size_t i = len; i > 0 && text[i - 1] == '=' && size > 0; i--)
		size--;
	return (struct blob){ .data = data, .len = (size_t)size };
}

/* The entry of a list "clusters", "contexts" or "users" that has the name; its member of that kind.
 */
static struct json_node entry_find(struct reader *reader, const struct json_node *root,
				   const char *list, const char *member, const char *name)
{
	const struct json_node items = json_member(root, list);
	const cJSON *item;

	if (read_required(reader, &items))
		read_is_array(reader, &items);
	cJSON_ArrayForEach (item, items.value) {
		const char *own =
			cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "name"));
		const cJSON *found;

		if (!own || strcmp(own, name) != 0)
			continue;
		found = cJSON_GetObjectItemCaseSensitive(item, member);
		if (!cJSON_IsObject(found))
			reader_error(reader, &items, "\"%s\" has no %s", name, member);
		return json_root(found);
	}
	reader_error(reader, &items, "there is no \"%s\"", name);
	return json_root(NULL);
}

/* ---- the parts of a kubeconfig --------------------------------------------------------------- */

static void cluster_read(struct reader *reader, const struct json_node *cluster, const char *dir,
			 struct kubeconfig *config)
{
	const struct json_node server = json_member(cluster, "server");
	const struct json_node insecure = json_member(cluster, "insecure-skip-tls-verify");
	const char *url = read_required_string(reader, &server);
	struct errmsg fault;

	if (kubeconfig_add_server(config, url, &fault) < 0)
		reader_error(reader, &server, "%s", fault.text);
	config->insecure = read_bool(reader, &insecure, false);
	config->proxy_url = text_get(reader, cluster, "proxy-url");
	config->tls_server_name = text_get(reader, cluster, "tls-server-name");
	config->ca_file = path_get(reader, cluster, "certificate-authority", dir);
	config->ca = blob_get(reader, cluster, "certificate-authority-data");
}

/* Ways to log in that would be passed over in silence otherwise. */
static const struct {
	const char *field;
	const char *hint;
} refused_logins[] = {
	{ "exec",
	  "a program cannot be run here: use a token, a token file or a client certificate" },
	{ "auth-provider",
	  "Kubernetes took these out in 1.26: use a token or a client certificate" },
	{ "username",
	  "Kubernetes took passwords out in 1.19: use a token or a client certificate" },
	{ "as", "impersonation is not done here: give this user the rights instead" },
};

static void user_read(struct reader *reader, const struct json_node *user, const char *dir,
		      struct kubeconfig *config)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused_logins); i++) {
		const struct json_node node = json_member(user, refused_logins[i].field);

		if (json_present(&node))
			reader_error(reader, &node, "%s", refused_logins[i].hint);
	}
	config->token = text_get(reader, user, "token");
	config->token_file = path_get(reader, user, "tokenFile", dir);
	config->cert_file = path_get(reader, user, "client-certificate", dir);
	config->cert = blob_get(reader, user, "client-certificate-data");
	config->key_file = path_get(reader, user, "client-key", dir);
	config->key = blob_get(reader, user, "client-key-data");
}

static int document_read(const cJSON *document, const char *dir, struct kubeconfig *config,
			 struct errmsg *err)
{
	const struct json_node root = json_root(document);
	const struct json_node current = json_member(&root, "current-context");
	struct reader reader = { .err = err, .yaml = true };
	const char *context_name = read_required_string(&reader, &current);
	const struct json_node context =
		entry_find(&reader, &root, "contexts", "context", context_name);
	const struct json_node cluster_field = json_member(&context, "cluster");
	const struct json_node user_field = json_member(&context, "user");
	const char *cluster_name, *user_name;
	struct json_node node;

	if (reader.ret)
		return reader.ret;
	cluster_name = read_required_string(&reader, &cluster_field);
	user_name = read_string(&reader, &user_field);
	if (reader.ret)
		return wrap(err, "context \"%s\"", context_name);
	node = entry_find(&reader, &root, "clusters", "cluster", cluster_name);
	if (reader.ret)
		return reader.ret;
	cluster_read(&reader, &node, dir, config);
	if (reader.ret)
		return wrap(err, "cluster \"%s\"", cluster_name);
	if (!user_name)
		return 0;
	node = entry_find(&reader, &root, "users", "user", user_name);
	if (reader.ret)
		return reader.ret;
	user_read(&reader, &node, dir, config);
	return reader.ret ? wrap(err, "user \"%s\"", user_name) : 0;
}

int kubeconfig_read(const char *path, struct kubeconfig *ret, struct errmsg *err)
{
	struct kubeconfig config = { 0 };
	auto_json cJSON *documents = NULL;
	struct text_error problem = { 0 };
	auto_free char *text = NULL;
	char dir[PATH_MAX];
	size_t len;

	if (file_read(path, KUBECONFIG_MAX, &text, &len, err) < 0)
		return err->code;
	documents = documents_parse(text, len, &problem);
	if (!documents)
		return fail_plain(err, -EINVAL, "%s:%zu:%zu: %s", path, problem.line,
				  problem.column, problem.text);
	snprintf(dir, sizeof(dir), "%s", path);
	if (document_read(documents->child, dirname(dir), &config, err) < 0) {
		kubeconfig_done(&config);
		return wrap(err, "%s", path);
	}
	*ret = config;
	return 0;
}

/* ---- in a pod -------------------------------------------------------------------------------- */

int kubeconfig_in_cluster(const char *dir, struct kubeconfig *ret, struct errmsg *err)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");
	const char *port = getenv("KUBERNETES_SERVICE_PORT");
	struct kubeconfig config = { 0 };
	char url[300];

	if (!host || !port)
		return fail_plain(
			err, -ENOENT,
			"KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: "
			"this is no pod; name a kubeconfig file");
	snprintf(url, sizeof(url), strchr(host, ':') ? "https://[%s]:%s" : "https://%s:%s", host,
		 port);
	if (kubeconfig_add_server(&config, url, err) < 0)
		return err->code;
	config.ca_file = xasprintf("%s/ca.crt", dir);
	config.token_file = xasprintf("%s/token", dir);
	*ret = config;
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

int kubeconfig_add_server(struct kubeconfig *config, const char *url, struct errmsg *err)
{
	size_t len = strlen(url);

	if (strncmp(url, "https://", 8) != 0 || len <= 8)
		return fail_plain(err, -EINVAL, "\"%s\" is not https://HOST[:PORT]", url);
	if (config->server_count == KUBE_SERVERS_MAX)
		return fail_plain(err, -E2BIG, "more than %d servers", KUBE_SERVERS_MAX);
	while (url[len - 1] == '/')
		len--;
	config->servers[config->server_count++] = xstrndup(url, len);
	return 0;
}

void kubeconfig_drop_servers(struct kubeconfig *config)
{
	while (config->server_count > 0)
		free(config->servers[--config->server_count]);
}

static void blob_done(struct blob *blob)
{
	if (blob->data)
		OPENSSL_cleanse(blob->data, blob->len);
	free(blob->data);
}

void kubeconfig_done(struct kubeconfig *config)
{
	kubeconfig_drop_servers(config);
	free(config->proxy_url);
	free(config->tls_server_name);
	free(config->ca_file);
	blob_done(&config->ca);
	free(config->cert_file);
	blob_done(&config->cert);
	free(config->key_file);
	blob_done(&config->key);
	free(config->token);
	free(config->token_file);
	*config = (struct kubeconfig){ 0 };
}
