/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A packet as the kernel hands it to a program, and what is done with its bytes: here to a program
 * of tc.  xdp_context.bpf.h has the same for XDP, under the same guard: a program of XDP includes
 * it first, and gets all other headers over it.  So what reads and rewrites packets exists once.
 */
#ifndef TENDRIL_DATAPATH_BPF_CONTEXT_BPF_H
#define TENDRIL_DATAPATH_BPF_CONTEXT_BPF_H

#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* A typedef, because the verifier looks behind it for the type that a program of this kind gets. */
typedef struct __sk_buff packet_context;

/* clang must not compute the pointer anew after the check: the verifier would not know the copy for
 * checked (clang 14). */
#define PACKET_POINTER_KEEP(ptr) asm volatile("" : "+r"(ptr))

/* Bytes of the frame at offset, or NULL if it ends before.  Headers are linear as a rule; only a
 * sender that builds its frames by hand costs the pull.  Invalidates earlier pointers. */
static __always_inline void *packet_bytes(packet_context *ctx, __u32 offset, __u32 size)
{
	void *bytes = (void *)(long)ctx->data + offset;

	PACKET_POINTER_KEEP(bytes);
	if (bytes + size <= (void *)(long)ctx->data_end)
		return bytes;
	if (bpf_skb_pull_data(ctx, offset + size))
		return NULL;
	bytes = (void *)(long)ctx->data + offset;
	PACKET_POINTER_KEEP(bytes);
	return bytes + size <= (void *)(long)ctx->data_end ? bytes : NULL;
}

static __always_inline __u32 packet_length(const packet_context *ctx)
{
	return ctx->len;
}

/* Whether it has a VLAN tag that the kernel has moved out of the frame. */
static __always_inline bool packet_has_tag(const packet_context *ctx)
{
	return ctx->vlan_present;
}

/* Bytes of payload in each segment of a super-packet; 0: it is none. */
static __always_inline __u32 packet_segment(const packet_context *ctx)
{
	return ctx->gso_size;
}

static __always_inline __u32 packet_device(const packet_context *ctx)
{
	return ctx->ifindex;
}

/* Copies size bytes, a constant, from or to the frame; 0 or a negative errno. */
static __always_inline int packet_load(packet_context *ctx, __u32 offset, void *to, __u32 size)
{
	return (int)bpf_skb_load_bytes(ctx, offset, to, size);
}

/* flags: those of bpf_skb_store_bytes(). */
static __always_inline int packet_store(packet_context *ctx, __u32 offset, const void *from,
					__u32 size, __u64 flags)
{
	return (int)bpf_skb_store_bytes(ctx, offset, from, size, flags);
}

/* Corrects a checksum of the IP header, or of the transport, as bpf_l3_csum_replace() and
 * bpf_l4_csum_replace() do. */
static __always_inline int packet_l3_sum(packet_context *ctx, __u32 offset, __u64 from, __u64 to,
					 __u64 flags)
{
	return (int)bpf_l3_csum_replace(ctx, offset, from, to, flags);
}

static __always_inline int packet_l4_sum(packet_context *ctx, __u32 offset, __u64 from, __u64 to,
					 __u64 flags)
{
	return (int)bpf_l4_csum_replace(ctx, offset, from, to, flags);
}

#endif
