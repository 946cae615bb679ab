/* SPDX-License-Identifier: Apache-2.0 */
/* What has to be looked at now and then: connections that died silently, maps that fill up. */
#ifndef TENDRIL_AGENT_GC_H
#define TENDRIL_AGENT_GC_H

#include "agent/agent.h"

#define UPKEEP_TEXT_MAX 128

int upkeep_new(struct agent *agent, struct upkeep **ret, struct errmsg *err);
void upkeep_free(struct upkeep *upkeep);

/* Whether a map is so full that somebody should know: 0 it is not, 80 or 95 (per cent passed), with
 * a text of UPKEEP_TEXT_MAX bytes. */
unsigned int upkeep_map_pressure(enum map_id map, uint32_t used, uint32_t capacity, char *ret_text);

#endif
