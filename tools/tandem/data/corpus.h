/* corpus.h - the project's own corpus: seeded text with structure worth learning.
 *
 * It needs no download and no licence, so the quickstart, the tests and the shipped configs train
 * on it; data/corpus in the source tree was made by it. */
#ifndef TD_TOOLS_DATA_CORPUS_H
#define TD_TOOLS_DATA_CORPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "tandem/error.h"

/* Write DOMAIN.train.jsonl and DOMAIN.valid.jsonl for each domain to `directory`: about `bytes` of
 * training text in total, plus a twentieth of that as held-out text. The same seed and size give
 * the same bytes on every machine. Existing files are an error unless `force` is set, and then each
 * is replaced in one step. */
int td_corpus_write(const char *directory, uint64_t seed, int64_t bytes, bool force,
                    td_error *error);

#endif
