/* SPDX-License-Identifier: Apache-2.0 */
/* The values that options and operands take: names, ports, durations. */
#ifndef TENDRIL_CLI_ARGUMENT_H
#define TENDRIL_CLI_ARGUMENT_H

#include <stddef.h>
#include <stdint.h>

#include "cli/command.h"
#include "policy/objects/object.h"

/* Each returns 0, or CLI_MISUSED with a text in err. */

struct object_name {
	char namespace[254]; /* "" for a cluster-scoped object */
	char name[254];
};

/* Parses "namespace/name".  "name" alone is in the given namespace (of -n), or in "default" if that
 * is NULL. */
int object_name_parse(const char *text, const char *namespace, struct object_name *ret,
		      struct errmsg *err);

/* The same for a policy.  "/name" means a ClusterNetworkPolicy. */
int policy_name_parse(const char *text, const char *namespace, struct object_name *ret,
		      enum object_kind *ret_kind, struct errmsg *err);

/* "80", "80/TCP": the protocol is TCP if none is given. */
int port_argument_parse(const char *text, uint16_t *ret_port, uint8_t *ret_proto,
			struct errmsg *err);

/* The same for a port that may be a name: "http", "dns/UDP".  ret_name has size bytes; it is "" for
 * a number. */
int port_name_parse(const char *text, char *ret_name, size_t size, uint16_t *ret_port,
		    uint8_t *ret_proto, struct errmsg *err);

/* "60s", "5m", "1h" or a number of seconds, at most a day. */
int duration_parse(const char *text, uint32_t *ret_seconds, struct errmsg *err);

#endif
