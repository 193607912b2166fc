/* SPDX-License-Identifier: ISC */

/*
 * unit: the parts of proxytunnel that need no peer, by tables of what goes in and what must come out.
 *
 *	unit GROUP	ends with 1, and a line on stderr for each, if something comes out otherwise
 */

#define main proxytunnel_main
#include "../proxytunnel.c"
#undef main

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { TEXT_MAX = 70000, LENGTHS = 201, BYTES = 256 };

static int failures;

/* A line on stderr unless what is promised holds. */
__attribute__((format(printf, 3, 4)))
static void expect(bool holds, int line, const char *format, ...)
{
	va_list words;

	if (holds)
		return;
	failures++;
	fprintf(stderr, "test/unit.c:%d: ", line);
	va_start(words, format);
	vfprintf(stderr, format, words);
	va_end(words);
	fputc('\n', stderr);
}

static bool same(const char *one, const char *other)
{
	return one && other ? strcmp(one, other) == 0 : one == other;
}

/* What has to be changed in place is changed in a copy, which stands until the next. */
static char *writable(const char *text)
{
	static char copied[TEXT_MAX];

	snprintf(copied, sizeof copied, "%s", text);
	return copied;
}

/* --- text ----------------------------------------------------------------------------------------- */

static void number_group(void)
{
	static const struct {
		int line;
		const char *text;
		long low, high, want;
	} cases[] = {
		{ __LINE__, "0", 0, 9, 0 },
		{ __LINE__, "22", 1, 65535, 22 },
		{ __LINE__, "1", 1, 65535, 1 },
		{ __LINE__, "65535", 1, 65535, 65535 },
		{ __LINE__, "0022", 1, 65535, 22 },
		{ __LINE__, "0", 1, 65535, -1 },
		{ __LINE__, "65536", 1, 65535, -1 },
		{ __LINE__, "65558", 1, 65535, -1 },		/* 22, in 16 bits */
		{ __LINE__, "4294967318", 1, 65535, -1 },	/* in 32 */
		{ __LINE__, "18446744073709551638", 1, 65535, -1 },
		{ __LINE__, "99999999999999999999999999999999", 0, 86400, -1 },
		{ __LINE__, "", 0, 9, -1 },
		{ __LINE__, "-1", 0, 9, -1 },
		{ __LINE__, "+1", 0, 9, -1 },
		{ __LINE__, " 1", 0, 9, -1 },
		{ __LINE__, "1 ", 0, 9, -1 },
		{ __LINE__, "22x", 0, 99, -1 },
		{ __LINE__, "x22", 0, 99, -1 },
		{ __LINE__, "0x16", 0, 99, -1 },
		{ __LINE__, "1.5", 0, 99, -1 },
		{ __LINE__, "1e1", 0, 99, -1 },
		{ __LINE__, "\xd9\xa2", 0, 99, -1 },		/* a digit, but not of ASCII */
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		long number = number_parse(cases[i].text, cases[i].low, cases[i].high);

		expect(number == cases[i].want, cases[i].line, "\"%s\" is %ld", cases[i].text, number);
	}
}

#define TEN "1234567890"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define HOST_255 HUNDRED HUNDRED TEN TEN TEN TEN TEN "12345"

/* Where host is NULL, it is refused, and text is a part of the reason. */
static void authority_group(void)
{
	static const struct {
		int line;
		const char *given, *fallback, *host, *port, *text;
	} cases[] = {
		{ __LINE__, "host:22", NULL, "host", "22", "host:22" },
		{ __LINE__, "host:22", "80", "host", "22", "host:22" },
		{ __LINE__, "host", "80", "host", "80", "host:80" },
		{ __LINE__, "host:0022", NULL, "host", "22", "host:22" },
		{ __LINE__, "127.0.0.1:1", NULL, "127.0.0.1", "1", "127.0.0.1:1" },
		{ __LINE__, "h_o-s.t.:65535", NULL, "h_o-s.t.", "65535", "h_o-s.t.:65535" },
		{ __LINE__, HOST_255 ":22", NULL, HOST_255, "22", HOST_255 ":22" },
		{ __LINE__, HOST_255 "6:22", NULL, NULL, NULL, "255 bytes" },
		{ __LINE__, "host", NULL, NULL, NULL, "no port" },
		{ __LINE__, "", NULL, NULL, NULL, "no port" },
		{ __LINE__, "", "80", NULL, NULL, "no host" },
		{ __LINE__, ":22", NULL, NULL, NULL, "no host" },
		{ __LINE__, "host:", NULL, NULL, NULL, "port" },
		{ __LINE__, "host:", "80", NULL, NULL, "port" },
		{ __LINE__, "host:0", NULL, NULL, NULL, "65535" },
		{ __LINE__, "host:65536", NULL, NULL, NULL, "65535" },
		{ __LINE__, "host:22x", NULL, NULL, NULL, "65535" },
		{ __LINE__, "host: 22", NULL, NULL, NULL, "65535" },
		{ __LINE__, "host:-22", NULL, NULL, NULL, "65535" },
		{ __LINE__, "host:ssh", NULL, NULL, NULL, "65535" },
		/* IPv6: the last colon divides */
		{ __LINE__, "2001:db8::1:22", NULL, "2001:db8::1", "22", "[2001:db8::1]:22" },
		{ __LINE__, "[2001:db8::1]:22", NULL, "2001:db8::1", "22", "[2001:db8::1]:22" },
		{ __LINE__, "[2001:db8::1]:22", "80", "2001:db8::1", "22", "[2001:db8::1]:22" },
		{ __LINE__, "[2001:db8::1]", "80", "2001:db8::1", "80", "[2001:db8::1]:80" },
		{ __LINE__, "2001:db8::1", "80", "2001:db8::1", "80", "[2001:db8::1]:80" },
		{ __LINE__, "::1", "80", "::1", "80", "[::1]:80" },
		{ __LINE__, ":::22", NULL, "::", "22", "[::]:22" },
		{ __LINE__, "::ffff:127.0.0.1:22", NULL, "::ffff:127.0.0.1", "22", "[::ffff:127.0.0.1]:22" },
		{ __LINE__, "fe80::1%eth0:22", NULL, "fe80::1%eth0", "22", "[fe80::1%eth0]:22" },
		{ __LINE__, "[fe80::1%eth0]:22", NULL, "fe80::1%eth0", "22", "[fe80::1%eth0]:22" },
		{ __LINE__, "[2001:db8::1]", NULL, NULL, NULL, "no port" },
		{ __LINE__, "[]:22", NULL, NULL, NULL, "no host" },
		{ __LINE__, "[::1:22", NULL, NULL, NULL, "character" },
		{ __LINE__, "::1]:22", NULL, NULL, NULL, "character" },
		{ __LINE__, "[[::1]]:22", NULL, NULL, NULL, "character" },
		{ __LINE__, "[::1]x:22", NULL, NULL, NULL, "character" },
		{ __LINE__, "[::1]22", NULL, NULL, NULL, "no port" },
		{ __LINE__, "[host]:22", NULL, NULL, NULL, "IPv6" },
		{ __LINE__, "[127.0.0.1]:22", NULL, NULL, NULL, "IPv6" },
		{ __LINE__, "a:b:22", NULL, NULL, NULL, "IPv6" },
		{ __LINE__, "2001:db8::1::22", NULL, NULL, NULL, "IPv6" },
		/* what would be read as something else further on */
		{ __LINE__, "ho st:22", NULL, NULL, NULL, "character" },
		{ __LINE__, "host\r\nX: y:22", NULL, NULL, NULL, "character" },
		{ __LINE__, "ho\x01st:22", NULL, NULL, NULL, "character" },
		{ __LINE__, "ho\x7fst:22", NULL, NULL, NULL, "character" },
		{ __LINE__, "user@host:22", NULL, NULL, NULL, "character" },
		{ __LINE__, "host/x:22", NULL, NULL, NULL, "character" },
		{ __LINE__, "host?x:22", NULL, NULL, NULL, "character" },
		{ __LINE__, "host#x:22", NULL, NULL, NULL, "character" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct authority got = { .host = "" };
		const char *wrong = authority_parse(&got, cases[i].given, cases[i].fallback);

		if (!cases[i].host) {
			expect(wrong && strstr(wrong, cases[i].text), cases[i].line, "%s: %s", cases[i].given,
			       wrong ? wrong : "is taken");
			continue;
		}
		expect(!wrong, cases[i].line, "%s: %s", cases[i].given, wrong ? wrong : "");
		expect(same(got.host, cases[i].host) && same(got.port, cases[i].port) && same(got.text, cases[i].text),
		       cases[i].line, "%s: %s, %s, %s", cases[i].given, got.host, got.port, got.text);
	}
}

/* The two words of the command line: nothing divides them, so nothing can be divided wrongly. */
static void words_group(void)
{
	static const struct {
		int line;
		const char *host, *port, *text;
	} cases[] = {
		{ __LINE__, "host", "22", "host:22" },
		{ __LINE__, "2001:db8::1", "22", "[2001:db8::1]:22" },
		{ __LINE__, "[2001:db8::1]", "22", "[2001:db8::1]:22" },
		{ __LINE__, "host:22", "22", NULL },
		{ __LINE__, "", "22", NULL },
		{ __LINE__, "[]", "22", NULL },
		{ __LINE__, "host", "", NULL },
		{ __LINE__, "host", "0", NULL },
		{ __LINE__, "host", "65536", NULL },
		{ __LINE__, "host", "22 ", NULL },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct authority got = { .host = "" };
		const char *wrong = authority_set(&got, cases[i].host, strlen(cases[i].host), cases[i].port);

		expect(!wrong == !!cases[i].text, cases[i].line, "\"%s\" \"%s\": %s", cases[i].host, cases[i].port,
		       wrong ? wrong : "is taken");
		expect(wrong || same(got.text, cases[i].text), cases[i].line, "it is %s", got.text);
	}
}

/* Where text is NULL, it is refused. */
static void proxy_group(void)
{
	static const struct {
		int line;
		const char *url, *text, *user, *password;
	} cases[] = {
		{ __LINE__, "proxy", "proxy:80", NULL, NULL },
		{ __LINE__, "proxy:8080", "proxy:8080", NULL, NULL },
		{ __LINE__, "http://proxy", "proxy:80", NULL, NULL },
		{ __LINE__, "http://proxy/", "proxy:80", NULL, NULL },
		{ __LINE__, "HTTP://proxy:3128/", "proxy:3128", NULL, NULL },
		{ __LINE__, "[::1]", "[::1]:80", NULL, NULL },
		{ __LINE__, "::1", "[::1]:80", NULL, NULL },
		{ __LINE__, "http://[::1]:8080/", "[::1]:8080", NULL, NULL },
		{ __LINE__, "user@proxy", "proxy:80", "user", NULL },
		{ __LINE__, "user:@proxy", "proxy:80", "user", "" },
		{ __LINE__, ":pass@proxy", "proxy:80", "", "pass" },
		{ __LINE__, "user:pass@proxy:8080", "proxy:8080", "user", "pass" },
		{ __LINE__, "http://user:pass@[::1]:8080/", "[::1]:8080", "user", "pass" },
		{ __LINE__, "http://us%65r:p%40s%3as%20%25@proxy", "proxy:80", "user", "p@s:s %" },
		{ __LINE__, "http://us%3Aer:pass@proxy", "proxy:80", "us:er", "pass" },
		{ __LINE__, "http://user:%c3%A4%FF@proxy", "proxy:80", "user", "\xc3\xa4\xff" },
		/* pasted as they are */
		{ __LINE__, "user:p@ss@proxy", "proxy:80", "user", "p@ss" },
		{ __LINE__, "user:pa:ss@proxy", "proxy:80", "user", "pa:ss" },
		{ __LINE__, "http://user:p/a?s#s@proxy:1/", "proxy:1", "user", "p/a?s#s" },
		{ __LINE__, "http://user:http://@proxy", "proxy:80", "user", "http://" },
		{ __LINE__, "", NULL, NULL, NULL },
		{ __LINE__, "http://", NULL, NULL, NULL },
		{ __LINE__, "http://user:pass@", NULL, NULL, NULL },
		{ __LINE__, "http://:8080", NULL, NULL, NULL },
		{ __LINE__, "socks5://proxy", NULL, NULL, NULL },
		{ __LINE__, "ftp://user@proxy", NULL, NULL, NULL },
		{ __LINE__, "http://proxy/path", NULL, NULL, NULL },
		{ __LINE__, "http:/proxy", NULL, NULL, NULL },
		{ __LINE__, "proxy:0", NULL, NULL, NULL },
		{ __LINE__, "proxy:65536", NULL, NULL, NULL },
		{ __LINE__, "proxy:8080x", NULL, NULL, NULL },
		{ __LINE__, "pro\x01xy", NULL, NULL, NULL },
		{ __LINE__, "us\ner@proxy", NULL, NULL, NULL },
		{ __LINE__, "user:pa%zzss@proxy", NULL, NULL, NULL },
		{ __LINE__, "us%er:pass@proxy", NULL, NULL, NULL },
		{ __LINE__, "user:pa%00ss@proxy", NULL, NULL, NULL },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct hop hop = { .url = writable(cases[i].url) };
		const char *wrong = proxy_parse(&hop);
		struct credentials got = hop.userinfo;

		expect(!wrong == !!cases[i].text, cases[i].line, "%s: %s", cases[i].url, wrong ? wrong : "is taken");
		if (!wrong)
			expect(same(hop.at.text, cases[i].text) && same(got.user, cases[i].user) &&
			       same(got.password, cases[i].password), cases[i].line, "%s: %s, %s, %s", cases[i].url,
			       hop.at.text, got.user ? got.user : "-", got.password ? got.password : "-");
	}
}

static void percent_group(void)
{
	static const struct {
		int line;
		const char *text, *want;
	} cases[] = {
		{ __LINE__, "", "" },
		{ __LINE__, "plain+text", "plain+text" },
		{ __LINE__, "%41%62%5a", "AbZ" },
		{ __LINE__, "%c3%A4%fF", "\xc3\xa4\xff" },
		{ __LINE__, "a%20b%25", "a b%" },
		{ __LINE__, "%2541", "%41" },
		{ __LINE__, "\xc3\xa4", "\xc3\xa4" },
		{ __LINE__, "%", NULL },
		{ __LINE__, "%4", NULL },
		{ __LINE__, "a%4g", NULL },
		{ __LINE__, "%g4", NULL },
		{ __LINE__, "%%41", NULL },
		{ __LINE__, "% 41", NULL },
		{ __LINE__, "%\x14" "1", NULL },	/* '4' but for a bit */
		{ __LINE__, "%+1", NULL },
		{ __LINE__, "a%00b", NULL },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		char *text = writable(cases[i].text);
		bool decoded = percent_decode(text);

		expect(decoded == !!cases[i].want, cases[i].line, "%s: %s", cases[i].text, decoded ? text : "is refused");
		expect(!decoded || same(text, cases[i].want), cases[i].line, "%s: %s", cases[i].text, text);
	}
}

static void no_proxy_group(void)
{
	static const struct {
		int line;
		const char *list, *host;
		bool want;
	} cases[] = {
		{ __LINE__, "", "host", false },
		{ __LINE__, ",", "host", false },
		{ __LINE__, " , ,, ", "host", false },
		{ __LINE__, "host", "host", true },
		{ __LINE__, "HOST", "hosT", true },
		{ __LINE__, "hos", "host", false },
		{ __LINE__, "host", "hos", false },
		/* commas or spaces between */
		{ __LINE__, "a,host,b", "host", true },
		{ __LINE__, "a host b", "host", true },
		{ __LINE__, "a , ,host", "host", true },
		{ __LINE__, "a;host", "host", false },
		/* a * only alone */
		{ __LINE__, "*", "host", true },
		{ __LINE__, "*", "::1", true },
		{ __LINE__, "*,a", "host", false },
		{ __LINE__, "a,*", "host", false },
		{ __LINE__, "*.example.org", "www.example.org", false },
		{ __LINE__, "h*t", "host", false },
		/* suffixes, with and without the dot */
		{ __LINE__, "example.org", "www.example.org", true },
		{ __LINE__, ".example.org", "www.example.org", true },
		{ __LINE__, ".example.org", "example.org", true },
		{ __LINE__, "org", "a.b.example.org", true },
		{ __LINE__, "example.org", "notexample.org", false },
		{ __LINE__, ".example.org", "notexample.org", false },
		{ __LINE__, "www.example.org", "example.org", false },
		{ __LINE__, "example", "example.org", false },
		{ __LINE__, ".", "host", false },
		{ __LINE__, "..", "host", false },
		/* a trailing dot */
		{ __LINE__, "example.org.", "www.example.org", true },
		{ __LINE__, "example.org", "www.example.org.", true },
		{ __LINE__, ".example.org.", "example.org.", true },
		/* no ports */
		{ __LINE__, "host:22", "host", false },
		{ __LINE__, "127.0.0.1:22", "127.0.0.1", false },
		/* addresses */
		{ __LINE__, "127.0.0.1", "127.0.0.1", true },
		{ __LINE__, "0.0.1", "127.0.0.1", false },
		{ __LINE__, ".0.0.1", "127.0.0.1", false },
		{ __LINE__, "127.0.0.10", "127.0.0.1", false },
		{ __LINE__, "::1", "0:0:0:0:0:0:0:1", true },
		{ __LINE__, "2001:DB8::1", "2001:db8:0::1", true },
		{ __LINE__, "2001:db8::1", "2001:db8::2", false },
		{ __LINE__, "a,127.0.0.1,b", "127.0.0.1", true },
		/* ranges */
		{ __LINE__, "10.0.0.0/8", "10.255.255.255", true },
		{ __LINE__, "10.0.0.0/8", "11.0.0.0", false },
		{ __LINE__, "10.1.2.3/8", "10.9.9.9", true },
		{ __LINE__, "192.168.0.0/23", "192.168.1.255", true },
		{ __LINE__, "192.168.0.0/23", "192.168.2.0", false },
		{ __LINE__, "192.168.0.128/25", "192.168.0.127", false },
		{ __LINE__, "127.0.0.1/32", "127.0.0.1", true },
		{ __LINE__, "127.0.0.1/32", "127.0.0.2", false },
		{ __LINE__, "127.0.0.1/31", "127.0.0.0", true },
		{ __LINE__, "127.0.0.1/33", "127.0.0.1", false },
		{ __LINE__, "127.0.0.0/8x", "127.0.0.1", false },
		{ __LINE__, "127.0.0.0/", "127.0.0.1", false },
		{ __LINE__, "2001:db8::/32", "2001:db8:ffff::1", true },
		{ __LINE__, "2001:db8::/32", "2001:db9::1", false },
		{ __LINE__, "2001:db8::/33", "2001:db8:7fff::1", true },
		{ __LINE__, "2001:db8::/33", "2001:db8:8000::1", false },
		{ __LINE__, "::1/128", "::1", true },
		{ __LINE__, "::1/129", "::1", false },
		/* each family for itself, and names are not resolved */
		{ __LINE__, "::/8", "0.0.0.1", false },
		{ __LINE__, "0.0.0.0/8", "::1", false },
		{ __LINE__, "127.0.0.0/8", "localhost", false },
		{ __LINE__, "localhost", "127.0.0.1", false },
		/* nothing is cut short to fit */
		{ __LINE__, HOST_255, HOST_255, true },
		{ __LINE__, HOST_255 "." HOST_255, HOST_255, false },
		{ __LINE__, HOST_255 "99", HOST_255, false },
		{ __LINE__, HOST_255 HOST_255 ",host", "host", true },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		bool named = no_proxy_names(cases[i].list, cases[i].host);

		expect(named == cases[i].want, cases[i].line, "\"%s\" %s %s", cases[i].list,
		       named ? "names" : "does not name", cases[i].host);
	}
}

static void escape_group(void)
{
	char text[BYTES], line[4 * BYTES + 1];

	for (size_t i = 0; i < BYTES; i++) {
		char want[5];

		text[0] = (char)i;
		line[escape(line, sizeof line, text, 1)] = '\0';
		snprintf(want, sizeof want, i >= 0x20 && i < 0x7f ? "%c" : "\\x%02x", (unsigned char)i);
		expect(same(line, want), __LINE__, "byte %zu is shown as %s", i, line);
		text[0] = '\x1b';
	}
	memset(text, '\xff', sizeof text);
	expect(escape(line, sizeof line, text, sizeof text) == 4 * sizeof text, __LINE__, "256 bytes take other than 1024");
	expect(escape(line, sizeof line, text, 0) == 0, __LINE__, "nothing is shown as something");
	expect(escape(line, 13, text, sizeof text) == 12, __LINE__, "more is shown than there is room for");
}

__attribute__((format(printf, 2, 3)))
static size_t formatted(char *line, const char *format, ...)
{
	va_list words;

	va_start(words, format);
	size_t length = message_format(line, LINE_SIZE, format, words);
	va_end(words);
	line[length] = '\0';
	return length;
}

static void message_group(void)
{
	static char line[LINE_SIZE + 1], text[3 * MESSAGE_MAX];

	formatted(line, "%s: %d", "what\n", 5);
	expect(same(line, "proxytunnel: what\\x0a: 5\n"), __LINE__, "it is %s", line);
	memset(text, '\n', sizeof text - 1);
	size_t length = formatted(line, "%s", text);
	expect(length < LINE_SIZE, __LINE__, "%zu bytes of a message with room for %d", length, LINE_SIZE);
	expect(length > 4 && same(line + length - 4, "...\n"), __LINE__, "a message cut short does not say so");
	expect(!memchr(line, '\n', length - 1), __LINE__, "it is more than one line");
}

/* --- http ----------------------------------------------------------------------------------------- */

static void head_end_group(void)
{
	static const struct {
		int line;
		const char *bytes;
		size_t from, want;
	} cases[] = {
		{ __LINE__, "", 0, 0 },
		{ __LINE__, "a", 0, 0 },
		{ __LINE__, "a\r\n", 0, 0 },
		{ __LINE__, "a\r\n\r", 0, 0 },
		{ __LINE__, "a\r\n\r\n", 0, 5 },
		{ __LINE__, "a\r\n\r\nb\r\n\r\n", 0, 5 },
		{ __LINE__, "a\n\nb", 0, 3 },
		{ __LINE__, "a\n\r\nb", 0, 4 },
		{ __LINE__, "a\r\n\nb", 0, 4 },
		{ __LINE__, "a\r\nb: c\r\n\r\n", 0, 11 },
		{ __LINE__, "a\n\rb\r\n\r\n", 0, 8 },
		{ __LINE__, "a\r\rb\n\r\r\nc", 0, 0 },
		{ __LINE__, "a\r\n\r\nb\r\n\r\n", 5, 10 },
		{ __LINE__, "a\r\n\r\n", 2, 5 },
		{ __LINE__, "a\r\n\r\n", 3, 0 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t end = http_head_end(cases[i].bytes, cases[i].from, strlen(cases[i].bytes));

		expect(end == cases[i].want, cases[i].line, "it ends at %zu", end);
	}
}

static void status_group(void)
{
	static const struct {
		int line;
		const char *text;
		int want;
	} cases[] = {
		{ __LINE__, "HTTP/1.1 200 OK\r\n", 200 },
		{ __LINE__, "HTTP/1.0 407 Proxy Authentication Required\r\n", 407 },
		{ __LINE__, "HTTP/1.9 200 OK\n", 200 },
		{ __LINE__, "HTTP/1.1 200\r\n", 200 },
		{ __LINE__, "HTTP/1.1 200 \r\n", 200 },
		{ __LINE__, "HTTP/1.1 200\n", 200 },
		{ __LINE__, "HTTP/1.1 000 \r\n", 0 },
		{ __LINE__, "HTTP/1.1 999 200 OK\r\n", 999 },
		{ __LINE__, "HTTP/1.1 20\r\n", -1 },
		{ __LINE__, "HTTP/1.1 2000\r\n", -1 },
		{ __LINE__, "HTTP/1.1 200OK\r\n", -1 },
		{ __LINE__, "HTTP/1.1 200\tOK\r\n", -1 },
		{ __LINE__, "HTTP/1.1  200 OK\r\n", -1 },
		{ __LINE__, "HTTP/1.1\t200 OK\r\n", -1 },
		{ __LINE__, "HTTP/1.1 -20 OK\r\n", -1 },
		{ __LINE__, "HTTP/1.1 2x0 OK\r\n", -1 },
		{ __LINE__, "HTTP/1.10 200 OK\r\n", -1 },
		{ __LINE__, "HTTP/1. 200 OK\r\n", -1 },
		{ __LINE__, "HTTP/2 200 OK\r\n", -1 },
		{ __LINE__, "HTTP/2.0 200 OK\r\n", -1 },
		{ __LINE__, "http/1.1 200 OK\r\n", -1 },
		{ __LINE__, " HTTP/1.1 200 OK\r\n", -1 },
		{ __LINE__, "HTTP/1.1\r\n", -1 },
		{ __LINE__, "HTTP/1.1 \r\n", -1 },
		{ __LINE__, "HTTP/1.\n", -1 },
		{ __LINE__, "HTTP/1.", -1 },
		{ __LINE__, "HTTP/1.1", -1 },
		{ __LINE__, "SSH-2.0-OpenSSH_9.2\r\n", -1 },
		{ __LINE__, "\r\n", -1 },
		{ __LINE__, "", -1 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		int status = http_status(cases[i].text);

		expect(status == cases[i].want, cases[i].line, "it is %d", status);
	}
}

/* All values of a field, each between brackets. */
static void field_group(void)
{
	static const struct {
		int line;
		const char *head, *name, *want;
	} cases[] = {
		{ __LINE__, "HTTP/1.1 200 OK\r\nA: b\r\n\r\n", "A", "[b]" },
		{ __LINE__, "A: b\r\n\r\n", "a", "[b]" },
		{ __LINE__, "a:b\n\n", "A", "[b]" },
		{ __LINE__, "A: \t b c\r\n", "A", "[b c]" },
		{ __LINE__, "A: b", "A", "[b]" },
		{ __LINE__, "A:\r\nB: c\r\n\r\n", "A", "[]" },
		{ __LINE__, "A: \r\nB: c\r\n\r\n", "A", "[]" },
		{ __LINE__, "A:", "A", "[]" },
		{ __LINE__, "A: b: c\r\n\r\n", "A", "[b: c]" },
		{ __LINE__, "A: 1\r\nB: 2\r\na: 3\r\n\r\n", "A", "[1][3]" },
		{ __LINE__, "Ab: c\r\n\r\n", "A", "" },
		{ __LINE__, "A: c\r\n\r\n", "Ab", "" },
		{ __LINE__, "X-A: c\r\n\r\n", "A", "" },
		{ __LINE__, "A : c\r\n\r\n", "A", "" },
		{ __LINE__, " A: c\r\n\r\n", "A", "" },
		{ __LINE__, "A\r\n: c\r\n\r\n", "A", "" },
		{ __LINE__, "B: A: c\r\n\r\n", "A", "" },
		{ __LINE__, "", "A", "" },
		{ __LINE__, "\r\n\r\n", "A", "" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *cursor = cases[i].head, *value;
		char all[64] = "";
		int length;

		while ((value = http_field(&cursor, cases[i].name, &length)))
			snprintf(all + strlen(all), sizeof all - strlen(all), "[%.*s]", length, value);
		expect(same(all, cases[i].want), cases[i].line, "it is %s", all);
	}
}

static void schemes_group(void)
{
	static const struct {
		int line;
		const char *head, *want;
	} cases[] = {
		{ __LINE__, "Proxy-Authenticate: Basic realm=\"a\"\r\n\r\n", "Basic" },
		{ __LINE__, "proxy-authenticate:Negotiate\r\n\r\n", "Negotiate" },
		{ __LINE__, "Proxy-Authenticate: NTLM\r\nProxy-Authenticate: Basic realm=\"a\"\r\n\r\n", "NTLM, Basic" },
		{ __LINE__, "Proxy-Authenticate: NTLM,Negotiate\r\n\r\n", "NTLM, Negotiate" },
		{ __LINE__, "Proxy-Authenticate: , ,\tNTLM ,\r\n\r\n", "NTLM" },
		{ __LINE__, "Proxy-Authenticate: Digest realm=\"a\", nonce=\"b\", Basic realm=\"c\"\r\n\r\n", "Digest, Basic" },
		{ __LINE__, "Proxy-Authenticate: Digest realm = \"a\" , nonce = b, NTLM\r\n\r\n", "Digest, NTLM" },
		{ __LINE__, "Proxy-Authenticate: Basic realm=\"a, NTLM, \\\", Digest\", charset=x\r\n\r\n", "Basic" },
		{ __LINE__, "Proxy-Authenticate: Negotiate YII==, Basic realm=a\r\n\r\n", "Negotiate, Basic" },
		{ __LINE__, "Proxy-Authenticate: Basic realm=\"a\r\nProxy-Authenticate: NTLM\r\n\r\n", "Basic, NTLM" },
		{ __LINE__, "Proxy-Authenticate: Basic realm=\"a\\\r\nProxy-Authenticate: NTLM\r\n\r\n", "Basic, NTLM" },
		{ __LINE__, "Proxy-Authenticate:\r\n\r\n", "" },
		{ __LINE__, "Proxy-Authenticate: =x\r\n\r\n", "" },
		{ __LINE__, "WWW-Authenticate: Basic realm=\"a\"\r\n\r\n", "" },
		/* what does not fit is left out, whole */
		{ __LINE__, "Proxy-Authenticate: Basic, " HUNDRED ", NTLM\r\n\r\n", "Basic, NTLM" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		char list[64];

		schemes_list(list, sizeof list, cases[i].head);
		expect(same(list, cases[i].want), cases[i].line, "it offers %s", list);
	}
}

static void offer_group(void)
{
	expect(schemes_offer("Basic", "Basic"), __LINE__, "Basic alone");
	expect(schemes_offer("NTLM, bASIC, Digest", "Basic"), __LINE__, "Basic among others, in any case");
	expect(schemes_offer("NTLM, Basic", "Basic"), __LINE__, "Basic at the end");
	expect(!schemes_offer("", "Basic"), __LINE__, "nothing");
	expect(!schemes_offer("BasicX, XBasic, Bas", "Basic"), __LINE__, "names like it");
}

/* --- credentials ------------------------------------------------------------------------------------ */

static void wgetrc_group(void)
{
	static const struct {
		int line;
		const char *text, *want;
	} cases[] = {
		{ __LINE__, "proxy_user = joe", "joe" },
		{ __LINE__, "proxy_user=joe", "joe" },
		{ __LINE__, " \tproxy_user\t=\t joe \t", "joe" },
		{ __LINE__, "Proxy_USER = joe", "joe" },
		{ __LINE__, "proxy_user = a b  c ", "a b  c" },
		{ __LINE__, "proxy_user = a = #b", "a = #b" },
		{ __LINE__, "proxy_user =", "" },
		{ __LINE__, "proxy_user =  ", "" },
		{ __LINE__, "proxy_user", NULL },
		{ __LINE__, "proxy_user joe", NULL },
		{ __LINE__, "proxy_username = joe", NULL },
		{ __LINE__, "remproxy_user = joe", NULL },
		{ __LINE__, "#proxy_user = joe", NULL },
		{ __LINE__, "# proxy_user = joe", NULL },
		{ __LINE__, "", NULL },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *value = wgetrc_value(writable(cases[i].text), "proxy_user");

		expect(same(value, cases[i].want), cases[i].line, "it is %s", value ? value : "nothing");
	}
}

/* What is known when each of three sources has added its own, '-' for none. */
static void sources_group(void)
{
	static const struct {
		int line;
		const char *source[3], *want;
	} cases[] = {
		{ __LINE__, { "-:-", "-:-", "-:-" }, "-:-" },
		{ __LINE__, { "a:1", "b:2", "c:3" }, "a:1" },
		{ __LINE__, { "-:-", "b:2", "c:3" }, "b:2" },
		{ __LINE__, { "a:-", "a:2", "a:3" }, "a:2" },
		{ __LINE__, { "a:-", "b:2", "a:3" }, "a:3" },	/* never the password of another user */
		{ __LINE__, { "a:-", "b:2", "c:3" }, "a:-" },
		{ __LINE__, { "a:-", "-:2", "a:3" }, "a:2" },
		{ __LINE__, { "-:1", "b:2", "c:3" }, "b:1" },
		{ __LINE__, { "a:", "a:2", "a:3" }, "a:" },	/* an empty one is one */
		{ __LINE__, { ":1", "b:2", "c:3" }, ":1" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct credentials known = { NULL, NULL };
		char text[3][8], got[16];

		for (int j = 0; j < 3; j++) {
			snprintf(text[j], sizeof text[j], "%s", cases[i].source[j]);
			struct credentials one = credentials_split(text[j]);
			credentials_add(&known, same(one.user, "-") ? NULL : one.user,
			                same(one.password, "-") ? NULL : one.password);
		}
		snprintf(got, sizeof got, "%s:%s", known.user ? known.user : "-", known.password ? known.password : "-");
		expect(same(got, cases[i].want), cases[i].line, "it is %s", got);
	}
}

/* --- net ------------------------------------------------------------------------------------------ */

static int option_of(int socket, int level, int name)
{
	int value = -1;
	socklen_t size = sizeof value;

	return getsockopt(socket, level, name, &value, &size) == 0 ? value : -1;
}

static void socket_group(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct addrinfo one = { .ai_family = AF_INET, .ai_addr = (struct sockaddr *)&address, .ai_addrlen = sizeof address };
	socklen_t size = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	expect(bind(listener, one.ai_addr, size) == 0 && listen(listener, 1) == 0 &&
	       getsockname(listener, one.ai_addr, &size) == 0, __LINE__, "no listener: %s", strerror(errno));
	int fd = net_dial(&one);
	expect(fd != -1, __LINE__, "no connection: %s", strerror(errno));
	expect(option_of(fd, IPPROTO_TCP, TCP_NODELAY) > 0, __LINE__, "TCP_NODELAY is off");
	expect(option_of(fd, SOL_SOCKET, SO_KEEPALIVE) > 0, __LINE__, "SO_KEEPALIVE is off");
	expect((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0, __LINE__, "O_NONBLOCK is on");
	expect((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, __LINE__, "children inherit it");
}

/* --- serving -------------------------------------------------------------------------------------- */

static void host_plain_group(void)
{
	static const struct {
		int line;
		const char *host, *want;
	} cases[] = {
		{ __LINE__, "host.example.org", "host.example.org" },
		{ __LINE__, "HOST.Example.oRG.", "host.example.org" },
		{ __LINE__, "host..", "host." },
		{ __LINE__, ".", "." },
		{ __LINE__, "A", "a" },
		{ __LINE__, "\xc3\x84", "\xc3\x84" },		/* only ASCII has a case here */
		{ __LINE__, "127.0.0.1", "127.0.0.1" },
		{ __LINE__, "127.0.0.1.", "127.0.0.1" },
		{ __LINE__, "127.1", "127.0.0.1" },
		{ __LINE__, "127.0.1", "127.0.0.1" },
		{ __LINE__, "127.1.", "127.0.0.1" },
		{ __LINE__, "0x7f000001", "127.0.0.1" },
		{ __LINE__, "0X7F.0.0.0X1", "127.0.0.1" },
		{ __LINE__, "2130706433", "127.0.0.1" },
		{ __LINE__, "017700000001", "127.0.0.1" },
		{ __LINE__, "0177.0.0.01", "127.0.0.1" },
		{ __LINE__, "010.8.8.8", "8.8.8.8" },
		{ __LINE__, "0", "0.0.0.0" },
		{ __LINE__, "4294967295", "255.255.255.255" },
		{ __LINE__, "1.65536", "1.1.0.0" },
		{ __LINE__, "::1", "::1" },
		{ __LINE__, "0:0::1", "::1" },
		{ __LINE__, "0:0:0:0:0:0:0:1", "::1" },
		{ __LINE__, "2001:DB8:0:0:0::1", "2001:db8::1" },
		{ __LINE__, "::ffff:127.0.0.1", "127.0.0.1" },
		{ __LINE__, "::FFFF:7F00:1", "127.0.0.1" },
		{ __LINE__, "0:0:0:0:0:ffff:10.1.2.3", "10.1.2.3" },
		{ __LINE__, "::fffe:127.0.0.1", "::fffe:7f00:1" },
		{ __LINE__, "1::ffff:127.0.0.1", "1::ffff:7f00:1" },
		/* names, to the name service as to this */
		{ __LINE__, "127.0.0.1.test", "127.0.0.1.test" },
		{ __LINE__, "127.0.0.256", "127.0.0.256" },
		{ __LINE__, "127.0.0.0.1", "127.0.0.0.1" },
		{ __LINE__, "4294967296", "4294967296" },
		{ __LINE__, "0x", "0x" },
		{ __LINE__, "127.0x0.08.1", "127.0x0.08.1" },
		{ __LINE__, "1e3", "1e3" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		char host[HOST_MAX + 1];

		snprintf(host, sizeof host, "%s", cases[i].host);
		host_plain(host);
		expect(same(host, cases[i].want), cases[i].line, "%s becomes %s", cases[i].host, host);
	}
}

static void target_group(void)
{
	static const struct {
		int line;
		const char *target, *text;	/* NULL: refused */
	} cases[] = {
		{ __LINE__, "Host.:022", "host:22" },
		{ __LINE__, "0x7f.1:443", "127.0.0.1:443" },
		{ __LINE__, "[0::1]:443", "[::1]:443" },
		{ __LINE__, "[::ffff:127.0.0.1]:443", "127.0.0.1:443" },
		{ __LINE__, "::1:443", NULL },
		{ __LINE__, "[fe80::1%lo]:443", NULL },
		{ __LINE__, "ho%73t:443", NULL },
		{ __LINE__, "user@host:443", NULL },
		{ __LINE__, "http://host:443", NULL },
		{ __LINE__, "host", NULL },
		{ __LINE__, "host:0", NULL },
		{ __LINE__, "host:99999", NULL },
		{ __LINE__, ":443", NULL },
		{ __LINE__, "[host]:443", NULL },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct authority to = { .text = "-" };
		const char *wrong = target_parse(&to, cases[i].target);

		expect(!wrong == !!cases[i].text, cases[i].line, "%s is %s", cases[i].target, wrong ? wrong : "taken");
		expect(same(to.text, cases[i].text ? cases[i].text : "-"), cases[i].line, "it is %s", to.text);
	}
}

static void pattern_group(void)
{
	static const struct {
		int line;
		const char *pattern, *host, *port;
		enum fit want;
	} cases[] = {
		{ __LINE__, "host:22", "host", "22", FIT_EXACT },
		{ __LINE__, "host:22", "host", "2", FIT_NOT },
		{ __LINE__, "host:22", "host", "222", FIT_NOT },
		{ __LINE__, "host:22", "hos", "22", FIT_NOT },
		{ __LINE__, "host:22", "host.test", "22", FIT_NOT },
		{ __LINE__, "host:22", "xhost", "22", FIT_NOT },
		{ __LINE__, "host:*", "host", "22", FIT_EXACT },	/* it is the host that counts */
		{ __LINE__, "host:[24]2", "host", "42", FIT_EXACT },
		{ __LINE__, "*:443", "host.test", "443", FIT_WILD },
		{ __LINE__, "*:443", "::1", "443", FIT_WILD },
		{ __LINE__, "*:443", "host.test", "4430", FIT_NOT },
		{ __LINE__, "*.test:22", "a.b.test", "22", FIT_WILD },
		{ __LINE__, "*.test:22", ".test", "22", FIT_WILD },
		{ __LINE__, "*.test:22", "test", "22", FIT_NOT },
		{ __LINE__, "*.test:22", "a.testx", "22", FIT_NOT },
		{ __LINE__, "?ost:22", "host", "22", FIT_WILD },
		{ __LINE__, "[gh]ost:22", "host", "22", FIT_WILD },
		{ __LINE__, "[0-9]*:22", "127.0.0.1", "22", FIT_WILD },
		{ __LINE__, "10.0.*:22", "10.0.0.1", "22", FIT_ADDRESS },
		{ __LINE__, "10.0.*:22", "10.1.0.1", "22", FIT_NOT },
		{ __LINE__, "127.0.0.[1-3]:22", "127.0.0.2", "22", FIT_ADDRESS },
		{ __LINE__, "[::1]:22", "::1", "22", FIT_EXACT },
		{ __LINE__, "[fd00::*]:22", "fd00::7", "22", FIT_ADDRESS },
		{ __LINE__, "[*:1]:22", "::1", "22", FIT_WILD },
		{ __LINE__, "::1:22", "::1", "22", FIT_EXACT },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		enum fit fit = pattern_fit(cases[i].pattern, cases[i].host, cases[i].port);

		expect(fit == cases[i].want, cases[i].line, "%s fits %s:%s by %d", cases[i].pattern, cases[i].host, cases[i].port,
		       (int)fit);
	}
}

/* What --allow takes, in any case and order, and the best of all that fit. */
static void allow_group(void)
{
	char *patterns[4];

	opt.allow = patterns;
	expect(allow_fit("host", "22") == FIT_NOT, __LINE__, "no pattern lets something through");
	allow_add("*:22");
	allow_add("10.*:22");
	allow_add("GIT.Example.org:22");
	expect(allow_fit("host", "22") == FIT_WILD, __LINE__, "a wildcard");
	expect(allow_fit("10.1.2.3", "22") == FIT_ADDRESS, __LINE__, "an address, behind a wildcard");
	expect(allow_fit("git.example.org", "22") == FIT_EXACT, __LINE__, "a host, behind a wildcard");
	expect(allow_fit("git.example.org", "23") == FIT_NOT, __LINE__, "another port");
	allow_add("*:*");
	expect(allow_fit("git.example.org", "22") == FIT_EXACT, __LINE__, "a host, before a wildcard");
	opt.allow_count = 0;
}

static void inside_group(void)
{
	static const char *const inside[] = {
		"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.0", "127.255.255.255",
		"169.254.0.0", "169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.255", "192.168.0.0",
		"192.168.255.255", "198.18.0.0", "198.19.255.255", "224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "64:ff9b::", "64:ff9b::ffff:ffff", "64:ff9b:1::", "64:ff9b:1:ffff::", "2002::",
		"2002:ffff::1", "fc00::", "fdff:ffff::1", "fe80::", "fe80::1%lo", "febf::1", "fec0::", "feff::1", "ff00::", "ff02::1",
	};
	static const char *const outside[] = {
		"1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0",
		"198.17.255.255", "198.20.0.0", "223.255.255.255",
		"0:1::", "64:ff9a::1", "64:ff9b:2::", "2001::1", "2001:db8::1", "2003::1", "2a00::1", "fbff::1", "fe00::1", "fe7f::1",
	};

	for (size_t i = 0; i < COUNT(inside); i++)
		expect(is_inside(inside[i]), __LINE__, "%s is outside", inside[i]);
	for (size_t i = 0; i < COUNT(outside); i++)
		expect(!is_inside(outside[i]), __LINE__, "%s is inside", outside[i]);
}

/* Each beginning of a ClientHello may become one, and none with a byte changed to what no ClientHello has there. */
static void hello_group(void)
{
	static const unsigned char hello[HELLO_SIZE] = { 22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3 };
	static const struct {
		size_t at;
		unsigned char bad;
	} cases[] = {
		{ 0, 21 }, { 0, 23 }, { 0, 'S' }, { 0, 0 }, { 0, 0x80 }, { 1, 2 }, { 1, 4 }, { 2, 5 }, { 2, 255 },
		{ 3, 66 }, { 3, 255 }, { 5, 0 }, { 5, 2 }, { 6, 2 }, { 9, 2 }, { 9, 4 }, { 10, 5 },
	};

	for (size_t length = 0; length <= sizeof hello; length++)
		expect(is_hello(hello, length), __LINE__, "%zu bytes are none", length);
	for (size_t i = 0; i < COUNT(cases); i++) {
		unsigned char bytes[HELLO_SIZE];

		memcpy(bytes, hello, sizeof bytes);
		bytes[cases[i].at] = cases[i].bad;
		expect(is_hello(bytes, cases[i].at), __LINE__, "%zu bytes are none", cases[i].at);
		for (size_t length = cases[i].at + 1; length <= sizeof bytes; length++)
			expect(!is_hello(bytes, length), __LINE__, "byte %zu may be %d", cases[i].at, cases[i].bad);
	}
}

static void head_wrong_group(void)
{
	static const char *const right[] = {
		"GET / HTTP/1.1\r\nX: y\tz\r\n\r\n", "\r\nGET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\nX: \xff\n\n", "\r\n\r\n",
	};
	static const char *const wrong[] = {
		"GET /\r HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\r\n\r\n", "\rGET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nX: y\r\n z\r\n\r\n",
		"GET / HTTP/1.1\r\n\tX: y\r\n\r\n", "GET / HTTP/1.1\nX: y\n z\n\n", "\r\n GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nX: \x01\r\n\r\n",
		"GET / HTTP/1.1\r\nX: \x7f\r\n\r\n", "GET /\x1b HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nX: \x0b\r\n\r\n", "GET / HTTP/1.1\r\n\r\n\r",
	};

	for (size_t i = 0; i < COUNT(right); i++)
		expect(!head_wrong(right[i]), __LINE__, "%s has %s", right[i], head_wrong(right[i]));
	for (size_t i = 0; i < COUNT(wrong); i++)
		expect(head_wrong(wrong[i]) != NULL, __LINE__, "%s has nothing", wrong[i]);
}

static void request_group(void)
{
	static const struct {
		int line;
		const char *head, *method, *target;	/* NULL: it is none */
		bool is_http10;
		const char *fields;
	} cases[] = {
		{ __LINE__, "CONNECT host:22 HTTP/1.1\r\nHost: host:22\r\n\r\n", "CONNECT", "host:22", false, "Host: host:22\r\n\r\n" },
		{ __LINE__, "CONNECT host:22 HTTP/1.0\r\n\r\n", "CONNECT", "host:22", true, "\r\n" },
		{ __LINE__, "GET / HTTP/1.1\n\n", "GET", "/", false, "\n" },
		{ __LINE__, "\r\nGET / HTTP/1.1\r\n\r\n", "GET", "/", false, "\r\n" },
		{ __LINE__, "\nGET / HTTP/1.1\r\n\r\n", "GET", "/", false, "\r\n" },
		{ __LINE__, "a!#$%&'*+-.^_`|~9 * HTTP/1.1\r\n\r\n", "a!#$%&'*+-.^_`|~9", "*", false, "\r\n" },
		{ __LINE__, "GET /\xff\" HTTP/1.1\r\n\r\n", "GET", "/\xff\"", false, "\r\n" },
		{ __LINE__, "\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "\n\nGET / HTTP/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET \r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET /\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET / \r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET HTTP/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET  HTTP/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, " GET / HTTP/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET  / HTTP/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET /  HTTP/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET / HTTP/1.1 \r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET / x HTTP/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET\t/\tHTTP/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET /\tx HTTP/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET / http/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET / HTTP/1.10\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "GET / HTTP/2.0\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "G(T / HTTP/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "G\xc3\x89T / HTTP/1.1\r\n\r\n", NULL, NULL, false, NULL },
		{ __LINE__, "SSH-2.0-x\r\n\r\n", NULL, NULL, false, NULL },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct request got = { NULL, NULL, false };
		const char *fields = request_split(writable(cases[i].head), &got);

		expect(same(fields, cases[i].fields), cases[i].line, "behind it stands %s", fields ? fields : "nothing");
		if (fields)
			expect(same(got.method, cases[i].method) && same(got.target, cases[i].target) &&
			       got.is_http10 == cases[i].is_http10, cases[i].line, "it is %s of %s", got.method, got.target);
	}
}

/* Where part is NULL, they are right; else it is a part of what is wrong with them. */
static void fields_group(void)
{
	static const struct {
		int line;
		const char *method, *fields, *part;
		bool is_http10;
	} cases[] = {
		{ __LINE__, "CONNECT", "Host: a:1\r\n\r\n", NULL, false },
		{ __LINE__, "CONNECT", "\r\n", NULL, true },
		{ __LINE__, "CONNECT", "\r\n", "no Host", false },
		{ __LINE__, "CONNECT", "Hosts: a\r\nXHost: a\r\n\r\n", "no Host", false },
		{ __LINE__, "CONNECT", "Host:\r\n\r\n", NULL, false },
		{ __LINE__, "CONNECT", "Host: [::1]:22 \t\r\n\r\n", NULL, false },
		{ __LINE__, "CONNECT", "Host: a\r\nhost: a\r\n\r\n", "more than one Host", false },
		{ __LINE__, "CONNECT", "Host: a\r\nhost: a\r\n\r\n", "more than one Host", true },
		{ __LINE__, "CONNECT", "Host: a b\r\n\r\n", "Host", false },
		{ __LINE__, "CONNECT", "Host: a,b\r\n\r\n", "Host", false },
		{ __LINE__, "CONNECT", "Host: user@a\r\n\r\n", "Host", false },
		{ __LINE__, "CONNECT", "Host: a/\r\n\r\n", "Host", true },
		{ __LINE__, "CONNECT", "Host: a\r\nX\r\n\r\n", "Name: value", false },
		{ __LINE__, "CONNECT", "Host: a\r\n: y\r\n\r\n", "Name: value", false },
		{ __LINE__, "CONNECT", "Host : a\r\n\r\n", "Name: value", false },
		{ __LINE__, "CONNECT", "Host: a\r\nX Y: z\r\n\r\n", "Name: value", false },
		{ __LINE__, "CONNECT", "Host: a\r\nX\xff: z\r\n\r\n", "Name: value", false },
		{ __LINE__, "CONNECT", "Host: a\r\nX:y\r\nZ:\r\n\r\n", NULL, false },
		{ __LINE__, "CONNECT", "Host: a\r\nContent-Length: 0\r\n\r\n", NULL, false },
		{ __LINE__, "CONNECT", "Host: a\r\nContent-Length: 000\r\n\r\n", NULL, false },
		{ __LINE__, "CONNECT", "Host: a\r\nContent-Length: 1\r\n\r\n", "body", false },
		{ __LINE__, "CONNECT", "Host: a\r\nContent-Length: 10\r\n\r\n", "body", false },
		{ __LINE__, "POST", "Host: a\r\nContent-Length: 10\r\n\r\n", NULL, false },
		{ __LINE__, "POST", "Host: a\r\nContent-Length:\r\n\r\n", "no number", false },
		{ __LINE__, "POST", "Host: a\r\nContent-Length: -1\r\n\r\n", "no number", false },
		{ __LINE__, "POST", "Host: a\r\nContent-Length: 1x\r\n\r\n", "no number", false },
		{ __LINE__, "POST", "Host: a\r\nContent-Length: 1, 1\r\n\r\n", "no number", false },
		{ __LINE__, "POST", "Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "more than one", false },
		{ __LINE__, "POST", "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding", false },
		{ __LINE__, "POST", "Host: a\r\ntransfer-encoding: identity\r\n\r\n", "Transfer-Encoding", false },
		{ __LINE__, "POST", "Host: a\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n", "both", false },
		{ __LINE__, "POST", "Host: a\r\nContent-Length: x\r\nTransfer-Encoding: x\r\n\r\n", "both", false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct request request = { cases[i].method, "a:1", cases[i].is_http10 };
		const char *wrong = fields_wrong(cases[i].fields, &request);

		if (cases[i].part)
			expect(wrong && strstr(wrong, cases[i].part), cases[i].line, "%s", wrong ? wrong : "they are right");
		else
			expect(!wrong, cases[i].line, "%s", wrong);
	}
}

static void secret_group(void)
{
	static const char *const secrets[] = { "", "a", "b", "A", "aa", "ab", "ba", "aaa", "abab", "a\xff", "joe:secret", "joe:secreu", "joe:secret " };

	for (size_t i = 0; i < COUNT(secrets); i++)
		for (size_t j = 0; j < COUNT(secrets); j++)
			expect(secret_equal(secrets[i], secrets[j]) == (i == j), __LINE__, "\"%s\" and \"%s\"", secrets[i], secrets[j]);
}

static bool is_let_in(const char *scheme, const char *plain, size_t length)
{
	char coded[BASE64_SIZE(256)], fields[512];

	base64_encode(coded, plain, length);
	snprintf(fields, sizeof fields, "Host: a\r\nProxy-Authorization: %s%s\r\n\r\n", scheme, coded);
	return is_account(fields);
}

static void account_group(void)
{
	static char accounts[] = "joe:secret\0ann:\0:x\0zoe:a:b \xff\0";
	static const char *const others[] = { "", ":", "joe", "joe:", "joe:secre", "joe:secrets", "Joe:secret", "ann:secret", "ann", "joe:secret\n" };

	opt.accounts = accounts;
	for (const char *account = accounts; *account; account += strlen(account) + 1) {
		expect(is_let_in("Basic ", account, strlen(account)), __LINE__, "%s is not let in", account);
		expect(is_let_in("bASIC   ", account, strlen(account)), __LINE__, "%s is not, in another case", account);
		expect(!is_let_in("Basic ", account, strlen(account) + 1), __LINE__, "%s is, with a NUL behind", account);
		expect(!is_let_in("Basic", account, strlen(account)), __LINE__, "%s is, without a space", account);
		expect(!is_let_in("Digest ", account, strlen(account)), __LINE__, "%s is, by another scheme", account);
	}
	for (size_t i = 0; i < COUNT(others); i++)
		expect(!is_let_in("Basic ", others[i], strlen(others[i])), __LINE__, "%s is let in", others[i]);
	expect(!is_account("Host: a\r\n\r\n"), __LINE__, "nobody is let in");
	expect(!is_account("Authorization: Basic am9lOnNlY3JldA==\r\n\r\n"), __LINE__, "who speaks to another server is");
	expect(!is_account("Proxy-Authorization: Basic am9lOnNlY3JldA==\r\nProxy-Authorization: Basic am9lOnNlY3JldA==\r\n\r\n"), __LINE__,
	       "who says it twice is");
	expect(!is_account("Proxy-Authorization: Basic\r\n\r\n"), __LINE__, "a scheme alone is");
	expect(!is_account("Proxy-Authorization: Basic    \r\n\r\n"), __LINE__, "a scheme and spaces are");
	expect(!is_account("Proxy-Authorization: Basic am9lOnNlY3JldA\r\n\r\n"), __LINE__, "what is not base64 is");
	opt.accounts = NULL;
}

/* --- base64 --------------------------------------------------------------------------------------- */

static void vectors_group(void)
{
	static const struct {
		const char *plain, *coded;
	} vectors[] = {	/* RFC 4648 section 10 */
		{ "", "" },
		{ "f", "Zg==" },
		{ "fo", "Zm8=" },
		{ "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" },
		{ "foobar", "Zm9vYmFy" },
		{ "\xfb\xff\xfe", "+//+" },
	};

	for (size_t i = 0; i < COUNT(vectors); i++) {
		size_t length = strlen(vectors[i].plain);
		char coded[16], plain[16];

		base64_encode(coded, vectors[i].plain, length);
		expect(same(coded, vectors[i].coded), __LINE__, "%s becomes %s", vectors[i].plain, coded);
		expect(strlen(coded) + 1 == BASE64_SIZE(length), __LINE__, "BASE64_SIZE(%zu)", length);
		expect(base64_decode(plain, vectors[i].coded, strlen(vectors[i].coded)) == (long)length &&
		       memcmp(plain, vectors[i].plain, length) == 0, __LINE__, "%s does not come back", vectors[i].coded);
	}
}

/* There and back, without a byte touched beyond what the header promises. */
static void round_trip(const unsigned char *data, size_t length)
{
	char coded[BASE64_SIZE(BYTES) + 1];
	unsigned char plain[BYTES + 4];
	size_t size = BASE64_SIZE(length), room = (size - 1) / 4 * 3;

	memset(coded, '~', sizeof coded);
	memset(plain, 0xa5, sizeof plain);
	base64_encode(coded, data, length);
	expect(strlen(coded) == size - 1 && coded[size] == '~', __LINE__, "%zu bytes become %zu", length, strlen(coded));
	expect(strspn(coded, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") == size - 1,
	       __LINE__, "not the alphabet: %s", coded);
	expect(base64_decode(plain, coded, size - 1) == (long)length, __LINE__, "%s is refused", coded);
	expect(memcmp(plain, data, length) == 0, __LINE__, "%s is something else", coded);
	expect(plain[room] == 0xa5, __LINE__, "decode writes beyond %zu bytes", room);
}

static void round_trip_group(void)
{
	unsigned char data[BYTES];
	uint32_t random = 1;

	for (size_t i = 0; i < BYTES; i++)
		data[i] = (unsigned char)i;
	round_trip(data, BYTES);
	for (size_t i = 0; i < BYTES; i++)
		round_trip(data + i, 1);
	for (size_t length = 0; length < LENGTHS; length++) {
		for (size_t i = 0; i < length; i++)
			data[i] = (unsigned char)((random = random * 1664525 + 1013904223) >> 24);
		round_trip(data, length);
	}
}

static void not_base64_group(void)
{
	static const struct {
		int line;
		const char *text;
		size_t length;
	} cases[] = {
		{ __LINE__, "Z", 1 },
		{ __LINE__, "Zg", 2 },
		{ __LINE__, "Zg=", 3 },
		{ __LINE__, "Zm9vY", 5 },
		{ __LINE__, "Zm9v=", 5 },
		{ __LINE__, "Zm9vYWJj", 5 },		/* it is the length that counts, not what follows */
		{ __LINE__, "Zm9vYWJj", 6 },
		{ __LINE__, "Zm9vYWJj", 7 },
		{ __LINE__, "====", 4 },
		{ __LINE__, "Z===", 4 },
		{ __LINE__, "=Zg=", 4 },
		{ __LINE__, "Zg=v", 4 },
		{ __LINE__, "Zg==Zg==", 8 },
		{ __LINE__, "Zm8=Zm9v", 8 },
		{ __LINE__, "Zm9v====", 8 },
		{ __LINE__, "Zh==", 4 },		/* bits left over */
		{ __LINE__, "Zm9=", 4 },
		{ __LINE__, "Zm9v\r\n", 6 },
		{ __LINE__, "Zm9vZm9\n", 8 },
		{ __LINE__, " Zm9vZm9", 8 },
		{ __LINE__, "Zm9 ", 4 },
		{ __LINE__, "Zm-_", 4 },		/* of base64url */
		{ __LINE__, "Zm9\0", 4 },
		{ __LINE__, "\0\0\0\0", 4 },
		{ __LINE__, "Zm9\xff", 4 },
		{ __LINE__, "Zm9*", 4 },
	};
	char data[16];

	for (size_t i = 0; i < COUNT(cases); i++)
		expect(base64_decode(data, cases[i].text, cases[i].length) == -1, cases[i].line, "%s is taken", cases[i].text);
	for (int i = 1; i < BYTES; i++) {
		char text[4] = { 'A', (char)i, 'A', 'A' };
		bool digit = (i >= '0' && i <= '9') || (i >= 'A' && i <= 'Z') || (i >= 'a' && i <= 'z') || i == '+' || i == '/';

		expect((base64_decode(data, text, 4) == 3) == digit, __LINE__, "byte %d is %s", i, digit ? "refused" : "taken");
	}
}

/* --- main ----------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*run)(void);
} groups[] = {
	{ "number", number_group },		{ "authority", authority_group },
	{ "words", words_group },		{ "proxy", proxy_group },
	{ "percent", percent_group },		{ "no_proxy", no_proxy_group },
	{ "escape", escape_group },		{ "message", message_group },
	{ "head_end", head_end_group },		{ "status", status_group },
	{ "field", field_group },		{ "schemes", schemes_group },
	{ "offer", offer_group },		{ "wgetrc", wgetrc_group },
	{ "sources", sources_group },		{ "socket", socket_group },
	{ "host_plain", host_plain_group },	{ "target", target_group },
	{ "pattern", pattern_group },		{ "allow", allow_group },
	{ "inside", inside_group },		{ "hello", hello_group },
	{ "head_wrong", head_wrong_group },	{ "request", request_group },
	{ "fields", fields_group },		{ "secret", secret_group },
	{ "account", account_group },		{ "vectors", vectors_group },		{ "round_trip", round_trip_group },
	{ "not_base64", not_base64_group },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < COUNT(groups); i++)
		if (argc == 2 && same(argv[1], groups[i].name)) {
			groups[i].run();
			return failures > 0;
		}
	fprintf(stderr, "usage: unit GROUP, which is one of");
	for (size_t i = 0; i < COUNT(groups); i++)
		fprintf(stderr, " %s", groups[i].name);
	fputc('\n', stderr);
	return 2;
}
