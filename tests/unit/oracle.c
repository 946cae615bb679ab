/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/oracle.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

/* The value at the end of the keys; NULL where one is absent or null. */
static const cJSON *at(const cJSON *json, const char *key)
{
	const cJSON *value = cJSON_GetObjectItemCaseSensitive(json, key);

	return value && !cJSON_IsNull(value) ? value : NULL;
}

static const char *text_at(const cJSON *json, const char *key, const char *otherwise)
{
	const cJSON *value = at(json, key);

	return cJSON_IsString(value) ? value->valuestring : otherwise;
}

static bool is_kind(const cJSON *object, const char *kind)
{
	return strcmp(text_at(object, "kind", ""), kind) == 0;
}

static const char *name_of(const cJSON *object)
{
	return text_at(at(object, "metadata"), "name", "");
}

static const char *namespace_of(const cJSON *object)
{
	return text_at(at(object, "metadata"), "namespace", "default");
}

/* ---- addresses ---- */

static int family_of(const char *address)
{
	return strchr(address, ':') ? AF_INET6 : AF_INET;
}

static bool same_address(const char *a, const char *b)
{
	unsigned char left[16];
	unsigned char right[16];

	return family_of(a) == family_of(b) && inet_pton(family_of(a), a, left) == 1 &&
	       inet_pton(family_of(b), b, right) == 1 &&
	       memcmp(left, right, family_of(a) == AF_INET ? 4 : 16) == 0;
}

static bool in_cidr(const char *cidr, const char *address)
{
	const char *slash = strchr(cidr, '/');
	char network[64] = "";
	unsigned char left[16];
	unsigned char right[16];
	long bits = strtol(slash + 1, NULL, 10);

	memcpy(network, cidr, (size_t)(slash - cidr));
	if (family_of(network) != family_of(address))
		return false;
	inet_pton(family_of(network), network, left);
	inet_pton(family_of(address), address, right);
	for (long bit = 0; bit < bits; bit++) {
		unsigned char mask = (unsigned char)(0x80 >> (bit % 8));

		if ((left[bit / 8] & mask) != (right[bit / 8] & mask))
			return false;
	}
	return true;
}

/* ---- pods ---- */

/* "hostNetwork pods [...] traffic is treated as node traffic"; a pod that has run to completion
 * gives its address back. */
static bool has_own_address(const cJSON *pod)
{
	const char *phase = text_at(at(pod, "status"), "phase", "Running");

	return !cJSON_IsTrue(at(at(pod, "spec"), "hostNetwork")) &&
	       strcmp(phase, "Succeeded") != 0 && strcmp(phase, "Failed") != 0;
}

static const cJSON *pod_with_address(const cJSON *objects, const char *address)
{
	const cJSON *object;
	const cJSON *ip;

	cJSON_ArrayForEach (object, objects) {
		if (!is_kind(object, "Pod") || !has_own_address(object))
			continue;
		cJSON_ArrayForEach (ip, at(at(object, "status"), "podIPs")) {
			if (same_address(text_at(ip, "ip", ""), address))
				return object;
		}
	}
	return NULL;
}

static bool is_in_pod_range(const cJSON *node, const char *address)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, at(at(node, "spec"), "podCIDRs")) {
		if (in_cidr(item->valuestring, address))
			return true;
	}
	return false;
}

static bool is_address_of_node(const cJSON *node, const char *address)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, at(at(node, "status"), "addresses")) {
		const char *type = text_at(item, "type", "");

		if ((strcmp(type, "InternalIP") == 0 || strcmp(type, "ExternalIP") == 0) &&
		    same_address(text_at(item, "address", ""), address))
			return true;
	}
	return false;
}

/* Our own rule: in the pod range of a node, an address that no Pod has is that of a pod which is
 * not known yet. */
static bool is_unknown_pod(const cJSON *objects, const char *address)
{
	bool in_range = false;
	const cJSON *object;

	if (pod_with_address(objects, address))
		return false;
	cJSON_ArrayForEach (object, objects) {
		if (!is_kind(object, "Node"))
			continue;
		if (is_address_of_node(object, address))
			return false;
		in_range = in_range || is_in_pod_range(object, address);
	}
	return in_range;
}

/* ---- label selectors ---- */

static bool in_list(const cJSON *values, const char *value)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, values) {
		if (strcmp(item->valuestring, value) == 0)
			return true;
	}
	return false;
}

/* "The requirements are ANDed."  "An empty label selector matches all objects." */
static bool selected(const cJSON *selector, const cJSON *labels)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, at(selector, "matchLabels")) {
		const char *value = text_at(labels, item->string, NULL);

		if (!value || strcmp(value, item->valuestring) != 0)
			return false;
	}
	cJSON_ArrayForEach (item, at(selector, "matchExpressions")) {
		const char *operator= text_at(item, "operator", "");
		const char *value = text_at(labels, text_at(item, "key", ""), NULL);
		const cJSON *values = at(item, "values");
		bool holds = false;

		if (strcmp(operator, "In") == 0)
			holds = value && in_list(values, value);
		else if (strcmp(operator, "NotIn") == 0)
			holds = !value || !in_list(values, value);
		else if (strcmp(operator, "Exists") == 0)
			holds = value != NULL;
		else if (strcmp(operator, "DoesNotExist") == 0)
			holds = value == NULL;
		if (!holds)
			return false;
	}
	return true;
}

static bool namespace_selected(const cJSON *objects, const cJSON *selector, const char *name)
{
	cJSON *labels = NULL;
	const cJSON *object;
	bool matches;

	cJSON_ArrayForEach (object, objects) {
		if (is_kind(object, "Namespace") && strcmp(name_of(object), name) == 0 &&
		    at(at(object, "metadata"), "labels"))
			labels = cJSON_Duplicate(at(at(object, "metadata"), "labels"), true);
	}
	if (!labels)
		labels = cJSON_CreateObject();
	cJSON_DeleteItemFromObjectCaseSensitive(labels, "kubernetes.io/metadata.name");
	cJSON_AddStringToObject(labels, "kubernetes.io/metadata.name", name);
	matches = selected(selector, labels);
	cJSON_Delete(labels);
	return matches;
}

/* ---- rules ---- */

/* NetworkPolicyPeer: "describes a peer to allow traffic to/from". */
static bool is_peer(const struct oracle_query *query, const cJSON *policy, const cJSON *peer,
		    const char *address)
{
	const cJSON *block = at(peer, "ipBlock");
	const cJSON *pod_selector = at(peer, "podSelector");
	const cJSON *namespace_selector = at(peer, "namespaceSelector");
	const cJSON *pod = pod_with_address(query->objects, address);
	const cJSON *item;

	if (block) {
		/* "except is a slice of CIDRs that should not be included within an ipBlock" */
		cJSON_ArrayForEach (item, at(block, "except")) {
			if (in_cidr(item->valuestring, address))
				return false;
		}
		return in_cidr(text_at(block, "cidr", ""), address);
	}
	if (!pod)
		return false;
	/* "Otherwise it selects the pods matching podSelector in the policy's own namespace." */
	if (!namespace_selector)
		return strcmp(namespace_of(pod), namespace_of(policy)) == 0 &&
		       selected(pod_selector, at(at(pod, "metadata"), "labels"));
	/* "If podSelector is also set, then [...] the pods matching podSelector in the namespaces
	 * selected by namespaceSelector.  Otherwise it selects all pods in the namespaces." */
	return namespace_selected(query->objects, namespace_selector, namespace_of(pod)) &&
	       (!pod_selector || selected(pod_selector, at(at(pod, "metadata"), "labels")));
}

static bool container_has_port(const cJSON *container, const char *name, const char *protocol,
			       int *ret_port)
{
	const cJSON *port;

	cJSON_ArrayForEach (port, at(container, "ports")) {
		if (strcmp(text_at(port, "name", ""), name) == 0 &&
		    strcmp(text_at(port, "protocol", "TCP"), protocol) == 0) {
			*ret_port = at(port, "containerPort")->valueint;
			return true;
		}
	}
	return false;
}

/* A named port means what the pod that receives the traffic calls so. */
static int port_by_name(const struct oracle_query *query, const char *name)
{
	const cJSON *pod = pod_with_address(query->objects, query->destination);
	const cJSON *container;
	int port = -1;

	cJSON_ArrayForEach (container, at(at(pod, "spec"), "containers")) {
		if (container_has_port(container, name, query->protocol, &port))
			return port;
	}
	cJSON_ArrayForEach (container, at(at(pod, "spec"), "initContainers")) {
		if (strcmp(text_at(container, "restartPolicy", ""), "Always") == 0 &&
		    container_has_port(container, name, query->protocol, &port))
			return port;
	}
	return -1;
}

static bool has_ports(const char *protocol)
{
	return strcmp(protocol, "TCP") == 0 || strcmp(protocol, "UDP") == 0 ||
	       strcmp(protocol, "SCTP") == 0;
}

/* NetworkPolicyPort: "If this field is not specified, this field defaults to TCP."  "If this field
 * is not provided, this matches all port names and numbers." */
static bool is_port(const struct oracle_query *query, const cJSON *entry)
{
	const cJSON *port = at(entry, "port");
	const cJSON *end = at(entry, "endPort");

	if (strcmp(text_at(entry, "protocol", "TCP"), query->protocol) != 0)
		return false;
	if (!port)
		return true;
	if (cJSON_IsString(port))
		return port_by_name(query, port->valuestring) == query->port;
	return query->port >= port->valueint &&
	       query->port <= (end ? end->valueint : port->valueint);
}

/* "If this field is empty or missing, this rule matches all sources [or ports]." */
static bool rule_allows(const struct oracle_query *query, const cJSON *policy, const cJSON *rule,
			const char *peers_name, const char *peer_address)
{
	const cJSON *peers = at(rule, peers_name);
	const cJSON *ports = at(rule, "ports");
	bool peer_fits = cJSON_GetArraySize(peers) == 0;
	bool port_fits = cJSON_GetArraySize(ports) == 0;
	const cJSON *item;

	cJSON_ArrayForEach (item, peers)
		peer_fits = peer_fits || is_peer(query, policy, item, peer_address);
	cJSON_ArrayForEach (item, ports)
		port_fits = port_fits || is_port(query, item);
	return peer_fits && port_fits;
}

/* "policyTypes [...] If this field is not specified, it will default based on the existence of
 * ingress or egress rules; policies that contain an egress section are assumed to affect egress,
 * and all policies (whether or not they contain an ingress section) are assumed to affect
 * ingress."  The API server counts an egress section from one rule on. */
static bool affects(const cJSON *policy, const char *type)
{
	const cJSON *types = at(at(policy, "spec"), "policyTypes");

	if (cJSON_GetArraySize(types) > 0)
		return in_list(types, type);
	return strcmp(type, "Ingress") == 0 ||
	       cJSON_GetArraySize(at(at(policy, "spec"), "egress")) > 0;
}

/* What one side asks about: the policies of its pod, in one direction. */
struct side {
	const struct oracle_query *query;
	const cJSON *pod;
	const char *type;       /* "Ingress" */
	const char *rules_name; /* "ingress" */
	const char *peers_name; /* "from" */
	const char *peer;       /* address */
};

/* ---- ClusterNetworkPolicy ---- */

/* A set: what is said about a pod that is not known depends on what it turns out to be. */
enum opinions { NO_OPINION = 1, ACCEPTED = 2, DENIED = 4, PASSED = 8 };

enum fit { FITS_NOT, MAY_FIT, FITS };

static enum fit fit_of(bool fits)
{
	return fits ? FITS : FITS_NOT;
}

static enum fit better(enum fit a, enum fit b)
{
	return a > b ? a : b;
}

static enum fit worse(enum fit a, enum fit b)
{
	return a < b ? a : b;
}

/* "Nodes [...] selects the nodeIPs as the peer type by matching on the IPs present in the
 * node.Status.Addresses field of the node." */
static bool is_selected_node(const struct side *side, const cJSON *selector)
{
	const cJSON *object;
	const cJSON *item;

	if (pod_with_address(side->query->objects, side->peer))
		return false;
	cJSON_ArrayForEach (object, side->query->objects) {
		if (!is_kind(object, "Node"))
			continue;
		cJSON_ArrayForEach (item, at(at(object, "status"), "addresses")) {
			const char *type = text_at(item, "type", "");

			/* Two nodes with one address: the first one speaks for it. */
			if ((strcmp(type, "InternalIP") == 0 || strcmp(type, "ExternalIP") == 0) &&
			    same_address(text_at(item, "address", ""), side->peer))
				return selected(selector, at(at(object, "metadata"), "labels"));
		}
	}
	return false;
}

/* NamespacedPod: "select a given set of pod(s) in selected namespace(s)". */
static bool is_namespaced_pod(const cJSON *objects, const cJSON *pods, const cJSON *pod)
{
	return namespace_selected(objects, at(pods, "namespaceSelector"), namespace_of(pod)) &&
	       selected(at(pods, "podSelector"), at(at(pod, "metadata"), "labels"));
}

/* "Exactly one of the fields must be set for a given peer." */
static enum fit cluster_peer_fit(const struct side *side, const cJSON *peer)
{
	const cJSON *objects = side->query->objects;
	const cJSON *pod = pod_with_address(objects, side->peer);
	const cJSON *item;

	if ((at(peer, "namespaces") || at(peer, "pods")) && is_unknown_pod(objects, side->peer))
		return MAY_FIT;
	if (at(peer, "namespaces"))
		return fit_of(pod && namespace_selected(objects, at(peer, "namespaces"),
							namespace_of(pod)));
	if (at(peer, "pods"))
		return fit_of(pod && is_namespaced_pod(objects, at(peer, "pods"), pod));
	if (at(peer, "nodes"))
		return fit_of(is_selected_node(side, at(peer, "nodes")));
	cJSON_ArrayForEach (item, at(peer, "networks")) {
		if (in_cidr(item->valuestring, side->peer))
			return FITS;
	}
	return FITS_NOT;
}

/* ClusterNetworkPolicyProtocol: "Exactly one field must be set." */
static enum fit cluster_protocol_fit(const struct oracle_query *query, const cJSON *protocol)
{
	static const char *const names[][2] = { { "tcp", "TCP" },
						{ "udp", "UDP" },
						{ "sctp", "SCTP" } };
	const char *name = text_at(protocol, "destinationNamedPort", NULL);

	if (name && is_unknown_pod(query->objects, query->destination))
		return has_ports(query->protocol) ? MAY_FIT : FITS_NOT;
	if (name)
		return fit_of(port_by_name(query, name) == query->port);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const cJSON *port = at(at(protocol, names[i][0]), "destinationPort");
		const cJSON *range = at(port, "range");

		if (!port || strcmp(names[i][1], query->protocol) != 0)
			continue;
		if (range)
			return fit_of(at(range, "start")->valueint <= query->port &&
				      query->port <= at(range, "end")->valueint);
		return fit_of(at(port, "number")->valueint == query->port);
	}
	return FITS_NOT;
}

static enum opinions rule_opinions(const struct side *side, const cJSON *rule)
{
	const cJSON *protocols = at(rule, "protocols");
	const char *action = text_at(rule, "action", "");
	enum opinions opinion = strcmp(action, "Pass") == 0     ? PASSED
				: strcmp(action, "Accept") == 0 ? ACCEPTED
								: DENIED;
	enum fit peer_fit = FITS_NOT;
	enum fit port_fit = fit_of(!protocols);
	const cJSON *item;

	cJSON_ArrayForEach (item, at(rule, side->peers_name))
		peer_fit = better(peer_fit, cluster_peer_fit(side, item));
	cJSON_ArrayForEach (item, protocols)
		port_fit = better(port_fit, cluster_protocol_fit(side->query, item));
	switch (worse(peer_fit, port_fit)) {
	case FITS:
		return opinion;
	case MAY_FIT:
		return opinion | NO_OPINION;
	case FITS_NOT:
		break;
	}
	return NO_OPINION;
}

/* "Subject defines the pods to which this ClusterNetworkPolicy applies." */
static bool is_subject(const struct side *side, const cJSON *policy)
{
	const cJSON *subject = at(at(policy, "spec"), "subject");
	const cJSON *objects = side->query->objects;

	if (at(subject, "namespaces"))
		return namespace_selected(objects, at(subject, "namespaces"),
					  namespace_of(side->pod));
	return is_namespaced_pod(objects, at(subject, "pods"), side->pod);
}

/* "A rule that appears at the top of the ingress rules would take the highest precedence." */
static enum opinions policy_opinions(const struct side *side, const cJSON *policy)
{
	enum opinions opinions = NO_OPINION;
	const cJSON *rule;

	if (!is_subject(side, policy))
		return opinions;
	cJSON_ArrayForEach (rule, at(at(policy, "spec"), side->rules_name)) {
		opinions = (opinions & ~NO_OPINION) | rule_opinions(side, rule);
		if (!(opinions & NO_OPINION))
			break;
	}
	return opinions;
}

/* "Policies with lower priority values have higher precedence."  "If two (or more) policies in the
 * same tier with the same priority could match a connection, then the implementation can apply any
 * of the matching policies": ours goes by name. */
static bool goes_before(const cJSON *a, const cJSON *b)
{
	int left = at(at(a, "spec"), "priority")->valueint;
	int right = at(at(b, "spec"), "priority")->valueint;

	return left < right || (left == right && strcmp(name_of(a), name_of(b)) < 0);
}

/* The policy that is asked after one (NULL: first of all). */
static const cJSON *next_of_tier(const cJSON *objects, const char *tier, const cJSON *after)
{
	const cJSON *next = NULL;
	const cJSON *object;

	cJSON_ArrayForEach (object, objects) {
		if (is_kind(object, "ClusterNetworkPolicy") &&
		    strcmp(text_at(at(object, "spec"), "tier", ""), tier) == 0 &&
		    (!after || goes_before(after, object)) && (!next || goes_before(object, next)))
			next = object;
	}
	return next;
}

static enum opinions tier_opinions(const struct side *side, const char *tier)
{
	const cJSON *objects = side->query->objects;
	enum opinions opinions = NO_OPINION;

	for (const cJSON *policy = next_of_tier(objects, tier, NULL);
	     policy && opinions & NO_OPINION; policy = next_of_tier(objects, tier, policy))
		opinions = (opinions & ~NO_OPINION) | policy_opinions(side, policy);
	return opinions;
}

/* ---- a side ---- */

/* "Traffic is allowed to a pod if there are no NetworkPolicies selecting the pod, OR if the traffic
 * matches at least one rule across all of the NetworkPolicies whose podSelector matches the pod."
 */
static enum opinions policies_opinion(const struct side *side)
{
	const cJSON *policy;
	const cJSON *rule;
	bool isolated = false;

	cJSON_ArrayForEach (policy, side->query->objects) {
		if (!is_kind(policy, "NetworkPolicy") || !affects(policy, side->type) ||
		    strcmp(namespace_of(policy), namespace_of(side->pod)) != 0 ||
		    !selected(at(at(policy, "spec"), "podSelector"),
			      at(at(side->pod, "metadata"), "labels")))
			continue;
		isolated = true;
		cJSON_ArrayForEach (rule, at(at(policy, "spec"), side->rules_name)) {
			if (rule_allows(side->query, policy, rule, side->peers_name, side->peer))
				return ACCEPTED;
		}
	}
	return isolated ? DENIED : NO_OPINION;
}

/* "Policy tiers are evaluated in the following order: Admin tier, NetworkPolicy tier, Baseline
 * tier."  "If a given connection wasn't allowed or denied by any of the tiers, the default
 * kubernetes policy is applied, which says that all pods can communicate with each other." */
static bool side_allows(const struct side *side)
{
	enum opinions opinions = tier_opinions(side, "Admin");

	if (opinions & (NO_OPINION | PASSED))
		opinions = (opinions & ~NO_OPINION) | policies_opinion(side);
	if (opinions & NO_OPINION)
		opinions |= tier_opinions(side, "Baseline");
	return !(opinions & DENIED); /* closed while it may be one that is denied */
}

static bool is_enforced(const struct oracle_query *query, const cJSON *pod)
{
	return pod && (!query->enforced || query->enforced(pod, query->arg));
}

enum oracle_answer oracle_ask(const struct oracle_query *query)
{
	const cJSON *source = pod_with_address(query->objects, query->source);
	const cJSON *destination = pod_with_address(query->objects, query->destination);
	const struct side egress = { query, source, "Egress", "egress", "to", query->destination };
	const struct side ingress = { query,     destination, "Ingress",
				      "ingress", "from",      query->source };

	/* "A Pod cannot block access to itself."  "A Pod connecting to its own Pod IP is not
	 * subject to CNP." */
	if (same_address(query->source, query->destination) || (source && source == destination))
		return ORACLE_ALLOWED;
	if (is_enforced(query, source) && !side_allows(&egress))
		return ORACLE_EGRESS_DENIED;
	/* "OR if the traffic source is the pod's local node" */
	if (query->source_is_node)
		return ORACLE_ALLOWED;
	if (is_enforced(query, destination) && !side_allows(&ingress))
		return ORACLE_INGRESS_DENIED;
	return ORACLE_ALLOWED;
}
