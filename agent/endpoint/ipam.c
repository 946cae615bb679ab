/* SPDX-License-Identifier: Apache-2.0 */
/* Address ranges of this node and which address is next. */
#include "agent/endpoint/ipam.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"

#define V4_BITS       96 /* how much longer a v4-mapped prefix is */
#define FIRST_POD     2  /* offsets 0 and 1 are network and gateway */
#define MAX_HOST_BITS 62 /* offsets have 64 bits; nobody reaches the end of a larger range */

struct range {
	struct prefix prefix;
	bool v4;
	uint64_t end;  /* offset behind the last address for pods */
	uint64_t next; /* offset where the next search begins */
};

struct ipam {
	struct range *ranges;
	size_t count;
};

static int range_init(struct range *range, const struct prefix *prefix, struct errmsg *err)
{
	unsigned int bits = 128U - prefix->len;
	char text[ADDR_TEXT_MAX];

	range->prefix = *prefix;
	range->v4 = addr_is_v4(&prefix->addr) && prefix->len >= V4_BITS;
	range->end = 1ULL << (bits > MAX_HOST_BITS ? MAX_HOST_BITS : bits);
	range->next = FIRST_POD;
	if (range->v4 && range->end > 0)
		range->end--; /* broadcast */
	if (range->end <= FIRST_POD)
		return fail_plain(err, -EINVAL, "pod CIDR %s has no room for a pod",
				  prefix_format(prefix, text));
	return 0;
}

int ipam_new(const struct prefix *ranges, size_t count, struct ipam **ret_ipam, struct errmsg *err)
{
	auto_(ipam) struct ipam *ipam = xcalloc(1, sizeof(*ipam));
	char text[2][ADDR_TEXT_MAX];

	ipam->ranges = xcalloc(count, sizeof(*ipam->ranges));
	for (size_t i = 0; i < count; i++) {
		int ret = range_init(&ipam->ranges[i], &ranges[i], err);

		if (ret < 0)
			return ret;
		for (size_t j = 0; j < i; j++) {
			if (prefix_overlaps(&ranges[i], &ranges[j]))
				return fail_plain(err, -EINVAL, "pod CIDRs %s and %s overlap",
						  prefix_format(&ranges[j], text[0]),
						  prefix_format(&ranges[i], text[1]));
		}
		ipam->count++;
	}
	*ret_ipam = take_ptr(ipam);
	return 0;
}

int ipam_set(struct ipam *ipam, const struct prefix *ranges, size_t count, struct errmsg *err)
{
	struct ipam former = *ipam;
	auto_(ipam) struct ipam *other = NULL;
	int ret = ipam_new(ranges, count, &other, err);

	if (ret < 0)
		return ret;
	/* NOLINTNEXTLINE(*NullDereference): set, as no error was returned */
	*ipam = *other;
	*other = former;
	return 0;
}

void ipam_free(struct ipam *ipam)
{
	if (!ipam)
		return;
	free(ipam->ranges);
	free(ipam);
}

bool ipam_has_family(const struct ipam *ipam, bool v4)
{
	for (size_t i = 0; i < ipam->count; i++) {
		if (ipam->ranges[i].v4 == v4)
			return true;
	}
	return false;
}

static void lease_fill(const struct range *range, const struct addr *addr, struct ipam_lease *ret)
{
	ret->address.addr = *addr;
	ret->address.len = range->prefix.len;
	ret->gateway = addr_add(&range->prefix.addr, 1);
}

/* Walks once around the range.  There are at most as many addresses in use as endpoints, so the
 * walk ends after that many steps, however large the range is. */
static bool range_allocate(struct range *range, ipam_in_use in_use, void *arg,
			   struct ipam_lease *ret)
{
	uint64_t size = range->end - FIRST_POD;

	for (uint64_t step = 0; step < size; step++) {
		uint64_t offset = FIRST_POD + (range->next - FIRST_POD + step) % size;
		struct addr addr = addr_add(&range->prefix.addr, offset);

		if (in_use(&addr, arg))
			continue;
		range->next = offset + 1 < range->end ? offset + 1 : FIRST_POD;
		lease_fill(range, &addr, ret);
		return true;
	}
	return false;
}

int ipam_allocate(struct ipam *ipam, bool v4, ipam_in_use in_use, void *arg, struct ipam_lease *ret,
		  struct errmsg *err)
{
	for (size_t i = 0; i < ipam->count; i++) {
		if (ipam->ranges[i].v4 == v4 && range_allocate(&ipam->ranges[i], in_use, arg, ret))
			return 0;
	}
	return fail_plain(err, -ENOSPC, "no free %s address in the pod CIDRs of this node",
			  v4 ? "IPv4" : "IPv6");
}

static const struct range *range_find(const struct ipam *ipam, const struct addr *addr)
{
	for (size_t i = 0; i < ipam->count; i++) {
		if (prefix_contains(&ipam->ranges[i].prefix, addr))
			return &ipam->ranges[i];
	}
	return NULL;
}

/* The offset of an address in its range; UINT64_MAX if it is too far. */
static uint64_t range_offset(const struct range *range, const struct addr *addr)
{
	uint64_t base[2];
	uint64_t at[2];

	memcpy(base, &range->prefix.addr, sizeof(base));
	memcpy(at, addr, sizeof(at));
	return base[0] == at[0] ? be64toh(at[1]) - be64toh(base[1]) : UINT64_MAX;
}

int ipam_request(const struct ipam *ipam, const struct addr *addr, ipam_in_use in_use, void *arg,
		 struct ipam_lease *ret, struct errmsg *err)
{
	const struct range *range = range_find(ipam, addr);
	char text[ADDR_TEXT_MAX];
	uint64_t offset;

	if (!range)
		return fail_plain(err, -EINVAL, "address %s is in no pod CIDR of this node",
				  addr_format(addr, text));
	offset = range_offset(range, addr);
	if (offset < FIRST_POD || offset >= range->end)
		return fail_plain(err, -EINVAL,
				  "address %s is not for pods: it is the range's network, gateway "
				  "or broadcast address, or beyond what is allocated",
				  addr_format(addr, text));
	if (in_use(addr, arg))
		return fail_plain(err, -EADDRINUSE, "address %s belongs to another pod",
				  addr_format(addr, text));
	lease_fill(range, addr, ret);
	return 0;
}

void ipam_continue_after(struct ipam *ipam, const struct addr *addr)
{
	for (size_t i = 0; i < ipam->count; i++) {
		struct range *range = &ipam->ranges[i];
		uint64_t offset;

		if (!prefix_contains(&range->prefix, addr))
			continue;
		offset = range_offset(range, addr);
		if (offset >= FIRST_POD && offset < range->end)
			range->next = offset + 1 < range->end ? offset + 1 : FIRST_POD;
	}
}

int ipam_range_of(const struct ipam *ipam, const struct addr *addr, struct ipam_lease *ret)
{
	const struct range *range = range_find(ipam, addr);

	if (!range)
		return -ENOENT;
	lease_fill(range, addr, ret);
	return 0;
}

bool ipam_range(const struct ipam *ipam, size_t index, struct prefix *ret_range,
		struct addr *ret_gateway)
{
	if (index >= ipam->count)
		return false;
	*ret_range = ipam->ranges[index].prefix;
	*ret_gateway = addr_add(&ipam->ranges[index].prefix.addr, 1);
	return true;
}
