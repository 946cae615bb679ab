/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an API server sends: pages, streams of events, cut anywhere.  Whatever comes, the client
 * keeps count: every object that it tells as deleted was told before.
 */
#include <stdint.h>

/* NOLINTNEXTLINE(*bugprone-suspicious-include): its parser is nobody else's */
#include "kube/reflector.c" /* its parser is nobody else's */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t told, deleted;

struct apiserver_request *apiserver_get(struct apiserver *apiserver, const char *path,
					const char *accept, uint32_t timeout_s,
					const struct transfer_ops *ops, void *arg)
{
	(void)apiserver;
	(void)path;
	(void)accept;
	(void)timeout_s;
	(void)ops;
	(void)arg;
	return NULL;
}

void apiserver_cancel(struct apiserver_request *request)
{
	(void)request;
}

const char *apiserver_address(const struct apiserver *apiserver)
{
	(void)apiserver;
	return "https://server";
}

static void on_changed(const struct resource *resource, const struct cJSON *object, void *arg)
{
	cJSON *reduced = resource_reduce(resource, object);

	(void)arg;
	if (!cJSON_GetObjectItemCaseSensitive(reduced, "kind"))
		abort();
	cJSON_Delete(reduced);
	told++;
}

static void on_deleted(const struct resource *resource, const char *namespace, const char *name,
		       void *arg)
{
	(void)resource;
	(void)arg;
	if (!namespace || !*name || ++deleted > told)
		abort();
}

static void on_synced(const struct resource *resource, void *arg)
{
	(void)resource;
	(void)arg;
}

static bool is_unlabelled(const struct cJSON *object)
{
	return cJSON_GetObjectItemCaseSensitive(object, "labels") == NULL;
}

static const struct reflector_ops fuzz_ops = { on_changed, on_deleted, on_synced };

/* The first byte says which kind, which phase and how the bytes come; "\xff" ends a request. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct event_base *base;
	struct reflector_scope scope = { 0 };
	struct reflector *reflector;
	struct errmsg err;
	size_t step;

	if (size < 1)
		return 0;
	base = base ? base : event_base_new();
	log_set_level(LOG_LEVEL_ERROR);
	told = deleted = 0;
	scope.resource = &resources[data[0] % resource_count];
	scope.wanted = is_unlabelled;
	if (reflector_new(base, NULL, &scope, &fuzz_ops, NULL, &reflector, &err) < 0)
		abort();
	reflector->phase = (enum phase)(data[0] / 8 % 3);
	step = 1 + data[0] / 32 * 16u;
	data++;
	size--;
	while (size > 0) {
		const uint8_t *end = memchr(data, 0xff, size);
		size_t part = end ? (size_t)(end - data) : size;
		struct transfer_result result = { .status = 200, .text = "" };

		for (size_t i = 0; i < part && !result.error; i += step)
			result.error = on_data((const char *)data + i,
					       step < part - i ? step : part - i, reflector);
		on_done(&result, reflector);
		on_timer(-1, 0, reflector);
		part += end != NULL;
		data += part;
		size -= part;
	}
	reflector_end(reflector);
	if (told < deleted)
		abort();
	return 0;
}
