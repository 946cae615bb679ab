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
 * replaced entry serves another key at once, without waiting for readers.  So entries are copied,
 * and a copy counts if the map says the same again; otherwise a connection could go, for all its
 * life, to an address made of two.  One more try is enough, and no loop: Linux 6.1 refuses some.
 */
union service_word { /* of a struct service, read in one go */
	__u64 word;
	struct service service;
};

static __always_inline bool service_read(const struct service_key *key, union service_word *ret)
{
	const volatile __u64 *word = bpf_map_lookup_elem(&service_map, key);

	if (word)
		ret->word = *word;
	return word;
}

/* false: the address has no such port. */
static __always_inline bool service_lookup(const struct addr *addr, __be16 port, __u8 proto,
					   struct service *ret)
{
	struct service_key key = { .addr = *addr, .port = port, .proto = proto };
	union service_word first, again;

	if (!service_read(&key, &first) || !service_read(&key, &again))
		return false;
	if (first.word != again.word) {
		first = again;
		if (!service_read(&key, &again) || first.word != again.word)
			return false;
	}
	*ret = again.service;
	return true;
}

/* May be replaced while it is read: only for a comparison. */
static __always_inline const struct backend *service_backend_at(__u32 service_id, __u32 index)
{
	struct backend_key key = { .service_id = service_id, .index = index };

	return bpf_map_lookup_elem(&backend_map, &key);
}

/* false: there is none under this index, or it changed under our eyes.  One copy of the code: it is
 * tried twice. */
static __noinline bool service_backend(__u32 service_id, __u32 index, struct backend *ret)
{
	const struct backend *backend = service_backend_at(service_id, index);

	if (!backend)
		return false;
	*ret = *backend;
	backend = service_backend_at(service_id, index);
	return backend && backend->port == ret->port && addr_equal(&backend->addr, &ret->addr);
}

/*
 * A backend at random; its index goes to ret_index.  false: nothing is ready.  The agent writes
 * service and backends one after the other, so an index may be gone by now, or just be written: 0
 * is then tried, which is there as long as anything is.
 */
static __always_inline bool service_choose(const struct service *service, __u32 *ret_index,
					   struct backend *ret)
{
	if (!service->backends)
		return false;
	*ret_index = bpf_get_prandom_u32() % service->backends;
	if (service_backend(service->id, *ret_index, ret))
		return true;
	*ret_index = 0;
	return service_backend(service->id, 0, ret);
}

struct service_search {
	__u32 service_id;
	__u32 found;
	struct addr addr;
	__be16 port;
	__u16 pad;
};

static long service_search_step(__u32 index, void *arg)
{
	struct service_search *search = arg;
	const struct backend *backend = service_backend_at(search->service_id, index);

	if (!backend || backend->port != search->port || !addr_equal(&backend->addr, &search->addr))
		return 0;
	search->found = index + 1;
	return 1;
}

/* Whether this address is a backend of the service.  *index: where it was last found; it changes
 * when others come and go, and is corrected. */
static __always_inline bool service_has_backend(const struct service *service,
						const struct addr *addr, __be16 port, __u32 *index)
{
	struct service_search search = { .service_id = service->id };
	const struct backend *backend = service_backend_at(service->id, *index);
	__u32 count = service->backends;

	if (*index < count && backend && backend->port == port && addr_equal(&backend->addr, addr))
		return true;
	search.addr = *addr;
	search.port = port;
	bpf_loop(count < SERVICE_SEARCH_MAX ? count : SERVICE_SEARCH_MAX, service_search_step,
		 &search, 0);
	if (!search.found)
		return false;
	*index = search.found - 1;
	return true;
}

#endif
