# Load every R package named in the arguments; one marked line of JSON for each. Run as the run-time user.
text <- function(x) encodeString(gsub("[[:cntrl:]]+", " ", enc2utf8(x)), quote = "\"")
say <- function(...) {
  cat("\n\x1erunner {", paste(..., sep = ", "), "}\n", sep = "")
  flush(stdout())
}
field <- function(key, value) paste0("\"", key, "\": ", text(value))

have <- installed.packages()[, c("Package", "Version"), drop = FALSE]
have <- have[!duplicated(have[, "Package"]), , drop = FALSE]
pairs <- paste0(text(have[, "Package"]), ": ", text(have[, "Version"]), collapse = ", ")
say(paste0("\"installed\": {", pairs, "}"))

for (name in commandArgs(trailingOnly = TRUE)) {
  say(field("loading", name))
  tryCatch({
    loadNamespace(name)
    say(field("name", name), field("version", format(packageVersion(name))))
  }, error = function(e) {
    installed <- rownames(installed.packages())
    near <- installed[tolower(installed) == tolower(name) & installed != name]
    hint <- if (length(near) > 0) paste0("; did you mean ", near[1], "?") else ""
    say(field("name", name), field("error", paste0(conditionMessage(e), hint)))
  })
}
