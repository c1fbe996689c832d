/* qwen3.c - Hugging Face's Qwen3ForCausalLM: a DecLLM whose values are not normalized. Paper: Yang et
 * al. 2025. */
#include "decoder.h"

static const struct dialect qwen3 = { .type = "qwen3",
                                      .architecture = "Qwen3ForCausalLM",
                                      .qk_norm = true,
                                      .head_dim = 128,
                                      .windows = true };

static void write_qwen3(const void *config, td_translation *t) { write_decoder(&qwen3, t); }

static void read_qwen3(const void *config, td_translation *t) { read_decoder(&qwen3, t); }

static const char *const types[] = { "qwen3", NULL };

static const td_format format = {
    .plugin = TD_PLUGIN(td_format, TD_FORMAT_KIND, "qwen3", NULL, char,
                        .brief = "Hugging Face's Qwen3: decoder-only, v_norm = false",
                        .paper = "Yang et al., Qwen3 Technical Report, 2025"),
    .model_types = types,
    .write = write_qwen3,
    .read = read_qwen3,
};

TD_MODULE("qwen3", "1.0", "tandem", "MIT", &format.plugin)
