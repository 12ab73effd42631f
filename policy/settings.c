/* What a run needs to know beside single decisions: the strictest of each setting over the layers
 * and the step. */
#include "policy/model.h"

enum {
	DECIDE_BY_S = 30 * 86400,
	EXECUTE_BY_S = 3600,
	FREEZE_S = 30,
	SUSPEND_S = 600,
};

static void lower_agency(struct policy_settings *s, int agency, struct policy_place at)
{
	if (agency && (s->agency == POLICY_AGENCY_UNSET || agency < (int)s->agency)) {
		s->agency = (enum policy_agency)agency;
		s->agency_at = at;
	}
}

/* The minimum of what people said, assist where nobody did; then what may only lower it. */
static void join_agency(const struct policy_effective *e, struct policy_settings *s)
{
	const struct policy_place nowhere = {.file = ""};

	for (size_t i = 0; i < e->count; i++)
		if (e->layers[i].layer - 1 != POLICY_LAYER_PROJECT_UNTRUSTED)
			lower_agency(s, e->layers[i].body->agency, e->layers[i].body->item.at);
	lower_agency(s, e->agency, nowhere);
	if (s->agency == POLICY_AGENCY_UNSET)
		s->agency = POLICY_ASSIST;
	lower_agency(s, e->lowered, nowhere);
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_body *b = e->layers[i].body;
		const struct policy_step *steps = b->steps.v;

		if (e->layers[i].layer - 1 == POLICY_LAYER_PROJECT_UNTRUSTED)
			lower_agency(s, b->agency, b->item.at);
		for (size_t j = 0; j < b->steps.n; j++)
			if (policy_step_applies(e, &steps[j]))
				lower_agency(s, steps[j].agency, steps[j].item.at);
	}
}

static void lower_limits(struct policy_limits *l, const struct policy_limits_rule *from)
{
	for (int i = 0; from && i < POLICY_LIMIT_COUNT; i++) {
		if (!from->v[i].set || (l->value[i] && l->value[i] <= from->v[i].v))
			continue;
		l->value[i] = from->v[i].v;
		l->at[i] = from->item.at;
	}
}

static bool lists(const struct policy_strs *s, const char *word)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->v[i], word) == 0)
			return true;
	return false;
}

/* The weaker form will do only where every layer that states the limit says so. */
static bool weaker(const struct policy_effective *e, enum policy_limit l)
{
	bool said = false;

	for (size_t i = 0; i < e->count; i++) {
		const struct policy_body *b = e->layers[i].body;

		if (!b->limits || !b->limits->v[l].set)
			continue;
		said = lists(&b->allow_weaker, policy_limit_name(l));
		if (!said)
			return false;
	}
	return said;
}

static bool weaker_landlock(const struct policy_effective *e)
{
	bool said = false;

	for (size_t i = 0; i < e->count; i++) {
		const struct policy_body *b = e->layers[i].body;
		bool listed = lists(&b->allow_weaker, "landlock");

		if (!listed && (policy_stratum_grants(&e->layers[i]) || b->allow_weaker.set))
			return false;
		said |= listed;
	}
	return said;
}

static void lower(uint64_t *value, bool *said, struct policy_num n)
{
	if (n.set && (!*said || n.v < *value)) {
		*value = n.v;
		*said = true;
	}
}

static void exclude(struct policy_settings *s, const struct policy_strs *who)
{
	for (size_t i = 0; i < who->n; i++) {
		if (strcmp(who->v[i], "starter") == 0)
			s->exclude_starter = true;
		else if (s->exclude_uid_count < POLICY_EXCLUDE_MAX)
			s->exclude_uids[s->exclude_uid_count++] =
				(uint32_t)strtoul(who->v[i], NULL, 10);
	}
}

static void join_approvals(const struct policy_effective *e, struct policy_settings *s)
{
	bool said[4] = {false};

	s->decide_by_ms = DECIDE_BY_S * 1000ULL;
	s->execute_by_ms = EXECUTE_BY_S * 1000ULL;
	s->freeze_ms = FREEZE_S * 1000ULL;
	s->suspend_ms = SUSPEND_S * 1000ULL;
	s->quorum = 1;
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_approvals *a = e->layers[i].body->approvals;

		if (!a)
			continue;
		lower(&s->decide_by_ms, &said[0], a->decide_by);
		lower(&s->execute_by_ms, &said[1], a->execute_by);
		lower(&s->freeze_ms, &said[2], a->freeze);
		lower(&s->suspend_ms, &said[3], a->suspend);
		if (a->quorum.set && a->quorum.v > s->quorum)
			s->quorum = (uint32_t)a->quorum.v;
		exclude(s, &a->exclude);
		if (a->role.set && s->role_count < POLICY_LAYERS_MAX)
			s->roles[s->role_count++] =
				(struct policy_role){.any = (const char *const *)a->role.v,
						     .count = a->role.n};
		if (!s->signers)
			s->signers = a->signers;
		else if (a->signers && strcmp(a->signers, s->signers) != 0)
			s->signers_differ = true;
	}
}

static void take_notify(struct policy_settings *s, const struct policy_notify *n)
{
	if (!n || s->notify_run)
		return;
	s->notify_run = n->run.v;
	s->notify_run_count = n->run.n;
	s->notify_opened = lists(&n->on, "opened");
	s->notify_expiring = lists(&n->on, "expiring");
	s->notify_decided = lists(&n->on, "decided");
}

void policy_settings(const struct policy_effective *e, struct policy_settings *ret)
{
	struct policy_settings s = {.agency_at.file = ""};

	for (int l = 0; l < POLICY_LIMIT_COUNT; l++)
		s.limits.at[l].file = "";
	join_agency(e, &s);
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_body *b = e->layers[i].body;
		const struct policy_step *steps = b->steps.v;

		lower_limits(&s.limits, b->limits);
		for (size_t j = 0; j < b->steps.n; j++)
			if (policy_step_applies(e, &steps[j]))
				lower_limits(&s.limits, steps[j].limits);
		if (b->unattended - 1 == POLICY_UNATTENDED_DENY)
			s.unattended = POLICY_UNATTENDED_DENY;
		if (b->base - 1 == POLICY_PINNED)
			s.base = POLICY_PINNED;
		take_notify(&s, b->notify);
	}
	for (int l = 0; l < POLICY_LIMIT_COUNT; l++)
		if (weaker(e, (enum policy_limit)l))
			s.limits.weaker |= 1u << l;
	s.limits.weaker_landlock = weaker_landlock(e);
	join_approvals(e, &s);
	*ret = s;
}

/* ---- environment ---- */

bool policy_env_keeps(const struct policy_strs *keep, struct bytes name)
{
	for (size_t i = 0; i < keep->n; i++) {
		struct bytes want = bytes_str(keep->v[i]);

		if (((const char *)want.data)[want.len - 1] == '*') {
			want.len--;
			if (name.len >= want.len && memcmp(name.data, want.data, want.len) == 0)
				return true;
		} else if (bytes_equal(want, name)) {
			return true;
		}
	}
	return false;
}

/* Of every layer, also one whose name another layer's hides. */
static bool is_secret(const struct policy_effective *e, struct bytes name)
{
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_secret *s = e->layers[i].body->secrets.v;

		for (size_t j = 0; j < e->layers[i].body->secrets.n; j++)
			if (s[j].from && s[j].from->env &&
			    bytes_equal(bytes_str(s[j].from->env), name))
				return true;
	}
	return false;
}

static bool passes(const struct policy_effective *e, struct bytes name)
{
	if (!policy_effective_any_grant(e) || is_secret(e, name))
		return false;
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_stratum *s = &e->layers[i];
		const struct policy_env_rule *env = s->body->env;

		/* A ceiling that does not say `keep` leaves it to the others. */
		if (!policy_stratum_grants(s) && (!env || !env->keep.set))
			continue;
		if (!env || !policy_env_keeps(&env->keep, name))
			return false;
	}
	return true;
}

static bool has_name(char *const *list, size_t n, const char *name, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strncmp(list[i], name, len) == 0 && list[i][len] == '=')
			return true;
	return false;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t count_set(const struct policy_effective *e)
{
	size_t n = 0;

	for (size_t i = 0; i < e->count; i++)
		n += e->layers[i].body->env ? e->layers[i].body->env->set.n : 0;
	return n;
}

int policy_env(const struct policy_effective *e, const char *const *environment, char ***ret)
{
	size_t n = 0;
	size_t max = count_set(e);
	char **list;

	for (const char *const *v = environment; v && *v; v++)
		max++;
	list = calloc(max + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	/* What the outermost layer sets stands. */
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_env_rule *env = e->layers[i].body->env;
		const struct policy_text_item *set = env ? env->set.v : NULL;

		for (size_t j = 0; env && j < env->set.n; j++) {
			AUTO_BUFFER b = {0};

			if (has_name(list, n, set[j].item.name, strlen(set[j].item.name)))
				continue;
			buffer_printf(&b, "%s=%s", set[j].item.name, set[j].text);
			list[n] = buffer_take(&b, NULL);
			if (!list[n++])
				goto nomem;
		}
	}
	for (const char *const *v = environment; v && *v; v++) {
		size_t len = strcspn(*v, "=");

		if ((*v)[len] != '=' || !passes(e, bytes_of(*v, len)) || has_name(list, n, *v, len))
			continue;
		list[n] = bytes_dup_str(bytes_str(*v));
		if (!list[n++])
			goto nomem;
	}
	qsort(list, n, sizeof(*list), by_text);
	*ret = list;
	return 0;
nomem:
	policy_env_free(list);
	return -ENOMEM;
}

void policy_env_free(char **env)
{
	for (char **v = env; v && *v; v++)
		free(*v);
	free(env);
}

const char *policy_contract(const struct policy_effective *e, size_t i, struct policy_place *ret_at)
{
	for (size_t l = 0; l < e->count; l++) {
		const struct policy_body *b = e->layers[l].body;

		if (!b->contract || i-- > 0)
			continue;
		if (ret_at)
			*ret_at = b->item.at;
		return b->contract;
	}
	return NULL;
}
