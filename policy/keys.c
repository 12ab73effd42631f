/*
 * The grammar of a policy file: every key, its type, what it may hold, its number in the canonical
 * form, and the sentence that editors show. Parser, canonical form, schema and suggestions read
 * this table; there is no second one.
 */
#include "policy/model.h"

#define KEY(s, key, num, t, member, ...)                                                           \
	{                                                                                          \
		.name = (key), .number = (num), .type = (t), .offset = offsetof(struct s, member), \
		__VA_ARGS__                                                                        \
	}
#define TABLE(var, s, label, text, ...)                                   \
	const struct policy_table var = {.name = (label),                 \
					 .size = sizeof(struct s),        \
					 .keys = var##_rows,              \
					 .count = ARRAY_SIZE(var##_rows), \
					 .doc = (text),                   \
					 __VA_ARGS__}

const char *const policy_keys_agencies[] = {"observe", "draft",	     "assist",
					    "trusted", "autonomous", NULL};
const char *const policy_keys_verdicts[] = {"allow", "ask", "deny", NULL};
const char *const policy_keys_accesses[] = {"none", "r", "rx", "scratch", "stage", "rw", NULL};
static const char *const classes[] = {"read", "reversible", "irreversible", NULL};
static const char *const kinds[] = {"grant", "ceiling", NULL};
static const char *const unattended[] = {"park", "deny", NULL};
static const char *const bases[] = {"live", "pinned", NULL};
static const char *const schemes[] = {"https", "http", NULL};
static const char *const tls[] = {"inspect", "passthrough", NULL};
static const char *const git_ops[] = {"fetch", "push", NULL};
static const char *const retries[] = {"safe", "never", NULL};
static const char *const yes[] = {"yes", NULL};
static const char *const notify_on[] = {"opened", "expiring", "decided", NULL};
static const char *const weaker[] = {"wall",  "cpu",	"memory",   "pids", "disk",
				     "files", "output", "landlock", NULL};

enum {
	SECOND = 1000,
	DAY = 86400 * SECOND,
};
#define DURATION_MAX_MS (3650ULL * DAY)
#define BYTES_MAX	(1ULL << 60)
#define COUNT_MAX	1000000000ULL

/* ---- fs, exec, env ---- */

static const struct policy_key keys_fs_rows[] = {
	KEY(policy_fs_rule, "path", 2, POLICY_T_TEXT, path, .required = true,
	    .check = policy_value_path,
	    .doc = "Absolute, or below ${workspace}, ${home}, ${tmp} or ${run}; '*' in the last "
		   "part only."),
	KEY(policy_fs_rule, "access", 3, POLICY_T_WORD, access, .required = true,
	    .words = policy_keys_accesses,
	    .doc = "none; r; rx; scratch: written, never lands; stage: written, lands later; rw: "
		   "at once."),
	KEY(policy_fs_rule, "except", 4, POLICY_T_TEXTS, except, .check = policy_value_path,
	    .doc = "Paths below that this rule does not cover."),
	KEY(policy_fs_rule, "why", 5, POLICY_T_TEXT, why, .check = policy_value_text,
	    .reason = true, .doc = "The reason, shown wherever this rule decides."),
};
static TABLE(keys_fs, policy_fs_rule, "fs rule",
	     "Files: the deepest path decides inside one layer, the narrower layer decides among "
	     "layers.",
	     .check = policy_check_fs);

static const struct policy_key keys_exec_rows[] = {
	KEY(policy_exec_rule, "do", 2, POLICY_T_WORD, verdict, .required = true,
	    .words = policy_keys_verdicts, .doc = "allow, ask or deny."),
	KEY(policy_exec_rule, "path", 3, POLICY_T_TEXT, path, .required = true,
	    .check = policy_value_path, .doc = "The executable; '*' in the last part only."),
	KEY(policy_exec_rule, "argv", 4, POLICY_T_TOKENS, argv, .check = policy_value_text,
	    .doc = "A prefix of the argument vector; of the first, only the last part of its path "
		   "counts."),
	KEY(policy_exec_rule, "why", 5, POLICY_T_TEXT, why, .check = policy_value_text,
	    .reason = true, .doc = "The reason, shown wherever this rule decides."),
};
static TABLE(keys_exec, policy_exec_rule, "exec rule",
	     "Commands that the supervisor starts. Without any rule: whatever fs grants x.",
	     .check = policy_check_exec);

static const struct policy_key keys_env_rows[] = {
	KEY(policy_env_rule, "keep", 2, POLICY_T_TEXTS, keep, .check = policy_value_env_keep,
	    .doc = "Names, or PREFIX_*, that pass; everything else is cleared."),
	KEY(policy_env_rule, "set", 3, POLICY_T_TEXT_MAP, set, .check = policy_value_text,
	    .name_check = policy_value_env_name, .doc = "Variables with fixed values."),
};
static TABLE(keys_env, policy_env_rule, "env", "The environment of a step.");

/* ---- net ---- */

static const struct policy_key keys_http_rows[] = {
	KEY(policy_http, "scheme", 2, POLICY_T_WORD, scheme, .words = schemes,
	    .doc = "https unless said otherwise; http carries no secret."),
	KEY(policy_http, "host", 3, POLICY_T_TEXT_OR_TEXTS, host, .required = true,
	    .check = policy_value_host_pattern,
	    .doc = "Host names; '*.' before a name is one label, '**.' one or more."),
	KEY(policy_http, "port", 4, POLICY_T_COUNT, port, .min = 1, .max = 65535,
	    .doc = "The scheme's unless given."),
	KEY(policy_http, "method", 5, POLICY_T_TEXT_OR_TEXTS, method, .check = policy_value_method,
	    .doc = "Any unless given; an empty list matches nothing."),
	KEY(policy_http, "path", 6, POLICY_T_TEXT_OR_TEXTS, path, .check = policy_value_url_path,
	    .doc = "Glob by segment: '*' within one, '**' any number at the end. Any unless "
		   "given."),
	KEY(policy_http, "query_max", 7, POLICY_T_SIZE, query_max, .max = 8192,
	    .doc = "Longest query, in bytes; any unless given."),
	KEY(policy_http, "body_max", 8, POLICY_T_SIZE, body_max, .max = BYTES_MAX,
	    .doc = "Largest body, in bytes; any unless given."),
	KEY(policy_http, "json", 9, POLICY_T_MATCH_MAP, json, .check = policy_value_pointer,
	    .doc = "What the JSON body must hold: pointer to match."),
	KEY(policy_http, "tls", 10, POLICY_T_WORD, tls, .words = tls,
	    .doc = "inspect (default) or passthrough: host only, class unknown, no secret."),
};
static TABLE(keys_http, policy_http, "http", "HTTP requests.", .check = policy_check_http);

static const struct policy_key keys_git_rows[] = {
	KEY(policy_git, "remote", 2, POLICY_T_TEXT, remote, .required = true,
	    .check = policy_value_remote,
	    .doc = "https://host/path; '*' stands for one part of the path."),
	KEY(policy_git, "op", 3, POLICY_T_WORD, op, .required = true, .words = git_ops,
	    .doc = "fetch or push."),
	KEY(policy_git, "refs", 4, POLICY_T_TEXTS, refs, .check = policy_value_ref,
	    .doc = "Full names of refs; '*' stands for anything. A push that is allowed must name "
		   "them."),
	KEY(policy_git, "force", 5, POLICY_T_BOOL, force,
	    .doc = "Whether a forced update is covered too."),
	KEY(policy_git, "delete", 6, POLICY_T_BOOL, remove,
	    .doc = "Whether deleting the ref is covered too."),
};
static TABLE(keys_git, policy_git, "git", "git over HTTPS.", .check = policy_check_git);

static const struct policy_key keys_tcp_rows[] = {
	KEY(policy_tcp, "host", 2, POLICY_T_TEXT, host, .required = true,
	    .check = policy_value_host, .doc = "A host name, no pattern."),
	KEY(policy_tcp, "port", 3, POLICY_T_COUNT, port, .required = true, .min = 1, .max = 65535,
	    .doc = "The port."),
};
static TABLE(keys_tcp, policy_tcp, "tcp", "An opaque stream; its class is unknown.");

static const struct policy_key keys_undo_rows[] = {
	KEY(policy_undo, "tool", 2, POLICY_T_TEXT, tool, .check = policy_value_name,
	    .doc = "The id of the tool that takes it back."),
	KEY(policy_undo, "text", 3, POLICY_T_TEXT, text, .check = policy_value_text,
	    .doc = "How a person takes it back."),
};
static TABLE(keys_undo, policy_undo, "undo", "How the action is taken back.",
	     .check = policy_check_undo);

static const struct policy_key keys_keyed_rows[] = {
	KEY(policy_keyed, "header", 2, POLICY_T_TEXT, header, .required = true,
	    .check = policy_value_header, .doc = "The header that carries the idempotency key."),
	KEY(policy_keyed, "window", 3, POLICY_T_DURATION, window, .required = true, .min = SECOND,
	    .max = DURATION_MAX_MS, .doc = "How long the other side remembers keys."),
};
static TABLE(keys_keyed, policy_keyed, "keyed",
	     "Send again with the same idempotency key inside its window.");

static const struct policy_key keys_probe_rows[] = {
	KEY(policy_probe, "tool", 2, POLICY_T_TEXT, tool, .required = true,
	    .check = policy_value_name,
	    .doc = "The id of the tool that looks: exit 0 done, 1 not done, else unknown."),
};
static TABLE(keys_probe, policy_probe, "probe", "Ask a tool whether it happened.");

static const struct policy_key keys_retry_rows[] = {
	KEY(policy_retry, "mode", 2, POLICY_T_WORD, mode, .words = retries,
	    .doc = "safe or never, as a plain word."),
	KEY(policy_retry, "keyed", 3, POLICY_T_STRUCT, keyed, .sub = &keys_keyed,
	    .doc = "Send again with the same idempotency key."),
	KEY(policy_retry, "probe", 4, POLICY_T_STRUCT, probe, .sub = &keys_probe,
	    .doc = "Ask a tool."),
};
static TABLE(keys_retry, policy_retry, "retry",
	     "What settles an action whose outcome is in doubt; never (a person) unless said, safe "
	     "for reads.",
	     .scalar = &keys_retry_rows[0], .check = policy_check_retry);

static const struct policy_key keys_card_rows[] = {
	KEY(policy_card, "title", 2, POLICY_T_TEXT, title, .required = true,
	    .check = policy_value_title, .doc = "What the action is, in a few words."),
	KEY(policy_card, "show", 3, POLICY_T_TEXT_MAP, show, .check = policy_value_pointer,
	    .name_check = policy_value_title,
	    .doc = "Label to JSON pointer into the request's body."),
	KEY(policy_card, "amount", 4, POLICY_T_TEXT, amount, .check = policy_value_pointer,
	    .doc = "JSON pointer to the amount."),
	KEY(policy_card, "why_irreversible", 5, POLICY_T_TEXT, why_irreversible,
	    .check = policy_value_text, .doc = "Why it cannot be taken back."),
};
static TABLE(keys_card, policy_card, "card", "What the person who decides is shown.");

static const struct policy_key keys_rate_rows[] = {
	KEY(policy_rate, "count", 2, POLICY_T_COUNT, count, .required = true, .min = 1,
	    .max = COUNT_MAX, .doc = "How many requests"),
	KEY(policy_rate, "per", 3, POLICY_T_DURATION, per, .required = true, .min = SECOND,
	    .max = DURATION_MAX_MS, .doc = "in how long."),
	KEY(policy_rate, "bytes", 4, POLICY_T_SIZE, bytes, .min = 1, .max = BYTES_MAX,
	    .doc = "And how many bytes sent in that time."),
};
static TABLE(keys_rate, policy_rate, "rate", "A limit of this rule's own.");

#define RULE_KEYS                                                                                 \
	KEY(policy_gated, "id", 2, POLICY_T_TEXT, id, .required = true,                           \
	    .check = policy_value_name,                                                           \
	    .doc = "Its name, once in the file; steps, tests and records use it."),               \
		KEY(policy_gated, "do", 3, POLICY_T_WORD, verdict, .required = true,              \
		    .words = policy_keys_verdicts,                                                \
		    .doc = "allow, ask or deny; deny > ask > allow."),                            \
		KEY(policy_gated, "effect", 4, POLICY_T_WORD, effect, .words = classes,           \
		    .doc = "read, reversible (needs undo; git counts by itself), irreversible; "  \
			   "else unknown."),                                                      \
		KEY(policy_gated, "undo", 5, POLICY_T_STRUCT, undo, .sub = &keys_undo,            \
		    .doc = "{tool: id} or {text: how}."),                                         \
		KEY(policy_gated, "retry", 6, POLICY_T_STRUCT, retry, .sub = &keys_retry,         \
		    .doc = "safe, never, {keyed: {header, window}} or {probe: {tool: id}}."),     \
		KEY(policy_gated, "replay", 7, POLICY_T_WORD, replay, .words = yes,               \
		    .doc = "yes: a read whose response is recorded and returned again."),         \
		KEY(policy_gated, "ignore", 8, POLICY_T_TEXTS, ignore,                            \
		    .check = policy_value_pointer,                                                \
		    .doc = "JSON pointers that do not count for the action's identity."),         \
		KEY(policy_gated, "secret", 9, POLICY_T_TEXT, secret, .check = policy_value_name, \
		    .doc = "The name of a secret of `secrets`."),                                 \
		KEY(policy_gated, "card", 10, POLICY_T_STRUCT, card, .sub = &keys_card,           \
		    .doc = "What the person who decides is shown."),                              \
		KEY(policy_gated, "why", 11, POLICY_T_TEXT, why, .check = policy_value_text,      \
		    .reason = true, .doc = "The reason, shown wherever this rule decides.")

static const struct policy_key keys_net_rows[] = {
	RULE_KEYS,
	KEY(policy_net, "http", 12, POLICY_T_STRUCT, http, .sub = &keys_http,
	    .doc = "HTTP requests."),
	KEY(policy_net, "git", 13, POLICY_T_STRUCT, git, .sub = &keys_git,
	    .doc = "git over HTTPS."),
	KEY(policy_net, "tcp", 14, POLICY_T_STRUCT, tcp, .sub = &keys_tcp,
	    .doc = "An opaque stream."),
	KEY(policy_net, "rate", 15, POLICY_T_STRUCT, rate, .sub = &keys_rate,
	    .doc = "A limit of its own."),
	KEY(policy_net, "except", 16, POLICY_T_LIST, except, .sub = &keys_http,
	    .doc = "HTTP requests that this rule does not cover."),
	KEY(policy_net, "address", 17, POLICY_T_TEXTS, address, .check = policy_value_address,
	    .doc = "One IP (it is dialled) or CIDRs (what is resolved must lie in one): the way to "
		   "a private host."),
	KEY(policy_net, "ca", 18, POLICY_T_TEXT, ca, .check = policy_value_plain_path,
	    .doc = "Trust anchors for this rule in place of the system's."),
};
static TABLE(keys_net, policy_net, "net rule", "What may be reached, and how.",
	     .check = policy_check_net);

/* ---- tools, limits, secrets ---- */

static const struct policy_key keys_limits_rows[] = {
	KEY(policy_limits_rule, "wall", 2, POLICY_T_DURATION, v[POLICY_LIMIT_WALL], .min = 1,
	    .max = DURATION_MAX_MS, .doc = "Time on the clock, per attempt."),
	KEY(policy_limits_rule, "cpu", 3, POLICY_T_DURATION, v[POLICY_LIMIT_CPU], .min = 1,
	    .max = DURATION_MAX_MS, .doc = "Processor time of all its processes, per attempt."),
	KEY(policy_limits_rule, "memory", 4, POLICY_T_SIZE, v[POLICY_LIMIT_MEMORY], .min = 1 << 20,
	    .max = BYTES_MAX, .doc = "Memory of all its processes, per attempt."),
	KEY(policy_limits_rule, "pids", 5, POLICY_T_COUNT, v[POLICY_LIMIT_PIDS], .min = 2,
	    .max = 4194304, .doc = "Processes and threads at a time."),
	KEY(policy_limits_rule, "disk", 6, POLICY_T_SIZE, v[POLICY_LIMIT_DISK], .min = 4096,
	    .max = BYTES_MAX, .doc = "What it may write, per attempt."),
	KEY(policy_limits_rule, "files", 7, POLICY_T_COUNT, v[POLICY_LIMIT_FILES], .min = 1,
	    .max = COUNT_MAX, .doc = "Files and folders it may make or change, per attempt."),
	KEY(policy_limits_rule, "output", 8, POLICY_T_SIZE, v[POLICY_LIMIT_OUTPUT], .min = 1,
	    .max = BYTES_MAX, .doc = "Bytes of output that are kept; the rest is counted."),
	KEY(policy_limits_rule, "egress", 9, POLICY_T_SIZE, v[POLICY_LIMIT_EGRESS], .min = 1,
	    .max = BYTES_MAX, .doc = "Bytes sent, per run."),
	KEY(policy_limits_rule, "requests", 10, POLICY_T_COUNT, v[POLICY_LIMIT_REQUESTS], .min = 1,
	    .max = COUNT_MAX, .doc = "Requests sent, per run."),
};
static TABLE(keys_limits, policy_limits_rule, "limits", "The smallest of all layers counts.");

static const struct policy_key keys_tool_rows[] = {
	RULE_KEYS,
	KEY(policy_tool, "run", 12, POLICY_T_TEXTS, run, .required = true,
	    .check = policy_value_text,
	    .doc = "The command, run outside the step in a sandbox of its own."),
	KEY(policy_tool, "args", 13, POLICY_T_MATCH_MAP, args, .check = policy_value_field,
	    .doc = "Its arguments, all of which a call must give: name to match."),
	KEY(policy_tool, "limits", 14, POLICY_T_STRUCT, limits, .sub = &keys_limits,
	    .doc = "Limits of one call."),
};
static TABLE(keys_tool, policy_tool, "tool", "Commands that a step may ask for by name.",
	     .check = policy_check_tool);

static const struct policy_key keys_from_rows[] = {
	KEY(policy_secret_from, "file", 2, POLICY_T_TEXT, file, .check = policy_value_plain_path,
	    .doc = "An absolute path."),
	KEY(policy_secret_from, "env", 3, POLICY_T_TEXT, env, .check = policy_value_env_name,
	    .doc = "A variable of the supervisor's environment."),
	KEY(policy_secret_from, "credential", 4, POLICY_T_TEXT, credential,
	    .check = policy_value_name, .doc = "A systemd credential."),
};
static TABLE(keys_from, policy_secret_from, "from", "Where the value comes from: one of these.",
	     .check = policy_check_from);

static const struct policy_key keys_secret_rows[] = {
	KEY(policy_secret, "from", 2, POLICY_T_STRUCT, from, .required = true, .sub = &keys_from,
	    .doc = "{file: path}, {env: NAME} or {credential: name}."),
	KEY(policy_secret, "to", 3, POLICY_T_TEXTS, to, .required = true,
	    .check = policy_value_host_pattern, .doc = "The hosts that may get it."),
	KEY(policy_secret, "header", 4, POLICY_T_TEXT, header, .required = true,
	    .check = policy_value_header, .doc = "The header that carries it."),
	KEY(policy_secret, "format", 5, POLICY_T_TEXT, format, .check = policy_value_format,
	    .doc = "Text with {} or {basic:USER}; {} unless given."),
	KEY(policy_secret, "env", 6, POLICY_T_TEXT, env, .check = policy_value_env_name,
	    .doc = "The variable that holds the placeholder inside."),
};
static TABLE(keys_secret, policy_secret, "secret",
	     "Values that a step never sees; they are put in on the way out.",
	     .name_check = policy_value_name);

/* ---- people ---- */

static const struct policy_key keys_approvals_rows[] = {
	KEY(policy_approvals, "decide_by", 2, POLICY_T_DURATION, decide_by, .min = SECOND,
	    .max = DURATION_MAX_MS, .doc = "How long an item may wait; then it is denied. 30d."),
	KEY(policy_approvals, "execute_by", 3, POLICY_T_DURATION, execute_by, .min = SECOND,
	    .max = DURATION_MAX_MS, .doc = "How long an approval may be carried out. 1h."),
	KEY(policy_approvals, "freeze", 4, POLICY_T_DURATION, freeze, .max = DURATION_MAX_MS,
	    .doc = "After this the waiting sandbox is frozen. 30s."),
	KEY(policy_approvals, "suspend", 5, POLICY_T_DURATION, suspend, .max = DURATION_MAX_MS,
	    .doc = "After this the waiting attempt ends, uncharged. 10m."),
	KEY(policy_approvals, "quorum", 6, POLICY_T_COUNT, quorum, .min = 1, .max = 64,
	    .doc = "How many must approve. 1."),
	KEY(policy_approvals, "role", 7, POLICY_T_TEXTS, role, .check = policy_value_role,
	    .doc = "Who may vote: uid:N, group:NAME, signer:NAME. Anyone with the socket unless "
		   "given."),
	KEY(policy_approvals, "exclude", 8, POLICY_T_TEXTS, exclude, .check = policy_value_exclude,
	    .doc = "Who may not: starter, or a uid."),
	KEY(policy_approvals, "signers", 9, POLICY_T_TEXT, signers,
	    .check = policy_value_plain_path,
	    .doc = "An allowed-signers file of ssh-keygen(1): votes must be signed."),
};
static TABLE(keys_approvals, policy_approvals, "approvals", "How the queue treats what waits.",
	     .check = policy_check_approvals);

static const struct policy_key keys_notify_rows[] = {
	KEY(policy_notify, "run", 2, POLICY_T_TEXTS, run, .required = true,
	    .check = policy_value_text, .doc = "A command; it runs in a sandbox."),
	KEY(policy_notify, "on", 3, POLICY_T_WORDS, on, .required = true, .words = notify_on,
	    .doc = "opened, expiring, decided."),
};
static TABLE(keys_notify, policy_notify, "notify", "Who is told.");

static const struct policy_key keys_standing_rows[] = {
	KEY(policy_standing, "rule", 2, POLICY_T_TEXT, rule, .required = true,
	    .check = policy_value_name, .doc = "The id of the rule it stands for."),
	KEY(policy_standing, "match", 3, POLICY_T_MATCH_MAP, match, .required = true,
	    .check = policy_value_field,
	    .doc = "Fields of the action and what they must be: method, host, path, ref, an "
		   "argument, a pointer."),
	KEY(policy_standing, "uses", 4, POLICY_T_COUNT, uses, .required = true, .min = 1,
	    .max = 100000, .doc = "How often."),
	KEY(policy_standing, "expires", 5, POLICY_T_TEXT, expires, .required = true,
	    .check = policy_value_date, .doc = "2026-12-31 or 2026-12-31T18:00:00Z."),
	KEY(policy_standing, "why", 6, POLICY_T_TEXT, why, .required = true,
	    .check = policy_value_text, .doc = "The reason, shown with each use."),
};
static TABLE(keys_standing, policy_standing, "standing grant",
	     "Approvals given beforehand, for agency trusted and above.");

/* ---- steps and tests ---- */

static const struct policy_key keys_step_rows[] = {
	KEY(policy_step, "agency", 2, POLICY_T_WORD, agency, .words = policy_keys_agencies,
	    .doc = "A lower level."),
	KEY(policy_step, "use", 3, POLICY_T_TEXTS, use, .check = policy_value_name,
	    .doc = "The ids of net rules and tools that it keeps; all unless given, none for []."),
	KEY(policy_step, "limits", 4, POLICY_T_STRUCT, limits, .sub = &keys_limits,
	    .doc = "Smaller limits."),
	KEY(policy_step, "fs", 5, POLICY_T_LIST, fs, .sub = &keys_fs, .doc = "Narrower access."),
};
static TABLE(keys_step, policy_step, "step", "What one step is narrowed to; its name may hold '*'.",
	     .name_check = policy_value_step);

static const struct policy_key keys_case_rows[] = {
	KEY(policy_case, "http", 2, POLICY_T_TEXT, kind[POLICY_HTTP], .check = policy_value_text,
	    .doc = "METHOD URL"),
	KEY(policy_case, "git", 3, POLICY_T_TEXT, kind[POLICY_GIT], .check = policy_value_text,
	    .doc = "push|fetch REMOTE [REF] [force] [delete]"),
	KEY(policy_case, "tcp", 4, POLICY_T_TEXT, kind[POLICY_TCP], .check = policy_value_text,
	    .doc = "host:port"),
	KEY(policy_case, "tool", 5, POLICY_T_TEXT, kind[POLICY_TOOL], .check = policy_value_text,
	    .doc = "ID [name=value]..."),
	KEY(policy_case, "read", 6, POLICY_T_TEXT, kind[POLICY_PATH_READ],
	    .check = policy_value_text, .doc = "A path."),
	KEY(policy_case, "write", 7, POLICY_T_TEXT, kind[POLICY_PATH_WRITE],
	    .check = policy_value_text, .doc = "A path."),
	KEY(policy_case, "exec", 8, POLICY_T_TEXT, kind[POLICY_EXEC], .check = policy_value_text,
	    .doc = "/path/of/command [argument]..."),
	KEY(policy_case, "step", 9, POLICY_T_TEXT, step, .check = policy_value_name,
	    .doc = "In this step."),
	KEY(policy_case, "agency", 10, POLICY_T_WORD, agency, .words = policy_keys_agencies,
	    .doc = "At this level."),
	KEY(policy_case, "expect", 11, POLICY_T_WORD, expect, .required = true,
	    .words = policy_keys_verdicts, .doc = "allow, ask or deny."),
	KEY(policy_case, "rule", 12, POLICY_T_TEXT, rule, .check = policy_value_name,
	    .doc = "The id of the rule that must decide."),
};
static TABLE(keys_case, policy_case, "test", "What must hold; `holdfast policy test` looks.",
	     .check = policy_check_case);

/* ---- the file ---- */

static const struct policy_key policy_keys_file_rows[] = {
	KEY(policy_body, "version", 2, POLICY_T_COUNT, version, .required = true, .min = 1,
	    .max = 1, .doc = "1."),
	KEY(policy_body, "name", 3, POLICY_T_TEXT, title, .check = policy_value_name,
	    .reason = true, .doc = "What people call it."),
	KEY(policy_body, "kind", 4, POLICY_T_WORD, kind, .words = kinds,
	    .doc = "ceiling: bounds what others grant (default in /etc and of a user); grant: "
		   "grants (elsewhere)."),
	KEY(policy_body, "extends", 5, POLICY_T_TEXT_OR_TEXTS, extends, .check = policy_value_text,
	    .reason = true, .doc = "Policies this one builds on: base, offline, coding."),
	KEY(policy_body, "agency", 6, POLICY_T_WORD, agency, .words = policy_keys_agencies,
	    .doc = "How far a step may go without a person; the lowest layer counts."),
	KEY(policy_body, "unattended", 7, POLICY_T_WORD, unattended, .words = unattended,
	    .doc = "What ask becomes when nobody is there: park (wait) or deny."),
	KEY(policy_body, "base", 8, POLICY_T_WORD, base, .words = bases,
	    .doc = "live: the workspace as it is; pinned: as it was when the run began."),
	KEY(policy_body, "fs", 9, POLICY_T_LIST, fs, .sub = &keys_fs, .doc = "Files."),
	KEY(policy_body, "exec", 10, POLICY_T_LIST, exec, .sub = &keys_exec, .doc = "Commands."),
	KEY(policy_body, "env", 11, POLICY_T_STRUCT, env, .sub = &keys_env,
	    .doc = "The environment."),
	KEY(policy_body, "net", 12, POLICY_T_LIST, net, .sub = &keys_net, .doc = "The network."),
	KEY(policy_body, "tools", 13, POLICY_T_LIST, tools, .sub = &keys_tool, .doc = "Tools."),
	KEY(policy_body, "secrets", 14, POLICY_T_MAP, secrets, .sub = &keys_secret,
	    .doc = "Secrets."),
	KEY(policy_body, "limits", 15, POLICY_T_STRUCT, limits, .sub = &keys_limits,
	    .doc = "Limits."),
	KEY(policy_body, "allow_weaker", 16, POLICY_T_WORDS, allow_weaker, .words = weaker,
	    .doc = "Limits, or landlock, that may be weaker or missing on this machine."),
	KEY(policy_body, "contract", 17, POLICY_T_RAW, contract,
	    .doc = "What done means, as in a plan."),
	KEY(policy_body, "approvals", 18, POLICY_T_STRUCT, approvals, .sub = &keys_approvals,
	    .doc = "The queue."),
	KEY(policy_body, "notify", 19, POLICY_T_STRUCT, notify, .sub = &keys_notify,
	    .doc = "Who is told."),
	KEY(policy_body, "standing", 20, POLICY_T_LIST, standing, .sub = &keys_standing,
	    .doc = "Standing grants."),
	KEY(policy_body, "steps", 21, POLICY_T_MAP, steps, .sub = &keys_step,
	    .doc = "Narrower steps, by name."),
	KEY(policy_body, "tests", 22, POLICY_T_LIST, tests, .sub = &keys_case, .reason = true,
	    .doc = "What must hold."),
};
TABLE(policy_keys_file, policy_body, "policy",
      "A Holdfast policy; see holdfast-policy(5). Whatever is not granted is denied.");
