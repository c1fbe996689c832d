/* headers.c - what plugins include is valid C11 and C++17, each header alone and without a warning;
 * an option whose field has another type does not compile. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define INCLUDE TANDEM_SOURCE "/core/include"
#define STRICT "-Wall -Wextra -Wpedantic -Werror -fsyntax-only -I" INCLUDE

static int sh(const char *command) { return system(command); }

/* `compiler` with `language` and `standard` on each header, where there is such a compiler. */
static void each_header(const char *compiler, const char *language, const char *standard)
{
    char command[1000];
    snprintf(command, sizeof command,
             "command -v %s >/dev/null || exit 0; cd " INCLUDE " && for h in $(find tandem -name "
             "'*.h'); do echo \"#include \\\"$h\\\"\" | %s -std=%s -x %s " STRICT
             " - || exit 1; done",
             compiler, compiler, standard, language);
    cr_expect_eq(sh(command), 0, "%s", command);
}

Test(headers, are_valid_c11)
{
    each_header("cc", "c", "c11");
    each_header("clang", "c", "c11");
}

Test(headers, are_valid_cpp17)
{
    each_header("c++", "c++", "c++17");
    each_header("clang++", "c++", "c++17");
}

static int compile_options(const char *compiler, const char *edit)
{
    char command[1000];
    snprintf(command, sizeof command,
             "(echo '#include \"tandem/plugin.h\"'; sed '%s' " TANDEM_SOURCE
             "/tests/fixtures/headers/options.inc) | %s " STRICT " - 2>/dev/null",
             edit, compiler);
    return sh(command);
}

Test(headers, options_have_the_type_of_their_field)
{
    static const char *const compilers[] = { "cc -std=c11 -x c", "c++ -std=c++17 -x c++" };
    for (int k = 0; k < 2; k++) {
        cr_expect_eq(compile_options(compilers[k], ""), 0, "%s", compilers[k]);
        cr_expect_neq(compile_options(compilers[k], "s/int64_t  *heads/int heads/"), 0, "%s",
                      compilers[k]);
        cr_expect_neq(compile_options(compilers[k], "s/double  *scale/float scale/"), 0, "%s",
                      compilers[k]);
    }
}
