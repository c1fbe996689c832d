/* csv.c - fuzz target: any bytes as a CSV table of points. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "study/fit_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char        *text = malloc(size + 1);
    td_fit_table t;
    td_error     error = { 0 };
    size_t       sum = 0;
    int          code;
    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = 0;
    code = td_fit_table_parse("fuzz.csv", text, size, &t, &error);
    if (code && !*error.text)
        abort();
    for (int64_t k = 0; !code && k < t.rows * t.columns; k++) { /* every cell must be readable */
        double x;
        sum += strlen(td_fit_table_cell(&t, k / t.columns, k % t.columns));
        error = (td_error){ 0 };
        if (td_fit_table_number(&t, k / t.columns, k % t.columns, &x, &error) && !*error.text)
            abort();
    }
    if (sum > size) /* no character of the file is in two cells */
        abort();
    td_fit_table_free(&t);
    return 0;
}
