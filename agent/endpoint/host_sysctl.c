/* SPDX-License-Identifier: Apache-2.0 */
/* Forwarding.  A line of RUN_DIR/sysctls is "NAME BEFORE SET".  The file ends with the reboot, as
 * the switches do. */
#define LOG_MODULE "host"
#include "agent/endpoint/host_sysctl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>

#include "agent/endpoint/host_device.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/file.h"
#include "lib/log.h"

#define SYSCTLS_FILE_MAX 65536

struct change {
	char name[256];
	long before, set;
};

static const char *changes_path(const char *run_dir, char *buf, size_t size)
{
	snprintf(buf, size, "%s/sysctls", run_dir);
	return buf;
}

static int changes_read(const char *path, char **ret_text, struct errmsg *err)
{
	size_t len;
	int ret = file_read(path, SYSCTLS_FILE_MAX, ret_text, &len, err);

	if (ret != -ENOENT)
		return ret;
	*err = (struct errmsg){};
	*ret_text = xstrdup("");
	return 0;
}

/* The first value is the one to go back to: a switch that is turned again has its line already. */
static bool is_noted(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (; text && *text; text = strchr(text, '\n'), text += text != NULL) {
		if (strncmp(text, name, len) == 0 && text[len] == ' ')
			return true;
	}
	return false;
}

static int note(const char *run_dir, const struct change *change, struct errmsg *err)
{
	char path[512];
	auto_free char *text = NULL, *grown = NULL;
	int ret = changes_read(changes_path(run_dir, path, sizeof(path)), &text, err);

	if (ret < 0 || is_noted(text, change->name))
		return ret;
	grown = xasprintf("%s%s %ld %ld\n", text, change->name, change->before, change->set);
	return file_write(path, grown, strlen(grown), 0600, FILE_FAST, err);
}

/* Sets a switch below /proc/sys; does nothing if it has the value. */
static int sysctl_set(const char *run_dir, const char *name, long value, struct errmsg *err)
{
	struct change change = { .set = value };

	snprintf(change.name, sizeof(change.name), "%s", name);
	if (sysctl_read(name, &change.before, err) < 0)
		return err->code;
	if (change.before == value)
		return 0;
	if (note(run_dir, &change, err) < 0 || sysctl_write(name, value, err) < 0)
		return err->code;
	log_info("%s: set to %ld", name, value);
	return 0;
}

/* ---- forwarding ------------------------------------------------------------------------------ */

/* A node that learns its default route from router advertisements (accept_ra 1) would lose it once
 * it forwards; 2 accepts them even then. */
static void router_advertisements_keep(const char *run_dir)
{
	DIR *dir = opendir("/proc/sys/net/ipv6/conf");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		struct errmsg err = {};
		char name[300];
		long value;

		/* "all" has no effect, and loopback gets no advertisements. */
		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "all") == 0 ||
		    strcmp(entry->d_name, "lo") == 0)
			continue;
		snprintf(name, sizeof(name), "net/ipv6/conf/%s/accept_ra", entry->d_name);
		if (sysctl_read(name, &value, NULL) == 0 && value == 1 &&
		    sysctl_set(run_dir, name, 2, &err) < 0)
			log_warn("%s", err.text);
	}
	if (dir)
		closedir(dir);
}

int host_forwarding_ensure(const char *run_dir, const struct ipam *ipam, struct errmsg *err)
{
	long value;

	if (sysctl_set(run_dir, "net/ipv4/ip_forward", 1, err) < 0)
		return err->code;
	if (!ipam_has_family(ipam, false))
		return 0;
	if (!host_has_ipv6())
		return fail_plain(err, -ENOTSUP,
				  "a pod CIDR is IPv6, but this kernel runs with IPv6 disabled");
	if (sysctl_read("net/ipv6/conf/all/forwarding", &value, err) < 0)
		return err->code;
	if (value == 0)
		router_advertisements_keep(run_dir);
	return sysctl_set(run_dir, "net/ipv6/conf/all/forwarding", 1, err);
}

/* ---- back ------------------------------------------------------------------------------------ */

/* A line of the file; an interface may have gone, and somebody may have turned the switch since. */
static void change_undo(const char *line)
{
	struct change change;
	long value;
	char *end;

	snprintf(change.name, sizeof(change.name), "%.*s", (int)strcspn(line, " "), line);
	change.before = strtol(line + strlen(change.name), &end, 10);
	change.set = strtol(end, NULL, 10);
	if (sysctl_read(change.name, &value, NULL) == 0 && value == change.set &&
	    sysctl_write(change.name, change.before, NULL) == 0)
		log_info("%s: restored to %ld", change.name, change.before);
}

int host_sysctl_restore(const char *run_dir, struct errmsg *err)
{
	auto_free char *text = NULL;
	char path[512], *end;
	int ret = changes_read(changes_path(run_dir, path, sizeof(path)), &text, err);

	if (ret < 0)
		return ret;
	while ((end = strrchr(text, '\n'))) { /* the last change first */
		*end = '\0';
		end = strrchr(text, '\n');
		change_undo(end ? end + 1 : text);
	}
	if (unlink(path) < 0 && errno != ENOENT)
		return fail(err, -errno, "remove %s", path);
	return 0;
}
