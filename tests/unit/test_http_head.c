/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP heads, queries and chunks: what is taken, what is refused, and with which error. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "lib/auto.h"
#include "lib/http.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

struct refusal {
	const char *name;
	const char *head;
	int code;
	const char *text; /* part of the error */
};

static const struct refusal refusals[] = {
	{ "no version", "GET /v1/status\r\n\r\n", -EBADMSG, "request line" },
	{ "older version", "GET / HTTP/1.0\r\n\r\n", -EBADMSG, "only HTTP/1.1" },
	{ "two spaces", "GET  / HTTP/1.1\r\n\r\n", -EBADMSG, "" },
	{ "lower-case method", "get / HTTP/1.1\r\n\r\n", -EBADMSG, "method" },
	{ "long method", "PROPPATCH / HTTP/1.1\r\n\r\n", -EBADMSG, "PROPPATCH" },
	{ "empty method", " / HTTP/1.1\r\n\r\n", -EBADMSG, "method" },
	{ "path is a URL", "GET http://x/ HTTP/1.1\r\n\r\n", -EBADMSG, "does not begin with /" },
	{ "bad escape", "GET /a%2 HTTP/1.1\r\n\r\n", -EBADMSG, "escape" },
	{ "escaped NUL", "GET /a%00b HTTP/1.1\r\n\r\n", -EBADMSG, "escape" },
	{ "tab in the path", "GET /a\tb HTTP/1.1\r\n\r\n", -EBADMSG, "control character" },
	{ "header without colon", "GET / HTTP/1.1\r\nHost\r\n\r\n", -EBADMSG, "without a name" },
	{ "header without name", "GET / HTTP/1.1\r\n: x\r\n\r\n", -EBADMSG, "without a name" },
	{ "space before the colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", -EBADMSG, "Host " },
	{ "folded header", "GET / HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n", -EBADMSG, "malformed" },
	{ "bare LF in a header", "GET / HTTP/1.1\r\nA: b\nc: d\r\n\r\n", -EBADMSG, "0x0a" },
	{ "length is not a number", "PUT / HTTP/1.1\r\nContent-Length: +5\r\n\r\n", -EBADMSG,
	  "+5" },
	{ "length is empty", "PUT / HTTP/1.1\r\nContent-Length:\r\n\r\n", -EBADMSG, "empty" },
	{ "length overflows", "PUT / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
	  -E2BIG, "999" },
	{ "two lengths", "PUT / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n",
	  -EBADMSG, "two different" },
	{ "chunked request", "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", -ENOTSUP,
	  "Transfer-Encoding" },
	{ "unknown expectation", "PUT / HTTP/1.1\r\nExpect: tea\r\n\r\n", -EBADMSG, "tea" },
};

static void each_malformed_head_is_refused_with_its_reason(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		const struct refusal *c = &refusals[i];
		struct http_head head;
		struct errmsg err = {};
		ssize_t n = http_head_parse(c->head, strlen(c->head), &head, &err);

		if (n != c->code || !strstr(err.text, c->text))
			fail_msg("%s: got %zd \"%s\", expected %d \"%s\"", c->name, n, err.text,
				 c->code, c->text);
	}
}

static void a_request_head_is_taken_apart(void **state)
{
	static const char text[] = "PUT /v1/objects/a%2Db?type=drop&x=%41 HTTP/1.1\r\n"
				   "Host: tendril\r\nCONTENT-LENGTH: 12 \r\n"
				   "Connection: foo, Close\r\nExpect: 100-Continue\r\n\r\nbody";
	struct http_head head;
	struct errmsg err = {};

	(void)state;
	assert_int_equal(http_head_parse(text, sizeof(text) - 1, &head, &err), sizeof(text) - 5);
	assert_string_equal(head.method, "PUT");
	assert_string_equal(head.path, "/v1/objects/a-b");
	assert_string_equal(head.query, "type=drop&x=%41");
	assert_int_equal(head.body_len, 12);
}

static void every_prefix_of_a_head_asks_for_more(void **state)
{
	static const char text[] = "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";
	struct http_head head;

	(void)state;
	for (size_t len = 0; len < sizeof(text) - 1; len++)
		assert_int_equal(http_head_parse(text, len, &head, NULL), 0);
	assert_int_equal(http_head_parse(text, sizeof(text) - 1, &head, NULL), sizeof(text) - 1);
	assert_int_equal(head.body_len, 0);
}

static void a_head_that_is_too_long_is_refused(void **state)
{
	static char text[HTTP_HEAD_MAX + 100];
	struct http_head head;
	struct errmsg err = {};

	(void)state;
	memset(text, 'a', sizeof(text));
	assert_int_equal(http_head_parse(text, HTTP_HEAD_MAX - 1, &head, &err), 0);
	assert_int_equal(http_head_parse(text, HTTP_HEAD_MAX, &head, &err), -E2BIG);
	memcpy(text, "GET /", 5);
	memcpy(text + 5 + 1024, " HTTP/1.1\r\n\r\n", 13);
	assert_int_equal(http_head_parse(text, 5 + 1024 + 13, &head, &err), -E2BIG);
	assert_non_null(strstr(err.text, "path longer"));
	text[10] = '?';
	assert_int_equal(http_head_parse(text, 5 + 1024 + 13, &head, &err), 5 + 1024 + 13);
	assert_int_equal(strlen(head.query), 1024 - 6);
}

static void a_query_parameter_is_found_and_decoded(void **state)
{
	char buf[8];

	(void)state;
	assert_int_equal(http_query_get("a=1&bb=x%2Cy+z&c", "bb", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "x,y z");
	assert_int_equal(http_query_get("a=1&bb=2&c", "c", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
	assert_int_equal(http_query_get("a=1&bb=2", "b", buf, sizeof(buf)), -ENOENT);
	assert_int_equal(http_query_get("", "b", buf, sizeof(buf)), -ENOENT);
	assert_int_equal(http_query_get("b=12345678", "b", buf, sizeof(buf)), -E2BIG);
	assert_int_equal(http_query_get("b=1234567", "b", buf, sizeof(buf)), 0);
	assert_int_equal(http_query_get("b=%zz", "b", buf, sizeof(buf)), -EINVAL);
	assert_int_equal(http_query_get("b=%0", "b", buf, sizeof(buf)), -EINVAL);
}

static void an_answer_head_is_taken_apart(void **state)
{
	static const char text[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\n";
	static const char stream[] = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
	struct http_response_head head;

	(void)state;
	assert_int_equal(http_response_head_parse(text, sizeof(text) - 1, &head, NULL),
			 sizeof(text) - 1);
	assert_int_equal(head.status, 404);
	assert_int_equal(head.body_len, 7);
	assert_false(head.chunked);
	assert_int_equal(http_response_head_parse(stream, sizeof(stream) - 1, &head, NULL),
			 sizeof(stream) - 1);
	assert_true(head.chunked);
	assert_int_equal(http_response_head_parse("HTTP/1.1 2x0 \r\n\r\n", 17, &head, NULL),
			 -EBADMSG);
	assert_int_equal(http_response_head_parse("SSH-2.0-x\r\n\r\n", 13, &head, NULL), -EBADMSG);
	assert_int_equal(http_response_head_parse(text, 20, &head, NULL), 0);
}

static void a_chunk_is_found_only_when_whole(void **state)
{
	static const char text[] = "5\r\nhello\r\n0\r\n\r\n";
	size_t start, len;

	(void)state;
	for (size_t n = 0; n < 10; n++)
		assert_int_equal(http_chunk_parse(text, n, &start, &len), 0);
	assert_int_equal(http_chunk_parse(text, sizeof(text) - 1, &start, &len), 10);
	assert_int_equal(start, 3);
	assert_int_equal(len, 5);
	assert_int_equal(http_chunk_parse(text + 10, 5, &start, &len), 5);
	assert_int_equal(len, 0);
	assert_int_equal(http_chunk_parse("x", 1, &start, &len), -EBADMSG);
	assert_int_equal(http_chunk_parse("5\nhello", 7, &start, &len), -EBADMSG);
	assert_int_equal(http_chunk_parse("5\r\nhelloXX", 10, &start, &len), -EBADMSG);
	assert_int_equal(http_chunk_parse("ffffffffffffffff1\r\n", 19, &start, &len), -EBADMSG);
	assert_int_equal(http_chunk_parse("000000000", 9, &start, &len), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_malformed_head_is_refused_with_its_reason),
		cmocka_unit_test(a_request_head_is_taken_apart),
		cmocka_unit_test(every_prefix_of_a_head_asks_for_more),
		cmocka_unit_test(a_head_that_is_too_long_is_refused),
		cmocka_unit_test(a_query_parameter_is_found_and_decoded),
		cmocka_unit_test(an_answer_head_is_taken_apart),
		cmocka_unit_test(a_chunk_is_found_only_when_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
