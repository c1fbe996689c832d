# The library that this module alone links.
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
target_link_libraries(${MODULE} PRIVATE PkgConfig::SENTENCEPIECE)
