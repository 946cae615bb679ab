/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decision 5: what the receiver's own socket proves, and what nobody else's does.  The pods hold
 * real connections; then entries are lost or policy changes, and single packets are judged.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/lab_socket.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define INGRESS ENDPOINT_INGRESS_ISOLATED
#define EGRESS  ENDPOINT_EGRESS_ISOLATED

#define REPAIR_QUEUE_RECEIVE 1
#define REPAIR_QUEUE_SEND    2

static void connections_forget(void)
{
	struct ct_key key;

	while (!bpf_map_get_next_key(lab_map("ct_map"), NULL, &key))
		assert_int_equal(bpf_map_delete_elem(lab_map("ct_map"), &key), 0);
}

/* The next sequence number of one of the socket's queues. */
static uint32_t sequence_of(int fd, int queue)
{
	int on = 1, off = -1; /* -1: leave repair mode without a window probe */
	socklen_t len = sizeof(uint32_t);
	uint32_t seq = 0;

	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)), 0);
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, &len), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)), 0);
	return seq;
}

/* ---- connections that outlive their entries ------------------------------------------------- */

static void test_isolation_does_not_end_what_the_pod_itself_opened(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	auto_close int client = -1, server = -1;
	struct ct_entry entry;

	(void)state;
	lab_attach();
	lab_connect(POD_A, port, POD_B, service, &client, &server);
	isolate(POD_A, INGRESS);
	assert_false(lab_connection(POD_A, port, POD_B, service, IPPROTO_TCP, &entry));
	assert_true(lab_talks(client, server));
	assert_true(lab_talks(server, client));
	/* It has an entry from now on. */
	assert_true(lab_connection(POD_A, port, POD_B, service, IPPROTO_TCP, &entry));
	assert_true(entry.flags & CT_REPLIED && entry.flags & CT_ESTABLISHED);
	PASSES(TCP(POD_B, POD_A, service, port, ACK));
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, service, port + 1, ACK));
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, service + 1, port, ACK));
	DROPS(INGRESS_DENIED, TCP(POD_C, POD_A, service, port, ACK));
}

static void test_isolation_ends_what_others_opened(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	auto_close int client = -1, server = -1;

	(void)state;
	lab_attach();
	/* A serves; its listener is gone by now, and A itself may open anything. */
	lab_connect(POD_B, port, POD_A, service, &client, &server);
	assert_true(lab_talks(client, server));
	isolate(POD_A, INGRESS);
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, port, service, ACK));
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, port, service, ACK | PSH), .payload = 5);
	assert_true(lab_is_silent(client, server));
}

/* A server that takes IPv4 by its IPv6 socket is a server all the same. */
static void test_isolation_ends_what_others_opened_to_a_dual_stack_socket(void **state)
{
	uint16_t port = lab_port(), service = lab_port();
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(service) };
	auto_close int listener = -1, client = -1, server = -1;

	(void)state;
	lab_attach();
	listener = pods_socket(&lab.pods->pod[POD_A], AF_INET6, SOCK_STREAM);
	assert_int_equal(bind(listener, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(listen(listener, 1), 0);
	client = lab_connect_begin(POD_B, port, POD_A, service);
	server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(server >= 0);
	assert_true(lab_talks(client, server));
	isolate(POD_A, INGRESS);
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, port, service, ACK));
	assert_true(lab_is_silent(client, server));
}

static void test_a_connection_that_policy_forbids_now_is_not_picked_up(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	auto_close int client = -1, server = -1;

	(void)state;
	lab_attach();
	isolate(POD_A, INGRESS | EGRESS);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_TCP, service);
	lab_connect(POD_A, port, POD_B, service, &client, &server);
	connections_forget();
	PASSES(TCP(POD_B, POD_A, service, port, ACK));
	forbid(POD_A, DIR_EGRESS, POD_B);
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, service, port, ACK));
	DROPS(EGRESS_DENIED, TCP(POD_A, POD_B, port, service, ACK));
	assert_true(lab_is_silent(client, server));
}

static void test_a_full_table_breaks_no_connection(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	auto_close int client = -1, server = -1;
	struct ct_key key = { .proto = 6 };
	struct ct_entry entry = { 0 };

	(void)state;
	for (uint32_t i = 1; !bpf_map_update_elem(lab_map("ct_map"), &key, &entry, BPF_ANY); i++)
		key.a.w[0] = htonl(i);
	lab_attach();
	isolate(POD_A, INGRESS | EGRESS);
	isolate(POD_B, INGRESS | EGRESS);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_TCP, service);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, service);
	lab_connect(POD_A, port, POD_B, service, &client, &server);
	assert_true(lab_talks(client, server));
	assert_true(lab_talks(server, client));
	assert_false(lab_connection(POD_A, port, POD_B, service, IPPROTO_TCP, &entry));
}

static void test_what_the_node_opened_lives_on(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	auto_close int client = -1, server = -1;

	(void)state;
	lab_attach();
	lab_connect(NODE, port, POD_B, service, &client, &server);
	isolate(POD_B, INGRESS | EGRESS);
	assert_true(lab_talks(client, server));
	assert_true(lab_talks(server, client));
	DROPS(EGRESS_DENIED, TCP(POD_B, NODE, service, port + 1, ACK));
}

/* Nobody on this node can be asked who opened it, and the pod itself is not believed. */
static void test_without_its_entry_nobody_elsewhere_gets_answers(void **state)
{
	uint16_t port = lab_port(), service = lab_port();
	auto_close int client = -1, server = -1;

	(void)state;
	lab_attach();
	lab_impersonate(NODE, OUTSIDE);
	isolate(POD_B, EGRESS);
	lab_connect(OUTSIDE, port, POD_B, service, &client, &server);
	assert_true(lab_talks(client, server));
	assert_true(lab_talks(server, client));
	connections_forget();
	DROPS(EGRESS_DENIED, TCP(POD_B, OUTSIDE, service, port, ACK | PSH), .payload = 5);
	assert_true(lab_is_silent(server, client));
}

static void test_isolation_ends_what_the_pod_opened_to_elsewhere(void **state)
{
	uint16_t port = lab_port(), service = lab_port();
	auto_close int client = -1, server = -1;

	(void)state;
	lab_attach();
	lab_impersonate(NODE, OUTSIDE);
	lab_connect(POD_B, port, OUTSIDE, service, &client, &server);
	isolate(POD_B, EGRESS);
	PASSES(TCP(OUTSIDE, POD_B, service, port, ACK));
	DROPS(EGRESS_DENIED, TCP(POD_B, OUTSIDE, port, service, ACK));
	assert_true(lab_is_silent(client, server));
}

static void test_without_the_namespaces_number_there_is_no_evidence(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	auto_close int client = -1, server = -1;
	uint16_t slot = lab.pods->pod[POD_A].slot;
	struct endpoint_entry endpoint;

	(void)state;
	lab_attach();
	lab_connect(POD_A, port, POD_B, service, &client, &server);
	isolate(POD_A, INGRESS);
	assert_int_equal(endpoint_map_get(lab.datapath, slot, &endpoint), 0);
	endpoint.netns_id = UINT32_MAX;
	assert_int_equal(endpoint_map_set(lab.datapath, slot, &endpoint), 0);
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, service, port, ACK));
}

/* ---- the handshake -------------------------------------------------------------------------- */

static void test_a_connecting_socket_takes_its_answer_only(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog silence = { .len = 1, .filter = &nothing };
	auto_close int client = -1, listener = -1;
	uint32_t next;

	(void)state;
	lab_attach();
	/* The server hears nothing, so the client goes on trying. */
	listener = lab_listen(POD_B, service);
	assert_int_equal(
		setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &silence, sizeof(silence)), 0);
	client = lab_connect_begin(POD_A, port, POD_B, service);
	next = sequence_of(client, REPAIR_QUEUE_SEND);
	isolate(POD_A, INGRESS);
	connections_forget();
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, service, port, ACK | PSH), .ack = next);
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, service, port, RST), .seq = 1);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, service, port, SYN | ACK), .ack = next + 1);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, service, port, SYN | ACK), .ack = next - 1);
	PASSES(TCP(POD_B, POD_A, service, port, RST | ACK), .ack = next);
	PASSES(TCP(POD_B, POD_A, service, port, SYN | ACK), .ack = next);
	PASSES(TCP(POD_B, POD_A, service, port, ACK), .ack = next);
}

/* ---- forgeries ------------------------------------------------------------------------------ */

/* A socket that believes in a connection which never was. */
static int repaired_socket(enum host from, uint16_t from_port, enum host to, uint16_t port)
{
	int fd = lab_socket(from, SOCK_STREAM), on = 1;

	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)), 0);
	lab_bind(fd, from, from_port);
	lab_peer(fd, to, port);
	return fd;
}

static void test_the_senders_own_socket_proves_nothing(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	auto_close int listener = -1, forged = -1;

	(void)state;
	listener = lab_listen(POD_A, service);
	isolate(POD_A, INGRESS);
	forged = repaired_socket(POD_B, port, POD_A, service);
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, port, service, ACK | PSH), .payload = 5);
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, port, service, FIN | ACK));
	/* nor with the ports of an answer */
	close(forged);
	forged = repaired_socket(POD_B, 80, POD_A, service);
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, service, ACK | PSH), .payload = 5);
}

static void test_a_socket_in_another_pod_proves_nothing(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	auto_close int client = -1, server = -1;

	(void)state;
	lab_attach();
	/* C talks to B; B says the same to A. */
	lab_connect(POD_C, port, POD_B, service, &client, &server);
	isolate(POD_A, INGRESS);
	isolate(POD_C, INGRESS);
	PASSES(TCP(POD_B, POD_C, service, port, ACK));
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, service, port, ACK));
}

static void test_a_pod_cannot_prove_that_it_was_asked(void **state)
{
	uint16_t port = lab_port(), service = lab_port();
	auto_close int forged = -1, client = -1, server = -1;

	(void)state;
	isolate(POD_B, EGRESS);
	/* Neither by TCP_REPAIR ... */
	forged = repaired_socket(POD_B, service, OUTSIDE, port);
	PASSES(TCP(OUTSIDE, POD_B, port, service, ACK));
	DROPS(EGRESS_DENIED, TCP(POD_B, OUTSIDE, service, port, ACK | PSH), .payload = 5);
	/* ... nor by talking to itself under the other's address. */
	lab_impersonate(POD_C, OUTSIDE);
	isolate(POD_C, EGRESS);
	server = lab_listen(POD_C, service);
	client = lab_socket(POD_C, SOCK_STREAM);
	lab_bind(client, OUTSIDE, port);
	assert_int_equal(lab_try(client, POD_C, service), 0);
	PASSES(TCP(OUTSIDE, POD_C, port, service, ACK));
	DROPS(EGRESS_DENIED, TCP(POD_C, OUTSIDE, service, port, ACK | PSH), .payload = 5);
}

/* ---- resets --------------------------------------------------------------------------------- */

static void test_a_reset_ends_the_entry_only_if_it_ends_the_connection(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	auto_close int client = -1, server = -1;
	struct ct_entry entry;
	uint32_t next;

	(void)state;
	lab_attach();
	isolate(POD_A, INGRESS);
	lab_connect(POD_A, port, POD_B, service, &client, &server);
	assert_true(lab_talks(server, client));
	next = sequence_of(client, REPAIR_QUEUE_RECEIVE);
	/* Forwarded, for the receiver to judge as well; but kept in mind. */
	PASSES(TCP(POD_B, POD_A, service, port, RST), .seq = next - 1);
	PASSES(TCP(POD_B, POD_A, service, port, RST), .seq = next + (1u << 20));
	PASSES(TCP(POD_B, POD_A, service, port, RST), .seq = next + (1u << 31));
	assert_true(lab_connection(POD_A, port, POD_B, service, IPPROTO_TCP, &entry));
	assert_false(entry.flags & (CT_FIN_A | CT_FIN_B));
	/* The receiver may have bytes in its queue that it has not counted yet. */
	PASSES(TCP(POD_B, POD_A, service, port, RST), .seq = next + 1000);
	assert_true(lab_connection(POD_A, port, POD_B, service, IPPROTO_TCP, &entry));
	assert_true(entry.flags & CT_FIN_A && entry.flags & CT_FIN_B);
	assert_true(lab_talks(server, client));
	next = sequence_of(client, REPAIR_QUEUE_RECEIVE);
	PASSES(TCP(POD_B, POD_A, service, port, RST), .seq = next);
	assert_false(lab_connection(POD_A, port, POD_B, service, IPPROTO_TCP, &entry));
}

static void test_a_real_reset_is_believed(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	const struct linger now = { .l_onoff = 1 };
	auto_close int client = -1;
	struct ct_entry entry;
	int server;

	(void)state;
	lab_attach();
	isolate(POD_A, INGRESS);
	lab_connect(POD_A, port, POD_B, service, &client, &server);
	assert_true(lab_connection(POD_A, port, POD_B, service, IPPROTO_TCP, &entry));
	assert_int_equal(setsockopt(server, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	close(server);
	assert_true(lab_connection_ends(POD_A, port, POD_B, service, IPPROTO_TCP));
	assert_true(lab_is_silent(client, client));
}

/* ---- ICMP errors ---------------------------------------------------------------------------- */

static void test_an_error_passes_to_a_socket_that_could_have_caused_it(void **state)
{
	uint16_t port = lab_port();
	uint16_t service = lab_port();
	const struct segment udp = { UDP(POD_A, POD_B, port, 53) };
	const struct segment other = { UDP(POD_A, POD_B, port + 1, 53) };
	const struct segment tcp = { TCP(POD_A, POD_B, port, service, ACK) };
	auto_close int socket = -1, client = -1, server = -1;

	(void)state;
	lab_attach();
	socket = lab_socket(POD_A, SOCK_DGRAM);
	lab_bind(socket, POD_A, port);
	isolate(POD_A, INGRESS);
	PASSES(PORT_UNREACHABLE(POD_B, POD_A), .embedded = &udp);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .embedded = &other);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .embedded = &tcp);
	isolate(POD_A, 0);
	lab_connect(POD_A, port, POD_B, service, &client, &server);
	isolate(POD_A, INGRESS);
	connections_forget();
	PASSES(PORT_UNREACHABLE(OUTSIDE, POD_A), .embedded = &tcp);
	/* Not if policy forbids what it speaks of. */
	isolate(POD_A, INGRESS | EGRESS);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .embedded = &udp);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(OUTSIDE, POD_A), .embedded = &tcp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_isolation_does_not_end_what_the_pod_itself_opened),
		BOTH_FAMILIES(test_isolation_ends_what_others_opened),
		BOTH_FAMILIES(test_isolation_ends_what_others_opened_to_a_dual_stack_socket),
		BOTH_FAMILIES(test_a_connection_that_policy_forbids_now_is_not_picked_up),
		BOTH_FAMILIES(test_a_full_table_breaks_no_connection),
		BOTH_FAMILIES(test_what_the_node_opened_lives_on),
		BOTH_FAMILIES(test_without_its_entry_nobody_elsewhere_gets_answers),
		BOTH_FAMILIES(test_isolation_ends_what_the_pod_opened_to_elsewhere),
		BOTH_FAMILIES(test_a_pod_cannot_prove_that_it_was_asked),
		BOTH_FAMILIES(test_without_the_namespaces_number_there_is_no_evidence),
		BOTH_FAMILIES(test_a_connecting_socket_takes_its_answer_only),
		BOTH_FAMILIES(test_the_senders_own_socket_proves_nothing),
		BOTH_FAMILIES(test_a_socket_in_another_pod_proves_nothing),
		BOTH_FAMILIES(test_a_reset_ends_the_entry_only_if_it_ends_the_connection),
		BOTH_FAMILIES(test_a_real_reset_is_believed),
		BOTH_FAMILIES(test_an_error_passes_to_a_socket_that_could_have_caused_it),
	};

	return LAB_RUN(tests);
}
