/* Any bytes give settings within their limits that can be shown, or an error with a place. */
#include "supervisor/settings.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = {0};
	struct settings s;
	int r;

	settings_defaults(&s);
	r = settings_parse(bytes_of(data, size), "f", &s, &err);
	if (r < 0) {
		MUST(err.code == r && err.exit_status == EXIT_STATUS_USAGE);
		MUST(strncmp(err.where, "f:", 2) == 0);
	} else {
		MUST(s.attempts >= 1 && s.attempts <= SETTINGS_ATTEMPTS_MAX);
		MUST(s.clients >= SETTINGS_CLIENTS_MIN && s.clients <= SETTINGS_CLIENTS_MAX);
		MUST(s.idle_ms >= SETTINGS_IDLE_MIN_MS && s.idle_ms <= SETTINGS_IDLE_MAX_MS);
		MUST(s.resolver_count <= SETTINGS_RESOLVERS_MAX && s.reserve_bytes > 0);
		for (int k = 0; k < SETTINGS_KEY_COUNT; k++) {
			AUTO_BUFFER out = {0};

			MUST(settings_value(&s, (enum settings_key)k, &out) == 0);
			MUST(settings_origin(&s, (enum settings_key)k, &out) == 0);
		}
	}
	settings_free(&s);
	return 0;
}
