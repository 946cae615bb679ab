/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/netconf.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "agent/lib/inet.h"

#define MTU_MIN    68 /* of IPv4; what a family needs beyond that, the agent knows */
#define MTU_MAX    65535
#define LABELS_MAX 256

struct json_kind {
	cJSON_bool (*is)(const cJSON *item);
	const char *noun;
};

static const struct json_kind json_string = { cJSON_IsString, "a string" };
static const struct json_kind json_number = { cJSON_IsNumber, "a number" };
static const struct json_kind json_bool = { cJSON_IsBool, "true or false" };
static const struct json_kind json_array = { cJSON_IsArray, "a list" };
static const struct json_kind json_object = { cJSON_IsObject, "an object" };

/* Finds a member; NULL if it is absent or null.  path names it in the error. */
static int member_get(const cJSON *object, const char *key, const char *path,
		      const struct json_kind *kind, const cJSON **ret_item, struct cni_error *err)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	if (item && !cJSON_IsNull(item) && !kind->is(item))
		return cni_fail(err, CNI_INVALID_CONFIG, "%s: not %s", path, kind->noun);
	*ret_item = cJSON_IsNull(item) ? NULL : item;
	return 0;
}

static int string_get(const cJSON *object, const char *key, const char *path, const char **ret_text,
		      struct cni_error *err)
{
	const cJSON *item;
	int code = member_get(object, key, path, &json_string, &item, err);

	if (!code)
		*ret_text = item && item->valuestring[0] ? item->valuestring : NULL;
	return code;
}

static int strings_check(const cJSON *object, const char *key, const char *path,
			 struct cni_error *err)
{
	const cJSON *list, *item;
	size_t i = 0;
	int code = member_get(object, key, path, &json_array, &list, err);

	if (code)
		return code;
	cJSON_ArrayForEach (item, list) {
		if (!cJSON_IsString(item))
			return cni_fail(err, CNI_INVALID_CONFIG, "%s[%zu]: not a string", path, i);
		i++;
	}
	return 0;
}

/* ---- what every command needs ---- */

static int json_decode(const char *text, size_t len, cJSON **ret_json, struct cni_error *err)
{
	const char *end = text;
	cJSON *json = cJSON_ParseWithLengthOpts(text, len, &end, false);
	size_t offset = (size_t)(end - text);

	if (!json)
		return cni_fail(err, CNI_DECODING_FAILURE,
				"the network configuration is not JSON: byte %zu of %zu", offset,
				len);
	/* Anything but white space after the object means that two things got mixed up. */
	while (offset < len && memchr(" \t\r\n", text[offset], 4))
		offset++;
	if (offset < len || !cJSON_IsObject(json)) {
		cJSON_Delete(json);
		return cni_fail(err, CNI_DECODING_FAILURE,
				"the network configuration is not one JSON object: byte %zu of %zu",
				offset, len);
	}
	*ret_json = json;
	return 0;
}

/* cniVersion decides; without it the best of cniVersions; without both 0.1.0, as libcni has it. */
static int conf_version(struct netconf *conf, struct cni_error *err)
{
	const cJSON *versions;
	const char *text = NULL;
	int code;

	code = string_get(conf->json, "cniVersion", "cniVersion", &text, err)
		       ?: strings_check(conf->json, "cniVersions", "cniVersions", err);
	if (code)
		return code;
	versions = cJSON_GetObjectItemCaseSensitive(conf->json, "cniVersions");
	if (text) {
		if (version_parse(text, &conf->version))
			return 0;
		return cni_fail(err, CNI_INCOMPATIBLE_VERSION,
				"cniVersion: %.40s is not supported; 0.1.0 to %s are", text,
				version_text(CNI_LATEST));
	}
	if (cJSON_GetArraySize(versions) == 0)
		conf->version = CNI_0_1_0;
	else if (!version_highest(versions, &conf->version))
		return cni_fail(err, CNI_INCOMPATIBLE_VERSION,
				"cniVersions: none of them is supported; 0.1.0 to %s are",
				version_text(CNI_LATEST));
	/* A delegated plugin must answer in the version that we do. */
	cJSON_DeleteItemFromObjectCaseSensitive(conf->json, "cniVersion");
	cJSON_AddStringToObject(conf->json, "cniVersion", version_text(conf->version));
	return 0;
}

static int conf_name(struct netconf *conf, struct cni_error *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_.-";
	const char *type = NULL;
	int code;

	code = string_get(conf->json, "name", "name", &conf->name, err)
		       ?: string_get(conf->json, "type", "type", &type, err);
	if (code)
		return code;
	if (!conf->name)
		return cni_fail(err, CNI_INVALID_CONFIG, "name: missing");
	if (strchr("_.-", conf->name[0]) || conf->name[strspn(conf->name, allowed)])
		return cni_fail(err, CNI_INVALID_CONFIG,
				"name: \"%.100s\" has other characters than letters, digits, '_', "
				"'.' and '-', or does not begin with a letter or digit",
				conf->name);
	if (!type)
		return cni_fail(err, CNI_INVALID_CONFIG, "type: missing");
	return 0;
}

static int conf_socket(struct netconf *conf, struct cni_error *err)
{
	int code = string_get(conf->json, "socket", "socket", &conf->socket, err);

	if (code)
		return code;
	if (!conf->socket)
		conf->socket = NETCONF_SOCKET_DEFAULT;
	if (conf->socket[0] != '/')
		return cni_fail(err, CNI_INVALID_CONFIG,
				"socket: \"%.100s\" is not an absolute path", conf->socket);
	if (strlen(conf->socket) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return cni_fail(err, CNI_INVALID_CONFIG,
				"socket: longer than the %zu bytes of a "
				"unix socket's path",
				sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	return 0;
}

static int conf_ipam(struct netconf *conf, struct cni_error *err)
{
	const cJSON *ipam;
	int code = member_get(conf->json, "ipam", "ipam", &json_object, &ipam, err)
			   ?: string_get(ipam, "type", "ipam.type", &conf->ipam_type, err);

	if (code)
		return code;
	/* It names a file in one of the folders of CNI_PATH, nowhere else. */
	if (conf->ipam_type && (strchr(conf->ipam_type, '/') || conf->ipam_type[0] == '.'))
		return cni_fail(err, CNI_INVALID_CONFIG,
				"ipam.type: \"%.100s\" is not a plugin's name", conf->ipam_type);
	return 0;
}

int netconf_parse(const char *text, size_t len, struct netconf *ret_conf, struct cni_error *err)
{
	*ret_conf = (struct netconf){ .version = CNI_LATEST };
	return json_decode(text, len, &ret_conf->json, err) ?:
	       conf_version(ret_conf, err) ?:
	       conf_name(ret_conf, err) ?:
	       conf_socket(ret_conf, err) ?:
	       conf_ipam(ret_conf, err) ?:
	       member_get(ret_conf->json, "prevResult", "prevResult", &json_object,
			  &ret_conf->prev_result, err);
}

void netconf_done(struct netconf *conf)
{
	cJSON_Delete(conf->json);
	*conf = (struct netconf){};
}

int netconf_version(const char *text, size_t len, enum cni_version *ret_version,
		    struct cni_error *err)
{
	cJSON *json = NULL;
	const char *asked = NULL;
	int code;

	*ret_version = CNI_LATEST;
	if (len == strspn(text, " \t\r\n"))
		return 0;
	code = json_decode(text, len, &json, err)
		       ?: string_get(json, "cniVersion", "cniVersion", &asked, err);
	if (!code && asked)
		version_parse(asked, ret_version);
	cJSON_Delete(json);
	return code;
}

/* ---- the pod ---- */

static int pod_mtu(const struct netconf *conf, struct netconf_pod *pod, struct cni_error *err)
{
	const cJSON *mtu;
	int code = member_get(conf->json, "mtu", "mtu", &json_number, &mtu, err);

	if (code || !mtu || mtu->valuedouble == 0)
		return code;
	if (mtu->valuedouble < MTU_MIN || mtu->valuedouble > MTU_MAX ||
	    mtu->valuedouble != (double)(int)mtu->valuedouble)
		return cni_fail(err, CNI_INVALID_CONFIG,
				"mtu: %g is not 0 (automatic) or a whole number from %d to %d",
				mtu->valuedouble, MTU_MIN, MTU_MAX);
	pod->mtu = (unsigned int)mtu->valuedouble;
	return 0;
}

/* Traffic to the outside keeps the pod's address; a network that was promised another one must
 * not come up without it. */
static int pod_masquerade(const struct netconf *conf, struct cni_error *err)
{
	const cJSON *masquerade;
	int code = member_get(conf->json, "ipMasq", "ipMasq", &json_bool, &masquerade, err);

	if (code || !cJSON_IsTrue(masquerade))
		return code;
	return cni_fail(err, CNI_UNSUPPORTED_FIELD,
			"ipMasq: true is not supported: addresses are routed, not masqueraded");
}

static int pod_dns(const struct netconf *conf, struct netconf_pod *pod, struct cni_error *err)
{
	static const char *const lists[][2] = {
		{ "nameservers", "dns.nameservers" },
		{ "search", "dns.search" },
		{ "options", "dns.options" },
	};
	const cJSON *dns;
	const char *domain;
	int code = member_get(conf->json, "dns", "dns", &json_object, &dns, err)
			   ?: string_get(dns, "domain", "dns.domain", &domain, err);

	for (size_t i = 0; i < ARRAY_SIZE(lists) && !code; i++)
		code = strings_check(dns, lists[i][0], lists[i][1], err);
	if (!code && cJSON_GetArraySize(dns) > 0)
		pod->dns = dns;
	return code;
}

/* The conventions' list of {key, value} becomes an object. */
static int pod_labels(const cJSON *cni, struct netconf_pod *pod, struct cni_error *err)
{
	static const char path[] = "args.cni.labels";
	const cJSON *list, *item;
	size_t i = 0;
	int code = member_get(cni, "labels", path, &json_array, &list, err);

	if (code)
		return code;
	if (cJSON_GetArraySize(list) > LABELS_MAX)
		return cni_fail(err, CNI_INVALID_CONFIG, "%s: more than %d labels", path,
				LABELS_MAX);
	cJSON_ArrayForEach (item, list) {
		const cJSON *key = cJSON_GetObjectItemCaseSensitive(item, "key");
		const cJSON *value = cJSON_GetObjectItemCaseSensitive(item, "value");

		if (!cJSON_IsString(key) || !key->valuestring[0] || !cJSON_IsString(value))
			return cni_fail(err, CNI_INVALID_CONFIG,
					"%s[%zu]: not {\"key\": TEXT, \"value\": TEXT}", path, i);
		if (cJSON_GetObjectItemCaseSensitive(pod->labels, key->valuestring))
			return cni_fail(err, CNI_INVALID_CONFIG,
					"%s[%zu].key: %.100s is given twice", path, i,
					key->valuestring);
		cJSON_AddStringToObject(pod->labels, key->valuestring, value->valuestring);
		i++;
	}
	return 0;
}

/* An address, with or without prefix length: the range decides about that. */
static int ip_add(cJSON *list, const char *path, int code, const char *text, struct cni_error *err)
{
	struct prefix prefix;
	struct addr addr;
	char buf[ADDR_TEXT_MAX];
	size_t len = strcspn(text, "/");

	if (len < sizeof(buf)) {
		memcpy(buf, text, len);
		buf[len] = '\0';
		if (addr_parse(buf, &addr) == 0 &&
		    (text[len] == '\0' || prefix_parse(text, &prefix) == 0)) {
			cJSON_AddItemToArray(list, cJSON_CreateString(buf));
			return 0;
		}
	}
	return cni_fail(err, code, "%s: \"%.60s\" is not an IP address", path, text);
}

static int ips_replace(const cJSON *object, const char *path, struct netconf_pod *pod,
		       struct cni_error *err)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, "ips");
	const cJSON *item;
	size_t i = 0;
	int code = strings_check(object, "ips", path, err);

	if (code || cJSON_GetArraySize(list) == 0)
		return code;
	cJSON_Delete(pod->ips);
	pod->ips = cJSON_CreateArray();
	cJSON_ArrayForEach (item, list) {
		char item_path[64];

		snprintf(item_path, sizeof(item_path), "%s[%zu]", path, i++);
		code = ip_add(pod->ips, item_path, CNI_INVALID_CONFIG, item->valuestring, err);
		if (code)
			return code;
	}
	return 0;
}

static int mac_set(const char *path, int code, const char *text, struct netconf_pod *pod,
		   struct cni_error *err)
{
	uint8_t mac[6];

	if (mac_parse(text, mac) < 0)
		return cni_fail(err, code, "%s: \"%.40s\" is not a MAC address", path, text);
	if (mac[0] & 1)
		return cni_fail(err, code, "%s: %.40s is a multicast address", path, text);
	mac_format(mac, pod->mac);
	return 0;
}

static int mac_replace(const cJSON *object, const char *path, struct netconf_pod *pod,
		       struct cni_error *err)
{
	const char *text = NULL;
	int code = string_get(object, "mac", path, &text, err);

	if (code || !text)
		return code;
	return mac_set(path, CNI_INVALID_CONFIG, text, pod, err);
}

static int pod_from_args(const struct cni_args *args, struct netconf_pod *pod,
			 struct cni_error *err)
{
	int code = 0;

	if (args->ip[0])
		code = ip_add(pod->ips, "CNI_ARGS: IP", CNI_INVALID_ENVIRONMENT, args->ip, err);
	if (!code && args->mac[0])
		code = mac_set("CNI_ARGS: MAC", CNI_INVALID_ENVIRONMENT, args->mac, pod, err);
	return code;
}

static int pod_from_conf(const struct netconf *conf, struct netconf_pod *pod, struct cni_error *err)
{
	const cJSON *args = NULL, *cni = NULL, *runtime = NULL, *capabilities;
	const cJSON *json = conf->json;

	return member_get(json, "capabilities", "capabilities", &json_object, &capabilities, err) ?:
	       member_get(json, "args", "args", &json_object, &args, err) ?:
	       member_get(args, "cni", "args.cni", &json_object, &cni, err) ?:
	       pod_labels(cni, pod, err) ?:
	       ips_replace(cni, "args.cni.ips", pod, err) ?:
	       mac_replace(cni, "args.cni.mac", pod, err) ?:
	       member_get(json, "runtimeConfig", "runtimeConfig", &json_object, &runtime, err) ?:
	       ips_replace(runtime, "runtimeConfig.ips", pod, err) ?:
	       mac_replace(runtime, "runtimeConfig.mac", pod, err);
}

int netconf_pod_load(const struct netconf *conf, const struct cni_args *args,
		     struct netconf_pod *ret_pod, struct cni_error *err)
{
	*ret_pod = (struct netconf_pod){
		.labels = cJSON_CreateObject(),
		.ips = cJSON_CreateArray(),
	};
	return pod_mtu(conf, ret_pod, err) ?:
	       pod_masquerade(conf, err) ?:
	       pod_dns(conf, ret_pod, err) ?:
	       pod_from_args(args, ret_pod, err) ?:
	       pod_from_conf(conf, ret_pod, err);
}

void netconf_pod_done(struct netconf_pod *pod)
{
	cJSON_Delete(pod->labels);
	cJSON_Delete(pod->ips);
	*pod = (struct netconf_pod){};
}

/* ---- GC ---- */

int netconf_attachments(const struct netconf *conf, cJSON **ret_list, struct cni_error *err)
{
	static const char key[] = "cni.dev/valid-attachments";
	const cJSON *list, *item;
	cJSON *copy;
	size_t i = 0;
	int code = member_get(conf->json, key, key, &json_array, &list, err);

	if (code)
		return code;
	/* Absent is not empty: an empty list removes every attachment of the network. */
	if (!list)
		return cni_fail(err, CNI_INVALID_CONFIG, "%s: missing", key);
	copy = cJSON_CreateArray();
	cJSON_ArrayForEach (item, list) {
		const cJSON *id = cJSON_GetObjectItemCaseSensitive(item, "containerID");
		const cJSON *ifname = cJSON_GetObjectItemCaseSensitive(item, "ifname");
		cJSON *entry;

		if (!cJSON_IsString(id) || !cJSON_IsString(ifname)) {
			cJSON_Delete(copy);
			return cni_fail(err, CNI_INVALID_CONFIG,
					"%s[%zu]: not {\"containerID\": TEXT, \"ifname\": TEXT}",
					key, i);
		}
		entry = cJSON_CreateObject();
		cJSON_AddStringToObject(entry, "containerID", id->valuestring);
		cJSON_AddStringToObject(entry, "ifname", ifname->valuestring);
		cJSON_AddItemToArray(copy, entry);
		i++;
	}
	*ret_list = copy;
	return 0;
}
