/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer may have thousands of sockets, so it is written as text at once: a tree of JSON would
 * take ten times the memory.
 */
#define LOG_MODULE "sockets"
#include "agent/monitor/sockets_list.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "agent/endpoint/endpoint.h"
#include "datapath/maps.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/log.h"
#include "lib/sockdiag.h"
#include "lib/table.h"
#include "lib/task.h"

static const char *const state_names[] = {
	[TCP_ESTABLISHED] = "ESTABLISHED",
	[TCP_SYN_SENT] = "SYN-SENT",
	[TCP_SYN_RECV] = "SYN-RECV",
	[TCP_FIN_WAIT1] = "FIN-WAIT-1",
	[TCP_FIN_WAIT2] = "FIN-WAIT-2",
	[TCP_TIME_WAIT] = "TIME-WAIT",
	[TCP_CLOSE] = "CLOSED",
	[TCP_CLOSE_WAIT] = "CLOSE-WAIT",
	[TCP_LAST_ACK] = "LAST-ACK",
	[TCP_LISTEN] = "LISTEN",
	[TCP_CLOSING] = "CLOSING",
};

struct listing {
	struct buffer *out;
	struct table known; /* cookie -> struct tcp_socket: what the socket itself does not keep */
	uint32_t left;      /* sockets that may still be listed */
	uint32_t left_out;
	bool first; /* in its array */
};

static void comma_add(struct listing *listing)
{
	if (!listing->first)
		buffer_string(listing->out, ",");
	listing->first = false;
}

static int known_add(const struct tcp_socket *socket, void *arg)
{
	struct listing *listing = arg;

	*(struct tcp_socket *)table_put(&listing->known, &socket->cookie) = *socket;
	return 0;
}

static void service_add(struct buffer *out, const struct tcp_socket *known)
{
	char text[ADDR_TEXT_MAX];

	if (known && known->service_port)
		buffer_print(out, ",\"serviceAddress\":\"%s\",\"servicePort\":%u",
			     addr_format(&known->service, text), ntohs(known->service_port));
}

static int socket_add(const struct sockdiag_socket *socket, void *arg)
{
	struct listing *listing = arg;
	const char *state =
		socket->state < ARRAY_SIZE(state_names) ? state_names[socket->state] : NULL;
	const struct tcp_socket *known = table_find(&listing->known, &socket->cookie);
	char own[ADDR_TEXT_MAX], peer[ADDR_TEXT_MAX];

	if (!listing->left) {
		listing->left_out++;
		return 0;
	}
	listing->left--;
	comma_add(listing);
	buffer_print(listing->out,
		     "{\"state\":\"%s\",\"address\":\"%s\",\"port\":%u,\"peerAddress\":\"%s\","
		     "\"peerPort\":%u,\"receiveQueue\":%u,\"sendQueue\":%u,\"roundTripUs\":%u,"
		     "\"retransmits\":%u,\"sent\":%llu,\"received\":%llu",
		     state ? state : "UNKNOWN", addr_format(&socket->flow.saddr, own),
		     ntohs(socket->flow.sport), addr_format(&socket->flow.daddr, peer),
		     ntohs(socket->flow.dport), socket->receive_queue, socket->send_queue,
		     socket->rtt_us, socket->retransmits,
		     (unsigned long long)(socket->sent + (known ? known->accel_sent : 0)),
		     (unsigned long long)(socket->received + (known ? known->accel_received : 0)));
	service_add(listing->out, known);
	buffer_string(listing->out, "}");
	return 0;
}

static int pod_list(const struct endpoints *endpoints, const struct endpoint_info *pod,
		    struct listing *listing, struct errmsg *err)
{
	static const int families[] = { AF_INET, AF_INET6 };
	auto_netlink struct netlink netlink = NETLINK_INIT;
	int ret = endpoints_sockdiag_open(endpoints, pod->slot, &netlink, err);

	for (size_t i = 0; !ret && i < ARRAY_SIZE(families); i++)
		ret = sockdiag_list_tcp(&netlink, families[i], UINT32_MAX, socket_add, listing,
					err);
	return ret;
}

/* The name as JSON: an endpoint's may be anything. */
static void name_add(struct buffer *out, const char *name)
{
	cJSON *json = cJSON_CreateString(name);
	auto_free char *text = cJSON_PrintUnformatted(json);

	cJSON_Delete(json);
	buffer_string(out, text);
}

static void pod_add(const struct endpoints *endpoints, const struct endpoint_info *pod,
		    struct listing *listing)
{
	struct errmsg err = {};

	comma_add(listing);
	buffer_string(listing->out, "{\"namespace\":");
	name_add(listing->out, pod->namespace);
	buffer_string(listing->out, ",\"name\":");
	name_add(listing->out, pod->name);
	buffer_string(listing->out, ",\"sockets\":[");
	listing->first = true;
	if (pod_list(endpoints, pod, listing, &err))
		log_debug("sockets of %s/%s: %s", pod->namespace, pod->name, err.text);
	listing->first = false;
	buffer_string(listing->out, "]}");
}

/* A pod with several interfaces has several endpoints, and its sockets once. */
static bool is_first(const struct endpoints *endpoints, const struct endpoint_info *pod)
{
	struct endpoint_info first;

	return endpoints_by_pod(endpoints, pod->namespace, pod->name, &first) &&
	       first.slot == pod->slot;
}

void sockets_list(struct datapath *datapath, const struct endpoints *endpoints, uint16_t slot,
		  struct buffer *out)
{
	struct listing listing = { .out = out, .left = SOCKETS_LIST_MAX, .first = true };
	struct endpoint_info pod;
	int ret;

	table_init(&listing.known, sizeof(uint64_t), sizeof(struct tcp_socket));
	ret = tcp_sockets_foreach(datapath, known_add, &listing);
	if (ret)
		log_debug("read tcp_map: %s", strerror(-ret));
	buffer_string(out, "{\"pods\":[");
	for (uint16_t at = 0; endpoints_next(endpoints, at, &pod); at = pod.slot) {
		if ((!slot || pod.slot == slot) && is_first(endpoints, &pod))
			pod_add(endpoints, &pod, &listing);
		task_pause_now(); /* pods may come and go meanwhile: only the slot is used on */
	}
	buffer_print(out, "],\"leftOut\":%u}", listing.left_out);
	table_done(&listing.known);
}
