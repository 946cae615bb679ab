/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "cni/result.h"
#include "lib/auto.h"

/* What the agent answers, with dns added. */
#define FULL                                                                               \
	"{\"interfaces\":[{\"name\":\"tdl0\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":1500}," \
	"{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:02\",\"mtu\":1500,"                   \
	"\"sandbox\":\"/run/netns/a\"}],"                                                  \
	"\"ips\":[{\"address\":\"10.0.0.2/24\",\"gateway\":\"10.0.0.1\",\"interface\":1}," \
	"{\"address\":\"fd00::2/112\",\"gateway\":\"fd00::1\",\"interface\":1}],"          \
	"\"routes\":[{\"dst\":\"0.0.0.0/0\",\"gw\":\"10.0.0.1\",\"mtu\":1400},"            \
	"{\"dst\":\"::/0\",\"gw\":\"fd00::1\",\"table\":100}],"                            \
	"\"dns\":{\"domain\":\"local\",\"nameservers\":[\"10.0.0.1\"]}}"

#define OLD_INTERFACES                                                       \
	"\"interfaces\":[{\"name\":\"tdl0\",\"mac\":\"02:00:00:00:00:01\"}," \
	"{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:02\",\"sandbox\":\"/run/netns/a\"}]"
#define OLD_ROUTES                                                 \
	"\"routes\":[{\"dst\":\"0.0.0.0/0\",\"gw\":\"10.0.0.1\"}," \
	"{\"dst\":\"::/0\",\"gw\":\"fd00::1\"}]"
#define DNS "\"dns\":{\"domain\":\"local\",\"nameservers\":[\"10.0.0.1\"]}"
#define VERSIONED(version)                                                                \
	"{\"cniVersion\":\"" version "\"," OLD_INTERFACES ","                             \
	"\"ips\":[{\"address\":\"10.0.0.2/24\",\"gateway\":\"10.0.0.1\",\"interface\":1," \
	"\"version\":\"4\"},{\"address\":\"fd00::2/112\",\"gateway\":\"fd00::1\","        \
	"\"interface\":1,\"version\":\"6\"}]," OLD_ROUTES "," DNS "}"
#define BY_FAMILY(version)                                                                    \
	"{\"cniVersion\":\"" version "\",\"ip4\":{\"ip\":\"10.0.0.2/24\","                    \
	"\"gateway\":\"10.0.0.1\",\"routes\":[{\"dst\":\"0.0.0.0/0\",\"gw\":\"10.0.0.1\"}]}," \
	"\"ip6\":{\"ip\":\"fd00::2/112\",\"gateway\":\"fd00::1\","                            \
	"\"routes\":[{\"dst\":\"::/0\",\"gw\":\"fd00::1\"}]}," DNS "}"

static const char *const rendered[CNI_VERSION_COUNT] = {
	[CNI_0_1_0] = BY_FAMILY("0.1.0"),
	[CNI_0_2_0] = BY_FAMILY("0.2.0"),
	[CNI_0_3_0] = VERSIONED("0.3.0"),
	[CNI_0_3_1] = VERSIONED("0.3.1"),
	[CNI_0_4_0] = VERSIONED("0.4.0"),
	[CNI_1_0_0] =
		"{\"cniVersion\":\"1.0.0\"," OLD_INTERFACES ","
		"\"ips\":[{\"address\":\"10.0.0.2/24\",\"gateway\":\"10.0.0.1\",\"interface\":1},"
		"{\"address\":\"fd00::2/112\",\"gateway\":\"fd00::1\",\"interface\":1}]," OLD_ROUTES
		"," DNS "}",
	[CNI_1_1_0] =
		"{\"cniVersion\":\"1.1.0\","
		"\"interfaces\":[{\"name\":\"tdl0\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":1500},"
		"{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:02\",\"mtu\":1500,"
		"\"sandbox\":\"/run/netns/a\"}],"
		"\"ips\":[{\"address\":\"10.0.0.2/24\",\"gateway\":\"10.0.0.1\",\"interface\":1},"
		"{\"address\":\"fd00::2/112\",\"gateway\":\"fd00::1\",\"interface\":1}],"
		"\"routes\":[{\"dst\":\"0.0.0.0/0\",\"gw\":\"10.0.0.1\",\"mtu\":1400},"
		"{\"dst\":\"::/0\",\"gw\":\"fd00::1\",\"table\":100}]," DNS "}",
};

static cJSON *parse(const char *text)
{
	struct cni_error err = {};
	cJSON *json = cJSON_Parse(text), *result = NULL;

	assert_non_null(json);
	if (result_parse(json, "r", CNI_INVALID_CONFIG, &result, &err))
		fail_msg("%s: %s", text, err.msg);
	cJSON_Delete(json);
	return result;
}

static void assert_json(const cJSON *json, const char *want)
{
	auto_free char *text = cJSON_PrintUnformatted(json);
	cJSON *wanted = cJSON_Parse(want);

	assert_non_null(wanted);
	if (!cJSON_Compare(json, wanted, true))
		fail_msg("got  %s\nwant %s", text, want);
	cJSON_Delete(wanted);
}

static void every_version_has_its_shape(void **state)
{
	cJSON *result = parse(FULL);

	(void)state;
	for (int v = 0; v < CNI_VERSION_COUNT; v++) {
		cJSON *out = result_render(result, (enum cni_version)v);

		assert_json(out, rendered[v]);
		cJSON_Delete(out);
	}
	cJSON_Delete(result);
}

/* Reading any version back and rendering it again changes nothing: that is what happens to the
 * result of an IPAM plugin and to prevResult. */
static void every_version_is_read(void **state)
{
	(void)state;
	for (int v = 0; v < CNI_VERSION_COUNT; v++) {
		cJSON *result = parse(rendered[v]);
		cJSON *out = result_render(result, (enum cni_version)v);

		assert_json(out, rendered[v]);
		cJSON_Delete(out);
		cJSON_Delete(result);
	}
}

static void old_shape_takes_first_address_of_family(void **state)
{
	cJSON *result = parse("{\"ips\":[{\"address\":\"10.0.0.2/24\"},"
			      "{\"address\":\"10.0.0.3/24\"}]}");
	cJSON *out = result_render(result, CNI_0_2_0);

	(void)state;
	assert_json(out, "{\"cniVersion\":\"0.2.0\",\"ip4\":{\"ip\":\"10.0.0.2/24\"}}");
	cJSON_Delete(out);
	cJSON_Delete(result);
}

static void nonsense_is_refused(void **state)
{
	static const struct {
		const char *text;
		const char *complaint;
	} cases[] = {
		{ "[]", "r: not an object" },
		{ "{\"ips\":[{}]}", "r.ips[0].address" },
		{ "{\"ips\":[{\"address\":\"10.0.0.2\"}]}", "r.ips[0].address: \"10.0.0.2\"" },
		{ "{\"ips\":[{\"address\":\"10.0.0.2/24\"},{\"address\":\"x/24\"}]}",
		  "r.ips[1].address: \"x/24\"" },
		{ "{\"ips\":[{\"address\":\"10.0.0.2/24\",\"gateway\":\"x\"}]}",
		  "r.ips[0].gateway: \"x\"" },
		{ "{\"ips\":[{\"address\":\"10.0.0.2/24\",\"interface\":0}]}",
		  "r.ips[0].interface" },
		{ "{\"interfaces\":[{\"name\":\"a\"}],"
		  "\"ips\":[{\"address\":\"10.0.0.2/24\",\"interface\":-1}]}",
		  "r.ips[0].interface" },
		{ "{\"interfaces\":[{}]}", "r.interfaces[0].name" },
		{ "{\"routes\":[{\"dst\":\"default\"}]}", "r.routes[0].dst: \"default\"" },
		{ "{\"routes\":[{\"dst\":\"0.0.0.0/0\",\"gw\":\"1\"}]}", "r.routes[0].gw: \"1\"" },
		{ "{\"ip4\":{}}", "r.ips[0].address" },
		{ "{\"ip6\":{\"ip\":\"fd00::2/200\"}}", "r.ips[0].address: \"fd00::2/200\"" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cJSON *json = cJSON_Parse(cases[i].text), *result = NULL;
		struct cni_error err = {};
		int code = result_parse(json, "r", CNI_IPAM_FAILED, &result, &err);

		if (code != CNI_IPAM_FAILED || !strstr(err.msg, cases[i].complaint))
			fail_msg("%s: code %d, \"%s\"", cases[i].text, code, err.msg);
		cJSON_Delete(json);
	}
}

static void earlier_result_comes_first(void **state)
{
	cJSON *ours = parse(FULL);
	cJSON *out;

	(void)state;
	cJSON_DeleteItemFromObject(ours, "dns");
	result_prepend(ours, parse("{\"interfaces\":[{\"name\":\"x\"},{\"name\":\"y\"}],"
				   "\"ips\":[{\"address\":\"10.9.0.2/24\",\"interface\":1}],"
				   "\"routes\":[{\"dst\":\"10.9.0.0/16\"}],"
				   "\"dns\":{\"search\":[\"s\"]}}"));
	out = result_render(ours, CNI_1_0_0);
	assert_json(out, "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"x\"},"
			 "{\"name\":\"y\"},{\"name\":\"tdl0\",\"mac\":\"02:00:00:00:00:01\"},"
			 "{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:02\","
			 "\"sandbox\":\"/run/netns/a\"}],"
			 "\"ips\":[{\"address\":\"10.9.0.2/24\",\"interface\":1},"
			 "{\"address\":\"10.0.0.2/24\",\"gateway\":\"10.0.0.1\",\"interface\":3},"
			 "{\"address\":\"fd00::2/112\",\"gateway\":\"fd00::1\",\"interface\":3}],"
			 "\"routes\":[{\"dst\":\"10.9.0.0/16\"},"
			 "{\"dst\":\"0.0.0.0/0\",\"gw\":\"10.0.0.1\"},"
			 "{\"dst\":\"::/0\",\"gw\":\"fd00::1\"}],"
			 "\"dns\":{\"search\":[\"s\"]}}");
	cJSON_Delete(out);
	cJSON_Delete(ours);
}

static void interface_is_found_in_a_sandbox_only(void **state)
{
	cJSON *result = parse(FULL);

	(void)state;
	assert_true(result_has_interface(result, "eth0"));
	assert_false(result_has_interface(result, "tdl0")); /* on the host */
	assert_false(result_has_interface(result, "eth1"));
	cJSON_Delete(result);
}

static void addresses_of_one_interface(void **state)
{
	static const char head[] = "{\"interfaces\":[{\"name\":\"eth0\"},"
				   "{\"name\":\"eth0\",\"sandbox\":\"/n\"},"
				   "{\"name\":\"dummy\",\"sandbox\":\"/n\"}],\"ips\":[";
	static const struct {
		const char *result; /* after head, unless it begins with { */
		const char *ifname;
		const char *want; /* or the complaint */
	} cases[] = {
		{ "{\"address\":\"10.0.0.5/24\",\"interface\":1,\"gateway\":\"10.0.0.1\"},"
		  "{\"address\":\"10.0.0.6/24\",\"interface\":2},"
		  "{\"address\":\"10.0.0.7/24\",\"interface\":0},"
		  "{\"address\":\"fd00::5/64\"}]}",
		  "eth0", "[{\"address\":\"10.0.0.5/24\"},{\"address\":\"fd00::5/64\"}]" },
		{ "{\"ip4\":{\"ip\":\"10.0.0.5/24\"}}", "eth0", "[{\"address\":\"10.0.0.5/24\"}]" },
		{ "]}", "eth0", "no address of eth0" },
		{ "{\"address\":\"10.0.0.7/24\",\"interface\":0}]}", "eth0", "no address of eth0" },
		{ "{\"address\":\"10.0.0.7/24\"}]}", "eth1", "no interface eth1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cJSON *result, *list = NULL, *json;
		struct cni_error err = {};
		char text[600];
		int code;

		snprintf(text, sizeof(text), "%s%s",
			 cases[i].result[0] == '{' && strstr(cases[i].result, "ip4") ? "" : head,
			 cases[i].result);
		json = cJSON_Parse(text);
		assert_int_equal(
			result_parse(json, "prevResult", CNI_INVALID_CONFIG, &result, &err), 0);
		code = result_addresses(result, cases[i].ifname, &list, &err);
		if (cases[i].want[0] == '[') {
			assert_int_equal(code, 0);
			assert_json(list, cases[i].want);
		} else {
			assert_int_equal(code, CNI_INVALID_CONFIG);
			assert_non_null(strstr(err.msg, cases[i].want));
		}
		cJSON_Delete(list);
		cJSON_Delete(result);
		cJSON_Delete(json);
	}
}

static void version_answer_lists_all(void **state)
{
	cJSON *answer = version_answer(CNI_0_4_0);

	(void)state;
	assert_json(answer, "{\"cniVersion\":\"0.4.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\","
			    "\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}");
	cJSON_Delete(answer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_version_has_its_shape),
		cmocka_unit_test(every_version_is_read),
		cmocka_unit_test(old_shape_takes_first_address_of_family),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(earlier_result_comes_first),
		cmocka_unit_test(interface_is_found_in_a_sandbox_only),
		cmocka_unit_test(addresses_of_one_interface),
		cmocka_unit_test(version_answer_lists_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
