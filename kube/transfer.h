/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP exchanges with libcurl on a libevent loop.  The caller sets up the easy handle (address,
 * credentials, body) and gets the answer piece by piece.
 */
#ifndef TENDRIL_KUBE_TRANSFER_H
#define TENDRIL_KUBE_TRANSFER_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/errmsg.h"

struct event_base;
struct transfers;

#define TRANSFER_TEXT_MAX 400

struct transfer_result {
	int error;              /* 0, or a negative errno: the answer is not complete */
	long status;            /* HTTP status; 0: there was no answer */
	uint32_t retry_after_s; /* of the answer; 0: it has none */
	const char *text;       /* what went wrong, for people; "" after a complete 2xx */
};

struct transfer_ops {
	/* The head of a 2xx answer has arrived.  May be NULL. */
	void (*began)(void *arg);
	/* A piece of the body of a 2xx answer.  A negative errno ends the transfer with it. */
	int (*data)(const char *data, size_t len, void *arg);
	/* The exchange is over.  Called once for each, never from within transfer_start(). */
	void (*done)(const struct transfer_result *result, void *arg);
};

int transfers_new(struct event_base *base, struct transfers **ret, struct errmsg *err);
/* Takes NULL; running transfers end with -ECANCELED. */
void transfers_free(struct transfers *transfers);

struct transfer_request {
	CURL *easy;                    /* options of its own are set: address, credentials, body */
	struct curl_slist *headers;    /* or NULL */
	struct curl_slist *connect_to; /* CURLOPT_CONNECT_TO, or NULL */
};

/* Starts a transfer; takes the pointers in request. */
void transfer_start(struct transfers *transfers, const struct transfer_request *request,
		    const struct transfer_ops *ops, void *arg);

/* Drops the transfer with this arg: its ops are not called again.  Not from within them. */
void transfer_cancel(struct transfers *transfers, const void *arg);

/* Ends all transfers with this error and closes every connection, so that the next ones are new.
 * Not from within done(). */
void transfers_reset(struct transfers *transfers, int error, const char *text);

/* When a byte was last received by any of them, CLOCK_MONOTONIC. */
uint64_t transfers_last_received_ns(const struct transfers *transfers);

#endif
