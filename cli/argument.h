/* SPDX-License-Identifier: Apache-2.0 */
/* The values that options and operands take: names, ports, durations. */
#ifndef TENDRIL_CLI_ARGUMENT_H
#define TENDRIL_CLI_ARGUMENT_H

#include <stddef.h>
#include <stdint.h>

#include "lib/errmsg.h"
#include "policy/objects/object.h"

/* Each returns 0, or CLI_MISUSED with a text in err. */

/* Splits "namespace/name" ("name" means default/name) into buffers of size bytes. */
int name_split(const char *text, char *ret_namespace, char *ret_name, size_t size,
	       struct errmsg *err);

/* The same for a policy.  "/name" means a ClusterNetworkPolicy, whose namespace is "". */
int policy_name_split(const char *text, enum object_kind *ret_kind, char *ret_namespace,
		      char *ret_name, size_t size, struct errmsg *err);

/* "80", "80/TCP": the protocol is TCP if none is given. */
int port_argument_parse(const char *text, uint16_t *ret_port, uint8_t *ret_proto,
			struct errmsg *err);

/* "60s", "5m", "1h" or a number of seconds, at most a day. */
int duration_parse(const char *text, uint32_t *ret_seconds, struct errmsg *err);

#endif
