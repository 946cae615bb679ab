/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long work beside an event loop: a function on a stack of its own, which returns to the loop every
 * few milliseconds.  Why not a thread: nothing has to be locked, because other code runs only while
 * the function is in task_pause(), and tasks run one after the other.
 */
#ifndef TENDRIL_LIB_TASK_H
#define TENDRIL_LIB_TASK_H

struct event_base;

/* Runs function(arg).  If no other task is waiting, it starts at once and runs up to its first
 * pause; the loop runs the rest. */
void task_run(struct event_base *base, void (*function)(void *arg), void *arg);

/* Called between pieces of work of some microseconds: returns to the loop if the task's time slice
 * is over.  Does nothing outside of a task.  What the task uses must stay valid meanwhile. */
void task_pause(void);
/* The same after a longer piece of work: it reads the clock each time. */
void task_pause_now(void);

/* Runs all tasks to their ends, without the loop: call it before what they use is freed. */
void task_finish_all(void);

#endif
