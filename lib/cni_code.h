/* SPDX-License-Identifier: Apache-2.0 */
/* Error codes of CNI calls.  The agent returns them to the plugin, and the plugin to the runtime.
 */
#ifndef TENDRIL_LIB_CNI_CODE_H
#define TENDRIL_LIB_CNI_CODE_H

/* The specification's codes up to 99; from 100 on our own (agent/api/API.md). */
enum cni_code {
	CNI_INCOMPATIBLE_VERSION = 1,
	CNI_UNSUPPORTED_FIELD = 2,
	CNI_UNKNOWN_CONTAINER = 3,
	CNI_INVALID_ENVIRONMENT = 4,
	CNI_IO_FAILURE = 5,
	CNI_DECODING_FAILURE = 6,
	CNI_INVALID_CONFIG = 7,
	CNI_TRY_AGAIN_LATER = 11,
	CNI_NOT_AVAILABLE = 50,
	CNI_LIMITED_CONNECTIVITY = 51,
	CNI_KERNEL_FAILED = 100,
	CNI_ADDRESSES_EXHAUSTED = 101,
	CNI_CHECK_DIFFERS = 102,
	CNI_AGENT_FAILED = 103, /* the agent's answer is invalid, or names no code */
	CNI_IPAM_FAILED = 104,  /* the IPAM plugin's answer is invalid, or names no code */
};

#endif
