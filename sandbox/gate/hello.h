#pragma once
/*
 * A TLS client hello, looked at before anything answers it (RFC 8446, RFC 6066, RFC 9849): which
 * name it asks for, and whether it hides another one. Pure, bounded.
 */
#include "base/buffer.h"

enum { HELLO_BYTES_MAX = 32 * 1024, HELLO_NAME_MAX = 253 };

struct hello {
	char name[HELLO_NAME_MAX + 1]; /* server_name, lowercase; "" = none */
	bool encrypted; /* an encrypted_client_hello is there; browsers also send it without one
			   (GREASE), which nobody but the sender can tell */
};

enum hello_result {
	HELLO_WHOLE = 0,
	HELLO_NEED_MORE = 1,
};
/* in: all bytes of the connection so far. An enum hello_result; -EPROTO: no TLS record of a
 * handshake; -EBADMSG: broken, or a name that is no host name or is given twice; -E2BIG. *ret is
 * filled where it is whole. */
MUST_CHECK int hello_parse(struct bytes in, struct hello *ret);
/* TLS alerts that are sent before there is a connection (RFC 8446 section 6): 7 bytes of a record.
 */
enum hello_alert {
	HELLO_ALERT_DECODE_ERROR = 50,
	HELLO_ALERT_UNRECOGNIZED_NAME = 112,
	HELLO_ALERT_ILLEGAL_PARAMETER = 47,
	HELLO_ALERT_SIZE = 7,
};
void hello_alert(enum hello_alert alert, uint8_t *out);
