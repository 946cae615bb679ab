/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes -> a frame that a pod sends, through the real from_pod.  The pod may do one thing only,
 * open port 80 of another pod, and a second parser here, written from the RFCs and not from the
 * first, says which frames that can be.  Needs root.
 *
 * The first byte says how much of the frame is put right before it is sent (SET_*), so that the
 * fuzzer gets past the first checks.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/entry.h"
#include "harness/pods.h"
#include "harness/scratch.h"
#include "lib/auto.h"
#include "lib/inet.h"
#include "lib/netns.h"

#define PORT      80
#define POLICY_ID 9
#define FRAME_MAX 2048

enum { SET_MACS = 1, SET_SOURCE = 2, SET_DESTINATION = 4, SET_V6 = 8, SET_LENGTH = 16 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pods *pods;
static struct datapath *datapath;
static struct netns_scope home = NETNS_SCOPE_INIT;
static char pin_dir[64];
static const struct pod *sender, *receiver;

static void check(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s\n", what);
	datapath_cleanup(pin_dir, NULL);
	abort();
}

static void finish(void)
{
	datapath_close(datapath);
	datapath_cleanup(pin_dir, NULL);
	netns_leave(&home);
	pods_free(pods);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct datapath_options options = { .pin_dir = pin_dir };
	struct policy_key key = { .policy_id = POLICY_ID, .direction = DIR_EGRESS };
	struct policy_entry rule = { .rule_count = 1,
				     .rules = { { PORT, PORT, IPPROTO_TCP, VERDICT_ALLOW } } };
	struct endpoint_entry endpoint;
	struct errmsg err = { 0 };

	(void)argc;
	(void)argv;
	snprintf(pin_dir, sizeof(pin_dir), "/sys/fs/bpf/tendril-fuzz-%d", getpid());
	check(!scratch_bpffs(&err) && !pods_new(2, false, &pods, &err) &&
		      !netns_enter(pods->node_fd, &home, &err) &&
		      !datapath_open(&options, &datapath, &err) &&
		      !pods_publish(pods, datapath, 0, &err),
	      err.text);
	atexit(finish);
	sender = &pods->pod[0];
	receiver = &pods->pod[1];
	endpoint = pods_endpoint(sender);
	endpoint.flags |= ENDPOINT_EGRESS_ISOLATED;
	endpoint.policy_id = POLICY_ID;
	key.peer = pods_endpoint(receiver).identity;
	check(!endpoint_map_set(datapath, sender->slot, &endpoint) &&
		      !policy_map_set(datapath, &key, &rule),
	      "write the maps");
	return 0;
}

/* ---- what may pass -------------------------------------------------------------------------- */

static bool is_addr(const uint8_t *at, const struct addr *addr)
{
	const uint8_t *bytes;
	size_t len = addr_bytes(addr, &bytes);

	return !memcmp(at, bytes, len);
}

static bool is_on_link(const uint8_t *v6)
{
	return v6[0] == 0xff || (v6[0] == 0xfe && (v6[1] & 0xc0) == 0x80);
}

static bool may_arp(const uint8_t *frame, size_t len)
{
	static const uint8_t none[4];

	return len >= 32 && !memcmp(frame + 22, sender->mac, 6) &&
	       (is_addr(frame + 28, &sender->v4) || !memcmp(frame + 28, none, 4));
}

/* To port 80 of the receiver, or a later part of something that was sent there, or to itself. */
static bool may_transport(const uint8_t *transport, size_t len, uint8_t proto, bool later, bool own)
{
	if (own)
		return true;
	if (proto != IPPROTO_TCP)
		return false;
	return later || (len >= 20 && transport[2] == 0 && transport[3] == PORT);
}

static bool may_v4(const uint8_t *ip, size_t len)
{
	size_t header = (ip[0] & 15) * 4u;
	bool own = is_addr(ip + 16, &sender->v4);

	if (len < 20 || len < header || !is_addr(ip + 12, &sender->v4) ||
	    !(own || is_addr(ip + 16, &receiver->v4)))
		return false;
	return may_transport(ip + header, len - header, ip[9], (ip[6] & 0x1f) || ip[7], own);
}

static bool may_discover(const uint8_t *ip, const uint8_t *icmp, size_t len)
{
	static const uint8_t none[16];
	bool from = is_addr(ip + 8, &sender->v6) || is_on_link(ip + 8) || !memcmp(ip + 8, none, 16);
	bool known =
		len >= 8 && icmp[0] >= 130 && (icmp[0] <= 136 || icmp[0] == 143) && icmp[0] != 134;

	return from && known && is_on_link(ip + 24);
}

static bool may_v6(const uint8_t *ip, size_t len)
{
	bool own = is_addr(ip + 24, &sender->v6), later = false;
	size_t offset = 40, size;
	uint8_t type = ip[6];

	if (len < 40)
		return false;
	while (type == 0 || type == 43 || type == 44 || type == 51 || type == 60) {
		if (offset + 8 > len || later)
			break;
		later = type == 44 && ((ip[offset + 2] << 8 | ip[offset + 3]) & 0xfff8);
		size = type == 44   ? 8
		       : type == 51 ? (ip[offset + 1] + 2u) * 4
				    : (ip[offset + 1] + 1u) * 8;
		type = ip[offset];
		offset += size;
	}
	if (offset > len)
		return false;
	if (type == IPPROTO_ICMPV6 && !later && may_discover(ip, ip + offset, len - offset))
		return true;
	return is_addr(ip + 8, &sender->v6) && (own || is_addr(ip + 24, &receiver->v6)) &&
	       may_transport(ip + offset, len - offset, type, later, own);
}

static bool may_pass(const uint8_t *frame, size_t len)
{
	unsigned int type = (unsigned int)(frame[12] << 8 | frame[13]);

	if (memcmp(frame + 6, sender->mac, 6) != 0)
		return false;
	if (type == 0x0806)
		return may_arp(frame, len);
	if (type == 0x0800)
		return len >= 34 && may_v4(frame + 14, len - 14);
	return type == 0x86dd && len >= 54 && may_v6(frame + 14, len - 14);
}

/* ---- one frame ------------------------------------------------------------------------------ */

static void put_right(uint8_t *frame, size_t len, uint8_t what)
{
	bool v6 = what & SET_V6;
	const uint8_t *from, *to;
	size_t size = addr_bytes(v6 ? &sender->v6 : &sender->v4, &from), l3_len = len - 14;

	addr_bytes(v6 ? &receiver->v6 : &receiver->v4, &to);
	if (what & SET_MACS) {
		memcpy(frame, sender->host_mac, 6);
		memcpy(frame + 6, sender->mac, 6);
	}
	if (len < 54 || !(what & (SET_SOURCE | SET_DESTINATION | SET_LENGTH)))
		return;
	memcpy(frame + 12, v6 ? "\x86\xdd" : "\x08\x00", 2);
	frame[14] = (uint8_t)((frame[14] & 15) | (v6 ? 0x60 : 0x40));
	if (what & SET_SOURCE)
		memcpy(frame + (v6 ? 22 : 26), from, size);
	if (what & SET_DESTINATION)
		memcpy(frame + (v6 ? 38 : 30), to, size);
	if (what & SET_LENGTH) {
		l3_len -= v6 ? 40 : 0;
		frame[v6 ? 18 : 16] = (uint8_t)(l3_len >> 8);
		frame[v6 ? 19 : 17] = (uint8_t)l3_len;
	}
}

static uint64_t drops(void)
{
	uint64_t sum = 0, one = 0;

	for (unsigned int reason = 1; reason < DROP_REASON_COUNT; reason++) {
		check(!metric_get(datapath, reason, &one), "read a counter");
		sum += one;
	}
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct __sk_buff skb = { .ifindex = ENDPOINT_IFINDEX_BASE + sender->slot };
	uint8_t frame[FRAME_MAX], out[FRAME_MAX];
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_out = out,
		    .data_size_out = sizeof(out), .ctx_in = &skb, .ctx_size_in = sizeof(skb));
	uint64_t before;
	bool passed;

	if (size < 1 + 14 || size > FRAME_MAX)
		return -1;
	run.data_size_in = (uint32_t)size - 1;
	memcpy(frame, data + 1, size - 1);
	put_right(frame, size - 1, data[0]);
	before = drops();
	/* The kernel refuses to run on frames that end inside the IP header. */
	if (bpf_prog_test_run_opts(datapath_program_fd(datapath, "from_pod"), &run))
		return 0;
	passed = run.retval != TC_ACT_SHOT;
	check(!passed || run.retval == TC_ACT_OK || run.retval == TC_ACT_REDIRECT,
	      "unknown action");
	check(drops() == before + !passed, "a drop is counted once, a packet that passes is not");
	check(run.data_size_out == size - 1 && !memcmp(frame, out, size - 1), "the packet changed");
	check(!passed || may_pass(frame, size - 1), "passed");
	return 0;
}
