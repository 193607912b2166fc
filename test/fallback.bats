#!/usr/bin/env bats
# --relay where something on the way is against it: what the client turns to by itself, how often it tries, and when it gives up.

load helper
load relay

OK='HTTP/1.1 200 OK\r\n\r\n'
MARK='Tunnel-Relay: 2\r\n'
STANDS="HTTP/1.1 201 Created\r\n${MARK}Content-Length: 0\r\n\r\n"
STREAM="HTTP/1.1 200 OK\r\n${MARK}Connection: close\r\n\r\nO\0\0\x010"
CLOSED="HTTP/1.1 204 No Content\r\n$MARK\r\n"

# What meets each request of a client that has a session, or is about to open one.
FAULTS='close reset silent cut 200 302 403 404 405 413 500 503'
OPENING='close reset cut'

# The tests that take a minute or two begin here, and are looked at by the last ones.
setup_file() {
	local what

	ways_begin
	certificates_make
	for what in $FAULTS; do
		beside "flood_$what" floods "$what"
	done
	for what in $OPENING; do
		beside "opening_$what" floods "$what" opening
	done
	beside flood_polling floods_polling
	beside flood_go_on floods_answers "$(GO_ON)"
	beside flood_nothing floods_answers "$(NOTHING)" polling
	beside flood_byte floods_answers "$(BYTE)"
	beside flood_gone floods_gone
	beside flood_tls floods_tls
	beside flood_connect floods_connect
	beside giving_up_502 gives_up 502 'something on the way answered 502 Whatever'
	beside giving_up_close gives_up close 'the connection was closed without an answer'
	beside giving_up_gone gives_up gone '127.0.0.1:'
	beside pause_stream pauses haproxy
	beside pause_polls pauses nginx
	beside tail holds_back
	beside shorter shortens
	beside taken_nothing takes_nothing
}

teardown_file() {
	ways_end
}

# --- what begins beside the tests ------------------------------------------------------

floods() {
	CLIENT_LIMIT=300 target loop sink
	flood_begin "$@"
	sleep 62
	flood_ends "$@"
}

# The same for a client that polls.
floods_polling() {
	CLIENT_LIMIT=300 target loop sink
	NGINX='proxy_ignore_headers X-Accel-Buffering;' start_nginx "$RELAY"
	own_fault fault -t 300 -c close -w now "$PORT"
	route_to "$PORT"
	CLIENT_LIMIT=300 start_client client 'trickle 100 forever x' -- -v -w 0
	await_for 20 grep -q 'polling from now on' client.err
	sleep 1
	touch now
	sleep 62
	fault_ends fault
	stop client
	[ "${COUNTS[requests]}" -ge 2 ]
	[ "${COUNTS[minute]}" -le 120 ]
}

# goes_wrong COMMAND...: that happens to a client on ROUTE that has a session and sends. Within a minute it tries, but not
# more than twice a second; sets TRIES.
goes_wrong() {
	CLIENT_LIMIT=300 start_client client 'trickle 100 20 x' 'touch sent' 'trickle 100 forever x' -- -v -w 0
	await_for 20 test -e sent
	"$@"
	sleep 62
	TRIES=$(grep -c ': again in ' client.err)
	echo "$TRIES tries"
	[ "$TRIES" -ge 10 ]
	[ "$TRIES" -le 120 ]
}

# Nobody listens any more.
floods_gone() {
	CLIENT_LIMIT=300 target loop sink
	own_fault fault -t 300 -d 0 "$RELAY"
	route_to "$PORT"
	goes_wrong stop fault
	stop client
	grep 'onnection refused: again in ' client.err
}

# Nobody listens behind stunnel, which takes connections as before, so that each try starts an openssl.
floods_tls() {
	CLIENT_LIMIT=300 target loop sink
	own_fault fault -t 300 -d 0 "$RELAY"
	start_stunnel localhost "$PORT"
	ROUTE=(--relay "https://localhost:$PORT/t" -C "$TLS_DIR/ca.crt")
	goes_wrong stop fault
	[ "$(grep -c 'accepted connection' "$SERVER_DIR/log")" -ge 10 ]
	[ "$(grep -c 'accepted connection' "$SERVER_DIR/log")" -le 150 ]
	stop client
}

# A proxy gives no connection to the next one any more. Without -v, under which the client waits for the refusal's words.
floods_connect() {
	CLIENT_LIMIT=300 target loop sink
	own_fault fault -t 300 -c 502 -w now "$WAY_squid"
	route_to "$RELAY" "$PORT"
	ROUTE+=(-r "127.0.0.1:$WAY_tinyproxy")
	CLIENT_LIMIT=300 start_client client 'trickle 100 20 x' 'touch sent' 'trickle 100 forever x' -- -w 0
	await_for 20 test -e sent
	touch now
	sleep 62
	fault_ends fault
	stop client
	[ "${COUNTS[requests]}" -ge 10 ]
	[ "${COUNTS[minute]}" -le 120 ]
}

# A stream that is over at once, with nothing in it, though another is to follow; and such a poll.
GO_ON() {
	printf %s "${STREAM}B\0\0\0"
}

NOTHING() {
	printf %s "HTTP/1.1 200 OK\r\n${MARK}Content-Length: 5\r\n\r\nO\0\0\x010"
}

# And one that is cut behind a byte.
BYTE() {
	printf %s "${STREAM}D\0\0\x01x"
}

# floods_answers ANSWER [polling]: that is what each GET gets, or each poll.
floods_answers() {
	local held=()

	[ $# -eq 1 ] || held=(accept 'expect GET ' head hold)
	start_peer relay -b 256 accept head 'expect host:22' "send $STANDS" "${held[@]}" loop head "send $1" close
	start client "$PEER" -t 300 'pause 100000' -- "$PROXYTUNNEL" -v -w 0 --relay "http://127.0.0.1:$PORT/t" -d host:22
	sleep 62
	stop client
	grep -c '> GET' client.err
	[ "$(grep -c '> GET' client.err)" -ge 10 ]
	[ "$(grep -c '> GET' client.err)" -le 120 ]
}

# gives_up WHAT WORDS: after 100 s of that, 74, and WORDS in a line that says what was seen last.
gives_up() {
	local begin

	CLIENT_LIMIT=300 target loop sink
	if [ "$1" = gone ]; then
		own_fault fault -t 300 -d 0 "$RELAY"
	else
		own_fault fault -t 300 -c "$1" -w now "$RELAY"
	fi
	route_to "$PORT"
	CLIENT_LIMIT=300 start_client client 'send x' 'touch sent' eof 'status 74'
	await test -e sent
	sleep 1
	begin=$SECONDS
	if [ "$1" = gone ]; then stop fault; else touch now; fi
	finished client
	echo "$((SECONDS - begin)) s"
	[ $((SECONDS - begin)) -ge 98 ]
	[ $((SECONDS - begin)) -le 130 ]
	mv client.err err
	err_one_line
	err_has "the relay was not reached for 100 s: $2"
}

# pauses haproxy|nginx: stdout is not read for so long that any time limit has passed, by streams, by polls, though the way is cut
# meanwhile: nothing is lost, and nothing is asked for that there is no room for.
pauses() {
	NGINX='proxy_ignore_headers X-Accel-Buffering;' start_"$1" "$RELAY"
	route_to "$PORT"
	CLIENT_LIMIT=300 target accept 'pattern 16M' close
	CLIENT_LIMIT=300 start_client client 'await now' 'check 16M' eof half-close 'status 0' -- -v
	sleep 5
	server_restart "$PID"
	sleep 70
	grep '> GET' client.err
	[ "$(grep -c '> GET' client.err)" -le 6 ]
	touch now
	finished client
	finished target
}

# What has come at once may have filled a buffer on the way; what comes behind it may not.
holds_back() {
	NGINX='proxy_ignore_headers X-Accel-Buffering;' start_nginx "$RELAY"
	route_to "$PORT"
	CLIENT_LIMIT=200 target accept 'pattern 256K' 'expect up' 'send far' close
	CLIENT_LIMIT=200 start_client client 'check 256K' 'send up' 'expect far' eof half-close 'status 0' -- -v
	finished client
	finished target
	grep 'polling from now on' client.err
}

# Polls that take too long are answered by nginx itself.
shortens() {
	NGINX='proxy_ignore_headers X-Accel-Buffering; proxy_read_timeout 3500ms;' start_nginx "$RELAY"
	route_to "$PORT"
	ROUTE+=(-v)
	target accept 'await over' 'send far' 'expect up' close
	start_client near 'expect far' 'send up' eof half-close 'status 0'
	await_for 30 grep -q ': 2 s at most from now on' near.err
	sleep 5
	touch over
	finished near
	finished target
	mv near.err err
	notes 'streams are held back*' 'an answer was cut after * s: 10 s at most *' 'an answer was cut after * s: 5 s at most *' \
		'an answer was cut after * s: 2 s at most *'
	closed
}

# The target has ended its side, and takes no more.
takes_nothing() {
	way direct
	target -r 65536 accept 'send bye' half-close 'await over'
	client 'expect bye' eof 'repeat forever x &' 'status 74 40000' 'touch over'
	err_one_line
	closed
}

# --- what buffers: polls ----------------------------------------------------------------------

# notes TEXT...: with -v these are the notes of what was turned to, in this order; TEXT is a pattern.
notes() {
	local note

	grep -h 'from now on$' err >notes || true
	for note; do
		read -r line && [[ $line == "proxytunnel: 127.0.0.1:"*": "$note ]] || {
			cat notes
			return 1
		}
	done <notes
	[ "$(wc -l <notes)" -eq $# ]
}

# own_nginx DIRECTIVE...: ROUTE leads by an nginx of this test, with these, to the relay.
own_nginx() {
	NGINX=$1 own nginx start_nginx "$RELAY"
	route_to "$PORT"
	ROUTE+=(-v)
}

closed() {
	await_for 5 grep -q " to 127.0.0.1:$TARGET: done, " "$RELAY_LOG"
}

@test "where nginx holds streams back the client polls, says so once, and all is exact" {
	own_nginx 'proxy_ignore_headers X-Accel-Buffering; client_max_body_size 0;'
	target accept 'pause 3500' 'pattern 16M 1 &' 'check 16M 2' join half-close eof
	client 'pattern 16M 2 &' 'check 16M 1' join half-close eof 'status 0'
	finished target
	notes 'streams are held back on the way: polling from now on'
	closed
}

@test "where it polls, what comes at any time comes at once, and both ways end in order" {
	own_nginx 'proxy_ignore_headers X-Accel-Buffering;'
	target accept 'echo 64K' close
	client 'send first' 'expect first' 'pause 400' 'send second' 'expect second' 'pause 1500' 'touch asked' 'send third' 'expect third' \
		'touch told' half-close eof 'status 0'
	finished target
	[ $(($(date -r told +%s%N) - $(date -r asked +%s%N))) -lt 1000000000 ]
	closed
}

@test "ssh runs a command where streams are held back; without -v nothing is said" {
	own_nginx 'proxy_ignore_headers X-Accel-Buffering;'
	unset 'ROUTE[-1]'
	start_sshd
	TARGET=$PORT
	runs_ssh
	closed
}

# polled FILE SECS: that is what it has to say of its poll.
polled() {
	[[ $(head -n 1 "$1") == "/t/"*"&poll=$2 HTTP/1.1"? ]] || {
		cat "$1"
		return 1
	}
}

@test "polls that are cut, in order or not, before an answer or in it, get shorter likewise; one that is answered in time stays" {
	start_peer relay accept head 'expect host:22' "send $STANDS" accept 'expect GET ' head gone \
		accept 'expect GET ' 'log poll1' head 'pause 1200' close \
		accept 'expect GET ' 'log poll2' head 'pause 1200' reset \
		accept 'expect GET ' 'log poll3' head "send HTTP/1.1 200 OK\r\n${MARK}Content-Length: 12\r\n" 'pause 1200' close \
		accept 'expect GET ' 'log poll4' head "send HTTP/1.1 200 OK\r\n${MARK}Content-Length: 12\r\n\r\nO\0\0\x010D\0\0\x03abc" \
		'expect GET ' 'log poll5' head "send HTTP/1.1 200 OK\r\n${MARK}Content-Length: 9\r\n\r\nO\0\0\x010E\0\0\0" \
		accept 'expect PUT ' head "send HTTP/1.1 200 OK\r\n${MARK}Content-Length: 1\r\n\r\n0" 'expect DELETE ' head "send $CLOSED" gone
	drive_command 'expect abc' eof half-close 'status 0' -- "$PROXYTUNNEL" --relay "http://127.0.0.1:$PORT/t" -d host:22
	err_empty
	finished relay
	polled poll1 20
	polled poll2 10
	polled poll3 5
	polled poll4 2
	polled poll5 2
}

@test "a stream that has stood before is not taken for held back when one is late: no poll" {
	start_peer relay accept head 'expect host:22' "send $STANDS" accept 'expect GET ' head "send ${STREAM}D\0\0\x03abcB\0\0\0" gone \
		accept 'expect GET ' head gone accept 'expect GET ' 'log get' head "send ${STREAM}D\0\0\x03defE\0\0\0" gone \
		accept 'expect PUT ' head "send HTTP/1.1 200 OK\r\n${MARK}Content-Length: 1\r\n\r\n0" 'expect DELETE ' head "send $CLOSED" gone
	drive_command 'expect abcdef' eof half-close 'status 0' -- "$PROXYTUNNEL" -v --relay "http://127.0.0.1:$PORT/t" -d host:22
	finished relay
	notes
	! grep poll get || false
}

# --- what refuses bodies: smaller ones ----------------------------------------------------------

@test "where nginx takes bodies of 1 MiB the client sends no larger ones, says so, and all is exact" {
	own_nginx 'client_max_body_size 1m;'
	own_fault far -d 25 "$PORT" # so that enough comes up while a PUT is answered
	route_to "$PORT"
	ROUTE+=(-v)
	carries_up 32M
	notes 'a body of * bytes is too large on the way: at most * from now on'
	closed
}

@test "where nginx takes bodies of 100 KiB, or of 1 KiB, the client sends such, and all is exact" {
	own_nginx 'client_max_body_size 100k;'
	carries_both 8M
	notes 'a body of 131072 bytes is too large on the way: at most 65536 from now on'
	own_nginx 'client_max_body_size 1k;'
	carries_up 512K
	tail -n 1 <(grep 'from now on$' err) | grep 'at most 1024 from now on'
	closed
}

# --- what refuses methods: POST --------------------------------------------------------------------

# posts NOTE...: all is exact, with these notes, and the session is closed.
posts() {
	carries_both 4M
	notes "$@"
	half_closes_up
	half_closes_down
	notes "$@"
	closed
}

@test "where squid takes only GET and POST the client sends POST for PUT and DELETE, says so, and all is exact" {
	METHODS='GET POST' own squid start_squid
	route_to "$RELAY" "$PORT"
	ROUTE+=(-v)
	posts 'PUT is refused on the way (403 Forbidden): POST from now on'
	! grep -E '"(PUT|DELETE) ' "$SERVER_DIR/access.log" | grep -v TCP_DENIED || false
}

@test "where squid takes no DELETE the client sends POST for it, and the session is closed" {
	METHODS='GET POST PUT' own squid start_squid
	route_to "$RELAY" "$PORT"
	ROUTE+=(-v)
	posts 'DELETE is refused on the way (403 Forbidden): POST from now on'
}

@test "a method that is refused with 405 or 501 is replaced by POST too" {
	own_nginx 'client_max_body_size 0; if ($request_method = PUT) { return 405; }'
	posts 'PUT is refused on the way (405 Not Allowed): POST from now on'
	own_nginx 'client_max_body_size 0; if ($request_method !~ "^(GET|POST)$") { return 501; }'
	posts 'PUT is refused on the way (501 *): POST from now on'
}

@test "all of it at once: streams held back, bodies of 20 KiB, only GET and POST" {
	own_nginx 'proxy_ignore_headers X-Accel-Buffering; client_max_body_size 20k; limit_except GET POST { deny all; }'
	target accept 'pause 3500' 'pattern 1M 1 &' 'check 1M 2' join half-close eof
	client 'pattern 1M 2 &' 'check 1M 1' join half-close eof 'status 0'
	finished target
	notes '*32768*' '*16384*' '*POST*' '*polling*'
	closed
}

# --- what takes nothing any more -------------------------------------------------------------------

@test "a way that takes connections and says nothing leaves no process behind, once the tunnel is over" {
	start_peer proxy accept head "send $OK" 'expect POST ' head 'expect host:22' "send $STANDS" 'touch open' loop hold
	start near "$PEER" 'await open' 'pause 500' close 'status 74' -- "$PROXYTUNNEL" -p "127.0.0.1:$PORT" -r two.test -w 0 \
		--relay http://relay.test/t -d host:22
	finished near
	await_for 20 ours_gone
}

# --- what needs none of it ---------------------------------------------------------------------------

# needs_only WAY [NOTE]: all is exact, and no other note than that one is there.
needs_only() {
	way "$1"
	ROUTE+=(-v)
	carries_both 16M
	! grep 'from now on$' err | grep -v "${2:-nothing}" || false
	closed
	half_closes_up
	notes
}

@test "by none of the proxies, as they are set up by default, is anything of that needed, but smaller bodies by nginx" {
	local name

	for name in $WAYS; do
		echo "$name"
		case $name in
		nginx) needs_only nginx 'is too large on the way' ;;
		*) needs_only "$name" ;;
		esac
	done
}

# --- what began beside these ----------------------------------------------------------------------------

@test "no fault makes more than 2 requests a second for a minute" {
	local what names=()

	for what in $FAULTS; do
		names+=("flood_$what")
	done
	ended 90 "${names[@]}"
}

@test "no fault makes more than 2 requests a second as long as no session stands" {
	local what names=()

	for what in $OPENING; do
		names+=("opening_$what")
	done
	ended 90 "${names[@]}"
}

@test "no fault makes more than 2 requests a second of a client that polls" {
	ended 90 flood_polling
}

@test "answers that are whole, and bring nothing, make no more than 2 requests a second: streams, polls" {
	ended 90 flood_go_on flood_nothing
}

@test "a stream that is cut whenever it has brought a byte makes no more than 2 requests a second" {
	ended 90 flood_byte
}

@test "a relay whose port is gone within a session is not asked for more than twice a second" {
	ended 90 flood_gone
}

@test "an https:// relay that is gone behind its stunnel makes no more than 2 openssl a second" {
	ended 90 flood_tls
}

@test "a proxy that gives no connection to the next one any more, 502, gets no more than 2 requests a second" {
	ended 90 flood_connect
}

@test "polls that a proxy answers itself, as they take too long, get shorter until they do not" {
	ended 60 shorter
}

@test "a target that has ended and takes no more bytes ends the tunnel within half a minute: 74, one line, and the session is closed" {
	ended 90 taken_nothing
}

@test "what is held back behind a beginning that came at once comes all the same" {
	ended 90 tail
}

@test "stdout may be left unread for long, by streams, by polls, though they are cut meanwhile: nothing is lost, nothing asked for" {
	ended 130 pause_stream pause_polls
}

@test "100 s of nothing but failures are given up: 74, and the line tells what was seen last" {
	ended 130 giving_up_502 giving_up_close giving_up_gone
}
