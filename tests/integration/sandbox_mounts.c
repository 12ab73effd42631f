/*
 * A machine whose folders have other mounts in them, as every container's /etc has. Made in a mount
 * namespace of this test's own; as an ordinary user in a user namespace of its own too.
 */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <cmocka.h>
#include "base/io.h"
#include "tests/rig/rig.h"

static struct rig rig;
static char marked[64]; /* a folder with the file `mark` */

static void put(const char *path, const char *text)
{
	AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static int own_namespaces(void)
{
	char uid[64], gid[64];
	uid_t u = geteuid();

	snprintf(uid, sizeof(uid), "%u %u 1", u, u);
	snprintf(gid, sizeof(gid), "%u %u 1", getegid(), getegid());
	if (unshare(u == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) < 0)
		return -1;
	if (u != 0) {
		put("/proc/self/setgroups", "deny");
		put("/proc/self/uid_map", uid);
		put("/proc/self/gid_map", gid);
	}
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int make_machine(void **state)
{
	char file[80];

	(void)state;
	assert_int_equal(own_namespaces(), 0);
	snprintf(marked, sizeof(marked), "/var/tmp/hf-mounts.XXXXXX");
	assert_true(mkdtemp(marked) && chmod(marked, 0755) == 0);
	snprintf(file, sizeof(file), "%s/mark", marked);
	put(file, "marked\n");
	if (access("/etc/hosts", F_OK) == 0) /* a bare system has none */
		assert_int_equal(mount(file, "/etc/hosts", NULL, MS_BIND, NULL), 0);
	assert_int_equal(mount(file, "/etc/profile", NULL, MS_BIND, NULL), 0);
	assert_int_equal(mount(marked, "/etc/default", NULL, MS_BIND, NULL), 0);
	assert_int_equal(mount(marked, "/usr/share/doc", NULL, MS_BIND, NULL), 0);
	return 0;
}

static int remove_machine(void **state)
{
	char file[80];

	(void)state;
	snprintf(file, sizeof(file), "%s/mark", marked);
	umount2("/etc/hosts", MNT_DETACH);
	umount2("/etc/profile", MNT_DETACH);
	umount2("/etc/default", MNT_DETACH);
	umount2("/usr/share/doc", MNT_DETACH);
	return unlink(file) < 0 || rmdir(marked) < 0;
}

static void run(const char *script, struct rig_result *ret)
{
	struct rig_spec s;

	rig_spec(&rig, &s, "/bin/sh", "-c", script, NULL);
	rig_run(&rig, &s, ret);
}

static int set_up(void **state)
{
	(void)state;
	rig_open(&rig, geteuid(), getegid());
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rig_close(&rig);
	return 0;
}

static void etc_with_mounts_in_it_is_seen_with_them_and_ours_over_it(void **state)
{
	static const char *const scripts[] = {
		"test \"$(cat /etc/profile)\" = marked",
		"test \"$(cat /etc/default/mark)\" = marked",
		"grep -q localhost /etc/hosts && ! grep -q marked /etc/hosts",
		"test \"$(grep -c . /etc/passwd)\" -le 2",
		"test -d /etc/ssl || test -d /etc/apt || test -d /etc/alternatives",
		"test \"$(readlink /etc/os-release)\" = \"$OS_RELEASE\"",
		"! (echo x >> /etc/profile) && ! (echo x >> /etc/hosts) && ! touch /etc/new",
		"! mkdir /etc/default/new && ! rm /etc/profile && ! mv /etc/default /etc/d",
	};
	char script[512], link[128];
	ssize_t n = readlink("/etc/os-release", link, sizeof(link) - 1);

	(void)state;
	link[n > 0 ? n : 0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
		struct rig_result x;

		snprintf(script, sizeof(script), "OS_RELEASE='%s'; %s", link, scripts[i]);
		run(script, &x);
		if (!x.started)
			fail_msg("%s", x.why_not.text);
		if (x.exit.status != 0)
			fail_msg("%s: %d: %s", scripts[i], x.exit.status, x.err);
	}
}

static void a_system_tree_is_seen_with_the_mounts_in_it(void **state)
{
	struct rig_result x;

	(void)state;
	run("cat /usr/share/doc/mark; touch /usr/share/doc/new || echo refused", &x);
	assert_true(x.started);
	assert_string_equal(x.out, "marked\nrefused\n");
}

/* The kernel lets no user namespace overlay a tree with mounts that it may not look under; root's
 * overlay shows what lies under them. */
static void a_workspace_with_a_mount_in_it_is_refused_by_name_or_shown_without(void **state)
{
	struct rig_result x;
	char sub[128];

	(void)state;
	snprintf(sub, sizeof(sub), "%s/sub", rig.work);
	assert_int_equal(mkdir(sub, 0755), 0);
	assert_int_equal(mount(marked, sub, NULL, MS_BIND, NULL), 0);
	run("ls -A sub", &x);
	umount2(sub, MNT_DETACH);
	if (geteuid() == 0) {
		assert_true(x.started);
		assert_string_equal(x.out, "");
		return;
	}
	assert_false(x.started);
	assert_non_null(strstr(x.why_not.text, "another mount in it"));
	assert_non_null(strstr(x.why_not.text, "/sub'"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(etc_with_mounts_in_it_is_seen_with_them_and_ours_over_it),
		CASE(a_system_tree_is_seen_with_the_mounts_in_it),
		CASE(a_workspace_with_a_mount_in_it_is_refused_by_name_or_shown_without),
	};

	return cmocka_run_group_tests(tests, make_machine, remove_machine);
}
