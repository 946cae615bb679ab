/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deletes connections and translations that nobody used for as long as their state allows, and
 * those of endpoints that are gone.  What ends in the open (RST, both FINs acknowledged) the
 * datapath deletes itself.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#include "datapath/maps.h"
#include "datapath/state.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/inet.h"

/*
 * Two steps, because the kernel has no compare-and-delete: if the datapath touches the entry
 * between look and take, what was taken is put back.  Only a packet inside that microsecond misses
 * it, and it would have to end a silence of at least CT_TCP_CLOSING_NS.
 */
int ct_map_del_if(struct datapath *datapath, const struct ct_key *key, const struct ct_entry *seen)
{
	const int fd = datapath->map_fds[MAP_CT];
	struct ct_entry entry;

	if (bpf_map_lookup_elem(fd, key, &entry))
		return errno == ENOENT ? 0 : -errno;
	if (memcmp(&entry, seen, sizeof(entry)) != 0)
		return -EAGAIN;
	if (bpf_map_lookup_and_delete_elem(fd, key, &entry))
		return errno == ENOENT ? 0 : -errno;
	if (memcmp(&entry, seen, sizeof(entry)) != 0) {
		bpf_map_update_elem(fd, key, &entry, BPF_NOEXIST); /* EEXIST: opened anew */
		return -EAGAIN;
	}
	return 0;
}

struct sweep {
	struct datapath *datapath;
	uint64_t now_ns;
	int deleted;
	int64_t *counts; /* of what stays, by owner */
};

static bool outlived(uint64_t now_ns, uint64_t last_seen_ns, uint64_t lifetime_ns)
{
	return now_ns > last_seen_ns && now_ns - last_seen_ns > lifetime_ns;
}

static uint64_t ct_lifetime(const struct ct_key *key, const struct ct_entry *entry)
{
	const uint32_t fins = CT_FIN_A | CT_FIN_B;

	if (key->proto != IPPROTO_TCP)
		return entry->flags & CT_REPLIED ? CT_OTHER_REPLIED_NS : CT_OTHER_UNREPLIED_NS;
	if ((entry->flags & fins) == fins)
		return CT_TCP_CLOSING_NS;
	return entry->flags & CT_ESTABLISHED ? CT_TCP_ESTABLISHED_NS : CT_TCP_OPENING_NS;
}

/* The endpoint that opened it, or was asked, is gone; its slot may have another one by now.  Behind
 * the node's NAT the addresses do not tell. */
static bool ct_is_orphan(const struct datapath *datapath, const struct ct_key *key,
			 const struct ct_entry *entry)
{
	const struct endpoint_entry *owner = &datapath->endpoints[entry->owner];

	if (!entry->owner || entry->flags & CT_BEHIND_NODE)
		return false;
	return !(owner->flags & ENDPOINT_VALID) ||
	       !(addr_equal(&owner->v4, &key->a) || addr_equal(&owner->v4, &key->b) ||
		 addr_equal(&owner->v6, &key->a) || addr_equal(&owner->v6, &key->b));
}

static int ct_sweep_entry(const void *key, const void *value, void *arg)
{
	const struct ct_entry *entry = value;
	struct sweep *sweep = arg;
	int ret = -EAGAIN;

	if (entry->owner >= sweep->datapath->capacity[MAP_ENDPOINT])
		return -EPROTO;
	if (outlived(sweep->now_ns, entry->last_seen_ns, ct_lifetime(key, entry)) ||
	    ct_is_orphan(sweep->datapath, key, entry))
		ret = ct_map_del_if(sweep->datapath, key, entry);
	if (ret == -EAGAIN) {
		sweep->counts[CT_COUNT_FREE]--;
		if (entry->owner)
			sweep->counts[entry->owner]++;
		return 0;
	}
	if (!ret)
		sweep->deleted++;
	return ret;
}

/*
 * The programs count with each insertion and deletion, but not what is deleted here, and a CPU may
 * lose a race for an entry.  So the counters are set to what the walk finds.  What the programs do
 * meanwhile is not in it until the next sweep: an endpoint gains or loses that much of its share.
 */
int ct_map_sweep(struct datapath *datapath, uint64_t now_ns)
{
	const uint32_t slots = datapath->capacity[MAP_ENDPOINT];
	auto_free int64_t *counts = xcalloc(slots, sizeof(*counts));
	struct sweep sweep = { .datapath = datapath, .now_ns = now_ns, .counts = counts };
	int ret;

	counts[CT_COUNT_FREE] = datapath->capacity[MAP_CT];
	ret = maps_foreach(datapath, MAP_CT, ct_sweep_entry, &sweep);
	if (ret)
		return ret;
	for (uint32_t slot = 0; slot < slots; slot++)
		__atomic_store_n(&datapath->ct_counts[slot], counts[slot], __ATOMIC_RELAXED);
	return sweep.deleted;
}

static uint64_t nat_lifetime(const struct flow *key, const struct nat_entry *entry, bool replied)
{
	const uint32_t done = NAT_CLIENT_DONE | NAT_BACKEND_DONE;
	const uint32_t remembered = NAT_CLIENT_ACKED | NAT_BACKEND_ACKED | NAT_BACKEND_FIRST;

	if (key->proto != IPPROTO_TCP)
		return replied ? CT_OTHER_REPLIED_NS : CT_OTHER_UNREPLIED_NS;
	if (entry->flags & NAT_GONE) /* the client may be idle for long, and is still to be told */
		return CT_TCP_ESTABLISHED_NS;
	if ((entry->flags & remembered) == remembered)
		return NAT_TIME_WAIT_NS;
	if ((entry->flags & done) == done)
		return CT_TCP_CLOSING_NS;
	return replied ? CT_TCP_ESTABLISHED_NS : CT_TCP_OPENING_NS;
}

static struct flow flow_reversed(const struct flow *flow)
{
	return (struct flow){
		.saddr = flow->daddr,
		.daddr = flow->saddr,
		.sport = flow->dport,
		.dport = flow->sport,
		.proto = flow->proto,
	};
}

/* Reads the other half of a translation; false: it is gone, or half of another one. */
static bool nat_sibling_get(struct datapath *datapath, const struct flow *key,
			    const struct nat_entry *entry, struct nat_entry *ret)
{
	const struct flow sibling = flow_reversed(&entry->flow), back = flow_reversed(key);

	return !map_get(datapath, MAP_NAT, &sibling, ret) &&
	       !memcmp(&ret->flow, &back, sizeof(back));
}

/* Whether nobody used either half for as long as the state of the translation allows.  Only the
 * half that answers use knows whether there were any. */
static bool nat_is_outlived(const struct sweep *sweep, const struct flow *key,
			    const struct nat_entry *entry)
{
	const struct nat_entry *back = entry;
	struct nat_entry sibling;
	/* Answers to what goes on to the backend's node do not come here: a second packet of the
	 * client tells that there were any. */
	bool replied = entry->flags & NAT_REQUEST
			       ? (entry->flags & NAT_DSR) && entry->flags & NAT_USED
			       : entry->flags & NAT_REPLIED;
	uint64_t lifetime;

	if (!outlived(sweep->now_ns, entry->last_seen_ns, nat_lifetime(key, entry, replied)))
		return false;
	if (!nat_sibling_get(sweep->datapath, key, entry, &sibling))
		return true;
	if (entry->flags & NAT_REQUEST)
		back = &sibling;
	lifetime = nat_lifetime(key, entry, back->flags & NAT_REPLIED);
	return outlived(sweep->now_ns, MAX(entry->last_seen_ns, sibling.last_seen_ns), lifetime);
}

/* The client is gone; its slot may have another one by now. */
static bool nat_is_orphan(const struct datapath *datapath, uint32_t slot, const struct addr *client)
{
	const struct endpoint_entry *owner = &datapath->endpoints[slot];

	return slot && (!(owner->flags & ENDPOINT_VALID) ||
			!(addr_equal(&owner->v4, client) || addr_equal(&owner->v6, client)));
}

static void nat_bytes_tell(const struct datapath *datapath, const struct flow *key,
			   const struct nat_entry *entry)
{
	const bool request = entry->flags & NAT_REQUEST;
	const struct backend backend = { .addr = request ? entry->flow.daddr : key->saddr,
					 .port = request ? entry->flow.dport : key->sport };

	if (entry->service_id && entry->bytes && datapath->nat_end_each)
		datapath->nat_end_each(entry->service_id, &backend, entry->bytes,
				       datapath->nat_end_arg);
}

static int nat_sweep_entry(const void *key_mem, const void *value, void *arg)
{
	const struct flow *key = key_mem;
	const struct nat_entry *entry = value;
	const bool request = entry->flags & NAT_REQUEST;
	const uint32_t owner = entry->flags >> NAT_OWNER_SHIFT;
	struct sweep *sweep = arg;
	int ret;

	if (owner >= sweep->datapath->capacity[MAP_ENDPOINT])
		return -EPROTO;
	if (!nat_is_outlived(sweep, key, entry) &&
	    !nat_is_orphan(sweep->datapath, owner, request ? &key->saddr : &entry->flow.daddr)) {
		sweep->counts[owner] += request;
		return 0;
	}
	ret = map_del(sweep->datapath, MAP_NAT, key);
	if (!ret) {
		sweep->deleted++;
		nat_bytes_tell(sweep->datapath, key, entry);
	}
	return ret;
}

void nat_map_on_end(struct datapath *datapath,
		    void (*each)(uint32_t service_id, const struct backend *backend, uint64_t bytes,
				 void *arg),
		    void *arg)
{
	datapath->nat_end_each = each;
	datapath->nat_end_arg = arg;
}

/* Marks the entry, if it still leads where it did when its end was decided; programs may write
 * other flags at the same moment, which are lost: all that is left of this connection is its end.
 */
static int nat_entry_end(struct datapath *datapath, const struct flow *key, const struct flow *seen)
{
	struct nat_entry entry;
	int ret = map_get(datapath, MAP_NAT, key, &entry);

	if (ret)
		return ret == -ENOENT ? 0 : ret;
	if (memcmp(&entry.flow, seen, sizeof(*seen)) != 0)
		return 0;
	entry.flags |= NAT_GONE | NAT_CLIENT_DONE | NAT_BACKEND_DONE;
	if (bpf_map_update_elem(datapath->map_fds[MAP_NAT], key, &entry, BPF_EXIST) &&
	    errno != ENOENT)
		return -errno;
	return 0;
}

int nat_map_end(struct datapath *datapath, const struct flow *key, const struct nat_entry *entry)
{
	const struct flow back = flow_reversed(&entry->flow), from = flow_reversed(key);
	int ret = nat_entry_end(datapath, key, &entry->flow);

	return ret ? ret : nat_entry_end(datapath, &back, &from);
}

int nat_map_sweep(struct datapath *datapath, uint64_t now_ns)
{
	const uint32_t slots = datapath->capacity[MAP_ENDPOINT];
	auto_free int64_t *counts = xcalloc(slots, sizeof(*counts));
	struct sweep sweep = { .datapath = datapath, .now_ns = now_ns, .counts = counts };
	int ret = maps_foreach(datapath, MAP_NAT, nat_sweep_entry, &sweep);

	if (ret)
		return ret;
	for (uint32_t slot = 0; slot < slots; slot++)
		__atomic_store_n(&datapath->nat_counts[slot], counts[slot], __ATOMIC_RELAXED);
	return sweep.deleted;
}

int maps_count(struct datapath *datapath)
{
	int ret = ct_map_sweep(datapath, 0);

	return ret < 0 ? ret : nat_map_sweep(datapath, 0);
}
