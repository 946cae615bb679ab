/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a CNI call fails with.  Every function in cni/ that takes a struct cni_error returns 0 or
 * the code it left there; only main() turns it into JSON.
 */
#ifndef TENDRIL_CNI_ERROR_H
#define TENDRIL_CNI_ERROR_H

#include <stdbool.h>

/* The specification's codes up to 99; from 100 on our own, shared with the agent (agent/API.md). */
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
	CNI_AGENT_FAILED = 103, /* the agent's answer makes no sense, or names no code */
	CNI_IPAM_FAILED = 104,  /* the IPAM plugin's answer makes no sense, or names no code */
};

struct cni_error {
	int code;          /* 0 while nothing has failed */
	char msg[600];     /* what is wrong, naming the variable, field or object */
	char details[600]; /* more of it for a person; may be empty */
};

/* Writes the message and returns code. */
int cni_fail(struct cni_error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Adds the long text to a failure; returns its code. */
int cni_details(struct cni_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
