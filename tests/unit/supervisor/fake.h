#pragma once
/*
 * A daemon, a keeper and a journal that live in memory, for tests of the engine: records are folded
 * as journal_append() does and kept as encoded batches; commands are kept until a test answers
 * them.
 *
 * A crash is between two records of an input: the whole batch of that input is lost (one
 * WriteBatch), commands that did not wait for the sync and were issued before it were performed,
 * everything else was not. The keeper lives on. A power cut also loses the batches after the last
 * synced one, and the keeper.
 */
#include "journal/journal.h"
#include "supervisor/engine.h"
#include "supervisor/status.h"

enum { FAKE_COMMANDS_MAX = 256, FAKE_ATTEMPTS_MAX = 256 };

struct fake_command {
	struct engine_command c; /* borrowed members are cleared */
	char spec_name[129];
	size_t stack_count;
	char stack[64][JOURNAL_LAYER_NAME_SIZE];
	char feedback[64];
	uint64_t batch; /* after_sync: not performed before this batch is kept */
};

struct fake_attempt { /* what the keeper holds */
	struct journal_id id, run;
	uint32_t step;
	bool live, told_live, killed;
	bool ended; /* and its record is kept until forgotten */
	struct engine_ended end;
};

struct fake_batch {
	size_t first, count; /* records */
	bool synced;
};

struct fake {
	struct journal_state *rows;
	struct engine *e;
	struct engine_limits limits;
	struct engine_rules rules;
	uint8_t program; /* first byte of the digest of every program; 0 = the engine is told of
			    none (from the next start on), UINT8_MAX = none is found */
	const char *asked; /* the program that a policy asks about */
	bool has_rules;
	int rules_error; /* negative errno: they cannot be read */
	int64_t wall_ns, mono_ns;
	uint8_t boot_id[16];
	uint64_t ids, layers;
	struct {
		struct digest d;
		char *data;
		size_t len;
	} * blobs;
	size_t blob_count;
	struct {
		char *data;
		size_t len;
		enum journal_type type;
		struct journal_id run;
		uint32_t step;
	} * log;
	size_t log_count, kept; /* kept: records of finished batches */
	struct fake_batch *batches;
	size_t batch_count;
	struct fake_command commands[FAKE_COMMANDS_MAX];
	size_t command_count, command_base; /* base: commands before this input */
	struct fake_attempt attempts[FAKE_ATTEMPTS_MAX];
	size_t attempt_count;
	/* Die at the nth record from now; 0 = never. */
	size_t die_after;
	bool dying;
	/* Looks at every record and command, before it is performed. */
	void (*on_record)(struct fake *f, const struct journal_record *r);
	void (*on_command)(struct fake *f, const struct engine_command *c);
	void *arg;
};

void fake_init(struct fake *f);
void fake_free(struct fake *f);
struct engine_now fake_now(struct fake *f);
/* Ends the batch of the input before. False: it died in it; call fake_restart or fake_power_cut. */
bool fake_flush(struct fake *f);
/* The supervisor is started again: rows from the log, a new engine, what the keeper has. start as
 * engine_recover. */
void fake_restart(struct fake *f, bool start);
/* keep: how many batches after the last synced one survive. */
void fake_power_cut(struct fake *f, size_t keep, bool start);
struct digest fake_blob(struct fake *f, const char *text);
struct digest fake_blob_bytes(struct fake *f, struct bytes content);
void fake_blob_get(struct fake *f, const struct digest *d, struct buffer *out);
void fake_create(struct fake *f, const char *plan_yaml, struct engine_run_request *q);
/* Takes the first command of that kind out; false if there is none. */
bool fake_take(struct fake *f, enum engine_command_kind kind, struct fake_command *ret);
void fake_take_at(struct fake *f, size_t i, struct fake_command *ret);
struct fake_attempt *fake_attempt(struct fake *f, const struct journal_id *id);
void fake_attempt_drop(struct fake *f, struct fake_attempt *a);
const struct journal_run *fake_run(struct fake *f, const struct journal_id *id);
const struct journal_step *fake_step(struct fake *f, const struct journal_id *run,
				     const char *name);
/* How many records of this type were kept for the run. */
size_t fake_count(const struct fake *f, const struct journal_id *run, enum journal_type type);
/* The canonical rows, and those of a replay of all kept records: equal, or it fails the test; and
 * fake_check_status() of all runs. */
void fake_check_replay(struct fake *f);
/* Each open item of its status names a record that is there, of the type and step that it says. */
void fake_check_status(struct fake *f, const struct journal_run *run);
const struct journal_approval *fake_open_item(struct fake *f, const struct journal_id *run,
					      enum journal_approval_kind kind);
/* A conflicts blob as landing writes it, with these paths (NULL-terminated). */
struct digest fake_conflicts(struct fake *f, const char *const *paths);
#define FAKE_FAIL(...)                                          \
	do {                                                    \
		fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
		fprintf(stderr, __VA_ARGS__);                   \
		fprintf(stderr, "\n");                          \
		abort();                                        \
	} while (0)
