/* words.h - other tools' names for our config keys, so that messages can suggest the right key. */
#ifndef TD_CONFIG_WORDS_H
#define TD_CONFIG_WORDS_H

/* The key that `word` stands for, "schedule.peak"; several are joined by ", ", and what to set may
 * follow in brackets. Or, if there is none, an option of a command: "--resume". `-` and `_` are
 * equivalent; leading ones and case are ignored. NULL if the word is unknown. */
const char *td_config_word(const char *word);
/* The option that it stands for, even if it is also a word for a key. */
const char *td_config_option(const char *word);
/* The key of a task's file that it stands for; NULL: none. */
const char *td_config_task_word(const char *word);

/* "the key for that is", or what else is to be followed by the keys, or the option. */
const char *td_config_word_verb(const char *keys);

/* The words of row i, with blanks between them, and their keys; NULL past the last row. */
const char *td_config_word_at(int i, const char **keys);

#endif
