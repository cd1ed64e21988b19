# Runs in every R process below the bootstrapper (R_PROFILE_USER points here): first the profile that R would have read
# without us, then plots that nobody gave a device go to numbered PNG files in RUNNER_PLOTS, and an uncaught error
# leaves a traceback. Rule: no name appears in the user's workspace, and whatever the user has set is left alone.

local({
  ours <- Sys.getenv("R_PROFILE_USER")
  former <- Sys.getenv("RUNNER_R_PROFILE_USER", NA)

  # R reads exactly one: R_PROFILE_USER if set, else ./.Rprofile, else ~/.Rprofile. While it runs, the variables look as
  # they would without us (renv reads R_PROFILE_USER too, and would run this file again and again).
  Sys.unsetenv(c("R_PROFILE_USER", "RUNNER_R_PROFILE_USER"))
  if (!is.na(former)) Sys.setenv(R_PROFILE_USER = former)
  profile <- if (!is.na(former)) former else if (file.exists(".Rprofile")) ".Rprofile" else path.expand("~/.Rprofile")
  if (file.exists(profile)) source(profile, local = globalenv(), echo = FALSE, print.eval = TRUE)
  # The profile may have changed the variable for its own child processes; only our own absence is undone.
  if (identical(Sys.getenv("R_PROFILE_USER"), if (is.na(former)) "" else former)) Sys.setenv(R_PROFILE_USER = ours)
  if (!is.na(former)) Sys.setenv(RUNNER_R_PROFILE_USER = former)

  folder <- Sys.getenv("RUNNER_PLOTS")
  if (interactive() || !nzchar(folder)) return(invisible())

  state <- new.env()
  state$opened <- 0L
  state$told <- FALSE

  # Pages are drawn under a name of this process, then take the next free number: a second device, or a second process,
  # goes on counting. A killed R leaves its finished pages under the first name.
  stem <- function() file.path(folder, sprintf("plot-r%d-%d", Sys.getpid(), state$opened))

  # A hard link fails if the name is taken, so that two processes never get the same number.
  # Some mounts have no links; there the check before the rename has to do.
  claim <- function(page) {
    extension <- sub(".*[.]", ".", page)
    for (number in seq_len(99999L)) {
      name <- file.path(folder, sprintf("plot-%03d%s", number, extension))
      if (file.exists(name)) next
      if (suppressWarnings(file.link(page, name))) return(unlink(page))
      if (!file.exists(name)) return(file.rename(page, name))
    }
  }

  # Asking for a unit or a grob opens a device and starts a page on which nothing is ever drawn. Such a page equals one
  # that we leave empty on purpose, and is small: 12 kB is more than an empty page of this size and less than a plot.
  blank <- function(page) {
    if (!grepl("[.]png$", page) || file.size(page) > 12000) return(FALSE)
    width <- as.integer(readBin(page, "raw", 24L)[17:24])
    empty <- tempfile(fileext = ".png")
    on.exit(unlink(empty))
    size <- c(sum(width[1:4] * 256^(3:0)), sum(width[5:8] * 256^(3:0)))
    grDevices::png(empty, size[1], size[2], res = 144, type = "cairo")
    graphics::plot.new()
    grDevices::dev.off()
    identical(readBin(page, "raw", file.size(page)), readBin(empty, "raw", file.size(empty)))
  }

  finish <- function(...) {
    pages <- list.files(folder, sprintf("^plot-r%d-.*[.](png|pdf)$", Sys.getpid()), full.names = TRUE)
    for (page in pages[order(file.mtime(pages), pages)]) if (blank(page)) unlink(page) else claim(page)
  }

  # 1440 x 900 pixels: sharp on a screen, text as large as in a 10 x 6.25 inch window. dev.new() may give other inches.
  device <- function(width = 10, height = 6.25, ...) {
    dir.create(folder, showWarnings = FALSE, recursive = TRUE)
    state$opened <- state$opened + 1L
    if (state$opened == 1L) {
      # R runs exit finalizers before it closes devices, so the last page is only there if we close them.
      reg.finalizer(state, function(...) {
        grDevices::graphics.off()
        finish()
      }, onexit = TRUE)
    }
    if (capabilities("cairo")) {
      grDevices::png(paste0(stem(), "-%05d.png"), width, height, units = "in", res = 144, type = "cairo")
    } else {
      if (!state$told) message("runner: this R has no PNG device (cairo); plots are saved as PDF")
      state$told <- TRUE
      grDevices::pdf(paste0(stem(), ".pdf"), width, height)
    }
  }
  # Only R's own default is replaced. A profile that has loaded grDevices has already got that default: pdf.
  current <- getOption("device")
  if (is.null(current) || ("grDevices" %in% loadedNamespaces() && identical(current, grDevices::pdf))) {
    options(device = device)
  }

  # R says only the last call of an uncaught error. Code 1 stays, as without us.
  if (is.null(getOption("error"))) {
    options(error = function() {
      calls <- sys.calls()
      calls <- calls[-length(calls)]
      if (length(calls) > 1L) {
        lines <- vapply(calls, function(call) substr(paste(deparse(call), collapse = " "), 1L, 200L), "")
        cat("Traceback (most recent call last):\n", sprintf("%3d: %s\n", seq_along(lines), lines), sep = "", file = stderr())
      }
      quit(save = "no", status = 1L, runLast = FALSE)
    })
  }
})

# runner_log_metric(), runner_log_param() and runner_log_artifact(), on the search path and so in nobody's workspace: what
# they log is where MLflow for Python logs, in its own format of plain files (runner/tracking.py).
local({
  folder <- Sys.getenv("RUNNER_TRACKING")
  if (!nzchar(folder)) return(invisible())

  # MLflow's rule for names; a slash makes a group, and no name leads out of the folder.
  place <- function(kind, name) {
    fits <- is.character(name) && length(name) == 1L && grepl("^[A-Za-z0-9_.:/ -]+$", name)
    if (!fits || grepl("/[.][.]?(/|$)", name) || grepl("^[./]|//|/$", name)) {
      stop("a name to log under is made of letters, digits and _ - . : / and blanks, not: ", deparse(name), call. = FALSE)
    }
    path <- file.path(kind, name)
    dir.create(dirname(path), showWarnings = FALSE, recursive = TRUE)
    path
  }
  # In one write, so that lines of two processes do not mix.
  put <- function(path, text, mode) {
    out <- file(path, mode)
    on.exit(close(out))
    writeBin(charToRaw(enc2utf8(text)), out)
  }
  tools <- new.env()
  tools$runner_log_metric <- function(name, value, step = 0) {
    if (length(value) != 1L || !(is.numeric(value) || is.logical(value))) {
      stop("a metric is one number, not: ", paste(deparse(value), collapse = " "), call. = FALSE)
    }
    text <- if (is.na(value)) "nan" else sprintf("%.17g", as.numeric(value))
    line <- sprintf("%.0f %s %.0f\n", 1000 * as.numeric(Sys.time()), text, as.numeric(step))
    put(place(file.path(folder, "metrics"), name), line, "ab")
    invisible(value)
  }
  tools$runner_log_param <- function(name, value) {
    put(place(file.path(folder, "params"), name), paste(as.character(value), collapse = ", "), "wb")
    invisible(value)
  }
  tools$runner_log_artifact <- function(path) {
    kept <- file.path(dirname(dirname(dirname(folder))), "artifacts")
    dir.create(kept, showWarnings = FALSE)
    if (!all(file.copy(path, kept, recursive = TRUE))) stop("cannot log as an artifact: ", path, call. = FALSE)
    invisible(path)
  }
  attach(tools, name = "runner", warn.conflicts = FALSE)
})
