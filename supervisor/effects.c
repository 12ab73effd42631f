/*
 * The supervisor's end of every courier's report channel, from the descriptor to the engine:
 *
 *   channels    one a run, its queue of what is to be said, HELLO and the courier's death
 *   requests    which client of a courier waits for which effect, and whether it was told to send
 *   answers     commands of the engine about effects (effects_perform) become ANSWER and RELEASE
 *   tools       calls of tools and probes, which the supervisor carries out itself (tools.c)
 *   proposals   PROPOSE: policy of the attempt, decision, body to a blob, then the engine
 *   outcomes    RESULT, DELIVERED, CUT, and reads, which come in batches
 *   input       one datagram decoded and handed to one of the above; what cannot be decoded, or is
 *               not the courier's to say, ends the channel
 *
 * Nothing is kept here that must survive: a courier says what is open again to whoever attaches.
 * It is one file since all of it is one conversation: who says what depends on what was said.
 */
#include "supervisor/effects.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/escape.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "supervisor/effect_decide.h"
#include "supervisor/effects_code.h"
#include "supervisor/runs.h"
#include "supervisor/tools.h"

enum {
	QUEUE_MAX = 4096, /* messages to a courier that does not read; past it the channel ends */
	AGAIN_MS = 100, /* before a courier is told what the kernel had no memory to pass on */
	READS_TURN = 64, /* datagrams of one channel in one turn of the loop */
	GRANT_BYTES_MAX = 64 * 1024, /* of a grant's pattern */
	JSON_SEEN_MAX = 4 * 1024 * 1024, /* bytes of a body that rules and identities look into */
};

struct queued {
	struct queued *next;
	char *data;
	size_t len;
	int fds[IO_FDS_MAX]; /* owned */
	size_t fd_count;
};

/*
 * A client that waits for an effect. What its courier does (enum exchange_state), `sent`, and the
 * effect's row go together:
 *
 *   courier           sent         row
 *   ASKED             false        PROPOSED, WAITING, ALLOWED, IN_DOUBT; RESERVED and not on disk
 *                                  yet, or for another request
 *   DIALING, SENDING  true         RESERVED
 *   HELD              true         RESERVED; CONFIRMED or REFUSED once RESULT came, until RELEASE
 *   DELIVERING, gone  no request   CONFIRMED, or turned down: RELEASE, REPLAY or DENY dropped it
 *
 * A RESULT of doubt puts the courier back to ASKED, and `sent` to false. A tool runs here: its
 * courier stays ASKED the while. Of what an earlier supervisor had sent there is no request before
 * its RESULT; the courier's HELLO names the effect.
 */
struct request {
	struct request *next;
	uint64_t number;
	struct journal_id effect;
	bool sent; /* it was told to send, and that is not over */
};

struct policy_of { /* an attempt's own, narrowed */
	struct policy_of *next;
	struct journal_id attempt;
	unsigned agency;
	struct policy_effective *policy;
};

struct channel {
	struct channel *next;
	struct daemon *d; /* borrowed */
	struct journal_id run, instance;
	bool hello;
	int fd; /* owned */
	struct event *read, *write, *again;
	struct queued *queue, **queue_end;
	size_t queue_count;
	struct request *requests;
	struct policy_of *policies;
};

struct effects {
	struct effects_hooks hooks;
	struct channel *channels;
	char datagram[REPORT_DATAGRAM_MAX];
};

static const struct journal_id no_id;

int effects_new(struct effects **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

/* ---- channels ---- */

static void queued_free(struct queued *q)
{
	for (size_t i = 0; i < q->fd_count; i++)
		close(q->fds[i]);
	if (q->data)
		explicit_bzero(q->data, q->len); /* an ATTEMPT carries secrets */
	free(q->data);
	free(q);
}

static void channel_free(struct channel *c)
{
	for (struct queued *q = c->queue, *next; q; q = next) {
		next = q->next;
		queued_free(q);
	}
	for (struct request *r = c->requests, *next; r; r = next) {
		next = r->next;
		free(r);
	}
	for (struct policy_of *p = c->policies, *next; p; p = next) {
		next = p->next;
		policy_effective_free(p->policy);
		free(p);
	}
	if (c->read)
		event_free(c->read);
	if (c->write)
		event_free(c->write);
	if (c->again)
		event_free(c->again);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

void effects_free(struct effects *x)
{
	if (!x)
		return;
	for (struct channel *c = x->channels, *next; c; c = next) {
		next = c->next;
		channel_free(c);
	}
	explicit_bzero(x->datagram, sizeof(x->datagram));
	free(x);
}

void effects_hook(struct daemon *d, const struct effects_hooks *hooks)
{
	d->effects->hooks = *hooks;
}

static struct channel *channel_of(const struct daemon *d, const struct journal_id *run)
{
	struct channel *c = d->effects ? d->effects->channels : NULL;

	while (c && !journal_id_equal(&c->run, run))
		c = c->next;
	return c;
}

static void drop_channel(struct daemon *d, struct channel *c)
{
	for (struct channel **at = &d->effects->channels; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	channel_free(c);
}

static void channel_ended(struct daemon *d, struct channel *c, const char *why)
{
	struct journal_id run = c->run;
	char id[JOURNAL_ID_TEXT_SIZE];

	daemon_log(d, "the courier of run %.8s: %s", journal_id_text(&run, id), why);
	drop_channel(d, c);
	if (d->effects->hooks.closed)
		d->effects->hooks.closed(d, &run);
}

static void arm_write(struct channel *c)
{
	if (c->queue && !event_pending(c->write, EV_WRITE, NULL))
		event_add(c->write, NULL);
}

/* The machine is short of something, which says nothing of the courier: unix(7) has no event for
 * it. */
static bool is_short(ssize_t n)
{
	return n == -ENOBUFS || n == -ENOMEM || n == -ETOOMANYREFS;
}

/* 0, also where it waits for room: what is queued is told sooner or later, or the channel ends. */
static int send_queued(struct channel *c)
{
	static const struct timeval again = {.tv_usec = AGAIN_MS * 1000};

	while (c->queue) {
		struct queued *q = c->queue;
		ssize_t n = failpoint_hit("effect.tell");

		if (n == 0)
			n = io_send_fds(c->fd, q->data, q->len, q->fds, q->fd_count);
		if (n == -EAGAIN)
			break;
		if (is_short(n)) {
			event_add(c->again, &again);
			return 0;
		}
		if (n < 0)
			return (int)n;
		c->queue = q->next;
		if (!c->queue)
			c->queue_end = &c->queue;
		c->queue_count--;
		queued_free(q);
	}
	arm_write(c);
	return 0;
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
	struct channel *c = arg;

	(void)fd;
	(void)what;
	if (send_queued(c) < 0)
		channel_ended(c->d, c, "it does not take what it is told");
}

/* Duplicates fds. What it says of the machine's memory (-ENOMEM, -ENOBUFS) is of before it was
 * queued: the courier never hears of it. */
static int say(struct channel *c, const struct report_message *m, const int *fds, size_t fd_count)
{
	struct queued *q = calloc(1, sizeof(*q));
	AUTO_BUFFER b = {.max = REPORT_DATAGRAM_MAX};
	/* a buffer that grows leaves copies behind */
	int rc = !q			     ? -ENOMEM
		 : m->type == REPORT_ATTEMPT ? buffer_reserve(&b, REPORT_DATAGRAM_MAX - 1)
					     : 0;

	if (rc == 0)
		rc = report_encode(m, &b);
	if (rc == 0 && (c->queue_count == QUEUE_MAX || fd_count > IO_FDS_MAX))
		rc = -ENOBUFS;
	for (size_t i = 0; rc == 0 && i < fd_count; i++) {
		q->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (q->fds[i] < 0)
			rc = -errno;
		else
			q->fd_count++;
	}
	if (rc < 0) {
		if (b.data)
			explicit_bzero(b.data, b.cap);
		if (q)
			queued_free(q);
		return rc;
	}
	q->data = buffer_take(&b, &q->len);
	if (!q->data) {
		queued_free(q);
		return -ENOMEM;
	}
	*c->queue_end = q;
	c->queue_end = &q->next;
	c->queue_count++;
	return send_queued(c);
}

int effects_say(struct daemon *d, const struct journal_id *run, const struct report_message *m,
		const int *fds, size_t fd_count)
{
	struct channel *c = channel_of(d, run);

	return c ? say(c, m, fds, fd_count) : -ENOTCONN;
}

/* ---- requests ---- */

static struct request *request_of(const struct channel *c, uint64_t number)
{
	struct request *r = c->requests;

	while (r && r->number != number)
		r = r->next;
	return r;
}

static struct request *request_for(const struct channel *c, const struct journal_id *effect)
{
	struct request *r = c->requests;

	while (r && !journal_id_equal(&r->effect, effect))
		r = r->next;
	return r;
}

static void request_drop(struct channel *c, struct request *r)
{
	for (struct request **at = &c->requests; *at; at = &(*at)->next)
		if (*at == r) {
			*at = r->next;
			free(r);
			return;
		}
}

static int request_add(struct channel *c, uint64_t number, const struct journal_id *effect)
{
	struct request *r = request_of(c, number);

	if (!r) {
		r = calloc(1, sizeof(*r));
		if (!r)
			return -ENOMEM;
		r->number = number;
		r->next = c->requests;
		c->requests = r;
	}
	r->effect = *effect;
	r->sent = false;
	return 0;
}

/* ---- answers ---- */

static void said(struct channel *c, int rc, const char *what)
{
	if (rc < 0)
		daemon_log(c->d, "a courier cannot be told %s: %s", what, strerror(-rc));
}

static void deny_request(struct channel *c, uint64_t number, const struct journal_id *effect,
			 int status, const char *rule, const char *why, const char *hint)
{
	struct report_message m = {.type = REPORT_ANSWER,
				   .answer = {.request = number,
					      .verdict = REPORT_DENY,
					      .status = status,
					      .rule = bytes_str(rule),
					      .why = bytes_str(why),
					      .hint = bytes_str(hint)}};

	memcpy(m.answer.effect, effect->b, sizeof(m.answer.effect));
	if (m.answer.why.len > REPORT_TEXT_MAX)
		m.answer.why.len = REPORT_TEXT_MAX;
	said(c, say(c, &m, NULL, 0), "a denial");
}

static void deny_effect(struct channel *c, const struct request *r, const struct journal_effect *f)
{
	int status = 403;
	const char *hint = "";

	switch (f->state) {
	case JOURNAL_EFFECT_S_ABANDONED:
		status = 409;
		hint = "it may have happened; a person gave it up; do not try it again";
		break;
	case JOURNAL_EFFECT_S_IN_DOUBT:
		status = 502;
		hint = "it may have happened; asking for the same again is safe";
		break;
	case JOURNAL_EFFECT_S_REFUSED:
		status = 502;
		hint = "it did not happen; it may be asked for again";
		break;
	case JOURNAL_EFFECT_S_DENIED:
	case JOURNAL_EFFECT_S_WITHDRAWN:
		hint = "`holdfast log` says more";
		break;
	case JOURNAL_EFFECT_S_PROPOSED:
	case JOURNAL_EFFECT_S_WAITING:
	case JOURNAL_EFFECT_S_ALLOWED:
	case JOURNAL_EFFECT_S_RESERVED:
	case JOURNAL_EFFECT_S_CONFIRMED:
	case JOURNAL_EFFECT_S_COMPENSATED:
	case JOURNAL_EFFECT_S_COUNT:
		break;
	}
	deny_request(c, r->number, &f->id, status, f->rule ? f->rule : "",
		     f->why ? f->why : "it was turned down", hint);
}

static int send_request(struct channel *c, struct request *r, const struct journal_run *run,
			const struct journal_effect *f)
{
	struct report_message m = {.type = REPORT_ANSWER,
				   .answer = {.request = r->number, .verdict = REPORT_SEND}};
	AUTO_FREE char *header = f->header ? strdup(f->header) : NULL;
	char key[ENGINE_KEY_SIZE];
	int rc;

	memcpy(m.answer.effect, f->id.b, sizeof(m.answer.effect));
	if (f->retry == JOURNAL_RETRY_KEYED && header) {
		if (engine_effect_key(run, f, key) < 0)
			abort();
		for (char *p = header; *p; p++) /* a canonical request's names are */
			*p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
		m.answer.key_header = bytes_str(header);
		m.answer.key = bytes_str(key);
	}
	failpoint_hit("effect.before-send");
	r->sent = true;
	rc = say(c, &m, NULL, 0);
	said(c, rc, "to send");
	failpoint_hit("effect.after-send");
	/* It never left this process; where it may have, the channel ends and the next HELLO says.
	 */
	return rc == -EINVAL || rc == -E2BIG || rc == -ENOMEM || rc == -ENOBUFS ? rc : 0;
}

/* What a person said to be done has no response of its own. */
static int confirmed_by(const struct journal_effect *f, struct buffer *out)
{
	buffer_append_str(out, "{\"holdfast\":\"confirmed\",\"by\":\"");
	escape_json(out, bytes_str(f->by ? f->by : "probe"));
	buffer_append_str(out, "\"}");
	return out->failed;
}

static void replay_request(struct channel *c, const struct request *r,
			   const struct journal_effect *f)
{
	static const struct action_header json = {{"content-type", 12}, {"application/json", 16}},
					  file = {{"content-type", 12},
						  {"application/octet-stream", 24}};
	struct report_message m = {.type = REPORT_ANSWER,
				   .answer = {.request = r->number,
					      .verdict = REPORT_REPLAY,
					      .status = f->status ? (int)f->status : 200}};
	AUTO_BUFFER response = {0}, own = {0};
	AUTO_FD body = -1;
	int rc = 0;

	memcpy(m.answer.effect, f->id.b, sizeof(m.answer.effect));
	if (f->too_long) {
		deny_request(c, r->number, &f->id, 507, f->rule ? f->rule : "",
			     "its response was too long to be kept, and it is not done twice", "");
		return;
	}
	if (!digest_is_zero(&f->response)) {
		rc = journal_blob_get(c->d->journal, &f->response, REPORT_DATAGRAM_MAX, &response,
				      NULL);
		if (rc == 0)
			rc = effects_code_response_decode(buffer_bytes(&response), &m.answer.status,
							  m.answer.headers, &m.answer.header_count);
	} else {
		m.answer.headers[0] = digest_is_zero(&f->response_body) ? json : file;
		m.answer.header_count = 1;
	}
	if (rc == 0 && !digest_is_zero(&f->response_body)) {
		body = journal_blob_open(c->d->journal, &f->response_body, NULL);
		rc = body < 0 ? body : 0;
	} else if (rc == 0 && digest_is_zero(&f->response)) {
		rc = confirmed_by(f, &own);
		if (rc == 0)
			body = io_memfd_sealed("confirmed", buffer_bytes(&own), false);
		rc = rc < 0 ? rc : body < 0 ? body : 0;
	}
	if (rc < 0) {
		deny_request(c, r->number, &f->id, 507, f->rule ? f->rule : "",
			     "its recorded response cannot be read",
			     "run `holdfast verify`; it is not done twice");
		return;
	}
	said(c, say(c, &m, &body, body >= 0), "a recorded response");
}

/* ---- tools: carried out here, not by the courier ---- */

static void tool_over(struct daemon *d, const struct journal_id *effect,
		      enum engine_outcome outcome, const char *why, const struct digest *body)
{
	struct engine_result x = {.effect = *effect, .outcome = outcome, .why = why, .status = 200};
	const struct journal_effect *f = journal_state_effect(d->rows, effect);
	struct channel *c = f ? channel_of(d, &f->run) : NULL;

	if (body)
		x.body = *body;
	/* Without a response its client waits for what follows. */
	for (struct request *r = c && !body ? c->requests : NULL; r; r = r->next)
		if (journal_id_equal(&r->effect, effect))
			r->sent = false;
	daemon_check(d, engine_effect_result(d->engine, daemon_now(), &x), "tool");
}

static void on_tool(struct daemon *d, void *arg, const struct tools_result *r)
{
	struct journal_id *effect = arg;
	json_t *said;
	AUTO_FREE char *text = NULL;
	struct digest body;
	bool truncated;

	if (r->failed || r->status < 0) {
		/* It began, and nobody knows how far it came; unless it never did. */
		tool_over(d, effect,
			  r->status == TOOLS_NEVER_BEGAN ? ENGINE_REFUSED : ENGINE_IN_DOUBT,
			  r->failed ? r->failed : "it was ended by a signal", NULL);
		free(effect);
		return;
	}
	/* What is withheld is said to be so, and is not cut. */
	truncated = !r->withheld && (r->out.len < r->out_total || r->err.len < r->err_total);
	said = json_pack("{s:i, s:b, s:I, s:I, s:o, s:o}", "exit", r->status, "truncated",
			 truncated, "stdout_bytes", (json_int_t)r->out_total, "stderr_bytes",
			 (json_int_t)r->err_total, "stdout", api_json_text(r->out), "stderr",
			 r->withheld
				 ? json_string("holdfast: what it wrote holds its secret, and is "
					       "withheld\n")
				 : api_json_text(r->err));
	text = said ? json_dumps(said, JSON_COMPACT) : NULL;
	json_decref(said);
	if (!text || journal_blob_put(d->journal, bytes_str(text), &body, NULL) < 0)
		tool_over(d, effect, ENGINE_IN_DOUBT, "its output could not be kept", NULL);
	else
		tool_over(d, effect, ENGINE_CONFIRMED, NULL, &body);
	free(effect);
}

static int run_tool(struct daemon *d, const struct journal_run *run, const struct journal_effect *f,
		    struct error *err)
{
	AUTO_FREE struct action *a = malloc(sizeof(*a));
	AUTO_BUFFER canonical = {0};
	char *args[ACTION_ARGS_MAX + 2] = {NULL}, id[256], key[ENGINE_KEY_SIZE];
	struct journal_id *effect = malloc(sizeof(*effect));
	struct tools_program program;
	size_t n = 0;
	int r = a && effect ? journal_blob_get(d->journal, &f->canonical, ACTION_BYTES_MAX,
					       &canonical, err)
			    : error_nomem(err);

	if (r == 0)
		r = action_decode(buffer_bytes(&canonical), a);
	if (r == 0)
		r = engine_effect_key(run, f, key);
	for (size_t i = 0; r == 0 && i < a->arg_count; i++)
		if (asprintf(&args[n++], "--%.*s=%.*s", (int)a->args[i].name.len,
			     (const char *)a->args[i].name.data, (int)a->args[i].value.len,
			     (const char *)a->args[i].value.data) < 0)
			r = -ENOMEM;
	if (r == 0) {
		snprintf(id, sizeof(id), "%.*s", (int)a->tool.len, (const char *)a->tool.data);
		program = (struct tools_program){.program = a->program,
						 .interpreter = a->interpreter,
						 .file_count = a->file_count};
		memcpy(program.files, a->files, sizeof(program.files));
		*effect = f->id;
		r = tools_run(d,
			      &(struct tools_call){.run = run,
						   .id = id,
						   .program = &program,
						   .args = (const char *const *)args,
						   .input = bytes_of("", 0),
						   .done = on_tool,
						   .drop = free,
						   .arg = effect},
			      err);
	}
	for (size_t i = 0; i < n; i++)
		free(args[i]);
	if (r < 0)
		free(effect);
	return r;
}

static void start_tool(struct daemon *d, struct request *r, const struct journal_run *run,
		       const struct journal_effect *f)
{
	struct journal_id effect = f->id;
	struct error err = {0};

	r->sent = true;
	failpoint_hit("effect.before-tool");
	if (run_tool(d, run, f, &err) < 0)
		tool_over(d, &effect, ENGINE_REFUSED, err.msg[0] ? err.msg : "it cannot be run",
			  NULL);
}

/* Whose tool has an outcome that is on disk gets it as a recorded one. */
static void answer_tool(struct daemon *d, struct channel *c, const struct journal_id *id)
{
	const struct journal_effect *f = journal_state_effect(d->rows, id);
	struct request *next;

	if (!f || f->action_kind != ACTION_TOOL || f->state != JOURNAL_EFFECT_S_CONFIRMED)
		return;
	for (struct request *r = c->requests; r; r = next) {
		next = r->next;
		if (!journal_id_equal(&r->effect, id) || !r->sent)
			continue;
		replay_request(c, r, f);
		request_drop(c, r);
	}
}

struct probing {
	struct journal_id effect;
};

/* The probe's exit says it: 0 done, 1 not done; all else is not known. */
static void on_probed(struct daemon *d, void *arg, const struct tools_result *r)
{
	AUTO_FREE struct probing *p = arg;
	enum engine_probe said = r->failed	  ? ENGINE_PROBE_UNKNOWN
				 : r->status == 0 ? ENGINE_PROBE_DONE
				 : r->status == 1 ? ENGINE_PROBE_NOT_DONE
						  : ENGINE_PROBE_UNKNOWN;

	daemon_check(d,
		     engine_effect_probed(d->engine, daemon_now(), &p->effect, said,
					  r->failed ? r->failed : "its probe said so"),
		     "probe");
}

static int start_probe(struct daemon *d, const struct journal_run *run,
		       const struct journal_effect *f, struct error *err)
{
	struct probing *p = malloc(sizeof(*p));
	char key[ENGINE_KEY_SIZE], arg[ENGINE_KEY_SIZE + 8];
	const char *args[] = {arg, NULL};
	AUTO_BUFFER body = {0};
	int r = p ? engine_effect_key(run, f, key) : error_nomem(err);

	if (r == 0 && !digest_is_zero(&f->body))
		r = journal_blob_get(d->journal, &f->body, ACTION_BODY_MAX, &body, err);
	if (r == 0) {
		*p = (struct probing){f->id};
		snprintf(arg, sizeof(arg), "--key=%s", key);
		r = tools_run(d,
			      &(struct tools_call){.run = run,
						   .id = f->probe ? f->probe : "",
						   .args = args,
						   .input = buffer_bytes(&body),
						   .done = on_probed,
						   .drop = free,
						   .arg = p},
			      err);
	}
	if (r < 0)
		free(p);
	return r;
}

static void probe(struct daemon *d, const struct engine_command *c)
{
	const struct journal_effect *f = journal_state_effect(d->rows, &c->effect);
	const struct journal_run *run = f ? journal_state_run(d->rows, &f->run) : NULL;
	struct journal_id effect = c->effect;
	struct error err = {0};

	if (run && start_probe(d, run, f, &err) == 0)
		return;
	daemon_check(d,
		     engine_effect_probed(d->engine, daemon_now(), &effect, ENGINE_PROBE_UNKNOWN,
					  err.msg[0] ? err.msg : "its probe cannot be run"),
		     "probe");
}

/* One client alone is told; where none can be, nothing was sent. */
static void tell_to_send(struct channel *c, const struct journal_run *run,
			 const struct journal_effect *f)
{
	struct engine_result x = {.effect = f->id, .outcome = ENGINE_REFUSED};
	struct request *r = request_of(c, f->request);

	if (r && (r->sent || !journal_id_equal(&r->effect, &f->id)))
		return;
	if (r && f->action_kind == ACTION_TOOL) {
		start_tool(c->d, r, run, f);
		return;
	}
	x.request = f->request;
	if (r && send_request(c, r, run, f) == 0)
		return;
	if (r)
		r->sent = false;
	x.why = r ? "the courier could not be told to send it"
		  : "its client went away before it was sent";
	daemon_check(c->d, engine_effect_result(c->d->engine, daemon_now(), &x), "effect not sent");
}

/* Between the decision and its sync the effect may have been asked for again: then another answer
 * follows, for whoever waits. */
static bool still_holds(enum engine_answer answer, enum journal_effect_state s)
{
	switch (answer) {
	case ENGINE_ANSWER_SEND:
		return s == JOURNAL_EFFECT_S_RESERVED;
	case ENGINE_ANSWER_REPLAY:
		return s == JOURNAL_EFFECT_S_CONFIRMED || s == JOURNAL_EFFECT_S_COMPENSATED;
	case ENGINE_ANSWER_DENY:
		return s == JOURNAL_EFFECT_S_DENIED || s == JOURNAL_EFFECT_S_WITHDRAWN ||
		       s == JOURNAL_EFFECT_S_ABANDONED || s == JOURNAL_EFFECT_S_REFUSED ||
		       s == JOURNAL_EFFECT_S_IN_DOUBT;
	case ENGINE_ANSWER_WAITING:
		return s == JOURNAL_EFFECT_S_WAITING;
	}
	return false;
}

static void answer(struct daemon *d, const struct engine_command *cmd)
{
	const struct journal_effect *f = journal_state_effect(d->rows, &cmd->effect);
	const struct journal_run *run = f ? journal_state_run(d->rows, &f->run) : NULL;
	struct channel *c = run ? channel_of(d, &run->id) : NULL;
	struct report_message waiting = {.type = REPORT_ANSWER,
					 .answer = {.verdict = REPORT_WAITING}};
	struct request *r, *next;

	if (!c)
		return; /* who waited says so again to the next channel */
	if (!still_holds(cmd->answer, f->state))
		return;
	if (cmd->answer == ENGINE_ANSWER_SEND) {
		tell_to_send(c, run, f);
		return;
	}
	for (r = c->requests; r; r = next) {
		next = r->next;
		if (!journal_id_equal(&r->effect, &f->id) || r->sent)
			continue;
		switch (cmd->answer) {
		case ENGINE_ANSWER_REPLAY:
			replay_request(c, r, f);
			request_drop(c, r);
			break;
		case ENGINE_ANSWER_DENY:
			deny_effect(c, r, f);
			request_drop(c, r);
			break;
		case ENGINE_ANSWER_WAITING:
			waiting.answer.request = r->number;
			memcpy(waiting.answer.effect, f->id.b, sizeof(waiting.answer.effect));
			said(c, say(c, &waiting, NULL, 0), "that it waits");
			break;
		case ENGINE_ANSWER_SEND:
			break;
		}
	}
}

static void release(struct daemon *d, const struct engine_command *cmd)
{
	struct channel *c = channel_of(d, &cmd->run);
	struct report_message m = {.type = REPORT_RELEASE};
	struct request *next;

	if (!c)
		return;
	answer_tool(d, c, &cmd->effect);
	for (struct request *r = c->requests; r; r = next) {
		next = r->next;
		if (journal_id_equal(&r->effect, &cmd->effect) && r->sent)
			request_drop(c, r);
	}
	memcpy(m.effect, cmd->effect.b, sizeof(m.effect));
	failpoint_hit("effect.before-release");
	said(c, say(c, &m, NULL, 0), "to release");
}

void effects_perform(struct daemon *d, const struct engine_command *c)
{
	switch (c->kind) {
	case ENGINE_EFFECT_ANSWER:
		answer(d, c);
		break;
	case ENGINE_EFFECT_RELEASE:
		release(d, c);
		break;
	case ENGINE_EFFECT_PROBE:
		probe(d, c);
		break;
	case ENGINE_START_ATTEMPT:
	case ENGINE_KILL_ATTEMPT:
	case ENGINE_SEAL:
	case ENGINE_REMOVE_LAYER:
	case ENGINE_CARD:
	case ENGINE_PLAN_LANDING:
	case ENGINE_APPLY_LANDING:
	case ENGINE_FORGET_ATTEMPT:
	case ENGINE_FREEZE:
	case ENGINE_THAW:
	case ENGINE_SUSPEND:
		break;
	}
}

/* ---- proposals ---- */

/* What holds for the attempt now: its step's, at the run's dial. Borrowed. */
static int policy_for(struct channel *c, const struct journal_run *run,
		      const struct journal_step *step, const struct journal_id *attempt,
		      const struct policy_effective **ret, struct error *err)
{
	struct policy_of **at = &c->policies, *p;
	struct runs_context *ctx;
	int rc;

	while (*at && !journal_id_equal(&(*at)->attempt, attempt))
		at = &(*at)->next;
	p = *at;
	if (p && p->agency == run->agency) {
		*ret = p->policy;
		return 0;
	}
	if (p) {
		*at = p->next;
		policy_effective_free(p->policy);
		free(p);
	}
	rc = runs_get(c->d, &run->id, &ctx, err);
	p = rc == 0 ? calloc(1, sizeof(*p)) : NULL;
	if (!p)
		return rc < 0 ? rc : -ENOMEM;
	rc = policy_effective_step(ctx->policy, step->name, POLICY_AGENCY_UNSET, &p->policy, err);
	if (rc < 0) {
		free(p);
		return rc;
	}
	p->attempt = *attempt;
	p->agency = run->agency;
	p->next = c->policies;
	c->policies = p;
	*ret = p->policy;
	return 0;
}

struct proposal {
	struct action action;
	struct buffer body; /* what of it rules and identities look into */
	struct buffer sealed; /* of a tool: the canonical action with the bytes that will run */
	struct effect_decision decision;
	char title[EFFECT_DECIDE_TITLE_MAX], at[256], claim[256], standing_at[256];
	char dropped[REPORT_TEXT_MAX + 1];
	struct engine_standing standing;
	struct engine_proposal x;
};

static void proposal_free(struct proposal *p)
{
	buffer_free(&p->body);
	buffer_free(&p->sealed);
	free(p);
}
DEFINE_GUARD(struct proposal *, proposal_free)

/* The body that came is the one that the action names. */
static int take_body(struct daemon *d, struct proposal *p, int fd, struct error *err)
{
	uint64_t size;
	int rc;

	if (!p->action.has_body)
		return 0;
	if (fd < 0 || p->action.body_len > ACTION_BODY_MAX)
		return error_set(err, -EPROTO, "its body did not come along");
	rc = journal_blob_put_fd(d->journal, fd, ACTION_BODY_MAX + 1, &p->x.body, &size, err);
	if (rc < 0)
		return rc;
	if (size != p->action.body_len || !digest_equal(&p->x.body, &p->action.body))
		return error_set(err, -EPROTO, "its body is not the one that it names");
	if (size > JSON_SEEN_MAX)
		return 0;
	return journal_blob_get(d->journal, &p->x.body, JSON_SEEN_MAX, &p->body, err);
}

static enum engine_verdict verdict_of(enum policy_verdict v)
{
	switch (v) {
	case POLICY_ALLOW:
		return ENGINE_ALLOW;
	case POLICY_ASK:
		return ENGINE_ASK;
	case POLICY_DENY:
		break;
	}
	return ENGINE_DENY;
}

static enum journal_retry retry_of(enum policy_retry_mode m)
{
	switch (m) {
	case POLICY_RETRY_SAFE:
		return JOURNAL_RETRY_SAFE;
	case POLICY_RETRY_KEYED:
		return JOURNAL_RETRY_KEYED;
	case POLICY_RETRY_PROBE:
		return JOURNAL_RETRY_PROBE;
	case POLICY_RETRY_NEVER:
		break;
	}
	return JOURNAL_RETRY_NEVER;
}

static void fill(struct proposal *p, const struct report_propose *m)
{
	const struct effect_decision *d = &p->decision;
	struct engine_proposal *x = &p->x;

	x->action_kind = p->action.kind;
	x->verdict = verdict_of(d->policy.verdict);
	x->class =
		d->policy.has_class ? (enum journal_class)d->policy.class : JOURNAL_CLASS_UNKNOWN;
	x->rule = d->policy.rule[0] ? d->policy.rule : NULL;
	x->secret = d->policy.secret && d->policy.secret[0] ? d->policy.secret : NULL;
	x->why = d->policy.why[0] ? d->policy.why : NULL;
	effect_decide_title(&p->action, p->title);
	x->title = p->title;
	if (d->policy.at.file && d->policy.at.file[0]) {
		snprintf(p->at, sizeof(p->at), "%s:%d:%d", d->policy.at.file, d->policy.at.line,
			 d->policy.at.column);
		x->at = p->at;
	}
	if (m->names.len) {
		snprintf(p->dropped, sizeof(p->dropped), "%.*s", (int)m->names.len,
			 (const char *)m->names.data);
		x->dropped = p->dropped;
	}
	if (m->reason.len) {
		AUTO_FREE char *shown = escape_dup(m->reason, ESCAPE_LINE | ESCAPE_MARK_LOOKALIKE);

		snprintf(p->claim, sizeof(p->claim), "%.200s", shown ? shown : "");
		x->claim = p->claim;
	}
	x->retry = JOURNAL_RETRY_NEVER;
	if (!d->has_rule)
		return;
	x->retry = retry_of(d->rule.retry);
	if (x->retry == JOURNAL_RETRY_KEYED) {
		x->header = d->rule.key_header;
		x->window_ms = d->rule.window_ms;
	}
	if (x->retry == JOURNAL_RETRY_PROBE)
		x->probe = d->rule.probe;
}

/* A person's grant of this run whose pattern covers it. */
static void find_grant(struct daemon *d, const struct journal_run *run, uint32_t step,
		       const struct policy_effective *policy, struct proposal *p)
{
	for (uint32_t i = 0; i < run->grant_count; i++) {
		const struct journal_grant *g = &run->grants[i];
		AUTO(policy_free) struct policy *pattern = NULL;
		AUTO_BUFFER match = {0};

		if (g->deny || digest_is_zero(&g->pattern) || !p->x.rule ||
		    strcmp(g->rule, p->x.rule) != 0 ||
		    (g->step != JOURNAL_NO_STEP && g->step != step) ||
		    !journal_grant_holds(g, daemon_now().wall_ns))
			continue;
		if (journal_blob_get(d->journal, &g->pattern, GRANT_BYTES_MAX, &match, NULL) < 0 ||
		    policy_grant_parse(g->rule, buffer_bytes(&match), &pattern, NULL) < 0 ||
		    !effect_decide_granted(policy, &p->action, buffer_bytes(&p->body), pattern))
			continue;
		p->x.grant = g->id;
		return;
	}
}

static void find_standing(const struct policy_effective *policy, struct proposal *p)
{
	struct policy_standing_info info;

	for (size_t i = 0; policy_standing_at(policy, i, &info); i++) {
		if (!p->x.rule || strcmp(info.rule, p->x.rule) != 0 ||
		    info.expires_ns <= daemon_now().wall_ns ||
		    !effect_decide_standing(policy, &p->action, buffer_bytes(&p->body), i))
			continue;
		snprintf(p->standing_at, sizeof(p->standing_at), "%s:%d:%d", info.at.file,
			 info.at.line, info.at.column);
		p->standing = (struct engine_standing){.at = p->standing_at,
						       .why = info.why,
						       .uses = info.uses,
						       .expires_ns = info.expires_ns};
		p->x.standing = &p->standing;
		return;
	}
}

/* What runs is part of what is approved: only the supervisor can say which bytes those are. */
static int seal_tool(struct daemon *d, const struct policy_effective *policy, struct proposal *p,
		     struct error *err)
{
	struct tools_program program;
	char id[256];
	int r;

	snprintf(id, sizeof(id), "%.*s", (int)p->action.tool.len,
		 (const char *)p->action.tool.data);
	r = tools_seal(d, policy, id, &program, err);
	if (r < 0)
		return r;
	p->action.program = program.program;
	p->action.interpreter = program.interpreter;
	memcpy(p->action.files, program.files, sizeof(program.files));
	p->action.file_count = program.file_count;
	r = action_encode(&p->action, &p->sealed);
	return r < 0 ? error_set(err, r, "the call cannot be written down: %s", strerror(-r)) : 0;
}

/* Where it is learnt what a command wants nobody waits to be asked. */
static int deny_learning(struct channel *c, const struct journal_run *run, struct proposal *p,
			 struct error *err)
{
	struct runs_context *ctx;
	int rc = runs_get(c->d, &run->id, &ctx, err);

	if (rc < 0 || !ctx->settings.learn || p->x.verdict != ENGINE_ASK)
		return rc;
	p->x.verdict = ENGINE_DENY;
	p->x.why = "its rule asks a person, and nobody is asked while it is learnt what a command "
		   "wants";
	return 0;
}

static int prepare(struct channel *c, const struct journal_run *run,
		   const struct journal_step *step, const struct report_propose *m, int body_fd,
		   struct proposal *p, struct error *err)
{
	const struct policy_effective *policy = NULL;
	struct bytes canonical = m->action;
	const char *const *ignore;
	int rc = action_decode(m->action, &p->action);

	if (rc < 0)
		return error_set(err, -EPROTO, "it cannot be read");
	rc = take_body(c->d, p, body_fd, err);
	if (rc == 0)
		rc = policy_for(c, run, step, &p->x.attempt, &policy, err);
	if (rc == 0)
		rc = effect_decide(policy, &p->action, buffer_bytes(&p->body), &p->decision);
	if (rc < 0)
		return rc;
	fill(p, m);
	rc = deny_learning(c, run, p, err);
	if (rc < 0)
		return rc;
	if (p->action.kind == ACTION_TOOL && p->x.verdict != ENGINE_DENY) {
		rc = seal_tool(c->d, policy, p, err);
		if (rc < 0)
			return rc;
		canonical = buffer_bytes(&p->sealed);
	}
	if (p->x.verdict == ENGINE_ASK) {
		find_grant(c->d, run, step->index, policy, p);
		if (p->decision.policy.standing)
			find_standing(policy, p);
	}
	action_digest(canonical, &p->x.action);
	ignore = p->decision.has_rule ? p->decision.rule.ignore : NULL;
	rc = action_identity(&p->action, buffer_bytes(&p->body), ignore,
			     p->decision.has_rule ? p->decision.rule.ignore_count : 0,
			     &p->x.identity);
	if (rc == -EBADMSG) { /* denied already, as unclear; or too long to look into */
		p->x.verdict = ENGINE_DENY;
		p->x.identity = p->x.action;
		rc = 0;
	}
	if (rc == 0)
		rc = journal_blob_put(c->d->journal, canonical, &p->x.canonical, err);
	return rc;
}

static void on_propose(struct channel *c, const struct report_propose *m, int body_fd)
{
	AUTO(proposal_free) struct proposal *p = calloc(1, sizeof(*p));
	struct daemon *d = c->d;
	const struct journal_run *run = journal_state_run(d->rows, &c->run);
	struct error err = {0};
	struct journal_id effect;
	struct request *old = request_of(c, m->request);
	const struct journal_step *step;
	uint32_t attempt;
	int rc;

	if (!p) {
		daemon_log(d, "out of memory");
		return;
	}
	if (old) /* said twice on one channel: it waits already */
		return;
	memcpy(p->x.attempt.b, m->attempt, sizeof(p->x.attempt.b));
	p->x.courier = c->instance;
	p->x.request = m->request;
	step = journal_run_step_of(run, &p->x.attempt, &attempt);
	rc = step ? prepare(c, run, step, m, body_fd, p, &err) : -ESTALE;
	failpoint_hit("effect.before-proposed");
	/* Its answer may come within: who waits is known before. */
	if (rc == 0)
		rc = request_add(c, m->request, &no_id);
	if (rc == 0)
		rc = engine_effect_proposed(d->engine, daemon_now(), &p->x, &effect);
	if (rc == 0) {
		request_of(c, m->request)->effect = effect;
		failpoint_hit("effect.after-proposed");
		return;
	}
	old = request_of(c, m->request);
	if (old)
		request_drop(c, old);
	if (rc == ENGINE_PROPOSED_DENIED)
		deny_request(c, m->request, &no_id, 429, p->x.rule ? p->x.rule : "",
			     "too many calls of this run were denied",
			     "its policy does not allow what it asks for");
	else if (rc == -ESTALE)
		deny_request(c, m->request, &no_id, 409, "", "the attempt is over", "");
	else
		deny_request(c, m->request, &no_id, 502, "",
			     err.msg[0] ? err.msg : "the supervisor could not record it",
			     "nothing was sent");
}

/* ---- what became of it ---- */

static enum engine_outcome outcome_of(enum report_outcome o)
{
	switch (o) {
	case REPORT_CONFIRMED:
		return ENGINE_CONFIRMED;
	case REPORT_REFUSED:
		return ENGINE_REFUSED;
	case REPORT_DOUBT:
		break;
	}
	return ENGINE_IN_DOUBT;
}

static void on_result(struct channel *c, const struct report_result *m, int body_fd)
{
	struct engine_result x = {.status = (uint32_t)m->status,
				  .too_long = m->too_long,
				  .sent = m->sent,
				  .received = m->received};
	AUTO_FREE char *why = escape_dup(m->why, ESCAPE_LINE);
	AUTO_BUFFER response = {0};
	struct daemon *d = c->d;
	struct request *r;
	struct error err = {0};
	uint64_t size;
	int rc = 0;

	memcpy(x.effect.b, m->effect, sizeof(x.effect.b));
	x.request = m->request;
	x.outcome = outcome_of(m->outcome);
	x.why = why && *why ? why : NULL;
	if (x.outcome == ENGINE_CONFIRMED) {
		rc = effects_code_response_encode(m->status, m->headers, m->header_count,
						  &response);
		if (rc == 0)
			rc = journal_blob_put(d->journal, buffer_bytes(&response), &x.response,
					      &err);
		if (rc == 0 && body_fd >= 0)
			rc = journal_blob_put_fd(d->journal, body_fd, REPORT_SPOOL_MAX, &x.body,
						 &size, &err);
	}
	if (rc < 0) {
		/* It happened, and that is what counts; what it said is lost. */
		daemon_log(d, "a response cannot be kept: %s",
			   err.msg[0] ? err.msg : strerror(-rc));
		x.response = x.body = (struct digest){0};
		x.too_long = true;
	}
	r = request_of(c, m->request);
	if (x.outcome == ENGINE_IN_DOUBT) {
		/* Its client goes on waiting, for what follows. */
		if (!r && request_add(c, m->request, &x.effect) < 0)
			daemon_log(d, "out of memory");
		else if (r)
			r->sent = false;
	} else if (!r && request_add(c, m->request, &x.effect) == 0) {
		request_of(c, m->request)->sent = true; /* said again to a new supervisor */
	} else if (r) {
		r->sent = true;
	}
	failpoint_hit("effect.before-result");
	daemon_check(d, engine_effect_result(d->engine, daemon_now(), &x), "effect result");
	failpoint_hit("effect.after-result");
}

static void on_cut(struct channel *c, uint64_t number)
{
	struct request *r = request_of(c, number);
	struct journal_id effect;

	if (!r || r->sent)
		return; /* what is being sent gets its outcome */
	effect = r->effect;
	request_drop(c, r);
	r = request_for(c, &effect);
	daemon_check(c->d,
		     engine_effect_cut(c->d->engine, daemon_now(), &effect, r ? r->number : 0),
		     "client gone");
}

static void on_hello(struct channel *c, const struct report_hello *m)
{
	struct journal_id run;

	memcpy(run.b, m->run, sizeof(run.b));
	if (!journal_id_equal(&run, &c->run)) {
		daemon_log(c->d, "a courier says that it is another run's");
		return;
	}
	memcpy(c->instance.b, m->instance, sizeof(c->instance.b));
	c->hello = true;
	daemon_check(c->d,
		     engine_effect_courier(c->d->engine, daemon_now(), &c->run, &c->instance,
					   (const struct journal_id *)m->sending, m->sending_count),
		     "courier hello");
	if (c->d->effects->hooks.hello)
		c->d->effects->hooks.hello(c->d, &c->run);
}

static void on_reads(struct channel *c, const struct report_reads *m)
{
	const struct journal_run *run = journal_state_run(c->d->rows, &c->run);
	size_t from = 0;

	/* One record for each stretch of one attempt's. */
	for (size_t i = 1; i <= m->count; i++) {
		const struct journal_step *step;
		struct journal_id attempt;
		AUTO_BUFFER b = {0};
		uint32_t number;
		int rc;

		if (i < m->count && memcmp(m->items[i].attempt, m->items[from].attempt, 16) == 0)
			continue;
		memcpy(attempt.b, m->items[from].attempt, sizeof(attempt.b));
		step = journal_run_step_of(run, &attempt, &number);
		rc = effects_code_reads_encode(m->items + from, i - from, &b);
		if (step && rc == 0)
			rc = engine_effect_reads(c->d->engine, daemon_now(), &c->run, step->index,
						 number, buffer_bytes(&b), i - from);
		if (rc < 0)
			daemon_check(c->d, rc, "reads");
		from = i;
	}
}

/* ---- the channel's turn ---- */

/* A courier speaks of its own run's effects; of one that is not known the engine says so. */
static bool of_run(const struct channel *c, const uint8_t id[JOURNAL_ID_SIZE])
{
	const struct journal_effect *f;
	struct journal_id effect;

	memcpy(effect.b, id, sizeof(effect.b));
	f = journal_state_effect(c->d->rows, &effect);
	return !f || journal_id_equal(&f->run, &c->run);
}

static int handle(struct channel *c, struct bytes datagram, const int *fds, size_t fd_count)
{
	struct report_message m = {0};
	struct sandbox_attempt_id attempt;
	struct journal_id effect;
	int first = fd_count ? fds[0] : -1, rc = report_decode(datagram, &m);

	if (rc < 0)
		return rc;
	if (!c->hello && m.type != REPORT_HELLO) {
		report_message_clear(&m);
		return -EPROTO;
	}
	switch (m.type) {
	case REPORT_HELLO:
		on_hello(c, &m.hello);
		break;
	case REPORT_PROPOSE:
		on_propose(c, &m.propose, first);
		break;
	case REPORT_READS:
		on_reads(c, &m.reads);
		break;
	case REPORT_RESULT:
		if (of_run(c, m.result.effect))
			on_result(c, &m.result, first);
		else
			rc = -EPROTO;
		break;
	case REPORT_DELIVERED:
		memcpy(effect.b, m.effect, sizeof(effect.b));
		if (of_run(c, effect.b))
			daemon_check(c->d,
				     engine_effect_delivered(c->d->engine, daemon_now(), &effect),
				     "delivered");
		else
			rc = -EPROTO;
		break;
	case REPORT_CUT:
		on_cut(c, m.request);
		break;
	case REPORT_DRAINED:
		memcpy(attempt.b, m.attempt_end, sizeof(attempt.b));
		if (c->d->effects->hooks.drained)
			c->d->effects->hooks.drained(c->d, &c->run, &attempt);
		break;
	case REPORT_SETTINGS:
	case REPORT_ATTEMPT:
	case REPORT_ATTEMPT_END:
	case REPORT_ANSWER:
	case REPORT_RELEASE:
		rc = -EPROTO; /* ours to say */
		break;
	}
	report_message_clear(&m);
	return rc;
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
	struct channel *c = arg;
	struct daemon *d = c->d;
	struct journal_id run = c->run;
	int fds[IO_FDS_MAX], rc = 0;

	(void)what;
	for (int i = 0; i < READS_TURN && rc == 0; i++) {
		size_t fd_count;
		ssize_t n = io_recv_fds(fd, d->effects->datagram, sizeof(d->effects->datagram), fds,
					&fd_count);

		if (n == -EAGAIN)
			break;
		rc = n < 0 ? (int)n : n == 0 ? -EPIPE : 0;
		if (rc == 0)
			rc = handle(c, bytes_of(d->effects->datagram, (size_t)n), fds, fd_count);
		for (size_t k = 0; k < fd_count; k++)
			close(fds[k]);
		if (channel_of(d, &run) != c)
			break; /* what it said ended it */
	}
	if (rc < 0 && channel_of(d, &run) == c)
		channel_ended(d, c, rc == -EPIPE ? "it went away" : strerror(-rc));
	daemon_settle(d);
}

int effects_attach(struct daemon *d, const struct journal_id *run, int fd, struct error *err)
{
	struct channel *old = channel_of(d, run), *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return error_nomem(err);
	}
	c->d = d;
	c->run = *run;
	c->fd = fd;
	c->queue_end = &c->queue;
	c->read = event_new(d->loop, fd, EV_READ | EV_PERSIST, on_read, c);
	c->write = event_new(d->loop, fd, EV_WRITE, on_write, c);
	c->again = evtimer_new(d->loop, on_write, c);
	if (!c->read || !c->write || !c->again || evutil_make_socket_nonblocking(fd) < 0 ||
	    event_add(c->read, NULL) < 0) {
		channel_free(c);
		return error_nomem(err);
	}
	if (old)
		drop_channel(d, old);
	c->next = d->effects->channels;
	d->effects->channels = c;
	return 0;
}

void effects_lost(struct daemon *d, const struct journal_id *run)
{
	struct channel *c = channel_of(d, run);

	if (c)
		drop_channel(d, c);
	daemon_check(d, engine_effect_courier(d->engine, daemon_now(), run, NULL, NULL, 0),
		     "courier lost");
}
