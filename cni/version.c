/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/version.h"

#include <cjson/cJSON.h>
#include <string.h>

static const char *const version_texts[CNI_VERSION_COUNT] = {
	[CNI_0_1_0] = "0.1.0", [CNI_0_2_0] = "0.2.0", [CNI_0_3_0] = "0.3.0", [CNI_0_3_1] = "0.3.1",
	[CNI_0_4_0] = "0.4.0", [CNI_1_0_0] = "1.0.0", [CNI_1_1_0] = "1.1.0",
};

bool version_parse(const char *text, enum cni_version *ret_version)
{
	for (int i = 0; i < CNI_VERSION_COUNT; i++) {
		if (strcmp(text, version_texts[i]) == 0) {
			*ret_version = (enum cni_version)i;
			return true;
		}
	}
	return false;
}

const char *version_text(enum cni_version version)
{
	return version_texts[version];
}

bool version_highest(const cJSON *list, enum cni_version *ret_version)
{
	const cJSON *item;
	bool found = false;

	cJSON_ArrayForEach (item, list) {
		enum cni_version version;

		if (!cJSON_IsString(item) || !version_parse(item->valuestring, &version))
			continue;
		if (!found || version > *ret_version)
			*ret_version = version;
		found = true;
	}
	return found;
}

cJSON *version_answer(enum cni_version asked)
{
	cJSON *answer = cJSON_CreateObject();

	cJSON_AddStringToObject(answer, "cniVersion", version_text(asked));
	cJSON_AddItemToObject(answer, "supportedVersions",
			      cJSON_CreateStringArray(version_texts, CNI_VERSION_COUNT));
	return answer;
}
