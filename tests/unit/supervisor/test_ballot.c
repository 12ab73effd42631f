/* What the votes of an item come to: the same answer for whoever decides it and whoever carries it
 * out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/guard.h"
#include "supervisor/ballot.h"

enum { VOTES_MAX = 4 };

#define NO 0xff /* no vote answers */

struct said {
	const char *who, *choice, *path;
	bool deny;
	uint8_t file;
};

struct ballot_case {
	const char *name;
	enum journal_approval_kind kind;
	struct said votes[VOTES_MAX]; /* up to the first without `who` */
	const char *path; /* asked for */
	uint8_t answer; /* index of the vote */
	uint32_t agreeing;
};

static const struct ballot_case cases[] = {
	{"nobody spoke", JOURNAL_KIND_CONFLICT, {{0}}, "x", NO, 0},
	{"one speaks for the whole", JOURNAL_KIND_CONFLICT, {{"ann", "mine", ""}}, "x", 0, 1},
	{"one speaks of another path", JOURNAL_KIND_CONFLICT, {{"ann", "mine", "y"}}, "x", NO, 0},
	{"a name that begins alike is another path",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "mine", "x/y"}},
	 "x",
	 NO,
	 0},
	{"a path comes before the whole, said after it",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "mine", ""}, {"ann", "theirs", "x"}},
	 "x",
	 1,
	 1},
	{"a path comes before the whole, said before it",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "theirs", "x"}, {"ann", "mine", ""}},
	 "x",
	 0,
	 1},
	{"the whole holds for what is not named",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "theirs", "x"}, {"ann", "mine", ""}},
	 "y",
	 1,
	 1},
	{"the last of a path holds",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "mine", "x"}, {"ann", "theirs", "x"}, {"ann", "mine", "y"}},
	 "x",
	 1,
	 1},
	{"two agree, one by the path and one by the whole",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "mine", "x"}, {"bob", "mine", ""}},
	 "x",
	 0,
	 2},
	{"two disagree: the last holds, and stands alone",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "mine", ""}, {"bob", "theirs", ""}},
	 "x",
	 1,
	 1},
	{"a word that was changed counts as it is now",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "mine", ""}, {"bob", "theirs", ""}, {"ann", "theirs", ""}},
	 "x",
	 2,
	 2},
	{"who says it twice is one",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "mine", ""}, {"ann", "mine", "x"}, {"bob", "theirs", ""}},
	 "x",
	 1,
	 1},
	{"voters without a name are one",
	 JOURNAL_KIND_STEP_GATE,
	 {{"", NULL, ""}, {"", NULL, ""}},
	 "",
	 1,
	 1},
	{"another content is another answer",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "file", "x", false, 1}, {"bob", "file", "x", false, 2}},
	 "x",
	 1,
	 1},
	{"the same content is the same answer",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "file", "x", false, 1}, {"bob", "file", "x", false, 1}},
	 "x",
	 1,
	 2},
	{"without a choice a gate is answered",
	 JOURNAL_KIND_STEP_GATE,
	 {{"ann", NULL, ""}, {"bob", "", ""}},
	 "",
	 1,
	 2},
	{"two choose differently",
	 JOURNAL_KIND_EXHAUSTED,
	 {{"ann", "retry", ""}, {"bob", "fail", ""}},
	 "",
	 1,
	 1},
	/* What follows is refused when it is voted, so that only a damaged row would hold it: then
	 * nothing is carried out. */
	{"without a choice a conflict is not answered",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", NULL, ""}},
	 "x",
	 NO,
	 0},
	{"nor is it by what was chosen before",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "mine", ""}, {"ann", NULL, "x"}},
	 "x",
	 NO,
	 0},
	{"one deny decides",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "mine", ""}, {"bob", "theirs", ""}, {"eve", NULL, "", true}},
	 "x",
	 NO,
	 0},
	{"one deny of a path denies the item",
	 JOURNAL_KIND_CONFLICT,
	 {{"ann", "mine", ""}, {"bob", NULL, "y", true}},
	 "x",
	 NO,
	 0},
	{"and nothing said later takes it back",
	 JOURNAL_KIND_STEP_GATE,
	 {{"ann", NULL, "", true}, {"bob", NULL, ""}},
	 "",
	 NO,
	 0},
};

static void make(const struct ballot_case *c, struct journal_vote votes[VOTES_MAX],
		 struct journal_approval *ret)
{
	*ret = (struct journal_approval){.kind = c->kind, .votes = votes};
	for (uint32_t i = 0; i < VOTES_MAX && c->votes[i].who; i++) {
		const struct said *s = &c->votes[i];

		votes[i] = (struct journal_vote){
			.principal = *s->who ? (char *)s->who : NULL,
			.choice = (char *)s->choice,
			.decision = s->deny ? JOURNAL_DECISION_DENY : JOURNAL_DECISION_APPROVE,
			.path = bytes_str(s->path),
			.file = {.b = {s->file}},
		};
		ret->vote_count++;
	}
}

static void test_one_answer_holds_for_a_path(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct ballot_case *c = &cases[i];
		struct journal_vote votes[VOTES_MAX];
		struct journal_approval item;
		const struct journal_vote *answer;

		make(c, votes, &item);
		answer = ballot_answer(&item, bytes_str(c->path));
		if (answer != (c->answer == NO ? NULL : &votes[c->answer]))
			fail_msg("%s: vote %td answers", c->name, answer ? answer - votes : -1);
		if (answer && ballot_agreeing(&item, answer, bytes_str(c->path)) != c->agreeing)
			fail_msg("%s: %u agree", c->name,
				 ballot_agreeing(&item, answer, bytes_str(c->path)));
	}
}

static void test_a_last_word_is_of_one_principal_and_one_path(void **state)
{
	static const struct ballot_case c = {
		.kind = JOURNAL_KIND_CONFLICT,
		.votes = {{"ann", "mine", ""}, {"ann", "mine", "x"}, {"ann", "theirs", "x"}},
	};
	struct journal_vote votes[VOTES_MAX];
	struct journal_approval item;

	(void)state;
	make(&c, votes, &item);
	assert_ptr_equal(ballot_last_word(&item, "ann", bytes_str("")), &votes[0]);
	assert_ptr_equal(ballot_last_word(&item, "ann", bytes_str("x")), &votes[2]);
	assert_null(ballot_last_word(&item, "ann", bytes_str("y")));
	assert_null(ballot_last_word(&item, "bob", bytes_str("x")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_answer_holds_for_a_path),
		cmocka_unit_test(test_a_last_word_is_of_one_principal_and_one_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
