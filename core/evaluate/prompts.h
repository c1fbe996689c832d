/* prompts.h - the prompt of an item as the model reads it: description, exemplars and question,
 * within a budget of tokens.
 *
 *     td_prompts *p = td_prompts_open(task, &spec, &error);
 *     for (each item) {
 *         td_asked asked;
 *         td_prompts_ask(p, index, &item, item.text, answers, n, &asked, &error);
 *         ..
 *         td_asked_free(&asked);
 *     }
 *
 * The budget is the same for every architecture. If a prompt does not fit, exemplars are dropped
 * from the front, one at a time, but never the question.
 */
#ifndef TD_EVALUATE_PROMPTS_H
#define TD_EVALUATE_PROMPTS_H

#include "evaluate/task.h"
#include "tandem/kind/data.h"
#include "tandem/kind/tokenizer.h"

typedef struct td_prompts td_prompts;

/* The turns that a prompt is written as. */
typedef struct td_prompts_chat {
    bool         on;
    bool         has_system;
    td_chat_role system, user, answer;
} td_prompts_chat;

typedef struct td_prompts_spec {
    const td_tokenizer *tokenizer;
    void               *state;
    td_special          special;
    int64_t             max_length; /* tokens of prompt and answer together */
    int64_t             shots;      /* -1: the task's number */
    int64_t             seed;       /* seed for drawn exemplars */
    bool                no_bytes;   /* as in td_evaluate_spec */
    bool                append_eos; /* the model was trained on inputs that end in eos */
    /* In a chat, exemplars are turns of user and model, and the item is the user's last turn. The
     * answer follows the prefix of the model's turn; as in training, its tokens are encoded
     * separately. Ready-made texts of exemplars are not turns: they precede the item in its turn. */
    td_prompts_chat     chat;
} td_prompts_spec;

/* The tokens of a prompt, and of each answer to score after it. */
typedef struct td_asked {
    char     *text;  /* the whole prompt */
    int32_t  *given; /* [n_given]: never empty */
    int64_t   n_given;
    int32_t **target; /* [answers], each [n_target[k]] */
    int64_t  *n_target, answers;
    int64_t   shots, dropped; /* exemplars included, and left out */
    bool      over;           /* the question alone exceeds the budget */
} td_asked;

/* Renders the exemplars of the task, whose items have been read. NULL with `error`. */
td_prompts *td_prompts_open(const td_task *, const td_prompts_spec *, td_error *error);
void        td_prompts_close(td_prompts *);

/* The most exemplars that a prompt can have. */
int64_t td_prompts_shots(const td_prompts *);

/* Builds the prompt of item `index` with the question `text`. With `answers`, their tokens are
 * those that follow the prompt when both are tokenized together; without, `room` tokens are
 * reserved for a generated answer. */
int  td_prompts_ask(const td_prompts *, int64_t index, const td_task_item *, const char *text,
                    const char *const *answers, size_t n_answers, int64_t room, td_asked *out,
                    td_error *error);
void td_asked_free(td_asked *);

#endif
