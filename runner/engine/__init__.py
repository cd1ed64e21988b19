"""The one loop: submit, observe, record, retry, cancel, recover. Backends know nothing of it, and the store decides nothing.

Every step of an attempt can be repeated after a kill: the row of the attempt is written before its task is submitted,
the task is found again by its key, and the outcome is recorded only once record, log and outputs are safe.

Nothing is imported here: whoever only reads a log does not pay for graphs and sweeps (40 ms).
"""
