/* SPDX-License-Identifier: ISC */
/*
 * inject: system calls of the program that fail, are cut short, or end it; for the tests. Preloaded:
 *
 *	env LD_PRELOAD=test/bin/inject.so INJECT='RULE...' [INJECT_LOG=FILE] [INJECT_SEED=N] proxytunnel ...
 *
 * A RULE is CALL:WHAT:WHEN. CALL is a function's name, or "all" of those that carry bytes or wait. WHAT is an errno's name,
 * "short" (fewer bytes than asked for, at least one), or "kill" (SIGKILL in place of the call). WHEN is N (the Nth
 * call of all processes together), *N (the Nth of each process), N+ (all calls of a process from its Nth on), or ~N (one in N, at
 * random).
 *
 * Only what a kernel may do is done: EAGAIN only where the call must not block, fewer bytes only of streams and files, and
 * calls that fail when their work is done, or is beyond doing, as close(2) and connect(2) may, do that. Each injection is a byte more in FILE.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALLS(DO) \
	DO(accept) DO(bind) DO(close) DO(connect) DO(dup2) DO(execvp) DO(fcntl) DO(fork) DO(fstat) DO(ftruncate) DO(getaddrinfo) \
	DO(getentropy) DO(getpeername) DO(getsockname) DO(getsockopt) DO(kill) DO(listen) DO(memfd_create) DO(mmap) DO(munmap) \
	DO(nanosleep) DO(open) DO(pipe) DO(poll) DO(ppoll) DO(pread) DO(pwrite) DO(read) DO(recv) DO(recvmsg) DO(send) DO(sendmsg) \
	DO(setsockopt) DO(shutdown) DO(socket) DO(socketpair) DO(splice) DO(waitpid) DO(write)

#define NUMBER(name) CALL_##name,
enum call { CALLS(NUMBER) CALL_COUNT };

#define NAME(name) #name,
static const char *const names[] = { CALLS(NAME) };

/* Those that carry bytes or wait. */
static const char in_all[] = " accept poll ppoll read recv recvmsg send sendmsg splice waitpid write ";

static const struct { const char *name; int number; } errors[] = {
#define ERROR(name) { #name, name }
	ERROR(EACCES), ERROR(EADDRINUSE), ERROR(EADDRNOTAVAIL), ERROR(EAGAIN), ERROR(ECHILD), ERROR(ECONNABORTED), ERROR(ECONNREFUSED),
	ERROR(ECONNRESET), ERROR(EFBIG), ERROR(EINTR), ERROR(EINVAL), ERROR(EIO), ERROR(EMFILE), ERROR(ENETUNREACH), ERROR(ENFILE),
	ERROR(ENOBUFS), ERROR(ENOENT), ERROR(ENOMEM), ERROR(ENOPROTOOPT), ERROR(ENOSPC), ERROR(ENOSYS), ERROR(ENOTCONN), ERROR(EPERM),
	ERROR(EPIPE), ERROR(ESRCH), ERROR(ETIMEDOUT),
};

enum { SHORT = -1, KILL = -2, RULES_MAX = 16, LOG_LEAST = 200, MESSAGE_MAX = 4096 };

static struct rule {
	bool calls[CALL_COUNT];
	int what;		/* an errno, SHORT or KILL */
	unsigned long when;
	char how;		/* '*', '+', '~', or 0 */
} rules[RULES_MAX];
static size_t rule_count;
static unsigned long counts[CALL_COUNT];
static atomic_ulong *counts_of_all;
static int log_fd = -1;
static uint64_t random_state;

/* The functions themselves. */
static void (*reals[CALL_COUNT])(void);
#define REAL(name) ((__typeof__(&(name)))reals[CALL_##name])

/* --- rules ----------------------------------------------------------- */

static _Noreturn void die(const char *what, const char *word)
{
	fprintf(stderr, "inject: %s: %s\n", what, word);
	_exit(99);
}

static void rule_add(char *text)
{
	struct rule *rule = &rules[rule_count++];
	char *call = strtok_r(text, ":", &text), *what = strtok_r(NULL, ":", &text), *when = strtok_r(NULL, ":", &text);
	char padded[32];
	bool is_known = false;
	size_t i = 0;

	if (rule_count > RULES_MAX || !call || !what || !when)
		die("no rule", call ? call : "");
	bool is_all = strcmp(call, "all") == 0;
	for (size_t number = 0; number < CALL_COUNT; number++) {
		snprintf(padded, sizeof padded, " %s ", names[number]);
		rule->calls[number] = is_all ? strstr(in_all, padded) != NULL : strcmp(names[number], call) == 0;
		is_known |= rule->calls[number];
	}
	if (!is_known)
		die("no such call", call);
	while (i < sizeof errors / sizeof *errors && strcmp(errors[i].name, what) != 0)
		i++;
	rule->what = strcmp(what, "short") == 0 ? SHORT : strcmp(what, "kill") == 0 ? KILL : i < sizeof errors / sizeof *errors ? errors[i].number : 0;
	if (rule->what == 0)
		die("no such error", what);
	rule->how = *when == '*' || *when == '~' ? *when++ : '\0';
	rule->when = strtoul(when, &when, 10);
	rule->how = *when == '+' ? *when : rule->how;
	if (rule->when == 0)
		die("never", what);
}

/* Those that this process starts are not preloaded with it. */
__attribute__((constructor))
static void inject_begin(void)
{
	char *text = getenv("INJECT"), *word, *seed = getenv("INJECT_SEED");

	if (getenv("INJECT_LOG")) /* it may not be let to the file later */
		log_fd = (int)syscall(SYS_openat, AT_FDCWD, getenv("INJECT_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (log_fd != -1)
		log_fd = (int)syscall(SYS_fcntl, log_fd, F_DUPFD_CLOEXEC, LOG_LEAST);
	random_state = seed ? strtoul(seed, NULL, 10) : 1;
	for (size_t i = 0; i < CALL_COUNT; i++)
		if (!(*(void **)&reals[i] = dlsym(RTLD_NEXT, names[i])))
			die("no function", names[i]);
	counts_of_all = REAL(mmap)(NULL, CALL_COUNT * sizeof *counts_of_all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts_of_all == MAP_FAILED)
		die("no memory", "mmap");
	text = strdup(text ? text : "");
	for (char *rest; (word = strtok_r(text, " ", &rest)); text = NULL)
		rule_add(word);
	unsetenv("LD_PRELOAD");
	unsetenv("INJECT");
}

/* xorshift64*, from another point in each process. */
static uint64_t random_next(void)
{
	static pid_t of;

	if (of != getpid()) {
		of = getpid();
		random_state = (random_state + (uint64_t)of) * 0x9e3779b97f4a7c15 | 1;
	}
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1d >> 33;
}

/* Whether the call with that number in its process, and that among all processes, is meant. */
static bool is_due(const struct rule *rule, unsigned long count, unsigned long of_all)
{
	return rule->how == '~' ? random_next() % rule->when == 0 : rule->how == '+' ? count >= rule->when :
	       (rule->how == '*' ? count : of_all) == rule->when;
}

/* Of so many bytes some, often only one. */
static size_t fewer(size_t size)
{
	uint64_t chance = random_next();

	return chance % 2 ? 1 : 1 + (size_t)(chance / 2) % (size - 1);
}

/* --- what can be said of descriptors --------------------------------- */

static bool is_blocking(int fd)
{
	int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);

	return flags == -1 || !(flags & O_NONBLOCK);
}

static bool socket_is(int fd, int option, int wanted)
{
	int value = -1, saved = errno;
	socklen_t size = sizeof value;

	syscall(SYS_getsockopt, fd, SOL_SOCKET, option, &value, &size);
	errno = saved;
	return value == wanted;
}

/* What one process tells another in so few bytes comes at once and whole, if it comes. */
static bool is_message(int fd, size_t size)
{
	return size <= MESSAGE_MAX && socket_is(fd, SO_DOMAIN, AF_UNIX);
}

/* How many bytes may be cut short: those that are left over must stay for the next call. */
static size_t stream_size(int fd, size_t size)
{
	return size > 1 && !is_message(fd, size) && !socket_is(fd, SO_TYPE, SOCK_DGRAM) ? size : 0;
}

static bool blocks(int fd, int flags, size_t size)
{
	return (!(flags & MSG_DONTWAIT) && is_blocking(fd)) || is_message(fd, size);
}

/* --- what is done with a call ------------------------------------------ */

/*
 * What may be done with a call: waitpid(2) is interrupted only while it waits, and processes of ours are not parted from each
 * other while both are there.
 */
static bool is_possible(int call, int fd, int what, bool may_block, size_t size)
{
	if (call == CALL_waitpid && (what == EINTR || what == EAGAIN))
		return may_block && what == EINTR;
	if (fd != -1 && (what == ECONNRESET || what == EPIPE || what == ETIMEDOUT))
		return !socket_is(fd, SO_DOMAIN, AF_UNIX);
	return what == SHORT ? size > 1 : what != EAGAIN || !may_block;
}

/* Counts a call that carries so many bytes, or none; returns the errno to fail with, SHORT, or 0. */
static int inject(int call, int fd, bool may_block, size_t size)
{
	int saved = errno;
	unsigned long count = ++counts[call], of_all = atomic_fetch_add(&counts_of_all[call], 1) + 1;

	for (size_t i = 0; i < rule_count; i++) {
		if (!rules[i].calls[call] || !is_possible(call, fd, rules[i].what, may_block, size) || !is_due(&rules[i], count, of_all))
			continue;
		if (log_fd != -1)
			syscall(SYS_write, log_fd, "x", 1);
		if (rules[i].what == KILL)
			syscall(SYS_kill, getpid(), SIGKILL);
		errno = saved;
		return rules[i].what;
	}
	errno = saved;
	return 0;
}

/* --- the calls --------------------------------------------------------- */

#define FAIL(error) return errno = (error), -1

/* One that fails, or not. */
#define PLAIN(name, result, parameters, arguments) \
	result name parameters \
	{ \
		int error = inject(CALL_##name, -1, true, 0); \
		if (error != 0) \
			FAIL(error); \
		return REAL(name) arguments; \
	}

PLAIN(bind, int, (int fd, __CONST_SOCKADDR_ARG at, socklen_t size), (fd, at, size))
PLAIN(dup2, int, (int from, int to), (from, to))
PLAIN(execvp, int, (const char *file, char *const words[]), (file, words))
PLAIN(fstat, int, (int fd, struct stat *status), (fd, status))
PLAIN(ftruncate, int, (int fd, off_t size), (fd, size))
PLAIN(getentropy, int, (void *bytes, size_t size), (bytes, size))
PLAIN(getpeername, int, (int fd, __SOCKADDR_ARG at, socklen_t *restrict size), (fd, at, size))
PLAIN(getsockname, int, (int fd, __SOCKADDR_ARG at, socklen_t *restrict size), (fd, at, size))
PLAIN(getsockopt, int, (int fd, int level, int name, void *restrict value, socklen_t *restrict size), (fd, level, name, value, size))
PLAIN(kill, int, (pid_t pid, int number), (pid, number))
PLAIN(listen, int, (int fd, int backlog), (fd, backlog))
PLAIN(memfd_create, int, (const char *name, unsigned flags), (name, flags))
PLAIN(munmap, int, (void *at, size_t size), (at, size))
PLAIN(nanosleep, int, (const struct timespec *time, struct timespec *left), (time, left))
PLAIN(pipe, int, (int ends[2]), (ends))
PLAIN(poll, int, (struct pollfd *set, nfds_t count, int patience), (set, count, patience))
PLAIN(ppoll, int, (struct pollfd *set, nfds_t count, const struct timespec *patience, const sigset_t *mask), (set, count, patience, mask))
PLAIN(setsockopt, int, (int fd, int level, int name, const void *value, socklen_t size), (fd, level, name, value, size))
PLAIN(shutdown, int, (int fd, int how), (fd, how))
PLAIN(socket, int, (int family, int type, int protocol), (family, type, protocol))
PLAIN(socketpair, int, (int family, int type, int protocol, int ends[2]), (family, type, protocol, ends))

pid_t waitpid(pid_t pid, int *status, int flags)
{
	int error = inject(CALL_waitpid, -1, !(flags & WNOHANG), 0);

	if (error != 0)
		FAIL(error);
	return REAL(waitpid)(pid, status, flags);
}

static pid_t fork_by(pid_t (*real)(void))
{
	int error = inject(CALL_fork, -1, false, 0);
	pid_t child = error == 0 ? real() : -1;

	if (error != 0)
		FAIL(error);
	if (child == 0)
		memset(counts, 0, sizeof counts);
	return child;
}

pid_t fork(void)
{
	return fork_by(REAL(fork));
}

/* Counts as fork. An old glibc has none. */
pid_t _Fork(void)
{
	pid_t (*real)(void);

	*(void **)&real = dlsym(RTLD_NEXT, "_Fork");
	return fork_by(real);
}

int close(int fd)
{
	int error = inject(CALL_close, -1, true, 0), closed = REAL(close)(fd);

	if (error != 0)
		FAIL(error);
	return closed;
}

int connect(int fd, __CONST_SOCKADDR_ARG at, socklen_t size)
{
	int error = inject(CALL_connect, -1, is_blocking(fd), 0);
	int done = error == 0 || error == EINTR ? REAL(connect)(fd, at, size) : -1;

	if (error != 0)
		FAIL(error);
	return done;
}

int accept(int fd, __SOCKADDR_ARG at, socklen_t *restrict size)
{
	int error = inject(CALL_accept, -1, is_blocking(fd), 0);

	if (error != 0)
		FAIL(error);
	return REAL(accept)(fd, at, size);
}

int fcntl(int fd, int command, ...)
{
	int error = command == F_GETFD ? 0 : inject(CALL_fcntl, -1, true, 0); /* which asks only whether there is such a descriptor */
	va_list rest;

	va_start(rest, command);
	void *word = va_arg(rest, void *);
	va_end(rest);
	if (error != 0)
		FAIL(error);
	return REAL(fcntl)(fd, command, word);
}

int open(const char *path, int flags, ...)
{
	int error = inject(CALL_open, -1, true, 0);
	va_list rest;

	va_start(rest, flags);
	mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
	va_end(rest);
	if (error != 0)
		FAIL(error);
	return REAL(open)(path, flags, mode);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t from)
{
	int error = inject(CALL_mmap, -1, true, 0);

	if (error == 0)
		return REAL(mmap)(at, size, protection, flags, fd, from);
	errno = error;
	return MAP_FAILED;
}

int getaddrinfo(const char *restrict host, const char *restrict port, const struct addrinfo *restrict hints, struct addrinfo **restrict list)
{
	int error = inject(CALL_getaddrinfo, -1, true, 0);

	errno = error != 0 ? error : errno;
	return error == ENOMEM ? EAI_MEMORY : error == EAGAIN ? EAI_AGAIN : error != 0 ? EAI_SYSTEM :
	       REAL(getaddrinfo)(host, port, hints, list);
}

/* A connection that is lost is lost for both sides, and for all that follows. */
static ssize_t fail(int fd, int error)
{
	if ((error == ECONNRESET || error == EPIPE || error == ETIMEDOUT) &&
	    syscall(SYS_connect, fd, &(struct sockaddr){ .sa_family = AF_UNSPEC }, sizeof(struct sockaddr)) == -1)
		syscall(SYS_shutdown, fd, SHUT_RDWR);
	FAIL(error);
}

/* One that carries bytes of a descriptor. */
#define CARRIES(name, parameters, is_whole, may_block, ...) \
	ssize_t name parameters \
	{ \
		int error = inject(CALL_##name, fd, may_block, is_whole ? 0 : stream_size(fd, size)); \
		if (error > 0) \
			return fail(fd, error); \
		size = error == SHORT ? fewer(size) : size; \
		return REAL(name)(__VA_ARGS__); \
	}

CARRIES(read, (int fd, void *bytes, size_t size), false, is_blocking(fd), fd, bytes, size)
CARRIES(recv, (int fd, void *bytes, size_t size, int flags), flags & MSG_WAITALL, blocks(fd, flags, size), fd, bytes, size, flags)
CARRIES(send, (int fd, const void *bytes, size_t size, int flags), false, blocks(fd, flags, size), fd, bytes, size, flags)
CARRIES(pread, (int fd, void *bytes, size_t size, off_t at), false, true, fd, bytes, size, at)
CARRIES(pwrite, (int fd, const void *bytes, size_t size, off_t at), false, true, fd, bytes, size, at)
CARRIES(splice, (int fd, off_t *from, int to, off_t *at, size_t size, unsigned flags), false, false, fd, from, to, at, size, flags)

static bool is_stderr(int fd)
{
	struct stat one, other;

	return fd == 2 || (REAL(fstat)(fd, &one) == 0 && REAL(fstat)(2, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino);
}

/* What a message is written to is left alone, as it would not say what has happened. */
ssize_t write(int fd, const void *bytes, size_t size)
{
	int error = is_stderr(fd) ? 0 : inject(CALL_write, -1, is_blocking(fd), stream_size(fd, size));

	if (error > 0)
		FAIL(error);
	return REAL(write)(fd, bytes, error == SHORT ? fewer(size) : size);
}

/* Cut short is only what has one piece of bytes, or the first of several, and no descriptors. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	bool is_whole = message->msg_controllen > 0 || message->msg_iovlen == 0;
	size_t size = is_whole ? 0 : message->msg_iov->iov_len;
	int error = inject(CALL_sendmsg, fd, blocks(fd, flags, size), stream_size(fd, size));

	if (error > 0)
		return fail(fd, error);
	return error == SHORT ? REAL(send)(fd, message->msg_iov->iov_base, fewer(message->msg_iov->iov_len), flags) :
	       REAL(sendmsg)(fd, message, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	int error = inject(CALL_recvmsg, fd, blocks(fd, flags, 0), 0);

	if (error != 0)
		FAIL(error);
	return REAL(recvmsg)(fd, message, flags);
}
