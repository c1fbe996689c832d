/* project.h - the project of a new plugin, made from templates.
 *
 * Templates are in tools/templates, installed as share/tandem/templates: `common` has the files
 * of every project, the folder of each kind the others. In a template @WORD@ stands for a value:
 * KIND, NAME, IDENT, AUTHOR, LICENCE, ABOUT or VERSION. */
#ifndef TD_TOOLS_PLUGINS_PROJECT_H
#define TD_TOOLS_PLUGINS_PROJECT_H

#include "base/text.h"
#include "plugin/registry.h"

enum { TD_PROJECT_NAME = 64 }; /* bytes of a name, at most */

typedef struct td_project {
    const td_kind *kind;
    const char    *name; /* checked: letters, digits, - and _ */
    const char    *author, *licence;
    const char    *directory; /* to be created */
    const char    *shipped;   /* where the templates are: td_shipped_directory */
} td_project;

/* Create the directory, which must not exist, with all files; after a failure nothing is left. */
int td_project_make(const td_project *, td_error *error);

#endif
