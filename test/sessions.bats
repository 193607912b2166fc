#!/usr/bin/env bats
# The relay's side of a session: what it answers, to whom, how many there may be, and that none touches another.

load helper
load relay

NAMED=${NAMED:-$ROOT/test/bin/named}
HASTY=${HASTY:-$ROOT/test/bin/hasty}

# What happens at once takes no longer, in milliseconds.
SOON=700

# What takes long happens beside the tests, by a clock that is 20 times as fast, see hasty.c: the 120 s of a session
# take 6. What has come of it is looked at by the last tests.
setup_file() {
	servers_begin
	PROXYTUNNEL=$HASTY start_proxytunnel --max-clients 1100 --allow '127.0.0.1:*'
	export HASTY_RELAY=$PORT HASTY_PID=$PID HASTY_LOG=$SERVER_DIR/log
	HASTY_DESCRIPTORS=$(descriptors "$HASTY_PID")
	export HASTY_DESCRIPTORS
	RELAY=$PORT
	route_to "$RELAY"
	idle_begin
	unheard_begin
	vanished_begin
	slow_begin
	abandoned_begin
}

teardown_file() {
	server_stop "$HASTY_PID"
	servers_end
}

# relays OPTION...: a relay, on RELAY, with its log in relay.err. With FAKE_ADDRESSES all names have those, see named.c.
relays() {
	local program=$PROXYTUNNEL

	[ -z "${FAKE_ADDRESSES:-}" ] || program=$NAMED
	PROXYTUNNEL=$program relay_start "$@"
}

# start_far STEP...: a target, on FAR.
start_far() {
	start_peer far -t 150 "$@"
	FAR=$PORT
}

# --- requests ----------------------------------------------------------------------------

# session NUMBER: those that follow are of it. Sets ID and KEY.
session() {
	printf -v ID '5e55%028x' "$1"
	printf -v KEY 'c1a0%028x' "$1"
}

# request METHOD WHAT [FIELDS [BODY]]: the step that sends it; WHAT stands behind the id, BODY is as the peer has it.
request() {
	local plain=${4:-} length=

	plain=${plain//\\x??/x}
	plain=${plain//\\?/x}
	[ $# -lt 4 ] || length="Content-Length: ${#plain}\r\n"
	echo "send $1 ${BASE-/t}/$ID$2 HTTP/1.1\r\nHost: relay\r\n${KEY:+Tunnel-Key: $KEY\r\n}${3:-}$length\r\n${4:-}"
}

# opens [TARGET]: the step that opens the session; the target is far unless it says another.
opens() {
	request POST '' '' "${1:-127.0.0.1:$FAR}"
}

# ask STEP...: a client of the relay, to its end; what it was told is in reply.
ask() {
	: >reply
	"$PEER" -c "$RELAY" -t "${ASK_LIMIT:-20}" 'log reply' "$@" sink 2>asked 3>&- || {
		cat asked
		return 1
	}
}

# asks METHOD WHAT [FIELDS [BODY]]: one request, and nothing behind it.
asks() {
	ask "$(request "$1" "$2" "Connection: close\r\n${3:-}" "${@:4}")"
}

# answered STATUS [BODY]: so was the last who asked, by a relay, in a whole answer, and with nothing behind it; BODY as printf's %b has it.
answered() {
	local length=

	if head_is "$1"; then
		[ "$1" -eq 204 ] || length=$(body | wc -c)
		[ "$(field Content-Length)" != "$length" ] || [ $# -gt 1 ] || return 0
		[ "$(field Content-Length)" != "$length" ] || ! cmp <(printf %b "$2") <(body) || return 0
	fi
	echo "not a whole answer of ${*}:"
	cat -v reply
	return 1
}

# head_is STATUS: the reply has that, and what each answer has; one with bytes of a tunnel in it may not be changed on the way.
# Sets HEAD.
head_is() {
	local line

	HEAD=
	while IFS= read -r line && [ "$line" != $'\r' ]; do
		HEAD+=$line$'\n'
	done <reply
	[[ $HEAD == "HTTP/1.1 $1 "* ]] && [ "$(field Tunnel-Relay)" = 2 ] && [[ $(field Cache-Control) == no-store* ]] &&
		{ [ "$1" -ne 200 ] || { [ "$(field Content-Type)" = application/octet-stream ] && [[ $(field Cache-Control) == *no-transform ]]; }; }
}

# field NAME: of HEAD, each time that it stands there.
field() {
	local line

	while IFS= read -r line; do
		[[ $line != "$1: "* ]] || printf '%s\n' "${line:${#1}+2:-1}"
	done <<<"$HEAD"
}

# What stands behind the head, of which the reply has one.
body() {
	tail -c "+$((${#HEAD} + 3))" reply
}

# frame TYPE [TEXT]: as printf's %b, and the peer, have it; TEXT is plain.
frame() {
	printf '%s\\x%02x\\x%02x\\x%02x%s' "$1" $((${#2} >> 16)) $((${#2} >> 8 & 255)) $((${#2} & 255)) "$2"
}

# stands [NUMBER [TARGET]]: the session is opened.
stands() {
	session "${1:-1}"
	asks POST '' '' "${2:-127.0.0.1:$FAR}"
	answered 201
}

# puts OFFSET BODY EXPECTED [FIELDS]: it is told that EXPECTED is where to go on.
puts() {
	asks PUT "/$1" "${4:-}" "$2"
	answered 200 "$3"
}

# gets OFFSET FRAMES...: in the answer to a poll, at once.
gets() {
	ASK_LIMIT=5 asks GET "/$1?$((SEQUENCE += 1))&poll=30"
	answered 200 "$(shift && printf %s "$@")"
}
SEQUENCE=0

# refuses STATUS METHOD WHAT [FIELDS [BODY]]
refuses() {
	asks "${@:2}"
	answered "$1"
}

# is_gone: the session, for whoever asks.
is_gone() {
	all_refused 410 "$(request GET '/0?999&poll=0')" "$(request PUT /0 '' x)" "$(request DELETE '')"
}

# --- what is left ------------------------------------------------------------------------

# logs PATTERN: a line of the relay's log is that, sooner or later; * is anything.
logs() {
	await has_logged "$1" || {
		cat -v relay.err
		return 1
	}
}

has_logged() {
	local line

	while IFS= read -r line; do
		# shellcheck disable=SC2053
		[[ $line != "proxytunnel: "$1 ]] || return 0
	done <relay.err
	return 1
}

# connections_are COUNT PORT: so many processes are connected to it. To be awaited, as what others do disturbs the count.
connections_are() {
	[ "$(awk -v port="$(printf ':%04X' "$2")" 'substr($3, length($3) - 4) == port && $10 != 0' /proc/net/tcp | wc -l)" -eq "$1" ]
}

accounts() {
	printf '%b' "$1" >accounts
	chmod 600 accounts
}

# authorization USER:PASSWORD: the field.
authorization() {
	echo "Authorization: Basic $(printf %s "$1" | base64 -w 0)\r\n"
}

# --- opening and closing -----------------------------------------------------------------

@test "a session is opened by 201; the same request again is told 200, and opens no other" {
	start_far accept 'expect up' 'send far' eof
	relays --allow "127.0.0.1:$FAR"
	stands
	asks POST '' '' "127.0.0.1:$FAR"
	answered 200
	asks POST '' '' "127.1:0$FAR"
	answered 200
	await connections_are 1 "$FAR"
	puts 0 up 2
	gets 0 "$(frame O 2)" "$(frame D far)"
}

@test "an id that stands already is told 409 for another target, and for another key, and its session goes on" {
	start_far accept 'expect up' 'send far' eof
	relays --allow '127.0.0.1:*'
	stands
	refuses 409 POST '' '' 127.0.0.1:1
	KEY=${KEY/c1a0/ffff}
	refuses 409 POST '' '' "127.0.0.1:$FAR"
	session 1
	puts 0 up 2
	gets 0 "$(frame O 2)" "$(frame D far)"
}

@test "what is not allowed is told 403, what cannot be reached 422, each with a log line; the id may be used again" {
	start_far loop 'expect up' eof
	FAKE_ADDRESSES=none relays --allow "127.0.0.1:$FAR" --allow 127.0.0.1:1 --allow name.test:22
	session 1
	for target in host.test:22 127.0.0.1:2 127.0.0.2:"$FAR" localhost:"$FAR" '[::1]':"$FAR"; do
		refuses 403 POST '' '' "$target"
		logs "127.0.0.1:* session $ID to ${target/\[/\\[}: 403, not allowed"
	done
	refuses 422 POST '' '' 127.0.0.1:1
	body | grep -q 'Connection refused'
	logs "127.0.0.1:* session $ID to 127.0.0.1:1: 422, cannot connect: Connection refused"
	refuses 422 POST '' '' name.test:22
	logs "127.0.0.1:* session $ID to name.test:22: 422, cannot resolve the name: *"
	is_gone
	stands
	puts 0 up 2
}

@test "a name that only a wildcard allows, and that leads inside, is told 403" {
	start_far loop 'touch reached' eof
	FAKE_ADDRESSES="127.0.0.1#$FAR" relays --allow '*:22'
	session 1
	refuses 403 POST '' '' name.test:22
	logs "* session $ID to name.test:22: 403, not allowed: its address is inside"
	refuses 403 POST '' '' 127.0.0.1:22
	[ ! -e reached ]
}

@test "a body that is no HOST:PORT is told 400" {
	local target

	relays
	session 1
	for target in '' : 22 host host: :22 host:0 host:65536 host:x 'host :22' ' host:22' 'host:22 ' 'host:22\r\n' 'host:22\0' '\0' user@host:22 \
		::1:22 '[::1:22' http://host:22 "$(printf 'x%.0s' {1..256}):22" "$(printf 'x%.0s' {1..3000}):22"; do
		echo "$target"
		refuses 400 POST '' '' "$target"
	done
	refuses 400 POST '' ''	# without a length
}

@test "DELETE closes: 204, the target sees the end at once, and to whoever asks, by POST too, the session is gone" {
	local close n=0

	relays
	for close in DELETE 'POST ?close'; do
		rm -f closed
		start_far accept 'expect up' 'await closed' "eof $SOON" close
		stands $((n += 1))
		puts 0 up 2
		# shellcheck disable=SC2086
		asks $close '' '' ''
		answered 204
		touch closed
		finished far
		await is_gone
		refuses 410 POST '' '' "127.0.0.1:$FAR"
		refuses 410 POST '' '' 127.0.0.1:1
		logs "127.0.0.1:* session $ID to 127.0.0.1:$FAR: done, 2 bytes up, 0 down, *.??? s"
	done
}

@test "the relay takes any base, and reads the path from its end; from a proxy the target may be a whole URL" {
	local n=0

	start_far loop 'echo 64K'
	relays
	for BASE in '' /t /a/b/c /t/ // '/~x/%41' "/5e55$(printf %028x 1)" "/5e55$(printf %028x 1)/0" /0 http://relay http://relay:80/t https://relay/t; do
		stands $((n += 1))
		puts 0 up 2
		SEQUENCE=0
		gets 0 "$(frame O 2)" "$(frame D up)"
		asks DELETE ''
		answered 204
	done
}

@test "what is no request of a relay is told 404, and opens nothing" {
	local what

	start_far loop 'touch reached'
	relays
	session 1
	for what in 'GET ' 'PUT ' 'HEAD ' 'POST /x' 'PUT /x' 'GET /0' 'GET /0?' 'GET /0?x' 'GET /0?1&poll=' 'GET /0?1&poll=x' 'GET /0?1x' 'PUT /0?x' 'PUT /-1' \
		'PUT /0/0' 'DELETE /0' 'POST ?x' 'DELETE ?x' 'POST /' 'PUT /99999999999999999999'; do
		ask "$(request "${what% *}" "${what#* }" 'Connection: close\r\n' "$([[ $what == GET* ]] || echo "127.0.0.1:$FAR")")"
		head -n 1 reply | grep -q '^HTTP/1.1 404 '
	done
	for ID in "${ID%?}" "${ID}0" "${ID^^}" "${ID/5e/5g}" "${ID/5e/..}" x ''; do
		ask "$(request POST '' 'Connection: close\r\n' "127.0.0.1:$FAR")"
		head -n 1 reply | grep -q '^HTTP/1.1 404 '
	done
	[ ! -e reached ]
}

# --- upstream ----------------------------------------------------------------------------

@test "a PUT is answered with the offset expected next; what comes again, or overlaps, is taken once, and what is beyond not at all" {
	start_far accept 'expect abcdefghij' 'touch all' 'eof 9000'
	relays
	stands
	puts 0 abc 3
	puts 0 abc 3
	puts 0 a 3
	puts 0 '' 3
	puts 3 '' 3
	puts 1 bcdef 6
	puts 9 jkl 6
	puts 7 '' 6
	puts 9000000000000000000 x 6
	puts 6 ghij 10
	await test -e all
	puts 2 cdefghij 10
	asks POST /4 '' efghij	# in the place of a PUT
	answered 200 10
}

@test "?end ends the upstream behind its body, once that is there; it may be repeated, and nothing comes behind it" {
	start_far accept 'expect abcdef' eof 'touch ended' 'send far' 'await over'
	relays
	stands
	puts 0 abc 3
	puts '4?end' ef 3
	puts '9?end' '' 3
	puts '1?end' b 3
	[ ! -e ended ]
	puts '2?end' cdef 6
	await test -e ended
	puts '2?end' cdef 6
	puts '6?end' '' 6
	puts 0 abcdef 6
	refuses 416 PUT /6 '' g
	refuses 416 PUT /0 '' abcdefg
	refuses 416 PUT '/6?end' '' g
	puts 6 '' 6
	gets 0 "$(frame O 6)" "$(frame D far)"
}

@test "a body of 20 MiB comes through, and one of 1 MiB beside others that are repeated, overlap or were sent twice at once" {
	local n

	start_far accept 'check 20M 1' 'check 1M 2' eof close
	relays
	stands
	session 1
	ask "$(request PUT /0 'Content-Length: 20971520\r\nConnection: close\r\n')" 'pattern 20M 1'
	answered 200 20971520
	for n in 1 2 3 4 5 6; do
		start "put$n" "$PEER" -c "$RELAY" "$(request PUT /20971520 'Content-Length: 1048576\r\n')" 'pattern 1M 2' head 'expect 22020096'
	done
	for n in 1 2 3 4 5 6; do
		finished "put$n"
	done
	puts '22020096?end' '' 22020096
	finished far
}

@test "a client that asks for it is told 100 before it sends a body, of any request; who is refused is told that at once" {
	start_far loop 'echo 64K'
	relays
	session 1
	expects() {
		request "$1" "$2" "Expect: 100-continue\r\nContent-Length: $3\r\n"
	}
	ask "$(expects POST '' "$((10 + ${#FAR}))")" 'expect HTTP/1.1 100 Continue\r\n\r\n' 'quiet 100' "send 127.0.0.1:$FAR" 'expect HTTP/1.1 201 ' half-close
	ask "$(request PUT /0 '' '')" head 'expect 0' "$(expects PUT /0 5)" 'expect HTTP/1.1 100 Continue\r\n\r\n' 'quiet 100' 'send hello' head 'expect 5' half-close
	ask "$(expects PUT /0 6)" 'expect HTTP/1.1 100 Continue\r\n\r\n' 'quiet 100' 'send hello!' head 'expect 6' half-close
	ask "$(expects PUT /99 5)" head 'expect 6'
	puts 6 '' 6
	session 2
	"$PEER" -c "$RELAY" -t 5 "$(expects PUT /0 5)" 'expect HTTP/1.1 410 '
	"$PEER" -c "$RELAY" -t 5 "$(expects POST '' 3000)" 'expect HTTP/1.1 400 '
}

@test "an answer waits for the rest of a body that is refused, up to 4 MiB, so that proxies hear it; of a larger one it waits for none" {
	local refusal

	start_far loop 'echo 64K'
	relays
	stands
	puts '0?end' '' 0
	for refusal in 416 410; do
		[ "$refusal" != 410 ] || session 2
		ask "$(request PUT /0 'Content-Length: 4194304\r\nConnection: close\r\n')" 'pattern 2M' 'quiet 100' 'pattern 2097151' 'quiet 100' 'send x'
		answered "$refusal"
		"$PEER" -c "$RELAY" "$(request PUT /0 'Content-Length: 4194305\r\n')" "expect HTTP/1.1 $refusal "
	done
}

# --- downstream --------------------------------------------------------------------------

@test "a GET streams frames: the upstream offset at once, bytes as they come, and the end, once all came" {
	start_far accept 'expect up' 'send one' 'await two' 'send two' 'await three' close
	relays
	stands
	puts 0 up 2
	start stream "$PEER" -c "$RELAY" 'log reply' "$(request GET '/0?1')" head "expect $(frame O 2)$(frame D one)" 'touch two' \
		"expect $(frame D two)" 'quiet 200' 'touch three' "expect $(frame E)" "eof $SOON"
	finished stream
	head_is 200
	[ "$(field Connection)" = close ]
	[ "$(field X-Accel-Buffering)" = no ]
	! grep -qiE '^(Content-Length|Transfer-Encoding):' reply || false
}

@test "a poll is a whole answer, given as soon as there is a byte, or after its time, and its connection may be used again" {
	local begin

	start_far accept 'await one' 'send one' 'await two' 'send two' 'await three' close
	relays
	stands
	begin=${EPOCHREALTIME/[.,]/}
	"$PEER" -c "$RELAY" 'log reply' "$(request GET '/0?1&poll=1')" 'quiet 700' head "expect $(frame O 0)" \
		"$(request GET '/0?2&poll=20')" 'quiet 100' 'touch one' head "expect $(frame O 0)$(frame D one)" \
		"$(request GET '/3?3&poll=0')" head "expect $(frame O 0)" \
		"$(request GET '/3?4&poll=20')" 'touch two' head "expect $(frame O 0)$(frame D two)"
	[ $((${EPOCHREALTIME/[.,]/} - begin)) -lt 4000000 ]
	[ "$(grep -c $'^Content-Length: ' reply)" -eq 4 ]
	! grep -q '^Connection: close' reply || false
	touch three
	asks GET '/6?5&poll=20'
	answered 200 "$(frame O 0)$(frame E)"
}

@test "all bytes and the end are told as often as they are asked for, also when both directions have ended, until the session is closed" {
	start_far accept 'send far' half-close eof close
	relays
	stands
	puts '0?end' '' 0
	finished far
	for _ in 1 2; do
		gets 0 "$(frame O 0)" "$(frame D far)" "$(frame E)"
		puts '0?end' '' 0
	done
	ask "$(request GET "/1?$((SEQUENCE += 1))")"
	head_is 200
	cmp <(body) <(printf %b "$(frame O 0)$(frame D ar)$(frame E)")
	gets 3 "$(frame O 0)" "$(frame E)"
	gets 3 "$(frame O 0)" "$(frame E)"
	asks GET '/3?999&poll=0'
	answered 200 "$(frame O 0)$(frame E)"
	asks DELETE ''
	answered 204
}

@test "a GET of a lower number is told 409, and disturbs none; a higher one, or the same again, takes the other's place" {
	start_far accept 'await all' 'send far' eof
	relays
	stands
	start seventh "$PEER" -c "$RELAY" "$(request GET '/0?7')" head "expect $(frame O 0)" 'touch seven' 'gone 9000' 'touch over'
	await test -e seven
	refuses 409 GET '/0?6'
	refuses 409 GET '/0?0&poll=0'
	refuses 409 GET '/0?1&poll=9'
	[ ! -e over ]
	start again "$PEER" -c "$RELAY" "$(request GET '/0?7')" head "expect $(frame O 0)" 'touch again' 'gone 9000'
	finished seventh
	await test -e again
	start polls "$PEER" -c "$RELAY" "$(request GET '/0?8&poll=20')" 'gone 9000'
	finished again
	start last "$PEER" -c "$RELAY" "$(request GET '/0?18446744073')" head "expect $(frame O 0)" 'touch all' "expect $(frame D far)"
	finished polls
	finished last
	refuses 409 GET '/0?9'
}

@test "a GET acknowledges what is before its offset, which is kept no more; an offset that is not there is told 416" {
	start_far accept 'send hello' 'expect up' eof
	relays
	stands
	refuses 416 GET '/1?1&poll=0'
	gets 0 "$(frame O 0)" "$(frame D hello)"
	gets 0 "$(frame O 0)" "$(frame D hello)"
	refuses 416 GET '/6?100&poll=0'
	refuses 416 GET '/9000000000000000000?100&poll=0'
	gets 2 "$(frame O 0)" "$(frame D llo)"
	refuses 416 GET '/1?100&poll=0'
	refuses 409 GET '/5?1&poll=0'	# which comes late, and acknowledges nothing
	gets 2 "$(frame O 0)" "$(frame D llo)"
	puts 0 up 2
	asks GET '/5?100&poll=0'
	answered 200 "$(frame O 2)"
	refuses 416 GET '/4?100&poll=0'
	puts 2 '' 2
}

# kept: the KiB that each session holds of what its client has not acknowledged.
kept() {
	find "/proc/${PIDS[relay]}/fd" -lname '/memfd:session*' -exec stat -L -c %b {} + | awk '{ print $1 / 2 }'
}

@test "not more than 8 MiB are kept for a client that acknowledges nothing: it is told to, and the target waits meanwhile" {
	local first=$((8 << 20)) SEQUENCE=9

	start_far accept 'pattern 24M' close
	relays
	stands
	ask "$(request GET '/0?1')"
	# Frames stand between the bytes.
	[ "$(wc -c <reply)" -ge "$first" ]
	[ "$(wc -c <reply)" -lt $((first + 20000)) ]
	[ "$(tail -c 4 reply | tr '\0' 0)" = B000 ]
	[ "$(kept)" -le 8300 ]
	kill -0 "${PIDS[far]}"
	# Asked for once more, it is there once more; and there is no more of it.
	ask "$(request GET '/0?2')"
	[ "$(wc -c <reply)" -ge "$first" ]
	[ "$(tail -c 4 reply | tr '\0' 0)" = B000 ]
	refuses 416 GET "/$((first + 1))?3&poll=0"
	ask "$(request GET "/$first?3")" head 'sink'
	ask "$(request GET "/$((2 * first))?4")" head 'sink'
	finished far
	gets $((3 * first)) "$(frame O 0)" "$(frame E)"
}

# The relay with the fast clock, for which the minute is 3 s.
@test "a session that has been busy holds little memory once its client has acknowledged all, and nothing came for a minute" {
	start_far loop 'echo 64K'
	RELAY=$HASTY_RELAY
	PIDS[relay]=$HASTY_PID
	stands 9997
	start stream "$PEER" -c "$RELAY" 'log stream' "$(request GET '/0?1')" sink
	ask "$(request PUT /0 'Content-Length: 1048576\r\nConnection: close\r\n')" 'pattern 1M'
	answered 200 1048576
	await kept_is -ge 1000
	finished stream
	[ "$(tail -c 4 stream | tr '\0' 0)" = B000 ]
	ask "$(request GET '/1048576?9&poll=0')" head 'expect O' half-close
	kept_is -lt 100
	SEQUENCE=9
	puts 1048576 more 1048580
	gets 1048576 "$(frame O 1048580)" "$(frame D more)"
	asks DELETE ''
	unset "PIDS[relay]"
}

# kept_is COMPARISON NUMBER: the most that a session holds is.
kept_is() {
	test "$(kept | sort -n | tail -n 1)" "$@"
}

@test "a stream goes on with another after each 8 MiB, and not a byte is lost" {
	local gets

	relays
	ROUTE+=(-v)
	carries_down 200M
	gets=$(grep -c '> GET ' err)
	echo "$gets"
	[ "$gets" -ge 25 ]
	[ "$gets" -le 30 ]
}

@test "a target that resets breaks the tunnel: what came before is told, then an error, and a PUT is told 422" {
	start_far accept 'expect up' 'send far' 'await got' reset
	relays
	stands
	puts 0 up 2
	"$PEER" -c "$RELAY" "$(request GET '/0?1')" head "expect $(frame O 2)$(frame D far)" 'touch got' \
		"expect $(frame X 'Connection reset by peer')" "eof $SOON"
	SEQUENCE=1
	gets 0 "$(frame O 2)" "$(frame D far)" "$(frame X 'Connection reset by peer')"
	asks PUT /2 '' more
	answered 422 'Connection reset by peer\n'
	asks PUT /2 '' ''
	answered 422
	asks DELETE ''
	answered 204
	logs "127.0.0.1:* session $ID to 127.0.0.1:$FAR: broken: Connection reset by peer, 2 bytes up, *"
}

# --- who may ask -------------------------------------------------------------------------

# strangers TARGET: whatever is asked of the session, which leads there, with whatever key, is told 410; only opening it
# with another key is told 409.
strangers() {
	local key right=$KEY gone=() taken=()

	for key in "${right/c1a0/ffff}" '' 0 "${right%?}" "${right}0" "${right^^}X" "$right $right" "$right,$right" "\"$right\"" "../$ID/$right" \
		"$right\r\nTunnel-Key: $right" "${right/c1a0/ffff}\r\nTunnel-Key: $right" "$right\r\ntunnel-key: x"; do
		KEY=$key
		gone+=("$(request PUT /0 '' x)" "$(request PUT '/0?end' '' '')" "$(request POST /0 '' x)"
			"$(request GET '/0?999999')" "$(request GET '/0?999999&poll=9')" "$(request DELETE '')" "$(request POST '?close' '' '')")
		if [ "${#key}" -eq 32 ]; then
			taken+=("$(request POST '' '' "$1")" "$(request POST '' '' 127.0.0.1:1)")
		else
			gone+=("$(request POST '' '' "$1")")
		fi
	done
	KEY=$right
	all_refused 410 "${gone[@]}"
	all_refused 409 "${taken[@]}"
}

# all_refused STATUS REQUEST...: each is answered so, on a connection of its own that is then closed.
all_refused() {
	local request steps=()

	for request in "${@:2}"; do
		steps+=("$request" sink connect)
	done
	ask "${steps[@]}" half-close
	[ "$(grep -c "^HTTP/1.1 $1 " reply)" -eq $(($# - 1)) ]
	[ "$(grep -c $'^Tunnel-Relay: 2\r$' reply)" -eq $(($# - 1)) ]
}

@test "a stranger who knows the id but not the key is told 410 for everything, and a transfer under way goes on, exact" {
	relays -v
	target accept 'pattern 100M 1 &' 'check 50M 2' 'await over' 'check 50M 3' join half-close eof
	start_client client 'check 100M 1 &' 'pattern 50M 2' 'pattern 50M 3' join half-close eof 'status 0'
	logs '127.0.0.1:* session * to *: asked for'
	ID=$(sed -n 's/.* session \([0-9a-f]*\) to .*asked for.*/\1/p' relay.err)
	KEY=c1a0c1a0c1a0c1a0c1a0c1a0c1a0c1a0
	strangers "127.0.0.1:$TARGET"
	kill -0 "${PIDS[client]}"
	touch over
	finished client
	finished target
	logs "127.0.0.1:* session $ID to 127.0.0.1:$TARGET: done, 104857600 bytes up, 104857600 down, *"
}

@test "a stranger's key may be like the right one, or be that of another session: 410, and nothing has happened to either" {
	local key

	start_far loop 'expect up' 'send far' eof
	relays
	stands 2
	stands 1
	strangers "127.0.0.1:$FAR"
	session 2
	key=$KEY
	session 1
	KEY=$key
	is_gone
	session 1
	puts 0 up 2
	gets 0 "$(frame O 2)" "$(frame D far)"
	session 2
	puts 0 up 2
	gets 0 "$(frame O 2)" "$(frame D far)"
}

@test "with -F each request needs the credentials of an account: 401 with the realm, on a connection's first request and on later ones" {
	local field right

	accounts 'open:sesame\nother:thing\n'
	start_far loop 'expect upgo' 'send upgo' eof
	relays -v -F accounts
	right=$(authorization open:sesame)
	session 1
	for field in '' "$(authorization open:sesam)" "$(authorization open:thing)" "$(authorization :)" "Proxy-$right" "$right$right" 'Authorization: Basic\r\n' \
		"${right/Basic/Bearer}"; do
		refuses 401 POST '' "$field" "127.0.0.1:$FAR"
		[[ $(field WWW-Authenticate) == 'Basic realm="'?*'"' ]]
		[ -z "$(field Proxy-Authenticate)" ]
	done
	asks POST '' "$right" "127.0.0.1:$FAR"
	answered 201
	refuses 401 PUT /0 '' x
	refuses 401 PUT /0 "Proxy-$right" x
	refuses 401 GET '/0?1'
	refuses 401 DELETE ''
	ask "$(request PUT /0 "$right" up)" head 'expect 2' "$(request PUT /2 '' x)"
	grep -q 'HTTP/1.1 401 ' reply
	ask "$(request PUT /0 "$right" up)" head 'expect 2' "$(request PUT /2 "$(authorization other:thing)" go)" head 'expect 4' half-close
	asks GET '/0?1&poll=5' "$right"
	answered 200 "$(frame O 4)$(frame D upgo)"
	logs '127.0.0.1:* to -: 401, no password'
	logs '127.0.0.1:* user open to -: 401, wrong password'
	! grep -iE "sesam|thing|b3Blb|c1a0" relay.err || false
}

@test "credentials for the relay are not those of its CONNECT: 407 for the one, 401 for the other" {
	local basic

	accounts 'open:sesame\n'
	start_far loop 'echo 64K'
	relays -F accounts
	basic=$(authorization open:sesame)
	ask "send CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\n$basic\r\n"
	grep -q '^HTTP/1.1 407 ' reply
	ask "send CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\nProxy-$basic\r\nup" 'expect HTTP/1.1 200 ' half-close
	session 1
	refuses 401 POST '' "Proxy-$basic" "127.0.0.1:$FAR"
}

# --- what is sent wrong ------------------------------------------------------------------

@test "a body in chunks is told 411, and nothing of it is taken" {
	start_far loop 'touch reached' 'echo 64K'
	relays
	session 1
	for what in '' /0 '/0?end'; do
		for method in PUT POST; do
			[ "$method$what" != PUT ] || continue
			ask "$(request "$method" "$what" 'Transfer-Encoding: chunked\r\nConnection: close\r\n')" 'send 5\r\nhello\r\n0\r\n\r\n'
			answered 411
		done
	done
	[ ! -e reached ]
	stands
	ask "$(request PUT /0 '' up)" head 'expect 2' "$(request PUT /2 'Transfer-Encoding: chunked\r\n')5\r\nhello\r\n0\r\n\r\n"
	grep -q 'HTTP/1.1 411 ' reply
	puts 2 '' 2
	gets 0 "$(frame O 2)" "$(frame D up)"
}

@test "a hostile head in a relay's request is told 400, whether it is the first of a connection or not, and nothing comes of it" {
	local begin fields host='Host: relay\r\n'

	start_far loop 'echo 64K'
	relays
	stands
	begin="PUT /t/$ID/0 HTTP/1.1\r\nTunnel-Key: $KEY\r\n"
	for fields in "${host}Content-Length: 1\r\nTransfer-Encoding: chunked" "${host}Content-Length: 1\r\nContent-Length: 1" "${host}Content-Length: 1\r\nContent-Length: 2" \
		"${host}Content-Length: 1, 1" "${host}Content-Length: -1" "${host}Content-Length: +1" "${host}Content-Length: 0x1" "${host}Content-Length: " \
		"${host}Content-Length: 99999999999999999999" "${host}Content-Length : 1" "$host Content-Length: 1" 'Content-Length: 1' \
		"$host${host}Content-Length: 1" 'Host: a b\r\nContent-Length: 1' "${host}X: a\r\n b\r\nContent-Length: 1" "${host}X: a\rContent-Length: 1" \
		"${host}X\x01: a\r\nContent-Length: 1" "${host}X\r\nContent-Length: 1" "$host: x\r\nContent-Length: 1"; do
		echo "$fields"
		ask "send $begin$fields\r\n\r\nx"
		grep -q '^HTTP/1.1 400 ' reply
		ask "$(request PUT /0 '' '')" head 'expect 0' "send $begin$fields\r\n\r\nx"
		grep -q 'HTTP/1.1 400 ' reply
	done
	ask "$(request PUT /0 '' '')" head 'expect 0' "send ${begin/ HTTP/  HTTP}$host\r\n"
	grep -q 'HTTP/1.1 400 ' reply
	ask "send $begin${host}X: a\0\r\nContent-Length: 1\r\n\r\nx"
	grep -q '^HTTP/1.1 400 ' reply
	"$PEER" -c "$RELAY" "$(request PUT /0 '' '')" head 'expect 0' "send $begin${host}X: a\0\r\n\r\n" 'expect HTTP/1.1 400 '
	puts 0 up 2
	gets 0 "$(frame O 2)" "$(frame D up)"
}

@test "a head of 64 KiB is taken, on a connection's later requests too, and one without an end ends it, with the session going on" {
	local length

	start_far loop 'echo 64K'
	relays
	stands
	length=$((65536 - $(request PUT /0 'X: \r\nContent-Length: 2\r\n' | sed 's/^send //' | tr -d '\n' | xargs -0 printf %b | wc -c)))
	big=("$(request PUT /0 'Content-Length: 2\r\nX: ' | sed 's/\\r\\n$//')" "repeat $length x" 'send \r\n\r\nup')
	ask "${big[@]}" head 'expect 2' "${big[@]}" head 'expect 2' half-close
	"$PEER" -c "$RELAY" "$(request PUT /0 '' '')" head 'expect 2' 'repeat 65537 x' 'expect HTTP/1.1 431 '
	gets 0 "$(frame O 2)" "$(frame D up)"
}

@test "a connection that ends or is reset within a head or a body takes nothing along" {
	local begin

	start_far loop 'expect upgoes' 'send upgoes' eof
	relays
	stands
	begin="$(request PUT /0 'Content-Length: 10\r\n')"
	for end in half-close reset; do
		for text in "${begin:0:20}" "${begin:0:150}" "$begin" "${begin}u" "${begin}up"; do
			"$PEER" -c "$RELAY" "$text" 'pause 20' "$end"
			"$PEER" -c "$RELAY" "$(request PUT /0 '' '')" head 'expect 0' "$text" 'pause 20' "$end" 2>peer.err || grep -q 'other bytes: [12]' peer.err
		done
	done
	puts 0 upgoes 6
	gets 0 "$(frame O 6)" "$(frame D upgoes)"
}

@test "a body behind a GET is no further request: 400, and nothing comes after it" {
	start_far loop 'echo 64K'
	relays
	stands 2
	stands 1
	for fields in '' 'Connection: close\r\n'; do
		session 2
		inner=$(request PUT /0 '' x | sed 's/^send //')
		session 1
		ask "$(request GET '/0?1&poll=0' "$fields" "$inner")"
		answered 400
		ask "$(request PUT /0 '' '')" head 'expect 0' "$(request GET '/0?1&poll=0' "$fields" "$inner")"
		[ "$(grep -ac 'HTTP/1.1 ' reply)" -eq 2 ]
	done
	session 2
	puts 0 '' 0
}

@test "a target whose name is that of a field is as good as any, when its opening is repeated too" {
	local name

	start_far loop 'echo 64K'
	FAKE_ADDRESSES="127.0.0.1#$FAR" relays --allow '[a-z]*:22' --allow 127.0.0.1:22
	n=0
	for name in host content-length transfer-encoding tunnel-key tunnel-ack connection expect authorization; do
		stands $((n += 1)) "$name:22"
		asks POST '' '' "$name:22"
		answered 200
		asks POST '' '' other:22
		answered 409
	done
}

# --- one connection, many sessions -------------------------------------------------------

@test "requests of several sessions, new ones, CONNECT and garbage on one connection each go to the right place" {
	start_peer one -t 60 loop 'expect abc' 'send one' 'eof'
	start_peer two -t 60 loop 'expect xyz' 'send two' 'eof'
	start_far loop 'expect up' 'send far' close
	relays
	session 1
	set -- "$(opens "127.0.0.1:${PORTS[one]}")" head 'expect it stands' "$(request PUT /0 '' ab)" head 'expect 2'
	session 2
	set -- "$@" "$(opens "127.0.0.1:${PORTS[two]}")" head 'expect it stands' "$(request PUT /0 '' x)" head 'expect 1'
	session 1
	set -- "$@" "$(request PUT /2 '' c)" head 'expect 3' "$(request GET '/0?1&poll=9')" head "expect $(frame O 3)$(frame D one)"
	session 2
	set -- "$@" "$(request PUT /1 '' yz)" head 'expect 3' "$(request GET '/0?1&poll=9')" head "expect $(frame O 3)$(frame D two)"
	session 3
	set -- "$@" "$(opens)" head 'expect it stands' "$(request PUT /0 '' up)" head 'expect 2'
	session 4
	ask "$@" "$(request PUT /0 '' x)" 'expect HTTP/1.1 410 '
	session 1
	set -- "$(request PUT /3 '' '')" head 'expect 3'
	session 2
	set -- "$@" "$(request PUT /3 '' '')" head 'expect 3'
	ask "$@" 'send garbage\r\n\r\n'
	tail -n 5 reply | grep -q '^a request line that is none'
	ask "$@" 'send GET / HTTP/1.1\r\nHost: a\r\n\r\n' 'expect HTTP/1.1 404 '
	ask "$@" "send CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\n\r\n" 'expect HTTP/1.1 200 Connection established\r\n\r\n' 'send up' 'expect far' half-close
	ask "$@" "send CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a\r\n\r\n" 'expect HTTP/1.1 502 '
}

@test "requests of several sessions that are all sent at once on one connection are answered in their order" {
	local n sent=() told=()

	start_far loop 'echo 64K'
	relays
	for n in 1 2 3 4 5; do
		session "$n"
		sent+=("$(opens)")
		told+=(head 'expect it stands')
	done
	for n in 1 2 3 4 5 3 1 5 5 2; do
		session "$n"
		text=$(printf "%0${n}d" 0)
		sent+=("$(request PUT /0 '' "$text")" "$(request GET '/0?1&poll=20')")
		told+=(head "expect $n" head "expect $(frame O "$n")$(frame D "$text")")
	done
	ask "${sent[@]}" "${told[@]}" half-close
}

@test "a connection goes on with its session while the listener is stopped, and gets to another once that goes on" {
	start_far loop 'expect upgo' 'send upgo' eof
	relays
	stands 2
	stands 1
	set -- "$(request PUT /0 '' up)" head 'expect 2' 'touch kept' 'await stopped' "$(request PUT /2 '' go)" head 'expect 4' \
		"$(request GET '/0?1&poll=9')" head "expect $(frame O 4)$(frame D upgo)" 'touch served'
	session 2
	start both "$PEER" -c "$RELAY" "$@" "$(request PUT /0 '' up)" 'quiet 100' 'touch waits' head 'expect 2'
	await test -e kept
	kill -STOP "${PIDS[relay]}"
	touch stopped
	await test -e served
	await test -e waits
	kill -CONT "${PIDS[relay]}"
	finished both
}

# --- how many ----------------------------------------------------------------------------

@test "when as many sessions stand as may be, a further one, and CONNECT, are told 503; those go on, and one that ends makes room" {
	local n

	start_far loop 'echo 64K'
	relays --max-clients 3
	for n in 1 2 3; do
		stands "$n"
	done
	session 4
	refuses 503 POST '' '' "127.0.0.1:$FAR"
	body | grep -q 'too many clients'
	logs "127.0.0.1:* session $ID to 127.0.0.1:$FAR: 503, too many clients"
	is_gone
	ask "send CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\n\r\n"
	grep -q '^HTTP/1.1 503 ' reply
	for n in 1 2 3; do
		session "$n"
		puts 0 up 2
		SEQUENCE=0
		gets 0 "$(frame O 2)" "$(frame D up)"
	done
	asks DELETE ''
	answered 204
	await stands 4
	puts 0 up 2
}

# With tinyproxy each request comes on a connection of its own.
@test "a session goes on, exact, while CONNECT tunnels, idle clients and those that never finish a head take all the room there is" {
	start_peer far -b 64 loop 'send far' eof
	FAR=$PORT
	relays --max-clients 4
	own tinyproxy start_tinyproxy
	route_to "$RELAY" "$PORT"
	target accept 'check 4M 1' 'touch flows' 'await full' 'pattern 8M 3 &' 'check 8M 2' join half-close eof
	start_client client 'pattern 4M 1' 'pattern 8M 2 &' 'check 8M 3' join half-close eof 'status 0'
	await test -e flows
	start tunnels "$PEER" -c "$RELAY" -t 60 'crowd 3' "send CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\n\r\n" \
		'expect HTTP/1.1 200 Connection established\r\n\r\nfar' 'meet full' 'await done' half-close eof
	await test -e full
	start slow "$PEER" -c "$RELAY" -t 60 'crowd 40' 'trickle 100 forever x' connect 'trickle 100 forever x' connect 'trickle 100 forever x'
	start idle "$PEER" -c "$RELAY" -t 60 'crowd 40' 'gone' connect 'gone' connect 'gone' connect 'gone'
	start more "$PEER" -c "$RELAY" -t 60 'crowd 4' "send CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\n\r\n" 'gone' connect 'gone'
	finished client
	finished target
	touch 'done'
	finished tunnels
}

# puts_held COUNT: beside the test, so many connections of the session each have a PUT under way, whose body ends once "over" is there.
puts_held() {
	start puts "$PEER" -c "$RELAY" -t 60 "crowd $1" "$(request PUT /0 'Expect: 100-continue\r\nContent-Length: 2\r\n')" \
		'expect HTTP/1.1 100 Continue\r\n\r\n' 'meet held' 'await over' 'send up' head 'expect 2' half-close
	start stream "$PEER" -c "$RELAY" -t 60 "$(request GET '/0?1')" head "expect $(frame O 0)" 'touch streams' 'await over' "expect $(frame D far)"
	await test -e held
	await test -e streams
}

@test "a session is served on 16 connections at once, and on a further one it is told 503; those go on, and idle ones do not count" {
	start_far accept 'expect up' 'send far' eof
	relays
	stands
	start idle "$PEER" -c "$RELAY" -t 60 'crowd 5' "$(request PUT /0 '' '')" head 'expect 0' 'meet idle' 'await over'
	await test -e idle
	puts_held 15
	for _ in 1 2; do
		refuses 503 PUT /0 '' ''
		refuses 503 GET '/0?2'
	done
	touch over
	finished puts
	finished stream
	finished idle
	await puts 2 '' 2
}

# opens_many COUNT [FIRST]: so many sessions, from that number on (1).
opens_many() {
	local n steps=()

	for ((n = ${2:-1}; n < ${2:-1} + $1; n++)); do
		session "$n"
		steps+=("send POST /t/$ID HTTP/1.1\r\nHost: a\r\nTunnel-Key: $KEY\r\nContent-Length: $((10 + ${#FAR}))\r\n\r\n127.0.0.1:$FAR"
			head 'expect it stands')
	done
	"$PEER" -c "$RELAY" -t 60 "${steps[@]}" 3>&-
}

# streams_hold COUNT: each of the sessions up to that number has a stream; then "streaming" is there. One process has them all.
streams_hold() {
	local n asks=() told=()

	trap - DEBUG	# that of bats, which takes most of the time
	for ((n = 1; n <= $1; n++)); do
		session "$n"
		asks+=("send GET /t/$ID/0?1 HTTP/1.1\r\nHost: a\r\nTunnel-Key: $KEY\r\n\r\n" keep connect)
		told+=(turn 'expect HTTP/1.1 200 ')
	done
	exec "$PEER" -c "$RELAY" -t 300 "${asks[@]}" "${told[@]}" 'touch streaming' sink
}

# descriptors PID: so many has a process. descriptors_are COUNT PID: to be awaited, as it may have a client at the moment.
descriptors() {
	find "/proc/$1/fd" -mindepth 1 | wc -l
}

descriptors_are() {
	[ "$(descriptors "$2")" -eq "$1" ]
}

@test "1000 idle sessions stand at once, each with a stream, hold little memory, and each is there when it is asked for" {
	local memory n steps=() pids

	start_far -b 1100 hold
	relays --max-clients 1000
	DESCRIPTORS=$(descriptors "${PIDS[relay]}")
	opens_many 1000
	start streams streams_hold 1000
	await_for 110 test -e streaming	# within the 120 s that a session is kept for its client
	# shellcheck disable=SC2207
	pids=($(children relay | sed "s|^|/proc/|"))
	[ "${#pids[@]}" -ge 1000 ]
	await_for 60 connections_are 1000 "$FAR"
	# In KiB; some of it they have in common.
	memory=$(cat "${pids[@]/%//status}" 2>/dev/null | awk '/^RssAnon:/ { print $2 }' | sort -n | tail -n 1)
	echo "$memory KiB, and $(kept | awk '{ sum += $1 } END { print sum }') KiB of all sessions"
	[ -n "$SANITIZED" ] || [ "$memory" -le 400 ]
	for ((n = 1; n <= 1000; n++)); do
		session "$n"
		steps+=("send PUT /t/$ID/0 HTTP/1.1\r\nHost: a\r\nTunnel-Key: $KEY\r\nContent-Length: ${#n}\r\n\r\n$n" head "expect ${#n}")
	done
	"$PEER" -c "$RELAY" -t 60 "${steps[@]}"
	session 1001
	refuses 503 POST '' '' "127.0.0.1:$FAR"
	kill -0 "${PIDS[streams]}"
	steps=()
	for ((n = 1; n <= 1000; n++)); do
		session "$n"
		steps+=("send DELETE /t/$ID HTTP/1.1\r\nHost: a\r\nTunnel-Key: $KEY\r\n\r\n" head)
	done
	"$PEER" -c "$RELAY" -t 60 "${steps[@]}"
	await_for 60 connections_are 0 "$FAR"
	await_for 30 children_are relay 0
	await_for 30 descriptors_are "$DESCRIPTORS" "${PIDS[relay]}"
}

# --- none touches another ----------------------------------------------------------------

@test "a session whose target reads nothing touches no other" {
	start_far -b 8 hold
	relays
	stands
	start stuck "$PEER" -c "$RELAY" -t 60 "$(request PUT /0 'Content-Length: 67108864\r\n')" 'pattern 64M'
	carries_both
	carries_crowd 4 1M
	kill -0 "${PIDS[stuck]}"
	asks PUT /0 '' ''
	answered 200
	asks GET '/0?1&poll=0'
	answered 200
}

# upstream: the offset that the session expects.
upstream() {
	asks PUT /0 '' ''
	answered 200
	body
}

@test "a client that reads nothing of its stream touches no other, and its own session's other requests are answered" {
	start_far accept 'pattern 64M &' 'expect up' 'touch up' 'await over' close
	relays
	stands
	start stuck "$PEER" -c "$RELAY" -t 60 "$(request GET '/0?1')" 'await over'
	carries_both
	puts 0 up 2
	await test -e up
	touch over
}

# The workers that have a session: they serve a request of it, or did so last.
holders() {
	grep -ls /memfd:session $(children relay | sed 's|.*|/proc/&/maps|') | tr -dc '0-9\n'
}

@test "a worker that is killed while it streams takes no session along: the next GET goes on, exact, and others do not notice" {
	start_far loop 'echo 64K'
	relays
	stands
	start stream "$PEER" -c "$RELAY" -t 60 "$(request GET '/0?1')" head "expect $(frame O 0)" 'touch streams' 'gone 9000'
	await test -e streams
	stands 2
	puts 0 other 5
	kill -KILL $(holders)
	finished stream
	SEQUENCE=1
	session 1
	puts 0 up 2
	gets 0 "$(frame O 2)" "$(frame D up)"
	session 2
	gets 0 "$(frame O 5)" "$(frame D other)"
	logs '127.0.0.1:*: the process that served it was ended by signal 9'
	carries_both 4M
}

# killed_within CALL: a worker is killed as it enters that call while 1 MiB goes there and back. It is all exact, or the client says why not.
killed_within() {
	target loop 'echo 64K' close
	rm -f stands traced
	start_client client 'send up' 'expect up' 'touch stands' 'await traced' 'pattern 1M &' 'check 1M' join half-close eof 'status 0'
	await test -e stands
	start trace strace -f -o calls $(holders | sed 's/^/-p /') -e trace="$1" -e "inject=$1:signal=KILL:when=2"
	await grep -q attached trace.err
	touch traced
	wait "${PIDS[client]}" || grep -q 'a process of the relay was ended in the middle of its work' client.err
	unset "PIDS[client]"
	stop trace
	stop target
	grep -q 'killed by SIGKILL' calls || echo "$1 was not met"
}

@test "a worker that is killed within any call of a PUT or a GET leaves its session exact, or broken with words, and no other notices" {
	local call offset=0

	start_far loop 'echo 64K'
	relays
	stands
	for call in recvfrom sendto sendmsg poll ppoll futex alarm; do
		echo "$call"
		killed_within "$call"
		puts "$offset" "$call" $((offset + ${#call}))
		gets "$offset" "$(frame O $((offset + ${#call})))" "$(frame D "$call")"
		offset=$((offset + ${#call}))
	done
	[ "$(grep -c 'was ended by signal 9' relay.err)" -ge 4 ]
}

# worker_is FILE TEXT: sets WORKER to one of whose file in /proc has that text.
worker_is() {
	local pid

	for pid in $(children relay); do
		! grep -qs "$2" "/proc/$pid/$1" || WORKER=$pid
	done
	[ -n "$WORKER" ]
}

# contended STEP...: the worker HOLDER has the lock of the session, as it gives the target a byte, until "stop trace"; the worker WAITER waits for it.
contended() {
	rm -f trace.err calls
	start trace strace -f -o calls -p "${PIDS[relay]}" $(children relay | sed 's/^/-p /') -e trace=sendto \
		-e inject=sendto:delay_enter=60000000:when=1
	await grep -q attached trace.err
	start one "$PEER" -c "$RELAY" "$(request PUT /0 '' x)" "$1" "$2"
	await grep -q 'sendto(' calls
	HOLDER=$(sed -n '1s/ .*//p' calls) WORKER=
	start two "$PEER" -c "$RELAY" "$(request PUT /0 '' x)" "$3" "$4"
	await worker_is wchan futex
	WAITER=$WORKER
	[ "$WAITER" -ne "$HOLDER" ]
}

@test "a worker that is killed while it waits for a session's lock leaves it exact; one that has the lock breaks it, with words for who waits" {
	start_far loop 'expect x' 'send far' gone
	relays
	stands
	contended head 'expect 1' gone eof
	kill -KILL "$WAITER"
	stop trace
	finished two
	finished one
	gets 0 "$(frame O 1)" "$(frame D far)"

	stands 2
	contended gone eof head 'expect a process of the relay was ended in the middle of its work'
	kill -KILL "$HOLDER"
	stop trace
	finished two
	finished one
	asks GET '/0?1&poll=0'
	answered 200 && body | grep -qa 'X...a process of the relay'
}

@test "a client whose relay was killed, and started again, says that its session is gone: 74" {
	relays
	target accept 'expect up' 'send far' gone
	start_client client 'send up' 'expect far' 'touch stands' 'eof' 'status 74'
	await test -e stands
	kill -KILL "${PIDS[relay]}" $(children relay)
	finished relay 137
	relays -a "$RELAY"
	finished client
	grep -q ' 410 ' client.err
}

@test "while a name is resolved, or a target dialled, nobody waits: sessions go on, others are opened, and that one is told 422 after -w" {
	start_far loop 'echo 64K'
	FAKE_ADDRESSES=hang relays -w 15 --allow 127.0.0.1:"$FAR" --allow name.test:22
	stands
	session 2
	start waits "$PEER" -c "$RELAY" "$(request POST '' 'Connection: close\r\n' name.test:22)" 'touch asked' 'expect HTTP/1.1 422 ' sink
	await test -e asked
	session 1
	puts 0 up 2
	gets 0 "$(frame O 2)" "$(frame D up)"
	stands 3
	puts 0 up 2
	kill -0 "${PIDS[waits]}"
	finished waits
	logs "127.0.0.1:* session 5e55*2 to name.test:22: no connection in 15 s"
	session 1
	puts 2 go 4
}

# Each is a descriptor on its way, of which the system allows a user only so many.
@test "requests that are repeated while their sessions are being opened keep nothing from the others" {
	local n

	start_far loop 'echo 64K'
	limit=$(ulimit -Sn)
	ulimit -Sn 128
	FAKE_ADDRESSES=hang relays -w 5 --max-clients 400 --allow 127.0.0.1:"$FAR" --allow name.test:22
	ulimit -Sn "$limit"
	stands 99
	for ((n = 1; n <= 20; n++)); do
		session "$n"
		start "waits$n" "$PEER" -c "$RELAY" 'crowd 10' "$(request POST '' '' name.test:22)" "meet asked$n" gone
	done
	for ((n = 1; n <= 20; n++)); do
		await test -e "asked$n"
	done
	session 99
	for ((n = 0; n < 10; n++)); do
		puts 0 "${n}" 1
		ask "send CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\n\r\nup" 'expect HTTP/1.1 200 Connection established\r\n\r\nup' half-close
	done
	stands 98
}

# cpu: what the processes of the relay have used, in ms, each with its number before it.
cpu() {
	local pid

	for pid in $(children relay); do
		awk '{ pid = $1; sub(/.*\) /, ""); print pid, ($12 + $13) * 10 }' "/proc/$pid/stat"
	done 2>/dev/null | sort
}

@test "a session uses no CPU while it waits, whatever its ends and its clients are up to" {
	local what end n=10

	start_far -b 64 loop 'await ends' half-close hold
	start_peer resets loop 'await ends' reset
	start_peer holds -b 64 -r 4096 loop hold
	start_peer floods loop 'pattern 64M'
	relays
	stands 1
	stands 2 "127.0.0.1:${PORTS[resets]}"
	stands 3
	puts '0?end' '' 0	# both ends of this one end
	for end in '' half-close reset; do
		# A poll, and a stream, with more sent behind it.
		for what in '/0?1&poll=50' '/0?1'; do
			stands $((n += 1)) "127.0.0.1:${PORTS[holds]}"
			start "client$n" "$PEER" -c "$RELAY" -t 30 "$(request GET "$what")" 'send more' 'pause 100' ${end:+"$end"} "touch done$n" 'await over'
		done
		# Bytes that the target does not take.
		stands $((n += 1)) "127.0.0.1:${PORTS[holds]}"
		start "client$n" "$PEER" -c "$RELAY" -t 30 "$(request PUT /0 'Content-Length: 50000000\r\n')" 'pattern 49M &' 'pause 400' ${end:+"$end"} "touch done$n" 'await over'
		# And those that the client does not.
		stands $((n += 1)) "127.0.0.1:${PORTS[floods]}"
		start "client$n" "$PEER" -c "$RELAY" -t 30 "$(request GET '/0?1')" 'pause 300' ${end:+"$end"} "touch done$n" 'await over'
	done
	for ((; n > 10; n--)); do
		await test -e "done$n"
	done
	stop client21	# whose step beside the others has the connection still, up to here
	touch ends
	sleep 0.3
	cpu >before
	[ "$(wc -l <before)" -ge 4 ]
	sleep 0.6
	cpu >after
	join before after | awk '{ print $3 - $2, "ms"; sum += $3 - $2 } END { exit sum > 200 }'
	touch over
}

# --- --tls-only --------------------------------------------------------------------------

# The first bytes of a ClientHello, and bytes behind them.
HELLO='\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03and more'

@test "under --tls-only a session carries what begins as TLS, in whatever pieces, and its target is not heard before" {
	local n

	start_far loop 'send far' "expect $HELLO" 'send further' eof
	relays --tls-only
	stands
	asks GET '/0?1&poll=0'
	answered 200 "$(frame O 0)"
	puts 0 "$HELLO" 19
	gets 0 "$(frame O 19)" "$(frame D far)" || gets 0 "$(frame O 19)" "$(frame D farfurther)"
	stands 2
	puts 0 "${HELLO:0:4}" 1
	for ((n = 1; n < 11; n++)); do
		puts "$n" "${HELLO:4*n:4}" $((n + 1))
	done
	puts 11 'and more' 19
	SEQUENCE=0
	await gets 0 "$(frame O 19)" "$(frame D farfurther)"
}

@test "under --tls-only a session that is no TLS is cut, at once or after -w, with an error for its client and nothing carried" {
	local bytes n=0

	relays --tls-only -w 1
	for bytes in S 'SSH-2.0-x\r\n' '\x15' '\x16\x03\x01\x02\x00\x02' '\x16\x02' ''; do
		start_far accept 'send SSH-2.0-far\r\n' gone close
		stands $((n += 1))
		[ -z "$bytes" ] || asks PUT /0 '' "$bytes"
		asks GET "/0?1&poll=5"
		[ -n "$bytes" ] || sleep 1
		await cut_is_told
		asks PUT /9 '' ''
		answered 422
		finished far
		asks DELETE ''
		answered 204
		logs "127.0.0.1:* session $ID to 127.0.0.1:$FAR: broken: cut, as *, 0 bytes up, 0 down, *"
		await is_gone
	done
	start_far accept gone close
	stands 99
	asks PUT '/0?end' '' '\x16\x03\x01'
	await cut_is_told
	finished far
}

@test "under --tls-only a target that has reset before the ClientHello breaks the session: 422" {
	relays --tls-only
	start_far accept 'await stood' reset
	stands
	touch stood
	finished far
	asks PUT /0 '' "$HELLO"
	answered 422
}

# An error is told, and not a byte from the target.
cut_is_told() {
	asks GET '/0?9&poll=0'
	answered 200 && body | grep -qa 'X...cut, as' && ! body | grep -qa SSH
}

# --- several relays ----------------------------------------------------------------------

# balanced SERVER: 100 sessions through it to two relays, which know nothing of each other.
balanced() {
	local one

	relays
	one=$RELAY
	relay_start_as other
	own "$1" "start_$1" "$one" "$RELAY"
	route_to "$PORT"
	carries_listened 100 1M
	await_for 10 all_ended 100 || {
		grep -hv ': done, 1048576 bytes up, 1048576 down, ' relay.err other.err
		return 1
	}
	# They are spread by their ids, which are drawn.
	[ "$(sessions_ended relay.err)" -ge 20 ]
	[ "$(sessions_ended other.err)" -ge 20 ]
}

sessions_ended() {
	grep -c ' session .*: done, 1048576 bytes up, 1048576 down, ' "$1"
}

all_ended() {
	[ $(($(sessions_ended relay.err) + $(sessions_ended other.err))) -eq "$1" ]
}

@test "of two relays behind haproxy, which pins the id, each has its sessions: 100, all exact" {
	balanced haproxy
}

@test "of two relays behind nginx, which pins the id, each has its sessions: 100, all exact" {
	balanced nginx
}

# --- the log, and how it runs ------------------------------------------------------------

@test "a session's line says who, which, where to, how it ended, the bytes each way, and the seconds; a key is in no line, wherever it was sent" {
	start_far loop 'expect up' 'send far' eof close
	relays -v
	stands
	puts 0 up 2
	gets 0 "$(frame O 2)" "$(frame D far)"
	sleep 1.1
	refuses 411 PUT /2 'Transfer-Encoding: chunked\r\n'
	ask "send PUT /t/$ID/2 HTTP/1.1\r\nHost: a\r\nTunnel-Key $KEY\r\n\r\n"
	ask "send PUT /t/$ID/2 HTTP/1.1\r\nHost: a\r\nTunnel-Key : $KEY\r\n\r\n"
	ask "send PUT /t/$ID/2 HTTP/1.1\r\nHost: a\r\nX: y\r\n $KEY\r\n\r\n"
	ask "send BREW /t/$ID/2 HTTP/1.1\r\nHost: a\r\nTunnel-Key: $KEY\r\n\r\n"
	ask "send PUT /t/$ID/2 HTTP/9.9\r\nHost: a\r\nTunnel-Key: $KEY\r\n\r\n"
	asks DELETE ''
	answered 204
	logs "127.0.0.1:* session $ID to 127.0.0.1:$FAR: done, 2 bytes up, 3 down, [1-9].??? s"
	[ "$(grep -c "session $ID to .* bytes" relay.err)" -eq 1 ]
	is_gone
	stands 2
	KEY=c1a0ffff$KEY refuses 410 GET '/0?1'
	! grep -i c1a0 relay.err || false
}

@test "SIGTERM ends the relay with 0, and each session with a line and its target's connection" {
	local n

	start_far loop sink
	relays
	for n in 1 2 3 4 5; do
		stands "$n"
	done
	puts 0 up 2
	start stream "$PEER" -c "$RELAY" "$(request GET '/0?1')" head "expect $(frame O 2)" 'touch streams' 'gone 4000'
	await test -e streams
	kill -TERM "${PIDS[relay]}"
	finished relay
	finished stream
	[ "$(grep -c ' session .*: ended by signal 15, . bytes up, 0 down, ' relay.err)" -eq 5 ]
	await connections_are 0 "$FAR"
}

@test "with next to no descriptors a server says so, or serves what it can" {
	local n

	for n in {5..20}; do
		start few sh -c 'ulimit -n "$0" && exec "$@"' "$n" "$PROXYTUNNEL" --serve -a 0 --allow '*:22'
		await says_or_ended few 'listening on'
		kill -TERM "${PIDS[few]}" 2>/dev/null || true
		if grep -q 'listening on' few.err; then finished few; else finished few 71; fi
	done
	start_far loop 'echo 64K'
	start_listener relay sh -c 'ulimit -n 12 && exec "$@"' sh "$PROXYTUNNEL" --serve -a 0 --allow '127.0.0.1:*'
	RELAY=$PORT
	session 1
	asks POST '' '' "127.0.0.1:$FAR"
	answered 201
	for n in 2 3 4; do
		session "$n"
		asks POST '' '' "127.0.0.1:$FAR"
	done
	answered 503
	logs "127.0.0.1:* session $ID to 127.0.0.1:$FAR: 503, no place for a session"
	session 1
	puts 0 up 2
	gets 0 "$(frame O 2)" "$(frame D up)"
}

@test "with -i on a connection a relay's request is told 501 and why; on a socket that listens sessions are exact" {
	start_far loop 'echo 64K'
	session 1
	drive_command -s socket "$(opens)" 'expect HTTP/1.1 501 no sessions with -i on a connection' 'status 0' -- \
		"$PROXYTUNNEL" --serve -i --allow '127.0.0.1:*'
	free_port
	RELAY=$PORT
	start relay systemd-socket-activate -E TEST_MARK -l "127.0.0.1:$RELAY" --inetd "$PROXYTUNNEL" --serve -i --allow '127.0.0.1:*'
	await port_taken
	route_to "$RELAY"
	carries_both 16M
	carries_crowd 4 1M
}

port_taken() {
	[ -n "$(port_listener "$RELAY")" ]
}

# --- time --------------------------------------------------------------------------------

# beside NAME COMMAND...: it runs in a folder of its own, BESIDE, until the file ends. Its group has a process up to then,
# as it is ended by its number.
beside() {
	BESIDE=$SERVERS/$1
	mkdir "$BESIDE"
	cd "$BESIDE" || return
	# shellcheck disable=SC2016
	setsid sh -c '"$@"; exec sleep 600' sh "${@:2}" >"$BESIDE/out" 2>"$BESIDE/err" 3>&- &
	: >"$SERVERS/pids/$!"
}

# beside_far NAME STEP...: a target that runs so. Sets FAR.
beside_far() {
	beside "$1" "$PEER" -p "$SERVERS/$1/port" -t 600 "${@:2}"
	await_for 10 test -s "$BESIDE/port"
	FAR=$(<"$BESIDE/port")
}

# hasty_logs PATTERN: the lines of the relay with that clock.
hasty_logs() {
	grep -E "$1" "$HASTY_LOG"
}

# ended_in_time COUNT PORT: so many sessions of that target were left by their clients, 120 s after they last asked; on a slow machine a bit more.
ended_in_time() {
	await_for 60 eval "[ \"\$(hasty_logs ' to 127.0.0.1:$2: left by its client, ' | wc -l)\" -eq $1 ]"
	! hasty_logs " to 127.0.0.1:$2: " | grep -vE ', (1[2-9]|2[0-4])[0-9]\.[0-9]{3} s$' || false
	await connections_are 0 "$2"
}

# Both ends stand idle for six minutes, more than a session's time and that of a stream.
idle_begin() {
	beside_far idle_far loop 'echo 64K' close
	TARGET=$FAR
	PROXYTUNNEL=$HASTY client_words 'pattern 1M' 'check 1M' 'pause 18000' 'pattern 1M' 'check 1M' half-close eof 'status 0' 'touch passed' -- -v
	beside idle "$PEER" "${CLIENT[@]}"
}

@test "a tunnel may be idle for six minutes: its client is heard of all the while, and its streams are renewed" {
	await_for 60 test -e "$SERVERS/idle/passed"
	[ "$(grep -c '> GET ' "$SERVERS/idle/err")" -ge 2 ]
	[ "$(grep -c '> PUT ' "$SERVERS/idle/err")" -ge 8 ]
	await hasty_logs "to 127.0.0.1:$(<"$SERVERS/idle_far/port"): done, 2097152 bytes up, 2097152 down, [34]..\.... s"
}

# A client that takes its stream but is not heard of.
unheard_begin() {
	local beat

	beside_far unheard_far loop hold
	session 1
	beat=$(frame H)
	beside unheard "$PEER" -c "$RELAY" -t 600 "$(opens)" head 'expect it stands' "$(request GET '/0?1')" head "expect $(frame O 0)" 'quiet 600' \
		"expect $beat" 'quiet 600' "expect $beat$beat$beat$beat$beat$beat" 'touch beaten' sink 'touch passed'
}

@test "a stream has a heartbeat each 15 s, and is no request: a session that is not heard of ends after 120 s" {
	await_for 60 test -e "$SERVERS/unheard/passed"
	ended_in_time 1 "$(<"$SERVERS/unheard_far/port")"
	RELAY=$HASTY_RELAY
	session 1
	is_gone
}

# A body that comes so slowly that it takes longer than a session may be without a request; its bytes count too.
slow_begin() {
	beside_far slow_far accept sink
	session 2
	beside slow "$PEER" -c "$RELAY" -t 600 "$(opens)" head 'expect it stands' "$(request PUT /0 'Content-Length: 80\r\n')" 'trickle 100 80 x' \
		head 'expect 80' 'touch passed'
}

@test "a session stays while a body comes, however slowly" {
	await_for 60 test -e "$SERVERS/slow/passed"
}

# A client that is killed, and the process behind it with it, while bytes come.
vanished_begin() {
	local all

	beside_far vanished_far accept 'repeat forever xxxxxxxxxxxxxxxx' gone 'touch gone'
	TARGET=$FAR
	client_words 'expect xxxxxxxxxxxxxxxx' 'touch flows' sink
	beside vanished env TEST_MARK="$SERVERS/vanished" "$PEER" "${CLIENT[@]}"
	await_for 10 test -e "$BESIDE/flows"
	# Stopped before, as the process behind the client would end the session in order if it came to see the client's end.
	mapfile -t all < <(DIR=$SERVERS/vanished strays)
	kill -STOP "${all[@]}"
	kill -KILL "${all[@]}"
}

@test "a session whose client and its helper were killed while bytes came is gone after 120 s, and so is its target's connection" {
	ended_in_time 1 "$(<"$SERVERS/vanished_far/port")"
	await test -e "$SERVERS/vanished_far/gone"
}

abandoned_begin() {
	beside_far abandoned_far -b 1100 hold
	opens_many 1000 $((16#a0000000))
}

@test "1000 sessions that were opened and abandoned leave no process, no descriptor, and no connection to the target" {
	ended_in_time 1000 "$(<"$SERVERS/abandoned_far/port")"
	PIDS[relay]=$HASTY_PID
	await_for 30 children_are relay 0
	unset "PIDS[relay]"
	await descriptors_are "$HASTY_DESCRIPTORS" "$HASTY_PID"
}

# 6 MiB: more than the buffers on the way take, but no more than is read of a body that was answered before its end.
@test "a PUT whose bytes the target does not take for 10 s is told how far it came; meanwhile an empty one is answered, and bytes come down" {
	start_far -r 65536 accept 'send far' 'await on' 'check 6M' 'eof 9000'
	relays
	stands
	start stuck "$PEER" -c "$RELAY" -t 60 'log stuck' "$(request PUT /0 'Content-Length: 6291456\r\nConnection: close\r\n')" 'pattern 6M' sink
	await has_begun
	asks GET '/0?1&poll=9'
	answered 200
	body | grep -qa 'D...far'
	[ ! -s stuck ]
	finished stuck
	mv stuck reply
	head_is 200
	taken=$(body)
	[ "$taken" -gt 65536 ]
	[ "$taken" -lt 6291456 ]
	touch on
	ask "$(request PUT /0 'Content-Length: 6291456\r\nConnection: close\r\n')" 'pattern 6M'
	answered 200
	until [ "$(upstream)" -eq 6291456 ]; do
		ask "$(request PUT /0 'Content-Length: 6291456\r\nConnection: close\r\n')" 'pattern 6M'
	done
	puts '6291456?end' '' 6291456
	finished far
}

has_begun() {
	[ "$(upstream)" -gt 0 ]
}

@test "a target that takes bytes slowly holds up no PUT: it is told how far it came after 10 s" {
	local begin steps=() sent=() n

	for ((n = 0; n < 100; n++)); do
		steps+=('check 16K' 'pause 60')
	done
	for ((n = 0; n < 384; n++)); do
		sent+=('pattern 16K')
	done
	start_far -r 16384 accept "${steps[@]}"
	RELAY=$HASTY_RELAY
	stands 9998
	begin=${EPOCHREALTIME/[.,]/}
	ask "$(request PUT /0 'Content-Length: 6291456\r\nConnection: close\r\n')" "${sent[@]}"
	answered 200
	[ "$(body)" -lt 6291456 ]
	[ $((${EPOCHREALTIME/[.,]/} - begin)) -lt 3000000 ]
	asks DELETE ''
	answered 204
}
