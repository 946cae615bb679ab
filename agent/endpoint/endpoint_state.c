/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints on disk: RUN_DIR/endpoints/SLOT.json, one file each, replaced by rename.  They are the
 * only record of what is allocated.  Not synced to the disk: a machine that crashes loses the
 * interfaces too, and files without an interface are removed at the next start.
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

#include "lib/file.h"
#define LOG_MODULE "endpoint"
#include "lib/log.h"

#define STATE_VERSION  1
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
static bool add_u64(struct cJSON *object, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return cJSON_AddStringToObject(object, key, text);
}

static bool add_mac(struct cJSON *object, const char *key, const uint8_t mac[6])
{
	char text[18];

	return cJSON_AddStringToObject(object, key, mac_format(mac, text));
}

static bool add_addresses(struct cJSON *root, const struct endpoint *endpoint)
{
	struct cJSON *addresses = cJSON_AddArrayToObject(root, "addresses");
	struct cJSON *routes = cJSON_AddArrayToObject(root, "routes");
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < endpoint->address_count; i++) {
		const struct ipam_lease *lease = &endpoint->addresses[i];
		struct cJSON *item = cJSON_CreateObject();

		if (!cJSON_AddItemToArray(addresses, item) ||
		    !cJSON_AddStringToObject(item, "address",
					     addr_format(&lease->address.addr, text)) ||
		    !cJSON_AddNumberToObject(item, "bits", lease->address.len) ||
		    !cJSON_AddStringToObject(item, "gateway", addr_format(&lease->gateway, text)))
			return false;
	}
	for (size_t i = 0; i < endpoint->route_count; i++) {
		struct cJSON *item = cJSON_CreateString(prefix_format(&endpoint->routes[i], text));

		if (!cJSON_AddItemToArray(routes, item))
			return false;
	}
	return addresses && routes;
}

static bool add_labels(struct cJSON *root, const struct labels *labels)
{
	struct cJSON *object = cJSON_AddObjectToObject(root, "labels");

	for (size_t i = 0; object && i < labels->count; i++) {
		if (!cJSON_AddStringToObject(object, labels->items[i].key, labels->items[i].value))
			return false;
	}
	return object;
}

char *endpoint_state_print(const struct endpoint *endpoint)
{
	auto_json struct cJSON *root = cJSON_CreateObject();

	if (!cJSON_AddNumberToObject(root, "version", STATE_VERSION) ||
	    !cJSON_AddNumberToObject(root, "slot", endpoint->slot) ||
	    !cJSON_AddStringToObject(root, "state", state_names[endpoint->state]) ||
	    !cJSON_AddStringToObject(root, "containerId", endpoint->container_id) ||
	    !cJSON_AddStringToObject(root, "ifname", endpoint->ifname) ||
	    !cJSON_AddStringToObject(root, "netns", endpoint->netns_path) ||
	    !add_u64(root, "netnsCookie", endpoint->netns.cookie) ||
	    !add_u64(root, "netnsInode", endpoint->netns.inode) ||
	    !cJSON_AddStringToObject(root, "namespace", endpoint->namespace) ||
	    !cJSON_AddStringToObject(root, "name", endpoint->name) ||
	    !cJSON_AddStringToObject(root, "uid", endpoint->uid) ||
	    !cJSON_AddStringToObject(root, "network", endpoint->network) ||
	    !add_labels(root, &endpoint->labels) || !add_addresses(root, endpoint) ||
	    !cJSON_AddBoolToObject(root, "delegated", endpoint->delegated) ||
	    !cJSON_AddNumberToObject(root, "mtu", endpoint->mtu) ||
	    !add_mac(root, "mac", endpoint->mac) || !add_mac(root, "hostMac", endpoint->host_mac) ||
	    !add_u64(root, "sequence", endpoint->sequence))
		return NULL;
	return cJSON_PrintUnformatted(root);
}

int endpoint_state_save(const struct endpoints *endpoints, const struct endpoint *endpoint,
			struct errmsg *err)
{
	auto_free char *text = endpoint_state_print(endpoint);
	char path[350];

	if (!text)
		return fail(err, -ENOMEM, "save the endpoint");
	state_path(endpoints, endpoint->slot, path, sizeof(path));
	return file_write(path, text, strlen(text), 0600, FILE_FAST, err);
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

static int get_u64(const struct json_node *root, const char *key, uint64_t *ret_value,
		   struct errmsg *err)
{
	struct json_node node = json_member(root, key);
	const char *text = NULL;
	int ret = json_string(&node, &text, err);

	if (ret < 0)
		return ret;
	return number_parse(text, 0, UINT64_MAX, ret_value) < 0
		       ? json_fail(&node, err, "not a number")
		       : 0;
}

static int get_text(const struct json_node *root, const char *key, char *buf, size_t size,
		    struct errmsg *err)
{
	struct json_node node = json_member(root, key);
	const char *text = NULL;
	int ret = json_string(&node, &text, err);

	if (ret < 0)
		return ret;
	return (size_t)snprintf(buf, size, "%s", text) >= size ? json_fail(&node, err, "too long")
							       : 0;
}

static int get_mac(const struct json_node *root, const char *key, uint8_t ret_mac[6],
		   struct errmsg *err)
{
	struct json_node node = json_member(root, key);
	const char *text = NULL;
	int ret = json_string(&node, &text, err);

	if (ret < 0)
		return ret;
	return mac_parse(text, ret_mac) < 0 ? json_fail(&node, err, "not a MAC") : 0;
}

static int get_addr(const struct json_node *item, const char *key, struct addr *ret_addr,
		    struct errmsg *err)
{
	struct json_node node = json_member(item, key);
	const char *text = NULL;
	int ret = json_string(&node, &text, err);

	if (ret < 0)
		return ret;
	return addr_parse(text, ret_addr) < 0 ? json_fail(&node, err, "not an address") : 0;
}

static int addresses_parse(const struct json_node *root, struct endpoint *endpoint,
			   struct errmsg *err)
{
	struct json_node addresses = json_member(root, "addresses");
	size_t count = 0;
	int ret = json_array(&addresses, &count, err);

	if (ret == 0 && (count < 1 || count > ARRAY_SIZE(endpoint->addresses)))
		return json_fail(&addresses, err, "%zu addresses", count);
	for (size_t i = 0; ret == 0 && i < count; i++) {
		struct ipam_lease *lease = &endpoint->addresses[i];
		struct json_node item = json_at(&addresses, i);
		struct json_node bits = json_member(&item, "bits");
		int64_t len = 0;

		ret = get_addr(&item, "address", &lease->address.addr, err);
		if (ret == 0)
			ret = get_addr(&item, "gateway", &lease->gateway, err);
		if (ret == 0)
			ret = json_integer(&bits, addr_is_v4(&lease->address.addr) ? 96 : 0, 128,
					   &len, err);
		lease->address.len = (uint8_t)len;
	}
	endpoint->address_count = count;
	return ret;
}

static int routes_parse(const struct json_node *root, struct endpoint *endpoint, struct errmsg *err)
{
	struct json_node routes = json_member(root, "routes");
	size_t count = 0;
	int ret = json_array(&routes, &count, err);

	if (ret == 0 && count > ARRAY_SIZE(endpoint->routes))
		return json_fail(&routes, err, "%zu routes", count);
	for (size_t i = 0; ret == 0 && i < count; i++) {
		struct json_node item = json_at(&routes, i);
		const char *text = NULL;

		ret = json_string(&item, &text, err);
		if (ret == 0 && prefix_parse(text, &endpoint->routes[i]) < 0)
			ret = json_fail(&item, err, "not a prefix");
	}
	endpoint->route_count = count;
	return ret;
}

static int state_name_parse(const struct json_node *root, enum endpoint_state *ret_state,
			    struct errmsg *err)
{
	struct json_node node = json_member(root, "state");
	const char *text = NULL;
	int ret = json_string(&node, &text, err);

	if (ret < 0)
		return ret;
	for (int i = 0; i < ENDPOINT_STATE_COUNT; i++) {
		if (strcmp(state_names[i], text) == 0) {
			*ret_state = (enum endpoint_state)i;
			return 0;
		}
	}
	return json_fail(&node, err, "\"%s\" is not a state", text);
}

static int numbers_parse(const struct json_node *root, struct endpoint *endpoint,
			 struct errmsg *err)
{
	struct json_node version_node = json_member(root, "version");
	struct json_node slot_node = json_member(root, "slot");
	struct json_node mtu_node = json_member(root, "mtu");
	int64_t version = 0, slot = 0, mtu = 0;
	uint64_t inode = 0;
	int ret = json_integer(&version_node, 1, INT32_MAX, &version, err);

	if (ret == 0 && version != STATE_VERSION)
		return fail_plain(err, -EPROTO,
				  "version %d of this file, but this agent reads version %d",
				  (int)version, STATE_VERSION);
	if (ret == 0)
		ret = json_integer(&slot_node, 1, UINT16_MAX, &slot, err);
	if (ret == 0)
		ret = json_integer(&mtu_node, 0, UINT16_MAX, &mtu, err);
	if (ret == 0)
		ret = get_u64(root, "netnsCookie", &endpoint->netns.cookie, err);
	if (ret == 0)
		ret = get_u64(root, "netnsInode", &inode, err);
	if (ret == 0)
		ret = get_u64(root, "sequence", &endpoint->sequence, err);
	if (ret < 0)
		return ret;
	endpoint_set_slot(endpoint, (uint16_t)slot);
	endpoint->mtu = (unsigned int)mtu;
	endpoint->netns.inode = inode;
	return 0;
}

static int names_parse(const struct json_node *root, struct endpoint *endpoint, struct errmsg *err)
{
	struct json_node netns = json_member(root, "netns");
	struct json_node labels = json_member(root, "labels");
	const char *container_id = NULL;
	const char *ifname = NULL;
	const char *path = NULL;
	int ret = endpoint_request_names(root, &container_id, &ifname, err);

	if (ret == 0)
		ret = json_string(&netns, &path, err);
	if (ret == 0)
		ret = get_text(root, "namespace", endpoint->namespace, POD_NAME_MAX, err);
	if (ret == 0)
		ret = get_text(root, "name", endpoint->name, POD_NAME_MAX, err);
	if (ret == 0)
		ret = get_text(root, "uid", endpoint->uid, POD_NAME_MAX, err);
	if (ret == 0)
		ret = get_text(root, "network", endpoint->network, POD_NAME_MAX, err);
	if (ret == 0)
		ret = labels_from_json(&labels, &endpoint->labels, err);
	if (ret < 0)
		return ret;
	snprintf(endpoint->container_id, sizeof(endpoint->container_id), "%s", container_id);
	snprintf(endpoint->ifname, sizeof(endpoint->ifname), "%s", ifname);
	endpoint->netns_path = strdup(path);
	return endpoint->netns_path ? 0 : fail(err, -ENOMEM, "endpoint");
}

int endpoint_state_parse(const char *text, size_t len, struct endpoint **ret_endpoint,
			 struct errmsg *err)
{
	auto_(endpoint) struct endpoint *endpoint = endpoint_new();
	auto_json struct cJSON *json = NULL;
	struct json_node root, delegated;
	int ret;

	if (!endpoint)
		return fail(err, -ENOMEM, "endpoint");
	ret = json_parse(text, len, &json, err);
	if (ret < 0)
		return ret;
	root = json_root(json);
	delegated = json_member(&root, "delegated");
	ret = json_object(&root, err);
	if (ret == 0)
		ret = numbers_parse(&root, endpoint, err);
	if (ret == 0)
		ret = state_name_parse(&root, &endpoint->state, err);
	if (ret == 0)
		ret = names_parse(&root, endpoint, err);
	if (ret == 0)
		ret = addresses_parse(&root, endpoint, err);
	if (ret == 0)
		ret = routes_parse(&root, endpoint, err);
	if (ret == 0)
		ret = json_bool(&delegated, &endpoint->delegated, err);
	if (ret == 0)
		ret = get_mac(&root, "mac", endpoint->mac, err);
	if (ret == 0)
		ret = get_mac(&root, "hostMac", endpoint->host_mac, err);
	if (ret < 0)
		return ret;
	*ret_endpoint = take_ptr(endpoint);
	return 0;
}

/* ---- load ------------------------------------------------------------------------------------ */

static int state_load_one(struct endpoints *endpoints, const char *path, struct errmsg *err)
{
	auto_(endpoint) struct endpoint *endpoint = NULL;
	auto_free char *text = NULL;
	char expected[350];
	uint16_t slot;
	size_t len = 0;
	int ret = file_read(path, STATE_FILE_MAX, &text, &len, err);

	if (ret == 0)
		ret = endpoint_state_parse(text, len, &endpoint, err);
	if (ret < 0)
		return ret;
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
	return ret;
}
