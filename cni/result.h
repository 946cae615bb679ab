/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results of ADD.  Inside the plugin a result has the shape of CNI 1.1.0, whatever it came from:
 * the agent, an IPAM plugin or prevResult; on the way out it takes the shape of the version that
 * was asked for.
 */
#ifndef TENDRIL_CNI_RESULT_H
#define TENDRIL_CNI_RESULT_H

#include "cni/error.h"
#include "cni/version.h"

struct cJSON;

/* Reads a result of any version (its shape tells) and validates it.  On failure err has the given
 * code, and what prefixed to the path of the member.  The caller owns the result. */
int result_parse(const struct cJSON *json, const char *what, int code, struct cJSON **ret_result,
		 struct cni_error *err);

/* Puts what an earlier plugin of the chain made in front of our own result; takes earlier over.
 * dns is kept unless ours has its own. */
void result_prepend(struct cJSON *result, struct cJSON *earlier);

/* True if the result lists an interface of this name inside a sandbox. */
bool result_has_interface(const struct cJSON *result, const char *ifname);

/* The addresses that a result gives the interface of this name in the pod, as [{"address": CIDR}].
 * Results up to 0.2.0 name no interfaces: all addresses are those of the one that there is. */
int result_addresses(const struct cJSON *result, const char *ifname, struct cJSON **ret_list,
		     struct cni_error *err);

/* The result as the version has it; owned by the caller. */
struct cJSON *result_render(const struct cJSON *result, enum cni_version version);

#endif
