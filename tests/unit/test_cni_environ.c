/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cni/environ.h"
#include "lib/auto.h"

#define WIRE (ENV_CONTAINER | ENV_NETNS)
#define TEN  "0123456789"

static void variable_set(const char *name, const char *value)
{
	if (value)
		assert_int_equal(setenv(name, value, 1), 0);
	else
		assert_int_equal(unsetenv(name), 0);
}

struct environ_case {
	const char *name;
	const char *id;
	const char *netns;
	const char *ifname;
	unsigned int needed;
	const char *complaint; /* NULL: accepted; else every word of it is in the message */
};

static const struct environ_case environ_cases[] = {
	{ "everything given", "a1", "/run/netns/a", "eth0", WIRE, NULL },
	{ "a long runtime's id", "cri-sandbox_1.a-b", "/run/netns/a", "eth0", WIRE, NULL },
	{ "fifteen characters of name", "a", "/n", "abcdefghijklmno", WIRE, NULL },
	{ "DEL needs no namespace", "a", NULL, "eth0", ENV_CONTAINER, NULL },
	{ "GC needs nothing", NULL, NULL, NULL, 0, NULL },
	{ "GC does not look at the rest", "/", NULL, "///", 0, NULL },
	{ "all missing are named", NULL, NULL, NULL, WIRE,
	  "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME" },
	{ "empty is missing", "", "/n", "eth0", WIRE, "missing: CNI_CONTAINERID" },
	{ "no namespace", "a", NULL, "eth0", WIRE, "missing: CNI_NETNS" },
	{ "id with a slash", "../a", "/n", "eth0", WIRE, "CNI_CONTAINERID" },
	{ "id with a slash inside", "a/b", "/n", "eth0", WIRE, "CNI_CONTAINERID" },
	{ "id begins with a dot", ".a", "/n", "eth0", WIRE, "CNI_CONTAINERID" },
	{ "id with a space", "a b", "/n", "eth0", WIRE, "CNI_CONTAINERID" },
	{ "sixteen characters of name", "a", "/n", "abcdefghijklmnop", WIRE, "CNI_IFNAME" },
	{ "name with a slash", "a", "/n", "et/h0", WIRE, "CNI_IFNAME" },
	{ "name with a colon", "a", "/n", "eth0:1", WIRE, "CNI_IFNAME" },
	{ "name with a space", "a", "/n", "eth 0", WIRE, "CNI_IFNAME" },
	{ "name with a newline", "a", "/n", "eth\n", WIRE, "CNI_IFNAME" },
	{ "name is a dot", "a", "/n", ".", WIRE, "CNI_IFNAME" },
	{ "name is two dots", "a", "/n", "..", WIRE, "CNI_IFNAME" },
};

static void environment_is_validated(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(environ_cases); i++) {
		const struct environ_case *c = &environ_cases[i];
		struct cni_environ env;
		struct cni_error err = {};
		int code;

		variable_set("CNI_CONTAINERID", c->id);
		variable_set("CNI_NETNS", c->netns);
		variable_set("CNI_IFNAME", c->ifname);
		code = environ_load(c->needed, &env, &err);
		if (code != (c->complaint ? CNI_INVALID_ENVIRONMENT : 0) ||
		    (c->complaint && !strstr(err.msg, c->complaint)))
			fail_msg("%s: code %d, \"%s\"", c->name, code, err.msg);
		if (!c->complaint)
			assert_string_equal(env.ifname, c->ifname ? c->ifname : "");
	}
}

static void args_name_the_pod(void **state)
{
	struct cni_args args;
	struct cni_error err = {};

	(void)state;
	assert_int_equal(args_parse("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;"
				    "K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=1-2;"
				    "IP=10.1.2.3;MAC=02:00:00:00:00:01;OTHER=a=b;",
				    &args, &err),
			 0);
	assert_string_equal(args.pod_namespace, "shop");
	assert_string_equal(args.pod_name, "cart-0");
	assert_string_equal(args.pod_uid, "1-2");
	assert_string_equal(args.ip, "10.1.2.3");
	assert_string_equal(args.mac, "02:00:00:00:00:01");
}

static void args_may_be_empty(void **state)
{
	static const char *const texts[] = { "", ";", ";;", "K8S_POD_NAME=", "X=;K8S_POD_UID=;" };
	struct cni_error err = {};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct cni_args args;

		assert_int_equal(args_parse(texts[i], &args, &err), 0);
		assert_string_equal(args.pod_name, "");
	}
}

static void args_are_validated(void **state)
{
	static const struct {
		const char *text;
		const char *complaint;
	} cases[] = {
		{ "K8S_POD_NAME", "not KEY=VALUE" },
		{ "=x", "not KEY=VALUE" },
		{ "A=1;;B", "\"B\" is not KEY=VALUE" },
		{ "K8S_POD_NAME=a b", "K8S_POD_NAME" },
		{ "K8S_POD_NAME=../a", "K8S_POD_NAME" },
		/* 63 characters is what a namespace may have, and no more */
		{ "K8S_POD_NAMESPACE=" TEN TEN TEN TEN TEN TEN "012", NULL },
		{ "K8S_POD_NAMESPACE=" TEN TEN TEN TEN TEN TEN "0123",
		  "K8S_POD_NAMESPACE is longer than 63" },
		{ "IP=10.0.0", "IP: \"10.0.0\"" },
		{ "IP=10.0.0.1/24", "IP address" },
		{ "MAC=02:00", "MAC: \"02:00\"" },
		{ "MAC=01:00:00:00:00:01", "MAC" }, /* multicast */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cni_args args;
		struct cni_error err = {};
		int code = args_parse(cases[i].text, &args, &err);

		if (code != (cases[i].complaint ? CNI_INVALID_ENVIRONMENT : 0) ||
		    (cases[i].complaint &&
		     (!strstr(err.msg, cases[i].complaint) || !strstr(err.msg, "CNI_ARGS"))))
			fail_msg("%s: code %d, \"%s\"", cases[i].text, code, err.msg);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(environment_is_validated),
		cmocka_unit_test(args_name_the_pod),
		cmocka_unit_test(args_may_be_empty),
		cmocka_unit_test(args_are_validated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
