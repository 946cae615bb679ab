/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "apiserver"
#include "kube/apiserver.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/queue.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/log.h"

#define TOKEN_MAX         65536
#define CONNECT_TIMEOUT_S 5
/* A dead peer is noticed by TCP within KEEPALIVE_IDLE_S + KEEPALIVE_COUNT * KEEPALIVE_EVERY_S, one
 * that still acknowledges but does not answer within SILENCE_S + PROBE_TIMEOUT_S: both below 30 s.
 */
#define KEEPALIVE_IDLE_S  10
#define KEEPALIVE_EVERY_S 5
#define KEEPALIVE_COUNT   3
#define SILENCE_S         12
#define PROBE_TIMEOUT_S   8

struct apiserver {
	const struct kubeconfig *config;
	struct transfers *transfers;
	size_t server;      /* index of the address in use */
	struct event *tick; /* once a second: looks for silence */
	bool probing;
	bool unanswered; /* the last probe was not answered */
	size_t open;     /* requests under way, the probe aside */
};

/* A request on its way: knows which address it went to. */
struct apiserver_request {
	struct apiserver *apiserver;
	size_t server;
	const struct transfer_ops *ops;
	void *arg;
};

/* ---- one request ----------------------------------------------------------------------------- */

static int on_socket_made(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	const int on = 1, idle = KEEPALIVE_IDLE_S, every = KEEPALIVE_EVERY_S,
		  count = KEEPALIVE_COUNT;
	const unsigned int unacknowledged_ms = (KEEPALIVE_IDLE_S + KEEPALIVE_EVERY_S) * 1000;

	(void)arg;
	(void)purpose;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms,
		   sizeof(unacknowledged_ms));
	return CURL_SOCKOPT_OK;
}

static void blob_set(CURL *easy, CURLoption option, const struct blob *blob)
{
	struct curl_blob set = { .data = blob->data, .len = blob->len, .flags = CURL_BLOB_NOCOPY };

	if (blob->data)
		curl_easy_setopt(easy, option, &set);
}

static void text_set(CURL *easy, CURLoption option, const char *text)
{
	if (text)
		curl_easy_setopt(easy, option, text);
}

static void credentials_set(CURL *easy, const struct kubeconfig *config)
{
	text_set(easy, CURLOPT_CAINFO, config->ca.data ? NULL : config->ca_file);
	blob_set(easy, CURLOPT_CAINFO_BLOB, &config->ca);
	text_set(easy, CURLOPT_SSLCERT, config->cert.data ? NULL : config->cert_file);
	blob_set(easy, CURLOPT_SSLCERT_BLOB, &config->cert);
	text_set(easy, CURLOPT_SSLKEY, config->key.data ? NULL : config->key_file);
	blob_set(easy, CURLOPT_SSLKEY_BLOB, &config->key);
	text_set(easy, CURLOPT_PROXY, config->proxy_url);
	/* A CA that was replaced counts from the next connection on. */
	curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
	if (config->insecure) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

/* tls-server-name: libcurl checks the URL's name, so the URL has the certificate's and the
 * connection goes to the server's address. */
static struct curl_slist *address_set(CURL *easy, const struct kubeconfig *config,
				      const char *server, const char *path)
{
	const char *host = server + strlen("https://");
	int host_len = (int)strcspn(host, "/");
	struct curl_slist *connect_to = NULL;
	auto_free char *url = NULL;

	if (config->tls_server_name) {
		auto_free char *target =
			xasprintf(strrchr(host, ':') > strrchr(host, ']') ? "::%.*s" : "::%.*s:443",
				  host_len, host);

		connect_to = curl_slist_append(NULL, target);
		url = xasprintf("https://%s%s%s", config->tls_server_name, host + host_len, path);
	} else {
		url = xasprintf("%s%s", server, path);
	}
	curl_easy_setopt(easy, CURLOPT_URL, url);
	return connect_to;
}

/* "Authorization: Bearer TOKEN".  The file is read for every request: it rotates, and is small. */
static struct curl_slist *headers_make(const struct kubeconfig *config, const char *accept)
{
	auto_free char *accept_header =
		xasprintf("Accept: %s", accept ? accept : "application/json");
	struct curl_slist *headers = curl_slist_append(NULL, accept_header);
	auto_free char *text = NULL;
	auto_free char *header = NULL;
	const char *token = config->token;
	struct errmsg err = { 0 };
	size_t len;

	if (config->token_file) {
		if (file_read(config->token_file, TOKEN_MAX, &text, &len, &err) < 0)
			log_warn("%s", err.text);
		token = text;
	}
	if (token && strcspn(token, "\r\n") > 0) {
		header =
			xasprintf("Authorization: Bearer %.*s", (int)strcspn(token, "\r\n"), token);
		headers = curl_slist_append(headers, header);
	}
	return headers;
}

static void on_began(void *arg)
{
	const struct apiserver_request *request = arg;

	if (request->ops->began)
		request->ops->began(request->arg);
}

static int on_data(const char *data, size_t len, void *arg)
{
	const struct apiserver_request *request = arg;

	return request->ops->data(data, len, request->arg);
}

static void on_done(const struct transfer_result *result, void *arg)
{
	struct apiserver_request *request = arg;
	struct apiserver *apiserver = request->apiserver;
	const struct kubeconfig *config = apiserver->config;
	bool gone = result->status == 0 || result->status == 502 || result->status == 503;

	apiserver->open--;
	if (gone && config->server_count > 1 && request->server == apiserver->server) {
		apiserver->server = (apiserver->server + 1) % config->server_count;
		log_warn("%s: %s; trying %s", config->servers[request->server], result->text,
			 config->servers[apiserver->server]);
	}
	request->ops->done(result, request->arg);
	free(request);
}

static const struct transfer_ops request_ops = { .began = on_began,
						 .data = on_data,
						 .done = on_done };

/* Everything but the body. */
static struct transfer_request request_make(const struct apiserver *apiserver, const char *path,
					    const char *accept, uint32_t timeout_s)
{
	const struct kubeconfig *config = apiserver->config;
	struct transfer_request request = { .easy = curl_easy_init() };
	CURL *easy = request.easy;

	if (!easy)
		abort(); /* out of memory */
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
	request.connect_to = address_set(easy, config, config->servers[apiserver->server], path);
	request.headers = headers_make(config, accept);
	credentials_set(easy, config);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L); /* rather one connection than several */
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "tendril-kube/" TENDRIL_VERSION);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT, (long)timeout_s);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_socket_made);
	return request;
}

static struct apiserver_request *start(struct apiserver *apiserver,
				       const struct transfer_request *transfer,
				       const struct transfer_ops *ops, void *arg)
{
	struct apiserver_request *request = xmalloc(sizeof(*request));

	*request = (struct apiserver_request){
		.apiserver = apiserver, .server = apiserver->server, .ops = ops, .arg = arg
	};
	apiserver->open++;
	transfer_start(apiserver->transfers, transfer, &request_ops, request);
	return request;
}

struct apiserver_request *apiserver_get(struct apiserver *apiserver, const char *path,
					const char *accept, uint32_t timeout_s,
					const struct transfer_ops *ops, void *arg)
{
	const struct transfer_request transfer = request_make(apiserver, path, accept, timeout_s);

	return start(apiserver, &transfer, ops, arg);
}

struct apiserver_request *apiserver_send(struct apiserver *apiserver,
					 const struct apiserver_write *write, uint32_t timeout_s,
					 const struct transfer_ops *ops, void *arg)
{
	struct transfer_request transfer = request_make(apiserver, write->path, NULL, timeout_s);
	auto_free char *type = xasprintf("Content-Type: %s", write->type);

	transfer.headers = curl_slist_append(transfer.headers, type);
	transfer.headers = curl_slist_append(transfer.headers, "Expect:");
	curl_easy_setopt(transfer.easy, CURLOPT_CUSTOMREQUEST, write->method);
	curl_easy_setopt(transfer.easy, CURLOPT_COPYPOSTFIELDS, write->body);
	return start(apiserver, &transfer, ops, arg);
}

void apiserver_cancel(struct apiserver_request *request)
{
	transfer_cancel(request->apiserver->transfers, request);
	request->apiserver->open--;
	free(request);
}

/* ---- silence --------------------------------------------------------------------------------- */

static int on_probe_data(const char *data, size_t len, void *arg)
{
	(void)data;
	(void)len;
	(void)arg;
	return 0;
}

static void on_probe_done(const struct transfer_result *result, void *arg)
{
	struct apiserver *apiserver = arg;

	apiserver->probing = false;
	apiserver->unanswered = result->status == 0 && result->error != -ECANCELED;
}

static const struct transfer_ops probe_ops = { .data = on_probe_data, .done = on_probe_done };

/* Watches may be silent for long: whether anybody is there, only a question tells. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct apiserver *apiserver = arg;
	uint64_t silence_ns = now_ns() - transfers_last_received_ns(apiserver->transfers);

	(void)fd;
	(void)what;
	if (apiserver->unanswered) {
		apiserver->unanswered = false;
		transfers_reset(apiserver->transfers, -ETIMEDOUT, "the API server does not answer");
	} else if (apiserver->open && !apiserver->probing &&
		   silence_ns > SILENCE_S * 1000000000ull) {
		const struct transfer_request probe =
			request_make(apiserver, "/livez", NULL, PROBE_TIMEOUT_S);

		apiserver->probing = true;
		transfer_start(apiserver->transfers, &probe, &probe_ops, apiserver);
	}
}

/* ---- life ------------------------------------------------------------------------------------ */

DEFINE_AUTO(apiserver)

int apiserver_new(struct event_base *base, const struct kubeconfig *config, struct apiserver **ret,
		  struct errmsg *err)
{
	auto_(apiserver) struct apiserver *apiserver = xcalloc(1, sizeof(*apiserver));
	const struct timeval second = { .tv_sec = 1 };

	apiserver->config = config;
	if (transfers_new(base, &apiserver->transfers, err) < 0)
		return err->code;
	apiserver->tick = event_new(base, -1, EV_PERSIST, on_tick, apiserver);
	if (!apiserver->tick || event_add(apiserver->tick, &second) < 0)
		return fail(err, -ENOMEM, "watch the API server");
	*ret = take_ptr(apiserver);
	return 0;
}

void apiserver_free(struct apiserver *apiserver)
{
	if (!apiserver)
		return;
	transfers_free(apiserver->transfers);
	if (apiserver->tick)
		event_free(apiserver->tick);
	free(apiserver);
}

const char *apiserver_address(const struct apiserver *apiserver)
{
	return apiserver->config->servers[apiserver->server];
}
