#!/usr/bin/env bats
# Several proxies in a row, what each of them is told and what not, and the first reached by a command.

load helper

OK='HTTP/1.1 200 OK\r\n\r\n'

setup_file() {
	servers_begin
	start_sshd
	export SSHD=$PORT
	start_tinyproxy one:first
	export TINYPROXY=$PORT
	start_squid two:second
	export SQUID=$PORT
	start_apache three:third
	export APACHE=$PORT
}

teardown_file() {
	servers_end
}

setup() {
	test_begin
	export SHELL=/bin/sh	# as whoever runs this may have one that starts slowly, or reads files
}

# start_chain COUNT [STEP...]: a peer that is as many proxies, each in the tunnel of the one before, and then goes on
# as STEP... say. What each was asked is in request1, request2...
start_chain() {
	local count=$1 i steps=()

	shift
	rm -f request*
	for ((i = 1; i <= count; i++)); do
		steps+=("log request$i" head "send $OK")
	done
	start_peer chain accept "${steps[@]}" 'log behind' "$@"
}

# told ARG...: with ARG..., where PORT stands for that of the first proxy, three proxies open a tunnel to host:22.
told() {
	start_chain 3 'expect up' eof 'send far' close
	program "${@//PORT/$PORT}" host 22 < <(printf up)
	status_is 0
	out_is far
	err_empty
	finished chain
}

THREE=(-p 127.0.0.1:PORT -r two.test:2222 -r three.test:3333)

# credentials_are FIRST SECOND THIRD: that is what each had, '' for nothing.
credentials_are() {
	local i

	for i in 1 2 3; do
		sed -n 's/^Proxy-Authorization: Basic \(.*\)\r$/\1/p' "request$i" | base64 -d | cmp - <(printf %s "${!i}") || {
			echo "proxy $i was told:"
			cat -v "request$i"
			return 1
		}
	done
}

# told_only N TEXT: to that proxy, and to no other.
told_only() {
	local i

	for i in 1 2 3; do
		if grep -qF "$2" "request$i"; then [ "$i" -eq "$1" ]; else [ "$i" -ne "$1" ]; fi || {
			echo "proxy $i was told:"
			cat -v "request$i"
			return 1
		}
	done
}

passfile() {
	(umask 077 && printf %b "$1" >passfile)
}

# --- real proxies in a row --------------------------------------------------------

# ssh_through OPTION...: writes ./config.
ssh_through() {
	{
		echo "ProxyCommand '$PROXYTUNNEL' $* -d %h:%p"
		cat "$SERVERS/ssh_config"
	} >config
}

@test "ssh goes through tinyproxy, squid and apache in a row, each with its own password, in any order" {
	local tinyproxy="one:first@127.0.0.1:$TINYPROXY" squid="two:second@127.0.0.1:$SQUID" apache="three:third@127.0.0.1:$APACHE"

	while read -r first second third; do
		ssh_through -p "${!first}" -r "${!second}" -r "${!third}"
		status=0
		limited ssh -F config target 'cat; echo told >&2; exit 7' <<<hello >out 2>err || status=$?
		status_is 7
		out_is 'hello\n'
		[ "$(<err)" = told ]
	done <<-END
		tinyproxy squid apache
		squid apache tinyproxy
		apache tinyproxy squid
		apache squid tinyproxy
	END
}

@test "64 MiB go each way at once through three proxies and ssh, exact" {
	passfile 'proxy_user = one\nproxy_passwd = first\nremproxy_user = three\nremproxy_passwd = third\n'
	ssh_through -p "127.0.0.1:$TINYPROXY" -r "127.0.0.1:$SQUID" -R two:second -r "127.0.0.1:$APACHE" -F "$DIR/passfile"
	"$PEER" -i 'pattern 64M' >blob
	LIMIT=30 limited ssh -F config target cat <blob >back
	[ "$(sha256sum <back)" = "$(sha256sum <blob)" ]
}

@test "a wrong password at each of three real proxies in turn: the line names that one, 77" {
	local words

	while read -r bad words; do
		program $words "127.0.0.1:$SSHD" </dev/null
		status_is 77
		err_one_line
		grep "^proxytunnel: 127.0.0.1:$bad: CONNECT 127.0.0.1:[0-9]* refused: 40[17]" err
	done <<-END
		$TINYPROXY -p one:x@127.0.0.1:$TINYPROXY -r two:second@127.0.0.1:$SQUID -r three:third@127.0.0.1:$APACHE
		$SQUID -p one:first@127.0.0.1:$TINYPROXY -r two:x@127.0.0.1:$SQUID -r three:third@127.0.0.1:$APACHE
		$APACHE -p one:first@127.0.0.1:$TINYPROXY -r two:second@127.0.0.1:$SQUID -r three:x@127.0.0.1:$APACHE
	END
}

@test "the next proxy cannot be reached: the line names the one that could not, and whom it was asked for" {
	free_port
	program -p "one:first@127.0.0.1:$TINYPROXY" -r "two:second@127.0.0.1:$SQUID" -r "127.0.0.1:$PORT" host 22 </dev/null
	status_is 69
	err_one_line
	err_has "proxytunnel: 127.0.0.1:$SQUID: CONNECT 127.0.0.1:$PORT refused: 503"
}

# turns_away STATUS WORDS STEP...: a peer that does so on behalf of each of three proxies in turn is the one that is named,
# together with what it was asked for.
turns_away() {
	local want=$1 words=$2 i
	local -a hops next

	shift 2
	for i in 0 1 2; do
		start_peer bad accept head "$@"
		hops=("one:first@127.0.0.1:$TINYPROXY" "two:second@127.0.0.1:$SQUID" "three:third@127.0.0.1:$APACHE")
		next=("127.0.0.1:$SQUID" "127.0.0.1:$APACHE" host:2222)
		hops[i]=127.0.0.1:$PORT
		program -w 5 -p "${hops[0]}" -r "${hops[1]}" -r "${hops[2]}" host 2222 </dev/null
		status_is "$want"
		out_is ''
		err_one_line
		err_has "proxytunnel: 127.0.0.1:$PORT: "
		err_has "CONNECT ${next[i]}"
		grep -qE "$words" err
		finished bad
	done
}

@test "each of three proxies in turn forbids it: the line names that one, 77" {
	turns_away 77 'refused: 403 Forbidden' 'send HTTP/1.1 403 Forbidden\r\n\r\n' close
}

@test "each of three proxies in turn wants credentials: the line names that one, 77" {
	turns_away 77 'refused: 407 Who .*it offers Basic' 'send HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\n\r\n' close
}

@test "each of three proxies in turn closes the connection: the line names that one, 69" {
	turns_away 69 'the connection was closed without an answer' close
}

@test "each of three proxies in turn speaks something else: the line names that one, 76" {
	turns_away 76 'not HTTP: SSH-2.0-other' 'send SSH-2.0-other\r\n' eof
}

@test "each of three proxies in turn is silent: the line names that one, 75" {
	local i jobs=() job hops

	start_peer silent -b 16 loop head hold
	for i in 0 1 2; do
		hops=("one:first@127.0.0.1:$TINYPROXY" "two:second@127.0.0.1:$SQUID" "three:third@127.0.0.1:$APACHE")
		hops[i]=127.0.0.1:$PORT
		(
			mkdir "$i" && cd "$i" || exit
			program -w 1 -p "${hops[0]}" -r "${hops[1]}" -r "${hops[2]}" host 22 </dev/null
			status_is 75
			err_one_line
			err_has "proxytunnel: 127.0.0.1:$PORT: no answer to CONNECT "
		) &
		jobs+=($!)
	done
	for job in "${jobs[@]}"; do
		wait "$job"
	done
}

# --- what each is asked and told --------------------------------------------------------

@test "each proxy is asked for the next, with a Host of its own, and only when the one before has opened" {
	local i want

	start_peer chain accept head 'quiet 100' "send $OK" 'log request2' head 'quiet 100' "send HTTP/1.1 100 Continue\r\n\r\n$OK" \
		'log request3' head 'quiet 100' "send ${OK}far" 'expect up' eof close
	program -p "127.0.0.1:$PORT" -r two.test:2222 -r '[2001:db8::1]' host 22 < <(printf up)
	status_is 0
	out_is far
	finished chain
	want='CONNECT [2001:db8::1]:80 HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n'
	cmp <(printf %b "$want") request2
	cmp <(printf 'CONNECT host:22 HTTP/1.1\r\nHost: host:22\r\n\r\nup') request3
}

@test "ten proxies in a row are as good as one, and no byte of the tunnel is lost" {
	local i words=()

	for i in {2..10}; do
		words+=(-r "proxy$i.test:$i")
	done
	start_chain 10 'pattern 1M 1 &' 'check 1M 2' join eof close
	drive_command 'pattern 1M 2 &' 'check 1M 1' join half-close eof 'status 0' -- \
		"$PROXYTUNNEL" -p "127.0.0.1:$PORT" "${words[@]}" host 22
	finished chain
	err_empty
	for i in {1..9}; do
		head -n 1 "request$i" | grep -qx "CONNECT proxy$((i + 1)).test:$((i + 1)) HTTP/1.1."
	done
	head -n 1 request10 | grep -qx 'CONNECT host:22 HTTP/1.1.'
}

@test "the proxy of the environment is the first, and no_proxy is asked about the next" {
	start_chain 2 'send far' close
	https_proxy=http://127.0.0.1:$PORT no_proxy=host program -r two.test:2222 -d host:22 </dev/null
	status_is 0
	out_is far
	finished chain
	head -n 1 request1 | grep -q '^CONNECT two.test:2222 '
	start_chain 1 'send far' close
	https_proxy=http://127.0.0.9:1 no_proxy=127.0.0.1 program -r "127.0.0.1:$PORT" -d host:22 </dev/null
	status_is 0
	out_is far
	finished chain
	head -n 1 request1 | grep -q '^CONNECT host:22 '
}

@test "-v tells what each proxy was asked, by whom it was answered, and no secret" {
	start_chain 3 close
	program -v -p "a:secret1@127.0.0.1:$PORT" -r b:secret2@two.test:2 -r three.test:3 -R c:secret3 -H 'X-T: secret4' host 22 </dev/null
	status_is 0
	finished chain
	[ "$(grep -c '> CONNECT' err)" -eq 3 ]
	[ "$(grep -c '< HTTP/1.1 200 OK' err)" -eq 3 ]
	[ "$(grep -c '> Proxy-Authorization: \*\*\*' err)" -eq 3 ]
	err_has '> CONNECT two.test:2 HTTP/1.1'
	err_has '> CONNECT three.test:3 HTTP/1.1'
	err_has '> CONNECT host:22 HTTP/1.1'
	err_lacks secret
}

@test "the time limit is one for all proxies together" {
	local begin=${EPOCHREALTIME/[.,]/}

	start_peer chain accept head 'pause 450' "send $OK" head 'pause 450' "send $OK" head hold
	program -w 1 -p "127.0.0.1:$PORT" -r two.test:2 -r three.test:3 host 22 </dev/null
	status_is 75
	err_has 'three.test:3: no answer to CONNECT host:22'
	[ $((${EPOCHREALTIME/[.,]/} - begin)) -lt 1700000 ]
}

# --- credentials -----------------------------------------------------------------------------

@test "without credentials no proxy is told any" {
	told "${THREE[@]}"
	credentials_are '' '' ''
}

@test "credentials in the URL of a proxy are told to that one only" {
	told -p a:1@127.0.0.1:PORT -r b:2@two.test:2 -r c:3@three.test:3
	credentials_are a:1 b:2 c:3
	told -p a:1@127.0.0.1:PORT -r two.test:2 -r three.test:3
	credentials_are a:1 '' ''
	told -p 127.0.0.1:PORT -r b:2%40@two.test:2 -r three.test:3
	credentials_are '' b:2@ ''
	told -p 127.0.0.1:PORT -r two.test:2 -r http://c:3@three.test:3/
	credentials_are '' '' c:3
}

@test "-P is for the first proxy only, -R for the -r named last before it" {
	told "${THREE[@]}" -P a:1
	credentials_are a:1 '' ''
	told "${THREE[@]}" -R c:3
	credentials_are '' '' c:3
	told -p 127.0.0.1:PORT -r two.test:2 -R b:2 -r three.test:3 --remproxyauth=c:3 -P a:1
	credentials_are a:1 b:2 c:3
}

@test "a passfile's proxy_user is for the first, its remproxy_user for the last" {
	passfile 'proxy_user = a\nproxy_passwd = 1\n'
	told "${THREE[@]}" -F passfile
	credentials_are a:1 '' ''
	passfile 'remproxy_user = c\nremproxy_passwd = 3\n'
	told "${THREE[@]}" -F passfile
	credentials_are '' '' c:3
	passfile 'remproxy_user = c\nproxy_passwd = 1\nremproxy_passwd = 3\nproxy_user = a\n'
	told "${THREE[@]}" -F passfile
	credentials_are a:1 '' c:3
	passfile 'a:1\n'
	told "${THREE[@]}" -F passfile
	credentials_are a:1 '' ''
}

@test "PROXYUSER is for the first, REMPROXYUSER for the last" {
	PROXYUSER=a PROXYPASS=1 told "${THREE[@]}"
	credentials_are a:1 '' ''
	REMPROXYUSER=c REMPROXYPASS=3 told "${THREE[@]}"
	credentials_are '' '' c:3
	PROXYUSER=a PROXYPASS=1 REMPROXYUSER=c REMPROXYPASS=3 told "${THREE[@]}"
	credentials_are a:1 '' c:3
}

@test "for the last proxy too, the command line goes before the file, that before the URL, that before the environment" {
	local way=(-p 127.0.0.1:PORT -r two.test:2 -r url:3@three.test:3)

	export REMPROXYUSER=env REMPROXYPASS=4
	passfile 'remproxy_user = file\nremproxy_passwd = 2\n'
	told "${way[@]}" -R cli:1 -F passfile
	credentials_are '' '' cli:1
	told "${way[@]}" -F passfile
	credentials_are '' '' file:2
	told "${way[@]}"
	credentials_are '' '' url:3
	told "${THREE[@]}"
	credentials_are '' '' env:4
}

@test "a password is never joined to the user of another proxy" {
	REMPROXYPASS=secret program -p 127.0.0.1:1 -P a -r two.test:2 -d host:22 </dev/null
	status_is 64
	err_has 127.0.0.1:1
	err_lacks secret
	PROXYPASS=secret program -p 127.0.0.1:1 -r two.test:2 -R c -d host:22 </dev/null
	status_is 64
	err_has two.test:2
	passfile 'proxy_passwd = secret\n'
	program -p 127.0.0.1:1 -r b@two.test:2 -r three.test:3 -d host:22 -F passfile </dev/null
	status_is 64
	err_has two.test:2
}

@test "where no_proxy takes the first proxy away, its credentials are told to nobody, and the last one keeps its own" {
	export https_proxy=http://127.0.0.9:1 no_proxy=127.0.0.1 PROXYUSER=a PROXYPASS=1
	start_chain 1 close
	program -r "127.0.0.1:$PORT" -d host:22 </dev/null
	status_is 0
	finished chain
	cmp <(printf 'CONNECT host:22 HTTP/1.1\r\nHost: host:22\r\n\r\n') request1
	start_chain 1 close
	REMPROXYUSER=c REMPROXYPASS=3 program -r "127.0.0.1:$PORT" -d host:22 </dev/null
	status_is 0
	finished chain
	: >request2
	: >request3
	credentials_are c:3 '' ''
}

@test "a 407 of a later proxy asks for its credentials, by its name, and tells them to that one only" {
	cat >askpass <<-'END'
		#!/bin/sh
		echo "$1" >>questions
		case $1 in User*) echo b ;; *) echo 2 ;; esac
	END
	chmod +x askpass
	start_peer chain accept head "send $OK" head 'send HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\n\r\n' eof \
		accept 'log request1' head "send $OK" 'log request2' head "send $OK" 'log request3' head "send ${OK}far" close
	SSH_ASKPASS=$DIR/askpass SSH_ASKPASS_REQUIRE=force \
		program -p "127.0.0.1:$PORT" -P a:1 -r two.test:2222 -r c:3@three.test:3333 host 22 </dev/null
	status_is 0
	out_is far
	finished chain
	credentials_are a:1 b:2 c:3
	[ "$(<questions)" = $'User at two.test:2222: \nPassword for b at two.test:2222: ' ]
}

@test "-R and -X without a -r, and a bad -r, are refused by their names" {
	local words

	for words in '-R c:3' '-X' '-r two.test:x' '-r socks5://two.test:2' '-r a%zz@two.test'; do
		program -p 127.0.0.1:1 $words host 22 </dev/null
		status_is 64
		err_one_line
		err_has "${words%% *}"
	done
}

@test "-R before its -r is about it all the same" {
	start_chain 2 close
	program -p "127.0.0.1:$PORT" -R c:3 -r two.test:2 -d host:22 </dev/null
	status_is 0
	finished chain
	: >request3
	credentials_are '' c:3 ''
}

@test "the secrets of -r, -R and -H are gone from the process list" {
	start_peer silent accept 'touch asked' hold
	start program "$PROXYTUNNEL" -p "127.0.0.1:$PORT" -r user:secret1@two.test:2 -R user:secret2 -H 'X-A: secret3' \
		--remproxy=http://user:secret4@three.test:3 --remproxyauth user:secret5 host 22
	await test -e asked
	tr '\0' '\n' <"/proc/${PIDS[program]}/cmdline" >words
	grep -q two.test:2 words
	! grep secret words || false
}

# --- headers -------------------------------------------------------------------------------

@test "-H goes to the proxy named last before it, else to the first, and to no other" {
	told -H 'X-A: 0' -p 127.0.0.1:PORT -H 'X-A: 1' -r two.test:2 -H 'X-A: 2' -H 'X-B: 2' -r three.test:3 -H 'X-A: 3'
	told_only 1 'X-A: 0'
	told_only 1 'X-A: 1'
	told_only 2 'X-A: 2'
	told_only 2 'X-B: 2'
	told_only 3 'X-A: 3'
	told -r two.test:2 -H 'X-A: 2' -r three.test:3 -p 127.0.0.1:PORT -H 'X-A: 1'
	told_only 2 'X-A: 2'
	told_only 1 'X-A: 1'
}

@test "-H replaces the default header of that name at its proxy only" {
	told "${THREE[@]}" -H 'Host: other' -H 'Proxy-Authorization: Bearer token' -P a:1 -R c:3
	told_only 3 'Host: other'
	told_only 3 'Proxy-Authorization: Bearer token'
	told_only 1 'Host: two.test:2222'
	told_only 2 'Host: three.test:3333'
	! grep 'Basic' request3 || false
}

@test "-o is for the first proxy, wherever it stands" {
	told "${THREE[@]}" -o other
	told_only 1 'Host: other'
	told_only 2 'Host: three.test:3333'
	told_only 3 'Host: host:22'
}

# --- --proxy-command ---------------------------------------------------------------------------

# by_command SCRIPT ARG...: the program, with ./command, which is SCRIPT, as the way to the first proxy.
by_command() {
	command_write "$1"
	program --proxy-command=./command "${@:2}" -d host:22
}

command_write() {
	printf '#!/bin/sh\n%s\n' "$1" >command
	chmod +x command
}

# What a command does that opens the tunnel, and says something there.
OPENS='while read -r line && echo "$line" && [ ${#line} -gt 1 ]; do :; done >request; printf "HTTP/1.1 200 OK\r\n\r\nfar"'

# By rename, so that who waits for the file finds all of it.
TELLS_PID='echo $$ >pid.new; mv pid.new pid'

# What one does that opens the tunnel too, and heeds no end of its stdin; its pid is in the file pid.
OPENS_AND_STAYS="$TELLS_PID; $OPENS; exec sleep 30"

command_gone() {
	[ -s pid ] && ! server_runs "$(<pid)"
}

@test "the first proxy is reached over the stdin and stdout of --proxy-command: exact both ways" {
	local command="'$PEER' -i 'log request' head 'send ${OK}' 'pattern 16M 1 &' 'check 16M 2' join eof"

	drive_command 'pattern 16M 2 &' 'check 16M 1' join half-close eof 'status 0' -- \
		"$PROXYTUNNEL" --proxy-command="$command" -P a:1 host 22
	err_empty
	[ "$(head -n 1 request)" = $'CONNECT host:22 HTTP/1.1\r' ]
	grep -q '^Proxy-Authorization: Basic YTox' request
}

@test "ssh goes by a command to tinyproxy, and on through squid and apache" {
	cat >config <<-END
		ProxyCommand '$PROXYTUNNEL' --proxy-command='socat - TCP:%%h:%%p' -p 127.0.0.1:$TINYPROXY -P one:first \
			-r two:second@127.0.0.1:$SQUID -r three:third@127.0.0.1:$APACHE %h %p
	END
	sed -i -e :a -e '/\\$/N; s/\\\n\t*//; ta' config
	cat "$SERVERS/ssh_config" >>config
	status=0
	limited ssh -F config target 'cat; echo told >&2; exit 7' <<<hello >out 2>err || status=$?
	status_is 7
	out_is 'hello\n'
	[ "$(<err)" = told ]
}

@test "%h, %p and %% in --proxy-command are the proxy's host, its port and a percent sign" {
	command_write "echo \"\$*\" >words; $OPENS"
	program --proxy-command='./command "[%h]" "(%p)" %%h "a  b" $((1+1)) %h%p' -p http://a:1@proxy.test:8080/ -d host:22 </dev/null
	status_is 0
	[ "$(<words)" = '[proxy.test] (8080) %h a  b 2 proxy.test8080' ]
	program --proxy-command='./command %h %p' -p '[2001:db8::1]' -d host:22 </dev/null
	[ "$(<words)" = '2001:db8::1 80' ]
}

@test "an unknown letter behind % in --proxy-command, and %h without a proxy, are refused: 64, nothing is run" {
	local word

	for word in %d % 'x%' %r; do
		program --proxy-command="touch run; $word" -p proxy.test:8080 -d host:22 </dev/null
		status_is 64
		err_one_line
		err_has --proxy-command
	done
	for word in %h %p; do
		program --proxy-command="touch run; $word" -d host:22 </dev/null
		status_is 64
		err_one_line
		err_has -p
	done
	[ ! -e run ]
}

@test "the command is run by the user's shell, as ssh does, and no shell stays" {
	printf '#!/bin/sh\nprintf "%%s\\n" "$@" >words\nexec /bin/sh "$@"\n' >shell
	chmod +x shell
	command_write "readlink /proc/\$PPID/exe >parent; $OPENS"
	SHELL=$DIR/shell program --proxy-command='./command a' -d host:22 </dev/null
	status_is 0
	out_is far
	[ "$(<words)" = $'-c\nexec ./command a' ]
	[ "$(<parent)" = "$(realpath "$PROXYTUNNEL")" ]
	SHELL='' program --proxy-command=./command -d host:22 </dev/null
	status_is 0
	out_is far
	unset SHELL
	program --proxy-command=./command -d host:22 </dev/null
	status_is 0
	out_is far
}

@test "the proxy's name is not resolved, nor anybody connected to, when a command leads there" {
	by_command "$OPENS" -p no-such-proxy.invalid:8080 </dev/null
	status_is 0
	out_is far
	err_empty
}

@test "with a command and no -p, the proxy of the environment is not meant" {
	https_proxy=http://a:1@127.0.0.1:1 by_command "$OPENS" </dev/null
	status_is 0
	out_is far
	cmp <(printf 'CONNECT host:22 HTTP/1.1\r\nHost: host:22\r\n\r\n') request
}

@test "the command's stderr is the user's" {
	by_command "echo one >&2; $OPENS; echo two >&2" </dev/null
	status_is 0
	[ "$(<err)" = $'one\ntwo' ]
	by_command 'echo why >&2; exit 3' -qq </dev/null
	status_is 69
	[ "$(<err)" = why ]
}

@test "a command that ends before the answer is told with its status, whether it read the request or not" {
	local status_wanted i

	for status_wanted in 0 3 255; do
		by_command "exit $status_wanted" -p proxy.test:8080 </dev/null
		status_is 69
		err_one_line
		err_has "proxy.test:8080: the proxy command ended with status $status_wanted before an answer to CONNECT host:22"
		by_command "read -r line; exit $status_wanted" </dev/null
		status_is 69
		err_has "the proxy command ended with status $status_wanted before"
	done
	for i in {1..20}; do
		program --proxy-command=false host 22 </dev/null
		status_is 69
		err_one_line
		err_has 'ended with status 1 before'
	done
}

@test "a command that has ended before there is a request to send is told with its status" {
	status=0
	limited strace -qq -o calls -e trace=sendto -e inject=sendto:delay_enter=200000 \
		"$PROXYTUNNEL" --proxy-command=false host 22 </dev/null 2>err || status=$?
	grep -q EPIPE calls
	status_is 69
	err_one_line
	err_has 'ended with status 1 before'
}

@test "a command that a signal ends before the answer is told with the signal" {
	by_command 'kill -KILL $$' </dev/null
	status_is 69
	err_one_line
	err_has 'the proxy command was ended by signal 9 before an answer to CONNECT host:22'
	by_command 'read -r line; kill -TERM $$' </dev/null
	status_is 69
	err_has 'signal 15'
}

@test "a command that is not there is told as the shell tells it" {
	program --proxy-command='/nowhere/command' host 22 </dev/null
	status_is 69
	err_has /nowhere/command
	err_has 'status 127'
}

@test "a command that shuts its stdout before the answer, and stays, does not outlast the time limit" {
	by_command "$TELLS_PID; exec sleep 30 >&- <&-" -w 1 </dev/null
	[ "$status" -eq 69 ] || status_is 75
	err_one_line
	await command_gone
}

@test "what a command says that is not HTTP, and a refusal it brings, are told as those of the proxy" {
	by_command 'echo SSH-2.0-x' -p proxy.test:8080 </dev/null
	status_is 76
	err_one_line
	err_has 'proxy.test:8080: CONNECT host:22: an answer that is not HTTP: SSH-2.0-x'
	by_command 'read -r line; printf "HTTP/1.1 403 No\r\n\r\n"' -p proxy.test:8080 </dev/null
	status_is 77
	err_has 'proxy.test:8080: CONNECT host:22 refused: 403 No'
	by_command 'read -r line; printf "HTTP/1.1 403 No\r\n\r\n"' </dev/null
	status_is 77
	err_one_line
}

@test "the command ends when the tunnel ends in order" {
	by_command "$TELLS_PID; $OPENS; exec sleep 30 <&- >&-" </dev/null
	status_is 0
	out_is far
	await command_gone
}

@test "the command ends when SIGHUP or SIGTERM ends the tunnel, or the handshake" {
	local name

	command_write "$OPENS_AND_STAYS"
	for name in HUP:129 TERM:143; do
		rm -f pid
		drive_command 'expect far' "signal ${name%:*}" "status ${name#*:} 2000" -- \
			"$PROXYTUNNEL" --proxy-command=./command host 22
		await command_gone
	done
	command_write "$TELLS_PID; exec sleep 30"
	for name in HUP:129 TERM:143 INT:130; do
		rm -f pid
		drive_command 'await pid' "signal ${name%:*}" "status ${name#*:} 2000" -- \
			"$PROXYTUNNEL" --proxy-command=./command host 22
		await command_gone
	done
}

@test "the command ends when the reader of stdout leaves, a refusal comes, or the time is up" {
	command_write "$OPENS_AND_STAYS"
	drive_command 'expect far' close-in 'status 74 1000' -- "$PROXYTUNNEL" --proxy-command=./command host 22
	await command_gone
	rm pid
	by_command "$TELLS_PID; printf 'HTTP/1.1 403 No\r\n\r\n'; exec sleep 30" </dev/null
	status_is 77
	await command_gone
	rm pid
	by_command "$TELLS_PID; exec sleep 30" -w 1 -p proxy.test:8080 </dev/null
	status_is 75
	err_one_line
	err_has 'proxy.test:8080: no answer to CONNECT host:22 within 1 s (-w)'
	await command_gone
}

@test "a Ctrl-C to the process group ends neither a tunnel that stands nor its command" {
	command_write "$OPENS_AND_STAYS"
	# A shell's & has SIGINT ignored.
	start tunnel env --default-signal=INT "$PEER" 'expect far' 'touch up' 'await interrupted' 'idle 100 50' 'signal TERM' 'status 143' -- \
		"$PROXYTUNNEL" --proxy-command=./command host 22
	await test -e up
	# The peer made a session, and so a group, for what it started.
	kill -INT -- "-$(awk '{ print $5 }' "/proc/$(<pid)/stat")"
	server_runs "$(<pid)"
	touch interrupted
	finished tunnel
	await command_gone
}

@test "the command finds no password in its environment, and no socket but its own" {
	export PROXYUSER=a PROXYPASS=secret1 REMPROXYUSER=c REMPROXYPASS=secret2 https_proxy=http://a:secret3@127.0.0.1:1
	by_command "env >environment; ls -l /proc/self/fd >descriptors; ${OPENS%far\"}\"; $OPENS" \
		-p 127.0.0.1:1 -P a:secret4 -r c:secret5@two.test:2 </dev/null
	status_is 0
	grep -q TEST_MARK environment
	! grep "secret[0-9]" environment || false
	[ "$(grep -c socket: descriptors)" -eq 1 ]
}
