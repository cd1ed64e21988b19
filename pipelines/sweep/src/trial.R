# How near a span comes to a half of the data. runner_log_metric() is there in every R that runner starts.
args <- commandArgs(trailingOnly = TRUE)
score <- -abs(as.numeric(args[1]) / 2 - 3 * as.numeric(args[2]))
runner_log_metric("score", score)
writeLines(sprintf("span %s: %g", args[2], score), args[3])
