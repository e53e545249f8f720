"""`python -m segpipe` is `segpipe`."""

from segpipe.cli.app import main

if __name__ == "__main__":
    main()
