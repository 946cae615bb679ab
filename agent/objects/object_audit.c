/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "objects"
#include "agent/objects/object_audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/log.h"
#include "lib/task.h"

#define AT_ONCE_MAX 256 /* lines of one change */

static const char *author_text(const struct object_author *author, char *buf, size_t size)
{
	size_t len = 0;

	if (author->uid == AUTHOR_UNKNOWN)
		len = (size_t)snprintf(buf, size, "uid unknown");
	else
		len = (size_t)snprintf(buf, size, "uid %u", author->uid);
	if (author->pid)
		snprintf(buf + len, size - len, " pid %d", author->pid);
	return buf;
}

static const struct object *step_object(const struct object_step *step)
{
	return step->put ? step->put : step->old;
}

static int by_name(const void *a_mem, const void *b_mem)
{
	const struct object_step *a_step = *(const struct object_step *const *)a_mem;
	const struct object_step *b_step = *(const struct object_step *const *)b_mem;
	const struct object *a = step_object(a_step), *b = step_object(b_step);
	int ret = (int)a->kind - (int)b->kind;

	if (!ret)
		ret = strcmp(a->namespace, b->namespace);
	if (!ret)
		ret = strcmp(a->name, b->name);
	return ret ? ret : !!a_step->put - !!b_step->put; /* what was taken out comes first */
}

static bool same_name(const struct object *a, const struct object *b)
{
	return a->kind == b->kind && strcmp(a->namespace, b->namespace) == 0 &&
	       strcmp(a->name, b->name) == 0;
}

/* old: what the step replaces, or NULL.  later: where the line goes; NULL: to the log. */
static void step_log(const struct object_step *step, const struct object_step *old, FILE *later)
{
	const struct object *object = step_object(step);
	char label[600], author[40], before[20] = "none", after[30] = "", line[1000];

	if (!step->put)
		old = step;
	if (old)
		snprintf(before, sizeof(before), "%016" PRIx64, old->hash);
	if (step->put)
		snprintf(after, sizeof(after), ", after %016" PRIx64, step->hash);
	snprintf(line, sizeof(line), "audit: %s %s of %s, by %s, before %s%s",
		 step->put ? "applied" : "deleted", object_label(object, label, sizeof(label)),
		 object_source_of(object)->name, author_text(step->author, author, sizeof(author)),
		 before, after);
	if (later)
		fwrite(line, strlen(line) + 1, 1, later);
	else
		log_info("%s", line);
}

/* Two steps of one object, one after the other, are one line. */
static void steps_log(const struct object_step *const *steps, size_t count, FILE *later)
{
	for (size_t i = 0; i < count; i++) {
		const struct object_step *old = NULL;

		if (!steps[i]->put && i + 1 < count && steps[i + 1]->put &&
		    same_name(step_object(steps[i]), step_object(steps[i + 1])))
			old = steps[i++];
		step_log(steps[i], old, later);
	}
}

void object_audit(const struct object_change *change, char **later)
{
	auto_free const struct object_step **steps = NULL;
	char *lines = NULL;
	FILE *out = NULL;
	size_t len = 0;

	if (!change->count || !change->author)
		return;
	steps = xreallocarray(NULL, change->count, sizeof(*steps));
	for (size_t i = 0; i < change->count; i++)
		steps[i] = &change->steps[i];
	qsort(steps, change->count, sizeof(*steps), by_name);
	if (change->count > AT_ONCE_MAX) {
		out = open_memstream(&lines, &len);
		if (!out)
			out_of_memory(0);
		for (const char *line = *later; line && *line; line += strlen(line) + 1)
			fwrite(line, strlen(line) + 1, 1, out);
	}
	steps_log(steps, change->count, out);
	if (!out)
		return;
	if (fclose(out))
		out_of_memory(len);
	free(*later);
	*later = lines;
}

static void lines_write(void *arg)
{
	auto_free char *lines = arg;

	for (const char *line = lines; *line; line += strlen(line) + 1) {
		log_info("%s", line);
		task_pause_now();
	}
}

void object_audit_write(struct event_base *base, char *lines)
{
	if (lines)
		task_run(base, lines_write, lines);
}
