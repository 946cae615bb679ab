/* SPDX-License-Identifier: Apache-2.0 */
/* The node on which the datapath's programs are run packet by packet. */
#include "harness/lab.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness/scratch.h"
#include "lib/auto.h"
#include "lib/inet.h"
#include "lib/netlink.h"
#include "lib/netns.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define HOME_MAC ((const uint8_t[6]){ 2, 0x54, 0, 0, 9, 9 })

struct lab lab;
static char pin_dir[64];
static struct netns_scope home = NETNS_SCOPE_INIT;
static struct {
	char name[16];
	int fd;
} maps[24];
static size_t map_count;

/* ---- who is who ----------------------------------------------------------------------------- */

struct addr outside_addr(bool ipv6, uint32_t v4, uint32_t v6_head, uint32_t v6_tail)
{
	if (ipv6)
		return (struct addr){ { htonl(v6_head), 0, 0, htonl(v6_tail) } };
	return (struct addr){ { 0, 0, htonl(0xffff), htonl(v4) } };
}

struct addr at(enum host host)
{
	switch (host) {
	case POD_A:
	case POD_B:
	case POD_C:
		return lab.ipv6 ? lab.pods->pod[host].v6 : lab.pods->pod[host].v4;
	case NODE:
		return outside_addr(lab.ipv6, 0x0a630001, 0xfd990000, 1);
	case OUTSIDE:
		return outside_addr(lab.ipv6, 0xc6336407, 0x20010db8, 7);
	case ELSEWHERE:
		return outside_addr(lab.ipv6, 0xcb007109, 0x20010db9, 9);
	case NOBODY:
		return outside_addr(lab.ipv6, 0x0a6300c8, 0xfd990000, 200);
	case SERVICE:
		return outside_addr(lab.ipv6, 0x0a60000a, 0xfd960000, 10);
	default:
		abort();
	}
}

uint32_t identity_of(enum host host)
{
	switch (host) {
	case POD_A:
	case POD_B:
	case POD_C:
		return IDENTITY_FIRST + lab.pods->pod[host].slot;
	case NODE:
		return IDENTITY_HOST;
	case OUTSIDE:
		return 900;
	case ANYONE:
		return IDENTITY_ANY;
	default:
		return IDENTITY_WORLD;
	}
}

bool lab_is_pod(enum host host)
{
	return host <= POD_C;
}

static uint32_t policy_of(enum host pod)
{
	return 100u + lab.pods->pod[pod].slot;
}

int lab_map(const char *name)
{
	char path[96];

	for (size_t i = 0; i < map_count; i++) {
		if (!strncmp(maps[i].name, name, sizeof(maps[i].name)))
			return maps[i].fd;
	}
	assert_true(map_count < ARRAY_SIZE(maps));
	snprintf(path, sizeof(path), "%s/maps/%s", pin_dir, name);
	snprintf(maps[map_count].name, sizeof(maps[map_count].name), "%s", name);
	maps[map_count].fd = bpf_obj_get(path);
	assert_true(maps[map_count].fd >= 0);
	return maps[map_count++].fd;
}

/* ---- the node ------------------------------------------------------------------------------- */

static void map_empty(const char *name)
{
	uint8_t key[64];
	int fd = lab_map(name);

	while (!bpf_map_get_next_key(fd, NULL, key))
		assert_int_equal(bpf_map_delete_elem(fd, key), 0);
}

static void publish_address(enum host host, uint32_t flags)
{
	struct ipcache_entry entry = { .identity = identity_of(host), .flags = (uint16_t)flags };
	struct addr addr = at(host);

	assert_int_equal(ipcache_map_set(lab.datapath, &addr, &entry), 0);
}

int lab_reset(void **state)
{
	struct cidr_key cidr = { .prefixlen = 64 };
	struct errmsg err = { 0 };

	lab.ipv6 = *state;
	map_empty("ct_map");
	map_empty("nat_map");
	map_empty("frag_map");
	map_empty("policy_map");
	map_empty("service_map");
	map_empty("backend_map");
	map_empty("affinity_map");
	map_empty("range_map");
	map_empty("flow_map");
	assert_int_equal(ct_map_sweep(lab.datapath, 0), 0); /* what was deleted is free again */
	assert_int_equal(nat_map_sweep(lab.datapath, 0), 0);
	for (uint16_t slot = 1; slot <= lab.pods->count; slot++)
		assert_int_equal(endpoint_map_del(lab.datapath, slot), 0);
	maps_node(lab.datapath)->flags = NODE_HAS_CIDRS;
	publish_address(NODE, IPCACHE_HOST);
	publish_address(SERVICE, IPCACHE_SERVICE);
	cidr.addr = at(OUTSIDE);
	cidr.prefixlen = lab.ipv6 ? 64 : 96 + 24;
	assert_int_equal(cidr_map_set(lab.datapath, &cidr, identity_of(OUTSIDE)), 0);
	return pods_publish(lab.pods, lab.datapath, 0, &err);
}

int lab_setup_pods(size_t count)
{
	struct datapath_options options = { .pin_dir = pin_dir,
					    .cgroup = lab.cgroup,
					    .socket_services = lab.cgroup,
					    .limits = { .endpoints = 16, .connections = 512 } };
	struct errmsg err = { 0 };

	snprintf(pin_dir, sizeof(pin_dir), "/sys/fs/bpf/tendril-test-%d", getpid());
	if (scratch_bpffs(&err) || pods_new(count, false, &lab.pods, &err) ||
	    netns_enter(lab.pods->node_fd, &home, &err) ||
	    datapath_open(&options, &lab.datapath, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	maps_node(lab.datapath)->host_ifindex = (uint32_t)lab.pods->host_ifindex;
	lab.from_pod = datapath_program_fd(lab.datapath, "from_pod");
	lab.to_pod = datapath_program_fd(lab.datapath, "to_pod");
	return 0;
}

int lab_setup(void **state)
{
	(void)state;
	return lab_setup_pods(3);
}

int lab_teardown(void **state)
{
	struct errmsg err = { 0 };

	(void)state;
	while (map_count)
		close(maps[--map_count].fd);
	datapath_close(lab.datapath);
	datapath_cleanup(pin_dir, &err);
	netns_leave(&home);
	pods_free(lab.pods);
	return 0;
}

int lab_run(const char *group, const void *tests, size_t count)
{
	const char *filter = getenv("CMOCKA_TEST_FILTER");

	if (filter && *filter)
		cmocka_set_test_filter(filter);
	return _cmocka_run_group_tests(group, tests, count, lab_setup, lab_teardown);
}

/* ---- policy --------------------------------------------------------------------------------- */

void isolate(enum host pod, uint32_t flags)
{
	struct endpoint_entry endpoint;
	uint16_t slot = lab.pods->pod[pod].slot;

	assert_int_equal(endpoint_map_get(lab.datapath, slot, &endpoint), 0);
	endpoint.flags = ENDPOINT_VALID | flags;
	endpoint.policy_id = policy_of(pod);
	assert_int_equal(endpoint_map_set(lab.datapath, slot, &endpoint), 0);
	maps_bump_revision(lab.datapath);
}

void allow(enum host pod, enum direction direction, enum host peer, uint8_t proto, uint16_t port)
{
	struct policy_key key = { .policy_id = policy_of(pod),
				  .peer = identity_of(peer),
				  .direction = (uint8_t)direction };
	struct policy_entry entry = { 0 };
	struct port_rule *rule;

	bpf_map_lookup_elem(lab_map("policy_map"), &key, &entry);
	assert_true(entry.rule_count < POLICY_INLINE_RULES);
	rule = &entry.rules[entry.rule_count++];
	*rule = (struct port_rule){ .port_min = port,
				    .port_max = port ? port : UINT16_MAX,
				    .proto = proto,
				    .verdict = VERDICT_ALLOW };
	assert_int_equal(policy_map_set(lab.datapath, &key, &entry), 0);
	maps_bump_revision(lab.datapath);
}

void forbid(enum host pod, enum direction direction, enum host peer)
{
	struct policy_key key = { .policy_id = policy_of(pod),
				  .peer = identity_of(peer),
				  .direction = (uint8_t)direction };

	assert_int_equal(policy_map_del(lab.datapath, &key), 0);
	maps_bump_revision(lab.datapath);
}

/* ---- packets -------------------------------------------------------------------------------- */

uint64_t lab_metric(unsigned int metric)
{
	uint64_t value = 0;

	assert_int_equal(metric_get(lab.datapath, metric, &value), 0);
	return value;
}

struct counters {
	uint64_t drops[DROP_REASON_COUNT];
	uint64_t received[PODS_MAX];
};

static void counters_read(struct counters *ret)
{
	struct endpoint_stats stats;

	for (unsigned int reason = 1; reason < DROP_REASON_COUNT; reason++)
		ret->drops[reason] = lab_metric(reason);
	for (size_t i = 0; i < lab.pods->count; i++) {
		uint16_t slot = lab.pods->pod[i].slot;

		assert_int_equal(endpoint_stats_get(lab.datapath, slot, &stats), 0);
		ret->received[i] = stats.rx_packets;
	}
}

struct outcome lab_run_program(int program, const struct frame *frame, uint32_t ifindex,
			       uint32_t in_ifindex)
{
	struct __sk_buff skb = { .ifindex = ifindex, .ingress_ifindex = in_ifindex };
	struct outcome outcome = { 0 };
	struct counters before, after;
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame->bytes,
		    .data_size_in = (uint32_t)frame->len, .data_out = outcome.frame.bytes,
		    .data_size_out = sizeof(outcome.frame.bytes), .ctx_in = &skb,
		    .ctx_size_in = sizeof(skb), .ctx_out = &skb, .ctx_size_out = sizeof(skb));

	counters_read(&before);
	assert_int_equal(bpf_prog_test_run_opts(program, &options), 0);
	counters_read(&after);
	outcome.action = (int)options.retval;
	outcome.frame.len = options.data_size_out;
	outcome.departs_ns = skb.tstamp;
	for (unsigned int reason = 1; reason < DROP_REASON_COUNT; reason++) {
		if (after.drops[reason] == before.drops[reason])
			continue;
		/* One packet, one reason. */
		assert_int_equal(outcome.reason, DROP_NONE);
		/* Exactly one, unless live sockets may send again into the same drop. */
		if (!lab.attached)
			assert_int_equal(after.drops[reason], before.drops[reason] + 1);
		outcome.reason = (enum drop_reason)reason;
	}
	for (size_t i = 0; i < lab.pods->count; i++) {
		if (after.received[i] != before.received[i])
			outcome.received_by = lab.pods->pod[i].slot;
	}
	return outcome;
}

struct outcome lab_from_pod(enum host pod, const struct frame *frame)
{
	return lab_run_program(lab.from_pod, frame, ENDPOINT_IFINDEX_BASE + lab.pods->pod[pod].slot,
			       0);
}

struct outcome lab_to_pod(const struct frame *frame, uint32_t in_ifindex)
{
	return lab_run_program(lab.to_pod, frame, (uint32_t)lab.pods->host_ifindex, in_ifindex);
}

struct outcome lab_to_pod_device(enum host pod, const struct frame *frame, uint32_t in_ifindex)
{
	return lab_run_program(lab.to_pod, frame, ENDPOINT_IFINDEX_BASE + lab.pods->pod[pod].slot,
			       in_ifindex);
}

static enum host sender_of(const struct segment *segment)
{
	struct addr addr;

	for (enum host host = POD_A; host <= SERVICE; host++) {
		addr = at(host);
		if (!memcmp(&addr, &segment->from, sizeof(addr)))
			return host;
	}
	return ANYONE;
}

struct frame lab_frame(const struct segment *segment)
{
	enum host sender = sender_of(segment);
	struct frame frame;

	if (lab_is_pod(sender))
		frame_build(segment, lab.pods->pod[sender].mac, lab.pods->pod[sender].host_mac,
			    &frame);
	else
		frame_build(segment, HOME_MAC, HOME_MAC, &frame);
	return frame;
}

struct outcome lab_send(const struct segment *segment)
{
	enum host sender = sender_of(segment);
	struct frame frame = lab_frame(segment);

	if (lab_is_pod(sender))
		return lab_from_pod(sender, &frame);
	return lab_to_pod(&frame, sender == NODE ? 0 : UPLINK);
}

static const char *reason_name(enum drop_reason reason)
{
#define X(num, name, text) [num] = #name,
	static const char *const names[] = { [0] = "passes", DROP_REASONS(X) };
#undef X

	return names[reason];
}

void lab_expect_frame(const struct outcome *outcome, const struct frame *sent,
		      enum drop_reason want, const char *file, int line)
{
	bool shot = outcome->action == TC_ACT_SHOT;

	/* The sender may get an answer instead. */
	if (outcome->reason == want &&
	    (shot == !!want || want == DROP_NO_BACKEND || want == DROP_NO_ENDPOINT))
		return;
	print_error("%s:%d: %s: want %s, got %s, action %d\n", file, line,
		    lab.ipv6 ? "IPv6" : "IPv4", reason_name(want), reason_name(outcome->reason),
		    outcome->action);
	for (size_t i = 0; i < sent->len && i < 128; i++)
		print_error("%02x%s", sent->bytes[i], i % 16 == 15 ? "\n" : " ");
	print_error("\n");
	_fail(file, line);
}

void lab_expect(const struct segment *segment, enum drop_reason want, const char *file, int line)
{
	struct frame frame = lab_frame(segment);
	struct outcome outcome = lab_send(segment);

	lab_expect_frame(&outcome, &frame, want, file, line);
}

void lab_handshake(void)
{
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 1000);
	PASSES(TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .seq = 5000, .ack = 1001);
	PASSES(TCP(POD_A, POD_B, 40000, 80, ACK), .seq = 1001, .ack = 5001);
}

/* ---- what is remembered --------------------------------------------------------------------- */

static struct ct_key connection_key(enum host a, uint16_t a_port, enum host b, uint16_t b_port,
				    uint8_t proto)
{
	struct addr a_addr = at(a), b_addr = at(b);
	int order = addr_compare(&a_addr, &b_addr);
	bool sorted = order < 0 || (order == 0 && a_port <= b_port);
	struct ct_key key = { .proto = proto };

	key.a = sorted ? a_addr : b_addr;
	key.b = sorted ? b_addr : a_addr;
	key.a_port = htons(sorted ? a_port : b_port);
	key.b_port = htons(sorted ? b_port : a_port);
	return key;
}

bool lab_connection(enum host a, uint16_t a_port, enum host b, uint16_t b_port, uint8_t proto,
		    struct ct_entry *ret)
{
	struct ct_key key = connection_key(a, a_port, b, b_port, proto);

	return !ct_map_get(lab.datapath, &key, ret);
}

bool lab_connection_ends(enum host a, uint16_t a_port, enum host b, uint16_t b_port, uint8_t proto)
{
	const struct timespec pace = { .tv_nsec = 1000000 };
	struct ct_entry entry;

	for (int ms = 0; ms < 10000; ms++) {
		if (!lab_connection(a, a_port, b, b_port, proto, &entry))
			return true;
		nanosleep(&pace, NULL);
	}
	return false;
}

void lab_connection_age(enum host a, uint16_t a_port, enum host b, uint16_t b_port, uint8_t proto,
			uint64_t age_ns)
{
	struct ct_key key = connection_key(a, a_port, b, b_port, proto);
	struct ct_entry entry;
	struct timespec now;

	assert_int_equal(ct_map_get(lab.datapath, &key, &entry), 0);
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	entry.last_seen_ns = (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec - age_ns;
	entry.seen_jiffies -= TOUCH_JIFFIES;
	assert_int_equal(bpf_map_update_elem(lab_map("ct_map"), &key, &entry, BPF_EXIST), 0);
}
