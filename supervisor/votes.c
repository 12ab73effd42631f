/*
 * A vote from its request to the engine. Called by routes.c, on the loop's thread; a signature is
 * checked in a sandbox meanwhile (jobs.c), and the vote goes on when that ends.
 */
#include "supervisor/votes.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cbor.h"
#include "base/io.h"
#include "base/utf8.h"
#include "supervisor/api/views.h"
#include "supervisor/effect_decide.h"
#include "supervisor/jobs.h"
#include "supervisor/runs.h"
#include "supervisor/vote.h"
#include "base/hex.h"

enum {
	SIGNERS_BYTES_MAX = 1024 * 1024,
	GROUPS_MAX = 256,
	VERIFY_TIMEOUT_MS = 20000,
	SHOWN_MAX_MS = 24 * 3600 * 1000,
};

/*
 * The principal is the voter's word where he gives one, else the one whose key it is; verify holds
 * either to the namespace, the key's own times and the bytes. What is printed counts only with
 * status 0.
 */
static const char verify_script[] = "cd /run/holdfast/in || exit 2\n"
				    "who=$1\n"
				    "test -n \"$who\" || who=$(ssh-keygen -Y find-principals -s "
				    "signature -f signers) || exit 1\n"
				    "ssh-keygen -Y verify -f signers -I \"$who\" -n " VOTE_NAMESPACE
				    " -s signature < ballot >&2 || exit 1\n"
				    "printf '%s' \"$who\"\n";

struct pending { /* a signed vote whose signature is being looked at */
	struct daemon *verifying; /* counted there; NULL = not yet */
	struct vote_ballot ballot; /* borrowed from bytes */
	struct buffer bytes;
	char *choice, *reason; /* owned copies, NULL = not said */
	struct journal_id approval;
	struct digest proof;
	uint64_t shown_ms, ticket;
	uint32_t uid;
};

static void pending_free(void *arg)
{
	struct pending *p = arg;

	if (!p)
		return;
	if (p->verifying)
		p->verifying->votes_verifying--;
	buffer_free(&p->bytes);
	free(p->choice);
	free(p->reason);
	free(p);
}
DEFINE_GUARD(struct pending *, pending_free)

static int wrong(struct error *err, const char *what)
{
	return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE, "bad request: %s; see supervisor.h",
			      what);
}

/* ---- who ---- */

struct groups {
	char *names[GROUPS_MAX];
	size_t count;
};

static void groups_free(struct groups *g)
{
	for (size_t i = 0; i < g->count; i++)
		free(g->names[i]);
}

/* Of the user by the machine's own tables: what the peer's process says of itself is not asked. */
static void groups_of(uint32_t uid, struct groups *ret)
{
	struct passwd *pw = getpwuid(uid);
	gid_t ids[GROUPS_MAX];
	int n = GROUPS_MAX;

	if (!pw || getgrouplist(pw->pw_name, pw->pw_gid, ids, &n) < 0)
		return;
	for (int i = 0; i < n; i++) {
		struct group *g = getgrgid(ids[i]);

		ret->names[ret->count] = g ? strdup(g->gr_name) : NULL;
		ret->count += ret->names[ret->count] != NULL;
	}
}

static bool wants_groups(struct daemon *d, const struct journal_approval *a)
{
	struct policy_settings s;
	struct runs_context *ctx;

	if (runs_get(d, &a->run, &ctx, NULL) < 0)
		return false;
	policy_settings(ctx->policy, &s);
	return s.role_count > 0;
}

static int vote(struct daemon *d, struct engine_vote *v, struct error *err)
{
	const struct journal_approval *a = journal_state_approval(d->rows, &v->approval);
	__attribute__((cleanup(groups_free))) struct groups groups = {0};
	int r;

	if (a && wants_groups(d, a))
		groups_of(v->uid, &groups);
	v->groups = (const char *const *)groups.names;
	v->group_count = groups.count;
	d->need_sync = true;
	r = engine_vote(d->engine, daemon_now(), v, err);
	v->groups = NULL; /* they end here */
	v->group_count = 0;
	return r;
}

/* ---- the signers ---- */

int votes_read_signers(const struct policy_effective *e, struct buffer *ret, struct error *err)
{
	struct policy_settings s;
	AUTO_FD fd = -1;
	struct stat st;
	int r;

	policy_settings(e, &s);
	if (!s.signers)
		return 0;
	if (s.signers_differ)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "approvals: two layers of the policy name different signers "
				      "files, %.200s is one; let one of them name it",
				      s.signers);
	fd = open(s.signers, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_exit(err, -errno, EXIT_STATUS_USAGE,
				      "approvals: cannot read the signers file %.200s: %s; make it "
				      "as ssh-keygen(1) says under ALLOWED SIGNERS",
				      s.signers, strerror(errno));
	if (!S_ISREG(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()) ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)))
		return error_set_exit(
			err, -EPERM, EXIT_STATUS_USAGE,
			"approvals: the signers file %.200s could have been written by "
			"others; make it root's or yours, and writable by its owner "
			"only",
			s.signers);
	r = io_read_all(fd, SIGNERS_BYTES_MAX, ret);
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_USAGE,
				      "approvals: cannot read the signers file %.200s: %s",
				      s.signers, strerror(-r));
	return ret->len
		       ? 0
		       : error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
					"approvals: the signers file %.200s is empty: nobody could "
					"vote",
					s.signers);
}

/* ---- a signed vote ---- */

static void answer_item(struct daemon *d, const struct journal_id *id, struct api_answer *a)
{
	const struct journal_approval *item = journal_state_approval(d->rows, id);

	a->status = 200;
	a->json = item ? views_approval(d, item)
		       : json_pack("{s:i, s:b}", "version", SUPERVISOR_API_VERSION, "ok", 1);
}

static int cast_verified(struct daemon *d, const struct pending *p, struct bytes signer,
			 struct error *err)
{
	char principal[sizeof("signer:") + VOTE_SIGNER_MAX];
	struct engine_vote v = {
		.approval = p->approval,
		.card = p->ballot.card,
		.decision = p->ballot.approve ? JOURNAL_DECISION_APPROVE : JOURNAL_DECISION_DENY,
		.choice = p->choice,
		.path = p->ballot.path,
		.file = p->ballot.file,
		.reason = p->reason,
		.auth = "ssh-signature",
		.uid = p->uid,
		.proof = p->proof,
		.signed_ns = p->ballot.time_ns,
		.shown_ms = p->shown_ms,
	};

	/* A pattern or a list of the file is nobody. */
	if (signer.len > VOTE_SIGNER_MAX || utf8_check_name(signer) < 0 ||
	    memchr(signer.data, ',', signer.len) || memchr(signer.data, '*', signer.len) ||
	    memchr(signer.data, '?', signer.len))
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "vote: the key is of several principals; say which one you "
				      "are with --signer");
	snprintf(principal, sizeof(principal), "signer:%.*s", (int)signer.len,
		 (const char *)signer.data);
	v.principal = principal;
	return vote(d, &v, err);
}

static void on_verified(struct daemon *d, void *arg, const struct jobs_result *r)
{
	AUTO(pending_free) struct pending *p = arg;
	struct api_answer a = {.fd = -1};
	struct error err = {0};
	int rc;

	if (r->not_started || r->exit->why == SANDBOX_WHY_LOST)
		rc = error_set_exit(&err, -EAGAIN, EXIT_STATUS_SANDBOX,
				    "vote: the signature could not be looked at: %.150s; try again",
				    r->not_started ? r->not_started : "the keeper was lost");
	else if (!jobs_succeeded(r))
		rc = error_set_exit(&err, -EPERM, EXIT_STATUS_DENIED,
				    "vote: the signature is not good for it: wrong key, namespace "
				    "or bytes, or a key that is not valid now; see 'ssh-keygen -Y "
				    "verify'");
	else
		rc = cast_verified(d, p, r->out, &err);
	if (rc < 0)
		api_answer_error(&a, 0, &err);
	else
		answer_item(d, &p->approval, &a);
	api_server_answer(d->api, p->ticket, &a);
}

static int keep_proof(struct daemon *d, struct bytes ballot, struct bytes signature,
		      struct digest *ret, struct error *err)
{
	AUTO_BUFFER b = {0};

	cbor_w_array(&b, 2);
	cbor_w_bytes(&b, ballot);
	cbor_w_bytes(&b, signature);
	return b.failed ? b.failed : journal_blob_put(d->journal, buffer_bytes(&b), ret, err);
}

static char *text_of(struct bytes b)
{
	return b.len ? bytes_dup_str(b) : NULL;
}

static int read_ballot(struct pending *p, const char *hex, const struct journal_approval *a,
		       const struct digest *file, struct error *err)
{
	struct vote_ballot *b = &p->ballot;

	size_t size = strlen(hex) / 2;

	if (size > VOTE_BALLOT_MAX || buffer_reserve(&p->bytes, size) < 0 ||
	    hex_decode(bytes_str(hex), p->bytes.data, size) < 0)
		return wrong(err, "the ballot is no hexadecimal of a size that a ballot has");
	p->bytes.len = size;
	if (vote_ballot_decode(buffer_bytes(&p->bytes), b) < 0)
		return wrong(err, "the ballot is not what supervisor/vote.h says");
	if (memcmp(b->approval, a->id.b, sizeof(b->approval)) != 0)
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "vote: what is signed is a vote on another item");
	if (!digest_equal(&b->file, file))
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "vote: what is signed names another file than the one that "
				      "came with it");
	if (b->signer.len && utf8_check_name(b->signer) < 0)
		return wrong(err, "the signer is no name");
	p->choice = text_of(b->choice);
	p->reason = text_of(b->reason);
	return (b->choice.len && !p->choice) || (b->reason.len && !p->reason) ? error_nomem(err)
									      : 0;
}

static int start_verify(struct daemon *d, struct pending *p, const struct journal_run *run,
			struct bytes signers, struct bytes signature, struct error *err)
{
	AUTO_FREE char *signer = bytes_dup_str(p->ballot.signer);
	char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)verify_script,
			(char *)"verify",  signer,	 NULL};
	struct jobs_file files[] = {{"ballot", buffer_bytes(&p->bytes)},
				    {"signature", signature},
				    {"signers", signers}};
	struct jobs_spec spec = {
		.run = run,
		.name = "verify",
		.argv = argv,
		.files = files,
		.file_count = ARRAY_SIZE(files),
		.stdin_fd = -1,
		.timeout_ms = VERIFY_TIMEOUT_MS,
		.done = on_verified,
		.drop = pending_free,
		.arg = p,
	};

	return signer ? jobs_start(d, &spec, err) : error_nomem(err);
}

static bool has_proof(const struct journal_approval *a, const struct digest *proof)
{
	for (uint32_t i = 0; i < a->vote_count; i++)
		if (digest_equal(&a->votes[i].proof, proof))
			return true;
	return false;
}

static int post_signed(struct daemon *d, const struct api_request *q,
		       const struct journal_approval *a, const char *hex, const char *signature,
		       const struct digest *file, uint64_t shown_ms, struct api_answer *answer,
		       struct error *err)
{
	AUTO(pending_free) struct pending *p = calloc(1, sizeof(*p));
	const struct journal_run *run = journal_state_run(d->rows, &a->run);
	struct runs_context *ctx;
	int r;

	if (!p)
		return error_nomem(err);
	if (!signature || strlen(signature) > VOTE_SIGNATURE_MAX)
		return wrong(err, "a ballot needs its signature, of at most 16 KiB");
	r = read_ballot(p, hex, a, file, err);
	if (r == 0)
		r = runs_get(d, &a->run, &ctx, err);
	if (r < 0)
		return r;
	if (!ctx->settings.signers)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "vote: the policy of this run names no signers, so no "
				      "signature counts; vote without --sign");
	r = keep_proof(d, buffer_bytes(&p->bytes), bytes_str(signature), &p->proof, err);
	if (r < 0)
		return r;
	if (has_proof(a, &p->proof)) { /* said before: the voter had no answer */
		answer_item(d, &a->id, answer);
		return 0;
	}
	p->approval = a->id;
	p->shown_ms = shown_ms;
	p->uid = q->uid;
	p->ticket = q->ticket;
	p->verifying = d;
	d->votes_verifying++;
	r = start_verify(d, p, run, bytes_str(ctx->settings.signers), bytes_str(signature), err);
	if (r < 0)
		return r;
	p = NULL;
	answer->later = true;
	return 0;
}

/* ---- a vote ---- */

static const char *member(const struct api_request *q, const char *key)
{
	return json_string_value(json_object_get(q->body, key));
}

/* "grant": {match, uses, seconds, scope}: the pattern is kept as the one text it has. */
static int read_grant(struct daemon *d, const struct journal_approval *a, const json_t *o,
		      struct engine_grant *ret, struct error *err)
{
	const struct journal_effect *f = journal_state_effect(d->rows, &a->effect);
	json_int_t uses = json_integer_value(json_object_get(o, "uses")),
		   seconds = json_integer_value(json_object_get(o, "seconds"));
	const char *scope = json_string_value(json_object_get(o, "scope"));
	AUTO(policy_free) struct policy *pattern = NULL;
	AUTO_FREE char *match = json_dumps(json_object_get(o, "match"),
					   JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
	int r;

	if (!f || !f->rule)
		return wrong(err, "only an effect that a rule asks about can be granted");
	if (!match || uses < 1 || seconds < 1 || seconds > 366ll * 86400 ||
	    (scope && strcmp(scope, "run") != 0 && strcmp(scope, "step") != 0))
		return wrong(err, "a grant is {match: {..}, uses, seconds, scope: run|step}");
	r = policy_grant_parse(f->rule, bytes_str(match), &pattern, err);
	if (r == 0)
		r = journal_blob_put(d->journal, bytes_str(match), &ret->pattern, err);
	if (r < 0)
		return r;
	ret->uses = (uint64_t)uses;
	ret->expires_ns = daemon_now().wall_ns + seconds * 1000000000;
	ret->step_only = scope && strcmp(scope, "step") == 0;
	return 0;
}

/* ---- what a grant would have let ---- */

enum { ACTION_SEEN_MAX = 64 * 1024, BODY_SEEN_MAX = 4 * 1024 * 1024 };

static bool would_let(struct daemon *d, const struct policy_effective *run_policy,
		      const struct journal_step *step, const struct journal_effect *f,
		      const struct policy *grant)
{
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	AUTO_BUFFER canonical = {0};
	AUTO_BUFFER body = {0};
	AUTO_FREE struct action *a = malloc(sizeof(*a));

	return a &&
	       policy_effective_step(run_policy, step->name, POLICY_AGENCY_UNSET, &e, NULL) == 0 &&
	       journal_blob_get(d->journal, &f->canonical, ACTION_SEEN_MAX, &canonical, NULL) ==
		       0 &&
	       action_decode(buffer_bytes(&canonical), a) == 0 &&
	       (digest_is_zero(&f->body) ||
		journal_blob_get(d->journal, &f->body, BODY_SEEN_MAX, &body, NULL) == 0) &&
	       effect_decide_granted(e, a, buffer_bytes(&body), grant);
}

int votes_preview(struct daemon *d, const struct api_request *q, const struct journal_approval *a,
		  struct api_answer *answer, struct error *err)
{
	const struct journal_effect *f = journal_state_effect(d->rows, &a->effect);
	const struct journal_run *run = journal_state_run(d->rows, &a->run);
	AUTO(policy_free) struct policy *pattern = NULL;
	AUTO_FREE char *match = json_dumps(json_object_get(q->body, "match"),
					   JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
	json_t *let = json_array();
	struct runs_context *ctx;
	uint32_t looked = 0;
	bool itself;
	int r = f && f->rule && run && match
			? policy_grant_parse(f->rule, bytes_str(match), &pattern, err)
			: wrong(err, "match is an object, of an effect's item");

	if (r == 0)
		r = runs_get(d, &a->run, &ctx, err);
	if (r != 0) {
		json_decref(let);
		return r;
	}
	for (uint32_t i = run->effect_count; i-- > 0 && looked < VOTES_PREVIEW; looked++) {
		const struct journal_effect *other = run->effects[i];

		if (other->rule && strcmp(other->rule, f->rule) == 0 &&
		    would_let(d, ctx->policy, run->steps[other->step], other, pattern))
			json_array_append_new(let, api_json_text(bytes_str(
							   other->title ? other->title : "")));
	}
	itself = would_let(d, ctx->policy, run->steps[f->step], f, pattern);
	answer->status = 200;
	answer->json = json_pack("{s:i, s:o, s:i, s:b}", "version", SUPERVISOR_API_VERSION,
				 "matched", let, "looked_at", (int)looked, "this", itself);
	return answer->json ? 0 : -ENOMEM;
}

static int post_plain(struct daemon *d, const struct api_request *q,
		      const struct journal_approval *a, const struct digest *file,
		      uint64_t shown_ms, struct api_answer *answer, struct error *err)
{
	const char *decision = member(q, "decision"), *card = member(q, "card_digest"),
		   *path = member(q, "path");
	struct engine_vote v = {.approval = a->id,
				.choice = member(q, "choice"),
				.reason = member(q, "reason"),
				.path = bytes_str(path ? path : ""),
				.file = *file,
				.auth = "peercred",
				.uid = q->uid,
				.shown_ms = shown_ms,
				.whole_rule = json_is_true(json_object_get(q->body, "whole_rule"))};
	const json_t *granted = json_object_get(q->body, "grant");
	struct engine_grant grant = {0};
	char principal[24];
	int r;

	if (!decision || (strcmp(decision, "approve") != 0 && strcmp(decision, "deny") != 0))
		return wrong(err, "decision is approve or deny");
	if (!card || digest_from_hex(bytes_str(card), &v.card) < 0)
		return wrong(err, "card_digest names the card that was shown");
	if ((v.reason && strlen(v.reason) > VOTE_TEXT_MAX) ||
	    (v.choice && strlen(v.choice) > VOTE_TEXT_MAX))
		return wrong(err, "the reason is too long");
	snprintf(principal, sizeof(principal), "uid:%u", q->uid);
	v.principal = principal;
	v.decision = decision[0] == 'a' ? JOURNAL_DECISION_APPROVE : JOURNAL_DECISION_DENY;
	if (granted) {
		r = read_grant(d, a, granted, &grant, err);
		if (r < 0)
			return r;
		v.grant = &grant;
	}
	r = vote(d, &v, err);
	if (r == 0)
		answer_item(d, &v.approval, answer);
	return r;
}

int votes_post(struct daemon *d, struct api_request *q, const struct journal_approval *a,
	       const struct digest *file, struct api_answer *answer, struct error *err)
{
	json_int_t shown = json_integer_value(json_object_get(q->body, "shown_ms"));
	const char *ballot = member(q, "ballot");
	uint64_t shown_ms = shown < 0 || shown > SHOWN_MAX_MS ? 0 : (uint64_t)shown;

	if (ballot)
		return post_signed(d, q, a, ballot, member(q, "signature"), file, shown_ms, answer,
				   err);
	return post_plain(d, q, a, file, shown_ms, answer, err);
}
