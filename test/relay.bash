# What the relay's .bats files load beside helper and servers: relays, the ways to one, and what has to go through.
#
#	ways_begin [WAY...]	in setup_file: a relay for all tests, on RELAY, its log RELAY_LOG, and the proxies of
#				these ways to it; by default all, which are: direct squid tinyproxy privoxy apache
#				chain (tinyproxy, then squid) nginx haproxy front (apache)
#	ways_end		in teardown_file
#	way WAY			sets the words ROUTE that lead a client this way
#	route_to PORT [PROXY]	sets them to the relay on PORT, or what stands before it, through the proxy on PROXY
#	relay_start [OPTION...]	a relay of this test alone, on RELAY, its log in relay.err; ROUTE leads straight to it
#	relay_start_as NAME ...	the same by another name
#	own NAME START [WORD...]	a server of this test alone, by its function of servers.bash; on PORTS[NAME]
#	own_restart NAME	kills it and starts it again
#	own_fault NAME OPTION...	likewise a fault, see fault.c
#	fault_ends NAME		ends it, and sets what it counted in COUNTS
#
#	beside NAME COMMAND...	in setup_file after ways_begin: begins it, in a folder of its own, beside the tests
#	ended SECONDS NAME...	each of them comes to its end within that time, and to a good one
#
#	target STEP...		the peer that sessions go to, on TARGET, for CLIENT_LIMIT (60) seconds at most
#	client STEP... [-- OPTION...]	the program as a client on ROUTE, between the pipes of a peer; its stderr is in err
#	start_client NAME ...	the same beside the test, its stderr in NAME.err
#
# Each of these fails when a byte does not come through as it should. SIZE is 64M, for crowds 4M.
#
#	carries_up [SIZE], carries_down [SIZE], carries_both [SIZE]
#	carries_crowd COUNT [SIZE]	so many clients at once, each with so much there and back
#	carries_listened COUNT [SIZE]	the same, by one client that listens
#	half_closes_up, half_closes_down	one way ends, and the other goes on
#	echoes [SIZE]		there and back, to a target that holds 64 KiB and reads no more while it cannot write
#	resumes up|down|both NAME	64 MiB; NAME, a server of own on the way, is restarted three times meanwhile
#	withstands up|down|both SEED [SIZE]	of all kinds of faults some happen between the client and RELAY, and 50 of them cut a connection
#	runs_ssh, clones_git	to the sshd of start_sshd
#
# And these count how often a client tries. The target is there before, as "target loop sink".
#
#	flood_begin WHAT [opening]	a client starts and has a session; from then on, or from the opening on, each of
#				its requests meets WHAT of fault.c
#	flood_ends WHAT [opening]	it tried, but not more than 120 times in any minute

FAULT=${FAULT:-$ROOT/test/bin/fault}
WAYS='direct squid tinyproxy privoxy apache chain nginx haproxy front'
declare -gA OWN COUNTS

teardown() {
	[ "${#OWN[@]}" -eq 0 ] || server_stop "${OWN[@]}"
	test_end
}

# --- relays and ways to them ----------------------------------------------------

# The port where each way begins is in WAY_..., as the tests are other processes.
ways_begin() {
	local name

	servers_begin
	start_proxytunnel --allow '127.0.0.1:*'
	export RELAY=$PORT RELAY_LOG=$SERVER_DIR/log
	[ $# -gt 0 ] || set -- $WAYS
	for name; do
		case $name in
		direct) PORT=$RELAY ;;
		chain)
			start_squid
			UPSTREAM=$PORT start_tinyproxy
			;;
		nginx | haproxy) "start_$name" "$RELAY" ;;
		front) FRONT=$RELAY start_apache ;;
		*) "start_$name" ;;
		esac
		export "WAY_$name=$PORT"
	done
}

ways_end() {
	local pid

	# shellcheck disable=SC2013
	for pid in $(cat "$SERVERS"/*/beside 2>/dev/null); do
		! is_child "$pid" || kill "$pid"
	done
	servers_end
}

way() {
	local port=WAY_$1

	case $1 in
	direct | nginx | haproxy | front) route_to "${!port}" ;;
	*) route_to "$RELAY" "${!port}" ;;
	esac
}

route_to() {
	ROUTE=(--relay "http://127.0.0.1:$1/t" ${2:+-p "127.0.0.1:$2"})
}

relay_start() {
	relay_start_as relay "$@"
}

relay_start_as() {
	local name=$1

	shift
	[[ " $* " == *' --allow'* ]] || set -- --allow '127.0.0.1:*' "$@"
	start_listener "$name" "$PROXYTUNNEL" --serve -a 0 "$@"
	RELAY=$PORT
	route_to "$RELAY"
}

own() {
	local name=$1

	shift
	"$@"
	OWN[$name]=$PID
	PORTS[$name]=$PORT
}

own_restart() {
	server_restart "${OWN[$1]}"
	OWN[$1]=$PID
}

own_fault() {
	local name=$1

	shift
	rm -f "$name.port"
	start "$name" "$FAULT" -p "$name.port" "$@"
	await listening_or_ended "$name"
	PORT=$(<"$name.port") || {
		cat "$name.err"
		return 1
	}
	PORTS[$name]=$PORT
}

fault_ends() {
	local count number

	kill "${PIDS[$1]}"
	finished "$1"
	while read -r count number; do
		COUNTS[$count]=$number
	done <"$1.out"
	cat "$1.out"
}

# --- both ends of a session -----------------------------------------------------

target() {
	start_peer target -b 256 -t "${CLIENT_LIMIT:-60}" "$@"
	TARGET=$PORT
}

client() {
	client_words "$@"
	drive_command "${CLIENT[@]}"
}

start_client() {
	local name=$1

	shift
	client_words "$@"
	start "$name" "$PEER" "${CLIENT[@]}"
}

client_words() {
	CLIENT=(-t "${CLIENT_LIMIT:-60}")
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		CLIENT+=("$1")
		shift
	done
	shift || true
	CLIENT+=(-- "$PROXYTUNNEL" "${ROUTE[@]}" -d "127.0.0.1:$TARGET" "$@")
}

# await_for SECONDS COMMAND...: until it succeeds.
await_for() {
	local until=$((SECONDS + $1))

	shift
	until "$@"; do
		if [ "$SECONDS" -gt "$until" ]; then
			echo "awaited in vain: $*"
			return 1
		fi
		sleep 0.01
	done
}

# --- what takes a minute or two, beside the tests --------------------------------------

beside() {
	mkdir "$SERVERS/$1"
	(
		trap - ERR DEBUG	# those of bats
		trap 'echo $? >status' EXIT
		trap exit TERM
		cd "$SERVERS/$1"
		DIR=$PWD
		echo "$BASHPID" >beside
		set -e
		"${@:2}"
	) </dev/null >"$SERVERS/$1/log" 2>&1 3>&- &
}

ended() {
	local name seconds=$1 failed=0

	shift
	for name; do
		await_for "$seconds" test -s "$SERVERS/$name/status" && [ "$(<"$SERVERS/$name/status")" -eq 0 ] || {
			failed=1
			tail -n 20 "$SERVERS/$name/log" "$SERVERS/$name"/*.err | grep -v '^fault: '
		}
	done
	return "$failed"
}

# --- what goes through ------------------------------------------------------------

carries_up() {
	target accept "check ${1:-64M}" eof 'send done' close
	client "pattern ${1:-64M}" half-close 'expect done' eof 'status 0'
	finished target
}

carries_down() {
	target accept "pattern ${1:-64M}" close
	client "check ${1:-64M}" eof half-close 'status 0'
	finished target
}

carries_both() {
	target accept "pattern ${1:-64M} 1 &" "check ${1:-64M} 2" join half-close eof
	client "pattern ${1:-64M} 2 &" "check ${1:-64M} 1" join half-close eof 'status 0'
	finished target
}

echoes() {
	target -r 65536 accept 'echo 64K' close
	client "pattern ${1:-64M} &" "check ${1:-64M}" join half-close eof 'status 0'
	finished target
}

half_closes_up() {
	target accept 'check 1M' eof 'pause 500' 'pattern 1M 1' close
	client 'pattern 1M' half-close 'check 1M 1' eof 'status 0'
	finished target
}

# The program waits a second for its stdin to end once there is nothing more to come.
half_closes_down() {
	target accept 'pattern 1M' half-close 'check 1M 1' eof
	client 'check 1M' eof 'pause 500' 'pattern 1M 1' half-close 'status 0'
	finished target
}

carries_crowd() {
	local n

	target loop 'echo 64K' close
	for ((n = 1; n <= $1; n++)); do
		start_client "client$n" "pattern ${2:-4M} $n &" "check ${2:-4M} $n" join half-close eof 'status 0'
	done
	for ((n = 1; n <= $1; n++)); do
		finished "client$n"
	done
	stop target
}

carries_listened() {
	target loop 'echo 64K' close
	start_listener listener "$PROXYTUNNEL" -a 0 "${ROUTE[@]}" -d "127.0.0.1:$TARGET"
	drive_command -c "$PORT" -t "${CLIENT_LIMIT:-60}" "crowd $1" "pattern ${2:-4M} &" "check ${2:-4M}" join half-close eof
	stop listener
	stop target
}

# Sent in pieces of 1 MiB with a pause between, so that it takes a while however fast the way is; each piece
# has a pattern of its own, and a fourth each is told to the shell, by a file. However slow the machine is, the
# next fourth is not finished before the restart.
resumes() {
	local sends=() takes=() n

	for ((n = 1; n <= 64; n++)); do
		[ $((n % 16)) -ne 0 ] || sends+=("await again$((n - 16))")
		sends+=("pattern 1M $n" 'pause 20')
		takes+=("check 1M $n")
		[ $((n % 16)) -ne 0 ] || takes+=("touch took$n")
	done
	touch again0
	case $1 in
	up)
		target accept "${takes[@]}" eof close
		start_client client "${sends[@]}" half-close eof 'status 0'
		;;
	down)
		target accept "${sends[@]}" close
		start_client client "${takes[@]}" eof half-close 'status 0'
		;;
	both)
		target accept 'pattern 64M 99 &' "${takes[@]}" join half-close eof
		start_client client 'check 64M 99 &' "${sends[@]}" join half-close eof 'status 0'
		;;
	esac
	for n in 16 32 48; do
		await_for 30 test -e "took$n"
		own_restart "$2"
		touch "again$n"
	done
	finished client
	finished target
}

# Six kinds of eleven cut, so of 99 faults these do 54. They are due within 50 MiB, so that the last of them still have their chance.
withstands() {
	local kind kinds='before after lost body fin rst twice again replay held stalled'

	own_fault fault -n 99 -e 512K -s "$2" "$RELAY"
	route_to "$PORT"
	"carries_$1" "${3:-64M}"
	fault_ends fault
	[ "${COUNTS[faults]}" -eq 99 ]
	[ "${COUNTS[cuts]}" -ge 50 ]
	# Where nothing is sent up, no request has a body, and seldom one has another method than GET.
	[ "$1" != down ] || kinds='before after lost fin rst twice replay held stalled'
	for kind in $kinds; do
		[ "${COUNTS[$kind]}" -ge 1 ]
	done
}

# --- ssh and git --------------------------------------------------------------------

# Writes ./config, with which ssh goes by ROUTE.
ssh_config() {
	{
		echo "ProxyCommand '$PROXYTUNNEL' ${ROUTE[*]} -d %h:%p"
		cat "$SERVERS/ssh_config"
	} >config
}

runs_ssh() {
	ssh_config
	status=0
	limited ssh -F config target 'cat; echo told >&2; exit 7' <<<hello >out 2>err || status=$?
	status_is 7
	out_is 'hello\n'
	[ "$(<err)" = told ]
}

clones_git() {
	ssh_config
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_SSH_COMMAND="ssh -F '$DIR/config'"
	export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.org
	git init -q here
	cp "$ROOT"/test/*.bats here
	git -C here add .
	git -C here commit -q -m one
	git clone -q --bare here there
	limited git clone -q "target:$DIR/there" away
	[ "$(git -C away rev-parse HEAD)" = "$(git -C here rev-parse HEAD)" ]
	git -C away commit -q --allow-empty -m two
	limited git -C away push -q
	[ "$(git -C there rev-parse HEAD)" = "$(git -C away rev-parse HEAD)" ]
}

# --- how often a client tries ---------------------------------------------------------

# With -w 0, as the time until a tunnel stands has a limit of its own.
flood_begin() {
	local name=$1${2:-}

	if [ "${2:-}" = opening ]; then
		own_fault "fault_$name" -t 300 -c "$1" "$RELAY"
	else
		own_fault "fault_$name" -t 300 -c "$1" -w "now_$name" "$RELAY"
	fi
	route_to "$PORT"
	CLIENT_LIMIT=300 start_client "client_$name" 'trickle 100 20 x' "touch sent_$name" 'trickle 100 forever x' -- -w 0
	[ "${2:-}" = opening ] || {
		await test -e "sent_$name"
		touch "now_$name"
	}
}

flood_ends() {
	local name=$1${2:-}

	fault_ends "fault_$name"
	stop "client_$name"
	[ "${COUNTS[requests]}" -ge 2 ]
	[ "${COUNTS[minute]}" -le 120 ]
	[ "${COUNTS[connections]}" -le 150 ]
}
