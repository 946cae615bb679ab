/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One slow timer.  A sweep of an empty map costs less than a millisecond, so nothing keeps count of
 * whether there is something to sweep.
 */
#define LOG_MODULE "gc"
#include "agent/monitor/gc.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/log.h"

#define SWEEP_SECONDS   10
#define PRESSURE_SWEEPS 6 /* maps are counted with every sixth sweep, and the first */
#define PRESSURE_CALM   75

struct gc {
	struct datapath *datapath;
	struct event *timer;
	unsigned int sweeps;
	unsigned int pressure[MAP_COUNT]; /* the last warning: 0, 80 or 95 per cent */
	uint32_t used[MAP_COUNT];
	uint64_t full_in[MAP_COUNT]; /* seconds; 0: it does not grow */
	uint64_t counted_ns;         /* when used was counted; 0: never */
};

unsigned int gc_map_pressure(enum map_id map, uint32_t used, uint32_t capacity, char *ret_text)
{
	unsigned int percent = capacity ? (unsigned int)((uint64_t)used * 100 / capacity) : 0;

	snprintf(ret_text, GC_TEXT_MAX, "%s is %u %% full: %u of %u", map_name(map), percent, used,
		 capacity);
	if (percent >= 95)
		return 95;
	return percent >= 80 ? 80 : 0;
}

uint64_t gc_map_forecast(uint32_t before, uint32_t used, uint32_t capacity, uint64_t seconds)
{
	if (used <= before || used >= capacity || !seconds)
		return 0;
	return (uint64_t)(capacity - used) * seconds / (used - before) + 1;
}

/* Behind the text of a warning. */
static void forecast_add(char *text, uint64_t full_in_s)
{
	size_t len = strlen(text);

	if (full_in_s)
		snprintf(text + len, GC_TEXT_MAX - len, "; full in %llu min at the present rate",
			 (unsigned long long)(full_in_s + 59) / 60);
}

static void pressure_check(struct gc *gc)
{
	uint64_t now = now_ns();
	uint64_t seconds = gc->counted_ns ? (now - gc->counted_ns) / NS_PER_SEC : 0;
	char text[GC_TEXT_MAX];

	gc->counted_ns = now;
	for (int map = 0; map < MAP_COUNT; map++) {
		unsigned int *warned = &gc->pressure[map];
		uint32_t used, capacity;
		unsigned int level;

		if (maps_usage(gc->datapath, (enum map_id)map, &used, &capacity) < 0)
			continue;
		gc->full_in[map] = gc_map_forecast(gc->used[map], used, capacity, seconds);
		gc->used[map] = used;
		level = gc_map_pressure((enum map_id)map, used, capacity, text);
		forecast_add(text, gc->full_in[map]);
		if (level > *warned)
			log_warn("%s", text);
		/* Between 75 and 80 % nothing changes, so that a map at the edge is reported once.
		 */
		if (level > *warned || (uint64_t)used * 100 < (uint64_t)capacity * PRESSURE_CALM)
			*warned = level;
	}
}

static void gc_run(evutil_socket_t fd, short what, void *arg)
{
	struct gc *gc = arg;
	uint64_t now = now_ns();
	int connections, translations;

	(void)fd;
	(void)what;
	connections = ct_map_sweep(gc->datapath, now);
	translations = nat_map_sweep(gc->datapath, now);
	if (connections < 0 || translations < 0)
		log_warn("delete old connections: %s",
			 strerror(-(connections < 0 ? connections : translations)));
	else if (connections || translations)
		log_debug("swept %d connections, %d translations", connections, translations);
	if (gc->sweeps++ % PRESSURE_SWEEPS == 0)
		pressure_check(gc);
}

uint32_t gc_map_used(const struct gc *gc, enum map_id map)
{
	return gc->used[map];
}

uint64_t gc_map_full_in(const struct gc *gc, enum map_id map)
{
	return gc->full_in[map];
}

int gc_new(struct event_base *base, struct datapath *datapath, struct gc **ret, struct errmsg *err)
{
	struct timeval period = { .tv_sec = SWEEP_SECONDS };
	struct gc *gc = xcalloc(1, sizeof(*gc));

	gc->datapath = datapath;
	gc->timer = event_new(base, -1, EV_PERSIST, gc_run, gc);
	if (event_add(gc->timer, &period) < 0) {
		gc_free(gc);
		return fail(err, -EIO, "garbage collection");
	}
	*ret = gc;
	return 0;
}

void gc_free(struct gc *gc)
{
	if (!gc)
		return;
	if (gc->timer)
		event_free(gc->timer);
	free(gc);
}
