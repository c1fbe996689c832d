/* headers.c - the public headers are valid C11 and C++17, each alone and without a warning; the
 * example in each header compiles, and its comments mention only existing names; an option whose
 * field has the wrong type does not compile. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define INCLUDE TANDEM_SOURCE "/core/include"
#define STRICT "-Wall -Wextra -Wpedantic -Werror -fsyntax-only -I" INCLUDE

static int sh(const char *command) { return system(command); }

/* The example of a header: the indented lines below " * Example..:". */
#define EXAMPLE_OF                                                                             \
    "awk '/^ \\* Example/ { inside = 1; next } inside && /^ \\*     / { print substr($0, 8); " \
    "next } inside && /^ \\*$/ { print \"\"; next } { inside = 0 }' "

/* Run `compiler` with `options` on each header, if it is installed; `then`: a command whose output,
 * for the header $h, follows the header. */
static void each_header(const char *compiler, const char *options, const char *then)
{
    char command[2000];
    snprintf(command, sizeof command,
             "command -v %s >/dev/null || exit 0; cd " INCLUDE " && for h in $(find tandem -name "
             "'*.h'); do (echo \"#include \\\"$h\\\"\"; %s) | %s " STRICT
             " %s - || { echo \"in $h\"; exit 1; }; done",
             compiler, then, compiler, options);
    cr_expect_eq(sh(command), 0, "%s", command);
}

/* With its example: complete declarations, for a reader to copy, which nothing calls. */
#define C11 "-std=c11 -x c -Wno-unused-function -Wno-unused-const-variable"
#define ITS_EXAMPLE EXAMPLE_OF "$h"

Test(headers, are_valid_c11_and_so_are_their_examples)
{
    each_header("cc", C11, ITS_EXAMPLE);
    each_header("clang", C11, ITS_EXAMPLE);
}

Test(headers, are_valid_cpp17)
{
    each_header("c++", "-std=c++17 -x c++", "true");
    each_header("clang++", "-std=c++17 -x c++", "true");
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

/* ---- what the comments of the headers say ---------------------------------------------------- */

Test(headers, have_an_example_each)
{
    const char *command = "cd " INCLUDE " && for h in $(find tandem -name '*.h'); do " ITS_EXAMPLE
                          " | grep -q . || { echo \"$h has no example\"; exit 1; }; done";
    cr_expect_eq(sh(command), 0, "%s", command);
}

/* Every td_ or TD_ name in a comment must occur in the code of some public header: a rename that
 * forgets the comments fails here. */
Test(headers, comments_name_what_exists)
{
    const char *command =
        "names() { grep -oE '\\b(td|TD)_[A-Za-z0-9_]*[A-Za-z0-9]\\b' \"$1\" | sort -u; }; "
        "cd " INCLUDE " && d=$(mktemp -d) && find tandem -name '*.h' | xargs cat > $d/all.h && "
        "cc -w -fpreprocessed -dD -E -P $d/all.h > $d/code.h && names $d/all.h > $d/named && "
        "names $d/code.h > $d/there && comm -23 $d/named $d/there > $d/missing; cat $d/missing; "
        "test -s $d/there -a ! -s $d/missing; code=$?; rm -r $d; exit $code";
    cr_expect_eq(sh(command), 0, "%s", command);
}
