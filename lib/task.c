/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/task.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <ucontext.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"

#define STACK_SIZE  (1U << 20) /* what is not touched costs nothing */
#define GUARD_SIZE  65536      /* below it: an overflow faults */
#define SLICE_NS    2000000
#define CLOCK_EVERY 32 /* calls of task_pause() for each look at the clock */

struct task {
	STAILQ_ENTRY(task) link;
	ucontext_t loop;
	ucontext_t own;
	void (*function)(void *arg);
	void *arg;
	struct event *resume;
	void *stack; /* NULL before it began, or it runs on the loop's */
	uint64_t slice_end_ns;
	unsigned int calls;
	bool ended;
};

/* The first one is at work. */
static STAILQ_HEAD(, task) tasks = STAILQ_HEAD_INITIALIZER(tasks);
static bool inside; /* on the first one's stack */

static void task_main(void)
{
	struct task *task = STAILQ_FIRST(&tasks);

	task->function(task->arg);
	task->ended = true;
}

/* Gives the task its stack; false: there is no memory for one. */
static bool task_prepare(struct task *task)
{
	void *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	if (stack == MAP_FAILED)
		return false;
	if (mprotect(stack, GUARD_SIZE, PROT_NONE) < 0 || getcontext(&task->own) < 0) {
		munmap(stack, STACK_SIZE);
		return false;
	}
	task->stack = stack;
	task->own.uc_stack.ss_sp = stack;
	task->own.uc_stack.ss_size = STACK_SIZE;
	task->own.uc_link = &task->loop;
	makecontext(&task->own, task_main, 0);
	return true;
}

/* Goes to the first task until it pauses or ends. */
static void task_enter(uint64_t slice_end_ns)
{
	struct task *task = STAILQ_FIRST(&tasks);

	if (task->stack || task_prepare(task)) {
		task->slice_end_ns = slice_end_ns;
		inside = true;
		swapcontext(&task->loop, &task->own);
		inside = false;
	} else {
		task_main();
	}
	if (!task->ended)
		return;
	STAILQ_REMOVE_HEAD(&tasks, link);
	if (task->stack)
		munmap(task->stack, STACK_SIZE);
	event_free(task->resume);
	free(task);
}

/* After what else the loop has to do. */
static void first_resume(void)
{
	static const struct timeval at_once;

	if (!STAILQ_EMPTY(&tasks))
		event_add(STAILQ_FIRST(&tasks)->resume, &at_once);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	task_enter(now_ns() + SLICE_NS);
	first_resume();
}

void task_run(struct event_base *base, void (*function)(void *arg), void *arg)
{
	struct task *task = xcalloc(1, sizeof(*task));
	bool first = STAILQ_EMPTY(&tasks);

	task->function = function;
	task->arg = arg;
	task->resume = evtimer_new(base, on_resume, NULL);
	if (!task->resume)
		out_of_memory(0);
	STAILQ_INSERT_TAIL(&tasks, task, link);
	if (first)
		on_resume(-1, 0, NULL);
}

void task_pause_now(void)
{
	struct task *task = inside ? STAILQ_FIRST(&tasks) : NULL;

	if (task && now_ns() >= task->slice_end_ns)
		swapcontext(&task->own, &task->loop);
}

void task_pause(void)
{
	if (inside && ++STAILQ_FIRST(&tasks)->calls % CLOCK_EVERY == 0)
		task_pause_now();
}

void task_finish_all(void)
{
	while (!STAILQ_EMPTY(&tasks))
		task_enter(UINT64_MAX);
}
