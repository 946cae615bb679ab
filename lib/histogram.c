/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/histogram.h"

void histogram_add(struct histogram *histogram, const struct histogram_bounds *bounds, double value)
{
	size_t bucket = 0;

	while (bucket < bounds->count && value > bounds->bounds[bucket])
		bucket++;
	histogram->buckets[bucket]++;
	histogram->count++;
	histogram->sum += value;
}

void histogram_print(const struct histogram *histogram, const struct histogram_bounds *bounds,
		     const char *name, const char *labels, struct buffer *out)
{
	const char *comma = *labels ? "," : "";
	const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
	unsigned long long below = 0;

	for (size_t i = 0; i < bounds->count; i++) {
		below += histogram->buckets[i];
		buffer_print(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, labels, comma,
			     bounds->bounds[i], below);
	}
	buffer_print(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma,
		     (unsigned long long)histogram->count);
	buffer_print(out, "%s_sum%s%s%s %.15g\n", name, open, labels, close, histogram->sum);
	buffer_print(out, "%s_count%s%s%s %llu\n", name, open, labels, close,
		     (unsigned long long)histogram->count);
}
