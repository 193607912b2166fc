#!/usr/bin/env bats
# How the program is built, and what holds of its source.

load helper

# builds CC LEVEL: without a word from the compiler, as it is and in the portable form. Only gcc's warnings depend on the level.
builds() {
	local flags form jobs=() job failed=0

	for form in "$2" "$2 -DPORTABLE"; do
		read -ra flags <<<"$form"
		limited "$1" -std=c11 -D_GNU_SOURCE '-DVERSION="x"' -Wall -Wextra -Wpedantic -Wshadow -Wconversion \
			-Wstrict-prototypes -Werror "${flags[@]}" -o "program${form// /}" "$ROOT/proxytunnel.c" "$ROOT/base64.c" &
		jobs+=($!)
	done
	for job in "${jobs[@]}"; do
		wait "$job" || failed=1
	done
	[ "$failed" -eq 0 ]
	[ "$("./program$2" -V)" = 'proxytunnel x' ]
	[ "$("./program$2-DPORTABLE" -V)" = 'proxytunnel x' ]
}

@test "gcc has nothing to warn of" {
	LIMIT=60 builds gcc -O2
}

@test "clang has nothing to warn of" {
	LIMIT=60 builds clang -O0
}

@test "musl's gcc has nothing to warn of" {
	LIMIT=60 builds musl-gcc -O0
}

# dietlibc is the only one in Debian with sockets that is neither glibc nor musl. It lacks some of POSIX itself: these names.
@test "the portable form asks a third libc for nothing beyond POSIX and what stands in one place" {
	LIMIT=60 limited diet gcc -std=c11 -DPORTABLE '-DVERSION="x"' -Wall -Werror -fsyntax-only -DIPV6_V6ONLY=26 -DEOWNERDEAD=130 \
		-Ddprintf=fdprintf -DF_DUPFD_CLOEXEC=1030 -DPTHREAD_MUTEX_ROBUST=1 '-Dpthread_mutexattr_setpshared(kind, shared)=(void)0' \
		'-Dpthread_mutexattr_setrobust(kind, robust)=(void)0' '-Dpthread_mutex_consistent(lock)=(void)0' "$ROOT/proxytunnel.c"
}

@test "nothing but libc is linked" {
	local needed

	LIMIT=60 limited "${CC:-cc}" -std=c11 -D_GNU_SOURCE '-DVERSION="x"' -O0 -o program "$ROOT/proxytunnel.c" "$ROOT/base64.c"
	readelf -d program >dynamic
	needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' dynamic)
	echo "$needed"
	[[ $needed == libc.* ]]
	[ "$(wc -l <<<"$needed")" -eq 1 ]
}

@test "the corpus and 3000 random inputs find no fault, under sanitizers" {
	LIMIT=240 limited "${CC:-cc}" -std=c11 -D_GNU_SOURCE '-DVERSION="x"' -g -O1 -fsanitize=address,undefined \
		-fno-sanitize-recover=all -o fuzz "$ROOT/test/fuzz.c" "$ROOT/base64.c"
	LIMIT=60 limited ./fuzz "$ROOT"/test/corpus/*
	LIMIT=60 limited ./fuzz 3000
}

# A prototype would mean that a function stands in the wrong section; all of ours are static, those that are not are libc's.
@test "the source calls only upward: no function is declared before it stands" {
	local file

	for file in proxytunnel.c base64.c; do
		awk -v file="$file" '
			text != "" || /^[a-z_]/ { text = text " " $0 }
			text ~ /[{=]/ { text = "" }
			text ~ /;/ { if (text ~ /static.*\(/) { print file ": " text; found = 1 } text = "" }
			END { exit found }
		' "$ROOT/$file"
	done
}

# The project without what was built of it, here.
copy_project() {
	mkdir project
	cp -R "$ROOT"/{Makefile,LICENSE,README,man,test} "$ROOT"/*.[ch] project/
	rm -rf project/test/bin
	unset MAKEFLAGS MAKEOVERRIDES CC CFLAGS CPPFLAGS LDFLAGS
}

@test "make install replaces a program that runs, which goes on; modes are 755 and 644 under umask 077; uninstall leaves nothing" {
	local file

	copy_project
	mkdir -p root/usr/bin root/usr/share/man/man1
	cp "$(command -v sleep)" root/usr/bin/proxytunnel
	start old root/usr/bin/proxytunnel 60
	(umask 077 && LIMIT=60 limited make -C project install CFLAGS=-O0 DESTDIR="$DIR/root" PREFIX=/usr) >made
	[ "$(find root -type f | sort | tr '\n' ' ')" = \
		'root/usr/bin/proxytunnel root/usr/share/man/man1/proxytunnel.1 root/usr/share/man/man7/proxytunnel-relay.7 ' ]
	[ "$(stat -c %a root/usr/bin/proxytunnel)" = 755 ]
	for file in root/usr/share/man/man?/*; do
		[ "$(stat -c %a "$file")" = 644 ]
		cmp "$file" "project/man/${file##*/}"
	done
	[ "$(stat -c %a root/usr/share/man/man7)" = 755 ]
	kill -0 "${PIDS[old]}"
	root/usr/bin/proxytunnel -V | grep -qx 'proxytunnel [0-9a-z.]*'
	stop old
	LIMIT=60 limited make -C project uninstall DESTDIR="$DIR/root" PREFIX=/usr
	[ -z "$(find root -type f)" ]
}

@test "the caller's CFLAGS, CPPFLAGS and LDFLAGS are kept, from the environment and the command line, by static too" {
	copy_project
	CFLAGS='-O0 -DONE' CPPFLAGS=-DTWO LDFLAGS=-Wl,-z,relro LIMIT=60 limited make -C project >made
	grep -q -- '-O2 .*-DTWO .*-DONE .*-z,now .*-z,relro' made
	LIMIT=60 limited make -C project clean proxytunnel CFLAGS='-O0 -DONE' CPPFLAGS=-DTWO LDFLAGS=-Wl,-z,relro >made
	grep -q -- '-O2 .*-DTWO .*-O0 -DONE .*-z,now .*-z,relro' made
	LIMIT=60 limited make -C project static CFLAGS='-O0 -DONE' CPPFLAGS=-DTWO LDFLAGS=-Wl,-z,relro >made
	grep -q -- '^musl-gcc .*-DTWO .*-DONE .*-z,relro .*-static' made
	readelf -d project/proxytunnel | grep -q 'no dynamic section'
}

@test "the hardening of Debian's packages warns of nothing" {
	copy_project
	export DEB_BUILD_MAINT_OPTIONS=hardening=+all
	CFLAGS="$(dpkg-buildflags --get CFLAGS) -Werror" CPPFLAGS=$(dpkg-buildflags --get CPPFLAGS) \
		LDFLAGS=$(dpkg-buildflags --get LDFLAGS) LIMIT=60 limited make -C project
	readelf -h project/proxytunnel | grep -q 'Type: *DYN'
}

@test "bmake builds and installs too, with busybox's sh and tools" {
	copy_project
	mkdir tools
	busybox --install -s tools
	rm -f tools/{ld,ar,strings}
	cd project
	# In two steps, as with DESTDIR bmake's own rules would look for headers below it.
	(PATH=$DIR/tools:$PATH CFLAGS=-O0 LIMIT=60 limited bmake) >made 2>&1
	(PATH=$DIR/tools:$PATH LIMIT=60 limited bmake install DESTDIR="$DIR/root") >>made 2>&1 || {
		cat made
		return 1
	}
	"$DIR/root/usr/local/bin/proxytunnel" -V
	[ -s "$DIR/root/usr/local/share/man/man7/proxytunnel-relay.7" ]
	(PATH=$DIR/tools:$PATH limited bmake uninstall clean DESTDIR="$DIR/root") >made 2>&1
	[ ! -e proxytunnel ]
}

@test "both pages of the manual are clean mdoc, and no longer than they may be" {
	local page

	for page in proxytunnel.1 proxytunnel-relay.7; do
		[ -s "$ROOT/man/$page" ]
		mandoc -Tlint "$ROOT/man/$page" >found 2>&1 || true
		# Which other manuals are installed beside it is not its fault.
		run grep -vE 'referenced manual not found|mandoc\.db lacks' found
		echo "$output"
		[ "$status" -eq 1 ]
	done
	[ "$(wc -l <"$ROOT/man/proxytunnel.1")" -le 900 ]
	[ "$(wc -l <"$ROOT/man/proxytunnel-relay.7")" -le 400 ]
}

@test "the first page has under 110 lines, none over 100 columns" {
	[ "$(wc -l <"$ROOT/README")" -lt 110 ]
	[ "$(wc -L <"$ROOT/README")" -le 100 ]
}
