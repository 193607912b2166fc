# Read by GNU make and by bmake. CC, CFLAGS, CPPFLAGS and LDFLAGS of the caller, from the environment or
# the command line, stand behind our own.

VERSION = 2.1.0
PREFIX = /usr/local
MANDIR = $(PREFIX)/share/man
DESTDIR =

CC ?= cc
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes
FEATURES = -std=c11 -D_GNU_SOURCE -DVERSION='"$(VERSION)"'
COMPILE = $(CC) $(FEATURES) $(WARNINGS) -O2 $(CPPFLAGS) $(CFLAGS)
LINK = -Wl,-z,now $(LDFLAGS)
SOURCES = proxytunnel.c base64.c base64.h Makefile
HELPERS = test/bin/peer test/bin/pty test/bin/fault test/bin/unit test/bin/named test/bin/hasty
CORE = base64 unit usage lines auth dial reply shuttle
AREAS =
VARIANTS =
SANITIZE = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all

all: proxytunnel

proxytunnel: $(SOURCES)
	$(COMPILE) -o $@ proxytunnel.c base64.c $(LINK)

test/bin/peer: test/peer.c
test/bin/pty: test/pty.c
test/bin/fault: test/fault.c
test/bin/peer test/bin/pty test/bin/fault: Makefile
	@mkdir -p test/bin
	$(COMPILE) -o $@ test/$(@F).c $(LINK)

test/bin/unit: test/unit.c
test/bin/named: test/named.c
test/bin/hasty: test/hasty.c
test/bin/unit test/bin/named test/bin/hasty: $(SOURCES)
	@mkdir -p test/bin
	$(COMPILE) -o $@ test/$(@F).c base64.c $(LINK)

# Preloaded into the program, so it has no flags but its own, and needs glibc.
test/bin/inject.so: test/inject.c Makefile
	@mkdir -p test/bin
	$(CC) -std=c11 -D_GNU_SOURCE $(WARNINGS) -O2 -shared -fPIC -o $@ test/inject.c

# For a machine without this libc, and the smallest and fastest to start: it knows /etc/hosts and DNS, but no NSS.
static:
	$(MAKE) clean
	$(MAKE) proxytunnel CC=musl-gcc LDFLAGS='$(LDFLAGS) -static'

demo: proxytunnel
	test/demo

# What needs only bats and a compiler.
test: proxytunnel $(HELPERS)
	test/run $(CORE)

check:
	test/setup
	$(MAKE) proxytunnel $(HELPERS) test/bin/inject.so
	test/run

# Core tests with every other way to build the program, each without a warning; VARIANTS='NAME...' are some of them.
variants:
	test/setup --variants
	$(MAKE) test/bin/peer test/bin/pty
	WARNINGS='$(WARNINGS)' SANITIZE='$(SANITIZE)' test/variants $(VARIANTS)

# All tests of what the program does, with ASan and UBSan; AREAS='NAME...' are some of them.
sanitize:
	test/setup
	$(MAKE) test/bin/peer test/bin/pty test/bin/fault test/bin/inject.so
	WARNINGS='$(WARNINGS)' SANITIZE='$(SANITIZE)' AREAS='$(AREAS)' test/variants sanitize

# Which lines and branches of the program the tests come to, by gcov; 98 % and 92 % at least.
cover:
	test/setup
	test/cover

# All faults that test/faults knows, of which `check` tries some: a quarter of an hour.
faults: proxytunnel test/bin/peer test/bin/inject.so
	test/faults

# Tunnels of all kinds at once for so long, all of them exact or told, and nothing left.
SECONDS = 600
soak: proxytunnel test/bin/peer test/bin/fault
	test/setup
	test/soak $(SECONDS)

bench: proxytunnel
	test/setup --bench
	test/bench/run

# Checks are left out by name where they are wrong here: of null pointers, as clang takes mapped memory for one (gcc looks for
# those too); of padding in what exists once; of what bats and load do, and of words split on purpose.
TIDY = clang-analyzer-*,bugprone-*,-clang-analyzer-security.insecureAPI.*,-bugprone-easily-swappable-parameters,-bugprone-assignment-in-if-condition,-bugprone-reserved-identifier,-bugprone-not-null-terminated-result,-bugprone-narrowing-conversions,-bugprone-implicit-widening-of-multiplication-result,-clang-analyzer-core.NullDereference,-clang-analyzer-core.NonNullParamChecker,-clang-analyzer-optin.performance.Padding
SHELLCHECK = -e SC1091,SC2004,SC2012,SC2015,SC2016,SC2028,SC2030,SC2031,SC2034,SC2046,SC2086,SC2094,SC2119,SC2120,SC2128,SC2153,SC2154,SC2178,SC2206,SC2207,SC2238,SC2317

lint:
	test/setup --lint
	cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr proxytunnel.c base64.c
	clang-tidy --quiet --checks='$(TIDY)' --warnings-as-errors='*' proxytunnel.c base64.c -- $(FEATURES)
	gcc $(FEATURES) $(WARNINGS) -O2 -fanalyzer -Werror -c -o /dev/null proxytunnel.c
	shellcheck $(SHELLCHECK) .ci/run test/setup test/run test/variants test/cover test/faults test/soak test/demo test/bench/run test/*.bash test/*.bats
	codespell -L nd,clos,fo proxytunnel.c base64.c base64.h Makefile README man test/*.*
	mandoc -Tlint -Wwarning man/proxytunnel.1 man/proxytunnel-relay.7

# Some time of libFuzzer on what parses hostile input; what it finds, and goes on from, is in test/bin/corpus.
FUZZ_TIME = 60
fuzz:
	@mkdir -p test/bin/corpus
	clang $(FEATURES) $(WARNINGS) $(SANITIZE) -fsanitize=fuzzer -DLIBFUZZER -o test/bin/fuzz test/fuzz.c base64.c
	test/bin/fuzz -max_total_time=$(FUZZ_TIME) -max_len=4096 -detect_leaks=0 -print_final_stats=1 test/bin/corpus test/corpus

# By a new name, then a rename: what runs goes on, and nobody meets half a file. The modes are so whatever the umask.
PUT = put() { cp "$$1" "$$3.new" && chmod "$$2" "$$3.new" && mv -f "$$3.new" "$$3"; }; put
BIN = $(DESTDIR)$(PREFIX)/bin
MAN = $(DESTDIR)$(MANDIR)

install: proxytunnel
	umask 022; mkdir -p "$(BIN)" "$(MAN)/man1" "$(MAN)/man7"
	$(PUT) proxytunnel 755 "$(BIN)/proxytunnel"
	$(PUT) man/proxytunnel.1 644 "$(MAN)/man1/proxytunnel.1"
	$(PUT) man/proxytunnel-relay.7 644 "$(MAN)/man7/proxytunnel-relay.7"

uninstall:
	rm -f "$(BIN)/proxytunnel" "$(MAN)/man1/proxytunnel.1" "$(MAN)/man7/proxytunnel-relay.7"

clean:
	rm -rf proxytunnel test/bin

.PHONY: all static demo test check variants sanitize cover faults soak bench lint fuzz install uninstall clean
