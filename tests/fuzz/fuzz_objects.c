/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as objects, JSON or YAML: parsed, put into a store, compiled, explained, analysed. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/matrix_page.h"
#include "cli/matrix_svg.h"
#include "lib/auto.h"
#include "policy/analysis/diff.h"
#include "policy/analysis/explain.h"
#include "policy/analysis/lint.h"
#include "policy/compiler/verdict.h"
#include "policy/objects/parse.h"
#include "policy/objects/service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_problems(const struct problems *problems)
{
	char line[300];

	for (size_t i = 0; i < problems->count; i++) {
		problem_format(&problems->items[i], "input", line, sizeof(line));
		if (problems->items[i].line == 0 && problems->items[i].column != 0)
			abort();
	}
}

/* First packets between the addresses of all pods: the tables and the explanation agree. */
static void check_flow(const struct store *store, const struct compiled *compiled,
		       const struct object *from, const struct object *to)
{
	struct explain_end source = { .pod = from, .has_addr = true };
	struct explain_end destination = { .pod = to, .has_addr = true };
	struct explanation explanation;
	struct flow flow = { .proto = 6, .dport = 0x5000 };

	source.addr = flow.saddr = from->pod.addresses[0];
	destination.addr = flow.daddr = to->pod.addresses[0];
	if (store_owner(store, &source.addr) != from || store_owner(store, &destination.addr) != to)
		return;
	explanation = policy_explain(store, &source, &destination, 6, 80);
	if ((explanation.verdict == VERDICT_ALLOW) != (verdict_flow(compiled, &flow) == DROP_NONE))
		abort();
	explanation_done(&explanation);
}

static void check_store(const struct store *store)
{
	const struct service_settings settings = { .external_ips = true };
	struct service_node node;
	struct compiled *compiled;
	size_t budget = 64;

	service_node_init(&node, store, &settings);
	for (const struct object *service = store_first(store, OBJECT_SERVICE); service;
	     service = store_next(store, service)) {
		struct service_frontends frontends = service_frontends(store, service, &node);

		service_frontends_done(&frontends);
	}
	service_node_done(&node);
	compiled = policy_compile(store);
	for (const struct object *from = store_first(store, OBJECT_POD); from;
	     from = store_next(store, from)) {
		for (const struct object *to = store_first(store, OBJECT_POD); to && budget > 0;
		     to = store_next(store, to)) {
			if (from->pod.address_count && to->pod.address_count &&
			    addr_is_v4(&from->pod.addresses[0]) ==
				    addr_is_v4(&to->pod.addresses[0])) {
				check_flow(store, compiled, from, to);
				budget--;
			}
		}
	}
	compiled_free(compiled);
}

/* A store does not differ from itself, and can be linted and drawn. */
static void check_analysis(const struct store *store)
{
	const struct matrix_query query = { .by = MATRIX_BY_POD };
	auto_buffer struct buffer picture = { 0 };
	struct lint_findings findings = policy_lint(store);
	struct policy_diff *diff = policy_diff(store, store);
	struct matrix *matrix;
	struct errmsg err = { 0 };

	if (diff->change_count)
		abort();
	policy_diff_free(diff);
	lint_findings_done(&findings);
	if (store_count(store, OBJECT_POD) && matrix_new(store, &query, &matrix, &err) == 0) {
		const struct cli_store sourceless = { .objects = (struct store *)store };
		const struct matrix_page page = {
			.matrix = matrix, .store = &sourceless, .inputs = "-", .date = "today"
		};

		matrix_page_add(&page, &picture);
		matrix_svg(matrix, &picture);
		matrix_free(matrix);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned int flags = size ? data[size - 1] & (PARSE_LENIENT | PARSE_NAME_SKIPPED) : 0;
	struct problems problems = { 0 };
	struct object_list list;
	struct store *store = store_new();
	int ret = objects_parse((const char *)data, size, flags, &list, &problems);

	check_problems(&problems);
	if ((ret == 0) != (problems.errors == 0) || (ret < 0 && list.count > 0))
		abort();
	for (size_t i = 0; i < list.count; i++) {
		struct object *object = take_ptr(list.items[i]);

		store_put(store, object, NULL);
	}
	object_list_done(&list);
	check_store(store);
	check_analysis(store);
	store_free(store);
	problems_done(&problems);
	return 0;
}
