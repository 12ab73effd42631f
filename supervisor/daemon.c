/*
 * Start, loop and end of holdfastd: the epoch, the keeper, the settling of every batch, timers,
 * sweeps and the idle end. Called by tools/holdfastd.c; everything here is on the loop's thread,
 * which the journal's committer and aside.c wake. What the engine calls is daemon_ops.c, the lock and
 * the folders are daemon_folders.c's.
 */
#include "supervisor/daemon.h"
#include "supervisor/daemon_private.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/escape.h"
#include "base/io.h"
#include "base/utf8.h"
#include "supervisor/adopt.h"
#include "supervisor/api/routes.h"
#include "supervisor/aside.h"
#include "supervisor/attempts.h"
#include "supervisor/audits.h"
#include "supervisor/card_heads.h"
#include "supervisor/effect_undo.h"
#include "supervisor/effects.h"
#include "supervisor/garbage.h"
#include "supervisor/net.h"
#include "supervisor/notify.h"
#include "supervisor/pins.h"
#include "supervisor/program.h"
#include "supervisor/runs.h"
#include "supervisor/squash.h"
#include "supervisor/work.h"

#define COLLECTED_NAME "collected" /* in v1: its mtime is when runs were last looked through */

/* ---- clocks and words ---- */

static int64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

static int64_t boot_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

struct engine_now daemon_now(void)
{
	return (struct engine_now){.wall_ns = wall_ns(), .mono_ns = boot_ns()};
}

void daemon_log(const struct daemon *d, const char *fmt, ...)
{
	char text[512];
	AUTO_FREE char *shown = NULL;
	va_list args;

	(void)d;
	va_start(args, fmt);
	utf8_vprintf(text, sizeof(text), fmt, args);
	va_end(args);
	shown = escape_dup(bytes_str(text), ESCAPE_LINE);
	fprintf(stderr, "holdfastd: %s\n", shown ? shown : "out of memory");
}

void daemon_check(const struct daemon *d, int result, const char *what)
{
	if (result == -ESTALE)
		daemon_log(d, "%s: refused, it is about an attempt or object that is not current",
			   what);
	else if (result < 0)
		daemon_log(d, "%s: %s", what, strerror(-result));
}

/* ---- commands of the engine ---- */

static void perform(struct daemon *d, const struct engine_command *c)
{
	switch (c->kind) {
	case ENGINE_START_ATTEMPT:
	case ENGINE_KILL_ATTEMPT:
	case ENGINE_SEAL:
	case ENGINE_REMOVE_LAYER:
	case ENGINE_FORGET_ATTEMPT:
	case ENGINE_FREEZE:
	case ENGINE_THAW:
	case ENGINE_SUSPEND:
		adopt_perform(d, c);
		break;
	case ENGINE_EFFECT_ANSWER:
	case ENGINE_EFFECT_RELEASE:
	case ENGINE_EFFECT_PROBE:
		effects_perform(d, c);
		break;
	case ENGINE_CARD:
	case ENGINE_PLAN_LANDING:
	case ENGINE_APPLY_LANDING:
		work_perform(d, c);
		break;
	}
}

/* The first command that may be performed now, taken out of the queue. */
static struct daemon_command *next_command(struct daemon *d)
{
	for (struct daemon_command **at = &d->commands; *at; at = &(*at)->next) {
		struct daemon_command *c = *at;

		if (c->after > d->durable)
			continue;
		*at = c->next;
		if (d->commands_end == &c->next)
			d->commands_end = at;
		return c;
	}
	return NULL;
}

/* ---- the turn of every input ---- */

static void arm_ms(struct event *e, int64_t ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	event_add(e, &tv);
}

static void set_tick(struct daemon *d)
{
	int64_t due = engine_tick(d->engine, daemon_now()), told = notify_due_ns(d);
	int64_t most = d->space_low ? DAEMON_SPACE_TICK_MS : DAEMON_TICK_MAX_MS;
	if (told && (!due || told < due))
		due = told;
	int64_t left = due == 0 ? most : (due - wall_ns()) / 1000000 + 1;

	if (left < 0)
		left = 0;
	arm_ms(d->tick, left > most ? most : left);
}

static void end_batch(struct daemon *d)
{
	journal_flush(d->journal, d->need_sync);
	d->need_sync = false;
}

void daemon_look_at_space(struct daemon *d)
{
	bool low = journal_space_low(d->journal);

	if (low == d->space_low)
		return;
	d->space_low = low;
	if (low)
		daemon_log(d,
			   "the disk of %s is nearly full: no step starts until there is room; "
			   "free some space",
			   d->paths.state);
	else
		daemon_log(d, "the disk of %s has room again", d->paths.state);
	engine_hold(d->engine, daemon_now(), low);
}

void daemon_settle(struct daemon *d)
{
	struct daemon_command *c;

	if (d->settling || !d->recovered)
		return;
	d->settling = true;
	daemon_look_at_space(d);
	set_tick(d);
	end_batch(d);
	while ((c = next_command(d))) {
		perform(d, &c->c);
		daemon_command_free(c);
		end_batch(d);
	}
	set_tick(d);
	end_batch(d);
	d->settling = false;
	if (journal_last_lsn(d->journal) > d->durable && d->api && api_server_streams(d->api) > 0 &&
	    !event_pending(d->follow_sync, EV_TIMEOUT, NULL))
		arm_ms(d->follow_sync, DAEMON_FOLLOW_SYNC_MS);
}

static void on_journal(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;

	(void)fd;
	(void)what;
	d->durable = journal_durable_lsn(d->journal);
	daemon_settle(d);
	if (d->api) {
		api_server_durable(d->api, d->durable);
		api_server_kick(d->api);
	}
}

static void on_follow_sync(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;

	(void)fd;
	(void)what;
	journal_flush(d->journal, true);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;

	(void)fd;
	(void)what;
	daemon_look_at_space(d);
	engine_hold(d->engine, daemon_now(), d->space_low);
	notify_tick(d);
	daemon_settle(d);
}

/* ---- retention ---- */

/* Looking through a long journal takes a while, and embedded supervisors come and go: when it was
 * done last is kept on disk. */
static bool collect_is_due(const struct daemon *d)
{
	int64_t every_ns = DAEMON_COLLECT_MS * 1000000ll;
	int64_t keep_ns = (int64_t)d->settings->retention_ms * 1000000;
	int64_t last_ns;
	struct stat st;

	if (fstatat(d->v1_fd, COLLECTED_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return true;
	last_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	/* A time in the future is a clock that was set back. */
	return last_ns > wall_ns() ||
	       wall_ns() - last_ns >= (keep_ns < every_ns ? keep_ns : every_ns);
}

void daemon_retained(struct daemon *d, bool done)
{
	AUTO_FD mark = -1;

	if (done)
		mark = openat(d->v1_fd, COLLECTED_NAME, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
			      0600);
	if (mark >= 0 && futimens(mark, NULL) == 0)
		return;
	if (done)
		daemon_log(d, "cannot write %s/v1/" COLLECTED_NAME ": %s", d->paths.state,
			   strerror(errno));
	d->retain_at_ms = boot_ns() / 1000000 + DAEMON_RETAIN_AGAIN_MS;
}

static void retain(struct daemon *d)
{
	struct audits_request q = {.kind = AUDITS_GC};
	struct error err = {0};

	if (d->settings->retention_ms == 0 || boot_ns() / 1000000 < d->retain_at_ms ||
	    !collect_is_due(d))
		return;
	q.before_ns = wall_ns() - (int64_t)d->settings->retention_ms * 1000000;
	if (audits_start(d, &q, &err) < 0) {
		daemon_log(d, "retention: %s", err.msg);
		daemon_retained(d, false);
	}
}

/* ---- rows that are held ---- */

bool daemon_holds(const struct journal_id *run, void *arg)
{
	const struct daemon *d = arg;

	for (const struct daemon_command *c = d->commands; c; c = c->next)
		if (journal_id_equal(&c->c.run, run))
			return true;
	return engine_holds(d->engine, run) || effect_undo_holds(d->undos, run);
}

/* Between turns. What clients looked up goes when they have gone: followers would lose the names of
 * steps. */
static void drop_final(struct daemon *d)
{
	engine_forget_settled(d->engine);
	journal_drop_final(d->journal, daemon_holds, d);
}

/* ---- going away ---- */

static bool idle(const struct daemon *d)
{
	return d->options.embedded && api_server_connections(d->api) == 0 &&
	       !engine_busy(d->engine) && !adopt_busy(d) && !notify_busy(d) && !aside_busy(d) &&
	       !d->commands;
}

int64_t daemon_idle_in_ms(const struct daemon *d)
{
	int64_t left;

	if (!d->options.embedded)
		return -1;
	left = (int64_t)d->settings->idle_ms;
	if (d->idle_since_ms)
		left -= boot_ns() / 1000000 - d->idle_since_ms;
	return left < 0 ? 0 : left;
}

void daemon_stop(struct daemon *d)
{
	if (d->stopping)
		return;
	d->stopping = true;
	arm_ms(d->idle, 0);
}

void daemon_fail(struct daemon *d)
{
	d->failed = true;
	daemon_stop(d);
}

static void on_idle(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	int64_t now_ms = boot_ns() / 1000000;

	(void)fd;
	(void)what;
	if (d->stopping) {
		/* Both: a landing that is half through is recorded where that is soon. */
		bool answered;

		audits_stop(d);
		answered = api_server_drain(d->api);

		if (!aside_drain(d) && answered)
			event_base_loopbreak(d->loop);
		else
			arm_ms(d->idle, 20);
		return;
	}
	audits_look(d);
	aside_look(d);
	if (!aside_busy(d))
		runs_collect(d);
	squash_collect(d);
	net_collect(d);
	pins_collect(d);
	if (api_server_connections(d->api) == 0 && !d->commands && !adopt_busy(d) && !aside_busy(d))
		drop_final(d);
	if (api_server_connections(d->api) == 0 && !d->commands && !adopt_busy(d) &&
	    !aside_busy(d) && !engine_busy(d->engine))
		retain(d);
	if (!idle(d))
		d->idle_since_ms = 0;
	else if (!d->idle_since_ms)
		d->idle_since_ms = now_ms;
	else if (now_ms - d->idle_since_ms >= (int64_t)d->settings->idle_ms)
		daemon_stop(d);
	if (!d->stopping)
		arm_ms(d->idle, DAEMON_IDLE_TICK_MS);
}

static void on_signal(evutil_socket_t sig, short what, void *arg)
{
	(void)what;
	/* Caught and not ignored: what is ignored stays so over exec, and would reach the steps. */
	if (sig != SIGPIPE)
		daemon_stop(arg);
}

/* ---- opening ---- */

static int read_boot_id(uint8_t ret[16])
{
	char text[64] = "";
	AUTO_FD fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	int n = 0;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 36)
		return -errno;
	for (const char *p = text; *p && n < 32; p++) {
		int v = *p >= '0' && *p <= '9'	 ? *p - '0'
			: *p >= 'a' && *p <= 'f' ? *p - 'a' + 10
						 : -1;

		if (v < 0)
			continue;
		ret[n / 2] = (uint8_t)(n % 2 ? ret[n / 2] | v : v << 4);
		n++;
	}
	return n == 32 ? 0 : -EBADMSG;
}

static int open_journal(struct daemon *d, struct error *err)
{
	struct journal_options o = {.dirfd = d->v1_fd,
				    .reserve_bytes = d->settings->reserve_bytes,
				    .clock = {.wall_ns = wall_ns, .mono_ns = boot_ns}};
	int r = read_boot_id(d->boot_id);

	if (r < 0)
		return error_set(err, r, "cannot read the boot id: %s; mount /proc", strerror(-r));
	memcpy(o.clock.boot_id, d->boot_id, sizeof(o.clock.boot_id));
	r = journal_open(&o, &d->journal, err);
	if (r < 0)
		return r;
	d->rows = journal_rows(d->journal);
	r = journal_epoch_begin(d->journal, adopt_look(d), HOLDFAST_VERSION, err);
	if (r < 0)
		return r;
	journal_flush(d->journal, true);
	r = journal_wait_durable(d->journal, journal_last_lsn(d->journal));
	if (r < 0)
		return error_set(err, r, "cannot write the journal: %s", strerror(-r));
	d->epoch = journal_state_epoch(d->rows);
	d->durable = journal_durable_lsn(d->journal);
	return 0;
}

static int open_engine(struct daemon *d, struct error *err)
{
	struct engine_ops ops = daemon_ops(d);
	struct engine_limits limits = {.live_attempts_max = d->settings->attempts,
				       .lost_max = d->settings->lost,
				       .decide_by_ns = 30ll * 86400 * 1000000000,
				       .execute_by_ns = 3600ll * 1000000000};
	int r = engine_new(d->rows, &ops, &limits, &d->engine);

	if (r < 0)
		return error_set(err, r, "cannot make the engine: %s", strerror(-r));
	r = adopt_recover(d, !d->options.embedded, err);
	if (r < 0)
		return r;
	d->recovered = true;
	notify_recover(d);
	return 0;
}

static uint64_t api_settle(void *ctx)
{
	struct daemon *d = ctx;

	daemon_settle(d);
	/* Whatever an answer tells must survive what comes: also a read of what is not on disk yet.
	 */
	if (journal_last_lsn(d->journal) > d->durable)
		journal_flush(d->journal, true);
	return journal_last_lsn(d->journal);
}

static void api_log(void *ctx, const char *text)
{
	daemon_log(ctx, "%s", text);
}

static int open_api(struct daemon *d, struct error *err)
{
	struct api_handler handler = {.ctx = d,
				      .handle = routes_handle,
				      .settle = api_settle,
				      .connections_max = d->settings->clients,
				      .log = api_log};
	int fd, r;

	/* The lock is ours: what is there is a dead supervisor's. */
	if (unlinkat(d->paths.runtime_fd, SUPERVISOR_CONTROL_SOCKET, 0) < 0 && errno != ENOENT)
		return error_set(err, -errno, "cannot remove the old socket in %s: %s",
				 d->paths.runtime, strerror(errno));
	fd = io_unix_listen_at(d->paths.runtime_fd, SUPERVISOR_CONTROL_SOCKET,
			       SOCK_STREAM | SOCK_NONBLOCK, SUPERVISOR_CONTROL_SOCKET_BACKLOG);
	if (fd < 0)
		return error_set(err, fd, "cannot listen in %s: %s", d->paths.runtime,
				 strerror(-fd));
	r = api_server_new(d->loop, fd, &handler, &d->api, err);
	if (r < 0)
		return r;
	api_server_durable(d->api, d->durable);
	return supervisor_paths_record(&d->paths, err);
}

static int open_events(struct daemon *d, struct error *err)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};

	d->tick = event_new(d->loop, -1, 0, on_tick, d);
	d->idle = event_new(d->loop, -1, 0, on_idle, d);
	d->follow_sync = event_new(d->loop, -1, 0, on_follow_sync, d);
	d->journal_event = event_new(d->loop, journal_event_fd(d->journal), EV_READ | EV_PERSIST,
				     on_journal, d);
	if (!d->tick || !d->idle || !d->follow_sync || !d->journal_event ||
	    event_add(d->journal_event, NULL) < 0)
		return error_nomem(err);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		/* What freeing the event brings back: a second SIGTERM must not kill what is
		 * ending. */
		(void)signal(signals[i], SIG_IGN);
		d->signals[i] = evsignal_new(d->loop, signals[i], on_signal, d);
		if (!d->signals[i] || event_add(d->signals[i], NULL) < 0)
			return error_nomem(err);
	}
	arm_ms(d->idle, DAEMON_IDLE_TICK_MS);
	return 0;
}

/* A client may hold 16 descriptors while its request is read, and there may be 2,048 of them. */
static void raise_files(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= DAEMON_FILES_MAX)
		return;
	l.rlim_cur = l.rlim_max < DAEMON_FILES_MAX ? l.rlim_max : DAEMON_FILES_MAX;
	(void)!setrlimit(RLIMIT_NOFILE, &l);
}

int daemon_open(const struct daemon_options *o, struct daemon **ret, struct error *err)
{
	AUTO(daemon_free) struct daemon *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return error_nomem(err);
	d->options = *o;
	d->settings = o->settings;
	d->commands_end = &d->commands;
	d->lock_fd = d->v1_fd = d->spool_fd = d->layers_fd = d->helpers_fd = -1;
	d->paths.state_fd = d->paths.runtime_fd = -1;
	raise_files();
	d->loop = event_base_new();
	if (!d->loop)
		return error_nomem(err);
	r = daemon_folders_open(d, err);
	if (r == 0 && (adopt_new(&d->adopt) < 0 || garbage_new(d, &d->garbage) < 0 ||
		       attempts_new(&d->attempts) < 0 || runs_new(&d->runs) < 0 ||
		       squash_new(&d->squash) < 0 || programs_new(&d->programs) < 0 ||
		       effect_undo_new(&d->undos) < 0 || effects_new(&d->effects) < 0 ||
		       card_heads_new(&d->card_heads) < 0 || net_new(d, &d->nets) < 0 ||
		       notify_new(d, &d->notify) < 0))
		r = error_nomem(err);
	if (r == 0)
		r = open_journal(d, err);
	if (r == 0)
		r = open_events(d, err);
	if (r == 0)
		r = aside_new(d, &d->aside, err);
	if (r == 0 && audits_new(&d->audits) < 0)
		r = error_nomem(err);
	if (r == 0)
		r = open_engine(d, err);
	if (r == 0)
		r = open_api(d, err);
	if (r < 0)
		return r;
	*ret = take_ptr(d);
	return 0;
}

/* sd_notify(3) by hand: one datagram. */
static void notify(const struct daemon *d, const char *text)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	const char *path = d->options.notify_socket;
	AUTO_FD fd = -1;
	size_t n = path ? strlen(path) : 0;

	if (n < 2 || n >= sizeof(a.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(a.sun_path, path, n);
	if (path[0] == '@')
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
}

int daemon_run(struct daemon *d, struct error *err)
{
	int r;

	daemon_settle(d);
	if (d->options.ready_fd >= 0) {
		(void)!io_write_all(d->options.ready_fd, "ready\n", 6);
		close_fd(&d->options.ready_fd);
	}
	notify(d, "READY=1");
	r = event_base_loop(d->loop, EVLOOP_NO_EXIT_ON_EMPTY);
	notify(d, "STOPPING=1");
	journal_flush(d->journal, true);
	if (journal_wait_durable(d->journal, journal_last_lsn(d->journal)) < 0 || r < 0)
		return error_set(err, -EIO,
				 "the supervisor ended badly: its loop or journal failed");
	if (d->failed)
		return error_set(err, -EIO,
				 "the supervisor ended badly: it lost its keeper; see what it "
				 "logged, and 'holdfast doctor'");
	return 0;
}

void daemon_free(struct daemon *d)
{
	struct event *events[] = {d ? d->tick : NULL, d ? d->idle : NULL, d ? d->follow_sync : NULL,
				  d ? d->journal_event : NULL};

	if (!d)
		return;
	api_server_free(d->api);
	d->api = NULL;
	aside_free(d->aside);
	audits_free(d->audits);
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		if (events[i])
			event_free(events[i]);
	for (size_t i = 0; i < ARRAY_SIZE(d->signals); i++)
		if (d->signals[i])
			event_free(d->signals[i]);
	adopt_free(d->adopt);
	garbage_free(d->garbage);
	notify_free(d->notify);
	net_free(d->nets);
	attempts_free(d->attempts);
	while (d->commands) {
		struct daemon_command *c = d->commands;

		d->commands = c->next;
		daemon_command_free(c);
	}
	engine_free(d->engine);
	runs_free(d->runs);
	squash_free(d->squash);
	effects_free(d->effects);
	card_heads_free(d->card_heads);
	programs_free(d->programs);
	effect_undo_free(d->undos);
	journal_close(d->journal);
	if (d->loop)
		event_base_free(d->loop);
	close_fd(&d->helpers_fd);
	close_fd(&d->layers_fd);
	close_fd(&d->spool_fd);
	close_fd(&d->v1_fd);
	own_free(d->own);
	supervisor_paths_close(&d->paths);
	close_fd(&d->lock_fd); /* last: another may start now */
	free(d);
}
