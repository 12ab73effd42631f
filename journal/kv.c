/* Batches as a log of operations. */
#include "journal/kv.h"

#include <endian.h>
#include <errno.h>

struct op_head { /* unaligned in the log: copied in and out */
	uint8_t op, family;
	uint32_t key_len, value_len;
};

static void append(struct buffer *batch, struct op_head head, struct bytes key, struct bytes value)
{
	if (buffer_reserve(batch, sizeof(head) + key.len + value.len) < 0)
		return;
	buffer_append(batch, &head, sizeof(head));
	buffer_append(batch, key.data, key.len);
	if (value.len)
		buffer_append(batch, value.data, value.len);
}

void journal_kv_put(struct buffer *batch, enum journal_family f, struct bytes key,
		    struct bytes value)
{
	append(batch,
	       (struct op_head){JOURNAL_KV_PUT, (uint8_t)f, (uint32_t)key.len, (uint32_t)value.len},
	       key, value);
}

void journal_kv_delete(struct buffer *batch, enum journal_family f, struct bytes key)
{
	append(batch, (struct op_head){JOURNAL_KV_DELETE, (uint8_t)f, (uint32_t)key.len, 0}, key,
	       bytes_of(NULL, 0));
}

void journal_kv_put_lsn(struct buffer *batch, uint64_t lsn)
{
	uint64_t be = htobe64(lsn);
	journal_kv_put(batch, JOURNAL_FAMILY_META, bytes_str(JOURNAL_META_LSN),
		       bytes_of(&be, sizeof(be)));
}

bool journal_kv_next(struct bytes *batch, enum journal_kv_op *op, enum journal_family *f,
		     struct bytes *key, struct bytes *value)
{
	struct op_head head;
	const uint8_t *at = batch->data;
	if (batch->len < sizeof(head))
		return false;
	memcpy(&head, at, sizeof(head));
	at += sizeof(head);
	*op = (enum journal_kv_op)head.op;
	*f = (enum journal_family)head.family;
	*key = bytes_of(at, head.key_len);
	*value = bytes_of(at + head.key_len, head.value_len);
	size_t used = sizeof(head) + head.key_len + head.value_len;
	*batch = bytes_of((const uint8_t *)batch->data + used, batch->len - used);
	return true;
}
