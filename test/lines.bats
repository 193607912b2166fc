#!/usr/bin/env bats
# Lines that people have in their ssh_config and scripts already, of seven tools, pasted behind this program's name: each
# runs, or is answered with the line to write, and that line runs.

load helper

# Whatever a name is, FAKE_ADDRESSES says where it is; see named.c.
PROXYTUNNEL=${NAMED:-$ROOT/test/bin/named}

OK='HTTP/1.1 200 OK\r\n\r\n'

# runs WANT WORD...: the line makes a tunnel, and the proxy is asked for CONNECT WANT.
runs() {
	local want=$1

	shift
	echo "runs: $*"
	start_peer proxy accept 'log request' head "send ${OK}far" close
	FAKE_ADDRESSES="127.0.0.1#$PORT" program "$@" </dev/null
	status_is 0
	out_is far
	err_empty
	finished proxy
	[ "$(sed -n '1s/^CONNECT \(.*\) HTTP\/1.1\r$/\1/p' request)" = "$want" ]
}

# requests LINE: one line of what the proxy was sent last.
requests() {
	grep -qx "$1"$'\r' request || {
		cat -v request
		return 1
	}
}

# answered ANSWER WORD...: the line is refused with that of ours to write, and nobody is connected to.
answered() {
	local answer=$1

	shift
	echo "answered: $*"
	FAKE_ADDRESSES='' program "$@" </dev/null
	status_is 64
	out_is ''
	err_one_line
	said=$(sed -n 's/.*write: proxytunnel \(.*\)$/\1/p' err)
	[ "$said" = "$answer" ] || {
		cat err
		return 1
	}
}

# rewritten WANT ANSWER WORD...: likewise, and the answer makes the tunnel that was meant.
rewritten() {
	local words

	answered "${@:2}"
	eval "words=($2)"
	runs "$1" "${words[@]}"
}

# refused WORD LINE...: 64, and one line with WORD in it.
refused() {
	local word=$1

	shift
	FAKE_ADDRESSES='' program "$@" </dev/null
	status_is 64
	out_is ''
	err_one_line
	err_has "$word"
}

# --- corkscrew -----------------------------------------------------------------

@test "lines of corkscrew run, with its file of credentials too" {
	(umask 077 && printf 'user:pass\n' >authfile)
	runs github.com:443 proxy.example.com 8080 github.com 443
	runs host.example.org:22 proxy.corp 3128 host.example.org 22 authfile
	requests 'Proxy-Authorization: Basic dXNlcjpwYXNz'
	runs ssh.github.com:443 proxy.corp.example 80 ssh.github.com 443
}

@test "a proxy and its port in one word before the destination is meant so" {
	runs host.example.org:22 proxy.example.com:8080 host.example.org 22
	runs host.example.org:22 http://proxy.example.com:8080 host.example.org 22
	runs host.example.org:22 proxy.example.com:8080 host.example.org:22
	runs '[2001:db8::1]:22' proxy:8080 '[2001:db8::1]:22'
	runs '[2001:db8::1]:22' user:pass@proxy:8080 2001:db8::1 22
	requests 'Proxy-Authorization: Basic dXNlcjpwYXNz'
}

# --- the old proxytunnel ---------------------------------------------------------

@test "lines of the old proxytunnel run" {
	runs host.example.org:22 -q -p proxy.company.com:8080 -d host.example.org:22
	runs system.home.nl:22 -p proxy.company.com:8080 -P username:password -d system.home.nl:22
	requests 'Proxy-Authorization: Basic dXNlcm5hbWU6cGFzc3dvcmQ='
	PROXYPASS=password runs system.home.nl:22 -p proxy.company.com:8080 -P username -d system.home.nl:22
	requests 'Proxy-Authorization: Basic dXNlcm5hbWU6cGFzc3dvcmQ='
	runs host:22 -p proxy:8080 -u username -s password -d host:22
	requests 'Proxy-Authorization: Basic dXNlcm5hbWU6cGFzc3dvcmQ='
	runs 127.0.0.1:22 -q -p proxy:3128 -d 127.0.0.1:22 -H 'User-Agent: Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)'
	requests 'User-Agent: Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)'
	runs host:443 -p proxy:8080 -d host:443 -x 'ssh to host' -T -L
	runs host:443 --proxy=proxy:8080 --dest=host:443 --proctitle=ssh --no-ssl3 --quiet
	HTTP_PROXY=http://proxy:8080 runs host:22 host:22
}

@test "a -H of the old proxytunnel, behind -r and the destination, is for the first proxy" {
	start_peer proxy accept 'log first' head "send $OK" 'log second' head "send ${OK}far" close
	FAKE_ADDRESSES="127.0.0.1#$PORT" program -p proxy:8080 -r home.example.com:443 -d 127.0.0.1:22 \
		-H 'User-Agent: Mozilla/4.0 (compatible; MSIE 6.0; Win32)' </dev/null
	status_is 0
	out_is far
	finished proxy
	grep -q '^User-Agent: Mozilla' first
	! grep -q '^User-Agent' second || false
	grep -q '^CONNECT home.example.com:443 ' first
	grep -q '^CONNECT 127.0.0.1:22 ' second
}

@test "a -H behind -r, and before the destination or without -d, is for that proxy" {
	local words

	for words in '-d host:22' 'host 22'; do
		start_peer proxy accept 'log first' head "send $OK" 'log second' head "send ${OK}far" close
		# shellcheck disable=SC2086
		FAKE_ADDRESSES="127.0.0.1#$PORT" program -p one:8080 -H 'X-A: 1' -r two:443 -H 'X-B: 2' $words </dev/null
		status_is 0
		finished proxy
		grep -q '^X-A: 1' first
		! grep -q '^X-B' first || false
		grep -q '^X-B: 2' second
		! grep -q '^X-A' second || false
	done
}

@test "a line of the old proxytunnel with -E or -B begins in TLS" {
	local option

	for option in -E -B --encrypt-proxy; do
		start_peer tls accept 'log hello' 'expect \x16\x03' close
		FAKE_ADDRESSES="127.0.0.1#$PORT" program -q $option -p home.example.com:443 -d localhost:22 </dev/null
		status_is 76
		err_one_line
		finished tls
	done
}

@test "a line of the old proxytunnel whose options have gone is told what to write" {
	refused '-g: is of the old proxytunnel; write -p HOST:PORT' -g proxy.customer.com -G 80 -u user -s pass -d host -D 22
	refused '--proxyhost: is of the old proxytunnel; write -p HOST:PORT' --proxyhost=proxy --proxyport=80 --dest=host:22
	refused '-U: is of the old proxytunnel' -p proxy:80 -U NAME -S WORD -d host:22
}

# --- nc ---------------------------------------------------------------------------

@test "lines of nc are answered, and the answer runs" {
	rewritten host.example.org:22 '-p proxy.corp:8080 host.example.org 22' -X connect -x proxy.corp:8080 host.example.org 22
	answered '-p 127.0.0.1:8118 github.com 22' -v -X connect -x 127.0.0.1:8118 github.com 22
	rewritten host:22 '-p proxy:3128 host 22' -X connect -x proxy host 22
	rewritten host:22 '-p proxy:8080 host 22' -Xconnect -xproxy:8080 host 22
	answered '-p [2001:db8::1]:8080 host 22' -x '[2001:db8::1]:8080' -X connect -w 10 host 22
	answered '-p proxy:8080 -P user host 22' -X connect -x proxy:8080 -P user host 22
	answered '-p proxy:8080 -P user host 22' -X connect -x proxy:8080 -P user:secret host 22
	err_lacks secret
}

@test "a line of nc for SOCKS is told so" {
	answered '-p 127.0.0.1:9050 host 22' -X 5 -x 127.0.0.1:9050 host 22
	err_has SOCKS
	answered '-p proxy:1080 host 22' -x proxy:1080 host 22
	err_has SOCKS
	answered '-p proxy:1080 host 22' -X 4 -x proxy host 22
	err_has SOCKS
}

# --- connect ------------------------------------------------------------------------

@test "lines of connect are answered, and the answer runs" {
	rewritten host.example.org:22 '-p proxy.corp:8080 host.example.org 22' -H proxy.corp:8080 host.example.org 22
	answered '-p 192.168.1.1:3128 host 22' -H 192.168.1.1:3128 host 22
	rewritten host:22 '-p proxy:80 host 22' -H proxy host 22
	rewritten host:22 '-p proxy:8080 host 22' -4 -H proxy:8080 host 22
	rewritten host:22 '-p proxy:8080 host 22' -h proxy:8080 host 22
	answered '-p proxy.corp:8080 -P user host 22' -H user@proxy.corp:8080 host 22
	https_proxy=http://other:1 answered '-p proxy:8080 host 22' -H proxy:8080 host 22
	HTTP_PROXY=http://proxy:8080 rewritten host:22 'host 22' -h host 22
	refused SOCKS -S socks.corp:1080 host 22
	refused SOCKS -4 -S socks.corp host 22
}

@test "a header that only looks like a line of connect is a header, where -p is given" {
	runs host:22 -p proxy:8080 -H X-Count:5 host 22
	requests X-Count:5
}

# --- ncat ---------------------------------------------------------------------------

@test "lines of ncat run" {
	runs host:22 --proxy proxy.corp:8080 --proxy-type http host 22
	runs host:22 --proxy proxy.corp:8080 --proxy-type http --proxy-auth user:pass host 22
	requests 'Proxy-Authorization: Basic dXNlcjpwYXNz'
	runs host:22 --proxy-type=http --proxy-auth=user:pass --proxy=proxy.corp:3128 host 22
	requests 'Proxy-Authorization: Basic dXNlcjpwYXNz'
	runs 192.0.2.1:443 -w 10 --proxy proxy.corp:3128 192.0.2.1 443
}

@test "lines of ncat for SOCKS, or to listen, are told what to write" {
	refused '--proxy-type socks5: a SOCKS proxy cannot be used here' --proxy 127.0.0.1:9050 --proxy-type socks5 host 22
	refused '--proxy-type socks4: a SOCKS proxy cannot be used here' --proxy-type socks4 --proxy 127.0.0.1:1080 host 22
	refused '--serve -a PORT --allow HOST:PORT' -l 3128 --proxy-type http
	refused '--serve -a PORT --allow HOST:PORT' --listen --proxy-type http 3128
}

# --- socat --------------------------------------------------------------------------

@test "lines of socat are answered, and the answer runs" {
	rewritten host.example.org:22 '-p proxy.corp:8080 host.example.org:22' - PROXY:proxy.corp:host.example.org:22,proxyport=8080
	rewritten host:22 '-p proxy.corp:3128 host:22' STDIO PROXY:proxy.corp:host:22,proxyport=3128
	rewritten host:22 '-p proxy:8080 host:22' - proxy:proxy:host:22
	answered '-p [2001:db8::1]:3128 host:22' - 'PROXY-CONNECT:[2001:db8::1]:host:22,crnl,proxyport=3128,resolve'
	answered '-p proxy:8080 -P user host:22' - PROXY:proxy:host:22,proxyport=8080,proxyauth=user:secret
	err_lacks secret
	answered '-a 2222 -p proxy:8080 host:22' TCP-LISTEN:2222,reuseaddr,fork PROXY:proxy:host:22,proxyport=8080
	answered '-a 2222 -p proxy:8080 host:22' tcp4-l:2222,bind=127.0.0.1,fork PROXY:proxy:host:22
}

# --- httptunnel ---------------------------------------------------------------------

@test "lines of httptunnel are answered" {
	local with=', with the HOST:PORT that hts forwards to'

	answered "-a 2222 -p proxy.corp:8080 --relay http://far.example.net:80 HOST:PORT$with" -F 2222 -P proxy.corp:8080 far.example.net:80
	answered "-a 2222 -p proxy:8080 --relay http://far:8888 HOST:PORT$with" --forward-port=2222 --proxy=proxy:8080 far:8888
	answered "-a 900 --relay http://far.example.net:8888 HOST:PORT$with" -F 900 far.example.net:8888
	answered "-p proxy:8080 --relay http://far:80 HOST:PORT$with" -s -P proxy:8080 far:80
	answered "-p proxy:8080 --relay http://far:80 HOST:PORT$with" --stdin-stdout -P proxy:8080 far:80
	answered "--serve -a '*:80' --allow localhost:22" -F localhost:22 80
	answered "--serve -a '*:8888' --allow 127.0.0.1:22" --forward-port 127.0.0.1:22 8888
}

@test "a file of credentials whose name is a number is a file" {
	(umask 077 && printf 'user:pass\n' >./2222)
	runs host:22 -F 2222 proxy:8080 host:22
	requests 'Proxy-Authorization: Basic dXNlcjpwYXNz'
}

# --- words in the wrong place ---------------------------------------------------------

@test "a proxy's port in a word of its own is told where it belongs" {
	refused 'write -p proxy:8080' -p proxy 8080 host 22
	refused 'write -p proxy:8080' -p proxy 8080 host:22
	refused 'write -p proxy:8080' -p proxy 8080 -d host:22
	refused 'write -p proxy:8080' -p user:secret@proxy 8080 host 22
	err_lacks secret
}

@test "a user before the destination, a URL in its place, and what no host can hold are named" {
	refused 'user@host:22: a user cannot stand there' -p proxy:8080 user@host:22
	refused 'user@host 22: a user cannot stand there' -p proxy:8080 user@host 22
	refused "'/' cannot stand in a host" -p proxy:8080 http://host:22
	refused "' ' cannot stand in a host" -p proxy:8080 'x y' 22
	refused "'*' cannot stand in a host" -p proxy:8080 '*.example.org:22'
	refused "'?' cannot stand in its path" --relay http://relay/t?x=1 host:22
}

@test "a proxy for SOCKS in the environment is told by the name of its variable" {
	https_proxy=socks5h://127.0.0.1:9050 refused 'no proxy: https_proxy names a SOCKS proxy' host 22
	ALL_PROXY=socks://user:secret@127.0.0.1:9050 refused 'no proxy: ALL_PROXY names a SOCKS proxy' host 22
	err_lacks secret
	all_proxy=socks5://127.0.0.1:9050 http_proxy=http://proxy:8080 runs host:22 host 22
}
