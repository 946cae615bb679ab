/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/matrix.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/objects/policy.h"

#define PEER_GROUPS_MAX 4096 /* their pairs take 64 MiB then */

/* What the asked ports are for one pair of peer groups: an interned array of enum matrix_cell,
 * ports of IPv4 first. */
struct kinds {
	struct intern answers;
	struct intern sets; /* two sets of ports -> number of the answer in by_sets */
	uint32_t *by_sets;
	size_t capacity;
};

struct share { /* how many pods of a peer group are in a group */
	uint32_t group;
	uint32_t peer_group;
	uint32_t pods;
};

struct maker {
	struct reach *reach;
	const struct peer_group *peer_groups;
	size_t peer_group_count; /* of pods alone */
	struct matrix *matrix;
	struct arena *arena; /* the matrix's */
	const struct matrix_query *query;
	const struct matrix_port *ports;
	size_t port_count;
	struct kinds kinds;
	uint32_t *pairs; /* kind of each pair of peer groups */
	struct share *shares;
	size_t share_count;
	size_t share_capacity;
	size_t group_capacity;
};

/* ---- which ports ---- */

struct port_numbers {
	struct matrix_port *items;
	size_t count;
	size_t capacity;
};

static void numbers_add(struct port_numbers *numbers, uint8_t proto, uint16_t port)
{
	if (port == 0)
		return;
	*array_add(numbers) = (struct matrix_port){ proto, port };
}

static void numbers_add_policies(struct port_numbers *numbers, const struct store *store,
				 enum object_kind kind)
{
	for (const struct object *policy = store_first(store, kind); policy;
	     policy = store_next(store, policy)) {
		for (size_t direction = 0; direction < 2; direction++) {
			struct policy_rules rules = policy_rules(policy, (enum direction)direction);

			for (size_t r = 0; r < rules.count; r++) {
				for (size_t p = 0; p < rules.items[r].port_count; p++) {
					const struct policy_port *port = &rules.items[r].ports[p];

					numbers_add(numbers, port->proto, port->port_min);
					numbers_add(numbers, port->proto, port->port_max);
				}
			}
		}
	}
}

static void numbers_of_store(const struct store *store, struct port_numbers *numbers)
{
	for (const struct object *pod = store_first(store, OBJECT_POD); pod;
	     pod = store_next(store, pod)) {
		for (size_t i = 0; i < pod->pod.port_count; i++)
			numbers_add(numbers, pod->pod.ports[i].proto, pod->pod.ports[i].port);
	}
	numbers_add_policies(numbers, store, OBJECT_NETWORK_POLICY);
	numbers_add_policies(numbers, store, OBJECT_CLUSTER_POLICY);
}

static int port_compare(const void *a, const void *b)
{
	const struct matrix_port *left = a;
	const struct matrix_port *right = b;

	if (left->proto != right->proto)
		return left->proto < right->proto ? -1 : 1;
	return (left->port > right->port) - (left->port < right->port);
}

static void maker_ports(struct maker *maker, const struct store *store)
{
	static const struct matrix_port all = { 0 };
	struct port_numbers numbers = { 0 };
	size_t kept = 0;

	maker->ports = maker->query->ports;
	maker->port_count = maker->query->port_count;
	if (maker->port_count > 0)
		return;
	numbers_of_store(store, &numbers);
	if (numbers.count > 0) {
		qsort(numbers.items, numbers.count, sizeof(*numbers.items), port_compare);
		for (size_t i = 1; i < numbers.count; i++) {
			if (port_compare(&numbers.items[i], &numbers.items[kept]) != 0)
				numbers.items[++kept] = numbers.items[i];
		}
		kept++;
	}
	maker->ports = kept ? arena_copy(maker->arena, numbers.items, kept * sizeof(all)) : &all;
	maker->port_count = kept ? kept : 1;
	free(numbers.items);
}

/* ---- pairs of peer groups ---- */

static char set_cell(const struct port_pool *pool, uint32_t set, const struct matrix_port *port)
{
	if (port->proto == 0 && set != PORTS_ALL && set != PORTS_NONE)
		return CELL_SOME;
	return ports_hold(pool, set, port->proto, port->port) ? CELL_ALLOW : CELL_DENY;
}

/* What the asked ports are for a pair whose port sets, by family, are these; UINT32_MAX: the pair
 * does not meet in that family. */
static uint32_t kind_of(struct maker *maker, const uint32_t sets[FAMILY_COUNT])
{
	struct kinds *kinds = &maker->kinds;
	size_t known = kinds->sets.count;
	size_t number = intern_add(&kinds->sets, sets, FAMILY_COUNT * sizeof(*sets));
	auto_buffer struct buffer answer = { 0 };

	if (number < known)
		return kinds->by_sets[number];
	for (size_t family = 0; family < FAMILY_COUNT; family++) {
		for (size_t i = 0; i < maker->port_count; i++) {
			char cell = sets[family] == UINT32_MAX
					    ? CELL_APART
					    : set_cell(reach_pool(maker->reach), sets[family],
						       &maker->ports[i]);

			buffer_add(&answer, &cell, 1);
		}
	}
	array_room(&kinds->by_sets, known, &kinds->capacity, sizeof(*kinds->by_sets));
	kinds->by_sets[number] = (uint32_t)intern_add(&kinds->answers, answer.data, answer.len);
	return kinds->by_sets[number];
}

static uint32_t pair_kind(struct maker *maker, size_t from, size_t to)
{
	uint32_t sets[FAMILY_COUNT];

	for (size_t i = 0; i < FAMILY_COUNT; i++) {
		enum family family = (enum family)i;

		sets[i] = reach_meets(maker->reach, family, from, to)
				  ? reach_ports(maker->reach, 0, family, from, to)
				  : UINT32_MAX;
	}
	return kind_of(maker, sets);
}

static int maker_pairs(struct maker *maker, struct errmsg *err)
{
	size_t count = maker->peer_group_count;

	if (count > PEER_GROUPS_MAX)
		return fail_plain(
			err, -E2BIG,
			"policies distinguish %zu groups of pods; a table has room for %d", count,
			PEER_GROUPS_MAX);
	maker->pairs = arena_alloc(maker->arena, count * count * sizeof(*maker->pairs));
	for (size_t from = 0; from < count; from++) {
		for (size_t to = 0; to < count; to++)
			maker->pairs[from * count + to] = pair_kind(maker, from, to);
	}
	return 0;
}

/* ---- groups ---- */

static void group_add_pod(struct maker *maker, size_t number, const struct object *pod)
{
	struct matrix_group *group = &maker->matrix->groups[number];

	/* As many as all pods at most: room for the next power of two. */
	if ((group->pod_count & (group->pod_count - 1)) == 0) {
		size_t room = group->pod_count ? 2 * group->pod_count : 1;
		const struct object **pods =
			arena_alloc(maker->arena, room * sizeof(const struct object *));

		if (group->pod_count)
			memcpy(pods, group->pods, group->pod_count * sizeof(*pods));
		group->pods = pods;
	}
	if (group->pod_count == 0)
		group->namespace = pod->namespace;
	else if (group->namespace && strcmp(group->namespace, pod->namespace) != 0)
		group->namespace = NULL;
	group->pods[group->pod_count++] = pod;
}

/* The group of a key, new or known. */
static size_t group_of(struct maker *maker, struct intern *keys, const struct buffer *key)
{
	struct matrix *matrix = maker->matrix;
	size_t number = intern_add(keys, key->data, key->len);

	if (number < matrix->group_count)
		return number;
	array_room(&matrix->groups, number, &maker->group_capacity, sizeof(*matrix->groups));
	matrix->groups[matrix->group_count++] = (struct matrix_group){
		/* By pod, the key is no text: those groups get their names later. */
		.name = maker->query->by == MATRIX_BY_POD ? NULL
							  : arena_string(maker->arena, key->data),
	};
	return number;
}

/* Peer groups whose rows and columns are equal reach, and are reached by, the same pods. */
static void key_of_alike(const struct maker *maker, size_t peer_group, struct buffer *key)
{
	size_t count = maker->peer_group_count;

	buffer_add(key, &maker->pairs[peer_group * count], count * sizeof(*maker->pairs));
	for (size_t i = 0; i < count; i++)
		buffer_add(key, &maker->pairs[i * count + peer_group], sizeof(*maker->pairs));
}

static void key_of_labels(const struct maker *maker, const struct object *pod, struct buffer *key)
{
	for (size_t i = 0; i < maker->query->key_count; i++) {
		const char *name = maker->query->keys[i];
		const char *value = "(none)";

		labels_get(&pod->pod.labels, name, &value);
		buffer_add(key, i ? "," : "", i ? 1 : 0);
		buffer_add(key, name, strlen(name));
		buffer_add(key, "=", 1);
		buffer_add(key, value, strlen(value));
	}
}

static void key_of_pod(const struct maker *maker, size_t peer_group, const struct object *pod,
		       struct buffer *key)
{
	switch (maker->query->by) {
	case MATRIX_BY_POD:
		key_of_alike(maker, peer_group, key);
		break;
	case MATRIX_BY_NAMESPACE:
		buffer_add(key, pod->namespace, strlen(pod->namespace));
		break;
	case MATRIX_BY_LABELS:
		key_of_labels(maker, pod, key);
		break;
	}
}

static void share_add(struct maker *maker, size_t group, size_t peer_group)
{
	struct share *last = maker->share_count ? &maker->shares[maker->share_count - 1] : NULL;

	if (last && last->group == group && last->peer_group == peer_group) {
		last->pods++;
		return;
	}
	array_room(&maker->shares, maker->share_count, &maker->share_capacity,
		   sizeof(*maker->shares));
	maker->shares[maker->share_count++] =
		(struct share){ (uint32_t)group, (uint32_t)peer_group, 1 };
}

static int share_compare(const void *a, const void *b)
{
	const struct share *left = a;
	const struct share *right = b;

	if (left->group != right->group)
		return left->group < right->group ? -1 : 1;
	return (left->peer_group > right->peer_group) - (left->peer_group < right->peer_group);
}

static void peer_group_groups(struct maker *maker, struct intern *keys, size_t peer_group)
{
	const struct peer_group *pods = &maker->peer_groups[peer_group];
	auto_buffer struct buffer key = { 0 };
	size_t group = 0;

	for (size_t i = 0; i < pods->pod_count; i++) {
		/* Pods of a peer group differ at most in labels that no policy reads. */
		if (i == 0 || maker->query->by == MATRIX_BY_LABELS) {
			key.len = 0;
			key_of_pod(maker, peer_group, pods->pods[i], &key);
			group = group_of(maker, keys, &key);
		}
		group_add_pod(maker, group, pods->pods[i]);
		share_add(maker, group, peer_group);
	}
}

/* "shop/web", "shop/app=cart (12 pods)", "shop/web and 3 more". */
static const char *alike_name(const struct maker *maker, const struct matrix_group *group,
			      const struct share *first)
{
	char text[600];

	if (first->pods == group->pod_count)
		return maker->peer_groups[first->peer_group].name;
	snprintf(text, sizeof(text), "%s/%s and %zu more", group->pods[0]->namespace,
		 group->pods[0]->name, group->pod_count - 1);
	return arena_string(maker->arena, text);
}

static void maker_name_groups(struct maker *maker)
{
	for (size_t i = maker->share_count; i-- > 0;) {
		const struct share *share = &maker->shares[i];
		struct matrix_group *group = &maker->matrix->groups[share->group];

		if (maker->query->by == MATRIX_BY_POD &&
		    (i == 0 || share[-1].group != share->group))
			group->name = alike_name(maker, group, share);
	}
}

static void maker_groups(struct maker *maker)
{
	struct intern keys = { .arena = maker->arena };

	for (size_t peer_group = 0; peer_group < maker->peer_group_count; peer_group++) {
		peer_group_groups(maker, &keys, peer_group);
		maker->matrix->pod_count += maker->peer_groups[peer_group].pod_count;
	}
	intern_done(&keys);
	if (maker->share_count)
		qsort(maker->shares, maker->share_count, sizeof(*maker->shares), share_compare);
	maker_name_groups(maker);
}

/* ---- tables ---- */

struct tally { /* pairs of pods in one cell */
	uint64_t pairs;
	uint64_t allowed;
	bool some;
};

static enum matrix_cell tally_cell(const struct tally *tally, bool itself)
{
	if (tally->pairs == 0)
		return itself ? CELL_ALLOW : CELL_APART;
	if (tally->allowed == tally->pairs)
		return CELL_ALLOW;
	return tally->allowed || tally->some ? CELL_SOME : CELL_DENY;
}

/* The cell of one port for each kind of pair: IPv4, then IPv6. */
static char *port_states(const struct maker *maker, size_t port)
{
	const struct intern *answers = &maker->kinds.answers;
	char *states = xmalloc(FAMILY_COUNT * answers->count + 1);

	for (size_t kind = 0; kind < answers->count; kind++) {
		for (size_t family = 0; family < FAMILY_COUNT; family++)
			states[FAMILY_COUNT * kind + family] =
				((const char *)answers->items[kind]
					 .key)[family * maker->port_count + port];
	}
	return states;
}

static void tallies_add(struct tally tallies[FAMILY_COUNT], const char *states, uint64_t pairs)
{
	for (size_t family = 0; family < FAMILY_COUNT; family++) {
		if (states[family] == CELL_APART)
			continue;
		tallies[family].pairs += pairs;
		tallies[family].allowed += states[family] == CELL_ALLOW ? pairs : 0;
		tallies[family].some |= states[family] == CELL_SOME;
	}
}

/* The end of the shares of the group that begin at first. */
static size_t group_shares(const struct maker *maker, size_t first)
{
	size_t end = first;

	while (end < maker->share_count && maker->shares[end].group == maker->shares[first].group)
		end++;
	return end;
}

/* Fills one cell of both families from the shares of its two groups. */
static void cell_fill(const struct maker *maker, const char *states, size_t from, size_t to,
		      char *const cells[FAMILY_COUNT])
{
	struct tally tallies[FAMILY_COUNT] = { { 0 } };
	size_t from_end = group_shares(maker, from), to_end = group_shares(maker, to);
	size_t from_group = maker->shares[from].group, to_group = maker->shares[to].group;
	size_t cell = from_group * maker->matrix->group_count + to_group;
	bool itself = from == to && maker->matrix->groups[to_group].pod_count == 1;

	for (size_t a = from; a < from_end; a++) {
		const struct share *left = &maker->shares[a];
		const uint32_t *row = &maker->pairs[left->peer_group * maker->peer_group_count];

		for (size_t b = to; b < to_end; b++) {
			const struct share *right = &maker->shares[b];
			uint64_t pairs = (uint64_t)left->pods * right->pods;

			if (a == b) /* a pod and itself */
				pairs -= left->pods;
			if (pairs)
				tallies_add(tallies, &states[FAMILY_COUNT * row[right->peer_group]],
					    pairs);
		}
	}
	for (size_t family = 0; family < FAMILY_COUNT; family++)
		cells[family][cell] = (char)tally_cell(&tallies[family], itself);
}

/* Whether one table is enough for both families.  Cells that a family lacks are taken from the
 * other one. */
static bool families_agree(const struct maker *maker, char *const cells[FAMILY_COUNT])
{
	size_t count = maker->matrix->group_count * maker->matrix->group_count;

	for (size_t i = 0; i < count; i++) {
		if (cells[0][i] != cells[1][i] && cells[0][i] != CELL_APART &&
		    cells[1][i] != CELL_APART)
			return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (cells[0][i] == CELL_APART)
			cells[0][i] = cells[1][i];
	}
	return true;
}

/* Takes ownership of cells.  A port whose table is there already is added to it. */
static void table_add(struct maker *maker, const struct matrix_port *port, bool v4, bool v6,
		      char *cells)
{
	struct matrix *matrix = maker->matrix;
	size_t size = matrix->group_count * matrix->group_count;
	struct matrix_table *table;
	size_t number = 0;

	for (; number < matrix->table_count; number++) {
		table = &matrix->tables[number];
		if (table->families[FAMILY_V4] == v4 && table->families[FAMILY_V6] == v6 &&
		    memcmp(table->cells, cells, size) == 0)
			break;
	}
	table = &matrix->tables[number];
	if (number < matrix->table_count) {
		free(cells);
	} else {
		struct matrix_port *ports =
			arena_alloc(maker->arena, maker->port_count * sizeof(*ports));

		matrix->table_count++;
		*table = (struct matrix_table){ .ports = ports,
						.families = { v4, v6 },
						.cells = cells };
	}
	table->ports[table->port_count++] = *port;
}

static void port_tables(struct maker *maker, size_t port)
{
	size_t size = maker->matrix->group_count * maker->matrix->group_count;
	auto_free char *states = port_states(maker, port);
	char *v4 = xcalloc(size, 1), *v6 = xcalloc(size, 1);
	char *const cells[FAMILY_COUNT] = { v4, v6 };

	for (size_t from = 0; from < maker->share_count; from = group_shares(maker, from)) {
		for (size_t to = 0; to < maker->share_count; to = group_shares(maker, to))
			cell_fill(maker, states, from, to, cells);
	}
	if (families_agree(maker, cells)) {
		table_add(maker, &maker->ports[port], true, true, v4);
		free(v6);
	} else {
		table_add(maker, &maker->ports[port], true, false, v4);
		table_add(maker, &maker->ports[port], false, true, v6);
	}
}

/* ---- all of it ---- */

static int maker_run(struct maker *maker, const struct store *store, struct errmsg *err)
{
	size_t count;
	int ret;

	maker->reach = reach_new(&store, 1);
	maker->peer_groups = reach_peer_groups(maker->reach, &count);
	while (maker->peer_group_count < count &&
	       maker->peer_groups[maker->peer_group_count].pod_count)
		maker->peer_group_count++;
	maker_ports(maker, store);
	ret = maker_pairs(maker, err);
	if (ret < 0)
		return ret;
	maker_groups(maker);
	maker->matrix->tables =
		xcalloc(FAMILY_COUNT * maker->port_count, sizeof(*maker->matrix->tables));
	for (size_t i = 0; i < maker->port_count; i++)
		port_tables(maker, i);
	return 0;
}

static void maker_done(struct maker *maker)
{
	intern_done(&maker->kinds.answers);
	intern_done(&maker->kinds.sets);
	free(maker->kinds.by_sets);
	free(maker->shares);
}

int matrix_new(const struct store *store, const struct matrix_query *query,
	       struct matrix **ret_matrix, struct errmsg *err)
{
	struct matrix *matrix = xcalloc(1, sizeof(*matrix));
	struct maker maker = { .matrix = matrix, .query = query };
	int ret;

	matrix->arena = arena_new();
	maker.arena = matrix->arena;
	maker.kinds.answers.arena = matrix->arena;
	maker.kinds.sets.arena = matrix->arena;
	ret = maker_run(&maker, store, err);
	matrix->reach = maker.reach;
	maker_done(&maker);
	if (ret < 0) {
		matrix_free(matrix);
		return ret;
	}
	*ret_matrix = matrix;
	return 0;
}

void matrix_free(struct matrix *matrix)
{
	if (!matrix)
		return;
	for (size_t i = 0; i < matrix->table_count; i++)
		free(matrix->tables[i].cells);
	free(matrix->tables);
	free(matrix->groups);
	reach_free(matrix->reach);
	arena_free(matrix->arena);
	free(matrix);
}
