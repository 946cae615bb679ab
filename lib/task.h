/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long work beside an event loop: a function on a stack of its own, which goes back to the loop
 * every few milliseconds.  Why not a thread: what the function calls stays as it is, and nothing
 * has to be locked, for others run only where it calls task_pause(), and tasks run one after the
 * other.
 */
#ifndef TENDRIL_LIB_TASK_H
#define TENDRIL_LIB_TASK_H

struct event_base;

/* Runs function(arg): at once, up to its first pause, if no other task is waiting; the rest from
 * the loop. */
void task_run(struct event_base *base, void (*function)(void *arg), void *arg);

/* To be called between pieces of work of some microseconds: goes back to the loop if the task has
 * had its time.  Does nothing outside of a task.  Whatever the task holds on to must stay valid. */
void task_pause(void);
/* The same after a longer piece: looks at the clock each time. */
void task_pause_now(void);

/* Runs all tasks to their ends, without the loop: what they work on goes. */
void task_finish_all(void);

#endif
