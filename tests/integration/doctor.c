/*
 * Doctor says what is there, and where something is taken away it says so, with the remedy for
 * that. What is taken away is really gone: each machine is made in a child by the kernel's own
 * means.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include "sandbox/doctor.h"
#include "tests/integration/layers_ns.h"

struct folders {
	char root[64];
	int v1;
	int runtime;
};

static void folders_open(struct folders *f)
{
	char path[128];

	snprintf(f->root, sizeof(f->root), "/var/tmp/holdfast-doctor-XXXXXX");
	assert_non_null(mkdtemp(f->root));
	snprintf(path, sizeof(path), "%s/v1", f->root);
	assert_int_equal(mkdir(path, 0700), 0);
	f->v1 = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->runtime = open(f->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->v1 >= 0 && f->runtime >= 0);
}

/* Fails if anything but the stored answer was left. */
static void folders_close(struct folders *f)
{
	(void)!unlinkat(f->v1, "doctor", 0);
	assert_int_equal(unlinkat(f->runtime, "v1", AT_REMOVEDIR), 0);
	assert_int_equal(rmdir(f->root), 0);
	close(f->v1);
	close(f->runtime);
}

/* Every call allowed but this one, which gives error. */
static void refuse_call(int number, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {ARRAY_SIZE(code), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		layers_ns_fail("seccomp");
}

/* Into a user and mount namespace of our own, where machines can be spoiled. */
static void own_machine(struct doctor_options *o)
{
	char path[256];
	ssize_t n;
	char text[32];
	unsigned uid = geteuid();
	unsigned gid = getegid();

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		layers_ns_fail("unshare");
	layers_ns_write(getpid(), "setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1", uid, uid);
	layers_ns_write(getpid(), "uid_map", text);
	snprintf(text, sizeof(text), "%u %u 1", gid, gid);
	layers_ns_write(getpid(), "gid_map", text);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		layers_ns_fail("private");
	if (o->v1_fd >= 0) {
		/* The same folder in the new mount namespace. */
		snprintf(text, sizeof(text), "/proc/self/fd/%d", o->v1_fd);
		n = readlink(text, path, sizeof(path) - 1);
		path[n < 0 ? 0 : n] = '\0';
		o->v1_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
}

static void take_nothing(struct doctor_options *o)
{
	(void)o;
}

/* As the default profiles of containers do. */
static void take_unshare(struct doctor_options *o)
{
	(void)o;
	refuse_call(SYS_unshare, EPERM);
}

static void take_clone3(struct doctor_options *o)
{
	(void)o;
	refuse_call(SYS_clone3, ENOSYS);
}

static void take_landlock(struct doctor_options *o)
{
	(void)o;
	refuse_call(SYS_landlock_create_ruleset, ENOSYS);
}

static void take_memfd(struct doctor_options *o)
{
	(void)o;
	refuse_call(SYS_memfd_create, ENOSYS);
}

static void take_renameat2(struct doctor_options *o)
{
	(void)o;
	refuse_call(SYS_renameat2, EINVAL);
}

static void take_user_namespaces(struct doctor_options *o)
{
	AUTO_FD fd = -1;

	own_machine(o);
	fd = open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		layers_ns_fail("max_user_namespaces");
}

static void take_net_namespaces(struct doctor_options *o)
{
	AUTO_FD fd = -1;

	own_machine(o);
	fd = open("/proc/sys/user/max_net_namespaces", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		layers_ns_fail("max_net_namespaces");
}

/* A container covers parts of /proc, and the kernel then gives out no whole one. */
static void take_proc(struct doctor_options *o)
{
	own_machine(o);
	if (mount("/dev/null", "/proc/version", NULL, MS_BIND, NULL) < 0)
		layers_ns_fail("mask");
}

static void take_runtime(struct doctor_options *o)
{
	o->runtime_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static const struct {
	const char *rule;
	void (*take)(struct doctor_options *);
	const char *finding;
	enum doctor_grade grade;
	const char *remedy; /* a part of it */
} machines[] = {
	{"nothing is taken away", take_nothing, "user-namespaces", DOCTOR_OK, ""},
	{"nothing is taken away", take_nothing, "overlay", DOCTOR_OK, ""},
	{"nothing is taken away", take_nothing, "seccomp", DOCTOR_OK, ""},
	{"a container's filter", take_unshare, "user-namespaces", DOCTOR_MISSING,
	 "seccomp=unconfined"},
	{"what stands on it is not tried", take_unshare, "overlay", DOCTOR_SKIPPED, ""},
	{"clone3 unknown", take_clone3, "kernel", DOCTOR_MISSING, "5.15"},
	{"no Landlock", take_landlock, "landlock", DOCTOR_WEAKER, "allow_weaker"},
	{"no memfd", take_memfd, "memfd", DOCTOR_MISSING, ""},
	{"no exchange", take_renameat2, "rename-exchange", DOCTOR_MISSING, "ext4"},
	{"none may be made", take_user_namespaces, "user-namespaces", DOCTOR_MISSING,
	 "max_user_namespaces"},
	{"no network namespace", take_net_namespaces, "namespaces", DOCTOR_MISSING,
	 "max_net_namespaces"},
	{"a covered /proc", take_proc, "proc", DOCTOR_MISSING, "unmask=ALL"},
	{"no socket", take_runtime, "runtime-dir", DOCTOR_MISSING, "XDG_RUNTIME_DIR"},
};

/* The report of a machine as take makes it. */
static void examine(struct folders *f, void (*take)(struct doctor_options *),
		    struct doctor_report *ret)
{
	int out[2];
	size_t got = 0;
	pid_t pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		static struct doctor_report r;
		struct doctor_options o = {.v1_fd = f->v1,
					   .runtime_fd = f->runtime,
					   .apparmor = "/usr/share/holdfast/holdfast.apparmor"};
		struct error err = {0};

		take(&o);
		if (doctor_run(&o, &r, &err) < 0) {
			fprintf(stderr, "%s\n", err.msg);
			_exit(1);
		}
		_exit(io_write_all(out[1], &r, sizeof(r)) < 0);
	}
	close(out[1]);
	while (got < sizeof(*ret)) {
		ssize_t n = read(out[0], (char *)ret + got, sizeof(*ret) - got);

		if (n <= 0)
			break;
		got += (size_t)n;
	}
	close(out[0]);
	assert_int_equal(layers_ns_wait(pid), 0);
	assert_int_equal(got, sizeof(*ret));
}

static void what_is_taken_away_is_named_with_its_remedy(void **state)
{
	static struct doctor_report r;
	struct folders f;

	(void)state;
	folders_open(&f);
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
		const struct doctor_finding *x;

		if (i == 0 || machines[i].take != machines[i - 1].take)
			examine(&f, machines[i].take, &r);
		x = doctor_find(&r, machines[i].finding);
		assert_non_null(x);
		if (x->grade != machines[i].grade || !strstr(x->remedy, machines[i].remedy) ||
		    !x->detail[0])
			fail_msg("%s: %s %s: %s -> %s", machines[i].rule, x->name,
				 doctor_grade_name(x->grade), x->detail, x->remedy);
		assert_true(doctor_verdict(&r) >=
			    (x->grade == DOCTOR_SKIPPED ? DOCTOR_MISSING : x->grade));
	}
	folders_close(&f);
}

static void an_overlay_cannot_hold_the_state(void **state)
{
	static struct doctor_report r;
	struct folders f;
	pid_t pid;
	int status;

	(void)state;
	folders_open(&f);
	/* The overlay lives as long as the child that made it. */
	pid = fork();
	if (pid == 0) {
		struct doctor_options o = {.v1_fd = -1, .runtime_fd = f.runtime};
		struct error err = {0};
		const struct doctor_finding *x;

		if (fchdir(f.runtime) < 0)
			layers_ns_fail("chdir");
		own_machine(&o);
		if (mkdir("l", 0755) < 0 || mkdir("u", 0755) < 0 || mkdir("w", 0755) < 0 ||
		    mkdir("m", 0755) < 0 ||
		    mount("overlay", "m", "overlay", 0,
			  "userxattr,lowerdir=l,upperdir=u,workdir=w") < 0)
			layers_ns_fail("overlay");
		o.v1_fd = open("m", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (o.v1_fd < 0 || doctor_run(&o, &r, &err) < 0)
			layers_ns_fail("doctor");
		x = doctor_find(&r, "overlay");
		close(o.v1_fd);
		if (umount2("m", MNT_DETACH) < 0)
			layers_ns_fail("umount");
		_exit(!(x && x->grade == DOCTOR_MISSING && strstr(x->remedy, "--state") &&
			strstr(x->detail, "overlay")));
	}
	status = layers_ns_wait(pid);
	pid = fork();
	if (pid == 0) {
		if (fchdir(f.runtime) == 0)
			execl("/bin/sh", "sh", "-c", "chmod -R u+rwx l u w m; rm -rf l u w m",
			      NULL);
		_exit(1);
	}
	assert_int_equal(layers_ns_wait(pid), 0);
	assert_int_equal(status, 0);
	folders_close(&f);
}

static void the_answer_is_kept_for_this_boot(void **state)
{
	static struct doctor_report r, back;
	struct folders f;
	AUTO_BUFFER a = {0};
	AUTO_BUFFER b = {0};

	(void)state;
	folders_open(&f);
	assert_int_equal(doctor_load(f.v1, &back, NULL), -ENOENT);
	examine(&f, take_nothing, &r);
	assert_true(r.machine.user_namespace && r.machine.overlay && r.machine.seccomp);
	assert_int_not_equal(r.machine.limits.memory, LIMITS_NONE);
	assert_int_equal(doctor_store(f.v1, &r, NULL), 0);
	assert_int_equal(doctor_load(f.v1, &back, NULL), 0);
	assert_int_equal(doctor_encode(&r, &a), 0);
	assert_int_equal(doctor_encode(&back, &b), 0);
	assert_true(bytes_equal(buffer_bytes(&a), buffer_bytes(&b)));
	assert_int_equal(cbor_validate(buffer_bytes(&a)), 0);
	memset(r.boot, 'x', 8);
	assert_int_equal(doctor_store(f.v1, &r, NULL), 0);
	assert_int_equal(doctor_load(f.v1, &back, NULL), -ENOENT);
	folders_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_taken_away_is_named_with_its_remedy),
		cmocka_unit_test(an_overlay_cannot_hold_the_state),
		cmocka_unit_test(the_answer_is_kept_for_this_boot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
