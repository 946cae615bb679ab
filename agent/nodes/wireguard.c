/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/nodes/wireguard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/if_link.h>
#include <linux/wireguard.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/nodes/link.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/file.h"

#define KIND       "wireguard"
#define KEY_DEVICE "tendril_wg_key" /* never up: computes a public key */
#define LOOSE_RPF  2

/* ---- the device ------------------------------------------------------------------------------ */

static int device_create(struct netlink *netlink, const char *name, struct errmsg *err)
{
	struct netlink_message message;
	struct nlattr *info;
	int ret;

	netlink_message_init(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
			     sizeof(struct ifinfomsg));
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(&message.header, IFLA_LINKINFO);
	mnl_attr_put_strz(&message.header, IFLA_INFO_KIND, KIND);
	mnl_attr_nest_end(&message.header, info);
	ret = netlink_request(netlink, &message, err);
	if (ret == -EOPNOTSUPP)
		return fail_plain(err, ret,
				  "this kernel has no WireGuard: install or load its module "
				  "(modprobe wireguard), or set encryption to none");
	return ret < 0 ? wrap(err, "create %s", name) : 0;
}

/* What another node's host answers to a pod comes from where no route to it leads. */
static void device_loosen(void)
{
	sysctl_write("net/ipv4/conf/" WIREGUARD_DEVICE "/rp_filter", LOOSE_RPF, NULL);
}

/* ---- the generic family ---------------------------------------------------------------------- */

static int family_each(const struct nlmsghdr *header, void *arg)
{
	uint16_t *family = arg;
	const struct nlattr *attr;

	mnl_attr_for_each (attr, header, sizeof(struct genlmsghdr)) {
		if (mnl_attr_get_type(attr) == CTRL_ATTR_FAMILY_ID)
			*family = mnl_attr_get_u16(attr);
	}
	return 0;
}

static struct nlmsghdr *generic_init(struct netlink_message *message, uint16_t family, uint8_t cmd,
				     uint8_t version)
{
	struct genlmsghdr *generic = netlink_message_init(message, family, 0, sizeof(*generic));

	generic->cmd = cmd;
	generic->version = version;
	return &message->header;
}

/* The device must be there: its module brings the family. */
static int family_find(struct wireguard *wireguard, struct errmsg *err)
{
	struct netlink_message message;
	struct nlmsghdr *header;
	int ret;

	header = generic_init(&message, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
	mnl_attr_put_strz(header, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME);
	ret = netlink_get(&wireguard->generic, &message, family_each, &wireguard->family, err);
	return ret < 0 ? wrap(err, "netlink family " WG_GENL_NAME) : 0;
}

static struct nlmsghdr *command_init(struct netlink_message *message, uint16_t family, uint8_t cmd,
				     const char *device)
{
	struct nlmsghdr *header = generic_init(message, family, cmd, WG_GENL_VERSION);

	mnl_attr_put_strz(header, WGDEVICE_A_IFNAME, device);
	return header;
}

struct keys_seen {
	struct wireguard_key private;
	struct wireguard_key public;
	uint16_t port;
};

static void key_read(const struct nlattr *attr, struct wireguard_key *ret)
{
	if (mnl_attr_get_payload_len(attr) == sizeof(ret->bytes))
		memcpy(ret->bytes, mnl_attr_get_payload(attr), sizeof(ret->bytes));
}

static int keys_each(const struct nlmsghdr *header, void *arg)
{
	struct keys_seen *seen = arg;
	const struct nlattr *attr;

	mnl_attr_for_each (attr, header, sizeof(struct genlmsghdr)) {
		if (mnl_attr_get_type(attr) == WGDEVICE_A_PRIVATE_KEY)
			key_read(attr, &seen->private);
		else if (mnl_attr_get_type(attr) == WGDEVICE_A_PUBLIC_KEY)
			key_read(attr, &seen->public);
		else if (mnl_attr_get_type(attr) == WGDEVICE_A_LISTEN_PORT)
			seen->port = mnl_attr_get_u16(attr);
	}
	return 0;
}

static int keys_get(struct wireguard *wireguard, const char *device, struct keys_seen *ret,
		    struct errmsg *err)
{
	struct netlink_message message;

	*ret = (struct keys_seen){ 0 };
	command_init(&message, wireguard->family, WG_CMD_GET_DEVICE, device);
	return netlink_dump(&wireguard->generic, &message, keys_each, NULL, ret, err);
}

/* The same key again would end all sessions for nothing.  The kernel sets some bits of it. */
static int keys_set(struct wireguard *wireguard, const char *device,
		    const struct wireguard_key *private, uint16_t port,
		    struct wireguard_key *ret_public, struct errmsg *err)
{
	struct wireguard_key clamped = *private;
	struct netlink_message message;
	struct keys_seen seen;
	struct nlmsghdr *header;
	int ret = keys_get(wireguard, device, &seen, err);

	clamped.bytes[0] &= 248;
	clamped.bytes[WIREGUARD_KEY_LEN - 1] = (clamped.bytes[WIREGUARD_KEY_LEN - 1] & 127) | 64;
	if (!ret && (wireguard_key_compare(&seen.private, &clamped) || seen.port != port)) {
		header = command_init(&message, wireguard->family, WG_CMD_SET_DEVICE, device);
		if (wireguard_key_compare(&seen.private, &clamped))
			mnl_attr_put(header, WGDEVICE_A_PRIVATE_KEY, sizeof(private->bytes),
				     private->bytes);
		if (seen.port != port)
			mnl_attr_put_u16(header, WGDEVICE_A_LISTEN_PORT, port);
		ret = netlink_request(&wireguard->generic, &message, err);
		if (!ret)
			ret = keys_get(wireguard, device, &seen, err);
		explicit_bzero(&message, sizeof(message));
	}
	*ret_public = seen.public;
	explicit_bzero(&seen, sizeof(seen));
	explicit_bzero(&clamped, sizeof(clamped));
	return ret < 0 ? wrap(err, "%s", device) : 0;
}

int wireguard_ensure(struct wireguard *wireguard, struct errmsg *err)
{
	struct link seen;
	int ret = 0;

	if (wireguard->route.fd < 0)
		ret = netlink_open(&wireguard->route, -1, err);
	if (!ret && wireguard->generic.fd < 0)
		ret = netlink_open_protocol(&wireguard->generic, -1, NETLINK_GENERIC, err);
	if (!ret)
		ret = link_find(&wireguard->route, WIREGUARD_DEVICE, KIND, &seen, err);
	if (!ret && !seen.is_of_kind)
		return fail_plain(err, -EEXIST,
				  "there is a " WIREGUARD_DEVICE " that is no " KIND " device");
	if (ret == -ENODEV) {
		ret = device_create(&wireguard->route, WIREGUARD_DEVICE, err);
		if (!ret)
			ret = link_find(&wireguard->route, WIREGUARD_DEVICE, KIND, &seen, err);
	}
	if (!ret)
		ret = family_find(wireguard, err);
	wireguard->ifindex = ret ? 0 : seen.ifindex;
	return ret;
}

int wireguard_set_key(struct wireguard *wireguard, const struct wireguard_key *private,
		      struct wireguard_key *ret_public, struct errmsg *err)
{
	return keys_set(wireguard, WIREGUARD_DEVICE, private, WIREGUARD_PORT, ret_public, err);
}

void wireguard_close(struct wireguard *wireguard)
{
	netlink_close(&wireguard->route);
	netlink_close(&wireguard->generic);
}

int wireguard_remove(struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	int ret = netlink_open(&netlink, -1, err);

	return ret ? ret : link_delete(&netlink, WIREGUARD_DEVICE, KIND, err);
}

int wireguard_public_key(struct wireguard *wireguard, const struct wireguard_key *private,
			 struct wireguard_key *ret_public, struct errmsg *err)
{
	int ret = link_delete(&wireguard->route, KEY_DEVICE, KIND, err); /* of a killed agent */

	if (!ret)
		ret = device_create(&wireguard->route, KEY_DEVICE, err);
	if (ret)
		return ret;
	ret = keys_set(wireguard, KEY_DEVICE, private, 0, ret_public, err);
	link_delete(&wireguard->route, KEY_DEVICE, KIND, NULL);
	return ret;
}

int wireguard_up(struct wireguard *wireguard, unsigned int mtu, struct errmsg *err)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));

	device_loosen();
	info->ifi_index = (int)wireguard->ifindex;
	info->ifi_flags = IFF_UP;
	info->ifi_change = IFF_UP;
	mnl_attr_put_u32(&message.header, IFLA_MTU, mtu);
	return netlink_request(&wireguard->route, &message, err) < 0
		       ? wrap(err, "set " WIREGUARD_DEVICE " up")
		       : 0;
}

/* ---- peers ----------------------------------------------------------------------------------- */

static void endpoint_put(struct nlmsghdr *header, const struct addr *addr)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(WIREGUARD_PORT) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(WIREGUARD_PORT) };
	const uint8_t *bytes;
	size_t len = addr_bytes(addr, &bytes);

	if (len == sizeof(v4.sin_addr)) {
		memcpy(&v4.sin_addr, bytes, len);
		mnl_attr_put(header, WGPEER_A_ENDPOINT, sizeof(v4), &v4);
	} else {
		memcpy(&v6.sin6_addr, bytes, len);
		mnl_attr_put(header, WGPEER_A_ENDPOINT, sizeof(v6), &v6);
	}
}

static struct nlattr *peer_begin(struct nlmsghdr *header, const struct wireguard_key *key,
				 uint32_t flags)
{
	struct nlattr *nest = mnl_attr_nest_start(header, 0);

	mnl_attr_put(header, WGPEER_A_PUBLIC_KEY, sizeof(key->bytes), key->bytes);
	mnl_attr_put_u32(header, WGPEER_A_FLAGS, flags);
	return nest;
}

static void keepalive_put(struct nlmsghdr *header, uint16_t seconds)
{
	mnl_attr_put_u16(header, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, seconds);
}

static void keepalive_end(struct nlmsghdr *header, const struct wireguard_key *key)
{
	struct nlattr *nest = peer_begin(header, key, WGPEER_F_UPDATE_ONLY);

	keepalive_put(header, 0);
	mnl_attr_nest_end(header, nest);
}

/* Changing the interval of keep-alives from 0 sends one, which begins a handshake; the peer's own
 * first attempt may have come before this node knew it, and its next one comes after 5 s. */
void wireguard_peer_message(struct netlink_message *message, uint16_t family,
			    const struct wireguard_peer *peer)
{
	struct nlmsghdr *header =
		command_init(message, family, WG_CMD_SET_DEVICE, WIREGUARD_DEVICE);
	struct nlattr *peers = mnl_attr_nest_start(header, WGDEVICE_A_PEERS), *nest, *allowed, *ip;

	nest = peer_begin(header, &peer->key, WGPEER_F_REPLACE_ALLOWEDIPS);
	endpoint_put(header, &peer->endpoint);
	allowed = mnl_attr_nest_start(header, WGPEER_A_ALLOWEDIPS);
	for (size_t i = 0; i < peer->allowed_count; i++) {
		const struct prefix *prefix = &peer->allowed[i];

		ip = mnl_attr_nest_start(header, 0);
		mnl_attr_put_u16(header, WGALLOWEDIP_A_FAMILY, addr_family(&prefix->addr));
		netlink_put_addr(header, WGALLOWEDIP_A_IPADDR, &prefix->addr);
		mnl_attr_put_u8(header, WGALLOWEDIP_A_CIDR_MASK, prefix_family_len(prefix));
		mnl_attr_nest_end(header, ip);
	}
	mnl_attr_nest_end(header, allowed);
	keepalive_put(header, 1);
	mnl_attr_nest_end(header, nest);
	keepalive_end(header, &peer->key);
	mnl_attr_nest_end(header, peers);
}

int wireguard_peer_greet(struct wireguard *wireguard, const struct wireguard_key *key,
			 struct errmsg *err)
{
	struct netlink_message message;
	struct nlmsghdr *header =
		command_init(&message, wireguard->family, WG_CMD_SET_DEVICE, WIREGUARD_DEVICE);
	struct nlattr *peers = mnl_attr_nest_start(header, WGDEVICE_A_PEERS);
	struct nlattr *nest = peer_begin(header, key, WGPEER_F_UPDATE_ONLY);

	keepalive_put(header, 1);
	mnl_attr_nest_end(header, nest);
	keepalive_end(header, key);
	mnl_attr_nest_end(header, peers);
	return netlink_request(&wireguard->generic, &message, err);
}

int wireguard_peer_set(struct wireguard *wireguard, const struct wireguard_peer *peer,
		       struct errmsg *err)
{
	struct netlink_message message;

	wireguard_peer_message(&message, wireguard->family, peer);
	return netlink_request(&wireguard->generic, &message, err);
}

int wireguard_peer_remove(struct wireguard *wireguard, const struct wireguard_key *key,
			  struct errmsg *err)
{
	struct netlink_message message;
	struct nlmsghdr *header =
		command_init(&message, wireguard->family, WG_CMD_SET_DEVICE, WIREGUARD_DEVICE);
	struct nlattr *peers = mnl_attr_nest_start(header, WGDEVICE_A_PEERS);

	mnl_attr_nest_end(header,
			  peer_begin(header, key, WGPEER_F_REMOVE_ME | WGPEER_F_UPDATE_ONLY));
	mnl_attr_nest_end(header, peers);
	return netlink_request(&wireguard->generic, &message, err);
}

static void endpoint_parse(const struct nlattr *attr, struct addr *ret)
{
	const struct sockaddr_in6 *v6 = mnl_attr_get_payload(attr);
	const struct sockaddr_in *v4 = mnl_attr_get_payload(attr);
	size_t len = mnl_attr_get_payload_len(attr);

	/* Another port is another endpoint: zero is never wanted. */
	if (len == sizeof(*v4) && v4->sin_port == htons(WIREGUARD_PORT))
		addr_from_bytes(&v4->sin_addr, sizeof(v4->sin_addr), ret);
	else if (len == sizeof(*v6) && v6->sin6_port == htons(WIREGUARD_PORT))
		addr_from_bytes(&v6->sin6_addr, sizeof(v6->sin6_addr), ret);
}

static void allowed_parse(const struct nlattr *nest, struct wireguard_peer *peer)
{
	struct addr addr = { 0 };
	const struct nlattr *attr;
	uint8_t len = 0;

	mnl_attr_for_each_nested (attr, nest) {
		if (mnl_attr_get_type(attr) == WGALLOWEDIP_A_IPADDR)
			addr_from_bytes(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr),
					&addr);
		else if (mnl_attr_get_type(attr) == WGALLOWEDIP_A_CIDR_MASK)
			len = mnl_attr_get_u8(attr);
	}
	if (peer->allowed_count == WIREGUARD_ALLOWED_MAX) {
		peer->endpoint = (struct addr){ 0 }; /* not of our making: to be replaced */
		return;
	}
	peer->allowed[peer->allowed_count++] =
		prefix_of(&addr, (uint8_t)(len + (addr_is_v4(&addr) ? 96 : 0)));
}

static struct wireguard_peer *peers_add(struct wireguard_peers *peers)
{
	if (!peers->items || peers->count == peers->room) {
		peers->room = peers->room ? peers->room * 2 : 16;
		peers->items = xreallocarray(peers->items, peers->room, sizeof(*peers->items));
	}
	peers->items[peers->count] = (struct wireguard_peer){ 0 };
	return &peers->items[peers->count++];
}

static void peer_parse(const struct nlattr *nest, struct wireguard_peers *peers)
{
	const struct nlattr *attr, *inner;
	struct wireguard_key key = { 0 };
	struct wireguard_peer *peer;

	mnl_attr_for_each_nested (attr, nest) {
		if (mnl_attr_get_type(attr) == WGPEER_A_PUBLIC_KEY)
			key_read(attr, &key);
	}
	peer = peers->count ? &peers->items[peers->count - 1] : NULL;
	if (!peer || wireguard_key_compare(&peer->key, &key)) {
		peer = peers_add(peers);
		peer->key = key;
	}
	mnl_attr_for_each_nested (attr, nest) {
		if (mnl_attr_get_type(attr) == WGPEER_A_ENDPOINT)
			endpoint_parse(attr, &peer->endpoint);
		if (mnl_attr_get_type(attr) != WGPEER_A_ALLOWEDIPS)
			continue;
		mnl_attr_for_each_nested (inner, attr)
			allowed_parse(inner, peer);
	}
}

void wireguard_peers_parse(const struct nlmsghdr *header, struct wireguard_peers *peers)
{
	const struct nlattr *attr, *nest;

	mnl_attr_for_each (attr, header, sizeof(struct genlmsghdr)) {
		if (mnl_attr_get_type(attr) != WGDEVICE_A_PEERS)
			continue;
		mnl_attr_for_each_nested (nest, attr)
			peer_parse(nest, peers);
	}
}

static int peers_each(const struct nlmsghdr *header, void *arg)
{
	wireguard_peers_parse(header, arg);
	return 0;
}

static void peers_begin(void *arg)
{
	((struct wireguard_peers *)arg)->count = 0;
}

int wireguard_peers_read(struct wireguard *wireguard, struct wireguard_peer **ret_peers,
			 size_t *ret_count, struct errmsg *err)
{
	struct wireguard_peers peers = { 0 };
	struct netlink_message message;
	int ret;

	command_init(&message, wireguard->family, WG_CMD_GET_DEVICE, WIREGUARD_DEVICE);
	ret = netlink_dump(&wireguard->generic, &message, peers_each, peers_begin, &peers, err);
	if (ret) {
		free(peers.items);
		return wrap(err, "list peers of WireGuard");
	}
	*ret_peers = peers.items;
	*ret_count = peers.count;
	return 0;
}
