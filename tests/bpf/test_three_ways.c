/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three answers to one question: what the specification says (tests/unit/oracle.c, from its words),
 * what the compiled tables say (policy/compiler/verdict.c), and what the programs do with a frame
 * when the agent has written those tables into the maps.  Random worlds, and every scene that was
 * once answered wrongly.  What passes must be answered, too: the reply is sent as well.  Then
 * policies and labels change, and what passed goes on or ends as the specification says of the
 * changed world.
 *
 * Each world follows from the one before it, object by object, compiled and written by difference
 * as the agent does it; the tables asked are compiled afresh.  WORLDS=N sets how many (make test:
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

#define WORLDS      2000
#define WORKERS_MAX 8
#define QUESTIONS   16 /* a world */
#define CONNECTIONS 512

DEFINE_AUTO(world)
DEFINE_AUTO(compiled)

/* What a worker has: a node with as many pods as a scene can have endpoints, and the agent's
 * writer of its maps. */
static struct {
	struct sync *sync;
	struct world *world;
	uint64_t drops[DROP_REASON_COUNT];
	bool wired[SCENE_LOCAL_MAX + 1];
	uint16_t next_port;
	struct live {
		struct question question;
		uint16_t port;
	} live[QUESTIONS]; /* what passed in the world at hand */
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
	const struct scene nothing = { 0 };
	struct errmsg err = { 0 };

	memset(&node, 0, sizeof(node));
	node.world = scene_world(&nothing, &err);
	if (!node.world)
		give_up("node", &err);
	world_set_local(node.world);
	node.next_port = 1024;
	if (lab_setup_pods(SCENE_LOCAL_MAX) ||
	    sync_new(NULL, lab.datapath, node.world, &node.sync, &err))
		give_up("node", &err);
	sync_allow_deletes(node.sync);
}

static void node_close(void)
{
	sync_free(node.sync);
	world_free(node.world);
	lab_teardown(NULL);
}

/* The endpoints of the world take the place of the lab's pods: their devices, MACs and namespaces
 * with the world's addresses. */
static void node_wire(const struct world *world)
{
	const struct world_endpoint *endpoints;
	size_t count = world_endpoints(world, &endpoints);
	bool wired[SCENE_LOCAL_MAX + 1] = { false };

	for (size_t i = 0; i < count; i++) {
		struct endpoint endpoint = pods_endpoint(&lab.pods->pod[endpoints[i].slot - 1]);

		memset(&endpoint.v4, 0, sizeof(endpoint.v4));
		memset(&endpoint.v6, 0, sizeof(endpoint.v6));
		for (size_t a = 0; a < endpoints[i].address_count; a++) {
			const struct addr *addr = &endpoints[i].addresses[a];

			*(addr_is_v4(addr) ? &endpoint.v4 : &endpoint.v6) = *addr;
		}
		assert_int_equal(endpoint_map_set(lab.datapath, endpoints[i].slot, &endpoint), 0);
		wired[endpoints[i].slot] = true;
	}
	for (uint16_t slot = 1; slot <= SCENE_LOCAL_MAX; slot++) {
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
}

/* By what differs from the scene before, as the agent learns of objects. */
static void node_load(const struct scene *scene)
{
	struct errmsg err = { 0 };

	if (scene_enter(scene, node.world, &err))
		give_up("world", &err);
	node_wire(node.world);
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
static enum drop_reason node_send(const struct world *world, const struct segment *segment,
				  uint32_t in_ifindex)
{
	static const uint8_t elsewhere[6] = { 2, 0x54, 0, 0, 9, 9 };
	uint16_t slot = scene_slot(world, &segment->from);
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

static bool question_to_node(const struct question *question)
{
	return !strcmp(question->to, HOST_V4) || !strcmp(question->to, HOST_V6);
}

static struct answers ask(const struct scene *scene, const struct world *world,
			  const struct compiled *compiled, const struct question *question)
{
	struct flow flow = question_flow(question);
	struct segment request = request_of(&flow, node.next_port), reply = reply_to(&request);
	struct answers answers = { .specification = scene_oracle(scene, question),
				   .tables = verdict_flow(compiled, &flow) };

	answers.program = node_send(world, &request, question_from_node(question) ? 0 : UPLINK);
	if (!answers.program && node.live_count < QUESTIONS)
		node.live[node.live_count++] =
			(struct live){ .question = *question, .port = node.next_port };
	/* A port of its own, so that no question meets what another left in ct_map. */
	node.next_port = node.next_port == UINT16_MAX ? 1024 : node.next_port + 1;
	/* to_pod sees only what is for a pod of this node. */
	if (!answers.program && (scene_slot(world, &reply.from) || scene_slot(world, &reply.to)))
		answers.reply = node_send(world, &reply, question_to_node(question) ? 0 : UPLINK);
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
	const struct scene nothing = { 0 };

	node_load(&nothing);
	connections_forget();
}

struct mismatch {
	struct question *question;
	struct answers answers;
};

/* On a node that holds nothing else. */
static bool still_disagree(const struct scene *scene, void *arg)
{
	struct mismatch *mismatch = arg;
	auto_(world) struct world *world = scene_world(scene, NULL);
	auto_(compiled) struct compiled *compiled = NULL;
	struct flow flow = question_flow(mismatch->question);
	struct answers answers;

	if (!world || policy_compile(world, &compiled, NULL) ||
	    (!scene_slot(world, &flow.saddr) && !scene_slot(world, &flow.daddr)))
		return false;
	node_clear();
	node_load(scene);
	answers = ask(scene, world, compiled, mismatch->question);
	if (agree(&answers))
		return false;
	mismatch->answers = answers;
	return true;
}

static void report(struct scene *scene, struct question *question, const struct answers *seen,
		   const char *name)
{
	struct mismatch mismatch = { .question = question, .answers = *seen };
	const struct answers *answers = &mismatch.answers;
	auto_free char *text = NULL;

	if (still_disagree(scene, &mismatch))
		scene_shrink(scene, still_disagree, &mismatch);
	else
		fprintf(stderr, "only after the world before: what that one left in the maps\n");
	text = scene_write(scene, question, scene_oracle(scene, question));
	fprintf(stderr,
		"keep this as " SCENE_DIR "/NAME.yaml:\n%s\n"
		"%s: specification: %s, tables: %s, program: %s, reply: %s\n",
		text, name, answer_name(answers->specification), answer_name(answers->tables),
		answer_name(answers->program), answer_name(answers->reply));
}

/* ---- random worlds -------------------------------------------------------------------------- */

struct count {
	uint64_t worlds;
	uint64_t asked;
	uint64_t denied;
	uint64_t lived; /* flows that a change met */
	uint64_t ended;
	uint64_t wrong;
};

/* Another packet of a flow that passed in the world before, and its answer.  (That of TCP may hang
 * on a real socket, which these flows do not have.) */
static bool live_agrees(const struct world *world, const struct live *live, enum drop_reason want,
			enum drop_reason *ret_seen)
{
	struct flow flow = question_flow(&live->question);
	struct segment packet = request_of(&flow, live->port);
	uint32_t in_ifindex = question_from_node(&live->question) ? 0 : UPLINK;

	packet.flags = ACK;
	packet.seq += 1 + packet.payload;
	packet.chunk = 0; /* SCTP: data */
	*ret_seen = node_send(world, &packet, in_ifindex);
	if (*ret_seen || want || flow.proto == IPPROTO_TCP)
		return !*ret_seen == !want;
	packet = reply_to(&packet);
	packet.chunk = 0;
	*ret_seen = node_send(world, &packet, question_to_node(&live->question) ? 0 : UPLINK);
	return *ret_seen == DROP_NONE;
}

/* The world of a seed, before its change. */
static struct scene scene_of(uint64_t seed, struct addresses *ret_addresses)
{
	struct scene scene = { 0 };

	random_begin(seed);
	do {
		scene_done(&scene);
		scene = random_scene(true);
		addresses_collect(&scene, ret_addresses);
	} while (ret_addresses->local_count == 0);
	return scene;
}

static void live_report(uint64_t seed, const struct scene *changed, const struct question *question,
			enum drop_reason want, enum drop_reason seen)
{
	struct addresses addresses;
	struct scene scene = scene_of(seed, &addresses);
	auto_free char *before = scene_write(&scene, question, DROP_NONE);
	auto_free char *after = scene_write(changed, question, want);

	fprintf(stderr,
		"before the change:\n%s\nafter it:\n%s\n"
		"SEED=%llu: live flow: specification: %s, program: %s\n",
		before, after, (unsigned long long)seed, answer_name(want), answer_name(seen));
	scene_done(&scene);
}

/* What passed in the scene, after a change of it. */
static void change_check(uint64_t seed, struct scene *scene, struct count *count)
{
	auto_(compiled) struct compiled *compiled = NULL;
	auto_(world) struct world *world = NULL;
	struct errmsg err = { 0 };

	random_change(scene);
	world = scene_world(scene, &err);
	if (!world || policy_compile(world, &compiled, &err))
		give_up("changed world", &err);
	node_load(scene);
	for (size_t i = 0; i < node.live_count && !count->wrong; i++) {
		const struct question *question = &node.live[i].question;
		enum drop_reason want = scene_oracle(scene, question), seen;

		count->lived++;
		count->ended += want != DROP_NONE;
		if (live_agrees(world, &node.live[i], want, &seen))
			continue;
		count->wrong++;
		live_report(seed, scene, question, want, seen);
	}
}

static void world_check(uint64_t seed, struct count *count)
{
	auto_(compiled) struct compiled *compiled = NULL;
	auto_(world) struct world *world = NULL;
	struct errmsg err = { 0 };
	struct addresses addresses;
	struct scene scene = scene_of(seed, &addresses);
	char name[32];

	snprintf(name, sizeof(name), "SEED=%llu", (unsigned long long)seed);
	world = scene_world(&scene, &err);
	if (!world || policy_compile(world, &compiled, &err))
		give_up(name, &err);
	node_load(&scene);
	connections_forget();
	node.live_count = 0;
	for (int i = 0; i < QUESTIONS && !count->wrong; i++) {
		struct question question = random_question(&addresses, true);
		struct answers answers = ask(&scene, world, compiled, &question);

		count->asked++;
		count->denied += answers.specification != DROP_NONE;
		if (agree(&answers))
			continue;
		count->wrong++;
		report(&scene, &question, &answers, name);
	}
	if (!count->wrong)
		change_check(seed, &scene, count);
	count->worlds++;
	scene_done(&scene);
}

/* Every workers-th world from seed on, in a process with a node of its own. */
static pid_t worker_start(uint64_t seed, uint64_t worlds, uint64_t first, uint64_t workers,
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
	for (uint64_t i = first; i < worlds && !count.wrong; i += workers)
		world_check(seed + i, &count);
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
	sum->worlds += count.worlds;
	sum->asked += count.asked;
	sum->denied += count.denied;
	sum->lived += count.lived;
	sum->ended += count.ended;
	sum->wrong += count.wrong;
}

static void test_random_worlds(void **state)
{
	uint64_t seed = env_number("SEED", (uint64_t)time(NULL) << 20);
	uint64_t worlds = getenv("SEED") ? 1 : env_number("WORLDS", WORLDS);
	uint64_t workers = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
	pid_t pids[WORKERS_MAX];
	int fds[WORKERS_MAX];
	struct count sum = { 0 };

	(void)state;
	workers = workers > WORKERS_MAX ? WORKERS_MAX : workers;
	for (uint64_t i = 0; i < workers; i++)
		pids[i] = worker_start(seed, worlds, i, workers, &fds[i]);
	for (uint64_t i = 0; i < workers; i++)
		worker_finish(pids[i], fds[i], &sum);
	print_message("SEED=%llu and on: %llu worlds, %llu flows, %llu denied; %llu live through a "
		      "change, %llu of them ended by it\n",
		      (unsigned long long)seed, (unsigned long long)sum.worlds,
		      (unsigned long long)sum.asked, (unsigned long long)sum.denied,
		      (unsigned long long)sum.lived, (unsigned long long)sum.ended);
	assert_int_equal(sum.wrong, 0);
	assert_int_equal(sum.worlds, worlds);
	if (worlds > 100)
		assert_true(sum.denied > sum.asked / 20 && sum.denied < sum.asked &&
			    sum.ended > sum.lived / 20 && sum.ended < sum.lived);
}

/* ---- kept scenes ---------------------------------------------------------------------------- */

static void scene_check(const char *path, void *arg)
{
	auto_(compiled) struct compiled *compiled = NULL;
	auto_(world) struct world *world = NULL;
	struct errmsg err = { 0 };
	struct question question;
	struct answers answers;
	enum drop_reason want;
	struct scene scene;

	(void)arg;
	if (scene_read(path, &scene, &question, &want, &err) < 0)
		give_up(path, &err);
	if (!scene.local) /* the program knows a node's view only */
		fail_plain(&err, -EINVAL, "\"local\" is missing");
	world = scene_world(&scene, &err);
	if (!scene.local || !world || policy_compile(world, &compiled, &err))
		give_up(path, &err);
	node_load(&scene);
	answers = ask(&scene, world, compiled, &question);
	if (!agree(&answers) || answers.specification != want) {
		report(&scene, &question, &answers, path);
		_fail(__FILE__, __LINE__);
	}
	scene_done(&scene);
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

static void test_kept_scenes(void **state)
{
	(void)state;
	assert_true(scenes_foreach(scene_check, NULL) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kept_scenes, kept_setup, kept_teardown),
		cmocka_unit_test(test_random_worlds),
	};
	const char *filter = getenv("CMOCKA_TEST_FILTER");

	if (filter && *filter)
		cmocka_set_test_filter(filter);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
