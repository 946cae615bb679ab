/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/pcapng.h"

#include <errno.h>
#include <string.h>

#include "lib/auto.h"

#define BLOCK_SECTION   0x0A0D0D0Au
#define BLOCK_INTERFACE 1u
#define BLOCK_PACKET    6u

#define BYTE_ORDER_MAGIC  0x1A2B3C4Du
#define LINKTYPE_ETHERNET 1u

#define OPTION_END        0u
#define OPTION_COMMENT    1u
#define OPTION_IF_NAME    2u
#define OPTION_USER_APPL  4u
#define OPTION_IF_TSRESOL 9u

/* A block is built here before it is written: its length is its second word and its last. */
struct block {
	uint8_t bytes[PCAPNG_COMMENT_MAX + PCAPNG_BYTES_MAX + 64];
	size_t len;
};

/* Adds bytes, and zeros up to a multiple of four. */
static void block_add(struct block *block, const void *bytes, size_t len)
{
	size_t padded = (len + 3) / 4 * 4;

	memcpy(block->bytes + block->len, bytes, len);
	memset(block->bytes + block->len + len, 0, padded - len);
	block->len += padded;
}

static void block_add_u32(struct block *block, uint32_t number)
{
	block_add(block, &number, sizeof(number));
}

static void block_add_pair(struct block *block, uint16_t first, uint16_t second)
{
	const uint16_t pair[] = { first, second };

	block_add(block, pair, sizeof(pair));
}

static void block_add_option(struct block *block, uint16_t code, const void *value, size_t len)
{
	block_add_pair(block, code, (uint16_t)len);
	block_add(block, value, len);
}

static void block_begin(struct block *block, uint32_t type)
{
	block->len = 0;
	block_add_u32(block, type);
	block_add_u32(block, 0); /* the length: block_write() */
}

static int block_write(struct block *block, FILE *file)
{
	uint32_t length;

	block_add_pair(block, OPTION_END, 0);
	length = (uint32_t)(block->len + sizeof(length));
	block_add_u32(block, length);
	memcpy(block->bytes + sizeof(length), &length, sizeof(length));
	return fwrite(block->bytes, block->len, 1, file) == 1 ? 0 : -EIO;
}

int pcapng_begin(FILE *file, uint32_t snap_length)
{
	static const char name[] = "tendril";
	const uint8_t nanoseconds = 9;       /* of a second: 10 to the power of -9 */
	const uint64_t unknown = UINT64_MAX; /* how long the section will be */
	struct block block;

	block_begin(&block, BLOCK_SECTION);
	block_add_u32(&block, BYTE_ORDER_MAGIC);
	block_add_pair(&block, 1, 0); /* the version of the format */
	block_add(&block, &unknown, sizeof(unknown));
	block_add_option(&block, OPTION_USER_APPL, name, strlen(name));
	if (block_write(&block, file))
		return -EIO;
	block_begin(&block, BLOCK_INTERFACE);
	block_add_pair(&block, LINKTYPE_ETHERNET, 0);
	block_add_u32(&block, snap_length);
	block_add_option(&block, OPTION_IF_NAME, name, strlen(name));
	block_add_option(&block, OPTION_IF_TSRESOL, &nanoseconds, sizeof(nanoseconds));
	return block_write(&block, file) || fflush(file) ? -EIO : 0;
}

int pcapng_packet(FILE *file, const struct pcapng_packet *packet)
{
	struct block block;
	uint32_t captured =
		packet->captured < PCAPNG_BYTES_MAX ? packet->captured : PCAPNG_BYTES_MAX;

	block_begin(&block, BLOCK_PACKET);
	block_add_u32(&block, 0); /* the interface */
	block_add_u32(&block, (uint32_t)(packet->time_ns >> 32));
	block_add_u32(&block, (uint32_t)packet->time_ns);
	block_add_u32(&block, captured);
	block_add_u32(&block, packet->length > captured ? packet->length : captured);
	block_add(&block, packet->bytes, captured);
	block_add_option(&block, OPTION_COMMENT, packet->comment,
			 strnlen(packet->comment, PCAPNG_COMMENT_MAX));
	return block_write(&block, file) || fflush(file) ? -EIO : 0;
}
