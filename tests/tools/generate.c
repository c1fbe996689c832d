/* generate.c - `tandem generate --interactive`: which lines are commands, and which are prompts. */
#include "tools/small_run.h"

TestSuite(generate, .init = small_setup, .fini = small_teardown);

#define SAY(lines)                                             \
    "printf '" lines "' | " TANDEM_BINARY                      \
    " generate %1$s/%3$s -q --interactive --min-new-tokens 2 " \
    "--max-new-tokens 2"

Test(generate, interactive_lines)
{
    child c;
    small_expect("run", "%2$s -q", 0, "");
    small_expect("run", SAY("/help\\n"), 0, "There is no command '/help': /reset forgets");
    c = small_shell("run", SAY("/usr/bin/env: what?\\n/reset\\n/quit\\nnever read\\n"));
    cr_expect(c.code == 0 && strlen(c.out) > 1 && !strstr(c.out, "no command"), "%s", c.out);
    child_free(&c);
}
