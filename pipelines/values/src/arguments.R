# Each argument after the first as JSON text, into the file that the first names.
args <- commandArgs(trailingOnly = TRUE)
quoted <- vapply(args[-1], function(text) encodeString(enc2utf8(text), quote = "\""), "")
writeLines(quoted, file(args[1], encoding = "UTF-8"), useBytes = TRUE)
