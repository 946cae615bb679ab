/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/name.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "lib/auto.h"

#define LABEL_MAX     63
#define SUBDOMAIN_MAX 253
#define PORT_NAME_MAX 15

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_alnum(char c)
{
	return is_digit(c) || is_lower(c) || (c >= 'A' && c <= 'Z');
}

/* Lower-case letters and digits in text[0..len), and '-' inside. */
static bool is_dns_part(const char *text, size_t len)
{
	if (len == 0 || text[0] == '-' || text[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_lower(text[i]) && !is_digit(text[i]) && text[i] != '-')
			return false;
	}
	return true;
}

static bool is_dns_label(const char *text, size_t len)
{
	return len <= LABEL_MAX && is_dns_part(text, len);
}

/* Kubernetes bounds the whole to 253 characters, not the parts to 63. */
static bool is_dns_subdomain(const char *text, size_t len)
{
	if (len == 0 || len > SUBDOMAIN_MAX)
		return false;
	for (;;) {
		const char *dot = memchr(text, '.', len);
		size_t part = dot ? (size_t)(dot - text) : len;

		if (!is_dns_part(text, part))
			return false;
		if (!dot)
			return true;
		text += part + 1;
		len -= part + 1;
	}
}

/* Letters, digits and "-_." inside, letters and digits at both ends. */
static bool is_qualified(const char *text, size_t len, size_t max)
{
	if (len == 0 || len > max || !is_alnum(text[0]) || !is_alnum(text[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_alnum(text[i]) && !strchr("-_.", text[i]))
			return false;
	}
	return true;
}

const char *name_check_dns_label(const char *text)
{
	return is_dns_label(text, strlen(text))
		       ? NULL
		       : "1 to 63 characters: lower-case letters, digits and '-' inside";
}

const char *name_check_dns_subdomain(const char *text)
{
	return is_dns_subdomain(text, strlen(text))
		       ? NULL
		       : "1 to 253 characters: lower-case letters, digits, '-' and '.' inside";
}

const char *name_check_pod(const char *text)
{
	return is_qualified(text, strlen(text), SUBDOMAIN_MAX)
		       ? NULL
		       : "1 to 253 characters: letters, digits, '-', '_' and '.' inside";
}

const char *name_check_port(const char *text)
{
	static const char hint[] = "1 to 15 characters: lower-case letters (at least one), "
				   "digits and single '-' inside";
	size_t len = strlen(text);
	bool letter = false;

	if (len > PORT_NAME_MAX || !is_dns_label(text, len) || strstr(text, "--"))
		return hint;
	for (size_t i = 0; i < len; i++)
		letter |= is_lower(text[i]);
	return letter ? NULL : hint;
}

const char *name_check_label_key(const char *text)
{
	const char *slash = strchr(text, '/');
	const char *name = slash ? slash + 1 : text;

	if ((slash && !is_dns_subdomain(text, (size_t)(slash - text))) ||
	    !is_qualified(name, strlen(name), LABEL_MAX))
		return "an optional DNS prefix and '/', then 1 to 63 letters, digits, '-', '_', "
		       "'.'";
	return NULL;
}

const char *name_check_label_value(const char *text)
{
	if (*text && !is_qualified(text, strlen(text), LABEL_MAX))
		return "empty, or up to 63 letters, digits, '-', '_', '.'";
	return NULL;
}
