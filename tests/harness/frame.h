/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet frames from a description: what a test says of a packet, and the bytes of it, with good
 * checksums.  Bytes can be changed afterwards, to make of it what nobody should send.
 */
#ifndef TENDRIL_TESTS_HARNESS_FRAME_H
#define TENDRIL_TESTS_HARNESS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datapath/abi.h"

#define FRAME_MAX 2048
#define FRAME_L3  14 /* where the IP header begins */

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

struct segment {
	struct addr from;
	struct addr to;
	uint8_t proto;
	uint16_t sport; /* host order; ICMP echo: the identifier, whichever way */
	uint16_t dport;
	uint8_t flags;
	uint8_t icmp_type;
	uint8_t icmp_code;
	uint8_t chunk; /* SCTP: type of the first */
	uint32_t seq;
	uint32_t ack;
	uint32_t timestamp; /* TCP option, behind MSS and SACK-permitted in a SYN; 0: none */
	uint16_t payload;
	uint16_t offset; /* of this fragment, in bytes: without a transport header if not 0 */
	bool more;       /* fragments follow */
	uint16_t fragment_id;
	const struct segment *embedded; /* in an ICMP error */
};

struct frame {
	uint8_t bytes[FRAME_MAX];
	size_t len;
};

void frame_build(const struct segment *segment, const uint8_t src_mac[6], const uint8_t dst_mac[6],
		 struct frame *ret);

/* The frame with bytes put in before offset; IP lengths are not touched. */
void frame_insert(struct frame *frame, size_t offset, const void *bytes, size_t len);
void frame_set_length(struct frame *frame, size_t ip_length); /* IPv4: total; IPv6: payload */

/* Whether every checksum in the frame is right (IPv4 header, TCP, UDP, ICMP, SCTP). */
bool frame_sums_hold(const struct frame *frame);
/* What the frame says: the inverse of frame_build() for addresses, ports, flags and numbers. */
struct segment frame_read(const struct frame *frame);

#endif
