/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsing of HTTP/1.1 heads and chunks: pure functions over bytes, strict where leniency lets two
 * readers disagree (bare LF, folded lines, two lengths, Transfer-Encoding in requests).
 */
#include "lib/http.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <strings.h>

#include "lib/auto.h"
#include "lib/text.h"

/* Bytes of one line or field; not NUL-terminated. */
struct span {
	const char *at;
	size_t len;
};

#define SPAN_MAX 40 /* of a span that is quoted in an error */

/* For "%.*s": never more than a readable piece. */
static int span_show(struct span span)
{
	return span.len > SPAN_MAX ? SPAN_MAX : (int)span.len;
}

static bool span_is(struct span span, const char *text)
{
	return span.len == strlen(text) && strncasecmp(span.at, text, span.len) == 0;
}

static bool is_token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* Cuts the text before the first separator off rest; false if there is no separator. */
static bool span_cut(struct span *rest, const char *separator, struct span *ret_part)
{
	size_t width = strlen(separator);
	const char *hit = memmem(rest->at, rest->len, separator, width);

	if (!hit)
		return false;
	ret_part->at = rest->at;
	ret_part->len = (size_t)(hit - rest->at);
	rest->at = hit + width;
	rest->len -= ret_part->len + width;
	return true;
}

static struct span span_trim(struct span span)
{
	while (span.len && (*span.at == ' ' || *span.at == '\t')) {
		span.at++;
		span.len--;
	}
	while (span.len && (span.at[span.len - 1] == ' ' || span.at[span.len - 1] == '\t'))
		span.len--;
	return span;
}

/* Percent-decodes into buf.  -E2BIG; -EINVAL for a bad escape or an encoded NUL. */
static int span_decode(struct span span, bool plus_is_space, char *buf, size_t size)
{
	size_t out = 0;

	for (size_t i = 0; i < span.len; i++) {
		char c = span.at[i];

		if (c == '%') {
			int high = i + 2 < span.len ? text_hex_digit(span.at[i + 1]) : -1;
			int low = high >= 0 ? text_hex_digit(span.at[i + 2]) : -1;

			if (low < 0 || (high == 0 && low == 0))
				return -EINVAL;
			c = (char)(high << 4 | low);
			i += 2;
		} else if (c == '+' && plus_is_space) {
			c = ' ';
		}
		if (out + 1 >= size)
			return -E2BIG;
		buf[out++] = c;
	}
	buf[out] = '\0';
	return 0;
}

/* The whole head, without the empty line that ends it: 0 more is needed, or the length with it. */
static ssize_t head_find(const char *data, size_t len, struct span *ret_head, struct errmsg *err)
{
	size_t seen = len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX;
	const char *end = memmem(data, seen, "\r\n\r\n", 4);

	if (!end) {
		if (len >= HTTP_HEAD_MAX)
			return fail_plain(err, -E2BIG, "head longer than %d bytes", HTTP_HEAD_MAX);
		return 0;
	}
	ret_head->at = data;
	ret_head->len = (size_t)(end - data) + 2; /* every line ends in CRLF */
	return end - data + 4;
}

static int length_parse(struct span value, size_t *ret_len, struct errmsg *err)
{
	size_t len = 0;

	if (value.len == 0)
		return fail_plain(err, -EBADMSG, "Content-Length is empty");
	for (size_t i = 0; i < value.len; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return fail_plain(err, -EBADMSG, "Content-Length: %.*s is not a number",
					  span_show(value), value.at);
		if (len > SIZE_MAX / 100)
			return fail_plain(err, -E2BIG, "Content-Length: %.*s is too large",
					  span_show(value), value.at);
		len = len * 10 + (size_t)(value.at[i] - '0');
	}
	*ret_len = len;
	return 0;
}

/* Cuts one header line off rest. */
static int header_next(struct span *rest, struct span *ret_name, struct span *ret_value,
		       struct errmsg *err)
{
	struct span line = {};

	if (!span_cut(rest, "\r\n", &line))
		return fail_plain(err, -EBADMSG, "unfinished header line");
	for (size_t i = 0; i < line.len; i++) {
		unsigned char c = (unsigned char)line.at[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return fail_plain(err, -EBADMSG, "control character 0x%02x in a header", c);
	}
	if (!span_cut(&line, ":", ret_name) || ret_name->len == 0)
		return fail_plain(err, -EBADMSG, "header line without a name");
	for (size_t i = 0; i < ret_name->len; i++) {
		if (!is_token_char(ret_name->at[i]))
			return fail_plain(err, -EBADMSG, "header name %.*s is malformed",
					  span_show(*ret_name), ret_name->at);
	}
	*ret_value = span_trim(line);
	return 0;
}

static int request_line_parse(struct span line, struct http_head *head, struct errmsg *err)
{
	struct span method = {}, target = {}, path = {};
	int ret;

	if (!span_cut(&line, " ", &method) || !span_cut(&line, " ", &target))
		return fail_plain(err, -EBADMSG, "malformed request line");
	if (line.len != 8 || memcmp(line.at, "HTTP/1.1", 8) != 0)
		return fail_plain(err, -EBADMSG, "only HTTP/1.1 is supported");
	if (method.len == 0 || method.len >= sizeof(head->method))
		return fail_plain(err, -EBADMSG, "method %.*s is not known", span_show(method),
				  method.at);
	for (size_t i = 0; i < method.len; i++) {
		if (method.at[i] < 'A' || method.at[i] > 'Z')
			return fail_plain(err, -EBADMSG, "malformed method");
	}
	memcpy(head->method, method.at, method.len);
	for (size_t i = 0; i < target.len; i++) {
		if (target.at[i] <= ' ' || target.at[i] == 0x7f)
			return fail_plain(err, -EBADMSG, "control character in the path");
	}
	if (target.len == 0 || target.at[0] != '/')
		return fail_plain(err, -EBADMSG, "path %.*s does not begin with /",
				  span_show(target), target.at);
	if (span_cut(&target, "?", &path)) {
		if (target.len >= sizeof(head->query))
			return fail_plain(err, -E2BIG, "query longer than %zu bytes",
					  sizeof(head->query) - 1);
		memcpy(head->query, target.at, target.len);
	} else {
		path = target;
	}
	ret = span_decode(path, false, head->path, sizeof(head->path));
	if (ret == -E2BIG)
		return fail_plain(err, ret, "path longer than %zu bytes", sizeof(head->path) - 1);
	if (ret)
		return fail_plain(err, -EBADMSG, "malformed escape in the path");
	return 0;
}

static int request_header_apply(struct span name, struct span value, struct http_head *head,
				bool *has_length, struct errmsg *err)
{
	size_t len = 0;
	int ret;

	if (span_is(name, "Content-Length")) {
		ret = length_parse(value, &len, err);
		if (ret)
			return ret;
		if (*has_length && len != head->body_len)
			return fail_plain(err, -EBADMSG, "two different Content-Length headers");
		*has_length = true;
		head->body_len = len;
	} else if (span_is(name, "Transfer-Encoding")) {
		return fail_plain(err, -ENOTSUP,
				  "Transfer-Encoding: send a Content-Length instead");
	} else if (span_is(name, "Expect") && !span_is(value, "100-continue")) {
		/* 100-continue is left unanswered: who asks sends the body after a moment. */
		return fail_plain(err, -EBADMSG, "Expect: %.*s is not known", span_show(value),
				  value.at);
	}
	return 0;
}

ssize_t http_head_parse(const char *data, size_t len, struct http_head *ret_head,
			struct errmsg *err)
{
	struct http_head head = {};
	struct span rest = { data, 0 }, line = {}, name = {}, value = {};
	bool has_length = false;
	ssize_t head_len;
	int ret;

	head_len = head_find(data, len, &rest, err);
	if (head_len <= 0)
		return head_len;
	if (!span_cut(&rest, "\r\n", &line))
		return fail_plain(err, -EBADMSG, "malformed request line");
	ret = request_line_parse(line, &head, err);
	while (!ret && rest.len) {
		ret = header_next(&rest, &name, &value, err);
		if (!ret)
			ret = request_header_apply(name, value, &head, &has_length, err);
	}
	if (ret)
		return ret;
	*ret_head = head;
	return head_len;
}

int http_query_get(const char *query, const char *name, char *buf, size_t size)
{
	struct span rest = { query, strlen(query) };
	struct span part = {}, key = {};
	bool more = true;

	while (more) {
		more = span_cut(&rest, "&", &part);
		if (!more)
			part = rest;
		if (!span_cut(&part, "=", &key)) {
			key = part;
			part.len = 0;
		}
		if (key.len == strlen(name) && memcmp(key.at, name, key.len) == 0)
			return span_decode(part, true, buf, size);
	}
	return -ENOENT;
}

ssize_t http_response_head_parse(const char *data, size_t len, struct http_response_head *ret_head,
				 struct errmsg *err)
{
	struct http_response_head head = {};
	struct span rest = { data, 0 }, line = {}, name = {}, value = {};
	ssize_t head_len;
	int ret = 0;

	head_len = head_find(data, len, &rest, err);
	if (head_len <= 0)
		return head_len;
	if (!span_cut(&rest, "\r\n", &line) || line.len < 12 ||
	    memcmp(line.at, "HTTP/1.1 ", 9) != 0)
		return fail_plain(err, -EBADMSG, "malformed status line");
	for (size_t i = 9; i < 12; i++) {
		if (line.at[i] < '0' || line.at[i] > '9')
			return fail_plain(err, -EBADMSG, "malformed status line");
		head.status = head.status * 10 + (line.at[i] - '0');
	}
	while (!ret && rest.len) {
		ret = header_next(&rest, &name, &value, err);
		if (ret)
			break;
		if (span_is(name, "Content-Length"))
			ret = length_parse(value, &head.body_len, err);
		else if (span_is(name, "Transfer-Encoding") && span_is(value, "chunked"))
			head.chunked = true;
	}
	if (ret)
		return ret;
	if (head.chunked)
		head.body_len = 0;
	*ret_head = head;
	return head_len;
}

ssize_t http_chunk_parse(const char *data, size_t len, size_t *ret_start, size_t *ret_len)
{
	size_t size = 0, digits = 0;

	while (digits < len && text_hex_digit(data[digits]) >= 0) {
		size = size << 4 | (size_t)text_hex_digit(data[digits]);
		digits++;
		if (size > HTTP_CHUNK_MAX || digits > 8)
			return -EBADMSG;
	}
	if (digits == len)
		return 0;
	if (digits == 0 || data[digits] != '\r')
		return -EBADMSG;
	if (len < digits + 2)
		return 0;
	if (data[digits + 1] != '\n')
		return -EBADMSG;
	if (len < digits + 2 + size + 2)
		return 0;
	if (memcmp(data + digits + 2 + size, "\r\n", 2) != 0)
		return -EBADMSG;
	*ret_start = digits + 2;
	*ret_len = size;
	return (ssize_t)(digits + 2 + size + 2);
}
