#include <errno.h>
#include <sys/socket.h>
#include "sandbox/gate/gate.h"
#include "sandbox/gate/isolate.h"

struct gate_names {
	const struct table *table;
	char **slots[TABLE_ENTRIES_MAX]; /* of wildcards: TABLE_SLOTS each */
};

struct gate_names *gate_names_new(const struct table *t)
{
	struct gate_names *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->table = t;
	for (size_t i = 0; i < t->count; i++) {
		if (t->entries[i].slots == 1)
			continue;
		n->slots[i] = calloc(TABLE_SLOTS, sizeof(char *));
		if (!n->slots[i]) {
			gate_names_free(n);
			return NULL;
		}
	}
	return n;
}

void gate_names_free(struct gate_names *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < TABLE_ENTRIES_MAX; i++) {
		for (size_t j = 0; n->slots[i] && j < TABLE_SLOTS; j++)
			free(n->slots[i][j]);
		free(n->slots[i]);
	}
	free(n);
}

void gate_names_put(struct gate_names *n, uint32_t entry, uint32_t slot, const char *name)
{
	if (entry < n->table->count && n->slots[entry] && slot < TABLE_SLOTS &&
	    !n->slots[entry][slot])
		n->slots[entry][slot] = strdup(name);
}

const char *gate_names_of(const struct gate_names *n, uint32_t entry, uint32_t slot)
{
	if (!n->slots[entry])
		return n->table->entries[entry].host;
	return n->slots[entry][slot];
}

/* The keeper hears of it before anybody resolves to it: a gate that dies now leaves no connection
 * to a name that the next one does not know. */
static int tell_keeper(uint32_t entry, uint32_t slot, const char *name)
{
	struct control_message m = {.type = CONTROL_NAME, .entry = entry, .slot = slot};

	snprintf(m.name, sizeof(m.name), "%s", name);
	if (send(ISOLATE_CONTROL_FD, &m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(m))
		return -EAGAIN;
	return 0;
}

int gate_names_slot(struct gate_names *n, uint32_t entry, const char *name)
{
	char **slots = n->slots[entry];
	char *copy;
	uint32_t free_slot = TABLE_SLOTS;

	if (!slots)
		return 0;
	for (uint32_t i = TABLE_SLOTS; i-- > 0;) {
		if (!slots[i])
			free_slot = i;
		else if (strcmp(slots[i], name) == 0)
			return (int)i;
	}
	if (free_slot == TABLE_SLOTS)
		return -ENOSPC;
	copy = strdup(name);
	if (!copy)
		return -EAGAIN;
	if (tell_keeper(entry, free_slot, name) < 0) {
		free(copy);
		return -EAGAIN;
	}
	slots[free_slot] = copy;
	return (int)free_slot;
}
