/* SPDX-License-Identifier: Apache-2.0 */
/* What flows.c (subscribers, flow_map) and flows_find.c share. */
#ifndef TENDRIL_AGENT_MONITOR_FLOWS_INTERNAL_H
#define TENDRIL_AGENT_MONITOR_FLOWS_INTERNAL_H

#include "agent/monitor/flows.h"
#include "datapath/maps.h"

/*
 * Adds flows that existed before somebody watched to flow_map: the connections of the sockets of
 * one pod (also idle and accelerated ones), or, with slot 0, those of ct_map.  A pod whose sockets
 * cannot be listed is skipped; the debug log says so.
 */
void flows_find(struct datapath *datapath, const struct endpoints *endpoints, uint16_t slot);

/* The flow of a TCP socket in the direction of the opener's first packet.  is_listening: a socket
 * in its namespace listens on its port, so it was accepted; else the ports decide (the higher,
 * ephemeral one is the opener's). */
struct flow flows_of_socket(const struct flow *own, bool is_listening);

/* Reverses a UDP flow that goes from a server's port to an ephemeral one: its first recorded packet
 * was an answer. */
void flows_orient(struct flow_key *key, struct flow_record *record);

#endif
