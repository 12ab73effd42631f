/* One file as its reader's caller holds it. */
#include "policy/model.h"
#include <stdio.h>

int policy_parse(struct bytes text, const char *file, const struct policy_lookup *lookup,
		 struct policy **ret)
{
	struct policy *p = calloc(1, sizeof(*p));
	struct policy_parser c;
	int err;

	if (!p)
		return -ENOMEM;
	p->file = policy_arena_text(&p->arena, bytes_str(file ? file : ""));
	c = (struct policy_parser){
		.arena = &p->arena,
		.findings = &p->findings,
		.file = p->file,
		.lookup = lookup,
	};
	err = p->file ? policy_parse_body(&c, text, &p->body) : -ENOMEM;
	if (err < 0) {
		policy_free(p);
		return err;
	}
	*ret = p;
	return 0;
}

void policy_free(struct policy *p)
{
	if (!p)
		return;
	policy_arena_free(&p->arena);
	free(p);
}

const struct policy_findings *policy_findings(const struct policy *p)
{
	return &p->findings;
}

int policy_check(const struct policy *p, struct error *err)
{
	for (size_t i = 0; i < p->findings.count; i++) {
		const struct policy_finding *f = &p->findings.items[i];

		if (f->severity != POLICY_ERROR)
			continue;
		error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE, "error[E%04d]: %s", f->code,
			       f->msg);
		error_where(err, "%s:%d:%d", f->at.file, f->at.line, f->at.column);
		return -EINVAL;
	}
	return p->findings.errors ? error_set(err, -EINVAL, "the policy has errors") : 0;
}

int policy_builtin(const char *name, struct policy **ret)
{
	const char *text = policy_builtin_text(name);
	char file[64];

	if (!text)
		return -ENOENT;
	snprintf(file, sizeof(file), "builtin:%s", name);
	return policy_parse(bytes_str(text), file, NULL, ret);
}
