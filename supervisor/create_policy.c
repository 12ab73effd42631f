/*
 * The layers of a run's policy: the organisation's, the user's, the project's, the run's own. Each
 * is read, checked and combined; a project's is input, not authority.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include "supervisor/create_private.h"

#define ORG_POLICIES "/etc/holdfast/policy.d"

/* Takes policy over. */
static int add_input(struct create_making *m, enum policy_layer layer, struct policy *policy,
		     struct error *err)
{
	if (m->input_count == CREATE_INPUTS_MAX) {
		policy_free(policy);
		return error_set_exit(err, -E2BIG, EXIT_STATUS_USAGE,
				      "too many policy files: more than %d layers; merge some",
				      CREATE_INPUTS_MAX);
	}
	m->policies[m->input_count] = policy;
	m->inputs[m->input_count++] = (struct policy_input){.layer = layer, .policy = policy};
	return policy_check(policy, err);
}

static int add_text(struct create_making *m, enum policy_layer layer, struct bytes yaml,
		    const char *name, struct error *err)
{
	struct policy *p = NULL;
	int r = policy_parse(yaml, name, NULL, &p);

	return r < 0 ? error_nomem(err) : add_input(m, layer, p, err);
}

static int add_fd(struct create_making *m, enum policy_layer layer, const char *fd_name,
		  const char *path_key, struct error *err)
{
	int fd = api_request_fd(m->q, fd_name);
	const char *path = create_text(m->q, path_key);
	AUTO_BUFFER yaml = {0};
	int r;

	if (fd < 0)
		return 0;
	r = create_read_fd(fd, path ? path : fd_name, &yaml, err);
	return r < 0 ? r : add_text(m, layer, buffer_bytes(&yaml), path ? path : fd_name, err);
}

static int is_yaml(const struct dirent *e)
{
	const char *dot = strrchr(e->d_name, '.');

	return dot && e->d_name[0] != '.' && strcmp(dot, ".yaml") == 0;
}

/* The organisation's ceiling counts only where none but root could have written it; a file that
 * fails this refuses the run. */
static int add_org(struct create_making *m, struct error *err)
{
	AUTO_FD dir = open(ORG_POLICIES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **names = NULL;
	int n, r = 0;

	if (dir < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	n = dir < 0 ? -1 : scandir(ORG_POLICIES, &names, is_yaml, alphasort);
	if (n < 0)
		return error_set_exit(err, -errno, EXIT_STATUS_USAGE,
				      "cannot read " ORG_POLICIES
				      ": %s; ask who administers this machine",
				      strerror(errno));
	for (int i = 0; i < n; i++) {
		char path[sizeof(ORG_POLICIES) + 1 + NAME_MAX];
		AUTO_FD fd = r < 0 ? -1
				   : openat(dir, names[i]->d_name,
					    O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
		AUTO_BUFFER yaml = {0};
		struct stat st;

		snprintf(path, sizeof(path), ORG_POLICIES "/%s", names[i]->d_name);
		free(names[i]);
		if (r < 0)
			continue;
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != 0 ||
		    (st.st_mode & (S_IWGRP | S_IWOTH))) {
			r = error_set_exit(
				err, -EPERM, EXIT_STATUS_USAGE,
				"cannot use %s: it must be readable, root's, and writable by root "
				"alone; ask who administers this machine",
				path);
			continue;
		}
		r = create_read_fd(fd, path, &yaml, err);
		if (r == 0)
			r = add_text(m, POLICY_LAYER_ORG, buffer_bytes(&yaml), path, err);
	}
	free(names);
	return r;
}

/* A project's file is input, not authority: pinned by digest, or only what it takes away counts. */
static int add_project(struct create_making *m, struct bytes yaml, const char *path,
		       struct error *err)
{
	const struct journal_trust *trust = journal_state_trust(m->d->rows, path);
	struct digest digest;
	bool trusted;

	policy_trust_digest(yaml, &digest);
	trusted = trust && digest_equal(&trust->digest, &digest);
	if (!trusted &&
	    create_note(m,
			"%s is not trusted: only what it takes away counts; read it, then "
			"type: holdfast trust %s",
			path, path) < 0)
		return error_nomem(err);
	return add_text(m, trusted ? POLICY_LAYER_PROJECT : POLICY_LAYER_PROJECT_UNTRUSTED, yaml,
			path, err);
}

static int add_run_policy(struct create_making *m, struct error *err)
{
	const char *builtin = create_text(m->q, "policy");
	struct policy *p = NULL;

	if (!builtin)
		return add_fd(m, POLICY_LAYER_RUN, "policy", "policy_path", err);
	if (policy_builtin(builtin, &p) < 0)
		return error_set_exit(err, -ENOENT, EXIT_STATUS_USAGE,
				      "no built-in policy '%s': there are base, offline and coding",
				      builtin);
	return add_input(m, POLICY_LAYER_RUN, p, err);
}

int create_policy_make(struct create_making *m, enum policy_agency agency, struct error *err)
{
	struct policy_combine c = {.inputs = m->inputs, .agency = agency, .fallback = "offline"};
	int project = api_request_fd(m->q, "project-policy");
	const char *path = create_text(m->q, "project_policy_path");
	const struct policy_findings *notes;
	AUTO_BUFFER yaml = {0};
	int r = add_org(m, err);

	if (r == 0)
		r = add_fd(m, POLICY_LAYER_USER, "user-policy", "user_policy_path", err);
	/* A plan that holds one has no other: a client cannot tell it from a file. */
	if (r == 0 && project >= 0 && !m->plan->policy_text) {
		r = create_read_fd(project, path ? path : "project policy", &yaml, err);
		if (r == 0)
			r = add_project(m, buffer_bytes(&yaml), path ? path : "project policy",
					err);
	}
	if (r == 0 && m->plan->policy_text) {
		path = create_text(m->q, "plan_path");
		r = add_project(m, bytes_of(m->plan->policy_text, m->plan->policy_text_len),
				path ? path : "plan", err);
	}
	if (r == 0)
		r = add_run_policy(m, err);
	c.count = m->input_count;
	if (m->plan->agency >= 0)
		c.plan_agency = (enum policy_agency)(m->plan->agency + POLICY_OBSERVE);
	if (r == 0)
		r = policy_combine(&c, &m->effective, err);
	if (r < 0)
		return r;
	notes = policy_effective_notes(m->effective);
	for (size_t i = 0; i < notes->count; i++) {
		AUTO_BUFFER line = {0};

		policy_finding_print(&notes->items[i], &line);
		if (line.len > 0 &&
		    create_note(m, "%.*s", (int)line.len - 1, (const char *)line.data) < 0)
			return error_nomem(err);
	}
	return 0;
}

/* What a policy demands of a step's result, and nobody looks at, is not passed over. */
static int check_demands(const struct policy_effective *e, struct error *err)
{
	struct policy_place at = {0};

	if (policy_contract(e, 0, &at)) {
		if (at.file && at.line > 0)
			error_where(err, "%s:%d:%d", at.file, at.line, at.column);
		return error_set_exit(err, -ENOTSUP, EXIT_STATUS_SANDBOX,
				      "the policy says 'contract', which this version does not "
				      "enforce; say it on the plan's steps, remove it here");
	}
	return 0;
}

int create_policy_check_steps(struct create_making *m, struct error *err)
{
	int demanded = check_demands(m->effective, err);

	if (demanded < 0)
		return demanded;
	for (size_t i = 0; i < m->plan->step_count; i++) {
		AUTO(policy_effective_free) struct policy_effective *e = NULL;
		int r = policy_effective_step(m->effective, m->plan->steps[i].name,
					      POLICY_AGENCY_UNSET, &e, err);

		if (r == 0)
			r = check_demands(e, err);
		if (r < 0)
			return r;
	}
	return 0;
}
