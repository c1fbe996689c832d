/* parts.h - activations and rotated positions as the configs of transformers describe them, for the
 * formats in this folder. */
#ifndef TANDEM_PLUGINS_FORMAT_PARTS_H
#define TANDEM_PLUGINS_FORMAT_PARTS_H

#include <math.h>

#include "transformers.h"

/* ---- activations ----------------------------------------------------------------------------- */

static const struct {
    const char *ffn, *theirs;
} activations[] = {
    { "swiglu", "silu" },
    { "geglu", "gelu_pytorch_tanh" },
    { "swiglu", "swish" }, /* other names for the same; the first of each is written */
    { "geglu", "gelu_new" },
};
enum { ACTIVATIONS = sizeof activations / sizeof *activations };

static void write_activation(td_translation *t, const char *key)
{
    const char *ffn = td_ask_text(t, "model.ffn.plugin");
    for (size_t k = 0; k < ACTIVATIONS; k++)
        if (!strcmp(activations[k].ffn, ffn)) {
            td_put_text(t, key, activations[k].theirs);
            return;
        }
    t->refuse(t, "model.ffn.plugin is %s: it can only be swiglu or geglu", ffn);
}

static void read_activation(td_translation *t, const char *key)
{
    const char *theirs = td_ask_text(t, key);
    for (size_t k = 0; k < ACTIVATIONS; k++)
        if (!strcmp(activations[k].theirs, theirs)) {
            td_put_text(t, "model.ffn.plugin", activations[k].ffn);
            return;
        }
    t->refuse(t,
              "%s is %s: no gated feed-forward layer has it; silu and gelu_pytorch_tanh can be "
              "read",
              key, theirs);
}

/* ---- positions ------------------------------------------------------------------------------- */

/* rope_theta and rope_scaling, as transformers 4 has them; version 5 also reads these. */
static void write_rope(td_translation *t)
{
    const char *scaling;
    double      original;
    td_require(t, "model.position.plugin", "rope");
    td_put_float(t, "rope_theta", td_ask_float(t, "model.position.base"));
    scaling = td_ask_text(t, "model.position.scaling");
    original = td_ask_float(t, "model.position.original_length");
    if (!strcmp(scaling, "none")) {
        td_put_null(t, "rope_scaling");
    } else if (!strcmp(scaling, "linear") || !strcmp(scaling, "yarn")) {
        td_put_text(t, "rope_scaling.rope_type", scaling);
        td_put_float(t, "rope_scaling.factor", td_ask_float(t, "model.position.factor"));
    } else {
        t->refuse(t, "model.position.scaling is %s: it can only be none, linear or yarn", scaling);
    }
    if (!strcmp(scaling, "yarn")) {
        td_put_int(t, "rope_scaling.original_max_position_embeddings", (int64_t)original);
        td_put_float(t, "rope_scaling.beta_fast", td_ask_float(t, "model.position.beta_fast"));
        td_put_float(t, "rope_scaling.beta_slow", td_ask_float(t, "model.position.beta_slow"));
    }
    /* these belong to scalings that are off */
    td_ask(t, "model.position.factor");
    td_ask(t, "model.position.beta_fast");
    td_ask(t, "model.position.beta_slow");
}

/* With yarn, some versions of transformers 4 divide the two lengths instead of reading `factor`, so
 * the three must agree. */
static void write_length(td_translation *t)
{
    int64_t length = td_ask_int(t, "train.length");
    if (!strcmp(td_ask_text(t, "model.position.scaling"), "yarn")) {
        double original = td_ask_float(t, "model.position.original_length");
        double factor = td_ask_float(t, "model.position.factor");
        length = llround(original * factor);
        if ((double)length / original != factor)
            t->refuse(t,
                      "model.position.factor is %s: its product with "
                      "model.position.original_length, %s, must be an integer",
                      td_ask_text(t, "model.position.factor"),
                      td_ask_text(t, "model.position.original_length"));
    }
    td_put_int(t, "max_position_embeddings", length);
}

/* A setting of the scaling, under the name that this version of transformers gives the group. */
static const char *rope_path(td_translation *t, char out[100], const char *name)
{
    snprintf(out, 100, "%s.%s",
             td_has(t, "rope_parameters.rope_type") ? "rope_parameters" : "rope_scaling", name);
    return out;
}

static void read_yarn(td_translation *t)
{
    char    path[100];
    int64_t length = td_ask_int_or(t, rope_path(t, path, "original_max_position_embeddings"),
                                   td_ask_int(t, "max_position_embeddings"));
    td_put_int(t, "model.position.original_length", length);
    td_put_float(t, "model.position.beta_fast",
                 td_ask_float_or(t, rope_path(t, path, "beta_fast"), 32));
    td_put_float(t, "model.position.beta_slow",
                 td_ask_float_or(t, rope_path(t, path, "beta_slow"), 1));
}

/* "type" is the older name; many files have both, so that all versions read them. */
static const char *rope_type(td_translation *t)
{
    char path[100], older[100];
    bool has = td_has(t, rope_path(t, path, "rope_type"));
    if (!td_has(t, rope_path(t, older, "type")))
        return has ? td_ask_text(t, path) : "default";
    if (has)
        td_require(t, older, td_ask_text(t, path));
    return td_ask_text(t, older);
}

static void read_rope(td_translation *t)
{
    char        path[100];
    double      base = td_ask_float_or(t, "rope_parameters.rope_theta",
                                       td_ask_float_or(t, "rope_theta", 10000));
    const char *type;
    td_put_text(t, "model.position.plugin", "rope");
    td_put_float(t, "model.position.base", base);
    if (td_ask_float_or(t, "rope_theta", base) != base)
        t->refuse(t, "rope_theta is %s, but rope_parameters.rope_theta is %s",
                  td_ask_text(t, "rope_theta"), td_ask_text(t, "rope_parameters.rope_theta"));
    /* the group may be null, or have settings that its scaling does not read */
    t->ask(t, "rope_scaling");
    t->ask(t, "rope_parameters");
    t->ask(t, rope_path(t, path, "original_max_position_embeddings"));
    type = rope_type(t);
    if (!strcmp(type, "default"))
        return;
    if (strcmp(type, "linear") && strcmp(type, "yarn")) {
        t->refuse(t, "%s is %s: default, linear and yarn can be read",
                  rope_path(t, path, "rope_type"), type);
        return;
    }
    td_put_text(t, "model.position.scaling", type);
    td_put_float(t, "model.position.factor", td_ask_float(t, rope_path(t, path, "factor")));
    if (!strcmp(type, "yarn"))
        read_yarn(t);
}

#endif
