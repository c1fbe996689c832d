/* cache.h - the cache of generation: the tokens that each row of a batch has read, kept between
 * passes.
 *
 * Text is generated in passes over a few new tokens per row: a prompt in chunks, then token after
 * token. The parts of earlier tokens that a model needs (td_remember, td_carry) are stored in the
 * cache, in buffers that are allocated once: a remembered tensor [rows, .., T, ..] is one state
 * [rows, .., capacity, ..]. How many tokens each row holds is an input of the graph, never part of
 * it, so one graph of T new tokens serves every pass of T tokens, whatever came before.
 *
 *     td_cache *cache = td_cache_new(rows, capacity, chunk, source, &error);
 *     td_graph_options o = { .phase = TD_PHASE_STEP, .real = TD_F32, .cache = cache };
 *     td_graph *g = td_graph_new(registry, variables, &o);     .. an architecture builds T tokens ..
 *     plan = td_plan_new(g, &hidden, 1, &device, &error);
 *     td_cache_allocate(cache, &device, &error);                                   plan/rows.h
 *     .. for each pass: td_plan_set_batch, td_cache_place, td_plan_run ..
 *
 * Two inputs say, per row, how many tokens the row held before ("cache_lengths") and how many of
 * the T new ones are real ("cache_counts"). The others are padding: they are not written, and the
 * batch gives them segment 0, as `arrange` does, so that nothing else takes them for tokens. The
 * caller keeps the lengths. A smaller length takes tokens back, except from rings and carried
 * state, which have forgotten earlier tokens; a row of length 0 starts over, and reads nothing that
 * an earlier text left in it.
 *
 * The first pass of a text is one of TD_PHASE_PREFILL, which also computes and keeps the encoder's
 * part, for all rows of the batch; passes after it are of TD_PHASE_STEP, where the encoder is dead
 * code. Both append any number of tokens up to `chunk`. So a text that begins while others continue
 * is read in a small cache first and moved (td_row_gather), or, without an encoder, in place.
 */
#ifndef TD_GRAPH_CACHE_H
#define TD_GRAPH_CACHE_H

#include "graph/graph.h"

/* Capacities are multiples of it by convention, so that few plans serve all lengths. */
enum { TD_CACHE_BUCKET = 64 };

struct td_cache {
    int64_t       rows, capacity; /* capacity: tokens that a row can hold */
    int64_t       chunk;          /* maximum number of new tokens in a pass */
    int64_t       source;         /* tokens of an encoder that a row can keep; 0: no encoder */
    td_variables *variables;      /* its states, made by the first graph that asks for each */
};

/* No memory is allocated for states yet. NULL with `error`. */
td_cache *td_cache_new(int64_t rows, int64_t capacity, int64_t chunk, int64_t source,
                       td_error *error);
/* Device memory is freed by td_cache_release. Graphs built with the cache must have been freed. */
void      td_cache_free(td_cache *);

#endif
