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
		{ __LINE__, "[::1:22", NULL, NULL, NULL, "cannot stand" },
		{ __LINE__, "::1]:22", NULL, NULL, NULL, "cannot stand" },
		{ __LINE__, "[[::1]]:22", NULL, NULL, NULL, "cannot stand" },
		{ __LINE__, "[::1]x:22", NULL, NULL, NULL, "cannot stand" },
		{ __LINE__, "[::1]22", NULL, NULL, NULL, "no port" },
		{ __LINE__, "[host]:22", NULL, NULL, NULL, "IPv6" },
		{ __LINE__, "[127.0.0.1]:22", NULL, NULL, NULL, "IPv6" },
		{ __LINE__, "a:b:22", NULL, NULL, NULL, "IPv6" },
		{ __LINE__, "2001:db8::1::22", NULL, NULL, NULL, "IPv6" },
		/* what would be read as something else further on */
		{ __LINE__, "ho st:22", NULL, NULL, NULL, "cannot stand" },
		{ __LINE__, "host\r\nX: y:22", NULL, NULL, NULL, "cannot stand" },
		{ __LINE__, "ho\x01st:22", NULL, NULL, NULL, "cannot stand" },
		{ __LINE__, "ho\x7fst:22", NULL, NULL, NULL, "cannot stand" },
		{ __LINE__, "user@host:22", NULL, NULL, NULL, "cannot stand" },
		{ __LINE__, "host/x:22", NULL, NULL, NULL, "cannot stand" },
		{ __LINE__, "host?x:22", NULL, NULL, NULL, "cannot stand" },
		{ __LINE__, "host#x:22", NULL, NULL, NULL, "cannot stand" },
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
		{ __LINE__, "a\t b\thost", "host", true },
		{ __LINE__, "[::1]", "::1", true },
		{ __LINE__, "[fe80::]/10", "fe80::1", true },
		/* a * only alone */
		{ __LINE__, "*", "host", true },
		{ __LINE__, "*", "::1", true },
		{ __LINE__, "*,a", "host", false },
		{ __LINE__, "a,*", "host", false },
		{ __LINE__, "*.example.org", "www.example.org", true },
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
		{ __LINE__, ".example.org.", "example.org", true },
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
		{ __LINE__, "::ffff:10.0.0.1", "10.0.0.1", true },
		{ __LINE__, "::ffff:10.0.0.0/104", "10.1.2.3", true },
		{ __LINE__, "::ffff:10.0.0.0/104", "11.1.2.3", false },
		{ __LINE__, "::ffff:10.0.0.0/95", "10.1.2.3", false },
		{ __LINE__, "127.1,0xa000001", "127.0.0.1", true },
		{ __LINE__, "0xa000001", "10.0.0.1", true },
		{ __LINE__, "[0:0::0:1]", "::1", true },
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

/* Two ends of a stream that do not block. */
static void pair_make(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == -1) {
		perror("socketpair");
		exit(2);
	}
}

static void pair_end(const int ends[2])
{
	close(ends[0]);
	close(ends[1]);
}

/* A 1xx that comes byte by byte is passed over, and the head behind it comes with what is behind that. */
static void head_take_group(void)
{
	static const char first[] = "HTTP/1.1 100 Continue\r\nA: b\r\n\r\n", second[] = "HTTP/1.1 200 OK\r\n\r\n", behind[] = "\r\nbody";
	static struct head head;
	char left[sizeof behind] = "";
	int ends[2];

	pair_make(ends);
	for (size_t i = 0; i < sizeof first - 1; i++) {
		expect(http_take_head(ends[0], &head, true) == HEAD_MORE, __LINE__, "%zu bytes are not awaited", i);
		send(ends[1], first + i, 1, 0);
		expect(http_take_head(ends[0], &head, true) == HEAD_MORE, __LINE__, "after byte %zu it is something else", i);
		expect(head.start == (i == sizeof first - 2 ? i + 1 : 0), __LINE__, "after byte %zu it begins elsewhere", i);
	}
	expect(same(head.bytes, first), __LINE__, "it is %s", head.bytes);
	send(ends[1], second, sizeof second - 1, 0);
	send(ends[1], behind, sizeof behind - 1, 0);
	expect(http_take_head(ends[0], &head, true) == HEAD_WHOLE, __LINE__, "the second is not whole");
	expect(same(head.bytes + head.start, second), __LINE__, "the second is %s", head.bytes + head.start);
	expect(recv(ends[0], left, sizeof left, 0) == sizeof behind - 1 && same(left, behind), __LINE__, "behind it stands %s", left);
	pair_end(ends);
}

/* --- credentials ------------------------------------------------------------------------------------ */

/* --- net ------------------------------------------------------------------------------------------ */

static int option_of(int socket, int level, int name)
{
	int value = -1;
	socklen_t size = sizeof value;

	return getsockopt(socket, level, name, &value, &size) == 0 ? value : -1;
}

static void socket_group(void)
{
	struct addresses one = { .count = 1, .at[0].ipv4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
	struct sockaddr *address = &one.at[0].any;
	socklen_t size = sizeof one.at[0].ipv4;
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	expect(bind(listener, address, size) == 0 && listen(listener, 1) == 0 && getsockname(listener, address, &size) == 0,
	       __LINE__, "no listener: %s", strerror(errno));
	int fd = net_dial(&one);
	expect(fd != -1, __LINE__, "no connection: %s", strerror(errno));
	expect(option_of(fd, IPPROTO_TCP, TCP_NODELAY) > 0, __LINE__, "TCP_NODELAY is off");
	expect(option_of(fd, SOL_SOCKET, SO_KEEPALIVE) > 0, __LINE__, "SO_KEEPALIVE is off");
	expect((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0, __LINE__, "O_NONBLOCK is on");
	expect((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, __LINE__, "children inherit it");
#ifdef TCP_KEEPIDLE
	int value[3] = { 0 };
	const int names[] = { TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT };
	for (int i = 0; i < 3; i++)
		getsockopt(fd, IPPROTO_TCP, names[i], &value[i], &(socklen_t){ sizeof *value });
	expect(value[0] == 60 && value[1] == 15 && value[2] == 4, __LINE__, "keepalive: %d s, %d s, %d times", value[0], value[1], value[2]);
#endif
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
		{ __LINE__, "10.*:22", "10.evil.example", "22", FIT_NOT },	/* which anyone can have */
		{ __LINE__, "127.0.0.[1-3]:22", "127.0.0.2", "22", FIT_ADDRESS },
		{ __LINE__, "[::1]:22", "::1", "22", FIT_EXACT },
		{ __LINE__, "[fd00::*]:22", "fd00::7", "22", FIT_ADDRESS },
		{ __LINE__, "[*:1]:22", "::1", "22", FIT_WILD },
		{ __LINE__, "::1:22", "::1", "22", FIT_EXACT },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct allowed pattern = { .host = "" };

		opt.allow = &pattern;
		opt.allow_count = 0;
		allow_add(cases[i].pattern);
		enum fit fit = allow_fit(cases[i].host, cases[i].port);

		expect(fit == cases[i].want, cases[i].line, "%s fits %s:%s by %d", cases[i].pattern, cases[i].host, cases[i].port,
		       (int)fit);
	}
}

/* What --allow takes, in any case and order, and the best of all that fit. */
static void allow_group(void)
{
	struct allowed patterns[4] = { { .host = "" } };

	opt.allow = patterns;
	opt.allow_count = 0;
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
		"::", "::1", "::127.0.0.1", "64:ff9b::", "64:ff9b::ffff:ffff", "64:ff9b:1::", "64:ff9b:1:ffff::", "2001::",
		"2001:0:ffff::1", "::ffff:0:1.2.3.4", "2002::",
		"2002:ffff::1", "fc00::", "fdff:ffff::1", "fe80::", "fe80::1%lo", "febf::1", "fec0::", "feff::1", "ff00::", "ff02::1",
	};
	static const char *const outside[] = {
		"1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0",
		"198.17.255.255", "198.20.0.0", "223.255.255.255",
		"0:1::", "64:ff9a::1", "64:ff9b:2::", "2001:1::", "2001:db8::1", "2003::1", "2a00::1", "fbff::1", "fe00::1", "fe7f::1",
	};

	for (size_t i = 0; i < COUNT(inside); i++)
		expect(is_inside(inside[i]), __LINE__, "%s is outside", inside[i]);
	for (size_t i = 0; i < COUNT(outside); i++)
		expect(!is_inside(outside[i]), __LINE__, "%s is inside", outside[i]);
}

/* --- relay requests ----------------------------------------------------------------------------------- */

/* --- requests of a relay --------------------------------------------------------------------------- */

#define ID "0123456789abcdef0123456789abcdef"
#define KEY "fedcba9876543210fedcba9876543210"

static void offset_group(void)
{
	static const struct {
		int line;
		const char *text;
		bool is_number;
		uint64_t want;
	} cases[] = {
		{ __LINE__, "0", true, 0 },
		{ __LINE__, "7", true, 7 },
		{ __LINE__, "0000000000000000000000000000007", true, 7 },
		{ __LINE__, "4294967296", true, UINT64_C(4294967296) },
		{ __LINE__, "999999999999999999", true, UINT64_C(999999999999999999) },
		{ __LINE__, "9223372036854775799", true, UINT64_C(9223372036854775799) },
		{ __LINE__, "9223372036854775808", false, 0 },
		{ __LINE__, "9999999999999999999", false, 0 },
		{ __LINE__, "18446744073709551615", false, 0 },
		{ __LINE__, "18446744073709551617", false, 0 },		/* 1, in 64 bits */
		{ __LINE__, "99999999999999999999999999999999", false, 0 },
		{ __LINE__, "", false, 0 },
		{ __LINE__, "-1", false, 0 },
		{ __LINE__, "+1", false, 0 },
		{ __LINE__, " 1", false, 0 },
		{ __LINE__, "1 ", false, 0 },
		{ __LINE__, "1x", false, 0 },
		{ __LINE__, "0x1", false, 0 },
	};
	uint64_t number;

	for (size_t i = 0; i < COUNT(cases); i++) {
		bool is_number = offset_parse(&number, cases[i].text, strlen(cases[i].text));

		expect(is_number == cases[i].is_number, cases[i].line, "%s is %s", cases[i].text, is_number ? "taken" : "refused");
		expect(!is_number || number == cases[i].want, cases[i].line, "it is %" PRIu64, number);
	}
	expect(offset_parse(&number, "123x", 3) && number == 123, __LINE__, "more than its length is looked at");
}

static void lists_group(void)
{
	static const struct {
		int line;
		const char *fields;
		bool want;
	} cases[] = {
		{ __LINE__, "Connection: close\r\n\r\n", true },
		{ __LINE__, "connection:CLOSE\r\n\r\n", true },
		{ __LINE__, "Connection: \t close \t \r\n\r\n", true },
		{ __LINE__, "Connection: close\n\n", true },
		{ __LINE__, "Connection: close", true },
		{ __LINE__, "Connection: Upgrade, close\r\n\r\n", true },
		{ __LINE__, "Connection: Upgrade,close,x\r\n\r\n", true },
		{ __LINE__, "Connection: close , x\r\n\r\n", true },
		{ __LINE__, "Connection: ,, ,close\r\n\r\n", true },
		{ __LINE__, "Connection: x\r\nConnection: close\r\n\r\n", true },
		{ __LINE__, "Connection: x,\r\nConnection: , close\r\n\r\n", true },
		{ __LINE__, "Connection: keep-alive\r\n\r\n", false },
		{ __LINE__, "Connection: clos\r\n\r\n", false },
		{ __LINE__, "Connection: closed\r\n\r\n", false },
		{ __LINE__, "Connection: close-x, x-close\r\n\r\n", false },
		{ __LINE__, "Connection: \"close\"\r\n\r\n", false },
		{ __LINE__, "Connection: x close\r\n\r\n", false },
		{ __LINE__, "Connection:\r\n\r\n", false },
		{ __LINE__, "Connection: ,\r\n\r\n", false },
		{ __LINE__, "Connection: x, \r\nclose: y\r\n\r\n", false },
		{ __LINE__, "X-Connection: close\r\nX: close\r\n\r\n", false },
		{ __LINE__, "\r\nConnection: close\r\n\r\n", false },	/* of a body */
		{ __LINE__, "", false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		bool listed = field_lists(cases[i].fields, "Connection", "close");

		expect(listed == cases[i].want, cases[i].line, "%s", listed ? "it is listed" : "it is not listed");
	}
}

/* What a request of a session wants, in a line. */
static const char *relayed_shown(const struct request *asked)
{
	static const char *const names[] = { [RELAY_OPEN] = "open", [RELAY_PUT] = "put", [RELAY_GET] = "get", [RELAY_DELETE] = "delete" };
	static char shown[256];
	size_t length = (size_t)snprintf(shown, sizeof shown, "%s %s", names[asked->means], asked->id);

	if (asked->means == RELAY_PUT || asked->means == RELAY_GET)
		length += (size_t)snprintf(shown + length, sizeof shown - length, " %" PRIu64, asked->offset);
	if (asked->means == RELAY_GET)
		length += (size_t)snprintf(shown + length, sizeof shown - length, " %" PRIu64, asked->sequence);
	if (asked->poll != -1)
		length += (size_t)snprintf(shown + length, sizeof shown - length, " poll %ld", asked->poll);
	if (asked->end)
		snprintf(shown + length, sizeof shown - length, " end");
	return shown;
}

/* Where it is NULL, it is no request of a relay. */
static void relayed_group(void)
{
	static const struct {
		int line;
		const char *method, *target, *want;
	} cases[] = {
		{ __LINE__, "POST", "/" ID, "open " ID },
		{ __LINE__, "DELETE", "/" ID, "delete " ID },
		{ __LINE__, "POST", "/" ID "?close", "delete " ID },
		{ __LINE__, "PUT", "/" ID "/5", "put " ID " 5" },
		{ __LINE__, "POST", "/" ID "/5", "put " ID " 5" },
		{ __LINE__, "PUT", "/" ID "/0?end", "put " ID " 0 end" },
		{ __LINE__, "POST", "/" ID "/0?end", "put " ID " 0 end" },
		{ __LINE__, "GET", "/" ID "/5?1", "get " ID " 5 1" },
		{ __LINE__, "GET", "/" ID "/0?1&poll=20", "get " ID " 0 1 poll 20" },
		{ __LINE__, "GET", "/" ID "/0?1&poll=0", "get " ID " 0 1 poll 0" },
		{ __LINE__, "GET", "/" ID "/0?1&poll=60", "get " ID " 0 1 poll 60" },
		/* other methods, and those of another form */
		{ __LINE__, "PUT", "/" ID, NULL },
		{ __LINE__, "GET", "/" ID "?1", NULL },
		{ __LINE__, "GET", "/" ID, NULL },
		{ __LINE__, "DELETE", "/" ID "/5", NULL },
		{ __LINE__, "HEAD", "/" ID "/5?1", NULL },
		{ __LINE__, "OPTIONS", "/" ID, NULL },
		{ __LINE__, "PATCH", "/" ID "/5", NULL },
		{ __LINE__, "post", "/" ID, NULL },
		{ __LINE__, "POSTS", "/" ID, NULL },
		{ __LINE__, "POS", "/" ID, NULL },
		/* a base of any form */
		{ __LINE__, "POST", "/a/b/" ID, "open " ID },
		{ __LINE__, "POST", "//" ID, "open " ID },
		{ __LINE__, "POST", "/%2f~@/" ID, "open " ID },
		{ __LINE__, "PUT", "/a/" ID "/5", "put " ID " 5" },
		{ __LINE__, "POST", "/" KEY "/" ID, "open " ID },
		{ __LINE__, "PUT", "/" KEY "/" ID "/5", "put " ID " 5" },
		{ __LINE__, "PUT", "/5/" ID "/7", "put " ID " 7" },
		{ __LINE__, "POST", ID, NULL },
		{ __LINE__, "POST", "a/" ID, NULL },
		{ __LINE__, "POST", "*", NULL },
		/* as a proxy may leave it */
		{ __LINE__, "POST", "http://relay/" ID, "open " ID },
		{ __LINE__, "POST", "http://relay:8080/a/" ID, "open " ID },
		{ __LINE__, "GET", "https://[::1]:8080/" ID "/5?1", "get " ID " 5 1" },
		{ __LINE__, "POST", "http://relay//" ID, "open " ID },
		{ __LINE__, "POST", "http://" ID, NULL },
		{ __LINE__, "PUT", "http://" ID "/5", NULL },
		{ __LINE__, "POST", "http://relay", NULL },
		{ __LINE__, "POST", "http://relay/", NULL },
		{ __LINE__, "POST", "http:///", NULL },
		{ __LINE__, "POST", "http://", NULL },
		{ __LINE__, "POST", "://", NULL },
		{ __LINE__, "POST", "http:/" ID, NULL },
		/* ids of 31 and 33 digits, and what is none */
		{ __LINE__, "POST", "/0123456789abcdef0123456789abcde", NULL },
		{ __LINE__, "POST", "/" ID "0", NULL },
		{ __LINE__, "PUT", "/0123456789abcdef0123456789abcde/5", NULL },
		{ __LINE__, "PUT", "/" ID "0/5", NULL },
		{ __LINE__, "PUT", "/a/0123456789abcdef0123456789abcde/5", NULL },
		{ __LINE__, "POST", "/0123456789ABCDEF0123456789ABCDEF", NULL },
		{ __LINE__, "POST", "/0123456789abcdef0123456789abcdeF", NULL },
		{ __LINE__, "POST", "/0123456789abcdef0123456789abcdeg", NULL },
		{ __LINE__, "POST", "/0123456789abcdef/123456789abcdef", NULL },
		{ __LINE__, "POST", "/0123456789abcdef.123456789abcdef", NULL },
		{ __LINE__, "POST", "/%30123456789abcdef0123456789abcdef", NULL },
		{ __LINE__, "POST", "/" ID "/", NULL },
		{ __LINE__, "POST", "/" ID "/.", NULL },
		{ __LINE__, "POST", "/" ID "/..", NULL },
		{ __LINE__, "POST", "/", NULL },
		{ __LINE__, "POST", "/12345678901234567890123456789012", "open 12345678901234567890123456789012" },
		{ __LINE__, "PUT", "/12345678901234567890123456789012/5", "put 12345678901234567890123456789012 5" },
		{ __LINE__, "POST", "/" KEY "/00000000000000000000000000000005", "open 00000000000000000000000000000005" },
		{ __LINE__, "PUT", "/" KEY "/00000000000000000000000000000005/7", "put 00000000000000000000000000000005 7" },
		{ __LINE__, "PUT", "/" ID "/0000000000000000000000000000005", "put " ID " 5" },
		{ __LINE__, "PUT", "/" ID "/00000000000000000000000000000005", NULL },
		{ __LINE__, "PUT", "/5", NULL },
		{ __LINE__, "PUT", "/5/5", NULL },
		/* offsets */
		{ __LINE__, "PUT", "/" ID "/0005", "put " ID " 5" },
		{ __LINE__, "PUT", "/" ID "/999999999999999999", "put " ID " 999999999999999999" },
		{ __LINE__, "PUT", "/" ID "/9223372036854775799", "put " ID " 9223372036854775799" },
		{ __LINE__, "PUT", "/" ID "/9223372036854775808", NULL },
		{ __LINE__, "PUT", "/" ID "/9999999999999999999", NULL },
		{ __LINE__, "PUT", "/" ID "/18446744073709551616", NULL },
		{ __LINE__, "PUT", "/" ID "/99999999999999999999999999999999", NULL },
		{ __LINE__, "PUT", "/" ID "/-5", NULL },
		{ __LINE__, "PUT", "/" ID "/5a", NULL },
		{ __LINE__, "PUT", "/" ID "/0x5", NULL },
		{ __LINE__, "PUT", "/" ID "//5", NULL },
		{ __LINE__, "PUT", "/" ID "/5/", NULL },
		{ __LINE__, "PUT", "/" ID "/5/6", NULL },
		/* queries */
		{ __LINE__, "POST", "/" ID "?", "open " ID },
		{ __LINE__, "POST", "/" ID "?closed", NULL },
		{ __LINE__, "POST", "/" ID "?clos", NULL },
		{ __LINE__, "POST", "/" ID "?end", NULL },
		{ __LINE__, "POST", "/" ID "?1", NULL },
		{ __LINE__, "POST", "/" ID "/5?close", NULL },
		{ __LINE__, "DELETE", "/" ID "?", "delete " ID },
		{ __LINE__, "DELETE", "/" ID "?close", NULL },
		{ __LINE__, "PUT", "/" ID "/5?", "put " ID " 5" },
		{ __LINE__, "PUT", "/" ID "/5?END", NULL },
		{ __LINE__, "PUT", "/" ID "/5?end=1", NULL },
		{ __LINE__, "PUT", "/" ID "/5?end&end", NULL },
		{ __LINE__, "PUT", "/" ID "/5?1", NULL },
		{ __LINE__, "PUT", "/" ID "/5??end", NULL },
		{ __LINE__, "GET", "/" ID "/5", NULL },
		{ __LINE__, "GET", "/" ID "/5?", NULL },
		{ __LINE__, "GET", "/" ID "/5?x", NULL },
		{ __LINE__, "GET", "/" ID "/5?-1", NULL },
		{ __LINE__, "GET", "/" ID "/5?9223372036854775799", "get " ID " 5 9223372036854775799" },
		{ __LINE__, "GET", "/" ID "/5?9223372036854775808", NULL },
		{ __LINE__, "GET", "/" ID "/5?1&", NULL },
		{ __LINE__, "GET", "/" ID "/5?1x", NULL },
		{ __LINE__, "GET", "/" ID "/5?1&poll", NULL },
		{ __LINE__, "GET", "/" ID "/5?1&poll=", NULL },
		{ __LINE__, "GET", "/" ID "/5?1&poll=-1", NULL },
		{ __LINE__, "GET", "/" ID "/5?1&poll=61", NULL },
		{ __LINE__, "GET", "/" ID "/5?1&poll=99999999999999999999", NULL },
		{ __LINE__, "GET", "/" ID "/5?1&poll=20&x", NULL },
		{ __LINE__, "GET", "/" ID "/5?1&Poll=20", NULL },
		{ __LINE__, "GET", "/" ID "/5?poll=20", NULL },
		{ __LINE__, "GET", "/" ID "/5?&poll=20", NULL },
		{ __LINE__, "GET", "/" ID "/5?poll=20&1", NULL },
		{ __LINE__, "GET", "/?" ID "/5?1", NULL },
		{ __LINE__, "GET", "/#/" ID "/5?1", NULL },
		{ __LINE__, "GET", "/a?u=http://relay/" ID "/5?1", NULL },
		{ __LINE__, "GET", "http://relay?/" ID "/5?1", NULL },
		{ __LINE__, "GET", "http://relay#/" ID "/5?1", NULL },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		char head[256];
		struct request asked;

		snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: relay\r\nTunnel-Key: " KEY "\r\n\r\n", cases[i].method, cases[i].target);
		bool is_one = !request_parse(&asked, head) && relay_request_parse(&asked);

		expect(is_one == !!cases[i].want, cases[i].line, "%s of %s is %s", cases[i].method, cases[i].target, is_one ? "one" : "none");
		if (!is_one || !cases[i].want)
			continue;
		expect(same(relayed_shown(&asked), cases[i].want), cases[i].line, "it is %s", relayed_shown(&asked));
		expect(same(asked.key, KEY), cases[i].line, "the key is %s", asked.key);
		expect(asked.keep && !asked.expects && asked.length == 0, cases[i].line, "its fields are others");
	}
}

/* What the fields of a PUT by HTTP/1.1 say, or that they are wrong. */
static void relayed_fields_group(void)
{
	static const struct {
		int line;
		const char *fields;
		bool has_key, keep, expects;
		uint64_t length;
		bool wrong;
	} cases[] = {
		{ __LINE__, "", false, true, false, 0, false },
		{ __LINE__, "tunnel-key:" KEY "\r\n", true, true, false, 0, false },
		{ __LINE__, "Tunnel-Key: \t" KEY "\t \r\n", true, true, false, 0, false },
		{ __LINE__, "Tunnel-Key:\r\n", false, true, false, 0, false },
		{ __LINE__, "Tunnel-Key: " KEY "0\r\n", false, true, false, 0, false },
		{ __LINE__, "Tunnel-Key: fedcba9876543210fedcba987654321\r\n", false, true, false, 0, false },
		{ __LINE__, "Tunnel-Key: FEDCBA9876543210FEDCBA9876543210\r\n", false, true, false, 0, false },
		{ __LINE__, "Tunnel-Key: fedcba9876543210/edcba9876543210\r\n", false, true, false, 0, false },
		{ __LINE__, "Tunnel-Key: ../../../../../../../../../../a\r\n", false, true, false, 0, false },
		{ __LINE__, "Tunnel-Key: " KEY " " KEY "\r\n", false, true, false, 0, false },
		{ __LINE__, "Tunnel-Key: " KEY "\r\nTunnel-Key: " KEY "\r\n", false, true, false, 0, false },
		{ __LINE__, "X-Tunnel-Key: " KEY "\r\n", false, true, false, 0, false },
		{ __LINE__, "Content-Length: 0\r\n", false, true, false, 0, false },
		{ __LINE__, "Content-Length: 4194304\r\n", false, true, false, 4194304, false },
		{ __LINE__, "Content-Length: 99999999999999999\r\n", false, true, false, UINT64_C(99999999999999999), false },
		{ __LINE__, "Content-Length: 9223372036854775808\r\n", false, false, false, 0, true },
		{ __LINE__, "Content-Length: 18446744073709551616\r\n", false, false, false, 0, true },
		{ __LINE__, "Connection: close\r\n", false, false, false, 0, false },
		{ __LINE__, "Connection: Keep-Alive, CLOSE\r\n", false, false, false, 0, false },
		{ __LINE__, "Connection: keep-alive\r\n", false, true, false, 0, false },
		{ __LINE__, "Connection: closed\r\nX: close\r\n", false, true, false, 0, false },
		{ __LINE__, "Expect: 100-continue\r\n", false, true, true, 0, false },
		{ __LINE__, "expect: x, 100-Continue\r\n", false, true, true, 0, false },
		{ __LINE__, "Expect: 100\r\n", false, true, false, 0, false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		static const char *const lines[] = { "PUT /" ID "/5 HTTP/1.1", "PUT /" ID "/5 HTTP/1.0", "GET /" ID "/5?1 HTTP/1.1" };
		struct request asked[3];
		bool wrong[3];

		for (int j = 0; j < 3; j++) {
			char head[512];

			snprintf(head, sizeof head, "%s\r\nHost: relay\r\n%s\r\nTunnel-Key: " ID "\r\n\r\n", lines[j], cases[i].fields);
			wrong[j] = request_parse(&asked[j], head) || !relay_request_parse(&asked[j]);
		}
		expect(wrong[0] == cases[i].wrong, cases[i].line, "it is %s", wrong[0] ? "wrong" : "right");
		expect(wrong[2] == (wrong[0] || cases[i].length > 0), cases[i].line, "as a GET it is %s", wrong[2] ? "wrong" : "right");
		if (wrong[0])
			continue;
		expect(same(asked[0].id, ID) && same(asked[0].key, cases[i].has_key ? KEY : ""), cases[i].line, "it is for %s", asked[0].id);
		expect(asked[0].keep == cases[i].keep && asked[0].expects == cases[i].expects, cases[i].line, "the connection is %s, 100 %s",
		       asked[0].keep ? "kept" : "not kept", asked[0].expects ? "awaited" : "not awaited");
		expect(asked[0].length == cases[i].length, cases[i].line, "it has %" PRIu64 " bytes", asked[0].length);
		expect(!asked[1].keep, cases[i].line, "a connection of HTTP/1.0 is kept");
	}
}

static bool has_field(const char *answer, const char *name, const char *value)
{
	const char *found = NULL;
	int length = 0;

	return field_count(answer, name, &found, &length) == 1 && (size_t)length == strlen(value) && strncmp(found, value, strlen(value)) == 0;
}

/* Words as long as the longest that there are. */
#define WORDS HUNDRED TEN "123456789 1234567"

/* A reply is read as what it is: its length, its mark, its body, or none. */
static void reply_check(int status, const char *words, bool keep, bool is_head)
{
	char reply[ANSWER_SIZE], body[ANSWER_SIZE], size[24];
	size_t length = reply_compose(reply, status, words, keep, is_head), head = http_head_end(reply, 0, strlen(reply));

	snprintf(body, sizeof body, "%s%s", status == 204 ? "" : words, status < 400 ? "" : "\n");
	snprintf(size, sizeof size, "%zu", strlen(body));
	expect(length == strlen(reply) && length < ANSWER_SIZE, __LINE__, "%d: its length is %zu", status, length);
	expect(http_status(reply) == status, __LINE__, "%d: the status is %d", status, http_status(reply));
	expect(has_field(reply, "Tunnel-Relay", "2"), __LINE__, "%d: it is not marked", status);
	expect(head > 0 && same(reply + head, is_head ? "" : body), __LINE__, "%d: the body is %s", status, reply + head);
	expect(has_field(reply, "Content-Length", size) == (status != 204), __LINE__, "%d: the length in it is wrong", status);
	expect(has_field(reply, "Connection", "close") == !keep, __LINE__, "%d: the connection", status);
	expect(has_field(reply, "Cache-Control", "no-store, no-transform"), __LINE__, "%d: a cache may keep it", status);
	expect(!!strstr(reply, "\r\nWWW-Authenticate: Basic") == (status == 401), __LINE__, "%d: WWW-Authenticate", status);
	expect(!!strstr(reply, "\r\nProxy-Authenticate: Basic") == (status == 407), __LINE__, "%d: Proxy-Authenticate", status);
	expect(!!strstr(reply, "\r\nAllow: CONNECT\r\n") == (status == 405), __LINE__, "%d: Allow", status);
}

static void reply_group(void)
{
	static const int statuses[] = { 200, 201, 204, 400, 401, 403, 404, 405, 407, 408, 409, 410, 411, 416, 422, 431, 501, 502, 503, 504 };
	static const char *const words[] = { "no", "127.0.0.1 is refused, not to be reached, or nothing of the kind", WORDS };

	for (size_t i = 0; i < COUNT(statuses); i++)
		for (size_t j = 0; j < COUNT(words); j++)
			for (int kind = 0; kind < 4; kind++)
				reply_check(statuses[i], words[j], kind & 1, kind & 2);
}

/* --- a session's requests -------------------------------------------------------------------------------- */

/* Where the session's memory of the downstream begins anew after two bytes. */
enum { KEPT_FROM = KEPT_SIZE - 2 };

/* A session that keeps this of the downstream, from there on, and has taken 42 upstream bytes; its client, and the target's other end. */
struct tried {
	struct worker worker;
	struct client client;
	int client_end, target_end;
};

static struct tried *session_fresh(const char *kept)
{
	static struct scoreboard board;
	static struct tried tried;
	int ends[2];

	memset(&tried, 0, sizeof tried);
	tried.worker.board = &board;
	tried.client.worker = &tried.worker;
	tried.client.name[0] = 'c';
	pair_make(ends);
	if (!session_create(&tried.worker.hold, &tried.client, ends[0]))
		exit(2);
	tried.target_end = ends[1];
	pair_make(ends);
	tried.client.socket = ends[0];
	tried.client_end = ends[1];
	struct session *session = tried.worker.hold.session;
	session->start = KEPT_FROM;
	session->stop = session->start + strlen(kept);
	for (uint64_t at = session->start; *kept; at++)
		session->kept[at % KEPT_SIZE] = *kept++;
	session->taken = 42;
	session->sequence = 5;
	return &tried;
}

static void tried_end(struct tried *tried)
{
	close(tried->client.socket);
	close(tried->client_end);
	close(tried->target_end);
	hold_release(&tried->worker.hold);
}

/* The reply that the client got, or what came to the target, with a NUL shown as 0. */
static const char *shown_of(int fd)
{
	static char shown[4096];
	ssize_t got = recv(fd, shown, sizeof shown - 1, MSG_DONTWAIT);

	shown[got > 0 ? got : 0] = '\0';
	for (ssize_t i = 0; i < got; i++)
		shown[i] = shown[i] ? shown[i] : '0';
	return shown;
}

/* What a GET is told, from an offset behind KEPT_FROM; a stream that would go on is not tried. */
static void get_group(void)
{
	static const struct {
		int line;
		const char *kept;
		int from;
		uint64_t sequence;
		long poll;
		bool ended;
		const char *error;
		int status;
		const char *body;
	} cases[] = {
		{ __LINE__, "hello", 0, 5, -1, true, "", 200, "O00\x02" "42D00\x05helloE000" },
		{ __LINE__, "hello", 2, 6, -1, true, "", 200, "O00\x02" "42D00\x03lloE000" },
		{ __LINE__, "hello", 5, 5, -1, true, "", 200, "O00\x02" "42E000" },
		{ __LINE__, "hello", 0, 5, -1, false, "reset", 200, "O00\x02" "42D00\x05helloX00\x05reset" },
		{ __LINE__, "", 0, 5, -1, false, "reset", 200, "O00\x02" "42X00\x05reset" },
		{ __LINE__, "hello", 0, 5, 20, false, "", 200, "O00\x02" "42D00\x05hello" },
		{ __LINE__, "hello", 5, 5, 0, false, "", 200, "O00\x02" "42" },
		{ __LINE__, "hello", 3, 7, 20, true, "", 200, "O00\x02" "42D00\x02loE000" },
		{ __LINE__, "hello", 5, 5, 20, true, "reset", 200, "O00\x02" "42X00\x05reset" },
		{ __LINE__, "hello", -1, 5, -1, false, "", 416, "no such downstream bytes here\n" },
		{ __LINE__, "hello", 6, 5, 20, false, "", 416, "no such downstream bytes here\n" },
		{ __LINE__, "hello", INT_MAX, 5, -1, true, "", 416, "no such downstream bytes here\n" },
		{ __LINE__, "hello", 0, 4, -1, false, "", 409, "a later GET has come already\n" },
		{ __LINE__, "hello", 5, 0, 20, false, "", 409, "a later GET has come already\n" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct tried *tried = session_fresh(cases[i].kept);
		struct session *session = tried->worker.hold.session;
		uint64_t from = (uint64_t)(KEPT_FROM + (int64_t)cases[i].from);

		tried->client.asked = (struct request){ .means = RELAY_GET, .offset = from, .sequence = cases[i].sequence,
		                                        .poll = cases[i].poll, .keep = true };
		if (cases[i].ended)
			shutdown(tried->target_end, SHUT_WR);
		if (*cases[i].error)
			session_break(&tried->worker.hold, cases[i].error);
		bool keeps = session_get(&tried->client);
		const char *reply = shown_of(tried->client_end), *body = reply + http_head_end(reply, 0, strlen(reply));
		expect(http_status(reply) == cases[i].status, cases[i].line, "the status is %d", http_status(reply));
		expect(same(body, cases[i].body), cases[i].line, "it brings %s", body);
		expect(keeps == (cases[i].poll >= 0 || cases[i].status != 200), cases[i].line, "its connection is %s", keeps ? "kept" : "not");
		expect(session->start == (cases[i].status == 200 ? from : KEPT_FROM), cases[i].line, "%" PRIu64 " is acknowledged", session->start);
		tried_end(tried);
	}
}

/* Which of the upstream bytes reach the target, and how far it came. */
static void put_group(void)
{
	static const struct {
		int line;
		uint64_t offset;
		const char *body;
		bool end, ended;
		const char *refusal, *given;
		int status;
		const char *reply;
	} cases[] = {
		{ __LINE__, 42, "abc", false, false, "", "abc", 200, "45" },
		{ __LINE__, 42, "", false, false, "", "", 200, "42" },
		{ __LINE__, 40, "abc", false, false, "", "c", 200, "43" },
		{ __LINE__, 39, "abc", false, false, "", "", 200, "42" },
		{ __LINE__, 0, "abc", false, false, "", "", 200, "42" },
		{ __LINE__, 43, "abc", false, false, "", "", 200, "42" },
		{ __LINE__, 42, "abc", true, false, "", "abc", 200, "45" },
		{ __LINE__, 42, "a", false, true, "", "", 416, "the upstream has ended before that\n" },
		{ __LINE__, 40, "ab", true, true, "", "", 200, "42" },
		{ __LINE__, 42, "abc", false, false, "no", "", 422, "no\n" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct tried *tried = session_fresh("");
		struct session *session = tried->worker.hold.session;
		size_t length = strlen(cases[i].body);

		tried->client.asked = (struct request){ .means = RELAY_PUT, .offset = cases[i].offset, .length = length,
		                                        .end = cases[i].end, .keep = true };
		session->up_ended = cases[i].ended;
		if (*cases[i].refusal)
			session_refuse(session, cases[i].refusal);
		tried->client.body = length;
		send(tried->client_end, cases[i].body, length, 0);
		expect(session_put(&tried->client), cases[i].line, "its connection is not kept");
		const char *given = shown_of(tried->target_end);
		expect(same(given, cases[i].given), cases[i].line, "the target got %s", given);
		expect(session->up_ended == (cases[i].ended || cases[i].end), cases[i].line, "the end is another");
		const char *reply = shown_of(tried->client_end), *body = reply + http_head_end(reply, 0, strlen(reply));
		expect(http_status(reply) == cases[i].status && same(body, cases[i].reply), cases[i].line, "it is told %s", reply);
		tried_end(tried);
	}
}

/* --- answers of a relay ----------------------------------------------------------------------------- */

/* An exchange whose connection gives the bytes behind a head, and then ends. */
static struct exchange *exchange_answered(const char *head, const char *bytes)
{
	static struct exchange exchange;
	struct head *answer = &exchange.answer;
	int ends[2];

	pair_make(ends);
	expect(send(ends[1], bytes, strlen(bytes), 0) == (ssize_t)strlen(bytes), __LINE__, "the bytes cannot be sent");
	close(ends[1]);
	if (exchange.fd > 0)
		close(exchange.fd);
	exchange.fd = ends[0];
	exchange.patience = 1;
	exchange.may_keep = true;
	exchange.is_silent = false;
	answer->start = (size_t)snprintf(answer->bytes, sizeof answer->bytes, "HTTP/1.1 100 \r\nContent-Length: 1\r\nConnection: close\r\n\r\n");
	answer->length = answer->start + (size_t)snprintf(answer->bytes + answer->start, 1000, "%s", head);
	exchange.status = http_status(head);
	exchange_read_fields(&exchange);
	return &exchange;
}

/* Takes a body, so many bytes at most at a time. Returns how it ended: whole, at the end of the connection, or cut or wrong. */
static const char *body_read(struct exchange *exchange, size_t most, char *body)
{
	const char *bytes;
	ssize_t size;

	for (*body = '\0'; (size = body_take(&exchange->body, &bytes, most)) > 0; body[size] = '\0') {
		body += strlen(body);
		memcpy(body, bytes, (size_t)size);
	}
	return size == -1 ? "wrong" : exchange->body.left == 0 ? "whole" : "to the end";
}

#define OK_HEAD "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK_HEAD "Transfer-Encoding: chunked\r\n\r\n"

static void body_group(void)
{
	static const struct {
		int line;
		const char *head, *bytes, *body, *want;
	} cases[] = {
		/* a length */
		{ __LINE__, OK_HEAD "Content-Length: 5\r\n\r\n", "hello", "hello", "whole" },
		{ __LINE__, OK_HEAD "content-length:5 \n\n", "hello", "hello", "whole" },
		{ __LINE__, OK_HEAD "Content-Length: 5\r\n\r\n", "hell", "hell", "wrong" },
		{ __LINE__, OK_HEAD "Content-Length: 5\r\n\r\n", "", "", "wrong" },
		{ __LINE__, OK_HEAD "Content-Length: 5\r\n\r\n", "hello!", "hello", "whole" },
		{ __LINE__, OK_HEAD "Content-Length: 5\r\n\r\n", "hello\r\n", "hello", "whole" },
		{ __LINE__, OK_HEAD "Content-Length: 0\r\n\r\n", "", "", "whole" },
		{ __LINE__, OK_HEAD "Content-Length: 0\r\n\r\n", "h", "", "whole" },
		{ __LINE__, OK_HEAD "Content-Length: 4294967301\r\n\r\n", "hello", "hello", "wrong" },
		{ __LINE__, OK_HEAD "Content-Length: 9223372036854775799\r\n\r\n", "hello", "hello", "wrong" },
		{ __LINE__, "HTTP/1.1 502 Bad\r\nContent-Length: 5\r\n\r\n", "hello", "hello", "whole" },
		/* none, whatever the head says */
		{ __LINE__, "HTTP/1.1 204 \r\n\r\n", "", "", "whole" },
		{ __LINE__, "HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\n", "", "", "whole" },
		{ __LINE__, "HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\n\r\n", "", "", "whole" },
		{ __LINE__, "HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n", "", "", "whole" },
		{ __LINE__, "HTTP/1.1 204 \r\n\r\n", "h", "", "whole" },
		/* to the end */
		{ __LINE__, OK_HEAD "\r\n", "", "", "to the end" },
		{ __LINE__, OK_HEAD "\r\n", "5\r\nhello\r\n", "5\r\nhello\r\n", "to the end" },
		{ __LINE__, "HTTP/1.0 200 OK\r\n\r\n", "hello", "hello", "to the end" },
		{ __LINE__, OK_HEAD "Content-Length: x\r\n\r\n", "hello", "hello", "to the end" },
		{ __LINE__, OK_HEAD "Content-Length: 9223372036854775808\r\n\r\n", "hello", "hello", "to the end" },
		{ __LINE__, OK_HEAD "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "hello", "hello", "to the end" },
		{ __LINE__, OK_HEAD "Transfer-Encoding: gzip\r\n\r\n", "hello", "hello", "to the end" },
		{ __LINE__, OK_HEAD "\r\nContent-Length: 5\r\n\r\n", "hello!", "hello!", "to the end" },
		/* chunks */
		{ __LINE__, CHUNKED, "0\r\n\r\n", "", "whole" },
		{ __LINE__, CHUNKED, "5\r\nhello\r\n0\r\n\r\n", "hello", "whole" },
		{ __LINE__, CHUNKED, "5\r\nhello\r\n7\r\n\r\nworld\r\n0\r\n\r\n", "hello\r\nworld", "whole" },
		{ __LINE__, CHUNKED, "1\r\n0\r\n1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", "0\r\n", "whole" },
		{ __LINE__, CHUNKED, "a\r\n1234567890\r\nB\r\n1234567890a\r\n00\r\n\r\n", "12345678901234567890a", "whole" },
		{ __LINE__, CHUNKED, "10\r\n1234567890abcdef\r\n0\r\n\r\n", "1234567890abcdef", "whole" },
		{ __LINE__, CHUNKED, "000000000000000000000005\r\nhello\r\n000000000000000000000000\r\n\r\n", "hello", "whole" },
		{ __LINE__, CHUNKED, "5\nhello\n0\n\n", "hello", "whole" },
		{ __LINE__, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello", "whole" },
		{ __LINE__, OK_HEAD "Content-Length: 3\r\nTRANSFER-ENCODING: Chunked\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello", "whole" },
		/* their extensions, and trailers */
		{ __LINE__, CHUNKED, "5;a\r\nhello\r\n0;b=\"0\r\n\r\n", "hello", "whole" },
		{ __LINE__, CHUNKED, "5 ; a=5\r\nhello\r\n0 \r\n\r\n", "hello", "whole" },
		{ __LINE__, CHUNKED, "5;ffffffffffffffffffffffff\r\nhello\r\n0\r\n\r\n", "hello", "whole" },
		{ __LINE__, CHUNKED, "5\t\r\nhello\r\n0\r\n\r\n", "hello", "whole" },
		{ __LINE__, CHUNKED, "5\r\nhello\r\n0\r\nA: b\r\nC:\r\n\r\n", "hello", "whole" },
		{ __LINE__, CHUNKED, "0\nA: b\n\n", "", "whole" },
		/* of which some is missing */
		{ __LINE__, CHUNKED, "", "", "wrong" },
		{ __LINE__, CHUNKED, "5", "", "wrong" },
		{ __LINE__, CHUNKED, "5\r\n", "", "wrong" },
		{ __LINE__, CHUNKED, "5\r\nhell", "hell", "wrong" },
		{ __LINE__, CHUNKED, "5\r\nhello", "hello", "wrong" },
		{ __LINE__, CHUNKED, "5\r\nhello\r\n", "hello", "wrong" },
		{ __LINE__, CHUNKED, "5\r\nhello\r\n0\r\n", "hello", "wrong" },
		{ __LINE__, CHUNKED, "5\r\nhello\r\n0\r\n\r", "hello", "wrong" },
		{ __LINE__, CHUNKED, "0\r\nA: b\r\n", "", "wrong" },
		{ __LINE__, CHUNKED, "ffffffffffffff\r\nhello", "hello", "wrong" },
		/* of which there is too much, or something wrong */
		{ __LINE__, CHUNKED, "5\r\nhello\r\n0\r\n\r\n\r\n", "hello", "whole" },
		{ __LINE__, CHUNKED, "0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "", "whole" },
		{ __LINE__, CHUNKED, "5\r\nhello!\r\n0\r\n\r\n", "hello", "wrong" },
		{ __LINE__, CHUNKED, "5\r\nhello5\r\nworld\r\n", "hello", "wrong" },
		{ __LINE__, CHUNKED, "100000000000000000\r\nhello", "", "wrong" },
	};
	char body[64];

	for (size_t i = 0; i < COUNT(cases); i++)
		for (size_t most = 1; most <= 16; most++) {
			struct exchange *exchange = exchange_answered(cases[i].head, cases[i].bytes);
			const char *how = body_read(exchange, most, body);
			bool is_left = recv(exchange->fd, body + 32, 1, 0) > 0;

			expect(same(how, cases[i].want), cases[i].line, "by %zu it is %s", most, how);
			expect(same(body, cases[i].body), cases[i].line, "by %zu it has %s", most, body);
			expect(!is_left || !same(how, "to the end"), cases[i].line, "something is left");
		}
}

/* A line where the size of a chunk must stand, and none does, is no end. */
static void chunk_size_group(void)
{
	static const struct {
		int line;
		const char *bytes, *body;
	} cases[] = {
		{ __LINE__, "\r\n5\r\nhello\r\n0\r\n\r\n", "" },
		{ __LINE__, "5\r\nhello\r\n\r\n0\r\n\r\n", "hello" },
		{ __LINE__, "x\r\n\r\n", "" },
		{ __LINE__, "-5\r\nhello\r\n0\r\n\r\n", "" },
		{ __LINE__, ";5\r\nhello\r\n0\r\n\r\n", "" },
		{ __LINE__, " 5\r\nhello\r\n0\r\n\r\n", "" },
		{ __LINE__, "hello", "" },
		{ __LINE__, "0x5\r\nhello\r\n0\r\n\r\n", "" },
		{ __LINE__, "5x\r\nhello\r\n0\r\n\r\n", "" },
	};
	char body[64];

	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *how = body_read(exchange_answered(CHUNKED, cases[i].bytes), 64, body);

		expect(same(how, "wrong") && same(body, cases[i].body), cases[i].line, "it is %s, and has %s", how, body);
	}
}

/* Whether the connection stays, and whose answer it is. */
static void answer_fields_group(void)
{
	static const struct {
		int line;
		const char *head;
		bool may_keep, is_marked;
	} cases[] = {
		{ __LINE__, OK_HEAD "Content-Length: 1\r\n\r\n", true, false },
		{ __LINE__, OK_HEAD "Content-Length: 0\r\n\r\n", true, false },
		{ __LINE__, CHUNKED, true, false },
		{ __LINE__, "HTTP/1.1 204 \r\n\r\n", true, false },
		{ __LINE__, OK_HEAD "\r\n", false, false },
		{ __LINE__, OK_HEAD "Connection: keep-alive\r\n\r\n", false, false },
		{ __LINE__, "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", false, false },
		{ __LINE__, "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", false, false },
		{ __LINE__, OK_HEAD "Content-Length: 1\r\nConnection: close\r\n\r\n", false, false },
		{ __LINE__, OK_HEAD "Content-Length: 1\r\nconnection: x, Close\r\n\r\n", false, false },
		{ __LINE__, OK_HEAD "Content-Length: 1\r\nTunnel-Relay: 2\r\n\r\n", true, true },
		{ __LINE__, "HTTP/1.1 204 \r\ntunnel-relay:2\n\n", true, true },
		{ __LINE__, OK_HEAD "Content-Length: 1\r\nTunnel-Relay: 20\r\n\r\n", true, false },
		{ __LINE__, OK_HEAD "Content-Length: 1\r\nTunnel-Relay:\r\n\r\n", true, false },
		{ __LINE__, OK_HEAD "Content-Length: 1\r\nX: Tunnel-Relay: 2\r\n\r\n", true, false },
		{ __LINE__, OK_HEAD "Content-Length: 1\r\n\r\nTunnel-Relay: 2\r\n", true, false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct exchange *exchange = exchange_answered(cases[i].head, "");

		expect((exchange->may_keep && exchange->body.left != UINT64_MAX) == cases[i].may_keep, cases[i].line, "the connection %s",
		       exchange->may_keep ? "stays" : "does not stay");
		expect(exchange->is_marked == cases[i].is_marked, cases[i].line, "it is %s", exchange->is_marked ? "marked" : "not marked");
	}
}

/* --- where a relay is ------------------------------------------------------------------------------------- */

/* The status with which a process ends that parses a relay's URL; 0 if that is taken. */
static int relay_parse_status(const char *url)
{
	static struct hop hop;
	int status;

	fflush(stderr);
	pid_t child = fork();
	if (child == 0) {
		opt.verbosity = -1;
		hop = (struct hop){ .url = writable(url) };
		opt.relay = &hop;
		relay_parse();
		_exit(0);
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Where path is NULL, it is refused; authority is as requests name it. */
static void relay_url_group(void)
{
	static const struct {
		int line;
		const char *url, *path, *text, *authority, *user;
	} cases[] = {
		{ __LINE__, "relay", "", "relay:80", "relay", NULL },
		{ __LINE__, "relay:8080", "", "relay:8080", "relay:8080", NULL },
		{ __LINE__, "http://relay", "", "relay:80", "relay", NULL },
		{ __LINE__, "http://relay/", "", "relay:80", "relay", NULL },
		{ __LINE__, "http://relay:80///", "", "relay:80", "relay", NULL },
		{ __LINE__, "http://relay:443/", "", "relay:443", "relay:443", NULL },
		{ __LINE__, "HTTPS://relay", "", "relay:443", "relay", NULL },
		{ __LINE__, "https://relay:443/a", "/a", "relay:443", "relay", NULL },
		{ __LINE__, "https://relay:80/a/", "/a", "relay:80", "relay:80", NULL },
		{ __LINE__, "relay/a", "/a", "relay:80", "relay", NULL },
		{ __LINE__, "http://relay/a/b//", "/a/b", "relay:80", "relay", NULL },
		{ __LINE__, "http://relay//a", "//a", "relay:80", "relay", NULL },
		{ __LINE__, "http://relay:8080/A%20b/~c;d=e,f:g", "/A%20b/~c;d=e,f:g", "relay:8080", "relay:8080", NULL },
		{ __LINE__, "http://[2001:db8::1]/a", "/a", "[2001:db8::1]:80", "[2001:db8::1]", NULL },
		{ __LINE__, "http://[2001:db8::1]:81/a", "/a", "[2001:db8::1]:81", "[2001:db8::1]:81", NULL },
		{ __LINE__, "https://[::1]", "", "[::1]:443", "[::1]", NULL },
		{ __LINE__, "http://joe:secret@relay/a", "/a", "relay:80", "relay", "joe" },
		{ __LINE__, "joe@relay:81/a", "/a", "relay:81", "relay:81", "joe" },
		{ __LINE__, "http://relay/a b", NULL, NULL, NULL, NULL },
		{ __LINE__, "http://relay/a?b", NULL, NULL, NULL, NULL },
		{ __LINE__, "http://relay/?", NULL, NULL, NULL, NULL },
		{ __LINE__, "http://relay/a#b", NULL, NULL, NULL, NULL },
		{ __LINE__, "http://relay/a\r\nX: y", NULL, NULL, NULL, NULL },
		{ __LINE__, "http://relay/\xc3\xa4", NULL, NULL, NULL, NULL },
		{ __LINE__, "http://relay/\x7f", NULL, NULL, NULL, NULL },
		{ __LINE__, "http://relay?a", NULL, NULL, NULL, NULL },
		{ __LINE__, "http://", NULL, NULL, NULL, NULL },
		{ __LINE__, "http:///a", NULL, NULL, NULL, NULL },
		{ __LINE__, "/a", NULL, NULL, NULL, NULL },
		{ __LINE__, "ftp://relay/a", NULL, NULL, NULL, NULL },
		{ __LINE__, "http://relay:0/a", NULL, NULL, NULL, NULL },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct hop hop = { .url = NULL };
		int status = relay_parse_status(cases[i].url);

		expect(status == (cases[i].path ? 0 : EX_USAGE), cases[i].line, "%s: %d", cases[i].url, status);
		if (!cases[i].path || status != 0)
			continue;
		hop.url = writable(cases[i].url);
		opt.relay = &hop;
		relay_parse();
		expect(same(hop.path, cases[i].path) && same(hop.at.text, cases[i].text), cases[i].line, "it is %s at %s", hop.path, hop.at.text);
		expect(same(hop.host, cases[i].authority), cases[i].line, "its authority is %s", hop.host);
		expect(same(hop.userinfo.user, cases[i].user), cases[i].line, "its user is %s", hop.userinfo.user ? hop.userinfo.user : "nobody");
		expect(hop.tls == (strncasecmp(cases[i].url, "https:", 6) == 0), cases[i].line, "it is %s", hop.tls ? "https" : "http");
	}
	opt.relay = NULL;
}

/* What a client asks for is what a relay reads. */
static void compose_group(void)
{
	static const struct {
		int line;
		const char *method, *suffix, *first_line, *want;
		long long length;
	} cases[] = {
		{ __LINE__, "POST", "", "POST http://relay:81/a/" ID " HTTP/1.1\r\n", "open " ID, 7 },
		{ __LINE__, "PUT", "/5", "PUT http://relay:81/a/" ID "/5 HTTP/1.1\r\n", "put " ID " 5", 0 },
		{ __LINE__, "POST", "/5?end", "POST http://relay:81/a/" ID "/5?end HTTP/1.1\r\n", "put " ID " 5 end", 4194304 },
		{ __LINE__, "GET", "/5?1", "GET http://relay:81/a/" ID "/5?1 HTTP/1.1\r\n", "get " ID " 5 1", -1 },
		{ __LINE__, "GET", "/5?1&poll=20", "GET http://relay:81/a/" ID "/5?1&poll=20 HTTP/1.1\r\n", "get " ID " 5 1 poll 20", -1 },
		{ __LINE__, "DELETE", "", "DELETE http://relay:81/a/" ID " HTTP/1.1\r\n", "delete " ID, -1 },
		{ __LINE__, "POST", "?close", "POST http://relay:81/a/" ID "?close HTTP/1.1\r\n", "delete " ID, 0 },
	};
	static char accounts[] = "joe:secret\0";
	struct hop hop = { .url = writable("http://relay:81/a/") }, proxy = { .tls = false };

	opt.relay = &hop;
	relay_parse();
	hop.credentials = (struct credentials){ .user = "joe", .password = "secret" };
	opt.hops = &proxy;
	opt.accounts = accounts;
	for (size_t i = 0; i < COUNT(cases); i++)
		for (opt.hop_count = 0; opt.hop_count < 2; opt.hop_count++) {
			static struct tunnel tunnel = { .id = ID, .key = KEY };
			static struct exchange exchange;
			struct request asked;
			char *head = exchange.request.bytes, *target;

			request_compose(&tunnel, &exchange, cases[i].method, cases[i].suffix, cases[i].length);
			expect((strncmp(head, cases[i].first_line, strlen(cases[i].first_line)) == 0) == (opt.hop_count == 1), cases[i].line,
			       "it is %.*s", (int)strcspn(head, "\r"), head);
			if (opt.hop_count == 0 && (target = strchr(head, '/')))
				expect(strncmp(target, strstr(cases[i].first_line, "/a/"), strcspn(target, "\r")) == 0, cases[i].line, "it is %s",
				       head);
			expect(!request_parse(&asked, head) && relay_request_parse(&asked), cases[i].line, "it is wrong");
			expect(same(relayed_shown(&asked), cases[i].want) && same(asked.id, ID) && same(asked.key, KEY), cases[i].line, "it is %s", relayed_shown(&asked));
			expect(asked.length == (cases[i].length > 0 ? (uint64_t)cases[i].length : 0) && asked.keep && !asked.expects, cases[i].line,
			       "its body has %" PRIu64 " bytes", asked.length);
		}
	opt.hop_count = 0;
	opt.hops = NULL;
	opt.relay = NULL;
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
	{ "number", number_group },
	{ "authority", authority_group },
	{ "proxy", proxy_group },
	{ "no_proxy", no_proxy_group },
	{ "message", message_group },
	{ "field", field_group },
	{ "socket", socket_group },
	{ "host_plain", host_plain_group },
	{ "pattern", pattern_group },
	{ "allow", allow_group },
	{ "inside", inside_group },
	{ "head_take", head_take_group },
	{ "offset", offset_group },
	{ "lists", lists_group },
	{ "relayed", relayed_group },
	{ "relayed_fields", relayed_fields_group },
	{ "reply", reply_group },
	{ "get", get_group },			{ "put", put_group },
	{ "body", body_group },
	{ "chunk_size", chunk_size_group },
	{ "answer_fields", answer_fields_group },
	{ "relay_url", relay_url_group },
	{ "compose", compose_group },
	{ "vectors", vectors_group },
	{ "round_trip", round_trip_group },
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
