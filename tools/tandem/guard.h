/* guard.h - the command's message when a plugin's code ends the process, or does not return.
 *
 * A plugin runs in this process, and may crash it, end it with exit, or run forever. From
 * td_guard_start on, a message names the file, the plugin, the hook, and the last saved step of a
 * run. Only a command that ran to its end exits with 0.
 */
#ifndef TD_TOOLS_GUARD_H
#define TD_TOOLS_GUARD_H

/* Called once, before anything is loaded. */
void td_guard_start(void);
/* The command has finished, and exits with this code, whatever a plugin's exit handlers do. Returns
 * it. */
int  td_guard_end(int code);
/* From now on every hook must return within the limit, even one that may take long in a run. */
void td_guard_hurry(void);
/* The limit for hooks that should return at once, in seconds; 0: none. */
long td_guard_patience(void);
/* Descriptors 1 and 2 were redirected on purpose. */
void td_guard_output(void);

#endif
