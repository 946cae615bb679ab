/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps that only the agent writes change their size with a restart: what they hold is copied into
 * maps of the new size before a program works on those, and only when all of it is there do the
 * pins follow.  Nobody writes meanwhile, so nothing is lost; the programs that are still attached
 * work on the old maps until they are replaced.
 *
 * The others cannot: connections come and go while one copies, and slots are interfaces.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "datapath/state.h"
#include "lib/auto.h"

#define LOG_MODULE "datapath"
#include "lib/log.h"

bool map_can_resize(const char *name)
{
	static const char *const names[] = { "ipcache_map", "cidr_map",    "policy_map",
					     "port_map",    "service_map", "backend_map" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(name, names[i]))
			return true;
	}
	return false;
}

static int map_copy(int from, int to, size_t key_size, size_t value_size)
{
	auto_free char *key = malloc(key_size), *next = malloc(key_size);
	auto_free char *value = malloc(value_size);
	bool first = true;

	if (!key || !next || !value)
		return -ENOMEM;
	while (!bpf_map_get_next_key(from, first ? NULL : key, next)) {
		if (bpf_map_lookup_elem(from, next, value) ||
		    bpf_map_update_elem(to, next, value, BPF_ANY))
			return -errno;
		memcpy(key, next, key_size);
		first = false;
	}
	return errno == ENOENT ? 0 : -errno;
}

static uint32_t map_id(int fd)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) ? 0 : info.id;
}

/* The pinned map of this name if the object has made another one in its place, or -1. */
static int map_predecessor(const struct datapath *datapath, const struct bpf_map *map)
{
	char path[PIN_PATH_MAX];
	auto_close int fd = -1;

	if (!map_can_resize(bpf_map__name(map)))
		return -1;
	snprintf(path, sizeof(path), "%s/maps/%s", datapath->pin_dir, bpf_map__name(map));
	fd = bpf_obj_get(path);
	if (fd < 0 || map_id(fd) == map_id(bpf_map__fd(map)))
		return -1;
	return take_fd(&fd);
}

static int map_pin_instead(const struct datapath *datapath, const struct bpf_map *map,
			   struct errmsg *err)
{
	char path[PIN_PATH_MAX], fresh[PIN_PATH_MAX];

	snprintf(path, sizeof(path), "%s/maps/%s", datapath->pin_dir, bpf_map__name(map));
	snprintf(fresh, sizeof(fresh), "%s/maps/new", datapath->pin_dir);
	unlink(fresh); /* left by a process that died between the next two steps */
	if (bpf_obj_pin(bpf_map__fd(map), fresh) || rename(fresh, path))
		return fail(err, -errno, "pin %s", path);
	log_info("%s: room for %u entries now", bpf_map__name(map), bpf_map__max_entries(map));
	return 0;
}

int maps_resize_finish(const struct datapath *datapath, struct bpf_object *object,
		       struct errmsg *err)
{
	struct bpf_map *map;

	bpf_object__for_each_map (map, object) {
		auto_close int fd = map_predecessor(datapath, map);
		int ret = fd < 0 ? 0
				 : map_copy(fd, bpf_map__fd(map), bpf_map__key_size(map),
					    bpf_map__value_size(map));

		if (ret == -E2BIG || ret == -ENOSPC)
			return fail_plain(err, -ENOSPC,
					  "%s/maps/%s holds more than the %u entries now wanted",
					  datapath->pin_dir, bpf_map__name(map),
					  bpf_map__max_entries(map));
		if (ret)
			return fail(err, ret, "copy %s", bpf_map__name(map));
	}
	bpf_object__for_each_map (map, object) {
		auto_close int fd = map_predecessor(datapath, map);
		int ret = fd < 0 ? 0 : map_pin_instead(datapath, map, err);

		if (ret)
			return ret;
	}
	return 0;
}
