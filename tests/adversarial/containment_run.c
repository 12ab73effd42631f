#include "tests/adversarial/containment.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TRY_SECONDS = 5 };

int containment_run(const struct try *t, const struct world *w)
{
	int fds[2], answer = TRY_BROKEN, status = 0;

	if (pipe(fds) < 0)
		return TRY_BROKEN;
	pid_t pid = fork();
	if (pid == 0) {
		close(fds[0]);
		alarm(TRY_SECONDS);
		answer = t->fn(w);
		_exit(write(fds[1], &answer, sizeof(answer)) == (ssize_t)sizeof(answer) ? 0 : 1);
	}
	close(fds[1]);
	if (pid < 0 || read(fds[0], &answer, sizeof(answer)) != (ssize_t)sizeof(answer))
		answer = TRY_BROKEN;
	close(fds[0]);
	if (pid > 0)
		(void)waitpid(pid, &status, 0);
	if (answer == TRY_BROKEN && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return TRY_KILLED;
	return answer;
}

const char *containment_answer(int answer)
{
	switch (answer) {
	case TRY_REACHED:
		return "reached";
	case TRY_UNSEEN:
		return "nothing";
	case TRY_KILLED:
		return "killed";
	case TRY_BROKEN:
		return "broken";
	case TRY_ELSE:
		return "another answer";
	case TRY_ANY:
		return "an error";
	default:
		return strerrorname_np(answer) ? strerrorname_np(answer) : "?";
	}
}

void containment_write(const struct world *w, const char *path)
{
	FILE *f = fopen(path, "we");

	if (!f)
		abort();
#define X(name) fprintf(f, "%s\n", w->name);
	WORLD_FIELDS(X)
#undef X
	if (fclose(f) != 0)
		abort();
}

static void line(FILE *f, char *text)
{
	if (!fgets(text, WORLD_TEXT, f))
		abort();
	text[strcspn(text, "\n")] = '\0';
}

void containment_read(struct world *w, const char *path)
{
	FILE *f = fopen(path, "re");

	if (!f)
		abort();
#define X(name) line(f, w->name);
	WORLD_FIELDS(X)
#undef X
	fclose(f);
}
