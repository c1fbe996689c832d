/* transformers.h - what every config.json of Hugging Face's transformers has in common. */
#ifndef TANDEM_PLUGINS_FORMAT_TRANSFORMERS_H
#define TANDEM_PLUGINS_FORMAT_TRANSFORMERS_H

#include <stdio.h>

#include "tandem/kind/format.h"

/* The id before the first token of a text; -1: there is none. Our decoder begins with the padding
 * id if the tokenizer has no beginning-of-text id. */
static inline int64_t begin_id(td_translation *t)
{
    int64_t bos = td_ask_int_or(t, "special.bos", -1);
    return bos >= 0 ? bos : td_ask_int_or(t, "special.pad", -1);
}

/* generate() treats every padding id in a prompt as padding, and so would mask the first token of a
 * decoder that begins with that id: no padding id is set then. */
static inline void write_ids(td_translation *t, bool encoder)
{
    int64_t begin = begin_id(t), eos = td_ask_int_or(t, "special.eos", -1),
            pad = td_ask_int_or(t, "special.pad", -1);
    if (begin >= 0)
        td_put_int(t, "bos_token_id", begin);
    if (eos >= 0)
        td_put_int(t, "eos_token_id", eos);
    if (pad >= 0 && (encoder || pad != begin))
        td_put_int(t, "pad_token_id", pad);
}

/* A number of layers. Loops run over it, so it is limited here to what our architectures take. */
static inline int64_t ask_layers(td_translation *t, const char *path)
{
    int64_t n = td_ask_int(t, path);
    if (n >= 1 && n <= 4096)
        return n;
    t->refuse(t, "%s is %lld: it must be from 1 to 4096", path, (long long)n);
    return 0;
}

/* The name of this setting changed in transformers 4.56; each version reads the one it knows. */
static inline void write_dtype(td_translation *t)
{
    td_put_text(t, "dtype", t->dtype);
    td_put_text(t, "torch_dtype", t->dtype);
}

/* Most classes cap neither scores nor logits. */
static inline void require_no_caps(td_translation *t)
{
    td_require(t, "model.logit_cap", "0.0");
    td_require(t, "model.attention.score_cap", "0.0");
}

/* Settings that do not change what a model computes in evaluation. */
static inline void ignore_idle(td_translation *t)
{
    static const char *const idle[] = {
        "architectures.0",
        "model_type",
        "transformers_version",
        "torch_dtype",
        "dtype",
        "use_cache",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "unk_token_id",
        "initializer_range",
        "attention_dropout",
        "_name_or_path",
        "pretraining_tp",
        "_attn_implementation",
        "return_dict",
        "output_hidden_states",
        "output_attentions",
        "is_encoder_decoder",
        "problem_type",
        "chunk_size_feed_forward",
        "attn_implementation",
        "is_decoder",
    };
    char path[60];
    for (size_t k = 0; k < sizeof idle / sizeof *idle; k++)
        t->ask(t, idle[k]);
    for (int k = 0; k < 64; k++) { /* eos_token_id can be a list */
        snprintf(path, sizeof path, "eos_token_id.%d", k);
        t->ask(t, path);
    }
}

/* Our decoder begins with the tokenizer's bos, or else with its pad. -1: there is none. */
static inline void read_start(td_translation *t, int64_t start, int64_t pad, int64_t bos)
{
    if (start != pad && start != bos)
        t->refuse(t,
                  "decoder_start_token_id is %lld: it can only be pad_token_id, %lld, or "
                  "bos_token_id, %lld (-1: none)",
                  (long long)start, (long long)pad, (long long)bos);
}

/* Labels of classifiers, which every config written by older versions has. */
static inline void ignore_labels(td_translation *t)
{
    t->ask(t, "id2label.0");
    t->ask(t, "id2label.1");
    t->ask(t, "label2id.LABEL_0");
    t->ask(t, "label2id.LABEL_1");
}

#endif
