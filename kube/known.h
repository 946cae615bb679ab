/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and versions of the objects of one kind that were reported.  A hundred thousand of them are
 * a few large blocks of memory, so that the heap does not become fragmented.
 */
#ifndef TENDRIL_KUBE_KNOWN_H
#define TENDRIL_KUBE_KNOWN_H

#include "lib/table.h"

struct known_set {
	struct table table; /* hash of the name -> struct known */
	char *names;        /* "namespace/name", one after the other, each with its end */
	size_t names_len;
	size_t names_room;
	size_t names_unused; /* bytes of those that were removed */
};

struct known {
	uint64_t version;    /* metadata.resourceVersion: the number, or a hash of what is none */
	uint32_t generation; /* of the list that it was last seen in */
	uint32_t name;       /* offset in names */
	bool told;           /* it was reported with this version */
	bool is_number;
	bool offered; /* it did not come by the watch, which may still deliver older ones */
};

void known_init(struct known_set *set);
void known_done(struct known_set *set);

/* Entries are valid until the next one is added.  Names are borrowed, likewise. */
struct known *known_find(const struct known_set *set, const char *name); /* or NULL */
struct known *known_add(struct known_set *set, const char *name); /* or the one that is there */
void known_del(struct known_set *set, const struct known *known);
static inline const char *known_name(const struct known_set *set, const struct known *known)
{
	return set->names + known->name;
}

/* Walks all entries: *pos is 0 at the start, NULL at the end.  The entry may be deleted. */
struct known *known_next(const struct known_set *set, size_t *pos);

/* Sets another version.  False: it is the same; or one of the two was offered, and the new one is
 * older. */
bool known_renew(struct known *known, const char *version, bool offered);

#endif
