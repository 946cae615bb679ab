/* SPDX-License-Identifier: Apache-2.0 */
/* Lists read item by item, and that it makes no difference to what is said about them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "lib/auto.h"
#include "lib/document.h"
#include "policy/objects/parse.h"

#include <cmocka.h>

#define POD(name) "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"" name "\"}}"

/* The items' compact texts, one after the other; "-" if it is not read by item, "!" where it
 * breaks.  *ret_next: what comes after the list. */
static const char *items_of(const char *text, char *ret_next)
{
	static char seen[1000];
	struct documents documents;
	struct text_error error;
	size_t used = 0;
	cJSON *item, *document = NULL;
	int found;

	documents_init(&documents, text, strlen(text));
	documents.by_item = true;
	found = documents_next(&documents, &document, &error);
	snprintf(seen, sizeof(seen), "%s", documents.in_list ? "" : "-");
	while (found == 1 && documents.in_list) {
		auto_free char *printed = NULL;

		found = documents_next_item(&documents, &item);
		if (found != 1)
			break;
		printed = cJSON_PrintUnformatted(item);
		used += (size_t)snprintf(seen + used, sizeof(seen) - used, "%s;", printed);
		cJSON_Delete(item);
	}
	if (documents.in_list && found < 0)
		snprintf(seen + used, sizeof(seen) - used, "!");
	*ret_next = text[documents.next];
	cJSON_Delete(document);
	documents_done(&documents);
	return seen;
}

static void test_items(void **state)
{
	static const struct {
		const char *text;
		const char *items;
	} cases[] = {
		{ "{\"kind\":\"List\",\"items\":[{\"a\":1},2,null,\"x\"]}",
		  "{\"a\":1};2;null;\"x\";" },
		{ " { \"items\" : [ 1 , [2] ] , \"kind\" : \"PodList\" } ", "1;[2];" },
		{ "{\"kind\":\"List\",\"items\":[]}", "" },
		{ "{\"kind\":\"List\",\"items\":[\"]},\\\"\\\\\",\"[{\"]}",
		  "\"]},\\\"\\\\\";\"[{\";" },
		{ "{\"a\":{\"items\":[7]},\"kind\":\"List\",\"items\":[8]}", "8;" },
		/* Not plainly a list. */
		{ "", "-" },
		{ "[1]", "-" },
		{ "{\"kind\":\"Pod\",\"items\":[1]}", "-" },
		{ "{\"kind\":\"List\"}", "-" },
		{ "{\"kind\":\"List\",\"items\":{}}", "-" },
		{ "{\"kind\":\"List\",\"items\":[1}}", "-" },
		{ "{\"kind\":\"List\",\"items\":[1],\"items\":[2]}", "-" },
		{ "{\"kind\":\"List\",\"items\":[1]", "-" },
		{ "{\"kind\":\"List\",\"items\":[\"1]}", "-" },
		{ "{\"kind\":\"List\",\"items\":[\"1\\", "-" },
		{ "{\"kind\":List,\"items\":[1]}", "-" },
		/* Found, and no JSON. */
		{ "{\"kind\":\"List\",\"items\":[1,]}", "1;!" },
		{ "{\"kind\":\"List\",\"items\":[1 2]}", "1;!" },
		{ "{\"kind\":\"List\",\"items\":[,1]}", "!" },
		{ "{\"kind\":\"List\",\"items\":[1,{]}]}", "-" },
		{ "{\"kind\":\"List\",\"items\":[1,{\"a\":x}]}", "1;!" },
		{ "{\"kind\":\"List\",\"items\":[\"\\u0000\"]}", "!" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char next;

		print_message("%s\n", cases[i].text);
		assert_string_equal(items_of(cases[i].text, &next), cases[i].items);
	}
}

static void test_reading_goes_on_after_the_list(void **state)
{
	char next;

	(void)state;
	assert_string_equal(items_of("{\"kind\":\"List\",\"items\":[1]}; {\"more\":1}", &next),
			    "1;");
	assert_int_equal(next, ';');
}

/* What is said of a bad text, however far reading by item came. */
static void test_problems_are_those_of_the_whole(void **state)
{
	static const struct {
		const char *text;
		const char *problem;
	} cases[] = {
		{ "{\"kind\":\"List\",\"apiVersion\":\"v1\",\"items\":[" POD("a") "," POD(
			  "B_") "]}",
		  "f:1:151: Pod default/B_: metadata.name: \"B_\" is not a name: 1 to 253 "
		  "characters: "
		  "letters, digits, '-', '_' and '.' inside" },
		{ "{\"kind\":\"List\",\n\"items\":[" POD("B_") ",\n" POD("a") " x]}",
		  "f:3:58: not valid JSON at \"x]}\"" },
		{ "{\"kind\":\"PodList\",\"items\":[{\"metadata\":{\"name\":\"a\",\"name\":\"a\"}}]"
		  "}",
		  "f:1:28: document 1, item 1: apiVersion: missing" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct problems problems = { 0 };
		struct object_list list;
		char text[600];

		assert_int_equal(
			objects_parse(cases[i].text, strlen(cases[i].text), 0, &list, &problems),
			-EINVAL);
		assert_int_equal(list.count, 0);
		assert_true(problems.count >= 1);
		assert_string_equal(problem_format(&problems.items[0], "f", text, sizeof(text)),
				    cases[i].problem);
		problems_done(&problems);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_items),
		cmocka_unit_test(test_reading_goes_on_after_the_list),
		cmocka_unit_test(test_problems_are_those_of_the_whole),
	};

	return cmocka_run_group_tests_name("document", tests, NULL, NULL);
}
