/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deletes links in a small child process.  The kernel waits for RCU while it deletes a veth pair
 * (10 to 40 ms, with the caller blocked); neither the agent's loop nor a runtime that waits for DEL
 * should.  Several links are deleted together, with one such wait.  Attaching by TCX waits as long,
 * and is done here for the same reason.  The child has only the descriptors of its sockets and of
 * the program, and only CAP_NET_ADMIN.  When the agent stops, the child first finishes its work;
 * when the agent is killed, the child is killed, too.
 */
#ifndef TENDRIL_AGENT_ENDPOINT_LINK_WORKER_H
#define TENDRIL_AGENT_ENDPOINT_LINK_WORKER_H

#include <stdint.h>
#include <sys/types.h>

#include "lib/auto.h"
#include "lib/errmsg.h"

#define LINK_WORKER_NAME "tendril-links" /* of the kind of child */

struct fork_server;
struct link_worker;

/* Starts the child, in the network namespace of the server.  program_fd: for link_worker_attach(),
 * or -1. */
int link_worker_new(struct fork_server *server, int program_fd, struct link_worker **ret,
		    struct errmsg *err);
void link_worker_free(struct link_worker *link_worker); /* waits until the child has ended */
DEFINE_AUTO(link_worker)

/* Readable when link_worker_collect() has something. */
int link_worker_fd(const struct link_worker *link_worker);
pid_t link_worker_pid(const struct link_worker *link_worker);

/* Asks to delete the link with this index; the result has the tag.  -EAGAIN: too many are waiting;
 * -EPIPE: the child is gone, start another. */
int link_worker_delete(struct link_worker *link_worker, int ifindex, uint32_t tag,
		       struct errmsg *err);

/* The same for datapath_attach_tcx(). */
int link_worker_attach(struct link_worker *link_worker, int ifindex, uint32_t tag,
		       struct errmsg *err);

/* Calls done() for each that ended; result is 0 also if the link was gone before.  Waits at most
 * wait_ms for the first.  Returns how many.  -EPIPE: the child is gone, and the caller must start
 * another and ask it again. */
int link_worker_collect(struct link_worker *link_worker, int wait_ms,
			void (*done)(uint32_t tag, int result, void *arg), void *arg);

/* What the child does, for the server's table. */
void link_worker_run(pid_t agent, size_t fd_count) __attribute__((noreturn));

#endif
