#include "tools/sign.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/guard.h"
#include "base/io.h"

extern char **environ;

/* Both are small: what is written fits a pipe, so neither side waits for the other. */
static int run_ssh_keygen(const char *key, struct bytes ballot, struct buffer *out,
			  struct error *err)
{
	char *argv[] = {(char *)"ssh-keygen", (char *)"-Y", (char *)"sign",	    (char *)"-f",
			(char *)key,	      (char *)"-n", (char *)VOTE_NAMESPACE, NULL};
	AUTO_FD in = io_memfd_sealed("ballot", ballot, false);
	posix_spawn_file_actions_t actions;
	int pipe_fds[2], status, r;
	pid_t pid;

	if (in < 0)
		return error_set(err, in, "cannot sign: %s", strerror(-in));
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot sign: %s", strerror(errno));
	AUTO_FD from = pipe_fds[0];
	AUTO_FD to = pipe_fds[1];
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, to, STDOUT_FILENO);
	r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		return error_set_exit(err, -r, EXIT_STATUS_USAGE,
				      "cannot sign: ssh-keygen: %s; install openssh-client",
				      strerror(r));
	close_fd(&to);
	r = io_read_all(from, VOTE_SIGNATURE_MAX, out);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return error_set(err, r, "cannot sign: its answer cannot be read: %s",
				 strerror(-r));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 && out->len
		       ? 0
		       : error_set_exit(err, -EPERM, EXIT_STATUS_USAGE,
					"nothing was decided: ssh-keygen did not sign with %s; see "
					"what it said above",
					key);
}

static int put_hex(json_t *body, const char *key, struct bytes b)
{
	static const char digits[] = "0123456789abcdef";
	AUTO_BUFFER hex = {0};

	for (size_t i = 0; i < b.len; i++) {
		uint8_t byte = ((const uint8_t *)b.data)[i];

		buffer_append_byte(&hex, (uint8_t)digits[byte >> 4]);
		buffer_append_byte(&hex, (uint8_t)digits[byte & 15]);
	}
	return hex.failed ? hex.failed
	       : json_object_set_new(body, key, json_stringn((const char *)hex.data, hex.len)) < 0
		       ? -ENOMEM
		       : 0;
}

int sign_vote(const char *key, struct vote_ballot *v, json_t *body, struct error *err)
{
	AUTO_BUFFER ballot = {0};
	AUTO_BUFFER signature = {0};
	struct timespec now;
	int r;

	clock_gettime(CLOCK_REALTIME, &now);
	v->time_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	if (getrandom(v->nonce, sizeof(v->nonce), 0) != sizeof(v->nonce))
		return error_set(err, -errno, "no randomness: %s", strerror(errno));
	r = vote_ballot_encode(v, &ballot);
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_USAGE,
				      "the reason, path or signer is too long");
	r = run_ssh_keygen(key, buffer_bytes(&ballot), &signature, err);
	if (r < 0)
		return r;
	r = put_hex(body, "ballot", buffer_bytes(&ballot));
	if (r == 0 &&
	    json_object_set_new(body, "signature",
				json_stringn((const char *)signature.data, signature.len)) < 0)
		r = -EILSEQ;
	return r < 0 ? error_set(err, r, "cannot send what was signed: %s", strerror(-r)) : 0;
}
