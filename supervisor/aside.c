#include "supervisor/aside.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct aside {
	struct daemon *d;
	/* Of the loop alone. */
	struct aside_job *waiting, **waiting_end;
	struct aside_job *current; /* given to the thread and not taken back */
	struct event *event;
	bool draining;
	/* Of both. */
	int fd; /* eventfd: the thread is through with current */
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	struct aside_job *given; /* NULL = the thread waits for one */
	bool stop;
};

static void *run(void *arg)
{
	struct aside *a = arg;

	pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		struct aside_job *job = a->given;
		uint64_t one = 1;

		if (!job) {
			pthread_cond_wait(&a->wake, &a->lock);
			continue;
		}
		pthread_mutex_unlock(&a->lock);
		job->work(job);
		pthread_mutex_lock(&a->lock);
		a->given = NULL;
		if (write(a->fd, &one, sizeof(one)) != sizeof(one))
			abort(); /* an eventfd that cannot count to one */
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static struct aside_job *take_next(struct aside *a)
{
	struct aside_job *job = a->waiting;

	if (!job || a->current || a->draining)
		return NULL;
	a->waiting = job->next;
	if (!a->waiting)
		a->waiting_end = &a->waiting;
	job->next = NULL;
	a->current = job;
	return job;
}

static void push(struct aside *a)
{
	struct aside_job *job = take_next(a);

	if (!job)
		return;
	pthread_mutex_lock(&a->lock);
	a->given = job;
	pthread_cond_signal(&a->wake);
	pthread_mutex_unlock(&a->lock);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct aside *a = arg;
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof(count)) != sizeof(count))
		return;
	a->current->done(a->d, a->current); /* still current: what it starts waits its turn */
	a->current = NULL;
	push(a);
	daemon_settle(a->d);
}

/* Signals belong to the loop's thread. */
static int start_thread(struct aside *a)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&a->thread, NULL, run, a);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

int aside_new(struct daemon *d, struct aside **ret, struct error *err)
{
	struct aside *a = calloc(1, sizeof(*a));
	int r = -ENOMEM;

	if (!a)
		return error_nomem(err);
	a->d = d;
	a->waiting_end = &a->waiting;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->wake, NULL);
	a->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->fd >= 0)
		a->event = event_new(d->loop, a->fd, EV_READ | EV_PERSIST, on_event, a);
	if (a->event && event_add(a->event, NULL) == 0)
		r = start_thread(a);
	a->started = r == 0;
	if (r < 0) {
		aside_free(a);
		return error_set(err, r, "cannot start the thread beside the loop: %s",
				 strerror(-r));
	}
	*ret = a;
	return 0;
}

static void drop_waiting(struct aside *a)
{
	while (a->waiting) {
		struct aside_job *job = a->waiting;

		a->waiting = job->next;
		job->drop(job);
	}
	a->waiting_end = &a->waiting;
}

static void stop(struct aside_job *job)
{
	if (job && job->stop)
		job->stop(job);
}

void aside_free(struct aside *a)
{
	if (!a)
		return;
	stop(a->current);
	if (a->started) {
		pthread_mutex_lock(&a->lock);
		a->stop = true;
		pthread_cond_signal(&a->wake);
		pthread_mutex_unlock(&a->lock);
		pthread_join(a->thread, NULL);
	}
	if (a->event)
		event_free(a->event);
	close_fd(&a->fd);
	if (a->current)
		a->current->drop(a->current);
	drop_waiting(a);
	pthread_cond_destroy(&a->wake);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

void aside_start(struct daemon *d, struct aside_job *job)
{
	struct aside *a = d->aside;

	job->next = NULL;
	*a->waiting_end = job;
	a->waiting_end = &job->next;
	push(a);
}

void aside_again(struct daemon *d, struct aside_job *job)
{
	struct aside *a = d->aside;

	job->next = a->waiting;
	if (!a->waiting)
		a->waiting_end = &job->next;
	a->waiting = job;
}

bool aside_busy(const struct daemon *d)
{
	return d->aside->current || d->aside->waiting;
}

void aside_look(struct daemon *d)
{
	struct aside *a = d->aside;

	if (a->current && a->current->look)
		a->current->look(d, a->current);
	for (struct aside_job *job = a->waiting; job; job = job->next)
		if (job->look)
			job->look(d, job);
}

bool aside_drain(struct daemon *d)
{
	d->aside->draining = true;
	stop(d->aside->current);
	drop_waiting(d->aside);
	return d->aside->current != NULL;
}
