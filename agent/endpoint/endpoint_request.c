/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin's requests, checked and typed; the result of an ADD. */
#include "agent/endpoint/endpoint_internal.h"

#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"

#define LABELS_MAX      256
#define NETNS_PATH_MAX  4096
#define MTU_MIN         68
#define MTU_MAX         65535
#define SHORT_ID_LENGTH 12
#define V4_MAPPED_BITS  96

/* ---- labels ---------------------------------------------------------------------------------- */

void labels_read(struct reader *reader, const struct json_node *node, struct labels *ret_labels)
{
	struct labels labels = {};
	const struct cJSON *item;

	if (!read_is_object(reader, node))
		return;
	if (cJSON_GetArraySize(node->value) > LABELS_MAX) {
		reader_error(reader, node, "more than %d labels", LABELS_MAX);
		return;
	}
	labels.items = xcalloc((size_t)cJSON_GetArraySize(node->value) + 1, sizeof(*labels.items));
	cJSON_ArrayForEach (item, node->value) {
		struct json_node member = json_member_node(node, item);
		const char *value = read_string(reader, &member);

		labels.items[labels.count++] = (struct label){
			.key = xstrdup(item->string),
			.value = xstrdup(value ? value : ""),
		};
	}
	labels_sort(&labels);
	for (size_t i = 1; i < labels.count; i++) {
		if (strcmp(labels.items[i - 1].key, labels.items[i].key) == 0)
			reader_error(reader, node, "label \"%s\" is given twice",
				     labels.items[i].key);
	}
	*ret_labels = labels;
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

void endpoint_names_read(struct reader *reader, const struct json_node *root,
			 const char **ret_container_id, const char **ret_ifname)
{
	struct json_node id = json_member(root, "containerId");
	struct json_node ifname = json_member(root, "ifname");

	if (read_required(reader, root))
		read_is_object(reader, root);
	*ret_container_id = read_required_string(reader, &id);
	*ret_ifname = read_required_string(reader, &ifname);
	if (!container_id_is_valid(*ret_container_id))
		reader_error(reader, &id,
			     "not a container id (letters, digits, '_', '.', '-'; at most %d)",
			     CONTAINER_ID_MAX);
	if (!ifname_is_valid(*ret_ifname))
		reader_error(reader, &ifname, "not an interface name");
}

/* Copies a name of at most POD_NAME_MAX - 1 bytes that must not make paths or lines ambiguous. */
static void pod_name_read(struct reader *reader, const struct json_node *node, char *buf)
{
	const char *text = read_string(reader, node);

	if (!text || !text[0])
		return;
	if (strlen(text) >= POD_NAME_MAX)
		reader_error(reader, node, "longer than %d characters", POD_NAME_MAX - 1);
	for (const char *c = text; *c; c++) {
		if (!isgraph((unsigned char)*c) || *c == '/') {
			reader_error(reader, node, "not a name");
			break;
		}
	}
	snprintf(buf, POD_NAME_MAX, "%s", text);
}

static void pod_read(struct reader *reader, const struct json_node *root, struct endpoint *endpoint)
{
	struct json_node pod = json_member(root, "pod");
	struct json_node namespace = json_member(&pod, "namespace");
	struct json_node name = json_member(&pod, "name");
	struct json_node uid = json_member(&pod, "uid");

	read_is_object(reader, &pod);
	snprintf(endpoint->namespace, sizeof(endpoint->namespace), "default");
	snprintf(endpoint->name, sizeof(endpoint->name), "%.*s", SHORT_ID_LENGTH,
		 endpoint->container_id);
	pod_name_read(reader, &namespace, endpoint->namespace);
	pod_name_read(reader, &name, endpoint->name);
	pod_name_read(reader, &uid, endpoint->uid);
}

/* ---- addresses ------------------------------------------------------------------------------- */

/* "192.0.2.5" or "192.0.2.5/24": runtimes write the ips capability both ways. */
static void ip_read(struct reader *reader, const struct json_node *node, struct addr *ret_addr)
{
	const char *text = read_required_string(reader, node);
	char bare[ADDR_TEXT_MAX];

	snprintf(bare, sizeof(bare), "%.*s", (int)strcspn(text, "/"), text);
	if (addr_parse(bare, ret_addr) < 0)
		reader_error(reader, node, "\"%s\" is not an address", text);
}

static void ips_read(struct reader *reader, const struct json_node *root,
		     struct endpoint_request *request)
{
	struct json_node ips = json_member(root, "ips");
	const struct cJSON *item;

	if (!read_is_array(reader, &ips))
		return;
	cJSON_ArrayForEach (item, ips.value) {
		struct json_node node = json_element(&ips, item, request->ip_count);

		if (request->ip_count == ARRAY_SIZE(request->ips)) {
			reader_error(reader, &ips,
				     "an interface has at most one address of a family");
			return;
		}
		ip_read(reader, &node, &request->ips[request->ip_count++]);
	}
	if (request->ip_count == 2 && addr_is_v4(&request->ips[0]) == addr_is_v4(&request->ips[1]))
		reader_error(reader, &ips, "an interface has at most one address of a family");
}

static void host_port_read(struct reader *reader, const struct json_node *item,
			   struct endpoint *endpoint)
{
	struct json_node ip = json_member(item, "hostIP");
	struct json_node host = json_member(item, "hostPort");
	struct json_node port = json_member(item, "containerPort");
	struct json_node proto = json_member(item, "protocol");
	struct host_port *read = &endpoint->host_ports[endpoint->host_port_count];
	const char *text;

	if (!read_is_object(reader, item))
		return;
	*read = (struct host_port){
		.host_port = (uint16_t)read_integer(reader, &host, 0, UINT16_MAX, 0),
		.port = (uint16_t)read_integer(reader, &port, 1, UINT16_MAX, 0),
	};
	text = read_string(reader, &proto);
	if (proto_parse(text ? text : "tcp", &read->proto) < 0 || !proto_has_ports(read->proto))
		reader_error(reader, &proto, "\"%.20s\" is not tcp, udp or sctp", text);
	text = read_string(reader, &ip);
	if (text && *text && addr_parse(text, &read->host_ip) < 0)
		reader_error(reader, &ip, "\"%.60s\" is not an address", text);
	if (text && (strcmp(text, "0.0.0.0") == 0 || strcmp(text, "::") == 0))
		read->host_ip = (struct addr){};
	endpoint->host_port_count += read->host_port != 0; /* 0: only exposed */
}

void host_ports_read(struct reader *reader, const struct json_node *root, struct endpoint *endpoint)
{
	struct json_node list = json_member(root, "portMappings");
	const struct cJSON *item;
	size_t index = 0;

	if (!read_is_array(reader, &list))
		return;
	if (cJSON_GetArraySize(list.value) > HOST_PORTS_MAX) {
		reader_error(reader, &list, "more than %d", HOST_PORTS_MAX);
		return;
	}
	endpoint->host_ports =
		xcalloc((size_t)cJSON_GetArraySize(list.value) + 1, sizeof(*endpoint->host_ports));
	cJSON_ArrayForEach (item, list.value) {
		struct json_node node = json_element(&list, item, index++);

		host_port_read(reader, &node, endpoint);
	}
}

/* "192.0.2.5/24" with its host bits. */
static void cidr_read(struct reader *reader, const struct json_node *node,
		      struct prefix *ret_prefix)
{
	const char *text = read_required_string(reader, node);
	struct addr addr = {};

	ip_read(reader, node, &addr);
	if (prefix_parse(text, ret_prefix) < 0)
		reader_error(reader, node, "\"%s\" is not an address with a prefix length", text);
	ret_prefix->addr = addr;
}

/* The gateway is only the address by which a pod knows the host's end.  If IPAM gave none, we take
 * one: link-local, and in use nowhere else. */
static struct addr gateway_default(bool v4)
{
	struct addr addr = {};

	addr_parse(v4 ? "169.254.1.1" : "fe80::1", &addr);
	return addr;
}

static void delegated_address_read(struct reader *reader, const struct json_node *item,
				   struct endpoint *endpoint)
{
	struct ipam_lease *lease = &endpoint->addresses[endpoint->address_count];
	struct json_node address = json_member(item, "address");
	struct json_node gateway = json_member(item, "gateway");

	read_is_object(reader, item);
	cidr_read(reader, &address, &lease->address);
	if (addr_is_special(&lease->address.addr))
		reader_error(reader, &address, "not an address that a pod can have");
	lease->gateway = gateway_default(addr_is_v4(&lease->address.addr));
	if (json_present(&gateway))
		ip_read(reader, &gateway, &lease->gateway);
	if (addr_is_v4(&lease->gateway) != addr_is_v4(&lease->address.addr))
		reader_error(reader, &gateway, "not of the address's family");
	if (endpoint->address_count == 1 &&
	    addr_is_v4(&lease->address.addr) == addr_is_v4(&endpoint->addresses[0].address.addr))
		reader_error(reader, item, "an interface has at most one address of a family");
	endpoint->address_count++;
}

/* Default routes exist anyway.  All routes lead through the host, so "gw" is not needed. */
static void delegated_route_read(struct reader *reader, const struct json_node *item,
				 struct endpoint *endpoint)
{
	struct json_node dst_node = json_member(item, "dst");
	struct prefix dst = {};
	const char *text;

	read_is_object(reader, item);
	text = read_required_string(reader, &dst_node);
	if (prefix_parse(text, &dst) < 0)
		reader_error(reader, &dst_node, "\"%s\" is not a prefix", text);
	else if (dst.len == (addr_is_v4(&dst.addr) ? V4_MAPPED_BITS : 0))
		return;
	else if (endpoint->route_count == ARRAY_SIZE(endpoint->routes))
		reader_error(reader, item, "more than %d routes", ENDPOINT_ROUTES_MAX);
	else
		endpoint->routes[endpoint->route_count++] = dst;
}

static void delegated_read(struct reader *reader, const struct json_node *root,
			   struct endpoint *endpoint)
{
	struct json_node ipam = json_member(root, "ipam");
	struct json_node ips = json_member(&ipam, "ips");
	struct json_node routes = json_member(&ipam, "routes");
	const struct cJSON *item;
	size_t index = 0;

	if (!json_present(&ipam))
		return;
	endpoint->delegated = true;
	read_is_object(reader, &ipam);
	if (!read_required(reader, &ips) || !read_is_array(reader, &ips))
		return;
	if (!ips.value->child ||
	    cJSON_GetArraySize(ips.value) > (int)ARRAY_SIZE(endpoint->addresses)) {
		reader_error(reader, &ips, "an interface has one address, or one of each family");
		return;
	}
	cJSON_ArrayForEach (item, ips.value) {
		struct json_node node = json_element(&ips, item, endpoint->address_count);

		delegated_address_read(reader, &node, endpoint);
	}
	if (!read_is_array(reader, &routes))
		return;
	cJSON_ArrayForEach (item, routes.value) {
		struct json_node node = json_element(&routes, item, index++);

		delegated_route_read(reader, &node, endpoint);
	}
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void link_read(struct reader *reader, const struct json_node *root,
		      struct endpoint_request *request)
{
	struct endpoint *endpoint = request->endpoint;
	struct json_node mtu_node = json_member(root, "mtu");
	struct json_node mac_node = json_member(root, "mac");
	const char *mac;

	endpoint->mtu = (unsigned int)read_integer(reader, &mtu_node, 0, MTU_MAX, 0);
	if (endpoint->mtu != 0 && endpoint->mtu < MTU_MIN)
		reader_error(reader, &mtu_node, "less than %d", MTU_MIN);
	mac = read_string(reader, &mac_node);
	if (!mac || !mac[0])
		return;
	if (mac_parse(mac, endpoint->mac) < 0 || (endpoint->mac[0] & 1))
		reader_error(reader, &mac_node, "\"%s\" is not the MAC of one device", mac);
	request->has_mac = true;
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
	struct json_node chained = json_member(&root, "chained");
	struct reader reader = { .err = err };
	const char *container_id, *ifname, *netns_path;

	endpoint_names_read(&reader, &root, &container_id, &ifname);
	netns_path = read_required_string(&reader, &netns);
	if (strlen(netns_path) > NETNS_PATH_MAX)
		reader_error(&reader, &netns, "too long");
	snprintf(endpoint->container_id, sizeof(endpoint->container_id), "%s", container_id);
	snprintf(endpoint->ifname, sizeof(endpoint->ifname), "%s", ifname);
	endpoint->netns_path = xstrdup(netns_path);
	pod_read(&reader, &root, endpoint);
	pod_name_read(&reader, &network, endpoint->network);
	labels_read(&reader, &labels, &endpoint->labels);
	link_read(&reader, &root, &request);
	ips_read(&reader, &root, &request);
	delegated_read(&reader, &root, endpoint);
	host_ports_read(&reader, &root, endpoint);
	endpoint->chained = read_bool(&reader, &chained, false);
	if (endpoint->chained && !endpoint->delegated)
		reader_error(&reader, &chained,
			     "without the addresses of the plugin before (ipam)");
	if (reader.ret)
		return reader.ret;
	*ret_request = request;
	ret_request->endpoint = take_ptr(endpoint);
	return 0;
}

/* ---- the result ------------------------------------------------------------------------------ */

static void interface_add(struct cJSON *interfaces, const char *name, const uint8_t mac[6],
			  unsigned int mtu, const char *sandbox)
{
	struct cJSON *item = cJSON_CreateObject();
	char text[18];

	cJSON_AddItemToArray(interfaces, item);
	cJSON_AddStringToObject(item, "name", name);
	cJSON_AddStringToObject(item, "mac", mac_format(mac, text));
	cJSON_AddNumberToObject(item, "mtu", mtu);
	if (sandbox)
		cJSON_AddStringToObject(item, "sandbox", sandbox);
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

static void ip_add(struct cJSON *ips, const struct ipam_lease *lease)
{
	struct cJSON *item = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];

	cJSON_AddItemToArray(ips, item);
	cJSON_AddStringToObject(item, "address", lease_format(lease, text));
	cJSON_AddStringToObject(item, "gateway", addr_format(&lease->gateway, text));
	cJSON_AddNumberToObject(item, "interface", 1);
}

static void route_add(struct cJSON *routes, const char *dst, const struct addr *gateway)
{
	struct cJSON *item = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];

	cJSON_AddItemToArray(routes, item);
	cJSON_AddStringToObject(item, "dst", dst);
	cJSON_AddStringToObject(item, "gw", addr_format(gateway, text));
}

static void routes_add(struct cJSON *routes, const struct endpoint *endpoint,
		       const struct ipam_lease *lease)
{
	bool v4 = addr_is_v4(&lease->address.addr);
	char text[ADDR_TEXT_MAX];

	route_add(routes, v4 ? "0.0.0.0/0" : "::/0", &lease->gateway);
	for (size_t i = 0; i < endpoint->route_count; i++) {
		if (addr_is_v4(&endpoint->routes[i].addr) == v4)
			route_add(routes, prefix_format(&endpoint->routes[i], text),
				  &lease->gateway);
	}
}

struct cJSON *endpoint_result(const struct endpoint *endpoint)
{
	struct cJSON *result = cJSON_CreateObject();
	struct cJSON *interfaces = cJSON_AddArrayToObject(result, "interfaces");
	struct cJSON *ips = cJSON_AddArrayToObject(result, "ips");
	struct cJSON *routes = cJSON_AddArrayToObject(result, "routes");

	interface_add(interfaces, endpoint->host_ifname, endpoint->host_mac, endpoint->mtu, NULL);
	interface_add(interfaces, endpoint->ifname, endpoint->mac, endpoint->mtu,
		      endpoint->netns_path);
	for (size_t i = 0; i < endpoint->address_count; i++) {
		ip_add(ips, &endpoint->addresses[i]);
		routes_add(routes, endpoint, &endpoint->addresses[i]);
	}
	return result;
}
