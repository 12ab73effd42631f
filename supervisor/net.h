#pragma once
/*
 * The network of a run: a name table and an authority from its policy, opened at the keeper before
 * the first attempt that may use it; what each sandbox is given of it; what each courier is told.
 * What couriers say is effects.c's.
 *
 * It is opened, and attached to, at the keeper; its states are net.c's. When the channel ends (the
 * courier died) the keeper starts another, which is attached to. It ends when the keeper is lost,
 * or a moment after the run's last attempt: what is suspended holds no process.
 */
#include "supervisor/adopt.h"
#include "supervisor/attempts.h"
#include "supervisor/daemon.h"

enum {
	NET_LINGER_MS = 3000, /* without attempt; the next step may come */
	NET_AGAIN_MS = 50,
	NET_AGAIN_MAX = 100, /* times */
	NET_CA_FILE_MAX = 512 * 1024, /* bytes of a file of trust anchors, and of the system's */
};

/* What the keeper calls a run's network. */
void net_id(const struct journal_id *run, struct sandbox_net_id *ret);

struct nets; /* opaque */
MUST_CHECK int net_new(struct daemon *d, struct nets **ret);
void net_free(struct nets *n); /* accepts NULL */

/* What a sandbox is given. Borrowed until the next turn of the loop, but for env. */
struct net_lend {
	struct sandbox_net_id id; /* zero = no network: its policy names no host */
	const struct sandbox_etc_file *etc;
	size_t etc_count;
	char **env; /* NAME=value, NULL-terminated, owned: they stand in the place of what the step
		     * has by these names */
};
void net_lend_free(struct net_lend *l); /* accepts a zeroed one */
#define AUTO_NET_LEND __attribute__((cleanup(net_lend_free))) struct net_lend

enum { NET_WAITS = 1 };
/* For an attempt that starts: its step's policy names some host or it gets nothing. NET_WAITS: the
 * network is being opened; attempts_again() is called when there is news. *ret only at 0. */
MUST_CHECK int net_take(struct daemon *d, struct attempt *a, const struct plan_step *step,
			struct net_lend *ret, struct error *err);
/* What was sent of the run: plain reads that were told, and every effect that was RESERVED. */
struct net_spent {
	uint64_t sent, requests; /* sent: bytes of bodies */
};
MUST_CHECK int net_spent(struct daemon *d, const struct journal_id *run, struct net_spent *ret);
/* One whose command runs already, of a network that the keeper said it has. */
void net_adopt(struct daemon *d, struct attempt *a);
void net_attempt_over(struct daemon *d, const struct attempt *a);

/* After the hello of a keeper; NULL = there is none. Networks of runs that are over are closed. */
void net_found(struct daemon *d, const struct sandbox_hello *h);
/* Once the engine has recovered, or has been told of what was lost: runs whose couriers can send
 * nothing any more are told to effects.c. */
void net_settle_lost(struct daemon *d);
/* The answer to adopt_net(). fd is taken over; -1 = none. */
void net_answered(struct daemon *d, const struct journal_id *run, enum adopt_net_what what,
		  int result, const struct error *err, int fd);
bool net_any(const struct daemon *d); /* the keeper has one, or is asked for one */
/* Ends those that nobody needs. Between turns of the loop. */
void net_collect(struct daemon *d);
