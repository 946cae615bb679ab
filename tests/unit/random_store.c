/* SPDX-License-Identifier: Apache-2.0 */
/* Random objects: few names, labels, addresses and ports, so that they meet often. */
#include "unit/random_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "lib/auto.h"
#include "lib/inet.h"

static uint64_t random_state;

#define PEER_NODE_V4 "10.0.0.15" /* another node */
#define PEER_NODE_V6 "fd00::f"

void random_begin(uint64_t seed)
{
	random_state = seed * 0x9e3779b97f4a7c15;
}

uint32_t random_below(uint32_t limit)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return (uint32_t)((z ^ (z >> 31)) % limit);
}

bool chance(uint32_t percent)
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
/* A store draws from a window of these, so that some stores have only wide or only IPv6 ones. */
static const char *const all_cidrs[] = { "0.0.0.0/0",    "10.0.0.0/8",  "10.0.0.0/29",
					 "10.0.0.8/29",  "10.0.0.4/30", "10.0.0.3/32",
					 "10.0.0.9/31",  "10.0.0.1/24", "192.168.0.0/16",
					 "::/0",         "fd00::/16",   "fd00::/125",
					 "fd00::8/125",  "fd00::4/126", "fd00::3/128",
					 "2001:db8::/32" };
static const char *const *cidrs;
static uint32_t cidr_count;

/* Ranges of pods, with addresses that no pod has, and with a node's own address. */
static const char *const pod_cidrs[] = { "10.0.0.0/29",  "10.0.0.4/30", "10.0.0.12/31",
					 "10.0.0.15/32", "fd00::/125",  "fd00::4/126",
					 "fd00::c/127",  "fd00::f/128" };

static const char *const outsiders[] = { "192.168.1.1", "10.0.0.13", HOST_V4, PEER_NODE_V4,
					 "8.8.8.8",     "fd00::d",   HOST_V6, PEER_NODE_V6,
					 "2001:db8::5", "2a00::1" };

/* ---- making stores ---- */

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
	cJSON *metadata;
	char name[32];

	cJSON_AddStringToObject(object, "apiVersion", api_version);
	cJSON_AddStringToObject(object, "kind", kind);
	metadata = cJSON_AddObjectToObject(object, "metadata");
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

/* A pod that has run to completion keeps an address that may be somebody else's by now. */
static void random_addresses(cJSON *status, int number, bool host, bool terminated)
{
	int own = terminated ? (int)random_below(12) : number + 1;
	cJSON *ips = cJSON_AddArrayToObject(status, "podIPs");
	bool peer = chance(50);
	char text[64];

	for (int v6 = 0; v6 < 2; v6++) {
		cJSON *ip;

		if (chance(v6 ? 25 : 12))
			continue;
		if (host && v6)
			snprintf(text, sizeof(text), "%s", peer ? PEER_NODE_V6 : HOST_V6);
		else if (host)
			snprintf(text, sizeof(text), "%s", peer ? PEER_NODE_V4 : HOST_V4);
		else
			snprintf(text, sizeof(text), v6 ? "fd00::%x" : "10.0.0.%d", own);
		ip = cJSON_CreateObject();
		cJSON_AddStringToObject(ip, "ip", text);
		cJSON_AddItemToArray(ips, ip);
	}
}

static cJSON *random_pod(int number)
{
	cJSON *pod = random_object("v1", "Pod", pick(namespaces), "pod", number,
				   chance(90) ? random_labels() : NULL);
	cJSON *spec = cJSON_AddObjectToObject(pod, "spec");
	cJSON *status = cJSON_AddObjectToObject(pod, "status");
	cJSON *containers = cJSON_AddArrayToObject(spec, "containers");
	bool host = chance(8), terminated = chance(8);

	random_container(containers, false);
	if (chance(30))
		random_container(containers, false);
	if (chance(30))
		random_container(cJSON_AddArrayToObject(spec, "initContainers"), true);
	if (host)
		cJSON_AddTrueToObject(spec, "hostNetwork");
	if (terminated)
		cJSON_AddStringToObject(status, "phase", chance(50) ? "Succeeded" : "Failed");
	random_addresses(status, number, host, terminated);
	return pod;
}

static cJSON *random_requirement(void)
{
	static const char *const operators[] = { "In", "NotIn", "Exists", "DoesNotExist" };
	const char *operator= pick(operators);
	cJSON *requirement = cJSON_CreateObject();
	cJSON *chosen;

	cJSON_AddStringToObject(requirement, "key", pick(keys));
	cJSON_AddStringToObject(requirement, "operator", operator);
	if (!strstr(operator, "In"))
		return requirement;
	chosen = cJSON_AddArrayToObject(requirement, "values");
	do {
		cJSON_AddItemToArray(chosen, cJSON_CreateString(pick(values)));
	} while (chance(40));
	return requirement;
}

static cJSON *random_selector(void)
{
	cJSON *selector = cJSON_CreateObject();
	cJSON *list;

	if (chance(45)) {
		uint32_t first = random_below(ARRAY_SIZE(keys));

		list = cJSON_AddObjectToObject(selector, "matchLabels");
		cJSON_AddStringToObject(list, keys[first], pick(values));
		if (chance(15))
			cJSON_AddStringToObject(list, keys[(first + 1) % ARRAY_SIZE(keys)],
						pick(values));
	}
	if (chance(35)) {
		list = cJSON_AddArrayToObject(selector, "matchExpressions");
		do {
			cJSON_AddItemToArray(list, random_requirement());
		} while (chance(20));
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

	prefix_parse(cidr, &outer);
	for (size_t i = 0; i < cidr_count; i++) {
		prefix_parse(cidrs[i], &inner);
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

/* ---- ClusterNetworkPolicies ---- */

static cJSON *random_node(int number)
{
	cJSON *node = random_object("v1", "Node", NULL, "node", number,
				    chance(80) ? random_labels() : NULL);
	cJSON *list = cJSON_AddArrayToObject(cJSON_AddObjectToObject(node, "status"), "addresses");
	const char *const addresses[][2] = { { HOST_V4, HOST_V6 }, { PEER_NODE_V4, PEER_NODE_V6 } };

	for (int v6 = 0; v6 < 2; v6++) {
		cJSON *address = cJSON_CreateObject();

		cJSON_AddStringToObject(address, "type", chance(80) ? "InternalIP" : "ExternalIP");
		/* Now and then two nodes have one address. */
		cJSON_AddStringToObject(address, "address",
					addresses[chance(95) ? number % 2 : 1][v6]);
		if (chance(80))
			cJSON_AddItemToArray(list, address);
		else
			cJSON_Delete(address);
	}
	list = cJSON_AddArrayToObject(cJSON_AddObjectToObject(node, "spec"), "podCIDRs");
	for (uint32_t i = random_below(4); i > 0; i--)
		cJSON_AddItemToArray(list, cJSON_CreateString(pick(pod_cidrs)));
	return node;
}

static cJSON *random_namespaced_pod(void)
{
	cJSON *pods = cJSON_CreateObject();

	if (chance(80))
		cJSON_AddItemToObject(pods, "namespaceSelector", random_namespace_selector());
	cJSON_AddItemToObject(pods, "podSelector", random_selector());
	return pods;
}

static cJSON *random_networks(void)
{
	cJSON *networks = cJSON_CreateArray();
	uint32_t first = random_below(cidr_count);

	do {
		cJSON_AddItemToArray(networks, cJSON_CreateString(cidrs[first]));
	} while (++first < cidr_count && chance(40));
	return networks;
}

static cJSON *random_cluster_peer(bool egress, bool pods_only)
{
	cJSON *peer = cJSON_CreateObject();
	uint32_t kind = random_below(egress && !pods_only ? 8 : 4);

	if (kind < 2)
		cJSON_AddItemToObject(peer, "namespaces", random_namespace_selector());
	else if (kind < 4)
		cJSON_AddItemToObject(peer, "pods", random_namespaced_pod());
	else if (kind < 6)
		cJSON_AddItemToObject(peer, "networks", random_networks());
	else
		cJSON_AddItemToObject(peer, "nodes", random_selector());
	return peer;
}

static cJSON *random_protocol(bool named)
{
	static const char *const names[] = { "tcp", "tcp", "udp", "sctp" };
	cJSON *protocol = cJSON_CreateObject();
	cJSON *port, *range;
	int first = pick(ports);

	if (named && chance(60)) {
		cJSON_AddStringToObject(protocol, "destinationNamedPort", pick(port_names));
		return protocol;
	}
	port = cJSON_AddObjectToObject(cJSON_AddObjectToObject(protocol, pick(names)),
				       "destinationPort");
	if (chance(50)) {
		cJSON_AddNumberToObject(port, "number", first);
		return protocol;
	}
	range = cJSON_AddObjectToObject(port, "range");
	cJSON_AddNumberToObject(range, "start", chance(15) ? 1 : first);
	cJSON_AddNumberToObject(range, "end",
				chance(15) ? 65535 : first + 1 + (int)random_below(400));
	return protocol;
}

static cJSON *random_cluster_rule(bool egress)
{
	static const char *const actions[] = { "Accept", "Deny", "Pass" };
	cJSON *rule = cJSON_CreateObject();
	bool named = chance(25); /* then only pods may be peers */
	cJSON *list;

	cJSON_AddStringToObject(rule, "action", pick(actions));
	list = cJSON_AddArrayToObject(rule, egress ? "to" : "from");
	do {
		cJSON_AddItemToArray(list, random_cluster_peer(egress, named));
	} while (chance(40));
	if (!named && chance(50))
		return rule;
	list = cJSON_AddArrayToObject(rule, "protocols");
	do {
		cJSON_AddItemToArray(list, random_protocol(named));
	} while (chance(40));
	return rule;
}

static cJSON *random_cluster_policy(int number)
{
	cJSON *policy = random_object("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy",
				      NULL, "cluster", number, NULL);
	cJSON *spec = cJSON_AddObjectToObject(policy, "spec");
	cJSON *subject;

	cJSON_AddStringToObject(spec, "tier", chance(60) ? "Admin" : "Baseline");
	cJSON_AddNumberToObject(spec, "priority", random_below(4)); /* some are equal */
	subject = cJSON_AddObjectToObject(spec, "subject");
	if (chance(50))
		cJSON_AddItemToObject(subject, "namespaces", random_namespace_selector());
	else
		cJSON_AddItemToObject(subject, "pods", random_namespaced_pod());
	for (int egress = 0; egress < 2; egress++) {
		cJSON *rules;

		if (chance(30))
			continue;
		rules = cJSON_AddArrayToObject(spec, egress ? "egress" : "ingress");
		for (int left = 25; left && chance(65); left--) /* more are refused */
			cJSON_AddItemToArray(rules, random_cluster_rule(egress));
	}
	return policy;
}

static cJSON *random_objects(void)
{
	cJSON *objects = cJSON_CreateArray();
	uint32_t pods = 2 + random_below(9);
	uint32_t policies = 1 + random_below(6);
	uint32_t cluster_policies = chance(40) ? 0 : 1 + random_below(5);

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
	for (int i = 0; i < 3 && cluster_policies; i++) {
		if (chance(60))
			cJSON_AddItemToArray(objects, random_node(i));
	}
	for (uint32_t i = 0; i < cluster_policies; i++)
		cJSON_AddItemToArray(objects, random_cluster_policy((int)i));
	return objects;
}

/* ---- scenes and queries ---- */

static const cJSON *member(const cJSON *object, const char *first, const char *second)
{
	return cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(object, first),
						second);
}

static bool is_pod(const cJSON *object)
{
	return !strcmp(cJSON_GetObjectItemCaseSensitive(object, "kind")->valuestring, "Pod");
}

/* Only a pod that runs, and not in the host's network, can be an endpoint. */
static cJSON *random_local(const cJSON *objects)
{
	cJSON *local = cJSON_CreateArray();
	const cJSON *pod;
	char text[64];

	cJSON_ArrayForEach (pod, objects) {
		if (!is_pod(pod) || member(pod, "spec", "hostNetwork") ||
		    member(pod, "status", "phase") ||
		    cJSON_GetArraySize(member(pod, "status", "podIPs")) == 0 || chance(30) ||
		    cJSON_GetArraySize(local) == SNAPSHOT_LOCAL_MAX)
			continue;
		snprintf(text, sizeof(text), "%s/%s",
			 member(pod, "metadata", "namespace")->valuestring,
			 member(pod, "metadata", "name")->valuestring);
		cJSON_AddItemToArray(local, cJSON_CreateString(text));
	}
	return local;
}

struct snapshot random_snapshot(bool node)
{
	struct snapshot snapshot = { .objects = random_objects() };

	if (node)
		snapshot.local = random_local(snapshot.objects);
	return snapshot;
}

static void random_relabel(cJSON *object)
{
	cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");

	cJSON_DeleteItemFromObjectCaseSensitive(metadata, "labels");
	cJSON_AddItemToObject(metadata, "labels", random_labels());
}

void random_change(struct snapshot *snapshot)
{
	/* Numbers that no policy has yet. */
	static const int first = 50;
	cJSON *next;

	for (cJSON *object = snapshot->objects->child; object; object = next) {
		const char *kind = cJSON_GetObjectItemCaseSensitive(object, "kind")->valuestring;

		next = object->next;
		if (strstr(kind, "NetworkPolicy") && chance(40))
			cJSON_Delete(cJSON_DetachItemViaPointer(snapshot->objects, object));
		else if (!strstr(kind, "NetworkPolicy") && chance(20))
			random_relabel(object);
	}
	for (int i = 0; i < 3; i++) {
		if (chance(50))
			cJSON_AddItemToArray(snapshot->objects, random_policy(first + i));
		if (chance(20))
			cJSON_AddItemToArray(snapshot->objects, random_cluster_policy(first + i));
	}
}

static bool is_local(const struct snapshot *snapshot, const cJSON *pod)
{
	const cJSON *name;
	char text[64];

	snprintf(text, sizeof(text), "%s/%s", member(pod, "metadata", "namespace")->valuestring,
		 member(pod, "metadata", "name")->valuestring);
	cJSON_ArrayForEach (name, snapshot->local) {
		if (!strcmp(name->valuestring, text))
			return true;
	}
	return false;
}

static void addresses_add(struct addresses *addresses, const char *address)
{
	if (addresses->count < ARRAY_SIZE(addresses->items))
		addresses->items[addresses->count++] = address;
}

void addresses_collect(const struct snapshot *snapshot, struct addresses *ret)
{
	const cJSON *pod;
	const cJSON *ip;

	ret->count = 0;
	for (int local = 1; local >= 0; local--) {
		cJSON_ArrayForEach (pod, snapshot->objects) {
			if (!is_pod(pod) || is_local(snapshot, pod) != local)
				continue;
			cJSON_ArrayForEach (ip, member(pod, "status", "podIPs"))
				addresses_add(
					ret,
					cJSON_GetObjectItemCaseSensitive(ip, "ip")->valuestring);
		}
		if (local)
			ret->local_count = ret->count;
	}
	for (size_t i = 0; i < ARRAY_SIZE(outsiders); i++)
		addresses_add(ret, outsiders[i]);
}

static const char *random_address(const struct addresses *addresses, size_t count)
{
	return addresses->items[random_below((uint32_t)count)];
}

struct query random_query(const struct addresses *addresses, bool local)
{
	struct query query = { 0 };
	const char *from, *to;
	bool outbound = chance(50);

	do {
		from = random_address(addresses, local && outbound ? addresses->local_count
								   : addresses->count);
		to = random_address(addresses,
				    local && !outbound ? addresses->local_count : addresses->count);
	} while (!strchr(from, ':') != !strchr(to, ':'));
	snprintf(query.from, sizeof(query.from), "%s", from);
	snprintf(query.to, sizeof(query.to), "%s", to);
	snprintf(query.protocol, sizeof(query.protocol), "%s",
		 chance(40) ? "TCP" : (chance(8) ? "ICMP" : pick(protocols)));
	if (query.protocol[0] == 'I')
		return query;
	/* A port of the list, one beside it, or in one of the ranges that begin there. */
	query.port = (uint16_t)(chance(90) ? pick(ports) : 1 + (int)random_below(65535));
	if (chance(20))
		query.port = (uint16_t)(query.port + random_below(3) - 1);
	if (chance(20))
		query.port = (uint16_t)(query.port + random_below(400));
	return query;
}

uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	uint64_t number;

	return text && number_parse(text, 0, UINT64_MAX, &number) == 0 ? number : otherwise;
}
