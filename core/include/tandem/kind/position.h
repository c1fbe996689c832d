/* kind/position.h - a positional scheme: up to three hooks, each optional. Stateless. */
#ifndef TANDEM_KIND_POSITION_H
#define TANDEM_KIND_POSITION_H

#include "../layers.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_POSITION_KIND "position/1"

typedef enum td_role { TD_ROLE_ENCODER, TD_ROLE_DECODER, TD_ROLE_CROSS } td_role;

typedef struct td_rotate_in {
    td_tensor *x;        /* [B, H, T, E] queries or keys */
    td_tensor *position; /* i32 [B, T] */
    td_role    role;
    bool       is_query;
} td_rotate_in;

typedef struct td_bias_in {
    td_graph   *graph;
    td_role     role;
    const char *stack; /* parameter scope that all layers of the stack share: "model.decoder" */
    int64_t     heads;
    int64_t     q_length, k_length;      /* Tq, Tk */
    td_tensor  *q_position, *k_position; /* i32 [B, T] */
} td_bias_in;

typedef struct td_bias_out {
    td_bias    table; /* the usual way: a table by distance */
    td_tensor *dense; /* or [B|1, H|1, Tq, Tk] added to the scores: slow */
} td_bias_out;

typedef struct td_position {
    td_plugin plugin;
    /* Added to the embeddings x [B, T, D]; the scope is the model's. [build] */
    td_tensor *(*embed)(const void *config, td_tensor *x, td_tensor *position);
    /* Rotated queries and keys. [build] */
    td_tensor *(*rotate)(const void *config, const td_rotate_in *in);
    /* A bias on the scores; leave `out` zeroed for none. [build] */
    void (*bias)(const void *config, const td_bias_in *in, td_bias_out *out);
    /* Rules that need the model: an odd head_dim, say. Called for each attention. NULL: none.
     * [main] */
    int (*check_head)(const void *config, int64_t head_dim, td_error *error);
    /* The same for the number of positions, 0 .. positions - 1, that sequences will have. [main] */
    int (*check_positions)(const void *config, int64_t positions, td_error *error);
} td_position;

static inline const td_position *td_position_of(const td_part *part)
{
    return (const td_position *)(const void *)part->plugin;
}

#ifdef __cplusplus
}
#endif
#endif
