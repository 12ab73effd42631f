/*
 * The canonical form of what is in force: deterministic CBOR, by the same table of keys that reads
 * the files. A struct is a map: 0 its place [file index, line, column], 1 its name where it has
 * one, then its keys by number. What is digested leaves out places and reasons.
 */
#include "policy/model.h"
#include "base/cbor.h"

enum { MATCH_KIND = 2, MATCH_VALUES = 3, MATCH_BOUND = 4, TEXT_VALUE = 2 };

/* ---- writing ---- */

static uint64_t file_index(struct policy_canon *k, const char *file)
{
	for (size_t i = 0; i < k->count; i++)
		if (strcmp(k->files[i], file) == 0)
			return i;
	return 0; /* every file was collected before: policy_canon_files */
}

static void write_head(struct buffer *b, struct policy_canon *k, struct cbor_map_mark *m,
		       const struct policy_item *item)
{
	if (k->places) {
		cbor_w_key(b, m, 0);
		cbor_w_array(b, 3);
		cbor_w_uint(b, file_index(k, item->at.file));
		cbor_w_uint(b, (uint64_t)item->at.line);
		cbor_w_uint(b, (uint64_t)item->at.column);
	}
	if (item->name) {
		cbor_w_key(b, m, 1);
		cbor_w_str(b, item->name);
	}
}

static void write_texts(struct buffer *b, const struct policy_strs *s)
{
	cbor_w_array(b, s->n);
	for (size_t i = 0; i < s->n; i++)
		cbor_w_str(b, s->v[i]);
}

static void write_match(struct buffer *b, struct policy_canon *k, const struct policy_match *m)
{
	struct cbor_map_mark mark = cbor_w_map_begin(b);

	write_head(b, k, &mark, &m->item);
	cbor_w_key(b, &mark, MATCH_KIND);
	cbor_w_uint(b, m->kind);
	if (m->kind == POLICY_MATCH_GLOB || m->kind == POLICY_MATCH_IN) {
		cbor_w_key(b, &mark, MATCH_VALUES);
		write_texts(b, &m->values);
	} else {
		cbor_w_key(b, &mark, MATCH_BOUND);
		cbor_w_int(b, m->bound);
	}
	cbor_w_map_end(b, &mark);
}

static void write_text_item(struct buffer *b, struct policy_canon *k,
			    const struct policy_text_item *t)
{
	struct cbor_map_mark mark = cbor_w_map_begin(b);

	write_head(b, k, &mark, &t->item);
	cbor_w_key(b, &mark, TEXT_VALUE);
	cbor_w_str(b, t->text);
	cbor_w_map_end(b, &mark);
}

static bool is_set(const struct policy_key *key, const void *at)
{
	switch (key->type) {
	case POLICY_T_TEXT:
	case POLICY_T_RAW:
	case POLICY_T_STRUCT:
		return *(void *const *)at != NULL;
	case POLICY_T_WORD:
		return *(const int *)at != 0;
	case POLICY_T_TEXTS:
	case POLICY_T_TEXT_OR_TEXTS:
	case POLICY_T_WORDS:
		return ((const struct policy_strs *)at)->set;
	case POLICY_T_BOOL:
	case POLICY_T_COUNT:
	case POLICY_T_SIZE:
	case POLICY_T_DURATION:
		return ((const struct policy_num *)at)->set;
	case POLICY_T_LIST:
	case POLICY_T_MAP:
	case POLICY_T_TEXT_MAP:
	case POLICY_T_MATCH_MAP:
	case POLICY_T_TOKENS:
		return ((const struct policy_list *)at)->set;
	}
	return false;
}

static void write_list(struct buffer *b, struct policy_canon *k, const struct policy_key *key,
		       const struct policy_list *list)
{
	cbor_w_array(b, list->n);
	for (size_t i = 0; i < list->n; i++) {
		if (key->type == POLICY_T_TEXT_MAP)
			write_text_item(b, k, (const struct policy_text_item *)list->v + i);
		else if (key->type == POLICY_T_MATCH_MAP || key->type == POLICY_T_TOKENS)
			write_match(b, k, (const struct policy_match *)list->v + i);
		else
			policy_canon_write(b, k, key->sub,
					   (const char *)list->v + i * key->sub->size);
	}
}

static void write_value(struct buffer *b, struct policy_canon *k, const struct policy_key *key,
			const void *at)
{
	switch (key->type) {
	case POLICY_T_TEXT:
	case POLICY_T_RAW:
		cbor_w_str(b, *(const char *const *)at);
		return;
	case POLICY_T_WORD:
		cbor_w_uint(b, (uint64_t) * (const int *)at);
		return;
	case POLICY_T_TEXTS:
	case POLICY_T_TEXT_OR_TEXTS:
	case POLICY_T_WORDS:
		write_texts(b, at);
		return;
	case POLICY_T_BOOL:
		cbor_w_bool(b, ((const struct policy_num *)at)->v != 0);
		return;
	case POLICY_T_COUNT:
	case POLICY_T_SIZE:
	case POLICY_T_DURATION:
		cbor_w_uint(b, ((const struct policy_num *)at)->v);
		return;
	case POLICY_T_STRUCT:
		policy_canon_write(b, k, key->sub, *(const void *const *)at);
		return;
	case POLICY_T_LIST:
	case POLICY_T_MAP:
	case POLICY_T_TEXT_MAP:
	case POLICY_T_MATCH_MAP:
	case POLICY_T_TOKENS:
		write_list(b, k, key, at);
		return;
	}
}

void policy_canon_write(struct buffer *b, struct policy_canon *k, const struct policy_table *t,
			const void *item)
{
	struct cbor_map_mark mark = cbor_w_map_begin(b);

	write_head(b, k, &mark, item);
	for (size_t i = 0; i < t->count; i++) {
		const struct policy_key *key = &t->keys[i];
		const void *at = (const char *)item + key->offset;

		if (!is_set(key, at) || (key->reason && !k->places))
			continue;
		cbor_w_key(b, &mark, key->number);
		write_value(b, k, key, at);
	}
	cbor_w_map_end(b, &mark);
}

/* ---- reading ---- */

struct reader {
	struct cbor_reader *r;
	struct policy_parser *c;
	const char *const *files;
	size_t file_count;
};

/* The same check that the file's reader makes; the place is lost on the way, the refusal is not. */
static const char *read_text(struct reader *d, policy_text_check *check)
{
	struct bytes text = cbor_r_text(d->r);
	char msg[POLICY_WHY_MAX];
	const char *s;

	if (d->r->error)
		return NULL;
	if (text.len && memchr(text.data, '\0', text.len)) {
		cbor_r_fail(d->r, -EBADMSG);
		return NULL;
	}
	s = policy_arena_text(d->c->arena, text);
	if (!s)
		cbor_r_fail(d->r, -ENOMEM);
	else if (check && check(s, msg))
		cbor_r_fail(d->r, -EBADMSG);
	return d->r->error ? NULL : s;
}

static void read_place(struct reader *d, struct policy_place *ret)
{
	uint64_t file, line, column;

	if (cbor_r_array(d->r) != 3)
		cbor_r_fail(d->r, -EBADMSG);
	file = cbor_r_uint(d->r);
	line = cbor_r_uint(d->r);
	column = cbor_r_uint(d->r);
	if (d->r->error || file >= d->file_count || line > INT32_MAX || column > INT32_MAX) {
		cbor_r_fail(d->r, -EBADMSG);
		return;
	}
	*ret = (struct policy_place){.file = d->files[file],
				     .line = (int)line,
				     .column = (int)column};
}

/* Takes keys 0 and 1 of any struct; false for others. */
static bool read_head(struct reader *d, uint64_t key, struct policy_item *item,
		      policy_text_check *check)
{
	if (key == 0)
		read_place(d, &item->at);
	else if (key == 1)
		item->name = read_text(d, check);
	return key < 2;
}

static void read_texts(struct reader *d, const struct policy_key *key, struct policy_strs *ret)
{
	size_t n = cbor_r_array(d->r);

	ret->set = true;
	for (size_t i = 0; i < n && !d->r->error; i++) {
		const char **v = policy_arena_push(d->c->arena, ret->v, ret->n, sizeof(*v));
		const char *text = read_text(d, key ? key->check : policy_value_text);
		bool known = !key || !key->words;

		for (size_t w = 0; text && !known && key->words[w]; w++)
			known = strcmp(key->words[w], text) == 0;
		if (!v || !text || !known) {
			cbor_r_fail(d->r, v ? -EBADMSG : -ENOMEM);
			return;
		}
		v[ret->n++] = text;
		ret->v = v;
	}
}

static void read_match(struct reader *d, const struct policy_key *key, struct policy_match *m)
{
	struct cbor_map_iter it;
	bool has_kind = false, has_value = false;
	uint64_t k;

	m->item.at.file = d->files[0];
	(void)cbor_r_map(d->r, &it);
	while (cbor_r_key(d->r, &it, &k)) {
		if (read_head(d, k, &m->item, key->check))
			continue;
		if (k == MATCH_KIND) {
			uint64_t kind = cbor_r_uint(d->r);

			if (kind > POLICY_MATCH_MIN)
				cbor_r_fail(d->r, -EBADMSG);
			else
				m->kind = (enum policy_match_kind)kind;
			has_kind = true;
		} else if (k == MATCH_VALUES && has_kind && m->kind <= POLICY_MATCH_IN) {
			read_texts(d, NULL, &m->values);
			has_value = true;
		} else if (k == MATCH_BOUND && has_kind && m->kind > POLICY_MATCH_IN) {
			m->bound = cbor_r_int(d->r);
			has_value = true;
		} else {
			cbor_r_fail(d->r, -EBADMSG);
		}
	}
	if (!has_value || (m->kind == POLICY_MATCH_GLOB && m->values.n != 1) ||
	    (key->type == POLICY_T_MATCH_MAP) != (m->item.name != NULL))
		cbor_r_fail(d->r, -EBADMSG);
}

static void read_text_item(struct reader *d, const struct policy_key *key,
			   struct policy_text_item *t)
{
	struct cbor_map_iter it;
	uint64_t k;

	t->item.at.file = d->files[0];
	(void)cbor_r_map(d->r, &it);
	while (cbor_r_key(d->r, &it, &k)) {
		if (read_head(d, k, &t->item, key->name_check))
			continue;
		if (k == TEXT_VALUE)
			t->text = read_text(d, key->check);
		else
			cbor_r_fail(d->r, -EBADMSG);
	}
	if (!t->text || !t->item.name)
		cbor_r_fail(d->r, -EBADMSG);
}

static void read_struct(struct reader *d, const struct policy_table *t, struct policy_item *item);

static size_t item_size(const struct policy_key *key)
{
	if (key->type == POLICY_T_TEXT_MAP)
		return sizeof(struct policy_text_item);
	if (key->type == POLICY_T_MATCH_MAP || key->type == POLICY_T_TOKENS)
		return sizeof(struct policy_match);
	return key->sub->size;
}

static void read_list(struct reader *d, const struct policy_key *key, struct policy_list *ret)
{
	size_t n = cbor_r_array(d->r);
	size_t size = item_size(key);

	ret->set = true;
	for (size_t i = 0; i < n && !d->r->error; i++) {
		void *v = policy_arena_push(d->c->arena, ret->v, ret->n, size);
		struct policy_item *item;

		if (!v) {
			cbor_r_fail(d->r, -ENOMEM);
			return;
		}
		ret->v = v;
		item = (void *)((char *)v + ret->n++ * size);
		if (key->type == POLICY_T_TEXT_MAP)
			read_text_item(d, key, (void *)item);
		else if (key->type == POLICY_T_MATCH_MAP || key->type == POLICY_T_TOKENS)
			read_match(d, key, (void *)item);
		else
			read_struct(d, key->sub, item);
		if ((key->type == POLICY_T_MAP) != (key->sub && item->name) &&
		    key->type <= POLICY_T_MAP)
			cbor_r_fail(d->r, -EBADMSG);
	}
}

static void read_value(struct reader *d, const struct policy_key *key, void *at)
{
	struct policy_num *num = at;
	size_t words = 0;
	uint64_t v;

	switch (key->type) {
	case POLICY_T_TEXT:
	case POLICY_T_RAW:
		*(const char **)at = read_text(d, key->check);
		return;
	case POLICY_T_WORD:
		v = cbor_r_uint(d->r);
		while (key->words[words])
			words++;
		if (v == 0 || v > words)
			cbor_r_fail(d->r, -EBADMSG);
		else
			*(int *)at = (int)v;
		return;
	case POLICY_T_TEXTS:
	case POLICY_T_TEXT_OR_TEXTS:
	case POLICY_T_WORDS:
		read_texts(d, key, at);
		return;
	case POLICY_T_BOOL:
		*num = (struct policy_num){.set = true, .v = cbor_r_bool(d->r)};
		return;
	case POLICY_T_COUNT:
	case POLICY_T_SIZE:
	case POLICY_T_DURATION:
		*num = (struct policy_num){.set = true, .v = cbor_r_uint(d->r)};
		if (num->v < key->min || num->v > key->max)
			cbor_r_fail(d->r, -EBADMSG);
		return;
	case POLICY_T_STRUCT: {
		struct policy_item *sub = policy_arena_alloc(d->c->arena, key->sub->size);

		if (!sub) {
			cbor_r_fail(d->r, -ENOMEM);
			return;
		}
		read_struct(d, key->sub, sub);
		*(void **)at = sub;
		return;
	}
	case POLICY_T_LIST:
	case POLICY_T_MAP:
	case POLICY_T_TEXT_MAP:
	case POLICY_T_MATCH_MAP:
	case POLICY_T_TOKENS:
		read_list(d, key, at);
		return;
	}
}

static void read_struct(struct reader *d, const struct policy_table *t, struct policy_item *item)
{
	struct cbor_map_iter it;
	uint64_t k;

	item->at.file = d->files[0];
	(void)cbor_r_map(d->r, &it);
	while (cbor_r_key(d->r, &it, &k)) {
		size_t i = 0;

		if (read_head(d, k, item, t->name_check))
			continue;
		while (i < t->count && t->keys[i].number != k)
			i++;
		if (i == t->count)
			cbor_r_fail(d->r, -EBADMSG);
		else
			read_value(d, &t->keys[i], (char *)item + t->keys[i].offset);
	}
	for (size_t i = 0; i < t->count && !d->r->error; i++)
		if (t->keys[i].required && !is_set(&t->keys[i], (char *)item + t->keys[i].offset))
			cbor_r_fail(d->r, -EBADMSG);
	if (!d->r->error && t->check)
		t->check(d->c, NULL, item);
}

struct policy_body *policy_canon_read(struct cbor_reader *r, struct policy_parser *c,
				      const char *const *files, size_t file_count)
{
	struct reader d = {.r = r, .c = c, .files = files, .file_count = file_count};
	struct policy_body *body = policy_arena_alloc(c->arena, sizeof(*body));

	if (!body) {
		cbor_r_fail(r, -ENOMEM);
		return NULL;
	}
	read_struct(&d, &policy_keys_file, &body->item);
	return r->error ? NULL : body;
}

/* ---- which files places refer to ---- */

static void collect(struct policy_arena *a, struct policy_canon *k, const struct policy_table *t,
		    const void *item);

static void add_file(struct policy_arena *a, struct policy_canon *k, const char *file)
{
	const char **v;

	for (size_t i = 0; i < k->count; i++)
		if (strcmp(k->files[i], file) == 0)
			return;
	v = policy_arena_push(a, k->files, k->count, sizeof(*v));
	if (!v)
		return;
	v[k->count++] = file;
	k->files = v;
}

static void collect_key(struct policy_arena *a, struct policy_canon *k,
			const struct policy_key *key, const void *at)
{
	const struct policy_list *list = at;
	size_t size;

	if (key->type == POLICY_T_STRUCT) {
		if (*(void *const *)at)
			collect(a, k, key->sub, *(const void *const *)at);
		return;
	}
	if (key->type < POLICY_T_LIST || key->type == POLICY_T_RAW)
		return;
	size = item_size(key);
	for (size_t i = 0; i < list->n; i++) {
		const void *item = (const char *)list->v + i * size;

		if (key->sub)
			collect(a, k, key->sub, item);
		else
			add_file(a, k, ((const struct policy_item *)item)->at.file);
	}
}

static void collect(struct policy_arena *a, struct policy_canon *k, const struct policy_table *t,
		    const void *item)
{
	add_file(a, k, ((const struct policy_item *)item)->at.file);
	for (size_t i = 0; i < t->count; i++)
		collect_key(a, k, &t->keys[i], (const char *)item + t->keys[i].offset);
}

void policy_canon_files(struct policy_arena *a, struct policy_canon *k,
			const struct policy_body *body)
{
	collect(a, k, &policy_keys_file, body);
}
