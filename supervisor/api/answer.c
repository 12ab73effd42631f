#include <errno.h>
#include <string.h>

#include "base/escape.h"
#include "base/utf8.h"
#include "supervisor/api/server.h"
#include "supervisor/supervisor.h"

static int status_for(const struct error *err)
{
	if (err->exit_status == EXIT_STATUS_SANDBOX)
		return 503;
	switch (-err->code) {
	case ENOENT:
		return 404;
	case EPERM:
	case EACCES:
		return 403;
	case ESTALE:
	case EEXIST:
	case EBUSY:
	case ENOTUNIQ:
		return 409;
	case E2BIG:
	case EFBIG:
	case EMSGSIZE:
		return 413;
	case EAGAIN:
	case ENOSPC:
	case ECONNREFUSED:
	case ECANCELED:
		return 503;
	case EIO:
	case ENOMEM:
	case EPROTO:
		return 500;
	default:
		return 400;
	}
}

json_t *api_json_text(struct bytes text)
{
	AUTO_FREE char *escaped = NULL;

	if (utf8_valid(text))
		return json_stringn_nocheck(text.data ? text.data : "", text.len);
	escaped = escape_dup(text, ESCAPE_KEEP_NEWLINE);
	return escaped ? json_string(escaped) : NULL;
}

static json_t *text_or_null(const char *s, size_t len)
{
	return len > 0 ? api_json_text(bytes_of(s, len)) : json_null();
}

void api_answer_error(struct api_answer *a, int status, const struct error *err)
{
	const char *msg = err->msg[0] ? err->msg : "failed: no reason was given";
	const char *colon = strstr(msg, ": ");
	const char *why = colon ? colon + 2 : msg + strlen(msg);
	const char *remedy = NULL;
	int exit = err->exit_status ? err->exit_status : EXIT_STATUS_STEP_FAILED;
	size_t what_len = colon ? (size_t)(colon - msg) : strlen(msg);

	for (const char *at = strstr(why, "; "); at; at = strstr(at + 2, "; "))
		remedy = at + 2;
	json_decref(a->json);
	a->json = json_pack("{s:i, s:{s:o, s:o, s:o, s:i, s:o}}", "version", SUPERVISOR_API_VERSION,
			    "error", "what", text_or_null(msg, what_len), "why",
			    text_or_null(why, remedy ? (size_t)(remedy - 2 - why) : strlen(why)),
			    "remedy", text_or_null(remedy, remedy ? strlen(remedy) : 0), "exit",
			    exit, "where", text_or_null(err->where, strlen(err->where)));
	a->status = status ? status : status_for(err);
}
