#!/usr/bin/env bats
# What is between a client and its relay fails in the middle of a transfer, and not a byte is lost, doubled or reordered.

load helper
load relay

# Faults leave the machine much time for others, so they happen beside the restarts.
setup_file() {
	local seed

	servers_begin
	start_proxytunnel --allow '127.0.0.1:*'
	export RELAY=$PORT RELAY_LOG=$SERVER_DIR/log
	for seed in 1 2; do
		faults_begin up "$seed"
		faults_begin down "$((seed + 2))"
		faults_begin both "$((seed + 4))"
	done
}

teardown_file() {
	servers_end
}

# faults_begin DIRECTION SEED: so many go through withstands, in a process of its own, which leaves the file ended, and
# passed if all is well. It stays up to the end of the file, as it is ended by its number.
faults_begin() {
	mkdir "$SERVERS/$1$2"
	set -m
	(
		set +e
		(
			set -e
			cd "$SERVERS/$1$2"
			CLIENT_LIMIT=110 withstands "$1" "$2"
			touch passed
		)
		touch "$SERVERS/$1$2/ended"
		exec sleep 600
	) >"$SERVERS/$1$2/log" 2>&1 3>&- &
	set +m
	: >"$SERVERS/pids/$!"
}

# faults_end DIRECTION SEED: they have gone well.
faults_end() {
	await_for 120 test -e "$SERVERS/$1$2/ended"
	tail -n 20 "$SERVERS/$1$2/log"
	[ -e "$SERVERS/$1$2/passed" ]
}

# restarted SERVER DIRECTION: killed and started again three times within 64 MiB.
restarted() {
	relay_start
	case $1 in
	nginx | haproxy) own way "start_$1" "$RELAY" && route_to "$PORT" ;;
	*) own way "start_$1" && route_to "$RELAY" "$PORT" ;;
	esac
	resumes "$2" way
}

# --- a proxy that is killed, and started again ----------------------------------------------------

@test "squid is killed and started again three times within 64 MiB up, which are exact" {
	restarted squid up
}

@test "squid is killed and started again three times within 64 MiB down, which are exact" {
	restarted squid down
}

@test "squid is killed and started again three times within 64 MiB both ways, which are exact" {
	restarted squid both
}

@test "tinyproxy is killed and started again three times within 64 MiB up, which are exact" {
	restarted tinyproxy up
}

@test "tinyproxy is killed and started again three times within 64 MiB down, which are exact" {
	restarted tinyproxy down
}

@test "tinyproxy is killed and started again three times within 64 MiB both ways, which are exact" {
	restarted tinyproxy both
}

@test "nginx in front of the relay is killed and started again three times within 64 MiB up, which are exact" {
	restarted nginx up
}

@test "nginx in front of the relay is killed and started again three times within 64 MiB down, which are exact" {
	restarted nginx down
}

@test "nginx in front of the relay is killed and started again three times within 64 MiB both ways, which are exact" {
	restarted nginx both
}

@test "haproxy in front of the relay is killed and started again three times within 64 MiB up, which are exact" {
	restarted haproxy up
}

@test "haproxy in front of the relay is killed and started again three times within 64 MiB down, which are exact" {
	restarted haproxy down
}

@test "haproxy in front of the relay is killed and started again three times within 64 MiB both ways, which are exact" {
	restarted haproxy both
}

# --- connections that fail in every way ------------------------------------------------------------

@test "connections are cut or reset 50 times, and requests doubled, replayed and held besides, within 64 MiB up, which are exact" {
	faults_end up 1
	faults_end up 2
}

@test "connections are cut or reset 50 times, and requests doubled, replayed and held besides, within 64 MiB down, which are exact" {
	faults_end down 3
	faults_end down 4
}

@test "connections are cut or reset 50 times, and requests doubled, replayed and held besides, within 64 MiB both ways, which are exact" {
	faults_end both 5
	faults_end both 6
}

@test "of all these sessions none is left, and the relay's log has a line for each that says so" {
	await_for 10 eval '[ "$(grep -c " session .*: done, " "$RELAY_LOG")" -eq 6 ]'
	[ "$(grep -c ' session ' "$RELAY_LOG")" -eq 6 ]
}
