/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces and veth pairs that look to the datapath like pods. */
#include "harness/pods.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/net_namespace.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/auto.h"
#include "lib/netlink.h"
#include "lib/netns.h"

#define POD_IFINDEX 2 /* of eth0: the first index the creator may choose beside lo */

DEFINE_AUTO(pods)

static int namespace_new(int *ret_fd, uint64_t *ret_cookie, struct errmsg *err)
{
	auto_close int fd = -1;
	struct netns_id id;

	if (netns_new(&fd, err) < 0 || netns_identify(fd, &id, err) < 0)
		return err->code;
	*ret_fd = take_fd(&fd);
	*ret_cookie = id.cookie;
	return 0;
}

static struct addr address_of(bool v6, uint32_t host)
{
	struct addr addr = { { 0, 0, htonl(0xffff), htonl(0x0a630000 + host) } };

	if (v6)
		addr = (struct addr){ { htonl(0xfd990000), 0, 0, htonl(host) } };
	return addr;
}

/* ---- requests ------------------------------------------------------------------------------- */

static void put_link(struct netlink_batch *batch, uint16_t flags, struct ifinfomsg info,
		     struct nlmsghdr **ret)
{
	struct ifinfomsg *link;

	*ret = netlink_batch_next(batch, RTM_NEWLINK, flags, sizeof(*link), (void **)&link);
	*link = info;
}

static void put_up(struct netlink_batch *batch, int ifindex)
{
	struct nlmsghdr *request;

	put_link(batch, 0,
		 (struct ifinfomsg){
			 .ifi_index = ifindex, .ifi_flags = IFF_UP, .ifi_change = IFF_UP },
		 &request);
}

static void put_address(struct netlink_batch *batch, int ifindex, const struct addr *addr,
			uint8_t prefixlen)
{
	bool v6 = !addr_is_v4(addr);
	struct nlmsghdr *request;
	struct ifaddrmsg *info;

	request = netlink_batch_next(batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE,
				     sizeof(*info), (void **)&info);
	*info = (struct ifaddrmsg){ .ifa_family = v6 ? AF_INET6 : AF_INET,
				    .ifa_prefixlen = prefixlen,
				    .ifa_index = (uint32_t)ifindex };
	mnl_attr_put_u32(request, IFA_FLAGS, IFA_F_NOPREFIXROUTE | (v6 ? IFA_F_NODAD : 0));
	netlink_put_addr(request, IFA_LOCAL, addr);
	netlink_put_addr(request, IFA_ADDRESS, addr);
}

/* prefixlen 0: the default route. */
static void put_route(struct netlink_batch *batch, int ifindex, const struct addr *to,
		      uint8_t prefixlen, const struct addr *gateway)
{
	bool v6 = !addr_is_v4(to);
	struct nlmsghdr *request;
	struct rtmsg *info;

	request = netlink_batch_next(batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE,
				     sizeof(*info), (void **)&info);
	*info = (struct rtmsg){ .rtm_family = v6 ? AF_INET6 : AF_INET,
				.rtm_dst_len = prefixlen,
				.rtm_table = RT_TABLE_MAIN,
				.rtm_protocol = RTPROT_STATIC,
				.rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
				.rtm_type = RTN_UNICAST,
				.rtm_flags = gateway ? RTNH_F_ONLINK : 0 };
	if (prefixlen)
		netlink_put_addr(request, RTA_DST, to);
	if (gateway)
		netlink_put_addr(request, RTA_GATEWAY, gateway);
	mnl_attr_put_u32(request, RTA_OIF, (uint32_t)ifindex);
}

static void put_neighbour(struct netlink_batch *batch, int ifindex, const struct addr *addr,
			  const uint8_t mac[6])
{
	struct nlmsghdr *request;
	struct ndmsg *info;

	request = netlink_batch_next(batch, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE,
				     sizeof(*info), (void **)&info);
	*info = (struct ndmsg){ .ndm_family = addr_is_v4(addr) ? AF_INET : AF_INET6,
				.ndm_ifindex = ifindex,
				.ndm_state = NUD_PERMANENT };
	netlink_put_addr(request, NDA_DST, addr);
	mnl_attr_put(request, NDA_LLADDR, 6, mac);
}

static void put_veth(struct netlink_batch *batch, const struct pod *pod)
{
	struct nlattr *linkinfo, *data, *peer;
	struct nlmsghdr *request;
	struct ifinfomsg *info;
	char name[IFNAMSIZ];

	snprintf(name, sizeof(name), "pod%u", pod->slot);
	put_link(batch, NLM_F_CREATE | NLM_F_EXCL,
		 (struct ifinfomsg){ .ifi_index = ENDPOINT_IFINDEX_BASE + pod->slot }, &request);
	mnl_attr_put_strz(request, IFLA_IFNAME, name);
	mnl_attr_put(request, IFLA_ADDRESS, 6, pod->host_mac);
	linkinfo = mnl_attr_nest_start(request, IFLA_LINKINFO);
	mnl_attr_put_strz(request, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(request, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(request, VETH_INFO_PEER);
	info = mnl_nlmsg_get_payload_tail(request);
	*info = (struct ifinfomsg){ .ifi_index = POD_IFINDEX };
	request->nlmsg_len += MNL_ALIGN(sizeof(*info));
	mnl_attr_put_strz(request, IFLA_IFNAME, "eth0");
	mnl_attr_put(request, IFLA_ADDRESS, 6, pod->mac);
	mnl_attr_put_u32(request, IFLA_NET_NS_FD, (uint32_t)pod->netns_fd);
	mnl_attr_nest_end(request, peer);
	mnl_attr_nest_end(request, data);
	mnl_attr_nest_end(request, linkinfo);
}

static int run_inside(int netns_fd, struct netlink_batch *batch, struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	size_t failed = 0;

	if (netlink_open(&netlink, netns_fd, err) < 0)
		return err->code;
	if (netlink_batch_run(&netlink, batch, NULL, &failed, err) < 0)
		return wrap(err, "request %zu", failed);
	return 0;
}

/* ---- the parts ------------------------------------------------------------------------------ */

static int write_sysctl(const char *path, const char *value, struct errmsg *err)
{
	auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		return fail(err, -errno, "write %s", path);
	return 0;
}

static int enable_forwarding(int netns_fd, struct errmsg *err)
{
	auto_netns struct netns_scope scope = NETNS_SCOPE_INIT;

	if (netns_enter(netns_fd, &scope, err) < 0 ||
	    write_sysctl("/proc/sys/net/ipv4/ip_forward", "1", err) < 0 ||
	    write_sysctl("/proc/sys/net/ipv6/conf/all/forwarding", "1", err) < 0)
		return err->code;
	return 0;
}

static int host_device_create_kind(struct pods *pods, const char *kind, struct errmsg *err)
{
	auto_free struct netlink_batch *batch = calloc(1, sizeof(*batch));
	const int ifindex = 3;
	struct nlmsghdr *request;
	struct nlattr *linkinfo;

	if (!batch)
		return fail(err, -ENOMEM, "make %s", HOST_DEVICE);
	netlink_batch_init(batch);
	put_link(batch, NLM_F_CREATE | NLM_F_EXCL,
		 (struct ifinfomsg){
			 .ifi_index = ifindex, .ifi_flags = IFF_NOARP, .ifi_change = IFF_NOARP },
		 &request);
	mnl_attr_put_strz(request, IFLA_IFNAME, HOST_DEVICE);
	linkinfo = mnl_attr_nest_start(request, IFLA_LINKINFO);
	mnl_attr_put_strz(request, IFLA_INFO_KIND, kind);
	mnl_attr_nest_end(request, linkinfo);
	put_up(batch, ifindex);
	for (int v6 = 0; v6 < 2; v6++) {
		struct addr gateway = address_of(v6, 1), range = address_of(v6, 0);

		put_address(batch, ifindex, &gateway, v6 ? 112 : 24);
		put_route(batch, ifindex, &range, v6 ? 112 : 24, NULL);
	}
	pods->host_ifindex = ifindex;
	return run_inside(pods->node_fd, batch, err);
}

/* As the agent does: a kernel without dummy devices may have ifb, which drops what to_pod leaves.
 */
static int host_device_create(struct pods *pods, struct errmsg *err)
{
	int ret = host_device_create_kind(pods, "dummy", err);

	return ret == -EOPNOTSUPP ? host_device_create_kind(pods, "ifb", err) : ret;
}

/* The number by which programs on the node name the pod's namespace. */
static int pod_number(const struct pods *pods, struct pod *pod, struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;

	if (netlink_open(&netlink, pods->node_fd, err) < 0)
		return err->code;
	netlink_message_init(&message, RTM_NEWNSID, NLM_F_ACK, sizeof(struct rtgenmsg));
	mnl_attr_put_u32(&message.header, NETNSA_NSID, pod->slot);
	mnl_attr_put_u32(&message.header, NETNSA_FD, (uint32_t)pod->netns_fd);
	pod->netns_id = pod->slot;
	return netlink_request(&netlink, &message, err);
}

static int pod_wire_node(const struct pods *pods, const struct pod *pod, bool routed,
			 struct errmsg *err)
{
	auto_free struct netlink_batch *batch = calloc(1, sizeof(*batch));
	int ifindex = ENDPOINT_IFINDEX_BASE + pod->slot;

	if (!batch)
		return fail(err, -ENOMEM, "wire a pod");
	netlink_batch_init(batch);
	put_veth(batch, pod);
	put_up(batch, ifindex);
	if (routed) {
		put_route(batch, ifindex, &pod->v4, 32, NULL);
		put_route(batch, ifindex, &pod->v6, 128, NULL);
		put_neighbour(batch, ifindex, &pod->v4, pod->mac);
		put_neighbour(batch, ifindex, &pod->v6, pod->mac);
	}
	return run_inside(pods->node_fd, batch, err);
}

static int pod_wire_inside(const struct pod *pod, struct errmsg *err)
{
	auto_free struct netlink_batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return fail(err, -ENOMEM, "wire a pod");
	netlink_batch_init(batch);
	put_up(batch, 1);
	put_up(batch, POD_IFINDEX);
	for (int v6 = 0; v6 < 2; v6++) {
		struct addr gateway = address_of(v6, 1);

		put_address(batch, POD_IFINDEX, v6 ? &pod->v6 : &pod->v4, v6 ? 112 : 24);
		put_neighbour(batch, POD_IFINDEX, &gateway, pod->host_mac);
		put_route(batch, POD_IFINDEX, &gateway, 0, &gateway);
	}
	return run_inside(pod->netns_fd, batch, err);
}

static int pod_add(struct pods *pods, bool routed, struct errmsg *err)
{
	struct pod *pod = &pods->pod[pods->count];

	*pod = (struct pod){ .slot = (uint16_t)(pods->count + 1), .netns_fd = -1 };
	pod->v4 = address_of(false, pod->slot + 1u);
	pod->v6 = address_of(true, pod->slot + 1u);
	memcpy(pod->mac, (uint8_t[6]){ 2, 0x54, 0, 0, 1, (uint8_t)pod->slot }, 6);
	memcpy(pod->host_mac, (uint8_t[6]){ 2, 0x54, 0, 0, 0, (uint8_t)pod->slot }, 6);
	if (namespace_new(&pod->netns_fd, &pod->netns_cookie, err) < 0)
		return err->code;
	pods->count++;
	if (pod_number(pods, pod, err) < 0 || pod_wire_node(pods, pod, routed, err) < 0 ||
	    pod_wire_inside(pod, err) < 0)
		return wrap(err, "pod %u", pod->slot);
	return 0;
}

/* ---- for tests ------------------------------------------------------------------------------ */

int pods_new(size_t count, bool routed, struct pods **ret, struct errmsg *err)
{
	auto_(pods) struct pods *pods = calloc(1, sizeof(*pods));

	if (!pods || count > PODS_MAX)
		return fail(err, -ENOMEM, "make %zu pods", count);
	pods->node_fd = -1;
	if (namespace_new(&pods->node_fd, &pods->node_cookie, err) < 0 ||
	    enable_forwarding(pods->node_fd, err) < 0)
		return wrap(err, "node");
	if (!routed && host_device_create(pods, err) < 0)
		return wrap(err, "node");
	while (pods->count < count) {
		if (pod_add(pods, routed, err) < 0)
			return err->code;
	}
	*ret = take_ptr(pods);
	return 0;
}

void pods_free(struct pods *pods)
{
	if (!pods)
		return;
	for (size_t i = 0; i < pods->count; i++)
		close(pods->pod[i].netns_fd);
	if (pods->node_fd >= 0)
		close(pods->node_fd);
	free(pods);
}

struct endpoint_entry pods_endpoint(const struct pod *pod)
{
	struct endpoint_entry endpoint = { .flags = ENDPOINT_VALID,
					   .identity = IDENTITY_FIRST + pod->slot,
					   .identity_v6 = IDENTITY_FIRST + pod->slot,
					   .netns_cookie = pod->netns_cookie,
					   .netns_id = pod->netns_id,
					   .v4 = pod->v4,
					   .v6 = pod->v6 };

	memcpy(endpoint.mac, pod->mac, sizeof(endpoint.mac));
	memcpy(endpoint.host_mac, pod->host_mac, sizeof(endpoint.host_mac));
	return endpoint;
}

int pods_publish(const struct pods *pods, struct datapath *datapath, uint32_t flags,
		 struct errmsg *err)
{
	for (size_t i = 0; i < pods->count; i++) {
		const struct pod *pod = &pods->pod[i];
		struct endpoint_entry endpoint = pods_endpoint(pod);
		struct ipcache_entry entry = { .identity = endpoint.identity, .slot = pod->slot };
		int code;

		endpoint.flags |= flags;
		code = endpoint_map_set(datapath, pod->slot, &endpoint);
		if (code == 0)
			code = ipcache_map_set(datapath, &pod->v4, &entry);
		if (code == 0)
			code = ipcache_map_set(datapath, &pod->v6, &entry);
		if (code < 0)
			return fail(err, code, "publish pod %u", pod->slot);
	}
	maps_node(datapath)->netns_cookie = pods->node_cookie;
	maps_node(datapath)->host_ifindex = (uint32_t)pods->host_ifindex;
	maps_bump_revision(datapath);
	return 0;
}

int pods_socket(const struct pod *pod, int domain, int type)
{
	struct errmsg err = {};
	int fd = netns_socket(pod->netns_fd, domain, type, 0, &err);

	errno = fd < 0 ? -fd : 0;
	return fd < 0 ? -1 : fd;
}
