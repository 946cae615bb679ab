/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The one definition of every map; maps.bpf.h says what each is for.  A map defined twice is an
 * error of the BPF linker.
 */
#include "datapath/bpf/maps.bpf.h"

struct endpoint_map endpoint_map SEC(".maps");
struct endpoint_stats_map endpoint_stats SEC(".maps");
struct chained_map chained_map SEC(".maps");
struct netns_map netns_map SEC(".maps");
struct ipcache_map ipcache_map SEC(".maps");
struct slot_map slot_map SEC(".maps");
struct cidr_map cidr_map SEC(".maps");
struct policy_map policy_map SEC(".maps");
struct port_map port_map SEC(".maps");
struct node_map node_map SEC(".maps");
struct ct_map ct_map SEC(".maps");
struct ct_count_map ct_count_map SEC(".maps");
struct service_map service_map SEC(".maps");
struct backend_map backend_map SEC(".maps");
struct affinity_map affinity_map SEC(".maps");
struct range_map range_map SEC(".maps");
struct cluster_map cluster_map SEC(".maps");
struct uplink_map uplink_map SEC(".maps");
struct leave_map leave_map SEC(".maps");
struct sock_service_map sock_service SEC(".maps");
struct sock_bucket_map sock_bucket_map SEC(".maps");
struct sendmsg_service_map sendmsg_service SEC(".maps");
struct nat_map nat_map SEC(".maps");
struct nat_count_map nat_count_map SEC(".maps");
struct nat_place_map nat_place_map SEC(".maps");
struct nat_work_map nat_work_map SEC(".maps");
struct frag_map frag_map SEC(".maps");
struct flow_map flow_map SEC(".maps");
struct accel_map accel_map SEC(".maps");
struct accel_peer_map accel_peer_map SEC(".maps");
struct accel_sock_map accel_sock SEC(".maps");
struct metric_map metric_map SEC(".maps");
struct event_map event_map SEC(".maps");
struct tcp_map tcp_map SEC(".maps");
struct tcp_event_map tcp_event_map SEC(".maps");
struct passed_map passed_map SEC(".maps");
struct dns_map dns_map SEC(".maps");
struct budget_map budget_map SEC(".maps");
struct bandwidth_map bandwidth_map SEC(".maps");
struct neighbour_map neighbour_map SEC(".maps");

/* Programs that call GPL-only helpers need it; the linker keeps one copy. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";
