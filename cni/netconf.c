/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/netconf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "lib/inet.h"
#include "lib/json.h"

#define MTU_MIN    68 /* of IPv4; what a family needs beyond that, the agent knows */
#define MTU_MAX    65535
#define LABELS_MAX 256

/* Inside this file failures are negative errnos with a text; they leave it as the specification's
 * codes. */
static int failure_report(const struct errmsg *fault, struct cni_error *err)
{
	enum cni_code code = CNI_INVALID_CONFIG;

	if (fault->code == -EBADMSG)
		code = CNI_DECODING_FAILURE;
	else if (fault->code == -EPROTONOSUPPORT)
		code = CNI_INCOMPATIBLE_VERSION;
	else if (fault->code == -EOPNOTSUPP)
		code = CNI_UNSUPPORTED_FIELD;
	return cni_fail(err, code, "%s", fault->text);
}

/* An object that may be absent. */
static int object_check(const struct json_node *node, struct errmsg *err)
{
	return json_present(node) ? json_object(node, err) : 0;
}

/* A list of strings that may be absent. */
static int strings_check(const struct json_node *list, struct errmsg *err)
{
	const cJSON *item;
	size_t i = 0, count;
	int ret = json_present(list) ? json_array(list, &count, err) : 0;

	if (ret)
		return ret;
	cJSON_ArrayForEach (item, list->value) {
		const struct json_node node = json_element(list, item, i++);
		const char *text;

		ret = json_string(&node, &text, err);
		if (ret)
			return ret;
	}
	return 0;
}

/* A string that may be absent; the empty one counts as absent. */
static int text_get(const struct json_node *node, const char **ret_text, struct errmsg *err)
{
	int ret = json_string_opt(node, ret_text, err);

	if (!ret && *ret_text && !**ret_text)
		*ret_text = NULL;
	return ret;
}

/* ---- what every command needs ---- */

static int conf_decode(const char *text, size_t len, cJSON **ret_json, struct errmsg *err)
{
	int ret = json_parse(text, len, ret_json, err);

	if (!ret && !cJSON_IsObject(*ret_json))
		ret = fail_plain(err, -EBADMSG, "not a JSON object");
	return ret ? wrap(err, "network configuration") : 0;
}

/* cniVersion decides; without it the best of cniVersions; without both 0.1.0, as libcni has it. */
static int conf_version(struct netconf *conf, struct errmsg *err)
{
	const struct json_node root = json_root(conf->json);
	const struct json_node version = json_member(&root, "cniVersion");
	const struct json_node versions = json_member(&root, "cniVersions");
	const char *text = NULL;
	int ret = text_get(&version, &text, err) ?: strings_check(&versions, err);

	if (ret)
		return ret;
	if (text) {
		if (version_parse(text, &conf->version))
			return 0;
		return fail_plain(err, -EPROTONOSUPPORT,
				  "cniVersion: %.40s is not supported; 0.1.0 to %s are", text,
				  version_text(CNI_LATEST));
	}
	if (cJSON_GetArraySize(versions.value) == 0)
		conf->version = CNI_0_1_0;
	else if (!version_highest(versions.value, &conf->version))
		return fail_plain(err, -EPROTONOSUPPORT,
				  "cniVersions: none of them is supported; 0.1.0 to %s are",
				  version_text(CNI_LATEST));
	/* A delegated plugin must answer in the version that we do. */
	cJSON_DeleteItemFromObjectCaseSensitive(conf->json, "cniVersion");
	cJSON_AddStringToObject(conf->json, "cniVersion", version_text(conf->version));
	return 0;
}

static int conf_name(struct netconf *conf, struct errmsg *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_.-";
	const struct json_node root = json_root(conf->json);
	const struct json_node name = json_member(&root, "name");
	const struct json_node type = json_member(&root, "type");
	const char *text;
	int ret = json_string(&name, &conf->name, err) ?: json_string(&type, &text, err);

	if (ret)
		return ret;
	if (!conf->name[0] || strchr("_.-", conf->name[0]) ||
	    conf->name[strspn(conf->name, allowed)])
		return json_fail(&name, err,
				 "\"%.100s\" is empty, has other characters than letters, digits, "
				 "'_', '.' and '-', or does not begin with a letter or digit",
				 conf->name);
	return 0;
}

static int conf_socket(struct netconf *conf, struct errmsg *err)
{
	const struct json_node root = json_root(conf->json);
	const struct json_node socket = json_member(&root, "socket");
	const size_t limit = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	int ret = text_get(&socket, &conf->socket, err);

	if (ret)
		return ret;
	if (!conf->socket)
		conf->socket = NETCONF_SOCKET_DEFAULT;
	if (conf->socket[0] != '/')
		return json_fail(&socket, err, "\"%.100s\" is not an absolute path", conf->socket);
	if (strlen(conf->socket) > limit)
		return json_fail(&socket, err, "longer than the %zu bytes of a unix socket's path",
				 limit);
	return 0;
}

static int conf_ipam(struct netconf *conf, struct errmsg *err)
{
	const struct json_node root = json_root(conf->json);
	const struct json_node ipam = json_member(&root, "ipam");
	const struct json_node type = json_member(&ipam, "type");
	int ret = object_check(&ipam, err) ?: text_get(&type, &conf->ipam_type, err);

	if (ret)
		return ret;
	/* It names a file in one of the folders of CNI_PATH, nowhere else. */
	if (conf->ipam_type && (strchr(conf->ipam_type, '/') || conf->ipam_type[0] == '.'))
		return json_fail(&type, err, "\"%.100s\" is not a plugin's name", conf->ipam_type);
	return 0;
}

static int conf_previous(struct netconf *conf, struct errmsg *err)
{
	const struct json_node root = json_root(conf->json);
	const struct json_node previous = json_member(&root, "prevResult");

	conf->prev_result = previous.value;
	return object_check(&previous, err);
}

int netconf_parse(const char *text, size_t len, struct netconf *ret_conf, struct cni_error *err)
{
	struct errmsg fault;
	int ret;

	*ret_conf = (struct netconf){ .version = CNI_LATEST };
	ret = conf_decode(text, len, &ret_conf->json, &fault) ?:
		conf_version(ret_conf, &fault) ?:
		conf_name(ret_conf, &fault) ?:
		conf_socket(ret_conf, &fault) ?:
		conf_ipam(ret_conf, &fault) ?:
		conf_previous(ret_conf, &fault);
	return ret ? failure_report(&fault, err) : 0;
}

void netconf_done(struct netconf *conf)
{
	cJSON_Delete(conf->json);
	*conf = (struct netconf){};
}

int netconf_version(const char *text, size_t len, enum cni_version *ret_version,
		    struct cni_error *err)
{
	auto_json cJSON *json = NULL;
	const char *asked = NULL;
	struct json_node root, version;
	struct errmsg fault;
	int ret;

	*ret_version = CNI_LATEST;
	if (len == strspn(text, " \t\r\n"))
		return 0;
	ret = conf_decode(text, len, &json, &fault);
	if (!ret) {
		root = json_root(json);
		version = json_member(&root, "cniVersion");
		ret = text_get(&version, &asked, &fault);
	}
	if (ret)
		return failure_report(&fault, err);
	if (asked)
		version_parse(asked, ret_version);
	return 0;
}

/* ---- the pod ---- */

static int pod_mtu(const struct json_node *root, struct netconf_pod *pod, struct errmsg *err)
{
	const struct json_node node = json_member(root, "mtu");
	int64_t mtu = 0;
	int ret = json_integer_opt(&node, 0, MTU_MAX, &mtu, err);

	if (ret)
		return ret;
	if (mtu != 0 && mtu < MTU_MIN)
		return json_fail(&node, err, "%d is not 0 (automatic) or from %d to %d", (int)mtu,
				 MTU_MIN, MTU_MAX);
	pod->mtu = (unsigned int)mtu;
	return 0;
}

/* Traffic to the outside keeps the pod's address; a network that was promised another one must
 * not come up without it. */
static int pod_masquerade(const struct json_node *root, struct errmsg *err)
{
	const struct json_node node = json_member(root, "ipMasq");
	bool masquerade = false;
	int ret = json_bool_opt(&node, &masquerade, err);

	if (ret || !masquerade)
		return ret;
	return fail_plain(err, -EOPNOTSUPP,
			  "ipMasq: true is not supported: addresses are routed, not masqueraded");
}

static int pod_dns(const struct json_node *root, struct netconf_pod *pod, struct errmsg *err)
{
	static const char *const lists[] = { "nameservers", "search", "options" };
	const struct json_node dns = json_member(root, "dns");
	const struct json_node domain = json_member(&dns, "domain");
	const char *text = NULL;
	int ret = object_check(&dns, err) ?: text_get(&domain, &text, err);

	for (size_t i = 0; i < ARRAY_SIZE(lists) && !ret; i++) {
		const struct json_node list = json_member(&dns, lists[i]);

		ret = strings_check(&list, err);
	}
	if (!ret && cJSON_GetArraySize(dns.value) > 0)
		pod->dns = cJSON_Duplicate(dns.value, true);
	return ret;
}

/* The capability's lists have other names than those of a result. */
static int pod_runtime_dns(const struct json_node *runtime, struct netconf_pod *pod,
			   struct errmsg *err)
{
	static const struct {
		const char *asked, *result;
	} lists[] = {
		{ "servers", "nameservers" },
		{ "searches", "search" },
		{ "options", "options" },
	};
	const struct json_node dns = json_member(runtime, "dns");
	auto_json cJSON *result = cJSON_CreateObject();
	int ret = object_check(&dns, err);

	for (size_t i = 0; i < ARRAY_SIZE(lists) && !ret; i++) {
		const struct json_node list = json_member(&dns, lists[i].asked);

		ret = strings_check(&list, err);
		if (!ret && cJSON_GetArraySize(list.value) > 0)
			cJSON_AddItemToObject(result, lists[i].result,
					      cJSON_Duplicate(list.value, true));
	}
	if (ret || cJSON_GetArraySize(result) == 0)
		return ret;
	cJSON_Delete(pod->dns);
	pod->dns = take_ptr(result);
	return 0;
}

/* The conventions' list of {key, value} becomes an object. */
static int pod_labels(const struct json_node *cni, struct netconf_pod *pod, struct errmsg *err)
{
	const struct json_node list = json_member(cni, "labels");
	const cJSON *item;
	size_t i = 0, count = 0;
	int ret = json_present(&list) ? json_array(&list, &count, err) : 0;

	if (ret)
		return ret;
	if (count > LABELS_MAX)
		return json_fail(&list, err, "more than %d labels", LABELS_MAX);
	cJSON_ArrayForEach (item, list.value) {
		const struct json_node label = json_element(&list, item, i++);
		const struct json_node key_node = json_member(&label, "key");
		const struct json_node value_node = json_member(&label, "value");
		const char *key, *value;

		ret = json_object(&label, err) ?:
			json_string(&key_node, &key, err) ?:
			json_string(&value_node, &value, err);
		if (ret)
			return ret;
		if (!*key)
			return json_fail(&key_node, err, "empty");
		if (cJSON_GetObjectItemCaseSensitive(pod->labels, key))
			return json_fail(&key_node, err, "%.100s is given twice", key);
		cJSON_AddStringToObject(pod->labels, key, value);
	}
	return 0;
}

/* Writes the address without its prefix length, if it has one: the range decides about that. */
static bool ip_strip(const char *text, char buf[ADDR_TEXT_MAX])
{
	struct prefix prefix;
	struct addr addr;
	size_t len = strcspn(text, "/");

	if (len >= ADDR_TEXT_MAX)
		return false;
	memcpy(buf, text, len);
	buf[len] = '\0';
	return addr_parse(buf, &addr) == 0 && (!text[len] || prefix_parse(text, &prefix) == 0);
}

static int pod_ips(const struct json_node *object, struct netconf_pod *pod, struct errmsg *err)
{
	const struct json_node list = json_member(object, "ips");
	const cJSON *item;
	size_t i = 0;
	int ret = strings_check(&list, err);

	if (ret || cJSON_GetArraySize(list.value) == 0)
		return ret;
	cJSON_Delete(pod->ips);
	pod->ips = cJSON_CreateArray();
	cJSON_ArrayForEach (item, list.value) {
		const struct json_node node = json_element(&list, item, i++);
		char address[ADDR_TEXT_MAX];

		if (!ip_strip(item->valuestring, address))
			return json_fail(&node, err, "\"%.60s\" is not an IP address",
					 item->valuestring);
		cJSON_AddItemToArray(pod->ips, cJSON_CreateString(address));
	}
	return 0;
}

static int pod_mac(const struct json_node *object, struct netconf_pod *pod, struct errmsg *err)
{
	const struct json_node node = json_member(object, "mac");
	const char *text = NULL;
	uint8_t mac[6];
	int ret = text_get(&node, &text, err);

	if (ret || !text)
		return ret;
	if (mac_parse(text, mac) < 0 || (mac[0] & 1))
		return json_fail(&node, err, "\"%.40s\" is not the MAC address of an interface",
				 text);
	mac_format(mac, pod->mac);
	return 0;
}

static int pod_read(const cJSON *json, struct netconf_pod *pod, struct errmsg *err)
{
	const struct json_node root = json_root(json);
	const struct json_node capabilities = json_member(&root, "capabilities");
	const struct json_node args = json_member(&root, "args");
	const struct json_node cni = json_member(&args, "cni");
	const struct json_node runtime = json_member(&root, "runtimeConfig");

	return pod_mtu(&root, pod, err) ?:
	       pod_masquerade(&root, err) ?:
	       pod_dns(&root, pod, err) ?:
	       object_check(&capabilities, err) ?:
	       object_check(&args, err) ?:
	       object_check(&cni, err) ?:
	       pod_labels(&cni, pod, err) ?:
	       pod_ips(&cni, pod, err) ?:
	       pod_mac(&cni, pod, err) ?:
	       object_check(&runtime, err) ?:
	       pod_ips(&runtime, pod, err) ?:
	       pod_mac(&runtime, pod, err) ?:
	       pod_runtime_dns(&runtime, pod, err);
}

int netconf_pod_load(const struct netconf *conf, const struct cni_args *args,
		     struct netconf_pod *ret_pod, struct cni_error *err)
{
	struct errmsg fault;

	*ret_pod = (struct netconf_pod){
		.labels = cJSON_CreateObject(),
		.ips = cJSON_CreateArray(),
	};
	if (args->ip[0])
		cJSON_AddItemToArray(ret_pod->ips, cJSON_CreateString(args->ip));
	memcpy(ret_pod->mac, args->mac, sizeof(ret_pod->mac));
	return pod_read(conf->json, ret_pod, &fault) ? failure_report(&fault, err) : 0;
}

void netconf_pod_done(struct netconf_pod *pod)
{
	cJSON_Delete(pod->labels);
	cJSON_Delete(pod->ips);
	cJSON_Delete(pod->dns);
	*pod = (struct netconf_pod){};
}

/* ---- GC ---- */

static int attachment_copy(const struct json_node *node, cJSON *copy, struct errmsg *err)
{
	const struct json_node id_node = json_member(node, "containerID");
	const struct json_node ifname_node = json_member(node, "ifname");
	const char *id, *ifname;
	cJSON *entry;
	int ret = json_object(node, err) ?:
		    json_string(&id_node, &id, err) ?:
		    json_string(&ifname_node, &ifname, err);

	if (ret)
		return ret;
	entry = cJSON_CreateObject();
	cJSON_AddStringToObject(entry, "containerID", id);
	cJSON_AddStringToObject(entry, "ifname", ifname);
	cJSON_AddItemToArray(copy, entry);
	return 0;
}

int netconf_attachments(const struct netconf *conf, cJSON **ret_list, struct cni_error *err)
{
	const struct json_node root = json_root(conf->json);
	const struct json_node list = json_member(&root, "cni.dev/valid-attachments");
	auto_json cJSON *copy = cJSON_CreateArray();
	const cJSON *item;
	struct errmsg fault;
	size_t i = 0, count;
	/* Absent is not empty: an empty list removes every attachment of the network. */
	int ret = json_array(&list, &count, &fault);

	cJSON_ArrayForEach (item, list.value) {
		const struct json_node node = json_element(&list, item, i++);

		ret = ret ?: attachment_copy(&node, copy, &fault);
	}
	if (ret)
		return failure_report(&fault, err);
	*ret_list = take_ptr(copy);
	return 0;
}
