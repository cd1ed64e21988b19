"""Sweeps, as decisions: what to try, when to stop a trial, which was best. Pure; `runner.engine.sweep` carries them out."""
