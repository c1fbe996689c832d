/* stranger.c - a user with only an installed tandem adds an attention: headers, one cc line, a
 * change of config. */
#include "prefix.h"

#define STRANGER TANDEM_SOURCE "/tests/fixtures/stranger/attention-mine.c"
#define PKG_CONFIG "PKG_CONFIG_PATH=$(dirname $(find %1$s/prefix -name tandem.pc)) pkg-config"

static const char config[] =
    "model = { plugin = \"encoder-decoder\"; vocab_size = 263; d_model = 48; encoder_layers = 1; "
    "decoder_layers = 1;\n"
    "  attention = { plugin = \"softmax\"; heads = 3; head_dim = 16; };\n"
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; }; ffn = { plugin = "
    "\"swiglu\"; d_ff = 80; }; };\n"
    "loss = { plugin = \"prefix-lm\"; };\n"
    "optimizer = { plugin = \"adamw\"; };\n"
    "schedule = { plugin = \"constant\"; peak = 0.01; };\n"
    "tokenizer = { plugin = \"bytes\"; };\n"
    "data = { plugin = \"text\"; sources = ( { name = \"facts\"; files = ( \"" TANDEM_SOURCE
    "/data/corpus/facts.train.jsonl\" );\n"
    "  held_out = ( \"" TANDEM_SOURCE "/data/corpus/facts.valid.jsonl\" ); } ); };\n"
    "train = { steps = 31; length = 67; batch = 5; };\n"
    "evaluate = { sequences = 3; };\n";

static void setup(void)
{
    prefix_open("stranger");
    write_scratch("model.cfg", config);
    MUST(
        "cd %1$s && prefix/bin/tandem data show -c quickstart/redllm.cfg --count 1 run.dir=%1$s/r");
}

TestSuite(stranger, .init = setup, .fini = prefix_close);

#define TRAIN                                                                    \
    "%1$s/prefix/bin/tandem train -c %1$s/model.cfg run.dir=%1$s run.name=mine " \
    "model.attention.plugin=mine "                                               \
    "model.attention.heads=3 model.attention.head_dim=16 --threads 1 --json "

Test(stranger, one_line_builds_an_attention_that_trains)
{
    char       *info, *summary;
    const char *nll;

    cr_assert_neq(shell(TRAIN), 0, "the plugin does not exist yet");
    MUST("mkdir %1$s/plugins");
    MUST("cc -shared -fPIC -Wall -Wextra -Werror " STRANGER
         " -o %1$s/plugins/attention-mine.so $(" PKG_CONFIG " --cflags tandem)");
    MUST("%1$s/prefix/bin/tandem plugins check %1$s/plugins/attention-mine.so");
    MUST(TRAIN "--plugin-path %1$s/plugins >%1$s/summary.json");

    /* its own parameters, in encoder, decoder and cross attention */
    info = read_scratch("mine/model-info.txt");
    cr_assert(strstr(info, "model.encoder.layers.0.self_attn.sharpness"), "%s", info);
    cr_assert(strstr(info, "model.decoder.layers.0.cross_attn.gate_proj.weight"), "%s", info);
    summary = read_scratch("summary.json");
    nll = strstr(summary, "\"nll\": ");
    cr_assert(nll);
    cr_assert(atof(nll + 7) > 0 && atof(nll + 7) < 4.5,
              "it learns: a guess among 263 ids costs 5.57 nats\n%s", summary);
    free(info);
    free(summary);
}

/* make would take a path with a space for two. */
Test(stranger, a_prefix_may_have_a_space)
{
    MUST("cp -r %1$s/prefix '%1$s/pre fix' && cd %1$s && export PATH=\"%1$s/pre fix/bin:$PATH\" && "
         "unset PKG_CONFIG_PATH && tandem plugins new norm near && make -C norm-near && "
         "test -f norm-near/norm-near.so");
}

Test(stranger, the_cmake_package_builds_it_too)
{
    MUST("mkdir %1$s/project");
    write_scratch(
        "project/CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.20)\nproject(mine C)\nfind_package(tandem 0.1 REQUIRED)\n"
        "tandem_plugin(attention-mine " STRANGER ")\n");
    MUST("cmake -S %1$s/project -B %1$s/project/build -DCMAKE_PREFIX_PATH=%1$s/prefix");
    MUST("cmake --build %1$s/project/build");
    MUST("%1$s/prefix/bin/tandem plugins check %1$s/project/build/attention-mine.so");
}

/* `plugin_path` is relative to the config that sets it, wherever tandem is run from; the config
 * stored with the run works anywhere as well. */
Test(stranger, a_config_says_where_its_plugins_are)
{
    MUST("mkdir %1$s/mine-too");
    MUST("cc -shared -fPIC " STRANGER " -o %1$s/mine-too/attention-mine.so $(" PKG_CONFIG
         " --cflags tandem)");
    write_scratch("path.cfg",
                  "extends = \"model.cfg\";\nplugin_path = \"mine-too\";\n"
                  "model = { attention = { plugin = \"mine\"; heads = 3; head_dim = 16; }; };\n"
                  "train = { steps = 2; };\nrun = { name = \"path\"; };\n");
    MUST("cd / && %1$s/prefix/bin/tandem train -c %1$s/path.cfg run.dir=%1$s --threads 1");
    MUST("cd / && %1$s/prefix/bin/tandem describe %1$s/path --plugin-path %1$s/mine-too | grep -q "
         "parameters");
    /* without the module, its copy in the run is there for those who trust it */
    MUST("mv %1$s/mine-too/attention-mine.so %1$s/away.so");
    cr_expect_neq(shell("%1$s/prefix/bin/tandem config show -c %1$s/path"), 0);
    cr_expect(strstr(read_scratch("log"), "--trust loads them"), "%s", read_scratch("log"));
    MUST("%1$s/prefix/bin/tandem config show -c %1$s/path --trust | grep -q 'plugin = \"mine\"'");
    MUST("mv %1$s/away.so %1$s/mine-too/attention-mine.so");
    write_scratch("wrong.cfg", "extends = \"path.cfg\";\nplugin_path = 3;\n");
    cr_expect_neq(shell("%1$s/prefix/bin/tandem describe -c %1$s/wrong.cfg"), 0);
    cr_expect(strstr(read_scratch("log"), "wrong.cfg:2"), "%s", read_scratch("log"));
    write_scratch("typo.cfg", "extends = \"path.cfg\";\nplugin_paht = \"mine-too\";\n");
    cr_expect_neq(shell("%1$s/prefix/bin/tandem describe -c %1$s/typo.cfg"), 0);
    cr_expect(strstr(read_scratch("log"), "did you mean 'plugin_path'"), "%s", read_scratch("log"));
}
