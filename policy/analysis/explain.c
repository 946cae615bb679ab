/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/explain.h"

#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/objects/policy.h"
#include "policy/objects/ports.h"

/* One side of a connection as a policy of one pod sees it. */
struct query {
	const struct store *store;
	const struct explain_end *subject;
	const struct explain_end *peer;
	const struct object *port_pod; /* whose port names count: the destination */
	bool unknown;                  /* the peer is a pod that is not known */
	enum direction direction;
	uint8_t proto;
	uint16_t port;
};

/* Pods in the host's network are their node, and a terminated pod's address is nobody's. */
static const struct object *end_pod(const struct explain_end *end)
{
	if (!end->pod || end->pod->pod.host_network || end->pod->pod.terminated)
		return NULL;
	return end->pod;
}

/* ---- does a rule match ---- */

static bool block_matches(const struct policy_peer *peer, const struct explain_end *end)
{
	if (!end->has_addr || !prefix_contains(&peer->cidr, &end->addr))
		return false;
	for (size_t i = 0; i < peer->except_count; i++) {
		if (prefix_contains(&peer->except[i], &end->addr))
			return false;
	}
	return true;
}

/* The node whose status has the address; of two such nodes, the first by name. */
static const struct object *node_with_address(const struct store *store, const struct addr *addr)
{
	for (const struct object *object = store_first(store, OBJECT_NODE); object;
	     object = store_next(store, object)) {
		for (size_t i = 0; i < object->node.address_count; i++) {
			if (addr_equal(&object->node.addresses[i], addr))
				return object;
		}
	}
	return NULL;
}

static bool pod_cidrs_contain(const struct store *store, const struct addr *addr)
{
	for (const struct object *object = store_first(store, OBJECT_NODE); object;
	     object = store_next(store, object)) {
		for (size_t i = 0; i < object->node.pod_cidr_count; i++) {
			if (prefix_contains(&object->node.pod_cidrs[i], addr))
				return true;
		}
	}
	return false;
}

bool explain_is_unknown_pod(const struct store *store, const struct explain_end *end)
{
	return !end_pod(end) && end->has_addr && !end->is_host &&
	       pod_cidrs_contain(store, &end->addr) && !node_with_address(store, &end->addr);
}

static bool nodes_match(const struct query *query, const struct selector *selector)
{
	const struct explain_end *end = query->peer;
	const struct object *node =
		end_pod(end) || !end->has_addr ? NULL : node_with_address(query->store, &end->addr);

	return node && selector_matches(selector, &node->node.labels);
}

static bool peer_matches(const struct query *query, const struct object *policy,
			 const struct policy_peer *peer)
{
	const struct object *pod = end_pod(query->peer);

	if (peer->is_block)
		return block_matches(peer, query->peer);
	if (peer->nodes)
		return nodes_match(query, peer->nodes);
	if (!pod)
		return false;
	if (peer->namespaces) {
		if (!namespace_selected(query->store, pod->namespace, peer->namespaces))
			return false;
	} else if (strcmp(pod->namespace, policy->namespace) != 0) {
		return false;
	}
	return !peer->pods || selector_matches(peer->pods, &pod->pod.labels);
}

static bool port_matches(const struct query *query, const struct policy_port *port)
{
	const struct object *pod = query->port_pod;
	uint16_t number;

	if (port->proto && port->proto != query->proto)
		return false;
	if (port->name) {
		number = pod ? named_port_find(pod->pod.ports, pod->pod.port_count, query->proto,
					       port->name)
			     : 0;
		return number && number == query->port;
	}
	return port->port_min == 0 ||
	       (port->port_min <= query->port && query->port <= port->port_max);
}

/* Whether the rule matches, or might, if the peer were known. */
static bool rule_may_match(const struct query *query, const struct object *policy,
			   const struct policy_rule *rule)
{
	bool peer = rule->peer_count == 0;
	bool port = rule->port_count == 0;

	for (size_t i = 0; i < rule->peer_count && !peer; i++)
		peer = (!rule->peers[i].is_block && !rule->peers[i].nodes) ||
		       peer_matches(query, policy, &rule->peers[i]);
	for (size_t i = 0; i < rule->port_count && !port; i++)
		port = rule->ports[i].name && query->direction == DIR_EGRESS
			       ? proto_has_ports(query->proto) &&
					 (!rule->ports[i].proto ||
					  rule->ports[i].proto == query->proto)
			       : port_matches(query, &rule->ports[i]);
	return peer && port;
}

static bool rule_matches(const struct query *query, const struct object *policy,
			 const struct policy_rule *rule)
{
	bool peer = rule->peer_count == 0;
	bool port = rule->port_count == 0;

	for (size_t i = 0; i < rule->peer_count && !peer; i++)
		peer = peer_matches(query, policy, &rule->peers[i]);
	for (size_t i = 0; i < rule->port_count && !port; i++)
		port = port_matches(query, &rule->ports[i]);
	return peer && port;
}

/* ---- one side ---- */

static void side_add_selecting(struct explain_side *side, const struct object *policy)
{
	side->selecting = xreallocarray(side->selecting, side->selecting_count + 1,
					sizeof(const struct object *));
	side->selecting[side->selecting_count++] = policy;
}

const struct policy_rule *explain_rule_get(const struct explain_rule *rule,
					   enum direction direction)
{
	return &policy_rules(rule->policy, direction).items[rule->rule];
}

/* The first of a policy's rules that matches; false if none does.  A peer that is not known is
 * denied by what might deny it; *doubt: what it passed might send it on to the next tier. */
static bool rule_find(const struct query *query, const struct object *policy, size_t count,
		      struct explain_rule *ret_rule, bool *doubt)
{
	struct explain_rule rule = { .policy = policy };

	for (; rule.rule < count; rule.rule++) {
		const struct policy_rule *written = explain_rule_get(&rule, query->direction);
		bool matches = rule_matches(query, policy, written);

		if (!matches && query->unknown && written->action != ACTION_ACCEPT &&
		    rule_may_match(query, policy, written)) {
			matches = written->action == ACTION_DENY;
			*doubt |= !matches;
		}
		if (matches) {
			*ret_rule = rule;
			return true;
		}
	}
	return false;
}

static void side_decided(struct explain_side *side, const struct explain_rule *rule,
			 enum verdict verdict)
{
	side->verdict = verdict;
	side->reason = EXPLAIN_RULE;
	side->decided = *rule;
}

/* Asks the ClusterNetworkPolicies of one tier in order; the first rule that matches decides, or
 * passes to the next tier. */
static void side_ask_tier(const struct query *query, enum policy_tier tier,
			  struct explain_side *side, bool *ret_decided, bool *doubt)
{
	const struct object *pod = end_pod(query->subject);
	bool ingress = query->direction == DIR_INGRESS;
	size_t count = 0;
	auto_free const struct object **policies = tier_policies(query->store, tier, &count);

	*ret_decided = false;
	for (size_t i = 0; i < count; i++) {
		const struct cluster_policy_object *policy = &policies[i]->cluster_policy;
		size_t rules = ingress ? policy->ingress_rule_count : policy->egress_rule_count;
		enum policy_action action;
		struct explain_rule rule;

		if (rules == 0 ||
		    !policy_selects(query->store, policies[i], pod->namespace, &pod->pod.labels))
			continue;
		side_add_selecting(side, policies[i]);
		if (!rule_find(query, policies[i], rules, &rule, doubt))
			continue;
		action = explain_rule_get(&rule, query->direction)->action;
		if (action == ACTION_PASS) {
			side->passed[side->passed_count++] = rule;
			break;
		}
		side_decided(side, &rule, action == ACTION_ACCEPT ? VERDICT_ALLOW : VERDICT_DENY);
		*ret_decided = true;
		break;
	}
}

/* Looks for the first rule of a NetworkPolicy that allows it.  NetworkPolicies decide as soon as
 * one of them selects the subject. */
static void side_ask_policies(const struct query *query, struct explain_side *side,
			      bool *ret_decided)
{
	const struct object *pod = end_pod(query->subject);
	const struct object *const *policies;
	size_t count = store_range(query->store, OBJECT_NETWORK_POLICY, pod->namespace, &policies);
	bool ingress = query->direction == DIR_INGRESS;

	*ret_decided = false;
	for (size_t i = 0; i < count; i++) {
		const struct network_policy_object *policy = &policies[i]->policy;
		size_t rules = ingress ? policy->ingress_rule_count : policy->egress_rule_count;
		struct explain_rule rule;
		bool doubt;

		if (!(ingress ? policy->ingress : policy->egress) ||
		    !selector_matches(&policy->pods, &pod->pod.labels))
			continue;
		if (!*ret_decided) /* ClusterNetworkPolicies of the Baseline tier are not asked */
			side->selecting_count = 0;
		*ret_decided = true;
		side_add_selecting(side, policies[i]);
		if (rule_find(query, policies[i], rules, &rule, &doubt)) {
			side_decided(side, &rule, VERDICT_ALLOW);
			return;
		}
	}
	if (*ret_decided) {
		side->verdict = VERDICT_DENY;
		side->reason = EXPLAIN_NO_RULE;
	}
}

static void side_decide(const struct query *query, struct explain_side *side)
{
	bool doubt = false, last = false, decided;
	struct explain_rule accepted;

	side->peer_unknown = query->unknown;
	side_ask_tier(query, TIER_ADMIN, side, &decided, &doubt);
	if (decided && (!doubt || side->verdict == VERDICT_DENY))
		return;
	doubt = decided; /* accepted, unless a rule before that one passes it to a tier that denies
			  */
	accepted = side->decided;
	side_ask_policies(query, side, &decided);
	if (!decided)
		side_ask_tier(query, TIER_BASELINE, side, &decided, &last);
	if (doubt && (!decided || side->verdict == VERDICT_ALLOW))
		side_decided(side, &accepted, VERDICT_ALLOW);
	else if (!decided) {
		side->verdict = VERDICT_ALLOW;
		side->reason = side->selecting_count ? EXPLAIN_NO_MATCH : EXPLAIN_NO_POLICY;
	}
}

static bool ends_same(const struct explain_end *from, const struct explain_end *to)
{
	if (from->pod && from->pod == to->pod)
		return true;
	return from->has_addr && to->has_addr && addr_equal(&from->addr, &to->addr);
}

struct explanation policy_explain(const struct store *store, const struct explain_end *from,
				  const struct explain_end *to, uint8_t proto, uint16_t port)
{
	struct query egress = {
		store,      from,  to,  end_pod(to), explain_is_unknown_pod(store, to),
		DIR_EGRESS, proto, port
	};
	struct query ingress = {
		store,       to,    from, end_pod(to), explain_is_unknown_pod(store, from),
		DIR_INGRESS, proto, port
	};
	struct explanation answer = {
		.verdict = VERDICT_ALLOW,
		.egress = { .verdict = VERDICT_ALLOW, .reason = EXPLAIN_NOT_A_POD },
		.ingress = { .verdict = VERDICT_ALLOW, .reason = EXPLAIN_NOT_A_POD },
	};

	if (ends_same(from, to)) {
		answer.egress.reason = EXPLAIN_SELF;
		answer.ingress.reason = EXPLAIN_SELF;
		return answer;
	}
	if (end_pod(from))
		side_decide(&egress, &answer.egress);
	if (end_pod(to) && from->is_host)
		answer.ingress.reason = EXPLAIN_OWN_NODE;
	else if (end_pod(to))
		side_decide(&ingress, &answer.ingress);
	if (answer.egress.verdict == VERDICT_DENY || answer.ingress.verdict == VERDICT_DENY)
		answer.verdict = VERDICT_DENY;
	return answer;
}

void explanation_done(struct explanation *explanation)
{
	free(explanation->egress.selecting);
	free(explanation->ingress.selecting);
	*explanation = (struct explanation){ 0 };
}
