/*
 * Each limit against a program that wants more, in a sandbox's shape: a user namespace and a pid
 * namespace whose pid 1 waits until it was put under the limits. As root with control groups, as an
 * ordinary user in the weaker form. With the argument v1, and as root, the hierarchy of cgroup v2
 * is taken away first.
 */
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include "sandbox/limits.h"
#include "tests/integration/layers_ns.h"

enum { DEADLINE_MS = 10000, SAFETY_MIB = 512, BOMB_MAX = 3000 };

struct box {
	pid_t outer; /* our child */
	pid_t pid; /* pid 1 of the sandbox, in our namespace */
	int pidfd;
	int go;
};

static char tag[LIMITS_TAG_SIZE];
static bool v2_gone;

static void nap(int ms)
{
	poll(NULL, 0, ms);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* fn runs as pid 1 after box_go(). */
static void box_open(struct box *b, void (*fn)(void *), void *arg)
{
	uid_t uid = geteuid() ? geteuid() : LAYERS_NS_UID;
	AUTO_FD userns = layers_ns_make(uid, uid);
	const struct layers_ns t = {.userns = userns, .uid = uid, .gid = uid};
	int told[2];
	int go[2];

	if (userns < 0) {
		fprintf(stderr, "skipped: no user namespaces here\n");
		exit(LAYERS_NS_SKIP);
	}
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	b->outer = fork();
	if (b->outer == 0) {
		pid_t inner;
		char byte;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		layers_ns_enter(&t);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWPID) < 0)
			layers_ns_fail("pid namespace");
		inner = fork();
		if (inner == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(go[1]);
			if (read(go[0], &byte, 1) == 1)
				fn(arg);
			_exit(0);
		}
		if (write(told[1], &inner, sizeof(inner)) < 0)
			_exit(1);
		_exit(layers_ns_wait(inner));
	}
	close(told[1]);
	close(go[0]);
	assert_int_equal(read(told[0], &b->pid, sizeof(b->pid)), sizeof(b->pid));
	close(told[0]);
	b->go = go[1];
	b->pidfd = (int)syscall(SYS_pidfd_open, b->pid, 0);
	assert_true(b->pidfd >= 0);
}

static void box_go(struct box *b)
{
	assert_int_equal(write(b->go, "g", 1), 1);
}

static bool box_ended(const struct box *b)
{
	struct pollfd p = {.fd = b->pidfd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void box_close(struct box *b)
{
	syscall(SYS_pidfd_send_signal, b->pidfd, SIGKILL, NULL, 0);
	layers_ns_wait(b->outer);
	close(b->pidfd);
	close(b->go);
}

static struct limits_host *host_open(void)
{
	struct limits_host *h = NULL;
	struct error err = {0};

	if (limits_host_open(tag, &h, &err) < 0)
		fail_msg("%s", err.msg);
	return h;
}

static struct limits *prepare(struct limits_host *h, struct limits_want want, struct box *b)
{
	struct limits *l = NULL;
	struct error err = {0};

	want.weaker_memory = want.weaker_cpu = true;
	if (limits_prepare(h, "box", &want, &l, &err) < 0 ||
	    limits_attach(l, b->pid, b->pidfd, false, false, &err) < 0)
		fail_msg("%s", err.msg);
	return l;
}

/* Samples until the sandbox ended or the time is over; the last hit. */
static int watch(struct limits *l, const struct box *b, struct limits_usage *most)
{
	int64_t end = now_ms() + DEADLINE_MS;
	int hit = LIMITS_OK;

	*most = (struct limits_usage){0};
	while (now_ms() < end) {
		bool ended = box_ended(b);
		struct limits_usage u;

		hit = limits_sample(l, &u);
		assert_true(hit >= 0);
		if (u.pids > most->pids)
			most->pids = u.pids;
		most->cpu_ns = u.cpu_ns;
		most->memory_peak_bytes = u.memory_peak_bytes;
		most->pids_refused = u.pids_refused;
		if (ended)
			break;
		nap(LIMITS_SAMPLE_MS / 4);
	}
	return hit;
}

static void assert_no_group_left(void)
{
	char command[160];
	FILE *f;
	char line[256] = "";

	snprintf(command, sizeof(command), "find /sys/fs/cgroup -name 'holdfast-?%s-*' 2>/dev/null",
		 tag + 1);
	f = popen(command, "r");
	assert_non_null(f);
	if (fgets(line, sizeof(line), f))
		fail_msg("left over: %s", line);
	pclose(f);
}

static void hog_memory(void *arg)
{
	(void)arg;
	/* Not pid 1 itself: the limit is the sandbox's. */
	if (fork() == 0) {
		for (int i = 0; i < SAFETY_MIB; i++) {
			char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (p == MAP_FAILED)
				_exit(1);
			memset(p, 1, 1 << 20);
			nap(2);
		}
		pause();
	}
	pause(); /* its end is not noticed inside */
}

static void a_memory_hog_is_ended(void **state)
{
	struct limits_host *h = host_open();
	struct limits_usage most;
	struct box b;
	struct limits *l;

	(void)state;
	box_open(&b, hog_memory, NULL);
	l = prepare(h, (struct limits_want){.memory_bytes = 64 << 20}, &b);
	box_go(&b);
	assert_int_equal(watch(l, &b, &most), LIMITS_HIT_MEMORY);
	assert_true(box_ended(&b));
	assert_in_range(most.memory_peak_bytes, 48 << 20, 256 << 20);
	box_close(&b);
	limits_free(l);
	limits_host_free(h);
	assert_no_group_left();
}

/* Pages that many processes share are one process's worth, not many. */
static void share_memory(void *arg)
{
	char *p = mmap(NULL, 40 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)arg;
	memset(p, 1, 40 << 20);
	for (int i = 0; i < 8; i++)
		if (fork() == 0)
			pause();
	nap(600);
	_exit(0);
}

static void shared_pages_count_once(void **state)
{
	struct limits_host *h = host_open();
	struct limits_usage most;
	struct box b;
	struct limits *l;

	(void)state;
	box_open(&b, share_memory, NULL);
	l = prepare(h, (struct limits_want){.memory_bytes = 96 << 20}, &b);
	box_go(&b);
	assert_int_equal(watch(l, &b, &most), LIMITS_OK);
	assert_true(box_ended(&b));
	box_close(&b);
	limits_free(l);
	limits_host_free(h);
}

static void hog_cpu(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2; i++)
		if (fork() == 0)
			for (volatile int k = 0;; k++)
				;
	pause();
}

static void a_cpu_hog_is_ended(void **state)
{
	struct limits_host *h = host_open();
	struct limits_usage most;
	struct box b;
	struct limits *l;

	(void)state;
	box_open(&b, hog_cpu, NULL);
	l = prepare(h, (struct limits_want){.cpu_ns = 300000000}, &b);
	box_go(&b);
	assert_int_equal(watch(l, &b, &most), LIMITS_HIT_CPU);
	assert_true(box_ended(&b));
	assert_in_range(most.cpu_ns, 300000000, 1500000000);
	box_close(&b);
	limits_free(l);
	limits_host_free(h);
	assert_no_group_left();
}

struct bomb {
	int tries; /* of all its processes together */
	int refused;
	bool rlimit; /* nothing else bounds processes here */
};

static void bomb(struct bomb *s)
{
	while (__atomic_add_fetch(&s->tries, 1, __ATOMIC_RELAXED) < BOMB_MAX) {
		pid_t pid = fork();

		if (pid == 0)
			bomb(s);
		if (pid < 0)
			__atomic_add_fetch(&s->refused, 1, __ATOMIC_RELAXED);
	}
	pause();
}

static void hog_pids(void *arg)
{
	const struct rlimit nproc = {30, 30};
	struct bomb *s = arg;

	/* As init does: the count is this user namespace's. */
	if (s->rlimit)
		setrlimit(RLIMIT_NPROC, &nproc);
	/* Without the capabilities that would lift it; execve would take them. */
	syscall(SYS_capset, &(struct {
			uint32_t v;
			int pid;
		}){0x20080522, 0},
		&(uint32_t[6]){0});
	if (fork() == 0)
		bomb(s);
	/* Beside others a bomb takes its time. */
	for (int i = 0; i < 20 && s->refused <= 100; i++)
		nap(700);
	_exit(0);
}

static void a_fork_bomb_is_contained(void **state)
{
	struct bomb *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct limits_host *h = host_open();
	struct limits_usage most;
	struct box b;
	struct limits *l;

	(void)state;
	box_open(&b, hog_pids, s);
	/* A limit on cpu that is not reached: where nothing counts processes the sampler does. */
	l = prepare(h, (struct limits_want){.pids = 30, .cpu_ns = 60000000000}, &b);
	s->rlimit = limits_forms(l).pids == LIMITS_RLIMIT;
	box_go(&b);
	assert_int_equal(watch(l, &b, &most), LIMITS_OK);
	assert_true(box_ended(&b)); /* by itself: the bomb could not keep it from its work */
	assert_true(s->refused > 100);
	assert_in_range(most.pids, 10, 31);
	if (limits_forms(l).pids != LIMITS_RLIMIT)
		assert_true(most.pids_refused > 100);
	box_close(&b);
	limits_free(l);
	limits_host_free(h);
	munmap(s, sizeof(*s));
	assert_no_group_left();
}

static void fill_disk(struct layers_ns *t)
{
	struct limits_host *h = host_open();
	struct sealer_request q = layers_ns_request(SEALER_USAGE, (const char *const[]){"a", NULL});
	int64_t end = now_ms() + DEADLINE_MS;
	bool past = false;
	pid_t pid;

	layers_ns_create(t, "a");
	pid = fork();
	if (pid == 0)
		_exit(layers_ns_step_status(t, NULL, "a",
					    "for i in $(seq 200); do head -c 1000000 /dev/urandom "
					    "> f$i; sleep 0.01; done",
					    -1));
	q.bytes_max = 20000000;
	while (!past && now_ms() < end) {
		struct layers_ns_answer a;

		layers_ns_ask(t, q, &a);
		assert_int_equal(a.reply.result, 0);
		past = a.reply.bytes > q.bytes_max;
		nap(20);
	}
	assert_true(past);
	assert_int_equal(waitpid(pid, NULL, WNOHANG),
			 0); /* seen while the step was still writing */
	layers_ns_wait(pid);
	limits_host_free(h);
}

static void a_disk_filler_is_seen_while_it_writes(void **state)
{
	struct layers_ns t;

	(void)state;
	layers_ns_open(&t);
	layers_ns_sealer_start(&t, NULL);
	fill_disk(&t);
	layers_ns_close(&t);
}

static void count_up(void *arg)
{
	for (;;) {
		__atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED);
		nap(1);
	}
}

static void a_freezer_stops_and_goes_on(void **state)
{
	int *n = mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct limits_host *h = host_open();
	struct limits_usage u;
	struct box b;
	struct limits *l;
	int before;

	(void)state;
	box_open(&b, count_up, n);
	l = prepare(h, (struct limits_want){.cpu_ns = 60000000000}, &b);
	box_go(&b);
	nap(100);
	if (limits_forms(l).freezer == LIMITS_NONE) {
		assert_int_equal(limits_freeze(l, true), -ENOTSUP);
	} else {
		assert_int_equal(limits_freeze(l, true), 0);
		nap(50);
		before = __atomic_load_n(n, __ATOMIC_RELAXED);
		assert_true(before > 0);
		nap(200);
		assert_int_equal(__atomic_load_n(n, __ATOMIC_RELAXED), before);
		assert_int_equal(limits_freeze(l, false), 0);
		nap(100);
		assert_true(__atomic_load_n(n, __ATOMIC_RELAXED) > before);
		assert_int_equal(limits_freeze(l, true), 0);
		nap(20);
	}
	assert_int_equal(limits_sample(l, &u), LIMITS_OK);
	/* A frozen one can be ended. */
	limits_free(l);
	box_close(&b);
	limits_host_free(h);
	munmap(n, sizeof(*n));
	assert_no_group_left();
}

static void sleep_on(void *arg)
{
	(void)arg;
	pause();
}

/* A keeper that lives in a child, says so, and waits to be killed. */
static pid_t keeper(struct box *b, int *ret_told)
{
	int told[2];
	pid_t pid;

	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		struct limits_host *h = NULL;
		struct limits *l = NULL;
		struct error err = {0};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* Of another state directory, which may never be used again. */
		tag[0] = 'u';
		if (limits_host_open(tag, &h, &err) < 0 ||
		    limits_prepare(h, "box", &(struct limits_want){.pids = 10}, &l, &err) < 0 ||
		    limits_attach(l, b->pid, b->pidfd, false, false, &err) < 0) {
			fprintf(stderr, "%s\n", err.msg);
			_exit(1);
		}
		if (write(told[1], "k", 1) == 1)
			pause();
		_exit(1);
	}
	close(told[1]);
	*ret_told = told[0];
	return pid;
}

static void groups_of_a_dead_keeper_are_removed_and_of_a_living_one_not(void **state)
{
	struct limits_host *h;
	struct box b;
	char byte;
	int told;
	pid_t pid;

	(void)state;
	box_open(&b, sleep_on, NULL);
	box_go(&b);
	pid = keeper(&b, &told);
	assert_int_equal(read(told, &byte, 1), 1);
	h = host_open();
	nap(100);
	assert_false(box_ended(&b));
	if (limits_host_forms(h).pids != LIMITS_RLIMIT) {
		kill(pid, SIGKILL);
		layers_ns_wait(pid);
		limits_host_free(h);
		h = host_open();
		for (int i = 0; i < 100 && !box_ended(&b); i++)
			nap(20);
		assert_true(box_ended(&b));
	} else {
		kill(pid, SIGKILL);
		layers_ns_wait(pid);
	}
	close(told);
	box_close(&b);
	limits_host_free(h);
	assert_no_group_left();
}

/* A group inside the groups of box name, or away with it again: as long as it is there they cannot
 * be removed. */
static void block_removal(const char *name, bool block)
{
	char command[200];

	snprintf(command, sizeof(command),
		 "for d in $(find /sys/fs/cgroup -name 'holdfast-%s-*-%s' 2>/dev/null); do %s "
		 "$d/sub; done",
		 tag, name, block ? "mkdir" : "rmdir");
	assert_int_equal(system(command), 0);
}

/* Groups that could not be removed are looked for again: those of the living must not be hit. */
static void removing_what_is_left_over_spares_the_living(void **state)
{
	struct limits_host *h = host_open();
	struct limits *l[3];
	struct box b[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		const char name[] = {'b', (char)('0' + i), '\0'};
		struct error err = {0};

		box_open(&b[i], sleep_on, NULL);
		if (i == 2) {
			block_removal("b1", true);
			limits_free(l[1]);
		}
		if (limits_prepare(h, name, &(struct limits_want){.pids = 300}, &l[i], &err) < 0 ||
		    limits_attach(l[i], b[i].pid, b[i].pidfd, false, false, &err) < 0)
			fail_msg("%s", err.msg);
		box_go(&b[i]);
		nap(50);
	}
	nap(100);
	assert_false(box_ended(&b[0]));
	assert_false(box_ended(&b[2]));
	assert_true(box_ended(&b[1]) || limits_forms(l[0]).pids == LIMITS_RLIMIT);
	block_removal("b1", false);
	limits_free(l[2]);
	limits_free(l[0]);
	for (int i = 0; i < 3; i++)
		box_close(&b[i]);
	limits_host_free(h);
	assert_no_group_left();
}

static void what_cannot_be_enforced_is_named(void **state)
{
	static const struct {
		const char *name;
		struct limits_want want;
	} rows[] = {
		{"memory", {.memory_bytes = 1 << 30}},
		{"cpu", {.cpu_ns = 1000000000}},
	};
	struct limits_host *h = host_open();
	struct limits_forms f = limits_host_forms(h);
	const enum limits_form forms[] = {f.memory, f.cpu};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct limits *l = NULL;
		struct error err = {0};
		int r = limits_prepare(h, "box", &rows[i].want, &l, &err);

		if (forms[i] > LIMITS_SAMPLED) {
			assert_int_equal(r, 0);
		} else {
			assert_int_equal(r, -ENOTSUP);
			assert_int_equal(err.exit_status, EXIT_STATUS_SANDBOX);
			assert_non_null(strstr(err.msg, rows[i].name));
			assert_non_null(strstr(err.msg, "allow_weaker"));
		}
		limits_free(l);
	}
	if (geteuid() == 0 && access("/sys/fs/cgroup/memory/cgroup.procs", W_OK) == 0)
		assert_int_equal(f.memory, LIMITS_CGROUP1);
	if (v2_gone && access("/sys/fs/cgroup/freezer/cgroup.procs", W_OK) == 0) {
		assert_int_equal(f.cpu, LIMITS_CGROUP1);
		assert_int_equal(f.freezer, LIMITS_CGROUP1);
	}
	limits_host_free(h);
	assert_no_group_left();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_cannot_be_enforced_is_named),
		cmocka_unit_test(a_memory_hog_is_ended),
		cmocka_unit_test(shared_pages_count_once),
		cmocka_unit_test(a_cpu_hog_is_ended),
		cmocka_unit_test(a_fork_bomb_is_contained),
		cmocka_unit_test(a_disk_filler_is_seen_while_it_writes),
		cmocka_unit_test(a_freezer_stops_and_goes_on),
		cmocka_unit_test(groups_of_a_dead_keeper_are_removed_and_of_a_living_one_not),
		cmocka_unit_test(removing_what_is_left_over_spares_the_living),
	};

	snprintf(tag, sizeof(tag), "t%d", (int)getpid());
	if (argc > 1 && strcmp(argv[1], "v1") == 0 && geteuid() == 0) {
		if (unshare(CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			return 1;
		v2_gone = umount2("/sys/fs/cgroup/unified", MNT_DETACH) == 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
