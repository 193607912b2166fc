#!/usr/bin/env bats
# A listener with a tunnel for each of its clients, and the socket that inetd or systemd hands over.

load helper

OK='HTTP/1.1 200 OK\r\n\r\n'

# start_far [OPTION...] STEP...: a proxy that opens each tunnel and goes on as STEP... say.
start_far() {
	local options=()

	while [[ $1 == -* ]]; do
		options+=("$1" "$2")
		shift 2
	done
	start_peer far -b 512 "${options[@]}" loop head "send $OK" "$@"
}

# listen ARG...: the program listens, as -a 0, for tunnels through the peer started last.
listen() {
	start_listener listener "$PROXYTUNNEL" -a 0 -p "127.0.0.1:$PORT" -d host:22 "$@"
}

client() {
	"$PEER" -c "${PORTS[listener]}" "$@"
}

start_client() {
	start "$1" "$PEER" -c "${PORTS[listener]}" "${@:2}"
}

# What the listener has said since it listens.
said() {
	sed '/listening on/d' listener.err
}

# What the listener holds: its descriptors, and its memory in KiB.
descriptors() {
	ls "/proc/${PIDS[listener]}/fd"
}

# What is mapped of files grows with what is run for the first time.
memory() {
	awk '/^RssAnon/ { print $2 }' "/proc/${PIDS[listener]}/status"
}

# remember: what the listener holds once it has had a client; is_as_it_was: that it holds no more, and has no zombies.
remember() {
	client half-close sink
	await children_are listener 0
	DESCRIPTORS=$(descriptors)
	MEMORY=$(memory)
}

is_as_it_was() {
	kill -0 "${PIDS[listener]}"
	await children_are listener 0
	[ "$(descriptors)" = "$DESCRIPTORS" ]
	echo "$MEMORY KiB before, $(memory) KiB now"
	[ -n "$SANITIZED" ] || [ "$(memory)" -le $((MEMORY + 64)) ]
}

# --- where it listens ------------------------------------------------------------------

@test "it says on stderr where it listens, under -q too; without an address that is on loopback only" {
	start_far 'send far' close
	listen
	[ "$(<listener.err)" = "proxytunnel: listening on 127.0.0.1:$PORT" ]
	client 'expect far' eof
	! "$PEER" -l 127.0.0.2 -c "$PORT" eof || false
	stop listener
	PORT=${PORTS[far]}
	listen -q
	[ "$(<listener.err)" = "proxytunnel: listening on 127.0.0.1:$PORT" ]
	client 'expect far' eof
}

# listens_on SPEC NAME ADDRESS [OPTION...]: -a SPEC says that it listens on NAME, and is reached at ADDRESS.
listens_on() {
	PORT=${PORTS[far]}
	start_listener listener "$PROXYTUNNEL" -a "$1" -p "127.0.0.1:$PORT" -d host:22 "${@:4}"
	[ "$(<listener.err)" = "proxytunnel: listening on $2:$PORT" ]
	client -l "$3" 'expect far' eof
}

@test "it listens on an IPv4 address, on a port given, on every IPv4 address with -4 and *" {
	local wanted

	start_far 'send far' close
	listens_on 127.0.0.2:0 127.0.0.2 127.0.0.2
	! client eof || false
	stop listener
	listens_on '*:0' 0.0.0.0 127.0.0.3 -4
	stop listener
	free_port
	wanted=$PORT
	listens_on "$wanted" 127.0.0.1 127.0.0.1
	[ "$PORT" = "$wanted" ]
}

@test "it listens on an IPv6 address, in brackets and without, and with * on every address of both families" {
	[ -e /proc/net/if_inet6 ] && grep -q '^0\{31\}1 ' /proc/net/if_inet6 || skip 'no IPv6 loopback here'
	start_far 'send far' close
	listens_on '[::1]:0' '[::1]' ::1
	! client eof || false
	stop listener
	listens_on ::1:0 '[::1]' ::1
	stop listener
	listens_on '*:0' '[::]' ::1
	client 'expect far' eof
	client -l 127.0.0.4 'expect far' eof
	stop listener
	stop far
	start_far -l ::1 'send far' close
	start_listener listener "$PROXYTUNNEL" -6 -a 0 -p "[::1]:$PORT" -d host:22
	client -l ::1 'expect far' eof
	grep -qF 'listening on [::1]:' listener.err
}

@test "where there is no IPv6, * is every IPv4 address" {
	start_far 'send far' close
	start_listener listener strace -D -qq -o calls -e trace=socket -e inject=socket:error=EAFNOSUPPORT:when=1 \
		"$PROXYTUNNEL" -a '*:0' -p "127.0.0.1:$PORT" -d host:22
	grep -q 'AF_INET6.*INJECTED' calls
	client -l 127.0.0.4 'expect far' eof
}

@test "a bad address or port, and a limit that is none, are named: 64; a name that does not resolve: 68; a port taken: 71" {
	local word

	for word in x 65536 127.0.0.1:x 127.0.0.1: '' 1.5 :0 '[*]:0' a:b:0 user@host:0; do
		program -a "$word" -p 127.0.0.1:1 -d host:22 </dev/null
		status_is 64
		err_one_line
		err_has '-a '
	done
	for word in 0 x -1 65536; do
		program -a 0 --max-clients="$word" -p 127.0.0.1:1 -d host:22 </dev/null
		status_is 64
		err_one_line
		err_has "--max-clients $word"
	done
	program -a no-such-host.invalid:0 -p 127.0.0.1:1 -d host:22 </dev/null
	status_is 68
	err_one_line
	err_has no-such-host.invalid
	start_peer taken accept
	program -a "$PORT" -p 127.0.0.1:1 -d host:22 </dev/null
	status_is 71
	err_one_line
	err_has "-a $PORT"
	err_has 'in use'
}

@test "-a, -i and --fdpass exclude each other; -i takes a socket only: 64" {
	local words

	for words in '-a 0 -i' '-a 0 --fdpass' '-i --fdpass' -i; do
		program $words -p 127.0.0.1:1 -d host:22 </dev/null
		status_is 64
		err_one_line
		err_has "-${words:1:1}"
	done
}

# --- its clients --------------------------------------------------------------------------

@test "a client's tunnel is exact both ways, and each end reaches the other side" {
	start_far 'pattern 16M 1 &' 'check 16M 2' join eof 'send bye' close
	listen
	client 'pattern 16M 2 &' 'check 16M 1' join half-close 'expect bye' eof
	stop far
	start_peer far accept head "send ${OK}bye" half-close 'expect late' eof
	stop listener
	listen
	client 'expect bye' eof 'send late' close
	finished far
	[ -z "$(said)" ]
}

@test "200 clients at once, with 32 descriptors for the listener: exact for all, and it holds no more afterwards" {
	start_far 'echo 64K'
	start_listener listener sh -c 'ulimit -n 32; exec "$@"' - "$PROXYTUNNEL" -a 0 -p "127.0.0.1:$PORT" -d host:22
	remember
	client 'crowd 200' 'send up' 'expect up' 'meet all' 'pattern 128K &' 'check 128K' join half-close eof
	is_as_it_was
	[ -z "$(said)" ]
}

@test "clients that say nothing hold up nobody" {
	start_far 'send far' 'echo 64K'
	listen
	start silent "$PEER" -c "$PORT" 'crowd 20' hold
	await children_are listener 20
	client 'expect far' 'pattern 1M &' 'check 1M' join half-close eof
	stop silent
	await children_are listener 0
}

@test "10,000 clients that reset at once end nothing, and cost the listener nothing that lasts" {
	start_peer nobody -l 127.0.0.9 hold
	listen -qq
	remember
	client -t 200 'knock 10000'
	# Behind them all, one is still heard.
	client -t 60 eof
	is_as_it_was
	[ -z "$(said)" ]
}

@test "500 clients that reset while their tunnels open end nothing, and every tunnel ends with its client" {
	start_far 'send far' eof close
	listen -qq
	remember
	client -t 60 'knock 500'
	client 'expect far' half-close eof
	is_as_it_was
}

@test "a client that resets in the middle of a transfer ends its own tunnel only" {
	start_far 'repeat forever x'
	listen
	start_client other 'expect xxxx' 'touch up' 'await gone' 'pause 50' 'expect xxxx' reset
	await test -e up
	client 'expect xxxx' reset
	await children_are listener 1
	touch gone
	finished other
	await children_are listener 0
	kill -0 "${PIDS[listener]}"
}

@test "a tunnel's process that is killed, or stopped, holds up nobody" {
	local child

	start_far 'send far' 'echo 64K'
	listen
	start_client one 'expect far' 'touch up' gone
	await test -e up
	child=$(children listener)
	kill -STOP "$child"
	client 'expect far' half-close eof
	kill -KILL "$child"
	finished one
	client 'expect far' half-close eof
	await children_are listener 0
}

@test "a tunnel that fails closes its client's connection and says one line; -qq says none, and the next is heard" {
	start_peer refusing loop head 'send HTTP/1.1 403 No\r\n\r\n' close
	listen
	client 'eof 2000'
	client 'eof 2000'
	await children_are listener 0
	said >err
	[ "$(grep -c "^proxytunnel: 127.0.0.1:${PORTS[refusing]}: CONNECT host:22 refused: 403 No" err)" -eq 2 ]
	[ "$(wc -l <err)" -eq 2 ]
	stop listener
	PORT=${PORTS[refusing]}
	listen -qq
	client 'eof 2000'
	[ -z "$(said)" ]
}

@test "each tunnel has the time limit for itself" {
	start_peer silent loop head hold
	listen -w 1
	start_client first 'eof 3000'
	client 'pause 500' 'connect' 'quiet 600' 'eof 3000'
	finished first
	await children_are listener 0
	[ "$(said | grep -c "no answer to CONNECT host:22 within 1 s")" -eq 3 ]
}

@test "--proxy-command is run for each client, and has none of the listener's sockets" {
	local i

	cat >command <<-'END'
		#!/bin/sh
		ls -l /proc/self/fd >descriptors.$$
		while read -r line && [ ${#line} -gt 1 ]; do :; done
		printf 'HTTP/1.1 200 OK\r\n\r\nfar'
		exec cat
	END
	chmod +x command
	start_listener listener "$PROXYTUNNEL" -a 0 --proxy-command=./command -d host:22
	for i in {1..5}; do
		start_client "client$i" 'expect far' "pattern 64K $i &" "check 64K $i" join half-close eof
	done
	for i in {1..5}; do
		finished "client$i"
	done
	[ "$(ls descriptors.* | wc -l)" -eq 5 ]
	[ "$(cat descriptors.* | grep -c socket:)" -eq 5 ]
}

# --- limits ---------------------------------------------------------------------------------

@test "--max-clients are served at once, the others wait in the backlog until one has left" {
	start_far 'send far' 'echo 64K'
	listen --max-clients=2
	start_client one 'expect far' 'touch up1' 'await leave1' close
	start_client two 'expect far' 'touch up2' 'await leave2' close
	await test -e up1
	await test -e up2
	start_client three 'quiet 300' 'touch waits' 'expect far' 'touch up3' 'await leave2' close
	await test -e waits
	children_are listener 2
	touch leave1
	await test -e up3
	children_are listener 2
	touch leave2
	finished one
	finished two
	finished three
	[ -z "$(said)" ]
}

@test "256 clients are served at once if nothing else is said" {
	start_far 'send far' 'echo 64K'
	listen
	start crowd "$PEER" -c "$PORT" 'crowd 260' 'await enough'
	await children_are listener 256
	client 'quiet 200'
	children_are listener 256
	touch enough
	finished crowd
	await children_are listener 0
}

@test "running out of descriptors is said once; the clients wait, and are served as there is room" {
	start_far 'send far' 'echo 64K'
	start_listener listener strace -D -f -qq -o calls -e trace=accept,accept4 -e inject=accept,accept4:error=EMFILE:when=1..5 \
		"$PROXYTUNNEL" -a 0 -p "127.0.0.1:$PORT" -d host:22
	start_client one 'quiet 400' 'expect far' close
	start_client two 'expect far' close
	finished one
	finished two
	said >err
	err_one_line
	err_has 'cannot accept a connection'
	err_has 'open files'
}

@test "running out of processes is said once; the clients wait, and are served as there is room" {
	start_far 'send far' 'echo 64K'
	# The first tries fail, as RLIMIT_NPROC means nothing to root.
	start_listener listener strace -D -qq -o calls -e trace=?clone,?clone3,?fork,?vfork \
		-e inject=?clone,?clone3,?fork,?vfork:error=EAGAIN:when=1..5 \
		"$PROXYTUNNEL" -a 0 -p "127.0.0.1:$PORT" -d host:22
	start_client one 'quiet 300' 'expect far' half-close eof
	client 'expect far' half-close eof
	finished one
	[ "$(grep -c INJECTED calls)" -eq 5 ]
	said >err
	err_one_line
	err_has 'cannot start a process for a connection'
}

@test "with nobody there, or with silent clients, the listener is not woken once in 2 s" {
	local before

	start_far 'send far' 'echo 64K'
	start_listener listener strace -D -qq -o calls "$PROXYTUNNEL" -a 0 -p "127.0.0.1:$PORT" -d host:22
	start_client one 'expect far' 'touch up' hold
	await test -e up
	await children_are listener 1
	sleep 0.2
	before=$(stat -c %s calls)
	sleep 2
	[ "$(stat -c %s calls)" -eq "$before" ]
	stop one
	await children_are listener 0
	[ "$(stat -c %s calls)" -gt "$before" ]
}

# --- its end ----------------------------------------------------------------------------------

@test "SIGTERM ends the listener and every tunnel at once: status 0, nothing is left, the port is free again" {
	local i begin

	start_far 'send far' hold
	listen
	for i in 1 2 3; do
		start_client "client$i" 'expect far' "touch up$i" gone
		await test -e "up$i"
	done
	kill "${PIDS[listener]}"
	finished listener
	for i in 1 2 3; do
		finished "client$i"
	done
	[ -z "$(sed 1d listener.err)" ]
	start_listener again "$PROXYTUNNEL" -a "${PORTS[listener]}" -p "127.0.0.1:${PORTS[far]}" -d host:22
	"$PEER" -c "$PORT" 'expect far' close
}

@test "SIGINT and SIGHUP end the listener and every tunnel by the signal" {
	local name

	start_far 'send far' hold
	for name in INT:130 HUP:129; do
		PORT=${PORTS[far]}
		start_listener listener env --default-signal=INT "$PROXYTUNNEL" -a 0 -p "127.0.0.1:$PORT" -d host:22
		start_client client 'expect far' "touch up" gone
		await test -e up
		kill "-${name%:*}" "${PIDS[listener]}"
		finished listener "${name#*:}"
		finished client
		rm up
	done
}

@test "SIGTERM while tunnels open, and clients come, leaves nothing" {
	start_peer silent -b 512 loop head hold
	listen -q
	start storm "$PEER" -c "$PORT" 'knock 2000'
	start_client one hold
	await some_children
	kill "${PIDS[listener]}"
	finished listener
	await ours_gone
	stop storm
}

some_children() {
	[ -n "$(children listener)" ]
}

@test "nobody is asked for what a proxy wants of a tunnel of a listener" {
	start_peer proxy accept head 'send HTTP/1.1 407 no\r\nProxy-Authenticate: Basic realm="a"\r\n\r\n' close
	listen
	client eof
	finished proxy
	said | grep -q '407 no (try -P or -F; it offers Basic)'
}

@test "a process that it did not start, and has all the same, is waited for when it ends" {
	start_listener listener sh -c 'sleep 0.2 & exec "$@"' sh "$PROXYTUNNEL" -a 0 -p 127.0.0.1:1 -d host:22
	await children_are listener 0
	kill -0 "${PIDS[listener]}"
}

# --- -i -----------------------------------------------------------------------------------------

# start_inetd REDIRECTION [ARG...]: a listener that starts the program for each connection with the socket as its stdin and
# stdout, as inetd does; REDIRECTION is for its stderr.
start_inetd() {
	printf '#!/bin/sh\nexec "$@" %s\n' "$1" >service
	chmod +x service
	start_listener listener socat -dd TCP-LISTEN:0,bind=127.0.0.1,fork \
		"EXEC:./service $PROXYTUNNEL -i ${*:2} -d host\:22,nofork"
}

@test "-i: a client of an inetd is carried exactly both ways, and each end reaches the other side" {
	start_peer far accept head "send $OK" 'pattern 16M 1 &' 'check 16M 2' join eof 'send bye' close \
		accept head "send ${OK}bye" half-close 'expect late' eof
	start_inetd '2>>log' -p "127.0.0.1\:$PORT"
	client 'pattern 16M 2 &' 'check 16M 1' join half-close 'expect bye' eof
	client 'expect bye' eof 'send late' close
	finished far
	[ ! -s log ]
}

@test "-i under systemd-socket-activate, as with Accept=yes" {
	local tries

	command -v systemd-socket-activate >/dev/null || skip 'no systemd-socket-activate here'
	start_far 'send far' 'echo 64K'
	free_port
	start listener systemd-socket-activate -E TEST_MARK -l "127.0.0.1:$PORT" -a --inetd \
		"$PROXYTUNNEL" -i -p "127.0.0.1:${PORTS[far]}" -d host:22
	PORTS[listener]=$PORT
	await server_listens "${PIDS[listener]}" "$PORT"
	start_client one 'expect far' 'pattern 4M 1 &' 'check 4M 1' join 'touch up' 'await done' half-close eof
	await test -e up
	client 'expect far' 'pattern 4M 2 &' 'check 4M 2' join half-close eof
	touch 'done'
	finished one
}

@test "-i: a tunnel that fails closes the connection, and says one line where stderr is not the socket" {
	start_peer refusing loop head 'send HTTP/1.1 403 No\r\n\r\n' close
	start_inetd '2>>err' -p "127.0.0.1\:$PORT"
	: >err
	client 'eof 2000'
	await grep -q refused err
	err_one_line
	err_has 'CONNECT host:22 refused: 403 No'
}

@test "-i: nothing is ever said into the socket, though stderr is the socket too" {
	local words

	start_peer proxy accept head "send ${OK}far" 'expect up' eof close
	start_inetd '2>&0' -v -p "127.0.0.1\:$PORT"
	client 'expect far' 'send up' half-close eof
	finished proxy
	stop listener

	printf 'user:pass\n' >readable
	chmod 644 readable
	free_port
	for words in "-p 127.0.0.1\:$PORT" "-v -p 127.0.0.1\:$PORT" "-p 127.0.0.1\:$PORT -F readable" "-p 127.0.0.1\:$PORT -F missing" \
		'-p no-such-proxy.invalid' '-p 127.0.0.1 -w x' '-p 127.0.0.1 --no-such-option' '-p socks5\://127.0.0.1' ''; do
		echo "$words"
		start_inetd '2>&0' "$words"
		client 'eof 3000'
		stop listener
	done
}

# resets COMMAND...: it does so to a tunnel that stands, whose client's connection is reset.
resets() {
	start_client near 'expect far' 'touch up' eof
	await test -e up
	"$@"
	finished near 1
	grep -q 'eof: read: Connection reset by peer' near.err
	rm -f up broken
}

@test "a tunnel that breaks is not ended in order to its client, of -a or -i: by a reset, SIGKILL of its process, SIGTERM" {
	start_far 'send far' 'await broken' reset
	listen
	resets touch broken
	resets eval 'kill -KILL $(children listener)'
	resets stop listener
	start_inetd '2>>log' -p "127.0.0.1\:${PORTS[far]}"
	resets touch broken
	resets eval 'kill -KILL $(children listener)'
	resets eval 'kill -TERM $(children listener)'
}

@test "-i leaves the socket's flags as they were" {
	local kind

	start_far 'send far' eof 'send bye' close
	for kind in '-s socket' '-n -s socket'; do
		drive_command $kind -k 'expect far' unchanged half-close 'expect bye' 'status 0 1000' unchanged -- \
			"$PROXYTUNNEL" -i -p "127.0.0.1:$PORT" -d host:22
	done
}
