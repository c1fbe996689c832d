/* llama.c - Hugging Face's LlamaForCausalLM: a DecLLM without norms of queries, keys and values.
 * Paper: Touvron et al. 2023. */
#include "decoder.h"

static const struct dialect llama = {
    .type = "llama", .architecture = "LlamaForCausalLM", .mlp_bias = true, .heads_divide = true
};

static void write_llama(const void *config, td_translation *t) { write_decoder(&llama, t); }

static void read_llama(const void *config, td_translation *t) { read_decoder(&llama, t); }

static const char *const types[] = { "llama", NULL };

static const td_format format = {
    .plugin = TD_PLUGIN(td_format, TD_FORMAT_KIND, "llama", NULL, char,
                        .brief = "Hugging Face's Llama: decoder-only, qkv_norm = false",
                        .paper = "Touvron et al., LLaMA, 2023"),
    .model_types = types,
    .write = write_llama,
    .read = read_llama,
};

TD_MODULE("llama", "1.0", "tandem", "MIT", &format.plugin)
