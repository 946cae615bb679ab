/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the packets of the agent's events into a pcapng file: what the agent knows of a packet is
 * its comment. */
#ifndef TENDRIL_CLI_EVENT_PCAP_H
#define TENDRIL_CLI_EVENT_PCAP_H

#include <stdint.h>

#include "cli/command.h"

struct cJSON;
struct event_pcap;

/* Makes the file that --pcap names, readable for nobody else: packets hold private data.  "-" is
 * standard output, unless that is a terminal. */
int event_pcap_open(const struct arguments *args, uint32_t snap_length, struct event_pcap **ret,
		    struct errmsg *err);
void event_pcap_close(struct event_pcap *pcap); /* NULL is fine */

/* Writes the packet of an event; one without a packet is left out.  -EBADMSG: it is no event;
 * -EIO: the file cannot be written. */
int event_pcap_write(struct event_pcap *pcap, const struct cJSON *event);

/* tendril flows -f -o pcapng, in cmd_monitor.c: the same packets on standard output. */
int flows_follow_packets(const struct arguments *args, struct errmsg *err);

#endif
