/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of allowed ports in normal form: disjoint, merged, sorted. */
#ifndef TENDRIL_POLICY_OBJECTS_PORTS_H
#define TENDRIL_POLICY_OBJECTS_PORTS_H

#include "datapath/abi.h"
#include "lib/arena.h"
#include "policy/objects/object.h"

#define PORT_ANY_MAX 65535

/* Brings rules[0..count) into normal form in place; returns the new count.  If there is a rule of
 * protocol 0 (any), it is the only one that remains. */
size_t ports_normalize(struct port_rule *rules, size_t count);

/* A growing list of rules that is reused. */
struct port_list {
	struct port_rule *items;
	size_t count;
	size_t capacity;
};

void port_list_add(struct port_list *list, uint8_t proto, uint16_t port_min, uint16_t port_max);
void port_list_done(struct port_list *list);

/* The numbers of a policy's port entry; nothing for a named one. */
void port_list_add_policy_port(struct port_list *list, const struct policy_port *port);

/* The protocols that a port name of a policy is looked up in: its own, or all three for 0. */
const uint8_t *port_name_protos(uint8_t proto, size_t *ret_count);

/* The number of a named port, as Kubernetes finds it: the first container port of that name and
 * protocol.  0 if there is none. */
uint16_t named_port_find(const struct named_port *ports, size_t count, uint8_t proto,
			 const char *name);

#endif
