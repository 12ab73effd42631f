#pragma once
/* `holdfast show EFFECT`: what was sent and what came back, as a person can audit it. */
#include "tools/cli.h"

/* False: there is no effect of that id prefix. which: NULL, or "request" or "response": that body.
 */
bool show_effect(struct client *c, const char *prefix, const char *which, int *ret_exit);
/* One line of a list. */
void show_effect_line(const json_t *effect);
