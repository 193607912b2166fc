#!/usr/bin/env bats
# The server: for whom, where to, how it answers, what it withstands, and what it says of it.

load helper
load heads

NAMED=${NAMED:-$ROOT/test/bin/named}

GRANTED='expect HTTP/1.1 200 Connection established\r\n\r\n'

# What happens at once takes no longer, in milliseconds.
SOON=700

setup_file() {
	servers_begin
	certificates_make
	start_sshd
	export SSHD=$PORT
	start_web
	export HTTPS=$PORT
}

teardown_file() {
	servers_end
}

# A web server with TLS.
start_web() {
	setsid "$PEER" -p "$SERVERS/web.port" loop head 'send HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello' close \
		>/dev/null 2>&1 3>&- &
	: >"$SERVERS/pids/$!"
	await test -s "$SERVERS/web.port"
	start_stunnel localhost "$(<"$SERVERS/web.port")"
}

# serve OPTION...: the server; sets SERVER to its port. With FAKE_ADDRESSES all names have those, see named.c.
serve() {
	local program=$PROXYTUNNEL

	[ -z "${FAKE_ADDRESSES:-}" ] || program=$NAMED
	start_listener server "$program" --serve -a 0 "$@"
	SERVER=$PORT
}

# start_far [OPTION...] [STEP...]: a destination that says far to whoever says up, and leaves the file reached. Sets FAR.
start_far() {
	[ $# -gt 0 ] || set -- loop 'touch reached' 'expect up' 'send far' close
	start_peer far "$@"
	FAR=$PORT
}

# connects TARGET [FIELDS]: the step that asks for it.
connects() {
	echo "send CONNECT $1 HTTP/1.1\r\nHost: $1\r\n${2:-}\r\n"
}

# ask STEP...: a client of the server, to its end; what it was told is in reply.
ask() {
	: >reply
	"$PEER" -c "$SERVER" -t "${ASK_LIMIT:-10}" 'log reply' "$@" sink 2>asked 3>&- || {
		cat asked
		return 1
	}
}

# answered STATUS [REASON]: so was the last who asked, in a whole answer, and with nothing behind it.
answered() {
	local line length

	IFS= read -r line <reply || true
	length=$(sed -n 's/^Content-Length: \([0-9]*\)\r$/\1/p' reply)
	# shellcheck disable=SC2027
	if [[ $line == "HTTP/1.1 "$1" "*"${2:-}"*$'\r' ]] && grep -q $'^Connection: close\r$' reply &&
		[ "$(sed '1,/^\r$/d' reply | wc -c)" = "${BODY_LENGTH:-$length}" ] && [ "$length" -gt 1 ]; then
		return
	fi
	echo "not a whole answer of $1 ${2:-}:"
	cat -v reply
	return 1
}

# refuses STATUS TARGET [FIELDS]: who asks for it is answered so, and gets nowhere.
refuses() {
	ask "$(connects "$2" "${3:-}")" && answered "$1" && [ ! -e reached ] || {
		echo "$2 should have been refused"
		return 1
	}
}

# reaches TARGET [FIELDS]: a tunnel leads from there to far.
reaches() {
	ask "$(connects "$1" "${2:-}")up" && cmp reply <(printf 'HTTP/1.1 200 Connection established\r\n\r\nfar') || {
		echo "$1 should have been reached:"
		cat -v reply
		return 1
	}
	rm -f reached
}

# logs PATTERN: a line of the server's log is that, sooner or later; * is anything.
logs() {
	await has_logged "$1" || {
		cat -v server.err
		return 1
	}
}

has_logged() {
	local line

	while IFS= read -r line; do
		# shellcheck disable=SC2053
		[[ $line != "proxytunnel: "$1 ]] || return 0
	done <server.err
	return 1
}

# Clients that it has: the sockets of its port that a process holds. A child that waits for a client holds none.
clients_are() {
	[ "$(awk -v port="$(printf ':%04X' "$SERVER")" \
		'substr($2, length($2) - 4) == port && $4 != "0A" && $10 != 0' /proc/net/tcp /proc/net/tcp6 2>/dev/null | wc -l)" -eq "$1" ]
}

accounts() {
	printf '%b' "$1" >accounts
	chmod 600 accounts
}

# proxy_authorization USER:PASSWORD: the field, with them as printf's %b has them.
proxy_authorization() {
	echo "Proxy-Authorization: Basic $(printf %b "$1" | base64 -w 0)\r\n"
}

# serve_unprivileged OPTION...: the same server, but as nobody from the start, if root runs this; behind LAYOUT, a command, if set.
serve_unprivileged() {
	UNPRIVILEGED=()
	[ "$(id -u)" -ne 0 ] || UNPRIVILEGED=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	install -m 755 "$PROXYTUNNEL" "$SERVERS"	# where nobody gets at it
	start_listener server "${LAYOUT[@]}" "${UNPRIVILEGED[@]}" "$SERVERS/proxytunnel" --serve -a 0 "$@"
	SERVER=$PORT
}

needs_ipv6() {
	[ -e /proc/net/if_inet6 ] && grep -q '^0\{31\}1 ' /proc/net/if_inet6 || skip 'no IPv6 loopback here'
}

# --- whom it serves: the clients of others -----------------------------------------------

# carries COMMAND...: it gets a tunnel to far, through one server that wants no credentials.
carries() {
	start_far
	serve --allow "127.0.0.1:$FAR"
	drives "$@"
	logs "127.0.0.1:* to 127.0.0.1:$FAR: *, 2 bytes up, 3 down, *.??? s"
}

# carries_with_credentials COMMAND...: the same through one that wants those of the account open, with the password sesame.
carries_with_credentials() {
	accounts 'other:thing\nopen:sesame\n'
	start_far
	serve --allow "127.0.0.1:$FAR" -F accounts
	refuses 407 "127.0.0.1:$FAR"
	drives "$@"
	logs "127.0.0.1:* to 127.0.0.1:$FAR: *, 2 bytes up, 3 down, *.??? s"
}

# drives COMMAND...: with SERVER and FAR in its words for their ports.
drives() {
	local words=("${@//SERVER/$SERVER}")

	drive_command 'send up' 'expect far' -- "${words[@]//FAR/$FAR}"
}

@test "curl fetches over HTTPS through it" {
	serve --allow "localhost:$HTTPS"
	limited curl -sS -x "http://127.0.0.1:$SERVER" --cacert "$TLS_DIR/ca.crt" "https://localhost:$HTTPS/" >out
	out_is hello
	logs "127.0.0.1:* to localhost:$HTTPS: *, * bytes up, * down, *.??? s"
}

@test "curl fetches through it with credentials; with wrong ones it shows 407 and the reason" {
	accounts 'open:sesame\n'
	serve --allow "localhost:$HTTPS" -F accounts
	set -- -sS -x "http://127.0.0.1:$SERVER" --cacert "$TLS_DIR/ca.crt" "https://localhost:$HTTPS/"
	limited curl "$@" -U open:sesame >out
	out_is hello
	! limited curl "$@" -U open:sesam -v >out 2>err || false
	out_is ''
	err_has '407 wrong user or password'
}

@test "curl is told by 404 that it is no proxy for plain HTTP" {
	serve --allow '*:*'
	limited curl -sS -i -x "http://127.0.0.1:$SERVER" http://localhost:1/ >out
	grep -q '^HTTP/1.1 404 ' out
	tail -n 1 out | grep -q CONNECT
}

@test "ncat goes through it" {
	carries ncat --proxy 127.0.0.1:SERVER --proxy-type http 127.0.0.1 FAR
}

@test "ncat goes through it with credentials" {
	carries_with_credentials ncat --proxy 127.0.0.1:SERVER --proxy-type http --proxy-auth open:sesame 127.0.0.1 FAR
}

@test "socat goes through it" {
	carries socat - PROXY:127.0.0.1:127.0.0.1:FAR,proxyport=SERVER
}

@test "socat goes through it with credentials" {
	carries_with_credentials socat - PROXY:127.0.0.1:127.0.0.1:FAR,proxyport=SERVER,proxyauth=open:sesame
}

@test "nc of OpenBSD goes through it" {
	carries nc.openbsd -X connect -x 127.0.0.1:SERVER 127.0.0.1 FAR
}

@test "nc of OpenBSD goes through it with a password from the terminal" {
	carries_with_credentials "$ROOT/test/bin/pty" 'expect assword' $'type sesame\n' 'status 0' -- \
		nc.openbsd -X connect -P open -x 127.0.0.1:SERVER 127.0.0.1 FAR
}

@test "connect-proxy goes through it" {
	carries connect-proxy -H 127.0.0.1:SERVER 127.0.0.1 FAR
}

@test "connect-proxy goes through it with credentials" {
	carries_with_credentials env HTTP_PROXY_PASSWORD=sesame connect-proxy -H open@127.0.0.1:SERVER 127.0.0.1 FAR
}

@test "corkscrew goes through it" {
	carries corkscrew 127.0.0.1 SERVER 127.0.0.1 FAR
}

@test "corkscrew goes through it with credentials" {
	printf 'open:sesame\n' >auth
	carries_with_credentials corkscrew 127.0.0.1 SERVER 127.0.0.1 FAR auth
}

@test "the proxytunnel of Debian goes through it" {
	carries /usr/bin/proxytunnel -q -p 127.0.0.1:SERVER -d 127.0.0.1:FAR
}

@test "the proxytunnel of Debian goes through it with credentials" {
	carries_with_credentials /usr/bin/proxytunnel -q -p 127.0.0.1:SERVER -P open:sesame -d 127.0.0.1:FAR
}

@test "this program goes through it" {
	carries "$PROXYTUNNEL" -p 127.0.0.1:SERVER -d 127.0.0.1:FAR
}

@test "this program goes through it with credentials; without them it says 407, and that Basic is wanted" {
	carries_with_credentials "$PROXYTUNNEL" -p 127.0.0.1:SERVER -P open:sesame -d 127.0.0.1:FAR
	program -p "127.0.0.1:$SERVER" -d "127.0.0.1:$FAR" </dev/null
	status_is 77
	err_one_line
	err_has '407 user and password wanted'
	err_has Basic
}

# ssh_through: writes ./config.
ssh_through() {
	{
		echo "ProxyCommand '$PROXYTUNNEL' -p 127.0.0.1:$SERVER %h:%p"
		cat "$SERVERS/ssh_config"
	} >config
}

@test "ssh runs a command, and copies 64 MiB, through it" {
	serve --allow "127.0.0.1:$SSHD"
	ssh_through
	[ "$(limited ssh -F config target 'echo hello')" = hello ]
	"$PEER" -i 'pattern 64M' >blob
	LIMIT=40 limited ssh -F config target cat <blob >back
	cmp blob back
}

# --- credentials -------------------------------------------------------------------------

@test "each account of -F is let in, whatever its password holds" {
	local account

	accounts '# a comment\n\nopen:sesame\nempty:\n:nobody\ncolons:a:b:\nspaces: a b \nbytes:\xc3\xa9\xff\ndos:line\r\n'
	start_far
	serve --allow "127.0.0.1:$FAR" -F accounts
	for account in open:sesame empty: :nobody colons:a:b: 'spaces: a b' 'bytes:\xc3\xa9\xff' dos:line; do
		echo "$account"
		reaches "127.0.0.1:$FAR" "$(proxy_authorization "$account")"
	done
	reaches "127.0.0.1:$FAR" "$(proxy_authorization open:sesame | sed 's/Proxy/proXY/; s/Basic/bAsIc  /')"
}

@test "what is like an account, and none, is told 407, with the realm, and the log names no credential" {
	local account field basic

	accounts 'open:sesame\nother:thing\n# no:comment\n'
	start_far
	serve -v --allow "127.0.0.1:$FAR" -F accounts
	refuses 407 "127.0.0.1:$FAR"
	grep -q $'^Proxy-Authenticate: Basic realm="..*"\r$' reply
	for account in open:sesam open:sesamee OPEN:sesame open:Sesame open:thing other:sesame open: :sesame open sesame : '' \
		'open:sesame\n' 'open:sesame\0' 'open:sesame\0x' '\0' 'open:sesame\nother:thing' ' open:sesame' '# no:comment' no:comment; do
		echo "$account"
		refuses 407 "127.0.0.1:$FAR" "$(proxy_authorization "$account")"
	done
	basic=$(proxy_authorization open:sesame)
	for field in "$basic$basic" "$basic$(proxy_authorization other:thing)" "${basic/Proxy-/}" "${basic/Basic/Bearer}" "${basic/Basic/BasicX}" \
		"${basic/Basic /Basic}" "${basic/Basic /Basic=}" "${basic/=/}" "${basic/=/==}" "${basic/\\r/ x\\r}" "${basic/\\r/,x\\r}" \
		'Proxy-Authorization: Basic\r\n' 'Proxy-Authorization: Basic  \r\n' 'Proxy-Authorization:\r\n' 'Proxy-Authorization: =\r\n'; do
		echo "$field"
		refuses 407 "127.0.0.1:$FAR" "$field"
	done
	reaches "127.0.0.1:$FAR" "$basic"
	logs "127.0.0.1:* to 127.0.0.1:$FAR: 407, no password"
	logs "127.0.0.1:* to 127.0.0.1:$FAR: 407, no such user"
	logs "127.0.0.1:* user open to 127.0.0.1:$FAR: 407, wrong password"
	logs "127.0.0.1:* user open to 127.0.0.1:$FAR: done, 2 bytes up, 3 down, *"
	! grep -iE 'sesam|thing|Basic|c2VzYW|bmc6c2Vz|b3Blb' server.err || false
}

@test "credentials that are longer than any account are told 407, and do no harm" {
	local length

	accounts 'open:sesame\n'
	start_far
	serve --allow "127.0.0.1:$FAR" -F accounts
	for length in 8000 8188 8192 8196 10920 10924 10928 16384 60000; do
		ask "send CONNECT 127.0.0.1:$FAR HTTP/1.0\r\nProxy-Authorization: Basic " "repeat $length A" 'send \r\n\r\n'
		answered 407
	done
	reaches "127.0.0.1:$FAR" "$(proxy_authorization open:sesame)"
}

@test "no credential is in what -v says, wherever a client puts it" {
	local secret=b3BlbjpzZXNhbWU= head

	accounts 'open:sesame\n'
	start_far
	serve -v --allow "127.0.0.1:$FAR" -F accounts
	for head in "CONNECT open:sesame@127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\n" "CONNECT open:sesame HTTP/1.1\r\nHost: a\r\n" \
		"GET http://open:sesame@127.0.0.1/ HTTP/1.1\r\nHost: a\r\n" "GET /?open:sesame HTTP/1.1\r\nHost: a\r\n" \
		"CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: open:sesame@a\r\n" \
		"CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\nProxy-Authorization Basic $secret\r\n" \
		"CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\nProxy-Authorization : Basic $secret\r\n" \
		"CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\nProxy-Authorization:\r\n Basic $secret\r\n" \
		"CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\nCookie: sesame\r\nsesame: b\r\n" \
		"CONNECT 127.0.0.1:$FAR HTTP/1.1 sesame\r\nHost: a\r\n" "sesame\r\n" "sesame / HTTP/1.1\r\nHost: a\r\n"; do
		ask "send $head\r\n"
	done
	reaches "127.0.0.1:$FAR" "$(proxy_authorization open:sesame)"
	logs "127.0.0.1:* to 127.0.0.1:$FAR: done, *"
	! grep -e sesame -e b3Blb server.err || false
}

@test "accounts that cannot be read, or hold none: 66, one line that names the file" {
	local content

	for content in '' '\n\n' '# a:b\n' 'open\n' 'open:sesame\nother\n' 'a:b\0\n'; do
		accounts "$content"
		program --serve -a 0 --allow '*:1' -F accounts
		status_is 66
		err_has accounts
		err_lacks listening
	done
	program --serve -a 0 --allow '*:1' -F missing
	status_is 66
	err_one_line
	err_has missing
}

# --- what it needs -----------------------------------------------------------------------

@test "without --allow it refuses to start, and says what to write" {
	program --serve -a 0
	status_is 64
	err_one_line
	err_has "--allow '*:443'"
}

@test "what does not go together with --serve: 64, one line" {
	local words

	for words in '--serve --allow *:1' '--serve -a 0 --allow *:1 -p proxy:1' '--serve -a 0 --allow *:1 -d host:22' \
		'--serve -a 0 --allow *:1 host 22' '--serve -a 0 --allow *:1 --fdpass' '--serve -a 0 -i --allow *:1' \
		'--serve -a 0 --allow *:1 -P user:pass' '--serve -a 0 --allow *:1 -H X:y' '--serve -a 0 --allow *:1 -E' \
		'--serve -a 0 --allow host' '--serve -a 0 --allow host:' '--serve -a 0 --allow :22' \
		'-a 0 --allow *:1 -p proxy:1 -d host:22' '-a 0 --tls-only -p proxy:1 -d host:22' '--serve -i --allow *:1'; do
		set -f
		# shellcheck disable=SC2086
		program $words </dev/null
		set +f
		echo "$words"
		status_is 64
		err_one_line
	done
}

# --- where to ----------------------------------------------------------------------------

# Of each, that it is 127.0.0.1 is seen by no look at its text.
LOOPBACK_FORMS=(127.0.0.1 127.0.0.1. 127.1 127.0.1 0x7f000001 0X7F000001 0x7f.1 0x7F.0x0.0x0.0x1 2130706433 017700000001 0177.0.0.01
	0177.1 00000177.0.0.1 127.0.1. '[::ffff:127.0.0.1]' '[::FFFF:127.0.0.1]' '[::ffff:7f00:1]' '[0:0:0:0:0:ffff:7f00:0001]')
INSIDE_FORMS=(0.0.0.0 0 0x0 0.1 127.0.0.2 127.255.255.255 localhost LOCALHOST localhost. LocalHost. 10.0.0.1 10.255.255.255 0xa000001 012.1
	167772161 100.64.0.1 100.127.255.255 169.254.169.254 2852039166 172.16.0.1 172.31.255.255 192.0.0.1 192.168.0.1 192.168.255.255
	0xc0a80001 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255
	'[::]' '[0::0]' '[::1]' '[0:0::1]' '[0:0:0:0:0:0:0:1]' '[::127.0.0.1]' '[::7f00:1]' '[::ffff:10.0.0.1]' '[::ffff:169.254.169.254]'
	'[::ffff:0:0]' '[64:ff9b::127.0.0.1]' '[64:ff9b::a00:1]' '[64:ff9b:1::1]' '[2002:7f00:1::]' '[2002:a00:1::1]' '[fc00::1]' '[fd12:3456::1]'
	'[fe80::1]' '[FE80::1]' '[febf::1]' '[fec0::1]' '[ff02::1]')

@test "a literal is brought to its plain form before it is matched: an address that is named is reached in every form" {
	local form

	start_far
	serve --allow "127.0.0.1:$FAR"
	for form in "${LOOPBACK_FORMS[@]}"; do
		reaches "$form:$FAR"
	done
	reaches "127.0.0.1:0$FAR"
	for form in "${INSIDE_FORMS[@]}" 1.0.0.127 127.0.0.1.test 127.0.0.11 27.0.0.1; do
		refuses 403 "$form:$FAR"
	done
}

@test "an address inside, in whatever form, is not reached by a wildcard in the host" {
	local form

	start_far
	serve --allow "*:$FAR" --allow "*.*:*" --allow "[0-9]*:$FAR" --allow "?*:$FAR" --allow '[[]*:*' -w 5
	for form in "${LOOPBACK_FORMS[@]}" "${INSIDE_FORMS[@]}"; do
		refuses 403 "$form:$FAR"
	done
	has_logged "127.0.0.1:* to 127.0.0.1:$FAR: 403, not allowed: its address is inside"
}

@test "an IPv6 address that is named is reached in every form, and no other" {
	local form

	needs_ipv6
	start_far -l ::1 loop 'touch reached' 'expect up' 'send far' close
	serve --allow "[::1]:$FAR"
	for form in '[::1]' '[0:0::1]' '[0::0:1]' '[0:0:0:0:0:0:0:1]' '[0000:0000:0000:0000:0000:0000:0000:0001]' '[::0.0.0.1]'; do
		reaches "$form:$FAR"
	done
	for form in '[::2]' '[::]' '[::1:0]' '[1::]' '[::ffff:0:1]' 0.0.0.1; do
		refuses 403 "$form:$FAR"
	done
	refuses 403 '[::1]:22'
}

@test "a name is matched in lower case and without the dot at its end" {
	local name

	start_far
	FAKE_ADDRESSES="127.0.0.1#$FAR" serve --allow Git.Example.ORG:22
	for name in git.example.org GIT.EXAMPLE.ORG Git.example.Org. git.example.org.; do
		reaches "$name:22"
	done
	for name in example.org agit.example.org x.git.example.org git.example.org.test git.example.org.. .git.example.org gitxexample.org \
		git.example.or git.exam git; do
		refuses 403 "$name:22"
	done
	refuses 403 git.example.org:2
	refuses 403 git.example.org:222
	refuses 403 git.example.org:443
}

@test "port 443 only" {
	local port

	start_far
	FAKE_ADDRESSES="127.0.0.1#$FAR" serve --allow '*:443' --allow 127.0.0.1:443
	reaches host.test:443
	reaches host.test:0443
	for port in 22 80 44 4 43 4430 1443 444 8443; do
		refuses 403 "host.test:$port"
	done
}

@test "a list of hosts, each with its port" {
	start_far
	FAKE_ADDRESSES="127.0.0.1#$FAR" serve --allow one.test:22 --allow two.test:443 --allow 'three.test:*'
	reaches one.test:22
	reaches two.test:443
	reaches three.test:1
	reaches three.test:65535
	refuses 403 one.test:443
	refuses 403 two.test:22
	refuses 403 four.test:22
	logs '127.0.0.1:* to four.test:22: 403, not allowed'
}

@test "patterns: *, ? and [...], in the host and in the port" {
	start_far
	FAKE_ADDRESSES="127.0.0.1#$FAR" serve --allow '*.one.test:22' --allow 'two?.test:[45]22' --allow 'three[0-9].test:20??' \
		--allow '127.0.0.1:*'
	reaches a.one.test:22
	reaches a.b.one.test:22
	reaches twoX.test:422
	reaches three7.test:2049
	refuses 403 one.test:22
	refuses 403 xone.test:22
	refuses 403 two.test:422
	refuses 403 two22.test:422
	refuses 403 two2.test:322
	refuses 403 three.test:2049
	refuses 403 threex.test:2049
	refuses 403 three7.test:20499
}

# inside_is_refused ADDRESSES [OPTION...]: a name with them, which a wildcard allows, does not lead to far.
inside_is_refused() {
	FAKE_ADDRESSES=$1 serve --allow '*:443' "${@:2}"
	refuses 403 name.test:443
	logs '127.0.0.1:* to name.test:443: 403, not allowed: its address is inside'
	stop server
}

@test "a name that only a wildcard allowed, and that leads inside, is refused" {
	local address

	start_far
	for address in 127.0.0.1 127.9.9.9 10.1.2.3 172.20.0.1 192.168.1.1 169.254.169.254 100.64.1.1 0.0.0.0 ::1 :: fe80::1 fd00::1 ::ffff:127.0.0.1 \
		::ffff:192.168.1.1 64:ff9b::7f00:1 2002:c0a8:101:: ::127.0.0.1; do
		echo "$address"
		inside_is_refused "$address#$FAR"
	done
	inside_is_refused "127.0.0.1#$FAR 10.0.0.1#$FAR ::1#$FAR"
}

@test "that --allow names the address too, for that port, lets the name lead there" {
	local allow

	start_far
	for allow in 127.0.0.1:443 '127.0.0.*:443' '127.*:*' '127.0.0.[1-3]:44?'; do
		FAKE_ADDRESSES="127.0.0.1#$FAR" serve --allow '*:443' --allow "$allow"
		reaches name.test:443
		stop server
	done
	for allow in 127.0.0.1:22 '127.0.0.2:443' '127.0.0.*:44' '*.0.0.1:443' '?27.0.0.1:443' '[0-9]*:443'; do
		echo "$allow"
		inside_is_refused "127.0.0.1#$FAR" --allow "$allow"
	done
}

@test "a name that is named itself may lead inside" {
	start_far
	FAKE_ADDRESSES="127.0.0.1#$FAR" serve --allow name.test:22 --allow 'port.test:*'
	reaches name.test:22
	reaches port.test:22
}

@test "of a name's addresses those inside are left out, and the others are tried" {
	start_far
	# Nobody is at this one (RFC 5737).
	FAKE_ADDRESSES="127.0.0.1#$FAR 192.0.2.1#$FAR ::1#$FAR" serve --allow '*:443' -w 1
	ask "$(connects name.test:443)"
	answered '50?'
	[ ! -e reached ]
}

@test "an address outside is not refused, as a literal or as a name's" {
	local target

	for target in 192.0.2.1 192.0.2.1. 0xc0000201 3221225985 '[::ffff:192.0.2.1]' name.test; do
		FAKE_ADDRESSES='192.0.2.1' serve --allow '*:443' -w 1
		ask "$(connects "$target:443")"
		answered '50?'
		stop server
	done
}

# --- --tls-only --------------------------------------------------------------------------

# The first bytes of a ClientHello, and bytes behind them.
HELLO='\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03and more'

@test "openssl's s_client goes through --tls-only to a server with TLS" {
	serve --tls-only --allow "127.0.0.1:$HTTPS"
	printf 'GET / HTTP/1.0\r\n\r\n' | limited openssl s_client -quiet -verify_return_error -CAfile "$TLS_DIR/ca.crt" \
		-proxy "127.0.0.1:$SERVER" -connect "127.0.0.1:$HTTPS" >out 2>err
	[ "$(tail -n 1 out)" = hello ]
}

@test "a real ClientHello, and the head before it, in one-byte segments go through --tls-only" {
	serve --tls-only --allow "127.0.0.1:$HTTPS"
	free_port
	start socat socat -b 1 "TCP-LISTEN:$PORT,bind=127.0.0.1,reuseaddr,nodelay" "TCP:127.0.0.1:$SERVER,nodelay"
	await port_taken "$PORT"
	printf 'GET / HTTP/1.0\r\n\r\n' | limited openssl s_client -quiet -verify_return_error -CAfile "$TLS_DIR/ca.crt" \
		-proxy "127.0.0.1:$PORT" -connect "127.0.0.1:$HTTPS" >out 2>err
	[ "$(tail -n 1 out)" = hello ]
}

port_taken() {
	[ -n "$(port_listener "$1")" ]
}

@test "a ClientHello in one-byte segments, and one right behind the head, are carried to the byte" {
	start_far loop "expect $HELLO" 'send far' eof close
	serve --tls-only --allow "127.0.0.1:$FAR"
	ask "$(connects "127.0.0.1:$FAR")" "$GRANTED" "trickle 10 1 $HELLO" 'expect far' half-close
	ask "$(connects "127.0.0.1:$FAR")$HELLO" "$GRANTED" 'expect far' half-close
	ask "trickle 1 1 CONNECT 127.0.0.1:$FAR HTTP/1.0\r\n\r\n$HELLO" "$GRANTED" 'expect far' half-close
}

@test "ssh is cut by --tls-only, and neither side sees a byte of the other; without it ssh works" {
	start_far accept 'send SSH-2.0-far\r\n' gone close
	serve --tls-only --allow "127.0.0.1:$FAR" --allow "127.0.0.1:$SSHD"
	ssh_through
	! limited ssh -F config -p "$FAR" -v target true >out 2>err || false
	finished far
	err_lacks SSH-2.0-far
	! limited ssh -F config target true || false
	logs "127.0.0.1:* to 127.0.0.1:$SSHD: cut, as it is no TLS"
	stop server
	serve --allow "127.0.0.1:$SSHD"
	ssh_through
	limited ssh -F config target true
}

@test "what cannot become a ClientHello is cut at the first byte that tells, at both ends" {
	local bytes

	for bytes in S '\0' 'GET / HTTP/1.0\r\n\r\n' '\x15\x03\x01' '\x17\x03\x03' '\x80\x2e\x01\x03' '\x16\x02' '\x16\x03\x05' '\x16\x03\x01\x42' \
		'\x16\x03\x01\x02\0\x02' '\x16\x03\x01\x02\0\x01\x02' '\x16\x03\x01\x02\0\x01\0\x01\xfc\x02' '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x05'; do
		echo "$bytes"
		start_far accept 'send SSH-2.0-far\r\n' gone close
		serve --tls-only --allow "127.0.0.1:$FAR"
		"$PEER" -c "$SERVER" "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'quiet 30' "send $bytes" "gone $SOON"
		finished far
		logs "127.0.0.1:* to 127.0.0.1:$FAR: cut, as it is no TLS"
		stop server
	done
}

@test "a client that ends before, or within, its ClientHello is cut" {
	start_far loop eof close
	serve --tls-only --allow "127.0.0.1:$FAR"
	ask "$(connects "127.0.0.1:$FAR")" "$GRANTED" half-close
	ask "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'send \x16\x03\x01' half-close
	logs "127.0.0.1:* to 127.0.0.1:$FAR: cut, as it is no TLS"
	await clients_are 0
}

@test "a ClientHello that never comes, or not to its end, is cut after -w at both ends, with nothing carried" {
	local bytes

	for bytes in '' 'send \x16\x03\x01\x02'; do
		start_far accept 'send SSH-2.0-far\r\n' gone close
		serve --tls-only -w 1 --allow "127.0.0.1:$FAR"
		"$PEER" -c "$SERVER" "$(connects "127.0.0.1:$FAR")" "$GRANTED" ${bytes:+"$bytes"} 'quiet 600' 'eof 1000'
		finished far
		logs "127.0.0.1:* to 127.0.0.1:$FAR: no TLS ClientHello in 1 s"
		stop server
	done
}

# --- the tunnel --------------------------------------------------------------------------

@test "what the client sent behind its head is carried, none lost, whatever the segments" {
	local rest

	start_far loop 'check 1M' 'send far' eof close
	serve --allow "127.0.0.1:$FAR"
	# With the head in one segment.
	"$PEER" -i "$(connects "127.0.0.1:$FAR")" 'pattern 1M' >sent
	limited socat -b 65536 -t 5 "TCP:127.0.0.1:$SERVER" - <sent >reply
	cmp reply <(printf 'HTTP/1.1 200 Connection established\r\n\r\nfar')
	# Before the answer, but by themselves.
	ask "$(connects "127.0.0.1:$FAR")" 'pattern 1M' "$GRANTED" 'expect far' half-close
	# Behind each cut of the head's end.
	for rest in '\r\n\r\n' '\n\r\n' '\r\n' '\n'; do
		ask "send CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a$(printf %s '\r\n\r\n' | sed "s/${rest//\\/\\\\}\$//")" \
			'pause 20' "send $rest" 'pattern 1M' "$GRANTED" 'expect far' half-close
	done
	has_logged "127.0.0.1:* to 127.0.0.1:$FAR: done, 1048576 bytes up, 3 down, *"
}

@test "a head may come byte by byte, begin with an empty line, end its lines by LF, be of HTTP/1.0, and bear a length of 0" {
	local head

	start_far
	serve --allow "127.0.0.1:$FAR"
	for head in "CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\n\r\n" "\r\nCONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\n\r\n" \
		"\nCONNECT 127.0.0.1:$FAR HTTP/1.1\nHost: a\n\n" "CONNECT 127.0.0.1:$FAR HTTP/1.0\r\n\r\n" "CONNECT 127.0.0.1:$FAR HTTP/1.0\n\n" \
		"CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" "CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost:\r\n\r\n" \
		"CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nhost:\t[::1]:1 \t\r\nX:\r\nY: \xff\xc3\xa9\tz\r\n\r\n"; do
		ask "send ${head}up"
		cmp reply <(printf 'HTTP/1.1 200 Connection established\r\n\r\nfar')
		ask "trickle 1 1 ${head}up"
		cmp reply <(printf 'HTTP/1.1 200 Connection established\r\n\r\nfar')
	done
}

@test "16 MiB each way at once are exact, and a stalled direction does not hold up the other" {
	start_far accept 'pattern 16M 1 &' 'check 16M 2' join eof close
	serve --allow "127.0.0.1:$FAR"
	ask "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'pattern 16M 2 &' 'check 16M 1' join half-close
	finished far
	logs "127.0.0.1:* to 127.0.0.1:$FAR: done, 16777216 bytes up, 16777216 down, *"
	start_far -r 65536 accept 'pattern 16M 1' 'await drained' 'check 16M 2' eof close
	stop server
	serve --allow "127.0.0.1:$FAR"
	ask "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'pattern 16M 2 &' 'check 16M 1' 'touch drained' join half-close
	finished far
}

@test "a half-close passes through it, either way, and what the other side still sends is delivered" {
	start_far accept 'expect up' eof 'pause 300' 'pattern 1M' close
	serve --allow "127.0.0.1:$FAR"
	ask "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'send up' half-close 'check 1M' "eof $SOON"
	finished far
	stop server
	start_far accept 'send far' half-close 'check 1M' "eof $SOON" close
	serve --allow "127.0.0.1:$FAR"
	ask "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'expect far' "eof $SOON" 'pause 300' 'pattern 1M' half-close
	finished far
}

# --- what it answers ---------------------------------------------------------------------

@test "nobody at the destination, a name that does not resolve: 502 with the reason, and a log line" {
	start_far
	stop far
	serve --allow "127.0.0.1:$FAR"
	refuses 502 "127.0.0.1:$FAR"
	answered 502 'Connection refused'
	logs "127.0.0.1:* to 127.0.0.1:$FAR: 502, cannot connect: Connection refused"
	stop server
	FAKE_ADDRESSES=none serve --allow '*:22'
	refuses 502 name.test:22
	answered 502 'cannot resolve'
	logs '127.0.0.1:* to name.test:22: 502, cannot resolve*'
}

@test "no connection within -w, and a name service that hangs: 504, though more was sent behind the head, and a log line" {
	local queue

	start_far -b 0 hold
	exec {queue}<>"/dev/tcp/127.0.0.1/$FAR"
	# The queue of a listener (state 0A) is where another socket has its unread bytes.
	await grep -q "$(printf ':%04X [0-9A-F:]* 0A 00000000:00000001' "$FAR")" /proc/net/tcp
	FAKE_ADDRESSES=hang serve --allow "127.0.0.1:$FAR" --allow '*:22' -w 1
	ask "$(connects "127.0.0.1:$FAR")"
	answered 504
	logs "127.0.0.1:* to 127.0.0.1:$FAR: no connection in 1 s"
	"$PEER" -c "$SERVER" "$(connects name.test:22)" 'pattern 100K' 'expect HTTP/1.1 504 no connection\r\n'
	logs '127.0.0.1:* to name.test:22: no connection in 1 s'
	exec {queue}<&-
}

@test "a head that does not come to its end within -w: 408, however it trickles, and a log line" {
	serve --allow '*:22' -w 1
	ask 'send CONNECT host:22 HTTP/1.1\r\nHost: host:22\r\n'
	answered 408
	logs '127.0.0.1:* to -: no request in 1 s'
	ask 'trickle 100 forever x'	# which would never be told, were the time to begin anew with each byte
	answered 408
	ask
	answered 408
}

@test "a head of 64 KiB is taken; one byte more, or no end of it in sight: 431, and a log line" {
	local begin end length

	start_far
	serve --allow "127.0.0.1:$FAR"
	begin="CONNECT 127.0.0.1:$FAR HTTP/1.1\r\nHost: a\r\nX: "
	end='\r\n\r\nup'
	length=$(printf %b "$begin$end" | wc -c)
	length=$((65536 + 2 - length))
	ask "send $begin" "repeat $length x" "send $end"
	cmp reply <(printf 'HTTP/1.1 200 Connection established\r\n\r\nfar')
	ask "send $begin" "repeat $((length + 1)) x" "send $end"
	answered 431
	logs '127.0.0.1:* to -: 431, *'
	ask 'repeat 70000 x'
	answered 431
	ask 'repeat 100000 \r\nX: y'
	answered 431
	ask "send $begin" 'repeat 1000000 x'
	answered 431
}

@test "the methods allowed stand in a 405" {
	serve --allow '*:22'
	ask 'send PATCH / HTTP/1.1\r\nHost: a\r\n\r\n'
	answered 405
	grep -q $'^Allow: CONNECT\r$' reply
}

WRONG=0 COUNT=0

# head_is_answered STATUS WHAT TEXT
head_is_answered() {
	local BODY_LENGTH=

	COUNT=$((COUNT + 1))
	[[ $3 != HEAD\ * ]] || BODY_LENGTH=0	# RFC 9110 9.3.2
	ask "send $3" && answered "$1" && return
	WRONG=$((WRONG + 1))
	echo "$2: $3"
}

@test "hostile heads, over 200 of them, each get their status; none is a tunnel, and the server serves on" {
	start_far -t 300 accept 'expect up' 'send far' close
	serve --allow "127.0.0.1:$FAR"
	each_head head_is_answered "127.0.0.1:$FAR" "$FAR"
	echo "$WRONG of $COUNT were answered otherwise"
	[ "$WRONG" -eq 0 ]
	[ "$COUNT" -gt 200 ]
	# The first that reaches far.
	reaches "127.0.0.1:$FAR"
	finished far
	await clients_are 0
	! grep -v -e 'listening on' -e 'now nobody' server.err | grep -vE '^proxytunnel: 127\.0\.0\.1:[0-9]+ to ' || false
}

# --- the log -----------------------------------------------------------------------------

@test "a tunnel's line says who, where to, how it ended, the bytes each way, and the seconds" {
	start_far accept 'expect up' 'send far' 'pause 1100' close
	serve --allow "127.0.0.1:$FAR"
	ask "$(connects "127.0.0.1:$FAR")up"
	logs "127.0.0.1:* to 127.0.0.1:$FAR: done, 2 bytes up, 3 down, 1.??? s"
	[ "$(grep -c ' to ' server.err)" -eq 1 ]
}

@test "the client that a line names is the one that came" {
	local port

	start_far accept 'send far' eof close
	serve --allow "127.0.0.1:$FAR"
	exec {port}<>"/dev/tcp/127.0.0.1/$SERVER"
	printf 'CONNECT 127.0.0.1:%d HTTP/1.0\r\n\r\n' "$FAR" >&"$port"
	read -r -t 5 <&"$port"
	client=$(awk -v port="$(printf '0100007F:%04X' "$SERVER")" '$3 == port && $4 == "01" { print substr($2, 10) }' /proc/net/tcp)
	exec {port}<&-
	logs "127.0.0.1:$((16#$client)) to 127.0.0.1:$FAR: *"
}

@test "a tunnel that breaks is logged with the side that broke it and why" {
	start_far accept 'send far' 'await go' reset
	serve --allow "127.0.0.1:$FAR"
	"$PEER" -c "$SERVER" "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'expect far' 'touch go' "gone $SOON"
	logs "127.0.0.1:* to 127.0.0.1:$FAR: broken by the far end, Connection reset by peer, 0 bytes up, 3 down, *"
	stop server
	start_far accept 'send far' sink
	serve --allow "127.0.0.1:$FAR"
	"$PEER" -c "$SERVER" "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'expect far' reset
	logs "127.0.0.1:* to 127.0.0.1:$FAR: broken by the client, Connection reset by peer, 0 bytes up, 3 down, *"
}

@test "each refusal is a line, and what a client sent is escaped in it" {
	accounts 'b\xc2\x9b31mred:sesame\n'
	serve -v --allow '*:443' -F accounts
	ask "$(connects host:22 "$(proxy_authorization 'b\xc2\x9b31mred:sesame')")"
	answered 403
	logs '127.0.0.1:* user b\\xc2\\x9b31mred to host:22: 403, not allowed'
	ask 'send GET /\x9b31m HTTP/1.1\r\nHost: a\r\nX\x07: y\r\n\r\n'
	answered 400
	logs '127.0.0.1:* to -: 400, *'
	ask 'send BOO\x1b / HTTP/1.1\r\nHost: a\r\n\r\n'
	answered 400
	! grep -q '[^[:print:]]' server.err || false
}

@test "-q logs nothing" {
	start_far
	serve -q --allow "127.0.0.1:$FAR"
	reaches "127.0.0.1:$FAR"
	refuses 403 host:22
	await clients_are 0
	[ "$(<server.err)" = "proxytunnel: listening on 127.0.0.1:$SERVER" ]
}

@test "a client that asks nothing is not worth a line" {
	serve --allow '*:22'
	"$PEER" -c "$SERVER" 'knock 5' close
	ask half-close
	await clients_are 0
	! grep -q ' to ' server.err || false
}

# --- how many ----------------------------------------------------------------------------

@test "500 tunnels at once carry 1 MiB each way, exact, each its own bytes" {
	start_far -b 600 -t 50 loop 'echo 64K' close
	serve --max-clients 510 --allow "127.0.0.1:$FAR"
	"$PEER" -c "$SERVER" -t 50 'crowd 500' "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'meet standing' \
		'pattern 1M &' 'check 1M' join half-close eof
	await clients_are 0
	[ "$(grep -c "to 127.0.0.1:$FAR: done, 1048576 bytes up, 1048576 down, " server.err)" -eq 500 ]
}

# The private memory of processes, and their page tables, in KiB.
memory_of() {
	local pid files=()

	for pid; do
		files+=("/proc/$pid/smaps_rollup" "/proc/$pid/status")
	done
	"${UNPRIVILEGED[@]}" awk '/^(Private_(Clean|Dirty|Hugetlb)|VmPTE):/ { sum += $2; lines++ }
		END { if (lines < 3 * (ARGC - 1) / 2) { print "unreadable" >"/dev/stderr"; exit 1 } print sum }' "${files[@]}"
}

@test "1000 idle tunnels cost at most 100 KiB of memory each" {
	local LAYOUT=(setarch -R) limit=94 memory pids

	[ -r /proc/self/smaps_rollup ] || skip 'no /proc/PID/smaps_rollup here'
	start_far -b 1100 -t 60 loop 'echo 64K' close
	# Page tables take 36 KiB of it so, and from 40 to 56 where the parts of the program lie as they happen to fall.
	"${LAYOUT[@]}" true 2>/dev/null || LAYOUT=() limit=110
	# As nobody, for the one who measures is then allowed to look, in a container too.
	serve_unprivileged --max-clients 1100 --allow "127.0.0.1:$FAR"
	SERVER=$PORT
	start crowd "$PEER" -c "$SERVER" -t 60 'crowd 1000' "$(connects "127.0.0.1:$FAR")" "$GRANTED" \
		'send up' 'expect up' 'meet standing' 'await measured' half-close eof
	"$PEER" -i -t 50 'await standing' </dev/null
	await children_are server 1000 || {
		children server | wc -l
		cat server.err
		return 1
	}
	# shellcheck disable=SC2207
	pids=($(children server))
	memory=$(memory_of "${pids[@]}")
	touch measured
	echo "$memory KiB"
	[ -n "$SANITIZED" ] || [ "$memory" -le $((limit * 1000)) ]
	[ -n "$SANITIZED" ] || [ "$memory" -ge 1000 ]
	finished crowd
}

many_children() {
	[ "$(children server | wc -l)" -gt 100 ]
}

# How often a client was ended to make room.
evictions() {
	grep -c ' ended to make room, ' server.err || true
}

# However slow the machine is, each of those who came before is ended at most once for who comes now.
@test "a byte a second from each of 1000 clients, who come again, does not keep a good client out" {
	local before i slow=() ASK_LIMIT=60

	for i in {1..100}; do
		slow+=('trickle 1000 forever CONNECT host:22 HTTP/1.1' connect)
	done
	start_far
	serve --allow "127.0.0.1:$FAR"
	start crowd "$PEER" -c "$SERVER" -t 300 'crowd 1000' "${slow[@]}"
	await clients_are 528	# --max-clients and as many again, and a few
	for i in {1..20}; do
		before=$(evictions)
		reaches "127.0.0.1:$FAR"
		[ $(($(evictions) - before)) -lt 1000 ]
		sleep 0.1
	done
	kill -0 "${PIDS[crowd]}"
	await many_children	# some come and go while they are counted
}

@test "when as many tunnels stand as may be, others are told 503, and what stands goes on" {
	start_far loop 'expect up' 'send far' 'echo 64K' close
	serve --max-clients 3 --allow "127.0.0.1:$FAR"
	start crowd "$PEER" -c "$SERVER" 'crowd 3' "$(connects "127.0.0.1:$FAR")up" "$GRANTED" 'expect far' 'meet standing' \
		'await refused' 'pattern 1M &' 'check 1M' join half-close eof
	await test -e standing
	for _ in 1 2 3; do
		ask "$(connects "127.0.0.1:$FAR")up"
		answered 503
	done
	logs '*503, too many clients'
	touch refused
	finished crowd
	await clients_are 0
	ask "$(connects "127.0.0.1:$FAR")up" half-close
	cmp reply <(printf 'HTTP/1.1 200 Connection established\r\n\r\nfar')
}

# The listener takes a second to send the signal, within which the worker takes the lock of who has a tunnel stand.
@test "a worker that is ended to make room just as its client asks for a tunnel leaves no lock behind: the next tunnel stands" {
	start_far
	start_listener server strace -D -qq -o calls -e trace=kill -e inject=kill:delay_enter=1000000:when=1 \
		"$PROXYTUNNEL" --serve -a 0 --max-clients 1 --allow "127.0.0.1:$FAR"
	SERVER=$PORT
	start oldest "$PEER" -c "$SERVER" -t 20 'await evicted' "$(connects "127.0.0.1:$FAR")" gone
	await clients_are 1
	start silent "$PEER" -c "$SERVER" -t 20 'crowd 17' hold
	await clients_are 18
	start late "$PEER" -c "$SERVER" -t 20 hold
	logs '*: ended to make room, after *'
	touch evicted
	finished oldest
	await grep -q DELAYED calls
	[ ! -e reached ]
	stop silent
	stop late
	reaches "127.0.0.1:$FAR"
}

# late_wait COMMAND...: three tunnels stand, and behind the command three more clients come, who wait.
late_wait() {
	start crowd "$PEER" -c "$SERVER" -t 20 'crowd 3' "$(connects "127.0.0.1:$FAR")up" "$GRANTED" 'expect far' 'meet standing' 'await leave' half-close eof
	await test -e standing
	"$@"
	start late "$PEER" -c "$SERVER" -t 20 'crowd 3' "$(connects "127.0.0.1:$FAR")up" 'quiet 300' 'meet waiting' "$GRANTED" 'expect far' half-close eof
	await test -e waiting
}

@test "where the user may have no more processes, clients wait, none is closed, and they are served as others leave" {
	[ "$(id -u)" -eq 0 ] || skip 'not root, and there may be other processes of this user'
	start_far loop 'expect up' 'send far' 'echo 64K' close
	install -m 755 "$PROXYTUNNEL" "$SERVERS"
	# Of a user that has no others: the listener and three workers.
	start_listener server prlimit --nproc=4 setpriv --reuid "$((100000 + $$))" --clear-groups "$SERVERS/proxytunnel" --serve -a 0 --allow "127.0.0.1:$FAR"
	SERVER=$PORT
	late_wait true
	children_are server 3
	touch leave
	finished crowd
	finished late
	[ "$(grep -c 'cannot start a process for a connection' server.err)" -eq 1 ]
	[ "$(grep -c ': done, ' server.err)" -eq 6 ]
}

# files_of_all COUNT: the server and its children may have so many files open from now on, as whose user they run.
files_of_all() {
	local pid

	for pid in "${PIDS[server]}" $(children server); do
		"${UNPRIVILEGED[@]}" prlimit --pid "$pid" --nofile="$1:"
	done
}

@test "where processes may open no more files, clients wait, none is closed, and they are served once they may" {
	start_far loop 'expect up' 'send far' 'echo 64K' close
	serve_unprivileged --allow "127.0.0.1:$FAR"
	late_wait files_of_all 3
	await grep -q 'cannot accept a connection: Too many open files' server.err
	files_of_all 256
	finished late
	touch leave
	finished crowd
	[ "$(grep -c 'cannot accept a connection' server.err)" -eq 1 ]
	[ "$(grep -c ': done, ' server.err)" -eq 6 ]
}

# The oldest child of the server waits for its next client, and no other is left to do so. Sets CHILD.
child_waits() {
	local spare

	clients_are 0 && CHILD=$(children server | sort -n) && [ -n "$CHILD" ] || return
	spare=$(tail -n +2 <<<"$CHILD")
	# shellcheck disable=SC2086
	[ -z "$spare" ] || ! kill $spare
}

@test "the child of a tunnel that has ended takes the next client, to whom nothing of the former clings" {
	local child

	accounts 'open:sesame\n'
	start_far
	serve --max-clients 1 --allow "127.0.0.1:$FAR" --allow 'none.invalid:22' -F accounts
	reaches "127.0.0.1:$FAR" "$(proxy_authorization open:sesame)"
	await child_waits
	child=$CHILD
	reaches "127.0.0.1:$FAR" "$(proxy_authorization open:sesame)"
	await child_waits
	[ "$CHILD" = "$child" ]
	# A head that is shorter, in pieces, and without the credentials that the one before bore.
	ask 'send CONNECT no' 'pause 50' 'send ne.invalid:22 HTTP/1.0\r\n\r\n'
	answered 407
	logs '*to none.invalid:22: 407, *'
	[ "$(grep -c "to 127.0.0.1:$FAR: done, 2 bytes up, 3 down, " server.err)" -eq 2 ]
}

@test "a child that is killed while it waits for a client takes none along" {
	start_far
	serve --allow "127.0.0.1:$FAR"
	for _ in 1 2 3; do
		reaches "127.0.0.1:$FAR"
		await child_waits
		kill -STOP "$CHILD"
		start client "$PEER" -c "$SERVER" -t 5 "$(connects "127.0.0.1:$FAR")up" "$GRANTED" 'expect far' eof
		await asks_wait
		kill -KILL "$CHILD"
		finished client
		await child_waits
		kill -KILL "$CHILD"
		await children_are server 0
	done
}

# kills COUNT: so many workers, at random moments.
kills() {
	local n=0 pids

	while [ "$n" -lt "$1" ]; do
		server_runs "${PIDS[server]}"
		mapfile -t pids < <(children server)
		if [ "${#pids[@]}" -gt 0 ] && kill -KILL "${pids[RANDOM % ${#pids[@]}]}" 2>/dev/null; then
			n=$((n + 1))
		fi
		sleep "0.0$((RANDOM % 3))"
	done
}

@test "of 60 workers that are killed while tunnels and sessions come, none leaves its place taken" {
	local n clients=()

	start_far -b 64 -t 300 loop 'echo 64K' close
	serve --max-clients 10 --allow "127.0.0.1:$FAR"
	for n in 1 2 3; do
		start "tunnels$n" sh -c 'until [ -e enough ]; do head -c 20000 /dev/zero | "$@"; done' sh "$PROXYTUNNEL" -q -p "127.0.0.1:$SERVER" -d "127.0.0.1:$FAR"
		start "sessions$n" sh -c 'until [ -e enough ]; do head -c 20000 /dev/zero | "$@"; done' sh "$PROXYTUNNEL" -q --relay "http://127.0.0.1:$SERVER/t" -d "127.0.0.1:$FAR"
		clients+=("tunnels$n" "sessions$n")
	done
	kills 60
	touch enough
	for n in "${clients[@]}"; do
		wait "${PIDS[$n]}" || true
		unset "PIDS[$n]"
	done
	[ "$(grep -c 'was ended by signal 9' server.err)" -eq 60 ]
	"$PEER" -c "$SERVER" -t 50 'crowd 10' "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'meet standing' 'pattern 1M &' 'check 1M' join half-close eof
	start crowd "$PEER" -c "$SERVER" -t 50 'crowd 10' "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'meet again' 'await refused' half-close eof
	await test -e again
	ask "$(connects "127.0.0.1:$FAR")"
	answered 503
	touch refused
	finished crowd
}

# held: the descriptors of the server and its workers, and their memory in KiB.
held() {
	local pid

	for pid in "${PIDS[server]}" $(children server); do
		echo "$(ls "/proc/$pid/fd" | wc -l) descriptors $(awk '/^RssAnon:/ { print $2 }' "/proc/$pid/status") KiB"
	done | sort -u
}

@test "300 tunnels by name, through a worker or two, leave it neither memory nor a descriptor" {
	local n before after

	start_far
	serve --max-clients 2 --allow "localhost:$FAR"
	for n in {1..10}; do reaches "localhost:$FAR"; done
	await clients_are 0
	before=$(held)
	for n in {1..300}; do reaches "localhost:$FAR"; done
	await clients_are 0
	after=$(held)
	echo "$before, then $after"
	[ "$(wc -l <<<"$after")" -le 3 ]
	[ "$(awk '{ print $1 }' <<<"$after" | sort -u)" = "$(awk '{ print $1 }' <<<"$before" | sort -u)" ]
	[ -n "$SANITIZED" ] || [ "$(sort -n -k 3 <<<"$after" | awk '{ most = $3 > most ? $3 : most } END { print most }')" -le \
		$(($(awk '{ most = $3 > most ? $3 : most } END { print most }' <<<"$before") + 16)) ]
}

# A connection that nobody has accepted waits with what its client sent.
asks_wait() {
	awk -v port="$(printf ':%04X' "$SERVER")" 'substr($2, length($2) - 4) == port && $4 == "01" && $5 !~ /:0+$/ { found = 1 } END { exit !found }' /proc/net/tcp
}

@test "children that wait in vain leave after ten seconds, and so do those of a server that was killed" {
	local begin

	start_far
	serve --allow "127.0.0.1:$FAR"
	reaches "127.0.0.1:$FAR"
	begin=$SECONDS
	await child_waits
	until children_are server 0; do
		[ $((SECONDS - begin)) -lt 20 ]
		sleep 0.05
	done
	[ $((SECONDS - begin)) -ge 9 ]
	reaches "127.0.0.1:$FAR"
	await child_waits
	kill -KILL "${PIDS[server]}"
	await child_gone
}

child_gone() {
	[ ! -e "/proc/$CHILD" ] || grep -q '^State:.Z' "/proc/$CHILD/status"
}

@test "who sends on and on while all tunnels stand does not keep others from their answer, on a slow machine" {
	start_far loop 'send far' sink
	# What is traced is slow; with -D it is the server that is started here.
	start_listener server strace -D -o /dev/null "$PROXYTUNNEL" --serve -a 0 -q --max-clients 1 --allow "127.0.0.1:$FAR"
	SERVER=$PORT
	start standing "$PEER" -c "$SERVER" "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'expect far' 'touch standing' 'await leave'
	await test -e standing
	start flood "$PEER" -c "$SERVER" 'crowd 4' 'repeat forever xxxxxxxxxxxxxxxx' connect 'repeat forever xxxxxxxxxxxxxxxx' connect \
		'repeat forever xxxxxxxxxxxxxxxx' connect 'repeat forever xxxxxxxxxxxxxxxx' connect 'repeat forever xxxxxxxxxxxxxxxx'
	for _ in {1..20}; do
		"$PEER" -c "$SERVER" -t 2 "$(connects "127.0.0.1:$FAR")" 'expect HTTP/1.1 503 '
	done
	touch leave
	finished standing
}

@test "who is refused, and stays, does not keep a good client out" {
	local path

	accounts 'open:sesame\n'
	start_far
	serve --max-clients 4 --allow "127.0.0.1:$FAR" -F accounts
	for path in "$(connects host:22)" "$(connects "127.0.0.1:$FAR")" "$(connects host:22 "$(proxy_authorization open:sesame)")" \
		"$(connects host:99999)" 'send GET / HTTP/1.0\r\n\r\n'; do
		echo "$path"
		rm -f refused leave
		start crowd "$PEER" -c "$SERVER" 'crowd 4' "$path" 'expect HTTP/1.1 40' 'meet refused' 'await leave'
		await test -e refused
		reaches "127.0.0.1:$FAR" "$(proxy_authorization open:sesame)"
		touch leave
		finished crowd
	done
}

# --- how it runs -------------------------------------------------------------------------

# breaks COMMAND...: it does so to a tunnel that stands, whose client is told.
breaks() {
	start_far loop 'expect up' 'send far' 'await broken' reset
	serve --allow "127.0.0.1:$FAR"
	start near "$PEER" 'send up' 'expect far' 'touch stands' 'status 74' -- "$PROXYTUNNEL" -p "127.0.0.1:$SERVER" -d "127.0.0.1:$FAR"
	await test -e stands
	"$@"
	finished near
	grep "the tunnel to 127.0.0.1:$FAR broke: " near.err
	rm -f stands broken
	[ -z "${PIDS[server]:-}" ] || stop server
	stop far
}

@test "a tunnel that breaks is not ended in order to its client: by the target's reset, SIGKILL of its process, SIGTERM" {
	breaks touch broken
	breaks eval 'kill -KILL $(children server)'
	breaks stop server
}

@test "a target that resets does not look like one that ends, also to a client that has ended" {
	start_far loop 'expect up' eof 'send far' 'pause 50' reset
	serve --allow "127.0.0.1:$FAR"
	drive_command 'send up' half-close 'expect far' 'status 74 5000' -- "$PROXYTUNNEL" -p "127.0.0.1:$SERVER" -d "127.0.0.1:$FAR"
	err_has "the tunnel to 127.0.0.1:$FAR broke: Connection reset by peer"
}

@test "SIGTERM ends it with status 0, and all that stands with it, each with a line" {
	start_far loop 'send far' eof close
	serve --allow "127.0.0.1:$FAR"
	start crowd "$PEER" -c "$SERVER" 'crowd 20' "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'expect far' 'meet standing' 'gone 4000'
	start slow "$PEER" -c "$SERVER" 'send CONNECT' 'eof 4000'
	await test -e standing
	await clients_are 21
	kill -TERM "${PIDS[server]}"
	finished server
	finished crowd
	finished slow
	[ "$(grep -c "to 127.0.0.1:$FAR: ended by signal 15, 0 bytes up, 3 down, " server.err)" -eq 20 ]
	! "$PEER" -c "$SERVER" close || false
}

@test "the first process of a container ends its tunnels, each with a line, before itself" {
	local namespace=(unshare -pf --kill-child)

	[ "$(id -u)" -eq 0 ] || namespace+=(-U)
	"${namespace[@]}" true || skip 'no namespaces here'
	start_far loop 'send far' eof close
	start_listener server "${namespace[@]}" "$PROXYTUNNEL" --serve -a 0 --allow "127.0.0.1:$FAR"
	SERVER=$PORT
	start crowd "$PEER" -c "$SERVER" 'crowd 50' "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'expect far' 'meet standing' 'gone 4000'
	await test -e standing
	kill -TERM "$(children server)"
	finished server
	finished crowd
	[ "$(grep -c "to 127.0.0.1:$FAR: ended by signal 15, 0 bytes up, 3 down, " server.err)" -eq 50 ]
}

@test "with -i it serves the socket on stdin, as a child of socat has it, and logs who came" {
	start_far
	free_port
	SERVER=$PORT
	start socat socat "TCP-LISTEN:$SERVER,bind=127.0.0.1,reuseaddr,fork" "EXEC:$PROXYTUNNEL --serve -i --allow 127.0.0.1\\:$FAR,nofork"
	ln -s socat.err server.err
	await port_taken "$SERVER"
	reaches "127.0.0.1:$FAR"
	logs "127.0.0.1:* to 127.0.0.1:$FAR: done, 2 bytes up, 3 down, *"
	refuses 403 127.0.0.1:22
	logs '127.0.0.1:* to 127.0.0.1:22: 403, not allowed'
	ask 'send GET / HTTP/1.0\r\n\r\n'
	answered 404
}

@test "with -i it serves a Unix socket, with credentials, --tls-only and a limit of time" {
	accounts 'open:sesame\n'
	start_far loop "expect $HELLO" 'send far' eof close
	set -- -- "$PROXYTUNNEL" --serve -i --allow "127.0.0.1:$FAR" -F accounts --tls-only -w 1
	drive_command -s socket "$(connects "127.0.0.1:$FAR" "$(proxy_authorization open:sesame)")$HELLO" "$GRANTED" 'expect far' half-close \
		eof 'status 0 2000' "$@"
	err_has "the client user open to 127.0.0.1:$FAR: done, 19 bytes up, 3 down, "
	drive_command -s socket "$(connects "127.0.0.1:$FAR")" 'expect HTTP/1.1 407 ' 'status 0 2000' "$@"
	drive_command -s socket 'send CONNECT' 'expect HTTP/1.1 408 ' 'status 75 2000' "$@"
}

@test "with -i on a connection there are no sessions: 501, and what to start" {
	local id=0123456789abcdef0123456789abcdef

	drive_command -s socket "send POST /$id HTTP/1.1\r\nHost: x\r\nTunnel-Key: $id\r\nContent-Length: 7\r\n\r\nhost:22" \
		'expect HTTP/1.1 501 no sessions with -i' 'status 0 2000' -- "$PROXYTUNNEL" --serve -i --allow 'host:22'
	err_has 'the relay needs -a'
}

@test "a client that leaves within a body that was refused ends nothing but itself" {
	serve --allow '*:22'
	"$PEER" -c "$SERVER" 'send PUT /0123456789abcdef0123456789abcdef/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nhello' half-close \
		'expect HTTP/1.1 410 ' sink
	refuses 403 127.0.0.1:1
}

@test "a far end that resets before the ClientHello has come has broken the tunnel, and the log says so" {
	start_far accept 'await asked' reset
	serve --allow '127.0.0.1:*' --tls-only
	"$PEER" -c "$SERVER" "$(connects "127.0.0.1:$FAR")" head 'touch asked' 'await reset' "send $HELLO" sink &
	finished far
	touch reset
	wait $! || true # it may be reset, too
	logs "127.0.0.1:* to 127.0.0.1:$FAR: broken by the far end, *"
}

# credentials_of PID: its users, groups and capabilities, as numbers.
credentials_of() {
	awk '/^(Uid|Gid|Groups|CapPrm|CapEff|CapInh|CapAmb):/ { $1 = $1; print }' "/proc/$1/status"
}

# is_nobody PID: and nothing more, in any respect.
is_nobody() {
	local uid gid

	uid=$(id -u nobody) gid=$(id -g nobody)
	credentials_of "$1"
	[ "$(credentials_of "$1")" = "$(printf '%s\n' "Uid: $uid $uid $uid $uid" "Gid: $gid $gid $gid $gid" 'Groups:' 'CapInh: 0000000000000000' \
		'CapPrm: 0000000000000000' 'CapEff: 0000000000000000' 'CapAmb: 0000000000000000')" ]
}

@test "started as root it binds, reads -F, then is nobody, with all its children, and says so" {
	[ "$(id -u)" -eq 0 ] || skip 'not root'
	accounts 'open:sesame\n'
	chmod 700 .
	start_far accept 'send far' eof
	serve -a 127.0.0.1:0 -F accounts --allow "127.0.0.1:$FAR"
	logs 'started as root, now nobody'
	[ "$(grep -c nobody server.err)" -eq 1 ]
	is_nobody "${PIDS[server]}"
	start client "$PEER" -c "$SERVER" "$(connects "127.0.0.1:$FAR" "$(proxy_authorization open:sesame)")" "$GRANTED" 'expect far' \
		'touch standing' 'await seen'
	await test -e standing
	is_nobody "$(children server)"
	touch seen
	finished client
}

@test "started as root with -i it is nobody, too" {
	[ "$(id -u)" -eq 0 ] || skip 'not root'
	start_far accept 'send far' eof
	start client "$PEER" -s socket "$(connects "127.0.0.1:$FAR")" "$GRANTED" 'expect far' 'touch standing' 'await seen' -- \
		"$PROXYTUNNEL" --serve -i --allow "127.0.0.1:$FAR"
	await test -e standing
	is_nobody "$(children client)"
	grep -q 'started as root, now nobody' client.err
	touch seen
	finished client
}

@test "as root, without a way to become nobody, it does not start: 71" {
	[ "$(id -u)" -eq 0 ] || skip 'not root'
	status=0
	limited setpriv --bounding-set -setuid,-setgid "$PROXYTUNNEL" --serve -a 0 --allow '*:22' 2>err || status=$?
	status_is 71
	err_has 'cannot become nobody'
}

@test "started as another user it serves, and says nothing of root or nobody" {
	start_far
	serve_unprivileged --allow "127.0.0.1:$FAR"
	SERVER=$PORT
	reaches "127.0.0.1:$FAR"
	! grep -qE 'root|nobody' server.err || false
}

# --- patterns in plain form -------------------------------------------------------------------

# fits PATTERN TARGET, fits_not PATTERN TARGET: a server that allows the one is asked for the other, where nothing listens.
answer_of() {
	serve --allow "$1"
	rm -f answer
	"$PEER" -c "$PORT" "send CONNECT $2 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" 'log answer' head || true
	head -n 1 answer
	stop server
}

@test "an address in --allow is brought to the form of what is asked for, and ADDRESS/BITS is a range" {
	local words

	for words in '127.1:9 127.0.0.1:9' '0x7f000001:9 127.0.0.1:9' '[0:0:0:0:0:0:0:1]:9 [::1]:9' '::1:9 [::1]:9' \
		'[::FFFF:127.0.0.1]:9 127.0.0.1:9' 'LOCALHOST.:9 localhost:9' '127.0.0.1:0009 127.0.0.1:9' \
		'127.0.0.0/8:9 127.1.2.3:9' '127.0.0.0/8:* 127.0.0.1:9' '[::]/64:9 [::1]:9' '[::/64]:9 [::1]:9' '::/64:9 [::1]:9'; do
		echo "$words"
		answer_of $words | grep -q 'HTTP/1.1 502'
	done
	for words in '127.0.0.0/8:9 126.0.0.1:9' '127.0.0.0/8:9 127.0.0.1:10' '127.0.0.0/8:9 localhost:9' \
		'127.0.0.0/8:9 [::1]:9' '::/64:9 127.0.0.1:9'; do
		echo "$words"
		answer_of $words | grep -q 'HTTP/1.1 403'
	done
}

@test "a server whose stderr nobody reads serves on, says how many lines it lost, and SIGTERM ends it at once" {
	local line

	mkfifo log
	exec 7<>log
	"$PROXYTUNNEL" --serve -a 127.0.0.1:0 --allow '127.0.0.1:9' 2>log 3>&- 7>&- &
	PIDS[mute]=$!
	until [[ $line == *'listening on'* ]]; do
		read -r -t 5 line <&7
	done
	PORT=${line##*:}
	stuck "$PORT" 1000
	timeout 1 cat <&7 >heard || true
	stuck "$PORT" 1
	read -r -t 5 line <&7
	grep -q 'lines before this one are lost' <<<"$line"
	stuck "$PORT" 1000
	kill "${PIDS[mute]}"
	await mute_gone
	unset "PIDS[mute]"
	exec 7>&-
}

mute_gone() {
	! kill -0 "${PIDS[mute]}"
}

# stuck PORT N: so many requests are refused, each of which is logged.
stuck() {
	local i answer

	for ((i = 0; i < $2; i++)); do
		exec 8<>"/dev/tcp/127.0.0.1/$1"
		printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\n' >&8
		read -r -t 5 answer <&8
		exec 8>&-
	done
}

@test "a server, which starts no program, can gain no rights by one; a client's commands may be setuid" {
	serve -a 127.0.0.1:0 --allow '*:22'
	grep -q '^NoNewPrivs:	1$' "/proc/${PIDS[server]}/status"
	SHELL=/bin/sh "$PROXYTUNNEL" --proxy-command='grep NoNewPrivs: /proc/self/status >privileges' -d host:22 </dev/null 2>err || true
	grep -q '^NoNewPrivs:	0$' privileges
}
