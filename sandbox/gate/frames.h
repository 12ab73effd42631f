#pragma once
/*
 * What gate and courier say to each other.
 *
 * The trunk is a SOCK_SEQPACKET pair made by the keeper, written by the gate alone: a `gate-open`
 * message for a connection of a client in the sandbox, with one descriptor: the channel; and a
 * `gate-note`, without one: what the gate itself refused, for the record, or that an attempt is over. A channel is a
 * SOCK_STREAM pair that only this connection uses, so that back-pressure is the kernel's and its
 * end is the connection's end. Frames on a channel: a header of 8 bytes, little-endian {length u32,
 * type u8, zero u8, zero u16}, and `length` bytes. CBOR bodies are canonical maps
 * (base/holdfast.cddl, `gate-*`); BODY and DATA are raw.
 *
 * The courier trusts nothing of it but that it came from this run's gate: sizes are checked here,
 * the request is decided there. One request is answered before the next is sent. Where the courier
 * refuses or ends a response while a request's body is still coming, it reads on to BODY_END or the
 * channel's end and throws that away. Encoders and decoders are pure and fuzzed (`gate_frames`).
 */
#include "base/buffer.h"
#include "base/error.h"
#include "sandbox/action.h"

enum {
	FRAMES_HEADER = 8, /* bytes */
	FRAMES_RAW_MAX = 64 * 1024, /* bytes of one BODY or DATA */
	FRAMES_CBOR_MAX = ACTION_BYTES_MAX + 4096,
	FRAMES_DROPPED_MAX = 100, /* names of dropped headers in one request */
	FRAMES_DROPPED_NAME_MAX = 32, /* bytes of each; the gate cuts a longer one */
	FRAMES_REASON_MAX = 240, /* bytes; the gate cuts a longer one */
	FRAMES_ABORT_MAX = 1024, /* bytes of its text */
	FRAMES_NOTE_MAX = 1024, /* bytes of a datagram on the trunk */
	FRAMES_NOTES_MAX = 1000, /* of one attempt; more are told as a number at its end */
	FRAMES_WHY_MAX = 240, /* bytes */
};

enum frames_type {
	/* gate to courier, on a channel */
	FRAMES_REQUEST = 1, /* gate-request; then BODY..., BODY_END where it has a body */
	FRAMES_TUNNEL = 2, /* gate-tunnel: an opaque stream; answered by TUNNEL_OPEN or REFUSED */
	/* both ways */
	FRAMES_BODY = 3,
	FRAMES_BODY_END = 4,
	FRAMES_DATA = 5, /* of a tunnel, and of a WebSocket after its 101 */
	FRAMES_DATA_END = 6, /* half close */
	/* courier to gate */
	FRAMES_RESPONSE = 16, /* gate-response; then BODY..., BODY_END unless it can have no body */
	FRAMES_REFUSED =
		17, /* gate-refusal: nothing was sent. The gate answers the client itself */
	FRAMES_TUNNEL_OPEN = 18,
	FRAMES_ABORT =
		19, /* text: the response cannot be completed; the client's connection is reset */
};

struct frames_open { /* on the trunk, with the channel */
	uint8_t attempt[16];
	uint64_t connection; /* the gate's own number, for logs */
};

/* What was not let through: numbers are part of the form. */
enum frames_note_kind {
	FRAMES_NOTE_DNS = 1, /* a name outside the table was asked for */
	FRAMES_NOTE_TLS = 2,
	FRAMES_NOTE_HTTP = 3,
	FRAMES_NOTE_LIMIT = 4,
	FRAMES_NOTE_OVER = 5, /* nothing: the attempt is over, and no more of it comes */
};

struct frames_note {
	uint8_t attempt[16];
	enum frames_note_kind kind;
	struct bytes host; /* as asked for, visible ASCII, at most ACTION_HOST_MAX; may be empty */
	uint16_t port; /* 0: of no port */
	struct bytes why; /* one line */
};

struct frames_request {
	struct action action; /* HTTP; body digest zero: the courier makes it from what it spools */
	bool has_length; /* of its body: body_len; else chunked, and body_len is 0. A body that was
			    announced as empty is none */
	struct bytes
		reason; /* the agent's own, a line of text; empty: it gave none. It is no part of
				what is done and goes nowhere but to who decides */
	size_t dropped_count;
	struct bytes dropped[FRAMES_DROPPED_MAX]; /* header names that were not passed on; so many
						     are set as are counted */
};

struct frames_tunnel {
	struct bytes host; /* name that was resolved inside */
	uint16_t port;
	bool tls; /* passthrough: the client hello named host */
};

struct frames_response {
	int status; /* 101 answers a WebSocket; else 200 to 599: the courier eats interim ones */
	struct action_header headers[ACTION_HEADERS_MAX]; /* as sent, none of frames_header_hop() */
	size_t header_count;
	bool has_length;
	uint64_t length; /* bytes */
};

struct frames_refusal {
	int status; /* 400 to 599: 403, 409, 413, 421, 429, 502, 504, 507 */
	struct bytes json; /* {"error","rule","why","hint"}; what the agent reads */
};

struct frames_header {
	uint32_t length;
	enum frames_type type;
};

/* Writes 8 bytes. */
void frames_header_encode(enum frames_type type, uint32_t length, uint8_t *out);
/* 8 bytes. -EBADMSG (unknown type, bytes that must be zero), -E2BIG (length past its type's limit).
 */
MUST_CHECK int frames_header_decode(const uint8_t *in, struct frames_header *ret);

/* Response headers that concern one connection, or that the gate makes itself: Connection,
 * Content-Length, Transfer-Encoding, Sec-WebSocket-Accept... name in lowercase. */
bool frames_header_hop(struct bytes name);

MUST_CHECK int frames_open_encode(const struct frames_open *o, struct buffer *out);
MUST_CHECK int frames_open_decode(struct bytes b, struct frames_open *ret);
MUST_CHECK int frames_note_encode(const struct frames_note *n, struct buffer *out);
MUST_CHECK int frames_note_decode(struct bytes b, struct frames_note *ret);
/* Append the CBOR body; decoding is strict and borrows from b. -EBADMSG, -E2BIG, -EPROTO, -EINVAL.
 */
MUST_CHECK int frames_request_encode(const struct frames_request *r, struct buffer *out);
MUST_CHECK int frames_request_decode(struct bytes b, struct frames_request *ret);
MUST_CHECK int frames_tunnel_encode(const struct frames_tunnel *t, struct buffer *out);
MUST_CHECK int frames_tunnel_decode(struct bytes b, struct frames_tunnel *ret);
MUST_CHECK int frames_response_encode(const struct frames_response *r, struct buffer *out);
MUST_CHECK int frames_response_decode(struct bytes b, struct frames_response *ret);
MUST_CHECK int frames_refusal_encode(const struct frames_refusal *r, struct buffer *out);
MUST_CHECK int frames_refusal_decode(struct bytes b, struct frames_refusal *ret);
