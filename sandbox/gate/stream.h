#pragma once
/*
 * A connected socket of gate or courier with a buffer for each way, and TLS as a client where it is
 * asked for. Not libevent's bufferevents: version 2.1 asks FIONREAD before each read, reads at most
 * 4 KiB at a time, and registers with epoll for each write before it tries one; that was two thirds
 * of the system calls of a request and made 256 turns of the loop of each MiB.
 *
 * What is put into stream_out() goes out at the end of this turn of the loop, in one call, and waits
 * for the socket only where that does not take it. Callbacks come from the loop only, never from
 * inside a function here, and each may free the stream.
 */
#include <event2/buffer.h>
#include <event2/event.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include "base/guard.h"

enum { STREAM_MALLOC_KEPT = 2 * 1024 * 1024 }; /* bytes */

enum stream_end {
	STREAM_CLOSED, /* of what comes in, an orderly one, of TLS too: what is put out still goes */
	STREAM_BROKEN,
	STREAM_QUIET, /* nothing moved for so long */
};

struct stream_user {
	void (*ready)(void *arg); /* TLS is up; may be NULL without TLS */
	void (*input)(void *arg); /* more came, or stream_wake() */
	void (*drained)(void *arg); /* of what waited to go out, at most out_low bytes are left */
	void (*ended)(void *arg, enum stream_end how); /* CLOSED once, BROKEN once behind it */
};

struct stream;
/* Takes fd over, which does not block; it is read at once. in_max: bytes in stream_in() past which
 * it is not read. NULL when out of memory: then fd is the caller's. */
struct stream *stream_new(struct event_base *base, int fd, size_t in_max, size_t out_low,
			  const struct stream_user *user, void *arg);
/* As a client, from the next turn on: takes s over. ready() or ended() comes. */
void stream_tls(struct stream *s, SSL *ssl);
SSL *stream_ssl(const struct stream *s); /* NULL: none */
unsigned long stream_tls_error(const struct stream *s); /* OpenSSL's, of what broke it; 0 = none */
void stream_free(struct stream *s); /* closes; accepts NULL */
struct evbuffer *stream_in(struct stream *s);
struct evbuffer *stream_out(struct stream *s);
int stream_fd(const struct stream *s);
void stream_read(struct stream *s, bool on);
void stream_wake(struct stream *s); /* input() once more, soon */
void stream_timeout(struct stream *s, unsigned seconds); /* from now; 0 = for ever */
