#!/usr/bin/env bats
# --relay and --serve: calls of theirs that fail, and processes of theirs that are killed. What a tunnel carries comes exact, or
# its client says why not, and ends with a status that is not 0.

load helper
load relay

setup_file() {
	FILES=$(mktemp -d)
	export FILES
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

# faults_in PLACE...: some of the faults that test/faults knows, which `make faults` tries all.
faults_in() {
	[ -z "$SANITIZED" ] || skip 'no preloading before the sanitizers'
	timeout 400 "$ROOT/test/faults" -j 2 -n "$FAULTS_OF" "$@" 3>&-
}

FAULTS_OF=${FAULTS_OF:-17}

@test "calls that fail, are cut short or interrupted: a client's tunnel is exact, or it says why not" {
	faults_in client
}

@test "such calls of a relay's client: its tunnel is exact, or it says why not" {
	faults_in relayed
}

@test "such calls of a server: its tunnel is exact, or the client says why not, and the next client is served" {
	faults_in serve
}

@test "such calls of a relay: its session is exact, or the client says why not, and the next client is served" {
	faults_in relay
}

@test "such calls of a client that listens: its tunnel is exact, or reset, and the next client is served" {
	faults_in listener
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
