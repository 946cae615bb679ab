/* SPDX-License-Identifier: Apache-2.0 */
/* What flows.c (subscribers, flow_map) and flows_find.c share. */
#ifndef TENDRIL_AGENT_MONITOR_FLOWS_INTERNAL_H
#define TENDRIL_AGENT_MONITOR_FLOWS_INTERNAL_H

#include "agent/monitor/flows.h"
#include "datapath/maps.h"

/*
 * Adds to flow_map what existed before the observation: the connections that the sockets of one pod
 * show (also idle ones, and those from socket to socket), or, with slot 0, those whose opener
 * ct_map knows.  A pod that cannot be looked into is left out; the debug log says so.
 */
void flows_find(struct datapath *datapath, const struct endpoints *endpoints, uint16_t slot);

/* The flow of a TCP socket, as its opener's first packet had it.  is_listening: something in the
 * socket's namespace listens on its port, so the socket was accepted; else the ports decide (the
 * higher, ephemeral one is the opener's). */
struct flow flows_of_socket(const struct flow *own, bool is_listening);

/* The first packet that was noted of a UDP exchange may have been an answer, from a server's port
 * to an ephemeral one.  Turns such a flow round. */
void flows_orient(struct flow_key *key, struct flow_record *record);

#endif
