"""What several commands share: words and lists of the command line, options, configuration, process, console."""
