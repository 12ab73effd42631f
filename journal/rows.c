/* The rows in memory and their walks. Pure. */
#include "journal/rows.h"

#include <errno.h>
#include <stdlib.h>
#include "base/guard.h"

typedef int compare_fn(const void *a, const void *b);

static int order_u64(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int order_i64(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

static int run_by_id(const void *a, const void *b)
{
	const struct journal_run *x = a, *y = b;
	return memcmp(&x->id, &y->id, sizeof(x->id));
}

static int run_by_time(const void *a, const void *b)
{
	const struct journal_run *x = a, *y = b;
	int order = order_i64(x->created_ns, y->created_ns);
	return order ? order : run_by_id(a, b);
}

static int approval_by_id(const void *a, const void *b)
{
	const struct journal_approval *x = a, *y = b;
	return memcmp(&x->id, &y->id, sizeof(x->id));
}

static int approval_by_time(const void *a, const void *b)
{
	const struct journal_approval *x = a, *y = b;
	int order = order_i64(x->opened_ns, y->opened_ns);
	return order ? order : approval_by_id(a, b);
}

static int timer_by_id(const void *a, const void *b)
{
	const struct journal_timer *x = a, *y = b;
	return memcmp(&x->id, &y->id, sizeof(x->id));
}

static int timer_by_due(const void *a, const void *b)
{
	const struct journal_timer *x = a, *y = b;
	int order = order_i64(x->due_ns, y->due_ns);
	return order ? order : timer_by_id(a, b);
}

static int lease_by_inode(const void *a, const void *b)
{
	const struct journal_lease *x = a, *y = b;
	int order = order_u64(x->ws_dev, y->ws_dev);
	return order ? order : order_u64(x->ws_ino, y->ws_ino);
}

static int trust_by_path(const void *a, const void *b)
{
	const struct journal_trust *x = a, *y = b;
	return strcmp(x->path, y->path);
}

/* Where key is or would go; *found says which. */
static size_t list_find(const struct journal_rows_list *l, const void *key, compare_fn *cmp,
			bool *found)
{
	size_t low = 0, high = l->count;
	*found = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = cmp(l->item[mid], key);
		if (order == 0) {
			*found = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void *list_get(const struct journal_rows_list *l, const void *key, compare_fn *cmp)
{
	bool found;
	size_t at = list_find(l, key, cmp, &found);
	return found ? l->item[at] : NULL;
}

static int list_add(struct journal_rows_list *l, void *item, compare_fn *cmp)
{
	bool found;
	size_t at = list_find(l, item, cmp, &found);
	if (found)
		return -EEXIST;
	if (l->count == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 16;
		void **grown = reallocarray(l->item, cap, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		l->item = grown;
		l->cap = cap;
	}
	memmove(l->item + at + 1, l->item + at, (l->count - at) * sizeof(*l->item));
	l->item[at] = item;
	l->count++;
	return 0;
}

static void list_remove(struct journal_rows_list *l, const void *item, compare_fn *cmp)
{
	bool found;
	size_t at = list_find(l, item, cmp, &found);
	if (!found)
		return;
	l->count--;
	memmove(l->item + at, l->item + at + 1, (l->count - at) * sizeof(*l->item));
}

struct journal_state *journal_state_new(void)
{
	return calloc(1, sizeof(struct journal_state));
}

static void free_attempt(struct journal_attempt *a)
{
	free(a->why);
}

void journal_rows_free_step(struct journal_step *step)
{
	if (!step)
		return;
	for (uint32_t i = 0; i < step->attempt_count; i++)
		free_attempt(&step->attempts[i]);
	free(step->attempts);
	free(step->key);
	free(step->name);
	free(step->why);
	free(step);
}

void journal_rows_free_run(struct journal_run *run)
{
	if (!run)
		return;
	for (uint32_t i = 0; i < run->step_count; i++)
		journal_rows_free_step(run->steps[i]);
	for (uint32_t i = 0; i < run->effect_count; i++)
		journal_rows_free_effect(run->effects[i]);
	for (uint32_t i = 0; i < run->grant_count; i++) {
		free(run->grants[i].rule);
		free(run->grants[i].at);
		free(run->grants[i].by);
		free(run->grants[i].why);
	}
	free(run->grants);
	free(run->steps);
	free(run->effects);
	free(run->open);
	free(run->name);
	free(run->workspace);
	free((void *)run->request.data);
	free(run->fork_at);
	free(run->why);
	free(run->landing_failed);
	free(run);
}

void journal_rows_free_approval(struct journal_approval *a)
{
	if (!a)
		return;
	for (uint32_t i = 0; i < a->vote_count; i++) {
		free(a->votes[i].principal);
		free(a->votes[i].auth);
		free(a->votes[i].reason);
		free(a->votes[i].choice);
		free((void *)a->votes[i].path.data);
	}
	free(a->votes);
	free(a->choice);
	free(a->why);
	free(a);
}

void journal_rows_free_trust(struct journal_trust *t)
{
	if (!t)
		return;
	free(t->path);
	free(t);
}

void journal_state_free(struct journal_state *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->runs.count; i++)
		journal_rows_free_run(s->runs.item[i]);
	for (size_t i = 0; i < s->approvals.count; i++)
		journal_rows_free_approval(s->approvals.item[i]);
	for (size_t i = 0; i < s->timers.count; i++)
		free(s->timers.item[i]);
	for (size_t i = 0; i < s->leases.count; i++)
		free(s->leases.item[i]);
	for (size_t i = 0; i < s->trusts.count; i++)
		journal_rows_free_trust(s->trusts.item[i]);
	free(s->runs.item);
	free(s->runs_by_time.item);
	free(s->approvals.item);
	free(s->approvals_by_time.item);
	free(s->timers.item);
	free(s->timers_by_due.item);
	free(s->leases.item);
	free(s->trusts.item);
	journal_rows_effect_free_index(s);
	journal_rows_clear_changes(s);
	free(s->changes);
	free(s);
}

struct journal_run *journal_rows_run(const struct journal_state *s, const struct journal_id *id)
{
	struct journal_run key = {.id = *id};
	return list_get(&s->runs, &key, run_by_id);
}

struct journal_approval *journal_rows_approval(const struct journal_state *s,
					       const struct journal_id *id)
{
	struct journal_approval key = {.id = *id};
	return list_get(&s->approvals, &key, approval_by_id);
}

struct journal_timer *journal_rows_timer(const struct journal_state *s, const struct journal_id *id)
{
	struct journal_timer key = {.id = *id};
	return list_get(&s->timers, &key, timer_by_id);
}

struct journal_lease *journal_rows_lease(const struct journal_state *s, uint64_t dev, uint64_t ino)
{
	struct journal_lease key = {.ws_dev = dev, .ws_ino = ino};
	return list_get(&s->leases, &key, lease_by_inode);
}

struct journal_trust *journal_rows_trust(const struct journal_state *s, const char *path)
{
	struct journal_trust key = {.path = (char *)path};
	return list_get(&s->trusts, &key, trust_by_path);
}

const struct journal_run *journal_state_run(const struct journal_state *s,
					    const struct journal_id *id)
{
	return journal_rows_run(s, id);
}

const struct journal_approval *journal_state_approval(const struct journal_state *s,
						      const struct journal_id *id)
{
	return journal_rows_approval(s, id);
}

const struct journal_lease *journal_state_lease(const struct journal_state *s, uint64_t dev,
						uint64_t ino)
{
	return journal_rows_lease(s, dev, ino);
}

const struct journal_trust *journal_state_trust(const struct journal_state *s, const char *path)
{
	return journal_rows_trust(s, path);
}

const struct journal_run *journal_state_run_by_request(const struct journal_state *s,
						       struct bytes request)
{
	for (size_t i = 0; i < s->runs.count; i++) {
		const struct journal_run *run = s->runs.item[i];
		if (request.len && bytes_equal(run->request, request))
			return run;
	}
	return NULL;
}

uint64_t journal_state_epoch(const struct journal_state *s)
{
	return s->epoch;
}

#define WALK(list, type)                                               \
	for (size_t i = 0; i < (list).count; i++) {                    \
		int rc = fn((const struct type *)(list).item[i], arg); \
		if (rc)                                                \
			return rc;                                     \
	}                                                              \
	return 0

int journal_state_each_run(const struct journal_state *s,
			   int (*fn)(const struct journal_run *, void *), void *arg)
{
	WALK(s->runs_by_time, journal_run);
}

int journal_state_each_approval(const struct journal_state *s,
				int (*fn)(const struct journal_approval *, void *), void *arg)
{
	WALK(s->approvals_by_time, journal_approval);
}

int journal_state_each_timer(const struct journal_state *s,
			     int (*fn)(const struct journal_timer *, void *), void *arg)
{
	WALK(s->timers_by_due, journal_timer);
}

/* Adds to both orders, or to neither. */
static int add_twice(struct journal_rows_list *a, compare_fn *cmp_a, struct journal_rows_list *b,
		     compare_fn *cmp_b, void *item)
{
	int rc = list_add(a, item, cmp_a);
	if (rc < 0)
		return rc;
	rc = list_add(b, item, cmp_b);
	if (rc < 0)
		list_remove(a, item, cmp_a);
	return rc;
}

int journal_rows_add_run(struct journal_state *s, struct journal_run *run)
{
	int rc = add_twice(&s->runs, run_by_id, &s->runs_by_time, run_by_time, run);
	if (rc < 0)
		journal_rows_free_run(run);
	return rc;
}

int journal_rows_add_approval(struct journal_state *s, struct journal_approval *a)
{
	int rc = add_twice(&s->approvals, approval_by_id, &s->approvals_by_time, approval_by_time,
			   a);
	if (rc < 0)
		journal_rows_free_approval(a);
	return rc;
}

int journal_rows_add_timer(struct journal_state *s, struct journal_timer *t)
{
	int rc = t->state == JOURNAL_TIMER_S_ARMED
			 ? add_twice(&s->timers, timer_by_id, &s->timers_by_due, timer_by_due, t)
			 : list_add(&s->timers, t, timer_by_id);
	if (rc < 0)
		free(t);
	return rc;
}

int journal_rows_add_lease(struct journal_state *s, struct journal_lease *l)
{
	int rc = list_add(&s->leases, l, lease_by_inode);
	if (rc < 0)
		free(l);
	return rc;
}

int journal_rows_add_trust(struct journal_state *s, struct journal_trust *t)
{
	int rc = list_add(&s->trusts, t, trust_by_path);
	if (rc < 0)
		journal_rows_free_trust(t);
	return rc;
}

static bool is_power_of_two(uint32_t n)
{
	return (n & (n - 1)) == 0;
}

int journal_rows_add_step(struct journal_run *run, struct journal_step *step)
{
	uint32_t n = run->step_count;
	if (is_power_of_two(n)) {
		struct journal_step **grown =
			reallocarray(run->steps, n ? n * 2ul : 1, sizeof(*grown));
		if (!grown) {
			journal_rows_free_step(step);
			return -ENOMEM;
		}
		run->steps = grown;
	}
	run->steps[run->step_count++] = step;
	return 0;
}

int journal_rows_add_attempt(struct journal_step *step, const struct journal_attempt *a)
{
	uint32_t n = step->attempt_count;
	if (is_power_of_two(n)) {
		struct journal_attempt *grown =
			reallocarray(step->attempts, n ? n * 2ul : 1, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		step->attempts = grown;
	}
	step->attempts[step->attempt_count++] = *a;
	return 0;
}

void journal_rows_timer_ended(struct journal_state *s, struct journal_timer *t)
{
	list_remove(&s->timers_by_due, t, timer_by_due);
}

void journal_rows_remove_trust(struct journal_state *s, struct journal_trust *t)
{
	list_remove(&s->trusts, t, trust_by_path);
	journal_rows_free_trust(t);
}

void journal_rows_remove_run(struct journal_state *s, const struct journal_id *id)
{
	struct journal_run *run = journal_rows_run(s, id);
	for (size_t i = s->approvals.count; i-- > 0;) {
		struct journal_approval *a = s->approvals.item[i];
		if (!journal_id_equal(&a->run, id))
			continue;
		list_remove(&s->approvals_by_time, a, approval_by_time);
		list_remove(&s->approvals, a, approval_by_id);
		journal_rows_free_approval(a);
	}
	for (size_t i = s->timers.count; i-- > 0;) {
		struct journal_timer *t = s->timers.item[i];
		if (!journal_id_equal(&t->run, id))
			continue;
		list_remove(&s->timers_by_due, t, timer_by_due);
		list_remove(&s->timers, t, timer_by_id);
		free(t);
	}
	if (!run)
		return;
	journal_rows_effect_remove_all(s, run);
	list_remove(&s->runs_by_time, run, run_by_time);
	list_remove(&s->runs, run, run_by_id);
	journal_rows_free_run(run);
}

bool journal_run_at_rest(const struct journal_run *run)
{
	static const struct journal_id none;
	return journal_run_final(run->state) && run->open_count == 0 &&
	       !run->landing_wanted &&
	       journal_id_equal(&run->landing_approval, &none) &&
	       run->landing != JOURNAL_LANDING_S_LANDING &&
	       run->landing != JOURNAL_LANDING_S_UNDOING &&
	       run->landing != JOURNAL_LANDING_S_CONFLICT;
}

bool journal_run_settled(const struct journal_run *run)
{
	return journal_run_at_rest(run) && !run->landing_failed;
}

int journal_rows_mark(struct journal_state *s, struct journal_change c)
{
	if (!s->track_changes) {
		free(c.path);
		return 0;
	}
	if (s->change_count == s->change_cap) {
		size_t cap = s->change_cap ? s->change_cap * 2 : 64;
		struct journal_change *grown = reallocarray(s->changes, cap, sizeof(*grown));
		if (!grown) {
			free(c.path);
			return -ENOMEM;
		}
		s->changes = grown;
		s->change_cap = cap;
	}
	s->changes[s->change_count++] = c;
	return 0;
}

void journal_rows_clear_changes(struct journal_state *s)
{
	for (size_t i = 0; i < s->change_count; i++)
		free(s->changes[i].path);
	s->change_count = 0;
}
