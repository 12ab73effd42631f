#include "supervisor/ballot.h"

#include <string.h>

bool ballot_same_text(const char *a, const char *b)
{
	return (!a || !*a) ? (!b || !*b) : b && strcmp(a, b) == 0;
}

const struct journal_vote *ballot_last_word(const struct journal_approval *item,
					    const char *principal, struct bytes path)
{
	for (uint32_t i = item->vote_count; i-- > 0;)
		if (ballot_same_text(item->votes[i].principal, principal) &&
		    bytes_equal(item->votes[i].path, path))
			return &item->votes[i];
	return NULL;
}

const struct journal_vote *ballot_answer(const struct journal_approval *item, struct bytes path)
{
	const struct journal_vote *all = NULL, *one = NULL, *answer;

	for (uint32_t i = 0; i < item->vote_count; i++) {
		const struct journal_vote *v = &item->votes[i];

		if (v->decision != JOURNAL_DECISION_APPROVE)
			return NULL;
		if (v->path.len == 0)
			all = v;
		else if (bytes_equal(v->path, path))
			one = v;
	}
	answer = one ? one : all;
	if (answer && item->kind == JOURNAL_KIND_CONFLICT && ballot_same_text(answer->choice, NULL))
		return NULL;
	return answer;
}

static const struct journal_vote *word_on(const struct journal_approval *item,
					  const char *principal, struct bytes path)
{
	const struct journal_vote *one = path.len ? ballot_last_word(item, principal, path) : NULL;

	return one ? one : ballot_last_word(item, principal, bytes_of("", 0));
}

uint32_t ballot_agreeing(const struct journal_approval *item, const struct journal_vote *answer,
			 struct bytes path)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < item->vote_count; i++) {
		const struct journal_vote *v = &item->votes[i], *word;
		bool again = false;

		for (uint32_t k = 0; k < i; k++)
			again |= ballot_same_text(v->principal, item->votes[k].principal);
		word = again ? NULL : word_on(item, v->principal, path);
		n += word && word->decision == answer->decision &&
		     ballot_same_text(word->choice, answer->choice) &&
		     digest_equal(&word->file, &answer->file);
	}
	return n;
}
