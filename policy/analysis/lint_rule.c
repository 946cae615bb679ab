/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of single rules, their peers and their ports. */
#include <stdio.h>
#include <string.h>

#include "policy/analysis/lint_checks.h"
#include "policy/analysis/subsume.h"
#include "policy/objects/ports.h"

static const char *peers_field(const struct rule_ref *at)
{
	return at->direction == DIR_INGRESS ? "from" : "to";
}

/* Several networks of a ClusterNetworkPolicy are one peer as written, so that its number is not
 * ours: the rule is named then. */
static const char *peer_path(const struct rule_ref *at, size_t peer, char *buf)
{
	if (at->policy->kind == OBJECT_CLUSTER_POLICY)
		return rule_path(at, buf);
	return rule_part_path(at, peers_field(at), peer, buf);
}

/* ---- peers ---- */

/* Labels that contradict each other; true if there was something to say. */
static bool check_contradiction(struct linter *linter, const struct rule_ref *at,
				const struct policy_peer *peer, const char *path)
{
	const struct selector *selectors[] = { peer->pods, peer->namespaces, peer->nodes };

	for (size_t i = 0; i < sizeof(selectors) / sizeof(selectors[0]); i++) {
		const char *key = selectors[i] ? selector_contradiction(selectors[i]) : NULL;

		if (!key)
			continue;
		finding_add(linter, LINT_NEVER_MATCHES, at->policy, path, NULL, NULL,
			    "its terms for the label \"%s\" contradict each other", key);
		return true;
	}
	return false;
}

static void check_peer_selects(struct linter *linter, const struct rule_ref *at,
			       const struct policy_peer *peer, const char *path)
{
	size_t i = 0;

	if (peer->nodes || linter->pod_count == 0)
		return;
	while (i < linter->pod_count &&
	       !lint_peer_selects(linter, at->policy, peer, linter->pods[i]))
		i++;
	if (i == linter->pod_count)
		finding_add(linter, LINT_PEER_SELECTS_NOTHING, at->policy, path, NULL, NULL,
			    "no pod of the inventory is selected%s",
			    !peer->namespaces ? " in the policy's own namespace" : "");
}

static void check_block(struct linter *linter, const struct rule_ref *at,
			const struct policy_peer *peer, const char *path)
{
	char cidr[ADDR_TEXT_MAX];

	prefix_format(&peer->cidr, cidr);
	if (peer->host_bits)
		finding_add(linter, LINT_CIDR_HOST_BITS, at->policy, path, NULL, NULL,
			    "a CIDR has bits beyond its length%s%s",
			    peer->except_count ? "" : "; it means ",
			    peer->except_count ? "" : cidr);
	if (block_is_empty(peer))
		finding_add(linter, LINT_EXCEPT_REMOVES_ALL, at->policy, path, NULL, NULL,
			    "its exceptions remove all of %s", cidr);
	else if (rule_ref_get(at)->action == ACTION_ACCEPT && peer->except_count == 0 &&
		 (peer->cidr.len == 0 || (addr_is_v4(&peer->cidr.addr) && peer->cidr.len == 96)))
		finding_add(linter, LINT_ALLOWS_ALL_ADDRESSES, at->policy, path, NULL, NULL,
			    "%s is every address there is", cidr);
}

static void check_peer(struct linter *linter, const struct rule_ref *at, size_t number)
{
	const struct policy_peer *peer = &rule_ref_get(at)->peers[number];
	char path[LINT_PATH_MAX];

	peer_path(at, number, path);
	if (peer->is_block) {
		check_block(linter, at, peer, path);
		return;
	}
	if (check_contradiction(linter, at, peer, path))
		return;
	check_peer_selects(linter, at, peer, path);
	if (rule_ref_get(at)->action == ACTION_ACCEPT && peer->namespaces &&
	    peer->namespaces->count == 0 && (!peer->pods || peer->pods->count == 0))
		finding_add(linter, LINT_ALLOWS_ALL_PODS, at->policy, path, NULL, NULL,
			    "empty selectors: every pod of every namespace");
}

/* ---- ports ---- */

/* Whether the destinations of the rule have a port of that name: with its protocol, or another. */
static void name_find(const struct linter *linter, const struct rule_ref *at,
		      const struct policy_port *port, bool *ret_any, bool *ret_found,
		      bool *ret_other)
{
	for (size_t p = 0; p < linter->pod_count; p++) {
		const struct object *pod = linter->pods[p];
		bool destination = at->direction == DIR_INGRESS
					   ? lint_policy_selects(linter, at->policy, pod)
					   : rule_ref_get(at)->peer_count == 0;

		for (size_t i = 0; at->direction == DIR_EGRESS && i < rule_ref_get(at)->peer_count;
		     i++) {
			const struct policy_peer *peer = &rule_ref_get(at)->peers[i];

			/* A block may be the addresses of any pod. */
			destination |=
				peer->is_block || lint_peer_selects(linter, at->policy, peer, pod);
		}
		*ret_any |= destination;
		for (size_t i = 0; destination && i < pod->pod.port_count; i++) {
			if (strcmp(pod->pod.ports[i].name, port->name) != 0)
				continue;
			*ret_found |= pod->pod.ports[i].proto == port->proto;
			*ret_other |= pod->pod.ports[i].proto != port->proto;
		}
	}
}

static void check_port_name(struct linter *linter, const struct rule_ref *at,
			    const struct policy_port *port, const char *path)
{
	bool any = false, found = false, other = false;

	name_find(linter, at, port, &any, &found, &other);
	if (any && !found)
		finding_add(linter, LINT_UNKNOWN_PORT_NAME, at->policy, path, NULL, NULL,
			    "no pod %s has a %s port \"%s\"%s",
			    at->direction == DIR_INGRESS ? "that the policy selects"
							 : "that the rule lets out to",
			    proto_name(port->proto), port->name,
			    other ? ", only one of another protocol" : "");
}

static void check_port(struct linter *linter, const struct rule_ref *at, size_t number)
{
	const struct policy_port *port = &rule_ref_get(at)->ports[number];
	char path[LINT_PATH_MAX];

	/* Peers of a ClusterNetworkPolicy have another shape: only the rule is named. */
	if (at->policy->kind == OBJECT_CLUSTER_POLICY)
		rule_path(at, path);
	else
		rule_part_path(at, "ports", number, path);
	if (port->name)
		check_port_name(linter, at, port, path);
	if (port->ranged && port->port_min == port->port_max)
		finding_add(linter, LINT_ENDPORT_ODD, at->policy, path, NULL, NULL,
			    "endPort is port, %u: leave it out", port->port_min);
	if (port->ranged && port->port_min == 1 && port->port_max == PORT_ANY_MAX)
		finding_add(linter, LINT_ENDPORT_ODD, at->policy, path, NULL, NULL,
			    "1 to 65535 is every port of %s: leave port and endPort out",
			    proto_name(port->proto));
	for (size_t i = 0; i < rule_ref_get(at)->port_count; i++) {
		const struct policy_port *other = &rule_ref_get(at)->ports[i];

		if (i == number || !ports_subsume(other, port) ||
		    (i > number && ports_subsume(port, other)))
			continue;
		finding_add(linter, LINT_PORT_REPEATED, at->policy, path, NULL, NULL,
			    "entry %zu of the rule has it already", i);
		break;
	}
}

/* ---- rules ---- */

static void check_rule(struct linter *linter, const struct rule_ref *at)
{
	const struct policy_rule *rule = rule_ref_get(at);
	char path[LINT_PATH_MAX];

	rule_path(at, path);
	if (rule->peer_count == 0 && rule->port_count == 0)
		finding_add(
			linter, LINT_ALLOWS_EVERYTHING, at->policy, path, NULL, NULL,
			"everyone, on every port: the policy does not isolate in this direction");
	else if (rule->peer_count == 0)
		finding_add(linter, LINT_ALLOWS_EVERYONE, at->policy, path, NULL, NULL,
			    "no \"%s\": its ports are open %s everyone", peers_field(at),
			    at->direction == DIR_INGRESS ? "to" : "towards");
	for (size_t i = 0; i < rule->peer_count; i++)
		check_peer(linter, at, i);
	for (size_t i = 0; i < rule->port_count; i++)
		check_port(linter, at, i);
}

void lint_rules(struct linter *linter, const struct object *policy)
{
	for (size_t direction = 0; direction < 2; direction++) {
		struct rule_ref at = rule_ref_first(policy, (enum direction)direction);
		char path[LINT_PATH_MAX];

		if (!at.rules.in_force && at.rules.count) {
			snprintf(path, sizeof(path), "spec.%s", direction_name(at.direction));
			finding_add(linter, LINT_VOID_RULES, policy, path, NULL, NULL,
				    "policyTypes does not name this direction: %zu rule%s ignored",
				    at.rules.count, at.rules.count > 1 ? "s" : "");
			continue;
		}
		for (; at.number < at.rules.count; at.number++)
			check_rule(linter, &at);
	}
}
