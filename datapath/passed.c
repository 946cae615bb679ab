/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes flows that are to be reported out of passed_map.  The map is mapped only meanwhile, so its
 * pages do not count as memory of the agent; where nothing is to be reported, this costs no system
 * call for an entry.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "datapath/state.h"
#include "lib/inet.h"

#define PASSED_BYTES (PASSED_SETS * sizeof(struct passed_set))
#define PLACES       ((size_t)PASSED_SETS * PASSED_WAYS)
#define RECOVER_US   10000

static bool has_address(const struct passed_flow *flow, const struct passed_query *query)
{
	for (size_t i = 0; i < query->count; i++) {
		if (addr_equal(&flow->flow.saddr, &query->addresses[i]) ||
		    addr_equal(&flow->flow.daddr, &query->addresses[i]))
			return true;
	}
	return false;
}

static bool is_older(uint64_t now_ns, uint64_t then_ns, uint64_t age_ns)
{
	return now_ns > then_ns && now_ns - then_ns > age_ns;
}

/* What was counted until now; the programs go on counting meanwhile. */
static struct passed_flow counts_take(struct passed_flow *place)
{
	struct passed_flow flow = *place;

	for (int end = 0; end < 2; end++) {
		flow.bytes[end] = __atomic_exchange_n(&place->bytes[end], 0, __ATOMIC_RELAXED);
		flow.packets[end] = __atomic_exchange_n(&place->packets[end], 0, __ATOMIC_RELAXED);
	}
	return flow;
}

/* Whether a place has something to report; is_over: its flow is to leave. */
static bool place_is_due(const struct passed_flow *place, const struct passed_query *query,
			 bool *ret_over)
{
	if (__atomic_load_n(&place->state, __ATOMIC_ACQUIRE) != PASSED_LIVE)
		return false;
	*ret_over = query->count ? has_address(place, query)
				 : is_older(query->now_ns, place->last_ns, PASSED_IDLE_NS);
	return *ret_over ||
	       (!query->count && is_older(query->now_ns, place->first_ns, PASSED_PART_NS));
}

static void place_report(struct passed_flow *place, bool over, struct passed_query *query)
{
	uint32_t live = PASSED_LIVE;
	struct passed_flow flow;

	/* While it is reported it can make no room for another. */
	if (!__atomic_compare_exchange_n(&place->state, &live, PASSED_BUSY, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return;
	flow = counts_take(place);
	place->first_ns = flow.last_ns;
	__atomic_store_n(&place->state, over ? PASSED_FREE : PASSED_LIVE, __ATOMIC_RELEASE);
	if (flow.packets[0] || flow.packets[1]) /* else the last part was all of it */
		query->each(&flow, !over, query->arg);
}

/* NULL: see errno. */
static struct passed_flow *places_map(const struct datapath *datapath)
{
	void *places = mmap(NULL, PASSED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			    datapath->map_fds[MAP_PASSED], 0);

	_Static_assert(PASSED_BYTES == PLACES * sizeof(struct passed_flow), "sets without holes");
	return places == MAP_FAILED ? NULL : places;
}

int passed_flows_take(struct datapath *datapath, struct passed_query *query)
{
	struct passed_flow *places = places_map(datapath);
	bool over;

	if (!places)
		return -errno;
	for (size_t i = 0; i < PLACES; i++) {
		if (place_is_due(&places[i], query, &over))
			place_report(&places[i], over, query);
	}
	munmap(places, PASSED_BYTES);
	return 0;
}

/* A program holds a place for microseconds, and leaves a later time in it. */
int passed_flows_recover(struct datapath *datapath)
{
	struct passed_flow *places = places_map(datapath);
	uint64_t last_ns[PLACES] = { 0 };
	size_t busy = 0;

	if (!places)
		return -errno;
	for (size_t i = 0; i < PLACES; i++) {
		if (__atomic_load_n(&places[i].state, __ATOMIC_ACQUIRE) != PASSED_BUSY)
			continue;
		last_ns[i] = places[i].last_ns;
		busy++;
	}
	if (busy)
		usleep(RECOVER_US);
	for (size_t i = 0; i < PLACES && busy; i++) {
		uint32_t state = PASSED_BUSY;

		if (last_ns[i] && places[i].last_ns == last_ns[i])
			__atomic_compare_exchange_n(&places[i].state, &state, PASSED_LIVE, false,
						    __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	}
	munmap(places, PASSED_BYTES);
	return 0;
}
