# Fit a polynomial, and write its coefficients and its error. Rscript fit.R DATA DEGREE RESULT
args <- commandArgs(trailingOnly = TRUE)
data <- read.csv(args[1])
degree <- as.integer(args[2])
model <- lm(y ~ poly(x, degree, raw = TRUE), data)
fit <- data.frame(
  name = c(paste0("x^", 0:degree), "rmse"),
  value = sprintf("%.6f", c(coef(model), sqrt(mean(residuals(model)^2))))
)
write.csv(fit, args[3], row.names = FALSE, quote = FALSE)
print(fit)
