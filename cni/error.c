/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/error.h"

#include <stdarg.h>
#include <stdio.h>

int cni_fail(struct cni_error *err, int code, const char *fmt, ...)
{
	va_list args;

	err->code = code;
	err->details[0] = '\0';
	va_start(args, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, args);
	va_end(args);
	return code;
}

int cni_details(struct cni_error *err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(err->details, sizeof(err->details), fmt, args);
	va_end(args);
	return err->code;
}
