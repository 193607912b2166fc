/* SPDX-License-Identifier: ISC */

/*
 * named: proxytunnel with a name service of the tests' own.
 *
 * Whatever the name, its addresses are the words of FAKE_ADDRESSES, in this order: ADDRESS, on the port that
 * is asked for, or ADDRESS#PORT. Other words do something:
 *
 *	hang	it never answers
 *	again, none, memory, system
 *		it fails, with that EAI_ code (EAI_NONAME for none, errno EMFILE with EAI_SYSTEM)
 *	full	from here on no descriptor is to be had
 */

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FAKES_MAX = 16 };

static struct {
	struct addrinfo info[FAKES_MAX];
	struct sockaddr_storage address[FAKES_MAX];
	size_t count;
} fake;

/* Adds a literal, if it is of the family that is asked for; returns an EAI_ code. */
static int fake_add(const char *host, const char *port, const struct addrinfo *hints)
{
	struct addrinfo numeric = *hints, *found;
	int code;

	numeric.ai_flags |= AI_NUMERICHOST;
	if (fake.count == FAKES_MAX)
		return EAI_MEMORY;
	if ((code = getaddrinfo(host, port, &numeric, &found)) != 0)
		return code;
	fake.info[fake.count] = *found;
	fake.info[fake.count].ai_next = NULL;
	fake.info[fake.count].ai_addr = (struct sockaddr *)memcpy(&fake.address[fake.count], found->ai_addr, found->ai_addrlen);
	if (fake.count > 0)
		fake.info[fake.count - 1].ai_next = &fake.info[fake.count];
	fake.count++;
	freeaddrinfo(found);
	return 0;
}

/* Does what a word says; returns an EAI_ code, or 0. */
static int fake_word(char *word, const char *port, const struct addrinfo *hints)
{
	static const struct rlimit none = { 0, 0 };
	char *own_port = strchr(word, '#');

	while (strcmp(word, "hang") == 0)
		pause();
	if (strcmp(word, "again") == 0)
		return EAI_AGAIN;
	if (strcmp(word, "none") == 0)
		return EAI_NONAME;
	if (strcmp(word, "memory") == 0)
		return EAI_MEMORY;
	if (strcmp(word, "system") == 0) {
		errno = EMFILE;
		return EAI_SYSTEM;
	}
	if (strcmp(word, "full") == 0)
		return setrlimit(RLIMIT_NOFILE, &none) == 0 ? 0 : EAI_SYSTEM;
	if (own_port)
		*own_port++ = '\0';
	fake_add(word, own_port ? own_port : port, hints); /* a literal of the other family is left out */
	return 0;
}

static int fake_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **result)
{
	const char *addresses = getenv("FAKE_ADDRESSES");
	char words[1024];

	fake.count = 0;
	*result = fake.info;
	int code = fake_add(host, port, hints); /* a literal is no name: libc asks nobody either */
	if (code == 0 || hints->ai_flags & AI_PASSIVE) /* where to listen is asked in earnest */
		return code;
	code = 0;
	snprintf(words, sizeof words, "%s", addresses ? addresses : "none");
	for (char *word = strtok(words, " "); word && code == 0; word = strtok(NULL, " "))
		code = fake_word(word, port, hints);
	return code == 0 && fake.count == 0 ? EAI_NONAME : code;
}

static void fake_freeaddrinfo(struct addrinfo *addresses)
{
	(void)addresses;
}

#define getaddrinfo fake_getaddrinfo
#define freeaddrinfo fake_freeaddrinfo
#include "../proxytunnel.c"
