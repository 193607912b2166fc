/* SPDX-License-Identifier: ISC */

/*
 * fuzz: the parsers of what comes from outside, with input that nobody thought of.
 *
 *	fuzz ITERATIONS		random input from tokens that mean something to them, the same each time
 *	fuzz FILE...		an input that was found before
 *
 * With -DLIBFUZZER there is no main, and libFuzzer brings the input. Its first byte chooses what is tried.
 */

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { WIRE = 1000 };		/* a descriptor that is none */

static ssize_t wire_recv(int socket, void *to, size_t size, int flags);
static ssize_t wire_send(int socket, const void *from, size_t size, int flags);
static int wire_poll(struct pollfd *set, nfds_t count, int ms);

#define main proxytunnel_main
#define recv wire_recv
#define send(socket, from, size, flags) wire_send(socket, from, size, flags)
#define poll(set, count, ms) wire_poll(set, count, ms)
#include "../proxytunnel.c"
#undef recv
#undef send
#undef poll
#undef main

enum { INPUT_MAX = 70000, TRIES = 16 };

/* Ends the run with an abort, which a fuzzer takes for a crash, unless what must hold holds. */
#define MUST(holds) ((holds) ? (void)0 : broken(#holds))

static _Noreturn void broken(const char *what)
{
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

/* Of a session. */
#define ID "0123456789abcdef0123456789abcdef"

/* What a socket would give, and how much of it has come so far: some more whenever that has been taken. */
static struct {
	const char *bytes;
	size_t length, taken, come;
	uint32_t random;
	char data[20 * INPUT_MAX];	/* what was sent */
	size_t sent;
} wire;

static ssize_t wire_send(int socket, const void *from, size_t size, int flags)
{
	(void)socket, (void)flags;
	memcpy(wire.data + wire.sent, from, size);
	wire.sent += size;
	return (ssize_t)size;
}

static int wire_poll(struct pollfd *set, nfds_t count, int ms)
{
	(void)ms;
	for (nfds_t i = 0; i < count; i++)
		set[i].revents = set[i].fd == WIRE ? set[i].events : 0;
	return 1;
}

static ssize_t wire_recv(int socket, void *to, size_t size, int flags)
{
	(void)socket;
	if (wire.taken == wire.come || wire.random % 16 == 0) {
		wire.random = wire.random * 1664525 + 1013904223;
		wire.come += 1 + (wire.random >> 8) % (wire.random >> 30 ? 4 : 4096);
	}
	if (wire.come > wire.length)
		wire.come = wire.length;
	size_t there = wire.come - wire.taken;
	if (there > size)
		there = size;
	memcpy(to, wire.bytes + wire.taken, there);
	if (!(flags & MSG_PEEK))
		wire.taken += there;
	return (ssize_t)there;
}

static uint32_t random_next(uint32_t *random, uint32_t below)
{
	*random ^= *random << 13;
	*random ^= *random >> 17;
	*random ^= *random << 5;
	return *random % below;
}

/* What differs from one input to another, and not from one run to another; never 0. */
static uint32_t random_of(const char *bytes, size_t length)
{
	uint32_t random = (uint32_t)length | 1;

	for (size_t i = 0; i < length; i++)
		random = random * 16777619 ^ (unsigned char)bytes[i];
	return random ? random : 1;
}

static void wire_begin(const char *bytes, size_t length)
{
	wire.bytes = bytes;
	wire.length = length;
	wire.taken = wire.come = 0;
	wire.random = (uint32_t)length * 2654435761;
}

/* The offset behind the first blank line, found the slow way; 0 if there is none. */
static size_t blank_line(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		for (size_t j = i + 1; bytes[i] == '\n' && j < length && j < i + 3; j++) {
			if (bytes[j] == '\n')
				return j + 1;
			if (bytes[j] != '\r')
				break;
		}
	return 0;
}

/* What the program does with a reply. */
static void reply_use(const char *reply)
{
	char list[SCHEMES_SIZE];
	const char *cursor = reply, *line;
	int length;

	while ((line = http_line(&cursor, &length)))
		MUST(length >= 0 && !memchr(line, '\n', (size_t)length));
	cursor = reply;
	while ((line = http_field(&cursor, "Location", &length)))
		MUST(length >= 0 && line + length <= cursor);
	schemes_list(list, reply);
	MUST(strlen(list) < sizeof list);
	MUST(http_status(reply) < 1000);
}

/* Heads, one behind the other, in segments of any size: each is read to its last byte and no further. */
static void try_heads(const char *bytes, size_t length)
{
	static struct head head;

	head.start = head.length = 0;
	wire_begin(bytes, length);
	while (true) {
		size_t before = wire.taken;
		enum head_result result = http_read_head(0, &head, "HTTP/1.");

		MUST(head.length <= HEAD_MAX && head.start <= head.length);
		if (result != HEAD_WHOLE)
			break;
		MUST(head.length - head.start == blank_line(bytes + before, length - before));
		MUST(wire.taken - before == head.length - head.start);
		MUST(memcmp(head.bytes + head.start, bytes + before, head.length - head.start) == 0);
		MUST(strlen(head.bytes) == head.length);
		reply_use(head.bytes + head.start);
	}
}

static void try_text(char *text)
{
	struct authority to;
	size_t length = strlen(text);
	static char shown[4 * INPUT_MAX + 1];

	if (!authority_parse(&to, text, NULL))
		MUST(*to.host && strlen(to.text) <= strlen(to.host) + strlen(to.port) + 3 && !has_control(to.text));
	authority_parse(&to, text, "80");
	number_parse(text, 0, 65535);
	MUST(escape(shown, sizeof shown, text, length) <= 4 * length);
	if (percent_decode(text))
		MUST(strlen(text) <= length);
}

static void try_proxy(char *text)
{
	struct hop hop = { .url = text };

	if (!proxy_parse(&hop))
		MUST(*hop.at.host && !has_control(hop.at.text));
}

/* The first line is the host. */
static void try_no_proxy(char *text)
{
	char *list = strchr(text, '\n');

	if (!list)
		return;
	*list++ = '\0';
	if (strlen(text) <= HOST_MAX)
		no_proxy_names(list, text);
}

static void try_passfile(char *text)
{
	char *line;

	while ((line = line_take(&text))) {
		const char *value = wgetrc_value(line, "proxy_passwd");

		MUST(!value || strlen(value) <= strlen(line));
		credentials_split(line);
	}
}

/* How many lines begin so, in any case; counted the slow way. */
static int lines_count(const char *head, const char *beginning)
{
	int count = 0;

	for (const char *c = head; *c; c++)
		if (*c == '\n' && strncasecmp(c + 1, beginning, strlen(beginning)) == 0)
			count++;
	return count;
}

/* What a server does with a head, of which the input is all but the beginning: what it takes for a request is one. */
static void try_request(const char *beginning, const char *input)
{
	static char accounts[] = "joe:secret\0", head[INPUT_MAX + 64], text[INPUT_MAX + 64];
	struct authority to = { .text = "-" };
	struct request request;
	char again[HOST_MAX + 1], user[USER_SHOWN + 1];
	size_t length = (size_t)snprintf(head, sizeof head, "%s%s", beginning, input);

	opt.accounts = accounts;
	length = http_head_end(head, 0, length);
	head[length] = '\0';
	strcpy(text, head);
	if (request_parse(&request, text))
		return;
	for (const char *c = head; *c; c++)
		MUST(*c != '\r' || c[1] == '\n');
	for (const char *line = request.fields; *line != '\r' && *line != '\n'; line = strchr(line, '\n') + 1)
		MUST(line[strcspn(line, " \t:\r\n")] == ':');
	MUST(*request.method && strspn(request.method, token_characters) == strlen(request.method));
	MUST(*request.target && !has_control(request.target) && !strchr(request.target, ' '));
	MUST(!strstr(head, "\n ") && !strstr(head, "\n\t"));
	MUST(lines_count(head, "Host:") <= 1);
	MUST(lines_count(head, "Transfer-Encoding:") == 0 || (strcmp(request.method, "CONNECT") != 0 && lines_count(head, "Content-Length:") == 0));
	MUST(lines_count(head, "Host:") == 1 || request.is_http10);
	MUST(lines_count(head, "Content-Length:") <= 1);
	MUST(login_check(request.fields, "Proxy-Authorization", user) == LOGIN_NONE || lines_count(head, "Proxy-Authorization:") == 1);
	if (target_parse(&to, request.target))
		return;
	MUST(*to.host && !strpbrk(to.host, " \t%@/[]ABCDEFGHIJKLMNOPQRSTUVWXYZ") && !has_control(to.text));
	strcpy(again, to.host);
	host_plain(again);
	MUST(strcmp(again, to.host) == 0 || to.host[strlen(to.host) - 1] == '.');
}

/* Whether a target leads to a session of that id: it ends so, or so and with a number, a query aside. */
static bool leads_to(const char *target, const char *id, bool has_offset)
{
	size_t length = strcspn(target, "?#");

	while (has_offset && length > 0 && target[length - 1] >= '0' && target[length - 1] <= '9')
		length--;
	length -= has_offset && length > 0;
	return length > SESSION_WORD && target[length] == (has_offset ? '/' : target[length]) &&
	       strncmp(target + length - SESSION_WORD, id, SESSION_WORD) == 0 && target[length - SESSION_WORD - 1] == '/';
}

/* What holds of every request that a relay takes for one. */
static void relayed_check(const struct request *asked, const char *head)
{
	static const char digits[] = "0123456789abcdef";
	size_t key = strspn(asked->key, digits);
	bool is_put = asked->means == RELAY_PUT, is_get = asked->means == RELAY_GET;

	MUST(strspn(asked->id, digits) == SESSION_WORD && !asked->id[SESSION_WORD] && !asked->key[key]);
	MUST(key == 0 || (key == SESSION_WORD && lines_count(head, "Tunnel-Key:") == 1 && strstr(head, asked->key)));
	MUST(leads_to(asked->target, asked->id, is_put || is_get));
	switch (asked->means) {
	case RELAY_OPEN: MUST(strcmp(asked->method, "POST") == 0); break;
	case RELAY_PUT: MUST(strcmp(asked->method, "PUT") == 0 || strcmp(asked->method, "POST") == 0); break;
	case RELAY_GET: MUST(strcmp(asked->method, "GET") == 0); break;
	case RELAY_DELETE: MUST(strcmp(asked->method, "DELETE") == 0 || strcmp(asked->method, "POST") == 0);
	}
	MUST(((asked->offset | asked->sequence | asked->length) >> 63) == 0);
	MUST(is_get || (asked->sequence == 0 && asked->poll == -1));
	MUST(asked->poll >= -1 && asked->poll <= POLL_MAX);
	MUST(is_put || !asked->end);
	MUST(!asked->keep || !asked->is_http10);
	MUST(!is_get || asked->length == 0);
	MUST(lines_count(head, "Content-Length:") > 0 || asked->length == 0);
}

/* What a relay does with a head, of which the input is all but the beginning. */
static void try_relayed(const char *beginning, const char *input)
{
	static char head[2 * INPUT_MAX + 512];
	struct request asked;
	size_t length = (size_t)snprintf(head, sizeof head, "%s%s\r\n\r\n", beginning, input);

	head[http_head_end(head, 0, length)] = '\0';
	/* A copy of just that size, to be taken apart in place. */
	char *text = strdup(head);
	if (text && !request_parse(&asked, text) && relay_request_parse(&asked))
		relayed_check(&asked, head);
	free(text);
}

/* A request for a session: the first line of the input may be the end of its target, others are what a field says, or one. */
static void try_relayed_lines(char *input)
{
	static const char *const methods[] = { "GET", "POST", "PUT", "DELETE" }, *const bases[] = { "/", "/a/", "http://relay/", "/" ID "/" };
	static const char *const endings[] = { "", "?close", "/5", "/5?end", "/5?1", "/5?1&poll=7" };
	static const char *const names[] = { "", "", "Tunnel-Key: ", "Content-Length: ", "Transfer-Encoding: ", "Connection: ",
	                                     "Expect: ", "Authorization: " };
	static char text[2 * INPUT_MAX];
	uint32_t random = random_of(input, strlen(input));
	const char *line = random_next(&random, 2) ? line_take(&input) : "", *base = bases[random_next(&random, 4)];
	size_t length = (size_t)snprintf(text, sizeof text, "%s %s" ID "%s%s HTTP/1.%u\r\nHost: relay\r\n", methods[random_next(&random, 4)], base,
	                                 endings[random_next(&random, 6)], line ? line : "", random_next(&random, 2));

	while ((line = line_take(&input)) && length + strlen(line) + 64 < sizeof text)
		length += (size_t)sprintf(text + length, "%s%s\r\n", names[random_next(&random, 8)], line);
	try_relayed("", text);
}

/* An exchange whose connection gives these bytes, behind the head of an answer with this field. */
static struct exchange *exchange_begin(const char *field, const char *bytes, size_t length)
{
	static struct exchange exchange;

	memset(&exchange, 0, sizeof exchange);
	exchange.fd = WIRE;
	exchange.method = "GET";
	exchange.status = 200;
	exchange.answer.length = (size_t)snprintf(exchange.answer.bytes, 256, "HTTP/1.1 200 OK\r\n%s\r\n\r\n", field);
	exchange_read_fields(&exchange);
	wire_begin(bytes, length);
	return &exchange;
}

/* Takes a body, up to so many bytes at a time, to body, its length to *found. Returns what exchange_take did in the end. */
static ssize_t body_read(struct exchange *exchange, uint32_t most, char *body, size_t *found)
{
	const char *data;
	ssize_t size;

	*found = 0;
	while ((size = exchange_take(exchange, most, &data)) > 0) {
		MUST((size_t)size <= most && data >= exchange->bytes && data + size <= exchange->bytes + exchange->stop);
		memcpy(body + *found, data, (size_t)size);
		*found += (size_t)size;
	}
	MUST(size == 0 || *exchange->failed);
	return size;
}

/* A body that is sent by chunks of any size, with all that may stand around them; returns its length. */
static size_t body_encode(char *to, const char *data, size_t length, uint32_t *random)
{
	static const char *const extensions[] = { "", "", "", ";a", ";a=b", " ; a=\"5\"", "\t" }, *const ends[] = { "\r\n", "\r\n", "\n" };
	static const char *const trailers[] = { "", "", "A: b\r\n", "A: b\nC: d\r\n" };
	char *at = to;

	while (length > 0) {
		size_t part = 1 + random_next(random, random_next(random, 8) ? 20 : 5000);

		part = part < length ? part : length;
		at += sprintf(at, random_next(random, 2) ? "%zx" : "%05zX", part);
		at += sprintf(at, "%s%s", extensions[random_next(random, 7)], ends[random_next(random, 3)]);
		memcpy(at, data, part);
		at += part;
		at += sprintf(at, "%s", ends[random_next(random, 3)]);
		data += part;
		length -= part;
	}
	at += sprintf(at, "%s%s%s", random_next(random, 2) ? "0" : "000", extensions[random_next(random, 7)], ends[random_next(random, 3)]);
	at += sprintf(at, "%s%s", trailers[random_next(random, 4)], ends[random_next(random, 3)]);
	return (size_t)(at - to);
}

/* What was encoded is decoded, and nothing behind it; and whatever the pieces are, it comes out the same. */
static void try_body(const char *bytes, size_t length)
{
	static char coded[20 * INPUT_MAX], body[INPUT_MAX], again[INPUT_MAX];
	uint32_t random = random_of(bytes, length), most = 1 + random_next(&random, 3000);
	size_t coded_length = body_encode(coded, bytes, length, &random), found, found_again;
	struct exchange *exchange = exchange_begin("Transfer-Encoding: chunked", coded, coded_length);
	char field[64];

	MUST(body_read(exchange, most, body, &found) == 0 && exchange->is_whole);
	MUST(found == length && memcmp(body, bytes, length) == 0);
	exchange = exchange_begin("Transfer-Encoding: chunked", coded, coded_length - 1);
	MUST(body_read(exchange, most, body, &found) == -1 && !exchange->is_whole);

	snprintf(field, sizeof field, "Content-Length: %zu", length);
	exchange = exchange_begin(field, bytes, length);
	MUST(body_read(exchange, most, body, &found) == 0 && exchange->is_whole);
	MUST(found == length && memcmp(body, bytes, length) == 0);
	exchange = exchange_begin("X: y", bytes, length);
	MUST(body_read(exchange, most, body, &found) == 0 && !exchange->is_whole);
	MUST(found == length && memcmp(body, bytes, length) == 0);

	ssize_t end = body_read(exchange_begin("Transfer-Encoding: chunked", bytes, length), INPUT_MAX, body, &found);
	MUST(body_read(exchange_begin("Transfer-Encoding: chunked", bytes, length), 1 + random_next(&random, 8), again, &found_again) == end);
	MUST(found_again == found && memcmp(again, body, found) == 0);
}

/* An answer, of which the input is all but the beginning: what is read of it is right, or it is tried again. */
static void try_answer(const char *beginning, const char *input, size_t input_length)
{
	static char bytes[INPUT_MAX + 64], body[INPUT_MAX + 64];
	size_t length = (size_t)sprintf(bytes, "%s", beginning), found = 0;

	memcpy(bytes + length, input, input_length);
	length += input_length;
	struct exchange *exchange = exchange_begin("X: y", bytes, length);
	bool is_read = exchange_read_head(exchange);
	MUST(exchange->answer.length <= HEAD_MAX && is_read == !*exchange->failed);
	if (!is_read)
		return;
	const char *head = exchange->answer.bytes + exchange->answer.start;
	MUST(http_status(head) == exchange->status && exchange->status >= 0 && exchange->status / 100 != 1);
	MUST(strncmp(head + 9, exchange->reason, strlen(exchange->reason)) == 0 && strlen(exchange->reason) >= 3);
	MUST(!exchange->may_keep || strncmp(head, "HTTP/1.1", 8) == 0);
	MUST(!exchange->is_marked || lines_count(head, "Tunnel-Relay:") > 0);
	MUST(!exchange->is_chunked || lines_count(head, "Transfer-Encoding:") > 0);
	uint64_t left = exchange->is_chunked ? UINT64_MAX : exchange->left;
	MUST(left == 0 || left == UINT64_MAX || lines_count(head, "Content-Length:") == 1);
	body_read(exchange, 100, body, &found);
	MUST(found <= left && found <= length);
}

/* The data in frames, read the slow way; false if they are wrong. */
static bool frames_read(const unsigned char *bytes, size_t length, char *data, size_t *found, char *last)
{
	*found = 0;
	*last = '\0';
	while (length > 0) {
		if (*last)
			return true;
		if (!*bytes || !strchr("ODHBEX", *bytes))
			return false;
		if (length < 4)
			return true;
		size_t payload = bytes[1] * 65536u + bytes[2] * 256u + bytes[3], there = length - 4 < payload ? length - 4 : payload;
		if (*bytes == 'D') {
			memcpy(data + *found, bytes + 4, there);
			*found += there;
		}
		if (there == payload && strchr("BEX", *bytes))
			*last = (char)*bytes;
		bytes += 4 + there;
		length -= 4 + there;
	}
	return true;
}

/* Data in frames of any size, with all that may stand between them; returns the length. */
static size_t frames_write(char *to, const char *data, size_t length, uint32_t *random)
{
	size_t written = 0;

	frame_add_text(to, &written, 'O', "18446744073709551615");
	while (length > 0) {
		size_t part = random_next(random, random_next(random, 8) ? 20 : 5000);

		part = part < length ? part : length;
		frame_add(to, &written, 'D', part);
		memcpy(to + written, data, part);
		written += part;
		data += part;
		length -= part;
		if (random_next(random, 4) == 0)
			frame_add(to, &written, 'H', 0);
	}
	frame_add(to, &written, "BE"[random_next(random, 2)], 0);
	return written;
}

/* Reads the frames of an answer, and what is in them to the wire's other side; returns the type of the last, or what ended them. */
static int frames_take(struct exchange *exchange)
{
	static struct tunnel tunnel;
	int type;

	tunnel.down = 0;
	tunnel.fd = WIRE;
	wire.sent = 0;
	while ((type = frame_read(&tunnel, exchange)) > 0 && !strchr("BEX", type))
		continue;
	MUST(tunnel.down == wire.sent);
	return type;
}

/* What was put in frames is taken out; and what a slow reader finds, too. Each '0' is a NUL, as tokens hold none. */
static void try_frames(char *bytes, size_t length)
{
	static char frames[20 * INPUT_MAX], data[INPUT_MAX];
	uint32_t random = random_of(bytes, length);
	size_t written = frames_write(frames, bytes, length, &random), found;
	char last;

	MUST(frames_take(exchange_begin("X: y", frames, written)) == frames[written - 4]);
	MUST(wire.sent == length && memcmp(wire.data, bytes, length) == 0);

	for (size_t i = 0; i < length; i++)
		bytes[i] = (char)(bytes[i] == '0' ? '\0' : bytes[i]);
	bool right = frames_read((const unsigned char *)bytes, length, data, &found, &last);
	int type = frames_take(exchange_begin("X: y", bytes, length));
	MUST(last ? type == last : right ? type <= 0 : type == -1);
	MUST(wire.sent == found && memcmp(wire.data, data, found) == 0);
}

static void try_base64(const char *text, size_t length)
{
	static char data[INPUT_MAX], again[BASE64_SIZE(INPUT_MAX)];
	long decoded = base64_decode(data, text, length);

	MUST(decoded <= (long)(length / 4 * 3));
	if (decoded == -1)
		return;
	base64_encode(again, data, (size_t)decoded);
	MUST(strlen(again) == length && memcmp(again, text, length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || size > INPUT_MAX)
		return 0;
	/* A copy of just that size: a sanitizer sees a byte read beyond it. */
	char *text = malloc(size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	switch (*data % TRIES) {
	case 0: try_heads(text, size - 1); break;
	case 1: try_text(text); break;
	case 2: try_proxy(text); break;
	case 3: try_no_proxy(text); break;
	case 4: try_passfile(text); break;
	case 5: try_base64(text, size - 1); break;
	case 6: try_request("", text); break;
	case 7: try_request("CONNECT host:22 HTTP/1.1\r\nHost: host\r\n", text); break;
	case 8: try_request("CONNECT ", text); break;
	case 9: try_relayed("", text); break;
	case 10: try_relayed_lines(text); break;
	case 11: try_relayed("PUT /" ID "/5 HTTP/1.1\r\nHost: relay\r\nTunnel-Key: " ID "\r\n", text); break;
	case 12: try_answer("", text, size - 1); break;
	case 13: try_answer("HTTP/1.1 200 OK\r\n", text, size - 1); break;
	case 14: try_body(text, size - 1); break;
	case 15: try_frames(text, size - 1); break;
	}
	free(text);
	return 0;
}

#ifndef LIBFUZZER

static const char *const tokens[] = {
	"HTTP/1.", "HTTP/1.1 200 OK\r\n", "HTTP/1.0 407 \r\n", "1 ", "200", "407", "100 Continue\r\n", "\r\n", "\n", "\r\n\r\n",
	"\r", "Proxy-Authenticate:", "Location: ", "Basic", "NTLM", " realm=\"", "\"", "\\", ",", "=", " ", "\t", ":", "x", "a.b",
	"[", "]", "::1", "2001:db8::1", "127.0.0.1", "/8", "/", "@", "%", "%41", "%zz", "%00", "http://", "host", ".", "*", "22",
	"65535", "65536", "999999999999999999999", "proxy_user", "proxy_passwd", " = ", "#", "Zm9v", "Zg==", "\xff", "\x7f", "\x01",
	"CONNECT host:22 HTTP/1.1\r\nHost: host:22\r\n", "CONNECT ", "GET / HTTP/1.1\r\n", " HTTP/1.0\r\n", "Host: ", "\r\nContent-Length: 0",
	"\nTransfer-Encoding: chunked", "Proxy-Authorization: Basic ", "am9lOnNlY3JldA==", "0x7f.1", "::ffff:127.0.0.1", "A.", " :",
	"PUT /", "POST ", "DELETE ", "GET ", "/" ID, "/" ID "/5", "?1", "&poll=", "?end", "?close", " HTTP/1.1\r\nHost: x\r\n", "\n",
	"Tunnel-Key: " ID, "Connection: close", "Expect: 100-continue", "\r\nContent-Length: ", "\r\nTunnel-Relay: 2",
	"Authorization: Basic am9lOnNlY3JldA==", "9223372036854775807", ID "\n", "5\n", "x, close\n", "100-continue\n", "chunked",
	"Basic am9lOnNlY3JldA==\n", "5\r\nhello\r\n", "0\r\n\r\n", ";a=b",
	"O00\x01" "7", "D00\x05hello", "D00\x1f", "H000", "E000", "B000", "X00\x03" "bad",
};

/* An input of tokens, and now and then of a token that does not end. */
static size_t input_compose(uint8_t *input, uint32_t *random)
{
	size_t length = 1, count = random_next(random, 24);

	*input = (uint8_t)random_next(random, TRIES);
	while (count-- > 0) {
		const char *token = tokens[random_next(random, sizeof tokens / sizeof *tokens)];
		size_t times = random_next(random, 64) == 0 ? random_next(random, 20000) : 1;

		while (times-- > 0 && length + strlen(token) < INPUT_MAX)
			for (const char *c = token; *c; c++)
				input[length++] = (uint8_t)*c;
		if (random_next(random, 32) == 0)
			input[length - 1] = (uint8_t)random_next(random, 256);
	}
	return length;
}

static void file_try(const char *path)
{
	static uint8_t input[INPUT_MAX];
	FILE *file = fopen(path, "r");

	if (!file) {
		perror(path);
		exit(2);
	}
	LLVMFuzzerTestOneInput(input, fread(input, 1, sizeof input, file));
	fclose(file);
}

int main(int argc, char **argv)
{
	static uint8_t input[INPUT_MAX];
	long iterations = argc == 2 ? number_parse(argv[1], 1, 1000000000) : -1;
	uint32_t random = 1;

	for (long i = 0; i < iterations; i++)
		LLVMFuzzerTestOneInput(input, input_compose(input, &random));
	for (int i = 1; i < argc && iterations == -1; i++)
		file_try(argv[i]);
	return 0;
}

#endif
