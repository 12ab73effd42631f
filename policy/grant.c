/*
 * A person's grant: a `match` over the parsed fields of one rule's actions, as `standing` has it.
 * It is read by the parser of `standing` itself, so that there is one grammar and one meaning.
 */
#include "policy/model.h"

enum { GRANT_BYTES_MAX = 16 * 1024 };

/* YAML's double-quoted form of a rule's id, which holds nothing that would end it. */
static int wrap(const char *rule, struct bytes match, struct buffer *out)
{
	buffer_append_str(out, "version: 1\nname: grant\nkind: grant\nnet:\n  - {id: \"");
	buffer_append_str(out, rule);
	buffer_append_str(out, "\", do: ask, http: {host: grant.example.com}}\nstanding:\n"
			       "  - {rule: \"");
	buffer_append_str(out, rule);
	buffer_append_str(out, "\", uses: 1, expires: \"2999-12-31\", why: a grant, match: ");
	buffer_append(out, match.data, match.len);
	return buffer_append_str(out, "}\n");
}

int policy_grant_parse(const char *rule, struct bytes match, struct policy **ret, struct error *err)
{
	AUTO(policy_free) struct policy *p = NULL;
	AUTO_BUFFER text = {0};
	int r;

	if (match.len > GRANT_BYTES_MAX || memchr(match.data, '\n', match.len) ||
	    strpbrk(rule, "\"\\"))
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "grant: what it covers is too long, or of a rule that cannot "
				      "be named");
	r = wrap(rule, match, &text);
	if (r == 0)
		r = policy_parse(buffer_bytes(&text), "grant", NULL, &p);
	if (r == 0)
		r = policy_check(p, err);
	if (r != 0)
		return r;
	if (p->body.standing.n != 1 ||
	    ((const struct policy_standing *)p->body.standing.v)->match.n == 0)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "grant: what it covers is not one set of fields");
	*ret = take_ptr(p);
	return 0;
}

bool policy_grant_covers(const struct policy *grant, const struct policy_effective *e,
			 const struct policy_request *r, const struct policy_decision *d)
{
	return policy_standing_matches(e, grant->body.standing.v, r, d);
}
