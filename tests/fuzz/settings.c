/* settings.c - fuzz target: any bytes as config.json of another program, to settings and back. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "convert/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    td_error   error = { 0 };
    td_record *r = td_record_from_json((const char *)data, size, "config.json", &error);
    char      *json;
    if (!r && !error.code)
        abort();
    json = r ? td_record_to_json(r, &error) : NULL;
    free(json);
    td_record_free(r);
    return 0;
}
