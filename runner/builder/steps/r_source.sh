# The R packages that r_build.sh made.
. /mnt/in/common.sh
library=$(Rscript --vanilla -e 'cat(.libPaths()[1])')
mkdir -p "$library"
tar -C "$library" --no-same-owner --no-overwrite-dir -xf /mnt/in/library.tar
tidy
