/*
 * What a courier is told, as messages of sandbox/report.h: an attempt is its policy and its trust
 * anchors as sealed files, its secrets, read at this moment, and what is left of the run's budgets.
 * A secret is wiped as soon as the message has it. Called by net.c when its state says that somebody
 * hears.
 */
#include "supervisor/net_tell.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "supervisor/effects.h"
#include "supervisor/net.h"
#include "supervisor/net_secret.h"

/* All that must outlive the message that it goes into. */
struct telling {
	struct report_message m;
	struct buffer values[REPORT_SECRETS_MAX];
	char placeholders[REPORT_SECRETS_MAX][NET_PLACEHOLDER_SIZE];
	int fds[1 + REPORT_CAS_MAX];
	size_t fd_count;
};

static void telling_free(struct telling *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < REPORT_SECRETS_MAX; i++)
		net_secret_wipe(&t->values[i]);
	for (size_t i = 0; i < t->fd_count; i++)
		close(t->fds[i]);
	free(t);
}
DEFINE_GUARD(struct telling *, telling_free)

/* One that cannot be read is left out: what needs it is refused, and nothing else. */
static void tell_secrets(struct daemon *d, const struct policy_effective *policy,
			 const struct digest *seed, struct telling *t)
{
	const struct rlimit none = {0, 0};
	struct policy_secret_info s;

	for (size_t i = 0; policy_secret_at(policy, i, &s); i++) {
		struct report_attempt *a = &t->m.attempt;
		struct error err = {0};
		size_t at = a->secret_count;

		/* What no request of the attempt can need is not read, and no courier holds it. */
		if (!policy_secret_named(policy, s.name))
			continue;
		if (at == REPORT_SECRETS_MAX) {
			daemon_log(d, "secret '%s' and those after it are not given: at most %d",
				   s.name, REPORT_SECRETS_MAX);
			return;
		}
		/* from here on this process holds what no core file may */
		(void)setrlimit(RLIMIT_CORE, &none);
		if (net_secret_read(&s, d->options.environment, &t->values[at], &err) < 0) {
			daemon_log(d, "%s: %s", err.where, err.msg);
			net_secret_wipe(&t->values[at]);
			continue;
		}
		net_secret_placeholder(seed, s.name, t->placeholders[at]);
		a->secrets[at].name = bytes_str(s.name);
		a->secrets[at].placeholder = bytes_str(t->placeholders[at]);
		a->secrets[at].value = buffer_bytes(&t->values[at]);
		a->secret_count++;
	}
}

static bool told_already(const struct report_attempt *a, const char *path)
{
	for (size_t i = 0; i < a->ca_count; i++)
		if (bytes_equal(a->cas[i], bytes_str(path)))
			return true;
	return false;
}

static void tell_anchors(struct daemon *d, const struct policy_effective *policy, struct telling *t)
{
	struct report_attempt *a = &t->m.attempt;
	const char *path;

	for (size_t i = 0; (path = policy_ca_at(policy, i)); i++) {
		AUTO_BUFFER content = {0};
		struct stat st;
		if (told_already(a, path))
			continue;
		AUTO_FD fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		int r = fd < 0		       ? -errno
			: fstat(fd, &st) < 0   ? -errno
			: !S_ISREG(st.st_mode) ? -EINVAL
			: a->ca_count == REPORT_CAS_MAX
				? -E2BIG
				: io_read_all(fd, NET_CA_FILE_MAX, &content);
		int copy = r < 0 ? r : io_memfd_sealed("ca", buffer_bytes(&content), false);
		if (copy < 0) { /* its rules connect to nobody */
			daemon_log(d, "trust anchors %s: %s", path, strerror(-copy));
			continue;
		}
		t->fds[t->fd_count++] = copy;
		a->cas[a->ca_count++] = bytes_str(path);
	}
}

static uint64_t left_of(uint64_t limit, uint64_t spent)
{
	return limit == 0 ? UINT64_MAX : limit > spent ? limit - spent : 0;
}

static int tell_budget(struct daemon *d, const struct attempt *a,
		       const struct policy_effective *policy, struct report_attempt *ret)
{
	struct policy_settings s;
	struct net_spent spent = {0};
	int r = 0;

	policy_settings(policy, &s);
	uint64_t egress = s.limits.value[POLICY_LIMIT_EGRESS];
	uint64_t requests = s.limits.value[POLICY_LIMIT_REQUESTS];
	if (egress || requests)
		r = net_spent(d, &a->run, &spent);
	ret->egress_left = left_of(egress, spent.sent);
	ret->requests_left = left_of(requests, spent.requests);
	return r;
}

int net_tell_attempt(struct daemon *d, const struct attempt *a,
		     const struct policy_effective *policy, const struct digest *seed,
		     struct error *err)
{
	AUTO(telling_free) struct telling *t = calloc(1, sizeof(*t));
	AUTO_BUFFER form = {0};

	if (!t)
		return error_nomem(err);
	int r = policy_effective_encode(policy, &form);
	if (r == 0)
		r = io_memfd_sealed("policy", buffer_bytes(&form), false);
	if (r < 0)
		return error_set(err, r, "the step's policy cannot be told: %s", strerror(-r));
	t->fds[t->fd_count++] = r;
	t->m.type = REPORT_ATTEMPT;
	memcpy(t->m.attempt.attempt, a->id.b, sizeof(t->m.attempt.attempt));
	r = tell_budget(d, a, policy, &t->m.attempt);
	if (r < 0)
		return error_set(err, r, "what the run has sent so far cannot be counted: %s",
				 strerror(-r));
	tell_secrets(d, policy, seed, t);
	tell_anchors(d, policy, t);
	r = effects_say(d, &a->run, &t->m, t->fds, t->fd_count);
	return r < 0 ? error_set(err, r, "the courier cannot be told of an attempt: %s",
				 strerror(-r))
		     : 0;
}

int net_tell_attempt_end(struct daemon *d, const struct attempt *a)
{
	struct report_message m = {.type = REPORT_ATTEMPT_END};

	memcpy(m.attempt_end, a->id.b, sizeof(m.attempt_end));
	return effects_say(d, &a->run, &m, NULL, 0);
}

int net_tell_settings(struct daemon *d, const struct journal_id *run)
{
	struct report_message m = {.type = REPORT_SETTINGS};
	AUTO_BUFFER text = {0};

	for (size_t i = 0; i < d->settings->resolver_count; i++)
		buffer_printf(&text, "%s%s", i ? " " : "", d->settings->resolver[i]);
	if (text.failed < 0)
		return text.failed;
	m.settings.resolvers = buffer_bytes(&text);
	return effects_say(d, run, &m, NULL, 0);
}
