/* SPDX-License-Identifier: Apache-2.0 */
/* v1 Service. */
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/shared.h"
#include "policy/objects/name.h"
#include "policy/objects/reader.h"

#define SERVICE_PORTS_MAX  1000 /* each is held against the others */
#define AFFINITY_DEFAULT_S 10800
#define AFFINITY_MAX_S     86400

/* ---- services ---- */

bool read_routable(struct reader *reader, const struct json_node *at, struct addr *ret_addr)
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
	struct json_node node_port = json_member(at, "nodePort");
	struct service_port *port = &service->ports[service->port_count];
	const char *text;

	if (!read_is_object(reader, at))
		return;
	service->port_count++;
	text = read_string(reader, &name);
	port->name = shared_string(text ? text : "");
	port->port = read_port(reader, &number);
	port->proto = read_proto(reader, &proto);
	port->node_port = read_optional_port(reader, &node_port);
	if (!number.value)
		reader_missing(reader, &number);
	if (!cJSON_IsString(target.value)) {
		uint16_t target_port = read_optional_port(reader, &target);

		port->target_port = target_port ? target_port : port->port;
	} else if (*cJSON_GetStringValue(target.value)) {
		port->target_name = shared_string(cJSON_GetStringValue(target.value));
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

/* ---- who may use it, and which endpoints ---- */

/* Reads one of two words; the first is the default.  True: the second. */
static bool read_choice(struct reader *reader, const struct json_node *spec, const char *field,
			const char *first, const char *second)
{
	struct json_node at = json_member(spec, field);
	const char *text = read_string(reader, &at);

	if (!text || !*text || strcmp(text, first) == 0)
		return false;
	if (strcmp(text, second) != 0)
		reader_error(reader, &at, "\"%s\" is not %s or %s", text, first, second);
	return true;
}

static uint32_t read_affinity(struct reader *reader, const struct json_node *spec)
{
	struct json_node config = json_member(spec, "sessionAffinityConfig");
	struct json_node client = json_member(&config, "clientIP");
	struct json_node timeout = json_member(&client, "timeoutSeconds");

	if (!read_choice(reader, spec, "sessionAffinity", "None", "ClientIP"))
		return 0;
	read_is_object(reader, &config);
	read_is_object(reader, &client);
	return (uint32_t)read_integer(reader, &timeout, 1, AFFINITY_MAX_S, AFFINITY_DEFAULT_S);
}

/* Adds an address that is not there yet. */
static void addresses_add(struct addr **addresses, size_t *count, size_t *room,
			  const struct addr *addr)
{
	for (size_t i = 0; i < *count; i++) {
		if (addr_equal(&(*addresses)[i], addr))
			return;
	}
	array_room(addresses, *count, room, sizeof(**addresses));
	(*addresses)[(*count)++] = *addr;
}

struct gap_place {
	struct reader *reader;
	const struct json_node *spec;
};

static void gap_warn(const char *field, const char *text, void *arg)
{
	const struct gap_place *place = arg;
	struct json_node at = json_member(place->spec, field);

	reader_problem(place->reader, &at, PROBLEM_WARNING, "%s", text);
}

static void read_external_ips(struct reader *reader, const struct json_node *spec,
			      struct service_object *service)
{
	struct json_node list = json_member(spec, "externalIPs");
	size_t index = 0, room = 0;
	const cJSON *json;
	struct addr addr;

	if (!read_is_array(reader, &list))
		return;
	cJSON_ArrayForEach (json, list.value) {
		struct json_node child = json_element(&list, json, index++);

		if (read_routable(reader, &child, &addr))
			addresses_add(&service->external_ips, &service->external_ip_count, &room,
				      &addr);
	}
	if (!service->external_ip_count)
		return;
	service->gaps |= SERVICE_GAP_EXTERNAL_IPS;
	service_gaps_each(SERVICE_GAP_EXTERNAL_IPS, gap_warn, &(struct gap_place){ reader, spec });
}

static void read_source_ranges(struct reader *reader, const struct json_node *spec,
			       struct service_object *service)
{
	struct json_node list = json_member(spec, "loadBalancerSourceRanges");
	size_t index = 0;
	const cJSON *json;
	bool host_bits;

	if (!read_is_array(reader, &list) || !cJSON_GetArraySize(list.value))
		return;
	service->source_ranges =
		xcalloc((size_t)cJSON_GetArraySize(list.value), sizeof(*service->source_ranges));
	cJSON_ArrayForEach (json, list.value) {
		struct json_node child = json_element(&list, json, index++);

		if (read_cidr(reader, &child, &service->source_ranges[service->source_range_count],
			      &host_bits))
			service->source_range_count++;
	}
}

/* Addresses of a load balancer that delivers packets as they are.  With ipMode Proxy they reach
 * the node by another address, and clients inside must go by the balancer, too. */
static void read_balancer(struct reader *reader, const struct json_node *root,
			  struct service_object *service)
{
	struct json_node status = json_member(root, "status");
	struct json_node balancer = json_member(&status, "loadBalancer");
	struct json_node list = json_member(&balancer, "ingress");
	size_t index = 0, room = 0;
	const cJSON *json;

	if (!read_is_object(reader, &status) || !read_is_object(reader, &balancer) ||
	    !read_is_array(reader, &list))
		return;
	cJSON_ArrayForEach (json, list.value) {
		struct json_node child = json_element(&list, json, index++);
		struct json_node ip = json_member(&child, "ip");
		struct addr addr;

		if (!read_is_object(reader, &child) || !ip.value ||
		    read_choice(reader, &child, "ipMode", "VIP", "Proxy"))
			continue;
		if (read_routable(reader, &ip, &addr))
			addresses_add(&service->balancer_ips, &service->balancer_ip_count, &room,
				      &addr);
	}
}

static enum service_type read_type(struct reader *reader, const struct json_node *spec)
{
	struct json_node at = json_member(spec, "type");
	const char *text = read_string(reader, &at);

	if (!text || !*text)
		return TYPE_CLUSTER_IP;
	for (int type = TYPE_CLUSTER_IP; type <= TYPE_EXTERNAL_NAME; type++) {
		if (strcmp(text, service_type_name((enum service_type)type)) == 0)
			return (enum service_type)type;
	}
	reader_error(reader, &at, "\"%s\" is not ClusterIP, NodePort, LoadBalancer or ExternalName",
		     text);
	return TYPE_CLUSTER_IP;
}

static void read_traffic(struct reader *reader, const struct json_node *root,
			 const struct json_node *spec, struct service_object *service)
{
	struct json_node not_ready = json_member(spec, "publishNotReadyAddresses");
	struct json_node health_check = json_member(spec, "healthCheckNodePort");

	service->publish_not_ready = read_bool(reader, &not_ready, false);
	service->affinity_s = read_affinity(reader, spec);
	service->internal_local =
		read_choice(reader, spec, "internalTrafficPolicy", "Cluster", "Local");
	service->external_local =
		read_choice(reader, spec, "externalTrafficPolicy", "Cluster", "Local");
	read_external_ips(reader, spec, service);
	if (service->type != TYPE_LOAD_BALANCER)
		return;
	service->health_check_port = read_optional_port(reader, &health_check);
	read_source_ranges(reader, spec, service);
	read_balancer(reader, root, service);
}

bool read_foreign(struct reader *reader, const struct json_node *labels)
{
	struct json_node proxy = json_member(labels, "service.kubernetes.io/service-proxy-name");
	struct json_node headless = json_member(labels, "service.kubernetes.io/headless");

	return read_is_object(reader, labels) &&
	       (read_string(reader, &proxy) || read_string(reader, &headless));
}

/* Cilium's annotation is understood, too.  Another value is no reason to refuse a Service. */
static enum lb_algorithm read_algorithm(struct reader *reader, const struct json_node *metadata)
{
	static const char *const keys[] = { "tendril.io/lb-algorithm",
					    "service.cilium.io/lb-algorithm" };
	struct json_node annotations = json_member(metadata, "annotations");

	if (!read_is_object(reader, &annotations))
		return LB_DEFAULT;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct json_node node = json_member(&annotations, keys[i]);
		const char *text = read_string(reader, &node);

		if (text && strcmp(text, "maglev") == 0)
			return LB_MAGLEV;
		if (text && strcmp(text, "random") == 0)
			return LB_RANDOM;
	}
	return LB_DEFAULT;
}

void read_service(struct reader *reader, const struct json_node *root, struct object *object)
{
	struct service_object *service = &object->service;
	struct json_node metadata = json_member(root, "metadata");
	struct json_node labels = json_member(&metadata, "labels");
	struct json_node spec = json_member(root, "spec");
	struct json_node ports = json_member(&spec, "ports");
	struct json_node selector = json_member(&spec, "selector");
	const cJSON *json;
	size_t index = 0;

	service->foreign = read_foreign(reader, &labels);
	service->algorithm = read_algorithm(reader, &metadata);
	if (!read_is_object(reader, &spec))
		return;
	read_labels(reader, &selector, &service->selector);
	service->type = read_type(reader, &spec);
	if (!service->foreign)
		read_traffic(reader, root, &spec, service);
	if (service->type != TYPE_EXTERNAL_NAME)
		read_cluster_ips(reader, &spec, service);
	if (!read_is_array(reader, &ports))
		return;
	if (cJSON_GetArraySize(ports.value) > SERVICE_PORTS_MAX) {
		reader_error(reader, &ports, "more than %d ports", SERVICE_PORTS_MAX);
		return;
	}
	service->ports = xcalloc((size_t)cJSON_GetArraySize(ports.value), sizeof(*service->ports));
	cJSON_ArrayForEach (json, ports.value) {
		struct json_node child = json_element(&ports, json, index++);

		read_service_port(reader, &child, service);
	}
}
