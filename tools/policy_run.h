#pragma once
/* The verbs of holdfast policy that ask a supervisor: both return what to leave with. */

/* test --replay. policy: a file or a built-in, NULL = what is in force now; agency may be NULL. */
int policy_run_replay(const char *run, const char *policy, const char *agency);
/* learn: argv[0] is that word. */
int policy_run_learn(int argc, char **argv);
