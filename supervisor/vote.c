#include "supervisor/vote.h"

#include <errno.h>
#include "base/cbor.h"

enum {
	KEY_FORM = 1,
	KEY_APPROVAL = 2,
	KEY_CARD = 3,
	KEY_APPROVE = 4,
	KEY_CHOICE = 5,
	KEY_PATH = 6,
	KEY_REASON = 7,
	KEY_FILE = 8,
	KEY_SIGNER = 9,
	KEY_TIME = 10,
	KEY_NONCE = 11,
};

static const char form[] = "holdfast vote 1";

static bool fits(const struct vote_ballot *v)
{
	return v->choice.len <= VOTE_TEXT_MAX && v->reason.len <= VOTE_TEXT_MAX &&
	       v->path.len <= VOTE_PATH_MAX && v->signer.len <= VOTE_SIGNER_MAX;
}

static void put_text(struct buffer *out, struct cbor_map_mark *m, uint64_t key, struct bytes text)
{
	if (text.len == 0)
		return;
	cbor_w_key(out, m, key);
	if (key == KEY_PATH) /* need not be UTF-8 */
		cbor_w_bytes(out, text);
	else
		cbor_w_text(out, text);
}

int vote_ballot_encode(const struct vote_ballot *v, struct buffer *out)
{
	struct cbor_map_mark m;

	if (!fits(v))
		return -E2BIG;
	m = cbor_w_map_begin(out);
	cbor_w_key(out, &m, KEY_FORM);
	cbor_w_str(out, form);
	cbor_w_key(out, &m, KEY_APPROVAL);
	cbor_w_bytes(out, bytes_of(v->approval, sizeof(v->approval)));
	cbor_w_key(out, &m, KEY_CARD);
	cbor_w_bytes(out, bytes_of(v->card.b, DIGEST_SIZE));
	cbor_w_key(out, &m, KEY_APPROVE);
	cbor_w_bool(out, v->approve);
	put_text(out, &m, KEY_CHOICE, v->choice);
	put_text(out, &m, KEY_PATH, v->path);
	put_text(out, &m, KEY_REASON, v->reason);
	if (!digest_is_zero(&v->file)) {
		cbor_w_key(out, &m, KEY_FILE);
		cbor_w_bytes(out, bytes_of(v->file.b, DIGEST_SIZE));
	}
	put_text(out, &m, KEY_SIGNER, v->signer);
	cbor_w_key(out, &m, KEY_TIME);
	cbor_w_int(out, v->time_ns);
	cbor_w_key(out, &m, KEY_NONCE);
	cbor_w_bytes(out, bytes_of(v->nonce, sizeof(v->nonce)));
	cbor_w_map_end(out, &m);
	return out->failed;
}

static void take(struct cbor_reader *r, void *to, size_t size)
{
	struct bytes b = cbor_r_bytes(r);

	if (!r->error && b.len == size)
		memcpy(to, b.data, size);
	else
		cbor_r_fail(r, -EBADMSG);
}

static void take_field(struct cbor_reader *r, uint64_t key, struct vote_ballot *v)
{
	switch (key) {
	case KEY_FORM:
		if (!bytes_equal(cbor_r_text(r), bytes_str(form)))
			cbor_r_fail(r, -EBADMSG);
		break;
	case KEY_APPROVAL:
		take(r, v->approval, sizeof(v->approval));
		break;
	case KEY_CARD:
		take(r, v->card.b, DIGEST_SIZE);
		break;
	case KEY_APPROVE:
		v->approve = cbor_r_bool(r);
		break;
	case KEY_CHOICE:
		v->choice = cbor_r_text(r);
		break;
	case KEY_PATH:
		v->path = cbor_r_bytes(r);
		break;
	case KEY_REASON:
		v->reason = cbor_r_text(r);
		break;
	case KEY_FILE:
		take(r, v->file.b, DIGEST_SIZE);
		break;
	case KEY_SIGNER:
		v->signer = cbor_r_text(r);
		break;
	case KEY_TIME:
		v->time_ns = cbor_r_int(r);
		break;
	case KEY_NONCE:
		take(r, v->nonce, sizeof(v->nonce));
		break;
	default:
		cbor_r_fail(r, -EPROTO);
	}
}

int vote_ballot_decode(struct bytes b, struct vote_ballot *ret)
{
	struct cbor_reader r = cbor_reader(b);
	struct vote_ballot v = {0};
	AUTO_BUFFER again = {0};
	struct cbor_map_iter m;
	uint64_t key;
	int e;

	if (b.len > VOTE_BALLOT_MAX)
		return -E2BIG;
	cbor_r_map(&r, &m);
	while (cbor_r_key(&r, &m, &key))
		take_field(&r, key, &v);
	e = cbor_r_end(&r);
	if (e == 0) /* a missing or an empty member would be written otherwise */
		e = vote_ballot_encode(&v, &again);
	if (e == 0 && !bytes_equal(buffer_bytes(&again), b))
		e = -EBADMSG;
	if (e == 0)
		*ret = v;
	return e;
}
