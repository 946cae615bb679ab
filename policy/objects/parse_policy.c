/* SPDX-License-Identifier: Apache-2.0 */
/*
 * networking.k8s.io/v1 NetworkPolicy.  Here every field must be known and every value right: a
 * policy read differently from how it was meant is a hole or an outage.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/objects/name.h"
#include "policy/objects/reader.h"

/* ---- peers ---- */

bool read_cidr(struct reader *reader, const struct json_node *at, struct prefix *ret_prefix,
	       bool *ret_host_bits)
{
	const char *text = read_string(reader, at);
	char buf[ADDR_TEXT_MAX];
	char address[ADDR_TEXT_MAX];
	struct addr addr;
	size_t len;

	if (!read_required(reader, at) || !text)
		return false;
	if (prefix_parse(text, ret_prefix) < 0) {
		reader_error(reader, at, "\"%s\" is not a CIDR such as 10.0.0.0/8 or fd00::/8",
			     text);
		return false;
	}
	len = strcspn(text, "/");
	memcpy(address, text, len);
	address[len] = '\0';
	*ret_host_bits = addr_parse(address, &addr) == 0 && !addr_equal(&addr, &ret_prefix->addr);
	if (*ret_host_bits)
		reader_problem(reader, at, PROBLEM_WARNING, "\"%s\" means %s", text,
			       prefix_format(ret_prefix, buf));
	return true;
}

static void read_block(struct reader *reader, const struct json_node *at, struct policy_peer *peer)
{
	struct json_node cidr = json_member(at, "cidr");
	struct json_node except = json_member(at, "except");
	const cJSON *json;
	size_t index = 0;
	bool known;

	peer->is_block = true;
	if (!read_is_object(reader, at))
		return;
	KNOWN(reader, at, "cidr", "except");
	known = read_cidr(reader, &cidr, &peer->cidr, &peer->host_bits);
	if (!read_is_array(reader, &except))
		return;
	peer->except = xcalloc((size_t)cJSON_GetArraySize(except.value), sizeof(*peer->except));
	cJSON_ArrayForEach (json, except.value) {
		struct json_node child = json_element(&except, json, index++);
		struct prefix *hole = &peer->except[peer->except_count];
		bool host_bits;

		if (!read_cidr(reader, &child, hole, &host_bits))
			continue;
		peer->host_bits |= host_bits;
		peer->except_count++;
		if (known &&
		    (hole->len <= peer->cidr.len || !prefix_contains(&peer->cidr, &hole->addr)))
			reader_error(reader, &child, "\"%s\" does not lie inside cidr",
				     cJSON_GetStringValue(json));
	}
}

static void read_peer(struct reader *reader, const struct json_node *at, struct policy_peer *peer)
{
	struct json_node block = json_member(at, "ipBlock");
	struct json_node pods = json_member(at, "podSelector");
	struct json_node namespaces = json_member(at, "namespaceSelector");

	if (!read_is_object(reader, at))
		return;
	KNOWN(reader, at, "ipBlock", "podSelector", "namespaceSelector");
	if (!block.value && !pods.value && !namespaces.value)
		reader_error(reader, at,
			     "matches nobody: ipBlock, podSelector or namespaceSelector is needed");
	if (block.value && (pods.value || namespaces.value))
		reader_error(reader, at, "ipBlock cannot go together with selectors");
	if (block.value)
		read_block(reader, &block, peer);
	peer->pods = read_selector_kept(reader, &pods);
	peer->namespaces = read_selector_kept(reader, &namespaces);
}

/* ---- ports ---- */

char *read_port_name(struct reader *reader, const struct json_node *at)
{
	const char *text = cJSON_GetStringValue(at->value);
	const char *wanted = name_check_port(text);
	uint64_t number;

	if (number_parse(text, 0, UINT64_MAX, &number) == 0)
		reader_error(reader, at, "\"%s\" is a string: a port number has no quotes", text);
	else if (wanted)
		reader_error(reader, at, "\"%s\" is not a port name: %s", text, wanted);
	return xstrdup(text);
}

static void read_policy_port(struct reader *reader, const struct json_node *at,
			     struct policy_port *port)
{
	struct json_node proto = json_member(at, "protocol");
	struct json_node number = json_member(at, "port");
	struct json_node end = json_member(at, "endPort");

	if (!read_is_object(reader, at))
		return;
	KNOWN(reader, at, "protocol", "port", "endPort");
	port->proto = read_proto(reader, &proto);
	if (cJSON_IsString(number.value))
		port->name = read_port_name(reader, &number);
	else
		port->port_min = read_port(reader, &number);
	port->port_max = port->port_min;
	if (!end.value)
		return;
	if (!number.value || port->name) {
		reader_error(reader, &end, "needs a numeric port");
		return;
	}
	port->ranged = true;
	port->port_max = read_port(reader, &end);
	if (port->port_max && port->port_min && port->port_max < port->port_min)
		reader_error(reader, &end, "%u is below port %u", port->port_max, port->port_min);
}

/* ---- rules ---- */

static void read_rule(struct reader *reader, const struct json_node *at, const char *peers_name,
		      struct policy_rule *rule)
{
	struct json_node peers = json_member(at, peers_name);
	struct json_node ports = json_member(at, "ports");
	const char *const known[] = { peers_name, "ports" };
	const cJSON *json;

	/* Kubernetes would take a null rule for an empty one, which allows everything. */
	if (!at->value || cJSON_IsNull(at->value)) {
		reader_error(reader, at, "null is not a rule; {} allows everything");
		return;
	}
	if (!read_is_object(reader, at))
		return;
	read_known_fields(reader, at, known, ARRAY_SIZE(known));
	if (read_is_array(reader, &peers)) {
		rule->peers =
			xcalloc((size_t)cJSON_GetArraySize(peers.value), sizeof(*rule->peers));
		cJSON_ArrayForEach (json, peers.value) {
			struct json_node child = json_element(&peers, json, rule->peer_count);

			read_peer(reader, &child, &rule->peers[rule->peer_count++]);
		}
	}
	if (read_is_array(reader, &ports)) {
		rule->ports =
			xcalloc((size_t)cJSON_GetArraySize(ports.value), sizeof(*rule->ports));
		cJSON_ArrayForEach (json, ports.value) {
			struct json_node child = json_element(&ports, json, rule->port_count);

			read_policy_port(reader, &child, &rule->ports[rule->port_count++]);
		}
	}
}

static struct policy_rule *read_rules(struct reader *reader, const struct json_node *at,
				      const char *peers_name, size_t *ret_count)
{
	struct policy_rule *rules;
	const cJSON *json;

	if (!read_is_array(reader, at))
		return NULL;
	rules = xcalloc((size_t)cJSON_GetArraySize(at->value), sizeof(*rules));
	cJSON_ArrayForEach (json, at->value) {
		struct json_node child = json_element(at, json, *ret_count);

		read_rule(reader, &child, peers_name, &rules[(*ret_count)++]);
	}
	return rules;
}

/* policyTypes absent or empty: Ingress always, Egress if there are egress rules; as the API server
 * fills it in. */
static void read_policy_types(struct reader *reader, const struct json_node *spec,
			      struct network_policy_object *policy)
{
	struct json_node types = json_member(spec, "policyTypes");
	struct json_node egress = json_member(spec, "egress");
	const cJSON *json;
	size_t index = 0;

	if (!read_is_array(reader, &types) || cJSON_GetArraySize(types.value) == 0) {
		policy->ingress = true;
		policy->egress = policy->egress_rule_count > 0;
		if (cJSON_IsArray(egress.value) && !policy->egress)
			reader_problem(reader, &egress, PROBLEM_WARNING_AT_KEY,
				       "an empty list without policyTypes isolates nothing; "
				       "policyTypes: [Egress] would");
		return;
	}
	cJSON_ArrayForEach (json, types.value) {
		struct json_node child = json_element(&types, json, index++);
		const char *text = read_string(reader, &child);

		if (!text)
			continue;
		if (strcmp(text, "Ingress") == 0)
			policy->ingress = true;
		else if (strcmp(text, "Egress") == 0)
			policy->egress = true;
		else
			reader_error(reader, &child, "\"%s\" is not Ingress or Egress", text);
	}
	if (index > 2)
		reader_error(reader, &types, "more than two types");
}

static void warn_ignored(struct reader *reader, const struct json_node *rules, bool in_force,
			 const char *type)
{
	if (!in_force && cJSON_GetArraySize(rules->value) > 0)
		reader_problem(reader, rules, PROBLEM_WARNING_AT_KEY,
			       "ignored, because policyTypes does not say %s", type);
}

void read_policy_envelope(struct reader *reader, const struct json_node *root)
{
	struct json_node metadata = json_member(root, "metadata");

	KNOWN(reader, root, "apiVersion", "kind", "metadata", "spec", "status");
	if (metadata.value)
		KNOWN(reader, &metadata, "name", "namespace", "uid", "labels", "annotations",
		      "creationTimestamp", "generation", "resourceVersion", "managedFields",
		      "ownerReferences", "finalizers", "generateName", "selfLink",
		      "deletionTimestamp", "deletionGracePeriodSeconds", "clusterName");
}

void read_policy(struct reader *reader, const struct json_node *root, struct object *object)
{
	struct network_policy_object *policy = &object->policy;
	struct json_node spec = json_member(root, "spec");
	struct json_node pods = json_member(&spec, "podSelector");
	struct json_node ingress = json_member(&spec, "ingress");
	struct json_node egress = json_member(&spec, "egress");

	read_policy_envelope(reader, root);
	if (!spec.value)
		reader_problem(reader, root, PROBLEM_WARNING,
			       "no spec: selects every pod of its namespace and denies ingress");
	if (!read_is_object(reader, &spec)) {
		policy->ingress = true;
		return;
	}
	KNOWN(reader, &spec, "podSelector", "ingress", "egress", "policyTypes");
	read_selector(reader, &pods, &policy->pods);
	policy->ingress_rules = read_rules(reader, &ingress, "from", &policy->ingress_rule_count);
	policy->egress_rules = read_rules(reader, &egress, "to", &policy->egress_rule_count);
	read_policy_types(reader, &spec, policy);
	warn_ignored(reader, &ingress, policy->ingress, "Ingress");
	warn_ignored(reader, &egress, policy->egress, "Egress");
}
