#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/guard.h"
#include "base/io.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A folder of the test's own, gone with all that is in it. */
struct place {
	char path[64];
	int fd;
};

static int make_place(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	strcpy(p->path, "/tmp/holdfast-io-XXXXXX");
	assert_non_null(mkdtemp(p->path));
	p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->fd >= 0);
	*state = p;
	return 0;
}

static void remove_below(int dirfd)
{
	AUTO_DIR d = fdopendir(dirfd);

	for (struct dirent *e; d && (e = readdir(d));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(dirfd, e->d_name, 0) < 0) {
			remove_below(openat(dirfd, e->d_name,
					    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
			unlinkat(dirfd, e->d_name, AT_REMOVEDIR);
		}
	}
}

static int remove_place(void **state)
{
	struct place *p = *state;

	remove_below(p->fd);
	rmdir(p->path);
	free(p);
	return 0;
}

static void put(const struct place *p, const char *name, const char *content)
{
	AUTO_FD fd = openat(p->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, content, strlen(content)), 0);
}

static int count_entries(int dirfd)
{
	AUTO_DIR d = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int n = -2; /* . and .. */

	assert_non_null(d);
	while (readdir(d))
		n++;
	return n;
}

static int open_fds(void)
{
	AUTO_FD fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return count_entries(fd);
}

static void a_file_is_read_up_to_its_limit(void **state)
{
	struct place *p = *state;

	put(p, "f", "0123456789");
	for (size_t max = 8; max <= 12; max++) {
		AUTO_BUFFER b = {0};

		buffer_append_str(&b, "x");
		assert_int_equal(io_read_file_at(p->fd, "f", max, &b), max < 10 ? -E2BIG : 0);
		if (max >= 10)
			assert_string_equal((char *)b.data, "x0123456789");
	}
	AUTO_BUFFER tight = {.max = 10};

	assert_int_equal(io_read_file_at(p->fd, "f", 10, &tight), 0);
	assert_int_equal(tight.len, 10);
}

static void only_regular_files_are_read(void **state)
{
	struct place *p = *state;
	AUTO_BUFFER b = {0};

	put(p, "f", "x");
	assert_int_equal(symlinkat("f", p->fd, "link"), 0);
	assert_int_equal(mkfifoat(p->fd, "fifo", 0600), 0);
	assert_int_equal(mkdirat(p->fd, "dir", 0700), 0);
	assert_int_equal(io_read_file_at(p->fd, "link", 9, &b), -ELOOP);
	assert_int_equal(io_read_file_at(p->fd, "fifo", 9, &b),
			 -EINVAL); /* and does not wait for a writer */
	assert_int_equal(io_read_file_at(p->fd, "dir", 9, &b), -EISDIR);
	assert_int_equal(io_read_file_at(p->fd, "none", 9, &b), -ENOENT);
	assert_int_equal(b.len, 0);
}

static void a_short_pread_is_no_data(void **state)
{
	struct place *p = *state;
	char got[5];
	AUTO_FD fd = -1;

	put(p, "f", "0123456789");
	fd = openat(p->fd, "f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(io_pread_all(fd, got, 5, 5), 0);
	assert_memory_equal(got, "56789", 5);
	assert_int_equal(io_pread_all(fd, got, 5, 6), -ENODATA);
	assert_int_equal(io_pread_all(-1, got, 5, 6), -EBADF);
	assert_int_equal(io_write_all(fd, "x", 1), -EBADF);
}

static void a_file_is_replaced_whole_or_not_at_all(void **state)
{
	struct place *p = *state;
	AUTO_BUFFER b = {0};
	AUTO_FD path_only = open(p->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	mode_t mask = umask(077);

	put(p, "f", "old and longer");
	assert_int_equal(io_write_file_atomic_at(p->fd, "f", bytes_str("new"), 0644), 0);
	assert_int_equal(io_read_file_at(p->fd, "f", 99, &b), 0);
	assert_string_equal((char *)b.data, "new");
	assert_int_equal(fstatat(p->fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644); /* whatever the umask */
	umask(mask);

	/* A symlink is replaced, what it points to is not written. */
	assert_int_equal(symlinkat("f", p->fd, "link"), 0);
	assert_int_equal(io_write_file_atomic_at(path_only, "link", bytes_str("other"), 0600), 0);
	assert_int_equal(fstatat(p->fd, "link", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
	buffer_consume(&b, b.len);
	assert_int_equal(io_read_file_at(p->fd, "f", 99, &b), 0);
	assert_string_equal((char *)b.data, "new");

	assert_int_equal(mkdirat(p->fd, "dir", 0700), 0);
	assert_int_equal(io_write_file_atomic_at(p->fd, "dir", bytes_str("x"), 0600), -EISDIR);
	assert_int_equal(io_write_file_atomic_at(p->fd, "dir/x", bytes_str("x"), 0600), -EINVAL);
	assert_int_equal(io_write_file_atomic_at(p->fd, "empty", bytes_str(""), 0600), 0);
	assert_int_equal(count_entries(p->fd),
			 4); /* f, link, dir, empty: no temporary file is left */
}

static void descriptors_pass_and_arrive_cloexec(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	for (size_t count = 0; count <= IO_FDS_MAX; count++) {
		int fds[IO_FDS_MAX];
		int got[IO_FDS_MAX];
		size_t got_count = 99;
		char data[8];
		int before = open_fds();

		for (size_t i = 0; i < count; i++)
			fds[i] = (int)(i % 3); /* the same one may go more than once */
		assert_int_equal(io_send_fds(pair[0], "hello", 5, fds, count), 5);
		assert_int_equal(io_recv_fds(pair[1], data, sizeof(data), got, &got_count), 5);
		assert_memory_equal(data, "hello", 5);
		assert_int_equal(got_count, count);
		assert_int_equal(open_fds(), before + (int)count);
		for (size_t i = 0; i < got_count; i++) {
			struct stat a;
			struct stat b;

			assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
			assert_int_equal(fstat(got[i], &a), 0);
			assert_int_equal(fstat(fds[i], &b), 0);
			assert_true(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
			close(got[i]);
		}
	}
	close(pair[0]);
	close(pair[1]);
}

static void too_many_descriptors_are_refused_and_closed(void **state)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(200 * sizeof(int))];
	} control = {0};
	struct iovec iov = {(char[]){"x"}, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf};
	static const size_t counts[] = {IO_FDS_MAX + 1, 100, 200};
	int fds[200] = {0};
	int got[IO_FDS_MAX];
	size_t got_count;
	char data[8];
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(io_send_fds(pair[0], "x", 1, fds, IO_FDS_MAX + 1), -E2BIG);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		int before = open_fds();

		msg.msg_controllen = CMSG_SPACE(counts[i] * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(counts[i] * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, counts[i] * sizeof(int));
		assert_int_equal(sendmsg(pair[0], &msg, 0), 1);
		got_count = 99;
		assert_int_equal(io_recv_fds(pair[1], data, sizeof(data), got, &got_count),
				 -EPROTO);
		assert_int_equal(got_count, 0);
		assert_int_equal(open_fds(), before);
	}
	close(pair[0]);
	close(pair[1]);
}

static void a_message_cut_short_is_an_error_and_its_descriptors_are_closed(void **state)
{
	int fds[2] = {0, 1};
	int got[IO_FDS_MAX];
	size_t got_count;
	char data[4];
	int pair[2];
	int before;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	before = open_fds();
	assert_int_equal(io_send_fds(pair[0], "hello", 5, fds, 2), 5);
	assert_int_equal(io_recv_fds(pair[1], data, sizeof(data), got, &got_count), -EMSGSIZE);
	assert_int_equal(got_count, 0);
	assert_int_equal(open_fds(), before);
	close(pair[0]);
	assert_int_equal(io_recv_fds(pair[1], data, sizeof(data), got, &got_count), 0);
	assert_int_equal(io_send_fds(pair[1], "x", 1, NULL, 0), -EPIPE); /* and no SIGPIPE */
	close(pair[1]);
}

static void a_full_socket_says_again(void **state)
{
	static char big[4096];
	int pair[2];
	ssize_t r = 0;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
				    pair),
			 0);
	for (int i = 0; i < 10000 && r >= 0; i++)
		r = io_send_fds(pair[0], big, sizeof(big), NULL, 0);
	assert_int_equal(r, -EAGAIN);
	close(pair[0]);
	close(pair[1]);
}

static void nothing_is_opened_outside(void **state)
{
	static const struct {
		const char *path;
		int beneath; /* 0 = opens */
	} table[] = {
		{"in/f", 0},	       {"in/../in/f", 0},      {"..", -EXDEV},
		{"../x", -EXDEV},      {"in/../../x", -EXDEV}, {"/etc/passwd", -EXDEV},
		{"to-f", -ELOOP},      {"to-in/f", -ELOOP},    {"to-etc/passwd", -ELOOP},
		{"to-passwd", -ELOOP}, {"up/x", -ELOOP},       {"in/to-root", -ELOOP},
		{"loop", -ELOOP},      {"none", -ENOENT},      {"in/f/x", -ENOTDIR},
	};
	struct place *p = *state;

	assert_int_equal(mkdirat(p->fd, "in", 0700), 0);
	put(p, "in/f", "x");
	assert_int_equal(symlinkat("in/f", p->fd, "to-f"), 0);
	assert_int_equal(symlinkat("in", p->fd, "to-in"), 0);
	assert_int_equal(symlinkat("/etc", p->fd, "to-etc"), 0);
	assert_int_equal(symlinkat("/etc/passwd", p->fd, "to-passwd"), 0);
	assert_int_equal(symlinkat("..", p->fd, "up"), 0);
	assert_int_equal(symlinkat("../../../../etc/passwd", p->fd, "in/to-root"), 0);
	assert_int_equal(symlinkat("loop", p->fd, "loop"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		AUTO_FD a = io_open_beneath(p->fd, table[i].path, O_RDONLY, 0);

		if ((a < 0 ? a : 0) != table[i].beneath)
			fail_msg("%s: %d", table[i].path, a);
		if (a >= 0)
			assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
	}
}

static void magic_links_lead_nowhere(void **state)
{
	AUTO_FD proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_int_equal(io_open_beneath(proc, "root", O_PATH, 0), -ELOOP);
	assert_int_equal(io_open_beneath(proc, "fd/0", O_RDONLY, 0), -ELOOP);
}

static void a_file_is_created_beneath_with_its_mode(void **state)
{
	struct place *p = *state;
	struct stat st;
	AUTO_FD fd = io_open_beneath(p->fd, "new", O_WRONLY | O_CREAT | O_EXCL, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(io_open_beneath(p->fd, "new", O_WRONLY | O_CREAT | O_EXCL, 0600), -EEXIST);
}

static void a_sealed_memfd_never_changes(void **state)
{
	(void)state;
	for (int exec = 0; exec <= 1; exec++) {
		AUTO_FD fd = io_memfd_sealed("test", bytes_str("content"), exec);
		AUTO_BUFFER b = {0};
		int want = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

		assert_true(fd >= 0);
		assert_int_equal(io_read_all(fd, 99, &b), 0);
		assert_string_equal((char *)b.data, "content");
		assert_int_equal(fcntl(fd, F_GET_SEALS) & want, want);
		assert_int_equal(io_write_all(fd, "x", 1), -EPERM);
		assert_true(pwrite(fd, "x", 1, 0) < 0 && errno == EPERM);
		assert_true(ftruncate(fd, 0) < 0 && errno == EPERM);
		assert_true(ftruncate(fd, 100) < 0 && errno == EPERM);
		assert_true(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0 && errno == EPERM);
		assert_ptr_equal(mmap(NULL, 7, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	}
}

static int run_memfd(bool exec)
{
	AUTO_BUFFER program = {0};
	AUTO_FD fd = -1;
	int status;
	pid_t pid;

	assert_int_equal(io_read_file_at(AT_FDCWD, "/bin/true", 1 << 20, &program), 0);
	fd = io_memfd_sealed("true", buffer_bytes(&program), exec);
	assert_true(fd >= 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char *argv[] = {(char[]){"true"}, NULL};
		char *envp[] = {NULL};

		fexecve(fd, argv, envp);
		_exit(errno == EACCES ? 100 : 101);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void a_memfd_runs_only_if_it_was_made_to(void **state)
{
	unsigned noexec_seal = 0x0008U;
	AUTO_FD probe = memfd_create("probe", MFD_CLOEXEC | noexec_seal);

	(void)state;
	assert_int_equal(run_memfd(true), 0);
	if (probe >= 0) /* Linux 6.3 */
		assert_int_equal(run_memfd(false), 100);
}

static void a_socket_is_reached_below_any_folder(void **state)
{
	struct place *p = *state;
	char name[101];
	AUTO_FD dir = dup(p->fd);
	struct stat st;

	memset(name, 'd', 100);
	name[100] = '\0';
	for (int i = 0; i < 3; i++) { /* 300 bytes and more: no sockaddr_un holds it */
		int next;

		assert_int_equal(mkdirat(dir, name, 0700), 0);
		next = openat(dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(dir);
		dir = next;
	}
	for (int k = 0; k < 2; k++) {
		int type = k ? SOCK_STREAM : SOCK_SEQPACKET;
		const char *sock = k ? "stream" : "seqpacket";
		AUTO_FD listener = io_unix_listen_at(dir, sock, type, 4);
		AUTO_FD client = -1;
		AUTO_FD server = -1;
		char c;

		assert_true(listener >= 0);
		assert_int_equal(fstatat(dir, sock, &st, AT_SYMLINK_NOFOLLOW), 0);
		assert_int_equal(st.st_mode, S_IFSOCK | 0600);
		assert_int_equal(io_unix_listen_at(dir, sock, type, 4), -EADDRINUSE);
		client = io_unix_connect_at(dir, sock, type);
		assert_true(client >= 0);
		server = accept(listener, NULL, NULL);
		assert_int_equal(io_write_all(client, "x", 1), 0);
		assert_int_equal(read(server, &c, 1), 1);
		assert_int_equal(io_unix_connect_at(dir, sock, k ? SOCK_SEQPACKET : SOCK_STREAM),
				 -EPROTOTYPE);
		close_fd(&listener);
		assert_int_equal(io_unix_connect_at(dir, sock, type), -ECONNREFUSED);
	}
	assert_int_equal(io_unix_connect_at(dir, "none", SOCK_STREAM), -ENOENT);
	assert_int_equal(io_unix_connect_at(dir, name, SOCK_STREAM), -ENAMETOOLONG);
	assert_int_equal(io_unix_connect_at(dir, "a/b", SOCK_STREAM), -EINVAL);
	assert_int_equal(io_unix_listen_at(dir, "", SOCK_STREAM, 1), -EINVAL);
}

int main(void)
{
#define IN_A_PLACE(fn) cmocka_unit_test_setup_teardown(fn, make_place, remove_place)
	static const struct CMUnitTest tests[] = {
		IN_A_PLACE(a_file_is_read_up_to_its_limit),
		IN_A_PLACE(only_regular_files_are_read),
		IN_A_PLACE(a_short_pread_is_no_data),
		IN_A_PLACE(a_file_is_replaced_whole_or_not_at_all),
		cmocka_unit_test(descriptors_pass_and_arrive_cloexec),
		cmocka_unit_test(too_many_descriptors_are_refused_and_closed),
		cmocka_unit_test(a_message_cut_short_is_an_error_and_its_descriptors_are_closed),
		cmocka_unit_test(a_full_socket_says_again),
		IN_A_PLACE(nothing_is_opened_outside),
		cmocka_unit_test(magic_links_lead_nowhere),
		IN_A_PLACE(a_file_is_created_beneath_with_its_mode),
		cmocka_unit_test(a_sealed_memfd_never_changes),
		cmocka_unit_test(a_memfd_runs_only_if_it_was_made_to),
		IN_A_PLACE(a_socket_is_reached_below_any_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
