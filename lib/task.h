/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long work beside an event loop: a function on a stack of its own, which goes back to the loop
 * every few milliseconds.  Why not a thread: what the function calls stays as it is, and nothing
 * has to be locked, for others run only where it calls task_pause().
 */
#ifndef TENDRIL_LIB_TASK_H
#define TENDRIL_LIB_TASK_H

struct event_base;

/* Runs function(arg) at once, up to its first pause, and from the loop after that; done(arg) is
 * called off the task's stack when it has returned, which may be before task_run() returns.  One
 * task at a time: -EBUSY; -ENOMEM. */
int task_run(struct event_base *base, void (*function)(void *arg), void (*done)(void *arg),
	     void *arg);

/* To be called between small pieces of work: goes back to the loop if the task has had its time.
 * Does nothing outside of a task. */
void task_pause(void);

/* Runs the task, if there is one, to its end and done(): its owner goes. */
void task_finish(void);

#endif
