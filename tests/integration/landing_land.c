/* Landing what steps did, while the user works in the same directory: what lands, what does not,
 * and that undo takes it back. */
#include "tests/integration/landing_ns.h"

/* outcome: "landed", "nothing", or "plan:" or "apply:" and the conflicts, one a line. */
static const struct land_case {
	const char *rule;
	const char *base;
	const char *step;
	const char *step2;
	const char *before_seal; /* the user's work, here and below */
	const char *after_seal;
	const char *before_apply;
	const char *outcome;
	const char *tree; /* afterwards; NULL = as before the landing */
	bool unreadable; /* by its owner: he cannot undo it */
} cases[] = {
	{"a new file", ":", "echo x > f; chmod 640 f", .outcome = "landed",
	 .tree = "f f 640 x\\n\n"},
	{"an edited file keeps the layer's mode", "echo a > f; chmod 755 f", "echo b >> f",
	 .outcome = "landed", .tree = "f f 755 a\\nb\\n\n"},
	{"a deleted file", "echo a > f; echo b > g", "rm f", .outcome = "landed",
	 .tree = "f g 644 b\\n\n"},
	{"a mode alone", "echo a > f; mkdir d", "chmod 600 f; chmod 750 d", .outcome = "landed",
	 .tree = "d d 750\nf f 600 a\\n\n"},
	{"folders and links", ":", "mkdir -p d/e; echo x > d/e/f; ln -s ../nowhere d/l",
	 .outcome = "landed", .tree = "d d 755\nd d/e 755\nf d/e/f 644 x\\n\nl d/l ../nowhere\n"},
	{"a link's target", "ln -s a l", "ln -sf b l", .outcome = "landed", .tree = "l l b\n"},
	{"a folder deleted with all below", "mkdir -p d/e; echo a > d/e/f; echo b > d/g", "rm -r d",
	 .outcome = "landed", .tree = ""},
	{"a file in a folder's place", "mkdir -p d/e; echo a > d/e/f", "rm -r d; echo x > d",
	 .outcome = "landed", .tree = "f d 644 x\\n\n"},
	{"a folder in a file's place", "echo a > f", "rm f; mkdir -p f/g; echo x > f/g/h",
	 .outcome = "landed", .tree = "d f 755\nd f/g 755\nf f/g/h 644 x\\n\n"},
	{"a link in a folder's place, and the reverse", "mkdir d; echo a > d/f; ln -s d l",
	 "rm -r d l; ln -s l d; mkdir l; echo x > l/g", .outcome = "landed",
	 .tree = "l d l\nd l 755\nf l/g 644 x\\n\n"},
	{"a moved folder", "mkdir -p d/e; echo a > d/e/f", "mv d x", .outcome = "landed",
	 .tree = "d x 755\nd x/e 755\nf x/e/f 644 a\\n\n"},
	{"folders that are read-only in the end", ":",
	 "mkdir -p d/e; echo x > d/e/f; chmod 500 d/e d", .outcome = "landed",
	 .tree = "d d 500\nd d/e 500\nf d/e/f 644 x\\n\n"},
	{"into a folder that was read-only and is again", "mkdir d; echo a > d/f; chmod 555 d",
	 "chmod 755 d; echo b > d/f; chmod 511 d", .outcome = "landed",
	 .tree = "d d 511\nf d/f 644 b\\n\n"},
	{"files that their own mode hides", ":", "echo x > f; chmod 000 f", .outcome = "landed",
	 .tree = "f f 0 x\\n\n", .unreadable = true},
	{"names with newlines, dashes and bytes that are no UTF-8",
	 "n=$(printf 'a\\nb'); echo a > \"$n\"",
	 "n=$(printf 'a\\nb'); echo b > \"$n\"; b=$(printf '\\377'); echo c > \"$b\"; echo d > "
	 "'-rf *'",
	 .outcome = "landed", .tree = "f -rf * 644 d\\n\nf a\\nb 644 b\\n\nf \\xff 644 c\\n\n"},
	{"names that differ by case", "echo a > f",
	 "echo b > F; mkdir D d; echo x > D/f; echo y > d/f", .outcome = "landed",
	 .tree = "d D 755\nf D/f 644 x\\n\nf F 644 b\\n\nd d 755\nf d/f 644 y\\n\nf f 644 a\\n\n"},
	{"two steps, the net of both", "echo a > f; echo b > g", "echo 1 > f; echo new > n; rm g",
	 "rm n; echo 2 > f; echo again > g", .outcome = "landed",
	 .tree = "f f 644 2\\n\nf g 644 again\\n\n"},
	{"nothing of what was made and removed", "echo a > f", "echo n > n", "rm n",
	 .outcome = "nothing"},
	{"a file written with what it held", "echo a > f", "echo a > f", .outcome = "nothing"},
	{"setuid bits stay behind, the file does not", ":",
	 "echo x > f; chmod 4755 f; mkdir d; chmod 2755 d", .outcome = "landed",
	 .tree = "d d 755\nf f 755 x\\n\n"},
	{"devices, sockets and pipes stay behind", ":",
	 "mkfifo p; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'; echo x "
	 "> f",
	 .outcome = "landed", .tree = "f f 644 x\\n\n"},
	{"names that landing uses itself", ":", "echo x > .holdfast-land-00; mkdir d; echo y > d/f",
	 .outcome = "landed", .tree = "d d 755\nf d/f 644 y\\n\n"},

	{"the user's edits elsewhere are not touched", "echo a > f; echo b > g; mkdir d",
	 "echo x > f", .before_seal = "echo mine >> g; echo new > d/n", .outcome = "landed",
	 .tree = "d d 755\nf d/n 644 new\\n\nf f 644 x\\n\nf g 644 b\\nmine\\n\n"},
	{"edited before sealing", "echo a > f", "echo x > f", .before_seal = "echo mine > f",
	 .outcome = "plan:f: changed since the run began\n"},
	{"edited after sealing", "echo a > f; echo b > g", "echo x > f; echo y > g",
	 .after_seal = "echo mine > f", .outcome = "plan:f: changed since the run began\n"},
	{"replaced by an older file after sealing", "echo a > f; echo old > o", "echo x > f",
	 .after_seal = "mv o f", .outcome = "plan:f: changed since the run began\n"},
	{"written again with what it held", "echo a > f; echo b > g", "echo x > f; rm g",
	 .after_seal = "echo a > f; cp g h; mv h g", .outcome = "landed", .tree = "f f 644 x\\n\n"},
	{"written again with what it held before sealing, which the run may have missed",
	 "echo a > f", "echo x > f", .before_seal = "echo b > f; echo a > f",
	 .outcome = "plan:f: changed since the run began\n"},
	{"another mode and back, which was no writing", "echo a > f", "echo x > f",
	 .after_seal = "chmod 600 f; chmod 644 f",
	 .outcome = "plan:f: changed since the run began\n"},
	{"written again, and another name given to it", "echo a > f", "echo x > f",
	 .after_seal = "echo a > f; ln f g", .outcome = "plan:f: changed since the run began\n"},
	{"removed by the user", "echo a > f", "echo x > f", .after_seal = "rm f",
	 .outcome = "plan:f: removed since the run saw it\n"},
	{"removed before sealing, after it was copied up", "echo a > f", "echo x > f",
	 .before_seal = "rm f", .outcome = "plan:f: removed since the run saw it\n"},
	{"a folder moved away before sealing, after a file in it was copied up",
	 "mkdir d; echo a > d/f", "echo x > d/f", .before_seal = "mv d e",
	 .outcome = "plan:d/f: a folder above it is gone\n"},
	{"removed before sealing, where the run had put another file in its place", "echo a > f",
	 "echo x > g; mv g f", .before_seal = "rm f", .outcome = "landed",
	 .tree = "f f 644 x\\n\n"},
	{"renamed by the run, and the user's names beside it", "echo a > f; echo b > h",
	 "mv f g; echo x >> h", .before_seal = "echo mine > n", .outcome = "landed",
	 .tree = "f g 644 a\\n\nf h 644 b\\nx\\n\nf n 644 mine\\n\n"},
	{"renamed and edited by the run", "mkdir d; echo a > d/f", "mv d/f d/g; echo x >> d/g",
	 .before_seal = "echo mine > n", .outcome = "landed",
	 .tree = "d d 755\nf d/g 644 a\\nx\\n\nf n 644 mine\\n\n"},
	{"made by both", ":", "echo x > f", .after_seal = "echo mine > f",
	 .outcome = "plan:f: made since the run looked\n"},
	{"made by both before sealing", ":", "echo x > f", .before_seal = "echo mine > f",
	 .outcome = "plan:f: changed since the run began\n"},
	{"made by both with the same content", ":", "echo x > f; echo y > g",
	 .after_seal = "echo x > f", .outcome = "landed", .tree = "f f 644 x\\n\nf g 644 y\\n\n"},
	{"a folder made by both is one folder", ":", "mkdir d; echo x > d/f",
	 .after_seal = "mkdir d; echo mine > d/g", .outcome = "landed",
	 .tree = "d d 755\nf d/f 644 x\\n\nf d/g 644 mine\\n\n"},
	{"deleted by the run, edited by the user", "echo a > f", "rm f",
	 .after_seal = "echo mine > f", .outcome = "plan:f: changed since the run began\n"},
	{"deleted by both", "echo a > f; echo b > g", "rm f; echo x > g", .after_seal = "rm f",
	 .outcome = "landed", .tree = "f g 644 x\\n\n"},
	{"a new file in a folder that the run deletes", "mkdir d; echo a > d/f", "rm -r d",
	 .after_seal = "echo mine > d/g",
	 .outcome = "plan:d: changed since the run began\nd/g: made since the run looked\n"},
	{"a folder moved away", "mkdir d; echo a > d/f", "echo x > d/f; echo n > d/n",
	 .after_seal = "mv d e",
	 .outcome = "plan:d/f: a folder above it is gone\nd/n: a folder above it is gone\n"},
	{"another folder moved in its place", "mkdir d e; echo a > d/f; echo a > e/f",
	 "echo n > d/n", .after_seal = "mv d d.old; mv e d",
	 .outcome = "plan:d/n: a folder above it was moved here, or given another mode or owner\n"},
	{"a folder replaced by a link out of the workspace", "mkdir d; echo a > d/f",
	 "echo n > d/n", .after_seal = "mv d e; ln -s /tmp d",
	 .outcome = "plan:d: the folder is not there any more\n"},
	{"the user's mode of a folder, set before sealing", "mkdir d; echo a > d/f", "echo n > d/n",
	 .before_seal = "chmod 711 d",
	 .outcome = "plan:d: changed since the run began\n"
		    "d/n: a folder above it was moved here, or given another mode or owner\n"},
	{"the user's mode of a folder", "mkdir d", "chmod 700 d", .after_seal = "chmod 711 d",
	 .outcome = "plan:d: not what the run saw\n"},

	{"edited between plan and landing", "echo a > f; echo b > g",
	 "echo x > f; echo y > g; echo n > n", .before_apply = "echo mine > g",
	 .outcome = "apply:g: changed in the meantime\n"},
	{"made between plan and landing", "echo a > f", "echo x > f; echo n > n",
	 .before_apply = "echo mine > n", .outcome = "apply:n: changed in the meantime\n"},
	{"removed between plan and landing", "echo a > f; echo b > g", "echo x > f; echo y > g",
	 .before_apply = "rm f", .outcome = "apply:f: changed in the meantime\n"},
	{"a folder moved away between plan and landing", "mkdir d; echo a > d/f; echo b > g",
	 "echo x > d/f; echo y > g; rm -f d/none", .before_apply = "mv d e",
	 .outcome = "apply:d/f: a folder above it is gone\n"},
	{"a folder replaced by a link between plan and landing",
	 "mkdir d; echo a > d/f; echo b > g", "echo x > d/f; echo y > g",
	 .before_apply = "mv d e; ln -s e d",
	 .outcome = "apply:d: the folder is not there any more\n"},
	{"a file made in a folder to be removed", "mkdir d; echo a > d/f; echo b > g",
	 "rm -r d; echo y > g", .before_apply = "echo mine > d/n",
	 .outcome = "apply:d: holds files that the run knows nothing of\n"
		    "d/n: made since the run looked\n"},
	{"a file made in a folder to be replaced", "mkdir d; echo a > d/f; echo b > g",
	 "rm -r d; echo x > d; echo y > g", .before_apply = "echo mine > d/n",
	 .outcome = "apply:d: holds files that the run knows nothing of\n"
		    "d/n: made since the run looked\n"},
	{"the mode of a file between plan and landing", "echo a > f; echo b > g",
	 "echo x > f; echo y > g", .before_apply = "chmod 600 f",
	 .outcome = "apply:f: changed in the meantime\n"},
	{"edited and back, which nobody can tell", "echo a > f", "echo x > f",
	 .before_apply = "echo b > f; echo a > f", .outcome = "landed", .tree = "f f 644 x\\n\n"},
};

static void check_text(const char *rule, const char *what, const char *got, const char *want)
{
	if (strcmp(got, want) != 0)
		fail_msg("%s: %s:\n%s-- but not\n%s", rule, what, got, want);
}

static void run_case(const struct land_case *c)
{
	struct landing_ns n;
	struct landing_outcome o = {0};
	AUTO_BUFFER got = {0};
	AUTO_FREE char *before = NULL;
	AUTO_FREE char *after = NULL;

	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, c->base);
	landing_ns_step(&n, c->step, c->before_seal);
	if (c->step2)
		landing_ns_step(&n, c->step2, NULL);
	landing_ns_user(&n, c->after_seal);
	landing_ns_prepare(&n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	landing_ns_user(&n, c->before_apply);
	before = landing_ns_list(&n);
	if (n.prepared.conflicts.len > 0) {
		buffer_append_str(&got, "plan:");
		landing_ns_conflicts(buffer_bytes(&n.prepared.conflicts), &got);
	} else if (n.prepared.nothing) {
		buffer_append_str(&got, "nothing");
	} else if (landing_ns_apply(&n, false, false, &o) == LANDING_APPLIED) {
		buffer_append_str(&got, "landed");
		assert_false(n.unsynced); /* what was displaced is gone, so its blob must last */
	} else {
		buffer_append_str(&got, "apply:");
		landing_ns_conflicts(buffer_bytes(&o.conflicts), &got);
	}
	check_text(c->rule, "the outcome is", (char *)got.data, c->outcome);
	after = landing_ns_list(&n);
	check_text(c->rule, "the directory has", after, c->tree ? c->tree : before);
	landing_ns_no_leftovers(&n, c->rule);
	landing_outcome_free(&o);
	if (strcmp(c->outcome, "landed") == 0) {
		AUTO_FREE char *undone = NULL;

		/* Again: nothing more happens. Then all of it is taken back. */
		assert_int_equal(landing_ns_apply(&n, false, true, &o), LANDING_APPLIED);
		landing_outcome_free(&o);
		if (landing_ns_apply(&n, true, false, &o) != (c->unreadable && geteuid() != 0)) {
			landing_ns_conflicts(buffer_bytes(&o.conflicts), &got);
			fail_msg("%s: not undone: %s", c->rule, (char *)got.data);
		}
		landing_outcome_free(&o);
		undone = landing_ns_list(&n);
		check_text(c->rule, "undone, the directory has", undone,
			   c->unreadable && geteuid() != 0 ? after : before);
	}
	landing_ns_close(&n);
}

static const struct landing_conflict *only_conflict(const struct landing_plan *p)
{
	assert_int_equal(p->conflict_count, 1);
	return &p->conflicts[0];
}

static bool says(const struct landing_conflict *c, const char *text)
{
	return memmem(c->text.data, c->text.len, text, strlen(text)) != NULL;
}

/* An answer is bound to what was shown, so what may not be changed is shown as it is: with it the
 * answer holds once the change may be made. Root may do all of it. */
static void what_may_not_be_written_is_shown_as_it_is(void **state)
{
	static const struct landing_choice theirs = {.path = {.data = "", .len = 0},
						     .kind = LANDING_CHOICE_THEIRS};
	AUTO(landing_plan_free) struct landing_plan *met = NULL;
	struct landing_outcome o = {0};
	struct error err = {0};
	struct landing_ns n;
	int r;

	(void)state;
	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, "mkdir d; echo a > d/f");
	landing_ns_step(&n, "echo x > d/f", NULL);
	landing_ns_prepare(&n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	landing_ns_user(&n, "chmod 555 d");
	r = landing_ns_apply(&n, false, false, &o);
	landing_ns_user(&n, "chmod 755 d; touch d/t; rm d/t");
	if (geteuid() == 0) {
		assert_int_equal(r, LANDING_APPLIED);
	} else {
		assert_int_equal(r, LANDING_CONFLICT);
		assert_int_equal(landing_conflicts_decode(buffer_bytes(&o.conflicts), &met, &err),
				 0);
		assert_int_equal(only_conflict(met)->why, LANDING_CONFLICT_REFUSED);
		assert_int_equal(only_conflict(met)->now.type, MANIFEST_FILE);
		assert_true(only_conflict(met)->now.has_digest);
		assert_true(says(only_conflict(met), "make it writable"));
		landing_ns_expect(&n, "refused", "d d 755\nf d/f 644 a\\n\n");
		landing_ns_prepare(&n, buffer_bytes(&o.conflicts), (struct bytes){0}, &theirs, 1);
		assert_int_equal(n.prepared.conflicts.len, 0);
		landing_outcome_free(&o);
		assert_int_equal(landing_ns_apply(&n, false, false, &o), LANDING_APPLIED);
	}
	landing_ns_expect(&n, "landed", "d d 755\nf d/f 644 x\\n\n");
	landing_outcome_free(&o);
	landing_ns_close(&n);
}

/* Below a folder that may not be passed nothing is said to be gone, or to be nothing: neither when
 * planning nor when landing. */
static void what_may_not_be_looked_at_is_not_called_nothing(void **state)
{
	AUTO(landing_plan_free) struct landing_plan *met = NULL;
	struct landing_outcome o = {0};
	struct error err = {0};
	struct landing_ns n;

	(void)state;
	if (geteuid() == 0)
		return; /* root may look at all of it */
	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, "mkdir -p d/e; echo a > d/e/f");
	landing_ns_step(&n, "echo x > d/e/f", NULL);
	landing_ns_prepare(&n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	landing_ns_user(&n, "chmod 600 d/e");
	assert_int_equal(landing_ns_apply(&n, false, false, &o), LANDING_CONFLICT);
	assert_int_equal(landing_conflicts_decode(buffer_bytes(&o.conflicts), &met, &err), 0);
	assert_int_equal(only_conflict(met)->why, LANDING_CONFLICT_REFUSED);
	assert_true(only_conflict(met)->now.unseen);
	landing_ns_user(&n, "chmod 755 d/e; chmod 0 d");
	landing_ns_prepare(&n, (struct bytes){0}, (struct bytes){0}, NULL, 0);
	assert_int_equal(only_conflict(n.prepared.plan)->why, LANDING_CONFLICT_REFUSED);
	assert_true(only_conflict(n.prepared.plan)->now.unseen);
	assert_true(says(only_conflict(n.prepared.plan), "make it accessible"));
	landing_ns_user(&n, "chmod 755 d");
	landing_ns_expect(&n, "refused", "d d 755\nd d/e 755\nf d/e/f 644 a\\n\n");
	landing_outcome_free(&o);
	landing_ns_close(&n);
}

static void what_lands_and_what_conflicts(void **state)
{
	const char *only = getenv("LANDING_CASE");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (!only || strstr(cases[i].rule, only))
			run_case(&cases[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_lands_and_what_conflicts),
		cmocka_unit_test(what_may_not_be_written_is_shown_as_it_is),
		cmocka_unit_test(what_may_not_be_looked_at_is_not_called_nothing),
	};

	return cmocka_run_group_tests_name("landing", tests, NULL, NULL);
}
