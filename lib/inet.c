/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/inet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/auto.h"
#include "lib/text.h"

#define V4_OFFSET 12 /* where the IPv4 address sits in its v4-mapped form */
#define V4_BITS   96

static const uint8_t v4_mapped[V4_OFFSET] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

bool addr_is_v4(const struct addr *addr)
{
	return memcmp(addr, v4_mapped, sizeof(v4_mapped)) == 0;
}

unsigned char addr_family(const struct addr *addr)
{
	return addr_is_v4(addr) ? AF_INET : AF_INET6;
}

bool addr_is_zero(const struct addr *addr)
{
	return (addr->w[0] | addr->w[1] | addr->w[2] | addr->w[3]) == 0;
}

bool addr_is_special(const struct addr *addr)
{
	uint32_t head = ntohl(addr->w[addr_is_v4(addr) ? 3 : 0]);

	if (addr_is_v4(addr)) /* 0/8, 127/8, 169.254/16, and everything from 224/4 on */
		return head >> 24 == 0 || head >> 24 == 127 || head >> 16 == 0xa9fe ||
		       head >> 28 >= 0xe;
	if (!head && !addr->w[1] && !addr->w[2])
		return ntohl(addr->w[3]) <= 1; /* "::" and "::1" */
	return head >> 22 == 0xfe80 >> 6 || head >> 24 == 0xff;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

int addr_compare(const struct addr *a, const struct addr *b)
{
	return memcmp(a, b, sizeof(*a));
}

size_t addr_bytes(const struct addr *addr, const uint8_t **ret_bytes)
{
	const uint8_t *bytes = (const uint8_t *)addr->w;

	if (addr_is_v4(addr)) {
		*ret_bytes = bytes + V4_OFFSET;
		return 4;
	}
	*ret_bytes = bytes;
	return 16;
}

int addr_from_bytes(const void *bytes, size_t len, struct addr *ret_addr)
{
	uint8_t raw[16];

	if (len == 4) {
		memcpy(raw, v4_mapped, sizeof(v4_mapped));
		memcpy(raw + V4_OFFSET, bytes, 4);
	} else if (len == 16) {
		memcpy(raw, bytes, 16);
	} else {
		return -EINVAL;
	}
	memcpy(ret_addr, raw, sizeof(*ret_addr));
	return 0;
}

int addr_parse(const char *text, struct addr *ret_addr)
{
	uint8_t raw[16];
	struct addr addr;

	if (inet_pton(AF_INET, text, raw) == 1)
		return addr_from_bytes(raw, 4, ret_addr);
	if (inet_pton(AF_INET6, text, raw) != 1)
		return -EINVAL;
	/* The mapped form would be a second spelling of an IPv4 address. */
	addr_from_bytes(raw, 16, &addr);
	if (addr_is_v4(&addr))
		return -EINVAL;
	*ret_addr = addr;
	return 0;
}

const char *addr_format(const struct addr *addr, char *buf)
{
	const uint8_t *bytes;
	size_t len = addr_bytes(addr, &bytes);

	return inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, buf, ADDR_TEXT_MAX);
}

socklen_t addr_socket(const struct addr *addr, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	const uint8_t *bytes;
	size_t len = addr_bytes(addr, &bytes);

	*ret = (struct sockaddr_storage){ .ss_family = addr_family(addr) };
	v6->sin6_port = htons(port); /* at the same place in both */
	memcpy(len == 4 ? (void *)&v4->sin_addr : (void *)&v6->sin6_addr, bytes, len);
	return len == 4 ? sizeof(*v4) : sizeof(*v6);
}

struct addr addr_add(const struct addr *base, uint64_t n)
{
	struct addr sum = *base;
	uint64_t low = (uint64_t)ntohl(base->w[2]) << 32 | ntohl(base->w[3]);

	low += n;
	sum.w[2] = htonl((uint32_t)(low >> 32));
	sum.w[3] = htonl((uint32_t)low);
	return sum;
}

/* Clears every bit of addr after the first len. */
static void addr_mask(struct addr *addr, unsigned int len)
{
	uint8_t *bytes = (uint8_t *)addr->w;

	for (unsigned int i = 0; i < sizeof(*addr); i++) {
		if (len >= (i + 1) * 8)
			continue;
		bytes[i] &= len <= i * 8 ? 0 : (uint8_t)(0xff << ((i + 1) * 8 - len));
	}
}

struct prefix prefix_of(const struct addr *addr, uint8_t len)
{
	struct prefix prefix = { .addr = *addr, .len = len };

	addr_mask(&prefix.addr, len);
	return prefix;
}

int prefix_parse(const char *text, struct prefix *ret_prefix)
{
	const char *slash = strchr(text, '/');
	char address[ADDR_TEXT_MAX];
	struct prefix prefix;
	unsigned int offset;
	uint64_t len;

	if (!slash || (size_t)(slash - text) >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, (size_t)(slash - text));
	address[slash - text] = '\0';
	if (addr_parse(address, &prefix.addr) < 0)
		return -EINVAL;
	offset = addr_is_v4(&prefix.addr) ? V4_BITS : 0;
	if (slash[1] == '0' && slash[2] != '\0')
		return -EINVAL;
	if (number_parse(slash + 1, 0, 128 - offset, &len) < 0)
		return -EINVAL;
	prefix.len = (uint8_t)(len + offset);
	addr_mask(&prefix.addr, prefix.len);
	*ret_prefix = prefix;
	return 0;
}

unsigned char prefix_family_len(const struct prefix *prefix)
{
	return (unsigned char)(prefix->len - (addr_is_v4(&prefix->addr) ? V4_BITS : 0));
}

const char *prefix_format(const struct prefix *prefix, char *buf)
{
	unsigned int offset = addr_is_v4(&prefix->addr) && prefix->len >= V4_BITS ? V4_BITS : 0;
	size_t used;

	addr_format(&prefix->addr, buf);
	used = strlen(buf);
	snprintf(buf + used, ADDR_TEXT_MAX - used, "/%u", prefix->len - offset);
	return buf;
}

bool prefix_equal(const struct prefix *a, const struct prefix *b)
{
	return a->len == b->len && addr_equal(&a->addr, &b->addr);
}

bool prefix_contains(const struct prefix *prefix, const struct addr *addr)
{
	struct addr masked = *addr;

	/* ::/0 speaks of IPv6; it does not reach into the mapped IPv4 addresses. */
	if (prefix->len < V4_BITS && addr_is_v4(addr))
		return false;
	addr_mask(&masked, prefix->len);
	return addr_equal(&masked, &prefix->addr);
}

bool prefix_overlaps(const struct prefix *a, const struct prefix *b)
{
	return a->len <= b->len ? prefix_contains(a, &b->addr) : prefix_contains(b, &a->addr);
}

static const struct {
	const char *name;
	uint8_t proto;
} protocols[] = {
	{ "TCP", IPPROTO_TCP },   { "UDP", IPPROTO_UDP },       { "SCTP", IPPROTO_SCTP },
	{ "ICMP", IPPROTO_ICMP }, { "ICMPv6", IPPROTO_ICMPV6 },
};

int proto_parse(const char *text, uint8_t *ret_proto)
{
	uint64_t number;

	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		if (strcasecmp(text, protocols[i].name) == 0) {
			*ret_proto = protocols[i].proto;
			return 0;
		}
	}
	if (number_parse(text, 0, 255, &number) < 0)
		return -EINVAL;
	*ret_proto = (uint8_t)number;
	return 0;
}

bool proto_has_ports(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

const char *proto_name(uint8_t proto)
{
	static char numbered[256][sizeof("proto-255")];

	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		if (proto == protocols[i].proto)
			return protocols[i].name;
	}
	snprintf(numbered[proto], sizeof(numbered[proto]), "proto-%u", proto);
	return numbered[proto];
}

int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number)
{
	uint64_t number = 0;

	if (*text == '\0')
		return -EINVAL;
	for (const char *c = text; *c; c++) {
		if (*c < '0' || *c > '9')
			return -EINVAL;
	}
	for (const char *c = text; *c; c++) {
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*c - '0'), &number))
			return -ERANGE;
	}
	if (number < min || number > max)
		return -ERANGE;
	*ret_number = number;
	return 0;
}

int mac_parse(const char *text, uint8_t ret_mac[6])
{
	uint8_t mac[6];

	if (strlen(text) != sizeof("00:00:00:00:00:00") - 1)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(mac); i++) {
		int high = text_hex_digit(text[i * 3]);
		int low = text_hex_digit(text[i * 3 + 1]);

		if (high < 0 || low < 0 || (i < 5 && text[i * 3 + 2] != ':'))
			return -EINVAL;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(ret_mac, mac, sizeof(mac));
	return 0;
}

const char *mac_format(const uint8_t mac[6], char buf[18])
{
	snprintf(buf, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		 mac[5]);
	return buf;
}
