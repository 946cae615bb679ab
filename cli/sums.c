/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sums.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/inet.h"

#define ROWS_DEFAULT 20

void sums_init(struct sums *sums)
{
	*sums = (struct sums){ .items = NULL };
	table_init(&sums->by_name, sizeof(uint64_t), sizeof(size_t));
}

struct sum *sum_of(struct sums *sums, const char *name, size_t len)
{
	uint64_t key = table_hash(name, len);
	size_t *number = table_find(&sums->by_name, &key);

	if (number)
		return &sums->items[*number];
	*(size_t *)table_put(&sums->by_name, &key) = sums->count;
	if (sums->count == sums->capacity) {
		sums->capacity = sums->capacity ? 2 * sums->capacity : 64;
		sums->items = xreallocarray(sums->items, sums->capacity, sizeof(*sums->items));
	}
	sums->items[sums->count] = (struct sum){ .name = xcalloc(1, len + 1) };
	memcpy(sums->items[sums->count].name, name, len);
	return &sums->items[sums->count++];
}

void sums_done(struct sums *sums)
{
	for (size_t i = 0; i < sums->count; i++) {
		free(sums->items[i].name);
		free(sums->items[i].first);
		free(sums->items[i].last);
	}
	free(sums->items);
	table_done(&sums->by_name);
}

void sums_clear(struct sums *sums)
{
	sums_done(sums);
	sums_init(sums);
}

/* ---- order ----------------------------------------------------------------------------------- */

static double by_bytes(const struct sum *sum)
{
	return sum->out + sum->in;
}

static double by_out(const struct sum *sum)
{
	return sum->out;
}

static double by_in(const struct sum *sum)
{
	return sum->in;
}

static double by_connections(const struct sum *sum)
{
	return sum->connections;
}

static double by_retransmits(const struct sum *sum)
{
	return sum->retransmits;
}

static double by_drops(const struct sum *sum)
{
	return sum->drops;
}

static double by_name(const struct sum *sum)
{
	(void)sum;
	return 0; /* names decide where nothing else does */
}

static const struct sort_key {
	const char *name;
	double (*number)(const struct sum *sum);
} sort_keys[] = {
	{ "bytes", by_bytes },
	{ "out", by_out },
	{ "in", by_in },
	{ "drops", by_drops },
	{ "retransmits", by_retransmits },
	{ "connections", by_connections },
	{ "name", by_name },
};

static int sum_compare(const void *a, const void *b, void *arg)
{
	const struct sort_key *key = arg;
	const struct sum *left = a, *right = b;
	double l = key->number(left), r = key->number(right);

	if (l != r)
		return l < r ? 1 : -1;
	if (key->number != by_name && left->drops != right->drops)
		return left->drops < right->drops ? 1 : -1;
	return strcmp(left->name, right->name);
}

int sums_sort(struct sums *sums, const struct arguments *args, struct errmsg *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(sort_keys); i++) {
		if (strcmp(sort_keys[i].name, args->sort ? args->sort : "bytes") != 0)
			continue;
		if (sums->count)
			qsort_r(sums->items, sums->count, sizeof(*sums->items), sum_compare,
				(void *)&sort_keys[i]);
		return 0;
	}
	return misused(err,
		       "--sort %s: must be bytes, out, in, connections, retransmits, drops or name",
		       args->sort);
}

/* ---- rows ------------------------------------------------------------------------------------ */

int sums_limit(const struct arguments *args, size_t *ret, struct errmsg *err)
{
	uint64_t limit = ROWS_DEFAULT;

	if (args->limit && number_parse(args->limit, 1, UINT32_MAX, &limit))
		return misused(err, "--limit %s: not a number", args->limit);
	*ret = (size_t)limit;
	return 0;
}

static double floor_of(double number)
{
	return (double)(uint64_t)number;
}

cJSON *sums_rows(const struct sums *sums, size_t max, double seconds)
{
	cJSON *rows = cJSON_CreateArray();

	for (size_t i = 0; i < sums->count && i < max; i++) {
		const struct sum *sum = &sums->items[i];
		cJSON *row = cJSON_CreateObject();

		cJSON_AddStringToObject(row, "name", sum->name);
		cJSON_AddNumberToObject(row, "bytesOut", floor_of(sum->out / seconds));
		cJSON_AddNumberToObject(row, "bytesIn", floor_of(sum->in / seconds));
		cJSON_AddNumberToObject(row, "connections", sum->connections);
		cJSON_AddNumberToObject(row, "retransmits", sum->retransmits);
		cJSON_AddNumberToObject(row, "drops", sum->drops);
		cJSON_AddItemToArray(rows, row);
	}
	return rows;
}

void rows_print(const struct arguments *args, cJSON *rows, const struct column *columns,
		size_t count)
{
	if (args->json)
		output_json(rows);
	else
		output_table(rows, columns, count, 0);
	cJSON_Delete(rows);
}
