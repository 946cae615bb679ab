/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the messages of DNS in TCP segments: each has its length before it (RFC 1035 4.2.2).
 * Nothing is put together: of a message that goes on in the next segment the first part is read.
 * For the process without privileges.
 */
#ifndef TENDRIL_AGENT_FLOW_DNS_STREAM_H
#define TENDRIL_AGENT_FLOW_DNS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datapath/abi.h"

#define DNS_STREAMS 64 /* at a time; a further one takes the place of the oldest */

/* Where the next message of a connection begins. */
struct dns_stream {
	struct flow flow;
	uint64_t netns_cookie;
	uint32_t next; /* sequence number: of its length, or if that was read, of itself */
	uint16_t length;
	bool has_length;
	bool live;
};

struct dns_streams {
	struct dns_stream streams[DNS_STREAMS]; /* all 0 at first */
	size_t oldest;
	uint32_t left_out; /* segments or messages that were not read, or not to their end */
};

/* Calls each() with the messages of a segment, as far as they are in event->bytes.  False: each()
 * has returned false. */
bool dns_stream_read(struct dns_streams *streams, const struct dns_event *event,
		     bool (*each)(const uint8_t *bytes, size_t len, void *arg), void *arg);

#endif
