/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/argument.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "lib/auto.h"
#include "lib/inet.h"
#include "policy/objects/name.h"

#define SECONDS_MAX 86400

int object_name_parse(const char *text, const char *namespace, struct object_name *ret,
		      struct errmsg *err)
{
	const char *slash = strchr(text, '/');
	const char *name = slash ? slash + 1 : text;
	size_t len;

	if (slash)
	namespace = text;
	else if (!namespace) namespace = "default";
	len = slash ? (size_t)(slash - text) : strlen(namespace);
	if (len >= sizeof(ret->namespace) || strlen(name) >= sizeof(ret->name))
		return misused(err, "%s: must be NAMESPACE/NAME", text);
	memcpy(ret->namespace, namespace, len);
	ret->namespace[len] = '\0';
	memcpy(ret->name, name, strlen(name) + 1);
	/* The widest of names, without any character that means something in a path. */
	if (name_check_pod(ret->namespace) || name_check_pod(ret->name))
		return misused(err, "%s: must be NAMESPACE/NAME", text);
	return 0;
}

int policy_name_parse(const char *text, const char *namespace, struct object_name *ret,
		      enum object_kind *ret_kind, struct errmsg *err)
{
	const char *name = text + 1;

	if (*text != '/') {
		*ret_kind = OBJECT_NETWORK_POLICY;
		return object_name_parse(text, namespace, ret, err);
	}
	if (strlen(name) >= sizeof(ret->name) || name_check_dns_subdomain(name))
		return misused(err, "%s: must be NAMESPACE/NAME or /NAME", text);
	*ret_kind = OBJECT_CLUSTER_POLICY;
	ret->namespace[0] = '\0';
	memcpy(ret->name, name, strlen(name) + 1);
	return 0;
}

int port_argument_parse(const char *text, uint16_t *ret_port, uint8_t *ret_proto,
			struct errmsg *err)
{
	const char *slash = strchr(text, '/');
	char number[16];
	uint64_t port;
	size_t len = slash ? (size_t)(slash - text) : strlen(text);

	if (len >= sizeof(number))
		return misused(err, "port %s: must be N/PROTO, as 80/TCP", text);
	memcpy(number, text, len);
	number[len] = '\0';
	*ret_proto = IPPROTO_TCP;
	if (number_parse(number, 1, 65535, &port) || (slash && proto_parse(slash + 1, ret_proto)))
		return misused(err, "port %s: must be N/PROTO, as 80/TCP", text);
	if (!proto_has_ports(*ret_proto))
		return misused(err, "port %s: only TCP, UDP and SCTP have ports", text);
	*ret_port = (uint16_t)port;
	return 0;
}

int port_name_parse(const char *text, char *ret_name, size_t size, uint16_t *ret_port,
		    uint8_t *ret_proto, struct errmsg *err)
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);

	*ret_name = '\0';
	*ret_port = 0;
	*ret_proto = IPPROTO_TCP;
	if (len >= size || strspn(text, "0123456789") == len || strspn(text, "0123456789") > 0)
		return port_argument_parse(text, ret_port, ret_proto, err);
	memcpy(ret_name, text, len);
	ret_name[len] = '\0';
	if (name_check_port(ret_name) || (slash && proto_parse(slash + 1, ret_proto)) ||
	    !proto_has_ports(*ret_proto))
		return misused(err, "port %s: must be a number or a name, as 80, 80/UDP or http",
			       text);
	return 0;
}

int duration_parse(const char *text, uint32_t *ret_seconds, struct errmsg *err)
{
	static const struct {
		char letter;
		uint64_t seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 } };
	size_t len = strlen(text);
	uint64_t number, unit = 1;
	char digits[16];

	for (size_t i = 0; len && i < ARRAY_SIZE(units); i++) {
		if (text[len - 1] == units[i].letter) {
			unit = units[i].seconds;
			len--;
			break;
		}
	}
	if (len < sizeof(digits)) {
		memcpy(digits, text, len);
		digits[len] = '\0';
		if (number_parse(digits, 1, SECONDS_MAX / unit, &number) == 0) {
			*ret_seconds = (uint32_t)(number * unit);
			return 0;
		}
	}
	return misused(err, "\"%s\" is not a time such as 60s, 5m or 1h, up to a day", text);
}
