#include "sandbox/protocol_wire.h"
#include <errno.h>
#include <stdlib.h>

int protocol_check_header(const struct protocol_header *h, size_t datagram, size_t fd_count)
{
	bool in_memfd = h->flags & PROTOCOL_FLAG_MEMFD;

	if (datagram < sizeof(*h) || h->reserved != 0 || h->protocol != PROTOCOL_VERSION ||
	    (h->flags & ~(uint32_t)(PROTOCOL_FLAG_MEMFD | PROTOCOL_FLAG_MORE)) ||
	    h->length > PROTOCOL_BODY_MAX)
		return -EPROTO;
	if (in_memfd ? datagram != sizeof(*h) || fd_count == 0 : datagram - sizeof(*h) != h->length)
		return -EBADMSG;
	return 0;
}

/* ---- the small bodies ---- */

int protocol_request_encode(enum protocol_type type, const struct protocol_request *q,
			    struct buffer *out)
{
	struct cbor_map_mark m = cbor_w_map_begin(out);

	if (type == PROTOCOL_HELLO)
		protocol_wire_key_uint(out, &m, 1, q->epoch);
	if (type == PROTOCOL_SIGNAL)
		protocol_wire_key_uint(out, &m, 2, (uint64_t)q->signal);
	if (type == PROTOCOL_FREEZE || type == PROTOCOL_FOLLOW)
		protocol_wire_key_uint(out, &m, 3, q->on);
	if (type == PROTOCOL_RESIZE) {
		protocol_wire_key_uint(out, &m, 4, q->rows);
		protocol_wire_key_uint(out, &m, 5, q->cols);
	}
	if (type == PROTOCOL_LAYER) {
		protocol_wire_key_uint(out, &m, 6, q->uid);
		protocol_wire_key_uint(out, &m, 7, q->gid);
		cbor_w_key(out, &m, 8);
		cbor_w_bytes(out, q->sealer);
	}
	if (type == PROTOCOL_NET_OPEN) {
		cbor_w_key(out, &m, 9);
		cbor_w_bytes(out, q->table);
		cbor_w_key(out, &m, 10);
		cbor_w_bytes(out, q->ca);
	}
	cbor_w_map_end(out, &m);
	return out->failed;
}

static bool request_has(enum protocol_type type, uint64_t key)
{
	switch (key) {
	case 1:
		return type == PROTOCOL_HELLO;
	case 2:
		return type == PROTOCOL_SIGNAL;
	case 3:
		return type == PROTOCOL_FREEZE || type == PROTOCOL_FOLLOW;
	case 4:
	case 5:
		return type == PROTOCOL_RESIZE;
	case 6:
	case 7:
	case 8:
		return type == PROTOCOL_LAYER;
	case 9:
	case 10:
		return type == PROTOCOL_NET_OPEN;
	}
	return false;
}

int protocol_request_decode(enum protocol_type type, struct bytes b, struct protocol_request *ret)
{
	struct cbor_reader r = cbor_reader(b);
	struct protocol_request q = {0};
	struct cbor_map_iter m;
	uint64_t key;

	cbor_r_map(&r, &m);
	while (cbor_r_key(&r, &m, &key)) {
		if (!request_has(type, key))
			cbor_r_fail(&r, -EPROTO);
		else if (key == 1)
			q.epoch = cbor_r_uint(&r);
		else if (key == 2)
			q.signal = (int32_t)protocol_wire_uint_max(&r, 64);
		else if (key == 3)
			q.on = protocol_wire_uint_max(&r, 1);
		else if (key == 4)
			q.rows = (uint16_t)protocol_wire_uint_max(&r, UINT16_MAX);
		else if (key == 5)
			q.cols = (uint16_t)protocol_wire_uint_max(&r, UINT16_MAX);
		else if (key == 6)
			q.uid = (uint32_t)protocol_wire_uint_max(&r, UINT32_MAX - 1);
		else if (key == 7)
			q.gid = (uint32_t)protocol_wire_uint_max(&r, UINT32_MAX - 1);
		else if (key == 8)
			q.sealer = cbor_r_bytes(&r);
		else if (key == 9)
			q.table = cbor_r_bytes(&r);
		else
			q.ca = cbor_r_bytes(&r);
	}
	if (q.table.len > SANDBOX_NET_TABLE_MAX || q.ca.len > SANDBOX_NET_CA_MAX)
		cbor_r_fail(&r, -E2BIG);
	int failed = cbor_r_end(&r);
	if (failed == 0)
		*ret = q;
	return failed;
}

int protocol_hello_encode(const struct sandbox_hello *h, struct buffer *out)
{
	cbor_w_map(out, h->net_count > 0 ? 5 : 4);
	cbor_w_uint(out, 1);
	cbor_w_uint(out, h->keeper_epoch);
	cbor_w_uint(out, 2);
	cbor_w_uint(out, (uint64_t)h->keeper_pid);
	cbor_w_uint(out, 3);
	protocol_wire_str(out, h->boot_id);
	cbor_w_uint(out, 4);
	cbor_w_array(out, h->found_count);
	for (size_t i = 0; i < h->found_count; i++) {
		cbor_w_array(out, 2);
		cbor_w_bytes(out, bytes_of(h->found[i].attempt.b, SANDBOX_ATTEMPT_SIZE));
		cbor_w_uint(out, h->found[i].state);
	}
	if (h->net_count > 0) {
		cbor_w_uint(out, 5);
		cbor_w_array(out, h->net_count);
		for (size_t i = 0; i < h->net_count; i++)
			cbor_w_bytes(out, bytes_of(h->nets[i].b, SANDBOX_NET_SIZE));
	}
	return out->failed;
}

static void r_nets(struct cbor_reader *r, struct sandbox_hello *h)
{
	size_t n = protocol_wire_count(r, SANDBOX_NETS_MAX);

	if (h->nets || n == 0)
		return cbor_r_fail(r, -EBADMSG);
	h->nets = calloc(n, sizeof(*h->nets));
	if (!h->nets)
		return cbor_r_fail(r, -ENOMEM);
	for (h->net_count = 0; h->net_count < n && !r->error; h->net_count++) {
		struct bytes id = cbor_r_bytes(r);
		if (id.len == SANDBOX_NET_SIZE)
			memcpy(h->nets[h->net_count].b, id.data, id.len);
		else
			cbor_r_fail(r, -EBADMSG);
	}
}

static void r_found(struct cbor_reader *r, struct sandbox_hello *h)
{
	size_t n = protocol_wire_count(r, 1 << 16);

	if (h->found || r->error)
		return cbor_r_fail(r, -EBADMSG);
	h->found = calloc(n ? n : 1, sizeof(*h->found));
	if (!h->found)
		return cbor_r_fail(r, -ENOMEM);
	for (h->found_count = 0; h->found_count < n && !r->error; h->found_count++) {
		struct sandbox_found *f = &h->found[h->found_count];
		if (cbor_r_array(r) != 2)
			cbor_r_fail(r, -EBADMSG);
		struct bytes id = cbor_r_bytes(r);
		if (id.len == SANDBOX_ATTEMPT_SIZE)
			memcpy(f->attempt.b, id.data, id.len);
		else
			cbor_r_fail(r, -EBADMSG);
		f->state = (enum sandbox_attempt_state)
			protocol_wire_uint_max(r, SANDBOX_ATTEMPT_NOT_STARTED);
	}
}

int protocol_hello_decode(struct bytes b, struct sandbox_hello *ret)
{
	struct cbor_reader r = cbor_reader(b);
	struct sandbox_hello h = {0};
	struct cbor_map_iter m;
	uint64_t key;

	cbor_r_map(&r, &m);
	while (cbor_r_key(&r, &m, &key)) {
		if (key == 1) {
			h.keeper_epoch = cbor_r_uint(&r);
		} else if (key == 2) {
			h.keeper_pid = (pid_t)protocol_wire_uint_max(&r, INT32_MAX);
		} else if (key == 3) {
			struct bytes id = cbor_r_bytes(&r);
			if (id.len >= sizeof(h.boot_id))
				cbor_r_fail(&r, -EBADMSG);
			else if (id.len > 0)
				memcpy(h.boot_id, id.data, id.len);
		} else if (key == 4) {
			r_found(&r, &h);
		} else if (key == 5) {
			r_nets(&r, &h);
		} else {
			cbor_r_fail(&r, -EPROTO);
		}
	}
	int failed = cbor_r_end(&r);
	if (failed < 0) {
		free(h.found);
		free(h.nets);
	} else {
		*ret = h;
	}
	return failed;
}

static void w_exit(struct buffer *b, const struct sandbox_exit *x)
{
	struct cbor_map_mark m = cbor_w_map_begin(b);

	protocol_wire_key_uint(b, &m, 1, x->why);
	cbor_w_key(b, &m, 2);
	cbor_w_int(b, x->status);
	protocol_wire_key_uint(b, &m, 3, (uint64_t)x->signal);
	protocol_wire_key_uint(b, &m, 4, x->core);
	if (x->limit[0])
		protocol_wire_key_str(b, &m, 5, x->limit);
	protocol_wire_key_uint(b, &m, 6, x->usage.wall_us);
	protocol_wire_key_uint(b, &m, 7, x->usage.cpu_us);
	protocol_wire_key_uint(b, &m, 8, x->usage.memory_peak_bytes);
	protocol_wire_key_uint(b, &m, 9, x->stdout_bytes);
	protocol_wire_key_uint(b, &m, 10, x->stderr_bytes);
	protocol_wire_key_uint(b, &m, 11, x->stdout_dropped);
	protocol_wire_key_uint(b, &m, 12, x->stderr_dropped);
	protocol_wire_key_uint(b, &m, 13, (uint64_t)-x->spool_error);
	cbor_w_key(b, &m, 14);
	cbor_w_array(b, x->denied_count);
	for (size_t i = 0; i < x->denied_count; i++) {
		cbor_w_array(b, 2);
		cbor_w_uint(b, (uint64_t)x->denied[i].number);
		cbor_w_uint(b, x->denied[i].count);
	}
	protocol_wire_key_uint(b, &m, 15, x->denied_more);
	protocol_wire_key_uint(b, &m, 16, x->weaker);
	cbor_w_map_end(b, &m);
}

static void r_denied(struct cbor_reader *r, struct sandbox_exit *x)
{
	size_t n = protocol_wire_count(r, SANDBOX_DENIED_MAX);

	for (x->denied_count = 0; x->denied_count < n; x->denied_count++) {
		if (cbor_r_array(r) != 2)
			cbor_r_fail(r, -EBADMSG);
		x->denied[x->denied_count].number = (int32_t)protocol_wire_uint_max(r, INT32_MAX);
		x->denied[x->denied_count].count = (uint32_t)protocol_wire_uint_max(r, UINT32_MAX);
	}
}

static void r_exit(struct cbor_reader *r, struct sandbox_exit *x)
{
	uint64_t *const counts[] = {
		&x->usage.wall_us, &x->usage.cpu_us, &x->usage.memory_peak_bytes,
		&x->stdout_bytes,  &x->stderr_bytes, &x->stdout_dropped,
		&x->stderr_dropped};
	struct cbor_map_iter m;
	uint64_t key;

	cbor_r_map(r, &m);
	while (cbor_r_key(r, &m, &key)) {
		if (key == 1) {
			x->why = (enum sandbox_exit_why)protocol_wire_uint_max(r, SANDBOX_WHY_LOST);
		} else if (key == 2) {
			x->status = (int)cbor_r_int(r);
		} else if (key == 3) {
			x->signal = (int)protocol_wire_uint_max(r, 128);
		} else if (key == 4) {
			x->core = protocol_wire_uint_max(r, 1);
		} else if (key == 5) {
			struct bytes name = cbor_r_bytes(r);
			if (name.len >= sizeof(x->limit))
				cbor_r_fail(r, -EBADMSG);
			else if (name.len > 0)
				memcpy(x->limit, name.data, name.len);
		} else if (key >= 6 && key <= 12) {
			*counts[key - 6] = cbor_r_uint(r);
		} else if (key == 13) {
			x->spool_error = -(int)protocol_wire_uint_max(r, 4095);
		} else if (key == 14) {
			r_denied(r, x);
		} else if (key == 15) {
			x->denied_more = (uint32_t)protocol_wire_uint_max(r, UINT32_MAX);
		} else if (key == 16) {
			x->weaker = (uint32_t)protocol_wire_uint_max(r, UINT32_MAX);
		} else {
			cbor_r_fail(r, -EPROTO);
		}
	}
}

static void copy_text(struct cbor_reader *r, char *ret, size_t size)
{
	struct bytes t = cbor_r_bytes(r);

	if (t.len >= size)
		return cbor_r_fail(r, -EBADMSG);
	if (t.len > 0)
		memcpy(ret, t.data, t.len);
	ret[t.len] = '\0';
}

/* NOT_STARTED and REPLY: why, what errno, where, text. */
static void w_failure(struct buffer *b, uint64_t why, int error, const char *where,
		      const char *text)
{
	struct cbor_map_mark m = cbor_w_map_begin(b);

	protocol_wire_key_uint(b, &m, 1, why);
	protocol_wire_key_uint(b, &m, 2, (uint64_t)-error);
	protocol_wire_key_str(b, &m, 3, where);
	protocol_wire_key_str(b, &m, 4, text);
	cbor_w_map_end(b, &m);
}

static void r_failure(struct cbor_reader *r, uint64_t *ret_why, int *ret_error, char *where,
		      size_t where_size, char *text, size_t text_size)
{
	struct cbor_map_iter m;
	uint64_t key;

	cbor_r_map(r, &m);
	while (cbor_r_key(r, &m, &key)) {
		if (key == 1)
			*ret_why = protocol_wire_uint_max(r, 255);
		else if (key == 2)
			*ret_error = -(int)protocol_wire_uint_max(r, 4095);
		else if (key == 3)
			copy_text(r, where, where_size);
		else if (key == 4)
			copy_text(r, text, text_size);
		else
			cbor_r_fail(r, -EPROTO);
	}
}

int protocol_event_encode(const struct sandbox_event *e, struct buffer *out)
{
	switch (e->type) {
	case SANDBOX_EVENT_STARTED:
	case SANDBOX_EVENT_GONE:
		cbor_w_map(out, 0);
		break;
	case SANDBOX_EVENT_NOT_STARTED:
		w_failure(out, e->not_started.why, e->not_started.error, e->not_started.stage,
			  e->not_started.text);
		break;
	case SANDBOX_EVENT_EXITED:
		w_exit(out, &e->exit);
		break;
	case SANDBOX_EVENT_OUTPUT:
		cbor_w_map(out, 2);
		cbor_w_uint(out, 1);
		cbor_w_uint(out, e->output.stdout_bytes);
		cbor_w_uint(out, 2);
		cbor_w_uint(out, e->output.stderr_bytes);
		break;
	case SANDBOX_EVENT_REPLY:
		w_failure(out, (uint64_t)e->reply.error.exit_status, e->reply.result,
			  e->reply.error.where, e->reply.error.msg);
		break;
	case SANDBOX_EVENT_LAYER:
		return sealer_reply_encode(&e->layer, out);
	case SANDBOX_EVENT_CONNECTION_LOST:
		return -EINVAL;
	}
	return out->failed;
}

static void r_output(struct cbor_reader *r, struct sandbox_event *e)
{
	struct cbor_map_iter m;
	uint64_t key;

	cbor_r_map(r, &m);
	while (cbor_r_key(r, &m, &key)) {
		if (key == 1)
			e->output.stdout_bytes = cbor_r_uint(r);
		else if (key == 2)
			e->output.stderr_bytes = cbor_r_uint(r);
		else
			cbor_r_fail(r, -EPROTO);
	}
}

int protocol_event_decode(enum protocol_type type, struct bytes b, struct sandbox_event *ret)
{
	struct cbor_reader r = cbor_reader(b);
	struct sandbox_event e = {.type = (enum sandbox_event_type)(type - PROTOCOL_EVENT_STARTED +
								    SANDBOX_EVENT_STARTED)};
	struct cbor_map_iter m;
	uint64_t key, why = 0;

	if (type == PROTOCOL_EVENT_STARTED || type == PROTOCOL_EVENT_GONE) {
		cbor_r_map(&r, &m);
		while (cbor_r_key(&r, &m, &key))
			cbor_r_fail(&r, -EPROTO);
	} else if (type == PROTOCOL_EVENT_NOT_STARTED) {
		r_failure(&r, &why, &e.not_started.error, e.not_started.stage,
			  sizeof(e.not_started.stage), e.not_started.text,
			  sizeof(e.not_started.text));
		e.not_started.why = (enum sandbox_not_started_why)why;
	} else if (type == PROTOCOL_EVENT_EXITED) {
		r_exit(&r, &e.exit);
	} else if (type == PROTOCOL_EVENT_OUTPUT) {
		r_output(&r, &e);
	} else if (type == PROTOCOL_EVENT_REPLY) {
		r_failure(&r, &why, &e.reply.result, e.reply.error.where,
			  sizeof(e.reply.error.where), e.reply.error.msg,
			  sizeof(e.reply.error.msg));
		e.reply.error.exit_status = (int)why;
		e.reply.error.code = e.reply.result;
	} else if (type == PROTOCOL_EVENT_LAYER) {
		struct error ignored = {0};
		int failed = sealer_reply_decode(b, &e.layer, &ignored);
		if (failed == 0)
			*ret = e;
		return failed;
	} else {
		return -EPROTO;
	}
	int failed = cbor_r_end(&r);
	if (failed == 0)
		*ret = e;
	return failed;
}
