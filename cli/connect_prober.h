/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who sends and answers the packets of the connectivity test: a child process in a network
 * namespace of its own, as in a pod, or in that of the node.  It reads what the network sends, so
 * it gives up all privileges first.  It ends with its parent, and its namespace ends with it.
 */
#ifndef TENDRIL_CLI_CONNECT_PROBER_H
#define TENDRIL_CLI_CONNECT_PROBER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/errmsg.h"
#include "lib/inet.h"

#define PROBER_PORT 8080 /* where one in a pod echoes, TCP and UDP */

struct prober {
	pid_t pid;
	int fd; /* -1: not started */
};
#define PROBER_INIT    \
	{              \
		-1, -1 \
	}

/* PROBE_TOUCH connects, and a refusal is an answer, too: for ports where nobody has to listen.
 * PROBE_DNS asks for the addresses of kubernetes.default.svc. */
enum probe_kind { PROBE_TCP, PROBE_UDP, PROBE_TOUCH, PROBE_ECHO, PROBE_DNS };

struct probe_request {
	enum probe_kind kind;
	struct addr address;
	uint16_t port; /* host order; not for PROBE_ECHO */
	uint16_t size; /* of PROBE_ECHO's whole packet, which is not fragmented; 0: small */
	uint32_t timeout_ms;
};

struct probe_result {
	int error; /* errno; 0: it was answered */
	uint32_t time_us;
};

/* Returns once the child listens.  in_pod: in a new network namespace. */
int prober_start(struct prober *prober, const char *name, bool in_pod, struct errmsg *err);
/* The namespace's path, as long as the prober lives.  Returns buf. */
const char *prober_netns(const struct prober *prober, char *buf, size_t size);
/* -EINTR: a signal came; -EPIPE: the prober has ended. */
int prober_run(const struct prober *prober, const struct probe_request *request,
	       struct probe_result *ret, struct errmsg *err);
void prober_stop(struct prober *prober); /* fine if it was not started */

#endif
