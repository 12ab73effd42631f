/*
 * holdfast verify, fsck, export, gc on a state directory that no daemon serves: what they find,
 * what they change, and what they say when somebody else holds the journal.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/guard.h"
#include "base/io.h"
#include "journal/store.h"
#include "tests/unit/journal/folder.h"
#include "tests/unit/journal/story.h"
#include "tests/unit/journal/tamper.h"

static char holdfast[PATH_MAX];

struct state {
	struct folder dir; /* the state directory */
	struct folder v1; /* stands for v1/ in it */
};

static struct journal *open_journal(const struct state *s)
{
	struct journal_options o = {.dirfd = s->v1.fd, .clock = story_clock()};
	struct journal *j = NULL;
	struct error err = {0};
	if (journal_open(&o, &j, &err) < 0)
		fail_msg("%s", err.msg);
	return j;
}

static void make_state(struct state *s)
{
	folder_make(&s->dir);
	assert_int_equal(mkdirat(s->dir.fd, "v1", 0711), 0);
	snprintf(s->v1.path, sizeof(s->v1.path), "%.4000s/v1", s->dir.path);
	s->v1.fd = open(s->v1.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(s->v1.fd >= 0);
	struct journal *j = open_journal(s);
	story_run(j, 0x21, true);
	story_run(j, 0x22, false);
	journal_close(j);
}

static void remove_state(struct state *s)
{
	close_fd(&s->v1.fd);
	folder_remove(&s->dir);
}

/* Runs the command with --state; standard output and error go to out. */
static int run(const struct state *s, struct buffer *out, const char *command, const char *a,
	       const char *b)
{
	int p[2], status;
	out->len = 0;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(p[1], STDOUT_FILENO);
		dup2(p[1], STDERR_FILENO);
		execl(holdfast, "holdfast", "--state", s->dir.path, command, a, b, NULL);
		_exit(127);
	}
	close(p[1]);
	assert_int_equal(io_read_all(p[0], 1 << 20, out), 0);
	close(p[0]);
	buffer_append_byte(out, 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static bool says(const struct buffer *out, const char *text)
{
	return memmem(out->data, out->len, text, strlen(text)) != NULL;
}

static void a_whole_journal_is_said_to_be_whole(void **state)
{
	(void)state;
	struct state s;
	AUTO_BUFFER out = {0};
	make_state(&s);
	assert_int_equal(run(&s, &out, "verify", NULL, NULL), 0);
	assert_true(says(&out, "verify: whole: 22 records of 2 chains, "));
	assert_int_equal(run(&s, &out, "verify", "--json", NULL), 0);
	assert_true(says(&out, "\"problems\":0") || says(&out, "\"problems\": 0"));
	assert_int_equal(run(&s, &out, "fsck", NULL, NULL), 0);
	assert_true(says(&out, "fsck: clean: 22 records"));
	assert_int_equal(run(&s, &out, "gc", NULL, NULL), 0);
	assert_true(
		says(&out, "gc: 0 runs dropped, 0 blobs removed, 0 bytes freed; 22 records kept"));
	remove_state(&s);
}

static void findings_are_named_and_exit_1(void **state)
{
	(void)state;
	struct state s;
	AUTO_BUFFER out = {0};
	uint8_t key[JOURNAL_EVENT_KEY_SIZE], row[1 + JOURNAL_ID_SIZE];
	struct journal_id id;
	AUTO_BUFFER event = {0};
	make_state(&s);
	story_run_id(0x21, &id);
	tamper_put(&s.v1, JOURNAL_FAMILY_STATE, journal_store_tag_key('r', &id, row),
		   bytes_str("?"));
	assert_int_equal(run(&s, &out, "fsck", NULL, NULL), 1);
	assert_true(says(&out, "row 'r' 21212121: is not what its records make of it"));
	assert_int_equal(run(&s, &out, "fsck", "--repair", NULL), 1);
	assert_true(says(&out, "; rewritten"));
	assert_int_equal(run(&s, &out, "fsck", NULL, NULL), 0);

	journal_store_event_key(&id, 4, key);
	assert_int_equal(tamper_get(&s.v1, JOURNAL_FAMILY_EVENT, bytes_of(key, sizeof(key)),
				    &event),
			 0);
	event.data[event.len - 1] ^= 1;
	tamper_put(&s.v1, JOURNAL_FAMILY_EVENT, bytes_of(key, sizeof(key)), buffer_bytes(&event));
	assert_int_equal(run(&s, &out, "verify", NULL, NULL), 1);
	assert_true(says(&out, "run 21212121 record 4: does not follow from record 3"));
	assert_int_equal(run(&s, &out, "fsck", "--repair", NULL), 1);
	assert_true(says(&out, "nothing was repaired: the records themselves are damaged"));
	remove_state(&s);
}

static void export_gives_one_run_or_all(void **state)
{
	(void)state;
	struct state s;
	AUTO_BUFFER all = {0};
	AUTO_BUFFER one = {0};
	make_state(&s);
	assert_int_equal(run(&s, &all, "export", NULL, NULL), 0);
	assert_int_equal(run(&s, &one, "export", "22", NULL), 0);
	assert_true(one.len > 100 && one.len < all.len);
	assert_memory_equal(one.data, all.data + all.len - one.len, one.len);
	assert_int_equal(run(&s, &one, "export", "77", NULL), 2);
	assert_true(says(&one, "run 77: there is none"));
	remove_state(&s);
}

static void old_runs_go_and_their_heads_stay(void **state)
{
	(void)state;
	struct state s;
	AUTO_BUFFER out = {0};
	make_state(&s);
	assert_int_equal(run(&s, &out, "gc", "--older-than", "x"), 2);
	/* The story's clock stands in 1970. */
	assert_int_equal(run(&s, &out, "gc", "--older-than=30d", NULL), 4);
	assert_true(says(&out, "1 run would be dropped") && says(&out, "nothing was removed"));
	assert_true(says(&out, "  21212121  succeeded"));
	assert_int_equal(run(&s, &out, "gc", "--older-than=30d", "--yes"), 0);
	assert_true(says(&out, "gc: 1 run dropped"));
	assert_int_equal(run(&s, &out, "verify", NULL, NULL), 0);
	assert_int_equal(run(&s, &out, "fsck", NULL, NULL), 0);
	remove_state(&s);
}

static void who_holds_it_and_what_to_do_is_said(void **state)
{
	(void)state;
	static const char *const commands[] = {"verify", "fsck", "export", "gc"};
	struct state s;
	AUTO_BUFFER out = {0};
	char pid[40];
	make_state(&s);
	struct journal *j = open_journal(&s);
	snprintf(pid, sizeof(pid), "process %ld has it open", (long)getpid());
	/* As if they had waited long enough: a release waits. */
	setenv("HOLDFAST_FAILPOINT", "client.held=error:EIO", 1);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		assert_int_equal(run(&s, &out, commands[i], NULL, NULL), EXIT_STATUS_CONFLICT);
		assert_true(says(&out, pid));
		assert_true(says(&out, "then try again"));
	}
	unsetenv("HOLDFAST_FAILPOINT");
	journal_close(j);
	remove_state(&s);
}

static void no_state_directory_is_made_by_looking(void **state)
{
	(void)state;
	struct state s;
	struct stat st;
	AUTO_BUFFER out = {0};
	make_state(&s);
	struct state none = {.dir = s.dir};
	snprintf(none.dir.path, sizeof(none.dir.path), "%.4000s/none", s.dir.path);
	assert_int_equal(run(&none, &out, "verify", NULL, NULL), 2);
	assert_int_equal(stat(none.dir.path, &st), -1);
	remove_state(&s);
}

int main(void)
{
	const char *path = getenv("HOLDFAST");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_journal_is_said_to_be_whole),
		cmocka_unit_test(findings_are_named_and_exit_1),
		cmocka_unit_test(export_gives_one_run_or_all),
		cmocka_unit_test(old_runs_go_and_their_heads_stay),
		cmocka_unit_test(who_holds_it_and_what_to_do_is_said),
		cmocka_unit_test(no_state_directory_is_made_by_looking),
	};
	if (!path || strlen(path) >= sizeof(holdfast))
		return 1;
	strcpy(holdfast, path);
	return cmocka_run_group_tests_name("integration/journal_commands", tests, NULL, NULL);
}
