/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets as a pcapng file (draft-ietf-opsawg-pcapng), as Wireshark and tcpdump read it: one
 * section in the byte order of this machine, one Ethernet interface, times in nanoseconds.
 */
#ifndef TENDRIL_CLI_PCAPNG_H
#define TENDRIL_CLI_PCAPNG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PCAPNG_BYTES_MAX   1024 /* of a packet; the rest is left out */
#define PCAPNG_COMMENT_MAX 2048

struct pcapng_packet {
	uint64_t time_ns; /* since 1970 */
	const uint8_t *bytes;
	uint32_t captured;   /* so many of them */
	uint32_t length;     /* of the whole frame */
	const char *comment; /* UTF-8; cut off after PCAPNG_COMMENT_MAX bytes */
};

/* The blocks before the first packet.  snap_length: bytes of a packet at most.  -EIO: they cannot
 * be written; so with pcapng_packet(). */
int pcapng_begin(FILE *file, uint32_t snap_length);
/* Writes one packet, and flushes the file. */
int pcapng_packet(FILE *file, const struct pcapng_packet *packet);

#endif
