/* SPDX-License-Identifier: ISC */
/*
 * fault: stands between two that speak HTTP, and goes wrong; for the tests.
 *
 *	fault -n FAULTS [-e BYTES] [-s SEED] [-p FILE] [-t SECS] PORT
 *		forwards each request to 127.0.0.1:PORT and its answer back, with so many faults on the
 *		way, on average one for so many bytes (1M) that pass
 *	fault -c WHAT [-w FILE] [-p FILE] [-t SECS] [PORT]
 *		does the same with every request, and counts; with -w once that file is there, and
 *		forwards to PORT as long as it is not, what follows CONNECT too
 *	fault -d MS [-p FILE] [-t SECS] PORT
 *		lets every byte take so long, each way, however many are under way
 *
 *	-p  where the port goes on which it listens (stdout)	-t  give up after so long (120 s)
 *	-s  seed of what is random (1)
 *
 * The faults come in turn, shuffled, each where it is possible next; one that is not for long becomes another
 * that cuts too, or that does not either. The first six cut:
 *
 *	before	the client is reset before its request is forwarded
 *	after	both are cut once it is forwarded, before there is an answer
 *	lost	it is forwarded and answered, and the client is reset instead of getting the answer
 *	body	both are cut in the middle of the request's body
 *	fin	the answer ends somewhere in the middle, in order as far as TCP knows
 *	rst	the same by a reset
 *	twice	the request is sent on a connection of its own too, at the same time
 *	again	the same after the first was answered, and only for other methods than GET
 *	replay	an earlier request is sent again on a connection of its own
 *	held	the request waits, up to 300 ms
 *	stalled	the same in the middle of an answer
 *
 * WHAT is one of: close (the connection), reset (it), silent (leave it open), cut (after the head of the
 * answer from PORT), or a status of three digits, in an answer of our own.
 *
 * Bodies of requests need a Content-Length, answers one or the end of their connection. SIGTERM ends it, and
 * what it counted is then on stdout, a name and a number a line: each kind of fault, "faults", of these "cuts",
 * and "requests"; with -c "requests", "connections", and the most requests within any one "second" and any one "minute".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
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
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum {
	HEAD_MAX = 65536, REQUEST_MAX = 8 << 20, BLOCK = 65536,
	CLIENTS_MAX = 512, FAULTS_MAX = 10000, TIMES_MAX = 1 << 20, KEPT_MAX = 6,
	PATIENCE = 16, HOLD_MS = 300, LOST_MS = 1000, COPY_MS = 3000, LOOK_MS = 50,
};

enum kind { BEFORE, AFTER, LOST, BODY, FIN, RST, TWICE, AGAIN, REPLAY, HELD, STALLED, KINDS, NONE };

static const char * const names[KINDS] = {
	"before", "after", "lost", "body", "fin", "rst", "twice", "again", "replay", "held", "stalled",
};

enum {
	ALL = (1 << KINDS) - 1,
	IN_ANSWER = 1 << FIN | 1 << RST | 1 << STALLED,
	CUTS = 1 << BEFORE | 1 << AFTER | 1 << LOST | 1 << BODY | 1 << FIN | 1 << RST,
};

/* What all processes share. */
static struct shared {
	atomic_ulong connections, requests, bytes, counts[KINDS];
	atomic_bool happened[FAULTS_MAX];	/* of the plan */
	struct {
		atomic_uint state;	/* USED: by one of the processes */
		size_t size;
		char data[REQUEST_MAX];
	} kept[KEPT_MAX];		/* requests that may be replayed */
	long times[TIMES_MAX];		/* of requests, in ms */
} *shared;

enum { EMPTY, USED, READY };

/* When each fault is due, in bytes that passed, and of which kind it is. */
static struct { unsigned long at; enum kind kind; } plan[FAULTS_MAX];
static unsigned long faults, every = 1 << 20;

static unsigned limit = 120;
static in_port_t relay_port;
static const char *what, *watched;
static uint64_t random_state = 1;

/* --- messages, time, chance ------------------------------------------ */

/* One line in one piece, however many processes there are. */
static void say_list(const char *format, va_list args)
{
	char line[512] = "fault: ";
	size_t size = strlen(line);

	vsnprintf(line + size, sizeof line - 1 - size, format, args);
	size = strlen(line);
	line[size++] = '\n';
	if (write(2, line, size) == -1)
		_exit(2);
}

static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say_list(format, args);
	va_end(args);
}

static _Noreturn void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say_list(format, args);
	va_end(args);
	exit(1);
}

static void give_up(int sig)
{
	static const char words[] = "fault: out of time\n";

	(void)sig;
	_exit(write(2, words, sizeof words - 1) < 0 ? 2 : 1);
}

static int64_t clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static long clock_ms(void)
{
	return (long)(clock_us() / 1000);
}

static void sleep_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&t, &t) == -1 && errno == EINTR)
		;
}

static unsigned long random_below(unsigned long n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (unsigned long)(random_state * 0x2545f4914f6cdd1dU >> 33) % n;
}

/* A process of its own, which ends with this one. */
static pid_t process_fork(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == -1)
		say("fork: %s", strerror(errno));
	if (pid == 0) {
#ifdef __linux__
		prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
		if (getppid() != parent)
			_exit(1);
		alarm(limit);
	}
	return pid;
}

/* --- connections ----------------------------------------------------- */

/* Whether all of it went. */
static bool stream_write(int fd, const char *data, size_t size)
{
	ssize_t n;

	while (size > 0) {
		n = send(fd, data, size, MSG_NOSIGNAL);
		if (n == -1 && errno != EINTR)
			return false;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
	}
	return true;
}

static void stream_close(int *fd, bool reset)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	if (*fd == -1)
		return;
	if (reset)
		setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(*fd);
	*fd = -1;
}

static void stream_hurry(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static struct sockaddr_in loopback(in_port_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

/* A connection to PORT, or -1. */
static int relay_connect(void)
{
	struct sockaddr_in address = loopback(relay_port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd == -1)
		die("socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&address, sizeof address) == -1) {
		say("port %d: %s", relay_port, strerror(errno));
		close(fd);
		return -1;
	}
	stream_hurry(fd);
	return fd;
}

/* --- heads ----------------------------------------------------------- */

/* The size of the head that data begins with; 0 while its end is not there. */
static size_t head_size(const char *data, size_t size)
{
	const char *end = memmem(data, size, "\r\n\r\n", 4);

	return end == NULL ? 0 : (size_t)(end - data) + 4;
}

/* The value of a field, which a line end follows, or NULL. */
static const char * head_field(const char *head, size_t size, const char *name)
{
	const char *line = head, *end = head + size;
	size_t length = strlen(name);

	while ((line = memchr(line, '\n', (size_t)(end - line))) != NULL) {
		line++;
		if ((size_t)(end - line) > length && line[length] == ':' && strncasecmp(line, name, length) == 0) {
			line += length + 1;
			return line + strspn(line, " \t");
		}
	}
	return NULL;
}

/* Whether the connection ends with the message that has this head. */
static bool head_last(const char *head, size_t size)
{
	const char *connection = head_field(head, size, "Connection");

	return memmem(head, size, "HTTP/1.1", 8) == NULL ||
	    (connection != NULL && strncasecmp(connection, "close", 5) == 0);
}

/* --- a request, and its answer --------------------------------------- */

/* A client's connection, and that to PORT, if there is one; -1 as the client: what comes is dropped. */
struct link {
	int client, relay;
	bool drop;		/* the answer */
	bool head_only;		/* of the answer */
	bool watching;		/* the file of -w is yet to come */
	long until;		/* give up at that time, in ms; 0: never */
	size_t size, head, filled;	/* of the request, of its head; what was read, maybe more */
};

static char request[REQUEST_MAX], earlier[REQUEST_MAX], block[BLOCK], answer[HEAD_MAX];

static void link_cut(struct link *l, bool reset)
{
	stream_close(&l->client, reset);
	stream_close(&l->relay, reset);
}

static bool watch_over(void)
{
	return watched == NULL || access(watched, F_OK) == 0;
}

/*
 * Until PORT has something for us, or takes something if writing. Not so if the client has gone, if what is
 * watched for is there, or if it takes too long.
 */
static bool link_wait(const struct link *l, bool writing)
{
	struct pollfd p[2] = {
		{ .fd = l->relay, .events = writing ? POLLIN | POLLOUT : POLLIN },
		{ .fd = l->client, .events = POLLRDHUP },
	};
	long ms;

	for (;;) {
		ms = l->watching ? LOOK_MS : -1;
		if (l->until != 0 && (ms = l->until - clock_ms()) <= 0)
			return false;
		if (l->watching && watch_over())
			return false;
		if (poll(p, 2, (int)ms) > 0)
			return p[1].revents == 0;
	}
}

/* More of a request; whether there was. */
static bool request_more(struct link *l)
{
	struct pollfd p[2] = {
		{ .fd = l->client, .events = POLLIN },
		{ .fd = l->relay, .events = POLLIN },
	};
	ssize_t n;

	while (poll(p, 2, -1) == -1)
		;
	if (p[0].revents == 0)		/* PORT does not wait for another request */
		return false;
	n = recv(l->client, request + l->filled, sizeof request - l->filled, 0);
	if (n > 0)
		l->filled += (size_t)n;
	return n > 0;
}

/* The next request, whole, into the buffer for it. */
static bool request_read(struct link *l)
{
	const char *length;
	unsigned long body = 0;

	l->filled -= l->size;
	memmove(request, request + l->size, l->filled);
	l->size = 0;
	while ((l->head = head_size(request, l->filled)) == 0)
		if (l->filled > HEAD_MAX || !request_more(l))
			return false;
	if ((length = head_field(request, l->head, "Content-Length")) != NULL)
		body = strtoul(length, NULL, 10);
	if (body > sizeof request - l->head || head_field(request, l->head, "Transfer-Encoding") != NULL) {
		say("a request that is too long, or in chunks");
		return false;
	}
	while (l->filled < l->head + body)
		if (!request_more(l))
			return false;
	l->size = l->head + body;
	return true;
}

/* Whether so much of it went to PORT; not if that answers before. */
static bool request_write(const struct link *l, const char *data, size_t size)
{
	ssize_t n;

	while (size > 0) {
		if (!link_wait(l, true))
			return false;
		n = send(l->relay, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n == -1)
			return false;
		data += n;
		size -= (size_t)n;
	}
	return true;
}

static enum kind fault_take(unsigned kinds);

/* A piece of an answer, and what may go wrong with it; whether there may be more. */
static bool block_pass(struct link *l, const char *data, size_t size)
{
	enum kind kind;

	atomic_fetch_add(&shared->bytes, size);
	if (l->drop)
		return true;
	kind = fault_take(IN_ANSWER);
	if (kind == STALLED)
		sleep_ms((long)random_below(HOLD_MS));
	if (kind != FIN && kind != RST)
		return stream_write(l->client, data, size);
	stream_write(l->client, data, random_below(size));
	link_cut(l, kind == RST);
	return false;
}

static ssize_t answer_read(const struct link *l, char *data, size_t size)
{
	return link_wait(l, false) ? recv(l->relay, data, size, 0) : -1;
}

/* The head of an answer, and what came with it, of which both sizes are set. */
static bool answer_head(const struct link *l, size_t *head, size_t *size)
{
	ssize_t n;

	for (*size = 0; (*head = head_size(answer, *size)) == 0; *size += (size_t)n)
		if (*size == sizeof answer || (n = answer_read(l, answer + *size, sizeof answer - *size)) <= 0)
			return false;
	return true;
}

/* The size of the body that an answer has, or -1: up to the end. */
static long answer_length(size_t head)
{
	const char *length = head_field(answer, head, "Content-Length");

	if (head > 12 && (memcmp(answer + 9, "204", 3) == 0 || memcmp(answer + 9, "304", 3) == 0))
		return 0;
	return length == NULL ? -1 : strtol(length, NULL, 10);
}

/* Whether all of the answer came, and another may follow it. */
static bool answer_pass(struct link *l)
{
	size_t head, size;
	long left;
	ssize_t n;

	if (!answer_head(l, &head, &size))
		return false;
	left = answer_length(head);
	if (l->head_only)
		stream_write(l->client, answer, head);
	if (l->head_only || !block_pass(l, answer, size))
		return false;
	if (left >= 0)
		left -= (long)(size - head);
	while (left != 0) {
		n = answer_read(l, block, left > 0 && left < BLOCK ? (size_t)left : BLOCK);
		if (n <= 0 || !block_pass(l, block, (size_t)n))
			return false;
		if (left > 0)
			left -= n;
	}
	return !head_last(answer, head);
}

/* What follows CONNECT, both ways, until one end has gone or what is watched for is there. */
static void tunnel_pass(const struct link *l)
{
	struct pollfd p[2] = {
		{ .fd = l->client, .events = POLLIN },
		{ .fd = l->relay, .events = POLLIN },
	};
	ssize_t n;

	while (!watch_over()) {
		if (poll(p, 2, LOOK_MS) <= 0)
			continue;
		for (int i = 0; i < 2; i++) {
			if (p[i].revents == 0)
				continue;
			n = recv(p[i].fd, block, sizeof block, 0);
			if (n <= 0 || !stream_write(p[!i].fd, block, (size_t)n))
				return;
		}
	}
}

/* Forwards the request, and the answer back; whether the connections serve for another. */
static bool request_pass(struct link *l)
{
	size_t head, size;
	bool sent;

	if (l->relay == -1 && (l->relay = relay_connect()) == -1)
		return false;
	sent = request_write(l, request, l->size);
	if (memcmp(request, "CONNECT ", 8) == 0) {
		if (answer_head(l, &head, &size) && stream_write(l->client, answer, size))
			tunnel_pass(l);
		return false;
	}
	return answer_pass(l) && sent && !head_last(request, l->head);
}

/* --- faults ---------------------------------------------------------- */

static void plan_make(void)
{
	enum kind deck[KINDS], kind;
	unsigned long at = 0, other;

	for (unsigned i = 0; i < KINDS; i++)
		deck[i] = (enum kind)i;
	for (unsigned long i = 0; i < faults; i++) {
		if (i % KINDS == 0)
			for (unsigned j = KINDS - 1; j > 0; j--) {
				other = random_below(j + 1);
				kind = deck[j];
				deck[j] = deck[other];
				deck[other] = kind;
			}
		at += every / 2 + random_below(every);
		plan[i].at = at;
		plan[i].kind = deck[i % KINDS];
	}
}

/* Whether this one is now to happen, of these kinds, and as which of them. */
static bool fault_due(unsigned long number, unsigned kinds, unsigned long bytes, enum kind *kind)
{
	unsigned likes;

	*kind = plan[number].kind;
	if (atomic_load(&shared->happened[number]) || bytes < plan[number].at)
		return false;
	if (bytes > plan[number].at + PATIENCE * every) {	/* there may be no chance for its own kind */
		likes = CUTS >> *kind & 1 ? CUTS : ALL - CUTS;
		while (((kinds & likes) >> *kind & 1) == 0)
			*kind = (enum kind)random_below(KINDS);
	}
	return kinds >> *kind & 1;
}

/* The first that is due and of one of these kinds, or NONE. */
static enum kind fault_take(unsigned kinds)
{
	unsigned long bytes = atomic_load(&shared->bytes);
	enum kind kind;

	for (unsigned long i = 0; i < faults && plan[i].at <= bytes; i++) {
		if (!fault_due(i, kinds, bytes, &kind) || atomic_exchange(&shared->happened[i], true))
			continue;
		atomic_fetch_add(&shared->counts[kind], 1);
		say("%lu at %lu: %s, %.*s", i + 1, bytes, names[kind], (int)strcspn(request, "\r\n"), request);
		return kind;
	}
	return NONE;
}

/* Keeps a request in four, in place of another. */
static void kept_put(const struct link *l)
{
	unsigned i = (unsigned)random_below(4 * KEPT_MAX), state;

	if (i >= KEPT_MAX)
		return;
	state = atomic_load(&shared->kept[i].state);
	if (state == USED || !atomic_compare_exchange_strong(&shared->kept[i].state, &state, USED))
		return;
	shared->kept[i].size = l->size;
	memcpy(shared->kept[i].data, request, l->size);
	atomic_store(&shared->kept[i].state, READY);
}

/* The size of an earlier request, now in the buffer earlier; 0 if there is none. */
static size_t kept_get(void)
{
	unsigned state, i = (unsigned)random_below(KEPT_MAX);
	size_t size;

	for (unsigned n = 0; n < KEPT_MAX; n++, i = (i + 1) % KEPT_MAX) {
		state = READY;
		if (!atomic_compare_exchange_strong(&shared->kept[i].state, &state, USED))
			continue;
		size = shared->kept[i].size;
		memcpy(earlier, shared->kept[i].data, size);
		atomic_store(&shared->kept[i].state, READY);
		return size;
	}
	return 0;
}

/* Sends a request on a connection of its own, from a process of its own, which drops the answer. */
static void copy_send(struct link *l, const char *data, size_t size, long wait_ms)
{
	struct link own = { .client = -1, .relay = -1, .drop = true, .until = clock_ms() + COPY_MS };

	if (process_fork() != 0)
		return;
	link_cut(l, false);
	sleep_ms(wait_ms);
	own.relay = relay_connect();
	if (own.relay != -1) {
		request_write(&own, data, size);
		answer_pass(&own);
	}
	exit(0);
}

/* An earlier request; where there is none yet, this one. */
static void replay_send(struct link *l)
{
	size_t size = kept_get();

	if (size == 0)
		memcpy(earlier, request, size = l->size);
	say("replayed: %.*s", (int)strcspn(earlier, "\r\n"), earlier);
	copy_send(l, earlier, size, 0);
}

/* Which faults a request may have. */
static unsigned request_kinds(const struct link *l)
{
	unsigned kinds = ALL - IN_ANSWER;

	if (l->size == l->head)
		kinds &= ~(1U << BODY);
	if (memcmp(request, "GET ", 4) == 0)
		kinds &= ~(1U << AGAIN);
	return kinds;
}

/* Whether the connections serve for another request. */
static bool request_fault(struct link *l, enum kind kind)
{
	size_t size = kind == BODY ? l->head + random_below(l->size - l->head) : l->size;
	bool on;

	if (kind == BEFORE)
		link_cut(l, true);
	if (kind == AFTER || kind == BODY) {
		if (l->relay != -1 || (l->relay = relay_connect()) != -1)
			request_write(l, request, size);
		link_cut(l, random_below(2) == 0);
	}
	if (l->client == -1)
		return false;
	if (kind == HELD)
		sleep_ms((long)random_below(HOLD_MS));
	if (kind == REPLAY)
		replay_send(l);
	if (kind == TWICE) {
		copy_send(l, request, size, (long)random_below(10));
		sleep_ms((long)random_below(10));
	}
	if (kind == LOST) {
		l->drop = true;
		l->until = clock_ms() + LOST_MS;
	}
	on = request_pass(l);
	if (kind == AGAIN)
		copy_send(l, request, size, 0);
	if (kind == LOST)
		link_cut(l, true);
	return on && kind != LOST;
}

static void client_fault(int client)
{
	struct link l = { .client = client, .relay = -1 };
	enum kind kind;
	bool on = true;

	while (on && request_read(&l)) {
		atomic_fetch_add(&shared->requests, 1);
		atomic_fetch_add(&shared->bytes, l.size);
		kind = fault_take(request_kinds(&l));
		on = request_fault(&l, kind);
		kept_put(&l);
	}
	link_cut(&l, false);
	while (wait(NULL) != -1)	/* for the copies, which would end with this process */
		;
}

static void report_faults(void)
{
	unsigned long all = 0, cuts = 0, n;

	for (int i = 0; i < KINDS; i++) {
		n = atomic_load(&shared->counts[i]);
		printf("%s %lu\n", names[i], n);
		all += n;
		if (CUTS >> i & 1)
			cuts += n;
	}
	printf("faults %lu\ncuts %lu\nrequests %lu\n", all, cuts, atomic_load(&shared->requests));
}

/* --- one thing to do with every request ------------------------------ */

static void request_count(void)
{
	unsigned long n = atomic_fetch_add(&shared->requests, 1);

	if (n < TIMES_MAX)
		shared->times[n] = clock_ms();
}

static bool answer_own(const struct link *l)
{
	static const char words[] = "<p>This is not who you think.\n";
	char text[256];
	int n = snprintf(text, sizeof text, "HTTP/1.1 %s Whatever\r\nContent-Type: text/html\r\n"
	    "Content-Length: %zu\r\n\r\n%s", what, sizeof words - 1, words);

	return stream_write(l->client, text, (size_t)n);
}

/* Until the client goes, whatever it sends. */
static void client_ignore(const struct link *l)
{
	while (recv(l->client, block, sizeof block, 0) > 0)
		;
}

/* Whether the connection serves for another request. */
static bool request_treat(struct link *l)
{
	if (strcmp(what, "reset") == 0)
		link_cut(l, true);
	else if (strcmp(what, "silent") == 0)
		client_ignore(l);
	else if (strcmp(what, "cut") == 0) {
		l->head_only = true;
		request_pass(l);
	} else if (strcmp(what, "close") != 0)
		return answer_own(l) && !head_last(request, l->head);
	return false;
}

static void client_count(int client)
{
	struct link l = { .client = client, .relay = -1 };
	bool on = true;

	while (on && request_read(&l)) {
		l.watching = !watch_over();
		if (l.watching) {
			on = request_pass(&l);
			if (!on && strcmp(what, "silent") == 0 && watch_over())
				client_ignore(&l);
		} else {
			request_count();
			on = request_treat(&l);
		}
	}
	link_cut(&l, strcmp(what, "reset") == 0);
}

static int times_order(const void *a, const void *b)
{
	const long *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* The most requests in any so many milliseconds. */
static unsigned long times_most(unsigned long count, long ms)
{
	unsigned long first = 0, most = 0;

	for (unsigned long i = 0; i < count; i++) {
		while (shared->times[i] - shared->times[first] >= ms)
			first++;
		if (i - first + 1 > most)
			most = i - first + 1;
	}
	return most;
}

static void report_count(void)
{
	unsigned long count = atomic_load(&shared->requests), timed = count < TIMES_MAX ? count : TIMES_MAX;

	qsort(shared->times, timed, sizeof *shared->times, times_order);
	printf("requests %lu\nconnections %lu\nsecond %lu\nminute %lu\n", count,
	    atomic_load(&shared->connections), times_most(timed, 1000), times_most(timed, 60000));
}

/* --- delay ----------------------------------------------------------- */

enum { MARKS = 1 << 16, LATE_MAX = 1 << 20, PIECE = 256 << 10 };

/*
 * One direction: bytes between two positions, in a ring, and the time when those up to each mark are to go
 * on. The ring holds what may be under way; when what should have gone is more than LATE_MAX, as whoever
 * is to take it does not, no more is read.
 */
struct way {
	int in, out;
	char *ring;
	size_t size, read, due, written;
	struct { size_t at; int64_t when; } marks[MARKS];
	unsigned first, last;
	bool ended, over;		/* no more comes; and that was passed on */
};

static void way_mark(struct way *w, int64_t when)
{
	w->marks[w->last % MARKS].at = w->read;
	w->marks[w->last++ % MARKS].when = when;
}

static bool way_wants(const struct way *w)
{
	return !w->ended && w->read - w->written < w->size && w->due - w->written < LATE_MAX &&
	    w->last - w->first < MARKS;
}

/* What is due by now; the end follows once its own mark has passed and all bytes have gone. */
static void way_tick(struct way *w, int64_t now)
{
	while (w->first != w->last && w->marks[w->first % MARKS].when <= now)
		w->due = w->marks[w->first++ % MARKS].at;
	if (w->ended && !w->over && w->first == w->last && w->written == w->read) {
		shutdown(w->out, SHUT_WR);
		w->over = true;
	}
}

/* False if the connection broke. */
static bool way_read(struct way *w, int64_t when)
{
	size_t at = w->read % w->size, room = w->size - (w->read - w->written);
	ssize_t n;

	if (room > w->size - at)
		room = w->size - at;
	n = recv(w->in, w->ring + at, room < PIECE ? room : PIECE, MSG_DONTWAIT);
	if (n == -1)
		return errno == EAGAIN || errno == EINTR;
	w->read += (size_t)n;
	w->ended = n == 0;
	way_mark(w, when);
	return true;
}

static bool way_write(struct way *w)
{
	size_t at = w->written % w->size, size = w->due - w->written;
	ssize_t n;

	if (size > w->size - at)
		size = w->size - at;
	n = send(w->out, w->ring + at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n == -1)
		return errno == EAGAIN || errno == EINTR;
	w->written += (size_t)n;
	return true;
}

static void way_open(struct way *w, int in, int out, long ms)
{
	w->in = in;
	w->out = out;
	w->size = (size_t)(ms < 4 ? 4 : ms > 256 ? 256 : ms) << 20;	/* for a GiB/s */
	w->ring = mmap(NULL, w->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (w->ring == MAP_FAILED)
		die("mmap: %s", strerror(errno));
}

/* Until there is something to do for one of both. */
static void ways_wait(struct way w[2], struct pollfd p[2], int64_t now)
{
	int64_t when = now + 1000000, left;
	struct timespec t;

	for (int i = 0; i < 2; i++) {
		p[i] = (struct pollfd){ .fd = w[i].in };
		if (way_wants(&w[i]))
			p[i].events |= POLLIN;
		if (w[!i].due > w[!i].written)
			p[i].events |= POLLOUT;
		if (p[i].events == 0)	/* an end that was seen would be told again and again */
			p[i].fd = -1;
		if (w[i].first != w[i].last && w[i].marks[w[i].first % MARKS].when < when)
			when = w[i].marks[w[i].first % MARKS].when;
	}
	left = when > now ? when - now : 0;
	t.tv_sec = (time_t)(left / 1000000);
	t.tv_nsec = (long)(left % 1000000 * 1000);
	if (ppoll(p, 2, &t, NULL) == -1)
		p[0].revents = p[1].revents = 0;
}

static void client_delay(int client, long ms)
{
	static struct way w[2];
	struct pollfd p[2];
	int relay = relay_connect();
	bool whole = relay != -1;
	int64_t now;

	if (whole) {
		way_open(&w[0], client, relay, ms);
		way_open(&w[1], relay, client, ms);
	}
	while (whole) {
		now = clock_us();
		for (int i = 0; i < 2; i++)
			way_tick(&w[i], now);
		if (w[0].over && w[1].over)
			break;
		ways_wait(w, p, now);
		now = clock_us();
		for (int i = 0; i < 2; i++) {
			if (p[i].revents & (POLLIN | POLLHUP | POLLERR) && way_wants(&w[i]))
				whole = whole && way_read(&w[i], now + ms * 1000);
			if (p[i].revents & (POLLOUT | POLLHUP | POLLERR) && w[!i].due > w[!i].written)
				whole = whole && way_write(&w[!i]);
		}
	}
	stream_close(&relay, !whole);
	stream_close(&client, !whole);
}

/* --- main ------------------------------------------------------------ */

static _Noreturn void usage(void)
{
	fputs("usage: fault -n faults [-e bytes] [-s seed] [-p file] [-t seconds] port\n"
	    "       fault -c what [-w file] [-p file] [-t seconds] [port]\n"
	    "       fault -d ms [-p file] [-t seconds] port\n", stderr);
	exit(2);
}

/* Of an option, with K and M. */
static unsigned long number_parse(const char *word, unsigned long max)
{
	char *end;
	unsigned long n = strtoul(word, &end, 10);

	if (end != word && (*end == 'K' || *end == 'M'))
		n <<= *end++ == 'K' ? 10 : 20;
	if (end == word || *end != '\0' || n > max)
		die("not a number here: %s", word);
	return n;
}

static int listener_open(void)
{
	struct sockaddr_in address = loopback(0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd == -1 || bind(fd, (struct sockaddr *)&address, sizeof address) == -1 || listen(fd, CLIENTS_MAX) == -1)
		die("listener: %s", strerror(errno));
	return fd;
}

/* By rename, so that who waits for the file finds all of it. */
static void listener_tell(int fd, const char *path)
{
	struct sockaddr_in address;
	socklen_t size = sizeof address;
	char draft[1024] = "/dev/stdout";
	FILE *file;

	if (getsockname(fd, (struct sockaddr *)&address, &size) == -1)
		die("no port");
	if (path != NULL)
		snprintf(draft, sizeof draft, "%s.new", path);
	file = path == NULL ? stdout : fopen(draft, "w");
	if (file == NULL || fprintf(file, "%d\n", ntohs(address.sin_port)) < 0 || fflush(file) != 0)
		die("%s: %s", draft, strerror(errno));
	if (path != NULL && (fclose(file) != 0 || rename(draft, path) == -1))
		die("%s: %s", path, strerror(errno));
}

static volatile sig_atomic_t ended;

static void end(int sig)
{
	(void)sig;
	ended = 1;
}

/* The next client, or -1 when it is time to end. SIGTERM comes in nowhere but here. */
static int client_accept(int listener, const sigset_t *open)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	int fd = -1;

	while (!ended && fd == -1) {
		if (ppoll(&p, 1, NULL, open) > 0)
			fd = accept(listener, NULL, NULL);
		if (fd == -1 && errno == EMFILE)
			die("accept: %s", strerror(errno));
	}
	if (fd != -1)
		stream_hurry(fd);
	return fd;
}

static void client_serve(int client, long ms)
{
	random_state += atomic_load(&shared->connections) * 0x9e3779b97f4a7c15U;
	if (ms >= 0)
		client_delay(client, ms);
	else if (what != NULL)
		client_count(client);
	else
		client_fault(client);
}

/* A process for each client. */
static void serve(int listener, long ms)
{
	struct sigaction action = { .sa_handler = end };
	sigset_t term, open;
	int client, clients = 0;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &open);
	sigaction(SIGTERM, &action, NULL);
	while ((client = client_accept(listener, &open)) != -1) {
		while (clients > 0 && waitpid(-1, NULL, WNOHANG) > 0)
			clients--;
		atomic_fetch_add(&shared->connections, 1);
		if (clients == CLIENTS_MAX)
			say("too many clients");
		else if (process_fork() == 0) {
			close(listener);
			signal(SIGTERM, SIG_DFL);
			sigprocmask(SIG_SETMASK, &open, NULL);
			client_serve(client, ms);
			exit(0);
		} else
			clients++;
		close(client);
	}
}

int main(int argc, char **argv)
{
	const char *file = NULL;
	long ms = -1;
	int option, listener;

	while ((option = getopt(argc, argv, "c:d:e:n:p:s:t:w:")) != -1)
		switch (option) {
		case 'c': what = optarg; break;
		case 'd': ms = (long)number_parse(optarg, 10000); break;
		case 'e': every = number_parse(optarg, 1UL << 30); break;
		case 'n': faults = number_parse(optarg, FAULTS_MAX); break;
		case 'p': file = optarg; break;
		case 's': random_state = number_parse(optarg, 1UL << 30) * 0x9e3779b97f4a7c15U + 1; break;
		case 't': limit = (unsigned)number_parse(optarg, 86400); break;
		case 'w': watched = optarg; break;
		default: usage();
		}
	if (argc - optind > 1 || (argc == optind && (what == NULL || watched != NULL || strcmp(what, "cut") == 0)) ||
	    every == 0)
		usage();
	if (argc > optind)
		relay_port = (in_port_t)number_parse(argv[optind], 65535);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	plan_make();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, give_up);
	alarm(limit);
#ifdef __linux__
	prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
	listener = listener_open();
	listener_tell(listener, file);
	serve(listener, ms);
	if (what != NULL)
		report_count();
	else if (ms < 0)
		report_faults();
	return 0;
}
