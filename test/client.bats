#!/usr/bin/env bats
# --relay: what the client makes of each answer, of a relay or of what stands in its place; every near end, and every way.

load helper
load relay

HASTY=${HASTY:-$ROOT/test/bin/hasty}

NAMED=${NAMED:-$ROOT/test/bin/named}

OK='HTTP/1.1 200 OK\r\n\r\n'	# to a CONNECT

# What a relay says; offset N is its answer to a PUT.
MARK='Tunnel-Relay: 2\r\n'
STANDS="HTTP/1.1 201 Created\r\n${MARK}Content-Length: 0\r\n\r\n"
STREAM="HTTP/1.1 200 OK\r\n${MARK}Connection: close\r\n\r\nO\0\0\x010"
END='E\0\0\0'
CLOSED="HTTP/1.1 204 No Content\r\n$MARK\r\n"

offset() {
	printf %s "HTTP/1.1 200 OK\r\n${MARK}Content-Length: ${#1}\r\n\r\n$1"
}

# says STATUS [FIELD...]: an answer of the relay; unmarked STATUS [FIELD...]: of something on the way. Each with a body.
says() {
	unmarked "$1" 'Tunnel-Relay: 2' "${@:2}"
}

unmarked() {
	local status=$1 fields=

	shift
	[ $# -eq 0 ] || fields=$(printf '%s\\r\\n' "$@")
	printf %s "HTTP/1.1 $status\r\nContent-Length: 5\r\n$fields\r\nwords"
}

setup_file() {
	servers_begin
	certificates_make
	start_proxytunnel --allow '127.0.0.1:*' --allow 'localhost:*'
	export RELAY=$PORT RELAY_LOG=$SERVER_DIR/log
	start_stunnel localhost "$RELAY"
	export TLS_RELAY=$PORT
	start_stunnel elsewhere "$RELAY"
	export ELSEWHERE=$PORT
	start_stunnel localhost "$RELAY" ca
	export DEMANDING=$PORT
	start_tinyproxy
	export TINYPROXY=$PORT
	start_stunnel localhost "$TINYPROXY"
	export TLS_TINYPROXY=$PORT
	start_tinyproxy one:first
	export FIRST=$PORT
	start_squid two:second
	export SQUID=$PORT
	start_sshd
	export SSHD=$PORT
	start_stunnel localhost "$SSHD"
	export TLS_SSHD=$PORT
}

teardown_file() {
	servers_end
}

setup() {
	test_begin
	unset RELAYUSER RELAYPASS
	export SHELL=/bin/sh	# as whoever runs this may have one that starts slowly, or reads files
	CA=(-C "$TLS_DIR/ca.crt")
	route_to "$RELAY"
	LOGGED=$(wc -l <"$RELAY_LOG")
}

# start_relay STEP...: a peer that opens a session to host:22, and then goes on as STEP... say.
start_relay() {
	start_peer relay accept 'log open' 'expect POST /t/' head 'expect host:22' "send $STANDS" "$@"
}

# Instead of the helper's: to host:22 by the relay that was started last.
tunnel() {
	program --relay "http://127.0.0.1:$PORT/t" -d host:22 "$@"
}

# between STEP... [-- OPTION...]: the same between the pipes of a peer; its stderr is in err.
between() {
	local steps=()

	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		steps+=("$1")
		shift
	done
	drive_command "${steps[@]}" -- "$PROXYTUNNEL" --relay "http://127.0.0.1:$PORT/t" -d host:22 "${@:2}"
}

# --- the answer to the first request -------------------------------------------------------

# fails STATUS WORDS STEP...: that answer opens no session; one line says WORDS.
fails() {
	local want=$1 words=$2

	shift 2
	echo "$*"
	start_peer relay accept head 'expect host:22' "$@"
	tunnel -w 5 </dev/null
	status_is "$want"
	out_is ''
	err_one_line
	err_has "127.0.0.1:$PORT: $words"
	finished relay
}

@test "each refusal of the relay is told as the relay's, with its status" {
	local status

	for status in 401 403 405 501; do
		fails 77 "host:22 refused by the relay: $status For a reason" "send $(says "$status For a reason")" gone
	done
	for status in 400 404 409 410 411 416 422 429 500 502 503 504; do
		fails 69 "host:22 refused by the relay: $status For a reason" "send $(says "$status For a reason")" gone
	done
	fails 77 'host:22 refused by the relay: 401 Who (try relay_user' "send $(says '401 Who')" gone
}

@test "each refusal on the way is told as not the relay's, with its status" {
	local status

	for status in 401 403 405 407 501; do
		fails 77 "POST for host:22 refused, not by the relay: $status For a reason" "send $(unmarked "$status For a reason")" gone
	done
	for status in 400 404 409 410 413 416 422 429 500 502 503 504; do
		fails 69 "POST for host:22 refused, not by the relay: $status For a reason" "send $(unmarked "$status For a reason")" gone
	done
}

@test "a redirect is told with where it leads to, and not followed: 69" {
	start_peer elsewhere accept 'expect the test itself' close
	fails 69 'POST for host:22 refused, not by the relay: 302 Found (it points to http://127.0.0.1:' \
		"send $(unmarked '302 Found' "Location: http://127.0.0.1:$PORT/")" gone
	printf 'the test itself' >"/dev/tcp/127.0.0.1/${PORTS[elsewhere]}"
	finished elsewhere
}

@test "an answer of success without the relay's mark says that there is no relay: 76" {
	local status

	for status in '200 OK' '201 Created' '204 None' 200; do
		fails 76 "what answers there is no relay: $status" "send $(unmarked "$status")" gone
	done
	fails 76 'what answers there is no relay: 200 OK' "send $(unmarked '200 OK' 'Tunnel-Relay: 3')" gone
	fails 76 'what answers there is no relay: 200 OK' "send $(unmarked '200 OK' 'X-Tunnel-Relay: 2')" gone
}

@test "a relay of an older version is told from none, and one of this version tells it to an older client: 76" {
	fails 76 'a relay of 2.0 or older, which wants a client of its age: 201 Created' "send $(unmarked '201 Created' 'Tunnel-Relay: 1')" gone
	program -v "${ROUTE[@]}" -d "127.0.0.1:$SSHD" </dev/null
	err_has '< HTTP/1.1 201 Created by a relay of 2.1, which wants a client of 2.1'
}

@test "what is no HTTP, a head that holds a NUL or is too large: 76" {
	local answer

	for answer in 'SSH-2.0-far\r\n' 'HTTP/2 201\r\n\r\n' 'HTTP/1.1 2x1 OK\r\n\r\n' 'HTTP/1.1 201\0\r\n\r\n'; do
		fails 76 'POST for host:22: ' "send $answer" close
	done
	fails 76 'POST for host:22: ' 'send HTTP/1.1 201 Created\r\n' 'repeat forever X: 123456\r\n'
}

@test "-v shows what a refusal has in its body; what is not printable is escaped" {
	start_peer relay accept head 'expect host:22' 'send HTTP/1.1 403 No\x1b[2J\r\n\r\nask \x9badmin\r\n' close
	tunnel -v </dev/null
	status_is 77
	err_has 'not by the relay: 403 No\x1b[2J'
	err_has '| ask \x9badmin'
	! grep '[^[:print:]]' err || false
	finished relay
}

@test "a connection that is closed or reset without an answer is tried again, five times in all: 69" {
	local way

	for way in close reset; do
		start_peer relay accept head $way accept head $way accept head $way accept head $way accept 'expect POST ' head $way
		tunnel -w 9 </dev/null
		status_is 69
		err_one_line
		err_has "127.0.0.1:$PORT: POST for host:22: "
		finished relay
	done
}

@test "an answer that is cut within its head is asked for again, five times in all: 76" {
	local cut=("send ${STANDS%\\r\\n}" close)

	start_peer relay accept head "${cut[@]}" accept head 'send HTTP/1.1 20' reset accept head "${cut[@]}" accept head "${cut[@]}" \
		accept 'expect POST ' head 'expect host:22' "${cut[@]}"
	tunnel -w 9 </dev/null
	status_is 76
	err_one_line
	err_has "127.0.0.1:$PORT: POST for host:22: the connection was closed within an answer"
	finished relay
}

@test "the first tries may fail, and their bodies may not be read: the session stands none the less" {
	start_peer relay accept head reset accept head close accept 'expect POST ' head 'expect host:22' "send $(says '200 OK')" gone \
		accept 'expect GET ' head "send ${STREAM}D\0\0\x03far$END" close accept 'expect PUT ' head "send $(offset 0)" \
		'expect DELETE ' head "send $CLOSED" gone
	between 'expect far' eof half-close 'status 0'
	err_empty
	finished relay
}

@test "silence is told when the time is up, and what was waited for: 75" {
	start_peer relay accept head 'expect host:22' gone
	tunnel -w 1 </dev/null
	status_is 75
	err_one_line
	err_has "127.0.0.1:$PORT: no answer to POST for host:22 within 1 s"
	finished relay
	start_peer relay accept 'trickle 50 forever HTTP/1.1 100 Continue\r\n\r\n'
	tunnel -w 1 </dev/null
	status_is 75
	err_one_line
	finished relay
}

@test "a relay that cannot be reached: 69; one whose name does not resolve: 68" {
	free_port
	tunnel </dev/null
	status_is 69
	err_one_line
	err_has "127.0.0.1:$PORT: cannot connect"
	program --relay http://no-such-relay.invalid/t -d host:22 </dev/null
	status_is 68
	err_one_line
	err_has no-such-relay.invalid
}

@test "-qq says none of it" {
	local answer

	for answer in "$(says '403 No')" "$(unmarked '502 No')" "$(unmarked '200 OK')" 'SSH-2.0-far\r\n'; do
		start_peer relay accept head 'expect host:22' "send $answer" gone
		tunnel -qq </dev/null
		[ "$status" -ne 0 ]
		err_empty
		finished relay
	done
	start_relay accept 'expect GET ' head "send $(says '410 Gone')" gone accept 'expect DELETE ' head "send $CLOSED" gone
	between eof 'status 74' -- -qq
	err_empty
	finished relay
}

@test "a refusal leaves stdin unread, for whoever comes next" {
	printf 'for the next one\n' >input
	start_peer relay accept head 'expect host:22' "send $(says '403 No')" gone
	{
		tunnel
		cat >rest
	} <input
	status_is 77
	cmp input rest
}

# --- what comes down -------------------------------------------------------------------------

@test "frames are taken whatever the segments, and whatever stands before: heads and frames by single bytes, 1xx, chunks" {
	local frames="O\0\0\x010H\0\0\0D\0\0\x02abD\0\0\0D\0\0\x01cH\0\0\x02hiD\0\0\x04\0\xff\r\n$END"
	local chunked="HTTP/1.1 200 OK\r\n${MARK}Transfer-Encoding: chunked\r\n\r\n" way

	for way in "trickle 1 1 HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n$MARK\r\n$frames" \
		"send HTTP/1.0 200 OK\n${MARK/\\r/}\n$frames" \
		"send HTTP/1.1 200\r\nContent-Length: 42\r\n$MARK\r\n$frames" \
		"send ${chunked}00e\r\nO\0\0\x010H\0\0\0D\0\0\x02a\r\n1 ; ext=\"x\"\r\nb\r\n1B;x\r\nD\0\0\0D\0\0\x01cH\0\0\x02hiD\0\0\x04\0\xff\r\n$END\r\n0\r\nTrailer: x\r\n\r\n" \
		"trickle 1 1 ${chunked}2a\r\n$frames"; do
		echo "$way"
		start_relay accept 'expect GET ' head "$way" close accept 'expect PUT ' head 'expect up' "send $(offset 2)" \
			'expect PUT ' head "send $(offset 2)" 'expect DELETE ' head "send $CLOSED" gone
		between 'expect abc\0\xff\r\n' eof 'send up' 'pause 100' half-close 'status 0'
		err_empty
		finished relay
	done
}

@test "chunks of a single byte, each in its segment, carry a stream exactly" {
	local chunks

	chunks=$(printf '1\\r\\n\\x%02x\\r\\n' $(printf 'D\0\001\054%0300d' 0 | od -An -v -tu1))
	start_relay accept 'expect GET ' head "send HTTP/1.1 200 OK\r\n${MARK}Transfer-Encoding: chunked\r\n\r\n" \
		"trickle 0 1 5\r\nO\0\0\x010\r\n${chunks}4\r\n$END" close accept 'expect PUT ' head "send $(offset 0)" \
		'expect DELETE ' head "send $CLOSED" gone
	between "expect $(printf '%0300d' 0)" eof half-close 'status 0'
	err_empty
	finished relay
}

# again STEP...: a stream that breaks off so behind "abc", its third byte, is asked for again from there, and nothing is said.
again() {
	echo "$*"
	start_relay accept 'expect GET ' 'log get1' head "$@" accept 'log get2' 'expect GET ' head "send ${STREAM}D\0\0\x03def$END" close \
		accept 'expect PUT ' head "send $(offset 0)" 'expect DELETE ' head "send $CLOSED" gone
	between 'expect abcdef' eof half-close 'status 0'
	finished relay
	err_empty
	[[ $(head -n 1 get2) == "GET /t/"*/3\?2\ HTTP/1.1? ]]
}

@test "a stream that is cut anywhere, in order or not, is asked for again from the next byte on" {
	local cut

	for cut in '' D 'D\0\0' 'D\0\0\x03' 'H\0' 'B\0\0' 'E\0\0' 'X\0\0\x03ba'; do
		again "send ${STREAM}D\0\0\x02abD\0\0\x01c$cut" close
	done
	again "send ${STREAM}D\0\0\x04abc" close
	again "send ${STREAM}D\0\0\x03abcB\0\0\0" gone
	again "send ${STREAM}D\0\0\x03abc" 'pause 100' reset
	again "send HTTP/1.1 200 OK\r\n${MARK}Transfer-Encoding: chunked\r\n\r\nc\r\nO\0\0\x010D\0\0\x03abc\r\n0\r\n\r\n" close
	again "send HTTP/1.1 200 OK\r\n${MARK}Transfer-Encoding: chunked\r\n\r\nff\r\nO\0\0\x010D\0\0\x03abc" close
	again "send HTTP/1.1 200 OK\r\n${MARK}Content-Length: 12\r\n\r\nO\0\0\x010D\0\0\x03abc" close
	again "send HTTP/1.1 200 OK\r\n${MARK}Content-Length: 99\r\n\r\nO\0\0\x010D\0\0\x03abc" close
}

# breaks WORDS STEP...: that answers the first GET, and breaks the tunnel behind "abc", which is delivered; one line says WORDS.
breaks() {
	local words=$1

	shift
	echo "$*"
	start_relay accept 'expect GET ' head "send ${STREAM}D\0\0\x03abcB\0\0\0" close accept 'expect GET ' head "$@" \
		accept 'expect DELETE ' head "send $CLOSED" gone
	between 'expect abc' eof 'status 74 5000'
	err_one_line
	err_has "127.0.0.1:$PORT: the tunnel to host:22 broke"
	err_has "$words"
	finished relay
}

@test "an error frame breaks the tunnel, is told in the relay's words, escaped: 74" {
	breaks 'the relay says: Connection reset by peer' "send ${STREAM}X\0\0\x18Connection reset by peer" gone
	breaks 'the relay says: a\x1b[2Jb' "send ${STREAM}X\0\0\x08a\x1b[2Jb\0c" gone
	breaks 'the relay says: ' "send ${STREAM}X\0\0\0" gone
	breaks "the relay says: $(printf '%0100d' 0)" "send ${STREAM}X\0\x10\0$(printf '%04096d' 0)" gone
}

@test "bytes in one segment with an error frame are delivered too, before it breaks the tunnel: 74" {
	start_relay accept 'expect GET ' head "send ${STREAM}D\0\0\x03abcX\0\0\x03odd" gone accept 'expect DELETE ' head "send $CLOSED" gone
	between 'expect abc' eof 'status 74'
	err_one_line
	err_has 'the relay says: odd'
	finished relay
}

@test "in mid session, what the relay says that is final breaks the tunnel at once, with its words: 74" {
	local status

	for status in 401 403 410 416 422; do
		breaks "the relay answered GET with $status For a reason" "send $(says "$status For a reason")" gone
	done
	breaks 'the relay answered GET with 410' "send $(says 410)" gone
}

@test "in mid session, a proxy that wants credentials breaks the tunnel, and is not the relay: 74" {
	breaks 'GET refused on the way: 407 Who' "send $(unmarked '407 Who' 'Proxy-Authenticate: Basic realm=x')" gone
}

@test "in mid session, what is not the relay's is known by its head, though its body goes on without end" {
	start_peer relay accept head 'expect host:22' "send $STANDS" accept 'expect GET ' head 'send HTTP/1.1 200 OK\r\n\r\n' \
		'trickle 100 forever x &' accept 'expect GET ' head "send ${STREAM}D\0\0\x03abc" hold
	between 'expect abc' 'signal TERM' 'status 143'
	ours_end
}

@test "in mid session, any other answer to a GET is no end: it is asked for again, and nothing is said" {
	local answer

	for answer in "$(says '409 Later')" "$(says '500 Why')" "$(says '503 Why')" "$(unmarked '200 OK')" "$(unmarked '302 Found')" \
		"$(unmarked '401 Who')" "$(unmarked '403 No')" "$(unmarked '404 No')" "$(unmarked '410 No')" "$(unmarked '416 No')" \
		"$(unmarked '422 No')" "$(unmarked '502 No')" "$(unmarked '504 No')" 'SSH-2.0-far\r\n' 'HTTP/1.1 200 OK\r\nTunnel-Re'; do
		echo "$answer"
		start_relay accept 'expect GET ' head "send ${STREAM}D\0\0\x03abcB\0\0\0" close accept 'expect GET ' head "send $answer" close \
			accept 'expect GET ' head "send ${STREAM}D\0\0\x03def$END" close \
			accept 'expect PUT ' head "send $(offset 0)" 'expect DELETE ' head "send $CLOSED" gone
		between 'expect abcdef' eof half-close 'status 0'
		err_empty
		finished relay
	done
}

@test "frames and chunks that are none are no end either, and not a byte of them is delivered" {
	local rest

	for rest in 'F\0\0\x01x' '\0\0\0\0' '<html>' 'd\0\0\x01x' '\xff\xff\xff\xff'; do
		again "send ${STREAM}D\0\0\x03abc$rest" gone
	done
	for rest in 'fffffffffffffffff\r\n' 'ffffffffffffffff\r\n' '-1\r\n' 'x\r\n' '\r\n'; do
		again "send HTTP/1.1 200 OK\r\n${MARK}Transfer-Encoding: chunked\r\n\r\nc\r\nO\0\0\x010D\0\0\x03abc\r\n$rest" gone
	done
	again "send HTTP/1.1 200 OK\r\n${MARK}Transfer-Encoding: chunked\r\n\r\nc\r\nO\0\0\x010D\0\0\x03abcD\0\0\x01z" gone
}

# --- what goes up -----------------------------------------------------------------------------

# A stream that stands beside what follows, and has brought "go".
GOES=(accept 'expect GET ' head "send ${STREAM}D\0\0\x02go" 'hold &')

# rejects WORDS STEP...: that answers the first PUT, of "up", and breaks the tunnel; one line says WORDS.
rejects() {
	local words=$1

	shift
	echo "$*"
	start_relay "${GOES[@]}" accept 'expect PUT ' head 'expect up' "$@" \
		accept 'expect DELETE ' head "send $CLOSED" gone
	between 'expect go' 'send up' eof 'status 74 5000'
	err_one_line
	err_has "127.0.0.1:$PORT: the tunnel to host:22 broke"
	err_has "$words"
	finished relay
}

@test "a PUT that gets the relay's last word breaks the tunnel: 74" {
	local status

	for status in 401 403 410 416; do
		rejects "the relay answered PUT with $status For a reason" "send $(says "$status For a reason")" gone
	done
	rejects 'PUT refused on the way: 407 Who' "send $(unmarked '407 Who' 'Proxy-Authenticate: Basic realm=x')" gone
}

@test "a PUT that the relay answers with an offset that cannot be breaks the tunnel: 74" {
	local wrong

	for wrong in 3 18446744073709551; do
		rejects 'wrong offset' "send $(offset $wrong)" gone
	done
}

@test "any other answer to a PUT is no end: it is sent again, and nothing is said" {
	local answer

	for answer in "$(offset '')" "$(offset x)" "$(offset -1)" "$(offset 2x)" "$(offset ' 2')" "$(offset 9223372036854775808)" "$(offset 18446744073709551616)" \
		"$(offset 18446744073709551618)" "$(offset 99999999999999999999999999)" "$(offset 0)" "$(says '409 Later')" "$(says '500 Why')" \
		"$(says '503 Why')" "$(unmarked '200 OK')" "$(unmarked '204 OK')" "$(unmarked '302 Found')" "$(unmarked '401 Who')" "$(unmarked '404 No')" \
		"$(unmarked '410 No')" "$(unmarked '422 No')" "$(unmarked '502 No')" 'SSH-2.0-far\r\n' "HTTP/1.1 200 OK\r\n${MARK}Content-Length: 2\r\n\r\n1"; do
		echo "$answer"
		start_relay "${GOES[@]}" accept 'expect PUT ' 'log put1' head 'expect up' "send $answer" close \
			accept 'expect PUT ' 'log put2' head 'expect up' 'touch again' "send $(offset 2)" 'expect PUT ' 'log put3' head 'expect more' "send $(offset 6)" 'touch over' \
			'expect PUT ' head "send $(offset 6)" 'expect DELETE ' head "send $CLOSED" gone
		between 'expect go' 'send up' 'await again' 'send more' 'await over' close 'status 74'
		finished relay
		err_empty
		[[ $(head -n 1 put1) == "/t/"*/0\ HTTP/1.1? ]]
		[[ $(head -n 1 put2) == "/t/"*/0\ HTTP/1.1? ]]
		[[ $(head -n 1 put3) == "/t/"*/2\ HTTP/1.1? ]]
		rm again over
	done
}

@test "the answers to POST, PUT and DELETE are taken byte by byte, behind 1xx, in chunks, up to the end of the connection" {
	local first='HTTP/1.1 100 Continue\r\n\r\n'
	local chunked="HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n$MARK\r\n1\r\n2\r\n0\r\n\r\n" rest="HTTP/1.0 200 OK\r\n$MARK\r\n2"

	start_peer relay accept head 'expect host:22' "trickle 1 1 $first$STANDS" "${GOES[@]}" \
		accept 'expect PUT ' head 'expect up' "trickle 1 1 $first$chunked" \
		'expect PUT ' head "send $rest" close accept 'expect DELETE ' head "trickle 1 1 $first$CLOSED" gone
	between 'expect go' 'send up' 'pause 300' close 'status 74'
	await ours_gone
	finished relay
	err_empty
	start_peer relay accept head 'expect host:22' "send HTTP/1.0 200 OK\n${MARK/\\r/}\nit stands" "${GOES[@]}" \
		accept 'expect PUT ' head 'expect up' "send $rest" close accept 'expect PUT ' head "send $chunked" 'expect DELETE ' head "send $(says '410 Gone')" gone
	between 'expect go' 'send up' 'pause 300' close 'status 74'
	await ours_gone
	finished relay
	err_empty
}

# The last body is more than the sockets on its way hold. Bodies are doubled as long as each is answered within a second, which
# beside other load one of some goes is.
@test "a 1xx that comes while a body is still sent ends nothing: the rest of the body follows, and then the answer counts" {
	local go size at=1 puts=() patterns=()

	for size in 64 128 256 512 1024 2048; do
		at=$((at + size * 1024))
		puts+=('expect PUT ' head "check ${size}K $size" 'pause 200' "send $(offset $at)")
		patterns+=("pattern ${size}K $size")
	done
	for go in 1 2 3 4 5; do
		rm -f first over
		start_peer relay -r 65536 accept 'log open' head 'expect host:22' "send $STANDS" "${GOES[@]}" accept 'expect PUT ' head 'expect a' \
			'touch first' 'pause 200' "send $(offset 1)" "${puts[@]}" 'expect PUT ' head 'pause 200' 'send HTTP/1.1 102 Processing\r\n\r\n' \
			'pause 200' 'check 4M 1' "send $(offset $((at + 4194304)))" 'touch over' hold
		start_between near -t 15 'expect go' 'send a' 'await first' "${patterns[@]}" 'pattern 4M 1' 'await over' close 'status 74'
		if finished near; then go=over; fi
		ours_end
		stop relay
		[ "$go" != over ] || return 0
	done
	return 1
}

# --- a relay that means no good ---------------------------------------------------------------------

# start_between NAME STEP... [-- OPTION...]: as between, beside the test; its stderr is in NAME.err.
start_between() {
	local name=$1 steps=()

	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		steps+=("$1")
		shift
	done
	start "$name" "$PEER" "${steps[@]}" -- "$PROXYTUNNEL" --relay "http://127.0.0.1:$PORT/t" -d host:22 "${@:2}"
}

# The processes of the program that this test has.
ours() {
	local pid

	for pid in $(strays); do
		[ "$(readlink "/proc/$pid/exe")" != "$(realpath "$PROXYTUNNEL")" ] || echo "$pid"
	done
}

# The one that speaks with the relay: its parent is the program too, and the parent of that is not.
pump() {
	local pid all parent

	all=" $(ours | tr '\n' ' ') "
	for pid in $all; do
		parent=$(parent_of "$pid")
		[[ $all != *" ${parent:-none} "* || $all == *" $(parent_of "$parent") "* ]] || echo "$pid"
	done
}

# Nothing, if it has just ended.
parent_of() {
	awk '/^PPid/ { print $2 }' "/proc/$1/status" 2>/dev/null || true
}

ours_are() {
	[ "$(ours | wc -l)" -eq "$1" ]
}

# hold_less KIB: none of them has ever held so much memory.
hold_less() {
	local pid held

	[ -z "$SANITIZED" ] || return 0
	for pid in $(ours); do
		# One that has just ended holds nothing.
		held=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" || true)
		echo "$pid held $held KiB"
		[ "${held:-0}" -lt "$1" ]
	done
}

# Ends them all, whatever they have left to do.
ours_end() {
	local pid

	# One of them may end by the end of another.
	for pid in $(ours); do
		kill -KILL "$pid" || true
	done
}

# How much CPU they have used, in hundredths of a second.
used() {
	local pid ticks=0

	for pid in $(ours); do
		ticks=$((ticks + $(awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$pid/stat")))
	done
	echo "$ticks"
}

# do_nothing: in half a second they use next to no CPU.
do_nothing() {
	local before

	before=$(used)
	sleep 0.5
	[ $(($(used) - before)) -le 3 ]
}

@test "an answer without an end to the first request meets a limit: 76, little memory used" {
	local memory='peak 4M'

	[ -z "$SANITIZED" ] || memory='pause 0'
	for part in 'X: 1234567\r\n' X; do
		start_peer relay accept head 'expect host:22' 'send HTTP/1.1 201 Created\r\n' "repeat forever $part"
		between eof 'status 76 5000' "$memory"
		err_one_line
		finished relay
	done
	start_peer relay accept head 'expect host:22' 'repeat forever HTTP/1.1 100 Continue\r\n\r\n'
	between eof 'status 76 5000' "$memory"
	err_one_line
	finished relay
}

@test "a frame without an end, or of the largest length, a chunk of the largest size, a head without an end: little memory used" {
	start_relay accept 'expect GET ' head "send ${STREAM}H\xff\xff\xff" 'repeat 16777215 h' "send D\0\0\x03abcO\xff\xff\xff" \
		'repeat 16777215 h' "send D\0\0\x03defX\xff\xff\xff" 'touch long' 'repeat forever x'
	start_between near 'expect abcdef' 'await checked' close 'status 74'
	await test -e long
	sleep 0.1
	hold_less 6000
	touch checked
	finished near
	ours_end
	finished relay
	rm long checked
	start_relay accept 'expect GET ' head 'send HTTP/1.1 200 OK\r\n' 'repeat forever X: 12345\r\n' \
		accept 'expect GET ' head "send HTTP/1.1 200 OK\r\n${MARK}Transfer-Encoding: chunked\r\n\r\n" 'repeat forever 1' \
		accept 'expect GET ' head "send HTTP/1.1 200 OK\r\n${MARK}Transfer-Encoding: chunked\r\n\r\n1" 'repeat forever ;' \
		accept 'expect GET ' head "send HTTP/1.1 200 OK\r\n${MARK}Transfer-Encoding: chunked\r\n\r\n0\r\n" 'repeat forever x' \
		accept 'expect GET ' head "send HTTP/1.1 200 OK\r\n${MARK}Transfer-Encoding: chunked\r\n\r\nffffffffffffff\r\nO\0\0\x010D\0\0\x03abcD\xff\xff\xff" \
		'touch long' 'repeat forever d'
	start_between near 'expect abcddd' 'await checked' close 'status 74'
	await test -e long
	sleep 0.1
	hold_less 6000
	touch checked
	finished near
	ours_end
}

@test "bytes without an end, while nobody reads them, are left in the network: little memory used, and no CPU" {
	start_relay accept 'expect GET ' head "send $STREAM" "repeat forever D\0\x04\0$(printf '%01024d' 0)"
	start_between near 'await checked' "expect $(printf '%01024d' 0)" close 'status 74'
	await ours_are 4
	sleep 0.5
	do_nothing
	hold_less 6000
	touch checked
	finished near
	ours_end
}

@test "a relay that resets the stream while nobody reads its bytes makes next to no work" {
	start_relay accept 'expect GET ' head "send ${STREAM}D\x0e\x10\0" 'pattern 900K' 'pause 300' reset 'touch cut' \
		accept head 'await checked'
	start_between near -s pty 'await checked' 'check 256K'
	await test -e cut
	sleep 0.3
	do_nothing
	touch checked
	finished near
	ours_end
}

@test "a relay that takes no bytes: little more than 8 MiB are held, no CPU is used, and SIGTERM is obeyed" {
	start_relay "${GOES[@]}" accept 'expect PUT ' head 'touch stuck' hold
	start_between near 'expect go' 'repeat forever x &' 'await checked' 'signal TERM' 'status 143'
	await test -e stuck
	sleep 0.5
	do_nothing
	hold_less 14000
	touch checked
	finished near
	ours_end
}

@test "standing idle it is not woken once in 2 s" {
	local before

	start_relay accept 'expect GET ' head "send ${STREAM}D\0\0\x02go" hold
	start near "$PEER" 'expect go' 'touch up' hold -- strace -f -D -qq -o calls "$PROXYTUNNEL" --relay "http://127.0.0.1:$PORT/t" -d host:22
	await test -e up
	sleep 0.2
	before=$(stat -c %s calls)
	sleep 2
	[ "$(stat -c %s calls)" -eq "$before" ]
	ours_end
}

# --- which connection the next request takes ---------------------------------------------------------

@test "a connection that idled for less than 3 s takes the next request, one that idled for longer does not" {
	start_relay "${GOES[@]}" accept 'expect PUT ' head 'expect a' "send $(offset 1)" 'touch a' \
		'expect PUT ' head 'expect b' "send $(offset 2)" 'touch b' gone \
		accept 'expect PUT ' head 'expect c' "send $(offset 3)" 'touch c' hold
	start_between near 'expect go' 'send a' 'await a' 'pause 1000' 'send b' 'await b' 'pause 4000' 'send c' 'await c' close 'status 74'
	finished near
	ours_end
	finished relay
}

@test "a connection on which a PUT was refused on the way takes no request any more: the POST in its place comes on another" {
	local refusal

	for refusal in '403 Forbidden' '405 Method Not Allowed' '501 Not Implemented'; do
		echo "$refusal"
		start_relay "${GOES[@]}" accept 'expect PUT ' head 'expect up' "send $(unmarked "$refusal" 'Connection: keep-alive')" gone \
			accept 'expect POST ' head 'expect up' "send $(offset 2)" 'touch over' hold
		start_between near 'expect go' 'send up' 'await over' close 'status 74'
		finished near
		ours_end
		finished relay
		rm over
	done
}

# So much is sent before the first PUT is answered that the next has a full body.
@test "a connection on which a body was too large takes no request any more: half of it comes on another" {
	start_relay "${GOES[@]}" accept 'expect PUT ' head 'expect a' 'touch first' 'await sent' "send $(offset 1)" \
		'expect PUT ' 'log large' head 'check 64K 1' "send $(unmarked '413 Too Large' 'Connection: keep-alive')" gone \
		accept 'expect PUT ' 'log small' head 'check 32K 1' "send $(offset 32769)" 'touch over' hold
	start_between near 'expect go' 'send a' 'await first' 'pattern 128K 1' 'touch sent' 'await over' close 'status 74'
	finished near
	ours_end
	finished relay
	grep -qa $'^Content-Length: 65536\r$' large
	grep -qa $'^Content-Length: 32768\r$' small
}

# A clock 20 times as fast: 40 s are 2, and the 3 s that a first frame may take are so few that on a slow machine the client may
# turn to polls. So the relay gives each request the same: the bytes, and then silence.
@test "a stream that is silent for 40 s is dead, and asked for again from the next byte on" {
	PROXYTUNNEL=$HASTY
	start_relay loop head "send ${STREAM}D\0\0\x03abc" hold
	start_between near 'expect abc' 'quiet 1000' 'expect abc' close 'status 74' -- -v
	finished near
	ours_end
	stop relay
	grep -q '^proxytunnel: GET: silence: again in ' near.err
	grep -qE '^proxytunnel: > GET /t/[0-9a-f]{32}/0[?]1' near.err
	grep -qE '^proxytunnel: > GET /t/[0-9a-f]{32}/3[?]' near.err
}

# --- the near ends, by a real relay ------------------------------------------------------------------

# closed [COUNT]: since the test began, or since this was asked last, so many sessions to its target were closed in order, as the
# relay's log says; and nothing is left here.
closed() {
	await closed_are "${1:-1}" || {
		logged
		return 1
	}
	LOGGED=$(wc -l <"$RELAY_LOG")
	await ours_gone
}

logged() {
	tail -n "+$((LOGGED + 1))" "$RELAY_LOG"
}

closed_are() {
	[ "$(logged | grep -c " to [a-z0-9.]*:$TARGET: done, ")" -eq "$1" ]
}

@test "pipes, a socket, a terminal: both ways are exact, and the session is closed" {
	local kind

	target loop 'pattern 4M 1 &' 'check 4M 2' join eof 'send bye' close
	for kind in pipe socket; do
		client -s $kind 'pattern 4M 2 &' 'check 4M 1' join half-close 'expect bye' eof 'status 0'
		err_empty
		closed
	done
	stop target
	target accept 'pattern 1M 1 &' 'check 1M 2' join close
	client -s pty 'pattern 1M 2 &' 'check 1M 1' join eof 'status 0'
	err_empty
	closed
}

@test "the target's end closes stdout at once; what is sent within the second after is delivered" {
	target accept 'send far' half-close 'expect up' eof
	client 'expect far' 'eof 500' 'send up' half-close 'status 0 2000'
	finished target
	err_empty
	closed
}

@test "-a: each client has a session of its own, exact, and one that fails is told and closed; the next is heard" {
	target loop 'echo 64K' close
	start_listener listener "$PROXYTUNNEL" -a 0 "${ROUTE[@]}" -d "127.0.0.1:$TARGET"
	drive_command -c "$PORT" 'crowd 8' 'pattern 256K &' 'check 256K' join half-close eof
	await closed_are 9	# with the connection that begins the crowd
	[ "$(wc -l <listener.err)" -eq 1 ]
	kill -TERM "${PIDS[listener]}"
	finished listener
	stop target
	start_listener listener "$PROXYTUNNEL" -a 0 "${ROUTE[@]}" -d 127.0.0.2:22
	"$PEER" -c "$PORT" 'gone 3000'
	"$PEER" -c "$PORT" 'gone 3000'
	await grep -c 'refused by the relay: 403' listener.err
	sed 1d listener.err >err
	[ "$(grep -c "127.0.0.2:22 refused by the relay: 403" err)" -eq 2 ]
	[ "$(wc -l <err)" -eq 2 ]
}

@test "-a: SIGTERM to the listener ends every tunnel, and closes its session" {
	local i

	target loop 'send far' hold
	start_listener listener "$PROXYTUNNEL" -a 0 "${ROUTE[@]}" -d "127.0.0.1:$TARGET"
	for i in 1 2 3; do
		start "client$i" "$PEER" -c "$PORT" 'expect far' "touch up$i" gone
		await test -e "up$i"
	done
	kill -TERM "${PIDS[listener]}"
	finished listener
	for i in 1 2 3; do
		finished "client$i"
	done
	closed 3
}

@test "-i: the client of an inetd is carried exactly, each end reaches the other side, and the session is closed" {
	target accept 'pattern 1M 1 &' 'check 1M 2' join eof 'send bye' close
	printf '#!/bin/sh\nexec "$@" 2>>log\n' >service
	chmod +x service
	start_listener listener socat -dd TCP-LISTEN:0,bind=127.0.0.1,fork \
		"EXEC:./service $PROXYTUNNEL -i --relay http\://127.0.0.1\:$RELAY/t -d 127.0.0.1\:$TARGET,nofork"
	"$PEER" -c "$PORT" 'pattern 1M 2 &' 'check 1M 1' join half-close 'expect bye' eof
	finished target
	[ ! -s log ]
	closed
}

@test "-i: the process that speaks with the relay has nothing of the client's, whose connection ends with the program" {
	local pump

	target accept 'send far' gone
	start_listener listener socat -dd TCP-LISTEN:0,bind=127.0.0.1,fork \
		"EXEC:$PROXYTUNNEL -i --relay http\://127.0.0.1\:$RELAY/t -d 127.0.0.1\:$TARGET,nofork"
	start near "$PEER" -c "$PORT" -t 60 'expect far' 'touch up' 'gone 50000'	# a whole crowd may be on the machine
	await test -e up
	await eval '[ -n "$(pump)" ]'
	pump=$(pump)
	kill -STOP "$pump"
	kill -KILL "$(parent_of "$pump")"
	finished near
	kill -CONT "$pump"
	closed
	stop target
}

@test "--fdpass: the parent leaves at once, a child carries all, each end reaches the other side, and the session is closed" {
	target accept 'send far' 'pattern 4M 1 &' 'check 4M 2' join eof 'send bye' close
	client -s socket take 'status 0 1000' 'expect far' 'pattern 4M 2 &' 'check 4M 1' join half-close 'expect bye' eof -- --fdpass
	finished target
	err_empty
	closed
	# Whom it was passed to leaves first.
	target accept 'send far' 'expect up' gone
	client -s socket take 'status 0 1000' 'expect far' 'send up' 'pause 50' close -- --fdpass
	finished target
	closed
}

@test "--fdpass: a refusal passes nothing: 77, one line" {
	TARGET=22
	drive_command -s socket eof 'status 77' -- "$PROXYTUNNEL" --fdpass "${ROUTE[@]}" -d 127.0.0.2:22
	err_one_line
	err_has 'refused by the relay: 403'
}

# ssh_config_with LINE...: writes ./config, in which ssh goes by ROUTE, with these lines before.
ssh_config_with() {
	{
		printf '%s\n' "$@"
		echo "ProxyCommand '$PROXYTUNNEL' ${ROUTE[*]} -d %h:%p"
		cat "$SERVERS/ssh_config"
	} >config
}

# ssh_leaves_nothing [OPTION...]: ssh runs a command, and behind it nothing is left here, nor at the relay.
ssh_leaves_nothing() {
	local before

	before=$(grep -c ': done, ' "$RELAY_LOG" || true)
	status=0
	limited ssh -F config "$@" target 'cat; echo told >&2; exit 7' <<<hello >out 2>err || status=$?
	status_is 7
	out_is 'hello\n'
	[ "$(<err)" = told ]
	await ours_gone
	await more_closed "$before" || {
		tail "$RELAY_LOG"
		return 1
	}
}

more_closed() {
	[ "$(grep -c ': done, ' "$RELAY_LOG")" -gt "$1" ]
}

@test "ssh runs a command, and its SIGHUP at the end leaves nothing behind" {
	ssh_config_with
	ssh_leaves_nothing
	ssh_leaves_nothing -o ControlMaster=auto -o ControlPath="$DIR/control"
}

@test "ssh runs a command with ProxyUseFdpass, and nothing is left behind" {
	ROUTE+=(--fdpass)
	ssh_config_with 'ProxyUseFdpass yes'
	ssh_leaves_nothing
}

@test "ssh goes through TLS to the destination, inside the session, by -e; with --fdpass too" {
	ROUTE+=("${CA[@]}" -e)
	ssh_config_with
	ssh_leaves_nothing -p "$TLS_SSHD"
	ROUTE+=(--fdpass)
	ssh_config_with 'ProxyUseFdpass yes'
	ssh_leaves_nothing -p "$TLS_SSHD"
}

@test "-e: a certificate for another name is refused, and the session is closed: 76" {
	target accept 'send far' gone
	start_stunnel elsewhere "$TARGET"
	TARGET=$PORT
	program "${ROUTE[@]}" "${CA[@]}" -e -d "127.0.0.1:$TARGET" </dev/null
	status_is 76
	err_has 'IP address mismatch'
	tail -n 1 err | grep "^proxytunnel: 127.0.0.1:$TARGET: TLS failed"
	server_stop "$PID"
	closed
}

# --- ways to the relay -----------------------------------------------------------------------------------

# goes OPTION...: by these all is exact both ways, nothing is said, nothing is left here, and the session is closed.
goes() {
	echo "$*"
	ROUTE=("$@")
	target accept 'pattern 1M 1 &' 'check 1M 2' join eof 'send bye' close
	client 'pattern 1M 2 &' 'check 1M 1' join half-close 'expect bye' eof 'status 0'
	err_empty
	finished target
	closed
}

@test "a tunnel goes through one proxy, with and without credentials, and through two, in plain requests to the last" {
	goes --relay "http://127.0.0.1:$RELAY/t" -p "127.0.0.1:$TINYPROXY"
	goes --relay "http://127.0.0.1:$RELAY" -p "127.0.0.1:$FIRST" -P one:first
	goes --relay "http://127.0.0.1:$RELAY/" -p "two:second@127.0.0.1:$SQUID"
	goes --relay "http://127.0.0.1:$RELAY/a/b" -p "one:first@127.0.0.1:$FIRST" -r "two:second@127.0.0.1:$SQUID"
	goes --relay "http://127.0.0.1:$RELAY/a/b/" -p "127.0.0.1:$TINYPROXY" -r "two:second@127.0.0.1:$SQUID" -r "one:first@127.0.0.1:$FIRST"
}

@test "a tunnel goes through TLS to the first proxy, by -E, and to the last, by -X" {
	goes --relay "http://127.0.0.1:$RELAY/t" "${CA[@]}" -E -p "localhost:$TLS_TINYPROXY"
	goes --relay "http://127.0.0.1:$RELAY/t" "${CA[@]}" -p "two:second@127.0.0.1:$SQUID" -r "localhost:$TLS_TINYPROXY" -X
}

@test "a tunnel goes over a --proxy-command, to a proxy and, named by it, to the relay itself" {
	goes --relay "http://127.0.0.1:$RELAY/t" --proxy-command='socat -lf log - TCP:%h:%p' -p "127.0.0.1:$TINYPROXY"
	goes --relay "http://127.0.0.1:$RELAY/t" --proxy-command="socat -lf log - TCP:127.0.0.1:$TINYPROXY"
	goes --relay "http://127.0.0.1:$RELAY/t" "${CA[@]}" -E --proxy-command='socat -lf log - TCP:%h:%p' -p "localhost:$TLS_TINYPROXY"
}

@test "a tunnel goes to an https:// relay, straight, and through the CONNECT of one proxy and of two; -c, -k and -z are for it too" {
	goes --relay "https://localhost:$TLS_RELAY/t" "${CA[@]}"
	goes --relay "https://127.0.0.1:$TLS_RELAY/t" "${CA[@]}" -p "127.0.0.1:$TINYPROXY"
	goes --relay "https://localhost:$TLS_RELAY" "${CA[@]}" -p "two:second@127.0.0.1:$SQUID" -r "127.0.0.1:$TINYPROXY"
	goes --relay "https://localhost:$TLS_RELAY/t" "${CA[@]}" -E -p "localhost:$TLS_TINYPROXY"
	goes --relay "https://localhost:$DEMANDING/t" "${CA[@]}" -c "$TLS_DIR/client.crt" -k "$TLS_DIR/client.key"
	goes --relay "https://localhost:$ELSEWHERE/t" -z
}

@test "an https:// relay keeps no openssl of a connection that is over, however often one is" {
	ROUTE=(--relay "https://localhost:$TLS_RELAY/t" "${CA[@]}")
	target accept 'expect a' 'expect b' 'touch up' gone
	start_client near 'send a' 'pause 3500' 'send b' 'await up' 'await counted' close 'status 74'
	await_for 15 test -e up
	[ "$(openssls | wc -l)" -le 2 ]
	touch counted
	finished near
	finished target
	closed
}

openssls() {
	local pid

	for pid in $(strays); do
		case $(readlink "/proc/$pid/exe") in */openssl) echo "$pid" ;; esac
	done
}

@test "an https:// relay with a certificate of another name, or of another authority: 76, and nothing is left" {
	program --relay "https://127.0.0.1:$ELSEWHERE/t" "${CA[@]}" -d "127.0.0.1:$SSHD" </dev/null
	status_is 76
	err_has 'IP address mismatch'
	tail -n 1 err | grep "^proxytunnel: 127.0.0.1:$ELSEWHERE: TLS failed"
	program --relay "https://localhost:$TLS_RELAY/t" -d "127.0.0.1:$SSHD" </dev/null
	status_is 76
	tail -n 1 err | grep "^proxytunnel: localhost:$TLS_RELAY: TLS failed"
	await ours_gone
}

@test "-4 and -6 are kept, with every connection" {
	program -6 "${ROUTE[@]}" -d "127.0.0.1:$SSHD" </dev/null
	status_is 68
	err_has "127.0.0.1:$RELAY"
	goes --relay "http://127.0.0.1:$RELAY/t" -4
	[ -e /proc/net/if_inet6 ] && grep -q '^0\{31\}1 ' /proc/net/if_inet6 || skip 'no IPv6 loopback here'
	program -4 --relay 'http://[::1]:9/t' -d "127.0.0.1:$SSHD" </dev/null
	status_is 68
	target accept 'send far' gone
	start_listener six "$PROXYTUNNEL" --serve -a '[::1]:0' --allow '127.0.0.1:*'
	drive_command 'expect far' close 'status 74' -- "$PROXYTUNNEL" -6 --relay "http://[::1]:$PORT/t" -d "127.0.0.1:$TARGET"
	finished target
	await grep -q ': done, ' six.err
}

@test "the proxy of the environment is used, unless no_proxy names the relay's host" {
	target loop 'send far' gone
	start_peer proxy accept 'expect POST http://127.0.0.1:' head "expect 127.0.0.1:$TARGET" "send $(unmarked '403 No')" gone
	http_proxy=http://127.0.0.1:$PORT program "${ROUTE[@]}" -d "127.0.0.1:$TARGET" </dev/null
	status_is 77
	err_has "proxytunnel: 127.0.0.1:$PORT: POST for 127.0.0.1:$TARGET refused, not by the relay: 403 No"
	finished proxy
	export http_proxy=http://127.0.0.1:$PORT no_proxy=127.0.0.1
	client 'expect far' close 'status 74'
	closed
}

@test "what a real proxy says of a relay that it cannot reach is told as not the relay's" {
	free_port
	ROUTE=(--relay "http://127.0.0.1:$PORT/t")
	program "${ROUTE[@]}" -p "127.0.0.1:$TINYPROXY" -d "127.0.0.1:$SSHD" </dev/null
	status_is 69
	err_one_line
	err_has "proxytunnel: 127.0.0.1:$TINYPROXY: POST for 127.0.0.1:$SSHD refused, not by the relay: 5"
	program "${ROUTE[@]}" -p "two:second@127.0.0.1:$SQUID" -d "127.0.0.1:$SSHD" </dev/null
	status_is 69
	err_one_line
	err_has "proxytunnel: 127.0.0.1:$SQUID: POST for 127.0.0.1:$SSHD refused, not by the relay: 503"
	program "${ROUTE[@]}" -p "two:wrong@127.0.0.1:$SQUID" -d "127.0.0.1:$SSHD" </dev/null
	status_is 77
	err_one_line
	err_has "proxytunnel: 127.0.0.1:$SQUID: POST for 127.0.0.1:$SSHD refused, not by the relay: 407"
	err_has 'does not take these credentials of two'
	program "${ROUTE[@]}" -p "127.0.0.1:$SQUID" -d "127.0.0.1:$SSHD" </dev/null
	status_is 77
	err_one_line
	err_has 'it offers Basic'
}

@test "what a real relay refuses is told as the relay's: where to, an unreachable target, a full relay" {
	program "${ROUTE[@]}" -p "127.0.0.1:$TINYPROXY" -d 127.0.0.2:22 </dev/null
	status_is 77
	err_one_line
	err_has "127.0.0.1:$RELAY: 127.0.0.2:22 refused by the relay: 403"
	free_port
	program "${ROUTE[@]}" -p "127.0.0.1:$TINYPROXY" -d "127.0.0.1:$PORT" </dev/null
	status_is 69
	err_one_line
	err_has "127.0.0.1:$RELAY: 127.0.0.1:$PORT refused by the relay: 422"
	target loop 'send far' hold
	start_listener full "$PROXYTUNNEL" --serve -a 0 --allow '127.0.0.1:*' --max-clients=1
	route_to "$PORT"
	start_client near 'expect far' 'touch up' 'await tried' close 'status 74'
	await test -e up
	program "${ROUTE[@]}" -d "127.0.0.1:$TARGET" </dev/null
	status_is 69
	err_one_line
	err_has "127.0.0.1:$PORT: 127.0.0.1:$TARGET refused by the relay: 503"
	touch tried
	finished near
	await grep -q "127.0.0.1:$TARGET: done, " full.err
}

# --- what each is told ---------------------------------------------------------------------------------------

# heads COUNT ARG...: a session by ARG..., where PORT stands for that of a peer: of so many proxies, each in the tunnel of the one
# before, and behind them of what is asked for the relay's pages. What these were told is in connect1, connect2..., and in the
# files of PAGES; ids and keys as a star.
PAGES='open get put delete'
heads() {
	local count=$1 i tunnels=()

	shift
	for ((i = 1; i <= count; i++)); do
		tunnels+=("log connect$i" head "send $OK")
	done
	start_peer relay accept "${tunnels[@]}" 'log open' head 'expect host:22' "send $STANDS" \
		accept "${tunnels[@]}" 'log get' head "send ${STREAM}D\0\0\x03far$END" close \
		accept "${tunnels[@]}" 'log put' head "send $(offset 0)" 'log delete' head "send $CLOSED" gone
	drive_command 'expect far' eof half-close 'status 0' -- "$PROXYTUNNEL" "${@//PORT/$PORT}" -d host:22
	err_empty
	finished relay
	sed -i 's/[0-9a-f]\{32\}/*/g' $PAGES
}

# basic NAME WANT FILE...: each of them has that field with WANT as Basic credentials; if that is empty, no such field.
basic() {
	local name=$1 want=$2 file

	shift 2
	for file; do
		[ "$(grep -c "^$name:" "$file")" -eq "$((${#want} > 0))" ] &&
			sed -n "s/^$name: Basic \(.*\)\r\$/\1/p" "$file" | base64 -d | cmp - <(printf %s "$want") || {
			echo "$file:"
			cat -v "$file"
			return 1
		}
	done
}

# lines COUNT LINE FILE...: each of them has the line so often.
lines() {
	local count=$1 line=$2 file

	shift 2
	for file; do
		[ "$(grep -cxF "$line"$'\r' "$file")" -eq "$count" ] || {
			echo "$file:"
			cat -v "$file"
			return 1
		}
	done
}

@test "the four requests are these, to the byte, and nothing else is sent" {
	local fields

	heads 0 --relay http://127.0.0.1:PORT/t
	fields="HTTP/1.1\r\nHost: 127.0.0.1:$PORT\r\nTunnel-Key: *\r\n"
	cmp open <(printf %b "POST /t/* ${fields}Content-Length: 7\r\n\r\nhost:22")
	cmp get <(printf %b "GET /t/*/0?1 $fields\r\n")
	cmp put <(printf %b "PUT /t/*/0?end ${fields}Content-Length: 0\r\n\r\n")
	cmp delete <(printf %b "DELETE /t/* $fields\r\n")
}

@test "each session has an id and a key of its own, in every request the same" {
	local n

	for n in 1 2; do
		start_relay accept 'expect GET ' 'log get' head "send ${STREAM}$END" close accept 'expect PUT ' 'log put' head "send $(offset 0)" \
			'expect DELETE ' 'log delete' head "send $CLOSED" gone
		between eof half-close 'status 0'
		finished relay
		for file in open get put delete; do
			grep -ao '/t/[0-9a-f]\{32\}[ /]' $file | tr -d ' ' | cut -c 4-35 >>ids$n
			sed -n 's/^Tunnel-Key: \([0-9a-f]\{32\}\)\r$/\1/p' $file >>keys$n
		done
		[ "$(wc -l <ids$n)" -eq 4 ]
		[ "$(wc -l <keys$n)" -eq 4 ]
	done
	[ "$(cat ids1 ids2 keys1 keys2 | sort -u | wc -l)" -eq 4 ]
}

@test "a proxy is asked with the relay's whole URL, whose port 80 is left out; -o and -H give another Host, and only one" {
	local name

	heads 0 --relay http://relay.test:81/a/b -p 127.0.0.1:PORT
	head -n 1 open | grep -qxF $'POST http://relay.test:81/a/b/* HTTP/1.1\r'
	head -n 1 get | grep -qxF $'GET http://relay.test:81/a/b/*/0?1 HTTP/1.1\r'
	lines 1 'Host: relay.test:81' $PAGES
	heads 0 --relay 'http://[2001:db8::1]:80' -p 127.0.0.1:PORT
	head -n 1 delete | grep -qxF $'DELETE http://[2001:db8::1]/* HTTP/1.1\r'
	lines 1 'Host: [2001:db8::1]' $PAGES
	heads 0 -o other.test:99 --relay http://relay.test/t -p 127.0.0.1:PORT
	lines 1 'Host: other.test:99' $PAGES
	lines 0 'Host: relay.test' $PAGES
	heads 0 --relay http://relay.test/t -p 127.0.0.1:PORT -H 'hOST: other.test'
	lines 1 'hOST: other.test' $PAGES
	lines 0 'Host: relay.test' $PAGES
	heads 0 --relay http://127.0.0.1:PORT/t -H 'host: other.test'
	lines 1 'host: other.test' $PAGES
	lines 0 "Host: 127.0.0.1:$PORT" $PAGES
}

@test "-H is for what was named last before it: the relay, the first proxy, a further one" {
	heads 0 -H 'X-A: 1' --relay http://relay.test/t -H 'X-R: 2' -H 'X-R: 3' -p 127.0.0.1:PORT -H 'X-P: 4'
	lines 1 'X-A: 1' $PAGES
	lines 1 'X-R: 2' $PAGES
	lines 1 'X-R: 3' $PAGES
	lines 1 'X-P: 4' $PAGES
	heads 1 -p 127.0.0.1:PORT -H 'X-P: 4' --relay http://relay.test/t -H 'X-R: 2' -r two.test -H 'X-Q: 5'
	lines 1 'X-P: 4' connect1
	lines 0 'X-R: 2' connect1
	lines 0 'X-Q: 5' connect1
	lines 0 'X-P: 4' $PAGES
	lines 1 'X-R: 2' $PAGES
	lines 1 'X-Q: 5' $PAGES
}

@test "the relay's credentials are told to the relay, with every request, and to no proxy's tunnel" {
	PROXYUSER=p PROXYPASS=2 REMPROXYUSER=q REMPROXYPASS=3 heads 0 --relay http://r:1@127.0.0.1:PORT/t
	basic Authorization r:1 $PAGES
	basic Proxy-Authorization '' $PAGES
	heads 0 --relay http://r:1@127.0.0.1:PORT/t -H 'authorization: Bearer x'
	lines 1 'authorization: Bearer x' $PAGES
	basic Authorization '' $PAGES
	heads 1 --relay http://r:1@relay.test/t -p p:2@127.0.0.1:PORT -r q:3@two.test
	basic Authorization '' connect1
	basic Proxy-Authorization p:2 connect1
	basic Authorization r:1 $PAGES
	basic Proxy-Authorization q:3 $PAGES
	heads 2 --relay http://r:1@relay.test/t -p p:2@127.0.0.1:PORT -r q:3@two.test -r s:4@three.test
	basic Authorization '' connect1 connect2
	basic Proxy-Authorization p:2 connect1
	basic Proxy-Authorization q:3 connect2
	basic Authorization r:1 $PAGES
	basic Proxy-Authorization s:4 $PAGES
}

@test "a proxy's credentials are told to that proxy, with every request, and never as the relay's" {
	heads 0 --relay http://relay.test/t -p p:2@127.0.0.1:PORT
	basic Authorization '' $PAGES
	basic Proxy-Authorization p:2 $PAGES
	heads 0 --relay http://relay.test/t -p 127.0.0.1:PORT -P p:2 -H 'Proxy-authorization: Bearer x'
	basic Authorization '' $PAGES
	basic Proxy-Authorization '' $PAGES
	lines 1 'Proxy-authorization: Bearer x' $PAGES
	RELAYUSER=r RELAYPASS=1 heads 1 --relay http://relay.test/t -p 127.0.0.1:PORT -r two.test
	basic Authorization '' connect1
	basic Proxy-Authorization '' connect1 $PAGES
	basic Authorization r:1 $PAGES
}

@test "inside TLS the relay has its credentials only, and the proxy whose CONNECT leads there has only its own" {
	start_peer relay accept 'log open' head 'expect host:22' "send $(says '403 No')" gone
	own tls start_stunnel localhost "$PORT"
	program "${CA[@]}" --relay "https://r:1@localhost:${PORTS[tls]}/t" -H 'X-R: 2' -p "one:first@127.0.0.1:$FIRST" -H 'X-P: 4' -d host:22 </dev/null
	status_is 77
	finished relay
	basic Authorization r:1 open
	basic Proxy-Authorization '' open
	lines 1 'X-R: 2' open
	lines 0 'X-P: 4' open
	lines 1 "Host: localhost:${PORTS[tls]}" open
	start_peer proxy accept 'log connect' head 'send HTTP/1.1 403 No\r\n\r\n' gone
	program "${CA[@]}" --relay https://r:1@relay.test/t -H 'X-R: 2' -p "one:first@127.0.0.1:$PORT" -H 'X-P: 4' -d host:22 </dev/null
	status_is 77
	err_has "127.0.0.1:$PORT: CONNECT relay.test:443 refused: 403"
	finished proxy
	basic Authorization '' connect
	basic Proxy-Authorization one:first connect
	lines 0 'X-R: 2' connect
	lines 1 'X-P: 4' connect
}

@test "-v tells every request and answer, and the bytes each way at the end; no key, no credentials" {
	local secret

	start_relay "${GOES[@]}" accept 'expect PUT ' head 'expect up' "send $(offset 2)" 'expect PUT ' head "send $(offset 2)" \
		'expect DELETE ' head "send $CLOSED" gone
	between 'expect go' 'send up' 'pause 100' close 'status 74' -- -v --relay "http://rr:secret1@127.0.0.1:$PORT/t" -H 'X-T: secret2'
	finished relay
	await ours_gone
	for secret in secret "$(printf rr:secret1 | base64)" "$(sed -n 's/^Tunnel-Key: \(.*\)\r$/\1/p' open)"; do
		[ ${#secret} -gt 5 ]
		err_lacks "$secret"
	done
	err_has '> POST /t/'
	err_has '> GET /t/'
	err_has '> PUT /t/'
	err_has '> DELETE /t/'
	err_has '< HTTP/1.1 201 Created'
	err_has '> Tunnel-Key: ***'
	err_has '> Authorization: ***'
	grep -qE '^proxytunnel: host:22: 2 bytes up, 2 down, [0-9]+\.[0-9]+ s$' err
	! grep -v '^proxytunnel: ' err || false
}

# --- ends ----------------------------------------------------------------------------------------------------

@test "SIGTERM and SIGHUP end it by the signal, the target's connection is ended, and the session closed" {
	local name

	for name in TERM:143 HUP:129; do
		target accept 'send far' gone
		client 'expect far' "signal ${name%:*}" "status ${name#*:} 1000"
		err_empty
		finished target
		closed
	done
}

@test "SIGINT ends it as long as no session stands, or if stdin is a terminal; else it is for others" {
	start_peer relay accept head 'touch asked' hold
	between 'await asked' 'signal INT' 'status 130 1000'
	target accept 'send far' 'expect up' gone
	client 'expect far' 'signal INT' 'pause 100' 'send up' close 'status 74'
	finished target
	closed
	target accept 'send far' gone
	client -s pty 'expect far' 'signal INT' 'status 130 1000'
	finished target
	closed
}

@test "a signal ends it as long as no session stands, and nothing is left" {
	local name

	for name in TERM:143 HUP:129; do
		start_peer relay accept head 'expect host:22' 'touch asked' gone
		between 'await asked' "signal ${name%:*}" "status ${name#*:} 1000"
		finished relay
		await ours_gone
		rm asked
	done
}

@test "a signal ends it when the target has ended and the relay has gone, and what tries to close the session is soon gone too" {
	start_peer relay accept head 'expect host:22' "send $STANDS" accept 'expect GET ' head "send ${STREAM}D\0\0\x03abc$END" close
	between 'expect abc' eof 'signal TERM' 'status 143'
	finished relay
	await_for 30 ours_gone
}

@test "a signal ends it while it waits for its session to be closed, and nothing is left" {
	local name

	for name in TERM:143 HUP:129; do
		start_relay accept 'expect GET ' head "send ${STREAM}D\0\0\x03far$END" close accept 'expect PUT ' head 'touch asked' hold
		start_between near 'expect far' eof half-close 'await asked' "signal ${name%:*}" "status ${name#*:} 2000"
		finished near
		stop relay
		rm asked
		# Who is left tries for seconds at most.
		await_for 15 ours_gone
	done
}

@test "stdout's reader leaves: 74 at once though stdin stays open, and the session is closed" {
	target accept 'send far' gone
	client 'expect far' close-in 'status 74 1000'
	err_empty
	finished target
	closed
	# With bytes under way both ways.
	target accept 'pattern 64K' 'repeat forever x &' 'check 64K 1' 'sink'
	client 'check 64K' 'pattern 64K 1' close-in 'status 74 1000'
	err_empty
	finished target
	closed
}

@test "both pipes are closed at once: 74, what was sent before is delivered, and the session is closed" {
	target accept 'send far' 'check 64K' gone
	client 'expect far' 'pattern 64K' close 'status 74 1000'
	err_empty
	finished target
	closed
}

@test "the last bytes are delivered, however fast stdin ends behind them, and however soon stdout does" {
	target accept half-close 'check 1M' eof
	client eof 'pattern 1M' half-close 'status 0'
	finished target
	closed
	target accept 'check 1M' eof 'pattern 1M 1' close
	client 'pattern 1M' half-close 'check 1M 1' eof 'status 0'
	finished target
	closed
}

@test "connections go to the address that answered, and to what else the name leads to once that does not" {
	own one start_haproxy "$RELAY"
	own two start_haproxy "$RELAY"
	ROUTE=(--relay http://relay.test:1/t)
	target accept 'echo 64K' close
	export FAKE_ADDRESSES="127.0.0.1#${PORTS[one]} 127.0.0.1#${PORTS[two]}"
	PROXYTUNNEL=$NAMED start_client client 'pattern 1M' 'check 1M' 'touch up' 'await cut' 'pattern 1M 1' 'check 1M 1' half-close eof 'status 0'
	await_for 20 test -e up
	server_kill "${OWN[one]}"
	touch cut
	finished client
	closed
}

# While the way is cut, more is sent than this side holds. Something is to be sent at any time, as a second without ends the tunnel.
@test "what a target that has ended its side has still to take is delivered, however long the way there is cut" {
	own way start_haproxy "$RELAY"
	route_to "$PORT"
	target accept half-close 'check 1M' 'touch some' 'await cut' 'check 31M 1' eof
	start_client client eof 'pattern 1M' 'pattern 31M 1 &' 'await cut' 'pause 2000' 'touch waits' join half-close 'status 0'
	await test -e some
	server_kill "${OWN[way]}"
	touch cut
	await test -e waits
	server_again "${OWN[way]}"
	OWN[way]=$PID
	finished client
	finished target
	closed
}

# zombies: those among the program, and what it has started, of which start NAME is the peer that started it.
zombies() {
	cat /proc/[0-9]*/stat 2>/dev/null | awk -v top="${PIDS[$1]}" '
		{ pid = $1; sub(/.*\) /, ""); parent[pid] = $2; state[pid] = $1 }
		END {
			for (pid in parent) {
				for (up = pid; up > 1 && up != top; up = parent[up]) ;
				if (up == top && state[pid] == "Z") print pid
			}
		}'
}

@test "no process that has ended stays as a zombie of a tunnel that stands, be the relay http:// or https://" {
	local url

	for url in "http://127.0.0.1:$RELAY/t" "https://localhost:$TLS_RELAY/t"; do
		ROUTE=(--relay "$url" "${CA[@]}")
		target accept 'expect up' 'send far' gone
		start_client near 'send up' 'expect far' 'touch up' 'await seen' close 'status 74'
		await test -e up
		await eval '[ -z "$(zombies near)" ]'
		rm up
		touch seen
		finished near
		finished target
		closed
		rm seen
	done
}

@test "the process that speaks with the relay is killed: 74, and one line" {
	target accept 'send far' gone
	start_client near 'expect far' 'touch up' eof 'status 74 1000'
	await test -e up
	kill -KILL "$(pump)"
	finished near
	mv near.err err
	err_one_line
	err_has "127.0.0.1:$RELAY"
	await ours_gone
	stop target
}

@test "it is killed itself: the process that speaks with the relay closes the session, and ends" {
	target accept 'send far' 'expect up' gone
	client 'expect far' 'send up' 'pause 100' 'signal KILL' 'status 137'
	finished target
	closed
}

@test "ssh is killed: its ProxyCommand ends, and closes the session" {
	local before

	before=$(grep -c ': done, ' "$RELAY_LOG" || true)
	ssh_config_with
	start ssh ssh -F config target 'echo up; exec sleep 20'
	await grep -q up ssh.out
	kill -KILL "${PIDS[ssh]}"
	await ours_gone
	await more_closed "$before" || {
		tail "$RELAY_LOG"
		return 1
	}
}

@test "a relay that was started anew knows nothing of the session: 74, and one line says so" {
	target accept 'send far' gone
	relay_start
	start_client near 'expect far' 'touch up' eof 'status 74 9000'
	await test -e up
	kill -TERM "${PIDS[relay]}"
	finished relay
	start_listener relay "$PROXYTUNNEL" --serve -a "$RELAY" --allow '127.0.0.1:*'
	finished near
	mv near.err err
	err_one_line
	err_has "127.0.0.1:$RELAY: the tunnel to 127.0.0.1:$TARGET broke: the relay answered"
	err_has 410
}

@test "the target resets: what it sent is delivered, the tunnel breaks with the relay's words, and the session is closed: 74" {
	target accept 'expect up' 'send far' 'await taken' reset
	client 'send up' 'expect far' 'touch taken' eof 'status 74 2000'
	err_one_line
	err_has 'the relay says: Connection reset by peer'
	finished target
	await ours_gone
	await grep -qE " to 127.0.0.1:$TARGET: (broken|done)" "$RELAY_LOG"
}

# resets STEP...: so does the target of a client of the listener, which gets what came before, and is reset too.
resets() {
	start near "$PEER" -c "${PORTS[listener]}" 'send up' 'expect far' "$@" 'touch taken' eof
	finished near 1
	grep -q 'eof: read: Connection reset by peer' near.err
	rm taken
}

@test "the target resets: so is the client of -a, and that of an inetd, also once it has ended" {
	target loop 'expect up' 'send far' 'await taken' reset
	start_listener listener "$PROXYTUNNEL" -a 0 "${ROUTE[@]}" -d "127.0.0.1:$TARGET"
	resets
	resets half-close
	stop listener
	start_listener listener socat -dd TCP-LISTEN:0,bind=127.0.0.1,fork \
		"EXEC:$PROXYTUNNEL -i --relay http\://127.0.0.1\:$RELAY/t -d 127.0.0.1\:$TARGET,nofork"
	resets
	resets half-close
}

@test "a client on a socket that has ended gets the end of the target at once, and not when the session is closed" {
	start_relay accept 'expect GET ' head "send ${STREAM}D\0\0\x02go" keep accept 'expect PUT ' head "send $(offset 0)" \
		turn "send $END" close turn 'expect DELETE ' head 'await ended' "send $CLOSED" gone
	start_listener listener "$PROXYTUNNEL" -a 0 --relay "http://127.0.0.1:${PORTS[relay]}/t" -d host:22
	"$PEER" -c "$PORT" -t 4 'expect go' half-close eof # the client waits 5 s for the session to be closed
	touch ended
	finished relay
}

@test "a DELETE that something on the way answers is sent again" {
	start_relay accept 'expect GET ' head "send ${STREAM}$END" close accept 'expect PUT ' head "send $(offset 0)" \
		'expect DELETE ' head "send $(unmarked '502 Bad')" gone accept 'expect DELETE ' head close \
		accept 'expect DELETE ' head "send $CLOSED" gone
	between eof half-close 'status 0'
	err_empty
	finished relay
}

@test "a PUT whose answer was lost, and the next of which is shorter, is taken as what the relay says it is" {
	start_relay "${GOES[@]}" accept 'expect PUT ' head 'expect a' 'touch first' 'await sent' 'pause 100' "send $(offset 1)" \
		'expect PUT ' head 'check 64K 1' "send $(offset 65537)" 'expect PUT ' head 'check 128K 2' "send $(unmarked '504 Late')" close \
		accept 'expect PUT ' head 'check 64K 2' "send $(offset 196609)" 'touch third' \
		'expect PUT ' 'log put' head 'expect z' "send $(offset 196610)" 'touch over' \
		'expect PUT ' head "send $(offset 196610)" 'expect DELETE ' head "send $CLOSED" gone
	between 'expect go' 'send a' 'await first' 'pattern 64K 1' 'pattern 128K 2' 'touch sent' 'await third' 'send z' 'await over' close 'status 74'
	err_empty
	finished relay
	[[ $(head -n 1 put) == "/t/"*/196609\ HTTP/1.1? ]]
}
