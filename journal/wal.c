/* The write-ahead log read past its damage. Pure. */
#include "journal/wal.h"

#include <endian.h>

enum {
	BLOCK_SIZE = 32768,
	HEADER_SIZE = 7, /* crc32c (masked), length, type */
	TYPE_FULL = 1,
	TYPE_FIRST = 2,
	TYPE_MIDDLE = 3,
	TYPE_LAST = 4,
	BATCH_HEADER_SIZE = 12, /* sequence number, count */
	TAG_LOG_DATA = 3,
};

static const char magic[4] = {'H', 'F', 'W', '1'};

/* CRC-32C (Castagnoli; RFC 3720, appendix B.4), reflected, by nibbles. */
uint32_t journal_wal_crc32c(uint32_t crc, const void *data, size_t len)
{
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	const uint8_t *p = data;
	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		crc = (crc >> 4) ^ table[crc & 15];
		crc = (crc >> 4) ^ table[crc & 15];
	}
	return ~crc;
}

static uint32_t unmask(uint32_t masked) /* rocksdb/util/crc32c.h */
{
	uint32_t rot = masked - 0xa282ead8u;
	return (rot >> 17) | (rot << 15);
}

static uint64_t le64(const uint8_t *at)
{
	uint64_t v;
	memcpy(&v, at, sizeof(v));
	return le64toh(v);
}

void journal_wal_mark_write(const uint8_t *secret, const struct journal_wal_mark *m, uint8_t *out)
{
	const uint64_t numbers[3] = {htole64(m->first), htole64(m->last), htole64(m->synced)};
	memcpy(out, magic, sizeof(magic));
	memcpy(out + sizeof(magic), secret, JOURNAL_WAL_SECRET_SIZE);
	memcpy(out + sizeof(magic) + JOURNAL_WAL_SECRET_SIZE, numbers, sizeof(numbers));
}

/* batch: at least the head of a write batch. */
static bool read_mark(const uint8_t *secret, struct bytes batch, struct journal_wal_mark *ret)
{
	const uint8_t *at = batch.data;
	if (batch.len < BATCH_HEADER_SIZE + 2 + JOURNAL_WAL_MARK_SIZE)
		return false;
	at += BATCH_HEADER_SIZE;
	if (at[0] != TAG_LOG_DATA || at[1] != JOURNAL_WAL_MARK_SIZE)
		return false;
	at += 2;
	if (memcmp(at, magic, sizeof(magic)) != 0 ||
	    memcmp(at + sizeof(magic), secret, JOURNAL_WAL_SECRET_SIZE) != 0)
		return false;
	at += sizeof(magic) + JOURNAL_WAL_SECRET_SIZE;
	*ret = (struct journal_wal_mark){le64(at), le64(at + 8), le64(at + 16)};
	return true;
}

static void take_mark(struct journal_wal_scan *s, const struct journal_wal_mark *m)
{
	if (s->batches && m->first != s->last_lsn + 1) {
		s->damaged = true; /* whole batches are missing */
		if (!s->hole_first) {
			s->hole_first = s->last_lsn + 1;
			s->hole_last = m->first - 1;
		}
	}
	s->batches++;
	s->last_lsn = m->last;
	if (m->synced > s->synced)
		s->synced = m->synced;
}

/* The record at `at`, whole within its block: its length with header, or 0. */
static size_t record_at(struct bytes file, size_t at, uint8_t *ret_type)
{
	const uint8_t *p = (const uint8_t *)file.data + at;
	size_t in_block = BLOCK_SIZE - at % BLOCK_SIZE;
	if (in_block < HEADER_SIZE || file.len - at < HEADER_SIZE)
		return 0;
	size_t len = (size_t)p[4] | (size_t)p[5] << 8;
	uint8_t type = p[6];
	if (type < TYPE_FULL || type > TYPE_LAST || HEADER_SIZE + len > in_block ||
	    HEADER_SIZE + len > file.len - at)
		return 0;
	uint32_t stored =
		(uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	if (journal_wal_crc32c(0, p + 6, len + 1) != unmask(stored))
		return 0;
	*ret_type = type;
	return HEADER_SIZE + len;
}

static bool zeros_to_end(struct bytes file, size_t at)
{
	const uint8_t *p = file.data;
	while (at < file.len && p[at] == 0)
		at++;
	return at == file.len;
}

/* The beginning of a batch, put together from its fragments: a block's end may cut even the mark.
 */
struct head {
	uint8_t data[BATCH_HEADER_SIZE + 2 + JOURNAL_WAL_MARK_SIZE];
	size_t len;
};

static void head_add(struct head *h, struct bytes body)
{
	size_t room = sizeof(h->data) - h->len, take = body.len < room ? body.len : room;
	if (take)
		memcpy(h->data + h->len, body.data, take);
	h->len += take;
}

/* A batch counts only when its last fragment is intact too. */
void journal_wal_scan_file(struct journal_wal_scan *s, struct bytes file, bool newest)
{
	struct head head = {.len = 0};
	struct journal_wal_mark mark;
	bool open = false; /* a first fragment was read, its last one not yet */
	size_t at = 0;
	while (at < file.len) {
		if (BLOCK_SIZE - at % BLOCK_SIZE < HEADER_SIZE) { /* the trailer of a block */
			at += BLOCK_SIZE - at % BLOCK_SIZE;
			continue;
		}
		uint8_t type = 0;
		size_t len = record_at(file, at, &type);
		if (len == 0) {
			if (zeros_to_end(file, at))
				break;
			bool cut_header = file.len - at < HEADER_SIZE;
			const uint8_t *p = (const uint8_t *)file.data + at;
			size_t claims =
				cut_header ? 0 : HEADER_SIZE + ((size_t)p[4] | (size_t)p[5] << 8);
			bool cut = cut_header || claims > file.len - at;
			if (cut && newest)
				s->torn = true;
			else
				s->damaged = true;
			open = false;
			at++; /* whatever can still be read counts: try every place */
			continue;
		}
		struct bytes body =
			bytes_of((const uint8_t *)file.data + at + HEADER_SIZE, len - HEADER_SIZE);
		bool begins = type == TYPE_FULL || type == TYPE_FIRST;
		if (begins == open)
			s->damaged = true; /* a fragment without its first, or a first without its
					      last */
		if (begins)
			head.len = 0;
		head_add(&head, body);
		bool whole = type == TYPE_FULL || (type == TYPE_LAST && open);
		open = type == TYPE_FIRST || (type == TYPE_MIDDLE && open);
		if (whole && read_mark(s->secret, bytes_of(head.data, head.len), &mark))
			take_mark(s, &mark);
		at += len;
	}
	if (!open)
		return;
	if (newest)
		s->torn = true;
	else
		s->damaged = true;
}
