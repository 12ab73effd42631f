/*
 * SIGKILL at every named point of landing and undoing, as often as it is passed, and at any other
 * moment; then the redo. It ends as if nothing had happened; or, when a path was edited in between,
 * in a conflict with everything else taken back.
 */
#include "tests/integration/landing_ns.h"

static const char base[] =
	"echo a > f; echo b > g; echo c > gone; mkdir -p d/e; echo d > d/e/f; echo e > d/g; mkdir "
	"m; echo x > m/x; "
	"echo t > tofolder; mkdir tofile; echo i > tofile/in; ln -s a link; echo last > z";
static const char step[] = "echo run >> f; echo run > new; rm gone; rm -r d; chmod 750 m; echo y > "
			   "m/y; rm tofolder; mkdir -p tofolder/b; "
			   "echo z > tofolder/b/c; rm -r tofile; echo w > tofile; ln -sf b link; "
			   "mkdir -p n/n; echo n > n/n/n; echo run >> z";

/* The sixteen actions of the step above are enough that all is synced at once; this is the other
 * way. */
static const char small_step[] =
	"echo run >> f; rm gone; echo run > new; rm -r tofile; echo w > tofile; echo run >> z";

static const char *const points[] = {
	"landing.settled",	  "landing.part",
	"landing.staged",	  "landing.before_exchange",
	"landing.after_exchange", "landing.before_keep",
	"landing.after_keep",	  "landing.put",
	"landing.clean",	  "landing.cleaned",
};

struct crash {
	struct landing_ns n;
	bool undo;
	char *before; /* the tree that the application starts from */
	char *after; /* what it ends in, never disturbed */
};

static void crash_open(struct crash *c, const char *what, bool undo)
{
	struct landing_outcome o = {0};
	char *landed;
	char *unlanded;

	*c = (struct crash){.undo = undo};
	landing_ns_open(&c->n, NULL);
	landing_ns_begin(&c->n, base);
	landing_ns_step(&c->n, what, NULL);
	landing_ns_prepare(&c->n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	unlanded = landing_ns_list(&c->n);
	assert_int_equal(landing_ns_apply(&c->n, false, false, &o), LANDING_APPLIED);
	landing_outcome_free(&o);
	landed = landing_ns_list(&c->n);
	assert_string_not_equal(landed, unlanded);
	if (!undo) {
		assert_int_equal(landing_ns_apply(&c->n, true, false, &o), LANDING_APPLIED);
		landing_outcome_free(&o);
	}
	c->before = undo ? landed : unlanded;
	c->after = undo ? unlanded : landed;
}

static void crash_close(struct crash *c)
{
	free(c->before);
	free(c->after);
	landing_ns_close(&c->n);
}

static pid_t apply_in_child(struct crash *c, const char *spec)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct landing_outcome o = {0};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		failpoint_init(spec);
		_exit(landing_ns_apply(&c->n, c->undo, false, &o) == LANDING_APPLIED ? 0 : 1);
	}
	return pid;
}

static void redo(struct crash *c, const char *where)
{
	struct landing_outcome o = {0};
	AUTO_FREE char *got = NULL;

	if (landing_ns_apply(&c->n, c->undo, true, &o) != LANDING_APPLIED) {
		AUTO_BUFFER b = {0};

		landing_ns_conflicts(buffer_bytes(&o.conflicts), &b);
		fail_msg("%s: the redo met %s", where, (char *)b.data);
	}
	landing_outcome_free(&o);
	got = landing_ns_list(&c->n);
	if (strcmp(got, c->after) != 0)
		fail_msg("%s: the redo gives:\n%s-- but not\n%s", where, got, c->after);
	/* And back, for the next point. */
	assert_int_equal(landing_ns_apply(&c->n, !c->undo, false, &o), LANDING_APPLIED);
	landing_outcome_free(&o);
	free(got);
	got = landing_ns_list(&c->n);
	assert_string_equal(got, c->before);
}

/* How it went: killed at the n-th passing, or (false) it ended before. */
static bool kill_at(struct crash *c, const char *point, int n, char where[96])
{
	int status;

	snprintf(where, 96, "%s=kill@%d", point, n);
	status = layers_ns_wait(apply_in_child(c, where));
	if (status == 0)
		return false;
	assert_int_equal(status, 128 + SIGKILL);
	return true;
}

static void every_point(const char *what, bool undo)
{
	struct crash c;
	char where[96];
	int killed = 0;

	crash_open(&c, what, undo);
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		int n = 1;

		for (; kill_at(&c, points[i], n, where); n++) {
			redo(&c, where);
			killed++;
		}
		assert_true(n > 1); /* the point is passed at least once */
		redo(&c, where);
	}
	print_message("%s: killed %d times\n", undo ? "undo" : "land", killed);
	crash_close(&c);
}

static void a_landing_killed_anywhere_lands(void **state)
{
	(void)state;
	every_point(step, false);
	every_point(small_step, false);
}

static void an_undoing_killed_anywhere_is_undone(void **state)
{
	(void)state;
	every_point(step, true);
	every_point(small_step, true);
}

static void killed_at_any_moment(void **state)
{
	unsigned seed = 1;

	(void)state;
	for (int undo = 0; undo < 2; undo++) {
		struct crash c;

		crash_open(&c, step, undo);
		for (int i = 0; i < 40; i++) {
			pid_t pid = apply_in_child(&c, NULL);

			usleep((useconds_t)rand_r(&seed) % 15000);
			kill(pid, SIGKILL);
			layers_ns_wait(pid);
			redo(&c, "at any moment");
		}
		crash_close(&c);
	}
}

/* Killed, and killed again in the redo. */
static void killed_twice(void **state)
{
	struct crash c;
	char where[96];

	(void)state;
	crash_open(&c, step, false);
	for (int n = 1; kill_at(&c, "landing.after_exchange", n, where); n += 2) {
		pid_t pid = fork();

		if (pid == 0) {
			struct landing_outcome o = {0};

			failpoint_init("landing.after_keep=kill@3,landing.clean=kill@4");
			_exit(landing_ns_apply(&c.n, c.undo, true, &o));
		}
		layers_ns_wait(pid);
		redo(&c, where);
	}
	crash_close(&c);
}

/* The tree without the lines of one path. */
static char *without(const char *tree, const char *path)
{
	struct buffer out = {0};
	char line[64];

	snprintf(line, sizeof(line), "f %s ", path);
	for (const char *p = tree; *p;) {
		const char *end = strchr(p, '\n') + 1;

		if (strncmp(p, line, strlen(line)) != 0)
			buffer_append(&out, p, (size_t)(end - p));
		p = end;
	}
	return buffer_take(&out, NULL);
}

/* Killed at a point; the user edits f; the redo is a conflict, the edit is there and everything
 * else is as before. */
static void an_edit_after_the_crash_takes_everything_back(void **state)
{
	(void)state;
	for (int undo = 0; undo < 2; undo++)
		for (size_t i = 0; i < ARRAY_SIZE(points); i++)
			for (int n = 1;; n += 3) {
				struct crash c;
				struct landing_outcome o = {0};
				AUTO_BUFFER met = {0};
				AUTO_FREE char *got = NULL;
				AUTO_FREE char *got_others = NULL;
				AUTO_FREE char *want_others = NULL;
				char where[96];
				bool killed;

				crash_open(&c, step, undo);
				killed = kill_at(&c, points[i], n, where);
				if (killed) {
					landing_ns_user(&c.n, "echo mine >> f");
					assert_int_equal(landing_ns_apply(&c.n, undo, true, &o),
							 LANDING_CONFLICT);
					landing_ns_conflicts(buffer_bytes(&o.conflicts), &met);
					got = landing_ns_list(&c.n);
					got_others = without(got, "f");
					want_others = without(c.before, "f");
					if (strcmp(got_others, want_others) != 0)
						fail_msg("%s: %snot taken back:\n%s-- but not\n%s",
							 where, (char *)met.data, got_others,
							 want_others);
					assert_non_null(strstr(got, "mine\\n\n"));
					if (strncmp((char *)met.data, "f: ", 3) != 0)
						fail_msg("%s: met %s", where, (char *)met.data);
					landing_outcome_free(&o);
				}
				crash_close(&c);
				if (!killed)
					break;
			}
}

/* The user moves a folder away after the crash: nothing of the landing stays in it, neither in the
 * folders below it that were to go, nor in those that were being made. */
static void a_folder_moved_after_the_crash_keeps_no_hidden_name(void **state)
{
	static const char in_d[] =
		"echo run >> f; echo run >> d/g; mkdir -p d/n/o; echo q > d/n/q; "
		"echo r > d/n/o/r; rm -r d/e";

	(void)state;
	for (int undo = 0; undo < 2; undo++)
		for (size_t i = 0; i < ARRAY_SIZE(points); i++)
			for (int n = 1;; n += 2) {
				struct crash c;
				struct landing_outcome o = {0};
				AUTO_FREE char *got = NULL;
				char where[96];
				bool killed;

				crash_open(&c, in_d, undo);
				killed = kill_at(&c, points[i], n, where);
				if (killed) {
					landing_ns_user(&c.n, "mv d moved");
					assert_true(landing_ns_apply(&c.n, undo, true, &o) >= 0);
					landing_outcome_free(&o);
					got = landing_ns_list(&c.n);
					if (strstr(got, LANDING_HIDDEN_PREFIX))
						fail_msg("%s: undo %d: left behind:\n%s", where,
							 undo, got);
				}
				crash_close(&c);
				if (!killed)
					break;
			}
}

/* A conflict at the last path, so that all is rolled back, and killed while that goes on. */
static void killed_while_rolling_back(void **state)
{
	struct crash c;
	char where[96];

	(void)state;
	crash_open(&c, step, false);
	for (int n = 1;; n++) {
		int fd = openat(c.n.t.base, "z", O_WRONLY | O_APPEND | O_CLOEXEC);
		int status;
		bool end = false;

		assert_true(fd >= 0);
		snprintf(where, sizeof(where),
			 "landing.rollback=kill@%d,landing.rolled_back=kill@%d", n, n);
		status = layers_ns_wait(apply_in_child(&c, where));
		close(fd);
		if (status == 1) {
			AUTO_FREE char *got = landing_ns_list(&c.n);

			assert_string_equal(got, c.before);
			end = true;
		} else {
			assert_int_equal(status, 128 + SIGKILL);
		}
		redo(&c, where);
		if (end)
			break;
	}
	crash_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_landing_killed_anywhere_lands),
		cmocka_unit_test(an_undoing_killed_anywhere_is_undone),
		cmocka_unit_test(killed_at_any_moment),
		cmocka_unit_test(killed_twice),
		cmocka_unit_test(an_edit_after_the_crash_takes_everything_back),
		cmocka_unit_test(a_folder_moved_after_the_crash_keeps_no_hidden_name),
		cmocka_unit_test(killed_while_rolling_back),
	};

	cmocka_set_test_filter(getenv("LANDING_TEST"));
	return cmocka_run_group_tests_name("landing, killed", tests, NULL, NULL);
}
