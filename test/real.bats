#!/usr/bin/env bats
# The real parts: ssh, scp, rsync and git through tinyproxy, squid and apache, and what their user sees.

load helper

setup_file() {
	servers_begin
	start_sshd
	export SSHD=$PORT
	start_tinyproxy
	export TINYPROXY=$PORT
	start_squid
	export SQUID=$PORT
	start_apache
	export APACHE=$PORT
	start_tinyproxy open:sesame
	export TINYPROXY_AUTH=$PORT
	start_squid open:sesame
	export SQUID_AUTH=$PORT
	start_apache open:sesame
	export APACHE_AUTH=$PORT

	head -c 64M /dev/urandom >"$SERVERS/blob"
	SUM=$(sha256_of "$SERVERS/blob")
	export SUM
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
	export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.org
}

teardown_file() {
	servers_end
}

sha256_of() {
	sha256sum <"$1"
}

# through PROXY [USER:PASSWORD]: writes ./config, with which ssh goes through the proxy.
through() {
	{
		echo "ProxyCommand '$PROXYTUNNEL' -p 127.0.0.1:$1 ${2:+-P $2} -d %h:%p"
		cat "$SERVERS/ssh_config"
	} >config
}

# --- what ssh is used for -------------------------------------------------------

# A command's output and status come back, and nothing of ours is on the terminal.
runs_a_command() {
	status=0
	limited ssh -F config target 'cat; echo told >&2; exit 7' <<<hello >out 2>err || status=$?
	status_is 7
	out_is 'hello\n'
	[ "$(<err)" = told ]
}

copies_64_mib() {
	LIMIT=40 limited ssh -F config target cat <"$SERVERS/blob" >back
	[ "$(sha256_of back)" = "$SUM" ]
}

clones_fetches_and_pushes() {
	export GIT_SSH_COMMAND="ssh -F '$DIR/config'"

	git init -q here
	cp "$ROOT"/test/*.bats here
	git -C here add .
	git -C here commit -q -m one
	git clone -q --bare here there
	limited git clone -q "target:$DIR/there" away
	cmp here/real.bats away/real.bats

	git -C here commit -q --allow-empty -m two
	git -C here push -q "$DIR/there" HEAD
	limited git -C away pull -q --ff-only
	[ "$(git -C away rev-parse HEAD)" = "$(git -C here rev-parse HEAD)" ]

	git -C away commit -q --allow-empty -m three
	limited git -C away push -q
	[ "$(git -C there rev-parse HEAD)" = "$(git -C away rev-parse HEAD)" ]
}

@test "ssh runs a command through tinyproxy" {
	through "$TINYPROXY"
	runs_a_command
}

@test "ssh runs a command through tinyproxy with credentials" {
	through "$TINYPROXY_AUTH" open:sesame
	runs_a_command
}

@test "ssh runs a command through squid" {
	through "$SQUID"
	runs_a_command
}

@test "ssh runs a command through squid with credentials" {
	through "$SQUID_AUTH" open:sesame
	runs_a_command
}

@test "ssh runs a command through apache" {
	through "$APACHE"
	runs_a_command
}

@test "ssh runs a command through apache with credentials" {
	through "$APACHE_AUTH" open:sesame
	runs_a_command
}

@test "64 MiB go each way at once through tinyproxy, exact" {
	through "$TINYPROXY"
	copies_64_mib
}

@test "64 MiB go each way at once through tinyproxy with credentials, exact" {
	through "$TINYPROXY_AUTH" open:sesame
	copies_64_mib
}

@test "64 MiB go each way at once through squid, exact" {
	through "$SQUID"
	copies_64_mib
}

@test "64 MiB go each way at once through squid with credentials, exact" {
	through "$SQUID_AUTH" open:sesame
	copies_64_mib
}

@test "64 MiB go each way at once through apache, exact" {
	through "$APACHE"
	copies_64_mib
}

@test "64 MiB go each way at once through apache with credentials, exact" {
	through "$APACHE_AUTH" open:sesame
	copies_64_mib
}

@test "git clones, fetches and pushes through tinyproxy" {
	through "$TINYPROXY"
	clones_fetches_and_pushes
}

@test "git clones, fetches and pushes through tinyproxy with credentials" {
	through "$TINYPROXY_AUTH" open:sesame
	clones_fetches_and_pushes
}

@test "git clones, fetches and pushes through squid" {
	through "$SQUID"
	clones_fetches_and_pushes
}

@test "git clones, fetches and pushes through squid with credentials" {
	through "$SQUID_AUTH" open:sesame
	clones_fetches_and_pushes
}

@test "git clones, fetches and pushes through apache" {
	through "$APACHE"
	clones_fetches_and_pushes
}

@test "git clones, fetches and pushes through apache with credentials" {
	through "$APACHE_AUTH" open:sesame
	clones_fetches_and_pushes
}

@test "scp copies 64 MiB up and down" {
	through "$SQUID"
	LIMIT=40 limited scp -q -F config "$SERVERS/blob" "target:$DIR/up"
	[ "$(sha256_of up)" = "$SUM" ]
	LIMIT=40 limited scp -q -F config "target:$DIR/up" down
	[ "$(sha256_of down)" = "$SUM" ]
}

@test "rsync brings a folder up to date both ways" {
	through "$APACHE_AUTH" open:sesame
	mkdir one
	head -c 3M "$SERVERS/blob" >one/data
	limited rsync -a -e 'ssh -F config' one/ "target:$DIR/two"
	echo more >>two/data
	limited rsync -a -e 'ssh -F config' "target:$DIR/two/" one
	cmp one/data two/data
	[ "$(tail -c 5 one/data)" = more ]
}

# --- ends and signals -------------------------------------------------------------

@test "after the end of stdin all that is still to come through apache comes, with status 0" {
	start_peer target accept 'expect ask' eof 'pause 500' 'pattern 1M'
	drive_command 'send ask' half-close 'check 1M' eof 'status 0' -- \
		"$PROXYTUNNEL" -p "127.0.0.1:$APACHE" -d "127.0.0.1:$PORT"
	finished target
	err_empty
}

@test "with /dev/null as stdin all that comes through apache comes, with status 0" {
	start_peer target accept eof 'pause 500' 'repeat 131072 1234567\n'
	program -p "127.0.0.1:$APACHE" -d "127.0.0.1:$PORT" </dev/null
	finished target
	status_is 0
	cmp <(yes 1234567 | head -c 1M) out
	err_empty
}

# The members of a process group.
group() {
	cat /proc/[0-9]*/stat 2>/dev/null | awk -v group="$1" '$5 == group { print $1 }'
}

@test "a SIGINT to its process group does not end an ssh master that detached itself" {
	local leader helper

	through "$TINYPROXY"
	# The master leaves the group, the tunnel that it started stays; as under a script that started
	# the master and is then ended by Ctrl-C. A shell's & would have SIGINT ignored.
	start script env --default-signal=INT setsid sh -c 'ssh -F config -S master -fNM target; : >up; exec sleep 30'
	await test -e up
	leader=${PIDS[script]}
	helper=$(group "$leader" | grep -vx "$leader")
	server_runs "$helper"
	kill -INT -- "-$leader"
	finished script 130
	# Only through the master: ssh alone would get nowhere.
	limited ssh -F config -S master -o ProxyCommand=false target echo here >out
	out_is 'here\n'
	server_runs "$helper"
	limited ssh -F config -S master -O exit target
	await not server_runs "$helper"
}

not() {
	! "$@"
}

# --- refusals ---------------------------------------------------------------------

# tinyproxy says 401 to wrong ones.
@test "wrong credentials are refused by each proxy: 407 or 401, status 77" {
	for proxy in "$TINYPROXY_AUTH" "$SQUID_AUTH" "$APACHE_AUTH"; do
		program -p "127.0.0.1:$proxy" -P open:wrong -d "127.0.0.1:$SSHD" </dev/null
		status_is 77
		err_one_line
		grep "127.0.0.1:$proxy: CONNECT 127.0.0.1:$SSHD refused: 40[17]" err
	done
}

@test "without credentials the line says that each proxy offers Basic" {
	for proxy in "$TINYPROXY_AUTH" "$SQUID_AUTH" "$APACHE_AUTH"; do
		program -p "127.0.0.1:$proxy" -d "127.0.0.1:$SSHD" </dev/null
		status_is 77
		err_one_line
		err_has "127.0.0.1:$proxy: CONNECT 127.0.0.1:$SSHD refused: 407"
		err_has 'it offers Basic'
	done
}

@test "a port that squid or apache does not allow: 403, status 77, many let only 443 through" {
	for proxy in "$SQUID" "$APACHE"; do
		program -p "127.0.0.1:$proxy" -d 127.0.0.1:22 </dev/null
		status_is 77
		err_one_line
		err_has "127.0.0.1:$proxy: CONNECT 127.0.0.1:22 refused: 403"
		err_has 443
	done
}

@test "a target that no proxy can reach: a 5xx, status 69" {
	free_port
	for proxy in "$TINYPROXY" "$SQUID" "$APACHE"; do
		program -p "127.0.0.1:$proxy" -d "127.0.0.1:$PORT" </dev/null
		status_is 69
		err_one_line
		err_has "127.0.0.1:$proxy: CONNECT 127.0.0.1:$PORT refused: 50"
	done
}

# --- what the user of ssh sees ----------------------------------------------------

# ssh_shows STATUS WORDS OPTION...: ssh with the tunnel's options fails. On stderr is first our one line,
# with these words, then ssh's own. STATUS is the tunnel's.
ssh_shows() {
	local expected=$1 words=$2

	shift 2
	cat >helper <<-END
		#!/bin/sh
		'$PROXYTUNNEL' "\$@"
		echo \$? >'$DIR/status'
	END
	chmod +x helper
	{
		echo "ProxyCommand '$DIR/helper' $*"
		cat "$SERVERS/ssh_config"
	} >config
	status=0
	limited ssh -F config target true >out 2>all || status=$?
	head -n 1 all >err
	cat all
	status_is 255
	err_one_line
	err_has "$words"
	sed 1d all | grep -q 'UNKNOWN port'
	[ "$(sed 1d all | grep -c proxytunnel:)" -eq 0 ]
	[ "$(<status)" = "$expected" ]
}

@test "ssh shows which proxy's name does not resolve (68)" {
	ssh_shows 68 no-such-proxy.invalid -p no-such-proxy.invalid:3128 -d %h:%p
}

@test "ssh shows which proxy refuses the connection (69)" {
	free_port
	ssh_shows 69 "127.0.0.1:$PORT: " -p "127.0.0.1:$PORT" -d %h:%p
}

@test "ssh shows which proxy wants credentials (77)" {
	ssh_shows 77 "127.0.0.1:$SQUID_AUTH: CONNECT 127.0.0.1:$SSHD refused: 407" -p "127.0.0.1:$SQUID_AUTH" -d %h:%p
}

@test "ssh shows which proxy does not allow the port (77)" {
	ssh_shows 77 "127.0.0.1:$SQUID: CONNECT 127.0.0.1:22 refused: 403" -p "127.0.0.1:$SQUID" -d %h:22
}

@test "ssh shows which proxy cannot reach the target (69)" {
	free_port
	ssh_shows 69 "127.0.0.1:$APACHE: CONNECT 127.0.0.1:$PORT refused: 503" -p "127.0.0.1:$APACHE" -d "%h:$PORT"
}

@test "ssh shows which proxy does not answer in time (75)" {
	start_peer silent accept hold
	ssh_shows 75 "127.0.0.1:$PORT" -w 1 -p "127.0.0.1:$PORT" -d %h:%p
}

@test "ssh shows which proxy is none, as it speaks no HTTP (76)" {
	ssh_shows 76 "127.0.0.1:$SSHD: " -p "127.0.0.1:$SSHD" -d %h:%p
}
