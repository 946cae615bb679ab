/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets between pods and other nodes, services for clients outside (node ports, host ports,
 * addresses of load balancers), and pods that talk to the outside under the node's address.
 *
 *	from_uplink   ingress of the devices by which the node reaches the outside: what is for pods
 *	              bypasses the host's stack (NODE_BYPASS)
 *	to_uplink     their egress: what pods send out of the cluster (masquerade.bpf.h), and the
 *	              answers of backends that are processes of the node itself
 *
 * What is not translated goes on as if these programs were not there (TC_ACT_UNSPEC: other
 * programs of the device see it).  A pod's answers are translated and sent on by from_pod.
 */
#include "datapath/bpf/device.bpf.h"
#include "datapath/bpf/leave.bpf.h"
#include "datapath/bpf/masquerade.bpf.h"
#include "datapath/bpf/outside.bpf.h"

/* Nobody outside has an address of this node or of its pods. */
static __always_inline int uplink_find_source(struct packet *pkt)
{
	struct ipcache_entry entry = ipcache_lookup(&pkt->flow.saddr);

	pkt->src.identity = entry.identity;
	pkt->src_claimed = entry.identity;
	return entry.slot || entry.flags & IPCACHE_HOST ? DROP_SPOOFED_ADDRESS : DROP_NONE;
}

static __always_inline bool uplink_is_masquerade_answer(void)
{
	const struct nat_work *work = nat_work();

	return work && !(work->way_flags & (NAT_REQUEST | NAT_FORWARD));
}

/* A packet to a pod's own address, or the answer to what a pod asked under the node's: then the
 * source is known already. */
static __always_inline int uplink_to_pod(struct __sk_buff *skb, struct packet *pkt)
{
	const struct endpoint_entry *pod = bypass_receiver(skb, pkt);
	int reason;

	if (!pod)
		return TC_ACT_UNSPEC;
	reason = pkt->translated ? DROP_NONE : uplink_find_source(pkt);
	if (!reason)
		reason = receive_check_way(skb, pkt);
	if (!reason && pkt->fragment)
		packet_fragment(pkt);
	if (!reason)
		reason = receive_check(skb, pkt, pod);
	if (drop_is_preliminary(reason))
		return TC_ACT_UNSPEC;
	return reason ? drop(skb, pkt, reason, DIR_INGRESS) : uplink_send(skb, pkt);
}

/* Direct server return: to the node of the backend that the translation names. */
static __always_inline int uplink_to_server(struct __sk_buff *skb, struct packet *pkt)
{
	const struct nat_work *work = nat_work();

	return work ? leave_to_server(skb, pkt, &work->way.daddr) : DROP_NO_ROUTE;
}

SEC("tc")
int from_uplink(struct __sk_buff *skb)
{
	struct packet pkt = { .from_uplink = FROM_OUTSIDE };
	int reason;

	if (skb->pkt_type != PACKET_HOST || packet_parse(skb, &pkt) ||
	    (pkt.kind != PACKET_PLAIN && pkt.kind != PACKET_ICMP_ERROR) || find_destination(&pkt))
		return TC_ACT_UNSPEC;
	if (pkt.dst.slot)
		return uplink_to_pod(skb, &pkt);
	if (!(pkt.dst_flags & (IPCACHE_HOST | IPCACHE_SERVICE)))
		return TC_ACT_UNSPEC;
	if (pkt.fragment)
		packet_fragment(&pkt);
	if (!(pkt.dst_flags & IPCACHE_SERVICE) && pkt.kind == PACKET_PLAIN && !nat_has_port(&pkt))
		return TC_ACT_UNSPEC;
	reason = uplink_find_source(&pkt);
	if (!reason)
		reason = uplink_translate(skb, &pkt);
	if (!reason && pkt.to_server)
		reason = uplink_to_server(skb, &pkt);
	if (!reason && !pkt.translated)
		return TC_ACT_UNSPEC;
	if (!reason && uplink_is_masquerade_answer())
		return find_destination(&pkt) ? TC_ACT_UNSPEC : uplink_to_pod(skb, &pkt);
	if (!reason)
		reason = uplink_find_receiver(&pkt);
	if (!reason)
		reason = uplink_check(skb, &pkt);
	if (!reason)
		return uplink_send(skb, &pkt);
	if (drop_is_preliminary(reason))
		return TC_ACT_UNSPEC;
	drop_count(skb, &pkt, reason, DIR_INGRESS);
	return uplink_is_answered(reason) ? reject(skb, &pkt, reason) : TC_ACT_SHOT;
}

/* The pod whose own packet this may be, if that matters. */
static __always_inline const struct endpoint_entry *uplink_sender(const struct __sk_buff *skb)
{
	const struct endpoint_entry *endpoint;

	if (!skb->ingress_ifindex ||
	    !(node_flags() & (NODE_MASQUERADE | NODE_TUNNEL | NODE_WIREGUARD | NODE_DSR)))
		return NULL;
	endpoint = endpoint_get(device_slot(skb->ingress_ifindex));
	return endpoint && !(endpoint->flags & ENDPOINT_CHAINED) ? endpoint : NULL;
}

/*
 * What a pod says to another node itself takes WireGuard or the tunnel as well: the network between
 * them need not know pods.  The host's stack routes it here because the outer packets go here, too.
 * Whatever routes say, this is the last place where a packet may be sent in clear.  Returns why it
 * must be dropped; *ret_ifindex is 0 if it leaves here.
 */
static __noinline int uplink_find_tunnel(const struct packet *pkt, __u32 *ret_ifindex)
{
	struct cidr_key key = { .prefixlen = 128, .addr = pkt->flow.daddr };
	const struct node_state *node = node_get();
	const struct cluster_entry *entry;

	*ret_ifindex = 0;
	if (!node || !(node->flags & (NODE_TUNNEL | NODE_WIREGUARD)))
		return DROP_NONE;
	entry = bpf_map_lookup_elem(&cluster_map, &key);
	if (!entry || addr_is_zero(&entry->node))
		return DROP_NONE;
	if (node->flags & NODE_WIREGUARD && entry->flags & CLUSTER_SEALED)
		*ret_ifindex = node->wireguard_ifindex;
	else if (node->flags & NODE_STRICT)
		return DROP_NO_KEY;
	else if (node->flags & NODE_TUNNEL)
		*ret_ifindex = node->tunnel_ifindex;
	return DROP_NONE;
}

/* Whether another node would take it for a packet of the tunnel that this node has sent. */
static __noinline bool uplink_speaks_tunnel(const struct packet *pkt)
{
	struct cidr_key key = { .prefixlen = 128, .addr = pkt->flow.daddr };

	return nat_is_tunnel(&pkt->flow) && remote_find(&key);
}

/* What the pod of this node says to the outside under its own address, or somebody else from here.
 */
static __always_inline int uplink_leave(struct __sk_buff *skb, struct packet *pkt, bool own)
{
	bool masquerades = own && node_flags() & NODE_MASQUERADE;
	int reason;

	if (pkt->kind == PACKET_ICMP_ERROR) {
		reason = icmp_error_translate(skb, pkt);
		if (!reason && !pkt->translated && masquerades && !masquerade_is_excluded(pkt))
			reason = DROP_UNRELATED_ERROR;
		return reason;
	}
	if (!own)
		return nat_reply(skb, pkt);
	return masquerades ? masquerade(skb, pkt) : DROP_NONE;
}

SEC("tc")
int to_uplink(struct __sk_buff *skb)
{
	const struct endpoint_entry *pod = uplink_sender(skb), *node;
	struct packet pkt = {};
	__u32 zero = 0, tunnel = 0;
	bool own;
	int reason = DROP_NONE;

	node = bpf_map_lookup_elem(&endpoint_map, &zero);
	if (!node || (!pod && !node->translated) || packet_parse(skb, &pkt) ||
	    (pkt.kind != PACKET_PLAIN && pkt.kind != PACKET_ICMP_ERROR))
		return TC_ACT_UNSPEC;
	if (pkt.fragment)
		packet_fragment(&pkt);
	own = pod && endpoint_has_addr(pod, pkt.ipv6, &pkt.flow.saddr);
	if (own) {
		pkt.src.slot = device_slot(skb->ingress_ifindex);
		reason = uplink_find_tunnel(&pkt, &tunnel);
	}
	if (tunnel)
		return (int)bpf_redirect((int)tunnel, 0);
	if (pod && !own && uplink_speaks_tunnel(&pkt)) /* somebody else masquerades */
		reason = DROP_TUNNEL_PORT;
	if (!reason)
		reason = uplink_leave(skb, &pkt, own);
	return reason && !drop_is_preliminary(reason) ? drop(skb, &pkt, reason, DIR_EGRESS)
						      : TC_ACT_UNSPEC;
}
