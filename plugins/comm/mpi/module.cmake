# The library that this module alone links.
target_link_libraries(${MODULE} PRIVATE PkgConfig::OPENMPI)
