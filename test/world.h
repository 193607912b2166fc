/* SPDX-License-Identifier: ISC */

/*
 * world: the program, for fuzz.c, in a world where nothing takes time, nothing blocks, and nothing is reached.
 * Here stands what it calls in place of the system.
 */

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WIRE = 1000, TUNNEL, PEERS_MAX = 16, MAPPED_MAX = 16, INPUT_MAX = 70000, OUTPUT_MAX = 20 * INPUT_MAX };

/* Ends the run with an abort, which a fuzzer takes for a crash, unless what must hold holds. */
#define MUST(holds) ((holds) ? (void)0 : broken(#holds))

static _Noreturn void broken(const char *what)
{
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

#define DIVIDER "\n----\n"

/* Two descriptors that are none. */
static struct wire {
	const char *bytes;		/* that it gives, */
	size_t length, taken, come;	/* so much of it has come so far, and more does when that has been taken */
	bool is_ended;			/* and nothing comes behind it */
	const char *rest;		/* comes up to a divider, with the next connection or what is sent next */
	size_t rest_length;
	uint32_t random;
	char data[OUTPUT_MAX];
	size_t sent;
} wires[2];

/* The other sides of sockets, which take all that is sent: of a server's client, at 0, and of targets. */
static struct peer {
	int fd;
	bool is_ended;
	size_t received;
} peers[PEERS_MAX];

static int peer_count;
static char client_data[OUTPUT_MAX];	/* what the client has received */
static bool is_patterned;		/* what targets receive is the pattern */
static size_t target_bytes;		/* that a target sends of it, */
static uint64_t target_start;		/* from there on */
static double clock_now = 1000;
static uint32_t chance = 1;		/* of how much comes at a time */
static const char *file_content;
static jmp_buf exit_jump;
static bool is_exit_caught;
static int exit_status;
static void *allocated[4096];
static size_t allocated_count;
static struct {
	void *memory;
	size_t size;
} input_maps[MAPPED_MAX];
static size_t input_map_count;
static bool is_mapped_for_one;

/* What a stream holds at an offset, where it has to hold something certain. */
static char pattern(uint64_t offset)
{
	return (char)(offset ^ offset >> 8);
}

static uint32_t random_next(uint32_t *random, uint32_t below)
{
	*random ^= *random << 13;
	*random ^= *random >> 17;
	*random ^= *random << 5;
	return *random % below;
}

static void peers_drain(void)
{
	static char bytes[65536];

	for (struct peer *peer = peers; peer < peers + peer_count; peer++)
		for (ssize_t got; (got = recv(peer->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0;
		     peer->received += (size_t)got) {
			MUST(peer->received + (size_t)got <= sizeof client_data);
			if (peer == peers)
				memcpy(client_data + peer->received, bytes, (size_t)got);
			for (ssize_t i = 0; peer > peers && is_patterned && i < got; i++)
				MUST(bytes[i] == pattern(peer->received + (size_t)i));
		}
}

/* The program waits for what nobody will send: one of those that could have ends. */
static void peer_end(void)
{
	struct peer *peer = peers;

	while (peer < peers + peer_count && peer->is_ended)
		peer++;
	MUST(peer < peers + peer_count); /* or it waits for ever */
	peer->is_ended = true;
	shutdown(peer->fd, SHUT_WR);
}

/* A socket with a peer of that number behind it. */
static int peer_make(void)
{
	int ends[2];

	MUST(peer_count < PEERS_MAX && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	peers[peer_count++] = (struct peer){ .fd = ends[1] };
	return ends[0];
}

static void peers_close(void)
{
	while (peer_count > 0)
		close(peers[--peer_count].fd);
}

static void wire_give(struct wire *to, const char *bytes, size_t length)
{
	to->bytes = bytes;
	to->length = length;
	to->taken = to->come = to->sent = to->rest_length = 0;
	to->is_ended = true;
	to->random = (uint32_t)length * 2654435761;
}

/* Has the next part of what the wire gives come. */
static void wire_next(struct wire *of)
{
	const char *end = of->rest_length > 0 ? memmem(of->rest, of->rest_length, DIVIDER, strlen(DIVIDER)) : NULL;

	of->bytes = of->rest;
	of->length = end ? (size_t)(end - of->rest) : of->rest_length;
	of->taken = of->come = 0;
	of->is_ended = of->length % 2 == 0;
	of->rest_length -= of->length + (end ? strlen(DIVIDER) : 0);
	of->rest = end ? end + strlen(DIVIDER) : "";
}

/* Gives it in parts, the first to the first connection. */
static void wire_give_parts(struct wire *to, const char *bytes, size_t length)
{
	wire_give(to, "", 0);
	to->rest = bytes;
	to->rest_length = length;
}

/* What a wire is ready for; NULL: for anything, if it is a question of time. */
static short wire_ready(struct wire *of, short events, const struct timespec *wait)
{
	of->is_ended |= !wait;
	return (short)(events & (of->taken < of->length || of->is_ended ? POLLIN | POLLOUT : POLLOUT));
}

static int world_ppoll(struct pollfd *set, nfds_t count, const struct timespec *wait, const sigset_t *mask)
{
	int ready = 0;

	(void)mask;
	peers_drain();
	for (nfds_t i = 0; i < count; i++) {
		if (set[i].fd >= WIRE)
			set[i].revents = wire_ready(&wires[set[i].fd - WIRE], set[i].events, wait);
		else if (set[i].fd == STDERR_FILENO)
			set[i].revents = set[i].events;
		else
			poll(&set[i], 1, 0);
		ready += set[i].revents != 0;
	}
	if (ready > 0)
		return ready;
	if (!wait) {
		peer_end();
		return world_ppoll(set, count, wait, mask);
	}
	clock_now += (double)wait->tv_sec + (double)wait->tv_nsec / 1e9;
	return 0;
}

static int world_poll(struct pollfd *set, nfds_t count, int ms)
{
	const struct timespec wait = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	return world_ppoll(set, count, ms < 0 ? NULL : &wait, NULL);
}

static ssize_t wire_recv(struct wire *from, void *to, size_t size, int flags)
{
	if (from->taken == from->length && !from->is_ended && flags & MSG_DONTWAIT) {
		errno = EAGAIN;
		return -1;
	}
	if (from->taken == from->come || from->random % 16 == 0) {
		from->random = from->random * 1664525 + 1013904223;
		from->come += 1 + (from->random >> 8) % (from->random >> 30 ? 4 : 4096);
	}
	if (from->come > from->length || flags & MSG_WAITALL)
		from->come = from->length;
	size_t there = from->come - from->taken;
	if (there > size)
		there = size;
	memcpy(to, from->bytes + from->taken, there);
	if (!(flags & MSG_PEEK))
		from->taken += there;
	return (ssize_t)there;
}

static ssize_t world_recv(int fd, void *to, size_t size, int flags)
{
	if (fd >= WIRE)
		return wire_recv(&wires[fd - WIRE], to, size, flags);
	static size_t come[WIRE]; /* of what was sent, and not yet taken */
	ssize_t got;
	if (come[fd] == 0)
		come[fd] = 1 + random_next(&chance, random_next(&chance, 2) ? 1 << 20 : 64);
	size = size < come[fd] ? size : come[fd];
	while ((got = recv(fd, to, size, flags | MSG_DONTWAIT)) == -1 && errno == EAGAIN && !(flags & MSG_DONTWAIT))
		peer_end();
	come[fd] -= got > 0 && !(flags & MSG_PEEK) ? (size_t)got : 0;
	return got;
}

static ssize_t world_send(int fd, const void *from, size_t size, int flags)
{
	if (fd < WIRE)
		return send(fd, from, size, flags);
	struct wire *to = &wires[fd - WIRE];
	if (to->taken == to->length && to->rest_length > 0)
		wire_next(to);
	MUST(to->sent + size <= sizeof to->data);
	memcpy(to->data + to->sent, from, size);
	to->sent += size;
	return (ssize_t)size;
}

static ssize_t world_sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t sent = 0;

	if (fd < WIRE)
		return sendmsg(fd, message, flags);
	for (size_t i = 0; i < (size_t)message->msg_iovlen; i++)
		sent += world_send(fd, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len, flags);
	return sent;
}

static void listener_answers(void);

static ssize_t world_recvmsg(int fd, struct msghdr *message, int flags)
{
	if (!(flags & MSG_DONTWAIT))
		listener_answers();
	return recvmsg(fd, message, flags | MSG_DONTWAIT);
}

/* A message is a line of our own, and nothing that a terminal would act on. */
static ssize_t world_write(int fd, const void *from, size_t size)
{
	const char *line = from;

	if (fd != STDERR_FILENO)
		return write(fd, from, size);
	MUST(size > 13 && strncmp(line, "proxytunnel: ", 13) == 0 && line[size - 1] == '\n');
	for (size_t i = 0; i < size - 1; i++)
		MUST(line[i] >= ' ' && line[i] <= '~');
	return (ssize_t)size;
}

static int world_clock_gettime(clockid_t clock, struct timespec *now)
{
	(void)clock;
	clock_now += 1e-6;
	now->tv_sec = (time_t)clock_now;
	now->tv_nsec = (long)((clock_now - (double)now->tv_sec) * 1e9);
	return 0;
}

static int world_nanosleep(const struct timespec *wait, struct timespec *left)
{
	(void)left;
	return world_ppoll(NULL, 0, wait, NULL);
}

/* What a socket leads to: the wire, or a target that sends some bytes, and maybe ends then. */
static int world_socket(int domain, int type, int protocol)
{
	char bytes[4096];

	(void)domain, (void)type, (void)protocol;
	if (peer_count == 0) {
		wire_next(&wires[0]);
		return WIRE;
	}
	errno = EMFILE;
	if (peer_count == PEERS_MAX)
		return -1;
	int fd = peer_make();
	for (size_t at = 0, part; at < target_bytes; at += part) {
		part = target_bytes - at < sizeof bytes ? target_bytes - at : sizeof bytes;
		for (size_t i = 0; i < part; i++)
			bytes[i] = pattern(target_start + at + i);
		MUST(send(peers[peer_count - 1].fd, bytes, part, MSG_DONTWAIT) == (ssize_t)part);
	}
	if ((peers[peer_count - 1].is_ended = target_bytes % 2))
		shutdown(peers[peer_count - 1].fd, SHUT_WR);
	return fd;
}

static int world_connect(int fd, const struct sockaddr *address, socklen_t size)
{
	(void)fd, (void)address, (void)size;
	return 0;
}

/* Of no name it asks a name service. */
static int world_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **found)
{
	struct addrinfo numeric = *hints;

	(void)host;
	numeric.ai_flags |= AI_NUMERICHOST;
	return getaddrinfo(hints->ai_family == AF_INET6 ? "2001:db8::1" : "192.0.2.1", port, &numeric, found);
}

/* The only file. */
static int world_open(const char *path, int flags, ...)
{
	if (strcmp(path, "/dev/null") == 0)
		return open(path, flags);
	int fd = file_content && strncmp(path, "/dev/", 5) != 0 ? memfd_create("file", 0) : -1;
	if (fd != -1 && (write(fd, file_content, strlen(file_content)) == -1 || lseek(fd, 0, SEEK_SET) == -1))
		abort();
	errno = ENOENT;
	return fd;
}

static void *allocate(size_t size)
{
	void *memory = allocated_count < sizeof allocated / sizeof *allocated ? calloc(1, size) : NULL;

	if (memory)
		allocated[allocated_count++] = memory;
	return memory;
}

static char *world_strdup(const char *text)
{
	char *copied = allocate(strlen(text) + 1);

	return copied ? strcpy(copied, text) : NULL;
}

/* Maps memory; while it is for one input only, for as long as what is allocated. */
static void *world_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	void *memory = mmap(at, size, protection, flags, fd, offset);

	if (is_mapped_for_one && memory != MAP_FAILED && input_map_count < MAPPED_MAX) {
		input_maps[input_map_count].memory = memory;
		input_maps[input_map_count++].size = size;
	}
	return memory;
}

static void allocated_free(void)
{
	for (; input_map_count > 0; input_map_count--)
		munmap(input_maps[input_map_count - 1].memory, input_maps[input_map_count - 1].size);
	while (allocated_count > 0)
		free(allocated[--allocated_count]);
}

static _Noreturn void world_exit(int status)
{
	MUST(is_exit_caught);
	exit_status = status;
	longjmp(exit_jump, 1);
}

/* Whoever starts a command has this process behind it: what it says is at the tunnel's wires[0]. */
static pid_t world_fork(void)
{
	return 1 << 30;
}

static int world_socketpair(int domain, int type, int protocol, int ends[2])
{
	if (type & SOCK_DGRAM || peer_count > 0)
		return socketpair(domain, type, protocol, ends);
	ends[0] = TUNNEL;
	ends[1] = -1;
	return 0;
}

static pid_t world_waitpid(pid_t child, int *status, int options)
{
	(void)child, (void)options;
	if (status)
		*status = 0;
	return -1;
}

static int world_kill(pid_t process, int number)
{
	(void)process, (void)number;
	return 0;
}

static unsigned world_alarm(unsigned seconds)
{
	(void)seconds;
	return 0;
}

static void world_signal(int number, void (*handler)(int))
{
	(void)number, (void)handler;
}

__attribute__((format(printf, 2, 3)))
static int world_dprintf(int fd, const char *format, ...)
{
	(void)fd, (void)format;
	return 1;
}

__attribute__((format(printf, 1, 2)))
static int world_printf(const char *format, ...)
{
	return (int)strlen(format);
}

static int world_sigaction(int number, const struct sigaction *action, struct sigaction *before)
{
	(void)number, (void)action;
	if (before)
		before->sa_handler = SIG_DFL;
	return 0;
}

static int world_sigprocmask(int how, const sigset_t *set, sigset_t *before)
{
	(void)how, (void)set;
	return before ? sigemptyset(before) : 0;
}

#define main proxytunnel_main
#define recv world_recv
#define send(socket, from, size, flags) world_send(socket, from, size, flags)
#define sendmsg world_sendmsg
#define recvmsg world_recvmsg
#define poll(set, count, ms) world_poll(set, count, ms)
#define ppoll world_ppoll
#define write world_write
#define clock_gettime world_clock_gettime
#define nanosleep world_nanosleep
#define socket(domain, type, protocol) world_socket(domain, type, protocol)
#define connect(socket, address, size) world_connect(socket, address, size)
#define socketpair world_socketpair
#define getaddrinfo(host, port, hints, found) world_getaddrinfo(host, port, hints, found)
#define open world_open
#define mmap world_mmap
#define malloc allocate
#define calloc(count, size) allocate((count) * (size))
#define strdup world_strdup
#define free(memory) ((void)(memory))
#define exit world_exit
#define fork world_fork
#define waitpid world_waitpid
#define kill world_kill
#define alarm world_alarm
#define signal(number, handler) world_signal(number, handler)
#define sigaction(number, action, before) world_sigaction(number, action, before)
#define sigprocmask world_sigprocmask
#define dprintf world_dprintf
#define printf(...) world_printf(__VA_ARGS__)
#define puts(text) world_printf("%s", text)
#include "../proxytunnel.c"
#undef main
#undef recv
#undef send
#undef sendmsg
#undef recvmsg
#undef poll
#undef socket
#undef socketpair
#undef open
#undef write
#undef mmap
#undef malloc
#undef calloc
#undef strdup
#undef free
#undef exit
