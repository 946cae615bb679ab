/* SPDX-License-Identifier: Apache-2.0 */
/* Garbage collection: connections that ended without a packet, and maps that fill up. */
#ifndef TENDRIL_AGENT_MONITOR_GC_H
#define TENDRIL_AGENT_MONITOR_GC_H

#include "datapath/maps.h"
#include "lib/errmsg.h"

struct event_base;
struct gc;

#define GC_TEXT_MAX 128

int gc_new(struct event_base *base, struct datapath *datapath, struct gc **ret, struct errmsg *err);
void gc_free(struct gc *gc);

/* The number of entries of a map at the last count, up to a minute ago.  Counting walks the map. */
uint32_t gc_map_used(const struct gc *gc, enum map_id map);

/* In how many seconds the map will be full if it goes on as between the last two counts; 0: it did
 * not grow. */
uint64_t gc_map_full_in(const struct gc *gc, enum map_id map);
/* The same, of two counts with so many seconds between them. */
uint64_t gc_map_forecast(uint32_t before, uint32_t used, uint32_t capacity, uint64_t seconds);

/* The level of a warning: 0, 80 or 95 (per cent of the map are used), and its text of at most
 * GC_TEXT_MAX bytes. */
unsigned int gc_map_pressure(enum map_id map, uint32_t used, uint32_t capacity, char *ret_text);

#endif
