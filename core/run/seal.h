/* seal.h - hashes in a file of results, which detect corruption: a score with a flipped bit is
 * still a number, and an item with one in its name is an item that the other run does not have.
 *
 *     {"kind": "heldout", .., "files": {"heldout.jsonl": "5d41.."}, "hash": "90ab.."}
 *
 * "files" has the hash of each file beside it that holds its items, and "hash" that of the whole
 * object without "hash". A file without "hash" comes from an older version or another program, and
 * is read unchecked.
 */
#ifndef TD_RUN_SEAL_H
#define TD_RUN_SEAL_H

#include <jansson.h>

#include "tandem/error.h"

/* Add the hash of a file that was written, under its name without directories. */
int td_seal_file(json_t *results, const char *path, td_error *error);
/* Add "hash"; the object is complete, and is written next. */
int td_seal(json_t *results, td_error *error);

/* Check an object that was read from `path`: TD_EFORMAT if it is not what was written. */
int td_seal_check(const json_t *results, const char *path, td_error *error);
/* The same for a file of items, if the object has "hash". The object must have been checked. */
int td_seal_check_file(const json_t *results, const char *path, td_error *error);

#endif
