/* Every answer to every kind of conflict: carried out as the card says, asked once, and taken back
 * byte for byte by undoing. */
#include "tests/integration/landing_ns.h"

static void keep_file(struct landing_ns *n, const char *content, struct landing_choice *ret)
{
	char hex[DIGEST_HEX_SIZE];

	digest_of(bytes_str(content), &ret->file);
	ret->file_size = strlen(content);
	assert_int_equal(io_write_file_atomic_at(n->blobs, digest_hex(&ret->file, hex),
						 bytes_str(content), 0600),
			 0);
}

static struct buffer copy_of(const struct buffer *b)
{
	struct buffer out = {.max = LANDING_BYTES_MAX};

	assert_int_equal(buffer_append(&out, b->data, b->len), 0);
	return out;
}

/* ---- answers, until it lands ---- */

enum { ROUNDS_MAX = 3 };

static const char *const choice_names[] = {"", "mine", "theirs", "file"};

/* What a person did, and what the directory has after each answer. */
struct choice_case {
	const char *rule;
	const char *base, *step, *user;
	const char *card; /* the first conflict of the first card, as far as this goes; NULL: as it
			     may be */
	const char *file; /* the path that a person's own content is for; the others are theirs */
	const char *mine, *theirs, *merged;
};

static const char *wanted(const struct choice_case *c, enum landing_choice_kind kind)
{
	switch (kind) {
	case LANDING_CHOICE_MINE:
		return c->mine;
	case LANDING_CHOICE_THEIRS:
		return c->theirs;
	case LANDING_CHOICE_FILE:
		return c->merged;
	}
	return NULL;
}

struct answering { /* as the daemon has it: what was answered once holds while the path is as shown
		    */
	struct landing_ns *n;
	enum landing_choice_kind kind;
	const char
		*file; /* FILE: the path that the person's content is for; the others are theirs */
	struct landing_plan *lists[ROUNDS_MAX];
	size_t list_count;
	struct landing_choice choices[2];
	struct landing_outcome o;
};

static int by_conflict_path(const void *a, const void *b)
{
	return bytes_compare(((const struct landing_conflict *)a)->path,
			     ((const struct landing_conflict *)b)->path);
}

static void shown_so_far(struct answering *a, struct buffer *out)
{
	struct landing_conflict all[64];
	size_t count = 0;

	for (size_t i = a->list_count; i-- > 0;) {
		const struct landing_plan *p = a->lists[i];

		for (size_t k = 0; k < p->conflict_count; k++) {
			bool later = false;

			for (size_t j = 0; j < count; j++)
				later = later || bytes_equal(all[j].path, p->conflicts[k].path);
			assert_true(count < ARRAY_SIZE(all));
			if (!later)
				all[count++] = p->conflicts[k];
		}
	}
	if (count == 0)
		return;
	qsort(all, count, sizeof(all[0]), by_conflict_path);
	assert_int_equal(landing_conflicts_encode(all, count, a->lists[0]->undo, out), 0);
}

static void show(struct answering *a, const struct buffer *conflicts, const char *rule)
{
	struct error err = {0};

	if (a->list_count == ROUNDS_MAX) {
		AUTO_BUFFER text = {0};

		landing_ns_conflicts(buffer_bytes(conflicts), &text);
		fail_msg("%s: asked again and again:\n%s", rule, (char *)text.data);
	}
	if (landing_conflicts_decode(buffer_bytes(conflicts), &a->lists[a->list_count], &err) < 0)
		fail_msg("%s", err.msg);
	a->list_count++;
}

static size_t choose(struct answering *a)
{
	struct landing_choice *c = a->choices;

	if (a->list_count == 0)
		return 0;
	if (a->kind != LANDING_CHOICE_FILE) {
		c[0] = (struct landing_choice){.kind = a->kind};
		return 1;
	}
	c[0] = (struct landing_choice){.path = bytes_str(a->file), .kind = LANDING_CHOICE_FILE};
	keep_file(a->n, "merged\n", &c[0]);
	c[1] = (struct landing_choice){.kind = LANDING_CHOICE_THEIRS};
	return 2;
}

/* Lands, answering whatever is asked. late: what the user does comes after the first plan. False:
 * there was nothing to land. */
static bool land_answered(struct answering *a, const char *user, bool late, const char *rule,
			  char **ret_before)
{
	struct landing_ns *n = a->n;

	if (!late)
		landing_ns_user(n, user);
	for (bool first = true;; first = false) {
		AUTO_BUFFER shown = {0};
		AUTO_BUFFER last = copy_of(&n->prepared.redo);

		shown_so_far(a, &shown);
		landing_ns_prepare(n, buffer_bytes(&shown), buffer_bytes(&last), a->choices,
				   choose(a));
		if (first && late)
			landing_ns_user(n, user);
		if (first)
			*ret_before = landing_ns_list(n);
		if (n->prepared.conflicts.len > 0) {
			show(a, &n->prepared.conflicts, rule);
			continue;
		}
		if (n->prepared.nothing)
			return false;
		if (landing_ns_apply(n, false, false, &a->o) == LANDING_APPLIED)
			return true;
		landing_ns_expect(n, rule, *ret_before);
		show(a, &a->o.conflicts, rule);
		landing_outcome_free(&a->o);
	}
}

/* Undoes; a person answers what is asked. */
static void undo_answered(struct answering *a, const char *rule)
{
	AUTO_BUFFER landed = copy_of(&a->n->prepared.redo);
	struct error err = {0};
	int r;

	for (;;) {
		AUTO_BUFFER shown = {0};

		shown_so_far(a, &shown);
		r = landing_apply(&(struct landing_application){.workspace_fd = a->n->t.base,
								.redo = buffer_bytes(&landed),
								.undo = true,
								.shown = buffer_bytes(&shown),
								.choice_count = choose(a),
								.choices = a->choices,
								.source = &a->n->source},
				  &a->o, &err);
		if (r < 0)
			fail_msg("%s: %s", rule, err.msg);
		if (r == LANDING_APPLIED)
			return;
		show(a, &a->o.conflicts, rule);
		landing_outcome_free(&a->o);
	}
}

static void answering_done(struct answering *a)
{
	for (size_t i = 0; i < a->list_count; i++)
		landing_plan_free(a->lists[i]);
	landing_outcome_free(&a->o);
}

static void check_card(const struct answering *a, const char *rule, const char *want)
{
	const struct landing_conflict *c;
	AUTO_BUFFER text = {0};

	if (a->list_count == 0)
		fail_msg("%s: nothing was asked", rule);
	c = &a->lists[0]->conflicts[0];
	buffer_printf(&text, "%.*s: %s; %.*s", (int)c->path.len, (const char *)c->path.data,
		      landing_conflict_why_text(c->why), (int)c->text.len,
		      (const char *)c->text.data);
	if (want && strncmp((char *)text.data, want, strlen(want)) != 0)
		fail_msg("%s: the card says '%s', but not '%s'", rule, (char *)text.data, want);
}

static const struct choice_case answers[] = {
	{"changed by both", .base = "echo a > f; echo b > g", .step = "echo run > f; echo run > g",
	 .user = "echo mine > f", .file = "f", .mine = "f f 644 mine\\n\nf g 644 run\\n\n",
	 .theirs = "f f 644 run\\n\nf g 644 run\\n\n",
	 .merged = "f f 644 merged\\n\nf g 644 run\\n\n"},
	{"removed by the person, changed by the run", .base = "echo a > f; echo b > g",
	 .step = "echo run > f; echo run > g", .user = "rm f", .file = "f",
	 .mine = "f g 644 run\\n\n", .theirs = "f f 644 run\\n\nf g 644 run\\n\n",
	 .merged = "f f 644 merged\\n\nf g 644 run\\n\n"},
	{"changed by the person, removed by the run", .base = "echo a > f; echo b > g",
	 .step = "rm f; echo run > g", .user = "echo mine > f", .file = "f",
	 .mine = "f f 644 mine\\n\nf g 644 run\\n\n", .theirs = "f g 644 run\\n\n",
	 .merged = "f f 644 merged\\n\nf g 644 run\\n\n"},
	{"a file in the place of a folder that the run works in",
	 .base = "mkdir -p d/e; echo o > d/f; echo o > d/g; echo o > d/h; echo o > d/e/i",
	 .step = "rm d/f; mkdir d/f; echo in > d/f/x; echo run > d/g; rm d/h; echo run > d/e/i",
	 .user = "rm -r d; echo mine > d", .file = "d",
	 .card = "d: the folder is not there any more; a file stands in its place; 5 changes of "
		 "the run in the folder follow this",
	 .mine = "f d 644 mine\\n\n",
	 .theirs = "d d 755\nd d/e 755\nf d/e/i 644 run\\n\nd d/f 755\nf d/f/x 644 in\\n\nf d/g "
		   "644 run\\n\n",
	 .merged = "f d 644 merged\\n\n"},
	{"a link in the place of a folder that the run works in",
	 .base = "mkdir -p d/e; echo o > d/f; echo o > d/g; echo o > d/h; echo o > d/e/i",
	 .step = "rm d/f; mkdir d/f; echo in > d/f/x; echo run > d/g; rm d/h; echo run > d/e/i",
	 .user = "mv d e; ln -s e d", .file = "d",
	 .card = "d: the folder is not there any more; a link stands in its place; 5 changes of "
		 "the run in the folder follow this",
	 .mine = "l d e\nd e 755\nd e/e 755\nf e/e/i 644 o\\n\nf e/f 644 o\\n\nf e/g 644 o\\n\nf "
		 "e/h 644 o\\n\n",
	 .theirs = "d d 755\nd d/e 755\nf d/e/i 644 run\\n\nd d/f 755\nf d/f/x 644 in\\n\nf d/g "
		   "644 run\\n\nd e 755\nd e/e 755\nf e/e/i 644 o\\n\nf e/f 644 o\\n\nf e/g 644 "
		   "o\\n\nf e/h 644 o\\n\n",
	 .merged = "f d 644 merged\\n\nd e 755\nd e/e 755\nf e/e/i 644 o\\n\nf e/f 644 o\\n\nf e/g "
		   "644 o\\n\nf e/h 644 o\\n\n"},
	{"a file in the place of a folder that the run changed the mode of",
	 .base = "mkdir d; echo o > d/f", .step = "chmod 700 d; echo run > d/f",
	 .user = "rm -r d; echo mine > d", .file = "d",
	 .card = "d: the folder is not there any more; a file stands in its place; 1 change of the "
		 "run in the folder follows this",
	 .mine = "f d 644 mine\\n\n", .theirs = "d d 700\nf d/f 644 run\\n\n",
	 .merged = "f d 644 merged\\n\n"},
	{"a folder in the place of a file that the run changed", .base = "echo a > f; echo b > g",
	 .step = "echo run > f; echo run > g",
	 .user = "rm f; mkdir -p f/s; echo mine > f/m; ln -s m f/s/l", .file = "f",
	 .mine = "d f 755\nf f/m 644 mine\\n\nd f/s 755\nl f/s/l m\nf g 644 run\\n\n",
	 .theirs = "f f 644 run\\n\nf g 644 run\\n\n",
	 .merged = "f f 644 merged\\n\nf g 644 run\\n\n"},
	{"an empty folder in the place of a file that the run changed",
	 .base = "echo a > f; echo b > g", .step = "echo run > f; echo run > g",
	 .user = "rm f; mkdir -m 711 f", .file = "f", .mine = "d f 711\nf g 644 run\\n\n",
	 .theirs = "f f 644 run\\n\nf g 644 run\\n\n",
	 .merged = "f f 644 merged\\n\nf g 644 run\\n\n"},
	{"a folder that was moved away", .base = "mkdir -p d/e; echo o > d/f; echo o > d/e/g",
	 .step = "echo run > d/f; echo run > d/e/g", .user = "mv d e", .file = "d/f",
	 .mine = "d e 755\nd e/e 755\nf e/e/g 644 o\\n\nf e/f 644 o\\n\n",
	 .theirs = "d d 755\nd d/e 755\nf d/e/g 644 run\\n\nf d/f 644 run\\n\nd e 755\nd e/e "
		   "755\nf e/e/g 644 o\\n\nf e/f 644 o\\n\n",
	 .merged = "d d 755\nd d/e 755\nf d/e/g 644 run\\n\nf d/f 644 merged\\n\nd e 755\nd e/e "
		   "755\nf e/e/g 644 o\\n\nf e/f 644 o\\n\n"},
	{"another folder moved here", .base = "mkdir d x; echo o > d/f; echo x > x/f",
	 .step = "echo run > d/f", .user = "mv d d.old; mv x d", .file = "d/f",
	 .mine = "d d 755\nf d/f 644 x\\n\nd d.old 755\nf d.old/f 644 o\\n\n",
	 .theirs = "d d 755\nf d/f 644 run\\n\nd d.old 755\nf d.old/f 644 o\\n\n",
	 .merged = "d d 755\nf d/f 644 merged\\n\nd d.old 755\nf d.old/f 644 o\\n\n"},
	{"made by both", .base = ":", .step = "echo run > f; echo run > g", .user = "echo mine > f",
	 .file = "f", .mine = "f f 644 mine\\n\nf g 644 run\\n\n",
	 .theirs = "f f 644 run\\n\nf g 644 run\\n\n",
	 .merged = "f f 644 merged\\n\nf g 644 run\\n\n"},
	{"a folder of the run where the person made a file", .base = ":",
	 .step = "mkdir d; echo run > d/f", .user = "echo mine > d", .file = "d",
	 .mine = "f d 644 mine\\n\n", .theirs = "d d 755\nf d/f 644 run\\n\n",
	 .merged = "f d 644 merged\\n\n"},
	{"a file of the run where the person made a folder", .base = ":", .step = "echo run > f",
	 .user = "mkdir f; echo mine > f/m", .file = "f", .mine = "d f 755\nf f/m 644 mine\\n\n",
	 .theirs = "f f 644 run\\n\n", .merged = "f f 644 merged\\n\n"},
	{"a link that both changed", .base = "ln -s a l; echo b > g",
	 .step = "ln -sf run l; echo run > g", .user = "ln -sf mine l", .file = "l",
	 .mine = "f g 644 run\\n\nl l mine\n", .theirs = "f g 644 run\\n\nl l run\n",
	 .merged = "f g 644 run\\n\nf l 644 merged\\n\n"},
	{"a link that both made", .base = ":", .step = "ln -s run l", .user = "ln -s mine l",
	 .file = "l", .mine = "l l mine\n", .theirs = "l l run\n", .merged = "f l 644 merged\\n\n"},
	{"a new file in a folder that the run removed", .base = "mkdir d; echo a > d/f; echo b > g",
	 .step = "rm -r d; echo run > g", .user = "mkdir d/s; echo mine > d/s/m", .file = "d",
	 .mine = "d d 755\nd d/s 755\nf d/s/m 644 mine\\n\nf g 644 run\\n\n",
	 .theirs = "f g 644 run\\n\n", .merged = "f d 644 merged\\n\nf g 644 run\\n\n"},
	{"a new file in a folder that the run replaced", .base = "mkdir d; echo a > d/f",
	 .step = "rm -r d; echo run > d", .user = "echo mine > d/m", .file = "d",
	 .mine = "d d 755\nf d/m 644 mine\\n\n", .theirs = "f d 644 run\\n\n",
	 .merged = "f d 644 merged\\n\n"},
	{"an edit in a folder that the run removed", .base = "mkdir d; echo a > d/f; echo b > d/g",
	 .step = "rm -r d", .user = "echo mine > d/f", .file = "d/f",
	 .mine = "d d 755\nf d/f 644 mine\\n\n", .theirs = "",
	 .merged = "d d 755\nf d/f 644 merged\\n\n"},
};

static void check_answer(const struct choice_case *c, enum landing_choice_kind kind, bool late)
{
	struct landing_ns n;
	struct answering a = {.n = &n, .kind = kind, .file = c->file};
	AUTO_FREE char *before = NULL;
	AUTO_BUFFER rule = {0};
	bool landed;

	buffer_printf(&rule, "%s, %s%s", c->rule, choice_names[kind],
		      late ? ", met while landing" : "");
	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, c->base);
	landing_ns_step(&n, c->step, NULL);
	landed = land_answered(&a, c->user, late, (char *)rule.data, &before);
	check_card(&a, (char *)rule.data, c->card);
	landing_ns_expect(&n, (char *)rule.data, wanted(c, kind));
	answering_done(&a);
	if (landed) {
		a = (struct answering){.n = &n};
		assert_int_equal(landing_ns_apply(&n, true, false, &a.o), LANDING_APPLIED);
		answering_done(&a);
		buffer_append_str(&rule, ", undone");
		landing_ns_expect(&n, (char *)rule.data, before);
	}
	landing_ns_no_leftovers(&n, (char *)rule.data);
	landing_ns_close(&n);
}

static void each_answer_to_a_conflict(void **state)
{
	const char *only = getenv("LANDING_CASE");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		for (int kind = LANDING_CHOICE_MINE; kind <= LANDING_CHOICE_FILE; kind++)
			for (int late = 0; late < 2; late++)
				if (!only || strstr(answers[i].rule, only))
					check_answer(&answers[i], (enum landing_choice_kind)kind,
						     late);
}

/* The same of what a person did after it landed, and an undoing that meets it. */
static const struct choice_case undos[] = {
	{"edited since", .base = "echo a > f; echo b > g",
	 .step = "echo run > f; echo run > g; mkdir d; echo run > d/e", .user = "echo since >> f",
	 .file = "f", .mine = "f f 644 run\\nsince\\n\nf g 644 b\\n\n",
	 .theirs = "f f 644 a\\n\nf g 644 b\\n\n", .merged = "f f 644 merged\\n\nf g 644 b\\n\n"},
	{"removed since", .base = "echo a > f; echo b > g", .step = "echo run > f; echo run > g",
	 .user = "rm f", .file = "f", .mine = "f g 644 b\\n\n",
	 .theirs = "f f 644 a\\n\nf g 644 b\\n\n", .merged = "f f 644 merged\\n\nf g 644 b\\n\n"},
	{"made again since", .base = "echo a > f; echo b > g", .step = "rm f; echo run > g",
	 .user = "echo mine > f", .file = "f", .mine = "f f 644 mine\\n\nf g 644 b\\n\n",
	 .theirs = "f f 644 a\\n\nf g 644 b\\n\n", .merged = "f f 644 merged\\n\nf g 644 b\\n\n"},
	{"a folder that was removed since",
	 .base = "mkdir -p d/e; echo a > d/f; echo a > d/e/g; echo b > g",
	 .step = "echo run > d/f; echo run > d/e/g; echo new > d/n; echo run > g",
	 .user = "rm -r d", .file = "d",
	 .card = "d: the folder is not there any more; it is gone; ", .mine = "f g 644 b\\n\n",
	 .theirs = "d d 755\nd d/e 755\nf d/e/g 644 a\\n\nf d/f 644 a\\n\nf g 644 b\\n\n",
	 .merged = "f d 644 merged\\n\nf g 644 b\\n\n"},
	{"a file in a folder's place", .base = "mkdir -p d/e; echo a > d/f; echo a > d/e/g",
	 .step = "echo run > d/f; echo run > d/e/g; echo new > d/n",
	 .user = "rm -r d; echo mine > d", .file = "d",
	 .card = "d: the folder is not there any more; a file stands in its place; 3 changes of "
		 "the landing in the folder follow this",
	 .mine = "f d 644 mine\\n\n",
	 .theirs = "d d 755\nd d/e 755\nf d/e/g 644 a\\n\nf d/f 644 a\\n\n",
	 .merged = "f d 644 merged\\n\n"},
	{"a link in a folder's place", .base = "mkdir -p d/e; echo a > d/f; echo a > d/e/g",
	 .step = "echo run > d/f; echo run > d/e/g; echo new > d/n", .user = "mv d m; ln -s m d",
	 .file = "d",
	 .card = "d: the folder is not there any more; a link stands in its place; 3 changes of "
		 "the landing in the folder follow this",
	 .mine = "l d m\nd m 755\nd m/e 755\nf m/e/g 644 run\\n\nf m/f 644 run\\n\nf m/n 644 "
		 "new\\n\n",
	 .theirs = "d d 755\nd d/e 755\nf d/e/g 644 a\\n\nf d/f 644 a\\n\nd m 755\nd m/e 755\nf "
		   "m/e/g 644 run\\n\nf m/f 644 run\\n\nf m/n 644 new\\n\n",
	 .merged = "f d 644 merged\\n\nd m 755\nd m/e 755\nf m/e/g 644 run\\n\nf m/f 644 run\\n\nf "
		   "m/n 644 new\\n\n"},
	{"a file in the place of a folder whose mode landed", .base = "mkdir d; echo a > d/f",
	 .step = "chmod 700 d; echo run > d/f", .user = "rm -r d; echo mine > d", .file = "d",
	 .card = "d: the folder is not there any more; a file stands in its place; 1 change of the "
		 "landing in the folder follows this",
	 .mine = "f d 644 mine\\n\n", .theirs = "d d 755\nf d/f 644 a\\n\n",
	 .merged = "f d 644 merged\\n\n"},
	{"a folder in a file's place", .base = "echo a > f; echo b > g",
	 .step = "echo run > f; echo run > g", .user = "rm f; mkdir f; echo mine > f/m",
	 .file = "f", .mine = "d f 755\nf f/m 644 mine\\n\nf g 644 b\\n\n",
	 .theirs = "f f 644 a\\n\nf g 644 b\\n\n", .merged = "f f 644 merged\\n\nf g 644 b\\n\n"},
	{"a new file in a folder that landed", .base = "echo b > g",
	 .step = "mkdir -p d/e; echo run > d/e/f; echo run > g",
	 .user = "mkdir d/s; echo mine > d/s/m; ln -s m d/e/l", .file = "d",
	 .mine = "d d 755\nd d/e 755\nl d/e/l m\nd d/s 755\nf d/s/m 644 mine\\n\nf g 644 b\\n\n",
	 .theirs = "f g 644 b\\n\n", .merged = "f d 644 merged\\n\nf g 644 b\\n\n"},
	{"a file in the place of a folder that landed", .base = "echo b > g",
	 .step = "mkdir -p d/e; echo run > d/e/f; echo run > g", .user = "rm -r d; echo mine > d",
	 .file = "d", .mine = "f d 644 mine\\n\nf g 644 b\\n\n", .theirs = "f g 644 b\\n\n",
	 .merged = "f d 644 merged\\n\nf g 644 b\\n\n"},
	{"a link that was changed since", .base = "ln -s a l", .step = "ln -sf run l",
	 .user = "ln -sf mine l", .file = "l", .mine = "l l mine\n", .theirs = "l l a\n",
	 .merged = "f l 644 merged\\n\n"},
};

static void check_undo(const struct choice_case *c, enum landing_choice_kind kind)
{
	struct landing_ns n;
	struct answering a = {.n = &n};
	AUTO_FREE char *before = NULL;
	AUTO_BUFFER rule = {0};

	buffer_printf(&rule, "undo, %s, %s", c->rule, choice_names[kind]);
	landing_ns_open(&n, NULL);
	landing_ns_begin(&n, c->base);
	landing_ns_step(&n, c->step, NULL);
	assert_true(land_answered(&a, NULL, false, (char *)rule.data, &before));
	answering_done(&a);
	landing_ns_user(&n, c->user);
	a = (struct answering){.n = &n, .kind = kind, .file = c->file};
	undo_answered(&a, (char *)rule.data);
	check_card(&a, (char *)rule.data, c->card);
	landing_ns_expect(&n, (char *)rule.data, wanted(c, kind));
	answering_done(&a);
	landing_ns_no_leftovers(&n, (char *)rule.data);
	landing_ns_close(&n);
}

static void each_answer_to_a_conflict_of_undoing(void **state)
{
	const char *only = getenv("LANDING_CASE");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(undos); i++)
		for (int kind = LANDING_CHOICE_MINE; kind <= LANDING_CHOICE_FILE; kind++)
			if (!only || strstr(undos[i].rule, only))
				check_undo(&undos[i], (enum landing_choice_kind)kind);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_answer_to_a_conflict),
		cmocka_unit_test(each_answer_to_a_conflict_of_undoing),
	};

	cmocka_set_test_filter(getenv("LANDING_TEST"));
	return cmocka_run_group_tests_name("landing, choices", tests, NULL, NULL);
}
