/*
 * The keeper's loop: epoll, and timers in one list behind one timerfd. One event is taken at a time,
 * so a handler may free any object, itself included.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include "sandbox/keeper.h"

int loop_open(struct loop *l)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};

	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->epoll < 0 || l->timerfd < 0 ||
	    epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->timerfd, &e) < 0)
		return -errno;
	return 0;
}

int loop_watch(struct loop *l, struct loop_source *s, int fd, uint32_t events,
	       void (*fn)(struct loop_source *, uint32_t))
{
	struct epoll_event e = {.events = events, .data.ptr = s};

	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		return -errno;
	s->fd = fd;
	s->fn = fn;
	return 0;
}

void loop_change(struct loop *l, struct loop_source *s, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = s};

	(void)epoll_ctl(l->epoll, EPOLL_CTL_MOD, s->fd, &e);
}

void loop_unwatch(struct loop *l, struct loop_source *s)
{
	if (s->fd >= 0)
		(void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, s->fd, NULL);
	s->fd = -1;
}

uint64_t loop_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void rearm(struct loop *l)
{
	struct itimerspec spec = {0};
	uint64_t due = 0;

	for (struct loop_timer *t = l->timers; t; t = t->next)
		if (due == 0 || t->due_ns < due)
			due = t->due_ns;
	if (due == l->armed_ns)
		return;
	l->armed_ns = due;
	spec.it_value.tv_sec = (time_t)(due / 1000000000);
	spec.it_value.tv_nsec = (long)(due % 1000000000);
	(void)timerfd_settime(l->timerfd, TFD_TIMER_ABSTIME, &spec, NULL);
}

void loop_timer_off(struct loop *l, struct loop_timer *t)
{
	if (t->due_ns == 0)
		return;
	for (struct loop_timer **p = &l->timers; *p; p = &(*p)->next) {
		if (*p == t) {
			*p = t->next;
			break;
		}
	}
	t->due_ns = 0;
	rearm(l);
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t due_ns,
		    void (*fn)(struct loop_timer *))
{
	loop_timer_off(l, t);
	t->due_ns = due_ns;
	t->fn = fn;
	t->next = l->timers;
	l->timers = t;
	rearm(l);
}

static void run_due(struct loop *l)
{
	uint64_t now = loop_now_ns(), expired;

	while (read(l->timerfd, &expired, sizeof(expired)) > 0)
		;
	l->armed_ns = 0;
	for (;;) {
		struct loop_timer *t = l->timers;
		while (t && t->due_ns > now)
			t = t->next;
		if (!t)
			break;
		loop_timer_off(l, t);
		t->fn(t);
	}
	rearm(l);
}

int loop_run(struct loop *l)
{
	while (!l->stop) {
		struct epoll_event e;
		int n = epoll_wait(l->epoll, &e, 1, -1);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n <= 0)
			continue;
		if (e.data.ptr == l) {
			run_due(l);
		} else {
			struct loop_source *s = e.data.ptr;
			s->fn(s, e.events);
		}
	}
	return 0;
}
