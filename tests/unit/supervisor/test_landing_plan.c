/* Planning a landing: what a net change, the policy and the user's directory come to; and its
 * canonical form. */
#include "tests/golden.h"
#include "base/escape.h"
#include "supervisor/diff.h"
#include "supervisor/landing_plan.h"

enum { START = 1000, OLD = 5, NEW = START };

/*
 * Layers, a "|" between two, entries separated by "; ":   TYPE PATH BASE
 *   TYPE  f, s and a letter (file or symlink of that content), d folder, w whiteout, i implied
 * whiteout, p FIFO, u setuid file, m folder of mode 0700 BASE  what the sealer saw: - nothing, d, f
 * and a letter, s and a letter Facts, separated by "; ":   TYPE PATH
 * [new|moved|again|full|chmod|unread] of what is in the directory (x: not to be looked at); what is
 * not named is not there. Base D is a folder with a ctime that is not older than the start.
 * A ctime is old but with `new` (not older than the start); a folder that was `moved` has an old
 * mtime with it; one that is `full` holds a name more than the run knows.
 */
static void set_content(char c, struct digest *d)
{
	digest_of(bytes_of(&c, 1), d);
}

static struct manifest_seen seen(const char *text)
{
	struct manifest_seen s = {.ctime_ns = OLD, .ino = 7, .mode = 0644, .size = 1};

	switch (text[0]) {
	case 'D':
		s.ctime_ns = NEW;
		/* fall through */
	case 'd':
		s.type = MANIFEST_DIR;
		s.mode = 0755;
		break;
	case 'f':
		s.type = MANIFEST_FILE;
		break;
	case 's':
		s.type = MANIFEST_SYMLINK;
		break;
	default:
		return (struct manifest_seen){.type = MANIFEST_ABSENT};
	}
	if (s.type != MANIFEST_DIR) {
		s.has_digest = true;
		set_content(text[1], &s.digest);
	}
	return s;
}

static void add_entry(struct manifest *m, char *text)
{
	char *save = NULL;
	char *type = strtok_r(text, " ", &save);
	char *path = strtok_r(NULL, " ", &save);
	char *base = strtok_r(NULL, " ", &save);
	struct manifest_entry e = {.path = bytes_str(path), .mode = 0644, .mtime_ns = 1};
	struct error err = {0};

	assert_non_null(base);
	e.base = seen(base);
	switch (type[0]) {
	case 'u':
		e.mode = 04755;
		/* fall through */
	case 'f':
		e.type = MANIFEST_FILE;
		e.size = 1;
		set_content(type[1], &e.digest);
		break;
	case 's':
		e.type = MANIFEST_SYMLINK;
		e.target = bytes_of(&type[1], 1);
		break;
	case 'm':
	case 'd':
		e.type = MANIFEST_DIR;
		e.mode = type[0] == 'm' ? 0700 : 0755;
		break;
	case 'p':
		e.type = MANIFEST_FIFO;
		break;
	default:
		e.type = MANIFEST_WHITEOUT;
		e.implied = type[0] == 'i';
	}
	if (manifest_add(m, &e, &err) < 0)
		fail_msg("%s", err.msg);
}

static size_t parse_layers(const char *text, struct landing_layer *layers)
{
	AUTO_FREE char *copy = strdup(text);
	size_t n = 0;
	char *outer = NULL;

	for (char *l = strtok_r(copy, "|", &outer); l; l = strtok_r(NULL, "|", &outer)) {
		struct manifest *m = manifest_new();
		char *next;

		for (char *at = l; at && *at; at = next) {
			next = strstr(at, "; ");
			if (next) {
				*next = '\0';
				next += 2;
			}
			add_entry(m, at);
		}
		assert_int_equal(manifest_finish(m, NULL), 0);
		snprintf(layers[n].name, sizeof(layers[n].name), "l%u", (unsigned)n % 10);
		layers[n++].manifest = m;
	}
	return n;
}

static void add_fact(struct landing_facts *f, char *text)
{
	char *save = NULL;
	char *type = strtok_r(text, " ", &save);
	char *path = strtok_r(NULL, " ", &save);
	char *mark = strtok_r(NULL, " ", &save);
	struct landing_state s = {.ctime_ns = OLD, .mtime_ns = OLD, .ino = 7, .uid = 1, .gid = 2};

	if (mark && (strcmp(mark, "new") == 0 || strcmp(mark, "moved") == 0))
		s.ctime_ns = NEW;
	if (mark && (strcmp(mark, "new") == 0 || strcmp(mark, "again") == 0))
		s.mtime_ns = NEW;
	if (mark && strcmp(mark, "again") == 0) {
		s.ctime_ns = NEW;
		s.plain = true;
	}
	switch (type[0]) {
	case 'd':
		s.type = MANIFEST_DIR;
		s.mode = mark && strcmp(mark, "chmod") == 0 ? 0711 : 0755;
		s.entries = mark && strcmp(mark, "full") == 0 ? 1000 : 0;
		break;
	case 'p':
		s.type = MANIFEST_FIFO;
		break;
	case 'x':
		s = (struct landing_state){.target = bytes_of("", 0), .unseen = true};
		break;
	case 's':
		s.type = MANIFEST_SYMLINK;
		s.target = bytes_of(&type[1], 1);
		s.size = 1;
		s.has_digest = true;
		set_content(type[1], &s.digest);
		break;
	default:
		s.type = MANIFEST_FILE;
		s.mode = mark && strcmp(mark, "chmod") == 0 ? 0600 : 0644;
		s.size = 1;
		s.has_digest = !mark || strcmp(mark, "unread") != 0;
		if (s.has_digest)
			set_content(type[1], &s.digest);
	}
	assert_int_equal(landing_facts_add(f, bytes_str(path), &s), 0);
}

static struct landing_facts *parse_facts(const char *text)
{
	AUTO_FREE char *copy = strdup(text);
	struct landing_facts *f = landing_facts_new();
	char *next;

	for (char *at = copy; at && *at; at = next) {
		next = strstr(at, "; ");
		if (next) {
			*next = '\0';
			next += 2;
		}
		add_fact(f, at);
	}
	return f;
}

static const char *const policy_text =
	"version: 1\nname: t\nfs:\n"
	"  - {path: \"${workspace}\", access: stage}\n"
	"  - {path: \"${workspace}/ro\", access: r}\n"
	"  - {path: \"${workspace}/build\", access: scratch}\n"
	"  - {path: \"${workspace}/.git/hooks\", access: r}\n"
	"  - {path: \"${workspace}/deep/down/secret\", access: none}\n";

struct rig {
	struct policy *policy;
	struct policy_effective *effective;
	struct policy_fs *fs;
	struct landing_layer layers[4];
	size_t layer_count;
	struct landing_facts *facts;
	struct landing_inputs in;
};

static void rig_open(struct rig *r, const char *layers, const char *facts)
{
	struct policy_vars vars = {.workspace = "/w",
				   .home = "/home/u",
				   .tmp = "/tmp",
				   .run = "/run/holdfast"};
	struct policy_input input = {.layer = POLICY_LAYER_RUN};
	struct error err = {0};

	*r = (struct rig){0};
	assert_int_equal(policy_parse(bytes_str(policy_text), "t.yaml", NULL, &r->policy), 0);
	input.policy = r->policy;
	if (policy_combine(&(struct policy_combine){.inputs = &input, .count = 1}, &r->effective,
			   &err) < 0 ||
	    policy_fs_new(r->effective, &vars, &r->fs, &err) < 0)
		fail_msg("%s: %s", err.where, err.msg);
	r->layer_count = parse_layers(layers, r->layers);
	r->facts = parse_facts(facts);
	r->in = (struct landing_inputs){.layers = r->layers,
					.layer_count = r->layer_count,
					.fs = r->fs,
					.workspace = "/w",
					.ws_dev = 3,
					.ws_ino = 4,
					.uid = 1,
					.gid = 2,
					.facts = r->facts};
	landing_clock_start(&r->in.clock, START, 1);
}

static void rig_close(struct rig *r)
{
	for (size_t i = 0; i < r->layer_count; i++)
		manifest_free((struct manifest *)r->layers[i].manifest);
	landing_facts_free(r->facts);
	policy_fs_free(r->fs);
	policy_effective_free(r->effective);
	policy_free(r->policy);
}

static struct landing_plan *make(struct rig *r)
{
	struct landing_plan *p = NULL;
	struct error err = {0};

	if (landing_plan_make(&r->in, &p, &err) < 0)
		fail_msg("%s", err.msg);
	return p;
}

/* "A path", "- path why" left out, "! path why" conflicts; a line each. */
static void describe(const struct landing_plan *p, struct buffer *out)
{
	for (size_t i = 0; i < p->action_count; i++) {
		buffer_printf(out, "%c ", landing_action_letter(&p->actions[i]));
		escape_append(out, p->actions[i].path, ESCAPE_LINE);
		buffer_append_str(out, p->actions[i].from == LANDING_FROM_BLOB ? " blob\n" : "\n");
	}
	for (size_t i = 0; i < p->out_count; i++)
		buffer_printf(out, "- %.*s %s\n", (int)p->out[i].path.len,
			      (const char *)p->out[i].path.data,
			      landing_out_why_name(p->out[i].why));
	for (size_t i = 0; i < p->conflict_count; i++)
		buffer_printf(out, "! %.*s %s\n", (int)p->conflicts[i].path.len,
			      (const char *)p->conflicts[i].path.data,
			      landing_conflict_why_text(p->conflicts[i].why));
}

static const struct plan_case {
	const char *rule;
	const char *layers;
	const char *facts;
	const char *want;
} cases[] = {
	{"a new file, an edit, a deletion", "fx a -; fx b fb; w c fc", "fb b; fc c",
	 "A a\nM b\nD c\n"},
	{"another type", "fx a d; sx b fb; d c fc", "d a; fb b; fc c", "T a\nT b\nT c\n"},
	{"folders before what is in them", "d d -; fx d-a -; fx d/f -", "", "A d\nA d-a\nA d/f\n"},
	{"a copied-up folder is no change", "d d d; fx d/f fa", "d d; fa d/f", "M d/f\n"},
	{"what is there already is not landed", "fx a -; w b fb; fx c fc; sx l sa",
	 "fx a new; fx c new; sx l new", ""},
	{"the same folder made by both", "m d -; fx d/f -", "d d new", "A d/f\n"},
	{"the net of two layers", "fx a fa; fy n -|fz a fx; w n -", "fa a", "M a\n"},

	{"ctime as old as the start", "fx a fa", "fa a new", "! a changed since the run began\n"},
	{"written again with what it held", "fx a fa; w b fb", "fa a again; fb b again",
	 "M a\nD b\n"},
	{"written again with something else", "fx a fa", "fb a again",
	 "! a changed since the run began\n"},
	{"deleted, and changed since", "w a fa", "fb a new", "! a changed since the run began\n"},
	{"other content with an old ctime", "fx a fa", "fb a", "! a not what the run saw\n"},
	{"another mode with an old ctime", "fx a fa", "fa a chmod", "! a not what the run saw\n"},
	{"another type with an old ctime", "fx a fa", "d a", "! a not what the run saw\n"},
	{"gone", "fx a fa", "", "! a removed since the run saw it\n"},
	{"appeared", "fx a -", "fb a", "! a made since the run looked\n"},
	{"a file where the run makes a folder", "d a -; fx a/b -", "fb a",
	 "A a/b\n! a made since the run looked\n"},
	{"the folder is gone", "d d d; fx d/n -", "", "! d/n a folder above it is gone\n"},
	{"the folder is a link", "d d d; fx d/n -", "sx d new",
	 "A d/n\n! d the folder is not there any more\n"},
	{"a file in the place of a folder far up", "d a d; d a/b d; fx a/b/n -; w a/c fc",
	 "fx a new", "A a/b/n\n! a the folder is not there any more\n"},
	{"in whose place something stands, but where nothing is to be done",
	 "d d d; w d/f fa; d e d; fx b -", "fx d new; fx e new", "A b\n"},
	{"the folder was moved here", "d d d; fx d/n -; fx d/f fa", "d d moved; fa d/f",
	 "! d/f a folder above it was moved here, or given another mode or owner\n! d/n a folder "
	 "above it was moved here, or given another mode or owner\n"},
	{"a folder above it far up was moved here", "d a d; d a/b d; fx a/b/n -",
	 "d a moved; d a/b",
	 "! a/b/n a folder above it was moved here, or given another mode or owner\n"},
	{"the user works in the folder", "d d d; fx d/n -", "d d new", "A d/n\n"},
	{"a folder's mode, while names in it changed", "m d d", "d d new", "M d\n"},
	{"a folder's mode, while the sealer found the folder changed: it may be the user's",
	 "m d D", "d d new", "! d changed since the run began\n"},
	{"a folder's mode, changed by both", "m d d", "d d chmod", "! d not what the run saw\n"},
	{"a deleted folder that holds more", "w d d; i d/f fa", "d d full; fa d/f",
	 "D d/f\n! d holds files that the run knows nothing of\n"},
	{"a deleted folder, changed since", "w d d; i d/f fa", "d d new; fa d/f",
	 "D d/f\n! d changed since the run began\n"},
	{"a file that cannot be read", "fx a fa", "fa a unread",
	 "! a the system refused the change\n"},
	{"below a folder that may not be passed: neither gone nor nothing",
	 "d d d; d d/e d; fx d/f fa; fx d/g -; w d/h fb; fx d/e/k fa; fx b -",
	 "d d; x d/e; x d/f; x d/g; x d/h; x d/e/k",
	 "A b\n! d/e/k the system refused the change\n! d/f the system refused the change\n"
	 "! d/g the system refused the change\n! d/h the system refused the change\n"},

	{"refused by the policy", "d ro d; fx ro/a fa; fx b -", "d ro; fa ro/a",
	 "A b\n- ro/a policy\n"},
	{"scratch never lands", "d build -; fx build/o -; fx b -", "",
	 "A b\n- build scratch\n- build/o scratch\n"},
	{"a case twin of what is protected", "d .GIT -; d .GIT/hooks -; fx .GIT/hooks/x -", "",
	 "- .GIT empty\n- .GIT/hooks policy\n- .GIT/hooks/x policy\n"},
	{"an empty folder is one", "d d -; d e -; p e/p -; d e-f -", "",
	 "A d\nA e-f\n- e empty\n- e/p type\n"},
	{"a file in a protected folder's place", "fx .git d; i .git/hooks d; i .git/hooks/a fa",
	 "d .git; d .git/hooks; fa .git/hooks/a",
	 "- .git policy\n- .git/hooks policy\n- .git/hooks/a policy\n"},
	{"a folder in the place of a link that stands for a protected one",
	 "d .git sa; fx .git/a -", "sa .git", "- .git policy\n- .git/a folder\n"},
	{"a folder that keeps something protected is kept", "w d d; i d/f fa|fx x -", "d d; fa d/f",
	 "D d\nD d/f\nA x\n"},
	{"what is above something protected is not removed", "w deep d; i deep/down d; i deep/f fa",
	 "d deep; d deep/down; fa deep/f", "D deep/f\n- deep policy\n- deep/down policy\n"},
	{"setuid stays behind", "ux a -", "", "A a\n- a bits\n"},
	{"a FIFO stays behind", "p a -; fx b -", "", "A b\n- a type\n"},
	{"over the user's FIFO nothing lands", "fx a -", "p a new", "- a type\n"},
	{"names of landing itself",
	 "d .holdfast-land-x -; fx .holdfast-land-x/a -; fx d.holdfast-land-y -", "",
	 "A d.holdfast-land-y\n- .holdfast-land-x reserved\n- .holdfast-land-x/a reserved\n"},
};

static void planned(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct landing_plan *p;
		AUTO_BUFFER got = {0};
		struct rig r;

		rig_open(&r, cases[i].layers, cases[i].facts);
		p = make(&r);
		describe(p, &got);
		if (strcmp(got.data ? (char *)got.data : "", cases[i].want) != 0)
			fail_msg("%s:\n%s-- but not\n%s", cases[i].rule, (char *)got.data,
				 cases[i].want);
		landing_plan_free(p);
		rig_close(&r);
	}
}

/* A person's answers, bound to what was shown. */
static const struct choice_case {
	const char *rule;
	const char *layers;
	const char *shown; /* facts when the conflicts were shown */
	const char *facts; /* and now */
	const char *choices; /* "path=mine|theirs|file", separated by a space; no path: all */
	const char *want;
} choice_cases[] = {
	{"mine leaves the path", "fx a fa; fx b fb", "fc a new; fb b", "fc a new; fb b", "a=mine",
	 "M b\n- a mine\n"},
	{"theirs lands over it", "fx a fa", "fc a new", "fc a new", "a=theirs", "M a\n"},
	{"a file goes in", "fx a fa", "fc a new", "fc a new", "a=file", "M a blob\n"},
	{"for all", "fx a fa; fx b fb", "fc a new; fc b new", "fc a new; fc b new", "=theirs",
	 "M a\nM b\n"},
	{"one by name, the others together", "fx a fa; fx b fb", "fc a new; fc b new",
	 "fc a new; fc b new", "b=mine =theirs", "M a\n- b mine\n"},
	{"a choice for all is for those that were shown", "fx a fa; fx b fb", "fc a new; fb b",
	 "fc a new; fc b new", "=theirs", "M a\n! b changed since the run began\n"},
	{"changed again after it was shown", "fx a fa", "fc a new", "fd a new", "a=theirs",
	 "! a changed since the run began\n"},
	{"mine, changed again", "fx a fa", "fc a new", "fd a new", "a=mine", "- a mine\n"},
	{"theirs makes the folder again", "d d d; fx d/f fa", "", "", "d/f=theirs", "A d\nA d/f\n"},
	{"theirs does not go through a link", "d d d; fx d/f fa", "sx d new", "sx d new",
	 "d/f=theirs", "A d/f\n! d the folder is not there any more\n"},
	{"theirs of a folder's place brings it back with all in it",
	 "d d d; d d/e d; fx d/e/f fa; w d/g fb; fy d/h -", "fx d new", "fx d new", "d=theirs",
	 "T d\nA d/e\nA d/e/f\nA d/h\n"},
	{"theirs in the place of a link", "d d d; fx d/f fa", "sx d new", "sx d new", "=theirs",
	 "T d\nA d/f\n"},
	{"theirs of a place that changed again", "d d d; fx d/f fa", "sx d new", "sy d new",
	 "=theirs", "A d/f\n! d the folder is not there any more\n"},
	{"mine of a folder's place leaves out all in it", "d d d; fx d/f fa; fx b -", "fx d new",
	 "fx d new", "d=mine", "A b\n- d mine\n- d/f folder\n"},
	{"a file for a folder's place leaves out all in it", "d d d; fx d/f fa", "fx d new",
	 "fx d new", "d=file", "M d blob\n- d/f folder\n"},
	{"a file for a new folder's place", "d d -; fx d/f -", "fy d new", "fy d new", "d=file",
	 "M d blob\n- d/f folder\n"},
	{"nothing displaces a pipe", "d d d; fx d/f fa", "p d new", "p d new", "=theirs",
	 "A d/f\n! d the folder is not there any more\n"},
	{"nothing lands where the policy refuses it", "d ro d; d ro/in d; fx b -", "fx ro new",
	 "fx ro new", "=theirs", "A b\n"},
	{"theirs does not remove what the run never saw", "w d d; i d/f fa", "d d full; fa d/f",
	 "d d full; fa d/f", "d=theirs", "D d/f\n! d holds files that the run knows nothing of\n"},
	{"mine in a folder that the run removes keeps the folder", "w d d; i d/f fa; i d/g fb",
	 "d d; fc d/f new; fb d/g", "d d; fc d/f new; fb d/g", "d/f=mine",
	 "D d/g\n- d not-empty\n- d/f mine\n"},
	{"mine of a folder's place keeps what is in it out", "d a -; fx a/b -", "fb a", "fb a",
	 "a=mine", "- a mine\n- a/b folder\n"},
	{"no choice, no landing", "fx a fa; fx b fb", "fc a new; fc b new", "fc a new; fc b new",
	 "a=theirs", "M a\n! b changed since the run began\n"},
};

static size_t parse_choices(char *text, struct landing_choice *ret)
{
	char *save = NULL;
	size_t n = 0;

	for (char *c = strtok_r(text, " ", &save); c; c = strtok_r(NULL, " ", &save)) {
		char *eq = strchr(c, '=');

		ret[n] = (struct landing_choice){.path = bytes_of(c, (size_t)(eq - c)),
						 .file_size = 9};
		ret[n].kind = eq[1] == 'm'   ? LANDING_CHOICE_MINE
			      : eq[1] == 't' ? LANDING_CHOICE_THEIRS
					     : LANDING_CHOICE_FILE;
		digest_of(bytes_str("the file "), &ret[n++].file);
	}
	return n;
}

static void answered(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(choice_cases); i++) {
		const struct choice_case *c = &choice_cases[i];
		AUTO_FREE char *text = strdup(c->choices);
		struct landing_choice choices[4];
		struct landing_plan *shown;
		struct landing_plan *p;
		AUTO_BUFFER got = {0};
		struct rig before;
		struct rig r;

		rig_open(&before, c->layers, c->shown);
		shown = make(&before);
		rig_open(&r, c->layers, c->facts);
		r.in.shown = shown->conflicts;
		r.in.shown_count = shown->conflict_count;
		r.in.choice_count = parse_choices(text, choices);
		r.in.choices = choices;
		p = make(&r);
		describe(p, &got);
		if (strcmp(got.data ? (char *)got.data : "", c->want) != 0)
			fail_msg("%s:\n%s-- but not\n%s", c->rule, (char *)got.data, c->want);
		landing_plan_free(p);
		landing_plan_free(shown);
		rig_close(&r);
		rig_close(&before);
	}
}

/* What displaced a folder is what is asked about, once for all that lies in it. */
static void what_stands_in_a_folders_place_is_named(void **state)
{
	struct landing_plan *p;
	struct rig r;

	(void)state;
	rig_open(&r, "d d d; fx d/f fa", "sx d new");
	p = make(&r);
	assert_int_equal(p->conflict_count, 1);
	assert_int_equal(p->conflicts[0].why, LANDING_CONFLICT_PLACE);
	assert_string_equal(landing_conflict_why_text(p->conflicts[0].why),
			    "the folder is not there any more");
	static const char text[] =
		"a link stands in its place; 1 change of the run in the folder follows this";

	assert_int_equal(p->conflicts[0].text.len, sizeof(text) - 1);
	assert_memory_equal(p->conflicts[0].text.data, text, sizeof(text) - 1);
	landing_plan_free(p);
	rig_close(&r);
}

/* Written again with the same bytes, but: the sealer saw the file as the person had edited it
 * during the run, which the run may have missed; it was not written; it belongs to somebody else.
 */
static void what_only_looks_written_again_conflicts(void **state)
{
	static const struct {
		int64_t seen_ctime, mtime;
		uint32_t uid;
		bool plain, conflicts;
	} c[] = {
		{OLD, NEW, 1, true, false}, {NEW, NEW, 1, true, true},	{OLD, OLD, 1, true, true},
		{OLD, NEW, 9, true, true},  {OLD, NEW, 1, false, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		struct manifest *m = manifest_new();
		struct manifest_entry e = {.path = bytes_str("a"),
					   .mode = 0644,
					   .mtime_ns = 1,
					   .type = MANIFEST_FILE,
					   .size = 1};
		struct landing_state now = {.type = MANIFEST_FILE,
					    .mode = 0644,
					    .size = 1,
					    .has_digest = true,
					    .ctime_ns = NEW,
					    .ino = 7,
					    .mtime_ns = c[i].mtime,
					    .uid = c[i].uid,
					    .plain = c[i].plain};
		struct landing_plan *p;
		struct error err = {0};
		struct rig r;

		set_content('x', &e.digest);
		set_content('a', &now.digest);
		e.base = seen("fa");
		e.base.ctime_ns = c[i].seen_ctime;
		rig_open(&r, "", "");
		assert_int_equal(manifest_add(m, &e, &err), 0);
		assert_int_equal(manifest_finish(m, NULL), 0);
		r.layers[r.layer_count++].manifest = m;
		r.in.layer_count = r.layer_count;
		assert_int_equal(landing_facts_add(r.facts, bytes_str("a"), &now), 0);
		p = make(&r);
		assert_int_equal(p->conflict_count, c[i].conflicts);
		landing_plan_free(p);
		rig_close(&r);
	}
}

/* Rolling back gives every path a new ctime: what the last plan found, and stands there again, is
 * no conflict. */
static void a_rolled_back_path_is_no_conflict(void **state)
{
	struct landing_plan *last;
	struct landing_plan *p;
	struct rig r;

	(void)state;
	rig_open(&r, "fx a fa; fx b fb", "fa a; fb b");
	last = make(&r);
	landing_facts_free(r.facts);
	r.in.facts = r.facts = parse_facts("fa a new; fc b new");
	r.in.last = last;
	p = make(&r);
	assert_int_equal(p->action_count, 1);
	assert_int_equal(p->conflict_count, 1);
	assert_int_equal(*(const char *)p->conflicts[0].path.data, 'b');
	landing_plan_free(p);
	landing_plan_free(last);
	rig_close(&r);
}

static void clocks(void **state)
{
	static const uint8_t boot[2][16] = {{1}, {2}};
	const int64_t s = INT64_C(1000000000);
	struct landing_clock c;

	(void)state;
	landing_clock_start(&c, 100 * s, 1);
	landing_clock_see(&c, 100 * s, 10 * s, boot[0]);
	landing_clock_see(&c, 200 * s, 110 * s, boot[0]);
	assert_false(c.suspect);
	assert_int_equal(c.back_ns, 0);
	/* It went forward, and a little back. */
	landing_clock_see(&c, 311 * s, 220 * s, boot[0]);
	landing_clock_see(&c, 410 * s, 320 * s, boot[0]);
	assert_false(c.suspect);
	assert_int_equal(c.back_ns, s);
	/* Another boot, later. */
	landing_clock_see(&c, 500 * s, 1 * s, boot[1]);
	assert_false(c.suspect);
	/* Back by an hour. */
	landing_clock_see(&c, 510 * s - 3600 * s, 11 * s, boot[1]);
	assert_true(c.suspect);
	/* Another boot whose clock stands behind the last record. */
	landing_clock_start(&c, 100 * s, 1);
	landing_clock_see(&c, 100 * s, 10 * s, boot[0]);
	landing_clock_see(&c, 99 * s, 20 * s, boot[1]);
	assert_true(c.suspect);
}

static void with_a_suspect_clock_all_that_exists_conflicts(void **state)
{
	AUTO_BUFFER got = {0};
	struct landing_plan *p;
	struct rig r;

	(void)state;
	rig_open(&r, "fx a fa; fx n -; d d d; fx d/n -; w g fg", "fa a; d d moved; fg g");
	r.in.clock.suspect = true;
	p = make(&r);
	describe(p, &got);
	assert_string_equal((char *)got.data, "A d/n\nA n\n"
					      "! a the clock went back: it may have changed\n"
					      "! g the clock went back: it may have changed\n");
	landing_plan_free(p);
	rig_close(&r);
}

static void a_coarse_ctime_is_compared_coarsely(void **state)
{
	struct landing_plan *p;
	struct rig r;

	(void)state;
	rig_open(&r, "fx a fa", "fa a");
	r.in.clock.granularity_ns =
		1000; /* OLD, written after the start, may be stamped 0 to 999 */
	r.in.clock.started_ns = 900;
	p = make(&r);
	assert_int_equal(p->conflict_count, 1);
	landing_plan_free(p);
	rig_close(&r);
}

static void no_policy_no_landing(void **state)
{
	AUTO_BUFFER got = {0};
	struct landing_plan *p;
	struct rig r;

	(void)state;
	rig_open(&r, "fx a -", "");
	r.in.fs = NULL;
	p = make(&r);
	describe(p, &got);
	assert_string_equal((char *)got.data, "- a policy\n");
	landing_plan_free(p);
	rig_close(&r);
}

/* Plan, undo, undo of the undo. */
static void reversed_twice_is_the_same(void **state)
{
	struct landing_plan *p;
	struct landing_plan *back = NULL;
	struct landing_plan *again = NULL;
	AUTO_BUFFER got = {0};
	struct rig r;

	(void)state;
	rig_open(&r, "fx a -; fx b fb; w c fc; d d -; fx d/e -; sx l sa; fy t d; i t/u fu",
		 "fb b; fc c; sa l; d t; fu t/u");
	p = make(&r);
	assert_int_equal(landing_plan_reverse(p, NULL, 0, NULL, 0, &back, NULL), 0);
	assert_true(back->undo);
	describe(back, &got);
	assert_string_equal((char *)got.data,
			    "D a\nM b blob\nA c blob\nD d\nD d/e\nM l\nT t\nA t/u blob\n");
	assert_int_equal(landing_plan_reverse(back, NULL, 0, NULL, 0, &again, NULL), 0);
	assert_int_equal(again->action_count, p->action_count);
	for (size_t i = 0; i < p->action_count; i++) {
		assert_true(landing_state_same(&again->actions[i].before, &p->actions[i].before));
		assert_true(landing_state_same(&again->actions[i].after, &p->actions[i].after));
	}
	landing_plan_free(again);
	landing_plan_free(back);
	landing_plan_free(p);
	rig_close(&r);
}

static void undo_with_answers(void **state)
{
	struct landing_choice mine = {.path = bytes_str("d/e"), .kind = LANDING_CHOICE_MINE};
	struct landing_conflict shown = {.path = bytes_str("d/e"), .why = LANDING_CONFLICT_EDITED};
	struct landing_plan *p;
	struct landing_plan *back = NULL;
	AUTO_BUFFER got = {0};
	struct rig r;

	(void)state;
	shown.now = (struct landing_state){.type = MANIFEST_FILE,
					   .mode = 0644,
					   .size = 1,
					   .has_digest = true};
	rig_open(&r, "d d -; fx d/e -; fx f fb", "fb f");
	p = make(&r);
	assert_int_equal(landing_plan_reverse(p, &shown, 1, &mine, 1, &back, NULL), 0);
	describe(back, &got);
	assert_string_equal((char *)got.data, "M f blob\n- d not-empty\n- d/e mine\n");
	landing_plan_free(back);
	landing_plan_free(p);
	rig_close(&r);
}

/* ---- the canonical form ---- */

static struct landing_plan *sample(struct rig *r)
{
	rig_open(r,
		 "d .git d; d .git/hooks d; fx .git/hooks/x -; fx a fa; ux b -; w c fc; sx l -; m "
		 "m d",
		 "d .git; d .git/hooks; fa a; fc c; d m");
	return make(r);
}

static void written_and_read_again(void **state)
{
	struct landing_plan *p;
	struct landing_plan *q = NULL;
	AUTO_BUFFER once = {0};
	AUTO_BUFFER twice = {0};
	char id[LANDING_ID_SIZE];
	struct error err = {0};
	struct rig r;

	(void)state;
	p = sample(&r);
	assert_int_equal(landing_plan_encode(p, &once), 0);
	golden_check("supervisor/landing-plan.every-kind.cbor", buffer_bytes(&once));
	if (landing_plan_decode(buffer_bytes(&once), &q, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(landing_plan_encode(q, &twice), 0);
	assert_true(bytes_equal(buffer_bytes(&once), buffer_bytes(&twice)));
	landing_plan_id(buffer_bytes(&once), id);
	assert_int_equal(strlen(id), LANDING_ID_SIZE - 1);
	/* No byte of it can be changed or left away without being something else, or an error. */
	for (size_t i = 0; i < once.len; i++) {
		struct landing_plan *other = NULL;

		once.data[i] ^= 0x15;
		if (landing_plan_decode(buffer_bytes(&once), &other, NULL) == 0) {
			AUTO_BUFFER b = {0};

			assert_int_equal(landing_plan_encode(other, &b), 0);
			assert_true(bytes_equal(buffer_bytes(&b), buffer_bytes(&once)));
			landing_plan_free(other);
		}
		once.data[i] ^= 0x15;
		assert_int_not_equal(landing_plan_decode(bytes_of(once.data, i), &other, NULL), 0);
	}
	landing_plan_free(q);
	landing_plan_free(p);
	rig_close(&r);
}

static void what_cannot_be_looked_at_is_told_from_nothing(void **state)
{
	struct landing_conflict c = {.path = bytes_str("a"),
				     .why = LANDING_CONFLICT_REFUSED,
				     .now = {.target = bytes_of("", 0), .unseen = true},
				     .want = {.target = bytes_of("", 0)},
				     .text = bytes_of("", 0)};
	AUTO(landing_plan_free) struct landing_plan *q = NULL;
	AUTO_BUFFER b = {0};
	struct error err = {0};

	(void)state;
	assert_false(landing_state_same(&c.now, &c.now));
	assert_false(landing_state_same(&c.now, &c.want));
	assert_int_equal(landing_conflicts_encode(&c, 1, false, &b), 0);
	assert_int_equal(landing_conflicts_decode(buffer_bytes(&b), &q, &err), 0);
	assert_true(q->conflicts[0].now.unseen);
	assert_false(q->conflicts[0].want.unseen);
}

static void conflicts_and_results(void **state)
{
	struct landing_plan *p;
	struct landing_plan *q = NULL;
	AUTO_BUFFER once = {0};
	AUTO_BUFFER twice = {0};
	AUTO_BUFFER result = {0};
	struct digest d;
	struct error err = {0};
	struct rig r;

	(void)state;
	rig_open(&r, "fx a fa; fx b -; fx c fc; sx s sa; d d d; fx d/f fa; u1 su -",
		 "fb a new; fb b; sb s new; d d moved; fa d/f");
	p = make(&r);
	assert_int_equal(p->conflict_count, 5);
	assert_int_equal(landing_conflicts_encode(p->conflicts, p->conflict_count, true, &once), 0);
	golden_check("supervisor/landing-conflicts.several.cbor", buffer_bytes(&once));
	if (landing_conflicts_decode(buffer_bytes(&once), &q, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(q->undo);
	assert_int_equal(landing_conflicts_encode(q->conflicts, q->conflict_count, true, &twice),
			 0);
	assert_true(bytes_equal(buffer_bytes(&once), buffer_bytes(&twice)));
	/* One is not the other. */
	assert_int_not_equal(landing_plan_decode(buffer_bytes(&once), &q, NULL), 0);
	set_content('p', &d);
	assert_int_equal(landing_result_encode(p, &d, &result), 0);
	golden_check("supervisor/landing-result.one.cbor", buffer_bytes(&result));
	landing_plan_free(q);
	landing_plan_free(p);
	rig_close(&r);
}

/* What a diff shows is what the planner would land on an untouched base, whatever the directory
 * holds by now. */
static void a_diff_shows_what_lands_and_counts_the_rest(void **state)
{
	static const struct {
		const char *layers;
		size_t below;
		const char *want;
		size_t scratch, others;
	} rows[] = {
		{"fx a fa; fx d/new -; w gone fa", 0, "M a\nA d/new\nD gone\n", 0, 0},
		{"fx a fa; d build -; fx build/o -; fx ro/x fa; ux s -", 0,
		 "M a\nA s\n- build scratch\n- build/o scratch\n- ro/x policy\n- s bits\n", 2, 1},
		{"fx a -|fy a -; fz b fb", 1, "M a\nM b\n", 0, 0},
		{"fx a -; fx keep fa|w a -", 1, "D a\n", 0, 0},
		{"m d d; sx l sa", 0, "M d\nM l\n", 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct landing_plan *p;
		AUTO_BUFFER got = {0};
		size_t scratch, others, count;
		struct diff_entry *list;
		struct error err = {0};
		struct rig r;

		rig_open(&r, rows[i].layers, "fz a new");
		if (diff_landing(&(struct diff_scope){.below = r.layers,
						      .below_count = rows[i].below,
						      .layers = r.layers + rows[i].below,
						      .layer_count = r.layer_count - rows[i].below,
						      .fs = r.fs,
						      .workspace = "/w"},
				 &p, &err) < 0)
			fail_msg("%s", err.msg);
		describe(p, &got);
		assert_string_equal((char *)got.data, rows[i].want);
		diff_left_out(p, &scratch, &others);
		assert_int_equal(scratch, rows[i].scratch);
		assert_int_equal(others, rows[i].others);
		assert_int_equal(diff_stat_plan(p, &list, &count), 0);
		assert_int_equal(count, p->action_count);
		for (size_t k = 0; k < count; k++)
			assert_int_equal(list[k].letter, landing_action_letter(&p->actions[k]));
		free(list);
		landing_plan_free(p);
		rig_close(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(planned),
		cmocka_unit_test(a_diff_shows_what_lands_and_counts_the_rest),
		cmocka_unit_test(answered),
		cmocka_unit_test(what_stands_in_a_folders_place_is_named),
		cmocka_unit_test(what_only_looks_written_again_conflicts),
		cmocka_unit_test(a_rolled_back_path_is_no_conflict),
		cmocka_unit_test(clocks),
		cmocka_unit_test(what_cannot_be_looked_at_is_told_from_nothing),
		cmocka_unit_test(with_a_suspect_clock_all_that_exists_conflicts),
		cmocka_unit_test(a_coarse_ctime_is_compared_coarsely),
		cmocka_unit_test(no_policy_no_landing),
		cmocka_unit_test(reversed_twice_is_the_same),
		cmocka_unit_test(undo_with_answers),
		cmocka_unit_test(written_and_read_again),
		cmocka_unit_test(conflicts_and_results),
	};

	return cmocka_run_group_tests_name("landing plan", tests, NULL, NULL);
}
