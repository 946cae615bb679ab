/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Installs the plugin and its conflist in the folders where a container runtime looks for them: in
 * a DaemonSet nobody else does.  A stopped agent leaves them, because the pods stay and the next
 * agent follows.
 */
#ifndef TENDRIL_AGENT_CNI_FILES_H
#define TENDRIL_AGENT_CNI_FILES_H

#include "agent/config.h"

#define CNI_PLUGIN_NAME   "tendril"
#define CNI_CONFLIST_NAME "10-tendril.conflist"

/* Copies the program "tendril-cni" from the folder of this program to config->cni_bin_dir, then
 * writes the conflist to config->cni_conf_dir: a runtime that sees the conflist finds the plugin.
 * Skips a folder whose name is "", and files that have the right content already. */
int cni_files_put(const struct config *config, struct errmsg *err);

/* Removes both; 0 also if they do not exist. */
int cni_files_remove(const struct config *config, struct errmsg *err);

extern const char cni_conflist[]; /* its text */

#endif
