/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at every frame of a device until SIGTERM, and prints what it saw:
 *
 *	sniff DEVICE TEXT PREFIX...
 *	frames N sealed N clear N marked N
 *
 * sealed: UDP to the port of WireGuard.  clear: IP from or to an address that begins with one of
 * the prefixes, bytes in hexadecimal.  marked: TEXT is anywhere in the frame.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/auto.h"

#define WIREGUARD_PORT 51871

struct prefix_bytes {
	uint8_t bytes[16];
	size_t len;
};

struct sums {
	unsigned long frames, sealed, clear, marked;
};

static volatile sig_atomic_t stopped;

static void on_stop(int number)
{
	(void)number;
	stopped = 1;
}

static bool begins(const uint8_t *address, const struct prefix_bytes *prefixes, size_t count,
		   size_t address_len)
{
	for (size_t i = 0; i < count; i++) {
		if (prefixes[i].len <= address_len &&
		    !memcmp(address, prefixes[i].bytes, prefixes[i].len))
			return true;
	}
	return false;
}

static void frame_count(const uint8_t *frame, size_t len, const char *text,
			const struct prefix_bytes *prefixes, size_t count, struct sums *sums)
{
	const struct iphdr *v4 = (const void *)(frame + ETH_HLEN);
	const struct ip6_hdr *v6 = (const void *)(frame + ETH_HLEN);
	const struct udphdr *udp = NULL;
	uint16_t type;

	sums->frames++;
	sums->marked += memmem(frame, len, text, strlen(text)) != NULL;
	if (len < ETH_HLEN + sizeof(*v6) + sizeof(*udp))
		return;
	type = (uint16_t)(frame[12] << 8 | frame[13]);
	if (type == ETH_P_IP) {
		sums->clear += begins((const void *)&v4->saddr, prefixes, count, 4) ||
			       begins((const void *)&v4->daddr, prefixes, count, 4);
		udp = v4->protocol == IPPROTO_UDP ? (const void *)(v4 + 1) : NULL;
	} else if (type == ETH_P_IPV6) {
		sums->clear += begins((const void *)&v6->ip6_src, prefixes, count, 16) ||
			       begins((const void *)&v6->ip6_dst, prefixes, count, 16);
		udp = v6->ip6_nxt == IPPROTO_UDP ? (const void *)(v6 + 1) : NULL;
	}
	sums->sealed += udp && udp->dest == htons(WIREGUARD_PORT);
}

static void prefix_read(const char *text, struct prefix_bytes *ret)
{
	for (ret->len = 0; ret->len < sizeof(ret->bytes) && text[0] && text[1]; text += 2) {
		char byte[3] = { text[0], text[1], 0 };

		ret->bytes[ret->len++] = (uint8_t)strtoul(byte, NULL, 16);
	}
}

int main(int argc, char **argv)
{
	const struct sigaction stop = { .sa_handler = on_stop };
	struct sockaddr_ll from = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct prefix_bytes prefixes[8] = { 0 };
	static uint8_t frame[1 << 18];
	/* No protocol yet: until it is bound, such a socket hears all devices. */
	auto_close int fd = socket(AF_PACKET, SOCK_RAW, 0);
	struct sums sums = { 0 };
	size_t count = 0;

	if (argc < 4 || argc > 3 + (int)ARRAY_SIZE(prefixes) || fd < 0)
		return 2;
	for (; (int)count < argc - 3; count++)
		prefix_read(argv[3 + count], &prefixes[count]);
	from.sll_ifindex = (int)if_nametoindex(argv[1]);
	sigaction(SIGTERM, &stop, NULL);
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0)
		return 2;
	puts("ready");
	fflush(stdout);
	while (!stopped) {
		ssize_t len = recv(fd, frame, sizeof(frame), 0);

		if (len > 0)
			frame_count(frame, (size_t)len, argv[2], prefixes, count, &sums);
	}
	printf("frames %lu sealed %lu clear %lu marked %lu\n", sums.frames, sums.sealed, sums.clear,
	       sums.marked);
	return 0;
}
