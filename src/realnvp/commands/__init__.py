"""The verbs of the command line, a module with a ``main(argv)`` each."""
