/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of who reaches whom: groups of pods by groups of pods, for single ports.  A group is
 * either the pods that reach, and are reached by, the same pods on all of these ports, or the pods
 * of a namespace, or the pods with the same values of labels.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_MATRIX_H
#define TENDRIL_POLICY_ANALYSIS_MATRIX_H

#include "policy/analysis/reach.h"

enum matrix_by { MATRIX_BY_POD, MATRIX_BY_NAMESPACE, MATRIX_BY_LABELS };

/* What a pair of groups may do; the bytes are what -o json writes. */
enum matrix_cell {
	CELL_APART = ' ', /* no two pods with addresses of one family */
	CELL_DENY = '.',
	CELL_SOME = '~', /* some pods, or some ports of "all" */
	CELL_ALLOW = 'x',
};

struct matrix_port { /* proto 0: all ports of all protocols */
	uint8_t proto;
	uint16_t port;
};

struct matrix_query {
	enum matrix_by by;
	const char *const *keys; /* MATRIX_BY_LABELS */
	size_t key_count;
	const struct matrix_port
		*ports; /* none: those of pods and policies, or all if they have none */
	size_t port_count;
};

struct matrix_group {
	const char *name; /* "shop/web", "shop", "app=cart" */
	const struct object **pods;
	size_t pod_count;
	const char *namespace; /* of all its pods; NULL: they are in several */
};

/* One table, of the ports that are open to the same pairs. */
struct matrix_table {
	struct matrix_port *ports;
	size_t port_count;
	bool families[FAMILY_COUNT]; /* both, if they do not differ */
	char *cells;                 /* enum matrix_cell; row by row: from, to */
};

struct matrix {
	struct matrix_group *groups;
	size_t group_count;
	struct matrix_table *tables;
	size_t table_count;
	size_t pod_count;
	struct reach *reach; /* what names are borrowed from */
	struct arena *arena;
};

/* The store must not be that of one node.  -E2BIG: too many peer groups of pods for a table. */
int matrix_new(const struct store *store, const struct matrix_query *query, struct matrix **ret,
	       struct errmsg *err);
void matrix_free(struct matrix *matrix); /* takes NULL */

static inline enum matrix_cell matrix_cell(const struct matrix *matrix,
					   const struct matrix_table *table, size_t from, size_t to)
{
	return (enum matrix_cell)table->cells[from * matrix->group_count + to];
}

#endif
