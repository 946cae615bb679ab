/* SPDX-License-Identifier: Apache-2.0 */
/* What has to be looked at now and then: connections that died silently, maps that fill up. */
#ifndef TENDRIL_AGENT_MONITOR_GC_H
#define TENDRIL_AGENT_MONITOR_GC_H

#include "datapath/maps.h"
#include "lib/errmsg.h"

struct event_base;
struct gc;

#define GC_TEXT_MAX 128

int gc_new(struct event_base *base, struct datapath *datapath, struct gc **ret, struct errmsg *err);
void gc_free(struct gc *gc);

/* Whether a map is so full that somebody should know: 0 it is not, 80 or 95 (per cent passed), with
 * a text of GC_TEXT_MAX bytes. */
unsigned int gc_map_pressure(enum map_id map, uint32_t used, uint32_t capacity, char *ret_text);

#endif
