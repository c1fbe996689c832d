/* settings.h - the config that a run keeps, as wandb shows it. */
#ifndef TD_LOGGER_WANDB_SETTINGS_H
#define TD_LOGGER_WANDB_SETTINGS_H

#include "message.h"
#include "tandem/error.h"

/* A ConfigRecord { update = 1 { key = 1, value_json = 16 } } with each group of the config at `path`. */
int settings_read(const char *path, message *out, td_error *error);

#endif
