/* data.h - shared by the tests of `tandem data`: a scratch directory with a config, and shell
 * commands in it. */
#ifndef TESTS_TOOLS_DATA_H
#define TESTS_TOOLS_DATA_H

#include "child.h"

static char directory[64], config[96];

static inline void write_scratch(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    cr_assert(f && fputs(text, f) >= 0 && !fclose(f));
}

static inline void setup(void)
{
    strcpy(directory, "/tmp/tandem-data-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(config, sizeof config, "%s/data.cfg", directory);
    write_scratch("data.cfg",
                  "tokenizer = { plugin = \"bytes\"; };\n"
                  "data = { plugin = \"text\"; sources = (\n"
                  "  { name = \"facts\"; files = ( \"" TANDEM_SOURCE
                  "/data/corpus/facts.*.jsonl\" ); held_out_every = 7; },\n"
                  "  { name = \"code\"; files = ( \"" TANDEM_SOURCE
                  "/data/corpus/code.train.jsonl\" );\n"
                  "    held_out = ( \"" TANDEM_SOURCE "/data/corpus/code.valid.jsonl\" ); } ); };\n"
                  "train = { length = 101; };\n");
}

static inline void teardown(void) { td_remove_tree(directory, NULL); }

/* A shell command; %1$s is the scratch directory, %2$s `tandem data`, %3$s the arguments of a
 * config. */
static inline child shell(const char *format)
{
    char command[3000], arguments[160];
    snprintf(arguments, sizeof arguments, "-c %s", config);
    snprintf(command, sizeof command, format, directory, TANDEM_BINARY " data", arguments);
    return child_run((const char *[]){ "sh", "-c", command, NULL });
}

static inline void expect(const char *format, int code, const char *text)
{
    child c = shell(format);
    cr_assert_eq(c.code, code, "exit code %d, not %d, of: %s\n%s%s", c.code, code, format, c.out,
                 c.err);
    cr_assert(strstr(c.err, text) || strstr(c.out, text), "'%s' is not in: %s%s", text, c.out,
              c.err);
    child_free(&c);
}

#define PREPARE(run) "%2$s prepare %3$s run.dir=%1$s/" run

#endif
