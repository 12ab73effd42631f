#include "sandbox/gate/git.h"
#include <errno.h>
#include <stdio.h>
#include "base/guard.h"

static bool ends_with(struct bytes b, const char *tail)
{
	size_t n = strlen(tail);

	return b.len > n && memcmp((const char *)b.data + b.len - n, tail, n) == 0;
}

bool git_recognise(const struct action *a, struct git_where *ret)
{
	static const char refs[] = "/info/refs", fetch[] = "/git-upload-pack",
			  push[] = "/git-receive-pack";
	struct git_where w = {0};

	if (a->kind != ACTION_HTTP || a->port != 443 || !bytes_equal(a->scheme, bytes_str("https")))
		return false;
	if (ends_with(a->path, refs)) {
		w.refs = true;
		w.push = bytes_equal(a->query, bytes_str("service=git-receive-pack"));
		w.path_len = a->path.len - strlen(refs);
		if (!bytes_equal(a->method, bytes_str("GET")) ||
		    (!w.push && !bytes_equal(a->query, bytes_str("service=git-upload-pack"))))
			return false;
	} else if (ends_with(a->path, push)) {
		w.push = true;
		w.path_len = a->path.len - strlen(push);
	} else if (ends_with(a->path, fetch)) {
		w.path_len = a->path.len - strlen(fetch);
	} else {
		return false;
	}
	if (!w.refs && (!bytes_equal(a->method, bytes_str("POST")) || a->query.len))
		return false;
	*ret = w;
	return true;
}

int git_remote(const struct action *a, const struct git_where *w, struct buffer *out)
{
	(void)buffer_append_str(out, "https://");
	(void)buffer_append(out, a->host.data, a->host.len);
	return buffer_append(out, a->path.data, w->path_len);
}

/* ---- pkt-lines ---- */

static int hex_digit(uint8_t c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

int git_pkt(struct bytes *in, enum git_pkt *ret_kind, struct bytes *ret_data)
{
	const uint8_t *s = in->data;
	size_t len = 0;

	if (in->len < 4)
		return -EBADMSG;
	for (int i = 0; i < 4; i++) {
		int d = hex_digit(s[i]);

		if (d < 0)
			return -EBADMSG;
		len = len << 4 | (size_t)d;
	}
	if (len == 0) {
		*ret_kind = GIT_PKT_FLUSH;
		*ret_data = (struct bytes){0};
		len = 4;
	} else if (len < 4 || len > GIT_PKT_MAX || len > in->len) {
		return -EBADMSG;
	} else {
		*ret_kind = GIT_PKT_DATA;
		*ret_data = bytes_of(s + 4, len - 4);
	}
	*in = bytes_of(s + len, in->len - len);
	return 0;
}

/* ---- a push ---- */

static bool take_name(struct bytes *line, size_t len, struct bytes *ret)
{
	const uint8_t *s = line->data;

	if (line->len <= len || s[len] != ' ')
		return false;
	for (size_t i = 0; i < len; i++)
		if (hex_digit(s[i]) < 0 || (s[i] >= 'A' && s[i] <= 'F'))
			return false;
	*ret = bytes_of(s, len);
	*line = bytes_of(s + len + 1, line->len - len - 1);
	return true;
}

/* "old SP new SP ref": names of 40 digits, or of 64. */
static int take_command(struct bytes line, struct action_update *u)
{
	const uint8_t *s = line.data;
	size_t name = line.len > 64 && s[64] == ' ' && s[40] != ' ' ? 64 : 40;

	if (!take_name(&line, name, &u->before) || !take_name(&line, name, &u->after) ||
	    line.len == 0)
		return -EBADMSG;
	s = line.data;
	for (size_t i = 0; i < line.len; i++)
		if (s[i] <= ' ' || s[i] == 0x7f)
			return -EBADMSG;
	u->ref = line;
	return 0;
}

static bool has_word(struct bytes caps, const char *word)
{
	const char *s = caps.data;
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= caps.len; i++)
		if (memcmp(s + i, word, n) == 0 && (i == 0 || s[i - 1] == ' ') &&
		    (i + n == caps.len || s[i + n] == ' '))
			return true;
	return false;
}

static struct bytes without_newline(struct bytes b)
{
	if (b.len && ((const char *)b.data)[b.len - 1] == '\n')
		b.len--;
	return b;
}

static bool begins(struct bytes b, const char *with)
{
	size_t n = strlen(with);

	return b.len >= n && memcmp(b.data, with, n) == 0;
}

/* Splits capabilities off the first command. */
static void take_caps(struct bytes *line, struct git_push *p, bool *ret_options)
{
	const char *nul = memchr(line->data, '\0', line->len);
	struct bytes caps;

	if (!nul)
		return;
	caps = bytes_of(nul + 1, line->len - (size_t)(nul - (const char *)line->data) - 1);
	line->len = (size_t)(nul - (const char *)line->data);
	p->report_status = has_word(caps, "report-status") || has_word(caps, "report-status-v2");
	p->sideband = has_word(caps, "side-band-64k");
	*ret_options = has_word(caps, "push-options");
}

static int take_commands(struct bytes *in, struct git_push *p, bool *ret_options)
{
	bool first = true;

	for (;;) {
		enum git_pkt kind;
		struct bytes line;
		int r = git_pkt(in, &kind, &line);

		if (r < 0 || kind == GIT_PKT_FLUSH)
			return r;
		line = without_newline(line);
		if (begins(line, "shallow "))
			continue;
		if (begins(line, "push-cert"))
			return -EOPNOTSUPP;
		if (first)
			take_caps(&line, p, ret_options);
		first = false;
		line = without_newline(line);
		if (p->count == ACTION_UPDATES_MAX)
			return -E2BIG;
		r = take_command(line, &p->updates[p->count++]);
		if (r < 0)
			return r;
	}
}

int git_push_parse(struct bytes body, struct git_push *ret)
{
	bool options = false;
	int r;

	memset(ret, 0, sizeof(*ret));
	r = take_commands(&body, ret, &options);
	while (r == 0 && options) {
		enum git_pkt kind;
		struct bytes line;

		r = git_pkt(&body, &kind, &line);
		if (kind == GIT_PKT_FLUSH)
			break;
	}
	if (r < 0)
		return r;
	ret->pack = body;
	for (size_t i = 0; i < ret->count; i++)
		for (size_t j = 0; j < i; j++)
			if (bytes_equal(ret->updates[j].ref, ret->updates[i].ref))
				return -EBADMSG;
	git_pack_judge(body, ret->updates, ret->count);
	return 0;
}

/* ---- its refusal ---- */

static void put_pkt(struct buffer *out, struct bytes data)
{
	(void)buffer_printf(out, "%04zx", data.len + 4);
	(void)buffer_append(out, data.data, data.len);
}

int git_push_refusal(const struct git_push *p, const char *why, struct buffer *out)
{
	AUTO_BUFFER report = {0};
	AUTO_BUFFER line = {0};

	(void)buffer_append_str(&line, "unpack ok\n");
	put_pkt(&report, buffer_bytes(&line));
	for (size_t i = 0; i < p->count; i++) {
		buffer_free(&line);
		(void)buffer_append_str(&line, "ng ");
		(void)buffer_append(&line, p->updates[i].ref.data, p->updates[i].ref.len);
		(void)buffer_printf(&line, " %s\n", why);
		put_pkt(&report, buffer_bytes(&line));
	}
	(void)buffer_append_str(&report, "0000");
	if (!p->report_status) {
		(void)buffer_append_str(out, "0000");
	} else if (!p->sideband) {
		(void)buffer_append(out, report.data, report.len);
	} else {
		/* band 1, in pieces that a pkt-line can hold */
		for (size_t at = 0; at < report.len;) {
			size_t n = report.len - at < 65000 ? report.len - at : 65000;

			buffer_free(&line);
			(void)buffer_append_byte(&line, 1);
			(void)buffer_append(&line, report.data + at, n);
			put_pkt(out, buffer_bytes(&line));
			at += n;
		}
		(void)buffer_append_str(out, "0000");
	}
	return report.failed ? report.failed : line.failed ? line.failed : out->failed;
}
