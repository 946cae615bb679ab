/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers are kept as a list sorted by key beside the kernel's, so a change of one Node costs one
 * request.  A key is the identity of a peer: a node with a new key is a new peer, and takes the
 * addresses of the old one.
 */
#define LOG_MODULE "encryption"
#include "agent/nodes/encryption.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/log.h"

#define KEY_FILE      "wireguard.key"
#define NEXT_KEY_FILE "wireguard.next"
#define KEY_FILE_MAX  64

/* A node takes its new key as soon as its object announces it.  Others follow a little later: then
 * the first handshake with the new key comes from them, finds both sides ready, and until it is
 * done the kernel holds packets back (128 of a peer).  Earlier, it would drop what the node still
 * sends with the old key.  Of two nodes that change keys at once, one follows first: handshakes
 * that cross cancel each other, and the next attempt comes after 5 s. */
#define FOLLOW_FIRST_NS  100000000
#define FOLLOW_SECOND_NS 200000000
/* The peer with the old key keeps what is on its way: removing it drops that. */
#define LINGER_NS 1000000000

struct encryption_peer {
	struct wireguard_peer peer;
	char *node;                /* name; "" if only the kernel knows the peer */
	struct wireguard_key next; /* what the node announces by now */
	uint64_t due_ns; /* when next becomes its key, or an unwanted peer goes; 0: never */
	int error;       /* negative errno of the last attempt; 0: the kernel has it */
	char why[160];
};

struct peer_list {
	struct encryption_peer *items; /* by key, then by node */
	size_t count;
	size_t room;
};

struct encryption {
	char *run_dir;
	struct wireguard wireguard;
	struct wireguard_key private;
	struct wireguard_key public;
	bool has_next;
	struct wireguard_key next_private;
	struct wireguard_key next_public;
	struct peer_list installed;
	struct peer_list wanted;
	uint64_t due_ns; /* the first of its peers'; 0: no node changes its key */
};

/* ---- keys ------------------------------------------------------------------------------------ */

static int key_write(const struct encryption *encryption, const char *file,
		     const struct wireguard_key *key, struct errmsg *err)
{
	auto_free char *path = xasprintf("%s/%s", encryption->run_dir, file);
	char text[WIREGUARD_KEY_TEXT_LEN + 2];
	int ret;

	wireguard_key_format(key, text);
	text[WIREGUARD_KEY_TEXT_LEN] = '\n';
	ret = file_write(path, text, WIREGUARD_KEY_TEXT_LEN + 1, 0600, FILE_DURABLE, err);
	explicit_bzero(text, sizeof(text));
	return ret;
}

static int key_make(const struct encryption *encryption, const char *file,
		    struct wireguard_key *ret_key, struct errmsg *err)
{
	if (getrandom(ret_key->bytes, sizeof(ret_key->bytes), 0) != sizeof(ret_key->bytes))
		return fail(err, -errno, "random key");
	return key_write(encryption, file, ret_key, err);
}

/* -ENOENT: there is no such file. */
static int key_read(const struct encryption *encryption, const char *file,
		    struct wireguard_key *ret_key, struct errmsg *err)
{
	auto_free char *path = xasprintf("%s/%s", encryption->run_dir, file);
	auto_free char *text = NULL;
	size_t len;
	int ret = file_read(path, KEY_FILE_MAX, &text, &len, err);

	if (ret)
		return ret;
	if (len && text[len - 1] == '\n')
		text[len - 1] = '\0';
	ret = wireguard_key_parse(text, ret_key);
	explicit_bzero(text, len);
	return ret ? fail_plain(err, ret,
				"%s: no key of WireGuard: remove it, and a new one is made", path)
		   : 0;
}

static int keys_load(struct encryption *encryption, struct errmsg *err)
{
	int ret = key_read(encryption, KEY_FILE, &encryption->private, err);

	if (ret == -ENOENT)
		ret = key_make(encryption, KEY_FILE, &encryption->private, err);
	if (ret)
		return ret;
	ret = key_read(encryption, NEXT_KEY_FILE, &encryption->next_private, err);
	encryption->has_next = ret == 0;
	return ret == -ENOENT ? 0 : ret;
}

static int next_public(struct encryption *encryption, struct errmsg *err)
{
	return wireguard_public_key(&encryption->wireguard, &encryption->next_private,
				    &encryption->next_public, err);
}

int encryption_rotate(struct encryption *encryption, struct errmsg *err)
{
	int ret = key_make(encryption, NEXT_KEY_FILE, &encryption->next_private, err);
	char text[WIREGUARD_KEY_TEXT_LEN + 1];

	if (!ret)
		ret = next_public(encryption, err);
	encryption->has_next = ret == 0;
	if (!ret)
		log_info("the next public key is %s",
			 wireguard_key_format(&encryption->next_public, text));
	return ret;
}

const struct wireguard_key *encryption_announced(const struct encryption *encryption)
{
	return encryption->has_next ? &encryption->next_public : &encryption->public;
}

/* The file first: an agent that dies in between sets the key when it starts. */
static int next_take(struct encryption *encryption, struct errmsg *err)
{
	auto_free char *next = xasprintf("%s/" NEXT_KEY_FILE, encryption->run_dir);
	auto_free char *path = xasprintf("%s/" KEY_FILE, encryption->run_dir);
	int ret;

	if (rename(next, path) < 0)
		return fail(err, -errno, "rename %s", next);
	encryption->private = encryption->next_private;
	explicit_bzero(&encryption->next_private, sizeof(encryption->next_private));
	encryption->has_next = false;
	ret = wireguard_set_key(&encryption->wireguard, &encryption->private, &encryption->public,
				err);
	/* The sessions ended: each peer is greeted. */
	for (size_t i = 0; i < encryption->installed.count; i++)
		encryption->installed.items[i].error = -ESTALE;
	log_info("a new key is in use");
	return ret;
}

int encryption_follow(struct encryption *encryption, const struct wireguard_key *seen,
		      struct errmsg *err)
{
	if (!encryption->has_next ||
	    (seen && wireguard_key_compare(seen, &encryption->next_public)))
		return 0;
	return next_take(encryption, err);
}

/* ---- lists of peers -------------------------------------------------------------------------- */

static struct encryption_peer *list_add(struct peer_list *list)
{
	if (list->count == list->room) {
		list->room = list->room ? list->room * 2 : 16;
		list->items = xreallocarray(list->items, list->room, sizeof(*list->items));
	}
	list->items[list->count] = (struct encryption_peer){ 0 };
	return &list->items[list->count++];
}

static void list_clear(struct peer_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i].node);
	list->count = 0;
}

static void list_done(struct peer_list *list)
{
	list_clear(list);
	free(list->items);
	*list = (struct peer_list){ 0 };
}

static int key_order(const struct encryption_peer *a, const struct encryption_peer *b)
{
	return wireguard_key_compare(&a->peer.key, &b->peer.key);
}

static int item_compare(const void *left, const void *right)
{
	const struct encryption_peer *a = left, *b = right;
	int order = key_order(a, b);

	return order ? order : strcmp(a->node, b->node);
}

static int prefix_compare(const void *left, const void *right)
{
	const struct prefix *a = left, *b = right;
	int order = memcmp(&a->addr, &b->addr, sizeof(a->addr));

	return order ? order : (int)a->len - (int)b->len;
}

static void list_sort(struct peer_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct wireguard_peer *peer = &list->items[i].peer;

		qsort(peer->allowed, peer->allowed_count, sizeof(peer->allowed[0]), prefix_compare);
	}
	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), item_compare);
}

static bool peer_equal(const struct wireguard_peer *a, const struct wireguard_peer *b)
{
	if (!addr_equal(&a->endpoint, &b->endpoint) || a->allowed_count != b->allowed_count)
		return false;
	for (size_t i = 0; i < a->allowed_count; i++) {
		if (!prefix_equal(&a->allowed[i], &b->allowed[i]))
			return false;
	}
	return true;
}

static struct encryption_peer *list_find(const struct peer_list *list, const char *node,
					 const struct wireguard_key *key)
{
	struct encryption_peer wanted = { .peer.key = *key, .node = (char *)node };

	return list->count ? bsearch(&wanted, list->items, list->count, sizeof(*list->items),
				     item_compare)
			   : NULL;
}

static int key_only_compare(const void *left, const void *right)
{
	return key_order(left, right);
}

static struct encryption_peer *list_find_key(const struct peer_list *list,
					     const struct wireguard_key *key)
{
	struct encryption_peer wanted = { .peer.key = *key }, *item = NULL;

	if (list->count)
		item = bsearch(&wanted, list->items, list->count, sizeof(*list->items),
			       key_only_compare);
	while (item && item > list->items && !key_order(item - 1, item))
		item--; /* the first of the nodes that claim it: it has the key */
	return item;
}

/* The peer of a node, whatever its key. */
static struct encryption_peer *list_find_node(const struct peer_list *list, const char *node)
{
	for (size_t i = 0; i < list->count; i++) {
		if (!strcmp(list->items[i].node, node))
			return &list->items[i];
	}
	return NULL;
}

static const struct encryption_peer *peer_find(const struct encryption *encryption,
					       const char *node, const struct wireguard_key *key)
{
	const struct encryption_peer *item = list_find(&encryption->installed, node, key);

	if (item || !encryption->due_ns)
		return item;
	item = list_find_node(&encryption->installed, node);
	return item && item->due_ns && !wireguard_key_compare(&item->next, key) ? item : NULL;
}

bool encryption_has(const struct encryption *encryption, const char *node,
		    const struct wireguard_key *key)
{
	const struct encryption_peer *item = peer_find(encryption, node, key);

	return item && !item->error;
}

const char *encryption_problem(const struct encryption *encryption, const char *node,
			       const struct wireguard_key *key)
{
	const struct encryption_peer *item = peer_find(encryption, node, key);

	return item && item->error ? item->why : "";
}

/* ---- what should be -------------------------------------------------------------------------- */

void encryption_begin(struct encryption *encryption)
{
	list_clear(&encryption->wanted);
	encryption->due_ns = 0;
}

static void due_set(struct encryption *encryption, struct encryption_peer *item, uint64_t due)
{
	item->due_ns = due;
	if (!encryption->due_ns || due < encryption->due_ns)
		encryption->due_ns = due;
}

/* Keeps the old key of a node that announces a new one, for now. */
static void peer_follow(struct encryption *encryption, struct encryption_peer *item)
{
	const struct encryption_peer *old = list_find_node(&encryption->installed, item->node);
	uint64_t now = now_ns(), due;

	if (!old || old->error)
		return;
	due = old->due_ns;
	if (!due)
		due = now + (wireguard_key_compare(&encryption->public, &item->peer.key) < 0
				     ? FOLLOW_FIRST_NS
				     : FOLLOW_SECOND_NS);
	if (now >= due)
		return;
	item->next = item->peer.key;
	item->peer.key = old->peer.key;
	due_set(encryption, item, due);
}

void encryption_want(struct encryption *encryption, const char *node,
		     const struct wireguard_peer *peer)
{
	struct encryption_peer *item = list_add(&encryption->wanted);

	item->peer = *peer;
	item->node = xstrdup(node);
	if (wireguard_key_compare(&peer->key, &encryption->public) == 0) {
		item->error = -EADDRINUSE;
		snprintf(item->why, sizeof(item->why), "its WireGuard key is that of this node");
	} else if (!list_find(&encryption->installed, node, &peer->key)) {
		peer_follow(encryption, item);
	}
}

uint64_t encryption_due_ns(const struct encryption *encryption)
{
	return encryption->due_ns;
}

static void peer_set(struct encryption *encryption, struct encryption_peer *item, bool greet)
{
	struct wireguard *wireguard = &encryption->wireguard;
	struct errmsg err = { 0 };

	item->error = greet ? wireguard_peer_greet(wireguard, &item->peer.key, &err)
			    : wireguard_peer_set(wireguard, &item->peer, &err);
	if (item->error)
		snprintf(item->why, sizeof(item->why), "WireGuard: %.100s", err.text);
}

/* When an unwanted peer goes; 0: now. */
static uint64_t peer_linger(const struct encryption *encryption, const struct encryption_peer *item)
{
	uint64_t now = now_ns();

	if (!*item->node) /* it lingers already, or another agent has made it */
		return item->due_ns > now ? item->due_ns : 0;
	return list_find_node(&encryption->wanted, item->node) ? now + LINGER_NS : 0;
}

/* A peer that stays although nobody wants it may lose its addresses to another. */
static void peer_drop(struct encryption *encryption, const struct encryption_peer *item,
		      bool complete, struct peer_list *kept)
{
	uint64_t due = peer_linger(encryption, item);
	struct encryption_peer *copy;
	struct errmsg err = { 0 };

	if (complete && !due) {
		if (wireguard_peer_remove(&encryption->wireguard, &item->peer.key, &err) < 0)
			log_warn("remove a peer: %s", err.text);
		return;
	}
	copy = list_add(kept);
	copy->peer.key = item->peer.key;
	copy->node = xstrdup("");
	if (due)
		due_set(encryption, copy, due);
}

/* The second node that claims a key does not get it. */
static void list_refuse_copies(struct peer_list *list)
{
	for (size_t i = 1; i < list->count; i++) {
		struct encryption_peer *item = &list->items[i];

		if (item->error || key_order(item - 1, item))
			continue;
		item->error = -EADDRINUSE;
		snprintf(item->why, sizeof(item->why), "its WireGuard key is that of node %.80s",
			 (item - 1)->node);
	}
}

/* Peers that nobody wants go last: until then they have the addresses that another takes. */
void encryption_apply(struct encryption *encryption, bool complete)
{
	struct peer_list *installed = &encryption->installed, *wanted = &encryption->wanted;
	struct peer_list kept = { 0 };

	list_sort(wanted);
	list_refuse_copies(wanted);
	for (size_t i = 0; i < wanted->count; i++) {
		struct encryption_peer *item = &wanted->items[i];
		const struct encryption_peer *have = list_find_key(installed, &item->peer.key);

		bool equal = have && peer_equal(&have->peer, &item->peer);

		if (!item->error && (!equal || have->error))
			peer_set(encryption, item, equal && have->error == -ESTALE);
	}
	for (size_t i = 0; i < installed->count; i++) {
		const struct encryption_peer *have = &installed->items[i];

		if (!list_find_key(wanted, &have->peer.key))
			peer_drop(encryption, have, complete, &kept);
	}
	for (size_t i = 0; i < kept.count; i++)
		*list_add(wanted) = kept.items[i];
	free(kept.items);
	list_clear(installed);
	kept = *installed;
	*installed = *wanted;
	*wanted = kept;
	list_sort(installed);
}

/* ---- the kernel ------------------------------------------------------------------------------ */

uint32_t encryption_ifindex(const struct encryption *encryption)
{
	return encryption->wireguard.ifindex;
}

int encryption_refresh(struct encryption *encryption, struct errmsg *err)
{
	auto_free struct wireguard_peer *peers = NULL;
	struct peer_list before = encryption->installed;
	size_t count = 0;
	int ret = wireguard_ensure(&encryption->wireguard, err);

	if (!ret)
		ret = wireguard_set_key(&encryption->wireguard, &encryption->private,
					&encryption->public, err);
	if (!ret)
		ret = wireguard_peers_read(&encryption->wireguard, &peers, &count, err);
	if (ret)
		return ret;
	encryption->installed = (struct peer_list){ 0 };
	for (size_t i = 0; i < count; i++) {
		struct encryption_peer *item = list_add(&encryption->installed);
		const struct encryption_peer *known = list_find_key(&before, &peers[i].key);

		item->peer = peers[i];
		item->node = xstrdup(known ? known->node : "");
		item->next = known ? known->next : (struct wireguard_key){ 0 };
		item->due_ns = known ? known->due_ns : 0;
	}
	list_sort(&encryption->installed);
	list_done(&before);
	return 0;
}

int encryption_up(struct encryption *encryption, unsigned int mtu, struct errmsg *err)
{
	return wireguard_up(&encryption->wireguard, mtu, err);
}

/* ---- life ------------------------------------------------------------------------------------ */

int encryption_new(const char *run_dir, struct encryption **ret, struct errmsg *err)
{
	struct encryption *encryption = xcalloc(1, sizeof(*encryption));
	char text[WIREGUARD_KEY_TEXT_LEN + 1];
	int code;

	*ret = encryption;
	encryption->run_dir = xstrdup(run_dir);
	encryption->wireguard = (struct wireguard)WIREGUARD_INIT;
	code = wireguard_ensure(&encryption->wireguard, err);
	if (!code)
		code = keys_load(encryption, err);
	if (!code)
		code = wireguard_set_key(&encryption->wireguard, &encryption->private,
					 &encryption->public, err);
	if (!code && encryption->has_next)
		code = next_public(encryption, err);
	if (code)
		return wrap(err, "encryption");
	log_info("this node's public key is %s",
		 wireguard_key_format(encryption_announced(encryption), text));
	return 0;
}

void encryption_free(struct encryption *encryption)
{
	if (!encryption)
		return;
	list_done(&encryption->installed);
	list_done(&encryption->wanted);
	wireguard_close(&encryption->wireguard);
	free(encryption->run_dir);
	explicit_bzero(encryption, sizeof(*encryption));
	free(encryption);
}

int encryption_remove(struct errmsg *err)
{
	return wireguard_remove(err);
}
