#!/usr/bin/env bats
# How the program is built, and what holds of its source.

load helper

# builds CC: without a word from the compiler, as it is and in the portable form.
builds() {
	local flags form jobs=() job failed=0

	for form in '-O2' '-O2 -DPORTABLE'; do
		read -ra flags <<<"$form"
		limited "$1" -std=c11 -D_GNU_SOURCE '-DVERSION="x"' -Wall -Wextra -Wpedantic -Wshadow -Wconversion \
			-Wstrict-prototypes -Werror "${flags[@]}" -o "program${form// /}" "$ROOT/proxytunnel.c" "$ROOT/base64.c" &
		jobs+=($!)
	done
	for job in "${jobs[@]}"; do
		wait "$job" || failed=1
	done
	[ "$failed" -eq 0 ]
	[ "$(./program-O2 -V)" = 'proxytunnel x' ]
	[ "$(./program-O2-DPORTABLE -V)" = 'proxytunnel x' ]
}

@test "gcc has nothing to warn of" {
	LIMIT=60 builds gcc
}

@test "clang has nothing to warn of" {
	LIMIT=60 builds clang
}

@test "musl's gcc has nothing to warn of" {
	LIMIT=60 builds musl-gcc
}

@test "nothing but libc is linked" {
	local needed

	LIMIT=60 limited "${CC:-cc}" -std=c11 -D_GNU_SOURCE '-DVERSION="x"' -O2 -o program "$ROOT/proxytunnel.c" "$ROOT/base64.c"
	readelf -d program >dynamic
	needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' dynamic)
	echo "$needed"
	[[ $needed == libc.* ]]
	[ "$(wc -l <<<"$needed")" -eq 1 ]
}

@test "3000 random inputs find no fault, under sanitizers" {
	LIMIT=60 limited "${CC:-cc}" -std=c11 -D_GNU_SOURCE '-DVERSION="x"' -g -O1 -fsanitize=address,undefined \
		-fno-sanitize-recover=all -o fuzz "$ROOT/test/fuzz.c" "$ROOT/base64.c"
	LIMIT=60 limited ./fuzz 3000
}

# A prototype would mean that a function stands in the wrong section.
@test "the source calls only upward: no function is declared before it stands" {
	local file

	for file in proxytunnel.c base64.c; do
		awk -v file="$file" '
			text != "" || /^[a-z_]/ { text = text " " $0 }
			text ~ /[{=]/ { text = "" }
			text ~ /;/ { if (text ~ /\(/) { print file ": " text; found = 1 } text = "" }
			END { exit found }
		' "$ROOT/$file"
	done
}

@test "the manual is clean mdoc" {
	[ -s "$ROOT/man/proxytunnel.1" ]
	mandoc -Tlint "$ROOT/man/proxytunnel.1" >found 2>&1 || true
	# Which other manuals are installed beside it is not its fault.
	run grep -vE 'referenced manual not found|mandoc\.db lacks' found
	echo "$output"
	[ "$status" -eq 1 ]
}
