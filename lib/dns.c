/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define HEADER_LEN  12
#define RECORD_LEN  10 /* behind its name */
#define LABEL_MAX   63
#define POINTER     0xc0
#define FLAG_ANSWER 0x8000
#define RCODE_MASK  0x000f
#define TYPE_A      1
#define TYPE_AAAA   28
#define CLASS_IN    1

struct reader {
	const uint8_t *bytes;
	size_t len;
	size_t pos;
};

static bool u16_read(struct reader *reader, uint16_t *ret)
{
	if (reader->len - reader->pos < 2)
		return false;
	*ret = (uint16_t)(reader->bytes[reader->pos] << 8 | reader->bytes[reader->pos + 1]);
	reader->pos += 2;
	return true;
}

static bool u32_read(struct reader *reader, uint32_t *ret)
{
	uint16_t high, low;

	if (!u16_read(reader, &high) || !u16_read(reader, &low))
		return false;
	*ret = (uint32_t)high << 16 | low;
	return true;
}

static bool is_plain(uint8_t byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' ||
	       byte == '_';
}

static bool text_add(char *text, size_t *len, uint8_t byte)
{
	if (byte >= 'A' && byte <= 'Z')
		byte = (uint8_t)(byte - 'A' + 'a');
	if (*len + (is_plain(byte) ? 1 : 4) >= DNS_NAME_MAX)
		return false;
	if (is_plain(byte))
		text[(*len)++] = (char)byte;
	else
		*len += (size_t)snprintf(text + *len, 5, "\\%03u", byte);
	return true;
}

/* The question's name: nothing stands before it that it could point to. */
static bool question_read(struct reader *reader, char text[DNS_NAME_MAX])
{
	size_t len = 0;

	while (reader->pos < reader->len) {
		uint8_t label = reader->bytes[reader->pos++];

		if (label > LABEL_MAX || reader->len - reader->pos < label)
			return false;
		if (!label) {
			text[len] = '\0';
			return len > 0;
		}
		if (len && len + 2 > DNS_NAME_MAX)
			return false;
		if (len)
			text[len++] = '.';
		for (; label; label--) {
			if (!text_add(text, &len, reader->bytes[reader->pos++]))
				return false;
		}
	}
	return false;
}

/* Behind a name, which ends with an empty label or a pointer. */
static bool name_skip(struct reader *reader)
{
	while (reader->pos < reader->len) {
		uint8_t label = reader->bytes[reader->pos++];

		if (!label)
			return true;
		if ((label & POINTER) == POINTER)
			return reader->pos++ < reader->len;
		if (label > LABEL_MAX || reader->len - reader->pos < label)
			return false;
		reader->pos += label;
	}
	return false;
}

/* False: the message ends here. */
static bool record_read(struct reader *reader, struct dns_answer *answer)
{
	uint16_t type, class, len;
	struct addr *addr;
	uint32_t ttl_s;

	if (!name_skip(reader) || !u16_read(reader, &type) || !u16_read(reader, &class) ||
	    !u32_read(reader, &ttl_s) || !u16_read(reader, &len) || reader->len - reader->pos < len)
		return false;
	if (ttl_s < answer->ttl_s)
		answer->ttl_s = ttl_s;
	if (class == CLASS_IN && answer->count < DNS_ADDRS_MAX &&
	    ((type == TYPE_A && len == 4) || (type == TYPE_AAAA && len == 16))) {
		addr = &answer->addrs[answer->count++];
		addr->w[2] = htonl(0xffff); /* as IPv4 is carried; IPv6 writes over it */
		memcpy((uint8_t *)addr + sizeof(*addr) - len, reader->bytes + reader->pos, len);
	}
	reader->pos += len;
	return true;
}

int dns_parse(const uint8_t *bytes, size_t len, struct dns_answer *ret)
{
	struct reader reader = { bytes, len, 0 };
	uint16_t id, flags, questions, answers, more, type, class;

	memset(ret, 0, sizeof(*ret));
	ret->ttl_s = UINT32_MAX;
	if (!u16_read(&reader, &id) || !u16_read(&reader, &flags) ||
	    !u16_read(&reader, &questions) || !u16_read(&reader, &answers) ||
	    !u16_read(&reader, &more) || !u16_read(&reader, &more))
		return -EBADMSG;
	if (!(flags & FLAG_ANSWER) || flags & RCODE_MASK || questions != 1 ||
	    !question_read(&reader, ret->name) || !u16_read(&reader, &type) ||
	    !u16_read(&reader, &class))
		return -EBADMSG;
	while (answers-- && record_read(&reader, ret))
		;
	return 0;
}

bool dns_name_is_clean(const char *name)
{
	size_t len = strnlen(name, DNS_NAME_MAX);

	if (!len || len == DNS_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_plain((uint8_t)name[i]) && name[i] != '.' && name[i] != '\\')
			return false;
	}
	return true;
}
