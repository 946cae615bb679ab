/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies what a map holds into one of another layout or size, and later what has been added to it
 * in the meantime.  Which maps, and when, is takeover.c's business.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#include "datapath/state.h"
#include "lib/auto.h"

bool type_has_entries(enum bpf_map_type type)
{
	return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH ||
	       type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
	       type == BPF_MAP_TYPE_LPM_TRIE;
}

bool rule_converts(const struct datapath *datapath, const struct map_rule *rule)
{
	return rule->convert && datapath->pinned_abi < rule->since;
}

struct side {
	int fd;
	struct bpf_map_info info;
	uint32_t stride; /* from the value of one CPU to that of the next */
};

struct copy {
	const struct datapath *datapath;
	const struct map_rule *rule;
	struct side from, to;
	unsigned int cpus; /* values of an element */
	bool again;        /* step 4 */
	char key[MAP_KEY_MAX];
	char *value; /* room for an element of the new layout */
	char *now;
};

static int side_read(struct side *side)
{
	uint32_t len = sizeof(side->info);

	if (bpf_obj_get_info_by_fd(side->fd, &side->info, &len))
		return -errno;
	side->stride = side->info.value_size;
	if (side->info.type == BPF_MAP_TYPE_PERCPU_ARRAY)
		side->stride = roundup(side->stride, 8);
	return 0;
}

static bool is_array(const struct side *side)
{
	return side->info.type == BPF_MAP_TYPE_ARRAY ||
	       side->info.type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static bool is_zero(const char *mem, size_t len)
{
	return !len || (!mem[0] && !memcmp(mem, mem + 1, len - 1));
}

/* Fills key and value as the new layout has them. */
static void entry_convert(struct copy *copy, const char *key, const char *value)
{
	const struct side *from = &copy->from, *to = &copy->to;

	memcpy(copy->key, key, MIN(from->info.key_size, to->info.key_size));
	memset(copy->value, 0, (size_t)to->stride * copy->cpus);
	for (unsigned int cpu = 0; cpu < copy->cpus; cpu++) {
		const char *old = value + (size_t)cpu * from->stride;
		char *fresh = copy->value + (size_t)cpu * to->stride;

		if (rule_converts(copy->datapath, copy->rule))
			copy->rule->convert(key, old, copy->key, fresh);
		else
			memcpy(fresh, old, MIN(from->info.value_size, to->info.value_size));
	}
}

/* Step 4 for one entry.  What has no room, and what goes away meanwhile, is as lost as it would be
 * at any other time. */
static void entry_bring(struct copy *copy)
{
	if (bpf_map_lookup_elem(copy->to.fd, copy->key, copy->now))
		bpf_map_update_elem(copy->to.fd, copy->key, copy->value, BPF_NOEXIST);
	else if (copy->rule->merge && copy->rule->merge(copy->now, copy->value))
		bpf_map_update_elem(copy->to.fd, copy->key, copy->now, BPF_EXIST);
}

static int entry_copy(const void *key, const void *value, void *arg)
{
	struct copy *copy = arg;

	if (is_array(&copy->from) && is_zero(value, (size_t)copy->from.stride * copy->cpus))
		return 0; /* as it is in a new array */
	if (copy->rule->hints && *(const uint32_t *)key >= copy->to.info.max_entries)
		return 0;
	entry_convert(copy, key, value);
	if (copy->again)
		entry_bring(copy);
	else if (bpf_map_update_elem(copy->to.fd, copy->key, copy->value, BPF_ANY))
		return -errno;
	return 0;
}

int map_copy(const struct datapath *datapath, const char *name, int from, int to, bool again)
{
	struct copy copy = { .datapath = datapath,
			     .rule = map_rule_find(name),
			     .from = { .fd = from },
			     .to = { .fd = to },
			     .cpus = 1,
			     .again = again };
	auto_free char *buf = NULL;
	int ret = side_read(&copy.from);

	if (!ret)
		ret = side_read(&copy.to);
	if (ret || !type_has_entries(copy.from.info.type) || !type_has_entries(copy.to.info.type))
		return ret; /* events, sockets: these begin anew */
	if (again && is_array(&copy.to) && !copy.rule->merge)
		return 0; /* counters: what was counted in these milliseconds is lost */
	if (copy.from.info.type == BPF_MAP_TYPE_PERCPU_ARRAY)
		copy.cpus = (unsigned int)libbpf_num_possible_cpus();
	buf = calloc(2UL * copy.cpus, copy.to.stride);
	if (!buf)
		return -ENOMEM;
	copy.value = buf;
	copy.now = buf + (size_t)copy.cpus * copy.to.stride;
	return map_walk(from,
			&(struct map_shape){ copy.from.info.key_size, copy.from.stride * copy.cpus,
					     copy.from.info.max_entries },
			entry_copy, &copy);
}
