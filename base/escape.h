#pragma once
/*
 * The one function that makes bytes safe to show a person on any surface (terminal, card, log):
 * every non-printable, bidi, zero-width and invalid byte becomes visible, as \n, \t, \xNN or \u{N}.
 * A backslash becomes \\. Pure.
 */
#include "base/buffer.h"

enum escape_flags {
	ESCAPE_LINE = 0, /* one line: newline and tab are escaped too */
	ESCAPE_KEEP_NEWLINE = 1, /* text of several lines: \n stays, \t stays */
	ESCAPE_KEEP_BACKSLASH = 2, /* for prose of our own that quotes */
	ESCAPE_MARK_LOOKALIKE =
		4, /* non-ASCII letters that mix scripts within a word are shown as \u{N} */
};
void escape_append(struct buffer *out, struct bytes in, unsigned flags);
/* What a record or a message holds of a text of others: UTF-8 of at most max bytes. It is b itself,
 * cut at a character where it is too long; bytes that are no UTF-8 come out escaped, the rest of
 * that text with them (ESCAPE_LINE), in scratch. Borrowed from b or from scratch, whose content is
 * replaced; empty when out of memory (scratch->failed). */
struct bytes escape_bounded(struct bytes b, size_t max, struct buffer *scratch);
/* Owned NUL-terminated copy; NULL when out of memory. */
char *escape_dup(struct bytes in, unsigned flags);
/* JSON string body (no quotes), invalid UTF-8 as U+FFFD, deceptive characters as \uNNNN: only for
 * hand-made JSON lines; jansson elsewhere. */
void escape_json(struct buffer *out, struct bytes in);
