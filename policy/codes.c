/* Every code that `holdfast policy check` prints: what it means and what to do. holdfast-policy(5) is held to it. */
#include "policy/model.h"

#define E(n, meaning, remedy) {n, POLICY_ERROR, meaning, remedy}
#define W(n, meaning, remedy) {n, POLICY_WARNING, meaning, remedy}

static const struct policy_code codes[] = {
	E(1, "The text is not YAML.", "Look at the line named: indentation, quotes, brackets."),
	E(2, "A byte that is not UTF-8, or a control, bidi or invisible character.", "Remove it; save as UTF-8."),
	E(3, "A key stands twice in one mapping.", "Keep one; lists of rules are joined under one key."),
	E(4, "An anchor, alias, tag, merge key or directive.", "Write the value out, or use `extends`."),
	E(5, "A second document in the file.", "One file holds one policy."),
	E(6, "The file is too large, too deep, or has too many values.", "Split it, and use `extends`."),
	E(7, "A key that is empty, a list or a mapping.", "A key is one word."),
	E(8, "The file is empty.", "A policy begins with `version: 1`."),
	E(9, "More findings than are shown.", "Correct those shown and check again."),
	E(10, "A key that is not known here.", "Take the one suggested, or see the grammar."),
	E(11, "A key is missing that must be there.", "Add it."),
	E(12, "A value of another kind: one value, a list or a mapping is expected.", "See the grammar for the key."),
	E(13, "A word that is none of the allowed ones.", "Take one of those named."),
	E(14, "Not a whole number.", "Write digits without leading zeros, signs or separators."),
	E(15, "Not a duration.", "Write 250ms, 30s, 10m, 1h30m, 7d; the unit must be said."),
	E(16, "Not a size.", "Write 512, 64KiB, 4GiB (powers of 1024) or 10MB (powers of 1000)."),
	E(17, "A number out of its range.", "Take one within the range named."),
	E(18, "Not a name.", "1 to 128 bytes; no '/', '#', control or invisible characters."),
	E(19, "A text or list that is too long, or empty.", "Shorten it."),
	E(20, "A text with a control, bidi or invisible character.", "Remove it."),
	E(101, "Not a clean absolute path.", "Begin with '/', ${workspace} or ${home}; no '.', '..' or '//'."),
	E(102, "A '*' where none may be.", "'*' may stand in the last part of a path only."),
	E(103, "An unknown variable, or one that is not at the start.", "${workspace}, ${home}, ${tmp}, ${run}."),
	E(104, "`except` names something that the rule does not cover.", "Name paths below the rule's path."),
	E(105, "The same path is given two accesses in one file.", "Keep one."),
	E(110, "Not a host name.", "Lowercase, A-labels (xn--) for other scripts, no port, no address."),
	E(111, "A pattern over a domain under which anyone may register.", "Name the registered domain."),
	E(112, "A name that is local to a machine or network.", "Say its `address`, or name a public host."),
	E(113, "Neither an IP address nor a CIDR.", "10.1.2.3, 10.1.0.0/16, 2001:db8::/32; no bits beyond the mask."),
	E(114, "Not a URL path pattern.", "Decoded, from '/', without query; '**' alone at the end."),
	E(115, "Not a JSON pointer (RFC 6901).", "/a/b/0; '~' as ~0, '/' as ~1."),
	E(116, "Not an HTTP method.", "Capitals: GET, POST. CONNECT is never allowed."),
	E(117, "Not a git remote.", "https://host/owner/repository; '*' for one part of the path."),
	E(118, "Not a ref.", "Its full name: refs/heads/main; '*' stands for anything."),
	E(119, "Not a header that may be set.", "A token; none that belongs to the connection."),
	E(120, "Not the name of a variable.", "Letters, digits, '_'; a pattern is PREFIX_*."),
	E(121, "Not a format of a secret.", "Text that holds {} or {basic:USER} once."),
	E(122, "Not a date.", "2026-12-31, or 2026-12-31T18:00:00Z."),
	E(123, "Not a principal.", "starter, or a uid."),
	E(201, "A rule names none, or more than one, of what it may be.", "Say exactly one of those named."),
	E(202, "An id is given twice.", "Ids are unique over net, tools and all that is extended."),
	E(203, "A tool is named that does not exist.", "Add it under `tools`, or correct the id."),
	E(204, "A secret is used for a host that it may not go to.", "Add the host to its `to`, or drop it."),
	E(205, "A secret over plain http.", "Use https."),
	E(206, "Something that cannot be seen: passthrough and tcp show a host only.", "Drop it, or inspect."),
	E(207, "`effect: reversible` without `undo`.", "Name the tool or the text that takes it back."),
	E(208, "`undo` on an action that is not reversible.", "Say `effect: reversible`, or drop undo."),
	E(209, "`force` or `delete` on a fetch.", "They belong to pushes."),
	E(210, "A push is allowed without saying which refs.", "List `refs`."),
	E(211, "A push that calls itself a read.", "A push is reversible or irreversible."),
	E(212, "A rule id that does not exist.", "Correct it; ids are those of net and tools."),
	E(213, "An empty list where one entry is needed.", "Fill it."),
	E(301, "A step with a higher agency than its file.", "A step only narrows: lower it, or raise the file's."),
	E(302, "A step with a larger limit than its file.", "A step only narrows."),
	E(303, "A step with wider access than its file.", "A step only narrows."),
	E(401, "An extended policy that cannot be found.", "base, offline, coding."),
	E(402, "A policy that extends itself, or too deep a chain.", "Break the circle."),
	E(403, "An extended policy that has errors.", "Check it by itself."),
	E(501, "A test whose request cannot be read.", "http: METHOD URL; git: push URL REF; tcp: host:port; ..."),
	W(601, "A deeper path is wider than the one above it.", "Make sure that this is meant; say why."),
	W(602, "`rw` writes at once, outside the transaction, and reaches sockets.", "Use stage or scratch."),
	W(603, "A reversible action is gated like an irreversible one.", "Allow it: it spends attention wrongly."),
	W(604, "A secret that this file does not define.", "Define it here, or in the organisation's or user's policy."),
	W(605, "`do: allow` on an irreversible action, which asks at every agency.", "Say ask."),
	W(606, "A limit above the inherited one has no effect.", "Limits take the smaller one; drop it."),
	W(607, "A part that does not count in a project's file.", "Move it to the user's policy or to --policy."),
};

const struct policy_code *policy_code_at(size_t i)
{
	return i < ARRAY_SIZE(codes) ? &codes[i] : NULL;
}

void policy_finding_print(const struct policy_finding *f, struct buffer *out)
{
	bool error = f->severity == POLICY_ERROR;

	buffer_printf(out, "%s:%d:%d: %s[%c%04d]: %s\n", f->at.file, f->at.line, f->at.column,
		      error ? "error" : "warning", error ? 'E' : 'W', f->code, f->msg);
}
