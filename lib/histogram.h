/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms as Prometheus has them. */
#ifndef TENDRIL_LIB_HISTOGRAM_H
#define TENDRIL_LIB_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "lib/arena.h"

#define HISTOGRAM_BOUNDS_MAX 12

struct histogram_bounds { /* upper ones, rising; the last bucket has none */
	size_t count;
	double bounds[HISTOGRAM_BOUNDS_MAX];
};

struct histogram {
	uint64_t buckets[HISTOGRAM_BOUNDS_MAX + 1];
	uint64_t count;
	double sum;
};

void histogram_add(struct histogram *histogram, const struct histogram_bounds *bounds,
		   double value);

/* Appends its samples.  labels: name="value" with commas, or "". */
void histogram_print(const struct histogram *histogram, const struct histogram_bounds *bounds,
		     const char *name, const char *labels, struct buffer *out);

#endif
