/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/config_setting.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void *setting_member(const struct setting *setting, struct config *config)
{
	return (char *)config + setting->offset;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int path_set(const struct setting *setting, struct config *config, const char *text,
		    struct errmsg *err)
{
	char *member = setting_member(setting, config);
	bool may_be_empty = member == config->cgroup || member == config->cni_bin_dir ||
			    member == config->cni_conf_dir;

	if (*text != '/' && !(may_be_empty && !*text))
		return fail_plain(err, -EINVAL, "\"%s\" is not an absolute path", text);
	if (strlen(text) > setting->max)
		return fail_plain(err, -EINVAL, "\"%.40s...\" is longer than %u characters", text,
				  setting->max);
	snprintf(member, sizeof(config->run_dir), "%s", text);
	return 0;
}

int config_add_pod_cidr(struct config *config, const char *text, struct errmsg *err)
{
	struct prefix prefix, whole;
	char addr[ADDR_TEXT_MAX], clean[ADDR_TEXT_MAX];
	const char *slash = strchr(text, '/');
	struct addr given;

	if (!slash || prefix_parse(text, &prefix) < 0 || (size_t)(slash - text) >= sizeof(addr))
		return fail_plain(err, -EINVAL, "\"%s\" is not ADDRESS/LENGTH", text);
	snprintf(addr, sizeof(addr), "%.*s", (int)(slash - text), text);
	if (addr_parse(addr, &given) == 0 && !addr_equal(&given, &prefix.addr))
		return fail_plain(err, -EINVAL,
				  "\"%s\" has bits beyond its length: did you mean %s?", text,
				  prefix_format(&prefix, clean));
	if (prefix.len > 126)
		return fail_plain(err, -EINVAL, "\"%s\" has no room for a gateway and a pod", text);
	for (size_t i = 0; i < 5; i++) {
		static const char *const reserved[] = { "127.0.0.0/8", "169.254.0.0/16",
							"224.0.0.0/3", "fe80::/10", "ff00::/8" };

		if (prefix_parse(reserved[i], &whole) == 0 && prefix_overlaps(&prefix, &whole))
			return fail_plain(err, -EINVAL, "\"%s\" overlaps %s, which pods cannot use",
					  text, reserved[i]);
	}
	for (size_t i = 0; i < config->pod_cidr_count; i++) {
		if (prefix_overlaps(&prefix, &config->pod_cidrs[i]))
			return fail_plain(err, -EINVAL, "\"%s\" overlaps %s", text,
					  prefix_format(&config->pod_cidrs[i], clean));
	}
	if (config->pod_cidr_count == ARRAY_SIZE(config->pod_cidrs))
		return fail_plain(err, -EINVAL, "more than %zu ranges",
				  ARRAY_SIZE(config->pod_cidrs));
	config->pod_cidrs[config->pod_cidr_count++] = prefix;
	return 0;
}

static int device_add(struct config *config, const char *text, struct errmsg *err)
{
	const size_t room = sizeof(config->devices[0]);

	if (!*text || strlen(text) >= room || strpbrk(text, "/ \t\n"))
		return fail_plain(err, -EINVAL, "\"%s\" is not the name of a device", text);
	if (config->device_count == DEVICES_MAX)
		return fail_plain(err, -EINVAL, "more than %d devices", DEVICES_MAX);
	snprintf(config->devices[config->device_count++], room, "%s", text);
	return 0;
}

static int prefix_add(struct prefix_set *prefixes, const char *text, struct errmsg *err)
{
	if (prefixes->count == ARRAY_SIZE(prefixes->items))
		return fail_plain(err, -EINVAL, "more than %zu ranges",
				  ARRAY_SIZE(prefixes->items));
	if (!strchr(text, '/') || prefix_parse(text, &prefixes->items[prefixes->count]) < 0)
		return fail_plain(err, -EINVAL, "\"%s\" is not ADDRESS/LENGTH", text);
	prefixes->count++;
	return 0;
}

static int number_set(const struct setting *setting, struct config *config, uint64_t number,
		      struct errmsg *err)
{
	if (number < setting->min || number > setting->max)
		return fail_plain(err, -EINVAL, "%llu is not between %u and %u",
				  (unsigned long long)number, setting->min, setting->max);
	*(uint32_t *)setting_member(setting, config) = (uint32_t)number;
	return 0;
}

static int bool_parse(const char *text, bool *ret_value)
{
	static const struct {
		const char *text;
		bool value;
	} words[] = {
		{ "true", true }, { "false", false }, { "yes", true }, { "no", false },
		{ "on", true },   { "off", false },   { "1", true },   { "0", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(text, words[i].text) == 0) {
			*ret_value = words[i].value;
			return 0;
		}
	}
	return -EINVAL;
}

static int choice_set(const struct setting *setting, struct config *config, const char *text,
		      struct errmsg *err)
{
	const size_t len = strlen(text);
	unsigned int choice = 0;

	for (const char *word = setting->argument; word; choice++) {
		const char *end = strchrnul(word, '|');

		if ((size_t)(end - word) == len && strncmp(word, text, len) == 0) {
			*(unsigned int *)setting_member(setting, config) = choice;
			return 0;
		}
		word = *end ? end + 1 : NULL;
	}
	return fail_plain(err, -EINVAL, "\"%s\" is not one of %s", text, setting->argument);
}

int setting_set_text(const struct setting *setting, struct config *config, const char *text,
		     struct errmsg *err)
{
	uint64_t number;

	switch (setting->type) {
	case SETTING_PATH:
		return path_set(setting, config, text, err);
	case SETTING_CIDRS:
		return config_add_pod_cidr(config, text, err);
	case SETTING_DEVICES:
		return device_add(config, text, err);
	case SETTING_PREFIXES:
		return prefix_add(setting_member(setting, config), text, err);
	case SETTING_NUMBER:
		if (number_parse(text, 0, UINT32_MAX, &number) < 0)
			return fail_plain(err, -EINVAL, "\"%s\" is not a number between %u and %u",
					  text, setting->min, setting->max);
		return number_set(setting, config, number, err);
	case SETTING_BOOL:
		if (bool_parse(text, setting_member(setting, config)) < 0)
			return fail_plain(err, -EINVAL, "\"%s\" is not true or false", text);
		return 0;
	case SETTING_CHOICE:
		return choice_set(setting, config, text, err);
	case SETTING_LEVEL:
		if (log_level_parse(text, &config->log_level) < 0)
			return fail_plain(err, -EINVAL, "\"%s\" is not error, warn, info or debug",
					  text);
		return 0;
	case SETTING_FILE:
	case SETTING_ACTION:
		break; /* the first pass handled them */
	}
	return 0;
}

static void list_set_json(struct reader *reader, const struct setting *setting,
			  const struct json_node *node, struct config *config)
{
	const struct cJSON *item;
	struct errmsg fault;
	size_t index = 0;

	read_is_array(reader, node);
	cJSON_ArrayForEach (item, node->value) {
		struct json_node element = json_element(node, item, index++);

		if (setting_set_text(setting, config, read_required_string(reader, &element),
				     &fault))
			reader_error(reader, &element, "%s", fault.text);
	}
}

void setting_set_json(struct reader *reader, const struct setting *setting,
		      const struct json_node *node, struct config *config)
{
	void *member = setting_member(setting, config);
	struct errmsg fault;

	if (setting->type == SETTING_CIDRS || setting->type == SETTING_DEVICES ||
	    setting->type == SETTING_PREFIXES)
		list_set_json(reader, setting, node, config);
	else if (setting->type == SETTING_BOOL)
		*(bool *)member = read_bool(reader, node, false);
	else if (setting->type == SETTING_NUMBER)
		*(uint32_t *)member =
			(uint32_t)read_integer(reader, node, setting->min, setting->max, 0);
	else if (setting_set_text(setting, config, read_required_string(reader, node), &fault))
		reader_error(reader, node, "%s", fault.text);
}

void setting_clear(const struct setting *setting, struct config *config)
{
	if (setting->type == SETTING_CIDRS)
		config->pod_cidr_count = 0;
	else if (setting->type == SETTING_DEVICES)
		config->device_count = 0;
	else if (setting->type == SETTING_PREFIXES)
		((struct prefix_set *)setting_member(setting, config))->count = 0;
}

/* ---- printing and comparing ------------------------------------------------------------------ */

/* The word of a choice, and its length. */
static const char *choice_word(const struct setting *setting, unsigned int choice, int *ret_len)
{
	const char *word = setting->argument;

	while (choice--)
		word = strchrnul(word, '|') + 1;
	*ret_len = (int)(strchrnul(word, '|') - word);
	return word;
}

cJSON *setting_json(const struct setting *setting, const struct config *config)
{
	static const char *const levels[] = { "error", "warn", "info", "debug" };
	const void *member = (const char *)config + setting->offset;
	const struct prefix_set *prefixes = member;
	char text[ADDR_TEXT_MAX];
	const char *word;
	cJSON *array;
	int len;

	switch (setting->type) {
	case SETTING_PATH:
		return cJSON_CreateString(member);
	case SETTING_NUMBER:
		return cJSON_CreateNumber(*(const uint32_t *)member);
	case SETTING_BOOL:
		return cJSON_CreateBool(*(const bool *)member);
	case SETTING_CHOICE:
		word = choice_word(setting, *(const unsigned int *)member, &len);
		snprintf(text, sizeof(text), "%.*s", len, word);
		return cJSON_CreateString(text);
	case SETTING_LEVEL:
		return cJSON_CreateString(levels[config->log_level]);
	case SETTING_PREFIXES:
		array = cJSON_CreateArray();
		for (size_t i = 0; i < prefixes->count; i++)
			cJSON_AddItemToArray(array, cJSON_CreateString(prefix_format(
							    &prefixes->items[i], text)));
		return array;
	case SETTING_CIDRS:
		array = cJSON_CreateArray();
		for (size_t i = 0; i < config->pod_cidr_count; i++)
			cJSON_AddItemToArray(array, cJSON_CreateString(prefix_format(
							    &config->pod_cidrs[i], text)));
		return array;
	case SETTING_DEVICES:
		array = cJSON_CreateArray();
		for (size_t i = 0; i < config->device_count; i++)
			cJSON_AddItemToArray(array, cJSON_CreateString(config->devices[i]));
		return array;
	default:
		return NULL;
	}
}

static bool cidrs_same(const struct config *a, const struct config *b)
{
	bool same = a->pod_cidr_count == b->pod_cidr_count;

	if (a->pod_cidrs_of_node && b->pod_cidrs_of_node)
		return true;

	for (size_t i = 0; same && i < a->pod_cidr_count; i++)
		same = a->pod_cidrs[i].len == b->pod_cidrs[i].len &&
		       addr_equal(&a->pod_cidrs[i].addr, &b->pod_cidrs[i].addr);
	return same;
}

static bool prefixes_same(const struct prefix_set *a, const struct prefix_set *b)
{
	bool same = a->count == b->count;

	for (size_t i = 0; same && i < a->count; i++)
		same = prefix_equal(&a->items[i], &b->items[i]);
	return same;
}

bool setting_is_same(const struct setting *setting, const struct config *a, const struct config *b)
{
	const char *a_member = (const char *)a + setting->offset;
	const char *b_member = (const char *)b + setting->offset;
	bool same = true;

	if (setting->type == SETTING_PATH)
		same = strcmp(a_member, b_member) == 0;
	else if (setting->type == SETTING_CIDRS)
		same = cidrs_same(a, b);
	else if (setting->type == SETTING_DEVICES)
		same = memcmp(a->devices, b->devices, sizeof(a->devices)) == 0;
	else if (setting->type == SETTING_PREFIXES)
		same = prefixes_same((const void *)a_member, (const void *)b_member);
	else if (setting->type == SETTING_NUMBER || setting->type == SETTING_CHOICE)
		same = memcmp(a_member, b_member, sizeof(uint32_t)) == 0;
	else if (setting->type == SETTING_BOOL && a_member != (const char *)&a->audit)
		same = *(const bool *)a_member == *(const bool *)b_member;
	return same;
}
