/* embed_analysis.h - part of embed.h, which includes it: what a session measures besides held-out
 * loss. How the loss changes beyond the training length, and where the weights of attentions go, on
 * held-out text or on a single one.
 *
 * Ownership, threads and units are as in embed.h.
 *
 * Example:
 *
 *     // The weight that the last query of each attention gives to the first key, over its heads.
 *     static int first_keys(td_session *session, const char *given, const char *target,
 *                           td_error *error)
 *     {
 *         td_scored          pair;
 *         td_attending       how = { .size = sizeof how };
 *         const td_attended *out;
 *
 *         if (td_session_encode_pair(session, given, target, &pair, error))
 *             return error->code;
 *         how.given = pair.given;
 *         how.n_given = pair.n_given;
 *         how.target = pair.target;
 *         how.n_target = pair.n_target;
 *         if (td_session_attend(session, &how, &out, error))
 *             return error->code;
 *         for (size_t k = 0; k < out->n; k++) {
 *             const td_attention_weights *a = &out->at[k];
 *             int64_t                     keys = a->own + a->memory;
 *             double                      sum = 0;
 *             for (int64_t h = 1; h <= a->heads; h++)
 *                 sum += a->weights[(h * a->queries - 1) * keys];
 *             printf("%s: %g\n", a->name, sum / (double)a->heads);
 *         }
 *         return 0;
 *     }
 */
#ifndef TANDEM_EMBED_ANALYSIS_H
#define TANDEM_EMBED_ANALYSIS_H

#include "embed.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- beyond the training length -------------------------------------------------------------- */

/* Total lengths and prefixes in tokens. NULL means lengths from train.length to 8 times that, in
 * steps of half of it, and prefixes of 1, a quarter and half of train.length. */
typedef struct td_extrapolating {
    size_t                  size; /* sizeof(td_extrapolating) */
    const int64_t          *lengths, *prefixes;
    size_t                  n_lengths, n_prefixes;
    int64_t                 sequences; /* per source, at most; 0: 16 */
    td_evaluation_progress *progress;  /* counts each sequence once per prefix; may be NULL */
    void                   *arg;
} td_extrapolating;

/* The mean NLL of the tokens [from, to) of sequences whose first `prefix` tokens were given,
 * averaged over sequences, then over sources with equal weight. */
typedef struct td_curve_point {
    int64_t prefix, from, to;
    double  nll, error; /* nats per token; error: the standard error, NaN if unknown */
} td_curve_point;

typedef struct td_extrapolation {
    int64_t         trained;   /* train.length */
    bool            documents; /* each within one document; false: none was that long */
    int64_t         sequences; /* of all sources */
    /* [n_lengths]: the tokens between the prefix and each total length */
    td_curve_point *lengths;
    td_curve_point *positions; /* [n_positions]: the tokens of each part of the sequence */
    size_t          n_lengths, n_positions;
} td_extrapolation;

/* Measure the loss beyond the training length, with the parameters that the session holds. Each
 * sequence is read once per prefix: no token sees later ones, so the longest total length includes
 * the scores of all shorter ones. TD_EEND and TD_EDIVERGED as in td_session_evaluate. `*out` is
 * valid until the next call of this function or until the session is closed. [main] */
int td_session_extrapolate(td_session *, const td_extrapolating *, const td_extrapolation **out,
                           td_error *error);

/* ---- attention on held-out text --------------------------------------------------------------- */

/* Which attentions to analyze, and on what text. NULL or 0 means all of them, or the default. */
typedef struct td_analyzing {
    size_t                  size; /* sizeof(td_analyzing) */
    /* Layer numbers ("0") or path patterns ("model.decoder.*.cross_attn"). */
    const char *const      *layers;
    size_t                  n_layers;
    const int64_t          *heads; /* from 0 */
    size_t                  n_heads;
    int64_t                 length;    /* tokens per sequence; 0: 4 times train.length */
    int64_t                 prefix;    /* given tokens; 0: half of train.length */
    int64_t                 sequences; /* at most, over all sources; 0: 8 */
    td_evaluation_progress *progress;  /* in sequences; may be NULL */
    void                   *arg;
} td_analyzing;

/* Which tokens an attention reads. */
typedef enum td_reads {
    TD_READS_ENCODER, /* an encoder's self-attention */
    TD_READS_SELF,    /* self-attention of the stack that predicts */
    TD_READS_CROSS,   /* that stack's cross-attention to an encoder */
    TD_READS_BOTH,    /* its own tokens and an encoder's in one softmax */
    TD_READS          /* the number of these values */
} td_reads;

/* Means over the queries at positions [from, to) of the text, heads and sequences. */
typedef struct td_attention_part {
    int64_t from, to;
    double  locality; /* weight on the stack's tokens t-4 .. t; NaN: it reads none of them */
    double  entropy;  /* entropy of the weights, in nats */
    double  distance; /* mean distance between a query and its keys, in tokens */
} td_attention_part;

/* Statistics of one attention's weights, or of all attentions that read the same tokens. */
typedef struct td_attention_mean {
    const char        *name;  /* "model.decoder.layers.0.self_attn", or "self" for several */
    int64_t            layer; /* -1 for several */
    int64_t            map;   /* 0 or 1 in an attention with two softmax maps */
    td_reads           reads;
    int64_t            heads;                       /* 0: nothing to average */
    double             locality, entropy, distance; /* mean over all queries */
    double             memory; /* share of the weight on an encoder's tokens, 0 .. 1 */
    td_attention_part *parts;  /* [n_parts], at most 128 */
    int64_t            n_parts;
    /* Maps: the weight that a query in part r puts on part c of the keys. A row adds up to 1, over
     * both maps if there are two. The sizes of the parts differ by one token at most. */
    int64_t            own, own_parts;              /* tokens divided into parts */
    int64_t            memory_tokens, memory_parts; /* the same for an encoder */
    double            *own_map;                     /* [n_parts][own_parts] */
    double            *memory_map;                  /* [n_parts][memory_parts] */
    double            *coverage; /* [memory_tokens]: the weight that each token receives */
} td_attention_mean;

/* The mean log-probability of the true tokens at positions [from, to). */
typedef struct td_logprob_part {
    int64_t from, to;
    double  logprob; /* nats */
} td_logprob_part;

typedef struct td_analysis {
    int64_t            trained, length, prefix; /* tokens */
    int64_t            sequences;
    bool               documents;  /* each within one document; false: none was that long */
    td_attention_mean *attentions; /* [n_attentions], in the order of the model */
    size_t             n_attentions;
    td_attention_mean  all[TD_READS]; /* over all analyzed attentions */
    const char       **without; /* [n_without]: attentions without weights, such as linear ones */
    size_t             n_without;
    td_logprob_part   *logprobs; /* [n_logprobs], at most 128 */
    size_t             n_logprobs;
} td_analysis;

/* Measure attention weights by position, and the log-probability of the text, with the parameters
 * that the session holds. Weights are recomputed from queries and keys a few rows at a time, so
 * memory does not grow with the square of the length. TD_EEND and TD_EDIVERGED as in
 * td_session_evaluate. `*out` is valid until the next call of this function or until the session is
 * closed. [main] */
int td_session_analyze(td_session *, const td_analyzing *, const td_analysis **out,
                       td_error *error);

/* ---- the weights of one text ----------------------------------------------------------------- */

/* The text to read, and which attentions to show. NULL or 0 of the lists means all of them. */
typedef struct td_attending {
    size_t             size;  /* sizeof(td_attending) */
    const int32_t     *given; /* read by an encoder, or in front of the target */
    int64_t            n_given;
    const int32_t     *target;   /* predicted token by token, with those before it as inputs */
    int64_t            n_target; /* 1 or more */
    const char *const *layers;   /* as in td_analyzing */
    size_t             n_layers;
    const int64_t     *heads; /* from 0 */
    size_t             n_heads;
} td_attending;

/* The weights of one attention: for each query and head they add up to 1, or are all 0 where the
 * query sees no keys. Keys are `own` tokens of the queries' stack, then `memory` of an encoder. */
typedef struct td_attention_weights {
    const char    *name;  /* "model.decoder.layers.0.self_attn" */
    int64_t        layer; /* -1: none in the name */
    int64_t        map;   /* 0 or 1 in an attention with two softmax maps */
    td_reads       reads;
    int64_t        heads, queries, own, memory;
    const int32_t *query_ids; /* [queries]: the tokens at the queries; NULL: unknown */
    const int32_t *key_ids;   /* [own + memory]; NULL: unknown */
    const float   *weights;   /* [heads][queries][own + memory] */
} td_attention_weights;

typedef struct td_attended {
    td_attention_weights *at; /* [n], in the order of the model */
    size_t                n;
    const char          **without; /* [n_without]: attentions without weights */
    size_t                n_without;
} td_attended;

/* Read a text with the parameters that the session holds, and keep every weight: one for each pair
 * of tokens. `*out` is valid until the next call of this function or until the session is closed.
 * [main] */
int td_session_attend(td_session *, const td_attending *, const td_attended **out, td_error *error);

#ifdef __cplusplus
}
#endif
#endif
