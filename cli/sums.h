/* SPDX-License-Identifier: Apache-2.0 */
/* Sums by name: of pods, services or whatever a row of tendril top stands for. */
#ifndef TENDRIL_CLI_SUMS_H
#define TENDRIL_CLI_SUMS_H

#include <stddef.h>
#include <stdint.h>

#include "cli/command.h"
#include "lib/table.h"

struct cJSON;
struct column;

struct sum {
	char *name;
	double out; /* bytes */
	double in;
	double connections;
	double drops;
	double retransmits;
	char *first; /* of drops: times */
	char *last;
};

struct sums {
	struct table by_name; /* hash -> index */
	struct sum *items;
	size_t count;
	size_t capacity;
};

void sums_init(struct sums *sums);
void sums_done(struct sums *sums);
/* Empties it again. */
void sums_clear(struct sums *sums);

/* The sum of a name of so many bytes, zeroes if it is new; valid until the next call. */
struct sum *sum_of(struct sums *sums, const char *name, size_t len);

/* Puts in front what --sort asks for; by bytes without it. */
int sums_sort(struct sums *sums, const struct arguments *args, struct errmsg *err);

/* How many rows --limit asks for: 20 without it. */
int sums_limit(const struct arguments *args, size_t *ret, struct errmsg *err);

/* {"name", "bytesOut", "bytesIn", "connections", "retransmits", "drops"} of the first ones; bytes
 * are divided by seconds. */
struct cJSON *sums_rows(const struct sums *sums, size_t max, double seconds);

/* Prints rows and frees them. */
void rows_print(const struct arguments *args, struct cJSON *rows, const struct column *columns,
		size_t count);

#endif
