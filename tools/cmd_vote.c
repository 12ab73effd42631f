/* holdfast approve, deny: a person's word. */
#include "tools/vote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/digest.h"
#include "policy/policy.h"
#include "base/hex.h"
#include "tools/cli.h"
#include "tools/sign.h"
#include "tools/status_print.h"

/* The full digest that a vote names: what the person gave as --digest must be a prefix of the
 * card's, else the card is another. */
static int vote_digest(const struct vote *v, const json_t *doc, struct error *err)
{
	if (!v->digest)
		return 0;
	const char *card = cli_str(doc, "card_digest");
	size_t len = strlen(v->digest);
	if (len < 8 || strncmp(card, v->digest, len) != 0)
		return error_set_exit(err, -ESTALE, EXIT_STATUS_CONFLICT,
				      "the action is not the one of digest %.16s: its card is "
				      "%.16s now; look at 'holdfast show %.8s' again",
				      v->digest, card, cli_str(doc, "approval"));
	return 0;
}

/* What the file's bytes are is part of what is signed. */
static int digest_of_file(int fd, struct digest *ret)
{
	AUTO(digest_ctx_free) struct digest_ctx *ctx = digest_ctx_new();
	char piece[65536];
	off_t at = 0;
	ssize_t n;

	if (!ctx)
		return -ENOMEM;
	while ((n = pread(fd, piece, sizeof(piece), at)) > 0) {
		digest_ctx_update(ctx, piece, (size_t)n);
		at += n;
	}
	digest_ctx_final(ctx, ret);
	return n < 0 ? -errno : 0;
}

static int sign(const struct vote *v, const json_t *doc, int file, json_t *body, struct error *err)
{
	struct vote_ballot b = {.approve = !v->deny,
				.choice = bytes_str(v->choice ? v->choice : ""),
				.path = bytes_str(v->path ? v->path : ""),
				.reason = bytes_str(v->reason ? v->reason : ""),
				.signer = bytes_str(v->signer ? v->signer : "")};
	const char *id = cli_str(doc, "approval");
	int r = hex_decode(bytes_str(id), b.approval, VOTE_ID_SIZE);

	if (r == 0)
		r = digest_from_hex(bytes_str(cli_str(doc, "card_digest")), &b.card);
	if (r == 0 && file >= 0)
		r = digest_of_file(file, &b.file);
	if (r < 0)
		return error_set(err, r, "cannot sign: %s", strerror(-r));
	return sign_vote(v->sign, &b, body, err);
}

int vote_send(struct client *c, const struct vote *v, const json_t *doc, json_t **ret,
	      struct error *err)
{
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/approvals/%s/vote", cli_str(doc, "approval"));
	json_t *body = json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:I}", "decision",
				 v->deny ? "deny" : "approve", "card_digest",
				 cli_str(doc, "card_digest"), "choice", v->choice, "path", v->path,
				 "reason", v->reason, "shown_ms", (json_int_t)v->shown_ms);
	if (!body)
		return error_set_exit(err, -EILSEQ, EXIT_STATUS_USAGE,
				      "the reason or path is not UTF-8; say it in UTF-8");
	if (v->grant)
		json_object_set(body, "grant", v->grant);
	if (v->whole_rule)
		json_object_set_new(body, "whole_rule", json_true());
	struct client_request r = {.method = "POST",
				   .target = (const char *)target.data,
				   .body = body};
	AUTO_FD file = -1;
	if (v->file) {
		file = open(v->file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (file < 0) {
			json_decref(body);
			return error_set_exit(err, -errno, EXIT_STATUS_USAGE,
					      "cannot open %s: %s; name a file that you may read",
					      v->file, strerror(errno));
		}
		r.fds[r.fd_count++] = (struct client_fd){.name = "file", .fd = file};
	}
	int e = v->sign ? sign(v, doc, file, body, err) : 0;
	if (e == 0)
		e = client_call(c, &r, NULL, ret, NULL, err);
	json_decref(body);
	return e;
}

const char *vote_outcome(const struct vote *v, const json_t *answer)
{
	const char *state = cli_str(answer, "state");

	if (strcmp(state, "open") == 0 && cli_int(answer, "unanswered") > 0)
		return "recorded; the paths without an answer still wait for one";
	/* Consumed: what was approved has begun already. Open: more must agree. */
	return strcmp(state, "consumed") == 0 ? "approved"
	       : strcmp(state, "open") == 0   ? "recorded; it still waits for others"
	       : *state			      ? state
	       : v->deny		      ? "denied"
					      : "approved";
}

/* What it would have let is read before it is given. */
static int preview(struct client *c, const struct vote *v, const json_t *doc, struct error *err)
{
	AUTO_BUFFER target = {0};
	json_t *body = json_pack("{s:O}", "match", cli_get(v->grant, "match")), *answer = NULL;
	struct client_request r = {.method = "POST", .body = body};
	const json_t *matched, *title;
	const char *name;
	json_t *value;
	size_t i, j = 0;

	buffer_printf(&target, "/v1/approvals/%.32s/preview", cli_str(doc, "approval"));
	r.target = (const char *)target.data;
	int e = client_call(c, &r, NULL, &answer, NULL, err);
	json_decref(body);
	if (e < 0)
		return e;
	matched = cli_get(answer, "matched");
	if (!cli.json) {
		printf("the grant would have let %zu of the last %lld actions of the run:\n",
		       json_array_size(matched), (long long)cli_int(answer, "looked_at"));
		json_array_foreach(matched, i, title)
			printf("  %s\n", cli_escaped(json_string_value(title)));
		printf("it binds ");
		json_object_foreach(cli_get(v->grant, "match"), name, value)
			printf("%s%s", j++ ? ", " : "", cli_escaped(name));
		printf(" alone: a path, host, method or field that it does not name may be any "
		       "that the rule covers\n");
	}
	if (!cli_bool(answer, "this"))
		e = error_set_exit(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"nothing was decided: the grant does not cover the action that is "
			"approved with it; look at its fields in the card");
	json_decref(answer);
	return e;
}

/* The vote decided that something lands or is taken back: it begins at once. */
static bool lets_land(const json_t *doc, const json_t *answer)
{
	const char *kind = cli_str(doc, "kind");

	return strcmp(cli_str(answer, "state"), "open") != 0 &&
	       (strcmp(kind, "landing") == 0 || strcmp(kind, "conflict") == 0);
}

/* The same word was said before, and is what counts. */
static void tell_decided(const struct vote *v, const json_t *doc)
{
	const json_t *votes = cli_get(doc, "votes"),
		     *last = json_array_get(votes, json_array_size(votes) - 1);

	printf(": already %s by %s at %s\n", v->deny ? "denied" : "approved",
	       cli_escaped(cli_str(last, "principal")), cli_escaped(cli_str(last, "at")));
}

static int cast(struct vote *v)
{
	struct error err = {0};
	AUTO(client_close) struct client *c = NULL;
	if (client_open(cli.state, CLIENT_START_THERE, &c, &err) < 0)
		return cli_fail(&err);
	AUTO_BUFFER target = {0};
	buffer_append_str(&target, "/v1/approvals/");
	client_encode(&target, v->id);
	int exit_status = EXIT_STATUS_OK;
	json_t *doc = cli_fetch(c, (const char *)target.data, &exit_status);
	if (!doc)
		return exit_status;
	int r = vote_digest(v, doc, &err);
	int64_t since = client_now_ms();
	if (r == 0 && !v->digest && !cli.json) {
		cli_print_text(cli_str(doc, "card"));
		status_print_digest(doc);
		status_print_answers(doc, "");
	}
	bool was_open = strcmp(cli_str(doc, "state"), "open") == 0;
	if (r == 0 && was_open && !v->digest && !v->deny &&
	    json_is_false(cli_get(doc, "complete")))
		r = error_set_exit(
			&err, -EPERM, EXIT_STATUS_WAITING,
			"nothing was decided: the card does not show all of it; see 'holdfast diff "
			"%.8s', then 'holdfast approve %.8s --digest %.16s'",
			cli_str(doc, "run"), cli_str(doc, "approval"), cli_str(doc, "card_digest"));
	if (r == 0 && v->grant)
		r = preview(c, v, doc, &err);
	bool interactive =
		isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !cli.no_input && !cli.json;
	if (r == 0 && was_open && !v->digest && interactive && !v->yes &&
	    !cli_confirm(v->deny ? "deny" : "approve"))
		r = error_set_exit(
			&err, -ECANCELED, EXIT_STATUS_WAITING,
			"nothing was decided: it still waits; 'holdfast approve %.8s' asks again",
			cli_str(doc, "approval"));
	json_t *answer = NULL;
	if (interactive && !v->digest)
		v->shown_ms = (uint64_t)(client_now_ms() - since);
	if (r == 0)
		r = vote_send(c, v, doc, &answer, &err);
	if (r == 0 && !cli.json) {
		fputs(cli_escaped(cli_str(doc, "title")), stdout);
		if (was_open)
			printf(": %s\n", cli_escaped(vote_outcome(v, answer)));
		else
			tell_decided(v, doc);
		fflush(stdout);
	}
	if (r == 0 && !v->deny && lets_land(doc, answer))
		exit_status = status_tell_voted(c, doc, answer);
	if (r == 0 && cli.json)
		cli_print_json(json_incref(answer));
	json_decref(answer);
	json_decref(doc);
	return r < 0 ? cli_fail(&err) : exit_status;
}

static const char approve_usage[] =
	"usage: holdfast approve ID [--as CHOICE] [--path P] [--digest D] [--reason T] [--sign KEY "
	"[--signer NAME]]\n"
	"                       [--yes]\n"
	"CHOICE: conflict mine|theirs|file=F; exhausted retry|fail; diverged accept|fork|fail. The "
	"others need none.\n"
	"Prints the card and votes with that card's digest; with --digest it votes only if the "
	"action is still that one. --sign: signed by that SSH key (ssh-keygen -Y sign), where the "
	"policy asks for it.\n"
	"--grant FIELD=GLOB, FIELD<=N, FIELD>=N, FIELD=A|B (several: all of them) lets the next "
	"ones of "
	"its rule too, --uses N\n"
	"(10), --expires 1h, --scope run|step: field is method, host, path, remote, ref, an "
	"argument, "
	"a JSON pointer.\n";
static const char deny_usage[] = "usage: holdfast deny ID [--rule] [--digest D] [--reason T] "
				 "[--sign KEY [--signer NAME]] [--yes]\n"
				 "       holdfast deny RUN --revoke GRANT\n"
				 "One deny decides. --rule: all that its rule asks about in this "
				 "run, now and later. --revoke takes "
				 "a grant or a denied\nrule back.\n";

/* FIELD=VALUE (a glob), FIELD<=N, FIELD>=N, FIELD=A|B: one field of what a grant covers. */
static int add_match(json_t *match, const char *text)
{
	size_t len = strcspn(text, "=");
	const char *value = text + len + 1;
	bool most = len > 0 && text[len - 1] == '<', least = len > 0 && text[len - 1] == '>';
	char name[256];
	json_t *v;

	if (!text[len] || len == 0 || len >= sizeof(name))
		return -EINVAL;
	snprintf(name, sizeof(name), "%.*s", (int)(len - (most || least)), text);
	if (most || least) {
		v = json_pack("{s:o}", most ? "max" : "min",
			      json_integer(strtoll(value, NULL, 10)));
		if (!*value || strspn(value, "-0123456789") != strlen(value))
			return -EINVAL;
	} else if (strchr(value, '|')) {
		AUTO_FREE char *copy = strdup(value);
		json_t *list = json_array();
		char *at = copy;

		for (char *word; (word = strsep(&at, "|"));)
			json_array_append_new(list, json_string(word));
		v = json_pack("{s:o}", "in", list);
	} else {
		v = json_string(value);
	}
	return v && !json_object_get(match, name) && json_object_set_new(match, name, v) == 0
		       ? 0
		       : -EINVAL;
}

static int take_back(const char *run, const char *grant)
{
	struct error err = {0};
	AUTO(client_close) struct client *c = NULL;
	AUTO_BUFFER target = {0};
	json_t *body = json_pack("{s:s}", "grant", grant), *answer = NULL;
	struct client_request r = {.method = "POST", .body = body};
	int e = client_open(cli.state, CLIENT_START_THERE, &c, &err);

	buffer_append_str(&target, "/v1/runs/");
	client_encode(&target, run);
	buffer_append_str(&target, "/revoke");
	r.target = (const char *)target.data;
	if (e == 0)
		e = client_call(c, &r, NULL, &answer, NULL, &err);
	json_decref(body);
	if (e == 0 && cli.json)
		cli_print_json(json_incref(answer));
	else if (e == 0)
		puts("taken back");
	json_decref(answer);
	return e < 0 ? cli_fail(&err) : EXIT_STATUS_OK;
}

/* What the command line says of a vote. */
struct said {
	struct vote v;
	json_t *match; /* of --grant; owned */
	const char *bad_grant; /* the --grant that is none */
	const char *uses, *expires, *scope, *revoke;
};

static void said_free(struct said *s)
{
	json_decref(s->match);
	json_decref(s->v.grant);
}

/* What of it does not go together, and what to do; NULL: nothing. */
static const char *contradiction(const struct said *s)
{
	const struct vote *v = &s->v;
	bool granted = json_object_size(s->match) > 0;

	if (v->deny && v->choice)
		return "deny takes no --as: one deny decides; leave it out";
	if (v->deny && granted)
		return "--grant goes with 'holdfast approve'; leave it out";
	if (!v->deny && (v->whole_rule || s->revoke))
		return "--rule and --revoke go with 'holdfast deny'; leave them out";
	if (s->revoke && (v->whole_rule || v->digest || v->reason || v->sign))
		return "--revoke takes a grant back and votes on nothing; leave the rest out";
	if (!granted && (s->uses || s->expires || s->scope))
		return "--uses, --expires and --scope say how far a --grant goes; give one";
	if (v->signer && !v->sign)
		return "--signer says whose --sign KEY it is; give --sign KEY too";
	if (v->path && !v->choice)
		return "--path is for one path of a conflict; say --as mine, theirs or file=F too";
	return NULL;
}

/* --uses and --expires, and what the grant is as the supervisor takes it. */
static int make_grant(struct said *s, const char *usage)
{
	uint64_t expires_ms = 3600 * 1000;
	json_int_t uses = 10;
	char *end;

	if (s->uses) {
		errno = 0;
		uses = strtoll(s->uses, &end, 10);
		if (errno || end == s->uses || *end || uses < 1)
			return cli_usage(usage,
					 "--uses '%.40s' is no number from 1 up; say how "
					 "often, such as 10",
					 s->uses);
	}
	if (s->expires && policy_duration_parse(bytes_str(s->expires), &expires_ms) < 0)
		return cli_usage(usage, "--expires '%.40s' is no duration; write 1h, 30m or 2d",
				 s->expires);
	if (json_object_size(s->match) > 0)
		s->v.grant = json_pack("{s:O, s:I, s:I, s:s}", "match", s->match, "uses", uses,
				       "seconds", (json_int_t)(expires_ms / 1000), "scope",
				       s->scope ? s->scope : "run");
	return EXIT_STATUS_OK;
}

static int parse_and_cast(int argc, char **argv, bool deny)
{
	enum {
		AS = CLI_OPT_OWN,
		PATH,
		DIGEST,
		REASON,
		SIGN,
		SIGNER,
		GRANT,
		USES,
		EXPIRES,
		SCOPE,
		RULE,
		REVOKE,
		YES
	};
	static const struct option options[] = {CLI_OPTIONS,
						{"as", required_argument, NULL, AS},
						{"path", required_argument, NULL, PATH},
						{"digest", required_argument, NULL, DIGEST},
						{"reason", required_argument, NULL, REASON},
						{"sign", required_argument, NULL, SIGN},
						{"signer", required_argument, NULL, SIGNER},
						{"grant", required_argument, NULL, GRANT},
						{"uses", required_argument, NULL, USES},
						{"expires", required_argument, NULL, EXPIRES},
						{"scope", required_argument, NULL, SCOPE},
						{"rule", no_argument, NULL, RULE},
						{"revoke", required_argument, NULL, REVOKE},
						{"yes", no_argument, NULL, YES},
						{0}};
	__attribute__((cleanup(said_free))) struct said s = {.v.deny = deny,
							     .match = json_object()};
	const char *usage = deny ? deny_usage : approve_usage;
	int opt;
	while ((opt = cli_getopt(argc, argv, "", options)) != -1) {
		if (opt == AS)
			s.v.choice = optarg;
		else if (opt == PATH)
			s.v.path = optarg;
		else if (opt == DIGEST)
			s.v.digest = optarg;
		else if (opt == REASON)
			s.v.reason = optarg;
		else if (opt == SIGN)
			s.v.sign = optarg;
		else if (opt == SIGNER)
			s.v.signer = optarg;
		else if (opt == GRANT)
			s.bad_grant = add_match(s.match, optarg) < 0 ? optarg : s.bad_grant;
		else if (opt == USES)
			s.uses = optarg;
		else if (opt == EXPIRES)
			s.expires = optarg;
		else if (opt == SCOPE)
			s.scope = optarg;
		else if (opt == RULE)
			s.v.whole_rule = true;
		else if (opt == REVOKE)
			s.revoke = optarg;
		else if (opt == YES)
			s.v.yes = true;
		else {
			int r = cli_option(opt, usage);
			if (r)
				return r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
		}
	}
	int wrong = cli_words(argc, argv, 1, 1, s.revoke ? "RUN" : "ID", usage);
	if (wrong)
		return wrong;
	if (s.bad_grant)
		return cli_usage(
			usage,
			"--grant '%.60s' is no FIELD=GLOB, FIELD<=N, FIELD>=N or FIELD=A|B, "
			"or names a field again",
			s.bad_grant);
	if (s.revoke && (strlen(s.revoke) != 32 || strspn(s.revoke, "0123456789abcdef") != 32))
		return cli_usage(usage,
				 "--revoke '%.40s' is no grant's id, which has 32 hex digits; "
				 "'holdfast log RUN' has them",
				 s.revoke);
	const char *contradicts = contradiction(&s);
	if (contradicts)
		return cli_usage(usage, "%s", contradicts);
	wrong = make_grant(&s, usage);
	if (wrong)
		return wrong;
	if (s.revoke)
		return take_back(argv[optind], s.revoke);
	s.v.id = argv[optind];
	if (s.v.choice && strncmp(s.v.choice, "file=", 5) == 0) {
		s.v.file = s.v.choice + 5;
		s.v.choice = "file";
	}
	return cast(&s.v);
}

int cmd_approve(int argc, char **argv)
{
	return parse_and_cast(argc, argv, false);
}

int cmd_deny(int argc, char **argv)
{
	return parse_and_cast(argc, argv, true);
}
