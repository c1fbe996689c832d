/* text.c - a growable string; UTF-8; nearest names; numbers for people. */
#include "base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Makes space for `more` bytes and the final 0. */
static bool reserve(td_text *t, size_t more)
{
    size_t room = t->room ? t->room : 128;
    char  *data;
    if (more > SIZE_MAX / 4) /* doubling below would overflow */
        t->failed = true;
    if (t->failed)
        return false;
    while (room < t->size + more + 1)
        room *= 2;
    if (room == t->room)
        return true;
    data = realloc(t->data, room);
    t->failed = !data;
    if (data) {
        t->data = data;
        t->room = room;
    }
    return data != NULL;
}

/* Bytes may include zeros; then `size` is right and strlen is not. */
void td_text_append(td_text *t, const char *bytes, size_t size)
{
    if (!reserve(t, size))
        return;
    memcpy(t->data + t->size, bytes, size);
    t->size += size;
    t->data[t->size] = 0;
}

void td_text_print(td_text *t, const char *format, ...)
{
    va_list args, again;
    int     size;
    va_start(args, format);
    va_copy(again, args); /* measuring consumes the arguments */
    size = vsnprintf(NULL, 0, format, args);
    if (size >= 0 && reserve(t, (size_t)size)) {
        vsnprintf(t->data + t->size, (size_t)size + 1, format, again);
        t->size += (size_t)size;
    }
    va_end(args);
    va_end(again);
}

void td_text_free(td_text *t)
{
    free(t->data);
    *t = (td_text){ 0 };
}

const char *td_text_get(const td_text *t) { return t->data ? t->data : ""; }

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

/* Length of the sequence that a byte begins; 0 for a continuation byte, or one that begins nothing
 * (0xC0 and 0xC1 would be overlong, 0xF5 and up lie beyond U+10FFFF). */
static size_t sequence_length(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first < 0xc2)
        return 0;
    if (first < 0xe0)
        return 2;
    if (first < 0xf0)
        return 3;
    return first < 0xf5 ? 4 : 0;
}

/* Bytes of the valid sequence at `p`, or 0 if there is none. A 0 byte ends a truncated sequence, so
 * this does not read past the end of the string. */
static size_t sequence(const unsigned char *p)
{
    size_t n = sequence_length(*p);
    for (size_t k = 1; k < n; k++)
        if (p[k] >> 6 != 2)
            return 0;
    /* The second byte also rules out overlong forms (E0, F0), surrogates (ED) and code points
     * beyond U+10FFFF (F4): Unicode 15, table 3-7. */
    if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] >= 0xa0) ||
        (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] >= 0x90))
        return 0;
    return n;
}

/* As for strlen, a 0 byte ends the text, and is not part of it. */
bool td_is_utf8(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t n; *p; p += n)
        if (!(n = sequence(p)))
            return false;
    return true;
}

void td_make_utf8(char *text)
{
    for (size_t n; *text; text += n ? n : 1)
        if (!(n = sequence((const unsigned char *)text)))
            *text = '?';
}

void td_text_printable(char *text)
{
    unsigned char *p = (unsigned char *)text;
    for (; *p; p++)
        if ((*p < 32 && *p != '\n' && *p != '\t') || *p == 127)
            *p = '?';
        else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) /* a control character of Latin-1 */
            p[0] = p[1] = '?';
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Suggestions are for typing errors in names that people type: longer ones are not compared, so
 * that three rows of distances fit on the stack. */
enum { LONGEST = 64, FAR = 1 << 20 };

static int least(int a, int b) { return a < b ? a : b; }

/* Edit distance, a swap of two neighbours counting as one edit (optimal string alignment). FAR if
 * one is too long. */
static int distance(const char *a, const char *b)
{
    int rows[3][LONGEST + 1], n = (int)strnlen(a, LONGEST + 1), m = (int)strnlen(b, LONGEST + 1);
    if (n > LONGEST || m > LONGEST)
        return FAR;
    /* d(i, j), the distance of the first i bytes of a from the first j of b, is the least of
     *
     *     d(i-1, j-1) + (a[i] != b[j]),  d(i-1, j) + 1,  d(i, j-1) + 1,
     *     d(i-2, j-2) + 1                           where two neighbours are swapped.
     *
     * A row needs the two before it, so three rows take turns. */
    for (int j = 0; j <= m; j++)
        rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            now[j] = least(last[j - 1] + (a[i - 1] != b[j - 1]),
                           least(last[j] + 1, now[j - 1] + 1));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

/* The shortest candidate that begins with the name, as "evaluate" does with "eval". */
static const char *nearest_longer(const char *name, const char *const *candidates, size_t count)
{
    const char *best = NULL;
    size_t      n = strlen(name);
    for (size_t i = 0; i < count && n > 2; i++) /* shorter ones begin too many names */
        if (!strncmp(candidates[i], name, n) && (!best || strlen(candidates[i]) < strlen(best)))
            best = candidates[i];
    return best;
}

const char *td_nearest(const char *name, const char *const *candidates, size_t count)
{
    const char *best = NULL, *longer = nearest_longer(name, candidates, count);
    /* One edit, and another for every four bytes after the first: more distant suggestions are
     * noise. Half of "run" makes it "man". */
    int         best_distance = longer ? 2 : ((int)strnlen(name, LONGEST) + 3) / 4 + 1;
    for (size_t i = 0; i < count; i++) {
        int d = distance(name, candidates[i]);
        if (d < best_distance) { /* ties go to the first: tables are in the order of their docs */
            best = candidates[i];
            best_distance = d;
        }
    }
    return best ? best : longer;
}

/* ---- numbers for people ---------------------------------------------------------------------- */

char *td_human_bytes(char out[32], double bytes)
{
    /* powers of 1024, and named so: memory and files are compared with these */
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
    int                      k = 0;
    while (bytes >= 1024 && k < 5) {
        bytes /= 1024;
        k++;
    }
    snprintf(out, 32, k && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[k]);
    return out;
}

char *td_human_count(char out[32], double count)
{
    /* as papers write sizes of models and counts of tokens: 150M, 8B */
    static const char *const units[] = { "", "k", "M", "B", "T" };
    int                      k = 0;
    while (fabs(count) >= 1000 && k < 4) {
        count /= 1000;
        k++;
    }
    snprintf(out, 32, fabs(count) >= 1000 ? "%.2e" : k ? "%.3g%s" : "%.4g%s", count, units[k]);
    return out;
}

char *td_human_time(char out[32], double seconds)
{
    /* written so that NaN, from a rate that is not known yet, is "?" too */
    bool known = seconds < 1e9;
    long s = known ? lround(seconds) : 0;
    if (!known)
        snprintf(out, 32, "?");
    else if (s < 60)
        snprintf(out, 32, seconds < 10 ? "%.1fs" : "%.0fs", seconds);
    else if (s < 3600)
        snprintf(out, 32, "%ldm %02lds", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, 32, "%ldh %02ldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, 32, "%ldd %02ldh", s / 86400, s / 3600 % 24);
    return out;
}
