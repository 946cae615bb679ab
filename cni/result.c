/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/result.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "lib/auto.h"
#include "lib/inet.h"
#include "lib/json.h"

/* What is being read, for errors such as "prevResult.ips[0].address: ...". */
struct reading {
	const char *what;
	int code;
	struct cni_error *err;
};

static int refuse(const struct reading *reading, const char *list, size_t i, const char *member,
		  const char *text)
{
	return cni_fail(reading->err, reading->code, "%s.%s[%zu].%s: \"%.60s\" is not valid",
			reading->what, list, i, member, text ? text : "");
}

static const char *string_at(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return cJSON_IsString(item) && item->valuestring[0] ? item->valuestring : NULL;
}

static void string_copy(cJSON *to, const cJSON *from, const char *key)
{
	const char *text = string_at(from, key);

	if (text)
		cJSON_AddStringToObject(to, key, text);
}

static void number_copy(cJSON *to, const cJSON *from, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(from, key);

	if (cJSON_IsNumber(item))
		cJSON_AddNumberToObject(to, key, item->valuedouble);
}

static bool is_cidr(const char *text)
{
	struct prefix prefix;

	return text && prefix_parse(text, &prefix) == 0;
}

static bool is_address(const char *text)
{
	struct addr addr;

	return text && addr_parse(text, &addr) == 0;
}

static bool cidr_is_v6(const char *cidr)
{
	return cidr && strchr(cidr, ':');
}

/* ---- in ---- */

static int interfaces_read(const cJSON *json, const struct reading *reading, cJSON *result)
{
	const cJSON *item;
	cJSON *list = cJSON_AddArrayToObject(result, "interfaces");
	size_t i = 0;

	cJSON_ArrayForEach (item, cJSON_GetObjectItemCaseSensitive(json, "interfaces")) {
		cJSON *interface;

		if (!string_at(item, "name"))
			return refuse(reading, "interfaces", i, "name", NULL);
		interface = cJSON_CreateObject();
		cJSON_AddItemToArray(list, interface);
		string_copy(interface, item, "name");
		string_copy(interface, item, "mac");
		number_copy(interface, item, "mtu");
		string_copy(interface, item, "sandbox");
		string_copy(interface, item, "socketPath");
		string_copy(interface, item, "pciID");
		i++;
	}
	return 0;
}

static int ip_read(const cJSON *item, size_t i, const struct reading *reading, cJSON *result)
{
	const cJSON *index = cJSON_GetObjectItemCaseSensitive(item, "interface");
	int interfaces = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(result, "interfaces"));
	const char *gateway = string_at(item, "gateway");
	cJSON *ip;

	if (!is_cidr(string_at(item, "address")))
		return refuse(reading, "ips", i, "address", string_at(item, "address"));
	if (gateway && !is_address(gateway))
		return refuse(reading, "ips", i, "gateway", gateway);
	if (index &&
	    (!cJSON_IsNumber(index) || index->valuedouble < 0 || index->valuedouble >= interfaces))
		return refuse(reading, "ips", i, "interface", NULL);
	ip = cJSON_CreateObject();
	cJSON_AddItemToArray(cJSON_GetObjectItemCaseSensitive(result, "ips"), ip);
	string_copy(ip, item, "address");
	string_copy(ip, item, "gateway");
	if (index)
		cJSON_AddNumberToObject(ip, "interface", index->valueint);
	return 0;
}

static int routes_read(const cJSON *json, const struct reading *reading, cJSON *result)
{
	static const char *const numbers[] = { "mtu", "advmss", "priority", "table", "scope" };
	cJSON *list = cJSON_GetObjectItemCaseSensitive(result, "routes");
	const cJSON *item;
	size_t i = 0;

	cJSON_ArrayForEach (item, cJSON_GetObjectItemCaseSensitive(json, "routes")) {
		const char *gateway = string_at(item, "gw");
		cJSON *route;

		if (!is_cidr(string_at(item, "dst")))
			return refuse(reading, "routes", i, "dst", string_at(item, "dst"));
		if (gateway && !is_address(gateway))
			return refuse(reading, "routes", i, "gw", gateway);
		route = cJSON_CreateObject();
		cJSON_AddItemToArray(list, route);
		string_copy(route, item, "dst");
		string_copy(route, item, "gw");
		for (size_t n = 0; n < ARRAY_SIZE(numbers); n++)
			number_copy(route, item, numbers[n]);
		i++;
	}
	return 0;
}

/* "ip4" and "ip6" of 0.1.0 and 0.2.0: {"ip": CIDR, "gateway", "routes"}. */
static int family_read(const cJSON *json, const char *family, const struct reading *reading,
		       cJSON *result)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, family);
	cJSON *ip;
	int ret;

	if (!cJSON_IsObject(item))
		return 0;
	ip = cJSON_CreateObject();
	if (string_at(item, "ip"))
		cJSON_AddStringToObject(ip, "address", string_at(item, "ip"));
	string_copy(ip, item, "gateway");
	ret = ip_read(ip, 0, reading, result) ?: routes_read(item, reading, result);
	cJSON_Delete(ip);
	return ret;
}

static void dns_read(const cJSON *json, cJSON *result)
{
	static const char *const lists[] = { "nameservers", "search", "options" };
	const cJSON *dns = cJSON_GetObjectItemCaseSensitive(json, "dns");
	cJSON *copy = cJSON_CreateObject();

	string_copy(copy, dns, "domain");
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		const cJSON *list = cJSON_GetObjectItemCaseSensitive(dns, lists[i]);

		if (cJSON_IsArray(list) && cJSON_GetArraySize(list) > 0)
			cJSON_AddItemToObject(copy, lists[i], cJSON_Duplicate(list, true));
	}
	if (copy->child)
		cJSON_AddItemToObject(result, "dns", copy);
	else
		cJSON_Delete(copy);
}

int result_parse(const cJSON *json, const char *what, int code, cJSON **ret_result,
		 struct cni_error *err)
{
	const struct reading reading = { what, code, err };
	cJSON *result = cJSON_CreateObject();
	const cJSON *item;
	size_t i = 0;
	int ret = 0;

	if (!cJSON_IsObject(json))
		ret = cni_fail(err, code, "%s: not an object", what);
	if (!ret)
		ret = interfaces_read(json, &reading, result);
	cJSON_AddArrayToObject(result, "ips");
	cJSON_AddArrayToObject(result, "routes");
	cJSON_ArrayForEach (item, cJSON_GetObjectItemCaseSensitive(json, "ips")) {
		if (!ret)
			ret = ip_read(item, i++, &reading, result);
	}
	ret = ret ?:
			  family_read(json, "ip4", &reading, result) ?:
			  family_read(json, "ip6", &reading, result) ?:
			  routes_read(json, &reading, result);
	if (ret) {
		cJSON_Delete(result);
		return ret;
	}
	dns_read(json, result);
	*ret_result = result;
	return 0;
}

bool result_has_interface(const cJSON *result, const char *ifname)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, cJSON_GetObjectItemCaseSensitive(result, "interfaces")) {
		if (string_at(item, "sandbox") && strcmp(string_at(item, "name"), ifname) == 0)
			return true;
	}
	return false;
}

int result_addresses(const cJSON *result, const char *ifname, cJSON **ret_list,
		     struct cni_error *err)
{
	const cJSON *interfaces = cJSON_GetObjectItemCaseSensitive(result, "interfaces");
	auto_json cJSON *list = cJSON_CreateArray();
	const cJSON *ip;

	if (cJSON_GetArraySize(interfaces) > 0 && !result_has_interface(result, ifname))
		return cni_fail(
			err, CNI_INVALID_CONFIG,
			"prevResult: no interface %s in the pod; with \"chained\" an earlier "
			"plugin has to make it",
			ifname);
	cJSON_ArrayForEach (ip, cJSON_GetObjectItemCaseSensitive(result, "ips")) {
		const cJSON *index = cJSON_GetObjectItemCaseSensitive(ip, "interface");
		const cJSON *interface =
			index ? cJSON_GetArrayItem(interfaces, index->valueint) : NULL;
		cJSON *entry;

		if (interface && (!string_at(interface, "sandbox") ||
				  strcmp(string_at(interface, "name"), ifname) != 0))
			continue;
		entry = cJSON_CreateObject();
		string_copy(entry, ip, "address");
		cJSON_AddItemToArray(list, entry);
	}
	if (!list->child)
		return cni_fail(err, CNI_INVALID_CONFIG, "prevResult: no address of %s", ifname);
	*ret_list = take_ptr(list);
	return 0;
}

/* ---- chain ---- */

/* Moves the items of ours behind those of earlier, and gives ours the whole list. */
static void list_prepend(cJSON *ours, cJSON *earlier, const char *key)
{
	cJSON *list = cJSON_DetachItemFromObjectCaseSensitive(earlier, key);
	cJSON *behind = cJSON_DetachItemFromObjectCaseSensitive(ours, key);

	while (behind->child)
		cJSON_AddItemToArray(list, cJSON_DetachItemFromArray(behind, 0));
	cJSON_Delete(behind);
	cJSON_AddItemToObject(ours, key, list);
}

void result_prepend(cJSON *result, cJSON *earlier)
{
	int shift = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(earlier, "interfaces"));
	cJSON *item;

	cJSON_ArrayForEach (item, cJSON_GetObjectItemCaseSensitive(result, "ips")) {
		cJSON *index = cJSON_GetObjectItemCaseSensitive(item, "interface");

		if (index)
			cJSON_SetNumberValue(index, index->valueint + shift);
	}
	list_prepend(result, earlier, "interfaces");
	list_prepend(result, earlier, "ips");
	list_prepend(result, earlier, "routes");
	item = cJSON_DetachItemFromObjectCaseSensitive(earlier, "dns");
	if (item && !cJSON_GetObjectItemCaseSensitive(result, "dns"))
		cJSON_AddItemToObject(result, "dns", item);
	else
		cJSON_Delete(item);
	cJSON_Delete(earlier);
}

/* ---- out ---- */

static cJSON *list_of(const cJSON *result, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(result, key);
}

/* 0.1.0 and 0.2.0 know one address of each family, with that family's routes. */
static void family_render(const cJSON *result, const char *family, bool v6, cJSON *rendered)
{
	const cJSON *ip, *route;
	cJSON *entry = NULL, *routes = NULL;

	cJSON_ArrayForEach (ip, list_of(result, "ips")) {
		if (!entry && cidr_is_v6(string_at(ip, "address")) == v6) {
			entry = cJSON_AddObjectToObject(rendered, family);
			cJSON_AddStringToObject(entry, "ip", string_at(ip, "address"));
			string_copy(entry, ip, "gateway");
		}
	}
	if (!entry)
		return;
	cJSON_ArrayForEach (route, list_of(result, "routes")) {
		cJSON *copy;

		if (cidr_is_v6(string_at(route, "dst")) != v6)
			continue;
		if (!routes)
			routes = cJSON_AddArrayToObject(entry, "routes");
		copy = cJSON_CreateObject();
		string_copy(copy, route, "dst");
		string_copy(copy, route, "gw");
		cJSON_AddItemToArray(routes, copy);
	}
}

/* Takes from each item what the version does not know. */
static void members_strip(cJSON *list, const char *const *names, size_t count)
{
	cJSON *item;

	cJSON_ArrayForEach (item, list) {
		for (size_t i = 0; i < count; i++)
			cJSON_DeleteItemFromObjectCaseSensitive(item, names[i]);
	}
}

/* Up to 0.4.0 every address says its family. */
static void versions_add(cJSON *ips)
{
	cJSON *ip;

	cJSON_ArrayForEach (ip, ips) {
		bool v6 = cidr_is_v6(string_at(ip, "address"));

		cJSON_AddStringToObject(ip, "version", v6 ? "6" : "4");
	}
}

static void lists_render(const cJSON *result, enum cni_version version, cJSON *rendered)
{
	static const char *const new_interface[] = { "mtu", "socketPath", "pciID" };
	static const char *const new_route[] = { "mtu", "advmss", "priority", "table", "scope" };
	cJSON *interfaces = cJSON_Duplicate(list_of(result, "interfaces"), true);
	cJSON *ips = cJSON_Duplicate(list_of(result, "ips"), true);
	cJSON *routes = cJSON_Duplicate(list_of(result, "routes"), true);

	if (version < CNI_1_1_0) {
		members_strip(interfaces, new_interface, ARRAY_SIZE(new_interface));
		members_strip(routes, new_route, ARRAY_SIZE(new_route));
	}
	if (version < CNI_1_0_0)
		versions_add(ips);
	cJSON_AddItemToObject(rendered, "interfaces", interfaces);
	cJSON_AddItemToObject(rendered, "ips", ips);
	if (routes && routes->child)
		cJSON_AddItemToObject(rendered, "routes", routes);
	else
		cJSON_Delete(routes);
}

cJSON *result_render(const cJSON *result, enum cni_version version)
{
	cJSON *rendered = cJSON_CreateObject();
	const cJSON *dns = cJSON_GetObjectItemCaseSensitive(result, "dns");

	cJSON_AddStringToObject(rendered, "cniVersion", version_text(version));
	if (version < CNI_0_3_0) {
		family_render(result, "ip4", false, rendered);
		family_render(result, "ip6", true, rendered);
	} else {
		lists_render(result, version, rendered);
	}
	if (dns)
		cJSON_AddItemToObject(rendered, "dns", cJSON_Duplicate(dns, true));
	return rendered;
}
