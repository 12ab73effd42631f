/* Cards: the exact text of each kind, from journaled bytes only, and nothing in it that deceives.
 */
#include "tests/golden.h"
#include "base/utf8.h"
#include "supervisor/card.h"

static const char *const argv[] = {"/bin/sh", "-c", "echo hi; rm x", NULL};

static struct card_input input(enum journal_approval_kind kind)
{
	struct card_input in = {.kind = kind,
				.run_name = "fix-42",
				.workspace = "/home/u/proj",
				.step_key = "edit#1",
				.argv = argv,
				.rule = "agency draft, land: ask",
				.decide_by_ns = INT64_C(1790000000000000000),
				.execute_by_ns = INT64_C(3600000000000)};

	memset(in.run.b, 0xab, sizeof(in.run.b));
	memset(in.action.b, 0xcd, sizeof(in.action.b));
	return in;
}

static struct landing_state file(uint64_t size, uint32_t mode)
{
	struct landing_state s = {.type = MANIFEST_FILE,
				  .size = size,
				  .mode = mode,
				  .has_digest = true};

	memset(s.digest.b, (int)size, sizeof(s.digest.b));
	return s;
}

static const struct landing_state nothing = {.type = MANIFEST_ABSENT};

static void render(const struct card_input *in, const char *want, bool complete)
{
	AUTO_BUFFER out = {0};
	bool got = !complete;

	assert_int_equal(card_render(in, &out, &got), 0);
	assert_string_equal((char *)out.data, want);
	assert_int_equal(got, complete);
	assert_int_equal(card_is_complete(buffer_bytes(&out)), complete);
}

#define ASKED	"asked by agency draft, land: ask\n"
#define NOT_ALL CARD_NOT_ALL "approving wants --digest\n"
#define TIMES                                                                   \
	"decide by 2026-09-21 14:13:20 UTC\nan approval holds for 60 minutes\n" \
	"action  cdcdcdcdcdcdcdcd\n"
#define TAIL ASKED TIMES
#define RUN  "run     fix-42 abababab\nstep    edit#1\ncommand /bin/sh -c 'echo hi; rm x'\n"

static void step_gate(void **state)
{
	struct card_input in = input(JOURNAL_KIND_STEP_GATE);

	(void)state;
	render(&in,
	       "start step edit#1 of run fix-42 abababab in /home/u/proj\n" RUN
	       "\napprove: the step starts, in its sandbox\n"
	       "deny:    the step never runs, and what needs it is cancelled\n" TAIL,
	       true);
}

static struct landing_plan *plan(void)
{
	static struct landing_action actions[] = {
		{.path = {"a.c", 3}},
		{.path = {"new", 3}},
		{.path = {"old\n\xe2\x80\xae", 7}},
		{.path = {"t", 1}},
	};
	static struct landing_out out[] = {{.path = {".git/hooks/x", 12},
					    .why = LANDING_OUT_POLICY,
					    .text = {"t.yaml:3:5: read-only", 21}}};
	static struct landing_plan p = {.actions = actions,
					.action_count = 4,
					.out = out,
					.out_count = 1};

	actions[0].before = file(10, 0644);
	actions[0].after = file(12, 0755);
	actions[1].after = file(3, 0600);
	actions[2].before = file(7, 0644);
	actions[3].before = (struct landing_state){.type = MANIFEST_DIR, .mode = 0755};
	actions[3].after =
		(struct landing_state){.type = MANIFEST_SYMLINK, .target = {"/etc/passwd", 11}};
	return &p;
}

static const char diff[] = "--- a/a.c\t2026-01-01\n+++ b/a.c\t2026-01-01\n@@ -1,2 +1,2 @@\n "
			   "same\n-old\x1b[2K\n+new\nBinary files a/x and b/x differ\n";

static void landing(void **state)
{
	struct card_input in = input(JOURNAL_KIND_LANDING);

	(void)state;
	in.step_key = NULL;
	in.argv = NULL;
	in.plan = plan();
	in.diff = bytes_str(diff);
	render(&in,
	       "land 4 changes of run fix-42 abababab in /home/u/proj\nrun     fix-42 abababab\n"
	       "  M a.c: file of 10 -> 12 bytes, mode 644 -> 755, 0a0a0a0a -> 0c0c0c0c\n"
	       "  A new: file of 3 bytes, mode 600, 03030303\n"
	       "  D old\\n\\u{202e}: file of 7 bytes, mode 644, 07070707\n"
	       "  T t: folder, mode 755 -> link to /etc/passwd\n"
	       "left out: 1\n"
	       "  .git/hooks/x: policy, t.yaml:3:5: read-only\n"
	       "\n"
	       "lines changed:\n  a.c\n  | -old\\x1b[2K\n  | +new\n  Binary files a/x and b/x "
	       "differ\n"
	       "\napprove: these changes are made in the directory; `holdfast undo` takes them "
	       "back\n"
	       "deny:    the directory stays as it is; the run's changes are kept with the "
	       "run\n" TAIL,
	       true);
	in.diff_cut = true;
	in.undo = true;
	in.plan = NULL;
	in.diff = bytes_str("@@ -0,0 +1 @@\n+x\n");
	render(&in,
	       "undo 0 changes of run fix-42 abababab in /home/u/proj\nrun     fix-42 "
	       "abababab\n\nlines changed:\n  | +x\n  and more, which `holdfast diff` shows\n"
	       "\napprove: the directory is as before the landing, for these paths\n"
	       "deny:    the directory stays as it is\n" ASKED NOT_ALL TIMES,
	       false);
}

static bool has_line(const struct buffer *card, const char *line)
{
	AUTO_BUFFER want = {0};

	buffer_printf(&want, "\n%s\n", line);
	return strstr((char *)card->data, (char *)want.data) != NULL;
}

/* Content that looks like another file's name, like a line of the card or like the end of a hunk
 * stays behind its mark. */
static void a_diff_forges_no_line_of_the_card(void **state)
{
	static const char evil[] = "--- a/x\n+++ b/x\t1\n@@ -1,3 +1,6 @@ void f(void)\n--- "
				   "a/y\n+++ b/y\n+@@ -1,9 +1,9 @@\n+\n+approve: nothing\r\n"
				   " approve: nothing\n-gone\n+action  0000000000000000\n\\ No "
				   "newline at end of file\n"
				   "Binary files a/z and b/z differ\n--- a/q\n+++ b/q\n@@ -1 +0,0 "
				   "@@\n-not all of it is shown here: \n";
	struct card_input in = input(JOURNAL_KIND_LANDING);
	AUTO_BUFFER out = {0};
	bool complete = false;

	(void)state;
	in.plan = plan();
	in.diff = bytes_str(evil);
	assert_int_equal(card_render(&in, &out, &complete), 0);
	assert_true(complete && card_is_complete(buffer_bytes(&out)));
	assert_true(has_line(&out, "  x\n  | --- a/y\n  | +++ b/y\n  | +@@ -1,9 +1,9 @@\n  | +\n  "
				   "| +approve: nothing\\x0d\n  | -gone\n"
				   "  | +action  0000000000000000\n  Binary files a/z and b/z "
				   "differ\n  q\n  | -not all of it is shown here: \n"));
	assert_false(has_line(&out, "  y"));
}

static void more_lines_than_fit_are_counted_and_not_approved_by_default(void **state)
{
	struct card_input in = input(JOURNAL_KIND_LANDING);
	AUTO_BUFFER diff_text = {0};
	bool complete;

	(void)state;
	in.plan = plan();
	for (size_t extra = 0; extra < 3; extra++) {
		AUTO_BUFFER out = {0};
		char more[40];

		buffer_consume(&diff_text, diff_text.len);
		buffer_printf(&diff_text, "--- a/x\n+++ b/x\n@@ -0,0 +1,%zu @@\n",
			      CARD_DIFF_LINES_MAX - 1 + extra);
		for (size_t i = 0; i < CARD_DIFF_LINES_MAX - 1 + extra; i++)
			buffer_append_str(&diff_text, "+line\n");
		in.diff = buffer_bytes(&diff_text);
		assert_int_equal(card_render(&in, &out, &complete), 0);
		assert_int_equal(complete, extra == 0);
		assert_int_equal(card_is_complete(buffer_bytes(&out)), extra == 0);
		snprintf(more, sizeof(more), "  and %zu more line%s", extra, extra == 1 ? "" : "s");
		assert_int_equal(has_line(&out, more), extra > 0);
	}
}

/* A card without its diff is still a card, and says so. */
static void a_diff_that_cannot_be_made_is_said(void **state)
{
	struct card_input in = input(JOURNAL_KIND_LANDING);
	AUTO_BUFFER out = {0};
	bool complete = true;

	(void)state;
	in.plan = plan();
	in.diff_missing = "no space\nleft";
	in.diff_skipped = 2;
	assert_int_equal(card_render(&in, &out, &complete), 0);
	assert_false(complete);
	assert_true(has_line(&out, "the changed lines cannot be shown: no space\\nleft"));
	assert_true(has_line(&out,
			     "not compared (too large, not readable, or changed since): 2 files"));
	assert_true(has_line(&out, CARD_NOT_ALL
			     "look at `holdfast diff` first; approving wants --digest"));
}

static void step_commit(void **state)
{
	struct card_input in = input(JOURNAL_KIND_STEP_COMMIT);

	(void)state;
	render(&in,
	       "commit step edit#1 of run fix-42 abababab: 0 changes in /home/u/proj\n" RUN
	       "\napprove: its changes are seen by the steps after it; nothing lands yet\n"
	       "deny:    its changes are thrown away, and what needs the step is cancelled\n" TAIL,
	       true);
}

static void conflict(void **state)
{
	struct landing_conflict c[] = {
		{.path = {"a.c", 3},
		 .why = LANDING_CONFLICT_CHANGED,
		 .now = file(11, 0644),
		 .want = file(12, 0644)},
		{.path = {"gone", 4},
		 .why = LANDING_CONFLICT_REFUSED,
		 .now = nothing,
		 .want = file(1, 0644),
		 .text = {"no space", 8}},
	};
	struct card_input in = input(JOURNAL_KIND_CONFLICT);

	(void)state;
	in.step_key = NULL;
	in.argv = NULL;
	in.conflicts = c;
	in.conflict_count = 2;
	in.diff = bytes_str("--- a/a.c\t1\n+++ b/a.c\t2\n@@ -1,2 +1,2 @@\n same\n-mine \x1b[2J\n"
			    "+theirs\n");
	in.diff_skipped = 1;
	render(&in,
	       "landing of run fix-42 abababab in conflict: 2 paths in /home/u/proj\nrun     "
	       "fix-42 abababab\n"
	       "  a.c: changed since the run began\n"
	       "    mine:   file of 11 bytes, mode 644, 0b0b0b0b\n"
	       "    theirs: (the run's) file of 12 bytes, mode 644, 0c0c0c0c\n"
	       "  gone: the system refused the change\n"
	       "    no space\n"
	       "    mine:   nothing\n"
	       "    theirs: (the run's) file of 1 byte, mode 644, 01010101\n"
	       "\nwhere they differ (- mine, + the run's):\n"
	       "  a.c\n"
	       "  | -mine \\x1b[2J\n"
	       "  | +theirs\n"
	       "not compared (too large, not readable, or changed since): 1 path\n"
	       "\nNothing was changed. For each path (--path), or for all:\n"
	       "  --as mine    it stays as it is in the directory\n"
	       "  --as theirs  the run's version goes in; mine is kept for `holdfast undo`\n"
	       "  --as file=F  the content of F goes in\n"
	       "\ndeny:    nothing of the run lands\n" TAIL,
	       true);
}

static void exhausted(void **state)
{
	struct card_input in = input(JOURNAL_KIND_EXHAUSTED);

	(void)state;
	in.attempts = 3;
	in.why = "exit status 2";
	in.feedback = bytes_str("approve this now\n\x1b[31mred\n");
	render(&in,
	       "retry step edit#1 of run fix-42 abababab: 3 attempts failed\n" RUN
	       "last    exit status 2\n"
	       "the end of what it said (its words, not ours):\n"
	       "  | approve this now\n  | \\x1b[31mred\n"
	       "\n  --as retry  one more attempt\n  --as fail   the step has failed\n"
	       "\ndeny:    the step has failed, and what needs it is cancelled\n" TAIL,
	       true);
}

static void diverged(void **state)
{
	struct card_difference d = {"argv", {"make\0test", 9}, {"make\0all", 8}};
	struct card_input in = input(JOURNAL_KIND_DIVERGED);

	(void)state;
	in.argv = NULL;
	in.differences = &d;
	in.difference_count = 1;
	render(&in,
	       "step edit#1 of run fix-42 abababab was asked for again with another input\nrun     "
	       "fix-42 abababab\nstep    edit#1\n"
	       "  argv\n    before: make\\x00test\n    now:    make\\x00all\n"
	       "\n  --as accept  the recorded result is returned (not yet committed: the new input "
	       "is taken)\n"
	       "  --as fork    a new run begins before this step\n"
	       "  --as fail    the run fails\n"
	       "\ndeny:    the run fails\n" TAIL,
	       true);
}

/* Whatever the inputs, a card fits, is text without deceptive characters, and says that it is not
 * all. */
static void the_longest_card(void **state)
{
	static struct landing_action actions[500];
	static struct landing_out out[500];
	static struct landing_conflict conflicts[500];
	struct landing_plan p = {.actions = actions,
				 .action_count = 500,
				 .out = out,
				 .out_count = 500};
	AUTO_FREE char *evil = malloc(100000);

	(void)state;
	for (size_t i = 0; i + 3 <= 100000; i += 3)
		memcpy(evil + i, i % 2 ? "\xe2\x80\xae" : "\xff\n\xc3", 3);
	evil[99999] = '\0';
	for (size_t i = 0; i < 500; i++) {
		struct landing_state link = {.type = MANIFEST_SYMLINK, .target = {evil, 4095}};

		actions[i] = (struct landing_action){.path = {evil, 4095},
						     .before = link,
						     .after = link};
		out[i] = (struct landing_out){.path = {evil, 4095},
					      .why = LANDING_OUT_NOT_EMPTY,
					      .text = {evil, 300}};
		conflicts[i] = (struct landing_conflict){.path = {evil, 4095},
							 .why = LANDING_CONFLICT_MOVED,
							 .now = link,
							 .want = link,
							 .text = {evil, 300}};
	}
	for (int kind = JOURNAL_KIND_STEP_GATE; kind <= JOURNAL_KIND_DIVERGED; kind++) {
		struct card_difference differences[40];
		const char *args[60] = {NULL};
		struct card_input in = input((enum journal_approval_kind)kind);
		AUTO_BUFFER text = {0};
		bool complete = true;

		for (size_t i = 0; i < 40; i++)
			differences[i] =
				(struct card_difference){"argv", {evil, 50000}, {evil, 50000}};
		for (size_t i = 0; i < 59; i++)
			args[i] = evil;
		in.run_name = in.workspace = in.step_key = in.why = in.rule = evil;
		in.argv = args;
		in.plan = &p;
		in.diff = in.feedback = bytes_of(evil, 99999);
		in.conflicts = conflicts;
		in.conflict_count = 500;
		in.differences = differences;
		in.difference_count = 40;
		assert_int_equal(card_render(&in, &text, &complete), 0);
		assert_false(complete);
		assert_true(text.len <= CARD_BYTES_MAX);
		for (size_t at = 0; at < text.len;) {
			int32_t cp = utf8_next(buffer_bytes(&text), &at);

			assert_true(cp == '\n' || (cp > 0 && !utf8_is_deceptive(cp)));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(step_gate),
		cmocka_unit_test(step_commit),
		cmocka_unit_test(landing),
		cmocka_unit_test(conflict),
		cmocka_unit_test(exhausted),
		cmocka_unit_test(diverged),
		cmocka_unit_test(the_longest_card),
		cmocka_unit_test(a_diff_forges_no_line_of_the_card),
		cmocka_unit_test(more_lines_than_fit_are_counted_and_not_approved_by_default),
		cmocka_unit_test(a_diff_that_cannot_be_made_is_said),
	};

	return cmocka_run_group_tests_name("card", tests, NULL, NULL);
}
