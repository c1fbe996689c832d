/* packed.h - whole files that may be compressed: those named .gz and .zst are decompressed. */
#ifndef TD_BASE_PACKED_H
#define TD_BASE_PACKED_H

#include <stddef.h>

#include "tandem/error.h"

/* The content, followed by a 0; free() it. NULL with `error` if the file cannot be read, is damaged
 * or truncated, or has more than `limit` bytes of content, since a few compressed bytes can expand
 * to any size. */
char *td_file_read_packed(const char *path, size_t limit, size_t *size, td_error *error);

#endif
