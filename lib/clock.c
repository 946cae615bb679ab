/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS 1000000000LL

int64_t clock_real_offset(void)
{
	struct timespec real, mono;

	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_MONOTONIC, &mono);
	return (real.tv_sec - mono.tv_sec) * NS + real.tv_nsec - mono.tv_nsec;
}

const char *clock_format(int64_t real_ns, char buf[CLOCK_TEXT_MAX])
{
	time_t seconds = real_ns / NS;
	struct tm tm = {};
	size_t len;

	gmtime_r(&seconds, &tm);
	len = strftime(buf, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + len, CLOCK_TEXT_MAX - len, ".%06uZ", (unsigned int)(real_ns % NS / 1000));
	return buf;
}

int clock_parse(const char *text, int64_t *ret_real_ns)
{
	struct tm tm = {};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	long microseconds;
	char *end;

	if (!rest || rest[0] != '.' || strspn(rest + 1, "0123456789") != 6)
		return -EINVAL;
	microseconds = strtol(rest + 1, &end, 10);
	if (end[0] != 'Z' || end[1])
		return -EINVAL;
	*ret_real_ns = timegm(&tm) * NS + (int64_t)microseconds * 1000;
	return 0;
}
