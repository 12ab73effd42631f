#include "supervisor/engine_client.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct engine_client *engine_client_of(const struct engine_run *r, const struct journal_id *effect)
{
	for (size_t i = 0; i < r->client_count; i++)
		if (journal_id_equal(&r->clients[i].effect, effect))
			return &r->clients[i];
	return NULL;
}

struct engine_client *engine_client_get(struct engine *e, struct engine_run *r,
					const struct journal_id *effect)
{
	struct engine_client *c = engine_client_of(r, effect), *grown;

	if (c)
		return c;
	grown = reallocarray(r->clients, r->client_count + 1, sizeof(*grown));
	if (!grown) {
		e->failed = -ENOMEM;
		return NULL;
	}
	r->clients = grown;
	grown[r->client_count] = (struct engine_client){.effect = *effect};
	return &grown[r->client_count++];
}

void engine_client_drop(struct engine_run *r, const struct journal_id *effect)
{
	struct engine_client *c = engine_client_of(r, effect);

	if (c)
		*c = r->clients[--r->client_count];
}

void engine_client_move(struct engine_client *c, enum engine_client_state to)
{
	static const unsigned legal[] = {
		[ENGINE_CLIENT_UNTOLD] = 1U << ENGINE_CLIENT_TOLD | 1U << ENGINE_CLIENT_TOLD_AGAIN |
					 1U << ENGINE_CLIENT_PROBING,
		[ENGINE_CLIENT_TOLD] = 1U << ENGINE_CLIENT_UNTOLD,
		[ENGINE_CLIENT_TOLD_AGAIN] = 1U << ENGINE_CLIENT_UNTOLD | 1U << ENGINE_CLIENT_TOLD |
					     1U << ENGINE_CLIENT_SPENT,
		[ENGINE_CLIENT_SPENT] = 1U << ENGINE_CLIENT_UNTOLD,
		[ENGINE_CLIENT_PROBING] = 1U << ENGINE_CLIENT_PROBE_UNKNOWN,
		[ENGINE_CLIENT_PROBE_UNKNOWN] = 0,
	};

	assert(legal[c->state] & 1U << to);
	c->state = to;
}

bool engine_client_is_told(const struct engine_client *c)
{
	return c->state == ENGINE_CLIENT_TOLD || c->state == ENGINE_CLIENT_TOLD_AGAIN;
}

void engine_client_in_doubt(struct engine_client *c)
{
	if (engine_client_is_told(c))
		engine_client_move(c, c->state == ENGINE_CLIENT_TOLD ? ENGINE_CLIENT_UNTOLD
								     : ENGINE_CLIENT_SPENT);
}

void engine_client_asks(struct engine_client *c)
{
	if (c->state == ENGINE_CLIENT_TOLD_AGAIN)
		engine_client_move(c, ENGINE_CLIENT_TOLD);
	else if (c->state == ENGINE_CLIENT_SPENT)
		engine_client_move(c, ENGINE_CLIENT_UNTOLD);
}

void engine_client_detach(struct engine_client *c)
{
	c->attached = false;
	if (engine_client_is_told(c) || c->state == ENGINE_CLIENT_SPENT)
		engine_client_move(c, ENGINE_CLIENT_UNTOLD);
}

bool engine_client_attached(const struct engine_run *r, const struct journal_effect *f)
{
	const struct engine_client *c = engine_client_of(r, &f->id);

	return c && c->attached;
}
