/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a DNS answer: what is understood has a name that is safe to print, and bounds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dns_answer answer;

	if (dns_parse(data, size, &answer))
		return 0;
	must(dns_name_is_clean(answer.name));
	must(answer.count <= DNS_ADDRS_MAX);
	for (const char *at = answer.name; *at; at++)
		must(*at > ' ' && *at < 127 && !strchr("<>&\"'`", *at));
	return 0;
}
