"""The command `taskmill`: a face of the client library for shells and scripts.

`main` starts it, `commands/` has a module per group of commands. Nothing imports this package.
"""
