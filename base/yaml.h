#pragma once
/*
 * Strict YAML read from libyaml's events into a tree that remembers lines and columns. Refused,
 * each with file:line:column: anchors, aliases, tags, merge keys, duplicate keys, a second
 * document, control and deceptive characters (written or by an escape), invalid UTF-8, keys that
 * are not scalars, empty keys, depth, size and count past the limits. Scalars stay text: the schema
 * of the reader types them, not YAML. Pure: bytes in, tree out.
 */
#include "base/buffer.h"

enum {
	YAML_BYTES_MAX = 1024 * 1024,
	YAML_DEPTH_MAX = 32,
	YAML_NODES_MAX = 100000,
	YAML_SCALAR_MAX = 256 * 1024
};

enum yaml_kind { YAML_SCALAR, YAML_SEQUENCE, YAML_MAPPING };

struct yaml_node {
	enum yaml_kind kind;
	int line; /* 1-based */
	int column; /* 1-based, in characters */
	bool quoted; /* scalar: in quotes or a block, so never null */
	struct bytes text; /* scalar; NUL-terminated in place */
	size_t count; /* items of a sequence, pairs of a mapping */
	struct yaml_node **items; /* sequence */
	struct yaml_pair *pairs; /* mapping, in document order */
};

struct yaml_pair {
	struct yaml_node *key;
	struct yaml_node *value;
	const struct yaml_node
		*first; /* yaml_parse_lenient: the same key stood here before; else NULL */
};

struct yaml_doc; /* opaque, owned: the tree and its text */

/*
 * err->where = "file:line:column", err->msg without it; err->exit_status = EXIT_STATUS_USAGE. Codes
 * in msg: error[E0001] syntax · E0002 invalid UTF-8, control or deceptive character · E0003 key
 * given twice · E0004 anchor, alias, tag, merge key or directive · E0005 second document · E0006 a
 * limit · E0007 a key that is no scalar or empty · E0008 empty document. Returns -EINVAL, -E2BIG
 * (E0006) or -ENOMEM.
 */
MUST_CHECK int yaml_parse(struct bytes text, const char *file, struct yaml_doc **ret,
			  struct error *err);
/* The same, but a key given twice is left in the tree with `first` set, for a reader that reports
 * all it finds at once (as E0003) and takes nothing of a file with an error. */
MUST_CHECK int yaml_parse_lenient(struct bytes text, const char *file, struct yaml_doc **ret,
				  struct error *err);
void yaml_doc_free(struct yaml_doc *d); /* accepts NULL */
struct yaml_node *yaml_root(const struct yaml_doc *d);
/* The value under key, or NULL (also where map is no mapping). */
struct yaml_node *yaml_get(struct yaml_node *map, const char *key);
/* A plain scalar that stands for nothing: empty, ~ or null. */
bool yaml_is_null(const struct yaml_node *n);
/* Where the mapping holds a key that is none of known: fills err at that key ("what: unknown key
 * 'x'; did you mean 'y'?"), returns -EINVAL. To be asked before what a mapping must hold: the key
 * that is missing may be there, misspelt. */
MUST_CHECK int yaml_known_keys(const struct yaml_node *map, const char *const *known, size_t count,
			       const char *what, const char *file, struct error *err);
/* Sets err->where to the place, and the exit to USAGE; a long path is cut at its start. */
void yaml_where(struct error *err, const char *file, int line, int column);
/* For readers that stop at YAML_BYTES_MAX: the error that yaml_parse gives for such a text. Returns
 * -E2BIG. */
int yaml_too_large(struct error *err, const char *file);
/* Fills err at the node's place and returns code. */
int yaml_error(struct error *err, const char *file, const struct yaml_node *n, int code,
	       const char *fmt, ...) PRINTF_LIKE(5, 6);
/* The candidate nearest to word by edit distance (at most a third of its length), or NULL: for "did
 * you mean". */
const char *yaml_nearest(struct bytes word, const char *const *candidates, size_t count);
