/* scan.h - a look at the text of a config before libconfig parses it.
 *
 * libconfig 1.5 turns 3000000000 into a negative number, overflows its stack on deep nesting, takes
 * time that grows with the square of the number of a group's keys, and reports an unclosed string
 * at the end of the file. The scan refuses the first three, and remembers open brackets for a
 * better message about the last.
 */
#ifndef TD_CONFIG_SCAN_H
#define TD_CONFIG_SCAN_H

#include "config/errors.h"

enum { TD_DEEPEST_GROUP = 32, TD_MOST_KEYS = 10000 };

/* The text that is scanned, and the brackets that are open. Set the first three members and `line`
 * = 1. */
typedef struct td_scan {
    const char *where;     /* "a.cfg", or "command line: train.steps" */
    bool        has_lines; /* a file, so messages have line numbers */
    td_errors  *errors;
    int         line, depth, keys;
    char        bracket[TD_DEEPEST_GROUP]; /* those that are open, */
    int         opened[TD_DEEPEST_GROUP];  /* each with its line */
    /* Lines of suspected errors; 0: none. */
    int         mismatched;       /* the first closing bracket without its opening one */
    int         unclosed_comment; /* where it begins */
    int         long_string;      /* where the first string begins that does not end on its line */
} td_scan;

/* False after adding errors. A text that passes may still be malformed: libconfig decides that. */
bool td_scan_text(td_scan *, const char *text);

/* Add an error about a line of the text. */
void td_scan_error(const td_scan *, int line, const char *format, ...) TD_PRINTF(3, 4);

/* Append the probable cause of a syntax error: "; the '{' on line 2 is not closed". */
void td_scan_hint(const td_scan *, td_text *out);

#endif
