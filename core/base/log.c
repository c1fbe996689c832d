/* log.c - lines to stderr and to a file; a progress line. */
#include "base/log.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

/* Seconds between progress lines: a terminal is redrawn as fast as the eye follows, a log file
 * should not fill up. */
#define REDRAW 0.1
#define REPRINT 5.0
enum { SILENT = TD_LOG_ERROR + 1 }; /* above every level */

struct td_journal {
    pthread_mutex_t lock; /* workers log too: guards everything below, and keeps lines whole */
    int             level;
    char            name[32]; /* before every line on stderr; "" */
    td_log_sink    *sink;     /* gets the lines instead of stderr; NULL: nothing does */
    void           *sink_arg;
    FILE           *file;     /* NULL: none */
    bool            terminal; /* stderr is a terminal that understands escape codes */
    bool            colour;
    bool            drawn; /* a progress line is on the terminal's last line */
    double          shown; /* when the progress line was last written */
};

/* A dumb terminal would show escape codes as text. */
static bool is_able(const char *term) { return !term || strcmp(term, "dumb") != 0; }

td_journal *td_log_new(int level)
{
    td_journal *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    pthread_mutex_init(&j->lock, NULL);
    j->level = level;
    j->terminal = isatty(STDERR_FILENO) && is_able(getenv("TERM"));
    j->colour = j->terminal && !getenv("NO_COLOR"); /* https://no-color.org */
    return j;
}

td_journal *td_log_to(td_log_sink *sink, void *arg)
{
    td_journal *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    pthread_mutex_init(&j->lock, NULL);
    j->level = SILENT;
    j->sink = sink;
    j->sink_arg = arg;
    return j;
}

void td_log_name(td_journal *j, const char *name) { snprintf(j->name, sizeof j->name, "%s", name); }

/* Called last, when no thread logs anything more. */
void td_log_free(td_journal *j)
{
    if (!j)
        return;
    if (j->drawn) /* start the shell's prompt on a new line */
        fputc('\n', stderr);
    if (j->file)
        fclose(j->file);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

int td_log_open_file(td_journal *j, const char *path, td_error *error)
{
    FILE *file = td_file_append(path, error); /* a resumed run continues its log */
    if (!file)
        return td_failed(error, TD_EIO);
    if (j->file)
        fclose(j->file);
    j->file = file;
    return 0;
}

/* Under the lock. */
static void to_stderr(td_journal *j, int level, const char *line)
{
    static const char *const names[] = { "debug: ", "", "warning: ", "error: " };
    static const char *const colours[] = { "\033[2m", "", "\033[33m", "\033[31m" };
    /* the next progress line is drawn again below this one */
    if (j->drawn)
        fputs("\r\033[K", stderr);
    j->drawn = false;
    fprintf(stderr, "%s%s%s%s%s\n", j->colour ? colours[level] : "", j->name, names[level], line,
            j->colour && *colours[level] ? "\033[0m" : "");
}

/* Under the lock. ISO 8601 with the zone: logs of several machines can be sorted together. */
static void to_file(td_journal *j, int level, const char *line)
{
    static const char *const names[] = { "debug", "info", "warning", "error" };
    struct tm                when;
    char                     date[32];
    time_t                   now = time(NULL);
    if (!localtime_r(&now, &when) || !strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S%z", &when))
        date[0] = 0;
    fprintf(j->file, "%s %s %s\n", date, names[level], line);
    fflush(j->file); /* a killed run keeps its last lines, and `tail -f` shows them */
}

void td_log_lines(td_journal *j, int level, const char *format, va_list args)
{
    char line[4096];
    if (!j)
        return;
    assert(level >= TD_LOG_DEBUG && level <= TD_LOG_ERROR);
    /* before the lock: formatting may be slow, and workers log at the same time */
    vsnprintf(line, sizeof line, format, args);
    td_text_printable(line);
    pthread_mutex_lock(&j->lock);
    if (level >= j->level)
        to_stderr(j, level, line);
    if (j->sink)
        j->sink(j->sink_arg, level, line);
    if (j->file)
        to_file(j, level, line);
    pthread_mutex_unlock(&j->lock);
}

void td_log_line(td_journal *j, int level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    td_log_lines(j, level, format, args);
    va_end(args);
}

/* ---- progress -------------------------------------------------------------------------------- */

/* The terminal's width in columns. */
static size_t terminal_width(void)
{
    struct winsize w = { 0 };
    /* some terminals (serial lines, editors' shells) answer 0 columns */
    return !ioctl(STDERR_FILENO, TIOCGWINSZ, &w) && w.ws_col > 0 ? w.ws_col : 80;
}

/* Cut a line to width - 1 characters. One that wraps cannot be redrawn in place, and some terminals
 * wrap as soon as the last column is written. */
static void cut(char *line, size_t width)
{
    size_t shown = 0;
    for (; *line; line++) {
        bool begins_character = ((unsigned char)*line & 0xC0) != 0x80; /* UTF-8 */
        if (begins_character && ++shown == width) {
            *line = 0;
            return;
        }
    }
}

bool td_log_progress(td_journal *j, bool last, const char *format, ...)
{
    char    line[1024];
    va_list args;
    double  now = td_now();

    if (!j || j->level > TD_LOG_INFO) /* --quiet */
        return false;
    if (!last && now - j->shown < (j->terminal ? REDRAW : REPRINT))
        return false;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    td_text_printable(line);
    pthread_mutex_lock(&j->lock);
    j->shown = now;
    if (j->terminal) {
        cut(line, terminal_width()); /* asked each time: windows are resized */
        fprintf(stderr, "\r\033[K%s%s%s", j->name, line, last ? "\n" : "");
    } else
        fprintf(stderr, "%s%s\n", j->name, line);
    fflush(stderr);
    j->drawn = j->terminal && !last;
    pthread_mutex_unlock(&j->lock);
    return true;
}
