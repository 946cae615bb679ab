/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/kind.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/auto.h"
#include "lib/text.h"

static const char *const api_versions[OBJECT_KIND_COUNT] = {
	[OBJECT_NAMESPACE] = "v1",
	[OBJECT_NODE] = "v1",
	[OBJECT_POD] = "v1",
	[OBJECT_SERVICE] = "v1",
	[OBJECT_ENDPOINT_SLICE] = "discovery.k8s.io/v1",
	[OBJECT_NETWORK_POLICY] = "networking.k8s.io/v1",
	[OBJECT_CLUSTER_POLICY] = "policy.networking.k8s.io/v1alpha2",
};

/* Kinds of others that decide about the network.  A name that others share needs its group. */
static const struct lookalike {
	const char *kind;
	const char *group; /* NULL: any */
	const char *write;
} lookalikes[] = {
	{ "AdminNetworkPolicy", NULL, "a ClusterNetworkPolicy with tier: Admin" },
	{ "BaselineAdminNetworkPolicy", NULL, "a ClusterNetworkPolicy with tier: Baseline" },
	{ "CiliumNetworkPolicy", NULL, "a NetworkPolicy (networking.k8s.io/v1)" },
	{ "CiliumClusterwideNetworkPolicy", NULL, "a ClusterNetworkPolicy" },
	{ "GlobalNetworkPolicy", NULL, "a ClusterNetworkPolicy" },
	{ "StagedNetworkPolicy", NULL, "a NetworkPolicy (networking.k8s.io/v1)" },
	{ "StagedGlobalNetworkPolicy", NULL, "a ClusterNetworkPolicy" },
	{ "StagedKubernetesNetworkPolicy", NULL, "a NetworkPolicy (networking.k8s.io/v1)" },
	{ "MultiNetworkPolicy", NULL, "a NetworkPolicy (networking.k8s.io/v1)" },
	{ "ClusterNetworkPolicy", "crd.antrea.io",
	  "a ClusterNetworkPolicy of "
	  "policy.networking.k8s.io/v1alpha2" },
};

const char *kind_api_version(enum object_kind kind)
{
	return api_versions[kind];
}

/* "networking.k8s.io/v1" -> 17; the core group has none. */
static size_t group_length(const char *api_version)
{
	const char *slash = strchr(api_version, '/');

	return slash ? (size_t)(slash - api_version) : 0;
}

static bool group_is(const char *api_version, const char *group)
{
	size_t len = group_length(api_version);

	return strlen(group) == len && strncmp(api_version, group, len) == 0;
}

/* Groups of Kubernetes itself, in which a name that is nearly ours can only be a mistake. */
static bool group_is_kubernetes(const char *api_version)
{
	static const char *const groups[] = { "",
					      "core",
					      "apps",
					      "extensions",
					      "networking.k8s.io",
					      "discovery.k8s.io",
					      "policy.networking.k8s.io",
					      "networking",
					      "discovery" };

	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		if (group_is(api_version, groups[i]))
			return true;
	}
	return false;
}

/* The kind that a name is meant to be: another case, plural or short form, or a letter or two of a
 * long name wrong. */
static bool kind_guess(const char *kind, enum object_kind *ret_kind)
{
	if (object_kind_parse(kind, ret_kind) == 0)
		return true;
	for (size_t i = 0; i < OBJECT_KIND_COUNT; i++) {
		const char *name = object_kind_name((enum object_kind)i);

		*ret_kind = (enum object_kind)i;
		if (text_distance(kind, name) <= strlen(name) / 6)
			return true;
	}
	return false;
}

static bool lookalike_match(const char *api_version, const char *kind, struct kind_match *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(lookalikes); i++) {
		const struct lookalike *row = &lookalikes[i];

		if (strcmp(kind, row->kind) != 0 ||
		    (row->group && !group_is(api_version, row->group)))
			continue;
		ret->class = KIND_REFUSED;
		snprintf(ret->text, sizeof(ret->text),
			 "%s of %.60s is not enforced; write it as %s", kind, api_version,
			 row->write);
		return true;
	}
	return false;
}

/* The rule: 1. kinds that are read; 2. policies of others; 3. our kinds in another version;
 * 4. misspelt ones; 5. lists inside of lists, and Endpoints; 6. all others are not ours. */
void kind_match(const char *api_version, const char *kind, struct kind_match *ret)
{
	enum object_kind known;
	size_t len = strlen(kind);

	*ret = (struct kind_match){ .class = KIND_OTHER };
	for (size_t i = 0; i < OBJECT_KIND_COUNT; i++) {
		if (strcmp(kind, object_kind_name((enum object_kind)i)) == 0 &&
		    strcmp(api_version, api_versions[i]) == 0) {
			*ret = (struct kind_match){ KIND_READ, (enum object_kind)i, false, "" };
			return;
		}
	}
	if (lookalike_match(api_version, kind, ret))
		return;
	if (kind_guess(kind, &known)) {
		bool policy = known == OBJECT_NETWORK_POLICY || known == OBJECT_CLUSTER_POLICY;
		bool exact = strcmp(kind, object_kind_name(known)) == 0;

		if (!group_is_kubernetes(api_version) && !policy)
			return; /* such as Knative's Service */
		ret->class = KIND_REFUSED;
		ret->version_is_wrong = exact;
		if (exact)
			snprintf(ret->text, sizeof(ret->text),
				 "%s of \"%.60s\" is not read; write \"%s\"", kind, api_version,
				 api_versions[known]);
		else
			snprintf(ret->text, sizeof(ret->text),
				 "\"%.64s\" is not a kind (did you mean \"%s\" of %s?)", kind,
				 object_kind_name(known), api_versions[known]);
	} else if (len >= 4 && strcmp(kind + len - 4, "List") == 0) {
		ret->class = KIND_REFUSED;
		snprintf(ret->text, sizeof(ret->text),
			 "a %.64s inside of a list is not read; write its items into the list",
			 kind);
	} else if (strcmp(kind, "Endpoints") == 0 && strcmp(api_version, "v1") == 0) {
		ret->class = KIND_WARNED;
		snprintf(ret->text, sizeof(ret->text),
			 "Endpoints of v1 are not read; write an EndpointSlice (%s)",
			 api_versions[OBJECT_ENDPOINT_SLICE]);
	}
}
