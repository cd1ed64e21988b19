# The mean of a column of numbers. --trim leaves out that part of them at both ends.
args <- commandArgs(trailingOnly = TRUE)
given <- setNames(args[c(FALSE, TRUE)], sub("^--", "", args[c(TRUE, FALSE)]))
trim <- if ("trim" %in% names(given)) as.numeric(given["trim"]) else 0
values <- read.csv(given["numbers"])$value
writeLines(format(round(mean(values, trim), as.integer(given["digits"]))), given["result"])
