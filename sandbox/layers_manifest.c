/* Apart from layers.c, so that the keeper, which makes layers and reads no manifest, needs no
 * digests. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "sandbox/layers.h"

int layers_read_manifest(int layers, const char *name, struct manifest **ret, struct error *err)
{
	AUTO_BUFFER bytes = {.max = MANIFEST_BYTES_MAX};
	AUTO_FD fd = -1;
	int r = layers_check_name(name);

	if (r < 0)
		return error_set(err, r, "layer: its name is not 1 to 7 of a-z, 0-9");
	fd = io_open_beneath(layers, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return error_set(err, fd, "layer %s: cannot be opened: %s", name, strerror(-fd));
	r = io_read_file_at(fd, LAYERS_MANIFEST, MANIFEST_BYTES_MAX, &bytes);
	if (r == -ENOENT)
		return error_set(err, r, "layer %s: is not sealed", name);
	if (r < 0)
		return error_set(err, r, "layer %s: its manifest cannot be read: %s", name,
				 strerror(-r));
	r = manifest_decode(buffer_bytes(&bytes), ret, err);
	if (r < 0)
		error_where(err, "layer %s", name);
	return r;
}
