/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A workload is all pods of a namespace with the same labels, except for labels in which replicas
 * and revisions of one Deployment, StatefulSet or the like differ.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_WORKLOAD_H
#define TENDRIL_POLICY_ANALYSIS_WORKLOAD_H

#include "policy/objects/store.h"

struct cJSON;

struct workload {
	const char *namespace;
	const struct label **labels; /* sorted by key; none: no selector selects just these pods */
	size_t label_count;
	const struct object *const *pods; /* in order of name */
	size_t pod_count;
};

struct workloads {
	struct workload *items; /* by namespace and labels */
	size_t count;
	/* ---- owned storage ---- */
	const struct object **pods;
	const struct label **labels;
	struct workload_of *index;
	size_t pod_count;
};

/* Groups all pods that have addresses of their own.  Borrows from the store. */
void workloads_of(const struct store *store, struct workloads *ret);
void workloads_done(struct workloads *workloads);
/* The workload of a pod; NULL if it is in none. */
struct workload *workload_find(const struct workloads *workloads, const struct object *pod);

/* A label selector that selects this workload alone among the pods of its namespace. */
struct cJSON *workload_selector(const struct workloads *workloads, const struct workload *workload);
/* A name for people: the value of the label that describes it best. */
const char *workload_name(const struct workload *workload);

#endif
