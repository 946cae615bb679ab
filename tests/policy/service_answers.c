/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of connections to services, for tests/policy/test_service_oracle.py: the objects go
 * through the library and the agent's sync into maps, and packets and sockets meet the programs
 * there.
 *
 *	world BYTES EXTERNAL_IPS MAGLEV ADDRESS,ADDRESS...	(of the node), then so many bytes
 *	ask WHERE CLIENT ADDRESS PORT PROTOCOL COUNT IDLE
 *	end
 *
 * WHERE: "uplink" and "pod" send packets; "pod-connect", "pod-send", "node-connect" and "node-send"
 * are sockets.  COUNT: how many backends are expected; at least TRIES_MIN connections are made, and
 * more until so many were met.  IDLE: before each of them no client used its affinity for so many
 * seconds.  Answers: "frontend ADDRESS PORT PROTOCOL" for each key of
 * service_map, then a line for each question with all that was met ("A:P", "refused", "dropped",
 * "none" or the name of a drop reason), then ".".
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
#include <unistd.h>

#include "agent/sync/sync.h"
#include "agent/sync/sync_internal.h"
#include "harness/lab.h"
#include "harness/lab_uplink.h"
#include "harness/scratch.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/inet.h"
#include "policy/objects/parse.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define HOSTS_MAX      16
#define OUTCOMES_MAX   64
#define AFFINITIES_MAX 1024
#define TRIES_MIN      8
#define TRIES_FOR_ONE  40 /* with six backends: one is missed once in 10^18 */
#define FIRST_PORT     1024

struct question {
	char where[16];
	struct addr client;
	struct addr addr;
	uint16_t port; /* host order */
	uint8_t proto;
	unsigned int count;
	unsigned int idle_s;
};

/* What was met, each once. */
struct outcomes {
	char items[OUTCOMES_MAX][ADDR_TEXT_MAX + 8];
	size_t count;
};

static struct {
	struct store *store;
	struct sync *sync;
} world;
static int from_uplink;
static uint64_t drops[DROP_REASON_COUNT]; /* as they were counted when last looked at */
static uint16_t next_port = FIRST_PORT;

static void give_up(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

static void outcome_add(struct outcomes *outcomes, const char *text)
{
	for (size_t i = 0; i < outcomes->count; i++) {
		if (!strcmp(outcomes->items[i], text))
			return;
	}
	if (outcomes->count == OUTCOMES_MAX)
		give_up("outcomes", "too many");
	snprintf(outcomes->items[outcomes->count++], sizeof(outcomes->items[0]), "%s", text);
}

static void outcome_add_backend(struct outcomes *outcomes, const struct addr *addr, uint16_t port)
{
	char text[ADDR_TEXT_MAX], line[ADDR_TEXT_MAX + 8];

	snprintf(line, sizeof(line), "%s:%u", addr_format(addr, text), port);
	outcome_add(outcomes, line);
}

/* ---- packets -------------------------------------------------------------------------------- */

/* The reason for which a packet was just dropped; DROP_NONE: it was not. */
static enum drop_reason drop_find(void)
{
	enum drop_reason found = DROP_NONE;

	for (unsigned int reason = 1; reason < DROP_REASON_COUNT; reason++) {
		uint64_t now = lab_metric(reason);

		if (now != drops[reason])
			found = (enum drop_reason)reason;
		drops[reason] = now;
	}
	return found;
}

static const char *drop_word(enum drop_reason reason)
{
#define X(num, name, text) [num] = #name,
	static const char *const names[] = { DROP_REASONS(X) };
#undef X

	switch (reason) {
	case DROP_NO_BACKEND:
		return "refused";
	case DROP_NO_LOCAL_BACKEND:
	case DROP_SOURCE_RANGE:
		return "dropped";
	case DROP_NO_SERVICE:
		return "none";
	default:
		return names[reason];
	}
}

static void packet_try(const struct question *question, struct outcomes *outcomes)
{
	const struct pod *pod = &lab.pods->pod[POD_A];
	struct segment segment = { .from = question->client,
				   .to = question->addr,
				   .proto = question->proto,
				   .sport = next_port,
				   .dport = question->port,
				   .flags = SYN,
				   .chunk = 1 };
	bool outside = !strcmp(question->where, "uplink");
	struct __sk_buff skb = { .ifindex = outside ? UPLINK_INDEX
						    : ENDPOINT_IFINDEX_BASE + pod->slot };
	struct frame frame, left;
	struct segment got;
	enum drop_reason reason = DROP_NONE;
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.bytes, .data_out = left.bytes,
		    .data_size_out = sizeof(left.bytes), .ctx_in = &skb,
		    .ctx_size_in = sizeof(skb));

	if (outside)
		frame = lab_uplink_frame(&segment);
	else
		frame_build(&segment, pod->mac, pod->host_mac, &frame);
	options.data_size_in = (uint32_t)frame.len;
	if (bpf_prog_test_run_opts(outside ? from_uplink : lab.from_pod, &options))
		give_up("test run", strerror(errno));
	left.len = options.data_size_out;
	got = frame_read(&left);
	if (options.retval == TC_ACT_SHOT || addr_equal(&got.to, &question->client))
		reason = drop_find();
	if (reason)
		outcome_add(outcomes, drop_word(reason));
	else if (options.retval == TC_ACT_SHOT)
		outcome_add(outcomes, "gone without a reason");
	else if (addr_equal(&got.to, &question->addr) && got.dport == question->port)
		outcome_add(outcomes, "none");
	else if (!frame_sums_hold(&left))
		outcome_add(outcomes, "wrong checksums");
	else
		outcome_add_backend(outcomes, &got.to, got.dport);
}

/* ---- sockets -------------------------------------------------------------------------------- */

static socklen_t address_of(const struct question *question, struct sockaddr_in6 *ret)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;

	memset(ret, 0, sizeof(*ret));
	if (addr_is_v4(&question->addr)) {
		in->sin_family = AF_INET;
		in->sin_port = htons(question->port);
		in->sin_addr.s_addr = question->addr.w[3];
		return sizeof(*in);
	}
	ret->sin6_family = AF_INET6;
	ret->sin6_port = htons(question->port);
	memcpy(&ret->sin6_addr, &question->addr, sizeof(question->addr));
	return sizeof(*ret);
}

/* What the programs noted of the socket; false: nothing. */
static bool socket_service(int fd, bool tcp, struct sock_service *ret)
{
	struct sock_bucket bucket;
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	uint32_t index;

	if (!tcp)
		return !bpf_map_lookup_elem(lab_map("sock_service"), &fd, ret) && ret->port;
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len))
		give_up("cookie", strerror(errno));
	index = (uint32_t)(cookie % SOCK_BUCKETS);
	if (bpf_map_lookup_elem(lab_map("sock_bucket_map"), &index, &bucket) ||
	    bucket.cookie != cookie)
		return false;
	*ret = bucket.service;
	return ret->port;
}

static void socket_try(const struct question *question, struct outcomes *outcomes)
{
	bool tcp = question->proto == IPPROTO_TCP, sends = strstr(question->where, "send");
	int domain = addr_is_v4(&question->addr) ? AF_INET : AF_INET6;
	int type = (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
	struct sock_service service = {};
	struct sockaddr_in6 peer;
	socklen_t len = address_of(question, &peer);
	auto_close int fd = -1;
	int ret;

	fd = strncmp(question->where, "pod", 3) ? socket(domain, type, 0)
						: pods_socket(&lab.pods->pod[POD_A], domain, type);
	if (fd < 0)
		give_up("socket", strerror(errno));
	ret = sends ? (int)sendto(fd, "x", 1, 0, (struct sockaddr *)&peer, len)
		    : connect(fd, (struct sockaddr *)&peer, len);
	if (ret < 0 && errno == ECONNREFUSED)
		outcome_add(outcomes, "refused");
	else if (ret < 0 && errno == EPERM)
		outcome_add(outcomes, "dropped");
	else if (!socket_service(fd, tcp, &service))
		outcome_add(outcomes, "none");
	else
		outcome_add_backend(outcomes, &service.backend_addr, ntohs(service.backend_port));
}

/* ---- worlds --------------------------------------------------------------------------------- */

static void map_empty(const char *name)
{
	static uint8_t keys[16384 * 64], values[16384 * 128];
	uint32_t count = 16384;
	uint64_t token;

	if (bpf_map_lookup_and_delete_batch(lab_map(name), NULL, &token, keys, values, &count,
					    NULL) &&
	    errno != ENOENT)
		give_up(name, strerror(errno));
}

static void hosts_set(char *text)
{
	struct addr hosts[HOSTS_MAX];
	size_t count = 0;
	char *save = NULL;

	for (char *each = strtok_r(text, ",", &save); each && count < HOSTS_MAX;
	     each = strtok_r(NULL, ",", &save)) {
		if (addr_parse(each, &hosts[count]) == 0)
			count++;
	}
	store_host_addresses_set(world.store, hosts, count);
}

static void endpoints_set(void)
{
	for (size_t i = 0; i < lab.pods->count; i++) {
		const struct pod *pod = &lab.pods->pod[i];
		char name[] = { 'p', (char)('0' + i), '\0' }, namespace[] = "default", uid[] = "";
		const struct store_endpoint endpoint = { .slot = pod->slot,
							 .namespace = namespace,
							 .name = name,
							 .uid = uid,
							 .addresses = { pod->v4, pod->v6 },
							 .address_count = 2 };

		store_endpoint_set(world.store, &endpoint);
	}
}

static void objects_put(size_t len)
{
	auto_free char *text = malloc(len + 1);
	struct problems problems = { 0 };
	struct object_list list;
	char line[400];

	if (!text || fread(text, 1, len, stdin) != len)
		give_up("world", "cut short");
	text[len] = '\0';
	if (objects_parse(text, len, 0, &list, &problems))
		give_up("world", problem_format(&problems.items[0], NULL, line, sizeof(line)));
	for (size_t i = 0; i < list.count; i++) {
		if (store_put(world.store, take_ptr(list.items[i]), NULL))
			give_up("world", "an object");
	}
	object_list_done(&list);
	problems_done(&problems);
}

/* What no service uses goes at once: nobody waits for the agent's timer here. */
static void world_leave(void)
{
	if (world.sync && sync_trim(world.sync))
		give_up("sync", "trim");
	sync_free(take_ptr(world.sync));
	store_free(take_ptr(world.store));
}

/* As an agent that starts anew on a node whose maps have the world before. */
static void world_enter(size_t len, const struct service_settings *settings, char *hosts)
{
	struct errmsg err = { 0 };

	world_leave();
	map_empty("nat_map");
	map_empty("ct_map");
	map_empty("affinity_map");
	world.store = store_new();
	store_set_local(world.store);
	hosts_set(hosts);
	endpoints_set();
	objects_put(len);
	if (sync_new(NULL, lab.datapath, world.store, &world.sync, &err))
		give_up("sync", err.text);
	sync_set_services(world.sync, settings);
	sync_set_missing(world.sync, NULL);
	if (sync_policies(world.sync, &err) || sync_services(world.sync, &err))
		give_up("sync", err.text);
}

static void frontends_print(void)
{
	struct service_key key, *last = NULL;
	char text[ADDR_TEXT_MAX];

	while (!bpf_map_get_next_key(lab_map("service_map"), last, &key)) {
		printf("frontend %s %u %s\n", addr_format(&key.addr, text), ntohs(key.port),
		       proto_name(key.proto));
		last = &key;
	}
}

/* Keys of a service's clients. */
struct affinities {
	struct affinity_key keys[AFFINITIES_MAX];
	size_t count;
};

static void affinities_read(const struct question *question, struct affinities *ret)
{
	const struct service_key asked = { .addr = question->addr,
					   .port = htons(question->port),
					   .proto = question->proto };
	struct affinity_key key, *last = NULL;
	struct service service;

	ret->count = 0;
	if (!question->idle_s || bpf_map_lookup_elem(lab_map("service_map"), &asked, &service))
		return;
	while (!bpf_map_get_next_key(lab_map("affinity_map"), last, &key)) {
		last = &key;
		if (key.service_id != service.id)
			continue;
		if (ret->count == AFFINITIES_MAX)
			give_up("affinities", "too many");
		ret->keys[ret->count++] = key;
	}
}

/* Not while they are read: what is written becomes the first of its bucket, and the walk would go
 * on from there. */
static void affinities_age(const struct affinities *affinities, unsigned int idle_s)
{
	int map = lab_map("affinity_map");
	struct affinity affinity;

	for (size_t i = 0; i < affinities->count; i++) {
		if (bpf_map_lookup_elem(map, &affinities->keys[i], &affinity))
			continue;
		affinity.last_used_ns = now_ns() - idle_s * UINT64_C(1000000000);
		bpf_map_update_elem(map, &affinities->keys[i], &affinity, BPF_EXIST);
	}
}

static void question_answer(const struct question *question)
{
	bool packets = !strcmp(question->where, "uplink") || !strcmp(question->where, "pod");
	unsigned int most = TRIES_MIN + TRIES_FOR_ONE * question->count;
	static struct affinities affinities;
	struct outcomes outcomes = { 0 };

	affinities_read(question, &affinities);
	for (unsigned int i = 0; i < TRIES_MIN || (i < most && outcomes.count < question->count);
	     i++) {
		next_port = next_port == UINT16_MAX ? FIRST_PORT : next_port + 1;
		affinities_age(&affinities, question->idle_s);
		if (packets)
			packet_try(question, &outcomes);
		else
			socket_try(question, &outcomes);
	}
	for (size_t i = 0; i < outcomes.count; i++)
		printf("%s%s", i ? " " : "", outcomes.items[i]);
	printf("\n");
}

static void question_read(const char *line, struct question *ret)
{
	char client[ADDR_TEXT_MAX], addr[ADDR_TEXT_MAX], proto[8];

	if (sscanf(line, "ask %15s %63s %63s %hu %7s %u %u", ret->where, client, addr, &ret->port,
		   proto, &ret->count, &ret->idle_s) != 7 ||
	    addr_parse(client, &ret->client) || addr_parse(addr, &ret->addr) ||
	    proto_parse(proto, &ret->proto))
		give_up("question", line);
}

/* ---- the node ------------------------------------------------------------------------------- */

static int node_make(void)
{
	struct errmsg err = { 0 };
	struct node_state *node;

	if (scratch_init(&err))
		give_up("scratch", err.text);
	lab.cgroup = scratch_cgroup();
	if (lab_setup(NULL) || lab_uplink_make() || pods_publish(lab.pods, lab.datapath, 0, &err))
		return -1;
	from_uplink = datapath_program_fd(lab.datapath, "from_uplink");
	node = maps_node(lab.datapath);
	node->snat_port_min = 20000;
	node->snat_port_max = 29999;
	node->snat_v4 = outside_addr(false, 0xc0000201, 0, 0);
	node->snat_v6 = outside_addr(true, 0, 0x20010db8, 1);
	drop_find();
	return 0;
}

int main(void)
{
	struct service_settings settings = { 0 };
	unsigned int external_ips, maglev;
	struct question question;
	char line[2000], hosts[1000];
	size_t len;

	if (node_make())
		return 1;
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "world %zu %u %u %999s", &len, &external_ips, &maglev, hosts) ==
		    4) {
			settings.external_ips = external_ips;
			settings.maglev = maglev;
			world_enter(len, &settings, hosts);
			frontends_print();
		} else if (!strcmp(line, "end\n")) {
			printf(".\n");
			fflush(stdout);
		} else {
			question_read(line, &question);
			question_answer(&question);
		}
	}
	world_leave();
	lab_teardown(NULL);
	scratch_done();
	return 0;
}
