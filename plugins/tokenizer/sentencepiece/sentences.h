// sentences.h - the text that a model is trained on: the lines of files, cut where SentencePiece
// would drop them.
//
// SentencePiece pulls sentences one by one, so files of any size are read in blocks.
#ifndef TD_TOKENIZER_SENTENCEPIECE_SENTENCES_H
#define TD_TOKENIZER_SENTENCEPIECE_SENTENCES_H

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sentencepiece_trainer.h>
#include <string>
#include <string_view>

#include "tandem/kind/tokenizer.h"

// A failure to read ends the sentences and is reported in `error`. The constructor reads the first.
class sentences final : public sentencepiece::SentenceIterator
{
  public:
    static constexpr size_t longest = 65536; // bytes; SentencePiece skips longer sentences

    sentences(const td_train_in *in, td_error *error) : in_(in), error_(error) { Next(); }
    sentences(const sentences &) = delete;
    ~sentences() override { close(); }

    bool               done() const override { return done_; }
    const std::string &value() const override { return value_; }
    int64_t            count() const { return count_; }
    int64_t            left_out() const { return left_out_; } // characters

    sentencepiece::util::Status status() const override
    {
        return error_->code
                   ? sentencepiece::util::Status(sentencepiece::util::StatusCode::kInternal,
                                                 error_->text)
                   : sentencepiece::util::Status();
    }

    void Next() override
    {
        // empty lines are not sentences
        do {
            fill();
            done_ = begin_ == text_.size() || error_->code;
            take();
        } while (value_.empty() && !done_);
        count_ += !done_;
    }

  private:
    const td_train_in *in_;
    td_error          *error_;
    FILE              *file_ = nullptr;
    size_t             next_ = 0;  // index of the next file to open
    size_t             begin_ = 0; // how much of `text_` has been consumed
    std::string        text_, value_;
    int64_t            count_ = 0, left_out_ = 0;
    bool               done_ = false;

    void close()
    {
        if (file_)
            std::fclose(file_);
        file_ = nullptr;
    }

    void fail() { td_fail(error_, TD_EIO, "cannot read '%s': %s", name(), std::strerror(errno)); }

    const char *name() const { return in_->files[next_ - 1]; }

    // Append a block of text, or a newline at the end of a file, which ends its last sentence.
    // False: no more files, or an error.
    bool read()
    {
        char block[longest];
        if (!file_ && next_ == in_->count)
            return false;
        if (!file_ && !(file_ = std::fopen(in_->files[next_++], "rb"))) {
            fail();
            return false;
        }
        size_t n = std::fread(block, 1, sizeof block, file_);
        if (std::ferror(file_)) {
            fail();
            return false;
        }
        // the last line of a file need not end in a newline
        text_.append(n ? block : "\n", n ? n : 1);
        if (!n)
            close();
        return true;
    }

    // Have the longest sentence and its end in `text_`, unless the files end before.
    void fill()
    {
        if (text_.size() - begin_ > longest)
            return;
        text_.erase(0, begin_);
        begin_ = 0;
        while (text_.size() <= longest && read())
            ;
    }

    // Where to cut a line that is too long: before its last space, else between two characters.
    static size_t cut(std::string_view line)
    {
        size_t at = line.rfind(' ');
        if (at && at != line.npos)
            return at;
        // back over the continuation bytes of a UTF-8 character, 3 at most
        for (at = longest; at > longest - 4; at--)
            if ((static_cast<unsigned char>(line[at]) & 0xC0) != 0x80)
                return at;
        return longest; // not UTF-8
    }

    // Take the next sentence. SentencePiece reserves U+2585 and drops any sentence that contains
    // it, so cut there too, and lose only the character.
    void take()
    {
        static constexpr std::string_view ends("\n\r\0", 3), reserved("\xE2\x96\x85");
        std::string_view text = std::string_view(text_).substr(begin_, longest + 1);
        size_t           end = std::min(text.find_first_of(ends), text.find(reserved)), skip = 0;
        // an end takes one character, the reserved one three, a cut none
        if (end == text.npos)
            end = text.size() > longest ? cut(text) : text.size();
        else if (text.substr(end, reserved.size()) == reserved)
            skip = reserved.size();
        else
            skip = 1;
        left_out_ += skip == reserved.size();
        value_ = text.substr(0, end);
        begin_ += end + skip;
    }
};

#endif
