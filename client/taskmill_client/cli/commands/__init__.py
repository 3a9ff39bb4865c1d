"""The commands, a module per group; `taskmill_client.cli.app` puts them together."""
