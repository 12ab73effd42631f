#pragma once
/*
 * The one door of the policy room: parse, check, combine, decide, explain, attenuate
 * (holdfast-policy(5)).
 *
 * PURE: bytes in, structs and bytes out; no file, clock, environment, global or log. Every object
 * is opaque and owned by the caller who made it; strings inside a result are borrowed from the
 * object it was asked of and live as long as it does. Nothing here resolves a symbolic link or
 * looks at a disk: paths are clean absolute paths (policy_path_clean), made so by the caller with
 * openat2(2).
 *
 * Any doubt is a deny: a policy with errors cannot be combined, and policy_decide is total.
 */
#include "base/buffer.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/guard.h"

enum {
	POLICY_BYTES_MAX = 1024 * 1024,
	POLICY_FINDINGS_MAX = 200, /* of one file; past it the last one says so */
	POLICY_LAYERS_MAX = 32, /* files of policy.d count one each */
	POLICY_EXTENDS_DEPTH_MAX = 8,
	POLICY_WHY_MAX = 240,
};

/* Where a rule stands. file is what the caller called it; built-in ones are "builtin:NAME". */
struct policy_place {
	const char *file; /* never NULL; "" = nowhere */
	int line; /* 1-based; 0 = nowhere */
	int column; /* 1-based, in characters */
};

/* ---- findings
 * --------------------------------------------------------------------------------------------- */

enum policy_severity { POLICY_ERROR, POLICY_WARNING };

struct policy_finding {
	struct policy_place at;
	int code; /* 207 is shown as E0207, or W0207 where severity is POLICY_WARNING */
	enum policy_severity severity;
	const char *msg; /* without place and code */
};

struct policy_findings { /* borrowed */
	const struct policy_finding *items;
	size_t count;
	size_t errors; /* how many of them are errors */
};

/* "file:line:column: error[E0207]: message" and a newline, as `holdfast policy check` prints it. */
void policy_finding_print(const struct policy_finding *f, struct buffer *out);

/* The table of codes, for documentation and `policy explain E0207`: i counts from 0; NULL past the
 * end. */
struct policy_code {
	int code;
	enum policy_severity severity;
	const char *meaning;
	const char *remedy;
};
const struct policy_code *policy_code_at(size_t i);

/* ---- one file
 * --------------------------------------------------------------------------------------------- */

struct policy; /* opaque, owned: one file with what it extends */

/* Resolves a name under `extends:` that is no built-in. Fills *ret_text (borrowed until
 * policy_parse returns) and *ret_file, returns 0, or -ENOENT. */
struct policy_lookup {
	int (*find)(void *arg, const char *name, struct bytes *ret_text, const char **ret_file);
	void *arg;
};

/* Parses and checks one file. Returns 0 with *ret set even when the text has errors (they are
 * findings; look at policy_findings()->errors), or -ENOMEM. lookup may be NULL: built-in names
 * only. */
MUST_CHECK int policy_parse(struct bytes text, const char *file, const struct policy_lookup *lookup,
			    struct policy **ret);
void policy_free(struct policy *p); /* accepts NULL */
DEFINE_GUARD(struct policy *, policy_free)
const struct policy_findings *policy_findings(const struct policy *p);
/* Fills *err with the first error's place and text and returns -EINVAL; 0 if the policy has none.
 */
MUST_CHECK int policy_check(const struct policy *p, struct error *err);

/* Text of the built-in policy, or NULL: "base", "offline", "coding". */
const char *policy_builtin_text(const char *name);
const char *policy_builtin_name(size_t i); /* NULL past the end */
/* policy_parse of a built-in; -ENOENT for another name. */
MUST_CHECK int policy_builtin(const char *name, struct policy **ret);

/* ---- values
 * -----------------------------------------------------------------------------------------------
 */

enum policy_verdict { POLICY_ALLOW, POLICY_ASK, POLICY_DENY }; /* in order of strictness */
enum policy_class { POLICY_READ, POLICY_REVERSIBLE, POLICY_UNKNOWN, POLICY_IRREVERSIBLE };
/* 0 is "nothing said"; a higher one may go further without a person. */
enum policy_agency {
	POLICY_AGENCY_UNSET,
	POLICY_OBSERVE,
	POLICY_DRAFT,
	POLICY_ASSIST,
	POLICY_TRUSTED,
	POLICY_AUTONOMOUS,
};
/* A chain: each includes those before it, and two layers meet at the lower one. */
enum policy_access {
	POLICY_ACCESS_NONE, /* masked */
	POLICY_ACCESS_R, /* read */
	POLICY_ACCESS_RX, /* read and execute */
	POLICY_ACCESS_SCRATCH, /* written into the layer, seen by later steps, never lands */
	POLICY_ACCESS_STAGE, /* written into the layer, lands later */
	POLICY_ACCESS_RW, /* written at once, outside the transaction */
};
enum policy_unattended { POLICY_PARK, POLICY_UNATTENDED_DENY };
enum policy_base { POLICY_LIVE, POLICY_PINNED };

const char *policy_verdict_name(enum policy_verdict v);
const char *policy_class_name(enum policy_class c);
const char *policy_agency_name(enum policy_agency a);
const char *policy_access_name(enum policy_access a);
/* POLICY_AGENCY_UNSET if text is none of the five. */
enum policy_agency policy_agency_from(const char *text);

/* The dial: what a level lets happen for a class without anything else being said. */
enum policy_verdict policy_dial(enum policy_agency a, enum policy_class c);
enum policy_files { POLICY_FILES_READ_ONLY, POLICY_FILES_LANDING_ASKS, POLICY_FILES_LANDS };
enum policy_files policy_dial_files(enum policy_agency a);

/* "30m", "1h30m", "250ms" -> milliseconds; "4GiB", "10MB", "512" -> bytes. 0 or -EINVAL, -ERANGE.
 */
MUST_CHECK int policy_duration_parse(struct bytes text, uint64_t *ret_ms);
MUST_CHECK int policy_size_parse(struct bytes text, uint64_t *ret_bytes);

/* ---- layers
 * -----------------------------------------------------------------------------------------------
 */

enum policy_layer {
	POLICY_LAYER_ORG,
	POLICY_LAYER_USER,
	POLICY_LAYER_PROJECT,
	POLICY_LAYER_PROJECT_UNTRUSTED, /* only what it takes away counts */
	POLICY_LAYER_RUN, /* --policy: the user's own word */
	POLICY_LAYER_DEFAULT, /* the built-in that stands in where no layer grants anything */
};
const char *policy_layer_name(enum policy_layer l); /* "org", "user", "project", "project
						       (untrusted)", "run", "default" */

struct policy_input {
	enum policy_layer layer;
	const struct policy *policy;
};

struct policy_effective; /* opaque, owned: what holds for a run, or for one step of it; independent
			    of its inputs */

struct policy_combine {
	const struct policy_input *inputs; /* in any order; at most POLICY_LAYERS_MAX */
	size_t count;
	enum policy_agency agency; /* a person's word on the command line: one more layer;
				      POLICY_AGENCY_UNSET = none */
	enum policy_agency plan_agency; /* a plan's: it only lowers; POLICY_AGENCY_UNSET = none */
	const char *fallback; /* built-in to add where no layer grants ("offline"); NULL = none: all
				 is denied */
	bool lone_ceiling; /* tests and explain of one ceiling by itself: silence of the others is
			      not a deny */
};

/* All layers AND each other. Returns 0, -ENOMEM, -E2BIG (layers), or -EINVAL with *err naming the
 * first error of the first input that has one (then nothing may run). */
MUST_CHECK int policy_combine(const struct policy_combine *c, struct policy_effective **ret,
			      struct error *err);
void policy_effective_free(struct policy_effective *e); /* accepts NULL */
DEFINE_GUARD(struct policy_effective *, policy_effective_free)
/* Parts of the inputs that do not count where they stand (a project's `secrets`, ...): warnings.
 * Not encoded. */
const struct policy_findings *policy_effective_notes(const struct policy_effective *e);

/* What holds for the step called name: the run's, narrowed by every layer's matching `steps:`
 * entries and by agency (POLICY_AGENCY_UNSET = nothing said). -EINVAL with *err where agency is
 * wider than the run's. */
MUST_CHECK int policy_effective_step(const struct policy_effective *run, const char *name,
				     enum policy_agency agency, struct policy_effective **ret,
				     struct error *err);
/* The same policy with a person's later word in the place of what was said at the start, on the
 * command line and in the plan; what layers and their `steps:` say stands. -EPERM, exit DENIED,
 * with *err at its place where a layer allows less than level. */
MUST_CHECK int policy_effective_dial(const struct policy_effective *run, enum policy_agency level,
				     struct policy_effective **ret, struct error *err);
/* Whether any layer has an exec rule that asks a person. */
bool policy_asks_exec(const struct policy_effective *e);
/* The file of the i-th layer as the caller called it, "builtin:NAME" included; NULL past the end. */
const char *policy_effective_file(const struct policy_effective *e, size_t i,
				  enum policy_layer *ret_layer);

/* Canonical CBOR (base/holdfast.cddl, policy-effective). Appends; round trips byte for byte. */
MUST_CHECK int policy_effective_encode(const struct policy_effective *e, struct buffer *out);
/* -EBADMSG, -EPROTO, -E2BIG as cbor_reader; a rule that policy_parse would refuse is refused here
 * too. */
MUST_CHECK int policy_effective_decode(struct bytes canonical, struct policy_effective **ret,
				       struct error *err);
/* SHA-256("holdfast.policy.v1", the canonical form without places and reasons): a moved line or
 * comment keeps it. */
MUST_CHECK int policy_effective_digest(const struct policy_effective *e, struct digest *ret);

/* ---- what a run needs to know
 * ------------------------------------------------------------------------------ */

enum policy_limit {
	POLICY_LIMIT_WALL, /* ms, per attempt */
	POLICY_LIMIT_CPU, /* ms of processor time of all processes of the attempt */
	POLICY_LIMIT_MEMORY, /* bytes */
	POLICY_LIMIT_PIDS, /* processes and threads at a time */
	POLICY_LIMIT_DISK, /* bytes of blocks in the attempt's layer */
	POLICY_LIMIT_FILES, /* files and folders in the attempt's layer */
	POLICY_LIMIT_OUTPUT, /* bytes of stdout and stderr that are kept; the rest is counted */
	POLICY_LIMIT_EGRESS, /* bytes sent, per run */
	POLICY_LIMIT_REQUESTS, /* requests sent, per run */
	POLICY_LIMIT_COUNT,
};
const char *policy_limit_name(enum policy_limit l);

struct policy_limits {
	uint64_t value[POLICY_LIMIT_COUNT]; /* 0 = no limit was stated */
	struct policy_place at[POLICY_LIMIT_COUNT];
	/* Bit policy_limit: the weaker form will do. What is not set must be enforced or the run
	 * refused. */
	uint32_t weaker;
	bool weaker_landlock;
};

enum { POLICY_EXCLUDE_MAX = 64 };

/* Who may vote, by one layer's word: any of these. "uid:N", "group:NAME", "signer:NAME". An empty
 * list is nobody. */
struct policy_role {
	const char *const *any; /* borrowed */
	size_t count;
};

struct policy_settings {
	enum policy_agency agency; /* the minimum; never UNSET */
	struct policy_place agency_at;
	enum policy_unattended unattended;
	enum policy_base base;
	struct policy_limits limits;
	/* Approvals: the strictest of each; milliseconds. */
	uint64_t decide_by_ms;
	uint64_t execute_by_ms;
	uint64_t freeze_ms;
	uint64_t suspend_ms;
	uint32_t quorum;
	bool exclude_starter;
	uint32_t exclude_uids[POLICY_EXCLUDE_MAX];
	size_t exclude_uid_count;
	/* Each layer that says a role: who votes is in all of them. None: whoever may use the
	 * control socket. */
	struct policy_role roles[POLICY_LAYERS_MAX];
	size_t role_count;
	const char *signers; /* path of an allowed-signers file; NULL = votes need no signature */
	bool signers_differ; /* another layer names another file */
	/* notify: the first layer's that says one. */
	const char *const *notify_run;
	size_t notify_run_count;
	bool notify_opened, notify_expiring, notify_decided;
};
void policy_settings(const struct policy_effective *e, struct policy_settings *ret);

/* Whether the variable of that name passes, and what is set besides. Environment entries are
 * "NAME=value". Returns a NULL-terminated, sorted, owned array (free with policy_env_free), or
 * -ENOMEM. A variable that is set wins. One that a secret of any layer comes from never passes. */
MUST_CHECK int policy_env(const struct policy_effective *e, const char *const *environment,
			  char ***ret);
void policy_env_free(char **env);

/* The contract of the i-th layer that has one: compact JSON text, every scalar a string; NULL past
 * the end. */
const char *policy_contract(const struct policy_effective *e, size_t i,
			    struct policy_place *ret_at);

/* ---- files
 * -------------------------------------------------------------------------------------------------
 */

/* What the variables stand for: clean absolute paths; NULL = there is none, entries that use it
 * match nothing. */
struct policy_vars {
	const char *workspace;
	const char *home;
	const char *tmp; /* "/tmp" */
	const char *run; /* "/run/holdfast" */
};

/* True for a path that is absolute, has no empty, "." or ".." component, no trailing slash (but
 * "/"), no NUL, and at most 4095 bytes. */
bool policy_path_clean(struct bytes path);

struct policy_fs; /* opaque, owned: the fs tables of all layers with the variables put in; ask it
		     often */

MUST_CHECK int policy_fs_new(const struct policy_effective *e, const struct policy_vars *vars,
			     struct policy_fs **ret, struct error *err);
void policy_fs_free(struct policy_fs *fs); /* accepts NULL; e must outlive fs */
DEFINE_GUARD(struct policy_fs *, policy_fs_free)

/* The resolved mount table: every path at which the access changes, parents before children. Paths
 * that no entry covers are not there at all. `except` is resolved into entries of its own. Where
 * glob is set, '*' in the last component is to be expanded when the sandbox is built; a name that
 * is also an entry of its own (glob not set) takes that one, which follows. At agency observe
 * nothing is above rx. */
struct policy_mount {
	const char *path;
	enum policy_access access;
	bool glob;
	struct policy_place at; /* of the entry that decided */
	const char *why; /* "" if none is given */
};
/* Where the first rule of a layer stands that grants something and lets no program of the system be
 * executed, mostly since its file extends nothing: then no other layer can. False: no layer is so. */
bool policy_fs_bare(const struct policy_effective *e, struct policy_place *ret);
const struct policy_mount *policy_fs_table(const struct policy_fs *fs, size_t *ret_count);

enum policy_want {
	POLICY_WANT_READ,
	POLICY_WANT_EXEC,
	POLICY_WANT_WRITE, /* create, change or delete inside the sandbox */
	POLICY_WANT_LAND, /* put a file or link (anything but a folder) at this path of the user's
			     directory */
	POLICY_WANT_FOLDER, /* land a folder as such: make it, or change its mode; what is in it is
			       asked path by path */
	POLICY_WANT_REMOVE, /* land a deletion of path with all that is below it (a whiteout, an
			       opaque folder) */
};

enum policy_fs_verdict {
	POLICY_FS_ALLOW,
	POLICY_FS_STAYS, /* landing only: scratch, so it is left out and nothing is wrong */
	POLICY_FS_DENY,
};

struct policy_fs_decision {
	enum policy_fs_verdict verdict;
	enum policy_access access;
	enum policy_layer layer; /* that decided */
	struct policy_place at;
	char why[POLICY_WHY_MAX];
};

/* Decides a clean absolute path; anything else is a deny. For LAND, FOLDER and REMOVE also every
 * twin is refused: a path that differs from a narrower entry only by case, Unicode form, ignorable
 * characters, or trailing dots and spaces. LAND and REMOVE are refused where a narrower entry lies
 * below the path: a file called .git would replace all that .git/hooks protects. */
void policy_fs_decide(const struct policy_fs *fs, struct bytes path, enum policy_want want,
		      struct policy_fs_decision *ret);

/* ---- deciding
 * -----------------------------------------------------------------------------------------------
 */

enum policy_kind {
	POLICY_HTTP,
	POLICY_GIT,
	POLICY_TCP,
	POLICY_TOOL,
	POLICY_PATH_READ,
	POLICY_PATH_WRITE,
	POLICY_EXEC,
};

struct policy_field { /* a tool's argument by name, or a JSON value of the body by its pointer (RFC
			 6901) */
	struct bytes name;
	struct bytes
		value; /* strings as they are; numbers, true, false and null as JSON writes them */
	bool quoted; /* a JSON string: "5" is no number to what allows */
};

struct policy_request {
	enum policy_kind kind;
	struct { /* POLICY_HTTP, and for POLICY_TCP host and port */
		struct bytes method;
		struct bytes scheme; /* "https" or "http" */
		struct bytes host; /* without port; any form: it is put in A-label form here */
		uint16_t port; /* 0 = the scheme's */
		struct bytes path; /* as sent, percent-encoded; "" = "/" */
		struct bytes query; /* without '?' */
		uint64_t body_len;
		bool websocket;
		bool passthrough; /* opaque TLS: method, path, query and body are unknown */
	} http;
	struct { /* POLICY_GIT */
		struct bytes remote; /* https://host/path */
		bool push; /* else fetch */
		struct bytes ref; /* push: the full name; fetch: may be empty */
		bool force;
		bool remove; /* the ref is deleted */
	} git;
	struct bytes tool; /* POLICY_TOOL: its id */
	const struct policy_field
		*fields; /* POLICY_TOOL: all arguments; POLICY_HTTP: the JSON body's values */
	size_t field_count;
	struct bytes path; /* POLICY_PATH_*, and the executable of POLICY_EXEC: clean, absolute */
	const struct bytes *argv; /* POLICY_EXEC */
	size_t argc;
	const struct policy_fs
		*fs; /* POLICY_PATH_*, POLICY_EXEC: of the same effective policy; NULL = deny */
};

/* What one layer said, before the dial. */
struct policy_layer_verdict {
	enum policy_layer layer;
	bool silent; /* it says nothing about this table */
	enum policy_verdict verdict;
	const char *rule; /* id, or "" */
	struct policy_place at;
};

enum policy_decider {
	POLICY_BY_HARD, /* a built-in refusal: an address for a name, a bad host, a broken request
			 */
	POLICY_BY_LAYER, /* the layer's rule, or its having none */
	POLICY_BY_STEP, /* the layer's `steps:` entry */
	POLICY_BY_DIAL, /* agency x class */
	POLICY_BY_NOGRANT, /* no layer grants anything of this kind */
};

struct policy_decision {
	enum policy_verdict verdict;
	enum policy_decider by;
	enum policy_layer layer; /* of the rule below */
	const char *rule; /* id; "" = no rule */
	struct policy_place at;
	bool has_class; /* http, git, tcp, tool */
	enum policy_class class;
	enum policy_agency agency;
	enum policy_verdict dial;
	bool standing; /* the verdict is ask and a `standing` grant of the policy covers this action
			*/
	const char *standing_rule;
	const char *secret; /* name, or "" */
	char why[POLICY_WHY_MAX];
	struct policy_layer_verdict layers[POLICY_LAYERS_MAX];
	size_t layer_count;
};

/* The strictest of: built-in refusals, every layer, the dial, the step. Total: always fills *ret.
 */
void policy_decide(const struct policy_effective *e, const struct policy_request *r,
		   struct policy_decision *ret);

/* After resolution: may the connection that `d` allowed be made to this address (4 or 16 bytes,
 * network order)? POLICY_DENY for loopback, unspecified, private, link-local, CGNAT, multicast,
 * metadata, v4-mapped, NAT64, 6to4 and reserved ranges unless the `address` of the rule that
 * decided covers it. The host's own addresses are the caller's to refuse. */
enum policy_verdict policy_address_decide(const struct policy_effective *e,
					  const struct policy_decision *d, const uint8_t *address,
					  size_t len);

/* ---- what a decision leads to, and what a run will need
 * -------------------------------------------------------------------------------------------------
 */

enum policy_retry_mode { /* in doubt; in order of strictness */
			 POLICY_RETRY_SAFE, /* send again */
			 POLICY_RETRY_KEYED, /* send again with the same idempotency key, inside its
						window */
			 POLICY_RETRY_PROBE, /* ask the tool */
			 POLICY_RETRY_NEVER, /* a person says */
};

/* The rule that a request was decided by. Where rules of several layers cover it, each adds what is
 * stricter: the retry, the smaller body_max and rate, `replay`. Strings are borrowed from e. */
struct policy_rule {
	const char *id;
	struct policy_place at;
	enum policy_layer layer;
	enum policy_verdict verdict; /* the rule's own, before the dial */
	enum policy_class class; /* the decision's */
	enum policy_retry_mode retry; /* unsaid: SAFE for a read, else NEVER */
	const char *key_header; /* KEYED */
	uint64_t window_ms; /* KEYED */
	const char *probe; /* PROBE: id of a tool */
	bool replay;
	const char *const *ignore; /* pointers that the action's identity leaves out */
	size_t ignore_count;
	const char *secret; /* name, or "" */
	const char *card_title; /* NULL = no card */
	size_t card_show_count; /* policy_rule_show */
	const char *card_amount; /* pointer, or NULL */
	const char *card_why_irreversible; /* NULL = unsaid */
	const char *undo_tool, *undo_text; /* NULL = unsaid */
	const char *why; /* "" = unsaid */
	/* net */
	uint64_t rate_count, rate_per_ms, rate_bytes; /* 0 = none */
	uint64_t body_max; /* bytes; UINT64_MAX = unsaid */
	const char *ca; /* path of trust anchors; NULL = the system's */
	const char *address; /* the one IP that is dialled without resolving; NULL = resolve */
	bool addressed; /* an `address` is stated: what it covers may be the host's own */
	bool passthrough;
	/* internal */
	const void *card_show;
};

/* False, and *ret untouched, where no rule decided: then the decision is a deny. */
bool policy_rule_of(const struct policy_effective *e, const struct policy_decision *d,
		    struct policy_rule *ret);
/* i below card_show_count. */
void policy_rule_show(const struct policy_rule *r, size_t i, const char **ret_label,
		      const char **ret_pointer);

/* Whether some ref of the remote could be pushed without being denied, so that its refs may be
 * listed for a push; *ret is one such decision. */
bool policy_push_possible(const struct policy_effective *e, struct bytes remote,
			  struct policy_decision *ret);

/* The part of an A-label that somebody registered ("github.com" of "api.github.com", by the public
 * suffix list): within host. Empty: it is a public suffix itself, or an address. */
struct bytes policy_registrable(struct bytes host);

enum policy_reach_mode {
	POLICY_REACH_TLS, /* https, and git: TLS is inspected */
	POLICY_REACH_HTTP,
	POLICY_REACH_PASSTHROUGH,
	POLICY_REACH_TCP,
};

/* Each host pattern and port that some rule which is no deny names, of the layers that grant;
 * pairs may come twice. i counts from 0; false past the end. */
struct policy_reach {
	const char *host; /* A-label, or "*.name", "**.name" */
	uint16_t port;
	enum policy_reach_mode mode;
	char host_buf[256]; /* where host may point to */
};
bool policy_net_at(const struct policy_effective *e, size_t i, struct policy_reach *ret);
/* Whether some rule that is no deny names the host, in any form. */
bool policy_net_names(const struct policy_effective *e, const char *host);
/* The files that rules name under `ca`; NULL past the end; one may come twice. */
const char *policy_ca_at(const struct policy_effective *e, size_t i);

struct policy_secret_info {
	const char *name;
	struct policy_place at;
	const char *file, *env_from, *credential; /* one of them; the others NULL */
	const char *const *to; /* host patterns */
	size_t to_count;
	const char *header;
	const char *format; /* NULL = "{}" */
	const char *env; /* the variable that holds the placeholder inside; NULL = none */
};
/* Each name once: that of the layer nearest to org. */
bool policy_secret_at(const struct policy_effective *e, size_t i, struct policy_secret_info *ret);
bool policy_secret_find(const struct policy_effective *e, struct bytes name,
			struct policy_secret_info *ret);
/* Whether a net rule that is no deny, and that the step keeps, puts it into a request. */
bool policy_secret_named(const struct policy_effective *e, const char *name);
bool policy_secret_to(const struct policy_secret_info *s, struct bytes host);

struct policy_tool_info {
	const char *id;
	struct policy_place at;
	enum policy_verdict verdict;
	const char *const *run; /* tokens */
	size_t run_count;
	size_t arg_count;
	uint64_t limits[POLICY_LIMIT_COUNT]; /* 0 = unsaid */
	const char *secret; /* name, or "" */
	const char *why; /* "" = unsaid */
	enum policy_layer layer;
};
/* Tools of all layers that grant and do not deny them. */
bool policy_tool_at(const struct policy_effective *e, size_t i, struct policy_tool_info *ret);

struct policy_standing_info {
	const char *rule;
	struct policy_place at;
	uint64_t uses;
	int64_t expires_ns; /* since 1970; a bare date ends with its day, UTC */
	const char *why;
};
bool policy_standing_at(const struct policy_effective *e, size_t i,
			struct policy_standing_info *ret);
/* Whether the i-th covers the request that `d` decided (d->standing says that some does). */
bool policy_standing_covers(const struct policy_effective *e, size_t i,
			    const struct policy_request *r, const struct policy_decision *d);

/* ---- a person's grant ---- */

/* match: one line of JSON, {field: value | glob | {in: [...]} | {max: N} | {min: N}}, as `match` of
 * `standing`: method, host, path, remote, ref, an argument's name, a pointer. -EINVAL with *err. */
MUST_CHECK int policy_grant_parse(const char *rule, struct bytes match, struct policy **ret,
				  struct error *err);
/* Whether it covers the request that `d` decided: the same rule, and every field. */
bool policy_grant_covers(const struct policy *grant, const struct policy_effective *e,
			 const struct policy_request *r, const struct policy_decision *d);

/* ---- words
 * --------------------------------------------------------------------------------------------------
 */

/* A request from its text, as `tests:` and `explain` write it: kind "http" with "POST
 * https://host/path", "git" with "push https://host/repo refs/heads/x [force|delete]", "tcp" with
 * "host:port", "tool" with "ID name=value ...", "read" and "write" with a path, "exec" with "/path
 * arg ...". Variables in paths are put in. Owned; -EINVAL with *err. */
struct policy_question;
MUST_CHECK int policy_question_parse(const char *kind, const char *text,
				     const struct policy_vars *vars, struct policy_question **ret,
				     struct error *err);
void policy_question_free(struct policy_question *q); /* accepts NULL */
DEFINE_GUARD(struct policy_question *, policy_question_free)
/* Decides it; makes the fs table for itself. */
MUST_CHECK int policy_question_decide(const struct policy_question *q,
				      const struct policy_effective *e,
				      const struct policy_vars *vars, struct policy_decision *ret);

enum policy_format { POLICY_TEXT, POLICY_JSON }; /* JSON: one object, no newline at the end */

/* The whole effective policy in words. */
MUST_CHECK int policy_explain(const struct policy_effective *e, const struct policy_vars *vars,
			      enum policy_format format, struct buffer *out);
/* One decision: "deny   decided by ..." and one line of what each layer and the dial said. */
MUST_CHECK int policy_explain_decision(const struct policy_effective *e,
				       const struct policy_decision *d, enum policy_format format,
				       struct buffer *out);

/* What b allows that a could not, a line each; *ret_wider is how many. Sound for what it prints:
 * each line is a request that was decided by both, or a setting that is looser. */
MUST_CHECK int policy_diff(const struct policy *a, const struct policy *b,
			   const struct policy_vars *vars, enum policy_format format,
			   struct buffer *out, size_t *ret_wider);

/* Runs the file's `tests:`. Appends a line (or a JSON object) for each that fails, and for all
 * where verbose. */
MUST_CHECK int policy_test(const struct policy *p, const struct policy_vars *vars,
			   enum policy_format format, bool verbose, struct buffer *out,
			   size_t *ret_run, size_t *ret_failed);

/* ---- drafting ---- */

enum policy_wanted_kind {
	POLICY_WANTED_NAME, /* a host that no rule names: nothing but that is known */
	POLICY_WANTED_HTTP,
	POLICY_WANTED_GIT,
	POLICY_WANTED_TCP,
	POLICY_WANTED_TOOL,
};

/* Requests of one kind that a command made, as far as they are known; NULL and "" = unknown. The
 * bytes are an agent's. */
struct policy_wanted {
	enum policy_wanted_kind kind;
	const char *scheme, *host, *method, *path; /* path: as it is sent, percent-encoded */
	uint16_t port; /* 0 = the scheme's */
	bool cut; /* path is not whole */
	bool websocket;
	const char *remote, *ref; /* GIT */
	bool push, force, remove;
	const char *tool; /* TOOL */
	bool allowed; /* by the policy that was given */
	const char *rule, *secret; /* that allowed it */
	const char *why; /* else */
	uint64_t count;
};

struct policy_draft_words {
	const char *extends; /* a built-in */
	const char *const *head, *const *tail; /* comments, NULL-terminated; NULL = none */
};

struct policy_draft_result {
	size_t rules; /* drafted */
	size_t names; /* of them: for hosts of which only the name is known */
	size_t left_out;
};

/* A policy file that lets the command do what it wanted: GET, HEAD and git fetch as `do: allow,
 * effect: read`, all else as `do: ask`, with exact hosts, paths and refs, and how often each was
 * wanted. Never an irreversible rule, a wildcard, a secret, an address, a tool: what would need one
 * is left out with the reason. It parses without an error. Appends; -ENOMEM. */
MUST_CHECK int policy_draft(const struct policy_wanted *wanted, size_t count,
			    const struct policy_draft_words *words, struct buffer *out,
			    struct policy_draft_result *ret);

/* JSON Schema (2020-12), generated from the parser's own table: policy/policy.schema.json is this
 * text. */
MUST_CHECK int policy_schema(struct buffer *out);

/* Trust: the digest by which a project's file is pinned, and what it would allow, in words, for the
 * person who is asked. */
void policy_trust_digest(struct bytes text, struct digest *ret);
MUST_CHECK int policy_trust_summary(const struct policy *p, struct buffer *out);
