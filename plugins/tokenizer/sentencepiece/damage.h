// damage.h - looks for damage in a model that the library does not detect, and that would make it
// read outside the model.
#ifndef TD_TOKENIZER_SENTENCEPIECE_DAMAGE_H
#define TD_TOKENIZER_SENTENCEPIECE_DAMAGE_H

#include <string>
#include <string_view>

// What is damaged in the bytes of a model file, "its table of normalization"; "" if nothing is
// found. The library checks the rest of a model when it loads it.
std::string find_damage(std::string_view model);

#endif
