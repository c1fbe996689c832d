// sentences.h - what a model is trained on: the lines of files, cut to what SentencePiece takes.
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

// A failure to read ends the sentences; it is in `error`.
class sentences final : public sentencepiece::SentenceIterator
{
  public:
    static constexpr size_t longest = 65536; // bytes; SentencePiece leaves out what is longer

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
    size_t             next_ = 0, begin_ = 0; // the next file; what is taken of `text_`
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

    // More text, or the end of a file, which ends a sentence. False: there is no more.
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
        text_.append(n ? block : "\n", n ? n : 1);
        if (!n)
            close();
        return true;
    }

    // As much as a sentence may have and what ends it, unless the files have no more.
    void fill()
    {
        if (text_.size() - begin_ > longest)
            return;
        text_.erase(0, begin_);
        begin_ = 0;
        while (text_.size() <= longest && read())
            ;
    }

    // Where a line that is too long is cut: before its last space, else between two characters.
    static size_t cut(std::string_view line)
    {
        size_t at = line.rfind(' ');
        if (at && at != line.npos)
            return at;
        for (at = longest; at > longest - 4; at--)
            if ((static_cast<unsigned char>(line[at]) & 0xC0) != 0x80)
                return at;
        return longest; // it is no UTF-8
    }

    // SentencePiece keeps U+2585 for itself and leaves out any sentence that has it: cut there too.
    void take()
    {
        static constexpr std::string_view ends("\n\r\0", 3), reserved("\xE2\x96\x85");
        std::string_view text = std::string_view(text_).substr(begin_, longest + 1);
        size_t           end = std::min(text.find_first_of(ends), text.find(reserved)), skip = 0;
        if (end == text.npos)
            end = text.size() > longest ? cut(text) : text.size();
        else if (text.substr(end, reserved.size()) == reserved)
            skip = reserved.size(), left_out_++;
        else
            skip = 1;
        value_ = text.substr(0, end);
        begin_ += end + skip;
    }
};

#endif
