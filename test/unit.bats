#!/usr/bin/env bats
# The parts that need no peer, each by the tables in unit.c.

load helper

unit() {
	"${UNIT:-$ROOT/test/bin/unit}" "$@"
}

@test "a number is decimal digits within its range, and nothing before or behind them" {
	unit number
}

@test "HOST:PORT: the last colon divides, IPv6 with and without brackets, what no host can hold is refused" {
	unit authority
}

@test "a proxy's URL: scheme, userinfo and port may be left out, userinfo is decoded or taken as pasted" {
	unit proxy
}

@test "no_proxy: commas or spaces, suffixes, a lone *, addresses and ranges, no ports" {
	unit no_proxy
}

@test "a message is one line, and too long a one says that it was cut" {
	unit message
}

@test "a head is read in any pieces, and not a byte behind it; what is none is known at once" {
	unit head_take
}

@test "a field is found by its whole name in any case, as often as it comes" {
	unit field
}

@test "a dialled socket has TCP_NODELAY and keepalive, blocks, and is not inherited" {
	unit socket
}

@test "a host has one plain form: lower case, no dot at its end, an address as it is usually written" {
	unit host_plain
}

@test "patterns of --allow fit the whole of a host and of a port, and the best fit counts" {
	unit pattern
	unit allow
}

@test "addresses inside and outside, at the edges of each range" {
	unit inside
}

@test "an offset is decimal digits that fit in 63 bits" {
	unit offset
}

@test "a word is found in a field that lists it, in any case, and in no other" {
	unit lists
}

@test "a relay knows its requests by method, path, offset and query, behind any base; nothing else is one" {
	unit relayed
}

@test "a relay's request says by its fields whose it is, how long, how far and what then; wrong ones are refused" {
	unit relayed_fields
}

@test "an answer says what it is, how long, and whether the connection stays, and fits" {
	unit reply
}

@test "a body comes by its length, by chunks or to the end, in any pieces, and ends where it must" {
	unit body
	unit answer_fields
}

@test "a chunk without a size is not the last one" {
	unit chunk_size
}

@test "a relay's URL has a base path, of no character that would end it, and an authority without the usual port" {
	unit relay_url
}

@test "what a client asks for, straight or through a proxy, is what the relay reads" {
	unit compose
}
@test "a session replies to a GET with data, end or error, and to a PUT with how far it came; what comes again is dropped" {
	unit get
	unit put
}

