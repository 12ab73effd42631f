#pragma once
/*
 * What this machine can enforce, found by doing: each test makes the thing itself in a child of its
 * own, with a time-out, so that one that hangs or dies says so and spoils no other. Nothing is read
 * off a version number.
 *
 * The answer is kept in the state directory (`v1/doctor`, base/holdfast.cddl) for as long as the
 * machine stays up, for those who must choose between forms without trying.
 */
#include <sys/types.h>
#include "base/buffer.h"
#include "base/error.h"
#include "sandbox/limits.h"

enum {
	DOCTOR_FINDINGS_MAX = 32,
	DOCTOR_DETAIL_MAX = 200,
	DOCTOR_REMEDY_MAX = 360,
	DOCTOR_TEST_MS =
		30000, /* one test: a busy machine can take seconds to make a network namespace */
	DOCTOR_BOOT_SIZE = 37,
};

/* Numbers are part of the cached form. */
enum doctor_grade {
	DOCTOR_OK = 0,
	DOCTOR_WEAKER = 1, /* Holdfast works; something is enforced later, or less deeply */
	DOCTOR_MISSING = 2, /* no step can run, or nothing can land */
	DOCTOR_SKIPPED = 3, /* means nothing here, or stands on a test that failed */
};

struct doctor_finding {
	char name[24]; /* stable: a program may ask for it */
	enum doctor_grade grade;
	char detail[DOCTOR_DETAIL_MAX]; /* what was found */
	char remedy[DOCTOR_REMEDY_MAX]; /* what to do, exactly; empty where there is nothing to mend
					 */
};

/* The same in a form to decide by. */
struct doctor_machine {
	bool user_namespace; /* with working capabilities inside */
	bool namespaces; /* mount, pid, net, ipc, uts, cgroup in it */
	bool proc; /* a fresh /proc can be mounted in it */
	bool overlay; /* in it, on the state directory's file system, whiteouts and opaque folders
			 included */
	bool overlay_volatile; /* the option */
	bool idmap; /* root: idmapped mounts of that file system */
	int landlock_abi; /* 0 = none */
	bool seccomp;
	bool seccomp_notify;
	bool memfd_exec; /* a sealed memfd can be executed */
	bool rename_exchange; /* RENAME_EXCHANGE and RENAME_NOREPLACE on that file system */
	struct limits_forms limits;
};

struct doctor_report {
	char boot[DOCTOR_BOOT_SIZE]; /* /proc/sys/kernel/random/boot_id */
	struct doctor_machine machine;
	struct doctor_finding findings[DOCTOR_FINDINGS_MAX];
	size_t count;
};

struct doctor_options {
	int v1_fd; /* state directory's v1: a folder for the tests is made in it and removed */
	int runtime_fd; /* where the sockets are */
	const char *apparmor; /* path of the profile that is shipped, for the remedy */
};

/* Runs every test. Forks: not for a process with threads. */
MUST_CHECK int doctor_run(const struct doctor_options *o, struct doctor_report *ret,
			  struct error *err);
/* The worst grade of all; SKIPPED counts as OK. */
enum doctor_grade doctor_verdict(const struct doctor_report *r);
const struct doctor_finding *doctor_find(const struct doctor_report *r,
					 const char *name); /* or NULL */
const char *doctor_grade_name(enum doctor_grade g);

MUST_CHECK int doctor_store(int v1_fd, const struct doctor_report *r, struct error *err);
/* -ENOENT: never stored, or by another boot. */
MUST_CHECK int doctor_load(int v1_fd, struct doctor_report *ret, struct error *err);
MUST_CHECK int doctor_encode(const struct doctor_report *r, struct buffer *out);
MUST_CHECK int doctor_decode(struct bytes b, struct doctor_report *ret, struct error *err);
