/* design_parts.h - declarations shared by the files that read a study's config. */
#ifndef TD_STUDY_DESIGN_PARTS_H
#define TD_STUDY_DESIGN_PARTS_H

#include "study/fields.h"

typedef struct td_design_reader {
    td_fields_reader fields;
    td_design       *d;
} td_design_reader;

/* Zeroed, for n + 1 items. */
void       *td_design_allocate(td_design_reader *, size_t n, size_t each);
const char *td_design_path(td_design_reader *, const char *group,
                           const char *name); /* "GROUP.NAME" */
size_t      td_design_count(const td_setting *group);
/* Whether the list, which ends with NULL, has the text. */
bool        td_design_one_of(const char *text, const char *const *list);

void td_design_read_variants(td_design_reader *, const td_setting *group);
void td_design_read_sizes(td_design_reader *, const td_setting *group);
void td_design_read_grid(td_design_reader *, const td_setting *group);
void td_design_read_match(td_design_reader *, const td_setting *, const char *what, td_matching *);
/* Resolve what each variant is made from; call it once all variants are known. */
void td_design_link_variants(td_design_reader *);
/* Add an error that says there is no such variant and suggests the nearest name. */
void td_design_no_variant(td_design_reader *, const td_setting *at, const char *what,
                          const char *name);

#endif
