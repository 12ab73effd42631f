/* What people do about a landing: answer its conflicts, undo it after they went on working, and
 * look at the difference. */
#include "supervisor/diff.h"
#include "tests/integration/landing_ns.h"

static void a_file_made_in_a_landed_folder_keeps_it(void **state)
{
	struct landing_outcome o = {0};
	struct landing_ns n;

	(void)state;
	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, "echo a > f");
	landing_ns_step(&n, "mkdir d; echo run > d/e; echo run > f", NULL);
	landing_ns_prepare(&n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	assert_int_equal(landing_ns_apply(&n, false, false, &o), LANDING_APPLIED);
	landing_outcome_free(&o);
	landing_ns_user(&n, "echo mine > d/new");
	assert_int_equal(landing_ns_apply(&n, true, false, &o), LANDING_CONFLICT);
	landing_outcome_free(&o);
	landing_ns_expect(&n, "refused",
			  "d d 755\nf d/e 644 run\\n\nf d/new 644 mine\\n\nf f 644 run\\n\n");
	landing_ns_close(&n);
}

/* The directory at the path is another one: nothing is written into it. */
static void another_directory_is_refused(void **state)
{
	struct landing_outcome o = {0};
	struct error err = {0};
	struct landing_ns n;

	(void)state;
	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, "echo a > f; mkdir other");
	landing_ns_step(&n, "echo run > f", NULL);
	landing_ns_prepare(&n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	AUTO_FD other = openat(n.t.base, "other", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(landing_apply(&(struct landing_application){.workspace_fd = other,
								     .redo = buffer_bytes(
									     &n.prepared.redo),
								     .source = &n.source},
				       &o, &err),
			 -ESTALE);
	assert_int_equal(err.exit_status, EXIT_STATUS_CONFLICT);
	assert_int_equal(workspace_reopen(n.workspace, n.prepared.plan->ws_dev,
					  n.prepared.plan->ws_ino + 1, &err),
			 -ESTALE);
	int again = workspace_reopen(n.workspace, n.prepared.plan->ws_dev, n.prepared.plan->ws_ino,
				     &err);

	assert_true(again >= 0);
	close(again);
	landing_ns_close(&n);
}

/* Bytes that are not what was sealed never land, and nothing else does. */
static void a_layer_that_changed_is_refused(void **state)
{
	struct landing_outcome o = {0};
	struct error err = {0};
	struct landing_ns n;
	char path[128];

	(void)state;
	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, "echo a > f; echo b > g");
	landing_ns_step(&n, "echo run > f; echo run > g", NULL);
	landing_ns_prepare(&n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	snprintf(path, sizeof(path), "%s/v1/layers/l0/u/g", n.t.root);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(write(fd, "RUN", 3), 3);
	close(fd);
	assert_int_equal(landing_apply(&(struct landing_application){.workspace_fd = n.t.base,
								     .redo = buffer_bytes(
									     &n.prepared.redo),
								     .source = &n.source},
				       &o, &err),
			 LANDING_CONFLICT);
	assert_true(buffer_bytes(&o.conflicts).len > 0);
	landing_outcome_free(&o);
	landing_ns_expect(&n, "refused", "f f 644 a\\n\nf g 644 b\\n\n");
	landing_ns_close(&n);
}

/* The workspace's owner puts another's folder in the place of one that landing just made: as root,
 * landing must not give it to him. */
static void a_folder_put_in_the_new_ones_place_is_not_given_away(void **state)
{
	struct landing_outcome o = {0};
	struct error err = {0};
	struct landing_ns n;
	struct stat st;
	siginfo_t info;
	pid_t pid;

	(void)state;
	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, ":");
	landing_ns_step(&n, "mkdir d; echo x > d/f", NULL);
	landing_ns_prepare(&n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	assert_int_equal(mkdirat(n.t.base, "bait", 0700), 0);
	AUTO_FD bait = openat(n.t.base, "bait", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(mkdirat(bait, "in", 0700), 0);
	pid = fork();
	if (pid == 0) {
		failpoint_init("landing.made=stop");
		_exit(landing_apply(&(struct landing_application){.workspace_fd = n.t.base,
								  .redo = buffer_bytes(
									  &n.prepared.redo),
								  .source = &n.source},
				    &o, &err) == LANDING_CONFLICT
			      ? 0
			      : 1);
	}
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WEXITED), 0);
	assert_int_equal(info.si_code, CLD_STOPPED);
	landing_ns_user(&n, "n=$(echo .holdfast-land-*w); mv $n away; mv -T bait $n");
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_int_equal(layers_ns_wait(pid), 0);
	assert_int_equal(fstat(bait, &st), 0);
	assert_int_equal(st.st_uid, geteuid());
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(fstatat(n.t.base, "d", &st, AT_SYMLINK_NOFOLLOW), -1);
	landing_ns_close(&n);
}

/* As root in another's folder: what lands is its owner's, in the group that a shared folder hands
 * on; whoever could not look into a folder before cannot while it lands, nor after. */
static void what_lands_has_its_owner_and_group(void **state)
{
	struct landing_outcome o = {0};
	struct landing_ns n;
	struct stat st;

	(void)state;
	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, "mkdir shared; chmod 770 shared");
	landing_ns_step(&n,
			"mkdir -m 700 p; mkdir -m 500 p/q; mkdir -m 1777 t; mkdir shared/d; "
			"echo x > shared/d/f; echo x > shared/g; chmod 751 shared/d",
			NULL);
	if (geteuid() == 0) {
		assert_int_equal(fchownat(n.t.base, "shared", (uid_t)-1, 4242, 0), 0);
		assert_int_equal(fchmodat(n.t.base, "shared", 02770, 0), 0);
	}
	/* Or its ctime alone would be younger than the run, as of a folder that was moved here. */
	landing_ns_user(&n, "touch shared/work; rm shared/work");
	landing_ns_prepare(&n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	assert_int_equal(landing_ns_apply(&n, false, false, &o), LANDING_APPLIED);
	landing_outcome_free(&o);
	static const struct {
		const char *path;
		uint32_t mode;
		bool shared;
	} want[] = {{"p", 0700, false},	      {"p/q", 0500, false},	  {"t", 01777, false},
		    {"shared/d", 0751, true}, {"shared/d/f", 0644, true}, {"shared/g", 0644, true}};

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		bool root = geteuid() == 0;

		if (fstatat(n.t.base, want[i].path, &st, AT_SYMLINK_NOFOLLOW) < 0)
			fail_msg("%s: %s", want[i].path, strerror(errno));
		if (st.st_uid != n.t.uid || (st.st_mode & 01777) != want[i].mode ||
		    st.st_gid != (root && want[i].shared ? 4242 : n.t.gid))
			fail_msg("%s: uid %u, gid %u, mode %o", want[i].path, st.st_uid, st.st_gid,
				 st.st_mode);
	}
	landing_ns_close(&n);
}

/* ---- the difference ---- */

static char *run_diff(int dest, const struct diff_prepared *p)
{
	struct buffer out = {0};
	const char *argv[8] = {NULL};
	char folder[32];
	size_t n = 0;
	int pipes[2];
	pid_t pid;

	for (; p->argv[n]; n++)
		argv[n] = p->argv[n];
	assert_string_equal(argv[n - 1], DIFF_INSIDE);
	snprintf(folder, sizeof(folder), "/proc/self/fd/%d", dest);
	argv[n - 1] = folder;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		if (fcntl(dest, F_SETFD, 0) < 0 || dup2(pipes[1], 1) < 0)
			_exit(9);
		execvp(argv[0], (char *const *)argv);
		_exit(9);
	}
	close(pipes[1]);
	assert_int_equal(io_read_all(pipes[0], DIFF_OUTPUT_MAX, &out), 0);
	close(pipes[0]);
	assert_true(layers_ns_wait(pid) <= 1);
	return buffer_take(&out, NULL);
}

/* Lines of diff(1) with a time stamp are cut before it. */
static char *cut_times(const char *text)
{
	struct buffer out = {0};

	for (const char *p = text; *p;) {
		const char *end = strchr(p, '\n') + 1;
		bool head = strncmp(p, "--- ", 4) == 0 || strncmp(p, "+++ ", 4) == 0;
		const char *tab = head ? memchr(p, '\t', (size_t)(end - p)) : NULL;

		if (strncmp(p, "diff ", 5) != 0) {
			buffer_append(&out, p, (size_t)((tab ? tab : end - 1) - p));
			buffer_append_byte(&out, '\n');
		}
		p = end;
	}
	return buffer_take(&out, NULL);
}

static void put_side(struct buffer *out, enum manifest_type t, uint64_t size)
{
	if (t == MANIFEST_FILE)
		buffer_printf(out, "%llu", (unsigned long long)size);
	else
		buffer_append_str(out, manifest_type_name(t));
}

/* "M  src/a.c  (1204 -> 1311)" lines; at most max of them, then how many more. */
static int stat_text(const struct diff_entry *e, size_t count, size_t max, struct buffer *out)
{
	for (size_t i = 0; i < count && i < max; i++) {
		buffer_printf(out, "%c  ", e[i].letter);
		escape_append(out, e[i].path, ESCAPE_LINE | ESCAPE_MARK_LOOKALIKE);
		buffer_append_str(out, "  (");
		if (e[i].letter != 'A')
			put_side(out, e[i].before, e[i].size_before);
		if (e[i].letter == 'M' || e[i].letter == 'T')
			buffer_append_str(out, " -> ");
		if (e[i].letter != 'D')
			put_side(out, e[i].after, e[i].size_after);
		if (e[i].letter == 'M' && e[i].mode_before != e[i].mode_after)
			buffer_printf(out, ", mode %o -> %o", e[i].mode_before, e[i].mode_after);
		buffer_append_str(out, ")\n");
	}
	if (count > max)
		buffer_printf(out, "and %zu more\n", count - max);
	return out->failed;
}

static void check_diff(struct landing_ns *n, size_t below, const char *want_text,
		       const char *want_note, const char *want_stat)
{
	struct diff_prepared p = {0};
	struct diff_entry *list;
	AUTO_BUFFER stat = {0};
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *cut = NULL;
	struct error err = {0};
	size_t count;

	layers_ns_mkdir(&n->t, "diff", 0755, false);
	AUTO_FD dest = layers_ns_open_at(&n->t, "diff");

	if (diff_prepare(&(struct diff_request){.workspace_fd = n->t.base,
						.below = n->layers,
						.below_count = below,
						.layers = n->layers + below,
						.layer_count = n->layer_count - below,
						.source = &n->source,
						.dest_fd = dest},
			 &p, &err) < 0)
		fail_msg("%s", err.msg);
	text = run_diff(dest, &p);
	cut = cut_times(text);
	assert_string_equal(cut, want_text);
	assert_string_equal(p.note.data ? (char *)p.note.data : "", want_note);
	assert_int_equal(diff_stat(p.net, &list, &count), 0);
	assert_int_equal(stat_text(list, count, 6, &stat), 0);
	assert_string_equal((char *)stat.data, want_stat);
	free(list);
	diff_prepared_free(&p);
	assert_int_equal(workspace_empty(dest, &err), 0);
	AUTO_BUFFER path = {0};

	buffer_printf(&path, "%s/diff", n->t.root);
	assert_int_equal(rmdir((char *)path.data), 0);
}

static void the_difference_of_a_run_and_of_a_step(void **state)
{
	struct landing_ns n;

	(void)state;
	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, "printf 'one\\ntwo\\n' > f; echo gone > g; ln -s a l; echo x > x; "
			     "printf '\\000\\001' > bin; echo same > same");
	landing_ns_step(&n,
			"printf 'one\\n2\\n' > f; rm g; ln -sf b l; chmod 755 x; printf "
			"'\\000\\002' > bin; echo hid > h; chmod 000 h",
			NULL);
	landing_ns_step(&n,
			"printf 'one\\n3\\n' > f; echo n > n; rm -f h; n=$(printf 'new\\nline'); "
			"echo y > \"$n\"; truncate -s 5M big",
			NULL);
	static const char run_text[] =
		"Binary files a/bin and b/bin differ\n"
		"--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n one\n-two\n+3\n"
		"--- a/g\n+++ b/g\n@@ -1 +0,0 @@\n-gone\n"
		"--- a/l\n+++ b/l\n@@ -1 +1 @@\n-symlink -> a\n+symlink -> b\n"
		"--- a/n\n+++ b/n\n@@ -0,0 +1 @@\n+n\n"
		"--- \"a/new\\nline\"\n+++ \"b/new\\nline\"\n@@ -0,0 +1 @@\n+y\n";
	static const char run_note[] =
		"big: too large to be shown\nx: mode 644 -> 755\n1 changed file is not shown\n";
	static const char run_stat[] = "A  big  (5242880)\nM  bin  (2 -> 2)\nM  f  (8 -> 6)\nD  g  "
				       "(5)\nM  l  (symlink -> symlink)\n"
				       "A  n  (2)\nand 2 more\n";

	check_diff(&n, 0, run_text, run_note, run_stat);
	check_diff(&n, 1,
		   "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n one\n-2\n+3\n"
		   "--- a/h\n+++ b/h\n@@ -1 +0,0 @@\n-hid\n"
		   "--- a/n\n+++ b/n\n@@ -0,0 +1 @@\n+n\n"
		   "--- \"a/new\\nline\"\n+++ \"b/new\\nline\"\n@@ -0,0 +1 @@\n+y\n",
		   "big: too large to be shown\n1 changed file is not shown\n",
		   "A  big  (5242880)\nM  f  (6 -> 6)\nD  h  (4)\nA  n  (2)\nA  new\\nline  (2)\n");
	/* The same when the run has landed, but for the target of a link, which no blob keeps. */
	struct landing_outcome o = {0};
	AUTO_BUFFER landed_text = {0};
	const char *link = strstr(run_text, "-symlink -> a\n");

	landing_ns_prepare(&n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	assert_int_equal(landing_ns_apply(&n, false, false, &o), LANDING_APPLIED);
	landing_outcome_free(&o);
	buffer_append(&landed_text, run_text, (size_t)(link - run_text));
	buffer_printf(&landed_text, "-symlink -> (another target, no longer known)\n%s",
		      link + strlen("-symlink -> a\n"));
	check_diff(&n, 0, (char *)landed_text.data, run_note, run_stat);
	landing_ns_close(&n);
}

/* ---- the workspace ---- */

static void what_the_file_system_can_do(void **state)
{
	struct workspace_abilities a;
	struct workspace w;
	struct error err = {0};
	struct landing_ns n;

	(void)state;
	landing_ns_open(&n, NULL);
	/* One of a process that lives, and one that a killed supervisor left just now: no process
	 * has so high an id. */
	layers_ns_base(&n.t, "mkdir .holdfast-land-probe-1-1 .holdfast-land-probe-4194305-1; "
			     "touch .holdfast-land-probe-1-1/a .holdfast-land-probe-4194305-1/b");
	if (workspace_open(n.t.base, geteuid(), &w, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(w.uid, n.t.uid);
	if (workspace_probe(n.t.base, &a, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(a.exchange && a.noreplace && a.ctime_ok);
	assert_true(a.granularity_ns >= 1 && a.granularity_ns <= 1000000);
	landing_ns_expect(&n, "only the living one's is left",
			  "d .holdfast-land-probe-1-1 755\nf .holdfast-land-probe-1-1/a 644 \n");
	AUTO_FD null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_int_equal(workspace_open(null, geteuid(), &w, &err), -ENOTDIR);
	AUTO_FD proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	err = (struct error){0};
	assert_int_equal(workspace_open(proc, geteuid(), &w, &err), -EOPNOTSUPP);
	assert_int_equal(err.exit_status, EXIT_STATUS_SANDBOX);
	landing_ns_close(&n);
}

static void a_pinned_base_is_a_copy(void **state)
{
	struct workspace_copied done = {0};
	AUTO_BUFFER got = {0};
	AUTO_FREE char *want = NULL;
	struct error err = {0};
	struct landing_ns n;
	struct stat st;

	(void)state;
	landing_ns_open(&n, NULL);
	landing_ns_user(&n, "mkdir -p d/e state; echo a > d/e/f; chmod 555 d/e; ln -s d/e l; "
			    "mkfifo p; echo secret > state/s; touch -d @1000 d/e/f");
	layers_ns_mkdir(&n.t, "pin", 0700, true);
	AUTO_FD dest = layers_ns_open_at(&n.t, "pin");

	assert_int_equal(fstatat(n.t.base, "state", &st, 0), 0);
	if (workspace_pin(n.t.base, dest, st.st_dev, st.st_ino, &done, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(done.files, 1);
	assert_int_equal(done.skipped, 1);
	landing_ns_tree(dest, "", &got);
	assert_string_equal((char *)got.data, "d d 755\nd d/e 555\nf d/e/f 644 a\\n\nl l d/e\n");
	assert_int_equal(fstatat(dest, "d/e/f", &st, 0), 0);
	assert_int_equal(st.st_mtim.tv_sec, 1000);
	/* Edits of the one are not in the other. */
	landing_ns_user(&n, "echo b > d/e/f; rm -f p");
	want = landing_ns_list(&n);
	assert_non_null(strstr(want, "f d/e/f 644 b"));
	assert_int_equal(workspace_empty(dest, &err), 0);
	buffer_free(&got);
	landing_ns_tree(dest, "", &got);
	assert_int_equal(got.len, 0);
	landing_ns_close(&n);
}

static void a_copy_too_large_says_what_to_do(void **state)
{
	struct workspace_copied done;
	struct error err = {0};
	struct landing_ns n;
	int r;

	(void)state;
	landing_ns_open(&n, NULL);
	landing_ns_user(&n, "truncate -s 257M big");
	layers_ns_mkdir(&n.t, "pin", 0700, true);
	AUTO_FD dest = layers_ns_open_at(&n.t, "pin");

	r = workspace_pin(n.t.base, dest, 0, 0, &done, &err);
	if (r == 0) {
		assert_int_equal(done.bytes_copied, 0); /* a file system that clones */
	} else {
		assert_int_equal(r, -EOPNOTSUPP);
		assert_int_equal(err.exit_status, EXIT_STATUS_SANDBOX);
		assert_non_null(strstr(err.msg, "base: live"));
	}
	landing_ns_close(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_made_in_a_landed_folder_keeps_it),
		cmocka_unit_test(another_directory_is_refused),
		cmocka_unit_test(a_layer_that_changed_is_refused),
		cmocka_unit_test(a_folder_put_in_the_new_ones_place_is_not_given_away),
		cmocka_unit_test(what_lands_has_its_owner_and_group),
		cmocka_unit_test(the_difference_of_a_run_and_of_a_step),
		cmocka_unit_test(what_the_file_system_can_do),
		cmocka_unit_test(a_pinned_base_is_a_copy),
		cmocka_unit_test(a_copy_too_large_says_what_to_do),
	};

	cmocka_set_test_filter(getenv("LANDING_TEST"));
	return cmocka_run_group_tests_name("landing, answered", tests, NULL, NULL);
}
