/* SPDX-License-Identifier: ISC */

/*
 * driver measures one figure of one helper, as both of its neighbours at once: the program that
 * starts it, and the proxy and target that it talks to; or of one proxy that runs already, as its
 * client and its target; or of a relay and its client, two helpers of which the one talks to the
 * target and the other to it. "driver" without more says how it is called.
 *
 * The proxy answers any CONNECT with 200; what comes without one is a direct connection. Then the
 * target takes one line, the task, and answers "+": the first byte of the tunnel. The tasks:
 *
 *	down N	send N bytes			echo 0	send back what comes, until its end
 *	up N	read N bytes, then say "."	hold 0	nothing, for ever
 *	both N	both at once, then say "."
 *
 * Like ssh, the client writes its first line at once, without waiting for the tunnel; it passes no
 * shell on the way, and ends the helper by closing its pipes and SIGHUP. All clocks but that of
 * "start" run from the "+" to the last byte.
 */

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	CHUNK = 262144,			/* of a read or a write */
	LIMIT_DEFAULT = 120,		/* s */
	PATIENCE = 2000,		/* ms that a helper has to end */
	SETTLE = 500,			/* ms until a tunnel counts as idle */
	REST = 50,			/* ms without work after which a proxy counts as idle */
	HEAD_SIZE = 4096,
	GREETING = 4096,		/* bytes each way that an idle tunnel has carried before */
};

/* A tunnel that stands, and what made it cost, be that a helper, two, or a proxy; the helper may have gone since. */
struct tunnel {
	int in, out;
	pid_t helper;			/* 0: none, or it has ended */
	double cpu;			/* s; below 0: not known */
	long peak;			/* KiB */
};

static struct {
	const char *measure;
	char **command;			/* NULL: direct */
	bool fdpass, pinned;
	in_port_t via;			/* of the proxy to measure, in network order; 0: none */
	pid_t session;			/* of its processes */
	char **relay;			/* its command; the other is its client's */
	unsigned relay_port;		/* where it will listen; 0: there is none */
	unsigned long long count, at_once;
	unsigned limit;
} opt = { .at_once = 1, .limit = LIMIT_DEFAULT };

static char chunk[CHUNK] __attribute__((aligned(4096)));
static int listener;			/* of our own proxy and target */
static in_port_t port;			/* where it listens, in network order */
static volatile pid_t proxy, helper, relay;	/* to be ended with us */

/* --- messages, time, bytes ----------------------------------------------------------------------- */

static void processes_end(void)
{
	if (helper > 0)
		kill(-helper, SIGKILL);
	if (relay > 0)
		kill(-relay, SIGTERM);	/* that it may remove its files */
	if (proxy > 0)
		kill(proxy, SIGKILL);
}

__attribute__((format(printf, 1, 2)))
static _Noreturn void die(const char *format, ...)
{
	va_list words;

	processes_end();
	fprintf(stderr, "driver: %s: ", opt.measure ? opt.measure : "usage");
	va_start(words, format);
	vfprintf(stderr, format, words);
	va_end(words);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

static void give_up(int signal_number)
{
	static const char words[] = "driver: out of time, or interrupted\n";

	(void)signal_number;
	processes_end();
	_exit(write(STDERR_FILENO, words, sizeof words - 1) == -1 ? 2 : 1);
}

static double seconds_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double seconds_now(void)
{
	return seconds_of(CLOCK_MONOTONIC);
}

static void sleep_ms(unsigned long long ms)
{
	struct timespec rest = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

	while (nanosleep(&rest, &rest) == -1 && errno == EINTR)
		;
}

static int order(const void *one, const void *other)
{
	double a = *(const double *)one, b = *(const double *)other;

	return (a > b) - (a < b);
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof *values, order);
	return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

/* At least one byte; 0 is the end. A reset is an end too: a helper may be ended at any time. */
static size_t bytes_some(int fd, char *to, size_t size)
{
	ssize_t got;

	do
		got = read(fd, to, size);
	while (got == -1 && errno == EINTR);
	if (got == -1 && errno != ECONNRESET)
		die("read: %s", strerror(errno));
	return got == -1 ? 0 : (size_t)got;
}

/* Whoever reads misses the bytes that can no longer be written. */
static void bytes_write(int fd, const char *from, size_t size)
{
	while (size > 0) {
		ssize_t put = write(fd, from, size);

		if (put == -1 && errno == EINTR)
			continue;
		if (put == -1 && (errno == EPIPE || errno == ECONNRESET))
			return;
		if (put == -1)
			die("write: %s", strerror(errno));
		from += put;
		size -= (size_t)put;
	}
}

static void bytes_send(int fd, unsigned long long count)
{
	for (; count > CHUNK; count -= CHUNK)
		bytes_write(fd, chunk, CHUNK);
	bytes_write(fd, chunk, (size_t)count);
}

static void bytes_discard(int fd, unsigned long long count)
{
	while (count > 0) {
		size_t got = bytes_some(fd, chunk, count < CHUNK ? (size_t)count : CHUNK);

		if (got == 0)
			die("the stream ended %llu bytes early", count);
		count -= got;
	}
}

/* Sends in another process, so that neither direction waits for the other; returns when both are done. */
static void bytes_exchange(int in, int out, unsigned long long count)
{
	int status;
	pid_t sender = fork();

	if (sender == 0) {
		bytes_send(out, count);
		_exit(EXIT_SUCCESS);
	}
	bytes_discard(in, count);
	if (sender == -1 || waitpid(sender, &status, 0) == -1 || status != 0)
		die("cannot send and read at once");
}

/* --- the proxy and its target ---------------------------------------------------------------------- */

static void listener_open(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t size = sizeof at;

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener == -1 || bind(listener, (struct sockaddr *)&at, sizeof at) == -1 || listen(listener, SOMAXCONN) == -1 ||
	    getsockname(listener, (struct sockaddr *)&at, &size) == -1)
		die("cannot listen: %s", strerror(errno));
	port = at.sin_port;
}

static int listener_accept(void)
{
	int fd;

	do
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	while (fd == -1 && errno == EINTR);
	if (fd == -1)
		die("accept: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	return fd;
}

/* Behind a head nothing comes before it is answered. */
static void head_read(int fd, char head[HEAD_SIZE])
{
	size_t length = 0, got = 1;

	memset(head, 0, HEAD_SIZE);
	while (got > 0 && length < HEAD_SIZE - 1 && !strstr(head, "\r\n\r\n")) {
		got = bytes_some(fd, head + length, HEAD_SIZE - 1 - length);
		length += got;
	}
}

/* Answers a CONNECT if the connection begins with one. */
static void connect_answer(int fd)
{
	static const char answer[] = "HTTP/1.1 200 Connection established\r\n\r\n";
	char head[HEAD_SIZE] = "";

	if (recv(fd, head, 1, MSG_PEEK) != 1 || *head != 'C')
		return;
	head_read(fd, head);
	bytes_write(fd, answer, sizeof answer - 1);
}

static void echo(int fd)
{
	char bytes[4096];
	size_t got;

	while ((got = bytes_some(fd, bytes, sizeof bytes)) > 0)
		bytes_write(fd, bytes, got);
}

static void target_serve(int fd)
{
	char line[64] = "", task[8];
	size_t length = 0, got = 1;
	unsigned long long count;

	while (got > 0 && length < sizeof line - 1 && !strchr(line, '\n')) {
		got = bytes_some(fd, line + length, sizeof line - 1 - length);
		length += got;
	}
	if (sscanf(line, "%7s %llu", task, &count) != 2)
		return;
	bytes_write(fd, "+", 1);
	if (strcmp(task, "hold") == 0)
		pause();
	if (strcmp(task, "down") == 0)
		bytes_send(fd, count);
	if (strcmp(task, "up") == 0)
		bytes_discard(fd, count);
	if (strcmp(task, "both") == 0)
		bytes_exchange(fd, fd, count);
	if (strcmp(task, "up") == 0 || strcmp(task, "both") == 0)
		bytes_write(fd, ".", 1);
	echo(fd);
}

/* Gives the connection to a command of its own, as inetd would. */
static void command_serve(int fd)
{
	if (fork() != 0)
		return;
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	execvp(opt.command[0], opt.command);
	die("%s: %s", opt.command[0], strerror(errno));
}

/* One connection after the other. What breaks one is no matter here: its client complains. */
static _Noreturn void proxy_run(void (*serve)(int))
{
	for (;;) {
		int fd = listener_accept();

		connect_answer(fd);
		serve(fd);
		close(fd);
	}
}

static void proxy_start(void)
{
	proxy = fork();
	if (proxy == -1)
		die("fork: %s", strerror(errno));
	if (proxy == 0) {
		alarm(opt.limit + 1);
		proxy_run(target_serve);
	}
	close(listener);
}

/* --- the processes of the proxy to measure -------------------------------------------------------------- */

/*
 * CPU seconds of a process, of its threads, and of its children that have ended: of those in the kernel's ticks only,
 * and not if it ignores SIGCHLD.
 */
static double process_cpu(pid_t pid)
{
	char name[64], line[1024] = "", *end;
	unsigned long user = 0, system = 0;
	struct timespec own = { .tv_sec = 0 };
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) == 0)
		clock_gettime(clock, &own);
	snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
	FILE *stat = fopen(name, "r");
	if (stat && fgets(line, sizeof line, stat) && (end = strrchr(line, ')')))
		sscanf(end, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %lu %lu", &user, &system);
	if (stat)
		fclose(stat);
	return (double)own.tv_sec + (double)own.tv_nsec / 1e9 + (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* The sum of the lines "FIELD: N kB" that a file of a process has. */
static double process_field(pid_t pid, const char *file, const char *field)
{
	char name[64], line[256];
	size_t length = strlen(field);
	double sum = 0;

	snprintf(name, sizeof name, "/proc/%d/%s", (int)pid, file);
	FILE *from = fopen(name, "r");
	while (from && fgets(line, sizeof line, from))
		if (strncmp(line, field, length) == 0 && line[length] == ':')
			sum += strtod(line + length + 1, NULL);
	if (from)
		fclose(from);
	return sum;
}

/* KiB that go when the process goes: its private memory, and its page tables. */
static double process_memory(pid_t pid)
{
	return process_field(pid, "smaps_rollup", "Private_Clean") + process_field(pid, "smaps_rollup", "Private_Dirty") +
	       process_field(pid, "status", "VmPTE");
}

/* The sum over all processes of the proxy. */
static double session_sum(double (*of_process)(pid_t))
{
	DIR *all = opt.session ? opendir("/proc") : NULL;
	const struct dirent *entry;
	double sum = 0;

	while (all && (entry = readdir(all))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid > 0 && getsid(pid) == opt.session)
			sum += of_process(pid);
	}
	if (all)
		closedir(all);
	return sum;
}

/* Waits until the proxy has nothing more to do, and returns the CPU seconds that it has used until then. */
static double session_rest(void)
{
	double before, now = session_sum(process_cpu);
	int ms = 0;

	do {
		before = now;
		sleep_ms(REST);
		now = session_sum(process_cpu);
	} while (now - before > REST / 1e3 / 100 && (ms += REST) < PATIENCE);
	return now;
}

/* --- what a command and all that it starts cost ----------------------------------------------------------- */

/*
 * A clock of the kernel's, "task-clock" of perf(1): the nanoseconds that a task was on a processor, in user and system
 * mode. With all, it also runs for every process that the task starts from then on, and for what those start, whether
 * they have ended or not, and whether anybody waits for them: wait4 and /proc know nothing of the children of a
 * process that ignores SIGCHLD, as a pump does, whose connections are made by some.
 */
static int clock_open(bool all)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_TASK_CLOCK, .size = sizeof attributes, .inherit = all,
		.exclude_kernel = 1,	/* system time is counted nevertheless, and nobody has to be root */
	};

	return (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static double clock_seconds(int clock)
{
	uint64_t ns = 0;

	return read(clock, &ns, sizeof ns) == sizeof ns ? (double)ns / 1e9 : -1;
}

/* Of the processes that were started since both clocks were opened; the target is older. */
static double clocks_children(int all, int own)
{
	double seconds = clock_seconds(all);

	return seconds < 0 ? -1 : seconds - clock_seconds(own);
}

/* --- the client: a tunnel, as ssh would have it ------------------------------------------------------ */

/* Replaces %h, %p and %P in a word of the helper's command line. */
static char *word_expand(const char *word)
{
	size_t size = strlen(word) * 10 + 1;
	char *expanded = calloc(size, 1);

	if (!expanded)
		die("out of memory");
	for (char *to = expanded; *word; word++) {
		const char *at = *word == '%' && word[1] ? strchr("hpP", word[1]) : NULL;

		if (!at) {
			*to++ = *word;
			continue;
		}
		to += *at == 'h' ? sprintf(to, "target") : sprintf(to, "%d", *at == 'p' ? 22 : ntohs(port));
		word++;
	}
	return expanded;
}

static void command_expand(char **command)
{
	for (char **word = command; word && *word; word++)
		*word = word_expand(*word);
}

/* Starts a command between two descriptors; in a group of its own, so that what it starts ends with it. */
static pid_t command_start(char **command, int in, int out)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t pipe_signal;
	pid_t pid;

	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigdefault(&attributes, &pipe_signal);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	int error = posix_spawnp(&pid, command[0], &actions, &attributes, command, environ);
	if (error)
		die("%s: %s", command[0], strerror(error));
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	close(in);
	if (out != in)
		close(out);
	return pid;
}

/* The peak of a process that still has its memory. That of wait4 is never below what its parent had at the fork. */
static long peak_read(pid_t pid)
{
	char name[64], line[256];
	long peak = 0;

	snprintf(name, sizeof name, "/proc/%d/status", (int)pid);
	FILE *status = fopen(name, "r");
	while (status && fgets(line, sizeof line, status))
		if (sscanf(line, "VmHWM: %ld", &peak) == 1)
			break;
	if (status)
		fclose(status);
	return peak;
}

static bool command_has_ended(pid_t pid)
{
	siginfo_t info = { .si_pid = 0 };

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == -1 || info.si_pid != 0;
}

/* Asks a command to end, and sees to it that it does, and all that it has left; it is still to be waited for. */
static void command_end(pid_t pid, int signal_number)
{
	kill(pid, signal_number);
	for (int ms = 0; ms < PATIENCE && !command_has_ended(pid); ms++)
		sleep_ms(1);
	kill(-pid, SIGKILL);
}

/* Waits until the helper has ended. A traced one stops within its exit, where its peak can still be read. */
static void helper_wait(struct tunnel *tunnel)
{
	struct rusage usage;
	int status;

	for (;;) {
		if (wait4(tunnel->helper, &status, 0, &usage) == -1)
			die("wait4: %s", strerror(errno));
		if (!WIFSTOPPED(status))
			break;
		bool exits = status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8);

		if (exits)
			tunnel->peak = peak_read(tunnel->helper);
		ptrace(PTRACE_CONT, tunnel->helper, NULL, exits ? 0L : (long)WSTOPSIG(status));
	}
	tunnel->cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		      (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	tunnel->helper = helper = 0;
}

static int socket_connect(in_port_t where)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = where, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd == -1 || connect(fd, (struct sockaddr *)&to, sizeof to) == -1)
		die("cannot connect: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	return fd;
}

/* Asks the proxy to measure for a tunnel to our listener. */
static int connect_ask(void)
{
	char head[128];
	int fd = socket_connect(opt.via), to = ntohs(port);
	int length = snprintf(head, sizeof head, "CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", to, to);

	bytes_write(fd, head, (size_t)length);
	return fd;
}

static void connect_await(int fd)
{
	char head[HEAD_SIZE];

	head_read(fd, head);
	if (strncmp(head, "HTTP/1.", 7) != 0 || strncmp(head + 8, " 2", 2) != 0)
		die("no tunnel: %.*s", (int)strcspn(head, "\r\n"), head);
}

/* Without a helper: to the target, or through the proxy to measure. */
static struct tunnel tunnel_direct(void)
{
	int fd = opt.via ? connect_ask() : socket_connect(port);

	if (opt.via)
		connect_await(fd);
	return (struct tunnel){ .in = fd, .out = fd };
}

static struct tunnel tunnel_pipes(void)
{
	int up[2], down[2];

	if (pipe2(up, O_CLOEXEC) == -1 || pipe2(down, O_CLOEXEC) == -1)
		die("pipe: %s", strerror(errno));
	helper = command_start(opt.command, up[0], down[1]);
	return (struct tunnel){ .in = down[0], .out = up[1], .helper = helper };
}

static int descriptor_receive(int from)
{
	char byte;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec payload = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &payload, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control,
	};
	int fd;

	if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&message))
		die("no descriptor was passed");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

/* Like ssh, waits for the helper's exit before the first use. The tracing is left out where it could cost time. */
static struct tunnel tunnel_passed(void)
{
	struct tunnel tunnel = { .helper = 0 };
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == -1)
		die("socketpair: %s", strerror(errno));
	helper = command_start(opt.command, ends[1], ends[1]);
	tunnel.helper = helper;
	if (strcmp(opt.measure, "start") != 0)
		ptrace(PTRACE_SEIZE, helper, NULL, (long)PTRACE_O_TRACEEXIT);
	tunnel.in = tunnel.out = descriptor_receive(ends[0]);
	close(ends[0]);
	helper_wait(&tunnel);
	return tunnel;
}

/* Whether somebody listens on a port, whom no attempt to connect is to confuse. */
static bool port_listens(unsigned number)
{
	FILE *sockets = fopen("/proc/net/tcp", "r");
	char line[256];
	unsigned local, state;
	bool listens = false;

	while (sockets && !listens && fgets(line, sizeof line, sockets))
		listens = sscanf(line, " %*u: %*x:%x %*x:%*x %x", &local, &state) == 2 && local == number && state == TCP_LISTEN;
	if (sockets)
		fclose(sockets);
	return listens;
}

static void relay_start(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	relay = command_start(opt.relay, null, null);
	while (!port_listens(opt.relay_port)) {
		if (command_has_ended(relay))
			die("%s: it does not listen", opt.relay[0]);
		sleep_ms(1);
	}
}

static void relay_stop(void)
{
	command_end(relay, SIGTERM);
	waitpid(relay, NULL, 0);
	relay = 0;
}

/* A tunnel at which the target has its task and said "+". */
static struct tunnel tunnel_open(const char *task, unsigned long long count)
{
	char line[64], byte = 0;
	int length = snprintf(line, sizeof line, "%s %llu\n", task, count);

	if (opt.relay)
		relay_start();
	struct tunnel tunnel = !opt.command ? tunnel_direct() : opt.fdpass ? tunnel_passed() : tunnel_pipes();
	bytes_write(tunnel.out, line, (size_t)length);
	if (bytes_some(tunnel.in, &byte, 1) == 0 || byte != '+')
		die("the tunnel does not stand");
	return tunnel;
}

/* Ends what is left of a tunnel, and completes what it cost. */
static void tunnel_close(struct tunnel *tunnel)
{
	if (tunnel->helper)
		tunnel->peak = peak_read(tunnel->helper);
	close(tunnel->in);
	if (tunnel->out != tunnel->in)
		close(tunnel->out);
	if (!tunnel->helper)
		return;
	command_end(tunnel->helper, SIGHUP);
	helper_wait(tunnel);
	if (opt.relay)
		relay_stop();
}

/* --- the measures -------------------------------------------------------------------------------------- */

static void print_result(double value, const char *unit, const struct tunnel *tunnel)
{
	printf("measure=%s value=%.6g unit=%s cpu=%.6f peak=%ld\n", opt.measure, value, unit, tunnel->cpu, tunnel->peak);
}

/*
 * The proxy's CPU time is read while its processes are all there, as the kernel then has it to the nanosecond; that of
 * a relay and its client when both have ended, and is all that they have used.
 */
static void measure_transfer(void)
{
	int all = opt.relay ? clock_open(true) : -1, own = opt.relay ? clock_open(false) : -1;
	double used = session_sum(process_cpu);
	struct tunnel tunnel = tunnel_open(opt.measure, opt.count);
	double start = seconds_now();

	if (strcmp(opt.measure, "down") == 0)
		bytes_discard(tunnel.in, opt.count);
	if (strcmp(opt.measure, "up") == 0)
		bytes_send(tunnel.out, opt.count);
	if (strcmp(opt.measure, "both") == 0)
		bytes_exchange(tunnel.in, tunnel.out, opt.count);
	if (strcmp(opt.measure, "down") != 0)
		bytes_discard(tunnel.in, 1);
	double seconds = seconds_now() - start;
	used = session_sum(process_cpu) - used;
	tunnel_close(&tunnel);
	tunnel.cpu = opt.relay ? clocks_children(all, own) : tunnel.cpu + used;
	print_result(seconds, "s", &tunnel);
}

static double *values_allocate(void)
{
	double *values = calloc(opt.count, sizeof *values);

	if (!values)
		die("out of memory");
	return values;
}

/* The name of the measure ends in the number of bytes. */
static void measure_round_trip(void)
{
	size_t size = strtoul(opt.measure + 3, NULL, 10);
	double *values = values_allocate();
	struct tunnel tunnel = tunnel_open("echo", 0);
	for (unsigned long long i = 0; i < opt.count; i++) {
		double start = seconds_now();

		bytes_write(tunnel.out, chunk, size);
		bytes_discard(tunnel.in, size);
		values[i] = (seconds_now() - start) * 1e6;
	}
	tunnel_close(&tunnel);
	print_result(median(values, opt.count), "us", &tunnel);
}

/* The cost is that of the last. */
static void measure_start(void)
{
	double *values = values_allocate();
	struct tunnel tunnel;

	for (unsigned long long i = 0; i < opt.count; i++) {
		double start = seconds_now();

		tunnel = tunnel_open("echo", 0);
		values[i] = (seconds_now() - start) * 1e6;
		tunnel_close(&tunnel);
	}
	print_result(median(values, opt.count), "us", &tunnel);
}

/* Prints from when to when the tunnel stood idle, for whoever has the helper's system calls and their times. */
static void measure_idle(void)
{
	struct tunnel tunnel = tunnel_open("hold", 0);

	if (strcmp(opt.measure, "half") == 0) {
		if (!opt.command || opt.fdpass)
			die("a socket is half-closed without a helper");
		close(tunnel.out);
		tunnel.out = tunnel.in;
	}
	sleep_ms(SETTLE);
	double start = seconds_of(CLOCK_REALTIME);
	sleep_ms(opt.count * 1000);
	double end = seconds_of(CLOCK_REALTIME);
	bool ended = tunnel.helper == 0 || command_has_ended(tunnel.helper);
	printf("measure=%s from=%.6f to=%.6f ended=%d\n", opt.measure, start, end, ended);
	tunnel_close(&tunnel);
}

/*
 * Opens tunnels that end here as well; all are asked for before the first one is awaited. Which far end belongs to
 * which near one is unknown, and the same to what is sent.
 */
static void ends_open(int *near, int *far, size_t count)
{
	for (size_t i = 0; i < count; i++)
		near[i] = connect_ask();
	for (size_t i = 0; i < count; i++) {
		connect_await(near[i]);
		far[i] = listener_accept();
	}
}

static void ends_carry(const int *from, const int *to, size_t count, size_t size)
{
	for (size_t i = 0; i < count; i++)
		bytes_write(from[i], chunk, size);
	for (size_t i = 0; i < count; i++)
		bytes_discard(to[i], size);
}

static void ends_close(const int *ends, size_t count)
{
	for (size_t i = 0; i < count; i++)
		close(ends[i]);
}

static int *ends_allocate(size_t count)
{
	int *ends = calloc(count, sizeof *ends);

	if (!ends)
		die("out of memory");
	return ends;
}

/* A tunnel is new until its first byte has come down. */
static void measure_new(void)
{
	struct tunnel cost = { .in = -1 };
	size_t some = opt.at_once;
	int *near = ends_allocate(some), *far = ends_allocate(some);
	double used = session_rest(), start = seconds_now();

	for (unsigned long long left = opt.count; left > 0; left -= some) {
		some = left < some ? (size_t)left : some;
		ends_open(near, far, some);
		ends_carry(far, near, some, 1);
		ends_close(near, some);
		ends_close(far, some);
	}
	double seconds = seconds_now() - start;
	cost.cpu = session_rest() - used;
	print_result((double)opt.count / seconds, "/s", &cost);
}

/* What each tunnel adds to the proxy's memory; the peak is the whole. */
static void measure_crowd(void)
{
	size_t count = opt.count;
	int *near = ends_allocate(count), *far = ends_allocate(count);
	struct tunnel cost = { .in = -1 };

	session_rest();
	double empty = session_sum(process_memory);
	for (size_t i = 0; i < count; i++)
		ends_open(near + i, far + i, 1);
	ends_carry(far, near, count, GREETING);
	ends_carry(near, far, count, GREETING);
	session_rest();
	double whole = session_sum(process_memory);
	cost.peak = (long)whole;
	print_result((whole - empty) / (double)count, "KiB", &cost);
}

/* --- options ---------------------------------------------------------------------------------------------- */

static const struct measure {
	const char *name;
	unsigned long long count;	/* the default of -n */
	void (*run)(void);
	bool is_target;			/* itself, and of a proxy only */
} measures[] = {
	{ "down", 1 << 30, measure_transfer, false },
	{ "up", 1 << 30, measure_transfer, false },
	{ "both", 1 << 30, measure_transfer, false },
	{ "rtt1", 20000, measure_round_trip, false },
	{ "rtt48", 20000, measure_round_trip, false },
	{ "start", 50, measure_start, false },
	{ "idle", 60, measure_idle, false },
	{ "half", 60, measure_idle, false },
	{ "new", 1000, measure_new, true },
	{ "crowd", 1000, measure_crowd, true },
	{ NULL, 0, NULL, false },
};

static const char usage[] =
	"usage: driver [-1f] [-n COUNT] [-t SECS] down|up|both|rtt1|rtt48|start|idle|half [COMMAND [ARG...]]\n"
	"       driver [-1] [-a N] [-n COUNT] [-t SECS] -p PORT -s SESSION down|up|both|new|crowd\n"
	"       driver [-1] [-n COUNT] [-t SECS] -r PORT down|up|rtt1|rtt48 RELAY [ARG...] -- COMMAND [ARG...]\n"
	"       driver [-t SECS] serve COMMAND [ARG...]\n"
	"\n"
	"Measures COMMAND as ssh's ProxyCommand, or a direct connection. In each ARG %P is the\n"
	"port of the proxy on 127.0.0.1, %h and %p the destination. Prints one line: the value (of\n"
	"down, up, both the seconds; of rtt and start the median in us), the CPU seconds of COMMAND\n"
	"and its peak resident KiB. serve gives each connection to COMMAND, and prints the port.\n"
	"\n"
	"With -p it measures the proxy that listens on PORT of 127.0.0.1, by whose processes' session\n"
	"their CPU seconds are known. The value of new is how many tunnels it made a second; that of\n"
	"crowd the KiB that an idle one takes, private and page tables, with those of all as the peak.\n"
	"\n"
	"With -r it also starts RELAY, which COMMAND leads to and which listens on PORT; %P is then the port\n"
	"of the target, which needs no proxy. Of down and up the CPU seconds are those of both, or -1.\n"
	"\n"
	"  -1         everything on one processor\n"
	"  -a N       ask for N new tunnels at once (1)\n"
	"  -f         COMMAND passes the socket back, as with ssh's ProxyUseFdpass\n"
	"  -n COUNT   of bytes (1G), round trips (20000), starts (50), idle seconds (60), tunnels (1000); k, M, G\n"
	"  -p PORT    measure the proxy there\n"
	"  -r PORT    measure a relay, that listens there, and its client\n"
	"  -s SESSION whose processes are the proxy's\n"
	"  -t SECS    the limit of it all (120)\n";

static unsigned long long count_parse(const char *text)
{
	static const char units[] = "kMG";
	char *end;
	unsigned long long count = strtoull(text, &end, 10);
	const char *unit = *end ? strchr(units, *end) : NULL;

	if (count == 0 || (*end && (!unit || end[1])))
		die("%s: not a number above 0", text);
	return unit ? count << 10 * (unit - units + 1) : count;
}

/* The words before "--" are the relay's, those behind it its client's. */
static void relay_split(void)
{
	opt.relay = opt.command;
	while (opt.command && *opt.command && strcmp(*opt.command, "--") != 0)
		opt.command++;
	if (!opt.command || !opt.command[0] || opt.command == opt.relay || !opt.command[1])
		die("a relay, --, and its client");
	*opt.command++ = NULL;
}

static void options(int argc, char **argv)
{
	int letter;

	while ((letter = getopt(argc, argv, "+1a:fn:p:r:s:t:")) != -1) {
		switch (letter) {
		case '1': opt.pinned = true; break;
		case 'a': opt.at_once = count_parse(optarg); break;
		case 'f': opt.fdpass = true; break;
		case 'n': opt.count = count_parse(optarg); break;
		case 'p': opt.via = htons((in_port_t)count_parse(optarg)); break;
		case 'r': opt.relay_port = (unsigned)count_parse(optarg); break;
		case 's': opt.session = (pid_t)count_parse(optarg); break;
		case 't': opt.limit = (unsigned)count_parse(optarg); break;
		default: exit(EXIT_FAILURE);
		}
	}
	if (optind == argc) {
		fputs(usage, stderr);
		exit(EXIT_FAILURE);
	}
	opt.measure = argv[optind];
	opt.command = optind + 1 < argc ? argv + optind + 1 : NULL;
	if (opt.relay_port)
		relay_split();
}

/* Nothing here waits for ever: when the time is up, it all ends. */
static void signals_set(void)
{
	struct sigaction action = { .sa_handler = give_up };

	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	alarm(opt.limit);
}

/*
 * Puts the helper and its neighbours on one processor, the last. Where the scheduler puts them otherwise decides
 * more about a round trip than any helper does: a processor that slept is slow to wake, most of all in a virtual machine.
 */
static void processor_pin(void)
{
	cpu_set_t all, one;
	int last = -1;

	if (sched_getaffinity(0, sizeof all, &all) == -1)
		die("sched_getaffinity: %s", strerror(errno));
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET((size_t)i, &all))
			last = i;
	CPU_ZERO(&one);
	CPU_SET((size_t)last, &one);
	if (sched_setaffinity(0, sizeof one, &one) == -1)
		die("sched_setaffinity: %s", strerror(errno));
}

static _Noreturn void serve(void)
{
	listener_open();
	if (!opt.command)
		die("what command?");
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	alarm(opt.limit);
	printf("%d\n", ntohs(port));
	fflush(stdout);
	proxy_run(command_serve);
}

int main(int argc, char **argv)
{
	const struct measure *measure = measures;

	options(argc, argv);
	if (strcmp(opt.measure, "serve") == 0)
		serve();
	signals_set();
	while (measure->name && strcmp(measure->name, opt.measure) != 0)
		measure++;
	if (!measure->name)
		die("no such measure");
	if (measure->is_target && (!opt.via || !opt.session))
		die("of a proxy: -p and -s");
	if (opt.count == 0)
		opt.count = measure->count;
	if (opt.pinned)
		processor_pin();
	memset(chunk, 'x', sizeof chunk);
	listener_open();
	command_expand(opt.command);
	command_expand(opt.relay);
	if (!measure->is_target)
		proxy_start();
	measure->run();
	processes_end();
	waitpid(proxy, NULL, 0);
	return EXIT_SUCCESS;
}
