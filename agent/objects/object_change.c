/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "objects"
#include "agent/objects/object_change.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/objects/object_audit.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/log.h"

void object_change_begin(struct object_change *change, struct store *store,
			 const struct object_author *author)
{
	*change = (struct object_change){ .store = store, .author = author };
}

const char *object_label(const struct object *object, char *buf, size_t size)
{
	snprintf(buf, size, "%s %s%s%s", object_kind_name(object->kind), object->namespace,
		 *object->namespace ? "/" : "", object->name);
	return buf;
}

static void step_add(struct object_change *change, struct object_step step)
{
	array_room(&change->steps, change->count, &change->room, sizeof(*change->steps));
	step.author = change->author;
	change->steps[change->count++] = step;
}

int object_change_take(struct object_change *change, const struct object *object, uint64_t hash)
{
	struct object *taken =
		store_take(change->store, object->kind, object->namespace, object->name);
	if (!taken)
		return -ENOENT;
	step_add(change, (struct object_step){ .old = taken, .hash = hash });
	return 0;
}

static size_t object_addresses(const struct object *object, const struct addr **ret_first)
{
	if (object->kind == OBJECT_POD) {
		*ret_first = object->pod.addresses;
		return object->pod.address_count;
	}
	if (object->kind == OBJECT_SERVICE) {
		*ret_first = object->service.cluster_ips;
		return object->service.cluster_ip_count;
	}
	*ret_first = NULL;
	return 0;
}

/* Who has one of its addresses. */
static const struct object *rival_find(const struct store *store, const struct object *object)
{
	const struct object *rival = NULL;
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);

	for (size_t i = 0; i < count && !rival; i++)
		rival = store_owner(store, &addresses[i]);
	return rival;
}

static const char *source_name(const struct object *object)
{
	return object->source ? object_source_of(object)->name : "elsewhere";
}

int object_change_put(struct object_change *change, struct object *object,
		      const struct object_source *source, uint64_t hash, struct errmsg *err)
{
	const struct object *held =
		store_find(change->store, object->kind, object->namespace, object->name);
	const struct object *rival = held ? NULL : rival_find(change->store, object);
	struct errmsg inner = { 0 };
	char label[600];
	int ret;

	if (held) {
		object_label(object, label, sizeof(label));
		object_free(object);
		return fail_plain(err, -EEXIST, "%s: it is already given by %s", label,
				  source_name(held));
	}
	object->source = source;
	ret = store_put(change->store, object, &inner);
	if (ret == -EEXIST && rival)
		return fail_plain(err, ret, "%s; the other one is given by %s", inner.text,
				  source_name(rival));
	if (ret)
		return fail_plain(err, ret, "%s", inner.text);
	step_add(change, (struct object_step){ .put = object, .hash = hash });
	return 0;
}

void object_change_undo(struct object_change *change)
{
	while (change->count) {
		struct object_step *step = &change->steps[--change->count];
		struct errmsg err = { 0 };

		if (step->put)
			store_del(change->store, step->put->kind, step->put->namespace,
				  step->put->name);
		/* It was there before and nothing is in its way any more: only memory can fail. */
		if (step->old && store_put(change->store, step->old, &err))
			log_error("lost an object: %s", err.text);
	}
	free(take_ptr(change->steps));
	change->room = 0;
}

/* ---- what was touched ------------------------------------------------------------------------ */

static void touched_service(struct object_touched *touched, const char *namespace, const char *name)
{
	size_t i = touched->service_count;

	if (touched->all_services)
		return;
	for (size_t k = 0; k < i; k++) {
		if (strcmp(touched->services[k].namespace, namespace) == 0 &&
		    strcmp(touched->services[k].name, name) == 0)
			return;
	}
	if (i == OBJECT_TOUCHED_MAX) {
		touched->all_services = true;
		return;
	}
	touched->services[i].namespace = xstrdup(namespace);
	touched->services[i].name = xstrdup(name);
	touched->service_count++;
}

static void touched_add(struct object_touched *touched, const struct object *object)
{
	if (!touched->since_ns)
		touched->since_ns = now_ns();
	touched->nodes |= object->kind == OBJECT_NODE;
	switch (object->kind) {
	case OBJECT_NAMESPACE:
	case OBJECT_NODE:
	case OBJECT_POD:
	case OBJECT_NETWORK_POLICY:
	case OBJECT_CLUSTER_POLICY:
		touched->policies = true;
		break;
	case OBJECT_SERVICE:
		touched_service(touched, object->namespace, object->name);
		break;
	case OBJECT_ENDPOINT_SLICE:
		touched_service(touched, object->namespace, object->slice.service_name);
		break;
	case OBJECT_KIND_COUNT:
		break;
	}
}

void object_change_commit(struct object_change *change, struct object_touched *touched)
{
	object_audit(change, &touched->audit);
	for (size_t i = 0; i < change->count; i++) {
		if (change->steps[i].put)
			touched_add(touched, change->steps[i].put);
		if (change->steps[i].old)
			touched_add(touched, change->steps[i].old);
		object_free(change->steps[i].old);
	}
	free(take_ptr(change->steps));
	change->count = 0;
	change->room = 0;
}

void object_touched_done(struct object_touched *touched)
{
	for (size_t i = 0; i < touched->service_count; i++) {
		free(touched->services[i].namespace);
		free(touched->services[i].name);
	}
	free(touched->audit);
	*touched = (struct object_touched){ 0 };
}
