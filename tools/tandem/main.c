/* main.c - the tandem command: finds the subcommand and runs it. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/text.h"
#include "command.h"
#include "guard.h"
#include "strangers.h"
#include "study/child.h"

static const td_command commands[] = {
#define COMMAND(name, brief) { #name, brief, &td_usage_##name, td_command_##name },
#include "commands.def"
#undef COMMAND
    { 0, 0, 0, 0 },
};
enum { COMMANDS = sizeof commands / sizeof *commands - 1 };

const td_command *td_commands(void) { return commands; }

static void print_help(FILE *out)
{
    fprintf(out,
            "tandem %s - which language-model architecture is better, and why?\n\n"
            "usage: tandem COMMAND [-c FILE.cfg] [key=value ..] [options]\n\n",
            TANDEM_VERSION);
    for (int k = 0; k < COMMANDS; k++)
        fprintf(out, "  %-10s %s\n", commands[k].name, commands[k].brief);
    fprintf(
        out,
        "\nSee `tandem COMMAND --help` or `tandem help COMMAND` for the options of a command.\n");
}

/* What others call a command of ours; NULL: nothing. */
static const char *also_called(const char *name)
{
    static const char *const words[][2] = { { "finetune", "train" },   { "fine-tune", "train" },
                                            { "pretrain", "train" },   { "resume", "train" },
                                            { "test", "evaluate" },    { "score", "evaluate" },
                                            { "run", "train" },        { "sample", "generate" },
                                            { "chat", "generate" },    { "export", "convert" },
                                            { "version", "--version" } };
    for (size_t k = 0; k < sizeof words / sizeof *words; k++)
        if (!strcmp(name, words[k][0]))
            return words[k][1];
    return NULL;
}

static int unknown(const char *name)
{
    const char *names[COMMANDS], *nearest = also_called(name);
    for (int k = 0; k < COMMANDS; k++)
        names[k] = commands[k].name;
    if (!nearest)
        nearest = td_nearest(name, names, COMMANDS);
    td_tool_say("tandem: unknown %s '%s'", *name == '-' ? "option" : "command", name);
    if (nearest)
        fprintf(stderr, "; did you mean '%s'?", nearest);
    fprintf(stderr, "\n`tandem --help` lists the commands.\n");
    return TD_EXIT_USAGE;
}

/* Frees everything that a subcommand leaves in its td_tool. */
static int run(const td_command *c, int argc, char **argv)
{
    td_tool tool = { .command = c->name, .log = td_log_new(TD_LOG_INFO) };
    int     code;
    if (!tool.log) {
        fputs("tandem: out of memory\n", stderr);
        return TD_EXIT_FAILED;
    }
    code = c->run(&tool, argc, argv);
    td_registry_free(tool.registry);
    td_log_free(tool.log);
    for (size_t k = 0; k < tool.n_owned; k++)
        free(tool.owned[k]);
    return code;
}

/* If descriptor 0, 1 or 2 is closed, the next file to be opened would get its number, and our
 * output would end up in a checkpoint. If standard output is closed, writing results fails, as on a
 * full disk: its descriptor is read-only. */
static void open_standard_files(void)
{
    int fd;
    while ((fd = open("/dev/null", fcntl(1, F_GETFD) < 0 ? O_RDONLY : O_RDWR)) >= 0 && fd <= 2)
        ;
    if (fd > 2)
        close(fd);
}

/* A thread's stack is as large as the main one, and a process that overflows one ends without a
 * message: a signal handler has no stack left either. LEAST is more than twice what commands were
 * measured to need. */
static int check_stack(void)
{
    enum { LEAST = 512 /* KiB */ };
    struct rlimit most;
    if (getrlimit(RLIMIT_STACK, &most) || most.rlim_cur == RLIM_INFINITY ||
        most.rlim_cur >= (rlim_t)LEAST << 10)
        return 0;
    fprintf(stderr,
            "tandem: the limit on the size of a stack is %llu KiB, and at least %d are needed: "
            "raise it (ulimit -s %d)\n",
            (unsigned long long)most.rlim_cur >> 10, LEAST, 16 * LEAST);
    return TD_EXIT_FAILED;
}

/* `tandem help train` is `tandem train --help`, and `tandem help plugins new` is `tandem plugins
 * new --help`. */
static int help_of(int argc, char **argv)
{
    enum { MOST = 8 };
    char *arguments[MOST + 1];
    int   n = 0;
    for (int k = 1; k < argc && n < MOST; k++)
        arguments[n++] = argv[k];
    arguments[n++] = (char[]){ "--help" };
    for (int k = 0; k < COMMANDS; k++)
        if (!strcmp(argv[0], commands[k].name))
            return run(&commands[k], n, arguments);
    return unknown(argv[0]);
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return TD_EXIT_USAGE;
    }
    if (argc > 2 && !strcmp(argv[1], "help"))
        return help_of(argc - 2, argv + 2);
    /* Requested help is a result and goes to stdout; without arguments it is a usage error. */
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_help(stdout);
        return TD_EXIT_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("tandem %s (plugin ABI %d.%d)\n", TANDEM_VERSION, TD_ABI_MAJOR, TD_ABI_MINOR);
        return TD_EXIT_OK;
    }
    if (!strcmp(argv[1], TD_STRANGERS))
        return td_strangers_load(argc - 2, argv + 2);
    for (int k = 0; k < COMMANDS; k++)
        if (!strcmp(argv[1], commands[k].name))
            return run(&commands[k], argc - 2, argv + 2);
    return unknown(argv[1]);
}

int main(int argc, char **argv)
{
    td_error e = { 0 };
    int      code;
    /* A file that reaches the limit on sizes (ulimit -f) causes a failed write with a message
     * instead of ending the program. */
    signal(SIGXFSZ, SIG_IGN);
    /* OpenBLAS starts its threads when it is loaded, and cannot go on where it gets none (a limit on
     * processes or on memory). It is called by threads of our own, so it needs no others. */
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    open_standard_files();
    if (check_stack())
        return TD_EXIT_FAILED;
    /* a cell of a study ends with it, and may be one of several processes */
    if (td_follow_parent(argv, &e)) {
        fprintf(stderr, "error: tandem: %s\n", e.text);
        return TD_EXIT_FAILED;
    }
    td_guard_start();
    code = dispatch(argc, argv);
    /* stdout is buffered, so only now is it known whether the results were written. */
    if (!fflush(stdout) && !ferror(stdout))
        return td_guard_end(code);
    perror("tandem: writing the output");
    return td_guard_end(code ? code : TD_EXIT_FAILED);
}
