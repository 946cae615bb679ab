/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the client gives up before it reads its first byte from a network: all capabilities, gaining
 * any by execve(), and every system call that it does not need.  It cannot write a file, start a
 * program, trace a process or touch eBPF, namespaces and network interfaces.
 */
#ifndef TENDRIL_KUBE_SANDBOX_H
#define TENDRIL_KUBE_SANDBOX_H

#include "lib/errmsg.h"

int sandbox_enter(struct errmsg *err);

#endif
