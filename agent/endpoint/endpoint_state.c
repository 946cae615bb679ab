/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints on disk: RUN_DIR/endpoints/SLOT.json, one file each, replaced by rename.  They are the
 * only record of what is allocated.  Not synced to the disk: a machine that crashes loses the
 * interfaces too, and files without an interface are removed at the next start.
 *
 * Since version 2 a file ends in a line with its checksum.  One of version 1 is read as it is, and
 * written anew at once.
 */
#include "agent/endpoint/endpoint_internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/file.h"
#define LOG_MODULE "endpoint"
#include "lib/log.h"

#define STATE_VERSION  2
#define STATE_CHECKED  2 /* the first version that has a checksum */
#define STATE_FILE_MAX (256UL * 1024)
#define STATE_ROOM_MIN 16384 /* a state file, twice, and a little */

static const char *const state_names[ENDPOINT_STATE_COUNT] = {
	[ENDPOINT_PENDING] = "pending",
	[ENDPOINT_READY] = "ready",
	[ENDPOINT_BROKEN] = "broken",
	[ENDPOINT_DELETING] = "deleting",
};

const char *endpoint_state_name(enum endpoint_state state)
{
	return state_names[state];
}

static void state_path(const struct endpoints *endpoints, uint16_t slot, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%u.json", endpoints->state_dir, slot);
}

/* ---- print ----------------------------------------------------------------------------------- */

/* cJSON numbers are doubles: 64-bit numbers are written as text. */
static void add_u64(struct cJSON *object, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	cJSON_AddStringToObject(object, key, text);
}

static void add_mac(struct cJSON *object, const char *key, const uint8_t mac[6])
{
	char text[18];

	cJSON_AddStringToObject(object, key, mac_format(mac, text));
}

static void add_addresses(struct cJSON *root, const struct endpoint *endpoint)
{
	struct cJSON *addresses = cJSON_AddArrayToObject(root, "addresses");
	struct cJSON *routes = cJSON_AddArrayToObject(root, "routes");
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < endpoint->address_count; i++) {
		const struct ipam_lease *lease = &endpoint->addresses[i];
		struct cJSON *item = cJSON_CreateObject();

		cJSON_AddItemToArray(addresses, item);
		cJSON_AddStringToObject(item, "address", addr_format(&lease->address.addr, text));
		cJSON_AddNumberToObject(item, "bits", lease->address.len);
		cJSON_AddStringToObject(item, "gateway", addr_format(&lease->gateway, text));
	}
	for (size_t i = 0; i < endpoint->route_count; i++)
		cJSON_AddItemToArray(routes,
				     cJSON_CreateString(prefix_format(&endpoint->routes[i], text)));
}

static void add_labels(struct cJSON *root, const struct labels *labels)
{
	struct cJSON *object = cJSON_AddObjectToObject(root, "labels");

	for (size_t i = 0; i < labels->count; i++)
		cJSON_AddStringToObject(object, labels->items[i].key, labels->items[i].value);
}

static void add_host_ports(struct cJSON *root, const struct endpoint *endpoint)
{
	struct cJSON *array = cJSON_AddArrayToObject(root, "portMappings");
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < endpoint->host_port_count; i++) {
		const struct host_port *port = &endpoint->host_ports[i];
		struct cJSON *item = cJSON_CreateObject();

		cJSON_AddItemToArray(array, item);
		cJSON_AddNumberToObject(item, "hostPort", port->host_port);
		cJSON_AddNumberToObject(item, "containerPort", port->port);
		cJSON_AddStringToObject(item, "protocol", proto_name(port->proto));
		if (!addr_is_zero(&port->host_ip))
			cJSON_AddStringToObject(item, "hostIP", addr_format(&port->host_ip, text));
	}
}

char *endpoint_state_print(const struct endpoint *endpoint)
{
	auto_json struct cJSON *root = cJSON_CreateObject();

	cJSON_AddNumberToObject(root, "version", STATE_VERSION);
	cJSON_AddNumberToObject(root, "slot", endpoint->slot);
	cJSON_AddStringToObject(root, "state", state_names[endpoint->state]);
	cJSON_AddStringToObject(root, "containerId", endpoint->container_id);
	cJSON_AddStringToObject(root, "ifname", endpoint->ifname);
	cJSON_AddStringToObject(root, "netns", endpoint->netns_path);
	add_u64(root, "netnsCookie", endpoint->netns.cookie);
	add_u64(root, "netnsInode", endpoint->netns.inode);
	cJSON_AddStringToObject(root, "namespace", endpoint->namespace);
	cJSON_AddStringToObject(root, "name", endpoint->name);
	cJSON_AddStringToObject(root, "uid", endpoint->uid);
	cJSON_AddStringToObject(root, "network", endpoint->network);
	add_labels(root, &endpoint->labels);
	add_addresses(root, endpoint);
	cJSON_AddBoolToObject(root, "delegated", endpoint->delegated);
	cJSON_AddNumberToObject(root, "mtu", endpoint->mtu);
	add_mac(root, "mac", endpoint->mac);
	add_mac(root, "hostMac", endpoint->host_mac);
	add_u64(root, "sequence", endpoint->sequence);
	if (endpoint->host_port_count)
		add_host_ports(root, endpoint);
	if (endpoint->chained) {
		cJSON_AddStringToObject(root, "hostIfname", endpoint->host_ifname);
		cJSON_AddNumberToObject(root, "hostIfindex", endpoint->host_ifindex);
		cJSON_AddNumberToObject(root, "podIfindex", endpoint->pod_ifindex);
	}
	return cJSON_PrintUnformatted(root);
}

int endpoint_state_save(const struct endpoints *endpoints, const struct endpoint *endpoint,
			struct errmsg *err)
{
	auto_free char *text = endpoint_state_print(endpoint);
	char path[350];

	state_path(endpoints, endpoint->slot, path, sizeof(path));
	return file_write_checked(path, text, strlen(text), 0600, FILE_FAST, err);
}

void endpoint_state_remove(const struct endpoints *endpoints, const struct endpoint *endpoint)
{
	char path[350];

	state_path(endpoints, endpoint->slot, path, sizeof(path));
	unlink(path);
}

int endpoint_state_room(const struct endpoints *endpoints, struct errmsg *err)
{
	struct statvfs fs;

	if (statvfs(endpoints->state_dir, &fs) < 0)
		return fail(err, -errno, "%s", endpoints->state_dir);
	/* File systems without a limit of their own report zeros. */
	if ((fs.f_blocks && fs.f_bavail * fs.f_frsize < STATE_ROOM_MIN) ||
	    (fs.f_files && fs.f_favail < 2))
		return fail_plain(err, -ENOSPC,
				  "the file system of %s is full: no pod can be added",
				  endpoints->state_dir);
	return 0;
}

/* ---- parse ----------------------------------------------------------------------------------- */

static uint64_t read_u64(struct reader *reader, const struct json_node *root, const char *key)
{
	struct json_node node = json_member(root, key);
	uint64_t value = 0;

	if (number_parse(read_required_string(reader, &node), 0, UINT64_MAX, &value) < 0)
		reader_error(reader, &node, "not a number");
	return value;
}

static void read_name(struct reader *reader, const struct json_node *root, const char *key,
		      char buf[POD_NAME_MAX])
{
	struct json_node node = json_member(root, key);

	if (snprintf(buf, POD_NAME_MAX, "%s", read_required_string(reader, &node)) >= POD_NAME_MAX)
		reader_error(reader, &node, "too long");
}

static void read_mac(struct reader *reader, const struct json_node *root, const char *key,
		     uint8_t ret_mac[6])
{
	struct json_node node = json_member(root, key);

	if (mac_parse(read_required_string(reader, &node), ret_mac) < 0)
		reader_error(reader, &node, "not a MAC");
}

static unsigned int read_number(struct reader *reader, const struct json_node *root,
				const char *key, int64_t min, int64_t max)
{
	struct json_node node = json_member(root, key);

	read_required(reader, &node);
	return (unsigned int)read_integer(reader, &node, min, max, min);
}

static struct addr read_address(struct reader *reader, const struct json_node *root,
				const char *key)
{
	struct json_node node = json_member(root, key);
	struct addr addr = {};

	if (addr_parse(read_required_string(reader, &node), &addr) < 0)
		reader_error(reader, &node, "not an address");
	return addr;
}

static void lease_read(struct reader *reader, const struct json_node *item,
		       struct ipam_lease *lease)
{
	lease->address.addr = read_address(reader, item, "address");
	lease->gateway = read_address(reader, item, "gateway");
	lease->address.len = (uint8_t)read_number(reader, item, "bits",
						  addr_is_v4(&lease->address.addr) ? 96 : 0, 128);
}

static void addresses_read(struct reader *reader, const struct json_node *root,
			   struct endpoint *endpoint)
{
	struct json_node addresses = json_member(root, "addresses");
	const struct cJSON *item;

	if (!read_required(reader, &addresses) || !read_is_array(reader, &addresses))
		return;
	if (!addresses.value->child ||
	    cJSON_GetArraySize(addresses.value) > (int)ARRAY_SIZE(endpoint->addresses)) {
		reader_error(reader, &addresses, "%d addresses",
			     cJSON_GetArraySize(addresses.value));
		return;
	}
	cJSON_ArrayForEach (item, addresses.value) {
		struct json_node node = json_element(&addresses, item, endpoint->address_count);

		lease_read(reader, &node, &endpoint->addresses[endpoint->address_count++]);
	}
}

static void routes_read(struct reader *reader, const struct json_node *root,
			struct endpoint *endpoint)
{
	struct json_node routes = json_member(root, "routes");
	const struct cJSON *item;

	if (!read_required(reader, &routes) || !read_is_array(reader, &routes))
		return;
	if (cJSON_GetArraySize(routes.value) > (int)ARRAY_SIZE(endpoint->routes)) {
		reader_error(reader, &routes, "%d routes", cJSON_GetArraySize(routes.value));
		return;
	}
	cJSON_ArrayForEach (item, routes.value) {
		struct json_node node = json_element(&routes, item, endpoint->route_count);
		const char *text = read_required_string(reader, &node);

		if (prefix_parse(text, &endpoint->routes[endpoint->route_count++]) < 0)
			reader_error(reader, &node, "not a prefix");
	}
}

static enum endpoint_state read_state(struct reader *reader, const struct json_node *root)
{
	struct json_node node = json_member(root, "state");
	const char *text = read_required_string(reader, &node);

	for (int i = 0; i < ENDPOINT_STATE_COUNT; i++) {
		if (strcmp(state_names[i], text) == 0)
			return (enum endpoint_state)i;
	}
	reader_error(reader, &node, "\"%s\" is not a state", text);
	return ENDPOINT_PENDING;
}

static void names_read(struct reader *reader, const struct json_node *root,
		       struct endpoint *endpoint)
{
	struct json_node netns = json_member(root, "netns");
	struct json_node labels = json_member(root, "labels");
	const char *container_id, *ifname;

	endpoint_names_read(reader, root, &container_id, &ifname);
	snprintf(endpoint->container_id, sizeof(endpoint->container_id), "%s", container_id);
	snprintf(endpoint->ifname, sizeof(endpoint->ifname), "%s", ifname);
	endpoint->netns_path = xstrdup(read_required_string(reader, &netns));
	read_name(reader, root, "namespace", endpoint->namespace);
	read_name(reader, root, "name", endpoint->name);
	read_name(reader, root, "uid", endpoint->uid);
	read_name(reader, root, "network", endpoint->network);
	labels_read(reader, &labels, &endpoint->labels);
}

/* Only of an endpoint that another plugin wired. */
static void chained_read(struct reader *reader, const struct json_node *root,
			 struct endpoint *endpoint)
{
	struct json_node host = json_member(root, "hostIfindex");
	struct json_node name = json_member(root, "hostIfname");

	if (!json_present(&host))
		return;
	endpoint->chained = true;
	endpoint->host_ifindex = (int)read_number(reader, root, "hostIfindex", 1, INT32_MAX);
	endpoint->pod_ifindex = (int)read_number(reader, root, "podIfindex", 1, INT32_MAX);
	if (snprintf(endpoint->host_ifname, IFNAME_MAX, "%s",
		     read_required_string(reader, &name)) >= IFNAME_MAX)
		reader_error(reader, &name, "too long");
}

int endpoint_state_parse(const char *text, size_t len, struct endpoint **ret_endpoint,
			 struct errmsg *err)
{
	auto_(endpoint) struct endpoint *endpoint = endpoint_new();
	auto_json struct cJSON *json = NULL;
	struct reader reader = { .err = err };
	struct json_node root, delegated;
	int ret;

	ret = json_parse(text, len, &json, err);
	if (ret < 0)
		return ret;
	root = json_root(json);
	delegated = json_member(&root, "delegated");
	if (read_required(&reader, &root))
		read_is_object(&reader, &root);
	endpoint->state_version = read_number(&reader, &root, "version", 1, INT32_MAX);
	if (endpoint->state_version > STATE_VERSION)
		reader_fail(&reader, -EPROTO,
			    "version %u of this file, but this agent reads version %d",
			    endpoint->state_version, STATE_VERSION);
	endpoint_set_slot(endpoint, (uint16_t)read_number(&reader, &root, "slot", 1, UINT16_MAX));
	endpoint->mtu = read_number(&reader, &root, "mtu", 0, UINT16_MAX);
	endpoint->netns.cookie = read_u64(&reader, &root, "netnsCookie");
	endpoint->netns.inode = read_u64(&reader, &root, "netnsInode");
	endpoint->sequence = read_u64(&reader, &root, "sequence");
	endpoint->state = read_state(&reader, &root);
	names_read(&reader, &root, endpoint);
	addresses_read(&reader, &root, endpoint);
	routes_read(&reader, &root, endpoint);
	read_required(&reader, &delegated);
	endpoint->delegated = read_bool(&reader, &delegated, false);
	read_mac(&reader, &root, "mac", endpoint->mac);
	read_mac(&reader, &root, "hostMac", endpoint->host_mac);
	chained_read(&reader, &root, endpoint);
	host_ports_read(&reader, &root, endpoint);
	if (reader.ret)
		return reader.ret;
	*ret_endpoint = take_ptr(endpoint);
	return 0;
}

/* ---- load ------------------------------------------------------------------------------------ */

static int state_load_one(struct endpoints *endpoints, const char *path, struct errmsg *err)
{
	auto_(endpoint) struct endpoint *endpoint = NULL;
	auto_free char *text = NULL;
	bool checked = false;
	char expected[350];
	uint16_t slot;
	size_t len = 0;
	int ret = file_read_checked(path, STATE_FILE_MAX, &text, &len, &checked, err);

	if (ret == -EBADMSG)
		return fail_plain(err, ret, "damaged, its checksum does not match");
	if (ret == 0)
		ret = endpoint_state_parse(text, len, &endpoint, err);
	if (ret < 0)
		return ret;
	/* NOLINTNEXTLINE(*NullDereference): parsed */
	if (!checked && endpoint->state_version >= STATE_CHECKED)
		return fail_plain(err, -EBADMSG, "its last line, the checksum, is missing");
	/* NOLINTNEXTLINE(*NullDereference): parsed */
	state_path(endpoints, endpoint->slot, expected, sizeof(expected));
	if (strcmp(path, expected) != 0)
		return fail_plain(err, -EINVAL, "slot %u belongs into %s", endpoint->slot,
				  expected);
	if (endpoint->slot >= endpoints->slot_count)
		return fail_plain(err, -ENOSPC,
				  "slot %u is in use, but max-endpoints leaves room for %zu",
				  endpoint->slot, endpoints->slot_count - 1);
	if (endpoint_find(endpoints, endpoint->container_id, endpoint->ifname))
		return fail_plain(err, -EEXIST, "a second file for %s/%s", endpoint->container_id,
				  endpoint->ifname);
	if (endpoint->sequence > endpoints->sequence)
		endpoints->sequence = endpoint->sequence;
	slot = endpoint->slot; /* read before the pointer is given up */
	endpoints->slots[slot] = take_ptr(endpoint);
	return 0;
}

static bool has_suffix(const char *name, const char *suffix)
{
	size_t len = strlen(name);
	size_t suffix_len = strlen(suffix);

	return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

/* What a person, or a crash of the machine, may have done to a file.  All else, above all a file of
 * another version, is no reason to take a pod's network away. */
static bool is_damage(int code)
{
	return code == -EBADMSG || code == -EINVAL || code == -EFBIG || code == -EEXIST;
}

static int state_load_or_set_aside(struct endpoints *endpoints, const char *path,
				   struct errmsg *err)
{
	char aside[700];
	int ret = state_load_one(endpoints, path, err);

	if (ret == 0 || !is_damage(ret))
		return ret == 0 ? 0 : wrap(err, "%s", path);
	snprintf(aside, sizeof(aside), "%s.corrupt", path);
	log_error("%s: %s; kept as %s", path, err->text, aside);
	if (rename(path, aside) < 0)
		log_error("rename %s: %s", path, strerror(errno));
	return 0;
}

/* Files of an earlier version become ones of this version, which a full disk may put off. */
static void state_renew(const struct endpoints *endpoints)
{
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		const struct endpoint *endpoint = endpoints->slots[slot];
		struct errmsg err = {};

		if (endpoint && endpoint->state_version < STATE_VERSION &&
		    endpoint_state_save(endpoints, endpoint, &err) < 0)
			log_warn("%s", err.text);
	}
}

int endpoint_state_load(struct endpoints *endpoints, struct errmsg *err)
{
	DIR *dir = opendir(endpoints->state_dir);
	struct dirent *entry;
	int ret = 0;

	if (!dir)
		return fail(err, -errno, "open %s", endpoints->state_dir);
	while (ret == 0 && (entry = readdir(dir))) {
		char path[600];

		snprintf(path, sizeof(path), "%s/%s", endpoints->state_dir, entry->d_name);
		if (has_suffix(entry->d_name, ".tmp"))
			unlink(path); /* an agent was killed while it wrote */
		else if (has_suffix(entry->d_name, ".json"))
			ret = state_load_or_set_aside(endpoints, path, err);
	}
	closedir(dir);
	if (ret == 0)
		state_renew(endpoints);
	return ret;
}
