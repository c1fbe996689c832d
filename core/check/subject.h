/* subject.h - a tiny model with the plugin under test in it, on a backend: batches of given
 * examples, losses and gradients. */
#ifndef TD_CHECK_SUBJECT_H
#define TD_CHECK_SUBJECT_H

#include "check/internal.h"
#include "model/batch.h"
#include "model/model.h"

enum { TD_SENTENCE = 96, TD_TOKENS = 1024, TD_VOCAB = 11 };

/* What the model's parts are made to, where they have such options. */
typedef struct td_sizes {
    int64_t width, heads, head_dim, inner; /* d_model, heads, head_dim, d_ff */
} td_sizes;

typedef struct td_subject {
    td_check     *check;
    td_model      model;
    td_device     device;
    td_variables *variables;
    int64_t       vocab;
    bool          gives; /* the loss gives tokens */
    /* without auxiliary losses: means over a batch, no sums of its examples */
    bool          bare;
    char          label[240]; /* "in decoder-only with prefix-lm" */
} td_subject;

typedef struct td_sentence {
    int32_t given[TD_SENTENCE], predicted[TD_SENTENCE];
    int64_t n_given, n_predicted, row;
} td_sentence;

/* One batch's graph, planned, and run once. */
typedef struct td_trial {
    td_batch *batch;
    td_built  built;
    td_plan  *plan;
    void     *memory;
} td_trial;

/* Two short sentences of different lengths. */
void        td_sentences(td_sentence out[2]);
/* A sentence of random tokens. */
td_sentence td_sentence_of(int64_t given, int64_t predicted, uint64_t seed);

/* Call f with the plugin in every model that can have it: every architecture, with a loss that
 * gives tokens; a loss in every architecture; an architecture under every loss. All of `sizes`.
 * With c->variant only in the first that takes it. */
void td_each_subject(td_check *, const td_sizes *sizes, const td_device *, void (*f)(td_subject *));
extern const td_sizes td_usual_sizes;

/* The sentences in the rows that they say, and `spare` places of padding; NULL (with a skip) if the
 * architecture cannot have several in a row. */
td_batch *td_subject_batch(const td_subject *, const td_sentence *, int count, int64_t spare);
/* The lengths that a sentence takes alone, and a batch of it in one row of given lengths. */
td_extent td_subject_extent(const td_subject *, const td_sentence *);
td_batch *td_subject_row(const td_subject *, const td_sentence *, td_extent);
/* With a backward pass; takes the batch. All parameters get random values. */
td_trial  td_trial_new(td_subject *, td_batch *);
void      td_trial_run(td_subject *, td_trial *);
void      td_trial_free(td_subject *, td_trial *);
/* Cross-entropies of the tokens that weigh, in order; their number. */
int       td_trial_losses(const td_subject *, td_trial *, double out[TD_TOKENS]);
/* The same for sentences, from the beginning. */
int       td_losses_of(td_subject *, const td_sentence *, int count, int64_t spare,
                       double out[TD_TOKENS]);
void      td_scramble(td_subject *);

#endif
