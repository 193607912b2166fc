#!/usr/bin/env bats
# TLS to proxies and to the destination, by openssl(1): real servers, real ssh, a certificate authority of the tests' own.

load helper

OK='HTTP/1.1 200 OK\r\n\r\n'

setup_file() {
	servers_begin
	certificates_make
	start_sshd
	export SSHD=$PORT
	start_tinyproxy
	export TINYPROXY=$PORT
	TLS=localhost start_apache three:third
	export APACHE=$PORT
	# The same tinyproxy behind TLS of several kinds, and sshd behind it.
	start_stunnel localhost "$TINYPROXY"
	export STUNNEL=$PORT
	start_stunnel elsewhere "$TINYPROXY"
	export ELSEWHERE=$PORT
	start_stunnel expired "$TINYPROXY"
	export EXPIRED=$PORT
	start_stunnel localhost "$TINYPROXY" ca
	export DEMANDING=$PORT
	start_stunnel localhost "$SSHD"
	export TLS_SSHD=$PORT
}

teardown_file() {
	servers_end
}

setup() {
	test_begin
	mkdir tmp
	export TMPDIR=$DIR/tmp SHELL=/bin/sh
	CA=(-C "$TLS_DIR/ca.crt")
}

# Whatever a test was about, no file and no process is left.
teardown() {
	local left=0

	await rmdir tmp || {
		ls -lR tmp
		left=1
	}
	unset TMPDIR
	test_end || left=1
	return "$left"
}

# ssh_through OPTION...: writes ./config.
ssh_through() {
	{
		echo "ProxyCommand '$PROXYTUNNEL' ${CA[*]} $* %h %p"
		cat "$SERVERS/ssh_config"
	} >config
}

ssh_runs_a_command() {
	status=0
	limited ssh -F config "$@" target 'cat; echo told >&2; exit 7' <<<hello >out 2>err || status=$?
	status_is 7
	out_is 'hello\n'
	[ "$(<err)" = told ]
}

ssh_copies_64_mib() {
	"$PEER" -i 'pattern 64M' >blob
	LIMIT=40 limited ssh -F config "$@" target cat <blob >back
	[ "$(sha256sum <back)" = "$(sha256sum <blob)" ]
}

# --- ssh through real servers -----------------------------------------------------------

@test "ssh goes through apache's TLS: by -E, by https:// in -p, and by https_proxy" {
	ssh_through -E -p "localhost:$APACHE" -P three:third
	ssh_runs_a_command
	ssh_through -p "https://three:third@127.0.0.1:$APACHE"
	ssh_runs_a_command
	ssh_through
	https_proxy=https://three:third@localhost:$APACHE ssh_runs_a_command
}

@test "ssh goes through stunnel in front of tinyproxy, by -E" {
	ssh_through -E -p "localhost:$STUNNEL"
	ssh_runs_a_command
}

@test "ssh goes through TLS to the second proxy, by -X and by https:// in -r" {
	ssh_through -p "127.0.0.1:$TINYPROXY" -r "localhost:$STUNNEL" -X
	ssh_runs_a_command
	ssh_through -p "127.0.0.1:$TINYPROXY" -r "https://three:third@localhost:$APACHE"
	ssh_runs_a_command
}

@test "ssh goes through TLS to the destination, by -e" {
	ssh_through -e -p "127.0.0.1:$TINYPROXY"
	ssh_runs_a_command -p "$TLS_SSHD"
}

@test "ssh goes through TLS to both proxies and to the destination, by -E, -X and -e at once" {
	ssh_through -E -p "localhost:$STUNNEL" -r "127.0.0.1:$APACHE" -R three:third -X -e
	ssh_runs_a_command -p "$TLS_SSHD"
}

@test "64 MiB go each way at once through -E, exact" {
	ssh_through -E -p "localhost:$APACHE" -P three:third
	ssh_copies_64_mib
}

@test "64 MiB go each way at once through -E, -X and -e, exact" {
	ssh_through -E -p "localhost:$STUNNEL" -r "127.0.0.1:$APACHE" -R three:third -X -e
	ssh_copies_64_mib -p "$TLS_SSHD"
}

@test "ssh goes through TLS over a --proxy-command" {
	ssh_through -E -p "localhost:$STUNNEL" --proxy-command="'socat - TCP:%%h:%%p'"
	ssh_runs_a_command
}

@test "a TLS proxy's refusal is told with its name, and as that of any other" {
	program "${CA[@]}" -E -p "localhost:$APACHE" "127.0.0.1:$SSHD" </dev/null
	status_is 77
	err_one_line
	err_has "localhost:$APACHE: CONNECT 127.0.0.1:$SSHD refused: 407"
	err_has 'it offers Basic'
	program "${CA[@]}" -p "127.0.0.1:$TINYPROXY" -r "three:third@localhost:$APACHE" -X 127.0.0.1:22 </dev/null
	status_is 77
	err_one_line
	err_has "localhost:$APACHE: CONNECT 127.0.0.1:22 refused: 403"
}

# --- certificates --------------------------------------------------------------------------

# distrusted PEER REASON ARG...: status 76, and one line that names PEER and REASON, openssl's and what helps.
distrusted() {
	local peer=$1 reason=$2

	shift 2
	program "$@" </dev/null
	status_is 76
	out_is ''
	err_one_line
	err_has "$peer: TLS failed: $reason"
}

# everywhere REASON PORT [OPTION...]: the TLS server there is distrusted as first proxy, as second, and as destination.
everywhere() {
	local reason=$1 port=$2

	shift 2
	distrusted "localhost:$port" "$reason" "$@" -E -p "localhost:$port" host 22
	distrusted "localhost:$port" "$reason" "$@" -p "127.0.0.1:$TINYPROXY" -r "localhost:$port" -X host 22
	distrusted "localhost:$port" "$reason" "$@" -p "127.0.0.1:$TINYPROXY" -e localhost "$port"
}

@test "a certificate of another authority is refused by -E, -X and -e, with openssl's reason: 76" {
	everywhere 'unable to get local issuer certificate (-C FILE' "$STUNNEL" -C "$TLS_DIR/stranger.crt"
}

@test "without -C the system's authorities count, and the tests' is none of them" {
	everywhere 'unable to get local issuer certificate (-C FILE trusts an authority that is not known here, -z trusts any)' "$STUNNEL"
}

@test "a certificate for another name is refused by -E, -X and -e, with openssl's reason: 76" {
	everywhere 'hostname mismatch (its certificate is for another name: write that one, or -z)' "$ELSEWHERE" "${CA[@]}"
}

@test "a certificate for another address is refused, where the server is named by its address" {
	distrusted "127.0.0.1:$ELSEWHERE" 'IP address mismatch' "${CA[@]}" -E -p "127.0.0.1:$ELSEWHERE" host 22
	distrusted "127.0.0.1:$ELSEWHERE" 'IP address mismatch' "${CA[@]}" -p "127.0.0.1:$TINYPROXY" -e 127.0.0.1 "$ELSEWHERE"
}

@test "a certificate that has expired is refused by -E, -X and -e, with openssl's reason: 76" {
	everywhere 'certificate has expired (is the clock of this machine right?' "$EXPIRED" "${CA[@]}"
}

@test "-qq says nothing of a refused certificate: 76" {
	program -qq "${CA[@]}" -E -p "localhost:$EXPIRED" host 22 </dev/null
	status_is 76
	err_empty
}

# reaches OPTION...: with them sshd is reached.
reaches() {
	drive_command 'expect SSH-2.0-' 'send no banner\r\n' half-close sink 'status 0 1000' -- "$PROXYTUNNEL" "$@" "127.0.0.1:$SSHD"
	err_empty
}

@test "-z trusts any certificate: of another authority, for another name, expired; in -E, -X and -e" {
	local port

	for port in "$STUNNEL" "$ELSEWHERE" "$EXPIRED"; do
		reaches -z -E -p "localhost:$port"
		reaches -z -p "127.0.0.1:$TINYPROXY" -r "127.0.0.1:$port" -X
		drive_command 'send no request\r\n\r\n' 'expect HTTP/1' half-close sink 'status 0 1000' -- \
			"$PROXYTUNNEL" --no-check-certificate -p "127.0.0.1:$TINYPROXY" -e localhost "$port"
	done
}

@test "-C takes a folder as well as a file" {
	reaches -C "$TLS_DIR/authorities" -E -p "localhost:$STUNNEL"
	reaches --cacert="$TLS_DIR/ca.crt" -E -p "localhost:$STUNNEL"
	mkdir none
	distrusted "localhost:$STUNNEL" 'unable to get local issuer' -C none -E -p "localhost:$STUNNEL" host 22
}

@test "a -C, -c or -k that is not there is told by its name, and nobody is trusted" {
	local option

	for option in -C -c '-c client.pem -k'; do
		cp "$TLS_DIR/client.pem" .
		program "${CA[@]}" -E $option missing.pem -p "localhost:$STUNNEL" host 22 </dev/null
		status_is 66
		out_is ''
		err_one_line
		err_has "${option##* } missing.pem: No such file"
	done
	program -k "$TLS_DIR/client.key" -E -p "localhost:$STUNNEL" host 22 </dev/null
	status_is 64
	err_one_line
	err_has -k
}

@test "a server that demands a client's certificate is given that of -c and -k" {
	reaches "${CA[@]}" -c "$TLS_DIR/client.crt" -k "$TLS_DIR/client.key" -E -p "localhost:$DEMANDING"
	reaches "${CA[@]}" --cert="$TLS_DIR/client.pem" -E -p "localhost:$DEMANDING"
	reaches "${CA[@]}" -c "$TLS_DIR/client.pem" --key="$TLS_DIR/client.key" -p "127.0.0.1:$TINYPROXY" -r "localhost:$DEMANDING" -X
}

@test "a server that demands a client's certificate and gets none, or a stranger's: openssl's reason, 76" {
	program "${CA[@]}" -E -p "localhost:$DEMANDING" host 22 </dev/null
	status_is 76
	err_one_line
	err_has "localhost:$DEMANDING: "
	err_has 'certificate required (it wants a certificate of yours: -c, and -k)'
	program "${CA[@]}" -p "127.0.0.1:$TINYPROXY" -r "localhost:$DEMANDING" -X host 22 </dev/null
	status_is 76
	err_has "localhost:$DEMANDING: "
	err_has 'certificate required'
	program "${CA[@]}" -E -p "localhost:$DEMANDING" -c "$TLS_DIR/stranger.crt" -k "$TLS_DIR/stranger.key" host 22 </dev/null
	status_is 76
	err_has 'alert'
}

@test "a destination that demands a client's certificate and gets none is no orderly end: openssl's reason is told" {
	program "${CA[@]}" -p "127.0.0.1:$TINYPROXY" -e localhost "$DEMANDING" </dev/null
	[ "$status" -eq 76 ] || status_is 74
	err_has 'certificate required'
}

# --- what is spoken --------------------------------------------------------------------------

@test "the name of the server is told in the handshake, an address is not" {
	local host

	for host in localhost 127.0.0.1; do
		start_peer plain accept "log hello.$host" 'echo 64K'
		program -E -p "$host:$PORT" -P user:secret host 22 </dev/null
		status_is 76
		finished plain
	done
	grep -qa localhost hello.localhost
	! grep -qa 127.0.0.1 hello.127.0.0.1 || false
}

@test "nothing is said when all is well; -v tells the version of TLS" {
	reaches "${CA[@]}" -E -p "localhost:$STUNNEL"
	drive_command 'expect SSH-2.0-' 'send no banner\r\n' half-close sink 'status 0 1000' -- \
		"$PROXYTUNNEL" -v "${CA[@]}" -E -p "localhost:$STUNNEL" "127.0.0.1:$SSHD"
	err_has "localhost:$STUNNEL Protocol version: TLSv1."
}

@test "what does not speak TLS is refused with openssl's reason: 76" {
	start_peer plain accept 'send SSH-2.0-x\r\n' sink
	distrusted "127.0.0.1:$PORT" 'wrong version number (it does not speak TLS: leave out https://, or -E, -X or -e)' -E -p "127.0.0.1:$PORT" host 22
	start_peer plain accept close
	program -E -p "127.0.0.1:$PORT" host 22 </dev/null
	status_is 76
	err_one_line
	err_has "127.0.0.1:$PORT: TLS failed"
	err_lacks -z
}

@test "a proxy that speaks TLS, asked in plain, is told as one" {
	program -p "localhost:$STUNNEL" host 22 </dev/null
	[ "$status" -eq 76 ] || status_is 69
	err_one_line
	err_has https://
	start_peer alert accept head 'send \x15\x03\x01\0\x02\x02\x46' close
	program -p "127.0.0.1:$PORT" host 22 </dev/null
	status_is 76
	err_one_line
	err_has '(it speaks TLS: put https:// before its name)'
	program -p "localhost:$APACHE" -P three:third host 22 </dev/null
	err_one_line
	err_has https://
}

@test "-I and --no-sni send no name in the handshake, which the certificate must bear all the same" {
	reaches "${CA[@]}" -I -E -p "localhost:$STUNNEL"
	distrusted "localhost:$ELSEWHERE" 'hostname mismatch' "${CA[@]}" -E -I -p "localhost:$ELSEWHERE" host 22
	start_peer plain accept 'log hello' 'echo 64K'
	program -E --no-sni -p "localhost:$PORT" host 22 </dev/null
	status_is 76
	finished plain
	! grep -qa localhost hello || false
}

@test "-B, the old proxytunnel's, is -E" {
	reaches "${CA[@]}" -B -p "localhost:$STUNNEL"
}

@test "eight TLS proxies in a row are as good as one, more than sixteen are too many" {
	local i words=()

	for i in {2..8}; do
		words+=(-r "https://localhost:$STUNNEL")
	done
	reaches "${CA[@]}" -E -p "localhost:$STUNNEL" "${words[@]}"
	program "${CA[@]}" -E -p "localhost:$STUNNEL" "${words[@]}" "${words[@]}" "${words[@]}" host 22 </dev/null
	status_is 71
	err_one_line
	err_has 'too many hops with TLS'
}

# --- the tunnel within ------------------------------------------------------------------------

# start_far STEP...: a plain peer; within TLS it is the destination of what drive_tls starts.
start_far() {
	start_peer far accept "$@"
}

drive_tls() {
	drive_command "$@" -- "$PROXYTUNNEL" "${CA[@]}" -E -p "localhost:$STUNNEL" "127.0.0.1:$PORT"
}

@test "lines that begin with Q or R are data, as all others" {
	start_far 'expect Q\n' 'pause 20' 'send Q\n' 'expect R\n' 'send R\n' 'expect Q' 'send Q' close
	drive_tls 'send Q\n' 'expect Q\n' 'pause 50' 'send R\n' 'expect R\n' 'pause 50' 'send Q' half-close 'expect Q' 'eof 1000' 'status 0 1000'
	finished far
	err_empty
}

@test "16 MiB each way at once are exact" {
	start_far 'pattern 16M 1 &' 'check 16M 2' join close
	drive_tls 'pattern 16M 2 &' 'check 16M 1' join half-close 'eof 1000' 'status 0 1000'
	finished far
	err_empty
}

@test "after the end of stdin all that is still to come comes, status 0" {
	start_far 'expect up' 'pause 300' 'pattern 4M' close
	drive_tls 'send up' half-close 'check 4M' 'eof 1000' 'status 0 1000'
	finished far
	err_empty
}

@test "the far end's end reaches stdout at once, the program leaves within 2 s" {
	start_far 'send bye' close
	drive_tls 'expect bye' 'eof 700' 'status 0 2000'
	finished far
	await ours_gone
}

@test "the reader of stdout leaves: status 74 at once, nothing is left" {
	start_far 'send some' hold
	drive_tls 'expect some' close-in 'status 74 700'
	await ours_gone
	finished far
}

@test "SIGHUP and SIGTERM end a tunnel within TLS at once, and nothing is left" {
	local name

	for name in HUP:129 TERM:143; do
		start_far 'send some' hold
		drive_tls 'expect some' "signal ${name%:*}" "status ${name#*:} 700"
		await ours_gone
		finished far
	done
}

@test "SIGKILL leaves no openssl behind either" {
	start_far 'send some' hold
	drive_tls 'expect some' 'signal KILL' 'status 137'
	await ours_gone
	finished far
}

@test "a Ctrl-C to the process group does not end a tunnel that stands within TLS" {
	local pid

	start_far 'send some' 'expect up' 'send more' close
	# A shell's & has SIGINT ignored.
	start near env --default-signal=INT "$PEER" 'expect some' 'touch up' 'await interrupted' 'send up' half-close \
		'expect more' eof 'status 0' -- "$PROXYTUNNEL" "${CA[@]}" -E -p "localhost:$STUNNEL" "127.0.0.1:$PORT"
	await test -e up
	for pid in $(strays); do
		# All of them are in the session, and so in the group, that the peer made for the program.
		[[ $(readlink "/proc/$pid/exe") != */openssl ]] || kill -INT -- "-$(awk '{ print $5 }' "/proc/$pid/stat")"
	done
	touch interrupted
	finished near
	finished far
}

@test "a TLS connection that is cut without its close is no orderly end: 74" {
	start_far 'send some' hold
	TEST_MARK='' start_stunnel localhost "$TINYPROXY"
	start near "$PEER" 'expect some' 'touch up' 'eof 3000' 'status 74 2000' -- \
		"$PROXYTUNNEL" "${CA[@]}" -E -p "localhost:$PORT" "127.0.0.1:${PORTS[far]}"
	await test -e up
	kill -KILL "$PID"
	finished near
	server_stop "$PID"
	cp near.err err
	err_has "localhost:$PORT"
}

@test "standing idle within TLS the program uses no CPU" {
	start_far 'send some' 'await done'
	drive_tls 'expect some' 'pause 100' 'idle 1000 10' 'touch done' half-close eof 'status 0 1000'
	finished far
}

# --- the handshake, and what is made for it ----------------------------------------------------

# The folder that openssl and the program meet in is there.
met() {
	[ -S "$(echo tmp/proxytunnel.*/tls)" ]
}

@test "the folder of the handshake's socket is private, and gone when the tunnel stands" {
	start_peer silent accept 'await seen'
	start handshake limited "$PROXYTUNNEL" -E -p "127.0.0.1:$PORT" host 22
	await met
	[ "$(stat -c %a tmp/*)" = 700 ]
	touch seen
	finished handshake 76
	[ -z "$(ls tmp)" ]
	start_far 'send some' 'await seen2'
	start near "$PEER" 'expect some' 'touch up' eof 'status 0' -- \
		"$PROXYTUNNEL" "${CA[@]}" -E -p "localhost:$STUNNEL" "127.0.0.1:$PORT"
	await test -e up
	[ -z "$(ls tmp)" ]
	touch seen2
	finished near
}

@test "a handshake that hangs is ended by -w: 75, one line, nothing is left" {
	local words jobs=() job folder

	start_peer silent loop hold
	for words in "-E -p 127.0.0.1:$PORT" "-p 127.0.0.1:$TINYPROXY -r 127.0.0.1:$PORT -X" "-E -p localhost:$STUNNEL -r 127.0.0.1:$PORT -X"; do
		(
			folder=$(mktemp -d -p .) && cd "$folder" || exit
			program -w 1 "${CA[@]}" $words host 22 </dev/null
			status_is 75
			err_one_line
			err_has "127.0.0.1:$PORT: no TLS handshake within 1 s (-w)"
		) &
		jobs+=($!)
	done
	for job in "${jobs[@]}"; do
		wait "$job"
	done
	await ours_gone
}

@test "SIGHUP, SIGTERM and SIGINT end a handshake at once, and nothing is left" {
	local name

	for name in HUP:129 TERM:143 INT:130; do
		start_peer silent accept 'expect \x16' 'touch asked' hold
		drive_command 'await asked' "signal ${name%:*}" "status ${name#*:} 700" -- "$PROXYTUNNEL" -E -p "127.0.0.1:$PORT" host 22
		await ours_gone
		[ -z "$(ls tmp)" ]
		rm asked
		finished silent
	done
}

@test "no openssl on the PATH: one line that says what to install, 71, nothing is left" {
	mkdir empty
	status=0
	limited env PATH="$DIR/empty" "$PROXYTUNNEL" -E -p "localhost:$STUNNEL" host 22 </dev/null >out 2>err || status=$?
	status_is 71
	err_one_line
	err_has 'needs openssl(1)'
	err_has 'its package is called openssl'
	await ours_gone
}

# with_openssl SCRIPT OPTION...: the program, with an openssl that does that once it has the connection.
with_openssl() {
	mkdir -p fake
	printf '#!/bin/sh\n%s\n' "$1" >fake/openssl
	chmod +x fake/openssl
	shift
	status=0
	limited env PATH="$DIR/fake:$PATH" "$PROXYTUNNEL" "$@" </dev/null >out 2>err || status=$?
	await ours_gone
}

@test "whatever openssl does, it is told what that means: it ends at once, by an errno, by a signal, behind its handshake" {
	local stands='socat -u OPEN:/dev/null UNIX-CONNECT:$6; { echo; echo Protocol version: TLSv1.3; } >&2'

	set -- -E -p "localhost:$STUNNEL" host 22
	with_openssl 'exit 0' "$@"
	status_is 76
	err_has 'openssl ended before its handshake'
	with_openssl 'echo connect:errno=104 >&2; exit 1' "$@"
	status_is 76
	err_has 'TLS failed: Connection reset by peer'
	with_openssl "$stands; kill -TERM \$\$" "$@"
	status_is 69
	err_has 'CONNECT host:22: '
	with_openssl "$stands; echo 1:error:1:lib:func:a reason:file:1: >&2; exit 1" --relay "https://localhost:$STUNNEL/t" host 22
	status_is 76
	err_has 'TLS failed: a reason'
}

@test "a TMPDIR that is not there, or too long a name for a socket in it, is told" {
	TMPDIR=$DIR/none program -E -p "localhost:$STUNNEL" host 22 </dev/null
	status_is 71
	err_one_line
	err_has "$DIR/none"
	TMPDIR=$DIR/$(printf '%0120d' 0) program -E -p "localhost:$STUNNEL" host 22 </dev/null
	status_is 71
	err_one_line
	err_has TMPDIR
}

# --- together with -a -------------------------------------------------------------------------

@test "-a with -E: clients at once are served within TLS, and SIGTERM leaves nothing" {
	start_peer far -b 16 loop 'send some' 'echo 64K'
	start_listener listener "$PROXYTUNNEL" -a 0 "${CA[@]}" -E -p "localhost:$STUNNEL" "127.0.0.1:$PORT"
	start clients "$PEER" -c "$PORT" 'crowd 8' 'expect some' 'pattern 256K &' 'check 256K' join 'meet up' gone
	await test -e up
	kill "${PIDS[listener]}"
	finished listener
	finished clients
	await ours_gone
}

@test "-a with -E: a client whose tunnel cannot be trusted is closed, and the next is served no worse" {
	local i

	start_listener listener "$PROXYTUNNEL" -a 0 "${CA[@]}" -E -p "localhost:$EXPIRED" host 22
	for i in 1 2; do
		"$PEER" -c "${PORTS[listener]}" 'eof 3000'
	done
	[ "$(grep -c 'TLS failed' listener.err)" -eq 2 ]
	[ -z "$(ls tmp)" ]
}
