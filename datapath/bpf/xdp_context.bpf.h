/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * context.bpf.h for a program of XDP, under the same guard.  A packet is a frame of the device
 * here: it is not segmented later, its tags are in it, and its checksums are complete
 * (xdp_sum_is_complete()), so they are corrected in place.
 */
#ifndef TENDRIL_DATAPATH_BPF_CONTEXT_BPF_H
#define TENDRIL_DATAPATH_BPF_CONTEXT_BPF_H

#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

typedef struct xdp_md packet_context;

#define PACKET_POINTER_KEEP(ptr) asm volatile("" : "+r"(ptr))
#define XDP_OFFSET_MAX           1023 /* headers end before */

/* As in context.bpf.h. */
static __always_inline void *packet_bytes(packet_context *ctx, __u32 offset, __u32 size)
{
	void *bytes;

	if (offset > XDP_OFFSET_MAX)
		return NULL;
	/* Linux 6.1 does not know by the comparison what the sum is made of. */
	PACKET_POINTER_KEEP(offset);
	offset &= XDP_OFFSET_MAX;
	PACKET_POINTER_KEEP(offset);
	bytes = (void *)(long)ctx->data + offset;
	PACKET_POINTER_KEEP(bytes);
	return bytes + size <= (void *)(long)ctx->data_end ? bytes : NULL;
}

static __always_inline __u32 packet_length(packet_context *ctx)
{
	return (__u32)bpf_xdp_get_buff_len(ctx);
}

static __always_inline bool packet_has_tag(const packet_context *ctx)
{
	(void)ctx;
	return false;
}

static __always_inline __u32 packet_segment(const packet_context *ctx)
{
	(void)ctx;
	return 0;
}

static __always_inline __u32 packet_device(const packet_context *ctx)
{
	return ctx->ingress_ifindex;
}

/* By a call, although the bytes could be read in place: the verifier would follow every header that
 * may be there with each of its ends (167,000 instructions, not 16,000). */
static __always_inline int packet_load(packet_context *ctx, __u32 offset, void *to, __u32 size)
{
	return (int)bpf_xdp_load_bytes(ctx, offset, to, size);
}

static __always_inline int packet_store(packet_context *ctx, __u32 offset, const void *from,
					__u32 size, __u64 flags)
{
	void *bytes = packet_bytes(ctx, offset, size);

	(void)flags;
	if (!bytes)
		return -1;
	__builtin_memcpy(__builtin_assume_aligned(bytes, sizeof(__u32)), from, size);
	return 0;
}

/* Corrects an Internet checksum (RFC 1624) by the difference of two sums. */
static __always_inline __u16 xdp_sum_add(__u16 sum, __u64 difference)
{
	difference += (__u16)~sum;
	difference = (difference & 0xffffffff) + (difference >> 32);
	difference = (difference & 0xffff) + (difference >> 16);
	difference = (difference & 0xffff) + (difference >> 16);
	difference = (difference & 0xffff) + (difference >> 16);
	return (__u16)~difference;
}

/* flags: the size of from and to, 0: to is the difference already; BPF_F_MARK_MANGLED_0. */
static __always_inline int packet_l4_sum(packet_context *ctx, __u32 offset, __u64 from, __u64 to,
					 __u64 flags)
{
	__u16 *sum = packet_bytes(ctx, offset, sizeof(*sum));

	if (!sum)
		return -1;
	if (flags & BPF_F_MARK_MANGLED_0 && !*sum)
		return 0;
	if (flags & sizeof(__u32))
		to += (__u32)~from;
	else if (flags & sizeof(__u16))
		to += (__u16)~from;
	*sum = xdp_sum_add(*sum, to);
	if (flags & BPF_F_MARK_MANGLED_0 && !*sum)
		*sum = 0xffff;
	return 0;
}

static __always_inline int packet_l3_sum(packet_context *ctx, __u32 offset, __u64 from, __u64 to,
					 __u64 flags)
{
	return packet_l4_sum(ctx, offset, from, to, flags);
}

#endif
