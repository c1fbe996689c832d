/* config.h - tests of configs: small files in a fresh directory, and the real command on them. */
#ifndef TESTS_CONFIG_CONFIG_H
#define TESTS_CONFIG_CONFIG_H

#include "../tools/child.h"

/* The smallest config that `config check` accepts: a model and a loss. */
#define CONFIG_SMALL                                                                        \
    "model = { plugin = \"decoder-only\"; vocab_size = 11; layers = 1; d_model = 8;"        \
    " attention = { heads = 2; head_dim = 4; }; ffn = { d_ff = 7; }; }; loss = { plugin = " \
    "\"causal-lm\"; };\n"

enum { CONFIG_ARGUMENTS = 16 };

static char config_directory[] = "/tmp/tandem-config-XXXXXX";

/* Write a file to a fresh directory, which becomes the current one. */
static inline void config_file(const char *name, const char *text)
{
    if (strstr(config_directory, "XXXXXX"))
        cr_assert(mkdtemp(config_directory) && !chdir(config_directory));
    FILE *f = fopen(name, "w");
    cr_assert(f && fputs(text, f) >= 0 && !fclose(f), "cannot write %s", name);
}

/* Each test is a separate process, and takes its directory with it. */
__attribute__((destructor)) static void config_remove(void)
{
    const char *const argv[] = { "rm", "-rf", config_directory, NULL };
    pid_t             pid;
    if (!strstr(config_directory, "XXXXXX") &&
        !posix_spawnp(&pid, "rm", NULL, NULL, (char *const *)(uintptr_t)argv, environ))
        waitpid(pid, NULL, 0);
}

static inline child config_run(const char *what, const char *const *arguments)
{
    const char *argv[CONFIG_ARGUMENTS + 8] = { TANDEM_BINARY, "config", "--plugin-path",
                                               TANDEM_PLUGINS, what };
    for (int k = 0; arguments[k]; k++) {
        cr_assert(k < CONFIG_ARGUMENTS);
        argv[5 + k] = arguments[k];
    }
    return child_run(argv);
}

static inline void config_expect(int code, const char *wanted, const char *what,
                                 const char *const *arguments)
{
    child c = config_run(what, arguments);
    cr_expect_eq(c.code, code, "exit code %d:\n%s%s", c.code, c.out, c.err);
    cr_expect(strstr(code ? c.err : c.out, wanted), "expected '%s' in:\n%s%s", wanted, c.out,
              c.err);
    child_free(&c);
}

/* Expect `tandem config WHAT ...` to end with `code` and to print `wanted`: on stdout if it
 * succeeds, else on stderr. */
#define config_says(code, wanted, what, ...) \
    config_expect(code, wanted, what, (const char *const[]){ __VA_ARGS__, NULL })

#endif
