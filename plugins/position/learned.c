/* learned.c - learned absolute positions, one table for all stacks. Paper: Gehring et al. 2017. */
#include "tandem/kind/position.h"

struct learned {
    int64_t max_positions;
};

static const td_option options[] = { TD_OPTION_INT(struct learned, max_positions, 2048, 1, 1 << 24,
                                                   "rows of the table: the longest sequence"),
                                     TD_OPTION_END };

/* x + P[position]. N(0, 1), like the table of tokens. */
static td_tensor *embed(const void *config, td_tensor *x, td_tensor *position)
{
    const struct learned *c = config;
    int64_t               dims[] = { c->max_positions, td_dim(x, -1) };
    return td_add(x,
                  td_gather(td_param(x->graph, "position_embeddings.weight", dims, 2, td_normal(1)),
                            position));
}

/* A lookup past the table must be refused before training: td_gather would have no row for it. */
static int check_positions(const void *config, int64_t positions, td_error *error)
{
    const struct learned *c = config;
    return positions <= c->max_positions
               ? 0
               : td_fail(
                     error, TD_ECONFIG,
                     "position 'learned': max_positions = %lld, but sequences have %lld positions",
                     (long long)c->max_positions, (long long)positions);
}

static const td_position learned = {
    .plugin =
        TD_PLUGIN(td_position, TD_POSITION_KIND, "learned", options, struct learned,
                  .brief = "learned absolute positions, added to the embeddings",
                  .paper = "Gehring et al., Convolutional Sequence to Sequence Learning, 2017"),
    .embed = embed,
    .check_positions = check_positions,
};

TD_MODULE("learned", "1.0", "tandem", "MIT", &learned.plugin)
