/* What stands behind a decision, and what a policy names at all: for those who carry decisions out.
 */
#include "policy/model.h"
#include <stdio.h>

static bool is_deny(const struct policy_gated *r)
{
	return r->verdict - 1 == POLICY_DENY;
}

/* ---- the rule of a decision ---- */

static const struct policy_gated *rule_of_layer(const struct policy_stratum *s, const char *id,
						const struct policy_net **ret_net)
{
	const struct policy_net *net = s->body->net.v;
	const struct policy_tool *tools = s->body->tools.v;

	*ret_net = NULL;
	for (size_t i = 0; i < s->body->net.n; i++)
		if (strcmp(net[i].rule.id, id) == 0) {
			*ret_net = &net[i];
			return &net[i].rule;
		}
	for (size_t i = 0; i < s->body->tools.n; i++)
		if (strcmp(tools[i].rule.id, id) == 0)
			return &tools[i].rule;
	return NULL;
}

static void take_retry(const struct policy_retry *from, struct policy_rule *to)
{
	enum policy_retry_mode mode = from->keyed			     ? POLICY_RETRY_KEYED
				      : from->probe			     ? POLICY_RETRY_PROBE
				      : from->mode == POLICY_RETRY_WORD_SAFE ? POLICY_RETRY_SAFE
									     : POLICY_RETRY_NEVER;

	if (mode < to->retry)
		return;
	to->retry = mode;
	to->key_header = from->keyed ? from->keyed->header : NULL;
	to->window_ms = from->keyed ? from->keyed->window.v : 0;
	to->probe = from->probe ? from->probe->tool : NULL;
}

static void take_rate(const struct policy_rate *from, struct policy_rule *to)
{
	uint64_t bytes = from->bytes.set ? from->bytes.v : 0;

	/* Counts stay far below 2^32 and so do periods in ms: the products fit. */
	if (!to->rate_count || from->count.v * to->rate_per_ms < to->rate_count * from->per.v) {
		to->rate_count = from->count.v;
		to->rate_per_ms = from->per.v;
	}
	if (bytes && (!to->rate_bytes || bytes < to->rate_bytes))
		to->rate_bytes = bytes;
}

/* What any rule that covers the request adds. */
static void take_stricter(const struct policy_gated *g, const struct policy_net *n,
			  struct policy_rule *to, bool *retry)
{
	to->replay |= g->replay != 0;
	if (g->retry) {
		if (!*retry)
			to->retry = POLICY_RETRY_SAFE;
		*retry = true;
		take_retry(g->retry, to);
	}
	if (n && n->rate)
		take_rate(n->rate, to);
	if (n && n->http && n->http->body_max.set && n->http->body_max.v < to->body_max)
		to->body_max = n->http->body_max.v;
}

static const char *one_address(const struct policy_net *n)
{
	struct policy_cidr c;

	if (!n->address.set || n->address.n != 1 || strchr(n->address.v[0], '/') ||
	    policy_cidr_parse(n->address.v[0], &c) < 0)
		return NULL;
	return n->address.v[0];
}

static void take_own(const struct policy_gated *g, const struct policy_net *n,
		     struct policy_rule *to)
{
	to->id = g->id;
	to->at = g->item.at;
	to->verdict = (enum policy_verdict)(g->verdict - 1);
	to->ignore = g->ignore.v;
	to->ignore_count = g->ignore.n;
	to->why = g->why ? g->why : "";
	if (g->card) {
		to->card_title = g->card->title;
		to->card_show = g->card->show.v;
		to->card_show_count = g->card->show.n;
		to->card_amount = g->card->amount;
		to->card_why_irreversible = g->card->why_irreversible;
	}
	if (g->undo) {
		to->undo_tool = g->undo->tool;
		to->undo_text = g->undo->text;
	}
	if (n) {
		to->ca = n->ca;
		to->address = one_address(n);
		to->addressed = n->address.set;
		to->passthrough = n->http && n->http->tls == POLICY_TLS_PASSTHROUGH;
	}
}

bool policy_rule_of(const struct policy_effective *e, const struct policy_decision *d,
		    struct policy_rule *ret)
{
	struct policy_rule rule = {
		.class = d->class,
		.layer = d->layer,
		.secret = d->secret,
		.body_max = UINT64_MAX,
		.retry = d->class == POLICY_READ ? POLICY_RETRY_SAFE : POLICY_RETRY_NEVER,
	};
	bool found = false, retry = false;

	if (!d->rule[0] || d->by == POLICY_BY_STEP)
		return false;
	for (size_t i = 0; i < e->count && i < d->layer_count; i++) {
		const struct policy_net *n;
		const struct policy_gated *g = rule_of_layer(&e->layers[i], d->layers[i].rule, &n);

		if (!g)
			continue;
		take_stricter(g, n, &rule, &retry);
		if (!found && d->layers[i].layer == d->layer && strcmp(g->id, d->rule) == 0) {
			take_own(g, n, &rule);
			found = true;
		}
	}
	if (found)
		*ret = rule;
	return found;
}

void policy_rule_show(const struct policy_rule *r, size_t i, const char **ret_label,
		      const char **ret_pointer)
{
	const struct policy_text_item *show = r->card_show;

	*ret_label = show[i].item.name;
	*ret_pointer = show[i].text;
}

/* ---- pushes ---- */

/* A ref that the pattern covers. */
static void sample_ref(const char *pattern, char *buf, size_t size)
{
	size_t i = 0;

	for (; pattern[i] && i + 1 < size; i++)
		buf[i] = pattern[i] == '*' ? 'x' : pattern[i];
	buf[i] = '\0';
}

static bool may_push(const struct policy_effective *e, const struct policy_git *g,
		     struct bytes remote, const char *pattern, struct policy_decision *ret)
{
	char ref[1024];
	struct policy_request r = {.kind = POLICY_GIT, .git = {.remote = remote, .push = true}};

	sample_ref(pattern, ref, sizeof(ref));
	r.git.ref = bytes_str(ref);
	for (unsigned bits = 0; bits < 4; bits++) {
		r.git.force = bits & 1;
		r.git.remove = bits & 2;
		if ((r.git.force && !g->force.v) || (r.git.remove && !g->remove.v))
			continue;
		policy_decide(e, &r, ret);
		if (ret->verdict != POLICY_DENY)
			return true;
	}
	return false;
}

bool policy_push_possible(const struct policy_effective *e, struct bytes remote,
			  struct policy_decision *ret)
{
	static const char *const any[] = {"refs/heads/x"};
	char normal[POLICY_REMOTE_MAX];

	if (policy_remote_normal(remote, normal) < 0)
		return false;
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_net *n = e->layers[i].body->net.v;

		for (size_t j = 0; j < e->layers[i].body->net.n; j++) {
			const struct policy_git *g = n[j].git;
			const char *const *refs = g && g->refs.set ? g->refs.v : any;
			size_t count = g && g->refs.set ? g->refs.n : 1;

			if (!g || g->op != POLICY_GIT_PUSH || is_deny(&n[j].rule) ||
			    !policy_remote_match(g->remote, normal))
				continue;
			for (size_t k = 0; k < count; k++)
				if (may_push(e, g, remote, refs[k], ret))
					return true;
		}
	}
	return false;
}

/* ---- what is named at all ---- */

static bool counts(const struct policy_effective *e, const struct policy_stratum *s)
{
	return policy_stratum_grants(s) || e->lone;
}

static bool http_reach(const struct policy_http *h, size_t i, struct policy_reach *ret)
{
	bool plain = h->scheme == POLICY_SCHEME_HTTP;

	if (i >= h->host.n)
		return false;
	ret->host = h->host.v[i];
	ret->port = h->port.set ? (uint16_t)h->port.v : plain ? 80 : 443;
	ret->mode = plain			       ? POLICY_REACH_HTTP
		    : h->tls == POLICY_TLS_PASSTHROUGH ? POLICY_REACH_PASSTHROUGH
						       : POLICY_REACH_TLS;
	return true;
}

/* False where the rule names fewer than i + 1. */
static bool net_reach(const struct policy_net *n, size_t i, struct policy_reach *ret)
{
	char remote[POLICY_REMOTE_MAX];

	if (n->http)
		return http_reach(n->http, i, ret);
	if (i > 0)
		return false;
	if (n->tcp) {
		ret->host = n->tcp->host;
		ret->port = (uint16_t)n->tcp->port.v;
		ret->mode = POLICY_REACH_TCP;
		return true;
	}
	if (!n->git || policy_remote_normal(bytes_str(n->git->remote), remote) < 0)
		return false;
	/* policy_remote_normal leaves scheme, host, path and nothing else */
	snprintf(ret->host_buf, sizeof(ret->host_buf), "%.*s",
		 (int)strcspn(remote + strlen("https://"), "/"), remote + strlen("https://"));
	ret->host = ret->host_buf;
	ret->port = 443;
	ret->mode = POLICY_REACH_TLS;
	return true;
}

bool policy_net_at(const struct policy_effective *e, size_t i, struct policy_reach *ret)
{
	for (size_t l = 0; l < e->count; l++) {
		const struct policy_net *n = e->layers[l].body->net.v;

		for (size_t j = 0; counts(e, &e->layers[l]) && j < e->layers[l].body->net.n; j++)
			for (size_t k = 0; !is_deny(&n[j].rule) && net_reach(&n[j], k, ret); k++)
				if (i-- == 0)
					return true;
	}
	return false;
}

bool policy_net_names(const struct policy_effective *e, const char *host)
{
	struct policy_reach reach;
	char normal[POLICY_HOST_MAX];

	if (policy_host_normal(bytes_str(host), normal) < 0)
		return false;
	for (size_t i = 0; policy_net_at(e, i, &reach); i++)
		if (policy_host_match(reach.host, normal))
			return true;
	return false;
}

const char *policy_effective_file(const struct policy_effective *e, size_t i,
				  enum policy_layer *ret_layer)
{
	if (i >= e->count)
		return NULL;
	*ret_layer = (enum policy_layer)(e->layers[i].layer - 1);
	return e->layers[i].item.at.file;
}

const char *policy_ca_at(const struct policy_effective *e, size_t i)
{
	for (size_t l = 0; l < e->count; l++) {
		const struct policy_net *n = e->layers[l].body->net.v;

		for (size_t j = 0; j < e->layers[l].body->net.n; j++)
			if (n[j].ca && i-- == 0)
				return n[j].ca;
	}
	return NULL;
}

/* ---- secrets ---- */

static void fill_secret(const struct policy_secret *s, struct policy_secret_info *ret)
{
	*ret = (struct policy_secret_info){
		.name = s->item.name,
		.at = s->item.at,
		.file = s->from->file,
		.env_from = s->from->env,
		.credential = s->from->credential,
		.to = s->to.v,
		.to_count = s->to.n,
		.header = s->header,
		.format = s->format,
		.env = s->env,
	};
}

/* A name of an earlier layer hides the same of a later one. */
static bool hidden(const struct policy_effective *e, size_t layer, const char *name)
{
	for (size_t l = 0; l < layer; l++) {
		const struct policy_secret *s = e->layers[l].body->secrets.v;

		for (size_t j = 0; j < e->layers[l].body->secrets.n; j++)
			if (strcmp(s[j].item.name, name) == 0)
				return true;
	}
	return false;
}

bool policy_secret_at(const struct policy_effective *e, size_t i, struct policy_secret_info *ret)
{
	for (size_t l = 0; l < e->count; l++) {
		const struct policy_secret *s = e->layers[l].body->secrets.v;

		for (size_t j = 0; j < e->layers[l].body->secrets.n; j++)
			if (!hidden(e, l, s[j].item.name) && i-- == 0) {
				fill_secret(&s[j], ret);
				return true;
			}
	}
	return false;
}

bool policy_secret_find(const struct policy_effective *e, struct bytes name,
			struct policy_secret_info *ret)
{
	struct policy_secret_info s;

	for (size_t i = 0; policy_secret_at(e, i, &s); i++)
		if (bytes_equal(name, bytes_str(s.name))) {
			*ret = s;
			return true;
		}
	return false;
}

/* What `use` leaves of a layer's own rules; that others narrow further is theirs to decide. */
static bool is_kept(const struct policy_effective *e, const struct policy_stratum *s,
		    const char *id)
{
	const struct policy_step *steps = s->body->steps.v;

	for (size_t i = 0; i < s->body->steps.n; i++) {
		bool kept = !steps[i].use.set || !policy_step_applies(e, &steps[i]);

		for (size_t j = 0; !kept && j < steps[i].use.n; j++)
			kept = strcmp(steps[i].use.v[j], id) == 0;
		if (!kept)
			return false;
	}
	return true;
}

bool policy_secret_named(const struct policy_effective *e, const char *name)
{
	for (size_t l = 0; l < e->count; l++) {
		const struct policy_net *n = e->layers[l].body->net.v;

		for (size_t j = 0; j < e->layers[l].body->net.n; j++)
			if (n[j].rule.secret && strcmp(n[j].rule.secret, name) == 0 &&
			    !is_deny(&n[j].rule) && is_kept(e, &e->layers[l], n[j].rule.id))
				return true;
	}
	return false;
}

bool policy_secret_to(const struct policy_secret_info *s, struct bytes host)
{
	char normal[POLICY_HOST_MAX];

	if (policy_host_normal(host, normal) < 0)
		return false;
	for (size_t i = 0; i < s->to_count; i++)
		if (policy_host_match(s->to[i], normal))
			return true;
	return false;
}

/* ---- tools and standing grants ---- */

bool policy_tool_at(const struct policy_effective *e, size_t i, struct policy_tool_info *ret)
{
	for (size_t l = 0; l < e->count; l++) {
		const struct policy_tool *t = e->layers[l].body->tools.v;

		for (size_t j = 0; counts(e, &e->layers[l]) && j < e->layers[l].body->tools.n;
		     j++) {
			const struct policy_gated *g = &t[j].rule;

			if (is_deny(g) || i-- != 0)
				continue;
			*ret = (struct policy_tool_info){
				.id = g->id,
				.at = g->item.at,
				.verdict = (enum policy_verdict)(g->verdict - 1),
				.run = t[j].run.v,
				.run_count = t[j].run.n,
				.arg_count = t[j].args.n,
				.secret = g->secret ? g->secret : "",
				.why = g->why ? g->why : "",
				.layer = (enum policy_layer)(e->layers[l].layer - 1),
			};
			for (int k = 0; t[j].limits && k < POLICY_LIMIT_COUNT; k++)
				if (t[j].limits->v[k].set)
					ret->limits[k] = t[j].limits->v[k].v;
			return true;
		}
	}
	return false;
}

static int64_t number(const char *s, size_t digits)
{
	int64_t v = 0;

	for (size_t i = 0; i < digits; i++)
		v = v * 10 + (s[i] - '0');
	return v;
}

/* Of a text that policy_value_date took. Days by the civil calendar (H. Hinnant,
 * "chrono-Compatible Low-Level Date Algorithms"). */
static int64_t date_ns(const char *s)
{
	int64_t y = number(s, 4), m = number(s + 5, 2), d = number(s + 8, 2), era, of_era, seconds;

	y -= m <= 2;
	era = y / 400;
	of_era = (y - era * 400) * 365 + (y - era * 400) / 4 - (y - era * 400) / 100 +
		 (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	seconds = (era * 146097 + of_era - 719468) * 86400;
	seconds += s[10] == 'T'
			   ? number(s + 11, 2) * 3600 + number(s + 14, 2) * 60 + number(s + 17, 2)
			   : 86400;
	/* Past the year 2262 there are no nanoseconds. */
	return seconds > INT64_MAX / 1000000000 ? INT64_MAX : seconds * 1000000000;
}

static const struct policy_standing *standing_at(const struct policy_effective *e, size_t i)
{
	for (size_t l = 0; l < e->count; l++) {
		const struct policy_standing *st = e->layers[l].body->standing.v;

		if (i < e->layers[l].body->standing.n)
			return &st[i];
		i -= e->layers[l].body->standing.n;
	}
	return NULL;
}

bool policy_standing_at(const struct policy_effective *e, size_t i,
			struct policy_standing_info *ret)
{
	const struct policy_standing *st = standing_at(e, i);

	if (!st)
		return false;
	*ret = (struct policy_standing_info){
		.rule = st->rule,
		.at = st->item.at,
		.uses = st->uses.v,
		.expires_ns = date_ns(st->expires),
		.why = st->why ? st->why : "",
	};
	return true;
}

bool policy_standing_covers(const struct policy_effective *e, size_t i,
			    const struct policy_request *r, const struct policy_decision *d)
{
	const struct policy_standing *st = standing_at(e, i);

	return st && policy_standing_matches(e, st, r, d);
}
