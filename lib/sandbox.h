/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program gives up before it reads its first byte from a network: all capabilities, the
 * right to gain any by execve(), and every system call that libevent, libcurl, OpenSSL and libc do
 * not need.  It cannot write a file, start a program, trace a process, or change eBPF objects,
 * namespaces and network interfaces.
 */
#ifndef TENDRIL_LIB_SANDBOX_H
#define TENDRIL_LIB_SANDBOX_H

#include <stdbool.h>

#include "lib/errmsg.h"

/* server: it may also listen. */
int sandbox_enter(bool server, struct errmsg *err);

#endif
