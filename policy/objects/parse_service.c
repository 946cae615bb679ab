/* SPDX-License-Identifier: Apache-2.0 */
/* v1 Service and discovery.k8s.io/v1 EndpointSlice. */
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/objects/name.h"
#include "policy/objects/reader.h"

#define SERVICE_PORTS_MAX 1000 /* each is held against the others */

/* ---- services ---- */

/* An address that traffic may be taken from or sent to: with loopback, a service would get hold of
 * what pods and the node keep to themselves. */
static bool read_routable(struct reader *reader, const struct json_node *at, struct addr *ret_addr)
{
	if (!read_addr(reader, at, ret_addr))
		return false;
	if (!addr_is_special(ret_addr))
		return true;
	reader_error(reader, at,
		     "\"%s\" is a loopback, link-local, multicast or otherwise special "
		     "address",
		     cJSON_GetStringValue(at->value));
	return false;
}

/* "" and "None" are no address. */
static void service_add_ip(struct reader *reader, const struct json_node *at,
			   struct service_object *service)
{
	const char *text = read_string(reader, at);
	struct addr addr;

	if (!text || !*text || strcmp(text, "None") == 0 || !read_routable(reader, at, &addr))
		return;
	for (size_t i = 0; i < service->cluster_ip_count; i++) {
		if (addr_is_v4(&addr) == addr_is_v4(&service->cluster_ips[i])) {
			reader_error(reader, at, "a service has at most one address of a family");
			return;
		}
	}
	service->cluster_ips[service->cluster_ip_count++] = addr;
}

static void read_cluster_ips(struct reader *reader, const struct json_node *spec,
			     struct service_object *service)
{
	struct json_node list = json_member(spec, "clusterIPs");
	struct json_node single = json_member(spec, "clusterIP");
	const cJSON *json;
	size_t index = 0;

	if (!read_is_array(reader, &list) || cJSON_GetArraySize(list.value) == 0) {
		service_add_ip(reader, &single, service);
		return;
	}
	cJSON_ArrayForEach (json, list.value) {
		struct json_node child = json_element(&list, json, index++);

		service_add_ip(reader, &child, service);
	}
}

static void read_service_port(struct reader *reader, const struct json_node *at,
			      struct service_object *service)
{
	struct json_node name = json_member(at, "name");
	struct json_node number = json_member(at, "port");
	struct json_node proto = json_member(at, "protocol");
	struct json_node target = json_member(at, "targetPort");
	struct service_port *port = &service->ports[service->port_count];
	const char *text;

	if (!read_is_object(reader, at))
		return;
	service->port_count++;
	text = read_string(reader, &name);
	port->name = xstrdup(text ? text : "");
	port->port = read_port(reader, &number);
	port->proto = read_proto(reader, &proto);
	if (!number.value)
		reader_missing(reader, &number);
	port->target_port = port->port;
	/* 0 and "" are what an unset targetPort looks like. */
	if (cJSON_IsString(target.value)) {
		if (*cJSON_GetStringValue(target.value))
			port->target_name = xstrdup(cJSON_GetStringValue(target.value));
	} else if (target.value &&
		   !(cJSON_IsNumber(target.value) && target.value->valuedouble == 0)) {
		port->target_port = read_port(reader, &target);
	}
	for (const struct service_port *other = service->ports; other < port; other++) {
		bool same_port = other->port == port->port && other->proto == port->proto;

		if (same_port && port->port)
			reader_error(reader, at, "port %u/%s is there twice", port->port,
				     proto_name(port->proto));
		else if (strcmp(other->name, port->name) == 0)
			reader_error(
				reader, at, "two ports %s%s%s", *port->name ? "are named \"" : "",
				*port->name ? port->name : "have no name", *port->name ? "\"" : "");
		else
			continue;
		return;
	}
}

static bool text_is(const struct json_node *spec, const char *field, const char *wanted)
{
	const char *text = cJSON_GetStringValue(json_member(spec, field).value);

	return text && strcmp(text, wanted) == 0;
}

static bool has_items(const struct json_node *spec, const char *field)
{
	return cJSON_GetArraySize(json_member(spec, field).value) > 0;
}

static bool has_node_ports(const struct json_node *spec)
{
	const cJSON *port;

	cJSON_ArrayForEach (port, json_member(spec, "ports").value) {
		const cJSON *number = cJSON_GetObjectItemCaseSensitive(port, "nodePort");

		if (cJSON_IsNumber(number) && number->valuedouble != 0)
			return true;
	}
	return false;
}

struct gap_place {
	struct reader *reader;
	const struct json_node *spec;
};

static void gap_warn(const char *field, const char *text, void *arg)
{
	const struct gap_place *place = arg;
	struct json_node at = json_member(place->spec, field);

	reader_problem(place->reader, at.value ? &at : place->spec, PROBLEM_WARNING, "%s", text);
}

/* What the agent does not do is said, so that nobody relies on it. */
static void read_gaps(struct reader *reader, const struct json_node *spec,
		      struct service_object *service)
{
	struct gap_place place = { reader, spec };

	if (text_is(spec, "sessionAffinity", "ClientIP"))
		service->gaps |= SERVICE_GAP_AFFINITY;
	if (text_is(spec, "internalTrafficPolicy", "Local"))
		service->gaps |= SERVICE_GAP_INTERNAL_LOCAL;
	if (json_member(spec, "trafficDistribution").value)
		service->gaps |= SERVICE_GAP_DISTRIBUTION;
	if (text_is(spec, "type", "LoadBalancer"))
		service->gaps |= SERVICE_GAP_LOAD_BALANCER;
	if (has_node_ports(spec) || text_is(spec, "type", "NodePort"))
		service->gaps |= SERVICE_GAP_NODE_PORT;
	if (has_items(spec, "externalIPs"))
		service->gaps |= SERVICE_GAP_EXTERNAL_IPS;
	if (has_items(spec, "loadBalancerSourceRanges"))
		service->gaps |= SERVICE_GAP_SOURCE_RANGES;
	service_gaps_each(service->gaps, gap_warn, &place);
}

/* Whether labels leave an object to another proxy than the node's, as kube-proxy reads them. */
static bool read_foreign(struct reader *reader, const struct json_node *labels)
{
	struct json_node proxy = json_member(labels, "service.kubernetes.io/service-proxy-name");
	struct json_node headless = json_member(labels, "service.kubernetes.io/headless");

	return read_is_object(reader, labels) &&
	       (read_string(reader, &proxy) || read_string(reader, &headless));
}

void read_service(struct reader *reader, const struct json_node *root, struct object *object)
{
	struct service_object *service = &object->service;
	struct json_node metadata = json_member(root, "metadata");
	struct json_node labels = json_member(&metadata, "labels");
	struct json_node spec = json_member(root, "spec");
	struct json_node type = json_member(&spec, "type");
	struct json_node ports = json_member(&spec, "ports");
	struct json_node not_ready = json_member(&spec, "publishNotReadyAddresses");
	struct json_node selector = json_member(&spec, "selector");
	const char *text;
	const cJSON *json;
	size_t index = 0;

	service->foreign = read_foreign(reader, &labels);
	if (!read_is_object(reader, &spec))
		return;
	read_labels(reader, &selector, &service->selector);
	service->publish_not_ready = read_bool(reader, &not_ready, false);
	if (!service->foreign)
		read_gaps(reader, &spec, service);
	text = read_string(reader, &type);
	if (!text || strcmp(text, "ExternalName") != 0)
		read_cluster_ips(reader, &spec, service);
	if (!read_is_array(reader, &ports))
		return;
	service->ports = xcalloc((size_t)cJSON_GetArraySize(ports.value), sizeof(*service->ports));
	cJSON_ArrayForEach (json, ports.value) {
		struct json_node child = json_element(&ports, json, index++);

		read_service_port(reader, &child, service);
	}
}

/* ---- slices ---- */

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
	endpoint->pod_name = xstrdup(text);
	text = read_string(reader, &target_namespace);
	endpoint->pod_namespace = xstrdup(text && *text ? text : namespace);
}

static void read_slice_endpoint(struct reader *reader, const struct json_node *at,
				struct object *object)
{
	struct endpoint_slice_object *slice = &object->slice;
	struct slice_endpoint *endpoint = &slice->endpoints[slice->endpoint_count];
	struct json_node conditions = json_member(at, "conditions");
	struct json_node target = json_member(at, "targetRef");
	struct json_node addresses = json_member(at, "addresses");
	const cJSON *json;
	size_t index = 0;

	if (!read_is_object(reader, at))
		return;
	slice->endpoint_count++;
	read_conditions(reader, &conditions, endpoint);
	read_target(reader, &target, object->namespace ? object->namespace : "", endpoint);
	if (slice->fqdn || !read_is_array(reader, &addresses))
		return;
	endpoint->addresses =
		xcalloc((size_t)cJSON_GetArraySize(addresses.value), sizeof(*endpoint->addresses));
	cJSON_ArrayForEach (json, addresses.value) {
		struct json_node child = json_element(&addresses, json, index++);
		struct addr addr;

		if (!read_routable(reader, &child, &addr))
			continue;
		if (addr_is_v4(&addr) == slice->v6)
			reader_error(reader, &child, "\"%s\" is not of the slice's addressType",
				     cJSON_GetStringValue(json));
		endpoint->addresses[endpoint->address_count++] = addr;
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
	port->name = xstrdup(text ? text : "");
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
	slice->service_name = xstrdup(text ? text : "");
	read_address_type(reader, &type, slice);
	if (read_is_array(reader, &endpoints)) {
		slice->endpoints = xcalloc((size_t)cJSON_GetArraySize(endpoints.value),
					   sizeof(*slice->endpoints));
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
