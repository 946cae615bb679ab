/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uplink_xdp on uplinks, by links.  What an uplink has at tc (devices.c) works without it.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "datapath/datapath.h"
#include "datapath/state.h"
#include "lib/auto.h"

#define XDP_PROGRAM "uplink_xdp"

/* A link keeps its mode, so each mode has a pin of its own. */
static const struct {
	const char *name;
	uint32_t flags;
	uint32_t program_flags;
} modes[] = {
	[XDP_NATIVE] = { "native", XDP_FLAGS_DRV_MODE, BPF_F_XDP_HAS_FRAGS },
	[XDP_GENERIC] = { "generic", XDP_FLAGS_SKB_MODE, 0 },
};

static const char *xdp_pin(int ifindex, enum xdp_mode mode, char buf[32])
{
	snprintf(buf, 32, UPLINK_PIN "%d-%s", ifindex, modes[mode].name);
	return buf;
}

/* The device's link of this mode; -1: it has none. */
static int xdp_link(const struct datapath *datapath, int ifindex, enum xdp_mode mode)
{
	char path[PIN_PATH_MAX], pin[32];
	auto_close int fd =
		bpf_obj_get(link_path(datapath->pin_dir, xdp_pin(ifindex, mode, pin), path));

	return fd >= 0 && link_ifindex(fd) == (uint32_t)ifindex ? take_fd(&fd) : -1;
}

void datapath_keep_xdp(struct datapath *datapath, int ifindex, enum xdp_mode mode)
{
	char path[PIN_PATH_MAX], pin[32];

	for (size_t i = XDP_NATIVE; i < ARRAY_SIZE(modes); i++) {
		link_path(datapath->pin_dir, xdp_pin(ifindex, (enum xdp_mode)i, pin), path);
		if (i != mode && !access(path, F_OK))
			link_remove(path);
	}
}

int datapath_attach_xdp(struct datapath *datapath, int ifindex, enum xdp_mode mode,
			struct errmsg *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = modes[mode].flags);
	const struct program *program = program_find(datapath, XDP_PROGRAM);
	auto_close int fd = -1;
	char pin[32];

	if (!program)
		return fail_plain(err, -ENOENT, XDP_PROGRAM " is not loaded");
	datapath_keep_xdp(datapath, ifindex, mode); /* one device, one mode */
	fd = xdp_link(datapath, ifindex, mode);
	if (fd >= 0 && !bpf_link_update(fd, program->fd, NULL))
		return 0;
	if (fd >= 0)
		close(take_fd(&fd));
	fd = bpf_link_create(program->fd, ifindex, BPF_XDP, &opts);
	if (fd < 0)
		return fail(err, -errno, "attach " XDP_PROGRAM " in %s mode", modes[mode].name);
	return link_pin(datapath, fd, xdp_pin(ifindex, mode, pin), false, err);
}

bool datapath_xdp_attached(struct datapath *datapath, int ifindex, enum xdp_mode mode)
{
	auto_close int fd = mode == XDP_OFF ? -1 : xdp_link(datapath, ifindex, mode);

	return fd >= 0;
}

/* ---- during a takeover ----------------------------------------------------------------------- */

static int pass_load(enum xdp_mode mode)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_XDP,
		    .prog_flags = modes[mode].program_flags);
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_XDP, "pass_to_tc", "GPL", code, ARRAY_SIZE(code), &opts);
}

/* A link whose program cannot be replaced goes. */
static int link_pause(const char *name, void *arg)
{
	const struct datapath *datapath = arg;
	char path[PIN_PATH_MAX];

	if (strncmp(name, UPLINK_PIN, strlen(UPLINK_PIN)) != 0)
		return 0;
	link_path(datapath->pin_dir, name, path);
	for (size_t i = XDP_NATIVE; i < ARRAY_SIZE(modes); i++) {
		auto_close int program = -1, fd = -1;

		if (strcmp(strrchr(name, '-') + 1, modes[i].name) != 0)
			continue;
		program = pass_load((enum xdp_mode)i);
		fd = bpf_obj_get(path);
		if (program < 0 || fd < 0 || bpf_link_update(fd, program, NULL))
			link_remove(path);
	}
	return 0;
}

void xdp_pause(struct datapath *datapath)
{
	char path[PIN_PATH_MAX];

	pins_foreach(link_path(datapath->pin_dir, "", path), link_pause, datapath);
}
