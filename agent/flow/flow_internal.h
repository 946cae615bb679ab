/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of agent/flow share: a flow as it is kept. */
#ifndef TENDRIL_AGENT_FLOW_FLOW_INTERNAL_H
#define TENDRIL_AGENT_FLOW_FLOW_INTERNAL_H

#include "agent/flow/flow_log.h"
#include "agent/flow/flow_name.h"
#include "datapath/abi.h"

struct cJSON;

enum flow_end { FLOW_SOURCE, FLOW_DESTINATION };

/* A flow; source is who opened it.  Its memory is what bounds the log. */
struct flow_entry {
	int64_t time_ns;      /* of its end, or of its last drop; since 1970 */
	int64_t duration_ns;  /* of a connection, 0: not known; or since the first drop */
	uint64_t bytes[2];    /* that each end sent; a drop: the length of the last packet */
	uint64_t accel_bytes; /* both ways together */
	struct flow flow;
	struct flow_name *names[2];
	struct flow_name *service; /* that was asked for */
	uint32_t identities[2];
	uint32_t count; /* of drops, 1 for a connection */
	uint32_t srtt_us;
	uint32_t handshake_us;
	uint32_t retransmits;
	uint32_t segments[2]; /* of each end; packets of what is no connection */
	uint16_t error;       /* errno that ended a connection, or 0 */
	__be16 service_port;
	uint8_t type;      /* enum event_type, or 0: it passed */
	uint8_t reason;    /* enum drop_reason */
	uint8_t direction; /* enum direction: at which end it was seen */
	uint8_t old_state;
	uint8_t tcp_flags; /* of a packet */
	bool fin_sent;     /* by the end that saw it */
	uint8_t icmp_type; /* of the first packet */
	uint16_t dns_name; /* of the destination, by dns_names.h; 0: none */
	bool open;         /* no connection: it goes on, this is a part of it */
};
_Static_assert(sizeof(struct flow_entry) <= 152,
	       "65,536 flows and their order are to take 10.6 MiB");

/* dns_name: NULL if there is none. */
struct cJSON *flow_json(const struct flow_entry *entry, const char *node_name,
			const char *dns_name);

/* ---- flow_stream.c ---- */

struct flow_ring;
struct flow_streams;

struct flow_streams *flow_streams_new(struct event_base *base, struct flow_log *log);
void flow_streams_free(struct flow_streams *streams);
void flow_streams_add(struct flow_streams *streams, struct http_exchange *exchange,
		      const struct flow_log_query *query);
/* There is a new flow. */
void flow_streams_notice(struct flow_streams *streams);

/* ---- flow_log.c, for flow_passed.c ---- */

/* A new flow, on the account of the pod in this slot (0: of nobody on this node). */
struct flow_entry *flow_log_add(struct flow_log *log, uint16_t slot);
/* The owners of both addresses, if they had them at this time (CLOCK_MONOTONIC), and the name of
 * the destination, or of the service in its place (NULL: there is none). */
void flow_log_set_ends(struct flow_log *log, struct flow_entry *entry, uint64_t since_ns,
		       const struct service_key *service);
/* The source has asked for this service and got the destination.  count: the flow's bytes are the
 * service's, and nobody else counts them. */
void flow_log_use_service(struct flow_log *log, struct flow_entry *entry,
			  const struct service_key *service, bool count);

/* ---- flow_log.c, for the streams ---- */

const struct flow_ring *flow_log_ring(const struct flow_log *log);
const char *flow_log_node(const struct flow_log *log);
/* The name that a flow's source asked for, or NULL. */
const char *flow_log_entry_dns(const struct flow_log *log, const struct flow_entry *entry);

#endif
