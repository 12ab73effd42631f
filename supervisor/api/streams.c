#include "supervisor/api/streams.h"

#include <string.h>
#include <sys/stat.h>

#include "supervisor/adopt.h"
#include "supervisor/api/views.h"
#include "supervisor/runs.h"

enum { PIECE = 64 * 1024, EVENTS_A_PIECE = 200, STREAMS_CHECKED_MAX = 256 * 1024 * 1024 };

/* ---- events ---- */

struct events {
	struct api_stream base;
	struct daemon *d;
	struct journal_id run;
	uint64_t next; /* seq */
	bool follow;
	/* during one fill: */
	struct buffer *out;
	int count;
	bool stopped; /* at a record that is not durable, or at the end of the piece */
};

static int show_event(const struct journal_record *r, struct bytes encoded, void *arg)
{
	struct events *e = arg;
	json_t *o;
	char *text;

	(void)encoded;
	if (r->lsn > e->d->durable || e->count == EVENTS_A_PIECE) {
		e->stopped = true;
		return 1;
	}
	o = views_event(e->d, journal_state_run(e->d->rows, &e->run), r);
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	if (!text)
		return -ENOMEM;
	buffer_append_str(e->out, text);
	buffer_append_byte(e->out, '\n');
	free(text);
	e->next = r->seq + 1;
	e->count++;
	return e->out->failed;
}

/* Nothing more will come but by a person's later word (land, undo). */
static bool run_over(const struct daemon *d, const struct journal_id *id)
{
	return runs_over(journal_state_run(d->rows, id));
}

static int fill_events(struct api_stream *s, struct buffer *out)
{
	struct events *e = (struct events *)s;
	const struct journal_run *run = journal_state_run(e->d->rows, &e->run);
	int r = 0;

	/* The row knows the last record: while there is none beyond what was shown, the store is
	 * not asked. */
	if (!run || e->next <= run->seq) {
		e->out = out;
		e->count = 0;
		e->stopped = false;
		r = journal_each_event(e->d->journal, &e->run, e->next, show_event, e);
		if (r < 0)
			return r;
		if (e->stopped)
			return e->count > 0 ? 2 : 1;
	}
	/* Rows are ahead of the store: what is folded and not yet written follows with the next
	 * commit. */
	if (run && e->next <= run->seq)
		return e->count > 0 ? 2 : 1;
	return e->follow && !run_over(e->d, &e->run) ? 1 : 0;
}

static void free_plain(struct api_stream *s)
{
	free(s);
}

struct api_stream *streams_events(struct daemon *d, const struct journal_id *run, uint64_t from,
				  bool follow)
{
	struct events *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->base = (struct api_stream){fill_events, free_plain};
	e->d = d;
	e->run = *run;
	e->next = from ? from : 1;
	e->follow = follow;
	return &e->base;
}

/* ---- output ---- */

struct output {
	struct api_stream base;
	struct daemon *d;
	struct journal_id run, attempt;
	uint32_t step, number; /* number: of the attempt; 0 = the last one, when it is there */
	bool err_stream, follow, found, following;
	int fd; /* spool or blob; owned; -1 = not open */
	uint64_t at;
};

static const struct journal_attempt *attempt_of(const struct output *o,
						const struct journal_step **ret_step)
{
	const struct journal_run *run = journal_state_run(o->d->rows, &o->run);
	const struct journal_step *s =
		run && o->step < run->step_count ? run->steps[o->step] : NULL;

	*ret_step = s;
	if (!s || s->attempt_count == 0)
		return NULL;
	for (uint32_t i = 0; o->number && i < s->attempt_count; i++)
		if (s->attempts[i].number == o->number)
			return &s->attempts[i];
	if (o->number)
		return NULL;
	if (!o->found)
		return &s->attempts[s->attempt_count - 1];
	for (uint32_t i = 0; i < s->attempt_count; i++)
		if (journal_id_equal(&s->attempts[i].id, &o->attempt))
			return &s->attempts[i];
	return NULL;
}

static bool ended(const struct journal_attempt *a)
{
	return a->state != JOURNAL_ATTEMPT_S_STARTING && a->state != JOURNAL_ATTEMPT_S_LIVE &&
	       a->state != JOURNAL_ATTEMPT_S_FROZEN;
}

/* The spool holds it until the end is recorded and forgotten; from then on the blob does. */
static int open_output(struct output *o, const struct journal_attempt *a)
{
	const struct digest *blob = o->err_stream ? &a->err : &a->out;

	o->fd = adopt_spool_open(o->d, &a->id, o->err_stream);
	if (o->fd < 0 && ended(a) && !digest_is_zero(blob))
		o->fd = journal_blob_open(o->d->journal, blob, NULL);
	return o->fd;
}

/* -EBADMSG: not the bytes that were recorded. */
static int check_blob(int fd, const struct digest *want)
{
	struct digest_ctx *c;
	struct digest have;
	struct stat st;
	char piece[65536];
	ssize_t n = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > STREAMS_CHECKED_MAX)
		return 0;
	c = digest_ctx_new();
	if (!c)
		return -ENOMEM;
	for (off_t at = 0; (n = pread(fd, piece, sizeof(piece), at)) > 0; at += n)
		digest_ctx_update(c, piece, (size_t)n);
	digest_ctx_final(c, &have);
	digest_ctx_free(c);
	if (n < 0)
		return -errno;
	return digest_equal(&have, want) ? 0 : -EBADMSG;
}

int streams_check_output(struct daemon *d, const struct journal_step *step, bool err_stream,
			 struct error *err)
{
	const struct journal_attempt *a =
		step->attempt_count ? &step->attempts[step->attempt_count - 1] : NULL;
	const struct digest *blob = a && err_stream ? &a->err : a ? &a->out : NULL;
	AUTO_FD spool = -1, fd = -1;
	int r;

	if (!a || !ended(a) || digest_is_zero(blob))
		return 0;
	spool = adopt_spool_open(d, &a->id, err_stream);
	if (spool >= 0)
		return 0;
	fd = journal_blob_open(d->journal, blob, NULL);
	r = fd < 0 ? fd : check_blob(fd, blob);
	if (r == 0)
		return 0;
	return error_set(err, -EIO,
			 "the recorded %s of step %.80s is %s in v1/blobs; 'holdfast verify' lists "
			 "what is wrong, a backup of the state directory has it",
			 err_stream ? "standard error" : "output", step->name,
			 r == -EBADMSG	? "damaged"
			 : r == -ENOENT ? "missing"
					: strerror(-r));
}

static int fill_output(struct api_stream *s, struct buffer *out)
{
	struct output *o = (struct output *)s;
	const struct journal_step *step;
	const struct journal_attempt *a = attempt_of(o, &step);
	bool over;
	ssize_t n;

	if (!step)
		return 0;
	if (!a)
		return o->follow && !journal_step_final(step->state) && !run_over(o->d, &o->run)
			       ? 1
			       : 0;
	if (!o->found) {
		o->found = true;
		o->attempt = a->id;
	}
	if (o->follow && !o->following && !ended(a)) {
		adopt_follow(o->d, &a->id, true);
		o->following = true;
	}
	/* Asked before the file is read: what was written before the end is then in it. */
	over = !adopt_live(o->d, &a->id) || ended(a);
	if (o->fd < 0 && open_output(o, a) < 0)
		return o->follow && !ended(a) ? 1 : 0;
	if (buffer_reserve(out, PIECE) < 0)
		return -ENOMEM;
	n = pread(o->fd, out->data + out->len, PIECE, (off_t)o->at);
	if (n < 0)
		return -errno;
	out->len += (size_t)n;
	o->at += (uint64_t)n;
	if (n > 0)
		return 2;
	return o->follow && !over ? 1 : 0;
}

static void free_output(struct api_stream *s)
{
	struct output *o = (struct output *)s;

	if (o->following)
		adopt_follow(o->d, &o->attempt, false);
	close_fd(&o->fd);
	free(o);
}

struct api_stream *streams_output(struct daemon *d, const struct journal_id *run, uint32_t step,
				  uint32_t attempt, bool err_stream, uint64_t from, bool follow)
{
	struct output *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->base = (struct api_stream){fill_output, free_output};
	o->d = d;
	o->run = *run;
	o->step = step;
	o->number = attempt;
	o->err_stream = err_stream;
	o->follow = follow;
	o->fd = -1;
	o->at = from;
	return &o->base;
}

/* ---- a file ---- */

struct file {
	struct api_stream base;
	int fd;
};

static int fill_file(struct api_stream *s, struct buffer *out)
{
	struct file *f = (struct file *)s;
	ssize_t n;

	if (buffer_reserve(out, PIECE) < 0)
		return -ENOMEM;
	n = read(f->fd, out->data + out->len, PIECE);
	if (n < 0)
		return -errno;
	out->len += (size_t)n;
	return n > 0 ? 2 : 0;
}

static void free_file(struct api_stream *s)
{
	struct file *f = (struct file *)s;

	close_fd(&f->fd);
	free(f);
}

struct api_stream *streams_fd(int fd)
{
	struct file *f = calloc(1, sizeof(*f));

	if (!f) {
		close(fd);
		return NULL;
	}
	f->base = (struct api_stream){fill_file, free_file};
	f->fd = fd;
	return &f->base;
}
