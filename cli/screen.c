/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/argument.h"
#include "lib/auto.h"
#include "lib/clock.h"

#define INTERVAL_DEFAULT 2

/* As terminals since the VT100 know them. */
#define ENTER "\033[?1049h\033[?25l" /* another page, without a cursor */
#define LEAVE "\033[?25h\033[?1049l"
#define CLEAR "\033[H\033[J"

static volatile sig_atomic_t is_ended;

struct screen {
	bool is_terminal;
	bool has_keys;
	struct termios before; /* of the keyboard */
	sigset_t mask_before;
	struct sigaction actions_before[4];
};

/* SIGWINCH has only to wake the wait. */
static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGWINCH };

static void on_signal(int number)
{
	if (number != SIGWINCH)
		is_ended = 1;
}

/* Signals come only in the wait, so that none is missed and no picture is torn. */
static void screen_begin(struct screen *screen, bool is_terminal)
{
	const struct sigaction action = { .sa_handler = on_signal };
	sigset_t blocked;

	*screen = (struct screen){ .is_terminal = is_terminal };
	is_ended = 0;
	sigemptyset(&blocked);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		sigaddset(&blocked, signals[i]);
		sigaction(signals[i], &action, &screen->actions_before[i]);
	}
	sigprocmask(SIG_BLOCK, &blocked, &screen->mask_before);
	if (!is_terminal)
		return;
	screen->has_keys = tcgetattr(STDIN_FILENO, &screen->before) == 0;
	if (screen->has_keys) {
		struct termios keys = screen->before;

		keys.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSANOW, &keys);
	}
	fputs(ENTER, stdout);
}

static void screen_end(const struct screen *screen)
{
	if (screen->is_terminal) {
		fputs(LEAVE, stdout);
		fflush(stdout);
	}
	if (screen->has_keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &screen->before);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &screen->actions_before[i], NULL);
	sigprocmask(SIG_SETMASK, &screen->mask_before, NULL);
}

/* Waits so long, or until q or a signal. */
static void screen_wait(const struct screen *screen, uint64_t until_ns)
{
	struct pollfd keyboard = { .fd = screen->has_keys ? STDIN_FILENO : -1, .events = POLLIN };
	uint64_t now = now_ns();
	const struct timespec rest = {
		.tv_sec = now < until_ns ? (time_t)((until_ns - now) / 1000000000) : 0,
		.tv_nsec = now < until_ns ? (long)((until_ns - now) % 1000000000) : 0,
	};
	char key;

	if (ppoll(&keyboard, 1, &rest, &screen->mask_before) == 1 &&
	    (read(STDIN_FILENO, &key, 1) != 1 || key == 'q'))
		is_ended = 1;
}

/* The time between pictures, and how many there are: one at either end of --for. */
static int times_parse(const struct arguments *args, uint64_t *ret_interval_ns,
		       uint64_t *ret_pictures, struct errmsg *err)
{
	uint32_t interval = INTERVAL_DEFAULT, duration;

	if (args->interval && duration_parse(args->interval, &interval, err))
		return err->code;
	*ret_interval_ns = interval * 1000000000ULL;
	*ret_pictures = UINT64_MAX;
	if (!args->duration)
		return 0;
	if (duration_parse(args->duration, &duration, err))
		return err->code;
	*ret_pictures = duration / interval + 1;
	return 0;
}

int screen_run(const struct arguments *args,
	       int (*draw)(double seconds, void *arg, struct errmsg *err), void *arg,
	       struct errmsg *err)
{
	uint64_t interval_ns = 0, pictures = 0, last_ns = 0;
	struct screen screen;
	int ret = times_parse(args, &interval_ns, &pictures, err);

	if (ret)
		return ret;
	screen_begin(&screen, !args->json && isatty(STDOUT_FILENO));
	while (!is_ended && pictures--) {
		uint64_t now = now_ns();

		if (screen.is_terminal)
			fputs(CLEAR, stdout);
		ret = draw(last_ns ? (double)(now - last_ns) / 1e9 : 0, arg, err);
		last_ns = now;
		fflush(stdout);
		if (ret || ferror(stdout))
			break;
		if (pictures)
			screen_wait(&screen, now + interval_ns);
	}
	screen_end(&screen);
	return ret;
}

size_t screen_rows(size_t rows, size_t other_lines)
{
	struct winsize size = { 0 };
	size_t fit;

	if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_row)
		return rows;
	fit = size.ws_row > other_lines + 1 ? size.ws_row - other_lines - 1 : 1;
	return rows < fit ? rows : fit;
}
