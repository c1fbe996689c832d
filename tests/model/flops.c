/* flops.c - the FLOPs of a step's matrix products, as the engine counts them, against the formulas
 * of the layers and the pictures of the masks; earlier batches must not influence them. */
#include "lab.h"

#include <math.h>

/* The widths of LAB_SMALL, and the layers of nano. */
static const double d = 42, f = 53, v = 211;

typedef struct family {
    const char *config, *more;
    double      layers[2];     /* with self-attention: in the encoder, in the decoder (or only
                                * stack) */
    const char *attentions[3]; /* one of each mask */
    double      each[3];       /* number of layers with it */
} family;

static const family families[] = {
    { "nano/redllm",
      "train.clip=1",
      { 2, 2 },
      { "model.encoder.layers.0.self_attn", "model.decoder.layers.0.self_attn",
        "model.decoder.layers.0.cross_attn" },
      { 2, 2, 2 } },
    { "nano/decllm", "train.clip=1", { 0, 4 }, { "model.layers.0.self_attn" }, { 4 } },
    { "paper/decllm-biattn-150m", "train.clip=1", { 0, 8 }, { "model.layers.0.self_attn" }, { 8 } },
    { "nano/decllm", "model.attention.window=5", { 0, 4 }, { "model.layers.0.self_attn" }, { 4 } },
};

/* Pairs that the mask at `path` shows in all rows. */
static double pictured(lab *l, const td_batch *b, const char *path)
{
    td_tensor *const *roots;
    size_t            n;
    double            count = 0;
    for (int64_t row = 0; row < LAB_BATCH; row++) {
        td_text text = { 0 };
        cr_assert_eq(td_graph_dump_mask(td_engine_graph(l->engine, &roots, &n), b, path, row, &text,
                                        &l->error),
                     0, "%s", l->error.text);
        for (const char *p = strchr(td_text_get(&text), '\n'); *p; p++)
            count += *p == '#';
        td_text_free(&text);
    }
    return count;
}

static double tokens_of(const td_batch *b, const char *name)
{
    const td_array *a = td_batch_find(b, name);
    return a ? (double)(a->dim[0] * a->dim[1]) : 0;
}

/* FLOPs of layers and projection, forward once and backward twice; scores and their products with
 * values by pairs. */
static double expected(lab *l, const family *x, const td_batch *b)
{
    double layer = 4 * d * d + 3 * d * f, s = tokens_of(b, "encoder_ids"),
           u = tokens_of(b, "labels");
    double sum = 2 * x->layers[0] * layer * s + 2 * x->layers[1] * layer * u + 2 * v * d * u;
    if (s > 0) /* cross-attention: queries and outputs, keys and values */
        sum += 2 * x->layers[1] * 2 * d * d * (u + s);
    for (int k = 0; k < 3 && x->attentions[k]; k++)
        sum += 4 * d * x->each[k] * pictured(l, b, x->attentions[k]);
    return 3 * sum;
}

Test(flops, of_each_batch)
{
    for (size_t k = 0; k < sizeof families / sizeof *families; k++) {
        const char *overrides[] = { LAB_SMALL, "train.length=60", "train.bucket=64",
                                    families[k].more, NULL };
        lab         l = lab_open(families[k].config, overrides, NULL);
        td_batch   *first = lab_batch(&l, 0, 0, LAB_BATCH);
        double      last = 0;

        lab_allocate(&l, first, NULL);
        for (int64_t step = 0; step < 4; step++) { /* of one shape, each with different lengths */
            td_batch    *b = lab_batch(&l, step, 0, LAB_BATCH);
            td_micro     m = { .batch = b, .divisor = 9, .add = step == 3 };
            td_micro_out out;
            double       wanted = expected(&l, &families[k], b);
            cr_assert_eq(td_engine_gradient(l.engine, &m, &out, &l.error), 0, "%s", l.error.text);
            cr_expect(fabs(out.flops / wanted - 1) < 1e-12, "%s, %s: %.1f FLOPs, not %.1f",
                      families[k].config, families[k].more, out.flops, wanted);
            cr_expect_neq(out.flops, last, "%s: lengths do not matter", families[k].config);
            last = out.flops;
            td_batch_free(b);
        }
        td_batch_free(first);
        lab_close(&l);
    }
}
