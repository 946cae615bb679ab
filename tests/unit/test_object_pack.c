/* SPDX-License-Identifier: Apache-2.0 */
/* Packed texts are the same objects again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "agent/objects/object_pack.h"
#include "lib/auto.h"
#include "lib/json.h"

#include <cmocka.h> /* last: it makes fail a macro */

static void test_a_text_comes_back_as_it_was(void **state)
{
	static const char *const texts[] = {
		"{}",
		"{\"a\":\"\"}",
		"{\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\",\"uid\":\"u\"}}",
		/* What is escaped, or looks like the beginning of a phrase, or of two. */
		"{\"a\":\"\\u0001\\n\\\",\\\"uid\\\":\\\"\",\"metadata\":{\"nam\":1},\"status\":{"
		"\"phase\":1}}",
		"{\"a\":\"\xc3\xa4\",\"status\":{\"loadBalancer\":{}},\"conditions\":[{\"type\":"
		"\"x\"}]}",
		"{\"metadata\":{\"name\":\"\"},\"metadata\":{\"name\":\"\"}}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		auto_free char *packed = object_pack(texts[i]);
		auto_json cJSON *json = object_unpack(packed);
		auto_free char *again = cJSON_PrintUnformatted(json);

		assert_non_null(json);
		assert_string_equal(again, texts[i]);
	}
}

static void test_a_pod_takes_half_the_room_at_most(void **state)
{
	static const char pod[] = "{\"metadata\":{\"name\":\"p99\",\"namespace\":\"ns-9\",\"uid\":"
				  "\"u\",\"labels\":{\"app\":\"a19\"}},"
				  "\"spec\":{\"nodeName\":\"n9\",\"containers\":[{\"name\":"
				  "\"main\",\"ports\":[{\"name\":\"http\","
				  "\"containerPort\":8080,\"protocol\":\"TCP\"}]}]},\"status\":{"
				  "\"phase\":\"Running\",\"podIP\":"
				  "\"10.16.0.99\",\"podIPs\":[{\"ip\":\"10.16.0.99\"}],"
				  "\"conditions\":[{\"type\":\"Ready\","
				  "\"status\":\"True\"},{\"type\":\"PodScheduled\",\"status\":"
				  "\"True\"}]},\"apiVersion\":\"v1\",\"kind\":"
				  "\"Pod\"}";
	auto_free char *packed = object_pack(pod);

	(void)state;
	assert_true(strlen(packed) * 2 < strlen(pod));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_text_comes_back_as_it_was),
		cmocka_unit_test(test_a_pod_takes_half_the_room_at_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
