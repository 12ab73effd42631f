#include "sandbox/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/cbor.h"
#include "base/guard.h"
#include "base/io.h"
#include "sandbox/doctor_tests.h"

enum { DOCTOR_VERSION = 1, STORED_MAX = 64 * 1024 };

#define STORED_NAME "doctor"

const char *doctor_grade_name(enum doctor_grade g)
{
	switch (g) {
	case DOCTOR_OK:
		return "ok";
	case DOCTOR_WEAKER:
		return "weaker";
	case DOCTOR_MISSING:
		return "missing";
	case DOCTOR_SKIPPED:
		return "skipped";
	}
	return "unknown";
}

const struct doctor_finding *doctor_find(const struct doctor_report *r, const char *name)
{
	for (size_t i = 0; i < r->count; i++)
		if (strcmp(r->findings[i].name, name) == 0)
			return &r->findings[i];
	return NULL;
}

enum doctor_grade doctor_verdict(const struct doctor_report *r)
{
	enum doctor_grade worst = DOCTOR_OK;

	for (size_t i = 0; i < r->count; i++)
		if (r->findings[i].grade != DOCTOR_SKIPPED && r->findings[i].grade > worst)
			worst = r->findings[i].grade;
	return worst;
}

/* ---- running ---- */

/* Overlay leaves folders of mode 000 behind: the test's files are ours, so modes can be given back.
 */
static void remove_below(int dir, int depth)
{
	int fd = depth < 8 ? openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	AUTO_DIR d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(dir, e->d_name, 0) < 0) {
			(void)!fchmodat(dir, e->d_name, 0700, 0);
			AUTO_FD below = openat(dir, e->d_name,
					       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (below >= 0)
				remove_below(below, depth + 1);
			(void)!unlinkat(dir, e->d_name, AT_REMOVEDIR);
		}
	}
}

static int make_folder(int v1_fd, char *name, size_t size)
{
	int fd;

	snprintf(name, size, "doctor.%d", (int)getpid());
	if (mkdirat(v1_fd, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(v1_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void run_child(const struct doctor_test *t, const struct doctor_place *p, int out)
{
	struct doctor_result result = {0};

	/* A process group of its own: what a test started ends with it. */
	(void)!setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 1); /* writes its own maps in /proc */
	/* The working folder goes along into a new mount namespace; a descriptor stays in the old
	 * one. */
	if (fchdir(p->folder) < 0)
		_exit(1);
	t->run(p, &result);
	_exit(write(out, &result, sizeof(result)) == sizeof(result) ? 0 : 1);
}

static void run_test(const struct doctor_test *t, const struct doctor_place *p,
		     struct doctor_result *ret)
{
	struct pollfd wait;
	int pipe_fds[2];
	pid_t pid;
	ssize_t n = -1;

	*ret = (struct doctor_result){.finding.grade = DOCTOR_MISSING};
	snprintf(ret->finding.detail, sizeof(ret->finding.detail), "the test could not be run: %s",
		 strerror(errno));
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return;
	pid = fork();
	if (pid == 0)
		run_child(t, p, pipe_fds[1]);
	close(pipe_fds[1]);
	if (pid > 0) {
		wait = (struct pollfd){.fd = pipe_fds[0], .events = POLLIN};
		if (poll(&wait, 1, DOCTOR_TEST_MS) == 1)
			n = read(pipe_fds[0], ret, sizeof(*ret));
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close(pipe_fds[0]);
	if (n == sizeof(*ret))
		return;
	*ret = (struct doctor_result){.finding.grade = DOCTOR_MISSING};
	snprintf(ret->finding.detail, sizeof(ret->finding.detail),
		 n < 0 ? "the test gave no answer within %d s" : "the test's process died",
		 DOCTOR_TEST_MS / 1000);
	snprintf(ret->finding.remedy, sizeof(ret->finding.remedy),
		 "run holdfast doctor again; if it stays so, report it with the kernel's log");
}

static void add_machine(struct doctor_machine *all, const struct doctor_machine *m)
{
	all->user_namespace |= m->user_namespace;
	all->namespaces |= m->namespaces;
	all->proc |= m->proc;
	all->overlay |= m->overlay;
	all->overlay_volatile |= m->overlay_volatile;
	all->idmap |= m->idmap;
	all->landlock_abi = m->landlock_abi ? m->landlock_abi : all->landlock_abi;
	all->seccomp |= m->seccomp;
	all->seccomp_notify |= m->seccomp_notify;
	all->memfd_exec |= m->memfd_exec;
	all->rename_exchange |= m->rename_exchange;
	if (m->limits.pids != LIMITS_NONE)
		all->limits = m->limits;
}

static void examine(const struct doctor_test *t, const struct doctor_options *o,
		    struct doctor_report *report)
{
	const struct doctor_finding *before = t->needs ? doctor_find(report, t->needs) : NULL;
	struct doctor_place place = {.options = o, .folder = -1};
	struct doctor_result result = {0};
	char name[32];

	if (before && (before->grade == DOCTOR_MISSING || before->grade == DOCTOR_SKIPPED)) {
		result.finding.grade = DOCTOR_SKIPPED;
		snprintf(result.finding.detail, sizeof(result.finding.detail), "needs %s",
			 t->needs);
	} else {
		place.folder = make_folder(o->v1_fd, name, sizeof(name));
		if (place.folder < 0) {
			result.finding.grade = DOCTOR_MISSING;
			snprintf(result.finding.detail, sizeof(result.finding.detail),
				 "no folder can be made in the state directory: %s",
				 strerror(-place.folder));
		} else {
			run_test(t, &place, &result);
			remove_below(place.folder, 0);
			(void)!unlinkat(o->v1_fd, name, AT_REMOVEDIR);
			close(place.folder);
		}
	}
	snprintf(result.finding.name, sizeof(result.finding.name), "%s", t->name);
	report->findings[report->count++] = result.finding;
	add_machine(&report->machine, &result.machine);
}

static int read_boot(char boot[DOCTOR_BOOT_SIZE])
{
	AUTO_BUFFER text = {0};
	AUTO_FD fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (io_read_all(fd, 64, &text) < 0 || text.len < DOCTOR_BOOT_SIZE - 1)
		return -EIO;
	memcpy(boot, text.data, DOCTOR_BOOT_SIZE - 1);
	boot[DOCTOR_BOOT_SIZE - 1] = '\0';
	return 0;
}

int doctor_run(const struct doctor_options *o, struct doctor_report *ret, struct error *err)
{
	int r;

	*ret = (struct doctor_report){0};
	r = read_boot(ret->boot);
	if (r < 0)
		return error_set_exit(
			err, r, EXIT_STATUS_SANDBOX,
			"doctor: /proc/sys/kernel/random/boot_id cannot be read: %s; mount /proc",
			strerror(-r));
	for (size_t i = 0; i < doctor_tests_count && ret->count < DOCTOR_FINDINGS_MAX; i++)
		examine(&doctor_tests_table[i], o, ret);
	return 0;
}

/* ---- the stored form ---- */

enum report_key { REPORT_VERSION = 1, REPORT_BOOT = 2, REPORT_MACHINE = 3, REPORT_FINDINGS = 4 };

/* The machine as an array of numbers, in the order of the struct: booleans 0 and 1. */
enum { MACHINE_FIELDS = 15 };

static void machine_fields(const struct doctor_machine *m, uint64_t v[MACHINE_FIELDS])
{
	const uint64_t all[MACHINE_FIELDS] = {
		m->user_namespace,
		m->namespaces,
		m->proc,
		m->overlay,
		m->overlay_volatile,
		m->idmap,
		(uint64_t)m->landlock_abi,
		m->seccomp,
		m->seccomp_notify,
		m->memfd_exec,
		m->rename_exchange,
		m->limits.memory,
		m->limits.cpu,
		m->limits.pids,
		m->limits.freezer,
	};

	memcpy(v, all, sizeof(all));
}

int doctor_encode(const struct doctor_report *r, struct buffer *out)
{
	uint64_t v[MACHINE_FIELDS];

	machine_fields(&r->machine, v);
	cbor_w_map(out, 4);
	cbor_w_uint(out, REPORT_VERSION);
	cbor_w_uint(out, DOCTOR_VERSION);
	cbor_w_uint(out, REPORT_BOOT);
	cbor_w_str(out, r->boot);
	cbor_w_uint(out, REPORT_MACHINE);
	cbor_w_array(out, MACHINE_FIELDS);
	for (size_t i = 0; i < MACHINE_FIELDS; i++)
		cbor_w_uint(out, v[i]);
	cbor_w_uint(out, REPORT_FINDINGS);
	cbor_w_array(out, r->count);
	for (size_t i = 0; i < r->count; i++) {
		cbor_w_array(out, 4);
		cbor_w_str(out, r->findings[i].name);
		cbor_w_uint(out, r->findings[i].grade);
		cbor_w_str(out, r->findings[i].detail);
		cbor_w_str(out, r->findings[i].remedy);
	}
	return out->failed;
}

static void read_text(struct cbor_reader *r, char *buf, size_t size)
{
	struct bytes t = cbor_r_text(r);

	if (t.len >= size || (t.len > 0 && memchr(t.data, 0, t.len))) {
		cbor_r_fail(r, -EBADMSG);
		return;
	}
	if (t.len > 0)
		memcpy(buf, t.data, t.len);
	buf[t.len] = '\0';
}

static uint64_t read_number(struct cbor_reader *r, uint64_t max)
{
	uint64_t v = cbor_r_uint(r);

	if (v > max) {
		cbor_r_fail(r, -EBADMSG);
		return 0;
	}
	return v;
}

static void read_machine(struct cbor_reader *r, struct doctor_machine *m)
{
	uint64_t v[MACHINE_FIELDS];

	if (cbor_r_array(r) != MACHINE_FIELDS)
		cbor_r_fail(r, -EBADMSG);
	for (size_t i = 0; i < MACHINE_FIELDS; i++)
		v[i] = read_number(r, i == 6 ? INT32_MAX : i > 10 ? LIMITS_CGROUP2 : 1);
	*m = (struct doctor_machine){
		.user_namespace = v[0],
		.namespaces = v[1],
		.proc = v[2],
		.overlay = v[3],
		.overlay_volatile = v[4],
		.idmap = v[5],
		.landlock_abi = (int)v[6],
		.seccomp = v[7],
		.seccomp_notify = v[8],
		.memfd_exec = v[9],
		.rename_exchange = v[10],
		.limits = {(enum limits_form)v[11], (enum limits_form)v[12],
			   (enum limits_form)v[13], (enum limits_form)v[14]},
	};
}

static void read_findings(struct cbor_reader *r, struct doctor_report *out)
{
	size_t count = cbor_r_array(r);

	if (count > DOCTOR_FINDINGS_MAX) {
		cbor_r_fail(r, -EBADMSG);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		struct doctor_finding *f = &out->findings[i];

		if (cbor_r_array(r) != 4)
			cbor_r_fail(r, -EBADMSG);
		read_text(r, f->name, sizeof(f->name));
		f->grade = (enum doctor_grade)read_number(r, DOCTOR_SKIPPED);
		read_text(r, f->detail, sizeof(f->detail));
		read_text(r, f->remedy, sizeof(f->remedy));
	}
	out->count = count;
}

int doctor_decode(struct bytes b, struct doctor_report *ret, struct error *err)
{
	struct cbor_reader r = cbor_reader(b);
	struct doctor_report out = {0};
	struct cbor_map_iter map;
	unsigned have = 0;
	uint64_t key;
	int done;

	cbor_r_map(&r, &map);
	while (cbor_r_key(&r, &map, &key)) {
		switch (key) {
		case REPORT_VERSION:
			if (cbor_r_uint(&r) != DOCTOR_VERSION)
				cbor_r_fail(&r, -EBADMSG);
			break;
		case REPORT_BOOT:
			read_text(&r, out.boot, sizeof(out.boot));
			break;
		case REPORT_MACHINE:
			read_machine(&r, &out.machine);
			break;
		case REPORT_FINDINGS:
			read_findings(&r, &out);
			break;
		default:
			return error_set(err, -EBADMSG,
					 "doctor: the stored answer has an unknown key");
		}
		have |= 1u << key;
	}
	done = cbor_r_end(&r);
	if (done < 0 || have != (1u << REPORT_VERSION | 1u << REPORT_BOOT | 1u << REPORT_MACHINE |
				 1u << REPORT_FINDINGS))
		return error_set(err, -EBADMSG,
				 "doctor: the stored answer is damaged, or of another version");
	*ret = out;
	return 0;
}

int doctor_store(int v1_fd, const struct doctor_report *r, struct error *err)
{
	AUTO_BUFFER out = {0};
	int e = doctor_encode(r, &out);

	if (e == 0)
		e = io_write_file_atomic_at(v1_fd, STORED_NAME, buffer_bytes(&out), 0600);
	return e < 0 ? error_set(err, e,
				 "doctor: the answer cannot be kept in the state directory: %s",
				 strerror(-e))
		     : 0;
}

int doctor_load(int v1_fd, struct doctor_report *ret, struct error *err)
{
	AUTO_BUFFER in = {0};
	char boot[DOCTOR_BOOT_SIZE];
	int e = io_read_file_at(v1_fd, STORED_NAME, STORED_MAX, &in);

	if (e == 0)
		e = read_boot(boot);
	if (e < 0)
		return error_set(err, e, "doctor: no stored answer: %s", strerror(-e));
	e = doctor_decode(buffer_bytes(&in), ret, err);
	if (e < 0)
		return e;
	if (strcmp(boot, ret->boot) != 0)
		return error_set(err, -ENOENT, "doctor: the stored answer is of another boot");
	return 0;
}
