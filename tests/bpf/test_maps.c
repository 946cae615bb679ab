/* SPDX-License-Identifier: Apache-2.0 */
/* Typed map access, against the kernel's maps. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "datapath/maps.h"
#include "datapath/state.h"
#include "harness/entry.h"
#include "harness/scratch.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define ADDRESSES 6000 /* more than one batch of a walk */

static struct datapath *datapath;

static int group_setup(void **state)
{
	struct errmsg err = { 0 };
	struct datapath_options options = scratch_options();

	(void)state;
	options.limits = (struct datapath_limits){
		.endpoints = 8, .connections = 64, .addresses = ADDRESSES, .cidrs = 16, .ports = 16
	};
	if (scratch_init(&err) || datapath_open(&options, &datapath, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	datapath_close(datapath);
	scratch_done();
	return 0;
}

static struct addr address(uint32_t n)
{
	return (struct addr){ { 0, 0, htonl(0xffff), htonl(0x0a000000 + n) } };
}

static int open_pin(const char *map)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), SCRATCH_PIN_DIR "/maps/%s", map);
	fd = bpf_obj_get(path);
	assert_true(fd >= 0);
	return fd;
}

static uint32_t used(enum map_id map)
{
	uint32_t count = UINT32_MAX, capacity;

	assert_int_equal(maps_usage(datapath, map, &count, &capacity), 0);
	return count;
}

/* ---- single entries ------------------------------------------------------------------------- */

static void test_entries_are_set_read_and_deleted(void **state)
{
	const struct service_key key = { .addr = address(1), .port = htons(80), .proto = 6 };
	const struct ipcache_entry entry = { .identity = 17, .slot = 3 };
	struct service service = { .id = 9, .backends = 2 }, got_service;
	struct ipcache_entry got_entry;
	struct addr addr = address(1);

	(void)state;
	assert_int_equal(ipcache_map_get(datapath, &addr, &got_entry), -ENOENT);
	assert_int_equal(ipcache_map_del(datapath, &addr), 0); /* what is not there is fine */
	assert_int_equal(ipcache_map_set(datapath, &addr, &entry), 0);
	assert_int_equal(ipcache_map_get(datapath, &addr, &got_entry), 0);
	assert_memory_equal(&got_entry, &entry, sizeof(entry));
	assert_int_equal(ipcache_map_del(datapath, &addr), 0);
	assert_int_equal(ipcache_map_get(datapath, &addr, &got_entry), -ENOENT);

	assert_int_equal(service_map_set(datapath, &key, &service), 0);
	assert_int_equal(service_map_get(datapath, &key, &got_service), 0);
	assert_memory_equal(&got_service, &service, sizeof(service));
	assert_int_equal(service_map_del(datapath, &key), 0);
	assert_int_equal(used(MAP_SERVICE), 0);
}

static void test_full_map_is_an_error(void **state)
{
	struct cidr_key cidr = { .prefixlen = 128 };
	struct addr addr = address(ADDRESSES + 1);
	struct ipcache_entry entry = { .identity = 1 };
	uint32_t i, capacity, count;
	int ret = 0;

	(void)state;
	for (i = 0; i <= 16 && !ret; i++) {
		cidr.addr = address(i);
		ret = cidr_map_set(datapath, &cidr, i);
	}
	assert_int_equal(ret, -ENOSPC);
	assert_int_equal(i - 1, 16);
	assert_int_equal(maps_usage(datapath, MAP_CIDR, &count, &capacity), 0);
	assert_int_equal(count, 16);
	assert_int_equal(capacity, 16);
	for (i = 0; i < 16; i++) {
		cidr.addr = address(i);
		assert_int_equal(cidr_map_del(datapath, &cidr), 0);
	}
	assert_int_equal(used(MAP_CIDR), 0);

	for (i = 0; i < ADDRESSES; i++) {
		struct addr filler = address(i);

		assert_int_equal(ipcache_map_set(datapath, &filler, &entry), 0);
	}
	assert_int_equal(ipcache_map_set(datapath, &addr, &entry), -E2BIG);
	for (i = 0; i < ADDRESSES; i++) {
		struct addr filler = address(i);

		assert_int_equal(ipcache_map_del(datapath, &filler), 0);
	}
}

/* ---- many ----------------------------------------------------------------------------------- */

struct seen {
	uint8_t times[ADDRESSES];
	bool delete;
	uint32_t stop_after;
	uint32_t count;
};

static int see(const void *key, const void *value, void *arg)
{
	const struct ipcache_entry *entry = value;
	const struct addr *addr = key;
	struct seen *seen = arg;
	uint32_t n = ntohl(addr->w[3]) - 0x0a000000;

	if (n >= ADDRESSES || entry->identity != n + 1)
		return -EILSEQ;
	seen->times[n]++;
	if (seen->delete &&ipcache_map_del(datapath, addr))
		return -EIO;
	return ++seen->count == seen->stop_after ? 42 : 0;
}

static void fill_addresses(void)
{
	auto_free struct ipcache_entry *entries = calloc(ADDRESSES, sizeof(*entries));
	auto_free struct addr *addrs = calloc(ADDRESSES, sizeof(*addrs));

	assert_non_null(entries);
	assert_non_null(addrs);
	for (uint32_t i = 0; i < ADDRESSES; i++) {
		addrs[i] = address(i);
		entries[i].identity = i + 1;
	}
	assert_int_equal(maps_set_batch(datapath, MAP_IPCACHE, addrs, entries, ADDRESSES, NULL), 0);
}

static void test_walk_sees_each_entry_once(void **state)
{
	auto_free struct seen *seen = calloc(1, sizeof(*seen));

	(void)state;
	fill_addresses();
	assert_int_equal(used(MAP_IPCACHE), ADDRESSES);
	assert_int_equal(maps_foreach(datapath, MAP_IPCACHE, see, seen), 0);
	for (uint32_t i = 0; i < ADDRESSES; i++)
		assert_int_equal(seen->times[i], 1);
	/* A verdict of the caller ends it. */
	*seen = (struct seen){ .stop_after = 5 };
	assert_int_equal(maps_foreach(datapath, MAP_IPCACHE, see, seen), 42);
	assert_int_equal(seen->count, 5);
	/* The caller may delete what it is shown. */
	*seen = (struct seen){ .delete = true };
	assert_int_equal(maps_foreach(datapath, MAP_IPCACHE, see, seen), 0);
	assert_int_equal(seen->count, ADDRESSES);
	assert_int_equal(used(MAP_IPCACHE), 0);
}

static int see_prefix(const void *key, const void *value, void *arg)
{
	const struct cidr_key *cidr = key;
	uint32_t *bits = arg;

	*bits |= 1U << cidr->prefixlen / 8;
	return *(const uint32_t *)value == cidr->prefixlen ? 0 : -EILSEQ;
}

static void test_walk_of_a_trie_sees_nested_prefixes(void **state)
{
	struct cidr_key keys[4];
	uint32_t values[4], bits = 0;

	(void)state;
	for (int i = 0; i < 4; i++) {
		keys[i] = (struct cidr_key){ .prefixlen = 104 + 8 * i, .addr = address(0) };
		values[i] = keys[i].prefixlen;
	}
	assert_int_equal(maps_set_batch(datapath, MAP_CIDR, keys, values, 4, NULL), 0);
	assert_int_equal(maps_foreach(datapath, MAP_CIDR, see_prefix, &bits), 0);
	assert_int_equal(bits, 1 << 13 | 1 << 14 | 1 << 15 | 1 << 16);
	assert_int_equal(maps_del_batch(datapath, MAP_CIDR, keys, 4, NULL), 0);
	assert_int_equal(used(MAP_CIDR), 0);
}

static void test_batch_deletion_passes_over_what_is_not_there(void **state)
{
	struct ipcache_entry entries[4] = { { .identity = 1 } };
	struct addr there[4], all[9];

	(void)state;
	for (uint32_t i = 0; i < 9; i++) {
		all[i] = address(i);
		if (i % 2)
			there[i / 2] = all[i];
	}
	assert_int_equal(maps_set_batch(datapath, MAP_IPCACHE, there, entries, 4, NULL), 0);
	assert_int_equal(maps_del_batch(datapath, MAP_IPCACHE, all, 9, NULL), 0);
	assert_int_equal(used(MAP_IPCACHE), 0);
	assert_int_equal(maps_del_batch(datapath, MAP_IPCACHE, all, 0, NULL), 0);
	assert_int_equal(maps_set_batch(datapath, MAP_IPCACHE, all, entries, 0, NULL), 0);
}

static void test_batch_stops_at_a_full_map(void **state)
{
	struct cidr_key keys[20];
	uint32_t values[20] = { 0 };
	size_t done = 0;

	(void)state;
	for (uint32_t i = 0; i < 20; i++)
		keys[i] = (struct cidr_key){ .prefixlen = 128, .addr = address(i) };
	assert_int_equal(maps_set_batch(datapath, MAP_CIDR, keys, values, 20, &done), -ENOSPC);
	assert_int_equal(done, 16);
	assert_int_equal(used(MAP_CIDR), 16); /* what fits stays */
	assert_int_equal(maps_set_batch(datapath, MAP_CIDR, &keys[16], values, 1, &done), -ENOSPC);
	assert_int_equal(done, 0);
	assert_int_equal(maps_del_batch(datapath, MAP_CIDR, keys, 20, &done), 0);
	assert_int_equal(done, 20);
	assert_int_equal(used(MAP_CIDR), 0);
}

/* ---- endpoints ------------------------------------------------------------------------------ */

static int64_t slot_of(uint64_t cookie)
{
	auto_close int fd = open_pin("netns_map");
	uint32_t slot;

	return bpf_map_lookup_elem(fd, &cookie, &slot) ? -1 : (int64_t)slot;
}

static void test_endpoint_is_found_by_its_namespace(void **state)
{
	struct endpoint_entry endpoint;
	struct endpoint_entry got;

	(void)state;
	memset(&endpoint, 0x5a, sizeof(endpoint)); /* no field is forgotten */
	endpoint.flags = ENDPOINT_VALID | ENDPOINT_ACCEL;
	endpoint.translated = 0;
	endpoint.netns_cookie = 1000;
	assert_int_equal(endpoint_map_set(datapath, 3, &endpoint), 0);
	assert_int_equal(endpoint_map_get(datapath, 3, &got), 0);
	assert_memory_equal(&got, &endpoint, sizeof(got));
	assert_int_equal(slot_of(1000), 3);
	endpoint.netns_cookie = 1001; /* the pod was given a new sandbox */
	assert_int_equal(endpoint_map_set(datapath, 3, &endpoint), 0);
	assert_int_equal(slot_of(1000), -1);
	assert_int_equal(slot_of(1001), 3);
	assert_int_equal(endpoint_map_del(datapath, 3), 0);
	assert_int_equal(slot_of(1001), -1);
	assert_int_equal(endpoint_map_get(datapath, 3, &got), 0);
	assert_int_equal(got.flags, 0);
	assert_int_equal(endpoint_map_del(datapath, 3), 0);
	assert_int_equal(endpoint_map_set(datapath, 0, &endpoint), -E2BIG);
	assert_int_equal(endpoint_map_set(datapath, 8, &endpoint), -E2BIG);
}

static void test_interfaces_of_one_namespace_share_its_entry(void **state)
{
	struct endpoint_entry endpoint = { .flags = ENDPOINT_VALID, .netns_cookie = 2000 };

	(void)state;
	assert_int_equal(endpoint_map_set(datapath, 2, &endpoint), 0);
	assert_int_equal(endpoint_map_set(datapath, 4, &endpoint), 0);
	assert_int_equal(slot_of(2000), 4);
	assert_int_equal(endpoint_map_del(datapath, 4), 0);
	assert_int_equal(slot_of(2000), 2);
	assert_int_equal(endpoint_map_del(datapath, 2), 0);
	assert_int_equal(slot_of(2000), -1);
}

static void test_translated_belongs_to_the_datapath(void **state)
{
	struct endpoint_entry endpoint = { .flags = ENDPOINT_VALID, .netns_cookie = 3000 }, got;
	auto_close int fd = open_pin("endpoint_map");
	uint32_t slot = 5;

	(void)state;
	assert_int_equal(endpoint_map_set(datapath, 5, &endpoint), 0);
	got = endpoint;
	got.translated = 1;
	assert_int_equal(bpf_map_update_elem(fd, &slot, &got, BPF_ANY), 0);
	endpoint.policy_id = 7;
	assert_int_equal(endpoint_map_set(datapath, 5, &endpoint), 0);
	assert_int_equal(bpf_map_lookup_elem(fd, &slot, &got), 0);
	assert_int_equal(got.policy_id, 7);
	assert_int_equal(got.translated, 1);
	/* The slot's next holder starts without. */
	assert_int_equal(endpoint_map_del(datapath, 5), 0);
	assert_int_equal(endpoint_map_set(datapath, 5, &endpoint), 0);
	assert_int_equal(endpoint_map_get(datapath, 5, &got), 0);
	assert_int_equal(got.translated, 0);
	assert_int_equal(endpoint_map_del(datapath, 5), 0);
}

static void test_counters_are_summed_over_cpus(void **state)
{
	auto_close int stats_fd = open_pin("endpoint_stats");
	auto_close int metric_fd = open_pin("metric_map");
	uint32_t slot = 6, metric = DROP_NO_BACKEND;
	struct endpoint_stats stats[1024] = { 0 }, sum;
	uint64_t metrics[1024] = { 0 }, value;
	int cpus = libbpf_num_possible_cpus();

	(void)state;
	assert_true(cpus > 0 && cpus <= 1024);
	for (int i = 0; i < cpus; i++) {
		stats[i] = (struct endpoint_stats){ .tx_packets = 1,
						    .tx_bytes = 2,
						    .rx_packets = 3,
						    .rx_bytes = 4,
						    .drops = 5,
						    .accel_connections = 6,
						    .accel_bytes = 7,
						    .accel_fallbacks = 8 };
		metrics[i] = (uint64_t)i + 10;
	}
	assert_int_equal(bpf_map_update_elem(stats_fd, &slot, stats, BPF_ANY), 0);
	assert_int_equal(endpoint_stats_get(datapath, 6, &sum), 0);
	assert_int_equal(sum.tx_packets, cpus);
	assert_int_equal(sum.accel_fallbacks, 8 * cpus);
	assert_int_equal(sum.rx_bytes, 4 * cpus);
	assert_int_equal(endpoint_map_del(datapath, 6), 0);
	assert_int_equal(endpoint_stats_get(datapath, 6, &sum), 0);
	assert_int_equal(sum.tx_packets + sum.accel_fallbacks, 0);
	assert_int_equal(bpf_map_update_elem(metric_fd, &metric, metrics, BPF_ANY), 0);
	assert_int_equal(metric_get(datapath, DROP_NO_BACKEND, &value), 0);
	assert_int_equal(value, 10 * cpus + cpus * (cpus - 1) / 2);
	assert_int_equal(metric_get(datapath, METRIC_COUNT, &value), -ENOENT);
}

static void test_revision_is_seen_in_the_map(void **state)
{
	auto_close int fd = open_pin("node_map");
	struct node_state node;
	uint32_t zero = 0, before = maps_node(datapath)->revision;

	(void)state;
	maps_bump_revision(datapath);
	assert_int_equal(bpf_map_lookup_elem(fd, &zero, &node), 0);
	assert_int_equal(node.revision, before + 1);
}

static void test_memory_is_told(void **state)
{
	uint64_t bytes = 0;

	(void)state;
	assert_int_equal(maps_memory(datapath, &bytes), 0);
	assert_in_range(bytes, 256 * 1024, 64 * 1024 * 1024); /* the event ring alone is 256 KiB */
}

/* ---- sweeping ------------------------------------------------------------------------------- */

static void ct_put(uint16_t port, uint8_t proto, uint32_t flags, uint64_t last_seen_ns)
{
	const struct ct_key key = { .a_port = htons(port), .proto = proto };
	const struct ct_entry entry = { .last_seen_ns = last_seen_ns, .flags = flags };
	auto_close int fd = open_pin("ct_map");

	assert_int_equal(bpf_map_update_elem(fd, &key, &entry, BPF_ANY), 0);
}

static bool ct_has(uint16_t port, uint8_t proto)
{
	const struct ct_key key = { .a_port = htons(port), .proto = proto };
	struct ct_entry entry;

	return !ct_map_get(datapath, &key, &entry);
}

static void test_connections_outlive_their_state_by_its_time(void **state)
{
	static const struct {
		uint8_t proto;
		uint32_t flags;
		uint64_t lifetime_ns;
	} kinds[] = {
		{ IPPROTO_TCP, 0, CT_TCP_OPENING_NS },
		{ IPPROTO_TCP, CT_REPLIED, CT_TCP_OPENING_NS },
		{ IPPROTO_TCP, CT_REPLIED | CT_ESTABLISHED, CT_TCP_ESTABLISHED_NS },
		{ IPPROTO_TCP, CT_REPLIED | CT_ESTABLISHED | CT_FIN_A, CT_TCP_ESTABLISHED_NS },
		{ IPPROTO_TCP, CT_REPLIED | CT_ESTABLISHED | CT_FIN_A | CT_FIN_B,
		  CT_TCP_CLOSING_NS },
		{ IPPROTO_UDP, 0, CT_OTHER_UNREPLIED_NS },
		{ IPPROTO_UDP, CT_REPLIED, CT_OTHER_REPLIED_NS },
		{ IPPROTO_SCTP, CT_REPLIED, CT_OTHER_REPLIED_NS },
	};
	const uint64_t now = 100000 * NS_PER_SEC;

	(void)state;
	for (uint16_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ct_put(2 * i, kinds[i].proto, kinds[i].flags, now - kinds[i].lifetime_ns);
		ct_put(2 * i + 1, kinds[i].proto, kinds[i].flags, now - kinds[i].lifetime_ns - 1);
	}
	ct_put(1000, IPPROTO_UDP, 0, now + NS_PER_SEC); /* another CPU's clock is ahead */
	assert_int_equal(ct_map_sweep(datapath, now), ARRAY_SIZE(kinds));
	for (uint16_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		assert_true(ct_has(2 * i, kinds[i].proto));
		assert_false(ct_has(2 * i + 1, kinds[i].proto));
	}
	assert_true(ct_has(1000, IPPROTO_UDP));
	assert_int_equal(ct_map_sweep(datapath, now * 2), ARRAY_SIZE(kinds) + 1);
	assert_int_equal(used(MAP_CT), 0);
}

static void test_connection_touched_meanwhile_stays(void **state)
{
	const struct ct_key key = { .a_port = htons(1), .proto = IPPROTO_UDP };
	struct ct_entry seen;

	(void)state;
	ct_put(1, IPPROTO_UDP, 0, 5);
	assert_int_equal(ct_map_get(datapath, &key, &seen), 0);
	ct_put(1, IPPROTO_UDP, CT_REPLIED, 6);
	assert_int_equal(ct_map_del_if(datapath, &key, &seen), -EAGAIN);
	assert_true(ct_has(1, IPPROTO_UDP));
	assert_int_equal(ct_map_get(datapath, &key, &seen), 0);
	assert_int_equal(ct_map_del_if(datapath, &key, &seen), 0);
	assert_false(ct_has(1, IPPROTO_UDP));
	assert_int_equal(ct_map_del_if(datapath, &key, &seen), 0);
}

/* Both halves of a translation: client's port, when each was last seen. */
static void nat_put(uint16_t port, uint8_t proto, uint32_t flags, uint64_t request_ns,
		    uint64_t reply_ns)
{
	const struct flow keys[2] = {
		{ .saddr = address(1),
		  .daddr = address(2),
		  .sport = htons(port),
		  .dport = htons(53),
		  .proto = proto },
		{ .saddr = address(3),
		  .daddr = address(1),
		  .sport = htons(5353),
		  .dport = htons(port),
		  .proto = proto },
	};
	const struct nat_entry entries[2] = {
		{ .flow = { .saddr = address(1),
			    .daddr = address(3),
			    .sport = htons(port),
			    .dport = htons(5353),
			    .proto = proto },
		  .flags = flags | NAT_REQUEST,
		  .last_seen_ns = request_ns },
		{ .flow = { .saddr = address(2),
			    .daddr = address(1),
			    .sport = htons(53),
			    .dport = htons(port),
			    .proto = proto },
		  .flags = flags,
		  .last_seen_ns = reply_ns },
	};

	assert_int_equal(maps_set_batch(datapath, MAP_NAT, keys, entries, 2, NULL), 0);
}

static void test_translation_lives_while_either_half_is_used(void **state)
{
	const uint64_t now = 100000 * NS_PER_SEC, fresh = now - NS_PER_SEC;
	const uint64_t old = now - CT_OTHER_REPLIED_NS - 1, older = now - CT_TCP_ESTABLISHED_NS - 1;
	const uint32_t done = NAT_CLIENT_DONE | NAT_BACKEND_DONE;

	(void)state;
	nat_put(1, IPPROTO_UDP, 0, fresh, fresh);
	nat_put(2, IPPROTO_UDP, NAT_REPLIED, fresh, old);
	nat_put(3, IPPROTO_UDP, NAT_REPLIED, old, fresh);
	nat_put(4, IPPROTO_UDP, NAT_REPLIED, old, old); /* goes */
	nat_put(5, IPPROTO_TCP, NAT_REPLIED, old, old);
	nat_put(6, IPPROTO_TCP, 0, older, older); /* goes */
	nat_put(7, IPPROTO_TCP, NAT_REPLIED | NAT_CLIENT_DONE | NAT_FORWARD, old, old);
	nat_put(8, IPPROTO_TCP, done, old, old); /* goes: both ends are done */
	nat_put(9, IPPROTO_TCP, done, fresh, old);
	nat_put(10, IPPROTO_TCP, done | NAT_GONE, old, old); /* the client is still to be told */
	nat_put(11, IPPROTO_TCP, done | NAT_GONE, older, older); /* goes */
	assert_int_equal(nat_map_sweep(datapath, now), 2 * 4);
	assert_int_equal(used(MAP_NAT), 2 * 7);
	assert_int_equal(nat_map_sweep(datapath, now * 2), 2 * 7);
	assert_int_equal(used(MAP_NAT), 0);
}

/* A flood of flows that nobody answers does not fill the table for long. */
static void test_translation_without_an_answer_goes_soon(void **state)
{
	const uint64_t now = 100000 * NS_PER_SEC;
	const uint64_t udp = now - CT_OTHER_UNREPLIED_NS - 1, tcp = now - CT_TCP_OPENING_NS - 1;
	const uint64_t closed = now - CT_TCP_CLOSING_NS - 1;
	const uint32_t remembered = NAT_REPLIED | NAT_CLIENT_DONE | NAT_BACKEND_DONE |
				    NAT_CLIENT_ACKED | NAT_BACKEND_ACKED | NAT_BACKEND_FIRST;

	(void)state;
	nat_put(1, IPPROTO_UDP, 0, udp, udp); /* goes */
	nat_put(2, IPPROTO_UDP, NAT_REPLIED, udp, udp);
	nat_put(3, IPPROTO_TCP, 0, tcp, tcp); /* goes */
	nat_put(4, IPPROTO_TCP, NAT_REPLIED, tcp, tcp);
	nat_put(5, IPPROTO_TCP, 0, udp, udp);
	nat_put(6, IPPROTO_TCP, remembered, closed, closed);
	assert_int_equal(nat_map_sweep(datapath, now), 2 * 2);
	assert_int_equal(used(MAP_NAT), 2 * 4);
	assert_int_equal(nat_map_sweep(datapath, closed + NAT_TIME_WAIT_NS), 2 * 1); /* the fifth */
	assert_int_equal(nat_map_sweep(datapath, closed + NAT_TIME_WAIT_NS + 1), 2 * 1);
	assert_int_equal(nat_map_sweep(datapath, now * 2), 2 * 2);
}

/* ---- events --------------------------------------------------------------------------------- */

/* Sends one struct flow_event from a small program.  It claims so many bytes of a packet, which are
 * not there; all else is 0x2a. */
static void send_event(uint16_t claimed)
{
	auto_close int ring = open_pin("event_map");
	const int room = sizeof(struct flow_event);
	struct bpf_insn code[64];
	uint8_t packet[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = packet, .data_size_in = sizeof(packet));
	auto_close int prog = -1;
	size_t n = 0;

	/* NOLINTBEGIN(misc-redundant-expression): opcodes in full, though parts are 0 */
	for (int off = -room; off < 0; off += 4)
		code[n++] = (struct bpf_insn){ .code = BPF_ST | BPF_MEM | BPF_W,
					       .dst_reg = BPF_REG_10,
					       .off = (int16_t)off,
					       .imm = 0x2a2a2a2a };
	code[n++] = (struct bpf_insn){
		.code = BPF_ST | BPF_MEM | BPF_H,
		.dst_reg = BPF_REG_10,
		.off = (int16_t)((int)offsetof(struct flow_event, bytes) - room),
		.imm = claimed,
	};
	code[n++] = (struct bpf_insn){ .code = BPF_LD | BPF_DW | BPF_IMM,
				       .dst_reg = BPF_REG_1,
				       .src_reg = BPF_PSEUDO_MAP_FD,
				       .imm = ring };
	code[n++] = (struct bpf_insn){ 0 };
	code[n++] = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_X,
				       .dst_reg = BPF_REG_2,
				       .src_reg = BPF_REG_10 };
	code[n++] = (struct bpf_insn){ .code = BPF_ALU64 | BPF_ADD | BPF_K,
				       .dst_reg = BPF_REG_2,
				       .imm = -room };
	code[n++] = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_K,
				       .dst_reg = BPF_REG_3,
				       .imm = room };
	code[n++] = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_4 };
	code[n++] = (struct bpf_insn){ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_ringbuf_output };
	code[n++] = (struct bpf_insn){ .code = BPF_JMP | BPF_EXIT };
	/* NOLINTEND(misc-redundant-expression) */
	prog = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "send_event", "GPL", code, n, NULL);
	assert_true(prog >= 0);
	assert_int_equal(bpf_prog_test_run_opts(prog, &run), 0);
}

static void count_event(const struct flow_event *event, void *arg)
{
	unsigned int *count = arg;

	assert_int_equal(event->length, 0x2a2a2a2a);
	(*count)++;
}

static void test_events_arrive_by_the_ring(void **state)
{
	struct pollfd fd = { .fd = events_fd(datapath), .events = POLLIN };
	unsigned int count = 0;

	(void)state;
	assert_int_equal(poll(&fd, 1, 0), 0);
	send_event(0);
	send_event(1); /* left out: nobody must read behind it */
	send_event(0);
	assert_int_equal(poll(&fd, 1, 10000), 1);
	assert_int_equal(events_consume(datapath, count_event, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(events_consume(datapath, count_event, &count), 0);
	assert_int_equal(count, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries_are_set_read_and_deleted),
		cmocka_unit_test(test_full_map_is_an_error),
		cmocka_unit_test(test_walk_sees_each_entry_once),
		cmocka_unit_test(test_walk_of_a_trie_sees_nested_prefixes),
		cmocka_unit_test(test_batch_deletion_passes_over_what_is_not_there),
		cmocka_unit_test(test_batch_stops_at_a_full_map),
		cmocka_unit_test(test_endpoint_is_found_by_its_namespace),
		cmocka_unit_test(test_interfaces_of_one_namespace_share_its_entry),
		cmocka_unit_test(test_translated_belongs_to_the_datapath),
		cmocka_unit_test(test_counters_are_summed_over_cpus),
		cmocka_unit_test(test_revision_is_seen_in_the_map),
		cmocka_unit_test(test_memory_is_told),
		cmocka_unit_test(test_connections_outlive_their_state_by_its_time),
		cmocka_unit_test(test_connection_touched_meanwhile_stays),
		cmocka_unit_test(test_translation_lives_while_either_half_is_used),
		cmocka_unit_test(test_translation_without_an_answer_goes_soon),
		cmocka_unit_test(test_events_arrive_by_the_ring),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
