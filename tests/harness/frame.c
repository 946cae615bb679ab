/* SPDX-License-Identifier: Apache-2.0 */
/* Frames for the datapath tests. */
#include "harness/frame.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/inet.h"

#define V4_HEADER 20
#define V6_HEADER 40

static void put16(uint8_t *at, unsigned int value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static uint32_t sum_add(uint32_t sum, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	return sum;
}

static uint16_t sum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static bool is_icmp(uint8_t proto)
{
	return proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/* The sum over pseudo header and transport; 0 as result when the checksum is right. */
static uint16_t sum_transport(const struct addr *from, const struct addr *to, uint8_t proto,
			      const uint8_t *bytes, size_t len)
{
	const uint8_t *raw_from, *raw_to;
	size_t size = addr_bytes(from, &raw_from);
	uint32_t sum = 0;

	addr_bytes(to, &raw_to);
	if (proto != IPPROTO_ICMP) {
		sum = sum_add(sum, raw_from, size);
		sum = sum_add(sum, raw_to, size);
		sum += (uint32_t)len + proto;
	}
	return sum_fold(sum_add(sum, bytes, len));
}

/* SCTP's checksum (CRC32c, RFC 9260 appendix A), as it stands in the packet, byte for byte. */
static void sctp_sum(const uint8_t *bytes, size_t len, uint8_t ret[4])
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < len; i++) {
		crc ^= i >= 8 && i < 12 ? 0 : bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
	}
	crc = ~crc;
	for (int i = 0; i < 4; i++)
		ret[i] = (uint8_t)(crc >> 8 * i);
}

static size_t sum_offset(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return 16;
	case IPPROTO_UDP:
		return 6;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return 2;
	default:
		return 0;
	}
}

static size_t build_ip(const struct segment *segment, uint8_t *at, size_t transport_len);

/* Writes the TCP options as Linux orders them; returns their length. */
static size_t build_options(const struct segment *segment, uint8_t *at)
{
	const bool syn = segment->flags & 2;
	const uint8_t in_syn[] = { 2, 4, 5, 180, 4, 2, 8, 10 }, later[] = { 1, 1, 8, 10 };
	const size_t len = syn ? sizeof(in_syn) : sizeof(later);

	if (!segment->timestamp)
		return 0;
	memcpy(at, syn ? in_syn : later, len);
	put32(at + len, segment->timestamp);
	put32(at + len + 4, 0);
	return len + 8;
}

/* Writes the transport header and payload; returns their length. */
static size_t build_transport(const struct segment *segment, uint8_t *at)
{
	size_t len = 8;

	memset(at, 0, 20);
	put16(at, segment->sport);
	put16(at + 2, segment->dport);
	if (segment->proto == IPPROTO_TCP) {
		put32(at + 4, segment->seq);
		put32(at + 8, segment->ack);
		len = 20 + build_options(segment, at + 20);
		at[12] = (uint8_t)(len / 4 << 4);
		at[13] = segment->flags;
		put16(at + 14, 1024);
	} else if (segment->proto == IPPROTO_UDP) {
		put16(at + 4, 8u + segment->payload);
	} else if (segment->proto == IPPROTO_SCTP) {
		at[12] = segment->chunk;
		len = 16;
	} else if (is_icmp(segment->proto)) {
		at[0] = segment->icmp_type;
		at[1] = segment->icmp_code;
		put32(at + 4, 0);
		if (segment->embedded) {
			uint8_t inner[FRAME_MAX];
			size_t inner_len = build_transport(segment->embedded, inner);

			inner_len = build_ip(segment->embedded, at + 8, inner_len) + 8;
			memcpy(at + inner_len, inner, 8);
			return inner_len + 8;
		}
		put16(at + 2, 0);
		put16(at + 4, segment->sport);
	}
	for (size_t i = 0; i < segment->payload; i++)
		at[len + i] = (uint8_t)i;
	return len + segment->payload;
}

/* Writes the IP header for a transport of this length; returns the header's length. */
static size_t build_ip(const struct segment *segment, uint8_t *at, size_t transport_len)
{
	bool fragment = segment->offset || segment->more;
	const uint8_t *from, *to;

	addr_bytes(&segment->from, &from);
	addr_bytes(&segment->to, &to);
	memset(at, 0, V6_HEADER + 8);
	if (addr_is_v4(&segment->to)) {
		at[0] = 0x45;
		put16(at + 2, (unsigned int)(V4_HEADER + transport_len));
		put16(at + 4, segment->fragment_id);
		put16(at + 6, segment->offset / 8u | (segment->more ? 0x2000u : 0));
		at[8] = 64;
		at[9] = segment->proto;
		memcpy(at + 12, from, 4);
		memcpy(at + 16, to, 4);
		put16(at + 10, sum_fold(sum_add(0, at, V4_HEADER)));
		return V4_HEADER;
	}
	at[0] = 0x60;
	put16(at + 4, (unsigned int)(transport_len + (fragment ? 8 : 0)));
	at[6] = fragment ? IPPROTO_FRAGMENT : segment->proto;
	at[7] = 64;
	memcpy(at + 8, from, 16);
	memcpy(at + 24, to, 16);
	if (!fragment)
		return V6_HEADER;
	at[40] = segment->proto;
	put16(at + 42, segment->offset | (segment->more ? 1u : 0));
	put32(at + 44, segment->fragment_id);
	return V6_HEADER + 8;
}

void frame_build(const struct segment *segment, const uint8_t src_mac[6], const uint8_t dst_mac[6],
		 struct frame *ret)
{
	uint8_t transport[FRAME_MAX];
	size_t len, header;
	size_t sum_at = sum_offset(segment->proto);

	if (segment->offset) {
		len = segment->payload;
		memset(transport, 0x5a, len);
	} else {
		len = build_transport(segment, transport);
		if (sum_at && !segment->more) {
			uint16_t sum = sum_transport(&segment->from, &segment->to, segment->proto,
						     transport, len);

			/* 0 of UDP says that there is no sum. */
			put16(transport + sum_at,
			      !sum && segment->proto == IPPROTO_UDP ? 0xffff : sum);
		}
		if (segment->proto == IPPROTO_SCTP)
			sctp_sum(transport, len, transport + 8);
	}
	memcpy(ret->bytes, dst_mac, 6);
	memcpy(ret->bytes + 6, src_mac, 6);
	put16(ret->bytes + 12, addr_is_v4(&segment->to) ? 0x0800 : 0x86dd);
	header = FRAME_L3 + build_ip(segment, ret->bytes + FRAME_L3, len);
	memcpy(ret->bytes + header, transport, len);
	ret->len = header + len;
}

void frame_insert(struct frame *frame, size_t offset, const void *bytes, size_t len)
{
	memmove(frame->bytes + offset + len, frame->bytes + offset, frame->len - offset);
	memcpy(frame->bytes + offset, bytes, len);
	frame->len += len;
}

void frame_set_length(struct frame *frame, size_t ip_length)
{
	bool v6 = frame->bytes[FRAME_L3] >> 4 == 6;

	put16(frame->bytes + FRAME_L3 + (v6 ? 4 : 2), (unsigned int)ip_length);
}

static struct addr read_addr(const uint8_t *at, size_t len)
{
	struct addr addr = { 0 };

	addr_from_bytes(at, len, &addr);
	return addr;
}

static bool is_echo(uint8_t proto, uint8_t type)
{
	return proto == IPPROTO_ICMP ? type == 8 || type == 0 : type == 128 || type == 129;
}

struct segment frame_read(const struct frame *frame)
{
	const uint8_t *ip = frame->bytes + FRAME_L3;
	struct segment segment = { 0 };
	const uint8_t *at;

	if (ip[0] >> 4 == 4) {
		segment.from = read_addr(ip + 12, 4);
		segment.to = read_addr(ip + 16, 4);
		segment.proto = ip[9];
		at = ip + (ip[0] & 15) * 4;
	} else {
		segment.from = read_addr(ip + 8, 16);
		segment.to = read_addr(ip + 24, 16);
		segment.proto = ip[6];
		at = ip + V6_HEADER;
	}
	if (is_icmp(segment.proto)) {
		segment.icmp_type = at[0];
		segment.icmp_code = at[1];
		if (is_echo(segment.proto, segment.icmp_type))
			segment.sport = get16(at + 4);
		return segment;
	}
	segment.sport = get16(at);
	segment.dport = get16(at + 2);
	if (segment.proto == IPPROTO_TCP) {
		segment.seq = get32(at + 4);
		segment.ack = get32(at + 8);
		segment.flags = at[13];
	}
	return segment;
}

bool frame_sums_hold(const struct frame *frame)
{
	const uint8_t *ip = frame->bytes + FRAME_L3;
	struct segment segment = frame_read(frame);
	size_t header = ip[0] >> 4 == 4 ? (ip[0] & 15) * 4u : V6_HEADER;
	size_t len = frame->len - FRAME_L3 - header;

	if (ip[0] >> 4 == 4 && sum_fold(sum_add(0, ip, header)))
		return false;
	if (segment.proto == IPPROTO_SCTP) {
		uint8_t sum[4];

		sctp_sum(ip + header, len, sum);
		return !memcmp(sum, ip + header + 8, sizeof(sum));
	}
	if (!sum_offset(segment.proto))
		return true;
	return !sum_transport(&segment.from, &segment.to, segment.proto, ip + header, len);
}
