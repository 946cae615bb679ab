/* SPDX-License-Identifier: Apache-2.0 */
/* Flows of UDP, SCTP, ICMP and others that passed: from passed_map to the log. */
#ifndef TENDRIL_AGENT_FLOW_FLOW_PASSED_H
#define TENDRIL_AGENT_FLOW_FLOW_PASSED_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/addr.h"

struct datapath;
struct event_base;
struct flow_log;
struct flow_metrics;
struct flow_names;
struct flow_passed;
struct passed_flow;

struct flow_passed_options { /* pointers are borrowed; all outlive it */
	struct event_base *base;
	struct datapath *datapath;
	struct flow_log *log;
	struct flow_names *names;
	struct flow_metrics *metrics;
	bool off; /* nothing is counted */
};

/* From now on such flows are counted and reported, or with off no more. */
struct flow_passed *flow_passed_new(const struct flow_passed_options *options);
void flow_passed_free(struct flow_passed *passed);

/* Notes a flow that the datapath reported; open: it goes on. */
void flow_passed_note(struct flow_passed *passed, const struct passed_flow *flow, bool open);

/* Addresses are about to leave their owners: their flows are reported, with the names of now. */
void flow_passed_leave(struct flow_passed *passed, const struct addr *addresses, size_t count);

#endif
