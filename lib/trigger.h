/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work that others ask for: it runs as a task (task.h) soon after, but never twice at once, and not
 * before a pause since its last end.  However often it is asked for meanwhile, it runs once more.
 */
#ifndef TENDRIL_LIB_TRIGGER_H
#define TENDRIL_LIB_TRIGGER_H

#include <stdbool.h>
#include <stdint.h>

struct event;
struct event_base;

struct trigger {
	struct event_base *base;
	struct event *timer;
	void (*run)(void *arg);
	void *arg;
	int64_t pause_ms;
	int64_t ended_ms; /* when the last run ended; 0: none did */
	bool running;
	bool again; /* it was asked for while it ran */
};

void trigger_init(struct trigger *trigger, struct event_base *base, int64_t pause_ms,
		  void (*run)(void *arg), void *arg);
/* After task_finish_all(): the work must not be running. */
void trigger_done(struct trigger *trigger);
void trigger_fire(struct trigger *trigger);

#endif
