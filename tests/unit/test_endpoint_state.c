/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin's requests and the state files: what is understood, what is refused and why. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "agent/endpoint/endpoint_internal.h"

#include <cmocka.h> /* last: its fail() is a macro */

static struct endpoint *requested(const char *text, struct endpoint_request *request)
{
	auto_json struct cJSON *json = NULL;
	struct errmsg err = {};

	assert_int_equal(json_parse(text, strlen(text), &json, &err), 0);
	if (endpoint_request_parse(json, request, &err) < 0) {
		print_error("%s\n", err.text);
		assert_true(false);
	}
	return request->endpoint;
}

static void test_absent_names_are_made_up(void **state)
{
	struct endpoint_request request = {};
	auto_(endpoint) struct endpoint *endpoint =
		requested("{\"containerId\":\"0123456789abcdef\",\"ifname\":\"eth0\","
			  "\"netns\":\"/run/netns/x\"}",
			  &request);

	(void)state;
	assert_string_equal(endpoint->namespace, "default");
	assert_string_equal(endpoint->name, "0123456789ab");
	assert_string_equal(endpoint->uid, "");
	assert_false(endpoint->delegated);
	assert_false(request.has_mac);
}

#define BASE "\"containerId\":\"c1\",\"ifname\":\"eth0\",\"netns\":\"/n\""

static void test_everything_that_can_be_asked_for(void **state)
{
	struct endpoint_request request = {};
	auto_(endpoint) struct endpoint *endpoint = requested(
		"{" BASE ",\"pod\":{\"namespace\":\"shop\",\"name\":\"cart\",\"uid\":\"u-1\"},"
		"\"labels\":{\"z\":\"1\",\"app\":\"cart\"},\"mtu\":9000,"
		"\"mac\":\"02:00:00:00:00:07\",\"ips\":[\"10.1.2.3\",\"fd00::7/64\"],"
		"\"portMappings\":[{\"hostPort\":8080,\"containerPort\":80,\"protocol\":\"udp\","
		"\"hostIP\":\"192.0.2.1\"},{\"hostPort\":0,\"containerPort\":81},"
		"{\"hostPort\":8081,\"containerPort\":81,\"hostIP\":\"0.0.0.0\"}]}",
		&request);

	(void)state;
	assert_string_equal(endpoint->namespace, "shop");
	assert_string_equal(endpoint->name, "cart");
	assert_string_equal(endpoint->uid, "u-1");
	assert_int_equal(endpoint->labels.count, 2);
	assert_string_equal(endpoint->labels.items[0].key, "app"); /* sorted */
	assert_int_equal(endpoint->mtu, 9000);
	assert_true(request.has_mac);
	assert_int_equal(endpoint->mac[5], 7);
	assert_int_equal(request.ip_count, 2);
	assert_int_equal(endpoint->host_port_count, 2); /* 0 is only exposed */
	assert_int_equal(endpoint->host_ports[0].proto, IPPROTO_UDP);
	assert_int_equal(endpoint->host_ports[0].port, 80);
	assert_false(addr_is_zero(&endpoint->host_ports[0].host_ip));
	assert_int_equal(endpoint->host_ports[1].host_port, 8081);
	assert_int_equal(endpoint->host_ports[1].proto, IPPROTO_TCP);
	assert_true(addr_is_zero(&endpoint->host_ports[1].host_ip));
}

static void test_delegated_addresses(void **state)
{
	struct endpoint_request request = {};
	auto_(endpoint) struct endpoint *endpoint = requested(
		"{" BASE
		",\"ipam\":{\"ips\":[{\"address\":\"10.88.0.5/16\",\"gateway\":\"10.88.0.1\"},"
		"{\"address\":\"fd01::5/64\"}],\"routes\":[{\"dst\":\"0.0.0.0/0\"},"
		"{\"dst\":\"192.0.2.0/24\",\"gw\":\"10.88.0.1\"}]}}",
		&request);
	char text[ADDR_TEXT_MAX];

	(void)state;
	assert_true(endpoint->delegated);
	assert_int_equal(endpoint->address_count, 2);
	assert_int_equal(endpoint->addresses[0].address.len, 96 + 16);
	assert_string_equal(addr_format(&endpoint->addresses[0].gateway, text), "10.88.0.1");
	assert_string_equal(addr_format(&endpoint->addresses[1].gateway, text), "fe80::1");
	assert_int_equal(endpoint->route_count, 1); /* the default route is there anyway */
}

static void test_refused_requests_name_the_field(void **state)
{
	static const struct {
		const char *text;
		const char *says;
	} cases[] = {
		{ "[]", "document: a list, where an object is needed" },
		{ "{\"ifname\":\"eth0\",\"netns\":\"/n\"}", "containerId: missing" },
		{ "{\"containerId\":\"../x\",\"ifname\":\"eth0\",\"netns\":\"/n\"}",
		  "containerId: not a container id" },
		{ "{\"containerId\":\"c\",\"ifname\":\"a/b\",\"netns\":\"/n\"}", "ifname: not an" },
		{ "{\"containerId\":\"c\",\"ifname\":\"0123456789abcdef\",\"netns\":\"/n\"}",
		  "ifname: not an" },
		{ "{\"containerId\":\"c\",\"ifname\":\"eth%d\",\"netns\":\"/n\"}",
		  "ifname: not an" },
		{ "{\"containerId\":\"c\",\"ifname\":\"\303\251\",\"netns\":\"/n\"}",
		  "ifname: not an" },
		{ "{\"containerId\":\"c\",\"ifname\":\"eth0\"}", "netns: missing" },
		{ "{" BASE ",\"pod\":{\"name\":\"a b\"}}", "pod.name: not a name" },
		{ "{" BASE ",\"pod\":7}", "pod: a number, where an object is needed" },
		{ "{" BASE ",\"labels\":{\"a\":1}}",
		  "labels.a: a number, where a string is needed" },
		{ "{" BASE ",\"labels\":{\"a\":\"1\",\"a\":\"2\"}}", "\"a\" is given twice" },
		{ "{" BASE ",\"mtu\":67}", "mtu: less than 68" },
		{ "{" BASE ",\"portMappings\":{}}", "portMappings: an object, where a list" },
		{ "{" BASE ",\"portMappings\":[{\"hostPort\":1,\"containerPort\":0}]}",
		  "portMappings[0].containerPort" },
		{ "{" BASE ",\"portMappings\":[{\"hostPort\":1,\"containerPort\":1,"
		  "\"protocol\":\"icmp\"}]}",
		  "portMappings[0].protocol: \"icmp\" is not" },
		{ "{" BASE ",\"mtu\":65536}", "mtu: 65536 is not between" },
		{ "{" BASE ",\"mac\":\"01:00:00:00:00:00\"}", "mac: \"01:00" },
		{ "{" BASE ",\"ips\":[\"10.0.0.1\",\"10.0.0.2\"]}", "ips: an interface has" },
		{ "{" BASE ",\"chained\":true}", "chained: without the addresses" },
		{ "{" BASE ",\"chained\":1}", "chained: a number, where a boolean" },
		{ "{" BASE ",\"ips\":[\"10.0.0\"]}", "ips[0]: \"10.0.0\" is not an address" },
		{ "{" BASE ",\"ipam\":{\"ips\":[]}}", "ipam.ips: an interface has" },
		{ "{" BASE ",\"ipam\":{\"ips\":[{\"address\":\"10.0.0.1\"}]}}",
		  "ipam.ips[0].address: \"10.0.0.1\" is not an address with" },
		{ "{" BASE ",\"ipam\":{\"ips\":[{\"address\":\"127.0.0.5/8\"}]}}",
		  "ipam.ips[0].address: not an address that a pod can have" },
		{ "{" BASE
		  ",\"ipam\":{\"ips\":[{\"address\":\"10.0.0.1/8\",\"gateway\":\"fd::1\"}]}}",
		  "ipam.ips[0].gateway: not of the address's family" },
		{ "{" BASE ",\"ipam\":{\"ips\":[{\"address\":\"10.0.0.1/8\"}],"
		  "\"routes\":[{\"dst\":\"x\"}]}}",
		  "ipam.routes[0].dst: \"x\" is not a prefix" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_json struct cJSON *json = NULL;
		struct endpoint_request request = {};
		struct errmsg err = {};

		assert_int_equal(json_parse(cases[i].text, strlen(cases[i].text), &json, &err), 0);
		if (endpoint_request_parse(json, &request, &err) != -EINVAL ||
		    !strstr(err.text, cases[i].says)) {
			print_error("%s: %s\n", cases[i].text, err.text);
			assert_true(false);
		}
		assert_null(request.endpoint);
	}
}

static struct endpoint *sample(void)
{
	struct endpoint_request request = {};
	struct endpoint *endpoint = requested(
		"{" BASE ",\"pod\":{\"namespace\":\"shop\",\"name\":\"cart\",\"uid\":\"u\"},"
		"\"labels\":{\"app\":\"cart\"},\"mtu\":1500,\"mac\":\"02:00:00:00:00:07\","
		"\"ipam\":{\"ips\":[{\"address\":\"10.88.0.5/16\",\"gateway\":\"10.88.0.1\"}],"
		"\"routes\":[{\"dst\":\"192.0.2.0/24\"}]},"
		"\"portMappings\":[{\"hostPort\":8080,\"containerPort\":80,\"hostIP\":\"::1\"}]}",
		&request);

	endpoint_set_slot(endpoint, 7);
	endpoint->state = ENDPOINT_READY;
	endpoint->netns.cookie = UINT64_MAX;
	endpoint->netns.inode = 4026531840;
	endpoint->sequence = 1ULL << 60;
	return endpoint;
}

static void test_state_file_reads_back_the_same(void **state)
{
	auto_(endpoint) struct endpoint *endpoint = sample();
	auto_free char *text = endpoint_state_print(endpoint);
	auto_(endpoint) struct endpoint *again = NULL;
	auto_free char *text_again = NULL;
	struct errmsg err = {};

	(void)state;
	assert_non_null(text);
	if (endpoint_state_parse(text, strlen(text), &again, &err) < 0)
		print_error("%s\n", err.text);
	assert_non_null(again);
	text_again = endpoint_state_print(again);
	assert_string_equal(text, text_again);
	assert_true(again->netns.cookie == UINT64_MAX);
	assert_true(again->sequence == 1ULL << 60);
	assert_int_equal(again->route_count, 1);
	assert_int_equal(again->addresses[0].address.len, 96 + 16);
}

static void test_state_file_behind_another_plugin(void **state)
{
	auto_(endpoint) struct endpoint *endpoint = sample();
	auto_(endpoint) struct endpoint *again = NULL;
	auto_free char *text = NULL;
	struct errmsg err = {};

	(void)state;
	endpoint->chained = true;
	endpoint->host_ifindex = 12;
	endpoint->pod_ifindex = 2;
	snprintf(endpoint->host_ifname, sizeof(endpoint->host_ifname), "veth1234abcd");
	text = endpoint_state_print(endpoint);
	assert_int_equal(endpoint_state_parse(text, strlen(text), &again, &err), 0);
	assert_true(again->chained);
	assert_int_equal(endpoint_ifindex(again), 12);
	assert_int_equal(again->pod_ifindex, 2);
	assert_string_equal(again->host_ifname, "veth1234abcd");
	memcpy(strstr(text, "\"hostIfindex\":12"), "\"hostIfindex\":0 ", 16);
	endpoint_free(take_ptr(again));
	assert_int_equal(endpoint_state_parse(text, strlen(text), &again, &err), -EINVAL);
	assert_non_null(strstr(err.text, "hostIfindex"));
}

/* Every prefix of a state file (a write that was cut off) and every single changed byte is either
 * understood or refused: no crash, no leak (sanitizers watch). */
static void test_damaged_state_files_do_no_harm(void **state)
{
	auto_(endpoint) struct endpoint *endpoint = sample();
	auto_free char *text = endpoint_state_print(endpoint);
	size_t len = strlen(text);

	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		struct endpoint *read = NULL;
		struct errmsg err = {};

		assert_true(endpoint_state_parse(text, cut, &read, &err) < 0);
		assert_null(read);
	}
	for (size_t i = 0; i < len; i++) {
		static const char changes[] = { '\0', '"', '9', '{', ']', '-', 'x' };
		char was = text[i];

		for (size_t j = 0; j < sizeof(changes); j++) {
			auto_(endpoint) struct endpoint *read = NULL;
			struct errmsg err = {};

			text[i] = changes[j];
			if (endpoint_state_parse(text, len, &read, &err) < 0)
				assert_true(err.text[0] != '\0');
		}
		text[i] = was;
	}
}

static void test_wrong_state_files_say_why(void **state)
{
	static const struct {
		const char *from;
		const char *to;
		const char *says;
	} cases[] = {
		{ "\"version\":2", "\"version\":3",
		  "version 3 of this file, but this agent reads version 2" },
		{ "\"slot\":7", "\"slot\":0", "slot: 0 is not" },
		{ "\"ready\"", "\"happy\"", "state: \"happy\" is not a state" },
		{ "\"10.88.0.5\"", "\"10.88.0\"  ", "addresses[0].address: not an address" },
		{ "\"bits\":112", "\"bits\":12 ", "addresses[0].bits: 12 is not" },
		{ "\"mac\":\"02", "\"mac\":\"zz", "mac: not a MAC" },
		{ "\"c1\"", "\"/1\"", "containerId: not a container id" },
	};
	auto_(endpoint) struct endpoint *endpoint = sample();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_free char *text = endpoint_state_print(endpoint);
		struct endpoint *read = NULL;
		struct errmsg err = {};
		char *at = strstr(text, cases[i].from);

		assert_non_null(at);
		memcpy(at, cases[i].to, strlen(cases[i].to));
		assert_int_equal(endpoint_state_parse(text, strlen(text), &read, &err),
				 i == 0 ? -EPROTO : -EINVAL);
		if (!strstr(err.text, cases[i].says))
			print_error("%s: %s\n", cases[i].to, err.text);
		assert_non_null(strstr(err.text, cases[i].says));
	}
}

static void test_result_is_what_the_contract_says(void **state)
{
	auto_(endpoint) struct endpoint *endpoint = sample();
	auto_json struct cJSON *result = endpoint_result(endpoint);
	auto_free char *text = cJSON_PrintUnformatted(result);

	(void)state;
	assert_string_equal(
		text,
		"{\"interfaces\":[{\"name\":\"tdl7\",\"mac\":\"00:00:00:00:00:00\",\"mtu\":1500},"
		"{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:07\",\"mtu\":1500,\"sandbox\":\"/"
		"n\"}],"
		"\"ips\":[{\"address\":\"10.88.0.5/"
		"16\",\"gateway\":\"10.88.0.1\",\"interface\":1}],"
		"\"routes\":[{\"dst\":\"0.0.0.0/0\",\"gw\":\"10.88.0.1\"},"
		"{\"dst\":\"192.0.2.0/24\",\"gw\":\"10.88.0.1\"}]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_absent_names_are_made_up),
		cmocka_unit_test(test_everything_that_can_be_asked_for),
		cmocka_unit_test(test_delegated_addresses),
		cmocka_unit_test(test_refused_requests_name_the_field),
		cmocka_unit_test(test_state_file_reads_back_the_same),
		cmocka_unit_test(test_state_file_behind_another_plugin),
		cmocka_unit_test(test_damaged_state_files_do_no_harm),
		cmocka_unit_test(test_wrong_state_files_say_why),
		cmocka_unit_test(test_result_is_what_the_contract_says),
	};

	return cmocka_run_group_tests_name("endpoint state", tests, NULL, NULL);
}
