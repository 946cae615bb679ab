/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/transfer.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <sys/queue.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"

#define ERROR_BODY_MAX 2048 /* of an answer that is no 2xx: a Status object fits */

struct transfer {
	LIST_ENTRY(transfer) link;
	struct transfers *transfers;
	struct transfer_request request;
	const struct transfer_ops *ops;
	void *arg;
	int error; /* of ops->data() */
	char curl_text[CURL_ERROR_SIZE];
	char body[ERROR_BODY_MAX + 1];
	size_t body_len;
};

struct transfers {
	struct event_base *base;
	struct event *timer;
	CURLM *multi;
	LIST_HEAD(, transfer) list;
	uint64_t last_received_ns;
};

/* ---- one transfer ---------------------------------------------------------------------------- */

static void transfer_free(struct transfer *transfer)
{
	LIST_REMOVE(transfer, link);
	curl_multi_remove_handle(transfer->transfers->multi, transfer->request.easy);
	curl_easy_cleanup(transfer->request.easy);
	curl_slist_free_all(transfer->request.headers);
	curl_slist_free_all(transfer->request.connect_to);
	free(transfer);
}

static long transfer_status(const struct transfer *transfer)
{
	long status = 0;

	curl_easy_getinfo(transfer->request.easy, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

static size_t on_data(char *data, size_t size, size_t count, void *arg)
{
	struct transfer *transfer = arg;
	size_t len = size * count, room = ERROR_BODY_MAX - transfer->body_len;
	long status = transfer_status(transfer);

	transfer->transfers->last_received_ns = now_ns();
	if (status >= 200 && status < 300) {
		transfer->error = transfer->ops->data(data, len, transfer->arg);
		return transfer->error ? CURL_WRITEFUNC_ERROR : len;
	}
	if (room > len)
		room = len;
	memcpy(transfer->body + transfer->body_len, data, room);
	transfer->body_len += room;
	return len;
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
	struct transfer *transfer = arg;
	long status = transfer_status(transfer);
	size_t len = size * count;
	bool last = len <= 2 && memchr(line, '\n', len);

	transfer->transfers->last_received_ns = now_ns();
	if (last && status >= 200 && status < 300 && transfer->ops->began)
		transfer->ops->began(transfer->arg);
	return len;
}

/* The API server explains itself in a Status object; others, in a line of text. */
static void status_text(const struct transfer *transfer, long status, char *buf, size_t size)
{
	cJSON *json = cJSON_ParseWithLength(transfer->body, transfer->body_len);
	const char *message =
		cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "message"));
	int line = (int)strcspn(transfer->body, "\r\n");

	if (message)
		snprintf(buf, size, "HTTP %ld: %s", status, message);
	else
		snprintf(buf, size, "HTTP %ld: %.*s", status, line < 200 ? line : 200,
			 transfer->body);
	cJSON_Delete(json);
}

static void transfer_end(struct transfer *transfer, CURLcode code)
{
	struct transfer_result result = { .status = transfer_status(transfer), .text = "" };
	char text[TRANSFER_TEXT_MAX] = "";
	curl_off_t retry_after = 0;

	curl_easy_getinfo(transfer->request.easy, CURLINFO_RETRY_AFTER, &retry_after);
	if (retry_after > 0)
		result.retry_after_s = retry_after < 3600 ? (uint32_t)retry_after : 3600;
	if (transfer->error) {
		result.error = transfer->error;
		snprintf(text, sizeof(text), "%s", strerror(-transfer->error));
	} else if (code == CURLE_OPERATION_TIMEDOUT) {
		result.error = -ETIMEDOUT;
	} else if (code != CURLE_OK) {
		result.error = -EIO;
	}
	if (code != CURLE_OK && !*text)
		snprintf(text, sizeof(text), "%s",
			 *transfer->curl_text ? transfer->curl_text : curl_easy_strerror(code));
	if (code == CURLE_OK && (result.status < 200 || result.status >= 300))
		status_text(transfer, result.status, text, sizeof(text));
	result.text = text;
	transfer->ops->done(&result, transfer->arg);
	transfer_free(transfer);
}

/* ---- libcurl on libevent --------------------------------------------------------------------- */

static void ended_collect(struct transfers *transfers)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(transfers->multi, &left))) {
		struct transfer *transfer;
		char *private = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		transfer = (struct transfer *)(void *)private;
		transfer_end(transfer, message->data.result);
	}
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct transfers *transfers = arg;
	int running;

	curl_multi_socket_action(transfers->multi, fd,
				 (what & EV_READ ? CURL_CSELECT_IN : 0) |
					 (what & EV_WRITE ? CURL_CSELECT_OUT : 0),
				 &running);
	ended_collect(transfers);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct transfers *transfers = arg;
	int running;

	(void)fd;
	(void)what;
	curl_multi_socket_action(transfers->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	ended_collect(transfers);
}

static int socket_wanted(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket)
{
	struct transfers *transfers = arg;
	struct event *event = socket;

	(void)easy;
	if (event)
		event_free(event);
	event = NULL;
	if (what != CURL_POLL_REMOVE) {
		event = event_new(transfers->base, fd,
				  (short)((what & CURL_POLL_IN ? EV_READ : 0) |
					  (what & CURL_POLL_OUT ? EV_WRITE : 0) | EV_PERSIST),
				  on_socket, transfers);
		if (!event || event_add(event, NULL) < 0)
			return -1;
	}
	curl_multi_assign(transfers->multi, fd, event);
	return 0;
}

static int timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
	struct transfers *transfers = arg;
	struct timeval delay = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };

	(void)multi;
	if (timeout_ms < 0)
		return event_del(transfers->timer);
	return event_add(transfers->timer, &delay);
}

static int multi_open(struct transfers *transfers)
{
	CURLM *multi = curl_multi_init();

	if (!multi)
		return -ENOMEM;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_wanted);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, transfers);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_wanted);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, transfers);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
	transfers->multi = multi;
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

DEFINE_AUTO(transfers)

int transfers_new(struct event_base *base, struct transfers **ret, struct errmsg *err)
{
	auto_(transfers) struct transfers *transfers = xcalloc(1, sizeof(*transfers));

	transfers->base = base;
	transfers->last_received_ns = now_ns();
	transfers->timer = event_new(base, -1, 0, on_timer, transfers);
	if (!transfers->timer || multi_open(transfers) < 0)
		return fail(err, -ENOMEM, "start libcurl");
	*ret = take_ptr(transfers);
	return 0;
}

static void multi_close(struct transfers *transfers)
{
	if (transfers->multi)
		curl_multi_cleanup(transfers->multi);
	transfers->multi = NULL;
}

/* done() may start new ones: they are for the next handle. */
static void all_end(struct transfers *transfers, int error, const char *text)
{
	const struct transfer_result result = { .error = error, .text = text };
	LIST_HEAD(, transfer) ended = LIST_HEAD_INITIALIZER(ended);
	struct transfer *transfer;

	while ((transfer = LIST_FIRST(&transfers->list))) {
		LIST_REMOVE(transfer, link);
		curl_multi_remove_handle(transfers->multi, transfer->request.easy);
		LIST_INSERT_HEAD(&ended, transfer, link);
	}
	multi_close(transfers);
	if (error != -ECANCELED && multi_open(transfers) < 0)
		abort();
	while ((transfer = LIST_FIRST(&ended))) {
		transfer->ops->done(&result, transfer->arg);
		transfer_free(transfer);
	}
}

void transfers_free(struct transfers *transfers)
{
	if (!transfers)
		return;
	all_end(transfers, -ECANCELED, "the client stops");
	if (transfers->timer)
		event_free(transfers->timer);
	free(transfers);
}

void transfers_reset(struct transfers *transfers, int error, const char *text)
{
	all_end(transfers, error, text);
}

void transfer_start(struct transfers *transfers, const struct transfer_request *request,
		    const struct transfer_ops *ops, void *arg)
{
	struct transfer *transfer = xcalloc(1, sizeof(*transfer));
	CURL *easy = request->easy;

	transfer->transfers = transfers;
	transfer->request = *request;
	transfer->ops = ops;
	transfer->arg = arg;
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request->headers);
	curl_easy_setopt(easy, CURLOPT_CONNECT_TO, request->connect_to);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->curl_text);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	LIST_INSERT_HEAD(&transfers->list, transfer, link);
	/* Fails for want of memory only. */
	if (curl_multi_add_handle(transfers->multi, easy) != CURLM_OK)
		abort();
}

void transfer_cancel(struct transfers *transfers, const void *arg)
{
	struct transfer *transfer;

	LIST_FOREACH(transfer, &transfers->list, link)
	{
		if (transfer->arg == arg) {
			transfer_free(transfer);
			return;
		}
	}
}

uint64_t transfers_last_received_ns(const struct transfers *transfers)
{
	return transfers->last_received_ns;
}
