/* SPDX-License-Identifier: Apache-2.0 */
/* Real sockets in the lab's pods and on its node, under the attached programs. */
#ifndef TENDRIL_TESTS_HARNESS_LAB_SOCKET_H
#define TENDRIL_TESTS_HARNESS_LAB_SOCKET_H

#include "harness/lab.h"

#define WAIT_MS 10000 /* only what is broken takes that long */

/* Attaches the programs, so that the pods really talk to each other and to the node. */
void lab_attach(void);
/* Gives a pod's, or with NODE the node's, loopback an address of somebody else. */
void lab_impersonate(enum host where, enum host whom);
/* A port that no case used before: sockets linger after their case. */
uint16_t lab_port(void);
/* Sockets inside a pod (or the node), of the case's family; they do not block.  Closed by the
 * caller. */
int lab_socket(enum host where, int type);
int lab_listen(enum host where, uint16_t port);
/* A connection under way from a port of the pod. */
int lab_connect_begin(enum host from, uint16_t from_port, enum host to, uint16_t port);
/* A connection that is there: both ends. */
void lab_connect(enum host from, uint16_t from_port, enum host to, uint16_t port, int *ret_client,
		 int *ret_server);
/* Whether what is written into one end comes out of the other. */
bool lab_talks(int from, int to);
/* Whether it does not. */
bool lab_is_silent(int from, int to);
void lab_bind(int fd, enum host host, uint16_t port);
void lab_peer(int fd, enum host host, uint16_t port); /* connect() */
/* What becomes of connect(): 0 or an errno. */
int lab_try(int fd, enum host host, uint16_t port);

#endif
