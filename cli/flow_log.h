/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's log of flows, as commands read it: which flows a person asks for, one by one. */
#ifndef TENDRIL_CLI_FLOW_LOG_H
#define TENDRIL_CLI_FLOW_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/command.h"

struct cJSON;

/* "namespace/pod" of an end ("source", "destination"), else its address; buf as it is returned. */
const char *flow_end_name(const struct cJSON *flow, const char *end, char *buf, size_t size);
/* Its address. */
const char *flow_address(const struct cJSON *flow, const char *end);
const char *flow_protocol(const struct cJSON *flow); /* "TCP", "ICMPv4", "proto-47"; "" if not
						      * known */
int flow_proto(const struct cJSON *flow, uint8_t *ret_proto); /* -EINVAL: not known */
uint16_t flow_port(const struct cJSON *flow);                 /* of the destination, 0: none */
/* A member of what Tendril adds to Hubble's flow; 0, or "", if it is not there. */
double flow_number(const struct cJSON *flow, const char *name);
const char *flow_text(const struct cJSON *flow, const char *name);

/* Calls each() for the flows that the options ask for and wanted() takes (NULL: all), in order; a
 * result other than 0 ends it and is returned.  last: how many without --last, --since and
 * --follow; 0: all. */
int flow_log_read(const struct arguments *args, uint64_t last,
		  bool (*wanted)(const struct cJSON *flow),
		  int (*each)(struct cJSON *flow, void *arg), void *arg, struct errmsg *err);

#endif
