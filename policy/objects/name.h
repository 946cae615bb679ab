/* SPDX-License-Identifier: Apache-2.0 */
/* Which texts are names, label keys and label values.  Each returns NULL if the text is one, else
 * what it should have been, for an error message. */
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
