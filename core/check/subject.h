/* subject.h - a subject: a tiny model with the plugin under test in it, on a backend.
 *
 * A test is a function of a subject, called for every model that the plugin fits. It makes batches
 * of sentences, runs them as trials, and compares losses and gradients.
 *
 *     static void some_test_of(td_subject *s)
 *     {
 *         td_sentence two[2];
 *         double      losses[TD_TOKENS];
 *         td_sentences(two);
 *         int n = td_losses_of(s, two, 2, 0, losses);
 *         ...
 *     }
 *     void td_check_some_test(td_check *c) { td_check_in_double(c, some_test_of); }
 */
#ifndef TD_CHECK_SUBJECT_H
#define TD_CHECK_SUBJECT_H

#include "check/internal.h"
#include "model/batch.h"
#include "model/model.h"

/* The longest part of a sentence, the most losses of a batch, and the ids that sentences use. */
enum { TD_SENTENCE = 96, TD_TOKENS = 1024, TD_VOCAB = 11 };

/* The sizes that the model's parts are set to, where they have options of these names. */
typedef struct td_sizes {
    int64_t width, heads, head_dim, inner; /* d_model, heads, head_dim, d_ff */
} td_sizes;

typedef struct td_subject {
    td_check     *check;
    td_model      model;
    td_device     device;
    td_variables *variables;
    int64_t       vocab;
    bool          gives; /* examples have given tokens, too, not only predicted ones */
    /* leave auxiliary losses out: they are means over a batch, and do not add up by example */
    bool          bare;
    char          label[240]; /* "in decoder-only with prefix-lm" */
} td_subject;

/* An example, and the row of the batch that it goes to. */
typedef struct td_sentence {
    int32_t given[TD_SENTENCE], predicted[TD_SENTENCE];
    int64_t n_given, n_predicted, row;
} td_sentence;

/* The graph of one batch, forward and backward, planned and run once. */
typedef struct td_trial {
    td_batch *batch;
    td_built  built;
    td_plan  *plan;
    void     *memory;
} td_trial;

/* Two short sentences of different lengths, both for row 0. */
void        td_sentences(td_sentence out[2]);
/* A sentence of random tokens, a function of the arguments. */
td_sentence td_sentence_of(int64_t given, int64_t predicted, uint64_t seed);

/* Call f with the plugin in every model that it fits: an architecture under every loss, a loss in
 * every architecture, any other part in every architecture under the first loss that gives tokens.
 * With c->variant only in the first that accepts it. Parts that refuse each other are left out; if
 * none is left, that is a finding. */
void td_each_subject(td_check *, const td_sizes *sizes, const td_device *, void (*f)(td_subject *));
extern const td_sizes td_usual_sizes;
/* The same in double on one thread, with the plugin's options as they are and then with each
 * variant of them (td_check_variants). */
void                  td_check_in_double(td_check *, void (*f)(td_subject *));

/* The sentences in their rows, with `spare` places of padding at the end of each. The test is
 * skipped if the architecture cannot pack several into a row. */
td_batch *td_subject_batch(const td_subject *, const td_sentence *, int count, int64_t spare);
/* The lengths that a sentence takes alone, and a batch of it in one row of given lengths. */
td_extent td_subject_extent(const td_subject *, const td_sentence *);
td_batch *td_subject_row(const td_subject *, const td_sentence *, td_extent);
/* With a backward pass. Takes ownership of the batch. All parameters get random values, the same
 * each time. */
td_trial  td_trial_new(td_subject *, td_batch *);
/* Plan a graph that is built, for these outputs, and run it; all parameters get the same values. */
void      td_trial_start(td_subject *, td_trial *, td_tensor *const *outputs, size_t n);
/* Run again, after the batch or a parameter was changed. */
void      td_trial_run(td_subject *, td_trial *);
void      td_trial_free(td_subject *, td_trial *);
/* The cross-entropies of the tokens with a weight, in order; returns their number. */
int       td_trial_losses(const td_subject *, td_trial *, double out[TD_TOKENS]);
/* All of that in one call: batch, trial, losses. */
int       td_losses_of(td_subject *, const td_sentence *, int count, int64_t spare,
                       double out[TD_TOKENS]);
/* Compare the gradients of all parameters with central differences. */
void      td_gradients_of(td_subject *);
/* Give every parameter random values. */
void      td_scramble(td_subject *);

#endif
