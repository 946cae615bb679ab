/* SPDX-License-Identifier: Apache-2.0 */
/* Drops of the test's packets, as the agent tells of them while they happen. */
#ifndef TENDRIL_CLI_CONNECT_DROPS_H
#define TENDRIL_CLI_CONNECT_DROPS_H

#include <stddef.h>
#include <sys/types.h>

#include "cli/command.h"

struct connect_drops {
	pid_t pid; /* a child that follows the agent's stream */
	int fd;    /* its lines; -1: not started */
	char text[16384];
	size_t len;
};

int connect_drops_start(const struct arguments *args, struct connect_drops *drops,
			struct errmsg *err);
/* Forgets what has been told up to now. */
void connect_drops_forget(struct connect_drops *drops);
/* "INGRESS_DENIED (text)" of the last drop since then, or "".  Waits a moment for it. */
void connect_drops_last(struct connect_drops *drops, char *buf, size_t size);
void connect_drops_stop(struct connect_drops *drops); /* fine if it was not started */

#endif
