/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines "level module: message", on stderr; under systemd with the sd-daemon level prefix. */
#ifndef TENDRIL_LIB_LOG_H
#define TENDRIL_LIB_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Lines above this level are not written.  Default LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/* Parses "error", "warn", "info", "debug"; -EINVAL for anything else. */
int log_level_parse(const char *text, enum log_level *ret_level);

/* Writes one line, adds the newline and escapes control characters.  Keeps errno. */
void log_line(enum log_level level, const char *module, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A file defines LOG_MODULE before it includes this header. */
#define log_error(...) log_line(LOG_LEVEL_ERROR, LOG_MODULE, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, LOG_MODULE, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, LOG_MODULE, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, LOG_MODULE, __VA_ARGS__)

#endif
