# Heads that are hostile or just wrong, and what a server has to answer to each.
#
#	each_head COMMAND AUTHORITY PORT
#		COMMAND STATUS WHAT TEXT for each of them, TEXT as the peer has it; each has its fault alone, or
#		would be a tunnel to AUTHORITY, whose port is PORT
#
# What is sent behind a head is a body to some readers, and a request smuggled in to others.

each_head() {
	local head=$1 a=$2 port=$3 host connect get

	host="Host: $a\r\n"
	connect="CONNECT $a HTTP/1.1\r\n$host"
	get="GET / HTTP/1.1\r\n$host"

	heads_of_lengths
	heads_of_lines
	heads_of_hosts
	heads_of_request_lines
	heads_of_authorities
	heads_of_other_requests
	heads_of_other_protocols
}

# RFC 9112 6.3, and a tunnel's request has no content (RFC 9110 9.3.6).
heads_of_lengths() {
	local smuggled="$connect\r\n" value

	"$head" 400 'both lengths' "${connect}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
	"$head" 400 'both lengths, in the other order' "${connect}Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"
	"$head" 400 'both lengths in a GET, with a request behind' \
		"${get}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n$smuggled"
	"$head" 400 'two lengths' "${connect}Content-Length: 0\r\nContent-Length: 3\r\n\r\nabc"
	"$head" 400 'two equal lengths' "${connect}Content-Length: 0\r\nContent-Length: 0\r\n\r\n"
	"$head" 400 'two lengths in different case' "${get}content-length: 0\r\nCONTENT-LENGTH: 3\r\n\r\nabc"
	for value in '0, 0' '' -1 +0 0x0 0a '0 0' '\x0b0' '"0"' 0.0 '\xd9\xa0'; do
		"$head" 400 "a length of \"$value\"" "${connect}Content-Length: $value\r\n\r\n"
	done
	"$head" 400 'a body' "${connect}Content-Length: 3\r\n\r\nabc"
	"$head" 400 'a length beyond every number' "${connect}Content-Length: 18446744073709551616\r\n\r\n"
	for value in chunked identity 'gzip, chunked' 'chunked, identity' xchunked ''; do
		"$head" 411 "a coding of \"$value\"" "${connect}Transfer-Encoding: $value\r\n\r\n0\r\n\r\n"
	done
	"$head" 411 'a GET in chunks, with a request behind' "${get}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n$smuggled"
}

# RFC 9112 2.2, 5.1, 5.2.
heads_of_lines() {
	local byte character

	"$head" 400 'a folded field' "${connect}X: y\r\n z\r\n\r\n"
	"$head" 400 'a field folded by a tab' "${connect}X: y\r\n\tz\r\n\r\n"
	"$head" 400 'a folded Host' "CONNECT $a HTTP/1.1\r\nHost:\r\n $a\r\n\r\n"
	"$head" 400 'a space before the first field' "CONNECT $a HTTP/1.1\r\n X: y\r\n$host\r\n"
	"$head" 400 'a line of nothing but a space' "$connect \r\n\r\n"
	"$head" 400 'a bare CR in a value' "${connect}X: y\rz\r\n\r\n"
	"$head" 400 'a bare CR that hides a field' "${connect}X: y\rTransfer-Encoding: chunked\r\n\r\n"
	"$head" 400 'a bare CR in the request line' "CONNECT $a\r HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a bare CR before a CRLF' "${connect}X: y\r\r\n\r\n"
	"$head" 400 'a bare CR before the end' "$connect\r\r\n\r\n"
	"$head" 400 'a bare CR first' "\r$connect\r\n"
	"$head" 400 'a NUL in a value' "${connect}X: y\0z\r\n\r\n"
	"$head" 400 'a NUL in a name' "${connect}X\0: y\r\n\r\n"
	"$head" 400 'a NUL in the target' "CONNECT 127.0.0.1\0:$port HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a NUL behind the target' "CONNECT $a\0 HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a NUL first' "\0$connect\r\n"
	for byte in 01 07 08 0b 0c 1b 1f 7f; do
		"$head" 400 "the control character $byte in a value" "${connect}X: y\x$byte\r\n\r\n"
	done
	"$head" 400 'a control character in the target' "CONNECT 127.0.0.1\x01:$port HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a field without a colon' "${connect}X\r\n\r\n"
	"$head" 400 'a field without a name' "$connect: y\r\n\r\n"
	"$head" 400 'a space before the colon' "${connect}X : y\r\n\r\n"
	"$head" 400 'a tab before the colon' "${connect}X\t: y\r\n\r\n"
	"$head" 400 'a space before the colon of a length' "${connect}Content-Length : 3\r\n\r\nabc"
	for character in ' ' '(' '/' '@' '[' '"' '=' '\x80'; do
		"$head" 400 "a $character in a name" "${connect}X${character}Y: z\r\n\r\n"
	done
}

# RFC 9112 3.2.
heads_of_hosts() {
	local value

	"$head" 400 'two Hosts' "${connect}Host: elsewhere.test:22\r\n\r\n"
	"$head" 400 'two equal Hosts' "$connect$host\r\n"
	"$head" 400 'two Hosts in different case' "${connect}hOST: $a\r\n\r\n"
	"$head" 400 'no Host' "CONNECT $a HTTP/1.1\r\n\r\n"
	"$head" 400 'no Host, but one like it' "CONNECT $a HTTP/1.1\r\nHosts: $a\r\nX-Host: $a\r\n\r\n"
	for value in 'a b' 'a,b' 'user@a' 'a/b' 'a?b' 'a#b' '"a"' 'a\\b' 'http://a'; do
		"$head" 400 "a Host of $value" "CONNECT $a HTTP/1.1\r\nHost: $value\r\n\r\n"
	done
}

# RFC 9112 3, 2.3.
heads_of_request_lines() {
	local version method

	for version in HTTP/2.0 HTTP/3 HTTP/0.9 HTTP/1.10 HTTP/01.1 HTTP/1 HTTP/1. HTTP/.1 HTTP/1,1 HTTP/11 http/1.1 HTTP/1.1x \
		HTTP/-1.1 HTTPS/1.1 TTP/1.1 HTTP/1.1.1 1.1; do
		"$head" 400 "version $version" "CONNECT $a $version\r\n$host\r\n"
	done
	"$head" 400 'no version' "CONNECT $a\r\n$host\r\n"
	"$head" 400 'no version behind a space' "CONNECT $a \r\n$host\r\n"
	"$head" 400 'no target' "CONNECT HTTP/1.1\r\n$host\r\n"
	"$head" 400 'no target between spaces' "CONNECT  HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a method alone' 'CONNECT\r\n\r\n'
	"$head" 400 'no method' "$a HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a space first' " CONNECT $a HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a space first, behind an empty line' "\r\n CONNECT $a HTTP/1.1\r\n$host\r\n"
	"$head" 400 'two spaces before the target' "CONNECT  $a HTTP/1.1\r\n$host\r\n"
	"$head" 400 'two spaces behind it' "CONNECT $a  HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a space at the end' "CONNECT $a HTTP/1.1 \r\n$host\r\n"
	"$head" 400 'tabs between' "CONNECT\t$a\tHTTP/1.1\r\n$host\r\n"
	"$head" 400 'a word more' "CONNECT $a HTTP/1.1 HTTP/1.1\r\n$host\r\n"
	"$head" 400 'two targets' "CONNECT $a elsewhere.test:22 HTTP/1.1\r\n$host\r\n"
	"$head" 400 'nothing but empty lines' '\r\n\r\n'
	"$head" 400 'two empty lines first' "\n\n$connect\r\n"
	for method in connect Connect CONNECTX XCONNECT; do
		"$head" 405 "method $method" "$method $a HTTP/1.1\r\n$host\r\n"
	done
	for method in 'CONN(ECT' '\xc3\x87ONNECT' '"CONNECT"' 'CONNECT:' 'CONNECT,'; do
		"$head" 400 "method $method" "$method $a HTTP/1.1\r\n$host\r\n"
	done
}

# RFC 9112 3.2.3, RFC 3986 3.2.
heads_of_authorities() {
	local target

	for target in 127.0.0.1:{99999,65536,0,00,-"$port","+$port","${port}x","x$port",0x16,"$port.","$port,22","$port:",ssh,'%32%32'} \
		4294967318 127.0.0.1:4294967318 127.0.0.1:18446744073709551638; do
		"$head" 400 "the port of $target" "CONNECT $target HTTP/1.1\r\n$host\r\n"
	done
	for target in 127.0.0.1 127.0.0.1: ":$port" : '*' . .. / "http://$a" "http://$a/" "https://user:pass@$a/" "//$a" "/$a" "$a/" \
		"$a/x" "$a?x" "$a#x" "user@$a" "user:pass@$a" "@$a" ":@$a" "$a@elsewhere.test:22" "elsewhere.test:22@$a" \
		"$a,$a" "$a;$a" "127.0.0.1:22:$port" "$port:127.0.0.1" "127.0.0.1\\\\:$port" "'127.0.0.1':$port" "\"127.0.0.1\":$port" \
		"<127.0.0.1>:$port" "%31%32%37.0.0.1:$port" "127.0.0.1%00:$port" "127.0.0.1%20:$port" "127.0.0.1%:$port" \
		"-127.0.0.1:$port" "127.0.0.1|:$port" "(127.0.0.1):$port" "127.0.0.*:$port" "127.0.0.?:$port" "\$HOST:$port" \
		"::1:$port" "::ffff:127.0.0.1:$port" "2001:db8::1:$port" "[::1" "[::1]" "[::1]$port" "[::1:$port" "::1]:$port" \
		"[[::1]]:$port" "[::1]:22:$port" "[::1]x:$port" "x[::1]:$port" "[]:$port" "[:]:$port" "[:::]:$port" "[::1::]:$port" \
		"[1:2:3:4:5:6:7:8:9]:$port" "[::12345]:$port" "[::g]:$port" "[127.0.0.1]:$port" "[localhost]:$port" "[v1.a]:$port" \
		"[fe80::1%lo]:$port" "[fe80::1%25lo]:$port" "[::1%1]:$port" "[::ffff:127.0.0.1%1]:$port" "[::ffff:127.0.0.256]:$port"; do
		"$head" 400 "target $target" "CONNECT $target HTTP/1.1\r\n$host\r\n"
	done
	"$head" 400 'a space within the target' "CONNECT 127.0.0.1 :$port HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a tab within the target' "CONNECT 127.0.0.1\t:$port HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a space behind the colon' "CONNECT 127.0.0.1: $port HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a host of 256 bytes' "CONNECT $(printf 'x%.0s' {1..256}):$port HTTP/1.1\r\n$host\r\n"
	"$head" 403 'a host of 255 bytes' "CONNECT $(printf 'x%.0s' {1..255}):$port HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a host of wide digits' "CONNECT \xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1:$port HTTP/1.1\r\n$host\r\n"
	"$head" 400 'a host with the dot of another script' "CONNECT 127\xe3\x80\x820.0.1:$port HTTP/1.1\r\n$host\r\n"
	"$head" 403 'a dot too many' "CONNECT 127.0.0.1..:$port HTTP/1.1\r\n$host\r\n"
	"$head" 403 'an octet too large' "CONNECT 127.0.0.257:$port HTTP/1.1\r\n$host\r\n"
	"$head" 403 'an octet too many' "CONNECT 127.0.0.0.1:$port HTTP/1.1\r\n$host\r\n"
}

# RFC 9112 3.2.2.
heads_of_other_requests() {
	local method

	for method in GET HEAD POST PUT DELETE; do
		"$head" 404 "$method of a path" "$method / HTTP/1.1\r\n$host\r\n"
		"$head" 404 "$method of a URL" "$method http://$a/ HTTP/1.1\r\n$host\r\n"
		"$head" 404 "$method of an authority" "$method $a HTTP/1.1\r\n$host\r\n"
	done
	for method in OPTIONS TRACE PATCH get CONNECT- X; do
		"$head" 405 "$method of a path" "$method / HTTP/1.1\r\n$host\r\n"
	done
	"$head" 405 'OPTIONS of all' "OPTIONS * HTTP/1.1\r\n$host\r\n"
	"$head" 404 'a request without a Host, of HTTP/1.0' 'GET / HTTP/1.0\r\n\r\n'
	"$head" 404 'a body, with a request in it' "POST / HTTP/1.1\r\n${host}Content-Length: 999\r\n\r\n$connect\r\n"
	"$head" 404 'a request behind another' "$get\r\n$connect\r\n"
	"$head" 404 'an upgrade' "${get}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	"$head" 404 'a user in a URL' "GET http://user@$a/ HTTP/1.1\r\n$host\r\n"
	"$head" 404 'a user and password in a URL' "GET http://user:pass@$a/ HTTP/1.1\r\n$host\r\n"
	"$head" 404 'a user in an ftp URL' "GET ftp://user:pass@$a HTTP/1.1\r\n$host\r\n"
}

heads_of_other_protocols() {
	"$head" 400 'HTTP/0.9' 'GET /\r\n\r\n'
	"$head" 400 'HTTP/2' 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
	"$head" 400 'an answer' 'HTTP/1.1 200 OK\r\n\r\n'
	"$head" 400 ssh 'SSH-2.0-OpenSSH_9.2\r\n\r\n'
	"$head" 400 'SOCKS 4' '\x04\x01\0\x16\x7f\0\0\x01\0'
	"$head" 400 'SOCKS 5' '\x05\x01\0'
	"$head" 400 TLS '\x16\x03\x01\0\xc8\x01\0\0\xc4\x03\x03'
	"$head" 400 'a PROXY line' "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n$connect\r\n"
	"$head" 400 mail 'EHLO localhost\r\n\r\n'
}
