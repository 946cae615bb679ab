/* SPDX-License-Identifier: Apache-2.0 */
/* v1 Namespace, Node and Pod: the few fields that networking reads. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/shared.h"
#include "policy/objects/name.h"
#include "policy/objects/reader.h"

void read_namespace(struct reader *reader, const struct json_node *root, struct object *object)
{
	struct json_node metadata = json_member(root, "metadata");
	struct json_node labels = json_member(&metadata, "labels");

	read_labels(reader, &labels, &object->ns.labels);
	/* The API server sets it, and nobody can take it away; a file may lack it. */
	if (object->name)
		labels_set(&object->ns.labels, "kubernetes.io/metadata.name", object->name);
}

static void read_node_address(struct reader *reader, const struct json_node *at,
			      struct node_object *node)
{
	struct json_node type = json_member(at, "type");
	struct json_node address = json_member(at, "address");
	const char *text = read_string(reader, &type);
	struct addr *addr = &node->addresses[node->address_count];
	struct addr *internal;

	if (!text || (strcmp(text, "InternalIP") != 0 && strcmp(text, "ExternalIP") != 0) ||
	    !read_addr(reader, &address, addr))
		return;
	node->address_count++;
	internal = addr_is_v4(addr) ? &node->internal_v4 : &node->internal_v6;
	if (strcmp(text, "InternalIP") == 0 && addr_is_zero(internal))
		*internal = *addr;
}

static void read_pod_cidrs(struct reader *reader, const struct json_node *spec,
			   struct node_object *node)
{
	struct json_node list = json_member(spec, "podCIDRs");
	struct json_node single = json_member(spec, "podCIDR");
	const cJSON *json;
	bool host_bits;
	size_t index = 0;

	node->pod_cidrs = xcalloc(NODE_POD_CIDRS_MAX, sizeof(*node->pod_cidrs));
	if (!list.value && single.value) {
		node->pod_cidr_count =
			read_cidr(reader, &single, &node->pod_cidrs[0], &host_bits) ? 1 : 0;
		return;
	}
	if (!read_is_array(reader, &list))
		return;
	cJSON_ArrayForEach (json, list.value) {
		struct json_node child = json_element(&list, json, index++);

		if (node->pod_cidr_count == NODE_POD_CIDRS_MAX) {
			reader_error(reader, &child, "a node has at most %d ranges of pods",
				     NODE_POD_CIDRS_MAX);
			return;
		}
		if (read_cidr(reader, &child, &node->pod_cidrs[node->pod_cidr_count], &host_bits))
			node->pod_cidr_count++;
	}
}

/* Cluster autoscalers put it on a node that they are about to delete (KEP-3836). */
static bool read_leaving(struct reader *reader, const struct json_node *spec)
{
	struct json_node list = json_member(spec, "taints");
	bool leaving = false;
	const cJSON *json;
	size_t index = 0;

	if (!read_is_array(reader, &list))
		return false;
	cJSON_ArrayForEach (json, list.value) {
		struct json_node child = json_element(&list, json, index++);
		struct json_node key = json_member(&child, "key");
		const char *text =
			read_is_object(reader, &child) ? read_string(reader, &key) : NULL;

		leaving |= text && strcmp(text, "ToBeDeletedByClusterAutoscaler") == 0;
	}
	return leaving;
}

/* A node that announces no usable key would get packets in clear, or none: better to say so. */
static void read_node_key(struct reader *reader, const struct json_node *metadata,
			  struct node_object *node)
{
	struct json_node annotations = json_member(metadata, "annotations");
	struct json_node key = json_member(&annotations, NODE_KEY_ANNOTATION);
	const char *text = read_is_object(reader, &annotations) ? read_string(reader, &key) : NULL;

	if (text && wireguard_key_parse(text, &node->wireguard_key) < 0)
		reader_error(reader, &key, "not a key of WireGuard: 44 characters of base64");
}

void read_node(struct reader *reader, const struct json_node *root, struct object *object)
{
	struct node_object *node = &object->node;
	struct json_node metadata = json_member(root, "metadata");
	struct json_node labels = json_member(&metadata, "labels");
	struct json_node deleted = json_member(&metadata, "deletionTimestamp");
	struct json_node spec = json_member(root, "spec");
	struct json_node status = json_member(root, "status");
	struct json_node addresses = json_member(&status, "addresses");
	const cJSON *json;
	size_t index = 0;

	read_labels(reader, &labels, &node->labels);
	read_node_key(reader, &metadata, node);
	node->leaving = read_string(reader, &deleted) != NULL;
	if (read_is_object(reader, &spec)) {
		read_pod_cidrs(reader, &spec, node);
		node->leaving |= read_leaving(reader, &spec);
	}
	if (!read_is_object(reader, &status) || !read_is_array(reader, &addresses))
		return;
	node->addresses =
		xcalloc((size_t)cJSON_GetArraySize(addresses.value), sizeof(*node->addresses));
	cJSON_ArrayForEach (json, addresses.value) {
		struct json_node child = json_element(&addresses, json, index++);

		if (read_is_object(reader, &child))
			read_node_address(reader, &child, node);
	}
}

/* ---- pods ---- */

static void pod_add_address(struct reader *reader, const struct json_node *at,
			    struct pod_object *pod)
{
	struct addr addr;

	if (!read_addr(reader, at, &addr))
		return;
	for (size_t i = 0; i < pod->address_count; i++) {
		if (addr_equal(&pod->addresses[i], &addr))
			return;
	}
	if (pod->address_count == ARRAY_SIZE(pod->addresses)) {
		reader_error(reader, at, "a pod has at most %zu addresses",
			     ARRAY_SIZE(pod->addresses));
		return;
	}
	pod->addresses[pod->address_count++] = addr;
}

/* Seconds since 1970; 0 if the text is no time as Kubernetes writes it ("2026-01-31T12:00:00Z"). */
static int64_t time_parse(const char *text)
{
	struct tm time = { 0 };
	const char *end = text ? strptime(text, "%Y-%m-%dT%H:%M:%SZ", &time) : NULL;

	return end && !*end ? timegm(&time) : 0;
}

/* Whether the condition Ready is true; where it is not written, whether the pod may be ready. */
static bool read_ready(struct reader *reader, const struct json_node *status, bool pending)
{
	struct json_node list = json_member(status, "conditions");
	const cJSON *json;
	size_t index = 0;

	if (!read_is_array(reader, &list))
		return !pending;
	cJSON_ArrayForEach (json, list.value) {
		struct json_node child = json_element(&list, json, index++);
		struct json_node type = json_member(&child, "type");
		struct json_node value = json_member(&child, "status");
		const char *text;

		if (!read_is_object(reader, &child))
			continue;
		text = read_string(reader, &type);
		if (!text || strcmp(text, "Ready") != 0)
			continue;
		text = read_string(reader, &value);
		return text && strcmp(text, "True") == 0;
	}
	return !pending;
}

static void read_pod_status(struct reader *reader, const struct json_node *status,
			    struct pod_object *pod)
{
	struct json_node phase = json_member(status, "phase");
	struct json_node list = json_member(status, "podIPs");
	struct json_node single = json_member(status, "podIP");
	const char *text;
	const cJSON *json;
	size_t index = 0;

	pod->ready = true;
	if (!read_is_object(reader, status))
		return;
	text = read_string(reader, &phase);
	pod->ready = read_ready(reader, status, text && strcmp(text, "Pending") == 0);
	pod->terminated = text && (strcmp(text, "Succeeded") == 0 || strcmp(text, "Failed") == 0);
	if (read_is_array(reader, &list)) {
		cJSON_ArrayForEach (json, list.value) {
			struct json_node child = json_element(&list, json, index++);
			struct json_node ip = json_member(&child, "ip");

			if (read_is_object(reader, &child))
				pod_add_address(reader, &ip, pod);
		}
	}
	if (pod->address_count == 0)
		pod_add_address(reader, &single, pod);
}

static void read_host_port(struct reader *reader, const struct json_node *at, uint16_t port,
			   uint8_t proto, struct pod_object *pod)
{
	struct json_node number = json_member(at, "hostPort");
	struct json_node ip = json_member(at, "hostIP");
	struct host_port host = { .port = port, .proto = proto };
	const char *text = read_string(reader, &ip);

	host.host_port = read_optional_port(reader, &number);
	if (text && *text && read_addr(reader, &ip, &host.host_ip) &&
	    (strcmp(text, "0.0.0.0") == 0 || strcmp(text, "::") == 0))
		host.host_ip = (struct addr){ 0 };
	if (!host.host_port || pod->host_network)
		return;
	if (pod->host_port_count == HOST_PORTS_MAX) {
		reader_error(reader, at, "more than %d host ports", HOST_PORTS_MAX);
		return;
	}
	pod->host_ports =
		xreallocarray(pod->host_ports, pod->host_port_count + 1, sizeof(*pod->host_ports));
	pod->host_ports[pod->host_port_count++] = host;
}

static void read_container_port(struct reader *reader, const struct json_node *at,
				struct pod_object *pod)
{
	struct json_node name = json_member(at, "name");
	struct json_node number = json_member(at, "containerPort");
	struct json_node proto = json_member(at, "protocol");
	const char *text;
	const char *wanted;
	struct named_port port;

	if (!read_is_object(reader, at))
		return;
	text = read_string(reader, &name);
	port.port = read_port(reader, &number);
	port.proto = read_proto(reader, &proto);
	read_required(reader, &number);
	read_host_port(reader, at, port.port, port.proto, pod);
	if (!text || !*text)
		return;
	wanted = name_check_port(text);
	if (wanted)
		reader_error(reader, &name, "\"%s\" is not a port name: %s", text, wanted);
	port.name = shared_string(text);
	pod->ports = xreallocarray(pod->ports, pod->port_count + 1, sizeof(*pod->ports));
	pod->ports[pod->port_count++] = port;
}

static void read_containers(struct reader *reader, const struct json_node *list, bool only_sidecars,
			    struct pod_object *pod)
{
	const cJSON *json;
	size_t index = 0;

	if (!read_is_array(reader, list))
		return;
	cJSON_ArrayForEach (json, list->value) {
		struct json_node child = json_element(list, json, index++);
		struct json_node ports = json_member(&child, "ports");
		struct json_node restart = json_member(&child, "restartPolicy");
		const cJSON *port;
		const char *text;
		size_t number = 0;

		if (!read_is_object(reader, &child))
			continue;
		text = read_string(reader, &restart);
		if (only_sidecars && (!text || strcmp(text, "Always") != 0))
			continue;
		if (!read_is_array(reader, &ports))
			continue;
		cJSON_ArrayForEach (port, ports.value) {
			struct json_node item = json_element(&ports, port, number++);

			read_container_port(reader, &item, pod);
		}
	}
}

/* A quantity of Kubernetes ("10M", "1.5Gi", "2e6") between 1k and 1P, as the API server demands
 * of bandwidth (validation.ValidatePodSpecificAnnotations; kubectl's ExtractPodBandwidthResources).
 * Returns 0 if it is none. */
static uint64_t bandwidth_parse(const char *text)
{
	static const struct {
		const char *suffix;
		double factor;
	} units[] = {
		{ "", 1 },         { "k", 1e3 },         { "M", 1e6 },      { "G", 1e9 },
		{ "T", 1e12 },     { "P", 1e15 },        { "Ki", 1 << 10 }, { "Mi", 1 << 20 },
		{ "Gi", 1 << 30 }, { "Ti", 1ULL << 40 },
	};
	char *end;
	double number = strtod(text, &end);

	/* strtod() also takes blanks, hexadecimal numbers, "inf" and "nan". */
	if (!isdigit((unsigned char)*text) ||
	    strspn(text, "0123456789.eE+-") < (size_t)(end - text))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		double rate = number * units[i].factor;

		if (strcmp(end, units[i].suffix) == 0)
			return rate >= 1e3 && rate <= 1e15 ? (uint64_t)rate : 0;
	}
	return 0;
}

/* What is wrong must not keep the pod from being known: it is told, and there is no limit. */
static uint64_t read_bandwidth(struct reader *reader, const struct json_node *annotations,
			       const char *key)
{
	struct json_node at = json_member(annotations, key);
	const char *text = read_string(reader, &at);
	uint64_t limit = text ? bandwidth_parse(text) : 0;

	if (text && !limit)
		reader_problem(
			reader, &at, PROBLEM_WARNING,
			"\"%s\" is no number of bits a second from 1k to 1P: there is no limit",
			text);
	return limit;
}

void read_pod(struct reader *reader, const struct json_node *root, struct object *object)
{
	struct pod_object *pod = &object->pod;
	struct json_node metadata = json_member(root, "metadata");
	struct json_node labels = json_member(&metadata, "labels");
	struct json_node annotations = json_member(&metadata, "annotations");
	struct json_node created = json_member(&metadata, "creationTimestamp");
	struct json_node deleted = json_member(&metadata, "deletionTimestamp");
	struct json_node spec = json_member(root, "spec");
	struct json_node status = json_member(root, "status");
	const char *text;

	read_labels(reader, &labels, &pod->labels);
	pod->created = time_parse(read_string(reader, &created));
	pod->deleting = read_string(reader, &deleted) != NULL;
	if (read_is_object(reader, &annotations)) {
		struct json_node accel = json_member(&annotations, "tendril.io/accelerate");
		struct json_node audit = json_member(&annotations, "tendril.io/policy-audit");
		struct json_node mirror = json_member(&annotations, "kubernetes.io/config.mirror");

		text = read_string(reader, &accel);
		pod->accel = text && strcmp(text, "true") == 0;
		text = read_string(reader, &audit);
		pod->audit = text && strcmp(text, "true") == 0;
		pod->egress_bandwidth =
			read_bandwidth(reader, &annotations, "kubernetes.io/egress-bandwidth");
		pod->ingress_bandwidth =
			read_bandwidth(reader, &annotations, "kubernetes.io/ingress-bandwidth");
		text = read_string(reader, &mirror);
		if (text) { /* of a static pod, whose kubelet calls it so */
			free(object->uid);
			object->uid = xstrdup(text);
		}
	}
	if (read_is_object(reader, &spec)) {
		struct json_node node_name = json_member(&spec, "nodeName");
		struct json_node host_network = json_member(&spec, "hostNetwork");
		struct json_node containers = json_member(&spec, "containers");
		struct json_node init = json_member(&spec, "initContainers");

		text = read_string(reader, &node_name);
		pod->node_name = shared_string(text ? text : "");
		pod->host_network = read_bool(reader, &host_network, false);
		read_containers(reader, &containers, false, pod);
		read_containers(reader, &init, true, pod);
	} else {
		pod->node_name = shared_string("");
	}
	read_pod_status(reader, &status, pod);
}
