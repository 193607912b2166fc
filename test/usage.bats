#!/usr/bin/env bats
# The command line and the environment: what is understood, and what each bad word gets.

load helper

OK='HTTP/1.1 200 OK\r\n\r\n'

# reaches WANT ARG...: with ARG..., where PORT stands for that of a proxy, CONNECT WANT is what it is asked.
reaches() {
	local want=$1

	shift
	start_peer proxy accept 'log request' head "send $OK" close
	program "${@//PORT/$PORT}" </dev/null
	status_is 0
	err_empty
	finished proxy
	[ "$(sed -n '1s/^CONNECT \(.*\) HTTP\/1.1\r$/\1/p' request)" = "$want" ]
}

# refused WORD ARG...: one line with WORD in it, status 64, and nobody is connected to. PORT is that of a proxy.
refused() {
	local word=$1

	shift
	echo "refused: $*" | cat -v
	program "${@//PORT/$PORT}" </dev/null
	status_is 64
	out_is ''
	err_one_line
	err_has "$word"
}

# The proxy that refused is not to reach: whoever comes first must say who it is.
start_unreached() {
	start_peer proxy -t 60 accept 'expect the test itself' close
}

not_reached() {
	printf 'the test itself' >"/dev/tcp/127.0.0.1/$PORT"
	finished proxy
}

# --- the words ----------------------------------------------------------------

@test "the destination: -d, --dest, one word, two words; IPv6 with and without brackets" {
	reaches host:22 -p 127.0.0.1:PORT -d host:22
	reaches host:22 --proxy=127.0.0.1:PORT --dest=host:22
	reaches host:22 --proxy 127.0.0.1:PORT --dest host:22
	reaches host:22 -p 127.0.0.1:PORT host:22
	reaches host:22 -p 127.0.0.1:PORT host 22
	reaches host:22 host 22 -p 127.0.0.1:PORT
	reaches '[2001:db8::1]:22' -p 127.0.0.1:PORT -d '[2001:db8::1]:22'
	reaches '[2001:db8::1]:22' -p 127.0.0.1:PORT -d 2001:db8::1:22
	reaches '[2001:db8::1]:22' -p 127.0.0.1:PORT 2001:db8::1 22
	reaches '[2001:db8::1]:22' -p 127.0.0.1:PORT '[2001:db8::1]' 22
}

@test "the proxy: with and without http://, with a slash behind it" {
	reaches host:22 -p http://127.0.0.1:PORT host:22
	reaches host:22 -p HTTP://127.0.0.1:PORT/ host:22
	reaches host:22 -p127.0.0.1:PORT host:22
}

@test "corkscrew's words: PROXY PPORT HOST PORT and a file of credentials" {
	(umask 077 && printf 'user:pass\n' >passfile)
	reaches host:22 127.0.0.1 PORT host 22
	! grep -q Authorization request || false
	reaches host:22 127.0.0.1 PORT host 22 passfile
	grep -q 'Proxy-Authorization: Basic dXNlcjpwYXNz' request
	reaches '[2001:db8::1]:22' 127.0.0.1 PORT 2001:db8::1 22
}

@test "the other options have their long names, and values with = or behind it" {
	(umask 077 && printf 'user:pass\n' >passfile)
	reaches host:22 --proxy=127.0.0.1:PORT --passfile=passfile --header='X-A: b' --host other --timeout=5 --quiet host:22
	grep -q 'Proxy-Authorization: Basic dXNlcjpwYXNz' request
	grep -q '^X-A: b' request
	grep -q '^Host: other' request
	reaches host:22 --proxy=127.0.0.1:PORT --proxyauth=user:pass --header 'X-A: b' --timeout 5 host:22
	grep -q 'Proxy-Authorization: Basic dXNlcjpwYXNz' request
	start_peer proxy accept head "send $OK" close
	program --verbose -p "127.0.0.1:$PORT" host:22 </dev/null
	status_is 0
	err_has 'CONNECT host:22'
}

@test "-w 0 sets no limit, and the largest is taken" {
	reaches host:22 -w 0 -p 127.0.0.1:PORT host:22
	reaches host:22 -w 86400 -p 127.0.0.1:PORT host:22
}

@test "-h and --help print the usage and every option to stdout, status 0" {
	local option

	program -h
	status_is 0
	err_empty
	grep -q '^usage: proxytunnel ' out
	for option in -p -d -P -F -H -o -4 -6 -w -v -q -h -V \
		--proxy= --dest= --proxyauth= --passfile= --header= --host= --timeout= --verbose --quiet --help --version; do
		grep -qE -e "(^|[ ,])$option" out || {
			echo "$option is not in the help"
			return 1
		}
	done
	mv out short
	program --help
	status_is 0
	cmp out short
}

@test "-V and --version print the version to stdout, status 0" {
	program -V
	status_is 0
	err_empty
	grep -qxE 'proxytunnel [0-9a-z.]+' out
	mv out short
	program --version
	status_is 0
	cmp out short
}

@test "-h where stdout cannot be written to is an I/O error" {
	status=0
	limited "$PROXYTUNNEL" -h >/dev/full 2>err || status=$?
	status_is 74
}

# --- bad words ----------------------------------------------------------------

@test "a bad destination is named: no port, 0, 65536, 22x, no host, brackets, a blank" {
	local word

	start_unreached
	for word in host host:0 host:65536 host:22x host: host:-1 host:+22 'host: 22' :22 '' '[]:22' '[host]:22' '[::1:22' \
		a:b:22 'ho st:22' user@host:22 http://host:22 "$(printf '%0256d' 0):22"; do
		refused "$word" -p 127.0.0.1:PORT -d "$word"
	done
	refused host:22x -p 127.0.0.1:PORT host:22x
	refused host -p 127.0.0.1:PORT host
	for word in 0 65536 22x '' ' 22' ssh; do
		refused "host $word" -p 127.0.0.1:PORT host "$word"
		refused "host $word" 127.0.0.1 PORT host "$word"
	done
	not_reached
}

@test "a bad proxy is named: its port, its host, its scheme, a path, a broken %" {
	local word

	start_unreached
	for word in :PORT 127.0.0.1:0 127.0.0.1:65536 127.0.0.1:PORTx 127.0.0.1: '[127.0.0.1]:PORT' 127.0.0.1:PORT/path; do
		refused "${word//PORT/$PORT}" -p "$word" host:22
	done
	for word in ftp://127.0.0.1:PORT socks5://127.0.0.1:PORT socks5h://user:secret@127.0.0.1:PORT \
		user:secret%zz@127.0.0.1:PORT %@127.0.0.1:PORT user:secret%00@127.0.0.1:PORT; do
		refused "127.0.0.1:$PORT" -p "$word" host:22
		err_lacks secret
	done
	refused 'SOCKS cannot be used here' -p socks5h://127.0.0.1:PORT host:22
	refused -p -p '' host:22
	for word in 0 65536 PORTx ''; do
		refused "127.0.0.1 ${word//PORT/$PORT}" 127.0.0.1 "$word" host 22
	done
	not_reached
}

@test "no destination, no proxy: each is said" {
	start_unreached
	refused destination -p 127.0.0.1:PORT
	refused destination
	refused proxy host:22
	refused https_proxy -d host:22
	not_reached
}

@test "too many words, three words, and what is given twice are refused" {
	start_unreached
	refused 22 -p 127.0.0.1:PORT host 22 22
	refused more 127.0.0.1 PORT host 22 passfile more
	refused other:22 -p 127.0.0.1:PORT -d host:22 other:22
	refused other -p 127.0.0.1:PORT -d host:22 other 22
	refused 127.0.0.1 -p 127.0.0.1:PORT 127.0.0.1 PORT host 22
	refused passfile -F other 127.0.0.1 PORT host 22 passfile
	not_reached
}

@test "a control character anywhere is refused" {
	local c

	start_unreached
	for c in $'\r' $'\t' $'\x1b' $'\x1f'; do
		refused 'ho\x' -p 127.0.0.1:PORT -d "ho${c}st:22"
	done
	for c in $'\x01' $'\n' $'\x7f'; do
		refused 'ho\x' -p 127.0.0.1:PORT -d "ho${c}st:22"
		refused 'ho\x' -p 127.0.0.1:PORT "ho${c}st" 22
		refused '22\x' -p 127.0.0.1:PORT host "22${c}"
		refused '127.0.0.1\x' -p "127.0.0.1${c}:PORT" host:22
		refused '127.0.0.1\x' "127.0.0.1${c}" PORT host 22
		refused -p -p "us${c}er:secret@127.0.0.1:PORT" host:22
		refused -o -p 127.0.0.1:PORT -o "a${c}b" host:22
		refused -H -p 127.0.0.1:PORT -H "X: a${c}b" host:22
		refused -H -p 127.0.0.1:PORT -H "X${c}: ab" host:22
		refused -P -p 127.0.0.1:PORT -P "us${c}er:secret" host:22
		refused -P -p 127.0.0.1:PORT -P "user:secret${c}" host:22
		err_lacks secret
		refused -w -p 127.0.0.1:PORT -w "5${c}" host:22
	done
	refused -p -p user:secret%0a@127.0.0.1:PORT host:22
	refused -p -p us%7fer:secret@127.0.0.1:PORT host:22
	err_lacks secret
	PROXYUSER=$'us\ner' PROXYPASS=secret refused PROXYUSER -p 127.0.0.1:PORT host:22
	PROXYUSER=user PROXYPASS=$'secret\x7f' refused PROXYPASS -p 127.0.0.1:PORT host:22
	err_lacks secret
	https_proxy=$'http://127.0.0.1\x01:PORT' refused https_proxy host:22
	(umask 077 && printf 'user:sec\x01ret\n' >passfile)
	refused passfile -p 127.0.0.1:PORT -F passfile host:22
	not_reached
}

@test "a header without a name, or without a colon, is refused" {
	local line

	start_unreached
	for line in '' ':' ': value' ' : value' 'X' 'X value' 'X Y: value' 'X : value' ' X: value' 'X(: value' $'\xc3\xa4: value'; do
		refused -H -p 127.0.0.1:PORT -H "$line" host:22
	done
	not_reached
}

@test "a bad time limit is named" {
	local word

	start_unreached
	for word in -1 86401 1.5 1s x '' ' 1' 4294967297; do
		refused "-w $word" -p 127.0.0.1:PORT -w "$word" host:22
	done
	not_reached
}

@test "an unknown option, and one that lacks its value, are named" {
	start_unreached
	refused -Z -p 127.0.0.1:PORT -Z host:22
	refused -Z -p 127.0.0.1:PORT -vZ host:22
	refused --nonsense -p 127.0.0.1:PORT --nonsense host:22
	refused --nonsense -p 127.0.0.1:PORT --nonsense=secret host:22
	err_lacks secret
	refused --quiet -p 127.0.0.1:PORT --quiet=secret host:22
	refused --pro -p 127.0.0.1:PORT --pro=x host:22
	refused -P -p 127.0.0.1:PORT host:22 -P
	refused --proxyauth -p 127.0.0.1:PORT host:22 --proxyauth
	refused -p host:22 -p
	not_reached
}

@test "an option of the old proxytunnel that has gone is named, with what to write instead, by either name" {
	start_unreached
	refused '-p HOST:PORT' -g 127.0.0.1 -G PORT -d host:22
	refused '-p HOST:PORT' --proxyhost 127.0.0.1 --proxyport PORT -d host:22
	refused '-p HOST:PORT' --proxyhost=127.0.0.1 -d host:22
	refused '-d HOST:PORT' -p 127.0.0.1:PORT -D 22 -d host
	refused PROXYUSER -p 127.0.0.1:PORT -U NAME -d host:22
	refused PROXYPASS -p 127.0.0.1:PORT --passvar NAME -d host:22
	not_reached
}

@test "options of the old proxytunnel that did nothing for the tunnel are taken, and -v mentions them" {
	reaches host:22 -p 127.0.0.1:PORT -x title -L -T -W -d host:22
	reaches host:22 -p 127.0.0.1:PORT -xtitle -LTW -d host:22
	reaches host:22 -p 127.0.0.1:PORT --proctitle title --proctitle=title --tlsenforce --no-ssl3 --wa-bug-29744 -d host:22
	start_peer proxy accept head "send $OK" close
	program -v -p "127.0.0.1:$PORT" -x title -LT -d host:22 </dev/null
	status_is 0
	err_has '-x -L -T (of the old proxytunnel): without an effect here'
}

@test "the user and password of -u and -s, the old proxytunnel's, are sent as those of -P" {
	reaches host:22 -p 127.0.0.1:PORT -u user -s pass -d host:22
	grep -q 'Proxy-Authorization: Basic dXNlcjpwYXNz' request
	reaches host:22 -p 127.0.0.1:PORT --pass=pass --user user -d host:22
	grep -q 'Proxy-Authorization: Basic dXNlcjpwYXNz' request
}

@test "no option is found by the beginning of its name, and what stands behind it is not shown" {
	start_unreached
	refused '--passf: no such option' -p 127.0.0.1:PORT --passf secret host:22
	err_lacks secret
	refused '--proxya: no such option' -p 127.0.0.1:PORT --proxya=user:secret host:22
	err_lacks secret
	refused '--encrypt-: no such option' -p 127.0.0.1:PORT --encrypt- host:22
	not_reached
}

@test "-q says why it fails, in one line; -qq, or -q twice, says nothing" {
	start_unreached
	refused '-w x' -q -p 127.0.0.1:PORT -w x host:22
	program -qq -p "127.0.0.1:$PORT" -w x host:22 </dev/null
	status_is 64
	err_empty
	program -q --quiet -p "127.0.0.1:$PORT" host:22x </dev/null
	status_is 64
	err_empty
	not_reached
}

@test "a word is shown with its unprintable bytes escaped" {
	refused '\x1b[2J\xc3\xa4\x9b' -p 127.0.0.1:1 -w $'\x1b[2J\xc3\xa4\x9b' host:22
	refused '\x1b[2J' -p 127.0.0.1:1 $'--\x1b[2J' host:22
}

# --- headers ------------------------------------------------------------------

@test "-H replaces the default header of its name, in any case; -o the value of Host" {
	reaches host:22 -p 127.0.0.1:PORT -H 'hOST: mine' -P user:pass -H 'Proxy-authorization: Bearer x' host:22
	[ "$(grep -ci '^host:' request)" -eq 1 ]
	grep -qx $'hOST: mine\r' request
	[ "$(grep -ci '^proxy-authorization:' request)" -eq 1 ]
	grep -qx $'Proxy-authorization: Bearer x\r' request
	reaches host:22 -p 127.0.0.1:PORT -o front.example:443 host:22
	[ "$(grep -ci '^host:' request)" -eq 1 ]
	grep -qx $'Host: front.example:443\r' request
}

@test "-H may come again and again, all are sent in their order, repeated names too" {
	reaches host:22 -p 127.0.0.1:PORT -H 'X-B: 1' -H 'X-A: 2' -H 'X-B: 3' -H 'X-Empty:' host:22
	[ "$(sed 1,2d request | tr -d '\r' | tr '\n' ';')" = 'X-B: 1;X-A: 2;X-B: 3;X-Empty:;;' ]
}

@test "headers of 60 KiB in all are sent whole" {
	local value

	value=$(printf '%061440d' 0)
	reaches host:22 -p 127.0.0.1:PORT -H "X-Long: $value" -H 'X-Last: 1' host:22
	grep -qx "X-Long: $value"$'\r' request
	grep -qx $'X-Last: 1\r' request
}

@test "headers of more than 64 KiB are refused, and nothing is sent" {
	start_peer proxy accept eof
	program -p "127.0.0.1:$PORT" -H "X-One: $(printf '%040000d' 0)" -H "X-Two: $(printf '%040000d' 0)" host:22 </dev/null
	status_is 64
	err_one_line
	err_has header
}

# --- the environment ----------------------------------------------------------

@test "the proxy comes from https_proxy, HTTPS_PROXY, all_proxy, ALL_PROXY, http_proxy, HTTP_PROXY, in that order" {
	local names=(https_proxy HTTPS_PROXY all_proxy ALL_PROXY http_proxy HTTP_PROXY)

	export "${names[@]/%/=http://127.0.0.9:1}"
	while [ ${#names[@]} -gt 0 ]; do
		start_peer proxy accept head "send $OK" close
		export "${names[0]}=http://127.0.0.1:$PORT/"
		program host:22 </dev/null
		status_is 0
		finished proxy
		unset "${names[0]}"
		names=("${names[@]:1}")
	done
}

@test "a socks URL and an empty one are passed over" {
	export https_proxy='' HTTPS_PROXY=socks5h://127.0.0.1:1 all_proxy=SOCKS4://127.0.0.1:1 ALL_PROXY=socks://127.0.0.1:1
	refused proxy host:22
	start_peer proxy accept head "send $OK" close
	HTTP_PROXY=127.0.0.1:$PORT program host:22 </dev/null
	status_is 0
	finished proxy
}

@test "-p, and corkscrew's words, go before the environment, and no_proxy is not for them" {
	export https_proxy=http://127.0.0.9:1 no_proxy='*'
	reaches host:22 -p 127.0.0.1:PORT host:22
	reaches host:22 127.0.0.1 PORT host 22
}

@test "a bad proxy in the environment is told by the name of its variable, without its password" {
	HTTPS_PROXY=http://user:secret@127.0.0.1:0 refused HTTPS_PROXY host:22
	err_lacks secret
	all_proxy=ftp://127.0.0.1 refused all_proxy host:22
}

@test "what no_proxy or NO_PROXY names is connected to directly" {
	local name list

	for name in no_proxy NO_PROXY; do
		for list in '*' 127.0.0.1 'a, 127.0.0.0/8'; do
			start_peer far accept 'send far' 'expect up' eof close
			export https_proxy=http://127.0.0.9:1 "$name=$list"
			program -d "127.0.0.1:$PORT" < <(printf up)
			status_is 0
			out_is far
			err_empty
			finished far
			unset "$name"
		done
	done
}

@test "what no_proxy does not name goes through the proxy" {
	local list

	for list in '' other.org host:22 '*,other' .ost; do
		start_peer proxy accept 'log request' head "send $OK" close
		https_proxy=http://127.0.0.1:$PORT no_proxy=$list program -d host:22 </dev/null
		status_is 0
		finished proxy
		grep -q '^CONNECT host:22 ' request
	done
}

# --- descriptors, -v -----------------------------------------------------------

# carries REDIRECTION...: with descriptors so, the tunnel takes no other bytes than its own.
carries() {
	start_peer proxy accept head "send ${OK}far" "expect $1" eof close
	status=0
	eval "limited \"\$PROXYTUNNEL\" -v -p 127.0.0.1:\$PORT -d host:22 $2" || status=$?
	status_is 0
	finished proxy
}

@test "started without stdin, stdout or stderr, it carries what is left, and nothing else" {
	printf up >input
	: >err
	carries '' '0<&- >out 2>err'
	out_is far
	carries up '<input >&- 2>err'
	carries up '<input >out 2>&-'
	out_is far
	carries '' '0<&- >&- 2>err'
	carries '' '0<&- >&- 2>&-'
}

@test "a bad word is a bad word without any descriptor" {
	status=0
	limited "$PROXYTUNNEL" -w x host:22 0<&- >&- 2>&- || status=$?
	: >err
	status_is 64
}

@test "-v ends with the bytes each way and the seconds; without it nothing is said" {
	start_peer proxy accept head "send ${OK}12345" 'expect up' eof close
	program -v -p "127.0.0.1:$PORT" -d host:22 < <(printf up)
	status_is 0
	out_is 12345
	tail -n 1 err | grep -qE '^proxytunnel: host:22: 2 bytes up, 5 down, [0-9]+\.[0-9]+ s$'
	finished proxy
	start_peer proxy accept head "send ${OK}12345" 'expect up' eof close
	program -p "127.0.0.1:$PORT" -d host:22 < <(printf up)
	status_is 0
	err_empty
}

@test "-v changes no status: a refusal is told as one, though its body trickles for ever" {
	start_peer proxy accept head 'send HTTP/1.1 403 Forbidden\r\n\r\n' 'trickle 300 forever x'
	program -v -w 2 -p "127.0.0.1:$PORT" -d host:22 </dev/null
	status_is 77
	err_has 'CONNECT host:22 refused: 403'
	finished proxy
}

# --- the relay ------------------------------------------------------------------

# asks_relay WANT ARG...: with ARG..., where PORT stands for that of the relay, its first request begins with POST WANT, an id behind it.
asks_relay() {
	local want=$1

	shift
	start_peer relay accept 'log request' head 'expect host:22' 'send HTTP/1.1 403 No\r\nTunnel-Relay: 2\r\n\r\n' close
	program "${@//PORT/$PORT}" </dev/null
	status_is 77
	finished relay
	[ "$(sed -n '1s/^POST \(.*\)[0-9a-f]\{32\} HTTP\/1.1\r$/\1/p' request)" = "$want" ] || {
		cat -v request
		return 1
	}
}

@test "--relay: http:// or nothing before it, and the base that its path is: none, a slash, one part, several, a slash behind" {
	asks_relay / --relay http://127.0.0.1:PORT -d host:22
	asks_relay / --relay=127.0.0.1:PORT host:22
	asks_relay / --relay=HTTP://127.0.0.1:PORT/ host 22
	asks_relay /t/ --relay http://127.0.0.1:PORT/t host 22
	asks_relay /t/ --relay 127.0.0.1:PORT/t/ host 22
	asks_relay /t/ --relay http://127.0.0.1:PORT/t// host 22
	asks_relay /a/b/ --relay http://127.0.0.1:PORT/a/b host 22
	asks_relay /a//b/ --relay http://127.0.0.1:PORT/a//b host 22
	asks_relay '/~me/a.b-c_d/%41,;=+!$&()*/' --relay 'http://127.0.0.1:PORT/~me/a.b-c_d/%41,;=+!$&()*/' host 22
}

@test "--relay: an @ or a colon in the path is of the path, though there may be one of the user before it" {
	asks_relay /a@b:c/ --relay http://127.0.0.1:PORT/a@b:c host:22
	asks_relay /a@b/ --relay http://user:pass@127.0.0.1:PORT/a@b/ host:22
}

@test "--relay: the last one counts, and corkscrew's words name a proxy that leads there" {
	asks_relay /t/ --relay http://127.0.0.9:1/x --relay http://127.0.0.1:PORT/t host:22
	asks_relay http://relay.test/t/ --relay http://relay.test/t 127.0.0.1 PORT host 22
	asks_relay http://relay.test/t/ --relay http://relay.test:80/t -p 127.0.0.1:PORT host 22
	asks_relay 'http://[2001:db8::1]:81/' --relay 'http://[2001:db8::1]:81' -p 127.0.0.1:PORT host 22
}

@test "a bad --relay is named: its port, its host, its scheme, a character that no path holds; without its password" {
	local word

	start_unreached
	for word in '' http:// :PORT 127.0.0.1:0 127.0.0.1:65536 http://127.0.0.1:PORTx/t 'http://[127.0.0.1]:PORT/t' \
		ftp://127.0.0.1:PORT/t socks5://127.0.0.1:PORT 'ho st/t'; do
		refused --relay --relay "$word" host:22
	done
	for word in ' ' '?' '?a=b' '#' '#top' '/a b' $'/\x7f' $'/\xc3\xa4' $'/\t' $'/\r\nX: y'; do
		refused --relay --relay "http://user:secret@127.0.0.1:PORT/t$word" host:22
		err_lacks secret
	done
	refused --relay --relay "http://user:secret%zz@127.0.0.1:PORT/t" host:22
	err_lacks secret
	refused --relay host:22 --relay
	not_reached
}

@test "--relay needs a destination, and no proxy; what is about a proxy still needs one" {
	start_unreached
	refused destination --relay http://127.0.0.1:PORT/t
	refused proxy --relay http://127.0.0.1:PORT/t -P user:pass host:22
	refused proxy --relay http://127.0.0.1:PORT/t -o other host:22
	refused proxy --relay http://127.0.0.1:PORT/t -E host:22
	refused -R --relay http://127.0.0.1:PORT/t -p 127.0.0.1:PORT -R user:pass host:22
	refused -X --relay http://127.0.0.1:PORT/t -p 127.0.0.1:PORT -X host:22
	refused --serve --relay http://127.0.0.1:PORT/t --serve -a 0 --allow '*:22'
	refused -H --relay http://127.0.0.1:PORT/t -H 'X y' host:22
	not_reached
}

@test "headers of more than 64 KiB for a relay are refused, and nothing is sent" {
	start_peer relay accept eof
	program --relay "http://127.0.0.1:$PORT/t" -H "X-One: $(printf '%040000d' 0)" -H "X-Two: $(printf '%040000d' 0)" host:22 </dev/null
	status_is 64
	err_one_line
	err_has header
}

@test "-H before --relay, where no proxy is named, is for the relay too" {
	start_peer relay accept 'log request' head 'expect host:22' 'send HTTP/1.1 500 no\r\nTunnel-Relay: 2\r\n\r\n' close
	program -H 'X-One: 1' --relay "http://127.0.0.1:$PORT/t" -H 'X-Two: 2' host:22 </dev/null
	finished relay
	grep -q '^X-One: 1' request
	grep -q '^X-Two: 2' request
}

@test "behind -- there are no options, only the words of the destination" {
	start_peer proxy accept head 'send HTTP/1.1 200 OK\r\n\r\n' close
	program -p "127.0.0.1:$PORT" -- host 22 </dev/null
	status_is 0
	finished proxy
	refused '-host:22: no host begins with a dash' -p 127.0.0.1:1 -- -host:22
}

@test "-E needs the name of a proxy, also where a command leads to it" {
	refused 'name the proxy with -p' -E --proxy-command='exit 0' host:22
}

@test "-h tells of --relay too" {
	program -h
	status_is 0
	grep -qE -e '(^|[ ,])--relay=' out
}

@test "a name that is not ASCII is refused with the form to write" {
	refused 'xn--' -p 127.0.0.1:1 $'b\xc3\xbccher.example:22'
	refused 'xn--' -p $'b\xc3\xbccher.example:3128' host:22
	refused 'xn--' --serve -a 0 --allow $'b\xc3\xbccher.example:22'
}

@test "a zone in what a proxy or a relay is to connect to has no meaning there" {
	refused 'a zone' -p 127.0.0.1:1 'fe80::1%eth0:22'
	refused 'a zone' -p 127.0.0.1:1 -r '[fe80::1%25eth0]:3128' host:22
	refused 'a zone' --relay http://127.0.0.1:1/t '[fe80::1%eth0]:22'
}

@test "an IPv6 proxy without brackets, and what looks like a port behind it, is refused with both forms" {
	refused '[::1]:3128' -p ::1:3128 host:22
	refused '[::1:3128]' -p http://::1:3128 host:22
}

@test "a pattern of --allow that can never fit is refused with what to write" {
	local pattern

	for pattern in 'host:ssh|number from 1' 'host:0|number from 1' 'host:65536|number from 1' 'host:80-90|80[0-9][0-9]' \
		'10.0.0.0/33:22|ADDRESS/BITS' 'host/8:22|ADDRESS/BITS' 'https://host:443|ADDRESS/BITS' 'ho st:22|no host holds' \
		' host:22|no host holds' 'host:22 |number from 1' 'user@host:22|no host holds' '[::1:22|without its ]' \
		'fe80::1%eth0:22|no host holds' 'a:b:22|IPv6' 'host:8a*|a port is digits' "$(printf '%0260d' 0):22|over 255 bytes"; do
		refused "${pattern#*|}" --serve -a 0 --allow "${pattern%%|*}"
	done
}

@test "a zone in a proxy's URL is written %25, as RFC 6874 has it, or as it is" {
	local zone

	for zone in %25lo %lo; do
		program -w 5 -p "http://[fe80::1$zone]:3128" host:22 </dev/null
		[ "$status" -ne 64 ]
		err_has '[fe80::1%lo]:3128: '
	done
}
