/*
 * Everything that is read and written again, over the files of the fuzz corpora and the golden ones,
 * with memory that runs out at every place: -ENOMEM, or what is said with memory too. Nothing that
 * is well formed is called malformed, and what is written is all of it.
 */
#include <dirent.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "sandbox/gate/table.h"
#include "sandbox/manifest.h"
#include "sandbox/report.h"
#include "supervisor/landing_plan.h"
#include "supervisor/plan.h"
#include "supervisor/settings.h"
#include "tests/unit/memory/memory.h"

enum { FILE_MAX = 256 * 1024 };

static struct bytes input;

/* Whole, or an error: what was read comes out as it went in. */
static int same(int r, const struct buffer *out)
{
	if (r == 0)
		assert_true(bytes_equal(buffer_bytes(out), input));
	return r;
}

static int plan_text(void *arg)
{
	AUTO(plan_free) struct plan *p = NULL;
	AUTO_BUFFER out = {0};
	struct error err = {0};
	int r = plan_parse(input, "f", &p, &err);

	(void)arg;
	return r < 0 ? r : plan_encode(p, &out);
}

static int plan_form(void *arg)
{
	AUTO(plan_free) struct plan *p = NULL;
	AUTO_BUFFER out = {0};
	int r = plan_decode(input, &p);

	(void)arg;
	return r < 0 ? r : same(plan_encode(p, &out), &out);
}

static int plan_step_form(void *arg)
{
	AUTO(plan_step_free) struct plan_step *s = NULL;
	AUTO_BUFFER out = {0};
	int r = plan_step_decode(input, &s);

	(void)arg;
	return r < 0 ? r : same(plan_step_encode(s, &out), &out);
}

static int settings_text(void *arg)
{
	struct settings s;
	AUTO_BUFFER out = {0};
	struct error err = {0};
	int r;

	(void)arg;
	settings_defaults(&s);
	r = settings_parse(input, "f", &s, &err);
	for (int k = 0; r == 0 && k < SETTINGS_KEY_COUNT; k++) {
		r = settings_value(&s, (enum settings_key)k, &out);
		if (r == 0)
			r = settings_origin(&s, (enum settings_key)k, &out);
	}
	settings_free(&s);
	return r;
}

static int landing_form(void *arg)
{
	AUTO(landing_plan_free) struct landing_plan *p = NULL;
	AUTO(landing_plan_free) struct landing_plan *back = NULL;
	AUTO_BUFFER out = {0};
	int r = landing_plan_decode(input, &p, NULL);

	(void)arg;
	if (r == 0)
		r = same(landing_plan_encode(p, &out), &out);
	return r < 0 ? r : landing_plan_reverse(p, NULL, 0, NULL, 0, &back, NULL);
}

static int conflicts_form(void *arg)
{
	AUTO(landing_plan_free) struct landing_plan *p = NULL;
	AUTO_BUFFER out = {0};
	int r = landing_conflicts_decode(input, &p, NULL);

	(void)arg;
	if (r < 0)
		return r;
	r = landing_conflicts_encode(p->conflicts, p->conflict_count, p->undo, &out);
	return same(r, &out);
}

static int manifest_form(void *arg)
{
	AUTO(manifest_free) struct manifest *m = NULL;
	AUTO(manifest_free) struct manifest *merged = NULL;
	AUTO_BUFFER out = {0};
	const struct manifest *stack[2];
	int r = manifest_decode(input, &m, NULL);

	(void)arg;
	if (r == 0)
		r = same(manifest_encode(m, &out), &out);
	stack[0] = stack[1] = m;
	return r < 0 ? r : manifest_merge(stack, 2, MANIFEST_MERGE_SQUASH, &merged, NULL);
}

static int report_form(void *arg)
{
	static struct report_message m;
	AUTO_BUFFER out = {0};
	int r = report_decode(input, &m);

	(void)arg;
	if (r < 0)
		return r;
	r = same(report_encode(&m, &out), &out);
	report_message_clear(&m);
	return r;
}

static int table_form(void *arg)
{
	AUTO(table_free) struct table *t = NULL;
	AUTO_BUFFER out = {0};
	int r = table_decode(input, &t);

	(void)arg;
	return r < 0 ? r : same(table_encode(t, &out), &out);
}

static size_t read_file(int dirfd, const char *name, uint8_t *data)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, data, FILE_MAX);

	assert_true(n >= 0 && n < FILE_MAX);
	close(fd);
	return (size_t)n;
}

static void over(const char *folder, int (*form)(void *), unsigned *ret_well)
{
	DIR *d = opendir(folder);
	uint8_t *data = malloc(FILE_MAX);

	assert_non_null(d);
	assert_non_null(data);
	for (struct dirent *e; (e = readdir(d));) {
		int r;

		if (e->d_name[0] == '.' || e->d_type == DT_DIR)
			continue;
		input = bytes_of(data, read_file(dirfd(d), e->d_name, data));
		r = form(NULL);
		*ret_well += r == 0;
		memory_exhaust(form, NULL, r);
	}
	free(data);
	closedir(d);
}

static void test_no_memory_is_never_malformed(void **state)
{
	static const struct {
		const char *name;
		int (*form)(void *);
		const char *folders[2];
	} rows[] = {
		{"plan, text", plan_text, {"fuzz/corpus/plan", "../examples/plans"}},
		{"plan", plan_form, {"fuzz/corpus/plan", "golden/supervisor"}},
		{"step", plan_step_form, {"fuzz/corpus/plan", "golden/supervisor"}},
		{"settings", settings_text, {"fuzz/corpus/settings"}},
		{"landing", landing_form, {"fuzz/corpus/landing", "golden/supervisor"}},
		{"conflicts", conflicts_form, {"fuzz/corpus/landing", "golden/supervisor"}},
		{"manifest", manifest_form, {"fuzz/corpus/manifest", "golden/sandbox"}},
		{"report", report_form, {"fuzz/corpus/courier_report", "golden/sandbox"}},
		{"table", table_form, {"golden/sandbox", "fuzz/corpus/gate_frames"}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned well = 0;

		for (size_t f = 0; f < 2 && rows[i].folders[f]; f++) {
			char folder[4096];

			snprintf(folder, sizeof(folder), "%s/%s", TESTS_DIR, rows[i].folders[f]);
			over(folder, rows[i].form, &well);
		}
		if (well == 0)
			fail_msg("%s: no file is well formed: nothing was tried", rows[i].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_memory_is_never_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
