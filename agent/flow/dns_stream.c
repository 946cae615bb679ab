/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flow/dns_stream.h"

#include <string.h>

#define LENGTH_LEN 2

static struct dns_stream *stream_find(struct dns_streams *streams, const struct dns_event *event)
{
	for (size_t i = 0; i < DNS_STREAMS; i++) {
		struct dns_stream *stream = &streams->streams[i];

		if (stream->live && stream->netns_cookie == event->netns_cookie &&
		    memcmp(&stream->flow, &event->flow, sizeof(stream->flow)) == 0)
			return stream;
	}
	return NULL;
}

/* NULL: it is not known where its messages begin. */
static struct dns_stream *stream_get(struct dns_streams *streams, const struct dns_event *event)
{
	struct dns_stream *stream = stream_find(streams, event);

	if (!event->begins)
		return stream;
	if (!stream)
		stream = &streams->streams[streams->oldest++ % DNS_STREAMS];
	*stream = (struct dns_stream){ .flow = event->flow,
				       .netns_cookie = event->netns_cookie,
				       .next = event->seq,
				       .live = true };
	return stream;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* A segment that was sent again is behind stream->next, and nothing of it is read. */
bool dns_stream_read(struct dns_streams *streams, const struct dns_event *event,
		     bool (*each)(const uint8_t *bytes, size_t len, void *arg), void *arg)
{
	struct dns_stream *stream = stream_get(streams, event);
	uint32_t copied = least(event->length, sizeof(event->bytes));
	uint32_t at;

	if (!stream) {
		streams->left_out++;
		return true;
	}
	for (;;) {
		at = stream->next - event->seq;
		if ((int32_t)at >= 0 && at >= event->payload)
			return true; /* within a message, or nothing new */
		if ((int32_t)at < 0 || (!stream->has_length && at + LENGTH_LEN > copied) ||
		    at >= copied)
			break; /* its beginning was missed */
		if (!stream->has_length) {
			stream->length = (uint16_t)(event->bytes[at] << 8 | event->bytes[at + 1]);
			stream->has_length = true;
			stream->next += LENGTH_LEN;
			continue;
		}
		if (stream->length > event->payload - at)
			streams->left_out++;
		stream->has_length = false;
		stream->next += stream->length;
		if (!each(event->bytes + at, least(stream->length, copied - at), arg))
			return false;
	}
	stream->live = false;
	streams->left_out++;
	return true;
}
