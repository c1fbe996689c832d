/* readme.c - the commands of README.md, in its order and word for word, in a directory that looks like
 * a fresh clone after a build. Training is cut short, by further arguments, unless TANDEM_README=1;
 * what tools/quickstart leaves is made in the same way. */
#include <ctype.h>

#include "base/text.h"
#include "tools/child.h"

/* Under sanitizers it would take too long, and show nothing more about the page. */
#ifdef TANDEM_SANITIZED
enum { RUNS = 0 };
#else
enum { RUNS = 1 };
#endif

static char directory[64];

static child in_directory(const char *command)
{
    char shell[4000];
    snprintf(
        shell, sizeof shell,
        "cd %s && unset TANDEM_PLUGIN_PATH && export PATH=\"$PWD/build/release/bin:$PATH\" && { "
        "%s\n} </dev/null",
        directory, command);
    return child_run((const char *[]){ "sh", "-c", shell, NULL });
}

static void must(const char *command)
{
    child c = in_directory(command);
    cr_assert_eq(c.code, 0, "%s: exit code %d\n%s%s", command, c.code, c.out, c.err);
    child_free(&c);
}

static bool in_full(void) { return getenv("TANDEM_README") != NULL; }

/* Copies, as commands write beside them; the build is the one that is tested. */
static void setup(void)
{
    char command[2000];
    snprintf(directory, sizeof directory, "/tmp/tandem-readme-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(command, sizeof command,
             "cp -r '" TANDEM_SOURCE "/configs' '" TANDEM_SOURCE "/data' '" TANDEM_SOURCE
             "/tools' . && mkdir build && ln -s \"$(dirname '" TANDEM_BINARY
             "')/..\" build/release");
    must(command);
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(docs_readme, .init = setup, .fini = teardown, .timeout = 1500);

/* ---- the page ---------------------------------------------------------------------------------- */

static void write_config(const char *text, size_t size)
{
    char  path[200];
    FILE *f;
    snprintf(path, sizeof path, "%s/mine.cfg", directory);
    f = fopen(path, "w");
    cr_assert(f && fwrite(text, 1, size, f) == size && !fclose(f));
}

static int commands;

static void run(const char *line)
{
    td_text command = { 0 };
    child   c;
    bool    trains = !strncmp(line, "tandem train ", 13);
    /* in front of a comment */
    td_text_print(&command, "%.*s",
                  (int)(strstr(line, "  #") ? strstr(line, "  #") - line : (long)strlen(line)),
                  line);
    if (trains && !in_full())
        td_text_print(&command, " train.steps=8 evaluate.sequences=4");
    c = in_directory(td_text_get(&command));
    cr_expect_eq(c.code, 0, "README.md: %s\nends with exit code %d:\n%s%s", line, c.code, c.out,
                 c.err);
    child_free(&c);
    td_text_free(&command);
    commands++;
}

static bool is_command(const char *line)
{
    return !strncmp(line, "tandem ", 7) || !strncmp(line, "make ", 5) ||
           (in_full() && !strncmp(line, "tools/quickstart", 16));
}

/* What tools/quickstart trains, where its study leaves it. */
static void make_runs(void)
{
    static const char *const models[] = { "redllm", "decllm" };
    for (int k = 0; k < 2 && !in_full(); k++) {
        char command[400];
        snprintf(command, sizeof command,
                 "tandem train -c configs/quickstart/%s.cfg run.dir=runs/quick/cells "
                 "run.name=%s-s1-pretrain train.steps=8 --json",
                 models[k], models[k]);
        must(command);
    }
}

/* The lines of a block of code, without their four blanks, continued lines joined. */
static void see_block(td_text *block)
{
    char *rest = block->data;
    if (block->size && !strncmp(block->data, "extends", 7))
        write_config(block->data, block->size);
    for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;)
        if (is_command(line))
            run(line);
    td_text_free(block);
    *block = (td_text){ 0 };
}

Test(docs_readme, its_commands_run)
{
    td_error e = { 0 };
    char    *page = td_file_read(TANDEM_SOURCE "/README.md", NULL, &e), *rest = page;
    td_text  block = { 0 };
    bool     goes_on = false;
    cr_assert(page, "%s", e.text);
    if (RUNS)
        make_runs();
    for (char *line; RUNS && (line = strsep(&rest, "\n")) != NULL;) {
        size_t n = strlen(line);
        if (strncmp(line, "    ", 4)) {
            see_block(&block);
            continue;
        }
        line += goes_on ? 4 + strspn(line + 4, " ") : 4;
        n = strlen(line);
        goes_on = n && line[n - 1] == '\\';
        td_text_print(&block, "%.*s%s", (int)(goes_on ? n - 1 : n), line, goes_on ? "" : "\n");
    }
    see_block(&block);
    cr_expect(!RUNS || commands >= 15, "only %d commands were found", commands);
    free(page);
}
