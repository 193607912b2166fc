#!/usr/bin/env bats
# Credentials: where they come from, who may see them, and how the user is asked for them.

load helper

PTY=${PTY:-$ROOT/test/bin/pty}
NAMED=${NAMED:-$ROOT/test/bin/named}

OK='HTTP/1.1 200 OK\r\n\r\n'
DENIED='HTTP/1.1 407 Denied\r\nProxy-Authenticate: Basic realm="a"\r\n\r\n'
CTRL_C=$'\x03' CTRL_Z=$'\x1a' CTRL_D=$'\x04' CTRL_BACKSLASH=$'\x1c'
CONT=$(kill -l CONT)

# sends WANT ARG...: with ARG..., where PORT stands for that of the proxy, WANT is what it is given as Basic credentials.
sends() {
	local want=$1

	shift
	start_peer proxy accept 'log request' head "send $OK" close
	program -d host:22 -p 127.0.0.1:PORT "$@" </dev/null
	status_is 0
	finished proxy
	given "$want"
}

# What one request says is WANT, '' for nothing.
given() {
	sed -n 's/^Proxy-Authorization: Basic \(.*\)\r$/\1/p' request >coded
	[ "$(wc -l <coded)" -le 1 ]
	base64 -d <coded >plain
	cmp <(printf %s "$1") plain || {
		cat -v request
		return 1
	}
}

# Instead of the helper's: PORT in a word is that of the proxy.
program() {
	status=0
	limited "$PROXYTUNNEL" "${@//PORT/$PORT}" >out 2>err || status=$?
}

# refused STATUS WORD ARG...: one line with WORD in it, and without what is secret; nobody is connected to.
refused() {
	local want=$1 word=$2

	shift 2
	start_peer proxy accept 'expect the test itself' close
	program -d host:22 -p 127.0.0.1:PORT "$@" </dev/null
	status_is "$want"
	err_one_line
	err_has "$word"
	err_lacks secret
	printf 'the test itself' >"/dev/tcp/127.0.0.1/$PORT"
	finished proxy
}

# passfile TEXT: a file of that, as printf's %b has it, that others cannot read.
passfile() {
	rm -f passfile
	(umask 077 && printf %b "$1" >passfile)
}

# Every byte from 0x20 to 0xff but DEL; those that are given are left out.
all_bytes() {
	local i text=

	for ((i = 0x20; i <= 0xff; i++)); do
		[ "$i" -eq 127 ] || printf -v text "%s\\\\x%02x" "$text" "$i"
	done
	printf %b "$text" | tr -d "$1"
}

percent_encoded() {
	od -An -v -tx1 | tr -d '\n' | tr ' ' %
}

# --- sources ------------------------------------------------------------------

@test "without credentials none are sent" {
	sends ''
}

@test "each source alone: -P, --proxyauth, a passfile, the URL, the environment" {
	passfile 'user:pass\n'
	sends user:pass -P user:pass
	sends user:pass -Puser:pass
	sends user:pass --proxyauth=user:pass
	sends user:pass --proxyauth user:pass
	sends user:pass -F passfile
	sends user:pass --passfile=passfile
	sends user:pass -p user:pass@127.0.0.1:PORT
	sends user:pass -p http://user:pass@127.0.0.1:PORT/
	PROXYUSER=user PROXYPASS=pass sends user:pass
	start_peer proxy accept 'log request' head "send $OK" close
	https_proxy=http://user:pass@127.0.0.1:$PORT program -d host:22 </dev/null
	status_is 0
	finished proxy
	given user:pass
}

@test "the command line goes before the file, the file before the URL, the URL before the environment" {
	export PROXYUSER=env PROXYPASS=4
	passfile 'proxy_user = file\nproxy_passwd = 2\n'
	sends cli:1 -P cli:1 -F passfile -p url:3@127.0.0.1:PORT
	sends file:2 -F passfile -p url:3@127.0.0.1:PORT
	sends url:3 -p url:3@127.0.0.1:PORT
	sends env:4
}

@test "a later source completes an earlier one, but never with the password of another user" {
	passfile 'proxy_passwd = 2\n'
	sends cli:2 -P cli -F passfile
	PROXYPASS=4 sends cli:4 -P cli
	PROXYUSER=cli PROXYPASS=4 sends cli:4 -P cli
	PROXYPASS=4 sends url:4 -p url@127.0.0.1:PORT
	PROXYUSER="env" sends env:2 -F passfile
	PROXYUSER=other PROXYPASS=secret refused 64 cli -P cli
	passfile 'proxy_user = other\nproxy_passwd = secret\n'
	refused 64 cli -P cli -F passfile
}

@test "an empty password is one, and is not asked for" {
	sends user: -P user:
	sends user: -p user:@127.0.0.1:PORT
	PROXYUSER=user PROXYPASS='' sends user:
}

# --- what they may hold ---------------------------------------------------------

@test "every byte but control characters goes through, from every source; a colon in the password" {
	local bytes user

	bytes="x$(all_bytes '')x"
	user="x$(all_bytes :)x"
	[ ${#bytes} -eq 225 ]
	sends "$user:$bytes" -P "$user:$bytes"
	sends "$user:$bytes" -p "$(printf %s "$user" | percent_encoded):$(printf %s "$bytes" | percent_encoded)@127.0.0.1:PORT"
	PROXYUSER=$user PROXYPASS=$bytes sends "$user:$bytes"
	passfile ''
	printf '%s:%s\n' "$user" "$bytes" >passfile
	sends "$user:$bytes" -F passfile
	printf 'proxy_user=%s\nproxy_passwd=%s\n' "$user" "$bytes" >passfile
	sends "$user:$bytes" -F passfile
}

@test "a user and a password of 4 KiB each go through, a byte more is refused, never cut" {
	local user password option

	user=$(printf '%04096d' 1)
	password=$(printf '%04096d' 2)
	passfile "$user:$password\n"
	sends "$user:$password" -P "$user:$password"
	sends "$user:$password" -F passfile
	sends "$user:$password" -p "$user:$password@127.0.0.1:PORT"
	PROXYUSER=$user PROXYPASS=$password sends "$user:$password"
	for option in "-P${user}x:pass" "-Puser:${password}x" "-p${user}x:pass@127.0.0.1:PORT"; do
		refused 64 4096 "$option"
	done
	PROXYUSER=user PROXYPASS=${password}x refused 64 4096
	passfile "user:${password}x\n"
	refused 64 4096 -F passfile
}

@test "the URL is percent-decoded, once; a % that encodes nothing is refused" {
	sends 'us er:p@s:s/%41' -p 'us%20er:p%40s%3as%2F%2541@127.0.0.1:PORT'
	sends 'user:p@ss' -p 'user:p@ss@127.0.0.1:PORT'
	refused 64 127.0.0.1 -p user:secret%@127.0.0.1:PORT
	refused 64 127.0.0.1 -p user:secret%g0@127.0.0.1:PORT
}

@test "a colon in the user is refused, as Basic credentials cannot hold it" {
	refused 64 colon -p us%3aer:secret@127.0.0.1:PORT
	PROXYUSER=us:er PROXYPASS=secret refused 64 colon
	passfile 'proxy_user = us:er\nproxy_passwd = secret\n'
	refused 64 colon -F passfile
}

# --- passfiles ------------------------------------------------------------------

@test "a passfile as a wgetrc: spaces, comments, other lines, CRLF, any case, no end of the last line" {
	passfile '# wget\n\n  proxy_user\t=  joe  \nuse_proxy = on\nPROXY_PASSWD=a b = #c\t\n'
	sends 'joe:a b = #c' -F passfile
	passfile 'proxy_user = joe\r\nproxy_passwd = pass\r\n'
	sends joe:pass -F passfile
	passfile 'proxy_passwd=pass\nproxy_user=joe'
	sends joe:pass -F passfile
}

@test "a passfile of a single line, comments and empty lines aside" {
	passfile 'joe:pa:ss word\n'
	sends 'joe:pa:ss word' -F passfile
	passfile '# mine\r\n\r\njoe:pass\r\n'
	sends joe:pass -F passfile
	passfile 'joe:pass'
	sends joe:pass -F passfile
}

@test "a passfile may be a FIFO" {
	mkfifo -m 600 fifo
	printf 'joe:pass\n' >fifo 3>&- &
	sends joe:pass -F fifo
	err_empty
}

@test "a passfile that others can read gets a warning and is used; -q says nothing; 600 is fine" {
	passfile 'joe:pass\n'
	sends joe:pass -F passfile
	err_empty
	for mode in 644 640 604; do
		chmod "$mode" passfile
		sends joe:pass -F passfile
		err_one_line
		err_has passfile
		err_has 'chmod 600'
	done
	sends joe:pass -q -F passfile
	err_empty
}

@test "UTF-8's mark, CRLF and blanks at the ends are no part of what files and variables say" {
	passfile '\xef\xbb\xbfjoe:pa ss \t\r\n'
	sends 'joe:pa ss' -F passfile
	passfile '\xef\xbb\xbf# mine\r\n\tproxy_user = joe \r\nproxy_passwd=pa=ss\t\r\n'
	sends 'joe:pa=ss' -F passfile
	PROXYUSER=$'joe \r' PROXYPASS=$'pass\r\n' sends joe:pass
}

@test "half of a pair of credentials, and a key that is not known, are said and not dropped in silence" {
	passfile 'proxy_passwd = secret\n'
	sends '' -F passfile
	err_one_line
	err_has 'a password without a user'
	err_lacks secret
	PROXYPASS=secret sends ''
	err_one_line
	err_has 'a password without a user'
	passfile 'proxy_user = joe\nproxy_passwd = pass\nproxy_pasword = secret\n'
	sends joe:pass -F passfile
	err_one_line
	err_has 'not known: proxy_pasword'
	err_lacks secret
	passfile 'proxy_user = joe\nproxy_passwd = pass\ntimeout = 20\n'
	sends joe:pass -F passfile
	err_empty
}

@test "a passfile that cannot be read, or has nothing in it: 66, one line, nobody is connected to" {
	local text

	refused 66 missing -F missing
	mkdir folder
	refused 66 folder -F folder
	for text in '' '# user:secret\n' 'secret\n' 'user:secret\nother:secret\n' 'proxy_username = secret\n' 'user:secret\0\n'; do
		passfile "$text"
		refused 66 passfile -F passfile
	done
	passfile "user:secret\n$(printf '#%065536d' 0)"
	refused 66 passfile -F passfile
}

# --- who may see them -----------------------------------------------------------

# The words of the program have been read by now, and nothing secret is left in what ps shows.
wiped() {
	tr '\0' '\n' <"/proc/${PIDS[program]}/cmdline" >words
	grep -q host:22 words && ! grep -q secret words
}

@test "secrets among the arguments are gone from the process list before even a name is resolved" {
	[ -z "$EMULATED" ] || skip "the arguments are the emulator's"
	FAKE_ADDRESSES=hang start program "$NAMED" -v -P user:secret1 -Puser:secret2 --proxyauth=user:secret3 \
		--proxyauth user:secret4 -vPuser:secret5 -p http://user:secret6@proxy:81 -puser:se@secret7@proxy:82 \
		--proxy=user:secret8@proxy:83 -p secret9@proxy:84 -H 'X-A: secret10' '-HX-A: secret11' --header='X-A: secret12' \
		--header 'Proxy-Authorization: Basic secret13' --proxy-auth=user:secret14 -s secret15 --pass=secret16 host:22
	await wiped || {
		cat words
		return 1
	}
	# What is no secret may stay.
	grep -q '@proxy:81$' words
	grep -q '@proxy:82$' words
	stop program
}

# remembers TEXT: the program has it somewhere in the memory that it may write to.
remembers() {
	local from to rights rest

	while IFS='- ' read -r from to rights rest; do
		[[ $rights == rw* ]] || continue
		dd if="/proc/${PIDS[program]}/mem" bs=4096 skip=$((16#$from / 4096)) count=$((16#$to / 4096 - 16#$from / 4096)) 2>/dev/null
	done <"/proc/${PIDS[program]}/maps" | grep -qaF "$1"
}

# forgets ARG...: what has opened the tunnel, secretword among it, is nowhere in its process once that stands.
forgets() {
	start_peer proxy accept head 'send HTTP/1.1 200 OK\r\n\r\nbanner' hold
	[ -p in ] || mkfifo in
	start program bash -c 'exec "$@" <>in' - "$PROXYTUNNEL" -d host:22 -p "127.0.0.1:$PORT" "${@//PORT/$PORT}"
	await grep -q banner program.out
	remembers host:22
	! remembers secretword || return 1
	! remembers "$(printf user:secretword | base64)" || return 1
	stop program
	stop proxy
}

@test "once the tunnel stands, nothing that is secret is left in the memory of its process, whatever it came from" {
	[ -z "$EMULATED$SANITIZED" ] || skip 'the memory is also that of another program'
	passfile 'user:secretword\n'
	forgets -P user:secretword
	forgets -F passfile
	forgets -p user:secretword@127.0.0.1:PORT
	PROXYUSER=user PROXYPASS=secretword forgets
	https_proxy=http://user:secretword@127.0.0.1:1 forgets -P user:secretword
	forgets -H "Proxy-Authorization: Basic $(printf user:secretword | base64)"
}

@test "a crash leaves no core file, by a limit that core_pattern's programs keep too" {
	start_peer proxy accept head hold
	(ulimit -S -c unlimited && exec "$PROXYTUNNEL" -d host:22 -p "127.0.0.1:$PORT") </dev/null >out 2>err 3>&- &
	PIDS[program]=$!
	await grep -q '^Max core file size  *1 ' "/proc/${PIDS[program]}/limits"
	stop program
	stop proxy
}

@test "-v shows no secret: not those of any source, nor what is sent of them" {
	local secret

	secret=$(printf user:secretword | base64)
	passfile 'user:secretword\n'
	sends user:secretword -v -P user:secretword -H 'X-Token: secretword'
	err_has 'Proxy-Authorization: ***'
	err_lacks secretword
	err_lacks "$secret"
	sends user:secretword -v -F passfile
	err_lacks secretword
	err_lacks "$secret"
	sends user:secretword -v -p user:secretword@127.0.0.1:PORT
	err_lacks secretword
	err_lacks "$secret"
	PROXYUSER=user PROXYPASS=secretword sends user:secretword -v
	err_lacks secretword
	err_lacks "$secret"
}

# --- what a 407 is told with ----------------------------------------------------

# told SCHEMES ARG...: by a 407 that offers them, status 77, one line.
told() {
	local scheme schemes=

	for scheme in $1; do
		schemes+="Proxy-Authenticate: $scheme realm=\"a, b\"\r\n"
	done
	shift
	start_peer proxy accept head "send HTTP/1.1 407 Denied\r\n$schemes\r\n" close
	program -d host:22 -p 127.0.0.1:PORT "$@" </dev/null
	status_is 77
	err_one_line
	err_has "127.0.0.1:$PORT: CONNECT host:22 refused: 407 Denied"
	finished proxy
}

@test "a 407 without credentials: what it offers, and the options to try" {
	told 'Basic Negotiate'
	err_has 'Basic, Negotiate'
	err_has -P
	err_has -F
}

@test "a 407 that offers only what is not spoken here: a local authenticating proxy can be the first hop" {
	for scheme in Digest 'Digest Bearer'; do
		told "$scheme"
		err_has "${scheme/ /, }"
		err_has cntlm
		err_has px
		told "$scheme" -P user:pass
		err_has cntlm
	done
	for scheme in NTLM 'NTLM Basic' 'Digest NTLM'; do
		told "$scheme"
		err_lacks cntlm
		err_has -P
	done
}

@test "a 407 to credentials: they are not taken, and the password is not shown" {
	told Basic -P joe:secret
	err_has joe
	err_has Basic
	err_lacks secret
}

@test "a 407 that offers nothing says so" {
	told ''
	err_has 'no way'
}

# --- the question at a terminal -------------------------------------------------

# at_terminal [PTY-OPTION...] STEP... -- OPTION...: a user at a terminal starts it, with the test's stdin.
at_terminal() {
	local words=()

	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	"$PTY" -l screen "${words[@]}" -- "$PROXYTUNNEL" -d host:22 -p "127.0.0.1:$PORT" "$@" >out 2>err 3>&- || {
		cat -v screen err
		return 1
	}
}

# How often TEXT was on the terminal's screen.
on_screen() {
	grep -oF -e "$1" screen | wc -l
}

@test "a user without a password is asked for it, with the echo off, and stdin is left to the tunnel" {
	start_peer proxy accept 'log request' head "send ${OK}far" 'expect up' eof close
	at_terminal 'expect Password for joe at' 'expect : ' 'echo off' $'type secret word\n' 'status 0' 'echo on' \
		-- -P joe < <(printf up)
	finished proxy
	given 'joe:secret word'
	out_is far
	err_empty
	[ "$(on_screen secret)" -eq 0 ]
	grep -q "127.0.0.1:$PORT" screen
}

@test "the password is asked for before anyone is connected to, whatever source names the user" {
	passfile 'proxy_user = joe\n'
	for option in -Pjoe -Fpassfile -vpjoe@127.0.0.1:PORT; do
		start_peer proxy accept 'log request' head "send $OK" close
		at_terminal 'expect Password for joe at' $'type secret\n' 'status 0' -- "${option/PORT/$PORT}" </dev/null
		finished proxy
		given joe:secret
	done
}

@test "a typed password may hold any byte and a thousand of them" {
	local bytes

	bytes="$(all_bytes '')$(printf '%01000d' 0)"
	start_peer proxy accept 'log request' head "send $OK" close
	at_terminal 'expect Password for joe at' "type $bytes"$'\n' 'status 0' 'echo on' -- -P joe </dev/null
	finished proxy
	given "joe:$bytes"
}

@test "the echo is restored when a signal ends the question, and the signal ends the program" {
	local way

	start_peer proxy accept 'expect the test itself' close
	for way in "type $CTRL_C;130" "type $CTRL_BACKSLASH;131" 'signal 15;143' 'signal 1;129' 'signal 2;130' 'signal 3;131'; do
		echo "$way" | cat -v
		(
			ulimit -c 0
			at_terminal 'expect Password' 'echo off' "${way%;*}" "status ${way#*;}" 'echo on' -- -P joe </dev/null
		)
	done
	printf 'the test itself' >"/dev/tcp/127.0.0.1/$PORT"
	finished proxy
}

@test "stopped at the question, the echo is back; continued, it asks again with the echo off" {
	start_peer proxy accept 'log request' head "send $OK" close
	at_terminal 'expect Password' 'echo off' asleep "type half$CTRL_Z" stopped 'echo on' "signal $CONT" 'expect Password' 'echo off' \
		$'type secret\n' 'status 0' 'echo on' -- -P joe </dev/null
	finished proxy
	given joe:secret
	start_peer proxy accept 'log request' head "send $OK" close
	at_terminal 'expect Password' asleep "type $CTRL_Z" stopped "signal $CONT" 'expect Password' 'echo off' \
		"type $CTRL_C" 'status 130' 'echo on' -- -P joe </dev/null
	stop proxy
}

@test "an end of file is no answer: one line, the echo is on, nobody is connected to" {
	start_peer proxy accept 'expect the test itself' close
	at_terminal 'expect Password' "type $CTRL_D" 'status 64' 'echo on' -- -P joe </dev/null
	err_one_line
	err_has joe
	printf 'the test itself' >"/dev/tcp/127.0.0.1/$PORT"
	finished proxy
}

@test "a 407 that offers Basic asks for user and password, and tries again on a new connection" {
	start_peer proxy accept head "send $DENIED" eof accept 'log request' head "send ${OK}far" 'expect up' eof close
	at_terminal 'expect User at' 'echo on' $'type joe\n' 'expect Password for joe at' 'echo off' $'type secret\n' \
		'status 0' 'echo on' -- < <(printf up)
	finished proxy
	given joe:secret
	out_is far
	err_empty
	[ "$(on_screen joe)" -ge 1 ]
	[ "$(on_screen secret)" -eq 0 ]
}

@test "it asks once: a second 407 is final, 77" {
	start_peer proxy accept head "send $DENIED" eof accept head "send $DENIED" eof
	at_terminal 'expect User at' $'type joe\n' 'expect Password for joe at' $'type secret\n' 'status 77' 'echo on' -- </dev/null
	finished proxy
	[ "$(on_screen User)" -eq 1 ]
	[ "$(on_screen Password)" -eq 1 ]
	err_one_line
	err_has joe
	err_lacks secret
}

@test "credentials that the proxy does not take are not asked for again: 77" {
	start_peer proxy accept head "send $DENIED" eof
	at_terminal 'status 77' -- -P joe:secret </dev/null
	finished proxy
	[ ! -s screen ]
	start_peer proxy accept head "send $DENIED" eof
	at_terminal 'expect Password' $'type secret\n' 'status 77' -- -P joe </dev/null
	finished proxy
	[ "$(on_screen User)" -eq 0 ]
	[ "$(on_screen Password)" -eq 1 ]
}

@test "credentials in a -H of the user's are not asked for either: 77" {
	start_peer proxy accept head "send $DENIED" eof
	at_terminal 'status 77' -- -H 'Proxy-Authorization: Bearer abc' </dev/null
	finished proxy
	[ ! -s screen ]
}

@test "a 407 that does not offer Basic asks nothing: 77" {
	start_peer proxy accept head 'send HTTP/1.1 407 Denied\r\nProxy-Authenticate: NTLM\r\n\r\n' eof
	at_terminal 'status 77' -- </dev/null
	finished proxy
	[ ! -s screen ]
}

@test "nothing is asked from a background process group, nor is it stopped there" {
	start_peer proxy accept head "send $DENIED" eof
	at_terminal -b 'status 77' -- </dev/null
	finished proxy
	[ ! -s screen ]
	err_one_line
	at_terminal -b 'status 64' -- -P joe </dev/null
	[ ! -s screen ]
	err_one_line
}

@test "without a terminal nothing is asked: one line, and no reader of stdin is robbed" {
	printf 'for the next one\n' >input
	start_peer proxy accept head "send $DENIED" eof
	{
		program -d host:22 -p 127.0.0.1:PORT
		cat >rest
	} <input
	status_is 77
	err_one_line
	cmp input rest
	finished proxy
	refused 64 joe -P joe
}

@test "the time limit stands still while the question waits, and goes on behind it" {
	start_peer proxy accept head "send $DENIED" eof accept head hold
	at_terminal 'expect User at' 'pause 600' $'type joe\n' 'expect Password' 'pause 600' $'type secret\n' \
		'status 75' 'echo on' -- -w 1 </dev/null
	err_one_line
	err_has "CONNECT host:22"
}

# --- SSH_ASKPASS ----------------------------------------------------------------

# askpass COMMANDS: the program that asks in place of a terminal; what it was asked is in asked.
askpass() {
	printf '#!/bin/sh\nprintf "%%s\\n" "$*" >>asked\n%s\n' "$1" >ask
	chmod 700 ask
	export SSH_ASKPASS=$DIR/ask
	rm -f asked
}

# asks_program [at] ARG...: it is what asks, without a terminal or at one.
asks_program() {
	rm -f asked
	start_peer proxy accept 'log request' head "send $OK" close
	if [ "$1" = at ]; then
		at_terminal 'status 0' -- -P joe </dev/null
		[ ! -s screen ]
	else
		program -d host:22 -p 127.0.0.1:PORT -P joe </dev/null
		status_is 0
	fi
	finished proxy
	given joe:secret
	[ "$(wc -l <asked)" -eq 1 ]
	grep -qF "Password for joe at 127.0.0.1:$PORT" asked
}

asks_terminal() {
	rm -f asked
	start_peer proxy accept 'log request' head "send $OK" close
	at_terminal 'expect Password' $'type typed\n' 'status 0' -- -P joe </dev/null
	finished proxy
	given joe:typed
	[ ! -e asked ]
}

asks_nobody() {
	rm -f asked
	refused 64 joe -P joe
	[ ! -e asked ]
}

@test "SSH_ASKPASS asks where there is a display and no terminal, and only there" {
	askpass 'echo secret'
	DISPLAY=:0 asks_program
	WAYLAND_DISPLAY=wayland-0 asks_program
	DISPLAY=:0 asks_terminal
	asks_terminal
	asks_nobody
	DISPLAY='' asks_nobody
}

@test "SSH_ASKPASS_REQUIRE=force: it asks, display and terminal or not" {
	askpass 'echo secret'
	export SSH_ASKPASS_REQUIRE=force
	asks_program
	asks_program at
	DISPLAY=:0 asks_program at
}

@test "SSH_ASKPASS_REQUIRE=prefer: it goes before the terminal where there is a display" {
	askpass 'echo secret'
	export SSH_ASKPASS_REQUIRE=prefer
	DISPLAY=:0 asks_program
	DISPLAY=:0 asks_program at
	asks_terminal
	asks_nobody
}

@test "SSH_ASKPASS_REQUIRE=never: it does not ask" {
	askpass 'echo secret'
	export SSH_ASKPASS_REQUIRE=never
	DISPLAY=:0 asks_terminal
	DISPLAY=:0 asks_nobody
}

@test "without SSH_ASKPASS it is ssh-askpass, from the PATH" {
	askpass 'echo secret'
	unset SSH_ASKPASS
	mv ask ssh-askpass
	PATH=$DIR:$PATH DISPLAY=:0 asks_program
}

@test "a 407 asks there for user and password, one by one" {
	askpass 'case $1 in User*) echo joe ;; *) echo secret ;; esac'
	start_peer proxy accept head "send $DENIED" eof accept 'log request' head "send ${OK}far" 'expect up' eof close
	DISPLAY=:0 program -d host:22 -p 127.0.0.1:PORT < <(printf up)
	status_is 0
	out_is far
	err_empty
	finished proxy
	given joe:secret
	[ "$(wc -l <asked)" -eq 2 ]
}

@test "what it is not answered is no answer: a status other than 0, nothing, too much" {
	local way

	export DISPLAY=:0
	for way in 'echo secret; exit 1' 'echo secret; kill -TERM $$' "printf '%05000d' 0"; do
		askpass "$way"
		refused 64 joe -P joe
		start_peer proxy accept head "send $DENIED" eof
		program -d host:22 -p 127.0.0.1:PORT </dev/null
		status_is 77
		err_lacks secret
		finished proxy
	done
	SSH_ASKPASS=$DIR/missing program -d host:22 -p 127.0.0.1:PORT -P joe </dev/null
	status_is 64
	err_has "$DIR/missing"
}

@test "a terminal whose echo cannot be put off is not asked at: 64" {
	start_peer proxy accept 'expect the test itself' close
	"$PTY" -l screen 'status 64' -- strace -qq -o /dev/null -e trace=ioctl -e inject=ioctl:error=EIO:when=2+ \
		"$PROXYTUNNEL" -d host:22 -p "127.0.0.1:$PORT" -P joe >out 2>err </dev/null
	err_has 'no answer to the question'
	stop proxy
}

@test "an empty user without a password is none: nothing is sent, and nobody is asked" {
	start_peer proxy accept 'log request' head 'send HTTP/1.1 200 OK\r\n\r\n' close
	program -d host:22 -p @127.0.0.1:PORT </dev/null
	status_is 0
	finished proxy
	given ''
}

@test "its answer is taken though the caller has SIGCHLD ignored" {
	askpass 'echo secret'
	start_peer proxy accept 'log request' head "send $OK" close
	DISPLAY=:0 limited env --ignore-signal=CHLD "$PROXYTUNNEL" -d host:22 -p "127.0.0.1:$PORT" -P joe </dev/null
	finished proxy
	given joe:secret
}

@test "an answer of 4 KiB is taken, and its end of line is not a part of it" {
	local long

	long=$(printf '%04096d' 1)
	start_peer proxy accept 'log request' head "send $OK" close
	askpass "printf '%04096d\n' 1"
	DISPLAY=:0 program -d host:22 -p 127.0.0.1:PORT -P joe </dev/null
	status_is 0
	finished proxy
	given "joe:$long"
}

@test "the time limit stands still while it asks" {
	askpass 'case $1 in User*) sleep 1.3; echo joe ;; *) echo secret ;; esac'
	start_peer proxy accept head "send $DENIED" eof accept 'log request' head "send $OK" close
	DISPLAY=:0 program -w 1 -d host:22 -p 127.0.0.1:PORT </dev/null
	status_is 0
	finished proxy
	given joe:secret
}

@test "what it starts inherits no password, no connection, and not the tunnel's bytes" {
	askpass 'env >environment; cat >stolen; ls -l /proc/self/fd >descriptors; echo joe'
	export DISPLAY=:0 PROXYPASS=hidden1 https_proxy=http://user:hidden2@127.0.0.9:1
	export HTTP_PROXY=http://user:hidden3@127.0.0.9:1 all_proxy=http://127.0.0.9:1
	start_peer proxy accept head "send $DENIED" eof accept 'log request' head "send $OK" 'expect up' eof close
	program -d host:22 -p 127.0.0.1:PORT < <(printf up)
	status_is 0
	finished proxy
	given joe:hidden1
	grep -q '^DISPLAY=' environment
	! grep hidden environment || false
	grep -q '^all_proxy=http://127.0.0.9:1$' environment
	[ ! -s stolen ]
	[ -s descriptors ]
	! grep ' [1-9][0-9]* -> socket:' descriptors || false
}

# --- those of a relay ----------------------------------------------------------------------

NOT_YOU='HTTP/1.1 401 Not you\r\nTunnel-Relay: 2\r\nWWW-Authenticate: Basic realm="a"\r\n\r\n'
FORBIDDEN='HTTP/1.1 403 No\r\nTunnel-Relay: 2\r\n\r\n'

# What one request says to the relay is WANT, '' for nothing.
given_relay() {
	sed -n 's/^Authorization: Basic \(.*\)\r$/\1/p' request >coded
	[ "$(wc -l <coded)" -le 1 ]
	base64 -d <coded >plain
	cmp <(printf %s "$1") plain || {
		cat -v request
		return 1
	}
}

# relayed WANT ARG...: with ARG..., where PORT stands for that of the relay, WANT is what it is given; no proxy's credentials.
relayed() {
	local want=$1

	shift
	start_peer relay accept 'log request' head 'expect host:22' "send $FORBIDDEN" close
	program -d host:22 --relay http://127.0.0.1:PORT/t "$@" </dev/null
	status_is 77
	finished relay
	given_relay "$want"
	given ''
}

# refused_relay WORD ARG...: 64, one line with WORD in it, and without what is secret; nobody is connected to.
refused_relay() {
	local word=$1

	shift
	start_peer relay accept 'expect the test itself' close
	program -d host:22 --relay http://127.0.0.1:PORT/t "$@" </dev/null
	status_is 64
	err_one_line
	err_has "$word"
	err_lacks secret
	printf 'the test itself' >"/dev/tcp/127.0.0.1/$PORT"
	finished relay
}

# The relay is named once more, behind what relayed and refused_relay say.
relay_url() {
	printf %s "--relay=http://$1@127.0.0.1:PORT/t"
}

@test "for a relay, each source alone: the URL, a passfile's relay_user, the environment; those of proxies are none" {
	relayed ''
	relayed user:pass "$(relay_url user:pass)"
	passfile 'relay_user = user\nrelay_passwd = pass\n'
	relayed user:pass -F passfile
	passfile 'RELAY_USER=user\r\nrelay_password=pass\r\nproxy_user = other\nproxy_passwd = 1\nremproxy_user = other\nremproxy_passwd = 1\n'
	relayed user:pass -F passfile
	RELAYUSER=user RELAYPASS=pass relayed user:pass
	passfile 'user:pass\n'
	relayed user:pass -F passfile
	passfile 'proxy_user = user\nproxy_passwd = pass\n'
	relayed '' -F passfile
	PROXYUSER=user PROXYPASS=pass REMPROXYUSER=user REMPROXYPASS=pass relayed ''
}

@test "a line user:password in a passfile is the relay's without a proxy; with one, nobody is sent it, and what to write is said: 66" {
	passfile 'user:secret\n'
	relayed user:secret -F passfile
	start_peer proxy accept 'expect the test itself' close
	program -d host:22 -p "127.0.0.1:$PORT" --relay http://relay.test/t -F passfile </dev/null
	status_is 66
	err_one_line
	err_has 'passfile: is that for the proxy or for the relay?'
	err_has relay_user
	err_lacks secret
	printf 'the test itself' >"/dev/tcp/127.0.0.1/$PORT"
	finished proxy
}

@test "for a relay too, the file goes before the URL, that before the environment; a later source completes an earlier one" {
	export RELAYUSER=env RELAYPASS=4
	passfile 'relay_user = file\nrelay_passwd = 2\n'
	relayed file:2 -F passfile "$(relay_url url:3)"
	relayed url:3 "$(relay_url url:3)"
	relayed env:4
	unset RELAYUSER
	relayed url:4 "$(relay_url url)"
	passfile 'relay_passwd = 2\n'
	relayed url:2 -F passfile "$(relay_url url)"
	RELAYUSER=other RELAYPASS=secret refused_relay url "$(relay_url url)"
	relayed user: "$(relay_url user:)"
}

@test "every byte but control characters goes to a relay, from every source; 4 KiB each, and a byte more is refused" {
	local bytes user long

	bytes="x$(all_bytes '')x"
	user="x$(all_bytes :)x"
	relayed "$user:$bytes" "$(relay_url "$(printf %s "$user" | percent_encoded):$(printf %s "$bytes" | percent_encoded)")"
	RELAYUSER=$user RELAYPASS=$bytes relayed "$user:$bytes"
	passfile ''
	printf 'relay_user=%s\nrelay_passwd=%s\n' "$user" "$bytes" >passfile
	relayed "$user:$bytes" -F passfile
	long=$(printf '%04096d' 1)
	relayed "$long:$long" "$(relay_url "$long:$long")"
	refused_relay 4096 "$(relay_url "${long}x:secret")"
	RELAYUSER=user RELAYPASS=${long}x refused_relay 4096
}

@test "a relay's credentials with a control character, a colon in the user, a % that encodes nothing: 64, by the name of the source" {
	RELAYUSER=$'us\ner' RELAYPASS=secret refused_relay RELAYUSER
	RELAYUSER=user RELAYPASS=$'secret\x7f' refused_relay RELAYPASS
	RELAYUSER=us:er RELAYPASS=secret refused_relay RELAYUSER
	refused_relay --relay "$(relay_url user:secret%0a)"
	refused_relay colon "$(relay_url us%3aer:secret)"
	refused_relay --relay "$(relay_url user:secret%zz)"
	passfile 'relay_user = us:er\nrelay_passwd = secret\n'
	refused_relay passfile -F passfile
}

@test "the secrets of a relay's URL, and of -H behind it, are gone from the process list before even a name is resolved" {
	[ -z "$EMULATED" ] || skip "the arguments are the emulator's"
	FAKE_ADDRESSES=hang start program "$NAMED" -v --relay http://user:secret1@relay:81/t --relay=user:se@secret2@relay:82/t \
		-H 'X-A: secret3' --relay=http://user:secret4@relay:83 -d host:22
	await wiped || {
		cat words
		return 1
	}
	grep -q '@relay:81/t$' words
	grep -q '@relay:82/t$' words
	stop program
}

@test "-v shows no secret of a relay's, of whatever source" {
	local secret

	secret=$(printf user:secretword | base64)
	relayed user:secretword -v "$(relay_url user:secretword)" -H 'X-Token: secretword'
	err_has 'Authorization: ***'
	err_lacks secretword
	err_lacks "$secret"
	RELAYUSER=user RELAYPASS=secretword relayed user:secretword -v
	err_lacks secretword
	err_lacks "$secret"
}

@test "a 401 of the relay: with no credentials it says where to give them, with some that they are not taken" {
	start_peer relay accept head 'expect host:22' "send $NOT_YOU" close
	program -d host:22 --relay http://127.0.0.1:PORT/t </dev/null
	status_is 77
	err_one_line
	err_has 'refused by the relay: 401 Not you'
	err_has relay_user
	finished relay
	start_peer relay accept head 'expect host:22' "send $NOT_YOU" close
	program -d host:22 --relay http://joe:secret@127.0.0.1:PORT/t </dev/null
	status_is 77
	err_one_line
	err_has 'does not take these credentials'
	err_lacks secret
	finished relay
}

# at_terminal_relay STEP... -- OPTION...: as at_terminal, by the relay on PORT.
at_terminal_relay() {
	local words=()

	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	"$PTY" -l screen "${words[@]}" -- "$PROXYTUNNEL" -d host:22 --relay "http://127.0.0.1:$PORT/t" "${@//PORT/$PORT}" </dev/null >out 2>err 3>&- || {
		cat -v screen err
		return 1
	}
}

@test "a relay's user without a password is asked for it before anyone is connected to, whatever source names the user" {
	passfile 'relay_user = joe\n'
	for option in "$(relay_url joe)" -Fpassfile; do
		start_peer relay accept 'log request' head 'expect host:22' "send $FORBIDDEN" close
		at_terminal_relay 'expect Password for joe at' 'expect : ' 'echo off' $'type secret word\n' 'status 77' 'echo on' -- "$option"
		finished relay
		given_relay 'joe:secret word'
		[ "$(on_screen secret)" -eq 0 ]
		grep -q "127.0.0.1:$PORT" screen
	done
	refused_relay joe "$(relay_url joe)"
}

@test "a 401 of the relay asks for user and password, once, and tries again on a new connection" {
	start_peer relay accept head 'expect host:22' "send $NOT_YOU" eof accept 'log request' head 'expect host:22' "send $NOT_YOU" eof
	at_terminal_relay 'expect User at' 'echo on' $'type joe\n' 'expect Password for joe at' 'echo off' $'type secret\n' \
		'status 77' 'echo on' --
	finished relay
	given_relay joe:secret
	[ "$(on_screen User)" -eq 1 ]
	[ "$(on_screen Password)" -eq 1 ]
	[ "$(on_screen secret)" -eq 0 ]
	err_one_line
	err_has 'does not take these credentials'
	err_lacks secret
}

@test "a 401 to known credentials, or to those of a -H, asks nothing: 77" {
	start_peer relay accept head 'expect host:22' "send $NOT_YOU" close
	at_terminal_relay 'status 77' -- "$(relay_url joe:secret)"
	finished relay
	[ ! -s screen ]
	start_peer relay accept head 'expect host:22' "send $NOT_YOU" close
	at_terminal_relay 'status 77' -- -H 'Authorization: Bearer abc'
	finished relay
	[ ! -s screen ]
}

@test "a 407 of the proxy asks for the proxy's, a 401 behind it for the relay's; each is told to the one that asked" {
	start_peer relay accept head 'expect host:22' "send $DENIED" eof accept 'log request1' head 'expect host:22' "send $NOT_YOU" eof \
		accept 'log request' head 'expect host:22' "send $FORBIDDEN" eof
	at_terminal_relay "expect User at 127.0.0.1:$PORT" $'type joe\n' 'expect Password for joe at' $'type proxys\n' \
		'expect User at relay.test:80' $'type ann\n' 'expect Password for ann at relay.test:80' $'type relays\n' \
		'status 77' 'echo on' -- --relay http://relay.test/t -p 127.0.0.1:PORT
	finished relay
	given joe:proxys
	given_relay ann:relays
	mv request1 request
	given joe:proxys
	given_relay ''
}

@test "nobody is asked once the session stands: a 401 in its midst breaks the tunnel, 74" {
	start_peer relay accept head 'expect host:22' 'send HTTP/1.1 201 Created\r\nTunnel-Relay: 2\r\nContent-Length: 0\r\n\r\n' \
		loop head "send $NOT_YOU" close
	at_terminal_relay 'status 74' --
	[ ! -s screen ]
	err_has 401
	stop relay
}

@test "what it starts inherits no password of a relay's" {
	export SHELL=/bin/sh
	RELAYUSER=user RELAYPASS=hidden relayed user:hidden --proxy-command="sh -c 'env >environment; exec socat - TCP:127.0.0.1:PORT'"
	grep -q '^RELAYUSER=' environment
	! grep hidden environment || false
}

@test "an askpass ends with us, whatever signal ends us" {
	local name

	printf '#!/bin/sh\necho $$ >pid\nexec sleep 60\n' >ask
	chmod +x ask
	for name in TERM:143 HUP:129; do
		rm -f pid
		start ours env SSH_ASKPASS="$DIR/ask" SSH_ASKPASS_REQUIRE=force \
			setsid "$PROXYTUNNEL" -p joe@127.0.0.1:1 host:22
		await test -s pid
		kill "-${name%:*}" "${PIDS[ours]}"
		finished ours "${name#*:}"
		await asker_gone
	done
}

# The askpass has ended, whoever waits for it.
asker_gone() {
	local state

	read -r _ _ state _ <"/proc/$(<pid)/stat" || return 0
	[ "$state" = Z ]
}
