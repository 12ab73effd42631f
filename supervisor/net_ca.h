#pragma once
/*
 * The certificate authority of one run: its key signs what the run's gate shows to the programs in
 * the run's sandboxes, and nothing outside of them trusts it. Name-constrained (RFC 5280 section
 * 4.2.1.10) to the hosts of the run's name table, and to no address at all, so that a stolen key is
 * good for nothing else even inside. Email names are left alone: GnuTLS refuses every leaf under an
 * authority that excludes them.
 */
#include "base/buffer.h"
#include "base/error.h"
#include "sandbox/sandbox.h"

/* Appends the PEM of a new P-256 certificate, then of its key. CA:TRUE, pathlen 0. run: its name.
 */
MUST_CHECK int net_ca_make(const struct table *t, const char *run, int64_t from_s, int64_t until_s,
			   struct buffer *out, struct error *err);
/* The certificate at the beginning of what net_ca_make wrote, with its last newline. -EBADMSG. */
MUST_CHECK int net_ca_certificate(struct bytes pem, struct bytes *ret);
/* The name under which OpenSSL looks for it in a folder of certificates: "HASH.0". buf: 16 bytes.
 */
MUST_CHECK int net_ca_folder_name(struct bytes certificate, char *buf);
