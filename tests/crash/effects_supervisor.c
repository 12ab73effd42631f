/*
 * A supervisor of one run, for the crash test of effects: the real journal on a disk, the real
 * engine, the real report channel. The sandbox is pretended: an attempt lives until the test says
 * that it ended. A person is pretended: what asks is approved, and what is in doubt is looked up in
 * what the test says really happened.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include "base/failpoint.h"
#include "base/io.h"
#include "supervisor/effects.h"
#include "supervisor/runs.h"
#include "supervisor/tools.h"
#include "tests/crash/effects_test.h"

struct held { /* a command that waits for its turn */
	struct held *next;
	struct engine_command c;
	uint64_t after;
};

static struct daemon d;
static struct runs_context context;
static struct held *held, **held_end = &held;
static struct effects_truth *truth;
static struct journal_id run_id;
static bool told_end;

/* ---- what effects.c wants of the daemon ---- */

struct engine_now daemon_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (struct engine_now){t.tv_sec * 1000000000ll + t.tv_nsec,
				   t.tv_sec * 1000000000ll + t.tv_nsec};
}

void daemon_log(const struct daemon *x, const char *fmt, ...)
{
	va_list args;

	(void)x;
	if (!getenv("EFFECTS_VERBOSE"))
		return;
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

void daemon_check(const struct daemon *x, int result, const char *what)
{
	if (result < 0 && result != -ESTALE) {
		fprintf(stderr, "supervisor: %s: %s\n", what, strerror(-result));
		abort();
	}
	(void)x;
}

int runs_get(struct daemon *x, const struct journal_id *id, struct runs_context **ret,
	     struct error *err)
{
	(void)x;
	(void)id;
	(void)err;
	*ret = &context;
	return 0;
}

/* Its policy has no tools. */
int tools_seal(struct daemon *x, const struct policy_effective *e, const char *id,
	       struct tools_program *ret, struct error *err)
{
	(void)x;
	(void)e;
	(void)id;
	(void)ret;
	return error_set(err, -ENOENT, "no tools here");
}

int tools_run(struct daemon *x, const struct tools_call *c, struct error *err)
{
	(void)x;
	(void)c;
	return error_set(err, -ENOENT, "no tools here");
}

/* ---- the engine's hands ---- */

static void op_record(void *ctx, struct journal_record *r)
{
	(void)ctx;
	d.need_sync |= journal_type_synced(r->type);
	journal_append(d.journal, r, NULL);
}

static int op_blob(void *ctx, struct bytes content, struct digest *ret)
{
	(void)ctx;
	return journal_blob_put(d.journal, content, ret, NULL);
}

static int op_blob_read(void *ctx, const struct digest *digest, struct buffer *out)
{
	(void)ctx;
	return journal_blob_get(d.journal, digest, JOURNAL_BLOB_MAX, out, NULL);
}

static void op_command(void *ctx, const struct engine_command *c)
{
	struct held *h = calloc(1, sizeof(*h));

	(void)ctx;
	if (!h)
		abort();
	h->c = *c;
	h->c.spec = NULL;
	h->c.stack = NULL;
	if (c->after_sync) {
		d.need_sync = true;
		h->after = journal_last_lsn(d.journal);
	}
	*held_end = h;
	held_end = &h->next;
}

static void op_new_id(void *ctx, struct journal_id *ret)
{
	(void)ctx;
	if (getrandom(ret->b, sizeof(ret->b), 0) != sizeof(ret->b))
		abort();
}

static void op_layer_name(void *ctx, const struct journal_run *run, const char *step,
		       char ret[JOURNAL_LAYER_NAME_SIZE])
{
	(void)ctx;
	(void)run;
	(void)step;
	snprintf(ret, JOURNAL_LAYER_NAME_SIZE, "l");
}

static int op_rules(void *ctx, const struct journal_run *run, struct engine_rules *ret)
{
	(void)ctx;
	(void)run;
	ret->decide_by_ns = ret->execute_by_ns = 3600ll * 1000000000;
	return 0;
}

/* ---- carrying out ---- */

static void say_attempt(const struct journal_id *attempt)
{
	struct report_message m = {.type = REPORT_ATTEMPT};
	AUTO_BUFFER policy = {0};
	AUTO_FD fd = -1;

	memcpy(m.attempt.attempt, attempt->b, sizeof(m.attempt.attempt));
	m.attempt.egress_left = m.attempt.requests_left = UINT64_MAX;
	if (policy_effective_encode(context.policy, &policy) < 0)
		abort();
	fd = io_memfd_sealed("policy", buffer_bytes(&policy), false);
	if (effects_say(&d, &run_id, &m, &fd, 1) < 0)
		daemon_log(&d, "the attempt cannot be said");
}

static const struct journal_attempt *living(void)
{
	const struct journal_run *run = journal_state_run(d.rows, &run_id);
	const struct journal_step *s = run && run->step_count ? run->steps[0] : NULL;
	const struct journal_attempt *a =
		s && s->attempt_count ? &s->attempts[s->attempt_count - 1] : NULL;

	return a && (a->state == JOURNAL_ATTEMPT_S_LIVE || a->state == JOURNAL_ATTEMPT_S_STARTING)
		       ? a
		       : NULL;
}

static void vote(const struct engine_command *c, const struct digest *card)
{
	const struct journal_effect *f = journal_state_effect(d.rows, &c->effect);
	const struct journal_approval *a =
		journal_state_approval(d.rows, c->card_kind == JOURNAL_KIND_DOUBT ? &f->doubt
										  : &f->approval);
	struct engine_vote v = {.card = *card,
				.decision = JOURNAL_DECISION_APPROVE,
				.principal = "uid:5",
				.auth = "peercred",
				.uid = 5};
	struct error err = {0};
	unsigned i;

	if (!a || a->state != JOURNAL_APPROVAL_S_OPEN)
		return;
	v.approval = a->id;
	if (c->card_kind == JOURNAL_KIND_DOUBT) {
		if (sscanf(strrchr(f->title, '/') + 1, "%u", &i) != 1 || i >= EFFECTS_TEST_ACTIONS)
			abort();
		v.choice = truth->applied[i] ? "done" : "not-done";
	}
	if (engine_vote(d.engine, daemon_now(), &v, &err) < 0) {
		fprintf(stderr, "vote: %s\n", err.msg);
		abort();
	}
}

static void perform(const struct engine_command *c)
{
	struct engine_ended killed = {.state = JOURNAL_ATTEMPT_S_KILLED};
	struct digest card;

	switch (c->kind) {
	case ENGINE_START_ATTEMPT:
		daemon_check(&d, engine_attempt_live(d.engine, daemon_now(), &c->attempt_id),
			     "live");
		say_attempt(&c->attempt_id);
		break;
	case ENGINE_KILL_ATTEMPT:
	case ENGINE_SUSPEND:
		daemon_check(&d,
			     engine_attempt_ended(d.engine, daemon_now(), &c->attempt_id, &killed),
			     "killed");
		break;
	case ENGINE_SEAL:
		daemon_check(&d,
			     engine_sealed(d.engine, daemon_now(), &c->attempt_id, 0, NULL, NULL, 0,
					   0),
			     "sealed");
		break;
	case ENGINE_CARD:
		if (journal_blob_put(d.journal, bytes_str("card"), &card, NULL) < 0)
			abort();
		daemon_check(&d,
			     engine_card(d.engine, daemon_now(), &c->run, c->step, c->card_kind,
					 &c->action, &card, &c->object),
			     "card");
		vote(c, &card);
		break;
	case ENGINE_EFFECT_ANSWER:
	case ENGINE_EFFECT_RELEASE:
	case ENGINE_EFFECT_PROBE:
		effects_perform(&d, c);
		break;
	case ENGINE_REMOVE_LAYER:
	case ENGINE_FORGET_ATTEMPT:
	case ENGINE_FREEZE:
	case ENGINE_THAW:
	case ENGINE_PLAN_LANDING:
	case ENGINE_APPLY_LANDING:
		break;
	}
}

static void flush(void)
{
	journal_flush(d.journal, d.need_sync);
	d.need_sync = false;
}

static void look_for_the_end(void)
{
	const struct journal_run *run = journal_state_run(d.rows, &run_id);

	if (run && run->state == JOURNAL_RUN_S_SUCCEEDED) {
		if (journal_wait_durable(d.journal, journal_last_lsn(d.journal)) < 0)
			abort();
		_exit(EFFECTS_TEST_OVER);
	}
	if (run && journal_run_final(run->state)) {
		fprintf(stderr, "supervisor: the run is %s: %s\n",
			journal_run_state_name(run->state), run->why ? run->why : "");
		_exit(EFFECTS_TEST_WRONG);
	}
}

void daemon_settle(struct daemon *x)
{
	bool again = true;

	if (x->settling)
		return;
	x->settling = true;
	(void)engine_tick(d.engine, daemon_now());
	flush();
	while (again) {
		again = false;
		d.durable = journal_durable_lsn(d.journal);
		for (struct held **at = &held; *at; at = &(*at)->next) {
			struct held *h = *at;

			if (h->after > d.durable)
				continue;
			*at = h->next;
			if (held_end == &h->next)
				held_end = at;
			perform(&h->c);
			free(h);
			flush();
			again = true;
			break;
		}
	}
	x->settling = false;
	look_for_the_end();
}

static void on_journal(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	daemon_settle(&d);
}

static void on_order(evutil_socket_t fd, short what, void *arg)
{
	struct engine_ended x = {.state = JOURNAL_ATTEMPT_S_EXITED};
	const struct journal_attempt *a = living();
	char order;

	(void)what;
	(void)arg;
	if (read(fd, &order, 1) != 1)
		_exit(EFFECTS_TEST_WRONG); /* the test is gone */
	if (a && !told_end) {
		told_end = true;
		daemon_check(&d, engine_attempt_ended(d.engine, daemon_now(), &a->id, &x), "exit");
	}
	daemon_settle(&d);
}

static void on_hello(struct daemon *x, const struct journal_id *run)
{
	const struct journal_attempt *a = living();

	(void)x;
	(void)run;
	if (a)
		say_attempt(&a->id);
}

/* ---- start ---- */

static int first_run(const struct journal_run *run, void *arg)
{
	(void)arg;
	run_id = run->id;
	return 1;
}

static void create_run(void)
{
	struct engine_run_request q = {.uid = 1000,
				       .workspace = "/w",
				       .ws_dev = 1,
				       .ws_ino = 2,
				       .agency = 2,
				       .land = JOURNAL_LAND_NEVER,
				       .started_ns = 1};
	AUTO(plan_free) struct plan *p = NULL;
	AUTO_BUFFER b = {0};
	struct error err = {0};

	if (plan_parse(bytes_str("version: 1\nland: never\nsteps:\n  - {name: a, run: [x]}\n"), "p",
		       &p, &err) < 0 ||
	    plan_encode(p, &b) < 0 || op_blob(NULL, buffer_bytes(&b), &q.plan_blob) < 0 ||
	    op_blob(NULL, bytes_str("policy"), &q.policy_blob) < 0 ||
	    op_blob(NULL, bytes_str("environ"), &q.environ_blob) < 0)
		abort();
	q.context = q.environ_blob;
	q.plan = p;
	memset(q.id.b, EFFECTS_TEST_RUN, sizeof(q.id.b));
	run_id = q.id;
	if (engine_run_create(d.engine, daemon_now(), &q, &run_id, &err) < 0) {
		fprintf(stderr, "create: %s\n", err.msg);
		abort();
	}
}

static void make_policy(void)
{
	static const char text[] =
		"version: 1\nname: t\nkind: grant\nnet:\n"
		"  - {id: never, do: ask, http: {host: api.shop.example, method: [POST], path: "
		"/never/*}, effect: irreversible}\n"
		"  - {id: once, do: allow, http: {host: api.shop.example, method: [POST], path: "
		"/once/*}, retry: never}\n"
		"  - {id: keyed, do: allow, http: {host: api.shop.example, method: [POST], path: "
		"/keyed/*}, retry: {keyed: {header: Idempotency-Key, window: 24h}}}\n"
		"  - {id: safe, do: allow, http: {host: api.shop.example, method: [POST], path: "
		"/safe/*}, retry: safe}\n";
	AUTO(policy_free) struct policy *p = NULL;
	struct policy_input input = {.layer = POLICY_LAYER_RUN};
	struct policy_combine c = {.inputs = &input, .count = 1, .agency = POLICY_AUTONOMOUS};
	struct error err = {0};

	if (policy_parse(bytes_str(text), "t", NULL, &p) < 0)
		abort();
	input.policy = p;
	if (policy_combine(&c, &context.policy, &err) < 0) {
		fprintf(stderr, "policy: %s\n", err.msg);
		abort();
	}
}

static int64_t wall(void)
{
	return daemon_now().wall_ns;
}

static void open_journal(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct journal_options o = {.dirfd = fd,
				    .reserve_bytes = 1,
				    .clock = {.wall_ns = wall, .mono_ns = wall, .boot_id = {1}}};
	struct error err = {0};

	if (journal_open(&o, &d.journal, &err) < 0) {
		fprintf(stderr, "journal: %s\n", err.msg);
		_exit(EFFECTS_TEST_WRONG);
	}
	d.rows = journal_rows(d.journal);
}

/* Every outcome is known, and the journal is whole. */
static int verify(const char *folder)
{
	struct journal_report report = {0};
	struct error err = {0};
	struct journal_id ids[4];
	const struct journal_run *run;

	open_journal(folder);
	if (journal_list_runs(d.journal, 4, ids) != 1 ||
	    journal_load_run(d.journal, &ids[0], &err) < 0)
		return EFFECTS_TEST_WRONG;
	run = journal_state_run(d.rows, &ids[0]);
	for (uint32_t i = 0; i < run->effect_count; i++) {
		const struct journal_effect *f = run->effects[i];
		const struct journal_approval *a = journal_state_approval(d.rows, &f->approval);
		bool gated = strstr(f->title, "/never/") != NULL, sent = f->reserved_lsn != 0;

		if (journal_effect_open(f->state) ||
		    (gated && sent && (!a || a->state != JOURNAL_APPROVAL_S_CONSUMED) &&
		     f->state != JOURNAL_EFFECT_S_REFUSED)) {
			fprintf(stderr, "%s is %s\n", f->title,
				journal_effect_state_name(f->state));
			return EFFECTS_TEST_WRONG;
		}
	}
	if (journal_verify(d.journal, NULL, NULL, &report, &err) < 0 || report.problems)
		return EFFECTS_TEST_WRONG;
	report = (struct journal_report){0};
	if (journal_fsck(d.journal, false, NULL, NULL, &report, &err) < 0 || report.problems)
		return EFFECTS_TEST_WRONG;
	journal_close(d.journal);
	return EFFECTS_TEST_OVER;
}

int main(int argc, char **argv)
{
	const struct engine_ops ops = {.record = op_record,
				       .blob = op_blob,
				       .blob_read = op_blob_read,
				       .command = op_command,
				       .new_id = op_new_id,
				       .layer_name = op_layer_name,
				       .rules = op_rules};
	static const struct effects_hooks hooks = {.hello = on_hello};
	const struct journal_attempt *a;
	struct engine_found found;
	struct error err = {0};
	struct event *journal_event, *order;
	char text[JOURNAL_ID_TEXT_SIZE];
	bool lost;

	if (argc != 3)
		return EFFECTS_TEST_WRONG;
	if (strcmp(argv[1], "verify") == 0)
		return verify(argv[2]);
	failpoint_init(getenv("HOLDFAST_FAILPOINT"));
	truth = mmap(NULL, sizeof(*truth), PROT_READ, MAP_SHARED, EFFECTS_TEST_TRUTH_FD, 0);
	if (truth == MAP_FAILED)
		return EFFECTS_TEST_WRONG;
	d.loop = event_base_new();
	make_policy();
	open_journal(argv[2]);
	if (journal_epoch_begin(d.journal, 0, "t", &err) < 0 ||
	    engine_new(d.rows, &ops, NULL, &d.engine) < 0 || effects_new(&d.effects) < 0)
		return EFFECTS_TEST_WRONG;
	effects_hook(&d, &hooks);
	d.settling = true;
	if (!journal_state_each_run(d.rows, first_run, NULL))
		create_run();
	a = living();
	/* What the keeper has of it. Of an attempt that it does not know, nothing lives. */
	lost = a && strcmp(journal_id_text(&a->id, text), argv[1]) != 0;
	if (a)
		found = (struct engine_found){a->id, true};
	if (effects_attach(&d, &run_id, EFFECTS_TEST_CHANNEL_FD, &err) < 0 ||
	    engine_recover(d.engine, daemon_now(), (const uint8_t[16]){1}, &found, a && !lost, true,
			   &err) < 0)
		return EFFECTS_TEST_WRONG;
	/* The keeper died, and its courier with it: the run's lock is free. */
	if (strcmp(argv[1], "-") == 0)
		daemon_check(&d,
			     engine_effect_courier(d.engine, daemon_now(), &run_id, NULL, NULL, 0),
			     "lost");
	d.settling = false;
	journal_event = event_new(d.loop, journal_event_fd(d.journal), EV_READ | EV_PERSIST,
				  on_journal, NULL);
	order = event_new(d.loop, EFFECTS_TEST_ORDER_FD, EV_READ | EV_PERSIST, on_order, NULL);
	event_add(journal_event, NULL);
	event_add(order, NULL);
	daemon_settle(&d);
	event_base_dispatch(d.loop);
	return EFFECTS_TEST_WRONG;
}
