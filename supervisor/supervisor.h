#pragma once
/*
 * The supervisor's door for the command line: where its socket is, and what is said over it.
 *
 * HTTP/1.1 + JSON on a Unix stream socket `control` in the runtime folder. Peers: SO_PEERCRED uid =
 * the daemon's (or root); a peer in another user or pid namespace is refused (SO_PEERPIDFD; below
 * Linux 6.5 by its number). Descriptors travel by SCM_RIGHTS with the first byte of the request; the
 * header `Holdfast-Fds: name,name` names them in order.
 *
 * Every POST carries `Holdfast-Request: <up to 64 bytes>`, an id of the client's own, so that one
 * that lost its answer asks again: the same target with its query and the same body (descriptors are
 * not compared) under the same id are done once. While it is being worked on both are told its one
 * answer; later the answer is given again, one of the last 1024 of this supervisor's life, but for
 * 5xx and the answer of a replay, which are asked anew. Another request under the id is 409.
 * Beyond that the journal knows the id of a run, whoever asks: POST /v1/runs and fork under it are
 * the run that it began. No other id is recorded; what is asked again then meets what stands: a
 * signed vote that counts already is answered as it was, an unsigned one on what is decided and the
 * undo of what was taken back are errors that say so.
 *
 * Every answer is one JSON object with "version": 1. Errors:
 * {"version":1,"error":{"what","why","remedy","exit","where"}} with a fitting status (400, 403,
 * 404, 409, 413, 503). Times are RFC 3339 UTC with microseconds. Digests and ids are lowercase hex.
 * Names and paths that are not UTF-8 are escaped as base/escape.h does, and `..._b64` stands beside
 * them.
 *
 * The program: holdfastd [--state DIR] [--embedded] [--ready-fd N]; it reads the settings at start.
 * Once it serves, it writes "ready\n" to N and closes it; when it cannot, it writes the error as one
 * line ("what: why; remedy") and exits with that error's status. The client starts it with
 * posix_spawn in a session of its own, standard input and output on /dev/null, standard error on
 * `log` in the state directory.
 *
 * GET  /v1/daemon                 {pid, epoch, keeper, program, embedded, idle_in_ms, clients,
 *                                 settings: [{key, value, from}] as it read them at its start};
 *                                 keeper 0 = none is connected
 * POST /v1/daemon/stop            ends when what it must finish is durable; steps go on in the keeper
 * POST /v1/runs                   create: {name?, agency?, land?, base?, env: {..}, policy?: name of
 *                                 a built-in, workspace: path text, exec?: {argv, stdin?: true,
 *                                 tty?: {rows, cols, term}, land: bool, learn?: bool},
 *                                 driver?: true, plan_path?,
 *                                 policy_path?, user_policy_path?, project_policy_path?};
 *                                 fds: workspace plan? policy? user-policy? project-policy? stdin?
 *                                 file0 file1 ...
 *                                 learn: nothing asks a person (it is denied), nothing lands, and
 *                                 names are refused one by one where the policy names none
 *                                 The *_path members say what to call the files in messages and in
 *                                 trust. plan is the plan's text; fileN is the file of the Nth step
 *                                 with stdin: {file: F}, in plan order (at most 8). project-policy
 *                                 is .holdfast/policy.yaml of the workspace, or what the plan's
 *                                 policy: names; an inline policy is taken from the plan.
 *                                 201 {run, name, attached: false, notes, step?} | 200 {..,
 *                                 attached: true}; step: the name of an exec's only one
 * GET  /v1/runs                   roll-up: {runs: [summary...], needs_person: [...], in_doubt: [...],
 *                                 ended: how many are left out}: runs that have not ended, and
 *                                 the ten that began last of those that have; ?all=1: all runs,
 *                                 newest first
 * GET  /v1/runs/R                 status; R = id prefix or name; for GETs and replay also the plan's
 *                                 name, for the latest such run; not with ?decide=1: a
 *                                 decision follows
 * GET  /v1/runs/R/events?from=N&follow=1    one JSON object a line (application/x-ndjson, chunked
 *                                 when following)
 * GET  /v1/runs/R/steps/S         step with attempts, results, digests; S = name or key
 * GET  /v1/runs/R/steps/S/output?stream=out|err&from=N&follow=1    raw bytes
 *                                 (application/octet-stream)
 * GET  /v1/runs/R/steps/S/tty     answers with the pty master descriptor (SCM_RIGHTS with the first
 *                                 byte)
 * POST /v1/runs/R/steps/S/resize  {rows, cols}
 * POST /v1/runs/R/steps/S/signal  {signal}
 * GET  /v1/runs/R/diff?step=S     text/x-diff made by diff(1) in a sandbox; &stat=1 JSON list of net
 *                                 changes, with not_landing {scratch, left_out, paths}
 * POST /v1/runs/R/resume | pause | cancel {kill?: bool} | land | undo | end
 *                                 fds: workspace? where its path leads elsewhere now; cancel of a
 *                                 run that is over gives up its landing that failed
 * POST /v1/runs/R/agency          {agency: level, from?: the level that was seen} {agency, before};
 *                                 409 where from is not the level now
 * POST /v1/runs/R/fork            {at: step}  201 {run}
 * GET  /v1/runs/R/wants           what its steps asked for outside, allowed or not, counted (wants.h)
 * POST /v1/runs/R/replay          {agency?, policy?, .._policy_path?: as when a run is created};
 *                                 fds: policy? user-policy? project-policy?  What these would
 *                                 have said of what the run did: {decided, left_out, differences:
 *                                 [{what, step, title, effect?, count, before, after}], more}
 * POST /v1/runs/R/revoke          {grant: id}: it allows nothing from now on
 * POST /v1/runs/R/steps           outside driver: {name, argv, needs?, stdin?: true, ...};
 *                                 fds: stdin?  {step, reused}
 * GET  /v1/approvals              the queue, ranked; ?max=N the first N of `open`
 * GET  /v1/approvals/stats        how attention is spent: {all, rules: [{rule, class, asked,
 *                                 approved, denied, ...}]}
 * GET  /v1/approvals/A            {.., card: text, card_digest, state, kind, choices: [...],
 *                                 votes: [...]}
 * POST /v1/approvals/A/vote       {decision: approve|deny, card_digest, choice?, path?, reason?,
 *                                 shown_ms?, grant?: {match, uses, seconds, scope?: run|step}} or
 *                                 {ballot: hex, signature: armored} (vote.h);
 *                                 fds: file?  409 when stale
 * POST /v1/approvals/A/preview    {match}: what a grant of that pattern would have let of the run's
 *                                 last actions: {matched: [title], looked_at: how many, this: bool}
 * GET  /v1/effects/E              one effect whole: {.., action: {kind, method, host, port, path,
 *                                 query, headers, body, body_size, remote?, updates?, tool?, args?},
 *                                 response: {status, headers, body, too_long}, undo: {tool|text},
 *                                 digest, key?, secret, claimed, dropped, approval, doubt};
 *                                 E = id prefix
 * GET  /v1/effects/E/body?which=request|response    raw bytes
 * POST /v1/effects/E/undo         runs the tool that its rule names under `undo`; {effect, state}
 * POST /v1/trust                  {path, digest}; the path is absolute, resolved by the client
 * GET  /v1/trust?path=P
 * GET  /v1/verify | /v1/fsck | /v1/export?run=R    served while a daemon holds the journal
 * GET  /v1/gc?ended_before=T      {would_drop: [{run, name, state, landing, paths, ended}]}
 * POST /v1/gc                     {ended_before?: time} -> as verify, and freed (bytes of blobs)
 *
 * Shapes (members that do not apply are absent or null):
 * run summary  {run, name, state, waits: [name], landing, workspace, agency, created, ended, why,
 *              exit, landing_failed (why planning, landing or undoing cannot go on), steps: {total,
 *              done, failed}}
 * status       the summary's members, steps: [{index, name, key, state, attempts, since, why, paths,
 *              bytes}] instead, done: [{step, committed, attempts, exit_code, paths, bytes}],
 *              in_flight: [{step, attempt, state, since, waiting_on, deadline}],
 *              effects: {proposed, done, in_doubt, reads}, effects_done: [effect, the last 1000]
 *              (in_flight and safe_to_retry name `effect` and `title` where it is about one),
 *              safe_to_retry: [{item, class, until, rule, event, lsn}],
 *              needs_person: [approval summary], policies: [{layer, file}], notes: [text] (an untrusted project policy and what
 *              to type, walls in their weaker form), landing_why (DROPPED), landed_paths (how many
 *              landed or were taken back)
 * step         {run, index, name, key, state, why, input, attempts: [{number, id, state, started,
 *              ended, exit_code, signal, why, out_size, err_size, cpu_us, memory_peak, wall_us,
 *              layer, denied: [{syscall, name, count}], refused: [read of the log], refused_more,
 *              notes: [text]}], effects_denied: [effect], result: {exit_code, signal, out, err,
 *              out_size, err_size, manifest, paths, bytes, results: {name: digest}}}
 * event        {lsn, seq, time, type, step, attempt, actor: {kind, uid}, payload: {field: value}};
 *              field names of JOURNAL_FIELDS
 * approval     {approval, run, run_name, step, kind, state, title, opened, decide_by, execute_by,
 *              card_digest, choices: [name]}; in GET /v1/approvals/A also card: text, why,
 *              votes: [{principal, auth, decision, choice, reason, at}]
 * effect       {effect, run, step, attempt, state, title, class, retry, rule, at, approver, status,
 *              proposed, reserved, ended, sent, received, why}; in_doubt of the roll-up lists them
 *
 * An attempt that is not-started says why as "KIND: text", KIND one of exec (the program is missing
 * or cannot be executed), spec, denied, limit, workspace, machine, infra, killed, layers. States are
 * lowercase names with dashes ("gated-commit"), times absent where unknown.
 */
#include <stdbool.h>
#include "base/error.h"
#include "base/guard.h"
#include "supervisor/plan.h" /* the client reads a plan to know which files to open and pass */
#include "supervisor/vote.h" /* and makes the bytes that a voter signs */
#include "supervisor/settings.h" /* and the settings, to know where the state directory is */

enum { SUPERVISOR_STDIN_FILES_MAX = 8 };
enum { SUPERVISOR_API_VERSION = 1, SUPERVISOR_CONTROL_SOCKET_BACKLOG = 128 };
#define SUPERVISOR_CONTROL_SOCKET "control"

struct supervisor_paths {
	int state_fd; /* the state directory, checked: owner, 0700, O_NOFOLLOW */
	int runtime_fd; /* where the control socket is */
	char state[4096];
	char runtime[4096];
};

/* Finds (and with create makes) the state and runtime directories (holdfast(1), FILES).
 * state_option: --state, or NULL. environ values are passed by the caller: home, xdg_state,
 * xdg_runtime may be NULL. */
MUST_CHECK int supervisor_paths_open(const char *state_option, const char *home,
				     const char *xdg_state, const char *xdg_runtime, bool create,
				     struct supervisor_paths *ret, struct error *err);
/* The state directory alone, as it is: for commands that read it where no supervisor runs.
 * runtime_fd is -1. */
MUST_CHECK int supervisor_paths_open_state(const char *state_option, const char *home,
					   const char *xdg_state, struct supervisor_paths *ret,
					   struct error *err);
/* Whether something was ever run there: 0, or -ENODATA (exit USAGE) where there is no state
 * directory or nothing of ours in it. Makes nothing. path: where it is or would be, 4096 bytes. */
MUST_CHECK int supervisor_paths_there(const char *state_option, const char *home,
				      const char *xdg_state, char path[4096], struct error *err);
/* Writes the runtime folder down in the state directory, so that a client with another
 * XDG_RUNTIME_DIR finds the same one. By the supervisor that holds the lock. */
MUST_CHECK int supervisor_paths_record(const struct supervisor_paths *p, struct error *err);
void supervisor_paths_close(struct supervisor_paths *p);

/* ---- holdfastd: its program is nothing but these ---- */

struct daemon_options {
	const char *state; /* --state, or NULL */
	const char *home, *xdg_state, *xdg_config, *xdg_runtime,
		*notify_socket; /* of the environment; may be NULL */
	char *const *environment; /* the process's: where a policy takes secrets from; NULL = none
				   */
	const char *helpers; /* folder of the helper programs */
	const struct settings *settings; /* borrowed until daemon_free */
	bool embedded;
	int ready_fd; /* closed by daemon_run; -1 = none */
};

struct daemon; /* opaque, owned */
MUST_CHECK int daemon_open(const struct daemon_options *o, struct daemon **ret, struct error *err);
/* Serves until it is told to stop, or idle. */
MUST_CHECK int daemon_run(struct daemon *d, struct error *err);
void daemon_free(struct daemon *d); /* accepts NULL */
DEFINE_GUARD(struct daemon *, daemon_free)
