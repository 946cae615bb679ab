/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the addresses out of a DNS answer (RFC 1035, RFC 3596).  The bytes come from a network and
 * may be anything: this is for processes without privileges.
 */
#ifndef TENDRIL_LIB_DNS_H
#define TENDRIL_LIB_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

#define DNS_NAME_MAX  256 /* of the text, with its NUL */
#define DNS_ADDRS_MAX 16  /* more are left out */

/* What was asked, and the addresses of the answer, whatever aliases lead to them. */
struct dns_answer {
	char name[DNS_NAME_MAX]; /* lower case, without the last dot; what is no letter, digit, "-"
				  * or "_" as \DDD */
	struct addr addrs[DNS_ADDRS_MAX];
	uint32_t count;
	uint32_t ttl_s; /* the least of all records */
};

/* 0: an answer without an error, perhaps cut off, perhaps without addresses; -EBADMSG: it is none.
 */
int dns_parse(const uint8_t *bytes, size_t len, struct dns_answer *ret);

/* Whether a text can be the name of an answer. */
bool dns_name_is_clean(const char *name);

#endif
