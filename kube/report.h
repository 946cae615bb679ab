/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is written to the API server: the condition NetworkUnavailable of this node's Node object
 * and its WireGuard key, and Events about objects that the agent cannot take.  The agent says what;
 * an Event that was written within the hour is not written again, and few are written at once.
 */
#ifndef TENDRIL_KUBE_REPORT_H
#define TENDRIL_KUBE_REPORT_H

#include "kube/apiserver.h"

struct cJSON;
struct reports;

/* node is the name of this node, borrowed. */
struct reports *reports_new(struct apiserver *apiserver, const char *node);
void reports_free(struct reports *reports); /* takes NULL */

/* The agent takes pods now. */
void reports_ready(struct reports *reports);
/* This node's Node object, as the API server has it.  Writes nothing: it is called while libcurl
 * hands over data, when no request may be started. */
void reports_node(struct reports *reports, const struct cJSON *node);
/* The Node object shall announce this public key. */
void reports_key(struct reports *reports, const char *key);
/* A line of the agent's, {"object":{...},"reason","message"} (API.md). */
void reports_refused(struct reports *reports, const struct cJSON *line);
/* Every few seconds: writes what is due. */
void reports_tick(struct reports *reports);

#endif
