/* log.c - the progress line on a terminal stays within its width. */
#include "base/log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Returns the text that a terminal of `width` columns (0: it does not report its width) receives
 * for one line, without the codes around it. stderr becomes the terminal: each test is a
 * separate process. */
static const char *shown(int width, const char *line)
{
    static char    text[4096];
    struct winsize w = { .ws_row = 7, .ws_col = (unsigned short)width };
    int            master = posix_openpt(O_RDWR | O_NOCTTY), slave;
    td_journal    *j;
    ssize_t        n;
    char          *start;

    cr_assert(master >= 0 && !grantpt(master) && !unlockpt(master));
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    cr_assert(slave >= 0 && !ioctl(slave, TIOCSWINSZ, &w));
    cr_assert_eq(dup2(slave, STDERR_FILENO), STDERR_FILENO);
    setenv("TERM", "xterm", 1); /* tests may run in a dumb terminal */
    j = td_log_new(TD_LOG_INFO);
    td_log_progress(j, false, "%s", line);
    n = read(master, text, sizeof text - 1);
    cr_assert_gt(n, 0);
    text[n] = 0;
    td_log_free(j);
    close(slave);
    close(master);
    start = strstr(text, "\033[K");
    cr_assert(start, "%s", text);
    return start + 3;
}

Test(log, a_progress_line_is_cut_to_the_terminal)
{
    char line[300];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = 0;
    cr_expect_eq(strlen(shown(41, line)), 40, "the cursor needs the last column");
    cr_expect_eq(strlen(shown(200, line)), 199);
    cr_expect_eq(strlen(shown(0, line)), 79, "without a reported width, 80 columns");
}

Test(log, a_dumb_terminal_gets_no_codes)
{
    int         master = posix_openpt(O_RDWR | O_NOCTTY), slave;
    char        text[256];
    ssize_t     n;
    td_journal *j;
    cr_assert(master >= 0 && !grantpt(master) && !unlockpt(master));
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    cr_assert_eq(dup2(slave, STDERR_FILENO), STDERR_FILENO);
    setenv("TERM", "dumb", 1);
    j = td_log_new(TD_LOG_INFO);
    td_log_line(j, TD_LOG_WARN, "a warning");
    n = read(master, text, sizeof text - 1);
    cr_assert_gt(n, 0);
    text[n] = 0;
    cr_expect(!strchr(text, '\033') && strstr(text, "a warning"), "%s", text);
    td_log_free(j);
    close(slave);
    close(master);
}

Test(log, a_short_line_is_whole) { cr_expect_str_eq(shown(41, "step 3 of 7"), "step 3 of 7"); }

Test(log, characters_are_cut_whole)
{
    cr_expect_str_eq(shown(4, "\xc3\xa4\xe2\x82\xac\xc3\xb6\xc3\xbc"),
                     "\xc3\xa4\xe2\x82\xac\xc3\xb6");
}
