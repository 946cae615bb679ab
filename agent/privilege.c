/* SPDX-License-Identifier: Apache-2.0 */
/* One table of capabilities; tendrild.service lists the same in CapabilityBoundingSet. */
#include "agent/privilege.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include "lib/auto.h"

static const struct {
	const char *name;
	cap_value_t value;
	bool needed; /* the agent does not start without it */
} keeps[] = {
	{ "CAP_NET_ADMIN", CAP_NET_ADMIN, true }, /* links, addresses, routes, tc, SOCK_DESTROY */
	{ "CAP_BPF", CAP_BPF, true },             /* maps; programs when a link is put back */
	{ "CAP_PERFMON", CAP_PERFMON, true },     /* programs that read kernel structures */
	{ "CAP_SYS_ADMIN", CAP_SYS_ADMIN, true }, /* setns() into a pod's network namespace */
	{ "CAP_NET_BROADCAST", CAP_NET_BROADCAST,
	  false }, /* netlink notifications from inside pods */
	/* /proc/PID/ns/net of a pod's process that holds more capabilities than we do. */
	{ "CAP_SYS_PTRACE", CAP_SYS_PTRACE, false },
};

static inline void cap_auto_fn(cap_t *caps)
{
	if (*caps)
		cap_free(*caps);
}

#define auto_caps __attribute__((cleanup(cap_auto_fn)))

static bool cap_held(cap_t caps, cap_value_t value)
{
	cap_flag_value_t held;

	return cap_get_flag(caps, value, CAP_EFFECTIVE, &held) == 0 && held == CAP_SET;
}

int privilege_check(struct errmsg *err)
{
	auto_caps cap_t caps = cap_get_proc();

	if (!caps)
		return fail(err, -errno, "read capabilities");
	for (size_t i = 0; i < ARRAY_SIZE(keeps); i++) {
		if (keeps[i].needed && !cap_held(caps, keeps[i].value))
			return fail_plain(err, -EPERM, "%s is missing: tendrild must run as root",
					  keeps[i].name);
	}
	return 0;
}

static bool cap_kept(cap_value_t value)
{
	for (size_t i = 0; i < ARRAY_SIZE(keeps); i++) {
		if (keeps[i].value == value)
			return true;
	}
	return false;
}

int privilege_drop(struct errmsg *err)
{
	auto_caps cap_t held = cap_get_proc();
	auto_caps cap_t kept = cap_init();

	if (!held || !kept)
		return fail(err, -ENOMEM, "capabilities");
	for (size_t i = 0; i < ARRAY_SIZE(keeps); i++) {
		if (cap_held(held, keeps[i].value) &&
		    (cap_set_flag(kept, CAP_PERMITTED, 1, &keeps[i].value, CAP_SET) < 0 ||
		     cap_set_flag(kept, CAP_EFFECTIVE, 1, &keeps[i].value, CAP_SET) < 0))
			return fail(err, -errno, "capability %s", keeps[i].name);
	}
	if (cap_held(held, CAP_SETPCAP)) {
		for (cap_value_t value = 0; value <= cap_max_bits() - 1; value++) {
			if (!cap_kept(value) && cap_get_bound(value) == 1 &&
			    cap_drop_bound(value) < 0)
				return fail(err, -errno, "drop capability %d from the bounding set",
					    value);
		}
	}
	if (cap_reset_ambient() < 0 || cap_set_proc(kept) < 0)
		return fail(err, -errno, "drop capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(err, -errno, "no_new_privs");
	return 0;
}
