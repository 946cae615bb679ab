/* SPDX-License-Identifier: Apache-2.0 */
/* v1 Namespace, Node and Pod: the few fields that networking reads. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/objects/name.h"
#include "policy/objects/reader.h"

void read_namespace(struct reader *reader, const struct node *root, struct object *object)
{
	struct node metadata = node_child(root, "metadata");
	struct node labels = node_child(&metadata, "labels");

	read_labels(reader, &labels, &object->ns.labels);
	/* The API server sets it, and nobody can take it away; a file may lack it. */
	if (object->name)
		labels_set(&object->ns.labels, "kubernetes.io/metadata.name", object->name);
}

void read_node(struct reader *reader, const struct node *root, struct object *object)
{
	struct node_object *node = &object->node;
	struct node metadata = node_child(root, "metadata");
	struct node labels = node_child(&metadata, "labels");
	struct node status = node_child(root, "status");
	struct node addresses = node_child(&status, "addresses");
	const cJSON *json;
	size_t index = 0;

	read_labels(reader, &labels, &node->labels);
	if (!read_is_object(reader, &status) || !read_is_array(reader, &addresses))
		return;
	node->addresses =
		xcalloc((size_t)cJSON_GetArraySize(addresses.json), sizeof(*node->addresses));
	cJSON_ArrayForEach (json, addresses.json) {
		struct node child = node_item(&addresses, json, index++);
		struct node type = node_child(&child, "type");
		struct node address = node_child(&child, "address");
		const char *text;

		if (!read_is_object(reader, &child))
			continue;
		text = read_string(reader, &type);
		if (!text || (strcmp(text, "InternalIP") != 0 && strcmp(text, "ExternalIP") != 0))
			continue;
		if (read_addr(reader, &address, &node->addresses[node->address_count]))
			node->address_count++;
	}
}

/* ---- pods ---- */

static void pod_add_address(struct reader *reader, const struct node *at, struct pod_object *pod)
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

static void read_pod_status(struct reader *reader, const struct node *status,
			    struct pod_object *pod)
{
	struct node phase = node_child(status, "phase");
	struct node list = node_child(status, "podIPs");
	struct node single = node_child(status, "podIP");
	const char *text;
	const cJSON *json;
	size_t index = 0;

	if (!read_is_object(reader, status))
		return;
	text = read_string(reader, &phase);
	pod->terminated = text && (strcmp(text, "Succeeded") == 0 || strcmp(text, "Failed") == 0);
	if (read_is_array(reader, &list)) {
		cJSON_ArrayForEach (json, list.json) {
			struct node child = node_item(&list, json, index++);
			struct node ip = node_child(&child, "ip");

			if (read_is_object(reader, &child))
				pod_add_address(reader, &ip, pod);
		}
	}
	if (pod->address_count == 0)
		pod_add_address(reader, &single, pod);
}

static void read_container_port(struct reader *reader, const struct node *at,
				struct pod_object *pod)
{
	struct node name = node_child(at, "name");
	struct node number = node_child(at, "containerPort");
	struct node proto = node_child(at, "protocol");
	const char *text;
	const char *wanted;
	struct named_port port;

	if (!read_is_object(reader, at))
		return;
	text = read_string(reader, &name);
	port.port = read_port(reader, &number);
	port.proto = read_proto(reader, &proto);
	if (!number.json)
		reader_missing(reader, &number);
	if (!text || !*text)
		return;
	wanted = name_check_port(text);
	if (wanted)
		reader_error(reader, &name, "\"%s\" is not a port name: %s", text, wanted);
	port.name = xstrdup(text);
	pod->ports = xreallocarray(pod->ports, pod->port_count + 1, sizeof(*pod->ports));
	pod->ports[pod->port_count++] = port;
}

static void read_containers(struct reader *reader, const struct node *list, bool only_sidecars,
			    struct pod_object *pod)
{
	const cJSON *json;
	size_t index = 0;

	if (!read_is_array(reader, list))
		return;
	cJSON_ArrayForEach (json, list->json) {
		struct node child = node_item(list, json, index++);
		struct node ports = node_child(&child, "ports");
		struct node restart = node_child(&child, "restartPolicy");
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
		cJSON_ArrayForEach (port, ports.json) {
			struct node item = node_item(&ports, port, number++);

			read_container_port(reader, &item, pod);
		}
	}
}

void read_pod(struct reader *reader, const struct node *root, struct object *object)
{
	struct pod_object *pod = &object->pod;
	struct node metadata = node_child(root, "metadata");
	struct node labels = node_child(&metadata, "labels");
	struct node annotations = node_child(&metadata, "annotations");
	struct node created = node_child(&metadata, "creationTimestamp");
	struct node deleted = node_child(&metadata, "deletionTimestamp");
	struct node spec = node_child(root, "spec");
	struct node status = node_child(root, "status");
	const char *text;

	read_labels(reader, &labels, &pod->labels);
	pod->created = time_parse(read_string(reader, &created));
	pod->deleting = read_string(reader, &deleted) != NULL;
	if (read_is_object(reader, &annotations)) {
		struct node accel = node_child(&annotations, "tendril.io/accelerate");
		struct node audit = node_child(&annotations, "tendril.io/policy-audit");

		text = read_string(reader, &accel);
		pod->accel = text && strcmp(text, "true") == 0;
		text = read_string(reader, &audit);
		pod->audit = text && strcmp(text, "true") == 0;
	}
	if (read_is_object(reader, &spec)) {
		struct node node_name = node_child(&spec, "nodeName");
		struct node host_network = node_child(&spec, "hostNetwork");
		struct node containers = node_child(&spec, "containers");
		struct node init = node_child(&spec, "initContainers");

		text = read_string(reader, &node_name);
		pod->node_name = xstrdup(text ? text : "");
		pod->host_network = read_bool(reader, &host_network, false);
		read_containers(reader, &containers, false, pod);
		read_containers(reader, &init, true, pod);
	} else {
		pod->node_name = xstrdup("");
	}
	read_pod_status(reader, &status, pod);
}
