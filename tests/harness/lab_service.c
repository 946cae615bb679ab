/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/lab_service.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>

#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

void frontend_write(enum host host, uint16_t port, const struct service *service)
{
	struct service_key key = { .addr = at(host), .port = htons(port) };

	key.proto = IPPROTO_TCP;
	assert_int_equal(service_map_set(lab.datapath, &key, service), 0);
	key.proto = IPPROTO_UDP;
	assert_int_equal(service_map_set(lab.datapath, &key, service), 0);
}

void backends_write(uint32_t id, uint32_t first, const struct target *targets, uint32_t count)
{
	struct backend_key key = { .service_id = id, .index = first };

	for (uint32_t i = 0; i < count; i++, key.index++) {
		struct backend backend = { .addr = at(targets[i].host),
					   .port = htons(targets[i].port) };

		assert_int_equal(backend_map_set(lab.datapath, &key, &backend), 0);
	}
	backend_map_del(lab.datapath, &key);
}

void service_set(uint16_t port, uint32_t id, const struct target *targets, uint32_t count)
{
	const struct service service = { .id = id, .backends = count };

	backends_write(id, 0, targets, count);
	frontend_write(SERVICE, port, &service);
}

void sent_as(const struct segment *segment, struct target from, struct target to, const char *file,
	     int line)
{
	struct frame sent = lab_frame(segment);
	struct outcome outcome = lab_send(segment);
	struct segment got;
	struct addr from_addr = at(from.host), to_addr = at(to.host);

	lab_expect_frame(&outcome, &sent, DROP_NONE, file, line);
	got = frame_read(&outcome.frame);
	_assert_true(addr_equal(&got.from, &from_addr), "source address", file, line);
	_assert_true(addr_equal(&got.to, &to_addr), "destination address", file, line);
	_assert_int_equal(got.sport, from.port, file, line);
	_assert_int_equal(got.dport, to.port, file, line);
	_assert_int_equal(got.proto, segment->proto, file, line);
	_assert_true(frame_sums_hold(&outcome.frame), "checksums", file, line);
	_assert_int_equal(outcome.frame.len, sent.len, file, line);
}

bool translation(enum host from, uint16_t sport, enum host to, uint16_t dport, uint8_t proto,
		 struct nat_entry *ret)
{
	struct flow key = { .saddr = at(from),
			    .daddr = at(to),
			    .sport = htons(sport),
			    .dport = htons(dport),
			    .proto = proto };

	return !bpf_map_lookup_elem(lab_map("nat_map"), &key, ret);
}
