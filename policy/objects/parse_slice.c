/* SPDX-License-Identifier: Apache-2.0 */
/* discovery.k8s.io/v1 EndpointSlice. */
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/shared.h"
#include "policy/objects/name.h"
#include "policy/objects/reader.h"

static void read_conditions(struct reader *reader, const struct json_node *at,
			    struct slice_endpoint *endpoint)
{
	struct json_node ready = json_member(at, "ready");
	struct json_node serving = json_member(at, "serving");
	struct json_node terminating = json_member(at, "terminating");

	/* An unknown state counts as ready; serving, where unknown, as ready says. */
	read_is_object(reader, at);
	endpoint->ready = read_bool(reader, &ready, true);
	endpoint->serving = read_bool(reader, &serving, endpoint->ready);
	endpoint->terminating = read_bool(reader, &terminating, false);
}

static void read_target(struct reader *reader, const struct json_node *at, const char *namespace,
			struct slice_endpoint *endpoint)
{
	struct json_node kind = json_member(at, "kind");
	struct json_node target_namespace = json_member(at, "namespace");
	struct json_node name = json_member(at, "name");
	const char *text;

	if (!read_is_object(reader, at))
		return;
	text = read_string(reader, &kind);
	if (!text || strcmp(text, "Pod") != 0)
		return;
	text = read_string(reader, &name);
	if (!text)
		return;
	endpoint->pod_name = shared_string(text);
	text = read_string(reader, &target_namespace);
	endpoint->pod_namespace = shared_string(text && *text ? text : namespace);
}

/* Names below a list of { name: ... }. */
static void read_hint_names(struct reader *reader, const struct json_node *hints, const char *field,
			    char ***ret_names, size_t *ret_count)
{
	struct json_node list = json_member(hints, field);
	size_t index = 0;
	const cJSON *json;

	if (!read_is_array(reader, &list) || !cJSON_GetArraySize(list.value))
		return;
	*ret_names = xcalloc((size_t)cJSON_GetArraySize(list.value), sizeof(**ret_names));
	cJSON_ArrayForEach (json, list.value) {
		struct json_node child = json_element(&list, json, index++);
		struct json_node name = json_member(&child, "name");
		const char *text =
			read_is_object(reader, &child) ? read_string(reader, &name) : NULL;

		if (text)
			(*ret_names)[(*ret_count)++] = xstrdup(text);
	}
}

static struct endpoint_hints *read_hints(struct reader *reader, const struct json_node *at)
{
	struct endpoint_hints *hints;

	if (!read_is_object(reader, at))
		return NULL;
	hints = xcalloc(1, sizeof(*hints));
	read_hint_names(reader, at, "forZones", &hints->zones, &hints->zone_count);
	read_hint_names(reader, at, "forNodes", &hints->nodes, &hints->node_count);
	return hints;
}

static char *read_name(struct reader *reader, const struct json_node *endpoint, const char *field)
{
	struct json_node at = json_member(endpoint, field);
	const char *text = read_string(reader, &at);

	return text && *text ? shared_string(text) : NULL;
}

/* What an endpoint says beside its address. */
static void read_endpoint(struct reader *reader, const struct json_node *at, const char *namespace,
			  struct slice_endpoint *endpoint)
{
	struct json_node conditions = json_member(at, "conditions");
	struct json_node target = json_member(at, "targetRef");
	struct json_node hints = json_member(at, "hints");

	read_conditions(reader, &conditions, endpoint);
	read_target(reader, &target, namespace, endpoint);
	endpoint->node_name = read_name(reader, at, "nodeName");
	endpoint->zone = read_name(reader, at, "zone");
	endpoint->hints = read_hints(reader, &hints);
}

static size_t addresses_count(const cJSON *endpoints)
{
	const cJSON *endpoint;
	size_t count = 0;

	cJSON_ArrayForEach (endpoint, endpoints)
		count += (size_t)cJSON_GetArraySize(
			cJSON_GetObjectItemCaseSensitive(endpoint, "addresses"));
	return count;
}

static void read_slice_endpoint(struct reader *reader, const struct json_node *at,
				struct object *object)
{
	struct endpoint_slice_object *slice = &object->slice;
	struct json_node addresses = json_member(at, "addresses");
	size_t index = 0;
	const cJSON *json;

	if (!read_is_object(reader, at) || slice->fqdn || !read_is_array(reader, &addresses))
		return;
	cJSON_ArrayForEach (json, addresses.value) {
		struct json_node child = json_element(&addresses, json, index++);
		struct slice_endpoint *endpoint;
		struct addr addr;

		if (!read_routable(reader, &child, &addr))
			continue;
		if (addr_is_v4(&addr) == slice->v6)
			reader_error(reader, &child, "\"%s\" is not of the slice's addressType",
				     cJSON_GetStringValue(json));
		endpoint = &slice->endpoints[slice->endpoint_count++];
		*endpoint = (struct slice_endpoint){ .addr = addr };
		read_endpoint(reader, at, object->namespace ? object->namespace : "", endpoint);
	}
}

static void read_slice_port(struct reader *reader, const struct json_node *at,
			    struct endpoint_slice_object *slice)
{
	struct slice_port *port = &slice->ports[slice->port_count];
	struct json_node name = json_member(at, "name");
	struct json_node number = json_member(at, "port");
	struct json_node proto = json_member(at, "protocol");
	const char *text;

	if (!read_is_object(reader, at))
		return;
	slice->port_count++;
	text = read_string(reader, &name);
	port->name = shared_string(text ? text : "");
	port->port = read_port(reader, &number);
	port->proto = read_proto(reader, &proto);
}

static void read_address_type(struct reader *reader, const struct json_node *at,
			      struct endpoint_slice_object *slice)
{
	const char *text = read_string(reader, at);

	if (!at->value)
		reader_missing(reader, at);
	if (!text)
		return;
	slice->v6 = strcmp(text, "IPv6") == 0;
	slice->fqdn = strcmp(text, "FQDN") == 0;
	if (!slice->v6 && !slice->fqdn && strcmp(text, "IPv4") != 0)
		reader_error(reader, at, "\"%s\" is not IPv4, IPv6 or FQDN", text);
}

void read_slice(struct reader *reader, const struct json_node *root, struct object *object)
{
	struct endpoint_slice_object *slice = &object->slice;
	struct json_node metadata = json_member(root, "metadata");
	struct json_node labels = json_member(&metadata, "labels");
	struct json_node type = json_member(root, "addressType");
	struct json_node endpoints = json_member(root, "endpoints");
	struct json_node ports = json_member(root, "ports");
	const char *text = NULL;
	const cJSON *json;
	size_t index = 0;

	if (read_is_object(reader, &labels)) {
		struct json_node service = json_member(&labels, "kubernetes.io/service-name");

		text = read_string(reader, &service);
	}
	slice->foreign = read_foreign(reader, &labels);
	slice->service_name = shared_string(text ? text : "");
	read_address_type(reader, &type, slice);
	if (read_is_array(reader, &endpoints)) {
		slice->endpoints =
			xcalloc(addresses_count(endpoints.value), sizeof(*slice->endpoints));
		cJSON_ArrayForEach (json, endpoints.value) {
			struct json_node child = json_element(&endpoints, json, index++);

			read_slice_endpoint(reader, &child, object);
		}
	}
	index = 0;
	if (read_is_array(reader, &ports)) {
		slice->ports =
			xcalloc((size_t)cJSON_GetArraySize(ports.value), sizeof(*slice->ports));
		cJSON_ArrayForEach (json, ports.value) {
			struct json_node child = json_element(&ports, json, index++);

			read_slice_port(reader, &child, slice);
		}
	}
}
