#!/usr/bin/env bats
# Base64, there and back (RFC 4648 section 4).

load helper

unit() {
	"${UNIT:-$ROOT/test/bin/unit}" "$@"
}

@test "base64: the vectors of RFC 4648 and the digits + and /, both ways" {
	unit vectors
}

@test "base64: every byte, and every length from 0 to 200, comes back; nothing is written beyond the promised size" {
	unit round_trip
}

@test "base64: a wrong length, foreign or white characters, inner padding, bits left over and NUL are refused" {
	unit not_base64
}
