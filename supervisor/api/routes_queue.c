/*
 * The endpoints that look over all runs: the list of runs with what needs a person, the queue, its
 * items, votes on them (votes.c), and the statistics of what was asked and answered.
 */
#include "supervisor/api/routes_private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "supervisor/api/effect_view.h"
#include "supervisor/api/views.h"
#include "supervisor/stats.h"
#include "supervisor/status.h"
#include "supervisor/votes.h"

enum { RUNS_SHOWN_MAX = 10000, ENDED_SHOWN_MAX = 10 };

/* ---- the lists ---- */

struct rollup {
	struct daemon *d;
	json_t *runs;
	struct journal_id ended[ENDED_SHOWN_MAX]; /* that are shown though they have ended */
	size_t ended_count;
	int left_out;
};

static int add_run(const struct journal_run *run, void *arg)
{
	struct rollup *x = arg;

	json_array_append_new(x->runs, views_summary(x->d, run));
	return 0;
}

/* Ended ones too: their rows are read. */
static int each_run(struct routes_call *c, int (*fn)(const struct journal_run *, void *), void *arg)
{
	AUTO_FREE struct journal_id *ids = calloc(RUNS_SHOWN_MAX, sizeof(*ids));
	int n = ids ? journal_list_runs(c->d->journal, RUNS_SHOWN_MAX, ids) : -ENOMEM;

	for (int i = 0; i < n; i++) {
		const struct journal_run *run = journal_state_run(c->d->rows, &ids[i]);

		if (!run && journal_load_run(c->d->journal, &ids[i], NULL) == 0)
			run = journal_state_run(c->d->rows, &ids[i]);
		if (run)
			(void)!fn(run, arg);
	}
	return n < 0 ? n : 0;
}

/* The first of those that wait, and how many do: a card is read for each that is told. Each item is
 * written down and forgotten by itself: a tree of ten thousand costs more than what is in it. */
static int queue_of(struct daemon *d, uint64_t max, struct buffer *out, size_t *ret_count)
{
	AUTO_FREE const struct journal_approval **items = NULL;
	size_t count = 0;
	int r = status_queue(d->rows, &items, &count);

	out->max = API_ANSWER_MAX;
	buffer_append_byte(out, '[');
	for (size_t i = 0; r == 0 && i < count && i < max; i++) {
		if (i > 0)
			buffer_append_byte(out, ',');
		r = views_approval_line(d, items[i], out);
	}
	buffer_append_byte(out, ']');
	*ret_count = count;
	return r < 0 ? r : out->failed;
}

/* Takes o over. The list, written down already, is one more of its members. */
static int answer_list(struct routes_call *c, json_t *o, const char *name,
		       const struct buffer *list)
{
	AUTO_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	struct buffer *out = &c->a->text;

	json_decref(o);
	if (!text)
		return -ENOMEM;
	out->max = API_ANSWER_MAX;
	buffer_append(out, text, strlen(text) - 1);
	buffer_printf(out, ",\"%s\":", name);
	buffer_append(out, list->data, list->len);
	buffer_append_byte(out, '}');
	c->a->status = 200;
	return out->failed;
}

static int add_shown(const struct journal_run *run, void *arg)
{
	struct rollup *x = arg;
	bool shown = !journal_run_settled(run);

	for (size_t i = 0; i < x->ended_count && !shown; i++)
		shown = journal_id_equal(&x->ended[i], &run->id);
	return shown ? add_run(run, arg) : 0;
}

/* Chooses those that began last of the runs that have ended, by what is recorded alone: whose rows
 * happen to be in memory, because somebody looked them up, changes nothing. Loads their rows. */
static int choose_ended(struct routes_call *c, struct rollup *x)
{
	AUTO_FREE struct journal_id *ids = calloc(RUNS_SHOWN_MAX, sizeof(*ids));
	int n = ids ? journal_list_runs(c->d->journal, RUNS_SHOWN_MAX, ids) : -ENOMEM;

	for (int i = 0; i < n; i++) {
		const struct journal_run *run = journal_state_run(c->d->rows, &ids[i]);

		if (run && !journal_run_settled(run))
			continue;
		if (x->ended_count == ENDED_SHOWN_MAX)
			x->left_out++;
		else if (run || journal_load_run(c->d->journal, &ids[i], NULL) == 0)
			x->ended[x->ended_count++] = ids[i];
	}
	return n < 0 ? n : 0;
}

static int add_doubts(const struct journal_run *run, void *arg)
{
	struct rollup *x = arg;

	for (uint32_t i = 0; i < run->open_count; i++)
		if (run->open[i]->state == JOURNAL_EFFECT_S_IN_DOUBT)
			json_array_append_new(x->runs, effect_view_line(x->d, run, run->open[i]));
	return 0;
}

/* Runs with an effect in doubt are in memory, ended or not. */
static json_t *doubts_of(struct daemon *d)
{
	struct rollup x = {.d = d, .runs = json_array()};

	(void)!journal_state_each_run(d->rows, add_doubts, &x);
	return x.runs;
}

static int get_runs(struct routes_call *c)
{
	struct rollup x = {.d = c->d, .runs = json_array()};
	int r = routes_asked(c, "all") ? each_run(c, add_run, &x) : choose_ended(c, &x);
	AUTO_BUFFER person = {0};
	size_t open = 0;
	uint64_t max;

	if (r == 0 && !routes_asked(c, "all"))
		r = journal_state_each_run(c->d->rows, add_shown, &x);
	if (r == 0)
		r = routes_number(c, "max", UINT64_MAX, &max);
	if (r == 0)
		r = queue_of(c->d, max, &person, &open);
	if (r != 0) {
		json_decref(x.runs);
		return r;
	}
	return answer_list(c,
			   json_pack("{s:i, s:o, s:I, s:o, s:i}", "version", SUPERVISOR_API_VERSION,
				     "runs", x.runs, "open", (json_int_t)open, "in_doubt",
				     doubts_of(c->d), "ended", x.left_out),
			   "needs_person", &person);
}

/* ---- items ---- */

static int get_approvals(struct routes_call *c)
{
	AUTO_BUFFER list = {0};
	size_t open = 0;
	uint64_t max;
	int r = routes_number(c, "max", UINT64_MAX, &max);

	if (r == 0)
		r = queue_of(c->d, max, &list, &open);
	return r < 0 ? r
		     : answer_list(c,
				   json_pack("{s:i, s:I}", "version", SUPERVISOR_API_VERSION,
					     "open", (json_int_t)open),
				   "approvals", &list);
}

struct search {
	const char *prefix;
	const struct journal_approval *found;
	int count;
};

static int match_approval(const struct journal_approval *a, void *arg)
{
	struct search *s = arg;
	char id[JOURNAL_ID_TEXT_SIZE];

	if (strncmp(journal_id_text(&a->id, id), s->prefix, strlen(s->prefix)) == 0) {
		s->found = a;
		s->count++;
	}
	return 0;
}

/* Of a run in memory, whatever those of ended runs are called; else of an ended one. */
static int find_approval(struct routes_call *c, const struct journal_approval **ret)
{
	struct search s = {.prefix = c->q->segments[2]};
	struct journal_id id, run;
	int r;

	(void)!journal_state_each_approval(c->d->rows, match_approval, &s);
	if (s.count > 1)
		return error_set_exit(&c->err, -ENOTUNIQ, EXIT_STATUS_USAGE,
				      "%s names several items; give more digits", s.prefix);
	if (s.count == 0) {
		r = journal_find_approval(c->d->journal, s.prefix, &id, &run, &c->err);
		if (r == 0 && !journal_state_run(c->d->rows, &run))
			r = journal_load_run(c->d->journal, &run, &c->err);
		if (r < 0)
			return r;
		s.found = journal_state_approval(c->d->rows, &id);
	}
	if (!s.found)
		return error_set_exit(&c->err, -ENOENT, EXIT_STATUS_USAGE,
				      "no item %s in the queue; see 'holdfast queue'", s.prefix);
	*ret = s.found;
	return 0;
}

static int load_run(const struct journal_run *run, void *arg)
{
	(void)run;
	(void)arg;
	return 0;
}

static json_t *stats_line(const struct stats_rule *r)
{
	return json_pack("{s:o, s:s?, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:b}",
			 "rule", r->name ? api_json_text(bytes_str(r->name)) : json_null(), "class",
			 r->has_class ? journal_class_name(r->class) : NULL, "asked", (int)r->asked,
			 "open", (int)r->open, "approved", (int)r->approved, "denied",
			 (int)r->denied, "expired", (int)r->expired, "withdrawn", (int)r->withdrawn,
			 "streak", (int)r->streak, "hasty", (int)r->hasty, "shown_ms",
			 (int)stats_median_ms(r), "always_approved", stats_always(r), "misplaced",
			 stats_misplaced(r));
}

static int get_stats(struct routes_call *c)
{
	AUTO(stats_free) struct stats *s = NULL;
	json_t *rules;
	int r = each_run(c, load_run, NULL);

	if (r == 0)
		r = stats_of(c->d->rows, &s);
	if (r != 0)
		return r;
	rules = json_array();
	for (size_t i = 0; i < s->rule_count; i++)
		json_array_append_new(rules, stats_line(&s->rules[i]));
	return routes_answer(c, 200,
			     json_pack("{s:i, s:o, s:o}", "version", SUPERVISOR_API_VERSION, "all",
				       stats_line(&s->all), "rules", rules));
}

static int get_approval(struct routes_call *c)
{
	const struct journal_approval *a;
	int r = find_approval(c, &a);

	return r < 0 ? r : routes_answer(c, 200, views_approval(c->d, a));
}

static int keep_vote_file(struct routes_call *c, struct digest *ret)
{
	int fd = api_request_fd(c->q, "file");
	uint64_t size;
	struct stat st;

	*ret = (struct digest){0};
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return error_set(&c->err, -errno, "the file cannot be looked at: %s",
				 strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set_exit(
			&c->err, -EINVAL, EXIT_STATUS_USAGE,
			"the answer is not a plain file; save it as one and name that");
	/* What is kept is what lands: never a part of it. */
	if ((uint64_t)st.st_size > JOURNAL_BLOB_MAX)
		return error_set_exit(&c->err, -E2BIG, EXIT_STATUS_LIMIT,
				      "the file is larger than the %llu bytes an answer may have; "
				      "answer 'mine' and put it there yourself",
				      (unsigned long long)JOURNAL_BLOB_MAX);
	return journal_blob_put_fd(c->d->journal, fd, JOURNAL_BLOB_MAX, ret, &size, &c->err);
}

static int post_vote(struct routes_call *c)
{
	const struct journal_approval *a;
	struct digest file;
	int r = find_approval(c, &a);

	if (r == 0)
		r = keep_vote_file(c, &file);
	return r < 0 ? r : votes_post(c->d, c->q, a, &file, c->a, &c->err);
}

static int post_preview(struct routes_call *c)
{
	const struct journal_approval *a;
	int r = find_approval(c, &a);

	return r < 0 ? r : votes_preview(c->d, c->q, a, c->a, &c->err);
}

const struct routes_row routes_queue_rows[] = {
	{false, "v1/runs", 0, get_runs},
	{false, "v1/approvals", 0, get_approvals},
	{false, "v1/approvals/stats", 0, get_stats},
	{false, "v1/approvals/*", 0, get_approval},
	{true, "v1/approvals/*/vote", 0, post_vote},
	{true, "v1/approvals/*/preview", 0, post_preview},
	{0},
};
