/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From flows that were seen to the least NetworkPolicies that allow just them: one for each
 * workload, closed in both directions but for what was seen.
 *
 * A workload is the pods of a namespace that have the same labels, those left aside that tell
 * replicas and revisions apart (pod-template-hash and its kin).  Peers that are no pods are single
 * addresses.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_RECORD_H
#define TENDRIL_POLICY_ANALYSIS_RECORD_H

#include "policy/objects/store.h"

struct cJSON;

struct record_flow { /* as policy is asked: after service translation, from who opened it */
	struct addr from;
	struct addr to;
	uint8_t proto;
	uint16_t port;
};

struct recording {
	struct cJSON *policies; /* array of NetworkPolicy documents, by namespace and workload */
	struct cJSON *notes; /* array of texts: what no NetworkPolicy can say, and was left out */
};

/* is_subject: whether policies are wanted for this pod (and so for its workload).  The store's host
 * addresses are the node that the flows were seen on. */
int policy_record(const struct store *store, const struct record_flow *flows, size_t flow_count,
		  bool (*is_subject)(const struct object *pod, void *arg), void *arg,
		  struct recording *ret, struct errmsg *err);
void recording_done(struct recording *recording);

#endif
