/* Any bytes give a tree within the limits, or an error with a place. */
#include "base/yaml.h"
#include "base/utf8.h"
#include "tests/fuzz/fuzz.h"

static size_t walk(const struct yaml_node *n, int depth)
{
	size_t count = 1;

	MUST(n && depth <= YAML_DEPTH_MAX && n->line >= 1 && n->column >= 1);
	if (n->kind == YAML_SCALAR)
		MUST(n->text.len <= YAML_SCALAR_MAX && utf8_valid(n->text) &&
		     strlen(n->text.data) == n->text.len);
	for (size_t i = 0; n->kind != YAML_SCALAR && i < n->count; i++) {
		if (n->kind == YAML_SEQUENCE) {
			count += walk(n->items[i], depth + 1);
			continue;
		}
		MUST(n->pairs[i].key->kind == YAML_SCALAR && n->pairs[i].key->text.len > 0);
		for (size_t j = 0; j < i && i < 64; j++)
			MUST(!bytes_equal(n->pairs[i].key->text, n->pairs[j].key->text));
		count += 1 + walk(n->pairs[i].value, depth + 1);
	}
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct yaml_doc *d = NULL;
	struct error err = {0};
	int r = yaml_parse(bytes_of(data, size), "f", &d, &err);

	if (r < 0) {
		MUST(d == NULL && err.code == r && strncmp(err.where, "f:", 2) == 0);
		MUST(strncmp(err.msg, "error[E000", 10) == 0);
		return 0;
	}
	MUST(walk(yaml_root(d), 0) <= YAML_NODES_MAX);
	yaml_doc_free(d);
	return 0;
}
