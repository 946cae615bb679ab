/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/trigger.h"

#include <event2/event.h>

#include "lib/alloc.h"
#include "lib/clock.h"
#include "lib/task.h"

static void trigger_run(void *arg)
{
	struct trigger *trigger = arg;

	trigger->run(trigger->arg);
	trigger->running = false;
	trigger->ended_ms = now_ms();
	if (trigger->again)
		trigger_fire(trigger);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct trigger *trigger = arg;

	(void)fd;
	(void)what;
	trigger->running = true;
	trigger->again = false;
	task_run(trigger->base, trigger_run, trigger);
}

void trigger_fire(struct trigger *trigger)
{
	int64_t since_ms = now_ms() - trigger->ended_ms, wait_ms = 0;
	struct timeval delay;

	if (trigger->running) {
		trigger->again = true;
		return;
	}
	if (trigger->ended_ms && since_ms < trigger->pause_ms)
		wait_ms = trigger->pause_ms - since_ms;
	delay.tv_sec = wait_ms / 1000;
	delay.tv_usec = wait_ms % 1000 * 1000;
	if (!evtimer_pending(trigger->timer, NULL))
		evtimer_add(trigger->timer, &delay);
}

void trigger_init(struct trigger *trigger, struct event_base *base, int64_t pause_ms,
		  void (*run)(void *arg), void *arg)
{
	*trigger = (struct trigger){ .base = base, .run = run, .arg = arg, .pause_ms = pause_ms };
	trigger->timer = evtimer_new(base, on_timer, trigger);
	if (!trigger->timer)
		out_of_memory(0);
}

void trigger_done(struct trigger *trigger)
{
	event_free(trigger->timer);
}
