#!/usr/bin/env bats
# --fdpass: the connection itself is handed to the parent, as ssh has it with ProxyUseFdpass.

load helper

OK='HTTP/1.1 200 OK\r\n\r\n'

setup_file() {
	servers_begin
	certificates_make
	start_sshd
	export SSHD=$PORT
	start_tinyproxy
	export TINYPROXY=$PORT
	start_tinyproxy
	export OTHER=$PORT
	TLS=localhost start_apache
	export APACHE=$PORT
	start_stunnel localhost "$TINYPROXY"
	export STUNNEL=$PORT
}

teardown_file() {
	servers_end
}

setup() {
	test_begin
	export SHELL=/bin/sh
	CA=(-C "$TLS_DIR/ca.crt")
}

# pass STEP... -- ARG...: a peer as ssh, with --fdpass and ARG... for the program.
pass() {
	local steps=()

	while [ "$1" != -- ]; do
		steps+=("$1")
		shift
	done
	drive_command -s socket "${steps[@]}" -- "$PROXYTUNNEL" --fdpass "${@:2}"
}

# A script for --proxy-command that goes where its words say.
LEADS='socat - TCP:%h:%p'

# --- what is passed -------------------------------------------------------------------------

@test "the connected socket comes, blocking, with one byte, and the program leaves at once: exact both ways" {
	start_peer far accept head "send $OK" 'pattern 16M 1 &' 'check 16M 2' join eof 'send bye' close
	pass take 'status 0 300' 'pattern 16M 2 &' 'check 16M 1' join half-close 'expect bye' eof -- -p "127.0.0.1:$PORT" -d host:22
	finished far
	err_empty
}

@test "bytes in one segment with the head, or with half of it, come whole to whom the socket is passed" {
	start_peer far accept head "send ${OK}SSH-2.0-far\r\n" 'expect up' close
	pass take 'status 0 300' 'expect SSH-2.0-far\r\n' 'send up' eof -- -p "127.0.0.1:$PORT" -d host:22
	finished far
	start_peer far accept head 'send HTTP/1.1 200 OK\r\nA: b\r\n\r' 'pause 50' 'send \n\0\xff' 'pattern 64K' close
	pass take 'status 0 300' 'expect \0\xff' 'check 64K' eof -- -p "127.0.0.1:$PORT" -d host:22
	finished far
	start_peer far accept head "trickle 1 1 ${OK}SSH-2.0-far\r\n" close
	pass take 'expect SSH-2.0-far\r\n' eof 'status 0 300' -- -p "127.0.0.1:$PORT" -d host:22
	finished far
}

@test "a chain is passed as one socket: -r and --fdpass" {
	start_peer far accept head "send $OK" head "send $OK" head "send ${OK}far" 'echo 64K'
	pass take 'status 0 300' 'expect far' 'pattern 1M &' 'check 1M' join half-close eof -- \
		-p "127.0.0.1:$PORT" -r two.test:2 -r three.test:3 -d host:22
	finished far
}

@test "a destination that no_proxy names is passed likewise" {
	start_peer far accept 'send far' 'echo 64K'
	http_proxy=127.0.0.1:1 no_proxy=127.0.0.1 pass take 'status 0 300' 'expect far' 'send up' 'expect up' half-close eof -- 127.0.0.1 "$PORT"
	finished far
}

@test "ssh's bytes are not touched: nothing is read from the socket that stdin is" {
	start_peer far accept head 'quiet 50' "send $OK" 'expect up' close
	pass 'send early' take 'status 0 300' 'send up' eof -- -p "127.0.0.1:$PORT" -d host:22
	finished far
}

# --- through processes: TLS, and a command ------------------------------------------------------

# carried ARG...: with ARG... the parent leaves at once, a child carries both ways, and each end reaches the other side.
carried() {
	start_peer far accept 'send far' 'pattern 16M 1 &' 'check 16M 2' join 'send bye' close
	pass take 'status 0 300' 'expect far' 'pattern 16M 2 &' 'check 16M 1' join 'expect bye' 'eof 1000' -- "$@" "127.0.0.1:$PORT"
	finished far
	err_empty
	await ours_gone
	# Whom it was passed to leaves first.
	start_peer far accept 'send far' 'expect up' eof
	pass take 'status 0 300' 'expect far' 'send up' 'pause 50' close -- "$@" "127.0.0.1:$PORT"
	await ours_gone
	finished far
}

@test "-E and --fdpass: the parent leaves at once, a child carries all, and nothing is left" {
	carried "${CA[@]}" -E -p "localhost:$STUNNEL"
}

@test "-X and --fdpass, in a chain: the parent leaves at once, a child carries all, and nothing is left" {
	carried "${CA[@]}" -E -p "localhost:$STUNNEL" -r "localhost:$APACHE" -X
}

@test "--proxy-command and --fdpass: the parent leaves at once, a child carries all, and nothing is left" {
	carried --proxy-command="$LEADS" -p "127.0.0.1:$TINYPROXY"
}

@test "--proxy-command, -r and --fdpass: the parent leaves at once, a child carries all, and nothing is left" {
	carried --proxy-command="$LEADS" -p "127.0.0.1:$TINYPROXY" -r "127.0.0.1:$OTHER"
}

@test "bytes in one segment with a command's answer come whole through the child" {
	cat >command <<-'END'
		#!/bin/sh
		while read -r line && [ ${#line} -gt 1 ]; do :; done
		printf 'HTTP/1.1 200 OK\r\n\r\nSSH-2.0-far\r\n'
		exec cat
	END
	chmod +x command
	pass take 'status 0 300' 'expect SSH-2.0-far\r\n' 'pattern 1M &' 'check 1M' join half-close eof -- --proxy-command=./command host 22
	await ours_gone
}

# The child that carries is the one whose parent has left.
carrier() {
	local pid

	for pid in $(strays); do
		[ "$(readlink "/proc/$pid/exe")" != "$(realpath "$PROXYTUNNEL")" ] || echo "$pid"
	done
}

@test "the child that carries has no stdin and no stdout, and SIGTERM ends it and the command" {
	start_peer far accept 'send far' eof
	start near "$PEER" -s socket take 'status 0 300' 'expect far' 'touch up' eof -- \
		"$PROXYTUNNEL" --fdpass --proxy-command="$LEADS" -p "127.0.0.1:$TINYPROXY" "127.0.0.1:$PORT"
	await test -e up
	[ "$(carrier | wc -l)" -eq 1 ]
	[ -e "/proc/$(carrier)/fd/2" ]
	[ ! -e "/proc/$(carrier)/fd/0" ]
	[ ! -e "/proc/$(carrier)/fd/1" ]
	kill "$(carrier)"
	finished near
	finished far
}

@test "standing idle, the child that carries uses no CPU, and is not woken" {
	local before

	start_peer far accept 'send far' 'await done' close
	start near "$PEER" -s socket take 'expect far' 'touch up' eof 'status 0' -- strace -f -D -qq -o calls \
		"$PROXYTUNNEL" --fdpass --proxy-command="$LEADS" -p "127.0.0.1:$TINYPROXY" "127.0.0.1:$PORT"
	await test -e up
	sleep 0.2
	before=$(wc -c <calls)
	sleep 1
	[ "$(wc -c <calls)" -eq "$before" ]
	touch 'done'
	finished near
	[ "$(wc -c <calls)" -gt "$before" ]
}

# --- what is not passed ---------------------------------------------------------------------------

@test "a stdout that is no Unix socket is told before anybody is connected to: 64" {
	local kind

	start_peer proxy accept 'expect the test itself' close
	for kind in pipe pty; do
		drive_command -s "$kind" 'status 64 1000' -- "$PROXYTUNNEL" --fdpass -p "127.0.0.1:$PORT" -d host:22
		err_one_line
		err_has --fdpass
		err_has 'Unix socket'
	done
	program --fdpass -p "127.0.0.1:$PORT" -d host:22 </dev/null
	status_is 64
	out_is ''
	status=0
	limited "$PROXYTUNNEL" --fdpass -p "127.0.0.1:$PORT" -d host:22 </dev/null >&- 2>err || status=$?
	status_is 64
	# A TCP socket passes no descriptors either.
	start_peer other accept 'eof 1000'
	limited "$PROXYTUNNEL" --fdpass -p "127.0.0.1:${PORTS[proxy]}" -d host:22 </dev/null >/dev/tcp/127.0.0.1/"$PORT" 2>err || status=$?
	status_is 64
	finished other
	printf 'the test itself' >"/dev/tcp/127.0.0.1/${PORTS[proxy]}"
	finished proxy
}

@test "a refusal passes nothing: 77, one line" {
	start_peer far accept head 'send HTTP/1.1 403 No\r\n\r\n' eof
	pass eof 'status 77' -- -p "127.0.0.1:$PORT" -d host:22
	err_one_line
	err_has 'refused: 403 No'
	finished far
}

@test "the time limit passes nothing: 75, one line" {
	start_peer far accept hold
	pass eof 'status 75' -- -w 1 -p "127.0.0.1:$PORT" -d host:22
	err_one_line
	finished far
}

@test "the parent that was to have the socket has gone: 74, one line, nothing is left" {
	start_peer far accept head 'touch asked' 'await gone' "send $OK" eof
	pass 'await asked' close 'touch gone' 'status 74 1000' -- -p "127.0.0.1:$PORT" -d host:22
	err_one_line
	err_has 'standard output'
	finished far
	rm asked gone
	cat >command <<-'END'
		#!/bin/sh
		while read -r line && [ ${#line} -gt 1 ]; do :; done
		: >asked
		until [ -e gone ]; do sleep 0.02; done
		printf 'HTTP/1.1 200 OK\r\n\r\n'
		exec sleep 30
	END
	chmod +x command
	pass 'await asked' close 'touch gone' 'status 74 1000' -- --proxy-command=./command host 22
	err_one_line
	await ours_gone
}

# --- real ssh ------------------------------------------------------------------------------------

# ssh_fdpass OPTION...: writes ./config.
ssh_fdpass() {
	{
		echo "ProxyUseFdpass yes"
		echo "ProxyCommand '$PROXYTUNNEL' --fdpass ${CA[*]} $* %h %p"
		cat "$SERVERS/ssh_config"
	} >config
}

ssh_runs_a_command() {
	status=0
	limited ssh -F config target 'cat; echo told >&2; exit 7' <<<hello >out 2>err || status=$?
	status_is 7
	out_is 'hello\n'
	[ "$(<err)" = told ]
	await ours_gone
}

ssh_copies_64_mib() {
	"$PEER" -i 'pattern 64M' >blob
	LIMIT=40 limited ssh -F config target cat <blob >back
	[ "$(sha256sum <back)" = "$(sha256sum <blob)" ]
	await ours_gone
}

@test "ssh with ProxyUseFdpass runs a command through a proxy, and through a chain" {
	ssh_fdpass -p "127.0.0.1:$TINYPROXY"
	ssh_runs_a_command
	ssh_fdpass -p "127.0.0.1:$TINYPROXY" -r "127.0.0.1:$OTHER"
	ssh_runs_a_command
}

@test "ssh with ProxyUseFdpass runs a command through TLS, through a command, and through both" {
	ssh_fdpass -E -p "localhost:$APACHE"
	ssh_runs_a_command
	ssh_fdpass -p "127.0.0.1:$TINYPROXY" "--proxy-command='socat - TCP:%%h:%%p'"
	ssh_runs_a_command
	ssh_fdpass -E -p "localhost:$STUNNEL" "--proxy-command='socat - TCP:%%h:%%p'"
	ssh_runs_a_command
}

@test "64 MiB go each way at once through ssh with ProxyUseFdpass, exact" {
	ssh_fdpass -p "127.0.0.1:$TINYPROXY"
	ssh_copies_64_mib
}

@test "64 MiB go each way at once through ssh with ProxyUseFdpass and -E, exact" {
	ssh_fdpass -E -p "localhost:$STUNNEL"
	ssh_copies_64_mib
}
