/* words.h - other tools' names for our config keys, so that messages can suggest the right key. */
#ifndef TD_CONFIG_WORDS_H
#define TD_CONFIG_WORDS_H

/* The key that `word` stands for, "schedule.peak"; several are joined by ", ". `-` and `_` are
 * equivalent; leading ones and case are ignored. NULL if the word is unknown. */
const char *td_config_word(const char *word);

/* "the key for that is", or the plural: to be followed by the keys. */
const char *td_config_word_verb(const char *keys);

/* The words of row i, with blanks between them, and their keys; NULL past the last row. */
const char *td_config_word_at(int i, const char **keys);

#endif
