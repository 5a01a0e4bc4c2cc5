"""The command `xmanager`: one file a command, loaded when called."""
