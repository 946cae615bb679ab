/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/objects/object_pack.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"

/* A phrase is written as its number, from 1: JSON has no control characters.  All begin with a
 * quotation mark. */
static const char *const phrases[] = {
	"\"metadata\":{\"name\":\"",
	"\",\"namespace\":\"",
	"\",\"uid\":\"",
	"\",\"creationTimestamp\":\"",
	"\",\"labels\":{\"",
	"\"}},\"spec\":{\"",
	"\"nodeName\":\"",
	"\",\"containers\":[{\"name\":\"",
	"\",\"ports\":[{\"name\":\"",
	"\",\"containerPort\":",
	"\"protocol\":\"TCP\"}]",
	"\"status\":{\"phase\":\"Running\",\"podIP\":\"",
	"\",\"podIPs\":[{\"ip\":\"",
	"\"conditions\":[{\"type\":\"",
	"\",\"status\":\"True\"},{\"type\":\"",
	"\"apiVersion\":\"v1\",\"kind\":\"",
	"\"type\":\"ClusterIP\"",
	"\"clusterIP\":\"",
	"\",\"clusterIPs\":[\"",
	"\"sessionAffinity\":\"None\"",
	"\"ipFamilies\":[\"IPv4\"],\"ipFamilyPolicy\":\"SingleStack\"",
	"\"internalTrafficPolicy\":\"Cluster\"",
	"\"selector\":{\"",
	"\"targetPort\":",
	"\"status\":{\"loadBalancer\":{}}",
	"\"addresses\":[\"",
	"\"conditions\":{\"ready\":true,\"serving\":true,\"terminating\":false}",
	"\"targetRef\":{\"kind\":\"Pod\",\"namespace\":\"",
	"\"matchLabels\":{\"",
	"\"kubernetes.io/service-name\":\"",
	"\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\"",
};
_Static_assert(ARRAY_SIZE(phrases) < ' ', "a phrase is a control character");

/* The longest phrase that text begins with; NULL: none. */
static const char *const *phrase_find(const char *text, size_t *ret_len)
{
	const char *const *found = NULL;

	*ret_len = 0;
	for (size_t i = 0; i < ARRAY_SIZE(phrases); i++) {
		size_t len = strlen(phrases[i]);

		if (text[1] == phrases[i][1] && len > *ret_len &&
		    strncmp(text, phrases[i], len) == 0) {
			found = &phrases[i];
			*ret_len = len;
		}
	}
	return found;
}

char *object_pack(const char *text)
{
	auto_free char *packed = xstrdup(text);
	char *out = packed;

	while (*text) {
		size_t len = 0;
		const char *const *phrase = *text == '"' ? phrase_find(text, &len) : NULL;

		*out++ = phrase ? (char)(1 + phrase - phrases) : *text;
		text += phrase ? len : 1;
	}
	*out = '\0';
	return xstrdup(packed);
}

struct cJSON *object_unpack(const char *packed)
{
	auto_buffer struct buffer text = { 0 };

	for (const char *c = packed; *c; c++) {
		if ((unsigned char)*c <= ARRAY_SIZE(phrases))
			buffer_string(&text, phrases[*c - 1]);
		else
			buffer_add(&text, c, 1);
	}
	return cJSON_ParseWithLength(text.data, text.len);
}
