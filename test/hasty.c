/* SPDX-License-Identifier: ISC */

/*
 * hasty: proxytunnel with a clock of the tests' own, which runs HASTE times as fast.
 *
 * What it reckons in seconds, as a session's 120 without a request, comes so much sooner; it waits so much less. What
 * the kernel reckons for it does not change: alarm(2), that is -w, and SO_RCVTIMEO, but for the 40 s that a stream may be silent.
 */

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

enum { HASTE = 20 };

static long long hasty_ns(const struct timespec *time)
{
	return (long long)time->tv_sec * 1000000000 + time->tv_nsec;
}

static struct timespec hasty_timespec(long long ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };
}

static int hasty_clock_gettime(clockid_t clock, struct timespec *now)
{
	int result = clock_gettime(clock, now);

	*now = hasty_timespec(hasty_ns(now) * HASTE);
	return result;
}

static int hasty_ppoll(struct pollfd *set, nfds_t count, const struct timespec *wait, const sigset_t *mask)
{
	struct timespec less = { .tv_sec = 0 };

	if (wait)
		less = hasty_timespec(hasty_ns(wait) / HASTE);
	return ppoll(set, count, wait ? &less : NULL, mask);
}

static int hasty_poll(struct pollfd *set, nfds_t count, int ms)
{
	const struct timespec wait = hasty_timespec((long long)ms * 1000000);

	return hasty_ppoll(set, count, ms < 0 ? NULL : &wait, NULL);
}

static int hasty_setsockopt(int socket, int level, int name, const void *value, socklen_t size)
{
	const struct timeval less = { .tv_sec = 40 / HASTE };
	bool is_silence = level == SOL_SOCKET && name == SO_RCVTIMEO && ((const struct timeval *)value)->tv_sec == 40;

	return setsockopt(socket, level, name, is_silence ? &less : value, size);
}

#define clock_gettime(clock, now) hasty_clock_gettime(clock, now)
#define ppoll(set, count, wait, mask) hasty_ppoll(set, count, wait, mask)
#define poll(set, count, ms) hasty_poll(set, count, ms)
#define setsockopt(socket, level, name, value, size) hasty_setsockopt(socket, level, name, value, size)
#include "../proxytunnel.c"
