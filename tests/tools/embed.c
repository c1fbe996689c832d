/* embed.c - programs that embed tandem, built against an installation: the example in embed.h
 * compiles, and a program that trains, evaluates and describes gets the same bits as the
 * command, while the library prints nothing. */
#include "prefix.h"

#define EMBED TANDEM_SOURCE "/tests/fixtures/embed/embed.c"
#define PKG_CONFIG "PKG_CONFIG_PATH=$(dirname $(find %1$s/prefix -name tandem-embed.pc)) pkg-config"
/* A library built with the address sanitizer needs its runtime in the program as well. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZE "-fsanitize=address,undefined"
#else
#define SANITIZE ""
#endif
/* compiler flags; the loader finds the library where it was installed */
#define FLAGS                                                                           \
    SANITIZE " $(" PKG_CONFIG " --cflags --libs tandem-embed) -Wl,-rpath,$(" PKG_CONFIG \
             " --variable=libdir tandem-embed)"
#define STRICT \
    "-Wall -Wextra -Wpedantic -Wno-unused-parameter -Wno-missing-field-initializers -Werror"

static const char config[] =
    "model = { plugin = \"encoder-decoder\"; vocab_size = 263; d_model = 48; encoder_layers = 1;\n"
    "  decoder_layers = 1; attention = { plugin = \"softmax\"; heads = 3; head_dim = 16; };\n"
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
    "  ffn = { plugin = \"swiglu\"; d_ff = 80; }; };\n"
    "loss = { plugin = \"prefix-lm\"; split = \"random\"; };\n"
    "optimizer = { plugin = \"adamw\"; };\n"
    "schedule = { plugin = \"constant\"; peak = 0.01; };\n"
    "tokenizer = { plugin = \"bytes\"; };\n"
    /* a shipped file: found without the source tree */
    "data = { plugin = \"text\"; sources = ( { name = \"facts\";\n"
    "  files = ( \"data/corpus/facts.train.jsonl\" );\n"
    "  held_out = ( \"data/corpus/facts.valid.jsonl\" ); } ); };\n"
    "train = { steps = 9; length = 67; batch = 6; micro_batch = 3; dropout = 0.1; };\n"
    "evaluate = { sequences = 3; }; tasks = { data = \"" TANDEM_SOURCE "/data/tasks\"; };\n";

static void setup(void)
{
    setenv("CXXFLAGS", SANITIZE, 1); /* CMake's own compiler flags */
    prefix_open("embed");
    write_scratch("model.cfg", config);
}

TestSuite(embed, .init = setup, .fini = prefix_close);

/* The header's example, as a file: from its first #include to the text behind it. */
#define EXAMPLE(name)                                                                    \
    "sed -n '/^ \\*     #include/,/^ \\* Build/{/^ \\* Build/d;s/^ \\* \\{0,5\\}//;p}' " \
    "%1$s/prefix/include/tandem/embed.h > %1$s/" name

Test(embed, the_example_of_the_header_compiles)
{
    MUST(EXAMPLE("example.c"));
    MUST("grep -q 'int main' %1$s/example.c");
    MUST("cc -std=c11 " STRICT " %1$s/example.c -o %1$s/example " FLAGS);
    MUST("c++ -x c++ -std=c++20 " STRICT " %1$s/example.c -o %1$s/example " FLAGS);
}

/* stdout and stderr of the program are both empty; its results are in a file. */
static void run_program(const char *build)
{
    MUST("rm -rf %1$s/runs %1$s/out %1$s/err");
    cr_assert_eq(shell(build), 0, "failed: %s\n%s", build, read_scratch("log"));
    MUST("cd %1$s && ./embed model.cfg run.dir=%1$s/runs result >%1$s/out 2>%1$s/err");
    cr_expect_str_eq(read_scratch("out"), "");
    cr_expect_str_eq(read_scratch("err"), "");
}

/* The same run by the command: parameters, states and metrics are the same to the last bit. */
static void expect_the_commands_bits(void)
{
    char       *result = read_scratch("result"), *nll = strstr(result, "NLL ");
    const char *then = strstr(result, " then ");
    MUST("cd %1$s && prefix/bin/tandem train -c model.cfg run.dir=%1$s/command -q >out");
    for (int k = 0; k < 2; k++)
        MUST("for f in model optimizer; do cmp "
             "%1$s/runs/run/checkpoints/step-00000009/$f.safetensors "
             "%1$s/command/run/checkpoints/step-00000009/$f.safetensors || exit 1; done");
    MUST("for r in runs command; do sed 's/, \"time.*//' %1$s/$r/run/metrics.jsonl >%1$s/$r.m; "
         "done; "
         "cmp %1$s/runs.m %1$s/command.m");
    MUST("cmp %1$s/weights.safetensors %1$s/runs/run/checkpoints/step-00000009/model.safetensors");
    /* the same answers to the same questions */
    MUST("cd %1$s && prefix/bin/tandem evaluate command/run -q --tasks sums --shots 0 --limit 7 "
         "--out "
         "told --name sums >out && cmp told/sums.samples_sums.jsonl "
         "asked/sums-0-shot-first-7.samples_sums.jsonl");
    cr_expect(strstr(result, "sums acc 0.") && strstr(result, " of 7 items"), "%s", result);
    cr_assert(strstr(result, "9 updates in "), "%s", result);
    cr_assert(nll && then && then > nll, "%s", result);
    cr_expect(!strncmp(nll + strlen("NLL "), then + strlen(" then "),
                       (size_t)(then - nll) - strlen("NLL ")),
              "a second evaluation must give the same result: %s", result);
    free(result);
}

Test(embed, a_program_of_c_trains_evaluates_and_describes)
{
    run_program("cc -std=c11 " STRICT " " EMBED " -o %1$s/embed " FLAGS);
    expect_the_commands_bits();
}

Test(embed, a_program_of_cpp_by_the_cmake_package)
{
    MUST("mkdir %1$s/project && cp " EMBED " %1$s/project/embed.cc");
    write_scratch("project/CMakeLists.txt",
                  "cmake_minimum_required(VERSION 3.20)\nproject(embed CXX)\n"
                  "set(CMAKE_CXX_STANDARD 20)\nfind_package(tandem 0.1 REQUIRED)\n"
                  "add_executable(embed embed.cc)\n"
                  "target_link_libraries(embed PRIVATE tandem::tandem)\n");
    run_program("cmake -S %1$s/project -B %1$s/project/build -DCMAKE_PREFIX_PATH=%1$s/prefix && "
                "cmake --build %1$s/project/build && cp %1$s/project/build/embed %1$s/embed");
    expect_the_commands_bits();
}

/* ---- docs/examples --------------------------------------------------------------------------- */

#define EXAMPLES TANDEM_SOURCE "/docs/examples/"

static void build_examples(void)
{
    MUST("cc -std=c11 " STRICT " " EXAMPLES "train.c -o %1$s/train " FLAGS);
    MUST("cc -std=c11 " STRICT " " EXAMPLES "ask.c -o %1$s/ask " FLAGS);
    MUST("c++ -std=c++20 " STRICT " " EXAMPLES "attention.cc -o %1$s/attention " FLAGS);
}

Test(embed, the_examples_of_the_documentation)
{
    build_examples();
    MUST("cd %1$s && ./train model.cfg run.dir=%1$s/runs run.name=e >out && "
         "grep -q '^step 9/9: loss' out && grep -q 'held-out NLL' out");
    MUST("cd %1$s && printf 'The ferry\ntwo plus two is\tfour\n' | ./ask runs/e >out && "
         "grep -q '^-.* nats for 4 tokens' out && test $(wc -l <out) -ge 2");
    MUST("cd %1$s && ./attention runs/e 'The ferry' ' from' >out && "
         "grep -q 'cross_attn$' out && grep -q \"'f' reads\" out && "
         "! ./attention nowhere a b 2>err && grep -q 'neither a run' err");
}

/* It is stopped between two steps, saved, and goes on. */
Test(embed, an_example_that_is_interrupted)
{
    build_examples();
    MUST("cd %1$s && { ./train model.cfg run.dir=%1$s/runs run.name=e train.steps=100000 >out & } "
         "&& child=$! && until grep -q loss runs/e/metrics.jsonl; do sleep 0.1; done 2>err && "
         "kill -INT $child && wait $child && grep -q 'stopped and saved at step' out");
}

/* An error appears only in the td_error: nothing is printed, and no run is created. */
Test(embed, a_wrong_config_is_reported_to_the_program)
{
    write_scratch("wrong.cfg", "extends = \"model.cfg\";\nmodel = { layerz = 3; };\n"
                               "train = { stepz = 3; };\n");
    MUST("cc -std=c11 " EMBED " -o %1$s/embed " FLAGS);
    MUST("cd %1$s && ! ./embed wrong.cfg run.dir=%1$s/runs result >%1$s/out 2>%1$s/err && "
         "test ! -s out && test ! -s err && test ! -e runs");
}
