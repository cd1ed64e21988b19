# `install.packages` ends 0 when a package is missing or does not compile: a warning is made an error, and the result
# is checked.
options(warn = 2, repos = c(CRAN = "file:///mnt/in/cran"))
wanted <- readLines("/mnt/in/packages")
library_folder <- "/tmp/library"
.libPaths(c(library_folder, .libPaths()))
install.packages(wanted, lib = library_folder, type = "source", INSTALL_opts = "--no-docs", Ncpus = 2L)
missing <- setdiff(wanted, rownames(installed.packages(library_folder)))
if (length(missing) > 0) stop("not installed: ", paste(missing, collapse = ", "))
