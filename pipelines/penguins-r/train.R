# Predict a penguin's body mass from its flipper length and species.
# Writes the model to outputs/model.rds and prints its quality. The plot is only shown: runner saves it as a picture.
library(data.table)
library(ggplot2)

penguins <- fread("synthetic_penguins.csv", stringsAsFactors = TRUE)
penguins <- penguins[!is.na(body_mass_g) & !is.na(flipper_length_mm)]

print(penguins[, .(n = .N, mass_g = round(mean(body_mass_g))), by = species])

set.seed(1)
rows <- sample(nrow(penguins), size = 0.8 * nrow(penguins))
model <- lm(body_mass_g ~ flipper_length_mm + species, data = penguins[rows])

held_out <- penguins[-rows]
rmse <- sqrt(mean((predict(model, held_out) - held_out$body_mass_g)^2))
cat(sprintf("held-out RMSE: %.0f g on %d penguins\n", rmse, nrow(held_out)))

dir.create("outputs", showWarnings = FALSE)
saveRDS(model, "outputs/model.rds")

print(
  ggplot(penguins, aes(flipper_length_mm, body_mass_g, colour = species)) +
    geom_point() +
    geom_smooth(method = "lm", formula = y ~ x, se = FALSE) +
    labs(x = "flipper length (mm)", y = "body mass (g)")
)
