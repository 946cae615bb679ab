/* SPDX-License-Identifier: Apache-2.0 */
/* tendril get: the objects that the agent holds, of one kind. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/view.h"
#include "lib/auto.h"
#include "policy/objects/object.h"

static void fill_name(const cJSON *row, struct cell *cell)
{
	char name[sizeof(cell->text)];

	row_name(row, name, sizeof(name));
	cell_set(cell, COLOUR_NONE, "%s%s",
		 strcmp(member_text(row, "kind", ""), "ClusterNetworkPolicy") == 0 ? "/" : "",
		 name);
}

static void fill_labels(const cJSON *row, struct cell *cell)
{
	output_member(member_get(row, "metadata"), "labels", cell);
}

static void fill_node(const cJSON *row, struct cell *cell)
{
	output_member(member_get(row, "spec"), "nodeName", cell);
}

/* Joins a member of each item: "10.0.0.1, fd00::1". */
static void fill_items(const cJSON *items, const char *member, struct cell *cell)
{
	const cJSON *item;
	size_t used = 0;

	cell_set(cell, COLOUR_NONE, "-");
	cJSON_ArrayForEach (item, items) {
		used += (size_t)snprintf(cell->text + used, sizeof(cell->text) - used, "%s%s",
					 used ? ", " : "", member_text(item, member, "-"));
		if (used >= sizeof(cell->text))
			return;
	}
}

static void fill_pod_addresses(const cJSON *row, struct cell *cell)
{
	const cJSON *status = member_get(row, "status");

	if (member_get(status, "podIPs"))
		fill_items(member_get(status, "podIPs"), "ip", cell);
	else
		output_member(status, "podIP", cell);
}

static void fill_node_addresses(const cJSON *row, struct cell *cell)
{
	fill_items(member_get(member_get(row, "status"), "addresses"), "address", cell);
}

static void fill_type(const cJSON *row, struct cell *cell)
{
	cell_set(cell, COLOUR_NONE, "%s",
		 member_text(member_get(row, "spec"), "type", "ClusterIP"));
}

static void fill_cluster_ips(const cJSON *row, struct cell *cell)
{
	const cJSON *spec = member_get(row, "spec");

	output_member(spec, member_get(spec, "clusterIPs") ? "clusterIPs" : "clusterIP", cell);
}

static void fill_ports(const cJSON *row, struct cell *cell)
{
	const cJSON *port;
	size_t used = 0;

	cell_set(cell, COLOUR_NONE, "-");
	cJSON_ArrayForEach (port, member_get(member_get(row, "spec"), "ports")) {
		used += (size_t)snprintf(cell->text + used, sizeof(cell->text) - used, "%s%.0f/%s",
					 used ? ", " : "", member_number(port, "port"),
					 member_text(port, "protocol", "TCP"));
		if (used >= sizeof(cell->text))
			return;
	}
}

static void fill_selector(const cJSON *row, struct cell *cell)
{
	output_member(member_get(row, "spec"), "selector", cell);
}

/* The pods of a policy, as it writes them. */
static void fill_subject(const cJSON *row, struct cell *cell)
{
	const cJSON *spec = member_get(row, "spec");
	const cJSON *subject = member_get(spec, "podSelector");
	auto_free char *text =
		cJSON_PrintUnformatted(subject ? subject : member_get(spec, "subject"));

	cell_set(cell, COLOUR_NONE, "%s", !text || strcmp(text, "{}") == 0 ? "all pods" : text);
}

static void fill_service(const cJSON *row, struct cell *cell)
{
	output_member(member_get(member_get(row, "metadata"), "labels"),
		      "kubernetes.io/service-name", cell);
}

static void fill_endpoint_count(const cJSON *row, struct cell *cell)
{
	cell_set(cell, COLOUR_NONE, "%d", cJSON_GetArraySize(member_get(row, "endpoints")));
}

static const struct column pod_columns[] = { { "POD", .fill = fill_name },
					     { "ADDRESSES", .fill = fill_pod_addresses },
					     { "NODE", .fill = fill_node },
					     { "LABELS", .fill = fill_labels, .wide = true },
					     { "SOURCE", .member = "source", .wide = true } };
static const struct column service_columns[] = { { "SERVICE", .fill = fill_name },
						 { "TYPE", .fill = fill_type },
						 { "CLUSTER IPS", .fill = fill_cluster_ips },
						 { "PORTS", .fill = fill_ports },
						 { "SELECTOR", .fill = fill_selector,
						   .wide = true },
						 { "SOURCE", .member = "source", .wide = true } };
static const struct column policy_columns[] = { { "POLICY", .fill = fill_name },
						{ "KIND", .member = "kind" },
						{ "SELECTS", .fill = fill_subject },
						{ "SOURCE", .member = "source", .wide = true } };
static const struct column node_columns[] = { { "NODE", .fill = fill_name },
					      { "ADDRESSES", .fill = fill_node_addresses },
					      { "LABELS", .fill = fill_labels, .wide = true },
					      { "SOURCE", .member = "source", .wide = true } };
static const struct column namespace_columns[] = { { "NAMESPACE", .fill = fill_name },
						   { "LABELS", .fill = fill_labels },
						   { "SOURCE", .member = "source", .wide = true } };
static const struct column slice_columns[] = { { "ENDPOINT SLICE", .fill = fill_name },
					       { "SERVICE", .fill = fill_service },
					       { "ENDPOINTS", .fill = fill_endpoint_count },
					       { "SOURCE", .member = "source", .wide = true } };

#define COLUMNS(array)                   \
	{                                \
		array, ARRAY_SIZE(array) \
	}
static const struct {
	const struct column *columns;
	size_t count;
} kind_columns[OBJECT_KIND_COUNT] = {
	[OBJECT_NAMESPACE] = COLUMNS(namespace_columns),
	[OBJECT_NODE] = COLUMNS(node_columns),
	[OBJECT_POD] = COLUMNS(pod_columns),
	[OBJECT_SERVICE] = COLUMNS(service_columns),
	[OBJECT_ENDPOINT_SLICE] = COLUMNS(slice_columns),
	[OBJECT_NETWORK_POLICY] = COLUMNS(policy_columns),
	[OBJECT_CLUSTER_POLICY] = COLUMNS(policy_columns),
};

/* ---- rows ---- */

/* "pods", "netpol"; "policies" are those of both kinds. */
static int kind_parse(const char *text, enum object_kind *ret_kind, bool *ret_policies,
		      struct errmsg *err)
{
	*ret_policies = strcmp(text, "policies") == 0 || strcmp(text, "policy") == 0;
	*ret_kind = OBJECT_NETWORK_POLICY;
	if (*ret_policies || object_kind_parse(text, ret_kind) == 0)
		return 0;
	return misused(err,
		       "%s: must be pods, services, policies, nodes, namespaces or endpointslices",
		       text);
}

static bool row_wanted(const struct arguments *args, const cJSON *row)
{
	const char *row_kind = member_text(row, "kind", "");
	const char *namespace = args->namespace ? args->namespace : "default";
	enum object_kind kind;
	char name[600], wanted[600];
	bool policies;

	if (kind_parse(args->operands[0], &kind, &policies, NULL) ||
	    (strcmp(row_kind, object_kind_name(kind)) != 0 &&
	     !(policies && strcmp(row_kind, object_kind_name(OBJECT_CLUSTER_POLICY)) == 0)))
		return false;
	if (args->operand_count < 2)
		return true;
	row_name(row, name, sizeof(name));
	snprintf(wanted, sizeof(wanted), "%s/%s", namespace, args->operands[1]);
	return strcmp(name, args->operands[1] + (*args->operands[1] == '/')) == 0 ||
	       strcmp(name, wanted) == 0;
}

/* What the agent says of where an object is from. */
static void row_add_source(cJSON *row, const cJSON *listing)
{
	const cJSON *metadata = member_get(row, "metadata"), *entry;

	cJSON_ArrayForEach (entry, listing) {
		if (strcmp(member_text(entry, "kind", ""), member_text(row, "kind", "")) == 0 &&
		    strcmp(member_text(entry, "name", ""), member_text(metadata, "name", "")) ==
			    0 &&
		    strcmp(member_text(entry, "namespace", ""),
			   member_text(metadata, "namespace", "")) == 0) {
			cJSON_AddStringToObject(row, "source", member_text(entry, "source", "-"));
			return;
		}
	}
}

static int rows_fetch(const struct arguments *args, cJSON **ret_rows, struct errmsg *err)
{
	cJSON *list = NULL, *listing = NULL, *rows, *item, *next;
	bool wide = strcmp(args->output, "wide") == 0;
	int ret = agent_call(args, "GET", "/v1/objects?full=1", NULL, &list, err);

	if (!ret && wide)
		ret = agent_call(args, "GET", "/v1/objects", NULL, &listing, err);
	if (ret) {
		cJSON_Delete(list);
		return ret;
	}
	rows = cJSON_CreateArray();
	list = list ? list : cJSON_CreateObject();
	item = cJSON_GetObjectItemCaseSensitive(list, "items");
	for (item = item ? item->child : NULL; item; item = next) {
		next = item->next;
		if (!row_wanted(args, item))
			continue;
		cJSON_DetachItemViaPointer(cJSON_GetObjectItemCaseSensitive(list, "items"), item);
		row_add_source(item, listing);
		cJSON_AddItemToArray(rows, item);
	}
	cJSON_Delete(list);
	cJSON_Delete(listing);
	if (args->operand_count == 2 && !rows->child) {
		cJSON_Delete(rows);
		return fail_plain(err, -ENOENT, "there is no %s %s", args->operands[0],
				  args->operands[1]);
	}
	*ret_rows = rows;
	return 0;
}

/* As kubectl prints it: a List, or the one object that was named. */
static cJSON *rows_document(const struct arguments *args, const cJSON *rows)
{
	cJSON *list;

	if (args->operand_count == 2)
		return cJSON_Duplicate(rows->child, true);
	list = cJSON_CreateObject();
	cJSON_AddStringToObject(list, "apiVersion", "v1");
	cJSON_AddStringToObject(list, "kind", "List");
	cJSON_AddItemToObject(list, "items", cJSON_Duplicate(rows, true));
	return list;
}

int cmd_get(const struct arguments *args, struct errmsg *err)
{
	struct view view = { .fetch = rows_fetch, .document = rows_document };
	enum object_kind kind;
	bool policies;
	int ret = kind_parse(args->operands[0], &kind, &policies, err);

	if (ret)
		return ret;
	view.columns = kind_columns[kind].columns;
	view.column_count = kind_columns[kind].count;
	return view_show(args, &view, err);
}
