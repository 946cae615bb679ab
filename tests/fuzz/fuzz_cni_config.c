/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration on standard input: everything that is read from it, and prevResult rendered
 * in every version. */
#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cni/netconf.h"
#include "cni/result.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void previous_render(const struct netconf *conf)
{
	struct cni_error err;
	cJSON *result;

	if (result_parse(conf->prev_result, "prevResult", CNI_INVALID_CONFIG, &result, &err))
		return;
	for (int v = 0; v < CNI_VERSION_COUNT; v++) {
		cJSON *out = result_render(result, (enum cni_version)v);
		cJSON *again = NULL;

		/* What we print we must be able to read. */
		if (result_parse(out, "own result", CNI_INVALID_CONFIG, &again, &err))
			abort();
		cJSON_Delete(out);
		cJSON_Delete(again);
	}
	result_has_interface(result, "eth0");
	result_prepend(result, cJSON_Duplicate(result, true));
	cJSON_Delete(result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct cni_args args = {};
	struct netconf_pod pod;
	enum cni_version version;
	struct netconf conf;
	struct cni_error err;
	cJSON *list;

	memcpy(text, data, size);
	text[size] = '\0';
	args_parse(text, &args, &err);
	netconf_version(text, size, &version, &err);
	if (netconf_parse(text, size, &conf, &err) == 0) {
		netconf_pod_load(&conf, &args, &pod, &err);
		netconf_pod_done(&pod);
		if (netconf_attachments(&conf, &list, &err) == 0)
			cJSON_Delete(list);
		if (conf.prev_result)
			previous_render(&conf);
	}
	netconf_done(&conf);
	free(text);
	return 0;
}
