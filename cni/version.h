/* SPDX-License-Identifier: Apache-2.0 */
/* The versions of the CNI specification. */
#ifndef TENDRIL_CNI_VERSION_H
#define TENDRIL_CNI_VERSION_H

#include <stdbool.h>

struct cJSON;

enum cni_version {
	CNI_0_1_0,
	CNI_0_2_0,
	CNI_0_3_0,
	CNI_0_3_1,
	CNI_0_4_0,
	CNI_1_0_0,
	CNI_1_1_0,
	CNI_VERSION_COUNT,
};

#define CNI_LATEST CNI_1_1_0

/* Finds the version of a text; false, *ret_version unchanged, if we do not support it. */
bool version_parse(const char *text, enum cni_version *ret_version);
const char *version_text(enum cni_version version); /* static storage */

/* The highest version in a JSON list of texts that we support; false if there is none. */
bool version_highest(const struct cJSON *list, enum cni_version *ret_version);

/* The answer to VERSION: {"cniVersion","supportedVersions"}; owned by the caller. */
struct cJSON *version_answer(enum cni_version asked);

#endif
