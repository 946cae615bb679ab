/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/reader.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/shared.h"
#include "lib/text.h"
#include "policy/objects/name.h"

/* ---- problems ---- */

/* The value at the path, or the nearest around it that is written. */
static void problem_position(const struct object_reader *reader, const struct json_node *at,
			     bool of_key, struct problem *problem)
{
	const struct json_node *node = at;

	while (node && !node->written)
		node = node->parent;
	if (node && reader->documents)
		documents_position(reader->documents, node->written,
				   of_key && node == at && at->key, &problem->line,
				   &problem->column);
}

/* Takes the problem over. */
static void problem_add(struct object_reader *reader, struct problem *problem)
{
	struct problems *problems = reader->problems;

	problems->items =
		xreallocarray(problems->items, problems->count + 1, sizeof(*problems->items));
	problems->items[problems->count++] = *problem;
	problems->errors += !problem->warning;
}

static void __attribute__((format(printf, 4, 0)))
problem_take(struct reader *base, const struct json_node *at, enum problem_kind kind,
	     const char *fmt, va_list args)
{
	struct object_reader *reader = object_reader_of(base);
	bool warning = kind == PROBLEM_WARNING || kind == PROBLEM_WARNING_AT_KEY;
	struct problem problem = { .warning = warning };
	char path[1024];

	if (reader->problems->count >= PROBLEMS_MAX) {
		reader->problems->errors += !warning;
		return;
	}
	if (vasprintf(&problem.message, fmt, args) < 0)
		out_of_memory(0);
	problem.object = xstrdup(reader->object);
	problem.path = xstrdup(json_path_write(at, path, sizeof(path)));
	problem_position(reader, at, kind >= PROBLEM_AT_KEY, &problem);
	problem_add(reader, &problem);
}

void object_reader_init(struct object_reader *reader, struct problems *problems, unsigned int flags,
			struct documents *documents)
{
	*reader = (struct object_reader){
		.reader = { .yaml = true, .problem = problem_take },
		.problems = problems,
		.flags = flags,
		.documents = documents,
	};
}

void reader_text_error(struct object_reader *reader, const struct text_error *error)
{
	struct problem problem = {
		.object = xstrdup(""),
		.path = xstrdup(""),
		.message = xstrdup(error->text),
		.line = error->line,
		.column = error->column,
	};

	problem_add(reader, &problem);
}

void problem_done(struct problem *problem)
{
	free(problem->object);
	free(problem->path);
	free(problem->message);
}

void problems_done(struct problems *problems)
{
	for (size_t i = 0; i < problems->count; i++)
		problem_done(&problems->items[i]);
	for (size_t i = 0; problems->skipped_names && i < problems->skipped; i++)
		free(problems->skipped_names[i]);
	free(problems->skipped_names);
	free(problems->items);
	*problems = (struct problems){ 0 };
}

/* Its beginning and its end, where a text is so long that nothing else would be seen. */
static const char *text_shorten(const char *text, char *buf, size_t size)
{
	size_t len = strlen(text), part = (size - sizeof("...")) / 2;

	if (len < size)
		return text;
	snprintf(buf, size, "%.*s...%s", (int)part, text, text + len - part);
	return buf;
}

const char *problem_format(const struct problem *problem, const char *file, char *buf, size_t size)
{
	char object[200], path[200], message[400], place[64] = "";

	if (problem->line)
		snprintf(place, sizeof(place), "%zu:%zu: ", problem->line, problem->column);
	else if (file)
		snprintf(place, sizeof(place), " ");
	snprintf(buf, size, "%s%s%s%s%s%s%s%s%s", file ? file : "", file ? ":" : "", place,
		 problem->warning ? "warning: " : "",
		 text_shorten(problem->object, object, sizeof(object)),
		 *problem->object ? ": " : "", text_shorten(problem->path, path, sizeof(path)),
		 *problem->path ? ": " : "",
		 text_shorten(problem->message, message, sizeof(message)));
	text_make_shown(buf);
	return buf;
}

/* ---- fields ---- */

uint16_t read_port(struct reader *reader, const struct json_node *at)
{
	double value = at->value ? at->value->valuedouble : 0;

	if (!cJSON_IsNumber(at->value) ||
	    (value >= 1 && value <= UINT16_MAX && value == (double)(int64_t)value))
		return (uint16_t)read_integer(reader, at, 1, UINT16_MAX, 0);
	reader_error(reader, at, "%.15g is not a port (1 to 65535)", value);
	return 0;
}

uint16_t read_optional_port(struct reader *reader, const struct json_node *at)
{
	if (cJSON_IsNumber(at->value) && at->value->valuedouble == 0)
		return 0;
	return read_port(reader, at);
}

uint8_t read_proto(struct reader *reader, const struct json_node *at)
{
	static const struct {
		const char *name;
		uint8_t proto;
	} protocols[] = { { "TCP", IPPROTO_TCP },
			  { "UDP", IPPROTO_UDP },
			  { "SCTP", IPPROTO_SCTP } };
	const char *text = read_string(reader, at);

	if (!text)
		return IPPROTO_TCP;
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		if (strcmp(text, protocols[i].name) == 0)
			return protocols[i].proto;
	}
	reader_error(reader, at, "\"%s\" is not a protocol (TCP, UDP or SCTP)", text);
	return IPPROTO_TCP;
}

bool read_addr(struct reader *reader, const struct json_node *at, struct addr *ret_addr)
{
	const char *text = read_string(reader, at);

	if (!text || !*text)
		return false;
	if (addr_parse(text, ret_addr) == 0)
		return true;
	reader_error(reader, at, "\"%s\" is not an IP address", text);
	return false;
}

/* The known name that was probably meant: the same but for case, or for one letter. */
static const char *name_meant(const char *name, const char *const *names, size_t count)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < count; i++) {
		size_t known = strlen(names[i]);
		size_t head = 0;
		size_t tail = 0;
		size_t shorter = len < known ? len : known;
		size_t longer = len < known ? known : len;

		if (strcasecmp(name, names[i]) == 0)
			return names[i];
		while (head < shorter && name[head] == names[i][head])
			head++;
		while (tail < shorter - head && name[len - 1 - tail] == names[i][known - 1 - tail])
			tail++;
		if (longer - head - tail <= 1 ||
		    (len == known && len - head - tail == 2 && len > 3))
			return names[i];
	}
	return NULL;
}

static bool name_in(const char *name, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

/* Where a field belongs that is often written in the wrong place; NULL: nothing is known. */
static const char *field_hint(const char *name, const char *const *names, size_t count)
{
	static const struct {
		const char *beside; /* a field that is known in this place */
		const char *name;   /* NULL: any */
		const char *hint;
	} hints[] = {
		{ "from", "to", "who may connect to the pods stands under \"from\"" },
		{ "to", "from", "whom the pods may connect to stands under \"to\"" },
		{ "from", "podSelector", "it belongs into an item of \"from\"" },
		{ "from", "namespaceSelector", "it belongs into an item of \"from\"" },
		{ "from", "ipBlock", "it belongs into an item of \"from\"" },
		{ "to", "podSelector", "it belongs into an item of \"to\"" },
		{ "to", "namespaceSelector", "it belongs into an item of \"to\"" },
		{ "to", "ipBlock", "it belongs into an item of \"to\"" },
		{ "ports", "protocol", "it belongs into an item of \"ports\"" },
		{ "ports", "endPort", "it belongs into an item of \"ports\"" },
		{ "podSelector", "from", "it belongs into an item of \"ingress\"" },
		{ "podSelector", "to", "it belongs into an item of \"egress\"" },
		{ "podSelector", "ports", "it belongs into a rule of \"ingress\" or \"egress\"" },
		{ "matchLabels", NULL, "labels stand under \"matchLabels\"" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(hints); i++) {
		if (name_in(hints[i].beside, names, count) &&
		    (!hints[i].name || strcmp(hints[i].name, name) == 0))
			return hints[i].hint;
	}
	return NULL;
}

static void unknown_field(struct reader *reader, const struct json_node *at,
			  const char *const *names, size_t count)
{
	enum problem_kind kind = object_reader_of(reader)->flags & PARSE_LENIENT
					 ? PROBLEM_WARNING_AT_KEY
					 : PROBLEM_AT_KEY;
	const char *meant = name_meant(at->key, names, count);
	const char *hint = meant ? NULL : field_hint(at->key, names, count);

	if (meant)
		reader_problem(reader, at, kind, "unknown field (did you mean \"%s\"?)", meant);
	else if (hint)
		reader_problem(reader, at, kind, "unknown field (%s)", hint);
	else
		reader_problem(reader, at, kind, "unknown field");
}

void read_known_fields(struct reader *reader, const struct json_node *at, const char *const *names,
		       size_t count)
{
	const cJSON *member;

	cJSON_ArrayForEach (member, at->value) {
		struct json_node child = json_member_node(at, member);

		if (!name_in(member->string, names, count))
			unknown_field(reader, &child, names, count);
	}
}

/* ---- labels ---- */

void read_labels(struct reader *reader, const struct json_node *at, struct labels *labels)
{
	const cJSON *member;

	if (!read_is_object(reader, at))
		return;
	labels->items = xcalloc((size_t)cJSON_GetArraySize(at->value), sizeof(*labels->items));
	cJSON_ArrayForEach (member, at->value) {
		struct json_node child = json_member_node(at, member);
		const char *value = read_string(reader, &child);
		const char *wanted = name_check_label_key(member->string);
		struct label *label = &labels->items[labels->count];

		if (wanted)
			reader_problem(reader, &child, PROBLEM_AT_KEY,
				       "\"%s\" is not a label key: %s", member->string, wanted);
		if (!value)
			continue;
		wanted = name_check_label_value(value);
		if (wanted)
			reader_error(reader, &child, "\"%s\" is not a label value: %s", value,
				     wanted);
		label->key = shared_string(member->string);
		label->value = shared_string(value);
		labels->count++;
	}
	labels_sort(labels);
}

void labels_set(struct labels *labels, const char *key, const char *value)
{
	for (size_t i = 0; i < labels->count; i++) {
		if (strcmp(labels->items[i].key, key) == 0) {
			shared_release(labels->items[i].value);
			labels->items[i].value = shared_string(value);
			return;
		}
	}
	labels->items = xreallocarray(labels->items, labels->count + 1, sizeof(*labels->items));
	labels->items[labels->count].key = shared_string(key);
	labels->items[labels->count].value = shared_string(value);
	labels->count++;
	labels_sort(labels);
}
