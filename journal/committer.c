/* One batch from many transitions, acknowledged after fsync. */
#include "journal/committer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include "base/failpoint.h"
#include "base/guard.h"

enum { GATHER_SLICE_NS = 50000, GATHER_SLICES = 16 };

struct journal_committer {
	struct journal_committer_options o;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake, done;
	struct buffer queue; /* operations of all batches since the last write */
	uint64_t queued_lsn; /* last one in the queue or before */
	unsigned queued_batches, last_batches; /* in the queue; in the last write */
	bool sync_wanted, waked, gathering, busy, stop;
	uint64_t written_lsn, durable_lsn;
	uint64_t queued_count, written_count; /* pieces that were queued, and of them written */
	int event_fd;
};

/* One write and, if asked for, one sync. Failing is the end of the process: after a failed fsync
 * nobody knows what is on disk, and a second one may lie ("Can applications recover from fsync
 * failures?", ATC 2020). */
static void commit(struct journal_committer *c, const struct buffer *ops,
		   const struct journal_wal_mark *mark, bool sync)
{
	uint8_t bytes[JOURNAL_WAL_MARK_SIZE];
	struct error err = {0};
	journal_wal_mark_write(c->o.secret, mark, bytes);
	c->o.before_write(c->o.arg);
	int rc = failpoint_hit("journal.before_write");
	if (rc < 0)
		error_set(&err, rc, "journal: writing: failpoint");
	if (rc == 0 && ops->failed)
		rc = error_nomem(&err);
	if (rc == 0 && ops->len)
		rc = c->o.kv->ops->write(c->o.kv, buffer_bytes(ops), bytes_of(bytes, sizeof(bytes)),
					 &err);
	if (rc == 0 && sync) {
		rc = failpoint_hit("journal.after_write_before_sync");
		if (rc < 0)
			error_set(&err, rc, "journal: syncing: failpoint");
		else
			rc = c->o.kv->ops->sync(c->o.kv, &err);
		if (rc == 0)
			(void)failpoint_hit("journal.after_sync");
	}
	if (rc < 0)
		c->o.fatal(&err, c->o.arg);
}

static bool has_work(const struct journal_committer *c)
{
	return c->waked && (c->queue.len || (c->sync_wanted && c->durable_lsn < c->queued_lsn));
}

static void acknowledge(struct journal_committer *c)
{
	uint64_t one = 1;
	/* The counter cannot overflow, so this cannot block; EINTR is retried by the next one. */
	if (write(c->event_fd, &one, sizeof(one)) < 0 && errno != EAGAIN && errno != EINTR)
		abort();
}

/*
 * Many producers that were acknowledged together come back one by one. Taking the first alone would
 * cost a sync for it and make the others wait for that, so as long as the queue grows toward the
 * size of the last write, it is let grow. One producer never waits: its last write was one batch.
 */
static void gather(struct journal_committer *c)
{
	unsigned before = 0;
	for (int i = 0; i < GATHER_SLICES && !c->stop && c->queued_batches < c->last_batches &&
			c->queued_batches != before;
	     i++) {
		struct timespec until;
		before = c->queued_batches;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += GATHER_SLICE_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		c->gathering = true;
		while (!c->stop && c->queued_batches < c->last_batches &&
		       pthread_cond_timedwait(&c->wake, &c->lock, &until) == 0)
			;
		c->gathering = false;
	}
}

static void *run(void *arg)
{
	struct journal_committer *c = arg;
	struct buffer work = {.max = SIZE_MAX};
	pthread_mutex_lock(&c->lock);
	for (;;) {
		while (!has_work(c) && !c->stop)
			pthread_cond_wait(&c->wake, &c->lock);
		if (!has_work(c) && c->queue.len == 0)
			break;
		gather(c);
		struct buffer taken = c->queue;
		work.len = 0;
		c->queue = work;
		work = taken;
		uint64_t taken_through = c->queued_count;
		bool sync = c->sync_wanted || c->stop;
		struct journal_wal_mark mark = {c->written_lsn + 1, c->queued_lsn, c->durable_lsn};
		c->sync_wanted = c->waked = false;
		c->last_batches = c->queued_batches;
		c->queued_batches = 0;
		c->busy = true;
		pthread_mutex_unlock(&c->lock);
		if (mark.last >= mark.first)
			journal_kv_put_lsn(&work, mark.last);
		commit(c, &work, &mark, sync);
		pthread_mutex_lock(&c->lock);
		c->busy = false;
		c->written_lsn = mark.last;
		c->written_count = taken_through;
		if (sync)
			c->durable_lsn = mark.last;
		if (sync)
			acknowledge(c);
		pthread_cond_broadcast(&c->done);
	}
	pthread_mutex_unlock(&c->lock);
	buffer_free(&work);
	return NULL;
}

/* Signals belong to the loop's thread. */
static int start_thread(struct journal_committer *c)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = -pthread_create(&c->thread, NULL, run, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

int journal_committer_start(const struct journal_committer_options *o,
			    struct journal_committer **ret, struct error *err)
{
	struct journal_committer *c = calloc(1, sizeof(*c));
	if (!c)
		return error_nomem(err);
	c->o = *o;
	c->queue.max = SIZE_MAX;
	c->queued_lsn = c->written_lsn = c->durable_lsn = o->durable_lsn;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&c->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_cond_init(&c->done, NULL);
	c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc = c->event_fd < 0 ? -errno : start_thread(c);
	c->started = rc == 0;
	if (rc < 0) {
		journal_committer_stop(c);
		return error_set(err, rc, "journal: starting the committer: %s", strerror(-rc));
	}
	*ret = c;
	return 0;
}

void journal_committer_stop(struct journal_committer *c)
{
	if (!c)
		return;
	if (c->started) {
		pthread_mutex_lock(&c->lock);
		c->stop = c->waked = c->sync_wanted = true;
		pthread_cond_signal(&c->wake);
		pthread_mutex_unlock(&c->lock);
		pthread_join(c->thread, NULL);
	}
	pthread_cond_destroy(&c->wake);
	pthread_cond_destroy(&c->done);
	pthread_mutex_destroy(&c->lock);
	close_fd(&c->event_fd);
	buffer_free(&c->queue);
	free(c);
}

void journal_committer_queue(struct journal_committer *c, struct bytes ops, uint64_t last_lsn,
			     bool sync, bool wake)
{
	pthread_mutex_lock(&c->lock);
	if (ops.len && buffer_append(&c->queue, ops.data, ops.len) < 0) {
		struct error err = {0};
		error_nomem(&err);
		c->o.fatal(&err, c->o.arg);
	}
	c->queued_count += ops.len > 0;
	if (last_lsn)
		c->queued_lsn = last_lsn;
	c->sync_wanted |= sync;
	c->waked |= wake;
	c->queued_batches += wake;
	if (wake && (!c->gathering || c->queued_batches >= c->last_batches))
		pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
}

void journal_committer_wait_written(struct journal_committer *c)
{
	pthread_mutex_lock(&c->lock);
	/* What is queued later is not waited for: another thread may not come to an end. */
	uint64_t through = c->queue.len || c->busy ? c->queued_count : 0;
	while (c->written_count < through) {
		c->waked = true;
		pthread_cond_signal(&c->wake);
		pthread_cond_wait(&c->done, &c->lock);
	}
	pthread_mutex_unlock(&c->lock);
}

void journal_committer_wait_durable(struct journal_committer *c, uint64_t lsn)
{
	pthread_mutex_lock(&c->lock);
	while (c->durable_lsn < lsn) {
		c->waked = c->sync_wanted = true;
		pthread_cond_signal(&c->wake);
		pthread_cond_wait(&c->done, &c->lock);
	}
	pthread_mutex_unlock(&c->lock);
}

uint64_t journal_committer_durable(struct journal_committer *c, bool clear_event)
{
	uint64_t count;
	/* Cleared before it is read: what comes in between wakes the loop once more. */
	if (clear_event && read(c->event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN &&
	    errno != EINTR)
		abort();
	pthread_mutex_lock(&c->lock);
	uint64_t lsn = c->durable_lsn;
	pthread_mutex_unlock(&c->lock);
	return lsn;
}

int journal_committer_event_fd(const struct journal_committer *c)
{
	return c->event_fd;
}
