/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy, as strictly as the other policies: what
 * its schema refuses is refused here.  domainNames is refused too: it would need to follow names.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/objects/name.h"
#include "policy/objects/reader.h"

#define ITEMS_MAX     25 /* rules of a direction, peers, protocols, networks */
#define PRIORITY_MAX  1000
#define RULE_NAME_MAX 100

/* ---- helpers ---- */

/* The one member that is there, of those in names, and its place in names; -1 and a problem where
 * there are none or several. */
static int read_one_of(struct reader *reader, const struct json_node *at, const char *const *names,
		       size_t count, struct json_node *ret_child)
{
	char text[128] = "";
	size_t used = 0;
	int found = -1;
	size_t seen = 0;

	if (!read_required(reader, at))
		return -1;
	if (!read_is_object(reader, at))
		return -1;
	read_known_fields(reader, at, names, count);
	for (size_t i = 0; i < count; i++) {
		struct json_node child = json_member(at, names[i]);

		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s",
					 !i               ? ""
					 : i + 1 == count ? " or "
							  : ", ",
					 names[i]);
		if (!child.value)
			continue;
		*ret_child = child;
		found = (int)i;
		seen++;
	}
	if (seen == 1)
		return found;
	reader_error(reader, at, "%s of %s is needed", seen ? "only one" : "one", text);
	return -1;
}

/* Whether it is a list of 1 to ITEMS_MAX items; absent ones are no problem unless required. */
static bool read_is_short_list(struct reader *reader, const struct json_node *at, bool required)
{
	int count;

	if (!at->value && required)
		reader_missing(reader, at);
	if (!read_is_array(reader, at))
		return false;
	count = cJSON_GetArraySize(at->value);
	if (count == 0)
		reader_error(reader, at, "an empty list; at least one item is needed");
	else if (count > ITEMS_MAX)
		reader_error(reader, at, "%d items, where at most %d are allowed", count,
			     ITEMS_MAX);
	return count > 0;
}

/* Reads one of these words.  Returns its number, or -1 and a problem. */
static int read_word(struct reader *reader, const struct json_node *at, const char *const *words,
		     size_t count, const char *wanted)
{
	const char *text = read_string(reader, at);

	if (!at->value)
		reader_missing(reader, at);
	if (!text)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(text, words[i]) == 0)
			return (int)i;
	}
	reader_error(reader, at, "\"%s\" is not %s", text, wanted);
	return -1;
}

/* ---- subjects and peers ---- */

static void read_namespaced_pod(struct reader *reader, const struct json_node *at,
				struct selector *namespaces, struct selector *pods)
{
	struct json_node namespace_selector = json_member(at, "namespaceSelector");
	struct json_node pod_selector = json_member(at, "podSelector");

	if (!read_is_object(reader, at))
		return;
	KNOWN(reader, at, "namespaceSelector", "podSelector");
	read_required(reader, &pod_selector);
	read_selector(reader, &namespace_selector, namespaces);
	read_selector(reader, &pod_selector, pods);
}

static void read_subject(struct reader *reader, const struct json_node *at,
			 struct cluster_policy_object *policy)
{
	static const char *const names[] = { "namespaces", "pods" };
	struct json_node child;
	int which = read_one_of(reader, at, names, ARRAY_SIZE(names), &child);

	if (which == 0)
		read_selector(reader, &child, &policy->namespaces);
	else if (which == 1)
		read_namespaced_pod(reader, &child, &policy->namespaces, &policy->pods);
}

/* Whether the same text stands before it in the list. */
static bool is_repeated(const cJSON *list, const cJSON *item)
{
	const char *text = cJSON_GetStringValue(item);
	const cJSON *json;

	cJSON_ArrayForEach (json, list) {
		const char *other = cJSON_GetStringValue(json);

		if (json == item)
			return false;
		if (text && other && strcmp(text, other) == 0)
			return true;
	}
	return false;
}

static void read_networks(struct reader *reader, const struct json_node *at,
			  struct policy_rule *rule)
{
	const cJSON *json;
	size_t index = 0;

	if (!read_is_short_list(reader, at, true))
		return;
	cJSON_ArrayForEach (json, at->value) {
		struct json_node child = json_element(at, json, index++);
		struct policy_peer *peer = &rule->peers[rule->peer_count];

		if (is_repeated(at->value, json))
			reader_error(reader, &child, "the same network twice");
		if (!read_cidr(reader, &child, &peer->cidr, &peer->host_bits))
			continue;
		peer->is_block = true;
		rule->peer_count++;
	}
}

enum peer_field { PEER_NAMESPACES, PEER_PODS, PEER_NODES, PEER_NETWORKS, PEER_DOMAIN_NAMES };

static const char *const peer_fields[] = { "namespaces", "pods", "nodes", "networks",
					   "domainNames" };

static void read_cluster_peer(struct reader *reader, const struct json_node *at, bool egress,
			      struct policy_rule *rule)
{
	struct policy_peer *peer = &rule->peers[rule->peer_count];
	size_t fields = egress ? ARRAY_SIZE(peer_fields) : PEER_NODES;
	struct json_node child;
	int which = read_one_of(reader, at, peer_fields, fields, &child);

	switch (which) {
	case PEER_NAMESPACES:
		peer->namespaces = read_selector_kept(reader, &child);
		break;
	case PEER_PODS:
		peer->namespaces = xcalloc(1, sizeof(*peer->namespaces));
		peer->pods = xcalloc(1, sizeof(*peer->pods));
		read_namespaced_pod(reader, &child, peer->namespaces, peer->pods);
		break;
	case PEER_NODES:
		peer->nodes = read_selector_kept(reader, &child);
		break;
	case PEER_NETWORKS:
		read_networks(reader, &child, rule);
		return;
	case PEER_DOMAIN_NAMES:
		reader_error(reader, &child, "not supported: names are not resolved; use networks");
		return;
	default:
		return;
	}
	rule->peer_count++;
}

/* Networks become one peer each. */
static size_t peers_count(const cJSON *peers)
{
	const cJSON *json;
	size_t count = 0;

	cJSON_ArrayForEach (json, peers) {
		const cJSON *networks =
			cJSON_GetObjectItemCaseSensitive(json, peer_fields[PEER_NETWORKS]);

		count += 1 + (size_t)cJSON_GetArraySize(networks);
	}
	return count;
}

static void read_cluster_peers(struct reader *reader, const struct json_node *at, bool egress,
			       struct policy_rule *rule)
{
	const cJSON *json;
	size_t index = 0;

	if (!read_is_short_list(reader, at, true))
		return;
	rule->peers = xcalloc(peers_count(at->value), sizeof(*rule->peers));
	cJSON_ArrayForEach (json, at->value) {
		struct json_node child = json_element(at, json, index++);

		read_cluster_peer(reader, &child, egress, rule);
	}
}

/* ---- protocols ---- */

static void read_range(struct reader *reader, const struct json_node *at, struct policy_port *port)
{
	struct json_node start = json_member(at, "start");
	struct json_node end = json_member(at, "end");

	if (!read_is_object(reader, at))
		return;
	KNOWN(reader, at, "start", "end");
	read_required(reader, &start);
	read_required(reader, &end);
	port->port_min = read_port(reader, &start);
	port->port_max = read_port(reader, &end);
	if (port->port_min && port->port_max && port->port_max <= port->port_min)
		reader_error(reader, &end, "%u is not above start %u", port->port_max,
			     port->port_min);
}

static void read_destination_port(struct reader *reader, const struct json_node *at,
				  struct policy_port *port)
{
	static const char *const names[] = { "number", "range" };
	struct json_node child;
	int which = read_one_of(reader, at, names, ARRAY_SIZE(names), &child);

	if (which == 0)
		port->port_min = port->port_max = read_port(reader, &child);
	else if (which == 1)
		read_range(reader, &child, port);
}

/* Whether the rule may name ports: only pods have port names. */
static bool rule_has_addresses(const struct policy_rule *rule)
{
	for (size_t i = 0; i < rule->peer_count; i++) {
		if (rule->peers[i].is_block || rule->peers[i].nodes)
			return true;
	}
	return false;
}

static void read_protocol(struct reader *reader, const struct json_node *at,
			  struct policy_rule *rule)
{
	static const char *const names[] = { "tcp", "udp", "sctp", "destinationNamedPort" };
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
	struct policy_port *port = &rule->ports[rule->port_count++];
	struct json_node child;
	struct json_node destination;
	int which = read_one_of(reader, at, names, ARRAY_SIZE(names), &child);

	if (which < 0)
		return;
	if ((size_t)which < ARRAY_SIZE(protos)) {
		port->proto = protos[which];
		destination = json_member(&child, "destinationPort");
		if (!read_is_object(reader, &child))
			return;
		KNOWN(reader, &child, "destinationPort");
		read_destination_port(reader, &destination, port);
		return;
	}
	if (!read_string(reader, &child))
		return;
	port->name = read_port_name(reader, &child);
	if (rule_has_addresses(rule))
		reader_error(reader, &child,
			     "only pods have port names, and the rule has networks or nodes");
}

static void read_protocols(struct reader *reader, const struct json_node *at,
			   struct policy_rule *rule)
{
	const cJSON *json;
	size_t index = 0;

	if (!read_is_short_list(reader, at, false))
		return;
	rule->ports = xcalloc((size_t)cJSON_GetArraySize(at->value), sizeof(*rule->ports));
	cJSON_ArrayForEach (json, at->value) {
		struct json_node child = json_element(at, json, index++);

		read_protocol(reader, &child, rule);
	}
}

/* ---- rules ---- */

static void read_cluster_rule(struct reader *reader, const struct json_node *at, bool egress,
			      struct policy_rule *rule)
{
	static const char *const actions[] = {
		[ACTION_ACCEPT] = "Accept",
		[ACTION_DENY] = "Deny",
		[ACTION_PASS] = "Pass",
	};
	const char *const known[] = { "name", "action", egress ? "to" : "from", "protocols" };
	struct json_node name = json_member(at, known[0]);
	struct json_node action = json_member(at, known[1]);
	struct json_node peers = json_member(at, known[2]);
	struct json_node protocols = json_member(at, known[3]);
	const char *text;
	int which;

	if (!at->value || cJSON_IsNull(at->value)) {
		reader_error(reader, at, "null is not a rule");
		return;
	}
	if (!read_is_object(reader, at))
		return;
	read_known_fields(reader, at, known, ARRAY_SIZE(known));
	text = read_string(reader, &name);
	if (text && strlen(text) > RULE_NAME_MAX)
		reader_error(reader, &name, "longer than %d characters", RULE_NAME_MAX);
	if (text && *text)
		rule->name = xstrdup(text);
	which = read_word(reader, &action, actions, ARRAY_SIZE(actions), "Accept, Deny or Pass");
	if (which >= 0)
		rule->action = (enum policy_action)which;
	read_cluster_peers(reader, &peers, egress, rule);
	read_protocols(reader, &protocols, rule);
}

static struct policy_rule *read_cluster_rules(struct reader *reader, const struct json_node *at,
					      bool egress, size_t *ret_count)
{
	struct policy_rule *rules;
	const cJSON *json;
	int count;

	if (!read_is_array(reader, at))
		return NULL;
	count = cJSON_GetArraySize(at->value);
	if (count > ITEMS_MAX)
		reader_error(reader, at, "%d items, where at most %d are allowed", count,
			     ITEMS_MAX);
	rules = xcalloc((size_t)count, sizeof(*rules));
	cJSON_ArrayForEach (json, at->value) {
		struct json_node child = json_element(at, json, *ret_count);

		read_cluster_rule(reader, &child, egress, &rules[(*ret_count)++]);
	}
	return rules;
}

/* ---- the object ---- */

static void read_priority(struct reader *reader, const struct json_node *at,
			  struct cluster_policy_object *policy)
{
	double value;

	if (!read_required(reader, at))
		return;
	if (!cJSON_IsNumber(at->value)) {
		reader_error(reader, at, "not a number from 0 to %d", PRIORITY_MAX);
		return;
	}
	value = at->value->valuedouble;
	if (!(value >= 0 && value <= PRIORITY_MAX) || value != (double)(int)value) {
		reader_error(reader, at, "%.15g is not a priority (0 to %d)", value, PRIORITY_MAX);
		return;
	}
	policy->priority = (uint16_t)value;
}

static void read_tier(struct reader *reader, const struct json_node *at,
		      struct cluster_policy_object *policy)
{
	static const char *const tiers[] = { "Admin", "Baseline" };
	int which = read_word(reader, at, tiers, ARRAY_SIZE(tiers), "Admin or Baseline");

	policy->tier = which == 1 ? TIER_BASELINE : TIER_ADMIN;
}

void read_cluster_policy(struct reader *reader, const struct json_node *root, struct object *object)
{
	struct cluster_policy_object *policy = &object->cluster_policy;
	struct json_node metadata = json_member(root, "metadata");
	struct json_node namespace = json_member(&metadata, "namespace");
	struct json_node spec = json_member(root, "spec");
	struct json_node tier = json_member(&spec, "tier");
	struct json_node priority = json_member(&spec, "priority");
	struct json_node subject = json_member(&spec, "subject");
	struct json_node ingress = json_member(&spec, "ingress");
	struct json_node egress = json_member(&spec, "egress");

	read_policy_envelope(reader, root);
	if (namespace.value)
		reader_error(reader, &namespace, "the object belongs to no namespace");
	read_required(reader, &spec);
	if (!read_is_object(reader, &spec))
		return;
	KNOWN(reader, &spec, "tier", "priority", "subject", "ingress", "egress");
	read_tier(reader, &tier, policy);
	read_priority(reader, &priority, policy);
	read_subject(reader, &subject, policy);
	policy->ingress_rules =
		read_cluster_rules(reader, &ingress, false, &policy->ingress_rule_count);
	policy->egress_rules =
		read_cluster_rules(reader, &egress, true, &policy->egress_rule_count);
	if (policy->ingress_rule_count + policy->egress_rule_count == 0)
		reader_problem(reader, &spec, PROBLEM_WARNING, "no rules: it has no effect");
}
