#!/usr/bin/env bats
# The parts that need no peer, each by the tables in unit.c.

load helper

unit() {
	"$ROOT/test/bin/unit" "$@"
}

@test "a number is decimal digits within its range, and nothing before or behind them" {
	unit number
}

@test "HOST:PORT: the last colon divides, IPv6 with and without brackets, what no host can hold is refused" {
	unit authority
}

@test "HOST PORT: IPv6 with and without brackets, a second port is refused" {
	unit words
}

@test "a proxy's URL: scheme, userinfo and port may be left out, userinfo is decoded or taken as pasted" {
	unit proxy
}

@test "percent-decoding: once, two hex digits in any case, no NUL" {
	unit percent
}

@test "no_proxy: commas or spaces, suffixes, a lone *, addresses and ranges, no ports" {
	unit no_proxy
}

@test "what is shown of a byte is printable ASCII, or \\xNN" {
	unit escape
}

@test "a message is one line, and too long a one says that it was cut" {
	unit message
}

@test "a head ends behind its first blank line, of CRLF or LF" {
	unit head_end
}

@test "a status line is HTTP/1, a digit, a space, three digits, then a space or the end" {
	unit status
}

@test "a field is found by its whole name in any case, as often as it comes" {
	unit field
}

@test "the schemes of a 407 are told from their parameters, quoted commas included" {
	unit schemes
	unit offer
}

@test "a line of a wgetrc: any case, spaces around, a value with = and # in it" {
	unit wgetrc
}

@test "sources of credentials fill what those before left open, never with another user's password" {
	unit sources
}

@test "a dialled socket has TCP_NODELAY and keepalive, blocks, and is not inherited" {
	unit socket
}

@test "a host has one plain form: lower case, no dot at its end, an address as it is usually written" {
	unit host_plain
	unit target
}

@test "patterns of --allow fit the whole of a host and of a port, and the best fit counts" {
	unit pattern
	unit allow
}

@test "addresses inside and outside, at the edges of each range" {
	unit inside
}

@test "a ClientHello is told from its first bytes, and by the first that is wrong" {
	unit hello
}

@test "a request line is three words with a space between; nothing else is one" {
	unit request
}

@test "a head with a bare CR, a control character, a fold, two Hosts, two lengths or a body of a CONNECT is wrong" {
	unit head_wrong
	unit fields
}

@test "a client is let in with exactly what an account is, once, by Basic" {
	unit secret
	unit account
}
