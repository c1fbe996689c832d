/* check.c - `config check` of parts of a config: what is there is checked, what is missing is told
 * if it is needed. */
#include "config.h"

Test(check, a_part_alone_is_well)
{
    config_file("data.cfg", "tokenizer = { plugin = \"bytes\"; };\n"
                            "data = { plugin = \"text\"; sources = ( { name = \"a\"; files = ( "
                            "\"a.jsonl\" ); } ); };\n");
    config_file("train.cfg", "train = { steps = 7; };\n");
    config_file("empty.cfg", "# nothing\n");
    config_says(0, "all is well", "check", "-c", "data.cfg");
    config_says(0, "all is well", "check", "-c", "train.cfg");
    config_says(0, "all is well", "check", "-c", "empty.cfg");
    config_says(0, "name = \"a\";", "show", "-c", "data.cfg");
}

Test(check, a_part_alone_is_checked)
{
    config_file("data.cfg", "data = { plugin = \"text\"; sorces = 1; };\n");
    config_file("train.cfg", "train = { steps = -7; };\n");
    config_file("tokenizer.cfg", "tokenizer = { plugin = \"byte\"; };\n");
    config_says(2, "did you mean 'sources'?", "check", "-c", "data.cfg");
    config_says(2, "train.cfg:1: train: option 'steps' is -7, which is out of range", "check", "-c",
                "train.cfg");
    config_says(2, "did you mean 'bytes'?", "check", "-c", "tokenizer.cfg");
}

Test(check, a_model_needs_a_loss_and_its_data_a_tokenizer)
{
    config_file("model.cfg",
                "model = { plugin = \"decoder-only\"; vocab_size = 11; layers = 1; d_model = 8;"
                " attention = { heads = 2; head_dim = 4; }; ffn = { d_ff = 7; }; };\n");
    config_file("data.cfg", "data = { plugin = \"text\"; sources = ( { name = \"a\"; files = ( "
                            "\"a.jsonl\" ); } ); };\n");
    config_file("loss.cfg", "loss = { plugin = \"causal-lm\"; };\n");
    config_says(2, "group 'loss' must name a plugin", "check", "-c", "model.cfg");
    config_says(2, "group 'tokenizer' must name a plugin", "check", "-c", "model.cfg", "-c",
                "loss.cfg", "-c", "data.cfg");
    config_says(0, "all is well", "check", "-c", "model.cfg", "-c", "loss.cfg");
    config_says(0, "all is well", "check", "-c", "model.cfg", "loss.plugin=causal-lm");
}
