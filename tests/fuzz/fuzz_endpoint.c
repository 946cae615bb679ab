/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the plugin's request and as a state file: understood or refused with a text.  What
 * is understood as a state file prints to the same, and a request makes a result.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/endpoint/endpoint_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void try_request(const struct cJSON *json)
{
	struct endpoint_request request = {};
	struct errmsg err = {};

	if (endpoint_request_parse(json, &request, &err) < 0) {
		must(err.code < 0 && err.text[0]);
		return;
	}
	cJSON_Delete(endpoint_result(request.endpoint));
	endpoint_free(request.endpoint);
}

static void try_state(const char *text, size_t len)
{
	auto_(endpoint) struct endpoint *first = NULL;
	auto_(endpoint) struct endpoint *second = NULL;
	auto_free char *once = NULL;
	auto_free char *twice = NULL;
	struct errmsg err = {};

	if (endpoint_state_parse(text, len, &first, &err) < 0) {
		must(err.code < 0 && err.text[0]);
		return;
	}
	once = endpoint_state_print(first);
	must(once && endpoint_state_parse(once, strlen(once), &second, &err) == 0);
	twice = endpoint_state_print(second);
	must(twice && strcmp(once, twice) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_json struct cJSON *json = NULL;

	if (json_parse((const char *)data, size, &json, NULL) == 0)
		try_request(json);
	try_state((const char *)data, size);
	return 0;
}
