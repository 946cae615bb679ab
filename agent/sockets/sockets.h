/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends what still goes to a backend that is gone, so that programs notice at once and not by
 * retransmission: connections and connected UDP sockets of pods and of the node, which the socket
 * layer has translated, and connections that are translated packet by packet.
 */
#ifndef TENDRIL_AGENT_SOCKETS_SOCKETS_H
#define TENDRIL_AGENT_SOCKETS_SOCKETS_H

#include <stdint.h>

struct datapath;
struct endpoints;
struct event_base;
struct sockets;
struct sync;

struct sockets_options {
	struct event_base *base;
	struct datapath *datapath;
	struct sync *sync;
	struct endpoints *endpoints;
};

struct sockets *sockets_new(const struct sockets_options *options);
void sockets_free(struct sockets *sockets);

/* Looks for them from the loop, in slices: at once, or a moment after the last time. */
void sockets_check_soon(struct sockets *sockets);

#endif
