/* SPDX-License-Identifier: ISC */
/*
 * peer: a scripted end of a stream, for the tests.
 *
 *	peer [-b BACKLOG] [-l ADDR] [-p FILE] [-r BYTES] [-t SECS] STEP...
 *		listens on a port of its own, written to FILE or stdout
 *	peer [-kn] [-s pipe|socket|pty] [-t SECS] STEP... -- COMMAND [ARG...]
 *		starts COMMAND as ssh does; the stream is its stdin and stdout
 *	peer -c PORT [-l ADDR] [-t SECS] STEP...
 *		connects to a listener
 *	peer -i [-t SECS] STEP...
 *		the stream is this program's own stdin and stdout
 *
 *	-b  backlog of the listener		-k  share the command's ends, see "unchanged"
 *	-l  address of the listener (127.0.0.1)	-n  the command's ends start non-blocking
 *	-r  SO_RCVBUF of the listener		-t  give up after so long (60 s)
 *
 * A step is one argument: a name, a space, its words; TEXT is all that is left
 * and knows \r \n \t \0 \xNN \\. Numbers take K and M. A step that ends in " &"
 * runs beside those after it until "join". What comes out otherwise than
 * the script says is one line on stderr and status 1. The steps stand in a
 * table near the end, each function below says what its step does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <linux/tcp.h>		/* glibc's own tcp_info ends too early for us */
#else
#include <netinet/tcp.h>
#endif
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum { CHUNK = 65536, TEXT_MAX = 65536, BESIDE_MAX = 8, KEPT_MAX = 4096 };

struct end {
	int in, out;		/* the stream; the same for a socket; -1: closed */
	int listener, log;	/* -1: none */
	const struct addrinfo *there;	/* what was connected to */
	pid_t command;		/* 0: none, or it has ended */
	int status;		/* of the command, as a shell has it */
	long peak;		/* of the command's memory, in KiB */
	int kept[2], flags[2];	/* the command's ends, and how they were set */
	int besides;
	pid_t beside[BESIDE_MAX];	/* the steps with " &" */
};

static const char *doing = "start";	/* the step, for die() and the alarm */
static unsigned limit = 60;

/* Of a crowd: how many are in it, which of them this is, and how often one has come to a meeting. */
static unsigned long crowd_size, crowd_number;
static atomic_ulong *crowd_met;

/* Connections that are kept, in a ring. */
static int streams[KEPT_MAX];
static unsigned stream_first, streams_kept;

/* --- messages, time, numbers ----------------------------------------- */

static _Noreturn void die(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "peer: %.60s: ", doing);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void give_up(int sig)
{
	static const char words[] = ": out of time\n";

	(void)sig;
	if (write(2, "peer: ", 6) < 0 || write(2, doing, strlen(doing)) < 0 ||
	    write(2, words, sizeof words - 1) < 0)
		_exit(2);
	_exit(1);
}

static long clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void sleep_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&t, &t) == -1 && errno == EINTR)
		;
}

/* The next word of a step as a number; fallback where there is none. */
static unsigned long number_take(const char **words, unsigned long fallback)
{
	unsigned long n;
	char *end;

	if (**words == '\0')
		return fallback;
	n = strtoul(*words, &end, 10);
	if (end == *words)
		die("not a number: %s", *words);
	if (*end == 'K' || *end == 'M')
		n <<= *end++ == 'K' ? 10 : 20;
	if (*end != ' ' && *end != '\0')
		die("not a number: %s", *words);
	*words = end + (*end == ' ');
	return n;
}

/* The same, where "forever" is a number too. */
static unsigned long count_take(const char **words)
{
	if (strncmp(*words, "forever ", 8) != 0)
		return number_take(words, 1);
	*words += 8;
	return (unsigned long)-1;
}

/* A process beside this one, which ends with it. */
static pid_t process_fork(void)
{
	pid_t pid = fork();

	if (pid == -1)
		die("fork: %s", strerror(errno));
#ifdef __linux__
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
	return pid;
}

/* --- text and pattern ------------------------------------------------ */

struct text {
	size_t size;
	char data[TEXT_MAX];
};

/* The byte that an escape stands for; words is left on its last character. */
static char text_escape(const char **words)
{
	char hex[3] = "";

	switch (**words) {
	case 'r':
		return '\r';
	case 'n':
		return '\n';
	case 't':
		return '\t';
	case '0':
		return '\0';
	case '\\':
		return '\\';
	case 'x':
		strncat(hex, *words + 1, 2);
		*words += strlen(hex);
		return (char)strtoul(hex, NULL, 16);
	}
	die("not an escape: \\%c", **words);
}

static const struct text * text_take(const char *words)
{
	static struct text text;

	for (text.size = 0; *words != '\0'; words++) {
		if (text.size == TEXT_MAX)
			die("text too long");
		if (*words == '\\') {
			words++;
			text.data[text.size++] = text_escape(&words);
		} else
			text.data[text.size++] = *words;
	}
	return &text;
}

/* Bytes that depend on where they stand, eight at a time, so that none can be lost, doubled or moved unseen. */
static void pattern_fill(char *data, size_t size, unsigned long at, unsigned long seed)
{
	for (size_t i = 0; i < size;) {
		uint64_t x = (uint64_t)(at + i) / 8 + ((uint64_t)(seed + crowd_number) << 40);
		size_t skipped = (at + i) % 8, n = size - i < 8 - skipped ? size - i : 8 - skipped;

		x = (x ^ x >> 27) * 0x94d049bb133111ebU;
		x = (x ^ x >> 31) * 0xbf58476d1ce4e5b9U;
		x ^= x >> 32;
		if (n == 8)
			memcpy(data + i, &x, 8);
		else
			memcpy(data + i, (char *)&x + skipped, n);
		i += n;
	}
}

/* --- the stream ------------------------------------------------------ */

/* Whether the other end took it: where a script says "forever", an end is none the worse. */
static bool stream_offer(int fd, const char *data, size_t size)
{
	ssize_t n;

	while (size > 0) {
		n = write(fd, data, size);
		if (n == -1 && errno != EINTR)
			return false;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
	}
	return true;
}

static void stream_write(int fd, const char *data, size_t size)
{
	if (!stream_offer(fd, data, size))
		die("write: %s", strerror(errno));
}

static size_t stream_read(const struct end *e, char *data, size_t size)
{
	ssize_t n;

	do
		n = read(e->in, data, size);
	while (n == -1 && errno == EINTR);
	if (n == -1 && errno == EIO)	/* so ends a pty */
		n = 0;
	if (n == -1)
		die("read: %s", strerror(errno));
	if (e->log != -1)
		stream_write(e->log, data, (size_t)n);
	return (size_t)n;
}

/* Whether there is something to read, an end included, within ms; -1 is for ever. */
static bool stream_wait(const struct end *e, long ms)
{
	struct pollfd p = { .fd = e->in, .events = POLLIN };

	return poll(&p, 1, (int)ms) == 1;
}

static void stream_close(struct end *e)
{
	if (e->in != -1)
		close(e->in);
	if (e->out != -1 && e->out != e->in)
		close(e->out);
	e->in = e->out = -1;
}

/* --- steps: a connection --------------------------------------------- */

static void step_accept(struct end *e, const char *words)
{
	int on = 1;

	(void)words;
	stream_close(e);
	do
		e->in = accept(e->listener, NULL, NULL);
	while (e->in == -1 && errno == EINTR);
	if (e->in == -1)
		die("%s", strerror(errno));
	setsockopt(e->in, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	e->out = e->in;
}

/* Each connection from here on goes through the steps that follow, in a process of its own. */
static void step_loop(struct end *e, const char *words)
{
	alarm(0);		/* whoever started this listener ends it */
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		step_accept(e, words);
		if (process_fork() == 0) {
			signal(SIGCHLD, SIG_DFL);
			alarm(limit);
			close(e->listener);
			e->listener = -1;
			return;
		}
	}
}

static void step_connect(struct end *e, const char *words)
{
	int fd;

	(void)words;
	stream_close(e);
	if (e->there == NULL)
		die("there is no -c");
	fd = socket(e->there->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1 || connect(fd, e->there->ai_addr, e->there->ai_addrlen) == -1)
		die("%s", strerror(errno));
	e->in = e->out = fd;
}

/* The connection stays as it is, and the steps go on with another. */
static void step_keep(struct end *e, const char *words)
{
	(void)words;
	if (streams_kept == KEPT_MAX)
		die("too many connections");
	streams[(stream_first + streams_kept++) % KEPT_MAX] = e->in;
	e->in = e->out = -1;
}

/* The same, and that other is the one that was kept first. */
static void step_turn(struct end *e, const char *words)
{
	step_keep(e, words);
	e->in = e->out = streams[stream_first++ % KEPT_MAX];
	streams_kept--;
}

/* Sends a byte as TCP's urgent data. */
static void step_urgent(struct end *e, const char *words)
{
	(void)words;
	if (send(e->out, "!", 1, MSG_OOB) != 1)
		die("%s", strerror(errno));
}

static void step_half_close(struct end *e, const char *words)
{
	(void)words;
	if (e->in != e->out) {
		close(e->out);
		e->out = -1;
	} else if (shutdown(e->out, SHUT_WR) == -1)
		die("%s", strerror(errno));
}

/* What reads the command's stdout goes away; its stdin stays. */
static void step_close_in(struct end *e, const char *words)
{
	(void)words;
	if (e->in == e->out)
		die("there is one descriptor for both ways");
	close(e->in);
	e->in = -1;
}

static void step_close(struct end *e, const char *words)
{
	(void)words;
	stream_close(e);
}

static void step_reset(struct end *e, const char *words)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	(void)words;
	setsockopt(e->in, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	stream_close(e);
}

/* knock COUNT: connects, and resets at once, so many times. */
static void step_knock(struct end *e, const char *words)
{
	for (unsigned long n = number_take(&words, 1); n > 0; n--) {
		step_connect(e, "");
		step_reset(e, "");
	}
}

/* Neither read nor write until the other end has gone. */
static void step_hold(struct end *e, const char *words)
{
	struct pollfd p[2] = {
		{ .fd = e->in, .events = POLLRDHUP },
		{ .fd = e->out, .events = POLLRDHUP },
	};

	(void)words;
	while (poll(p, 2, -1) == -1)
		;
}

/* --- steps: what arrives --------------------------------------------- */

/* Everything that is read from here on goes to a file too. */
static void step_log(struct end *e, const char *words)
{
	e->log = open(words, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (e->log == -1)
		die("%s", strerror(errno));
}

/* Up to the blank line, and not a byte of what follows. */
static void step_head(struct end *e, const char *words)
{
	int newlines = 0;
	char c;

	(void)words;
	while (newlines < 2) {
		if (stream_read(e, &c, 1) == 0)
			die("the other end closed");
		if (c == '\n')
			newlines++;
		else if (c != '\r')
			newlines = 0;
	}
}

static struct tcp_info stream_info(const struct end *e)
{
	struct tcp_info info;
	socklen_t size = sizeof info;

	if (getsockopt(e->in, IPPROTO_TCP, TCP_INFO, &info, &size) == -1)
		die("%s", strerror(errno));
	return info;
}

/* A head that came in one segment, with nothing behind it. */
static void step_head_alone(struct end *e, const char *words)
{
	unsigned segments;
	char data[CHUNK];
	size_t n;

	(void)words;
	n = stream_read(e, data, sizeof data);
	if (n < 4 || memcmp(data + n - 4, "\r\n\r\n", 4) != 0)
		die("%zu bytes that end in no blank line", n);
	segments = stream_info(e).tcpi_data_segs_in;
	if (segments != 1)
		die("it came in %u segments", segments);
}

/*
 * unheld COUNT: so often two bytes come, and one goes back. At least once the second byte came in a segment of its own
 * while the first was not acknowledged: what waits for that (RFC 1122, 4.2.3.4) never does so.
 */
static void step_unheld(struct end *e, const char *words)
{
	unsigned long count = number_take(&words, 1);
	struct tcp_info before, after;
	int both = 2, unheld = 0;
	char data[2];

	setsockopt(e->in, SOL_SOCKET, SO_RCVLOWAT, &both, sizeof both);	/* as to read is to acknowledge */
	while (count-- > 0) {
		before = stream_info(e);
		stream_wait(e, -1);
		after = stream_info(e);
		if (stream_read(e, data, sizeof data) != sizeof data)
			die("the other end closed");
		unheld += after.tcpi_data_segs_in == before.tcpi_data_segs_in + 2 && after.tcpi_segs_out == before.tcpi_segs_out;
		stream_write(e->out, "c", 1);
	}
	both = 1;
	setsockopt(e->in, SOL_SOCKET, SO_RCVLOWAT, &both, sizeof both);
	if (unheld == 0)
		die("each second byte came behind an acknowledgement");
}

static void step_expect(struct end *e, const char *words)
{
	const struct text *text = text_take(words);
	char data[TEXT_MAX];
	size_t done, n;

	for (done = 0; done < text->size; done += n) {
		n = stream_read(e, data, text->size - done);
		if (n == 0)
			die("the other end closed after %zu of %zu bytes", done, text->size);
		if (memcmp(data, text->data + done, n) != 0)
			die("other bytes: %.*s", (int)n, data);
	}
}

/* quiet MS: nothing comes, no end either. */
static void step_quiet(struct end *e, const char *words)
{
	if (stream_wait(e, (long)number_take(&words, 0)))
		die("something came");
}

/* eof [MS]: nothing comes but the end. */
static void step_eof(struct end *e, const char *words)
{
	char c;

	if (!stream_wait(e, *words == '\0' ? -1 : (long)number_take(&words, 0)))
		die("no end within that time");
	if (stream_read(e, &c, 1) != 0)
		die("a byte came: 0x%02x", (unsigned char)c);
}

/* gone [MS]: the same, but the end may be a reset, as when bytes are left unread at the other side. */
static void step_gone(struct end *e, const char *words)
{
	char c;

	if (!stream_wait(e, *words == '\0' ? -1 : (long)number_take(&words, 0)))
		die("no end within that time");
	if (read(e->in, &c, 1) == 1)
		die("a byte came: 0x%02x", (unsigned char)c);
}

/* sink [SIZE]: read to the end; so many bytes if it says so. */
static void step_sink(struct end *e, const char *words)
{
	unsigned long size = 0, want;
	char data[CHUNK];
	size_t n;

	while ((n = stream_read(e, data, sizeof data)) > 0)
		size += n;
	want = number_take(&words, size);
	if (size != want)
		die("%lu bytes came", size);
}

/* check SIZE [SEED]: so many bytes of the pattern come. */
static void step_check(struct end *e, const char *words)
{
	unsigned long at, size = number_take(&words, 0), seed = number_take(&words, 0);
	char data[CHUNK], want[CHUNK];
	size_t n;

	for (at = 0; at < size; at += n) {
		n = stream_read(e, data, size - at < CHUNK ? size - at : CHUNK);
		if (n == 0)
			die("the other end closed after %lu bytes", at);
		pattern_fill(want, n, at, seed);
		for (size_t i = 0; memcmp(data, want, n) != 0; i++)
			if (data[i] != want[i])
				die("byte %lu differs", at + i);
	}
}

/* --- steps: what is sent --------------------------------------------- */

static void step_send(struct end *e, const char *words)
{
	const struct text *text = text_take(words);

	stream_write(e->out, text->data, text->size);
}

/* trickle MS COUNT|forever TEXT: a byte a segment, so long apart. */
static void step_trickle(struct end *e, const char *words)
{
	unsigned long ms = number_take(&words, 0), count = count_take(&words);
	bool forever = count == (unsigned long)-1;
	const struct text *text = text_take(words);

	while (count-- > 0)
		for (size_t i = 0; i < text->size; i++) {
			if (!stream_offer(e->out, text->data + i, 1)) {
				if (!forever)
					die("write: %s", strerror(errno));
				return;
			}
			sleep_ms((long)ms);
		}
}

/* repeat COUNT|forever TEXT */
static void step_repeat(struct end *e, const char *words)
{
	unsigned long count = count_take(&words), n;
	bool forever = count == (unsigned long)-1;
	const struct text *text = text_take(words);
	char data[TEXT_MAX];

	for (n = 0; (n + 1) * text->size <= sizeof data; n++)
		memcpy(data + n * text->size, text->data, text->size);
	while (count > 0) {
		if (n > count)
			n = count;
		if (!stream_offer(e->out, data, n * text->size)) {
			if (!forever)
				die("write: %s", strerror(errno));
			return;
		}
		if (!forever)
			count -= n;
	}
}

/* pattern SIZE [SEED] */
static void step_pattern(struct end *e, const char *words)
{
	unsigned long at, size = number_take(&words, 0), seed = number_take(&words, 0);
	char data[CHUNK];
	size_t n;

	for (at = 0; at < size; at += n) {
		n = size - at < CHUNK ? size - at : CHUNK;
		pattern_fill(data, n, at, seed);
		stream_write(e->out, data, n);
	}
}

/* echo SIZE: back to the sender until it ends; holds SIZE bytes, reads none while it cannot write. */
static void step_echo(struct end *e, const char *words)
{
	unsigned long size = number_take(&words, CHUNK);
	char data[CHUNK];
	size_t n;

	while ((n = stream_read(e, data, size < CHUNK ? size : CHUNK)) > 0)
		stream_write(e->out, data, n);
}

/* --- steps: order and time ------------------------------------------- */

static void step_pause(struct end *e, const char *words)
{
	(void)e;
	sleep_ms((long)number_take(&words, 0));
}

/* Until the file is there. */
static void step_await(struct end *e, const char *words)
{
	(void)e;
	while (access(words, F_OK) == -1)
		sleep_ms(5 + (long)crowd_size / 20);	/* a crowd leaves the machine to others */
}

static void step_touch(struct end *e, const char *words)
{
	int fd = open(words, O_WRONLY | O_CREAT, 0600);

	(void)e;
	if (fd == -1)
		die("%s", strerror(errno));
	close(fd);
}

/*
 * crowd COUNT: so many at once go through the steps that follow, each on a connection of its own, and each
 * with a pattern of its own. All must come out as the steps say.
 */
static void step_crowd(struct end *e, const char *words)
{
	int status, failed = 0;

	crowd_size = number_take(&words, 1);
	crowd_met = mmap(NULL, sizeof *crowd_met, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (crowd_met == MAP_FAILED)
		die("%s", strerror(errno));
	stream_close(e);
	for (unsigned long n = 1; n <= crowd_size; n++)
		if (process_fork() == 0) {
			crowd_number = n;
			alarm(limit);
			step_connect(e, "");
			return;
		}
	while (wait(&status) > 0)
		failed += status != 0;
	if (failed > 0)
		die("it failed for %d", failed);
	exit(0);
}

/* meet FILE: until the whole crowd is there, and then FILE too. */
static void step_meet(struct end *e, const char *words)
{
	if ((atomic_fetch_add(crowd_met, 1) + 1) % crowd_size == 0)
		step_touch(e, words);
	step_await(e, words);
}

/* Until each step with " &" has ended, as it should. */
static void step_join(struct end *e, const char *words)
{
	int status;

	(void)words;
	while (e->besides > 0)
		if (waitpid(e->beside[--e->besides], &status, 0) == -1 || status != 0)
			die("a step beside this one failed");
}

/* --- steps: the command ---------------------------------------------- */

static void step_signal(struct end *e, const char *words)
{
	static const struct { const char *name; int sig; } names[] = {
		{ "HUP", SIGHUP }, { "INT", SIGINT }, { "TERM", SIGTERM }, { "KILL", SIGKILL },
		{ "STOP", SIGSTOP }, { "CONT", SIGCONT }, { "WINCH", SIGWINCH },
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(words, names[i].name) == 0) {
			if (e->command == 0 || kill(e->command, names[i].sig) == -1)
				die("the command is not there");
			return;
		}
	die("no such signal");
}

/* status N [MS]: the command ends with N (128 + a signal), within MS from here. */
static void step_status(struct end *e, const char *words)
{
	int want = (int)number_take(&words, 0), status;
	long until = clock_ms() + (long)number_take(&words, 3600000);
	struct rusage used;
	pid_t pid;

	while ((pid = wait4(e->command, &status, WNOHANG, &used)) == 0) {
		if (clock_ms() > until)
			die("it has not ended");
		sleep_ms(2);
	}
	if (pid == -1)
		die("%s", strerror(errno));
	e->command = 0;
	e->peak = used.ru_maxrss;
	e->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	if (e->status != want)
		die("it ended with %d", e->status);
}

/* peak SIZE: the command, which has ended, never held as much memory. */
static void step_peak(struct end *e, const char *words)
{
	if (e->command != 0)
		die("the command has not ended");
	if (e->peak >= (long)(number_take(&words, 0) >> 10))
		die("it held %ld KiB", e->peak);
}

static double command_cpu(const struct end *e)
{
	siginfo_t ended = { .si_pid = 0 };
	struct timespec t;
	clockid_t id;

	if (waitid(P_PID, (id_t)e->command, &ended, WEXITED | WNOHANG | WNOWAIT) == -1 ||
	    ended.si_pid != 0)
		die("the command has ended");
	if (clock_getcpuclockid(e->command, &id) != 0 || clock_gettime(id, &t) == -1)
		die("no CPU clock");
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* idle MS CPU: for so long the command uses less than so many milliseconds of CPU. */
static void step_idle(struct end *e, const char *words)
{
	long ms = (long)number_take(&words, 0);
	double used = command_cpu(e);

	sleep_ms(ms);
	used = command_cpu(e) - used;
	if (used >= (double)number_take(&words, 0))
		die("it used %.2f ms", used);
}

/* One byte comes, and with it one socket that blocks, which is the stream from here on: as ssh has it from --fdpass. */
static void step_take(struct end *e, const char *words)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(8 * sizeof(int))];
	} control;
	char data[16];
	struct iovec bytes = { .iov_base = data, .iov_len = sizeof data };
	struct msghdr message = {
		.msg_iov = &bytes,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof control.space,
	};
	ssize_t n = recvmsg(e->in, &message, MSG_CMSG_CLOEXEC);
	int fd;

	(void)words;
	if (n != 1)
		die("%zd bytes came", n);
	if (CMSG_FIRSTHDR(&message) == NULL || control.header.cmsg_level != SOL_SOCKET ||
	    control.header.cmsg_type != SCM_RIGHTS || control.header.cmsg_len != CMSG_LEN(sizeof fd))
		die("not one descriptor came");
	memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
	if (fcntl(fd, F_GETFL) & O_NONBLOCK)
		die("it does not block");
	stream_close(e);
	e->in = e->out = fd;
}

/* The command's stdin and stdout are set as they were at its start; needs -k. */
static void step_unchanged(struct end *e, const char *words)
{
	(void)words;
	for (int i = 0; i < 2; i++)
		if (fcntl(e->kept[i], F_GETFL) != e->flags[i])
			die("descriptor %d was %#o, is %#o", i, (unsigned)e->flags[i],
			    (unsigned)fcntl(e->kept[i], F_GETFL));
}

/* --- the script ------------------------------------------------------ */

static const struct step {
	const char *name;
	void (*run)(struct end *, const char *);
} steps[] = {
	{ "accept", step_accept },		{ "loop", step_loop },
	{ "half-close", step_half_close },	{ "close-in", step_close_in },
	{ "close", step_close },		{ "reset", step_reset },
	{ "hold", step_hold },			{ "log", step_log },
	{ "head", step_head },			{ "head-alone", step_head_alone },
	{ "expect", step_expect },		{ "quiet", step_quiet },
	{ "eof", step_eof },			{ "sink", step_sink },
	{ "check", step_check },		{ "send", step_send },
	{ "trickle", step_trickle },		{ "repeat", step_repeat },
	{ "pattern", step_pattern },		{ "echo", step_echo },
	{ "pause", step_pause },		{ "await", step_await },
	{ "touch", step_touch },		{ "join", step_join },
	{ "signal", step_signal },		{ "status", step_status },
	{ "peak", step_peak },			{ "idle", step_idle },
	{ "unchanged", step_unchanged },	{ "connect", step_connect },
	{ "knock", step_knock },		{ "take", step_take },
	{ "crowd", step_crowd },		{ "meet", step_meet },
	{ "gone", step_gone },			{ "unheld", step_unheld },
	{ "keep", step_keep },			{ "turn", step_turn },
	{ "urgent", step_urgent },
};

static void step_run(struct end *e, const char *line)
{
	size_t length = strcspn(line, " ");

	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
		if (strlen(steps[i].name) == length && memcmp(steps[i].name, line, length) == 0) {
			steps[i].run(e, line + length + (line[length] == ' '));
			return;
		}
	die("no such step");
}

static void step_run_beside(struct end *e, const char *line)
{
	if (e->besides == BESIDE_MAX)
		die("too many steps at once");
	e->beside[e->besides] = process_fork();
	if (e->beside[e->besides++] != 0)
		return;
	step_run(e, line);
	exit(0);
}

static void script_run(struct end *e, char **lines, int count)
{
	size_t length;

	for (int i = 0; i < count; i++) {
		doing = lines[i];
		length = strlen(lines[i]);
		if (length > 2 && strcmp(lines[i] + length - 2, " &") == 0) {
			lines[i][length - 2] = '\0';
			step_run_beside(e, lines[i]);
		} else
			step_run(e, lines[i]);
	}
	doing = "end";
	step_join(e, "");
}

/* --- where the stream comes from ------------------------------------- */

static struct addrinfo * address_find(const char *address, const char *port)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM }, *ai;
	int error = getaddrinfo(address, port, &hints, &ai);

	if (error != 0)
		die("%s: %s", address, gai_strerror(error));
	return ai;
}

static int listener_open(const char *address, int backlog, int buffer)
{
	struct addrinfo *ai = address_find(address, "0");
	int fd;

	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		die("socket: %s", strerror(errno));
	if (buffer > 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == -1 || listen(fd, backlog) == -1)
		die("%s: %s", address, strerror(errno));
	freeaddrinfo(ai);
	return fd;
}

/* By rename, so that who waits for the file finds all of it. */
static void listener_tell(int fd, const char *path)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof address;
	char port[NI_MAXSERV], draft[1024] = "/dev/stdout";
	FILE *file;

	if (getsockname(fd, (struct sockaddr *)&address, &size) == -1 ||
	    getnameinfo((struct sockaddr *)&address, size, NULL, 0, port, sizeof port,
	    NI_NUMERICSERV) != 0)
		die("no port");
	if (path != NULL)
		snprintf(draft, sizeof draft, "%s.new", path);
	file = path == NULL ? stdout : fopen(draft, "w");
	if (file == NULL || fprintf(file, "%s\n", port) < 0 || fflush(file) != 0)
		die("%s: %s", draft, strerror(errno));
	if (path != NULL && (fclose(file) != 0 || rename(draft, path) == -1))
		die("%s: %s", path, strerror(errno));
}

static void pty_open(int ours[2], int theirs[2])
{
	struct termios raw;

	ours[0] = ours[1] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (ours[0] == -1 || grantpt(ours[0]) == -1 || unlockpt(ours[0]) == -1)
		die("pty: %s", strerror(errno));
	theirs[0] = theirs[1] = open(ptsname(ours[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (theirs[0] == -1 || tcgetattr(theirs[0], &raw) == -1)
		die("pty: %s", strerror(errno));
	cfmakeraw(&raw);
	tcsetattr(theirs[0], TCSANOW, &raw);
}

/* Two ends of what kind names; [0] is read from, [1] is written to. */
static void ends_open(const char *kind, int ours[2], int theirs[2])
{
	int pair[2], back[2];

	if (strcmp(kind, "pty") == 0) {
		pty_open(ours, theirs);
	} else if (strcmp(kind, "socket") == 0) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
			die("socketpair: %s", strerror(errno));
		ours[0] = ours[1] = pair[0];
		theirs[0] = theirs[1] = pair[1];
	} else if (strcmp(kind, "pipe") == 0) {
		if (pipe2(pair, O_CLOEXEC) == -1 || pipe2(back, O_CLOEXEC) == -1)
			die("pipe: %s", strerror(errno));
		theirs[0] = pair[0];
		ours[1] = pair[1];
		ours[0] = back[0];
		theirs[1] = back[1];
	} else
		die("-s takes pipe, socket or pty");
}

/* In a session of its own: no test asks at the terminal of whoever runs it. */
static _Noreturn void command_exec(char **argv, const int ends[2])
{
	setsid();
	signal(SIGPIPE, SIG_DFL);
	signal(SIGALRM, SIG_DFL);
	signal(SIGHUP, SIG_DFL); /* which nohup, and SIGINT, which "&" in a script has ignored */
	signal(SIGINT, SIG_DFL);
	if (dup2(ends[0], 0) == -1 || dup2(ends[1], 1) == -1)
		die("dup2: %s", strerror(errno));
	execvp(argv[0], argv);
	die("%s: %s", argv[0], strerror(errno));
}

static void command_start(struct end *e, char **argv, const char *kind, bool keep, bool nonblock)
{
	int ours[2], theirs[2];

	ends_open(kind, ours, theirs);
	for (int i = 0; i < 2; i++) {
		if (nonblock)
			fcntl(theirs[i], F_SETFL, fcntl(theirs[i], F_GETFL) | O_NONBLOCK);
		e->kept[i] = theirs[i];
		e->flags[i] = fcntl(theirs[i], F_GETFL);
	}
	e->command = process_fork();
	if (e->command == 0)
		command_exec(argv, theirs);
	for (int i = 0; i < 2 && !keep; i++) {
		close(theirs[i]);
		e->kept[i] = -1;
	}
	e->in = ours[0];
	e->out = ours[1];
}

/* --- main ------------------------------------------------------------ */

static _Noreturn void usage(void)
{
	fputs("usage: peer [-b backlog] [-l address] [-p file] [-r bytes] [-t seconds] step...\n"
	    "       peer [-kn] [-s pipe|socket|pty] [-t seconds] step... -- command [arg...]\n"
	    "       peer -c port [-l address] [-t seconds] step...\n"
	    "       peer -i [-t seconds] step...\n", stderr);
	exit(2);
}

static void peer_begin(void)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, give_up);
	alarm(limit);
#ifdef __linux__
	prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
}

int main(int argc, char **argv)
{
	struct end e = { .in = -1, .out = -1, .listener = -1, .log = -1, .kept = { -1, -1 } };
	const char *address = "127.0.0.1", *port = NULL, *file = NULL, *kind = "pipe";
	bool own = false, keep = false, nonblock = false;
	int option, count, backlog = 16, buffer = 0;

	while ((option = getopt(argc, argv, "+b:c:ikl:np:r:s:t:")) != -1)
		switch (option) {
		case 'b': backlog = atoi(optarg); break;
		case 'c': port = optarg; break;
		case 'i': own = true; break;
		case 'k': keep = true; break;
		case 'l': address = optarg; break;
		case 'n': nonblock = true; break;
		case 'p': file = optarg; break;
		case 'r': buffer = atoi(optarg); break;
		case 's': kind = optarg; break;
		case 't': limit = (unsigned)atoi(optarg); break;
		default: usage();
		}
	argv += optind;
	for (count = 0; argv[count] != NULL && strcmp(argv[count], "--") != 0; count++)
		;
	peer_begin();
	if (own) {
		e.in = 0;
		e.out = 1;
	} else if (argv[count] != NULL && argv[count + 1] != NULL)
		command_start(&e, argv + count + 1, kind, keep, nonblock);
	else if (port != NULL) {
		e.there = address_find(address, port);
		step_connect(&e, "");
	} else {
		e.listener = listener_open(address, backlog, buffer);
		listener_tell(e.listener, file);
	}
	script_run(&e, argv, count);
	return 0;
}
