/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packet_freed: loaded at start, to know whether this kernel takes it; attached only while somebody
 * watches.  Names of reasons are the kernel's own, read from its BTF when they are first needed.
 */
#include <bpf/btf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "datapath/datapath.h"
#include "datapath/state.h"
#include "lib/alloc.h"
#include "lib/auto.h"

#define FREED_PROGRAM "packet_freed"
#define REASON_PREFIX "SKB_DROP_REASON_"
#define REASONS_MAX   1024 /* the kernel's own; subsystems number theirs from 65,536 on */

static void name_keep(struct datapath *datapath, const struct btf *btf,
		      const struct btf_enum *value)
{
	const char *name = btf__name_by_offset(btf, value->name_off);
	size_t prefix = strlen(REASON_PREFIX);

	if (!name || value->val < 0 || value->val >= REASONS_MAX)
		return;
	if (strncmp(name, REASON_PREFIX, prefix) == 0)
		name += prefix;
	free(datapath->freed_names[value->val]);
	datapath->freed_names[value->val] = xstrdup(name);
}

static void names_read(struct datapath *datapath)
{
	struct btf *btf = btf__load_vmlinux_btf();
	const struct btf_type *type;
	int id = btf ? btf__find_by_name_kind(btf, "skb_drop_reason", BTF_KIND_ENUM) : -ENOENT;

	datapath->freed_names = xcalloc(REASONS_MAX, sizeof(*datapath->freed_names));
	type = id > 0 ? btf__type_by_id(btf, (uint32_t)id) : NULL;
	for (int i = 0; type && i < btf_vlen(type); i++)
		name_keep(datapath, btf, &btf_enum(type)[i]);
	btf__free(btf);
}

const char *freed_reason(const struct datapath *datapath, uint32_t reason)
{
	return datapath->freed_names && reason < REASONS_MAX ? datapath->freed_names[reason] : NULL;
}

int freed_watch(struct datapath *datapath, bool watch, struct errmsg *err)
{
	const struct program *program = program_find(datapath, FREED_PROGRAM);

	if (watch == (datapath->freed_link_fd >= 0))
		return 0;
	if (!watch) {
		close(take_fd(&datapath->freed_link_fd));
		return 0;
	}
	if (!program)
		return fail_plain(err, -ENOTSUP, "%s is not loaded", FREED_PROGRAM);
	if (!datapath->freed_names)
		names_read(datapath);
	datapath->freed_link_fd = bpf_raw_tracepoint_open(NULL, program->fd);
	return datapath->freed_link_fd < 0 ? fail(err, -errno, "attach %s", FREED_PROGRAM) : 0;
}

void freed_done(struct datapath *datapath)
{
	if (datapath->freed_link_fd >= 0)
		close(datapath->freed_link_fd);
	for (size_t i = 0; datapath->freed_names && i < REASONS_MAX; i++)
		free(datapath->freed_names[i]);
	free(datapath->freed_names);
}
