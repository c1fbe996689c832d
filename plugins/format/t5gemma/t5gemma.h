/* t5gemma.h - what reading and writing a T5Gemma share: its tensors, and settings of both stacks. */
#ifndef TANDEM_PLUGINS_FORMAT_T5GEMMA_H
#define TANDEM_PLUGINS_FORMAT_T5GEMMA_H

#include "tandem/kind/format.h"

/* What the tensors depend on, and the factors by which some are multiplied on the way: matrices of
 * queries, tables of embeddings, the matrix for the logits, and the decoder's last norm. */
struct shape {
    int64_t d_model, encoder, decoder;
    bool    scale, bias, tied, shared;
    double  query, table, head, last;
};

/* Write all tensors of a model, or read them: the same names either way. */
void put_tensors(td_translation *, const struct shape *);

/* `inner` is a translation whose other program has one group of settings: it writes each to both
 * groups, and reads what both say. */
struct groups {
    td_translation inner, *outer;
    bool           reads;
};

void begin_groups(struct groups *, td_translation *outer, bool reads);
/* From now on read either group's, for settings that do not matter. */
void ask_of_either(struct groups *);

#endif
