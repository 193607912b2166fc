/* SPDX-License-Identifier: ISC */

/*
 * pty: a scripted user at a terminal, for the tests.
 *
 *	pty [-b] [-l FILE] [-t SECS] STEP... -- COMMAND [ARG...]
 *		starts COMMAND with a new terminal, its /dev/tty; its stdin, stdout and stderr are those of pty
 *
 *	-b  in a background process group of the terminal
 *	-l  all that appears on the terminal goes to FILE
 *	-t  give up after so long (10 s)
 *
 *	expect TEXT	it appears, behind what was expected before
 *	type TEXT	keys, control characters included
 *	echo on|off	so is the terminal set
 *	asleep		the command waits for something
 *	pause MS
 *	signal NUMBER	to the command
 *	stopped		the command has been stopped
 *	status N	the command has ended with N, 128 + a signal
 *
 * What comes out otherwise is one line on stderr and status 1.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum { SEEN_MAX = 65536 };

static const char *doing = "start";	/* the step, for die() and the alarm */
static pid_t command;			/* 0: not started, or ended */
static int keyboard, terminal;		/* the two sides of the pty */
static int log_file = -1;
static char seen[SEEN_MAX + 1];		/* what appeared on the terminal */
static size_t seen_length, expected;	/* expected: how far the script has come in it */

static void command_end(void)
{
	if (command > 0)
		kill(-command, SIGKILL);
}

__attribute__((format(printf, 1, 2)))
static _Noreturn void die(const char *format, ...)
{
	va_list words;

	fprintf(stderr, "pty: %.60s: ", doing);
	va_start(words, format);
	vfprintf(stderr, format, words);
	va_end(words);
	fputc('\n', stderr);
	command_end();
	exit(1);
}

static void give_up(int signal_number)
{
	static const char words[] = ": out of time\n";

	(void)signal_number;
	command_end();
	if (write(2, "pty: ", 5) < 0 || write(2, doing, strlen(doing)) < 0 || write(2, words, sizeof words - 1) < 0)
		_exit(2);
	_exit(1);
}

/* Takes what appears on the terminal within ms; false if nothing does. */
static bool screen_read(int ms)
{
	struct pollfd readable = { .fd = keyboard, .events = POLLIN };

	if (poll(&readable, 1, ms) != 1)
		return false;
	ssize_t got = read(keyboard, seen + seen_length, SEEN_MAX - seen_length);
	if (got <= 0)
		die("the terminal: %s", got == 0 ? "full" : strerror(errno));
	if (log_file != -1 && write(log_file, seen + seen_length, (size_t)got) != got)
		die("the log: %s", strerror(errno));
	seen_length += (size_t)got;
	seen[seen_length] = '\0';
	return true;
}

static void step_expect(const char *text)
{
	const char *at;

	while (!(at = strstr(seen + expected, text)))
		screen_read(-1);
	expected = (size_t)(at - seen) + strlen(text);
}

static void step_type(const char *text)
{
	size_t length = strlen(text);

	if (write(keyboard, text, length) != (ssize_t)length)
		die("%s", strerror(errno));
}

static void step_echo(const char *text)
{
	struct termios now;

	if (tcgetattr(terminal, &now) == -1)
		die("%s", strerror(errno));
	if (!(now.c_lflag & ECHO) != (strcmp(text, "off") == 0))
		die("it is not");
}

/* The letter of /proc/PID/stat that stands for the state, behind the name in brackets. */
static char command_state(void)
{
	char path[32], line[512] = "";
	const char *state;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)command);
	FILE *file = fopen(path, "r");
	if (!file || !fgets(line, sizeof line, file) || !(state = strrchr(line, ')')))
		die("%s: %s", path, strerror(errno));
	fclose(file);
	return state[2];
}

static void step_asleep(const char *text)
{
	(void)text;
	while (command_state() != 'S')
		screen_read(2);
}

static void step_pause(const char *text)
{
	long ms = atol(text);
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&time, &time) == -1 && errno == EINTR)
		continue;
}

static void step_signal(const char *text)
{
	if (command == 0 || kill(command, atoi(text)) == -1)
		die("the command is not there");
}

/* How the command has changed; this waits for it. */
static int command_wait(void)
{
	int status;

	while (waitpid(command, &status, WUNTRACED) == -1)
		if (errno != EINTR)
			die("%s", strerror(errno));
	if (!WIFSTOPPED(status))
		command = 0;
	return status;
}

static void step_stopped(const char *text)
{
	int status = command_wait();

	(void)text;
	if (!WIFSTOPPED(status))
		die("it has ended");
}

static void step_status(const char *text)
{
	int status = command_wait();

	if (WIFSTOPPED(status))
		die("it has been stopped");
	status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	if (status != atoi(text))
		die("it ended with %d", status);
}

static const struct {
	const char *name;
	void (*run)(const char *);
} steps[] = {
	{ "expect", step_expect },	{ "type", step_type },
	{ "echo", step_echo },		{ "asleep", step_asleep },
	{ "pause", step_pause },	{ "signal", step_signal },
	{ "stopped", step_stopped },	{ "status", step_status },
};

static void step_run(const char *line)
{
	size_t length = strcspn(line, " ");

	doing = line;
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
		if (strlen(steps[i].name) == length && memcmp(steps[i].name, line, length) == 0) {
			steps[i].run(line + length + (line[length] == ' '));
			return;
		}
	die("no such step");
}

/* Only who leads a session gets a terminal, and only a group with a parent outside of it can be stopped. */
static void terminal_open(void)
{
	keyboard = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (keyboard == -1 || grantpt(keyboard) == -1 || unlockpt(keyboard) == -1)
		die("no pty: %s", strerror(errno));
	terminal = open(ptsname(keyboard), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (terminal == -1 || setsid() == -1 || ioctl(terminal, TIOCSCTTY, 0) == -1)
		die("no terminal: %s", strerror(errno));
}

static void command_start(char **argv, bool background)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGTSTP, SIGTTOU };

	command = fork();
	if (command == -1)
		die("fork: %s", strerror(errno));
	if (command != 0) {
		setpgid(command, command);
		return;
	}
	setpgid(0, 0);
	signal(SIGTTOU, SIG_IGN);
	if (!background && tcsetpgrp(terminal, getpid()) == -1)
		die("tcsetpgrp: %s", strerror(errno));
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		signal(signals[i], SIG_DFL);
	execvp(*argv, argv);
	die("%s: %s", *argv, strerror(errno));
}

/* The rest is done in a process of its own, as one that leads a group already cannot lead a session. */
static void process_divide(void)
{
	int status;
	pid_t child = fork();

	if (child == -1)
		die("fork: %s", strerror(errno));
	if (child == 0) {
#ifdef __linux__
		prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
		return;
	}
	while (waitpid(child, &status, 0) == -1 && errno == EINTR)
		continue;
	exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int main(int argc, char **argv)
{
	unsigned limit = 10;
	bool background = false;
	int option;

	while ((option = getopt(argc, argv, "+bl:t:")) != -1)
		switch (option) {
		case 'b': background = true; break;
		case 'l': log_file = open(optarg, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600); break;
		case 't': limit = (unsigned)atoi(optarg); break;
		default: die("usage: pty [-b] [-l file] [-t seconds] step... -- command [argument...]");
		}
	char **line = argv + optind, **words = line;
	while (*words && strcmp(*words, "--") != 0)
		words++;
	if (!*words || !words[1])
		die("no command");
	process_divide();
	signal(SIGALRM, give_up);
	signal(SIGHUP, SIG_IGN);
	alarm(limit);
	terminal_open();
	command_start(words + 1, background);
	for (; line < words; line++)
		step_run(*line);
	while (screen_read(0))
		continue;
	command_end();
	return 0;
}
