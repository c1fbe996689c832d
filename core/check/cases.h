/* cases.h - declares the function of each test in cases.def. */
#ifndef TD_CHECK_CASES_H
#define TD_CHECK_CASES_H

#include "check/check.h"

#define CASE(kind, name, function, brief) void function(td_check *);
#include "check/cases.def"
#undef CASE

#endif
