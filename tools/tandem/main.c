/* main.c - the tandem command: finds the subcommand and runs it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "command.h"

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
    fprintf(out, "\nSee `tandem COMMAND --help` for the options of a command.\n");
}

static int unknown(const char *name)
{
    const char *names[COMMANDS], *nearest;
    for (int k = 0; k < COMMANDS; k++)
        names[k] = commands[k].name;
    nearest = td_nearest(name, names, COMMANDS);
    fprintf(stderr, "tandem: unknown command '%s'", name);
    if (nearest)
        fprintf(stderr, "; did you mean '%s'?", nearest);
    fprintf(stderr, "\n`tandem --help` lists the commands.\n");
    return TD_EXIT_USAGE;
}

/* All that a subcommand leaves in its td_tool is freed here. */
static int run(const td_command *c, int argc, char **argv)
{
    td_tool tool = { .command = c->name, .log = td_log_new(TD_LOG_INFO) };
    int     code = c->run(&tool, argc, argv);
    td_registry_free(tool.registry);
    td_log_free(tool.log);
    return code;
}

/* If descriptor 0, 1 or 2 is closed, the next file to be opened would get its number, and our
 * output would end up in a checkpoint. */
static void open_standard_files(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2)
        ;
    if (fd > 2)
        close(fd);
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return TD_EXIT_USAGE;
    }
    /* Help that was asked for is a result, on stdout; without arguments it is a usage error. */
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_help(stdout);
        return TD_EXIT_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("tandem %s (plugin ABI %d.%d)\n", TANDEM_VERSION, TD_ABI_MAJOR, TD_ABI_MINOR);
        return TD_EXIT_OK;
    }
    for (int k = 0; k < COMMANDS; k++)
        if (!strcmp(argv[1], commands[k].name))
            return run(&commands[k], argc - 2, argv + 2);
    return unknown(argv[1]);
}

int main(int argc, char **argv)
{
    int code;
    open_standard_files();
    code = dispatch(argc, argv);
    /* stdout is buffered: only now is it known whether the disk took the results. */
    if (!fflush(stdout) && !ferror(stdout))
        return code;
    perror("tandem: writing the output");
    return TD_EXIT_FAILED;
}
