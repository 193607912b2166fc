#!/usr/bin/env bats
# Reaching the proxy: its name, all of its addresses, and the time that they may take.

load helper

# The program with a name service that says what FAKE_ADDRESSES has; see named.c.
PROXYTUNNEL=${NAMED:-$ROOT/test/bin/named}

OK='HTTP/1.1 200 OK\r\n\r\n'

# start_dead NAME [ADDRESS [STEP...]]: a listener that lets no connection through, as one that waits fills its backlog.
start_dead() {
	local name=$1 address=${2:-127.0.0.1} queue

	shift $(($# < 2 ? $# : 2))
	start_peer "$name" -b 0 -l "$address" "$@" hold
	exec {queue}<>"/dev/tcp/$address/$PORT"
	await backlog_full "$PORT"
}

# The queue of a listener (state 0A) is where another socket has its unread bytes.
backlog_full() {
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q "$(printf ':%04X [0-9A-F:]* 0A 00000000:00000001' "$1")"
}

# start_proxy NAME [OPTION...]: it opens the tunnel for the first who comes.
start_proxy() {
	start_peer "$@" accept head "send ${OK}far" eof close
}

# dials WANT ADDRESSES [OPTION...]: they are tried so. Sets $ms, the time that it took; what -v says is in err.
dials() {
	local want=$1 begin=${EPOCHREALTIME/[.,]/}

	FAKE_ADDRESSES=$2 program -v -p proxy.test:1 -d host:22 "${@:3}" </dev/null
	ms=$(((${EPOCHREALTIME/[.,]/} - begin) / 1000))
	echo "$ms ms"
	status_is "$want"
}

# within LOW HIGH
within() {
	[ "$ms" -ge "$1" ] && [ "$ms" -lt "$2" ]
}

# In which order addresses were tried, by -v.
tried() {
	sed -n 's/^proxytunnel: \[*\([^]]*\)\]*:\([0-9]*\): .* after .*/\1#\2/p' err
}

needs_ipv6() {
	[ -e /proc/net/if_inet6 ] && grep -q '^0\{31\}1 ' /proc/net/if_inet6 || skip 'no IPv6 loopback here'
}

# --- every address ------------------------------------------------------------

@test "the first address that takes the connection is used, and no other is tried" {
	start_proxy other -l 127.0.0.2
	start_proxy proxy
	dials 0 "127.0.0.1#${PORTS[proxy]} 127.0.0.2#${PORTS[other]}"
	out_is far
	[ "$(tried)" = "127.0.0.1#${PORTS[proxy]}" ]
	finished proxy
}

@test "addresses that refuse cost nothing: the next is tried at once" {
	start_proxy proxy
	dials 0 "127.0.0.2#$PORT 127.0.0.3#$PORT 127.0.0.4#$PORT 127.0.0.1#$PORT"
	out_is far
	within 0 700	# less than what three that are waited for would cost
	[ "$(tried | wc -l)" -eq 4 ]
	finished proxy
}

@test "IPv6 and IPv4 are tried in turn, each family in its order, the first address's family first" {
	needs_ipv6
	start_peer none -l 127.0.0.9 hold
	dials 69 "::1#$PORT ::1 127.0.0.1#$PORT 127.0.0.2#$PORT 127.0.0.3#$PORT"
	[ "$(tried | tr '\n' ' ')" = "::1#$PORT 127.0.0.1#$PORT ::1#1 127.0.0.2#$PORT 127.0.0.3#$PORT " ]
	dials 69 "127.0.0.1#$PORT 127.0.0.2#$PORT 127.0.0.3#$PORT ::1#$PORT"
	[ "$(tried | tr '\n' ' ')" = "127.0.0.1#$PORT ::1#$PORT 127.0.0.2#$PORT 127.0.0.3#$PORT " ]
}

@test "a dead first address costs at most 250 ms before the next is tried" {
	start_dead dead
	start_proxy proxy
	dials 0 "127.0.0.1#${PORTS[dead]} 127.0.0.1#${PORTS[proxy]}"
	out_is far
	within 150 900
	finished proxy
}

@test "a dead IPv6 address costs at most 250 ms before an IPv4 one is tried" {
	needs_ipv6
	start_dead dead ::1
	start_proxy proxy
	dials 0 "::1#${PORTS[dead]} ::1#${PORTS[dead]} 127.0.0.1#${PORTS[proxy]}"
	out_is far
	within 150 900
	finished proxy
}

@test "two dead addresses cost 500 ms, and one that refuses between them nothing" {
	start_dead one
	start_dead two
	start_proxy proxy
	dials 0 "127.0.0.1#${PORTS[one]} 127.0.0.2#${PORTS[proxy]} 127.0.0.1#${PORTS[two]} 127.0.0.1#${PORTS[proxy]}"
	out_is far
	within 400 1200
	finished proxy
}

# dialled PORT: a connection there is under way (state 02).
dialled() {
	grep -q "$(printf ' [0-9A-F]*:%04X 02 ' "$1")" /proc/net/tcp
}

@test "the next address is tried beside the first, which may still win" {
	# The connection that fills the backlog is taken away, then that of the program is let in.
	start_dead first 127.0.0.1 'await both' accept accept head "send ${OK}first" eof
	start_dead second
	{ await dialled "${PORTS[second]}" && touch both; } 3>&- &
	dials 0 "127.0.0.1#${PORTS[first]} 127.0.0.1#${PORTS[second]}"
	out_is first
	[ "$(tried | wc -l)" -eq 1 ]
}

@test "-v tells each address, how its try went and the time that it took" {
	start_dead dead
	start_proxy proxy
	dials 0 "127.0.0.2#${PORTS[proxy]} 127.0.0.1#${PORTS[dead]} 127.0.0.1#${PORTS[proxy]}"
	grep -qE "127\.0\.0\.2:${PORTS[proxy]}: Connection refused after [0-9.]+ ms" err
	grep -qE "127\.0\.0\.1:${PORTS[proxy]}: connected after [0-9.]+ ms" err
	finished proxy
}

# --- families and literals ----------------------------------------------------

@test "-4 and -6 use that family only" {
	needs_ipv6
	start_proxy six -l ::1
	start_proxy four
	dials 0 "127.0.0.1#${PORTS[four]} ::1#${PORTS[six]}" -6
	[ "$(tried)" = "::1#${PORTS[six]}" ]
	dials 0 "::1#${PORTS[six]} 127.0.0.1#${PORTS[four]}" -4
	[ "$(tried)" = "127.0.0.1#${PORTS[four]}" ]
	finished six
	finished four
}

@test "-4 or -6 with addresses of the other family only: no host, 68" {
	dials 68 127.0.0.1 -6
	dials 68 ::1 -4
	[ -z "$(tried)" ]
	FAKE_ADDRESSES=::1 program -4 -p '[::1]:1' -d host:22 </dev/null
	status_is 68
	err_one_line
}

@test "a proxy given as IPv6 literal is reached, and the name service not asked" {
	local proxy

	needs_ipv6
	for proxy in '[::1]:PORT' 'http://[::1]:PORT/'; do
		start_proxy six -l ::1
		FAKE_ADDRESSES=hang program -w 5 -p "${proxy/PORT/$PORT}" -d host:22 </dev/null
		status_is 0
		out_is far
		finished six
	done
	# Port 80 is the default; nobody need listen there to see it tried.
	FAKE_ADDRESSES=hang program -v -w 5 -p ::1 -d host:22 </dev/null
	[ "$(tried)" = '::1#80' ]
	limited strace -qq -o calls -e trace=openat "$PROXYTUNNEL" -p '[::1]:1' -d host:22 2>err </dev/null || true
	! grep -E 'nsswitch|resolv.conf|/etc/hosts' calls || false
}

# --- failures -----------------------------------------------------------------

@test "all addresses refuse: 69 at once, one line" {
	start_peer none -l 127.0.0.9 hold
	FAKE_ADDRESSES="127.0.0.1#$PORT 127.0.0.2#$PORT" program -p proxy.test:8080 -d host:22 </dev/null
	status_is 69
	err_one_line
	err_has proxy.test:8080
	err_has 'Connection refused'
}

@test "a name that does not resolve: 68, one line that tells why" {
	local word

	for word in none again; do
		FAKE_ADDRESSES=$word program -p proxy.test:8080 -d host:22 </dev/null
		status_is 68
		err_one_line
		err_has 'cannot resolve proxy.test: '
	done
}

@test "a name service that the system cannot serve, and no descriptor to be had: 71, one line" {
	local word

	for word in system memory 'full 127.0.0.1'; do
		FAKE_ADDRESSES=$word program -p proxy.test:8080 -d host:22 </dev/null
		status_is 71
		err_one_line
		err_has proxy.test:8080
	done
	grep -qE 'open files|descriptors' err # glibc's words, musl's
}

@test "a name service that hangs is ended by -w: 75, one line that names what did not resolve" {
	local begin=$SECONDS

	FAKE_ADDRESSES=hang program -w 1 -p proxy.test:8080 -d host:22 </dev/null
	status_is 75
	err_one_line
	err_has proxy.test:8080
	err_has resolve
	[ $((SECONDS - begin)) -le 2 ]
}

@test "addresses that never answer are ended by -w: 75, one line; -qq says nothing" {
	start_dead dead
	FAKE_ADDRESSES="127.0.0.1#$PORT 127.0.0.1#$PORT" program -w 1 -p proxy.test:8080 -d host:22 </dev/null
	status_is 75
	err_one_line
	err_has proxy.test:8080
	err_has connection
	FAKE_ADDRESSES="127.0.0.1#$PORT" program -qq -w 1 -p proxy.test:8080 -d host:22 </dev/null
	status_is 75
	err_empty
}

@test "the time limit holds though the caller has SIGALRM blocked or ignored" {
	status=0
	FAKE_ADDRESSES=hang limited env --ignore-signal=ALRM --block-signal=ALRM "$PROXYTUNNEL" \
		-w 1 -p proxy.test:8080 -d host:22 </dev/null >out 2>err || status=$?
	status_is 75
	err_one_line
}

# --- where there is no proxy --------------------------------------------------

@test "a destination that no_proxy names is dialled likewise, and a failure names it" {
	start_dead dead
	start_peer far accept 'send far' 'expect up' eof close
	FAKE_ADDRESSES="127.0.0.1#${PORTS[dead]} 127.0.0.1#${PORTS[far]}" http_proxy=proxy.test no_proxy=.test \
		program -d host.test:22 < <(printf up)
	status_is 0
	out_is far
	err_empty
	finished far
	FAKE_ADDRESSES=none http_proxy=proxy.test no_proxy=.test program -d host.test:22 </dev/null
	status_is 68
	err_has host.test:22
}
