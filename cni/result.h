/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results of ADD.  Inside the plugin every result has the form of CNI 1.1.0, whether it comes from
 * the agent, an IPAM plugin or prevResult.  For the output it gets the form of the configuration's
 * version.
 */
#ifndef TENDRIL_CNI_RESULT_H
#define TENDRIL_CNI_RESULT_H

#include "cni/error.h"
#include "cni/version.h"

struct cJSON;

/* Reads a result of any version (recognized by its form) and validates it.  On failure err has the
 * given code, and the member's path after what.  The caller owns the result. */
int result_parse(const struct cJSON *json, const char *what, int code, struct cJSON **ret_result,
		 struct cni_error *err);

/* Puts the result of an earlier plugin of the chain in front of our own; takes earlier.  Its dns is
 * kept unless ours has one. */
void result_prepend(struct cJSON *result, struct cJSON *earlier);

/* True if the result lists an interface of this name inside a sandbox. */
bool result_has_interface(const struct cJSON *result, const char *ifname);

/* The addresses of the interface of this name in the pod, as [{"address": CIDR}].  Results up to
 * 0.2.0 name no interfaces: there all addresses belong to the only one. */
int result_addresses(const struct cJSON *result, const char *ifname, struct cJSON **ret_list,
		     struct cni_error *err);

/* The result in the form of the version; owned by the caller. */
struct cJSON *result_render(const struct cJSON *result, enum cni_version version);

#endif
