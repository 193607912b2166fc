#!/usr/bin/env bats
# --relay and --serve: calls of theirs that fail, and processes of theirs that are killed. What a tunnel carries comes exact, or
# its client says why not, and ends with a status that is not 0.

load helper
load relay

setup_file() {
	export FILES=$(mktemp -d)
	"$ROOT/test/bin/peer" -i 'pattern 4M 1' <&- >"$FILES/up"
	"$ROOT/test/bin/peer" -i 'pattern 4M 2' <&- >"$FILES/down"
}

teardown_file() {
	rm -r "$FILES"
}

# injecting CALL WHAT COMMAND...: runs it with WHAT injected into CALL of each of its processes. It is the child of this shell.
injecting() {
	local call=$1 what=$2

	shift 2
	exec strace -D -f -qq -o /dev/null -e "trace=$call" -e "inject=$call:$what" "$@"
}

traced_relay_start() {
	start_listener relay injecting "$1" "$2" "$PROXYTUNNEL" --serve -a 0 --allow '127.0.0.1:*'
	route_to "$PORT"
}

# carries [COMMAND WORD...]: 4 MiB each way at once, by the client behind COMMAND; it comes as it should, or the client tells.
carries() {
	local begin=$SECONDS

	CLIENT_LIMIT=30 target accept 'pattern 4M 2 &' 'check 4M 1' join half-close eof
	status=0
	LIMIT=20 limited "$@" "$PROXYTUNNEL" "${ROUTE[@]}" -d "127.0.0.1:$TARGET" <"$FILES/up" >out 2>err || status=$?
	if [ "$status" -eq 0 ]; then
		finished target
		cmp out "$FILES/down"
		err_empty
	else
		stop target
		[ "$status" -ne 124 ]
		[ "$status" -ge 128 ] || grep -q '^proxytunnel: ' err
	fi
}

# each FUNCTION CALL...: with four errors of each call, one at its first, others later.
each() {
	local function=$1 call n=0 at=(1 2 5 9 3 14 4) error

	shift
	for call; do
		for error in ENOBUFS ENOMEM EINTR EIO; do
			echo "$call $error ${at[n % 7]}"
			"$function" "$call" "error=$error:when=${at[n % 7]}"
			n=$((n + 1))
		done
	done
}

client_with() {
	carries strace -f -qq -o /dev/null -e "trace=$1" -e "inject=$1:$2"
}

relay_with() {
	traced_relay_start "$@"
	carries
	stop relay
}

@test "calls of the client that are cut short, interrupted, or find nothing, cost its tunnel nothing" {
	local rule

	[ -z "$SANITIZED" ] || skip 'ASan cannot stand behind what is preloaded'
	relay_start
	for rule in all:short:~2 all:EINTR:~2 all:EAGAIN:~2 'all:short:~3 all:EINTR:~3 all:EAGAIN:~3'; do
		carries env "LD_PRELOAD=$ROOT/test/bin/inject.so" "INJECT=$rule" INJECT_LOG=injected
		[ "$status" -eq 0 ]
		[ -s injected ]
		rm injected
	done
}

@test "a call of the client fails: its tunnel is exact, or it says why not" {
	relay_start
	each client_with sendto recvfrom sendmsg poll ppoll splice socketpair clone,?clone3,?fork
}

@test "a call of the relay fails: the tunnel is exact, or the client says why not" {
	each relay_with sendto recvfrom sendmsg recvmsg poll ppoll socketpair clone,?clone3,?fork memfd_create
}

@test "a process of the client is killed within a call: its tunnel is exact, or it says why not" {
	local call

	relay_start
	for call in sendto recvfrom sendmsg poll; do
		client_with "$call" signal=KILL:when=20
	done
}

# The other session has made fewer calls than that. A worker that is killed as it reads from the target, or writes to it, has the lock.
@test "a worker is killed within a call of a PUT or a GET: its session is exact, or broken with words, and no other is touched" {
	local call other

	start_peer other_far -t 60 loop 'echo 64K'
	other=$PORT
	for call in sendto recvfrom sendmsg poll ppoll; do
		echo "$call"
		traced_relay_start "$call" signal=KILL:when=25
		TARGET=$other start_client other 'send a' 'expect a' "touch stands-$call" "await over-$call" 'send b' 'expect b' half-close eof 'status 0'
		await test -e "stands-$call"
		carries
		touch "over-$call"
		finished other
		stop relay
	done
	stop other_far
}

# Of these processes none runs.
all_ended() {
	local pid

	for pid; do
		[ ! -e "/proc/$pid" ] || grep -q '^State:.Z' "/proc/$pid/status" || return 1
	done
}

# The process between the client and those that carry its bytes is traced.
@test "a caller is killed while its relay takes nothing: all of the client ends in time, and does not spin until then" {
	local all

	relay_start
	target accept 'expect up' gone
	start_client client 'send up' 'touch stands' 'await stopped' 'send more' 'pause 100' 'signal KILL' 'status 137'
	await test -e stands
	PIDS[main]=$(children client)
	PIDS[parent]=$(children main)
	await children_are parent 2
	all=(${PIDS[main]} ${PIDS[parent]} $(children parent))
	start tracer strace -qq -o calls -p "${PIDS[parent]}"
	unset 'PIDS[main]' 'PIDS[parent]'
	await grep -q ppoll calls
	kill -STOP "${PIDS[relay]}" $(children relay)
	touch stopped
	finished client
	await_for 10 all_ended "${all[@]}"
	kill -CONT "${PIDS[relay]}" $(children relay)
	finished tracer
	[ "$(wc -l <calls)" -lt 200 ]
}

@test "a listener that always has something to do ends by SIGTERM all the same" {
	traced_relay_start recvmsg error=ENOBUFS:when=1+
	program "${ROUTE[@]}" -d 127.0.0.1:22 </dev/null
	status_is 69
	err_has '503 no place for a session'
	kill "${PIDS[relay]}"
	await all_ended "${PIDS[relay]}" || {
		kill -KILL "${PIDS[relay]}"
		return 1
	}
	finished relay
}

@test "a listener is killed while a tunnel stands: its workers end too, and another listens there at once" {
	local all

	relay_start
	target accept 'expect up' gone
	start tunnel "$PEER" -c "$RELAY" "send CONNECT 127.0.0.1:$TARGET HTTP/1.1\r\nHost: x\r\n\r\n" head 'send up' 'touch stands' gone
	await test -e stands
	all=($(children relay))
	kill -KILL "${PIDS[relay]}"
	await all_ended "${all[@]}"
	finished tunnel
	start_listener again "$PROXYTUNNEL" --serve -a "$RELAY" --allow '*:22'
}
