/* The policies that come with Holdfast: their YAML is compiled in, and read like any other. */
#include "policy/model.h"

static const char base[] =
#include "policy/builtin_base.inc"
	;
static const char offline[] =
#include "policy/builtin_offline.inc"
	;
static const char coding[] =
#include "policy/builtin_coding.inc"
	;

static const struct {
	const char *name;
	const char *text;
} builtins[] = {{"base", base}, {"offline", offline}, {"coding", coding}};

const char *policy_builtin_text(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(builtins); i++)
		if (strcmp(builtins[i].name, name) == 0)
			return builtins[i].text;
	return NULL;
}

const char *policy_builtin_name(size_t i)
{
	return i < ARRAY_SIZE(builtins) ? builtins[i].name : NULL;
}
