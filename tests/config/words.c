/* words.c - names from other tools are answered with our key, overrides reach into lists, and a
 * name in place of a group is answered with the group. */
#include "config.h"
#include "config/words.h"

#define SHIPPED(name) TANDEM_SOURCE "/configs/quickstart/" name ".cfg"

static bool exists(const char *key, const char *config)
{
    child c = config_run("explain", (const char *[]){ key, "-c", config, NULL });
    bool  found = c.code == 0;
    child_free(&c);
    return found;
}

/* A hint that names a nonexistent key would be worse than none. */
Test(words, lead_to_keys)
{
    const char *keys;
    for (int k = 0; td_config_word_at(k, &keys); k++) {
        char copy[300], *rest = copy;
        /* what to set follows in brackets */
        snprintf(copy, sizeof copy, "%.*s", (int)strcspn(keys, "("), keys);
        if (keys[0] == '-') /* an option of a command: tests/tools/arguments.c */
            continue;
        for (char *key; (key = strsep(&rest, ",")) != NULL;) {
            key += strspn(key, " ");
            key[strcspn(key, " ")] = 0;
            cr_expect(exists(key, SHIPPED("redllm")) || exists(key, SHIPPED("decllm")),
                      "there is no key '%s'", key);
        }
    }
}

Test(words, of_other_tools)
{
    static const char *const wanted[][2] = {
        { "lr=1", "command line: 'lr' is unknown; the key for that is schedule.peak" },
        { "train.lr=1", "train: option 'lr' is unknown; the key for that is schedule.peak" },
        { "optimizer.learning-rate=1", "the key for that is schedule.peak" },
        { "batch_size=1", "'batch_size' is unknown; the key for that is train.batch" },
        { "epochs=1", "'epochs' is unknown; the keys for that are train.steps, train.target_to" },
        { "d_model=1", "the key for that is model.d_model" },
        { "model.n_layers=1", "the keys for that are model.layers, model.encoder_layers" },
        { "model.vocab=1", "option 'vocab' is unknown; did you mean 'vocab_size'?" },
        { "train.warmup=1", "the key for that is schedule.warmup" },
        { "gradient_accumulation_steps=4",
          "the key for that is train.micro_batch (train.batch / N)" },
        { "train.bf16=true", "the key for that is train.precision (bf16)" },
        { "optimizer.betas=1", "the keys for that are optimizer.beta1, optimizer.beta2" },
        { "train.resume=1", "option 'resume' is unknown; it is an option of a command: --resume" },
        { "train.max_length=1", "the key for that is train.length" },
        { "train.steps=ten", "option 'steps' is a string, 'ten'; it takes int" },
        /* a near name in the same group is the better hint */
        { "train.batc=1", "did you mean 'batch'?" },
    };
    config_file("a.cfg", "optimizer = { plugin = \"adamw\"; };\n" CONFIG_SMALL);
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
        config_says(2, wanted[k][1], "check", "-c", "a.cfg", wanted[k][0]);
    config_says(2, "there is no key 'lr'; the key for that is schedule.peak", "explain", "lr");
}

Test(words, a_name_where_a_group_belongs)
{
    config_file("a.cfg", CONFIG_SMALL "optimizer = \"adamw\";\n");
    config_says(2,
                "a.cfg:2: 'optimizer' is a string; it must be a group: write optimizer = { "
                "plugin = \"adamw\"; };",
                "check", "-c", "a.cfg");
    config_file("b.cfg", CONFIG_SMALL);
    config_says(2, "option 'norm' is a string; it takes a group: write model.norm.plugin=layer\n",
                "check", "-c", "b.cfg", "model.norm=layer");
}

/* Found by what a plugin says of itself, so for plugins of strangers as well. */
Test(words, names_of_plugins_elsewhere)
{
    static const char *const wanted[][2] = {
        { "model.norm.plugin=rmsnorm", "there is no norm 'rmsnorm'; did you mean 'rms'?" },
        { "model.norm.plugin=RMS", "did you mean 'rms'?" },
        { "model.norm=layernorm", "write model.norm.plugin=layer (there is no norm 'layernorm'" },
        { "model.norm=Layer_Norm", "did you mean 'layer'?" },
        { "model.position.plugin=rotary", "did you mean 'rope' or 'xpos'?" },
        { "model.position.plugin=nope", "did you mean 'none'?" },
        { "model.position.plugin=rop", "did you mean 'rope'?" },
        { "model.ffn.plugin=silu", "did you mean 'swiglu'?" },
        { "optimizer=adam", "write optimizer.plugin=adamw (there is no optimizer 'adam'; did you" },
        { "optimizer=momentum",
          "write optimizer.plugin=.. (there is no optimizer 'momentum'; `tandem plugins list" },
        { "schedule.plugin=cosine_with_warmup", "did you mean 'cosine'?" },
    };
    config_file("a.cfg", CONFIG_SMALL);
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
        config_says(2, wanted[k][1], "check", "-c", "a.cfg", wanted[k][0]);
}

/* ---- lists ----------------------------------------------------------------------------------- */

#define SOURCES                                                                        \
    CONFIG_SMALL                                                                       \
    "tokenizer = { plugin = \"bytes\"; };\n"                                           \
    "data = { plugin = \"text\"; sources = (\n"                                        \
    "  { name = \"a\"; files = ( \"x\", \"y\" ); held_out_every = 5; rate = 1.0; },\n" \
    "  { name = \"b\"; files = ( \"z\" ); held_out_every = 5; rate = 2.0; } ); };\n"

Test(words, an_item_of_a_list)
{
    config_file("a.cfg", SOURCES);
    config_says(0, "rate = 0.5;", "show", "-c", "a.cfg", "data.sources.1.rate=0.5");
    config_says(0, "rate = 1.0;", "show", "-c", "a.cfg", "data.sources.1.rate=0.5");
    config_says(0, "files = ( \"x\", \"w\" );", "show", "-c", "a.cfg", "data.sources.0.files.1=w");
    config_says(0, "set by:  command line", "explain", "data.sources.1.rate", "-c", "a.cfg",
                "data.sources.1.rate=0.5");
    config_says(0, "set by:  a.cfg:4", "explain", "data.sources[0].rate", "-c", "a.cfg",
                "data.sources.1.rate=0.5");
    config_says(2, "the list 'sources' has no item 2; items are counted from 0", "check", "-c",
                "a.cfg", "data.sources.2.rate=0.5");
    config_says(2, "'layers' is not a list, so it has no item 0", "check", "-c", "a.cfg",
                "model.layers.0=5");
    config_says(2, "'nothing' is not a list", "check", "-c", "a.cfg", "data.nothing.0=5");
    config_says(2, "'0' is not a key", "check", "-c", "a.cfg", "0.a=5");
}

Test(words, explain_without_a_config)
{
    config_says(0, "train.batch = 8", "explain", "train.batch");
    config_says(0, "train.batch = 9", "explain", "train.batch", "train.batch=9");
    config_says(2, "with -c FILE.cfg the keys of its plugins exist as well", "explain", "model.x");
    config_says(2, "no config given", "check", "train.batch=9");
}

Test(words, configs_that_were_meant)
{
    config_file("mine.cfg", CONFIG_SMALL "study = { };\n");
    config_says(2, "mine.cfg:", "check", "mine.cfg");
    config_says(2, "'study' is for `tandem study run mine.cfg`", "check", "mine.cfg");
    config_says(2, "did you mean 'mine.cfg'?", "check", "-c", "mien.cfg");
    config_says(2, "/redllm-150m.cfg'?", "check", "-c", "redllm-150m");
    config_says(2, "did you mean 'ablations/nope.cfg'?", "check", "-c", "nope.cfg");
    config_says(2, "/redllm.cfg'?", "check", "-c", "redllm");
    config_says(2, "did you mean 'base/finetune.cfg'?", "check", "-c", "finetune.cfg");
}
