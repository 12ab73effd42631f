#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "tools/show_effect.h"
#include "tools/status_print.h"

enum {
	LANDING_WAIT_MS = 30000, /* for a landing, after which it is said that it goes on */
	LANDING_ASK_US = 20000,
	CONFLICT_ITEM_MS = 5000 /* for the item of a conflict, which opens a moment after it */
};

static enum cli_tone tone_of(const char *state)
{
	static const struct {
		const char *state;
		enum cli_tone tone;
	} tones[] = {
		{"succeeded", CLI_GOOD}, {"committed", CLI_GOOD}, {"landed", CLI_GOOD},
		{"failed", CLI_BAD},	 {"denied", CLI_BAD},	  {"cancelled", CLI_DIM},
		{"waiting", CLI_WARN},	 {"gated", CLI_WARN},	  {"paused", CLI_WARN},
		{"exhausted", CLI_WARN}, {"conflict", CLI_WARN},  {"running", CLI_BOLD},
		{"active", CLI_BOLD},
	};
	for (size_t i = 0; i < ARRAY_SIZE(tones); i++)
		if (strcmp(tones[i].state, state) == 0)
			return tones[i].tone;
	return CLI_PLAIN;
}

static void print_state(const char *state, int width)
{
	printf("%s%-*s%s", cli_tone(tone_of(state)), width, cli_escaped(state), CLI_RESET);
}

static void age_of(char *buf, size_t size, const char *time)
{
	int64_t ns = cli_parse_time(time);
	if (ns < 0)
		snprintf(buf, size, "?");
	else
		cli_duration(buf, size, cli_now_ns() - ns);
}

static void print_waits(const json_t *waits)
{
	size_t i;
	const json_t *w;
	if (json_array_size(waits) == 0)
		return;
	fputs(" for ", stdout);
	json_array_foreach(waits, i, w)
		printf("%s%s", i ? ", " : "",
		       cli_escaped(json_string_value(w) ? json_string_value(w) : ""));
}

/* A command that starts a run and then tells how it went says each note once. */
static bool said_before(const char *note)
{
	static json_t *said;
	if (!said)
		said = json_object();
	if (json_object_get(said, note))
		return true;
	json_object_set_new(said, note, json_true());
	return false;
}

void status_mute_notes(const json_t *doc)
{
	size_t i;
	const json_t *n;
	json_array_foreach(cli_get(doc, "notes"), i, n) if (json_is_string(n))
		said_before(json_string_value(n));
}

void status_print_notes(const json_t *doc, FILE *to)
{
	size_t i;
	const json_t *n;
	json_array_foreach(cli_get(doc, "notes"), i, n)
	{
		const char *note = json_string_value(n);
		if (note && !said_before(note))
			fprintf(to, "note: %s\n", cli_escaped(note));
	}
}

/* What comes of an item that nobody answers in time. */
static const char *without_answer(const char *kind)
{
	return strcmp(kind, "landing") == 0	? "nothing lands"
	       : strcmp(kind, "conflict") == 0	? "nothing more is changed"
	       : strcmp(kind, "exhausted") == 0 ? "the step fails"
	       : strcmp(kind, "diverged") == 0	? "the run fails"
						: "it is denied";
}

void status_print_approval(const json_t *a)
{
	char age[32], left[32] = "";
	age_of(age, sizeof(age), cli_str(a, "opened"));
	int64_t by = cli_parse_time(cli_str(a, "decide_by"));
	if (by > 0)
		cli_duration(left, sizeof(left), by - cli_now_ns());
	printf("  %s%.8s%s  %-11s %s", cli_tone(CLI_BOLD), cli_str(a, "approval"), CLI_RESET,
	       cli_escaped(cli_str(a, "kind")), cli_escaped(cli_str(a, "title")));
	/* Run and step are in the title. */
	printf("%s  (waits %s", cli_tone(CLI_DIM), age);
	if (*left)
		printf("; unanswered in %s, %s", left, without_answer(cli_str(a, "kind")));
	printf(")%s\n", CLI_RESET);
	status_print_answers(a, "            ");
}

void status_print_argv(const json_t *doc, size_t max)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
	size_t i, left = max;
	const json_t *a;
	json_array_foreach(cli_get(doc, "argv"), i, a)
	{
		const char *arg = json_string_value(a), *shown = cli_escaped(arg ? arg : "");
		bool quote = !*shown || shown[strspn(shown, plain)] != '\0';
		size_t len = strlen(shown);
		if (len > left)
			break;
		left -= len;
		fputs(quote ? " '" : " ", stdout);
		for (const char *at = shown; *at; at++)
			fputs(*at == '\'' ? "'\\''" : (char[]){*at, '\0'}, stdout);
		fputs(quote ? "'" : "", stdout);
	}
	if (i < json_array_size(cli_get(doc, "argv")) || cli_bool(doc, "argv_cut"))
		fputs(" ...", stdout);
}

void status_print_answers(const json_t *a, const char *indent)
{
	size_t i;
	const json_t *one;
	json_array_foreach(cli_get(a, "answers"), i, one)
	{
		printf("%sanswered  %s: ", indent, cli_escaped(cli_str(one, "choice")));
		puts(json_is_null(cli_get(one, "path")) ? "every other path"
							: cli_escaped(cli_str(one, "path")));
	}
	if (i > 0 && cli_int(a, "unanswered") > 0)
		printf("%s%lld path%s to be answered still\n", indent,
		       (long long)cli_int(a, "unanswered"),
		       cli_int(a, "unanswered") == 1 ? "" : "s");
}

static bool is_final(const char *state)
{
	return strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0 ||
	       strcmp(state, "cancelled") == 0;
}

static bool lands_now(const json_t *status)
{
	const char *landing = cli_str(status, "landing");

	return strcmp(landing, "landing") == 0 || strcmp(landing, "undoing") == 0;
}

/* What held it up, and what a person can say to it. */
static void print_failure(const json_t *status)
{
	const char *why = cli_str(status, "landing_failed"), *run = cli_str(status, "run"),
		   *state = cli_str(status, "state");
	bool undo = strcmp(cli_str(status, "landing"), "undoing") == 0;

	if (!*why)
		return;
	printf("  %s failed: %s\n", undo ? "undo" : "landing", cli_escaped(why));
	printf("            holdfast %s %.8s tries it again", undo ? "undo" : "land", run);
	if (!is_final(state))
		printf(" | holdfast cancel %.8s ends the run", run);
	else if (!lands_now(status))
		printf(" | holdfast cancel %.8s gives it up", run);
	else if (strcmp(state, "cancelled") != 0)
		printf(" | holdfast cancel %.8s lets other runs work there", run);
	putchar('\n');
}

/* A conflict is what it waits for already. */
static void print_landing(const json_t *run)
{
	const char *landing = cli_str(run, "landing");
	bool waits = strcmp(landing, "conflict") == 0 && json_array_size(cli_get(run, "waits")) > 0;
	const char *why = cli_str(run, "landing_why");
	if (strcmp(landing, "dropped") == 0 && cli_int(run, "exit") != EXIT_STATUS_DENIED) {
		/* Nobody said no: there was nothing, or it could not. */
		bool nothing = strcmp(why, "nothing to land") == 0;
		printf(", %s%s%s", nothing ? why : "nothing landed", *why && !nothing ? ": " : "",
		       nothing ? "" : cli_escaped(why));
	} else if (strcmp(landing, "unlanded") != 0 && !waits) {
		printf(", %s", cli_escaped(landing));
	}
	if (*cli_str(run, "landing_failed"))
		printf(", %s failed", strcmp(landing, "undoing") == 0 ? "its undo" : "its landing");
}

void status_print_summary(const json_t *s, size_t items)
{
	char age[32];
	age_of(age, sizeof(age), cli_str(s, "created"));
	const json_t *steps = cli_get(s, "steps");
	const char *name = cli_str(s, "name");
	printf("  %s%.8s%s  ", cli_tone(CLI_BOLD), cli_str(s, "run"), CLI_RESET);
	print_state(cli_str(s, "state"), 10);
	printf(" %-20s %lld/%lld steps  %s ago", cli_escaped(name),
	       (long long)cli_int(steps, "done"), (long long)cli_int(steps, "total"), age);
	if (json_array_size(cli_get(s, "waits")) > 0)
		fputs(", waits", stdout);
	print_waits(cli_get(s, "waits"));
	/* An effect that asks: the step lives, so that the run runs. */
	if (items > 0 && json_array_size(cli_get(s, "waits")) == 0)
		fputs(", waits for you", stdout);
	print_landing(s);
	putchar('\n');
	print_failure(s);
}

const char *status_choices_of(const char *kind)
{
	return strcmp(kind, "conflict") == 0	? " --as mine|theirs|file=F"
	       : strcmp(kind, "exhausted") == 0 ? " --as retry|fail"
	       : strcmp(kind, "diverged") == 0	? " --as accept|fork|fail"
	       : strcmp(kind, "doubt") == 0	? " --as done|not-done|abandon"
						: "";
}

static void print_needs_person(const json_t *status)
{
	size_t i;
	const json_t *a;
	json_array_foreach(cli_get(status, "needs_person"), i, a)
	{
		status_print_approval(a);
		printf("            holdfast show %.8s | holdfast approve %.8s%s | holdfast deny "
		       "%.8s\n",
		       cli_str(a, "approval"), cli_str(a, "approval"),
		       status_choices_of(cli_str(a, "kind")), cli_str(a, "approval"));
	}
}

static void print_head(const json_t *status)
{
	const char *name = cli_str(status, "name"), *why = cli_str(status, "why");
	printf("run %s%.8s%s%s%s  ", cli_tone(CLI_BOLD), cli_str(status, "run"), CLI_RESET,
	       *name ? " " : "", cli_escaped(name));
	print_state(cli_str(status, "state"), 0);
	print_waits(cli_get(status, "waits"));
	print_landing(status);
	if (*why && strcmp(why, cli_str(status, "landing_failed")) != 0)
		printf(": %s", cli_escaped(why));
	putchar('\n');
	print_failure(status);
}

/* What a person may want to do now. */
static void print_next(const json_t *status)
{
	const char *state = cli_str(status, "state"), *landing = cli_str(status, "landing"),
		   *run = cli_str(status, "run");
	bool unlanded = strcmp(landing, "unlanded") == 0,
	     observed = strcmp(cli_str(status, "agency"), "observe") == 0;
	if (*cli_str(status, "landing_failed"))
		return; /* said already */
	if (strcmp(landing, "landed") == 0)
		printf("  changes are in %s; 'holdfast undo %.8s' takes them back\n",
		       cli_escaped(cli_str(status, "workspace")), run);
	else if (strcmp(state, "succeeded") == 0 && unlanded && !observed)
		printf("  'holdfast diff %.8s' shows what changed, 'holdfast land %.8s' applies "
		       "it\n",
		       run, run);
	else if (strcmp(state, "succeeded") == 0 && unlanded)
		printf("  at the level observe nothing lands; 'holdfast diff %.8s' shows what "
		       "changed\n",
		       run);
	else if (strcmp(landing, "undone") == 0)
		printf("  taken back for good: this run does not land again; 'holdfast diff "
		       "%.8s' still shows its changes, starting it again makes them anew\n",
		       run);
	else if (strcmp(state, "paused") == 0)
		printf("  'holdfast resume %.8s' goes on\n", run);
}

void status_print_brief(const json_t *status)
{
	print_head(status);
	const char *run = cli_str(status, "run");
	size_t i;
	const json_t *s;
	json_array_foreach(cli_get(status, "steps"), i, s)
	{
		const char *st = cli_str(s, "state");
		if (strcmp(st, "failed") == 0 || strcmp(st, "denied") == 0 ||
		    strcmp(st, "exhausted") == 0)
			printf("  %s %s: %s\n            holdfast show %.8s %s\n",
			       cli_escaped(cli_str(s, "name")), st, cli_escaped(cli_str(s, "why")),
			       run, cli_escaped(cli_str(s, "name")));
	}
	print_needs_person(status);
	status_print_notes(status, stdout);
	print_next(status);
}

static void print_steps(const json_t *status)
{
	size_t i;
	const json_t *s;
	json_array_foreach(cli_get(status, "steps"), i, s)
	{
		char age[32] = "";
		if (*cli_str(s, "since"))
			age_of(age, sizeof(age), cli_str(s, "since"));
		printf("  ");
		print_state(cli_str(s, "state"), 12);
		printf(" %-20s", cli_escaped(cli_str(s, "name")));
		if (cli_int(s, "attempts") > 1)
			printf(" %lld attempts", (long long)cli_int(s, "attempts"));
		if (cli_int(s, "paths") > 0)
			printf(" %lld path%s changed", (long long)cli_int(s, "paths"),
			       cli_int(s, "paths") == 1 ? "" : "s");
		if (*age)
			printf(" %s%s ago%s", cli_tone(CLI_DIM), age, CLI_RESET);
		if (*cli_str(s, "why"))
			printf("  %s", cli_escaped(cli_str(s, "why")));
		putchar('\n');
	}
}

static const char *class_words(const char *class)
{
	static const struct {
		const char *class, *words;
	} known[] = {
		{"SAFE", "safe to do again"},
		{"SAFE_SAME_KEY", "safe to do again with the same key"},
		{"PROBE_FIRST", "not before it is known whether it happened"},
		{"HUMAN_ONLY", "not by itself"},
		{"NEVER", "never"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(known[i].class, class) == 0)
			return known[i].words;
	return cli_escaped(class);
}

void status_print_whole(const json_t *status)
{
	print_head(status);
	printf("  workspace %s, agency %s\n", cli_escaped(cli_str(status, "workspace")),
	       cli_escaped(cli_str(status, "agency")));
	print_steps(status);
	size_t i;
	const json_t *o;
	const json_t *effects = cli_get(status, "effects");
	if (cli_int(effects, "proposed") + cli_int(effects, "reads") + cli_int(effects, "denied") >
	    0)
		printf("  effects: %lld done of %lld proposed, %lld denied, %lld failed, %lld in "
		       "doubt; %lld plain reads ('holdfast log' shows them)\n",
		       (long long)cli_int(effects, "done"), (long long)cli_int(effects, "proposed"),
		       (long long)cli_int(effects, "denied"), (long long)cli_int(effects, "failed"),
		       (long long)cli_int(effects, "in_doubt"),
		       (long long)cli_int(effects, "reads"));
	json_array_foreach(cli_get(status, "effects_done"), i, o) show_effect_line(o);
	json_array_foreach(cli_get(status, "in_flight"), i, o)
	{
		char age[32] = "";
		if (*cli_str(o, "since")) /* no record of a landing says it */
			age_of(age, sizeof(age), cli_str(o, "since"));
		printf("in flight: %s", cli_escaped(cli_str(o, "step")));
		if (*cli_str(o, "title"))
			printf(" %.8s %s", cli_str(o, "effect"), cli_escaped(cli_str(o, "title")));
		if (cli_int(o, "attempt") > 0) /* a landing has none */
			printf(" attempt %lld", (long long)cli_int(o, "attempt"));
		printf(", %s%s%s", cli_escaped(cli_str(o, "state")), *age ? " for " : "", age);
		const char *on = cli_str(o, "waiting_on");
		bool said = strcmp(on, cli_str(o, "state")) == 0;
		printf("%s%s\n", *on && !said ? ", waiting on " : "", said ? "" : cli_escaped(on));
	}
	json_array_foreach(cli_get(status, "safe_to_retry"), i, o)
	{
		printf("again: %s", cli_escaped(cli_str(o, "item")));
		if (*cli_str(o, "title"))
			printf(" %.8s %s", cli_str(o, "effect"), cli_escaped(cli_str(o, "title")));
		printf(": %s", class_words(cli_str(o, "class")));
		if (*cli_str(o, "until"))
			printf(" until %.19s UTC", cli_str(o, "until"));
		printf(" (%s)\n", cli_escaped(cli_str(o, "rule")));
	}
	if (json_array_size(cli_get(status, "needs_person")) > 0) {
		puts("waits for you:");
		print_needs_person(status);
	}
	status_print_notes(status, stdout);
	print_next(status);
}

static json_t *fetch_status(struct client *c, const char *run, int *ret_exit)
{
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s", run);
	return cli_fetch(c, (const char *)target.data, ret_exit);
}

/* A conflict of which nobody is asked yet: its card is being made, or an answer carried out. */
static bool unasked_conflict(const json_t *status)
{
	size_t i;
	const json_t *a;
	if (strcmp(cli_str(status, "landing"), "conflict") != 0 ||
	    *cli_str(status, "landing_failed") || strcmp(cli_str(status, "state"), "paused") == 0)
		return false;
	json_array_foreach(cli_get(status, "needs_person"), i, a)
	{
		if (strcmp(cli_str(a, "kind"), "conflict") == 0)
			return false;
	}
	return true;
}

json_t *status_fetch_asked(struct client *c, const char *run, int *ret_exit)
{
	int64_t until = client_now_ms() + CONFLICT_ITEM_MS;
	json_t *status;
	while ((status = fetch_status(c, run, ret_exit)) && unasked_conflict(status) &&
	       client_now_ms() < until) {
		json_decref(status);
		usleep(LANDING_ASK_US);
	}
	return status;
}

static int tell(struct client *c, const char *run, bool outcome)
{
	int exit_status = EXIT_STATUS_OK;
	json_t *status = outcome ? status_fetch_asked(c, run, &exit_status)
				 : fetch_status(c, run, &exit_status);
	if (!status)
		return exit_status;
	if (outcome)
		exit_status = (int)cli_int(status, "exit");
	if (cli.json) {
		cli_print_json(status);
	} else {
		status_print_brief(status);
		json_decref(status);
	}
	return exit_status;
}

int status_tell(struct client *c, const char *run)
{
	return tell(c, run, false);
}

int status_tell_outcome(struct client *c, const char *run)
{
	return tell(c, run, true);
}

int status_wait_landed(struct client *c, const char *run, const char *verb)
{
	bool undo = strcmp(verb, "undo") == 0;
	for (;;) {
		int exit_status = EXIT_STATUS_OK;
		json_t *status = status_fetch_asked(c, run, &exit_status);
		if (!status)
			return exit_status;
		const char *landing = cli_str(status, "landing");
		bool done = strcmp(landing, undo ? "undone" : "landed") == 0 ||
			    strcmp(landing, "dropped") == 0;
		bool conflict = strcmp(landing, "conflict") == 0;
		bool person = json_array_size(cli_get(status, "needs_person")) > 0;
		const char *stuck = cli_str(status, "landing_failed");
		if (!done && !conflict && *stuck) {
			struct error err = {0};
			error_set_exit(&err, -EIO, EXIT_STATUS_SANDBOX,
				       "%s: %s; mend that and say it again", verb, stuck);
			json_decref(status);
			return cli_fail(&err);
		}
		if (!done && !conflict && !person) {
			json_decref(status);
			usleep(20000);
			continue;
		}
		if (cli.json) {
			cli_print_json(json_incref(status));
		} else {
			print_head(status);
			print_needs_person(status);
			print_next(status);
		}
		json_decref(status);
		return done	  ? EXIT_STATUS_OK
		       : conflict ? EXIT_STATUS_CONFLICT
				  : EXIT_STATUS_WAITING;
	}
}

bool status_is_over(struct client *c, const char *run)
{
	int exit_status = EXIT_STATUS_OK;
	json_t *status = fetch_status(c, run, &exit_status);
	bool over = is_final(cli_str(status, "state"));
	json_decref(status);
	return over;
}

int status_tell_cancelled(struct client *c, const char *run, bool was_over)
{
	int exit_status = EXIT_STATUS_OK;
	int64_t until = client_now_ms() + LANDING_WAIT_MS;
	json_t *status;
	while ((status = fetch_status(c, run, &exit_status)) && lands_now(status) && !was_over &&
	       !*cli_str(status, "landing_failed") && client_now_ms() < until) {
		json_decref(status);
		usleep(LANDING_ASK_US);
	}
	if (!status)
		return exit_status;
	if (cli.json) {
		cli_print_json(status);
		return EXIT_STATUS_OK;
	}
	const char *landing = cli_str(status, "landing");
	if (was_over && strcmp(landing, "dropped") == 0)
		puts("its landing, which failed, is given up: it does not land any more");
	else if (was_over && strcmp(landing, "landed") == 0)
		puts("its undoing, which failed, is given up: what landed stays");
	else if (was_over)
		puts("what failed half way is given up: other runs may work there");
	else if (strcmp(landing, "landed") == 0)
		puts("its landing had begun before the cancel, and was brought to its end");
	else if (lands_now(status) && !*cli_str(status, "landing_failed"))
		puts("its landing had begun before the cancel, and goes on to its end");
	status_print_brief(status);
	json_decref(status);
	return EXIT_STATUS_OK;
}

/* Whether a person is asked about the landing, by another item than this. */
static bool asked_again(const json_t *status, const char *item)
{
	size_t i;
	const json_t *a;
	json_array_foreach(cli_get(status, "needs_person"), i, a)
	{
		const char *kind = cli_str(a, "kind");
		if ((strcmp(kind, "landing") == 0 || strcmp(kind, "conflict") == 0) &&
		    strcmp(cli_str(a, "approval"), item) != 0)
			return true;
	}
	return false;
}

static void print_voted(const json_t *status, const char *landing, bool undo)
{
	long long paths = (long long)cli_int(status, "landed_paths");
	const char *run = cli_str(status, "run");
	if (strcmp(landing, "landed") == 0 && undo)
		puts("nothing was taken back");
	else if (strcmp(landing, "landed") == 0)
		printf("landed: %lld path%s; 'holdfast undo %.8s' takes them back\n", paths,
		       paths == 1 ? "" : "s", run);
	else if (strcmp(landing, "undone") == 0)
		printf("undone: %lld path%s\n", paths, paths == 1 ? "" : "s");
	else if (strcmp(landing, "dropped") == 0)
		printf("nothing landed: %s\n", cli_escaped(cli_str(status, "landing_why")));
	else if (strcmp(cli_str(status, "state"), "paused") == 0)
		printf("it waits, since the run is paused: 'holdfast resume %.8s' goes on\n", run);
	else
		printf("it goes on: 'holdfast status %.8s' tells how it stands\n", run);
}

int status_tell_voted(struct client *c, const json_t *item, json_t *answer)
{
	static const char *const members[] = {"landing", "landing_failed", "landing_why",
					      "landed_paths"};
	int exit_status = EXIT_STATUS_OK;
	int64_t until = client_now_ms() + LANDING_WAIT_MS;
	const char *id = cli_str(item, "approval"), *landing = "";
	bool asked = false, failed = false, over = false, paused = false;
	json_t *status = NULL;
	while (!over && !asked && !failed && !paused && client_now_ms() < until) {
		if (status)
			usleep(LANDING_ASK_US);
		json_decref(status);
		status = fetch_status(c, cli_str(item, "run"), &exit_status);
		if (!status)
			return exit_status;
		landing = cli_str(status, "landing");
		over = strcmp(landing, "landed") == 0 || strcmp(landing, "undone") == 0 ||
		       strcmp(landing, "dropped") == 0;
		asked = asked_again(status, id);
		failed = *cli_str(status, "landing_failed") != '\0';
		paused = strcmp(cli_str(status, "state"), "paused") == 0 && !lands_now(status);
	}
	bool conflict = asked && strcmp(landing, "conflict") == 0;
	for (size_t i = 0; cli.json && i < ARRAY_SIZE(members); i++)
		if (cli_get(status, members[i]))
			json_object_set(answer, members[i], cli_get(status, members[i]));
	if (cli.json) {
		/* said in the answer */
	} else if (asked) {
		printf("%s; this waits for you:\n",
		       conflict ? "conflict: nothing was changed" : "nothing was changed");
		print_needs_person(status);
	} else if (failed) {
		print_failure(status);
	} else {
		print_voted(status, landing, strncmp(cli_str(item, "title"), "undo ", 5) == 0);
	}
	json_decref(status);
	return failed	  ? EXIT_STATUS_SANDBOX
	       : conflict ? EXIT_STATUS_CONFLICT
	       : asked	  ? EXIT_STATUS_WAITING
			  : EXIT_STATUS_OK;
}

const char *status_refusal(const json_t *call)
{
	const char *name = cli_str(call, "name");
	long long count = (long long)cli_int(call, "count");
	char text[128];

	if (json_is_integer(cli_get(call, "syscall")))
		snprintf(text, sizeof(text), "%.64s (system call %lld), %lld time%s",
			 *name ? name : "unknown", (long long)cli_int(call, "syscall"), count,
			 count == 1 ? "" : "s");
	else
		snprintf(text, sizeof(text), "other system calls, %lld time%s", count,
			 count == 1 ? "" : "s");
	return cli_escaped(text);
}

void status_print_digest(const json_t *approval)
{
	printf("digest  %.16s (of this card%s)\n", cli_str(approval, "card_digest"),
	       json_is_false(cli_get(approval, "complete")) ? ": what --digest wants" : "");
}
