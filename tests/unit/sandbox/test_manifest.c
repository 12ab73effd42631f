/* Manifests: one set of bytes for one meaning, nothing else is read, and a stack comes to what
 * overlay would show. */
#include "tests/golden.h"
#include "base/escape.h"
#include "base/guard.h"
#include "sandbox/manifest.h"

/*
 * A manifest as text, entries separated by "; ":  TYPE PATH BASE [=LINK]
 * TYPE f or s and a letter (file, symlink with that content), d, o (opaque), w, i (implied
 * whiteout), p (fifo) BASE - (absent), d, or f and a letter
 */
static void set_content(char c, struct digest *d)
{
	digest_of(bytes_of(&c, 1), d);
}

static void parse_entry(char *text, struct manifest_entry *e, char *content)
{
	char *save = NULL;
	char *type = strtok_r(text, " ", &save);
	char *path = strtok_r(NULL, " ", &save);
	char *base = strtok_r(NULL, " ", &save);
	char *link = strtok_r(NULL, " ", &save);

	assert_non_null(base);
	*e = (struct manifest_entry){.path = bytes_str(path), .mode = 0644, .mtime_ns = 1000};
	*content = type[1];
	switch (type[0]) {
	case 'f':
		e->type = MANIFEST_FILE;
		e->size = 1;
		set_content(type[1], &e->digest);
		break;
	case 's':
		e->type = MANIFEST_SYMLINK;
		e->target = bytes_of(content, 1);
		break;
	case 'd':
	case 'o':
		e->type = MANIFEST_DIR;
		e->mode = 0755;
		e->opaque = type[0] == 'o';
		break;
	case 'p':
		e->type = MANIFEST_FIFO;
		break;
	default:
		e->type = MANIFEST_WHITEOUT;
		e->implied = type[0] == 'i';
	}
	if (base[0] == 'd')
		e->base = (struct manifest_seen){.type = MANIFEST_DIR,
						 .mode = 0755,
						 .ctime_ns = 5,
						 .ino = 7};
	if (base[0] == 'f') {
		e->base = (struct manifest_seen){.type = MANIFEST_FILE,
						 .mode = 0644,
						 .size = 1,
						 .has_digest = true,
						 .ctime_ns = -5,
						 .ino = 7};
		set_content(base[1], &e->base.digest);
	}
	if (link)
		e->link = bytes_str(link + 1);
}

static struct manifest *parse(const char *text)
{
	AUTO_FREE char *copy = strdup(text);
	struct manifest *m = manifest_new();
	struct error err = {0};
	char *next;

	for (char *at = copy; at && *at; at = next) {
		struct manifest_entry e;
		char content;

		next = strstr(at, "; ");
		if (next) {
			*next = '\0';
			next += 2;
		}
		parse_entry(at, &e, &content);
		assert_int_equal(manifest_add(m, &e, &err), 0);
	}
	if (manifest_finish(m, &err) < 0)
		fail_msg("%s: %s", text, err.msg);
	return m;
}

static char letter(const struct digest *d)
{
	for (char c = 'A'; c <= 'z'; c++) {
		struct digest x;

		set_content(c, &x);
		if (digest_equal(&x, d))
			return c;
	}
	return '?';
}

static void describe(const struct manifest *m, struct buffer *out)
{
	for (size_t i = 0; i < manifest_count(m); i++) {
		const struct manifest_entry *e = manifest_at(m, i);

		buffer_append_str(out, i ? "; " : "");
		if (e->type == MANIFEST_FILE)
			buffer_printf(out, "f%c", letter(&e->digest));
		else if (e->type == MANIFEST_SYMLINK)
			buffer_printf(out, "s%c", *(const char *)e->target.data);
		else if (e->type == MANIFEST_DIR)
			buffer_append_str(out, e->opaque ? "o" : "d");
		else if (e->type == MANIFEST_FIFO)
			buffer_append_str(out, "p");
		else
			buffer_append_str(out, e->implied ? "i" : "w");
		buffer_append_byte(out, ' ');
		buffer_append(out, e->path.data, e->path.len);
		if (e->base.type == MANIFEST_FILE)
			buffer_printf(out, " f%c", letter(&e->base.digest));
		else
			buffer_append_str(out, e->base.type == MANIFEST_DIR ? " d" : " -");
		if (e->link.len > 0) {
			buffer_append_str(out, " =");
			buffer_append(out, e->link.data, e->link.len);
		}
	}
	buffer_append(out, "", 0);
}

static const struct merge_case {
	const char *rule;
	const char *layers[4];
	const char *over_base;
	const char *squash; /* NULL = the same */
} merges[] = {
	{"no layers come to nothing", {NULL}, "", NULL},
	{"one layer is itself", {"d d d; fB d/f fA"}, "d d d; fB d/f fA", NULL},
	{"the topmost entry wins, the lowest one's base stays",
	 {"fB f fA", "fC f fX"},
	 "fC f fA",
	 NULL},
	{"paths of several layers join in order",
	 {"fB b -", "fA a -; fC c -"},
	 "fA a -; fB b -; fC c -",
	 NULL},
	{"made and removed again is nothing over the base", {"fB f -", "w f -"}, "", "w f -"},
	{"a file of the base stays deleted", {"fB f fA", "w f fA"}, "w f fA", NULL},
	{"deleted and made again is an edit", {"w f fA", "fB f fA"}, "fB f fA", NULL},
	{"a deleted folder takes what layers below made in it",
	 {"d d d; fB d/new -; fC d/old fA", "w d d; i d/old fA"},
	 "w d d; i d/old fA",
	 NULL},
	{"what a layer below changed and the base lost meanwhile is still a deletion",
	 {"d d d; fC d/old fA", "w d d"},
	 "w d d; i d/old fA",
	 NULL},
	{"a folder of the run's own, removed", {"d d -; fB d/new -", "w d -"}, "", "w d -"},
	{"a folder over a deleted one is opaque, whoever said so",
	 {"w d d; i d/f fA", "d d d; fB d/g -"},
	 "o d d; i d/f fA; fB d/g -",
	 NULL},
	{"an opaque folder hides what layers below made in it",
	 {"d d d; fB d/x -; fC d/f fA", "o d d; i d/f fA; fD d/y -"},
	 "o d d; i d/f fA; fD d/y -",
	 NULL},
	{"a deletion in a folder that shows nothing of others is no entry on disk",
	 {"o d d; i d/f fA; fB d/g -", "d d d; w d/g -"},
	 "o d d; i d/f fA",
	 NULL},
	{"the same where the base had the file",
	 {"o d d; fB d/f fA", "d d d; w d/f fA"},
	 "o d d; i d/f fA",
	 NULL},
	{"a plain folder on an opaque one adds to it",
	 {"o d d; i d/f fA; fB d/g -", "d d d; fC d/h -"},
	 "o d d; i d/f fA; fB d/g -; fC d/h -",
	 NULL},
	{"a file in a folder's place hides it",
	 {"d d d; fB d/f fA", "fX d d; i d/f fA"},
	 "fX d d; i d/f fA",
	 NULL},
	{"a folder in a file's place", {"fB f fA", "o f fA; fC f/g -"}, "o f fA; fC f/g -", NULL},
	{"a file, then a folder, then nothing",
	 {"fB f -", "o f -; fC f/g -", "w f -"},
	 "",
	 "w f -"},
	{"a-b is not below a", {"d a d; fB a-b -; fC a/c -", "w a d"}, "w a d; fB a-b -", NULL},
	{"hard links stay together",
	 {"fB a -; fB b - =a", "fX c -"},
	 "fB a -; fB b - =a; fX c -",
	 NULL},
	{"a link whose first path is gone leads itself",
	 {"fB a -; fB b - =a; fB c - =a", "fX a -"},
	 "fX a -; fB b -; fB c - =b",
	 NULL},
	{"links of two layers do not mix",
	 {"fB a -; fB b - =a", "fC c -; fC d - =c"},
	 "fB a -; fB b - =a; fC c -; fC d - =c",
	 NULL},
	{"three layers, edit by edit", {"fB f fA", "w f fA", "fD f fA"}, "fD f fA", NULL},
	{"symlinks and fifos are entries like others",
	 {"sB l -; p p -", "fX l -"},
	 "fX l -; p p -",
	 NULL},
};

static void a_stack_comes_to_what_overlay_shows(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(merges); i++) {
		struct manifest *stack[4] = {0};
		size_t count = 0;

		while (count < 4 && merges[i].layers[count]) {
			stack[count] = parse(merges[i].layers[count]);
			count++;
		}
		for (int squash = 0; squash < 2; squash++) {
			const char *want =
				squash && merges[i].squash ? merges[i].squash : merges[i].over_base;
			AUTO_BUFFER got = {0};
			struct manifest *m = NULL;

			assert_int_equal(manifest_merge((const struct manifest *const *)stack,
							count,
							squash ? MANIFEST_MERGE_SQUASH
							       : MANIFEST_MERGE_OVER_BASE,
							&m, NULL),
					 0);
			describe(m, &got);
			if (strcmp(got.data ? (char *)got.data : "", want) != 0)
				fail_msg("%s (%s): %s, not %s", merges[i].rule,
					 squash ? "squash" : "over base", (char *)got.data, want);
			manifest_free(m);
		}
		for (size_t k = 0; k < count; k++)
			manifest_free(stack[k]);
	}
}

/* Squashing any lower part first must not change what the whole comes to. */
static void squashing_changes_no_result(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(merges); i++) {
		struct manifest *stack[4] = {0};
		struct manifest *half[4] = {0};
		AUTO_BUFFER want = {0};
		struct manifest *all = NULL;
		size_t count = 0;

		while (count < 4 && merges[i].layers[count]) {
			stack[count] = parse(merges[i].layers[count]);
			count++;
		}
		assert_int_equal(manifest_merge((const struct manifest *const *)stack, count,
						MANIFEST_MERGE_OVER_BASE, &all, NULL),
				 0);
		assert_int_equal(manifest_encode(all, &want), 0);
		manifest_free(all);
		for (size_t cut = 1; cut <= count; cut++) {
			AUTO_BUFFER got = {0};

			assert_int_equal(manifest_merge((const struct manifest *const *)stack, cut,
							MANIFEST_MERGE_SQUASH, &half[0], NULL),
					 0);
			for (size_t k = cut; k < count; k++)
				half[k - cut + 1] = stack[k];
			assert_int_equal(manifest_merge((const struct manifest *const *)half,
							count - cut + 1, MANIFEST_MERGE_OVER_BASE,
							&all, NULL),
					 0);
			assert_int_equal(manifest_encode(all, &got), 0);
			if (!bytes_equal(buffer_bytes(&want), buffer_bytes(&got)))
				fail_msg("%s: cut after %zu", merges[i].rule, cut);
			manifest_free(all);
			manifest_free(half[0]);
		}
		for (size_t k = 0; k < count; k++)
			manifest_free(stack[k]);
	}
}

static void golden_bytes(void **state)
{
	static const struct {
		const char *file;
		const char *text;
	} rows[] = {
		{"sandbox/manifest.empty.cbor", ""},
		{"sandbox/manifest.kinds.cbor",
		 "d d d; fB d/f fA; fB d/g - =d/f; i gone/x fA; w gone d; o o d; p p -; sB s -"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct manifest *m = parse(rows[i].text);
		struct manifest *again = NULL;
		AUTO_BUFFER out = {0};
		AUTO_BUFFER twice = {0};

		assert_int_equal(manifest_encode(m, &out), 0);
		golden_check(rows[i].file, buffer_bytes(&out));
		assert_int_equal(cbor_validate(buffer_bytes(&out)), 0);
		assert_int_equal(manifest_decode(buffer_bytes(&out), &again, NULL), 0);
		assert_int_equal(manifest_encode(again, &twice), 0);
		assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&twice)));
		manifest_free(m);
		manifest_free(again);
	}
}

static void paths_are_short_relative_bytes(void **state)
{
	static const struct {
		const char *path;
		size_t len; /* 0 = of the string */
		int want;
	} rows[] = {
		{"a", 0, 0},	     {"a/b.c/...", 0, 0},  {"new\nline", 0, 0},
		{"\xff\xfe", 0, 0},  {"..a/.b", 0, 0},	   {"", 0, -EINVAL},
		{"/a", 0, -EINVAL},  {"a/", 0, -EINVAL},   {"a//b", 0, -EINVAL},
		{".", 0, -EINVAL},   {"..", 0, -EINVAL},   {"a/../b", 0, -EINVAL},
		{"a/.", 0, -EINVAL}, {"a\0b", 3, -EINVAL},
	};
	AUTO_BUFFER deep = {0};
	AUTO_BUFFER longest = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct bytes p =
			rows[i].len ? bytes_of(rows[i].path, rows[i].len) : bytes_str(rows[i].path);

		if (manifest_check_path(p) != rows[i].want)
			fail_msg("%s", rows[i].path);
	}
	for (int i = 0; i < MANIFEST_DEPTH_MAX; i++)
		buffer_append_str(&deep, i ? "/d" : "d");
	assert_int_equal(manifest_check_path(buffer_bytes(&deep)), 0);
	buffer_append_str(&deep, "/d");
	assert_int_equal(manifest_check_path(buffer_bytes(&deep)), -ENAMETOOLONG);
	for (int i = 0; i < MANIFEST_PATH_MAX; i++)
		buffer_append_byte(&longest, 'x');
	assert_int_equal(manifest_check_path(buffer_bytes(&longest)), 0);
	buffer_append_byte(&longest, 'x');
	assert_int_equal(manifest_check_path(buffer_bytes(&longest)), -ENAMETOOLONG);
}

/* Each is one change away from a manifest with one file in it. */
static void only_the_canonical_form_is_read(void **state)
{
	static const struct {
		const char *why;
		const char *hex;
		int want;
	} rows[] = {
		{"as it should be", "a2 01 01 02 81 a3 01 41 66 02 04 0b a1 01 00", 0},
		{"another version", "a2 01 02 02 81 a3 01 41 66 02 04 0b a1 01 00", -EBADMSG},
		{"no version", "a1 02 81 a3 01 41 66 02 04 0b a1 01 00", -EBADMSG},
		{"no entries", "a1 01 01", -EBADMSG},
		{"an unknown key at the top", "a3 01 01 02 80 03 00", -EBADMSG},
		{"an unknown key in an entry", "a2 01 01 02 81 a4 01 41 66 02 04 0b a1 01 00 0c 00",
		 -EBADMSG},
		{"an unknown key in what was seen",
		 "a2 01 01 02 81 a3 01 41 66 02 04 0b a2 01 00 07 00", -EBADMSG},
		{"an unknown type", "a2 01 01 02 81 a3 01 41 66 02 09 0b a1 01 00", -EBADMSG},
		{"a base of type whiteout", "a2 01 01 02 81 a3 01 41 66 02 04 0b a1 01 04",
		 -EBADMSG},
		{"an entry of type absent", "a2 01 01 02 81 a3 01 41 66 02 00 0b a1 01 00",
		 -EBADMSG},
		{"a whiteout with a mode", "a2 01 01 02 81 a4 01 41 66 02 04 03 00 0b a1 01 00",
		 -EBADMSG},
		{"a folder without a mode", "a2 01 01 02 81 a4 01 41 66 02 02 04 00 0b a1 01 00",
		 -EBADMSG},
		{"a mode past 07777",
		 "a2 01 01 02 81 a5 01 41 66 02 02 03 19 10 00 04 00 0b a1 01 00", -EBADMSG},
		{"implied said as false", "a2 01 01 02 81 a4 01 41 66 02 04 0a f4 0b a1 01 00",
		 -EBADMSG},
		{"a path with dots", "a2 01 01 02 81 a3 01 42 2e 2e 02 04 0b a1 01 00", -EBADMSG},
		{"paths out of order",
		 "a2 01 01 02 82 a3 01 41 67 02 04 0b a1 01 00 a3 01 41 66 02 04 0b a1 01 00",
		 -EBADMSG},
		{"a path twice",
		 "a2 01 01 02 82 a3 01 41 66 02 04 0b a1 01 00 a3 01 41 66 02 04 0b a1 01 00",
		 -EBADMSG},
		{"a link to nothing",
		 "a2 01 01 02 81 a6 01 41 66 02 05 03 00 04 00 08 41 61 0b a1 01 00", -EBADMSG},
		{"bytes left over", "a2 01 01 02 80 00", -EBADMSG},
		{"a longer form of a number", "a2 01 18 01 02 80", -EBADMSG},
		{"cut off", "a2 01 01 02 81 a3 01 41 66 02 04 0b a1 01", -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t raw[64];
		size_t len = 0;
		struct manifest *m = NULL;
		int r;

		for (const char *p = rows[i].hex; *p; p += p[2] ? 3 : 2)
			raw[len++] = (uint8_t)strtoul(p, NULL, 16);
		r = manifest_decode(bytes_of(raw, len), &m, NULL);
		if (r != rows[i].want)
			fail_msg("%s: %d", rows[i].why, r);
		manifest_free(m);
	}
}

static void links_name_the_first_path_of_their_file(void **state)
{
	static const struct {
		const char *path;
		const char *link;
		char content;
		int want;
	} rows[] = {
		{"b", "a", 'B', 0},	  {"b", "z", 'B', -EINVAL}, {"0", "a", 'B', -EINVAL},
		{"b", "a", 'C', -EINVAL}, {"b", "b", 'B', -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct manifest *m = manifest_new();
		struct manifest_entry e = {.path = bytes_str("a"),
					   .type = MANIFEST_FILE,
					   .size = 1};

		set_content('B', &e.digest);
		assert_int_equal(manifest_add(m, &e, NULL), 0);
		e.path = bytes_str(rows[i].path);
		e.link = bytes_str(rows[i].link);
		set_content(rows[i].content, &e.digest);
		assert_int_equal(manifest_add(m, &e, NULL), 0);
		assert_int_equal(manifest_finish(m, NULL), rows[i].want);
		manifest_free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stack_comes_to_what_overlay_shows),
		cmocka_unit_test(squashing_changes_no_result),
		cmocka_unit_test(golden_bytes),
		cmocka_unit_test(paths_are_short_relative_bytes),
		cmocka_unit_test(only_the_canonical_form_is_read),
		cmocka_unit_test(links_name_the_first_path_of_their_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
