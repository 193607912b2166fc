/* SPDX-License-Identifier: ISC */

/*
 * fuzz: the parsers of what comes from outside, with input that nobody thought of.
 *
 *	fuzz ITERATIONS		random input from tokens that mean something to them, the same each time
 *	fuzz FILE...		an input that was found before
 *
 * With -DLIBFUZZER there is no main, and libFuzzer brings the input. Its first byte chooses what is tried.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static ssize_t wire_recv(int socket, void *to, size_t size, int flags);

#define main proxytunnel_main
#define recv wire_recv
#include "../proxytunnel.c"
#undef recv
#undef main

enum { INPUT_MAX = 70000, TRIES = 9 };

/* Ends the run with an abort, which a fuzzer takes for a crash, unless what must hold holds. */
#define MUST(holds) ((holds) ? (void)0 : broken(#holds))

static _Noreturn void broken(const char *what)
{
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

/* What a socket would give, and how much of it has come so far: some more whenever that has been taken. */
static struct {
	const char *bytes;
	size_t length, taken, come;
	uint32_t random;
} wire;

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
	char list[32];
	const char *cursor = reply, *line;
	int length;

	while ((line = http_line(&cursor, &length)))
		MUST(length >= 0 && !memchr(line, '\n', (size_t)length));
	cursor = reply;
	while ((line = http_field(&cursor, "Location", &length)))
		MUST(length >= 0 && line + length <= cursor);
	schemes_list(list, sizeof list, reply);
	MUST(strlen(list) < sizeof list);
	schemes_offer(list, "Basic");
	MUST(http_status(reply) < 1000);
}

/* Heads, one behind the other, in segments of any size: each is read to its last byte and no further. */
static void try_heads(const char *bytes, size_t length)
{
	static struct head head;

	head.start = head.length = 0;
	wire.bytes = bytes;
	wire.length = length;
	wire.taken = wire.come = 0;
	wire.random = (uint32_t)length * 2654435761;
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
	char again[HOST_MAX + 1], *fields;
	size_t length = (size_t)snprintf(head, sizeof head, "%s%s", beginning, input);

	opt.accounts = accounts;
	length = http_head_end(head, 0, length);
	head[length] = '\0';
	strcpy(text, head);
	if (head_wrong(text) || !(fields = request_split(text, &request)) || fields_wrong(fields, &request))
		return;
	for (const char *c = head; *c; c++)
		MUST(*c != '\r' || c[1] == '\n');
	for (const char *line = fields; *line != '\r' && *line != '\n'; line = strchr(line, '\n') + 1)
		MUST(line[strcspn(line, " \t:\r\n")] == ':');
	MUST(*request.method && strspn(request.method, token_characters) == strlen(request.method));
	MUST(*request.target && !has_control(request.target) && !strchr(request.target, ' '));
	MUST(!strstr(head, "\n ") && !strstr(head, "\n\t"));
	MUST(lines_count(head, "Host:") <= 1 && lines_count(head, "Transfer-Encoding:") == 0);
	MUST(lines_count(head, "Host:") == 1 || request.is_http10);
	MUST(lines_count(head, "Content-Length:") <= 1);
	MUST(!is_account(fields) || lines_count(head, "Proxy-Authorization:") == 1);
	if (target_parse(&to, request.target))
		return;
	MUST(*to.host && !strpbrk(to.host, " \t%@/[]ABCDEFGHIJKLMNOPQRSTUVWXYZ") && !has_control(to.text));
	strcpy(again, to.host);
	host_plain(again);
	MUST(strcmp(again, to.host) == 0 || to.host[strlen(to.host) - 1] == '.');
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
};

static uint32_t random_next(uint32_t *random, uint32_t below)
{
	*random ^= *random << 13;
	*random ^= *random >> 17;
	*random ^= *random << 5;
	return *random % below;
}

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
