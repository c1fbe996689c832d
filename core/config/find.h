/* find.h - finds the config that a misspelt or shortened name was meant for. */
#ifndef TD_CONFIG_FIND_H
#define TD_CONFIG_FIND_H

/* "quickstart/redllm.cfg" for quickstart/redllm, redllm or quickstart/redlm.cfg: a config here or
 * beneath `search`, the shipped ones (NULL: none); free() it. NULL: none is near. */
char *td_config_near(const char *name, const char *search);

#endif
