/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/interest.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <event2/event.h>
#include <sys/queue.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/log.h"

/* One reflector: of a namespace's pods, of all pods, or of the nodes. */
struct part {
	LIST_ENTRY(part) link;
	struct interest *interest;
	const struct resource *resource;
	struct reflector *reflector;
	bool wanted;
	char namespace[]; /* "": all */
};

struct interest {
	struct interest_options options;
	char *pod_query;
	char *node_query;
	double number;
	bool told; /* that it is known */
	struct event *settle;
	LIST_HEAD(, part) parts;
};

/* A pod without an address of its own is nobody's peer. */
static bool pod_has_address(const cJSON *object)
{
	const cJSON *spec = cJSON_GetObjectItemCaseSensitive(object, "spec");
	const cJSON *status = cJSON_GetObjectItemCaseSensitive(object, "status");

	return !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(spec, "hostNetwork")) &&
	       cJSON_GetObjectItemCaseSensitive(status, "podIP");
}

/* ---- parts ----------------------------------------------------------------------------------- */

static bool others_have(const struct part *part, const char *namespace, const char *name)
{
	const struct part *other;

	LIST_FOREACH(other, &part->interest->parts, link)
	{
		if (other != part && other->resource == part->resource &&
		    reflector_has(other->reflector, namespace, name))
			return true;
	}
	return false;
}

static void part_free(struct part *part)
{
	LIST_REMOVE(part, link);
	free(part);
}

/* ---- what comes ------------------------------------------------------------------------------ */

static void on_changed(const struct resource *resource, const struct cJSON *object, void *arg)
{
	const struct part *part = arg;
	const struct interest_options *options = &part->interest->options;

	options->ops->changed(resource, object, options->arg);
}

static void on_deleted(const struct resource *resource, const char *namespace, const char *name,
		       void *arg)
{
	const struct part *part = arg;
	const struct interest_options *options = &part->interest->options;

	if (!others_have(part, namespace, name))
		options->ops->deleted(resource, namespace, name, options->arg);
}

/* When everything that is wanted has come, what is not wanted any more ends: no pod is unknown in
 * between. */
static void on_settle(evutil_socket_t fd, short what, void *arg)
{
	struct interest *interest = arg;
	struct part *part, *next;

	(void)fd;
	(void)what;
	LIST_FOREACH(part, &interest->parts, link)
	{
		if (part->wanted && !reflector_is_synced(part->reflector))
			return;
	}
	for (part = LIST_FIRST(&interest->parts); part; part = next) {
		next = LIST_NEXT(part, link);
		if (part->wanted)
			continue;
		reflector_end(part->reflector);
		part_free(part);
	}
	if (!interest->told)
		interest->options.known(interest->number, interest->options.arg);
	interest->told = true;
}

/* From the loop: a request is not ended from within another. */
static void settle_soon(struct interest *interest)
{
	const struct timeval now = { 0 };

	event_add(interest->settle, &now);
}

static void on_synced(const struct resource *resource, void *arg)
{
	const struct part *part = arg;

	(void)resource;
	settle_soon(part->interest);
}

static const struct reflector_ops part_ops = {
	.changed = on_changed,
	.deleted = on_deleted,
	.synced = on_synced,
};

/* ---- the interest ---------------------------------------------------------------------------- */

static int part_want(struct interest *interest, const struct resource *resource,
		     const char *namespace, struct errmsg *err)
{
	const struct interest_options *options = &interest->options;
	bool pods = resource_is_pod(resource);
	size_t size = strlen(namespace) + 1;
	struct part *part;

	LIST_FOREACH(part, &interest->parts, link)
	{
		if (part->resource == resource && strcmp(part->namespace, namespace) == 0) {
			part->wanted = true;
			return 0;
		}
	}
	part = xcalloc(1, sizeof(*part) + size);
	part->interest = interest;
	part->resource = resource;
	part->wanted = true;
	memcpy(part->namespace, namespace, size);
	if (reflector_new(options->base, options->apiserver,
			  &(struct reflector_scope){
				  .resource = resource,
				  .namespace = *namespace ? part->namespace : NULL,
				  .query = pods ? interest->pod_query : interest->node_query,
				  .wanted = pods ? pod_has_address : NULL,
			  },
			  &part_ops, part, &part->reflector, err) < 0) {
		free(part);
		return err->code;
	}
	LIST_INSERT_HEAD(&interest->parts, part, link);
	return 0;
}

static const struct resource *resource_of(bool (*is)(const struct resource *resource))
{
	size_t i = 0;

	while (!is(&resources[i]))
		i++;
	return &resources[i];
}

int interest_set(struct interest *interest, const struct cJSON *question, struct errmsg *err)
{
	const cJSON *number = cJSON_GetObjectItemCaseSensitive(question, "number");
	const cJSON *pods = cJSON_GetObjectItemCaseSensitive(question, "pods");
	const cJSON *nodes = cJSON_GetObjectItemCaseSensitive(question, "nodes");
	const cJSON *namespace;
	struct part *part;

	if (!cJSON_IsNumber(number) || (!cJSON_IsString(pods) && !cJSON_IsArray(pods)))
		return fail_plain(err, -EINVAL, "the agent's interest is malformed");
	interest->number = number->valuedouble;
	interest->told = false;
	LIST_FOREACH(part, &interest->parts, link)
	part->wanted = false;
	if (cJSON_IsString(pods) && part_want(interest, resource_of(resource_is_pod), "", err) < 0)
		return err->code;
	if (cJSON_IsTrue(nodes) && part_want(interest, resource_of(resource_is_node), "", err) < 0)
		return err->code;
	cJSON_ArrayForEach (namespace, pods) {
		if (cJSON_IsString(namespace) && part_want(interest, resource_of(resource_is_pod),
							   namespace->valuestring, err) < 0)
			return err->code;
	}
	settle_soon(interest);
	return 0;
}

bool interest_has(const struct interest *interest, const struct resource *resource,
		  const char *namespace, const char *name)
{
	const struct part *part;

	LIST_FOREACH(part, &interest->parts, link)
	{
		if (part->resource == resource && reflector_has(part->reflector, namespace, name))
			return true;
	}
	return false;
}

const char *interest_problem(const struct interest *interest)
{
	const struct part *part;

	LIST_FOREACH(part, &interest->parts, link)
	{
		const char *problem = reflector_problem(part->reflector);

		if (*problem)
			return problem;
	}
	return "";
}

struct interest *interest_new(const struct interest_options *options)
{
	struct interest *interest = xcalloc(1, sizeof(*interest));

	interest->options = *options;
	interest->settle = event_new(options->base, -1, 0, on_settle, interest);
	if (!interest->settle)
		out_of_memory(0);
	/* Those that ran to completion have no address any more. */
	interest->pod_query = xasprintf("fieldSelector=spec.nodeName%%21%%3D%s%%2Cstatus.phase%%21"
					"%%3DSucceeded%%2Cstatus.phase%%21%%3DFailed",
					options->node);
	interest->node_query = xasprintf("fieldSelector=metadata.name%%21%%3D%s", options->node);
	return interest;
}

void interest_free(struct interest *interest)
{
	struct part *part;

	if (!interest)
		return;
	while ((part = LIST_FIRST(&interest->parts))) {
		/* NOLINTNEXTLINE(*Malloc): part_free() takes it off the list */
		reflector_free(part->reflector);
		part_free(part);
	}
	event_free(interest->settle);
	free(interest->pod_query);
	free(interest->node_query);
	free(interest);
}
