/* put.h - a file of tensors: a header, then the data in order. */
#ifndef TD_IO_PUT_H
#define TD_IO_PUT_H

#include "io/safetensors.h"

/* Write `size` bytes of header and the tensors, each padded with zeros to a multiple of `alignment`,
 * which is at most 64. Streamed tensors are copied in pieces of whole elements and blocks, so the
 * file may be larger than memory. It appears complete, or not at all. */
int td_put_tensors(const char *path, const void *header, size_t size, const td_stored *tensors,
                   size_t count, size_t alignment, td_error *error);

#endif
