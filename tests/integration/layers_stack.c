/* Squash, view, remove, usage, open: on layers that steps made in real overlays. */
#include <sys/sysmacros.h>
#include "tests/integration/layers_ns.h"

/* What a program could see of a tree, one line a path. Not the sizes of folders, and not the number
 * of links: a squashed file is one with those of the layers that it came from, for as long as they
 * are there. */
static const char listing[] =
	"find . -mindepth 1 -type d -printf '%P|%m|%T@\\n' | sort; "
	"find . -mindepth 1 -not -type d -printf '%P|%y|%m|%s|%l|%T@\\n' | sort; "
	"find . -type f -print0 | sort -z | xargs -0 -r sha256sum";

static char *see(const struct layers_ns *t, const char *const *layers)
{
	AUTO_BUFFER text = {0};
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/listing", t->root);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(layers_ns_step_status(t, layers, NULL, listing, fd), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(io_read_all(fd, 1 << 20, &text), 0);
	close(fd);
	return buffer_take(&text, NULL);
}

static const char base_script[] =
	"mkdir -p d/e k/l keep; echo 1 > d/f; echo 2 > d/e/g; echo 3 > k/l/m; echo 4 > top; "
	"echo 5 > keep/a; echo 6 > keep/b; mkdir x; echo 7 > x/y";

/* Each on the ones before it: all that can happen between layers. */
static const char *const step_scripts[] = {
	"echo new > d/new; echo edit > d/f; rm top; mkdir n; echo a > n/a; ln n/a n/b; mkfifo n/p; "
	"ln -s ../d n/s",
	"rm -r d; mkdir d; echo fresh > d/fresh; echo b > n/c; rm n/a; chmod 700 keep; rm keep/a",
	"rm -r k; echo file > k; rm -r n; mkdir -p n/deep; echo z > n/deep/z; echo back > top; "
	"chmod 000 n/deep",
	"rm -r x; ln -s /nowhere x; chmod 755 n/deep; echo more >> n/deep/z; rm d/fresh; touch -d "
	"@1000000000 keep; echo u > keep/u; chmod 6755 keep/u",
};

static void make_stack(struct layers_ns *t, const char *names[5])
{
	static const char *const all[] = {"a", "b", "c", "d"};

	layers_ns_open(t);
	layers_ns_sealer_start(t, NULL);
	layers_ns_base(t, base_script);
	names[0] = NULL;
	for (size_t i = 0; i < 4; i++) {
		layers_ns_step(t, names, all[i], step_scripts[i]);
		layers_ns_do(t, SEALER_SEAL, all[i]);
		names[i] = all[i];
		names[i + 1] = NULL;
	}
}

static struct digest view_digest(struct layers_ns *t, const char *const *names, bool over_base)
{
	struct sealer_request q = layers_ns_request(SEALER_VIEW, names);
	struct layers_ns_answer a;
	struct manifest *m = NULL;
	struct digest d;
	AUTO_BUFFER bytes = {0};

	q.over_base = over_base;
	layers_ns_ask(t, q, &a);
	if (a.reply.result)
		fail_msg("%s", a.message);
	assert_true(a.fd >= 0);
	assert_int_equal(fcntl(a.fd, F_GET_SEALS) & (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW),
			 F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
	assert_int_equal(lseek(a.fd, 0, SEEK_SET), 0);
	assert_int_equal(io_read_all(a.fd, 1 << 20, &bytes), 0);
	close(a.fd);
	assert_int_equal(manifest_decode(buffer_bytes(&bytes), &m, NULL), 0);
	assert_int_equal(manifest_count(m), a.reply.entries);
	digest_domain(MANIFEST_DOMAIN, buffer_bytes(&bytes), &d);
	assert_true(digest_equal(&d, &a.reply.digest));
	manifest_free(m);
	return d;
}

/* Any run of neighbours in the stack may be squashed; the rest stays above and below it. */
static void a_squashed_stack_shows_the_same(void **state)
{
	static const struct {
		size_t from, to;
	} runs[] = {{0, 4}, {0, 2}, {1, 3}, {1, 4}, {2, 4}, {0, 1}};
	struct layers_ns t;
	const char *names[5];
	AUTO_FREE char *want = NULL;
	struct digest net;

	(void)state;
	make_stack(&t, names);
	want = see(&t, names);
	net = view_digest(&t, names, true);
	for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
		struct sealer_request q = {.op = SEALER_SQUASH};
		struct layers_ns_answer a;
		AUTO_FREE char *got = NULL;
		const char *stack[5] = {NULL};
		char into[LAYERS_NAME_SIZE];
		char upper[LAYERS_NAME_SIZE];
		struct digest d;
		size_t n = 0;

		snprintf(into, sizeof(into), "s%zu", i);
		layers_ns_create(&t, into);
		for (size_t k = 0; k < 4; k++) {
			if (k == runs[i].from)
				stack[n++] = into;
			if (k >= runs[i].from && k < runs[i].to)
				snprintf(q.names[q.name_count++], LAYERS_NAME_SIZE, "%s", names[k]);
			else
				stack[n++] = names[k];
		}
		snprintf(q.into, sizeof(q.into), "%s", into);
		for (int twice = 0; twice < 2; twice++) { /* as after a crash */
			layers_ns_ask(&t, q, &a);
			if (a.reply.result)
				fail_msg("%zu: %s", i, a.message);
		}
		got = see(&t, stack);
		if (strcmp(got, want) != 0)
			fail_msg("squash of %zu to %zu:\n%s-- not --\n%s", runs[i].from, runs[i].to,
				 got, want);
		d = view_digest(&t, stack, true);
		assert_true(digest_equal(&d, &net));
		/* A step can work on it. */
		snprintf(upper, sizeof(upper), "t%zu", i);
		layers_ns_step(&t, stack, upper, "echo on > d/on; rm -r d; echo x >> top");
	}
	layers_ns_close(&t);
}

/* The squashed folder sealed by a walk of its own: the disk says what the merged manifest says, but
 * what was seen. */
static void a_squashed_layer_is_what_its_manifest_says(void **state)
{
	struct layers_ns t;
	const char *names[5];
	struct sealer_request q;
	struct layers_ns_answer a;
	struct manifest *merged;
	struct manifest *walked;

	(void)state;
	make_stack(&t, names);
	layers_ns_create(&t, "s");
	q = layers_ns_request(SEALER_SQUASH, names);
	strcpy(q.into, "s");
	layers_ns_ask(&t, q, &a);
	assert_int_equal(a.reply.result, 0);
	merged = layers_ns_manifest(&t, "s");
	layers_ns_do(&t, SEALER_SEAL, "s");
	walked = layers_ns_manifest(&t, "s");
	for (size_t i = 0, k = 0; i < manifest_count(merged) || k < manifest_count(walked);
	     i++, k++) {
		const struct manifest_entry *x = manifest_at(merged, i);
		const struct manifest_entry *y = manifest_at(walked, k);

		assert_non_null(x);
		assert_non_null(y);
		if (!bytes_equal(x->path, y->path) || x->type != y->type || x->mode != y->mode ||
		    x->mtime_ns != y->mtime_ns || !digest_equal(&x->digest, &y->digest) ||
		    !bytes_equal(x->link, y->link) || x->opaque != y->opaque)
			fail_msg("%.*s and %.*s", (int)x->path.len, (const char *)x->path.data,
				 (int)y->path.len, (const char *)y->path.data);
	}
	manifest_free(merged);
	manifest_free(walked);
	layers_ns_close(&t);
}

static void a_squash_that_was_cut_off_is_run_again(void **state)
{
	static const char *const points[] = {"sealer.squashing=kill", "sealer.before_rename=kill"};
	struct layers_ns t;
	const char *names[5];
	struct sealer_request q;
	struct layers_ns_answer a;
	struct digest want;

	(void)state;
#ifndef HOLDFAST_FAILPOINTS
	skip();
#endif
	make_stack(&t, names);
	want = view_digest(&t, names, false);
	layers_ns_create(&t, "s");
	q = layers_ns_request(SEALER_SQUASH, names);
	strcpy(q.into, "s");
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		layers_ns_sealer_start(&t, points[i]);
		layers_ns_ask(&t, q, &a);
		assert_int_equal(a.reply.result, -EIO);
	}
	layers_ns_sealer_start(&t, NULL);
	layers_ns_ask(&t, q, &a);
	assert_int_equal(a.reply.result, 0);
	assert_true(digest_equal(&a.reply.digest, &want));
	layers_ns_close(&t);
}

static int count_layer(void *arg, const char *name, bool sealed)
{
	(void)name;
	*(int *)arg += sealed ? 100 : 1;
	return 0;
}

static void nothing_is_left_of_a_removed_layer(void **state)
{
	/* 1,200 folders deep is past every count of descriptors; names of 250 bytes past every
	 * path. */
	static const char script[] =
		"mkdir -p z/y; echo a > z/y/f; chmod 000 z/y z; mkfifo p; ln -s / s; "
		"python3 -c 'import os\nn = \"n\" * 250\nfor i in range(1200): os.mkdir(n); "
		"open(\"f\", \"w\"); os.chdir(n)'";
	struct layers_ns t;
	struct error err = {0};
	int count = 0;

	(void)state;
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, NULL);
	layers_ns_base(&t, "echo outside > f");
	layers_ns_step(&t, NULL, "a", script);
	layers_ns_step(&t, NULL, "b", "echo b > f");
	layers_ns_do(&t, SEALER_SEAL, "b");
	assert_int_equal(layers_each(t.layers, count_layer, &count, &err), 0);
	assert_int_equal(count, 101);
	assert_true(layers_drop(t.layers, "a", &err) < 0); /* not before the sealer emptied it */
	layers_ns_do(&t, SEALER_REMOVE, "a");
	layers_ns_do(&t, SEALER_REMOVE, "a");
	assert_int_equal(layers_drop(t.layers, "a", &err), 0);
	assert_int_equal(layers_drop(t.layers, "a", &err), 0);
	layers_ns_do(&t, SEALER_REMOVE, "a");
	assert_int_equal(faccessat(t.layers, "a", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(faccessat(t.base, "f", F_OK, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(faccessat(t.layers, "b", F_OK, AT_SYMLINK_NOFOLLOW), 0);
	layers_ns_close(&t);
}

static void usage_counts_blocks_and_inodes(void **state)
{
	struct layers_ns t;
	struct layers_ns_answer a;
	struct sealer_request q = layers_ns_request(SEALER_USAGE, (const char *const[]){"a", NULL});
	struct sealer_reply r;

	(void)state;
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, NULL);
	layers_ns_step(
		&t, NULL, "a",
		"head -c 3000000 /dev/urandom > f; ln f g; truncate -s 1T hole; mkdir d; : > d/e");
	r = layers_ns_do(&t, SEALER_USAGE, "a");
	assert_in_range(r.bytes, 3000000, 3200000);
	assert_int_equal(r.entries,
			 4); /* f (and g), hole, d, d/e; not what overlay keeps for itself */
	q.bytes_max = 1000000;
	layers_ns_ask(&t, q, &a);
	assert_int_equal(a.reply.result, 0);
	assert_true(a.reply.bytes > 1000000);
	layers_ns_close(&t);
}

static void open_hands_out_files_and_nothing_else(void **state)
{
	static const struct {
		const char *path;
		int want;
	} rows[] = {
		{"z/f", 0},    {"d/f", 0},	 {"p", -EINVAL},    {"d", -EINVAL},
		{"s", -ELOOP}, {"sd/f", -ELOOP}, {"gone", -ENOENT}, {"only-base", -ENOENT},
	};
	struct layers_ns t;

	(void)state;
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, NULL);
	layers_ns_base(&t, "echo base > only-base; echo b > gone");
	layers_ns_step(&t, NULL, "a",
		       "mkdir z d; echo x > z/f; chmod 000 z/f z; echo y > d/f; mkfifo p; ln -s "
		       "/etc/passwd s; ln -s d sd");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sealer_request q =
			layers_ns_request(SEALER_OPEN, (const char *const[]){"a", NULL});
		struct layers_ns_answer a;
		char c = 0;

		q.path = bytes_str(rows[i].path);
		layers_ns_ask(&t, q, &a);
		if (a.reply.result != rows[i].want)
			fail_msg("%s: %d %s", rows[i].path, a.reply.result, a.message);
		assert_int_equal(a.fd >= 0, rows[i].want == 0);
		if (a.fd < 0)
			continue;
		assert_int_equal(read(a.fd, &c, 1), 1);
		assert_int_equal(c, rows[i].path[0] == 'z' ? 'x' : 'y');
		assert_int_equal(write(a.fd, "no", 2), -1);
		close(a.fd);
	}
	layers_ns_close(&t);
}

/* A message that the keeper would never send ends the sealer. */
static void an_unknown_message_ends_the_sealer(void **state)
{
	struct layers_ns t;
	struct pollfd p;
	char byte;

	(void)state;
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, NULL);
	assert_int_equal(send(t.sealer, "\xa0", 1, MSG_NOSIGNAL), 1);
	p = (struct pollfd){.fd = t.sealer, .events = POLLIN};
	assert_int_equal(poll(&p, 1, LAYERS_NS_REPLY_MS), 1);
	assert_int_equal(recv(t.sealer, &byte, 1, 0), 0);
	close_fd(&t.sealer);
	assert_int_equal(layers_ns_wait(t.sealer_pid), EXIT_STATUS_STEP_FAILED);
	layers_ns_close(&t);
}

static void what_a_dead_keeper_asked_for_ends_with_it(void **state)
{
	struct layers_ns t;
	struct sealer_request q = layers_ns_request(SEALER_SEAL, (const char *const[]){"a", NULL});
	int fds[2];
	AUTO_BUFFER out = {0};

	(void)state;
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, "sealer.walked=stop");
	layers_ns_step(&t, NULL, "a", "echo x > f");
	fds[0] = t.layers;
	fds[1] = t.base;
	q.id = 1;
	assert_int_equal(sealer_request_encode(&q, &out), 0);
	assert_true(io_send_fds(t.sealer, out.data, out.len, fds, 2) > 0);
	layers_ns_sealer_stop(&t); /* waits for its end */
	layers_ns_sealer_start(&t, NULL);
	layers_ns_do(&t, SEALER_SEAL, "a");
	layers_ns_close(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_squashed_stack_shows_the_same),
		cmocka_unit_test(a_squashed_layer_is_what_its_manifest_says),
		cmocka_unit_test(a_squash_that_was_cut_off_is_run_again),
		cmocka_unit_test(nothing_is_left_of_a_removed_layer),
		cmocka_unit_test(usage_counts_blocks_and_inodes),
		cmocka_unit_test(open_hands_out_files_and_nothing_else),
		cmocka_unit_test(an_unknown_message_ends_the_sealer),
		cmocka_unit_test(what_a_dead_keeper_asked_for_ends_with_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
