/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/objects/object_closed.h"

#include <cjson/cJSON.h>

#include "lib/json.h"
#include "policy/objects/kind.h"
#include "policy/objects/parse.h"

/* Of the original only its name and this selector are taken: anything else may be damaged. */
static struct object *closed_make(enum object_kind kind, const char *namespace, const char *name,
				  const cJSON *selector)
{
	bool cluster = kind == OBJECT_CLUSTER_POLICY;
	const char *key = cluster ? "subject" : "podSelector";
	auto_json cJSON *json = cJSON_CreateObject();
	struct problems problems = { 0 };
	static const char *const types[] = { "Ingress", "Egress" };
	struct object *object = NULL;
	cJSON *metadata, *spec;

	cJSON_AddStringToObject(json, "apiVersion", kind_api_version(kind));
	cJSON_AddStringToObject(json, "kind", object_kind_name(kind));
	metadata = cJSON_AddObjectToObject(json, "metadata");
	cJSON_AddStringToObject(metadata, "name", name);
	if (!cluster)
		cJSON_AddStringToObject(metadata, "namespace", namespace);
	spec = cJSON_AddObjectToObject(json, "spec");
	if (selector)
		cJSON_AddItemToObject(spec, key, cJSON_Duplicate(selector, true));
	else if (cluster)
		cJSON_AddObjectToObject(cJSON_AddObjectToObject(spec, key), "namespaces");
	else
		cJSON_AddObjectToObject(spec, key);
	if (cluster) {
		cJSON_AddStringToObject(spec, "tier", "Admin");
		cJSON_AddNumberToObject(spec, "priority", 0);
	} else {
		cJSON_AddItemToObject(spec, "policyTypes",
				      cJSON_CreateStringArray(types, ARRAY_SIZE(types)));
	}
	object_parse(json, 0, &object, &problems);
	problems_done(&problems);
	if (object && cluster)
		object->cluster_policy.closed = true;
	return object;
}

struct object *object_closed(enum object_kind kind, const char *namespace, const char *name,
			     const struct cJSON *original)
{
	const cJSON *spec = cJSON_GetObjectItemCaseSensitive(original, "spec");
	const cJSON *selector = cJSON_GetObjectItemCaseSensitive(
		spec, kind == OBJECT_CLUSTER_POLICY ? "subject" : "podSelector");
	struct object *object = NULL;

	if (kind != OBJECT_NETWORK_POLICY && kind != OBJECT_CLUSTER_POLICY)
		return NULL;
	if (selector)
		object = closed_make(kind, namespace, name, selector);
	return object ? object : closed_make(kind, namespace, name, NULL);
}
