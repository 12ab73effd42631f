#include "supervisor/api/request.h"
#include "base/hex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Decoded once; NUL and bad escapes are refused. NULL when refused or out of memory. */
static char *percent_decode(const char *s, size_t len)
{
	char *out = malloc(len + 1);
	size_t n = 0;

	if (!out)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)s[i];

		if (c == '%') {
			int high = len - i > 2 ? hex_digit((uint8_t)s[i + 1]) : -1;
			int low = len - i > 2 ? hex_digit((uint8_t)s[i + 2]) : -1;

			c = high < 0 || low < 0 ? -1 : high * 16 + low;
			i += 2;
		}
		if (c <= 0) {
			free(out);
			return NULL;
		}
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return out;
}

static int bad(int *ret_status, int status, struct error *err, const char *text)
{
	*ret_status = status;
	return error_set_exit(err, -EBADMSG, EXIT_STATUS_USAGE, "%s", text);
}

static int parse_path(struct api_request *q, const char *path, size_t len, int *ret_status,
		      struct error *err)
{
	const char *end = path + len;

	if (len == 0 || path[0] != '/')
		return bad(ret_status, 400, err,
			   "bad request: the target is not a path; send one that starts with /v1/");
	path++;
	while (path < end) {
		const char *slash = memchr(path, '/', (size_t)(end - path));
		const char *stop = slash ? slash : end;
		char *segment;

		if (q->segment_count == API_SEGMENTS_MAX)
			return bad(ret_status, 404, err,
				   "not found: the path has too many parts; see supervisor.h");
		segment = percent_decode(path, (size_t)(stop - path));
		if (!segment)
			return bad(
				ret_status, 400, err,
				"bad request: the path has a bad percent escape; encode it again");
		q->segments[q->segment_count++] = segment;
		path = slash ? slash + 1 : end;
	}
	return 0;
}

static int parse_query(struct api_request *q, const char *at, const char *end, int *ret_status,
		       struct error *err)
{
	while (at < end) {
		const char *amp = memchr(at, '&', (size_t)(end - at));
		const char *stop = amp ? amp : end;
		const char *equals = memchr(at, '=', (size_t)(stop - at));

		if (q->query_count == API_QUERY_MAX)
			return bad(ret_status, 400, err,
				   "bad request: too many query parameters; see supervisor.h");
		q->query[q->query_count].key =
			percent_decode(at, (size_t)((equals ? equals : stop) - at));
		q->query[q->query_count].value =
			equals ? percent_decode(equals + 1, (size_t)(stop - equals - 1))
			       : strdup("");
		q->query_count++;
		if (!q->query[q->query_count - 1].key || !q->query[q->query_count - 1].value)
			return bad(
				ret_status, 400, err,
				"bad request: the query has a bad percent escape; encode it again");
		at = amp ? amp + 1 : end;
	}
	return 0;
}

static bool name_ok(const char *s, size_t len)
{
	if (len == 0 || len >= API_FD_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '-'))
			return false;
	return true;
}

/* "Holdfast-Fds: workspace,plan": as many names as descriptors came, each once. */
static int parse_fds(struct api_request *q, const struct http1_message *m, int *ret_status,
		     struct error *err)
{
	static const char mismatch[] = "bad request: Holdfast-Fds does not name the descriptors "
				       "that came; name each once, in order";
	const struct http1_header *h = http1_header_find(m, "Holdfast-Fds");
	struct bytes left = h ? h->value : bytes_of(NULL, 0);
	size_t n = 0;

	while (left.len > 0) {
		const char *at = left.data;
		const char *comma = memchr(at, ',', left.len);
		size_t len = comma ? (size_t)(comma - at) : left.len;

		if (n == q->fd_count || !name_ok(at, len))
			return bad(ret_status, 400, err, mismatch);
		memcpy(q->fds[n].name, at, len);
		q->fds[n].name[len] = '\0';
		for (size_t i = 0; i < n; i++)
			if (strcmp(q->fds[i].name, q->fds[n].name) == 0)
				return bad(ret_status, 400, err, mismatch);
		n++;
		if (comma && len + 1 == left.len)
			return bad(ret_status, 400, err, mismatch);
		left = comma ? bytes_of(comma + 1, left.len - len - 1) : bytes_of(NULL, 0);
	}
	return n == q->fd_count ? 0 : bad(ret_status, 400, err, mismatch);
}

static int parse_request_id(struct api_request *q, const struct http1_message *m, int *ret_status,
			    struct error *err)
{
	const struct http1_header *h = http1_header_find(m, "Holdfast-Request");

	if (!h && q->post)
		return bad(ret_status, 400, err,
			   "bad request: Holdfast-Request is missing; send an id of your own, so "
			   "that a repeated request is safe");
	if (!h)
		return 0;
	if (h->value.len == 0 || h->value.len > API_REQUEST_ID_MAX)
		return bad(ret_status, 400, err,
			   "bad request: Holdfast-Request is empty or longer than 64 bytes");
	memcpy(q->request_id, h->value.data, h->value.len);
	q->request_id[h->value.len] = '\0';
	return 0;
}

int api_request_head(struct api_request *q, const struct http1_message *m, const int *fds,
		     size_t fd_count, int *ret_status, struct error *err)
{
	const char *target = m->target.data;
	const char *mark = memchr(target, '?', m->target.len);
	size_t path_len = mark ? (size_t)(mark - target) : m->target.len;
	int r;

	for (size_t i = 0; i < fd_count; i++)
		q->fds[i].fd = fds[i];
	q->fd_count = fd_count;

	q->post = bytes_equal(m->method, bytes_str("POST"));
	if (!q->post && !bytes_equal(m->method, bytes_str("GET")))
		return bad(ret_status, 405, err, "no such method: only GET and POST are served");
	r = parse_path(q, target, path_len, ret_status, err);
	if (r == 0 && mark)
		r = parse_query(q, mark + 1, target + m->target.len, ret_status, err);
	if (r == 0)
		r = parse_fds(q, m, ret_status, err);
	if (r == 0)
		r = parse_request_id(q, m, ret_status, err);
	return r;
}

int api_request_body(struct api_request *q, struct bytes body, int *ret_status, struct error *err)
{
	json_error_t why;

	if (body.len == 0)
		return 0;
	q->body = json_loadb(body.data, body.len, JSON_REJECT_DUPLICATES, &why);
	if (!q->body) {
		*ret_status = 400;
		return error_set_exit(err, -EBADMSG, EXIT_STATUS_USAGE,
				      "bad request: the body is not JSON: %s (line %d, column %d)",
				      why.text, why.line, why.column);
	}
	if (!json_is_object(q->body))
		return bad(ret_status, 400, err,
			   "bad request: the body is JSON, but not an object");
	return 0;
}

void api_request_clear(struct api_request *q)
{
	for (size_t i = 0; i < q->segment_count; i++)
		free(q->segments[i]);
	for (size_t i = 0; i < q->query_count; i++) {
		free(q->query[i].key);
		free(q->query[i].value);
	}
	for (size_t i = 0; i < q->fd_count; i++)
		close_fd(&q->fds[i].fd);
	json_decref(q->body);
	*q = (struct api_request){0};
}

const char *api_request_query(const struct api_request *q, const char *key)
{
	for (size_t i = 0; i < q->query_count; i++)
		if (strcmp(q->query[i].key, key) == 0)
			return q->query[i].value;
	return NULL;
}

int api_request_fd(const struct api_request *q, const char *name)
{
	for (size_t i = 0; i < q->fd_count; i++)
		if (strcmp(q->fds[i].name, name) == 0)
			return q->fds[i].fd;
	return -1;
}
