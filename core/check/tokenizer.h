/* tokenizer.h - an opened tokenizer, for its own tests and for those of data sources. */
#ifndef TD_CHECK_TOKENIZER_H
#define TD_CHECK_TOKENIZER_H

#include "check/internal.h"
#include "tandem/kind/tokenizer.h"

typedef struct td_check_tokenizer {
    const td_tokenizer *plugin;
    void               *state;
    td_special          special;
} td_check_tokenizer;

/* Open the part, or end the test with a finding. The caller closes it. */
td_check_tokenizer td_check_open_tokenizer(td_check *, const td_part *);

#endif
