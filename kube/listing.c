/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "listing"
#include "kube/listing.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <errno.h>
#include <event2/event.h>

#include "kube/resource.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/json.h"
#include "lib/log.h"

#define PAGE_SIZE      500
#define PAGE_MAX_BYTES (64 << 20)
#define PAGE_TIMEOUT_S 30

struct listing {
	struct event_base *base;
	struct apiserver *apiserver;
	FILE *out;
	size_t resource; /* that is listed */
	size_t printed;
	char *next_page; /* continue token, or NULL */
	struct buffer text;
	int ret;
	struct errmsg *err;
};

static void page_ask(struct listing *listing);

static int on_data(const char *data, size_t len, void *arg)
{
	struct listing *listing = arg;

	if (listing->text.len + len > PAGE_MAX_BYTES)
		return -EMSGSIZE;
	buffer_add(&listing->text, data, len);
	return 0;
}

static void object_print(struct listing *listing, const cJSON *item)
{
	auto_json cJSON *object = resource_reduce(&resources[listing->resource], item);
	auto_free char *text = cJSON_PrintUnformatted(object);

	fprintf(listing->out, "%s\n%s", listing->printed++ ? "," : "", text ? text : "null");
}

static int page_take(struct listing *listing)
{
	auto_json cJSON *page = cJSON_ParseWithLength(listing->text.data, listing->text.len);
	const cJSON *items = cJSON_GetObjectItemCaseSensitive(page, "items");
	const char *token = metadata_text(page, "continue");
	const cJSON *item;

	if (!cJSON_IsArray(items) && !cJSON_IsNull(items))
		return -EBADMSG;
	cJSON_ArrayForEach (item, items)
		object_print(listing, item);
	free(listing->next_page);
	listing->next_page = *token ? xstrdup(token) : NULL;
	return 0;
}

static bool may_be_missing(const struct resource *resource, long status)
{
	return (resource->optional && (status == 404 || status == 403)) ||
	       (resource_is_node(resource) && status == 403);
}

static void on_done(const struct transfer_result *result, void *arg)
{
	struct listing *listing = arg;
	const struct resource *resource = &resources[listing->resource];
	const char *why = result->text;
	bool fine = result->error == 0 && result->status == 200;

	if (fine && page_take(listing) < 0) {
		fine = false;
		why = "the answer is no list";
	} else if (!fine && may_be_missing(resource, result->status)) {
		if (resource_is_node(resource))
			log_warn("Nodes may not be read: addresses of nodes are unknown");
		fine = true;
	}
	buffer_done(&listing->text);
	listing->text = (struct buffer){ 0 };
	if (!fine) {
		listing->ret =
			fail_plain(listing->err, -EBADMSG, "%s%s: %s",
				   apiserver_address(listing->apiserver), resource->path, why);
		event_base_loopbreak(listing->base);
		return;
	}
	if (!listing->next_page && ++listing->resource == resource_count)
		event_base_loopbreak(listing->base);
	else
		page_ask(listing);
}

static void page_ask(struct listing *listing)
{
	static const struct transfer_ops ops = { .data = on_data, .done = on_done };
	const struct resource *resource = &resources[listing->resource];
	auto_buffer struct buffer path = { 0 };

	buffer_print(&path, "%s?limit=%d", resource->path, PAGE_SIZE);
	if (resource->label_selector)
		buffer_print(&path, "&labelSelector=%s", resource->label_selector);
	if (listing->next_page) {
		char *token = curl_easy_escape(NULL, listing->next_page, 0);

		buffer_print(&path, "&continue=%s", token ? token : "");
		curl_free(token);
	}
	apiserver_get(listing->apiserver, path.data, NULL, PAGE_TIMEOUT_S, &ops, listing);
}

int listing_print(struct event_base *base, struct apiserver *apiserver, FILE *out,
		  struct errmsg *err)
{
	struct listing listing = { .base = base, .apiserver = apiserver, .out = out, .err = err };

	fputs("{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[", out);
	page_ask(&listing);
	event_base_dispatch(base);
	fputs("\n]}\n", out);
	free(listing.next_page);
	if (!listing.ret && fflush(out) != 0)
		return fail(err, -errno, "standard output");
	return listing.ret;
}
