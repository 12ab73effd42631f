/* Runs a fuzz target over the files of the folders named on the command line, as a plain test does.
 * Each file is also given cut short and with a byte flipped, at every place while it is small: a
 * corpus that is a net. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/fuzz/fuzz.h"

enum { FILE_MAX = 4 * 1024 * 1024, NEIGHBOURS_MAX = 2048 };

/* A heap copy of exactly that size: a sanitizer sees one byte too many. */
static void run(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	MUST(copy);
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static void run_file(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	uint8_t *data = malloc(FILE_MAX);
	ssize_t n;
	size_t size = 0;

	MUST(fd >= 0 && data);
	while ((n = read(fd, data + size, FILE_MAX - size)) > 0)
		size += (size_t)n;
	MUST(n == 0 && size < FILE_MAX);
	close(fd);
	run(data, size);
	for (size_t i = 0; i < size && size <= NEIGHBOURS_MAX; i++) {
		run(data, i);
		for (unsigned flip = 1; flip < 256; flip <<= 3) {
			data[i] ^= (uint8_t)flip;
			run(data, size);
			data[i] ^= (uint8_t)flip;
		}
	}
	free(data);
}

int main(int argc, char **argv)
{
	int files = 0;

	for (int i = 1; i < argc; i++) {
		DIR *d = opendir(argv[i]);

		for (struct dirent *e; d && (e = readdir(d));) {
			if (e->d_name[0] == '.')
				continue;
			run_file(dirfd(d), e->d_name);
			files++;
		}
		if (d)
			closedir(d);
	}
	printf("%d files\n", files);
	return files > 0 ? 0 : 1;
}
