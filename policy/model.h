#pragma once
/*
 * The inside of the policy room: what a policy file is once it is read, and the one table of keys
 * that the parser, the canonical form, the schema and "did you mean" are all driven by. Only
 * policy/ includes this.
 */
#include "base/cbor.h"
#include "base/yaml.h"
#include "policy/policy.h"

/* ---- memory: everything of one policy lives and dies together
 * ------------------------------------------------ */

struct policy_arena {
	struct policy_block *blocks; /* newest first */
	bool failed; /* sticks: allocate much, look once */
};
void *policy_arena_alloc(struct policy_arena *a, size_t size); /* zeroed; NULL when out of memory */
/* Grows an array of items that the arena gave (the old one is left behind); n is the count it holds
 * now. */
void *policy_arena_push(struct policy_arena *a, void *items, size_t n, size_t item_size);
const char *policy_arena_text(struct policy_arena *a, struct bytes text); /* NUL-terminated copy */
const char *policy_arena_printf(struct policy_arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
void policy_arena_free(struct policy_arena *a);

/* ---- values
 * ----------------------------------------------------------------------------------------------------
 */

/* A word of a list of words is stored as its index plus 1; 0 = the key is not there. */
struct policy_num {
	bool set;
	uint64_t v;
};

struct policy_strs {
	bool set; /* an empty list that was written is set */
	const char **v;
	size_t n;
};

struct policy_list { /* items of one table, each beginning with struct policy_item */
	bool set;
	void *v;
	size_t n;
};

struct policy_item { /* the head of every struct of a table */
	struct policy_place at;
	const char *name; /* items of a mapping by name; else NULL */
};

enum policy_match_kind { POLICY_MATCH_GLOB, POLICY_MATCH_IN, POLICY_MATCH_MAX, POLICY_MATCH_MIN };

struct policy_match {
	struct policy_item item; /* name: the argument, pointer or field in a mapping of matches */
	enum policy_match_kind kind;
	struct policy_strs values; /* GLOB: one pattern; IN: literals */
	int64_t bound; /* MAX, MIN */
};

/* ---- the file
 * --------------------------------------------------------------------------------------------------
 */

struct policy_fs_rule {
	struct policy_item item;
	const char *path;
	int access; /* enum policy_access + 1 */
	struct policy_strs except;
	const char *why;
};

struct policy_exec_rule {
	struct policy_item item;
	int verdict; /* enum policy_verdict + 1 */
	const char *path;
	struct policy_list argv; /* policy_match: GLOB with one literal, or IN */
	const char *why;
};

struct policy_env_rule {
	struct policy_item item;
	struct policy_strs keep;
	struct policy_list set; /* policy_text_item */
};

struct policy_text_item {
	struct policy_item item; /* name */
	const char *text;
};

enum policy_scheme { POLICY_SCHEME_UNSET, POLICY_SCHEME_HTTPS, POLICY_SCHEME_HTTP };
enum policy_tls { POLICY_TLS_UNSET, POLICY_TLS_INSPECT, POLICY_TLS_PASSTHROUGH };

struct policy_http {
	struct policy_item item;
	int scheme; /* enum policy_scheme */
	struct policy_strs host;
	struct policy_num port;
	struct policy_strs method;
	struct policy_strs path;
	struct policy_num query_max;
	struct policy_num body_max;
	struct policy_list json; /* policy_match, named by pointer */
	int tls; /* enum policy_tls */
};

enum policy_git_op { POLICY_GIT_UNSET, POLICY_GIT_FETCH, POLICY_GIT_PUSH };

struct policy_git {
	struct policy_item item;
	const char *remote;
	int op; /* enum policy_git_op */
	struct policy_strs refs;
	struct policy_num force; /* 0 or 1 */
	struct policy_num remove;
};

struct policy_tcp {
	struct policy_item item;
	const char *host;
	struct policy_num port;
};

struct policy_undo {
	struct policy_item item;
	const char *tool;
	const char *text;
};

struct policy_keyed {
	struct policy_item item;
	const char *header;
	struct policy_num window; /* ms */
};

struct policy_probe {
	struct policy_item item;
	const char *tool;
};

enum policy_retry_word { POLICY_RETRY_WORD_UNSET, POLICY_RETRY_WORD_SAFE, POLICY_RETRY_WORD_NEVER };

struct policy_retry {
	struct policy_item item;
	int mode; /* enum policy_retry_word, where it is a plain word */
	struct policy_keyed *keyed;
	struct policy_probe *probe;
};

struct policy_card {
	struct policy_item item;
	const char *title;
	struct policy_list show; /* policy_text_item: label, pointer */
	const char *amount;
	const char *why_irreversible;
};

struct policy_rate {
	struct policy_item item;
	struct policy_num count;
	struct policy_num per; /* ms */
	struct policy_num bytes;
};

struct policy_limits_rule {
	struct policy_item item;
	struct policy_num v[POLICY_LIMIT_COUNT];
};

enum policy_effect {
	POLICY_EFFECT_UNSET, /* by the method, else unknown */
	POLICY_EFFECT_READ,
	POLICY_EFFECT_REVERSIBLE,
	POLICY_EFFECT_IRREVERSIBLE,
};

/* What net and tool rules share; first in both, so that deciding reads them alike. */
struct policy_gated {
	struct policy_item item;
	const char *id;
	int verdict; /* enum policy_verdict + 1 */
	int effect; /* enum policy_effect */
	struct policy_undo *undo;
	struct policy_retry *retry;
	int replay; /* 1 = yes */
	struct policy_strs ignore;
	const char *secret;
	struct policy_card *card;
	const char *why;
};

struct policy_net {
	struct policy_gated rule;
	struct policy_http *http;
	struct policy_git *git;
	struct policy_tcp *tcp;
	struct policy_rate *rate;
	struct policy_list except; /* policy_http */
	struct policy_strs address;
	const char *ca;
};

struct policy_tool {
	struct policy_gated rule;
	struct policy_strs run;
	struct policy_list args; /* policy_match */
	struct policy_limits_rule *limits;
};

struct policy_secret_from {
	struct policy_item item;
	const char *file;
	const char *env;
	const char *credential;
};

struct policy_secret {
	struct policy_item item; /* name */
	struct policy_secret_from *from;
	struct policy_strs to;
	const char *header;
	const char *format;
	const char *env;
};

struct policy_approvals {
	struct policy_item item;
	struct policy_num decide_by, execute_by, freeze, suspend; /* ms */
	struct policy_num quorum;
	struct policy_strs role;
	struct policy_strs exclude;
	const char *signers;
};

struct policy_notify {
	struct policy_item item;
	struct policy_strs run;
	struct policy_strs on;
};

struct policy_standing {
	struct policy_item item;
	const char *rule;
	struct policy_list match; /* policy_match, named by field */
	struct policy_num uses;
	const char *expires; /* RFC 3339 date, or date and time in UTC */
	const char *why;
};

struct policy_step {
	struct policy_item item; /* name: a glob over the step's name */
	int agency; /* enum policy_agency */
	struct policy_strs use;
	struct policy_limits_rule *limits;
	struct policy_list fs;
};

struct policy_case {
	struct policy_item item;
	const char *kind[POLICY_EXEC + 1]; /* by enum policy_kind: the text; exactly one is set */
	const char *step;
	int agency;
	int expect; /* enum policy_verdict + 1 */
	const char *rule;
};

enum policy_kind_of_file { POLICY_KIND_UNSET, POLICY_KIND_GRANT, POLICY_KIND_CEILING };

struct policy_body {
	struct policy_item item;
	struct policy_num version;
	const char *title; /* `name:` */
	int kind; /* enum policy_kind_of_file */
	struct policy_strs extends;
	int agency; /* enum policy_agency; item.at is its place, or that of the file's first key */
	int unattended; /* enum policy_unattended + 1 */
	int base; /* enum policy_base + 1 */
	struct policy_list fs, exec;
	struct policy_env_rule *env;
	struct policy_list net, tools, secrets;
	struct policy_limits_rule *limits;
	struct policy_strs allow_weaker; /* names of limits, and "landlock" */
	const char *contract; /* compact JSON, every scalar a string */
	struct policy_approvals *approvals;
	struct policy_notify *notify;
	struct policy_list standing, steps, tests;
	/* Not of the table: what the file itself says, before anything it extends is put under it.
	 */
	uint32_t own_limits; /* bit policy_limit */
	size_t own_weaker; /* the first so many of allow_weaker */
};

/* ---- the table of keys
 * ------------------------------------------------------------------------------------------ */

enum policy_type {
	POLICY_T_TEXT, /* const char * */
	POLICY_T_TEXTS, /* policy_strs: a sequence */
	POLICY_T_TEXT_OR_TEXTS, /* policy_strs: one scalar or a sequence */
	POLICY_T_WORD, /* int: one of words[] */
	POLICY_T_WORDS, /* policy_strs: a sequence of words[] */
	POLICY_T_BOOL, /* policy_num: true or false */
	POLICY_T_COUNT, /* policy_num: decimal, min to max */
	POLICY_T_SIZE, /* policy_num: bytes */
	POLICY_T_DURATION, /* policy_num: milliseconds */
	POLICY_T_STRUCT, /* pointer to a struct of sub */
	POLICY_T_LIST, /* policy_list of structs of sub: a sequence */
	POLICY_T_MAP, /* policy_list of structs of sub: a mapping by name */
	POLICY_T_TEXT_MAP, /* policy_list of policy_text_item: a mapping of scalars */
	POLICY_T_MATCH_MAP, /* policy_list of policy_match: a mapping of matches */
	POLICY_T_TOKENS, /* policy_list of policy_match: a sequence of scalars and {any: [...]} */
	POLICY_T_RAW, /* const char *: any YAML, kept as JSON text */
};

/* Looks at one text value. Returns 0 or a code, with the reason in msg (POLICY_WHY_MAX bytes). */
typedef int policy_text_check(const char *text, char *msg);

struct policy_key {
	const char *name;
	uint8_t number; /* in the canonical form; never reused; 0 and 1 are the place and the name
			 */
	enum policy_type type;
	size_t offset;
	const struct policy_table *sub;
	const char *const *words; /* NULL-terminated */
	policy_text_check *check; /* of each text; may be NULL */
	policy_text_check *name_check; /* TEXT_MAP: of the names */
	uint64_t min, max; /* COUNT, SIZE, DURATION */
	bool required;
	bool reason; /* left out of the digest: why, name, tests */
	const char *doc;
};

struct policy_parser;

struct policy_table {
	const char *name; /* for messages and the schema: "net rule" */
	size_t size;
	const struct policy_key *keys;
	size_t count;
	const struct policy_key
		*scalar; /* what a plain scalar in place of the mapping fills, or NULL */
	policy_text_check *name_check; /* of the names, where it is a mapping's item */
	/* What holds between the keys of one item. node is NULL when the item was decoded, not
	 * parsed. */
	void (*check)(struct policy_parser *c, const struct yaml_node *node, void *item);
	const char *doc;
};

extern const struct policy_table policy_keys_file;
extern const char *const policy_keys_agencies[];
extern const char *const policy_keys_verdicts[];
extern const char *const policy_keys_accesses[];

/* ---- parsing
 * ------------------------------------------------------------------------------------------------------
 */

struct policy {
	struct policy_arena arena;
	const char *file;
	struct policy_body body;
	struct policy_findings findings;
};

/* What reading one policy, or one canonical form, carries along. */
struct policy_parser {
	struct policy_arena *arena;
	struct policy_findings *findings;
	const char *file;
	const struct policy_lookup *lookup;
	const char *extending[POLICY_EXTENDS_DEPTH_MAX]; /* names that are being resolved, outermost
							    first */
	size_t depth;
};

void policy_find(struct policy_parser *c, struct policy_place at, int code,
		 enum policy_severity severity, const char *fmt, ...) PRINTF_LIKE(5, 6);
/* By place, from the finding at index `from` on. */
void policy_find_sort(struct policy_findings *f, size_t from);
/* The place of key in the mapping node, or of the item where it is not there (or node is NULL). */
struct policy_place policy_parse_key_place(const struct policy_parser *c,
					   const struct yaml_node *node,
					   const struct policy_item *item, const char *key);
/* Reads text into *body, extends and all; findings go to c. 0 or -ENOMEM. */
MUST_CHECK int policy_parse_body(struct policy_parser *c, struct bytes text,
				 struct policy_body *body);
/* "did you mean 'x'?" or "". */
void policy_parse_suggest(struct bytes word, const char *const *candidates, size_t count, char *msg,
			  size_t size);

/* Puts what `from` says under what `into` says (holdfast-policy(5), `extends`). */
void policy_extend(struct policy_parser *c, struct policy_body *into,
		   const struct policy_body *from);

/* Checks over a whole file, after extends: ids, references, steps that widen, warnings. */
void policy_check_body(struct policy_parser *c, struct policy_body *b);
/* The first rule that grants something where none lets a loader be executed; else NULL. */
const struct policy_fs_rule *policy_check_no_loader(const struct policy_body *b);
/* Between the keys of one item; each is some table's check. */
void policy_check_fs(struct policy_parser *c, const struct yaml_node *n, void *item);
void policy_check_exec(struct policy_parser *c, const struct yaml_node *n, void *item);
void policy_check_http(struct policy_parser *c, const struct yaml_node *n, void *item);
void policy_check_git(struct policy_parser *c, const struct yaml_node *n, void *item);
void policy_check_net(struct policy_parser *c, const struct yaml_node *n, void *item);
void policy_check_tool(struct policy_parser *c, const struct yaml_node *n, void *item);
void policy_check_undo(struct policy_parser *c, const struct yaml_node *n, void *item);
void policy_check_retry(struct policy_parser *c, const struct yaml_node *n, void *item);
void policy_check_from(struct policy_parser *c, const struct yaml_node *n, void *item);
void policy_check_case(struct policy_parser *c, const struct yaml_node *n, void *item);
void policy_check_approvals(struct policy_parser *c, const struct yaml_node *n, void *item);

/* ---- one text value at a time
 * -------------------------------------------------------------------------------------- */

policy_text_check policy_value_name, policy_value_text, policy_value_path, policy_value_env_name,
	policy_value_env_keep, policy_value_method, policy_value_url_path,
	policy_value_host_pattern, policy_value_host, policy_value_address, policy_value_pointer,
	policy_value_remote, policy_value_ref, policy_value_header, policy_value_format,
	policy_value_step, policy_value_exclude, policy_value_plain_path, policy_value_date,
	policy_value_field, policy_value_title, policy_value_role;

/* ---- matching
 * -------------------------------------------------------------------------------------------------------
 */

/* '*' stands for any run of bytes (not of '/' where segment is set); everything else for itself. */
bool policy_glob(const char *pattern, struct bytes text, bool segment);
bool policy_match_value(const struct policy_match *m, struct bytes value);
/* Host as it is compared: lowercase A-labels, no trailing dot. buf holds POLICY_HOST_MAX. -EINVAL:
 * no such host name. */
enum { POLICY_HOST_MAX = 256 };
MUST_CHECK int policy_host_normal(struct bytes host, char *buf);
bool policy_host_match(const char *pattern, const char *host); /* both normal */
bool policy_host_is_suffix(
	const char *host); /* anyone may register below it (libpsl's built-in list) */
bool policy_host_is_address(
	struct bytes host); /* dotted, bracketed, or a number that resolvers take for one */
bool policy_host_is_local(const char *host); /* localhost, .local, .internal, single labels, ... */
/* The path as it is matched and sent: decoded once. -EINVAL for what is refused. Appends. */
MUST_CHECK int policy_url_path(struct bytes raw, struct buffer *out);
bool policy_url_path_valid(const char *text);
/* A decoded path without the parameters (";x") of its segments, as some servers read it. Appends. */
MUST_CHECK int policy_url_bare(struct bytes path, struct buffer *out);
bool policy_url_match(const char *pattern, struct bytes path);
/*
 * Twins: other spellings that some servers take for the same path. Each reading is without case
 * (Unicode's full folding and NFKC) and ignorable characters; BARE without parameters (";x") and
 * what an encoded '?' or '#' cuts off; TRIM without a slash at the end and, of each segment, dots
 * and spaces behind it, spaces before it and "::$..." (Windows).
 */
enum { POLICY_TWIN_BARE = 1, POLICY_TWIN_TRIM = 2, POLICY_TWIN_READINGS = 4 };
/* path: of policy_url_path(). Appends to each. -EINVAL: a reading has other segments ("..%20", a
 * wide slash), so that it is no name in the same tree. */
MUST_CHECK int policy_twin_read(struct bytes path, struct buffer out[static POLICY_TWIN_READINGS]);
/* Is one of the readings covered? Where that cannot be told, true. */
bool policy_twin_match(const char *pattern, const struct buffer twins[static POLICY_TWIN_READINGS]);
bool policy_twin_remote_match(const char *pattern, const char *remote); /* normal, as below */
/* https://host/path without a trailing '/' or ".git": buf holds POLICY_REMOTE_MAX. */
enum { POLICY_REMOTE_MAX = 1024 };
MUST_CHECK int policy_remote_normal(struct bytes remote, char *buf);
bool policy_remote_match(const char *pattern, const char *remote);
bool policy_ref_valid(struct bytes ref);

enum policy_address_kind {
	POLICY_ADDRESS_PUBLIC,
	POLICY_ADDRESS_REFUSED, /* loopback, private and the like: only under an `address` */
};
enum policy_address_kind policy_address_kind(const uint8_t *address, size_t len);
struct policy_cidr {
	uint8_t b[16];
	size_t len; /* 4 or 16 */
	unsigned bits;
};
MUST_CHECK int policy_cidr_parse(const char *text, struct policy_cidr *ret);
bool policy_cidr_holds(const struct policy_cidr *c, const uint8_t *address, size_t len);

/* ---- paths
 * -----------------------------------------------------------------------------------------------------------
 */

enum { POLICY_PATH_MAX = 4096 };
/* Puts the variables in. -ENOENT: uses one that is NULL; -EINVAL, -ENAMETOOLONG. *ret is of the
 * arena. */
MUST_CHECK int policy_path_expand(struct policy_arena *a, const char *path,
				  const struct policy_vars *vars, const char **ret);
bool policy_path_is_glob(const char *path);
/* Case folded, NFKC, without ignorable characters and bytes that are no UTF-8, trailing dots and
 * spaces of components. -ENAMETOOLONG, -ENOMEM. */
MUST_CHECK int policy_path_fold(struct policy_arena *a, struct bytes path, const char **ret);

/* Whether an exec rule's path covers a clean path, with the variables that fs was made with;
 * in_doubt is the answer where there is no memory to say. */
bool policy_fs_exec_covers(const struct policy_fs *fs, const char *rule_path, struct bytes path,
			   bool in_doubt);

/* ---- effective
 * ---------------------------------------------------------------------------------------------------------
 */

struct policy_stratum { /* one layer as it counts */
	struct policy_item item; /* name: the file's own name */
	int layer; /* enum policy_layer + 1 */
	int ceiling; /* 1 = its silence about a table is neutral */
	struct policy_body *body;
};

struct policy_effective {
	struct policy_arena arena;
	const char *step; /* NULL = the run's */
	int agency; /* a person's word beside the layers; 0 = none */
	int lowered; /* what a plan or step lowers it to; 0 = none */
	int lone; /* 1 = see struct policy_combine */
	struct policy_stratum *layers;
	size_t count;
	struct policy_findings notes;
};

/* Whether the step's pattern covers the step of e. */
bool policy_step_applies(const struct policy_effective *e, const struct policy_step *step);
bool policy_effective_any_grant(const struct policy_effective *e);
bool policy_env_keeps(const struct policy_strs *keep, struct bytes name);
bool policy_standing_matches(const struct policy_effective *e, const struct policy_standing *st,
			     const struct policy_request *r, const struct policy_decision *d);
/* Whether s grants anything at all by being there: neither a ceiling nor untrusted. */
bool policy_stratum_grants(const struct policy_stratum *s);

/* Canonical form of any table's struct. places: with where and why, else what is digested. */
struct policy_canon {
	const char **files; /* the names that places refer to */
	size_t count;
	bool places;
};
void policy_canon_files(struct policy_arena *a, struct policy_canon *k,
			const struct policy_body *body);
void policy_canon_write(struct buffer *b, struct policy_canon *k, const struct policy_table *t,
			const void *item);
struct policy_body *policy_canon_read(struct cbor_reader *r, struct policy_parser *c,
				      const char *const *files, size_t file_count);
