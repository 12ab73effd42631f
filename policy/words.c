/* The names of values, and the dial. */
#include "policy/model.h"

const char *policy_verdict_name(enum policy_verdict v)
{
	return policy_keys_verdicts[v];
}

const char *policy_class_name(enum policy_class c)
{
	static const char *const names[] = {"read", "reversible", "unknown", "irreversible"};

	return names[c];
}

const char *policy_agency_name(enum policy_agency a)
{
	return a == POLICY_AGENCY_UNSET ? "" : policy_keys_agencies[a - 1];
}

const char *policy_access_name(enum policy_access a)
{
	return policy_keys_accesses[a];
}

enum policy_agency policy_agency_from(const char *text)
{
	for (int i = 0; policy_keys_agencies[i]; i++)
		if (strcmp(text, policy_keys_agencies[i]) == 0)
			return (enum policy_agency)(i + 1);
	return POLICY_AGENCY_UNSET;
}

const char *policy_limit_name(enum policy_limit l)
{
	static const char *const names[] = {"wall",  "cpu",    "memory", "pids",    "disk",
					    "files", "output", "egress", "requests"};

	return names[l];
}

const char *policy_layer_name(enum policy_layer l)
{
	static const char *const names[] = {"org", "user",   "project", "project (untrusted)",
					    "run", "default"};

	return names[l];
}

/* Rows by agency, columns by class. Monotone both ways: a row below allows no less, a column to
 * the right no more. */
enum policy_verdict policy_dial(enum policy_agency a, enum policy_class c)
{
	static const enum policy_verdict dial[][4] = {
		/* UNSET decides nothing: it must never be asked. */
		[POLICY_AGENCY_UNSET] = {POLICY_DENY, POLICY_DENY, POLICY_DENY, POLICY_DENY},
		[POLICY_OBSERVE] = {POLICY_ALLOW, POLICY_DENY, POLICY_DENY, POLICY_DENY},
		[POLICY_DRAFT] = {POLICY_ALLOW, POLICY_ASK, POLICY_DENY, POLICY_DENY},
		[POLICY_ASSIST] = {POLICY_ALLOW, POLICY_ALLOW, POLICY_ASK, POLICY_ASK},
		[POLICY_TRUSTED] = {POLICY_ALLOW, POLICY_ALLOW, POLICY_ASK, POLICY_ASK},
		[POLICY_AUTONOMOUS] = {POLICY_ALLOW, POLICY_ALLOW, POLICY_ALLOW, POLICY_ASK},
	};

	return dial[a][c];
}

enum policy_files policy_dial_files(enum policy_agency a)
{
	switch (a) {
	case POLICY_AGENCY_UNSET:
	case POLICY_OBSERVE:
		return POLICY_FILES_READ_ONLY;
	case POLICY_DRAFT:
		return POLICY_FILES_LANDING_ASKS;
	case POLICY_ASSIST:
	case POLICY_TRUSTED:
	case POLICY_AUTONOMOUS:
		return POLICY_FILES_LANDS;
	}
	return POLICY_FILES_READ_ONLY;
}
