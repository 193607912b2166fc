#!/usr/bin/env bats
# NTLM and Negotiate, by ntlm_auth(1): real proxies and a KDC, and each step of the handshake against a script.

load helper

NAMED=${NAMED:-$ROOT/test/bin/named}

OK='HTTP/1.1 200 OK\r\n\r\n'
EMPTY='Content-Length: 0\r\n\r\n'
NTLM='HTTP/1.1 407 Denied\r\nProxy-Authenticate: NTLM'
NEGOTIATE='HTTP/1.1 407 Denied\r\nProxy-Authenticate: Negotiate'
CHALLENGE="$NTLM challenge\r\n"

setup_file() {
	local protocol

	servers_begin
	start_sshd
	export SSHD=$PORT
	for protocol in 'ntlm squid-2.5-ntlmssp' 'negotiate gss-spnego'; do
		AUTH="auth_param ${protocol% *} program /usr/bin/ntlm_auth --helper-protocol=${protocol#* } --username=bob --password=secret --domain=CORP
			auth_param ${protocol% *} children 2 startup=1" start_squid
		export "SQUID_${protocol%% *}=$PORT" "LOG_${protocol%% *}=$SERVER_DIR/access.log"
	done
	start_kdc bob:secret HTTP/proxy.test
	AUTH="auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth -k $KEYTAB -s HTTP/proxy.test@CORP.TEST
		auth_param negotiate children 2 startup=1" start_squid
	export SQUID_kerberos=$PORT LOG_kerberos=$SERVER_DIR/access.log
	start_tinyproxy
	export TINYPROXY=$PORT
	certificates_make
	start_stunnel localhost "$SQUID_ntlm"
	export STUNNEL=$PORT
	start_proxytunnel --allow "127.0.0.1:$SSHD"
	start_stunnel localhost "$PORT"
	export TLS_RELAY=$PORT
	start_cntlm "$SQUID_ntlm" CORP bob:secret
	export CNTLM=$PORT
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
	export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.org
}

teardown_file() {
	servers_end
}

setup() {
	test_begin
	export KRB5CCNAME=FILE:$DIR/tickets	# none, but for who calls kinit
	export FAKE_ADDRESSES=127.0.0.1 PROXYTUNNEL
}

# --- ssh and git through real proxies -------------------------------------------

# ssh_and_git LOG USER ARG...: both go through the proxy that ARG... name, as a USER of its LOG, and nobody says a word.
ssh_and_git() {
	local log=$1 user=$2

	shift 2
	: >"$log"
	ssh_runs "$@"
	rm -rf there away
	git init -q there
	cp "$ROOT/proxytunnel.c" there
	git -C there add .
	git -C there commit -q -m one
	GIT_SSH_COMMAND="ssh -F '$DIR/config'" limited git clone -q "target:$DIR/there" away 2>err
	err_empty
	cmp there/proxytunnel.c away/proxytunnel.c
	cmp <(printf '%s\n' "$user" "$user") <(awk '/TCP_TUNNEL\/200/ { print $8 }' "$log") || {
		cat "$log"
		return 1
	}
}

# ssh_runs ARG...: a command of ssh's, through the proxies that ARG... name, and nobody says a word.
ssh_runs() {
	{
		echo "ProxyCommand '$PROXYTUNNEL' $* -d %h:%p"
		cat "$SERVERS/ssh_config"
	} >config
	status=0
	limited ssh -F config target 'cat; exit 7' <<<hello >out 2>err || status=$?
	status_is 7
	out_is 'hello\n'
	err_empty
}

# lacks TEXT FILE: it is nowhere in it.
lacks() {
	[ -e "$2" ]
	if tr '\0' '\n' <"$2" | grep -F -e "$1"; then return 1; fi
}

# real ARG...: a tunnel to sshd through the proxy that ARG... name.
real() {
	program -d "127.0.0.1:$SSHD" "$@" </dev/null
}

@test "ssh and git go through a proxy that offers only NTLM, without an option and with -N" {
	printf 'CORP\\bob:secret\n' >passfile
	chmod 600 passfile
	ssh_and_git "$LOG_ntlm" 'CORP\\bob' -p "127.0.0.1:$SQUID_ntlm" -F "$DIR/passfile"
	ssh_and_git "$LOG_ntlm" 'CORP\\bob' -p "127.0.0.1:$SQUID_ntlm" -N -t CORP -P bob:secret
}

@test "ssh and git go through a proxy that offers only Negotiate, by NTLM within" {
	ssh_and_git "$LOG_negotiate" 'CORP\\bob' -p "127.0.0.1:$SQUID_negotiate" -P "'CORP\\bob:secret'"
	ssh_and_git "$LOG_negotiate" 'CORP\\bob' -p "127.0.0.1:$SQUID_negotiate" -N -P "'CORP\\bob:secret'"
}

@test "ssh and git go through a proxy that takes only Kerberos, by a ticket of kinit and without a password" {
	PROXYTUNNEL=$NAMED
	kinit bob <<<secret >/dev/null
	ssh_and_git "$LOG_kerberos" bob@CORP.TEST -p "proxy.test:$SQUID_kerberos"
	ssh_and_git "$LOG_kerberos" bob@CORP.TEST -p "proxy.test:$SQUID_kerberos" -N
	ssh_and_git "$LOG_kerberos" bob@CORP.TEST -p "proxy.test:$SQUID_kerberos" -P bob:secret
}

@test "a wrong password is refused, in a line that says so: 77" {
	local proxy option

	for proxy in "$SQUID_ntlm" "$SQUID_negotiate"; do
		for option in -v -N; do
			real -p "127.0.0.1:$proxy" -P 'CORP\bob:wrong' $option
			status_is 77
			err_has "407 Proxy Authentication Required (it does not take these credentials of CORP\\bob; it offers N"
		done
		err_one_line
	done
}

@test "without a ticket, a proxy that takes only Kerberos is told of kinit: 77" {
	PROXYTUNNEL=$NAMED
	real -p "proxy.test:$SQUID_kerberos"
	status_is 77
	err_one_line
	err_has 'try kinit, or -P or -F; it offers Negotiate'
	real -p "proxy.test:$SQUID_kerberos" -P bob:secret
	status_is 77
	err_one_line
	err_has 'Kerberos needs a ticket, by kinit'
}

@test "the password is in no process's arguments or environment, nor in what -v shows" {
	local secret

	start_peer proxy accept head "send $CHALLENGE$EMPTY" head 'touch asked' 'await go' "send $OK" close
	# A challenge that ntlm_auth takes, so that it has the password while we look.
	sed -n 's/^.*Proxy-Authenticate: NTLM \(.*\)$/\1/p' >challenge < <(
		real -v -p "127.0.0.1:$SQUID_ntlm" -P bob:secret
		cat err
	)
	stop proxy
	start_peer proxy accept head "send $NTLM $(<challenge)\r\n$EMPTY" head 'touch asked' 'await go' "send $OK" close
	PROXYPASS=secret start far "$PROXYTUNNEL" -v -N -p "bob@127.0.0.1:$PORT" -d host:22 </dev/null
	await test -e asked
	[ "$(children far | wc -l)" -eq 1 ]
	for secret in secret "$(printf secret | base64)"; do
		lacks "$secret" "/proc/${PIDS[far]}/cmdline"
		lacks "$secret" "/proc/$(children far)/cmdline"
	done
	lacks PROXYPASS "/proc/$(children far)/environ"
	touch go
	finished far
	finished proxy
	cp far.err err
	err_has 'NTLM, by ntlm_auth(1)'
	err_has '> Proxy-Authorization: ***'
	err_lacks secret
	err_lacks "$(printf secret | base64)"
}

@test "a proxy behind others, inside TLS, or behind a command is spoken to in the same way" {
	printf 'proxy_user = CORP\\bob\nproxy_passwd = secret\nremproxy_user = CORP\\bob\nremproxy_passwd = secret\n' >passfile
	chmod 600 passfile
	ssh_runs -F "$DIR/passfile" -p "127.0.0.1:$TINYPROXY" -r "127.0.0.1:$SQUID_ntlm"
	ssh_runs -F "$DIR/passfile" -p "127.0.0.1:$SQUID_negotiate" -N -r "127.0.0.1:$SQUID_ntlm"
	ssh_runs -F "$DIR/passfile" -p "https://127.0.0.1:$STUNNEL" -C "$TLS_DIR/ca.crt"
	ssh_runs -F "$DIR/passfile" --proxy-command "'nc.openbsd 127.0.0.1 $SQUID_negotiate'"
}

@test "cntlm as the first hop still works" {
	ssh_and_git "$LOG_ntlm" 'CORP\\bob' -p "127.0.0.1:$CNTLM"
}

@test "a relay by https is reached through it by CONNECT, over and over" {
	printf 'proxy_user = CORP\\bob\nproxy_passwd = secret\n' >passfile
	chmod 600 passfile
	ssh_runs -p "127.0.0.1:$SQUID_ntlm" -F "$DIR/passfile" --relay "https://127.0.0.1:$TLS_RELAY" -C "$TLS_DIR/ca.crt"
}

@test "a relay by http through a proxy that offers only NTLM: cntlm or px are needed, which is said: 77" {
	for credentials in '' -Pbob:secret -N; do
		real -p "127.0.0.1:$SQUID_ntlm" --relay "http://127.0.0.1:$SSHD" $credentials
		status_is 77
		err_one_line
		err_has cntlm
		err_has px
	done
}

# --- the handshake, against a script --------------------------------------------

# helper ANSWER...: what ntlm_auth says from here on: each ANSWER to a line, as printf's %b has it; to "die" and "hang" it
# does that, to "TEXT die" first the one and then the other. Its arguments go to helper.arguments, and the lines that it is told to helper.told.
helper() {
	printf '%s\n' "$@" >helper.answers
	rm -f helper.told helper.arguments
	mkdir -p bin
	cat >bin/ntlm_auth <<-'END'
		#!/bin/sh
		printf '%s\n' "$@" >>helper.arguments
		exec 3<helper.answers
		while IFS= read -r line; do
			printf '%s\n' "$line" >>helper.told
			IFS= read -r answer <&3 || exit 0
			case $answer in
			die) exit 3 ;;
			*' die') echo "${answer% die}" && exit 3 ;;
			hang) exec sleep 60 ;;
			*) printf '%b\n' "$answer" ;;
			esac
		done
	END
	chmod 755 bin/ntlm_auth
	PATH=$DIR/bin:${PATH#"$DIR/bin:"}
}

# shakes STEP...: with -N and user:pass the proxy has a first request, and then goes on as STEP... say.
shakes() {
	start_peer proxy accept 'log requests' head "$@"
	tunnel -N -P user:pass </dev/null
}

# sent TOKEN...: those, in this order, are what the requests on the way had.
sent() {
	cmp <(printf 'Proxy-Authorization: %s\r\n' "$@") <(grep -a ^Proxy-Authorization requests) || {
		cat -v requests
		return 1
	}
}

@test "each token of ntlm_auth goes into a request on the one connection, and each of the proxy to ntlm_auth" {
	helper 'YR first' PW 'OK\nAF second'
	start_peer proxy accept 'log requests' head "send $CHALLENGE$EMPTY" head "send ${OK}far" 'expect up' close
	tunnel -N -P user:pass < <(printf up)
	status_is 0
	finished proxy
	out_is far
	err_empty
	sent 'NTLM first' 'NTLM second'
	cmp helper.told <(printf '%s\n' YR 'TT challenge' "PW $(printf pass | base64)")
	grep -qx -e --helper-protocol=ntlmssp-client-1 helper.arguments
	[ "$(grep -c ^CONNECT requests)" -eq 2 ]
}

@test "Negotiate names the proxy's host, and goes on for as long as ntlm_auth has tokens" {
	helper PW 'OK\nYR first' 'KK second' 'KK third'
	start_peer proxy accept head "send HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\n" close \
		accept 'log requests' head "send $NEGOTIATE one\r\n$EMPTY" head "send $NEGOTIATE  two\r\n$EMPTY" head "send $OK" close
	tunnel -P user:pass </dev/null
	status_is 0
	finished proxy
	sent 'Negotiate first' 'Negotiate second' 'Negotiate third'
	cmp helper.told <(printf '%s\n' YR "PW $(printf pass | base64)" 'TT one' 'TT  two')
	grep -qx -e --helper-protocol=gss-spnego-client helper.arguments
	grep -qx -e --target-service=HTTP helper.arguments
	grep -qx -e --target-hostname=127.0.0.1 helper.arguments
}

@test "once the tunnel stands, ntlm_auth has gone" {
	helper 'YR first' 'AF second'
	start_peer proxy accept head "send $CHALLENGE$EMPTY" head "send ${OK}far" 'await go' close
	mkfifo fifo
	exec 8<>fifo
	start far "$PROXYTUNNEL" -N -P user:pass -p "127.0.0.1:$PORT" -d host:22 <&8
	await grep -q far far.out
	children_are far 0
	touch go
	exec 8>&-
	finished far
	finished proxy
}

@test "the domain is that before a backslash in the user, of any source, else -t's, else none" {
	named() {
		local domain=$1

		shift
		helper 'YR first' 'AF second'
		start_peer proxy accept head "send $CHALLENGE$EMPTY" head "send $OK" close
		program -N -d host:22 -p "127.0.0.1:$PORT" "${@//PORT/$PORT}" </dev/null
		status_is 0
		finished proxy
		grep -qxF -e "--username=bob" helper.arguments
		grep -qxF -e "--domain=$domain" helper.arguments
		lacks pass helper.arguments
		grep -qxF "YR" helper.told
	}

	printf 'proxy_user = CORP\\bob\nproxy_passwd = pass\n' >passfile
	chmod 600 passfile
	named CORP -P 'CORP\bob:pass'
	named CORP -F passfile
	named CORP -p 'http://CORP%5Cbob:pass@127.0.0.1:PORT'
	PROXYUSER='CORP\bob' PROXYPASS=pass named CORP
	named CORP -t CORP -P bob:pass
	named CORP --domain=CORP -P bob:pass
	named CORP -t OTHER -P 'CORP\bob:pass'
	named '' -P bob:pass
}

@test "the body of a 407 within the handshake is read to its end: 60 KiB, 64 KiB, chunks, trailers" {
	local size

	for size in 1 61440 65536; do
		helper 'YR first' 'AF second'
		shakes "send ${CHALLENGE}Content-Length: $size\r\n\r\n" "pattern $size" head "send ${OK}far" close
		status_is 0
		out_is far
		finished proxy
	done
	for chunks in '0\r\n\r\n' '5\r\nHTTP/\r\n1;a=b\r\n1\r\n0\r\n\r\n' 'A\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\nA: b\r\nC: d\r\n\r\n'; do
		helper 'YR first' 'AF second'
		shakes "send ${CHALLENGE}Transfer-Encoding: chunked\r\n\r\n" "trickle 1 1 $chunks" head "send ${OK}far" close
		status_is 0
		out_is far
		finished proxy
	done
	helper 'YR first' 'AF second'
	shakes "send ${CHALLENGE}Transfer-Encoding: chunked\r\n\r\nf000\r\n" 'pattern 61440' 'send \r\n0\r\n\r\n' head "send ${OK}far" close
	status_is 0
	out_is far
	finished proxy
}

@test "a proxy that ends the connection within the handshake, or may be about to, cannot do it, which is said: 77" {
	for fields in 'Connection: close\r\nContent-Length: 0\r\n' 'Proxy-Connection: Close\r\nContent-Length: 0\r\n' '' \
		'Content-Length: 65537\r\n' 'Content-Length: 5\r\n' 'Content-Length: x\r\n' \
		'Transfer-Encoding: chunked\r\n\r\n10001\r\n' 'Transfer-Encoding: chunked\r\n\r\n5\r\n' \
		'Transfer-Encoding: chunked\r\n\r\n-1\r\n'; do
		helper 'YR first' 'AF second'
		shakes "send $CHALLENGE$fields\r\n" close
		status_is 77
		err_one_line
		err_has 'NTLM: not through this proxy, which ends the connection within the handshake'
		finished proxy
	done
}

@test "the first 407, which only offers, may close the connection: the handshake has one of its own" {
	helper 'YR first' 'AF second'
	start_peer proxy accept head "send $NTLM\r\nConnection: close\r\n\r\nno" close \
		accept 'log requests' head "send $CHALLENGE$EMPTY" head "send $OK" close
	tunnel -P user:pass </dev/null
	status_is 0
	finished proxy
	sent 'NTLM first' 'NTLM second'
}

@test "a token of 8 KiB goes both ways, whole" {
	local token

	token=$(head -c 8192 /dev/urandom | base64 -w 0)
	helper 'YR first' "AF $token"
	shakes "send $NTLM $token\r\n$EMPTY" head "send $OK" close
	status_is 0
	finished proxy
	sent 'NTLM first' "NTLM $token"
	grep -qxF "TT $token" helper.told
}

@test "another 407 after the last token is a refusal, with a token in it or without: 77" {
	for again in "$NTLM" "$CHALLENGE"; do
		helper 'YR first' 'AF second' 'AF third'
		shakes "send $CHALLENGE$EMPTY" head "send ${again%'\r\n'}\r\n$EMPTY" eof
		status_is 77
		err_one_line
		err_has 'it does not take these credentials of user; it offers NTLM'
		finished proxy
		[ "$(wc -l <helper.told)" -eq 2 ]
	done
}

@test "any other refusal within the handshake is told as ever; so is an end" {
	helper 'YR first' 'AF second'
	shakes "send $CHALLENGE$EMPTY" head 'send HTTP/1.1 503 Later\r\n\r\n' close
	status_is 69
	err_one_line
	err_has '503 Later'
	helper 'YR first' 'AF second'
	shakes "send $CHALLENGE$EMPTY" head close
	status_is 69
	err_one_line
	err_has 'the connection was closed without an answer'
}

@test "garbage for a token, from the proxy: the real ntlm_auth says what it is" {
	start_peer proxy accept head "send $NTLM \x1b[31m%%garbage\r\n$EMPTY" eof
	tunnel -N -P user:pass </dev/null
	status_is 77
	err_one_line
	err_has 'NTLM: ntlm_auth(1) says '
	finished proxy
}

@test "what ntlm_auth says in place of a token is told, as are its end and no ntlm_auth at all: 77" {
	says() {
		local word=$1

		shift
		helper "$@"
		start_peer proxy accept head "send $CHALLENGE$EMPTY" head 'send HTTP/1.1 500 x\r\n\r\n' close
		tunnel -N -P user:pass </dev/null
		status_is 77
		err_one_line
		err_has "127.0.0.1:$PORT: NTLM: $word"
		stop proxy
	}

	for bad in 'NA NT_STATUS_X' 'BH no' 'ER' 'YR' '' 'what\x1b'; do
		says "ntlm_auth(1) says $(printf %b "$bad" | sed 's/\x1b/\\x1b/')" "$bad"
		says "ntlm_auth(1) says $(printf %b "$bad" | sed 's/\x1b/\\x1b/')" 'YR first' "$bad"
		says "ntlm_auth(1) says $(printf %b "$bad" | sed 's/\x1b/\\x1b/')" 'YR first' PW "$bad"
	done
	says 'ntlm_auth(1) ended without an answer' die
	says 'ntlm_auth(1) ended without an answer' PW die
	says 'ntlm_auth(1) ended without an answer' PW 'OK die'
	says 'ntlm_auth(1) ended without an answer' 'YR first' die
	says 'ntlm_auth(1) ended without an answer' 'YR first' PW die
}

@test "without ntlm_auth: the package that brings it, and the other way; and that Basic was refused before: 77" {
	for schemes in NTLM 'NTLM\r\nProxy-Authenticate: Basic realm="a"'; do
		start_peer proxy accept head "send HTTP/1.1 407 No\r\nProxy-Authenticate: $schemes\r\n$EMPTY" gone accept
		status=0
		limited "$(command -v env)" PATH="$DIR" "$PROXYTUNNEL" -q -p "127.0.0.1:$PORT" -P user:pass -d host:22 </dev/null >out 2>err || status=$?
		status_is 77
		err_one_line
		err_has 'NTLM: needs ntlm_auth(1), of the package winbind or samba-winbind-clients'
		err_has cntlm
		finished proxy
		[[ $schemes == *Basic* ]] || err_lacks Basic
	done
	err_has 'does not take these Basic credentials; NTLM: needs'
}

@test "an ntlm_auth that hangs counts towards -w, and is ended with us: 75" {
	for answers in 'hang' 'YR first|hang' 'YR first|PW|hang'; do
		mapfile -t -d '|' answers < <(printf %s "$answers")
		helper "${answers[@]}"
		start_peer proxy accept head "send $CHALLENGE$EMPTY" gone
		tunnel -N -P user:pass -w 1 </dev/null
		status_is 75
		err_one_line
		err_has 'no answer from ntlm_auth(1) within 1 s (-w)'
		await ours_and_helper_gone
		stop proxy
	done
}

ours_and_helper_gone() {
	ours_gone && ! grep -lsF "TEST_MARK=$DIR" /proc/[0-9]*/environ | sed 's/environ/comm/' | xargs cat | grep -e sleep -e ntlm_auth
}

@test "ntlm_auth ends with us, whatever ends us" {
	for signal in TERM HUP KILL; do
		helper 'YR first' hang
		start_peer proxy accept head "send $CHALLENGE$EMPTY" gone
		start far "$PROXYTUNNEL" -N -P user:pass -p "127.0.0.1:$PORT" -d host:22 </dev/null
		await grep -q TT helper.told
		kill -s $signal "${PIDS[far]}"
		wait "${PIDS[far]}" || true
		unset "PIDS[far]"
		await ours_and_helper_gone
		stop proxy
	done
}

# --- which scheme, and when -----------------------------------------------------

# chooses 'SCHEME...' WANT ARG...: a first 407 offers the schemes; the next connection begins with WANT.
chooses() {
	local scheme offers='' want=$2

	for scheme in $1; do
		offers+="Proxy-Authenticate: $scheme\r\n"
	done
	shift 2
	helper 'YR token'
	start_peer proxy accept head "send HTTP/1.1 407 No\r\n$offers$EMPTY" gone accept 'log requests' head "send $OK" close
	tunnel "$@" </dev/null
	status_is 0
	finished proxy
	sent "$want"
}

@test "of what a 407 offers: NTLM before Negotiate, and Basic was tried before both; -N is right or gives way" {
	chooses 'NTLM' 'NTLM token' -P user:pass
	chooses 'Negotiate' 'Negotiate token' -P user:pass
	chooses 'Negotiate NTLM' 'NTLM token' -P user:pass
	chooses 'Basic Digest ntlm' 'NTLM token' -P user:pass
	chooses 'Basic Negotiate' 'Negotiate token' -P user:pass
	chooses 'Negotiate' 'Negotiate token' -P user:pass -N
	chooses 'Digest Basic' "Basic $(printf user:pass | base64)" -P user:pass -N
	chooses 'Negotiate NTLM' 'Negotiate token'
}

@test "a proxy that offers another scheme each time is not followed for ever: 77" {
	helper 'YR token'
	start_peer proxy accept head "send $NTLM\r\n$EMPTY" gone accept head "send $NEGOTIATE\r\n$EMPTY" gone
	tunnel -P user:pass </dev/null
	status_is 77
	err_one_line
	err_has 'it does not take these credentials of user; it offers Negotiate'
	finished proxy
}

@test "with Basic credentials that the proxy takes, ntlm_auth is not asked" {
	helper 'YR token'
	start_peer proxy accept 'log requests' head "send $OK" close
	tunnel -P user:pass </dev/null
	status_is 0
	sent "Basic $(printf user:pass | base64)"
	[ ! -e helper.told ]
}

@test "-N sends the first token with the first request, that of Negotiate where no user is known" {
	helper 'YR token'
	start_peer proxy accept 'log requests' head "send $OK" close
	tunnel -N -P user:pass </dev/null
	status_is 0
	sent 'NTLM token'
	start_peer proxy accept 'log requests' head "send $OK" close
	tunnel --ntlm </dev/null
	status_is 0
	sent 'Negotiate token'
}

@test "without credentials no second token is sent, as it would be of nobody's: 77" {
	helper PW 'OK\nYR token' 'KK nobody'
	start_peer proxy accept head "send $NEGOTIATE\r\n$EMPTY" gone accept head "send $NEGOTIATE challenge\r\n$EMPTY" eof
	tunnel </dev/null
	status_is 77
	err_one_line
	err_has kinit
	finished proxy
	[ "$(wc -l <helper.told)" -eq 2 ]
}

@test "without credentials, and NTLM the only offer: the options to try; ntlm_auth is not asked: 77" {
	helper 'YR token'
	for schemes in NTLM 'NTLM\r\nProxy-Authenticate: Basic realm="a"'; do
		start_peer proxy accept head "send HTTP/1.1 407 No\r\nProxy-Authenticate: $schemes\r\n$EMPTY" eof
		tunnel </dev/null
		status_is 77
		err_one_line
		err_has 'try -P or -F; it offers NTLM'
		finished proxy
	done
	[ ! -e helper.told ]
}

@test "a Proxy-Authorization of -H stands in place of it all" {
	helper 'YR token'
	start_peer proxy accept 'log requests' head "send $NTLM\r\n$EMPTY" eof
	tunnel -N -P user:pass -H 'Proxy-Authorization: Bearer abc' </dev/null
	status_is 77
	err_has 'does not take the Proxy-Authorization of -H'
	finished proxy
	sent 'Bearer abc'
	[ ! -e helper.told ]
}

@test "-N is for the first proxy, and --serve takes neither -N nor -t" {
	helper 'YR token'
	start_peer proxy accept 'log requests' head "send $OK" head "send $OK" close
	tunnel -N -P user:pass -r two.test:2222 -R other:word </dev/null
	status_is 0
	sent 'NTLM token' "Basic $(printf other:word | base64)"
	for option in -N '-t CORP'; do
		program --serve -a 0 --allow '*:443' $option </dev/null
		status_is 64
	done
}

@test "a listener's later clients begin with the scheme that the first had to be told of" {
	helper 'YR first' 'AF second'
	start_peer proxy accept head "send $NTLM\r\n$EMPTY" gone accept head "send $CHALLENGE$EMPTY" head "send ${OK}one" close
	start_listener far "$PROXYTUNNEL" -v -a 0 -P user:pass -p "127.0.0.1:$PORT" -d host:22
	"$PEER" -c "$PORT" 'expect one' eof close
	finished proxy
}
