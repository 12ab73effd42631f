/*
 * The policy that stands in a plan goes through the policy's own parser, as it stands there, so that
 * the policy's messages point into the plan.
 */
#include "supervisor/plan_inline.h"
#include "base/guard.h"

DEFINE_GUARD(struct yaml_doc *, yaml_doc_free)

/* Where a line and a column in characters begin. */
static size_t offset_of(struct bytes text, int line, int column)
{
	const char *c = text.data;
	size_t at = 0;

	for (; at < text.len && line > 1; at++)
		line -= c[at] == '\n' ||
			(c[at] == '\r' && !(at + 1 < text.len && c[at + 1] == '\n'));
	for (; at < text.len && column > 1; column--)
		do
			at++;
		while (at < text.len && (c[at] & 0xc0) == 0x80);
	return at;
}

static bool same_tree(const struct yaml_node *a, const struct yaml_node *b)
{
	if (a->kind != b->kind || a->line != b->line || a->column != b->column ||
	    a->quoted != b->quoted || a->count != b->count || !bytes_equal(a->text, b->text))
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (a->kind == YAML_SEQUENCE && !same_tree(a->items[i], b->items[i]))
			return false;
		if (a->kind == YAML_MAPPING && (!same_tree(a->pairs[i].key, b->pairs[i].key) ||
						!same_tree(a->pairs[i].value, b->pairs[i].value)))
			return false;
	}
	return true;
}

/* The plan's own lines from n to the plan's next key, behind as many empty ones as stand before it.
 * False where these are not the same policy: in a plan that is one flow mapping. */
static bool cut_out(struct bytes text, const char *file, const struct yaml_node *root,
		    const struct yaml_node *n, struct buffer *out)
{
	AUTO(yaml_doc_free) struct yaml_doc *doc = NULL;
	size_t from = offset_of(text, n->line, n->column), to = text.len;
	int next = 0; /* the line of the plan's next key */

	for (size_t i = 0; i < root->count && next == 0; i++)
		if (root->pairs[i].key->line > n->line)
			next = root->pairs[i].key->line;
	if (next > 0)
		to = offset_of(text, next, 1);
	for (int i = 1; i < n->line; i++)
		buffer_append_byte(out, '\n');
	for (int i = 1; i < n->column; i++)
		buffer_append_byte(out, ' ');
	buffer_append(out, (const char *)text.data + from, to - from);
	return !out->failed && yaml_parse(buffer_bytes(out), file, &doc, NULL) == 0 &&
	       same_tree(yaml_root(doc), n);
}

/* Else it is written again as YAML that means the same, each token on the line it came from. */
struct emit {
	struct buffer *out;
	int line, column;
};

static void emit_raw(struct emit *e, const char *text, size_t len)
{
	buffer_append(e->out, text, len);
	e->column += (int)len;
}

static void emit_at(struct emit *e, const struct yaml_node *n)
{
	for (; e->line < n->line; e->line++) {
		buffer_append_byte(e->out, '\n');
		e->column = 1;
	}
	while (e->column < n->column)
		emit_raw(e, " ", 1);
}

static void emit_scalar(struct emit *e, const struct yaml_node *n, bool key)
{
	const char *c = n->text.data;

	emit_at(e, n);
	if (!key && yaml_is_null(n)) {
		emit_raw(e, "null", 4);
		return;
	}
	emit_raw(e, "\"", 1);
	for (size_t i = 0; i < n->text.len; i++) {
		if (c[i] == '\n')
			emit_raw(e, "\\n", 2);
		else if (c[i] == '\t')
			emit_raw(e, "\\t", 2);
		else if (c[i] == '\r')
			emit_raw(e, "\\r", 2);
		else if (c[i] == '"' || c[i] == '\\')
			emit_raw(e, (char[]){'\\', c[i]}, 2);
		else
			emit_raw(e, &c[i], 1);
	}
	emit_raw(e, "\"", 1);
}

static void emit_node(struct emit *e, const struct yaml_node *n)
{
	switch (n->kind) {
	case YAML_SCALAR:
		emit_scalar(e, n, false);
		break;
	case YAML_SEQUENCE:
		emit_at(e, n);
		emit_raw(e, "[", 1);
		for (size_t i = 0; i < n->count; i++) {
			if (i)
				emit_raw(e, ",", 1);
			emit_node(e, n->items[i]);
		}
		emit_raw(e, "]", 1);
		break;
	case YAML_MAPPING:
		emit_at(e, n);
		emit_raw(e, "{", 1);
		for (size_t i = 0; i < n->count; i++) {
			if (i)
				emit_raw(e, ",", 1);
			emit_scalar(e, n->pairs[i].key, true);
			emit_raw(e, ": ", 2);
			emit_node(e, n->pairs[i].value);
		}
		emit_raw(e, "}", 1);
		break;
	}
}

int plan_inline_policy(struct bytes text, const char *file, const struct yaml_node *root,
		       const struct yaml_node *n, struct buffer *out)
{
	struct emit e = {.out = out, .line = 1, .column = 1};

	if (!cut_out(text, file, root, n, out)) {
		out->len = 0;
		emit_node(&e, n);
		buffer_append_byte(out, '\n');
	}
	return out->failed;
}
