/* Findings: gathered up to a limit, shown in the order of the file. */
#include "policy/model.h"
#include "base/utf8.h"
#include <stdio.h>

void policy_find(struct policy_parser *c, struct policy_place at, int code,
		 enum policy_severity severity, const char *fmt, ...)
{
	struct policy_findings *f = c->findings;
	struct policy_finding *items;
	char msg[512];
	va_list args;

	if (severity == POLICY_ERROR)
		f->errors++;
	if (f->count > POLICY_FINDINGS_MAX)
		return;
	va_start(args, fmt);
	utf8_vprintf(msg, sizeof(msg), fmt, args);
	va_end(args);
	if (f->count == POLICY_FINDINGS_MAX) {
		snprintf(msg, sizeof(msg), "more than %d findings; the rest is not shown",
			 POLICY_FINDINGS_MAX);
		code = 9;
		/* Nobody reads so many warnings: what is not read is not taken. */
		f->errors += severity == POLICY_WARNING;
		severity = POLICY_ERROR;
	}
	items = policy_arena_push(c->arena, (void *)f->items, f->count, sizeof(*items));
	if (!items)
		return;
	items[f->count] = (struct policy_finding){
		.at = at,
		.code = code,
		.severity = severity,
		.msg = policy_arena_text(c->arena, bytes_str(msg)),
	};
	f->items = items;
	if (items[f->count].msg)
		f->count++;
}

static int by_place(const void *a, const void *b)
{
	const struct policy_finding *x = a;
	const struct policy_finding *y = b;

	if (x->at.line != y->at.line)
		return x->at.line < y->at.line ? -1 : 1;
	if (x->at.column != y->at.column)
		return x->at.column < y->at.column ? -1 : 1;
	return x->code < y->code ? -1 : x->code > y->code;
}

void policy_find_sort(struct policy_findings *f, size_t from)
{
	if (f->count > from)
		qsort((struct policy_finding *)f->items + from, f->count - from, sizeof(*f->items),
		      by_place);
}

void policy_finding_print(const struct policy_finding *f, struct buffer *out)
{
	bool error = f->severity == POLICY_ERROR;

	buffer_printf(out, "%s:%d:%d: %s[%c%04d]: %s\n", f->at.file, f->at.line, f->at.column,
		      error ? "error" : "warning", error ? 'E' : 'W', f->code, f->msg);
}
