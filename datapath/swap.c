/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaces the programs of all devices at one moment.  One after the other would not do where the
 * maps are replaced, too: a connection that one device's new program enters into the new ct_map is
 * unknown to another device's old program, which would drop its answers.
 *
 * So each program first becomes a jump (tail call) through one array to what it was before; then
 * the array's two elements change; then the new programs take the places of the jumps.  The array
 * is pinned: without a pin the kernel empties it when the agent dies.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "datapath/state.h"
#include "lib/auto.h"

#define LOG_MODULE "datapath"
#include "lib/log.h"

enum { JUMP_FROM_POD, JUMP_TO_POD, JUMP_COUNT };

static const char *const names[JUMP_COUNT] = { "from_pod", "to_pod" };
static const enum bpf_tc_attach_point points[JUMP_COUNT] = { BPF_TC_INGRESS, BPF_TC_EGRESS };

static const char *jump_path(const struct datapath *datapath, char buf[PIN_PATH_MAX])
{
	snprintf(buf, PIN_PATH_MAX, "%s/jump", datapath->pin_dir);
	return buf;
}

static bool slot_is_used(const struct datapath *datapath, uint32_t slot)
{
	return datapath->endpoints[slot].flags & ENDPOINT_VALID;
}

static int slot_ifindex(const struct datapath *datapath, uint32_t slot)
{
	const struct endpoint_entry *endpoint = &datapath->endpoints[slot];

	return endpoint->flags & ENDPOINT_CHAINED ? (int)endpoint->host_ifindex
						  : (int)(ENDPOINT_IFINDEX_BASE + slot);
}

/* ---- the host's device ----------------------------------------------------------------------- */

/* The link of to_pod on HOST_DEVICE, or -1 if a filter does it. */
static int host_link_open(const struct datapath *datapath)
{
	char path[PIN_PATH_MAX];

	return bpf_obj_get(link_path(datapath->pin_dir, "host", path));
}

static uint32_t host_program(const struct datapath *datapath, int ifindex)
{
	struct bpf_link_info info = { 0 };
	auto_close int fd = host_link_open(datapath);
	uint32_t len = sizeof(info);

	if (fd >= 0)
		return bpf_obj_get_info_by_fd(fd, &info, &len) ? 0 : info.prog_id;
	return filter_program(ifindex, BPF_TC_EGRESS, PRIORITY_FIRST);
}

static int host_replace(const struct datapath *datapath, const struct program *program,
			struct errmsg *err)
{
	const int ifindex = (int)if_nametoindex(HOST_DEVICE);
	auto_close int fd = host_link_open(datapath);

	if (!ifindex || !host_program(datapath, ifindex))
		return 0; /* datapath_attach_host() comes later */
	if (fd < 0)
		return filter_attach(ifindex, BPF_TC_EGRESS, PRIORITY_FIRST, program, err);
	return bpf_link_update(fd, program->fd, NULL) && errno != ENOLINK
		       ? fail(err, -errno, "replace the program of " HOST_DEVICE)
		       : 0;
}

/* ---- the jumps ------------------------------------------------------------------------------- */

static int jump_load(struct swap *swap, int index, struct errmsg *err)
{
	const struct bpf_insn code[] = {
		/* NOLINTNEXTLINE(misc-redundant-expression): the names say what the zeros mean */
		{ .code = BPF_LD | BPF_DW | BPF_IMM,
		  .dst_reg = BPF_REG_2,
		  .src_reg = BPF_PSEUDO_MAP_FD,
		  .imm = swap->jump_fd },
		{ .code = 0 }, /* second half of the constant */
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = index },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_tail_call },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = TC_ACT_SHOT },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	struct program *jump = &swap->jumps[index];

	snprintf(jump->name, sizeof(jump->name), "%s", names[index]);
	jump->fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, names[index], "GPL", code,
				 ARRAY_SIZE(code), NULL);
	return jump->fd < 0 ? fail(err, -errno, "load a jump to %s", names[index]) : 0;
}

static int jump_set(const struct swap *swap, int index, int prog_fd, struct errmsg *err)
{
	return bpf_map_update_elem(swap->jump_fd, &index, &prog_fd, BPF_ANY)
		       ? fail(err, -errno, "jump to %s", names[index])
		       : 0;
}

/* Id of the program that packets meet now: an earlier process' jump leads to it, or a device has
 * it.  0: none. */
static uint32_t target_find(const struct swap *swap, int index)
{
	struct datapath *datapath = swap->datapath;
	const int host = (int)if_nametoindex(HOST_DEVICE);
	uint32_t id = 0;

	if (!bpf_map_lookup_elem(swap->jump_fd, &index, &id) && id)
		return id;
	for (uint32_t slot = 1; !id && slot < datapath->capacity[MAP_ENDPOINT]; slot++) {
		if (slot_is_used(datapath, slot))
			id = filter_program(slot_ifindex(datapath, slot), points[index],
					    PRIORITY_FIRST);
	}
	return !id && host && index == JUMP_TO_POD ? host_program(datapath, host) : id;
}

static int target_open(struct swap *swap, int index, struct errmsg *err)
{
	uint32_t id = target_find(swap, index);
	struct program *target = &swap->targets[index];

	snprintf(target->name, sizeof(target->name), "%s", names[index]);
	target->fd = id ? bpf_prog_get_fd_by_id(id) : -ENOENT;
	if (target->fd < 0)
		return fail(err, target->fd, "the old %s", names[index]);
	return jump_set(swap, index, target->fd, err);
}

static int swap_prepare(struct swap *swap, struct errmsg *err)
{
	char path[PIN_PATH_MAX];
	int ret = 0;

	swap->jump_fd = bpf_obj_get(jump_path(swap->datapath, path));
	if (swap->jump_fd < 0) {
		swap->jump_fd = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "jump", sizeof(uint32_t),
					       sizeof(uint32_t), JUMP_COUNT, NULL);
		if (swap->jump_fd < 0 || bpf_obj_pin(swap->jump_fd, path))
			return fail(err, -errno, "make %s", path);
	}
	for (int i = 0; !ret && i < JUMP_COUNT; i++) {
		ret = target_open(swap, i, err);
		if (!ret)
			ret = jump_load(swap, i, err);
	}
	return ret;
}

/* ---- devices --------------------------------------------------------------------------------- */

static int slot_begin(const struct swap *swap, uint32_t slot, struct errmsg *err)
{
	const int ifindex = slot_ifindex(swap->datapath, slot);
	int ret = 0;

	for (int i = 0; !ret && i < JUMP_COUNT; i++)
		ret = filter_attach(ifindex, points[i], PRIORITY_FALLBACK, &swap->targets[i], err);
	if (!ret)
		ret = endpoint_attach(swap->datapath, ifindex, &swap->jumps[JUMP_FROM_POD],
				      &swap->jumps[JUMP_TO_POD], err);
	return ret == -ENODEV ? 0 : ret; /* the device is gone */
}

int swap_begin(struct datapath *datapath, struct swap *ret_swap, struct errmsg *err)
{
	struct swap *swap = ret_swap;
	const int host = (int)if_nametoindex(HOST_DEVICE);
	int ret;

	*swap = (struct swap){ .datapath = datapath, .jump_fd = -1 };
	for (int i = 0; i < JUMP_COUNT; i++)
		swap->jumps[i].fd = swap->targets[i].fd = -1;
	ret = swap_prepare(swap, err);
	for (uint32_t slot = 1; !ret && slot < datapath->capacity[MAP_ENDPOINT]; slot++) {
		if (slot_is_used(datapath, slot))
			ret = slot_begin(swap, slot, err);
	}
	if (!ret && host && host_program(datapath, host)) {
		ret = filter_attach(host, BPF_TC_EGRESS, PRIORITY_FALLBACK,
				    &swap->targets[JUMP_TO_POD], err);
		if (!ret)
			ret = host_replace(datapath, &swap->jumps[JUMP_TO_POD], err);
	}
	return ret;
}

int swap_flip(struct swap *swap, struct errmsg *err)
{
	int ret = 0;

	for (int i = 0; !ret && i < JUMP_COUNT; i++)
		ret = jump_set(swap, i, datapath_program_fd(swap->datapath, names[i]), err);
	return ret;
}

void swap_finish(struct datapath *datapath)
{
	const int host = (int)if_nametoindex(HOST_DEVICE);
	struct errmsg err = { 0 };
	char path[PIN_PATH_MAX];

	for (uint32_t slot = 1; slot < datapath->capacity[MAP_ENDPOINT]; slot++) {
		const int ifindex = slot_ifindex(datapath, slot);

		if (!slot_is_used(datapath, slot))
			continue;
		if (datapath_attach_endpoint(datapath, ifindex, &err))
			log_warn("endpoint %u keeps its old programs: %s", slot, err.text);
		for (int i = 0; i < JUMP_COUNT; i++)
			filter_remove(ifindex, points[i], PRIORITY_FALLBACK);
	}
	if (host_replace(datapath, program_find(datapath, "to_pod"), &err))
		log_warn("%s", err.text);
	if (host)
		filter_remove(host, BPF_TC_EGRESS, PRIORITY_FALLBACK);
	unlink(jump_path(datapath, path));
}

void swap_release(struct swap *swap)
{
	for (int i = 0; i < JUMP_COUNT; i++) {
		if (swap->jumps[i].fd >= 0)
			close(swap->jumps[i].fd);
		if (swap->targets[i].fd >= 0)
			close(swap->targets[i].fd);
	}
	if (swap->jump_fd >= 0)
		close(swap->jump_fd);
}
