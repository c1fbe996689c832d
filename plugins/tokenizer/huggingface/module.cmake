# The libraries that this module alone links. Forms of Unicode are read where utf8proc's development files are.
pkg_check_modules(UTF8PROC IMPORTED_TARGET libutf8proc)
target_link_libraries(${MODULE} PRIVATE PkgConfig::JANSSON PkgConfig::PCRE2)
if(UTF8PROC_FOUND)
    target_compile_definitions(${MODULE} PRIVATE TANDEM_UTF8PROC)
    target_link_libraries(${MODULE} PRIVATE PkgConfig::UTF8PROC)
endif()
