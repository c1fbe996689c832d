/* layers.c - the sources respect the layers: an include may only name a lower one, plugins and
 * ops see only the public headers, and neither the host nor the tool names a plugin. */
#include <criterion/criterion.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define ROOT TANDEM_SOURCE "/"

/* Lower ranks come first; two of one rank do not see each other. */
typedef struct layer {
    const char *name, *directory;
    int         rank;
} layer;

static const layer layers[] = {
    { "tandem", "core/include/tandem/", 0 },
    { "base", "core/base/", 1 },
    { "plugin", "core/plugin/", 2 },
    { "graph", "core/graph/", 3 },
    { "plan", "core/plan/", 4 },
    { "config", "core/config/", 5 },
    { "io", "core/io/", 5 },
    { "model", "core/model/", 6 },
    { "generate", "core/generate/", 7 },
    { "team", "core/team/", 7 },
    { "evaluate", "core/evaluate/", 8 },
    { "train", "core/train/", 9 },
    { "run", "core/run/", 10 },
    { "convert", "core/convert/", 11 },
    { "study", "core/study/", 11 },
    { "report", "core/report/", 12 },
    { "check", "core/check/", 13 },
    { "tools", "tools/tandem/", 14 },
    { "ops", "core/ops/", 1 },
    { "plugins", "plugins/", 1 },
};

enum { LAYERS = sizeof layers / sizeof *layers };

static const layer *layer_of_file(const char *path)
{
    bool inside = !strncmp(path, ROOT, strlen(ROOT));
    for (size_t k = 0; inside && k < LAYERS; k++)
        if (!strncmp(path + strlen(ROOT), layers[k].directory, strlen(layers[k].directory)))
            return &layers[k];
    return NULL;
}

/* The layer named by the first part of an include; NULL if there is none. */
static const layer *layer_of_include(const char *name)
{
    size_t length = strcspn(name, "/");
    for (size_t k = 0; k < LAYERS && name[length]; k++)
        if (strlen(layers[k].name) == length && !strncmp(layers[k].name, name, length))
            return &layers[k];
    return NULL;
}

static bool is_at(const char *directory, const char *name, const layer *of)
{
    char *joined = td_path_join(directory, name), *full = realpath(joined, NULL);
    bool  own = full && layer_of_file(full) == of;
    free(joined);
    free(full);
    return own;
}

/* "shard.h", "../host.h" or "common/shard.h": a file of the same layer, named from the file's folder
 * or from the one above it. */
static bool is_neighbour(const char *path, const char *name)
{
    char *directory = td_path_directory(path), *above = td_path_directory(directory);
    bool  own = is_at(directory, name, layer_of_file(path)) ||
               is_at(above, name, layer_of_file(path));
    free(directory);
    free(above);
    return own;
}

static bool may_include(const char *path, const char *name)
{
    const layer *from = layer_of_file(path), *to = layer_of_include(name);
    cr_assert(from, "%s is in no layer", path);
    return to ? to == from || to->rank < from->rank : is_neighbour(path, name);
}

/* Calls `see` for every line of the files that match. */
static size_t each_line(const char *pattern,
                        void (*see)(const char *path, int number, const char *line))
{
    glob_t files;
    size_t count;
    if (glob(pattern, 0, NULL, &files))
        return 0;
    count = files.gl_pathc;
    for (size_t i = 0; i < files.gl_pathc; i++) {
        char *text = td_file_read(files.gl_pathv[i], NULL, NULL), *rest = text;
        int   number = 0;
        cr_assert(text);
        for (char *line; (line = strsep(&rest, "\n")) != NULL;)
            see(files.gl_pathv[i], ++number, line);
        free(text);
    }
    globfree(&files);
    return count;
}

static const char *const sources[] = {
    ROOT "core/include/tandem/*.h", ROOT "core/include/tandem/*/*.h", ROOT "core/[!i]*/*.[ch]",
    ROOT "core/io/*.[ch]",          ROOT "plugins/*/*.[ch]",          ROOT "plugins/*/*/*.[ch]*",
    ROOT "tools/tandem/*.[ch]",     ROOT "tools/tandem/*/*.[ch]",
};

static void see_include(const char *path, int number, const char *line)
{
    char name[256];
    if (sscanf(line, " # include \"%255[^\"]\"", name) == 1 ||
        sscanf(line, "#include \"%255[^\"]\"", name) == 1)
        cr_expect(may_include(path, name), "%s:%d: may not include \"%s\"", path, number, name);
}

Test(layers, an_include_goes_only_to_a_lower_one)
{
    for (size_t k = 0; k < sizeof sources / sizeof *sources; k++)
        cr_expect(each_line(sources[k], see_include) > 0, "no file matches %s", sources[k]);
}

Test(layers, the_rule_itself)
{
    cr_expect(may_include(ROOT "core/plan/run.c", "base/threads.h"));
    cr_expect(may_include(ROOT "core/plan/run.c", "graph/graph.h"));
    cr_expect(!may_include(ROOT "core/graph/emit.c", "plan/plan.h"));
    cr_expect(!may_include(ROOT "core/base/file.c", "plugin/module.h"));
    cr_expect(!may_include(ROOT "core/plan/run.c", "model/model.h"));
    cr_expect(!may_include(ROOT "core/config/load.c", "io/safetensors.h"));
    cr_expect(!may_include(ROOT "core/ops/rope.c", "base/text.h"));
    cr_expect(!may_include(ROOT "plugins/ffn/relu.c", "base/text.h"));
    cr_expect(!may_include(ROOT "plugins/ffn/relu.c", "../../core/base/text.h"));
    cr_expect(!may_include(ROOT "plugins/ffn/relu.c", "ops/define.h"));
    cr_expect(may_include(ROOT "plugins/ffn/relu.c", "ffn.h"));
}

/* ---- names of plugins ------------------------------------------------------------------------ */

/* Where a plugin's name may still appear, and why. */
typedef struct exception {
    const char *file, *name, *why;
} exception;

static const exception exceptions[] = {
    { "core/run/experiment.c", "none",
      "values of train.recompute and train.guard, not the plugin" },
    { "core/run/experiment.c", "layer", "train.recompute" },
    { "core/run/experiment.c", "cpu", "the default backend" },
    { "core/run/experiment.c", "single", "the default comm" },
    { "core/run/experiment.c", "mpi", "the default comm under a launcher" },
    { "core/run/experiment.c", "jsonl", "a default logger" },
    { "core/run/experiment.c", "tensorboard", "a default logger" },
    { "core/evaluate/items.c", "text", "the field of a whole file" },
    { "core/evaluate/scores.c", "none", "no filter, as lm-evaluation-harness calls it" },
    { "core/evaluate/task.c", "none", "the same" },
    { "core/evaluate/task.c", "jsonl", "a format of files" },
    { "core/evaluate/task.c", "csv", "the same" },
    { "core/graph/dump.c", "constant", "a kind of node" },
    { "core/study/child.c", "none", "how mpirun binds processes" },
    { "core/graph/leaves.c", "constant", "a kind of node" },
    { "tools/tandem/generate.c", "text", "a key of the answers" },
    { "tools/tandem/data/corpus.c", "rope", "a word of the corpus" },
    { "tools/tandem/data/corpus.c", "text", "a field of JSONL" },
    { "tools/tandem/describe.c", "text", "a format" },
    { "core/check/op_cases.h", "softmax", "an op" },
    { "core/plan/precision.c", "rope", "an op" },
    { "core/check/op_cases.h", "rope", "an op" },
    { "tools/tandem/plugins.c", "reference", "a subcommand" },
    { "tools/tandem/manual/markdown.c", "none", "no value" },
};

static bool is_exception(const char *path, const char *name)
{
    for (size_t k = 0; k < sizeof exceptions / sizeof *exceptions; k++)
        if (!strcmp(path + strlen(ROOT), exceptions[k].file) && !strcmp(name, exceptions[k].name))
            return true;
    return false;
}

typedef struct quoted {
    char *name, forms[2][80];
} quoted;

static quoted names[256];
static size_t n_names;

/* plugins/KIND/NAME.c and plugins/KIND/NAME/: as configs name them. */
static void collect_names(void)
{
    glob_t files;
    cr_assert(!glob(ROOT "plugins/*/*", 0, NULL, &files));
    for (size_t i = 0; i < files.gl_pathc && n_names < sizeof names / sizeof *names; i++) {
        const char *base = strrchr(files.gl_pathv[i], '/') + 1, *dot = strrchr(base, '.');
        quoted     *q = &names[n_names];
        if ((dot && strcmp(dot, ".c")) || !strcmp(base, "common")) /* sources, but no plugin */
            continue;
        q->name = strndup(base, dot ? (size_t)(dot - base) : strlen(base));
        snprintf(q->forms[0], sizeof q->forms[0], "\"%s\"", q->name);
        snprintf(q->forms[1], sizeof q->forms[1], "'%s'", q->name);
        n_names++;
    }
    globfree(&files);
}

/* Only code is searched: a comment may give an example. */
static void see_name(const char *path, int number, const char *full)
{
    char line[512];
    snprintf(line, sizeof line, "%s", full[strspn(full, " ")] == '*' ? "" : full);
    if (strstr(line, "/*"))
        *strstr(line, "/*") = 0;
    for (size_t k = 0; k < n_names; k++)
        if (strstr(line, names[k].forms[0]) || strstr(line, names[k].forms[1]))
            cr_expect(is_exception(path, names[k].name), "%s:%d names the plugin '%s': %s", path,
                      number, names[k].name, line);
}

Test(layers, no_plugin_is_named_in_host_or_tool)
{
    static const char *const hosts[] = {
        ROOT "core/base/*.[ch]",  ROOT "core/plugin/*.[ch]",   ROOT "core/graph/*.[ch]",
        ROOT "core/plan/*.[ch]",  ROOT "core/config/*.[ch]",   ROOT "core/io/*.[ch]",
        ROOT "core/model/*.[ch]", ROOT "core/evaluate/*.[ch]", ROOT "core/train/*.[ch]",
        ROOT "core/run/*.[ch]",   ROOT "core/study/*.[ch]",    ROOT "core/report/*.[ch]",
        ROOT "core/check/*.[ch]", ROOT "tools/tandem/*.[ch]",  ROOT "tools/tandem/*/*.[ch]",
    };
    collect_names();
    cr_assert(n_names > 31, "%zu plugins", n_names);
    for (size_t k = 0; k < sizeof hosts / sizeof *hosts; k++)
        cr_expect(each_line(hosts[k], see_name) > 0, "no file matches %s", hosts[k]);
    for (size_t k = 0; k < n_names; k++)
        free(names[k].name);
}
