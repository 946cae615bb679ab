/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of endpoints and the CNI calls on it.  endpoint_steps.c makes an endpoint,
 * endpoint_repair.c keeps it.
 */
#include "agent/endpoint/endpoint_internal.h"
#include "lib/alloc.h"
#include "lib/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_MODULE "endpoint"
#include "agent/sync/sync.h"
#include "lib/log.h"

#define LINK_WORKER_WAIT_MS 3000

int endpoint_fail(struct endpoint_error *error, int code, const char *step,
		  const struct errmsg *err)
{
	error->cni_code = code;
	error->step = step;
	error->text = *err;
	return err->code;
}

/* ---- one endpoint -------------------------------------------------------------------------- */

struct endpoint *endpoint_new(void)
{
	struct endpoint *endpoint = xcalloc(1, sizeof(*endpoint));

	endpoint->netns_fd = -1;
	endpoint->netns_id = NETNS_ID_UNKNOWN;
	return endpoint;
}

void endpoint_free(struct endpoint *endpoint)
{
	if (!endpoint)
		return;
	if (endpoint->netns_fd >= 0)
		close(endpoint->netns_fd);
	labels_done(&endpoint->labels);
	free(endpoint->netns_path);
	free(endpoint->host_ports);
	free(endpoint);
}

struct endpoint *endpoint_find(const struct endpoints *endpoints, const char *container_id,
			       const char *ifname)
{
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct endpoint *endpoint = endpoints->slots[slot];

		if (endpoint && strcmp(endpoint->container_id, container_id) == 0 &&
		    strcmp(endpoint->ifname, ifname) == 0)
			return endpoint;
	}
	return NULL;
}

bool endpoint_has_ipv6(const struct endpoint *endpoint)
{
	for (size_t i = 0; i < endpoint->address_count; i++) {
		if (!addr_is_v4(&endpoint->addresses[i].address.addr))
			return true;
	}
	return false;
}

void endpoint_set_slot(struct endpoint *endpoint, uint16_t slot)
{
	endpoint->slot = slot;
	snprintf(endpoint->host_ifname, sizeof(endpoint->host_ifname), HOST_IFNAME_PREFIX "%u",
		 slot);
}

const char *endpoint_describe(const struct endpoint *endpoint, char buf[ENDPOINT_TEXT_MAX])
{
	snprintf(buf, ENDPOINT_TEXT_MAX, "%s/%s (%.12s/%s)", endpoint->namespace, endpoint->name,
		 endpoint->container_id, endpoint->ifname);
	return buf;
}

/* ---- release --------------------------------------------------------------------------------- */

static void endpoint_forget(struct endpoints *endpoints, struct endpoint *endpoint)
{
	char text[ENDPOINT_TEXT_MAX];

	log_info("%s: %s is removed", endpoint_describe(endpoint, text), endpoint->host_ifname);
	endpoint_state_remove(endpoints, endpoint);
	endpoints->slots[endpoint->slot] = NULL;
	endpoint_free(endpoint);
}

static void on_deleted(uint32_t tag, int result, void *arg)
{
	struct endpoints *endpoints = arg;
	struct endpoint *endpoint = tag < endpoints->slot_count ? endpoints->slots[tag] : NULL;

	if (tag == TCX_TAG)
		endpoints_tcx_next(endpoints);
	if (!endpoint || endpoint->state != ENDPOINT_DELETING)
		return;
	if (result < 0)
		log_error("delete %s: %s; the next start tries again", endpoint->host_ifname,
			  strerror(-result));
	else
		endpoint_forget(endpoints, endpoint);
}

static void on_link_worker(evutil_socket_t fd, short what, void *arg);

/* Leaves endpoints->link_worker NULL if no process can be started. */
static int link_worker_launch(struct endpoints *endpoints, struct errmsg *err)
{
	int ret;

	if (endpoints->link_worker_event)
		event_free(take_ptr(endpoints->link_worker_event));
	link_worker_free(take_ptr(endpoints->link_worker));
	ret = link_worker_new(endpoints->fork_server,
			      datapath_program_fd(endpoints->datapath, "from_pod"),
			      &endpoints->link_worker, err);
	if (ret < 0)
		return ret;
	endpoints->link_worker_event =
		event_new(endpoints->base, link_worker_fd(endpoints->link_worker),
			  EV_READ | EV_PERSIST, on_link_worker, endpoints);
	if (event_add(endpoints->link_worker_event, NULL) < 0) {
		link_worker_free(take_ptr(endpoints->link_worker));
		return fail(err, -EIO, "watch the link worker");
	}
	endpoints_tcx_soon(endpoints);
	return 0;
}

int endpoints_link_worker_start(struct endpoints *endpoints, struct errmsg *err)
{
	int ret = link_worker_launch(endpoints, err);

	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct endpoint *endpoint = endpoints->slots[slot];

		if (endpoint && endpoint->state == ENDPOINT_DELETING)
			endpoint_delete_link(endpoints, endpoint);
		else if (endpoint)
			endpoint->tcx = false; /* the former one may not have done it */
	}
	return ret;
}

static int link_worker_collect_or_restart(struct endpoints *endpoints, int wait_ms)
{
	struct errmsg err = {};

	if (endpoints->link_worker &&
	    link_worker_collect(endpoints->link_worker, wait_ms, on_deleted, endpoints) >= 0)
		return 0;
	log_warn("the link worker died; starting another");
	if (endpoints_link_worker_start(endpoints, &err) < 0)
		log_error("%s", err.text);
	return err.code;
}

static void on_link_worker(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	link_worker_collect_or_restart(arg, 0);
}

void endpoint_delete_link(struct endpoints *endpoints, struct endpoint *endpoint)
{
	int ifindex = endpoint_ifindex(endpoint);
	struct errmsg err = {};

	if ((endpoints->link_worker || link_worker_launch(endpoints, &err) == 0) &&
	    link_worker_delete(endpoints->link_worker, ifindex, endpoint->slot, &err) == 0)
		return;
	/* No child, or it is busy: delete it here, however long that takes. */
	log_debug("%s", err.text);
	on_deleted(endpoint->slot, veth_del(&endpoints->netlink, ifindex, &err), endpoints);
}

void endpoint_release(struct endpoints *endpoints, struct endpoint *endpoint)
{
	char text[ENDPOINT_TEXT_MAX];
	struct errmsg err = {};

	if (endpoint->state == ENDPOINT_DELETING)
		return;
	/* First the state file: if the agent dies now, the next one continues.  Without a file it
	 * finds an interface that is nobody's, which comes to the same. */
	endpoint->state = ENDPOINT_DELETING;
	if (endpoint_state_save(endpoints, endpoint, &err) < 0) {
		log_warn("%s: %s", endpoint_describe(endpoint, text), err.text);
		endpoint_state_remove(endpoints, endpoint);
	}
	endpoint_unregister(endpoints, endpoint);
	if (endpoint->chained) { /* the interface is not ours to delete */
		chained_close(endpoints, endpoint);
		endpoint_forget(endpoints, endpoint);
		return;
	}
	for (size_t i = 0; i < endpoint->address_count; i++)
		host_device_route_del(endpoints->host, &endpoint->addresses[i].address.addr);
	endpoint_delete_link(endpoints, endpoint);
}

static bool any_deleting(const struct endpoints *endpoints,
			 bool (*is_meant)(const struct endpoint *endpoint, const void *arg),
			 const void *arg)
{
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		const struct endpoint *endpoint = endpoints->slots[slot];

		if (endpoint && endpoint->state == ENDPOINT_DELETING &&
		    (!is_meant || is_meant(endpoint, arg)))
			return true;
	}
	return false;
}

int endpoints_wait_deleted(struct endpoints *endpoints,
			   bool (*is_meant)(const struct endpoint *endpoint, const void *arg),
			   const void *arg, struct errmsg *err)
{
	int64_t deadline = now_ms() + LINK_WORKER_WAIT_MS;

	int ret = 0;

	while (any_deleting(endpoints, is_meant, arg)) {
		int64_t now = now_ms();

		if (ret < 0 || now >= deadline)
			return fail_plain(err, -EAGAIN,
					  "the previous interface is still being deleted");
		ret = link_worker_collect_or_restart(endpoints, (int)(deadline - now));
	}
	return 0;
}

/* ---- ADD ------------------------------------------------------------------------------------- */

/* What a new endpoint must wait for: its own former interface, or another of that name in the same
 * namespace. */
static bool is_in_the_way(const struct endpoint *endpoint, const void *arg)
{
	const struct endpoint *fresh = arg;

	return strcmp(endpoint->ifname, fresh->ifname) == 0 &&
	       (strcmp(endpoint->container_id, fresh->container_id) == 0 ||
		endpoint->netns.cookie == fresh->netns.cookie);
}

/* A runtime that did not receive the answer repeats ADD: the result is the same then.  A known
 * container in another namespace was started again. */
static int known_handle(struct endpoints *endpoints, const struct endpoint *fresh, int netns_fd,
			struct cJSON **ret_result, struct errmsg *err)
{
	struct endpoint *known = endpoint_find(endpoints, fresh->container_id, fresh->ifname);
	struct errmsg difference = {};

	if (known && known->netns.cookie == fresh->netns.cookie &&
	    known->state != ENDPOINT_DELETING) {
		if (endpoint_compare(endpoints, known, netns_fd, &difference) == 0) {
			*ret_result = endpoint_result(known);
			return 0;
		}
		log_warn("%s/%s: %s; wiring it again", known->namespace, known->name,
			 difference.text);
	}
	if (known)
		endpoint_release(endpoints, known);
	return endpoints_wait_deleted(endpoints, is_in_the_way, fresh, err);
}

static int request_check(const struct endpoints *endpoints, struct endpoint *endpoint, int netns_fd,
			 struct errmsg *err)
{
	int ret = netns_identify(netns_fd, &endpoint->netns, err);

	if (ret < 0)
		return ret;
	if (endpoint->netns.cookie == endpoints->home.cookie)
		return fail_plain(err, -EINVAL, "netns: %s is the node's own network namespace",
				  endpoint->netns_path);
	return 0;
}

/* A pod answers over its default route, so a second interface would be reached over the first one's
 * address at best. */
static int second_interface_refuse(const struct endpoints *endpoints, const struct endpoint *fresh,
				   struct errmsg *err)
{
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		const struct endpoint *other = endpoints->slots[slot];

		if (other && other->state != ENDPOINT_DELETING &&
		    other->netns.cookie == fresh->netns.cookie &&
		    strcmp(other->ifname, fresh->ifname) != 0)
			return fail_plain(
				err, -EEXIST,
				"%s: this network namespace has the interface %s already, "
				"and Tendril gives a pod only one",
				fresh->ifname, other->ifname);
	}
	return 0;
}

/* Runs the steps; if they fail only because of what is being deleted, runs them once more after
 * that. */
static int steps_run_patiently(struct endpoint_add *add, struct endpoint_error *error)
{
	int ret = endpoint_steps_run(add, error);

	if (ret != -ENOSPC || !any_deleting(add->endpoints, NULL, NULL))
		return ret;
	if (endpoints_wait_deleted(add->endpoints, NULL, NULL, NULL) < 0) {
		error->cni_code = CNI_TRY_AGAIN_LATER;
		return ret;
	}
	return endpoint_steps_run(add, error);
}

/* A pod that starts without its policies would be open. */
static int policies_known(const struct endpoints *endpoints, struct errmsg *err)
{
	const char *missing = sync_missing(endpoints->sync);

	return missing ? fail_plain(err, -EAGAIN, "%s", missing) : 0;
}

int endpoints_add(struct endpoints *endpoints, const struct cJSON *request_json, int netns_fd,
		  struct cJSON **ret_result, struct endpoint_error *error)
{
	struct endpoint_request request = {};
	auto_(endpoint) struct endpoint *endpoint = NULL;
	auto_json struct cJSON *answer = NULL;
	struct endpoint_add add = { .endpoints = endpoints,
				    .request = &request,
				    .netns_fd = netns_fd };
	struct errmsg err = {};
	char text[ENDPOINT_TEXT_MAX];
	int ret = endpoint_request_parse(request_json, &request, &err);

	if (ret < 0)
		return endpoint_fail(error, CNI_INVALID_CONFIG, "read the request", &err);
	endpoint = request.endpoint;
	ret = policies_known(endpoints, &err);
	if (ret < 0)
		return endpoint_fail(error, CNI_TRY_AGAIN_LATER, "learn the policies", &err);
	ret = request_check(endpoints, endpoint, netns_fd, &err);
	if (ret < 0)
		return endpoint_fail(error, CNI_INVALID_ENVIRONMENT, "look at the namespace", &err);
	spool_consume(endpoints);
	ret = second_interface_refuse(endpoints, endpoint, &err);
	if (ret < 0)
		return endpoint_fail(error, CNI_INVALID_ENVIRONMENT, "add a second interface",
				     &err);
	ret = known_handle(endpoints, endpoint, netns_fd, &answer, &err);
	if (ret < 0)
		return endpoint_fail(error, CNI_TRY_AGAIN_LATER, "remove the previous interface",
				     &err);
	if (answer) {
		*ret_result = take_ptr(answer);
		return 0;
	}
	add.endpoint = endpoint;
	ret = steps_run_patiently(&add, error);
	if (ret < 0)
		return ret;
	endpoint = NULL; /* the table owns it */
	answer = endpoint_result(add.endpoint);
	log_info("%s: %s%s", endpoint_describe(add.endpoint, text), add.endpoint->host_ifname,
		 add.endpoint->chained ? " of another plugin" : "");
	if (!add.endpoint->chained)
		endpoints_tcx_soon(endpoints);
	*ret_result = take_ptr(answer);
	return 0;
}

/* ---- DEL, CHECK, GC, STATUS ------------------------------------------------------------------ */

int endpoints_del(struct endpoints *endpoints, const struct cJSON *request,
		  struct endpoint_error *error)
{
	struct json_node root = json_root(request);
	struct endpoint *endpoint;
	const char *container_id, *ifname;
	struct errmsg err = {};
	struct reader reader = { .err = &err };

	endpoint_names_read(&reader, &root, &container_id, &ifname);
	if (reader.ret)
		return endpoint_fail(error, CNI_INVALID_CONFIG, "read the request", &err);
	endpoint = endpoint_find(endpoints, container_id, ifname);
	if (!endpoint)
		return 0;
	endpoint_release(endpoints, endpoint);
	return 0;
}

/* Whether prevResult has the interface as ADD made it.  Other plugins of the chain may have added
 * to it, or changed the MAC, which is then in both. */
static int previous_check(const struct endpoint *endpoint, const struct json_node *previous,
			  struct errmsg *err)
{
	struct json_node ips = json_member(previous, "ips");

	for (size_t i = 0; i < endpoint->address_count; i++) {
		const struct addr *addr = &endpoint->addresses[i].address.addr;
		const struct cJSON *item;
		char text[ADDR_TEXT_MAX];
		bool found = false;

		addr_format(addr, text);
		cJSON_ArrayForEach (item, ips.value) {
			const struct cJSON *address =
				cJSON_GetObjectItemCaseSensitive(item, "address");
			size_t len = strlen(text);

			found |= cJSON_IsString(address) &&
				 strncmp(address->valuestring, text, len) == 0 &&
				 (address->valuestring[len] == '/' || !address->valuestring[len]);
		}
		if (!found)
			return fail_plain(err, -EPROTO, "prevResult does not have address %s",
					  text);
	}
	return 0;
}

int endpoints_check(struct endpoints *endpoints, const struct cJSON *request, int netns_fd,
		    struct endpoint_error *error)
{
	struct json_node root = json_root(request);
	struct json_node previous = json_member(&root, "prevResult");
	const struct endpoint *endpoint;
	const char *container_id, *ifname;
	struct errmsg err = {};
	struct reader reader = { .err = &err };
	int ret;

	endpoint_names_read(&reader, &root, &container_id, &ifname);
	if (reader.ret)
		return endpoint_fail(error, CNI_INVALID_CONFIG, "read the request", &err);
	endpoint = endpoint_find(endpoints, container_id, ifname);
	if (!endpoint || endpoint->state == ENDPOINT_DELETING) {
		fail_plain(&err, -EPROTO, "no interface %s was made for container %s", ifname,
			   container_id);
		return endpoint_fail(error, CNI_UNKNOWN_CONTAINER, "find the endpoint", &err);
	}
	ret = endpoint_compare(endpoints, endpoint, netns_fd, &err);
	if (ret == 0 && json_present(&previous))
		ret = previous_check(endpoint, &previous, &err);
	return ret < 0 ? endpoint_fail(error, CNI_CHECK_DIFFERS, "compare", &err) : 0;
}

static bool is_valid_endpoint(const struct json_node *valid, const struct endpoint *endpoint)
{
	const struct cJSON *item;

	cJSON_ArrayForEach (item, valid->value) {
		const struct cJSON *id = cJSON_GetObjectItemCaseSensitive(item, "containerID");
		const struct cJSON *ifname = cJSON_GetObjectItemCaseSensitive(item, "ifname");

		if (strcmp(id->valuestring, endpoint->container_id) == 0 &&
		    strcmp(ifname->valuestring, endpoint->ifname) == 0)
			return true;
	}
	return false;
}

/* Checks everything before anything is removed: a list that is not understood must not read as
 * "nothing is valid". */
static void valid_endpoints_check(struct reader *reader, const struct json_node *valid)
{
	const struct cJSON *item;
	size_t i = 0;

	if (!read_required(reader, valid) || !read_is_array(reader, valid))
		return;
	cJSON_ArrayForEach (item, valid->value) {
		struct json_node node = json_element(valid, item, i++);
		struct json_node id = json_member(&node, "containerID");
		struct json_node ifname = json_member(&node, "ifname");

		read_is_object(reader, &node);
		read_required_string(reader, &id);
		read_required_string(reader, &ifname);
	}
}

int endpoints_gc(struct endpoints *endpoints, const struct cJSON *request,
		 struct cJSON **ret_result, struct endpoint_error *error)
{
	struct json_node root = json_root(request);
	struct json_node valid = json_member(&root, "validAttachments");
	struct json_node network_node = json_member(&root, "network");
	struct errmsg err = {};
	struct reader reader = { .err = &err };
	const char *network;
	int removed = 0;

	valid_endpoints_check(&reader, &valid);
	network = read_required_string(&reader, &network_node);
	if (reader.ret)
		return endpoint_fail(error, CNI_INVALID_CONFIG, "read the request", &err);
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct endpoint *endpoint = endpoints->slots[slot];

		if (!endpoint || endpoint->state == ENDPOINT_DELETING ||
		    strcmp(endpoint->network, network) != 0 || is_valid_endpoint(&valid, endpoint))
			continue;
		log_info("gc: %s/%s (%.12s/%s) is not among the valid attachments",
			 endpoint->namespace, endpoint->name, endpoint->container_id,
			 endpoint->ifname);
		endpoint_release(endpoints, endpoint);
		removed++;
	}
	*ret_result = cJSON_CreateObject();
	cJSON_AddNumberToObject(*ret_result, "removed", removed);
	return 0;
}

/* One pod's trouble is no reason for a runtime to call the node not ready. */
static void first_problem(const char *text, enum problem_scope scope, void *arg)
{
	struct errmsg *err = arg;

	if (!err->code && scope == PROBLEM_OF_NODE)
		fail_plain(err, -EHOSTUNREACH, "%s", text);
}

int endpoints_cni_status(struct endpoints *endpoints, struct endpoint_error *error)
{
	struct errmsg err = {};
	bool changed = false;
	int ret = policies_known(endpoints, &err);

	if (ret < 0)
		return endpoint_fail(error, CNI_NOT_AVAILABLE, "learn the policies", &err);
	ret = endpoint_state_room(endpoints, &err);
	if (ret < 0)
		return endpoint_fail(error, CNI_NOT_AVAILABLE, "look at the run directory", &err);
	ret = host_device_ensure(endpoints->host, &changed, &err);
	if (ret == 0 &&
	    !datapath_host_attached(endpoints->datapath, host_device_ifindex(endpoints->host)))
		ret = fail_plain(&err, -ENOENT, "the program of %s is not attached", HOST_DEVICE);
	if (ret == 0) {
		err = (struct errmsg){};
		endpoints_problems(endpoints, first_problem, &err);
		ret = err.code;
	}
	if (ret < 0)
		return endpoint_fail(error, CNI_LIMITED_CONNECTIVITY, "look at the node", &err);
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		if (!endpoints->slots[slot])
			return 0;
	}
	fail_plain(&err, -ENOSPC, "all %zu endpoints of this node are in use (max-endpoints)",
		   endpoints->slot_count - 1);
	return endpoint_fail(error, CNI_NOT_AVAILABLE, "reserve", &err);
}
