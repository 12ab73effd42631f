/* SEAL: what a step did in a real overlay stands in the manifest, whatever it is, and sealing again
 * says the same. */
#include "base/escape.h"
#include "tests/integration/layers_ns.h"

/* One line an entry: type path [mode] [size] [marks] base. */
static void describe(const struct manifest_entry *e, struct buffer *out)
{
	buffer_append_str(out, manifest_type_name(e->type));
	buffer_append_byte(out, ' ');
	escape_append(out, e->path, ESCAPE_LINE);
	if (e->type == MANIFEST_FILE || e->type == MANIFEST_DIR)
		buffer_printf(out, " %o", e->mode);
	if (e->type == MANIFEST_FILE)
		buffer_printf(out, " %llu", (unsigned long long)e->size);
	if (e->type == MANIFEST_SYMLINK) {
		buffer_append_str(out, " ->");
		escape_append(out, e->target, ESCAPE_LINE);
	}
	if (e->link.len > 0) {
		buffer_append_str(out, " =");
		escape_append(out, e->link, ESCAPE_LINE);
	}
	buffer_append_str(out, e->opaque ? " opaque" : "");
	buffer_append_str(out, e->implied ? " implied" : "");
	buffer_append_str(out, manifest_entry_changes(e) ? "" : " same");
	buffer_printf(out, " base=%s\n", manifest_type_name(e->base.type));
}

static const struct seal_case {
	const char *rule;
	const char *base;
	const char *step;
	const char *want;
} cases[] = {
	{"nothing changed is an empty manifest", "echo a > f", "cat f > /dev/null", ""},
	{"a new file, folder and symlink", ":",
	 "printf abc > new; mkdir d; echo x > d/f; ln -s some/where s",
	 "dir d 755 base=absent\n"
	 "file d/f 644 2 base=absent\n"
	 "file new 644 3 base=absent\n"
	 "symlink s ->some/where base=absent\n"},
	{"paths are in the order of their bytes, not of the walk", ":",
	 "mkdir a; : > a/c; : > a-b; : > a0",
	 "dir a 755 base=absent\n"
	 "file a-b 644 0 base=absent\n"
	 "file a/c 644 0 base=absent\n"
	 "file a0 644 0 base=absent\n"},
	{"an edit copies its folders up, which are the same as before",
	 "mkdir d; echo a > d/f; echo b > d/g", "echo more >> d/f",
	 "dir d 755 same base=dir\n"
	 "file d/f 644 7 base=file\n"},
	{"a file written with what it held is no change", "echo a > f", "echo a > f",
	 "file f 644 2 same base=file\n"},
	{"a mode alone is a change", "echo a > f; mkdir d", "chmod 600 f; chmod 700 d",
	 "dir d 700 base=dir\n"
	 "file f 600 2 base=file\n"},
	{"a deleted file", "echo a > f", "rm f", "deleted f base=file\n"},
	{"a folder deleted with all below it, each path by itself",
	 "mkdir -p d/e; echo a > d/e/f; echo b > d/g", "rm -r d",
	 "deleted d base=dir\n"
	 "deleted d/e implied base=dir\n"
	 "deleted d/e/f implied base=file\n"
	 "deleted d/g implied base=file\n"},
	{"a folder made anew hides what it had", "mkdir d; echo a > d/f; echo b > d/g",
	 "rm -r d; mkdir d; echo c > d/g",
	 "dir d 755 opaque same base=dir\n"
	 "deleted d/f implied base=file\n"
	 "file d/g 644 2 base=file\n"},
	{"a new folder inside one made anew", "mkdir -p d/e; echo a > d/e/f",
	 "rm -r d; mkdir -p d/e; echo n > d/e/n",
	 "dir d 755 opaque same base=dir\n"
	 "dir d/e 755 same base=dir\n"
	 "deleted d/e/f implied base=file\n"
	 "file d/e/n 644 2 base=absent\n"},
	{"a file in a folder's place hides what was below", "mkdir d; echo a > d/f",
	 "rm -r d; echo x > d",
	 "file d 644 2 base=dir\n"
	 "deleted d/f implied base=file\n"},
	{"a symlink in a folder's place", "mkdir d; echo a > d/f", "rm -r d; ln -s /etc d",
	 "symlink d ->/etc base=dir\n"
	 "deleted d/f implied base=file\n"},
	{"a folder in a file's place", "echo a > f", "rm f; mkdir f; echo x > f/g",
	 "dir f 755 opaque base=file\n"
	 "file f/g 644 2 base=absent\n"},
	{"a rename is a deletion and a new file", "echo a > f", "mv f g",
	 "deleted f base=file\n"
	 "file g 644 2 base=absent\n"},
	{"what was made and removed again leaves nothing", "mkdir d",
	 "echo a > f; rm f; mkdir d/x; rmdir d/x", "dir d 755 same base=dir\n"},
	{"hard links name the first path of their file", ":",
	 "mkdir a; echo x > z; ln z a/y; ln z m; ln -s q l; ln l l2",
	 "dir a 755 base=absent\n"
	 "file a/y 644 2 base=absent\n"
	 "symlink l ->q base=absent\n"
	 "symlink l2 ->q =l base=absent\n"
	 "file m 644 2 =a/y base=absent\n"
	 "file z 644 2 =a/y base=absent\n"},
	{"folders and files of mode 000", ":",
	 "mkdir -p z/y; echo a > z/y/f; chmod 000 z/y/f z/y z",
	 "dir z 0 base=absent\n"
	 "dir z/y 0 base=absent\n"
	 "file z/y/f 0 2 base=absent\n"},
	{"a folder of mode 000 in the base is deleted path by path",
	 "mkdir z; echo a > z/f; chmod 000 z", "chmod 700 z; rm -r z",
	 "deleted z base=dir\n"
	 "deleted z/f implied base=file\n"},
	{"holes count as zeros", ":",
	 "truncate -s 64M sparse; printf x | dd of=sparse bs=1 seek=1000000 conv=notrunc "
	 "2>/dev/null",
	 "file sparse 644 67108864 base=absent\n"},
	{"setuid, setgid, fifo and socket are named", ":",
	 "echo a > su; chmod 4755 su; mkdir sg; chmod 2755 sg; mkfifo p; "
	 "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'",
	 "fifo p base=absent\n"
	 "socket s base=absent\n"
	 "dir sg 2755 base=absent\n"
	 "file su 4755 2 base=absent\n"},
	{"names are bytes", ":",
	 "n=$(printf 'new\\nline'); : > \"$n\"; b=$(printf 'bad\\377utf8'); : > \"$b\"; : > '-rf "
	 "*'; : > '  '",
	 "file    644 0 base=absent\n"
	 "file -rf * 644 0 base=absent\n"
	 "file bad\\xffutf8 644 0 base=absent\n"
	 "file new\\nline 644 0 base=absent\n"},
	{"symlinks of the base are seen as such", "ln -s a l; ln -s a k",
	 "rm l k; ln -s a k; echo x > l",
	 "symlink k ->a same base=symlink\n"
	 "file l 644 2 base=symlink\n"},
};

static void what_a_step_did_is_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct layers_ns t;
		AUTO_BUFFER got = {0}, bytes = {0};
		struct manifest *m;
		struct digest d;
		struct sealer_reply first;
		struct sealer_reply again;

		layers_ns_open(&t);
		layers_ns_sealer_start(&t, NULL);
		layers_ns_base(&t, cases[i].base);
		layers_ns_step(&t, NULL, "a", cases[i].step);
		first = layers_ns_do(&t, SEALER_SEAL, "a");
		again = layers_ns_do(&t, SEALER_SEAL, "a");
		m = layers_ns_manifest(&t, "a");
		assert_int_equal(manifest_encode(m, &bytes), 0);
		digest_domain(MANIFEST_DOMAIN, buffer_bytes(&bytes), &d);
		for (size_t k = 0; k < manifest_count(m); k++)
			describe(manifest_at(m, k), &got);
		if (strcmp(got.data ? (char *)got.data : "", cases[i].want) != 0)
			fail_msg("%s:\n%s-- but not\n%s", cases[i].rule, (char *)got.data,
				 cases[i].want);
		assert_true(digest_equal(&d, &first.digest));
		assert_true(digest_equal(&d, &again.digest));
		assert_int_equal(first.entries, manifest_count(m));
		assert_int_equal(first.bytes, manifest_content_bytes(m));
		manifest_free(m);
		layers_ns_close(&t);
	}
}

/* Overlay's own folder has mode 000, which only the step's user namespace passes. */
static void what_is_sealed_can_be_removed_by_its_owner(void **state)
{
	struct layers_ns t;
	struct sealer_reply first;
	struct sealer_reply again;
	struct stat st;

	(void)state;
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, NULL);
	layers_ns_base(&t, "echo a > f; mkdir d; echo b > d/f");
	layers_ns_step(&t, NULL, "a", "echo c >> f; mv d/f d/g");
	assert_int_equal(fstatat(t.layers, "a/" LAYERS_WORK "/work", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0);
	first = layers_ns_do(&t, SEALER_SEAL, "a");
	assert_int_equal(fstatat(t.layers, "a/" LAYERS_WORK, &st, 0), -1);
	assert_int_equal(errno, ENOENT);
	again = layers_ns_do(&t, SEALER_SEAL, "a");
	assert_true(digest_equal(&first.digest, &again.digest));
	layers_ns_close(&t);
}

/* Against sha256sum(1), which reads every byte. */
static void digests_are_of_the_whole_content(void **state)
{
	static const char script[] =
		"printf abc > a; : > b; head -c 300000 /dev/urandom > c; truncate -s 5M d; "
		"printf x | dd of=d bs=1 seek=4000001 conv=notrunc 2>/dev/null; truncate -s "
		"5000000 d; "
		"sha256sum a b c d";
	struct layers_ns t;
	struct manifest *m;
	char text[4 * 80] = {0};
	int out[2];

	(void)state;
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, NULL);
	layers_ns_create(&t, "a");
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(layers_ns_step_status(&t, NULL, "a", script, out[1]), 0);
	close(out[1]);
	for (size_t n = 0; n < 4 * 68;) {
		ssize_t got = read(out[0], text + n, sizeof(text) - n);

		assert_true(got > 0);
		n += (size_t)got;
	}
	close(out[0]);
	layers_ns_do(&t, SEALER_SEAL, "a");
	m = layers_ns_manifest(&t, "a");
	for (size_t i = 0; i < 4; i++) {
		char hex[DIGEST_HEX_SIZE];

		assert_memory_equal(digest_hex(&manifest_at(m, i)->digest, hex), text + i * 68, 64);
	}
	manifest_free(m);
	layers_ns_close(&t);
}

static void what_the_base_held_is_remembered(void **state)
{
	struct layers_ns t;
	struct manifest *m;
	const struct manifest_entry *e;
	struct stat st;
	struct digest d;

	(void)state;
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, NULL);
	layers_ns_base(&t, "printf old > f; chmod 640 f");
	layers_ns_step(&t, NULL, "a", "printf new > f");
	layers_ns_do(&t, SEALER_SEAL, "a");
	m = layers_ns_manifest(&t, "a");
	e = manifest_find(m, bytes_str("f"));
	assert_non_null(e);
	assert_int_equal(fstatat(t.base, "f", &st, 0), 0);
	digest_of(bytes_str("old"), &d);
	assert_true(e->base.has_digest && digest_equal(&e->base.digest, &d));
	assert_int_equal(e->base.size, 3);
	assert_int_equal(e->base.mode, 0640);
	assert_int_equal(e->base.ino, st.st_ino);
	assert_int_equal(e->base.ctime_ns,
			 (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec);
	manifest_free(m);
	layers_ns_close(&t);
}

static void ten_thousand_files(void **state)
{
	struct layers_ns t;
	struct manifest *m;

	(void)state;
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, NULL);
	layers_ns_step(&t, NULL, "a",
		       "for d in $(seq 100); do mkdir $d; for f in $(seq 100); do echo $d $f > "
		       "$d/$f; done; done");
	assert_int_equal(layers_ns_do(&t, SEALER_SEAL, "a").entries, 10100);
	m = layers_ns_manifest(&t, "a");
	assert_int_equal(manifest_count(m), 10100);
	manifest_free(m);
	layers_ns_close(&t);
}

static void limits_have_names(void **state)
{
	static const struct {
		const char *step;
		uint64_t bytes_max;
		uint64_t entries_max;
		int want;
	} rows[] = {
		{"head -c 1000 /dev/zero > f", 1000, 0, 0},
		{"head -c 1001 /dev/zero > f", 1000, 0, -EFBIG},
		{"truncate -s 1000G f", 1 << 20, 0,
		 -EFBIG}, /* and at once: a hole is not hashed to find out */
		{"mkdir a b c", 0, 3, 0},
		{"mkdir a b c d", 0, 3, -E2BIG},
		{"i=0; while [ $i -lt 250 ]; do mkdir d; cd d; i=$((i+1)); done 2>/dev/null", 0, 0,
		 -E2BIG},
		{"n=$(printf '%0250d' 0); i=0; while [ $i -lt 40 ]; do mkdir $n; cd -P $n; "
		 "i=$((i+1)); done 2>/dev/null",
		 0, 0, -E2BIG},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct layers_ns t;
		struct layers_ns_answer a;
		struct sealer_request q =
			layers_ns_request(SEALER_SEAL, (const char *const[]){"a", NULL});

		layers_ns_open(&t);
		layers_ns_sealer_start(&t, NULL);
		layers_ns_step(&t, NULL, "a", rows[i].step);
		q.bytes_max = rows[i].bytes_max;
		q.entries_max = rows[i].entries_max;
		layers_ns_ask(&t, q, &a);
		if (a.reply.result != rows[i].want)
			fail_msg("%s: %d: %s", rows[i].step, a.reply.result, a.message);
		if (rows[i].want < 0)
			assert_int_equal(a.reply.exit_status, EXIT_STATUS_LIMIT);
		layers_ns_do(&t, SEALER_REMOVE, "a");
		layers_ns_close(&t);
	}
}

/* Nobody should: its step is gone. But a layer that is still written to must not get a digest. */
static void a_file_that_changes_meanwhile_is_not_sealed(void **state)
{
	struct layers_ns t;
	struct layers_ns_answer a;
	pid_t pid;
	int fd;

	(void)state;
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, NULL);
	layers_ns_step(&t, NULL, "a", "head -c 50000000 /dev/zero > f; chmod 666 f");
	fd = openat(t.layers, "a/u/f", O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	pid = fork();
	if (pid == 0)
		while (pwrite(fd, "x", 1, 0) == 1)
			;
	layers_ns_ask(&t, layers_ns_request(SEALER_SEAL, (const char *const[]){"a", NULL}), &a);
	kill(pid, SIGKILL);
	layers_ns_wait(pid);
	close(fd);
	assert_int_equal(a.reply.result, -EAGAIN);
	layers_ns_do(&t, SEALER_SEAL, "a");
	layers_ns_close(&t);
}

/* A sealer that dies at each of its failpoints, and the next one on the same folder. */
static void a_sealer_that_died_is_run_again(void **state)
{
	static const char *const points[] = {"sealer.walked=kill", "sealer.before_rename=kill",
					     "sealer.before_sync=kill", "sealer.after_sync=kill"};
	struct layers_ns t;
	struct digest want;

	(void)state;
#ifndef HOLDFAST_FAILPOINTS
	skip();
#endif
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, NULL);
	layers_ns_base(&t, "mkdir d; echo a > d/f");
	layers_ns_step(&t, NULL, "a", "rm -r d; echo b > g; echo c > h; ln h i");
	want = layers_ns_do(&t, SEALER_SEAL, "a").digest;
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		struct layers_ns_answer a;
		struct digest got;

		layers_ns_sealer_start(&t, points[i]);
		layers_ns_ask(&t, layers_ns_request(SEALER_SEAL, (const char *const[]){"a", NULL}),
			      &a);
		assert_int_equal(a.reply.result, -EIO);
		layers_ns_sealer_start(&t, NULL);
		got = layers_ns_do(&t, SEALER_SEAL, "a").digest;
		assert_true(digest_equal(&got, &want));
	}
	layers_ns_close(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_step_did_is_named),
		cmocka_unit_test(what_is_sealed_can_be_removed_by_its_owner),
		cmocka_unit_test(digests_are_of_the_whole_content),
		cmocka_unit_test(what_the_base_held_is_remembered),
		cmocka_unit_test(ten_thousand_files),
		cmocka_unit_test(limits_have_names),
		cmocka_unit_test(a_file_that_changes_meanwhile_is_not_sealed),
		cmocka_unit_test(a_sealer_that_died_is_run_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
