/* refusals.c - what `tandem convert` refuses: models that a format does not have, and folders that
 * are damaged, or say one thing and hold another. */
#include "convert/scratch.h"
#include "io/safetensors.h"

TestSuite(refusals, .init = scratch_open, .fini = scratch_close);

#define DECLLM \
    "$T convert -c $C/decllm-llama/ours.cfg out --weights $C/decllm-llama/ours.safetensors "

/* ---- models ---------------------------------------------------------------------------------- */

Test(refusals, of_models_that_a_format_does_not_have)
{
    scratch_expect(2,
                   "model.attention.qkv_norm is false: it can only be true; formats that can: "
                   "'gguf', 'huggingface', 'llama'",
                   DECLLM "--to qwen3");
    scratch_expect(2,
                   "model.attention.window is 3: it can only be 0; formats that can: 'huggingface'",
                   DECLLM "--to llama model.attention.window=3");
    scratch_expect(
        2, "model.position.plugin is alibi: it can only be rope; formats that can: 'huggingface'",
        DECLLM "--to llama model.position.plugin=alibi --allow 'model.position*'");
    scratch_expect(
        2,
        "model.ffn.plugin is moe: it can only be swiglu or geglu; formats that can: 'huggingface'",
        DECLLM "--to llama model.ffn.plugin=moe --allow 'model.ffn*'");
    scratch_expect(2, "model.plugin is decoder-only: it can only be encoder-decoder",
                   DECLLM "--to t5");
    scratch_expect(2, "model.plugin is decoder-biattn: it can only be decoder-only",
                   DECLLM "--to llama model.plugin=decoder-biattn --allow model.plugin");
    scratch_expect(2, "model.position.scaling is ntk: it can only be none, linear or yarn",
                   DECLLM "--to llama model.position.scaling=ntk model.position.factor=2.0");
    scratch_expect(
        2,
        "model.position.factor is 1.03: its product with model.position.original_length, "
        "16, must be an integer",
        DECLLM "--to llama model.position.scaling=yarn model.position.factor=1.03 "
               "model.position.original_length=16");
    scratch_expect(2, "model.attention.heads is 5: it can only be a divisor of model.d_model, 11",
                   DECLLM "--to llama model.d_model=11");
    scratch_expect(2, "there is no format 'lama'; did you mean 'llama'?", DECLLM "--to lama");
    MUST("! test -e out");
}

/* Versions of transformers that divide the lengths then have the same factor. */
Test(refusals, not_of_yarn_with_a_whole_length)
{
    MUST(DECLLM "--to llama model.position.scaling=yarn model.position.factor=4.0 "
                "model.position.original_length=16 && grep -q '\"max_position_embeddings\": 64,' "
                "out/config.json");
}

Test(refusals, of_parameters_of_another_model)
{
    scratch_expect(2, "has shape [17, 10]; in this config's model it is [17, 15]",
                   DECLLM "--to llama model.d_model=15");
    MUST("! ls -d out*");
}

Test(refusals, of_arguments_that_do_not_fit_together)
{
    scratch_expect(2, "--dtype takes f32, bf16 or q8_0, not 'f16'",
                   DECLLM "--to llama --dtype f16");
    scratch_expect(2, "--dtype has no effect when a folder is read",
                   "$T convert $C/llama/theirs out --dtype bf16");
    scratch_expect(2, "--to writes a run, --from reads a folder", DECLLM "--to llama --from llama");
    scratch_expect(2, "--encoder has no effect with --to", DECLLM "--to llama --encoder b");
    scratch_expect(2, "name a run and a folder to create", "$T convert $C/llama/theirs");
    scratch_expect(2, "neither a run nor a checkpoint",
                   "$T convert $C/llama/theirs out --to llama");
    scratch_expect(2, "is a run: --to says in which format to write it",
                   "$T convert $C/llama/theirs run && $T convert run out");
    scratch_expect(1, "'run' exists: choose another name", "$T convert $C/llama/theirs run");
}

/* What is built up beside a folder has a name that nothing had before. */
Test(refusals, of_nothing_that_has_a_similar_name)
{
    MUST("$T convert $C/llama/theirs run.part && $T convert run.part run --to llama && "
         "test -f run.part/config.cfg && test -f run/config.json && ! ls -d run.[!p]*");
    MUST("mkdir plain && test $(stat -c %a plain) = $(stat -c %a run)");
    MUST("$T convert $C/llama/theirs new/er/run/ && test -f new/er/run/config.cfg && "
         "test \"$(ls new/er)\" = run");
}

/* ---- folders --------------------------------------------------------------------------------- */

/* The folder of a case, changed by sed in its config.json. */
static void expect_changed_case(const char *name, int code, const char *text, const char *change)
{
    char command[600];
    snprintf(command, sizeof command,
             "rm -rf f && cp -r $C/%s/theirs f && chmod -R u+w f && sed -i '%s' f/config.json && "
             "$T convert f out",
             name, change);
    scratch_expect(code, text, command);
}

static void expect_changed(int code, const char *text, const char *change)
{
    expect_changed_case("qwen3", code, text, change);
}

static void expect_changed_t5gemma(const char *text, const char *change)
{
    expect_changed_case("t5gemma", 1, text, change);
}

Test(refusals, of_configs_that_would_change_the_model)
{
    expect_changed(1, "does not know rotary_pct, which is 0.5",
                   "s/\"vocab_size\"/\"rotary_pct\": 0.5, \"vocab_size\"/");
    expect_changed(1, "rope_parameters.rope_type is llama3: default, linear and yarn can be read",
                   "s/\"linear\"/\"llama3\"/");
    expect_changed(1, "rope_parameters.type is yarn: it can only be linear",
                   "s/\"linear\"/\"linear\", \"type\": \"yarn\"/");
    expect_changed(0, "", "s/\"linear\"/\"linear\", \"type\": \"linear\"/");
    MUST("grep -q 'scaling = \"linear\"' out/config.cfg && rm -r out");
    expect_changed(1, "hidden_act is relu", "s/gelu_pytorch_tanh/relu/");
    expect_changed(1, "use_sliding_window is true",
                   "s/\"use_sliding_window\": false/\"use_sliding_window\": true/");
    expect_changed(1, "layer_types.1 is sliding_attention",
                   "0,/full_attention/! {0,/full_attention/ s/full_attention/sliding_attention/}");
    expect_changed(1, "no format reads models of type 'gpt_neox'; there are formats for:",
                   "s/\"model_type\": \"qwen3\"/\"model_type\": \"gpt_neox\"/");
}

/* Llama's config has no switch for windows, and its class ignores them; Mistral's would not. */
Test(refusals, of_windows_that_may_be_meant)
{
    static const char *const change = "rm -rf f && cp -r $C/llama/theirs f && sed -i '1a %s' "
                                      "f/config.json && $T convert f out";
    char                     command[300];
    snprintf(command, sizeof command, change, "\"sliding_window\": 8,");
    scratch_expect(1, "sliding_window is 8: it can only be null", command);
    snprintf(command, sizeof command, change,
             "\"sliding_window\": 8, \"use_sliding_window\": false,");
    MUST(command);
}

#define REDLLM                                                                              \
    "$T convert -c $C/redllm-t5gemma/ours.cfg out --to t5gemma --allow 'model*' --weights " \
    "$C/redllm-t5gemma/ours.safetensors "

Test(refusals, of_models_that_t5gemma_does_not_have)
{
    scratch_expect(2,
                   "model.post_ffn_norm is false: it can only be true; formats that can: "
                   "'huggingface'",
                   REDLLM "model.post_ffn_norm=false");
    scratch_expect(2, "model.cross_positions is true: it can only be false",
                   REDLLM "model.cross_positions=true");
    scratch_expect(2, "model.attention.plugin is mla: it can only be softmax or sliding-window",
                   REDLLM "model.attention.plugin=mla");
    scratch_expect(2, "model.attention.window is 1: it must be at least 2",
                   REDLLM "model.attention.plugin=sliding-window model.attention.window=1");
    scratch_expect(2, "model.attention.heads is 4: it can only be a divisor of model.d_model, 15",
                   REDLLM "model.attention.heads=4");
    scratch_expect(2, "model.share_embeddings is false: it can only be true",
                   "$T convert -c $C/redllm-t5/ours.cfg out --to t5 model.share_embeddings=false "
                   "--weights $C/redllm-t5/ours.safetensors");
    scratch_expect(2, "model.post_ffn_norm is true: it can only be false",
                   DECLLM "--to llama model.post_ffn_norm=true");
    scratch_expect(2,
                   "model.logit_cap is 30.0: it can only be 0.0; formats that can: 'huggingface'",
                   DECLLM "--to llama model.logit_cap=30");
    scratch_expect(2, "model.attention.score_cap is 50.0: it can only be 0.0",
                   "$T convert -c $C/redllm-t5/ours.cfg out --to t5 model.attention.score_cap=50 "
                   "--weights $C/redllm-t5/ours.safetensors");
    MUST("! ls -d out*");
}

Test(refusals, of_stacks_that_differ)
{
    expect_changed_t5gemma("encoder.attn_logit_softcapping is 0, but "
                           "decoder.attn_logit_softcapping is 50 (0: none): they must be equal",
                           "0,/attn_logit_softcapping/ {/attn_logit_softcapping/d}");
    expect_changed_t5gemma("decoder.final_logit_softcapping is 0.0: it must be above 0, or null",
                           "s/\"final_logit_softcapping\": null/\"final_logit_softcapping\": 0.0/");
    expect_changed_t5gemma("encoder.intermediate_size is 7, but decoder.intermediate_size is 9: "
                           "they must be equal",
                           "0,/\"intermediate_size\": 7/ s/\"intermediate_size\": 7/"
                           "\"intermediate_size\": 9/");
    expect_changed_t5gemma("encoder.layer_types.0 is sliding_attention: it can only be "
                           "full_attention, as layer 1 is full_attention",
                           "0,/sliding_attention/ s/sliding_attention/full_attention/");
    expect_changed_case("t5gemma-released", 1,
                        "encoder.layer_types.1 is sliding_attention: it can only be full_attention",
                        "/encoder/,$ s/full_attention/sliding_attention/");
    expect_changed_t5gemma("encoder.layer_types.0 is chunked_attention: only full_attention "
                           "and sliding_attention can be read",
                           "/encoder/,$ s/sliding_attention/chunked_attention/");
    expect_changed_t5gemma("encoder.sliding_window is 5: it can only be decoder.sliding_window - "
                           "1, 4, because only the decoder's counts the token itself",
                           "s/\"sliding_window\": 4/\"sliding_window\": 5/");
    expect_changed_t5gemma("encoder.hidden_activation is relu", "s/gelu_pytorch_tanh/relu/");
    expect_changed_t5gemma("encoder.query_pre_attn_scalar is 0: it must be above 0",
                           "s/\"query_pre_attn_scalar\": 24/\"query_pre_attn_scalar\": 0/");
    expect_changed_t5gemma("decoder.num_hidden_layers is 5000: it must be from 1 to 4096",
                           "s/\"num_hidden_layers\": 2/\"num_hidden_layers\": 5000/");
    MUST("! ls -d out*");
}

/* Until 5.4.0, an encoder's window counted the token itself; without windows, every version computes
 * the same. */
Test(refusals, of_t5gemmas_windows_in_other_versions)
{
    static const char refusal[] = "encoder.sliding_window is 4: it can only be "
                                  "decoder.sliding_window, 5, because both count the token itself";
    static const char unsure[] = "and this may be older or newer";
    expect_changed_t5gemma(refusal, "s/5\\.24\\.0/5.3.0/");
    expect_changed_t5gemma(refusal, "s/5\\.24\\.0/4.57.6/");
    expect_changed_t5gemma(unsure, "s/5\\.24\\.0/5.4.0.dev0/");
    expect_changed_t5gemma(unsure, "s/5\\.24\\.0/new/");
    expect_changed_t5gemma("transformers_version is missing", "/transformers_version/d");
    MUST("! ls -d out*");
    expect_changed_case("t5gemma", 0, "", "s/5\\.24\\.0/5.4.0/");
    MUST("rm -r out");
    expect_changed_case("t5gemma", 0, "", "s/5\\.24\\.0/6.0/");
    MUST("rm -r out");
    expect_changed_case("t5gemma", 0, "", "s/sliding_attention/full_attention/; s/5\\.24/4.57/");
}

/* Our decoder begins with the tokenizer's bos, or else with its pad. */
Test(refusals, of_decoders_that_begin_with_another_token)
{
    expect_changed_t5gemma("decoder_start_token_id is 5: it can only be pad_token_id, 0, or "
                           "bos_token_id, 2",
                           "s/\"is_encoder_decoder\"/\"decoder_start_token_id\": 5, &/");
    expect_changed_t5gemma("decoder_start_token_id is 2: it can only be pad_token_id, 0, or "
                           "bos_token_id, -1 (-1: none)",
                           "s/\"bos_token_id\": 2/\"bos_token_id\": null/; "
                           "s/\"is_encoder_decoder\"/\"decoder_start_token_id\": 2, &/");
    expect_changed_case("t5", 1, "decoder_start_token_id is 5: it can only be pad_token_id, 0",
                        "s/\"decoder_start_token_id\": 0/\"decoder_start_token_id\": 5/");
    expect_changed_case("t5gemma", 0, "",
                        "s/\"is_encoder_decoder\"/\"decoder_start_token_id\": 0, &/");
}

Test(refusals, of_configs_that_are_wrong)
{
    expect_changed(1, "hidden_size is missing", "/\"hidden_size\"/d");
    expect_changed(1, "hidden_size is eleven: it must be an integer",
                   "s/\"hidden_size\": 11/\"hidden_size\": \"eleven\"/");
    expect_changed(
        2, "f/config.json: attention 'softmax': option 'heads' is -4, which is out of range",
        "s/\"num_attention_heads\": 4/\"num_attention_heads\": -4/");
    expect_changed(1, "according to config.json it should be",
                   "s/\"hidden_size\": 11/\"hidden_size\": 10/");
    expect_changed(1, "has no tensor 'model.layers.3.input_layernorm.weight'",
                   "s/\"num_hidden_layers\": 3/\"num_hidden_layers\": 4/");
    expect_changed(1, "does not know layer_types.2",
                   "s/\"num_hidden_layers\": 3/\"num_hidden_layers\": 2/");
    expect_changed(1, "has no tensor 'lm_head.weight'",
                   "s/\"tie_word_embeddings\": true/\"tie_word_embeddings\": false/");
    expect_changed(1, "is not valid JSON", "1d");
    MUST("! ls -d out*");
}

/* What is done for each layer, or kept of each setting, ends soon whatever a file claims. */
Test(refusals, of_configs_that_are_too_large)
{
    expect_changed(1, "num_hidden_layers is 2000000000000: it must be from 1 to 4096",
                   "s/\"num_hidden_layers\": 3/\"num_hidden_layers\": 2000000000000/");
    expect_changed(1, "num_hidden_layers is 0: it must be from 1 to 4096",
                   "s/\"num_hidden_layers\": 3/\"num_hidden_layers\": 0/");
    scratch_expect(1, "model.decoder_layers is 4097: it must be from 1 to 4096",
                   "rm -rf f && cp -r $C/redllm/theirs f && sed -i 's/\"decoder_layers\": "
                   "2/\"decoder_layers\": 4097/' f/config.json && $T convert f out");
    scratch_expect(1, "f/config.json': there are more than 65536 settings",
                   "{ echo '{\"model_type\": \"llama\", \"a\": [0'; yes ,0 | head -n 65536; "
                   "echo ']}'; } >f/config.json && $T convert f out");
    scratch_expect(1, "xxx..' is longer than 200 bytes",
                   "printf '{\"model_type\": {\"%0200d\": null}}' 0 | tr 0 x >f/config.json && "
                   "$T convert f out");
}

/* As resize_token_embeddings() leaves it: "model" has the old size. */
Test(refusals, of_parameters_without_the_vocabulary_that_counts)
{
    scratch_expect(1, "has shape [13, 11], but according to config.json it should be [14, 11]",
                   "cp -r $C/redllm/theirs f && sed -i '1a \"vocab_size\": 14,' f/config.json && "
                   "$T convert f out");
}

Test(refusals, of_folders_without_safetensors)
{
    scratch_expect(1, "because reading one can run arbitrary code",
                   "cp -r $C/qwen3/theirs f && mv f/model.safetensors f/pytorch_model.bin && $T "
                   "convert f out");
    scratch_expect(1, "has neither model.safetensors nor",
                   "rm f/pytorch_model.bin && $T convert f out");
    scratch_expect(1, "config.json", "rm f/config.json && $T convert f out");
    scratch_expect(1, "nowhere", "$T convert nowhere out");
}

/* Write the parameters of f again, with the tensor `from` also as `to`. */
static void copy_tensor(const char *from, const char *to)
{
    char            path[200];
    td_error        e = { 0 };
    td_safetensors *in = td_safetensors_open(CASES "/decllm-qwen3/theirs/model.safetensors", &e);
    td_stored       all[100];
    size_t          n;
    cr_assert(in, "%s", e.text);
    n = td_safetensors_count(in);
    cr_assert(n < 100 && td_safetensors_find(in, from));
    for (size_t i = 0; i < n; i++)
        all[i] = *td_safetensors_at(in, i);
    all[n] = *td_safetensors_find(in, from);
    all[n].name = to;
    snprintf(path, sizeof path, "%s/f/model.safetensors", scratch);
    cr_assert(!td_safetensors_write(path, all, n + 1, NULL, &e), "%s", e.text);
    td_safetensors_close(in);
}

/* A matrix that repeats another is a tied one; the bias that the model lacks only looks like a norm. */
Test(refusals, of_vectors_that_are_equal_by_chance)
{
    MUST("cp -r $C/decllm-qwen3/theirs f && chmod -R u+w f");
    copy_tensor("model.embed_tokens.weight", "lm_head.weight");
    MUST("$T convert f out && rm -r out");
    copy_tensor("model.layers.0.input_layernorm.weight", "model.layers.0.mlp.down_proj.bias");
    scratch_expect(1, "has a tensor 'model.layers.0.mlp.down_proj.bias'", "$T convert f out");
}
