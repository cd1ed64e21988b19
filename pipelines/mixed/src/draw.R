# The measurements and the best curve. Rscript draw.R DATA COEFFICIENTS PNG
args <- commandArgs(trailingOnly = TRUE)
data <- read.csv(args[1])
fit <- read.csv(args[2])
coefficients <- fit$value[fit$name != "rmse"]
png(args[3], width = 960, height = 640, type = "cairo")
plot(data, pch = 19, col = "grey60", main = "Measurements and the best fit")
curve(sapply(x, function(at) sum(coefficients * at^(seq_along(coefficients) - 1))), add = TRUE, lwd = 2)
invisible(dev.off())
