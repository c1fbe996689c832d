# The module comm-mpi is built where Open MPI's development files are.
pkg_check_modules(OPENMPI IMPORTED_TARGET ompi-c)
set(MODULE_WANTED ${OPENMPI_FOUND})
