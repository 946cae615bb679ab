/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin's requests, checked and typed; the result of an ADD. */
#include "agent/endpoint/endpoint_internal.h"

#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABELS_MAX      256
#define NETNS_PATH_MAX  4096
#define MTU_MIN         68
#define MTU_MAX         65535
#define SHORT_ID_LENGTH 12
#define V4_MAPPED_BITS  96

/* ---- labels ---------------------------------------------------------------------------------- */

void labels_release(struct labels *labels)
{
	for (size_t i = 0; i < labels->count; i++) {
		free(labels->items[i].key);
		free(labels->items[i].value);
	}
	free(labels->items);
	*labels = (struct labels){};
}

int labels_from_json(const struct json_node *node, struct labels *ret_labels, struct errmsg *err)
{
	struct labels labels = {};
	const struct cJSON *item;
	int ret;

	if (!json_present(node))
		return 0;
	ret = json_object(node, err);
	if (ret < 0)
		return ret;
	if (cJSON_GetArraySize(node->value) > LABELS_MAX)
		return json_fail(node, err, "more than %d labels", LABELS_MAX);
	labels.items = calloc((size_t)cJSON_GetArraySize(node->value) + 1, sizeof(*labels.items));
	if (!labels.items)
		return fail(err, -ENOMEM, "labels");
	cJSON_ArrayForEach (item, node->value) {
		struct json_node member = json_member_node(node, item);
		struct label *label = &labels.items[labels.count];
		const char *value;

		ret = json_string(&member, &value, err);
		if (ret < 0)
			break;
		labels.count++;
		label->key = strdup(item->string);
		label->value = strdup(value);
		if (!label->key || !label->value) {
			ret = fail(err, -ENOMEM, "labels");
			break;
		}
	}
	if (ret == 0) {
		labels_sort(&labels);
		for (size_t i = 1; ret == 0 && i < labels.count; i++) {
			if (strcmp(labels.items[i - 1].key, labels.items[i].key) == 0)
				ret = json_fail(node, err, "label \"%s\" is given twice",
						labels.items[i].key);
		}
	}
	if (ret < 0) {
		labels_release(&labels);
		return ret;
	}
	*ret_labels = labels;
	return 0;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* As the CNI specification says; the id also becomes part of file names. */
static bool container_id_is_valid(const char *id)
{
	/* NOLINTNEXTLINE(*NullDereference): read as a string */
	if (!isalnum((unsigned char)id[0]) || strlen(id) > CONTAINER_ID_MAX)
		return false;
	for (const char *c = id; *c; c++) {
		if (!isalnum((unsigned char)*c) && !strchr("_.-", *c))
			return false;
	}
	return true;
}

/* Stricter than the kernel: "eth%d" would be a pattern there, and the name goes into messages. */
static bool ifname_is_valid(const char *name)
{
	/* NOLINTNEXTLINE(*NullDereference): read as a string */
	if (!name[0] || strlen(name) >= IFNAME_MAX || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return false;
	for (const char *c = name; *c; c++) {
		if (!isgraph((unsigned char)*c) || strchr("/:%", *c))
			return false;
	}
	return true;
}

int endpoint_request_names(const struct json_node *root, const char **ret_container_id,
			   const char **ret_ifname, struct errmsg *err)
{
	struct json_node id = json_member(root, "containerId");
	struct json_node ifname = json_member(root, "ifname");
	int ret = json_object(root, err);

	if (ret == 0)
		ret = json_string(&id, ret_container_id, err);
	if (ret == 0)
		ret = json_string(&ifname, ret_ifname, err);
	if (ret < 0)
		return ret;
	if (!container_id_is_valid(*ret_container_id))
		return json_fail(&id, err,
				 "not a container id (letters, digits, '_', '.', '-'; at most %d)",
				 CONTAINER_ID_MAX);
	if (!ifname_is_valid(*ret_ifname))
		return json_fail(&ifname, err, "not an interface name");
	return 0;
}

/* Copies a name of at most POD_NAME_MAX - 1 bytes that must not make paths or lines ambiguous. */
static int pod_name_get(const struct json_node *node, char *buf, struct errmsg *err)
{
	const char *text = NULL;
	int ret = json_string_opt(node, &text, err);

	if (ret < 0 || !text || !text[0])
		return ret;
	if (strlen(text) >= POD_NAME_MAX)
		return json_fail(node, err, "longer than %d characters", POD_NAME_MAX - 1);
	for (const char *c = text; *c; c++) {
		if (!isgraph((unsigned char)*c) || *c == '/')
			return json_fail(node, err, "not a name");
	}
	snprintf(buf, POD_NAME_MAX, "%s", text);
	return 0;
}

static int pod_parse(const struct json_node *root, struct endpoint *endpoint, struct errmsg *err)
{
	struct json_node pod = json_member(root, "pod");
	struct json_node namespace = json_member(&pod, "namespace");
	struct json_node name = json_member(&pod, "name");
	struct json_node uid = json_member(&pod, "uid");
	int ret = json_present(&pod) ? json_object(&pod, err) : 0;

	snprintf(endpoint->namespace, sizeof(endpoint->namespace), "default");
	snprintf(endpoint->name, sizeof(endpoint->name), "%.*s", SHORT_ID_LENGTH,
		 endpoint->container_id);
	if (ret == 0)
		ret = pod_name_get(&namespace, endpoint->namespace, err);
	if (ret == 0)
		ret = pod_name_get(&name, endpoint->name, err);
	if (ret == 0)
		ret = pod_name_get(&uid, endpoint->uid, err);
	return ret;
}

/* ---- addresses ------------------------------------------------------------------------------- */

/* "192.0.2.5" or "192.0.2.5/24": runtimes write the ips capability both ways. */
static int ip_parse(const struct json_node *node, struct addr *ret_addr, struct errmsg *err)
{
	const char *text = NULL;
	char bare[ADDR_TEXT_MAX];
	int ret = json_string(node, &text, err);

	if (ret < 0)
		return ret;
	snprintf(bare, sizeof(bare), "%.*s", (int)strcspn(text, "/"), text);
	if (addr_parse(bare, ret_addr) < 0)
		return json_fail(node, err, "\"%s\" is not an address", text);
	return 0;
}

static int ips_parse(const struct json_node *root, struct endpoint_request *request,
		     struct errmsg *err)
{
	struct json_node ips = json_member(root, "ips");
	size_t count = 0;
	int ret = json_present(&ips) ? json_array(&ips, &count, err) : 0;

	if (ret < 0)
		return ret;
	if (count > ARRAY_SIZE(request->ips))
		return json_fail(&ips, err, "an interface has at most one address of a family");
	for (size_t i = 0; i < count; i++) {
		struct json_node item = json_at(&ips, i);

		ret = ip_parse(&item, &request->ips[i], err);
		if (ret < 0)
			return ret;
	}
	if (count == 2 && addr_is_v4(&request->ips[0]) == addr_is_v4(&request->ips[1]))
		return json_fail(&ips, err, "an interface has at most one address of a family");
	request->ip_count = count;
	return 0;
}

/* "192.0.2.5/24" with its host bits. */
static int cidr_parse(const struct json_node *node, struct prefix *ret_prefix, struct errmsg *err)
{
	const char *text = NULL;
	struct prefix prefix;
	struct addr addr;
	int ret = json_string(node, &text, err);

	if (ret == 0)
		ret = ip_parse(node, &addr, err);
	if (ret < 0)
		return ret;
	if (prefix_parse(text, &prefix) < 0)
		return json_fail(node, err, "\"%s\" is not an address with a prefix length", text);
	ret_prefix->addr = addr;
	ret_prefix->len = prefix.len;
	return 0;
}

/* The gateway is only the address by which a pod knows the host's end.  If IPAM gave none, we take
 * one: link-local, and in use nowhere else. */
static struct addr gateway_default(bool v4)
{
	struct addr addr = {};

	addr_parse(v4 ? "169.254.1.1" : "fe80::1", &addr);
	return addr;
}

static int delegated_address_parse(const struct json_node *item, struct endpoint *endpoint,
				   struct errmsg *err)
{
	struct ipam_lease *lease = &endpoint->addresses[endpoint->address_count];
	struct json_node address = json_member(item, "address");
	struct json_node gateway = json_member(item, "gateway");
	int ret = json_object(item, err);

	if (ret == 0)
		ret = cidr_parse(&address, &lease->address, err);
	if (ret < 0)
		return ret;
	if (addr_is_special(&lease->address.addr))
		return json_fail(&address, err, "not an address that a pod can have");
	lease->gateway = gateway_default(addr_is_v4(&lease->address.addr));
	if (json_present(&gateway))
		ret = ip_parse(&gateway, &lease->gateway, err);
	if (ret < 0)
		return ret;
	if (addr_is_v4(&lease->gateway) != addr_is_v4(&lease->address.addr))
		return json_fail(&gateway, err, "not of the address's family");
	if (endpoint->address_count == 1 &&
	    addr_is_v4(&lease->address.addr) == addr_is_v4(&endpoint->addresses[0].address.addr))
		return json_fail(item, err, "an interface has at most one address of a family");
	endpoint->address_count++;
	return 0;
}

/* Default routes exist anyway.  All routes lead through the host, so "gw" is not needed. */
static int delegated_route_parse(const struct json_node *item, struct endpoint *endpoint,
				 struct errmsg *err)
{
	struct json_node dst_node = json_member(item, "dst");
	const char *text = NULL;
	struct prefix dst;
	int ret = json_object(item, err);

	if (ret == 0)
		ret = json_string(&dst_node, &text, err);
	if (ret < 0)
		return ret;
	if (prefix_parse(text, &dst) < 0)
		return json_fail(&dst_node, err, "\"%s\" is not a prefix", text);
	if (dst.len == (addr_is_v4(&dst.addr) ? V4_MAPPED_BITS : 0))
		return 0;
	if (endpoint->route_count == ARRAY_SIZE(endpoint->routes))
		return json_fail(item, err, "more than %d routes", ENDPOINT_ROUTES_MAX);
	endpoint->routes[endpoint->route_count++] = dst;
	return 0;
}

static int delegated_parse(const struct json_node *root, struct endpoint *endpoint,
			   struct errmsg *err)
{
	struct json_node ipam = json_member(root, "ipam");
	struct json_node ips = json_member(&ipam, "ips");
	struct json_node routes = json_member(&ipam, "routes");
	size_t ip_count = 0;
	size_t route_count = 0;
	int ret;

	if (!json_present(&ipam))
		return 0;
	endpoint->delegated = true;
	ret = json_object(&ipam, err);
	if (ret == 0)
		ret = json_array(&ips, &ip_count, err);
	if (ret == 0 && json_present(&routes))
		ret = json_array(&routes, &route_count, err);
	if (ret == 0 && (ip_count < 1 || ip_count > ARRAY_SIZE(endpoint->addresses)))
		return json_fail(&ips, err, "an interface has one address, or one of each family");
	for (size_t i = 0; ret == 0 && i < ip_count; i++) {
		struct json_node item = json_at(&ips, i);

		ret = delegated_address_parse(&item, endpoint, err);
	}
	for (size_t i = 0; ret == 0 && i < route_count; i++) {
		struct json_node item = json_at(&routes, i);

		ret = delegated_route_parse(&item, endpoint, err);
	}
	return ret;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int link_parse(const struct json_node *root, struct endpoint_request *request,
		      struct errmsg *err)
{
	struct json_node mtu_node = json_member(root, "mtu");
	struct json_node mac_node = json_member(root, "mac");
	const char *mac = NULL;
	int64_t mtu = 0;
	int ret = json_integer_opt(&mtu_node, 0, MTU_MAX, &mtu, err);

	if (ret == 0)
		ret = json_string_opt(&mac_node, &mac, err);
	if (ret < 0)
		return ret;
	if (mtu != 0 && mtu < MTU_MIN)
		return json_fail(&mtu_node, err, "less than %d", MTU_MIN);
	request->endpoint->mtu = (unsigned int)mtu;
	if (!mac || !mac[0])
		return 0;
	if (mac_parse(mac, request->endpoint->mac) < 0 || (request->endpoint->mac[0] & 1))
		return json_fail(&mac_node, err, "\"%s\" is not the MAC of one device", mac);
	request->has_mac = true;
	return 0;
}

int endpoint_request_parse(const struct cJSON *json, struct endpoint_request *ret_request,
			   struct errmsg *err)
{
	auto_(endpoint) struct endpoint *endpoint = endpoint_new();
	struct endpoint_request request = { .endpoint = endpoint };
	struct json_node root = json_root(json);
	struct json_node netns = json_member(&root, "netns");
	struct json_node labels = json_member(&root, "labels");
	struct json_node network = json_member(&root, "network");
	const char *container_id = NULL;
	const char *netns_path = "";
	const char *ifname = NULL;
	int ret;

	if (!endpoint)
		return fail(err, -ENOMEM, "request");
	ret = endpoint_request_names(&root, &container_id, &ifname, err);
	if (ret == 0)
		ret = json_string(&netns, &netns_path, err);
	if (ret < 0)
		return ret;
	if (strlen(netns_path) > NETNS_PATH_MAX)
		return json_fail(&netns, err, "too long");
	snprintf(endpoint->container_id, sizeof(endpoint->container_id), "%s", container_id);
	snprintf(endpoint->ifname, sizeof(endpoint->ifname), "%s", ifname);
	endpoint->netns_path = strdup(netns_path);
	if (!endpoint->netns_path)
		return fail(err, -ENOMEM, "request");
	ret = pod_parse(&root, endpoint, err);
	if (ret == 0)
		ret = pod_name_get(&network, endpoint->network, err);
	if (ret == 0)
		ret = labels_from_json(&labels, &endpoint->labels, err);
	if (ret == 0)
		ret = link_parse(&root, &request, err);
	if (ret == 0)
		ret = ips_parse(&root, &request, err);
	if (ret == 0)
		ret = delegated_parse(&root, endpoint, err);
	if (ret < 0)
		return ret;
	*ret_request = request;
	ret_request->endpoint = take_ptr(endpoint);
	return 0;
}

/* ---- the result ------------------------------------------------------------------------------ */

static bool interface_add(struct cJSON *interfaces, const char *name, const uint8_t mac[6],
			  unsigned int mtu, const char *sandbox)
{
	struct cJSON *item = cJSON_CreateObject();
	char text[18];

	return cJSON_AddItemToArray(interfaces, item) &&
	       cJSON_AddStringToObject(item, "name", name) &&
	       cJSON_AddStringToObject(item, "mac", mac_format(mac, text)) &&
	       cJSON_AddNumberToObject(item, "mtu", mtu) &&
	       (!sandbox || cJSON_AddStringToObject(item, "sandbox", sandbox));
}

/* Host bits stay: "10.1.2.3/24". */
static const char *lease_format(const struct ipam_lease *lease, char *buf)
{
	bool v4 = addr_is_v4(&lease->address.addr);
	char text[ADDR_TEXT_MAX];

	snprintf(buf, ADDR_TEXT_MAX, "%.50s/%u", addr_format(&lease->address.addr, text),
		 lease->address.len - (v4 ? V4_MAPPED_BITS : 0U));
	return buf;
}

static bool ip_add(struct cJSON *ips, const struct ipam_lease *lease)
{
	struct cJSON *item = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];

	return cJSON_AddItemToArray(ips, item) &&
	       cJSON_AddStringToObject(item, "address", lease_format(lease, text)) &&
	       cJSON_AddStringToObject(item, "gateway", addr_format(&lease->gateway, text)) &&
	       cJSON_AddNumberToObject(item, "interface", 1);
}

static bool route_add(struct cJSON *routes, const char *dst, const struct addr *gateway)
{
	struct cJSON *item = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];

	return cJSON_AddItemToArray(routes, item) && cJSON_AddStringToObject(item, "dst", dst) &&
	       cJSON_AddStringToObject(item, "gw", addr_format(gateway, text));
}

static bool routes_add(struct cJSON *routes, const struct endpoint *endpoint,
		       const struct ipam_lease *lease)
{
	bool v4 = addr_is_v4(&lease->address.addr);
	char text[ADDR_TEXT_MAX];

	if (!route_add(routes, v4 ? "0.0.0.0/0" : "::/0", &lease->gateway))
		return false;
	for (size_t i = 0; i < endpoint->route_count; i++) {
		if (addr_is_v4(&endpoint->routes[i].addr) == v4 &&
		    !route_add(routes, prefix_format(&endpoint->routes[i], text), &lease->gateway))
			return false;
	}
	return true;
}

struct cJSON *endpoint_result(const struct endpoint *endpoint)
{
	auto_json struct cJSON *result = cJSON_CreateObject();
	struct cJSON *interfaces = cJSON_AddArrayToObject(result, "interfaces");
	struct cJSON *ips = cJSON_AddArrayToObject(result, "ips");
	struct cJSON *routes = cJSON_AddArrayToObject(result, "routes");

	if (!routes ||
	    !interface_add(interfaces, endpoint->host_ifname, endpoint->host_mac, endpoint->mtu,
			   NULL) ||
	    !interface_add(interfaces, endpoint->ifname, endpoint->mac, endpoint->mtu,
			   endpoint->netns_path))
		return NULL;
	for (size_t i = 0; i < endpoint->address_count; i++) {
		if (!ip_add(ips, &endpoint->addresses[i]) ||
		    !routes_add(routes, endpoint, &endpoint->addresses[i]))
			return NULL;
	}
	return take_ptr(result);
}
