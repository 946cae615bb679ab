/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random worlds, in which the compiled tables, the explanation and a brute-force reading of the
 * specification must agree on every flow.  ORACLE_SEED repeats a run, ORACLE_WORLDS sets its
 * length.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "agent/lib/auto.h"
#include "policy/parse.h"
#include "policy/verdict.h"
#include "unit/oracle.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define WORLDS       2000
#define SECONDS_MAX  10
#define HOST_ADDRESS "10.0.0.14"
#define PEER_NODE    "10.0.0.15" /* another node */

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
	random_state += 0x9e3779b97f4a7c15;
	uint64_t z = random_state;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return (uint32_t)((z ^ (z >> 31)) % limit);
}

static bool chance(uint32_t percent)
{
	return random_below(100) < percent;
}

#define pick(list) ((list)[random_below(ARRAY_SIZE(list))])

static const char *const namespaces[] = { "shop", "bank", "lab" };
static const char *const keys[] = { "app", "tier", "env" };
static const char *const values[] = { "a", "b", "c", "" };
static const char *const port_names[] = { "http", "dns", "admin" };
static const char *const protocols[] = { "TCP", "UDP", "SCTP" };
static const int ports[] = { 53, 80, 81, 443, 8080 };
/* A world draws from a window of these, so that some worlds have only wide or only IPv6 ones. */
static const char *const all_cidrs[] = { "0.0.0.0/0",    "10.0.0.0/8",  "10.0.0.0/29",
					 "10.0.0.8/29",  "10.0.0.4/30", "10.0.0.3/32",
					 "10.0.0.9/31",  "10.0.0.1/24", "192.168.0.0/16",
					 "::/0",         "fd00::/16",   "fd00::/125",
					 "fd00::8/125",  "fd00::4/126", "fd00::3/128",
					 "2001:db8::/32" };
static const char *const *cidrs;
static uint32_t cidr_count;

static const char *const outsiders[] = { "192.168.1.1", "10.0.0.13",   HOST_ADDRESS, "8.8.8.8",
					 "fd00::d",     "2001:db8::5", "2a00::1" };

/* ---- making worlds ---- */

static cJSON *random_labels(void)
{
	cJSON *labels = cJSON_CreateObject();

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (chance(60))
			cJSON_AddStringToObject(labels, keys[i], pick(values));
	}
	return labels;
}

static cJSON *random_object(const char *api_version, const char *kind, const char *namespace,
			    const char *prefix, int number, cJSON *labels)
{
	cJSON *object = cJSON_CreateObject();
	cJSON *metadata = cJSON_AddObjectToObject(object, "metadata");
	char name[32];

	cJSON_AddStringToObject(object, "apiVersion", api_version);
	cJSON_AddStringToObject(object, "kind", kind);
	snprintf(name, sizeof(name), number < 0 ? "%s" : "%s%d", prefix, number);
	cJSON_AddStringToObject(metadata, "name", name);
	if (namespace)
		cJSON_AddStringToObject(metadata, "namespace", namespace);
	if (labels)
		cJSON_AddItemToObject(metadata, "labels", labels);
	return object;
}

static void random_container(cJSON *list, bool init)
{
	cJSON *container = cJSON_CreateObject();
	cJSON *list_ports = cJSON_AddArrayToObject(container, "ports");

	for (size_t i = 0; i < ARRAY_SIZE(port_names); i++) {
		cJSON *port;

		if (chance(50))
			continue;
		port = cJSON_CreateObject();
		cJSON_AddStringToObject(port, "name", port_names[i]);
		cJSON_AddNumberToObject(port, "containerPort", pick(ports));
		if (chance(50))
			cJSON_AddStringToObject(port, "protocol", pick(protocols));
		cJSON_AddItemToArray(list_ports, port);
	}
	if (init && chance(50))
		cJSON_AddStringToObject(container, "restartPolicy", "Always");
	cJSON_AddItemToArray(list, container);
}

static cJSON *random_pod(int number)
{
	cJSON *pod = random_object("v1", "Pod", pick(namespaces), "pod", number,
				   chance(90) ? random_labels() : NULL);
	cJSON *spec = cJSON_AddObjectToObject(pod, "spec");
	cJSON *status = cJSON_AddObjectToObject(pod, "status");
	cJSON *ips = cJSON_AddArrayToObject(status, "podIPs");
	bool host = chance(8);
	char text[64];

	random_container(cJSON_AddArrayToObject(spec, "containers"), false);
	if (chance(30))
		random_container(cJSON_AddArrayToObject(spec, "initContainers"), true);
	if (host)
		cJSON_AddTrueToObject(spec, "hostNetwork");
	if (chance(8))
		cJSON_AddStringToObject(status, "phase", chance(50) ? "Succeeded" : "Failed");
	snprintf(text, sizeof(text), "10.0.0.%d", number + 1);
	if (host || chance(85)) {
		cJSON *ip = cJSON_CreateObject();

		if (host)
			snprintf(text, sizeof(text), "%s", chance(50) ? HOST_ADDRESS : PEER_NODE);
		cJSON_AddStringToObject(ip, "ip", text);
		cJSON_AddItemToArray(ips, ip);
	}
	snprintf(text, sizeof(text), "fd00::%x", number + 1);
	if (!host && chance(70)) {
		cJSON *ip = cJSON_CreateObject();

		cJSON_AddStringToObject(ip, "ip", text);
		cJSON_AddItemToArray(ips, ip);
	}
	return pod;
}

static cJSON *random_selector(void)
{
	static const char *const operators[] = { "In", "NotIn", "Exists", "DoesNotExist" };
	cJSON *selector = cJSON_CreateObject();
	cJSON *list;

	if (chance(45)) {
		list = cJSON_AddObjectToObject(selector, "matchLabels");
		cJSON_AddStringToObject(list, pick(keys), pick(values));
	}
	if (chance(35)) {
		cJSON *term = cJSON_CreateObject();
		const char *operator= pick(operators);

		list = cJSON_AddArrayToObject(selector, "matchExpressions");
		cJSON_AddStringToObject(term, "key", pick(keys));
		cJSON_AddStringToObject(term, "operator", operator);
		if (strstr(operator, "In")) {
			cJSON *chosen = cJSON_AddArrayToObject(term, "values");

			do {
				cJSON_AddItemToArray(chosen, cJSON_CreateString(pick(values)));
			} while (chance(40));
		}
		cJSON_AddItemToArray(list, term);
	}
	return selector;
}

static cJSON *random_namespace_selector(void)
{
	cJSON *selector = random_selector();
	cJSON *labels;

	if (chance(70))
		return selector;
	cJSON_Delete(selector);
	selector = cJSON_CreateObject();
	labels = cJSON_AddObjectToObject(selector, "matchLabels");
	cJSON_AddStringToObject(labels, "kubernetes.io/metadata.name", pick(namespaces));
	return selector;
}

/* Narrower CIDRs of the list that lie in the block. */
static void random_except(cJSON *block, const char *cidr)
{
	cJSON *except = cJSON_AddArrayToObject(block, "except");
	struct prefix outer;
	struct prefix inner;

	assert_int_equal(prefix_parse(cidr, &outer), 0);
	for (size_t i = 0; i < cidr_count; i++) {
		assert_int_equal(prefix_parse(cidrs[i], &inner), 0);
		if (inner.len > outer.len && prefix_contains(&outer, &inner.addr) && chance(30))
			cJSON_AddItemToArray(except, cJSON_CreateString(cidrs[i]));
	}
}

static cJSON *random_peer(void)
{
	cJSON *peer = cJSON_CreateObject();
	uint32_t kind = random_below(10);

	if (kind < 3) {
		const char *cidr = cidrs[random_below(cidr_count)];
		cJSON *block = cJSON_AddObjectToObject(peer, "ipBlock");

		cJSON_AddStringToObject(block, "cidr", cidr);
		if (chance(60))
			random_except(block, cidr);
		return peer;
	}
	if (kind != 3)
		cJSON_AddItemToObject(peer, "podSelector", random_selector());
	if (kind < 7)
		cJSON_AddItemToObject(peer, "namespaceSelector", random_namespace_selector());
	return peer;
}

static cJSON *random_port(void)
{
	cJSON *port = cJSON_CreateObject();

	if (chance(60))
		cJSON_AddStringToObject(port, "protocol", pick(protocols));
	if (chance(40)) {
		cJSON_AddStringToObject(port, "port", pick(port_names));
	} else if (chance(80)) {
		int first = pick(ports);

		cJSON_AddNumberToObject(port, "port", first);
		if (chance(40))
			cJSON_AddNumberToObject(port, "endPort", first + (int)random_below(400));
	}
	return port;
}

/* absent, null, [] and lists are four different inputs. */
static void random_list(cJSON *parent, const char *name, cJSON *(*make)(void))
{
	cJSON *list;

	switch (random_below(6)) {
	case 0:
		return;
	case 1:
		cJSON_AddNullToObject(parent, name);
		return;
	case 2:
		cJSON_AddArrayToObject(parent, name);
		return;
	default:
		list = cJSON_AddArrayToObject(parent, name);
		do {
			cJSON_AddItemToArray(list, make());
		} while (chance(40));
	}
}

static cJSON *random_ingress_rule(void)
{
	cJSON *rule = cJSON_CreateObject();

	random_list(rule, "from", random_peer);
	random_list(rule, "ports", random_port);
	return rule;
}

static cJSON *random_egress_rule(void)
{
	cJSON *rule = cJSON_CreateObject();

	random_list(rule, "to", random_peer);
	random_list(rule, "ports", random_port);
	return rule;
}

static cJSON *random_policy(int number)
{
	cJSON *policy = random_object("networking.k8s.io/v1", "NetworkPolicy", pick(namespaces),
				      "policy", number, NULL);
	cJSON *spec = cJSON_AddObjectToObject(policy, "spec");

	if (chance(95))
		cJSON_AddItemToObject(spec, "podSelector", random_selector());
	random_list(spec, "ingress", random_ingress_rule);
	random_list(spec, "egress", random_egress_rule);
	if (chance(60)) {
		cJSON *types = cJSON_AddArrayToObject(spec, "policyTypes");

		if (chance(60))
			cJSON_AddItemToArray(types, cJSON_CreateString("Ingress"));
		if (chance(60))
			cJSON_AddItemToArray(types, cJSON_CreateString("Egress"));
	}
	return policy;
}

static cJSON *random_objects(void)
{
	cJSON *objects = cJSON_CreateArray();
	uint32_t pods = 2 + random_below(9);
	uint32_t policies = 1 + random_below(6);

	cidrs = all_cidrs + random_below(ARRAY_SIZE(all_cidrs));
	cidr_count = 1 + random_below((uint32_t)(all_cidrs + ARRAY_SIZE(all_cidrs) - cidrs));

	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++) {
		if (chance(70))
			cJSON_AddItemToArray(
				objects, random_object("v1", "Namespace", NULL, namespaces[i], -1,
						       chance(90) ? random_labels() : NULL));
	}
	for (uint32_t i = 0; i < pods; i++)
		cJSON_AddItemToArray(objects, random_pod((int)i));
	for (uint32_t i = 0; i < policies; i++)
		cJSON_AddItemToArray(objects, random_policy((int)i));
	return objects;
}

/* ---- asking ---- */

struct trial {
	uint64_t seed;
	cJSON *objects;
	struct world *world;
	struct compiled *compiled;
	const char *addresses[64]; /* of pods and of others */
	size_t address_count;
	uint64_t local; /* bit set of pods that are endpoints of this node; 0: no endpoints */
	size_t asked;
	size_t denied;
};

static int pod_number(const char *name)
{
	return (int)strtol(name + strlen("pod"), NULL, 10);
}

static bool is_local(const cJSON *pod, const void *arg)
{
	const struct trial *trial = arg;
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(pod, "metadata");
	const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(metadata, "name"));

	return !trial->local || trial->local >> pod_number(name) & 1;
}

static void trial_load(struct trial *trial)
{
	cJSON *list = cJSON_CreateObject();
	struct problems problems = { 0 };
	struct object_list loaded = { 0 };
	struct errmsg err = { 0 };
	char line[600];
	char *text;

	cJSON_AddStringToObject(list, "apiVersion", "v1");
	cJSON_AddStringToObject(list, "kind", "List");
	cJSON_AddItemReferenceToObject(list, "items", trial->objects);
	text = cJSON_Print(list);
	if (objects_parse(text, strlen(text), 0, &loaded, &problems) != 0)
		fail_msg("%s", problem_format(&problems.items[0], NULL, line, sizeof(line)));
	for (size_t i = 0; i < loaded.count; i++) {
		if (world_put(trial->world, loaded.items[i], &err) < 0)
			fail_msg("%s", err.text);
	}
	loaded.count = 0;
	object_list_done(&loaded);
	problems_done(&problems);
	free(text);
	cJSON_Delete(list);
}

static void trial_add_endpoints(struct trial *trial)
{
	uint16_t slot = 1;

	for (const struct object *pod = world_first(trial->world, OBJECT_POD); pod;
	     pod = world_next(trial->world, pod)) {
		struct world_endpoint endpoint = { .slot = slot++,
						   .namespace = pod->namespace,
						   .name = pod->name,
						   .address_count = pod->pod.address_count };

		if (pod->pod.host_network || pod->pod.terminated || chance(50))
			continue;
		memcpy(endpoint.addresses, pod->pod.addresses, sizeof(endpoint.addresses));
		assert_int_equal(world_endpoint_set(trial->world, &endpoint), 0);
		trial->local |= 1ULL << pod_number(pod->name);
	}
}

static void trial_begin(struct trial *trial, uint64_t seed)
{
	struct errmsg err = { 0 };
	const cJSON *object;
	const cJSON *ip;
	struct addr host;

	*trial = (struct trial){ .seed = seed, .objects = random_objects(), .world = world_new() };
	trial_load(trial);
	assert_int_equal(addr_parse(HOST_ADDRESS, &host), 0);
	assert_int_equal(world_host_addresses_set(trial->world, &host, 1), 0);
	if (chance(50))
		trial_add_endpoints(trial);
	assert_int_equal(policy_compile(trial->world, &trial->compiled, &err), 0);
	cJSON_ArrayForEach (object, trial->objects) {
		const cJSON *status = cJSON_GetObjectItemCaseSensitive(object, "status");

		cJSON_ArrayForEach (ip, cJSON_GetObjectItemCaseSensitive(status, "podIPs"))
			trial->addresses[trial->address_count++] =
				cJSON_GetObjectItemCaseSensitive(ip, "ip")->valuestring;
	}
	for (size_t i = 0; i < ARRAY_SIZE(outsiders); i++)
		trial->addresses[trial->address_count++] = outsiders[i];
}

static void trial_end(struct trial *trial)
{
	compiled_free(trial->compiled);
	world_free(trial->world);
	cJSON_Delete(trial->objects);
}

static struct explain_end end_of(const struct trial *trial, const char *text)
{
	struct explain_end end = { .has_addr = true, .is_host = strcmp(text, HOST_ADDRESS) == 0 };

	assert_int_equal(addr_parse(text, &end.addr), 0);
	end.pod = world_owner(trial->world, &end.addr);
	return end;
}

static void trial_disagree(const struct trial *trial, const struct oracle_question *question,
			   const char *who, int answer, int wanted)
{
	char *text = cJSON_Print(trial->objects);

	print_error("%s\n", text);
	free(text);
	fail_msg("ORACLE_SEED=%llu: %s -> %s %s/%d: %s says %d, the specification %d (local pods: "
		 "%llx)",
		 (unsigned long long)trial->seed, question->source, question->destination,
		 question->protocol, question->port, who, answer, wanted,
		 (unsigned long long)trial->local);
}

static void trial_ask(struct trial *trial, const char *source, const char *destination,
		      const char *protocol, int port)
{
	struct oracle_question question = { .objects = trial->objects,
					    .source = source,
					    .destination = destination,
					    .protocol = protocol,
					    .port = port,
					    .source_is_node = strcmp(source, HOST_ADDRESS) == 0,
					    .enforced = is_local,
					    .arg = trial };
	static const enum drop_reason reasons[] = { [ORACLE_ALLOWED] = DROP_NONE,
						    [ORACLE_EGRESS_DENIED] = DROP_EGRESS_DENIED,
						    [ORACLE_INGRESS_DENIED] = DROP_INGRESS_DENIED };
	struct explain_end from = end_of(trial, source);
	struct explain_end to = end_of(trial, destination);
	struct flow flow = { .saddr = from.addr, .daddr = to.addr };
	enum oracle_answer wanted = oracle_ask(&question);
	struct explanation explanation;
	enum drop_reason reason;

	assert_int_equal(proto_parse(protocol, &flow.proto), 0);
	flow.dport = htons((uint16_t)port);
	flow.sport = htons(40000);
	reason = verdict_flow(trial->compiled, &flow);
	if (reason != reasons[wanted])
		trial_disagree(trial, &question, "verdict", (int)reason, (int)reasons[wanted]);

	/* Explanations know nothing of nodes' borders: they answer for the whole cluster. */
	question.enforced = NULL;
	wanted = oracle_ask(&question);
	assert_int_equal(policy_explain(trial->world, &from, &to, flow.proto, (uint16_t)port,
					&explanation, NULL),
			 0);
	if ((explanation.verdict == VERDICT_ALLOW) != (wanted == ORACLE_ALLOWED))
		trial_disagree(trial, &question, "explain", (int)explanation.verdict,
			       wanted == ORACLE_ALLOWED);
	if (wanted == ORACLE_EGRESS_DENIED)
		assert_int_equal(explanation.egress.verdict, VERDICT_DENY);
	trial->asked++;
	trial->denied += wanted != ORACLE_ALLOWED;
	explanation_done(&explanation);
}

static void trial_ask_all(struct trial *trial)
{
	for (size_t s = 0; s < trial->address_count; s++) {
		for (size_t d = 0; d < trial->address_count; d++) {
			const char *source = trial->addresses[s];
			const char *destination = trial->addresses[d];

			if ((strchr(source, ':') == NULL) != (strchr(destination, ':') == NULL) ||
			    chance(80))
				continue;
			trial_ask(trial, source, destination, "TCP", pick(ports));
			trial_ask(trial, source, destination, pick(protocols),
				  chance(50) ? pick(ports) : (int)random_below(65536));
			if (chance(20))
				trial_ask(trial, source, destination, "ICMP", 0);
		}
	}
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	uint64_t number;

	return text && number_parse(text, 0, UINT64_MAX, &number) == 0 ? number : otherwise;
}

static void test_random_worlds(void **state)
{
	uint64_t seed = env_number("ORACLE_SEED", (uint64_t)time(NULL));
	uint64_t worlds = env_number("ORACLE_WORLDS", WORLDS);
	time_t deadline = time(NULL) + SECONDS_MAX;
	size_t asked = 0;
	size_t denied = 0;
	uint64_t done = 0;

	(void)state;
	print_message("ORACLE_SEED=%llu\n", (unsigned long long)seed);
	for (; done < worlds && time(NULL) < deadline; done++) {
		struct trial trial;

		/* Each world has a seed of its own, so a failing one can be run alone. */
		random_state = (seed + done) * 0x9e3779b97f4a7c15;
		trial_begin(&trial, seed + done);
		trial_ask_all(&trial);
		asked += trial.asked;
		denied += trial.denied;
		trial_end(&trial);
	}
	print_message("%llu worlds, %zu flows, %zu denied\n", (unsigned long long)done, asked,
		      denied);
	assert_true(done > 0 && denied > asked / 20 && denied < asked);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_worlds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
