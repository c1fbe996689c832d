/* cases.c - models whose logits Hugging Face's own classes have computed (make_cases.py), read from
 * their folders and written again. */
#include <math.h>

#include "convert/scratch.h"
#include "golden/safetensors.h"

TestSuite(cases, .init = scratch_open, .fini = scratch_close);

static struct values tensor_of(const char *path, const char *name)
{
    struct tensors t;
    struct values  v;
    cr_assert(tensors_open(&t, path), "%s", path);
    v = tensors_get(&t, name);
    cr_assert(v.at, "%s: no tensor '%s'", path, name);
    tensors_close(&t);
    return v;
}

/* The logits in the scratch directory's o.safetensors are those of the case, to rounding in float32. */
static void expect_logits(const char *name)
{
    char          have[200], want[500];
    struct values a, b;
    double        largest = 0, worst = 0;
    snprintf(have, sizeof have, "%s/o.safetensors", scratch);
    snprintf(want, sizeof want, "%s/%s/expect.safetensors", CASES, name);
    a = tensor_of(have, "logits");
    b = tensor_of(want, "logits");
    cr_assert_eq(a.count, b.count, "%s: %zu logits, not %zu", name, a.count, b.count);
    for (size_t k = 0; k < a.count; k++) {
        largest = fmax(largest, fabs(b.at[k]));
        worst = fmax(worst, fabs(a.at[k] - b.at[k]));
    }
    cr_expect(largest > 1, "%s: logits of zeros would prove nothing", name);
    cr_expect(worst <= 1e-5 * largest, "%s: logits differ by %g, of %g", name, worst, largest);
    free(a.at);
    free(b.at);
}

/* ---- models of Hugging Face ------------------------------------------------------------------ */

/* Read, and written in the same format, which another reading gives the same model. */
static void read_and_write(const char *name, const char *format)
{
    char command[1000];
    snprintf(command, sizeof command,
             "$T convert $C/%1$s/theirs run && $T probe run --batch $C/%1$s/batch.safetensors "
             "--out o.safetensors && $T convert run there --to %2$s && $T convert there again && "
             "cmp run/checkpoints/step-00000000/model.safetensors "
             "again/checkpoints/step-00000000/model.safetensors && cmp run/config.cfg "
             "again/config.cfg",
             name, format);
    MUST(command);
    expect_logits(name);
}

Test(cases, llama_in_four_files_with_yarn_and_biases) { read_and_write("llama", "llama"); }
Test(cases, qwen3_in_bf16_with_tied_embeddings) { read_and_write("qwen3", "qwen3"); }

Test(cases, t5_with_tied_embeddings) { read_and_write("t5", "t5"); }
Test(cases, t5_v1_1_with_a_matrix_for_the_logits) { read_and_write("t5-v1.1", "t5"); }

/* Greedy generation gives the tokens that generate() did. `model` names ours, as options of a
 * command. */
static void expect_greedy(const char *name, const char *model)
{
    char command[1500];
    /* with a tokenizer it would be text */
    snprintf(command, sizeof command,
             "$T generate %2$s --ids \"$(cat $C/%1$s/prompt)\" --max-new-tokens 20 --json >said && "
             "sed 's/.*\"ids\": *\\[\\([^]]*\\)\\].*/\\1/; s/, */ /g' said >greedy && "
             "cmp greedy $C/%1$s/greedy",
             name, model);
    MUST(command);
}

/* Norms before and after each sublayer, stacks of unequal depth, windows, two tables of embeddings
 * and a matrix for the logits. */
Test(cases, t5gemma_with_windows_and_biases)
{
    read_and_write("t5gemma", "t5gemma");
    MUST("grep '\"transformers_version\": \"5.4.0\"' there/config.json");
    expect_greedy("t5gemma", "run");
}

/* Caps, and a window in every other layer. An older version of transformers counted a token in its
 * encoder's window, too, and settings that a config leaves out have the values of the class. */
Test(cases, t5gemma_as_released)
{
    static const char older[] =
        "rm -rf old again && cp -r $C/t5gemma-released/theirs old && chmod -R u+w old && sed -i "
        "'%s' "
        "old/config.json && $T convert old again && cmp run/config.cfg again/config.cfg";
    char command[500];
    read_and_write("t5gemma-released", "t5gemma");
    expect_greedy("t5gemma-released", "run");
    MUST("grep 'score_cap = 0.75' run/config.cfg && grep 'full_every = 2' run/config.cfg && grep "
         "'logit_cap = 1.5' run/config.cfg");
    snprintf(command, sizeof command, older,
             "s/5.24.0/4.53.0.dev0/; s/\"sliding_window\": 4/\"sliding_window\": 5/");
    MUST(command);
    snprintf(command, sizeof command, older,
             "/\"layer_types\"/,/\\]/d; s/\"eos_token_id\": 1/\"eos_token_id\": [1, 107]/");
    MUST(command);
    MUST("sed -i '/softcapping/d' old/config.json && $T convert old plain && grep 'score_cap = "
         "50.0' "
         "plain/config.cfg && grep 'logit_cap = 30.0' plain/config.cfg");
}

/* In bf16 the same bytes come out that went in. */
Test(cases, bf16_comes_out_as_it_went_in)
{
    char           path[200];
    struct tensors before, after;
    const char    *name;
    json_t        *entry;
    MUST("$T convert $C/qwen3/theirs run && $T convert run there --to qwen3 --dtype bf16");
    cr_assert(tensors_open(&before, CASES "/qwen3/theirs/model.safetensors"));
    snprintf(path, sizeof path, "%s/there/model.safetensors", scratch);
    cr_assert(tensors_open(&after, path));
    cr_expect_eq(json_object_size(before.header), json_object_size(after.header));
    json_object_foreach(before.header, name, entry)
    {
        json_t *other = json_object_get(after.header, name);
        json_t *at = json_object_get(entry, "data_offsets");
        json_t *to = json_object_get(other, "data_offsets");
        size_t  from = (size_t)json_integer_value(json_array_get(at, 0));
        size_t  size = (size_t)json_integer_value(json_array_get(at, 1)) - from;
        if (!strcmp(name, "__metadata__"))
            continue;
        cr_assert(json_equal(json_object_get(entry, "shape"), json_object_get(other, "shape")) &&
                      json_equal(json_object_get(entry, "dtype"), json_object_get(other, "dtype")),
                  "%s", name);
        cr_expect(!memcmp(before.data + before.first + from,
                          after.data + after.first +
                              (size_t)json_integer_value(json_array_get(to, 0)),
                          size),
                  "%s", name);
    }
    tensors_close(&before);
    tensors_close(&after);
}

/* ---- models of ours -------------------------------------------------------------------------- */

/* What Hugging Face computed these logits from is still what is written; and read again, it computes
 * the same. */
static void write_and_read(const char *name, const char *format)
{
    char command[1000];
    snprintf(command, sizeof command,
             "$T convert -c $C/%1$s/ours.cfg there --to %2$s --weights $C/%1$s/ours.safetensors && "
             "cmp there/config.json $C/%1$s/theirs/config.json && cmp there/model.safetensors "
             "$C/%1$s/theirs/model.safetensors && $T probe -c $C/%1$s/ours.cfg --weights "
             "$C/%1$s/ours.safetensors --batch $C/%1$s/batch.safetensors --out o.safetensors",
             name, format);
    MUST(command);
    expect_logits(name);
    snprintf(command, sizeof command,
             "$T convert there run && $T probe run --batch $C/%1$s/batch.safetensors --out "
             "o.safetensors",
             name);
    MUST(command);
    expect_logits(name);
}

Test(cases, decllm_without_v_norm_as_qwen3) { write_and_read("decllm-qwen3", "qwen3"); }
Test(cases, decllm_without_norms_as_llama) { write_and_read("decllm-llama", "llama"); }
Test(cases, redllm_without_norms_as_t5) { write_and_read("redllm-t5", "t5"); }

/* A table that both stacks share is written for each, and read back as two. */
Test(cases, redllm_with_norms_after_sublayers_as_t5gemma)
{
    write_and_read("redllm-t5gemma", "t5gemma");
    expect_greedy("redllm-t5gemma",
                  "-c $C/redllm-t5gemma/ours.cfg --weights $C/redllm-t5gemma/ours.safetensors");
    expect_greedy("redllm-t5gemma", "run");
}

/* Every third layer is full: none of the decoder's. */
Test(cases, redllm_with_caps_and_some_windows_as_t5gemma)
{
    write_and_read("redllm-t5gemma-caps", "t5gemma");
    expect_greedy("redllm-t5gemma-caps", "-c $C/redllm-t5gemma-caps/ours.cfg --weights "
                                         "$C/redllm-t5gemma-caps/ours.safetensors");
    expect_greedy("redllm-t5gemma-caps", "run");
}

/* ---- llama.cpp's files ----------------------------------------------------------------------- */

/* What is written are the bytes of llama.cpp's own package (make_gguf.py); read, they compute the logits
 * that llama.cpp did; and written again, they are the same bytes. */
static void write_and_read_gguf(const char *name, const char *dtype)
{
    char command[1500];
    snprintf(command, sizeof command,
             "$T convert -c $C/%1$s/ours.cfg out/a.gguf --to gguf --dtype %2$s --weights "
             "$C/%1$s/ours.safetensors && cmp out/a.gguf $C/%1$s/theirs.gguf && "
             "$T convert out/a.gguf run && $T probe run --batch $C/%1$s/batch.safetensors --out "
             "o.safetensors && $T convert run b.gguf --to gguf --dtype %2$s && "
             "$T convert b.gguf again && cmp run/checkpoints/step-00000000/model.safetensors "
             "again/checkpoints/step-00000000/model.safetensors && cmp run/config.cfg "
             "again/config.cfg",
             name, dtype);
    MUST(command);
    expect_logits(name);
    expect_greedy(name, "run");
}

Test(cases, decllm_as_llama_cpps_llama_with_yarn_and_biases)
{
    write_and_read_gguf("gguf-llama", "f32");
    /* the first conversion has put the scale of the logits into the last norm */
    MUST("cmp out/a.gguf b.gguf");
}

/* Whole rows of blocks change places. */
Test(cases, decllm_as_llama_cpps_llama_in_bytes)
{
    MUST("$T convert -c $C/gguf-llama/ours.cfg a.gguf --to gguf --dtype q8_0 --weights "
         "$C/gguf-llama/ours.safetensors && cmp a.gguf $C/gguf-llama/bytes.gguf && "
         "$T convert a.gguf run && $T convert run b.gguf --to gguf --dtype q8_0 && "
         "$T convert b.gguf again && cmp run/checkpoints/step-00000000/model.safetensors "
         "again/checkpoints/step-00000000/model.safetensors");
}

/* Rows of 29 do not divide into blocks, so these matrices stay in float32, as vectors do. */
Test(cases, decllm_as_llama_cpps_qwen3_in_bytes)
{
    write_and_read_gguf("gguf-qwen3", "q8_0");
    MUST("cmp out/a.gguf b.gguf");
}

/* ---- models that only our own class has ------------------------------------------------------ */

/* As above; and greedy generation gives the tokens that generate() did. */
static void write_own_class(const char *name)
{
    char model[300];
    write_and_read(name, "huggingface");
    snprintf(model, sizeof model, "-c $C/%1$s/ours.cfg --weights $C/%1$s/ours.safetensors", name);
    expect_greedy(name, model);
    MUST("cd there && sha256sum -c $C/modeling.sha256");
}

Test(cases, redllm) { write_own_class("redllm"); }
Test(cases, redllm_with_other_parts_and_a_window) { write_own_class("redllm-odd"); }
Test(cases, decllm) { write_own_class("decllm"); }
Test(cases, biattn_with_a_prefix) { write_own_class("biattn"); }
Test(cases, redllm_with_fire_and_differential_attention) { write_own_class("redllm-fire"); }
Test(cases, redllm_with_alibi_and_windows) { write_own_class("redllm-alibi"); }
Test(cases, redllm_with_learned_positions) { write_own_class("redllm-learned"); }
Test(cases, redllm_with_xpos) { write_own_class("redllm-xpos"); }
Test(cases, decllm_with_sines_and_differential_attention) { write_own_class("decllm-sinusoidal"); }
Test(cases, biattn_with_biases_by_distance_and_windows) { write_own_class("biattn-t5"); }

Test(cases, decllm_with_latents_and_shared_experts) { write_own_class("decllm-mla"); }
Test(cases, redllm_with_latents_and_one_expert) { write_own_class("redllm-mla"); }
Test(cases, redllm_with_linear_attention) { write_own_class("redllm-linear"); }
Test(cases, biattn_with_linear_attention_and_xpos) { write_own_class("biattn-linear"); }
Test(cases, redllm_with_merged_attention_and_xpos) { write_own_class("redllm-merged"); }
Test(cases, redllm_with_merged_attention_and_biases) { write_own_class("redllm-merged-t5"); }
Test(cases, redllm_with_two_tables_and_norms_after_sublayers) { write_own_class("redllm-tables"); }
/* The fused loss caps its logits as the logits that are shown are capped: log sum_v e^z_v - z_y. */
static void expect_loss(const char *name)
{
    char          have[200], batch[500];
    struct values z, loss, labels;
    double        mean = 0;
    snprintf(have, sizeof have, "%s/o.safetensors", scratch);
    snprintf(batch, sizeof batch, "%s/%s/batch.safetensors", CASES, name);
    z = tensor_of(have, "logits");
    loss = tensor_of(have, "cross_entropy");
    labels = tensor_of(batch, "labels");
    for (size_t n = 0, width = z.count / labels.count; n < labels.count; n++) {
        double sum = 0;
        for (size_t v = 0; v < width; v++)
            sum += exp(z.at[n * width + v]);
        mean += (log(sum) - z.at[n * width + (size_t)labels.at[n]]) / (double)labels.count;
    }
    cr_expect_float_eq(loss.at[0], mean, 1e-5, "%s: %g, not %g", name, loss.at[0], mean);
    free(z.at);
    free(loss.at);
    free(labels.at);
}

Test(cases, redllm_with_caps_and_some_windows)
{
    write_own_class("redllm-caps");
    expect_loss("redllm-caps");
}

Test(cases, biattn_with_caps_and_some_windows) { write_own_class("biattn-caps"); }

/* ---- runs ------------------------------------------------------------------------------------ */

/* A run goes out, and comes back to be continued and finetuned. The ids of its tokenizer mean the same,
 * but it is another plugin then. */
Test(cases, a_run_goes_out_comes_back_and_is_finetuned)
{
    MUST("$T train -c quickstart/decllm.cfg -c ablations/no-qkv-norm.cfg run.dir=. run.name=a "
         "model.d_model=24 model.layers=1 model.attention.heads=2 model.attention.head_dim=8 "
         "model.ffn.d_ff=32 train.steps=2 train.length=32 train.batch=2 train.micro_batch=2 "
         "evaluate.sequences=1 && $T convert a there --to llama && $T convert there b");
    MUST("for run in a b; do $T generate $run --ids '70 71 72' --json "
         "| sed 's/.*\"ids\": *\\[\\([^]]*\\)\\].*/\\1/' >$run.ids; done && "
         "cmp a.ids b.ids && grep -q '[0-9]' a.ids && "
         "grep -q '\"eos_token_id\": 1' there/config.json && "
         "! grep -q pad_token_id there/config.json");
    MUST("$T train -c b/config.cfg -c base/finetune.cfg -c finetune/small.cfg -c "
         "data/instructions.cfg train.steps=1 train.batch=2 train.micro_batch=2 "
         "evaluate.sequences=1 run.dir=. run.name=c train.weights=b --allow tokenizer");
}
