/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent has made of its objects: endpoints, services, identities, connections, policies in
 * force.  Each is a path of the API and the columns of a table.
 */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/view.h"
#include "lib/auto.h"
#include "lib/inet.h"

/* A column that shows one member as it is. */
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
	cell_set(cell, COLOUR_NONE,
		 "%.40s out, %.40s in, %.40s dropped, %.40s would be dropped (audit)", out.text,
		 in.text, drops.text, would.text);
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

/* Whether it gets new connections, by one of the traffic policies. */
static bool backend_is_used(const cJSON *backend)
{
	const cJSON *use;

	cJSON_ArrayForEach (use, member_get(backend, "use")) {
		if (cJSON_IsString(use) && strcmp(use->valuestring, "keep") != 0)
			return true;
	}
	return false;
}

static int used_count(const cJSON *frontend)
{
	const cJSON *backend;
	int count = 0;

	cJSON_ArrayForEach (backend, member_get(frontend, "backends"))
		count += backend_is_used(backend);
	return count;
}

static const char *backend_state(const cJSON *backend)
{
	if (cJSON_IsTrue(member_get(backend, "terminating")))
		return "terminating";
	if (!cJSON_IsTrue(member_get(backend, "ready")))
		return "not ready";
	return backend_is_used(backend) ? "ready" : "for others";
}

static void fill_backend_state(const cJSON *row, struct cell *cell)
{
	cell_set(cell, COLOUR_NONE, "%s", backend_state(row));
	cell->colour = strcmp(cell->text, "ready") == 0 ? COLOUR_GOOD : COLOUR_WARN;
}

/* "10.0.0.2:8080, 10.0.0.3:8080 (not ready)". */
static void fill_backends(const cJSON *row, struct cell *cell)
{
	const cJSON *backend;
	size_t len = 0;

	cell_set(cell, COLOUR_NONE, "%s", "");
	cJSON_ArrayForEach (backend, member_get(row, "backends")) {
		const char *state = backend_state(backend);
		bool ready = strcmp(state, "ready") == 0;
		struct cell one;

		format_end(backend, "address", "port", &one);
		len += (size_t)snprintf(cell->text + len, sizeof(cell->text) - len, "%s%s%s%s%s",
					len ? ", " : "", one.text, ready ? "" : " (",
					ready ? "" : state, ready ? "" : ")");
		if (len >= sizeof(cell->text))
			break;
	}
	if (len == 0)
		cell_set(cell, COLOUR_WARN, "none ready");
	else if (!used_count(row))
		cell->colour = COLOUR_WARN;
}

static void fill_frontend_count(const cJSON *row, struct cell *cell)
{
	cell_set(cell, COLOUR_NONE, "%d", cJSON_GetArraySize(member_get(row, "frontends")));
}

/* Frontends of one port and family have the same backends. */
static bool has_same_backends(const cJSON *a, const cJSON *b)
{
	return !strcmp(member_text(a, "name", ""), member_text(b, "name", "")) &&
	       !strcmp(member_text(a, "protocol", ""), member_text(b, "protocol", "")) &&
	       !strchr(member_text(a, "address", ""), ':') ==
		       !strchr(member_text(b, "address", ""), ':');
}

static void fill_backend_count(const cJSON *row, struct cell *cell)
{
	const cJSON *frontends = member_get(row, "frontends"), *frontend, *earlier;
	int used = 0, backends = 0;

	cJSON_ArrayForEach (frontend, frontends) {
		for (earlier = frontends->child; earlier != frontend; earlier = earlier->next) {
			if (has_same_backends(earlier, frontend))
				break;
		}
		if (earlier != frontend)
			continue;
		used += used_count(frontend);
		backends += cJSON_GetArraySize(member_get(frontend, "backends"));
	}
	cell_set(cell, cJSON_GetArraySize(frontends) && !used ? COLOUR_WARN : COLOUR_NONE,
		 "%d of %d used", used, backends);
}

static const struct column endpoint_columns[] = {
	{ "POD", .fill = fill_name },
	{ "ADDRESSES", .member = "addresses" },
	{ "STATE", .fill = fill_endpoint_state },
	{ "ISOLATED", .fill = fill_isolation },
	{ "LABELS", .member = "labels" },
	{ "IDENTITY", .member = "identity", .wide = true },
	{ "HOST INTERFACE", .member = "hostInterface", .wide = true },
	{ "CONTAINER", .member = "containerId", .wide = true },
};
static const struct column endpoint_fields[] = {
	{ "Pod", .fill = fill_name },
	{ "State", .fill = fill_endpoint_state },
	{ "Slot", .member = "slot" },
	{ "Container", .member = "containerId" },
	{ "Host interface", .member = "hostInterface" },
	{ "MAC", .member = "mac" },
	{ "Addresses", .member = "addresses" },
	{ "Labels", .member = "labels" },
	{ "Identity", .member = "identity" },
	{ "Isolated", .fill = fill_isolation },
	{ "Policies", .fill = fill_endpoint_policies },
	{ "Audit", .member = "audit" },
	{ "Packets", .fill = fill_traffic },
	{ "Accelerate", .member = "accelerate" },
	{ "Accelerated", .fill = fill_accelerated },
};
static const struct column service_columns[] = {
	{ "SERVICE", .fill = fill_name },
	{ "TYPE", .member = "type" },
	{ "CLUSTER IPS", .member = "clusterIPs" },
	{ "FRONTENDS", .fill = fill_frontend_count },
	{ "BACKENDS", .fill = fill_backend_count },
	{ "CONNECTIONS", .member = "connections" },
	{ "BYTES", .member = "bytes" },
	{ "INSIDE", .member = "internalTrafficPolicy", .wide = true },
	{ "OUTSIDE", .member = "externalTrafficPolicy", .wide = true },
	{ "AFFINITY SECONDS", .member = "affinitySeconds", .wide = true },
	{ "SOURCE RANGES", .member = "sourceRanges", .wide = true },
};
static const struct column service_fields[] = {
	{ "Service", .fill = fill_name },
	{ "Type", .member = "type" },
	{ "Cluster IPs", .member = "clusterIPs" },
	{ "Internal traffic policy", .member = "internalTrafficPolicy" },
	{ "External traffic policy", .member = "externalTrafficPolicy" },
	{ "Affinity seconds", .member = "affinitySeconds" },
	{ "Source ranges", .member = "sourceRanges" },
	{ "Health check port", .member = "healthCheckNodePort" },
	{ "Connections", .member = "connections" },
	{ "Bytes", .member = "bytes" },
};
static const struct column frontend_columns[] = {
	{ "FRONTEND", .fill = fill_frontend },
	{ "PROTOCOL", .member = "protocol" },
	{ "PORT", .member = "name" },
	{ "KIND", .member = "kind" },
	{ "HINTS", .member = "hints", .wide = true },
	{ "BACKENDS", .fill = fill_backends },
};
static const struct column backend_columns[] = {
	{ "BACKEND", .fill = fill_frontend },
	{ "PROTOCOL", .member = "protocol" },
	{ "POD", .member = "pod" },
	{ "NODE", .member = "node" },
	{ "STATE", .fill = fill_backend_state },
	{ "CONNECTIONS", .member = "connections" },
	{ "BYTES", .member = "bytes" },
};
static const struct column identity_columns[] = { { "IDENTITY", .member = "id" },
						  { "WHO", .member = "description" },
						  { "ADDRESSES", .member = "addresses" } };
static const struct column conntrack_columns[] = {
	{ "PROTO", .member = "proto" },     { "OPENED BY", .fill = fill_source },
	{ "TO", .fill = fill_destination }, { "STATE", .member = "state" },
	{ "AGE", .member = "ageSeconds" },
};
static const struct column policy_columns[] = {
	{ "POLICY", .fill = fill_name },
	{ "TIER", .fill = fill_tier },
	{ "TYPES", .member = "policyTypes" },
	{ "INGRESS RULES", .member = "ingressRules", .wide = true },
	{ "EGRESS RULES", .member = "egressRules", .wide = true },
	{ "SELECTS", .member = "selectedEndpoints" },
	{ "SOURCE", .member = "source" },
};

/* The view of one path. */
#define VIEW(function, kind_name, table, path)                                          \
	static int fetch_##function(const struct arguments *args, cJSON **ret_rows,     \
				    struct errmsg *err)                                 \
	{                                                                               \
		return agent_call(args, "GET", path, NULL, ret_rows, err);              \
	}                                                                               \
	static const struct view view_##function = { .columns = table,                  \
						     .column_count = ARRAY_SIZE(table), \
						     .kind = kind_name,                 \
						     .fetch = fetch_##function };
VIEW(endpoints, "pod", endpoint_columns, "/v1/endpoints")
VIEW(services, "service", service_columns, "/v1/services")
VIEW(identities, "identity", identity_columns, "/v1/identities")
VIEW(policies, "policy", policy_columns, "/v1/policies")

/* Fetches PREFIX/NAMESPACE/NAME for the one operand. */
static int fetch_named(const struct arguments *args, const char *prefix, cJSON **ret_row,
		       struct errmsg *err)
{
	struct object_name name;
	char path[sizeof(name) + 64];
	int ret = object_name_parse(args->operands[0], args->namespace, &name, err);

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/%s/%s", prefix, name.namespace, name.name);
	return agent_call(args, "GET", path, NULL, ret_row, err);
}

int cmd_endpoint_list(const struct arguments *args, struct errmsg *err)
{
	return view_show(args, &view_endpoints, err);
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
	return view_show(args, &view_services, err);
}

static bool has_backend(const cJSON *backends, const cJSON *backend)
{
	const cJSON *known;

	cJSON_ArrayForEach (known, backends) {
		if (member_number(known, "port") == member_number(backend, "port") &&
		    !strcmp(member_text(known, "address", ""),
			    member_text(backend, "address", "")) &&
		    !strcmp(member_text(known, "protocol", ""),
			    member_text(backend, "protocol", "")))
			return true;
	}
	return false;
}

/* The addresses of one port share their backends: each is told once. */
static cJSON *backends_collect(const cJSON *service)
{
	cJSON *backends = cJSON_CreateArray();
	const cJSON *frontend, *backend;

	cJSON_ArrayForEach (frontend, member_get(service, "frontends")) {
		cJSON_ArrayForEach (backend, member_get(frontend, "backends")) {
			cJSON *copy = cJSON_Duplicate(backend, true);

			cJSON_AddStringToObject(copy, "protocol",
						member_text(frontend, "protocol", ""));
			if (has_backend(backends, copy))
				cJSON_Delete(copy);
			else
				cJSON_AddItemToArray(backends, copy);
		}
	}
	return backends;
}

static void service_print(const cJSON *service)
{
	cJSON *backends = backends_collect(service);

	output_fields(service, service_fields, ARRAY_SIZE(service_fields));
	output_table(member_get(service, "frontends"), frontend_columns,
		     ARRAY_SIZE(frontend_columns), TABLE_WIDE);
	if (cJSON_GetArraySize(backends) > 0)
		output_table(backends, backend_columns, ARRAY_SIZE(backend_columns), TABLE_WIDE);
	cJSON_Delete(backends);
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
		service_print(row);
	cJSON_Delete(row);
	return EXIT_OK;
}

int cmd_identity_list(const struct arguments *args, struct errmsg *err)
{
	return view_show(args, &view_identities, err);
}

static int fetch_conntrack(const struct arguments *args, cJSON **ret_rows, struct errmsg *err)
{
	char path[64] = "/v1/conntrack";
	uint64_t limit;

	if (args->limit && number_parse(args->limit, 1, UINT32_MAX, &limit))
		return misused(err, "--limit %s: must be a number of at least 1", args->limit);
	if (args->limit)
		snprintf(path, sizeof(path), "/v1/conntrack?limit=%" PRIu64, limit);
	return agent_call(args, "GET", path, NULL, ret_rows, err);
}

int cmd_conntrack_list(const struct arguments *args, struct errmsg *err)
{
	const struct view view = { .columns = conntrack_columns,
				   .column_count = ARRAY_SIZE(conntrack_columns),
				   .fetch = fetch_conntrack };

	return view_show(args, &view, err);
}

int cmd_policy_list(const struct arguments *args, struct errmsg *err)
{
	return view_show(args, &view_policies, err);
}

int cmd_policy_get(const struct arguments *args, struct errmsg *err)
{
	struct object_name name;
	char path[sizeof(name) + 64];
	cJSON *object = NULL;
	enum object_kind kind;
	int ret = policy_name_parse(args->operands[0], args->namespace, &name, &kind, err);

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/v1/objects/%s/%s/%s", object_kind_name(kind),
		 *name.namespace ? name.namespace : "-", name.name);
	ret = agent_call(args, "GET", path, NULL, &object, err);
	if (ret)
		return ret;
	output_json(object);
	cJSON_Delete(object);
	return EXIT_OK;
}
