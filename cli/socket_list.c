/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/socket_list.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/output.h"
#include "cli/store_load.h"
#include "lib/alloc.h"
#include "lib/clock.h"
#include "lib/inet.h"

#define STORE_AGE_NS  10000000000ULL /* then the names are read again */
#define NAME_TEXT_MAX 600

struct socket_list {
	const struct arguments *args;
	struct cli_store *store; /* NULL: no names */
	uint64_t loaded_ns;
	bool told; /* that there are none */
};

struct socket_list *socket_list_new(const struct arguments *args)
{
	struct socket_list *list = xcalloc(1, sizeof(*list));

	list->args = args;
	return list;
}

void socket_list_free(struct socket_list *list)
{
	if (!list)
		return;
	cli_store_free(list->store);
	free(list);
}

/* Without the objects sockets are still worth seeing. */
static void store_refresh(struct socket_list *list)
{
	struct cli_store *store;
	struct errmsg err = {};

	if (list->store && now_ns() - list->loaded_ns < STORE_AGE_NS)
		return;
	if (store_load_agent(list->args, NULL, &store, &err)) {
		if (!list->told)
			output_note("the objects cannot be read, and names are left out: %s",
				    err.text);
		list->told = true;
		return;
	}
	cli_store_free(list->store);
	list->store = store;
	list->loaded_ns = now_ns();
}

static void name_add(const struct socket_list *list, cJSON *socket, const char *name,
		     const char *address)
{
	const struct object *owner = NULL;
	char text[NAME_TEXT_MAX];
	struct addr addr;

	if (list->store && addr_parse(member_text(socket, address, ""), &addr) == 0)
		owner = store_owner(list->store->objects, &addr);
	if (!owner)
		return;
	snprintf(text, sizeof(text), "%s/%s", owner->namespace, owner->name);
	cJSON_AddStringToObject(socket, name, text);
}

struct socket_filter {
	const char *namespace;
	const char *state;
	uint16_t port; /* 0: any */
};

static bool socket_fits(const struct socket_filter *filter, const cJSON *socket)
{
	if (filter->state && strcasecmp(member_text(socket, "state", ""), filter->state) != 0)
		return false;
	return !filter->port || member_number(socket, "port") == filter->port ||
	       member_number(socket, "peerPort") == filter->port;
}

/* Moves the sockets of one pod into the array. */
static void pod_take(const struct socket_list *list, const struct socket_filter *filter,
		     const cJSON *pod, cJSON *array)
{
	const char *namespace = member_text(pod, "namespace", "");
	cJSON *sockets = cJSON_GetObjectItemCaseSensitive(pod, "sockets");
	char name[NAME_TEXT_MAX];
	cJSON *socket;

	if (filter->namespace && strcmp(filter->namespace, namespace) != 0)
		return;
	snprintf(name, sizeof(name), "%s/%s", namespace, member_text(pod, "name", ""));
	while (sockets && (socket = cJSON_DetachItemFromArray(sockets, 0))) {
		if (!socket_fits(filter, socket)) {
			cJSON_Delete(socket);
			continue;
		}
		cJSON_AddStringToObject(socket, "pod", name);
		name_add(list, socket, "peer", "peerAddress");
		name_add(list, socket, "service", "serviceAddress");
		cJSON_AddItemToArray(array, socket);
	}
}

int socket_list_read(struct socket_list *list, cJSON **ret, uint64_t *ret_left_out,
		     struct errmsg *err)
{
	const struct arguments *args = list->args;
	struct socket_filter filter = { .namespace = args->pod ? NULL : args->namespace,
					.state = args->state };
	const char *namespace = args->namespace ? args->namespace : "default";
	char path[NAME_TEXT_MAX] = "/v1/sockets";
	cJSON *answer, *array;
	const cJSON *pod;
	uint8_t proto;
	int code = 0;

	if (args->port)
		code = port_argument_parse(args->port, &filter.port, &proto, err);
	if (code)
		return code;
	if (args->pod)
		snprintf(path, sizeof(path), "/v1/sockets?pod=%s%s%s",
			 strchr(args->pod, '/') ? "" : namespace, strchr(args->pod, '/') ? "" : "/",
			 args->pod);
	code = agent_call(args, "GET", path, NULL, &answer, err);
	if (code)
		return code;
	store_refresh(list);
	array = cJSON_CreateArray();
	cJSON_ArrayForEach (pod, member_get(answer, "pods"))
		pod_take(list, &filter, pod, array);
	*ret_left_out = (uint64_t)member_number(answer, "leftOut");
	cJSON_Delete(answer);
	*ret = array;
	return 0;
}
