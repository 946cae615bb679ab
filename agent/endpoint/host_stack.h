/* SPDX-License-Identifier: Apache-2.0 */
/* Whether packets between pods and uplinks must pass the host's stack. */
#ifndef TENDRIL_AGENT_ENDPOINT_HOST_STACK_H
#define TENDRIL_AGENT_ENDPOINT_HOST_STACK_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

/* True: something of the node has to see these packets; ret_why is a sentence about what.  Reads
 * settings of the kernel; one of the kernel's lists that cannot be read counts as empty. */
bool host_stack_is_needed(const char (*uplinks)[IFNAMSIZ], size_t uplink_count, char *ret_why,
			  size_t size);

#endif
