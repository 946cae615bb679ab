/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the child processes of a program.  It is executed anew before the program reads anything,
 * so what it forks has no copy of the program's memory: a child has only what it is given.  The
 * children are the program's own: it waits for them, and they end with it.
 */
#ifndef TENDRIL_LIB_FORK_SERVER_H
#define TENDRIL_LIB_FORK_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/auto.h"
#include "lib/errmsg.h"

#define FORK_SERVER_ARGUMENT "fork-server" /* the only one of the program that is executed */
#define FORK_SERVER_FDS_MAX  4

struct fork_server;

/* What one kind of child does, with its descriptors from CHILD_FD_FIRST on; it calls
 * child_bind_to(parent) itself. */
struct fork_server_kind {
	const char *name; /* of the process, at most 15 characters */
	void (*run)(pid_t parent, size_t fd_count) __attribute__((noreturn));
};

/* Executes a program, which calls fork_server_serve().  NULL: a copy of the caller serves in its
 * place, with all that it has in memory. */
int fork_server_new(const char *program, const struct fork_server_kind *kinds, size_t kind_count,
		    struct fork_server **ret, struct errmsg *err);
void fork_server_free(struct fork_server *server); /* NULL is fine; the children stay */
DEFINE_AUTO(fork_server)

/* Becomes readable when the server has died, or for another reason. */
int fork_server_fd(const struct fork_server *server);
bool fork_server_is_dead(const struct fork_server *server);

/* Starts a child with copies of descriptors: its process id, or -errno. */
pid_t fork_server_start(struct fork_server *server, const char *kind, const int *fds,
			size_t fd_count);

/* In the program that was executed, after child_settle(): serves until the parent is gone. */
void __attribute__((noreturn))
fork_server_serve(const struct fork_server_kind *kinds, size_t kind_count);

#endif
