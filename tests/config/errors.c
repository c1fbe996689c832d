/* errors.c - each tests/errors/NAME.cfg is refused with exit code 2 and the message in its first
 * line. */
#include <criterion/criterion.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static void refused(const char *path)
{
    char  command[4096], want[300] = "", said[8192] = "";
    FILE *f = fopen(path, "r");
    cr_assert(f && fgets(want, sizeof want, f), "cannot read %s", path);
    fclose(f);
    want[strcspn(want, "\n")] = 0;
    snprintf(command, sizeof command, "'%s' config check -c '%s' --plugin-path '%s' 2>&1",
             TANDEM_BINARY, path, TANDEM_PLUGINS);
    cr_assert((f = popen(command, "r")) != NULL);
    said[fread(said, 1, sizeof said - 1, f)] = 0;
    int status = pclose(f);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 2, "%s: exit status %d", path, status);
    cr_expect(strstr(said, want + 2),
              "%s: expected '%s', but it printed: "
              "%s",
              path, want + 2, said);
}

Test(errors, messages)
{
    glob_t files;
    cr_assert(!glob(TANDEM_SOURCE "/tests/errors/*.cfg", 0, NULL, &files));
    for (size_t i = 0; i < files.gl_pathc; i++)
        refused(files.gl_pathv[i]);
    globfree(&files);
}
