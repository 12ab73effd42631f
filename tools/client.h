#pragma once
/*
 * The command line's side of the control socket (supervisor/supervisor.h): find the state
 * directory, start an embedded supervisor where none serves it, send requests with descriptors,
 * read answers and streams.
 *
 * One connection is kept for plain requests; a stream has a connection of its own. Blocking; one
 * thread.
 */
#include <jansson.h>
#include "base/buffer.h"
#include "base/guard.h"
#include "supervisor/supervisor.h"

enum { CLIENT_FDS_MAX = 16, CLIENT_ANSWER_MAX = 64 * 1024 * 1024 };

struct client; /* opaque, owned */

enum client_start {
	CLIENT_START_NO, /* fail with EXIT_STATUS_USAGE where no supervisor serves */
	CLIENT_START_THERE, /* start an embedded one; -ENODATA, exit USAGE, where there is no state
			       directory: nothing was run yet, and reading makes none */
	CLIENT_START_MAKE, /* start an embedded one, and make the state directory for it */
};

/* state: --state or NULL. Errors carry the exit status to leave with. */
MUST_CHECK int client_open(const char *state, enum client_start start, struct client **ret,
			   struct error *err);
/* After a lost connection: the supervisor that serves now, or one that is started. */
MUST_CHECK int client_reopen(struct client *c, struct error *err);
void client_close(struct client *c); /* accepts NULL */
DEFINE_GUARD(struct client *, client_close)

/* Somebody has what the command needs, and will let go of it: an audit the journal, a supervisor
 * that cannot be reached the state directory. */
enum { CLIENT_HELD_MS = 60000, CLIENT_HELD_NOTE_MS = 1000 };
struct client_held {
	int64_t since_ms; /* 0 = not yet */
	bool told;
};
/* Whether to try again; false after CLIENT_HELD_MS. After CLIENT_HELD_NOTE_MS it says on standard
 * error, once, whom it waits for: what `by` says up to its remedy. The caller pauses. */
bool client_held_wait(struct client_held *h, const struct error *by);
int64_t client_now_ms(void); /* CLOCK_MONOTONIC: for how long, never for when */

struct client_fd {
	const char *name; /* in Holdfast-Fds */
	int fd; /* borrowed */
};

struct client_request {
	const char *method;
	const char *target;
	json_t *body; /* borrowed; may be NULL */
	struct client_fd fds[CLIENT_FDS_MAX];
	size_t fd_count;
};

/*
 * Sends one request and reads the whole answer. On 2xx: 0, *ret_body (owned; may be NULL for an
 * empty one), *ret_status. On an error answer: -EREMOTEIO with *err from its JSON (what, why,
 * remedy, exit). A lost connection is tried again once with the same Holdfast-Request, which makes
 * that safe. ret_status and ret_fd may be NULL; *ret_fd is a descriptor that came along, or -1.
 */
MUST_CHECK int client_text(struct client *c, const char *target, struct buffer *ret,
			   struct error *err); /* a GET's JSON as it came */
MUST_CHECK int client_call(struct client *c, const struct client_request *r, int *ret_status,
			   json_t **ret_body, int *ret_fd, struct error *err);

struct client_stream; /* opaque, owned: one GET whose body is read as it comes */
MUST_CHECK int client_stream_open(struct client *c, const char *target, struct client_stream **ret,
				  struct error *err);
int client_stream_fd(const struct client_stream *s); /* poll for POLLIN */
bool client_stream_pending(
	const struct client_stream *s); /* something was received already: do not poll for it */
/* Whether an error says that the supervisor went away under the client: worth reaching the next. */
bool client_lost(int r);
/* Reads what is there into out. 1 = more may come, 0 = the body has ended, negative errno. Blocks
 * if nothing is there. */
MUST_CHECK int client_stream_read(struct client_stream *s, struct buffer *out, struct error *err);
void client_stream_close(struct client_stream *s); /* accepts NULL */
DEFINE_GUARD(struct client_stream *, client_stream_close)

/* Percent-encodes one path segment or query value into out. */
void client_encode(struct buffer *out, const char *text);
