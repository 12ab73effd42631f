/*
 * holdfast-courier: the one process that reaches out, one for each run. What it needs of the host's
 * files it reads first: trust anchors, resolv.conf, hosts. Then it shuts itself in, and only then
 * listens to anybody.
 *
 * Descriptors: 2 the keeper's log, 3 control (control.h), 4 the run's lock, whose file is named
 * after the run.
 */
#include "sandbox/gate/courier.h"
#include <fcntl.h>
#include <malloc.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include "base/failpoint.h"
#include "base/io.h"
#include "sandbox/gate/isolate.h"

enum { POLICY_MAX = 16 * 1024 * 1024, CA_MAX = 4 * 1024 * 1024, LATE_MS = 1000 };

int64_t courier_wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int64_t courier_mono_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

/* ---- memory for secrets ---- */

int vault_put(struct vault *v, struct bytes content)
{
	size_t page = 4096, room = (content.len + page) / page * page;
	uint8_t *data =
		mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (data == MAP_FAILED)
		return -ENOMEM;
	/* Where the limit on locked memory is too small it can be swapped, but never dumped. */
	(void)mlock(data, room);
	(void)madvise(data, room, MADV_DONTDUMP);
	if (content.len)
		memcpy(data, content.data, content.len);
	*v = (struct vault){data, content.len, room};
	return 0;
}

void vault_clear(struct vault *v)
{
	if (v->data) {
		explicit_bzero(v->data, v->room);
		(void)munmap(v->data, v->room);
	}
	*v = (struct vault){0};
}

/* What libevent frees may hold a request's head, and so a secret. */
static void *wiping_realloc(void *p, size_t n)
{
	size_t old = p ? *((size_t *)p - 2) : 0;
	uint8_t *fresh;

	if (n > SIZE_MAX - 16)
		return NULL;
	fresh = malloc(n + 16);
	if (!fresh)
		return NULL;
	*(size_t *)(void *)fresh = n;
	if (p) {
		memcpy(fresh + 16, p, old < n ? old : n);
		explicit_bzero(p, old);
		free((uint8_t *)p - 16);
	}
	return fresh + 16;
}

static void *wiping_malloc(size_t n)
{
	return wiping_realloc(NULL, n);
}

static void wiping_free(void *p)
{
	if (!p)
		return;
	explicit_bzero(p, *((size_t *)p - 2));
	free((uint8_t *)p - 16);
}

/* ---- attempts ---- */

struct attempt *attempt_find(struct courier *c, const uint8_t *id)
{
	for (struct attempt *a = c->attempts; a; a = a->next)
		if (!a->ended && memcmp(a->id, id, 16) == 0)
			return a;
	return NULL;
}

struct attempt *attempt_ref(struct attempt *a)
{
	if (a)
		a->refs++;
	return a;
}

void attempt_unref(struct attempt *a)
{
	if (!a || --a->refs > 0)
		return;
	for (struct attempt **at = &a->c->attempts; *at; at = &(*at)->next)
		if (*at == a) {
			*at = a->next;
			break;
		}
	for (size_t i = 0; i < a->secret_count; i++) {
		free(a->secrets[i].name);
		vault_clear(&a->secrets[i].value);
	}
	for (size_t i = 0; i < a->anchor_count; i++) {
		free(a->anchors[i].path);
		SSL_CTX_free(a->anchors[i].tls);
	}
	policy_effective_free(a->policy);
	free(a);
}

const struct secret *attempt_secret(const struct attempt *a, const char *name)
{
	for (size_t i = 0; i < a->secret_count; i++)
		if (strcmp(a->secrets[i].name, name) == 0)
			return &a->secrets[i];
	return NULL;
}

static void end_attempt(struct courier *c, struct attempt *a)
{
	a->ended = true;
	upstream_close_attempt(c, a);
	attempt_unref(a);
}

static int load_policy(struct attempt *a, int fd)
{
	AUTO_BUFFER text = {.max = POLICY_MAX};
	struct error err = {0};

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	int r = io_read_all(fd, POLICY_MAX, &text);
	return r < 0 ? r : policy_effective_decode(buffer_bytes(&text), &a->policy, &err);
}

static int add_anchors(SSL_CTX *t, struct bytes pem)
{
	BIO *b = BIO_new_mem_buf(pem.data, (int)pem.len);
	X509_STORE *store = SSL_CTX_get_cert_store(t);
	size_t n = 0;
	X509 *x;

	while (b && (x = PEM_read_bio_X509_AUX(b, NULL, NULL, NULL))) {
		n += X509_STORE_add_cert(store, x) == 1;
		X509_free(x);
	}
	BIO_free(b);
	ERR_clear_error();
	return n ? 0 : -ENOENT;
}

/* A file that holds no certificate trusts nobody: its rule then fails at TLS, saying so. */
static int load_anchors(struct attempt *a, const struct report_attempt *m, const int *fds, size_t n)
{
	for (size_t i = 0; i < m->ca_count && i < n; i++) {
		struct anchor *to = &a->anchors[a->anchor_count];
		AUTO_BUFFER pem = {.max = CA_MAX};

		to->path = bytes_dup_str(m->cas[i]);
		to->tls = upstream_tls_new();
		if (!to->path || !to->tls) {
			free(to->path);
			SSL_CTX_free(to->tls);
			return -ENOMEM;
		}
		a->anchor_count++;
		if (lseek(fds[i], 0, SEEK_SET) == 0 && io_read_all(fds[i], CA_MAX, &pem) == 0)
			(void)add_anchors(to->tls, buffer_bytes(&pem));
	}
	return 0;
}

static int load_secrets(struct attempt *a, const struct report_attempt *m)
{
	for (size_t i = 0; i < m->secret_count; i++) {
		struct secret *s = &a->secrets[a->secret_count];

		s->name = bytes_dup_str(m->secrets[i].name);
		if (!s->name || vault_put(&s->value, m->secrets[i].value) < 0) {
			free(s->name);
			return -ENOMEM;
		}
		a->secret_count++;
	}
	return 0;
}

void courier_attempt(struct courier *c, const struct report_attempt *m, const int *fds, size_t n)
{
	struct attempt *old = attempt_find(c, m->attempt), *a = calloc(1, sizeof(*a));
	int r = a && n > 0 ? 0 : -EPROTO;

	if (!a)
		return;
	a->c = c;
	a->refs = 1;
	memcpy(a->id, m->attempt, sizeof(a->id));
	a->egress_left = m->egress_left;
	a->requests_left = m->requests_left;
	if (r == 0)
		r = load_policy(a, fds[0]);
	if (r == 0)
		r = load_anchors(a, m, fds + 1, n - 1);
	if (r == 0)
		r = load_secrets(a, m);
	if (r < 0) {
		dprintf(2, "courier: an attempt's policy cannot be read: %d\n", r);
		attempt_unref(a); /* its requests are turned away in the end */
		return;
	}
	if (old)
		end_attempt(c, old); /* a supervisor that says it again knows better */
	a->next = c->attempts;
	c->attempts = a;
	exchange_attempt_known(c);
}

void courier_attempt_end(struct courier *c, const uint8_t *id)
{
	struct attempt *a = attempt_find(c, id);

	exchange_attempt_ended(c, id);
	report_flush(c->report);
	if (a)
		end_attempt(c, a);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	exchange_attempt_known(arg);
}

/* ---- what is over ---- */

static void on_bury(evutil_socket_t fd, short what, void *arg)
{
	struct courier *c = arg;

	(void)fd;
	(void)what;
	channel_bury(c);
	exchange_free_ended(c);
}

void courier_bury_soon(struct courier *c)
{
	event_active(c->bury, EV_TIMEOUT, 0);
}

/* ---- the trunk and the keeper ---- */

static void close_trunk(struct courier *c)
{
	if (c->trunk)
		event_free(c->trunk);
	c->trunk = NULL;
	close_fd(&c->trunk_fd);
}

static void on_trunk(evutil_socket_t fd, short what, void *arg)
{
	struct courier *c = arg;
	uint8_t bytes[FRAMES_NOTE_MAX];
	int fds[IO_FDS_MAX];
	size_t count = 0;
	struct frames_open o;
	struct frames_note note;
	ssize_t n = io_recv_fds(fd, bytes, sizeof(bytes), fds, &count);

	(void)what;
	if (n == -EAGAIN)
		return;
	if (n > 0 && count == 0 && frames_note_decode(bytes_of(bytes, (size_t)n), &note) == 0) {
		if (note.kind == FRAMES_NOTE_OVER) {
			exchange_attempt_ended(c, note.attempt);
			report_drained(c->report, note.attempt);
		} else {
			report_refused(c->report, &note);
		}
		return;
	}
	if (n <= 0 || count != 1 || frames_open_decode(bytes_of(bytes, (size_t)n), &o) < 0) {
		for (size_t i = 0; i < count; i++)
			close_fd(&fds[i]);
		if (n <= 0)
			close_trunk(c); /* the keeper brings another */
		return;
	}
	if (channel_open(c, &o, fds[0]) < 0)
		close_fd(&fds[0]);
}

static void take_trunk(struct courier *c, int fd)
{
	close_trunk(c);
	(void)evutil_make_socket_nonblocking(fd);
	c->trunk_fd = fd;
	c->trunk = event_new(c->base, fd, EV_READ | EV_PERSIST, on_trunk, c);
	if (!c->trunk || event_add(c->trunk, NULL) < 0)
		close_trunk(c);
}

static void on_control(evutil_socket_t fd, short what, void *arg)
{
	struct courier *c = arg;
	struct control_message m;
	int fds[IO_FDS_MAX];
	size_t count = 0;
	ssize_t n = io_recv_fds(fd, &m, sizeof(m), fds, &count);

	(void)what;
	if (n == -EAGAIN)
		return;
	if (n != sizeof(m)) {
		/* The keeper is gone, or of another build. */
		event_base_loopbreak(c->base);
		return;
	}
	if (m.type == CONTROL_TRUNK && count == 1)
		take_trunk(c, take_fd(&fds[0]));
	else if (m.type == CONTROL_REPORT && count == 1)
		report_attach(c->report, take_fd(&fds[0]));
	else if (m.type == CONTROL_ATTEMPT_END)
		courier_attempt_end(c, m.attempt);
	for (size_t i = 0; i < count; i++)
		close_fd(&fds[i]);
}

/* ---- the start ---- */

static void load_system_anchors(SSL_CTX *t)
{
	static const char *const files[] = {
		"/etc/ssl/certs/ca-certificates.crt", /* Debian */
		"/etc/pki/tls/certs/ca-bundle.crt", /* Fedora */
		"/etc/ssl/ca-bundle.pem", /* SUSE */
		"/etc/ssl/cert.pem", /* Alpine */
	};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		AUTO_FD fd = open(files[i], O_RDONLY | O_CLOEXEC);
		AUTO_BUFFER pem = {.max = CA_MAX};

		if (fd >= 0 && io_read_all(fd, CA_MAX, &pem) == 0 &&
		    add_anchors(t, buffer_bytes(&pem)) == 0)
			return;
	}
	dprintf(2, "courier: no trust anchors of the system; only rules with `ca` can use TLS\n");
}

/* The lock's file is RUN.n, in hex. */
static int run_id(uint8_t *ret)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/fd/4", path, sizeof(path) - 1);
	const char *name;

	if (n <= 0)
		return -errno;
	path[n] = '\0';
	name = strrchr(path, '/');
	for (size_t i = 0; i < 16; i++) {
		unsigned v;

		if (!name || sscanf(name + 1 + 2 * i, "%2x", &v) != 1)
			return -EINVAL;
		ret[i] = (uint8_t)v;
	}
	return 0;
}

static int prepare(struct courier *c, struct error *err)
{
	int keep, r = run_id(c->run);

	if (r < 0)
		return error_set(err, r, "descriptor 4 is no run's lock");
	c->trunk_fd = -1;
	c->tls = upstream_tls_new();
	if (!c->tls || RAND_bytes(c->instance, sizeof(c->instance)) != 1)
		return error_nomem(err);
	load_system_anchors(c->tls);
	r = names_prepare(&c->names, &keep, err);
	if (r == 0)
		r = isolate(ISOLATE_COURIER, &keep, 1, err);
	return r;
}

static int start(struct courier *c)
{
	struct timeval late = {.tv_usec = LATE_MS * 1000 % 1000000, .tv_sec = LATE_MS / 1000};
	int r;

	c->base = event_base_new();
	c->bury = c->base ? evtimer_new(c->base, on_bury, c) : NULL;
	if (!c->bury)
		return -ENOMEM;
	r = names_start(c->names, c->base);
	if (r == 0)
		r = report_new(c, &c->report);
	if (r < 0)
		return r;
	(void)evutil_make_socket_nonblocking(ISOLATE_CONTROL_FD);
	c->control = event_new(c->base, ISOLATE_CONTROL_FD, EV_READ | EV_PERSIST, on_control, c);
	c->attempts_late = event_new(c->base, -1, EV_PERSIST, on_late, c);
	if (!c->control || !c->attempts_late || event_add(c->control, NULL) < 0 ||
	    event_add(c->attempts_late, &late) < 0)
		return -ENOMEM;
	return 0;
}

int main(void)
{
	static struct courier c;
	struct error err = {0};
	int r;

	failpoint_init(getenv("HOLDFAST_FAILPOINT"));
	/* Buffers of a large body come and go: not as mappings whose pages are made anew each time. */
	(void)mallopt(M_MMAP_THRESHOLD, STREAM_MALLOC_KEPT);
	(void)mallopt(M_TRIM_THRESHOLD, STREAM_MALLOC_KEPT);
	signal(SIGPIPE, SIG_IGN);
	event_set_mem_functions(wiping_malloc, wiping_realloc, wiping_free);
	r = prepare(&c, &err);
	if (r == 0)
		r = start(&c);
	if (r < 0) {
		dprintf(2, "holdfast-courier: %s\n", err.msg[0] ? err.msg : strerror(-r));
		return 1;
	}
	return event_base_dispatch(c.base) < 0 ? 1 : 0;
}
