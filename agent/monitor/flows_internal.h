/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the observation share: flows.c (subscribers, flow_map), flows_find.c. */
#ifndef TENDRIL_AGENT_MONITOR_FLOWS_INTERNAL_H
#define TENDRIL_AGENT_MONITOR_FLOWS_INTERNAL_H

#include "agent/monitor/flows.h"
#include "datapath/maps.h"

/*
 * Adds to flow_map what was there before the observation: the connections that the sockets of one
 * pod show (those that are idle or go from socket to socket included), or, with slot 0, what
 * ct_map knows the opener of.  A pod that cannot be looked into is left out: debug log.
 */
void flows_find(struct datapath *datapath, const struct endpoints *endpoints, uint16_t slot);

/* The flow of a TCP socket, as its opener's first packet had it.  is_listening: somebody in the
 * socket's namespace listens on its port, so that it was accepted; else the ports have to tell
 * (the higher, ephemeral one is the opener's). */
struct flow flows_of_socket(const struct flow *own, bool is_listening);

/* An exchange of datagrams that was under way when the observation began may have been noted by an
 * answer: from a server's port to an ephemeral one.  Turns it round. */
void flows_orient(struct flow_key *key, struct flow_record *record);

#endif
