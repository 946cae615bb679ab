/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One slow timer.  Sweeping an empty table costs less than a millisecond, so nothing keeps count of
 * whether there is something to sweep.
 */
#define LOG_MODULE "upkeep"
#include "agent/gc.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>

#include "lib/auto.h"
#include "lib/clock.h"

#define SWEEP_SECONDS   10
#define PRESSURE_SWEEPS 6 /* maps are counted with every so many sweeps */
#define PRESSURE_CALM   75

struct upkeep {
	struct agent *agent;
	struct event *timer;
	unsigned int sweeps;
	unsigned int pressure[MAP_COUNT]; /* what was last told: 0, 80 or 95 */
};

unsigned int upkeep_map_pressure(enum map_id map, uint32_t used, uint32_t capacity, char *ret_text)
{
	unsigned int percent = capacity ? (unsigned int)((uint64_t)used * 100 / capacity) : 0;

	snprintf(ret_text, UPKEEP_TEXT_MAX, "%s is %u %% full: %u of %u", map_name(map), percent,
		 used, capacity);
	if (percent >= 95)
		return 95;
	return percent >= 80 ? 80 : 0;
}

static void pressure_check(struct upkeep *upkeep)
{
	char text[UPKEEP_TEXT_MAX];

	for (int map = 0; map < MAP_COUNT; map++) {
		unsigned int *told = &upkeep->pressure[map];
		uint32_t used, capacity;
		unsigned int level;

		if (maps_usage(upkeep->agent->datapath, (enum map_id)map, &used, &capacity) < 0)
			continue;
		level = upkeep_map_pressure((enum map_id)map, used, capacity, text);
		if (level > *told)
			log_warn("%s", text);
		/* Between calm and 80 % the old level stands: a map at the edge is told once. */
		if (level > *told || (uint64_t)used * 100 < (uint64_t)capacity * PRESSURE_CALM)
			*told = level;
	}
}

static void upkeep_run(evutil_socket_t fd, short what, void *arg)
{
	struct upkeep *upkeep = arg;
	uint64_t now = now_ns();
	int connections, translations;

	(void)fd;
	(void)what;
	connections = ct_map_sweep(upkeep->agent->datapath, now);
	translations = nat_map_sweep(upkeep->agent->datapath, now);
	if (connections < 0 || translations < 0)
		log_warn("sweep of tracked connections: %s",
			 strerror(-(connections < 0 ? connections : translations)));
	else if (connections || translations)
		log_debug("swept %d connections, %d translations", connections, translations);
	if (++upkeep->sweeps % PRESSURE_SWEEPS == 0)
		pressure_check(upkeep);
}

int upkeep_new(struct agent *agent, struct upkeep **ret, struct errmsg *err)
{
	struct timeval period = { .tv_sec = SWEEP_SECONDS };
	struct upkeep *upkeep = calloc(1, sizeof(*upkeep));

	if (!upkeep)
		return fail(err, -ENOMEM, "upkeep");
	upkeep->agent = agent;
	upkeep->timer = event_new(agent->base, -1, EV_PERSIST, upkeep_run, upkeep);
	if (!upkeep->timer || event_add(upkeep->timer, &period) < 0) {
		upkeep_free(upkeep);
		return fail(err, -ENOMEM, "upkeep");
	}
	*ret = upkeep;
	return 0;
}

void upkeep_free(struct upkeep *upkeep)
{
	if (!upkeep)
		return;
	if (upkeep->timer)
		event_free(upkeep->timer);
	free(upkeep);
}
