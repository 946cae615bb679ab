/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The maps of maps.h in plain memory, with bounds of the test's choosing, for units that write
 * maps: every single change is counted and shown to the test, which may look at all maps between
 * two of them as a program would.
 */
#ifndef TENDRIL_TESTS_UNIT_FAKE_MAPS_H
#define TENDRIL_TESTS_UNIT_FAKE_MAPS_H

#include "datapath/maps.h"
#include "lib/table.h"

#define FAKE_ENDPOINTS 16

struct datapath {
	struct table maps[MAP_COUNT];
	uint32_t capacity[MAP_COUNT];         /* 0: no bound */
	int broken[MAP_COUNT];                /* errno that every write to the map meets, or 0, */
	unsigned int broken_after[MAP_COUNT]; /* but for so many, which still succeed */
	struct endpoint_entry endpoints[FAKE_ENDPOINTS];
	uint64_t limits[FAKE_ENDPOINTS][2];
	struct node_state node;
	unsigned int writes; /* entries set or deleted, endpoints set */
	unsigned int deletes;
	void (*changed)(struct datapath *datapath, void *arg); /* after each, or NULL */
	void *arg;
};

void fake_maps_init(struct datapath *datapath);
void fake_maps_done(struct datapath *datapath);

const void *fake_map_get(const struct datapath *datapath, enum map_id map, const void *key);
size_t fake_map_count(const struct datapath *datapath, enum map_id map);

#endif
