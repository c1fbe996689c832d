/* cases.h - declares the function of each test in cases.def. */
#ifndef TD_CHECK_CASES_H
#define TD_CHECK_CASES_H

#include "check/check.h"

#define CASE(kind, name, function, brief) void function(td_check *);
#define CASE_OF_RANKS CASE
#include "check/cases.def"
#undef CASE_OF_RANKS
#undef CASE

#endif
