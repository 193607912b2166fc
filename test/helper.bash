# What every .bats file loads: setup and teardown, peers, and what to ask about the outcome.
#
#	PROXYTUNNEL	the program under test; the one in the project's folder by default
#	EMULATED	the emulator that it runs in, if any, whose arguments and memory are not the program's
#	SANITIZED	1: its memory tells nothing, as it was built with sanitizers (found by itself), or is emulated
#	ROOT, DIR	the project's folder; a new one for each test, where the test stands
#	PORT, PORTS	where the peer started last listens; that of each peer by its name
#
# Every process of a test is started with a limit of its own, ends in teardown, and is
# looked for there. A file with a setup or teardown of its own calls test_begin first in the
# one and test_end last in the other.

ROOT=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
PROXYTUNNEL=${PROXYTUNNEL:-$ROOT/proxytunnel}
PEER=${PEER:-$ROOT/test/bin/peer}
SANITIZED=${SANITIZED:-${EMULATED:+1}}
SANITIZED=${SANITIZED:-$(grep -qa __asan_init "$PROXYTUNNEL" && echo 1)} || true
export ASAN_OPTIONS=detect_leaks=0	# what lasts as long as the process is not freed
declare -gA PIDS PORTS	# -g, as load sources this within a function
# shellcheck source=test/servers.bash
. "$BATS_TEST_DIRNAME/servers.bash"

setup() {
	test_begin
}

teardown() {
	test_end
}

test_begin() {
	unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
	unset PROXYUSER PROXYPASS REMPROXYUSER REMPROXYPASS
	unset SSH_ASKPASS SSH_ASKPASS_REQUIRE DISPLAY WAYLAND_DISPLAY
	export LC_ALL=C
	DIR=$(mktemp -d "${TMPDIR:-/tmp}/proxytunnel.XXXXXX")
	export TEST_MARK=$DIR
	cd "$DIR" || return
}

test_end() {
	local name left=0

	[ -n "${DIR:-}" ] || return 0 # it has not begun, and without that mark all tests' processes would be its own
	unset TEST_MARK
	for name in "${!PIDS[@]}"; do
		stop "$name" || left=1
	done
	await nothing_left || {
		strays_end
		left=1
	}
	cd /
	rm -rf "$DIR"
	return "$left"
}

# The processes of this test that still run, by the mark in their environment.
strays() {
	grep -lsF "TEST_MARK=$DIR" /proc/[0-9]*/environ | tr -dc '0-9\n'
}

nothing_left() {
	[ -z "$(strays)" ]
}

# Of what this test started, neither the program nor an openssl still runs.
ours_gone() {
	local pid

	for pid in $(strays); do
		case $(readlink "/proc/$pid/exe") in
		"$(realpath "$PROXYTUNNEL")" | */openssl) return 1 ;;
		esac
	done
}

strays_end() {
	local pid

	for pid in $(strays); do
		echo "still running: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
		kill -KILL "$pid"
	done
}

# await COMMAND...: until it succeeds, for 5 s at most.
await() {
	local tries=250

	until "$@" >/dev/null 2>&1; do
		if [ $((tries -= 1)) -lt 0 ]; then
			echo "awaited in vain: $*"
			return 1
		fi
		sleep 0.02
	done
}

# limited COMMAND...: for $LIMIT (10) seconds at most, and without a terminal to ask at.
limited() {
	timeout -k 1 "${LIMIT:-10}" setsid "$@" 3>&-
}

# --- processes beside the test ------------------------------------------------

# start NAME COMMAND...: its stdout and stderr are in NAME.out and NAME.err.
start() {
	local name=$1

	shift
	rm -f "$name.out" "$name.err"	# what another of that name has said is not awaited
	"$@" >"$name.out" 2>"$name.err" 3>&- &
	PIDS[$name]=$!
}

# start_peer NAME [OPTION...] STEP...: steps and options are told in peer.c.
start_peer() {
	local name=$1

	shift
	rm -f "$name.port"
	start "$name" "$PEER" -p "$name.port" "$@"
	await listening_or_ended "$name"
	PORT=$(<"$name.port") || {
		cat "$name.err"
		return 1
	}
	PORTS[$name]=$PORT
}

# start_listener NAME COMMAND...: one that chooses its port and says on stderr where it listens. Sets PORT.
start_listener() {
	start "$@"
	await says_or_ended "$1" 'listening on'
	PORT=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$1.err")
	PORTS[$1]=$PORT
	[ -n "$PORT" ] || {
		cat "$1.err"
		return 1
	}
}

says_or_ended() {
	grep -qF "$2" "$1.err" || ! kill -0 "${PIDS[$1]}"
}

listening_or_ended() {
	[ -s "$1.port" ] || ! kill -0 "${PIDS[$1]}"
}

# finished NAME [STATUS]: it ends by itself, with 0 or what is said. A peer has a limit of its own.
finished() {
	local ended=0

	wait "${PIDS[$1]}" || ended=$?
	unset "PIDS[$1]"
	[ "$ended" -eq "${2:-0}" ] || {
		echo "$1 ended with $ended:"
		cat "$1.err"
		return 1
	}
}

# children NAME: the processes that it has, those included that ended and were not waited for.
children() {
	cat /proc/[0-9]*/stat 2>/dev/null | awk -v parent="${PIDS[$1]}" '{ pid = $1; sub(/.*\) /, "") } $2 == parent { print pid }'
}

children_are() {
	[ "$(children "$1" | wc -l)" -eq "$2" ]
}

# stop NAME: SIGTERM ends it, also if it is stopped; what that does not end fails the test, and does not hold it up.
stop() {
	local pid=${PIDS[$1]} until=$((SECONDS + 10)) ended=0

	unset "PIDS[$1]"
	if is_child "$pid"; then
		{ kill "$pid" && kill -CONT "$pid"; } 2>/dev/null || true # it may end just now
		while server_runs "$pid" && [ "$SECONDS" -lt "$until" ]; do
			sleep 0.01
		done
		! server_runs "$pid" || {
			echo "$1 does not end by SIGTERM"
			kill -KILL "$pid"
			ended=1
		}
	fi
	wait "$pid" 2>/dev/null || true
	return "$ended"
}

# --- the program --------------------------------------------------------------

# program ARG...: run it on the given stdin. Sets $status; stdout and stderr are in out and err.
program() {
	status=0
	limited "$PROXYTUNNEL" "$@" >out 2>err || status=$?
}

# tunnel [OPTION...]: the same, to host:22 through the peer started last.
tunnel() {
	program -p "127.0.0.1:$PORT" -d host:22 "$@"
}

# drive [PEER-OPTION...] STEP... [-- OPTION...]: the same again, but between the pipes of a peer
# that plays what starts it. It must all go as the steps say. Its stderr is in err.
drive() {
	near_words "$@"
	drive_command "${NEAR[@]}"
}

# start_near NAME ...: the same beside the test; its stderr is in NAME.err.
start_near() {
	local name=$1

	shift
	near_words "$@"
	start "$name" "$PEER" "${NEAR[@]}"
}

near_words() {
	NEAR=()
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		NEAR+=("$1")
		shift
	done
	shift || true
	NEAR+=(-- "$PROXYTUNNEL" -p "127.0.0.1:$PORT" -d host:22 "$@")
}

# drive_command [PEER-OPTION...] STEP... -- COMMAND...: likewise around another command.
drive_command() {
	"$PEER" "$@" 2>err 3>&- || {
		cat err
		return 1
	}
}

# --- the outcome --------------------------------------------------------------

status_is() {
	[ "$status" -eq "$1" ] || {
		echo "status $status, not $1; stderr:"
		cat err
		return 1
	}
}

# out_is TEXT: that is stdout, to the byte; TEXT as printf's %b has it.
out_is() {
	cmp <(printf %b "$1") out
}

err_has() {
	grep -qF -e "$1" err || {
		echo "stderr lacks \"$1\":"
		cat -v err
		return 1
	}
}

err_lacks() {
	! grep -qF -e "$1" err || {
		echo "stderr has \"$1\":"
		cat -v err
		return 1
	}
}

# Nothing was said.
err_empty() {
	[ ! -s err ] || {
		cat -v err
		return 1
	}
}

# One line from the program, and nothing in it that a terminal would act on.
err_one_line() {
	if [ "$(wc -l <err)" -ne 1 ] || ! grep -q '^proxytunnel: ' err || grep -q '[^[:print:]]' err; then
		echo "not one line of ours:"
		cat -v err
		return 1
	fi
}
