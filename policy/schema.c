/* The table of keys as a JSON Schema (2020-12), so that editors complete and check what the parser
 * reads. */
#include "policy/model.h"
#include "base/escape.h"

static void indent(struct buffer *b, int depth)
{
	buffer_append_byte(b, '\n');
	for (int i = 0; i < depth; i++)
		buffer_append_byte(b, '\t');
}

static void quoted(struct buffer *b, const char *text)
{
	buffer_append_byte(b, '"');
	escape_json(b, bytes_str(text));
	buffer_append_byte(b, '"');
}

static void write_table(struct buffer *b, const struct policy_table *t, int depth);

static void write_words(struct buffer *b, const char *const *words)
{
	buffer_append_str(b, "\"enum\": [");
	for (size_t i = 0; words[i]; i++) {
		if (i)
			buffer_append_str(b, ", ");
		quoted(b, words[i]);
	}
	buffer_append_str(b, "]");
}

static const char match_schema[] =
	"{\"anyOf\": [{\"type\": [\"string\", \"number\", \"boolean\"]}, "
	"{\"type\": \"object\", \"additionalProperties\": false, \"minProperties\": 1, "
	"\"maxProperties\": 1, \"properties\": "
	"{\"in\": {\"type\": \"array\"}, \"max\": {\"type\": \"integer\"}, \"min\": {\"type\": "
	"\"integer\"}}}]}";
static const char token_schema[] =
	"{\"anyOf\": [{\"type\": [\"string\", \"number\"]}, {\"type\": \"object\", "
	"\"additionalProperties\": false, "
	"\"required\": [\"any\"], \"properties\": {\"any\": {\"type\": \"array\"}}}]}";

/* The part of a value's schema that depends on its type, without braces. */
static void write_type(struct buffer *b, const struct policy_key *k, int depth)
{
	switch (k->type) {
	case POLICY_T_TEXT:
		buffer_append_str(b, "\"type\": [\"string\", \"number\"]");
		return;
	case POLICY_T_TEXTS:
		buffer_append_str(
			b, "\"type\": \"array\", \"items\": {\"type\": [\"string\", \"number\"]}");
		return;
	case POLICY_T_TEXT_OR_TEXTS:
		buffer_append_str(b, "\"anyOf\": [{\"type\": \"string\"}, "
				     "{\"type\": \"array\", \"items\": {\"type\": \"string\"}}]");
		return;
	case POLICY_T_WORD:
		/* YAML 1.1 editors read a bare yes as true. */
		if (strcmp(k->name, "replay") == 0)
			buffer_append_str(b, "\"enum\": [\"yes\", true]");
		else
			write_words(b, k->words);
		return;
	case POLICY_T_WORDS:
		buffer_append_str(b, "\"type\": \"array\", \"items\": {");
		write_words(b, k->words);
		buffer_append_str(b, "}");
		return;
	case POLICY_T_BOOL:
		buffer_append_str(b, "\"type\": \"boolean\"");
		return;
	case POLICY_T_COUNT:
		buffer_printf(b, "\"type\": \"integer\", \"minimum\": %llu, \"maximum\": %llu",
			      (unsigned long long)k->min, (unsigned long long)k->max);
		return;
	case POLICY_T_SIZE:
		buffer_append_str(b, "\"anyOf\": [{\"type\": \"integer\"}, {\"type\": \"string\", "
				     "\"pattern\": \"^[0-9]+([KMGT]i?B|B)?$\"}]");
		return;
	case POLICY_T_DURATION:
		buffer_append_str(b,
				  "\"type\": \"string\", \"pattern\": \"^([0-9]+(ms|[smhdw]))+$\"");
		return;
	case POLICY_T_STRUCT:
		write_table(b, k->sub, depth);
		return;
	case POLICY_T_LIST:
		buffer_append_str(b, "\"type\": \"array\", \"items\": {");
		write_table(b, k->sub, depth + 1);
		buffer_append_str(b, "}");
		return;
	case POLICY_T_MAP:
		buffer_append_str(b, "\"type\": \"object\", \"additionalProperties\": {");
		write_table(b, k->sub, depth + 1);
		buffer_append_str(b, "}");
		return;
	case POLICY_T_TEXT_MAP:
		buffer_append_str(b, "\"type\": \"object\", \"additionalProperties\": {\"type\": "
				     "[\"string\", \"number\"]}");
		return;
	case POLICY_T_MATCH_MAP:
		buffer_printf(b, "\"type\": \"object\", \"additionalProperties\": %s",
			      match_schema);
		return;
	case POLICY_T_TOKENS:
		buffer_printf(b, "\"type\": \"array\", \"items\": %s", token_schema);
		return;
	case POLICY_T_RAW:
		buffer_append_str(b, "\"type\": [\"object\", \"array\", \"string\"]");
		return;
	}
}

static void write_key(struct buffer *b, const struct policy_key *k, int depth)
{
	indent(b, depth);
	quoted(b, k->name);
	buffer_append_str(b, ": {\"description\": ");
	quoted(b, k->doc);
	buffer_append_str(b, ", ");
	write_type(b, k, depth + 1);
	buffer_append_str(b, "}");
}

static void write_object(struct buffer *b, const struct policy_table *t, int depth)
{
	bool first = true;

	buffer_append_str(b, "\"type\": \"object\", \"additionalProperties\": false");
	for (size_t i = 0; i < t->count; i++) {
		if (!t->keys[i].required)
			continue;
		buffer_append_str(b, first ? ", \"required\": [" : ", ");
		quoted(b, t->keys[i].name);
		first = false;
	}
	buffer_append_str(b, first ? ", \"properties\": {" : "], \"properties\": {");
	first = true;
	for (size_t i = 0; i < t->count; i++) {
		if (t->scalar == &t->keys[i])
			continue;
		if (!first)
			buffer_append_str(b, ",");
		write_key(b, &t->keys[i], depth + 1);
		first = false;
	}
	indent(b, depth);
	buffer_append_str(b, "}");
}

/* An object; or, where a plain word stands for it, either. */
static void write_table(struct buffer *b, const struct policy_table *t, int depth)
{
	if (!t->scalar) {
		write_object(b, t, depth);
		return;
	}
	buffer_append_str(b, "\"anyOf\": [{");
	write_words(b, t->scalar->words);
	buffer_append_str(b, "}, {");
	write_object(b, t, depth);
	buffer_append_str(b, "}]");
}

int policy_schema(struct buffer *out)
{
	buffer_append_str(
		out,
		"{\n\t\"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n\t\"title\": "
		"\"Holdfast policy\",\n\t\"description\": ");
	quoted(out, policy_keys_file.doc);
	buffer_append_str(out, ",\n\t");
	write_table(out, &policy_keys_file, 1);
	buffer_append_str(out, "\n}\n");
	return out->failed;
}
