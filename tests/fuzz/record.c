/* Any bytes as a record: an error, or a record that encodes to the same bytes (unknown keys aside)
 * and that a fold takes or refuses. The same bytes as a stored row of each kind, as heads, and as a
 * write-ahead log, never crash. */
#include <errno.h>
#include "journal/heads.h"
#include "journal/row.h"
#include "journal/wal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/journal/canonical.h"

static int count_head(const struct journal_head *h, void *arg)
{
	(void)h;
	++*(size_t *)arg;
	return 0;
}

static void as_record(struct bytes b)
{
	AUTO_BUFFER again = {0};
	struct journal_record r, back;
	struct digest hash;
	struct error err = {0};
	struct journal_state *s;

	if (journal_record_decode(b, &r) < 0)
		return;
	MUST(journal_record_encode(&r, &again) == 0 && again.len <= b.len);
	MUST(again.len < b.len || bytes_equal(b, buffer_bytes(&again)));
	MUST(journal_record_decode(buffer_bytes(&again), &back) == 0);
	s = journal_state_new();
	MUST(s);
	journal_record_hash(b, &hash);
	MUST(journal_fold(s, &r, &hash, &err) <= 0);
	journal_state_fill(s, &r);
	MUST(journal_fold(s, &r, &hash, &err) <= 0);
	again.len = 0;
	MUST(canonical_rows(s, &again) == 0);
	journal_state_free(s);
}

static void as_rows(struct bytes b)
{
	static const struct {
		char kind;
		size_t key_len;
	} rows[] = {{'d', 1},  {'r', 17}, {'s', 21}, {'a', 25},
		    {'p', 33}, {'t', 33}, {'l', 17}, {'u', 9}};
	struct journal_state *s = journal_state_new();
	AUTO_BUFFER out = {0};

	MUST(s);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t key[40] = {0};
		memset(key, '1', rows[i].key_len);
		key[0] = (uint8_t)rows[i].kind;
		if (rows[i].kind == 's' || rows[i].kind == 'a')
			memset(key + 17, 0, 4);
		if (rows[i].kind == 'a')
			memcpy(key + 21, "\0\0\0\1", 4);
		int r = journal_row_decode(s, bytes_of(key, rows[i].key_len), b);
		MUST(r == 0 || r == -EBADMSG);
	}
	MUST(canonical_rows(s, &out) == 0);
	journal_state_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t secret[JOURNAL_WAL_SECRET_SIZE];
	struct journal_wal_scan scan = {.secret = secret};
	size_t heads = 0;

	as_record(bytes_of(data, size));
	as_rows(bytes_of(data, size));
	MUST(journal_heads_each(bytes_of(data, size), count_head, &heads) <= 0);
	journal_wal_scan_file(&scan, bytes_of(data, size), size % 2);
	return 0;
}
