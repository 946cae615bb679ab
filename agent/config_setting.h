/* SPDX-License-Identifier: Apache-2.0 */
/* One setting of the table in config.c: how its value is read, compared and printed. */
#ifndef TENDRIL_AGENT_CONFIG_SETTING_H
#define TENDRIL_AGENT_CONFIG_SETTING_H

#include <stddef.h>

#include "agent/config.h"
#include "lib/reader.h"

enum setting_type {
	SETTING_PATH,     /* char[256], absolute */
	SETTING_CIDRS,    /* pod_cidrs; repeatable */
	SETTING_DEVICES,  /* devices; repeatable */
	SETTING_PREFIXES, /* struct prefix_set; repeatable */
	SETTING_NUMBER,
	SETTING_BOOL,
	SETTING_CHOICE, /* unsigned int: which of the words in argument, by "|" */
	SETTING_LEVEL,
	SETTING_FILE,   /* which file to read; command line only */
	SETTING_ACTION, /* max says which; command line only */
};

struct setting {
	const char *option;
	const char *key; /* in agent.json; NULL: command line only */
	enum setting_type type;
	size_t offset;
	uint32_t min, max;    /* of a number; max of a path is its length */
	const char *argument; /* as help shows it */
	const char *help;
};

/* Takes a value of the command line; of a list, one item more.  Errors do not name the setting. */
int setting_set_text(const struct setting *setting, struct config *config, const char *text,
		     struct errmsg *err);
/* Takes a value of agent.json; of a list, all items.  Errors go to the reader. */
void setting_set_json(struct reader *reader, const struct setting *setting,
		      const struct json_node *node, struct config *config);
/* Empties a list: its first item on the command line replaces what the file says. */
void setting_clear(const struct setting *setting, struct config *config);

/* The value as agent.json has it, for the caller to free; NULL: it has none. */
struct cJSON *setting_json(const struct setting *setting, const struct config *config);
/* Whether two configurations agree in it; always true of what a reload changes. */
bool setting_is_same(const struct setting *setting, const struct config *a, const struct config *b);

/* Adds a range of pod addresses; -EINVAL: it cannot be one. */
int config_add_pod_cidr(struct config *config, const char *text, struct errmsg *err);

#endif
