/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services: from (address, port, protocol) to one backend.  Shared by the socket programs, which
 * translate once a connection, and by nat.bpf.h, which translates packets where they cannot.
 */
#ifndef TENDRIL_DATAPATH_BPF_SERVICE_BPF_H
#define TENDRIL_DATAPATH_BPF_SERVICE_BPF_H

#include <stdbool.h>

#include "datapath/bpf/ipcache.bpf.h"

#define SERVICE_SEARCH_MAX 4096 /* backends that are searched for one whose index changed */

/*
 * The agent replaces entries of these hash maps while programs read them, and the memory of a
 * replaced entry is used for another key at once, without waiting for readers.  So entries are
 * copied and compared with the map again; otherwise a connection could use, all its life, an
 * address mixed of two.  There is one more try and no loop: Linux 6.1 refuses some loops.
 */
union service_words { /* of a struct service, each read in one go */
	__u64 words[sizeof(struct service) / sizeof(__u64)];
	struct service service;
};

static __always_inline bool service_read(const struct service_key *key, union service_words *ret)
{
	const volatile __u64 *words = bpf_map_lookup_elem(&service_map, key);

	if (!words)
		return false;
	ret->words[0] = words[0];
	ret->words[1] = words[1];
	ret->words[2] = words[2];
	return true;
}

static __always_inline bool service_is_same(const union service_words *a,
					    const union service_words *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1] &&
	       a->words[2] == b->words[2];
}

/* false: the address has no such port. */
static __always_inline bool service_lookup(const struct addr *addr, __be16 port, __u8 proto,
					   struct service *ret)
{
	struct service_key key = { .addr = *addr, .port = port, .proto = proto };
	union service_words first, again;

	if (!service_read(&key, &first) || !service_read(&key, &again))
		return false;
	if (!service_is_same(&first, &again)) {
		first = again;
		if (!service_read(&key, &again) || !service_is_same(&first, &again))
			return false;
	}
	*ret = again.service;
	return true;
}

/* May be replaced while it is read: only for a comparison, and to count. */
static __always_inline struct backend_entry *service_backend_at(__u32 service_id, __u32 index)
{
	struct backend_key key = { .service_id = service_id, .index = index };

	return bpf_map_lookup_elem(&backend_map, &key);
}

/* A connection has got this backend; if the entry was replaced just now, another one counts it. */
static __always_inline void service_count(struct backend_entry *entry)
{
	__sync_fetch_and_add(&entry->connections, 1);
}

/* Takes the backend for a connection.  false: there is none under this index, or it changed while
 * it was read.  Not inline, because it is tried twice. */
static __noinline bool service_backend(__u32 service_id, __u32 index, struct backend *ret)
{
	struct backend_entry *entry = service_backend_at(service_id, index);

	if (!entry)
		return false;
	*ret = entry->backend;
	entry = service_backend_at(service_id, index);
	if (!entry || entry->backend.port != ret->port ||
	    !addr_equal(&entry->backend.addr, &ret->addr))
		return false;
	service_count(entry);
	return true;
}

/* ---- who may be chosen ---------------------------------------------------------------------- */

enum service_client {
	CLIENT_INSIDE,
	CLIENT_OUTSIDE
}; /* of the cluster: pods and nodes are inside */

/* Whether loadBalancerSourceRanges, if there are any, contain the client. */
static __always_inline bool service_admits(const struct service *service, const struct addr *client)
{
	struct source_range_key key = { .prefixlen = 32 + 128, .service_id = service->id };

	if (!(service->flags & SERVICE_SOURCE_RANGES))
		return true;
	key.addr = *client;
	return bpf_map_lookup_elem(&range_map, &key);
}

/* First index and number of the backends that a new connection may get. */
static __always_inline __u32 service_range(const struct service *service,
					   enum service_client client, __u32 *ret_first)
{
	bool local = service->flags & SERVICE_LOCAL &&
		     (client == CLIENT_OUTSIDE || service->kind == CLUSTER_IP);

	*ret_first = local ? BACKEND_LOCAL : 0;
	return local ? service->local_backends : service->backends;
}

/* ---- one that is known ---------------------------------------------------------------------- */

/* A search for an address among count backends from first on. */
struct service_search {
	__u32 service_id;
	__u32 first;
	__u32 count;
	__u32 index; /* where it was last found, then where it is: others come and go */
	const struct addr *addr;
	__be16 port;
	__u16 found;
};

static __always_inline bool search_is_at(const struct service_search *search, __u32 index)
{
	const struct backend_entry *entry = service_backend_at(search->service_id, index);

	return entry && entry->backend.port == search->port &&
	       addr_equal(&entry->backend.addr, search->addr);
}

static long search_step(__u32 i, void *arg)
{
	struct service_search *search = arg;

	if (!search_is_at(search, search->first + i))
		return 0;
	search->index = search->first + i;
	search->found = 1;
	return 1;
}

static __always_inline bool service_search(struct service_search *search)
{
	__u32 count = search->count;

	if (search->index - search->first < count && search_is_at(search, search->index))
		return true;
	bpf_loop(count < SERVICE_SEARCH_MAX ? count : SERVICE_SEARCH_MAX, search_step, search, 0);
	return search->found;
}

/* Whether this address may keep its flow.  *index: where it was last found; is corrected. */
static __always_inline bool service_has_backend(const struct service *service,
						const struct addr *addr, __be16 port, __u32 *index)
{
	struct service_search search = {
		.service_id = service->id,
		.count = service->backends + service->keeping,
		.index = *index,
		.addr = addr,
		.port = port,
	};

	if (!service_search(&search))
		return false;
	*index = search.index;
	return true;
}

/* ---- session affinity ----------------------------------------------------------------------- */

/* The backend that this client had last, if it is among these.  It calls no function with a frame
 * of its own: the stack of a program with all its calls is 512 bytes. */
static __noinline bool affinity_find(const struct service *service, const struct addr *client,
				     __u32 first, __u32 count, struct service_choice *ret)
{
	struct affinity_key key = { .client = *client, .service_id = service->id };
	struct affinity *affinity = bpf_map_lookup_elem(&affinity_map, &key);
	struct service_search search = {
		.service_id = service->id,
		.first = first,
		.count = count,
	};
	__u64 now_ns = bpf_ktime_get_coarse_ns();

	if (!affinity || now_ns - affinity->last_used_ns > service->affinity_s * NS_PER_SEC)
		return false;
	search.addr = &affinity->addr;
	search.port = affinity->port;
	search.index = affinity->index;
	affinity->last_used_ns = now_ns;
	if (!service_search(&search))
		return false;
	affinity->index = search.index;
	ret->backend.addr = affinity->addr;
	ret->backend.port = affinity->port;
	ret->index = search.index;
	return true;
}

/* Without memory the client may get another backend next time. */
static __noinline int affinity_set(const struct service *service, const struct addr *client,
				   const struct service_choice *choice)
{
	struct affinity_key key = { .client = *client, .service_id = service->id };
	struct affinity affinity = {
		.addr = choice->backend.addr,
		.port = choice->backend.port,
		.index = choice->index,
		.last_used_ns = bpf_ktime_get_coarse_ns(),
	};

	return (int)bpf_map_update_elem(&affinity_map, &key, &affinity, BPF_ANY);
}

/* ---- a new connection ----------------------------------------------------------------------- */

/* The backend at a place between 0 and count - 1.  The agent writes service and backends one after
 * the other, so an index may be missing.  Then the first one is used, which is there as long as
 * there is any. */
static __always_inline bool service_take(const struct service *service, __u32 first, __u32 place,
					 struct service_choice *ret)
{
	ret->index = first + place;
	if (service_backend(service->id, ret->index, &ret->backend))
		return true;
	ret->index = first;
	return service_backend(service->id, first, &ret->backend);
}

/* Chooses a backend for a new connection.  dice: a random number that makes the choice, or,
 * where the service has a Maglev table, a hash of the flow.  Returns a
 * drop reason.  Not inline, because packets try it again. */
static __noinline int service_choose(const struct service *service, enum service_client where,
				     const struct addr *client, __u32 dice,
				     struct service_choice *ret)
{
	__u32 first, count = service_range(service, where, &first);
	struct backend_entry *entry;

	if (!count)
		return service->flags & SERVICE_HAS_ENDPOINTS ? DROP_NO_LOCAL_BACKEND
							      : DROP_NO_BACKEND;
	if (service->affinity_s && affinity_find(service, client, first, count, ret)) {
		entry = service_backend_at(service->id, ret->index);
		if (entry)
			service_count(entry);
		return DROP_NONE;
	}
	if (where == CLIENT_OUTSIDE && service->table_size && first != BACKEND_LOCAL) {
		first = BACKEND_TABLE;
		count = service->table_size;
	}
	if (!service_take(service, first, dice % count, ret))
		return DROP_NO_BACKEND;
	if (service->affinity_s)
		affinity_set(service, client, ret);
	return DROP_NONE;
}

#endif
