/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/ports.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static int rule_compare(const void *a, const void *b)
{
	const struct port_rule *left = a;
	const struct port_rule *right = b;

	if (left->proto != right->proto)
		return left->proto < right->proto ? -1 : 1;
	return (left->port_min > right->port_min) - (left->port_min < right->port_min);
}

size_t ports_normalize(struct port_rule *rules, size_t count)
{
	size_t kept = 0;

	if (count == 0)
		return 0;
	qsort(rules, count, sizeof(*rules), rule_compare);
	if (rules[0].proto == 0)
		return 1;
	for (size_t i = 1; i < count; i++) {
		struct port_rule *last = &rules[kept];

		/* Neighbours merge too: 80 and 81 are one range. */
		if (rules[i].proto == last->proto &&
		    (uint32_t)rules[i].port_min <= (uint32_t)last->port_max + 1) {
			if (rules[i].port_max > last->port_max)
				last->port_max = rules[i].port_max;
		} else {
			rules[++kept] = rules[i];
		}
	}
	return kept + 1;
}

void port_list_add(struct port_list *list, uint8_t proto, uint16_t port_min, uint16_t port_max)
{
	*array_add(list) = (struct port_rule){
		.port_min = port_min, .port_max = port_max, .proto = proto, .verdict = VERDICT_ALLOW
	};
}

void port_list_done(struct port_list *list)
{
	free(list->items);
	*list = (struct port_list){ 0 };
}

void port_list_add_policy_port(struct port_list *list, const struct policy_port *port)
{
	if (port->name)
		return;
	if (port->port_min == 0) {
		port_list_add(list, port->proto, 0, PORT_ANY_MAX);
		return;
	}
	port_list_add(list, port->proto, port->port_min, port->port_max);
}

const uint8_t *port_name_protos(uint8_t proto, size_t *ret_count)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };

	for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
		if (protos[i] == proto) {
			*ret_count = 1;
			return &protos[i];
		}
	}
	*ret_count = ARRAY_SIZE(protos);
	return protos;
}

uint16_t named_port_find(const struct named_port *ports, size_t count, uint8_t proto,
			 const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (ports[i].proto == proto && strcmp(ports[i].name, name) == 0)
			return ports[i].port;
	}
	return 0;
}
