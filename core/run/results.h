/* results.h - the files of an evaluation: RUN/eval/NAME.json with the scores and their origin, and
 * NAME.jsonl with the score of each held-out sequence, for comparing runs.
 *
 *     {"kind": "heldout", "run": "red", "weights": "..", "step": 300, "protocol": {..}, "nll": ..}
 *     {"source": "facts", "index": 0, "targets": 128, "nll": 2.31, "weight": 128, "text_bytes": 128,
 *      "hash": "9f0c.."}
 */
#ifndef TD_RUN_RESULTS_H
#define TD_RUN_RESULTS_H

#include <jansson.h>

#include "run/session.h"

/* A number as JSON. NaN and infinity, which JSON does not have, become null. */
json_t *td_results_number(double);
/* The lines of a text as a list. */
json_t *td_results_lines(const td_text *);
/* {"nll", "nll_error", "perplexity", "bits_per_byte", "sources": [..]}; unknown numbers are
 * null. */
json_t *td_results_scores(const td_evaluation *);
/* The origin of the session's scores: run, parameters, protocol, text, tokenizer. `kind`: the kind
 * of scores. */
json_t *td_results_about(const td_session *, const char *kind);

/* Whether a file is in a directory, by whatever path. */
bool  td_results_lie_in(const char *file, const char *directory);
/* RUN/eval if the parameters are the run's own, else NULL: results of other parameters would be
 * taken for the run's. free() it. */
char *td_results_directory(td_session *);
/* "heldout" for the newest checkpoint, or "heldout-step-00000300" for a named one; free() it. */
char *td_results_name(const char *kind, const char *checkpoint);

/* Write DIRECTORY/NAME.jsonl, then NAME.json; neither ever appears incomplete. */
int  td_results_write(const td_session *, const td_evaluation *, const char *directory,
                      const char *name, td_error *error);
/* Append ",x" to a line of a table; gnuplot and R read NaN as a missing value. */
void td_results_cell(td_text *, double x);
/* Write the text to DIRECTORY/NAME plus a suffix; releases the text, which can be used again. */
int  td_results_text(td_text *, const char *directory, const char *name, const char *ending,
                     td_error *error);
/* Write one JSON object, indented for readers, with its hash (seal.h). */
int  td_results_save(json_t *, const char *directory, const char *name, td_error *error);
/* Unless `code` is a failure, write `numbers` with their origin (td_results_about). Releases both,
 * which may be NULL. Returns the code. */
int  td_results_finish(int code, json_t *about, json_t *numbers, const char *directory,
                       const char *name, td_error *error);

#endif
