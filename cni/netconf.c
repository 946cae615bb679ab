/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/netconf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "lib/inet.h"
#include "lib/reader.h"

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

/* A list of strings that may be absent.  Returns their number. */
static int strings_check(struct reader *reader, const struct json_node *list)
{
	const cJSON *item;
	size_t i = 0;

	if (!read_is_array(reader, list))
		return 0;
	cJSON_ArrayForEach (item, list->value) {
		const struct json_node node = json_element(list, item, i++);

		read_string(reader, &node);
	}
	return cJSON_GetArraySize(list->value);
}

/* A string that may be absent; the empty one counts as absent. */
static const char *text_get(struct reader *reader, const struct json_node *node)
{
	const char *text = read_string(reader, node);

	return text && *text ? text : NULL;
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
static void conf_version(struct reader *reader, const struct json_node *root, struct netconf *conf)
{
	const struct json_node version = json_member(root, "cniVersion");
	const struct json_node versions = json_member(root, "cniVersions");
	const char *text = text_get(reader, &version);
	int count = strings_check(reader, &versions);

	if (reader->ret)
		return;
	if (text) {
		if (!version_parse(text, &conf->version))
			reader_fail(reader, -EPROTONOSUPPORT,
				    "cniVersion: %.40s is not supported; 0.1.0 to %s are", text,
				    version_text(CNI_LATEST));
		return;
	}
	if (count == 0)
		conf->version = CNI_0_1_0;
	else if (!version_highest(versions.value, &conf->version))
		reader_fail(reader, -EPROTONOSUPPORT,
			    "cniVersions: none of them is supported; 0.1.0 to %s are",
			    version_text(CNI_LATEST));
	/* A delegated plugin must answer in the version that we do. */
	cJSON_DeleteItemFromObjectCaseSensitive(conf->json, "cniVersion");
	cJSON_AddStringToObject(conf->json, "cniVersion", version_text(conf->version));
}

static void conf_name(struct reader *reader, const struct json_node *root, struct netconf *conf)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_.-";
	const struct json_node name = json_member(root, "name");
	const struct json_node type = json_member(root, "type");

	conf->name = read_required_string(reader, &name);
	read_required_string(reader, &type);
	if (!conf->name[0] || strchr("_.-", conf->name[0]) ||
	    conf->name[strspn(conf->name, allowed)])
		reader_error(reader, &name,
			     "\"%.100s\" is empty, has other characters than letters, digits, "
			     "'_', '.' and '-', or does not begin with a letter or digit",
			     conf->name);
}

static void conf_socket(struct reader *reader, const struct json_node *root, struct netconf *conf)
{
	const struct json_node socket = json_member(root, "socket");
	const size_t limit = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

	conf->socket = text_get(reader, &socket);
	if (!conf->socket)
		conf->socket = NETCONF_SOCKET_DEFAULT;
	if (conf->socket[0] != '/')
		reader_error(reader, &socket, "\"%.100s\" is not an absolute path", conf->socket);
	if (strlen(conf->socket) > limit)
		reader_error(reader, &socket, "longer than the %zu bytes of a unix socket's path",
			     limit);
}

static void conf_ipam(struct reader *reader, const struct json_node *root, struct netconf *conf)
{
	const struct json_node ipam = json_member(root, "ipam");
	const struct json_node type = json_member(&ipam, "type");

	read_is_object(reader, &ipam);
	conf->ipam_type = text_get(reader, &type);
	/* It names a file in one of the folders of CNI_PATH, nowhere else. */
	if (conf->ipam_type && (strchr(conf->ipam_type, '/') || conf->ipam_type[0] == '.'))
		reader_error(reader, &type, "\"%.100s\" is not a plugin's name", conf->ipam_type);
}

static void conf_chained(struct reader *reader, const struct json_node *root, struct netconf *conf)
{
	const struct json_node chained = json_member(root, "chained");

	conf->chained = read_bool(reader, &chained, false);
	if (conf->chained)
		conf->ipam_type = NULL; /* ADD refuses it: see pod_chained() */
}

static int conf_read(struct netconf *conf, struct errmsg *err)
{
	const struct json_node root = json_root(conf->json);
	const struct json_node previous = json_member(&root, "prevResult");
	struct reader reader = { .err = err };

	conf_version(&reader, &root, conf);
	conf_name(&reader, &root, conf);
	conf_socket(&reader, &root, conf);
	conf_ipam(&reader, &root, conf);
	conf_chained(&reader, &root, conf);
	read_is_object(&reader, &previous);
	conf->prev_result = previous.value;
	return reader.ret;
}

int netconf_parse(const char *text, size_t len, struct netconf *ret_conf, struct cni_error *err)
{
	struct errmsg fault;
	int ret;

	*ret_conf = (struct netconf){ .version = CNI_LATEST };
	ret = conf_decode(text, len, &ret_conf->json, &fault) ?: conf_read(ret_conf, &fault);
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
	const char *asked;
	struct json_node root, version;
	struct errmsg fault;
	struct reader reader = { .err = &fault };

	*ret_version = CNI_LATEST;
	if (len == strspn(text, " \t\r\n"))
		return 0;
	if (conf_decode(text, len, &json, &fault))
		return failure_report(&fault, err);
	root = json_root(json);
	version = json_member(&root, "cniVersion");
	asked = text_get(&reader, &version);
	if (reader.ret)
		return failure_report(&fault, err);
	if (asked)
		version_parse(asked, ret_version);
	return 0;
}

/* ---- the pod ---- */

static void pod_mtu(struct reader *reader, const struct json_node *root, struct netconf_pod *pod)
{
	const struct json_node node = json_member(root, "mtu");

	pod->mtu = (unsigned int)read_integer(reader, &node, 0, MTU_MAX, 0);
	if (pod->mtu != 0 && pod->mtu < MTU_MIN)
		reader_error(reader, &node, "%u is not 0 (automatic) or from %d to %d", pod->mtu,
			     MTU_MIN, MTU_MAX);
}

/* Traffic to the outside keeps the pod's address; a network that was promised another one must
 * not come up without it. */
static void pod_masquerade(struct reader *reader, const struct json_node *root)
{
	const struct json_node node = json_member(root, "ipMasq");

	if (read_bool(reader, &node, false))
		reader_fail(reader, -EOPNOTSUPP,
			    "ipMasq: true is not supported: addresses are routed, not "
			    "masqueraded");
}

/* Behind another plugin: what it decides cannot be asked of us. */
static void pod_chained(struct reader *reader, const struct json_node *root)
{
	static const char *const theirs[] = { "ipam", "mtu" };

	for (size_t i = 0; i < ARRAY_SIZE(theirs); i++) {
		const struct json_node node = json_member(root, theirs[i]);

		if (json_present(&node) && (!cJSON_IsObject(node.value) || node.value->child))
			reader_error(reader, &node,
				     "with \"chained\" the plugin before has to have it");
	}
}

static void pod_dns(struct reader *reader, const struct json_node *root, struct netconf_pod *pod)
{
	static const char *const lists[] = { "nameservers", "search", "options" };
	const struct json_node dns = json_member(root, "dns");
	const struct json_node domain = json_member(&dns, "domain");

	read_is_object(reader, &dns);
	read_string(reader, &domain);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		const struct json_node list = json_member(&dns, lists[i]);

		strings_check(reader, &list);
	}
	if (cJSON_GetArraySize(dns.value) > 0)
		pod->dns = cJSON_Duplicate(dns.value, true);
}

/* The capability's lists have other names than those of a result. */
static void pod_runtime_dns(struct reader *reader, const struct json_node *runtime,
			    struct netconf_pod *pod)
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

	read_is_object(reader, &dns);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		const struct json_node list = json_member(&dns, lists[i].asked);

		if (strings_check(reader, &list) > 0)
			cJSON_AddItemToObject(result, lists[i].result,
					      cJSON_Duplicate(list.value, true));
	}
	if (cJSON_GetArraySize(result) == 0)
		return;
	cJSON_Delete(pod->dns);
	pod->dns = take_ptr(result);
}

/* The conventions' list of {key, value} becomes an object. */
static void pod_labels(struct reader *reader, const struct json_node *cni, struct netconf_pod *pod)
{
	const struct json_node list = json_member(cni, "labels");
	const cJSON *item;
	size_t i = 0;

	if (!read_is_array(reader, &list))
		return;
	if (cJSON_GetArraySize(list.value) > LABELS_MAX) {
		reader_error(reader, &list, "more than %d labels", LABELS_MAX);
		return;
	}
	cJSON_ArrayForEach (item, list.value) {
		const struct json_node label = json_element(&list, item, i++);
		const struct json_node key_node = json_member(&label, "key");
		const struct json_node value_node = json_member(&label, "value");
		const char *key, *value;

		if (!read_is_object(reader, &label))
			continue;
		key = read_required_string(reader, &key_node);
		value = read_required_string(reader, &value_node);
		if (!*key)
			reader_error(reader, &key_node, "empty");
		if (cJSON_GetObjectItemCaseSensitive(pod->labels, key))
			reader_error(reader, &key_node, "%.100s is given twice", key);
		cJSON_AddStringToObject(pod->labels, key, value);
	}
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

static void pod_ips(struct reader *reader, const struct json_node *object, struct netconf_pod *pod)
{
	const struct json_node list = json_member(object, "ips");
	const cJSON *item;
	size_t i = 0;

	if (strings_check(reader, &list) == 0 || reader->ret)
		return;
	cJSON_Delete(pod->ips);
	pod->ips = cJSON_CreateArray();
	cJSON_ArrayForEach (item, list.value) {
		const struct json_node node = json_element(&list, item, i++);
		char address[ADDR_TEXT_MAX];

		if (ip_strip(item->valuestring, address))
			cJSON_AddItemToArray(pod->ips, cJSON_CreateString(address));
		else
			reader_error(reader, &node, "\"%.60s\" is not an IP address",
				     item->valuestring);
	}
}

static void pod_mac(struct reader *reader, const struct json_node *object, struct netconf_pod *pod)
{
	const struct json_node node = json_member(object, "mac");
	const char *text = text_get(reader, &node);
	uint8_t mac[6];

	if (!text)
		return;
	if (mac_parse(text, mac) < 0 || (mac[0] & 1))
		reader_error(reader, &node, "\"%.40s\" is not the MAC address of an interface",
			     text);
	else
		mac_format(mac, pod->mac);
}

/* What stands in a mapping is the agent's to check. */
static void pod_ports(struct reader *reader, const struct json_node *runtime,
		      struct netconf_pod *pod)
{
	const struct json_node list = json_member(runtime, "portMappings");

	if (read_is_array(reader, &list))
		pod->ports = cJSON_Duplicate(list.value, true);
}

static int pod_read(const struct netconf *conf, struct netconf_pod *pod, struct errmsg *err)
{
	const struct json_node root = json_root(conf->json);
	const struct json_node capabilities = json_member(&root, "capabilities");
	const struct json_node args = json_member(&root, "args");
	const struct json_node cni = json_member(&args, "cni");
	const struct json_node runtime = json_member(&root, "runtimeConfig");
	struct reader reader = { .err = err };

	if (conf->chained)
		pod_chained(&reader, &root);
	pod_mtu(&reader, &root, pod);
	pod_masquerade(&reader, &root);
	pod_dns(&reader, &root, pod);
	read_is_object(&reader, &capabilities);
	read_is_object(&reader, &args);
	read_is_object(&reader, &cni);
	pod_labels(&reader, &cni, pod);
	pod_ips(&reader, &cni, pod);
	pod_mac(&reader, &cni, pod);
	read_is_object(&reader, &runtime);
	pod_ips(&reader, &runtime, pod);
	pod_mac(&reader, &runtime, pod);
	pod_runtime_dns(&reader, &runtime, pod);
	pod_ports(&reader, &runtime, pod);
	return reader.ret;
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
	return pod_read(conf, ret_pod, &fault) ? failure_report(&fault, err) : 0;
}

void netconf_pod_done(struct netconf_pod *pod)
{
	cJSON_Delete(pod->labels);
	cJSON_Delete(pod->ips);
	cJSON_Delete(pod->dns);
	cJSON_Delete(pod->ports);
	*pod = (struct netconf_pod){};
}

/* ---- GC ---- */

static void attachment_copy(struct reader *reader, const struct json_node *node, cJSON *copy)
{
	const struct json_node id = json_member(node, "containerID");
	const struct json_node ifname = json_member(node, "ifname");
	cJSON *entry = cJSON_CreateObject();

	if (read_is_object(reader, node)) {
		cJSON_AddStringToObject(entry, "containerID", read_required_string(reader, &id));
		cJSON_AddStringToObject(entry, "ifname", read_required_string(reader, &ifname));
	}
	cJSON_AddItemToArray(copy, entry);
}

int netconf_attachments(const struct netconf *conf, cJSON **ret_list, struct cni_error *err)
{
	const struct json_node root = json_root(conf->json);
	/* libcni 1.2.0 to 1.2.2 have another name for it. */
	const struct json_node former = json_member(&root, "cni.dev/attachments");
	struct json_node list = json_member(&root, "cni.dev/valid-attachments");
	auto_json cJSON *copy = cJSON_CreateArray();
	const cJSON *item;
	struct errmsg fault;
	struct reader reader = { .err = &fault };
	size_t i = 0;

	if (!json_present(&list) && json_present(&former))
		list = former;
	/* Absent is not empty: an empty list removes every attachment of the network. */
	if (read_required(&reader, &list))
		read_is_array(&reader, &list);
	cJSON_ArrayForEach (item, list.value) {
		const struct json_node node = json_element(&list, item, i++);

		attachment_copy(&reader, &node, copy);
	}
	if (reader.ret)
		return failure_report(&fault, err);
	*ret_list = take_ptr(copy);
	return 0;
}
