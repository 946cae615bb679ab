/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of the loader share: a small datapath in scratch space with a device for one endpoint
 * and tendril0, and what the kernel says of pins, filters and programs.
 */
#ifndef TENDRIL_TESTS_HARNESS_LOADER_H
#define TENDRIL_TESTS_HARNESS_LOADER_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stdint.h>

#include "datapath/maps.h"
#include "harness/scratch.h"

#define SLOT        3 /* of the endpoint that has a device */
#define OTHER_PLACE 7 /* handle of somebody else's filter */

/* cmocka fixtures: for the group, and for each case, which starts from nothing. */
int loader_setup(void **state);
int loader_teardown(void **state);
int loader_reset(void **state);
#define LOADER_CASE(test) cmocka_unit_test_setup(test, loader_reset)

struct datapath_options loader_options(void); /* small maps */
struct datapath *loader_open(const struct datapath_options *options);
void loader_refuses(const struct datapath_options *options, int code, const char *text);

/* ---- the kernel's view ---- */

bool is_pinned(const char *name);
uint32_t program_id(int fd);
/* Waits until the kernel has no program with this id; it frees them a little later. */
bool program_gone(uint32_t id);
/* Id of the program of the filter with this handle at our priority; 0: there is none. */
uint32_t filter_at(int ifindex, enum bpf_tc_attach_point point, uint32_t handle);
void filter_add(int ifindex, enum bpf_tc_attach_point point, uint32_t handle, int prog_fd);
/* A program that is none of ours. */
int foreign_program(void);
/* Id of the TCX program on the endpoint's ingress; 0: there is none. */
uint32_t tcx_program(void);
void tcx_attach(struct datapath *datapath);
/* How many programs of a kind a cgroup has. */
uint32_t programs_on(const char *cgroup, enum bpf_attach_type type);
/* Id of the message program on a map of sockets; 0: there is none. */
uint32_t sk_msg_on(int map_fd);

#endif
