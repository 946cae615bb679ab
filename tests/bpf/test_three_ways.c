/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three answers to one question: what the specification says (tests/unit/oracle.c, from its words),
 * what the compiled tables say (policy/compiler/verdict.c), and what the programs do with a frame
 * when the agent has written those tables into the maps.  Random stores, and every scene that was
 * once answered wrongly.  What passes must be answered, too: the reply is sent as well.  Then
 * policies and labels change, and what passed goes on or ends as the specification says of the
 * changed store.
 *
 * Each store follows from the one before it, object by object, compiled and written by difference
 * as the agent does it; the tables asked are compiled afresh.  STORES=N sets how many (make test:
 * 100,000), SEED=N repeats one.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/sync/sync.h"
#include "harness/lab.h"
#include "lib/auto.h"
#include "lib/inet.h"
#include "policy/compiler/verdict.h"
#include "unit/random_store.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define STORES      2000
#define WORKERS_MAX 8
#define QUESTIONS   16 /* a store */
#define CONNECTIONS 512

DEFINE_AUTO(store)
DEFINE_AUTO(compiled)

/* What a worker has: a node with as many pods as a scene can have endpoints, and the agent's
 * writer of its maps. */
static struct {
	struct sync *sync;
	struct store *store;
	uint64_t drops[DROP_REASON_COUNT];
	bool wired[SNAPSHOT_LOCAL_MAX + 1];
	uint16_t next_port;
	struct live {
		struct query query;
		uint16_t port;
	} live[QUESTIONS]; /* what passed in the store at hand */
	size_t live_count;
} node;

struct answers {
	enum drop_reason specification;
	enum drop_reason tables;
	enum drop_reason program;
	enum drop_reason reply; /* of the program; DROP_NONE too where there is nothing to answer */
};

/* What ends a worker, in which cmocka has no say. */
static void give_up(const char *what, const struct errmsg *err)
{
	fprintf(stderr, "%s: %s\n", what, err->text);
	exit(1);
}

/* ---- the node ------------------------------------------------------------------------------- */

static void node_open(void)
{
	const struct snapshot nothing = { 0 };
	struct errmsg err = { 0 };

	memset(&node, 0, sizeof(node));
	node.store = snapshot_store(&nothing, &err);
	if (!node.store)
		give_up("node", &err);
	store_set_local(node.store);
	node.next_port = 1024;
	if (lab_setup_pods(SNAPSHOT_LOCAL_MAX) ||
	    sync_new(NULL, lab.datapath, node.store, &node.sync, &err))
		give_up("node", &err);
	sync_set_missing(node.sync, NULL);
}

static void node_close(void)
{
	sync_free(node.sync);
	store_free(node.store);
	lab_teardown(NULL);
}

/* The endpoints of the store take the place of the lab's pods: their devices, MACs and namespaces
 * with the store's addresses. */
static void node_wire(const struct store *store)
{
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(store, &endpoints);
	bool wired[SNAPSHOT_LOCAL_MAX + 1] = { false };

	for (size_t i = 0; i < count; i++) {
		struct endpoint_entry endpoint =
			pods_endpoint(&lab.pods->pod[endpoints[i].slot - 1]);

		memset(&endpoint.v4, 0, sizeof(endpoint.v4));
		memset(&endpoint.v6, 0, sizeof(endpoint.v6));
		for (size_t a = 0; a < endpoints[i].address_count; a++) {
			const struct addr *addr = &endpoints[i].addresses[a];

			*(addr_is_v4(addr) ? &endpoint.v4 : &endpoint.v6) = *addr;
		}
		assert_int_equal(endpoint_map_set(lab.datapath, endpoints[i].slot, &endpoint), 0);
		wired[endpoints[i].slot] = true;
	}
	for (uint16_t slot = 1; slot <= SNAPSHOT_LOCAL_MAX; slot++) {
		if (node.wired[slot] && !wired[slot])
			assert_int_equal(endpoint_map_del(lab.datapath, slot), 0);
		node.wired[slot] = wired[slot];
	}
}

static void connections_forget(void)
{
	static struct ct_key keys[CONNECTIONS];
	static struct ct_entry entries[CONNECTIONS];
	uint32_t token = 0, count = CONNECTIONS;

	/* One batch takes all: the table holds no more. */
	if (bpf_map_lookup_and_delete_batch(lab_map("ct_map"), NULL, &token, keys, entries, &count,
					    NULL))
		assert_int_equal(errno, ENOENT);
	assert_int_equal(ct_map_sweep(lab.datapath, 0), 0); /* counts what is free */
}

/* By what differs from the scene before, as the agent learns of objects. */
static void node_load(const struct snapshot *snapshot)
{
	struct errmsg err = { 0 };

	if (snapshot_enter(snapshot, node.store, &err))
		give_up("store", &err);
	node_wire(node.store);
	if (sync_policies(node.sync, &err))
		give_up("maps", &err);
}

/* ---- frames --------------------------------------------------------------------------------- */

/* Counters are read only when something was dropped: they cost more than the program. */
static enum drop_reason drop_find(void)
{
	enum drop_reason found = DROP_NONE;

	for (unsigned int reason = 1; reason < DROP_REASON_COUNT; reason++) {
		uint64_t drops = lab_metric(reason);

		if (drops != node.drops[reason])
			found = (enum drop_reason)reason;
		node.drops[reason] = drops;
	}
	assert_int_not_equal(found, DROP_NONE); /* a drop is counted */
	return found;
}

/* By the hook that a frame from this address meets; in_ifindex 0: the node itself sends it. */
static enum drop_reason node_send(const struct store *store, const struct segment *segment,
				  uint32_t in_ifindex)
{
	static const uint8_t elsewhere[6] = { 2, 0x54, 0, 0, 9, 9 };
	uint16_t slot = snapshot_slot(store, &segment->from);
	const struct pod *pod = &lab.pods->pod[slot - 1];
	struct __sk_buff skb = { .ifindex = (uint32_t)lab.pods->host_ifindex,
				 .ingress_ifindex = in_ifindex };
	LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &skb, .ctx_size_in = sizeof(skb));
	struct frame frame;

	if (slot) {
		skb.ifindex = ENDPOINT_IFINDEX_BASE + slot;
		skb.ingress_ifindex = 0;
	}
	frame_build(segment, slot ? pod->mac : elsewhere, slot ? pod->host_mac : elsewhere, &frame);
	options.data_in = frame.bytes;
	options.data_size_in = (uint32_t)frame.len;
	assert_int_equal(bpf_prog_test_run_opts(slot ? lab.from_pod : lab.to_pod, &options), 0);
	return options.retval == TC_ACT_SHOT ? drop_find() : DROP_NONE;
}

#define SCTP_INIT     1
#define SCTP_INIT_ACK 2

static struct segment request_of(const struct flow *flow, uint16_t port)
{
	return (struct segment){ .from = flow->saddr,
				 .to = flow->daddr,
				 .proto = flow->proto,
				 .sport = port,
				 .dport = ntohs(flow->dport),
				 .flags = SYN,
				 .seq = 1000,
				 .chunk = SCTP_INIT,
				 .icmp_type = flow->proto == IPPROTO_ICMP ? 8 : 128,
				 .payload = 8 };
}

static struct segment reply_to(const struct segment *request)
{
	bool echo = request->proto == IPPROTO_ICMP || request->proto == IPPROTO_ICMPV6;

	return (struct segment){ .from = request->to,
				 .to = request->from,
				 .proto = request->proto,
				 .sport = echo ? request->sport : request->dport,
				 .dport = echo ? 0 : request->sport,
				 .flags = SYN | ACK,
				 .seq = 5000,
				 .ack = 1001 + request->payload,
				 .chunk = SCTP_INIT_ACK,
				 .icmp_type = request->proto == IPPROTO_ICMP ? 0 : 129,
				 .payload = 8 };
}

static bool question_to_node(const struct query *query)
{
	return !strcmp(query->to, HOST_V4) || !strcmp(query->to, HOST_V6);
}

static struct answers ask(const struct snapshot *snapshot, const struct store *store,
			  const struct compiled *compiled, const struct query *query)
{
	struct flow flow = question_flow(query);
	struct segment request = request_of(&flow, node.next_port), reply = reply_to(&request);
	struct answers answers = { .specification = snapshot_oracle(snapshot, query),
				   .tables = verdict_flow(compiled, &flow) };

	answers.program = node_send(store, &request, question_from_node(query) ? 0 : UPLINK);
	if (!answers.program && node.live_count < QUESTIONS)
		node.live[node.live_count++] =
			(struct live){ .query = *query, .port = node.next_port };
	/* A port of its own, so that no question meets what another left in ct_map. */
	node.next_port = node.next_port == UINT16_MAX ? 1024 : node.next_port + 1;
	/* to_pod sees only what is for a pod of this node. */
	if (!answers.program &&
	    (snapshot_slot(store, &reply.from) || snapshot_slot(store, &reply.to)))
		answers.reply = node_send(store, &reply, question_to_node(query) ? 0 : UPLINK);
	return answers;
}

static bool agree(const struct answers *answers)
{
	return answers->specification == answers->tables && answers->tables == answers->program &&
	       answers->reply == DROP_NONE;
}

/* ---- mismatches ----------------------------------------------------------------------------- */

static void node_clear(void)
{
	const struct snapshot nothing = { 0 };

	node_load(&nothing);
	connections_forget();
}

struct mismatch {
	struct query *query;
	struct answers answers;
};

/* On a node that holds nothing else. */
static bool still_disagree(const struct snapshot *snapshot, void *arg)
{
	struct mismatch *mismatch = arg;
	auto_(store) struct store *store = snapshot_store(snapshot, NULL);
	auto_(compiled) struct compiled *compiled = NULL;
	struct flow flow = question_flow(mismatch->query);
	struct answers answers;

	if (!store || (!snapshot_slot(store, &flow.saddr) && !snapshot_slot(store, &flow.daddr)))
		return false;
	compiled = policy_compile(store);
	node_clear();
	node_load(snapshot);
	answers = ask(snapshot, store, compiled, mismatch->query);
	if (agree(&answers))
		return false;
	mismatch->answers = answers;
	return true;
}

static void report(struct snapshot *snapshot, struct query *query, const struct answers *seen,
		   const char *name)
{
	struct mismatch mismatch = { .query = query, .answers = *seen };
	const struct answers *answers = &mismatch.answers;
	auto_free char *text = NULL;

	if (still_disagree(snapshot, &mismatch))
		snapshot_shrink(snapshot, still_disagree, &mismatch);
	else
		fprintf(stderr, "only after the store before: what that one left in the maps\n");
	text = snapshot_write(snapshot, query, snapshot_oracle(snapshot, query));
	fprintf(stderr,
		"keep this as " SNAPSHOT_DIR "/NAME.yaml:\n%s\n"
		"%s: specification: %s, tables: %s, program: %s, reply: %s\n",
		text, name, answer_name(answers->specification), answer_name(answers->tables),
		answer_name(answers->program), answer_name(answers->reply));
}

/* ---- random stores -------------------------------------------------------------------------- */

struct count {
	uint64_t stores;
	uint64_t asked;
	uint64_t denied;
	uint64_t lived; /* flows that a change met */
	uint64_t ended;
	uint64_t wrong;
};

/* Another packet of a flow that passed in the store before, and its answer.  (That of TCP may hang
 * on a real socket, which these flows do not have.) */
static bool live_agrees(const struct store *store, const struct live *live, enum drop_reason want,
			enum drop_reason *ret_seen)
{
	struct flow flow = question_flow(&live->query);
	struct segment packet = request_of(&flow, live->port);
	uint32_t in_ifindex = question_from_node(&live->query) ? 0 : UPLINK;

	packet.flags = ACK;
	packet.seq += 1 + packet.payload;
	packet.chunk = 0; /* SCTP: data */
	*ret_seen = node_send(store, &packet, in_ifindex);
	if (*ret_seen || want || flow.proto == IPPROTO_TCP)
		return !*ret_seen == !want;
	packet = reply_to(&packet);
	packet.chunk = 0;
	*ret_seen = node_send(store, &packet, question_to_node(&live->query) ? 0 : UPLINK);
	return *ret_seen == DROP_NONE;
}

/* The store of a seed, before its change. */
static struct snapshot snapshot_of(uint64_t seed, struct addresses *ret_addresses)
{
	struct snapshot snapshot = { 0 };

	random_begin(seed);
	do {
		snapshot_done(&snapshot);
		snapshot = random_snapshot(true);
		addresses_collect(&snapshot, ret_addresses);
	} while (ret_addresses->local_count == 0);
	return snapshot;
}

static void live_report(uint64_t seed, const struct snapshot *changed, const struct query *query,
			enum drop_reason want, enum drop_reason seen)
{
	struct addresses addresses;
	struct snapshot snapshot = snapshot_of(seed, &addresses);
	auto_free char *before = snapshot_write(&snapshot, query, DROP_NONE);
	auto_free char *after = snapshot_write(changed, query, want);

	fprintf(stderr,
		"before the change:\n%s\nafter it:\n%s\n"
		"SEED=%llu: live flow: specification: %s, program: %s\n",
		before, after, (unsigned long long)seed, answer_name(want), answer_name(seen));
	snapshot_done(&snapshot);
}

/* What passed in the scene, after a change of it. */
static void change_check(uint64_t seed, struct snapshot *snapshot, struct count *count)
{
	auto_(compiled) struct compiled *compiled = NULL;
	auto_(store) struct store *store = NULL;
	struct errmsg err = { 0 };

	random_change(snapshot);
	store = snapshot_store(snapshot, &err);
	if (!store)
		give_up("changed store", &err);
	compiled = policy_compile(store);
	node_load(snapshot);
	for (size_t i = 0; i < node.live_count && !count->wrong; i++) {
		const struct query *query = &node.live[i].query;
		enum drop_reason want = snapshot_oracle(snapshot, query), seen;

		count->lived++;
		count->ended += want != DROP_NONE;
		if (live_agrees(store, &node.live[i], want, &seen))
			continue;
		count->wrong++;
		live_report(seed, snapshot, query, want, seen);
	}
}

static void store_check(uint64_t seed, struct count *count)
{
	auto_(compiled) struct compiled *compiled = NULL;
	auto_(store) struct store *store = NULL;
	struct errmsg err = { 0 };
	struct addresses addresses;
	struct snapshot snapshot = snapshot_of(seed, &addresses);
	char name[32];

	snprintf(name, sizeof(name), "SEED=%llu", (unsigned long long)seed);
	store = snapshot_store(&snapshot, &err);
	if (!store)
		give_up(name, &err);
	compiled = policy_compile(store);
	node_load(&snapshot);
	connections_forget();
	node.live_count = 0;
	for (int i = 0; i < QUESTIONS && !count->wrong; i++) {
		struct query query = random_query(&addresses, true);
		struct answers answers = ask(&snapshot, store, compiled, &query);

		count->asked++;
		count->denied += answers.specification != DROP_NONE;
		if (agree(&answers))
			continue;
		count->wrong++;
		report(&snapshot, &query, &answers, name);
	}
	if (!count->wrong)
		change_check(seed, &snapshot, count);
	count->stores++;
	snapshot_done(&snapshot);
}

/* Every workers-th store from seed on, in a process with a node of its own. */
static pid_t worker_start(uint64_t seed, uint64_t stores, uint64_t first, uint64_t workers,
			  int *ret_fd)
{
	struct count count = { 0 };
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid) {
		close(ends[1]);
		*ret_fd = ends[0];
		return pid;
	}
	node_open();
	for (uint64_t i = first; i < stores && !count.wrong; i += workers)
		store_check(seed + i, &count);
	node_close();
	_exit(write(ends[1], &count, sizeof(count)) != sizeof(count));
}

static void worker_finish(pid_t pid, int fd, struct count *sum)
{
	struct count count = { 0 };
	int status;

	/* A worker that died has said why. */
	assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
	close(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	sum->stores += count.stores;
	sum->asked += count.asked;
	sum->denied += count.denied;
	sum->lived += count.lived;
	sum->ended += count.ended;
	sum->wrong += count.wrong;
}

static void test_random_stores(void **state)
{
	uint64_t seed = env_number("SEED", (uint64_t)time(NULL) << 20);
	uint64_t stores = getenv("SEED") ? 1 : env_number("STORES", STORES);
	uint64_t workers = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
	pid_t pids[WORKERS_MAX];
	int fds[WORKERS_MAX];
	struct count sum = { 0 };

	(void)state;
	workers = workers > WORKERS_MAX ? WORKERS_MAX : workers;
	for (uint64_t i = 0; i < workers; i++)
		pids[i] = worker_start(seed, stores, i, workers, &fds[i]);
	for (uint64_t i = 0; i < workers; i++)
		worker_finish(pids[i], fds[i], &sum);
	print_message("SEED=%llu and on: %llu stores, %llu flows, %llu denied; %llu live through a "
		      "change, %llu of them ended by it\n",
		      (unsigned long long)seed, (unsigned long long)sum.stores,
		      (unsigned long long)sum.asked, (unsigned long long)sum.denied,
		      (unsigned long long)sum.lived, (unsigned long long)sum.ended);
	assert_int_equal(sum.wrong, 0);
	assert_int_equal(sum.stores, stores);
	if (stores > 100)
		assert_true(sum.denied > sum.asked / 20 && sum.denied < sum.asked &&
			    sum.ended > sum.lived / 20 && sum.ended < sum.lived);
}

/* ---- kept scenes ---------------------------------------------------------------------------- */

static void snapshot_check(const char *path, void *arg)
{
	auto_(compiled) struct compiled *compiled = NULL;
	auto_(store) struct store *store = NULL;
	struct errmsg err = { 0 };
	struct query query;
	struct answers answers;
	enum drop_reason want;
	struct snapshot snapshot;

	(void)arg;
	if (snapshot_read(path, &snapshot, &query, &want, &err) < 0)
		give_up(path, &err);
	if (!snapshot.local) /* the program knows a node's view only */
		fail_plain(&err, -EINVAL, "\"local\" is missing");
	store = snapshot_store(&snapshot, &err);
	if (!snapshot.local || !store)
		give_up(path, &err);
	compiled = policy_compile(store);
	node_load(&snapshot);
	answers = ask(&snapshot, store, compiled, &query);
	if (!agree(&answers) || answers.specification != want) {
		report(&snapshot, &query, &answers, path);
		_fail(__FILE__, __LINE__);
	}
	snapshot_done(&snapshot);
}

static int kept_setup(void **state)
{
	(void)state;
	node_open();
	return 0;
}

static int kept_teardown(void **state)
{
	(void)state;
	node_close();
	return 0;
}

static void test_kept_snapshots(void **state)
{
	(void)state;
	assert_true(snapshots_foreach(snapshot_check, NULL) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kept_snapshots, kept_setup, kept_teardown),
		cmocka_unit_test(test_random_stores),
	};
	const char *filter = getenv("CMOCKA_TEST_FILTER");

	if (filter && *filter)
		cmocka_set_test_filter(filter);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
