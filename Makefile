.POSIX:

VERSION = 2.0.0
PREFIX = /usr/local
MANDIR = $(PREFIX)/share/man
DESTDIR =

CC = cc
CFLAGS = -O2
LDFLAGS = -Wl,-z,now
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes
COMPILE = $(CC) -std=c11 -D_GNU_SOURCE -DVERSION='"$(VERSION)"' $(WARNINGS) $(CFLAGS)
SOURCES = proxytunnel.c base64.c base64.h Makefile
HELPERS = test/bin/peer test/bin/pty test/bin/fault test/bin/unit test/bin/named test/bin/hasty
CORE = base64 unit usage lines auth dial reply shuttle
SANITIZE = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all

all: proxytunnel

proxytunnel: $(SOURCES)
	$(COMPILE) -o $@ proxytunnel.c base64.c $(LDFLAGS)

test/bin/peer: test/peer.c
test/bin/pty: test/pty.c
test/bin/fault: test/fault.c
test/bin/peer test/bin/pty test/bin/fault: Makefile
	@mkdir -p test/bin
	$(COMPILE) -o $@ test/$(@F).c $(LDFLAGS)

test/bin/unit: test/unit.c
test/bin/named: test/named.c
test/bin/hasty: test/hasty.c
test/bin/unit test/bin/named test/bin/hasty: $(SOURCES)
	@mkdir -p test/bin
	$(COMPILE) -o $@ test/$(@F).c base64.c $(LDFLAGS)

# For a machine without this libc, and the smallest and fastest to start: it knows /etc/hosts and DNS, but no NSS.
static:
	$(MAKE) clean proxytunnel CC=musl-gcc CFLAGS='-O2 -static'

demo: proxytunnel
	test/demo

# What needs only bats and a compiler.
test: proxytunnel $(HELPERS)
	test/run $(CORE)

check:
	test/setup
	$(MAKE) proxytunnel $(HELPERS)
	test/run

# The same tests, with every other way to build the program.
variants:
	$(MAKE) clean test CC=clang
	$(MAKE) clean test CFLAGS='-O2 -DPORTABLE'
	$(MAKE) clean test CC=musl-gcc CFLAGS='-O2 -static'
	$(MAKE) clean test CC=clang CFLAGS='$(SANITIZE)'
	$(MAKE) clean

bench: proxytunnel
	test/setup --bench
	test/bench/run

lint:
	test/setup --lint
	cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr proxytunnel.c base64.c
	clang-tidy --quiet --checks='clang-analyzer-*,bugprone-*,-clang-analyzer-security.insecureAPI.*,-bugprone-easily-swappable-parameters,-bugprone-assignment-in-if-condition,-bugprone-reserved-identifier' proxytunnel.c base64.c -- -std=c11 -D_GNU_SOURCE -DVERSION='""'
	mandoc -Tlint -Wwarning man/proxytunnel.1

# A minute of libFuzzer on what parses hostile input.
fuzz:
	@mkdir -p test/bin/corpus
	clang -std=c11 -D_GNU_SOURCE -DVERSION='""' $(WARNINGS) $(SANITIZE) -fsanitize=fuzzer -DLIBFUZZER -o test/bin/fuzz test/fuzz.c base64.c
	test/bin/fuzz -max_total_time=60 -max_len=4096 test/bin/corpus

install: proxytunnel
	mkdir -p $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(MANDIR)/man1
	cp proxytunnel $(DESTDIR)$(PREFIX)/bin/proxytunnel
	cp man/proxytunnel.1 $(DESTDIR)$(MANDIR)/man1/proxytunnel.1

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/proxytunnel $(DESTDIR)$(MANDIR)/man1/proxytunnel.1

clean:
	rm -rf proxytunnel test/bin

.PHONY: all static demo test check variants bench lint fuzz install uninstall clean
