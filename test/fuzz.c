/* SPDX-License-Identifier: ISC */

/*
 * fuzz: the parsers of what comes from outside, a server, a client, and a command line, with input that nobody
 * thought of.
 *
 *	fuzz ITERATIONS		random input from tokens that mean something to them, the same each time
 *	fuzz FILE...		an input that was found before, or is in test/corpus
 *
 * With -DLIBFUZZER there is no main, and libFuzzer brings the input. Its first byte, from a on, chooses what is tried.
 */

#include "world.h"

/* Of a session. */
#define ID "0123456789abcdef0123456789abcdef"

enum { TRIES = 23 };

/* Does something that may end the program; returns its status, or -1 if it does not. */
static int exit_catch(void act(void *), void *of)
{
	is_exit_caught = true;
	exit_status = -1;
	if (setjmp(exit_jump) == 0)
		act(of);
	is_exit_caught = false;
	return exit_status;
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
	wire_give(&wires[0], bytes, length);
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

/* Takes the next line off *rest, in place, without its end; NULL if there is none. */
static char *line_take(char **rest)
{
	char *line = *rest, *end = line + strcspn(line, "\n");

	if (!*line)
		return NULL;
	*rest = end + (*end == '\n');
	end[end > line && end[-1] == '\r' ? -1 : 0] = '\0';
	return line;
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
		size_t before = wires[0].taken, start = head.length;
		enum head_result result;

		head.start = start;
		while ((result = http_take_head(WIRE, &head, true)) == HEAD_MORE && head.start == start)
			fd_wait(WIRE, POLLIN, NEVER);
		MUST(head.length <= HEAD_MAX && head.start <= head.length);
		if (result != HEAD_WHOLE && result != HEAD_MORE)
			break;
		MUST((http_status(head.bytes + start) / 100 == 1) == (result == HEAD_MORE));
		MUST(head.length - start == blank_line(bytes + before, length - before));
		MUST(wires[0].taken - before == head.length - start);
		MUST(memcmp(head.bytes + start, bytes + before, head.length - start) == 0);
		MUST(strlen(head.bytes) == head.length);
		reply_use(head.bytes + start);
	}
}

static void try_text(char *text)
{
	struct authority to;
	size_t length = strlen(text);

	if (!authority_parse(&to, text, NULL))
		MUST(*to.host && strlen(to.text) <= strlen(to.host) + strlen(to.port) + 3 && !has_control(to.text));
	authority_parse(&to, text, "80");
	number_parse(text, 0, 65535);
	deadline_stage("%s", text);
	MUST(handlers.length[handlers.current] <= sizeof *handlers.line);
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
	static char head[INPUT_MAX + 64], text[INPUT_MAX + 64];
	struct authority to = { .text = "-" };
	struct request request;
	char again[HOST_MAX + 1], given[2 * CREDENTIAL_MAX + 4];
	size_t length = (size_t)snprintf(head, sizeof head, "%s%s", beginning, input);

	length = http_head_end(head, 0, length);
	head[length] = '\0';
	strcpy(text, head);
	if (request_parse(&request, text) || request.is_coded)
		return;
	for (const char *c = head; *c; c++)
		MUST(*c != '\r' || c[1] == '\n');
	for (const char *line = request.fields; *line != '\r' && *line != '\n'; line = strchr(line, '\n') + 1)
		MUST(line[strcspn(line, " \t:\r\n")] == ':');
	MUST(*request.method && strspn(request.method, token_characters) == strlen(request.method));
	MUST(*request.target && !has_control(request.target) && !strchr(request.target, ' '));
	MUST(!strstr(head, "\n ") && !strstr(head, "\n\t"));
	MUST(lines_count(head, "Host:") <= 1);
	MUST(lines_count(head, "Transfer-Encoding:") == 0);
	MUST(lines_count(head, "Host:") == 1 || request.is_http10);
	MUST(lines_count(head, "Content-Length:") <= 1);
	MUST(!login_read(given, request.fields, "Proxy-Authorization") || lines_count(head, "Proxy-Authorization:") == 1);
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

/* A request for a session: the input's first line may be the end of its target, others are what a field says, or one. */
static void try_relayed_lines(char *input)
{
	static const char *const methods[] = { "GET", "POST", "PUT", "DELETE" };
	static const char *const bases[] = { "/", "/a/", "http://relay/", "/" ID "/" };
	static const char *const endings[] = { "", "?close", "/5", "/5?end", "/5?1", "/5?1&poll=7" };
	static const char *const names[] = { "", "", "Tunnel-Key: ", "Content-Length: ", "Transfer-Encoding: ", "Connection: ",
	                                     "Expect: ", "Authorization: " };
	static char text[2 * INPUT_MAX];
	uint32_t random = random_of(input, strlen(input));
	const char *line = random_next(&random, 2) ? line_take(&input) : "", *base = bases[random_next(&random, 4)];
	size_t length = (size_t)snprintf(text, sizeof text, "%s %s" ID "%s%s HTTP/1.%u\r\nHost: relay\r\n",
	                                 methods[random_next(&random, 4)], base,
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

static bool body_is_read(const struct reader *body)
{
	return body->left == 0 && !body->is_chunked;
}

/* Takes a body, up to so many bytes at a time, to body, its length to *found. Returns what body_take did in the end. */
static ssize_t body_read(struct exchange *exchange, uint32_t most, char *body, size_t *found)
{
	const char *bytes;
	ssize_t size;

	for (*found = 0; (size = body_take(&exchange->body, &bytes, most)) > 0; *found += (size_t)size) {
		MUST((size_t)size <= most);
		memcpy(body + *found, bytes, (size_t)size);
	}
	MUST(size == 0 || exchange->body.failed);
	return size;
}

/* A body that is sent by chunks of any size, with all that may stand around them; returns its length. */
static size_t body_encode(char *to, const char *data, size_t length, uint32_t *random)
{
	static const char *const extensions[] = { "", "", "", ";a", ";a=b", " ; a=\"5\"", "\t" };
	static const char *const ends[] = { "\r\n", "\r\n", "\n" };
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
	at += sprintf(at, "%s%s%s", random_next(random, 2) ? "0" : "000", extensions[random_next(random, 7)],
	              ends[random_next(random, 3)]);
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

	MUST(body_read(exchange, most, body, &found) == 0 && body_is_read(&exchange->body));
	MUST(found == length && memcmp(body, bytes, length) == 0);
	exchange = exchange_begin("Transfer-Encoding: chunked", coded, coded_length - 1);
	MUST(body_read(exchange, most, body, &found) == -1 && !body_is_read(&exchange->body));

	snprintf(field, sizeof field, "Content-Length: %zu", length);
	exchange = exchange_begin(field, bytes, length);
	MUST(body_read(exchange, most, body, &found) == 0 && body_is_read(&exchange->body));
	MUST(found == length && memcmp(body, bytes, length) == 0);
	exchange = exchange_begin("X: y", bytes, length);
	MUST(body_read(exchange, most, body, &found) == 0 && !body_is_read(&exchange->body));
	MUST(found == length && memcmp(body, bytes, length) == 0);

	ssize_t end = body_read(exchange_begin("Transfer-Encoding: chunked", bytes, length), INPUT_MAX, body, &found);
	exchange = exchange_begin("Transfer-Encoding: chunked", bytes, length);
	MUST(body_read(exchange, 1 + random_next(&random, 8), again, &found_again) == end);
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
	bool is_read;

	exchange->answer.start = exchange->answer.length = 0;
	exchange->status = 0;
	while ((is_read = exchange_read_head(exchange)) && exchange->status == 0)
		continue;
	MUST(exchange->answer.length <= HEAD_MAX && is_read == !exchange->failed);
	if (!is_read)
		return;
	const char *head = exchange->answer.bytes + exchange->answer.start;
	MUST(http_status(head) == exchange->status && exchange->status >= 0 && exchange->status / 100 != 1);
	MUST(strncmp(head + 9, exchange->reason, strlen(exchange->reason)) == 0 && strlen(exchange->reason) >= 3);
	MUST(!exchange->may_keep || strncmp(head, "HTTP/1.1", 8) == 0);
	MUST(!exchange->is_marked || lines_count(head, "Tunnel-Relay:") > 0);
	MUST(!exchange->body.is_chunked || lines_count(head, "Transfer-Encoding:") > 0);
	uint64_t left = exchange->body.is_chunked ? UINT64_MAX : exchange->body.left;
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
		size_t payload = bytes[1] * 65536u + bytes[2] * 256u + bytes[3];
		size_t there = length - 4 < payload ? length - 4 : payload;
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
	static struct session session;
	size_t written = 0;

	session.taken = UINT64_MAX;
	frame_add(to, &written, 'O', &session, 0);
	while (length > 0) {
		size_t part = random_next(random, random_next(random, 8) ? 20 : 5000);

		part = part < length ? part : length;
		frame_add(to, &written, 'D', &session, part);
		memcpy(to + written, data, part);
		written += part;
		data += part;
		length -= part;
		if (random_next(random, 4) == 0)
			frame_add(to, &written, 'H', &session, 0);
	}
	frame_add(to, &written, "BE"[random_next(random, 2)], &session, 0);
	return written;
}

/* Reads the frames of an answer, and what is in them to the wire's other side; returns the last one's type, or what ended them. */
static int frames_take(struct exchange *exchange)
{
	static struct tunnel tunnel;
	int type;

	tunnel.down = 0;
	tunnel.fd = WIRE;
	wires[0].sent = 0;
	while ((type = frame_read(&tunnel, exchange)) > 0 && !strchr("BEX", type))
		continue;
	MUST(tunnel.down == wires[0].sent);
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
	MUST(wires[0].sent == length && memcmp(wires[0].data, bytes, length) == 0);

	for (size_t i = 0; i < length; i++)
		bytes[i] = (char)(bytes[i] == '0' ? '\0' : bytes[i]);
	bool right = frames_read((const unsigned char *)bytes, length, data, &found, &last);
	int type = frames_take(exchange_begin("X: y", bytes, length));
	MUST(last ? type == last : right ? type <= 0 : type == -1);
	MUST(wires[0].sent == found && memcmp(wires[0].data, data, found) == 0);
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

/* --- all of a part: a server, a client, a command line -------------------------------------------------------- */

/* Has all as the program finds it at its start. */
static void program_begin(void)
{
	static char opt_first[sizeof opt];
	static bool is_known;

	if (!is_known)
		memcpy(opt_first, &opt, sizeof opt);
	is_known = true;
	memcpy(&opt, opt_first, sizeof opt);
	handlers.child_count = 0;
	net_known.count = 0;
	file_content = NULL;
	target_bytes = target_start = 0;
	peers_close();
	allocated_free();
	wire_give(&wires[0], "", 0);
	wire_give(&wires[1], "", 0);
}

static struct worker listener, worker;

static void listener_answers(void)
{
	question_take(&listener);
}

/* A server with a worker, and no session. */
static void server_begin(const char *settings)
{
	static struct allowed allow[] = { { "*", "22" }, { "192.0.2.1", "80" } };
	static char accounts[] = "joe:secret\0";

	program_begin();
	opt.serve = true;
	opt.allow = allow;
	opt.allow_count = 2;
	opt.clients_max = 4;
	opt.tls_only = settings[0] % 8 == 1;
	opt.accounts = settings[0] % 8 == 2 ? accounts : NULL;
	opt.verbosity = settings[0] % 8 == 3;
	target_bytes = (unsigned char)settings[1] * 150u;
	if (!listener.board) {
		listener_begin(&listener, -1);
		worker = listener;
	}
	for (struct hold *kept = listener.kept; *kept->id; kept++) {
		hold_release(kept);
		*kept = (struct hold){ .session = NULL };
	}
	listener.board->sessions = 0;
	listener.board->used = 1;
}

static void client_run(void *client)
{
	serve_client(client);
}

/* Checks what a client has received: whole answers, and up to the last it knows how long each is. */
static void answers_check(const char *at, size_t left)
{
	const char *value;
	int length;

	while (left > 0) {
		size_t head = blank_line(at, left), body = 0;
		int status = http_status(at), lengths = field_count(at, "Content-Length", &value, &length);

		MUST(head > 0 && status >= 100 && status < 600);
		if (status == 200 && lengths == 0)
			return; /* a tunnel, or a stream */
		MUST(lengths == (status != 204 && status != 100));
		if (lengths == 1)
			body = strtoul(value, NULL, 10);
		MUST(head + body <= left || (head == left && status >= 400)); /* it may be to a HEAD */
		left -= head == left ? left : head + body;
		at += head + body;
	}
}

/* Serves a connection by which a client sends these bytes; what it receives is in client_data. */
static void connection_serve(const char *bytes, size_t length)
{
	static struct client client;
	int ends[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	MUST(send(ends[1], bytes, length, MSG_DONTWAIT) == (ssize_t)length);
	if (peer_count == 0)
		peer_count = 1;
	else
		close(peers[0].fd);
	peers[0] = (struct peer){ .fd = ends[1] };
	client.worker = &worker;
	client.socket = ends[0];
	client.address = "192.0.2.9:999";
	worker_rest(&worker, client.address);
	int status = exit_catch(client_run, &client);
	MUST(status == -1 || status == EX_OK);
	close(ends[0]);
	peers_drain();
	hold_release(&worker.hold);
	client_data[peers[0].received] = '\0';
	answers_check(client_data, peers[0].received);
}

/* Connections to a server, one after the other, with dividers between what their clients send. */
static void try_served(const char *bytes, size_t length)
{
	const char *next, *end = bytes + length;

	if (length < 2)
		return;
	server_begin(bytes);
	is_patterned = false;
	bytes += 2;
	for (int i = 0; bytes && i < 8; i++, bytes = next) {
		next = memmem(bytes, (size_t)(end - bytes), DIVIDER, strlen(DIVIDER));
		connection_serve(bytes, (size_t)((next ? next : end) - bytes));
		if (next)
			next += strlen(DIVIDER);
	}
}

/* A request of a session, or the same twice, as four bytes say; returns the length. What goes upstream is the pattern. */
static size_t step_compose(char *request, const unsigned char step[4], const char *method, const char *id,
                           const char *key, uint64_t offset)
{
	static unsigned sequence;
	bool is_put = strcmp(method, "PUT") == 0, is_get = *method == 'G';
	size_t body = is_put ? step[3] * 100u : strcmp(method, "POST") == 0 ? strlen("host:22") : 0;
	size_t length = (size_t)sprintf(request, "%s /%s", method, id);

	if (is_put || is_get)
		length += (size_t)sprintf(request + length, "/%" PRIu64, offset);
	if (is_get)
		length += (size_t)sprintf(request + length, step[0] % 6 == 3 ? "?%u" : "?%u&poll=%u", ++sequence,
		                          step[3] % 61u);
	length += (size_t)sprintf(request + length, "%s HTTP/1.1\r\nHost: x\r\nTunnel-Key: %s\r\n%s",
	                          is_put && step[1] & 128 ? "?end" : "", key,
	                          (step[1] & 14) == 12 ? "Expect: 100-continue\r\n" : "");
	length += (size_t)sprintf(request + length, "Content-Length: %zu\r\n\r\n", body);
	for (size_t i = 0; i < body; i++)
		request[length++] = (char)(is_put ? pattern(offset + i) : "host:22"[i]);
	if (!(step[1] & 64))
		return length;
	memcpy(request + length, request, length);
	return 2 * length;
}

/* In the frames that answer a GET, which there may be two of, is the pattern from that offset on. */
static void step_check(uint64_t offset)
{
	static char data[OUTPUT_MAX];
	size_t head = blank_line(client_data, peers[0].received), left = peers[0].received - head, found;
	const char *value;
	int length;
	char last;

	if (field_count(client_data, "Content-Length", &value, &length) == 1)
		left = strtoul(value, NULL, 10);
	MUST(frames_read((unsigned char *)client_data + head, left, data, &found, &last));
	for (size_t i = 0; i < found; i++)
		MUST(data[i] == pattern(offset + i));
}

/* Serves such a request. What a client may ask for it must get, or nothing is tried here. */
static void session_step(const unsigned char step[4])
{
	static const char *const ids[] = { ID, "ffffffffffffffffffffffffffffffff" };
	static const char *const methods[] = { "POST", "PUT", "PUT", "GET", "GET", "DELETE" }; /* from '0' on */
	static char request[60000];
	static uint64_t acknowledged[2];
	int number = step[1] & 1;
	const char *id = ids[number], *key = ids[(step[1] & 14) == 14], *method = methods[step[0] % 6];
	const struct hold *kept = kept_find(&listener, id);
	const struct session *session = kept ? kept->session : NULL;
	bool is_opened = !kept && step[0] % 6 == 0, is_get = *method == 'G';
	uint64_t known = !session ? 0 : is_get ? session->stop : session->taken;
	uint64_t away = (step[1] & 16 ? 100u : 1u) * step[2];
	uint64_t offset = step[1] & 32 ? known + away : known > away ? known - away : 0;
	bool is_there = is_get && session && strcmp(session->key, key) == 0 && offset >= acknowledged[number] && offset <= known;

	connection_serve(request, step_compose(request, step, method, id, key, offset));
	MUST(!is_opened || peer_count == PEERS_MAX || strstr(client_data, "HTTP/1.1 201 "));
	MUST(!is_there || strstr(client_data, "HTTP/1.1 200 "));
	if (is_there)
		acknowledged[number] = offset;
	if (is_opened)
		acknowledged[number] = target_start;
	if (is_opened && target_start > 0 && (kept = kept_find(&listener, id)) && kept->session) {
		kept->session->start = kept->session->rested = target_start; /* as after much that has gone before */
		kept->session->stop = kept->session->sent = target_start;
	}
	if (is_get && http_status(client_data) == 200)
		step_check(offset);
}

static void try_session(const char *bytes, size_t length)
{
	if (length < 2)
		return;
	server_begin(bytes);
	opt.accounts = NULL;
	is_patterned = true;
	target_start = bytes[0] & 16 ? KEPT_SIZE - 700 : 0; /* to have what is kept come to the end of its memory */
	for (size_t i = 2; i + 4 <= length && i < 400; i += 4) {
		session_step((const unsigned char *)bytes + i);
		clock_now += bytes[i] == 'T' ? 50 : 0;
		sessions_expire(&listener);
	}
}

static struct hop hops[2], relay;
static struct tunnel tunnel;
static struct exchange exchange;

static void client_begin(const char *settings)
{
	program_begin();
	memset(hops, 0, sizeof hops);
	memset(&relay, 0, sizeof relay);
	authority_parse(&hops[0].at, "proxy:3128", NULL);
	authority_parse(&hops[1].at, "[2001:db8::1]:80", NULL);
	authority_parse(&relay.at, "relay:80", NULL);
	authority_parse(&opt.destination, "host:22", NULL);
	relay.path = "/base";
	opt.hops = hops;
	opt.hop_count = (unsigned char)settings[0] % 3u;
	opt.verbosity = settings[1] % 4 - 2;
	if (settings[1] & 4)
		hops[0].credentials = (struct credentials){ "dom\\joe", "secret" };
}

static void exchange_fresh(void)
{
	memset(&exchange, 0, sizeof exchange);
	exchange.fd = -1;
	exchange.patience = SILENCE;
	exchange.carrier = &tunnel.receiver;
}

static void open_run(void *unused)
{
	(void)unused;
	session_open(&tunnel, &exchange);
}

static void receiver_act(void *unused)
{
	(void)unused;
	receiver_run(&tunnel, &exchange);
}

static void sender_act(void *unused)
{
	(void)unused;
	sender_run(&tunnel, &exchange);
}

/* What was sent upstream, of which each body must hold the pattern. */
static void requests_check(const char *at, size_t left)
{
	while (left > 0) {
		size_t head = blank_line(at, left);
		const char *id = strstr(at, "/" ID), *value;
		uint64_t offset = id ? strtoul(id + strlen("/" ID "/"), NULL, 10) : 0;
		int length;

		MUST(head > 0 && (strncmp(at, "PUT ", 4) == 0 || strncmp(at, "POST ", 5) == 0 ||
		                  strncmp(at, "DELETE ", 7) == 0 || strncmp(at, "CONNECT ", 8) == 0));
		size_t body = field_count(at, "Content-Length", &value, &length) == 1 ? strtoul(value, NULL, 10) : 0;
		MUST(head + body <= left);
		for (size_t i = 0; i < body; i++)
			MUST(at[head + i] == pattern(offset + i));
		at += head + body;
		left -= head + body;
	}
}

/* A client of a relay, or a process that carries its bytes, which gets these answers, whatever it asks. */
static void try_client(const char *bytes, size_t length, void act(void *))
{
	static char upstream[3000];
	int status = EX_TEMPFAIL;

	if (length < 3)
		return;
	client_begin(bytes);
	opt.relay = &relay;
	memset(&tunnel, 0, offsetof(struct tunnel, bytes));
	tunnel.fd = TUNNEL;
	tunnel.parent = getppid();
	tunnel.body_max = BODY_FIRST;
	tunnel.body_limit = BODY_MAX;
	tunnel.streams = 1;
	tunnel.poll_time = POLL_FIRST;
	tunnel.down_done = act == sender_act;
	strcpy(tunnel.id, ID);
	strcpy(tunnel.key, ID);
	for (size_t i = 0; i < sizeof upstream; i++)
		upstream[i] = pattern(i);
	wire_give_parts(&wires[0], bytes + 3, length - 3 < 8000 ? length - 3 : 8000);
	wire_give(&wires[1], upstream, (unsigned char)bytes[2] * 10u);
	wires[1].come = wires[1].length; /* or hardly any answer to a PUT would fit */
	for (int tries = 0; tries < 5 && status != -1 && status != EX_OK && status != EX_IOERR; tries++) {
		exchange_fresh();
		status = exit_catch(act, NULL);
		MUST(status == -1 || status == EX_OK || status == EX_IOERR || status == EX_TEMPFAIL ||
		     status == EX_UNAVAILABLE || status == EX_PROTOCOL || status == EX_NOPERM);
	}
	MUST((status == -1) <= (act == open_run));
	MUST(tunnel.down == wires[1].sent);
	if (act == sender_act) {
		wires[0].data[wires[0].sent] = '\0';
		requests_check(wires[0].data, wires[0].sent);
		MUST(status != EX_OK || tunnel.up == wires[1].length);
	}
}

static void route_run(void *openssl)
{
	MUST(route_open(openssl) == WIRE);
}

/* What proxies reply to CONNECT, and before a divider what ntlm_auth(1) says. The tunnel begins behind a blank line. */
static void try_connect(char *text)
{
	struct command openssl = { .pid = 0 };
	char *replies = strstr(text, DIVIDER);

	if (strlen(text) < 3 || !replies || replies < text + 3)
		return;
	client_begin(text);
	opt.hop_count += opt.hop_count == 0;
	hops[0].scheme = text[2] % 4 == 1 ? ntlm_scheme : text[2] % 4 == 2 ? negotiate_scheme : NULL;
	wire_give(&wires[1], text + 3, (size_t)(replies - text) - 2);
	replies += strlen(DIVIDER);
	wire_give_parts(&wires[0], replies, strlen(replies));
	int status = exit_catch(route_run, &openssl);
	MUST(status == -1 || status == EX_UNAVAILABLE || status == EX_PROTOCOL || status == EX_NOPERM);
	MUST(status != -1 || (wires[0].taken > 0 && wires[0].bytes[wires[0].taken - 1] == '\n'));
	wires[0].data[wires[0].sent] = '\0';
	MUST(strncmp(wires[0].data, "CONNECT ", wires[0].sent < 8 ? wires[0].sent : 8) == 0);
	MUST(lines_count(wires[0].data, "Proxy-Authorization:") <= lines_count(wires[0].data, "Host:"));
}

static void options_run(void *words)
{
	int count = 0;

	while (((char **)words)[count])
		count++;
	options(count, words);
}

/* A command line, a word a line; some lines are variables, and behind a divider stands the content of all files. */
static void try_line(char *text)
{
	static const char *const variables[] = {
		"https_proxy=", "all_proxy=", "http_proxy=", "no_proxy=", "PROXYUSER=", "PROXYPASS=",
		"REMPROXYUSER=", "REMPROXYPASS=", "RELAYUSER=", "RELAYPASS=",
	};
	enum { VARIABLES = sizeof variables / sizeof *variables };
	char *words[40] = { "proxytunnel" }, *variable[VARIABLES + 1] = { NULL }, **before = environ, *line;
	size_t count = 1, set = 0, i;

	program_begin();
	while (count < 39 && set < VARIABLES && (line = line_take(&text)) && strcmp(line, "----") != 0) {
		for (i = 0; i < VARIABLES && strncmp(line, variables[i], strlen(variables[i])) != 0;)
			i++;
		*(i < VARIABLES ? &variable[set++] : &words[count++]) = line;
	}
	file_content = text;
	environ = variable;
	is_mapped_for_one = true;
	int status = exit_catch(options_run, words);
	is_mapped_for_one = false;
	environ = before;
	MUST(status == -1 || status == EX_OK || status == EX_USAGE || status == EX_NOINPUT || status == EX_OSERR);
	for (i = 0; status == -1 && !opt.serve && i <= opt.hop_count; i++)
		MUST(*route_point(i)->host && !has_control(route_point(i)->text));
	for (i = 0; status == -1 && i < opt.hop_count; i++)
		for (const struct header *header = opt.hops[i].headers; header; header = header->next)
			MUST(!has_control(header->line) && strchr(header->line, ':'));
	MUST(status != -1 || (opt.clients_max >= 1 && opt.clients_max <= CLIENTS_MAX && opt.timeout <= TIMEOUT_MAX));
	if (opt.relay)
		memset(opt.relay, 0, sizeof *opt.relay);
}

static void passfile_run(void *found)
{
	passfile_read(found, "file");
}

static void accounts_run(void *accounts)
{
	*(char **)accounts = accounts_read("file");
}

/* A file of credentials, and one of accounts. */
static void try_files(const char *content)
{
	struct credentials found[3] = { { NULL, NULL } };
	char *accounts = NULL;

	program_begin();
	file_content = content;
	int status = exit_catch(passfile_run, found);
	bool is_some = false;
	for (int i = 0; i < 3; i++)
		is_some |= found[i].user || found[i].password;
	MUST(status == EX_NOINPUT || (status == -1 && is_some));
	status = exit_catch(accounts_run, &accounts);
	MUST(status == EX_NOINPUT || (status == -1 && *accounts));
	for (; accounts && *accounts; accounts += strlen(accounts) + 1)
		MUST(strchr(accounts, ':') && !strchr(accounts, '\n'));
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
	switch ((*data + 26 * TRIES - 'a') % TRIES) {
	case 0: try_heads(text, size - 1); break;
	case 1: try_text(text); break;
	case 2: try_proxy(text); break;
	case 3: try_no_proxy(text); break;
	case 4: try_files(text); break;
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
	case 16: try_served(text, size - 1); break;
	case 17: try_session(text, size - 1); break;
	case 18: try_client(text, size - 1, open_run); break;
	case 19: try_client(text, size - 1, receiver_act); break;
	case 20: try_client(text, size - 1, sender_act); break;
	case 21: try_connect(text); break;
	case 22: try_line(text); break;
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
	"\n----\n", "HTTP/1.1 201 \nTunnel-Relay: 2\nContent-Length: 0\n\n", "HTTP/1.1 200 \nTunnel-Relay: 2\n",
	"Content-Length: 2\n\n10", "HTTP/1.1 407 no\nProxy-Authenticate: NTLM ab\nContent-Length: 0\n\n",
	"Proxy-Authenticate: Negotiate\n", "YR abc\n", "PW\n", "KK def\n", "AF ghi\n", "OK\n", "BH no\n", "host:22",
	"-p\n", "-r\n", "-d\n", "-H\n", "-P\n", "-F\n", "-a\n", "-X\n", "-w", "-v\n", "--relay=", "--serve\n", "--allow=", "proxy:3128\n",
	"host:22\n", "X: y\n", "joe:secret\n", "https_proxy=", "no_proxy=", "PROXYPASS=", "relay_password = ", "-x\n", "-X\nconnect\n",
	"PROXY:", ",proxyport=", "%h", "--proxy-command=", "POST /" ID " HTTP/1.1\r\nHost: x\r\nTunnel-Key: " ID "\r\nContent-Length: 7\r\n\r\nhost:22",
	"O00\x01" "7", "D00\x05hello", "D00\x1f", "H000", "E000", "B000", "X00\x03" "bad",
};

/* An input of tokens, and now and then of a token that does not end. */
static size_t input_compose(uint8_t *input, uint32_t *random)
{
	size_t length = 1, count = random_next(random, 24);

	*input = (uint8_t)('a' + random_next(random, TRIES));
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
