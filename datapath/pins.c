/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pins that somebody removed while the agent runs.  What was pinned lives on in the programs, but
 * the next agent would not find it, and would begin with empty maps.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "datapath/state.h"
#include "lib/auto.h"

#define PROGRAM_MAPS_MAX 64

struct restore {
	const struct datapath *datapath;
	int restored;
	struct errmsg *err;
};

static int map_restore(struct restore *restore, int fd)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	char path[PIN_PATH_MAX];

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return fail(restore->err, -errno, "read a map");
	if (strchr(info.name, '.')) /* .rodata: never pinned */
		return 0;
	map_path(restore->datapath, info.name, path);
	if (!access(path, F_OK))
		return 0;
	if (bpf_obj_pin(fd, path))
		return fail(restore->err, -errno, "pin %s", path);
	restore->restored++;
	return 0;
}

static int program_restore(struct restore *restore, const struct program *program)
{
	uint32_t ids[PROGRAM_MAPS_MAX];
	struct bpf_prog_info info = { .nr_map_ids = ARRAY_SIZE(ids), .map_ids = (uintptr_t)ids };
	uint32_t len = sizeof(info);
	int ret = 0;

	if (bpf_obj_get_info_by_fd(program->fd, &info, &len))
		return fail(restore->err, -errno, "read program %s", program->name);
	for (uint32_t i = 0; !ret && i < info.nr_map_ids && i < ARRAY_SIZE(ids); i++) {
		auto_close int fd = bpf_map_get_fd_by_id(ids[i]);

		ret = fd < 0 ? fail(restore->err, -errno, "map %u", ids[i])
			     : map_restore(restore, fd);
	}
	return ret;
}

int datapath_restore_pins(struct datapath *datapath, struct errmsg *err)
{
	struct restore restore = { .datapath = datapath, .err = err };
	int ret = pin_folders_make(datapath, err);

	for (size_t i = 0; !ret && i < datapath->program_count; i++)
		ret = program_restore(&restore, &datapath->programs[i]);
	for (int i = 0; !ret && i < MAP_TOTAL; i++)
		ret = map_restore(&restore, datapath->map_fds[i]);
	if (!ret)
		ret = version_ensure(datapath->pin_dir, err);
	return ret ? ret : restore.restored;
}
