/* words.h - other tools' names for our config keys, so that messages can suggest the right key. */
#ifndef TD_CONFIG_WORDS_H
#define TD_CONFIG_WORDS_H

/* The key that `word` stands for, "schedule.peak"; several are joined by ", ", and the value to set
 * may follow in brackets. If it stands for no key, an option of a command: "--resume". `-` and `_`
 * are equivalent; leading ones and case are ignored. NULL if the word is unknown. */
const char *td_config_word(const char *word);
/* The option that it stands for, even if it also stands for a key; NULL: none. */
const char *td_config_option(const char *word);
/* The key of a task file that it stands for; NULL: none. */
const char *td_config_task_word(const char *word);

/* The words to print before the keys or the option: "the key for that is". */
const char *td_config_word_verb(const char *keys);

/* The words of row i, with blanks between them, and their keys; NULL past the last row. */
const char *td_config_word_at(int i, const char **keys);

#endif
