/* weights.c - parameters of another model: a difference that changes their meaning is named and
 * refused, unless --allow permits it; a BiAttn model accepts those of a causal model. */
#include "tools/child.h"

static char directory[64];

static void write_config(const char *name, const char *architecture, const char *loss)
{
    char  path[160];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s.cfg", directory, name);
    f = fopen(path, "w");
    cr_assert(f);
    fprintf(f,
            "model = { plugin = \"%s\"; vocab_size = 263; d_model = 24; layers = 2;\n"
            "  attention = { plugin = \"softmax\"; heads = 2; head_dim = 12; };\n"
            "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
            "  ffn = { plugin = \"swiglu\"; d_ff = 32; }; };\n"
            "loss = { plugin = \"%s\"; };\n"
            "optimizer = { plugin = \"adamw\"; };\n"
            "schedule = { plugin = \"constant\"; peak = 0.01; };\n"
            "tokenizer = { plugin = \"bytes\"; };\n"
            "data = { plugin = \"text\"; sources = ( { name = \"facts\";\n"
            "  files = ( \"data/corpus/facts.train.jsonl\" );\n"
            "  held_out = ( \"data/corpus/facts.valid.jsonl\" ); } ); };\n"
            "train = { steps = 3; length = 33; batch = 2; };\n"
            "evaluate = { sequences = 2; };\n"
            "run = { dir = \"%s\"; name = \"%s\"; };\n",
            architecture, loss, directory, name);
    cr_assert(!fclose(f));
}

/* A shell command, %1$s the program, %2$s the directory: expect that it ends with `code` and prints
 * `text`. */
static void expect(int code, const char *text, const char *format)
{
    char  command[3000];
    child c;
    snprintf(command, sizeof command, format, TANDEM_BINARY, directory);
    c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_assert_eq(c.code, code, "exit code %d, not %d, of: %s\n%s%s", c.code, code, command, c.out,
                 c.err);
    cr_assert(strstr(c.err, text) || strstr(c.out, text), "'%s' is not in:\n%s%s", text, c.out,
              c.err);
    child_free(&c);
}

static void setup(void)
{
    strcpy(directory, "/tmp/tandem-weights-XXXXXX");
    cr_assert(mkdtemp(directory));
    write_config("causal", "decoder-only", "causal-lm");
    write_config("biattn", "decoder-biattn", "prefix-lm");
    write_config("back", "decoder-only", "prefix-lm");
    expect(0, "nll", "%1$s train -c %2$s/causal.cfg");
    expect(0, "", "cp -r %2$s/causal/checkpoints/step-00000003 %2$s/step-00000003");
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(weights, .init = setup, .fini = teardown);

#define WEIGHTS " --weights %2$s/step-00000003/model.safetensors " /* moved away from its run */

Test(weights, a_causal_model_goes_on_as_biattn)
{
    expect(
        0,
        "the parameters are from a different model.plugin: \"decoder-only\" -> \"decoder-biattn\"",
        "%1$s train -c %2$s/biattn.cfg" WEIGHTS);
    expect(0, "nll", "%1$s evaluate -c %2$s/biattn.cfg" WEIGHTS);
    /* in the other direction the meaning is lost */
    expect(2, "model.plugin: \"decoder-biattn\" -> \"decoder-only\"",
           "%1$s train -c %2$s/back.cfg --weights "
           "%2$s/biattn/checkpoints/step-00000003/model.safetensors");
    expect(0, "allowed",
           "%1$s train -c %2$s/back.cfg --allow model.plugin --weights "
           "%2$s/biattn/checkpoints/step-00000003/model.safetensors");
}

Test(weights, changes_of_meaning_are_refused_and_shown)
{
    expect(2, "model.attention.qkv_norm: true -> false",
           "%1$s train -c %2$s/back.cfg model.attention.qkv_norm=false" WEIGHTS);
    expect(2, "model.position.base: 10000.0 -> 50.0",
           "%1$s evaluate -c %2$s/back.cfg model.position.base=50.0" WEIGHTS);
    expect(2, "model.position.plugin: \"rope\" -> \"alibi\"",
           "%1$s evaluate -c %2$s/back.cfg model.position.plugin=alibi" WEIGHTS);
    expect(2, "model.d_model: 24 -> 48", "%1$s evaluate -c %2$s/back.cfg model.d_model=48" WEIGHTS);
    /* settings that do not affect the model may differ */
    expect(0, "nll", "%1$s train -c %2$s/back.cfg optimizer.plugin=lion train.length=65" WEIGHTS);
}

Test(weights, probe_refuses_them_too)
{
    const char
        *probe = "%1$s probe -c %2$s/back.cfg model.position.base=50.0 --batch " TANDEM_SOURCE
                 "/tests/golden/decllm-128/batch.safetensors" WEIGHTS;
    char allowed[1000];
    expect(2, "model.position.base: 10000.0 -> 50.0", probe);
    snprintf(allowed, sizeof allowed, "%s --allow 'model.position.*'", probe);
    expect(0, "allowed", allowed);
}

Test(weights, a_named_difference_is_let_through)
{
    expect(2, "model.attention.qkv_norm",
           "%1$s train -c %2$s/back.cfg model.attention.qkv_norm=false model.position.base=50.0 "
           "--allow 'model.position.*'" WEIGHTS);
    expect(0, "different model.position.base: 10000.0 -> 50.0: allowed",
           "%1$s train -c %2$s/back.cfg model.attention.qkv_norm=false model.position.base=50.0 "
           "--allow 'model.position.*' --allow model.attention.qkv_norm" WEIGHTS);
    expect(0, "allowed",
           "%1$s train -c %2$s/back.cfg run.name=said model.position.base=50.0 "
           "'train.allow=[\"model.position.base\"]'" WEIGHTS);
    expect(0, "'model.norm.*' is allowed to differ, but no key of that name does",
           "%1$s evaluate -c %2$s/back.cfg --allow 'model.norm.*'" WEIGHTS);
    /* allowing it does not help if the shapes differ */
    expect(2, "embed_tokens",
           "%1$s evaluate -c %2$s/back.cfg model.d_model=48 --allow model.d_model" WEIGHTS);
}

Test(weights, a_run_goes_on_with_an_allowed_difference)
{
    expect(2, "optimizer.weight_decay: 0.1 -> 0.2",
           "%1$s train -c %2$s/causal.cfg --resume train.steps=4 optimizer.weight_decay=0.2");
    expect(0, "optimizer.weight_decay: 0.1 -> 0.2: allowed",
           "%1$s train -c %2$s/causal.cfg --resume train.steps=4 optimizer.weight_decay=0.2 "
           "--allow optimizer.weight_decay");
}

Test(weights, another_tokenizer_is_refused)
{
    expect(2, "trained with another tokenizer (another",
           "sed -i 's/\"tokenizer\": \"[^\"]*\"/\"tokenizer\": \"another\"/' "
           "%2$s/step-00000003/state.json; %1$s train -c %2$s/back.cfg" WEIGHTS);
    expect(0, "nll", "%1$s train -c %2$s/back.cfg --allow tokenizer" WEIGHTS);
}

/* A plugin which no longer exists is a difference like any other: nothing looks for it. */
Test(weights, a_plugin_that_is_gone)
{
    expect(2, "model.ffn.plugin: \"forgotten\" -> \"swiglu\"",
           "sed -i 's/swiglu/forgotten/' %2$s/step-00000003/state.json; "
           "%1$s evaluate -c %2$s/back.cfg" WEIGHTS);
    expect(0, "nll", "%1$s evaluate -c %2$s/back.cfg --allow model.ffn.plugin" WEIGHTS);
}

Test(weights, a_config_that_cannot_be_read)
{
    expect(2, "was trained with can no longer be read",
           "sed -i 's/model = {/model = /' %2$s/step-00000003/state.json; "
           "%1$s evaluate -c %2$s/back.cfg" WEIGHTS);
    expect(0, "nll", "%1$s evaluate -c %2$s/back.cfg --allow model" WEIGHTS);
}

/* Parameters behind a link are checked like the file itself. */
Test(weights, a_link_to_a_checkpoint_is_checked)
{
    expect(2, "model.position.base: 10000.0 -> 50.0",
           "ln -s %2$s/step-00000003/model.safetensors %2$s/best.safetensors; "
           "%1$s evaluate -c %2$s/back.cfg model.position.base=50.0 "
           "--weights %2$s/best.safetensors");
}

/* A damaged state.json is not mistaken for a missing one; one without a config is reported. */
Test(weights, a_damaged_state_is_refused)
{
    expect(0, "records no config",
           "sed -i 's/\"config\":/\"other\":/' %2$s/step-00000003/state.json; "
           "%1$s evaluate -c %2$s/back.cfg" WEIGHTS);
    expect(1, "state.json' is damaged",
           "truncate -s 100 %2$s/step-00000003/state.json; "
           "%1$s evaluate -c %2$s/back.cfg" WEIGHTS);
}

/* A flipped bit of a parameter is still a number: only the hash tells. */
Test(weights, a_damaged_file_is_refused)
{
    expect(1, "model.safetensors' is damaged",
           "F=%2$s/step-00000003/model.safetensors; printf x | dd of=$F bs=1 conv=notrunc "
           "seek=$(($(stat -c %%s $F) / 2)) 2>%2$s/dd && %1$s evaluate -c %2$s/back.cfg" WEIGHTS);
    expect(1, "model.safetensors' is damaged", "%1$s train -c %2$s/back.cfg" WEIGHTS);
}

/* Other groups of the kept config do not matter. */
Test(weights, a_model_is_read_without_the_plugins_of_its_data)
{
    expect(0, "nll",
           "sed -i 's/adamw/forgotten/' %2$s/step-00000003/state.json; "
           "%1$s evaluate -c %2$s/back.cfg" WEIGHTS);
    expect(2, "model.position.base: 10000.0 -> 50.0",
           "%1$s evaluate -c %2$s/back.cfg model.position.base=50.0" WEIGHTS);
}
