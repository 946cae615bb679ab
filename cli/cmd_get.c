/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plain views of the agent: endpoints, services, identities, connections, policies.  Each is
 * a path of the API and the columns of a table.
 */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/output.h"
#include "lib/auto.h"
#include "lib/inet.h"

#define NAME_MAX_LEN 254

/* A column that shows one member as it is. */
#define MEMBER_COLUMN(function, name)                                    \
	static void fill_##function(const cJSON *row, struct cell *cell) \
	{                                                                \
		output_member(row, name, cell);                          \
	}
MEMBER_COLUMN(slot, "slot")
MEMBER_COLUMN(addresses, "addresses")
MEMBER_COLUMN(identity, "identity")
MEMBER_COLUMN(labels, "labels")
MEMBER_COLUMN(mac, "mac")
MEMBER_COLUMN(host_interface, "hostInterface")
MEMBER_COLUMN(container, "containerId")
MEMBER_COLUMN(accelerate, "accelerate")
MEMBER_COLUMN(audit, "audit")
MEMBER_COLUMN(id, "id")
MEMBER_COLUMN(description, "description")
MEMBER_COLUMN(proto, "proto")
MEMBER_COLUMN(age, "ageSeconds")
MEMBER_COLUMN(connection_state, "state")
MEMBER_COLUMN(cluster_ips, "clusterIPs")
MEMBER_COLUMN(source_file, "source")
MEMBER_COLUMN(policy_types, "policyTypes")
MEMBER_COLUMN(ingress_rules, "ingressRules")
MEMBER_COLUMN(egress_rules, "egressRules")
MEMBER_COLUMN(selected, "selectedEndpoints")
MEMBER_COLUMN(protocol, "protocol")
MEMBER_COLUMN(port_name, "name")

static void fill_name(const cJSON *row, struct cell *cell)
{
	cell_set(cell, COLOUR_NONE, "%s/%s", member_text(row, "namespace", "-"),
		 member_text(row, "name", "-"));
}

/* "Admin 10"; NetworkPolicies have no priority. */
static void fill_tier(const cJSON *row, struct cell *cell)
{
	const cJSON *priority = member_get(row, "priority");

	if (cJSON_IsNumber(priority))
		cell_set(cell, COLOUR_NONE, "%s %d", member_text(row, "tier", "-"),
			 priority->valueint);
	else
		cell_set(cell, COLOUR_NONE, "%s", member_text(row, "tier", "-"));
}

static void fill_endpoint_state(const cJSON *row, struct cell *cell)
{
	output_member(row, "state", cell);
	cell->colour = strcmp(cell->text, "ready") == 0 ? COLOUR_GOOD : COLOUR_BAD;
}

static void fill_isolation(const cJSON *row, struct cell *cell)
{
	const cJSON *policy = member_get(row, "policy");
	bool ingress = strcmp(member_text(policy, "ingress", "-"), "isolated") == 0;
	bool egress = strcmp(member_text(policy, "egress", "-"), "isolated") == 0;

	cell_set(cell, ingress || egress ? COLOUR_WARN : COLOUR_NONE, "%s%s",
		 ingress && egress ? "both"
		 : ingress         ? "ingress"
		 : egress          ? "egress"
				   : "open",
		 cJSON_IsTrue(member_get(row, "audit")) ? " (audit)" : "");
}

static void fill_endpoint_policies(const cJSON *row, struct cell *cell)
{
	output_member(member_get(row, "policy"), "policies", cell);
}

static void fill_traffic(const cJSON *row, struct cell *cell)
{
	const cJSON *stats = member_get(row, "stats");
	struct cell out, in, drops, would;

	output_member(stats, "txPackets", &out);
	output_member(stats, "rxPackets", &in);
	output_member(stats, "drops", &drops);
	output_member(stats, "wouldDrops", &would);
	cell_set(cell, COLOUR_NONE, "%.40s out, %.40s in, %.40s dropped, %.40s told in audit",
		 out.text, in.text, drops.text, would.text);
}

static void fill_accelerated(const cJSON *row, struct cell *cell)
{
	const cJSON *stats = member_get(row, "stats");
	struct cell connections, bytes, fallbacks;

	output_member(stats, "accelConnections", &connections);
	output_member(stats, "accelBytes", &bytes);
	output_member(stats, "accelFallbacks", &fallbacks);
	cell_set(cell, COLOUR_NONE, "%.40s connections, %.40s bytes, %.40s fallbacks",
		 connections.text, bytes.text, fallbacks.text);
}

static void format_end(const cJSON *row, const char *addr, const char *port, struct cell *cell)
{
	struct cell number;
	bool v6 = strchr(member_text(row, addr, "-"), ':');

	output_member(row, port, &number);
	cell_set(cell, COLOUR_NONE, v6 ? "[%s]:%.20s" : "%s:%.20s", member_text(row, addr, "-"),
		 number.text);
}

static void fill_source(const cJSON *row, struct cell *cell)
{
	format_end(row, "source", "sourcePort", cell);
}

static void fill_destination(const cJSON *row, struct cell *cell)
{
	format_end(row, "destination", "destinationPort", cell);
}

static void fill_frontend(const cJSON *row, struct cell *cell)
{
	format_end(row, "address", "port", cell);
}

static void fill_backends(const cJSON *row, struct cell *cell)
{
	const cJSON *backend;
	size_t used = 0;

	cell_set(cell, COLOUR_NONE, "%s", "");
	cJSON_ArrayForEach (backend, member_get(row, "backends")) {
		struct cell one;

		format_end(backend, "address", "port", &one);
		used += (size_t)snprintf(cell->text + used, sizeof(cell->text) - used, "%s%s",
					 used ? ", " : "", one.text);
		if (used >= sizeof(cell->text))
			break;
	}
	if (used == 0)
		cell_set(cell, COLOUR_WARN, "none ready");
}

static void fill_backend_count(const cJSON *row, struct cell *cell)
{
	const cJSON *frontend;
	int frontends = 0, backends = 0;

	cJSON_ArrayForEach (frontend, member_get(row, "frontends")) {
		frontends++;
		backends += cJSON_GetArraySize(member_get(frontend, "backends"));
	}
	cell_set(cell, frontends > 0 && backends == 0 ? COLOUR_WARN : COLOUR_NONE,
		 "%d frontends, %d backends", frontends, backends);
}

static const struct column endpoint_columns[] = {
	{ "POD", fill_name },
	{ "ADDRESSES", fill_addresses },
	{ "STATE", fill_endpoint_state },
	{ "ISOLATED", fill_isolation },
	{ "IDENTITY", fill_identity },
	{ "LABELS", fill_labels },
};
static const struct column endpoint_fields[] = {
	{ "Pod", fill_name },
	{ "State", fill_endpoint_state },
	{ "Slot", fill_slot },
	{ "Container", fill_container },
	{ "Host interface", fill_host_interface },
	{ "MAC", fill_mac },
	{ "Addresses", fill_addresses },
	{ "Labels", fill_labels },
	{ "Identity", fill_identity },
	{ "Isolated", fill_isolation },
	{ "Policies", fill_endpoint_policies },
	{ "Audit", fill_audit },
	{ "Packets", fill_traffic },
	{ "Accelerate", fill_accelerate },
	{ "Accelerated", fill_accelerated },
};
static const struct column service_columns[] = { { "SERVICE", fill_name },
						 { "CLUSTER IPS", fill_cluster_ips },
						 { "BEHIND IT", fill_backend_count } };
static const struct column frontend_columns[] = { { "FRONTEND", fill_frontend },
						  { "PROTOCOL", fill_protocol },
						  { "PORT", fill_port_name },
						  { "BACKENDS", fill_backends } };
static const struct column identity_columns[] = { { "IDENTITY", fill_id },
						  { "WHO", fill_description },
						  { "ADDRESSES", fill_addresses } };
static const struct column conntrack_columns[] = {
	{ "PROTO", fill_proto },    { "OPENED BY", fill_source },
	{ "TO", fill_destination }, { "STATE", fill_connection_state },
	{ "AGE", fill_age },
};
static const struct column policy_columns[] = {
	{ "POLICY", fill_name },
	{ "TIER", fill_tier },
	{ "TYPES", fill_policy_types },
	{ "INGRESS RULES", fill_ingress_rules },
	{ "EGRESS RULES", fill_egress_rules },
	{ "SELECTS", fill_selected },
	{ "SOURCE", fill_source_file },
};

static int view_list(const struct arguments *args, const char *path, const struct column *columns,
		     size_t count, struct errmsg *err)
{
	cJSON *rows = NULL;
	int ret = agent_call(args, "GET", path, NULL, &rows, err);

	if (ret)
		return ret;
	if (args->json)
		output_json(rows);
	else
		output_table(rows, columns, count);
	cJSON_Delete(rows);
	return EXIT_OK;
}

/* Fetches PREFIX/NAMESPACE/NAME for the one operand. */
static int fetch_named(const struct arguments *args, const char *prefix, cJSON **ret_row,
		       struct errmsg *err)
{
	char namespace[NAME_MAX_LEN], name[NAME_MAX_LEN], path[2 * NAME_MAX_LEN + 64];
	int ret = name_split(args->operands[0], namespace, name, sizeof(name), err);

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/%s/%s", prefix, namespace, name);
	return agent_call(args, "GET", path, NULL, ret_row, err);
}

int cmd_endpoint_list(const struct arguments *args, struct errmsg *err)
{
	return view_list(args, "/v1/endpoints", endpoint_columns, ARRAY_SIZE(endpoint_columns),
			 err);
}

int cmd_endpoint_get(const struct arguments *args, struct errmsg *err)
{
	cJSON *row = NULL;
	int ret = fetch_named(args, "/v1/endpoints", &row, err);

	if (ret)
		return ret;
	if (args->json)
		output_json(row);
	else
		output_fields(row, endpoint_fields, ARRAY_SIZE(endpoint_fields));
	cJSON_Delete(row);
	return EXIT_OK;
}

int cmd_service_list(const struct arguments *args, struct errmsg *err)
{
	return view_list(args, "/v1/services", service_columns, ARRAY_SIZE(service_columns), err);
}

int cmd_service_get(const struct arguments *args, struct errmsg *err)
{
	cJSON *row = NULL;
	int ret = fetch_named(args, "/v1/services", &row, err);

	if (ret)
		return ret;
	if (args->json)
		output_json(row);
	else
		output_table(member_get(row, "frontends"), frontend_columns,
			     ARRAY_SIZE(frontend_columns));
	cJSON_Delete(row);
	return EXIT_OK;
}

int cmd_identity_list(const struct arguments *args, struct errmsg *err)
{
	return view_list(args, "/v1/identities", identity_columns, ARRAY_SIZE(identity_columns),
			 err);
}

int cmd_conntrack_list(const struct arguments *args, struct errmsg *err)
{
	char path[64] = "/v1/conntrack";
	uint64_t limit;

	if (args->limit && number_parse(args->limit, 1, UINT32_MAX, &limit))
		return misused(err, "--limit %s: must be a number from 1 on", args->limit);
	if (args->limit)
		snprintf(path, sizeof(path), "/v1/conntrack?limit=%" PRIu64, limit);
	return view_list(args, path, conntrack_columns, ARRAY_SIZE(conntrack_columns), err);
}

int cmd_policy_list(const struct arguments *args, struct errmsg *err)
{
	return view_list(args, "/v1/policies", policy_columns, ARRAY_SIZE(policy_columns), err);
}

int cmd_policy_get(const struct arguments *args, struct errmsg *err)
{
	char namespace[NAME_MAX_LEN], name[NAME_MAX_LEN], path[2 * NAME_MAX_LEN + 64];
	cJSON *object = NULL;
	enum object_kind kind;
	int ret = policy_name_split(args->operands[0], &kind, namespace, name, sizeof(name), err);

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/v1/objects/%s/%s/%s", object_kind_name(kind),
		 *namespace ? namespace : "-", name);
	ret = agent_call(args, "GET", path, NULL, &object, err);
	if (ret)
		return ret;
	output_json(object);
	cJSON_Delete(object);
	return EXIT_OK;
}
