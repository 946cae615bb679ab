/* SPDX-License-Identifier: Apache-2.0 */
/* The tables: what changed is put into its place, and handed out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/incremental_internal.h"

/* ---- sorted arrays ---- */

/* A sorted array of any type that is changed in place. */
struct rows {
	char *items;
	size_t count;
	size_t *capacity;
	size_t size;
	int (*compare)(const struct follower *follower, const void *a, const void *b);
	const struct follower *follower;
};

/* The first place whose element is not before the key. */
static size_t rows_place(const struct rows *rows, const void *key, bool *ret_found)
{
	size_t low = 0;
	size_t high = rows->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (rows->compare(rows->follower, rows->items + middle * rows->size, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = low < rows->count &&
		     rows->compare(rows->follower, rows->items + low * rows->size, key) == 0;
	return low;
}

/* Removes what equals one of the keys, which are elements themselves and sorted. */
static void rows_drop(struct rows *rows, const void *keys, size_t count)
{
	size_t from = 0, to = 0;
	bool found;

	for (size_t i = 0; i < count; i++) {
		size_t place = rows_place(rows, (const char *)keys + i * rows->size, &found);

		if (!found)
			continue;
		if (to < from)
			memmove(rows->items + to * rows->size, rows->items + from * rows->size,
				(place - from) * rows->size);
		to += place - from;
		from = place + 1;
	}
	if (from == to)
		return;
	memmove(rows->items + to * rows->size, rows->items + from * rows->size,
		(rows->count - from) * rows->size);
	rows->count -= from - to;
}

/* Puts elements, sorted, into their places; what equals one is overwritten. */
static int rows_put(struct rows *rows, const void *elements, size_t count)
{
	size_t added = 0;
	size_t end;
	bool found;

	for (size_t i = 0; i < count; i++) {
		const char *element = (const char *)elements + i * rows->size;
		size_t place = rows_place(rows, element, &found);

		if (found)
			memcpy(rows->items + place * rows->size, element, rows->size);
		added += !found;
	}
	while (*rows->capacity < rows->count + added) {
		if (array_room(&rows->items, *rows->capacity, rows->capacity, rows->size) < 0)
			return -ENOMEM;
	}
	end = rows->count;
	for (size_t i = count; i-- > 0 && added > 0;) {
		const char *element = (const char *)elements + i * rows->size;
		struct rows before = *rows;
		size_t place;

		before.count = end; /* what lies behind has moved already */
		place = rows_place(&before, element, &found);
		if (found)
			continue;
		memmove(rows->items + (place + added) * rows->size,
			rows->items + place * rows->size, (end - place) * rows->size);
		memcpy(rows->items + (place + --added) * rows->size, element, rows->size);
		rows->count++;
		end = place;
	}
	return 0;
}

/* ---- entries ---- */

static int entry_order(const struct follower *follower, const void *a, const void *b)
{
	(void)follower;
	return entry_compare(a, b);
}

static bool entry_same(const struct compiled_entry *a, const struct compiled_entry *b)
{
	return a->rule_count == b->rule_count &&
	       (a->rules == b->rules ||
		memcmp(a->rules, b->rules, a->rule_count * sizeof(*a->rules)) == 0);
}

static int entry_add(struct entry_list *list, const struct compiled_entry *entry)
{
	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = *entry;
	return 0;
}

static int key_add(struct key_list *list, const struct policy_key *key)
{
	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = *key;
	return 0;
}

/* Leaves of what was made that which differs, and finds what is gone. */
static int entries_compare(struct follower *follower, const struct rows *rows,
			   struct entry_list *gone)
{
	const struct entry_list *made = &follower->made;
	int ret = 0;

	for (size_t i = 0; i < made->count && ret == 0; i++) {
		bool found;
		size_t place = rows_place(rows, &made->items[i], &found);
		const struct compiled_entry *held = (const void *)rows->items;

		if (!found || !entry_same(&held[place], &made->items[i]))
			ret = entry_add(&follower->entries_set, &made->items[i]);
	}
	for (size_t i = 0; i < follower->unmade.count && ret == 0; i++) {
		struct compiled_entry entry = { .key = follower->unmade.items[i] };
		bool found;

		rows_place(rows, &entry, &found);
		if (!found || (made->count > 0 && bsearch(&entry, made->items, made->count,
							  sizeof(entry), entry_compare)))
			continue;
		ret = entry_add(gone, &entry);
		if (ret == 0)
			ret = key_add(&follower->entries_gone, &entry.key);
	}
	return ret;
}

static int entries_update(struct follower *follower)
{
	struct compiled *compiled = follower->compiler.compiled;
	struct rows rows = { .items = (char *)compiled->entries,
			     .count = compiled->entry_count,
			     .capacity = &follower->entry_capacity,
			     .size = sizeof(*compiled->entries),
			     .compare = entry_order };
	struct entry_list gone = { 0 };
	int ret;

	entry_list_sort(&follower->made);
	ret = entries_compare(follower, &rows, &gone);
	entry_list_sort(&gone);
	if (ret == 0)
		rows_drop(&rows, gone.items, gone.count);
	if (ret == 0)
		ret = rows_put(&rows, follower->entries_set.items, follower->entries_set.count);
	compiled->entries = (void *)rows.items;
	compiled->entry_count = rows.count;
	free(gone.items);
	return ret;
}

/* ---- identities ---- */

static int identity_order(const struct follower *follower, const void *a, const void *b)
{
	const struct compiled_identity *left = a;
	const struct compiled_identity *right = b;

	(void)follower;
	return (left->id > right->id) - (left->id < right->id);
}

static int identity_sort(const void *a, const void *b)
{
	return identity_order(NULL, a, b);
}

static int identities_update(struct follower *follower)
{
	struct compiler *compiler = &follower->compiler;
	struct compiled *compiled = compiler->compiled;
	size_t room = follower->born.count + follower->died.count + 1;
	auto_free struct compiled_identity *items = calloc(room, sizeof(*items));
	struct rows rows = { .items = (char *)compiled->identities,
			     .count = compiled->identity_count,
			     .capacity = &follower->identity_capacity,
			     .size = sizeof(*compiled->identities),
			     .compare = identity_order };
	int ret = items ? 0 : -ENOMEM;

	for (size_t i = 0; i < follower->died.count && ret == 0; i++) {
		struct identity_class *identity =
			&compiler->population.identities[follower->died.items[i]];

		items[i].id = identity->id;
		identity->id = 0;
	}
	if (ret < 0)
		return ret;
	qsort(items, follower->died.count, sizeof(*items), identity_sort);
	rows_drop(&rows, items, follower->died.count);
	for (size_t i = 0; i < follower->born.count && ret == 0; i++)
		ret = identity_make(compiler, follower->born.items[i], &items[i]);
	qsort(items, follower->born.count, sizeof(*items), identity_sort);
	if (ret == 0)
		ret = rows_put(&rows, items, follower->born.count);
	compiled->identities = (void *)rows.items;
	compiled->identity_count = rows.count;
	return ret;
}

/* ---- subjects ---- */

static int row_order(const struct follower *follower, const void *a, const void *b)
{
	return member_order(follower, *(const uint32_t *)a, *(const uint32_t *)b);
}

/* By whose row addresses point to: rows are about to move. */
static uint32_t *addresses_unlink(const struct follower *follower)
{
	const struct compiled *compiled = follower->compiler.compiled;
	uint32_t *owners = calloc(compiled->address_count + 1, sizeof(*owners));

	for (size_t i = 0; i < compiled->address_count && owners; i++) {
		const struct compiled_subject *subject = compiled->addresses[i].subject;

		owners[i] = subject ? follower->rows.items[subject - compiled->subjects] : NONE;
	}
	return owners;
}

static void addresses_link(struct follower *follower, const uint32_t *owners)
{
	const struct member *members = follower->compiler.population.members;
	struct compiled *compiled = follower->compiler.compiled;

	for (size_t i = 0; i < compiled->address_count; i++) {
		uint32_t row = owners[i] == NONE ? NONE : members[owners[i]].row;

		compiled->addresses[i].subject = row == NONE ? NULL : &compiled->subjects[row];
	}
}

/* Brings compiled->subjects into the order of new rows; who is new is filled in later. */
static int subjects_move(struct follower *follower)
{
	struct compiled *compiled = follower->compiler.compiled;
	struct member *members = follower->compiler.population.members;
	const struct id_list *rows = &follower->rows;
	struct compiled_subject *subjects = calloc(rows->count + 1, sizeof(*subjects));

	if (!subjects)
		return -ENOMEM;
	for (size_t i = 0; i < rows->count; i++) {
		struct member *member = &members[rows->items[i]];

		if (member->row != NONE)
			subjects[i] = compiled->subjects[member->row];
		member->row = (uint32_t)i;
	}
	free(compiled->subjects);
	compiled->subjects = subjects;
	compiled->subject_count = rows->count;
	return 0;
}

/* qsort() has no argument for the order; these are few. */
static void members_sort(const struct follower *follower, struct id_list *list)
{
	for (size_t i = 1; i < list->count; i++) {
		uint32_t member = list->items[i];
		size_t to = i;

		for (; to > 0 && member_order(follower, list->items[to - 1], member) > 0; to--)
			list->items[to] = list->items[to - 1];
		list->items[to] = member;
	}
}

static int rows_change(struct follower *follower, struct id_list *gone, struct id_list *new)
{
	struct member *members = follower->compiler.population.members;
	struct rows rows = { .items = (char *)follower->rows.items,
			     .count = follower->rows.count,
			     .capacity = &follower->rows.capacity,
			     .size = sizeof(uint32_t),
			     .compare = row_order,
			     .follower = follower };
	auto_free uint32_t *owners = addresses_unlink(follower);
	int ret;

	if (!owners)
		return -ENOMEM;
	members_sort(follower, gone);
	members_sort(follower, new);
	rows_drop(&rows, gone->items, gone->count);
	ret = rows_put(&rows, new->items, new->count);
	follower->rows.items = (void *)rows.items;
	follower->rows.count = rows.count;
	for (size_t i = 0; i < gone->count; i++)
		members[gone->items[i]].row = NONE;
	if (ret == 0)
		ret = subjects_move(follower);
	if (ret == 0)
		addresses_link(follower, owners);
	return ret;
}

static int rows_update(struct follower *follower)
{
	const struct member *members = follower->compiler.population.members;
	struct id_list gone = { 0 };
	struct id_list new = { 0 };
	int ret = 0;

	for (size_t i = 0; i < follower->moved.count && ret == 0; i++) {
		const struct member *member = &members[follower->moved.items[i]];

		if (member->subject && member->row == NONE)
			ret = id_list_add(&new, follower->moved.items[i]);
		else if (!member->subject && member->row != NONE)
			ret = id_list_add(&gone, follower->moved.items[i]);
	}
	if (ret == 0 && gone.count + new.count > 0)
		ret = rows_change(follower, &gone, &new);
	id_list_done(&gone);
	id_list_done(&new);
	return ret;
}

static int subject_update(struct follower *follower, const struct member *member)
{
	struct compiled_subject *subject = &follower->compiler.compiled->subjects[member->row];
	struct subject_list *list = &follower->subjects_set;

	*subject = subject_make(&follower->compiler, member);
	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = *subject;
	return 0;
}

static int subjects_update(struct follower *follower)
{
	const struct population *population = &follower->compiler.population;
	int ret = 0;

	id_list_sort(&follower->moved);
	ret = rows_update(follower);
	for (size_t i = 0; i < population->member_count && follower->switched.count && !ret; i++) {
		const struct member *member = &population->members[i];

		if (member->subject && id_list_has(&follower->switched, member->group))
			ret = id_list_add(&follower->moved, (uint32_t)i);
	}
	id_list_sort(&follower->moved);
	for (size_t i = 0; i < follower->moved.count && ret == 0; i++) {
		const struct member *member = &population->members[follower->moved.items[i]];

		if (member->subject)
			ret = subject_update(follower, member);
	}
	return ret;
}

/* ---- addresses ---- */

static int address_order(const struct follower *follower, const void *a, const void *b)
{
	(void)follower;
	return addr_compare(&((const struct compiled_address *)a)->addr,
			    &((const struct compiled_address *)b)->addr);
}

static int addr_sort(const void *a, const void *b)
{
	return addr_compare(a, b);
}

/* The place of a member at one of its addresses. */
static bool place_of(const struct follower *follower, uint32_t number, const struct addr *addr,
		     struct place *ret_place)
{
	const struct member *member = &follower->compiler.population.members[number];

	for (size_t i = 0; i < member->address_count && member->group != NONE; i++) {
		if (!addr_equal(&member->addresses[i], addr))
			continue;
		*ret_place = (struct place){ .addr = *addr,
					     .kind = member->kind,
					     .identity = member->identities[i],
					     .member = number,
					     .slot = member->slot };
		return true;
	}
	return false;
}

/* Who has an address that is none of the node's: an endpoint, else a pod.  1: somebody. */
static int place_find(struct follower *follower, const struct addr *addr, struct place *ret_place)
{
	const struct object *owner = world_owner(follower->world, addr);
	const struct world_endpoint *endpoints;
	size_t count = world_endpoints(follower->world, &endpoints);
	uint32_t member;

	for (size_t i = 0; i < count; i++) {
		bool has = false;

		for (size_t a = 0; a < endpoints[i].address_count; a++)
			has |= addr_equal(&endpoints[i].addresses[a], addr);
		if (!has)
			continue;
		member = member_of_slot(follower, endpoints[i].slot);
		if (member == NONE)
			return -ENOMEM;
		return place_of(follower, member, addr, ret_place);
	}
	if (!owner || owner->kind != OBJECT_POD)
		return 0;
	member = member_of_name(follower, owner->namespace, owner->name);
	return member == NONE ? -ENOMEM : place_of(follower, member, addr, ret_place);
}

static int address_add(struct address_list *list, const struct compiled_address *address)
{
	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = *address;
	return 0;
}

static int gone_add(struct follower *follower, const struct addr *addr)
{
	struct addr_list *list = &follower->addresses_gone;

	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = *addr;
	return 0;
}

static int address_update(struct follower *follower, const struct rows *rows,
			  const struct addr *addr, struct address_list *gone,
			  struct address_list *new)
{
	struct compiled_address address = { .addr = *addr };
	const struct compiled_address *held;
	struct place place;
	bool found;
	size_t at = rows_place(rows, &address, &found);
	int ret = place_find(follower, addr, &place);

	held = found ? (const struct compiled_address *)(const void *)rows->items + at : NULL;
	if (ret < 0 || (held && held->flags & IPCACHE_HOST)) /* the node's own stay so */
		return ret < 0 ? ret : 0;
	if (ret == 0 && !held)
		return 0;
	if (ret == 0) {
		ret = address_add(gone, &address);
		return ret ? ret : gone_add(follower, addr);
	}
	address = address_make(&follower->compiler, &place);
	ret = address_add(new, &address);
	if (ret == 0 && !(held && held->identity == address.identity &&
			  held->slot == address.slot && held->flags == address.flags))
		ret = address_add(&follower->addresses_set, &address);
	return ret;
}

static int addresses_update(struct follower *follower)
{
	struct compiled *compiled = follower->compiler.compiled;
	struct addr_list *touched = &follower->addresses;
	struct address_list gone = { 0 };
	struct address_list new = { 0 };
	struct rows rows = { .items = (char *)compiled->addresses,
			     .count = compiled->address_count,
			     .capacity = &follower->address_capacity,
			     .size = sizeof(*compiled->addresses),
			     .compare = address_order };
	int ret = 0;

	if (touched->count > 0)
		qsort(touched->items, touched->count, sizeof(*touched->items), addr_sort);
	for (size_t i = 0; i < touched->count && ret == 0; i++) {
		if (i > 0 && addr_equal(&touched->items[i], &touched->items[i - 1]))
			continue;
		ret = address_update(follower, &rows, &touched->items[i], &gone, &new);
	}
	if (ret == 0) {
		rows_drop(&rows, gone.items, gone.count);
		ret = rows_put(&rows, new.items, new.count);
	}
	compiled->addresses = (void *)rows.items;
	compiled->address_count = rows.count;
	free(gone.items);
	free(new.items);
	return ret;
}

/* ---- all of them ---- */

int tables_begin(struct follower *follower)
{
	const struct population *population = &follower->compiler.population;
	const struct compiled *compiled = follower->compiler.compiled;

	follower->identity_capacity = compiled->identity_count;
	follower->address_capacity = compiled->address_count;
	follower->entry_capacity = compiled->entry_count;
	for (size_t i = 0; i < population->member_count; i++) {
		if (population->members[i].subject && id_list_add(&follower->rows, (uint32_t)i) < 0)
			return -ENOMEM;
	}
	return 0;
}

int tables_update(struct follower *follower)
{
	int ret = entries_update(follower);

	if (ret == 0)
		ret = identities_update(follower);
	if (ret == 0 && follower->cidrs)
		ret = compile_cidrs(&follower->compiler);
	if (ret == 0)
		ret = subjects_update(follower);
	return ret ? ret : addresses_update(follower);
}
