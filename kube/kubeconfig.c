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
#include "lib/json.h"

#define KUBECONFIG_MAX (1 << 20)

/* ---- fields ---------------------------------------------------------------------------------- */

static int text_get(const struct json_node *parent, const char *key, char **ret, struct errmsg *err)
{
	const struct json_node node = json_member(parent, key);
	const char *text = NULL;

	if (json_string_opt(&node, &text, err) < 0)
		return err->code;
	if (text && *text)
		*ret = xstrdup(text);
	return 0;
}

/* A file's name is relative to the folder of the kubeconfig. */
static int path_get(const struct json_node *parent, const char *key, const char *dir, char **ret,
		    struct errmsg *err)
{
	auto_free char *text = NULL;

	if (text_get(parent, key, &text, err) < 0)
		return err->code;
	if (text)
		*ret = *text == '/' ? xstrdup(text) : xasprintf("%s/%s", dir, text);
	return 0;
}

static int blob_get(const struct json_node *parent, const char *key, struct blob *ret,
		    struct errmsg *err)
{
	const struct json_node node = json_member(parent, key);
	auto_free unsigned char *data = NULL;
	const char *text = NULL;
	size_t len;
	int size;

	if (json_string_opt(&node, &text, err) < 0)
		return err->code;
	if (!text || !*text)
		return 0;
	len = strlen(text);
	data = xmalloc(len / 4 * 3 + 3);
	size = len % 4 ? -1 : EVP_DecodeBlock(data, (const unsigned char *)text, (int)len);
	if (size < 0)
		return json_fail(&node, err, "not base64");
	/* EVP_DecodeBlock() counts the padding, too. */
	for (size_t i = len; i > 0 && text[i - 1] == '='; i--)
		size--;
	*ret = (struct blob){ .data = take_ptr(data), .len = (size_t)size };
	return 0;
}

/* The entry of a list "clusters", "contexts" or "users" that has the name; its member of that kind.
 */
static int entry_find(const struct json_node *root, const char *list, const char *member,
		      const char *name, const cJSON **ret, struct errmsg *err)
{
	const struct json_node items = json_member(root, list);
	const cJSON *item;
	size_t count;

	if (json_array(&items, &count, err) < 0)
		return err->code;
	cJSON_ArrayForEach (item, items.value) {
		const char *own =
			cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "name"));

		if (!own || strcmp(own, name) != 0)
			continue;
		*ret = cJSON_GetObjectItemCaseSensitive(item, member);
		if (!cJSON_IsObject(*ret))
			return json_fail(&items, err, "\"%s\" has no %s", name, member);
		return 0;
	}
	return json_fail(&items, err, "there is no \"%s\"", name);
}

/* ---- the parts of a kubeconfig --------------------------------------------------------------- */

static int cluster_read(const struct json_node *cluster, const char *dir, struct kubeconfig *config,
			struct errmsg *err)
{
	const struct json_node server = json_member(cluster, "server");
	const struct json_node insecure = json_member(cluster, "insecure-skip-tls-verify");
	const char *url;

	if (json_string(&server, &url, err) < 0)
		return err->code;
	if (kubeconfig_add_server(config, url, err) < 0)
		return wrap(err, "server");
	if (json_bool_opt(&insecure, &config->insecure, err) < 0 ||
	    text_get(cluster, "proxy-url", &config->proxy_url, err) < 0 ||
	    text_get(cluster, "tls-server-name", &config->tls_server_name, err) < 0 ||
	    path_get(cluster, "certificate-authority", dir, &config->ca_file, err) < 0 ||
	    blob_get(cluster, "certificate-authority-data", &config->ca, err) < 0)
		return err->code;
	return 0;
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

static int user_read(const struct json_node *user, const char *dir, struct kubeconfig *config,
		     struct errmsg *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused_logins); i++) {
		const struct json_node node = json_member(user, refused_logins[i].field);

		if (json_present(&node))
			return json_fail(&node, err, "%s", refused_logins[i].hint);
	}
	if (text_get(user, "token", &config->token, err) < 0 ||
	    path_get(user, "tokenFile", dir, &config->token_file, err) < 0 ||
	    path_get(user, "client-certificate", dir, &config->cert_file, err) < 0 ||
	    blob_get(user, "client-certificate-data", &config->cert, err) < 0 ||
	    path_get(user, "client-key", dir, &config->key_file, err) < 0 ||
	    blob_get(user, "client-key-data", &config->key, err) < 0)
		return err->code;
	return 0;
}

static int document_read(const cJSON *document, const char *dir, struct kubeconfig *config,
			 struct errmsg *err)
{
	const struct json_node root = json_root(document);
	const struct json_node current = json_member(&root, "current-context");
	const cJSON *context, *cluster, *user;
	const char *context_name, *cluster_name, *user_name = NULL;
	struct json_node node, field;

	if (json_string(&current, &context_name, err) < 0 ||
	    entry_find(&root, "contexts", "context", context_name, &context, err) < 0)
		return err->code;
	/* NOLINTNEXTLINE(*CallAndMessage): set, as no error was returned */
	node = json_root(context);
	field = json_member(&node, "cluster");
	if (json_string(&field, &cluster_name, err) < 0)
		return wrap(err, "context \"%s\"", context_name);
	field = json_member(&node, "user");
	if (json_string_opt(&field, &user_name, err) < 0)
		return wrap(err, "context \"%s\"", context_name);
	if (entry_find(&root, "clusters", "cluster", cluster_name, &cluster, err) < 0)
		return err->code;
	/* NOLINTNEXTLINE(*CallAndMessage): set, as no error was returned */
	node = json_root(cluster);
	if (cluster_read(&node, dir, config, err) < 0)
		return wrap(err, "cluster \"%s\"", cluster_name);
	if (!user_name)
		return 0;
	if (entry_find(&root, "users", "user", user_name, &user, err) < 0)
		return err->code;
	/* NOLINTNEXTLINE(*CallAndMessage): set, as no error was returned */
	node = json_root(user);
	if (user_read(&node, dir, config, err) < 0)
		return wrap(err, "user \"%s\"", user_name);
	return 0;
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
