#pragma once
/* Bodies that are made as they are read: the events of a run, and the output of a step. Owned by
 * the server. */
#include "supervisor/daemon.h"

/* One JSON object a line from seq `from` on; follow: until the run is over and nothing of it is
 * under way. Only durable records. */
struct api_stream *streams_events(struct daemon *d, const struct journal_id *run, uint64_t from,
				  bool follow);
/* Raw bytes of one attempt of the step (by number; 0: the last), from the spool while it is there, else from the blob.
 * follow: until it has ended; with no attempt yet, until there is one. */
struct api_stream *streams_output(struct daemon *d, const struct journal_id *run, uint32_t step,
				  uint32_t attempt, bool err_stream, uint64_t from, bool follow);
/* -EIO with *err: the blob of the last attempt's output is missing, or holds other bytes than were
 * recorded (one above 256 MiB is not read). A stream would only be short. */
MUST_CHECK int streams_check_output(struct daemon *d, const struct journal_step *step,
				    bool err_stream, struct error *err);
/* A whole descriptor (owned). */
struct api_stream *streams_fd(int fd);
