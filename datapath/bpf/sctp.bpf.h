/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * SCTP's checksum is a CRC32c over the whole packet, from its ports on, without the addresses.  A
 * CRC is linear: its change for another port depends on the difference of the ports and on the
 * number of bytes that follow, not on these bytes.  So the payload need not be read.
 *
 * A polynomial over GF(2) is a __u32 with the highest power in the lowest bit, as CRC32c counts.
 * The bytes of a packet are taken as little-endian words, as the CRC takes them.
 */
#ifndef TENDRIL_DATAPATH_BPF_SCTP_BPF_H
#define TENDRIL_DATAPATH_BPF_SCTP_BPF_H

#include "datapath/bpf/packet.bpf.h"

#define CRC32C_POLYNOMIAL 0x82f63b78U
#define SCTP_CHECK_OFFSET 8
#define SCTP_LENGTH_BITS  16 /* of a packet's length in bytes */

/* x to the power of 8 times 2^i, modulo the polynomial: 2^i more bytes. */
static const __u32 crc32c_power[SCTP_LENGTH_BITS] = {
	0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a,
	0xb82be955, 0xb8fdb1e7, 0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a,
	0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc,
};

/* Multiplies by x.  Without a mask of ones or zeros: the verifier would check both paths. */
static __always_inline __u32 crc32c_bit(__u32 crc)
{
	return crc >> 1 ^ CRC32C_POLYNOMIAL * (crc & 1);
}

/* Appends 2^power zero bytes: a multiplication, bit by bit.  Weak: the verifier must not track the
 * value of each bit from one call to the next. */
__weak int crc32c_append(__u32 crc, __u32 power)
{
	__u32 factor, product = 0;

	if (power >= SCTP_LENGTH_BITS)
		return 0;
	factor = crc32c_power[power];
#pragma clang loop unroll(disable)
	for (int bit = 31; bit >= 0; bit--) {
		product ^= crc * (factor >> bit & 1);
		crc = crc32c_bit(crc);
	}
	return (int)product;
}

/* What a difference in the first four bytes of a packet changes in its CRC. */
__weak int crc32c_change(__u32 difference, __u32 bytes_behind)
{
	__u32 crc = difference;

#pragma clang loop unroll(disable)
	for (int bit = 0; bit < 32; bit++)
		crc = crc32c_bit(crc);
#pragma clang loop unroll(disable)
	for (__u32 power = 0; power < SCTP_LENGTH_BITS; power++) {
		if (bytes_behind >> power & 1)
			crc = (__u32)crc32c_append(crc, power);
	}
	return (int)crc;
}

/*
 * Corrects the checksum for another source or destination port, which the caller writes.  A sender
 * on this node may leave the checksum to the device, which then overwrites this one.  The checksum
 * of a fragmented packet cannot be corrected; SCTP sends no fragments.
 */
static __always_inline int sctp_replace_port(packet_context *ctx, const struct packet *pkt,
					     bool is_source, __be16 old, __be16 new)
{
	__u32 length = packet_l4_length(ctx, pkt);
	__u32 difference;
	__le32 check;

	if (packet_segment(ctx))
		return DROP_NONE;
	if (length <= SCTP_HEADER_LEN || pkt->fragment ||
	    packet_load(ctx, pkt->l4_offset + SCTP_CHECK_OFFSET, &check, sizeof(check)))
		return DROP_REWRITE_FAILED;
	difference = (__u32)(old ^ new);
	if (!is_source)
		difference <<= 16;
	check ^= (__u32)crc32c_change(difference, length - sizeof(difference));
	return packet_store(ctx, pkt->l4_offset + SCTP_CHECK_OFFSET, &check, sizeof(check), 0)
		       ? DROP_REWRITE_FAILED
		       : DROP_NONE;
}

#endif
