/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pods of the connectivity test, and their objects.  The agent wires them as it wires any pod:
 * these are the calls of the CNI plugin.  All is in a namespace of its own, with the API as source,
 * so that neither files nor an API server know of it, and policies of users do not select it.
 */
#ifndef TENDRIL_CLI_CONNECT_PODS_H
#define TENDRIL_CLI_CONNECT_PODS_H

#include "cli/command.h"
#include "cli/connect_prober.h"

#define CONNECT_NAMESPACE  "tendril-connectivity-test"
#define CONNECT_SERVICE_V4 "198.18.255.254" /* for tests of networks (RFC 2544, RFC 5180) */
#define CONNECT_SERVICE_V6 "2001:2:0:ffff::fffe"

struct connect_pod {
	const char *name;
	struct prober prober;
	struct addr addresses[2]; /* IPv4, IPv6; zero: it has none */
	unsigned int mtu;
};

/* Starts it and has it wired.  What remains after a failure goes with connect_clean(). */
int connect_pod_add(const struct arguments *args, struct connect_pod *pod, struct errmsg *err);

/* A ClusterIP service with the pod as its backend. */
int connect_service_put(const struct arguments *args, const struct connect_pod *pod,
			struct errmsg *err);
/* A policy that allows nobody to reach the pod. */
int connect_policy_put(const struct arguments *args, const struct connect_pod *pod,
		       struct errmsg *err);
int connect_policy_delete(const struct arguments *args, struct errmsg *err);

/* Removes pods and objects of the test, also those that a test which was killed has left. */
int connect_clean(const struct arguments *args, struct errmsg *err);

#endif
