/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/objects/object_waiting.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "agent/objects/object_kube.h"
#include "lib/alloc.h"

void kube_waiting_add(struct object_kube *kube, const struct object_ref *ref, char *text)
{
	size_t namespace_size = strlen(ref->namespace) + 1;
	struct kube_waiting *item = xcalloc(1, sizeof(*item) + namespace_size);

	item->json = text;
	item->kind = ref->kind;
	item->name = xstrdup(ref->name);
	memcpy(item->namespace, ref->namespace, namespace_size);
	DL_APPEND(kube->waiting, item);
}

void kube_waiting_free(struct object_kube *kube, struct kube_waiting *item)
{
	DL_DELETE(kube->waiting, item);
	free(item->json);
	free(item->name);
	free(item);
}

void kube_waiting_forget(struct object_kube *kube, const struct object_ref *ref)
{
	struct kube_waiting *item;

	DL_FOREACH (kube->waiting, item) {
		if (item->kind == ref->kind && strcmp(item->namespace, ref->namespace) == 0 &&
		    strcmp(item->name, ref->name) == 0) {
			kube_waiting_free(kube, item);
			return;
		}
	}
}

void kube_waiting_drop(struct object_kube *kube, bool only_stale)
{
	struct kube_waiting *item, *next;

	DL_FOREACH_SAFE (kube->waiting, item, next) {
		if (item->stale || !only_stale)
			kube_waiting_free(kube, item);
	}
}

void kube_waiting_mark(struct object_kube *kube)
{
	struct kube_waiting *item;

	DL_FOREACH (kube->waiting, item)
		item->stale = true;
}
