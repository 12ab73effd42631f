/*
 * Landing while somebody else works in the same directory at the same time. Each editor is a
 * process of its own that goes on until the landing is done, and knows what it wrote: nothing of it
 * may be missing afterwards.
 */
#include <sys/mman.h>

#include "tests/integration/landing_ns.h"

enum { MANY = 40 };

/* Of each race. tools/soak asks for more. */
static int rounds(void)
{
	const char *s = getenv("HOLDFAST_ROUNDS");

	return s ? atoi(s) : 6;
}

struct editor {
	pid_t pid;
	volatile uint64_t
		*shared; /* [0] stop, [1] how many edits were done, [2] the landing begins */
};

/* work(n, i): the user's i-th edit, as the user, in the base. The first comes delay_us after the
 * landing began, so that over the rounds every moment of it is met. */
static struct editor editor_start(struct landing_ns *n, void (*work)(struct landing_ns *, uint64_t),
				  int delay_us)
{
	struct editor e = {.shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0)};

	assert_true(e.shared != MAP_FAILED);
	e.pid = fork();
	if (e.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (geteuid() == 0 && (setresgid(n->t.gid, n->t.gid, n->t.gid) < 0 ||
				       setresuid(n->t.uid, n->t.uid, n->t.uid) < 0))
			_exit(1);
		if (fchdir(n->t.base) < 0)
			_exit(1);
		umask(022);
		e.shared[1] = 1;
		while (!e.shared[2])
			;
		e.shared[1] = 0;
		if (delay_us > 0)
			usleep((useconds_t)delay_us);
		for (uint64_t i = 1; !e.shared[0]; i++) {
			work(n, i);
			e.shared[1] = i;
		}
		_exit(0);
	}
	while (e.shared[1] == 0 && waitpid(e.pid, NULL, WNOHANG) == 0)
		sched_yield();
	return e;
}

static long span_us; /* of a landing that nobody disturbs, and a little more */

static int delay_of(int round)
{
	return (int)(span_us * round / rounds());
}

static uint64_t editor_stop(struct editor *e)
{
	uint64_t done;

	e->shared[0] = 1;
	assert_int_equal(layers_ns_wait(e->pid), 0);
	done = e->shared[1];
	munmap((void *)e->shared, 4096);
	return done;
}

/* f and MANY others are edited by the run, so that the landing takes a while. */
static const char run_step[] = "for i in $(seq 40); do echo x > d/f$i; done; echo run > d/f; mkdir "
			       "n; echo y > n/a; rm d/gone";
static const char run_base[] = "mkdir d; for i in $(seq 40); do echo o > d/f$i; done; echo user > "
			       "d/f; echo g > d/gone; mkdir out";

struct round {
	struct landing_ns n;
	struct landing_outcome o;
	char *before, *after;
	int result;
};

static void round_open(struct round *r)
{
	*r = (struct round){0};
	landing_ns_open(&r->n, NULL);
	landing_ns_begin(&r->n, run_base);
	landing_ns_step(&r->n, run_step, NULL);
	landing_ns_prepare(&r->n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	assert_true(r->n.prepared.redo.len > 0);
	r->before = landing_ns_list(&r->n);
}

static void round_close(struct round *r)
{
	if (getenv("LANDING_VERBOSE"))
		print_message("%s %s\n", r->result == LANDING_APPLIED ? "landed" : "conflict",
			      r->o.why);
	landing_outcome_free(&r->o);
	free(r->before);
	free(r->after);
	landing_ns_close(&r->n);
}

/* All of the run's paths but `except` are as before, or all are as after. */
static void no_half(struct round *r)
{
	bool landed = r->result == LANDING_APPLIED;
	char want[64];

	for (int i = 1; i <= MANY; i++) {
		snprintf(want, sizeof(want), "f%d 644 %c\\n\n", i, landed ? 'x' : 'o');
		if (!strstr(r->after, want))
			fail_msg("%s, but:\n%s", landed ? "landed" : "rolled back", r->after);
	}
	assert_int_equal(strstr(r->after, "n/a 644 y") != NULL, landed);
	assert_int_equal(strstr(r->after, "/gone 644 g") == NULL, landed);
	if (strstr(r->after, LANDING_HIDDEN_PREFIX))
		fail_msg("left behind:\n%s", r->after);
}

static void round_apply(struct round *r, struct editor *e, uint64_t *ret_done)
{
	e->shared[2] = 1;
	r->result = landing_ns_apply(&r->n, false, false, &r->o);
	*ret_done = editor_stop(e);
	r->after = landing_ns_list(&r->n);
}

static long since_us(struct timespec a)
{
	struct timespec b;

	clock_gettime(CLOCK_MONOTONIC, &b);
	return (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000;
}

static int measure(void **state)
{
	struct timespec a;
	struct round r;

	(void)state;
	round_open(&r);
	clock_gettime(CLOCK_MONOTONIC, &a);
	r.result = landing_ns_apply(&r.n, false, false, &r.o);
	span_us = since_us(a) * 11 / 10;
	r.after = landing_ns_list(&r.n);
	no_half(&r);
	round_close(&r);
	return r.result;
}

/* ---- an editor that appends in place ---- */

static void append(struct landing_ns *n, uint64_t i)
{
	char line[32];
	int len = snprintf(line, sizeof(line), "edit %llu;", (unsigned long long)i);
	int fd = open("d/f", O_WRONLY | O_APPEND | O_CLOEXEC);

	(void)n;
	if (fd < 0 || write(fd, line, (size_t)len) != len || close(fd) < 0)
		_exit(2);
}

/* In any version that exists: in the directory, or as a blob. */
static bool somewhere(struct round *r, const char *what)
{
	struct dirent **list;
	bool found = strstr(r->after, what) != NULL;
	int count = scandirat(r->n.blobs, ".", &list, NULL, NULL);

	for (int i = 0; i < count; i++) {
		AUTO_BUFFER content = {0};

		if (!found && list[i]->d_name[0] != '.' &&
		    io_read_file_at(r->n.blobs, list[i]->d_name, 1 << 24, &content) == 0 &&
		    content.len > 0)
			found = strstr((char *)content.data, what) != NULL;
		free(list[i]);
	}
	free(list);
	return found;
}

static void in_place_edits_are_all_there(void **state)
{
	(void)state;
	for (int k = 0; k < rounds(); k++) {
		struct round r;
		struct editor e;
		uint64_t done;

		round_open(&r);
		e = editor_start(&r.n, append, delay_of(k));
		round_apply(&r, &e, &done);
		for (uint64_t i = 1; i <= done; i++) {
			char what[32];

			snprintf(what, sizeof(what), "edit %llu;", (unsigned long long)i);
			if (!somewhere(&r, what))
				fail_msg("%s of %llu is lost", what, (unsigned long long)done);
		}
		no_half(&r);
		if (r.result == LANDING_APPLIED && done > 0)
			assert_non_null(
				strstr(r.after, "f d/f 644 run\\nedit 1;")); /* it came after */
		round_close(&r);
	}
}

/* ---- a program that holds the file open, and writes when it pleases ---- */

static void an_open_writer_is_a_conflict(void **state)
{
	struct round r;
	int fd;

	(void)state;
	round_open(&r);
	fd = openat(r.n.t.base, "d/f", O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_true(fd >= 0);
	r.result = landing_ns_apply(&r.n, false, false, &r.o);
	assert_int_equal(r.result, LANDING_CONFLICT);
	assert_int_equal(write(fd, "late;", 5), 5);
	close(fd);
	r.after = landing_ns_list(&r.n);
	assert_non_null(strstr(r.after, "f d/f 644 user\\nlate;"));
	no_half(&r);
	round_close(&r);
}

/* ---- an editor that saves by renaming over ---- */

static void save(struct landing_ns *n, uint64_t i)
{
	char line[32];
	int len = snprintf(line, sizeof(line), "save %llu;", (unsigned long long)i);
	int fd = open("d/f~", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	(void)n;
	if (fd < 0 || write(fd, line, (size_t)len) != len || close(fd) < 0 ||
	    rename("d/f~", "d/f") < 0)
		_exit(2);
}

static void the_last_save_stands(void **state)
{
	(void)state;
	for (int k = 0; k < rounds(); k++) {
		struct round r;
		struct editor e;
		uint64_t done;
		char want[64];

		round_open(&r);
		e = editor_start(&r.n, save, delay_of(k));
		round_apply(&r, &e, &done);
		snprintf(want, sizeof(want), "f d/f 644 save %llu;\n", (unsigned long long)done);
		if (done == 0)
			assert_int_equal(r.result, LANDING_APPLIED);
		else if (!strstr(r.after, want))
			fail_msg("not there: %s%s", want, r.after);
		no_half(&r);
		round_close(&r);
	}
}

/* ---- names made and removed all the time ---- */

static void make_and_remove(struct landing_ns *n, uint64_t i)
{
	(void)n;
	if (i % 2) {
		int fd = open("n", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		if (fd >= 0) {
			(void)!write(fd, "mine", 4);
			close(fd);
		}
	} else {
		unlink("n");
	}
}

static void a_name_that_comes_and_goes(void **state)
{
	(void)state;
	for (int k = 0; k < rounds(); k++) {
		struct round r;
		struct editor e;
		uint64_t done;

		round_open(&r);
		e = editor_start(&r.n, make_and_remove, delay_of(k));
		round_apply(&r, &e, &done);
		no_half(&r);
		round_close(&r);
	}
}

/* ---- a folder that is moved away and back ---- */

static void move_away(struct landing_ns *n, uint64_t i)
{
	(void)n;
	if (rename(i % 2 ? "d" : "e", i % 2 ? "e" : "d") < 0)
		_exit(2);
	usleep(200);
}

static void a_folder_that_is_moved_all_the_time(void **state)
{
	(void)state;
	for (int k = 0; k < rounds(); k++) {
		struct round r;
		struct editor e;
		uint64_t done;

		round_open(&r);
		e = editor_start(&r.n, move_away, delay_of(k));
		round_apply(&r, &e, &done);
		no_half(&r);
		round_close(&r);
	}
}

/* ---- a folder that is a link out of the workspace every other instant ---- */

static void swap_for_link(struct landing_ns *n, uint64_t i)
{
	char target[128];

	snprintf(target, sizeof(target), "%s/empty", n->t.root);
	if (i == 1 && symlink(target, "link") < 0)
		_exit(2);
	/* One system call: there is always something called d. */
	if (renameat2(AT_FDCWD, "d", AT_FDCWD, "link", RENAME_EXCHANGE) < 0)
		_exit(3);
}

static int names_in(int dir)
{
	struct dirent **list;
	int count = scandirat(dir, ".", &list, NULL, NULL);

	for (int i = 0; i < count; i++)
		free(list[i]);
	free(list);
	return count - 2;
}

static void nothing_lands_through_a_link(void **state)
{
	(void)state;
	for (int k = 0; k < rounds(); k++) {
		struct round r;
		struct editor e;
		uint64_t done;
		AUTO_FD outside = -1;

		round_open(&r);
		outside = layers_ns_open_at(&r.n.t, "empty");
		e = editor_start(&r.n, swap_for_link, delay_of(k));
		round_apply(&r, &e, &done);
		assert_int_equal(names_in(outside), 0);
		no_half(&r);
		round_close(&r);
	}
}

/* ---- a folder that the run removes, and somebody works in ---- */

static void work_in_folder(struct landing_ns *n, uint64_t i)
{
	static int dir = -1;
	char name[32];

	(void)n;
	if (dir < 0)
		dir = open("d", O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(name, sizeof(name), "made-%llu", (unsigned long long)i);
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	if (fd >= 0) {
		(void)!write(fd, "mine", 4);
		close(fd);
	} else {
		_exit(0); /* the folder is removed: nothing can be made in it */
	}
	if (i == 300)
		_exit(0);
}

static void a_removed_folder_keeps_what_was_made_in_it(void **state)
{
	(void)state;
	for (int k = 0; k < rounds(); k++) {
		struct round r = {0};
		struct editor e;
		uint64_t done;
		uint64_t found = 0;

		landing_ns_open(&r.n, NULL);
		landing_ns_begin(&r.n, run_base);
		landing_ns_step(&r.n, "rm -r d; echo x > out/x", NULL);
		landing_ns_prepare(&r.n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
		r.before = landing_ns_list(&r.n);
		e = editor_start(&r.n, work_in_folder, delay_of(k));
		round_apply(&r, &e, &done);
		for (uint64_t i = 1; i <= done; i++) {
			char name[32];

			snprintf(name, sizeof(name), "/made-%llu 644 mine", (unsigned long long)i);
			found += strstr(r.after, name) != NULL;
		}
		if (found < done)
			fail_msg("%llu of %llu made, in:\n%s", (unsigned long long)found,
				 (unsigned long long)done, r.after);
		if (strstr(r.after, LANDING_HIDDEN_PREFIX))
			fail_msg("left behind:\n%s", r.after);
		round_close(&r);
	}
}

/* ---- and at length ---- */

static void ten_thousand_files(void **state)
{
	struct landing_ns n;
	struct landing_outcome o = {0};
	AUTO_FREE char *before = NULL;
	AUTO_FREE char *undone = NULL;
	struct timespec a;

	(void)state;
	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, "for i in $(seq 50); do mkdir d$i; done; i=0; while [ $i -lt 5000 ]; "
			     "do echo $i > d$((i % 50 + 1))/f$i; i=$((i+1)); done");
	landing_ns_step(
		&n,
		"i=0; while [ $i -lt 4000 ]; do echo x > d$((i % 50 + 1))/f$i; i=$((i+1)); done; "
		"while [ $i -lt 5000 ]; do rm d$((i % 50 + 1))/f$i; i=$((i+1)); done; "
		"mkdir -p new/deep; i=0; while [ $i -lt 5000 ]; do echo n > new/deep/n$i; "
		"i=$((i+1)); done",
		NULL);
	clock_gettime(CLOCK_MONOTONIC, &a);
	landing_ns_prepare(&n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	print_message("planned in %ld ms, ", since_us(a) / 1000);
	before = landing_ns_list(&n);
	assert_int_equal(n.prepared.plan->action_count, 10002);
	clock_gettime(CLOCK_MONOTONIC, &a);
	assert_int_equal(landing_ns_apply(&n, false, false, &o), LANDING_APPLIED);
	print_message("landed in %ld ms\n", since_us(a) / 1000);
	assert_int_equal(o.paths, 10002);
	landing_outcome_free(&o);
	landing_ns_no_leftovers(&n, "ten thousand files");
	assert_int_equal(landing_ns_apply(&n, true, false, &o), LANDING_APPLIED);
	landing_outcome_free(&o);
	undone = landing_ns_list(&n);
	assert_string_equal(undone, before);
	landing_ns_close(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_place_edits_are_all_there),
		cmocka_unit_test(an_open_writer_is_a_conflict),
		cmocka_unit_test(the_last_save_stands),
		cmocka_unit_test(a_name_that_comes_and_goes),
		cmocka_unit_test(a_folder_that_is_moved_all_the_time),
		cmocka_unit_test(nothing_lands_through_a_link),
		cmocka_unit_test(a_removed_folder_keeps_what_was_made_in_it),
		cmocka_unit_test(ten_thousand_files),
	};

	cmocka_set_test_filter(getenv("LANDING_TEST"));
	return cmocka_run_group_tests_name("landing races", tests, measure, NULL);
}
