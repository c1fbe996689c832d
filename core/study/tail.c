/* tail.c - reads the ends of logs and metrics. */
#include "study/tail.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

/* Where the last lines of the text begin. */
static const char *last_lines(const char *text, size_t size, int lines)
{
    const char *at = text + size;
    if (at > text && at[-1] == '\n')
        at--;
    for (; at > text; at--)
        if (at[-1] == '\n' && !--lines)
            break;
    return at;
}

char *td_file_tail(const char *path, int lines)
{
    enum { MOST = 16384 };
    char    text[MOST + 1];
    int64_t size = td_file_size(path);
    int     fd = size > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd >= 0 ? pread(fd, text, MOST, size > MOST ? size - MOST : 0) : 0;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    td_make_utf8(text);
    td_text_printable(text);
    return strdup(last_lines(text, strlen(text), lines));
}

/* Lines of evaluations have no training loss. */
static void take_line(const char *line, td_last_step *out)
{
    json_t *j = json_loads(line, 0, NULL), *loss = json_object_get(j, "train/cross_entropy");
    if (json_is_number(loss))
        *out = (td_last_step){ json_integer_value(json_object_get(j, "step")),
                               json_number_value(loss) };
    json_decref(j);
}

td_last_step td_last_step_of(const char *run)
{
    enum { LINES = 8 };
    td_last_step out = { 0, (double)NAN };
    char        *path = td_path_join(run, "metrics.jsonl");
    char        *tail = path ? td_file_tail(path, LINES) : NULL, *rest = tail, *line;
    while (rest && (line = strsep(&rest, "\n")) != NULL)
        take_line(line, &out);
    free(tail);
    free(path);
    return out;
}
