/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each text is kept once, under a number that flows and pods hold.  A pod has a ring of addresses:
 * whoever asks for more than that loses its own oldest ones.
 */
#include "agent/flow/dns_names.h"

#include <stdlib.h>
#include <string.h>

#include "datapath/abi.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/dns.h"
#include "lib/inet.h"
#include "lib/table.h"

#define TEXTS_MAX 16384
#define BYTES_MAX (512 * 1024) /* of all texts */
#define SHARE     16           /* a pod's part of both: one in so many */
#define PODS_MAX  1024         /* more: all begin anew */
#define POD_ADDRS 128          /* of one pod */
#define TTL_MIN_S 5            /* what is looked up is connected to some time later */
#define TTL_MAX_S 86400

struct text {
	char *text; /* NULL: the number is free */
	uint32_t refs;
	uint64_t netns_cookie; /* of the pod that brought it in, and is charged for it */
};

/* Texts that a pod brought in and that somebody holds. */
struct share {
	size_t bytes;
	size_t count;
};

struct known {
	struct addr addr;
	uint64_t time_ns; /* when the pod got it last */
	uint64_t expires_ns;
	uint16_t number; /* held */
};

struct pod {
	struct known *items; /* POD_ADDRS */
	size_t next;
};

struct dns_names {
	struct text *texts;   /* by number; 0 is none */
	struct table by_text; /* hash of a text -> number */
	struct table pods;    /* cookie -> struct pod */
	struct table shares;  /* cookie -> struct share; a pod without texts has none */
	size_t bytes;
	size_t count;
	uint16_t last; /* number that was given out last */
	uint64_t left_out;
};

/* ---- texts ----------------------------------------------------------------------------------- */

static bool share_take(struct dns_names *names, uint64_t netns_cookie, size_t bytes)
{
	struct share *share = table_find(&names->shares, &netns_cookie);

	if (names->count >= TEXTS_MAX - 1 || names->bytes + bytes > BYTES_MAX)
		return false;
	if (share &&
	    (share->count >= TEXTS_MAX / SHARE || share->bytes + bytes > BYTES_MAX / SHARE))
		return false;
	if (!share)
		share = table_put(&names->shares, &netns_cookie);
	share->count++;
	share->bytes += bytes;
	names->count++;
	names->bytes += bytes;
	return true;
}

static void share_give(struct dns_names *names, uint64_t netns_cookie, size_t bytes)
{
	struct share *share = table_find(&names->shares, &netns_cookie);

	share->count--;
	share->bytes -= bytes;
	if (!share->count)
		table_del(&names->shares, &netns_cookie);
	names->count--;
	names->bytes -= bytes;
}

void dns_names_drop(struct dns_names *names, uint16_t number)
{
	struct text *text = &names->texts[number];
	uint64_t hash;

	if (!number || --text->refs)
		return;
	hash = table_hash(text->text, strlen(text->text));
	table_del(&names->by_text, &hash);
	share_give(names, text->netns_cookie, strlen(text->text) + 1);
	free(take_ptr(text->text));
}

/* A number that nobody has: there is one. */
static uint16_t number_free(struct dns_names *names)
{
	do
		names->last = (uint16_t)(names->last % (TEXTS_MAX - 1) + 1);
	while (names->texts[names->last].text);
	return names->last;
}

/* Holds the number of a text; 0: there is no room. */
static uint16_t text_hold(struct dns_names *names, uint64_t netns_cookie, const char *name)
{
	const uint64_t hash = table_hash(name, strlen(name));
	const uint16_t *found = table_find(&names->by_text, &hash);
	uint16_t number;

	if (found) {
		if (strcmp(names->texts[*found].text, name) != 0)
			return 0; /* the same hash: nobody gets the wrong name */
		names->texts[*found].refs++;
		return *found;
	}
	if (!share_take(names, netns_cookie, strlen(name) + 1)) {
		names->left_out++;
		return 0;
	}
	number = number_free(names);
	names->texts[number] = (struct text){ xstrdup(name), 1, netns_cookie };
	*(uint16_t *)table_put(&names->by_text, &hash) = number;
	return number;
}

const char *dns_names_text(const struct dns_names *names, uint16_t number)
{
	return names->texts[number].text;
}

size_t dns_names_count(const struct dns_names *names)
{
	return names->count;
}

uint64_t dns_names_left_out(const struct dns_names *names)
{
	return names->left_out;
}

/* ---- pods ------------------------------------------------------------------------------------ */

static void pods_clear(struct dns_names *names)
{
	const struct pod *pod;
	const void *key;
	size_t pos = 0;

	while ((pod = table_next(&names->pods, &pos, &key))) {
		for (size_t i = 0; i < POD_ADDRS; i++)
			dns_names_drop(names, pod->items[i].number);
		free(pod->items);
	}
	table_done(&names->pods);
	table_init(&names->pods, sizeof(uint64_t), sizeof(struct pod));
}

/* The place for an address under a name: where it is already, else the pod's oldest one. */
static struct known *known_place(struct pod *pod, const struct addr *addr, uint16_t number)
{
	for (size_t i = 0; i < POD_ADDRS; i++) {
		if (pod->items[i].number == number && addr_equal(&pod->items[i].addr, addr))
			return &pod->items[i];
	}
	return &pod->items[pod->next++ % POD_ADDRS];
}

void dns_names_learn(struct dns_names *names, uint64_t netns_cookie, uint64_t time_ns,
		     const struct dns_answer *answer)
{
	uint64_t ttl_s = answer->ttl_s < TTL_MIN_S ? TTL_MIN_S : answer->ttl_s;
	struct pod *pod = table_find(&names->pods, &netns_cookie);

	if (!answer->count)
		return;
	if (!pod) {
		if (names->pods.count >= PODS_MAX)
			pods_clear(names);
		pod = table_put(&names->pods, &netns_cookie);
		pod->items = xcalloc(POD_ADDRS, sizeof(*pod->items));
	}
	if (ttl_s > TTL_MAX_S)
		ttl_s = TTL_MAX_S;
	for (uint32_t i = 0; i < answer->count && i < DNS_ADDRS_MAX; i++) {
		uint16_t number = text_hold(names, netns_cookie, answer->name), former;
		struct known *known;

		if (!number)
			return;
		known = known_place(pod, &answer->addrs[i], number);
		former = known->number;
		*known = (struct known){ answer->addrs[i], time_ns, time_ns + ttl_s * NS_PER_SEC,
					 number };
		dns_names_drop(names, former);
	}
}

uint16_t dns_names_find(struct dns_names *names, uint64_t netns_cookie, const struct addr *addr,
			uint64_t since_ns)
{
	const struct pod *pod = table_find(&names->pods, &netns_cookie);
	const struct known *best = NULL;

	for (size_t i = 0; pod && i < POD_ADDRS; i++) {
		const struct known *known = &pod->items[i];

		if (known->number && known->expires_ns >= since_ns &&
		    addr_equal(&known->addr, addr) && (!best || known->time_ns >= best->time_ns))
			best = known;
	}
	if (!best)
		return 0;
	names->texts[best->number].refs++;
	return best->number;
}

/* ---- life ------------------------------------------------------------------------------------ */

struct dns_names *dns_names_new(void)
{
	struct dns_names *names = xcalloc(1, sizeof(*names));

	names->texts = xcalloc(TEXTS_MAX, sizeof(*names->texts));
	table_init(&names->by_text, sizeof(uint64_t), sizeof(uint16_t));
	table_init(&names->pods, sizeof(uint64_t), sizeof(struct pod));
	table_init(&names->shares, sizeof(uint64_t), sizeof(struct share));
	return names;
}

void dns_names_free(struct dns_names *names)
{
	if (!names)
		return;
	pods_clear(names);
	for (size_t i = 0; i < TEXTS_MAX; i++)
		free(names->texts[i].text);
	free(names->texts);
	table_done(&names->by_text);
	table_done(&names->pods);
	table_done(&names->shares);
	free(names);
}
