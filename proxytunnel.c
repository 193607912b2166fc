/* SPDX-License-Identifier: ISC */

/*
 * proxytunnel carries stdin and stdout to a host that only HTTP proxies lead to.
 *
 * Each section rests on those above it:
 *
 * messages     one escaped line on stderr: note, warn, die
 * signals      what ends a process before its work does, the time limit too: deadline_stage, signals_await
 * text         numbers, host:port, URLs, no_proxy: authority_parse, proxy_parse, no_proxy_names
 * http         heads, read to their last byte and no further, and bodies: http_take_head, http_field, body_take
 * dial         reaching a host: net_dial, net_reach
 * net          being reached, and what sockets carry: net_listen, net_send, fds_pass
 * commands     programs behind a socket: command_start, command_reach
 * credentials  where they come from: credentials_add, passfile_read, credentials_ask
 * ntlm         NTLM and Negotiate, spoken by ntlm_auth(1): ntlm_start, ntlm_ask
 * connect      the CONNECT exchange: connect_through
 * lanes        one direction of a tunnel, past user space where that can be: lane_want, lane_move
 * shuttle      bytes both ways until both ends are done: shuttle, bridge_run
 * tls          openssl(1) on a stream that stands already: tls_start
 * scoreboard   what a listener and its workers share: worker_enter, worker_stand
 * requests     what a client of a server asks for, and how it is answered: request_parse, client_refuse
 * access       who may have what: client_login, allow_fit, addresses_filter
 * sessions     tunnels without CONNECT, in memory of their own: relay_request_parse, session_lock
 * listener     workers, and the sessions that they serve: listener_run, worker_next
 * replies      what each of a session's requests does: session_serve
 * serving      what clients ask for, if they may have it: serve
 * route        a stream to where the tunnel, or its requests, go: route_open
 * carriers     what the processes of a tunnel over a relay share: upstream_receive, downstream_send
 * exchange     a request to the relay, and its answer: exchange_run, exchange_read, request_compose
 * sender       what the tunnel brings, in PUTs: sender_run
 * receiver     what the relay has, by GETs, into the tunnel: receiver_run
 * tunnel       a sender and a receiver, started anew when they fail: tunnel_run
 * relay        the client's side of a tunnel without CONNECT: relay_open
 * ends         the far end, and what it is joined to or handed to: tunnel_open, near_open, fdpass
 * lines        those of other tools, answered with the line to write here: lines_check
 * words        the command line, word by word: words_take, operands
 * sources      what the command line leaves open: hops_complete, credentials_complete
 * options      all of it together, and main: options
 */

#if defined PORTABLE && defined __linux__
#undef _GNU_SOURCE
#define _POSIX_C_SOURCE 200809L	/* to show that this suffices; a BSD would hide what its systems share with Linux */
#endif

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base64.h"

/*
 * What is used beyond POSIX.1-2008. Linux and the BSDs share sysexits.h, MSG_DONTWAIT, MSG_CMSG_CLOEXEC, CMSG_LEN,
 * CMSG_SPACE, SOCK_CLOEXEC, SOCK_NONBLOCK, and what Linux hides where only that is asked for. Its own has a stand-in.
 */
#ifndef PORTABLE
#include <sys/prctl.h>
#else
#ifdef __linux__
#ifndef MAP_ANONYMOUS
#include <asm/mman.h>
#endif
void explicit_bzero(void *, size_t);
int getentropy(void *, size_t);
int inet_aton(const char *, struct in_addr *);
int ppoll(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
int setgroups(size_t, const gid_t *);
#endif
#undef F_GETPIPE_SZ		/* who includes this file may have included fcntl.h */
#undef F_SETPIPE_SZ
#define F_GETPIPE_SZ (-1)	/* which fails, and so does splice: a lane keeps its buffer */
#define F_SETPIPE_SZ F_GETPIPE_SZ
#define splice(in, at, out, to, length, flags) ((void)(in), (void)(out), errno = ENOSYS, (ssize_t)-1)
#define memfd_create(name, flags) (-1)	/* a session is in a file */
#define prctl(...) ((void)0)	/* a child ends as its stream does */
#define madvise(at, ...) ((void)(at))
#undef POLLRDHUP
#define POLLRDHUP 0		/* a client that has gone is noticed by the next heartbeat */
#endif

#if defined PORTABLE || __GLIBC__ * 100 + __GLIBC_MINOR__ < 234
#define _Fork fork
#endif

#ifndef __OpenBSD__
#define pledge(promises, more) 0
#endif

enum {
	WORDS_SIZE = 256,		/* the last words of a process that another waits for */
	MESSAGE_MAX = 2048,		/* a message, before it is escaped */
	LINE_SIZE = 4096,		/* a message: a pipe takes it whole, or not (PIPE_BUF) */
	HOST_MAX = 255,			/* RFC 1035 2.3.4 */
	AUTHORITY_SIZE = HOST_MAX + 10,	/* [HOST]:PORT */
	CREDENTIAL_MAX = 4096,		/* a user, and a password */
	HEAD_MAX = 65536,		/* all heads of a reply together, or of a request */
	REASON_SHOWN = 200,		/* of what a peer says, in a message */
	SCHEMES_SIZE = 128,		/* of the schemes that a 407 offers, in a message */
	BODY_SHOWN = 2048,		/* of a refusal, under -v */
	PASSFILE_MAX = 65536,
	ADDRESSES_MAX = 64,		/* of a host, that are tried */
	DIAL_DELAY = 250,		/* ms; RFC 8305 section 5 */
	LINGER = 1000,			/* ms that more may come after the other side's end */
	IDLE_TIME = 60,			/* s without progress after which a connection is let go */
	BUFFER_SIZE = 65536,		/* of a lane */
	SPLICE_MAX = 1 << 20,		/* bytes at a time */
	PIPE_SIZE = 256 * 1024,		/* a larger one slows down who writes to it */
	PIPE_BETWEEN = 512 * 1024,	/* two sockets; more would use up a user's pages for pipes */
	TIMEOUT_MAX = 86400,		/* s */
	CLIENTS_MAX = 65535,		/* children of a listener */
	CHILDREN_MAX = 16,		/* behind one tunnel: a proxy command, and openssl for each hop with TLS */
	ANSWER_SIZE = 512,		/* of a server that refuses */
	COMPLAINT_MAX = 16384,		/* what openssl says of a failure */
	PAGE = 4096,			/* of memory, as a rule */
	SESSION_WORD = 32,		/* hex digits of a session's id, and of its key */
	FRAME_MAX = 1 << 20,
	BODY_MAX = 4 << 20,		/* of a request */
	GIVE_UP = 100,			/* s of tries that do no good */
	SILENCE = 40,			/* s */
	TELL_TIME = 20,			/* s within which the relay hears of us: with GIVE_UP, what it waits for us */
	GOOD_TIME = 1,			/* s that a stream lasts if it is any good */
	SUFFIX_SIZE = 64,		/* of a request's target, behind the session's id */
	CLOSE_TIME = 5,			/* s for the session to be closed */
	POLL_FIRST = 20,		/* s */
	BODY_FIRST = 65536,
};

/* s */
#define RETRY_FIRST 0.05
#define RETRY_MOST 2.0
#define NEVER 1e18

/* A host and a port. */
struct authority {
	char host[HOST_MAX + 1];	/* without brackets */
	char port[6];
	char text[AUTHORITY_SIZE];	/* as HTTP and our messages write it: [2001:db8::1]:22 */
};

/* NULL: not known. An empty password is a password. */
struct credentials {
	char *user, *password;
};

struct header {
	struct header *next;
	char *line;
};

/* A command behind one of our sockets. */
struct command {
	pid_t pid;			/* 0: there is none */
	pid_t bridge;			/* between an openssl and the stream that it is on; 0: there is none */
	int complaints;			/* where an openssl complains; any other does so on our stderr */
	char *said;			/* what it has said there up to now, with room for COMPLAINT_MAX + 1 */
	const char *peer;		/* whom it speaks TLS with */
};

/* A proxy on the way. */
struct hop {
	char *url;			/* as it was given; proxy_parse takes it apart */
	struct authority at;
	struct credentials userinfo;	/* of the URL */
	struct credentials credentials;
	bool remote;			/* named by -r */
	bool tls;
	struct command command;		/* that leads to it */
	const char *host;		/* in the Host header, and a relay's in a proxy's requests; NULL: the default */
	struct header *headers;
	bool asked;			/* the user was asked for credentials already */
	const char *scheme;		/* ntlm_scheme or negotiate_scheme; NULL: Basic */
	char *token;			/* of it, for the next request */
	pid_t helper;			/* ntlm_auth(1), which gives such tokens; 0: it does not run */
	int helper_fd;
	bool is_last_token, switched, basic_refused;	/* the scheme is what a 407 offers, which did not take Basic */
	const char *path;		/* of a relay's URL, without a slash at its end */
};

/* A pattern of what may be reached, in the form of what is asked for. */
struct allowed {
	char host[HOST_MAX + 1], port[HOST_MAX + 1];
};

/* What the command line and the environment say; written by options(), read by all. */
static struct {
	struct hop *hops;
	size_t hop_count;		/* 0: straight to the destination */
	struct authority destination;
	bool destination_tls;
	bool ntlm;			/* NTLM or Negotiate for the first hop at once */
	const char *domain;		/* of the users of NTLM without one in their names */
	const char *proxy_command;
	const char *tls_authorities, *tls_certificate, *tls_key;
	bool tls_unverified, tls_nameless;
	const char *listen;		/* [ADDR:]PORT */
	long clients_max;
	bool inetd;
	struct hop *relay;		/* that carries the tunnel in ordinary requests; NULL: none */
	bool serve;			/* the far end is what the near end asks for */
	struct allowed *allow;		/* what may be reached */
	size_t allow_count;
	char *accounts;			/* user:password, each ended by a NUL, up to an empty one; NULL: anybody */
	bool tls_only;
	int family;			/* AF_UNSPEC, or that of -4 or -6 */
	unsigned timeout;		/* seconds; 0: none */
	bool fdpass;
	int verbosity;			/* -2 under -qq, -1 under -q, 1 under -v */
} opt = { .timeout = 30, .clients_max = 256 };

/* --- messages: one escaped line on stderr: note, warn, die ---------------------------------------------- */

/* Formats a message into line, of that size, escaped; returns its length. Too long a message ends in "...". */
static size_t message_format(char *line, size_t size, const char *format, va_list words)
{
	char text[MESSAGE_MAX];
	const char *c = text;
	int length = vsnprintf(text, sizeof text, format, words);
	size_t end = (size_t)sprintf(line, "proxytunnel: ");

	for (; *c && end + sizeof "\\xNN" <= size; c++)
		end += (size_t)sprintf(line + end, *c >= ' ' && *c <= '~' ? "%c" : "\\x%02x", (unsigned char)*c);
	if (*c || length >= (int)sizeof text)
		memcpy(line + end - 3, "...", 3);
	line[end++] = '\n';
	return end;
}

/* Where messages go, how long one may take, in ms, and how many were lost, of a listener and its children together. */
static int words_to = STDERR_FILENO, words_patience = LINGER;
static atomic_ulong words_lost_here, *words_lost = &words_lost_here;

/* Where the last words of a process go that another waits for: WORDS_SIZE bytes that both have. NULL: to stderr. */
static char *last_words;

/* Writes a line, or leaves it as last words. False: it was lost, and the next does not wait. Async-signal-safe. */
static bool words_write(const char *line, size_t length, bool is_note)
{
	struct pollfd writable = { .fd = words_to, .events = POLLOUT };
	size_t prefix = sizeof "proxytunnel: " - 1;

	if (last_words && !is_note && length > prefix) {
		length = length - prefix < WORDS_SIZE ? length - prefix : WORDS_SIZE;
		memcpy(last_words, line + prefix, length - 1);
		last_words[length - 1] = '\0';
		return true;
	}
	if (length == 0 || (poll(&writable, 1, words_patience) != 0 && write(words_to, line, length) != -1))
		return true;
	words_patience = 0;
	atomic_fetch_add(words_lost, 1);
	return false;
}

/* Says a line: under -v (1), by default (0), or under -q too (-1); last words in any case. Returns the status. */
__attribute__((format(printf, 3, 4)))
static int say(int verbosity, int status, const char *format, ...)
{
	char line[LINE_SIZE];
	va_list words;

	if (opt.verbosity < verbosity && (verbosity > 0 || !last_words))
		return status;
	unsigned long lost = atomic_exchange(words_lost, 0);
	size_t length = lost > 0 ? (size_t)sprintf(line, "proxytunnel: %lu lines before this one are lost\n", lost) : 0;
	va_start(words, format);
	length += message_format(line + length, sizeof line - length, format, words);
	va_end(words);
	if (!words_write(line, length, verbosity > 0))
		atomic_fetch_add(words_lost, lost);
	return status;
}

#define note(...) say(1, 0, __VA_ARGS__)
#define warn(...) say(0, 0, __VA_ARGS__)
#define die(status, ...) exit(say(-1, status, __VA_ARGS__))	/* with a status of sysexits(3) */

/* Zeros that take no memory before they are written to. Each page table counts in a server's thousand children. */
static void *memory_map(size_t size, int sharing)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die(EX_OSERR, "out of memory");
	return memory;
}

/* Gives back the memory of the stack that it took to come here, but for a KiB, for this call itself. */
__attribute__((noinline))
static void stack_leave(void)
{
	uintptr_t end = ((uintptr_t)__builtin_frame_address(0) - 1024) / PAGE * PAGE;

	madvise((char *)end - 12 * PAGE, 12 * PAGE, MADV_DONTNEED);
}

static mode_t fd_type(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 ? status.st_mode & S_IFMT : 0;
}

/* A listener does not wait. It opens a pipe or terminal anew, as O_NONBLOCK is not to show on what it was given. */
static void words_share(void)
{
	mode_t type = fd_type(STDERR_FILENO);

	if (type == S_IFIFO || type == S_IFCHR)
		words_to = open("/dev/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	words_to = words_to != -1 ? words_to : STDERR_FILENO;
	words_lost = memory_map(sizeof *words_lost, MAP_SHARED);
	words_patience = 0;
}

/* --- signals: what ends a process before its work does, the time limit too: deadline_stage, signals_await */

/*
 * What the signal handlers need, as nobody can hand them anything. The line is composed beforehand,
 * since formatting is not async-signal-safe; there are two, so that one is always whole. The time limit is alarm(2),
 * as the name service of libc blocks and takes none.
 */
static struct {
	char line[2][640];		/* two authorities, and a few words */
	size_t length[2];
	volatile sig_atomic_t current;	/* the line to write when time is up */
	char answer[ANSWER_SIZE];	/* what the client of a server is told then */
	size_t answer_length;
	int client;
	sigset_t awaited;		/* the signals that only end the shuttle, or a listener's wait: */
	volatile sig_atomic_t caught;	/* this one did */
	pid_t children[CHILDREN_MAX + 1];	/* that end with this process */
	volatile sig_atomic_t child_count;
	char folder[108], meeting[108];	/* of a Unix socket, with room as in sun_path; "": none */
	int terminal;			/* where a prompt waits, with the echo off */
	struct termios loud, silent;
} handlers = { .terminal = -1 };	/* not zero: in one page with opt, which a server's thousand children have */

/* Says what is waited for from now on, in the words that are written when the time is up. */
__attribute__((format(printf, 1, 2)))
static void deadline_stage(const char *format, ...)
{
	int next = !handlers.current;
	va_list words;

	va_start(words, format);
	if (opt.verbosity >= -1)
		handlers.length[next] = message_format(handlers.line[next], sizeof *handlers.line, format, words);
	va_end(words);
	atomic_signal_fence(memory_order_release);
	handlers.current = next;
}

static void meeting_remove(void)
{
	unlink(handlers.meeting);
	rmdir(handlers.folder);
	*handlers.meeting = *handlers.folder = '\0'; /* only now, as a signal that comes before does it all again */
}

/* Ends what is behind a tunnel, a proxy command first, lest it meet a broken pipe, and removes what was made for it. */
static void children_end(void)
{
	for (int i = 0; i < handlers.child_count; i++)
		kill(handlers.children[i], SIGTERM);
	handlers.child_count = 0;
	meeting_remove();
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Ends a socket, and drops what comes for a second: a close with that unread loses last words. Async-signal-safe. */
static void net_linger(int socket)
{
	struct pollfd readable = { .fd = socket, .events = POLLIN };
	char dropped[4096];
	double end = seconds_now() + LINGER / 1e3;

	shutdown(socket, SHUT_WR);
	while (seconds_now() < end && poll(&readable, 1, LINGER) == 1 && recv(socket, dropped, sizeof dropped, 0) > 0)
		continue;
}

/* The one handler: notes a signal that is awaited; any other ends the children, and the process, or stops a prompt. */
static void signal_handle(int signal_number)
{
	bool prompts = handlers.terminal != -1;
	struct sigaction ending = { .sa_handler = SIG_DFL }, taken;

	if (signal_number == SIGCHLD || signal_number == SIGUSR1)
		return; /* they end a wait, and do no more */
	if (sigismember(&handlers.awaited, signal_number) == 1) {
		handlers.caught = signal_number;
		return;
	}
	if (prompts)
		tcsetattr(handlers.terminal, TCSANOW, &handlers.loud);
	children_end();
	if (signal_number == SIGALRM) {
		if (handlers.answer_length > 0) {
			send(handlers.client, handlers.answer, handlers.answer_length, MSG_NOSIGNAL | MSG_DONTWAIT);
			net_linger(handlers.client);
		}
		words_write(handlers.line[handlers.current], handlers.length[handlers.current], false);
		_exit(EX_TEMPFAIL);
	}
	sigaction(signal_number, &ending, &taken);
	raise(signal_number);
	sigaction(signal_number, &taken, NULL);
	if (prompts)
		tcsetattr(handlers.terminal, TCSANOW, &handlers.silent);
}

/* Has a signal handled, unless the caller had it ignored: false then. */
static bool signal_take(int signal_number)
{
	struct sigaction action = { .sa_handler = signal_handle, .sa_flags = SA_NODEFER }, before;

	sigaction(signal_number, NULL, &before);
	return before.sa_handler != SIG_IGN && sigaction(signal_number, &action, NULL) == 0;
}

/* Lets signals, up to a 0, only end a wait with the mask that it returns. */
static sigset_t signals_await(const int *signals)
{
	sigset_t before;

	for (; *signals; signals++) {
		signal_take(*signals);
		sigaddset(&handlers.awaited, *signals);
	}
	sigprocmask(SIG_BLOCK, &handlers.awaited, &before);
	return before;
}

/* Has signals end the process again; so does at once the one that was noted. */
static void signals_release(void)
{
	sigemptyset(&handlers.awaited);
	sigprocmask(SIG_SETMASK, &handlers.awaited, NULL);
	if (handlers.caught)
		raise(handlers.caught);
}

/* Has what ends this process end its children, from now on, unless the caller had it ignored. */
static void signals_take(void)
{
	signal(SIGCHLD, SIG_DFL); /* these three are not for a caller to ignore */
	signal(SIGUSR1, SIG_DFL);
	signal(SIGALRM, SIG_DFL);
	signals_await((const int[]){ SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, 0 });
	signals_release(); /* all signals, as a caller may have blocked some */
	atexit(children_end);
}

/* A span of time, of seconds, for the kernel; NEVER is 31 years. */
static struct timespec time_span(double seconds)
{
	double span = seconds < 0 ? 0 : seconds < 1e9 ? seconds : 1e9;
	time_t whole = (time_t)span;

	return (struct timespec){ .tv_sec = whole, .tv_nsec = (long)((span - (double)whole) * 1e9) };
}

/* As poll(2), for so many seconds, with a mask of signals; NULL: that which holds. */
static int fds_wait(struct pollfd *set, nfds_t count, double seconds, const sigset_t *waiting)
{
	const struct timespec span = time_span(seconds);

	return ppoll(set, count, &span, waiting);
}

/* Waits for so many seconds, or for a signal; not by poll(2), which may be what fails for want of memory. */
static void time_wait(double seconds)
{
	const struct timespec span = time_span(seconds);

	nanosleep(&span, NULL);
}

/* --- text: numbers, host:port, URLs, no_proxy: authority_parse, proxy_parse, no_proxy_names ------------- */

/* The number that a text of that length is, false if it is none or does not fit in 63 bits. */
static bool offset_parse(uint64_t *number, const char *text, size_t length)
{
	*number = 0;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9' || *number > (UINT64_MAX >> 1) / 10 - 1)
			return false;
		*number = *number * 10 + (uint64_t)(text[i] - '0');
	}
	return length > 0;
}

/* The decimal number that text is, from low to high, or -1: no sign, no space, nothing behind it. */
static long number_parse(const char *text, long low, long high)
{
	uint64_t number;

	if (!offset_parse(&number, text, strlen(text)) || number < (uint64_t)low || number > (uint64_t)high)
		return -1;
	return (long)number;
}

static char *copy(const char *text)
{
	char *copied = strdup(text);

	if (!copied)
		die(EX_OSERR, "out of memory");
	return copied;
}

/* Wipes a text that was secret, if there is one. */
static void secret_wipe(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
}

static bool has_control(const char *text)
{
	while (*text && !iscntrl((unsigned char)*text))
		text++;
	return *text;
}

/* Reads an address, its zone aside; returns its family, or AF_UNSPEC. IPv4 in IPv6 (RFC 4291 2.5.5.2) is IPv4. */
static int address_parse(unsigned char bytes[16], const char *text, size_t length)
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
	char plain[INET6_ADDRSTRLEN];
	const char *zone = memchr(text, '%', length);
	struct in_addr ipv4;

	length = zone ? (size_t)(zone - text) : length;
	if (length >= sizeof plain)
		return AF_UNSPEC;
	snprintf(plain, sizeof plain, "%.*s", (int)length, text);
	bool is_ipv4 = !zone && inet_aton(plain, &ipv4); /* 127.1 and 0x7f000001 too, as getaddrinfo(3) takes them */
	if (!is_ipv4 && inet_pton(AF_INET6, plain, bytes) != 1)
		return AF_UNSPEC;
	if (!is_ipv4 && memcmp(bytes, mapped, sizeof mapped) != 0)
		return AF_INET6;
	memcpy(bytes, is_ipv4 ? (unsigned char *)&ipv4 : bytes + sizeof mapped, sizeof ipv4);
	return AF_INET;
}

/* Sets an authority from its parts; returns NULL, or what is wrong with them. */
static const char *authority_set(struct authority *to, const char *host, size_t length, const char *port)
{
	static char wrong[] = "'?' cannot stand in a host";
	bool bracketed = length >= 2 && host[0] == '[' && host[length - 1] == ']';
	unsigned char address[16];
	long number = number_parse(port, 1, 65535);

	length -= bracketed ? 2 : 0;
	if (length == 0)
		return "no host";
	if (length > HOST_MAX)
		return "the host is over 255 bytes";
	memcpy(to->host, host + bracketed, length);
	to->host[length] = '\0';
	char bad = to->host[strspn(to->host, "-._:%~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")];
	wrong[1] = bad;
	if (bad)
		return (unsigned char)bad >= 0x80 ? "a name that is not ASCII is written xn--... (idn2 NAME says how)" :
		       bad == '@' ? "a user cannot stand there, only HOST and PORT" : wrong;
	if (*to->host == '-')
		return "no host begins with a dash";
	if (strchr(to->host, ':') ? address_parse(address, to->host, length) == AF_UNSPEC : bracketed)
		return "the host is no IPv6 address";
	if (number == -1)
		return "the port is not a number from 1 to 65535";
	snprintf(to->port, sizeof to->port, "%ld", number);
	snprintf(to->text, sizeof to->text, strchr(to->host, ':') ? "[%s]:%s" : "%s:%s", to->host, to->port);
	return NULL;
}

/* Reads HOST:PORT, divided by the last colon, as ssh's %h:%p has no brackets. Returns NULL, or what is wrong. */
static const char *authority_parse(struct authority *to, const char *text, const char *default_port)
{
	const char *colon = strrchr(text, ':');
	unsigned char address[16];

	if (default_port && colon && address_parse(address, text, strlen(text)) != AF_UNSPEC) {
		if (number_parse(colon + 1, 80, 65535) != -1)
			return "is that a port behind an IPv6 address? Write [::1]:3128, or [::1:3128] if it is none";
		colon = NULL;
	}
	if (colon && !strchr(colon, ']'))
		return authority_set(to, text, (size_t)(colon - text), colon + 1);
	return default_port ? authority_set(to, text, strlen(text), default_port) : "no port";
}

/* Undoes the percent-encoding of text in place (RFC 3986 2.1); false if a % is not followed by two hex digits. */
static bool percent_decode(char *text)
{
	for (char *to = text; (*to = *text); to++, text++) {
		if (*text != '%')
			continue;
		if (!isxdigit((unsigned char)text[1]) || !isxdigit((unsigned char)text[2]) ||
		    !(*to = (char)strtoul((char[]){ text[1], text[2], '\0' }, NULL, 16)))
			return false;
		text += 2;
	}
	return true;
}

/* Divides "user:password" at the first colon, in place; without a colon there is no password. */
static struct credentials credentials_split(char *text)
{
	char *colon = strchr(text, ':');

	if (colon)
		*colon++ = '\0';
	return (struct credentials){ .user = text, .password = colon };
}

/* What stands behind the scheme of a URL, or all of it if there is none (RFC 3986 3.1). */
static char *url_rest(char *url)
{
	size_t scheme = strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");

	return scheme > 0 && strncmp(url + scheme, "://", 3) == 0 ? url + scheme + 3 : url;
}

/* Where the host begins in a proxy's URL; the userinfo before it ends at the last @, as passwords are pasted raw. */
static char *url_host(char *url)
{
	char *rest = url_rest(url), *at = strrchr(rest, '@');

	return at ? at + 1 : rest;
}

/* Takes a hop's URL, [http[s]://][user[:password]@]HOST[:PORT][/], apart in place; returns NULL, or what is wrong. */
static const char *proxy_parse(struct hop *hop)
{
	char *url = hop->url, *rest = url_rest(url), *host = url_host(url);
	size_t length = strlen(host);

	if (has_control(url))
		return "a control character";
	if (rest > url && strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
		return "the scheme can only be http or https; SOCKS cannot be used here";
	hop->tls |= strncasecmp(url, "https://", 8) == 0;
	if (host > rest) {
		host[-1] = '\0';
		hop->userinfo = credentials_split(rest);
		if (!percent_decode(hop->userinfo.user) ||
		    (hop->userinfo.password && !percent_decode(hop->userinfo.password)))
			return "a % in the user or password is not followed by two hex digits, or by 00";
	}
	if (length > 0 && host[length - 1] == '/')
		host[length - 1] = '\0';
	char *zone = *host == '[' ? strstr(host, "%25") : NULL; /* RFC 6874 */
	if (zone)
		memmove(zone + 1, zone + 3, strlen(zone + 3) + 1);
	return authority_parse(&hop->at, host, hop->tls ? "443" : "80");
}

/* Reads an address, or a range such as 10.0.0.0/8, IPv6 with brackets or without; returns its family, or AF_UNSPEC. */
static int range_parse(const char *text, unsigned char base[16], unsigned *bits)
{
	size_t length = strcspn(text, "/");
	bool bracketed = length >= 2 && text[0] == '[' && text[length - 1] == ']';
	int family = address_parse(base, text + bracketed, bracketed ? length - 2 : length);
	bool is_mapped = family == AF_INET && memchr(text, ':', length);
	long least = is_mapped ? 96 : 0, most = family == AF_INET && !is_mapped ? 32 : 128;
	long number = text[length] ? number_parse(text + length + 1, least, most) : most;

	*bits = (unsigned)(number - least);
	return number == -1 ? AF_UNSPEC : family;
}

/* Whether an address, or a range of them, holds the address. */
static bool range_holds(const char *entry, int family, const unsigned char address[16])
{
	unsigned char base[16];
	unsigned bits, same = 0;

	if (range_parse(entry, base, &bits) != family)
		return false;
	while (same < bits && !((base[same / 8] ^ address[same / 8]) & (0x80 >> same % 8)))
		same++;
	return same == bits;
}

/* Whether host is the domain or lies in it; a dot or "*." before it, or a dot behind it, means nothing. */
static bool domain_holds(const char *domain, const char *host)
{
	domain += strncmp(domain, "*.", 2) == 0 ? 2 : *domain == '.';
	size_t domain_length = strlen(domain), host_length = strlen(host);

	domain_length -= domain_length > 0 && domain[domain_length - 1] == '.';
	if (domain_length == 0 || domain_length > host_length)
		return false;
	const char *tail = host + host_length - domain_length;
	return strncasecmp(tail, domain, domain_length) == 0 && (tail == host || tail[-1] == '.');
}

/* Whether a list as in no_proxy names the host, read as curl does: no ports, and * only alone. */
static bool no_proxy_names(const char *list, const char *host)
{
	unsigned char address[16];
	int family = address_parse(address, host, strlen(host));

	if (strcmp(list, "*") == 0)
		return true;
	for (size_t length; *list; list += length + strspn(list + length, ", \t\r\n")) {
		char entry[HOST_MAX + 2];

		length = strcspn(list, ", \t\r\n");
		snprintf(entry, sizeof entry, "%.*s", (int)length, list);
		bool is_named = family == AF_UNSPEC ? domain_holds(entry, host) : range_holds(entry, family, address);
		if (is_named && length < sizeof entry)
			return true;
	}
	return false;
}

/* Drops, in place, what an editor may leave: UTF-8's mark at the start, and blanks and line ends at both ends. */
static char *text_trim(char *text)
{
	text += strncmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	text += strspn(text, " \t\r\n");
	for (char *end = text + strlen(text); end > text && strchr(" \t\r\n", end[-1]);)
		*--end = '\0';
	return text;
}

/* A variable of the environment, trimmed; NULL if it is not set. */
static char *variable_get(const char *name)
{
	char *value = getenv(name);

	return value ? text_trim(value) : NULL;
}

/* --- http: heads, read to their last byte and no further, and bodies: http_take_head, http_field, body_take */

/* Of which methods and the names of fields consist (RFC 9110 5.6.2). */
static const char token_characters[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/* Whether a call has neither failed nor done anything. */
static bool is_nothing(ssize_t result)
{
	return result == -1 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

/* Waits until a descriptor is ready, or for so many seconds; false after these. A handled signal ends it too. */
static bool fd_wait(int fd, short events, double seconds)
{
	struct pollfd waited = { .fd = fd, .events = events };

	return fds_wait(&waited, 1, seconds, NULL) != 0;
}

/* A head to be sent, or what was read of heads: several, as 1xx may come before the one that counts. */
struct head {
	size_t start;			/* of the last */
	size_t length;
	char bytes[HEAD_MAX + 1];	/* NUL-terminated, and without a NUL before */
};

enum head_result {
	HEAD_WHOLE,
	HEAD_MORE,			/* is to come */
	HEAD_NONE,			/* the end of the stream came first */
	HEAD_CUT,			/* the end of the stream came within */
	HEAD_FAILED,			/* errno says how */
	HEAD_FOREIGN,			/* it is no reply's, or holds a NUL */
	HEAD_TOO_LARGE,
};

__attribute__((format(printf, 2, 3)))
static void head_add(struct head *head, const char *format, ...)
{
	size_t room = sizeof head->bytes - head->length;
	va_list words;

	va_start(words, format);
	int length = vsnprintf(head->bytes + head->length, room, format, words);
	va_end(words);
	if ((size_t)length >= room)
		die(EX_USAGE, "the request is over %d bytes: too many or too long headers", HEAD_MAX);
	head->length += (size_t)length;
}

/* The offset behind the first blank line from there on, or 0. RFC 9112 2.2: a bare LF ends a line too. */
static size_t http_head_end(const char *bytes, size_t from, size_t length)
{
	const char *end = bytes + length, *line = bytes + from;

	while ((line = memchr(line, '\n', (size_t)(end - line)))) {
		line++;
		const char *next = line + (line < end && *line == '\r');

		if (next < end && *next == '\n')
			return (size_t)(next + 1 - bytes);
	}
	return 0;
}

/* What stands behind the version in a status line: the code and the reason. Some write tabs, or several spaces. */
static const char *http_reason(const char *line)
{
	line += strcspn(line, " \t\r\n");
	return line + strspn(line, " \t");
}

/* The code of a status line (RFC 9112 4), or -1; the reason and the space before it may be missing. */
static int http_status(const char *line)
{
	const char *code = http_reason(line);

	if (strncmp(line, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)line[7]) || !strchr(" \t", line[8]) ||
	    strspn(code, "0123456789") != 3 || !strchr(" \t\r\n", code[3]))
		return -1;
	return (int)strtol(code, NULL, 10);
}

/*
 * Reads on in the next head, and not a byte behind it: it peeks, then takes up to the blank line, or all if that has
 * not come yet, as what stays queued would make every later peek return at once. A 1xx is no reply yet (RFC 9110 15.2).
 */
static enum head_result http_take_head(int socket, struct head *head, bool is_reply)
{
	char *at = head->bytes + head->length, *begin = head->bytes + head->start;
	size_t room = HEAD_MAX - head->length;
	size_t checked = at - begin < 3 ? head->start : head->length - 3;

	if (room == 0)
		return HEAD_TOO_LARGE;
	ssize_t taken = recv(socket, at, room, MSG_PEEK);
	size_t end = taken > 0 ? http_head_end(head->bytes, checked, head->length + (size_t)taken) : 0;
	size_t wanted = end ? end - head->length : taken > 0 ? (size_t)taken : 0;
	if (wanted > 0)
		taken = recv(socket, at, wanted, 0);
	if (taken == -1)
		return is_nothing(taken) ? HEAD_MORE : HEAD_FAILED;
	if (taken == 0)
		return at == begin ? HEAD_NONE : HEAD_CUT;
	head->length += (size_t)taken;
	head->bytes[head->length] = '\0';

	bool is_whole = end == head->length;
	int status = is_whole && is_reply ? http_status(begin) : 0;
	if (memchr(at, '\0', (size_t)taken) || status == -1 ||
	    (is_reply && strncmp(begin, "HTTP/1.", strnlen(begin, 7)) != 0))
		return HEAD_FOREIGN;
	if (status / 100 == 1)
		head->start = head->length;
	return is_whole && status / 100 != 1 ? HEAD_WHOLE : HEAD_MORE;
}

/* Why there is no head. */
static const char *head_failure(enum head_result result)
{
	return result == HEAD_NONE ? "the connection was closed without an answer" :
	       result == HEAD_CUT ? "the connection was closed within an answer" :
	       result == HEAD_FAILED ? strerror(errno) :
	       result == HEAD_TOO_LARGE ? "an answer with over 65536 bytes of headers" : "an answer that is not HTTP";
}

/* The line at *cursor, its length without the line's end; moves on to the next. NULL behind the last. */
static const char *http_line(const char **cursor, int *length)
{
	const char *line = *cursor;
	size_t whole = strcspn(line, "\n");

	if (!*line)
		return NULL;
	*cursor = line + whole + (line[whole] == '\n');
	*length = (int)(whole - (whole > 0 && line[whole - 1] == '\r'));
	return line;
}

/* Shows lines under -v, behind a mark; of a request's fields only Host's value, as any other may hold a secret. */
static void lines_note(const char *mark, const char *text)
{
	const char *line;
	int length;

	for (const char *cursor = text; (line = http_line(&cursor, &length));) {
		int name = (int)strcspn(line, ":");

		if (*mark == '>' && line != text && name < length && strncasecmp(line, "Host:", 5) != 0)
			note("%s %.*s: ***", mark, name, line);
		else if (length > 0)
			note("%s %.*s", mark, length, line);
	}
}

/* How much of a line of a peer's a message shows. */
static int line_shown(const char *line)
{
	size_t length = strcspn(line, "\r\n");

	return length < REASON_SHOWN ? (int)length : REASON_SHOWN;
}

/* The value of the next field of that name from *cursor on, of *length; moves on behind it. NULL: no more. */
static const char *http_field(const char **cursor, const char *name, int *length)
{
	size_t size = strlen(name);
	const char *line;

	while ((line = http_line(cursor, length)) && *length > 0) {
		if ((size_t)*length <= size || line[size] != ':' || strncasecmp(line, name, size) != 0)
			continue;
		const char *value = line + size + 1, *end = line + *length;
		while (value < end && (*value == ' ' || *value == '\t'))
			value++;
		while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
			end--;
		*length = (int)(end - value);
		return value;
	}
	return NULL;
}

/* Counts the fields of a name; *value is the last's, of *length. */
static int field_count(const char *head, const char *name, const char **value, int *length)
{
	const char *found;
	int count = 0, found_length;

	for (; (found = http_field(&head, name, &found_length)); count++)
		*value = found, *length = found_length;
	return count;
}

/* Whether a field lists a word, in whatever case. */
static bool field_lists(const char *fields, const char *name, const char *word)
{
	size_t size = strlen(word);
	const char *value;
	int length;

	while ((value = http_field(&fields, name, &length)))
		for (const char *end = value + length; value < end; value += strcspn(value, ",\r\n") + 1) {
			value += strspn(value, " \t");
			if (strncasecmp(value, word, size) == 0 && strchr(" \t,\r\n", value[size]))
				return true;
		}
	return false;
}

/* A socket that is read ahead, as its other side waits for us behind what is wanted; and a reply's body on it. */
struct reader {
	int fd;
	size_t start, stop;		/* of what was read and not yet taken */
	bool is_chunked, in_chunk;	/* the line end behind a chunk has not been taken */
	uint64_t left;			/* bytes of the body, or of the chunk */
	const char *failed;		/* why not all of the body came; NULL: it did, or is to come */
	char bytes[2 * BUFFER_SIZE];
};

/* Has bytes at hand; returns how many. 0: the stream has ended; -1, with errno: it failed, or is silent. */
static ssize_t reader_fill(struct reader *reader)
{
	ssize_t got;

	if (reader->start < reader->stop)
		return (ssize_t)(reader->stop - reader->start);
	do
		got = recv(reader->fd, reader->bytes, sizeof reader->bytes, 0);
	while (got == -1 && errno == EINTR);
	reader->start = 0;
	reader->stop = got > 0 ? (size_t)got : 0;
	return got;
}

/* Takes a line, without its end; false if there is none, or no room for it. */
static bool reader_line(struct reader *reader, char *line, size_t size)
{
	for (size_t length = 0; length < size && reader_fill(reader) > 0; length++) {
		line[length] = reader->bytes[reader->start++];
		if (line[length] == '\n') {
			line[length - (length > 0 && line[length - 1] == '\r')] = '\0';
			return true;
		}
	}
	return false;
}

/* Sees how the body comes behind a head, but that of a 2xx to CONNECT (RFC 9112 6.3). */
static void body_begin(struct reader *body, int fd, const char *head)
{
	int status = http_status(head), length;
	bool has_body = status != 204 && status != 304;
	const char *value;

	memset(body, 0, offsetof(struct reader, bytes));
	body->fd = fd;
	body->is_chunked = has_body && field_lists(head, "Transfer-Encoding", "chunked");
	if (has_body && !body->is_chunked && (field_count(head, "Content-Length", &value, &length) != 1 ||
	                                      !offset_parse(&body->left, value, (size_t)length)))
		body->left = UINT64_MAX; /* up to the end of the connection */
}

/* Takes the line end behind a chunk, if one was before, and the line before the next, or the last (RFC 9112 7.1). */
static bool chunk_begin(struct reader *body)
{
	char line[LINE_SIZE], *end;

	if ((body->in_chunk && (!reader_line(body, line, sizeof "\r\n") || *line)) ||
	    !reader_line(body, line, sizeof line))
		return false;
	body->in_chunk = true;
	body->left = strtoull(line, &end, 16);
	if (end == line || end != line + strspn(line, "0123456789abcdefABCDEF") || !strchr("; \t", *end) ||
	    body->left > INT64_MAX)
		return false;
	while (body->left == 0 && *line)
		if (!reader_line(body, line, sizeof line))
			return false;
	body->is_chunked = body->left > 0;
	return true;
}

/* Takes the next bytes of a body; returns how many. 0: its end, or a cut if it has no length; -1: cut, or wrong. */
static ssize_t body_take(struct reader *body, const char **bytes, size_t most)
{
	if (body->left == 0 && body->is_chunked && !chunk_begin(body)) {
		body->failed = "an answer that is not as it must be";
		return -1;
	}
	ssize_t got = body->left > 0 ? reader_fill(body) : 0;
	if (got == -1 || (got == 0 && body->left > 0 && body->left <= INT64_MAX)) {
		body->failed = got == 0 ? "an answer was cut" : is_nothing(got) ? "silence" : strerror(errno);
		return -1;
	}
	most = most < (size_t)got ? most : (size_t)got;
	most = most < body->left ? most : (size_t)body->left;
	*bytes = body->bytes + body->start;
	body->start += most;
	body->left -= most;
	return (ssize_t)most;
}

/* --- dial: reaching a host: net_dial, net_reach --------------------------------------------------------- */

static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* An address, and its port. */
union address {
	struct sockaddr any;
	struct sockaddr_in ipv4;
	struct sockaddr_in6 ipv6;
};

/* Those of a host, in the order to try them. */
struct addresses {
	size_t count;
	union address at[ADDRESSES_MAX];
};

static socklen_t address_size(const union address *address)
{
	return address->any.sa_family == AF_INET ? sizeof address->ipv4 : sizeof address->ipv6;
}

/* Writes an address and port as an authority is written, to a text of AUTHORITY_SIZE; false if it is not of TCP. */
static bool address_text(char *text, const union address *address)
{
	char host[HOST_MAX + 1], port[6];

	if ((address->any.sa_family != AF_INET && address->any.sa_family != AF_INET6) ||
	    getnameinfo(&address->any, address_size(address), host, sizeof host, port, sizeof port,
	                NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return false;
	const char *shown = strncmp(host, "::ffff:", 7) == 0 && strchr(host, '.') ? host + 7 : host; /* IPv4 as such */
	snprintf(text, AUTHORITY_SIZE, strchr(shown, ':') ? "[%s]:%s" : "%s:%s", shown, port);
	return true;
}

/* Finds the addresses of a host, the families in turn (RFC 8305 section 4); returns 0, or an EAI_ code. */
static int net_resolve(const struct authority *to, struct addresses *found)
{
	struct addrinfo *list, hints = {
		.ai_family = opt.family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV,
	};
	int code = getaddrinfo(to->host, to->port, &hints, &list);

	if (code != 0)
		return code;
	struct addrinfo *next[2] = { list, list }; /* of the first one's family, and of the other */
	found->count = 0;
	for (int turn = 0; (next[0] || next[1]) && found->count < ADDRESSES_MAX; turn = !turn) {
		while (next[turn] && (next[turn]->ai_family == list->ai_family) == turn)
			next[turn] = next[turn]->ai_next;
		if (!next[turn])
			continue;
		memcpy(&found->at[found->count++], next[turn]->ai_addr, next[turn]->ai_addrlen);
		next[turn] = next[turn]->ai_next;
	}
	freeaddrinfo(list);
	return 0;
}

/* The errno that a descriptor has failed by; 0 for a socket that is connected, or was closed in order. */
static int fd_error(int fd)
{
	int error = 0;
	socklen_t size = sizeof error;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : EPIPE;
}

/* What every TCP connection of ours gets. */
static void net_tune(int socket)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ SOL_SOCKET, SO_OOBINLINE, 1 },	/* an urgent byte is a byte of the tunnel */
#ifdef TCP_KEEPIDLE	/* no NAT forgets an idle tunnel, and two minutes show who has gone */
		{ IPPROTO_TCP, TCP_KEEPIDLE, 60 }, { IPPROTO_TCP, TCP_KEEPINTVL, 15 }, { IPPROTO_TCP, TCP_KEEPCNT, 4 },
#endif
	};

	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		setsockopt(socket, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

/* Notes, under -v, how a connection went that was started then; returns its socket, which blocks, or -1. */
static int dial_outcome(const union address *address, double started, int fd, int error)
{
	char text[AUTHORITY_SIZE];

	if (opt.verbosity > 0 && address_text(text, address))
		note("%s: %s after %.1f ms", text, error ? strerror(error) : "connected",
		     (seconds_now() - started) * 1e3);
	if (error != 0) {
		close(fd);
		return -1;
	}
	fcntl(fd, F_SETFL, 0);
	net_tune(fd);
	return fd;
}

/* Connects to the first address that answers (RFC 8305); returns a socket that blocks, or -1 with errno. */
static int net_dial(const struct addresses *to)
{
	struct pollfd tries[ADDRESSES_MAX];
	double started[ADDRESSES_MAX];
	size_t next = 0, pending = 0;
	int fd = -1, error = 0;

	while (fd == -1 && (next < to->count || pending > 0)) {
		if (next < to->count) {
			const union address *at = &to->at[next];
			int try = socket(at->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

			started[next] = seconds_now();
			if (try != -1 && (connect(try, &at->any, address_size(at)) == 0 || errno == EINPROGRESS))
				pending++;
			else
				try = dial_outcome(at, started[next], try, error = errno);
			tries[next++] = (struct pollfd){ .fd = try, .events = POLLOUT };
		}
		if (pending == 0 || poll(tries, next, next < to->count ? DIAL_DELAY : -1) <= 0)
			continue;
		for (size_t i = next; fd == -1 && i-- > 0;)
			if (tries[i].revents) {
				error = fd_error(tries[i].fd);
				fd = dial_outcome(&to->at[i], started[i], tries[i].fd, error);
				tries[i].fd = -1;
				pending--;
			}
	}
	while (next-- > 0)
		close(tries[next].fd);
	errno = error;
	return fd;
}

/* The address that answered last, if any, which children of this process inherit. */
static struct addresses net_known;

/* A connected socket to a host, the same each time, or the end of the program; the known address is tried first. */
static int net_reach(const struct authority *to)
{
	struct addresses found;
	int fd = net_dial(&net_known);

	if (fd != -1)
		return fd;
	deadline_stage("%s: its name did not resolve within %u s (-w)", to->text, opt.timeout);
	int code = net_resolve(to, &found);
	if (code != 0)
		die(code == EAI_SYSTEM || code == EAI_MEMORY ? EX_OSERR : EX_NOHOST, "%s: cannot resolve %s: %s",
		    to->text, to->host, code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code));

	deadline_stage("%s: no connection within %u s (-w)", to->text, opt.timeout);
	fd = net_dial(&found);
	if (fd == -1)
		die(is_shortage(errno) ? EX_OSERR : EX_UNAVAILABLE, "%s: cannot connect: %s", to->text,
		    strerror(errno));
	socklen_t size = sizeof net_known.at[0];
	net_known.count = getpeername(fd, &net_known.at[0].any, &size) == 0;
	return fd;
}

/* --- net: being reached, and what sockets carry: net_listen, net_send, fds_pass ------------------------- */

/* Says on which address and port a socket listens, -q or not: who asked for port 0 must know. */
static void listen_announce(int fd)
{
	union address address;
	char text[AUTHORITY_SIZE], line[AUTHORITY_SIZE + 64];

	if (getsockname(fd, &address.any, &(socklen_t){ sizeof address }) == 0 && address_text(text, &address))
		words_write(line, (size_t)sprintf(line, "proxytunnel: listening on %s\n", text), false);
}

/* Listens on [ADDR:]PORT, without ADDR on loopback, * is all. The socket blocks, so that a client wakes one worker. */
static int net_listen(const char *spec)
{
	const char *colon = strrchr(spec, ':'), *host = colon ? spec : opt.family == AF_INET6 ? "::1" : "127.0.0.1";
	bool is_any = strncmp(spec, "*:", 2) == 0;
	int on = 1, is_v6only = !is_any;
	long port = number_parse(colon ? colon + 1 : spec, 0, 65535);
	struct authority at;
	struct addresses found;
	union address *address = found.at;

	host = is_any ? opt.family == AF_INET ? "0.0.0.0" : "::" : host;
	const char *wrong = authority_set(&at, host, host == spec ? (size_t)(colon - spec) : strlen(host), "1");
	if (wrong || port == -1)
		die(EX_USAGE, "-a %s: %s", spec, port == -1 ? "the port is not a number from 0 to 65535" : wrong);
	snprintf(at.port, sizeof at.port, "%ld", port);
	int code = net_resolve(&at, &found);
	if (code != 0)
		die(EX_NOHOST, "-a %s: %s", spec, gai_strerror(code));
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1 && is_any && opt.family == AF_UNSPEC) { /* there is no IPv6 here */
		address->ipv4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((in_port_t)port) };
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	}
	if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == -1 ||
	    (address->any.sa_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &is_v6only, sizeof is_v6only) == -1) ||
	    bind(fd, &address->any, address_size(address)) == -1 || listen(fd, SOMAXCONN) == -1)
		die(EX_OSERR, "-a %s: %s", spec, strerror(errno));
	net_tune(fd); /* what it accepts inherits that */
	return fd;
}

/* Sends all of it; returns false, with errno, when the other side is gone, or takes nothing for a minute. */
static bool net_send(int socket, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t sent = send(socket, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent == -1 && (!is_nothing(sent) || !fd_wait(socket, POLLOUT, IDLE_TIME)))
			return false;
		bytes += sent > 0 ? sent : 0;
		length -= sent > 0 ? (size_t)sent : 0;
	}
	return true;
}

enum { FDS_MAX = 3 };

/* Sends bytes and descriptors over a Unix socket, or takes them: -1 for those that lack. Returns as sendmsg(2) does. */
static ssize_t fds_pass(bool takes, int over, int *fds, size_t count, void *bytes, size_t length, int flags)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_MAX * sizeof *fds)] = { 0 };
	size_t size = count * sizeof *fds;
	struct iovec data = { .iov_base = bytes, .iov_len = length };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control };
	ssize_t done;

	message.msg_controllen = size > 0 ? (socklen_t)CMSG_SPACE(size) : 0;
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (header && !takes) {
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = (socklen_t)CMSG_LEN(size);
		memcpy(CMSG_DATA(header), fds, size);
	}
	do
		done = takes ? recvmsg(over, &message, flags | MSG_CMSG_CLOEXEC)
		             : sendmsg(over, &message, flags | MSG_NOSIGNAL);
	while (done == -1 && errno == EINTR);
	for (size_t i = 0; takes && i < count; i++)
		fds[i] = -1;
	if (takes && done > 0 && (header = CMSG_FIRSTHDR(&message)) && header->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
	return done;
}

/* A pipe that children do not inherit; false, with errno, if there is none to be had. */
static bool pipe_open(int ends[2])
{
	return pipe(ends) == 0 && fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0 && fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0;
}

/* Has a descriptor lead nowhere from now on. It stays taken, so that nothing else comes to its number. */
static void fd_leave(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	dup2(null, fd);
	close(null);
}

/* --- commands: programs behind a socket: command_start, command_reach ----------------------------------- */

/* Forks a child that ends with this process, or outlives it; no signal comes between its start and its being known. */
static pid_t child_fork(bool outlives)
{
	sigset_t all, before;

	if (handlers.child_count == CHILDREN_MAX && !outlives)
		die(EX_OSERR, "over %d processes for one tunnel: too many hops with TLS", CHILDREN_MAX);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	pid_t child = fork();
	if (child == 0 && !outlives) {
		handlers.child_count = 0;
		signal(SIGTERM, SIG_DFL); /* by which we end it, ignored or not before */
	}
	if (child > 0 && !outlives)
		handlers.children[handlers.child_count++] = child;
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (child == -1)
		die(EX_OSERR, "cannot start a process: %s", strerror(errno));
	return child;
}

static void child_forget(pid_t child)
{
	for (int i = 0; i < handlers.child_count; i++)
		if (handlers.children[i] == child)
			handlers.children[i] = handlers.children[--handlers.child_count];
}

/* In a child: it ends also where its parent is killed; not for --fdpass, where that leaves first. */
static void child_bind(pid_t parent)
{
	if (opt.fdpass)
		return;
	prctl(PR_SET_PDEATHSIG, SIGTERM); /* where there is no such thing it ends as its stream does */
	if (getppid() != parent)
		_exit(EX_OSERR);
}

/* Forks one behind a pair of sockets, whose end here, or there, is in *fd. One that outlives us has our children. */
static pid_t fork_behind(int *fd, bool outlives)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == -1)
		die(EX_OSERR, "cannot make a pair of sockets: %s", strerror(errno));
	pid_t child = child_fork(outlives);
	close(ends[child != 0]);
	*fd = ends[child == 0];
	return child;
}

/* Starts a command on a socket, whose other end is in *fd, with those complaints for stderr; returns its pid. */
static pid_t command_start(const char *const argv[], int complaints, int *fd)
{
	pid_t parent = getpid(), child = fork_behind(fd, false);

	if (child == 0) {
		child_bind(parent);
		signal(SIGPIPE, SIG_DFL);
		signal(SIGXFSZ, SIG_DFL);
		signal(SIGINT, SIG_IGN); /* as for ourselves, once the tunnel stands */
		dup2(*fd, STDIN_FILENO);
		dup2(*fd, STDOUT_FILENO);
		dup2(complaints, STDERR_FILENO);
		execvp(argv[0], (char *const *)argv);
		if (complaints != STDERR_FILENO || opt.verbosity >= 0)
			dprintf(STDERR_FILENO, "proxytunnel: %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	return child;
}

/* Waits for the end of a child; returns its wait status. */
static int child_wait(pid_t child)
{
	int status = 0;

	while (waitpid(child, &status, 0) == -1 && errno == EINTR)
		continue;
	child_forget(child);
	return status;
}

/* Reads on what openssl says; false at its end. */
static bool openssl_hear(const struct command *openssl)
{
	size_t length = strlen(openssl->said);
	ssize_t got = read(openssl->complaints, openssl->said + length, COMPLAINT_MAX - length);

	if (got > 0)
		openssl->said[length + (size_t)got] = '\0';
	return got > 0 || (got == -1 && errno == EINTR);
}

/* Why openssl failed, in its words. Under -z it is not what it says of the certificate, the first. */
static const char *openssl_reason(char *said)
{
	static const struct {
		const char *mark, *end;
		int colons;
	} marks[] = {
		{ "verify error:num=", "\n", 2 },
		{ "Could not ", "\n", 0 },
		{ ":error:", ":\n", 5 },	/* :error:CODE:LIBRARY:FUNCTION:REASON:FILE:LINE: */
		{ "errno=", ":\n", 0 },
		{ "", ":\n", 0 },
	};
	size_t i = opt.tls_unverified;
	char *reason;

	while (!(reason = strstr(said, marks[i].mark)))
		i++;
	for (int n = 0; n < marks[i].colons && strchr(reason, ':'); n++)
		reason = strchr(reason, ':') + 1;
	reason[strcspn(reason, marks[i].end)] = '\0';
	return strncmp(reason, "errno=", 6) == 0 ? strerror((int)strtol(reason + 6, NULL, 10)) : reason;
}

/* What may help against that, in brackets; -z only where it would. */
static const struct {
	const char *reason, *hint;
} openssl_hints[] = {
	{ "self", " (-C FILE trusts an authority that is not known here, -z trusts any)" }, /* -signed, " signed" */
	{ "unable to ", " (-C FILE trusts an authority that is not known here, -z trusts any)" },
	{ "hostname mismatch", " (its certificate is for another name: write that one, or -z)" },
	{ "IP address mismatch", " (its certificate is not for that address: write its name, or -z)" },
	{ "certificate has expired", " (is the clock of this machine right? -z trusts any certificate)" },
	{ "certificate is not yet valid", " (is the clock of this machine right? -z trusts any certificate)" },
	{ "wrong version number", " (it does not speak TLS: leave out https://, or -E, -X or -e)" },
	{ "packet length too long", " (it does not speak TLS: leave out https://, or -E, -X or -e)" },
	{ "unexpected eof", " (does it speak TLS?)" },
	{ "tlsv13 alert certificate required", " (it wants a certificate of yours: -c, and -k)" },
	{ "sslv3 alert handshake failure", " (does it want a certificate of yours? -c, and -k)" },
};

/* Ends the program if an openssl that leads somewhere has failed, which it may do after the handshake too. */
static void openssl_check(const struct command *openssl, int status)
{
	const char *hint = "";
	int ended = child_wait(openssl->pid), by = WIFSIGNALED(ended) ? WTERMSIG(ended) : 0;

	if (ended == 0 || by == SIGHUP || by == SIGINT || by == SIGTERM) /* the whole group gets those */
		return;
	while (openssl_hear(openssl))
		continue;
	if (strncmp(openssl->said, "proxytunnel: openssl: ", 22) == 0)
		die(EX_OSERR, "%s: TLS needs openssl(1), which cannot be run (its package is called openssl): %.*s",
		    openssl->peer, (int)strcspn(openssl->said + 22, "\n"), openssl->said + 22);
	lines_note("openssl:", openssl->said);
	const char *reason = openssl_reason(openssl->said);
	for (size_t i = 0; i < sizeof openssl_hints / sizeof *openssl_hints; i++)
		if (strncmp(reason, openssl_hints[i].reason, strlen(openssl_hints[i].reason)) == 0)
			hint = openssl_hints[i].hint;
	die(status, "%s: TLS failed: %s%s", openssl->peer, reason, hint);
}

/* Expands %h, %p and %% as ssh does in its ProxyCommand, behind "exec ", so that no shell stays. */
static char *command_expand(const char *command, const struct authority *to)
{
	size_t size = strlen(command) * (HOST_MAX + 1) + sizeof "exec ", length = sizeof "exec " - 1;
	char *expanded = memory_map(size, MAP_PRIVATE);

	memcpy(expanded, "exec ", length);
	for (; *command; command++) {
		if (*command != '%') {
			expanded[length++] = *command;
			continue;
		}
		if (!*++command || !strchr("hp%", *command))
			die(EX_USAGE, "--proxy-command: after a %% only h, p and %% can follow");
		const char *part = *command == 'h' ? to->host : *command == 'p' ? to->port : "%";
		if (!*part)
			die(EX_USAGE, "--proxy-command: %%%c needs a proxy, named by -p", *command);
		length += (size_t)sprintf(expanded + length, "%s", part);
	}
	return expanded;
}

/* Reaches a hop over the stdin and stdout of the user's command. */
static int command_reach(struct hop *hop)
{
	const char *shell = getenv("SHELL");
	const char *argv[] = { shell && *shell ? shell : "/bin/sh", "-c", opt.proxy_command, NULL };
	int fd;

	note("%s: by the command %s", hop->at.text, opt.proxy_command);
	hop->command.pid = command_start(argv, STDERR_FILENO, &fd);
	return fd;
}

/* --- credentials: where they come from: credentials_add, passfile_read, credentials_ask ----------------- */

/* Adds what a further source knows: never the password of another user. An empty user without a password is none. */
static void credentials_add(struct credentials *known, char *user, char *password)
{
	if (user && !*user && !password)
		return;
	if (!known->password && (!known->user || !user || strcmp(known->user, user) == 0))
		known->password = password;
	if (!known->user)
		known->user = user;
}

static bool credentials_known(const struct credentials *known)
{
	return known->user && known->password;
}

/* Ends the program if credentials cannot be sent as Basic ones (RFC 7617 2); source names them without a secret. */
static void credentials_check(const struct credentials *given, const char *source)
{
	const char *const parts[] = { given->user, given->password }, *const names[] = { "user", "password" };

	for (int i = 0; i < 2; i++) {
		if (parts[i] && strlen(parts[i]) > CREDENTIAL_MAX)
			die(EX_USAGE, "%s: the %s is over %d bytes", source, names[i], CREDENTIAL_MAX);
		if (parts[i] && has_control(parts[i]))
			die(EX_USAGE, "%s: a control character in the %s", source, names[i]);
	}
	if (given->user && strchr(given->user, ':'))
		die(EX_USAGE, "%s: a colon in the user, which Basic credentials cannot hold", source);
}

/* What a passfile holds, all of it, NUL-terminated, to be freed by nobody; or the end of the program. */
static char *passfile_load(const char *path)
{
	static char content[PASSFILE_MAX + 2]; /* accounts end with an empty one */
	size_t length = 0;
	ssize_t got = -1;
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd != -1 && fstat(fd, &status) == 0)
		while ((got = read(fd, content + length, PASSFILE_MAX + 1 - length)) > 0)
			length += (size_t)got;
	if (got == -1)
		die(EX_NOINPUT, "%s: %s", path, strerror(errno));
	if (S_ISREG(status.st_mode) && status.st_mode & (S_IRGRP | S_IROTH))
		warn("%s: others can read it (cure: chmod 600 %s)", path, path);
	close(fd);
	if (length > PASSFILE_MAX)
		die(EX_NOINPUT, "%s: over %d bytes", path, PASSFILE_MAX);
	if (memchr(content, '\0', length))
		die(EX_NOINPUT, "%s: a NUL byte in it", path);
	content[length] = '\0';
	return content;
}

/* The next line of a passfile, trimmed, that is not empty and does not begin with #; NULL if there is none. */
static char *passfile_line(char **rest)
{
	char *line;

	while ((line = strtok_r(*rest, "\n", rest)))
		if ((line = text_trim(line)), *line && *line != '#')
			break;
	return line;
}

/* Reads the credentials of the first proxy, the last -r and the relay. True: one line user:password, the first's. */
static bool passfile_read(struct credentials found[3], const char *path)
{
	static const char *const prefixes[] = { "proxy_", "remproxy_", "relay_" };
	char *rest = passfile_load(path), *line, *single = NULL, *unknown = NULL;
	int lines = 0;
	bool is_wgetrc = false;

	for (; (line = passfile_line(&rest)); single = line, lines++)
		for (int i = 0; i < 3; i++) {
			size_t prefix = strlen(prefixes[i]);
			char key[sizeof "password"] = "";
			int value = 0;

			if (strncasecmp(line, prefixes[i], prefix) != 0)
				continue;
			sscanf(line + prefix, "%8[A-Za-z] = %n", key, &value);
			bool is_user = strcasecmp(key, "user") == 0;
			bool is_password = strcasecmp(key, "passwd") == 0 || strcasecmp(key, "password") == 0;
			if (value > 0 && (is_user || is_password))
				*(is_user ? &found[i].user : &found[i].password) = line + prefix + value;
			else
				unknown = line;
			is_wgetrc |= unknown != line;
		}
	if (unknown && is_wgetrc)
		warn("%s: not known: %.*s (it is _user and _password behind proxy, remproxy or relay)", path,
		     (int)strcspn(unknown, " \t="), unknown);
	if (is_wgetrc)
		return false;
	if (lines != 1 || !strchr(single, ':'))
		die(EX_NOINPUT, "%s: neither proxy_user and proxy_passwd nor a single line user:password in it", path);
	found[0] = credentials_split(single);
	return true;
}

/* Reads an answer from the terminal, with the echo off if it is hidden; false at its end or if it is too long. */
static bool prompt_read(int terminal, const char *question, bool hidden, char *answer, size_t size)
{
	ssize_t length;

	if (tcgetattr(terminal, &handlers.loud) == -1)
		return false;
	handlers.silent = handlers.loud;
	if (hidden)
		handlers.silent.c_lflag = (handlers.silent.c_lflag & ~(tcflag_t)ECHO) | ECHONL;
	handlers.terminal = terminal;
	bool stops = signal_take(SIGTSTP);

	tcsetattr(terminal, TCSAFLUSH, &handlers.silent);
	do {
		dprintf(terminal, "%s", question);
		length = read(terminal, answer, size);
	} while (length == -1 && errno == EINTR);
	tcsetattr(terminal, TCSANOW, &handlers.loud);
	handlers.terminal = -1;
	signal(SIGTSTP, stops ? SIG_DFL : SIG_IGN);

	if (length <= 0 || answer[length - 1] != '\n')
		return false;
	answer[length - 1] = '\0';
	return true;
}

/* Has a program ask, as ssh does: it prints the answer. False if it could not, or the user would not. */
static bool askpass_read(const char *program, const char *question, char *answer, size_t size)
{
	const char *const argv[] = { program, question, NULL };
	size_t length = 0;
	ssize_t got;
	int fd;
	pid_t child = command_start(argv, STDERR_FILENO, &fd);

	shutdown(fd, SHUT_WR); /* there is nothing to read for it */
	while (length < size && (got = read(fd, answer + length, size - length)) != 0)
		length += got > 0 ? (size_t)got : 0;
	close(fd);
	if (child_wait(child) != 0 || length == size)
		return false;
	answer[length] = '\0';
	answer[strcspn(answer, "\r\n")] = '\0';
	return true;
}

/* SSH_ASKPASS by the rules of ssh(1): the program to run, or NULL, as where there is a terminal to ask at as a rule. */
static const char *askpass_program(bool has_terminal)
{
	const char *require = getenv("SSH_ASKPASS_REQUIRE"), *program = getenv("SSH_ASKPASS");
	const char *x11 = getenv("DISPLAY"), *wayland = getenv("WAYLAND_DISPLAY");
	bool display = (x11 && *x11) || (wayland && *wayland), is_forced = require && strcasecmp(require, "force") == 0;
	bool instead = is_forced || (require && strcasecmp(require, "prefer") == 0);

	if ((!display && !is_forced) || (has_terminal && !instead) || (require && strcasecmp(require, "never") == 0))
		return NULL;
	return program && *program ? program : "ssh-askpass";
}

/* Asks for a user, or for a user's password; returns a copy, or NULL if nobody answers. The clock stops meanwhile. */
static char *prompt_ask(const char *at, const char *user)
{
	static char answer[CREDENTIAL_MAX + 2];
	char question[HOST_MAX + CREDENTIAL_MAX + 64];
	int terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);

	bool is_ours = terminal != -1 && tcgetpgrp(terminal) == getpgrp(); /* not another group's just now */
	const char *program = askpass_program(is_ours);
	unsigned left = alarm(0);
	snprintf(question, sizeof question, "%s%s at %s: ", user ? "Password for " : "User", user ? user : "", at);
	bool answered = program ? askpass_read(program, question, answer, sizeof answer) :
	                is_ours && prompt_read(terminal, question, user != NULL, answer, sizeof answer);
	char *copied = answered ? copy(answer) : NULL;

	explicit_bzero(answer, sizeof answer);
	close(terminal);
	alarm(left);
	return copied;
}

/* Asks for what is not known of a hop's credentials, once; false if they are not complete then. */
static bool credentials_ask(struct hop *hop)
{
	struct credentials *known = &hop->credentials;

	if (hop->asked)
		return false;
	hop->asked = true;
	if (!known->user)
		known->user = prompt_ask(hop->at.text, NULL);
	if (known->user && !known->password)
		known->password = prompt_ask(hop->at.text, known->user);
	credentials_check(known, "the answer");
	return credentials_known(known);
}

/* --- ntlm: NTLM and Negotiate, spoken by ntlm_auth(1): ntlm_start, ntlm_ask ----------------------------- */

enum { SCHEME_BASIC = 1, SCHEME_NTLM = 2, SCHEME_NEGOTIATE = 4 };

static const char ntlm_scheme[] = "NTLM", negotiate_scheme[] = "Negotiate";
static const char *const scheme_names[] = { "Basic", ntlm_scheme, negotiate_scheme };

/* Ends the program: a handshake cannot be finished. */
static _Noreturn void ntlm_fail(const struct hop *hop, const char *who, const char *what)
{
	die(EX_NOPERM, "%s: %s%s: %s%.*s", hop->at.text,
	    hop->basic_refused ? "does not take these Basic credentials; " : "", hop->scheme, who, REASON_SHOWN, what);
}

/* Ends a hop's ntlm_auth(1); returns its wait status. */
static int ntlm_end(struct hop *hop)
{
	close(hop->helper_fd);
	kill(hop->helper, SIGTERM);
	int status = child_wait(hop->helper);
	hop->helper = 0;
	secret_wipe(hop->token);
	hop->token = NULL;
	return status;
}

/* Says a line, in two parts, to a hop's ntlm_auth(1), and has the token of the answer in the hop's next request. */
static void ntlm_ask(struct hop *hop, const char *word, const char *challenge, int length)
{
	static char line[HEAD_MAX];
	static struct reader answer;
	const char *password = credentials_known(&hop->credentials) ? hop->credentials.password : "-";
	char coded[BASE64_SIZE(CREDENTIAL_MAX)];

	deadline_stage("%s: no answer from ntlm_auth(1) within %u s (-w)", hop->at.text, opt.timeout);
	dprintf(hop->helper_fd, "%s%.*s\n", word, length, challenge);
	answer.fd = hop->helper_fd;
	while (reader_line(&answer, line, sizeof line)) {
		if (strcmp(line, "PW") == 0) { /* also where it has a ticket, and needs none */
			base64_encode(coded, password, strlen(password));
			dprintf(hop->helper_fd, "PW %s\n", coded);
			explicit_bzero(coded, sizeof coded);
		} else if (line[0] && strchr("YKA", line[0]) && line[1] && line[2] == ' ') { /* YR, KK or AF */
			hop->is_last_token = line[0] == 'A';
			hop->token = line + 3;
			explicit_bzero(&answer, sizeof answer); /* with it goes what was said unasked */
			return;
		} else if (strcmp(line, "OK") != 0) {
			ntlm_fail(hop, "ntlm_auth(1) says ", line);
		}
	}
	int status = ntlm_end(hop);
	ntlm_fail(hop, "", WIFEXITED(status) && WEXITSTATUS(status) == 127 ?
	          "needs ntlm_auth(1), of the package winbind or samba-winbind-clients; or cntlm or px can be the "
	          "first hop" :
	          "ntlm_auth(1) ended without an answer (-v shows what it says)");
}

/* Begins a handshake in a hop's next request. */
static void ntlm_start(struct hop *hop)
{
	const char *user = hop->credentials.user ? hop->credentials.user : "", *name = strchr(user, '\\');
	char user_option[CREDENTIAL_MAX + 16], domain_option[CREDENTIAL_MAX + 16], host_option[HOST_MAX + 32];
	const char *argv[] = { "ntlm_auth", hop->scheme == ntlm_scheme ? "--helper-protocol=ntlmssp-client-1" :
	                       "--helper-protocol=gss-spnego-client", "--target-service=HTTP", host_option, user_option,
	                       domain_option, NULL };
	int quiet = opt.verbosity > 0 ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);

	note("%s: %s, by ntlm_auth(1)", hop->at.text, hop->scheme);
	snprintf(host_option, sizeof host_option, "--target-hostname=%s", hop->at.host);
	snprintf(user_option, sizeof user_option, "--username=%s", name ? name + 1 : user);
	snprintf(domain_option, sizeof domain_option, "--domain=%.*s", name ? (int)(name - user) : CREDENTIAL_MAX,
	         name ? user : opt.domain ? opt.domain : "");
	hop->helper = command_start(argv, quiet, &hop->helper_fd);
	close(quiet);
	ntlm_ask(hop, "YR", "", 0);
}

/* --- connect: the CONNECT exchange: connect_through ----------------------------------------------------- */

static bool header_given(const struct hop *hop, const char *name)
{
	const char *cursor;
	int length;

	for (const struct header *header = hop->headers; header; header = header->next)
		if (cursor = header->line, http_field(&cursor, name, &length))
			return true;
	return false;
}

/* Adds what only this hop is told: credentials in that field, unless the user gave it, and the user's headers. */
static void fields_add_hop(struct head *fields, const char *name, const struct hop *hop)
{
	const struct credentials *known = &hop->credentials;

	if (hop->token) {
		head_add(fields, "%s: %s %s\r\n", name, hop->scheme, hop->token);
	} else if (credentials_known(known) && !header_given(hop, name)) {
		char plain[2 * CREDENTIAL_MAX + 2], coded[BASE64_SIZE(sizeof plain)];
		int length = snprintf(plain, sizeof plain, "%s:%s", known->user, known->password);

		base64_encode(coded, plain, (size_t)length);
		head_add(fields, "%s: Basic %s\r\n", name, coded);
		explicit_bzero(plain, (size_t)length);
		explicit_bzero(coded, strlen(coded));
	}
	for (const struct header *header = hop->headers; header; header = header->next)
		head_add(fields, "%s\r\n", header->line);
}

/* Composes the request; what the user gave replaces the header of that name. */
static void connect_compose(struct head *request, const struct hop *hop, const struct authority *to)
{
	request->length = 0;
	head_add(request, "CONNECT %s HTTP/1.1\r\n", to->text);
	if (!header_given(hop, "Host"))
		head_add(request, "Host: %s\r\n", hop->host ? hop->host : to->text);
	fields_add_hop(request, "Proxy-Authorization", hop);
	head_add(request, "\r\n");
}

/* Shows under -v how a refusal's body begins, if it comes within a second: most proxies say there why they refuse. */
static void body_note(int socket)
{
	const struct timeval patience = { .tv_sec = 1 }; /* for all of it together */
	char body[BODY_SHOWN + 1] = "";

	setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	ssize_t got = opt.verbosity > 0 ? recv(socket, body, BODY_SHOWN, MSG_WAITALL) : 0;
	for (ssize_t i = 0; i < got; i++)
		body[i] = body[i] ? body[i] : ' ';
	lines_note("|", body);
}

/* Ends the program: no head could be read. It may be the command that leads to the hop which failed. */
static _Noreturn void connect_fail(enum head_result result, const char *head, const struct hop *hop,
                                   const struct authority *to)
{
	int status = result == HEAD_NONE || result == HEAD_FAILED ? EX_UNAVAILABLE : EX_PROTOCOL;
	bool is_cut = result == HEAD_NONE || (result == HEAD_FAILED && errno == ECONNRESET);
	const char *failure = head_failure(result), *said = result == HEAD_FOREIGN ? head : "";

	if (hop->command.pid && status == EX_UNAVAILABLE && hop->tls) {
		openssl_check(&hop->command, EX_PROTOCOL);
	} else if (hop->command.pid && status == EX_UNAVAILABLE) {
		int ended = child_wait(hop->command.pid);
		bool has_left = WIFEXITED(ended);
		const char *how = has_left ? "ended with status" : "was ended by signal";
		die(status, "%s: the proxy command %s %d before an answer to CONNECT %s", hop->at.text, how,
		    has_left ? WEXITSTATUS(ended) : WTERMSIG(ended), to->text);
	}
	die(status, "%s: CONNECT %s: %s%s%.*s%s", hop->at.text, to->text, failure, *said ? ": " : "",
	    line_shown(said), said,
	    is_cut && !hop->tls ? " (is it an HTTP proxy, not for SOCKS? one with TLS takes https:// before its name)" :
	    strncmp(said, "\x15\x03", 2) == 0 ? " (it speaks TLS: put https:// before its name)" :
	    strncmp(said, "SSH-", 4) == 0 ? " (that is an ssh server, no proxy)" : "");
}

/* Sends a request, and wipes it; returns the head of the reply. */
static const char *connect_ask(int socket, struct head *request, const struct hop *hop, const struct authority *to)
{
	static struct head reply;
	enum head_result result = HEAD_FAILED;

	deadline_stage("%s: no answer to CONNECT %s within %u s (-w)", hop->at.text, to->text, opt.timeout);
	lines_note(">", request->bytes);
	reply.length = reply.start = 0;
	if (net_send(socket, request->bytes, request->length))
		while ((result = http_take_head(socket, &reply, true)) == HEAD_MORE)
			fd_wait(socket, POLLIN, NEVER);
	explicit_bzero(request->bytes, request->length);
	if (result != HEAD_WHOLE)
		connect_fail(result, reply.bytes + reply.start, hop, to);
	lines_note("<", reply.bytes);
	return reply.bytes + reply.start;
}

/*
 * Lists the schemes that a 407 offers; returns those that are spoken here. Commas divide challenges (RFC 9110 5.6.1)
 * and also the parameters within one, but a parameter has an = behind its name (11.6.1).
 */
static unsigned schemes_list(char list[SCHEMES_SIZE], const char *head)
{
	bool is_asked = http_status(head) == 407;
	unsigned spoken = 0;
	const char *value;
	size_t written = 0;
	int length;

	*list = '\0';
	while (is_asked && (value = http_field(&head, "Proxy-Authenticate", &length)))
		for (const char *end = value + length; value < end; value++) {
			value += strspn(value, " \t");
			size_t name = strcspn(value, " \t=,\r\n");
			bool is_scheme = name > 0 && value[name + strspn(value + name, " \t")] != '=';

			for (int i = 0; is_scheme && i < 3; i++)
				if (strlen(scheme_names[i]) == name && strncasecmp(value, scheme_names[i], name) == 0)
					spoken |= 1u << i;
			if (is_scheme && written + name + 3 <= SCHEMES_SIZE)
				written += (size_t)sprintf(list + written, written ? ", %.*s" : "%.*s",
				                           (int)name, value);
			for (bool is_quoted = false; value < end && (is_quoted || *value != ','); value++) {
				is_quoted ^= *value == '"';
				value += is_quoted && *value == '\\';
			}
		}
	return spoken;
}

/* Whether the reason behind a status is the one that everybody gives, or none. */
static bool reason_is_plain(const char *head)
{
	static const char *const plain[] = {
		"\r", "\n", "Forbidden", "Internal Server Error", "Bad Gateway", "Proxy Error", "Service Unavailable",
		"Gateway Time",
	};
	const char *reason = http_reason(head) + strlen("403");

	reason += *reason == ' ';
	for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
		if (strncasecmp(reason, plain[i], strlen(plain[i])) == 0)
			return true;
	return false;
}

/* What may help against a refusal, in brackets, for the user who has only the proxy's word. */
static const char *refusal_hint(const char *head, const struct hop *hop, const struct authority *to)
{
	static char hint[512];
	bool is_page = opt.relay && !opt.relay->tls && to == &opt.relay->at; /* no CONNECT was refused */
	char schemes[SCHEMES_SIZE];
	unsigned spoken = schemes_list(schemes, head) & (is_page ? SCHEME_BASIC : ~0u);
	bool is_negotiated = spoken & SCHEME_NEGOTIATE, is_known = credentials_known(&hop->credentials);
	int status = http_status(head), length;
	const char *cursor = head, *location;

	if (status == 407 && !*schemes)
		return " (it offers no way to authenticate)";
	if (status == 407 && !spoken)
		snprintf(hint, sizeof hint, " (it offers %s, not Basic; a local authenticating proxy such as cntlm or "
		         "px can be the first hop)", schemes);
	else if (status == 407 && header_given(hop, "Proxy-Authorization"))
		snprintf(hint, sizeof hint, " (it does not take the Proxy-Authorization of -H; it offers %s)", schemes);
	else if ((status == 407 || status == 401) && is_known)
		snprintf(hint, sizeof hint, " (it does not take these credentials of %.64s%s%s%s)",
		         hop->credentials.user, *schemes ? "; it offers " : "", schemes,
		         is_negotiated ? "; Kerberos needs a ticket, by kinit" : "");
	else if (status == 407)
		snprintf(hint, sizeof hint, " (try %s-%c or -F; it offers %s)", is_negotiated ? "kinit, or " : "",
		         hop->remote ? 'R' : 'P', schemes);
	else if (status == 403 && !is_page && strcmp(to->port, "443") != 0 && reason_is_plain(head))
		return " (many proxies let only port 443 through)";
	else if (status / 100 == 5 && status != 501 && reason_is_plain(head))
		snprintf(hint, sizeof hint, " (can it resolve and reach %s?%s)", to->text,
		         opt.verbosity < 1 ? " -v shows all that it says" : "");
	else if (status == 400 && !hop->tls)
		return " (if it speaks TLS, put https:// before its name)";
	else if (status == 405 || status == 501)
		return " (it does no CONNECT; try --relay)";
	else if (status / 100 == 3 && (location = http_field(&cursor, "Location", &length)))
		snprintf(hint, sizeof hint, " (it points to %.*s; is there a page to log in at first?)", length,
		         location);
	else
		return opt.verbosity < 1 ? " (-v shows all that it says)" : "";
	return hint;
}

/* The status of this program for a refusal. */
static int refusal_exit(int status)
{
	return status == 401 || status == 403 || status == 405 || status == 407 || status == 501 ?
	       EX_NOPERM : EX_UNAVAILABLE;
}

/* Whether a 407 leads to another try: the user has just given credentials, or it offers another scheme (once). */
static bool refusal_retry(struct hop *hop, const char *head, bool is_page)
{
	const char *before = hop->scheme;
	char schemes[SCHEMES_SIZE];
	unsigned spoken = schemes_list(schemes, head);
	bool has_basic = spoken & SCHEME_BASIC;

	if (header_given(hop, "Proxy-Authorization"))
		return false;
	if (has_basic && !hop->credentials.user && credentials_ask(hop))
		return true;
	if (is_page || hop->switched)
		return false;
	bool is_known = credentials_known(&hop->credentials);
	hop->scheme = is_known && spoken & SCHEME_NTLM ? ntlm_scheme :
	              (is_known || !has_basic) && spoken & SCHEME_NEGOTIATE ? negotiate_scheme : NULL;
	hop->basic_refused = !before && has_basic;
	hop->switched = true;
	return hop->scheme != before && (hop->scheme || (is_known && has_basic));
}

/* Reads a reply's body to its end, as another reply comes behind it; false if that is too much, or none can come. */
static bool body_skip(int socket, const char *head)
{
	static struct reader body;
	const char *dropped;
	ssize_t got = 1;

	body_begin(&body, socket, head);
	if (field_lists(head, "Connection", "close") || field_lists(head, "Proxy-Connection", "close") ||
	    body.left > HEAD_MAX)
		return false;
	for (size_t taken = 0; taken <= HEAD_MAX && got > 0; taken += (size_t)got)
		got = body_take(&body, &dropped, HEAD_MAX);
	return got == 0 && body.left == 0;
}

/* Whether a handshake goes on after a 407, in the hop's next request. A ticket goes in the first, and alone. */
static bool ntlm_continue(struct hop *hop, int socket, const char *head)
{
	const char *challenge, *cursor = head, *scheme = hop->scheme;
	int name = scheme ? (int)strlen(scheme) : 0, length;

	if (http_status(head) != 407 || !hop->helper || hop->is_last_token || !credentials_known(&hop->credentials))
		return false;
	while ((challenge = http_field(&cursor, "Proxy-Authenticate", &length)))
		if (strncasecmp(challenge, scheme, (size_t)name) == 0 && challenge[name] == ' ')
			break;
	if (!challenge)
		return false;
	if (!body_skip(socket, head))
		ntlm_fail(hop, "", "not through this proxy, which ends the connection within the handshake");
	ntlm_ask(hop, "TT", challenge + name, length - name);
	return true;
}

/* Opens the tunnel through a hop; false if a new try is due, on a new connection. A refusal ends the program. */
static bool connect_through(int socket, struct hop *hop, const struct authority *to)
{
	static struct head request;
	const char *head, *reason;

	if (hop->scheme && !header_given(hop, "Proxy-Authorization"))
		ntlm_start(hop);
	do {
		connect_compose(&request, hop, to);
		head = connect_ask(socket, &request, hop, to);
	} while (ntlm_continue(hop, socket, head));

	if (hop->helper)
		ntlm_end(hop);
	if (http_status(head) / 100 == 2)
		return true; /* RFC 9110 9.3.6: whatever Content-Length and Transfer-Encoding say */
	if (refusal_retry(hop, head, false))
		return false;
	alarm(0); /* the answer has come in time */
	body_note(socket);
	reason = http_reason(head);
	die(refusal_exit(http_status(head)), "%s: CONNECT %s refused: %.*s%s", hop->at.text, to->text,
	    line_shown(reason), reason, refusal_hint(head, hop, to));
}

/* Wipes what this process knew only to reach the far end, which stands, and the stack, where libc has left copies. */
__attribute__((noinline))
static void secrets_forget(void)
{
	char below[48 * 1024];

	explicit_bzero(below, sizeof below);
	for (size_t i = 0; i < opt.hop_count + (opt.relay != NULL); i++) {
		const struct hop *hop = i < opt.hop_count ? &opt.hops[i] : opt.relay;

		secret_wipe(hop->credentials.password);
		secret_wipe(hop->userinfo.password);
		for (struct header *header = hop->headers; header; header = header->next)
			secret_wipe(header->line);
	}
}

/* --- lanes: one direction of a tunnel, past user space where that can be: lane_want, lane_move ---------- */

/* Where bytes come from and go to; both the same for a socket. */
struct end {
	int in, out;
	const char *in_name, *out_name;
	bool own;			/* a socket that only this process has: its flags may change */
	bool patient;			/* it knows by itself how long bytes may wait there */
	uint64_t given;			/* bytes that it has been sent ahead of the shuttle */
};

/* One direction. in == -1: no more to come; out == -1: over. */
struct lane {
	int in, out;
	const struct end *from, *to;
	const struct lane *other;	/* the other direction */
	mode_t in_type, out_type;	/* S_IFSOCK, S_IFIFO ... */
	bool may_splice, splices;	/* once there is much to carry */
	bool lacks_room;		/* the splice waits for out */
	int pipe[2];			/* between two sockets that are spliced */
	size_t piped;			/* bytes in the pipe */
	size_t start, stop;		/* of what was read into the buffer and not yet written */
	char (*buffers)[BUFFER_SIZE], *buffer;	/* two that both directions have, and the one that this has used last */
	uint64_t carried;
	int error;			/* errno of the read or write that broke it, or 0 */
	int spliced_error;		/* errno of the splice before it, or 0 */
	const char *failed;		/* the name of the side that it was of */
};

static void lane_init(struct lane *lane, const struct end *from, const struct end *to, char (*buffers)[BUFFER_SIZE])
{
	mode_t in_type = fd_type(from->in), out_type = fd_type(to->out);

	*lane = (struct lane){
		.in = from->in, .out = to->out, .from = from, .to = to, .buffers = buffers, .pipe = { -1, -1 },
		.in_type = in_type, .out_type = out_type, .carried = to->given,
		.may_splice = from->own ? to->own || out_type == S_IFIFO : to->own && in_type == S_IFIFO,
	};
	if (to->own)
		fcntl(to->out, F_SETFL, O_NONBLOCK);
}

static bool lane_holds(const struct lane *lane)
{
	return lane->lacks_room || lane->start < lane->stop || lane->piped > 0;
}

/* What the lane waits for: bytes, or room for those it holds. Out is always in the set, as its reader may leave. */
static void lane_want(const struct lane *lane, struct pollfd set[2])
{
	bool holds = lane_holds(lane);

	set[0] = (struct pollfd){ .fd = holds || lane->out == -1 ? -1 : lane->in, .events = POLLIN };
	set[1] = (struct pollfd){ .fd = lane->out, .events = holds ? POLLOUT : 0 };
}

/* Notes why a side failed. A socket says that once, which may have been to a splice. */
static void lane_fail(struct lane *lane, int error, const char *name)
{
	lane->error = lane->spliced_error ? lane->spliced_error : error;
	lane->failed = name;
}

/* Nothing more can be written, by that errno: what is held is lost. */
static void lane_break(struct lane *lane, int error)
{
	if (error != 0)
		lane_fail(lane, error, lane->to->out_name);
	lane->out = -1;
	lane->start = lane->stop = lane->piped = 0;
	lane->lacks_room = false;
}

/* Whether the lane is over before all had come. */
static bool lane_cut(const struct lane *lane)
{
	return lane->out == -1 && lane->in != -1;
}

/* Reads into the buffer. MSG_DONTWAIT, as the socket may be inherited and its flags shared with the caller. */
static void lane_read(struct lane *lane)
{
	bool is_socket = lane->piped == 0 && lane->in_type == S_IFSOCK;

	/* As a rule the first serves both directions, so that an idle tunnel has not touched the other. */
	lane->buffer = lane->buffers[lane->other->start < lane->other->stop && lane->other->buffer == lane->buffers[0]];
	ssize_t got = is_socket ? recv(lane->in, lane->buffer, BUFFER_SIZE, MSG_DONTWAIT)
	                        : read(lane->piped > 0 ? lane->pipe[0] : lane->in, lane->buffer, BUFFER_SIZE);

	if (is_nothing(got))
		return;
	if (got == -1 || (got == 0 && lane->spliced_error))
		lane_fail(lane, errno, lane->from->in_name);
	if (got <= 0)
		lane->in = -1;
	lane->start = 0;
	lane->stop = got > 0 ? (size_t)got : 0;
	lane->piped -= lane->piped > 0 ? lane->stop : 0;
}

/* Writes from the buffer. A pipe or terminal that polls writable takes PIPE_BUF bytes at once, maybe no more. */
static void lane_write(struct lane *lane)
{
	const char *bytes = lane->buffer + lane->start;
	size_t length = lane->stop - lane->start;
	bool is_careful = lane->out_type != S_IFREG && length > PIPE_BUF;
	ssize_t put = lane->out_type == S_IFSOCK ? send(lane->out, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL)
	                                         : write(lane->out, bytes, is_careful ? PIPE_BUF : length);

	if (put >= 0) {
		lane->start += (size_t)put;
		lane->carried += (uint64_t)put;
		lane->spliced_error = 0;
	} else if (!is_nothing(put)) {
		lane_break(lane, errno);
	}
}

/* Goes over to splice(2), by a large pipe for fewer wake-ups; not by one below the buffer, as pipe(7) may allow. */
static void lane_begin_splice(struct lane *lane)
{
	bool from_pipe = lane->in_type == S_IFIFO, to_pipe = lane->out_type == S_IFIFO;

	lane->may_splice = false;
	if (!from_pipe && !to_pipe && !pipe_open(lane->pipe))
		return;
	int pipe = from_pipe ? lane->in : to_pipe ? lane->out : lane->pipe[0], size = fcntl(pipe, F_GETPIPE_SZ);
	int most = from_pipe || to_pipe ? PIPE_SIZE : PIPE_BETWEEN;
	lane->splices = (size < most && fcntl(pipe, F_SETPIPE_SZ, most) != -1) || size >= BUFFER_SIZE;
}

/*
 * Moves bytes past user space. EAGAIN does not say which side refused: it waits for one, then for the other. If both
 * refuse, as at the mark of TCP's urgent data, or splice(2) cannot serve, it leaves the lane to its buffer.
 */
static void lane_splice(struct lane *lane)
{
	bool fills = lane->pipe[1] != -1 && lane->piped == 0;
	int in = lane->piped > 0 ? lane->pipe[0] : lane->in, out = fills ? lane->pipe[1] : lane->out;
	ssize_t moved = splice(in, NULL, out, NULL, SPLICE_MAX, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

	if (moved == -1 && errno == EINTR)
		return;
	lane->lacks_room = moved == -1 && errno == EAGAIN && !lane->lacks_room;
	if (moved > 0 && fills) {
		lane->piped = (size_t)moved;
		lane_splice(lane);
	} else if (moved > 0) {
		lane->piped -= lane->piped > 0 ? (size_t)moved : 0;
		lane->carried += (uint64_t)moved;
	} else if (!lane->lacks_room) {
		lane->splices = false; /* 0 may be the end, or urgent data before it, which the buffer can tell */
		if (moved == -1 && errno != EAGAIN && errno != EINVAL && errno != ENOSYS && errno != EPERM &&
		    errno != EACCES && errno != EOPNOTSUPP)
			lane->spliced_error = errno;
	}
}

/* One transfer, of what poll found, and the end if that has come; a socket says by itself whether it has room. */
static void lane_move(struct lane *lane, const struct pollfd set[2])
{
	if (lane->out == -1)
		return;
	if (set[1].revents && !set[1].events && !set[0].revents)
		lane_break(lane, fd_error(lane->out));
	else if (lane->splices && (set[0].revents || set[1].revents))
		lane_splice(lane);
	if (!lane->splices && lane->start == lane->stop && (set[0].revents || lane->piped > 0))
		lane_read(lane);
	if (lane->start < lane->stop && (set[1].revents || lane->out_type == S_IFSOCK))
		lane_write(lane);
	if (lane->may_splice && lane->start == BUFFER_SIZE)
		lane_begin_splice(lane);
	if (lane->in != -1 || lane->out == -1 || lane_holds(lane))
		return;
	/* A reset is told to one, and looks like an end to the other. Why a socket closed both ways is known later. */
	bool is_cut = lane->error || lane->other->error ||
	              (lane->from->in == lane->from->out && set[0].revents & POLLHUP);
	if (lane->out_type != S_IFSOCK)
		close(lane->out);
	else if (!is_cut && shutdown(lane->out, SHUT_WR) == -1)
		lane_fail(lane, errno, lane->to->out_name);
	lane->out = -1;
}

/* --- shuttle: bytes both ways until both ends are done: shuttle, bridge_run ----------------------------- */

/* Lets signals in, as ppoll(2) does not while there is always something. */
static void signals_admit(const sigset_t *waiting)
{
	pselect(0, NULL, NULL, NULL, &(struct timespec){ 0 }, waiting);
}

/* Has the end of this process, whatever it dies of, reset a connection, or pass for the end of the bytes as usual. */
static void end_guard(const struct end *end, bool resets)
{
	const struct linger linger = { .l_onoff = resets };

	if (end->in == end->out)
		setsockopt(end->in, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/* Carries bytes both ways until both directions are over, or a signal has come (in handlers.caught). */
static void shuttle(const struct end *near, const struct end *far, struct lane *up, struct lane *down)
{
	static _Alignas(PAGE) char buffers[2][BUFFER_SIZE]; /* no page of them is touched before it is needed */
	double end = 0;
	int ready = 1;

	lane_init(up, near, far, buffers);
	lane_init(down, far, near, buffers);
	up->other = down;
	down->other = up;
	end_guard(near, true);
	end_guard(far, true);
	if (up->in_type != S_IFCHR || !isatty(up->in))
		signal(SIGINT, SIG_IGN); /* a Ctrl-C for another of the group must not cut an ssh master's connection */
	sigset_t waiting = signals_await((const int[]){ SIGHUP, SIGTERM, SIGINT, 0 });

	for (unsigned turn = 1; ready != 0 && !handlers.caught && (up->out != -1 || down->out != -1); turn++) {
		bool is_lingering = down->out == -1 && !(far->patient && lane_holds(up));
		struct pollfd set[4];

		lane_want(up, set);
		lane_want(down, set + 2);
		if (set[1].fd == set[2].fd && !set[1].events)
			set[1].fd = -1; /* down learns of it as well */
		if (up->error && end == 0)
			end = seconds_now() + LINGER / 1e3;
		double left = up->error ? end - seconds_now() : is_lingering ? LINGER / 1e3 : NEVER;

		if (turn % 64 == 0)
			signals_admit(&waiting);
		ready = left <= 0 ? 0 : fds_wait(set, 4, left, &waiting);
		if (ready == -1 && errno != EINTR)
			die(EX_OSERR, "cannot wait for the tunnel: %s", strerror(errno));
		if (ready == 0 && lane_holds(up) && !up->error)
			lane_break(up, ETIMEDOUT); /* the far end, itself at its end, does not take what is left */
		lane_move(up, set); /* first, as a caller may have left */
		lane_move(down, set + 2);
		/* What a socket's other side wrote before it closed still comes; from a pipe nobody waits for more. */
		if (down->error || (lane_cut(down) && up->in_type != S_IFSOCK))
			lane_break(up, 0);
	}
	end_guard(far, up->error); /* where only the near end has left, what it wrote is still to arrive */
	for (int i = 0; i < 2; i++)
		close(up->pipe[i]), close(down->pipe[i]);
}

/* Carries bytes between two sockets in this process, which is there for nothing else, and ends it. */
static _Noreturn void bridge_run(int one, int other)
{
	struct lane up, down;
	const struct end near = { .in = one, .out = one, .own = true };
	const struct end far = { .in = other, .out = other, .own = true };

	shuttle(&near, &far, &up, &down);
	net_linger(one); /* an openssl that still has to write may not have read why it cannot */
	net_linger(other); /* and a proxy command may not have passed on all it has */
	children_end();
	_exit(EX_OK);
}

/* --- tls: openssl(1) on a stream that stands already: tls_start ----------------------------------------- */

/* A Unix socket that listens in a folder of its own, where nobody else reaches it; its path is in handlers.meeting. */
static int meeting_open(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *variable = getenv("TMPDIR"), *above = variable && *variable ? variable : "/tmp";
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(above) + sizeof "/proxytunnel.XXXXXX/tls" > sizeof address.sun_path)
		die(EX_OSERR, "%s: too long a name for the folder of a Unix socket (set TMPDIR)", above);
	sprintf(handlers.folder, "%s/proxytunnel.XXXXXX", above);
	if (fd == -1 || !mkdtemp(handlers.folder)) /* whose name is there, for the handlers, before it is */
		die(EX_OSERR, "%s: %s", above, strerror(errno));
	strcat(strcpy(handlers.meeting, handlers.folder), "/tls");
	strcpy(address.sun_path, handlers.meeting);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) == -1 || listen(fd, 1) == -1)
		die(EX_OSERR, "%s: %s", address.sun_path, strerror(errno));
	return fd;
}

/* Starts openssl s_client on the socket at handlers.meeting, as strict as it gets unless -z says otherwise. */
static pid_t tls_command(const struct authority *peer, int complaints, int *fd)
{
	unsigned char address[16];
	bool is_name = address_parse(address, peer->host, strlen(peer->host)) == AF_UNSPEC;
	struct stat status;
	bool is_folder = opt.tls_authorities && stat(opt.tls_authorities, &status) == 0 && S_ISDIR(status.st_mode);
	const struct {
		bool wanted;
		const char *option, *value;
	} options[] = {
		{ true, "-unix", handlers.meeting },
		{ is_name && !opt.tls_nameless, "-servername", peer->host },
		{ !is_name || opt.tls_nameless, "-noservername", NULL }, /* RFC 6066 3: no literal addresses */
		{ !opt.tls_unverified, "-verify_return_error", NULL },
		{ !opt.tls_unverified, is_name ? "-verify_hostname" : "-verify_ip", peer->host },
		{ opt.tls_authorities, is_folder ? "-CApath" : "-CAfile", opt.tls_authorities },
		{ opt.tls_certificate, "-cert", opt.tls_certificate },
		{ opt.tls_certificate, "-pass", "pass:" }, /* or it asks for a key's passphrase on stdin */
		{ opt.tls_key, "-key", opt.tls_key },
	};
	/* -quiet, as -no_ign_eof would take the letters Q and R in the data for commands, and lose late data. */
	const char *argv[24] = { "openssl", "s_client", "-quiet", "-brief", "-verify_quiet" };
	int n = 5;

	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		if (options[i].wanted)
			argv[n++] = options[i].option;
		if (options[i].wanted && options[i].value)
			argv[n++] = options[i].value;
	}
	return command_start(argv, complaints, fd);
}

/* Wraps a connected socket in TLS, by an openssl that a process bridges it to; returns that of the plain bytes. */
static int tls_start(int stream, const struct authority *peer, struct command *openssl)
{
	int plain, complaints[2], meeting = meeting_open();

	openssl->peer = peer->text;
	openssl->said = memory_map(COMPLAINT_MAX + 1, MAP_PRIVATE);
	deadline_stage("%s: no TLS handshake within %u s (-w)", peer->text, opt.timeout);
	openssl->bridge = child_fork(false);
	if (openssl->bridge == 0) {
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		signal(SIGALRM, SIG_DFL);
		alarm(opt.timeout); /* should our parent die before openssl has come */
		int secret = accept(meeting, NULL, NULL);
		alarm(0);
		bridge_run(secret, stream);
	}
	close(meeting);
	close(stream);

	if (!pipe_open(complaints))
		die(EX_OSERR, "cannot make a pipe: %s", strerror(errno));
	openssl->pid = tls_command(peer, complaints[1], &plain);
	openssl->complaints = complaints[0]; /* stays open: openssl must not die of writing to it */
	close(complaints[1]);
	while (!strstr(openssl->said, "\nProtocol version: ")) /* it sums up so; what it says later is of errors */
		if (!openssl_hear(openssl)) {
			openssl_check(openssl, EX_PROTOCOL);
			die(EX_PROTOCOL, "%s: TLS failed: openssl ended before its handshake", peer->text);
		}
	lines_note(peer->text, openssl->said);
	child_forget(openssl->bridge); /* it ends with openssl, and not before all is delivered */
	meeting_remove();
	return plain;
}

/* Ends an openssl that has done its work, if any, and its bridge; else they stay as zombies as long as we do. */
static void tls_end(struct command *openssl)
{
	const pid_t ended[] = { openssl->pid, openssl->bridge };

	if (!openssl->bridge)
		return;
	for (int i = 0; i < 2; i++) {
		if (waitpid(ended[i], NULL, WNOHANG) == 0) /* else it has ended already, and been waited for */
			kill(ended[i], SIGKILL);
		child_wait(ended[i]);
	}
	close(openssl->complaints);
	openssl->bridge = 0;
}

/* --- scoreboard: what a listener and its workers share: worker_enter, worker_stand ----------------------- */

enum {
	HELLO_SIZE = 11,		/* what tells a TLS ClientHello */
	NAME_SIZE = AUTHORITY_SIZE + 128,	/* of a client, with its user and its session */
	USER_SHOWN = 64,		/* of a user's name */
	POLL_MAX = 60,			/* s that a GET may wait */
	SPARE_MAX = 16,			/* workers of a server without a client */
	WAITING_TIME = 5,		/* s that they wait for one, in accept(2) and poll(2); a listener's tick */
	SESSION_TIME = 120,		/* s without a request after which a session ends, and is remembered */
	ENDED_MAX = 8192,		/* sessions that are remembered */
	SESSION_CONNECTIONS = 16,	/* that are served at once */
	KEPT_SIZE = 8 << 20,		/* what a client has not acknowledged */
	KEPT_IDLE = 65536,		/* that much is not kept for long where nothing comes */
	READ_SIZE = 1 << 20,		/* of the target, at a time */
	BODY_SIZE = 256 << 10,		/* of a body, at a time */
	POLL_SIZE = 4 << 20,		/* an answer to a poll */
	STALL_TIME = 10,		/* s that a target may leave upstream bytes */
	HEARTBEAT = 15,			/* s of silence in a stream of frames */
	STREAM_TIME = 300,		/* s */
	ERROR_SIZE = 128,		/* why a session broke */
};

/* How far a worker has come. */
enum stage {
	STAGE_FREE,			/* there is none */
	STAGE_WAITING,			/* for its next client */
	STAGE_ASKED,			/* its client has not asked for anything that it may have, or not again */
	STAGE_EVICTED,			/* the listener ends it, to make room */
	STAGE_SERVING,			/* a request of a session */
	STAGE_TUNNEL,			/* its tunnel stands, or is about to; or a session is about to */
};

/* Of a worker. */
struct place {
	atomic_int worker;		/* 0: not known yet */
	atomic_int session;		/* the number of the one that it serves */
	_Atomic double since;		/* when it began to wait for its client's request */
	char client[AUTHORITY_SIZE];	/* empty: nothing to be said of it */
};

/* In memory that the listener and all its workers have. Whatever kills a worker, what it left here can be relied on. */
struct scoreboard {
	pid_t listener;
	pthread_mutex_t lock;		/* of whoever has a tunnel or a session stand */
	atomic_int sessions;
	atomic_bool is_short;		/* of something, which was said already */
	atomic_int used;		/* the places beyond were never taken */
	int size;			/* places */
	struct place *places;
	atomic_uchar stages[];
};

/* A session that a worker serves requests of, or that the listener keeps. */
struct hold {
	char id[SESSION_WORD + 1];
	int memory, target;
	struct session *session;	/* NULL: there is none, or it has ended */
	size_t size;			/* of it that is mapped */
	double forgotten;		/* when a session that has ended is not remembered any more */
};

/* What a listener knows, and each of its workers, which begins as a copy of it. */
struct worker {
	struct scoreboard *board;	/* NULL: this process has no listener */
	int listening;			/* the socket that clients come by */
	int questions[2];		/* to the listener, which has them from the first */
	sigset_t waiting;		/* the mask to wait with: all other signals are let in */
	/* Of the listener: */
	struct hold *kept;		/* the sessions, and ENDED_MAX that have ended, up to one without an id */
	double due;			/* when to look next for sessions that nobody asks for */
	/* Of a worker: */
	int place;
	struct hold hold;
};

/* Makes a lock that processes share, and that is free again when its owner dies; see pthread_mutexattr_setrobust(3). */
static void lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t kind;

	pthread_mutexattr_init(&kind);
	pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(lock, &kind);
	pthread_mutexattr_destroy(&kind);
}

/* Takes a lock; false if its last owner died with it. */
static bool lock_take(pthread_mutex_t *lock)
{
	bool is_left = pthread_mutex_lock(lock) == EOWNERDEAD;

	if (is_left)
		pthread_mutex_consistent(lock);
	return !is_left;
}

/* A server has twice as many places as clients, as a session has two connections, and some to refuse others. */
static struct scoreboard *board_create(void)
{
	int size = opt.serve ? 2 * (int)opt.clients_max + SPARE_MAX : (int)opt.clients_max;
	struct scoreboard *board = memory_map(sizeof *board + (size_t)size * sizeof *board->stages, MAP_SHARED);

	board->places = memory_map((size_t)size * sizeof *board->places, MAP_SHARED);
	board->size = size;
	board->listener = getpid();
	lock_init(&board->lock);
	return board;
}

/* Counts the workers of a stage. */
static int board_count(const struct scoreboard *board, enum stage stage)
{
	int count = 0, used = board->used;

	for (int i = 0; i < used; i++)
		count += board->stages[i] == stage;
	return count;
}

/* Says once that something is short, and waits: no shortage ends a listener or a worker. */
static void board_shortage(struct scoreboard *board, const char *what)
{
	if (!atomic_exchange(&board->is_short, true))
		warn("%s: %s (said once)", what, strerror(errno));
	time_wait(0.1);
}

/* Comes to a further stage, unless the listener is ending this process just now. */
static void worker_enter(const struct worker *worker, enum stage stage)
{
	atomic_uchar *own = &worker->board->stages[worker->place];
	unsigned char asked = STAGE_ASKED;

	while (!atomic_compare_exchange_strong(own, &asked, (unsigned char)stage)) {
		asked = STAGE_ASKED;
		pause();
	}
}

/* Has a tunnel or a session stand for the client, unless as many do as may be; false if so. */
static bool worker_stand(const struct worker *worker)
{
	struct scoreboard *board = worker->board;

	if (!board)
		return true;
	lock_take(&board->lock);
	bool has_room = board_count(board, STAGE_TUNNEL) + board->sessions < opt.clients_max;
	if (has_room)
		worker_enter(worker, STAGE_TUNNEL);
	pthread_mutex_unlock(&board->lock);
	return has_room;
}

/* Waits for a request of a client, which the listener may end meanwhile: by that name, or without a word. */
static void worker_rest(const struct worker *worker, const char *client)
{
	if (!worker->board)
		return;
	struct place *place = &worker->board->places[worker->place];
	strcpy(place->client, client);
	place->since = seconds_now();
	worker->board->stages[worker->place] = STAGE_ASKED;
}

/* --- requests: what a client of a server asks for, and how it is answered: request_parse, client_refuse - */

enum relay_method { RELAY_OPEN, RELAY_DELETE, RELAY_PUT, RELAY_GET };

/* What a client asks for: a head, taken apart in place. */
struct request {
	const char *method, *target;
	char *fields;
	bool is_head, is_http10;
	bool is_coded;			/* its body comes in chunks, or otherwise without a length */
	bool keep;			/* the connection, for further requests */
	bool expects;			/* 100, before it sends the body */
	uint64_t length;		/* of the body */
	/* Of a session: */
	enum relay_method means;
	char id[SESSION_WORD + 1];
	char key[SESSION_WORD + 1];	/* empty if there is none */
	uint64_t offset, sequence;
	long poll;			/* s; -1: a stream */
	bool end;			/* the upstream ends behind this body */
};

/* A client of a server, and its request. */
struct client {
	struct worker *worker;		/* that serves it */
	int socket;
	const char *address;
	char name[NAME_SIZE];		/* its address, user and session, as the log names it */
	struct authority to;		/* the text is "-" until it is known */
	struct request asked;
	uint64_t body;			/* bytes of it that are to come */
	struct head head;
};

#define RELAY_HEAD(type) "Tunnel-Relay: 2\r\nContent-Type: " type "\r\nCache-Control: no-store, no-transform\r\n"
#define STREAM_HEAD "HTTP/1.1 200 OK\r\n" RELAY_HEAD("application/octet-stream")

/* Composes a reply; returns its length. A reason stands in the status line too, as most clients show only that. */
static size_t reply_compose(char reply[ANSWER_SIZE], int status, const char *words, bool keep, bool is_head)
{
	const char *reason = status == 200 ? "OK" : status == 204 ? "No Content" :
	                     status == 201 ? "Created by a relay of 2.1, which wants a client of 2.1" : words;
	const char *field = status == 401 ? "WWW-Authenticate: Basic realm=\"proxytunnel\"\r\n" :
	                    status == 405 ? "Allow: CONNECT\r\n" :
	                    status == 407 ? "Proxy-Authenticate: Basic realm=\"proxytunnel\"\r\n" : "";
	const char *fields = status < 400 ? RELAY_HEAD("application/octet-stream") : RELAY_HEAD("text/plain");
	const char *end = status < 400 ? "" : "\n";
	char length[40] = "";

	if (status == 204)
		words = ""; /* and no length (RFC 9110 8.6) */
	else
		snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(words) + strlen(end));
	return (size_t)snprintf(reply, ANSWER_SIZE, "HTTP/1.1 %d %s\r\n%s%s%s%s\r\n%s%s", status, reason, field, fields,
	                        length, keep ? "" : "Connection: close\r\n", is_head ? "" : words, is_head ? "" : end);
}

/* Starts the clock for a stage of a request; at its end the client is answered so (0: not), and that is logged. */
static void client_stage(const struct client *client, int status, const char *reason)
{
	handlers.answer_length = 0;
	handlers.client = client->socket;
	deadline_stage("%s to %s: %s in %u s", client->name, client->to.text, reason, opt.timeout);
	atomic_signal_fence(memory_order_release);
	if (status != 0)
		handlers.answer_length = reply_compose(handlers.answer, status, reason, false, client->asked.is_head);
	alarm(opt.timeout);
}

/* Receives bytes of a body, asked for as the client wants; 0 or less at its end, or after IDLE_TIME without. */
static ssize_t client_receive(struct client *client, char *bytes, size_t size)
{
	static const char proceed[] = "HTTP/1.1 100 Continue\r\n\r\n";

	if (client->asked.expects && !net_send(client->socket, proceed, sizeof proceed - 1))
		return -1;
	client->asked.expects = false;
	ssize_t got;
	do
		got = recv(client->socket, bytes, client->body < size ? (size_t)client->body : size, 0);
	while (got == -1 && errno == EINTR);
	client->body -= got > 0 ? (uint64_t)got : 0;
	return got;
}

/* Reads the rest of a body, as some proxies listen only once it is sent; false if it does not come, or is too much. */
static bool client_drop(struct client *client)
{
	char dropped[16384];

	while (client->body > 0 && client->body <= BODY_MAX && !client->asked.expects &&
	       client_receive(client, dropped, sizeof dropped) > 0)
		continue;
	return client->body == 0;
}

/* Replies; false if the connection is not to be used again. */
static bool client_reply(struct client *client, int status, const char *words)
{
	char reply[ANSWER_SIZE];
	bool keep = client_drop(client) && client->asked.keep;
	size_t length = reply_compose(reply, status, words, keep, client->asked.is_head);

	return net_send(client->socket, reply, length) && keep;
}

/* Replies that the client cannot have it, logs that, in words that may not be for clients, and ends the process. */
static _Noreturn void client_refuse_as(struct client *client, int status, const char *reason, const char *logged)
{
	alarm(0);
	worker_rest(client->worker, "");
	warn("%s to %s: %d, %s", client->name, client->to.text, status, logged);
	client->asked.keep = false;
	client_reply(client, status, reason);
	net_linger(client->socket);
	exit(EX_OK);
}

#define client_refuse(client, status, reason) client_refuse_as(client, status, reason, reason)

/* Takes the request line apart, in place; false if it is none (RFC 9112 3). */
static bool request_split(struct request *request, char *head)
{
	char *line = strtok_r(head, "\r\n", &request->fields); /* RFC 9112 2.2: past an empty line before it */
	size_t method = line ? strspn(line, token_characters) : 0;
	char *target = method > 0 && line[method] == ' ' ? line + method + 1 : NULL;
	char *version = target ? strpbrk(target, " \t") : NULL;
	if (!version || version == target || (strcmp(version, " HTTP/1.0") != 0 && strcmp(version, " HTTP/1.1") != 0))
		return false;
	request->is_http10 = version[8] == '0';
	line[method] = *version = '\0';
	request->method = line;
	request->target = target;
	request->fields += *request->fields == '\n';
	return true;
}

/* Takes a head apart, in place; returns what is wrong with it, or NULL (RFC 9112 2.2, 3.2, 5, 6.3). */
static const char *request_parse(struct request *request, char *head)
{
	const char *line, *value = "", *coding;
	int length = 0, ignored;

	*request = (struct request){ .method = "", .poll = -1 };
	for (const char *c = head; *c; c++)
		if (iscntrl((unsigned char)*c) && !strchr("\t\n", *c) && (*c != '\r' || c[1] != '\n'))
			return "a control character, or a bare CR, in the head";
	if (!request_split(request, head))
		return "a request line that is none";
	for (const char *cursor = request->fields; (line = http_line(&cursor, &length)) && length > 0;) {
		size_t name = strspn(line, token_characters);

		if (name == 0 || line[name] != ':')
			return "a header that is not Name: value"; /* nor is a folded one */
	}
	int hosts = field_count(request->fields, "Host", &value, &length);
	if (hosts > 1 || (hosts == 0 && !request->is_http10))
		return hosts > 1 ? "more than one Host" : "no Host";
	for (int i = 0; hosts == 1 && i < length; i++)
		if (!isalnum((unsigned char)value[i]) && !strchr("-._:[]%~", value[i]))
			return "a Host that is none";
	request->is_coded = field_count(request->fields, "Transfer-Encoding", &coding, &ignored) > 0;
	int lengths = field_count(request->fields, "Content-Length", &value, &length);
	bool is_right = lengths == 0 || offset_parse(&request->length, value, (size_t)length);
	if (!is_right || lengths > 1 || (lengths == 1 && request->is_coded))
		return "a Content-Length that is no number, or not alone";
	if (request->length > 0 && (strcmp(request->method, "CONNECT") == 0 || strcmp(request->method, "GET") == 0))
		return "a body where none can be";
	request->is_head = strcmp(request->method, "HEAD") == 0;
	request->keep = !request->is_http10 && !field_lists(request->fields, "Connection", "close");
	request->expects = field_lists(request->fields, "Expect", "100-continue");
	return NULL;
}

/* Brings a host to its plain form: lower case, no dot at its end, an address as inet_ntop(3) writes it. */
static void host_plain(char host[HOST_MAX + 1])
{
	unsigned char address[16];
	size_t length = strlen(host);

	for (char *c = host; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (length > 1 && host[length - 1] == '.')
		host[--length] = '\0';
	int family = strchr(host, '%') ? AF_UNSPEC : address_parse(address, host, length);
	if (family != AF_UNSPEC)
		inet_ntop(family, address, host, HOST_MAX);
}

/* The authority that a CONNECT names, in its plain form; returns what is wrong with it, or NULL (RFC 9112 3.2.3). */
static const char *target_parse(struct authority *to, const char *target)
{
	struct authority asked;
	const char *wrong = authority_parse(&asked, target, NULL);

	if (wrong)
		return wrong;
	if (strchr(asked.host, ':') && *target != '[')
		return "an IPv6 address without brackets";
	if (strchr(asked.host, '%'))
		return "no host can hold such a character";
	host_plain(asked.host);
	return authority_set(to, asked.host, strlen(asked.host), asked.port);
}

/* Logs how a tunnel has ended, or a session. */
static void tunnel_log(const char *name, const char *to, const char *outcome, uint64_t up, uint64_t down, double begun)
{
	warn("%s to %s: %s, %" PRIu64 " bytes up, %" PRIu64 " down, %.3f s", name, to, outcome, up, down,
	     seconds_now() - begun);
}

/* --- access: who may have what: client_login, allow_fit, addresses_filter -------------------------------- */

/* The accounts of a server: a line user:password each, made to strings behind each other. */
static char *accounts_read(const char *path)
{
	char *content = passfile_load(path), *rest = content, *to = content, *line;

	for (; (line = passfile_line(&rest)); to += strlen(to) + 1) {
		if (!strchr(line, ':'))
			die(EX_NOINPUT, "%s: a line in it is not user:password", path);
		memmove(to, line, strlen(line) + 1);
	}
	if (to == content)
		die(EX_NOINPUT, "%s: no user:password in it", path);
	*to = '\0';
	return content;
}

/* Whether two secrets are the same, in a time that depends on the first alone. */
static bool secret_equal(const char *secret, const char *given)
{
	size_t length = strlen(secret), given_length = strlen(given);
	volatile size_t difference = length ^ given_length;

	for (size_t i = 0; i < length; i++)
		difference |= (size_t)(secret[i] ^ given[i % (given_length + 1)]);
	return difference == 0;
}

/* Decodes the user and password that a field of that name bears (RFC 7617); false if there are none. */
static bool login_read(char given[2 * CREDENTIAL_MAX + 4], const char *fields, const char *name)
{
	const char *value;
	int length;

	if (field_count(fields, name, &value, &length) != 1 || strncasecmp(value, "Basic ", 6) != 0)
		return false;
	size_t skipped = 5 + strspn(value + 5, " "), coded = (size_t)length - skipped;
	long decoded = coded < BASE64_SIZE(2 * CREDENTIAL_MAX) ? base64_decode(given, value + skipped, coded) : -1;
	if (decoded < 0 || memchr(given, '\0', (size_t)decoded))
		return false;
	given[decoded] = '\0';
	return true;
}

/* Has the client named by its user, or refuses one that is none; clients are not told which users there are. */
static void client_login(struct client *client, const char *field, int status)
{
	char given[2 * CREDENTIAL_MAX + 4];
	bool is_right = false, is_user = false;

	if (!opt.accounts)
		return;
	if (!login_read(given, client->asked.fields, field))
		client_refuse_as(client, status, "user and password wanted", "no password");
	size_t length = strcspn(given, ":"), named = strlen(client->name);
	for (const char *account = opt.accounts; *account; account += strlen(account) + 1) {
		is_right |= secret_equal(account, given);
		is_user |= given[length] == ':' && strncmp(account, given, length + 1) == 0;
	}
	given[length < USER_SHOWN ? length : USER_SHOWN] = '\0';
	if (is_user)
		snprintf(client->name + named, sizeof client->name - named, " user %s", given);
	explicit_bzero(given, sizeof given);
	if (!is_right)
		client_refuse_as(client, status, "wrong user or password", is_user ? "wrong password" : "no such user");
}

/* How a pattern of --allow fits. */
enum fit { FIT_NOT, FIT_WILD, FIT_ADDRESS, FIT_EXACT };

/* What is wrong with a pattern, whose host is without brackets and in lower case, or NULL. */
static const char *allow_wrong(const char *host, const char *port)
{
	const char *bad = host + strspn(host, "-._:*?[]!^0123456789abcdefghijklmnopqrstuvwxyz");
	const char *open = strrchr(host, '[');
	unsigned char base[16];
	bool is_pattern = strpbrk(port, "*?[");
	unsigned bits;

	if (is_pattern && port[strspn(port, "0123456789*?[]-!^")])
		return "a port is digits, and *, ? and [...]";
	if (!is_pattern && number_parse(port, 1, 65535) == -1)
		return strchr(port, '-') ? "a range of ports is a pattern, as 80[0-9][0-9]" :
		                           "the port is not a number from 1 to 65535, or a pattern";
	if (strchr(host, '/'))
		return range_parse(host, base, &bits) == AF_UNSPEC ? "a range is ADDRESS/BITS, as 10.0.0.0/8:22" : NULL;
	if (*bad)
		return *bad & 0x80 ? "a name that is not ASCII is written xn--..." : "no host holds such a character";
	if (open && !strchr(open, ']'))
		return "a [ without its ]";
	if (strchr(host, ':') && !strpbrk(host, "*?[") && address_parse(base, host, strlen(host)) == AF_UNSPEC)
		return "the host is no IPv6 address";
	return NULL;
}

/* Adds a pattern of what may be reached, in the form of what is asked for: one that can never fit ends the program. */
static void allow_add(const char *given)
{
	struct allowed *pattern = &opt.allow[opt.allow_count++];
	const char *colon = strrchr(given, ':');
	char *host = pattern->host;

	if (!colon || colon == given || !colon[1] || (colon[-1] == ':' && colon - given != 2))
		die(EX_USAGE, "--allow %s: not HOST:PORT, patterns both", given);
	if (strlen(given) > HOST_MAX)
		die(EX_USAGE, "--allow %s: over %d bytes", given, HOST_MAX);
	bool is_literal = *given == '[' && memchr(given, ':', (size_t)(colon - given)) && strchr(given, ']');
	for (const char *c = given; c < colon; c++)
		if (!is_literal || (*c != '[' && *c != ']')) /* the brackets of an IPv6 address are no pattern */
			*host++ = (char)tolower((unsigned char)*c);
	strcpy(pattern->port, colon + 1);
	long number = number_parse(pattern->port, 1, 65535);
	if (number != -1)
		snprintf(pattern->port, sizeof pattern->port, "%ld", number);
	const char *wrong = allow_wrong(pattern->host, pattern->port);
	if (wrong)
		die(EX_USAGE, "--allow %s: %s", given, wrong);
	if (!strpbrk(pattern->host, "*?[/"))
		host_plain(pattern->host);
}

/* The best fit of all patterns on a plain host and a port. One as 10.0.* names addresses. */
static enum fit allow_fit(const char *host, const char *port)
{
	enum fit best = FIT_NOT;
	unsigned char address[16];
	int family = address_parse(address, host, strlen(host));

	for (const struct allowed *pattern = opt.allow; pattern < opt.allow + opt.allow_count; pattern++) {
		const char *allowed = pattern->host;
		size_t length = strlen(allowed), wild = strcspn(allowed, "*?[/");
		bool is_range = allowed[wild] == '/', is_numeric = strspn(allowed, "0123456789.*?[]-!") == length;
		enum fit fit = wild == length ? FIT_EXACT : wild > 0 ? FIT_ADDRESS : FIT_WILD;

		if (fit <= best || fnmatch(pattern->port, port, 0) != 0)
			continue;
		if (fit == FIT_ADDRESS && (is_range || is_numeric) && family == AF_UNSPEC)
			continue; /* 10.* is meant for addresses, and would let 10.evil.example pass */
		if (is_range ? range_holds(allowed, family, address) : fnmatch(allowed, host, 0) == 0)
			best = fit;
	}
	return best;
}

/* Whether that is reached from here only: loopback, link-local, private, multicast, and what embeds such. */
static bool is_inside(const char *address)
{
	return no_proxy_names("0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,127.0.0.0/8,169.254.0.0/16,172.16.0.0/12,"
	                      "192.0.0.0/24,192.168.0.0/16,198.18.0.0/15,224.0.0.0/3,::/96,::ffff:0:0:0/96,"
	                      "64:ff9b::/96,64:ff9b:1::/48,2001::/32,2002::/16,fc00::/7,fe80::/10,fec0::/10,ff00::/8",
	                      address);
}

/* Drops addresses that a destination which fits so may not have: a wildcard must not lead inside by anyone's DNS. */
static void addresses_filter(struct addresses *addresses, const char *port, enum fit fit)
{
	size_t count = 0;
	char text[HOST_MAX + 1];

	for (union address *at = addresses->at; at < addresses->at + addresses->count; at++) {
		if (getnameinfo(&at->any, address_size(at), text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0)
			continue;
		host_plain(text);
		if (fit == FIT_EXACT || !is_inside(text) || allow_fit(text, port) >= FIT_ADDRESS)
			addresses->at[count++] = *at;
	}
	addresses->count = count;
}

/* Whether bytes may begin a TLS ClientHello: a handshake in a record, and its version (RFC 8446 5.1, 4.1.2). */
static bool is_hello(const unsigned char *bytes, size_t length)
{
	static const unsigned char low[HELLO_SIZE] = { 22, 3, 0, 0, 0, 1, 0, 0, 0, 3, 0 };
	static const unsigned char high[HELLO_SIZE] = { 22, 3, 4, 65, 255, 1, 1, 255, 255, 3, 4 };

	for (size_t i = 0; i < length; i++)
		if (bytes[i] < low[i] || bytes[i] > high[i])
			return false;
	return true;
}

/* --- sessions: tunnels without CONNECT, in memory of their own: relay_request_parse, session_lock -------- */

static bool is_session_word(const char *text, size_t length)
{
	return length == SESSION_WORD && strspn(text, "0123456789abcdef") >= length;
}

/* Takes what stands behind the ? of the target apart; false if it means nothing. */
static bool relay_query(struct request *request, const char *query)
{
	size_t digits = strspn(query, "0123456789");

	if (request->means == RELAY_PUT)
		return !*query || (request->end = strcmp(query, "end") == 0);
	if (request->means == RELAY_OPEN && strcmp(query, "close") == 0)
		return (request->means = RELAY_DELETE);
	if (request->means != RELAY_GET)
		return !*query;
	return offset_parse(&request->sequence, query, digits) &&
	       (!query[digits] || (strncmp(query + digits, "&poll=", 6) == 0 &&
	                           (request->poll = number_parse(query + digits + 6, 0, POLL_MAX)) != -1));
}

/*
 * Reads what a request wants of a session, its target from the end: BASE/ID, or BASE/ID/OFFSET, and a query; false if
 * it wants something else.
 */
static bool relay_request_parse(struct request *request)
{
	static const char *const methods[] = { "POST", "DELETE", "PUT", "GET" }; /* in the order of relay_method */
	const char *target = request->target, *scheme = *target == '/' ? NULL : strstr(target, "://");
	const char *path = scheme ? scheme + 3 + strcspn(scheme + 3, "/?#") : target;
	const char *end = path + strcspn(path, "?#"), *id = end, *key = "";
	int length = 0;

	if (field_count(request->fields, "Tunnel-Key", &key, &length) == 1 && is_session_word(key, (size_t)length))
		snprintf(request->key, sizeof request->key, "%.*s", SESSION_WORD, key);
	if (*path != '/')
		return false;
	while (id[-1] != '/')
		id--;
	bool has_offset = !is_session_word(id, (size_t)(end - id)) && id - path > SESSION_WORD + 1;
	if (has_offset && !offset_parse(&request->offset, id, (size_t)(end - id)))
		return false;
	id -= has_offset ? SESSION_WORD + 1 : 0;
	if (id[-1] != '/' || !is_session_word(id, has_offset ? SESSION_WORD : (size_t)(end - id)))
		return false;
	snprintf(request->id, sizeof request->id, "%.*s", SESSION_WORD, id);

	const char *method = has_offset && strcmp(request->method, "POST") == 0 ? "PUT" : request->method;
	for (int i = RELAY_OPEN; i <= RELAY_GET; i++)
		if (strcmp(method, methods[i]) == 0 && has_offset == (i >= RELAY_PUT)) {
			request->means = (enum relay_method)i;
			return relay_query(request, *end == '?' ? end + 1 : "");
		}
	return false;
}

/*
 * Stands in a file without a name, which is in memory. The listener keeps that, and the target's socket, and hands both
 * to a worker that serves a request of the session. What changes is changed under the lock of its direction, which is
 * held for calls that do not block; so a PUT and a GET do not wait for each other.
 */
enum direction { UP, DOWN };

struct session {
	pthread_mutex_t locks[2];
	char name[NAME_SIZE], to[AUTHORITY_SIZE];	/* who opened it, and where it leads */
	int number;			/* the place that the listener has for it, and more than 0 */
	char key[SESSION_WORD + 1];	/* that its requests bear */
	double begun;
	_Atomic double asked;		/* when a request last came, or bytes of one */
	atomic_bool is_closed;
	bool up_ended, down_ended;
	bool is_hello;			/* nothing is held back for want of a ClientHello */
	unsigned char hello[HELLO_SIZE];	/* what is held back */
	uint64_t taken;			/* upstream bytes: the offset expected next */
	uint64_t start;			/* every downstream byte before it is acknowledged, */
	_Atomic uint64_t stop;		/* and before this has been read from the target */
	uint64_t rested;		/* where it stopped when its memory was last given back */
	double fed;			/* when bytes were last read */
	uint64_t sequence;		/* of the last GET */
	_Atomic uint64_t gets;		/* how many came: only the last goes on */
	_Atomic uint64_t sent;		/* every downstream byte before it has been sent once */
	atomic_bool is_refused;		/* the target takes nothing more, but may still send */
	atomic_bool is_broken;		/* it does neither */
	char error[ERROR_SIZE];		/* why */
	_Alignas(PAGE) char kept[KEPT_SIZE];	/* of the downstream; the byte of an offset is at its remainder */
};

_Static_assert(offsetof(struct session, kept) == PAGE, "all but the downstream is in one page");

/* A file without a name, of the size of a session, for memory that is handed on; -1 if there can be none. */
static int memory_open(void)
{
	int fd = memfd_create("session", MFD_CLOEXEC);
	FILE *file = fd == -1 ? tmpfile() : NULL; /* that may be forbidden, or not there */

	if (file) {
		fd = fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
		fclose(file);
	}
	if (ftruncate(fd, sizeof(struct session)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Takes over the descriptors of a session, and maps so much of it; false if there is no room: they are left then. */
static bool hold_take(struct hold *hold, int memory, int target, size_t size)
{
	void *mapped = target == -1 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);

	if (mapped == MAP_FAILED)
		return false;
	hold->memory = memory;
	hold->target = target;
	hold->session = mapped;
	hold->size = size;
	return true;
}

/* Lets a session go, with its descriptors. */
static void hold_release(struct hold *hold)
{
	if (!hold->session)
		return;
	munmap(hold->session, hold->size);
	close(hold->memory);
	close(hold->target);
	hold->session = NULL;
}

/* Makes a session that leads to the target of a client, which it takes over; false if there is no memory. */
static bool session_create(struct hold *hold, const struct client *client, int target)
{
	if (!hold_take(hold, memory_open(), target, sizeof *hold->session))
		return false;
	struct session *session = hold->session;
	lock_init(&session->locks[UP]);
	lock_init(&session->locks[DOWN]);
	strcpy(session->key, client->asked.key);
	strcpy(session->name, client->name);
	strcpy(session->to, client->to.text);
	session->is_hello = !opt.tls_only;
	session->begun = seconds_now();
	session->asked = session->begun;
	fcntl(target, F_SETFL, O_NONBLOCK);
	return true;
}

/* No more upstream bytes are taken, and why: what is said first holds. */
static void session_refuse(struct session *session, const char *error)
{
	if (!session->is_refused)
		snprintf(session->error, ERROR_SIZE, "%s", error);
	session->is_refused = true;
}

/* The tunnel breaks, and its client is told so. */
static void session_break(const struct hold *hold, const char *error)
{
	session_refuse(hold->session, error);
	hold->session->is_broken = true; /* before the shutdown, which looks like the end of the downstream */
	shutdown(hold->target, SHUT_RDWR);
}

/* Takes a lock of a session, which breaks if its last owner died with it, or no ClientHello has come in time. */
static void session_lock(const struct hold *hold, enum direction direction)
{
	const struct session *session = hold->session;

	if (!lock_take(&hold->session->locks[direction])) /* nobody knows what who had it has done */
		session_break(hold, "a process of the relay was ended in the middle of its work");
	if (!session->is_hello && opt.timeout > 0 && seconds_now() >= session->begun + opt.timeout)
		session_break(hold, "cut, as no TLS ClientHello came in time");
}

/* Takes every downstream byte before an offset for acknowledged. Gives memory back if nothing has come for a while. */
static void session_acknowledge(const struct hold *hold, uint64_t offset)
{
	struct session *session = hold->session;

	session->start = offset;
	if (offset == session->stop && offset - session->rested >= KEPT_IDLE &&
	    seconds_now() - session->fed >= IDLE_TIME &&
	    ftruncate(hold->memory, PAGE) == 0 && ftruncate(hold->memory, sizeof *session) == 0)
		session->rested = offset;
}

/* Takes upstream bytes up to a ClientHello's length, which reach the target once they are known as one (--tls-only). */
static ssize_t session_take_hello(const struct hold *hold, const char *bytes, size_t length)
{
	struct session *session = hold->session;
	size_t held = (size_t)session->taken, part = length < HELLO_SIZE - held ? length : HELLO_SIZE - held;

	memcpy(session->hello + held, bytes, part);
	if (!is_hello(session->hello, held + part)) {
		session_break(hold, "cut, as it is no TLS");
	} else if (held + part == HELLO_SIZE) {
		session->is_hello = true;
		if (send(hold->target, session->hello, HELLO_SIZE, MSG_DONTWAIT | MSG_NOSIGNAL) != HELLO_SIZE)
			session_break(hold, "the target took no ClientHello");
	}
	return (ssize_t)part;
}

/* Gives the target upstream bytes, as far as it takes them at once; returns how many, -1 for none. */
static ssize_t session_give(const struct hold *hold, const char *bytes, size_t length)
{
	struct session *session = hold->session;

	if (!session->is_hello)
		return session_take_hello(hold, bytes, length);
	ssize_t given = send(hold->target, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (given == -1 && (errno == EPIPE || errno == ECONNRESET))
		session_refuse(session, strerror(errno));
	else if (given == -1 && !is_nothing(given))
		session_break(hold, strerror(errno)); /* else it would wait for a target that waits for more */
	return given;
}

/* Whether nothing comes behind what has been read: the downstream has ended, or the tunnel has broken. */
static bool session_is_over(const struct session *session)
{
	return session->down_ended || session->is_broken;
}

/* Reads some of the downstream, if there is any and room for it. */
static void session_read(const struct hold *hold)
{
	struct session *session = hold->session;
	size_t at = (size_t)(session->stop % KEPT_SIZE), room = KEPT_SIZE - (size_t)(session->stop - session->start);

	if (room == 0 || !session->is_hello || session_is_over(session))
		return;
	room = room < KEPT_SIZE - at ? room : KEPT_SIZE - at;
	ssize_t got = recv(hold->target, session->kept + at, room < READ_SIZE ? room : READ_SIZE, MSG_DONTWAIT);
	if (got > 0) {
		session->stop += (uint64_t)got;
		session->fed = seconds_now();
	} else if (got == 0 && !session->is_refused) {
		session->down_ended = true;
	} else if (!is_nothing(got)) {
		session_break(hold, errno == EFAULT ? "the relay has no memory left" : strerror(errno));
	}
}

/* --- listener: workers, and the sessions that they serve: listener_run, worker_next --------------------- */

enum query { QUERY_FIND, QUERY_ADD, QUERY_END };

/* What a worker asks the listener. */
struct question {
	enum query what;
	char id[SESSION_WORD + 1];
};

/* Ends a session: as it has ended, or otherwise. */
static void kept_end(struct worker *listener, struct hold *kept, const char *otherwise)
{
	struct session *session = kept->session;
	char outcome[ERROR_SIZE + 16];

	session->is_closed = true;
	shutdown(kept->target, SHUT_RDWR);
	snprintf(outcome, sizeof outcome, session->is_broken ? "broken: %s" : "done", session->error);
	tunnel_log(session->name, session->to, otherwise ? otherwise : outcome, session->is_hello ? session->taken : 0,
	           session->sent, session->begun);
	hold_release(kept);
	kept->forgotten = seconds_now() + SESSION_TIME;
	listener->board->sessions--;
}

/* Ends, now and then, the sessions that nobody asks for any more. */
static void sessions_expire(struct worker *listener)
{
	double now = seconds_now();

	if (now < listener->due)
		return;
	listener->due = now + WAITING_TIME;
	for (struct hold *kept = listener->kept; *kept->id; kept++)
		if (kept->session && kept->session->asked + SESSION_TIME <= now)
			kept_end(listener, kept, "left by its client");
}

/* The session of that id, or NULL. One that ended is remembered, as a POST may be late. */
static struct hold *kept_find(const struct worker *listener, const char *id)
{
	double now = seconds_now();

	for (struct hold *kept = listener->kept; *kept->id; kept++)
		if (strcmp(kept->id, id) == 0 && (kept->session || kept->forgotten > now))
			return kept;
	return NULL;
}

/* Keeps a new session, all but its downstream, and the last two of these descriptors; false if there is no room. */
static bool kept_add(struct worker *listener, const struct question *question, int fds[FDS_MAX])
{
	struct hold *kept = listener->kept;
	double now = seconds_now();

	while (kept->session || kept->forgotten > now)
		kept++;
	if (kept - listener->kept == opt.clients_max + ENDED_MAX || !hold_take(kept, fds[1], fds[2], PAGE))
		return false;
	fds[1] = fds[2] = -1;
	strcpy(kept->id, question->id);
	kept->session->number = (int)(kept - listener->kept) + 1;
	listener->board->sessions++;
	return true;
}

/* Answers a question, with which come where the answer goes, and the fds of a new session. */
static void question_take(struct worker *listener)
{
	struct question question;
	int fds[FDS_MAX], status;
	ssize_t got = fds_pass(true, listener->questions[0], fds, FDS_MAX, &question, sizeof question, MSG_DONTWAIT);

	if (got == sizeof question) {
		struct hold *kept = kept_find(listener, question.id);

		if (kept)
			status = !kept->session ? 410 : question.what == QUERY_END ? 204 : 200;
		else if (question.what != QUERY_ADD)
			status = 404;
		else
			status = kept_add(listener, &question, fds) ? 201 : 503;
		if (status == 204)
			kept_end(listener, kept, NULL);
		int given[2] = { status == 200 ? kept->memory : -1, status == 200 ? kept->target : -1 };
		fds_pass(false, fds[0], given, status == 200 ? 2 : 0, &status, sizeof status, MSG_DONTWAIT);
	}
	for (int i = 0; i < FDS_MAX; i++)
		close(fds[i]);
}

/* Waits for workers that have ended. */
static void workers_reap(struct scoreboard *board)
{
	int status;
	pid_t worker;

	while ((worker = waitpid(-1, &status, WNOHANG)) > 0)
		for (int i = 0; i < board->used; i++) {
			if (board->places[i].worker != worker)
				continue;
			if (WIFSIGNALED(status) && board->stages[i] != STAGE_EVICTED && !handlers.caught)
				warn("%s: the process that served it was ended by signal %d", board->places[i].client,
				     WTERMSIG(status));
			board->places[i].worker = 0;
			board->stages[i] = STAGE_FREE;
		}
}

/* Makes room by ending the worker whose client has not asked for anything for longest. */
static void worker_evict(struct scoreboard *board)
{
	unsigned char asked = STAGE_ASKED;
	const struct place *places = board->places, *oldest = NULL;

	for (int i = 0; i < board->used; i++)
		if (board->stages[i] == STAGE_ASKED && (!oldest || places[i].since < oldest->since))
			oldest = &places[i];
	if (!oldest || !atomic_compare_exchange_strong(&board->stages[oldest - places], &asked, STAGE_EVICTED))
		return;
	if (*oldest->client)
		warn("%s to -: ended to make room, after %.1f s without a request", oldest->client,
		     seconds_now() - oldest->since);
	kill(oldest->worker, SIGKILL);
}

/* Starts a worker, where there is a place for it, or makes one; true in it. */
static bool worker_start(struct worker *listener)
{
	struct scoreboard *board = listener->board;
	int place = 0;

	while (place < board->size && board->stages[place] != STAGE_FREE)
		place++;
	if (place == board->size) {
		worker_evict(board);
		return false;
	}
	if (place == board->used)
		board->used = place + 1;
	board->stages[place] = STAGE_WAITING;
	pid_t child = _Fork(); /* as all that fork(3) does for threads costs each worker three pages */
	board->places[place].worker = child == 0 ? getpid() : child;
	if (child == -1) {
		board->stages[place] = STAGE_FREE;
		board_shortage(board, "cannot start a process for a connection");
	}
	if (child != 0)
		return false;
	child_bind(board->listener); /* else it would keep the port from the next listener */
	close(listener->questions[0]);
	for (struct hold *kept = listener->kept; *kept->id; kept++)
		hold_release(kept);
	listener->place = place;
	return true;
}

/* Ends all clients and sessions, and the listener: as it was asked to, or by the signal. */
static _Noreturn void listener_end(struct worker *listener)
{
	struct scoreboard *board = listener->board;
	char outcome[32];

	/* As process 1 of a container this would take them along before each has said how it ended. */
	for (int i = 0; i < LINGER / 10 && board_count(board, STAGE_FREE) < board->used; i++) {
		for (int j = 0; j < board->used; j++)
			if (i % 80 == 0 && board->places[j].worker > 0)
				kill(board->places[j].worker, i == 0 ? SIGTERM : SIGKILL);
		time_wait(0.01);
		workers_reap(board);
	}
	snprintf(outcome, sizeof outcome, "ended by signal %d", handlers.caught);
	for (struct hold *kept = listener->kept; *kept->id; kept++)
		if (kept->session)
			kept_end(listener, kept, outcome);
	if (handlers.caught != SIGTERM)
		signals_release();
	exit(EX_OK);
}

/* Prepares a listener, of which a session takes two descriptors. Signals come only while it waits. */
static void listener_begin(struct worker *listener, int listening)
{
	const struct timeval patience = { .tv_sec = WAITING_TIME };
	struct rlimit files;

	if (opt.serve && getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	listener->listening = listening;
	listener->board = board_create();
	listener->kept = memory_map((size_t)(opt.clients_max + ENDED_MAX + 1) * sizeof *listener->kept, MAP_PRIVATE);
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, listener->questions) == -1)
		die(EX_OSERR, "cannot prepare to listen: %s", strerror(errno));
	setsockopt(listening, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	listener->waiting = signals_await((const int[]){ SIGCHLD, SIGTERM, SIGINT, SIGHUP, 0 });
	listen_announce(listening);
}

/* Whether a client that comes is to have a further worker, or stays in the backlog. */
static bool listener_has_room(const struct scoreboard *board)
{
	bool is_free = board->used < board->size || board_count(board, STAGE_FREE) > 0;

	return board_count(board, STAGE_WAITING) + board_count(board, STAGE_EVICTED) == 0 && /* else one comes */
	       (is_free || (opt.serve && board_count(board, STAGE_ASKED) > 0));
}

/* Has workers wait for clients on a socket that listens, and returns in each of them. */
static void listener_run(struct worker *listener, int listening)
{
	bool is_worker = false;

	listener_begin(listener, listening);
	struct pollfd set[2] = { { .fd = listener->questions[0], .events = POLLIN }, { .events = POLLIN } };
	while (!is_worker && !handlers.caught) {
		workers_reap(listener->board);
		sessions_expire(listener);
		set[1].fd = listener_has_room(listener->board) ? listening : -1;
		if (fds_wait(set, 2, listener->board->sessions > 0 ? WAITING_TIME : NEVER, &listener->waiting) > 0) {
			if (set[0].revents)
				question_take(listener);
			is_worker = set[1].revents && worker_start(listener);
		}
		if (!is_worker)
			signals_admit(&listener->waiting);
	}
	if (!is_worker)
		listener_end(listener);
}

/* The near end that is one connected socket: it is known by its address, where it has one. */
static struct end end_client(int socket)
{
	static char name[AUTHORITY_SIZE] = "?"; /* not zero, for the reason of handlers */
	union address address = { .any = { .sa_family = AF_UNSPEC } };

	getpeername(socket, &address.any, &(socklen_t){ sizeof address });
	if (!address_text(name, &address))
		strcpy(name, "the client");
	return (struct end){ .in = socket, .out = socket, .in_name = name, .out_name = name };
}

/* The next client of a worker, which leaves if none comes. Until its tunnel stands a signal ends the worker at once. */
static struct end worker_accept(struct worker *worker)
{
	struct scoreboard *board = worker->board;
	int fd;

	signals_release();
	worker->waiting = signals_await((const int[]){ SIGUSR1, 0 }); /* see session_workers */
	while ((fd = accept(worker->listening, NULL, NULL)) == -1) {
		if (is_shortage(errno))
			board_shortage(board, "cannot accept a connection");
		if (is_nothing(fd) && !fd_wait(worker->listening, POLLIN, WAITING_TIME))
			exit(EX_OK);
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	struct end client = end_client(fd);
	client.own = true;
	worker_rest(worker, client.in_name);
	if (board_count(board, STAGE_WAITING) == 0)
		kill(board->listener, SIGCHLD); /* the next client needs another worker */
	return client;
}

/* Whether the worker of a server, whose client has gone, has taken a further one. */
static bool worker_next(struct worker *worker, struct end *near)
{
	if (!worker->board || handlers.caught || getppid() != worker->board->listener ||
	    board_count(worker->board, STAGE_WAITING) >= SPARE_MAX)
		return false;
	worker->board->stages[worker->place] = STAGE_WAITING;
	*near = worker_accept(worker);
	return true;
}

/* Asks the listener, or gives it a new session; returns a status, as of a reply, and holds the session of a 200. */
static int worker_ask(struct worker *worker, enum query what, const struct hold *added)
{
	struct hold *hold = &worker->hold;
	struct question question = { .what = what };
	int status = 503, answers[2], fds[FDS_MAX];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, answers) == -1)
		return 503;
	strcpy(question.id, hold->id);
	int given[FDS_MAX] = { answers[1], added ? added->memory : -1, added ? added->target : -1 };
	ssize_t done = fds_pass(false, worker->questions[1], given, added ? 3 : 1, &question, sizeof question, 0);
	close(answers[1]); /* so that the answers end if the listener does */
	if (done == sizeof question)
		done = fds_pass(true, answers[0], fds, FDS_MAX, &status, sizeof status, 0);
	close(answers[0]);
	if (done != sizeof status || (status == 200 && !hold_take(hold, fds[0], fds[1], sizeof *hold->session)))
		return 503;
	return status;
}

/* Counts the workers of a session; SIGUSR1 wakes them in their GETs, as what no descriptor tells has changed. */
static int session_workers(const struct worker *worker, int signal_number)
{
	const struct scoreboard *board = worker->board;
	int count = 0, number = worker->hold.session->number;

	for (int i = 0; i < board->used; i++) {
		pid_t other = board->places[i].worker;

		if (other <= 0 || board->stages[i] != STAGE_SERVING || board->places[i].session != number)
			continue;
		count++;
		if (signal_number != 0) /* none for each keystroke */
			kill(other, signal_number);
	}
	return count;
}

/* --- replies: what each of a session's requests does: session_serve -------------------------------------- */

/* Adds a frame: O with the upstream offset, X with the error, or one but for so many bytes, which are sent behind. */
static void frame_add(char *text, size_t *length, char type, const struct session *session, size_t data)
{
	char words[ERROR_SIZE] = "";

	if (type == 'O')
		snprintf(words, sizeof words, "%" PRIu64, session->taken);
	if (type == 'X')
		strcpy(words, session->error);
	size_t size = strlen(words) + data;
	*length += (size_t)sprintf(text + *length, "%c%c%c%c%s", type, (int)(size >> 16 & 0xff),
	                           (int)(size >> 8 & 0xff), (int)(size & 0xff), words);
}

/* A GET, and what its client has been sent. */
struct get {
	const struct client *client;
	const struct hold *hold;
	uint64_t number;		/* among the session's GETs */
	uint64_t at;			/* the offset of the next byte for the client */
	double begun, moved;		/* when it came, and when its client was last sent something */
};

/* Whether this is still the GET that the session serves. */
static bool get_is_last(const struct get *get)
{
	return get->hold->session->gets == get->number && !get->hold->session->is_closed;
}

/* Waits for the client to take more (POLLOUT), or for the target (0), or a signal; false once the client has gone. */
static bool get_wait(const struct get *get, short events, double until)
{
	const struct hold *hold = get->hold;
	struct pollfd set[2] = {
		{ .fd = get->client->socket, .events = events ? events : POLLRDHUP },
		{ .fd = !events && hold->session->is_hello ? hold->target : -1, .events = POLLIN },
	};

	return fds_wait(set, 2, until - seconds_now(), &get->client->worker->waiting) <= 0 || events || !set[0].revents;
}

/* Reads from the target, and waits for it where all has been sent; false if the client has gone or has another GET. */
static bool get_read(const struct get *get, double until)
{
	struct session *session = get->hold->session;

	if (get->at == session->stop && !get_wait(get, 0, until))
		return false;
	session_lock(get->hold, DOWN);
	bool is_last = get_is_last(get);
	if (is_last)
		session_read(get->hold);
	pthread_mutex_unlock(&session->locks[DOWN]);
	return is_last;
}

/* Sends a text, and behind it what is kept up to an offset; false once the client takes nothing, or has another GET. */
static bool get_send(struct get *get, const char *text, size_t length, uint64_t to)
{
	struct session *session = get->hold->session;

	while (length > 0 || get->at < to) {
		size_t at = (size_t)(get->at % KEPT_SIZE), left = (size_t)(to - get->at);
		struct iovec pieces[2] = {
			{ .iov_base = (void *)text, .iov_len = length },
			{ .iov_base = session->kept + at, .iov_len = left < KEPT_SIZE - at ? left : KEPT_SIZE - at },
		};
		struct msghdr message = { .msg_iov = pieces, .msg_iovlen = 2 };
		ssize_t sent = sendmsg(get->client->socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (is_nothing(sent)) {
			if (seconds_now() >= get->moved + IDLE_TIME || !get_is_last(get))
				return false;
			get_wait(get, POLLOUT, get->moved + IDLE_TIME);
			continue;
		}
		if (sent == -1)
			return false;
		size_t part = (size_t)sent < length ? (size_t)sent : length;
		text += part;
		length -= part;
		get->at += (uint64_t)sent - part;
		get->moved = seconds_now();
	}
	if (get->at > session->sent)
		session->sent = get->at;
	return true;
}

/* Sends frames as they arise, until all is sent, or the client is to ask anew (B), as only a GET acknowledges. */
static void get_stream(struct get *get)
{
	const struct session *session = get->hold->session;
	char text[ANSWER_SIZE];
	size_t length = (size_t)sprintf(text, STREAM_HEAD "X-Accel-Buffering: no\r\nConnection: close\r\n\r\n");
	uint64_t to = get->at;
	bool is_last = false;

	frame_add(text, &length, 'O', session, 0);
	while (get_send(get, text, length, to) && !is_last && get_read(get, get->moved + HEARTBEAT)) {
		uint64_t left = session->stop - get->at;
		double now = seconds_now();
		bool is_long = now - get->begun >= STREAM_TIME, is_full = session->stop - session->start == KEPT_SIZE;
		bool is_idle = now - session->fed >= IDLE_TIME && session->stop - session->rested >= KEPT_IDLE;

		length = 0;
		is_last = left == 0 && session_is_over(session);
		if (is_last) {
			frame_add(text, &length, session->is_broken ? 'X' : 'E', session, 0);
		} else if (left > 0 && !is_long) {
			to += left < FRAME_MAX ? left : FRAME_MAX;
			frame_add(text, &length, 'D', session, (size_t)(to - get->at));
		} else if (is_long || is_full || is_idle) {
			frame_add(text, &length, 'B', session, 0);
			is_last = true;
		} else if (now - get->moved >= HEARTBEAT) {
			frame_add(text, &length, 'H', session, 0);
		}
	}
}

/* Answers with all there is, at once or once there is something, or after a while; false if the connection is over. */
static bool get_poll(struct get *get, long seconds, bool keep)
{
	const struct session *session = get->hold->session;
	char text[ANSWER_SIZE], frames[ANSWER_SIZE], end[ERROR_SIZE + 4];
	size_t frames_length = 0, end_length = 0, length;
	double until = get->begun + (double)seconds;
	uint64_t before;

	do {
		before = session->stop;
		if (!get_read(get, until))
			return false;
	} while (get->at == session->stop ? !session_is_over(session) && seconds_now() < until :
	         session->stop > before && session->stop - get->at < POLL_SIZE);
	size_t data = session->stop - get->at < POLL_SIZE ? (size_t)(session->stop - get->at) : POLL_SIZE;
	frame_add(frames, &frames_length, 'O', session, 0);
	if (data > 0)
		frame_add(frames, &frames_length, 'D', session, data);
	if (session_is_over(session) && get->at + data == session->stop)
		frame_add(end, &end_length, session->is_broken ? 'X' : 'E', session, 0);
	length = (size_t)snprintf(text, sizeof text, STREAM_HEAD "Content-Length: %zu\r\n%s\r\n",
	                          frames_length + data + end_length, keep ? "" : "Connection: close\r\n");
	memcpy(text + length, frames, frames_length);
	return get_send(get, text, length + frames_length, get->at + data) &&
	       get_send(get, end, end_length, get->at) && keep;
}

/* A request for downstream bytes, which acknowledges all before them; false if its connection is over. */
static bool session_get(struct client *client)
{
	const struct request *asked = &client->asked;
	const struct hold *hold = &client->worker->hold;
	struct session *session = hold->session;
	struct get get = { .client = client, .hold = hold, .at = asked->offset };

	session_lock(hold, DOWN);
	bool is_there = asked->offset >= session->start && asked->offset <= session->stop;
	int wrong = asked->sequence < session->sequence ? 409 : is_there ? 0 : 416;
	if (!wrong) {
		session->sequence = asked->sequence;
		get.number = ++session->gets;
		session_acknowledge(hold, asked->offset);
	}
	pthread_mutex_unlock(&session->locks[DOWN]);
	if (wrong)
		return client_reply(client, wrong, wrong == 409 ? "a later GET has come already" :
		                                                  "no such downstream bytes here");
	session_workers(client->worker, SIGUSR1);
	get.begun = get.moved = seconds_now();
	if (asked->poll >= 0)
		return get_poll(&get, asked->poll, asked->keep);
	get_stream(&get);
	return false;
}

/* Gives the target bytes of a body that are new to it; false once it takes no more, or has not until then. */
static bool put_give(const struct worker *worker, const char *bytes, uint64_t at, size_t length, double until)
{
	const struct hold *hold = &worker->hold;
	struct session *session = hold->session;
	bool was_hello = session->is_hello, is_done, is_refused;
	ssize_t given = 0;

	do {
		session_lock(hold, UP);
		uint64_t known = session->taken - at;
		is_refused = session->is_refused || session->is_closed;
		if (known < length && !is_refused) {
			given = session_give(hold, bytes + known, length - (size_t)known);
			session->taken += given > 0 ? (uint64_t)given : 0;
		}
		is_done = session->taken - at >= length;
		pthread_mutex_unlock(&session->locks[UP]);
		if (session->is_hello && !was_hello)
			session_workers(worker, SIGUSR1);
	} while (!is_done && !is_refused && (given > 0 || fd_wait(hold->target, POLLOUT, until - seconds_now())));
	return is_done;
}

/* Ends the upstream if that comes behind the body, whichever PUT brought the last byte; replies how far it came. */
static bool put_reply(struct client *client)
{
	const struct request *asked = &client->asked;
	const struct hold *hold = &client->worker->hold;
	struct session *session = hold->session;
	char offset[24];

	session_lock(hold, UP);
	bool is_end = asked->end && asked->offset + asked->length == session->taken;
	if (is_end && !session->is_refused && !session->up_ended) {
		session->up_ended = true;
		if (!session->is_hello)
			session_break(hold, "cut, as it is no TLS");
		else if (shutdown(hold->target, SHUT_WR) == -1 && errno != ENOTCONN) /* which ends by itself */
			session_break(hold, strerror(errno));
	}
	bool is_refused = session->is_refused;
	snprintf(offset, sizeof offset, "%" PRIu64, session->taken);
	pthread_mutex_unlock(&session->locks[UP]);
	return client_reply(client, is_refused ? 422 : 200, is_refused ? session->error : offset);
}

/* Upstream bytes. Where they begin beyond what is expected, the reply tells. */
static bool session_put(struct client *client)
{
	static char bytes[BODY_SIZE];
	struct session *session = client->worker->hold.session;
	double until = session->asked + STALL_TIME;
	uint64_t at = client->asked.offset;
	bool is_taken = at <= session->taken;

	if (session->up_ended && at + client->asked.length > session->taken)
		return client_reply(client, 416, "the upstream has ended before that");
	while (is_taken && client->body > 0) {
		ssize_t got = client_receive(client, bytes, sizeof bytes);

		if (got <= 0)
			return false;
		session->asked = seconds_now();
		is_taken = put_give(client->worker, bytes, at, (size_t)got, until);
		at += (uint64_t)got;
	}
	return put_reply(client);
}

/* Serves a request of the session that the worker holds; false if its connection is not to be used again. */
static bool session_serve(struct client *client, bool is_new)
{
	if (client->asked.means == RELAY_PUT)
		return session_put(client);
	if (client->asked.means == RELAY_GET)
		return session_get(client);
	if (client->asked.means == RELAY_DELETE) {
		int status = worker_ask(client->worker, QUERY_END, NULL);
		return client_reply(client, status == 204 ? 204 : 410, "no such session");
	}
	if (strcmp(client->to.text, client->worker->hold.session->to) != 0)
		return client_reply(client, 409, "the session stands for another target");
	return client_reply(client, is_new ? 201 : 200, is_new ? "it stands" : "it stands already");
}

/* --- serving: what clients ask for, if they may have it: serve ------------------------------------------- */

/* Connects to where the client wants, or refuses, with that status for a timeout, and another for what else fails. */
static int client_dial(struct client *client, int late, int failed)
{
	struct addresses addresses = { .count = 0 };
	enum fit fit = allow_fit(client->to.host, client->to.port);
	char reason[128];

	if (fit == FIT_NOT)
		client_refuse(client, 403, "not allowed");
	if (!worker_stand(client->worker))
		client_refuse(client, 503, "too many clients");
	note("%s to %s: asked for", client->name, client->to.text);
	client_stage(client, late, "no connection");
	int code = net_resolve(&client->to, &addresses), fd = -1;
	addresses_filter(&addresses, client->to.port, fit);
	if (code != 0)
		snprintf(reason, sizeof reason, "cannot resolve the name: %s", gai_strerror(code));
	else if (addresses.count == 0)
		client_refuse(client, 403, "not allowed: its address is inside");
	else if ((fd = net_dial(&addresses)) == -1)
		snprintf(reason, sizeof reason, "cannot connect: %s", strerror(errno));
	if (fd == -1)
		client_refuse(client, failed, reason);
	alarm(0);
	return fd;
}

/* Reads the next head, or refuses; false if none comes, a further one for IDLE_TIME. */
static bool client_hear(struct client *client, bool is_first)
{
	struct head *head = &client->head;
	enum head_result result = HEAD_MORE;

	explicit_bzero(head->bytes, head->length); /* it may hold credentials */
	head->start = head->length = 0;
	strcpy(client->name, client->address);
	strcpy(client->to.text, "-");
	client->asked = (struct request){ .method = "" };
	client->body = 0;
	if (!is_first)
		result = http_take_head(client->socket, head, false); /* whole as a rule, so that it needs no clock */
	if (result == HEAD_MORE && (is_first || head->length > 0)) {
		client_stage(client, 408, "no request");
		while ((result = http_take_head(client->socket, head, false)) == HEAD_MORE)
			fd_wait(client->socket, POLLIN, NEVER);
		alarm(0);
	}
	if (result == HEAD_FOREIGN)
		client_refuse(client, 400, "a NUL in the head");
	if (result == HEAD_TOO_LARGE)
		client_refuse(client, 431, "a head over 64 KiB");
	if (result != HEAD_WHOLE)
		note("%s to -: gone before a request", client->name);
	return result == HEAD_WHOLE;
}

/* Refuses a request that is neither a CONNECT nor one of a session. */
static _Noreturn void client_refuse_stray(struct client *client)
{
	const char *method = client->asked.method, *known = strstr(" GET HEAD POST PUT DELETE ", method);

	if (known && known[-1] == ' ' && known[strlen(method)] == ' ')
		client_refuse(client, 404, "nothing is here; this is a proxy for CONNECT");
	client_refuse(client, 405, "no such method here; this is a proxy for CONNECT");
}

/* Gives the far end the client's first bytes if they are a TLS ClientHello's; returns how many, 0 if they are not. */
static size_t client_require_hello(const struct client *client, int far)
{
	unsigned char bytes[HELLO_SIZE] = { 0 };
	size_t length = 0;
	ssize_t got = 1;

	client_stage(client, 0, "no TLS ClientHello");
	while (length < HELLO_SIZE && is_hello(bytes, length) && (got > 0 || is_nothing(got))) {
		fd_wait(client->socket, POLLIN, NEVER);
		got = recv(client->socket, bytes + length, HELLO_SIZE - length, 0);
		length += got > 0 ? (size_t)got : 0;
	}
	alarm(0);
	bool is_right = length == HELLO_SIZE && is_hello(bytes, length);
	if (is_right && net_send(far, (const char *)bytes, length))
		return length;
	const char *outcome = is_right ? "broken by the far end, " : "cut, as it is no TLS";
	warn("%s to %s: %s%s", client->name, client->to.text, outcome, is_right ? strerror(errno) : "");
	return 0;
}

/* Serves a CONNECT: a tunnel, if the client may have it. */
static void serve_tunnel(struct client *client)
{
	static const char granted[] = "HTTP/1.1 200 Connection established\r\n\r\n";
	const char *wrong = target_parse(&client->to, client->asked.target);
	char outcome[128] = "done";
	struct lane up, down;

	if (wrong)
		client_refuse(client, 400, wrong);
	client_login(client, "Proxy-Authorization", 407);
	hold_release(&client->worker->hold); /* of the client before */
	int fd = client_dial(client, 504, 502);
	double begun = seconds_now();
	struct end near = { client->socket, client->socket, client->name, client->name, .own = client->worker->board };
	struct end far = { fd, fd, client->to.text, client->to.text, .own = true };
	if (!net_send(client->socket, granted, sizeof granted - 1)) {
		warn("%s to %s: gone before the answer", client->name, client->to.text);
	} else if (!opt.tls_only || (far.given = client_require_hello(client, fd)) > 0) {
		stack_leave();
		shuttle(&near, &far, &up, &down);
		const struct lane *broken = down.error ? &down : &up;
		const char *by = broken->failed == client->name ? "the client" : "the far end";
		end_guard(&near, handlers.caught || broken->error); /* an end by SIGTERM is none of the bytes */
		if (handlers.caught)
			snprintf(outcome, sizeof outcome, "ended by signal %d", handlers.caught);
		else if (broken->error)
			snprintf(outcome, sizeof outcome, "broken by %s, %s", by, strerror(broken->error));
		tunnel_log(client->name, client->to.text, outcome, up.carried, down.carried, begun);
	}
	close(fd);
}

/* Reads what a session is to lead to, or refuses. */
static void client_read_target(struct client *client)
{
	char body[AUTHORITY_SIZE + 1] = "";
	size_t length = 0;
	ssize_t got = client->body > AUTHORITY_SIZE ? 0 : 1;

	for (; got > 0 && client->body > 0; length += got > 0 ? (size_t)got : 0)
		got = client_receive(client, body + length, AUTHORITY_SIZE - length);
	if (client->body > 0 || strlen(body) != length || target_parse(&client->to, body))
		client_refuse(client, 400, "a body that is no HOST:PORT");
}

/* Opens a session; returns the status of the answer. Another worker may have been faster with the same request. */
static int serve_open(struct client *client)
{
	struct worker *worker = client->worker;
	struct hold added = worker->hold;

	if (!session_create(&added, client, client_dial(client, 422, 422)))
		client_refuse(client, 503, "no place for a session");
	int status = worker_ask(worker, QUERY_ADD, &added);
	if (status == 201)
		worker->hold = added;
	else
		hold_release(&added);
	worker->board->stages[worker->place] = STAGE_SERVING;
	return status;
}

/* Gets hold of the session of a request, or refuses. Whether it was opened by it just now. */
static bool session_find(struct client *client)
{
	struct worker *worker = client->worker;
	struct hold *hold = &worker->hold;
	const struct request *asked = &client->asked;
	bool opens = asked->means == RELAY_OPEN;
	int status = 200;

	if (!hold->session || strcmp(hold->id, asked->id) != 0 || hold->session->is_closed) {
		hold_release(hold);
		strcpy(hold->id, asked->id);
		status = worker_ask(worker, QUERY_FIND, NULL);
	}
	if (status == 404 && opens)
		status = serve_open(client);
	else
		worker_enter(worker, STAGE_SERVING);
	if (status == 503)
		client_refuse(client, 503, "no place for a session");
	bool is_ours = hold->session && secret_equal(hold->session->key, asked->key);
	if (hold->session && !is_ours && opens)
		client_refuse(client, 409, "a session of that id stands");
	if (!is_ours)
		client_refuse(client, 410, "no such session");
	return status == 201;
}

/* Serves a request of a session, if the client may have it; false if its connection is not to be used again. */
static bool serve_session(struct client *client)
{
	struct worker *worker = client->worker;
	const struct request *asked = &client->asked;

	client->body = asked->length;
	client_login(client, "Authorization", 401);
	if (!worker->board)
		client_refuse(client, 501, "no sessions with -i on a connection: "
		                           "the relay needs -a, or -i on a socket that listens");
	if (!*asked->key)
		client_refuse(client, 410, "no such session");
	sprintf(client->name + strlen(client->name), " session %s", asked->id);
	if (asked->means == RELAY_OPEN)
		client_read_target(client);
	bool is_new = session_find(client);
	struct session *session = worker->hold.session;
	worker->board->places[worker->place].session = session->number;
	if (session_workers(worker, 0) > SESSION_CONNECTIONS)
		client_refuse(client, 503, "too many connections of the session");
	session->asked = seconds_now();
	bool keep = session_serve(client, is_new);
	session->asked = seconds_now();
	return keep;
}

/* Serves the requests of a connection. */
static void serve_client(struct client *client)
{
	struct request *asked = &client->asked;
	const char *wrong;
	bool goes_on = true;

	for (bool is_first = true; goes_on && client_hear(client, is_first); is_first = false) {
		if ((wrong = request_parse(asked, client->head.bytes)))
			client_refuse(client, 400, wrong);
		if (asked->is_coded)
			client_refuse(client, 411, "a Transfer-Encoding; a Content-Length is wanted");
		if (strcmp(asked->method, "CONNECT") == 0) {
			serve_tunnel(client);
			return;
		}
		if (!relay_request_parse(asked))
			client_refuse_stray(client);
		goes_on = serve_session(client);
		worker_rest(client->worker, client->address);
	}
	net_linger(client->socket);
}

/* Serves the client at the near end, and those that come after it to a listener; returns the program's status. */
static int serve(struct end *near, struct worker *worker)
{
	static struct client client;
	const struct timeval patience = { .tv_sec = IDLE_TIME };

	client.worker = worker;
	do {
		client.socket = near->in;
		client.address = near->in_name;
		setsockopt(near->in, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		serve_client(&client);
		close(client.socket);
	} while (worker_next(worker, near));
	return EX_OK;
}

/* Gives up root for good: what a server's clients send is for nobody's rights to parse. */
static void privileges_drop(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* a client's --proxy-command or SSH_ASKPASS may be setuid */
	if (geteuid() != 0)
		return;
	const struct passwd *nobody = getpwnam("nobody");
	if (!nobody)
		die(EX_OSERR, "started as root, and there is no user nobody to become");
	if (setgroups(0, NULL) == -1 || setgid(nobody->pw_gid) == -1 || setuid(nobody->pw_uid) == -1)
		die(EX_OSERR, "cannot become nobody: %s", strerror(errno));
	warn("started as root, now nobody");
}

/* --- route: a stream to where the tunnel, or its requests, go: route_open ------------------------------- */

/* The authorities along the route, from 0: the hops, the relay, if there is one, and the destination. */
static const struct authority *route_point(size_t i)
{
	if (i < opt.hop_count)
		return &opt.hops[i].at;
	return i == opt.hop_count && opt.relay ? &opt.relay->at : &opt.destination;
}

/* How many hops are asked to CONNECT: the last before a relay gets ordinary requests, unless the relay speaks TLS. */
static size_t route_tunnels(void)
{
	return opt.hop_count - (opt.hop_count > 0 && opt.relay && !opt.relay->tls);
}

/* The proxy that requests are addressed to; NULL if they go to the relay itself. */
static struct hop *relay_proxy(void)
{
	return route_tunnels() < opt.hop_count ? &opt.hops[opt.hop_count - 1] : NULL;
}

/* Ends the processes behind a stream of route_open. */
static void route_close(void)
{
	children_end();
	for (size_t i = 0; i < opt.hop_count; i++)
		tls_end(&opt.hops[i].command);
	if (opt.relay)
		tls_end(&opt.relay->command);
}

/* Opens a stream to the end of the route, or to the hop that gets a relay's requests; *openssl is right behind it. */
static int route_open(struct command *openssl)
{
	int fd = -1;

	for (size_t i = 0; i <= route_tunnels(); i++) {
		struct hop *hop = i < opt.hop_count ? &opt.hops[i] : opt.relay;
		struct command *command = hop ? &hop->command : openssl;

		if (i == 0)
			fd = opt.proxy_command ? command_reach(&opt.hops[0]) : net_reach(route_point(0));
		if (hop ? hop->tls : opt.destination_tls) {
			fd = tls_start(fd, route_point(i), command);
			*openssl = *command;
		}
		if (i < route_tunnels() && !connect_through(fd, hop, route_point(i + 1))) {
			close(fd);
			route_close();
			i = SIZE_MAX; /* it wants another try, which is from the first again */
		}
	}
	return fd;
}

/* --- carriers: what the processes of a tunnel over a relay share: upstream_receive, downstream_send ----- */

/*
 * Two processes carry such a tunnel: the sender puts what the tunnel's socket brings into PUTs, the receiver writes
 * there what its GETs bring. Each is a straight program over one connection at a time, and ends with a status and its
 * last words when a request fails. Their parent starts the next one; so all that has to outlive them is in memory that
 * they share, where each field has one writer.
 */

/* A sender or receiver, and what one leaves for the next. */
struct carrier {
	pid_t child;			/* 0: none. The parent's */
	double delay;			/* s, before it begins; 0: no fault has been seen since one did some good */
	double heard;			/* when the relay has answered it last */
	bool closes;			/* a connection was found closed when it was used again */
	char words[WORDS_SIZE];		/* its last */
};

struct tunnel {
	int fd;				/* a socket; what it brings goes upstream */
	pid_t caller;			/* the program whose tunnel it is; 0: that leaves first */
	pid_t parent;			/* of the carriers */
	char id[SESSION_WORD + 1], key[SESSION_WORD + 1];
	struct carrier sender, receiver;
	/* The parent's. */
	double gone;			/* when the caller was seen to have left; 0: it has not */
	char broken[2 * WORDS_SIZE];	/* why the tunnel is over before its time; empty: it is not */
	/* The sender's. */
	uint64_t up;			/* every byte before it is acknowledged; */
	size_t held;			/* so many from it on have come */
	bool up_ended;			/* the end of the tunnel's bytes has been read, */
	atomic_bool up_done;		/* and is acknowledged */
	size_t body_max, body_limit;	/* of a PUT, as things stand, and at all */
	double closing;			/* when the session was first to be closed; 0: not yet. Then the parent's */
	bool by_post;			/* PUT and DELETE are refused on the way */
	/* The receiver's. */
	uint64_t down;			/* every byte before it is written to the tunnel */
	atomic_bool down_done;		/* and the end is, too */
	uint64_t sequence;		/* of the last GET */
	int streams;			/* that may still bring nothing in time; 0: they are held back, so it polls */
	long poll_time;			/* s */
	char bytes[HEAD_MAX + 2 * BODY_MAX];	/* room for a head, and those; no page is touched before it is needed */
};

/* How many more upstream bytes to receive: there may be a PUT under way, and the next, of up to twice the length. */
static size_t upstream_room(const struct tunnel *tunnel)
{
	size_t most = 3 * tunnel->body_max < 2 * BODY_MAX ? 3 * tunnel->body_max : 2 * BODY_MAX;

	return tunnel->up_ended || tunnel->held > most ? 0 : most - tunnel->held;
}

/* Receives what the tunnel brings, as far as there is room; false if that is nothing. */
static bool upstream_receive(struct tunnel *tunnel)
{
	ssize_t got = recv(tunnel->fd, tunnel->bytes + HEAD_MAX + tunnel->held, upstream_room(tunnel), MSG_DONTWAIT);

	if (got > 0)
		tunnel->held += (size_t)got;
	else if (got == 0 || errno == ECONNRESET) /* so ends a caller that left bytes unread */
		tunnel->up_ended = true;
	else if (!is_nothing(got))
		die(EX_IOERR, "cannot read from the tunnel: %s", strerror(errno));
	return got > 0;
}

/* Writes bytes to the tunnel. They are counted, so that the next receiver goes on behind them. */
static void downstream_send(struct tunnel *tunnel, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t sent = send(tunnel->fd, bytes, length, MSG_NOSIGNAL);

		if (sent > 0)
			bytes += sent, length -= (size_t)sent, tunnel->down += (uint64_t)sent;
		else if (errno == EPIPE || errno == ECONNRESET)
			exit(EX_OK); /* the caller has left */
		else if (!is_nothing(sent))
			die(EX_IOERR, "cannot write to the tunnel: %s", strerror(errno));
	}
}

/* --- exchange: a request to the relay, and its answer: exchange_run, exchange_read, request_compose ----- */

struct exchange {
	struct carrier *carrier;	/* whose connection it is; NULL: the session does not stand yet */
	struct tunnel *upstream;	/* the sender's, to receive its bytes while it waits; NULL: it is no sender's */
	const char *method;
	int fd;				/* the connection; -1: none */
	bool may_keep;			/* it may serve another request, if the answer is read to its end */
	double patience;		/* s to wait for an answer */
	bool is_silent;			/* it came to an end */
	struct head request;
	struct head answer;
	int status;			/* 0: there is none yet, -1: it is no answer */
	char reason[REASON_SHOWN + 1];	/* the status line, from the status on, or what the last frame says in words */
	bool is_marked;			/* the answer is the relay's */
	struct reader body;
	const char *failed;		/* why there is no answer, or none that can be used; NULL: there is */
};

static bool exchange_fail(struct exchange *exchange, const char *why)
{
	exchange->failed = why;
	return false;
}

static void exchange_close(struct exchange *exchange)
{
	close(exchange->fd);
	exchange->fd = -1;
	route_close();
}

/* Waits until the connection is ready, and receives upstream bytes meanwhile; returns for what. 0: it is given up. */
static short exchange_wait(struct exchange *exchange, short events)
{
	struct pollfd set[2] = { { .fd = exchange->fd, .events = events }, { .events = POLLIN } };
	struct tunnel *up = exchange->upstream;
	double due = seconds_now() + exchange->patience;
	int ready;

	do {
		set[1].fd = up && upstream_room(up) > 0 ? up->fd : -1;
		ready = fds_wait(set, 2, due - seconds_now(), NULL);
		if (ready > 0 && set[1].revents)
			upstream_receive(up);
		if (ready == -1 && errno != EINTR)
			time_wait(RETRY_FIRST);
	} while (ready > 0 ? !set[0].revents : ready == -1 && seconds_now() < due);
	exchange->is_silent = ready == 0;
	return ready > 0 ? set[0].revents : exchange_fail(exchange, ready == 0 ? "silence" : strerror(errno));
}

/* Sees whose the answer is, how its body comes (RFC 9112 6.3), and whether the connection stays. */
static void exchange_read_fields(struct exchange *exchange)
{
	const char *fields = exchange->answer.bytes + exchange->answer.start, *reason = http_reason(fields);

	snprintf(exchange->reason, sizeof exchange->reason, "%.*s", (int)strcspn(reason, "\r\n"), reason);
	exchange->is_marked = field_lists(fields, "Tunnel-Relay", "2");
	exchange->may_keep = fields[7] == '1' && !field_lists(fields, "Connection", "close");
	body_begin(&exchange->body, exchange->fd, fields);
}

/* Reads on in the head of the answer; false if what comes is none. */
static bool exchange_read_head(struct exchange *exchange)
{
	struct head *answer = &exchange->answer;
	enum head_result result = http_take_head(exchange->fd, answer, true);
	int status = result == HEAD_WHOLE ? http_status(answer->bytes + answer->start) :
	             result == HEAD_FOREIGN || result == HEAD_TOO_LARGE ? -1 : 0;

	exchange->status = status;
	if (status > 0) {
		lines_note("<", answer->bytes);
		exchange_read_fields(exchange);
	} else if (result != HEAD_MORE) {
		return exchange_fail(exchange, head_failure(result));
	}
	return true;
}

/* Sends the request, and so many upstream bytes, and reads the answer's head, which may come before all is sent. */
static bool exchange_talk(struct exchange *exchange, size_t body)
{
	struct tunnel *up = exchange->upstream;
	size_t sent = 0, head = exchange->request.length, all = head + body;
	const char *request = exchange->request.bytes;
	short ready = POLLOUT, events = POLLIN | POLLOUT;
	int failures = 0;

	lines_note(">", request);
	if (body > 0)
		request = memcpy(up->bytes + HEAD_MAX - head, request, head);
	exchange->answer.start = exchange->answer.length = 0;
	exchange->status = 0;
	exchange->failed = NULL;
	do {
		ssize_t part = 0;

		if (ready == POLLOUT)
			part = send(exchange->fd, request + sent, all - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += part > 0 ? (size_t)part : 0;
		if (sent == all || (part == -1 && (errno == EPIPE || errno == ECONNRESET)))
			events = POLLIN; /* there may be an answer that says why */
		else if (part == -1 && !is_nothing(part) && failures++ > 0) /* a shortage may be over the next time */
			return exchange_fail(exchange, strerror(errno));
		if (ready != POLLOUT && !exchange_read_head(exchange))
			return false;
		if (part > 0 && sent == all && body > 0)
			fd_wait(up->fd, POLLIN, 0.02); /* s; one wake-up mostly serves the answer and what comes next */
	} while (exchange->status == 0 && (ready = exchange_wait(exchange, events)));
	exchange->may_keep &= sent == all;
	return exchange->status > 0;
}

/* Has a connection for the next request: the last (true), if it may be used and did not idle for long, or a new one. */
static bool exchange_connect(struct exchange *exchange)
{
	const struct timeval silence = { .tv_sec = SILENCE };
	const struct reader *body = &exchange->body;
	bool is_read = body->left == 0 && !body->is_chunked && body->start == body->stop;
	struct command openssl;

	if (exchange->fd != -1 && exchange->may_keep && is_read && !exchange->carrier->closes &&
	    seconds_now() - exchange->carrier->heard < 3) /* s that it may have been idle */
		return true;
	exchange_close(exchange);
	opt.timeout = opt.timeout == 0 || opt.timeout > SILENCE ? SILENCE : opt.timeout;
	alarm(opt.timeout);
	exchange->fd = route_open(&openssl);
	alarm(0);
	setsockopt(exchange->fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
	return false;
}

/* Has a request answered, with so many upstream bytes; false, with exchange->failed, if it is not. */
static bool exchange_run(struct exchange *exchange, size_t body)
{
	while (true) {
		bool is_used = exchange_connect(exchange);

		if (exchange_talk(exchange, body))
			return true;
		if (exchange->is_silent || !is_used || exchange->answer.length > 0)
			return false;
		exchange->carrier->closes = true; /* as tinyproxy does, without saying so: then on a new one */
	}
}

/* Receives so many bytes of the body, or those up to its end; returns how many. -1: it is cut, or not as it must be. */
static ssize_t exchange_read(struct exchange *exchange, char *to, size_t wanted)
{
	const char *bytes;
	size_t taken = 0;
	ssize_t got = 0;

	for (; taken < wanted && (got = body_take(&exchange->body, &bytes, wanted - taken)) > 0; taken += (size_t)got)
		memcpy(to + taken, bytes, (size_t)got);
	return got == -1 ? -1 : (ssize_t)taken;
}

/* Composes a request for the session; suffix is what stands behind its id. A body's length of -1: it has none. */
static void request_compose(const struct tunnel *tunnel, struct exchange *exchange, const char *method,
                            const char *suffix, long long length)
{
	const struct hop *proxy = relay_proxy(), *relay = opt.relay;
	struct head *request = &exchange->request;

	exchange->method = method;
	request->length = 0;
	head_add(request, "%s %s%s%s/%s%s HTTP/1.1\r\n", method, proxy ? "http://" : "", proxy ? relay->host : "",
	         relay->path, tunnel->id, suffix);
	if (!header_given(relay, "Host") && !(proxy && header_given(proxy, "Host")))
		head_add(request, "Host: %s\r\n", proxy && proxy->host ? proxy->host : relay->host);
	head_add(request, "Tunnel-Key: %s\r\n", tunnel->key);
	fields_add_hop(request, "Authorization", relay);
	if (proxy)
		fields_add_hop(request, "Proxy-Authorization", proxy);
	if (length >= 0)
		head_add(request, "Content-Length: %lld\r\n", length);
	head_add(request, "\r\n");
}

/* Ends the process because of an answer, or none: for good, if that says that the tunnel is over, or for a new try. */
static _Noreturn void answer_die(const struct exchange *exchange)
{
	bool is_marked = exchange->is_marked;
	int status = exchange->status;

	if (exchange->failed || exchange->body.failed)
		die(EX_TEMPFAIL, "%s", exchange->failed ? exchange->failed : exchange->body.failed);
	if (is_marked && status == 200)
		die(EX_TEMPFAIL, "an answer that was cut, or has nothing in it");
	if (is_marked && (status == 401 || status == 403 || status == 410 || status == 416 || status == 422))
		die(EX_IOERR, "the relay answered %s with %s", exchange->method, exchange->reason);
	if (!is_marked && status == 407)
		die(EX_IOERR, "%s refused on the way: %s", exchange->method, exchange->reason);
	die(EX_TEMPFAIL, "%s answered %s", is_marked ? "the relay" : "something on the way", exchange->reason);
}

/* --- sender: what the tunnel brings, in PUTs: sender_run ------------------------------------------------ */

/* Whether a PUT of so many bytes, or a DELETE, is to be another: POST, if refused on the way, or shorter. */
static bool sender_adapts(struct tunnel *tunnel, struct exchange *exchange, size_t length)
{
	const char *at = opt.relay->at.text;
	int status = exchange->status;

	if (status == 413 && length > 1024) {
		tunnel->body_max = tunnel->body_limit = length / 2;
		note("%s: a body of %zu bytes is too large on the way: at most %zu from now on", at, length,
		     tunnel->body_max);
	} else if (!tunnel->by_post && !exchange->is_marked && (status == 403 || status == 405 || status == 501)) {
		tunnel->by_post = true;
		note("%s: %s is refused on the way (%s): POST from now on", at, exchange->method, exchange->reason);
	} else {
		return false;
	}
	exchange_close(exchange); /* squid hangs on a connection on which it has refused a body */
	return true;
}

/* A PUT of so many bytes was answered, after so many seconds, with the offset that is expected next. */
static void sender_accept(struct tunnel *tunnel, uint64_t expected, size_t length, double lasted)
{
	uint64_t taken = expected - tunnel->up;
	bool is_quick = lasted < GOOD_TIME;

	if (taken > tunnel->held) /* more than length may be of a longer body, whose answer was lost */
		die(EX_IOERR, "the relay wants to go on at a wrong offset");
	if (taken == 0 && length > 0 && tunnel->down_done)
		die(EX_IOERR, "the far end, itself at its end, takes no more");
	if (taken == 0 && length > 0 && is_quick)
		die(EX_TEMPFAIL, "the relay takes nothing");
	tunnel->up = expected;
	tunnel->held -= (size_t)taken;
	memmove(tunnel->bytes + HEAD_MAX, tunnel->bytes + HEAD_MAX + taken, tunnel->held);
	tunnel->sender.delay = 0;
	if (taken == length && length == tunnel->body_max && is_quick)
		tunnel->body_max = 2 * length < tunnel->body_limit ? 2 * length : tunnel->body_limit;
	if (taken < length && tunnel->body_max > BODY_FIRST)
		tunnel->body_max = BODY_FIRST;
}

/* Puts what is held, up to what a body may have, and the end behind the last of it. */
static void sender_put(struct tunnel *tunnel, struct exchange *exchange)
{
	size_t length = tunnel->held < tunnel->body_max ? tunnel->held : tunnel->body_max;
	bool is_end = tunnel->up_ended && length == tunnel->held && !tunnel->up_done;
	double begun = seconds_now();
	uint64_t expected;
	char suffix[SUFFIX_SIZE], number[SUFFIX_SIZE];

	snprintf(suffix, sizeof suffix, "/%" PRIu64 "%s", tunnel->up, is_end ? "?end" : "");
	request_compose(tunnel, exchange, tunnel->by_post ? "POST" : "PUT", suffix, (long long)length);
	bool is_relays = exchange_run(exchange, length) && exchange->is_marked;
	while (is_relays && exchange->status == 422 && !tunnel->down_done && getppid() == tunnel->parent)
		time_wait(0.1); /* what the target has sent comes first, and perhaps better words */
	ssize_t digits = is_relays && exchange->status == 200 ? exchange_read(exchange, number, sizeof number) : 0;
	if (digits > 0 && offset_parse(&expected, number, (size_t)digits)) {
		tunnel->sender.heard = seconds_now();
		sender_accept(tunnel, expected, length, tunnel->sender.heard - begun);
		tunnel->up_done |= is_end && tunnel->held == 0;
	} else if (!sender_adapts(tunnel, exchange, length)) {
		answer_die(exchange);
	}
}

/* Waits until there is something to put, or an empty PUT is due, which keeps the session; false if it is closed. */
static bool sender_wait(struct tunnel *tunnel)
{
	while (tunnel->held == 0 && tunnel->up_ended == (bool)tunnel->up_done) {
		struct pollfd polled = { .fd = tunnel->fd, .events = tunnel->up_ended ? 0 : POLLIN };
		int ready = fds_wait(&polled, 1, tunnel->sender.heard + TELL_TIME - seconds_now(), NULL);

		if (ready == -1 && errno != EINTR)
			die(EX_TEMPFAIL, "%s", strerror(errno));
		if (ready == 0 || (ready > 0 && tunnel->up_ended))
			return ready == 0;
		upstream_receive(tunnel);
	}
	while (tunnel->held >= BODY_FIRST && tunnel->held < tunnel->body_max && !tunnel->up_ended &&
	       upstream_receive(tunnel))
		continue; /* where there is much, each PUT takes what it can */
	return true;
}

/* Closes the session. */
static void sender_close(struct tunnel *tunnel, struct exchange *exchange)
{
	tunnel->closing = tunnel->closing > 0 ? tunnel->closing : seconds_now();
	exchange->patience = opt.timeout = *tunnel->broken ? 1 : CLOSE_TIME; /* somebody waits to hear what broke */
	do
		if (tunnel->by_post)
			request_compose(tunnel, exchange, "POST", "?close", 0);
		else
			request_compose(tunnel, exchange, "DELETE", "", -1);
	while (exchange_run(exchange, 0) && sender_adapts(tunnel, exchange, 0));
	if (exchange->failed || !exchange->is_marked)
		answer_die(exchange);
}

static _Noreturn void sender_run(struct tunnel *tunnel, struct exchange *exchange)
{
	bool is_open = tunnel->closing == 0;

	exchange->upstream = tunnel;
	exchange->patience = SILENCE;
	if (tunnel->sender.delay > 0 && tunnel->body_max / 2 >= BODY_FIRST)
		tunnel->body_max /= 2;
	while (is_open && !(tunnel->up_done && tunnel->down_done)) {
		if (getppid() != tunnel->parent)
			exit(EX_OSERR);
		if ((is_open = sender_wait(tunnel)))
			sender_put(tunnel, exchange);
	}
	sender_close(tunnel, exchange);
	exit(EX_OK);
}

/* --- receiver: what the relay has, by GETs, into the tunnel: receiver_run ------------------------------- */

/* Reads a frame, and writes its data to the tunnel; returns its type. 0: the answer has ended; -1: cut, or wrong. */
static int frame_read(struct tunnel *tunnel, struct exchange *exchange)
{
	const char *bytes;
	unsigned char head[4];
	ssize_t got = exchange_read(exchange, (char *)head, sizeof head);

	if (got != sizeof head)
		return got == 0 ? 0 : -1;
	if (!head[0] || !strchr("ODHBEX", head[0]))
		return exchange_fail(exchange, "an answer that is not as it must be") - 1;
	*exchange->reason = '\0';
	for (size_t left = (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3]; left > 0; left -= (size_t)got) {
		got = body_take(&exchange->body, &bytes, left);
		if (got <= 0)
			return -1;
		size_t room = REASON_SHOWN - strlen(exchange->reason);
		if (head[0] == 'D')
			downstream_send(tunnel, bytes, (size_t)got);
		else
			strncat(exchange->reason, bytes, room < (size_t)got ? room : (size_t)got);
	}
	return head[0];
}

/* Composes a GET for what comes behind the bytes that are written. */
static void receiver_compose(struct tunnel *tunnel, struct exchange *exchange)
{
	char suffix[SUFFIX_SIZE];
	int length = snprintf(suffix, sizeof suffix, "/%" PRIu64 "?%" PRIu64, tunnel->down, ++tunnel->sequence);

	if (tunnel->streams == 0)
		snprintf(suffix + length, sizeof suffix - (size_t)length, "&poll=%ld", tunnel->poll_time);
	request_compose(tunnel, exchange, "GET", suffix, -1);
	exchange->patience = tunnel->streams == 0 ? SILENCE + (double)tunnel->poll_time : 3; /* s until a first frame */
}

/* A GET has brought nothing, in so many seconds: has the next ones be others, if that is why. */
static void receiver_adapt(struct tunnel *tunnel, const struct exchange *exchange, double lasted)
{
	const char *at = opt.relay->at.text;

	if (tunnel->streams == 0 && lasted >= 1 && lasted < (double)tunnel->poll_time && tunnel->poll_time > 1) {
		tunnel->poll_time /= 2;
		note("%s: an answer was cut after %.0f s: %ld s at most from now on", at, lasted, tunnel->poll_time);
	} else if (tunnel->streams > 0 && exchange->is_silent && --tunnel->streams == 0) {
		note("%s: streams are held back on the way: polling from now on", at);
	}
}

/* Has one GET, or ends the process if it did no good; false once the end is reached. */
static bool receiver_get(struct tunnel *tunnel, struct exchange *exchange)
{
	uint64_t from = tunnel->down;
	double begun = seconds_now();
	bool is_answered = false;
	int type = 0;

	receiver_compose(tunnel, exchange);
	bool is_given = exchange_run(exchange, 0) && exchange->is_marked && exchange->status == 200;
	is_given = is_given && exchange_wait(exchange, POLLIN);
	while (is_given && type != 'B' && (type = frame_read(tunnel, exchange)) > 0) {
		is_answered = true;
		tunnel->streams = tunnel->streams > 0 ? 2 : 0; /* once they passed, the relay may just have no time */
		if (type == 'X')
			die(EX_IOERR, "the relay says: %s", exchange->reason);
		if (type == 'E')
			return false;
		if (getppid() != tunnel->parent)
			exit(EX_OSERR);
	}
	double lasted = seconds_now() - begun;
	uint64_t came = tunnel->down - from;
	bool in_order = type == 'B' || (tunnel->streams == 0 && is_answered && type == 0 && exchange->body.left == 0);
	bool is_good = (in_order && came > 0) || came >= BODY_FIRST || (is_answered && lasted >= GOOD_TIME);

	if (is_answered)
		tunnel->receiver.heard = seconds_now();
	else
		receiver_adapt(tunnel, exchange, lasted);
	if (is_good)
		tunnel->receiver.delay = 0;
	if (in_order && is_good)
		return true;
	answer_die(exchange);
}

static _Noreturn void receiver_run(struct tunnel *tunnel, struct exchange *exchange)
{
	while (receiver_get(tunnel, exchange))
		continue;
	tunnel->down_done = true; /* before the tunnel ends both ways, which would look like its caller's leaving */
	if (shutdown(tunnel->fd, SHUT_WR) == -1)
		die(EX_IOERR, "cannot end the tunnel: %s", strerror(errno));
	exit(EX_OK);
}

/* --- tunnel: a sender and a receiver, started anew when they fail: tunnel_run --------------------------- */

/* Starts a carrier. */
static void carrier_start(struct tunnel *tunnel, struct carrier *carrier, struct exchange *exchange)
{
	pid_t child = child_fork(false);

	if (child > 0) {
		carrier->child = child;
		return;
	}
	child_bind(tunnel->parent);
	last_words = carrier->words;
	exchange->carrier = carrier;
	if (carrier->delay > 0) {
		net_known.count = 0; /* another address may be better */
		time_wait(carrier->delay);
	}
	if (carrier == &tunnel->sender)
		sender_run(tunnel, exchange);
	receiver_run(tunnel, exchange);
}

static void carrier_stop(struct carrier *carrier)
{
	if (carrier->child > 0) {
		kill(carrier->child, SIGTERM);
		child_wait(carrier->child);
	}
	carrier->child = 0;
}

/*
 * The rule of all retries: a carrier that failed is started again after a delay, which doubles until one is of use,
 * for as long as the relay has answered within GIVE_UP seconds. What is final breaks the tunnel, and so does a signal,
 * as nobody knows which bytes were moved and not yet counted.
 */
static void carrier_retry(struct tunnel *tunnel, struct carrier *carrier, struct exchange *exchange, int status)
{
	double now = seconds_now(), delay = carrier->delay > 0 ? 2 * carrier->delay : RETRY_FIRST;
	const char *method = carrier == &tunnel->sender ? "PUT" : "GET";

	if (tunnel->closing > 0 && now - tunnel->closing >= CLOSE_TIME)
		return;
	carrier->delay = delay < RETRY_MOST ? delay : RETRY_MOST;
	if (WIFSIGNALED(status)) {
		snprintf(tunnel->broken, sizeof tunnel->broken, "a process that carries it was ended by signal %d",
		         WTERMSIG(status));
	} else if (WEXITSTATUS(status) == EX_IOERR) {
		strcpy(tunnel->broken, carrier->words);
	} else if (now - carrier->heard >= GIVE_UP) {
		snprintf(tunnel->broken, sizeof tunnel->broken, "the relay was not reached for %d s: %s", GIVE_UP,
		         carrier->words);
	} else {
		note("%s: %s: again in %.2f s", method, carrier->words, carrier->delay);
		carrier_start(tunnel, carrier, exchange);
	}
}

/* Waits until a carrier has ended. Breaks the tunnel once its caller has left, and no PUT was answered for 5 s. */
static void tunnel_wait(struct tunnel *tunnel, const sigset_t *waiting)
{
	struct pollfd socket = { .fd = tunnel->fd };
	bool is_late = tunnel->gone > 0 || tunnel->down_done; /* for the socket to tell that the caller leaves */
	int ready = fds_wait(&socket, !is_late, is_late ? 1 : NEVER, waiting);
	if (ready == -1 && errno != EINTR)
		time_wait(RETRY_FIRST);
	double now = seconds_now(), heard = tunnel->sender.heard;
	bool has_left = (ready > 0 && !tunnel->down_done) || (tunnel->caller && tunnel->caller != getppid());
	if (tunnel->gone == 0 && has_left) {
		tunnel->gone = now;
		carrier_stop(&tunnel->receiver);
	}
	if (tunnel->gone > 0 && tunnel->closing == 0 && now - (tunnel->gone > heard ? tunnel->gone : heard) >= 5)
		snprintf(tunnel->broken, sizeof tunnel->broken, "the last %zu bytes were not taken", tunnel->held);
}

/* Has a carrier that failed followed by the next. */
static void tunnel_reap(struct tunnel *tunnel, struct exchange *exchange)
{
	pid_t child;
	int status;

	while ((child = waitpid(-1, &status, WNOHANG)) > 0) {
		struct carrier *carrier = child == tunnel->sender.child ? &tunnel->sender : &tunnel->receiver;

		child_forget(child);
		carrier->child = 0;
		if (status != 0 && !*tunnel->broken)
			carrier_retry(tunnel, carrier, exchange, status);
	}
}

/* Carries the tunnel's bytes until both directions are over, and the session is closed; ends the process. */
static _Noreturn void tunnel_run(struct tunnel *tunnel, struct exchange *exchange)
{
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* the end of the tunnel is told by its socket */
	sigset_t waiting = signals_await((const int[]){ SIGCHLD, 0 });
	tunnel->parent = getpid();
	tunnel->sender.heard = tunnel->receiver.heard = seconds_now();
	carrier_start(tunnel, &tunnel->sender, exchange);
	carrier_start(tunnel, &tunnel->receiver, exchange);

	do {
		tunnel_wait(tunnel, &waiting);
		tunnel_reap(tunnel, exchange);
	} while (tunnel->sender.child != 0 && !*tunnel->broken);
	carrier_stop(&tunnel->receiver);
	if (!*tunnel->broken)
		exit(EX_OK);

	carrier_stop(&tunnel->sender);
	tunnel->closing = seconds_now();
	tunnel->sender.delay = 0;
	carrier_start(tunnel, &tunnel->sender, exchange);
	child_wait(tunnel->sender.child);
	die(EX_IOERR, "%s: the tunnel to %s broke: %s", opt.relay->at.text, opt.destination.text, tunnel->broken);
}

/* --- relay: the client's side of a tunnel without CONNECT: relay_open ----------------------------------- */

/* Ends the program: the relay, or something on the way, said no. */
static _Noreturn void relay_refuse(const struct exchange *exchange)
{
	const struct hop *proxy = relay_proxy(), *relay = opt.relay;
	const char *head = exchange->answer.bytes + exchange->answer.start, *reason = exchange->reason;
	const char *at = relay->at.text, *to = opt.destination.text, *path = *relay->path ? relay->path : "/";
	bool is_marked = exchange->is_marked;
	int status = exchange->status;
	char hint[512] = "";

	alarm(0);
	body_note(exchange->fd);
	if (is_marked && status == 401 && !credentials_known(&relay->credentials))
		snprintf(hint, sizeof hint, " (try relay_user and relay_passwd in -F)");
	else if (!is_marked && status == 404)
		snprintf(hint, sizeof hint, " (is %.200s its path at %s?)", path, at);
	else if (!is_marked && (status == 405 || status == 501))
		snprintf(hint, sizeof hint, " (it lets no POST through; a relay at https:// is reached by CONNECT)");
	else if (!is_marked || status == 401)
		strcpy(hint, refusal_hint(head, proxy && !is_marked ? proxy : relay, &relay->at));
	if (is_marked)
		die(refusal_exit(status), "%s: %s refused by the relay: %s%s", at, to, reason, hint);
	if (field_lists(head, "Tunnel-Relay", "1"))
		die(EX_PROTOCOL, "%s: a relay of 2.0 or older, which wants a client of its age: %s", at, reason);
	if (status / 100 == 2)
		die(EX_PROTOCOL, "%s: what answers there is no relay: %s (is %.200s its path?)", at, reason, path);
	at = proxy ? proxy->at.text : at;
	die(refusal_exit(status), "%s: POST for %s refused, not by the relay: %s%s", at, to, reason, hint);
}

/* Whether the user has just given the credentials that an answer asks for. */
static bool relay_ask(const struct exchange *exchange)
{
	struct hop *proxy = relay_proxy(), *relay = opt.relay;

	if (exchange->is_marked && exchange->status == 401)
		return !relay->credentials.user && !header_given(relay, "Authorization") && credentials_ask(relay);
	return proxy && refusal_retry(proxy, exchange->answer.bytes + exchange->answer.start, true);
}

/* Opens a session for the destination, or ends the program. */
static void session_open(struct tunnel *tunnel, struct exchange *exchange)
{
	const char *at = opt.relay->at.text, *to = opt.destination.text;
	unsigned char drawn[SESSION_WORD];
	bool stands = false;

	if (getentropy(drawn, sizeof drawn) == -1)
		die(EX_OSERR, "no random numbers: %s", strerror(errno));
	for (size_t i = 0; i < SESSION_WORD; i += 2) {
		sprintf(tunnel->id + i, "%02x", drawn[i]);
		sprintf(tunnel->key + i, "%02x", drawn[i + 1]);
	}
	for (int tries = 1; !stands; exchange_close(exchange)) {
		struct command openssl = { .pid = 0 };

		request_compose(tunnel, exchange, "POST", "", (long long)strlen(to));
		head_add(&exchange->request, "%s", to);
		exchange->fd = route_open(&openssl);
		deadline_stage("%s: no answer to POST for %s within %u s (-w)", at, to, opt.timeout);
		bool is_answered = exchange_talk(exchange, 0);
		bool is_begun = exchange->answer.length > exchange->answer.start;

		stands = is_answered && exchange->is_marked && (exchange->status == 200 || exchange->status == 201);
		if (is_answered && !stands && !relay_ask(exchange))
			relay_refuse(exchange);
		if (!is_answered && openssl.pid)
			openssl_check(&openssl, EX_PROTOCOL);
		if (!is_answered && (exchange->status == -1 || tries == 5))
			die(is_begun ? EX_PROTOCOL : EX_UNAVAILABLE, "%s: POST for %s: %s", at, to, exchange->failed);
		if (!is_answered)
			time_wait(RETRY_FIRST * (1 << tries++));
	}
}

/* Opens a session; returns the socket of what carries its bytes, and *opened, which tells how that goes. */
static int relay_open(const struct end *near, struct tunnel **opened)
{
	static struct exchange exchange;
	struct tunnel *tunnel = *opened = memory_map(sizeof *tunnel, MAP_SHARED);

	tunnel->caller = opt.fdpass ? 0 : getpid();
	tunnel->body_max = BODY_FIRST;
	tunnel->body_limit = BODY_MAX;
	tunnel->streams = 1;
	tunnel->poll_time = POLL_FIRST;
	exchange.fd = -1;
	exchange.patience = NEVER;
	session_open(tunnel, &exchange);
	for (size_t i = 0; i < opt.hop_count; i++)
		opt.hops[i].asked = true; /* nobody expects to be asked later */
	int fd;
	pid_t child = fork_behind(&fd, true);
	if (child == 0) {
		alarm(0);
		fd_leave(near->in); /* which belong to the other */
		fd_leave(near->out);
		tunnel->fd = fd;
		tunnel_run(tunnel, &exchange);
	}
	tunnel->parent = child;
	return fd;
}

/* --- ends: the far end, and what it is joined to or handed to: tunnel_open, near_open, fdpass ----------- */

/* The processes that the far end leads to. */
struct route {
	struct command openssl;		/* right behind it, if any */
	struct tunnel *tunnel;		/* over a relay; NULL: there is none */
};

/* The far end: a socket at the first byte of the tunnel to the destination. */
static struct end tunnel_open(const struct end *near, struct route *route)
{
	const char *name = (opt.relay ? &opt.relay->at : route_point(0))->text;
	int fd = opt.relay ? relay_open(near, &route->tunnel) : route_open(&route->openssl);

	if (opt.relay && opt.destination_tls)
		fd = tls_start(fd, &opt.destination, &route->openssl);
	return (struct end){ fd, fd, name, name, .own = true, .patient = route->tunnel };
}

/* Says what became of the tunnel, and returns the program's status. A reader that left needs no words: it knows. */
static int tunnel_close(const struct end *far, const struct lane *up, const struct lane *down,
                        const struct route *route, double started)
{
	const struct lane *broken = down->error ? down : up;
	const char *to = opt.destination.text;
	siginfo_t openssl = { .si_status = EX_IOERR };
	int status = 0;

	note("%s: %" PRIu64 " bytes up, %" PRIu64 " down, %.3f s", to, up->carried, down->carried,
	     seconds_now() - started);
	signals_release(); /* who carries a session's bytes then closes it without us */
	if (lane_cut(down) && (down->error == 0 || down->error == EPIPE))
		return EX_IOERR;
	close(far->in);
	bool is_whole = route->tunnel && !broken->error && !lane_cut(down);
	if (is_whole && route->openssl.pid)
		waitid(P_PID, (id_t)route->openssl.pid, &openssl, WEXITED | WNOWAIT);
	if (is_whole && (route->openssl.pid ? openssl.si_status == 0 : route->tunnel->down_done))
		shutdown(up->from->out, SHUT_WR); /* the session may take long to close */
	if (route->tunnel && (status = child_wait(route->tunnel->parent)) != 0 && WIFEXITED(status))
		return WEXITSTATUS(status); /* it has said why */
	if (status != 0)
		die(EX_IOERR, "%s: the tunnel to %s broke: the process that carries it was ended by signal %d",
		    far->in_name, to, WTERMSIG(status));
	if (route->openssl.pid && !lane_cut(down)) /* it left first, and knows why */
		openssl_check(&route->openssl, down->carried > 0 ? EX_IOERR : EX_PROTOCOL);
	if (broken->error)
		die(EX_IOERR, "%s: the tunnel to %s broke: %s", broken->failed, to, strerror(broken->error));
	end_guard(up->from, false);
	return EX_OK;
}

/* inetd(8) gives the socket as stderr too: what is said there would get among the bytes. */
static void stderr_leave(void)
{
	struct stat in, error;

	if (fstat(STDIN_FILENO, &in) == 0 && fstat(STDERR_FILENO, &error) == 0 && S_ISSOCK(in.st_mode) &&
	    in.st_dev == error.st_dev && in.st_ino == error.st_ino)
		fd_leave(STDERR_FILENO);
}

/* The near end. A listener returns here in each of its workers. */
static struct end near_open(struct worker *worker)
{
	int listening = opt.listen ? net_listen(opt.listen) : STDIN_FILENO, listens = opt.listen != NULL;

	if (opt.inetd)
		getsockopt(listening, SOL_SOCKET, SO_ACCEPTCONN, &listens, &(socklen_t){ sizeof listens });
	if (listens)
		words_share();
	if (opt.serve)
		privileges_drop();
	if (listens) {
		listener_run(worker, listening);
		return worker_accept(worker);
	}
	if (!opt.inetd)
		return (struct end){ STDIN_FILENO, STDOUT_FILENO, "standard input", "standard output", .own = false };
	fd_leave(STDOUT_FILENO); /* inetd(8) gives the socket as stdout too, which would keep it open after its end */
	net_tune(STDIN_FILENO);
	return end_client(STDIN_FILENO);
}

/* Whether stdout is a Unix socket, the only thing that a descriptor can be passed over. */
static bool fdpass_possible(void)
{
	struct sockaddr_storage address = { .ss_family = AF_UNSPEC };

	getsockname(STDOUT_FILENO, (struct sockaddr *)&address, &(socklen_t){ sizeof address });
	return address.ss_family == AF_UNIX;
}

/* Hands the far end to the parent over stdout, as ssh's ProxyUseFdpass wants it; a child stays if others carry it. */
static int fdpass(const struct end *far)
{
	int fd = far->in;

	if (handlers.child_count > 0 && fork_behind(&fd, true) == 0) {
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		bridge_run(fd, far->in);
	}
	handlers.child_count = 0;
	if (fds_pass(false, STDOUT_FILENO, &fd, 1, "", 1, 0) != 1)
		die(EX_IOERR, "standard output: cannot hand over the connection: %s", strerror(errno));
	return EX_OK;
}

/* --- lines: those of other tools, answered with the line to write here: lines_check --------------------- */

/* The value of an option in another tool's line: behind its letter or the = of its name, or the next word; or NULL. */
static const char *line_value(char *const *word, const char *letter, const char *name)
{
	size_t length = strlen(name);

	for (; *word; word++) {
		if (strncmp(*word, letter, 2) == 0)
			return (*word)[2] ? *word + 2 : word[1];
		if (length > 0 && strncmp(*word, name, length) == 0 && strchr("=", (*word)[length]))
			return (*word)[length] ? *word + length + 1 : word[1];
	}
	return NULL;
}

/* nc -X connect -x PROXY:PORT [-P USER] HOST PORT (else SOCKS), or connect -H [USER@]PROXY:PORT HOST PORT. */
static void line_of_client(char *const *words, const char *host, const char *port)
{
	const char *title = line_value(words, "-x", ""), *type = line_value(words, "-X", "");
	const char *header = line_value(words, "-H", ""), *help = line_value(words, "-h", "");
	const char *proxy = title ? title : header ? header : help, *at = proxy && !title ? strrchr(proxy, '@') : NULL;
	const char *user = title ? line_value(words, "-P", "") : at ? proxy : NULL;
	bool socks = title && (!type || strcmp(type, "connect") != 0);
	const char *usual = !title ? "80" : !socks ? "3128" : type && isdigit((unsigned char)*type) ? "1080" : NULL;
	struct authority to;

	if (!proxy || line_value(words, "-p", "--proxy"))
		return;
	if (help && help == host)
		die(EX_USAGE, "this is a line of connect; write: proxytunnel %s %s", host, port);
	if (!authority_parse(&to, at ? at + 1 : proxy, usual))
		die(EX_USAGE, "this is a line of %s%s; write: proxytunnel -p %s%s%.*s %s %s", title ? "nc" : "connect",
		    socks ? " for a SOCKS proxy, which cannot be used here; with an HTTP proxy" : "", to.text,
		    user ? " -P " : "", user ? (int)strcspn(user, ":@") : 0, user, host, port);
}

/* socat ADDRESS PROXY:PROXY:HOST:PORT,proxyport=PORT, where ADDRESS may be TCP-LISTEN:PORT. */
static void line_of_socat(char *const *words)
{
	const char *proxy = NULL, *listen = "";

	for (; *words; words++) {
		const char *behind = strchr(*words, ':');
		bool is_proxy = strncasecmp(*words, "PROXY:", 6) == 0 || strncasecmp(*words, "PROXY-CONNECT:", 14) == 0;

		if (is_proxy && strchr(behind + 1, ':'))
			proxy = behind + 1; /* and not the port of a host of that name */
		else if (behind && strncasecmp(*words, "TCP", 3) == 0 && memchr(*words, '-', (size_t)(behind - *words)))
			listen = behind + 1;
	}
	if (!proxy)
		return;
	const char *set = proxy + strcspn(proxy, ","), *to = proxy + strcspn(proxy, *proxy == '[' ? "]" : ":,");
	const char *port = strstr(set, "proxyport="), *user = strstr(set, "proxyauth=");
	to += strcspn(to, ":,");
	port = port ? port + 10 : "8080";
	user = user ? user + 10 : "";
	die(EX_USAGE, "this is a line of socat; write: proxytunnel%s%.*s -p %.*s:%.*s%s%.*s %.*s",
	    *listen ? " -a " : "", (int)strcspn(listen, ","), listen, (int)(to - proxy), proxy,
	    (int)strcspn(port, ","), port, *user ? " -P " : "", (int)strcspn(user, ":,"), user,
	    to < set ? (int)(set - to - 1) : 0, to + 1);
}

/* htc -F PORT -P PROXY:PORT RELAY:PORT, or -s for -F PORT, and hts -F HOST:PORT PORT, of httptunnel. */
static void line_of_httptunnel(char *const *words, const char *last)
{
	const char *forward = line_value(words, "-F", "--forward-port"), *proxy = line_value(words, "-P", "--proxy");
	const char *next = line_value(words, "-s", "--stdin-stdout");
	bool stdio = next && *next == '-';
	struct authority at;

	if ((!forward && !stdio) || (forward && access(forward, F_OK) == 0) || line_value(words, "-p", ""))
		return;
	if (!forward || number_parse(forward, 1, 65535) != -1)
		die(EX_USAGE, "this is a line of htc; write: proxytunnel%s%s%s%s --relay http://%s HOST:PORT, "
		    "with the HOST:PORT that hts forwards to", forward ? " -a " : "", forward ? forward : "",
		    proxy ? " -p " : "", proxy ? proxy : "", last);
	if (number_parse(last, 1, 65535) != -1 && !authority_parse(&at, forward, NULL))
		die(EX_USAGE, "this is a line of hts; write: proxytunnel --serve -a '*:%s' --allow %s", last, forward);
}

/* Ends the program with the line to write, if this is one of another tool that means something else here. */
static void lines_check(int count, char *const *words)
{
	line_of_socat(words);
	if (count > 2) {
		line_of_httptunnel(words, words[count - 1]);
		line_of_client(words, words[count - 2], words[count - 1]);
	}
}

/* --- words: the command line, word by word: words_take, operands ---------------------------------------- */

static const char usage[] =
	"usage: proxytunnel [options] -d HOST:PORT\n"
	"       proxytunnel [options] HOST:PORT\n"
	"       proxytunnel [options] HOST PORT\n"
	"       proxytunnel [options] PROXY PPORT HOST PORT [AUTHFILE]\n"
	"       proxytunnel --relay URL [options] HOST PORT\n"
	"       proxytunnel --serve -a [ADDR:]PORT --allow HOST:PORT [options]\n";

#define NO_SOCKS "a SOCKS proxy cannot be used here; name an HTTP proxy with -p"
#define OLD "is of the old proxytunnel; write "

/* Options without a letter for which option_act does something. */
enum { OPTION_MAX_CLIENTS = 256, OPTION_RELAY, OPTION_ALLOW, OPTION_PROXY_TYPE };

/* The options: what each does, and what -h says of it. */
static const struct option {
	enum { SET, ACT, IDLE, GONE } kind;	/* sets *to; calls option_act; does nothing; is refused */
	int letter;			/* 0: it has none */
	const char *name;		/* behind --, with an = if it takes a value; NULL: it has none */
	const char *said;		/* in the help, or why it is refused; NULL: it is not in the help */
	void *to;			/* a flag, or the place of a text */
} known_options[] = {
	{ ACT, 0, NULL, "The route:", NULL },
	{ ACT, 'p', "proxy=URL", "[http[s]://][USER[:PASS]@]HOST[:PORT] ($https_proxy)", NULL },
	{ ACT, 'r', "remproxy=URL", "a further proxy, reached through those before it", NULL },
	{ ACT, 'd', "dest=HOST:PORT", "where the tunnel ends", NULL },
	{ SET, 0, "proxy-command=CMD", "reach the first proxy over CMD's stdin and stdout", &opt.proxy_command },
	{ ACT, OPTION_RELAY, "relay=URL", "no CONNECT: ordinary requests to a relay outside", NULL },
	{ ACT, '4', "ipv4", "only IPv4", NULL },
	{ ACT, '6', "ipv6", "only IPv6", NULL },
	{ ACT, 'w', "timeout=SECS", "seconds to wait for the tunnel (30; 0: for ever)", NULL },
	{ ACT, 0, NULL, "What proxies are told:", NULL },
	{ ACT, 'P', "proxyauth=USER[:PASS]", "credentials for the proxy; asks for the password", NULL },
	{ ACT, 'R', "remproxyauth=USER[:PASS]", "the same for the last -r", NULL },
	{ ACT, 'F', "passfile=FILE", "credentials: a line USER:PASS, or as in a wgetrc", NULL },
	{ SET, 'N', "ntlm", "speak NTLM or Negotiate at once, by ntlm_auth(1)", &opt.ntlm },
	{ SET, 't', "domain=DOMAIN", "the domain of the users for that", &opt.domain },
	{ ACT, 'H', "header=LINE", "a further header for the proxy named before it", NULL },
	{ ACT, 'o', "host=VALUE", "another Host header for the first proxy", NULL },
	{ ACT, 0, NULL, "TLS, by openssl(1):", NULL },
	{ ACT, 'E', "encrypt-proxy", "to the first proxy, as https:// says", NULL },
	{ ACT, 'X', "encrypt-remproxy", "to the last -r", NULL },
	{ SET, 'e', "encrypt", "to the destination", &opt.destination_tls },
	{ SET, 'C', "cacert=FILE", "the authorities to trust, a file or a folder", &opt.tls_authorities },
	{ SET, 'c', "cert=FILE", "the client's certificate", &opt.tls_certificate },
	{ SET, 'k', "key=FILE", "and its key", &opt.tls_key },
	{ SET, 'z', "no-check-certificate", "trust any certificate", &opt.tls_unverified },
	{ SET, 'I', "no-sni", "do not send the server's name", &opt.tls_nameless },
	{ ACT, 0, NULL, "The near end, if not stdin and stdout:", NULL },
	{ SET, 'a', "standalone=[ADDR:]PORT", "listen; one tunnel for each connection", &opt.listen },
	{ ACT, OPTION_MAX_CLIENTS, "max-clients=N", "at most so many at once (256)", NULL },
	{ ACT, 'i', "inetd", "the socket on stdin", NULL },
	{ SET, 0, "fdpass", "hand the connection to ssh (ProxyUseFdpass yes)", &opt.fdpass },
	{ ACT, 0, NULL, "The far side, a CONNECT proxy and a relay, for the users that -F lists:", NULL },
	{ SET, 0, "serve", "connect clients of -a or -i to what they ask for", &opt.serve },
	{ ACT, OPTION_ALLOW, "allow=HOST:PORT", "and may have: shell patterns, as '*:443'", NULL },
	{ SET, 0, "tls-only", "end a tunnel that does not begin with TLS", &opt.tls_only },
	{ ACT, 0, NULL, "Messages:", NULL },
	{ ACT, 'v', "verbose", "say more", NULL },
	{ ACT, 'q', "quiet", "say only why it failed; -qq: say nothing", NULL },
	{ ACT, 'h', "help", "this help; man proxytunnel has all, with examples", NULL },
	{ ACT, 'V', "version", "the version", NULL },
	/* ncat's and connect's, behind the end of the help */
	{ ACT, 'P', "proxy-auth=", NULL, NULL },
	{ ACT, OPTION_PROXY_TYPE, "proxy-type=", NULL, NULL },
	{ GONE, 'l', "listen",
	  "to listen, write -a PORT; as a proxy for others, --serve -a PORT --allow HOST:PORT", NULL },
	{ GONE, 'S', NULL, NO_SOCKS, NULL },
	/* the old proxytunnel's */
	{ ACT, 'u', "user=", NULL, NULL },
	{ ACT, 's', "pass=", NULL, NULL },
	{ ACT, 'B', "buggy-encrypt-proxy", NULL, NULL },
	{ IDLE, 'W', "wa-bug-29744", NULL, NULL },
	{ IDLE, 'x', "proctitle=", NULL, NULL },
	{ IDLE, 'L', "tlsenforce", NULL, NULL },
	{ IDLE, 'T', "no-ssl3", NULL, NULL },
	{ GONE, 'g', "proxyhost", OLD "-p HOST:PORT", NULL },
	{ GONE, 'G', "proxyport", OLD "-p HOST:PORT", NULL },
	{ GONE, 'D', "destport", OLD "-d HOST:PORT", NULL },
	{ GONE, 'U', "uservar", OLD "the user into PROXYUSER", NULL },
	{ GONE, 0, "passvar", OLD "the password into PROXYPASS", NULL },
};

/* What the command line says, as long as it is not all read. */
struct words {
	char *destination, *passfile;
	struct hop *last;		/* the hop that -H is for */
	char idle[64];			/* the options that do nothing */
};

/* A copy of an argument, which is wiped from the process list. */
static char *secret_argument(char *argument)
{
	char *copied = copy(argument);

	memset(argument, '*', strlen(argument));
	return copied;
}

/* The same of a URL, of which the userinfo is wiped. */
static char *secret_url(char *url)
{
	char *copied = copy(url), *userinfo = url_rest(url), *host = url_host(url);

	memset(userinfo, '*', host > userinfo ? (size_t)(host - 1 - userinfo) : 0);
	return copied;
}

/* Adds a header line of the user, behind those it has. */
static void header_add(struct hop *hop, char *line)
{
	size_t name = strspn(line, token_characters);
	struct header **last = &hop->headers;

	if (name == 0 || line[name] != ':')
		die(EX_USAGE, "-H %s: not a header, which is written 'Name: value'", line);
	if (has_control(line))
		die(EX_USAGE, "-H %s: a control character", line);
	while (*last)
		last = &(*last)->next;
	*last = memory_map(sizeof **last, MAP_PRIVATE);
	(*last)->line = line;
}

static long option_number(const char *name, const char *text, long low, long high)
{
	long number = number_parse(text, low, high);

	if (number == -1)
		die(EX_USAGE, "%s %s: not a number from %ld to %ld", name, text, low, high);
	return number;
}

/* The hop that an option is about: the last -r before it, or else the first behind it. */
static struct hop *last_remote(void)
{
	return &opt.hops[opt.hop_count > 1 ? opt.hop_count - 1 : 1];
}

static void help_print(void)
{
	printf("%s\nCarries stdin and stdout to HOST:PORT through an HTTP proxy that allows CONNECT,\n"
	       "as in ssh_config: ProxyCommand proxytunnel -p proxy.corp:8080 %%h %%p\n\n", usage);
	for (const struct option *option = known_options; option->said; option++) {
		char letter[] = { '-', (char)option->letter, ',', '\0' };
		int width = 0;

		if (option->name)
			width = printf("  %-3s --%s", isgraph(letter[1]) ? letter : "", option->name);
		bool is_wide = width > 27;
		printf("%s%*s%s\n", is_wide ? "\n" : "", is_wide ? 28 : width > 0 ? 28 - width : 0, "", option->said);
	}
}

/* Does what an option says that is more than a flag or a text. */
static void option_act(int letter, char *value, struct words *words)
{
	static struct hop relay;

	switch (letter) {
	case 'p': words->last = opt.hops; opt.hops[0].url = secret_url(value); break;
	case 'r':
		words->last = &opt.hops[opt.hop_count++];
		words->last->url = secret_url(value);
		words->last->remote = true;
		break;
	case 'd': words->last = opt.hops; words->destination = value; break; /* an old -H, mostly last, is for -p */
	case 'P': opt.hops[0].credentials = credentials_split(secret_argument(value)); break;
	case 'R': last_remote()->credentials = credentials_split(secret_argument(value)); break;
	case 'u': opt.hops[0].credentials.user = secret_argument(value); break;
	case 's': opt.hops[0].credentials.password = secret_argument(value); break;
	case 'F': words->passfile = value; break;
	case 'H': header_add(words->last, secret_argument(value)); break;
	case 'o': opt.hops[0].host = value; break;
	case 'B': case 'E': opt.hops[0].tls = true; break; /* -B is -E and -W */
	case 'X': last_remote()->tls = true; break;
	case 'i': opt.inetd = true; stderr_leave(); break;
	case '4': opt.family = AF_INET; break;
	case '6': opt.family = AF_INET6; break;
	case 'w': opt.timeout = (unsigned)option_number("-w", value, 0, TIMEOUT_MAX); break;
	case OPTION_MAX_CLIENTS: opt.clients_max = option_number("--max-clients", value, 1, CLIENTS_MAX); break;
	case OPTION_RELAY: relay.url = secret_url(value); words->last = opt.relay = &relay; break;
	case OPTION_ALLOW: allow_add(value); break;
	case OPTION_PROXY_TYPE:
		if (strcasecmp(value, "http") != 0)
			die(EX_USAGE, "--proxy-type %s: " NO_SOCKS, value);
		break;
	case 'v': opt.verbosity = 1; break;
	case 'q': opt.verbosity = opt.verbosity < 0 ? -2 : -1; break;
	case 'h': help_print(); exit(fflush(stdout) == 0 ? EX_OK : EX_IOERR);
	case 'V': exit(puts("proxytunnel " VERSION) >= 0 && fflush(stdout) == 0 ? EX_OK : EX_IOERR);
	}
}

/* The option of that letter, or of that long name: never one that only begins so. */
static const struct option *option_find(const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof known_options / sizeof *known_options; i++) {
		const struct option *option = &known_options[i];
		const char *own = option->name ? option->name : "";
		bool is_named = strcspn(own, "=") == length && strncmp(own, name, length) == 0;

		if (length == 1 ? option->letter == (unsigned char)*name : is_named)
			return option;
	}
	return NULL;
}

/* Takes an option, and its value, attached or the next word, to which *word goes on then; returns if it has one. */
static bool option_take(const char *name, size_t length, char *attached, char ***word, struct words *words)
{
	const struct option *option = option_find(name, length);
	bool takes_value = option && option->name && strchr(option->name, '=');
	char *value = attached ? attached : (*word)[1], written[32];
	size_t idle = strlen(words->idle);

	snprintf(written, sizeof written, "%s%.*s", length > 1 ? "--" : "-", (int)length, name);
	if (!option)
		die(EX_USAGE, "%s: no such option (-h lists them)", written);
	if (option->kind == GONE)
		die(EX_USAGE, "%s: %s", written, option->said);
	if (takes_value ? !value : attached && length > 1)
		die(EX_USAGE, takes_value ? "%s: needs a value" : "%s: takes no value", written);
	if (option->kind == ACT)
		option_act(option->letter, value, words);
	else if (option->kind == IDLE)
		snprintf(words->idle + idle, sizeof words->idle - idle, "%s ", written);
	else if (takes_value)
		*(const char **)option->to = value;
	else
		*(bool *)option->to = true;
	*word += takes_value && !attached;
	return takes_value;
}

/* Takes the options out of the words, so that the operands are left; returns how many. */
static int words_take(char **word, struct words *words)
{
	char **operand = word, **first = word;

	for (; *word && strcmp(*word, "--") != 0; word++) {
		char *name = *word + 1;
		size_t length = strcspn(name, "=");

		if (**word != '-' || !*name)
			*operand++ = *word;
		else if (*name == '-')
			option_take(name + 1, length - 1, name[length] ? name + length + 1 : NULL, &word, words);
		else
			while (*name && !option_take(name, 1, name[1] ? name + 1 : NULL, &word, words))
				name++;
	}
	for (word += *word != NULL; *word; word++)
		*operand++ = *word;
	return (int)(operand - first);
}

static void words_authority(struct authority *to, char *const *word)
{
	const char *wrong = authority_set(to, word[0], strlen(word[0]), word[1]);

	if (wrong)
		die(EX_USAGE, "%s %s: %s", word[0], word[1], wrong);
}

/* The words that are no options: the destination in one or two, and before it the proxy, in one or corkscrew's two. */
static void operands(int count, char **operand, struct words *words)
{
	struct hop *first = opt.hops;
	bool has_proxy = (count == 3 || (count == 2 && strchr(operand[1], ':'))) && strchr(operand[0], ':');

	if (first->url && count + (words->destination != NULL) > 1 && number_parse(operand[0], 1, 65535) != -1)
		die(EX_USAGE, "%s: is it the proxy's port? write -p %s:%s", *operand, url_host(first->url), *operand);
	if ((count == 3 && !has_proxy) || count > 5)
		die(EX_USAGE, "%s: one word too many or too few (-h for help)", operand[count - 1]);
	if (first->url && (has_proxy || count > 3))
		die(EX_USAGE, "%s: the proxy is given already, by -p", url_host(operand[0]));
	if (count == 5 && words->passfile)
		die(EX_USAGE, "%s: the passfile is given already, by -F", operand[4]);
	if (count == 5)
		words->passfile = operand[4];
	if (has_proxy) {
		first->url = secret_url(*operand++);
		count--;
	} else if (count > 3) {
		words_authority(&first->at, operand);
		operand += 2;
		count = 2;
	}
	if (count > 0 && words->destination)
		die(EX_USAGE, "%s: the destination is given already, by -d", operand[0]);
	if (count == 1)
		words->destination = operand[0];
	if (count == 2)
		words_authority(&opt.destination, operand);
}

/* --- sources: what the command line leaves open: hops_complete, credentials_complete -------------------- */

static const char *const proxy_variables[] = {
	"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY", NULL,
};

/* The name of the first variable that is set and names a SOCKS proxy, or one that does not; NULL: there is none. */
static const char *proxy_variable(bool socks)
{
	for (const char *const *name = proxy_variables; *name; name++) {
		const char *url = variable_get(*name);

		if (url && *url && (strncasecmp(url, "socks", 5) == 0) == socks)
			return *name;
	}
	return NULL;
}

/* Whether no_proxy, or else NO_PROXY, exempts a host. */
static bool is_exempt(const char *host)
{
	const char *list = variable_get("no_proxy");
	char plain[HOST_MAX + 1];

	list = list && *list ? list : variable_get("NO_PROXY");
	host_plain(strcpy(plain, host));
	return list && no_proxy_names(list, plain);
}

/* Takes a hop's URL apart, which messages call so. */
static void hop_parse(struct hop *hop, const char *source, const char *name)
{
	const char *wrong = proxy_parse(hop);

	if (wrong)
		die(EX_USAGE, "%s %s: %s", source, name, wrong);
	credentials_check(&hop->userinfo, source);
}

/* Takes the URL of the relay apart: that of a proxy, and a path. */
static void relay_parse(void)
{
	struct hop *relay = opt.relay;
	char *rest = url_rest(relay->url), *path = rest + strcspn(rest, "/");
	bool is_secret = strchr(path, '@'); /* a / may be of a password then, which should have been %2F */

	for (const char *c = path; *c; c++)
		if (*c <= ' ' || *c > '~' || *c == '?' || *c == '#')
			die(EX_USAGE, "--relay: '%c' cannot stand in its path: %s", *c, is_secret ? "URL" : path);
	for (size_t length = strlen(path); length > 0 && path[length - 1] == '/';)
		path[--length] = '\0';
	relay->path = copy(path);
	*path = '\0';
	hop_parse(relay, "--relay", is_secret ? "URL" : url_host(relay->url));
	char *host = copy(relay->at.text);
	if (strcmp(relay->at.port, relay->tls ? "443" : "80") == 0)
		*strrchr(host, ':') = '\0';
	relay->host = host;
}

/* Makes the list of hops whole: the first may come from the environment, or there may be none. */
static void hops_complete(void)
{
	struct hop *first = opt.hops;
	const char *variable = proxy_variable(false), *socks = proxy_variable(true);
	const char *source = first->url ? "-p" : variable;
	bool is_named = first->url || *first->at.text || opt.proxy_command;
	bool is_meant = first->credentials.user || first->tls || first->host || opt.ntlm ||
	                (first->headers && !opt.relay);

	if (opt.relay)
		relay_parse();
	for (size_t i = 1; i < opt.hop_count; i++)
		hop_parse(&opt.hops[i], "-r", url_host(opt.hops[i].url));
	if (!is_named && variable && !is_exempt(route_point(1)->host))
		first->url = copy(variable_get(variable));
	if (first->url)
		hop_parse(first, source, url_host(first->url));
	else if (opt.proxy_command && !*first->at.text)
		strcpy(first->at.text, "proxy command");
	if (*first->at.text)
		return;
	if (!variable && ((opt.hop_count == 1 && !opt.relay) || is_meant))
		die(EX_USAGE, "no proxy: %s%s", socks ? socks : "name it with -p, or in https_proxy",
		    socks ? " names a SOCKS proxy, which cannot be used here; name an HTTP proxy with -p" : "");
	for (; opt.relay && !variable && first->headers; first->headers = first->headers->next)
		header_add(opt.relay, first->headers->line);
	opt.hops++;
	opt.hop_count--;
}

/* Gathers what is known of a hop's credentials behind those of the command line, and asks for a password that lacks. */
static void credentials_gather(struct hop *hop, const struct credentials *file, const struct credentials *environment)
{
	struct credentials *known = &hop->credentials, given = *known;

	credentials_check(&given, hop->remote ? "-R" : "-P");
	*known = (struct credentials){ NULL, NULL };
	credentials_add(known, given.user, given.password);
	credentials_add(known, file->user, file->password);
	credentials_add(known, hop->userinfo.user, hop->userinfo.password);
	credentials_add(known, environment->user, environment->password);
	if (known->user && !known->password && !credentials_ask(hop))
		die(EX_USAGE, "%s: no password for %.64s, and no answer to the question for it (try -F)",
		    hop->at.text, known->user);
	if (known->password && !known->user)
		warn("%s: a password without a user, which is not used (-P, -R, -F or the environment names one)",
		     hop->at.text);
	hop->asked |= opt.listen || opt.inetd; /* nobody sits there to be asked later */
}

/* Completes the credentials of hops from file and environment, where children find no passwords then. */
static void credentials_complete(const char *path)
{
	static const char *const names[][3] = {
		{ "PROXYUSER", "PROXYPASS", "PROXYUSER or PROXYPASS" },
		{ "REMPROXYUSER", "REMPROXYPASS", "REMPROXYUSER or REMPROXYPASS" },
		{ "RELAYUSER", "RELAYPASS", "RELAYUSER or RELAYPASS" },
	};
	struct credentials file[4] = { { NULL, NULL } }, environment[4] = { { NULL, NULL } };
	bool is_single = path && passfile_read(file, path);

	if (is_single && opt.relay && opt.hop_count > 0)
		die(EX_NOINPUT, "%s: is that for the proxy or for the relay? write lines proxy_user = and "
		    "proxy_passwd =, or relay_user = and relay_passwd =", path);
	if (is_single && opt.relay)
		file[2] = file[0];
	for (int i = 0; i < 3; i++) {
		environment[i] = (struct credentials){ variable_get(names[i][0]), variable_get(names[i][1]) };
		credentials_check(&file[i], path);
		credentials_check(&environment[i], names[i][2]);
		unsetenv(names[i][1]);
	}
	for (const char *const *name = proxy_variables; *name; name++) {
		char *url = getenv(*name);

		if (url && strchr(url, '@')) {
			secret_wipe(url);
			unsetenv(*name);
		}
	}
	for (size_t i = 0; i < opt.hop_count + (opt.relay != NULL); i++) {
		struct hop *hop = i < opt.hop_count ? &opt.hops[i] : opt.relay;
		int source = hop == opt.relay ? 2 : !hop->remote ? 0 : i == opt.hop_count - 1 ? 1 : 3;

		credentials_gather(hop, &file[source], &environment[source]);
	}
}

/* --- options: all of it together, and main: options ----------------------------------------------------- */

/* What does not go together, or not here, or is missing. */
static void options_check(const struct words *words, int operand_count)
{
	const struct hop *first = opt.hops, *second = opt.hops + 1;
	bool client = operand_count > 0 || words->destination || first->url || opt.hop_count > 1 || opt.relay ||
	              opt.proxy_command || opt.fdpass || first->credentials.user || first->headers || first->host ||
	              first->tls || opt.destination_tls || opt.tls_authorities || opt.tls_certificate ||
	              opt.tls_unverified || opt.ntlm || opt.domain;
	const char *const files[] = { opt.tls_authorities, opt.tls_certificate, opt.tls_key };
	const struct {
		bool wrong;
		const char *why;
	} rules[] = {
		{ !!opt.listen + opt.inetd + opt.fdpass > 1,
		  "of -a, -i and --fdpass there can be one: there is one near end" },
		{ opt.fdpass && !fdpass_possible(),
		  "--fdpass: standard output is no Unix socket (for ssh: ProxyUseFdpass yes)" },
		{ opt.inetd && fd_type(STDIN_FILENO) != S_IFSOCK, "-i: standard input is no socket" },
		{ opt.hop_count == 1 && (second->tls || second->credentials.user), "-X, -R: there is no -r" },
		{ opt.tls_key && !opt.tls_certificate, "-k: there is no certificate, -c, for this key" },
		{ first->host && has_control(first->host), "-o: a control character" },
		{ opt.proxy_command && first->tls && !first->url && operand_count < 3,
		  "-E: needs a name for the certificate to bear: name the proxy with -p" },
		{ !opt.serve && (opt.allow_count > 0 || opt.tls_only), "--allow and --tls-only: only for --serve" },
		{ opt.serve && client, "--serve: connects by itself to what its clients name, and takes only "
		                       "-a, -i, --allow, --tls-only, --max-clients, -F, -w, -4, -6, -v and -q" },
		{ opt.serve && !opt.listen && !opt.inetd, "--serve: needs -a or -i" },
		{ opt.serve && opt.allow_count == 0, "--serve: say what may be reached, as --allow '*:443' or "
		                                     "--allow 'git.example.org:22'" },
	};

	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		if (rules[i].wrong)
			die(EX_USAGE, "%s", rules[i].why);
	for (int i = 0; i < 3; i++)
		if (files[i] && access(files[i], R_OK) == -1)
			die(EX_NOINPUT, "-%c %s: %s", "Cck"[i], files[i], strerror(errno));
}

/* Reads the command line into opt, and fills it up from files and the environment; or ends the program. */
static void options(int argc, char **argv)
{
	static struct head request;
	const char *wrong;

	opt.hops = memory_map(((size_t)argc + 2) * sizeof *opt.hops, MAP_PRIVATE);
	opt.allow = memory_map(((size_t)argc + 1) * sizeof *opt.allow, MAP_PRIVATE);
	opt.hop_count = 1;
	struct words words = { .last = opt.hops };
	argv += argc > 0;
	lines_check(argc - 1, argv);
	int count = words_take(argv, &words);
	if (*words.idle)
		note("%s(of the old proxytunnel): without an effect here", words.idle);

	options_check(&words, count);
	if (opt.serve) {
		opt.accounts = words.passfile ? accounts_read(words.passfile) : NULL;
		return;
	}
	operands(count, argv, &words);
	if (words.destination && (wrong = authority_parse(&opt.destination, words.destination, NULL)))
		die(EX_USAGE, "%s: %s", words.destination, wrong);
	if (!*opt.destination.text)
		die(EX_USAGE, "no destination (-h for help)");
	hops_complete();
	credentials_complete(words.passfile);
	if (opt.ntlm)
		opt.hops[0].scheme = credentials_known(&opt.hops[0].credentials) ? ntlm_scheme : negotiate_scheme;
	if (opt.proxy_command)
		opt.proxy_command = command_expand(opt.proxy_command, &opt.hops[0].at);
	for (size_t i = 1; i <= opt.hop_count + (opt.relay != NULL); i++)
		if (strchr(route_point(i)->host, '%'))
			die(EX_USAGE, "%s: a zone has no meaning at the %s that is to connect there",
			    route_point(i)->text, i > opt.hop_count ? "relay" : "proxy");
	for (size_t i = 0; i < route_tunnels(); i++)
		connect_compose(&request, &opt.hops[i], route_point(i + 1)); /* or the end, if it is too large */
	explicit_bzero(request.bytes, request.length);
}

/* A descriptor of 0 to 2 that came closed would be taken by the next socket, and mistaken for the near end. */
static void descriptors_ensure(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", O_RDWR) != fd)
			exit(EX_OSERR);
}

int main(int argc, char **argv)
{
	struct worker worker = { .board = NULL };
	struct route route = { .tunnel = NULL };
	struct lane up, down;

	descriptors_ensure();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	signals_take();
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 1, 1 }); /* 0 would not hold for what core_pattern runs */
	options(argc, argv);
	struct end near = near_open(&worker);
	alarm(opt.timeout);
	if (opt.serve)
		return serve(&near, &worker);

	struct end far = tunnel_open(&near, &route);
	alarm(0);
	secrets_forget();
	if (opt.fdpass)
		return fdpass(&far);
	double started = seconds_now();
	if (pledge("stdio proc", NULL) == -1) /* from now on it needs only bytes, and its children */
		die(EX_OSERR, "cannot give up rights: %s", strerror(errno));
	shuttle(&near, &far, &up, &down);
	return tunnel_close(&far, &up, &down, &route, started);
}
