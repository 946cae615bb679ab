/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Addresses and flows, as every program and every eBPF map holds them.  An address is 16 bytes in
 * network order; IPv4 is carried v4-mapped (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2).
 */
#ifndef TENDRIL_LIB_ADDR_H
#define TENDRIL_LIB_ADDR_H

#include <linux/types.h>

struct addr {
	__be32 w[4]; /* IPv4: 0, 0, 0x0000ffff, a.b.c.d */
};
_Static_assert(sizeof(struct addr) == 16, "struct addr changed size");

/* A flow as one packet sees it, before sorting. */
struct flow {
	struct addr saddr;
	struct addr daddr;
	__be16 sport; /* ICMP echo request: the identifier; 0 where the protocol has no ports */
	__be16 dport; /* ICMP echo reply: the identifier, as its request has it as sport */
	__u8 proto;   /* IPPROTO_* */
	__u8 pad[3];
};
_Static_assert(sizeof(struct flow) == 40, "struct flow changed size");

#endif
