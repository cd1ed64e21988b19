# Find groups of shops by how their sales move through a year. Writes outputs/segments.csv and outputs/segments.sqlite;
# the plot is only shown: runner saves it as a picture.
library(DBI)
library(lubridate)
library(magrittr)
library(ggplot2)

set.seed(7)
days <- seq(ymd("2025-01-01"), ymd("2025-12-31"), by = "day")
kinds <- c("summer", "winter", "steady")
shops <- data.frame(shop = sprintf("shop-%03d", 1:120), kind = rep(kinds, each = 40))

sales_of <- function(kind) {
  season <- 2 * pi * yday(days) / 365
  level <- switch(kind, summer = -cos(season), winter = cos(season), steady = 0 * season)
  pmax(0, 100 + 40 * level + rnorm(length(days), sd = 15))
}

# The days go through a database, as they would in a real job.
database <- dbConnect(RSQLite::SQLite(), ":memory:")
for (i in seq_len(nrow(shops))) {
  rows <- data.frame(shop = shops$shop[i], day = format(days), sold = sales_of(shops$kind[i]))
  dbWriteTable(database, "sales", rows, append = TRUE)
}
sales <- dbGetQuery(database, "SELECT shop, day, sold FROM sales ORDER BY shop, day")
dbDisconnect(database)

# A month's rolling mean, one row a shop, one column a week.
smooth <- sales$sold %>%
  split(sales$shop) %>%
  lapply(RcppRoll::roll_mean, n = 28, fill = NA, align = "center") %>%
  lapply(function(x) zoo::na.approx(x, rule = 2)[seq(1, 365, by = 7)]) %>%
  do.call(what = rbind)

clusters <- fpc::kmeansruns(scale(smooth), krange = 2:5, criterion = "ch")
cat(sprintf("%d groups of shops\n", clusters$bestk))
print(table(kind = shops$kind, group = clusters$cluster))

parts <- NMF::nmf(smooth, rank = 3, seed = 7, .options = "-p")
cat(sprintf("three patterns explain %.1f %% of the sales\n", 100 * NMF::evar(parts, smooth)))
map <- tsne::tsne(prcomp(smooth)$x[, 1:2], max_iter = 300, perplexity = 30)

dir.create("outputs", showWarnings = FALSE)
found <- data.frame(shops, group = clusters$cluster, x = map[, 1], y = map[, 2])
write.csv(found, "outputs/segments.csv", row.names = FALSE)
file <- dbConnect(RSQLite::SQLite(), "outputs/segments.sqlite")
dbWriteTable(file, "segments", found)
dbDisconnect(file)

print(cowplot::plot_grid(
  factoextra::fviz_cluster(clusters, data = scale(smooth), geom = "point", main = "principal components"),
  ggplot(found, aes(x, y, colour = kind)) + geom_point() + ggtitle("t-SNE")
))
