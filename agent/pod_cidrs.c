/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "main"
#include "agent/pod_cidrs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/file.h"
#include "lib/log.h"

#define FILE_MAX 4096

static char *path_write(const struct config *config, char *buf, size_t size)
{
	snprintf(buf, size, "%s/pod-cidrs", config->run_dir);
	return buf;
}

int pod_cidrs_recall(struct config *config, struct errmsg *err)
{
	char path[sizeof(config->run_dir) + 16];
	auto_free char *text = NULL;
	char *line, *rest;
	size_t len;
	int ret = file_read_checked(path_write(config, path, sizeof(path)), FILE_MAX, &text, &len,
				    NULL, err);

	if (ret == -ENOENT)
		return 0;
	if (ret)
		return ret;
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		struct prefix *cidr = &config->pod_cidrs[config->pod_cidr_count];

		if (!*line)
			continue;
		if (config->pod_cidr_count == ARRAY_SIZE(config->pod_cidrs) ||
		    prefix_parse(line, cidr) < 0)
			return fail_plain(err, -EBADMSG, "%s: \"%s\" is no pod CIDR", path, line);
		config->pod_cidr_count++;
	}
	return 0;
}

static int remember(const struct config *config, const struct node_object *node, struct errmsg *err)
{
	char path[sizeof(config->run_dir) + 16], text[ADDR_TEXT_MAX];
	auto_buffer struct buffer lines = { 0 };

	for (size_t i = 0; i < node->pod_cidr_count; i++)
		buffer_print(&lines, "%s\n", prefix_format(&node->pod_cidrs[i], text));
	return file_write_checked(path_write(config, path, sizeof(path)), lines.data, lines.len,
				  0600, FILE_FAST, err);
}

static bool is_same(const struct config *config, const struct node_object *node)
{
	bool same = config->pod_cidr_count == node->pod_cidr_count;

	for (size_t i = 0; same && i < node->pod_cidr_count; i++)
		same = prefix_equal(&config->pod_cidrs[i], &node->pod_cidrs[i]);
	return same;
}

int pod_cidrs_learn(struct config *config, const struct object *node, struct errmsg *err)
{
	const struct node_object *found = &node->node;

	_Static_assert(NODE_POD_CIDRS_MAX <= ARRAY_SIZE(((struct config *)NULL)->pod_cidrs),
		       "there is room for all of a Node object");
	if (!found->pod_cidr_count || is_same(config, found))
		return 0;
	if (remember(config, found, err) < 0)
		return err->code;
	if (config->pod_cidr_count) {
		log_warn("Node %s has other pod CIDRs now; they are used from the next start on",
			 node->name);
		return 0;
	}
	memcpy(config->pod_cidrs, found->pod_cidrs,
	       found->pod_cidr_count * sizeof(*found->pod_cidrs));
	config->pod_cidr_count = found->pod_cidr_count;
	return 1;
}
