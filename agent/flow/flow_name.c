/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flow/flow_name.h"

#include <stdio.h>
#include <string.h>

#include "agent/endpoint/endpoint.h"
#include "datapath/maps.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/table.h"
#include "policy/objects/store.h"

#define KNOWN_MAX 4096 /* addresses, and namespaces, that are remembered */
/* Names of pods that come and go fill the memory of flows; then first the labels are left out, and
 * then names. */
#define LABELS_BYTES_MAX (1024 * 1024)
#define NAMES_BYTES_MAX  (1536 * 1024)

struct known {
	const void *owner; /* in the store, or NULL: only compared */
	uint64_t changes;
	uint64_t left_ns;     /* when its former owner left, until it is known who came */
	uint64_t since_ns;    /* that it has its owner; 0: as long as is known */
	struct flow_who who;  /* holds its name */
	uint32_t identity_v6; /* of a namespace's pod; who has that behind its IPv4 address */
};

struct flow_names {
	struct datapath *datapath;
	const struct endpoints *endpoints;
	const struct store *store;
	struct table addresses;  /* struct addr -> struct known */
	struct table namespaces; /* cookie -> struct known */
	size_t bytes;            /* of all names */
};

/* ---- one name -------------------------------------------------------------------------------- */

void flow_name_drop(struct flow_names *names, struct flow_name *name)
{
	if (!name || --name->refs)
		return;
	names->bytes -= name->size;
	free(name);
}

static struct flow_name *name_hold(struct flow_name *name)
{
	if (name)
		name->refs++;
	return name;
}

static const char *label_value(const struct labels *labels, const char *key)
{
	for (size_t i = 0; labels && i < labels->count; i++) {
		if (strcmp(labels->items[i].key, key) == 0)
			return labels->items[i].value;
	}
	return NULL;
}

/* The name without its last parts, each "-" and what follows. */
static void name_without(const char *name, int parts, char *buf, size_t size)
{
	char *dash;

	snprintf(buf, size, "%s", name);
	while (parts-- > 0 && (dash = strrchr(buf, '-')) && dash > buf)
		*dash = '\0';
}

/* The workload that owns a pod, by the labels which its controller sets. */
static const char *workload_of(const struct labels *labels, const char *pod, char *buf, size_t size)
{
	static const struct {
		const char *label;
		const char *kind;
		int parts; /* of the pod's name that the controller appends; 0: the label names it
			    */
	} rows[] = {
		{ "batch.kubernetes.io/job-name", "Job", 0 },
		{ "job-name", "Job", 0 },
		{ "pod-template-hash", "Deployment", 2 },
		{ "statefulset.kubernetes.io/pod-name", "StatefulSet", 1 },
		{ "controller-revision-hash", "DaemonSet", 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *value = label_value(labels, rows[i].label);

		if (!value)
			continue;
		if (rows[i].parts)
			name_without(pod, rows[i].parts, buf, size);
		else
			snprintf(buf, size, "%s", value);
		return rows[i].kind;
	}
	buf[0] = '\0';
	return "";
}

static bool name_is_same(const struct flow_name *a, const struct flow_name *b)
{
	return a && b && a->kind == b->kind && strcmp(a->namespace, b->namespace) == 0 &&
	       strcmp(a->name, b->name) == 0;
}

static bool name_equal(const struct flow_name *a, const struct flow_name *b)
{
	return a && a->kind == b->kind && a->size == b->size &&
	       memcmp(a->namespace, b->namespace, a->size - sizeof(*a)) == 0;
}

/* The former name where it still says the same, else a new one. */
static struct flow_name *name_make(struct flow_names *names, enum flow_name_kind kind,
				   const char *namespace, const char *pod,
				   const struct labels *labels, struct flow_name *former)
{
	auto_buffer struct buffer text = {};
	char workload[256] = "";
	const char *workload_kind = "";
	struct flow_name *name;

	if (kind == NAME_POD)
		workload_kind = workload_of(labels, pod, workload, sizeof(workload));
	buffer_text(&text, namespace);
	buffer_text(&text, pod);
	buffer_text(&text, workload);
	buffer_text(&text, workload_kind);
	for (size_t i = 0; labels && names->bytes < LABELS_BYTES_MAX && i < labels->count; i++) {
		buffer_print(&text, "%s=%s", labels->items[i].key, labels->items[i].value);
		buffer_add(&text, "", 1);
	}
	buffer_add(&text, "", 1);
	name = xcalloc(1, sizeof(*name) + text.len);
	memcpy(name + 1, text.data, text.len);
	name->kind = kind;
	name->size = (uint32_t)(sizeof(*name) + text.len);
	name->namespace = (const char *)(name + 1);
	name->name = name->namespace + strlen(name->namespace) + 1;
	name->workload = name->name + strlen(name->name) + 1;
	name->workload_kind = name->workload + strlen(name->workload) + 1;
	name->labels = name->workload_kind + strlen(name->workload_kind) + 1;
	/* Where labels are left out, the former ones are better than none. */
	if (name_equal(former, name) ||
	    (names->bytes >= LABELS_BYTES_MAX && name_is_same(former, name))) {
		free(name);
		return name_hold(former);
	}
	if (names->bytes + name->size > NAMES_BYTES_MAX) {
		free(name);
		return NULL;
	}
	name->refs = 1;
	names->bytes += name->size;
	return name;
}

/* ---- what is known --------------------------------------------------------------------------- */

static void known_clear(struct flow_names *names, struct table *table, size_t key_size)
{
	const struct known *known;
	const void *key;
	size_t pos = 0;

	while ((known = table_next(table, &pos, &key)))
		flow_name_drop(names, known->who.name);
	table_done(table);
	table_init(table, key_size, sizeof(struct known));
}

/* The entry of a key; makes room where too many are known. */
static struct known *known_put(struct flow_names *names, struct table *table, const void *key)
{
	if (table->count >= KNOWN_MAX && !table_find(table, key))
		known_clear(names, table, table->key_size);
	return table_put(table, key);
}

/* Another number after each change of a pod, an address or a policy. */
static uint64_t changes_now(const struct flow_names *names)
{
	return store_pod_changes(names->store) << 32 | maps_node(names->datapath)->revision;
}

static struct flow_who who_hold(const struct known *known)
{
	struct flow_who who = known->who;

	name_hold(who.name);
	return who;
}

static void known_set(struct flow_names *names, struct known *known, struct flow_name *name)
{
	struct flow_name *former = known->who.name;

	known->who.name = name;
	flow_name_drop(names, former);
}

static struct flow_name *name_of_endpoint(struct flow_names *names,
					  const struct endpoint_info *info,
					  struct flow_name *former)
{
	const struct object *pod =
		store_find(names->store, OBJECT_POD, info->namespace, info->name);

	return name_make(names, NAME_POD, info->namespace, info->name,
			 pod ? &pod->pod.labels : info->labels, former);
}

static struct flow_name *name_of_object(struct flow_names *names, const struct object *object,
					struct flow_name *former)
{
	if (object && object->kind == OBJECT_POD)
		return name_make(names, NAME_POD, object->namespace, object->name,
				 &object->pod.labels, former);
	if (object && object->kind == OBJECT_SERVICE)
		return name_make(names, NAME_SERVICE, object->namespace, object->name, NULL,
				 former);
	return NULL;
}

static bool is_host(const struct flow_names *names, const struct addr *addr)
{
	const struct addr *hosts;
	size_t count = store_host_addresses(names->store, &hosts);

	for (size_t i = 0; i < count; i++) {
		if (addr_equal(&hosts[i], addr))
			return true;
	}
	return false;
}

/* What is known of an address now. */
static struct known *known_addr(struct flow_names *names, const struct addr *addr)
{
	const struct object *owner = store_owner(names->store, addr);
	struct known *known = table_find(&names->addresses, addr);
	uint64_t changes = changes_now(names);
	struct ipcache_entry entry = {};
	struct endpoint_info info;
	struct flow_name *name;

	if (known && known->owner == owner && known->changes == changes && !known->left_ns)
		return known;
	known = known_put(names, &names->addresses, addr);
	known->owner = owner;
	known->changes = changes;
	if (ipcache_map_get(names->datapath, addr, &entry) || !entry.identity)
		entry.identity = is_host(names, addr) ? IDENTITY_HOST : IDENTITY_WORLD;
	known->who.identity = entry.identity;
	known->who.slot = 0;
	if (entry.slot && endpoints_by_slot(names->endpoints, entry.slot, &info)) {
		known->who.slot = entry.slot;
		name = name_of_endpoint(names, &info, known->who.name);
	} else {
		name = name_of_object(names, owner, known->who.name);
	}
	/* An object that was replaced has left and come again. */
	if (known->left_ns && !name_is_same(known->who.name, name))
		known->since_ns = known->left_ns;
	known->left_ns = 0;
	known_set(names, known, name);
	return known;
}

struct flow_who flow_names_addr(struct flow_names *names, const struct addr *addr,
				uint64_t since_ns)
{
	const struct known *known = known_addr(names, addr);

	return since_ns < known->since_ns ? (struct flow_who){ 0 } : who_hold(known);
}

void flow_names_leave(struct flow_names *names, const struct addr *addr)
{
	struct known *known = known_addr(names, addr); /* who it is that leaves */

	known->left_ns = now_ns();
}

static void identities_of(const struct flow_names *names, const struct endpoint_info *info,
			  struct endpoint_entry *ret)
{
	for (size_t i = 0; i < info->address_count; i++) {
		struct ipcache_entry entry = {};

		ipcache_map_get(names->datapath, &info->addresses[i], &entry); /* 0 if it fails */
		if (addr_is_v4(&info->addresses[i]))
			ret->identity = entry.identity;
		else
			ret->identity_v6 = entry.identity;
	}
}

/* The pod behind a namespace; NULL: it is gone, and was forgotten. */
static struct known *known_pod(struct flow_names *names, uint16_t slot, uint64_t netns_cookie)
{
	struct known *known = table_find(&names->namespaces, &netns_cookie);
	uint64_t changes = changes_now(names);
	struct endpoint_entry entry = {};
	struct endpoint_info info;

	if (known && known->changes == changes)
		return known;
	if (!endpoints_by_slot(names->endpoints, slot, &info) || info.netns_cookie != netns_cookie)
		return known;
	/* While it is deleted, its entry is gone before its addresses are. */
	if (endpoint_map_get(names->datapath, slot, &entry) || !entry.identity)
		identities_of(names, &info, &entry);
	known = known_put(names, &names->namespaces, &netns_cookie);
	known->changes = changes;
	known->who.slot = slot;
	known->who.identity = entry.identity;
	known->identity_v6 = entry.identity_v6;
	known_set(names, known, name_of_endpoint(names, &info, known->who.name));
	return known;
}

struct flow_who flow_names_socket(struct flow_names *names, uint16_t slot, uint64_t netns_cookie,
				  const struct addr *addr)
{
	const struct known *known = known_pod(names, slot, netns_cookie);
	struct flow_who who = {};

	if (known)
		who = who_hold(known);
	if (known && !addr_is_v4(addr))
		who.identity = known->identity_v6;
	return who;
}

struct flow_who flow_names_slot(struct flow_names *names, uint16_t slot, const struct addr *addr)
{
	struct endpoint_info info;

	if (!endpoints_by_slot(names->endpoints, slot, &info))
		return (struct flow_who){ 0 };
	return flow_names_socket(names, slot, info.netns_cookie, addr);
}

/* ---- life ------------------------------------------------------------------------------------ */

struct flow_names *flow_names_new(struct datapath *datapath, const struct endpoints *endpoints,
				  const struct store *store)
{
	struct flow_names *names = xcalloc(1, sizeof(*names));

	names->datapath = datapath;
	names->endpoints = endpoints;
	names->store = store;
	table_init(&names->addresses, sizeof(struct addr), sizeof(struct known));
	table_init(&names->namespaces, sizeof(uint64_t), sizeof(struct known));
	return names;
}

void flow_names_free(struct flow_names *names)
{
	if (!names)
		return;
	known_clear(names, &names->addresses, sizeof(struct addr));
	known_clear(names, &names->namespaces, sizeof(uint64_t));
	table_done(&names->addresses);
	table_done(&names->namespaces);
	free(names);
}
