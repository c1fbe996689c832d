/* corpus.h - a corpus that the project makes itself: seeded text with structure worth learning. */
#ifndef TD_TOOLS_CORPUS_H
#define TD_TOOLS_CORPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "tandem/error.h"

/* DOMAIN.train.jsonl and DOMAIN.valid.jsonl for each domain, about `bytes` of training text in all
 * and a twentieth of it held out. The same seed and size give the same bytes.
 * Files that are there are replaced only by `force`. */
int td_corpus_write(const char *directory, uint64_t seed, int64_t bytes, bool force,
                    td_error *error);

#endif
