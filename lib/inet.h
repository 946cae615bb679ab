/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, prefixes, MACs, ports and protocols: parse and print.  No name resolution. */
#ifndef TENDRIL_LIB_INET_H
#define TENDRIL_LIB_INET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "lib/addr.h"

#define ADDR_TEXT_MAX 64 /* longest "address/prefix" or "[address]:port" and a NUL */

struct prefix {
	struct addr addr; /* host bits are zero */
	uint8_t len;      /* bits of addr: IPv4 prefixes are 96 longer than written */
};

struct prefix_set {
	struct prefix items[16];
	size_t count;
};

/* Parses an IPv4 or IPv6 address; IPv4 becomes v4-mapped.  Refuses "::ffff:1.2.3.4" and IPv4
 * numbers with leading zeros.  -EINVAL: it is no address; *ret_addr is unchanged. */
int addr_parse(const char *text, struct addr *ret_addr);

/* Writes the address as a person expects it; returns buf, at least ADDR_TEXT_MAX bytes. */
const char *addr_format(const struct addr *addr, char *buf);

bool addr_is_v4(const struct addr *addr);
unsigned char addr_family(const struct addr *addr); /* AF_INET or AF_INET6 */
bool addr_is_zero(const struct addr *addr);
/* Unspecified, loopback, link-local, multicast or broadcast: not for a pod or a service. */
bool addr_is_special(const struct addr *addr);
bool addr_equal(const struct addr *a, const struct addr *b);
int addr_compare(const struct addr *a, const struct addr *b); /* as memcmp */

/* The address in its family's own form: 4 or 16 bytes in network order; returns the length. */
size_t addr_bytes(const struct addr *addr, const uint8_t **ret_bytes);
/* From 4 or 16 bytes in network order; -EINVAL for another length. */
int addr_from_bytes(const void *bytes, size_t len, struct addr *ret_addr);

/* For connect() and bind(); the port is in host order.  Returns the length. */
socklen_t addr_socket(const struct addr *addr, uint16_t port, struct sockaddr_storage *ret);

/* The n-th address after base, counted in the low 64 bits. */
struct addr addr_add(const struct addr *base, uint64_t n);

/* Parses "address/length"; host bits are cleared (the caller may compare to find them). */
int prefix_parse(const char *text, struct prefix *ret_prefix);
/* The prefix of the given length (as in struct prefix) around an address. */
struct prefix prefix_of(const struct addr *addr, uint8_t len);
unsigned char prefix_family_len(const struct prefix *prefix); /* as its family writes it */
const char *prefix_format(const struct prefix *prefix, char *buf);
bool prefix_equal(const struct prefix *a, const struct prefix *b);
bool prefix_contains(const struct prefix *prefix, const struct addr *addr);
bool prefix_overlaps(const struct prefix *a, const struct prefix *b);

/* "tcp", "UDP", "sctp", "icmp", "icmpv6" or a number 0..255. */
int proto_parse(const char *text, uint8_t *ret_proto);
bool proto_has_ports(uint8_t proto);   /* TCP, UDP and SCTP, the protocols of policies */
const char *proto_name(uint8_t proto); /* "TCP", or "proto-47"; static storage */

/* Parses a decimal number in [min, max]; -EINVAL, -ERANGE. */
int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number);

int mac_parse(const char *text, uint8_t ret_mac[6]);
const char *mac_format(const uint8_t mac[6], char buf[18]);

#endif
