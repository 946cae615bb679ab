/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/task.h"

#include <errno.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "lib/auto.h"
#include "lib/clock.h"

#define STACK_SIZE  (1U << 20) /* what is not touched costs nothing */
#define GUARD_SIZE  65536      /* below it: an overflow faults */
#define SLICE_NS    2000000
#define CLOCK_EVERY 32 /* calls of task_pause() for each look at the clock */

struct task {
	ucontext_t loop;
	ucontext_t own;
	void (*function)(void *arg);
	void (*done)(void *arg);
	void *arg;
	struct event *resume;
	void *stack;
	uint64_t slice_end_ns;
	unsigned int calls;
	bool ended;
};

static struct task *current;
static bool inside; /* on the task's stack */

static void task_free(struct task *task)
{
	if (task->stack)
		munmap(task->stack, STACK_SIZE);
	if (task->resume)
		event_free(task->resume);
	free(task);
}

static void task_main(void)
{
	current->function(current->arg);
	current->ended = true;
}

/* Goes to the task until it pauses or ends. */
static void task_enter(uint64_t slice_ns)
{
	static const struct timeval at_once;
	struct task *task = current;

	task->slice_end_ns = slice_ns == UINT64_MAX ? UINT64_MAX : now_ns() + slice_ns;
	inside = true;
	swapcontext(&task->loop, &task->own);
	inside = false;
	if (!task->ended) {
		event_add(task->resume, &at_once); /* after what else the loop has to do */
		return;
	}
	current = NULL; /* done() may run another */
	task->done(task->arg);
	task_free(task);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	task_enter(SLICE_NS);
}

int task_run(struct event_base *base, void (*function)(void *arg), void (*done)(void *arg),
	     void *arg)
{
	struct task *task;

	if (current)
		return -EBUSY;
	task = calloc(1, sizeof(*task));
	if (!task)
		return -ENOMEM;
	task->function = function;
	task->done = done;
	task->arg = arg;
	task->resume = evtimer_new(base, on_resume, NULL);
	task->stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (task->stack == MAP_FAILED)
		task->stack = NULL;
	if (!task->resume || !task->stack || mprotect(task->stack, GUARD_SIZE, PROT_NONE) < 0 ||
	    getcontext(&task->own) < 0) {
		task_free(task);
		return -ENOMEM;
	}
	task->own.uc_stack.ss_sp = task->stack;
	task->own.uc_stack.ss_size = STACK_SIZE;
	task->own.uc_link = &task->loop;
	makecontext(&task->own, task_main, 0);
	current = task;
	task_enter(SLICE_NS);
	return 0;
}

void task_pause(void)
{
	if (!inside || ++current->calls % CLOCK_EVERY || now_ns() < current->slice_end_ns)
		return;
	swapcontext(&current->own, &current->loop);
}

void task_finish(void)
{
	if (current)
		task_enter(UINT64_MAX);
}
