/* SPDX-License-Identifier: Apache-2.0 */
/* The table of who reaches whom, over random stores: every cell is asked of the compiled tables. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/analysis/matrix.h"
#include "policy/compiler/verdict.h"
#include "unit/random_store.h"
#include "unit/stores.h"

#include <cmocka.h> /* last: it makes fail a macro */

static const struct matrix_port ports[] = { { 6, 80 }, { 6, 443 }, { 17, 53 }, { 132, 8080 } };

struct tally {
	size_t pairs;
	size_t allowed;
};

static void pods_ask(const struct compiled *compiled, const struct object *from,
		     const struct object *to, bool v4, const struct matrix_port *port,
		     struct tally *tally)
{
	struct flow flow = { .proto = port->proto, .dport = htons(port->port) };
	bool source = false, target = false;

	for (size_t i = 0; i < from->pod.address_count && !source; i++) {
		source = addr_is_v4(&from->pod.addresses[i]) == v4;
		flow.saddr = from->pod.addresses[i];
	}
	for (size_t i = 0; i < to->pod.address_count && !target; i++) {
		target = addr_is_v4(&to->pod.addresses[i]) == v4;
		flow.daddr = to->pod.addresses[i];
	}
	if (from == to || !source || !target)
		return;
	tally->pairs++;
	tally->allowed += verdict_flow(compiled, &flow) == DROP_NONE;
}

static enum matrix_cell cell_expected(const struct compiled *compiled,
				      const struct matrix_group *from,
				      const struct matrix_group *to, bool v4,
				      const struct matrix_port *port)
{
	struct tally tally = { 0 };

	for (size_t a = 0; a < from->pod_count; a++) {
		for (size_t b = 0; b < to->pod_count; b++)
			pods_ask(compiled, from->pods[a], to->pods[b], v4, port, &tally);
	}
	if (tally.pairs == 0)
		return CELL_APART;
	return tally.allowed == tally.pairs ? CELL_ALLOW : tally.allowed ? CELL_SOME : CELL_DENY;
}

/* A pod without an address yet is asked about in the table, but not of tables of addresses. */
static bool has_addresses(const struct matrix_group *group)
{
	for (size_t i = 0; i < group->pod_count; i++) {
		if (group->pods[i]->pod.address_count == 0)
			return false;
	}
	return true;
}

static void table_check(const struct matrix *matrix, const struct compiled *compiled,
			const struct matrix_table *table, const struct matrix_port *port)
{
	for (size_t from = 0; from < matrix->group_count; from++) {
		for (size_t to = 0; to < matrix->group_count; to++) {
			const struct matrix_group *sender = &matrix->groups[from];
			const struct matrix_group *receiver = &matrix->groups[to];
			bool asked = false, equal = false;

			if (!has_addresses(sender) || !has_addresses(receiver))
				continue;
			for (size_t family = 0; family < FAMILY_COUNT; family++) {
				enum matrix_cell wanted = cell_expected(compiled, sender, receiver,
									family == FAMILY_V4, port);

				if (!table->families[family] || wanted == CELL_APART)
					continue;
				asked = true;
				equal |= matrix_cell(matrix, table, from, to) == wanted;
			}
			if (asked && !equal)
				print_error("%s -> %s %u/%u\n", sender->name, receiver->name,
					    port->port, port->proto);
			assert_true(!asked || equal);
		}
	}
}

static void matrix_check(const struct store *store, const struct matrix_query *query)
{
	struct compiled *compiled = store_compile(store);
	struct matrix *matrix = NULL;
	struct errmsg err = { 0 };
	size_t seen = 0, pods = 0;

	assert_int_equal(matrix_new(store, query, &matrix, &err), 0);
	for (size_t i = 0; i < matrix->group_count; i++)
		pods += matrix->groups[i].pod_count;
	assert_int_equal(pods, matrix->pod_count);
	assert_int_equal(pods, compiled->subject_count);
	for (size_t i = 0; i < matrix->table_count; i++) {
		for (size_t p = 0; p < matrix->tables[i].port_count; p++, seen++)
			table_check(matrix, compiled, &matrix->tables[i],
				    &matrix->tables[i].ports[p]);
	}
	assert_in_range(seen, query->port_count, FAMILY_COUNT * query->port_count);
	matrix_free(matrix);
	compiled_free(compiled);
}

static void test_random_stores_cell_by_cell(void **state)
{
	static const char *const keys[] = { "app" };
	uint64_t first = env_number("MATRIX_SEED", 1);
	uint64_t count = env_number("MATRIX_STORES", 60);

	(void)state;
	for (uint64_t seed = first; seed < first + count; seed++) {
		struct matrix_query query = { .ports = ports,
					      .port_count = ARRAY_SIZE(ports),
					      .keys = keys,
					      .key_count = 1 };
		struct errmsg err = { 0 };
		struct snapshot snapshot;
		struct store *store;

		print_message("MATRIX_SEED=%llu\n", (unsigned long long)seed);
		random_begin(seed);
		snapshot = random_snapshot(false);
		store = snapshot_store(&snapshot, &err);
		assert_non_null(store);
		for (int by = MATRIX_BY_POD; by <= MATRIX_BY_LABELS; by++) {
			query.by = (enum matrix_by)by;
			matrix_check(store, &query);
		}
		store_free(store);
		snapshot_done(&snapshot);
	}
}

static void test_ports_are_those_that_are_named(void **state)
{
	struct store *store = store_of(
		two_namespaces, POLICY("p", "shop",
				       "podSelector: {}, ingress: [{ports: [{port: 7000, endPort: "
				       "7009}, {port: 53, protocol: UDP}, {protocol: SCTP}]}]"));
	const struct matrix_query query = { .by = MATRIX_BY_NAMESPACE };
	struct matrix *matrix = NULL;
	struct errmsg err = { 0 };
	size_t found = 0;

	(void)state;
	assert_int_equal(matrix_new(store, &query, &matrix, &err), 0);
	for (size_t i = 0; i < matrix->table_count; i++) {
		for (size_t p = 0; p < matrix->tables[i].port_count; p++) {
			const struct matrix_port *port = &matrix->tables[i].ports[p];

			assert_true(port->proto != 132);
			found += port->port == 7000 || port->port == 7009 ||
				 (port->proto == 17 && port->port == 53);
		}
	}
	assert_int_equal(found, 3);
	matrix_free(matrix);
	store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_stores_cell_by_cell),
		cmocka_unit_test(test_ports_are_those_that_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
