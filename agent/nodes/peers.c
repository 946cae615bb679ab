/* SPDX-License-Identifier: Apache-2.0 */
/* Which nodes are peers of WireGuard, from Node objects, and the device in the datapath. */
#define LOG_MODULE "nodes"
#include <errno.h>
#include <event2/event.h>
#include <string.h>

#include "agent/nodes/encryption.h"
#include "agent/nodes/nodes_internal.h"
#include "datapath/maps.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/log.h"

bool peers_have(const struct nodes *nodes, const struct object *node)
{
	return nodes->options.encryption &&
	       encryption_has(nodes->options.encryption, node->name, &node->node.wireguard_key);
}

static bool has_key(const struct object *node)
{
	return !wireguard_key_is_zero(&node->node.wireguard_key);
}

/* The route to a range of the node; NULL: another node has the range. */
static struct node_route *range_find(const struct routes *wanted, const struct object *node,
				     const struct prefix *range)
{
	struct node_route *item = routes_find(wanted, range, node->name);

	return item && item->error != -EADDRINUSE ? item : NULL;
}

static void peer_want(struct nodes *nodes, const struct object *node, const struct routes *wanted)
{
	const struct addr *const own[] = { &node->node.internal_v4, &node->node.internal_v6 };
	struct wireguard_peer peer = { .key = node->node.wireguard_key,
				       .endpoint = nodes_address(nodes, node, NULL) };

	_Static_assert(NODE_POD_CIDRS_MAX + ARRAY_SIZE(own) <= WIREGUARD_ALLOWED_MAX,
		       "a peer has room for all addresses of a node");
	if (!has_key(node) || addr_is_zero(&peer.endpoint))
		return;
	for (size_t i = 0; i < node->node.pod_cidr_count; i++) {
		if (range_find(wanted, node, &node->node.pod_cidrs[i]))
			peer.allowed[peer.allowed_count++] = node->node.pod_cidrs[i];
	}
	for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
		if (nodes_is_others(nodes, own[i]))
			peer.allowed[peer.allowed_count++] = prefix_of(own[i], 128);
	}
	encryption_want(nodes->options.encryption, node->name, &peer);
}

static const struct object *own_node(const struct nodes *nodes)
{
	const struct store *store = nodes->options.store;

	for (const struct object *node = store_first(store, OBJECT_NODE); node;
	     node = store_next(store, node)) {
		if (nodes_is_local(nodes, node))
			return node;
	}
	return NULL;
}

static void key_follow(struct nodes *nodes)
{
	const struct object *own = own_node(nodes);
	struct errmsg err = {};

	if (nodes->complete && encryption_follow(nodes->options.encryption,
						 own ? &own->node.wireguard_key : NULL, &err))
		log_error("new key: %s", err.text);
}

/* Comes back when a node's new key is due. */
static void due_set(struct nodes *nodes)
{
	uint64_t due = encryption_due_ns(nodes->options.encryption), now = now_ns();
	uint64_t left = due > now ? due - now : 0;
	const struct timeval pause = { .tv_usec = (long)(left / 1000) + 1 };

	if (due)
		evtimer_add(nodes->due, &pause);
}

void peers_sync(struct nodes *nodes, struct routes *wanted)
{
	struct encryption *encryption = nodes->options.encryption;
	const struct store *store = nodes->options.store;

	key_follow(nodes);
	encryption_begin(encryption);
	for (const struct object *node = store_first(store, OBJECT_NODE); node;
	     node = store_next(store, node)) {
		if (!nodes_is_local(nodes, node))
			peer_want(nodes, node, wanted);
	}
	encryption_apply(encryption, nodes->complete);
	due_set(nodes);
	for (const struct object *node = store_first(store, OBJECT_NODE); node;
	     node = store_next(store, node)) {
		if (!encryption_has(encryption, node->name, &node->node.wireguard_key))
			continue;
		for (size_t i = 0; i < node->node.pod_cidr_count; i++) {
			struct node_route *item =
				range_find(wanted, node, &node->node.pod_cidrs[i]);

			if (item)
				item->sealed = true;
		}
	}
}

/* ---- the device ------------------------------------------------------------------------------ */

static int wireguard_attach(struct nodes *nodes, struct errmsg *err)
{
	const struct nodes_options *options = &nodes->options;
	struct node_state *state = maps_node(options->datapath);
	uint32_t ifindex = encryption_ifindex(options->encryption);
	int ret = datapath_load_tunnel(options->datapath, options->load, err);

	if (!ret && (state->wireguard_ifindex != ifindex || !nodes->wireguard_attached ||
		     !datapath_tunnel_attached(options->datapath, TUNNEL_WIREGUARD, (int)ifindex)))
		ret = datapath_attach_tunnel(options->datapath, TUNNEL_WIREGUARD, (int)ifindex,
					     err);
	if (ret)
		return ret;
	nodes->wireguard_attached = true;
	state->wireguard_ifindex = ifindex;
	if (!options->strict)
		state->flags &= ~(uint32_t)NODE_STRICT;
	state->flags |= NODE_WIREGUARD | (options->strict ? NODE_STRICT : 0);
	return 0;
}

void peers_device_refresh(struct nodes *nodes)
{
	const struct timeval later = { .tv_sec = TUNNEL_RETRY_SECONDS };
	const struct nodes_options *options = &nodes->options;
	struct tunnel_state device = {};
	struct errmsg err = {};
	unsigned int mtu;
	int ret;

	if (!options->encryption)
		return;
	mtu = options->tunnel_mtu(options->arg);
	ret = encryption_refresh(options->encryption, &err);
	if (!ret)
		ret = wireguard_attach(nodes, &err);
	if (!ret) {
		tunnel_read(&nodes->netlink, encryption_ifindex(options->encryption), &device);
		if (!device.up || device.mtu != mtu)
			ret = encryption_up(options->encryption, mtu, &err);
	}
	if (ret && strcmp(nodes->encryption_problem, err.text) != 0)
		log_error("encryption: %s", err.text);
	snprintf(nodes->encryption_problem, sizeof(nodes->encryption_problem), "%s",
		 ret ? err.text : "");
	if (ret)
		evtimer_add(nodes->retry, &later);
}

int peers_drop(struct nodes *nodes, struct errmsg *err)
{
	struct node_state *state = maps_node(nodes->options.datapath);

	state->flags &= ~(uint32_t)(NODE_WIREGUARD | NODE_STRICT);
	state->wireguard_ifindex = 0;
	datapath_drop_tunnel(nodes->options.datapath, TUNNEL_WIREGUARD);
	return encryption_remove(err);
}

/* ---- what is told ---------------------------------------------------------------------------- */

const char *nodes_encryption(const struct nodes *nodes, const struct object *node)
{
	if (!nodes->options.encryption || nodes_is_local(nodes, node))
		return "none";
	if (peers_have(nodes, node))
		return "wireguard";
	return has_key(node) ? "failed" : "no key";
}

const struct wireguard_key *nodes_key(const struct nodes *nodes)
{
	return nodes->options.encryption ? encryption_announced(nodes->options.encryption) : NULL;
}

int nodes_rotate_key(struct nodes *nodes, struct errmsg *err)
{
	int ret;

	if (!nodes->options.encryption)
		return fail_plain(err, -ENOENT, "encryption is off");
	ret = encryption_rotate(nodes->options.encryption, err);
	if (ret)
		return ret;
	nodes->options.announce(nodes_key(nodes), nodes->options.announce_arg);
	nodes_sync(nodes, nodes->complete);
	return 0;
}

const char *peers_problem(struct nodes *nodes, const struct object *node)
{
	const struct encryption *encryption = nodes->options.encryption;
	char key[WIREGUARD_KEY_TEXT_LEN + 1];
	const char *why = "";

	if (!encryption)
		return NULL;
	if (nodes_is_local(nodes, node)) {
		if (!wireguard_key_compare(encryption_announced(encryption),
					   &node->node.wireguard_key))
			return NULL;
		snprintf(nodes->text, sizeof(nodes->text),
			 "Node %s: its annotation " NODE_KEY_ANNOTATION " must be %s", node->name,
			 wireguard_key_format(encryption_announced(encryption), key));
		return nodes->text;
	}
	if (has_key(node))
		why = encryption_problem(encryption, node->name, &node->node.wireguard_key);
	else if (nodes->options.strict)
		why = "it announces no WireGuard key, and encryption is strict: its pods are not "
		      "reached";
	if (!*why)
		return NULL;
	snprintf(nodes->text, sizeof(nodes->text), "Node %s: %s", node->name, why);
	return nodes->text;
}
