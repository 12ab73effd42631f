#include "base/yaml.h"
#include "base/escape.h"
#include "base/utf8.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

enum { NEAREST_WORD_MAX = 63, SHOWN_MAX = 64 };

struct yaml_doc {
	struct yaml_node *root;
	char *file;
};

/* A collection that is being filled. */
struct frame {
	struct yaml_node *node;
	size_t cap;
	bool has_key; /* mapping: the last pair waits for its value */
};

struct reader {
	yaml_parser_t parser;
	const char *file;
	struct error *err;
	struct yaml_doc *doc;
	struct frame stack[YAML_DEPTH_MAX];
	size_t depth;
	size_t nodes;
	bool lenient;
};

static int fail_at(struct error *err, const char *file, int line, int column, int code,
		   const char *fmt, ...) PRINTF_LIKE(6, 7);

static int fail_at(struct error *err, const char *file, int line, int column, int code,
		   const char *fmt, ...)
{
	va_list args;

	if (!err || err->code != 0)
		return code;
	va_start(args, fmt);
	error_vset(err, code, fmt, args);
	va_end(args);
	yaml_where(err, file, line, column);
	return code;
}

void yaml_where(struct error *err, const char *file, int line, int column)
{
	if (!err)
		return;
	err->exit_status = EXIT_STATUS_USAGE;
	/* The end of a long path says more than its start, and the place must not be cut off. */
	if (strlen(file) > ERROR_WHERE_MAX - 32)
		error_where(err, "...%s:%d:%d", file + strlen(file) - (ERROR_WHERE_MAX - 32), line,
			    column);
	else
		error_where(err, "%s:%d:%d", file, line, column);
}

int yaml_too_large(struct error *err, const char *file)
{
	return fail_at(err, file, 1, 1, -E2BIG,
		       "error[E0006]: the file is larger than %d KiB; keep data out of it",
		       YAML_BYTES_MAX / 1024);
}

int yaml_error(struct error *err, const char *file, const struct yaml_node *n, int code,
	       const char *fmt, ...)
{
	char msg[ERROR_MSG_MAX];
	va_list args;

	va_start(args, fmt);
	utf8_vprintf(msg, sizeof(msg), fmt, args);
	va_end(args);
	return fail_at(err, file, n ? n->line : 1, n ? n->column : 1, code, "%s", msg);
}

static int fail_mark(struct reader *r, const yaml_mark_t *m, int code, const char *what)
{
	return fail_at(r->err, r->file, (int)m->line + 1, (int)m->column + 1, code, "%s", what);
}

/* What a message quotes from the file: escaped, and cut where it is long. */
struct shown {
	char text[SHOWN_MAX + 4];
};

static struct shown show(struct bytes b)
{
	struct shown s;
	AUTO_BUFFER out = {0};
	size_t n;

	escape_append(&out, b, ESCAPE_LINE);
	n = utf8_cut(buffer_bytes(&out), SHOWN_MAX).len;
	snprintf(s.text, sizeof(s.text), "%.*s%s", (int)n, out.data ? (const char *)out.data : "",
		 n < out.len ? "..." : "");
	return s;
}

/* ---- the text, before libyaml sees it ---- */

static int check_text(struct bytes text, const char *file, struct error *err)
{
	int line = 1;
	int column = 1;

	if (text.len > YAML_BYTES_MAX)
		return yaml_too_large(err, file);
	for (size_t at = 0; at < text.len;) {
		size_t start = at;
		int32_t cp = utf8_next(text, &at);
		const uint8_t *p = (const uint8_t *)text.data + start;

		if (cp < 0)
			return fail_at(
				err, file, line, column, -EINVAL,
				"error[E0002]: byte 0x%02x is not UTF-8; save the file as UTF-8",
				*p);
		if (cp == '\n') {
			line++;
			column = 1;
			continue;
		}
		if (cp == '\r' && at < text.len && p[1] == '\n')
			continue;
		if (cp != '\t' && utf8_is_deceptive(cp))
			return fail_at(err, file, line, column, -EINVAL,
				       "error[E0002]: U+%04X is a control, bidi or invisible "
				       "character; remove it",
				       (unsigned)cp);
		column++;
	}
	return 0;
}

/* ---- the tree ---- */

static void node_free(struct yaml_node *n)
{
	if (!n)
		return;
	for (size_t i = 0; n->items && i < n->count; i++)
		node_free(n->items[i]);
	for (size_t i = 0; n->pairs && i < n->count; i++) {
		node_free(n->pairs[i].key);
		node_free(n->pairs[i].value);
	}
	free(n->items);
	free(n->pairs);
	free((void *)n->text.data);
	free(n);
}

void yaml_doc_free(struct yaml_doc *d)
{
	if (!d)
		return;
	node_free(d->root);
	free(d->file);
	free(d);
}

struct yaml_node *yaml_root(const struct yaml_doc *d)
{
	return d->root;
}

static int grow(struct reader *r, struct frame *f)
{
	struct yaml_node *n = f->node;
	size_t cap = f->cap ? 2 * f->cap : 8;
	void *p;

	if (n->count < f->cap)
		return 0;
	if (n->kind == YAML_SEQUENCE)
		p = realloc(n->items, cap * sizeof(*n->items));
	else
		p = realloc(n->pairs, cap * sizeof(*n->pairs));
	if (!p)
		return error_nomem(r->err);
	if (n->kind == YAML_SEQUENCE)
		n->items = p;
	else
		n->pairs = p;
	f->cap = cap;
	return 0;
}

static int check_key(struct reader *r, const struct yaml_node *key)
{
	if (key->kind != YAML_SCALAR)
		return yaml_error(r->err, r->file, key, -EINVAL,
				  "error[E0007]: a list or mapping as a key; a key is one word");
	if (key->text.len == 0)
		return yaml_error(r->err, r->file, key, -EINVAL,
				  "error[E0007]: an empty key; write its name");
	if (!key->quoted && bytes_equal(key->text, bytes_str("<<")))
		return yaml_error(
			r->err, r->file, key, -EINVAL,
			"error[E0004]: a merge key; write the keys out, or use 'extends'");
	return 0;
}

/* Hands n to the tree, which owns it from here on, also when this fails. */
static int place(struct reader *r, struct yaml_node *n)
{
	struct frame *f;
	int err;

	if (r->depth == 0) {
		r->doc->root = n;
		return 0;
	}
	f = &r->stack[r->depth - 1];
	if (f->node->kind == YAML_MAPPING && f->has_key) {
		f->node->pairs[f->node->count - 1].value = n;
		f->has_key = false;
		return 0;
	}
	err = f->node->kind == YAML_MAPPING ? check_key(r, n) : 0;
	if (err == 0)
		err = grow(r, f);
	if (err < 0) {
		node_free(n);
		return err;
	}
	if (f->node->kind == YAML_SEQUENCE) {
		f->node->items[f->node->count++] = n;
	} else {
		f->node->pairs[f->node->count++] = (struct yaml_pair){.key = n};
		f->has_key = true;
	}
	return 0;
}

static struct yaml_node *node_new(struct reader *r, enum yaml_kind kind, const yaml_mark_t *at)
{
	struct yaml_node *n;

	if (++r->nodes > YAML_NODES_MAX) {
		fail_at(r->err, r->file, (int)at->line + 1, (int)at->column + 1, -E2BIG,
			"error[E0006]: more than %d values in one file; split it", YAML_NODES_MAX);
		return NULL;
	}
	n = calloc(1, sizeof(*n));
	if (!n) {
		error_nomem(r->err);
		return NULL;
	}
	n->kind = kind;
	n->line = (int)at->line + 1;
	n->column = (int)at->column + 1;
	return n;
}

static int check_scalar(struct reader *r, const yaml_event_t *e)
{
	struct bytes b = bytes_of(e->data.scalar.value, e->data.scalar.length);

	if (b.len > YAML_SCALAR_MAX)
		return fail_at(r->err, r->file, (int)e->start_mark.line + 1,
			       (int)e->start_mark.column + 1, -E2BIG,
			       "error[E0006]: a text longer than %d KiB; put it into a file",
			       YAML_SCALAR_MAX / 1024);
	for (size_t at = 0; at < b.len;) {
		int32_t cp = utf8_next(b, &at);

		if (cp != '\n' && cp != '\t' && utf8_is_deceptive(cp))
			return fail_at(r->err, r->file, (int)e->start_mark.line + 1,
				       (int)e->start_mark.column + 1, -EINVAL,
				       "error[E0002]: an escape makes a control, bidi or invisible "
				       "character; "
				       "remove it");
	}
	return 0;
}

static int on_scalar(struct reader *r, const yaml_event_t *e)
{
	struct yaml_node *n;
	int err = check_scalar(r, e);

	if (err < 0)
		return err;
	n = node_new(r, YAML_SCALAR, &e->start_mark);
	if (!n)
		return r->nodes > YAML_NODES_MAX ? -E2BIG : -ENOMEM;
	n->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
	n->text = bytes_of(bytes_dup_str(bytes_of(e->data.scalar.value, e->data.scalar.length)),
			   e->data.scalar.length);
	if (!n->text.data) {
		node_free(n);
		return error_nomem(r->err);
	}
	return place(r, n);
}

static int on_open(struct reader *r, enum yaml_kind kind, const yaml_event_t *e)
{
	struct yaml_node *n;
	int err;

	if (r->depth == YAML_DEPTH_MAX)
		return fail_at(r->err, r->file, (int)e->start_mark.line + 1,
			       (int)e->start_mark.column + 1, -E2BIG,
			       "error[E0006]: nested deeper than %d levels", YAML_DEPTH_MAX);
	n = node_new(r, kind, &e->start_mark);
	if (!n)
		return r->nodes > YAML_NODES_MAX ? -E2BIG : -ENOMEM;
	err = place(r, n);
	if (err < 0)
		return err;
	r->stack[r->depth++] = (struct frame){.node = n};
	return 0;
}

static int by_key(const void *a, const void *b)
{
	const struct yaml_pair *x = *(struct yaml_pair *const *)a;
	const struct yaml_pair *y = *(struct yaml_pair *const *)b;
	int c = bytes_compare(x->key->text, y->key->text);

	return c ? c : x < y ? -1 : 1;
}

/* Names the first key, in document order, that stands there a second time; marks all of them where
 * lenient. */
static int check_twice(struct reader *r, const struct yaml_node *map)
{
	struct yaml_pair **sorted;
	const struct yaml_pair *twice = NULL;
	const struct yaml_pair *first = NULL;

	if (map->count < 2)
		return 0;
	sorted = malloc(map->count * sizeof(struct yaml_pair *));
	if (!sorted)
		return error_nomem(r->err);
	for (size_t i = 0; i < map->count; i++)
		sorted[i] = &map->pairs[i];
	qsort(sorted, map->count, sizeof(struct yaml_pair *), by_key);
	for (size_t i = 1; i < map->count; i++) {
		if (!bytes_equal(sorted[i - 1]->key->text, sorted[i]->key->text))
			continue;
		sorted[i]->first = sorted[i - 1]->first ? sorted[i - 1]->first : sorted[i - 1]->key;
		if (!twice || sorted[i] < twice) {
			first = sorted[i - 1];
			twice = sorted[i];
		}
	}
	free(sorted);
	if (!twice || r->lenient)
		return 0;
	return yaml_error(r->err, r->file, twice->key, -EINVAL,
			  "error[E0003]: key '%s' given twice (first at %d:%d)",
			  show(twice->key->text).text, first->key->line, first->key->column);
}

static int on_close(struct reader *r)
{
	struct frame *f = &r->stack[--r->depth];

	return f->node->kind == YAML_MAPPING ? check_twice(r, f->node) : 0;
}

/* ---- events ---- */

static int parser_error(struct reader *r)
{
	const yaml_parser_t *p = &r->parser;
	const yaml_mark_t *m = &p->problem_mark;

	if (p->error == YAML_MEMORY_ERROR)
		return error_nomem(r->err);
	return fail_at(r->err, r->file, (int)m->line + 1, (int)m->column + 1, -EINVAL,
		       "error[E0001]: %s%s%s", p->context ? p->context : "", p->context ? ": " : "",
		       p->problem ? p->problem : "not YAML");
}

static int no_properties(struct reader *r, const yaml_event_t *e, const yaml_char_t *anchor,
			 const yaml_char_t *tag)
{
	if (anchor)
		return fail_mark(r, &e->start_mark, -EINVAL,
				 "error[E0004]: an anchor; write the value out");
	if (tag)
		return fail_mark(r, &e->start_mark, -EINVAL,
				 "error[E0004]: a tag; the schema types the values, remove it");
	return 0;
}

static int on_event(struct reader *r, const yaml_event_t *e)
{
	int err;

	switch (e->type) {
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		return 0;
	case YAML_DOCUMENT_START_EVENT:
		if (r->doc->root)
			return fail_mark(r, &e->start_mark, -EINVAL,
					 "error[E0005]: a second document; one file holds one");
		if (e->data.document_start.version_directive ||
		    e->data.document_start.tag_directives.start !=
			    e->data.document_start.tag_directives.end)
			return fail_mark(r, &e->start_mark, -EINVAL,
					 "error[E0004]: a directive; remove it");
		return 0;
	case YAML_ALIAS_EVENT:
		return fail_mark(r, &e->start_mark, -EINVAL,
				 "error[E0004]: an alias; write the value out");
	case YAML_SCALAR_EVENT:
		err = no_properties(r, e, e->data.scalar.anchor, e->data.scalar.tag);
		return err < 0 ? err : on_scalar(r, e);
	case YAML_SEQUENCE_START_EVENT:
		err = no_properties(r, e, e->data.sequence_start.anchor,
				    e->data.sequence_start.tag);
		return err < 0 ? err : on_open(r, YAML_SEQUENCE, e);
	case YAML_MAPPING_START_EVENT:
		err = no_properties(r, e, e->data.mapping_start.anchor, e->data.mapping_start.tag);
		return err < 0 ? err : on_open(r, YAML_MAPPING, e);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return on_close(r);
	}
	return 0;
}

static int read_events(struct reader *r)
{
	for (bool end = false; !end;) {
		yaml_event_t e;
		int err;

		if (!yaml_parser_parse(&r->parser, &e))
			return parser_error(r);
		err = on_event(r, &e);
		end = e.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&e);
		if (err < 0)
			return err;
	}
	if (!r->doc->root || (r->doc->root->kind == YAML_SCALAR && r->doc->root->text.len == 0))
		return fail_at(r->err, r->file, 1, 1, -EINVAL, "error[E0008]: the file is empty");
	return 0;
}

static int parse(struct bytes text, const char *file, bool lenient, struct yaml_doc **ret,
		 struct error *err)
{
	struct reader r = {.file = file, .err = err, .lenient = lenient};
	int code = check_text(text, file, err);

	if (code < 0)
		return code;
	r.doc = calloc(1, sizeof(*r.doc));
	if (!r.doc)
		return error_nomem(err);
	r.doc->file = bytes_dup_str(bytes_str(file));
	if (!r.doc->file || !yaml_parser_initialize(&r.parser)) {
		yaml_doc_free(r.doc);
		return error_nomem(err);
	}
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, text.data ? text.data : (const yaml_char_t *)"",
				     text.len);
	code = read_events(&r);
	yaml_parser_delete(&r.parser);
	if (code < 0)
		yaml_doc_free(r.doc);
	else
		*ret = r.doc;
	return code;
}

int yaml_parse(struct bytes text, const char *file, struct yaml_doc **ret, struct error *err)
{
	return parse(text, file, false, ret, err);
}

int yaml_parse_lenient(struct bytes text, const char *file, struct yaml_doc **ret,
		       struct error *err)
{
	return parse(text, file, true, ret, err);
}

bool yaml_is_null(const struct yaml_node *n)
{
	return n->kind == YAML_SCALAR && !n->quoted &&
	       (n->text.len == 0 || bytes_equal(n->text, bytes_str("~")) ||
		bytes_equal(n->text, bytes_str("null")));
}

int yaml_known_keys(const struct yaml_node *map, const char *const *known, size_t count,
		    const char *what, const char *file, struct error *err)
{
	for (size_t i = 0; i < map->count; i++) {
		const struct yaml_node *key = map->pairs[i].key;
		const char *near;
		size_t k = 0;

		while (k < count && !bytes_equal(key->text, bytes_str(known[k])))
			k++;
		if (k < count)
			continue;
		near = yaml_nearest(key->text, known, count);
		if (near)
			return yaml_error(err, file, key, -EINVAL,
					  "%s: unknown key '%s'; did you mean '%s'?", what,
					  show(key->text).text, near);
		return yaml_error(err, file, key, -EINVAL, "%s: unknown key '%s'; remove it", what,
				  show(key->text).text);
	}
	return 0;
}

struct yaml_node *yaml_get(struct yaml_node *map, const char *key)
{
	if (!map || map->kind != YAML_MAPPING)
		return NULL;
	for (size_t i = 0; i < map->count; i++) {
		struct yaml_pair *p = &map->pairs[i];

		if (!bytes_equal(p->key->text, bytes_str(key)))
			continue;
		return p->value;
	}
	return NULL;
}

/* Optimal string alignment: insertions, deletions, substitutions, and swaps of neighbours each cost
 * one. */
static size_t distance(struct bytes a, const char *b)
{
	size_t rows[3][NEAREST_WORD_MAX + 2];
	size_t *before = rows[0];
	size_t *last = rows[1];
	size_t *row = rows[2];
	size_t len = strlen(b);
	const char *s = a.data;

	for (size_t j = 0; j <= len; j++)
		last[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t *spare = before;

		row[0] = i;
		for (size_t j = 1; j <= len; j++) {
			size_t best = last[j - 1] + (s[i - 1] != b[j - 1]);

			if (last[j] + 1 < best)
				best = last[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && s[i - 1] == b[j - 2] && s[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			row[j] = best;
		}
		before = last;
		last = row;
		row = spare;
	}
	return last[len];
}

const char *yaml_nearest(struct bytes word, const char *const *candidates, size_t count)
{
	const char *nearest = NULL;
	size_t least = word.len / 3 + 1;

	if (word.len == 0 || word.len > NEAREST_WORD_MAX)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		size_t d;

		if (strlen(candidates[i]) > NEAREST_WORD_MAX)
			continue;
		d = distance(word, candidates[i]);
		if (d < least) {
			least = d;
			nearest = candidates[i];
		}
	}
	return nearest;
}
