/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaces the programs of all devices at one moment.  One after the other would not do where the
 * maps are replaced, too: a connection that one device's new program enters into the new ct_map is
 * unknown to another device's old program, which would drop its answers.
 *
 * So each program first becomes a jump (tail call) through one array to what it was before; then
 * one number changes, by which all of them jump to the new programs; then these take the places of
 * the jumps.  The array is pinned: without a pin the kernel empties it when the agent dies.
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

const char *const swap_names[SWAP_COUNT] = { "from_pod",  "to_pod",      "from_uplink",
					     "to_uplink", "from_tunnel", "to_tunnel" };

#define JUMPS "jumps"      /* pin of the programs: those of side 0, then those of side 1 */
#define SIDE  "jumps-side" /* pin of the number: on which side they are that packets meet */

static const char *jump_path(const struct datapath *datapath, const char *name,
			     char buf[PIN_PATH_MAX])
{
	snprintf(buf, PIN_PATH_MAX, "%s/%s", datapath->pin_dir, name);
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
	/* NOLINTBEGIN(misc-redundant-expression): the names say what the zeros mean */
	const struct bpf_insn code[] = {
		/* The packet stays in the first register, where the call wants it. */
		{ .code = BPF_LD | BPF_DW | BPF_IMM,
		  .dst_reg = BPF_REG_2,
		  .src_reg = BPF_PSEUDO_MAP_VALUE,
		  .imm = swap->side_fd },
		{ .code = 0 }, /* second half of the constant */
		{ .code = BPF_LDX | BPF_W | BPF_MEM, .dst_reg = BPF_REG_3, .src_reg = BPF_REG_2 },
		{ .code = BPF_ALU64 | BPF_MUL | BPF_K, .dst_reg = BPF_REG_3, .imm = SWAP_COUNT },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_3, .imm = index },
		{ .code = BPF_LD | BPF_DW | BPF_IMM,
		  .dst_reg = BPF_REG_2,
		  .src_reg = BPF_PSEUDO_MAP_FD,
		  .imm = swap->jump_fd },
		{ .code = 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_tail_call },
		/* Without the array pods and the tunnel are cut off, the node is not. */
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K,
		  .dst_reg = BPF_REG_0,
		  .imm = index == SWAP_FROM_UPLINK || index == SWAP_TO_UPLINK ? TC_ACT_UNSPEC
									      : TC_ACT_SHOT },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	/* NOLINTEND(misc-redundant-expression) */
	struct program *jump = &swap->jumps[index];

	snprintf(jump->name, sizeof(jump->name), "%s", swap_names[index]);
	jump->fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, swap_names[index], "GPL", code,
				 ARRAY_SIZE(code), NULL);
	return jump->fd < 0 ? fail(err, -errno, "load a jump to %s", swap_names[index]) : 0;
}

static int jump_set(const struct swap *swap, uint32_t side, int index, int prog_fd,
		    struct errmsg *err)
{
	uint32_t key = side * SWAP_COUNT + (uint32_t)index;

	return bpf_map_update_elem(swap->jump_fd, &key, &prog_fd, BPF_ANY)
		       ? fail(err, -errno, "jump to %s", swap_names[index])
		       : 0;
}

struct target_search {
	int index;
	uint32_t id;
};

static int target_match(const struct device_program *found, void *arg)
{
	struct target_search *search = arg;

	if ((int)found->program == search->index)
		search->id = found->id;
	return search->id != 0;
}

/* Id of the program that packets meet now: an earlier process' jump leads to it, or a device has
 * it.  0: none. */
static uint32_t target_find(const struct swap *swap, int index)
{
	struct datapath *datapath = swap->datapath;
	const int host = (int)if_nametoindex(HOST_DEVICE);
	uint32_t key = swap->side * SWAP_COUNT + (uint32_t)index, id = 0;

	if (!bpf_map_lookup_elem(swap->jump_fd, &key, &id) && id)
		return id;
	if (index >= SWAP_FROM_UPLINK) {
		struct target_search search = { .index = index };

		device_programs_foreach(datapath, target_match, &search);
		return search.id;
	}
	for (uint32_t slot = 1; !id && slot < datapath->capacity[MAP_ENDPOINT]; slot++) {
		if (slot_is_used(datapath, slot))
			id = filter_program(slot_ifindex(datapath, slot),
					    program_point(swap_names[index]), PRIORITY_FIRST);
	}
	return !id && host && index == SWAP_TO_POD ? host_program(datapath, host) : id;
}

/* -ENOENT: nobody has such a program. */
static int target_open(struct swap *swap, int index, struct errmsg *err)
{
	uint32_t id = target_find(swap, index);
	struct program *target = &swap->targets[index];

	if (!id)
		return -ENOENT;
	snprintf(target->name, sizeof(target->name), "%s", swap_names[index]);
	target->fd = bpf_prog_get_fd_by_id(id);
	if (target->fd < 0)
		return fail(err, -errno, "the old %s", swap_names[index]);
	return jump_set(swap, swap->side, index, target->fd, err);
}

/* The pinned map of an earlier process, or a new one. */
static int jump_map_open(const struct swap *swap, const char *name, enum bpf_map_type type,
			 uint32_t entries, int *ret_fd, struct errmsg *err)
{
	char path[PIN_PATH_MAX];

	*ret_fd = bpf_obj_get(jump_path(swap->datapath, name, path));
	if (*ret_fd >= 0)
		return 0;
	*ret_fd = bpf_map_create(type, "jumps", sizeof(uint32_t), sizeof(uint32_t), entries, NULL);
	return *ret_fd < 0 || bpf_obj_pin(*ret_fd, path) ? fail(err, -errno, "make %s", path) : 0;
}

static int swap_prepare(struct swap *swap, struct errmsg *err)
{
	const uint32_t zero = 0;
	bool found = false;
	int ret;

	ret = jump_map_open(swap, SIDE, BPF_MAP_TYPE_ARRAY, 1, &swap->side_fd, err);
	if (!ret)
		ret = jump_map_open(swap, JUMPS, BPF_MAP_TYPE_PROG_ARRAY, 2 * SWAP_COUNT,
				    &swap->jump_fd, err);
	if (!ret && bpf_map_lookup_elem(swap->side_fd, &zero, &swap->side))
		ret = fail(err, -errno, "read " SIDE);
	for (int i = 0; !ret && i < SWAP_COUNT; i++) {
		ret = target_open(swap, i, err);
		if (!ret) {
			found = true;
			ret = jump_load(swap, i, err);
		} else if (ret == -ENOENT) {
			ret = 0;
		}
	}
	return ret || found ? ret : -ENOENT;
}

/* ---- devices --------------------------------------------------------------------------------- */

static int slot_begin(const struct swap *swap, uint32_t slot, struct errmsg *err)
{
	const int ifindex = slot_ifindex(swap->datapath, slot);
	int ret = 0;

	for (int i = SWAP_FROM_POD; !ret && i <= SWAP_TO_POD; i++)
		ret = filter_attach(ifindex, program_point(swap_names[i]), PRIORITY_FALLBACK,
				    &swap->targets[i], err);
	if (!ret)
		ret = endpoint_attach(swap->datapath, ifindex, &swap->jumps[SWAP_FROM_POD],
				      &swap->jumps[SWAP_TO_POD], err);
	return ret == -ENODEV ? 0 : ret; /* the device is gone */
}

struct device_begin {
	const struct swap *swap;
	struct errmsg *err;
};

static int device_begin(const struct device_program *found, void *arg)
{
	const struct device_begin *begin = arg;
	const struct swap *swap = begin->swap;
	const enum swap_program i = found->program;
	int ret;

	ret = device_program_replace(found, &swap->jumps[i], begin->err);
	if (!ret) /* a device may not have one program twice */
		ret = device_program_follow(swap->datapath, found, &swap->targets[i], begin->err);
	return ret == -ENODEV ? 0 : ret;
}

int swap_begin(struct datapath *datapath, struct swap *ret_swap, struct errmsg *err)
{
	struct swap *swap = ret_swap;
	const int host = (int)if_nametoindex(HOST_DEVICE);
	int ret;

	*swap = (struct swap){ .datapath = datapath, .jump_fd = -1, .side_fd = -1 };
	for (int i = 0; i < SWAP_COUNT; i++)
		swap->jumps[i].fd = swap->targets[i].fd = -1;
	ret = swap_prepare(swap, err);
	for (uint32_t slot = 1; !ret && slot < datapath->capacity[MAP_ENDPOINT]; slot++) {
		if (slot_is_used(datapath, slot))
			ret = slot_begin(swap, slot, err);
	}
	if (!ret && host && host_program(datapath, host)) {
		ret = filter_attach(host, BPF_TC_EGRESS, PRIORITY_FALLBACK,
				    &swap->targets[SWAP_TO_POD], err);
		if (!ret)
			ret = host_replace(datapath, &swap->jumps[SWAP_TO_POD], err);
	}
	if (!ret)
		ret = device_programs_foreach(datapath, device_begin,
					      &(struct device_begin){ swap, err });
	return ret;
}

int swap_flip(struct swap *swap, struct errmsg *err)
{
	const uint32_t zero = 0, other = !swap->side;
	int ret = 0;

	for (int i = 0; !ret && i < SWAP_COUNT; i++) {
		if (swap->targets[i].fd >= 0)
			ret = jump_set(swap, other, i,
				       datapath_program_fd(swap->datapath, swap_names[i]), err);
	}
	if (!ret && bpf_map_update_elem(swap->side_fd, &zero, &other, BPF_ANY))
		ret = fail(err, -errno, "write " SIDE);
	return ret;
}

static int device_finish(const struct device_program *found, void *arg)
{
	const struct program *program = program_find(arg, found->name);
	struct errmsg err = { 0 };

	if (program && device_program_replace(found, program, &err))
		log_warn("device %d keeps its old program: %s", found->ifindex, err.text);
	device_program_alone(arg, found);
	return 0;
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
		for (int i = SWAP_FROM_POD; i <= SWAP_TO_POD; i++)
			filter_remove(ifindex, program_point(swap_names[i]), PRIORITY_FALLBACK);
	}
	if (host_replace(datapath, program_find(datapath, "to_pod"), &err))
		log_warn("%s", err.text);
	if (host)
		filter_remove(host, BPF_TC_EGRESS, PRIORITY_FALLBACK);
	device_programs_foreach(datapath, device_finish, datapath);
	unlink(jump_path(datapath, JUMPS, path));
	unlink(jump_path(datapath, SIDE, path));
}

void swap_release(struct swap *swap)
{
	for (int i = 0; i < SWAP_COUNT; i++) {
		if (swap->jumps[i].fd >= 0)
			close(swap->jumps[i].fd);
		if (swap->targets[i].fd >= 0)
			close(swap->targets[i].fd);
	}
	if (swap->jump_fd >= 0)
		close(swap->jump_fd);
	if (swap->side_fd >= 0)
		close(swap->side_fd);
}
