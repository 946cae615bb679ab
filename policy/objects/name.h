/* SPDX-License-Identifier: Apache-2.0 */
/* Checks names, label keys and label values.  Each function returns NULL if the text is valid, else
 * what a valid text looks like, for an error message. */
#ifndef TENDRIL_POLICY_OBJECTS_NAME_H
#define TENDRIL_POLICY_OBJECTS_NAME_H

const char *name_check_dns_label(const char *text);     /* Namespace, Service */
const char *name_check_dns_subdomain(const char *text); /* most other objects */
/* Pods: wider than Kubernetes, because other runtimes name containers with '_' and capitals. */
const char *name_check_pod(const char *text);
const char *name_check_port(const char *text);
const char *name_check_label_key(const char *text);
const char *name_check_label_value(const char *text);

#endif
