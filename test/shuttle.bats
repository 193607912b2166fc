#!/usr/bin/env bats
# The tunnel once it stands: both directions, their ends, signals, and what is left alone.

load helper

OPEN='send HTTP/1.1 200 OK\r\n\r\n'

# What happens at once takes no longer, in milliseconds: on a busy machine, and yet less than a linger.
SOON=700

# A proxy that opens the tunnel and goes on as STEP... say. It reads from a small buffer, so that
# whoever writes to it is soon held up.
start_far() {
	start_peer far -r 65536 accept head "$OPEN" "$@"
}

# --- both directions ----------------------------------------------------------

@test "16 MiB each way at once, through an echo that holds 64 KiB, are exact" {
	start_far 'echo 64K' close
	drive 'pattern 16M &' 'check 16M' join half-close eof 'status 0 1000'
	finished far
	err_empty
}

@test "16 MiB each way at once, of each other's, are exact" {
	start_far 'pattern 16M 1 &' 'check 16M 2' join eof close
	drive 'pattern 16M 2 &' 'check 16M 1' join half-close eof 'status 0 1000'
	finished far
}

@test "an upstream that stalls does not hold up the downstream" {
	start_far 'pattern 16M 1' 'await drained' 'check 16M 2' eof close
	drive 'pattern 16M 2 &' 'check 16M 1' 'touch drained' join half-close eof 'status 0 1000'
	finished far
}

@test "a downstream that stalls does not hold up the upstream" {
	# A pipe that is full but for a little must not be written to with more than it takes.
	start_far 'send odd' 'pause 50' 'pattern 16M 1 &' 'check 16M 2' join eof close
	drive 'pattern 16M 2' 'expect odd' 'check 16M 1' half-close eof 'status 0 1000'
	finished far
}

@test "a stall reaches whoever sends: what waits in between stays small" {
	local memory=('peak 4M')

	[ -z "$SANITIZED" ] || memory=()
	start_far 'await go' 'check 32M' eof close
	drive 'pattern 32M &' 'pause 300' 'touch go' join half-close eof 'status 0 1000' "${memory[@]}"
	finished far
}

@test "a byte behind another is not held back until the first is acknowledged" {
	local round near=()

	for round in {1..100}; do
		near+=('send a' 'pause 1' 'send b' 'expect c')
	done
	start_far 'unheld 100' eof close
	drive "${near[@]}" half-close eof 'status 0 1000'
	finished far
}

@test "stopped and continued in the middle, it loses nothing" {
	local stops=(pause\ 5 signal\ STOP pause\ 30 signal\ CONT)

	start_far 'echo 64K' close
	drive 'pattern 16M &' 'check 16M &' "${stops[@]}" "${stops[@]}" "${stops[@]}" 'signal WINCH' \
		join half-close eof 'status 0 1000'
	finished far
}

@test "the connection to the proxy has keepalive on" {
	[ -r /proc/net/tcp ] || skip "no /proc/net/tcp"
	start_far 'await seen' close
	start_near near 'await seen' eof half-close 'status 0 1000'
	# Remote address 127.0.0.1:PORT, state 01 (established), timer 02 (keepalive).
	await grep -q "$(printf '0100007F:%04X 01 .* 02:' "$PORT")" /proc/net/tcp
	touch seen
	finished near
	finished far
}

# --- the end of stdin ---------------------------------------------------------

@test "stdin ends first: what comes 0.5 s later is all delivered, status 0" {
	start_far 'expect up' eof 'pause 500' 'pattern 1M' close
	drive 'send up' half-close 'check 1M' "eof $SOON" "status 0 $SOON"
	finished far
	err_empty
}

@test "stdin is /dev/null: everything is delivered, status 0" {
	start_far eof 'pause 100' 'pattern 1M' close
	tunnel </dev/null
	status_is 0
	"$PEER" -i 'check 1M' eof <out
	err_empty
	finished far
}

@test "stdin is closed: everything is delivered, status 0" {
	start_far eof 'send bye' close
	tunnel <&-
	status_is 0
	out_is bye
}

@test "input and its end before the tunnel stands: nothing early, nothing lost" {
	start_peer far accept head 'quiet 150' "$OPEN" 'check 48K' eof 'send bye' close
	drive 'pattern 48K' half-close 'expect bye' "eof $SOON" "status 0 $SOON"
	finished far
}

@test "the end of stdin reaches the far end behind the last byte" {
	start_far 'pause 200' 'check 4M' "eof $SOON" close
	drive 'pattern 4M' half-close eof "status 0 $SOON"
	finished far
}

# --- the end of the far end ---------------------------------------------------

@test "the far end ends and stdin is held open: stdout ends at once, the program within 2 s" {
	start_far 'send bye' close
	drive 'expect bye' "eof $SOON" 'status 0 2000'
	err_empty
}

@test "the far end's last 4 MiB are delivered to a slow reader before stdout ends" {
	start_far 'pattern 4M' close
	drive 'pause 300' 'check 4M' "eof $SOON" 'status 0 2000'
	finished far
}

@test "after the far end's end, upstream bytes are delivered while they come within a second" {
	start_far 'send bye' half-close 'expect onetwo' eof
	drive 'expect bye' "eof $SOON" 'pause 600' 'send one' 'pause 700' 'send two' 'status 0 2000'
	finished far
}

@test "the far end has ended and takes nothing: the program is gone within 2 s, and not with status 0" {
	start_far 'await full' half-close 'await gone'
	drive 'repeat forever x &' 'pause 200' 'touch full' "eof $SOON" 'status 74 2000' 'touch gone' join
	finished far
}

@test "both ends have ended: it leaves at once" {
	start_far half-close 'expect last' "eof $SOON" close
	drive "eof $SOON" 'send last' half-close "status 0 $SOON"
	finished far
}

# --- ends out of order --------------------------------------------------------

@test "a reset of the tunnel: stdout ends at once, status 74, one line" {
	start_far 'send some' 'await seen' reset
	drive 'expect some' 'touch seen' "eof $SOON" "status 74 $SOON"
	finished far
	err_one_line
	err_has "127.0.0.1:$PORT"
}

@test "what came before a reset is delivered" {
	start_far 'pattern 144K' 'await sent' 'pause 100' reset
	drive 'touch sent' 'pause 250' 'check 144K' "eof $SOON" "status 74 $SOON"
	finished far
}

@test "a reset in the middle of both directions: status 74" {
	start_far 'check 1M' 'pattern 1M' reset
	drive 'repeat forever x &' 'status 74 3000' join
	err_one_line
}

@test "the reader of stdout leaves while nothing moves: status 74 at once" {
	start_far 'send some' hold
	drive 'expect some' close-in "status 74 $SOON"
	finished far
}

@test "the reader of stdout leaves while bytes come: status 74 at once" {
	start_far 'repeat forever x'
	drive 'expect xxxx' close-in "status 74 $SOON"
	finished far
}

@test "the reader of stdout leaves with SIGPIPE ignored by the parent: status 74 at once" {
	local command=(sh -c 'trap "" PIPE; exec "$@"' - "$PROXYTUNNEL" -d host:22)

	start_far 'repeat forever x'
	drive_command 'expect xxxx' close-in "status 74 $SOON" -- "${command[@]}" -p "127.0.0.1:$PORT"
	start_far 'send some' hold
	drive_command 'expect some' close-in "status 74 $SOON" -- "${command[@]}" -p "127.0.0.1:$PORT"
}

@test "the reader of stdout leaves behind the end of stdin: status 74 at once" {
	start_far eof 'send some' 'await gone'
	drive half-close 'expect some' close-in "status 74 $SOON" 'touch gone'
	finished far
}

@test "the socket that is stdin and stdout is closed: status 74 at once" {
	start_far 'send some' hold
	drive -s socket 'expect some' close "status 74 $SOON"
	finished far
}

@test "stdin cannot be read: the tunnel ends within a second or so, says why, status 74" {
	local far

	for far in hold 'repeat forever x'; do
		start_far 'send some' "$far"
		LIMIT=3 tunnel </
		status_is 74
		err_one_line
		err_has 'standard input'
		err_has 'Is a directory'
		stop far
	done
}

@test "a file that stdout may not let grow (RLIMIT_FSIZE): the tunnel ends and says so, status 74" {
	start_far 'repeat forever x'
	status=0
	limited sh -c 'ulimit -f 16; exec "$@"' - "$PROXYTUNNEL" -p "127.0.0.1:$PORT" -d host:22 </dev/null >out 2>err || status=$?
	status_is 74
	err_one_line
	err_has 'File too large'
}

@test "stdin cannot be read: what comes meanwhile is delivered" {
	start_far 'pause 300' 'pattern 1M' close
	LIMIT=3 tunnel </
	status_is 74
	"$PEER" -i 'check 1M' eof <out
	finished far
}

# --- signals ------------------------------------------------------------------

@test "SIGHUP, SIGTERM and SIGINT end the handshake at once, by the signal" {
	local name

	for name in HUP:129 TERM:143 INT:130; do
		start_peer far accept head "touch $name" hold
		drive "await $name" "signal ${name%:*}" "status ${name#*:} $SOON"
		finished far
	done
}

@test "SIGHUP and SIGTERM end the tunnel at once, by the signal" {
	local name

	for name in HUP:129 TERM:143; do
		start_far 'send some' hold
		drive 'expect some' "signal ${name%:*}" "status ${name#*:} $SOON"
		finished far
		start_far 'repeat forever x'
		drive 'expect x' "signal ${name%:*}" "status ${name#*:} $SOON"
		finished far
	done
}

@test "SIGINT does not end a tunnel that stands with a pipe for stdin" {
	start_far 'send some' 'expect up' eof 'send more' close
	drive 'expect some' 'signal INT' 'signal INT' 'send up' 'pause 50' 'signal INT' half-close 'expect more' eof "status 0 $SOON"
	finished far
	err_empty
}

@test "SIGINT ends a tunnel that stands with a terminal for stdin" {
	start_far 'send some' hold
	drive -s pty 'expect some' 'signal INT' "status 130 $SOON"
	finished far
}

# --- idle ---------------------------------------------------------------------

@test "idle for 3 s it uses under 10 ms of CPU: in the handshake, standing, half-closed, stalled" {
	local name

	start_peer far1 accept head 'touch asked' hold
	start_near handshake 'send early' 'await asked' 'idle 3000 10'
	start_peer far2 accept head 'send HTTP/1.1 200 OK\r\nA: b\r\n\r' 'touch answered' hold
	start_near within-head 'send early' 'await answered' 'idle 3000 10'
	start_peer far3 accept head "$OPEN" 'send some' hold
	start_near standing 'expect some' 'idle 3000 10'
	start_peer far4 accept head "$OPEN" eof 'send some' 'await done4'
	start_near half-closed half-close 'expect some' 'idle 3000 10' 'touch done4'
	start_peer far5 accept head "$OPEN" eof 'send some' 'await done5'
	start_near half-closed-socket -s socket half-close 'expect some' 'idle 3000 10' 'touch done5'
	start_peer far6 -r 65536 accept head "$OPEN" 'repeat forever x'
	start_near stalled 'repeat forever x &' 'pause 700' 'idle 3000 10' 'signal TERM' 'status 143' join
	for name in handshake within-head standing half-closed half-closed-socket stalled far1 far2 far3 far4 far5 far6; do
		finished "$name"
	done
}

# --- inherited descriptors ----------------------------------------------------

@test "O_NONBLOCK of inherited pipes, sockets and terminals stays as it was, also after SIGKILL" {
	local kind

	for kind in '-s pipe' '-s socket' '-s pty' '-n -s pipe' '-n -s socket'; do
		echo "$kind"
		rm -f asked
		start_peer far accept head 'touch asked' 'pause 30' "$OPEN" 'echo 64K'
		drive -k $kind 'send early' 'await asked' unchanged 'expect early' 'pattern 64K &' 'check 64K' join \
			unchanged 'signal KILL' 'status 137' unchanged
		stop far
	done
}

@test "O_NONBLOCK of inherited descriptors stays as it was when the program has ended" {
	local kind

	for kind in '-s pipe' '-s socket' '-n -s pipe'; do
		start_far eof 'send bye' close
		drive -k $kind half-close 'expect bye' "status 0 $SOON" unchanged
		finished far
	done
}

@test "stdin and stdout are one socket: exact both ways, and each end reaches the other side" {
	start_far 'pattern 8M 1 &' 'check 8M 2' join eof 'send bye' close
	drive -s socket 'pattern 8M 2 &' 'check 8M 1' join half-close 'expect bye' "eof $SOON" "status 0 $SOON"
	finished far
	start_far 'send bye' half-close 'expect late' eof
	drive -s socket 'expect bye' "eof $SOON" 'send late' half-close "status 0 $SOON"
	finished far
}

@test "stdin and stdout are one terminal: exact both ways" {
	start_far 'pattern 1M 1 &' 'check 1M 2' join close
	drive -s pty 'pattern 1M 2 &' 'check 1M 1' join 'status 0 2000' 'eof 100'
	finished far
}

@test "stdin and stdout are regular files: exact both ways" {
	"$PEER" -i 'pattern 4M 2' >input
	start_far 'check 4M 2' eof 'pattern 4M 1' close
	tunnel <input
	status_is 0
	"$PEER" -i 'check 4M 1' eof <out
	finished far
}

@test "descriptors that are non-blocking from the start: exact both ways, waiting for slow ends" {
	local kind

	for kind in pipe socket; do
		start_far 'pause 100' 'check 4M 2' 'pattern 4M 1' eof close
		drive -n -s "$kind" 'pattern 4M 2' 'pause 100' 'check 4M 1' half-close eof "status 0 $SOON"
		finished far
	done
}
