"""From what the user asked for to an accepted run: every decision taken and checked, then the code copied, then the
supervisor. Nothing starts before all of it is known to be possible."""
