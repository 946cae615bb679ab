/* SPDX-License-Identifier: Apache-2.0 */
/* Files of expected verdicts: whatever parses has all its fields, whatever does not says why. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/analysis/expectation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct expectations list;
	struct problems problems = { 0 };
	char *text = malloc(size + 1);
	int ret;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	ret = expectations_parse(text, size, &list, &problems);
	if ((ret == 0) != (problems.errors == 0))
		abort();
	for (size_t i = 0; ret == 0 && i < list.count; i++) {
		const struct expectation *one = &list.items[i];

		if (!*one->from || !*one->to || !*one->port)
			abort();
	}
	if (ret == 0)
		expectations_done(&list);
	problems_done(&problems);
	free(text);
	return 0;
}
