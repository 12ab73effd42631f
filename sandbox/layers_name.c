#include <errno.h>
#include <string.h>

#include "sandbox/layers.h"

int layers_check_name(const char *name)
{
	size_t len = strnlen(name, LAYERS_NAME_SIZE);

	if (len == 0 || len == LAYERS_NAME_SIZE)
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9'))
			return -EINVAL;
	return 0;
}
