/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of endpoints and the CNI calls on it.  How an endpoint is made is in endpoint_steps.c,
 * how it is kept in endpoint_repair.c.
 */
#include "agent/endpoint/endpoint_internal.h"
#include "lib/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_MODULE "endpoint"
#include "agent/objects/objects.h"
#include "lib/log.h"

#define REAP_WAIT_MS 3000

int endpoint_fail(struct endpoint_error *error, int code, const char *step,
		  const struct errmsg *err)
{
	error->cni_code = code;
	error->step = step;
	error->text = *err;
	return err->code;
}

/* ---- one attachment -------------------------------------------------------------------------- */

struct attachment *attachment_new(void)
{
	struct attachment *attachment = calloc(1, sizeof(*attachment));

	if (attachment)
		attachment->netns_fd = -1;
	return attachment;
}

void attachment_free(struct attachment *attachment)
{
	if (!attachment)
		return;
	if (attachment->netns_fd >= 0)
		close(attachment->netns_fd);
	labels_release(&attachment->labels);
	free(attachment->netns_path);
	free(attachment);
}

struct attachment *attachment_find(const struct endpoints *endpoints, const char *container_id,
				   const char *ifname)
{
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct attachment *attachment = endpoints->slots[slot];

		if (attachment && strcmp(attachment->container_id, container_id) == 0 &&
		    strcmp(attachment->ifname, ifname) == 0)
			return attachment;
	}
	return NULL;
}

void attachment_set_slot(struct attachment *attachment, uint16_t slot)
{
	attachment->slot = slot;
	snprintf(attachment->host_ifname, sizeof(attachment->host_ifname), HOST_IFNAME_PREFIX "%u",
		 slot);
}

const char *attachment_describe(const struct attachment *attachment, char buf[ATTACHMENT_TEXT_MAX])
{
	snprintf(buf, ATTACHMENT_TEXT_MAX, "%s/%s (%.12s/%s)", attachment->namespace,
		 attachment->name, attachment->container_id, attachment->ifname);
	return buf;
}

/* ---- release --------------------------------------------------------------------------------- */

static void attachment_forget(struct endpoints *endpoints, struct attachment *attachment)
{
	char text[ATTACHMENT_TEXT_MAX];

	log_info("%s: %s is removed", attachment_describe(attachment, text),
		 attachment->host_ifname);
	endpoint_state_remove(endpoints, attachment);
	endpoints->slots[attachment->slot] = NULL;
	attachment_free(attachment);
}

static void on_reaped(uint32_t tag, int result, void *arg)
{
	struct endpoints *endpoints = arg;
	struct attachment *attachment = tag < endpoints->slot_count ? endpoints->slots[tag] : NULL;

	if (tag == TCX_TAG)
		endpoints_tcx_next(endpoints);
	if (!attachment || attachment->state != ATTACHMENT_DELETING)
		return;
	if (result < 0)
		log_error("delete %s: %s; the next start tries again", attachment->host_ifname,
			  strerror(-result));
	else
		attachment_forget(endpoints, attachment);
}

static void on_reaper(evutil_socket_t fd, short what, void *arg);

/* Leaves endpoints->reaper NULL if no process is to be had. */
static int reaper_launch(struct endpoints *endpoints, struct errmsg *err)
{
	int result;

	if (endpoints->reaper_event)
		event_free(take_ptr(endpoints->reaper_event));
	reaper_free(take_ptr(endpoints->reaper));
	result = reaper_new(datapath_program_fd(endpoints->agent->datapath, "from_pod"),
			    &endpoints->reaper, err);
	if (result < 0)
		return result;
	endpoints->reaper_event = event_new(endpoints->agent->base, reaper_fd(endpoints->reaper),
					    EV_READ | EV_PERSIST, on_reaper, endpoints);
	if (!endpoints->reaper_event || event_add(endpoints->reaper_event, NULL) < 0) {
		reaper_free(take_ptr(endpoints->reaper));
		return fail(err, -ENOMEM, "watch the reaper");
	}
	endpoints_tcx_soon(endpoints);
	return 0;
}

int endpoints_reaper_start(struct endpoints *endpoints, struct errmsg *err)
{
	int result = reaper_launch(endpoints, err);

	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct attachment *attachment = endpoints->slots[slot];

		if (attachment && attachment->state == ATTACHMENT_DELETING)
			attachment_reap(endpoints, attachment);
		else if (attachment)
			attachment->tcx = false; /* maybe the former one did not come to it */
	}
	return result;
}

static int reaper_collect_or_restart(struct endpoints *endpoints, int wait_ms)
{
	struct errmsg err = {};

	if (endpoints->reaper &&
	    reaper_collect(endpoints->reaper, wait_ms, on_reaped, endpoints) >= 0)
		return 0;
	log_warn("the reaper died; starting another");
	if (endpoints_reaper_start(endpoints, &err) < 0)
		log_error("%s", err.text);
	return err.code;
}

static void on_reaper(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	reaper_collect_or_restart(arg, 0);
}

void attachment_reap(struct endpoints *endpoints, struct attachment *attachment)
{
	int ifindex = attachment_ifindex(attachment);
	struct errmsg err = {};

	if ((endpoints->reaper || reaper_launch(endpoints, &err) == 0) &&
	    reaper_delete(endpoints->reaper, ifindex, attachment->slot, &err) == 0)
		return;
	/* No child, or it has too much to do: then it takes as long as it takes. */
	log_debug("%s", err.text);
	on_reaped(attachment->slot, veth_del(&endpoints->netlink, ifindex, &err), endpoints);
}

int attachment_release(struct endpoints *endpoints, struct attachment *attachment,
		       struct errmsg *err)
{
	enum attachment_state before = attachment->state;
	int result;

	if (before == ATTACHMENT_DELETING)
		return 0;
	/* First the note: should the agent die now, the next one carries on. */
	attachment->state = ATTACHMENT_DELETING;
	result = endpoint_state_save(endpoints, attachment, err);
	if (result < 0) {
		attachment->state = before;
		return result;
	}
	attachment_unregister(endpoints, attachment);
	for (size_t i = 0; i < attachment->address_count; i++)
		host_device_route_del(endpoints->host, &attachment->addresses[i].address.addr);
	attachment_reap(endpoints, attachment);
	return 0;
}

static bool any_deleting(const struct endpoints *endpoints,
			 bool (*is_meant)(const struct attachment *attachment, const void *arg),
			 const void *arg)
{
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		const struct attachment *attachment = endpoints->slots[slot];

		if (attachment && attachment->state == ATTACHMENT_DELETING &&
		    (!is_meant || is_meant(attachment, arg)))
			return true;
	}
	return false;
}

int attachments_reaped(struct endpoints *endpoints,
		       bool (*is_meant)(const struct attachment *attachment, const void *arg),
		       const void *arg, struct errmsg *err)
{
	int64_t deadline = now_ms() + REAP_WAIT_MS;

	int result = 0;

	while (any_deleting(endpoints, is_meant, arg)) {
		int64_t now = now_ms();

		if (result < 0 || now >= deadline)
			return fail_plain(err, -EAGAIN,
					  "the former interface is still being deleted");
		result = reaper_collect_or_restart(endpoints, (int)(deadline - now));
	}
	return 0;
}

/* ---- ADD ------------------------------------------------------------------------------------- */

/* What stands in the way of a new attachment: itself, or its name inside the same namespace. */
static bool is_in_the_way(const struct attachment *attachment, const void *arg)
{
	const struct attachment *fresh = arg;

	return strcmp(attachment->ifname, fresh->ifname) == 0 &&
	       (strcmp(attachment->container_id, fresh->container_id) == 0 ||
		attachment->netns.cookie == fresh->netns.cookie);
}

/* An ADD that was answered but not heard is repeated: the result is the same then.  A known
 * container in another namespace is one that was started anew. */
static int known_handle(struct endpoints *endpoints, const struct attachment *fresh, int netns_fd,
			struct cJSON **ret_result, struct errmsg *err)
{
	struct attachment *known = attachment_find(endpoints, fresh->container_id, fresh->ifname);
	struct errmsg difference = {};

	if (known && known->netns.cookie == fresh->netns.cookie &&
	    known->state != ATTACHMENT_DELETING) {
		if (attachment_compare(endpoints, known, netns_fd, &difference) == 0) {
			*ret_result = endpoint_result(known);
			return *ret_result ? 0 : fail(err, -ENOMEM, "result");
		}
		log_warn("%s/%s: %s; wiring it anew", known->namespace, known->name,
			 difference.text);
	}
	if (known) {
		int result = attachment_release(endpoints, known, err);

		if (result < 0)
			return result;
	}
	return attachments_reaped(endpoints, is_in_the_way, fresh, err);
}

static int request_check(const struct endpoints *endpoints, struct attachment *attachment,
			 int netns_fd, struct errmsg *err)
{
	int result = netns_identify(netns_fd, &attachment->netns, err);

	if (result < 0)
		return result;
	if (attachment->netns.cookie == endpoints->home.cookie)
		return fail_plain(err, -EINVAL, "netns: %s is the node's own network namespace",
				  attachment->netns_path);
	return 0;
}

/* Runs the steps; when only what is just being deleted is in the way, once more after that. */
static int steps_run_patiently(struct endpoint_add *add, struct endpoint_error *error)
{
	int result = endpoint_steps_run(add, error);

	if (result != -ENOSPC || !any_deleting(add->endpoints, NULL, NULL))
		return result;
	if (attachments_reaped(add->endpoints, NULL, NULL, NULL) < 0) {
		error->cni_code = CNI_TRY_AGAIN_LATER;
		return result;
	}
	return endpoint_steps_run(add, error);
}

/* A pod that starts without its policies would be open. */
static int policies_known(const struct endpoints *endpoints, struct errmsg *err)
{
	const struct objects *objects = endpoints->agent->objects;
	const char *unknown = objects ? objects_unknown(objects) : NULL; /* none: no policies */

	return unknown ? fail_plain(err, -EAGAIN, "%s", unknown) : 0;
}

int endpoints_add(struct endpoints *endpoints, const struct cJSON *request_json, int netns_fd,
		  struct cJSON **ret_result, struct endpoint_error *error)
{
	struct endpoint_request request = {};
	auto_(attachment) struct attachment *attachment = NULL;
	auto_json struct cJSON *answer = NULL;
	struct endpoint_add add = { .endpoints = endpoints,
				    .request = &request,
				    .netns_fd = netns_fd };
	struct errmsg err = {};
	char text[ATTACHMENT_TEXT_MAX];
	int result = endpoint_request_parse(request_json, &request, &err);

	if (result < 0)
		return endpoint_fail(error, CNI_INVALID_CONFIG, "read the request", &err);
	attachment = request.attachment;
	result = policies_known(endpoints, &err);
	if (result < 0)
		return endpoint_fail(error, CNI_TRY_AGAIN_LATER, "learn the policies", &err);
	result = request_check(endpoints, attachment, netns_fd, &err);
	if (result < 0)
		return endpoint_fail(error, CNI_INVALID_ENVIRONMENT, "look at the namespace", &err);
	spool_consume(endpoints);
	result = known_handle(endpoints, attachment, netns_fd, &answer, &err);
	if (result < 0)
		return endpoint_fail(error, CNI_TRY_AGAIN_LATER, "remove the former interface",
				     &err);
	if (answer) {
		*ret_result = take_ptr(answer);
		return 0;
	}
	add.attachment = attachment;
	result = steps_run_patiently(&add, error);
	if (result < 0)
		return result;
	attachment = NULL; /* the table has it */
	answer = endpoint_result(add.attachment);
	if (!answer) {
		attachment_release(endpoints, add.attachment, NULL);
		fail(&err, -ENOMEM, "result");
		return endpoint_fail(error, CNI_TRY_AGAIN_LATER, "write the result", &err);
	}
	log_info("%s: %s", attachment_describe(add.attachment, text), add.attachment->host_ifname);
	endpoints_tcx_soon(endpoints);
	*ret_result = take_ptr(answer);
	return 0;
}

/* ---- DEL, CHECK, GC, STATUS ------------------------------------------------------------------ */

int endpoints_del(struct endpoints *endpoints, const struct cJSON *request,
		  struct endpoint_error *error)
{
	struct json_node root = json_root(request);
	struct attachment *attachment;
	const char *container_id, *ifname;
	struct errmsg err = {};
	int result = endpoint_request_names(&root, &container_id, &ifname, &err);

	if (result < 0)
		return endpoint_fail(error, CNI_INVALID_CONFIG, "read the request", &err);
	attachment = attachment_find(endpoints, container_id, ifname);
	if (!attachment)
		return 0;
	result = attachment_release(endpoints, attachment, &err);
	if (result < 0)
		return endpoint_fail(error, CNI_TRY_AGAIN_LATER, "write the state file", &err);
	return 0;
}

/* Whether the interface is in prevResult as we made it.  Other plugins of the chain may have added
 * to it, or given the device another MAC, which is then in both. */
static int previous_check(const struct attachment *attachment, const struct json_node *previous,
			  struct errmsg *err)
{
	struct json_node ips = json_member(previous, "ips");

	for (size_t i = 0; i < attachment->address_count; i++) {
		const struct addr *addr = &attachment->addresses[i].address.addr;
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
	const struct attachment *attachment;
	const char *container_id, *ifname;
	struct errmsg err = {};
	int result = endpoint_request_names(&root, &container_id, &ifname, &err);

	if (result < 0)
		return endpoint_fail(error, CNI_INVALID_CONFIG, "read the request", &err);
	attachment = attachment_find(endpoints, container_id, ifname);
	if (!attachment || attachment->state == ATTACHMENT_DELETING) {
		fail_plain(&err, -EPROTO, "no interface %s was made for container %s", ifname,
			   container_id);
		return endpoint_fail(error, CNI_UNKNOWN_CONTAINER, "find the endpoint", &err);
	}
	result = attachment_compare(endpoints, attachment, netns_fd, &err);
	if (result == 0 && json_present(&previous))
		result = previous_check(attachment, &previous, &err);
	return result < 0 ? endpoint_fail(error, CNI_CHECK_DIFFERS, "compare", &err) : 0;
}

static bool is_valid_attachment(const struct json_node *valid, const struct attachment *attachment)
{
	const struct cJSON *item;

	cJSON_ArrayForEach (item, valid->value) {
		const struct cJSON *id = cJSON_GetObjectItemCaseSensitive(item, "containerID");
		const struct cJSON *ifname = cJSON_GetObjectItemCaseSensitive(item, "ifname");

		if (strcmp(id->valuestring, attachment->container_id) == 0 &&
		    strcmp(ifname->valuestring, attachment->ifname) == 0)
			return true;
	}
	return false;
}

/* Everything is checked before anything is removed: a list that is not understood must not read as
 * "nothing is valid". */
static int valid_attachments_check(const struct json_node *valid, struct errmsg *err)
{
	const struct cJSON *item;
	size_t count = 0;
	size_t i = 0;
	int result = json_array(valid, &count, err);

	if (result < 0)
		return result;
	cJSON_ArrayForEach (item, valid->value) {
		struct json_node node = json_element(valid, item, i++);
		struct json_node id = json_member(&node, "containerID");
		struct json_node ifname = json_member(&node, "ifname");
		const char *text;

		result = json_object(&node, err);
		if (result == 0)
			result = json_string(&id, &text, err);
		if (result == 0)
			result = json_string(&ifname, &text, err);
		if (result < 0)
			return result;
	}
	return 0;
}

int endpoints_gc(struct endpoints *endpoints, const struct cJSON *request,
		 struct cJSON **ret_result, struct endpoint_error *error)
{
	struct json_node root = json_root(request);
	struct json_node valid = json_member(&root, "validAttachments");
	struct json_node network_node = json_member(&root, "network");
	auto_json struct cJSON *answer = NULL;
	const char *network = NULL;
	struct errmsg err = {};
	int removed = 0;

	if (valid_attachments_check(&valid, &err) < 0 ||
	    json_string(&network_node, &network, &err) < 0)
		return endpoint_fail(error, CNI_INVALID_CONFIG, "read the request", &err);
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct attachment *attachment = endpoints->slots[slot];

		if (!attachment || attachment->state == ATTACHMENT_DELETING ||
		    strcmp(attachment->network, network) != 0 ||
		    is_valid_attachment(&valid, attachment))
			continue;
		log_info("gc: %s/%s (%.12s/%s) is no valid attachment", attachment->namespace,
			 attachment->name, attachment->container_id, attachment->ifname);
		if (attachment_release(endpoints, attachment, &err) < 0)
			return endpoint_fail(error, CNI_TRY_AGAIN_LATER, "write the state file",
					     &err);
		removed++;
	}
	answer = cJSON_CreateObject();
	if (!cJSON_AddNumberToObject(answer, "removed", removed)) {
		fail(&err, -ENOMEM, "result");
		return endpoint_fail(error, CNI_TRY_AGAIN_LATER, "write the result", &err);
	}
	*ret_result = take_ptr(answer);
	return 0;
}

int endpoints_cni_status(struct endpoints *endpoints, struct endpoint_error *error)
{
	struct errmsg err = {};
	bool changed = false;
	int result = policies_known(endpoints, &err);

	if (result < 0)
		return endpoint_fail(error, CNI_NOT_AVAILABLE, "learn the policies", &err);
	result = host_device_ensure(endpoints->host, &changed, &err);
	if (result == 0 && !datapath_host_attached(endpoints->agent->datapath,
						   host_device_ifindex(endpoints->host)))
		result =
			fail_plain(&err, -ENOENT, "the program of %s is not attached", HOST_DEVICE);
	if (result < 0)
		return endpoint_fail(error, CNI_LIMITED_CONNECTIVITY, "look at the node", &err);
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		if (!endpoints->slots[slot])
			return 0;
	}
	fail_plain(&err, -ENOSPC, "all %zu endpoints of this node are in use (max-endpoints)",
		   endpoints->slot_count - 1);
	return endpoint_fail(error, CNI_NOT_AVAILABLE, "reserve", &err);
}

/* ---- views ----------------------------------------------------------------------------------- */

static void info_fill(const struct attachment *attachment, struct endpoint_info *ret)
{
	*ret = (struct endpoint_info){
		.slot = attachment->slot,
		.container_id = attachment->container_id,
		.ifname = attachment->ifname,
		.namespace = attachment->namespace,
		.name = attachment->name,
		.uid = attachment->uid,
		.host_ifname = attachment->host_ifname,
		.host_ifindex = attachment_ifindex(attachment),
		.state = attachment_state_name(attachment->state),
		.reason = attachment->broken,
		.netns_cookie = attachment->netns.cookie,
		.address_count = attachment->address_count,
		.labels = &attachment->labels,
	};
	memcpy(ret->mac, attachment->mac, sizeof(ret->mac));
	for (size_t i = 0; i < attachment->address_count; i++)
		ret->addresses[i] = attachment->addresses[i].address.addr;
}

bool endpoints_by_slot(const struct endpoints *endpoints, uint16_t slot, struct endpoint_info *ret)
{
	if (slot >= endpoints->slot_count || !endpoints->slots[slot])
		return false;
	info_fill(endpoints->slots[slot], ret);
	return true;
}

bool endpoints_next(const struct endpoints *endpoints, uint16_t after_slot,
		    struct endpoint_info *ret)
{
	for (size_t slot = after_slot + 1U; slot < endpoints->slot_count; slot++) {
		if (endpoints_by_slot(endpoints, (uint16_t)slot, ret))
			return true;
	}
	return false;
}

int endpoints_netns_fd(const struct endpoints *endpoints, uint16_t slot)
{
	static const struct timeval at_once = {};
	struct attachment *attachment =
		slot < endpoints->slot_count ? endpoints->slots[slot] : NULL;

	if (!attachment)
		return -1;
	if (attachment->netns_fd < 0 && netns_find(attachment->netns_path, &attachment->netns,
						   &attachment->netns_fd, NULL) == 0)
		evtimer_add(endpoints->netns_event, &at_once);
	return attachment->netns_fd;
}

void endpoints_netns_return(evutil_socket_t fd, short what, void *arg)
{
	struct endpoints *endpoints = arg;

	(void)fd;
	(void)what;
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct attachment *attachment = endpoints->slots[slot];

		if (attachment && attachment->netns_fd >= 0)
			close(take_fd(&attachment->netns_fd));
	}
}
