/* find.h - which config a name that leads to none was meant for. */
#ifndef TD_CONFIG_FIND_H
#define TD_CONFIG_FIND_H

/* "quickstart/redllm.cfg" for quickstart/redllm, redllm or quickstart/redlm.cfg: a config here or
 * beneath `search`, the shipped ones (NULL: none); free() it. NULL: none is near. */
char *td_config_near(const char *name, const char *search);

#endif
