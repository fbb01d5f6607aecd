/* Reads a directory into memory that is not there: the exception table of the replacement has to catch that. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = open(argc > 1 ? argv[1] : ".", O_RDONLY | O_DIRECTORY);
	long n = syscall(SYS_getdents64, fd, (void *)0x1000, 4096);

	printf("getdents64 to nowhere: %s\n", n < 0 ? strerror(errno) : "succeeded");
	return 0;
}
