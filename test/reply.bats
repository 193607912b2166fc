#!/usr/bin/env bats
# The CONNECT exchange: what is asked, each answer a proxy may give, and the limits of both.

load helper

# What a tunnel carries may look like anything, a head included.
BYTES='SSH-2.0-far\r\n\0\xff\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n'
OK='HTTP/1.1 200 OK\r\n\r\n'

# opens STEP...: behind what is sent there the tunnel stands, and every byte of it is exact.
opens() {
	start_peer proxy accept head "$@" "send $BYTES" 'expect up\r\n' eof close
	tunnel < <(printf 'up\r\n')
	status_is 0
	out_is "$BYTES"
	err_empty
	finished proxy
}

# fails STATUS STEP...: that is no answer to open a tunnel for; one line says why, at once.
fails() {
	local want=$1

	shift
	start_peer proxy accept head "$@"
	tunnel -w 5 </dev/null
	status_is "$want"
	out_is ''
	err_one_line
	err_has "127.0.0.1:$PORT"
	finished proxy
}

# bounded STATUS STEP... [-- OPTION...]: an answer without an end meets a limit, little memory used.
bounded() {
	local want=$1 script=() memory=('peak 4M')

	shift
	[ -z "$SANITIZED" ] || memory=()
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		script+=("$1")
		shift
	done
	start_peer proxy accept head "${script[@]}"
	drive eof "status $want 3000" "${memory[@]}" "$@"
	err_one_line
	finished proxy
}

# asks TEXT OPTION...: the request is TEXT, to the byte.
asks() {
	local want=$1

	shift
	start_peer proxy accept 'log request' head-alone "send $OK" close
	program -p "127.0.0.1:$PORT" "$@" </dev/null
	finished proxy
	cmp <(printf %b "$want") request
}

# --- the request --------------------------------------------------------------

@test "the request is CONNECT, Host and a blank line, in one segment" {
	asks 'CONNECT host:22 HTTP/1.1\r\nHost: host:22\r\n\r\n' -d host:22
}

@test "tabs and several spaces between the parts of a status line are no reason to refuse it" {
	opens 'send HTTP/1.1  200  OK\r\n\r\n'
	opens 'send HTTP/1.1\t200\tOK\r\n\r\n'
	opens 'send HTTP/1.0 \t 200\r\n\r\n'
	fails 77 'send HTTP/1.1\t 403\tNo way\r\n\r\n' close
	err_has '403'
}

@test "an IPv6 destination stands in brackets" {
	asks 'CONNECT [2001:db8::1]:22 HTTP/1.1\r\nHost: [2001:db8::1]:22\r\n\r\n' -d 2001:db8::1:22
	asks 'CONNECT [2001:db8::1]:22 HTTP/1.1\r\nHost: [2001:db8::1]:22\r\n\r\n' -d '[2001:db8::1]:22'
}

@test "credentials go in Proxy-Authorization, the user's headers behind it, all in one segment" {
	asks 'CONNECT host:22 HTTP/1.1\r\nHost: host:22\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\nX-One: 1\r\nX-Two: a b\r\n\r\n' \
		-d host:22 -P user:pass -H 'X-One: 1' -H 'X-Two: a b'
}

@test "a header of the user's replaces the default one of that name" {
	asks 'CONNECT host:22 HTTP/1.1\r\nproxy-authorization: Bearer abc\r\nhost: other:99\r\n\r\n' \
		-d host:22 -P user:pass -H 'proxy-authorization: Bearer abc' -H 'host: other:99'
}

@test "-o gives another Host" {
	asks 'CONNECT host:22 HTTP/1.1\r\nHost: other:99\r\n\r\n' -d host:22 -o other:99
}

@test "a control character in host, header or credential is refused before anything is sent" {
	local word

	start_peer proxy accept 'touch connected'
	for word in $'ho\x01st:22' $'host\r\nX: y:22'; do
		program -p "127.0.0.1:$PORT" -d "$word" </dev/null
		status_is 64
		err_one_line
	done
	for word in $'-HX: a\nb' $'-HX: a\rb' $'-HX: \x7f' $'-Pus\x01er:pass' $'-Puser:pa\nss'; do
		tunnel "$word" </dev/null
		status_is 64
		err_one_line
	done
	[ ! -e connected ]
}

@test "nothing follows the request before the answer, even if stdin has ended already" {
	start_peer proxy accept head-alone 'quiet 200' 'send HTTP/1.1 100 Continue\r\n\r\n' 'quiet 100' \
		"send ${OK}late" 'expect early' eof close
	tunnel < <(printf early)
	status_is 0
	out_is late
	finished proxy
}

@test "a refusal leaves stdin unread, for whoever comes next" {
	printf 'for the next one\n' >input
	start_peer proxy accept head 'send HTTP/1.1 403 No\r\n\r\n' close
	{
		tunnel
		cat >rest
	} <input
	status_is 77
	cmp input rest
}

# --- answers that open the tunnel ---------------------------------------------

@test "the head and the tunnel's first bytes in one segment lose no byte" {
	start_peer proxy accept head "send $OK$BYTES" eof close
	tunnel </dev/null
	status_is 0
	out_is "$BYTES"
	finished proxy
}

@test "a head in segments of one byte, and the tunnel's first bytes likewise, lose no byte" {
	start_peer proxy accept head "trickle 1 1 HTTP/1.1 200 OK\r\nX: y\r\n\r\n$BYTES" eof close
	tunnel </dev/null
	status_is 0
	out_is "$BYTES"
	finished proxy
}

@test "a reply split anywhere, its blank line included, loses no byte" {
	local cut IFS=
	local parts=('HTT' 'P/1.1' ' ' '20' '0 OK' '\r' '\n' 'A: b' '\r' '\n' '\r' '\n' 'fir' 'st')

	for ((cut = 1; cut < ${#parts[@]}; cut++)); do
		start_peer proxy accept head "send ${parts[*]:0:cut}" 'pause 20' "send ${parts[*]:cut}" eof close
		tunnel </dev/null
		status_is 0
		out_is first
		finished proxy
	done
}

@test "a head of 60 KiB in 400 lines is read" {
	opens 'send HTTP/1.1 200 OK\r\n' "repeat 400 X-Filler: $(printf %0140d 0)\r\n" 'send \r\n'
}

@test "a header line of 32 KiB is read" {
	opens 'send HTTP/1.1 200 OK\r\nX-Long: ' 'repeat 32K a' 'send \r\n\r\n'
}

@test "a head of exactly 64 KiB is read, with a byte more it is too long" {
	opens 'send HTTP/1.1 200 OK\r\nX-Long: ' 'repeat 65507 a' 'send \r\n\r\n'
	fails 76 'send HTTP/1.1 200 OK\r\nX-Long: ' 'repeat 65508 a' 'send \r\n\r\n' hold
}

@test "three 1xx before the 200 are skipped, together or apart" {
	local early='HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX: y\r\n\r\nHTTP/1.1 103\r\n\r\n'

	opens "send $early$OK"
	opens "send $early" 'pause 30' "send $OK"
	opens "trickle 0 1 $early$OK"
}

@test "a status line without a reason, with or without the space, opens the tunnel" {
	opens 'send HTTP/1.1 200\r\n\r\n'
	opens 'send HTTP/1.1 200 \r\n\r\n'
}

@test "lines may end in a bare LF" {
	opens 'send HTTP/1.1 200 OK\nX: y\n\n'
	opens 'send HTTP/1.1 200 OK\r\nX: y\n\r\n'
	opens 'send HTTP/1.1 200 OK\nX: y\r\n\n'
}

@test "Content-Length and Transfer-Encoding in a 2xx mean nothing" {
	opens 'send HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'
	opens 'send HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
	opens 'send HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
}

@test "every 2xx opens the tunnel, and HTTP/1.0 does" {
	opens 'send HTTP/1.0 200 Connection established\r\nProxy-agent: old\r\n\r\n'
	opens 'send HTTP/1.1 201 Created\r\n\r\n'
	opens 'send HTTP/1.1 204 No Content\r\n\r\n'
	opens 'send HTTP/1.1 299 Odd\r\n\r\n'
}

@test "a tunnel that ends with its head is a tunnel: status 0, nothing said" {
	start_peer proxy accept head "send $OK" close
	tunnel </dev/null
	status_is 0
	out_is ''
	err_empty
}

# --- answers that are none ----------------------------------------------------

@test "an SSH banner in place of HTTP is known at once" {
	fails 76 'send SSH-2.0-OpenSSH_9.2\r\n' hold
}

@test "a TLS alert in place of HTTP is known at once" {
	fails 76 'send \x15\x03\x01\x00\x02\x02\x46' hold
}

@test "a malformed status line is not HTTP" {
	local line

	for line in 'HTTP/2 200 OK' 'HTTP/1.1 20 OK' 'HTTP/1.1 2000 OK' 'HTTP/1.1 200OK' 'HTTP/1.x 200 OK' \
		'http/1.1 200 OK' 'ICY 200 OK' ' HTTP/1.1 200 OK' \
		'HTTP/1.1 +20 OK' 'HTTP/1.1 2 0' 'HTTP/1.1' '200 OK' 'HTTP/1.10 200 OK' 'HTTP/1.1! 200 OK'; do
		echo "$line"
		fails 76 "send $line\r\n\r\nleaked" hold
	done
}

@test "an endless head ends at the limit, in little memory" {
	bounded 76 'send HTTP/1.1 200 OK\r\n' 'repeat forever X-Filler: abcdefgh\r\n'
}

@test "an endless line ends at the limit, in little memory" {
	bounded 76 'repeat forever HTTP/1.1 200 '
}

@test "endless 1xx end at the limit, in little memory" {
	bounded 76 'repeat forever HTTP/1.1 100 Continue\r\n\r\n'
}

@test "a head that trickles for ever ends with the time, in little memory" {
	bounded 75 'send HTTP/1.1 200 OK\r\n' 'trickle 5 forever X-Filler: abc\r\n' -- -w 1
}

@test "1xx that trickle for ever end with the time, in little memory" {
	bounded 75 'trickle 5 forever HTTP/1.1 100 Continue\r\n\r\n' -- -w 1
}

@test "a silent proxy ends with the time" {
	bounded 75 hold -- -w 1
	err_has "127.0.0.1:$PORT"
}

@test "a proxy that closes without an answer is unavailable" {
	fails 69 close
	fails 69 reset
}

@test "a proxy that closes within its head breaks the protocol" {
	fails 76 'send HTTP/1.1 200 OK\r\nX: y' close
	fails 76 'send HTTP/1.1 200 OK\r\nX: y\r\n' close
	fails 76 'send HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2' close
}

# --- refusals -----------------------------------------------------------------

@test "the method, the destination or the credentials refused: 77" {
	local code

	for code in 401 403 405 407 501; do
		fails 77 "send HTTP/1.1 $code Said So\r\n\r\n" close
		err_has 'CONNECT host:22'
		err_has "$code Said So"
	done
}

@test "every other refusal: 69" {
	local code

	for code in 300 301 302 400 404 429 500 502 503 504 999; do
		fails 69 "send HTTP/1.1 $code Said So\r\n\r\n" close
		err_has 'CONNECT host:22'
		err_has "$code Said So"
	done
}

# hints WANT REPLY: the message for it has WANT in it.
hints() {
	start_peer proxy accept head "send HTTP/1.1 $2\r\n\r\n" close
	tunnel "${@:3}" </dev/null
	err_one_line
	err_has "$1"
}

@test "a refusal has a hint that fits: which ports, whether the host is there, TLS, another way" {
	local code

	hints '(many proxies let only port 443 through)' '403 Forbidden'
	hints '(many proxies let only port 443 through)' '403'
	for code in '500 Internal Server Error' '502 Bad Gateway' '502 Proxy Error' '503 Service Unavailable' '504 Gateway Timeout'; do
		hints "$code (can it resolve and reach host:22? -v shows all that it says)" "$code"
	done
	hints '(if it speaks TLS, put https:// before its name)' '400 Bad Request'
	hints '(it does no CONNECT; try --relay)' '405 Method Not Allowed'
	hints '(it does no CONNECT; try --relay)' '501 Not Implemented'
}

@test "a refusal with a reason of its own gets no guess about the port or the host" {
	local code

	for code in '403 not allowed' '403 Filtered by the parents' '503 too many clients' '500 Unable to connect'; do
		hints "$code (-v shows all that it says)" "$code"
	done
}

@test "what is no HTTP proxy is told as what it is: ssh, TLS, SOCKS" {
	fails 76 'send SSH-2.0-OpenSSH_9.2\r\n' close
	err_has '(that is an ssh server, no proxy)'
	fails 76 'send \x15\x03\x03\0\x02\x02\x46' close
	err_has '(it speaks TLS: put https:// before its name)'
	fails 69 close
	err_has '(is it an HTTP proxy, not for SOCKS? one with TLS takes https:// before its name)'
}

@test "a refusal without a reason is told by its code" {
	fails 69 'send HTTP/1.1 503\r\n\r\n' close
	err_has 503
}

@test "a refusal is told at once, though the proxy goes on sending or keeps the connection" {
	fails 69 'send HTTP/1.1 502 Bad Gateway\r\nContent-Length: 100000\r\n\r\nbody' hold
	fails 69 'send HTTP/1.1 502 Bad Gateway\r\n\r\n' 'repeat forever <html>'
}

@test "a refusal's body is neither on stdout nor, without -v, on stderr" {
	fails 77 'send HTTP/1.1 403 Forbidden\r\nContent-Length: 11\r\n\r\nthe reasons' close
	err_lacks 'the reasons'
}

@test "a redirect is not followed" {
	start_peer elsewhere accept 'touch followed' hold
	fails 69 "send HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:$PORT/\r\n\r\n" close
	[ ! -e followed ]
}

@test "under -v a refusal's body is on stderr, 2 KiB of it, escaped" {
	start_peer proxy accept head \
		'send HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\n\r\nport 22 \x1b[2Jis closed ' 'repeat 5000 ~' close
	tunnel -v </dev/null
	status_is 77
	out_is ''
	err_has 'is closed ~~~'
	[ "$(tr -cd '~' <err | wc -c)" -gt 1900 ]
	err_has 'port 22 \x1b[2J'
	err_lacks $'\x1b'
	start_peer proxy accept head 'send HTTP/1.1 403 Forbidden\r\n\r\n' 'repeat 500 ~~~~~~~~~\n' close
	tunnel -v </dev/null
	[ "$(tr -cd '~' <err | wc -c)" -gt 1700 ]
	[ "$(tr -cd '~' <err | wc -c)" -le 2048 ]
}

@test "under -v a refusal is told all the same when its body trickles or does not come" {
	start_peer proxy accept head 'send HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nsome' hold
	drive eof 'status 77 1500' -- -v -w 1
	err_has 'refused: 403 Forbidden'
	start_peer proxy accept head 'send HTTP/1.1 403 Forbidden\r\n\r\n' 'trickle 50 forever x'
	drive eof 'status 77 2500' -- -v -w 2
	err_has 'refused: 403 Forbidden'
	finished proxy
}

@test "terminal escapes in a reason are printed as text" {
	fails 69 'send HTTP/1.1 502 \x1b]0;title\x07\x9b2J\xc3\xa9\r\n\r\n' close
	err_has '\x1b]0;title\x07\x9b2J'
}

@test "a 407 names what the proxy offers" {
	fails 77 'send HTTP/1.1 407 Auth\r\nproxy-authenticate: Negotiate\r\nProxy-Authenticate:Basic realm="a"\r\n\r\n' close
	err_has Basic
	err_has Negotiate
	fails 77 'send HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm="a, \\" , Bear, b", charset="UTF-8" , NTLM\r\n\r\n' close
	err_has 'offers Basic, NTLM)'
}

@test "-v tells both heads, and not the password; -q tells why it failed, -qq nothing" {
	start_peer proxy accept head 'send HTTP/1.1 403 Forbidden\r\nX-Why: \x1b[2Jrules\r\n\r\n' close
	tunnel -v -P user:secretword </dev/null
	status_is 77
	err_has 'CONNECT host:22 HTTP/1.1'
	err_has 'X-Why: \x1b[2Jrules'
	err_lacks secretword
	err_lacks "$(printf user:secretword | base64)"
	start_peer proxy accept head 'send HTTP/1.1 403 Forbidden\r\n\r\n' close
	tunnel -q </dev/null
	status_is 77
	err_one_line
	start_peer proxy accept head 'send HTTP/1.1 403 Forbidden\r\n\r\n' close
	tunnel -qq </dev/null
	status_is 77
	err_empty
}
