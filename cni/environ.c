/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/environ.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "lib/inet.h"

static const char *variable_get(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "";
}

/* Letters, digits, '_', '.' and '-', the first a letter or digit: container ids, pod names. */
static bool is_identifier(const char *text)
{
	if (!isalnum((unsigned char)text[0]))
		return false;
	for (; *text; text++) {
		if (!isalnum((unsigned char)*text) && !strchr("_.-", *text))
			return false;
	}
	return true;
}

static const char *ifname_fault(const char *ifname)
{
	if (strlen(ifname) >= CNI_IFNAME_SIZE)
		return "is longer than 15 characters";
	if (strcmp(ifname, ".") == 0 || strcmp(ifname, "..") == 0)
		return "is not an interface name";
	for (; *ifname; ifname++) {
		if (*ifname == '/' || *ifname == ':' || isspace((unsigned char)*ifname))
			return "contains '/', ':' or a space";
		if (iscntrl((unsigned char)*ifname))
			return "contains a control character";
	}
	return NULL;
}

static int missing_report(unsigned int needed, const struct cni_environ *env, struct cni_error *err)
{
	const struct {
		const char *name;
		bool missing;
	} variables[] = {
		{ "CNI_CONTAINERID", (needed & ENV_CONTAINER) && !*env->container_id },
		{ "CNI_NETNS", (needed & ENV_NETNS) && !*env->netns },
		{ "CNI_IFNAME", (needed & ENV_CONTAINER) && !*env->ifname },
	};
	char names[64] = "";
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
		if (variables[i].missing)
			len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s",
						len ? ", " : "", variables[i].name);
	}
	if (len == 0)
		return 0;
	return cni_fail(err, CNI_INVALID_ENVIRONMENT, "required variables are missing: %s", names);
}

int environ_load(unsigned int needed, struct cni_environ *ret_env, struct cni_error *err)
{
	struct cni_environ env = {
		.container_id = variable_get("CNI_CONTAINERID"),
		.ifname = variable_get("CNI_IFNAME"),
		.netns = variable_get("CNI_NETNS"),
		.args = variable_get("CNI_ARGS"),
		.path = variable_get("CNI_PATH"),
	};
	const char *fault;
	int ret;

	ret = missing_report(needed, &env, err);
	if (ret)
		return ret;
	if (!(needed & ENV_CONTAINER)) {
		*ret_env = env;
		return 0;
	}
	if (!is_identifier(env.container_id))
		return cni_fail(
			err, CNI_INVALID_ENVIRONMENT,
			"CNI_CONTAINERID: \"%.150s\" has other characters than letters, "
			"digits, '_', '.' and '-', or does not begin with a letter or digit",
			env.container_id);
	fault = ifname_fault(env.ifname);
	if (fault)
		return cni_fail(err, CNI_INVALID_ENVIRONMENT, "CNI_IFNAME: \"%.64s\" %s",
				env.ifname, fault);
	*ret_env = env;
	return 0;
}

static bool is_address(const char *text)
{
	struct addr addr;

	return addr_parse(text, &addr) == 0;
}

static bool is_mac(const char *text)
{
	uint8_t mac[6];

	return mac_parse(text, mac) == 0 && !(mac[0] & 1);
}

static const struct args_field {
	const char *key;
	size_t offset;
	size_t size;
	bool (*is_valid)(const char *text);
	const char *noun;
} args_fields[] = {
#define FIELD(member) offsetof(struct cni_args, member), sizeof(((struct cni_args *)0)->member)
	{ "K8S_POD_NAMESPACE", FIELD(pod_namespace), is_identifier, "name" },
	{ "K8S_POD_NAME", FIELD(pod_name), is_identifier, "name" },
	{ "K8S_POD_UID", FIELD(pod_uid), is_identifier, "uid" },
	{ "IP", FIELD(ip), is_address, "IP address" },
	{ "MAC", FIELD(mac), is_mac, "MAC address" },
#undef FIELD
};

static int args_set(const char *pair, size_t len, struct cni_args *args, struct cni_error *err)
{
	const char *equals = memchr(pair, '=', len);
	size_t key_len, value_len;

	if (!equals || equals == pair)
		return cni_fail(err, CNI_INVALID_ENVIRONMENT, "CNI_ARGS: \"%.*s\" is not KEY=VALUE",
				(int)(len < 100 ? len : 100), pair);
	key_len = (size_t)(equals - pair);
	value_len = len - key_len - 1;
	for (size_t i = 0; i < ARRAY_SIZE(args_fields); i++) {
		const struct args_field *field = &args_fields[i];
		char *value = (char *)args + field->offset;

		if (strlen(field->key) != key_len || memcmp(pair, field->key, key_len) != 0)
			continue;
		if (value_len >= field->size)
			return cni_fail(err, CNI_INVALID_ENVIRONMENT,
					"CNI_ARGS: %s is longer than %zu characters", field->key,
					field->size - 1);
		memcpy(value, equals + 1, value_len);
		value[value_len] = '\0';
		if (value_len > 0 && !field->is_valid(value))
			return cni_fail(err, CNI_INVALID_ENVIRONMENT,
					"CNI_ARGS: %s: \"%.100s\" is not a valid %s", field->key,
					value, field->noun);
	}
	return 0;
}

int args_parse(const char *text, struct cni_args *ret_args, struct cni_error *err)
{
	struct cni_args args = {};

	while (*text) {
		size_t len = strcspn(text, ";");
		int ret = len ? args_set(text, len, &args, err) : 0;

		if (ret)
			return ret;
		text += len + (text[len] == ';');
	}
	*ret_args = args;
	return 0;
}
