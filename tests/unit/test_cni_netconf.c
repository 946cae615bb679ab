/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "cni/netconf.h"
#include "lib/auto.h"

#define HEAD "\"cniVersion\":\"1.1.0\",\"name\":\"net\",\"type\":\"tendril\""

struct netconf_case {
	const char *text;
	int code;
	const char *complaint; /* in the message */
	enum cni_version version;
};

static const struct netconf_case parse_cases[] = {
	{ "{" HEAD "}", 0, NULL, CNI_1_1_0 },
	{ " {" HEAD "}\n\t ", 0, NULL, CNI_1_1_0 },
	{ "{" HEAD ",\"never\":{\"seen\":1}}", 0, NULL, CNI_1_1_0 },
	{ "{" HEAD ",\"ipam\":{}}", 0, NULL, CNI_1_1_0 },
	{ "{" HEAD ",\"ipam\":null,\"prevResult\":null,\"socket\":null}", 0, NULL, CNI_1_1_0 },
	/* the version asked for */
	{ "{\"cniVersion\":\"0.1.0\",\"name\":\"n\",\"type\":\"t\"}", 0, NULL, CNI_0_1_0 },
	{ "{\"cniVersion\":\"0.2.0\",\"name\":\"n\",\"type\":\"t\"}", 0, NULL, CNI_0_2_0 },
	{ "{\"cniVersion\":\"0.3.0\",\"name\":\"n\",\"type\":\"t\"}", 0, NULL, CNI_0_3_0 },
	{ "{\"cniVersion\":\"0.3.1\",\"name\":\"n\",\"type\":\"t\"}", 0, NULL, CNI_0_3_1 },
	{ "{\"cniVersion\":\"0.4.0\",\"name\":\"n\",\"type\":\"t\"}", 0, NULL, CNI_0_4_0 },
	{ "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"t\"}", 0, NULL, CNI_1_0_0 },
	{ "{\"name\":\"n\",\"type\":\"t\"}", 0, NULL, CNI_0_1_0 },
	{ "{\"cniVersion\":\"\",\"name\":\"n\",\"type\":\"t\"}", 0, NULL, CNI_0_1_0 },
	{ "{\"cniVersions\":[\"0.4.0\",\"1.0.0\",\"9.0.0\"],\"name\":\"n\",\"type\":\"t\"}", 0,
	  NULL, CNI_1_0_0 },
	{ "{\"cniVersion\":\"0.3.1\",\"cniVersions\":[\"1.0.0\"],\"name\":\"n\",\"type\":\"t\"}", 0,
	  NULL, CNI_0_3_1 },
	{ "{\"cniVersion\":\"1.2.0\",\"name\":\"n\",\"type\":\"t\"}", CNI_INCOMPATIBLE_VERSION,
	  "1.2.0", CNI_1_1_0 },
	{ "{\"cniVersion\":\"1.1\",\"name\":\"n\",\"type\":\"t\"}", CNI_INCOMPATIBLE_VERSION,
	  "1.1 ", CNI_1_1_0 },
	{ "{\"cniVersions\":[\"2.0.0\"],\"name\":\"n\",\"type\":\"t\"}", CNI_INCOMPATIBLE_VERSION,
	  "cniVersions", CNI_1_1_0 },
	{ "{\"cniVersion\":1,\"name\":\"n\",\"type\":\"t\"}", CNI_INVALID_CONFIG,
	  "cniVersion: a number, where a string is needed", CNI_1_1_0 },
	{ "{\"cniVersions\":[1],\"name\":\"n\",\"type\":\"t\"}", CNI_INVALID_CONFIG,
	  "cniVersions[0]: a number, where a string is needed", CNI_1_1_0 },
	/* errors are in the version asked for too */
	{ "{\"cniVersion\":\"0.3.1\",\"type\":\"t\"}", CNI_INVALID_CONFIG, "name: missing",
	  CNI_0_3_1 },
	/* what is not JSON */
	{ "", CNI_DECODING_FAILURE, "line 1", CNI_1_1_0 },
	{ "{", CNI_DECODING_FAILURE, "not valid JSON", CNI_1_1_0 },
	{ "[]", CNI_DECODING_FAILURE, "not a JSON object", CNI_1_1_0 },
	{ "{" HEAD "} {}", CNI_DECODING_FAILURE, "column", CNI_1_1_0 },
	/* fields of every command */
	{ "{\"name\":\"n\"}", CNI_INVALID_CONFIG, "type: missing", CNI_0_1_0 },
	{ "{\"name\":7,\"type\":\"t\"}", CNI_INVALID_CONFIG,
	  "name: a number, where a string is needed", CNI_0_1_0 },
	{ "{\"name\":\"\",\"type\":\"t\"}", CNI_INVALID_CONFIG, "name: ", CNI_0_1_0 },
	{ "{\"name\":\"-n\",\"type\":\"t\"}", CNI_INVALID_CONFIG, "name: ", CNI_0_1_0 },
	{ "{\"name\":\"a/b\",\"type\":\"t\"}", CNI_INVALID_CONFIG, "name: ", CNI_0_1_0 },
	{ "{" HEAD ",\"socket\":1}", CNI_INVALID_CONFIG,
	  "socket: a number, where a string is needed", CNI_1_1_0 },
	{ "{" HEAD ",\"socket\":\"run/x\"}", CNI_INVALID_CONFIG, "absolute", CNI_1_1_0 },
	{ "{" HEAD ",\"socket\":\"/123456789/123456789/123456789/123456789/123456789/123456789/"
	  "123456789/123456789/123456789/123456789/12345678\"}",
	  CNI_INVALID_CONFIG, "socket: longer than the 107", CNI_1_1_0 },
	{ "{" HEAD ",\"ipam\":[]}", CNI_INVALID_CONFIG, "ipam: a list, where an object is needed",
	  CNI_1_1_0 },
	{ "{" HEAD ",\"ipam\":{\"type\":{}}}", CNI_INVALID_CONFIG,
	  "ipam.type: an object, where a string is needed", CNI_1_1_0 },
	{ "{" HEAD ",\"ipam\":{\"type\":\"../bin/sh\"}}", CNI_INVALID_CONFIG, "ipam.type",
	  CNI_1_1_0 },
	{ "{" HEAD ",\"ipam\":{\"type\":\"a/b\"}}", CNI_INVALID_CONFIG, "ipam.type", CNI_1_1_0 },
	{ "{" HEAD ",\"ipam\":{\"type\":\"..\"}}", CNI_INVALID_CONFIG, "ipam.type", CNI_1_1_0 },
	{ "{" HEAD ",\"chained\":true,\"ipam\":{\"type\":\"host-local\"}}", 0, NULL, CNI_1_1_0 },
	{ "{" HEAD ",\"chained\":1}", CNI_INVALID_CONFIG, "chained: a number, where", CNI_1_1_0 },
	{ "{" HEAD ",\"prevResult\":[]}", CNI_INVALID_CONFIG,
	  "prevResult: a list, where an object is needed", CNI_1_1_0 },
	/* fields of the pod are ADD's affair */
	{ "{" HEAD ",\"mtu\":\"x\",\"args\":3,\"dns\":[]}", 0, NULL, CNI_1_1_0 },
};

static void common_fields_are_validated(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(parse_cases); i++) {
		const struct netconf_case *c = &parse_cases[i];
		struct cni_error err = {};
		struct netconf conf;
		int code = netconf_parse(c->text, strlen(c->text), &conf, &err);

		if (code != c->code || conf.version != c->version ||
		    (c->complaint && !strstr(err.msg, c->complaint)))
			fail_msg("%s: code %d, version %s, \"%s\"", c->text, code,
				 version_text(conf.version), err.msg);
		netconf_done(&conf);
	}
}

static void defaults_are_filled_in(void **state)
{
	static const char text[] = "{\"name\":\"n\",\"type\":\"t\",\"ipam\":{\"type\":\"\"}}";
	struct cni_error err = {};
	struct netconf conf;

	(void)state;
	assert_int_equal(netconf_parse(text, strlen(text), &conf, &err), 0);
	assert_string_equal(conf.socket, NETCONF_SOCKET_DEFAULT);
	assert_null(conf.ipam_type);
	assert_null(conf.prev_result);
	/* A delegated plugin is told the version too. */
	assert_string_equal(cJSON_GetObjectItem(conf.json, "cniVersion")->valuestring, "0.1.0");
	netconf_done(&conf);
}

struct pod_case {
	const char *members;
	int code;
	const char *text; /* the complaint, or how the pod prints */
};

static const struct pod_case pod_cases[] = {
	{ "", 0, "0  {} []" },
	{ ",\"mtu\":0", 0, "0  {} []" },
	{ ",\"mtu\":9000", 0, "9000  {} []" },
	{ ",\"mtu\":67", CNI_INVALID_CONFIG, "mtu: 67" },
	{ ",\"mtu\":65536", CNI_INVALID_CONFIG, "mtu: " },
	{ ",\"mtu\":-1", CNI_INVALID_CONFIG, "mtu: " },
	{ ",\"mtu\":1500.5", CNI_INVALID_CONFIG, "mtu: " },
	{ ",\"mtu\":\"1500\"", CNI_INVALID_CONFIG, "mtu: a string, where a number is needed" },
	{ ",\"ipMasq\":false", 0, "0  {} []" },
	{ ",\"ipMasq\":true", CNI_UNSUPPORTED_FIELD, "ipMasq: true" },
	{ ",\"ipMasq\":1", CNI_INVALID_CONFIG, "ipMasq: a number, where a boolean is needed" },
	{ ",\"args\":[]", CNI_INVALID_CONFIG, "args: a list, where an object is needed" },
	{ ",\"chained\":true", 0, "0  {} []" },
	{ ",\"chained\":true,\"ipam\":{}", 0, "0  {} []" },
	{ ",\"chained\":true,\"ipam\":{\"type\":\"host-local\"}", CNI_INVALID_CONFIG,
	  "ipam: with \"chained\" the plugin before" },
	{ ",\"chained\":true,\"mtu\":1400", CNI_INVALID_CONFIG, "mtu: with \"chained\"" },
	{ ",\"args\":{\"other\":7}", 0, "0  {} []" },
	{ ",\"args\":{\"cni\":7}", CNI_INVALID_CONFIG,
	  "args.cni: a number, where an object is needed" },
	{ ",\"args\":{\"cni\":{\"labels\":[{\"key\":\"app\",\"value\":\"web\"},"
	  "{\"key\":\"tier\",\"value\":\"\"}]}}",
	  0, "0  {\"app\":\"web\",\"tier\":\"\"} []" },
	{ ",\"args\":{\"cni\":{\"labels\":{\"app\":\"web\"}}}", CNI_INVALID_CONFIG,
	  "args.cni.labels: an object, where a list is needed" },
	{ ",\"args\":{\"cni\":{\"labels\":[{\"key\":\"app\"}]}}", CNI_INVALID_CONFIG,
	  "args.cni.labels[0].value: missing" },
	{ ",\"args\":{\"cni\":{\"labels\":[{\"key\":\"\",\"value\":\"x\"}]}}", CNI_INVALID_CONFIG,
	  "args.cni.labels[0].key: empty" },
	{ ",\"args\":{\"cni\":{\"labels\":[{\"key\":\"a\",\"value\":\"x\"},"
	  "{\"key\":\"a\",\"value\":\"y\"}]}}",
	  CNI_INVALID_CONFIG, "args.cni.labels[1].key: a is given twice" },
	{ ",\"args\":{\"cni\":{\"ips\":[\"10.0.0.5/24\",\"fd00::5\"]}}", 0,
	  "0  {} [\"10.0.0.5\",\"fd00::5\"]" },
	{ ",\"args\":{\"cni\":{\"ips\":[\"10.0.0.5/33\"]}}", CNI_INVALID_CONFIG,
	  "args.cni.ips[0]: \"10.0.0.5/33\"" },
	{ ",\"args\":{\"cni\":{\"ips\":[\"10.0.0.5\",\"web\"]}}", CNI_INVALID_CONFIG,
	  "args.cni.ips[1]: \"web\"" },
	{ ",\"args\":{\"cni\":{\"ips\":\"10.0.0.5\"}}", CNI_INVALID_CONFIG,
	  "args.cni.ips: a string, where a list is needed" },
	{ ",\"args\":{\"cni\":{\"mac\":\"02:00:00:00:00:AA\"}}", 0, "0 02:00:00:00:00:aa {} []" },
	{ ",\"args\":{\"cni\":{\"mac\":\"zz\"}}", CNI_INVALID_CONFIG, "args.cni.mac: \"zz\"" },
	{ ",\"args\":{\"cni\":{\"mac\":\"03:00:00:00:00:01\"}}", CNI_INVALID_CONFIG,
	  "args.cni.mac: " },
	/* the runtime's word wins over the configuration's */
	{ ",\"args\":{\"cni\":{\"ips\":[\"10.0.0.5\"],\"mac\":\"02:00:00:00:00:01\"}},"
	  "\"runtimeConfig\":{\"ips\":[\"10.0.0.6/24\"],\"mac\":\"02:00:00:00:00:02\"}",
	  0, "0 02:00:00:00:00:02 {} [\"10.0.0.6\"]" },
	{ ",\"args\":{\"cni\":{\"ips\":[\"10.0.0.5\"]}},\"runtimeConfig\":{\"ips\":[]}", 0,
	  "0  {} [\"10.0.0.5\"]" },
	{ ",\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":80}],\"bandwidth\":{},"
	  "\"aliases\":{\"net\":[\"a\"]}}",
	  0, "0  {} []" },
	{ ",\"runtimeConfig\":[]", CNI_INVALID_CONFIG,
	  "runtimeConfig: a list, where an object is needed" },
	{ ",\"runtimeConfig\":{\"mac\":7}", CNI_INVALID_CONFIG,
	  "runtimeConfig.mac: a number, where a string is needed" },
	{ ",\"capabilities\":{\"portMappings\":true}", 0, "0  {} []" },
	{ ",\"capabilities\":[]", CNI_INVALID_CONFIG,
	  "capabilities: a list, where an object is needed" },
	{ ",\"dns\":{\"nameservers\":[\"10.0.0.1\"],\"domain\":\"x\"}", 0, "0  {} []" },
	{ ",\"dns\":[]", CNI_INVALID_CONFIG, "dns: a list, where an object is needed" },
	{ ",\"dns\":{\"search\":\"x\"}", CNI_INVALID_CONFIG,
	  "dns.search: a string, where a list is needed" },
	{ ",\"dns\":{\"options\":[1]}", CNI_INVALID_CONFIG,
	  "dns.options[0]: a number, where a string is needed" },
	{ ",\"runtimeConfig\":{\"dns\":[]}", CNI_INVALID_CONFIG,
	  "runtimeConfig.dns: a list, where an object is needed" },
	{ ",\"runtimeConfig\":{\"dns\":{\"servers\":[7]}}", CNI_INVALID_CONFIG,
	  "runtimeConfig.dns.servers[0]: a number, where a string is needed" },
	{ ",\"runtimeConfig\":{\"portMappings\":{}}", CNI_INVALID_CONFIG,
	  "runtimeConfig.portMappings: an object, where a list is needed" },
	{ ",\"dns\":{\"domain\":[]}", CNI_INVALID_CONFIG,
	  "dns.domain: a list, where a string is needed" },
};

static void pod_fields_are_validated(void **state)
{
	static const struct cni_args no_args;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pod_cases); i++) {
		const struct pod_case *c = &pod_cases[i];
		auto_free char *text = NULL, *printed = NULL, *labels = NULL, *ips = NULL;
		struct cni_error err = {};
		struct netconf_pod pod;
		struct netconf conf;
		int code;

		assert_true(asprintf(&text, "{" HEAD "%s}", c->members) > 0);
		assert_int_equal(netconf_parse(text, strlen(text), &conf, &err), 0);
		code = netconf_pod_load(&conf, &no_args, &pod, &err);
		labels = cJSON_PrintUnformatted(pod.labels);
		ips = cJSON_PrintUnformatted(pod.ips);
		assert_true(asprintf(&printed, "%u %s %s %s", pod.mtu, pod.mac, labels, ips) > 0);
		if (code != c->code || !strstr(code ? err.msg : printed, c->text))
			fail_msg("%s: code %d, \"%s\", %s", text, code, err.msg, printed);
		netconf_pod_done(&pod);
		netconf_done(&conf);
	}
}

/* DEL needs no address: it must not fail, nor ask a plugin that was never asked to ADD. */
static void chained_runs_no_ipam_plugin(void **state)
{
	static const char text[] = "{" HEAD ",\"chained\":true,\"ipam\":{\"type\":\"host-local\"}}";
	struct cni_error err = {};
	struct netconf conf;

	(void)state;
	assert_int_equal(netconf_parse(text, strlen(text), &conf, &err), 0);
	assert_true(conf.chained);
	assert_null(conf.ipam_type);
	netconf_done(&conf);
}

static void environment_asks_for_address_and_mac(void **state)
{
	static const char text[] = "{" HEAD "}";
	static const struct cni_args args = { .ip = "10.0.0.9", .mac = "02:00:00:00:00:09" };
	struct cni_error err = {};
	struct netconf_pod pod;
	struct netconf conf;

	(void)state;
	assert_int_equal(netconf_parse(text, strlen(text), &conf, &err), 0);
	assert_int_equal(netconf_pod_load(&conf, &args, &pod, &err), 0);
	assert_string_equal(pod.mac, "02:00:00:00:00:09");
	assert_string_equal(cJSON_GetArrayItem(pod.ips, 0)->valuestring, "10.0.0.9");
	netconf_pod_done(&pod);
	netconf_done(&conf);
}

static void labels_are_bounded(void **state)
{
	static const struct cni_args no_args;
	cJSON *json = cJSON_Parse("{" HEAD ",\"args\":{\"cni\":{\"labels\":[]}}}");
	cJSON *labels = cJSON_GetObjectItem(
		cJSON_GetObjectItem(cJSON_GetObjectItem(json, "args"), "cni"), "labels");
	auto_free char *text = NULL;
	struct cni_error err = {};
	struct netconf_pod pod;
	struct netconf conf;

	(void)state;
	for (int i = 0; i < 257; i++)
		cJSON_AddItemToArray(labels, cJSON_Parse("{\"key\":\"a\",\"value\":\"b\"}"));
	text = cJSON_PrintUnformatted(json);
	cJSON_Delete(json);
	assert_int_equal(netconf_parse(text, strlen(text), &conf, &err), 0);
	assert_int_equal(netconf_pod_load(&conf, &no_args, &pod, &err), CNI_INVALID_CONFIG);
	assert_non_null(strstr(err.msg, "args.cni.labels: more than 256"));
	netconf_pod_done(&pod);
	netconf_done(&conf);
}

static void attachments_are_validated(void **state)
{
	static const struct pod_case cases[] = {
		{ ",\"cni.dev/valid-attachments\":[]", 0, "[]" },
		{ ",\"cni.dev/valid-attachments\":[{\"containerID\":\"a\",\"ifname\":\"eth0\","
		  "\"more\":1}]",
		  0, "[{\"containerID\":\"a\",\"ifname\":\"eth0\"}]" },
		{ "", CNI_INVALID_CONFIG, "[cni.dev/valid-attachments]: missing" },
		{ ",\"cni.dev/valid-attachments\":null", CNI_INVALID_CONFIG, "missing" },
		{ ",\"cni.dev/valid-attachments\":{}", CNI_INVALID_CONFIG,
		  "an object, where a list is needed" },
		{ ",\"cni.dev/valid-attachments\":[{\"containerID\":\"a\",\"ifname\":\"e\"},{}]",
		  CNI_INVALID_CONFIG, "[1].containerID: missing" },
		{ ",\"cni.dev/valid-attachments\":[\"a\"]", CNI_INVALID_CONFIG,
		  "[0]: a string, where an object is needed" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_free char *text = NULL, *printed = NULL;
		struct cni_error err = {};
		struct netconf conf;
		cJSON *list = NULL;
		int code;

		assert_true(asprintf(&text, "{" HEAD "%s}", cases[i].members) > 0);
		assert_int_equal(netconf_parse(text, strlen(text), &conf, &err), 0);
		code = netconf_attachments(&conf, &list, &err);
		printed = cJSON_PrintUnformatted(list);
		if (code != cases[i].code || !strstr(code ? err.msg : printed, cases[i].text))
			fail_msg("%s: code %d, \"%s\"", text, code, err.msg);
		cJSON_Delete(list);
		netconf_done(&conf);
	}
}

static void version_question_may_be_anything(void **state)
{
	static const struct {
		const char *text;
		int code;
		enum cni_version version;
	} cases[] = {
		{ "", 0, CNI_1_1_0 },
		{ " \n", 0, CNI_1_1_0 },
		{ "{}", 0, CNI_1_1_0 },
		{ "{\"cniVersion\":\"0.4.0\"}", 0, CNI_0_4_0 },
		{ "{\"cniVersion\":\"7.0.0\"}", 0, CNI_1_1_0 },
		{ "{\"cniVersion\":4}", CNI_INVALID_CONFIG, CNI_1_1_0 },
		{ "nonsense", CNI_DECODING_FAILURE, CNI_1_1_0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cni_error err = {};
		enum cni_version version;

		assert_int_equal(
			netconf_version(cases[i].text, strlen(cases[i].text), &version, &err),
			cases[i].code);
		assert_int_equal(version, cases[i].version);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(common_fields_are_validated),
		cmocka_unit_test(defaults_are_filled_in),
		cmocka_unit_test(pod_fields_are_validated),
		cmocka_unit_test(chained_runs_no_ipam_plugin),
		cmocka_unit_test(environment_asks_for_address_and_mac),
		cmocka_unit_test(labels_are_bounded),
		cmocka_unit_test(attachments_are_validated),
		cmocka_unit_test(version_question_may_be_anything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
