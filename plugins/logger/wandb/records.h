/* records.h - a file of records, as wandb keeps a run: LevelDB's log format after a header of its
 * own.
 *
 * The file is cut into blocks of 32 KiB. A record is one piece or several, none of which crosses a
 * block: the CRC-32 of type and bytes, the number of bytes (16 bits), the type, and the bytes. If
 * fewer than seven bytes are left in a block, they are zeros.
 */
#ifndef TD_LOGGER_WANDB_RECORDS_H
#define TD_LOGGER_WANDB_RECORDS_H

#include <stdio.h>

#include "message.h"

/* Both return false if the file cannot be written, with errno. */
bool records_begin(FILE *); /* the header, at the beginning of the file */
bool records_append(FILE *, const unsigned char *data, size_t size);

/* Whether the file begins with the header; its first record is next. */
bool records_open(FILE *);
/* The next record, in `out`, which is emptied first. False at the end of the file, and where a
 * crash cut the file short or it is damaged. */
bool records_next(FILE *, message *out);

#endif
