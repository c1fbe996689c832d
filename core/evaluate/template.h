/* template.h - texts with fields of an item in them: how a data set's items become prompts.
 *
 *     {{question}}  {{question.stem}}  {{choices.0}}    a field, at a path
 *     {{#choices}} .. {{/choices}}                      for each element of a list; once for any
 *                                                       other value that is not false, null or empty
 *     {{^context}} .. {{/context}}                      if there is no such field, or it is false,
 *                                                       null or empty
 *
 * Within a list {{.}} is the element, {{@letter}} is A, B, .., {{@number}} counts from 1,
 * {{@index}} from 0, and {{#@first}} .. {{/@first}} is for the first element only. A name is looked
 * up in the element, then in the values around it. Nothing is escaped: the text is for a model, not
 * for HTML.
 */
#ifndef TD_EVALUATE_TEMPLATE_H
#define TD_EVALUATE_TEMPLATE_H

#include <jansson.h>

#include "base/text.h"

typedef struct td_template td_template;

/* NULL with `error`: a brace or a section that does not end, an empty name. */
td_template *td_template_parse(const char *text, td_error *error);
void         td_template_free(td_template *);

/* Append the text for an item. TD_EFORMAT: a field is missing, or is a list or an object. */
int td_template_render(const td_template *, const json_t *item, td_text *out, td_error *error);

/* The same within element `index` of a list of the item. */
int td_template_render_element(const td_template *, const json_t *item, const json_t *list,
                               size_t index, td_text *out, td_error *error);

/* The value at a path of an object, "question.choices"; NULL: there is none. Borrowed. */
const json_t *td_template_find(const json_t *item, const char *path);

/* The names of an object's fields, for messages: "question, answer". */
void td_template_names(const json_t *item, td_text *out);

#endif
