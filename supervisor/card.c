#include "supervisor/card.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/escape.h"
#include "base/utf8.h"

struct card {
	const struct card_input *in;
	struct buffer *out;
	bool complete;
};

/* Others' text, made visible and cut: never inside an escape or a character. */
static void put(struct card *c, struct bytes text)
{
	AUTO_BUFFER shown = {0};
	size_t cut;

	escape_append(&shown, text, ESCAPE_LINE | ESCAPE_MARK_LOOKALIKE);
	if (shown.failed) {
		c->out->failed = shown.failed;
		return;
	}
	if (shown.len <= CARD_LINE_MAX) {
		buffer_append(c->out, shown.data, shown.len);
		return;
	}
	cut = utf8_cut(buffer_bytes(&shown), CARD_LINE_MAX).len;
	for (size_t i = 1; i <= 10 && i <= cut; i++) {
		if (shown.data[cut - i] == '\\') {
			cut -= i;
			break;
		}
	}
	buffer_append(c->out, shown.data, cut);
	buffer_append_str(c->out, "…");
	c->complete = false;
}

static void put_str(struct card *c, const char *text)
{
	put(c, bytes_str(text ? text : ""));
}

static void put_more(struct card *c, size_t more, const char *what)
{
	if (more == 0)
		return;
	buffer_printf(c->out, "  and %zu more %s\n", more, what);
	c->complete = false;
}

/* In the first line: two runs of one plan have different titles. */
static void put_of_run(struct card *c)
{
	char id[JOURNAL_ID_TEXT_SIZE];

	buffer_append_str(c->out, " of run ");
	if (c->in->run_name) {
		put_str(c, c->in->run_name);
		buffer_append_byte(c->out, ' ');
	}
	buffer_printf(c->out, "%.8s", journal_id_text(&c->in->run, id));
}

static void put_run(struct card *c)
{
	char id[JOURNAL_ID_TEXT_SIZE];
	const struct card_input *in = c->in;

	buffer_append_str(c->out, "run     ");
	if (in->run_name) {
		put_str(c, in->run_name);
		buffer_append_byte(c->out, ' ');
	}
	buffer_printf(c->out, "%.8s\n", journal_id_text(&in->run, id));
	if (in->step_key) {
		buffer_append_str(c->out, "step    ");
		put_str(c, in->step_key);
		buffer_append_byte(c->out, '\n');
	}
	if (!in->argv || !in->argv[0])
		return;
	buffer_append_str(c->out, "command");
	for (size_t i = 0; in->argv[i]; i++) {
		if (i == CARD_ARGS_MAX) {
			size_t more = 0;

			while (in->argv[i + more])
				more++;
			buffer_append_byte(c->out, '\n');
			put_more(c, more, "arguments");
			return;
		}
		/* Quoted where it would read as more than one. */
		bool quote = !*in->argv[i] || strpbrk(in->argv[i], " '\"");

		buffer_append_str(c->out, quote ? " '" : " ");
		put_str(c, in->argv[i]);
		buffer_append_str(c->out, quote ? "'" : "");
	}
	buffer_append_byte(c->out, '\n');
}

static void put_time(struct card *c, const char *label, int64_t ns)
{
	time_t s = (time_t)(ns / 1000000000);
	struct tm tm;
	char text[80];

	if (ns <= 0 || !gmtime_r(&s, &tm))
		return;
	snprintf(text, sizeof(text), "%04d-%02d-%02d %02d:%02d:%02d UTC", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
	buffer_printf(c->out, "%s%s\n", label, text);
}

static void put_tail(struct card *c, const char *approve, const char *deny)
{
	const struct card_input *in = c->in;
	char hex[DIGEST_HEX_SIZE];

	buffer_append_byte(c->out, '\n');
	if (approve)
		buffer_printf(c->out, "approve: %s\n", approve);
	buffer_printf(c->out, "deny:    %s\n", deny);
	if (in->rule) {
		buffer_append_str(c->out, "asked by ");
		put_str(c, in->rule);
		buffer_append_byte(c->out, '\n');
	}
	if (!c->complete)
		buffer_append_str(
			c->out, in->plan ? CARD_NOT_ALL
					"look at `holdfast diff` first; approving wants --digest\n"
					 : CARD_NOT_ALL "approving wants --digest\n");
	put_time(c, "decide by ", in->decide_by_ns);
	if (in->execute_by_ns > 0) {
		long long minutes = (in->execute_by_ns + 59999999999) / 60000000000;

		buffer_printf(c->out, "an approval holds for %lld minute%s\n", minutes,
			      minutes == 1 ? "" : "s");
	}
	buffer_printf(c->out, "action  %.16s\n", digest_hex(&in->action, hex));
}

static void put_state(struct card *c, const struct landing_state *s)
{
	char hex[DIGEST_HEX_SIZE];

	switch (s->type) {
	case MANIFEST_ABSENT:
		buffer_append_str(c->out,
				  s->unseen ? "not known: it cannot be looked at" : "nothing");
		break;
	case MANIFEST_FILE:
		buffer_printf(c->out, "file of %llu byte%s, mode %o", (unsigned long long)s->size,
			      s->size == 1 ? "" : "s", s->mode);
		if (s->has_digest)
			buffer_printf(c->out, ", %.8s", digest_hex(&s->digest, hex));
		else
			buffer_append_str(c->out, ", not read");
		break;
	case MANIFEST_DIR:
		buffer_append_str(c->out, "folder");
		if (s->mode) /* one that only holds changes has no mode of the run's */
			buffer_printf(c->out, ", mode %o", s->mode);
		break;
	case MANIFEST_SYMLINK:
		buffer_append_str(c->out, "link to ");
		put(c, s->target);
		break;
	case MANIFEST_WHITEOUT:
	case MANIFEST_FIFO:
	case MANIFEST_SOCKET:
	case MANIFEST_CHAR:
	case MANIFEST_BLOCK:
		buffer_append_str(c->out, manifest_type_name(s->type));
		break;
	}
}

/* Each of size, mode and content once, with both values where they differ. */
static void put_file_change(struct card *c, const struct landing_state *a,
			    const struct landing_state *b)
{
	char before[DIGEST_HEX_SIZE], after[DIGEST_HEX_SIZE];

	buffer_printf(c->out, "file of %llu", (unsigned long long)a->size);
	if (a->size != b->size)
		buffer_printf(c->out, " -> %llu", (unsigned long long)b->size);
	buffer_printf(c->out, " byte%s, mode %o", a->size == 1 && b->size == 1 ? "" : "s", a->mode);
	if (a->mode != b->mode)
		buffer_printf(c->out, " -> %o", b->mode);
	if (a->has_digest && b->has_digest && digest_equal(&a->digest, &b->digest))
		buffer_append_str(c->out, ", same content");
	else
		buffer_printf(c->out, ", %.8s -> %.8s",
			      a->has_digest ? digest_hex(&a->digest, before) : "?",
			      b->has_digest ? digest_hex(&b->digest, after) : "?");
	buffer_append_byte(c->out, '\n');
}

static void put_action(struct card *c, const struct landing_action *a)
{
	char letter = landing_action_letter(a);

	buffer_printf(c->out, "  %c ", letter);
	put(c, a->path);
	buffer_append_str(c->out, ": ");
	if (letter == 'M' && a->before.type == MANIFEST_FILE && a->after.type == MANIFEST_FILE) {
		put_file_change(c, &a->before, &a->after);
		return;
	}
	if (letter != 'A')
		put_state(c, &a->before);
	if (letter == 'M' || letter == 'T')
		buffer_append_str(c->out, " -> ");
	if (letter != 'D')
		put_state(c, &a->after);
	buffer_append_byte(c->out, '\n');
}

/* Scratch is left out by intention and may be thousands of paths: a count says it all. Any other is
 * named with its reason. */
static void put_left_out(struct card *c, const struct landing_plan *p)
{
	size_t scratch = 0, shown = 0, others;

	for (size_t i = 0; i < p->out_count; i++)
		scratch += p->out[i].why == LANDING_OUT_SCRATCH;
	others = p->out_count - scratch;
	if (others > 0)
		buffer_printf(c->out, "left out: %zu\n", others);
	for (size_t i = 0; i < p->out_count && shown < CARD_LIST_MAX; i++) {
		if (p->out[i].why == LANDING_OUT_SCRATCH)
			continue;
		buffer_append_str(c->out, "  ");
		put(c, p->out[i].path);
		buffer_printf(c->out, ": %s", landing_out_why_name(p->out[i].why));
		if (p->out[i].text.len > 0) {
			buffer_append_str(c->out, ", ");
			put(c, p->out[i].text);
		}
		buffer_append_byte(c->out, '\n');
		shown++;
	}
	if (others > shown)
		put_more(c, others - shown, "left out");
	if (scratch > 0)
		buffer_printf(c->out, "scratch: %zu path%s stay%s with the run\n", scratch,
			      scratch == 1 ? "" : "s", scratch == 1 ? "s" : "");
}

static void put_plan(struct card *c)
{
	const struct landing_plan *p = c->in->plan;

	for (size_t i = 0; p && i < p->action_count && i < CARD_LIST_MAX; i++)
		put_action(c, &p->actions[i]);
	if (p && p->action_count > CARD_LIST_MAX)
		put_more(c, p->action_count - CARD_LIST_MAX, "changes");
	if (p)
		put_left_out(c, p);
}

/* The next line of *text, without its end; false when there is none. */
static bool next_line(struct bytes *text, struct bytes *ret)
{
	const char *p = text->data;
	const char *end = text->len ? memchr(p, '\n', text->len) : NULL;
	size_t len = end ? (size_t)(end - p) : text->len;

	if (text->len == 0)
		return false;
	*ret = bytes_of(p, len);
	*text = bytes_of(p + len + (end ? 1 : 0), text->len - len - (end ? 1 : 0));
	return true;
}

/* "-12,3" or "+7": the count, 1 where it is not said. */
static uint64_t hunk_count(const char **p, const char *end)
{
	uint64_t n = 0;

	while (*p < end && **p != ',' && **p != ' ')
		(*p)++;
	if (*p == end || **p == ' ')
		return 1;
	for ((*p)++; *p < end && **p >= '0' && **p <= '9' && n < UINT32_MAX; (*p)++)
		n = n * 10 + (uint64_t)(**p - '0');
	return n;
}

struct hunks { /* how many lines of each side are still to come */
	uint64_t before, after;
};

enum diff_line { DIFF_OTHER, DIFF_FILE, DIFF_CHANGED };

/* A line of diff -u. Within a hunk its counts tell what is content, so that content cannot pose as
 * the name of a file. */
static enum diff_line classify(struct hunks *h, struct bytes line)
{
	const char *p = line.data;
	const char *end = p + line.len;
	char c = line.len > 0 ? *p : ' ';

	if (h->before + h->after > 0) {
		if (c == '\\')
			return DIFF_OTHER;
		h->before -= c != '+' && h->before > 0;
		h->after -= c != '-' && h->after > 0;
		return c == '+' || c == '-' ? DIFF_CHANGED : DIFF_OTHER;
	}
	if (line.len > 4 && memcmp(p, "@@ -", 4) == 0) {
		h->before = hunk_count(&p, end);
		while (p < end && *p != '+')
			p++;
		h->after = hunk_count(&p, end);
		return DIFF_OTHER;
	}
	return line.len > 4 && (memcmp(p, "+++ ", 4) == 0 ||
				(line.len > 6 && memcmp(p, "Binary", 6) == 0))
		       ? DIFF_FILE
		       : DIFF_OTHER;
}

/* "+++ b/path<tab>time" without what is the same for all of them; "Binary files …" as it is. */
static void put_file(struct card *c, struct bytes line)
{
	const char *p = line.data;
	size_t len = line.len;
	const char *tab = memrchr(p, '\t', len);

	buffer_append_str(c->out, "  ");
	if (*p == '+') {
		len = tab ? (size_t)(tab - p) : len;
		p += 4;
		len -= 4;
		if (len > 2 && memcmp(p, "b/", 2) == 0) {
			p += 2;
			len -= 2;
		}
	}
	put(c, bytes_of(p, len));
	buffer_append_byte(c->out, '\n');
}

static void put_lines(struct card *c)
{
	struct bytes rest = c->in->diff;
	struct hunks h = {0};
	struct bytes line;
	size_t shown = 0;
	size_t more = 0;

	if (rest.len > 0)
		buffer_append_str(c->out, "\nlines changed:\n");
	while (next_line(&rest, &line)) {
		enum diff_line what = classify(&h, line);

		if (what == DIFF_OTHER)
			continue;
		if (shown == CARD_DIFF_LINES_MAX) {
			more++;
			continue;
		}
		if (what == DIFF_FILE) {
			put_file(c, line);
		} else {
			buffer_append_str(c->out, "  | ");
			put(c, line);
			buffer_append_byte(c->out, '\n');
		}
		shown++;
	}
	put_more(c, more, more == 1 ? "line" : "lines");
	if (c->in->diff_cut) {
		buffer_append_str(c->out, "  and more, which `holdfast diff` shows\n");
		c->complete = false;
	}
}

/* The lines in which the two sides differ, some of each path. */
static void put_sides(struct card *c)
{
	struct bytes rest = c->in->diff;
	bool complete = c->complete;
	size_t shown = 0, of_file = 0, more = 0;
	struct hunks h = {0};
	struct bytes line;

	if (rest.len > 0)
		buffer_append_str(c->out,
				  c->in->undo ? "\nwhere they differ (- mine, + from before the "
						"landing):\n"
					      : "\nwhere they differ (- mine, + the run's):\n");
	while (next_line(&rest, &line)) {
		enum diff_line what = classify(&h, line);

		if (what == DIFF_OTHER)
			continue;
		of_file = what == DIFF_FILE ? 0 : of_file + 1;
		if (shown == CARD_CONFLICT_ALL_MAX || of_file > CARD_CONFLICT_LINES_MAX) {
			more++;
			continue;
		}
		if (what == DIFF_FILE) {
			put_file(c, line);
		} else {
			buffer_append_str(c->out, "  | ");
			put(c, line);
			buffer_append_byte(c->out, '\n');
		}
		shown++;
	}
	if (more > 0 || c->in->diff_cut)
		buffer_printf(c->out, "  and %s%zu more line%s\n",
			      c->in->diff_cut ? "at least " : "", more, more == 1 ? "" : "s");
	if (c->in->diff_skipped > 0)
		buffer_printf(c->out,
			      "not compared (too large, not readable, or changed since): %llu "
			      "path%s\n",
			      (unsigned long long)c->in->diff_skipped,
			      c->in->diff_skipped == 1 ? "" : "s");
	if (c->in->diff_missing) {
		buffer_append_str(c->out, "\nwhere they differ cannot be shown: ");
		put_str(c, c->in->diff_missing);
		buffer_append_byte(c->out, '\n');
	}
	c->complete = complete; /* what is chosen is the state, and that is above */
}

static void put_diff(struct card *c)
{
	uint64_t skipped = c->in->diff_skipped;

	put_lines(c);
	if (skipped > 0) {
		buffer_printf(
			c->out,
			"not compared (too large, not readable, or changed since): %llu file%s\n",
			(unsigned long long)skipped, skipped == 1 ? "" : "s");
		c->complete = false;
	}
	if (c->in->diff_missing) {
		buffer_append_str(c->out, "\nthe changed lines cannot be shown: ");
		put_str(c, c->in->diff_missing);
		buffer_append_byte(c->out, '\n');
		c->complete = false;
	}
}

static void put_count(struct card *c, const char *verb)
{
	const struct landing_plan *p = c->in->plan;
	size_t n = p ? p->action_count : 0;

	buffer_printf(c->out, "%s %zu change%s", verb, n, n == 1 ? "" : "s");
	put_of_run(c);
	buffer_append_str(c->out, " in ");
	put_str(c, c->in->workspace);
	buffer_append_byte(c->out, '\n');
}

static void step_gate(struct card *c)
{
	buffer_append_str(c->out, "start step ");
	put_str(c, c->in->step_key);
	put_of_run(c);
	buffer_append_str(c->out, " in ");
	put_str(c, c->in->workspace);
	buffer_append_byte(c->out, '\n');
	put_run(c);
	put_tail(c, "the step starts, in its sandbox",
		 "the step never runs, and what needs it is cancelled");
}

static void step_commit(struct card *c)
{
	size_t n = c->in->plan ? c->in->plan->action_count : 0;

	buffer_append_str(c->out, "commit step ");
	put_str(c, c->in->step_key);
	put_of_run(c);
	buffer_printf(c->out, ": %zu change%s in ", n, n == 1 ? "" : "s");
	put_str(c, c->in->workspace);
	buffer_append_byte(c->out, '\n');
	put_run(c);
	put_plan(c);
	put_diff(c);
	put_tail(c, "its changes are seen by the steps after it; nothing lands yet",
		 "its changes are thrown away, and what needs the step is cancelled");
}

static void landing(struct card *c)
{
	put_count(c, c->in->undo ? "undo" : "land");
	put_run(c);
	put_plan(c);
	put_diff(c);
	if (c->in->undo)
		put_tail(c, "the directory is as before the landing, for these paths",
			 "the directory stays as it is");
	else
		put_tail(c,
			 "these changes are made in the directory; `holdfast undo` takes them back",
			 "the directory stays as it is; the run's changes are kept with the run");
}

static void conflict(struct card *c)
{
	const struct card_input *in = c->in;

	buffer_append_str(c->out, in->undo ? "undo" : "landing");
	put_of_run(c);
	buffer_printf(c->out, " in conflict: %zu path%s in ", in->conflict_count,
		      in->conflict_count == 1 ? "" : "s");
	put_str(c, in->workspace);
	buffer_append_byte(c->out, '\n');
	put_run(c);
	for (size_t i = 0; i < in->conflict_count && i < CARD_LIST_MAX; i++) {
		const struct landing_conflict *x = &in->conflicts[i];

		buffer_append_str(c->out, "  ");
		put(c, x->path);
		buffer_printf(c->out, ": %s\n", landing_conflict_why_text(x->why));
		if (x->text.len > 0) {
			buffer_append_str(c->out, "    ");
			put(c, x->text);
			buffer_append_byte(c->out, '\n');
		}
		buffer_append_str(c->out, "    mine:   ");
		put_state(c, &x->now);
		buffer_append_str(c->out, in->undo ? "\n    theirs: (before the landing) "
						   : "\n    theirs: (the run's) ");
		put_state(c, &x->want);
		buffer_append_byte(c->out, '\n');
	}
	if (in->conflict_count > CARD_LIST_MAX)
		put_more(c, in->conflict_count - CARD_LIST_MAX, "paths");
	put_sides(c);
	buffer_append_str(c->out, "\nNothing was changed. For each path (--path), or for all:\n"
				  "  --as mine    it stays as it is in the directory\n");
	buffer_append_str(c->out, in->undo ? "  --as theirs  it becomes what it was before the "
					     "landing; mine is kept as a blob\n"
					   : "  --as theirs  the run's version goes in; mine is "
					     "kept for `holdfast undo`\n");
	buffer_append_str(c->out, "  --as file=F  the content of F goes in\n");
	put_tail(c, NULL, in->undo ? "nothing is undone" : "nothing of the run lands");
}

static void exhausted(struct card *c)
{
	struct bytes rest = c->in->feedback;
	struct bytes line;
	struct bytes skip;
	size_t lines = 0;

	buffer_append_str(c->out, "retry step ");
	put_str(c, c->in->step_key);
	put_of_run(c);
	buffer_printf(c->out, ": %u attempt%s failed\n", c->in->attempts,
		      c->in->attempts == 1 ? "" : "s");
	put_run(c);
	if (c->in->why) {
		buffer_append_str(c->out, "last    ");
		put_str(c, c->in->why);
		buffer_append_byte(c->out, '\n');
	}
	for (struct bytes all = rest; next_line(&all, &line);)
		lines++;
	for (; lines > CARD_LIST_MAX; lines--)
		(void)next_line(&rest, &skip);
	if (rest.len > 0)
		buffer_append_str(c->out, "the end of what it said (its words, not ours):\n");
	bool complete = c->complete;

	while (next_line(&rest, &line)) {
		buffer_append_str(c->out, "  | ");
		put(c, line);
		buffer_append_byte(c->out, '\n');
	}
	c->complete = complete; /* its words are not what is decided on */
	buffer_append_str(c->out,
			  "\n  --as retry  one more attempt\n  --as fail   the step has failed\n");
	put_tail(c, NULL, "the step has failed, and what needs it is cancelled");
}

static void diverged(struct card *c)
{
	buffer_append_str(c->out, "step ");
	put_str(c, c->in->step_key);
	put_of_run(c);
	buffer_append_str(c->out, " was asked for again with another input\n");
	put_run(c);
	for (size_t i = 0; i < c->in->difference_count && i < CARD_LIST_MAX; i++) {
		buffer_printf(c->out, "  %s\n    before: ", c->in->differences[i].field);
		put(c, c->in->differences[i].before);
		buffer_append_str(c->out, "\n    now:    ");
		put(c, c->in->differences[i].after);
		buffer_append_byte(c->out, '\n');
	}
	if (c->in->difference_count > CARD_LIST_MAX)
		put_more(c, c->in->difference_count - CARD_LIST_MAX, "fields");
	buffer_append_str(c->out, "\n  --as accept  the recorded result is returned (not yet "
				  "committed: the new input is taken)\n"
				  "  --as fork    a new run begins before this step\n"
				  "  --as fail    the run fails\n");
	put_tail(c, NULL, "the run fails");
}

bool card_is_complete(struct bytes card)
{
	struct bytes line;

	while (next_line(&card, &line))
		if (line.len >= sizeof(CARD_NOT_ALL) - 1 &&
		    memcmp(line.data, CARD_NOT_ALL, sizeof(CARD_NOT_ALL) - 1) == 0)
			return false;
	return true;
}

int card_render(const struct card_input *in, struct buffer *out, bool *ret_complete)
{
	AUTO_BUFFER text = {.max = CARD_BYTES_MAX};
	struct card c = {.in = in, .out = &text, .complete = true};
	int r;

	switch (in->kind) {
	case JOURNAL_KIND_STEP_GATE:
		step_gate(&c);
		break;
	case JOURNAL_KIND_STEP_COMMIT:
		step_commit(&c);
		break;
	case JOURNAL_KIND_LANDING:
		landing(&c);
		break;
	case JOURNAL_KIND_CONFLICT:
		conflict(&c);
		break;
	case JOURNAL_KIND_EXHAUSTED:
		exhausted(&c);
		break;
	case JOURNAL_KIND_DIVERGED:
		diverged(&c);
		break;
	case JOURNAL_KIND_EFFECT:
	case JOURNAL_KIND_DOUBT:
		break;
	}
	if (text.failed)
		return text.failed;
	if (text.len == 0)
		return -EINVAL;
	r = buffer_append(out, text.data, text.len);
	if (r == 0 && ret_complete)
		*ret_complete = c.complete;
	return r;
}
