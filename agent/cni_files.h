/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plugin and its conflist, in the folders where a container runtime looks for them.  In a
 * DaemonSet nobody else puts them there.  A stopped agent leaves them: pods live on, and the next
 * agent comes.
 */
#ifndef TENDRIL_AGENT_CNI_FILES_H
#define TENDRIL_AGENT_CNI_FILES_H

#include "agent/config.h"

#define CNI_PLUGIN_NAME   "tendril"
#define CNI_CONFLIST_NAME "10-tendril.conflist"

/* Copies the program "tendril-cni" from the folder of this program to config->cni_bin_dir, then
 * writes the conflist to config->cni_conf_dir: a runtime that sees the conflist finds the plugin.
 * A folder whose name is "" is left out.  Files that are the same already are not touched. */
int cni_files_put(const struct config *config, struct errmsg *err);

/* The other way round; fine if they are not there. */
int cni_files_remove(const struct config *config, struct errmsg *err);

/* The conflist as text; with_portmap: ports of the node are mapped to pods, too. */
const char *cni_conflist(bool with_portmap);

#endif
