/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/position.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "lib/arena.h"

#define WALK_DEPTH_MAX 256

void position_next(struct text_mark *mark, const char *text, size_t offset, size_t *ret_line,
		   size_t *ret_column)
{
	for (; mark->offset < offset; mark->offset++) {
		if (text[mark->offset] == '\n') {
			mark->lines++;
			mark->line_start = mark->offset + 1;
		}
	}
	*ret_line = mark->lines + 1;
	*ret_column = offset - mark->line_start + 1;
}

void position_of_offset(const char *text, size_t offset, size_t *ret_line, size_t *ret_column)
{
	struct text_mark mark = { 0 };

	position_next(&mark, text, offset, ret_line, ret_column);
}

void path_key(struct buffer *path, const char *key)
{
	bool plain = *key != '\0';

	for (const char *c = key; *c; c++) {
		if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
			plain = false;
	}
	if (plain && path->len > 0)
		buffer_add(path, ".", 1);
	else if (!plain)
		buffer_add(path, "[", 1);
	buffer_add(path, key, strlen(key));
	if (!plain)
		buffer_add(path, "]", 1);
}

void path_index(struct buffer *path, size_t index)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "[%zu]", index);

	buffer_add(path, text, (size_t)len);
}

/* Locations whose paths begin alike: neighbours in their order. */
struct span {
	size_t first;
	size_t end;
};

/* A collection that is being walked. */
struct frame {
	struct span span; /* what lies in it */
	bool mapping;
	bool expects_key;
	size_t index;    /* of the next item of a sequence */
	size_t path_len; /* of the path of the collection itself */
	size_t key_line; /* of the key whose value comes next */
	size_t key_column;
};

struct walk {
	struct position **order; /* by document and path */
	size_t count;
	struct span span; /* of the node that begins; between documents, of the next one */
	size_t document;
	struct buffer path;
	struct frame frames[WALK_DEPTH_MAX];
	size_t depth;
};

static void walk_truncate(struct walk *walk, size_t len)
{
	if (walk->path.data) {
		walk->path.len = len;
		walk->path.data[len] = '\0';
	}
}

static int position_compare(const void *a, const void *b)
{
	const struct position *left = *(struct position *const *)a;
	const struct position *right = *(struct position *const *)b;

	if (left->document != right->document)
		return left->document < right->document ? -1 : 1;
	return strcmp(left->path, right->path);
}

/* The first of the span that is not before the text, or, if past, not even begins with it. */
static size_t span_bound(const struct walk *walk, struct span span, const char *text, size_t len,
			 bool past)
{
	while (span.first < span.end) {
		size_t middle = span.first + (span.end - span.first) / 2;

		if (strncmp(walk->order[middle]->path, text, len) < past)
			span.first = middle + 1;
		else
			span.end = middle;
	}
	return span.first;
}

/* Those of the span whose path begins with the walk's. */
static struct span span_narrow(const struct walk *walk, struct span span)
{
	const char *text = walk->path.len ? walk->path.data : "";

	return (struct span){ .first = span_bound(walk, span, text, walk->path.len, false),
			      .end = span_bound(walk, span, text, walk->path.len, true) };
}

/* Those of the walk's document; earlier ones are behind the span. */
static struct span span_of_document(const struct walk *walk)
{
	struct span span = { .first = walk->span.end };

	while (span.first < walk->count && walk->order[span.first]->document < walk->document)
		span.first++;
	span.end = span.first;
	while (span.end < walk->count && walk->order[span.end]->document == walk->document)
		span.end++;
	return span;
}

/* A node begins at mark: extends the path by its step and offers the position to the locations. */
static void walk_enter(struct walk *walk, const yaml_mark_t *mark)
{
	struct frame *frame = walk->depth ? &walk->frames[walk->depth - 1] : NULL;
	size_t len;

	if (frame && !frame->mapping)
		path_index(&walk->path, frame->index++);
	if (walk->path.failed)
		return;
	len = walk->path.len;
	walk->span = frame ? span_narrow(walk, frame->span) : span_of_document(walk);
	for (size_t i = walk->span.first; i < walk->span.end; i++) {
		struct position *position = walk->order[i];
		char next = position->path[len];

		if ((next != '\0' && next != '.' && next != '[' && len > 0) ||
		    (position->line &&
		     (position->matched > len || (position->matched == len && !position->last))))
			continue;
		position->matched = len;
		position->line = mark->line + 1;
		position->column = mark->column + 1;
		if (position->at_key && next == '\0' && frame && frame->mapping) {
			position->line = frame->key_line;
			position->column = frame->key_column;
		}
	}
}

/* The node that walk_enter() began is over. */
static void walk_leave(struct walk *walk)
{
	if (walk->depth == 0)
		return;
	walk_truncate(walk, walk->frames[walk->depth - 1].path_len);
	walk->frames[walk->depth - 1].expects_key = true;
}

static void walk_scalar(struct walk *walk, const yaml_event_t *event)
{
	struct frame *frame = walk->depth ? &walk->frames[walk->depth - 1] : NULL;

	if (frame && frame->mapping && frame->expects_key) {
		path_key(&walk->path, (const char *)event->data.scalar.value);
		frame->expects_key = false;
		frame->key_line = event->start_mark.line + 1;
		frame->key_column = event->start_mark.column + 1;
		return;
	}
	walk_enter(walk, &event->start_mark);
	walk_leave(walk);
}

/* Returns false when the walk cannot go on. */
static bool walk_event(struct walk *walk, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_DOCUMENT_END_EVENT:
		walk->document++;
		walk_truncate(walk, 0);
		break;
	case YAML_MAPPING_START_EVENT:
	case YAML_SEQUENCE_START_EVENT:
		if (walk->depth == WALK_DEPTH_MAX)
			return false;
		walk_enter(walk, &event->start_mark);
		walk->frames[walk->depth++] = (struct frame){
			.span = walk->span,
			.mapping = event->type == YAML_MAPPING_START_EVENT,
			.expects_key = true,
			.path_len = walk->path.len,
		};
		break;
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		walk->depth--;
		walk_leave(walk);
		break;
	case YAML_SCALAR_EVENT:
		walk_scalar(walk, event);
		break;
	case YAML_ALIAS_EVENT:
		walk_enter(walk, &event->start_mark);
		walk_leave(walk);
		break;
	case YAML_STREAM_END_EVENT:
		return false;
	default:
		break;
	}
	return !walk->path.failed;
}

void positions_find(const char *text, size_t len, struct position *positions, size_t count)
{
	auto_free struct position **order = calloc(count + 1, sizeof(struct position *));
	struct walk walk = { .order = order, .count = count };
	yaml_parser_t parser;
	bool more = order != NULL;

	if (!order || !yaml_parser_initialize(&parser))
		return;
	for (size_t i = 0; i < count; i++)
		order[i] = &positions[i];
	qsort(order, count, sizeof(struct position *), position_compare);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	while (more) {
		yaml_event_t event;

		if (!yaml_parser_parse(&parser, &event))
			break;
		more = walk_event(&walk, &event);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	buffer_done(&walk.path);
}
