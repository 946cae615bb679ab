/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ADD as a table of steps with undo.  The order makes sure that no pod runs unprotected: its
 * interface has no carrier until policy is in the maps and the program is attached.
 */
#include "agent/endpoint/endpoint_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/sync/sync.h"
#define LOG_MODULE "endpoint"
#include "lib/log.h"

/* ---- reserve --------------------------------------------------------------------------------- */

static bool address_in_use(const struct addr *addr, void *arg)
{
	const struct endpoints *endpoints = arg;

	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		const struct endpoint *other = endpoints->slots[slot];

		for (size_t i = 0; other && i < other->address_count; i++) {
			if (addr_equal(&other->addresses[i].address.addr, addr))
				return true;
		}
	}
	return false;
}

/* Searches from where the last search ended, so that conntrack entries and statistics of the former
 * owner have time to go.  Skips an index that somebody else's device has. */
int endpoint_slot_find(struct endpoints *endpoints, uint16_t *ret_slot, struct errmsg *err)
{
	for (size_t step = 0; step + 1 < endpoints->slot_count; step++) {
		size_t slot = 1 + (endpoints->slot_next + step) % (endpoints->slot_count - 1);
		struct host_link link;

		if (endpoints->slots[slot] ||
		    host_link_get(&endpoints->netlink, ENDPOINT_IFINDEX_BASE + (int)slot, &link,
				  NULL) != -ENODEV)
			continue;
		endpoints->slot_next = slot;
		*ret_slot = (uint16_t)slot;
		return 0;
	}
	return fail_plain(err, -ENOSPC, "all %zu endpoints of this node are in use (max-endpoints)",
			  endpoints->slot_count - 1);
}

/* A pod with an address of the node would have the node's rights. */
static bool address_is_node(const struct addr *addr, const struct endpoints *endpoints)
{
	const struct addr *own;
	size_t count = store_host_addresses(endpoints->store, &own);

	for (size_t i = 0; i < count; i++) {
		if (addr_equal(&own[i], addr))
			return true;
	}
	return false;
}

int endpoint_addresses_check(const struct endpoint_add *add, struct errmsg *err)
{
	const struct endpoint *endpoint = add->endpoint;
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < endpoint->address_count; i++) {
		const struct addr *addr = &endpoint->addresses[i].address.addr;

		if (address_is_node(addr, add->endpoints))
			return fail_plain(err, -EADDRINUSE, "address %s is the node's own",
					  addr_format(addr, text));
		if (address_in_use(addr, add->endpoints))
			return fail_plain(err, -EADDRINUSE,
					  "address %s belongs to another pod already",
					  addr_format(addr, text));
	}
	return 0;
}

static int address_take(struct endpoint_add *add, bool v4, struct errmsg *err)
{
	const struct endpoint_request *request = add->request;
	struct endpoints *endpoints = add->endpoints;
	struct endpoint *endpoint = add->endpoint;
	struct ipam_lease *lease = &endpoint->addresses[endpoint->address_count];
	int ret = -ENOENT;

	for (size_t i = 0; i < request->ip_count; i++) {
		if (addr_is_v4(&request->ips[i]) == v4)
			ret = ipam_request(endpoints->ipam, &request->ips[i], address_in_use,
					   endpoints, lease, err);
	}
	if (ret == -ENOENT && !ipam_has_family(endpoints->ipam, v4))
		return 0;
	if (ret == -ENOENT)
		ret = ipam_allocate(endpoints->ipam, v4, address_in_use, endpoints, lease, err);
	if (ret == 0)
		endpoint->address_count++;
	return ret;
}

/* Whether a former endpoint has an address that was asked for by name. */
static bool holds_requested(const struct endpoint *former, const void *arg)
{
	const struct endpoint_add *add = arg;

	for (size_t i = 0; i < former->address_count; i++) {
		const struct addr *held = &former->addresses[i].address.addr;

		for (size_t k = 0; k < add->request->ip_count; k++) {
			if (addr_equal(held, &add->request->ips[k]))
				return true;
		}
		for (size_t k = 0; add->endpoint->delegated && k < add->endpoint->address_count;
		     k++) {
			if (addr_equal(held, &add->endpoint->addresses[k].address.addr))
				return true;
		}
	}
	return false;
}

static int addresses_take(struct endpoint_add *add, struct errmsg *err)
{
	/* A container with an address of its own that is started again asks for it at once. */
	int ret = endpoints_wait_deleted(add->endpoints, holds_requested, add, err);

	if (ret < 0)
		return ret;
	if (add->endpoint->delegated)
		return endpoint_addresses_check(add, err);
	add->endpoint->address_count = 0;
	ret = address_take(add, true, err);
	return ret == 0 ? address_take(add, false, err) : ret;
}

/* Locally administered, and the same when the endpoint is wired again. */
static void mac_derive(const struct endpoint *endpoint, const char *end, uint8_t mac[6])
{
	uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
	char text[CONTAINER_ID_MAX + IFNAME_MAX + 16];

	snprintf(text, sizeof(text), "%s/%s/%s", endpoint->container_id, endpoint->ifname, end);
	for (const char *c = text; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 0x100000001b3;
	memcpy(mac, &hash, 6);
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 0x02);
}

static int reserve(struct endpoint_add *add, struct errmsg *err)
{
	struct endpoints *endpoints = add->endpoints;
	struct endpoint *endpoint = add->endpoint;
	uint16_t slot = 0;
	int ret;

	add->cni_code = CNI_ADDRESSES_EXHAUSTED;
	ret = endpoint_slot_find(endpoints, &slot, err);
	if (ret == 0)
		endpoint_set_slot(endpoint, slot);
	if (ret == 0)
		ret = addresses_take(add, err);
	if (ret == -EINVAL)
		add->cni_code = CNI_INVALID_CONFIG;
	if (ret < 0)
		return ret;
	if (endpoint->address_count == 0) {
		add->cni_code = CNI_TRY_AGAIN_LATER;
		return fail_plain(err, -EAGAIN,
				  "no pod CIDR is known: the Node object has no podCIDRs yet");
	}
	if (endpoint->mtu == 0)
		endpoint->mtu = endpoints_mtu(endpoints);
	if (endpoint->mtu < MTU_MIN_IPV6 && endpoint_has_ipv6(endpoint)) {
		add->cni_code = CNI_INVALID_CONFIG;
		return fail_plain(err, -EINVAL,
				  "mtu: %u is less than the %u of IPv6, of which the pod gets an "
				  "address",
				  endpoint->mtu, MTU_MIN_IPV6);
	}
	if (!add->request->has_mac)
		mac_derive(endpoint, "pod", endpoint->mac);
	mac_derive(endpoint, "host", endpoint->host_mac);
	endpoint->sequence = ++endpoints->sequence;
	endpoint->state = ENDPOINT_PENDING;
	endpoints->slots[endpoint->slot] = endpoint;
	add->cni_code = CNI_KERNEL_FAILED;
	return 0;
}

static void unreserve(struct endpoint_add *add)
{
	add->endpoints->slots[add->endpoint->slot] = NULL;
}

/* ---- state file ------------------------------------------------------------------------------ */

int step_note_pending(struct endpoint_add *add, struct errmsg *err)
{
	return endpoint_state_save(add->endpoints, add->endpoint, err);
}

void step_forget(struct endpoint_add *add)
{
	endpoint_state_remove(add->endpoints, add->endpoint);
}

int step_note_ready(struct endpoint_add *add, struct errmsg *err)
{
	int ret;

	add->endpoint->state = ENDPOINT_READY;
	ret = endpoint_state_save(add->endpoints, add->endpoint, err);
	if (ret < 0)
		add->endpoint->state = ENDPOINT_PENDING;
	return ret;
}

/* ---- interface ------------------------------------------------------------------------------- */

static int interface_make(struct endpoint_add *add, struct errmsg *err)
{
	int ret = veth_add(&add->endpoints->netlink, add->endpoint, add->netns_fd,
			   add->endpoints->big_tcp, err);

	if (ret == -EEXIST)
		return wrap(err, "%s or %s exists already", add->endpoint->ifname,
			    add->endpoint->host_ifname);
	return ret;
}

static void interface_remove(struct endpoint_add *add)
{
	struct errmsg err = {};

	if (veth_del(&add->endpoints->netlink, endpoint_ifindex(add->endpoint), &err) < 0)
		log_error("undo: delete %s: %s", add->endpoint->host_ifname, err.text);
}

static int interface_look(struct endpoint_add *add, struct errmsg *err)
{
	struct endpoint *endpoint = add->endpoint;
	struct host_link link = {};
	int ret = veth_configure(&add->endpoints->netlink, endpoint, endpoint->host_ifname, err);

	if (ret == 0)
		ret = host_link_get(&add->endpoints->netlink, endpoint_ifindex(endpoint), &link,
				    err);
	if (ret < 0)
		return ret;
	if (link.netns_id < 0 || link.peer_ifindex == 0)
		return fail_plain(err, -EIO,
				  "the kernel does not tell the namespace of the pod's end");
	/* The kernel numbered the pod's namespace for ours when it reported the pair. */
	endpoint->netns_id = (uint32_t)link.netns_id;
	endpoint->pod_ifindex = link.peer_ifindex;
	endpoint->big_tcp = link.big_tcp;
	return 0;
}

static int pod_set_up(struct endpoint_add *add, struct errmsg *err)
{
	return pod_configure(add->endpoint, add->netns_fd, err);
}

static int interface_open(struct endpoint_add *add, struct errmsg *err)
{
	int ret = link_set_up(&add->endpoints->netlink, endpoint_ifindex(add->endpoint), err);

	add->endpoint->carrier = ret == 0;
	return ret == 0 ? pod_link_settle(add->endpoint, add->netns_fd, err) : ret;
}

/* ---- policy ---------------------------------------------------------------------------------- */

int endpoints_sync(struct endpoints *endpoints, struct errmsg *err)
{
	/* At start main.c runs the first one itself, when every source was read. */
	return endpoints->started ? sync_policies(endpoints->sync, err) : 0;
}

int endpoint_publish(struct endpoints *endpoints, const struct endpoint *endpoint,
		     struct errmsg *err)
{
	struct datapath *datapath = endpoints->datapath;
	struct endpoint_entry entry = {};
	int ret = endpoint_map_get(datapath, endpoint->slot, &entry);

	if (ret == 0 &&
	    (entry.netns_cookie != endpoint->netns.cookie || !(entry.flags & ENDPOINT_VALID)))
		entry = (struct endpoint_entry){ .flags = ENDPOINT_VALID };
	entry.netns_cookie = endpoint->netns.cookie;
	entry.netns_id = endpoint->netns_id;
	if (endpoint->chained)
		entry.flags |= ENDPOINT_CHAINED;
	entry.bridge_ifindex = (uint32_t)endpoint->bridge_ifindex;
	entry.host_ifindex = (uint32_t)endpoint->host_ifindex;
	memcpy(entry.mac, endpoint->mac, sizeof(entry.mac));
	memcpy(entry.host_mac, endpoint->host_mac, sizeof(entry.host_mac));
	for (size_t i = 0; i < endpoint->address_count; i++) {
		const struct addr *addr = &endpoint->addresses[i].address.addr;

		if (addr_is_v4(addr))
			entry.v4 = *addr;
		else
			entry.v6 = *addr;
	}
	if (ret == 0)
		ret = endpoint_map_set(datapath, endpoint->slot, &entry);
	return ret < 0 ? fail(err, ret, "write endpoint_map") : 0;
}

static void store_entry_set(struct endpoints *endpoints, const struct endpoint *endpoint)
{
	struct store_endpoint entry = {
		.slot = endpoint->slot,
		.namespace = (char *)endpoint->namespace, /* copied by the callee */
		.name = (char *)endpoint->name,
		.uid = (char *)endpoint->uid,
		.labels = endpoint->labels,
		.address_count = endpoint->address_count,
		.host_ports = endpoint->host_ports,
		.host_port_count = endpoint->host_port_count,
	};

	for (size_t i = 0; i < endpoint->address_count; i++)
		entry.addresses[i] = endpoint->addresses[i].address.addr;
	store_endpoint_set(endpoints->store, &entry);
}

int endpoint_register(struct endpoints *endpoints, const struct endpoint *endpoint,
		      struct errmsg *err)
{
	int ret = endpoint_publish(endpoints, endpoint, err);

	if (ret == 0) {
		store_entry_set(endpoints, endpoint);
		ret = endpoints_sync(endpoints, err);
	}
	if (ret < 0)
		endpoint_unregister(endpoints, endpoint);
	return ret;
}

void endpoint_unregister(struct endpoints *endpoints, const struct endpoint *endpoint)
{
	struct errmsg err = {};

	/* First the entry: without it the datapath drops whatever the pod still sends. */
	endpoint_map_del(endpoints->datapath, endpoint->slot);
	store_endpoint_del(endpoints->store, endpoint->slot);
	if (endpoints_sync(endpoints, &err) < 0)
		log_warn("update policy without %s/%s: %s", endpoint->namespace, endpoint->name,
			 err.text);
}

int step_policy_enforce(struct endpoint_add *add, struct errmsg *err)
{
	return endpoint_register(add->endpoints, add->endpoint, err);
}

void step_policy_forget(struct endpoint_add *add)
{
	endpoint_unregister(add->endpoints, add->endpoint);
}

static int program_attach(struct endpoint_add *add, struct errmsg *err)
{
	return datapath_attach_endpoint(add->endpoints->datapath, endpoint_ifindex(add->endpoint),
					err);
}

/* ---- routes ---------------------------------------------------------------------------------- */

static void routes_remove(struct endpoint_add *add)
{
	const struct endpoint *endpoint = add->endpoint;

	for (size_t i = 0; i < endpoint->address_count; i++)
		host_device_route_del(add->endpoints->host, &endpoint->addresses[i].address.addr);
}

static int routes_make(struct endpoint_add *add, struct errmsg *err)
{
	const struct endpoint *endpoint = add->endpoint;

	for (size_t i = 0; i < endpoint->address_count; i++) {
		int ret = host_device_route_add(add->endpoints->host,
						&endpoint->addresses[i].address.addr, err);

		if (ret < 0) {
			routes_remove(add);
			return ret;
		}
	}
	return 0;
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct endpoint_step endpoint_steps[] = {
	{ "reserve slot and addresses", reserve, unreserve },
	{ "write the state file", step_note_pending, step_forget },
	{ "create the interface", interface_make, interface_remove },
	{ "look at the interface", interface_look, NULL },
	{ "configure the pod's end", pod_set_up, NULL },
	{ "put policy in force", step_policy_enforce, step_policy_forget },
	/* It goes with its device, not before: the pod's end may be open by then. */
	{ "attach the program", program_attach, NULL },
	{ "route to the pod", routes_make, routes_remove },
	{ "open the interface", interface_open, NULL },
	{ "mark it ready", step_note_ready, NULL },
};

const size_t endpoint_step_count = ARRAY_SIZE(endpoint_steps);

int endpoint_steps_run(struct endpoint_add *add, struct endpoint_error *error)
{
	bool chained = add->endpoint->chained;
	const struct endpoint_step *steps =
		chained ? add->endpoints->chained_steps : add->endpoints->steps;
	size_t count = chained ? chained_step_count : endpoint_step_count;

	add->cni_code = CNI_KERNEL_FAILED;
	for (size_t i = 0; i < count; i++) {
		struct errmsg err = {};
		int ret = steps[i].run(add, &err);

		if (ret >= 0)
			continue;
		endpoint_fail(error, add->cni_code, steps[i].name, &err);
		while (i-- > 0) {
			if (steps[i].undo)
				steps[i].undo(add);
		}
		return ret;
	}
	return 0;
}
