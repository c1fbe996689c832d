/* new.c - `tandem plugins new`: for every kind, a user with only an installed tandem builds the
 * project, checks it and trains with it; and refusals. */
#include "tools/prefix.h"

#include <math.h>

#include "base/text.h"
#include "tools/child.h"
#include "plugin/registry.h"

/* ---- projects of every kind ------------------------------------------------------------------ */

/* Names with a dash or a digit, keywords of C, functions of its library: the code must compile with
 * any name. */
static const struct {
    const char *kind, *name;
    double nll; /* upper bound on the held-out nats with the config: a guess costs log 320 = 5.77 */
} made[] = {
    { "architecture", "mine", 4.5 }, { "attention", "my-own", 4.5 }, { "backend", "double", 5.5 },
    { "comm", "linux", 4.5 },        { "data", "x", 2.5 },           { "ffn", "switch", 4.5 },
    { "kernels", "relu_2", 4.5 },    { "logger", "open", 4.5 },      { "loss", "loss", 4.5 },
    { "metric", "score", 4.5 },      { "norm", "Norm-3b", 4.5 },     { "op", "exp-2", 4.5 },
    { "optimizer", "sqrt", 5.0 },    { "position", "log", 4.5 },     { "schedule", "rate", 4.5 },
    { "tokenizer", "encode", 4.5 },  { "format", "printf", 4.5 },
};
enum { MADE = sizeof made / sizeof *made };

/* For `make -f`: a target per kind, so that kinds run in parallel. $(1) is the kind, $(2) the
 * name. It uses only PATH and the sanitizers' variables of this process's environment. */
static const char recipe[] =
    "E = env -i HOME=$(D) PATH='$(D)/prefix/bin:$(PATH)' ASAN_OPTIONS='$(ASAN_OPTIONS)' "
    "LSAN_OPTIONS='$(LSAN_OPTIONS)'\n"
    "define kind\n"
    "all: $(D)/$(1).out\n"
    "$(D)/$(1).out:\n"
    "\t@exec >$(D)/$(1).log 2>&1; set -ex; cd $(D); rm -f $(1).out;"
    " $$(E) tandem plugins new $(1) $(2) --dir made/$(1); cd made/$(1);"
    " $$(E) make CFLAGS='-O1 -Werror'; $$(E) make check;"
    " $$(E) make install DESTDIR=$(D)/stage PLUGINDIR=/p;"
    " $$(E) tandem train -c $(2).cfg run.dir=$(D)/runs --threads 1 --json >$(D)/$(1).json;"
    " touch $(D)/$(1).out\n"
    "endef\n";

static void write_driver(void)
{
    char  path[300];
    FILE *f;
    snprintf(path, sizeof path, "%s/driver", directory);
    f = fopen(path, "w");
    cr_assert(f);
    fprintf(f, "D = %s\n%s", directory, recipe);
    for (int k = 0; k < MADE; k++)
        fprintf(f, "$(eval $(call kind,%s,%s))\n", made[k].kind, made[k].name);
    cr_assert(!fclose(f));
}

static double number_in(const char *json, const char *key)
{
    const char *at = strstr(json, key);
    return at ? atof(at + strlen(key)) : NAN;
}

static void expect_trained(int k)
{
    char name[60], *log, *json;
    char path[400];
    snprintf(path, sizeof path, "%s/%s.out", directory, made[k].kind);
    snprintf(name, sizeof name, "%s.log", made[k].kind);
    log = read_scratch(name);
    cr_expect(td_file_exists(path), "%s", log);
    if (td_file_exists(path)) {
        double nll;
        snprintf(name, sizeof name, "%s.json", made[k].kind);
        json = read_scratch(name);
        nll = number_in(json, "\"nll\": ");
        cr_expect(nll > 0 && nll < made[k].nll, "%s: %s", made[k].kind, json);
        free(json);
    }
    free(log);
}

/* Expect that the run's own record names the module. */
static void expect_used(int k)
{
    char name[200], module[100], *text;
    bool kernels = !strcmp(made[k].kind, "kernels");
    /* training does not use them */
    if (!strcmp(made[k].kind, "metric") || !strcmp(made[k].kind, "format"))
        return;
    snprintf(module, sizeof module, "made/%s/%s-%s.so", made[k].kind, made[k].kind, made[k].name);
    /* no config names kernels: the log reports them */
    snprintf(name, sizeof name, kernels ? "%s.log" : "runs/%s-%s/environment.txt", made[k].kind,
             made[k].name);
    text = read_scratch(name);
    cr_expect(strstr(text, module), "'%s' is not in %s: %s", module, name, text);
    free(text);
}

/* A single CMake project for all kinds, so that the compiler is probed only once. */
static void build_with_cmake(void)
{
    char  path[300], command[4096];
    FILE *f;
    snprintf(path, sizeof path, "%s/CMakeLists.txt", directory);
    f = fopen(path, "w");
    cr_assert(f);
    fprintf(f, "cmake_minimum_required(VERSION 3.20)\nproject(all C)\nenable_testing()\n");
    for (int k = 0; k < MADE; k++)
        fprintf(f, "add_subdirectory(made/%s)\n", made[k].kind);
    cr_assert(!fclose(f));
    snprintf(command, sizeof command,
             "cd %%1$s && cmake -S . -B build -DCMAKE_PREFIX_PATH=%%1$s/prefix "
             "-DCMAKE_C_FLAGS=-Werror -DCMAKE_BUILD_TYPE=Debug && cmake --build build -j2");
    MUST(command);
}

/* The modules that CMake built work too: one is enough, as the sources are the same. */
static void use_what_cmake_built(void)
{
    char name[300];
    MUST("cd %1$s/build/made/norm && ctest --output-on-failure");
    for (int k = 0; k < MADE; k++) {
        snprintf(name, sizeof name, "%s/build/made/%s/%s-%s.so", directory, made[k].kind,
                 made[k].kind, made[k].name);
        cr_expect(td_file_exists(name), "%s", name);
        snprintf(name, sizeof name, "%s/stage/p/%s-%s.so", directory, made[k].kind, made[k].name);
        cr_expect(td_file_exists(name), "make install: %s", name);
    }
    MUST("cd %1$s/made/norm && make clean PKG_CONFIG_PATH=/nowhere && test ! -e norm-Norm-3b.so");
}

/* The held-out nats of a few steps with the config of `kind`, on small shapes. */
static double short_run(const char *kind, const char *config, const char *change)
{
    char   command[1000], *json;
    double nll;
    snprintf(command, sizeof command,
             "cd %%1$s/made/%s && %%1$s/prefix/bin/tandem train -c %s.cfg run.dir=%%1$s/other "
             "model.d_model=24 model.ffn.d_ff=40 train.steps=4 train.length=24 train.batch=2 "
             "train.micro_batch=2 train.bucket=8 evaluate.sequences=1 schedule.warmup=1 %s "
             "--threads 2 --json >%%1$s/other.json && rm -r %%1$s/other/%s-%s",
             kind, config, change, kind, config);
    MUST(command);
    json = read_scratch("other.json");
    nll = number_in(json, "\"nll\": ");
    free(json);
    return nll;
}

static void expect_same_nll(const char *kind, const char *config, const char *change,
                            double tolerance)
{
    double as_it_is = short_run(kind, config, ""), changed = short_run(kind, config, change);
    cr_expect(fabs(as_it_is - changed) <= tolerance, "%s: %.9g, with %s %.9g", kind, as_it_is,
              change, changed);
}

/* A run that was stopped and resumed leaves the same table as an uninterrupted one. Both name the
 * length of the schedule, which would follow train.steps. */
static void resume_the_logger(void)
{
#define LOGGED                                                                                    \
    "%1$s/prefix/bin/tandem train -c open.cfg run.dir=%1$s/logged train.log_every=2 --threads 1 " \
    "schedule.steps=8 schedule.warmup=2 "                                                         \
    "'run.loggers=({plugin=\"open\";},{plugin=\"jsonl\";})' "
    MUST("cd %1$s/made/logger && " LOGGED "train.steps=8 run.name=whole");
    MUST("cd %1$s/made/logger && " LOGGED "train.steps=4 run.name=parts");
    MUST("cd %1$s/logged/parts && cp open.csv before.csv && "
         "printf '6,\"train/loss\",1\\n7,\"cut o' >>open.csv");
    MUST("cd %1$s/made/logger && " LOGGED "train.steps=8 run.name=parts --resume");
    MUST("cd %1$s/logged && ! cmp parts/before.csv parts/open.csv && "
         "grep -v evaluate whole/open.csv >a && grep -v evaluate parts/open.csv >b && cmp a b && "
         "grep -q '^8,\"train/loss\",' a");
}

/* The template's own task, by the trained model that its config names. */
static void score_with_the_metric(void)
{
    char *json;
    MUST("cd %1$s/made/metric && %1$s/prefix/bin/tandem evaluate -c score.cfg run.dir=%1$s/runs "
         "--tasks task.cfg --json >%1$s/metric-scores.json");
    json = read_scratch("metric-scores.json");
    cr_expect(strstr(json, "\"score,none\": 0."), "%s", json);
    free(json);
}

/* What the template's format writes, it reads as a model that computes the same. */
static void convert_with_the_format(void)
{
    MUST("cd %1$s && T='prefix/bin/tandem' && P='--plugin-path made/format' && "
         "$T convert runs/format-printf there --to printf $P && $T convert there back $P && "
         "$T convert back again --to printf $P && cmp there/model.safetensors "
         "again/model.safetensors && grep -q '\"wavelength\"' there/config.json");
}

Test(plugins_new, of_every_kind_is_built_checked_and_trained_with)
{
    int kinds = 0;
    for (const td_kind *k = td_kinds(); k->id; k++, kinds++) {
        bool here = false;
        for (int m = 0; m < MADE; m++)
            here = here || !strcmp(k->name, made[m].kind);
        cr_assert(here, "kind '%s' has no case here", k->name);
    }
    cr_assert_eq(kinds, MADE);

    prefix_open("new");
    write_driver();
    /* the first run makes the token shards that the others use */
    (void)shell("make -f %1$s/driver -k %1$s/norm.out; make -f %1$s/driver -k -j2 all");
    for (int k = 0; k < MADE; k++)
        expect_trained(k);
    for (int k = 0; k < MADE; k++)
        expect_used(k);
    build_with_cmake();
    use_what_cmake_built();
    /* other arithmetic, the same model: equal except for rounding */
    expect_same_nll("backend", "double", "backend.plugin=cpu", 1e-4);
    /* first without the kernel, then with the op's lowering */
    expect_same_nll("kernels", "relu_2", "plugin_path='\"/\"'", 1e-4);
    expect_same_nll("op", "exp-2", "backend.plugin=reference", 1e-4);
    resume_the_logger();
    score_with_the_metric();
    convert_with_the_format();
    prefix_close();
}

/* ---- messages and refusals ------------------------------------------------------------------- */

static child run(const char *arguments)
{
    char command[4000];
    snprintf(command, sizeof command, "cd '%s' && HOME='%s' '%s' plugins new %s", directory,
             directory, TANDEM_BINARY, arguments);
    return child_run((const char *[]){ "sh", "-c", command, NULL });
}

static void expect(int code, const char *arguments, const char *says)
{
    child c = run(arguments);
    cr_expect_eq(c.code, code, "%s: exit code %d: %s%s", arguments, c.code, c.out, c.err);
    cr_expect(strstr(code ? c.err : c.out, says), "%s: wanted '%s' in: %s%s", arguments, says,
              c.out, c.err);
    child_free(&c);
}

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/tandem-new-XXXXXX");
    cr_assert(mkdtemp(directory));
}

TestSuite(plugins_new_says, .init = setup, .fini = prefix_close);

Test(plugins_new_says, the_kinds)
{
    child c = run(""), d = run("--list");
    cr_expect_eq(c.code, 0);
    cr_expect_str_eq(c.out, d.out);
    for (const td_kind *k = td_kinds(); k->id; k++) {
        char line[200];
        snprintf(line, sizeof line, "\n  %-14s %s\n", k->name, k->brief);
        cr_expect(strstr(c.out, line), "%s", line);
    }
    child_free(&c);
    child_free(&d);
}

Test(plugins_new_says, wrong_kinds_and_names)
{
    expect(2, "atention mine", "unknown kind 'atention'; did you mean 'attention'?");
    expect(2, "zzzzzz mine", "unknown kind 'zzzzzz'; `tandem plugins new` lists the kinds");
    expect(2, "norm", "a kind and a name are needed; only 'norm' is given");
    expect(2, "norm a b", "unexpected argument 'b'");
    expect(2, "--list norm", "--list takes no argument: unexpected 'norm'");
    expect(2, "norm ''", "the plugin's name is empty");
    expect(2, "norm 2d", "the plugin's name '2d' begins with '2'");
    expect(2, "norm -- -x", "begins with '-'");
    expect(2, "norm a/b", "the plugin's name 'a/b' has byte 0x2F after 'a'");
    expect(2, "norm 'a b'", "has byte 0x20 after 'a'");
    expect(2, "norm na\xc3\xafve", "has byte 0xC3 after 'na'");
    expect(2, "norm td", "the plugin's name 'td' begins with 'td', like tandem's own");
    expect(2, "norm td-x", "begins with 'td'");
    expect(2, "norm aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
           "has 65 bytes; the limit is 64");
    expect(2, "norm rms", "norm 'rms' already exists (");
    expect(2, "op matmul", "op 'matmul' already exists (built in): choose another name");
    expect(2, "op relu", "ffn 'relu' already exists (");
    expect(2, "norm mine --author 'a\tb'", "--author contains the control character 0x09");
    expect(2, "norm mine --licence 'a\nb'", "--licence contains the control character 0x0A");
    expect(2, "norm mine --dir ''", "--dir needs the path of a directory; it is empty");
    MUST("test -z \"$(ls %1$s | grep -v log)\"");
}

Test(plugins_new_says, wrong_places)
{
    expect(0, "norm mine", "cd 'norm-mine'");
    expect(1, "norm mine", "'norm-mine' already exists, and nothing is overwritten");
    MUST("mkdir %1$s/empty && touch %1$s/file && ln -s nowhere %1$s/link");
    expect(1, "norm mine --dir empty", "'empty' already exists");
    expect(1, "norm mine --dir empty/", "'empty' already exists");
    expect(1, "norm mine --dir file", "'file' already exists");
    expect(1, "norm mine --dir link", "'link' already exists");
    expect(1, "norm mine --dir file/x", "cannot create the directory 'file/x': Not a directory");
    expect(1, "norm mine --dir /dev/full/x", "'/dev/full/x': Not a directory");
    expect(1, "norm mine --dir /proc/x", "cannot create the directory '/proc/x': ");
    expect(0, "norm mine --dir deep/down//", "cd 'deep/down'");
    MUST("cd %1$s && test -f deep/down/norm-mine.c && test -z \"$(ls empty)\"");
    MUST("cd %1$s && ls norm-mine | tr '\\n' ' ' | grep -qx "
         "'CMakeLists.txt Makefile README.md mine.cfg norm-mine.c '");
}

/* With SIGXFSZ ignored, the write fails; an incomplete project is removed. */
Test(plugins_new_says, that_the_disk_is_full)
{
    char  command[1000];
    child c;
    snprintf(command, sizeof command,
             "cd '%s' && trap '' XFSZ && ulimit -f 2 && exec '%s' plugins new attention mine",
             directory, TANDEM_BINARY);
    c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_expect_eq(c.code, 1);
    cr_expect(strstr(c.err, "cannot write 'attention-mine/attention-mine.c': File too large"), "%s",
              c.err);
    MUST("test ! -e %1$s/attention-mine");
    child_free(&c);
}

Test(plugins_new_says, author_and_licence)
{
    char *text;
    write_scratch(".gitconfig", "[user]\n\tname = Jo \\\"Q\\\" \\\\ Z\n");
    expect(0, "norm one", "norm-one");
    text = read_scratch("norm-one/norm-one.c");
    cr_expect(strstr(text, "TD_MODULE(\"one\", \"0.1.0\", \"Jo \\\"Q\\\" \\\\ Z\", \"MIT\", "),
              "%s", text);
    free(text);
    expect(0, "norm two --author @NAME@ --licence 'BSD \"2\"'", "norm-two");
    text = read_scratch("norm-two/norm-two.c");
    cr_expect(strstr(text, "\"@NAME@\", \"BSD \\\"2\\\"\", "), "%s", text);
    free(text);
    MUST("rm %1$s/.gitconfig");
    setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
    setenv("USER", "somebody", 1);
    expect(0, "norm three", "norm-three");
    text = read_scratch("norm-three/norm-three.c");
    cr_expect(strstr(text, "\"somebody\", \"MIT\""), "%s", text);
    free(text);
}

/* No placeholder is left, nor any other name. */
Test(plugins_new_says, repeats_of_all_words)
{
    for (const td_kind *k = td_kinds(); k->id; k++) {
        char arguments[100];
        snprintf(arguments, sizeof arguments, "%s new-one --author me", k->name);
        expect(0, arguments, "make && make check");
    }
    MUST("! grep -rE '@[A-Z]+@' %1$s/*-new-one");
    MUST("test $(grep -l \"kind/.*h\" %1$s/*-new-one/README.md | wc -l) = $(ls -d %1$s/*-new-one | "
         "wc -l)");
}

/* ---- what the documentation shows ------------------------------------------------------------ */

/* The indented block behind the line `marker`, without its indentation; free() it. */
static char *shown(const char *page, const char *marker)
{
    td_text     block = { 0 };
    const char *line = strstr(page, marker);
    cr_assert(line, "the page has no '%s'", marker);
    for (line = strchr(line, '\n') + 1; *line == '\n';)
        line++;
    while (line && *line && (*line == '\n' || !strncmp(line, "    ", 4))) {
        const char *end = strchr(line, '\n');
        if (*line != '\n')
            td_text_append(&block, line + 4, (size_t)(end - line - 4));
        td_text_append(&block, "\n", 1);
        line = end + 1;
    }
    while (block.size > 1 && block.data[block.size - 2] == '\n')
        block.data[--block.size] = 0;
    return block.data;
}

Test(plugins_new_says, the_example_of_the_page)
{
    td_error e = { 0 };
    char    *page = td_file_read(TANDEM_SOURCE "/docs/plugin-authors.md", NULL, &e), *block, *text;
    cr_assert(page, "%s", e.text);
    expect(0, "attention mine --author you", "attention-mine");
    block = shown(page, "<!-- attention-mine/attention-mine.c -->");
    text = read_scratch("attention-mine/attention-mine.c");
    cr_expect_str_eq(block, text,
                     "the attention in docs/plugin-authors.md differs from "
                     "tools/templates/attention/plugin.c");
    free(block);
    free(text);
    block = shown(page, "<!-- attention-mine/mine.cfg -->");
    text = read_scratch("attention-mine/mine.cfg");
    cr_expect_str_eq(block, text, "docs/plugin-authors.md shows a different config");
    free(block);
    free(text);
    for (const td_kind *k = td_kinds(); k->id; k++) {
        char heading[100];
        snprintf(heading, sizeof heading, "\n### %s\n", k->name);
        cr_expect(strstr(page, heading), "docs/plugin-authors.md has no section '%s'", k->name);
    }
    free(page);
}
