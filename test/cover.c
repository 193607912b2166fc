/* SPDX-License-Identifier: ISC */

/*
 * cover: linked into a program that gcc --coverage instruments, keeps what it counts in a file that all its processes
 * share, COUNTS. So no count is lost, whatever ends a process: _exit(2), execve(2), or SIGKILL.
 *
 * With COVER_DUMP in the environment the program does nothing but write what was counted for gcov(1).
 */

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Of the section in which cover.ld gathers the counters, and nothing else. */
extern char cover_begin[], cover_end[];

void __gcov_dump(void);
void __wrap___gcov_exit(void);

/* In place of what writes the counts at the end of each process. */
void __wrap___gcov_exit(void)
{
}

__attribute__((constructor))
static void counters_share(void)
{
	int fd = open(COUNTS, O_RDWR | O_CLOEXEC);
	if (fd == -1)
		return;
	if (mmap(cover_begin, (size_t)(cover_end - cover_begin), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		abort();
	close(fd);
	if (getenv("COVER_DUMP")) {
		__gcov_dump();
		_exit(0);
	}
}
