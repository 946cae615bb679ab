/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services: from (address, port, protocol) to one backend.  Shared by the socket programs, which
 * translate once a connection, and by nat.bpf.h, which translates packets where they cannot.
 */
#ifndef TENDRIL_DATAPATH_SERVICE_BPF_H
#define TENDRIL_DATAPATH_SERVICE_BPF_H

#include <stddef.h>

#include "datapath/maps.bpf.h"

/* NULL: the address has no such port. */
static __always_inline const struct service *service_lookup(const struct addr *addr, __be16 port,
							    __u8 proto)
{
	struct service_key key = { .addr = *addr, .port = port, .proto = proto };

	return bpf_map_lookup_elem(&service_map, &key);
}

static __always_inline const struct backend *service_backend(__u32 service_id, __u32 index)
{
	struct backend_key key = { .service_id = service_id, .index = index };

	return bpf_map_lookup_elem(&backend_map, &key);
}

/*
 * A backend at random; its index goes to ret_index.  NULL: nothing is ready.  The agent writes
 * service and backends one after the other, so an index may be gone by now: 0 is then tried, which
 * is there as long as anything is.
 */
static __always_inline const struct backend *service_choose(const struct service *service,
							    __u32 *ret_index)
{
	__u32 count = service->backends, id = service->id;
	const struct backend *backend;

	if (!count)
		return NULL;
	*ret_index = bpf_get_prandom_u32() % count;
	backend = service_backend(id, *ret_index);
	if (!backend) {
		*ret_index = 0;
		backend = service_backend(id, 0);
	}
	return backend;
}

#endif
