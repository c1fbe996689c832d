// files.h - a SentencePiece model as files that Hugging Face's programs read.
#ifndef TD_TOKENIZER_SENTENCEPIECE_FILES_H
#define TD_TOKENIZER_SENTENCEPIECE_FILES_H

#include <string>
#include <vector>

#include "tandem/kind/tokenizer.h"

// An id after the model's pieces, which an option has added.
struct added_id {
    int32_t     id;
    std::string name;
};

// Put tokenizer.model, and tokenizer.json with tokenizer_config.json. TD_EUNSUPPORTED if the
// library 'tokenizers' would give other ids for a text. `model`: the bytes of its file; `reserved`:
// its pieces that a text never has (sentinels and modes).
int put_files(const std::string &model, const td_special &special,
              const std::vector<std::string> &reserved, const std::vector<added_id> &added,
              const td_tokenizer_out *out, td_error *error);

#endif
