#!/usr/bin/env bats
# Once there is much, bytes go from a pipe to a socket past user space; what cannot go that way goes another; idle is idle.

load helper

OK='HTTP/1.1 200 OK\r\n\r\n'

# Whatever a byte can be moved by.
MOVES=read,write,readv,writev,recvfrom,recvmsg,sendto,sendmsg,splice,tee,vmsplice,sendfile

# start_far STEP...: a proxy that opens the tunnel and goes on as STEP... say.
start_far() {
	start_peer far accept head "send $OK" "$@"
}

# traced [PEER-OPTION...] STEP... [-- STRACE-OPTION...]: the program under strace, between the ends of a peer as ssh. What it
# calls is in calls, and what it called behind the answer's head in moved.
traced() {
	local words=()

	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	drive_command "${words[@]}" -- strace -qq -o calls -e trace="$MOVES,fcntl" "${@:2}" \
		"$PROXYTUNNEL" -p "127.0.0.1:$PORT" -d host:22
	err_empty
	sed '1,/recvfrom(.*HTTP.1.1 200 OK.*, 0, NULL, NULL) = 19$/d' calls >moved
	[ -s moved ]
}

# moved_by CALL FD: the bytes that it took from, or gave to, that descriptor.
moved_by() {
	awk -v call="^$1\\\\($2[,)]" '$0 ~ call && $NF > 0 { n += $NF } END { print n + 0 }' moved
}

# both_ways SIZE [PEER-OPTION...] -- [STRACE-OPTION...]: so many bytes go each way at once, exact.
both_ways() {
	local size=$1 words=()

	shift
	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	start_far "pattern $size 1 &" "check $size 2" join eof 'send bye' close
	traced "${words[@]}" "pattern $size 2 &" "check $size 1" join half-close 'expect bye' eof 'status 0' "$@"
	finished far
}

EIGHT_MIB=8388608

# --- splice -----------------------------------------------------------------------------

# few_read: what went through the buffer each way is no more than there must be until splice takes over.
few_read() {
	[ "$(moved_by read 0)" -le 1048576 ]
	[ "$(moved_by write 1)" -le 1048576 ]
}

@test "between pipes and the socket the first bytes go through the buffer, and once that came full all are spliced" {
	both_ways 8M --
	few_read
	[ $(($(moved_by read 0) + $(moved_by splice 0))) -eq "$EIGHT_MIB" ]
	[ $(($(moved_by write 1) + $(moved_by splice '[3-9]'))) -eq $((EIGHT_MIB + 3)) ]
	# Not one is read behind the first that is spliced.
	! sed '1,/^splice(0,/d' moved | grep -E '^read\(0, "[^"]' || false
}

@test "a little is never spliced" {
	both_ways 32K --
	[ "$(moved_by splice '[0-9]')" -eq 0 ]
}

@test "splice that is not there, forbidden, or of no use here: the buffer goes on, both ways exact" {
	local error

	for error in EINVAL ENOSYS EPERM EACCES EOPNOTSUPP ENOMEM EBADF; do
		echo "$error"
		both_ways 4M -- -e "inject=splice:error=$error"
		# Once for each direction, then no more.
		[ "$(grep -c 'splice.*INJECTED' moved)" -eq 2 ]
		[ "$(grep -c 'splice(' moved)" -eq 2 ]
		[ "$(moved_by read 0)" -eq 4194304 ]
		[ "$(moved_by write 1)" -eq $((4194304 + 3)) ]
	done
}

@test "splice that is refused later on: the buffer takes over in the middle, both ways exact" {
	local at

	for at in 2 5 12 40; do
		both_ways 8M -- -e "inject=splice:error=$([ "$at" -lt 12 ] && echo EINVAL || echo ENOSYS):when=$at+"
		grep -q 'splice.*INJECTED' moved
		[ "$(moved_by read 0)" -gt 0 ]
		[ "$(moved_by write 1)" -gt 0 ]
	done
}

@test "splice that is refused one way only: that way takes the buffer, the other goes on" {
	both_ways 8M -- -e inject=splice:error=EINVAL:when=1
	[ "$(grep -c 'splice.*INJECTED' moved)" -eq 1 ]
	[ $(($(moved_by read 0) + $(moved_by splice 0))) -eq "$EIGHT_MIB" ]
	[ $(($(moved_by write 1) + $(moved_by splice '[3-9]'))) -eq $((EIGHT_MIB + 3)) ]
	[ "$(grep -c '^splice.* = [1-9]' moved)" -gt 0 ]
	[ "$(grep -cE '^(read\(0|write\(1).* = [1-9]' moved)" -gt 0 ]
}

@test "splice that is interrupted, or finds nothing to move after all: nothing is lost, both ways exact" {
	both_ways 4M -- -e inject=splice:error=EINTR:when=1+3
	grep -q 'EINTR.*INJECTED' moved
	both_ways 4M -- -e inject=splice:error=EAGAIN:when=1+3
	grep -q 'EAGAIN.*INJECTED' moved
}

# calls_of WORD: which of the calls of fcntl had that word, by number.
calls_of() {
	grep '^fcntl(' calls | grep -n "$1" | cut -d: -f1
}

@test "urgent data, and what stands behind it, is delivered, also where the end has come before it was read" {
	local behind=('pattern 512K 1' urgent 'pattern 1K 2' half-close 'touch sent')
	local read=('await sent' 'check 512K 1' 'expect !' 'check 1K 2' eof)

	start_far "${behind[@]}" eof
	drive "${read[@]}" half-close 'status 0'
	err_empty
	finished far
	rm sent
	start_far "${read[@]}" close
	start_listener listener "$PROXYTUNNEL" -a 0 -p "127.0.0.1:$PORT" -d host:22
	"$PEER" -c "$PORT" "${behind[@]}" eof
	finished far
}

@test "pipes are made larger; one that may not grow is used as it is, one that is larger still is left alone" {
	local sets gets i

	both_ways 1M --
	sets=$(calls_of F_SETPIPE_SZ)
	gets=$(calls_of F_GETPIPE_SZ)
	[ "$(grep -cE 'F_SETPIPE_SZ, [0-9]+\) += 262144' calls)" -eq 2 ]
	[ "$(wc -w <<<"$gets")" -eq 2 ]
	for i in $sets; do
		both_ways 4M -- -e "inject=fcntl:error=EPERM:when=$i"
		[ "$(grep -c 'F_SETPIPE_SZ.*EPERM.*INJECTED' calls)" -eq 1 ]
		few_read
	done
	for i in $gets; do
		both_ways 1M -- -e "inject=fcntl:retval=1048576:when=$i"
		[ "$(grep -c 'F_GETPIPE_SZ.*INJECTED' calls)" -eq 1 ]
		[ "$(calls_of F_SETPIPE_SZ | wc -w)" -eq 1 ]
	done
}

# --- where splice cannot serve --------------------------------------------------------------

@test "stdin is a regular file, stdout a pipe: up by the buffer, down by splice, both exact" {
	"$PEER" -i 'pattern 8M 2' >input
	start_far 'check 8M 2' eof 'pattern 8M 1' close
	traced 'check 8M 1' eof 'status 0' -- sh -c 'exec "$@" <input' -
	finished far
	[ "$(moved_by read 0)" -eq "$EIGHT_MIB" ]
	[ "$(moved_by splice 0)" -eq 0 ]
	[ $(($(moved_by write 1) + $(moved_by splice '[3-9]'))) -eq "$EIGHT_MIB" ]
	[ "$(moved_by write 1)" -le 1048576 ]
}

@test "stdin is a pipe, stdout a regular file: up by splice, down by the buffer, both exact" {
	start_far 'check 8M 2' eof 'pattern 8M 1' close
	traced 'pattern 8M 2' half-close 'status 0' -- sh -c 'exec "$@" >output' -
	finished far
	"$PEER" -i 'check 8M 1' eof <output
	[ $(($(moved_by read 0) + $(moved_by splice 0))) -eq "$EIGHT_MIB" ]
	[ "$(moved_by read 0)" -le 1048576 ]
	[ "$(moved_by write 1)" -eq "$EIGHT_MIB" ]
}

@test "stdin and stdout are a terminal, or a socket: by the buffer, both ways exact" {
	start_far 'pattern 1M 1 &' 'check 1M 2' join close
	traced -s pty 'pattern 1M 2 &' 'check 1M 1' join 'status 0 3000'
	finished far
	[ "$(moved_by splice '[0-9]')" -eq 0 ]
	both_ways 8M -s socket --
	[ "$(moved_by splice '[0-9]')" -eq 0 ]
	[ "$(moved_by recvfrom 0)" -eq "$EIGHT_MIB" ]
}

# --- idle --------------------------------------------------------------------------------------

# idle SECONDS FILE...: nothing is added to them for so long.
idle() {
	local before

	before=$(wc -c "${@:2}")
	sleep "$1"
	[ "$(wc -c "${@:2}")" = "$before" ] || {
		tail -n 5 "${@:2}"
		return 1
	}
}

# start_idle NAME FAR-STEP... -- NEAR-STEP...: a program whose calls go to calls.NAME.
start_idle() {
	local name=$1 far=()

	shift
	while [ "$1" != -- ]; do
		far+=("$1")
		shift
	done
	start_peer "far-$name" -r 65536 accept head "${far[@]}"
	start "$name" "$PEER" "${@:2}" -- strace -D -qq -o "calls.$name" "$PROXYTUNNEL" -p "127.0.0.1:$PORT" -d host:22
}

@test "it is not woken once in 3 s: in the handshake, standing, half-closed by stdin's end, stalled both ways" {
	start_idle handshake 'send HTTP/1.1 200 OK\r\n' 'touch up1' 'await done' close -- 'status 76'
	start_idle standing "send ${OK}some" 'await done' close -- 'expect some' 'touch up2' eof 'status 0'
	start_idle half-closed "send $OK" eof 'send some' 'await done' close -- half-close 'expect some' 'touch up3' eof 'status 0'
	start_idle stalled "send $OK" 'repeat forever x &' 'await done' -- \
		'repeat forever x &' 'touch up4' 'await done' 'signal TERM' 'status 143' join
	for i in 1 2 3 4; do
		await test -e "up$i"
	done
	# Until the pipes and the sockets are full.
	await idle 0.3 calls.*
	idle 3 calls.*
	touch 'done'
	for i in handshake standing half-closed stalled; do
		finished "$i"
	done
	[ "$(grep -l ppoll calls.* | wc -l)" -eq 4 ]
}

# --- never idle ----------------------------------------------------------------------------------

@test "SIGTERM ends a tunnel in which ppoll(2) always has something, and so lets no signal in" {
	start_far 'send some' 'await done'
	start near strace -D -qq -o calls -e trace=ppoll -e inject=ppoll:retval=1:when=3+ \
		"$PROXYTUNNEL" -p "127.0.0.1:$PORT" -d host:22
	await grep -q INJECTED calls
	kill "${PIDS[near]}"
	await gone near || kill -KILL "${PIDS[near]}"
	finished near 143
	touch 'done'
	finished far
}

gone() {
	! kill -0 "${PIDS[$1]}"
}

# --- between two sockets -------------------------------------------------------------------------

@test "between two sockets, splice that is not there or is refused in the middle leaves all to the buffer, both ways exact" {
	local far words

	for words in error=ENOSYS error=EPERM error=EINVAL:when=2+ error=ENOSYS:when=7+ error=EAGAIN:when=3+2; do
		echo "$words"
		start_peer far accept 'pattern 8M 1 &' 'check 8M 2' join eof close
		far=$PORT
		start_listener server strace -f -D -qq -o calls -e trace=splice -e "inject=splice:$words" \
			"$PROXYTUNNEL" --serve -a 127.0.0.1:0 --allow "127.0.0.1:$far"
		"$PEER" -c "$PORT" "send CONNECT 127.0.0.1:$far HTTP/1.1\r\nHost: x\r\n\r\n" \
			'expect HTTP/1.1 200 Connection established\r\n\r\n' 'pattern 8M 2 &' 'check 8M 1' join half-close eof
		finished far
		grep -q INJECTED calls
		stop server
	done
}
