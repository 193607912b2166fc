#!/usr/bin/env bats
# A tunnel in ordinary requests, by every way to a relay: all bytes come through, whoever sends and whoever stops.

load helper
load relay

setup_file() {
	local name

	ways_begin
	for name in $WAYS; do
		beside "idle_$name" idles "$name"
	done
	start_sshd
}

teardown_file() {
	ways_end
}

# idles WAY: nothing is sent for longer than a proxy on the way leaves a connection alone (haproxy 50 s, nginx 60 s); then what
# comes down comes by the stream that was there before, and what goes up arrives too.
idles() {
	way "$1"
	CLIENT_LIMIT=200 target accept 'expect up' 'send down' 'pause 65000' 'send idled' 'expect more' eof close
	CLIENT_LIMIT=200 start_client client 'send up' 'expect down' 'expect idled' 'send more' half-close eof 'status 0' -- -v
	finished client
	finished target
	grep -e '> GET ' -e 'from now on' client.err
	[ "$(grep -c '> GET ' client.err)" -eq 1 ]
	! grep 'from now on' client.err || false
}

# carries WAY [NOTE]: 64 MiB up, down, and both ways at once; on the way nothing was in the program's way but what has that note.
carries() {
	local direction

	way "$1"
	ROUTE+=(-v)
	for direction in up down both; do
		"carries_$direction"
		grep -q '> POST ' err
		! grep 'from now on' err | grep -v "${2:-nothing}" || false
	done
}

# half_closes: either end ends first, and what the other still sends is delivered; a target that reads no more while it cannot write stalls nothing.
half_closes() {
	way "$1"
	half_closes_up
	half_closes_down
	echoes
}

# works: with the programs that it is for.
works() {
	way "$1"
	runs_ssh
	clones_git
}

# --- straight to the relay ----------------------------------------------------------------------

@test "straight to the relay, 64 MiB are exact up, down, and both ways at once, and no detour is taken" {
	carries direct
}

@test "straight to the relay, 16 sessions at once are exact" {
	way direct
	carries_crowd 16
}

@test "straight to the relay, either end may end first, and a target that reads no more while it cannot write stalls nothing" {
	half_closes direct
}

@test "straight to the relay, ssh runs a command, and git clones and pushes" {
	works direct
}

# --- through squid ------------------------------------------------------------------------------

@test "through squid, 64 MiB are exact up, down, and both ways at once, and no detour is taken" {
	carries squid
}

@test "through squid, 16 sessions at once are exact" {
	way squid
	carries_crowd 16
}

@test "through squid, either end may end first, and a target that reads no more while it cannot write stalls nothing" {
	half_closes squid
}

@test "through squid, ssh runs a command, and git clones and pushes" {
	works squid
}

# --- through tinyproxy --------------------------------------------------------------------------

@test "through tinyproxy, 64 MiB are exact up, down, and both ways at once, and no detour is taken" {
	carries tinyproxy
}

@test "through tinyproxy, 16 sessions at once are exact" {
	way tinyproxy
	carries_crowd 16
}

@test "through tinyproxy, either end may end first, and a target that reads no more while it cannot write stalls nothing" {
	half_closes tinyproxy
}

@test "through tinyproxy, ssh runs a command, and git clones and pushes" {
	works tinyproxy
}

# --- through privoxy ----------------------------------------------------------------------------

@test "through privoxy, 64 MiB are exact up, down, and both ways at once, and no detour is taken" {
	carries privoxy
}

@test "through privoxy, 16 sessions at once are exact" {
	way privoxy
	carries_crowd 16
}

@test "through privoxy, either end may end first, and a target that reads no more while it cannot write stalls nothing" {
	half_closes privoxy
}

@test "through privoxy, ssh runs a command, and git clones and pushes" {
	works privoxy
}

# --- through apache -----------------------------------------------------------------------------

@test "through apache, 64 MiB are exact up, down, and both ways at once, and no detour is taken" {
	carries apache
}

@test "through apache, 16 sessions at once are exact" {
	way apache
	carries_crowd 16
}

@test "through apache, either end may end first, and a target that reads no more while it cannot write stalls nothing" {
	half_closes apache
}

@test "through apache, ssh runs a command, and git clones and pushes" {
	works apache
}

# --- through tinyproxy, then squid --------------------------------------------------------------

@test "through tinyproxy, then squid, 64 MiB are exact up, down, and both ways at once, and no detour is taken" {
	carries chain
}

@test "through tinyproxy, then squid, 16 sessions at once are exact" {
	way chain
	carries_crowd 16
}

@test "through tinyproxy, then squid, either end may end first, and a target that reads no more while it cannot write stalls nothing" {
	half_closes chain
}

@test "through tinyproxy, then squid, ssh runs a command, and git clones and pushes" {
	works chain
}

# --- through nginx in front of the relay --------------------------------------------------------

@test "through nginx in front of the relay, 64 MiB are exact up, down, and both ways at once, and only bodies over 1 MiB are sent again" {
	carries nginx 'too large on the way'
}

@test "through nginx in front of the relay, 16 sessions at once are exact" {
	way nginx
	carries_crowd 16
}

@test "through nginx in front of the relay, either end may end first, and a target that reads no more while it cannot write stalls nothing" {
	half_closes nginx
}

@test "through nginx in front of the relay, ssh runs a command, and git clones and pushes" {
	works nginx
}

# --- through haproxy in front of the relay ------------------------------------------------------

@test "through haproxy in front of the relay, 64 MiB are exact up, down, and both ways at once, and no detour is taken" {
	carries haproxy
}

@test "through haproxy in front of the relay, 16 sessions at once are exact" {
	way haproxy
	carries_crowd 16
}

@test "through haproxy in front of the relay, either end may end first, and a target that reads no more while it cannot write stalls nothing" {
	half_closes haproxy
}

@test "through haproxy in front of the relay, ssh runs a command, and git clones and pushes" {
	works haproxy
}

# --- through apache in front of the relay -------------------------------------------------------

@test "through apache in front of the relay, 64 MiB are exact up, down, and both ways at once, and no detour is taken" {
	carries front
}

@test "through apache in front of the relay, 16 sessions at once are exact" {
	way front
	carries_crowd 16
}

@test "through apache in front of the relay, either end may end first, and a target that reads no more while it cannot write stalls nothing" {
	half_closes front
}

@test "through apache in front of the relay, ssh runs a command, and git clones and pushes" {
	works front
}

# --- what began beside these ----------------------------------------------------------------------

@test "by each of these ways, a tunnel through which nothing goes for 65 s stands, by the one stream that it began with" {
	local name names=()

	for name in $WAYS; do
		names+=("idle_$name")
	done
	ended 90 "${names[@]}"
}

# --- the relay behind them all ---------------------------------------------------------------------

# The relay has no memory of any.
none_stands() {
	[ -z "$(find "/proc/$(port_listener "$RELAY")/fd" -lname '/memfd:session*')" ]
}

@test "of all these sessions none is left, and the relay's log has a line for each that says so" {
	await none_stands
	grep -q ' session .*: done, ' "$RELAY_LOG"
	# A proxy, or a client to whom it gave no answer, may have asked once more.
	! grep ' session ' "$RELAY_LOG" | grep -v -e ': done, ' -e ': 410, ' || false
}
