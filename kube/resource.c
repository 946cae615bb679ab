/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/resource.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "lib/auto.h"

/* A member of an object that is kept, and what of it; in arrays, of each element.  A list of fields
 * ends with a name of NULL. */
struct field {
	const char *name;           /* "tendril.io/": every member that begins so */
	const struct field *fields; /* NULL: all of it */
};

#define FIELDS(...)                \
	(const struct field[])     \
	{                          \
		__VA_ARGS__,       \
		{                  \
			NULL, NULL \
		}                  \
	}

#define METADATA                                                                               \
	{                                                                                      \
		"metadata", FIELDS({ "name", NULL }, { "namespace", NULL }, { "uid", NULL },   \
				   { "labels", NULL }, { "creationTimestamp", NULL },          \
				   { "deletionTimestamp", NULL },                              \
				   { "annotations", FIELDS({ "tendril.io/", NULL },            \
							   { "service.kubernetes.io/", NULL }, \
							   { "kubernetes.io/", NULL }) })      \
	}

#define CONTAINER FIELDS({ "name", NULL }, { "ports", NULL }, { "restartPolicy", NULL })

static const struct field pod_fields[] = {
	METADATA,
	{ "spec", FIELDS({ "nodeName", NULL }, { "hostNetwork", NULL }, { "containers", CONTAINER },
			 { "initContainers", CONTAINER }) },
	{ "status", FIELDS({ "phase", NULL }, { "podIP", NULL }, { "podIPs", NULL },
			   { "conditions", FIELDS({ "type", NULL }, { "status", NULL }) }) },
	{ NULL, NULL },
};

static const struct field node_fields[] = {
	METADATA,
	{ "spec", FIELDS({ "podCIDR", NULL }, { "podCIDRs", NULL }) },
	{ "status", FIELDS({ "addresses", NULL }) },
	{ NULL, NULL },
};

static const struct field namespace_fields[] = { METADATA, { NULL, NULL } };

static const struct field service_fields[] = {
	METADATA,
	{ "spec", NULL },
	{ "status", FIELDS({ "loadBalancer", NULL }) },
	{ NULL, NULL },
};

static const struct field slice_fields[] = {
	METADATA, { "addressType", NULL }, { "endpoints", NULL }, { "ports", NULL }, { NULL, NULL },
};

/* Of policies everything that they say counts: what is not known there must not be dropped. */
static const struct field policy_fields[] = { METADATA, { "spec", NULL }, { NULL, NULL } };

#define NOT_FOREIGN                                        \
	"%21service.kubernetes.io%2Fservice-proxy-name%2C" \
	"%21service.kubernetes.io%2Fheadless"

const struct resource resources[] = {
	{ "namespaces", "v1", "Namespace", "/api/v1/namespaces", .fields = namespace_fields,
	  .metadata_only = true },
	{ "nodes", "v1", "Node", "/api/v1/nodes", .fields = node_fields },
	{ "networkpolicies", "networking.k8s.io/v1", "NetworkPolicy",
	  "/apis/networking.k8s.io/v1/networkpolicies", .fields = policy_fields },
	{ "clusternetworkpolicies", "policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy",
	  "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies", .fields = policy_fields,
	  .optional = true },
	{ "pods", "v1", "Pod", "/api/v1/pods", .fields = pod_fields },
	{ "services", "v1", "Service", "/api/v1/services", .fields = service_fields,
	  .label_selector = NOT_FOREIGN },
	{ "endpointslices", "discovery.k8s.io/v1", "EndpointSlice",
	  "/apis/discovery.k8s.io/v1/endpointslices", .fields = slice_fields,
	  .label_selector = NOT_FOREIGN },
};

const size_t resource_count = ARRAY_SIZE(resources);

bool resource_is_pod(const struct resource *resource)
{
	return resource->fields == pod_fields;
}

bool resource_is_node(const struct resource *resource)
{
	return resource->fields == node_fields;
}

static bool field_matches(const struct field *field, const char *name)
{
	size_t len = strlen(field->name);

	return field->name[len - 1] == '/' ? strncmp(name, field->name, len) == 0
					   : strcmp(name, field->name) == 0;
}

static const struct field *field_find(const struct field *fields, const char *name)
{
	for (; fields->name; fields++) {
		if (field_matches(fields, name))
			return fields;
	}
	return NULL;
}

static cJSON *reduce(const cJSON *value, const struct field *fields)
{
	bool is_array = cJSON_IsArray(value);
	const cJSON *item;
	cJSON *copy;

	if (!fields || (!is_array && !cJSON_IsObject(value)))
		return cJSON_Duplicate(value, true);
	copy = is_array ? cJSON_CreateArray() : cJSON_CreateObject();
	cJSON_ArrayForEach (item, value) {
		const struct field *field = is_array ? NULL : field_find(fields, item->string);

		if (is_array)
			cJSON_AddItemToArray(copy, reduce(item, fields));
		else if (field)
			cJSON_AddItemToObject(copy, item->string, reduce(item, field->fields));
	}
	return copy;
}

const char *metadata_text(const struct cJSON *object, const char *key)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(metadata, key));

	return text ? text : "";
}

struct cJSON *resource_reduce(const struct resource *resource, const struct cJSON *object)
{
	cJSON *copy = reduce(object, resource->fields);

	cJSON_AddStringToObject(copy, "apiVersion", resource->api_version);
	cJSON_AddStringToObject(copy, "kind", resource->kind);
	return copy;
}
