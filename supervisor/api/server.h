#pragma once
/*
 * HTTP/1.1 over the control socket: connections, limits, descriptors, answers. It knows nothing of
 * runs: a finished request goes to the one handler it was given, and its answer leaves when the
 * records that it depends on are durable.
 *
 * A connection is in one phase at a time:
 *   IDLE       nothing of a request has come. Timer: API_IDLE_MS. Descriptors may come with the
 *              next bytes.
 *   READING    part of a request has come. Timer: API_READ_MS for all of it. Descriptors end the
 *              connection: they travel with a request's first byte, so one that carries some is
 *              sent after the answers before it were read.
 *   HANDLING   the answer comes later (api_server_answer). No timer: the handler has its own.
 *   ANSWERING  bytes of the answer are held back (not durable yet) or on their way. Timer:
 *              API_WRITE_MS without progress, while there is something that may be written.
 *   LINGERING  its last answer is out and our side is shut: what it still sends is thrown away.
 *              Timer: API_LINGER_MS.
 * While a request is handled up to API_PIPELINE_BYTES of later ones are taken in; then the socket
 * is not read. A client that does not read its answers costs its own connection: nothing is made
 * for it beyond API_STREAM_HIGH bytes.
 *
 * One thread, libevent. Nothing here blocks.
 */
#include <event2/event.h>
#include <jansson.h>
#include <sys/types.h>
#include "base/buffer.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/guard.h"
#include "base/io.h"

enum {
	API_CONNECTIONS_MAX = 2048,
	API_PIPELINE_BYTES = 64 * 1024,
	API_BODY_MAX = 4 * 1024 * 1024, /* JSON; files come as descriptors */
	API_ANSWER_MAX = 64 * 1024 * 1024,
	API_STREAM_HIGH = 256 * 1024, /* bytes that wait in a stream's connection */
	API_SEGMENTS_MAX = 8,
	API_QUERY_MAX = 8,
	API_REQUEST_ID_MAX = 64, /* bytes of Holdfast-Request */
	API_FD_NAME_MAX = 32,
	API_IDLE_MS = 5 * 60 * 1000,
	API_READ_MS = 15 * 1000,
	API_WRITE_MS = 30 * 1000,
	API_LINGER_MS = 1000,
	API_REMEMBERED = 1024, /* answers kept by request id, for clients that lost theirs */
};

struct api_request {
	uint64_t ticket; /* names this request toward api_server_answer */
	bool post; /* else GET */
	char *segments[API_SEGMENTS_MAX]; /* of the path, decoded, owned; no NUL inside */
	size_t segment_count;
	struct {
		char *key, *value; /* decoded, owned */
	} query[API_QUERY_MAX];
	size_t query_count;
	char request_id[API_REQUEST_ID_MAX + 1]; /* "" = none was given (GET only) */
	json_t *body; /* an object, owned; NULL where there was none */
	struct {
		char name[API_FD_NAME_MAX];
		int fd; /* owned: taken with take_fd, else closed with the request */
	} fds[IO_FDS_MAX];
	size_t fd_count;
	uid_t uid; /* of the peer */
	pid_t pid;
};

/* A body that is made as it is read. Freed by the server. */
struct api_stream {
	/* Appends what there is, about API_STREAM_HIGH at most. 1 = more may come (ask again after
	 * api_server_kick), 2 = ask again as soon as this is gone, 0 = that was the end, negative
	 * errno = cut the connection. */
	int (*fill)(struct api_stream *s, struct buffer *out);
	void (*free)(struct api_stream *s);
};

struct api_answer {
	int status; /* HTTP; 0 = none yet */
	json_t *json; /* owned */
	const char *type; /* of stream and text; NULL = application/json */
	struct buffer text; /* owned; the body where json is NULL */
	struct api_stream *stream; /* owned */
	int fd; /* owned; goes with the first byte; -1 = none */
	bool later; /* the handler keeps the ticket and calls api_server_answer */
	bool volatile_; /* not to be remembered by request id (it may differ next time) */
};

struct api_handler {
	void *ctx;
	void (*handle)(void *ctx, struct api_request *q, struct api_answer *a);
	/* Called after each request: ends the batch; returns the lsn that must be durable before
	 * the answer leaves. */
	uint64_t (*settle)(void *ctx);
	void (*log)(void *ctx, const char *text);
	size_t connections_max; /* 0 = API_CONNECTIONS_MAX */
};

struct api_server; /* opaque, owned */

/* listen_fd is taken over (closed by api_server_free). */
MUST_CHECK int api_server_new(struct event_base *loop, int listen_fd,
			      const struct api_handler *handler, struct api_server **ret,
			      struct error *err);
void api_server_free(struct api_server *s); /* accepts NULL */
DEFINE_GUARD(struct api_server *, api_server_free)
/* Everything up to lsn is durable: answers that waited for it leave. */
void api_server_durable(struct api_server *s, uint64_t lsn);
/* Something happened that streams may show. */
void api_server_kick(struct api_server *s);
/* The answer of a request whose handler said `later`. *a is emptied. The client may be gone:
 * nothing happens then. */
void api_server_answer(struct api_server *s, uint64_t ticket, struct api_answer *a);
/* The client that asked by this ticket can still be answered; one that has closed its side for
 * sending alone can. */
bool api_server_waits(const struct api_server *s, uint64_t ticket);
size_t api_server_connections(const struct api_server *s);
size_t api_server_streams(const struct api_server *s);
/* No new connections and requests; true once every answer is out (ask again in turns of the loop).
 */
bool api_server_drain(struct api_server *s);

/* Fills *a with the error of API_VERSION's shape. status 0 = what fits err->code. */
void api_answer_error(struct api_answer *a, int status, const struct error *err);
/* A JSON string of text as it is, or as base/escape.h shows it where it is not UTF-8. New
 * reference. */
json_t *api_json_text(struct bytes text);
/* The value under key, or NULL. */
const char *api_request_query(const struct api_request *q, const char *key);
/* The descriptor of that name (still owned by q), or -1. */
int api_request_fd(const struct api_request *q, const char *name);
