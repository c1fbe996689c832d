// description.h - the parts of a SentencePiece model that other programs need in order to make the
// same ids.
#ifndef TD_TOKENIZER_SENTENCEPIECE_DESCRIPTION_H
#define TD_TOKENIZER_SENTENCEPIECE_DESCRIPTION_H

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

struct piece {
    enum kind : uint64_t { normal = 1, unknown, control, user_defined, unused, byte };
    std::string text;
    float       score = 0;
    uint64_t    type = normal;
};

// With the defaults of sentencepiece_model.proto.
struct description {
    enum : uint64_t { unigram = 1, bpe = 2 };
    std::vector<piece> pieces;
    uint64_t           type = unigram;
    bool               byte_fallback = false, space_last = false;     // trainer_spec
    bool               table = false, prefix = true, squeezes = true, // normalizer_spec
        escapes = true;
};

// Of a model that the library has loaded.
description describe(std::string_view model);

// The characters of UTF-8; a wrong byte counts as one.
std::vector<std::string> characters(const std::string &text);

#endif
