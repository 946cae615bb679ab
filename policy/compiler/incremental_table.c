/* SPDX-License-Identifier: Apache-2.0 */
/* Patches the tables, and records the differences. */
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "policy/compiler/incremental_internal.h"

/* ---- sorted arrays ---- */

/* A sorted array of any type that is patched in at. */
struct rows {
	char *items;
	size_t count;
	size_t *capacity;
	size_t size;
	int (*compare)(const void *a, const void *b, void *arg);
	void *arg;
};

/* The index of the first element that is not before the key. */
static size_t rows_find(const struct rows *rows, const void *key, bool *ret_found)
{
	size_t low = 0;
	size_t high = rows->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (rows->compare(rows->items + middle * rows->size, key, rows->arg) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = low < rows->count &&
		     rows->compare(rows->items + low * rows->size, key, rows->arg) == 0;
	return low;
}

/* Removes the elements that equal one of the keys, which have the type of elements and are sorted.
 */
static void rows_drop(struct rows *rows, const void *keys, size_t count)
{
	size_t from = 0, to = 0;
	bool found;

	for (size_t i = 0; i < count; i++) {
		size_t at = rows_find(rows, (const char *)keys + i * rows->size, &found);

		if (!found)
			continue;
		if (to < from)
			memmove(rows->items + to * rows->size, rows->items + from * rows->size,
				(at - from) * rows->size);
		to += at - from;
		from = at + 1;
	}
	if (from == to)
		return;
	memmove(rows->items + to * rows->size, rows->items + from * rows->size,
		(rows->count - from) * rows->size);
	rows->count -= from - to;
}

/* Inserts sorted elements; an equal one in the array is overwritten. */
static void rows_put(struct rows *rows, const void *elements, size_t count)
{
	size_t added = 0;
	size_t end;
	bool found;

	for (size_t i = 0; i < count; i++) {
		const char *element = (const char *)elements + i * rows->size;
		size_t at = rows_find(rows, element, &found);

		if (found)
			memcpy(rows->items + at * rows->size, element, rows->size);
		added += !found;
	}
	while (*rows->capacity < rows->count + added)
		array_room(&rows->items, *rows->capacity, rows->capacity, rows->size);
	end = rows->count;
	for (size_t i = count; i-- > 0 && added > 0;) {
		const char *element = (const char *)elements + i * rows->size;
		struct rows before = *rows;
		size_t at;

		before.count = end; /* the elements behind have moved already */
		at = rows_find(&before, element, &found);
		if (found)
			continue;
		memmove(rows->items + (at + added) * rows->size, rows->items + at * rows->size,
			(end - at) * rows->size);
		memcpy(rows->items + (at + --added) * rows->size, element, rows->size);
		rows->count++;
		end = at;
	}
}

/* ---- entries ---- */

static int entry_order(const void *a, const void *b, void *arg)
{
	(void)arg;
	return entry_compare(a, b);
}

static bool entry_equal(const struct compiled_entry *a, const struct compiled_entry *b)
{
	return a->rule_count == b->rule_count &&
	       (a->rules == b->rules ||
		memcmp(a->rules, b->rules, a->rule_count * sizeof(*a->rules)) == 0);
}

/* Finds which of the entries that were compiled again differ, and which stale ones are gone. */
static void entries_compare(struct incremental *incremental, const struct rows *rows,
			    struct entry_list *gone)
{
	const struct entry_list *compiled = &incremental->compiled_entries;

	for (size_t i = 0; i < compiled->count; i++) {
		bool found;
		size_t at = rows_find(rows, &compiled->items[i], &found);
		const struct compiled_entry *held = (const void *)rows->items;

		if (!found || !entry_equal(&held[at], &compiled->items[i]))
			*array_add(&incremental->entries_set) = compiled->items[i];
	}
	for (size_t i = 0; i < incremental->stale.count; i++) {
		struct compiled_entry entry = { .key = incremental->stale.items[i] };
		bool found;

		rows_find(rows, &entry, &found);
		if (!found ||
		    (compiled->count > 0 && bsearch(&entry, compiled->items, compiled->count,
						    sizeof(entry), entry_compare)))
			continue;
		*array_add(gone) = entry;
		*array_add(&incremental->entries_gone) = entry.key;
	}
	entry_list_sort(gone);
}

static void entries_update(struct incremental *incremental)
{
	struct compiled *compiled = incremental->compiler.compiled;
	struct rows rows = { .items = (char *)compiled->entries,
			     .count = compiled->entry_count,
			     .capacity = &incremental->entry_capacity,
			     .size = sizeof(*compiled->entries),
			     .compare = entry_order };
	struct entry_list gone = { 0 };

	entry_list_sort(&incremental->compiled_entries);
	entries_compare(incremental, &rows, &gone);
	rows_drop(&rows, gone.items, gone.count);
	rows_put(&rows, incremental->entries_set.items, incremental->entries_set.count);
	compiled->entries = (void *)rows.items;
	compiled->entry_count = rows.count;
	free(gone.items);
}

/* ---- identities ---- */

static int identity_order(const void *a, const void *b, void *arg)
{
	const struct compiled_identity *left = a;
	const struct compiled_identity *right = b;

	(void)arg;
	return (left->id > right->id) - (left->id < right->id);
}

static void identities_update(struct incremental *incremental)
{
	struct compiler *compiler = &incremental->compiler;
	struct compiled *compiled = compiler->compiled;
	const struct id_list *added = &incremental->added;
	const struct id_list *removed = &incremental->removed;
	auto_free struct compiled_identity *items =
		xcalloc(added->count + removed->count, sizeof(*items));
	struct rows rows = { .items = (char *)compiled->identities,
			     .count = compiled->identity_count,
			     .capacity = &incremental->identity_capacity,
			     .size = sizeof(*compiled->identities),
			     .compare = identity_order };

	for (size_t i = 0; i < removed->count; i++) {
		struct identity_class *identity =
			&compiler->allocator.identities[removed->items[i]];

		items[i].id = identity->id;
		identity->id = 0;
	}
	qsort_r(items, removed->count, sizeof(*items), identity_order, NULL);
	rows_drop(&rows, items, removed->count);
	for (size_t i = 0; i < added->count; i++)
		items[i] = identity_make(compiler, added->items[i]);
	qsort_r(items, added->count, sizeof(*items), identity_order, NULL);
	rows_put(&rows, items, added->count);
	compiled->identities = (void *)rows.items;
	compiled->identity_count = rows.count;
}

/* ---- subjects ---- */

static int row_order(const void *a, const void *b, void *arg)
{
	return pod_state_order(arg, *(const uint32_t *)a, *(const uint32_t *)b);
}

/* Brings compiled->subjects into the order of new rows; new subjects are filled in later. */
static void subjects_move(struct incremental *incremental)
{
	struct compiled *compiled = incremental->compiler.compiled;
	struct pod_state *pod_states = incremental->compiler.allocator.pod_states;
	const struct id_list *rows = &incremental->rows;
	struct compiled_subject *subjects = xcalloc(rows->count, sizeof(*subjects));

	for (size_t i = 0; i < rows->count; i++) {
		struct pod_state *pod_state = &pod_states[rows->items[i]];

		if (pod_state->row != NONE)
			subjects[i] = compiled->subjects[pod_state->row];
		pod_state->row = (uint32_t)i;
	}
	free(compiled->subjects);
	compiled->subjects = subjects;
	compiled->subject_count = rows->count;
}

/* The rows move, and with them the subjects that addresses point to. */
static void rows_change(struct incremental *incremental, struct id_list *gone, struct id_list *new)
{
	struct pod_state *pod_states = incremental->compiler.allocator.pod_states;
	struct compiled *compiled = incremental->compiler.compiled;
	struct rows rows = { .items = (char *)incremental->rows.items,
			     .count = incremental->rows.count,
			     .capacity = &incremental->rows.capacity,
			     .size = sizeof(uint32_t),
			     .compare = row_order,
			     .arg = incremental };
	auto_free uint32_t *owners = xcalloc(compiled->address_count, sizeof(*owners));

	for (size_t i = 0; i < compiled->address_count; i++) {
		const struct compiled_subject *subject = compiled->addresses[i].subject;

		owners[i] = subject ? incremental->rows.items[subject - compiled->subjects] : NONE;
	}
	if (gone->count > 0)
		qsort_r(gone->items, gone->count, sizeof(uint32_t), row_order, incremental);
	if (new->count > 0)
		qsort_r(new->items, new->count, sizeof(uint32_t), row_order, incremental);
	rows_drop(&rows, gone->items, gone->count);
	rows_put(&rows, new->items, new->count);
	incremental->rows.items = (void *)rows.items;
	incremental->rows.count = rows.count;
	for (size_t i = 0; i < gone->count; i++)
		pod_states[gone->items[i]].row = NONE;
	subjects_move(incremental);
	for (size_t i = 0; i < compiled->address_count; i++) {
		uint32_t row = owners[i] == NONE ? NONE : pod_states[owners[i]].row;

		compiled->addresses[i].subject = row == NONE ? NULL : &compiled->subjects[row];
	}
}

static void rows_update(struct incremental *incremental)
{
	const struct pod_state *pod_states = incremental->compiler.allocator.pod_states;
	struct id_list gone = { 0 };
	struct id_list new = { 0 };

	for (size_t i = 0; i < incremental->moved.count; i++) {
		const struct pod_state *pod_state = &pod_states[incremental->moved.items[i]];

		if (pod_state->subject && pod_state->row == NONE)
			id_list_add(&new, incremental->moved.items[i]);
		else if (!pod_state->subject && pod_state->row != NONE)
			id_list_add(&gone, incremental->moved.items[i]);
	}
	if (gone.count + new.count > 0)
		rows_change(incremental, &gone, &new);
	id_list_done(&gone);
	id_list_done(&new);
}

static void subjects_update(struct incremental *incremental)
{
	const struct allocator *allocator = &incremental->compiler.allocator;
	struct id_list *moved = &incremental->moved;

	id_list_sort(moved);
	rows_update(incremental);
	for (size_t i = 0; i < allocator->pod_state_count && incremental->switched.count; i++) {
		const struct pod_state *pod_state = &allocator->pod_states[i];

		if (pod_state->subject && id_list_has(&incremental->switched, pod_state->group))
			id_list_add(moved, (uint32_t)i);
	}
	id_list_sort(moved);
	for (size_t i = 0; i < moved->count; i++) {
		const struct pod_state *pod_state = &allocator->pod_states[moved->items[i]];
		struct compiled_subject *subject;

		if (!pod_state->subject)
			continue;
		subject = &incremental->compiler.compiled->subjects[pod_state->row];
		*subject = subject_make(&incremental->compiler, pod_state);
		*array_add(&incremental->subjects_set) = *subject;
	}
}

/* ---- addresses ---- */

static int address_order(const void *a, const void *b, void *arg)
{
	(void)arg;
	return addr_compare(&((const struct compiled_address *)a)->addr,
			    &((const struct compiled_address *)b)->addr);
}

static int addr_sort(const void *a, const void *b)
{
	return addr_compare(a, b);
}

/* Fills in the owner if it is this pod or endpoint. */
static bool owner_is(const struct incremental *incremental, uint32_t number,
		     const struct addr *addr, struct ip_owner *ret_owner)
{
	const struct pod_state *pod_state = &incremental->compiler.allocator.pod_states[number];

	for (size_t i = 0; i < pod_state->address_count && pod_state->group != NONE; i++) {
		if (!addr_equal(&pod_state->addresses[i], addr))
			continue;
		*ret_owner = (struct ip_owner){ .addr = *addr,
						.kind = pod_state->kind,
						.identity = pod_state->identities[i],
						.pod_state = number,
						.slot = pod_state->slot };
		return true;
	}
	return false;
}

/* Finds who owns an address that is not the node's: an endpoint, else a pod. */
static bool owner_find(struct incremental *incremental, const struct addr *addr,
		       struct ip_owner *ret_owner)
{
	const struct object *owner = store_owner(incremental->store, addr);
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(incremental->store, &endpoints);

	for (size_t i = 0; i < count; i++) {
		for (size_t a = 0; a < endpoints[i].address_count; a++) {
			if (addr_equal(&endpoints[i].addresses[a], addr))
				return owner_is(incremental,
						pod_state_of_slot(incremental, endpoints[i].slot),
						addr, ret_owner);
		}
	}
	if (!owner || owner->kind != OBJECT_POD)
		return false;
	return owner_is(incremental, pod_state_of_name(incremental, owner->namespace, owner->name),
			addr, ret_owner);
}

static void address_update(struct incremental *incremental, const struct rows *rows,
			   const struct addr *addr, struct compiled_address_list *gone,
			   struct compiled_address_list *new)
{
	struct compiled_address address = { .addr = *addr };
	struct ip_owner owner;
	bool held;
	size_t at = rows_find(rows, &address, &held);
	const struct compiled_address *before = (const void *)rows->items;

	if (held && before[at].flags & IPCACHE_HOST) /* the node's own addresses stay */
		return;
	if (!owner_find(incremental, addr, &owner)) {
		if (held) {
			*array_add(gone) = address;
			*array_add(&incremental->addresses_gone) = *addr;
		}
		return;
	}
	address = address_make(&incremental->compiler, &owner);
	*array_add(new) = address;
	if (!held || before[at].identity != address.identity || before[at].slot != address.slot ||
	    before[at].flags != address.flags)
		*array_add(&incremental->addresses_set) = address;
}

static void addresses_update(struct incremental *incremental)
{
	struct compiled *compiled = incremental->compiler.compiled;
	struct addr_list *touched = &incremental->addresses;
	struct compiled_address_list gone = { 0 };
	struct compiled_address_list new = { 0 };
	struct rows rows = { .items = (char *)compiled->addresses,
			     .count = compiled->address_count,
			     .capacity = &incremental->address_capacity,
			     .size = sizeof(*compiled->addresses),
			     .compare = address_order };

	if (touched->count > 0)
		qsort(touched->items, touched->count, sizeof(*touched->items), addr_sort);
	for (size_t i = 0; i < touched->count; i++) {
		if (i == 0 || !addr_equal(&touched->items[i], &touched->items[i - 1]))
			address_update(incremental, &rows, &touched->items[i], &gone, &new);
	}
	rows_drop(&rows, gone.items, gone.count);
	rows_put(&rows, new.items, new.count);
	compiled->addresses = (void *)rows.items;
	compiled->address_count = rows.count;
	free(gone.items);
	free(new.items);
}

/* ---- all of them ---- */

void tables_begin(struct incremental *incremental)
{
	const struct allocator *allocator = &incremental->compiler.allocator;
	const struct compiled *compiled = incremental->compiler.compiled;

	incremental->identity_capacity = compiled->identity_count;
	incremental->address_capacity = compiled->address_count;
	incremental->entry_capacity = compiled->entry_count;
	for (size_t i = 0; i < allocator->pod_state_count; i++) {
		if (allocator->pod_states[i].subject)
			id_list_add(&incremental->rows, (uint32_t)i);
	}
}

void tables_update(struct incremental *incremental)
{
	entries_update(incremental);
	identities_update(incremental);
	if (incremental->cidrs)
		compile_cidrs(&incremental->compiler);
	subjects_update(incremental);
	addresses_update(incremental);
}
