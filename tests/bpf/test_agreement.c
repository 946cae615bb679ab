/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs and policy/compiler/verdict.c decide alike: random compiled tables, random first
 * packets. SEED=N in the environment repeats a run.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/lab.h"
#include "lib/auto.h"
#include "policy/compiler/verdict.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define TABLES        125
#define PACKETS       100 /* a table */
#define POLICIES      3
#define IDENTITIES    8 /* beside the fixed ones */
#define CIDRS         6
#define RULES_MAX     12
#define ENTRIES       (POLICIES * 2 * (IDENTITIES + 3))
#define OUTSIDERS     4 /* addresses outside, for each family */
#define ADDRESSES     (2 * (3 + 1 + 2))
#define PORT_SET_BASE 1000

static uint64_t seed;

static uint32_t random_below(uint32_t limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32) % limit;
}

static bool chance(uint32_t percent)
{
	return random_below(100) < percent;
}

static struct table {
	struct compiled compiled;
	struct compiled_subject subjects[3];
	struct compiled_address addresses[ADDRESSES];
	struct compiled_cidr cidrs[CIDRS];
	struct compiled_entry entries[ENTRIES];
	struct port_rule rules[ENTRIES][RULES_MAX];
} table;

static uint32_t random_identity(void)
{
	return IDENTITY_FIRST + random_below(IDENTITIES);
}

/* Addresses close to each other, so that prefixes of every length tell some of them apart. */
static struct addr outsider(bool v6, uint32_t n)
{
	static const uint32_t near[OUTSIDERS] = { 0xc6336407, 0xc6336406, 0xc6330000, 0x08080808 };

	if (v6)
		return (struct addr){ { htonl(0x20010db8), htonl(n / 2), 0, htonl(n) } };
	return (struct addr){ { 0, 0, htonl(0xffff), htonl(near[n]) } };
}

/* ---- random tables -------------------------------------------------------------------------- */

static void table_add_address(struct addr addr, uint32_t identity, uint16_t flags,
			      const struct compiled_subject *subject)
{
	table.addresses[table.compiled.address_count++] = (struct compiled_address){
		.addr = addr,
		.identity = identity,
		.slot = subject ? subject->slot : 0,
		.flags = flags,
		.subject = subject,
	};
}

static int by_address(const void *a, const void *b)
{
	return addr_compare(&((const struct compiled_address *)a)->addr,
			    &((const struct compiled_address *)b)->addr);
}

static void table_make_addresses(void)
{
	for (uint16_t i = 0; i < 3; i++) {
		struct compiled_subject *subject = &table.subjects[i];

		*subject = (struct compiled_subject){
			.slot = lab.pods->pod[i].slot,
			.identity = random_identity(),
			.identity_v6 = random_identity(),
			.policy_id = 1 + random_below(POLICIES),
			.ingress_isolated = chance(60),
			.egress_isolated = chance(60),
		};
		table_add_address(lab.pods->pod[i].v4, subject->identity, 0, subject);
		table_add_address(lab.pods->pod[i].v6, subject->identity_v6, 0, subject);
	}
	for (int v6 = 0; v6 < 2; v6++) {
		lab.ipv6 = v6;
		table_add_address(at(NODE), IDENTITY_HOST, IPCACHE_HOST, NULL);
		/* pods of other nodes */
		table_add_address(outsider(v6, 0), random_identity(), 0, NULL);
		if (chance(50))
			table_add_address(outsider(v6, 1), random_identity(), 0, NULL);
	}
	qsort(table.addresses, table.compiled.address_count, sizeof(table.addresses[0]),
	      by_address);
}

static void table_make_cidrs(void)
{
	uint32_t wanted = random_below(CIDRS + 1);

	for (uint32_t i = 0; i < wanted; i++) {
		bool v6 = chance(50), known = false;
		struct addr addr = outsider(v6, random_below(OUTSIDERS));
		uint8_t len = (uint8_t)(v6 ? random_below(129) : 96 + random_below(33));
		struct prefix prefix = prefix_of(&addr, len);

		for (size_t j = 0; j < table.compiled.cidr_count; j++)
			known |= table.cidrs[j].prefix.len == len &&
				 addr_equal(&table.cidrs[j].prefix.addr, &prefix.addr);
		if (!known)
			table.cidrs[table.compiled.cidr_count++] =
				(struct compiled_cidr){ .prefix = prefix,
							.identity = random_identity() };
	}
}

/* Disjoint rules, sorted by protocol and port; once in a while one for everything. */
static size_t random_rules(struct port_rule *rules)
{
	static const uint8_t protos[] = { IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
	size_t count = 0;

	if (chance(10)) {
		rules[0] = (struct port_rule){ 0, UINT16_MAX, 0, VERDICT_ALLOW };
		return 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
		uint32_t port = chance(20) ? 0 : 1 + random_below(100);

		while (port <= UINT16_MAX && count < RULES_MAX && chance(60)) {
			uint32_t last = port + (chance(40) ? 0 : random_below(9000));

			last = last > UINT16_MAX ? UINT16_MAX : last;
			rules[count++] =
				(struct port_rule){ (uint16_t)port, (uint16_t)last, protos[i],
						    chance(90) ? VERDICT_ALLOW : VERDICT_DENY };
			port = last + 1 + random_below(100);
		}
	}
	return count;
}

static void table_add_entry(uint32_t policy_id, uint32_t peer, enum direction direction)
{
	size_t n = table.compiled.entry_count++;
	struct compiled_entry *entry = &table.entries[n];

	entry->key = (struct policy_key){ .policy_id = policy_id,
					  .peer = peer,
					  .direction = (uint8_t)direction };
	entry->rules = table.rules[n];
	entry->rule_count = random_rules(table.rules[n]);
}

static void table_make(void)
{
	memset(&table, 0, sizeof(table));
	table.compiled.subjects = table.subjects;
	table.compiled.subject_count = 3;
	table.compiled.addresses = table.addresses;
	table.compiled.cidrs = table.cidrs;
	table.compiled.entries = table.entries;
	table_make_addresses();
	table_make_cidrs();
	for (uint32_t policy_id = 1; policy_id <= POLICIES; policy_id++) {
		for (uint32_t peer = 0; peer < IDENTITY_FIRST + IDENTITIES; peer++) {
			if (peer > IDENTITY_WORLD && peer < IDENTITY_FIRST)
				continue;
			for (int direction = DIR_EGRESS; direction <= DIR_INGRESS; direction++)
				if (chance(40))
					table_add_entry(policy_id, peer, direction);
		}
	}
}

/* ---- into the maps -------------------------------------------------------------------------- */

static void port_set_write(uint32_t port_set, const struct port_rule *rule)
{
	uint32_t port = rule->port_min, size;
	struct port_key key = { .port_set = port_set, .proto = rule->proto };

	while (port <= rule->port_max) {
		for (size = 1;
		     !(port & size) && port + 2 * size - 1 <= rule->port_max && size < 65536;)
			size *= 2;
		key.prefixlen = 56 - (uint32_t)__builtin_ctz(size);
		key.port[0] = (uint8_t)(port >> 8);
		key.port[1] = (uint8_t)port;
		assert_int_equal(port_map_set(lab.datapath, &key, rule->verdict), 0);
		port += size;
	}
}

static void entry_write(size_t n)
{
	const struct compiled_entry *from = &table.entries[n];
	struct policy_entry entry = { .rule_count = (uint8_t)from->rule_count };

	if (from->rule_count > POLICY_INLINE_RULES || chance(20)) {
		entry.rule_count = 0;
		entry.port_set = PORT_SET_BASE + (uint32_t)n;
		for (size_t i = 0; i < from->rule_count; i++)
			port_set_write(entry.port_set, &from->rules[i]);
	} else {
		memcpy(entry.rules, from->rules, from->rule_count * sizeof(entry.rules[0]));
	}
	assert_int_equal(policy_map_set(lab.datapath, &from->key, &entry), 0);
}

static void map_clear(const char *name)
{
	uint8_t key[64];

	while (!bpf_map_get_next_key(lab_map(name), NULL, key))
		assert_int_equal(bpf_map_delete_elem(lab_map(name), key), 0);
}

static void table_write(void)
{
	static const char *const names[] = { "ipcache_map", "cidr_map", "policy_map", "port_map" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		map_clear(names[i]);
	for (size_t i = 0; i < table.compiled.address_count; i++) {
		const struct compiled_address *from = &table.addresses[i];
		struct ipcache_entry entry = { from->identity, from->slot, from->flags };

		assert_int_equal(ipcache_map_set(lab.datapath, &from->addr, &entry), 0);
	}
	for (size_t i = 0; i < table.compiled.cidr_count; i++) {
		struct cidr_key key = { table.cidrs[i].prefix.len, table.cidrs[i].prefix.addr };

		assert_int_equal(cidr_map_set(lab.datapath, &key, table.cidrs[i].identity), 0);
	}
	maps_node(lab.datapath)->flags = table.compiled.cidr_count ? NODE_HAS_CIDRS : 0;
	for (size_t i = 0; i < table.compiled.entry_count; i++)
		entry_write(i);
	for (size_t i = 0; i < 3; i++) {
		const struct compiled_subject *subject = &table.subjects[i];
		struct endpoint_entry endpoint = pods_endpoint(&lab.pods->pod[i]);

		endpoint.identity = subject->identity;
		endpoint.identity_v6 = subject->identity_v6;
		endpoint.policy_id = subject->policy_id;
		endpoint.flags |= subject->ingress_isolated ? ENDPOINT_INGRESS_ISOLATED : 0;
		endpoint.flags |= subject->egress_isolated ? ENDPOINT_EGRESS_ISOLATED : 0;
		assert_int_equal(endpoint_map_set(lab.datapath, subject->slot, &endpoint), 0);
	}
	maps_bump_revision(lab.datapath);
}

/* ---- random packets ------------------------------------------------------------------------- */

static struct addr random_host(bool pods_only)
{
	uint32_t n = random_below(pods_only ? 3 : 8);

	if (n < 3)
		return at((enum host)(POD_A + n));
	return n == 3 ? at(NODE) : outsider(lab.ipv6, n - 4);
}

static uint16_t random_port(void)
{
	const struct compiled_entry *entry;
	const struct port_rule *rule;

	if (table.compiled.entry_count == 0 || chance(30))
		return (uint16_t)random_below(65536);
	/* Right at the border of some rule. */
	entry = &table.entries[random_below((uint32_t)table.compiled.entry_count)];
	if (entry->rule_count == 0)
		return 80;
	rule = &entry->rules[random_below((uint32_t)entry->rule_count)];
	return (uint16_t)((chance(50) ? rule->port_min : rule->port_max) + random_below(3) - 1);
}

static struct segment random_segment(void)
{
	static const uint8_t protos[] = { IPPROTO_TCP,  IPPROTO_TCP,  IPPROTO_UDP,
					  IPPROTO_SCTP, IPPROTO_ICMP, 47 };
	struct segment segment = { .flags = SYN, .chunk = 1, .payload = 16 };

	lab.ipv6 = chance(50);
	segment.from = random_host(false);
	segment.to = random_host(table.subjects[0].slot && random_below(3) == 0);
	segment.proto = protos[random_below(ARRAY_SIZE(protos))];
	segment.sport = (uint16_t)(1 + random_below(65535));
	if (segment.proto == IPPROTO_ICMP) {
		segment.proto = lab.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
		segment.icmp_type = lab.ipv6 ? 128 : 8;
	} else if (segment.proto == 47) {
		segment.sport = 0;
	} else {
		segment.dport = random_port();
	}
	return segment;
}

static bool is_pods(const struct addr *addr)
{
	for (enum host pod = POD_A; pod <= POD_C; pod++) {
		struct addr own = at(pod);

		if (addr_equal(addr, &own))
			return true;
	}
	return false;
}

static void test_programs_and_reference_agree(void **state)
{
	unsigned int passed = 0, dropped = 0;
	struct segment segment;
	enum drop_reason want;
	struct flow flow;
	uint64_t table_seed;

	(void)state;
	for (int i = 0; i < TABLES; i++) {
		table_seed = seed;
		table_make();
		table_write();
		for (int j = 0; j < PACKETS;) {
			segment = random_segment();
			if (!is_pods(&segment.from) && !is_pods(&segment.to))
				continue;
			j++;
			flow = (struct flow){ .saddr = segment.from,
					      .daddr = segment.to,
					      .sport = htons(segment.sport),
					      .dport = htons(segment.dport),
					      .proto = segment.proto };
			want = verdict_flow(&table.compiled, &flow);
			if (want)
				dropped++;
			else
				passed++;
			lab_expect(&segment, want, __FILE__, __LINE__);
			map_clear("ct_map"); /* every packet is a first one */
		}
		if (seed == table_seed)
			fail_msg("the generator does not move");
	}
	print_message("%u packets passed, %u were dropped\n", passed, dropped);
	assert_int_equal(passed + dropped, TABLES * PACKETS);
	assert_true(passed > 1000 && dropped > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_programs_and_reference_agree, lab_reset),
	};
	const char *given = getenv("SEED");

	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
	print_message("SEED=%llu\n", (unsigned long long)seed);
	return LAB_RUN(tests);
}
