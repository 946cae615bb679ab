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
	int (*compare)(const struct incremental *incremental, const void *a, const void *b);
	const struct incremental *incremental;
};

/* The first place whose element is not before the key. */
static size_t rows_place(const struct rows *rows, const void *key, bool *ret_found)
{
	size_t low = 0;
	size_t high = rows->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (rows->compare(rows->incremental, rows->items + middle * rows->size, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = low < rows->count &&
		     rows->compare(rows->incremental, rows->items + low * rows->size, key) == 0;
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

static int entry_order(const struct incremental *incremental, const void *a, const void *b)
{
	(void)incremental;
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
static int entries_compare(struct incremental *incremental, const struct rows *rows,
			   struct entry_list *gone)
{
	const struct entry_list *made = &incremental->made;
	int ret = 0;

	for (size_t i = 0; i < made->count && ret == 0; i++) {
		bool found;
		size_t place = rows_place(rows, &made->items[i], &found);
		const struct compiled_entry *held = (const void *)rows->items;

		if (!found || !entry_same(&held[place], &made->items[i]))
			ret = entry_add(&incremental->entries_set, &made->items[i]);
	}
	for (size_t i = 0; i < incremental->unmade.count && ret == 0; i++) {
		struct compiled_entry entry = { .key = incremental->unmade.items[i] };
		bool found;

		rows_place(rows, &entry, &found);
		if (!found || (made->count > 0 && bsearch(&entry, made->items, made->count,
							  sizeof(entry), entry_compare)))
			continue;
		ret = entry_add(gone, &entry);
		if (ret == 0)
			ret = key_add(&incremental->entries_gone, &entry.key);
	}
	return ret;
}

static int entries_update(struct incremental *incremental)
{
	struct compiled *compiled = incremental->compiler.compiled;
	struct rows rows = { .items = (char *)compiled->entries,
			     .count = compiled->entry_count,
			     .capacity = &incremental->entry_capacity,
			     .size = sizeof(*compiled->entries),
			     .compare = entry_order };
	struct entry_list gone = { 0 };
	int ret;

	entry_list_sort(&incremental->made);
	ret = entries_compare(incremental, &rows, &gone);
	entry_list_sort(&gone);
	if (ret == 0)
		rows_drop(&rows, gone.items, gone.count);
	if (ret == 0)
		ret = rows_put(&rows, incremental->entries_set.items,
			       incremental->entries_set.count);
	compiled->entries = (void *)rows.items;
	compiled->entry_count = rows.count;
	free(gone.items);
	return ret;
}

/* ---- identities ---- */

static int identity_order(const struct incremental *incremental, const void *a, const void *b)
{
	const struct compiled_identity *left = a;
	const struct compiled_identity *right = b;

	(void)incremental;
	return (left->id > right->id) - (left->id < right->id);
}

static int identity_sort(const void *a, const void *b)
{
	return identity_order(NULL, a, b);
}

static int identities_update(struct incremental *incremental)
{
	struct compiler *compiler = &incremental->compiler;
	struct compiled *compiled = compiler->compiled;
	size_t room = incremental->born.count + incremental->died.count + 1;
	auto_free struct compiled_identity *items = calloc(room, sizeof(*items));
	struct rows rows = { .items = (char *)compiled->identities,
			     .count = compiled->identity_count,
			     .capacity = &incremental->identity_capacity,
			     .size = sizeof(*compiled->identities),
			     .compare = identity_order };
	int ret = items ? 0 : -ENOMEM;

	for (size_t i = 0; i < incremental->died.count && ret == 0; i++) {
		struct identity_class *identity =
			&compiler->allocator.identities[incremental->died.items[i]];

		items[i].id = identity->id;
		identity->id = 0;
	}
	if (ret < 0)
		return ret;
	qsort(items, incremental->died.count, sizeof(*items), identity_sort);
	rows_drop(&rows, items, incremental->died.count);
	for (size_t i = 0; i < incremental->born.count && ret == 0; i++)
		ret = identity_make(compiler, incremental->born.items[i], &items[i]);
	qsort(items, incremental->born.count, sizeof(*items), identity_sort);
	if (ret == 0)
		ret = rows_put(&rows, items, incremental->born.count);
	compiled->identities = (void *)rows.items;
	compiled->identity_count = rows.count;
	return ret;
}

/* ---- subjects ---- */

static int row_order(const struct incremental *incremental, const void *a, const void *b)
{
	return pod_state_order(incremental, *(const uint32_t *)a, *(const uint32_t *)b);
}

/* By whose row addresses point to: rows are about to move. */
static uint32_t *addresses_unlink(const struct incremental *incremental)
{
	const struct compiled *compiled = incremental->compiler.compiled;
	uint32_t *owners = calloc(compiled->address_count + 1, sizeof(*owners));

	for (size_t i = 0; i < compiled->address_count && owners; i++) {
		const struct compiled_subject *subject = compiled->addresses[i].subject;

		owners[i] = subject ? incremental->rows.items[subject - compiled->subjects] : NONE;
	}
	return owners;
}

static void addresses_link(struct incremental *incremental, const uint32_t *owners)
{
	const struct pod_state *pod_states = incremental->compiler.allocator.pod_states;
	struct compiled *compiled = incremental->compiler.compiled;

	for (size_t i = 0; i < compiled->address_count; i++) {
		uint32_t row = owners[i] == NONE ? NONE : pod_states[owners[i]].row;

		compiled->addresses[i].subject = row == NONE ? NULL : &compiled->subjects[row];
	}
}

/* Brings compiled->subjects into the order of new rows; who is new is filled in later. */
static int subjects_move(struct incremental *incremental)
{
	struct compiled *compiled = incremental->compiler.compiled;
	struct pod_state *pod_states = incremental->compiler.allocator.pod_states;
	const struct id_list *rows = &incremental->rows;
	struct compiled_subject *subjects = calloc(rows->count + 1, sizeof(*subjects));

	if (!subjects)
		return -ENOMEM;
	for (size_t i = 0; i < rows->count; i++) {
		struct pod_state *pod_state = &pod_states[rows->items[i]];

		if (pod_state->row != NONE)
			subjects[i] = compiled->subjects[pod_state->row];
		pod_state->row = (uint32_t)i;
	}
	free(compiled->subjects);
	compiled->subjects = subjects;
	compiled->subject_count = rows->count;
	return 0;
}

/* qsort() has no argument for the order; these are few. */
static void pod_states_sort(const struct incremental *incremental, struct id_list *list)
{
	for (size_t i = 1; i < list->count; i++) {
		uint32_t pod_state = list->items[i];
		size_t to = i;

		for (; to > 0 && pod_state_order(incremental, list->items[to - 1], pod_state) > 0;
		     to--)
			list->items[to] = list->items[to - 1];
		list->items[to] = pod_state;
	}
}

static int rows_change(struct incremental *incremental, struct id_list *gone, struct id_list *new)
{
	struct pod_state *pod_states = incremental->compiler.allocator.pod_states;
	struct rows rows = { .items = (char *)incremental->rows.items,
			     .count = incremental->rows.count,
			     .capacity = &incremental->rows.capacity,
			     .size = sizeof(uint32_t),
			     .compare = row_order,
			     .incremental = incremental };
	auto_free uint32_t *owners = addresses_unlink(incremental);
	int ret;

	if (!owners)
		return -ENOMEM;
	pod_states_sort(incremental, gone);
	pod_states_sort(incremental, new);
	rows_drop(&rows, gone->items, gone->count);
	ret = rows_put(&rows, new->items, new->count);
	incremental->rows.items = (void *)rows.items;
	incremental->rows.count = rows.count;
	for (size_t i = 0; i < gone->count; i++)
		pod_states[gone->items[i]].row = NONE;
	if (ret == 0)
		ret = subjects_move(incremental);
	if (ret == 0)
		addresses_link(incremental, owners);
	return ret;
}

static int rows_update(struct incremental *incremental)
{
	const struct pod_state *pod_states = incremental->compiler.allocator.pod_states;
	struct id_list gone = { 0 };
	struct id_list new = { 0 };
	int ret = 0;

	for (size_t i = 0; i < incremental->moved.count && ret == 0; i++) {
		const struct pod_state *pod_state = &pod_states[incremental->moved.items[i]];

		if (pod_state->subject && pod_state->row == NONE)
			ret = id_list_add(&new, incremental->moved.items[i]);
		else if (!pod_state->subject && pod_state->row != NONE)
			ret = id_list_add(&gone, incremental->moved.items[i]);
	}
	if (ret == 0 && gone.count + new.count > 0)
		ret = rows_change(incremental, &gone, &new);
	id_list_done(&gone);
	id_list_done(&new);
	return ret;
}

static int subject_update(struct incremental *incremental, const struct pod_state *pod_state)
{
	struct compiled_subject *subject =
		&incremental->compiler.compiled->subjects[pod_state->row];
	struct subject_list *list = &incremental->subjects_set;

	*subject = subject_make(&incremental->compiler, pod_state);
	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = *subject;
	return 0;
}

static int subjects_update(struct incremental *incremental)
{
	const struct allocator *allocator = &incremental->compiler.allocator;
	int ret = 0;

	id_list_sort(&incremental->moved);
	ret = rows_update(incremental);
	for (size_t i = 0; i < allocator->pod_state_count && incremental->switched.count && !ret;
	     i++) {
		const struct pod_state *pod_state = &allocator->pod_states[i];

		if (pod_state->subject && id_list_has(&incremental->switched, pod_state->group))
			ret = id_list_add(&incremental->moved, (uint32_t)i);
	}
	id_list_sort(&incremental->moved);
	for (size_t i = 0; i < incremental->moved.count && ret == 0; i++) {
		const struct pod_state *pod_state =
			&allocator->pod_states[incremental->moved.items[i]];

		if (pod_state->subject)
			ret = subject_update(incremental, pod_state);
	}
	return ret;
}

/* ---- addresses ---- */

static int address_order(const struct incremental *incremental, const void *a, const void *b)
{
	(void)incremental;
	return addr_compare(&((const struct compiled_address *)a)->addr,
			    &((const struct compiled_address *)b)->addr);
}

static int addr_sort(const void *a, const void *b)
{
	return addr_compare(a, b);
}

/* The place of a member at one of its addresses. */
static bool place_of(const struct incremental *incremental, uint32_t number,
		     const struct addr *addr, struct place *ret_place)
{
	const struct pod_state *pod_state = &incremental->compiler.allocator.pod_states[number];

	for (size_t i = 0; i < pod_state->address_count && pod_state->group != NONE; i++) {
		if (!addr_equal(&pod_state->addresses[i], addr))
			continue;
		*ret_place = (struct place){ .addr = *addr,
					     .kind = pod_state->kind,
					     .identity = pod_state->identities[i],
					     .pod_state = number,
					     .slot = pod_state->slot };
		return true;
	}
	return false;
}

/* Who has an address that is none of the node's: an endpoint, else a pod.  1: somebody. */
static int place_find(struct incremental *incremental, const struct addr *addr,
		      struct place *ret_place)
{
	const struct object *owner = store_owner(incremental->store, addr);
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(incremental->store, &endpoints);
	uint32_t pod_state;

	for (size_t i = 0; i < count; i++) {
		bool has = false;

		for (size_t a = 0; a < endpoints[i].address_count; a++)
			has |= addr_equal(&endpoints[i].addresses[a], addr);
		if (!has)
			continue;
		pod_state = pod_state_of_slot(incremental, endpoints[i].slot);
		if (pod_state == NONE)
			return -ENOMEM;
		return place_of(incremental, pod_state, addr, ret_place);
	}
	if (!owner || owner->kind != OBJECT_POD)
		return 0;
	pod_state = pod_state_of_name(incremental, owner->namespace, owner->name);
	return pod_state == NONE ? -ENOMEM : place_of(incremental, pod_state, addr, ret_place);
}

static int address_add(struct address_list *list, const struct compiled_address *address)
{
	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = *address;
	return 0;
}

static int gone_add(struct incremental *incremental, const struct addr *addr)
{
	struct addr_list *list = &incremental->addresses_gone;

	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = *addr;
	return 0;
}

static int address_update(struct incremental *incremental, const struct rows *rows,
			  const struct addr *addr, struct address_list *gone,
			  struct address_list *new)
{
	struct compiled_address address = { .addr = *addr };
	const struct compiled_address *held;
	struct place place;
	bool found;
	size_t at = rows_place(rows, &address, &found);
	int ret = place_find(incremental, addr, &place);

	held = found ? (const struct compiled_address *)(const void *)rows->items + at : NULL;
	if (ret < 0 || (held && held->flags & IPCACHE_HOST)) /* the node's own stay so */
		return ret < 0 ? ret : 0;
	if (ret == 0 && !held)
		return 0;
	if (ret == 0) {
		ret = address_add(gone, &address);
		return ret ? ret : gone_add(incremental, addr);
	}
	address = address_make(&incremental->compiler, &place);
	ret = address_add(new, &address);
	if (ret == 0 && !(held && held->identity == address.identity &&
			  held->slot == address.slot && held->flags == address.flags))
		ret = address_add(&incremental->addresses_set, &address);
	return ret;
}

static int addresses_update(struct incremental *incremental)
{
	struct compiled *compiled = incremental->compiler.compiled;
	struct addr_list *touched = &incremental->addresses;
	struct address_list gone = { 0 };
	struct address_list new = { 0 };
	struct rows rows = { .items = (char *)compiled->addresses,
			     .count = compiled->address_count,
			     .capacity = &incremental->address_capacity,
			     .size = sizeof(*compiled->addresses),
			     .compare = address_order };
	int ret = 0;

	if (touched->count > 0)
		qsort(touched->items, touched->count, sizeof(*touched->items), addr_sort);
	for (size_t i = 0; i < touched->count && ret == 0; i++) {
		if (i > 0 && addr_equal(&touched->items[i], &touched->items[i - 1]))
			continue;
		ret = address_update(incremental, &rows, &touched->items[i], &gone, &new);
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

int tables_begin(struct incremental *incremental)
{
	const struct allocator *allocator = &incremental->compiler.allocator;
	const struct compiled *compiled = incremental->compiler.compiled;

	incremental->identity_capacity = compiled->identity_count;
	incremental->address_capacity = compiled->address_count;
	incremental->entry_capacity = compiled->entry_count;
	for (size_t i = 0; i < allocator->pod_state_count; i++) {
		if (allocator->pod_states[i].subject &&
		    id_list_add(&incremental->rows, (uint32_t)i) < 0)
			return -ENOMEM;
	}
	return 0;
}

int tables_update(struct incremental *incremental)
{
	int ret = entries_update(incremental);

	if (ret == 0)
		ret = identities_update(incremental);
	if (ret == 0 && incremental->cidrs)
		ret = compile_cidrs(&incremental->compiler);
	if (ret == 0)
		ret = subjects_update(incremental);
	return ret ? ret : addresses_update(incremental);
}
