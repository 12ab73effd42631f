/*
 * One walk over the strict reader's tree, driven by the table of keys. It goes on after an error,
 * so that a person sees all of them at once; a policy with an error is never used.
 */
#include "policy/model.h"
#include "base/escape.h"
#include "base/utf8.h"
#include <stdio.h>

enum { TEXT_MAX = 8192, NAME_SHOWN_MAX = 60, LIST_MAX = 2000 };

static struct policy_place place_of(const struct policy_parser *c, const struct yaml_node *node)
{
	if (!node)
		return (struct policy_place){.file = c->file};
	return (struct policy_place){.file = c->file, .line = node->line, .column = node->column};
}

struct policy_place policy_parse_key_place(const struct policy_parser *c,
					   const struct yaml_node *node,
					   const struct policy_item *item, const char *key)
{
	for (size_t i = 0; node && node->kind == YAML_MAPPING && i < node->count; i++)
		if (bytes_equal(node->pairs[i].key->text, bytes_str(key)))
			return place_of(c, node->pairs[i].key);
	return item->at;
}

/* What a message quotes of the file: escaped, cut where it is long. */
struct shown {
	char text[NAME_SHOWN_MAX * 4 + 4];
};

static struct shown show(struct bytes b)
{
	struct shown s;
	AUTO_BUFFER out = {0};
	bool cut = b.len > NAME_SHOWN_MAX;

	escape_append(&out, utf8_cut(b, NAME_SHOWN_MAX), ESCAPE_LINE | ESCAPE_KEEP_BACKSLASH);
	snprintf(s.text, sizeof(s.text), "%s%s", out.data ? (const char *)out.data : "",
		 cut ? "..." : "");
	return s;
}

void policy_parse_suggest(struct bytes word, const char *const *candidates, size_t count, char *msg,
			  size_t size)
{
	const char *near = yaml_nearest(word, candidates, count);

	msg[0] = '\0';
	if (near)
		snprintf(msg, size, "; did you mean '%s'?", near);
}

static const char *kind_name(const struct yaml_node *n)
{
	switch (n->kind) {
	case YAML_SCALAR:
		return "one value";
	case YAML_SEQUENCE:
		return "a list";
	case YAML_MAPPING:
		return "a mapping";
	}
	return "nothing";
}

static bool expect_kind(struct policy_parser *c, const struct yaml_node *n, enum yaml_kind kind,
			const char *what)
{
	static const char *const names[] = {"one value", "a list", "a mapping"};

	if (n->kind == kind) {
		if (kind != YAML_SCALAR || n->quoted || n->text.len)
			return true;
		policy_find(c, place_of(c, n), 12, POLICY_ERROR,
			    "'%s' has no value; give one or leave it out", what);
		return false;
	}
	policy_find(c, place_of(c, n), 12, POLICY_ERROR, "'%s' is %s; %s is expected", what,
		    kind_name(n), names[kind]);
	return false;
}

/* ---- scalars ---- */

static const char *read_text(struct policy_parser *c, const struct yaml_node *n, const char *what,
			     policy_text_check *check)
{
	char msg[POLICY_WHY_MAX] = "";
	int code;

	if (!expect_kind(c, n, YAML_SCALAR, what))
		return NULL;
	if (n->text.len > TEXT_MAX) {
		policy_find(c, place_of(c, n), 19, POLICY_ERROR, "'%s' is longer than %d bytes",
			    what, TEXT_MAX);
		return NULL;
	}
	code = check ? check(n->text.data, msg) : 0;
	if (code) {
		policy_find(c, place_of(c, n), code, POLICY_ERROR, "'%s': %s", show(n->text).text,
			    msg);
		return NULL;
	}
	return policy_arena_text(c->arena, n->text);
}

static int word_index(const char *const *words, struct bytes text)
{
	for (int i = 0; words[i]; i++)
		if (bytes_equal(text, bytes_str(words[i])))
			return i + 1;
	return 0;
}

static int read_word(struct policy_parser *c, const struct yaml_node *n,
		     const struct policy_key *key)
{
	char list[200] = "";
	size_t count = 0;
	int index;

	if (!expect_kind(c, n, YAML_SCALAR, key->name))
		return 0;
	index = word_index(key->words, n->text);
	if (index)
		return index;
	for (; key->words[count]; count++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s",
			 count ? ", " : "", key->words[count]);
	policy_find(c, place_of(c, n), 13, POLICY_ERROR, "'%s' is no %s; it is one of %s",
		    show(n->text).text, key->name, list);
	return 0;
}

static int parse_decimal(struct bytes text, uint64_t *ret)
{
	const char *s = text.data;
	uint64_t v = 0;

	if (text.len == 0 || (text.len > 1 && s[0] == '0'))
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
			return -ERANGE;
	}
	*ret = v;
	return 0;
}

static void read_number(struct policy_parser *c, const struct yaml_node *n,
			const struct policy_key *key, struct policy_num *ret)
{
	static const char *const examples[] = {
		[POLICY_T_COUNT] = "a whole number",
		[POLICY_T_SIZE] = "a size such as 512, 64KiB or 4GiB",
		[POLICY_T_DURATION] = "a duration such as 250ms, 30s, 10m, 1h30m or 7d",
	};
	static const int codes[] = {
		[POLICY_T_COUNT] = 14, [POLICY_T_SIZE] = 16, [POLICY_T_DURATION] = 15};
	uint64_t v = 0;
	int err;

	if (!expect_kind(c, n, YAML_SCALAR, key->name))
		return;
	if (key->type == POLICY_T_COUNT)
		err = parse_decimal(n->text, &v);
	else if (key->type == POLICY_T_SIZE)
		err = policy_size_parse(n->text, &v);
	else
		err = policy_duration_parse(n->text, &v);
	if (err == -EINVAL)
		policy_find(c, place_of(c, n), codes[key->type], POLICY_ERROR,
			    "'%s' of '%s' is not %s", show(n->text).text, key->name,
			    examples[key->type]);
	else if (err < 0 || v < key->min || v > key->max)
		policy_find(c, place_of(c, n), 17, POLICY_ERROR,
			    "'%s' of '%s' is out of range: %llu to %llu%s", show(n->text).text,
			    key->name, (unsigned long long)key->min, (unsigned long long)key->max,
			    key->type == POLICY_T_DURATION ? " ms"
			    : key->type == POLICY_T_SIZE   ? " bytes"
							   : "");
	else
		*ret = (struct policy_num){.set = true, .v = v};
}

static void read_bool(struct policy_parser *c, const struct yaml_node *n,
		      const struct policy_key *key, struct policy_num *ret)
{
	if (!expect_kind(c, n, YAML_SCALAR, key->name))
		return;
	if (bytes_equal(n->text, bytes_str("true")))
		*ret = (struct policy_num){.set = true, .v = 1};
	else if (bytes_equal(n->text, bytes_str("false")))
		*ret = (struct policy_num){.set = true, .v = 0};
	else
		policy_find(c, place_of(c, n), 13, POLICY_ERROR, "'%s' is neither true nor false",
			    show(n->text).text);
}

/* ---- lists of scalars ---- */

static void push_text(struct policy_parser *c, struct policy_strs *s, const char *text)
{
	const char **v;

	if (!text)
		return;
	v = policy_arena_push(c->arena, s->v, s->n, sizeof(*v));
	if (!v)
		return;
	v[s->n] = text;
	s->v = v;
	s->n++;
}

static bool list_fits(struct policy_parser *c, const struct yaml_node *n, const char *what)
{
	if (n->count <= LIST_MAX)
		return true;
	policy_find(c, place_of(c, n), 19, POLICY_ERROR, "'%s' has more than %d entries", what,
		    LIST_MAX);
	return false;
}

static void read_texts(struct policy_parser *c, const struct yaml_node *n,
		       const struct policy_key *key, struct policy_strs *ret)
{
	if (n->kind == YAML_SCALAR && key->type == POLICY_T_TEXT_OR_TEXTS) {
		push_text(c, ret, read_text(c, n, key->name, key->check));
		ret->set = true;
		return;
	}
	if (!expect_kind(c, n, YAML_SEQUENCE, key->name) || !list_fits(c, n, key->name))
		return;
	for (size_t i = 0; i < n->count; i++) {
		if (key->type == POLICY_T_WORDS) {
			int w = read_word(c, n->items[i], key);

			if (w)
				push_text(c, ret, key->words[w - 1]);
			continue;
		}
		push_text(c, ret, read_text(c, n->items[i], key->name, key->check));
	}
	ret->set = true;
}

/* ---- matches ---- */

static int read_bound(struct policy_parser *c, const struct yaml_node *n, const char *what,
		      int64_t *ret)
{
	struct bytes digits = n->text;
	bool negative = false;
	uint64_t v;

	if (!expect_kind(c, n, YAML_SCALAR, what))
		return -EINVAL;
	if (digits.len && *(const char *)digits.data == '-') {
		negative = true;
		digits = bytes_of((const char *)digits.data + 1, digits.len - 1);
	}
	if (parse_decimal(digits, &v) < 0 || v > INT64_MAX) {
		policy_find(c, place_of(c, n), 14, POLICY_ERROR,
			    "'%s' of '%s' is not a whole number", show(n->text).text, what);
		return -EINVAL;
	}
	*ret = negative ? -(int64_t)v : (int64_t)v;
	return 0;
}

static void read_match(struct policy_parser *c, const struct yaml_node *n, bool token,
		       struct policy_match *m)
{
	static const struct policy_key any = {.name = "any",
					      .type = POLICY_T_TEXTS,
					      .check = policy_value_text};
	static const struct policy_key in = {.name = "in",
					     .type = POLICY_T_TEXTS,
					     .check = policy_value_text};
	const struct yaml_pair *p;

	m->item.at = place_of(c, n);
	if (n->kind == YAML_SCALAR) {
		push_text(c, &m->values,
			  read_text(c, n, token ? "token" : "match", policy_value_text));
		m->values.set = true;
		m->kind = token ? POLICY_MATCH_IN : POLICY_MATCH_GLOB;
		return;
	}
	if (n->kind == YAML_MAPPING && n->count == 1) {
		p = &n->pairs[0];
		m->kind = POLICY_MATCH_IN;
		if (bytes_equal(p->key->text, bytes_str(token ? "any" : "in"))) {
			read_texts(c, p->value, token ? &any : &in, &m->values);
			return;
		}
		if (!token && bytes_equal(p->key->text, bytes_str("max"))) {
			m->kind = POLICY_MATCH_MAX;
			(void)read_bound(c, p->value, "max", &m->bound);
			return;
		}
		if (!token && bytes_equal(p->key->text, bytes_str("min"))) {
			m->kind = POLICY_MATCH_MIN;
			(void)read_bound(c, p->value, "min", &m->bound);
			return;
		}
	}
	policy_find(c, place_of(c, n), 12, POLICY_ERROR, "a %s is %s", token ? "token" : "match",
		    token ? "a value or {any: [value]}"
			  : "a value, a glob, {in: [value]}, {max: N} or {min: N}");
}

static void *push_item(struct policy_parser *c, struct policy_list *list, size_t size)
{
	void *v = policy_arena_push(c->arena, list->v, list->n, size);

	if (!v)
		return NULL;
	list->v = v;
	return (char *)v + list->n++ * size;
}

static void report_twice(struct policy_parser *c, const struct yaml_pair *p)
{
	policy_find(c, place_of(c, p->key), 3, POLICY_ERROR,
		    "key '%s' given twice (first at %d:%d)", show(p->key->text).text,
		    p->first->line, p->first->column);
}

/* Every key that stands somewhere a second time, before anything else is looked at. */
static void find_twice(struct policy_parser *c, const struct yaml_node *n)
{
	for (size_t i = 0; n->kind == YAML_SEQUENCE && i < n->count; i++)
		find_twice(c, n->items[i]);
	for (size_t i = 0; n->kind == YAML_MAPPING && i < n->count; i++) {
		if (n->pairs[i].first)
			report_twice(c, &n->pairs[i]);
		if (n->pairs[i].value)
			find_twice(c, n->pairs[i].value);
	}
}

static void read_tokens(struct policy_parser *c, const struct yaml_node *n,
			const struct policy_key *key, struct policy_list *ret)
{
	if (!expect_kind(c, n, YAML_SEQUENCE, key->name) || !list_fits(c, n, key->name))
		return;
	ret->set = true;
	for (size_t i = 0; i < n->count; i++) {
		struct policy_match *m = push_item(c, ret, sizeof(*m));

		if (m)
			read_match(c, n->items[i], true, m);
	}
}

/* A mapping of texts (names free, values checked) or of matches (names checked). */
static void read_pairs(struct policy_parser *c, const struct yaml_node *n,
		       const struct policy_key *key, struct policy_list *ret)
{
	bool matches = key->type == POLICY_T_MATCH_MAP;

	if (!expect_kind(c, n, YAML_MAPPING, key->name) || !list_fits(c, n, key->name))
		return;
	ret->set = true;
	for (size_t i = 0; i < n->count; i++) {
		const struct yaml_pair *p = &n->pairs[i];
		policy_text_check *check = matches ? key->check : key->name_check;
		const char *name;

		if (p->first)
			continue;
		name = read_text(c, p->key, key->name, check);
		if (!name)
			continue;
		if (matches) {
			struct policy_match *m = push_item(c, ret, sizeof(*m));

			if (!m)
				return;
			read_match(c, p->value, false, m);
			m->item.name = name;
		} else {
			struct policy_text_item *t = push_item(c, ret, sizeof(*t));

			if (!t)
				return;
			t->item = (struct policy_item){.at = place_of(c, p->key), .name = name};
			t->text = read_text(c, p->value, name, key->check);
		}
	}
}

/* ---- raw: kept as JSON text, which the strict reader reads again ---- */

static void write_json(struct buffer *b, const struct yaml_node *n)
{
	switch (n->kind) {
	case YAML_SCALAR:
		buffer_append_byte(b, '"');
		escape_json(b, n->text);
		buffer_append_byte(b, '"');
		return;
	case YAML_SEQUENCE:
		buffer_append_byte(b, '[');
		for (size_t i = 0; i < n->count; i++) {
			if (i)
				buffer_append_byte(b, ',');
			write_json(b, n->items[i]);
		}
		buffer_append_byte(b, ']');
		return;
	case YAML_MAPPING:
		buffer_append_byte(b, '{');
		for (size_t i = 0; i < n->count; i++) {
			if (i)
				buffer_append_byte(b, ',');
			write_json(b, n->pairs[i].key);
			buffer_append_byte(b, ':');
			write_json(b, n->pairs[i].value);
		}
		buffer_append_byte(b, '}');
		return;
	}
}

static const char *read_raw(struct policy_parser *c, const struct yaml_node *n)
{
	AUTO_BUFFER b = {0};

	write_json(&b, n);
	if (b.failed) {
		c->arena->failed = true;
		return NULL;
	}
	return policy_arena_text(c->arena, buffer_bytes(&b));
}

/* ---- structs ---- */

static void read_struct(struct policy_parser *c, const struct policy_table *t,
			const struct yaml_node *n, void *item);

static void read_list(struct policy_parser *c, const struct yaml_node *n,
		      const struct policy_key *key, struct policy_list *ret)
{
	if (!expect_kind(c, n, YAML_SEQUENCE, key->name) || !list_fits(c, n, key->name))
		return;
	ret->set = true;
	for (size_t i = 0; i < n->count; i++) {
		struct policy_item *item = push_item(c, ret, key->sub->size);

		if (!item)
			return;
		item->at = place_of(c, n->items[i]);
		read_struct(c, key->sub, n->items[i], item);
	}
}

static void read_map(struct policy_parser *c, const struct yaml_node *n,
		     const struct policy_key *key, struct policy_list *ret)
{
	if (!expect_kind(c, n, YAML_MAPPING, key->name) || !list_fits(c, n, key->name))
		return;
	ret->set = true;
	for (size_t i = 0; i < n->count; i++) {
		struct policy_item *item;
		const char *name;

		if (n->pairs[i].first)
			continue;
		name = read_text(c, n->pairs[i].key, key->name, key->sub->name_check);
		item = name ? push_item(c, ret, key->sub->size) : NULL;
		if (!item)
			continue;
		*item = (struct policy_item){.at = place_of(c, n->pairs[i].key), .name = name};
		read_struct(c, key->sub, n->pairs[i].value, item);
	}
}

static void read_value(struct policy_parser *c, const struct policy_key *key,
		       const struct yaml_node *n, void *item)
{
	void *at = (char *)item + key->offset;

	switch (key->type) {
	case POLICY_T_TEXT:
		*(const char **)at = read_text(c, n, key->name, key->check);
		return;
	case POLICY_T_TEXTS:
	case POLICY_T_TEXT_OR_TEXTS:
	case POLICY_T_WORDS:
		read_texts(c, n, key, at);
		return;
	case POLICY_T_WORD:
		*(int *)at = read_word(c, n, key);
		return;
	case POLICY_T_BOOL:
		read_bool(c, n, key, at);
		return;
	case POLICY_T_COUNT:
	case POLICY_T_SIZE:
	case POLICY_T_DURATION:
		read_number(c, n, key, at);
		return;
	case POLICY_T_STRUCT: {
		struct policy_item *sub = policy_arena_alloc(c->arena, key->sub->size);

		if (!sub)
			return;
		sub->at = place_of(c, n);
		read_struct(c, key->sub, n, sub);
		*(void **)at = sub;
		return;
	}
	case POLICY_T_LIST:
		read_list(c, n, key, at);
		return;
	case POLICY_T_MAP:
		read_map(c, n, key, at);
		return;
	case POLICY_T_TEXT_MAP:
	case POLICY_T_MATCH_MAP:
		read_pairs(c, n, key, at);
		return;
	case POLICY_T_TOKENS:
		read_tokens(c, n, key, at);
		return;
	case POLICY_T_RAW:
		*(const char **)at = read_raw(c, n);
		return;
	}
}

enum { KEYS_MAX = 32 };

static void read_struct(struct policy_parser *c, const struct policy_table *t,
			const struct yaml_node *n, void *item)
{
	const char *names[KEYS_MAX] = {NULL};
	bool seen[KEYS_MAX] = {false}; /* given, or meant by a key that is misspelt */

	if (n->kind == YAML_SCALAR && t->scalar && (n->quoted || n->text.len)) {
		read_value(c, t->scalar, n, item);
		return;
	}
	if (!expect_kind(c, n, YAML_MAPPING, t->name))
		return;
	for (size_t i = 0; i < t->count;
	     i++) /* what stands for a plain word is no key: "" is near none */
		names[i] = t->scalar == &t->keys[i] ? "" : t->keys[i].name;
	for (size_t p = 0; p < n->count; p++) {
		struct bytes word = n->pairs[p].key->text;
		char hint[100];
		size_t i = 0;

		if (n->pairs[p].first)
			continue;
		while (i < t->count &&
		       (t->scalar == &t->keys[i] || !bytes_equal(word, bytes_str(names[i]))))
			i++;
		if (i < t->count) {
			seen[i] = true;
			read_value(c, &t->keys[i], n->pairs[p].value, item);
			continue;
		}
		policy_parse_suggest(word, names, t->count, hint, sizeof(hint));
		policy_find(c, place_of(c, n->pairs[p].key), 10, POLICY_ERROR, "unknown key '%s'%s",
			    show(word).text, hint);
		for (i = 0; hint[0] && i < t->count; i++)
			if (yaml_nearest(word, &names[i], 1))
				seen[i] = true;
	}
	for (size_t i = 0; i < t->count; i++)
		if (t->keys[i].required && !seen[i])
			policy_find(c, ((struct policy_item *)item)->at, 11, POLICY_ERROR,
				    "%s without '%s'; add it", t->name, names[i]);
	if (t->check)
		t->check(c, n, item);
}

/* ---- a file ---- */

/* The number at *at, moved behind it; -1 where there is none. */
static int take_number(const char **at)
{
	int v = 0;

	if (**at < '0' || **at > '9')
		return -1;
	for (; **at >= '0' && **at <= '9' && v < 100000000; (*at)++)
		v = 10 * v + (**at - '0');
	return v;
}

/* The strict reader says "error[E0004]: why", and where as "file:line:column"; the file's name may
 * hold colons. */
static void find_reader_error(struct policy_parser *c, const struct error *err)
{
	static const char prefix[] = "error[E";
	struct policy_place at = {.file = c->file, .line = 1, .column = 1};
	const char *msg = err->msg;
	const char *place = err->where + strlen(err->where);
	int code = 1;

	if (strncmp(msg, prefix, sizeof(prefix) - 1) == 0) {
		msg += sizeof(prefix) - 1;
		code = take_number(&msg);
		msg += strspn(msg, "]: ");
	}
	for (int colons = 0; place > err->where && colons < 2;)
		colons += *--place == ':';
	if (*place == ':') {
		place++;
		at.line = take_number(&place);
		place += *place == ':';
		at.column = take_number(&place);
	}
	policy_find(c, at, code, POLICY_ERROR, "%s", msg);
}

static void read_extends(struct policy_parser *c, const struct yaml_node *root,
			 struct policy_body *body);

int policy_parse_body(struct policy_parser *c, struct bytes text, struct policy_body *body)
{
	struct yaml_doc *doc = NULL;
	struct error err = {0};
	struct yaml_node *root;
	size_t from;
	int code = yaml_parse_lenient(text, c->file, &doc, &err);

	if (code == -ENOMEM)
		return code;
	if (code < 0) {
		find_reader_error(c, &err);
		return c->arena->failed ? -ENOMEM : 0;
	}
	root = yaml_root(doc);
	find_twice(c, root);
	from = c->findings->count;
	body->item.at = place_of(c, root);
	read_struct(c, &policy_keys_file, root, body);
	body->item.at = policy_parse_key_place(c, root, &body->item, "agency");
	read_extends(c, root, body);
	policy_check_body(c, body);
	policy_find_sort(c->findings, from);
	yaml_doc_free(doc);
	return c->arena->failed ? -ENOMEM : 0;
}

/* ---- extends ---- */

static struct policy_place extends_place(const struct policy_parser *c,
					 const struct yaml_node *root,
					 const struct policy_item *item)
{
	for (size_t i = 0; root->kind == YAML_MAPPING && i < root->count; i++)
		if (bytes_equal(root->pairs[i].key->text, bytes_str("extends")))
			return place_of(c, root->pairs[i].value);
	return item->at;
}

static int find_extended(struct policy_parser *c, const char *name, struct bytes *ret_text,
			 const char **ret_file)
{
	const char *builtin = policy_builtin_text(name);

	if (builtin) {
		*ret_text = bytes_str(builtin);
		*ret_file = policy_arena_printf(c->arena, "builtin:%s", name);
		return 0;
	}
	return c->lookup && c->lookup->find
		       ? c->lookup->find(c->lookup->arg, name, ret_text, ret_file)
		       : -ENOENT;
}

static bool may_extend(struct policy_parser *c, struct policy_place at, const char *name)
{
	for (size_t i = 0; i < c->depth; i++)
		if (strcmp(c->extending[i], name) == 0) {
			policy_find(c, at, 402, POLICY_ERROR, "'%s' extends itself",
				    show(bytes_str(name)).text);
			return false;
		}
	if (c->depth == POLICY_EXTENDS_DEPTH_MAX) {
		policy_find(c, at, 402, POLICY_ERROR, "extends goes deeper than %d files",
			    POLICY_EXTENDS_DEPTH_MAX);
		return false;
	}
	return true;
}

static void extend_one(struct policy_parser *c, struct policy_place at, const char *name,
		       struct policy_body *body)
{
	struct policy_findings inner = {0};
	struct policy_parser sub = *c;
	struct policy_body *from;
	struct bytes text;
	const char *file;
	char hint[100];

	if (!may_extend(c, at, name))
		return;
	if (find_extended(c, name, &text, &file) < 0) {
		const char *names[8];
		size_t n = 0;

		while (n < ARRAY_SIZE(names) && policy_builtin_name(n)) {
			names[n] = policy_builtin_name(n);
			n++;
		}
		policy_parse_suggest(bytes_str(name), names, n, hint, sizeof(hint));
		policy_find(c, at, 401, POLICY_ERROR, "no policy is called '%s'%s",
			    show(bytes_str(name)).text, hint);
		return;
	}
	from = policy_arena_alloc(c->arena, sizeof(*from));
	sub.file = file ? policy_arena_text(c->arena, bytes_str(file)) : NULL;
	if (!from || !sub.file)
		return;
	sub.findings = &inner;
	sub.extending[sub.depth++] = name;
	if (policy_parse_body(&sub, text, from) < 0)
		return;
	if (inner.errors) {
		const struct policy_finding *f = &inner.items[0];

		policy_find(c, at, 403, POLICY_ERROR,
			    "'%s' has errors; the first is at %s:%d:%d: %s",
			    show(bytes_str(name)).text, f->at.file, f->at.line, f->at.column,
			    f->msg);
		return;
	}
	policy_extend(c, body, from);
}

static void read_extends(struct policy_parser *c, const struct yaml_node *root,
			 struct policy_body *body)
{
	struct policy_place at = extends_place(c, root, &body->item);

	for (int l = 0; body->limits && l < POLICY_LIMIT_COUNT; l++)
		body->own_limits |= body->limits->v[l].set ? 1u << l : 0;
	body->own_weaker = body->allow_weaker.n;
	for (size_t i = 0; i < body->extends.n; i++) {
		bool again = false;

		for (size_t j = 0; j < i; j++)
			again |= strcmp(body->extends.v[i], body->extends.v[j]) == 0;
		if (!again)
			extend_one(c, at, body->extends.v[i], body);
	}
}
