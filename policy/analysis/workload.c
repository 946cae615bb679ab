/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/workload.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"

/* Set by controllers on single replicas, revisions and runs: no policy is written for those. */
static const char *const passing_labels[] = {
	"pod-template-hash",
	"controller-revision-hash",
	"pod-template-generation",
	"statefulset.kubernetes.io/pod-name",
	"apps.kubernetes.io/pod-index",
	"batch.kubernetes.io/job-completion-index",
	"batch.kubernetes.io/controller-uid",
	"batch.kubernetes.io/job-name",
	"controller-uid",
	"job-name",
};

/* Labels that name what a pod is, the most telling first. */
static const char *const telling_labels[] = { "app.kubernetes.io/name", "app", "k8s-app", "name",
					      "run" };

struct workload_of { /* one pod, while they are sorted and to find it afterwards */
	const struct object *pod;
	const struct label **labels;
	size_t label_count;
	struct workload *workload;
};

static bool is_passing(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(passing_labels); i++) {
		if (strcmp(key, passing_labels[i]) == 0)
			return true;
	}
	return false;
}

static int labels_compare(const struct workload_of *a, const struct workload_of *b)
{
	int order = strcmp(a->pod->namespace, b->pod->namespace);

	for (size_t i = 0; !order && i < a->label_count && i < b->label_count; i++) {
		order = strcmp(a->labels[i]->key, b->labels[i]->key);
		if (!order)
			order = strcmp(a->labels[i]->value, b->labels[i]->value);
	}
	if (order)
		return order;
	return (a->label_count > b->label_count) - (a->label_count < b->label_count);
}

static int pod_compare(const void *a, const void *b)
{
	const struct workload_of *left = a, *right = b;
	int order = labels_compare(left, right);

	return order ? order : strcmp(left->pod->name, right->pod->name);
}

static int index_compare(const void *a, const void *b)
{
	const struct object *left = ((const struct workload_of *)a)->pod;
	const struct object *right = ((const struct workload_of *)b)->pod;

	return ((uintptr_t)left > (uintptr_t)right) - ((uintptr_t)left < (uintptr_t)right);
}

/* ---- grouping -------------------------------------------------------------------------------- */

static bool has_address(const struct object *pod)
{
	return pod->pod.address_count && !pod->pod.host_network && !pod->pod.terminated;
}

static void pods_collect(const struct store *store, struct workloads *workloads)
{
	size_t pods = 0, labels = 0;

	for (const struct object *pod = store_first(store, OBJECT_POD); pod;
	     pod = store_next(store, pod)) {
		pods++;
		labels += pod->pod.labels.count;
	}
	workloads->pods = xcalloc(pods + 1, sizeof(*workloads->pods));
	workloads->labels = xcalloc(labels + 1, sizeof(*workloads->labels));
	workloads->index = xcalloc(pods + 1, sizeof(*workloads->index));
	workloads->items = xcalloc(pods + 1, sizeof(*workloads->items));
	labels = 0;
	for (const struct object *pod = store_first(store, OBJECT_POD); pod;
	     pod = store_next(store, pod)) {
		struct workload_of *of = &workloads->index[workloads->pod_count];

		if (!has_address(pod))
			continue;
		workloads->pod_count++;
		of->pod = pod;
		of->labels = &workloads->labels[labels];
		for (size_t i = 0; i < pod->pod.labels.count; i++) {
			if (!is_passing(pod->pod.labels.items[i].key))
				of->labels[of->label_count++] = &pod->pod.labels.items[i];
		}
		labels += of->label_count;
	}
}

void workloads_of(const struct store *store, struct workloads *ret)
{
	*ret = (struct workloads){ 0 };
	pods_collect(store, ret);
	qsort(ret->index, ret->pod_count, sizeof(*ret->index), pod_compare);
	for (size_t i = 0; i < ret->pod_count; i++) {
		struct workload_of *of = &ret->index[i];

		ret->pods[i] = of->pod;
		if (i == 0 || labels_compare(of, of - 1) != 0)
			ret->items[ret->count++] =
				(struct workload){ .namespace = of->pod->namespace,
						   .labels = of->labels,
						   .label_count = of->label_count,
						   .pods = &ret->pods[i] };
		of->workload = &ret->items[ret->count - 1];
		of->workload->pod_count++;
	}
	qsort(ret->index, ret->pod_count, sizeof(*ret->index), index_compare);
}

void workloads_done(struct workloads *workloads)
{
	free(workloads->items);
	free(workloads->pods);
	free(workloads->labels);
	free(workloads->index);
	*workloads = (struct workloads){ 0 };
}

struct workload *workload_find(const struct workloads *workloads, const struct object *pod)
{
	const struct workload_of key = { .pod = pod };
	struct workload_of *found =
		bsearch(&key, workloads->index, workloads->pod_count, sizeof(key), index_compare);

	return found ? found->workload : NULL;
}

/* ---- selectors ------------------------------------------------------------------------------- */

static const struct label *label_find(const struct workload *workload, const char *key)
{
	for (size_t i = 0; i < workload->label_count; i++) {
		if (strcmp(workload->labels[i]->key, key) == 0)
			return workload->labels[i];
	}
	return NULL;
}

/* A label that "other" has beyond all of this workload's; NULL if it lacks one of them, so that the
 * selector does not mean it anyway. */
static const struct label *label_beyond(const struct workload *workload,
					const struct workload *other)
{
	for (size_t i = 0; i < workload->label_count; i++) {
		const struct label *own = workload->labels[i];
		const struct label *others = label_find(other, own->key);

		if (!others || strcmp(others->value, own->value) != 0)
			return NULL;
	}
	for (size_t i = 0; i < other->label_count; i++) {
		if (!label_find(workload, other->labels[i]->key))
			return other->labels[i];
	}
	return NULL;
}

static bool has_expression(const cJSON *expressions, const char *key)
{
	const cJSON *expression;

	cJSON_ArrayForEach (expression, expressions) {
		if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(expression, "key")), key) == 0)
			return true;
	}
	return false;
}

struct cJSON *workload_selector(const struct workloads *workloads, const struct workload *workload)
{
	cJSON *selector = cJSON_CreateObject();
	cJSON *labels = cJSON_AddObjectToObject(selector, "matchLabels");
	cJSON *expressions = NULL;

	for (size_t i = 0; i < workload->label_count; i++)
		cJSON_AddStringToObject(labels, workload->labels[i]->key,
					workload->labels[i]->value);
	for (size_t i = 0; i < workloads->count; i++) {
		const struct workload *other = &workloads->items[i];
		const struct label *beyond = NULL;
		cJSON *expression;

		if (other != workload && strcmp(other->namespace, workload->namespace) == 0)
			beyond = label_beyond(workload, other);
		if (!beyond || has_expression(expressions, beyond->key))
			continue;
		if (!expressions)
			expressions = cJSON_AddArrayToObject(selector, "matchExpressions");
		expression = cJSON_CreateObject();
		cJSON_AddStringToObject(expression, "key", beyond->key);
		cJSON_AddStringToObject(expression, "operator", "DoesNotExist");
		cJSON_AddItemToArray(expressions, expression);
	}
	return selector;
}

const char *workload_name(const struct workload *workload)
{
	for (size_t i = 0; i < ARRAY_SIZE(telling_labels); i++) {
		const struct label *label = label_find(workload, telling_labels[i]);

		if (label && *label->value)
			return label->value;
	}
	for (size_t i = 0; i < workload->label_count; i++) {
		if (*workload->labels[i]->value)
			return workload->labels[i]->value;
	}
	return "pods";
}
