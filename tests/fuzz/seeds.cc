// seeds.cc - trains models for the fuzzer of SentencePiece:  fuzz-seeds TEXT DIRECTORY
//
// Those of `tandem data train-tokenizer` do not normalize, and have neither sentinels nor modes; these
// do, by a table of their own.
#include <cstdio>
#include <fstream>
#include <sentencepiece_trainer.h>
#include <string>

static bool train(const std::string &text, const std::string &directory, const std::string &type)
{
    std::string rules = directory + "/rules.tsv";
    // code points in hexadecimal: what is replaced, a tab, by what
    std::ofstream(rules) << "41\t61\n"
                         << "66 69\tFB01\n"
                         << "65 301\tE9\n"
                         << "09\t20\n";
    auto status = sentencepiece::SentencePieceTrainer::Train(
        "--input=" + text + " --model_prefix=" + directory + "/" + type + " --model_type=" + type +
        " --normalization_rule_tsv=" + rules +
        " --vocab_size=120 --hard_vocab_limit=false --minloglevel=1 --num_threads=1"
        " --user_defined_symbols=<extra_id_0>,<extra_id_1>,[R],[S],[X]");
    if (!status.ok())
        std::fprintf(stderr, "cannot train %s: %s\n", type.c_str(), status.ToString().c_str());
    return status.ok();
}

int main(int count, char **arguments)
{
    if (count != 3) {
        std::fputs("usage: fuzz-seeds TEXT DIRECTORY\n", stderr);
        return 2;
    }
    for (const char *type : { "unigram", "bpe", "char" })
        if (!train(arguments[1], arguments[2], type))
            return 1;
    return 0;
}
