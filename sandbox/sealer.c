#include "sandbox/sealer.h"

#include <errno.h>

enum request_key {
	REQUEST_PROTOCOL = 1,
	REQUEST_ID = 2,
	REQUEST_OP = 3,
	REQUEST_NAMES = 4,
	REQUEST_INTO = 5,
	REQUEST_PATH = 6,
	REQUEST_BYTES_MAX = 7,
	REQUEST_ENTRIES_MAX = 8,
	REQUEST_OVER_BASE = 9,
};

enum reply_key {
	REPLY_PROTOCOL = 1,
	REPLY_ID = 2,
	REPLY_RESULT = 3,
	REPLY_EXIT_STATUS = 4,
	REPLY_MESSAGE = 5,
	REPLY_DIGEST = 6,
	REPLY_ENTRIES = 7,
	REPLY_BYTES = 8,
};

#define BIT(key) (1u << (key))

/* One row a kind: how many layers it names, which keys it must have and may have, how many
 * descriptors. */
static const struct sealer_kind {
	size_t names_min;
	size_t names_max;
	unsigned need;
	unsigned may;
	size_t fds;
} kinds[] = {
	[SEALER_SEAL] = {1, 1, 0, BIT(REQUEST_BYTES_MAX) | BIT(REQUEST_ENTRIES_MAX), 2},
	[SEALER_REMOVE] = {1, 1, 0, 0, 1},
	[SEALER_SQUASH] = {1, MANIFEST_STACK_MAX, BIT(REQUEST_INTO), 0, 1},
	[SEALER_USAGE] = {1, 1, 0, BIT(REQUEST_BYTES_MAX) | BIT(REQUEST_ENTRIES_MAX), 1},
	[SEALER_OPEN] = {1, 1, BIT(REQUEST_PATH), 0, 1},
	[SEALER_VIEW] = {0, MANIFEST_STACK_MAX, 0, BIT(REQUEST_OVER_BASE), 1},
};

static const unsigned request_always =
	BIT(REQUEST_PROTOCOL) | BIT(REQUEST_ID) | BIT(REQUEST_OP) | BIT(REQUEST_NAMES);

static const struct sealer_kind *kind_of(uint64_t op)
{
	return op >= SEALER_SEAL && op < ARRAY_SIZE(kinds) ? &kinds[op] : NULL;
}

size_t sealer_request_fds(enum sealer_op op)
{
	const struct sealer_kind *k = kind_of((uint64_t)op);

	return k ? k->fds : 0;
}

/* The same rules for both directions: a message that one side may not send, the other does not
 * take. */
static int check_request(const struct sealer_request *q, struct error *err)
{
	const struct sealer_kind *k = kind_of((uint64_t)q->op);

	if (!k)
		return error_set(err, -EPROTO, "sealer: a request of an unknown kind");
	if (q->name_count < k->names_min || q->name_count > k->names_max)
		return error_set(err, -EPROTO, "sealer: a request names %zu layers, of %zu to %zu",
				 q->name_count, k->names_min, k->names_max);
	for (size_t i = 0; i < q->name_count; i++)
		if (layers_check_name(q->names[i]) < 0)
			return error_set(err, -EPROTO,
					 "sealer: a layer's name is not 1 to 7 of a-z, 0-9");
	if ((k->need & BIT(REQUEST_INTO)) && layers_check_name(q->into) < 0)
		return error_set(err, -EPROTO, "sealer: a layer's name is not 1 to 7 of a-z, 0-9");
	if ((k->need & BIT(REQUEST_PATH)) && manifest_check_path(q->path) < 0)
		return error_set(err, -EPROTO, "sealer: a path is not one of a manifest");
	return 0;
}

int sealer_request_encode(const struct sealer_request *q, struct buffer *out)
{
	const struct sealer_kind *k = kind_of((uint64_t)q->op);
	int r = check_request(q, NULL);
	struct cbor_map_mark map;

	if (r < 0)
		return r;
	map = cbor_w_map_begin(out);
	cbor_w_key(out, &map, REQUEST_PROTOCOL);
	cbor_w_uint(out, SEALER_PROTOCOL);
	cbor_w_key(out, &map, REQUEST_ID);
	cbor_w_uint(out, q->id);
	cbor_w_key(out, &map, REQUEST_OP);
	cbor_w_uint(out, q->op);
	cbor_w_key(out, &map, REQUEST_NAMES);
	cbor_w_array(out, q->name_count);
	for (size_t i = 0; i < q->name_count; i++)
		cbor_w_str(out, q->names[i]);
	if (k->need & BIT(REQUEST_INTO)) {
		cbor_w_key(out, &map, REQUEST_INTO);
		cbor_w_str(out, q->into);
	}
	if (k->need & BIT(REQUEST_PATH)) {
		cbor_w_key(out, &map, REQUEST_PATH);
		cbor_w_bytes(out, q->path);
	}
	if ((k->may & BIT(REQUEST_BYTES_MAX)) && q->bytes_max) {
		cbor_w_key(out, &map, REQUEST_BYTES_MAX);
		cbor_w_uint(out, q->bytes_max);
	}
	if ((k->may & BIT(REQUEST_ENTRIES_MAX)) && q->entries_max) {
		cbor_w_key(out, &map, REQUEST_ENTRIES_MAX);
		cbor_w_uint(out, q->entries_max);
	}
	if ((k->may & BIT(REQUEST_OVER_BASE)) && q->over_base) {
		cbor_w_key(out, &map, REQUEST_OVER_BASE);
		cbor_w_bool(out, true);
	}
	cbor_w_map_end(out, &map);
	if (!out->failed && out->len > SEALER_MESSAGE_MAX)
		return -E2BIG;
	return out->failed;
}

static void read_name(struct cbor_reader *r, char ret[LAYERS_NAME_SIZE])
{
	struct bytes text = cbor_r_text(r);

	if (text.len >= LAYERS_NAME_SIZE || (text.len > 0 && memchr(text.data, 0, text.len))) {
		cbor_r_fail(r, -EPROTO);
		return;
	}
	memset(ret, 0, LAYERS_NAME_SIZE);
	if (text.len > 0)
		memcpy(ret, text.data, text.len);
}

static void read_names(struct cbor_reader *r, struct sealer_request *q)
{
	size_t count = cbor_r_array(r);

	if (count > MANIFEST_STACK_MAX) {
		cbor_r_fail(r, -E2BIG);
		return;
	}
	for (size_t i = 0; i < count; i++)
		read_name(r, q->names[i]);
	q->name_count = count;
}

/* A number that an enum will be. */
static unsigned read_small(struct cbor_reader *r)
{
	uint64_t v = cbor_r_uint(r);

	if (v > UINT8_MAX) {
		cbor_r_fail(r, -EPROTO);
		return 0;
	}
	return (unsigned)v;
}

static void check_protocol(struct cbor_reader *r)
{
	if (cbor_r_uint(r) != SEALER_PROTOCOL)
		cbor_r_fail(r, -EPROTO);
}

int sealer_request_decode(struct bytes b, struct sealer_request *ret, struct error *err)
{
	struct cbor_reader r = cbor_reader(b);
	struct sealer_request q = {0};
	const struct sealer_kind *k;
	struct cbor_map_iter map;
	unsigned have = 0;
	uint64_t key;
	int done;

	cbor_r_map(&r, &map);
	while (cbor_r_key(&r, &map, &key)) {
		switch (key) {
		case REQUEST_PROTOCOL:
			check_protocol(&r);
			break;
		case REQUEST_ID:
			q.id = cbor_r_uint(&r);
			break;
		case REQUEST_OP:
			q.op = (enum sealer_op)read_small(&r);
			break;
		case REQUEST_NAMES:
			read_names(&r, &q);
			break;
		case REQUEST_INTO:
			read_name(&r, q.into);
			break;
		case REQUEST_PATH:
			q.path = cbor_r_bytes(&r);
			break;
		case REQUEST_BYTES_MAX:
			q.bytes_max = cbor_r_uint(&r);
			break;
		case REQUEST_ENTRIES_MAX:
			q.entries_max = cbor_r_uint(&r);
			break;
		case REQUEST_OVER_BASE:
			q.over_base = cbor_r_bool(&r);
			break;
		default:
			return error_set(err, -EPROTO, "sealer: a request with an unknown key");
		}
		have |= BIT(key);
	}
	done = cbor_r_end(&r);
	if (done < 0)
		return error_set(
			err, done,
			"sealer: a request that is not canonical CBOR, or of another version");
	k = kind_of((uint64_t)q.op);
	if (!k || (have & (request_always | k->need)) != (request_always | k->need) ||
	    (have & ~(request_always | k->need | k->may)))
		return error_set(err, -EPROTO,
				 "sealer: a request without a key that its kind needs, or with one "
				 "too many");
	done = check_request(&q, err);
	if (done < 0)
		return done;
	*ret = q;
	return 0;
}

int sealer_reply_encode(const struct sealer_reply *r, struct buffer *out)
{
	struct cbor_map_mark map = cbor_w_map_begin(out);

	cbor_w_key(out, &map, REPLY_PROTOCOL);
	cbor_w_uint(out, SEALER_PROTOCOL);
	cbor_w_key(out, &map, REPLY_ID);
	cbor_w_uint(out, r->id);
	cbor_w_key(out, &map, REPLY_RESULT);
	cbor_w_int(out, r->result);
	if (r->result < 0) {
		cbor_w_key(out, &map, REPLY_EXIT_STATUS);
		cbor_w_uint(out, (uint64_t)r->exit_status);
		cbor_w_key(out, &map, REPLY_MESSAGE);
		cbor_w_bytes(out, r->message);
	} else {
		cbor_w_key(out, &map, REPLY_DIGEST);
		cbor_w_bytes(out, bytes_of(r->digest.b, sizeof(r->digest.b)));
		cbor_w_key(out, &map, REPLY_ENTRIES);
		cbor_w_uint(out, r->entries);
		cbor_w_key(out, &map, REPLY_BYTES);
		cbor_w_uint(out, r->bytes);
	}
	cbor_w_map_end(out, &map);
	return out->failed;
}

static const unsigned reply_always = BIT(REPLY_PROTOCOL) | BIT(REPLY_ID) | BIT(REPLY_RESULT);
static const unsigned reply_failed = BIT(REPLY_EXIT_STATUS) | BIT(REPLY_MESSAGE);
static const unsigned reply_done = BIT(REPLY_DIGEST) | BIT(REPLY_ENTRIES) | BIT(REPLY_BYTES);

int sealer_reply_decode(struct bytes b, struct sealer_reply *ret, struct error *err)
{
	struct cbor_reader r = cbor_reader(b);
	struct sealer_reply a = {0};
	struct cbor_map_iter map;
	int64_t result = 0;
	unsigned have = 0;
	uint64_t key;
	int done;

	cbor_r_map(&r, &map);
	while (cbor_r_key(&r, &map, &key)) {
		switch (key) {
		case REPLY_PROTOCOL:
			check_protocol(&r);
			break;
		case REPLY_ID:
			a.id = cbor_r_uint(&r);
			break;
		case REPLY_RESULT:
			result = cbor_r_int(&r);
			break;
		case REPLY_EXIT_STATUS:
			a.exit_status = (int)read_small(&r);
			break;
		case REPLY_MESSAGE:
			a.message = cbor_r_bytes(&r);
			break;
		case REPLY_DIGEST:
			cbor_r_digest(&r, &a.digest);
			break;
		case REPLY_ENTRIES:
			a.entries = cbor_r_uint(&r);
			break;
		case REPLY_BYTES:
			a.bytes = cbor_r_uint(&r);
			break;
		default:
			return error_set(err, -EPROTO, "sealer: a reply with an unknown key");
		}
		have |= BIT(key);
	}
	done = cbor_r_end(&r);
	if (done < 0)
		return error_set(
			err, done,
			"sealer: a reply that is not canonical CBOR, or of another version");
	if (result > 0 || result < -4095 || a.exit_status > EXIT_STATUS_CONFLICT ||
	    have != (reply_always | (result < 0 ? reply_failed : reply_done)))
		return error_set(
			err, -EPROTO,
			"sealer: a reply without a key that it needs, or with one too many");
	a.result = (int)result;
	*ret = a;
	return 0;
}

