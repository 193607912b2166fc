#!/usr/bin/env bats
# Single calls to the system that fail before the tunnel stands, or around it: each is told in one line, or does no harm.

load helper
load relay

# with CALL WHAT OPTION...: the program, of which each process has WHAT injected into CALL; see strace(1).
with() {
	local call=$1 what=$2

	shift 2
	echo "$call $what $*"
	status=0
	limited strace -f -qq -o /dev/null -e "trace=$call" -e "inject=$call:$what" "$PROXYTUNNEL" "$@" \
		>out 2>err </dev/null || status=$?
}

# fails TEXT CALL WHAT OPTION...: likewise, and one line with that text tells it: 71.
fails() {
	local text=$1

	shift
	with "$@"
	status_is 71
	err_has "$text"
	[ "$(grep -vc 'now nobody' err)" -eq 1 ]
}

@test "what the system refuses at the start is told by its reason: 71" {
	local serve=(--serve -a 0 --allow '*:22') to=(-p 127.0.0.1:1 -d host:22)

	fails '-a 0: Too many open files' socket error=EMFILE -a 0 "${to[@]}"
	fails '127.0.0.1:1: cannot connect: Too many open files' socket error=EMFILE "${to[@]}"
	fails 'cannot make a pair of sockets: Too many open files' socketpair error=EMFILE --proxy-command=cat -d host:22
	fails 'cannot start a process: Cannot allocate memory' clone,?clone3,?fork error=ENOMEM --proxy-command=cat -d host:22
	fails 'cannot prepare to listen: Too many open files' socketpair error=EMFILE "${serve[@]}"
	if [ "$(id -u)" -eq 0 ]; then
		fails 'cannot become nobody: Operation not permitted' setgroups error=EPERM "${serve[@]}"
	fi
}

@test "what the system refuses once a proxy or a relay is reached is told by its reason: 71" {
	local tls carried

	start_peer proxy loop hold
	tls=(-E -p "127.0.0.1:$PORT" -d host:22)
	relay_start
	target loop sink
	carried=("${ROUTE[@]}" -d "127.0.0.1:$TARGET")
	fails '/tls: Operation not permitted' bind error=EPERM "${tls[@]}"
	fails 'cannot make a pipe: Too many open files' '?pipe,pipe2' error=EMFILE "${tls[@]}"
	fails 'cannot make a pair of sockets: Too many open files' socketpair error=EMFILE "${carried[@]}"
	fails 'no random numbers: Function not implemented' getrandom error=ENOSYS "${carried[@]}"
	status=0
	(ulimit -v 8000 && limited "$PROXYTUNNEL" "${carried[@]}" >out 2>err </dev/null) || status=$?
	[ -n "$SANITIZED" ] || status_is 71
	[ -n "$SANITIZED" ] || err_has 'out of memory'
	with sendto error=ENOBUFS "${carried[@]}"
	status_is 69
	err_has ': No buffer space available'
}

@test "a call that is interrupted is made again; a child that has lost its parent ends" {
	with wait4 error=EINTR:when=1 --proxy-command=false -d host:22
	status_is 69
	err_has 'ended with status 1'
	with getppid retval=1 --proxy-command=false -d host:22
	status_is 69
	err_has 'ended with status 71'
}

@test "what only makes a process safer may be missing or forbidden: prctl(2), setrlimit(2)" {
	local call calls=(prctl) error

	[ -n "$SANITIZED" ] || calls+=(prlimit64)	# without which the sanitizers do not start
	printf '%s\n' 'read -r line; printf "HTTP/1.1 200 OK\r\n\r\nfar"; cat >/dev/null' >proxy
	for call in "${calls[@]}"; do
		for error in ENOSYS EPERM; do
			with "$call" "error=$error" --proxy-command='sh ./proxy' -d host:22
			status_is 0
			[ "$(cat out)" = far ]
			[ ! -s err ]
		done
	done
}

@test "started without stdin, where nothing can stand in for it: 71" {
	status=0
	limited strace -qq -o /dev/null -P /dev/null -e trace=openat -e inject=openat:error=EMFILE "$PROXYTUNNEL" -V <&- || status=$?
	[ "$status" -eq 71 ]
}

# injecting CALL WHAT COMMAND...: runs it so. It is the child of this shell.
injecting() {
	exec strace -D -f -qq -o /dev/null -e "trace=$1" -e "inject=$1:$2" "${@:3}"
}

relay_with() {
	start_listener relay injecting "$1" "$2" "$PROXYTUNNEL" --serve -a 0 --allow '127.0.0.1:*'
	RELAY=$PORT
	route_to "$RELAY"
}

@test "a relay that has no memory for a session says so: 503" {
	target loop sink
	relay_with ftruncate error=ENOMEM
	program "${ROUTE[@]}" -d "127.0.0.1:$TARGET" </dev/null
	status_is 69
	err_has '503 no place for a session'
	stop relay
	TMPDIR=/nonexistent relay_with memfd_create error=EPERM
	program "${ROUTE[@]}" -d "127.0.0.1:$TARGET" </dev/null
	status_is 0
}

@test "a relay that has no memory left for what a target sends breaks that session, and its client says why: 74" {
	local pid workers words=()

	relay_start
	target accept 'expect up' 'touch stands' 'await traced' 'send down' gone
	start_client client 'send up' 'status 74'
	await test -e stands
	workers=$(children relay)
	for pid in $workers; do
		words+=(-p "$pid")
	done
	start tracer strace -qq -o /dev/null -e trace=recvfrom -e inject=recvfrom:error=EFAULT "${words[@]}"
	for pid in $workers; do
		await is_traced "$pid"
	done
	touch traced
	finished client
	grep -q 'the relay has no memory left' client.err
	stop tracer
}

@test "a worker that cannot ask its listener for a session tells its client so: 503, and the next one gets it" {
	target loop sink
	relay_start
	start tracer strace -f -qq -o /dev/null -e trace=socketpair -e inject=socketpair:error=EMFILE:when=1 -p "${PIDS[relay]}"
	await is_traced "${PIDS[relay]}"
	program "${ROUTE[@]}" -d "127.0.0.1:$TARGET" </dev/null
	status_is 69
	err_has '503 no place for a session'
	stop tracer
	program "${ROUTE[@]}" -d "127.0.0.1:$TARGET" </dev/null
	status_is 0
}

is_traced() {
	! grep -q '^TracerPid:.0$' "/proc/$1/status"
}

@test "a client that resets while its target is connected to costs a line of the log" {
	target loop sink
	relay_with connect delay_enter=300000
	"$PEER" -c "$RELAY" "send CONNECT 127.0.0.1:$TARGET HTTP/1.1\r\nHost: x\r\n\r\n" 'pause 100' reset
	await grep -q 'gone before the answer' relay.err
}

@test "without a pipe between two sockets their bytes go by a buffer, exact" {
	start_peer far accept head 'send HTTP/1.1 200 OK\r\n\r\n' 'pattern 4M 1 &' 'check 4M 2' join half-close eof
	start_listener listener injecting '?pipe,pipe2' error=EMFILE "$PROXYTUNNEL" -a 0 -p "127.0.0.1:$PORT" -d host:22
	"$PEER" -c "$PORT" 'pattern 4M 2 &' 'check 4M 1' join half-close eof
	finished far
}

@test "an end that cannot be passed on breaks the tunnel, and its client says so: 74" {
	start_peer proxy accept head 'send HTTP/1.1 200 OK\r\n\r\n' gone
	with shutdown error=EIO -p "127.0.0.1:$PORT" -d host:22
	status_is 74
	err_one_line
	err_has 'the tunnel to host:22 broke: Input/output error'
}

@test "a tunnel that cannot be waited for ends at once, and says why: 71" {
	start_peer proxy accept head 'send HTTP/1.1 200 OK\r\n\r\n' gone
	with ppoll error=ENOMEM -p "127.0.0.1:$PORT" -d host:22
	status_is 71
	err_one_line
	err_has 'cannot wait for the tunnel: Cannot allocate memory'
}

@test "a server that cannot pass on its client's end, or cannot wait for the tunnel, resets that, and serves the next" {
	local call pid words

	relay_start
	target loop 'expect up' 'send far' gone
	for call in shutdown ppoll; do
		start near "$PEER" 'send up' 'expect far' 'touch stands' 'await traced' half-close 'status 74 9000' -- \
			"$PROXYTUNNEL" -p "127.0.0.1:$RELAY" -d "127.0.0.1:$TARGET"
		await test -e stands
		words=()
		for pid in $(children relay); do
			words+=(-p "$pid")
		done
		start tracer strace -qq -o /dev/null -e "trace=$call" -e "inject=$call:error=EIO" "${words[@]}"
		for pid in "${words[@]}"; do
			[ "$pid" = -p ] || await is_traced "$pid"
		done
		touch traced
		finished near
		grep "the tunnel to 127.0.0.1:$TARGET broke: Connection reset by peer" near.err
		stop tracer
		"$PEER" -c "$RELAY" "send CONNECT 127.0.0.1:$TARGET HTTP/1.1\r\nHost: x\r\n\r\n" head 'send up' 'expect far' close
		rm stands traced
	done
}
