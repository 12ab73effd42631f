#include "sandbox/gate/hello.h"
#include <errno.h>
#include "sandbox/action.h"

enum {
	RECORD_HEADER = 5,
	RECORD_HANDSHAKE = 22,
	RECORD_MAX = 16 * 1024,
	HANDSHAKE_HEADER = 4,
	CLIENT_HELLO = 1,
	EXTENSION_SERVER_NAME = 0,
	EXTENSION_ENCRYPTED_HELLO = 0xfe0d,
	NAME_HOST = 0,
};

/* What is left of one length-prefixed part. */
struct part {
	const uint8_t *at;
	size_t left;
	bool bad;
};

static uint32_t number(struct part *p, size_t bytes)
{
	uint32_t v = 0;

	if (p->bad || p->left < bytes) {
		p->bad = true;
		return 0;
	}
	for (size_t i = 0; i < bytes; i++)
		v = v << 8 | p->at[i];
	p->at += bytes;
	p->left -= bytes;
	return v;
}

static struct part take(struct part *p, size_t len)
{
	struct part inner = {p->at, len, p->bad};

	if (p->bad || p->left < len) {
		p->bad = true;
		return (struct part){.bad = true};
	}
	p->at += len;
	p->left -= len;
	return inner;
}

/* A part behind its own length of so many bytes. */
static struct part vector(struct part *p, size_t length_bytes)
{
	size_t len = number(p, length_bytes);

	return take(p, len);
}

static bool read_name(struct part *e, struct hello *h)
{
	struct part list = vector(e, 2);
	struct part name;

	if (h->name[0] || number(&list, 1) != NAME_HOST)
		return false;
	name = vector(&list, 2);
	if (name.bad || list.bad || list.left || e->left || name.left > HELLO_NAME_MAX)
		return false;
	for (size_t i = 0; i < name.left; i++) {
		char c = (char)name.at[i];

		h->name[i] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
	}
	h->name[name.left] = '\0';
	return action_host_valid(bytes_of(h->name, name.left));
}

static int parse_body(struct part p, struct hello *ret)
{
	struct hello h = {0};
	struct part extensions;

	(void)take(&p, 2 + 32); /* version, random */
	(void)vector(&p, 1); /* session */
	(void)vector(&p, 2); /* ciphers */
	(void)vector(&p, 1); /* compression */
	if (!p.bad && p.left == 0) {
		*ret = h; /* before extensions there were: no name */
		return HELLO_WHOLE;
	}
	extensions = vector(&p, 2);
	if (p.bad || p.left)
		return -EBADMSG;
	while (extensions.left && !extensions.bad) {
		uint32_t type = number(&extensions, 2);
		struct part e = vector(&extensions, 2);

		if (extensions.bad)
			break;
		if (type == EXTENSION_SERVER_NAME && !read_name(&e, &h))
			return -EBADMSG;
		if (type == EXTENSION_ENCRYPTED_HELLO)
			h.encrypted = true;
	}
	if (extensions.bad)
		return -EBADMSG;
	*ret = h;
	return HELLO_WHOLE;
}

/* Appends what the records of a handshake carry. -EPROTO, or -EBADMSG behind the first. */
static int gather(struct bytes in, struct buffer *out)
{
	struct part p = {in.data, in.len, false};
	bool first = true;

	while (p.left) {
		size_t len;

		if (p.at[0] != RECORD_HANDSHAKE || (p.left > 1 && p.at[1] != 3))
			return first ? -EPROTO : -EBADMSG;
		if (p.left < RECORD_HEADER)
			return 0;
		len = (size_t)p.at[3] << 8 | p.at[4];
		if (len == 0 || len > RECORD_MAX)
			return first ? -EPROTO : -EBADMSG;
		(void)take(&p, RECORD_HEADER);
		if (len > p.left)
			len = p.left;
		(void)buffer_append(out, p.at, len);
		if (out->failed)
			return out->failed;
		/* What comes behind the hello is not its business. */
		if (out->len >= HANDSHAKE_HEADER) {
			size_t body = (size_t)out->data[1] << 16 | (size_t)out->data[2] << 8 |
				      out->data[3];

			if (out->len >= HANDSHAKE_HEADER + body)
				return 0;
		}
		(void)take(&p, len);
		first = false;
	}
	return 0;
}

int hello_parse(struct bytes in, struct hello *ret)
{
	AUTO_BUFFER message = {0};
	struct part p;
	size_t body;
	int r = gather(in, &message);

	if (r < 0)
		return r;
	if (message.len && message.data[0] != CLIENT_HELLO)
		return -EPROTO;
	if (message.len >= HANDSHAKE_HEADER) {
		p = (struct part){message.data + 1, message.len - 1, false};
		body = number(&p, 3);
		if (body > HELLO_BYTES_MAX)
			return -E2BIG;
		if (p.left >= body)
			return parse_body(take(&p, body), ret);
	}
	return in.len > HELLO_BYTES_MAX ? -E2BIG : HELLO_NEED_MORE;
}

void hello_alert(enum hello_alert alert, uint8_t *out)
{
	static const uint8_t fatal[HELLO_ALERT_SIZE] = {21, 3, 3, 0, 2, 2};

	memcpy(out, fatal, sizeof(fatal));
	out[6] = (uint8_t)alert;
}
