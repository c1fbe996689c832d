/* case.h - the cases of this folder: each is a folder with the facts of a model (case.json), and what
 * an independent implementation computed with it. */
#ifndef TESTS_GOLDEN_CASE_H
#define TESTS_GOLDEN_CASE_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

enum { PATH = 1024, TEXT = 4096 };

struct run {
    const char *backend;
    int         threads;
};

struct golden {
    const char *name;
    char        directory[PATH], scratch[PATH];
    json_t     *facts;
};

/* ---- a config from case.json ----------------------------------------------------------------- */

static inline const char *text_of(const struct golden *c, const char *key)
{
    const char *s = json_string_value(json_object_get(c->facts, key));
    return s ? s : "";
}

static inline long long integer_of(const struct golden *c, const char *key)
{
    return json_integer_value(json_object_get(c->facts, key));
}

static inline double number_of(const struct golden *c, const char *key)
{
    return json_number_value(json_object_get(c->facts, key));
}

static inline const char *flag_of(const struct golden *c, const char *key)
{
    return json_is_true(json_object_get(c->facts, key)) ? "true" : "false";
}

static inline void write_position(FILE *f, const struct golden *c)
{
    const char *p = text_of(c, "position");
    fprintf(f, "  position = { plugin = \"%s\"; ", p);
    if (!strcmp(p, "rope"))
        fprintf(f, "base = %.1f; ", number_of(c, "rope_base"));
    if (!strcmp(p, "t5-relative"))
        fprintf(f, "buckets = %lld; max_distance = %lld; ", integer_of(c, "rel_buckets"),
                integer_of(c, "rel_max"));
    if (!strcmp(p, "learned"))
        fprintf(f, "max_positions = %lld; ", integer_of(c, "max_pos"));
    fprintf(f, "};\n");
}

static inline void write_model(FILE *f, const struct golden *c)
{
    bool encoder = !strcmp(text_of(c, "arch"), "encoder-decoder");
    bool bidirectional = json_is_true(json_object_get(c->facts, "prefix_bidirectional"));

    fprintf(
        f,
        "model = {\n  plugin = \"%s\"; vocab_size = %lld; d_model = %lld; logit_scale = \"%s\";\n",
        encoder         ? "encoder-decoder"
        : bidirectional ? "decoder-biattn"
                        : "decoder-only",
        integer_of(c, "vocab"), integer_of(c, "d"),
        strcmp(text_of(c, "logit_scale"), "none") ? "rsqrt" : "none");
    if (encoder)
        fprintf(f,
                "  encoder_layers = %lld; decoder_layers = %lld; continuous_positions = %s; "
                "cross_positions = %s;\n",
                integer_of(c, "enc"), integer_of(c, "dec"), flag_of(c, "continuous"),
                flag_of(c, "cross_rope"));
    else
        fprintf(f, "  layers = %lld;\n", integer_of(c, "dec"));
    fprintf(f,
            "  attention = { plugin = \"softmax\"; heads = %lld; kv_heads = %lld; head_dim = %lld; "
            "qkv_norm = %s; "
            "output_norm = %s; eps = %e; };\n",
            integer_of(c, "heads"), integer_of(c, "kv_heads"), integer_of(c, "dh"),
            flag_of(c, "qkv_norm"), flag_of(c, "out_norm"), number_of(c, "eps"));
    write_position(f, c);
    fprintf(f, "  norm = { plugin = \"%s\"; eps = %e; };\n",
            strcmp(text_of(c, "norm"), "layernorm") ? "rms" : "layer", number_of(c, "eps"));
    fprintf(f, "  ffn = { plugin = \"%s\"; d_ff = %lld; };\n};\n", text_of(c, "act"),
            integer_of(c, "f"));
    fprintf(f, "loss = { plugin = \"%s\"; z_loss = %e; label_smoothing = %e; };\n",
            text_of(c, "loss"), number_of(c, "z"), number_of(c, "smoothing"));
}

static inline void write_optimizer(FILE *f, const char *name)
{
    if (!strcmp(name, "adamw")) {
        fprintf(f, "optimizer = { plugin = \"adamw\"; beta1 = 0.9; beta2 = 0.95; eps = 1e-8; "
                   "weight_decay = 0.1; };\n"
                   "schedule = { plugin = \"constant\"; peak = 0.003; };\n");
        return;
    }
    fprintf(f, "optimizer = { plugin = \"adafactor\"; factored = %s; ",
            strstr(name, "-factored") ? "true" : "false");
    if (strstr(name, "momentum-decay"))
        fprintf(f, "beta1 = 0.9; weight_decay = 0.001; ");
    fprintf(f, "};\nschedule = { plugin = \"cosine\"; peak = 0.01; warmup = 3; steps = 10; floor = "
               "0.1; };\n");
}

/* Returns the path of the config. */
static inline void write_config(const struct golden *c, const struct run *r, const char *optimizer,
                                char path[PATH + 16])
{
    snprintf(path, PATH + 16, "%s/case.cfg", c->scratch);
    FILE *f = fopen(path, "w");
    cr_assert(f, "cannot write %s", path);
    write_model(f, c);
    if (optimizer)
        write_optimizer(f, optimizer);
    fprintf(f, "backend = { plugin = \"%s\"; threads = %d; };\n", r->backend, r->threads);
    fclose(f);
}

/* ---- all cases ------------------------------------------------------------------------------- */

static inline const char *cases_directory(void)
{
    const char *other = getenv("TANDEM_GOLDEN");
    return other ? other : TANDEM_SOURCE "/tests/golden";
}

/* Calls check for every case; returns their number. */
static inline size_t for_each_case(const struct run *r,
                                   void (*check)(const struct golden *, const struct run *))
{
    DIR   *d = opendir(cases_directory());
    size_t count = 0;
    cr_assert(d, "cannot list %s", cases_directory());
    for (struct dirent *e; (e = readdir(d));) {
        struct golden c = { .name = e->d_name, .scratch = "/tmp/tandem-golden-XXXXXX" };
        char          path[PATH + 32];
        if (snprintf(c.directory, PATH, "%s/%s", cases_directory(), e->d_name) >= PATH ||
            e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/case.json", c.directory);
        if (!(c.facts = json_load_file(path, 0, NULL)))
            continue;
        cr_assert(mkdtemp(c.scratch), "cannot make %s", c.scratch);
        check(&c, r);
        td_remove_tree(c.scratch, NULL);
        json_decref(c.facts);
        count++;
    }
    closedir(d);
    return count;
}

#endif
