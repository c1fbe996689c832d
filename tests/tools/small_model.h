/* small_model.h - the config of a model that trains in a second, and of its text, without its group `train`. */
#ifndef TESTS_TOOLS_SMALL_MODEL_H
#define TESTS_TOOLS_SMALL_MODEL_H

#define SMALL_MODEL                                                                          \
    "model = { plugin = \"decoder-only\"; vocab_size = 263; d_model = 24; layers = 1;\n"     \
    "  attention = { plugin = \"softmax\"; heads = 3; head_dim = 8; };\n"                    \
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"                   \
    "  ffn = { plugin = \"swiglu\"; d_ff = 41; }; };\n"                                      \
    "loss = { plugin = \"causal-lm\"; };\n"                                                  \
    "optimizer = { plugin = \"adamw\"; };\n"                                                 \
    "schedule = { plugin = \"constant\"; peak = 0.003; };\n"                                 \
    "tokenizer = { plugin = \"bytes\"; };\n"                                                 \
    "data = { plugin = \"text\"; sources = ( { name = \"facts\"; files = ( \"" TANDEM_SOURCE \
    "/data/corpus/facts.valid.jsonl\" );\n"                                                  \
    "  held_out = ( \"" TANDEM_SOURCE "/data/corpus/lists.valid.jsonl\" ); } ); };\n"

#endif
