# Says which R this is and what is installed for it, in the form of installed.py. Given to any Rscript with -e.
cat("runner:version|R|", R.version$major, ".", R.version$minor, "\n", sep = "")
have <- installed.packages()[, c("Package", "Version"), drop = FALSE]
have <- have[!duplicated(have[, "Package"]), , drop = FALSE]
cat(sprintf("runner:r|%s|%s\n", have[, "Package"], have[, "Version"]), sep = "")
cat("runner:all|r|\n")
