/* SPDX-License-Identifier: Apache-2.0 */
/* What a network does to packets, where a test wants to know exactly: "delay" of each by 3 ms, in
 * which a CPU does nothing else, "loss" of each tenth TCP segment with data. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define DELAY_NS 3000000ULL
#define TURNS    (1 << 20)
#define EACH     10

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} segments SEC(".maps");

static long is_over(__u32 index, __u64 *until)
{
	(void)index;
	return bpf_ktime_get_ns() >= *until;
}

SEC("delay")
int packet_delay(struct __sk_buff *skb)
{
	__u64 until = bpf_ktime_get_ns() + DELAY_NS;

	(void)skb;
	bpf_loop(TURNS, is_over, &until, 0);
	return TC_ACT_OK;
}

SEC("loss")
int packet_lose(struct __sk_buff *skb)
{
	__u32 zero = 0, headers;
	struct tcphdr tcp;
	struct iphdr ip;
	__u64 *count;

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.protocol != IPPROTO_TCP ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + ip.ihl * 4, &tcp, sizeof(tcp)))
		return TC_ACT_OK;
	headers = ip.ihl * 4U + tcp.doff * 4U;
	count = bpf_map_lookup_elem(&segments, &zero);
	if (!count || bpf_ntohs(ip.tot_len) <= headers)
		return TC_ACT_OK;
	return __sync_fetch_and_add(count, 1) % EACH == EACH - 1 ? TC_ACT_SHOT : TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
