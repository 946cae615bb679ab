/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes NetworkPolicies from flows that were seen: one policy for each workload, which isolates it
 * in both directions and allows only these flows.  Peers that are not pods are written as single
 * addresses.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_RECORD_H
#define TENDRIL_POLICY_ANALYSIS_RECORD_H

#include "policy/objects/store.h"

struct cJSON;

struct record_flow { /* as policy sees it: after service translation, from the side that opened it
		      */
	struct addr from;
	struct addr to;
	uint8_t proto;
	uint16_t port;
};

struct recording {
	struct cJSON *policies; /* array of NetworkPolicy documents, by namespace and workload */
	struct cJSON
		*notes; /* array of texts: flows that are left out, as no policy can express them */
};

/* is_subject: whether the caller wants a policy for this pod (and so for its workload).  The host
 * addresses of the store are those of the node on which the flows were seen. */
struct recording policy_record(const struct store *store, const struct record_flow *flows,
			       size_t flow_count,
			       bool (*is_subject)(const struct object *pod, void *arg), void *arg);
void recording_done(struct recording *recording);

#endif
